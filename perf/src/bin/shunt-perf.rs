//! What does a person type to measure a switch?
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use shunt_perf::arguments::{Arguments, Command};
use shunt_perf::{commands, forwarder, scale};

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Throughput(settings) => commands::throughput(&settings),
        Command::Latency(settings) => commands::latency(&settings),
        Command::Tcp(settings) => commands::tcp(&settings),
        Command::Idle(settings) => commands::idle(&settings),
        Command::Changes(settings) => commands::changes(&settings),
        Command::Floors(_) | Command::Compare(_) | Command::Report(_) => Err(anyhow::anyhow!("not there yet")),
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
