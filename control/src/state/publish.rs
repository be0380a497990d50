//! How do other threads learn what there is to count? The directory follows the state.

use super::{State, owner};
use crate::directory::{Port, Rest};
use std::collections::BTreeSet;

impl State {
    /// Tells readers of counters of these ports and devices, and of all that is not by port.
    pub(super) fn publish(&self, mut names: BTreeSet<String>) {
        if self.directory.workers() != self.dataplane.cores().len() {
            // Every port has new blocks.
            names.extend(self.ports.keys().chain(self.devices.keys()).cloned());
        }
        let shared: Vec<_> = names.iter().filter_map(|name| Some(self.ports.get(name)?.device.clone())).collect();
        names.extend(shared);
        let ports = names.into_iter().map(|name| {
            let port = self.published(&name);
            (name, port)
        });
        self.directory.update(ports, self.rest());
    }

    /// Tells readers of what changes without a snapshot: routes, and what came with them.
    pub fn publish_tables(&self) {
        self.publish(BTreeSet::new());
    }

    fn rest(&self) -> Rest {
        let bridges = self.bridges.iter().map(|(name, bridge)| (name.clone(), bridge.fdb.clone()));
        let vrfs =
            self.router.vrfs.iter().map(|(name, vrf)| (name.clone().unwrap_or_default(), vrf.forwarding.sizes()));
        Rest {
            bridges: bridges.collect(),
            workers: self.dataplane.watched(),
            vrfs: vrfs.collect(),
            fib_bytes: self.router.fib_bytes(),
            snapshots: self.generation,
            sflow: self.sflow.totals,
        }
    }

    /// A port, or a device with statistics of its own, as [`State::statistics`] counts them.
    fn published(&self, name: &str) -> Option<Port> {
        let port = self.ports.get(name);
        let device = port.map_or(name, |port| &port.device);
        let device = self.devices.get(device).filter(|known| owner(device, known) == name);
        let mut blocks = Vec::new();
        if let Some(port) = port {
            blocks.extend(port.earlier.iter().chain([&port.counters]).cloned());
        }
        if let Some(device) = device {
            blocks.push(device.kernel.clone());
        }
        (!blocks.is_empty()).then(|| Port {
            name: name.to_owned(),
            bridge: port.map(|port| port.bridge.clone()).unwrap_or_default(),
            blocks,
            device: device.map(|device| (device.workers.clone(), device.frame_bytes)),
        })
    }
}
