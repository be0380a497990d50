//! Which steps lead from what is attached to what the configuration asks for? Pure: values in, steps out.

use crate::model::{Interface, Model, Wanted};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What one network device is needed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Who uses it.
    pub users: Users,
    /// `options:n_rxq`: how many queues it should have; as many as it has if unset.
    pub n_rxq: Option<u32>,
    /// `options:n_rxq_desc`: entries of its rings.
    pub n_rxq_desc: Option<u32>,
    /// It is said to be an uplink when it is attached.
    pub uplink: bool,
    /// `options:xdp-mode`.
    pub xdp_mode: String,
    /// Frames are tagged on it. Of an attached device: it is certain that it does not hide tags from us.
    pub tags: bool,
}

impl Wish {
    /// What was attached for `self` does for `other` too, but for the users.
    fn serves(&self, other: &Wish) -> bool {
        let settings = |wish: &Wish| (wish.n_rxq, wish.n_rxq_desc);
        settings(self) == settings(other) && self.xdp_mode == other.xdp_mode && (self.tags || !other.tags)
    }
}

/// Which interfaces share a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// One interface takes all frames.
    Whole(String),
    /// Each interface takes one VLAN; the rest goes to the kernel.
    Vlans(BTreeMap<u16, String>),
}

impl Users {
    /// The interfaces' names.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Users::Whole(name) => vec![name],
            Users::Vlans(vlans) => vlans.values().map(String::as_str).collect(),
        }
    }

    /// True if `interface` has the whole device, or this VLAN of it.
    pub fn include(&self, interface: &str, vid: Option<u16>) -> bool {
        match (self, vid) {
            (Users::Whole(name), None) => name == interface,
            (Users::Vlans(vlans), Some(vid)) => vlans.get(&vid).is_some_and(|name| name == interface),
            _ => false,
        }
    }
}

/// The devices that a configuration needs, and the interfaces that cannot be served.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// By device name.
    pub devices: BTreeMap<String, Wish>,
    /// Internal interfaces: name to the name of the veth end that the switch attaches to.
    pub internals: BTreeMap<String, String>,
    /// Interface name to what is wrong with it and what to do.
    pub refused: BTreeMap<String, String>,
    /// By device name: the interfaces that ask for it.
    asking: BTreeMap<String, BTreeSet<String>>,
    /// The device that each interface asks for.
    device_of: HashMap<String, String>,
}

impl Wishes {
    /// Reads the devices out of the configuration; `switch_end` names the switch's end of an internal interface's pair.
    pub fn of(model: &Model, switch_end: impl Fn(&str) -> String) -> Self {
        let mut wishes = Self::default();
        wishes.update(model, model.interfaces.keys().cloned().collect(), &BTreeSet::new(), switch_end);
        wishes
    }

    /// Follows the model, in which at most the interfaces `touched` are different, and the links of these names. Returns what
    /// to plan for: them, who asks for such a link, and who is refused now and was not, or the other way round.
    pub fn update(
        &mut self,
        model: &Model,
        touched: BTreeSet<String>,
        links: &BTreeSet<String>,
        switch_end: impl Fn(&str) -> String,
    ) -> Scope {
        let mut devices = BTreeSet::new();
        for name in &touched {
            self.refused.remove(name);
            self.internals.remove(name);
            if let Some(device) = self.device_of.remove(name) {
                self.asking.entry(device.clone()).or_default().remove(name);
                devices.insert(device);
            }
            let Some(interface) = model.interfaces.get(name) else { continue };
            let device = match &interface.wanted {
                Wanted::Device => name.clone(),
                Wanted::SubPort { device, .. } => device.clone(),
                Wanted::Internal => {
                    let device = switch_end(name);
                    self.internals.insert(name.clone(), device.clone());
                    device
                }
                Wanted::Refused(why) => {
                    self.refused.insert(name.clone(), why.clone());
                    continue;
                }
            };
            self.asking.entry(device.clone()).or_default().insert(name.clone());
            self.device_of.insert(name.clone(), device.clone());
            devices.insert(device);
        }
        let mut interfaces = touched;
        for device in &devices {
            self.settle(model, device, &mut interfaces);
        }
        interfaces.extend(self.concerned(links).cloned());
        devices.extend(links.iter().cloned());
        Scope { devices, interfaces }
    }

    /// The interfaces that ask for one of these devices.
    pub fn concerned<'a>(&'a self, links: &'a BTreeSet<String>) -> impl Iterator<Item = &'a String> {
        links.iter().filter_map(|name| self.asking.get(name)).flatten()
    }

