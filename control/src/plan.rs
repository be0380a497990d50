//! Which steps lead from what is attached to what the configuration asks for? Pure: values in, steps out.

use crate::model::{Interface, Model, Wanted};
use std::collections::{BTreeMap, BTreeSet};

/// What one network device is needed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Who uses it.
    pub users: Users,
    /// `options:n_rxq`: how many queues it should have; as many as it has if unset.
    pub n_rxq: Option<u32>,
    /// `options:xdp-mode`.
    pub xdp_mode: String,
    /// Frames are tagged on it. Of an attached device: it is certain that it does not hide tags from us.
    pub tags: bool,
}

impl Wish {
    /// What was attached for `self` does for `other` too, but for the users.
    fn serves(&self, other: &Wish) -> bool {
        (self.n_rxq, &self.xdp_mode) == (other.n_rxq, &other.xdp_mode) && (self.tags || !other.tags)
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
}

impl Wishes {
    /// Reads the devices out of the configuration; `switch_end` names the switch's end of an internal interface's pair.
    pub fn of(model: &Model, switch_end: impl Fn(&str) -> String) -> Self {
        let mut wishes = Self::default();
        // Whole devices first: a sub-port of a device that is taken whole is the one to refuse.
        for (name, interface) in &model.interfaces {
            match &interface.wanted {
                Wanted::Device => wishes.whole(name.clone(), name, interface),
                Wanted::Internal => {
                    let device = switch_end(name);
                    wishes.internals.insert(name.clone(), device.clone());
                    wishes.whole(device, name, interface);
                }
                Wanted::SubPort { .. } => {}
                Wanted::Refused(why) => drop(wishes.refused.insert(name.clone(), why.clone())),
            }
        }
        for (name, interface) in &model.interfaces {
            if let Wanted::SubPort { device, vid } = &interface.wanted {
                wishes.sub_port(device, *vid, name, interface);
            }
        }
        wishes
    }

    fn whole(&mut self, device: String, name: &str, interface: &Interface) {
        let wish = Wish {
            users: Users::Whole(name.to_owned()),
            n_rxq: interface.n_rxq,
            xdp_mode: interface.xdp_mode.clone(),
            tags: interface.carries_tags(),
        };
        self.devices.insert(device, wish);
    }

    fn sub_port(&mut self, device: &str, vid: u16, name: &str, interface: &Interface) {
        let wish = self.devices.entry(device.to_owned()).or_insert_with(|| Wish {
            users: Users::Vlans(BTreeMap::new()),
            n_rxq: interface.n_rxq,
            xdp_mode: interface.xdp_mode.clone(),
            tags: true,
        });
        match &mut wish.users {
            Users::Vlans(vlans) => drop(vlans.insert(vid, name.to_owned())),
            Users::Whole(_) => {
                let why = format!(
                    "{device} is attached whole as a port of its own, so VLAN {vid} of it cannot be a port: \
                     remove port {device}, or use a trunk port with tag={vid} ports beside it"
                );
                self.refused.insert(name.to_owned(), why);
            }
        }
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

/// The steps from `attached` to `wishes`. `index` gives the kernel's index of a device name, if there is such a device.
pub fn plan(attached: &Attached, wishes: &Wishes, index: impl Fn(&str) -> Option<u32>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut kept = BTreeSet::new();
    for (name, (ifindex, was)) in &attached.devices {
        match wishes.devices.get(name) {
            Some(wish) if index(name) == Some(*ifindex) && was.serves(wish) => {
                kept.insert(name);
            }
            _ => steps.push(Step::Detach(name.clone())),
        }
    }
    let unwanted = attached.internals.iter().filter(|name| !wishes.internals.contains_key(*name));
    steps.extend(unwanted.cloned().map(Step::RemoveInternal));
    let missing = wishes.internals.iter().filter(|(name, device)| {
        !attached.internals.contains(*name) || index(name).is_none() || index(device).is_none()
    });
    steps.extend(missing.map(|(name, _)| Step::EnsureInternal(name.clone())));
    for (name, wish) in &wishes.devices {
        let is_internal = || wishes.internals.values().any(|device| device == name);
        if !kept.contains(name) {
            if index(name).is_some() || is_internal() {
                steps.push(Step::Attach(name.clone()));
            }
        } else if attached.devices[name].1.users != wish.users {
            steps.push(Step::Claim(name.clone()));
        }
    }
    steps
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
        Wish { users, n_rxq, xdp_mode: "best-effort".into(), tags: true }
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
                wishes.devices.insert(format!("{name}.sw"), wish(&[], None));
            }
            wishes
        })
    }

    type World = BTreeMap<String, u32>;

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
                let steps = plan(&attached, &wishes, |name| world.get(name).copied());
                apply(&mut attached, &mut world, &wishes, &steps);
                for (name, wish) in &wishes.devices {
                    let expected = world.get(name).map(|&index| (index, wish.clone()));
                    prop_assert_eq!(attached.devices.get(name).cloned(), expected, "{}", name);
                }
                prop_assert!(attached.devices.keys().all(|name| wishes.devices.contains_key(name)));
                prop_assert!(attached.internals.iter().eq(wishes.internals.keys()));
                prop_assert_eq!(plan(&attached, &wishes, |name| world.get(name).copied()), vec![]);
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
        assert_eq!(plan(&attached, &wishes, |_| Some(2)), vec![]);
        wishes.devices.insert("veth1".into(), wish(&[], None));
        let again = vec![Step::Detach("veth1".into()), Step::Attach("veth1".into())];
        assert_eq!(plan(&attached, &wishes, |_| Some(2)), again);
    }

    #[test]
    fn changed_claims_do_not_detach() {
        let mut wishes = Wishes::default();
        wishes.devices.insert("eth0".into(), wish(&[181, 182], None));
        let attached = Attached { devices: [("eth0".into(), (2, wish(&[181], None)))].into(), ..Attached::default() };
        assert_eq!(plan(&attached, &wishes, |_| Some(2)), vec![Step::Claim("eth0".into())]);
    }
}
