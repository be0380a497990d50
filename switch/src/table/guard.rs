//! What does a port do against too much: too many packets, too many floods, too many or too restless hosts; and against
//! senders that use others' addresses?
//!
//! The numbers come from the configuration, 0 for what is off. A port without any has no [`Guard`] at all, and its packets
//! pay one branch a burst.

use crate::reason::Reason;
use crate::table::bucket::Bucket;
use crate::time::Instant;
use crate::wire::ethernet::{ARP, IPV4, IPV6, Mac};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A port's limits, as the user set them; 0 for off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardConfig {
    /// `ingress_policing_rate`, in 1000 bit/s.
    pub rate_kbps: u64,
    /// `ingress_policing_burst`, in 1000 bit; 0 for 8000.
    pub burst_kb: u64,
    /// `ingress_policing_kpkts_rate`, in 1000 packets/s.
    pub rate_kpps: u64,
    /// `ingress_policing_kpkts_burst`, in 1000 packets; 0 for 16.
    pub burst_kpkts: u64,
    /// `storm-broadcast-pps`.
    pub broadcast_pps: u32,
    /// `storm-unknown-pps`.
    pub unknown_pps: u32,
    /// `storm-multicast-pps`.
    pub multicast_pps: u32,
    /// `mac-limit`, and `mac-flap-limit` within `mac-flap-window-s`.
    pub macs: MacLimits,
    /// `exceptions-pps`: packets for the router that only the kernel can deal with.
    pub exceptions_pps: u32,
    /// `allowed-addresses`: what senders may call themselves; empty for anything.
    pub sources: Vec<IpNet>,
}

impl GuardConfig {
    /// The bucket for [`GuardConfig::exceptions_pps`]: beside the [`Guard`], as it does not concern the packets that are routed.
    pub fn exceptions(&self) -> Option<Bucket> {
        let pps = u64::from(self.exceptions_pps);
        (pps > 0).then(|| Bucket::new(pps, pps))
    }
}

/// What a port may teach; 0 for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MacLimits {
    /// Most addresses learned behind it at a time.
    pub learned_max: u32,
    /// How often within `window_ms` an address may move to it, or away from it to a port without this limit.
    pub moves_max: u16,
    /// Also how long an address that would move more often is held where it is.
    pub window_ms: u32,
}

/// A port's limits at work: shared by all workers, and by all snapshots as long as the numbers stay.
#[derive(Debug)]
pub struct Guard {
    octets: Option<Bucket>,
    packets: Option<Bucket>,
    broadcast: Option<Bucket>,
    unknown: Option<Bucket>,
    multicast: Option<Bucket>,
    /// Of what is learned behind the port.
    pub macs: MacLimits,
    sources: Box<[IpNet]>,
}

impl Guard {
    /// The guard that enforces `config`; none if nothing is on.
    pub fn new(config: &GuardConfig) -> Option<Self> {
        let kilo = |rate: u64, burst: u64, default: u64, unit: u64| {
            let burst = if burst == 0 { default } else { burst };
            (rate > 0).then(|| Bucket::new(rate.saturating_mul(unit), burst.saturating_mul(unit)))
        };
        // Floods may come in bursts of what passes in a second.
        let flood = |pps: u32| (pps > 0).then(|| Bucket::new(pps.into(), pps.into()));
        let is_on = [config.rate_kbps, config.rate_kpps].iter().any(|rate| *rate > 0)
            || [config.broadcast_pps, config.unknown_pps, config.multicast_pps].iter().any(|pps| *pps > 0)
            || config.macs != MacLimits::default()
            || !config.sources.is_empty();
        is_on.then(|| Self {
            // 1000 bit are 125 octets.
            octets: kilo(config.rate_kbps, config.burst_kb, 8000, 125),
            packets: kilo(config.rate_kpps, config.burst_kpkts, 16, 1000),
            broadcast: flood(config.broadcast_pps),
            unknown: flood(config.unknown_pps),
            multicast: flood(config.multicast_pps),
            macs: config.macs,
            sources: config.sources.as_slice().into(),
        })
    }

    /// May a packet of `octets` come in now? The smaller of the two rates is in effect.
    #[inline]
    pub fn admit(&self, octets: u32, now: Instant) -> Result<(), Reason> {
        if self.octets.as_ref().is_some_and(|bucket| !bucket.take(octets.into(), now)) {
            return Err(Reason::PolicedRate);
        }
        if self.packets.as_ref().is_some_and(|bucket| !bucket.take(1, now)) {
            return Err(Reason::PolicedPackets);
        }
        Ok(())
    }

    /// May the sender call itself what it does? `packet` is what follows EtherType `ethertype`. Senders without an address yet, and
    /// IPv6's link-local ones, may speak; what is neither ARP nor IP says nothing of its sender and may not.
    #[inline]
    pub fn knows(&self, ethertype: u16, packet: &[u8]) -> Result<(), Reason> {
        if self.sources.is_empty() || self.is_known(ethertype, packet) { Ok(()) } else { Err(Reason::SourceGuard) }
    }