    /// Who gets the device, of all that ask for it?
    fn settle(&mut self, model: &Model, device: &str, touched: &mut BTreeSet<String>) {
        self.devices.remove(device);
        let Some(names) = self.asking.get(device).filter(|names| !names.is_empty()) else {
            self.asking.remove(device);
            return;
        };
        let wish = |interface: &Interface, users, tags| Wish {
            users,
            n_rxq: interface.n_rxq,
            n_rxq_desc: interface.n_rxq_desc,
            uplink: interface.uplink || matches!(interface.wanted, Wanted::SubPort { .. }),
            xdp_mode: interface.xdp_mode.clone(),
            tags,
        };
        let vid_of = |interface: &Interface| match interface.wanted {
            Wanted::SubPort { vid, .. } => Some(vid),
            _ => None,
        };
        let asking = || names.iter().map(|name| (name, &model.interfaces[name]));
        let whole = asking().rfind(|(_, interface)| vid_of(interface).is_none());
        let sub_ports = asking().filter_map(|(name, interface)| Some((vid_of(interface)?, name)));
        if let Some((name, interface)) = whole {
            self.devices
                .insert(device.to_owned(), wish(interface, Users::Whole(name.clone()), interface.carries_tags()));
            for (vid, name) in sub_ports {
                let why = format!(
                    "{device} is attached whole as a port of its own, so VLAN {vid} of it cannot be a port: \
                     remove port {device}, or use a trunk port with tag={vid} ports beside it"
                );
                if self.refused.insert(name.clone(), why).is_none() {
                    touched.insert(name.clone());
                }
            }
        } else if let Some((_, first)) = asking().next() {
            let users = Users::Vlans(sub_ports.map(|(vid, name)| (vid, name.clone())).collect());
            self.devices.insert(device.to_owned(), wish(first, users, true));
            touched.extend(names.iter().filter(|name| self.refused.remove(*name).is_some()).cloned());
        }
    }

    /// The device that an interface asks for, if it can be asked for.
    pub fn device_of(&self, interface: &str) -> Option<&str> {
        self.device_of.get(interface).map(String::as_str)
    }
}

/// What is attached, as far as planning needs to know.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Attached {
    /// By device name: the kernel's index at the time of attaching, and what it was attached for.
    pub devices: BTreeMap<String, (u32, Wish)>,
    /// Internal interfaces whose pair exists.
    pub internals: BTreeSet<String>,
}

/// One step. Steps that take away come first, so that what is taken away can be used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Give the device back to the kernel.
    Detach(String),
    /// Delete the veth pair of an internal interface.
    RemoveInternal(String),
    /// Make the veth pair of an internal interface, or adopt the one that is there.
    EnsureInternal(String),
    /// Attach to the device.
    Attach(String),
    /// Change which frames of an attached device are taken.
    Claim(String),
}

/// What to plan for: the rest is as it is wanted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Names of devices.
    pub devices: BTreeSet<String>,
    /// Names of interfaces, which may be internal ones.
    pub interfaces: BTreeSet<String>,
}

