//! How do static routes and neighbours get into the kernel, and stay there?
//!
//! What there is is compared with the rows by prefix, when a row changes and when the kernel tells of the prefix: one that the
//! kernel dropped with a device is put there again when the device is back, and one that nobody wants any more goes.

use super::svi::said;
use super::{RETRY, Reconciler};
use crate::kernel::{Error, METRIC_V6, Namespace, PROTOCOL, WantedHop, WantedRoute};
use crate::model::Model;
use crate::model::router::{StaticNeighbour, StaticRoute, VrfName};
use crate::routing::rib::{Hops, Kind, NextHop, Rib, Route, Table};
use crate::state::router::{Router, Touched};
use crate::status::RowError;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use uuid::Uuid;

/// What is known of the rows besides what they say.
#[derive(Default)]
pub(super) struct StaticRows {
    /// Where a route is looked for, as its row said last.
    places: BTreeMap<Uuid, (VrfName, IpNet)>,
    by_prefix: BTreeMap<(VrfName, IpNet), BTreeSet<Uuid>>,
    /// Routes that the kernel took, as they were then.
    routes: BTreeMap<Uuid, StaticRoute>,
    /// Neighbours that it took, with the number of the device.
    neighbours: BTreeMap<Uuid, (StaticNeighbour, u32)>,
    /// Why a row that makes sense is not in force.
    errors: BTreeMap<Uuid, String>,
    tried_at: Option<Instant>,
    due_prefixes: BTreeSet<(VrfName, IpNet)>,
    due_neighbours: BTreeSet<Uuid>,
    /// Rows whose `error` is to be written.
    said: BTreeSet<(&'static str, Uuid)>,
}

impl StaticRows {
    /// These rows came, changed or went.
    pub(super) fn changed(&mut self, model: &Model, routes: BTreeSet<Uuid>, neighbours: BTreeSet<Uuid>) {
        for uuid in &routes {
            self.errors.remove(uuid);
            if !model.routes.contains_key(uuid) {
                self.routes.remove(uuid);
            }
            if let Some(place) = self.places.remove(uuid) {
                if let Some(others) = self.by_prefix.get_mut(&place) {
                    others.remove(uuid);
                    if others.is_empty() {
                        self.by_prefix.remove(&place);
                    }
                }
                self.due_prefixes.insert(place);
            }
            if let Some(Ok(route)) = model.routes.get(uuid) {
                let place = (route.vrf.clone(), route.prefix);
                self.by_prefix.entry(place.clone()).or_default().insert(*uuid);
                self.places.insert(*uuid, place.clone());
                self.due_prefixes.insert(place);
            }
        }
        self.said.extend(routes.into_iter().map(|uuid| ("Route", uuid)));
        self.due_neighbours.extend(neighbours);
    }

    /// A VRF was opened: what is in its tables of an earlier daemon's, and the rows for it, are to be looked at.
    pub(super) fn opened(&mut self, vrf: &VrfName, model: &Model, router: &Router) {
        let of_vrf = self.by_prefix.keys().filter(|(of, _)| of == vrf).cloned();
        self.due_prefixes.extend(of_vrf);
        let strays = router
            .vrfs
            .get(vrf)
            .into_iter()
            .flat_map(|known| known.rib.prefixes().filter(|prefix| ours(&known.rib, prefix).next().is_some()));
        self.due_prefixes.extend(strays.map(|prefix| (vrf.clone(), *prefix)));
        let neighbours = model.neighbours.iter().filter(|(_, row)| row.as_ref().is_ok_and(|row| &row.vrf == vrf));
        self.due_neighbours.extend(neighbours.map(|(uuid, _)| *uuid));
    }

    /// Takes over what the kernel told of a VRF, as far as it concerns rows.
    fn heard(&mut self, vrf: &VrfName, touched: &Touched, model: &Model, router: &Router) {
        let known = router.vrfs.get(vrf);
        let places =
            touched.prefixes.iter().filter(|_| !self.by_prefix.is_empty()).map(|prefix| (vrf.clone(), *prefix));
        let places: Vec<_> = places.filter(|place| self.by_prefix.contains_key(place)).collect();
        for place in places {
            if known.is_some_and(|known| !self.steps(&known.rib, model, &place).is_none()) {
                self.due_prefixes.insert(place);
            }
        }
        for (uuid, (row, ifindex)) in self.neighbours.iter().filter(|_| !touched.neighbours.is_empty()) {
            let key = (*ifindex, row.address);
            let is_same = || {
                let mac = known.and_then(|known| known.forwarding.neighbour(key.0, key.1));
                mac.is_some_and(|mac| mac.octets() == row.mac)
            };
            if &row.vrf == vrf && touched.neighbours.contains(&key) && !is_same() {
                self.due_neighbours.insert(*uuid);
            }
        }
        // A link that came up, or an address, may be what a route waits for.
        let is_local = |prefix: &IpNet| prefix.prefix_len() == prefix.max_prefix_len();
        if !touched.devices.is_empty() || touched.prefixes.iter().any(is_local) {
            self.retry();
        }
    }

