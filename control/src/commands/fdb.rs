//! What do the `fdb/*` commands answer?

use super::{Context, port_column};
use crate::model::parse_mac;
use serde_json::{Value, json};
use shunt_switch::table::fdb::Fdb;
use shunt_switch::wire::ethernet::Mac;
use std::fmt::Write;

fn bridge<'a>(context: &'a Context<'_>, name: &str) -> Result<&'a Fdb, String> {
    Ok(&context.bridge(name)?.fdb)
}

fn vlan_and_mac(vlan: &str, mac: &str) -> Result<(u16, Mac), String> {
    let vid = vlan.parse().ok().filter(|vid| (0..=4095).contains(vid));
    let vid = vid.ok_or_else(|| format!("invalid vlan {vlan}: give a VLAN identifier from 0 to 4095"))?;
    let mac = parse_mac(mac)
        .filter(|mac| mac[0] & 1 == 0)
        .ok_or_else(|| format!("invalid mac {mac}: give a unicast address as 00:11:22:33:44:55"))?;
    Ok((vid, Mac::new(mac)))
}

pub(super) fn add(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let (vlan, mac) = vlan_and_mac(&args[2], &args[3])?;
    let fdb = bridge(context, &args[0])?;
    let port = context.state.ports.get(&args[1]).filter(|port| port.bridge == args[0]);
    let port = port.ok_or_else(|| {
        format!("no such port: {} is not attached to bridge {} (show prints its ports)", args[1], args[0])
    })?;
    let added = fdb.add_static(vlan, mac, port.index);
    added.map_err(|why| format!("could not add static mac entry {} in VLAN {vlan}: {why}", args[3]))?;
    Ok("".into())
}

pub(super) fn del(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let (vlan, mac) = vlan_and_mac(&args[1], &args[2])?;
    if bridge(context, &args[0])?.remove(vlan, mac) {
        Ok("".into())
    } else {
        Err(format!("could not find mac entry {} in VLAN {vlan} of bridge {} (fdb/show prints them)", args[2], args[0]))
    }
}

/// Bridges by the optional name in `args`.
fn bridges<'a>(context: &'a Context<'_>, args: &[String]) -> Result<Vec<&'a Fdb>, String> {
    match args {
        [name] => Ok(vec![bridge(context, name)?]),
        _ => Ok(context.state.bridges.values().map(|bridge| &*bridge.fdb).collect()),
    }
}

pub(super) fn stats_clear(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    bridges(context, args)?.iter().for_each(|fdb| fdb.clear_stats());
    Ok("statistics successfully cleared\n".into())
}

pub(super) fn flush(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    bridges(context, args)?.iter().for_each(|fdb| fdb.flush());
    Ok("table successfully flushed\n".into())
}

pub(super) fn show(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let entries = bridge(context, &args[0])?.entries(context.now);
    let entries = context.with_ports(entries, |entry| entry.port);
    if context.json {
        let rows = entries.into_iter().map(|(entry, name, ofport)| {
            json!({
                "port": name, "ofport": ofport, "vlan": entry.vlan, "mac": entry.mac.to_string(),
                "age_s": entry.age_s, "static": entry.is_static,
            })
        });
        return Ok(rows.collect());
    }
    let mut text = String::from(" port  VLAN  MAC                Age\n");
    for (entry, _, ofport) in entries {
        let port = port_column(ofport);
        let age = if entry.is_static { "static".to_owned() } else { format!("{:3}", entry.age_s) };
        let _ = writeln!(text, "{port:>5}  {:4}  {}  {age}", entry.vlan, entry.mac);
    }
    Ok(text.into())
}

pub(super) fn stats_show(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let stats = bridge(context, &args[0])?.stats();
    if context.json {
        return Ok(json!({
            "current": stats.current, "maximum": stats.max, "static": stats.static_entries, "learned": stats.learned,
            "expired": stats.expired, "evicted": stats.evicted, "moved": stats.moved,
        }));
    }
    let mut text = format!("Statistics for bridge \"{}\":\n", args[0]);
    let _ = writeln!(text, "  Current/maximum MAC entries in the table: {}/{}", stats.current, stats.max);
    let _ = writeln!(text, "  Current static MAC entries in the table : {}", stats.static_entries);
    let _ = writeln!(text, "  Total number of learned MAC entries     : {}", stats.learned);
    let _ = writeln!(text, "  Total number of expired MAC entries     : {}", stats.expired);
    let _ = writeln!(text, "  Total number of evicted MAC entries     : {}", stats.evicted);
    let _ = writeln!(text, "  Total number of port moved MAC entries  : {}", stats.moved);
    Ok(text.into())
}
