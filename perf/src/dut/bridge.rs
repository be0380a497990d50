//! How is the Linux bridge measured, and where packets are to be routed, the Linux router?

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Change, Dut, NotPossible, Start, sink_macs_in};
use crate::load::{Gateway, Role};
use crate::process;
use crate::rig::{PORT_1, PORT_2, ip};

/// A bridge `br0` in the switch's namespace; it goes with the namespace.
pub struct Bridge {
    namespace: String,
    routes: bool,
}

impl Bridge {
    /// Makes the bridge with both ports. There is no worker: all of it runs where the frames are made.
    pub fn start(start: &Start<'_>) -> Result<Self> {
        let namespace = &start.rig.dut;
        if start.roles.iter().any(|role| matches!(role, Role::Network(..))) {
            return Self::route(start);
        }
        ip(namespace, &["link", "add", "br0", "type", "bridge", "mcast_snooping", "0"])?;
        let bridge = Self { namespace: namespace.name().to_owned(), routes: false };
        let tagging = start.roles.iter().any(|role| *role != Role::Plain);
        if tagging {
            let switched_on = ip(namespace, &["link", "set", "br0", "type", "bridge", "vlan_filtering", "1"]);
            switched_on.map_err(|error| NotPossible(format!("no VLANs in this kernel's bridge: {error:#}")))?;
        }
        for port in [PORT_1, PORT_2] {
            bridge.change(Change::Add(port))?;
        }
        for (port, role) in start.ports() {
            match role {
                Role::Plain | Role::Network(..) => {}
                Role::Access(vid) => bridge.change(Change::Tag(port, vid))?,
                Role::Uplink(vid) => {
                    bridge.vlan(&["del", "dev", port, "vid", "1"])?;
                    bridge.vlan(&["add", "dev", port, "vid", &vid.to_string()])?;
                }
            }
        }
        ip(namespace, &["link", "set", "br0", "up"])?;
        for table in ["iptables", "ip6tables", "arptables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{table}");
            let off = || if std::fs::exists(&path)? { std::fs::write(&path, "0") } else { Ok(()) };
            namespace.within(off)?.with_context(|| format!("cannot write {path}"))?;
        }
        Ok(bridge)
    }

    /// Has the kernel route between both ports, without a bridge.
    fn route(start: &Start<'_>) -> Result<Self> {
        let namespace = &start.rig.dut;
        for (port, role) in start.ports() {
            let Role::Network(_, Gateway { address, mac, route }) = role else { continue };
            ip(namespace, &["link", "set", port, "address", mac])?;
            ip(namespace, &["addr", "add", address, "dev", port])?;
            let Some([prefix, next_hop, lladdr]) = route else { continue };
            ip(namespace, &["neigh", "replace", next_hop, "lladdr", lladdr, "dev", port])?;
            ip(namespace, &["route", "add", prefix, "via", next_hop])?;
        }
        let forward = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        namespace.within(forward)?.context("cannot write ip_forward")?;
        Ok(Self { namespace: namespace.name().to_owned(), routes: true })
    }

    fn vlan(&self, arguments: &[&str]) -> Result<()> {
        process::run(Command::new("bridge").args(["-n", &self.namespace, "vlan"]).args(arguments)).map(drop)
    }
}

impl Dut for Bridge {
    fn learned(&self) -> Result<Option<usize>> {
        if self.routes {
            return Ok(None);
        }
        let mut command = Command::new("bridge");
        let listing = process::run(command.args(["-n", &self.namespace, "fdb", "show", "br", "br0", "dynamic"]))?;
        Ok(Some(sink_macs_in(&listing)))
    }

    fn change(&self, change: Change<'_>) -> Result<()> {
        let link = |arguments: &[&str]| {
            process::run(Command::new("ip").args(["-n", &self.namespace, "link", "set"]).args(arguments)).map(drop)
        };
        match change {
            Change::Add(port) => link(&[port, "master", "br0"]),
            Change::Delete(port) => link(&[port, "nomaster"]),
            Change::Tag(port, vid) => self.vlan(&["add", "dev", port, "vid", &vid.to_string(), "pvid", "untagged"]),
        }
    }

    fn describe(&self) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::from([("version".to_owned(), rustix::system::uname().release().to_string_lossy().into_owned())]))
    }
}
