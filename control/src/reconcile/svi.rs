//! How do SVIs come into force? Each VRF's namespace is opened, the host ends of internal ports go there and get their
//! addresses, and the workers are told.

use super::Reconciler;
use crate::dataplane::Stuck;
use crate::kernel::{self, Address, Error, Kernel, Link, Namespace, Told, Watched};
use crate::model::hosts::{GATEWAYS, Served, link_to};
use crate::model::router::{Svi, VrfName};
use crate::model::{Interface, Model};
use futures_util::future::select_all;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The namespaces in use, and what of ours is in them.
#[derive(Default)]
pub(super) struct Namespaces {
    pub(super) open: BTreeMap<VrfName, Namespace>,
    /// Addresses of ours, by VRF and device.
    addresses: BTreeMap<(VrfName, u32), BTreeSet<Address>>,
    /// Neighbours of ours that no row has asked for yet.
    pub(super) neighbours: BTreeSet<(VrfName, u32, IpAddr)>,
    /// Interfaces to look at, though neither their rows nor links of the host tell so.
    pub(super) due: BTreeSet<String>,
    /// By interface name: why an SVI is not in force, or not wholly.
    pub(super) errors: BTreeMap<String, String>,
}

impl Namespaces {
    /// Waits for what the tables of one of them tell.
    pub(super) async fn told(&mut self) -> Result<(VrfName, Vec<Told>), Error> {
        if self.open.is_empty() {
            return std::future::pending().await;
        }
        let next = self.open.iter_mut().map(|(vrf, namespace)| {
            Box::pin(async move { namespace.routes.next().await.map(|told| (vrf.clone(), told)) })
        });
        select_all(next).await.0
    }
}

impl Reconciler {
    /// Opens the VRF's namespace, unless that was done, and reads its tables. One of its own is made if `create`.
    pub(super) async fn open_vrf(&mut self, vrf: &VrfName, create: bool) -> Result<(), String> {
        if self.namespaces.open.contains_key(vrf) {
            return Ok(());
        }
        let text = |error: Error| error.to_string();
        let mut namespace = match vrf {
            None => Namespace::own(&self.kernel).map_err(text)?,
            Some(name) => Namespace::named(name, create).await.map_err(text)?,
        };
        for (ifindex, net) in namespace.kernel.own_addresses().await.map_err(text)? {
            self.namespaces.addresses.entry((vrf.clone(), ifindex)).or_default().insert(net);
        }
        let neighbours = namespace.kernel.own_neighbours().await.map_err(text)?;
        self.namespaces.neighbours.extend(neighbours.into_iter().map(|(ifindex, ip)| (vrf.clone(), ifindex, ip)));
        self.state.borrow_mut().router.open(vrf)?;
        loop {
            let told = namespace.routes.next().await.map_err(text)?;
            self.state.borrow_mut().router.take(vrf, told);
            if !self.state.borrow().router.is_reading(vrf) {
                break;
            }
        }
        self.namespaces.open.insert(vrf.clone(), namespace);
        self.rows.opened(vrf, &self.model, &self.state.borrow().router);
        tracing::info!("routing by the tables of {}", name_of(vrf));
        Ok(())
    }

    /// Brings the SVIs among `touched` into force, and takes those away that are no more. True if the workers must know.
    pub(super) async fn apply_svis(&mut self, model: &Model, touched: &BTreeSet<String>) -> bool {
        let mut changed = false;
        for name in touched {
            self.hear_now();
            let interface = model.interfaces.get(name);
            let Some((svi, interface)) = model.svi(name).zip(interface) else {
                changed |= self.remove_svi(name).await;
                continue;
            };
            if self.state.borrow().router.interfaces.get(name).is_some_and(|old| old.vrf != svi.vrf) {
                changed |= self.remove_svi(name).await;
            }
            let applied = match self.apply_svi(name, svi, interface, model.served_by(name)).await {
                Ok((link, complaint)) => {
                    self.fail_svi(name, complaint.or_else(|| self.duplicates_of(name)));
                    self.state.borrow_mut().set_svi(name, Some((svi, link)))
                }
                Err(text) => {
                    self.listeners.remove(name);
                    self.fail_svi(name, Some(text));
                    self.state.borrow_mut().set_svi(name, None)
                }
            };
            match applied {
                Ok(applied) => changed |= applied,
                Err(text) => self.fail_svi(name, Some(text)),
            }
        }
        self.sweep_addresses().await;
        changed
    }

    /// One of them is an SVI, or was.
    pub(super) fn touches_svi(&self, touched: &BTreeSet<String>) -> bool {
        let state = self.state.borrow();
        touched.iter().any(|name| self.model.svis.contains(name) || state.router.interfaces.contains_key(name))
    }

