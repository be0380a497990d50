//! Which ports are in force, and what are their numbers?

use super::{Bridge, Guards, OFPORT_LOCAL, Port, State};
use crate::kernel::switch_end;
use crate::model::{Interface, Model, Wanted};
use shunt_switch::config::PortIndex;
use shunt_switch::counters::PortCounters;
use shunt_switch::limits;
use shunt_switch::table::guard::{Guard, GuardConfig};
use shunt_switch::table::vlan::VlanPolicy;
use std::collections::BTreeSet;
use std::sync::Arc;

impl State {
    /// The attached device that serves an interface, and the VLAN of it, if not all.
    fn place_of(&self, name: &str, interface: &Interface) -> Option<(String, Option<u16>)> {
        let (device, vid) = match &interface.wanted {
            Wanted::Device => (name.to_owned(), None),
            Wanted::SubPort { device, vid } => (device.clone(), Some(*vid)),
            Wanted::Internal => (switch_end(name), None),
            Wanted::Refused(_) => return None,
        };
        self.devices.get(&device)?.wish.users.include(name, vid).then_some((device, vid))
    }

    /// Brings the ports in line with the attached devices. Returns the ports that went, and bridge and number of those whose
    /// VLANs or protection changed: what was learned on either is void.
    pub(super) fn update_ports(
        &mut self,
        model: &Model,
        touched: &BTreeSet<String>,
    ) -> (Vec<Port>, Vec<(String, PortIndex)>) {
        let interfaces = || touched.iter().filter_map(|name| Some((name, model.interfaces.get(name)?)));
        let (mut removed, mut replaced) = (Vec::new(), Vec::new());
        for name in touched {
            let Some(port) = self.ports.get(name) else { continue };
            let interface = model.interfaces.get(name).filter(|interface| interface.bridge == port.bridge);
            let place = interface.and_then(|interface| self.place_of(name, interface));
            if place.is_none_or(|(device, vid)| (&device, vid) != (&port.device, port.link_vid))
                && let Some(port) = self.ports.remove(name)
            {
                if let Some(bridge) = self.bridges.get_mut(&port.bridge) {
                    bridge.ofports.remove(&port.ofport);
                }
                removed.push(port);
            }
        }
        let workers = self.dataplane.cores().len();
        for port in self.ports.values_mut().filter(|port| port.counters.len() != workers) {
            port.earlier.push(std::mem::replace(&mut port.counters, counters(workers)));
        }
        for (name, interface) in interfaces() {
            let Some((device, link_vid)) = self.place_of(name, interface) else { continue };
            let Some(bridge) = self.bridges.get_mut(&interface.bridge) else { continue };
            let mtu = self.devices[&device].mtu;
            let vlan = VlanPolicy::new(&interface.vlan);
            if let Some(port) = self.ports.get_mut(name) {
                if interface.ofport_request.is_some_and(|asked| i64::from(asked) != port.ofport) {
                    port.ofport = bridge.number_ofport(name, interface, Some(port.ofport));
                }
                port.mtu = mtu;
                if port.guard.config != interface.guard {
                    port.guard = Guards::new(&interface.guard);
                }
                let isolation = (interface.protected, interface.hosts.is_some());
                if port.vlan != vlan || (port.protected, port.hosts_only) != isolation {
                    port.vlan = vlan;
                    (port.protected, port.hosts_only) = isolation;
                    replaced.push((port.bridge.clone(), port.index));
                }
            } else if let Some(index) = self.port_numbers.take() {
                let port = Port {
                    bridge: interface.bridge.clone(),
                    index: PortIndex(index),
                    ofport: bridge.number_ofport(name, interface, None),
                    device,
                    link_vid,
                    mtu,
                    is_host_leg: interface.wanted == Wanted::Internal,
                    counters: counters(workers),
                    earlier: Vec::new(),
                    guard: Guards::new(&interface.guard),
                    vlan,
                    protected: interface.protected,
                    hosts_only: interface.hosts.is_some(),
                };
                self.ports.insert(name.clone(), port);
            } else {
                tracing::error!(
                    "port {name} is not attached: the switch already has {} ports, its limit",
                    limits::PORTS_MAX
                );
            }
        }
        (removed, replaced)
    }
}

impl Bridge {
    /// The first that is free of: the requested number, the one it has, the one it had before a restart, the lowest. The
    /// bridge's own interface is LOCAL.
    fn number_ofport(&mut self, name: &str, interface: &Interface, own: Option<i64>) -> i64 {
        if let Some(own) = own {
            self.ofports.remove(&own);
        }
        let [asked, before] = [interface.ofport_request, interface.ofport_before.0].map(|number| number.map(i64::from));
        let wishes = [asked, own, before].into_iter().flatten().chain(1..OFPORT_LOCAL);
        let local = (name == interface.bridge).then_some(OFPORT_LOCAL);
        let number = local.or_else(|| wishes.into_iter().find(|number| !self.ofports.contains(number))).unwrap_or(-1);
        self.ofports.insert(number);
        number
    }
}

fn counters(workers: usize) -> Arc<[PortCounters]> {
    (0..workers).map(|_| PortCounters::default()).collect()
}

impl Guards {
    pub(super) fn new(config: &GuardConfig) -> Self {
        let (all, exceptions) = (Guard::new(config).map(Arc::new), config.exceptions().map(Arc::new));
        Self { config: config.clone(), all, exceptions }
    }
}
