//! What would a switch of a few lines do with the same frames?

use super::{GROUPS_MAX, PORTS};
use shunt_switch::config::PortIndex;

use shunt_switch::reason::Reason;
use shunt_switch::table::guard::MacLimits;
use shunt_switch::table::mirror::Output;
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::testing::{PortSpec, Scene, frame, igmp_packet};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::Tag;
use std::collections::{BTreeMap, BTreeSet, HashMap};
/// What a frame is to the naive switch; its octets are made from it.
#[derive(Clone, Debug)]
pub(crate) struct Naive {
    pub(crate) destination: Mac,
    pub(crate) source: Mac,
    pub(crate) tags: Vec<u16>,
    /// What it is about if it is IPv4 to a group; then the payload is that.
    pub(crate) multicast: Option<Multicast>,
    pub(crate) payload: Vec<u8>,
}

/// What IPv4 to a group says; groups are numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Multicast {
    Join(u8),
    Leave(u8),
    Query,
    Data(u8),
}

impl Multicast {
    pub(crate) fn octets(self) -> Vec<u8> {
        let igmp = |kind, n| igmp_packet([10, 0, 0, 1], [239, 0, 0, n], &[kind, 0, 0, 0, 239, 0, 0, n]);
        match self {
            Self::Join(n) => igmp(0x16, n),
            Self::Leave(n) => igmp(0x17, n),
            Self::Query => igmp(0x11, 0),
            Self::Data(n) => {
                let mut packet = igmp(0x11, n);
                packet[9] = 17;
                packet
            }
        }
    }
}

/// (bridge, VLAN, group).
type GroupKey = (u16, u16, u8);

/// Who wants what on the bridges that snoop.
#[derive(Default)]
pub(crate) struct NaiveListeners {
    /// In the order of the last report, with port and time of each member.
    groups: Vec<(GroupKey, Vec<(usize, u64)>)>,
    /// Bridge, VLAN, port, time.
    routers: Vec<(u16, u16, usize, u64)>,
}

impl NaiveListeners {
    fn learn(&mut self, says: Multicast, (port, bridge, vlan): Admitted, now: u64) {
        match says {
            Multicast::Query => {
                self.routers.retain(|router| (router.0, router.1, router.2) != (bridge, vlan, port));
                self.routers.push((bridge, vlan, port, now));
            }
            Multicast::Join(_) if self.routers_of(bridge, vlan).any(|router| router == port) => {}
            Multicast::Join(group) => {
                let key = (bridge, vlan, group);
                let old = self.groups.iter().position(|(of, _)| *of == key);
                let mut members = old.map_or_else(Vec::new, |at| self.groups.remove(at).1);
                if old.is_none() && self.groups.iter().filter(|(of, _)| of.0 == bridge).count() == GROUPS_MAX {
                    let oldest = self.groups.iter().position(|(of, _)| of.0 == bridge).unwrap();
                    self.groups.remove(oldest);
                }
                members.retain(|(member, _)| *member != port);
                members.push((port, now));
                self.groups.push((key, members));
                self.retain(|_, _, _| true, |_| true);
            }
            Multicast::Leave(group) => {
                self.retain(|key, member, _| key != (bridge, vlan, group) || member != port, |_| true);
            }
            Multicast::Data(_) => {}
        }
    }

    /// Keeps some members and routers, and drops groups without members that are the oldest of their bridge.
    pub(crate) fn retain(
        &mut self,
        members: impl Fn(GroupKey, usize, u64) -> bool,
        routers: impl Fn((u16, u16, usize, u64)) -> bool,
    ) {
        self.groups.iter_mut().for_each(|(key, list)| list.retain(|(port, at)| members(*key, *port, *at)));
        self.routers.retain(|router| routers(*router));
        for bridge in 0..2 {
            while let Some(oldest) = self.groups.iter().position(|(key, _)| key.0 == bridge)
                && self.groups[oldest].1.is_empty()
            {
                self.groups.remove(oldest);
            }
        }
    }

    fn routers_of(&self, bridge: u16, vlan: u16) -> impl Iterator<Item = usize> {
        self.routers.iter().filter(move |router| (router.0, router.1) == (bridge, vlan)).map(|router| router.2)
    }

    /// The ports that want it; `None` for all.
    fn want(&self, says: Multicast, bridge: u16, vlan: u16) -> Option<Vec<usize>> {
        let mut ports: Vec<usize> = match says {
            Multicast::Query => return None,
            Multicast::Join(_) | Multicast::Leave(_) => Vec::new(),
            Multicast::Data(group) => {
                let (_, members) = self.groups.iter().find(|(key, _)| *key == (bridge, vlan, group))?;
                members.iter().map(|(port, _)| *port).collect()
            }
        };
        ports.extend(self.routers_of(bridge, vlan));
        ports.sort_unstable();
        ports.dedup();
        Some(ports)
    }
}

