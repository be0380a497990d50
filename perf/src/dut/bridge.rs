//! How is the Linux bridge measured?

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Dut, Start, sink_macs_in};
use crate::process;
use crate::rig::{PORT_1, PORT_2, ethtool_set, ip};

/// A bridge `br0` in the switch's namespace; it goes with the namespace.
pub struct Bridge {
    namespace: String,
}

impl Bridge {
    /// Makes the bridge with both ports. There is no worker: all of it runs where the frames are made.
    pub fn start(start: &Start<'_>) -> Result<Self> {
        let namespace = &start.rig.dut;
        // Without an XDP program, only a device with GRO takes redirected frames.
        for port in [PORT_1, PORT_2] {
            ethtool_set(namespace, port, &["gro", "on"])?;
        }
        ip(namespace, &["link", "add", "br0", "type", "bridge", "mcast_snooping", "0"])?;
        for port in [PORT_1, PORT_2] {
            ip(namespace, &["link", "set", port, "master", "br0"])?;
        }
        ip(namespace, &["link", "set", "br0", "up"])?;
        for table in ["iptables", "ip6tables", "arptables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{table}");
            let off = || if std::fs::exists(&path)? { std::fs::write(&path, "0") } else { Ok(()) };
            namespace.within(off)?.with_context(|| format!("cannot write {path}"))?;
        }
        Ok(Self { namespace: namespace.name().to_owned() })
    }
}

impl Dut for Bridge {
    fn learned(&self) -> Result<Option<usize>> {
        let mut command = Command::new("bridge");
        let listing = process::run(command.args(["-n", &self.namespace, "fdb", "show", "br", "br0", "dynamic"]))?;
        Ok(Some(sink_macs_in(&listing)))
    }

    fn describe(&self) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::from([("version".to_owned(), rustix::system::uname().release().to_string_lossy().into_owned())]))
    }
}
