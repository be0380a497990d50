//! How does what is attached become the workers' snapshot?
//!
//! Ports and devices are compiled when something about them changes. A snapshot is a copy of all, and what bridges and
//! mirrors say of them.

use super::{Device, Port, State};
use crate::model::{Interface, Model};
use crate::plan::Users;
use shunt_switch::config::{self, DeviceIndex, Ingress, PortIndex, Snapshot};
use shunt_switch::limits;
use shunt_switch::table::flood::FloodTable;
use shunt_switch::table::mirror::{self, MirrorConfig};
use shunt_switch::table::vlan::VlanPolicy;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Ports and devices as the workers know them, but for what bridges and mirrors say of them.
#[derive(Default)]
pub(super) struct Compiled {
    devices: Vec<Option<config::Device>>,
    ports: Vec<Option<config::Port>>,
    /// By number.
    bridges: Vec<String>,
    workers: usize,
    /// Names of devices to compile though no port of theirs is touched.
    stale: BTreeSet<String>,
}

impl Compiled {
    /// The device has been given to other workers.
    pub(super) fn outdate_device(&mut self, name: &str) {
        self.stale.insert(name.to_owned());
    }

    /// The device is gone.
    pub(super) fn forget_device(&mut self, index: DeviceIndex) {
        put(&mut self.devices, index.0, None);
    }
}

impl State {
    /// Compiles the ports that are `touched`, and what they are to their devices.
    pub(super) fn recompile(&mut self, model: &Model, touched: &BTreeSet<String>, removed: &[Port]) {
        let mut stale = std::mem::take(&mut self.compiled.stale);
        for port in removed {
            put(&mut self.compiled.ports, port.index.0, None);
            stale.insert(port.device.clone());
        }
        let workers = self.dataplane.cores().len();
        let is_same = self.bridges.keys().eq(&self.compiled.bridges) && self.compiled.workers == workers;
        let ports: Vec<_> = if is_same {
            touched.iter().filter_map(|name| self.ports.get_key_value(name)).collect()
        } else {
            (self.compiled.bridges, self.compiled.workers) = (self.bridges.keys().cloned().collect(), workers);
            self.ports.iter().collect()
        };
        for (name, port) in ports {
            let number = self.compiled.bridges.binary_search(&port.bridge);
            if let (Some(device), Some(interface), Ok(bridge)) =
                (self.devices.get(&port.device), model.interfaces.get(name), number)
            {
                let mut compiled = compile_port(port, device, interface, bridge as u16);
                compiled.interface = self.router.index_of(name);
                put(&mut self.compiled.ports, port.index.0, Some(compiled));
            }
            stale.insert(port.device.clone());
        }
        for device in stale.iter().filter_map(|name| self.devices.get(name)) {
            let compiled = self.compile_device(device);
            put(&mut self.compiled.devices, device.index.0, Some(compiled));
        }
    }

    pub(super) fn compile(&self, model: &Model, mirrors: &BTreeMap<String, Vec<MirrorConfig>>) -> Snapshot {
        let (devices, ports) = (self.compiled.devices.clone(), self.compiled.ports.clone());
        let mut snapshot = Snapshot { generation: self.generation, devices, ports, ..Snapshot::default() };
        for (name, port) in &self.ports {
            if let Some(Some(compiled)) = snapshot.ports.get_mut(usize::from(port.index.0)) {
                compiled.captures = self.captures.bits(name, &port.bridge);
            }
        }
        let own_mirrors = |name| mirrors.get(name).map_or(&[][..], Vec::as_slice);
        let mirrors: Vec<_> = (0..)
            .zip(self.bridges.keys())
            .map(|(number, name)| mirror::compile(&mut snapshot.ports, number, own_mirrors(name)))
            .collect();
        let mut policies: Vec<Vec<(PortIndex, &VlanPolicy)>> = vec![Vec::new(); self.bridges.len()];
        for (index, port) in (0..).zip(&snapshot.ports) {
            if let Some(port) = port.as_ref().filter(|port| !port.mirror.is_output)
                && let Some(of_bridge) = policies.get_mut(usize::from(port.bridge))
            {
                of_bridge.push((PortIndex(index), &port.vlan));
            }
        }
        let floods: Vec<_> = policies.into_iter().map(FloodTable::new).collect();
        for (((name, bridge), mirrors), flood) in self.bridges.iter().zip(mirrors).zip(floods) {
            let wanted = &model.bridges[name];
            snapshot.bridges.push(config::Bridge {
                fdb: Arc::clone(&bridge.fdb),
                flood,
                flood_vlans: (!wanted.flood_vlans.is_empty())
                    .then(|| Box::new(wanted.flood_vlans.iter().copied().collect())),
                forward_bpdu: wanted.forward_bpdu,
                mirrors,
                limits_macs: false,
                snooping: wanted.snooping.as_ref().and_then(|wanted| {
                    let own = self.ports.iter().filter(|(_, port)| port.bridge == *name);
                    let own = own.filter_map(|(name, port)| Some((port.index, model.interfaces.get(name)?)));
                    bridge.compile_snooping(wanted, &own.collect::<Vec<_>>())
                }),
            });
        }
        for (name, port) in self.ports.iter().filter(|_| self.sflow.is_on()) {
            if let Some(Some(compiled)) = snapshot.ports.get_mut(usize::from(port.index.0)) {
                compiled.sampling = self.sflow.sampling_of(name);
            }
        }
        snapshot.router = self.router.compile(&self.ports);
        snapshot.mark();
        snapshot
    }