impl Naive {
    pub(crate) fn octets(&self) -> Vec<u8> {
        let tags: Vec<Tag> = self.tags.iter().map(|vid| Tag::new(0x8100, *vid, 0)).collect();
        let ethertype = if self.multicast.is_some() { 0x0800 } else { 0x88b5 };
        frame(self.destination, self.source, &tags, ethertype, &self.payload)
    }
}

#[derive(Default)]
pub(crate) struct NaiveSwitch {
    /// (bridge, VLAN, MAC) → port, when last seen.
    pub(crate) hosts: HashMap<(u16, u16, Mac), (usize, u64)>,
    /// Of those that have moved: since when, how often since then; or until when held, and no number.
    moves: HashMap<(u16, u16, Mac), (u64, Option<u16>)>,
    /// Packets that each mirror has taken, by bridge and number.
    pub(crate) mirrored: BTreeMap<(usize, usize), u64>,
    pub(crate) listeners: NaiveListeners,
    pub(crate) received: u64,
    pub(crate) drops: BTreeMap<(Option<usize>, Reason), u64>,
    pub(crate) sent: BTreeMap<usize, u64>,
}

fn carries(vlan: &VlanConfig, vid: u16) -> bool {
    match vlan.tag {
        Some(tag) => tag == vid,
        None => vlan.trunks.is_empty() || vlan.trunks.contains(&vid),
    }
}

/// A packet that mirrors copy: which of their outputs have it.
pub(crate) struct Copying<'a> {
    packet: &'a Naive,
    from: usize,
    done: BTreeSet<(bool, u16)>,
}

/// Some mirror of its bridge sends to the port.
fn is_output(scene: &Scene, port: usize) -> bool {
    let own = scene.ports[port].as_ref().map(|spec| &scene.bridges[usize::from(spec.bridge)].mirrors);
    own.is_some_and(|mirrors| mirrors.iter().any(|mirror| mirror.output == Output::Port(PortIndex(port as u16))))
}

/// A packet that was let in: its port, bridge, VLAN.
type Admitted = (usize, u16, u16);

impl NaiveSwitch {
    fn admit(&self, scene: &Scene, device: u16, packet: &Naive) -> Result<Admitted, (Option<usize>, Reason)> {
        let mut tags = packet.tags.as_slice();
        let on_device =
            |(_, spec): &(usize, &Option<PortSpec>)| spec.as_ref().is_some_and(|spec| spec.device == device);
        let mut ports = scene.ports.iter().enumerate().filter(on_device).map(|(i, spec)| (i, spec.as_ref().unwrap()));
        let found = if device == 0 {
            let vid = tags.first().copied().unwrap_or(0);
            tags = tags.get(1..).unwrap_or(&[]);
            ports.find(|(_, spec)| spec.link_vid == Some(vid))
        } else {
            ports.next()
        };
        let (port, spec) = found.ok_or((None, Reason::NoPort))?;
        if is_output(scene, port) {
            return Err((Some(port), Reason::MirrorIngress));
        }
        if packet.destination.is_reserved() && !scene.bridges[usize::from(spec.bridge)].forward_bpdu {
            return Err((Some(port), Reason::ReservedMulticast));
        }
        let vid = tags.first().copied().unwrap_or(0);
        match spec.vlan.tag {
            Some(_) if vid != 0 => Err((Some(port), Reason::TaggedOnAccess)),
            Some(tag) => Ok((port, spec.bridge, tag)),
            None if carries(&spec.vlan, vid) => Ok((port, spec.bridge, vid)),
            None => Err((Some(port), Reason::IngressVlan)),
        }
    }

    /// The port where the packet's destination is, if it is known and counts.
    fn known(&self, scene: &Scene, packet: &Naive, (_, bridge, vlan): Admitted) -> Option<usize> {
        let floods = scene.bridges[usize::from(bridge)].flood_vlans.contains(&vlan);
        let host = self.hosts.get(&(bridge, vlan, packet.destination));
        host.filter(|_| !floods && !packet.destination.is_group()).map(|host| host.0)
    }

