//! What do the `neigh/*` commands answer? Which hosts are known on the router's interfaces, and where.

use super::Context;
use super::interface::columns;
use super::router::{Place, Route, Words};
use crate::database::{Database, RowRef};
use crate::kernel::{self, Neighbour};
use crate::model::format_mac;
use crate::routing::rib::Kind;
use crate::state::State;
use serde_json::{Value, json};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Where an SVI is: its bridge, and the VLAN in which packets leave it.
pub(super) fn bridge_and_vlan<'a>(state: &'a State, db: &Database, svi: &str) -> Option<(&'a str, u16)> {
    let port = state.ports.get(svi)?;
    let row = db.rows("Port").find(|row| row.get("name").as_str() == Some(svi))?;
    let tag = row.get("tag").as_integer().filter(|_| row.get("vlan_mode").as_str() != Some("trunk"));
    Some((&port.bridge, tag.and_then(|tag| u16::try_from(tag).ok()).unwrap_or(0)))
}

/// The ports that bridges have learned addresses on, by bridge, VLAN and address.
pub(super) fn learned_ports(state: &State, now: Instant) -> HashMap<(&str, u16, Mac), &str> {
    let ports = state.ports_by_index();
    let mut all = HashMap::new();
    for (bridge, entry) in
        state.bridges.iter().flat_map(|(name, bridge)| bridge.fdb.entries(now).into_iter().map(move |e| (name, e)))
    {
        if let Some((name, _)) = ports.get(&entry.port) {
            all.insert((bridge.as_str(), entry.vlan, entry.mac), *name);
        }
    }
    all
}

/// The neighbours that rows of a VRF name.
fn named_by_rows<'a>(db: &'a Database, vrf: Option<&str>) -> HashSet<(&'a str, IpAddr)> {
    let rows = db.rows("Neighbor").filter(|row| row.get("vrf").as_str() == vrf);
    let one = |row: RowRef<'a>| Some((row.get("interface").as_str()?, row.get("address").as_str()?.parse().ok()?));
    rows.filter_map(one).collect()
}

impl Place<'_> {
    /// Where a packet goes by a route that is not of several ways: the neighbour's interface, and its MAC address if it is known.
    pub(super) fn neighbour(&self, address: IpAddr, route: &Route) -> Option<(String, Mac)> {
        if route.kind != Kind::Unicast {
            return None;
        }
        let best = self.vrf.rib.best(&route.prefix)?;
        let [hop] = best.hops[..] else { return None };
        let mac = self.vrf.forwarding.neighbour(hop.ifindex, hop.gateway.unwrap_or(address))?;
        Some((self.device(hop.ifindex), mac))
    }
}

/// The neighbours on the router's interfaces, as the kernel has them.
pub(super) fn show(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let words = Words::parse(args, &["vrf", "dev"])?;
    if let Some(word) = words.plain.first() {
        return Err(format!("neigh/show: unknown word \"{word}\": neigh/show [dev IFACE] [vrf NAME]"));
    }
    let place = Place::find(context, &words)?;
    let db = context.store.database();
    let learned = learned_ports(context.state, context.now);
    let by_rows = named_by_rows(db, place.name.as_deref());
    let mut all = kernel::neighbours(place.name.as_deref())?;
    all.sort_unstable_by_key(|one| (one.ifindex, one.address));
    let (mut lines, mut json) = (Vec::new(), Vec::new());
    for Neighbour { ifindex, address, mac, state } in all {
        let Some(device) = place.router.interface_of(&place.name, ifindex) else { continue };
        if words.get("dev").is_some_and(|wanted| wanted != device) {
            continue;
        }
        let at = bridge_and_vlan(context.state, db, device).zip(mac);
        let port = at.and_then(|((bridge, vlan), mac)| learned.get(&(bridge, vlan, Mac::new(mac))).copied());
        let mac = mac.map(format_mac);
        let is_static = by_rows.contains(&(device, address));
        if context.json {
            json.push(json!({"address": address.to_string(), "interface": device, "mac": mac, "port": port,
                "static": is_static, "state": state}));
            continue;
        }
        let or_none = |text: Option<&str>| text.unwrap_or("--").to_owned();
        let kind = if is_static { "static" } else { "learned" };
        let words =
            [address.to_string(), device.to_owned(), or_none(mac.as_deref()), or_none(port), kind.to_owned(), state];
        lines.push(words.to_vec());
    }
    if context.json {
        return Ok(json.into());
    }
    Ok(columns(&["Address", "Interface", "MAC", "Port", "Type", "State"], &lines).into())
}

/// Has the kernel forget what it has learned, so that it asks again.
pub(super) fn flush(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let words = Words::parse(args, &["vrf", "dev"])?;
    if let Some(word) = words.plain.first() {
        return Err(format!("neigh/flush: unknown word \"{word}\": neigh/flush [dev IFACE] [vrf NAME]"));
    }
    let place = Place::find(context, &words)?;
    let by_rows = named_by_rows(context.store.database(), place.name.as_deref());
    let all: Vec<(u32, IpAddr)> = place
        .vrf
        .forwarding
        .neighbours()
        .filter(|(ifindex, address, _)| {
            let device = place.router.interface_of(&place.name, *ifindex);
            let device = device.filter(|device| words.get("dev").is_none_or(|wanted| wanted == *device));
            device.is_some_and(|device| !by_rows.contains(&(device, *address)))
        })
        .map(|(ifindex, address, _)| (ifindex, address))
        .collect();
    if let Some(dev) = words.get("dev")
        && place.router.interfaces.get(dev).is_none_or(|interface| interface.vrf != place.name)
    {
        return Err(format!("{dev} is not an interface of the router (list-svi shows them)"));
    }
    let name = place.name.clone();
    context.state.router.forget(all.into_iter().map(|(ifindex, address)| (name.clone(), ifindex, address)));
    Ok("".into())
}
