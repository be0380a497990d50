//! Who gets a frame whose destination is unknown or a group?
//!
//! For each VLAN the list of the bridge's ports that carry it, in the order of their numbers. VLANs with the same ports
//! share one list: a bridge of access ports and a few trunks has as many lists as it has access VLANs, plus one.

use crate::config::PortIndex;
use crate::limits::VLANS;
use crate::table::vlan::{Carried, VlanPolicy};
use std::ops::Range;

/// The ports of one bridge by VLAN.
#[derive(Clone, Debug)]
pub struct FloodTable {
    /// Where in `members` a VLAN's list is.
    list_of: Box<[Range<u32>; VLANS]>,
    members: Vec<PortIndex>,
}

impl Default for FloodTable {
    fn default() -> Self {
        Self::new([])
    }
}

/// A list in the making: that of `shorter` and one port more. VLANs that are at the same node have had the same ports.
struct Node {
    shorter: usize,
    port: PortIndex,
    /// The newest list that is this one and a port more, and that port.
    longer: Option<(PortIndex, usize)>,
    /// Where it is written.
    list: Option<Range<u32>>,
}

impl FloodTable {
    /// The table of a bridge with these ports.
    pub fn new<'a>(ports: impl IntoIterator<Item = (PortIndex, &'a VlanPolicy)>) -> Self {
        // Ports that carry everything are kept apart, so that a thousand of them do not cost 4096 thousand steps.
        let mut everywhere = Vec::new();
        let node = |shorter, port| Node { shorter, port, longer: None, list: None };
        let mut nodes = vec![node(0, PortIndex::NONE)];
        let mut node_of = [0; VLANS];
        for (port, policy) in ports {
            let mut add = |vlan: u16| {
                let at = &mut node_of[usize::from(vlan) % VLANS];
                let longer = nodes[*at].longer.filter(|(newest, _)| *newest == port).map(|(_, place)| place);
                *at = longer.unwrap_or_else(|| {
                    let place = nodes.len();
                    nodes[*at].longer = Some((port, place));
                    nodes.push(node(*at, port));
                    place
                });
            };
            match policy.carried() {
                Carried::All => everywhere.push(port),
                Carried::One(vlan) => add(vlan),
                Carried::Set(set) => set.iter().for_each(add),
            }
        }
        let mut members = Vec::new();
        let list_of = node_of.map(|at| {
            let mut write = || {
                let start = members.len();
                members.extend_from_slice(&everywhere);
                let mut rest = at;
                while rest != 0 {
                    members.push(nodes[rest].port);
                    rest = nodes[rest].shorter;
                }
                members[start..].sort_unstable();
                start as u32..members.len() as u32
            };
            let list = nodes[at].list.clone().unwrap_or_else(&mut write);
            nodes[at].list = Some(list.clone());
            list
        });
        Self { list_of: Box::new(list_of), members }
    }

    /// The ports that carry `vlan`, the one that the frame came in by included.
    #[inline]
    pub fn ports(&self, vlan: u16) -> &[PortIndex] {
        let Range { start, end } = self.list_of[usize::from(vlan) % VLANS];
        &self.members[start as usize..end as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::vlan::VlanConfig;

    fn policy(tag: Option<u16>, trunks: &[u16]) -> VlanPolicy {
        VlanPolicy::new(&VlanConfig { tag, trunks: trunks.to_vec(), ..VlanConfig::default() })
    }

    #[test]
    fn each_vlan_has_the_ports_that_carry_it() {
        let policies = [policy(None, &[]), policy(Some(10), &[]), policy(None, &[10, 20]), policy(Some(10), &[])];
        let table = FloodTable::new(policies.iter().enumerate().map(|(i, p)| (PortIndex(i as u16 * 2), p)));
        let ports = |vlan| table.ports(vlan).iter().map(|port| port.0).collect::<Vec<_>>();
        assert_eq!(ports(10), [0, 2, 4, 6]);
        assert_eq!(ports(20), [0, 4]);
        assert_eq!(ports(0), [0]);
        assert_eq!(ports(4095), [0]);
        assert_eq!(table.members.len(), 1 + 4 + 2, "VLANs with the same ports share a list");
    }

    #[test]
    fn a_bridge_without_ports_floods_to_nobody() {
        assert!(FloodTable::default().ports(1).is_empty());
    }
}
