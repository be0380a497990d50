//! What does a person type to measure a switch?
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use shunt_perf::arguments::{Arguments, Command};
use shunt_perf::{commands, compare, fib, floors, forwarder, html, scale};

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Throughput(settings) => commands::throughput(&settings),
        Command::Latency(settings) => commands::latency(&settings),
        Command::Tcp(settings) => commands::tcp(&settings),
        Command::Idle(settings) => commands::idle(&settings),
        Command::Changes(settings) => commands::changes(&settings),
        Command::Floors(settings) => floors::run(&settings),
        Command::Compare(settings) => compare::run(&settings),
        Command::Report(settings) => html::run(&settings),
        Command::Fib(settings) => fib::run(&settings),
        Command::Scale(settings) => scale::run(&settings),
        Command::AfxdpForwarder(settings) => forwarder::run(&settings),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shunt-perf: {error:#}");
            ExitCode::FAILURE
        }
    }
}
