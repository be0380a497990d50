//! What do the run-time commands answer? (`fdb/show`, `port/stats`, `worker/show`, … by OVS's names where OVS has them.)
//!
//! One table lists them: the dispatcher, `list-commands` and the documentation's test read it.

use crate::model::parse_mac;
use crate::state::State;
use serde_json::{Value, json};
use shunt_switch::reason::Reason;
use shunt_switch::table::fdb::Fdb;
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use std::fmt::Write;

/// What a command works on besides its arguments.
pub struct Context<'a> {
    /// What is attached and learned.
    pub state: &'a mut State,
    /// The time now.
    pub now: Instant,
    /// Set by `exit`.
    pub exit: &'a mut Option<Exit>,
    /// The caller asked for `--format=json`.
    pub json: bool,
}

/// How the daemon is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Delete the internal ports' devices too, instead of leaving them for the next start.
    pub cleanup: bool,
}

type Run = fn(&mut Context<'_>, &[String]) -> Result<Value, String>;

/// A command: name, arguments as help shows them, least and most number of arguments, and what runs it.
pub struct RuntimeCommand {
    /// The JSON-RPC method.
    pub name: &'static str,
    /// Its arguments as `list-commands` prints them.
    pub usage: &'static str,
    arguments: std::ops::RangeInclusive<usize>,
    run: Run,
}

/// Every run-time command, in the order of `list-commands`.
pub const COMMANDS: &[RuntimeCommand] = &[
    RuntimeCommand { name: "exit", usage: "[--cleanup]", arguments: 0..=1, run: exit },
    RuntimeCommand { name: "fdb/add", usage: "BRIDGE PORT VLAN MAC", arguments: 4..=4, run: fdb_add },
    RuntimeCommand { name: "fdb/del", usage: "BRIDGE VLAN MAC", arguments: 3..=3, run: fdb_del },
    RuntimeCommand { name: "fdb/flush", usage: "[BRIDGE]", arguments: 0..=1, run: fdb_flush },
    RuntimeCommand { name: "fdb/show", usage: "BRIDGE", arguments: 1..=1, run: fdb_show },
    RuntimeCommand { name: "fdb/stats-show", usage: "BRIDGE", arguments: 1..=1, run: fdb_stats_show },
    RuntimeCommand { name: "list-commands", usage: "", arguments: 0..=0, run: list_commands },
    RuntimeCommand { name: "port/stats", usage: "[PORT]", arguments: 0..=1, run: port_stats },
    RuntimeCommand { name: "version", usage: "", arguments: 0..=0, run: version },
    RuntimeCommand { name: "worker/show", usage: "", arguments: 0..=0, run: worker_show },
];

/// Runs the command `name`. The error is one line for the user.
pub fn run(context: &mut Context<'_>, name: &str, args: &[String]) -> Result<Value, String> {
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(format!("\"{name}\" is not a valid command: list-commands prints those that are"));
    };
    let mut args = args.to_vec();
    args.retain(|arg| match arg.as_str() {
        "--format=json" => {
            context.json = true;
            false
        }
        other => other != "--format=text",
    });
    if !command.arguments.contains(&args.len()) {
        let problem =
            if args.len() < *command.arguments.start() { "requires more arguments" } else { "takes fewer arguments" };
        return Err(format!("\"{name}\" command {problem}: {name} {}", command.usage));
    }
    (command.run)(context, &args)
}

fn list_commands(_: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let mut text = String::from("The available commands are:\n");
    for command in COMMANDS {
        let _ = writeln!(text, "  {:<23} {}", command.name, command.usage);
    }
    Ok(text.into())
}

fn version(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let version = env!("CARGO_PKG_VERSION");
    Ok(if context.json { json!({"name": "shuntd", "version": version}) } else { format!("shuntd {version}\n").into() })
}

fn exit(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let cleanup = match args {
        [] => false,
        [flag] if flag == "--cleanup" => true,
        [other, ..] => return Err(format!("exit: unknown argument {other}: the only one is --cleanup")),
    };
    *context.exit = Some(Exit { cleanup });
    Ok("".into())
}

