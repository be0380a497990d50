//! What does a person type to measure a switch?
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use shunt_perf::arguments::{Arguments, Command};
use shunt_perf::{forwarder, scale, throughput};

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Throughput(settings) => throughput::run(&settings),
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
