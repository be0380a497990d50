//! How is shunt itself run for a measurement?

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use super::{Change, Dut, Start, sink_macs_in};
use crate::load::{Gateway, Role, Watched};
use crate::netns;
use crate::process::{self, Service};
use crate::rig::{self, PORT_1};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A daemon with one worker, its socket and state in a temporary folder.
pub struct Shunt {
    daemon: Service,
    arguments: String,
    client: PathBuf,
    /// Who looks on, besides the daemon itself.
    _watcher: Option<Watcher>,
    folder: TempDir,
}

/// Looks on until it is dropped.
enum Watcher {
    Capture { _client: Service },
    Scraper { _until: Sender<()> },
}

/// Why it cannot be measured here.
pub fn missing(bin_dir: &Path) -> Option<String> {
    let absent =
        ["shuntd", "shuntctl"].map(|program| bin_dir.join(program)).into_iter().find(|file| !file.is_file())?;
    Some(format!("{} does not exist; build it with cargo build --release, or give --bin-dir", absent.display()))
}

impl Shunt {
    /// Starts the daemon in the switch's namespace and puts both ports on a bridge.
    pub fn start(start: &Start<'_>) -> Result<Self> {
        let folder = netns::folder()?;
        let socket = folder.path().join("db.sock");
        let mut command = start.rig.dut.command(start.bin_dir.join("shuntd"));
        command.arg("--socket").arg(&socket).arg("--state").arg(folder.path().join("conf.db"));
        command.arg("--cores").arg(start.core.to_string()).args(start.shuntd_args.split_whitespace());
        let metrics = folder.path().join("metrics.sock");
        if start.watched == Watched::Metrics {
            command.arg("--metrics").arg(format!("unix:{}", metrics.display()));
        }
        let mut daemon = Service::start("shuntd", &command, folder.path().join("shuntd.log"))?;
        start.interrupt.wait_for("the start of shuntd", START_LIMIT, || {
            daemon.check_alive()?;
            Ok(UnixStream::connect(&socket).ok())
        })?;
        let (arguments, client) = (start.shuntd_args.to_owned(), start.bin_dir.join("shuntctl"));
        let mut shunt = Self { daemon, arguments, client, _watcher: None, folder };
        shunt.configure(start)?;
        shunt._watcher = shunt.watch(start, metrics)?;
        Ok(shunt)
    }

    fn watch(&self, start: &Start<'_>, metrics: PathBuf) -> Result<Option<Watcher>> {
        match start.watched {
            Watched::No => Ok(None),
            Watched::Sflow => {
                rig::ip(&start.rig.dut, &["addr", "add", "192.0.2.1/32", "dev", "lo"])?;
                rig::ip(&start.rig.dut, &["link", "set", "lo", "up"])?;
                let agent = ["create", "sFlow", "agent=lo", "targets=\"127.0.0.1:6343\"", "sampling=1000"];
                let bridge = ["--", "set", "Bridge", "br0", "sflow=@s"];
                self.ctl(&[&["--", "--id=@s"], &agent[..], &bridge].concat()).map(|_| None)
            }
            Watched::Capture => {
                // The generator counts flows from the first octet of the source port on: 26 of 256.
                let wanted = ["capture", PORT_1, "--filter", "udp[0] < 26", "-w", "/dev/null"];
                let mut command = Command::new(&self.client);
                command.arg(self.database()).args(wanted);
                let _client = Service::start("shuntctl capture", &command, self.folder.path().join("capture.log"))?;
                Ok(Some(Watcher::Capture { _client }))
            }
            Watched::Metrics => {
                let (_until, ended) = channel();
                std::thread::spawn(move || {
                    while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                        if let Err(error) = scrape(&metrics) {
                            eprintln!("shunt-perf: no metrics: {error}");
                        }
                    }
                });
                Ok(Some(Watcher::Scraper { _until }))
            }
        }
    }

    fn database(&self) -> String {
        format!("--db=unix:{}", self.folder.path().join("db.sock").display())
    }

    fn configure(&self, start: &Start<'_>) -> Result<()> {
        self.ctl(&["add-br", "br0"])?;
        if start.macs > 2048 {
            // Both sides' addresses, and as much again so that nothing is evicted.
            self.ctl(&["set", "bridge", "br0", &format!("other_config:mac-table-size={}", start.macs * 4)])?;
        }
        for (port, role) in start.ports() {
            match role {
                Role::Plain => self.ctl(&["add-port", "br0", port])?,
                Role::Access(vid) => self.ctl(&["add-port", "br0", port, &format!("tag={vid}")])?,
                Role::Uplink(vid) => {
                    let options = [&format!("trunks={vid}"), "other_config:uplink=true"];
                    self.ctl(&[&["add-port", "br0", port], &options[..]].concat())?
                }
                Role::Network(vid, gateway) => self.network(port, vid, gateway)?,
            };
        }
        Ok(())
    }

    /// A VLAN with one port and a gateway, and a route that leads on.
    fn network(&self, port: &str, vid: u16, Gateway { address, mac, route }: Gateway) -> Result<String> {
        let (tag, svi) = (format!("tag={vid}"), format!("gw{vid}"));
        self.ctl(&["add-port", "br0", port, &tag])?;
        let added = self.ctl(&["add-svi", "br0", &svi, &tag, &format!("address={address}"), &format!("mac={mac}")])?;
        let Some([prefix, next_hop, lladdr]) = route else { return Ok(added) };
        self.ctl(&["neigh", "add", next_hop, "lladdr", lladdr, "dev", &svi])?;
        self.ctl(&["route", "add", prefix, "via", next_hop])
    }

    fn ctl(&self, arguments: &[&str]) -> Result<String> {
        process::run(Command::new(&self.client).arg(self.database()).args(arguments))
    }
}

