//! Which switches can be measured, and what must each of them be able to do?

pub mod bridge;
pub mod forwarder;
pub mod ovs;
pub mod redirect;
pub mod shortcut;
pub mod shunt;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::load::{Role, Watched};
use crate::process::Interrupt;
use crate::rig::{PORT_1, PORT_2, Rig};

/// A device under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// shuntd with one worker.
    Shunt,
    /// Open vSwitch in userspace with ports of type afxdp in native mode.
    OvsAfxdp,
    /// Open vSwitch in userspace with AF_PACKET ports.
    OvsPacket,
    /// The Linux bridge.
    Bridge,
    /// An XDP program that redirects each port to the other: the kernel's limit; it learns nothing.
    XdpRedirect,
    /// The program of kernel offload, with all decisions made: its limit; it learns nothing.
    Shortcut,
    /// A program that copies every frame between two AF_XDP ports: the limit of the I/O path; it learns nothing.
    AfxdpForwarder,
}

/// What a device under test is started with.
pub struct Start<'a> {
    /// Where its ports are.
    pub rig: &'a Rig,
    /// Its own core, if it has one.
    pub core: usize,
    /// Addresses behind each of its ports.
    pub macs: u32,
    /// How the two busy ports treat tags.
    pub roles: [Role; 2],
    /// Who looks on.
    pub watched: Watched,
    /// Where shuntd and shuntctl are.
    pub bin_dir: &'a Path,
    /// More arguments for shuntd.
    pub shuntd_args: &'a str,
    /// More arguments for the AF_XDP forwarder.
    pub forwarder_args: &'a str,
    /// Whether to give up.
    pub interrupt: &'a Interrupt,
}

impl Start<'_> {
    /// The two busy ports with their roles.
    fn ports(&self) -> [(&'static str, Role); 2] {
        [(PORT_1, self.roles[0]), (PORT_2, self.roles[1])]
    }
}

/// What a device under test, or the kernel for it, is not able to do: no failure of the measurement.
#[derive(Debug)]
pub struct NotPossible(pub String);

impl std::fmt::Display for NotPossible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotPossible {}

/// A change of the configuration while the switch is at work.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// One more port.
    Add(&'a str),
    /// One less.
    Delete(&'a str),
    /// A port goes to another VLAN.
    Tag(&'a str, u16),
}

/// A switch at work between the rig's two ports; it ends when dropped.
pub trait Dut {
    /// Fails if it has ended by itself.
    fn check_alive(&mut self) -> Result<()> {
        Ok(())
    }

    /// How many of the sink's addresses it has learned, if it learns any.
    fn learned(&self) -> Result<Option<usize>> {
        Ok(None)
    }

    /// Its own counters of lost frames.
    fn losses(&self) -> Result<BTreeMap<String, u64>> {
        Ok(BTreeMap::new())
    }

    /// Its process, if it has one.
    fn pid(&self) -> Option<u32> {
        None
    }

    /// Changes its configuration; returns when the change is in force.
    fn change(&self, change: Change<'_>) -> Result<()> {
        bail!("this device under test cannot be changed: {change:?}")
    }

    /// Version and mode in force, as it shows them.
    fn describe(&self) -> Result<BTreeMap<String, String>>;
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Why it cannot be measured here; nothing if it can.
    pub fn missing(self, bin_dir: &Path) -> Option<String> {
        match self {
            Self::Shunt => shunt::missing(bin_dir),
            Self::OvsAfxdp | Self::OvsPacket => ovs::missing(),
            Self::Bridge | Self::XdpRedirect | Self::Shortcut | Self::AfxdpForwarder => None,
        }
    }

    /// Whether it is a switch: learns, knows VLANs and takes more than two ports.
    pub fn is_switch(self) -> bool {
        !matches!(self, Self::XdpRedirect | Self::Shortcut | Self::AfxdpForwarder)
    }

    /// Whether it is a program with a core of its own, and not a part of the kernel that works on the generator's.
    pub fn is_program(self) -> bool {
        !matches!(self, Self::Bridge | Self::XdpRedirect | Self::Shortcut)
    }

    /// Starts it and has it switch between the rig's ports.
    pub fn start(self, start: &Start<'_>) -> Result<Box<dyn Dut>> {
        Ok(match self {
            Self::Shunt => Box::new(shunt::Shunt::start(start)?),
            Self::OvsAfxdp => Box::new(ovs::Ovs::start(start, ovs::Io::Afxdp)?),
            Self::OvsPacket => Box::new(ovs::Ovs::start(start, ovs::Io::Packet)?),
            Self::Bridge => Box::new(bridge::Bridge::start(start)?),
            Self::AfxdpForwarder => Box::new(forwarder::Forwarder::start(start)?),
            Self::XdpRedirect => Box::new(redirect::Redirect::start(start)?),
            Self::Shortcut => Box::new(shortcut::Shortcut::start(start)?),
        })
    }
}

/// Lines of a listing that hold an address of the sink's side.
fn sink_macs_in(listing: &str) -> usize {
    let prefix = crate::frame::mac_prefix(crate::frame::SINK_SIDE);
    listing.matches(&prefix).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_sink_are_counted_whatever_the_layout() {
        let text = " port  VLAN  MAC                Age\n    1     0  02:53:0a:00:00:00    1\n    2     0  02:53:0b:00:00:00    1\n";
        assert_eq!(sink_macs_in(text), 1);
        assert_eq!(sink_macs_in(r#"[{"mac":"02:53:0b:00:00:01"},{"mac":"02:53:0b:00:00:02"}]"#), 2);
    }
}
