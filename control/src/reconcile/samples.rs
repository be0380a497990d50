//! What is told to sFlow's collectors now?

use super::Reconciler;
use crate::model::Model;
use crate::sflow::wire::{PortName, Record};
use crate::sflow::{Hosts, counters};
use crate::state::State;
use std::rc::Rc;
use std::time::Instant;

impl Reconciler {
    /// Has agents know the devices and addresses that there are; true if one has another address now, so that the workers must
    /// be told.
    pub(super) async fn refresh_hosts(&mut self, model: &Model) -> bool {
        if model.bridges.values().all(|bridge| bridge.sflow.is_none()) {
            return false;
        }
        let links = self.links.iter().map(|link| (link.name.clone(), link.ifindex)).collect();
        let addresses = match self.kernel.addresses().await {
            Ok(addresses) => addresses.into_iter().map(|(ifindex, address)| (ifindex, address.net.addr())).collect(),
            Err(error) => {
                tracing::warn!("sFlow: {error}");
                return false;
            }
        };
        self.state.borrow_mut().sflow.set_hosts(model, Hosts { links, addresses })
    }

    /// Addresses may have come and gone without anything else. True if agents must follow.
    pub async fn check_agents(&mut self) -> bool {
        let model = Rc::clone(&self.model);
        self.refresh_hosts(&model).await
    }

    /// Takes what the workers told, adds the counters that are due, and sends it all.
    pub fn export_samples(&mut self) {
        let now = Instant::now();
        self.load.look(now);
        let state = &mut *self.state.borrow_mut();
        state.sflow.collect(&mut state.dataplane, &state.router);
        for (bridge, source, names) in state.sflow.take_due(now) {
            if let Some(port) = counters::of_ports(state, &self.links, source, &names) {
                let name = PortName(&port.name);
                let mut records: Vec<&dyn Record> = vec![&port.interface, &port.ethernet];
                records.extend(port.vlan.as_ref().map(|vlan| vlan as &dyn Record));
                records.push(&name);
                state.sflow.counted(&bridge, source, &records);
            } else if names.is_empty() {
                self.tell_of_itself(state, &bridge, source);
            }
        }
        state.sflow.send(now);
    }

    fn tell_of_itself(&self, state: &mut State, bridge: &str, source: crate::sflow::wire::Source) {
        let (processor, tables) = (self.load.processor(), counters::tables(state));
        state.sflow.counted(bridge, source, &[&processor, &tables]);
    }
}
