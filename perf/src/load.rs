//! What is offered to a switch: which sizes, how many flows and addresses, with or without a tag?

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

/// Largest frame that fits into the page of the in-kernel generator; longer ones are sent through an AF_XDP socket.
pub const IN_KERNEL_SIZE_MAX: u32 = 3000;
/// The VLAN of tagged frames.
pub const VID: u16 = 181;

/// Sizes of frames in octets, from the destination address to the end of the payload; a veth carries no FCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Size {
    /// All alike.
    Octets(u32),
    /// The Internet mix: of 12 frames 7 are of 64 octets, 4 of 594 and 1 of 1518 (RFC 6985's notation), FCS counted.
    Imix,
}

impl Size {
    /// The sizes in the order in which they are sent.
    pub fn pattern(self) -> Vec<u32> {
        match self {
            Self::Octets(octets) => vec![octets],
            Self::Imix => vec![60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 590, 60],
        }
    }

    /// The largest of them.
    pub fn max(self) -> u32 {
        self.pattern().into_iter().max().unwrap_or_default()
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "imix" => Ok(Self::Imix),
            Ok(octets) if (60..=9014).contains(&octets) => Ok(Self::Octets(octets)),
            _ => Err("give 60 to 9014 octets, or imix".to_owned()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octets(octets) => write!(f, "{octets}"),
            Self::Imix => write!(f, "imix"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Octets(octets) => serializer.serialize_u32(*octets),
            Self::Imix => serializer.serialize_str("imix"),
        }
    }
}

/// What the switch does on a frame's way: with the tag of VLAN [`VID`], or as a router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vlan {
    /// No tags anywhere.
    #[default]
    None,
    /// From an access port to a tagged uplink.
    Push,
    /// From a tagged uplink to an access port.
    Pop,
    /// No tags: each port is a network of its own, and packets are routed from one to the other.
    Route,
}

/// Who looks on. Only shunt can be watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watched {
    /// Nobody.
    #[default]
    No,
    /// sFlow samples one packet in 1000.
    Sflow,
    /// A capture of some 10 % of 1000 flows, where they come in and where they leave.
    Capture,
    /// The metrics are scraped each second.
    Metrics,
}

/// How a switch is to treat one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// As it comes.
    Plain,
    /// Untagged frames belong to this VLAN.
    Access(u16),
    /// An uplink that carries this VLAN tagged.
    Uplink(u16),
    /// A network of its own, in this VLAN where there are VLANs; see [`Gateway`].
    Network(u16, Gateway),
}

/// The router's side of a network, with addresses such that the generator's frames are for it, and that what it sends on looks as
/// if they had been switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address with the length of the network's prefix.
    pub address: &'static str,
    /// Its MAC address.
    pub mac: &'static str,
    /// The network behind it: the prefix, the next hop and that one's MAC address.
    pub route: Option<[&'static str; 3]>,
}

const GENERATORS_GATEWAY: Gateway = Gateway { address: "10.10.255.254/16", mac: "02:53:0b:00:00:00", route: None };
const SINKS_GATEWAY: Gateway = Gateway {
    address: "10.12.0.1/24",
    mac: "02:53:0a:00:00:00",
    route: Some(["10.11.0.0/16", "10.12.0.2", "02:53:0b:00:00:00"]),
};

impl Vlan {
    /// The roles of the port where frames come in and of the one where they leave.
    pub fn roles(self) -> [Role; 2] {
        match self {
            Self::None => [Role::Plain; 2],
            Self::Push => [Role::Access(VID), Role::Uplink(VID)],
            Self::Pop => [Role::Uplink(VID), Role::Access(VID)],
            Self::Route => [Role::Network(VID, GENERATORS_GATEWAY), Role::Network(VID + 1, SINKS_GATEWAY)],
        }
    }
}

/// What is offered.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Load {
    /// Sizes of the frames; set for each measurement.
    #[arg(skip = Size::Octets(64))]
    pub size: Size,
    /// Different combinations of IPv4 addresses and UDP ports.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub flows: u32,
    /// Different addresses behind each of the two ports.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub macs: u32,
    /// What happens on the way.
    #[arg(long, value_enum, default_value = "none")]
    pub vlan: Vlan,
    /// Ports of the switch; all but two are idle.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=1024))]
    pub ports: u32,
    /// Who looks on at shunt.
    #[arg(long, value_enum, default_value = "no")]
    pub watched: Watched,
}

impl Default for Load {
    fn default() -> Self {
        Self { size: Size::Octets(64), flows: 1, macs: 1, vlan: Vlan::None, ports: 2, watched: Watched::No }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.size)?;
        let many = [(self.flows, 1, "flows"), (self.macs, 1, "MACs a side"), (self.ports, 2, "ports")];
        for (count, usual, what) in many {
            if count != usual {
                write!(f, ", {count} {what}")?;
            }
        }
        match self.vlan {
            Vlan::None => {}
            Vlan::Push => write!(f, ", tag pushed")?,
            Vlan::Pop => write!(f, ", tag popped")?,
            Vlan::Route => write!(f, ", routed")?,
        }
        match self.watched {
            Watched::No => Ok(()),
            Watched::Sflow => write!(f, ", sampled"),
            Watched::Capture => write!(f, ", captured"),
            Watched::Metrics => write!(f, ", scraped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_octets_or_the_internet_mix() {
        assert_eq!("64".parse(), Ok(Size::Octets(64)));
        assert_eq!("9000".parse(), Ok(Size::Octets(9000)));
        assert_eq!("imix".parse(), Ok(Size::Imix));
        for wrong in ["59", "9015", "", "x"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        let mix = Size::Imix.pattern();
        assert_eq!((mix.len(), Size::Imix.max()), (12, 1514));
        assert_eq!([60, 590, 1514].map(|size| mix.iter().filter(|octets| **octets == size).count()), [7, 4, 1]);
    }

    #[test]
    fn a_load_is_described_by_what_is_unusual() {
        assert_eq!(Load::default().to_string(), "64 octets");
        let load = Load { macs: 1000, vlan: Vlan::Push, ..Load::default() };
        assert_eq!(load.to_string(), "64 octets, 1000 MACs a side, tag pushed");
    }
}
