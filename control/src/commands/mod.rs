//! What do the run-time commands answer? (`fdb/show`, `port/stats`, `worker/show`, … by OVS's names where OVS has them.)
//!
//! One table lists them: the dispatcher, `list-commands` and the documentation's test read it.

mod daemon;
mod fdb;
mod flows;
mod interface;
mod mdb;
mod neigh;
mod ofproto;
mod port;
mod route;
mod router;
mod trace;
mod worker;

pub(crate) use daemon::resident_kib;

use crate::history::History;
use crate::logging::Logging;
use crate::state::{Bridge, OFPORT_LOCAL, State};
use crate::store::Store;
use serde_json::Value;
use shunt_switch::config::PortIndex;
use shunt_switch::time::Instant;

/// What a command works on besides its arguments.
pub struct Context<'a> {
    /// What is attached and learned.
    pub state: &'a mut State,
    /// The configuration.
    pub store: &'a Store,
    /// What was counted before.
    pub history: &'a mut History,
    /// What is logged.
    pub logging: &'a Logging,
    /// The time now.
    pub now: Instant,
    /// Set by `exit`.
    pub exit: &'a mut Option<Exit>,
    /// The caller asked for `--format=json`.
    pub json: bool,
}

impl Context<'_> {
    /// The bridge of this name.
    fn bridge(&self, name: &str) -> Result<&Bridge, String> {
        self.state.bridges.get(name).ok_or_else(|| format!("no such bridge: {name} (list-br prints them)"))
    }

    /// Entries of a bridge's table with the names and `ofport`s of their ports; without those whose port is gone.
    fn with_ports<E>(&self, entries: Vec<E>, port: impl Fn(&E) -> PortIndex) -> Vec<(E, &str, i64)> {
        let ports = self.state.ports_by_index();
        let named = entries.into_iter().filter_map(|entry| {
            let (name, port) = ports.get(&port(&entry))?;
            Some((entry, *name, port.ofport))
        });
        named.collect()
    }
}

/// An `ofport` in the first column of a bridge's table.
fn port_column(ofport: i64) -> String {
    if ofport == OFPORT_LOCAL { "LOCAL".to_owned() } else { ofport.to_string() }
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

const fn command(
    name: &'static str,
    usage: &'static str,
    arguments: std::ops::RangeInclusive<usize>,
    run: Run,
) -> RuntimeCommand {
    RuntimeCommand { name, usage, arguments, run }
}

/// Every run-time command, in the order of `list-commands`.
pub const COMMANDS: &[RuntimeCommand] = &[
    command("coverage/read-counter", "COUNTER", 1..=1, daemon::coverage_read),
    command("coverage/show", "", 0..=0, daemon::coverage_show),
    command("dpif-netdev/pmd-perf-show", "", 0..=0, worker::perf_show),
    command("dpif-netdev/pmd-rxq-show", "", 0..=0, worker::rxq_show),
    command("dpif-netdev/pmd-sleep-show", "", 0..=0, worker::sleep_show),
    command("dpif-netdev/pmd-stats-clear", "", 0..=0, worker::stats_clear),
    command("dpif-netdev/pmd-stats-show", "", 0..=0, worker::perf_show),
    command("dpif/show", "", 0..=0, port::dpif_show),
    command("drops", "[PORT|BRIDGE]", 0..=1, port::drops),
    command("exit", "[--cleanup]", 0..=1, daemon::exit),
    command("fdb/add", "BRIDGE PORT VLAN MAC", 4..=4, fdb::add),
    command("fdb/del", "BRIDGE VLAN MAC", 3..=3, fdb::del),
    command("fdb/flush", "[BRIDGE]", 0..=1, fdb::flush),
    command("fdb/show", "BRIDGE", 1..=1, fdb::show),
    command("fdb/stats-clear", "[BRIDGE]", 0..=1, fdb::stats_clear),
    command("fdb/stats-show", "BRIDGE", 1..=1, fdb::stats_show),
    command("flows/top", "[COUNT]", 0..=1, flows::top),
    command("forward/trace", "SOURCE DESTINATION [proto P] [sport N] [dport N] [vrf NAME]", 2..=10, trace::trace),
    command("interface", "NAME", 1..=1, interface::show),
    command("interface/brief", "", 0..=0, interface::brief),
    command("list-commands", "", 0..=0, daemon::list_commands),
    command("mdb/flush", "[BRIDGE]", 0..=1, mdb::flush),
    command("mdb/show", "BRIDGE", 1..=1, mdb::show),
    command("memory/show", "", 0..=0, daemon::memory_show),
    command("neigh/flush", "[dev IFACE] [vrf NAME]", 0..=4, neigh::flush),
    command("neigh/show", "[dev IFACE] [vrf NAME]", 0..=4, neigh::show),
    command("ofproto/trace", "[BRIDGE] FLOW [PACKET]", 1..=3, ofproto::trace),
    command("port/stats", "[PORT]", 0..=1, port::stats),
    command("route/get", "ADDRESS [vrf NAME]", 1..=3, route::get),
    command("route/show", "[PREFIX] [vrf NAME]", 0..=3, route::show),
    command("version", "", 0..=0, daemon::version),
    command("vlog/list", "", 0..=0, daemon::vlog_list),
    command("vlog/set", "[MODULE:DESTINATION:LEVEL]...", 0..=64, daemon::vlog_set),
    command("worker/show", "", 0..=0, worker::show),
];

/// Runs the command `name`. The error is one line for the user.
pub fn run(context: &mut Context<'_>, name: &str, args: &[String]) -> Result<Value, String> {
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(format!(
            "\"{name}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
        ));
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
        let (least, most) = (command.arguments.start(), command.arguments.end());
        let problem = if args.len() < *least {
            format!("requires at least {least} arguments")
        } else {
            format!("takes at most {most} arguments")
        };
        return Err(format!("\"{name}\" command {problem}: {name} {}", command.usage));
    }
    (command.run)(context, &args)
}
