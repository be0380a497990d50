//! What happens between a command line and its output? `shuntctl`: argv → commands → one transaction → applied → text.
//!
//! The grammar is in [`grammar`], the list of commands in [`table`], what they do in [`commands`]; they work on a copy of
//! the rows they need ([`needs`]), which [`transaction`] turns into one atomic, guarded transaction. [`program`] takes them through it.
//! [`brctl`], [`capture`], [`docker`], [`drops`], [`top`], [`trace`] and [`watch`] are tools of their own, made of the same commands.

use commands::Stop;
use grammar::{Invocation, Page};
use program::Program;
use std::io::Write;
use std::time::Instant;
use table::Action;

mod applied;
mod brctl;
mod capture;
pub mod client;
pub mod commands;
mod docker;
mod drops;
mod flows;
pub mod grammar;
mod help;
pub mod needs;
pub mod output;
pub mod program;
mod snapshot;
pub mod table;
mod top;
mod trace;
pub mod transaction;
mod watch;

/// The database.
const DATABASE: &str = "Open_vSwitch";
/// Where the daemon listens unless told otherwise.
const DB_DEFAULT: &str = "unix:/run/shunt/db.sock";
/// Names the socket, if `--db` does not.
const DB_VARIABLE: &str = "SHUNT_DB";

/// A name under which the program can be called, besides its own.
struct Alias {
    name: &'static str,
    /// The command that its words belong to.
    command: Option<&'static str>,
    /// What stands before its messages.
    prefix: &'static str,
}

static ALIASES: &[Alias] = &[
    Alias { name: "ovs-vsctl", command: None, prefix: "ovs-vsctl: " },
    Alias { name: "ovs-docker", command: Some("docker"), prefix: "ovs-docker: " },
    Alias { name: "brctl", command: Some("brctl"), prefix: "" },
];

/// Runs a command line, the program's name included; gives the exit status.
pub fn run(argv: &[String]) -> u8 {
    let called = argv.first().map_or("", |name| name.rsplit('/').next().unwrap_or(name));
    let alias = ALIASES.iter().find(|alias| alias.name == called);
    let (name, prefix) = alias.map_or(("shuntctl", "shuntctl: "), |alias| (alias.name, alias.prefix));
    let as_ovs = name == "ovs-vsctl";
    let mut words = argv.get(1..).unwrap_or_default().to_vec();
    if let Some(command) = alias.and_then(|alias| alias.command) {
        words.insert(0, command.to_owned());
    }
    let result = grammar::parse(&words).and_then(|invocation| execute(&invocation, &words, name, as_ovs));
    match result {
        Ok(status) => status,
        Err(Stop::Exit(status)) => status,
        Err(Stop::TryAgain | Stop::ReadAll) => 1, // execute() tries again by itself
        Err(Stop::Fail { message, hint, status }) => {
            match hint.filter(|_| !as_ovs) {
                Some(hint) => eprintln!("{prefix}{message} ({hint})"),
                None => eprintln!("{prefix}{message}"),
            }
            status
        }
    }
}

fn execute(invocation: &Invocation, words: &[String], name: &'static str, as_ovs: bool) -> Result<u8, Stop> {
    if let Some(page) = invocation.page {
        print(&match page {
            Page::Help => help::page(name),
            Page::Version => format!(
                "{name} (shunt) {}\nDB Schema {}\n",
                env!("CARGO_PKG_VERSION"),
                crate::schema::vswitch::schema().version
            ),
            Page::Commands => help::commands(),
            Page::Options => help::options(),
        });
        return Ok(0);
    }
    let db = invocation.db.clone().unwrap_or_else(|| default_db(as_ovs));
    // A script written for `ovs-vsctl` may wait for a container as long as it likes.
    let timeout = invocation.timeout.unwrap_or((!as_ovs).then_some(grammar::TIMEOUT_DEFAULT));
    let program = Program {
        name,
        as_ovs,
        socket: client::socket_path(&db)?,
        deadline: timeout.map(|timeout| Instant::now() + timeout),
        timeout,
        words: words.join(" "),
    };
    match invocation.commands.as_slice() {
        [command] if matches!(command.spec.action, Action::Completion) => {
            print(&help::completion(&command.args[0])?);
            Ok(0)
        }
        [command] => match command.spec.action {
            Action::Runtime => program.call_method(invocation, command),
            Action::Tool(run) => run(&program, invocation, command),
            _ => program.transact(invocation),
        },
        _ => program.transact(invocation),
    }
}

/// Where the daemon is, if the command line does not say it.
fn default_db(as_ovs: bool) -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let ovs = || variable("OVS_RUNDIR").filter(|_| as_ovs).map(|folder| format!("unix:{folder}/db.sock"));
    variable(DB_VARIABLE).or_else(ovs).unwrap_or_else(|| DB_DEFAULT.to_owned())
}

/// Writes to standard output. A reader that went away is no error.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// The name most like what was typed, if there is one that a slip of the finger could have meant.
fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close = |name: &&'a str| {
        let distance = distance(typed, name);
        (distance <= 2 && distance * 2 < typed.len().max(2)).then_some(distance)
    };
    let mut found: Vec<(usize, &str)> = names.filter_map(|name| Some((close(&name)?, name))).collect();
    found.sort_unstable();
    found.first().map(|(_, name)| *name)
}

/// How many letters must be added, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mut best = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            best = best.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests;
