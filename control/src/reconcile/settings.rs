//! Which settings are made while everything stays attached? Cores and sleep of the workers; MTU and address of interfaces.

use super::Reconciler;
use crate::dataplane::{StartError, Stuck};
use crate::kernel::{Kernel, Link};
use crate::model::{Interface, MTU_MAX, MTU_MIN, Model, Wanted};
use shunt_switch::table::vlan::{Carried, VlanPolicy};
use std::collections::{BTreeMap, BTreeSet};

impl Reconciler {
    /// Workers on the cores that the configuration names, and how they sleep. What cannot be followed is kept for the status.
    /// Adds to `touched` whose affinity may be followed now that was not, or the other way round; true if queues must move.
    pub(super) fn apply_polling(&mut self, model: &Model, touched: &mut BTreeSet<String>) -> Result<bool, Stuck> {
        let mut state = self.state.borrow_mut();
        let polling = &model.polling;
        let before = std::mem::replace(&mut self.polling_problem, polling.problem.clone());
        let allowed = state.dataplane.allowed();
        let cores =
            polling.cores.as_ref().map(|cores| cores.iter().partition::<Vec<usize>, _>(|core| allowed.contains(core)));
        let cores = match &cores {
            Some((cores, refused)) if refused.is_empty() => cores,
            Some((cores, refused)) => {
                self.polling_problem = Some(format!(
                    "other_config:pmd-cpu-mask names cores {refused:?}, which this process may not use: choose from {allowed:?}"
                ));
                if cores.is_empty() { &self.cores } else { cores }
            }
            None => &self.cores,
        };
        match state.dataplane.set_cores(cores) {
            Ok(()) => {}
            Err(StartError::Stuck(stuck)) => return Err(stuck),
            Err(error) => self.polling_problem = Some(error.to_string()),
        }
        let sleep_max = polling.sleep_max.or(state.dataplane.tuning().sleep_max());
        state.dataplane.set_sleep_max(sleep_max);
        let moves = state.place(model);
        if moves {
            touched.extend(model.pinned.iter().cloned());
        }
        if let Some(text) = self.polling_problem.as_ref().filter(|text| before.as_ref() != Some(text)) {
            tracing::warn!("{text}");
        }
        Ok(moves)
    }

    /// MTU and `mac`. Returns the interfaces whose device has another MTU now. What cannot be followed becomes a complaint, and
    /// its interface one of those `touched`.
    pub(super) async fn apply_settings(&mut self, model: &Model, touched: &mut BTreeSet<String>) -> BTreeSet<String> {
        let mut resized = BTreeSet::new();
        // A host's leg follows the ports of its bridge.
        let legs = self.wishes.internals.keys().filter(|_| !touched.is_empty());
        let names: BTreeSet<_> = touched.iter().chain(legs).cloned().collect();
        let mtus = self.mtus();
        for name in names {
            let Some(interface) = model.interfaces.get(&name) else {
                self.complaints.remove(&name);
                continue;
            };
            let host = || self.links.by_name(&name).map(|link| (self.kernel.clone(), link.clone()));
            let applied = match self.host_end_in_vrf(&name).or_else(host) {
                Some((kernel, link)) => self.apply_to(&kernel, &name, interface, &link, &mtus).await,
                None => Ok(false),
            };
            let complaint = match applied {
                Ok(applied) => {
                    if applied {
                        resized.insert(name.clone());
                    }
                    self.problem(&name, interface)
                }
                Err(text) => Some(text),
            };
            match complaint {
                Some(text) => {
                    self.complain(&name, text);
                    touched.insert(name);
                }
                // Why an internal port's device could not be made was said before.
                None if interface.wanted != Wanted::Internal || self.state.borrow().ports.contains_key(&name) => {
                    self.complaints.remove(&name);
                }
                None => {}
            }
        }
        resized
    }

    /// The same for one interface.
    async fn apply_to(
        &self,
        kernel: &Kernel,
        name: &str,
        interface: &Interface,
        link: &Link,
        mtus: &Mtus,
    ) -> Result<bool, String> {
        let mut changed = false;
        if let Some(mtu) = mtus.wanted(interface).filter(|&mtu| mtu != link.mtu) {
            self.set_mtu(kernel, name, link, mtu).await?;
            changed = true;
        } else {
            check_mtu(link)?;
        }
        if let Some(mac) = interface.mac.filter(|&mac| mac != link.mac && interface.wanted == Wanted::Internal) {
            kernel.set_mac(link.ifindex, mac).await.map_err(|error| error.to_string())?;
        }
        Ok(changed)
    }

