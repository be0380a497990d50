//! What do two programs get that speak TCP or UDP through the switch, with offloads as the kernel sets them?

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::arguments::{Common, Exchange};
use crate::cpu;
use crate::dut::{Dut, Kind, Start};
use crate::load::{Role, Watched};
use crate::measure::Outcome;
use crate::netns;
use crate::process::{self, Interrupt, Service};
use crate::record::Figures;
use crate::rig::{Rig, SINK_ADDRESS};

const START_LIMIT: Duration = Duration::from_secs(10);
const IPERF3_PORT: &str = "5201";
// Another one: connections that have just ended still hold theirs.
const SOCKPERF_PORT: &str = "5202";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    /// What is exchanged.
    pub exchange: Exchange,
    /// How many at a time.
    pub streams: u32,
}

impl Stream {
    /// Its name in results.
    pub fn name(self) -> String {
        match self.exchange {
            Exchange::Tcp => format!("tcp-{}", self.streams),
            Exchange::Udp => format!("udp-{}", self.streams),
            Exchange::RequestResponse => "request-response".to_owned(),
        }
    }

    /// The program that it needs, if that is not installed.
    pub fn missing(self) -> Option<&'static str> {
        let program = match self.exchange {
            Exchange::Tcp | Exchange::Udp => "iperf3",
            Exchange::RequestResponse => "sockperf",
        };
        process::find(program).is_none().then_some(program)
    }
}

/// A switch between two hosts. What is dropped first comes first.
pub struct Hosts<'a> {
    /// The switch.
    pub dut: Box<dyn Dut>,
    /// What it is between.
    pub rig: Rig,
    common: &'a Common,
    interrupt: &'a Interrupt,
    folder: TempDir,
    mtu: u32,
}

impl<'a> Hosts<'a> {
    /// Builds the rig, starts the switch and waits until one host reaches the other.
    pub fn open(
        common: &'a Common,
        interrupt: &'a Interrupt,
        kind: Kind,
        bin_dir: &Path,
        mtu: u32,
    ) -> Result<Hosts<'a>> {
        let rig = Rig::create(mtu, 2)?;
        rig.expect_streams()?;
        let mut dut = kind.start(&Start {
            rig: &rig,
            core: common.worker_core,
            macs: 1,
            roles: [Role::Plain; 2],
            watched: Watched::No,
            bin_dir,
            shuntd_args: &common.shuntd_args,
            forwarder_args: &format!("--checksums {}", common.forwarder_args),
            interrupt,
        })?;
        interrupt.wait_for("an answer from the other host", START_LIMIT, || {
            dut.check_alive()?;
            let ping = process::run(rig.generator.command("ping").args(["-n", "-c1", "-W1", SINK_ADDRESS]));
            Ok(ping.ok())
        })?;
        Ok(Hosts { dut, rig, common, interrupt, folder: netns::folder()?, mtu })
    }

    /// Runs both programs for the length of a trial.
    pub fn run(&mut self, stream: Stream) -> Result<Outcome> {
        let (start, before) = (Instant::now(), cpu::Snapshot::take()?);
        let figures = match stream.exchange {
            Exchange::Tcp => self.iperf3(stream.streams, &["-O", "1"])?,
            Exchange::Udp => {
                // Flat out, one packet a datagram: 20 octets of IPv4 and 8 of UDP.
                let length = (self.mtu - 28).to_string();
                self.iperf3(stream.streams, &["-u", "-b", "0", "-l", &length])?
            }
            Exchange::RequestResponse => self.sockperf()?,
        };
        self.interrupt.check()?;
        self.dut.check_alive()?;
        let (after, seconds) = (cpu::Snapshot::take()?, start.elapsed().as_secs_f64());
        let (cpu, others) = (after.since(&before), after.others_since(&before));
        Ok(Outcome { figures, curve: Vec::new(), seconds, cpu, others })
    }

    fn serve(&self, program: &str, arguments: &[&str], filter: &str) -> Result<Service> {
        let log = self.folder.path().join(program);
        let mut server = Service::start_plain(program, self.rig.sink.command(program).args(arguments), log)?;
        self.interrupt.wait_for(&format!("the start of {program}"), START_LIMIT, || {
            server.check_alive()?;
            let list = self.rig.sink.command("ss").args(["-Hlnut", filter]).output().context("cannot run ss")?;
            Ok((!list.stdout.is_empty()).then_some(()))
        })?;
        Ok(server)
    }

    fn iperf3(&self, streams: u32, more: &[&str]) -> Result<Figures> {
        let _server = self.serve("iperf3", &["-s", "-p", IPERF3_PORT], &format!("sport = :{IPERF3_PORT}"))?;
        let (seconds, streams) = (self.common.seconds.to_string(), streams.to_string());
        let mut client = self.rig.generator.command("iperf3");
        client.args(["-c", SINK_ADDRESS, "-p", IPERF3_PORT, "-t", &seconds, "-P", &streams, "-J"]).args(more);
        let text = process::run(&mut client)?;
        let result: Value = serde_json::from_str(&text).with_context(|| format!("iperf3 wrote no JSON: {text}"))?;
        figures_of_iperf3(&result)
    }

    fn sockperf(&self) -> Result<Figures> {
        let mut figures = Figures::new();
        let seconds = self.common.seconds.to_string();
        let names = [
            (["udp_rtt_p50_us", "udp_rtt_p99_us", "udp_rtt_p999_us", "udp_transactions_per_s"], None),
            (["tcp_rtt_p50_us", "tcp_rtt_p99_us", "tcp_rtt_p999_us", "tcp_transactions_per_s"], Some("--tcp")),
        ];
        for (names, protocol) in names {
            let address = ["-i", SINK_ADDRESS, "-p", SOCKPERF_PORT];
            let arguments: Vec<&str> = ["sr"].into_iter().chain(address).chain(protocol).collect();
            let _server = self.serve("sockperf", &arguments, &format!("sport = :{SOCKPERF_PORT}"))?;
            let mut client = self.rig.generator.command("sockperf");
            client.arg("pp").args(address).args(protocol).args(["-t", &seconds, "-m", "64", "--full-rtt"]);
            let text = process::run(&mut client)?;
            figures.extend(names.into_iter().zip(figures_of_sockperf(&text)?));
        }
        Ok(figures)
    }
}