    /// Has what failed tried again, unless that has just been done.
    fn retry(&mut self) {
        if self.errors.is_empty() || self.tried_at.is_some_and(|at| at.elapsed() < super::SETTLE) {
            return;
        }
        self.tried_at = Some(Instant::now());
        for uuid in std::mem::take(&mut self.errors).into_keys() {
            match self.places.get(&uuid) {
                Some(place) => drop(self.due_prefixes.insert(place.clone())),
                None => drop(self.due_neighbours.insert(uuid)),
            }
        }
    }

    fn steps<'r, 'm>(&self, rib: &'r Rib, model: &'m Model, place: &(VrfName, IpNet)) -> Steps<'r, 'm> {
        let mut steps = Steps::default();
        let rows = self.by_prefix.get(place).into_iter().flatten();
        let rows: Vec<_> = rows.filter_map(|uuid| Some((*uuid, model.routes.get(uuid)?.as_ref().ok()?))).collect();
        let wants = |route: &Route| rows.iter().any(|(_, row)| metric_of(row) == route.metric);
        steps.gone.extend(ours(rib, &place.1).filter(|route| !wants(route)));
        for (n, (uuid, row)) in rows.iter().enumerate() {
            if rows[..n].iter().any(|(_, other)| metric_of(other) == metric_of(row)) {
                steps.twice.push((*uuid, row));
                continue;
            }
            let there = ours(rib, &place.1).find(|route| route.metric == metric_of(row));
            let is_known = self.routes.get(uuid) == Some(row);
            if !there.is_some_and(|route| is_same(route, row, is_known)) && !self.errors.contains_key(uuid) {
                steps.wanted.push((*uuid, row, there.is_some()));
            }
        }
        steps
    }

    /// There are rows to be looked at.
    pub(super) fn is_due(&self) -> bool {
        !self.due_prefixes.is_empty() || !self.due_neighbours.is_empty()
    }

    /// Some row is to be tried again.
    pub(super) fn has_failures(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The errors of the rows that were looked at since the last call.
    pub(super) fn take_said(&mut self, model: &Model) -> Vec<RowError> {
        let said = std::mem::take(&mut self.said).into_iter();
        let said = said.map(|(table, uuid)| {
            let refused = match table {
                "Route" => model.routes.get(&uuid).and_then(|row| row.as_ref().err()),
                _ => model.neighbours.get(&uuid).and_then(|row| row.as_ref().err()),
            };
            (table, uuid, refused.or(self.errors.get(&uuid)).cloned())
        });
        said.collect()
    }

    fn settle(&mut self, table: &'static str, uuid: Uuid, error: Option<String>) {
        self.said.insert((table, uuid));
        match error {
            Some(text) => {
                tracing::debug!("{table} {uuid}: {text}");
                self.errors.insert(uuid, text);
                self.tried_at.get_or_insert_with(Instant::now);
            }
            None => drop(self.errors.remove(&uuid)),
        }
    }
}

/// From what there is for a prefix to what rows ask for.
#[derive(Default)]
struct Steps<'r, 'm> {
    gone: Vec<&'r Route>,
    /// Whether there is one of ours to replace.
    wanted: Vec<(Uuid, &'m StaticRoute, bool)>,
    /// Rows of a prefix and metric that another row has.
    twice: Vec<(Uuid, &'m StaticRoute)>,
}

impl Steps<'_, '_> {
    fn is_none(&self) -> bool {
        self.gone.is_empty() && self.wanted.is_empty()
    }
}

/// As the kernel keeps it.
fn metric_of(row: &StaticRoute) -> u32 {
    match row.prefix {
        IpNet::V6(_) if row.metric == 0 => METRIC_V6,
        _ => row.metric,
    }
}

/// What we put there, or a daemon before us.
fn ours<'a>(rib: &'a Rib, prefix: &IpNet) -> impl Iterator<Item = &'a Route> {
    rib.routes(prefix).filter(|route| route.protocol == PROTOCOL && route.table == Table::Main)
}

/// Is what there is what the row asks for? If the kernel took the row as it is (`is_known`), next hops are only counted: it
/// has filled in what the row leaves open.
fn is_same(route: &Route, row: &StaticRoute, is_known: bool) -> bool {
    let Hops::Own(have) = &route.hops else { return false };
    if route.kind != row.kind {
        return false;
    }
    if row.kind != Kind::Unicast {
        return true;
    }
    let like = |hop: &crate::routing::text::NextHop| {
        have.iter().any(|one: &NextHop| one.gateway == hop.via && (one.weight == hop.weight || have.len() == 1))
    };
    // Of an earlier daemon's: devices are known by name only, so that a row that names one is put there again.
    have.len() == row.hops.len() && (is_known || row.hops.iter().all(|hop| hop.dev.is_none() && like(hop)))
}

impl Reconciler {
    /// Takes over what the kernel told; true if a reconciliation is wanted because of it.
    pub fn take_routes(&mut self) -> bool {
        for (vrf, told) in std::mem::take(&mut self.heard) {
            let touched = self.state.borrow_mut().router.take(&vrf, told);
            let state = self.state.borrow();
            self.rows.heard(&vrf, &touched, &self.model, &state.router);
            if vrf.is_some() {
                let names = touched.devices.iter().filter_map(|ifindex| state.router.interface_of(&vrf, *ifindex));
                self.namespaces.due.extend(names.map(str::to_owned));
            }
        }
        self.rows.is_due() || !self.namespaces.due.is_empty()
    }

