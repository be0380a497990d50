//! Which settings are made while everything stays attached? Cores and sleep of the workers; MTU and address of interfaces.

use super::Reconciler;
use crate::dataplane::{StartError, Stuck};
use crate::kernel::Link;
use crate::model::{Interface, MTU_MAX, MTU_MIN, Model, Wanted};
use shunt_ffi::cpu;

impl Reconciler {
    /// Workers on the cores that the configuration names, and how they sleep. What cannot be followed is kept for the status.
    pub(super) fn apply_polling(&mut self, model: &Model) -> Result<(), Stuck> {
        let mut state = self.state.borrow_mut();
        let polling = &model.polling;
        let before = std::mem::replace(&mut self.polling_problem, polling.problem.clone());
        let allowed = cpu::allowed();
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
        state.place(model);
        if let Some(text) = self.polling_problem.as_ref().filter(|text| before.as_ref() != Some(text)) {
            tracing::warn!("{text}");
        }
        Ok(())
    }

    /// MTU and `mac`; true if an attached device's MTU changed. What cannot be followed becomes a complaint.
    pub(super) async fn apply_settings(&mut self, model: &Model) -> bool {
        let mut changed = false;
        for (name, interface) in &model.interfaces {
            let applied = match self.links.by_name(name).cloned() {
                Some(link) => self.apply_to(name, interface, &link, model).await,
                None => Ok(false),
            };
            let complaint = match applied {
                Ok(applied) => {
                    changed |= applied;
                    self.problem(name, interface)
                }
                Err(text) => Some(text),
            };
            match complaint {
                Some(text) => self.complain(name, text),
                // Why an internal port's device could not be made was said before; a port of a device comes with this pass.
                None if interface.wanted != Wanted::Internal || self.state.borrow().ports.contains_key(name) => {
                    self.complaints.remove(name);
                }
                None => {}
            }
        }
        self.complaints.retain(|name, _| model.interfaces.contains_key(name));
        changed
    }

    /// The same for one interface.
    async fn apply_to(&self, name: &str, interface: &Interface, link: &Link, model: &Model) -> Result<bool, String> {
        let mut changed = false;
        if let Some(mtu) = self.wanted_mtu(interface, model).filter(|&mtu| mtu != link.mtu) {
            self.set_mtu(name, link, mtu).await?;
            changed = true;
        } else {
            check_mtu(link)?;
        }
        if let Some(mac) = interface.mac.filter(|&mac| mac != link.mac && interface.wanted == Wanted::Internal) {
            self.kernel.set_mac(link.ifindex, mac).await.map_err(|error| error.to_string())?;
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
        let state = self.state.borrow();
        let queues = || {
            state.ports.get(name).and_then(|port| state.devices.get(&port.device)).map(|device| device.workers.len())
        };
        let placed = queues().and_then(|queues| state.placement().problem(name, queues, &interface.affinity));
        interface.problem.clone().or(placed)
    }

    /// What is asked for; of the host's leg otherwise the smallest MTU among the bridge's attached devices, as in OVS: whatever
    /// it sends then fits each of them.
    fn wanted_mtu(&self, interface: &Interface, model: &Model) -> Option<u32> {
        if interface.wanted != Wanted::Internal || interface.mtu_request.is_some() {
            return interface.mtu_request;
        }
        let state = self.state.borrow();
        let others = state.ports.iter().filter(|(name, port)| {
            port.bridge == interface.bridge
                && model.interfaces.get(*name).is_some_and(|other| other.wanted != Wanted::Internal)
        });
        others.filter_map(|(_, port)| state.devices.get(&port.device)).map(|device| device.mtu).min()
    }

    /// Sets a device's MTU; of an internal interface, that of both ends.
    async fn set_mtu(&self, name: &str, link: &Link, mtu: u32) -> Result<(), String> {
        if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
            return Err(format!("mtu_request={mtu} of {name} is out of range: set it from {MTU_MIN} to {MTU_MAX}"));
        }
        self.kernel.set_mtu(link.ifindex, mtu).await.map_err(|error| error.to_string())?;
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