fn figures_of_iperf3(result: &Value) -> Result<Figures> {
    let end = &result["end"];
    let number = |value: &Value| value.as_f64();
    let mut figures = Figures::new();
    if let Some(lost) = number(&end["sum"]["lost_percent"]) {
        let sent = number(&end["sum"]["bits_per_second"]).context("iperf3 tells no rate")?;
        figures.extend([("gbps_received", sent * (1.0 - lost / 100.0) / 1e9), ("loss", lost / 100.0)]);
    } else {
        let rate = number(&end["sum_received"]["bits_per_second"]).context("iperf3 tells no rate")?;
        figures.insert("gbps_received", rate / 1e9);
        if let Some(again) = number(&end["sum_sent"]["retransmits"]) {
            figures.insert("retransmits", again);
        }
    }
    Ok(figures)
}

/// Median, 99th and 99.9th percentile of the round-trip time in µs, and round trips a second.
fn figures_of_sockperf(text: &str) -> Result<[f64; 4]> {
    let percentile = |name: &str| {
        let line = text.lines().find(|line| line.contains(&format!("percentile {name} =")))?;
        line.rsplit('=').next()?.trim().parse::<f64>().ok()
    };
    let mean = text.lines().find_map(|line| {
        let rest = line.split_once("avg-rtt=").or_else(|| line.split_once("avg-latency="))?.1;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    });
    let all = [percentile("50.000"), percentile("99.000"), percentile("99.900"), mean.map(|mean| 1e6 / mean)];
    match all {
        [Some(p50), Some(p99), Some(p999), Some(rate)] => Ok([p50, p99, p999, rate]),
        _ => anyhow::bail!("sockperf wrote something else:\n{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_that_arrived() {
        let tcp = serde_json::json!({"end": {"sum_sent": {"bits_per_second": 3e9, "retransmits": 7},
            "sum_received": {"bits_per_second": 2e9}}});
        assert_eq!(
            figures_of_iperf3(&tcp).expect("complete"),
            Figures::from([("gbps_received", 2.0), ("retransmits", 7.0)])
        );
        let udp = serde_json::json!({"end": {"sum": {"bits_per_second": 4e9, "lost_percent": 25.0}}});
        assert_eq!(figures_of_iperf3(&udp).expect("complete"), Figures::from([("gbps_received", 3.0), ("loss", 0.25)]));
        assert!(figures_of_iperf3(&serde_json::json!({"error": "no"})).is_err());
    }

    #[test]
    fn percentiles_of_sockperf_are_found() {
        let text = "sockperf: ====> avg-rtt=20.000 (std-dev=1.1)\nsockperf: ---> percentile 99.900 =   41.5\n\
            sockperf: ---> percentile 99.000 =   31.5\nsockperf: ---> percentile 50.000 =   19.5\n";
        assert_eq!(figures_of_sockperf(text).expect("complete"), [19.5, 31.5, 41.5, 50_000.0]);
        assert!(figures_of_sockperf("sockperf: no").is_err());
    }
}