    fn compile_device(&self, device: &Device) -> config::Device {
        let index_of = |interface: &String| self.ports.get(interface).map_or(PortIndex::NONE, |port| port.index);
        let ingress = match &device.wish.users {
            Users::Whole(name) => Ingress::Port(index_of(name)),
            Users::Vlans(vlans) => {
                let mut table = [PortIndex::NONE; limits::VLANS];
                vlans.iter().for_each(|(&vid, name)| table[usize::from(vid)] = index_of(name));
                Ingress::Vlans(Arc::new(table))
            }
        };
        let home = device.workers.first().copied().unwrap_or(0) as u16;
        config::Device {
            ingress,
            partial_checksums: device.is_veth,
            home,
            offload: None,
            guarded: false,
            mirrored: false,
            tapped: false,
        }
    }
}

#[cfg(test)]
impl State {
    /// All that is kept of ports and devices for the workers.
    pub(crate) fn described(&self) -> Vec<String> {
        let ports = self.ports.iter().map(|(name, port)| {
            let place = (&port.bridge, port.index, port.ofport, &port.device, port.link_vid);
            format!("{name}: {place:?} mtu {} leg {}", port.mtu, port.is_host_leg)
        });
        let compiled = (0..).zip(&self.compiled.ports).filter_map(|(index, port): (u16, _)| {
            let port = port.as_ref()?;
            let is = (
                port.bridge,
                port.device,
                port.link_vid,
                &port.vlan,
                port.mtu,
                port.protected,
                port.mirror,
                port.interface,
            );
            let guard = port.guard.as_ref().map(Arc::as_ptr);
            Some(format!("{index}: {is:?} {} {guard:?} {:?}", port.complete_checksums, port.counters.as_ptr()))
        });
        let devices = (0..).zip(&self.compiled.devices).filter_map(|(index, device): (u16, _)| {
            let device = device.as_ref()?;
            let ingress = match &device.ingress {
                Ingress::Port(port) => format!("{port:?}"),
                Ingress::Vlans(ports) | Ingress::Punted(ports) => {
                    let taken = (0..).zip(ports.iter()).filter(|(_, port)| **port != PortIndex::NONE);
                    format!("{:?}", taken.collect::<Vec<(u16, _)>>())
                }
            };
            Some(format!("device {index}: {ingress} {} {}", device.partial_checksums, device.home))
        });
        ports.chain(compiled).chain(devices).collect()
    }
}

fn compile_port(port: &Port, device: &Device, interface: &Interface, bridge: u16) -> config::Port {
    let is_uplink = !device.is_veth || port.link_vid.is_some() || interface.uplink;
    config::Port {
        bridge,
        device: device.index,
        link_vid: port.link_vid,
        vlan: port.vlan.clone(),
        mtu: port.mtu,
        complete_checksums: is_uplink || !device.attachment.tx_checksum(),
        protected: port.protected,
        hosts_only: port.hosts_only,
        guard: port.guard.all.clone(),
        exceptions: port.guard.exceptions.clone(),
        mirror: mirror::Role::default(),
        sampling: None,
        captures: 0,
        interface: None,
        counters: Arc::clone(&port.counters),
    }
}

pub(super) fn put<T>(list: &mut Vec<Option<T>>, index: u16, value: Option<T>) {
    let index = usize::from(index);
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    list[index] = value;
}