/// The steps from `attached` to `wishes` within `scope`. `index` gives the kernel's index of a device name, if there is such a
/// device.
pub fn plan(attached: &Attached, wishes: &Wishes, scope: &Scope, index: impl Fn(&str) -> Option<u32>) -> Vec<Step> {
    let (mut gone, mut attaching) = (Vec::new(), Vec::new());
    for name in &scope.devices {
        let wish = wishes.devices.get(name);
        let kept = attached
            .devices
            .get(name)
            .filter(|(ifindex, was)| index(name) == Some(*ifindex) && wish.is_some_and(|wish| was.serves(wish)));
        if attached.devices.contains_key(name) && kept.is_none() {
            gone.push(Step::Detach(name.clone()));
        }
        let Some(wish) = wish else { continue };
        let is_internal = || matches!(&wish.users, Users::Whole(user) if wishes.internals.get(user) == Some(name));
        match kept {
            None if index(name).is_some() || is_internal() => attaching.push(Step::Attach(name.clone())),
            Some((_, was)) if was.users != wish.users => attaching.push(Step::Claim(name.clone())),
            _ => {}
        }
    }
    let mut internals = Vec::new();
    for name in &scope.interfaces {
        let there = attached.internals.contains(name);
        match wishes.internals.get(name) {
            None if there => gone.push(Step::RemoveInternal(name.clone())),
            Some(device) if !there || index(name).is_none() || index(device).is_none() => {
                internals.push(Step::EnsureInternal(name.clone()));
            }
            _ => {}
        }
    }
    [gone, internals, attaching].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wish(vids: &[u16], n_rxq: Option<u32>) -> Wish {
        let users = match vids {
            [] => Users::Whole("port".into()),
            vids => Users::Vlans(vids.iter().map(|&vid| (vid, format!("port.{vid}"))).collect()),
        };
        Wish { users, n_rxq, n_rxq_desc: None, uplink: false, xdp_mode: "best-effort".into(), tags: true }
    }

    fn wishes() -> impl Strategy<Value = Wishes> {
        let one = ("[a-d]", proptest::collection::vec(1u16..4, 0..3), proptest::option::of(1u32..3));
        let internal = proptest::collection::btree_set("[x-z]", 0..3);
        (proptest::collection::vec(one, 0..4), internal).prop_map(|(devices, internals)| {
            let mut wishes = Wishes::default();
            for (name, vids, n_rxq) in devices {
                wishes.devices.insert(name, wish(&vids, n_rxq));
            }
            for name in internals {
                wishes.internals.insert(name.clone(), format!("{name}.sw"));
                let users = Users::Whole(name.clone());
                wishes.devices.insert(format!("{name}.sw"), Wish { users, ..wish(&[], None) });
            }
            wishes
        })
    }

    type World = BTreeMap<String, u32>;

    /// All that may be different.
    fn everything(attached: &Attached, wishes: &Wishes) -> Scope {
        Scope {
            devices: attached.devices.keys().chain(wishes.devices.keys()).cloned().collect(),
            interfaces: attached.internals.iter().chain(wishes.internals.keys()).cloned().collect(),
        }
    }

    fn plan_all(attached: &Attached, wishes: &Wishes, index: impl Fn(&str) -> Option<u32>) -> Vec<Step> {
        plan(attached, wishes, &everything(attached, wishes), index)
    }

    /// What applying the steps does, on a model of the world.
    fn apply(attached: &mut Attached, world: &mut World, wishes: &Wishes, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Detach(name) => drop(attached.devices.remove(name)),
                Step::RemoveInternal(name) => {
                    assert!(attached.internals.remove(name), "{name} removed without having been there");
                    assert!(!attached.devices.contains_key(&format!("{name}.sw")), "{name} removed while attached");
                    world.remove(name);
                    world.remove(&format!("{name}.sw"));
                }
                Step::EnsureInternal(name) => {
                    attached.internals.insert(name.clone());
                    for name in [name.clone(), format!("{name}.sw")] {
                        let next = world.values().max().unwrap_or(&0) + 1;
                        world.entry(name).or_insert(next);
                    }
                }
                Step::Attach(name) => {
                    let old = attached.devices.insert(name.clone(), (world[name], wishes.devices[name].clone()));
                    assert_eq!(old, None, "{name} attached twice");
                }
                Step::Claim(name) => {
                    attached.devices.get_mut(name).expect("attached").1.users = wishes.devices[name].users.clone()
                }
            }
        }
    }

    proptest! {
        /// From any configuration to any other, with devices that come and go between: after the steps everything that can
        /// be attached is, nothing else is, and planning again finds nothing to do.
        #[test]
        fn plan_reaches_its_goal(
            rounds in proptest::collection::vec((wishes(), proptest::collection::btree_map("[a-d]", 1u32..100, 0..4)), 1..5)
        ) {
            let (mut attached, mut internals_world) = (Attached::default(), World::new());
            for (wishes, devices) in rounds {
                let mut world: World = internals_world.clone();
                world.extend(devices);
                let steps = plan_all(&attached, &wishes, |name| world.get(name).copied());
                apply(&mut attached, &mut world, &wishes, &steps);
                for (name, wish) in &wishes.devices {
                    let expected = world.get(name).map(|&index| (index, wish.clone()));
                    prop_assert_eq!(attached.devices.get(name).cloned(), expected, "{}", name);
                }
                prop_assert!(attached.devices.keys().all(|name| wishes.devices.contains_key(name)));
                prop_assert!(attached.internals.iter().eq(wishes.internals.keys()));
                prop_assert_eq!(plan_all(&attached, &wishes, |name| world.get(name).copied()), vec![]);
                internals_world = world.into_iter().filter(|(name, _)| name.starts_with(['x', 'y', 'z'])).collect();
            }
        }
    }

    #[test]
    fn a_port_that_may_hide_tags_is_attached_anew_only_to_carry_them() {
        let mut wishes = Wishes::default();
        wishes.devices.insert("veth1".into(), Wish { tags: false, ..wish(&[], None) });
        let hides = Wish { tags: false, ..wish(&[], None) };
        let attached = Attached { devices: [("veth1".into(), (2, hides))].into(), ..Attached::default() };
        assert_eq!(plan_all(&attached, &wishes, |_| Some(2)), vec![]);
        wishes.devices.insert("veth1".into(), wish(&[], None));
        let again = vec![Step::Detach("veth1".into()), Step::Attach("veth1".into())];
        assert_eq!(plan_all(&attached, &wishes, |_| Some(2)), again);
    }

    #[test]
    fn changed_claims_do_not_detach() {
        let mut wishes = Wishes::default();
        wishes.devices.insert("eth0".into(), wish(&[181, 182], None));
        let attached = Attached { devices: [("eth0".into(), (2, wish(&[181], None)))].into(), ..Attached::default() };
        assert_eq!(plan_all(&attached, &wishes, |_| Some(2)), vec![Step::Claim("eth0".into())]);
    }
}