fn bridge<'a>(context: &'a Context<'_>, name: &str) -> Result<&'a Fdb, String> {
    let bridge =
        context.state.bridges.get(name).ok_or_else(|| format!("no such bridge: {name} (list-br prints them)"))?;
    Ok(&bridge.fdb)
}

fn vlan_and_mac(vlan: &str, mac: &str) -> Result<(u16, Mac), String> {
    let vid = vlan.parse().ok().filter(|vid| (0..=4095).contains(vid));
    let vid = vid.ok_or_else(|| format!("invalid vlan {vlan}: give a VLAN identifier from 0 to 4095"))?;
    let mac = parse_mac(mac)
        .filter(|mac| mac[0] & 1 == 0)
        .ok_or_else(|| format!("invalid mac {mac}: give a unicast address as 00:11:22:33:44:55"))?;
    Ok((vid, Mac::new(mac)))
}

fn fdb_add(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
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

fn fdb_del(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let (vlan, mac) = vlan_and_mac(&args[1], &args[2])?;
    if bridge(context, &args[0])?.remove(vlan, mac) {
        Ok("".into())
    } else {
        Err(format!("could not find mac entry {} in VLAN {vlan} of bridge {} (fdb/show prints them)", args[2], args[0]))
    }
}

fn fdb_flush(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    match args {
        [name] => bridge(context, name)?.flush(),
        _ => context.state.bridges.values().for_each(|bridge| bridge.fdb.flush()),
    }
    Ok("table successfully flushed\n".into())
}

fn fdb_show(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let entries = bridge(context, &args[0])?.entries(context.now);
    let named = entries.iter().filter_map(|entry| {
        let (name, port) = context.state.port_by_index(entry.port)?;
        Some((entry, name, port.ofport))
    });
    if context.json {
        let rows = named.map(|(entry, name, ofport)| {
            json!({
                "port": name, "ofport": ofport, "vlan": entry.vlan, "mac": entry.mac.to_string(),
                "age_s": entry.age_s, "static": entry.is_static,
            })
        });
        return Ok(rows.collect());
    }
    let mut text = String::from(" port  VLAN  MAC                Age\n");
    for (entry, _, ofport) in named {
        let port = if ofport == crate::state::OFPORT_LOCAL { "LOCAL".to_owned() } else { ofport.to_string() };
        let age = if entry.is_static { "static".to_owned() } else { format!("{:3}", entry.age_s) };
        let _ = writeln!(text, "{port:>5}  {:4}  {}  {age}", entry.vlan, entry.mac);
    }
    Ok(text.into())
}

fn fdb_stats_show(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
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

fn port_stats(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
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

fn worker_show(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let loads = context.state.dataplane.loads();
    let queues = context.state.queues();
    if context.json {
        let rows = loads.iter().enumerate().map(|(worker, load)| {
            let own = queues.iter().filter(|queue| queue.worker == worker);
            json!({
                "core": load.core,
                "queues": own.map(|queue| json!({"port": queue.port, "queue": queue.queue})).collect::<Value>(),
                "busy_share": load.busy_share, "packets": load.packets,
                "batch_mean": load.batch_mean, "cycles_per_packet": load.cycles_per_packet,
            })
        });
        return Ok(rows.collect());
    }
    let mut text = String::new();
    for (worker, load) in loads.iter().enumerate() {
        let _ = writeln!(
            text,
            "worker on core {}: busy {:.1} %, {} packets",
            load.core,
            load.busy_share * 100.0,
            load.packets
        );
        let _ = writeln!(
            text,
            "  mean batch {:.1} packets, {:.0} cycles per packet",
            load.batch_mean, load.cycles_per_packet
        );
        for queue in queues.iter().filter(|queue| queue.worker == worker) {
            let _ = writeln!(text, "  port {} queue {}", queue.port, queue.queue);
        }
    }
    Ok(text.into())
}