    /// Keeps why an SVI is not in force, or not wholly, and says it once.
    fn fail_svi(&mut self, name: &str, text: Option<String>) {
        match text {
            Some(text) => {
                if self.namespaces.errors.insert(name.to_owned(), text.clone()).as_ref() != Some(&text) {
                    tracing::warn!("{name}: {text}");
                }
            }
            None => drop(self.namespaces.errors.remove(name)),
        }
    }

    /// The host end as it is now, and what of the SVI is not in force all the same.
    async fn apply_svi(
        &mut self,
        name: &str,
        svi: &Svi,
        interface: &Interface,
        served: Served,
    ) -> Result<(Link, Option<String>), String> {
        self.open_vrf(&svi.vrf, true).await?;
        let text = |error: Error| error.to_string();
        let namespace = &self.namespaces.open[&svi.vrf];
        let mut link = namespace.fetch(&self.kernel, name).await.map_err(text)?;
        let kernel = namespace.kernel.clone();
        if let Some(mac) = interface.mac.filter(|mac| *mac != link.mac) {
            kernel.set_mac(link.ifindex, mac).await.map_err(text)?;
            link.mac = mac;
        }
        if svi.vrf.is_some()
            && let Some(mtu) = self.mtus().wanted(interface).filter(|mtu| *mtu != link.mtu)
        {
            self.set_mtu(&kernel, name, &link, mtu).await?;
            link.mtu = mtu;
        }
        let wanted = addresses(svi, &served);
        let has_v6 = wanted.iter().any(|address| matches!(address.net, IpNet::V6(_)))
            || served.hosts.iter().any(IpAddr::is_ipv6);
        let proxy_arp = svi.proxy_arp.or((!served.hosts.is_empty()).then_some(served.is_alone));
        let mut complaint = namespace.forward(name, has_v6, proxy_arp).err().map(text);
        let known = self.state.borrow().router.interfaces.get(name).map(|known| known.link.ifindex);
        if known != Some(link.ifindex) && !link.admin_up {
            kernel.set_up(link.ifindex).await.map_err(text)?;
            link.admin_up = true;
        }
        let key = (svi.vrf.clone(), link.ifindex);
        let have = self.namespaces.addresses.get(&key).cloned().unwrap_or_default();
        for address in have.difference(&wanted) {
            complaint = kernel.delete_address(link.ifindex, name, *address).await.err().map(text).or(complaint);
        }
        let mut ours: BTreeSet<Address> = have.intersection(&wanted).copied().collect();
        for address in wanted.difference(&have) {
            match kernel.add_address(link.ifindex, name, *address).await {
                Ok(()) => drop(ours.insert(*address)),
                // The operator gave it that before: then it is the operator's to take away.
                Err(Error::Refused { errno: EEXIST, .. }) => {}
                Err(error) => complaint = Some(error.to_string()),
            }
        }
        self.namespaces.addresses.insert(key, ours);
        let addresses = svi.addresses.iter().map(IpNet::addr).collect();
        let stands_in = has_v6 && proxy_arp == Some(true);
        let watched = Watched { ifindex: link.ifindex, mac: link.mac, addresses, stands_in };
        complaint = self.listeners.keep(name, &svi.vrf, watched, &self.namespaces).err().or(complaint);
        Ok((link, complaint))
    }

    /// The interface is the router's no more. True if the workers must know.
    async fn remove_svi(&mut self, name: &str) -> bool {
        self.namespaces.errors.remove(name);
        self.listeners.remove(name);
        let old = self.state.borrow().router.interfaces.get(name).map(|old| (old.vrf.clone(), old.link.ifindex));
        let Some((vrf, ifindex)) = old else { return false };
        let ours = self.namespaces.addresses.remove(&(vrf.clone(), ifindex)).unwrap_or_default();
        if let Some(namespace) = self.namespaces.open.get(&vrf) {
            for net in ours {
                said(namespace.kernel.delete_address(ifindex, name, net).await);
            }
            // The host's leg comes back to the host, unless it went with its port.
            if vrf.is_some() && namespace.kernel.link(ifindex).await.is_ok_and(|link| link.name == name) {
                let host = Namespace::own(&self.kernel);
                let moved = async { host?.fetch(&self.kernel, name).await.map(drop) };
                said(moved.await);
            }
        }
        self.state.borrow_mut().set_svi(name, None).unwrap_or(true)
    }

    /// Takes addresses away that an earlier daemon put on devices that are no SVIs any more.
    async fn sweep_addresses(&mut self) {
        let state = std::rc::Rc::clone(&self.state);
        let is_svi = |(vrf, ifindex): &(VrfName, u32)| {
            state.borrow().router.interfaces.values().any(|one| (&one.vrf, one.link.ifindex) == (vrf, *ifindex))
        };
        if self.namespaces.addresses.len() <= state.borrow().router.interfaces.len() {
            return;
        }
        let strays: Vec<_> = self.namespaces.addresses.keys().filter(|key| !is_svi(key)).cloned().collect();
        for key in strays {
            let nets = self.namespaces.addresses.remove(&key).unwrap_or_default();
            let Some(namespace) = self.namespaces.open.get(&key.0) else { continue };
            for net in nets {
                said(namespace.kernel.delete_address(key.1, &format!("#{}", key.1), net).await);
            }
        }
    }

