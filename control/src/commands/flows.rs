//! What does `flows/top` answer? The greatest flows of the last seconds, as the samples say.

use super::Context;
use super::interface::columns;
use crate::sflow::flows::{Ends, Estimate};
use serde_json::{Value, json};

/// Flows if no number is given.
const COUNT: usize = 10;

/// `flows/top [COUNT]`
pub(super) fn top(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let count = args.first().map_or(Ok(COUNT), |text| {
        text.parse().map_err(|_| format!("\"{text}\" is no number of flows: flows/top [COUNT]"))
    })?;
    let is_on = context.state.sflow.is_on();
    let top = context.state.sflow.flows.top(count, context.now);
    if context.json {
        return Ok(top.iter().map(as_json).collect());
    }
    if !is_on {
        return Err("no bridge is sampled, so no flows are seen: create an sFlow for one (docs/sflow.md)".to_owned());
    }
    let lines: Vec<_> = top.iter().map(line).collect();
    Ok(columns(&["Rate", "Packets/s", "±%", "Port", "VLAN", "From", "To", "Protocol"], &lines).into())
}

fn ends(estimate: &Estimate) -> (String, String) {
    let (from, to) = match estimate.key.ends {
        Ends::Ip(from, to) => (from.to_string(), to.to_string()),
        Ends::Mac(from, to) => (from.to_string(), to.to_string()),
    };
    match (estimate.key.ports, estimate.key.ends) {
        ((0, 0), _) => (from, to),
        ((source, destination), Ends::Ip(address, _)) if address.is_ipv6() => {
            (format!("[{from}]:{source}"), format!("[{to}]:{destination}"))
        }
        ((source, destination), _) => (format!("{from}:{source}"), format!("{to}:{destination}")),
    }
}

fn protocol(estimate: &Estimate) -> String {
    let number = estimate.key.protocol;
    match (estimate.key.ends, number) {
        (Ends::Ip(..), 1) => "icmp".to_owned(),
        (Ends::Ip(..), 6) => "tcp".to_owned(),
        (Ends::Ip(..), 17) => "udp".to_owned(),
        (Ends::Ip(..), 58) => "icmpv6".to_owned(),
        (Ends::Ip(..), number) => number.to_string(),
        (Ends::Mac(..), 0x0806) => "arp".to_owned(),
        (Ends::Mac(..), number) => format!("0x{number:04x}"),
    }
}

fn line(estimate: &Estimate) -> Vec<String> {
    let (from, to) = ends(estimate);
    let vlan = if estimate.key.vlan == 0 { "--".to_owned() } else { estimate.key.vlan.to_string() };
    let (packets, error) = (format!("{:.0}", estimate.packets_per_second), format!("{:.0}", estimate.error_percent));
    vec![
        bits(estimate.bits_per_second),
        packets,
        error,
        estimate.key.port.to_string(),
        vlan,
        from,
        to,
        protocol(estimate),
    ]
}

/// `94.1M`: bits a second.
fn bits(rate: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let unit = units.into_iter().find(|(size, _)| rate >= *size);
    unit.map_or_else(|| format!("{rate:.0}"), |(size, unit)| format!("{:.1}{unit}", rate / size))
}

fn as_json(estimate: &Estimate) -> Value {
    let (from, to) = ends(estimate);
    json!({
        "port": &*estimate.key.port, "vlan": estimate.key.vlan, "from": from, "to": to,
        "protocol": protocol(estimate),
        "bits_per_second": estimate.bits_per_second.round(), "packets_per_second": estimate.packets_per_second.round(),
        "error_percent": (estimate.error_percent * 10.0).round() / 10.0, "samples": estimate.seen.samples,
    })
}
