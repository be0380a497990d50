//! What do the `mdb/*` commands answer?

use super::{Context, port_column};
use serde_json::{Value, json};
use shunt_switch::table::mdb::Mdb;
use std::fmt::Write;

fn bridge<'a>(context: &'a Context<'_>, name: &str) -> Result<&'a Mdb, String> {
    let snooping = context.bridge(name)?.snooping.as_ref();
    snooping.map(|snooping| &*snooping.mdb).ok_or_else(|| {
        format!("multicast snooping is disabled on {name}: `set Bridge {name} mcast_snooping_enable=true` turns it on")
    })
}

pub(super) fn flush(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    match args {
        [name] => bridge(context, name)?.flush(),
        _ => {
            context.state.bridges.values().flat_map(|bridge| &bridge.snooping).for_each(|snooping| snooping.mdb.flush())
        }
    }
    Ok("table successfully flushed\n".into())
}

pub(super) fn show(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let entries = bridge(context, &args[0])?.entries(context.now);
    let entries = context.with_ports(entries, |entry| entry.port);
    if context.json {
        let rows = entries.into_iter().map(|(entry, name, ofport)| {
            let group = entry.group.map(|group| group.to_string());
            json!({
                "port": name, "ofport": ofport, "vlan": entry.vlan, "group": group,
                "querier": group.is_none(), "age_s": entry.age_s,
            })
        });
        return Ok(rows.collect());
    }
    let mut text = String::from(" port  VLAN  GROUP                Age\n");
    for (entry, _, ofport) in entries {
        let port = port_column(ofport);
        let (vlan, age) = (entry.vlan, entry.age_s);
        let _ = match entry.group {
            Some(group) => writeln!(text, "{port:>5}  {vlan:4}  {group}         {age:3}"),
            None => writeln!(text, "{port:>5}  {vlan:4}  querier             {age:3}"),
        };
    }
    Ok(text.into())
}
