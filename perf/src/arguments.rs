//! Which measurements are there, and what can be chosen about them?

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::dut::Kind;
use crate::forwarder::Forwarder;
use crate::load::{Load, Size};

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
    /// Round-trip times of sampled frames at shares of the throughput without loss, and from idle.
    Latency(Latency),
    /// TCP, UDP and request/response between two programs, by iperf3 and sockperf.
    Tcp(Tcp),
    /// Processor time and memory of a switch that has nothing to do.
    Idle(Common),
    /// What ports lose that carry traffic while others are added, removed and put into another VLAN.
    Changes(Changes),
    /// A thousand ports: adding one, starting again, memory, transactions a second.
    Scale(Scale),
    /// A full Internet table: loading it, memory, lookups, and changes while packets are routed.
    Fib(Fib),
    /// Every comparison that has a floor, in one run, as one table.
    Floors(Floors),
    /// Two revisions of shunt in turn: faster, slower, or no difference?
    Compare(Compare),
    /// Draws a report (one HTML file) from what the other commands wrote with --json.
    Report(Report),
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

/// Settings of a measurement of routes.
#[derive(Args, Clone, Debug)]
pub struct Fib {
    /// IPv4 routes.
    #[arg(long, default_value_t = 1_000_000)]
    pub v4: usize,
    /// IPv6 routes.
    #[arg(long, default_value_t = 200_000)]
    pub v6: usize,
    /// Addresses that are looked up in a round.
    #[arg(long, default_value_t = 1 << 20)]
    pub lookups: usize,
    /// Changes while packets are routed.
    #[arg(long, default_value_t = 100_000)]
    pub changes: usize,
    /// Of them a second.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// JSON on stdout.
    #[arg(long)]
    pub json: bool,
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

/// Settings that all comparisons share.
#[derive(Args, Clone, Debug, serde::Serialize)]
pub struct Common {
    /// Devices under test, in turn; one that is not installed is skipped with a note.
    #[arg(long, value_delimiter = ',', default_value = "shunt,ovs-afxdp,bridge,xdp-redirect", value_name = "LIST")]
    pub dut: Vec<Kind>,
    /// The device that ratios refer to; the first one measured unless set.
    #[arg(long, value_name = "DUT")]
    pub base: Option<Kind>,
    /// Length of one trial.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Measurements of each device; the devices alternate.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Share of frames that a throughput "without loss" may lose: RFC 2544 says none, a virtual machine always loses some.
    #[arg(long, default_value_t = 0.0001, value_name = "SHARE")]
    pub loss_max: f64,
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

/// Settings of a throughput measurement.
#[derive(Args, Clone, Debug)]
pub struct Throughput {
    /// Sizes of the frames in octets, from the destination address to the end of the payload (a veth carries no FCS), 60
    /// to 9014, or `imix`.
    #[arg(long, value_delimiter = ',', default_value = "64", value_name = "LIST")]
    pub size: Vec<Size>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: Load,
    /// Frames a second to offer, instead of as many as the generator can make.
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    /// Also search the highest rate without loss (RFC 2544).
    #[arg(long)]
    pub no_loss: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Settings of a latency measurement.
#[derive(Args, Clone, Debug)]
pub struct Latency {
    /// Sizes of the frames, as for throughput.
    #[arg(long, value_delimiter = ',', default_value = "64", value_name = "LIST")]
    pub size: Vec<Size>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: Load,
    /// Percent of the throughput without loss; 0 is one frame each 10 ms, which wakes a sleeping switch.
    #[arg(long, value_delimiter = ',', default_value = "0,10,50,90", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub share: Vec<u32>,
    /// Frames a second to offer, instead of shares.
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Settings of a measurement of changes.
#[derive(Args, Clone, Debug)]
pub struct Changes {
    /// Frames a second to offer, instead of 90 % of the rate without loss.
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// What two programs do with the connection between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Exchange {
    /// Bulk TCP (iperf3).
    Tcp,
    /// Bulk UDP (iperf3).
    Udp,
    /// One request, one response (sockperf).
    RequestResponse,
}

/// Settings of a measurement with programs at both ends.
#[derive(Args, Clone, Debug)]
pub struct Tcp {
    /// What is exchanged.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tcp,udp,request-response")]
    pub exchange: Vec<Exchange>,
    /// MTU of all devices.
    #[arg(long, value_delimiter = ',', default_value = "1500,9000", value_parser = clap::value_parser!(u32).range(576..=9000))]
    pub mtu: Vec<u32>,
    /// Parallel streams.
    #[arg(long, value_delimiter = ',', default_value = "1,4", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub streams: Vec<u32>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Settings of the comparison that floors are held against.
#[derive(Args, Clone, Debug)]
pub struct Floors {
    /// Only floors whose name contains one of these.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub only: Vec<String>,
    /// Where results.jsonl, report.html and table.md go.
    #[arg(long, default_value = "target/floors", value_name = "DIRECTORY")]
    pub output: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Settings of a comparison of two revisions.
#[derive(Args, Clone, Debug)]
pub struct Compare {
    /// The earlier revision, as git names it; `.` is the working tree.
    pub before: String,
    /// The later one.
    pub after: String,
    /// Sizes of the frames, as for throughput.
    #[arg(long, value_delimiter = ',', default_value = "64", value_name = "LIST")]
    pub size: Vec<Size>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: Load,
    /// Differences below this share are none, even if they are certain.
    #[arg(long, default_value_t = 0.01, value_name = "SHARE")]
    pub least: f64,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Settings of the report.
#[derive(Args, Clone, Debug)]
pub struct Report {
    /// Files with a JSON object on each line.
    #[arg(required = true, value_name = "FILE")]
    pub results: Vec<PathBuf>,
    /// Where the report goes.
    #[arg(long, default_value = "report.html", value_name = "FILE")]
    pub output: PathBuf,
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
        let common = settings.common;
        assert_eq!(common.dut, [Kind::Shunt, Kind::OvsAfxdp, Kind::Bridge]);
        assert_eq!((settings.size, settings.load.flows, settings.load.macs), (vec![Size::Octets(64)], 10, 3));
        assert_eq!((common.seconds, common.rounds, common.json), (2, 4, true));
        assert_eq!(settings.rate, None);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for wrong in
            ["--dut=vpp", "--size=59", "--size=9015", "--flows=0", "--macs=0", "--seconds=0", "--rounds=0", "--rate=0"]
        {
            assert!(parse(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
