//! What may an operator write for an address, a prefix or a next hop? (`192.168.1.1/24`, `10.0.0.0/8`, `via 10.0.0.1 dev vlan10`)
//!
//! Both ends read them by these functions: the client before it sends anything, the daemon whatever is in a row.

use crate::model::parse_mac;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// The largest weight of a next hop: the kernel keeps it in an octet, less one.
const WEIGHT_MAX: u16 = 256;

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The text, and what is wrong with it.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

fn wrong<T>(what: String, remedy: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { what, remedy: remedy.into() })
}

/// The address of an interface, with the length of its network's prefix.
pub fn interface_address(text: &str) -> Result<IpNet, Wrong> {
    const REMEDY: &str = "write ADDRESS/LENGTH, as 192.168.1.1/24 or 2001:db8::1/64";
    let Ok(net) = text.parse::<IpNet>() else {
        return wrong(format!("\"{text}\" is not an address with the length of its prefix"), REMEDY);
    };
    check_host(net.addr())?;
    let (bits, most) = (net.prefix_len(), net.max_prefix_len());
    if bits == 0 {
        return wrong(format!("{text}: no network has all addresses"), REMEDY);
    }
    // In a network of two addresses both are hosts (RFC 3021, RFC 6164).
    if bits + 1 < most && net.addr() == net.network() {
        let what = if most == 32 { "the network's own address" } else { "the subnet-router anycast address" };
        let first = net.hosts().find(|host| *host != net.addr()).unwrap_or(net.addr());
        return wrong(format!("{text} is {what}"), format!("give a host of it, as {first}/{bits}"));
    }
    if most == 32 && bits + 1 < most && net.addr() == net.broadcast() {
        let first = net.hosts().next().unwrap_or(net.addr());
        return wrong(
            format!("{text} is the network's broadcast address"),
            format!("give a host of it, as {first}/{bits}"),
        );
    }
    Ok(net)
}

/// The destinations of a route; a lone address is a prefix with one address.
pub fn prefix(text: &str) -> Result<IpNet, Wrong> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(net) = net else {
        return wrong(format!("\"{text}\" is not a prefix"), "write ADDRESS/LENGTH, as 10.0.0.0/8 or 2001:db8::/32");
    };
    if net != net.trunc() {
        let (net, host) = (net.trunc(), IpNet::from(net.addr()));
        return wrong(
            format!("{text} has host bits set: they are beyond the length of the prefix"),
            format!("write {net}, or {host} for this one address"),
        );
    }
    if net.addr().is_multicast() {
        return wrong(format!("{text} is multicast, which is not routed here"), "give a prefix of unicast addresses");
    }
    Ok(net)
}

/// The address of one other host: of a neighbour or a router.
pub fn host(text: &str) -> Result<IpAddr, Wrong> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return wrong(format!("\"{text}\" is not an IP address"), "write one as 192.168.1.254 or 2001:db8::fe");
    };
    check_host(address).map(|()| address)
}

/// The address of one host, which may be written as a prefix of that one address.
pub fn host_address(text: &str) -> Result<IpAddr, Wrong> {
    let Ok(net) = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) else {
        return wrong(format!("\"{text}\" is not an IP address"), "write one as 10.9.0.7 or 2001:db8:9::7");
    };
    if net.prefix_len() != net.max_prefix_len() {
        return wrong(format!("{text} is a network"), format!("give single addresses, as {}", IpNet::from(net.addr())));
    }
    if is_link_local(net.addr()) {
        return wrong(format!("{text} is link-local, and is routed nowhere"), "give an address that others may reach");
    }
    check_host(net.addr()).map(|()| net.addr())
}

fn check_host(address: IpAddr) -> Result<(), Wrong> {
    let kind = match address {
        _ if address.is_unspecified() => "no host's",
        _ if address.is_loopback() => "every host's own (loopback)",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240 => "reserved",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6's form",
        _ => return Ok(()),
    };
    wrong(format!("{address} is {kind}"), "give the unicast address of a host")
}

/// The MAC address of a host.
pub fn mac(text: &str) -> Result<[u8; 6], Wrong> {
    const REMEDY: &str = "give a unicast address as 02:11:22:33:44:55";
    match parse_mac(text) {
        None => wrong(format!("\"{text}\" is not a MAC address"), REMEDY),
        Some([0, 0, 0, 0, 0, 0]) => wrong(format!("{text} is no host's MAC address"), REMEDY),
        Some(mac) if mac[0] & 1 != 0 => wrong(format!("{text} is a multicast MAC address"), REMEDY),
        Some(mac) => Ok(mac),
    }
}

/// Whether two networks have an address in common. The link-local network is on every link.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    !is_link_local(a.addr()) && (a.contains(&b.network()) || b.contains(&a.network()))
}

