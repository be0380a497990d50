//! What does one measurement say to a program?

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::arguments::{Common, SinkKind};
use crate::cpu::Usage;
use crate::dut::Kind;
use crate::load::Load;
use crate::process::{self, NICENESS};
use crate::rig::Device;

/// Named values; the name ends with the unit.
pub type Figures = BTreeMap<&'static str, f64>;

/// Time of other programs, in cores, above which a measurement is called disturbed.
pub const DISTURBED_CORES: f64 = 0.1;

/// One device measured once; one JSON object.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Record {
    /// How it was measured.
    pub measure: String,
    /// What was measured.
    pub dut: Kind,
    /// Which revision of it, if several are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Which round, from 1.
    pub round: u32,
    /// What was offered.
    #[serde(flatten)]
    pub load: Load,
    /// MTU of all devices.
    pub mtu: u32,
    /// Length of the measurement.
    pub seconds: f64,
    /// What came out.
    #[serde(flatten)]
    pub figures: Figures,
    /// Percent of the samples, and within how many µs they arrived.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(f64, f64)>,
    /// What each core did during the measurement.
    pub cpu: Vec<Usage>,
    /// The same in seconds for a million frames that arrived, if frames were counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpu_s_per_mpkt: Vec<Usage>,
    /// Cores' worth of time that other programs took meanwhile.
    pub others: f64,
    /// Counters of lost frames that grew; some count the same frame twice.
    pub losses: BTreeMap<String, u64>,
    /// Version and mode, as the device under test shows them.
    pub switch: BTreeMap<String, String>,
    /// How it was measured.
    pub rig: Settings,
}

/// How a measurement was made.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Settings {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// The revision that the programs were built in, as `git describe` names it, if they are in a repository.
    pub revision: Option<String>,
    /// The generator's core.
    pub generator_core: usize,
    /// The core given to the device under test.
    pub worker_core: usize,
    /// Where the receiver drops.
    pub sink: SinkKind,
    /// Priority of the generator and of the switch.
    pub niceness: i32,
    /// Share of frames that a throughput without loss may lose.
    pub loss_max: f64,
    /// Load average of the last minute before the measurement.
    pub load_before: f64,
    /// The devices in the order of a frame's way.
    pub devices: Vec<Device>,
}

impl Settings {
    /// Those of this machine and run; the devices are read later, when the switch has had its way with them.
    pub fn new(common: &Common, bin_dir: &Path) -> Result<Self> {
        Ok(Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            processor: processor()?,
            revision: revision(bin_dir),
            generator_core: common.generator_core,
            worker_core: common.worker_core,
            sink: common.sink,
            niceness: NICENESS,
            loss_max: common.loss_max,
            load_before: load_average()?,
            devices: Vec::new(),
        })
    }
}

impl Record {
    /// Whether other programs took so much time that the figures may say more about them.
    pub fn is_disturbed(&self) -> bool {
        self.others > DISTURBED_CORES || self.cpu.iter().any(|usage| usage.steal > DISTURBED_CORES)
    }
}

/// None for programs that were installed.
fn revision(folder: &Path) -> Option<String> {
    let mut git = Command::new("git");
    let words = process::run(git.arg("-C").arg(folder).args(["describe", "--always", "--dirty"])).ok()?;
    Some(words.trim().to_owned())
}

/// The first `model name` of `/proc/cpuinfo`.
fn processor() -> Result<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    Ok(name.map_or_else(String::new, |(_, name)| name.trim().to_owned()))
}

/// Programs that were ready to run in the last minute, on average: how busy the machine was before.
fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().with_context(|| format!("/proc/loadavg begins with {first:?}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One as others test with.
    pub(crate) fn record(dut: Kind, measure: &str, round: u32, figures: &[(&'static str, f64)]) -> Record {
        Record {
            measure: measure.to_owned(),
            dut,
            variant: None,
            round,
            load: Load::default(),
            mtu: 1500,
            seconds: 1.0,
            figures: figures.iter().copied().collect(),
            curve: Vec::new(),
            cpu: vec![Usage { core: 0, user: 0.1, system: 0.2, irq: 0.7, steal: 0.0, idle: 0.0 }],
            cpu_s_per_mpkt: Vec::new(),
            others: if round == 2 { 0.4 } else { 0.01 },
            losses: BTreeMap::from([("port1 rx_queue_0_drops".to_owned(), 7), ("port2 tx_errors".to_owned(), 1)]),
            switch: BTreeMap::new(),
            rig: Settings {
                kernel: "6.18".to_owned(),
                processor: "a fast one".to_owned(),
                revision: None,
                generator_core: 0,
                worker_core: 1,
                sink: SinkKind::Tc,
                niceness: -20,
                loss_max: 0.0001,
                load_before: 0.5,
                devices: Vec::new(),
            },
        }
    }

    #[test]
    fn an_object_has_the_pinned_names() {
        let figures = [("mpps_offered", 2.0), ("mpps_received", 0.5), ("loss", 0.75)];
        let value = serde_json::to_value(record(Kind::OvsAfxdp, "overload", 1, &figures)).expect("plain data");
        assert_eq!(value["dut"], "ovs-afxdp");
        for key in ["size", "flows", "macs", "mpps_offered", "mpps_received", "loss", "cpu", "rig"] {
            assert!(!value[key].is_null(), "{key} is missing");
        }
        assert_eq!(value["size"], 64);
        assert_eq!(value["cpu"][0]["core"], 0);
        assert_eq!(value["rig"]["sink"], "tc");
    }
}
