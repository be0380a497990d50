//! What do the commands about the daemon itself answer? (`coverage/*`, `memory/show`, `vlog/*`, `version`, `exit`)

use super::{COMMANDS, Context, Exit};
use crate::history::Sample;
use serde_json::{Value, json};
use std::fmt::Write;

pub(super) fn list_commands(_: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let mut text = String::from("The available commands are:\n");
    for command in COMMANDS {
        let _ = writeln!(text, "  {:<23} {}", command.name, command.usage);
    }
    Ok(text.into())
}

pub(super) fn version(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let version = env!("CARGO_PKG_VERSION");
    Ok(if context.json { json!({"name": "shuntd", "version": version}) } else { format!("shuntd {version}\n").into() })
}

pub(super) fn exit(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let cleanup = match args {
        [] => false,
        [flag] if flag == "--cleanup" => true,
        [other, ..] => return Err(format!("exit: unknown argument {other}: the only one is --cleanup")),
    };
    *context.exit = Some(Exit { cleanup });
    Ok("".into())
}

pub(super) fn coverage_show(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let now = Sample::take(context.state);
    let rates = context.history.rates(&now);
    if context.json {
        let object = rates.into_iter().map(|(name, rates)| {
            let per_second = json!({"5s": rates.seconds, "60s": rates.minute, "3600s": rates.hour});
            (name, json!({"total": rates.total, "per_second": per_second}))
        });
        return Ok(Value::Object(object.collect()));
    }
    let mut text = String::from("Event coverage, avg rate over last: 5 seconds, last minute, last hour:\n");
    let never = now.events.len() - rates.len();
    for (name, rates) in rates {
        let (seconds, minute, hour) = (rates.seconds, rates.minute, rates.hour);
        let _ =
            writeln!(text, "{name:<24} {seconds:5.1}/sec {minute:9.3}/sec {hour:13.4}/sec   total: {}", rates.total);
    }
    let _ = writeln!(text, "{never} events never hit");
    Ok(text.into())
}

pub(super) fn coverage_read(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let now = Sample::take(context.state);
    let total = now.events.get(&args[0]);
    let total =
        total.ok_or_else(|| format!("No such counter: {} (coverage/show prints those that have counted)", args[0]))?;
    Ok(if context.json { json!({args[0].as_str(): total}) } else { format!("{total}\n").into() })
}

/// Counts of what takes memory, in OVS's form: one line of `name:count`.
pub(super) fn memory_show(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let state = &*context.state;
    let macs: usize = state.bridges.values().map(|bridge| bridge.fdb.stats().current).sum();
    let umem: u64 = state.devices.values().map(|device| device.frame_bytes).sum();
    let rows: usize = context.store.database().tables().iter().map(|table| table.rows().len()).sum();
    let counts = [
        ("bridges", state.bridges.len() as u64),
        ("devices", state.devices.len() as u64),
        ("frame-KiB", umem / 1024),
        ("macs", macs as u64),
        ("ports", state.ports.len() as u64),
        ("queues", state.queues().count() as u64),
        ("resident-KiB", resident_kib()),
        ("rows", rows as u64),
    ];
    if context.json {
        return Ok(Value::Object(counts.iter().map(|(name, n)| ((*name).to_owned(), (*n).into())).collect()));
    }
    let words: Vec<_> = counts.iter().map(|(name, n)| format!("{name}:{n}")).collect();
    Ok(format!("{}\n", words.join(" ")).into())
}

/// `VmRSS` of this process; 0 if /proc does not tell.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

pub(super) fn vlog_list(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    if context.json {
        let levels = context.logging.all().into_iter().map(|(module, level)| (module.to_owned(), level.into()));
        return Ok(Value::Object(levels.collect()));
    }
    Ok(context.logging.list().into())
}

pub(super) fn vlog_set(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    // Said without a word, it is for everything.
    if args.is_empty() {
        context.logging.set("")?;
    }
    args.iter().try_for_each(|spec| context.logging.set(spec))?;
    Ok("".into())
}
