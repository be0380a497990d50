//! Does the control plane come to the same when it follows changes one by one as when it begins anew?

use proptest::prelude::*;
use serde_json::{Value, json};
use shunt_control::model::Model;
use shunt_control::plan::{Attached, Scope, Step, Wishes, plan};
use shunt_control::schema::vswitch;
use shunt_control::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// Ports and their interfaces. Some share a device, some get in each other's way.
const NAMES: [&str; 6] = ["br0", "br0.sw", "eth0", "eth0.5", "eth0.6", "v1"];

#[derive(Debug, Clone)]
enum Change {
    AddBridge(u8),
    RemoveBridge(u8),
    /// A port with so many interfaces, on a bridge.
    AddPort(usize, u8, &'static str, usize),
    /// On one more bridge.
    Share(usize, u8),
    /// From a bridge.
    RemovePort(usize, u8),
    Tag(usize, u16),
    Retype(usize, &'static str),
    Affinity(usize, bool),
    /// With a host's addresses behind it, or none.
    Hosts(usize, bool),
    /// It is an SVI, or none any more.
    Svi(usize, bool),
    Mirror(usize, u8),
    /// What the daemon itself writes.
    Number(usize, i64),
    Mask(u8),
    /// A device appears anew, as a VLAN's or as another, or vanishes.
    Link(usize, Option<bool>),
}

fn change() -> impl Strategy<Value = Change> {
    let kind = || prop_oneof![4 => Just("system"), 2 => Just("internal"), 1 => Just("gre")];
    let (name, bridge) = (0..NAMES.len(), 0..2_u8);
    prop_oneof![
        3 => bridge.clone().prop_map(Change::AddBridge),
        1 => bridge.clone().prop_map(Change::RemoveBridge),
        8 => (name.clone(), bridge.clone(), kind(), prop_oneof![5 => Just(1_usize), 1 => Just(2_usize)])
            .prop_map(|(name, bridge, kind, count)| Change::AddPort(name, bridge, kind, count)),
        1 => (name.clone(), bridge.clone()).prop_map(|(name, bridge)| Change::Share(name, bridge)),
        4 => (name.clone(), bridge.clone()).prop_map(|(name, bridge)| Change::RemovePort(name, bridge)),
        2 => (name.clone(), 0..3_u16).prop_map(|(name, tag)| Change::Tag(name, tag)),
        2 => (name.clone(), kind()).prop_map(|(name, kind)| Change::Retype(name, kind)),
        1 => (name.clone(), any::<bool>()).prop_map(|(name, on)| Change::Affinity(name, on)),
        2 => (name.clone(), any::<bool>()).prop_map(|(name, on)| Change::Hosts(name, on)),
        2 => (name.clone(), any::<bool>()).prop_map(|(name, on)| Change::Svi(name, on)),
        1 => (name.clone(), bridge).prop_map(|(name, bridge)| Change::Mirror(name, bridge)),
        1 => (name.clone(), 1..4_i64).prop_map(|(name, number)| Change::Number(name, number)),
        1 => (1..4_u8).prop_map(Change::Mask),
        3 => (name, proptest::option::of(any::<bool>())).prop_map(|(name, kind)| Change::Link(name, kind)),
    ]
}

fn uuid(table: u8, number: usize) -> Value {
    json!(["uuid", id(table, number).to_string()])
}

fn id(table: u8, number: usize) -> Uuid {
    Uuid::from_u128(u128::from(table) << 64 | number as u128)
}

/// The operations of a change; those that the rules between rows refuse change nothing.
fn operations(change: &Change) -> Vec<Value> {
    let insert =
        |table: &str, uuid: Value, row: Value| json!({"op": "insert", "table": table, "uuid": uuid[1], "row": row});
    let mutate = |bridge: u8, column: &str, how: &str, value: Value| {
        json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", format!("br{bridge}")]],
            "mutations": [[column, how, value]]})
    };
    let root = |how: &str, bridge: u8| {
        json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["bridges", how, uuid(0, bridge.into())]]})
    };
    let update = |table: &str, name: usize, row: Value| json!({"op": "update", "table": table, "where": [["name", "==", NAMES[name]]], "row": row});
    match *change {
        Change::AddBridge(bridge) => {
            vec![
                insert("Bridge", uuid(0, bridge.into()), json!({"name": format!("br{bridge}")})),
                root("insert", bridge),
            ]
        }
        Change::RemoveBridge(bridge) => vec![root("delete", bridge)],
        Change::AddPort(name, bridge, kind, count) => {
            let (places, mut operations) = (name..name + count, Vec::new());
            for place in places.clone() {
                let row = json!({"name": NAMES[place % NAMES.len()], "type": kind});
                operations.push(insert("Interface", uuid(2, place % NAMES.len()), row));
            }
            let interfaces: Vec<_> = places.map(|place| uuid(2, place % NAMES.len())).collect();
            let row = json!({"name": NAMES[name], "interfaces": ["set", interfaces]});
            operations.push(insert("Port", uuid(1, name), row));
            operations.push(mutate(bridge, "ports", "insert", uuid(1, name)));
            operations
        }
        Change::Share(name, bridge) => vec![mutate(bridge, "ports", "insert", uuid(1, name))],
        Change::RemovePort(name, bridge) => vec![mutate(bridge, "ports", "delete", uuid(1, name))],
        Change::Tag(name, tag) => vec![update("Port", name, json!({"tag": tag}))],
        Change::Retype(name, kind) => vec![update("Interface", name, json!({"type": kind}))],
        Change::Affinity(name, on) => {
            let pairs = if on { vec![["pmd-rxq-affinity", "0:1"]] } else { vec![] };
            vec![update("Interface", name, json!({"other_config": ["map", pairs]}))]
        }
        Change::Hosts(name, on) => {
            let pairs = if on {
                vec![["host-addresses".to_owned(), format!("10.0.0.{name},2001:db8::{name}")]]
            } else {
                vec![]
            };
            vec![update("Interface", name, json!({"options": ["map", pairs]}))]
        }
        Change::Svi(name, true) => {
            let row = json!({"name": NAMES[name], "addresses": format!("10.77.{name}.1/24")});
            vec![insert("SVI", uuid(4, name), row), update("Interface", name, json!({"svi": uuid(4, name)}))]
        }
        Change::Svi(name, false) => vec![update("Interface", name, json!({"svi": ["set", []]}))],
        Change::Mirror(name, bridge) => {
            let row = json!({"name": "m", "select_src_port": uuid(1, name)});
            vec![insert("Mirror", uuid(3, name), row), mutate(bridge, "mirrors", "insert", uuid(3, name))]
        }
        Change::Mask(mask) => {
            let map = json!(["map", [["pmd-cpu-mask", mask.to_string()]]]);
            vec![json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"other_config": map}})]
        }
        Change::Number(..) | Change::Link(..) => vec![],
    }
}

