//! What do `worker/show` and OVS's commands about poll-mode threads answer?

use super::Context;
use crate::dataplane::{Load, ratio};
use crate::history::History;
use crate::state::{QueueView, State};
use serde_json::{Value, json};
use std::fmt::Write;

/// A worker that has a core.
struct WorkerView<'a> {
    index: usize,
    core: usize,
    load: Load,
    queues: Vec<QueueView<'a>>,
}

/// The workers in the order of their cores, with these loads.
fn workers(state: &State, loads: Vec<Load>) -> Vec<WorkerView<'_>> {
    let mut workers: Vec<_> = loads
        .into_iter()
        .enumerate()
        .filter_map(|(index, load)| Some(WorkerView { index, core: load.core?, load, queues: Vec::new() }))
        .collect();
    workers.sort_by_key(|worker| worker.core);
    for queue in state.queues() {
        if let Some(worker) = workers.iter_mut().find(|worker| worker.index == queue.worker) {
            worker.queues.push(queue);
        }
    }
    workers
}

pub(super) fn show(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let workers = workers(context.state, context.state.dataplane.loads());
    if context.json {
        let rows = workers.iter().map(|WorkerView { core, load, queues, .. }| {
            json!({
                "core": core,
                "queues": queues.iter().map(|queue| json!({"port": queue.port, "queue": queue.queue})).collect::<Value>(),
                "busy_share": load.busy_share(), "packets": load.packets,
                "batch_mean": load.batch_mean(), "cycles_per_packet": load.cycles_per_packet(),
                "busy_s": load.busy_ns as f64 / 1e9, "total_s": load.total_ns as f64 / 1e9,
            })
        });
        return Ok(rows.collect());
    }
    let mut text = String::new();
    for WorkerView { core, load, queues, .. } in workers {
        let busy = load.busy_share() * 100.0;
        let _ = writeln!(text, "worker on core {core}: busy {busy:.1} %, {} packets", load.packets);
        let (batch, cycles) = (load.batch_mean(), load.cycles_per_packet());
        let _ = writeln!(text, "  mean batch {batch:.1} packets, {cycles:.0} cycles per packet");
        for queue in queues {
            let _ = writeln!(text, "  port {} queue {}", queue.port, queue.queue);
        }
    }
    Ok(text.into())
}

/// The NUMA node of a core, which sysfs shows as a link `nodeN`; 0 on machines without nodes.
fn numa_node(core: usize) -> usize {
    let entries = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).into_iter().flatten().flatten();
    let node = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok();
    entries.filter_map(node).next().unwrap_or(0)
}

/// Share of its worker's time that went to a queue in the last minute, in percent. The worker's time is known, and what came in
/// by each device there: time is divided by packets, evenly between queues of one device on one worker.
fn usage(state: &State, history: &History, worker: &WorkerView<'_>, queue: &QueueView<'_>) -> f64 {
    let Some(before) = history.minute_ago() else { return 0.0 };
    let load = before.loads.get(worker.index).map_or_else(|| worker.load.clone(), |load| worker.load.since(load));
    let device = queue.device;
    let received: u64 = state
        .ports
        .values()
        .filter(|port| state.devices.get(&port.device).is_some_and(|other| other.index == device.index))
        .filter_map(|port| port.received_by_worker().nth(worker.index))
        .sum();
    let received = received.saturating_sub(before.received.get(&(device.index.0, worker.index)).copied().unwrap_or(0));
    let here = device.workers.iter().filter(|index| **index == worker.index).count();
    100.0 * load.busy_share() * ratio(received, load.packets).min(1.0) / here.max(1) as f64
}

pub(super) fn rxq_show(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let state = &*context.state;
    let workers = workers(state, state.dataplane.loads());
    let is_isolated = |worker: &WorkerView<'_>| state.placement().is_isolated(worker.index);
    if context.json {
        let rows = workers.iter().map(|worker| {
            let queues = worker.queues.iter().map(|queue| {
                let usage = usage(state, context.history, worker, queue);
                json!({"port": queue.port, "queue": queue.queue, "usage_percent": usage})
            });
            json!({"numa": numa_node(worker.core), "core": worker.core, "isolated": is_isolated(worker), "queues": queues.collect::<Value>()})
        });
        return Ok(rows.collect());
    }
    let mut text = String::from("Displaying last 60 seconds pmd usage %\n");
    for worker in &workers {
        let _ = writeln!(text, "pmd thread numa_id {} core_id {}:", numa_node(worker.core), worker.core);
        let _ = writeln!(text, "  isolated : {}", is_isolated(worker));
        for queue in &worker.queues {
            let usage = usage(state, context.history, worker, queue);
            let _ = writeln!(
                text,
                "  port: {:<16}  queue-id: {:2} (enabled)   pmd usage: {usage:2.0} %",
                queue.port, queue.queue
            );
        }
        // Time that found no packets is not counted as busy, so there is nothing else that it went to.
        let _ = writeln!(text, "  overhead:  0 %");
    }
    Ok(text.into())
}