    /// A setting of the interface that cannot be followed.
    fn problem(&self, name: &str, interface: &Interface) -> Option<String> {
        if let (Wanted::SubPort { device, .. }, Some(mtu)) = (&interface.wanted, interface.mtu_request) {
            return Some(format!(
                "mtu_request={mtu} of {name} is not followed: a VLAN of {device} has {device}'s MTU, which `ip link set dev {device} mtu {mtu}` changes"
            ));
        }
        let no_gateway = self.model.hosts.refusal(name).cloned();
        let state = self.state.borrow();
        let queues = || {
            state.ports.get(name).and_then(|port| state.devices.get(&port.device)).map(|device| device.workers.len())
        };
        let placed = queues().and_then(|queues| state.placement().problem(name, queues, &interface.affinity));
        interface.problem.clone().or(no_gateway).or(placed)
    }

    /// The MTUs of all ports that are in force.
    pub(super) fn mtus(&self) -> Mtus {
        let mut mtus = Mtus::default();
        for port in self.state.borrow().ports.values().filter(|port| !port.is_host_leg) {
            match port.vlan.carried() {
                Carried::One(vlan) => {
                    let least = mtus.of_vlans.entry(port.bridge.clone()).or_default().entry(vlan).or_insert(port.mtu);
                    *least = port.mtu.min(*least);
                }
                _ => mtus.of_trunks.push((port.bridge.clone(), port.vlan.clone(), port.mtu)),
            }
        }
        mtus
    }

    /// Sets a device's MTU; of an internal interface, that of both ends.
    pub(super) async fn set_mtu(&self, kernel: &Kernel, name: &str, link: &Link, mtu: u32) -> Result<(), String> {
        if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
            return Err(format!("mtu_request={mtu} of {name} is out of range: set it from {MTU_MIN} to {MTU_MAX}"));
        }
        kernel.set_mtu(link.ifindex, mtu).await.map_err(|error| error.to_string())?;
        let other_end = self.state.borrow().internals.get(name).cloned();
        if let Some(end) = other_end.as_deref().and_then(|end| self.links.by_name(end)) {
            self.kernel.set_mtu(end.ifindex, mtu).await.map_err(|error| error.to_string())?;
        }
        let device = other_end.unwrap_or_else(|| name.to_owned());
        if let Some(device) = self.state.borrow_mut().devices.get_mut(&device) {
            device.mtu = mtu;
        }
        Ok(())
    }
}

/// The smallest MTU of each VLAN, so that a thousand gateways do not look at a thousand ports each.
#[derive(Default)]
pub(super) struct Mtus {
    /// Of the ports that carry one VLAN, by bridge and VLAN.
    of_vlans: BTreeMap<String, BTreeMap<u16, u32>>,
    of_trunks: Vec<(String, VlanPolicy, u32)>,
}

impl Mtus {
    /// What is asked for; of a leg of the host otherwise the smallest MTU among the bridge's attached devices, those that have a
    /// VLAN in common with it: whatever it sends then fits each of them. A container with a small MTU leaves the gateways of
    /// other VLANs alone, unlike in OVS.
    pub(super) fn wanted(&self, interface: &Interface) -> Option<u32> {
        if interface.wanted != Wanted::Internal || interface.mtu_request.is_some() {
            return interface.mtu_request;
        }
        let own = VlanPolicy::new(&interface.vlan);
        let of_vlans = self.of_vlans.get(&interface.bridge);
        let of_vlans = match own.carried() {
            Carried::One(vlan) => of_vlans.and_then(|of_vlans| of_vlans.get(&vlan)).copied(),
            own => {
                let met = of_vlans.into_iter().flatten().filter(|(vlan, _)| own.meets(&Carried::One(**vlan)));
                met.map(|(_, mtu)| *mtu).min()
            }
        };
        let meets = |(bridge, vlan, _): &&(String, VlanPolicy, u32)| {
            *bridge == interface.bridge && vlan.carried().meets(&own.carried())
        };
        self.of_trunks.iter().filter(meets).map(|(.., mtu)| *mtu).chain(of_vlans).min()
    }
}

/// Frames longer than the switch carries would be lost one by one.
pub(super) fn check_mtu(link: &Link) -> Result<(), String> {
    if link.mtu <= MTU_MAX {
        return Ok(());
    }
    Err(format!(
        "{0} has MTU {1}, and the switch carries at most {MTU_MAX}: `ip link set dev {0} mtu {MTU_MAX}`",
        link.name, link.mtu
    ))
}
