//! Who gets a frame whose destination is unknown or a group?
//!
//! For each VLAN the list of the bridge's ports that carry it, in the order of their numbers. VLANs with the same ports
//! share one list: a bridge of access ports and a few trunks has as many lists as it has access VLANs, plus one.

use crate::config::PortIndex;
use crate::limits::VLANS;
use crate::table::vlan::{Carried, VlanPolicy};
use std::collections::{BTreeMap, HashMap};

/// The ports of one bridge by VLAN.
#[derive(Clone, Debug)]
pub struct FloodTable {
    list_of: Box<[u16; VLANS]>,
    /// The first one is that of the VLANs which no port names.
    lists: Vec<Box<[PortIndex]>>,
}

impl Default for FloodTable {
    fn default() -> Self {
        Self::new([])
    }
}

impl FloodTable {
    /// The table of a bridge with these ports.
    pub fn new<'a>(ports: impl IntoIterator<Item = (PortIndex, &'a VlanPolicy)>) -> Self {
        // Ports that carry everything are kept apart, so that a thousand of them do not cost 4096 thousand steps.
        let mut everywhere = Vec::new();
        let mut members: BTreeMap<u16, Vec<PortIndex>> = BTreeMap::new();
        for (port, policy) in ports {
            let mut add = |vlan: u16| members.entry(vlan).or_default().push(port);
            match policy.carried() {
                Carried::All => everywhere.push(port),
                Carried::One(vlan) => add(vlan),
                Carried::Set(set) => set.iter().for_each(add),
            }
        }
        everywhere.sort_unstable();
        let mut lists = vec![everywhere.clone().into_boxed_slice()];
        let mut known = HashMap::new();
        let mut list_of = Box::new([0; VLANS]);
        for (vlan, own) in members {
            list_of[usize::from(vlan)] = *known.entry(own).or_insert_with_key(|own| {
                let mut list = [everywhere.as_slice(), own].concat();
                list.sort_unstable();
                lists.push(list.into());
                // At most one list a VLAN, and the first.
                (lists.len() - 1) as u16
            });
        }
        Self { list_of, lists }
    }

    /// The ports that carry `vlan`, the one that the frame came in by included.
    #[inline]
    pub fn ports(&self, vlan: u16) -> &[PortIndex] {
        let list = self.list_of[usize::from(vlan) % VLANS];
        &self.lists[usize::from(list)]
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
        assert_eq!(table.lists.len(), 3);
    }

    #[test]
    fn a_bridge_without_ports_floods_to_nobody() {
        assert!(FloodTable::default().ports(1).is_empty());
    }
}
