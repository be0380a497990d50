//! Does every mode, tag and frame do what Open vSwitch's table says? All of them, against that table written down naively.
//!
//! All kinds of ports are on one bridge; each kind of frame goes into each port and is flooded, and the tags that come
//! out of each other port are compared. The model works on lists of tags and shares no code with the switch.

use shunt_switch::reason::Reason;
use shunt_switch::table::vlan::{Mode, PriorityTags, VlanConfig};
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::Tag;

/// TPID, VLAN, priority.
type Model = (u16, u16, u8);

fn mode(config: &VlanConfig) -> Mode {
    config.mode.unwrap_or(if config.tag.is_some() { Mode::Access } else { Mode::Trunk })
}

fn trunks(config: &VlanConfig, vlan: u16) -> bool {
    let native = config.tag.unwrap_or(0);
    if matches!(mode(config), Mode::NativeTagged | Mode::NativeUntagged) && native != 0 {
        if vlan == native {
            return true;
        }
        if vlan == 0 {
            return false;
        }
    }
    config.trunks.is_empty() || config.trunks.contains(&vlan)
}

fn customer(config: &VlanConfig, vlan: u16) -> bool {
    config.cvlans.is_empty() || config.cvlans.contains(&vlan)
}

/// The stack of tags inside the bridge: the VLAN's own first, always there.
fn come_in(config: &VlanConfig, tags: &[Model]) -> Result<Vec<Model>, Reason> {
    let own = config.tag.unwrap_or(0);
    let (tpid, vid, pcp) = tags.first().copied().unwrap_or((0x8100, 0, 0));
    let inner = tags.get(1..).unwrap_or(&[]);
    let with = |vlan: u16| [&[(tpid, vlan, pcp)], inner].concat();
    match mode(config) {
        // Nothing has given this frame a tag: no TPID.
        Mode::Trunk if trunks(config, 0) && tags.is_empty() => Ok(vec![(0, 0, 0)]),
        Mode::Access if vid == 0 => Ok(with(own)),
        Mode::Access => Err(Reason::TaggedOnAccess),
        Mode::NativeTagged | Mode::NativeUntagged if vid == 0 => Ok(with(own)),
        Mode::Trunk | Mode::NativeTagged | Mode::NativeUntagged if trunks(config, vid) => Ok(with(vid)),
        Mode::Trunk | Mode::NativeTagged | Mode::NativeUntagged => Err(Reason::IngressVlan),
        Mode::Dot1qTunnel if customer(config, vid) => {
            Ok([&[(if config.qinq_8021q { 0x8100 } else { 0x88a8 }, own, 0)], tags].concat())
        }
        Mode::Dot1qTunnel => Err(Reason::IngressCvlan),
    }
}

fn go_out(config: &VlanConfig, stack: &[Model], as_received: &[Model]) -> Option<Vec<Model>> {
    let own = config.tag.unwrap_or(0);
    let (vlan, inner) = (stack[0].1, &stack[1..]);
    let (carried, mut out) = match mode(config) {
        Mode::Access => (vlan == own && inner.iter().all(|tag| tag.1 == 0), vec![]),
        Mode::Trunk | Mode::NativeTagged => (trunks(config, vlan), stack.to_vec()),
        Mode::NativeUntagged if vlan == own => (trunks(config, vlan), inner.to_vec()),
        Mode::NativeUntagged => (trunks(config, vlan), stack.to_vec()),
        Mode::Dot1qTunnel => (vlan == own && customer(config, inner.first().map_or(0, |tag| tag.1)), inner.to_vec()),
    };
    if !carried {
        return None;
    }
    let priority = as_received.first().map_or(0, |tag| tag.2);
    if config.priority_tags != PriorityTags::Never {
        match out.first_mut() {
            Some(tag) => tag.2 = priority,
            None if priority != 0 => out.push((0x8100, 0, priority)),
            None => {}
        }
    }
    // A tag that says nothing goes, if nothing is behind it: the only one left, or the only one that the customer sent.
    let retained = config.priority_tags == PriorityTags::Always && stack[0].0 != 0;
    let says_nothing = |tag: &Model| (tag.1, tag.2) == (0, 0);
    while !retained
        && out.last().is_some_and(says_nothing)
        && (out.len() == 1 || out.len() == 2 && as_received.len() == 1)
    {
        out.pop();
    }
    Some(out)
}