    /// The ports that a packet goes to whose destination is at `known`, or why it goes nowhere.
    fn decide(
        &self,
        scene: &Scene,
        packet: &Naive,
        (from, bridge, vlan): Admitted,
        known: Option<usize>,
    ) -> Result<Vec<usize>, Reason> {
        let protected = |port: usize| scene.ports[port].as_ref().is_some_and(|spec| spec.protected);
        let Some(port) = known else {
            let to: Vec<usize> = (0..PORTS)
                .filter(|to| {
                    let member = scene.ports[*to]
                        .as_ref()
                        .is_some_and(|spec| spec.bridge == bridge && carries(&spec.vlan, vlan));
                    member && !is_output(scene, *to) && *to != from && !(protected(from) && protected(*to))
                })
                .collect();
            let snoops = scene.bridges[usize::from(bridge)].mdb.is_some();
            let wanted = packet.multicast.filter(|_| snoops).and_then(|says| self.listeners.want(says, bridge, vlan));
            let nobody = if wanted.is_some() { Reason::NoListener } else { Reason::FloodEmpty };
            let to: Vec<usize> =
                to.into_iter().filter(|to| wanted.as_ref().is_none_or(|wanted| wanted.contains(to))).collect();
            return if to.is_empty() { Err(nobody) } else { Ok(to) };
        };
        match scene.ports[port].as_ref() {
            _ if port == from => Err(Reason::Hairpin),
            None => Err(Reason::StalePort),
            Some(_) if is_output(scene, port) => Err(Reason::MirrorEgress),
            Some(_) if protected(from) && protected(port) => Err(Reason::Protected),
            Some(spec) if !carries(&spec.vlan, vlan) => Err(Reason::EgressVlan),
            Some(_) => Ok(vec![port]),
        }
    }

    /// What leaves, by device.
    pub(crate) fn burst(
        &mut self,
        scene: &Scene,
        device: u16,
        packets: &[Naive],
        now: Instant,
    ) -> BTreeMap<u16, Vec<Vec<u8>>> {
        let mut out: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
        self.received += packets.len() as u64;
        let mut admitted: Vec<_> = packets.iter().map(|packet| self.admit(scene, device, packet)).collect();
        let mut known = Vec::new();
        for (packet, admitted) in packets.iter().zip(&mut admitted) {
            if let Ok((port, bridge, vlan)) = *admitted
                && !packet.source.is_group()
                && !scene.bridges[usize::from(bridge)].flood_vlans.contains(&vlan)
                && let Err(reason) = self.learn(scene, (bridge, vlan, packet.source), port, now.as_millis())
            {
                *admitted = Err((Some(port), reason));
            }
            known.push(admitted.ok().and_then(|admitted| self.known(scene, packet, admitted)));
        }
        for (packet, admitted) in packets.iter().zip(&admitted) {
            if let (Some(says), Ok(admitted)) = (packet.multicast, admitted)
                && scene.bridges[usize::from(admitted.1)].mdb.is_some()
            {
                self.listeners.learn(says, *admitted, now.as_millis());
            }
        }
        let mut ways = Vec::new();
        for ((packet, admitted), known) in packets.iter().zip(admitted).zip(known) {
            let decided = admitted.and_then(|admitted| {
                let to = self.decide(scene, packet, admitted, known).map_err(|reason| (Some(admitted.0), reason))?;
                Ok((admitted, to))
            });
            match decided {
                Err(drop) => {
                    *self.drops.entry(drop).or_default() += 1;
                    ways.push((drop, vec![]));
                }
                Ok(((from, _, vlan), to)) => {
                    for port in &to {
                        self.leave(scene, packet, from, vlan, *port, &mut out);
                    }
                    ways.push(((Some(from), Reason::Hairpin), to));
                }
            }
        }
        for (packet, (drop, to)) in packets.iter().zip(ways) {
            if let (Some(from), reason) = drop
                && reason != Reason::MirrorIngress
                && let Some(vlan) = self.vlan_at(scene, from, packet)
            {
                let mut copying = Copying { packet, from, done: BTreeSet::new() };
                self.mirror(scene, &mut copying, from, vlan, true, &mut out);
                for port in to {
                    self.mirror(scene, &mut copying, port, vlan, false, &mut out);
                }
            }
        }
        out
    }

    /// The VLAN that a packet is in when it comes in by a port, or nothing if it may not.
    fn vlan_at(&self, scene: &Scene, from: usize, packet: &Naive) -> Option<u16> {
        let spec = scene.ports[from].as_ref()?;
        let vid = packet.tags.get(usize::from(spec.link_vid.is_some())).copied().unwrap_or(0);
        match spec.vlan.tag {
            Some(tag) => (vid == 0).then_some(tag),
            None => carries(&spec.vlan, vid).then_some(vid),
        }
    }