/// A device: the kernel's number, and whether it is a VLAN's.
type Devices = BTreeMap<String, (u32, bool)>;

/// The control plane without a kernel.
struct World {
    store: Store,
    model: Model,
    wishes: Wishes,
    attached: Attached,
    devices: Devices,
    last_ifindex: u32,
    touched_links: BTreeSet<String>,
    /// Devices that vanished before they could be attached: to be tried again.
    failed: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        let (store, model, wishes) = (Store::in_memory(vswitch::schema()), Model::default(), Wishes::default());
        let (attached, devices) = (Attached::default(), Devices::new());
        let (touched_links, failed) = (BTreeSet::new(), BTreeSet::new());
        World { store, model, wishes, attached, devices, last_ifindex: 0, touched_links, failed }
    }

    fn link(&mut self, name: &str, device: Option<bool>) {
        self.last_ifindex += 1;
        match device {
            Some(is_vlan) => drop(self.devices.insert(name.to_owned(), (self.last_ifindex, is_vlan))),
            None => drop(self.devices.remove(name)),
        }
        self.touched_links.insert(name.to_owned());
    }

    fn apply(&mut self, change: &Change) {
        match *change {
            Change::Number(name, number) => {
                let number = shunt_control::datum::Datum::from(number);
                self.store.write([("Interface", id(2, name), "ofport", number)]);
            }
            Change::Link(name, device) => self.link(NAMES[name], device),
            _ => drop(self.store.transact(&operations(change), Duration::ZERO, &|_| false)),
        }
    }

    /// One pass of the reconciler, compared with one that knows nothing of the past.
    fn follow(&mut self) {
        let (rows, links) = (self.store.take_touched(), std::mem::take(&mut self.touched_links));
        let is_plain = |name: &str| self.devices.get(name).is_some_and(|(_, is_vlan)| !is_vlan);
        let mut before = self.model.clone();
        let changed = self.model.update(self.store.database(), &rows, &links, is_plain);
        let anew = Model::read(self.store.database(), is_plain);
        assert_eq!(self.model, anew);
        let names = before.interfaces.keys().chain(anew.interfaces.keys());
        let different = names.filter(|name| before.interfaces.get(*name) != anew.interfaces.get(*name));
        assert!(different.clone().all(|name| changed.interfaces.contains(name)), "{changed:?}");
        (before.next_cfg, before.stats_interval_ms) = (anew.next_cfg, anew.stats_interval_ms);
        assert_eq!(changed.forwarding, before != anew);

        let switch_end = |name: &str| format!("{name}.sw");
        let was = self.wishes.clone();
        let mut scope = self.wishes.update(&self.model, changed.interfaces, &links, switch_end);
        scope.devices.append(&mut self.failed);
        assert_eq!(self.wishes, Wishes::of(&self.model, switch_end));
        let refused = was.refused.keys().chain(self.wishes.refused.keys());
        let otherwise = refused.filter(|name| was.refused.get(*name) != self.wishes.refused.get(*name));
        assert!(otherwise.clone().all(|name| scope.interfaces.contains(name)), "{scope:?}");

        let all = Scope {
            devices: self.attached.devices.keys().chain(self.wishes.devices.keys()).cloned().collect(),
            interfaces: self.attached.internals.iter().chain(self.wishes.internals.keys()).cloned().collect(),
        };
        let index = |name: &str| self.devices.get(name).map(|(ifindex, _)| *ifindex);
        let steps = plan(&self.attached, &self.wishes, &scope, index);
        assert_eq!(steps, plan(&self.attached, &self.wishes, &all, index));
        steps.iter().for_each(|step| self.take(step));
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Detach(name) => drop(self.attached.devices.remove(name)),
            Step::RemoveInternal(name) => {
                self.attached.internals.remove(name);
                [name.clone(), format!("{name}.sw")].iter().for_each(|name| self.link(name, None));
            }
            Step::EnsureInternal(name) => {
                self.attached.internals.insert(name.clone());
                for name in [name.clone(), format!("{name}.sw")] {
                    if !self.devices.contains_key(&name) {
                        self.link(&name, Some(false));
                    }
                }
            }
            Step::Attach(name) => match self.devices.get(name) {
                Some((ifindex, _)) => {
                    let wish = self.wishes.devices[name].clone();
                    self.attached.devices.insert(name.clone(), (*ifindex, wish));
                }
                None => drop(self.failed.insert(name.clone())),
            },
            Step::Claim(name) => {
                let users = self.wishes.devices[name].users.clone();
                self.attached.devices.get_mut(name).expect("attached").1.users = users;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn following_changes_is_beginning_anew(
        rounds in proptest::collection::vec(proptest::collection::vec(change(), 1..4), 1..24)
    ) {
        let mut world = World::new();
        for changes in rounds {
            changes.iter().for_each(|change| world.apply(change));
            world.follow();
        }
    }
}
