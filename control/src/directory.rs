//! Whose are the counters? What other threads need beside the counters themselves to tell of the switch.
//!
//! Workers write counters and anybody may read them; which block belongs to which port only the control thread knows. It keeps
//! that here, in step with the switch. A reader copies the references, under a lock held for microseconds, and reads the
//! counters after that: neither waits for the other, and no worker for either.

use crate::dataplane::Watched;
use crate::routing::forward::Sizes;
use crate::sflow;
use shunt_switch::counters::{PortCounters, PortTotals};
use shunt_switch::table::fdb::Fdb;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What there is to read.
#[derive(Default)]
pub struct Directory(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    ports: BTreeMap<String, Arc<Port>>,
    /// What was counted in blocks that are gone.
    retired: PortTotals,
    rest: Rest,
}

/// A port, or a device that several ports share, and where it is counted.
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its bridge's name; empty for a shared device.
    pub bridge: String,
    /// Blocks of the workers, and one of what the kernel dropped if the device is all its own.
    pub blocks: Vec<Arc<[PortCounters]>>,
    /// By queue, the worker that polls it; and octets of memory for frames. None of a port that shares its device.
    pub device: Option<(Vec<usize>, u64)>,
}

/// What is not by port.
#[derive(Clone, Default)]
pub struct Rest {
    /// FDBs by bridge.
    pub bridges: Vec<(String, Arc<Fdb>)>,
    /// Those with and without a core.
    pub workers: Vec<Watched>,
    /// By VRF: empty for the host's namespace.
    pub vrfs: Vec<(String, Arc<Sizes>)>,
    /// Octets that the FIB takes.
    pub fib_bytes: u64,
    /// Snapshots so far.
    pub snapshots: u64,
    /// What collectors were told.
    pub sflow: sflow::Totals,
}

/// References to all counters at one time.
pub struct View {
    /// By name.
    pub ports: Vec<Arc<Port>>,
    /// What was counted on ports that are gone.
    pub retired: PortTotals,
    /// What is not by port.
    pub rest: Rest,
}

impl Directory {
    /// Takes in what changed: these ports, each as it is now or gone, and all else. Nobody counts in what is gone any more.
    pub fn update(&self, ports: impl IntoIterator<Item = (String, Option<Port>)>, rest: Rest) {
        let mut contents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, port) in ports {
            let port = port.map(Arc::new);
            let old = match port.clone() {
                Some(port) => contents.ports.insert(name, port),
                None => contents.ports.remove(&name),
            };
            let stays = |block| port.iter().flat_map(|port| &port.blocks).any(|other| Arc::ptr_eq(other, block));
            for block in old.iter().flat_map(|old| &old.blocks).filter(|block| !stays(block)) {
                block.iter().for_each(|counters| contents.retired.add(counters));
            }
        }
        contents.rest = rest;
    }

    /// How many workers there were at the last update.
    pub fn workers(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rest.workers.len()
    }

    /// What there is now.
    pub fn view(&self) -> View {
        let contents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ports = contents.ports.values().cloned().collect();
        View { ports, retired: contents.retired.clone(), rest: contents.rest.clone() }
    }
}

impl Port {
    /// All that was counted on it.
    pub fn totals(&self) -> PortTotals {
        let mut totals = PortTotals::default();
        self.blocks.iter().flat_map(|block| block.iter()).for_each(|block| totals.add(block));
        totals
    }
}
