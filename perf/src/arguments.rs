//! Which measurements are there, and what can be chosen about them?

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::dut::Kind;
use crate::forwarder::Forwarder;

/// Measures shunt beside the switches it replaces, on rigs of namespaces and veths that it makes and removes itself.
#[derive(Debug, Parser)]
#[command(name = "shunt-perf", version, about)]
pub struct Arguments {
    /// What to measure.
    #[command(subcommand)]
    pub command: Command,
}

/// The measurements.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Frames a second through two ports, offered from one side and counted on the other.
    Throughput(Throughput),
    /// A thousand ports: adding one, starting again, memory, transactions a second.
    Scale(Scale),
    /// Copies every frame between two AF_XDP ports: what the device under test `afxdp-forwarder` runs.
    #[command(hide = true)]
    AfxdpForwarder(Forwarder),
}

/// Where the receiver drops the frames it has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkKind {
    /// At the namespace's tc ingress: what a switch that transmits socket buffers pays least for.
    Tc,
    /// In the driver, by native XDP: socket buffers are copied into pages first.
    Xdp,
}

/// Settings of a measurement with many ports.
#[derive(Args, Clone, Debug, serde::Serialize)]
pub struct Scale {
    /// Ports, each on a veth of its own.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..=4000))]
    pub ports: u32,
    /// How often all of it is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Length of each of the measurements of transactions.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Where shuntd and shuntctl are; beside this program unless set.
    #[arg(long, value_name = "DIRECTORY")]
    pub bin_dir: Option<PathBuf>,
    /// One JSON object per round on stdout; the table goes to stderr.
    #[arg(long)]
    pub json: bool,
}

/// Settings of a throughput measurement.
#[derive(Args, Clone, Debug, serde::Serialize)]
pub struct Throughput {
    /// Devices under test, in turn; one that is not installed is skipped with a note.
    #[arg(long, value_delimiter = ',', default_value = "shunt,ovs-afxdp,bridge,xdp-redirect", value_name = "LIST")]
    pub dut: Vec<Kind>,
    /// The device that ratios refer to; the first one measured unless set.
    #[arg(long, value_name = "DUT")]
    pub base: Option<Kind>,
    /// Octets from the destination address to the end of the payload; a veth carries no FCS.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(60..=3000))]
    pub size: u32,
    /// Different combinations of IPv4 addresses and UDP ports.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub flows: u32,
    /// Different addresses behind each of the two ports.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub macs: u32,
    /// Length of one measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Measurements of each device; the devices alternate.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Frames a second to offer, instead of as many as the generator can make.
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    /// Where the receiver drops.
    #[arg(long, value_enum, default_value = "tc")]
    pub sink: SinkKind,
    /// The generator's core.
    #[arg(long, default_value_t = 0, value_name = "CORE")]
    pub generator_core: usize,
    /// The core of the device under test, if it has a worker of its own.
    #[arg(long, default_value_t = 1, value_name = "CORE")]
    pub worker_core: usize,
    /// Where shuntd and shuntctl are; beside this program unless set.
    #[arg(long, value_name = "DIRECTORY")]
    pub bin_dir: Option<PathBuf>,
    /// More arguments for shuntd, separated by spaces.
    #[arg(long, value_name = "ARGUMENTS", default_value = "", allow_hyphen_values = true, hide_default_value = true)]
    pub shuntd_args: String,
    /// More arguments for the afxdp-forwarder, separated by spaces.
    #[arg(long, value_name = "ARGUMENTS", default_value = "", allow_hyphen_values = true, hide_default_value = true)]
    pub forwarder_args: String,
    /// One JSON object per measurement on stdout; the table goes to stderr.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Throughput, String> {
        let words = ["shunt-perf", "throughput"].into_iter().chain(arguments.split_whitespace());
        match Arguments::try_parse_from(words) {
            Ok(Arguments { command: Command::Throughput(settings) }) => Ok(settings),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_pinned_command_line_is_understood() {
        let settings =
            parse("--dut=shunt,ovs-afxdp,bridge --size=64 --flows=10 --macs=3 --seconds=2 --rounds=4 --json")
                .expect("pinned in interfaces");
        assert_eq!(settings.dut, [Kind::Shunt, Kind::OvsAfxdp, Kind::Bridge]);
        assert_eq!((settings.size, settings.flows, settings.macs), (64, 10, 3));
        assert_eq!((settings.seconds, settings.rounds, settings.json), (2, 4, true));
        assert_eq!(settings.rate, None);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for wrong in
            ["--dut=vpp", "--size=59", "--size=3001", "--flows=0", "--macs=0", "--seconds=0", "--rounds=0", "--rate=0"]
        {
            assert!(parse(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