    /// Puts static routes and neighbours into the kernel and takes those away that are no more.
    pub(super) async fn apply_rows(&mut self, model: &Model) {
        if self.rows.tried_at.is_some_and(|at| at.elapsed() >= RETRY) {
            self.rows.retry();
        }
        let due = std::mem::take(&mut self.rows.due_prefixes);
        for place in &due {
            self.apply_prefix(model, place).await;
            self.hear_now();
        }
        for uuid in std::mem::take(&mut self.rows.due_neighbours) {
            self.apply_neighbour(model, uuid).await;
        }
        for (vrf, ifindex, address) in std::mem::take(&mut self.namespaces.neighbours) {
            if let Some(namespace) = self.namespaces.open.get(&vrf) {
                said(namespace.kernel.delete_neighbour(ifindex, address).await);
            }
        }
        self.hear_now();
    }

    /// Takes what the kernel has told of our own changes, so that the routes are in force when this returns.
    pub(super) fn hear_now(&mut self) {
        for (vrf, namespace) in &mut self.namespaces.open {
            match namespace.routes.now() {
                Ok(told) if !told.is_empty() => self.heard.push((vrf.clone(), told)),
                Ok(_) => {}
                Err(error) => tracing::warn!("{error}"),
            }
        }
        self.take_routes();
    }

    /// Takes all routes and neighbours of ours out of the kernel.
    pub(super) async fn remove_rows(&mut self) {
        let state = std::rc::Rc::clone(&self.state);
        for (vrf, namespace) in &self.namespaces.open {
            let routes: Vec<_> = {
                let state = state.borrow();
                let known = state.router.vrfs.get(vrf).into_iter();
                let all = known.flat_map(|known| known.rib.prefixes().flat_map(|prefix| ours(&known.rib, prefix)));
                all.map(|route| (route.prefix, route.metric, route.kind)).collect()
            };
            for (prefix, metric, kind) in routes {
                said(namespace.kernel.delete_route(prefix, metric, kind).await);
            }
        }
        for (row, ifindex) in std::mem::take(&mut self.rows.neighbours).into_values() {
            if let Some(namespace) = self.namespaces.open.get(&row.vrf) {
                said(namespace.kernel.delete_neighbour(ifindex, row.address).await);
            }
        }
    }

    /// Opens the VRF of a row; an SVI has to make it.
    async fn open_for(&mut self, vrf: &VrfName) -> Result<(), String> {
        match vrf {
            Some(name) if !self.namespaces.open.contains_key(vrf) && !Namespace::exists(name) => Err(format!(
                "there is no VRF {name}: make an SVI in it, or its network namespace (`ip netns add {name}`)"
            )),
            _ => self.open_vrf(vrf, false).await,
        }
    }