    /// Offers a packet that is in `vlan` to the mirrors of a port that it comes in or goes out by.
    fn mirror(
        &mut self,
        scene: &Scene,
        copying: &mut Copying<'_>,
        port: usize,
        vlan: u16,
        comes_in: bool,
        out: &mut BTreeMap<u16, Vec<Vec<u8>>>,
    ) {
        let bridge = usize::from(scene.ports[port].as_ref().unwrap().bridge);
        for (number, mirror) in scene.bridges[bridge].mirrors.iter().enumerate() {
            let selected = if comes_in { &mirror.sources } else { &mirror.destinations };
            let is_selected =
                selected.contains(&PortIndex(port as u16)) && (mirror.vlans.is_empty() || mirror.vlans.contains(&vlan));
            let output = match mirror.output {
                Output::Port(port) => (true, port.0),
                Output::Vlan(vlan) => (false, vlan),
            };
            if !is_selected || !copying.done.insert(output) {
                continue;
            }
            *self.mirrored.entry((bridge, number)).or_default() += 1;
            let (ports, vlan) = match mirror.output {
                Output::Port(port) => (vec![usize::from(port.0)], vlan),
                Output::Vlan(other) if other == vlan || copying.packet.destination.is_reserved() => continue,
                Output::Vlan(other) => ((0..PORTS).filter(|port| !is_output(scene, *port)).collect(), other),
            };
            for port in ports {
                let Some(spec) = scene.ports[port].as_ref() else { continue };
                let is_span = matches!(mirror.output, Output::Port(_));
                let protected = scene.ports[copying.from].as_ref().unwrap().protected && spec.protected;
                if usize::from(spec.bridge) != bridge || protected || !is_span && !carries(&spec.vlan, vlan) {
                    continue;
                }
                self.leave(scene, copying.packet, copying.from, vlan, port, out);
                // What leaves by an access port is in its VLAN, whatever it was.
                let there = spec.vlan.tag.or(carries(&spec.vlan, vlan).then_some(vlan));
                if let Some(vlan) = there {
                    self.mirror(scene, copying, port, vlan, false, out);
                }
            }
        }
    }

    /// Notes where a host is, as far as the port's limits allow.
    fn learn(&mut self, scene: &Scene, key: (u16, u16, Mac), port: usize, now: u64) -> Result<(), Reason> {
        let limits = |port: usize| scene.ports[port].as_ref().map_or(MacLimits::default(), |spec| spec.guard.macs);
        let known = self.hosts.get(&key).map(|(port, _)| *port);
        if known != Some(port) {
            let most = limits(port).learned_max as usize;
            let own = self.hosts.iter().filter(|((bridge, ..), (of, _))| (*bridge, *of) == (key.0, port)).count();
            if most > 0 && own >= most {
                return Err(Reason::MacLimit);
            }
        }
        if let Some(from) = known.filter(|from| *from != port) {
            let flap = if limits(port).moves_max > 0 { limits(port) } else { limits(from) };
            if flap.moves_max > 0 {
                let window = u64::from(flap.window_ms);
                match self.moves.get(&key).copied() {
                    Some((until, None)) if now < until => return Err(Reason::MacFlap),
                    Some((since, Some(moves))) if now - since < window => {
                        if moves >= flap.moves_max {
                            self.moves.insert(key, (now + window, None));
                            return Err(Reason::MacFlap);
                        }
                        self.moves.insert(key, (since, Some(moves + 1)));
                    }
                    _ => drop(self.moves.insert(key, (now, Some(1)))),
                }
            }
        }
        self.hosts.insert(key, (port, now));
        Ok(())
    }

    /// Forgets the moves of hosts that are forgotten.
    pub(crate) fn forget(&mut self, keep: impl Fn(&(u16, u16, Mac), &(usize, u64)) -> bool) {
        self.hosts.retain(|key, host| keep(key, host));
        self.moves.retain(|key, _| self.hosts.contains_key(key));
    }

    fn leave(
        &mut self,
        scene: &Scene,
        packet: &Naive,
        from: usize,
        vlan: u16,
        port: usize,
        out: &mut BTreeMap<u16, Vec<Vec<u8>>>,
    ) {
        let (ingress, egress) = (scene.ports[from].as_ref().unwrap(), scene.ports[port].as_ref().unwrap());
        if packet.payload.len() > egress.mtu as usize {
            *self.drops.entry((Some(port), Reason::MtuExceeded)).or_default() += 1;
            return;
        }
        // All tags are ours or the VLAN's, but for one behind: on an untagged trunk frame there is none.
        let mut copy = packet.clone();
        let own = usize::from(ingress.link_vid.is_some());
        copy.tags.drain(..own.min(copy.tags.len()));
        copy.tags.drain(..1.min(copy.tags.len()));
        if egress.vlan.tag.is_none() && vlan != 0 {
            copy.tags.insert(0, vlan);
        }
        copy.tags.splice(0..0, egress.link_vid);
        let mut octets = copy.octets();
        octets.resize(octets.len().max(60), 0);
        *self.sent.entry(port).or_default() += 1;
        out.entry(egress.device).or_default().push(octets);
    }
}