    fn is_known(&self, ethertype: u16, packet: &[u8]) -> bool {
        let v4 = |at: usize| packet.get(at..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        let v6 = |at: usize| packet.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets));
        let listed = |address: IpAddr| self.sources.iter().any(|allowed| allowed.contains(&address));
        let is_own = |address: Ipv6Addr| address.is_unicast_link_local() || listed(address.into());
        match ethertype {
            IPV4 => v4(12).is_some_and(|source| source.is_unspecified() || listed(source.into())),
            // RFC 826: the sender's protocol address.
            ARP => v4(14).is_some_and(|sender| sender.is_unspecified() || listed(sender.into())),
            IPV6 => {
                // A neighbour advertisement (RFC 4861 §4.4) speaks for its target.
                let is_advertisement = packet.get(6) == Some(&58) && packet.get(40) == Some(&136);
                v6(8).is_some_and(|source| source.is_unspecified() || is_own(source))
                    && (!is_advertisement || v6(48).is_some_and(is_own))
            }
            _ => false,
        }
    }

    /// May a packet to `destination` be flooded now?
    #[inline]
    pub fn flood(&self, destination: Mac, now: Instant) -> Result<(), Reason> {
        let (bucket, reason) = match destination {
            Mac::BROADCAST => (&self.broadcast, Reason::StormBroadcast),
            group if group.is_group() => (&self.multicast, Reason::StormMulticast),
            _ => (&self.unknown, Reason::StormUnknown),
        };
        if bucket.as_ref().is_none_or(|bucket| bucket.take(1, now)) { Ok(()) } else { Err(reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_is_no_guard() {
        assert!(Guard::new(&GuardConfig::default()).is_none());
        assert!(Guard::new(&GuardConfig { burst_kb: 5, burst_kpkts: 5, ..GuardConfig::default() }).is_none());
    }

    #[test]
    fn bursts_have_the_defaults_of_open_vswitch() {
        let now = Instant::from_secs(1);
        let passed = |config: &GuardConfig, octets| {
            let guard = Guard::new(config).unwrap();
            (0..20_000).take_while(|_| guard.admit(octets, now).is_ok()).count()
        };
        let rate = GuardConfig { rate_kbps: 10, ..GuardConfig::default() };
        assert_eq!(passed(&rate, 1000), 1000, "8000 kbit");
        assert_eq!(passed(&GuardConfig { burst_kb: 80, ..rate }, 1000), 10);
        let packets = GuardConfig { rate_kpps: 1, ..GuardConfig::default() };
        assert_eq!(passed(&packets, 1000), 16_000);
        assert_eq!(passed(&GuardConfig { burst_kpkts: 2, ..packets }, 9000), 2000);
    }

    #[test]
    fn the_smaller_rate_is_in_effect_and_named() {
        let both = GuardConfig { rate_kbps: 1, burst_kb: 8, rate_kpps: 1, burst_kpkts: 1, ..GuardConfig::default() };
        let guard = Guard::new(&both).unwrap();
        let now = Instant::from_secs(1);
        assert_eq!(guard.admit(600, now), Ok(()));
        assert_eq!(guard.admit(600, now), Err(Reason::PolicedRate));
        let guard = Guard::new(&both).unwrap();
        assert_eq!((0..1001).find_map(|_| guard.admit(0, now).err()), Some(Reason::PolicedPackets));
    }

    #[test]
    fn senders_are_held_to_their_addresses() {
        let sources = ["10.1.1.5/32", "2001:db8:1::/64"].map(|net| net.parse().unwrap()).to_vec();
        let guard = Guard::new(&GuardConfig { sources, ..GuardConfig::default() }).unwrap();
        let v4 = |last: u8, arp: bool| {
            let mut packet = [0; 28];
            let at = if arp { 14 } else { 12 };
            packet[at..at + 4].copy_from_slice(if last == 0 { &[0; 4] } else { &[10, 1, 1, 0] });
            packet[at + 3] = last;
            guard.knows(if arp { ARP } else { IPV4 }, &packet)
        };
        for arp in [false, true] {
            assert_eq!([5, 0, 6].map(|last| v4(last, arp).is_ok()), [true, true, false]);
        }
        let v6 = |source: &str, advertised: Option<&str>| {
            let mut packet = [0; 64];
            packet[8..24].copy_from_slice(&source.parse::<Ipv6Addr>().unwrap().octets());
            if let Some(target) = advertised {
                (packet[6], packet[40]) = (58, 136);
                packet[48..].copy_from_slice(&target.parse::<Ipv6Addr>().unwrap().octets());
            }
            guard.knows(IPV6, &packet).is_ok()
        };
        assert_eq!(["2001:db8:1::9", "fe80::1", "::", "2001:db8:2::9"].map(|a| v6(a, None)), [true, true, true, false]);
        assert_eq!(["2001:db8:1::9", "fe80::7", "2001:db8:2::1"].map(|a| v6("fe80::1", Some(a))), [true, true, false]);
        for (ethertype, len) in [(0x88b5, 60), (IPV4, 15), (ARP, 17), (IPV6, 23)] {
            assert_eq!(guard.knows(ethertype, &[0; 60][..len]), Err(Reason::SourceGuard), "{ethertype:x}");
        }
    }

    #[test]
    fn floods_are_told_apart() {
        let config = GuardConfig { broadcast_pps: 1, unknown_pps: 2, multicast_pps: 3, ..GuardConfig::default() };
        let guard = Guard::new(&config).unwrap();
        let now = Instant::from_secs(1);
        let floods = |mac: u64| (0..9).find_map(|i| guard.flood(Mac(mac), now).err().map(|reason| (i, reason)));
        assert_eq!(floods(0xffff_ffff_ffff), Some((1, Reason::StormBroadcast)));
        assert_eq!(floods(0x0200_0000_0001), Some((2, Reason::StormUnknown)));
        assert_eq!(floods(0x0100_5e00_0001), Some((3, Reason::StormMulticast)));
        let off = Guard::new(&GuardConfig { broadcast_pps: 0, ..config }).unwrap();
        assert!((0..99).all(|_| off.flood(Mac::BROADCAST, now).is_ok()));
    }
}