    async fn apply_prefix(&mut self, model: &Model, place: &(VrfName, IpNet)) {
        let (vrf, prefix) = place;
        let is_wanted = self.rows.by_prefix.contains_key(place);
        if is_wanted && let Err(text) = self.open_for(vrf).await {
            for uuid in self.rows.by_prefix.get(place).cloned().unwrap_or_default() {
                self.rows.settle("Route", uuid, Some(text.clone()));
            }
            return;
        }
        let Some(namespace) = self.namespaces.open.get(vrf) else { return };
        let kernel = namespace.kernel.clone();
        let (mut settled, mut taken) = (Vec::new(), Vec::new());
        {
            let state = std::rc::Rc::clone(&self.state);
            // Copied, as the tables may change while the kernel is asked.
            let (gone, wanted, twice) = {
                let state = state.borrow();
                let Some(known) = state.router.vrfs.get(vrf) else { return };
                let steps = self.rows.steps(&known.rib, model, place);
                let gone: Vec<_> = steps.gone.iter().map(|route| (route.metric, route.kind)).collect();
                (gone, steps.wanted, steps.twice)
            };
            for (metric, kind) in gone {
                said(kernel.delete_route(*prefix, metric, kind).await);
            }
            for (uuid, _) in twice {
                let text = format!("another row has a route to {prefix} of the same metric: remove one of them");
                settled.push((uuid, Some(text)));
            }
            for (uuid, row, replace) in wanted {
                let added = match wanted_route(namespace, vrf, row).await {
                    Ok(route) => kernel.add_route(&route, replace).await.map_err(|error| error.to_string()),
                    Err(text) => Err(text),
                };
                if added.is_ok() {
                    taken.push((uuid, row.clone()));
                }
                settled.push((uuid, added.err()));
            }
        }
        self.rows.routes.extend(taken);
        settled.into_iter().for_each(|(uuid, error)| self.rows.settle("Route", uuid, error));
    }

    async fn apply_neighbour(&mut self, model: &Model, uuid: Uuid) {
        let row = model.neighbours.get(&uuid).and_then(|row| row.as_ref().ok());
        if let Some((old, ifindex)) = self.rows.neighbours.remove(&uuid)
            && row != Some(&old)
            && let Some(namespace) = self.namespaces.open.get(&old.vrf)
        {
            said(namespace.kernel.delete_neighbour(ifindex, old.address).await);
        }
        let applied = match row {
            Some(row) => self.set_neighbour(uuid, row).await,
            None => Ok(()),
        };
        self.rows.settle("Neighbor", uuid, applied.err());
    }

    async fn set_neighbour(&mut self, uuid: Uuid, row: &StaticNeighbour) -> Result<(), String> {
        self.open_for(&row.vrf).await?;
        let namespace = &self.namespaces.open[&row.vrf];
        let ifindex = ifindex_of(namespace, &row.vrf, &row.interface).await?;
        let set = namespace.kernel.set_neighbour(ifindex, &row.interface, row.address, row.mac).await;
        set.map_err(|error| error.to_string())?;
        self.namespaces.neighbours.remove(&(row.vrf.clone(), ifindex, row.address));
        self.rows.neighbours.insert(uuid, (row.clone(), ifindex));
        Ok(())
    }
}

/// The row's route with devices by number.
async fn wanted_route(namespace: &Namespace, vrf: &VrfName, row: &StaticRoute) -> Result<WantedRoute, String> {
    let mut hops = Vec::new();
    for hop in &row.hops {
        let ifindex = match &hop.dev {
            Some(device) => Some(ifindex_of(namespace, vrf, device).await?),
            None => None,
        };
        hops.push(WantedHop { gateway: hop.via, ifindex, weight: hop.weight, onlink: hop.onlink });
    }
    Ok(WantedRoute { prefix: row.prefix, kind: row.kind, metric: row.metric, hops })
}

async fn ifindex_of(namespace: &Namespace, vrf: &VrfName, device: &str) -> Result<u32, String> {
    match namespace.kernel.link_by_name(device).await {
        Ok(link) => Ok(link.ifindex),
        Err(Error::NoDevice { .. }) => {
            let place = vrf.as_ref().map_or_else(String::new, |vrf| format!(" in VRF {vrf}"));
            Err(format!("there is no interface {device}{place}: it is in force as soon as there is one"))
        }
        Err(error) => Err(error.to_string()),
    }
}
