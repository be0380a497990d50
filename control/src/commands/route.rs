//! What do the `route/*` commands answer? Which routes are in force, and who forwards by them.

use super::Context;
use super::interface::columns;
use super::router::{HEADINGS, Place, Route, Words};
use crate::routing::text;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::net::IpAddr;

/// Most that are printed at once: meanwhile the control thread does nothing else.
const ROUTES_MAX: usize = 100_000;

/// All routes of a VRF, or those to a prefix and to parts of it. What the kernel has for the host's own addresses is left out.
pub(super) fn show(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let words = Words::parse(args, &["vrf"])?;
    let within: Vec<IpNet> = match words.plain.as_slice() {
        [] | ["default"] => vec![],
        [prefix] => vec![text::prefix(prefix).map_err(|wrong| wrong.to_string())?],
        [_, more, ..] => return Err(format!("route/show: unknown word \"{more}\": route/show [PREFIX] [vrf NAME]")),
    };
    let place = Place::find(context, &words)?;
    let is_default = words.plain == ["default"];
    let is_wanted = |prefix: &&IpNet| match is_default {
        true => prefix.prefix_len() == 0,
        false => within.iter().all(|within| within.contains(*prefix)),
    };
    let mut prefixes: Vec<IpNet> = place.vrf.rib.prefixes().filter(is_wanted).copied().collect();
    if prefixes.len() > ROUTES_MAX {
        let count = prefixes.len();
        return Err(format!(
            "{count} routes are more than are printed at once, {ROUTES_MAX}: give a PREFIX that has fewer"
        ));
    }
    prefixes.sort_unstable_by_key(|prefix| (prefix.addr().is_ipv6(), *prefix));
    let is_link_local = |prefix: &IpNet| matches!(prefix, IpNet::V6(net) if net.addr().is_unicast_link_local());
    let shown = prefixes.into_iter().filter(|prefix| !is_link_local(prefix)).filter_map(|prefix| place.route(prefix));
    let routes: Vec<Route> = shown.filter(|route| !route.is_local).collect();
    if context.json {
        return Ok(routes.iter().map(Route::json).collect());
    }
    Ok(columns(&HEADINGS, &routes.iter().flat_map(Route::lines).collect::<Vec<_>>()).into())
}

/// The route that packets for an address take.
pub(super) fn get(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let words = Words::parse(args, &["vrf"])?;
    let [address] = words.plain[..] else { return Err("route/get ADDRESS [vrf NAME]".to_owned()) };
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("\"{address}\" is not an IP address: write one as 192.168.1.254 or 2001:db8::fe"))?;
    let place = Place::find(context, &words)?;
    let route = place.lookup(address)?;
    let mac = place.neighbour(address, &route).map(|(_, mac)| mac.to_string());
    if context.json {
        let mut json = route.json();
        json["address"] = address.to_string().into();
        json["mac"] = json!(mac);
        return Ok(json);
    }
    let mut lines = route.lines();
    if let Some(mac) = mac {
        lines[0][1] += &format!(" lladdr {mac}");
    }
    Ok(columns(&HEADINGS, &lines).into())
}

impl Place<'_> {
    /// The route that packets for an address take.
    pub(super) fn lookup(&self, address: IpAddr) -> Result<Route, String> {
        let found = self.router.lookup(&self.name, address).and_then(|(prefix, _)| self.route(prefix));
        let place = self.name.as_ref().map_or(String::new(), |vrf| format!(" in VRF {vrf}"));
        found.ok_or_else(|| format!("no route to {address}{place} (`route show` prints those there are)"))
    }
}
