//! How do a bridge's multicast snooping settings reach the workers?

use super::Bridge;
use crate::model;
use shunt_switch::config::{self, PortIndex};
use shunt_switch::table::mdb::Mdb;
use shunt_switch::time::Instant;
use std::sync::Arc;

/// Snooping in force on a bridge.
pub struct Snooping {
    /// What has been learned.
    pub mdb: Arc<Mdb>,
    ageing_s: u64,
}

impl Snooping {
    /// Forgets who has not been heard of for too long.
    pub fn age(&self, now: Instant) {
        self.mdb.age(now, self.ageing_s);
    }
}

impl Bridge {
    /// Turns snooping on or off, or changes its settings. What was learned stays while it is on.
    pub(super) fn update_snooping(&mut self, wanted: Option<&model::Snooping>) {
        let Some(wanted) = wanted else {
            self.snooping = None;
            return;
        };
        let new =
            || Snooping { mdb: Arc::new(Mdb::new(wanted.groups, super::random_seed())), ageing_s: wanted.ageing_s };
        let snooping = self.snooping.get_or_insert_with(new);
        snooping.ageing_s = wanted.ageing_s;
        if snooping.mdb.capacity() != wanted.groups {
            snooping.mdb = Arc::new(snooping.mdb.resized(wanted.groups));
        }
    }

    /// What the workers are told. `ports` are the bridge's.
    pub(super) fn compile_snooping(
        &self,
        wanted: &model::Snooping,
        ports: &[(PortIndex, &model::Interface)],
    ) -> Option<config::Snooping> {
        let those = |flag: fn(&model::Interface) -> bool| {
            ports.iter().filter(|(_, interface)| flag(interface)).map(|(index, _)| *index).collect()
        };
        Some(config::Snooping {
            mdb: Arc::clone(&self.snooping.as_ref()?.mdb),
            flood_unregistered: wanted.flood_unregistered,
            flood_ports: those(|interface| interface.mcast_flood),
            report_ports: those(|interface| interface.mcast_flood_reports),
        })
    }

    /// Forgets all that was snooped on a port.
    pub(super) fn forget_listeners(&self, port: PortIndex) {
        if let Some(snooping) = &self.snooping {
            snooping.mdb.flush_port(port);
        }
    }
}