/// Whether an address says nothing without its interface.
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// One of the ways of a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// The router; none: the destination itself is on the link.
    pub via: Option<IpAddr>,
    /// The interface's name; none: the one that the router's network is on.
    pub dev: Option<String>,
    /// Its share of the flows, beside those of others.
    pub weight: u16,
    /// The router is on the link though no address of ours is in its network.
    pub onlink: bool,
}

impl NextHop {
    /// Reads `via ADDRESS [dev INTERFACE] [weight N] [onlink]` or `dev INTERFACE [weight N]`, in any order.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<NextHop, Wrong> {
        const REMEDY: &str =
            "a next hop is \"via ADDRESS [dev INTERFACE] [weight N] [onlink]\" or \"dev INTERFACE [weight N]\"";
        let (mut via, mut dev, mut weight, mut onlink) = (None, None, None, false);
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "onlink" {
                onlink = true;
                continue;
            }
            let Some(value) = words.next() else {
                return wrong(format!("nothing follows \"{word}\""), REMEDY);
            };
            let is_new = match word {
                "via" => via.replace(host(value)?).is_none(),
                "dev" => dev.replace(value.to_owned()).is_none(),
                "weight" => match value.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight)) {
                    Some(read) => weight.replace(read).is_none(),
                    None => return wrong(format!("weight {value} is out of range"), format!("give 1 to {WEIGHT_MAX}")),
                },
                _ => return wrong(format!("\"{word}\" is not part of a next hop"), REMEDY),
            };
            if !is_new {
                return wrong(format!("\"{word}\" is there twice"), REMEDY);
            }
        }
        let hop = NextHop { via, dev, weight: weight.unwrap_or(1), onlink };
        match (hop.via, &hop.dev) {
            (None, None) => wrong("neither \"via\" nor \"dev\" is there".to_owned(), REMEDY),
            (None, Some(dev)) if onlink => wrong(format!("\"dev {dev} onlink\" names no router"), REMEDY),
            (Some(via), None) if is_link_local(via) => {
                wrong(format!("{via} is link-local and could be on any link"), "add \"dev INTERFACE\"")
            }
            (Some(via), None) if onlink => {
                wrong(format!("\"via {via} onlink\" names no link"), "add \"dev INTERFACE\"")
            }
            _ => Ok(hop),
        }
    }

    /// Whether a route for `prefix` can go this way: IPv4 over an IPv6 router is fine (RFC 8950), the reverse is not.
    pub fn check_family(&self, prefix: &IpNet) -> Result<(), Wrong> {
        match (self.via, prefix) {
            (Some(via @ IpAddr::V4(_)), IpNet::V6(_)) => {
                wrong(format!("{prefix} is IPv6 and {via} is not"), "give the IPv6 address of the router")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let via = self.via.map(|via| format!("via {via}"));
        let dev = self.dev.as_ref().map(|dev| format!("dev {dev}"));
        let weight = (self.weight != 1).then(|| format!("weight {}", self.weight));
        let onlink = self.onlink.then(|| "onlink".to_owned());
        f.write_str(&[via, dev, weight, onlink].into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: fmt::Debug>(result: Result<T, Wrong>) -> String {
        result.expect_err("it is refused").to_string()
    }

    #[test]
    fn an_interface_has_a_hosts_address() {
        for text in [
            "192.168.1.1/24",
            "10.0.0.0/31",
            "10.0.0.1/31",
            "10.0.0.7/32",
            "2001:db8::1/64",
            "fe80::1/64",
            "2001:db8::/127",
        ] {
            assert_eq!(interface_address(text).map(|net| net.to_string()).as_deref(), Ok(text));
        }
        for (text, what) in [
            (
                "192.168.1.1",
                "\"192.168.1.1\" is not an address with the length of its prefix: write ADDRESS/LENGTH, as 192.168.1.1/24",
            ),
            ("192.168.1.1/33", "\"192.168.1.1/33\" is not an address with"),
            ("192.168.1/24", "\"192.168.1/24\" is not an address with"),
            ("", "\"\" is not an address with"),
            ("192.168.1.0/24", "192.168.1.0/24 is the network's own address: give a host of it, as 192.168.1.1/24"),
            (
                "192.168.1.255/24",
                "192.168.1.255/24 is the network's broadcast address: give a host of it, as 192.168.1.1/24",
            ),
            (
                "2001:db8::/64",
                "2001:db8::/64 is the subnet-router anycast address: give a host of it, as 2001:db8::1/64",
            ),
            ("224.0.0.1/24", "224.0.0.1 is a multicast address: give the unicast"),
            ("ff02::1/64", "ff02::1 is a multicast address"),
            ("0.0.0.0/0", "0.0.0.0 is no host's"),
            ("127.0.0.1/8", "127.0.0.1 is every host's own (loopback)"),
            ("255.255.255.255/32", "255.255.255.255 is the broadcast address"),
            ("240.0.0.1/8", "240.0.0.1 is reserved"),
            ("::ffff:10.0.0.1/96", "::ffff:10.0.0.1 is an IPv4 address in IPv6's form"),
            ("10.0.0.1/0", "10.0.0.1/0: no network has all addresses"),
        ] {
            let said = said(interface_address(text));
            assert!(said.starts_with(what), "{text}: {said}");
        }
    }

    #[test]
    fn a_prefix_has_no_host_bits() {
        for (text, means) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("2001:DB8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(prefix(text).map(|net| net.to_string()).as_deref(), Ok(means));
        }
        assert_eq!(
            said(prefix("10.1.0.0/8")),
            "10.1.0.0/8 has host bits set: they are beyond the length of the prefix: write 10.0.0.0/8, or 10.1.0.0/32 for this one address"
        );
        assert!(said(prefix("ff00::/8")).starts_with("ff00::/8 is multicast"));
        assert!(said(prefix("ten/8")).starts_with("\"ten/8\" is not a prefix: write ADDRESS/LENGTH, as 10.0.0.0/8"));
    }

    #[test]
    fn next_hops_are_read_and_written() {
        let parse = |text: &str| NextHop::parse(text.split_whitespace());
        for text in [
            "via 10.0.0.1",
            "via 10.0.0.1 dev vlan10",
            "via fe80::1 dev vlan10 weight 3",
            "via 169.254.0.1 dev vlan10 onlink",
            "dev vlan10 weight 256",
        ] {
            assert_eq!(parse(text).map(|hop| hop.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(
            parse("weight 1 dev x via 10.0.0.1").map(|hop| hop.to_string()).as_deref(),
            Ok("via 10.0.0.1 dev x")
        );
        for (text, what) in [
            ("", "neither \"via\" nor \"dev\" is there"),
            ("via", "nothing follows \"via\""),
            ("via 10.0.0.1 via 10.0.0.2", "\"via\" is there twice"),
            ("via 10.0.0.1/24", "\"10.0.0.1/24\" is not an IP address"),
            ("via 224.0.0.5", "224.0.0.5 is a multicast address"),
            ("via fe80::1", "fe80::1 is link-local and could be on any link: add \"dev INTERFACE\""),
            ("via 10.0.0.1 onlink", "\"via 10.0.0.1 onlink\" names no link"),
            ("dev x onlink", "\"dev x onlink\" names no router"),
            ("via 10.0.0.1 weight 0", "weight 0 is out of range: give 1 to 256"),
            ("via 10.0.0.1 weight 257", "weight 257 is out of range"),
            ("via 10.0.0.1 mtu 9", "\"mtu\" is not part of a next hop"),
        ] {
            let said = said(parse(text));
            assert!(said.starts_with(what), "{text}: {said}");
        }
        let prefix = |text: &str| prefix(text).unwrap();
        assert!(parse("via 2001:db8::1").unwrap().check_family(&prefix("10.0.0.0/8")).is_ok());
        assert!(
            said(parse("via 10.0.0.1").unwrap().check_family(&prefix("::/0")))
                .starts_with("::/0 is IPv6 and 10.0.0.1 is not")
        );
    }

    #[test]
    fn hosts_have_unicast_mac_addresses() {
        assert_eq!(mac("02:11:22:33:44:55"), Ok([2, 0x11, 0x22, 0x33, 0x44, 0x55]));
        for (text, what) in [
            ("01:00:5e:00:00:01", "01:00:5e:00:00:01 is a multicast MAC address: give a unicast address"),
            ("ff:ff:ff:ff:ff:ff", "ff:ff:ff:ff:ff:ff is a multicast MAC address"),
            ("00:00:00:00:00:00", "00:00:00:00:00:00 is no host's MAC address"),
            ("2:1", "\"2:1\" is not a MAC address"),
        ] {
            assert!(said(mac(text)).starts_with(what), "{text}");
        }
    }

    #[test]
    fn networks_overlap_where_they_share_addresses() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        for (a, b, shared) in [
            ("10.0.0.1/24", "10.0.0.2/24", true),
            ("10.0.0.1/8", "10.9.0.1/24", true),
            ("10.0.0.1/24", "10.0.1.1/24", false),
            ("10.0.0.1/24", "2001:db8::1/64", false),
            ("fe80::1/64", "fe80::1/64", false),
        ] {
            assert_eq!((overlap(&net(a), &net(b)), overlap(&net(b), &net(a))), (shared, shared), "{a} {b}");
        }
    }
}