    /// Closes VRFs that no row names any more.
    pub(super) fn close_unused_vrfs(&mut self, model: &Model) {
        let svis = model.svis.iter().filter_map(|name| model.svi(name)).map(|svi| &svi.vrf);
        let routes = model.routes.values().flatten().map(|route| &route.vrf);
        let neighbours = model.neighbours.values().flatten().map(|neighbour| &neighbour.vrf);
        let used: BTreeSet<&VrfName> = svis.chain(routes).chain(neighbours).collect();
        let unused: Vec<_> = self.namespaces.open.keys().filter(|vrf| !used.contains(vrf)).cloned().collect();
        unused.iter().for_each(|vrf| self.close_vrf(vrf));
    }

    fn close_vrf(&mut self, vrf: &VrfName) {
        self.namespaces.open.remove(vrf);
        self.namespaces.addresses.retain(|(of, _), _| of != vrf);
        self.namespaces.neighbours.retain(|(of, ..)| of != vrf);
        self.state.borrow_mut().router.close(vrf);
        tracing::info!("no longer routing by the tables of {}", name_of(vrf));
    }

    /// Lets namespaces go whose name is gone or leads elsewhere. True if there were some: what was in them is to be made anew.
    pub async fn check_vrfs(&mut self) -> Result<bool, Stuck> {
        let open = self.namespaces.open.iter();
        let gone: Vec<_> = open.filter(|(_, namespace)| !namespace.is_there()).map(|(vrf, _)| vrf.clone()).collect();
        for vrf in &gone {
            tracing::warn!("{} is gone: its interfaces are made anew", name_of(vrf));
            let names: BTreeSet<String> = {
                let state = self.state.borrow();
                let of_vrf = state.router.interfaces.iter().filter(|(_, interface)| &interface.vrf == vrf);
                of_vrf.map(|(name, _)| name.clone()).collect()
            };
            for name in &names {
                self.listeners.remove(name);
                let _ = self.state.borrow_mut().set_svi(name, None);
            }
            let model = std::rc::Rc::clone(&self.model);
            self.install(&model, &names)?;
            self.close_vrf(vrf);
            self.namespaces.due.extend(names);
        }
        Ok(!gone.is_empty())
    }

    /// Tells the kernel which neighbours packets went to, so that it does not forget them.
    pub async fn keep_neighbours(&mut self) {
        let used = self.state.borrow_mut().router.take_used();
        for (vrf, ifindex, address) in used {
            if let Some(namespace) = self.namespaces.open.get(&vrf) {
                said(namespace.kernel.use_neighbour(ifindex, address).await);
            }
        }
    }

    /// Has the kernel forget the neighbours that the operator wants forgotten.
    pub(super) async fn forget_neighbours(&mut self) {
        let all = self.state.borrow_mut().router.take_to_forget();
        for (vrf, ifindex, address) in all {
            if let Some(namespace) = self.namespaces.open.get(&vrf) {
                said(namespace.kernel.delete_neighbour(ifindex, address).await);
            }
        }
    }

    /// The requests that reach the host end of an interface, and that end, where it is not in the host's namespace.
    pub(super) fn host_end_in_vrf(&self, name: &str) -> Option<(Kernel, Link)> {
        let state = self.state.borrow();
        let interface = state.router.interfaces.get(name).filter(|interface| interface.vrf.is_some())?;
        Some((self.namespaces.open.get(&interface.vrf)?.kernel.clone(), interface.link.clone()))
    }
}

/// Those of the SVI, and what the hosts that it serves need: links and gateways.
fn addresses(svi: &Svi, served: &Served) -> BTreeSet<Address> {
    let links = served.hosts.iter().filter_map(|host| if let IpAddr::V4(host) = host { Some(*host) } else { None });
    let links = links.map(|host| link_to(host, svi));
    let is_missing = |(gateway, _): &&(IpAddr, u8)| svi.addresses.iter().all(|own| own.addr() != *gateway);
    let gateways = GATEWAYS.iter().filter(|_| served.is_alone).filter(is_missing);
    let gateways = gateways.filter_map(|(gateway, len)| IpNet::new(*gateway, *len).ok());
    svi.addresses.iter().copied().chain(gateways).map(Address::from).chain(links).collect()
}

const EEXIST: i32 = 17;

fn name_of(vrf: &VrfName) -> String {
    vrf.as_ref().map_or_else(|| "the host".to_owned(), |name| format!("VRF {name}"))
}

/// What does not hinder anything.
pub(super) fn said(result: Result<(), kernel::Error>) {
    if let Err(error) = result
        && !error.is_gone()
    {
        tracing::warn!("{error}");
    }
}