/// Reads all metrics once.
fn scrape(socket: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: shunt\r\nConnection: close\r\n\r\n")?;
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}

impl Dut for Shunt {
    fn check_alive(&mut self) -> Result<()> {
        self.daemon.check_alive()
    }

    fn learned(&self) -> Result<Option<usize>> {
        Ok(Some(sink_macs_in(&self.ctl(&["fdb/show", "br0"])?)))
    }

    fn losses(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.ctl(&["--format=json", "port/stats"])?;
        let statistics = serde_json::from_str(&text).with_context(|| format!("port/stats is not JSON: {text}"))?;
        Ok(losses_in(&statistics))
    }

    fn pid(&self) -> Option<u32> {
        Some(self.daemon.pid())
    }

    fn change(&self, change: Change<'_>) -> Result<()> {
        match change {
            Change::Add(port) => self.ctl(&["add-port", "br0", port]),
            Change::Delete(port) => self.ctl(&["del-port", "br0", port]),
            Change::Tag(port, vid) => self.ctl(&["set", "port", port, &format!("tag={vid}")]),
        }
        .map(drop)
    }

    fn describe(&self) -> Result<BTreeMap<String, String>> {
        let mode = self.ctl(&["get", "interface", PORT_1, "status:xdp-mode"])?;
        Ok(BTreeMap::from([
            ("version".to_owned(), self.ctl(&["--version"])?.lines().next().unwrap_or_default().to_owned()),
            ("xdp-mode".to_owned(), mode.trim().trim_matches('"').to_owned()),
            ("arguments".to_owned(), self.arguments.clone()),
            ("worker".to_owned(), self.ctl(&["--format=json", "worker/show"])?.trim().to_owned()),
        ]))
    }
}

/// The `drops` of every port, as `shunt PORT REASON`.
fn losses_in(statistics: &Value) -> BTreeMap<String, u64> {
    let mut losses = BTreeMap::new();
    for (port, counters) in statistics.as_object().into_iter().flatten() {
        for (reason, count) in counters["drops"].as_object().into_iter().flatten() {
            losses.insert(format!("shunt {port} {reason}"), count.as_u64().unwrap_or(0));
        }
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_all_ports_are_found() {
        let statistics =
            serde_json::json!({"port1": {"rx_packets": 3, "drops": {"rx_ring_full": 7}}, "port2": {"drops": {}}});
        assert_eq!(losses_in(&statistics), BTreeMap::from([("shunt port1 rx_ring_full".to_owned(), 7)]));
    }
}
