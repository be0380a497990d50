//! How is Open vSwitch run beside the machine's own, if it has one: nothing shared with it, nothing left behind?

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use super::{Change, Dut, NotPossible, Start, sink_macs_in};
use crate::load::Role;
use crate::netns;
use crate::process::{self, Service};
use crate::rig::{GENERATOR, PORT_1, PORT_2, Rig, SINK, ethtool_set};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// Without packets of several frames, a veth with an XDP program has to fit its packets into a page.
const AFXDP_MTU_MAX: u32 = 3498;
const START_LIMIT: Duration = Duration::from_secs(20);

/// How its ports reach the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// `type=afxdp`, native mode.
    Afxdp,
    /// AF_PACKET sockets: `type=system` on a userspace bridge.
    Packet,
}

/// A database server and a switch of their own, in a temporary folder and the switch's namespace.
pub struct Ovs {
    // In the order in which they end.
    switch: Service,
    database: Service,
    folder: TempDir,
    io: Io,
}

/// Why it cannot be measured here.
pub fn missing() -> Option<String> {
    let programs = ["ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-appctl"];
    let absent = programs.into_iter().find(|program| process::find(program).is_none());
    let absent = absent.or_else(|| (!Path::new(SCHEMA).is_file()).then_some(SCHEMA))?;
    Some(format!("{absent} is not installed (Debian: openvswitch-switch)"))
}

impl Ovs {
    /// Starts it with one polling thread on the worker's core and all ports on one userspace bridge.
    pub fn start(start: &Start<'_>, io: Io) -> Result<Self> {
        if io == Io::Afxdp && start.rig.mtu > AFXDP_MTU_MAX {
            let text = format!("type=afxdp takes MTU {AFXDP_MTU_MAX} at most: one packet, one frame");
            return Err(NotPossible(text).into());
        }
        let folder = netns::folder()?;
        offloads_off(start.rig)?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        process::run(command(folder.path(), "ovsdb-tool").args(["create", &path("conf.db"), SCHEMA]))?;

        let mut server = command(folder.path(), "ovsdb-server");
        server.args([&path("conf.db"), &format!("--remote=punix:{}", path("db.sock"))]);
        server.arg(format!("--unixctl={}", path("ovsdb.ctl")));
        let mut database = Service::start("ovsdb-server", &server, folder.path().join("ovsdb-server.log"))?;
        start.interrupt.wait_for("the start of ovsdb-server", START_LIMIT, || {
            database.check_alive()?;
            Ok(folder.path().join("db.sock").exists().then_some(()))
        })?;
        let mask = format!("other_config:pmd-cpu-mask={:#x}", 1_u64 << start.core);
        vsctl(folder.path(), &["--no-wait", "init", "--", "set", "Open_vSwitch", ".", &mask])?;

        let mut daemon = start.rig.dut.command("ovs-vswitchd");
        environment(&mut daemon, folder.path());
        daemon.args([&format!("unix:{}", path("db.sock")), &format!("--unixctl={}", path("vswitchd.ctl"))]);
        let switch = Service::start("ovs-vswitchd", &daemon, folder.path().join("ovs-vswitchd.log"))?;
        let mut ovs = Self { switch, database, folder, io };
        ovs.configure(start)?;
        Ok(ovs)
    }