fn all_ports() -> Vec<VlanConfig> {
    let mut ports = Vec::new();
    let modes = [None, Some(Mode::Access), Some(Mode::Trunk), Some(Mode::NativeTagged), Some(Mode::NativeUntagged)];
    for priority_tags in [PriorityTags::Never, PriorityTags::IfNonzero, PriorityTags::Always] {
        for tag in [None, Some(0), Some(10)] {
            for mode in modes {
                for trunks in [vec![], vec![10, 12], vec![0, 12]] {
                    ports.push(VlanConfig { mode, tag, trunks, priority_tags, ..VlanConfig::default() });
                }
            }
            for cvlans in [vec![], vec![10], vec![0, 12]] {
                for qinq_8021q in [false, true] {
                    let (mode, cvlans) = (Some(Mode::Dot1qTunnel), cvlans.clone());
                    ports.push(VlanConfig { mode, tag, cvlans, qinq_8021q, priority_tags, ..VlanConfig::default() });
                }
            }
        }
    }
    ports
}

fn all_frames() -> Vec<Vec<Model>> {
    let vids = [(0, 0), (0, 5), (10, 0), (10, 3), (12, 0), (99, 7), (4095, 1)];
    let tags: Vec<Model> = [0x8100, 0x88a8].iter().flat_map(|tpid| vids.map(|(vid, pcp)| (*tpid, vid, pcp))).collect();
    let mut frames = vec![vec![]];
    frames.extend(tags.iter().map(|tag| vec![*tag]));
    for outer in &tags {
        frames.extend(
            [(0x8100, 0, 0), (0x8100, 0, 5), (0x8100, 10, 0), (0x88a8, 12, 2), (0x8100, 99, 0)]
                .map(|inner| vec![*outer, inner]),
        );
    }
    frames
}

/// The tags of a frame that left: up to the EtherType that the test's frames have.
fn tags_of(octets: &[u8]) -> Vec<Model> {
    let words: Vec<u16> = octets[12..].chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let pairs = words.chunks_exact(2).take_while(|pair| pair[0] != 0x88b5);
    pairs.map(|pair| (pair[0], pair[1] & 0xfff, (pair[1] >> 13) as u8)).collect()
}

#[test]
fn every_port_with_every_frame_to_every_other_port() {
    let configs = all_ports();
    let port = |(i, vlan): (usize, &VlanConfig)| {
        Some(PortSpec { device: i as u16, vlan: vlan.clone(), ..PortSpec::default() })
    };
    let scene = Scene { ports: configs.iter().enumerate().map(port).collect(), ..Scene::default() };
    let mut rig = Rig::new(scene, 2);
    let payload: Vec<u8> = (0..46).collect();
    let mut copies = 0;
    for (from, ingress) in configs.iter().enumerate() {
        for tags in all_frames() {
            let on_wire: Vec<Tag> = tags.iter().map(|(tpid, vid, pcp)| Tag::new(*tpid, *vid, *pcp)).collect();
            let before = rig.totals(from);
            let sent = frame(Mac(0xffff_ffff_ffff), Mac(0x0200_0000_0001), &on_wire, 0x88b5, &payload);
            assert!(rig.inputs[from].push(&sent));
            rig.run(Instant::default());
            let stack = come_in(ingress, &tags);
            if let Err(reason) = stack {
                let dropped = rig.totals(from).dropped(reason) - before.dropped(reason);
                assert_eq!(dropped, 1, "{tags:?} into {ingress:?}: {reason:?}");
            }
            for (to, egress) in configs.iter().enumerate() {
                let expected = match &stack {
                    Ok(stack) if to != from => go_out(egress, stack, &tags),
                    _ => None,
                };
                let left = rig.outputs[to].drain();
                let got: Vec<_> = left.iter().map(|sent| tags_of(&sent.octets)).collect();
                assert_eq!(got, expected.into_iter().collect::<Vec<_>>(), "{tags:?} from {ingress:?} to {egress:?}");
                copies += left.len();
                for sent in left {
                    assert!(sent.octets.windows(46).any(|window| window == payload), "the payload");
                }
            }
        }
    }
    assert!(copies > 100_000, "{copies} copies: the matrix is not what it was");
    rig.check();
}
