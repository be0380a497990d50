//! What do the `neigh/*` commands answer? Which hosts are known on the router's interfaces, and where.

use super::Context;
use super::interface::columns;
use super::router::{Place, Route, Words};
use crate::database::Database;
use crate::routing::rib::Kind;
use crate::state::State;
use serde_json::{Value, json};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use std::collections::HashMap;
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

/// Whether a row says so.
fn is_static(db: &Database, vrf: Option<&str>, device: &str, address: IpAddr) -> bool {
    db.rows("Neighbor").any(|row| {
        row.get("interface").as_str() == Some(device)
            && row.get("vrf").as_str() == vrf
            && row.get("address").as_str().and_then(|text| text.parse().ok()) == Some(address)
    })
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

/// The neighbours on the router's interfaces whose MAC addresses are known.
pub(super) fn show(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let words = Words::parse(args, &["vrf", "dev"])?;
    if let Some(word) = words.plain.first() {
        return Err(format!("neigh/show: unknown word \"{word}\": neigh/show [dev IFACE] [vrf NAME]"));
    }
    let place = Place::find(context, &words)?;
    let db = context.store.database();
    let learned = learned_ports(context.state, context.now);
    let mut rows = Vec::new();
    for (ifindex, address, mac) in place.vrf.forwarding.neighbours() {
        let Some(device) = place.router.interface_of(&place.name, ifindex) else { continue };
        if words.get("dev").is_some_and(|wanted| wanted != device) {
            continue;
        }
        let port = bridge_and_vlan(context.state, db, device)
            .and_then(|(bridge, vlan)| learned.get(&(bridge, vlan, mac)).map(|port| (*port).to_owned()));
        let is_static = is_static(db, place.name.as_deref(), device, address);
        rows.push((address, device, mac.to_string(), port, is_static));
    }
    if context.json {
        let json = rows.into_iter().map(|(address, device, mac, port, is_static)| {
            json!({"address": address.to_string(), "interface": device, "mac": mac, "port": port, "static": is_static})
        });
        return Ok(json.collect());
    }
    let line = |(address, device, mac, port, is_static): (IpAddr, &str, String, Option<String>, bool)| {
        let kind = if is_static { "static" } else { "learned" };
        vec![address.to_string(), device.to_owned(), mac, port.unwrap_or("--".to_owned()), kind.to_owned()]
    };
    let lines: Vec<_> = rows.into_iter().map(line).collect();
    Ok(columns(&["Address", "Interface", "MAC", "Port", "Type"], &lines).into())
}

/// Has the kernel forget what it has learned, so that it asks again.
pub(super) fn flush(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let words = Words::parse(args, &["vrf", "dev"])?;
    if let Some(word) = words.plain.first() {
        return Err(format!("neigh/flush: unknown word \"{word}\": neigh/flush [dev IFACE] [vrf NAME]"));
    }
    let place = Place::find(context, &words)?;
    let all: Vec<(u32, IpAddr)> = place
        .vrf
        .forwarding
        .neighbours()
        .filter(|(ifindex, address, _)| {
            let device = place.router.interface_of(&place.name, *ifindex);
            let device = device.filter(|device| words.get("dev").is_none_or(|wanted| wanted == *device));
            device.is_some_and(|device| !is_static(context.store.database(), place.name.as_deref(), device, *address))
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