    fn configure(&mut self, start: &Start<'_>) -> Result<()> {
        start.interrupt.wait_for("the start of ovs-vswitchd", START_LIMIT, || {
            self.check_alive()?;
            Ok(self.folder.path().join("vswitchd.ctl").exists().then_some(()))
        })?;
        // Both sides' addresses, and as much again so that nothing is evicted.
        let table = format!("other_config:mac-table-size={}", (start.macs * 4).max(8192));
        self.vsctl(&["--timeout=20", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", &table])?;
        for (port, role) in start.ports() {
            self.change(Change::Add(port))?;
            match role {
                Role::Plain => {}
                Role::Access(vid) => self.change(Change::Tag(port, vid))?,
                Role::Network(..) => bail!(NotPossible("it routes by OpenFlow only".to_owned())),
                Role::Uplink(vid) => drop(self.vsctl(&["set", "port", port, &format!("trunks={vid}")])?),
            }
            let error = self.vsctl(&["get", "interface", port, "error"])?;
            ensure!(error.trim() == "[]", "Open vSwitch cannot use {port}: {}", error.trim());
        }
        if self.io == Io::Afxdp {
            // Version 3.1 has no status:xdp-mode column yet; this is where it tells.
            let shown = self.appctl(&["dpif/show"])?;
            let native = shown.matches("xdp-mode-in-use=native)").count();
            ensure!(native == 2, "Open vSwitch does not run both ports in native mode:\n{}", shown.trim());
        }
        Ok(())
    }

    fn vsctl(&self, arguments: &[&str]) -> Result<String> {
        vsctl(self.folder.path(), arguments)
    }

    fn appctl(&self, arguments: &[&str]) -> Result<String> {
        let target = self.folder.path().join("vswitchd.ctl");
        process::run(command(self.folder.path(), "ovs-appctl").arg("-t").arg(target).args(arguments))
    }
}

impl Dut for Ovs {
    fn check_alive(&mut self) -> Result<()> {
        self.database.check_alive()?;
        self.switch.check_alive()
    }

    fn learned(&self) -> Result<Option<usize>> {
        Ok(Some(sink_macs_in(&self.appctl(&["fdb/show", "br0"])?)))
    }

    fn losses(&self) -> Result<BTreeMap<String, u64>> {
        let mut losses = BTreeMap::new();
        for port in [PORT_1, PORT_2] {
            let statistics = self.vsctl(&["get", "interface", port, "statistics"])?;
            losses
                .extend(losses_in(&statistics).into_iter().map(|(name, count)| (format!("ovs {port} {name}"), count)));
        }
        Ok(losses)
    }

    fn pid(&self) -> Option<u32> {
        Some(self.switch.pid())
    }

    fn change(&self, change: Change<'_>) -> Result<()> {
        match change {
            Change::Add(port) => {
                let afxdp = ["--", "set", "interface", port, "type=afxdp", "options:xdp-mode=native"];
                let options = if self.io == Io::Afxdp { &afxdp[..] } else { &[] };
                self.vsctl(&[&["--timeout=20", "add-port", "br0", port], options].concat())
            }
            Change::Delete(port) => self.vsctl(&["--timeout=20", "del-port", "br0", port]),
            Change::Tag(port, vid) => self.vsctl(&["--timeout=20", "set", "port", port, &format!("tag={vid}")]),
        }
        .map(drop)
    }

    fn describe(&self) -> Result<BTreeMap<String, String>> {
        let version = self.appctl(&["version"])?;
        let queues = self.appctl(&["dpif-netdev/pmd-rxq-show"])?;
        let line = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        Ok(BTreeMap::from([
            ("version".to_owned(), version.lines().next().unwrap_or_default().to_owned()),
            ("io".to_owned(), if self.io == Io::Afxdp { "afxdp, native" } else { "AF_PACKET" }.to_owned()),
            ("queues".to_owned(), line(&queues)),
        ]))
    }
}

/// As its documentation asks for veth ports: the far ends complete checksums themselves and keep tags in the frame.
fn offloads_off(rig: &Rig) -> Result<()> {
    for (namespace, device) in [(&rig.generator, GENERATOR), (&rig.sink, SINK)] {
        ethtool_set(namespace, device, &["tx", "off", "txvlan", "off"])?;
    }
    Ok(())
}

fn command(folder: &Path, program: &str) -> Command {
    let mut command = Command::new(process::find(program).unwrap_or_else(|| program.into()));
    environment(&mut command, folder);
    command
}

/// Every folder that the programs would otherwise share with the machine's own Open vSwitch.
fn environment(command: &mut Command, folder: &Path) {
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, folder);
    }
}

fn vsctl(folder: &Path, arguments: &[&str]) -> Result<String> {
    let database = format!("--db=unix:{}", folder.join("db.sock").display());
    process::run(command(folder, "ovs-vsctl").args(["--no-syslog", &database]).args(arguments))
}

/// The members of `{rx_dropped=1, rx_packets=2, …}` that count losses.
fn losses_in(statistics: &str) -> Vec<(String, u64)> {
    let members = statistics.trim().trim_matches(['{', '}']).split(", ").filter_map(|member| member.split_once('='));
    let losses =
        members.filter(|(name, _)| ["drop", "error", "invalid", "empty"].iter().any(|word| name.contains(word)));
    losses.filter_map(|(name, count)| Some((name.trim_matches('"').to_owned(), count.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_picked_out_of_the_statistics_column() {
        let column = "{rx_bytes=12, rx_dropped=5, rx_packets=3, tx_errors=0, xsk_queue_0_rx_dropped=7}\n";
        let expected = [("rx_dropped", 5), ("tx_errors", 0), ("xsk_queue_0_rx_dropped", 7)];
        assert_eq!(losses_in(column), expected.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(losses_in("{}"), []);
    }
}
