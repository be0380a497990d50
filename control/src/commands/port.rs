//! What do `port/stats`, `drops` and `dpif/show` answer?

use super::Context;
use crate::drops;
use crate::history::Sample;
use crate::plan::Users;
use crate::state::{Device, OFPORT_LOCAL, State};
use serde_json::{Value, json};
use shunt_switch::reason::Reason;
use std::fmt::Write;

pub(super) fn stats(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let mut all = context.state.statistics();
    if let [name] = args {
        all.retain(|(port, _)| port == name);
        if all.is_empty() {
            return Err(format!("no such port: {name} is not attached (show prints the ports and their errors)"));
        }
    }
    if context.json {
        let object = all.into_iter().map(|(name, totals)| {
            let drops: serde_json::Map<_, _> =
                Reason::ALL.iter().map(|&reason| (reason.name().to_owned(), totals.dropped(reason).into())).collect();
            let value = json!({
                "rx_packets": totals.rx_packets, "rx_bytes": totals.rx_bytes,
                "tx_packets": totals.tx_packets, "tx_bytes": totals.tx_bytes, "drops": drops,
            });
            (name, value)
        });
        return Ok(Value::Object(object.collect()));
    }
    let mut text = String::new();
    for (name, totals) in all {
        let _ = writeln!(text, "{name}");
        let _ = writeln!(text, "  rx {} packets, {} bytes", totals.rx_packets, totals.rx_bytes);
        let _ = writeln!(text, "  tx {} packets, {} bytes", totals.tx_packets, totals.tx_bytes);
        for &reason in Reason::ALL.iter().filter(|&&reason| totals.dropped(reason) > 0) {
            let _ = writeln!(text, "  dropped {} {}: {}", totals.dropped(reason), reason.name(), reason.text());
        }
    }
    Ok(text.into())
}

/// What was dropped and is, by reason; of one port or one bridge, if it is named.
pub(super) fn drops(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let now = Sample::take(context.state);
    let mut counts = now.drops.clone();
    if let [name] = args {
        let state = &*context.state;
        let is_known = state.bridges.contains_key(name)
            || state.statistics().iter().any(|(port, _)| port == name)
            || state.devices.contains_key(name);
        if !is_known {
            return Err(format!("no such port or bridge: {name} is not attached (show prints them and their errors)"));
        }
        counts.retain(|port, _| port == name || is_on(state, port, name));
    }
    let all = drops::by_reason(&counts, context.history.drops_before(&now));
    if context.json {
        return serde_json::to_value(all).map_err(|error| error.to_string());
    }
    Ok(drops::text(&all).into())
}

/// Whether a name in the statistics is a port of the bridge, or a device that one of its ports shares.
fn is_on(state: &State, name: &str, bridge: &str) -> bool {
    let on = |port: &str| state.ports.get(port).is_some_and(|port| port.bridge == bridge);
    let shares = |device: &Device| match &device.wish.users {
        Users::Whole(_) => false,
        users => users.names().into_iter().any(on),
    };
    on(name) || state.devices.get(name).is_some_and(shares)
}

/// Bridges, and in each its ports with OpenFlow's and our own number: OVS's layout.
pub(super) fn dpif_show(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let state = &*context.state;
    let forwarded: u64 = state.dataplane.loads().iter().map(|load| load.forwarded).sum();
    if context.json {
        let bridges = state.bridges.keys().map(|bridge| {
            let ports = ports_of(state, bridge).into_iter().map(|port| {
                let row =
                    json!({"ofport": port.ofport, "number": port.number, "type": port.kind, "config": port.config});
                (port.name.to_owned(), row)
            });
            (bridge.clone(), Value::Object(ports.collect()))
        });
        return Ok(
            json!({"name": "netdev@shunt", "hit": forwarded, "missed": 0, "bridges": Value::Object(bridges.collect())}),
        );
    }
    // Nothing is ever asked of anybody else: all packets are hits.
    let mut text = format!("netdev@shunt: hit:{forwarded} missed:0\n");
    for bridge in state.bridges.keys() {
        let _ = writeln!(text, "  {bridge}:");
        for port in ports_of(state, bridge) {
            let config: Vec<_> = port.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let config = if config.is_empty() { String::new() } else { format!(": {}", config.join(", ")) };
            let _ = writeln!(text, "    {} {}/{}: ({}{config})", port.name, port.ofport, port.number, port.kind);
        }
    }
    Ok(text.into())
}

struct PortView<'a> {
    name: &'a str,
    ofport: i64,
    number: u16,
    kind: &'static str,
    config: Vec<(&'static str, String)>,
}

/// The attached ports of a bridge; its own interface first, as in OVS.
fn ports_of<'a>(state: &'a State, bridge: &str) -> Vec<PortView<'a>> {
    let mut ports: Vec<_> = state
        .ports
        .iter()
        .filter(|(_, port)| port.bridge == bridge)
        .map(|(name, port)| {
            let kind = if state.internals.contains_key(name) { "internal" } else { "afxdp" };
            let config = state.devices.get(&port.device).filter(|_| kind != "internal").map_or(Vec::new(), |device| {
                let mode = device.attachment.mode().to_string();
                vec![("n_rxq", device.workers.len().to_string()), ("xdp-mode", mode)]
            });
            PortView { name, ofport: port.ofport, number: port.index.0, kind, config }
        })
        .collect();
    ports.sort_by_key(|port| (port.ofport != OFPORT_LOCAL, port.ofport));
    ports
}
