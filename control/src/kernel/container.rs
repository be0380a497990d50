//! How does a container get its interface? A veth whose far end is made inside of its namespace, then addresses, link up
//! and a default route there.

use super::request::{check_name, in_time};
use super::{Error, Kernel};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// 0–32, or 0–128.
    pub prefix_bits: u8,
}

impl std::str::FromStr for Cidr {
    type Err = String;

    /// `192.0.2.1/24` or `2001:db8::1/64`; without a prefix the address alone.
    fn from_str(text: &str) -> Result<Cidr, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| format!("{text} is not an IP address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            None => most,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|bits| *bits <= most)
                .ok_or_else(|| format!("{text} has no prefix length from 0 to {most} behind the slash"))?,
        };
        Ok(Cidr { address, prefix_bits })
    }
}

impl Cidr {
    /// Whether `other` is in the same network.
    pub fn contains(&self, other: IpAddr) -> bool {
        let network = |bits: u128, width: u8| bits.checked_shr((width - self.prefix_bits).into()).unwrap_or(0);
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => network(a.to_bits().into(), 32) == network(b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => network(a.to_bits(), 128) == network(b.to_bits(), 128),
            _ => false,
        }
    }
}

/// What an interface inside a container is to be.
#[derive(Debug, Clone, Default)]
pub struct Inside {
    /// Its name there.
    pub name: String,
    /// Its MAC address; the kernel's choice otherwise.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes, and that of the host's end.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<Cidr>,
    /// Default routes go there: one of each family at most.
    pub gateways: Vec<IpAddr>,
}

impl Kernel {
    /// Makes a veth: `host` here, `inside.name` in `namespace`. MAC and MTU are right from the beginning; both ends are down.
    ///
    /// # Errors
    /// Refused if one of the names is taken, or the kernel does not like the MAC or the MTU.
    pub async fn create_container_veth(
        &self,
        host: &str,
        inside: &Inside,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        check_name(host)?;
        check_name(&inside.name)?;
        let common = || {
            let queues = [LinkAttribute::NumRxQueues(1), LinkAttribute::NumTxQueues(1)];
            queues.into_iter().chain(inside.mtu.map(LinkAttribute::Mtu))
        };
        let far = common()
            .chain(inside.mac.map(|mac| LinkAttribute::Address(mac.to_vec())))
            .chain([LinkAttribute::NetNsFd(namespace.as_raw_fd())])
            .fold(LinkUnspec::new_with_name(&inside.name), LinkMessageBuilder::append_extra_attribute);
        let message = common()
            .fold(LinkVeth::new(host, &inside.name), LinkMessageBuilder::append_extra_attribute)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())))
            .build();
        let action = || format!("create the veth {host} with {} in the container", inside.name);
        in_time(action, self.handle.link().add(message).execute())
            .await?
            .map_err(|error| Error::from_netlink(action(), host, error))
    }

    /// In the container's namespace: gives the interface its addresses, sets it up, announces it and adds the default
    /// routes.
    ///
    /// # Errors
    /// The step that the kernel refused.
    pub async fn set_up_inside(&self, inside: &Inside) -> Result<(), Error> {
        let name = &inside.name;
        let ifindex = self.link_by_name(name).await?.ifindex;
        if inside.addresses.iter().any(|cidr| cidr.address.is_ipv6()) {
            // Docker switches IPv6 off in containers without a network of its own.
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0");
        }
        for cidr in &inside.addresses {
            let action = || format!("add the address {}/{} to {name}", cidr.address, cidr.prefix_bits);
            let mut request = self.handle.address().add(ifindex, cidr.address, cidr.prefix_bits);
            if cidr.address.is_ipv6() {
                // Whoever gives a container its address knows that nobody else has it: do not wait for a second.
                request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            let added = in_time(action, request.execute()).await?;
            added.map_err(|error| Error::from_netlink(action(), name, error))?;
        }
        announce(name);
        self.set_up(ifindex).await?;
        for gateway in &inside.gateways {
            let action = || format!("add the default route by {gateway} on {name}");
            let is_near = inside.addresses.iter().any(|cidr| cidr.contains(*gateway));
            let message = match gateway {
                IpAddr::V4(gateway) => {
                    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(*gateway).output_interface(ifindex);
                    if is_near { route.build() } else { route.onlink().build() }
                }
                IpAddr::V6(gateway) => {
                    let route = RouteMessageBuilder::<Ipv6Addr>::new().gateway(*gateway).output_interface(ifindex);
                    if is_near { route.build() } else { route.onlink().build() }
                }
            };
            let added = in_time(action, self.handle.route().add(message).execute()).await?;
            added.map_err(|error| Error::from_netlink(action(), name, error))?;
        }
        Ok(())
    }

    /// [`Kernel::set_up_inside`] on a thread in the container's namespace.
    ///
    /// # Errors
    /// The step that failed, in words.
    pub fn set_up_in(namespace: impl AsFd, inside: &Inside) -> Result<(), String> {
        shunt_ffi::netns::run_in(namespace.as_fd(), || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            runtime.block_on(async {
                let (kernel, _) = Kernel::open().await.map_err(|error| error.to_string())?;
                kernel.set_up_inside(inside).await.map_err(|error| error.to_string())
            })
        })
        .map_err(|error| error.to_string())?
    }
}

/// Has the kernel send a gratuitous ARP and an unsolicited neighbour advertisement when the link comes up, so that
/// switches and neighbours know at once where the container is. A kernel without one of the protocols needs none.
fn announce(name: &str) {
    for setting in ["ipv4/conf/{}/arp_notify", "ipv6/conf/{}/ndisc_notify"] {
        let path = format!("/proc/sys/net/{}", setting.replace("{}", name));
        let _ = std::fs::write(path, "1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_their_networks() {
        let cidr = |text: &str| text.parse::<Cidr>();
        assert_eq!(cidr("192.168.1.101").unwrap().prefix_bits, 32);
        assert_eq!(cidr("fd00::1").unwrap().prefix_bits, 128);
        let near = |cidr: &str, other: &str| cidr.parse::<Cidr>().unwrap().contains(other.parse().unwrap());
        assert!(near("192.168.1.101/24", "192.168.1.1") && !near("192.168.1.101/24", "192.168.2.1"));
        assert!(!near("192.168.1.101", "192.168.1.1") && near("10.0.0.1/0", "192.0.2.1"));
        assert!(near("fd00::5/64", "fd00::1") && !near("fd00::5/64", "fd00:1::1") && near("fd00::5/0", "fe80::1"));
        assert!(!near("10.0.0.1/0", "fd00::1"));
        for text in ["", "x", "10.0.0.1/33", "10.0.0.1/", "10.0.0.1/-1", "fd00::1/129", "10.0.0.256"] {
            assert!(cidr(text).is_err(), "{text}");
        }
    }
}