pub(super) fn perf_show(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let state = &*context.state;
    let workers = workers(state, context.history.loads(state));
    if context.json {
        let rows = workers.iter().map(|WorkerView { core, load, .. }| {
            json!({
                "numa": numa_node(*core), "core": core, "duration_ns": load.total_ns, "iterations": load.turns,
                "busy_iterations": load.busy_turns, "busy_ns": load.busy_ns, "busy_cycles": load.busy_cycles,
                "sleep_iterations": load.sleeps, "sleep_ns": load.slept_ns, "rx_packets": load.packets,
                "rx_bursts": load.bursts, "forwarded_packets": load.forwarded, "copies": load.copies,
                "crossed_packets": load.crossed,
            })
        });
        return Ok(rows.collect());
    }
    let mut text = String::new();
    for WorkerView { core, load, .. } in &workers {
        let _ = writeln!(text, "pmd thread numa_id {} core_id {core}:\n", numa_node(*core));
        perf(&mut text, load);
    }
    Ok(text.into())
}

/// One worker, in OVS's words where they say what is true here.
fn perf(text: &mut String, load: &Load) {
    let share = |part: u64, whole: u64| 100.0 * ratio(part, whole);
    let seconds = load.total_ns as f64 / 1e9;
    let kpps = |packets: u64| if seconds > 0.0 { packets as f64 / seconds / 1000.0 } else { 0.0 };
    let awake_us = load.total_ns.saturating_sub(load.slept_ns) / 1000;
    let mut line = |name: &str, n: u64, rest: String| {
        let _ = writeln!(text, "  {:<18} {n:>12}{rest}", format!("{name}:"));
    };
    let idle = load.turns.saturating_sub(load.busy_turns);
    line("Duration (ms)", load.total_ns / 1_000_000, String::new());
    line("Iterations", load.turns, format!("  ({:.2} us/it)", ratio(awake_us, load.turns)));
    line("- idle iterations", idle, format!("  ({:5.1} % of iterations)", share(idle, load.turns)));
    line("- busy iterations", load.busy_turns, format!("  ({:5.1} % of the time)", share(load.busy_ns, load.total_ns)));
    line("- sleep iterations", load.sleeps, format!("  ({:5.1} % of iterations)", share(load.sleeps, load.turns)));
    let per_sleep = ratio(load.slept_ns / 1000, load.sleeps);
    line("Sleep time (us)", load.slept_ns / 1000, format!("  ({per_sleep:.0} us/iteration avg.)"));
    let per_packet = load.cycles_per_packet();
    line("Rx packets", load.packets, format!("  ({:.0} Kpps, {per_packet:.0} cycles/pkt)", kpps(load.packets)));
    line("Rx batches", load.bursts, format!("  ({:.2} pkts/batch)", load.batch_mean()));
    line("Forwarded packets", load.forwarded, format!("  ({:.0} Kpps)", kpps(load.forwarded)));
    line("Tx copies", load.copies, format!("  ({:.2} copies/pkt)", ratio(load.copies, load.forwarded)));
    line("To other pmds", load.crossed, format!("  ({:5.1} % of packets)\n", share(load.crossed, load.packets)));
}

pub(super) fn stats_clear(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    context.history.clear_loads(context.state);
    Ok("".into())
}

pub(super) fn sleep_show(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let sleep_max = context.state.dataplane.sleep_max();
    let default = context.state.dataplane.tuning().sleep_max();
    let workers = workers(context.state, context.state.dataplane.loads());
    let us = |limit: Option<std::time::Duration>| limit.map(|limit| limit.as_micros() as u64);
    if context.json {
        let rows = workers
            .iter()
            .map(|worker| json!({"numa": numa_node(worker.core), "core": worker.core, "max_sleep_us": us(sleep_max)}));
        return Ok(rows.collect());
    }
    let say = |limit| us(limit).map_or("until packets come".to_owned(), |us| format!("{us:4} us"));
    let mut text = format!("Default max sleep: {}\n", say(default));
    for worker in &workers {
        let _ = writeln!(text, "pmd thread numa_id {} core_id {}:", numa_node(worker.core), worker.core);
        let _ = writeln!(text, "  max sleep: {}", say(sleep_max));
    }
    Ok(text.into())
}
