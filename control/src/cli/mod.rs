//! What happens between a command line and its output? `shuntctl`: argv → commands → one transaction → applied → text.
//!
//! The grammar is in [`grammar`], the list of commands in [`table`], what they do in [`commands`]; they work on a copy of
//! the rows they need, which [`transaction`] turns into one atomic, guarded transaction.

use crate::schema::DatabaseSchema;
use client::{Client, ClientError};
use commands::{Context, Needs, Stop};
use grammar::{Command, Invocation, Page};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use table::Action;
use transaction::Transaction;
use uuid::Uuid;

mod applied;
pub mod client;
pub mod commands;
pub mod grammar;
mod help;
pub mod output;
mod snapshot;
pub mod table;
pub mod transaction;

/// The database.
const DATABASE: &str = "Open_vSwitch";
/// Where the daemon listens unless told otherwise.
const DB_DEFAULT: &str = "unix:/run/shunt/db.sock";
/// Names the socket, if `--db` does not.
const DB_VARIABLE: &str = "SHUNT_DB";

/// The program: how it was called, and what it talks to.
struct Program {
    /// In front of every message.
    name: &'static str,
    /// Called as `ovs-vsctl`: print exactly what that prints.
    as_ovs: bool,
    socket: PathBuf,
    deadline: Option<Instant>,
    /// As given, for messages.
    timeout: Option<Duration>,
    /// The words of the command line, for the log.
    words: String,
}

/// Runs a command line, the program's name included; gives the exit status.
pub fn run(argv: &[String]) -> u8 {
    let called = argv.first().map_or("", |name| name.rsplit('/').next().unwrap_or(name));
    let (name, as_ovs) = match called {
        "ovs-vsctl" => ("ovs-vsctl", true),
        _ => ("shuntctl", false),
    };
    let words = argv.get(1..).unwrap_or_default();
    let result = grammar::parse(words).and_then(|invocation| execute(&invocation, words, name, as_ovs));
    match result {
        Ok(status) => status,
        Err(Stop::Exit(status)) => status,
        Err(Stop::TryAgain) => 1, // execute() tries again by itself
        Err(Stop::Fail { message, hint, status }) => {
            match hint.filter(|_| !as_ovs) {
                Some(hint) => eprintln!("{name}: {message} ({hint})"),
                None => eprintln!("{name}: {message}"),
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
    let variable = std::env::var(DB_VARIABLE).ok().filter(|db| !db.is_empty());
    let db = invocation.db.clone().or(variable).unwrap_or_else(|| DB_DEFAULT.to_owned());
    let program = Program {
        name,
        as_ovs,
        socket: client::socket_path(&db)?,
        deadline: invocation.timeout.map(|timeout| Instant::now() + timeout),
        timeout: invocation.timeout,
        words: words.join(" "),
    };
    match invocation.commands.as_slice() {
        [command] if matches!(command.spec.action, Action::Completion) => {
            print(&help::completion(&command.args[0])?);
            Ok(0)
        }
        [command] if matches!(command.spec.action, Action::Runtime) => program.call_method(invocation, command),
        _ => program.transact(invocation),
    }
}

/// Writes to standard output. A reader that went away is no error.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// What an attempt at a transaction brought.
struct Committed {
    /// What the commands printed.
    output: String,
    /// Bridges, ports and interfaces whose state is of interest.
    touched: Vec<(String, Uuid)>,
    /// To wait for, if something was changed.
    next_cfg: Option<i64>,
}

impl Program {
    fn connect(&self, invocation: &Invocation) -> Result<Client, Stop> {
        let client = Client::connect(&self.socket, self.deadline, invocation.retry, invocation.verbose);
        client.map_err(|error| self.explain(error))
    }

    /// A failure to talk to the daemon, before anything was changed.
    fn explain(&self, error: ClientError) -> Stop {
        let path = self.socket.display();
        match error {
            ClientError::Connect { error, .. } => {
                let remedy = match error.kind() {
                    std::io::ErrorKind::PermissionDenied => {
                        "use sudo, or join the group that the socket belongs to".to_owned()
                    }
                    _ => format!(
                        "start shuntd, for example with \"systemctl start shuntd\", or name its socket with --db=unix:PATH or {DB_VARIABLE}"
                    ),
                };
                let reason = error.to_string();
                let reason = reason.split(" (os error").next().unwrap_or_default();
                Stop::new(format!("unix:{path}: database connection failed ({reason})")).hint(Some(remedy))
            }
            ClientError::Timeout => Stop::new(format!("unix:{path}: no answer within {}", self.limit()))
                .hint(Some("look at shuntd's log, or give a longer --timeout")),
            ClientError::Lost(reason) => Stop::new(format!("unix:{path}: {reason}")).hint(Some("look at shuntd's log")),
            ClientError::Refused(error) => Stop::new(error_text(&error)),
        }
    }

    fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            eprintln!("{}: warning: {warning}", self.name);
        }
    }

    fn limit(&self) -> String {
        match self.timeout {
            Some(timeout) => format!("{} s", timeout.as_secs()),
            None => "the time limit".to_owned(),
        }
    }

    /// Calls a method of the daemon with string parameters.
    fn call_method(&self, invocation: &Invocation, command: &Command) -> Result<u8, Stop> {
        let mut params = command.args.clone();
        if invocation.style.format == output::Format::Json {
            params.push("--format=json".to_owned());
        }
        let mut client = self.connect(invocation)?;
        let result = client.call(&command.name, json!(params)).map_err(|error| match error {
            ClientError::Refused(error) if is_unknown_method(&error) => {
                Stop::new(format!("{}: shuntd has no such command", command.name))
                    .hint(Some("\"list-commands\" shows what there is"))
            }
            error => self.explain(error),
        })?;
        let mut text = match result {
            Value::String(text) => text,
            Value::Null => String::new(),
            json => output::json_text(&json, invocation.style.pretty),
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        print(&text);
        Ok(0)
    }

    fn transact(&self, invocation: &Invocation) -> Result<u8, Stop> {
        let mut client = self.connect(invocation)?;
        let schema = client.call("get_schema", json!([DATABASE])).map_err(|error| self.explain(error))?;
        let schema = DatabaseSchema::from_json(&schema).map_err(|error| Stop::new(error.to_string()))?;
        let mut needs = Needs { schema: Rc::new(schema), tables: BTreeMap::new(), warnings: vec![] };
        needs.add(DATABASE, &[]);
        for command in &invocation.commands {
            if let Action::Config { needs: needed, .. } = command.spec.action {
                needed(&mut needs, command)?;
            }
        }
        self.warn(&needs.warnings);
        let waits = invocation.commands.iter().any(|command| command.name == "wait-until");
        if waits {
            snapshot::monitor(&mut client, &needs).map_err(|error| self.explain(error))?;
        }
        let committed = self.attempts(&mut client, invocation, &needs, waits)?;
        print(&committed.output);
        match committed.next_cfg.filter(|_| invocation.wait && !invocation.dry_run) {
            Some(next_cfg) => self.wait_applied(&mut client, next_cfg, &committed.touched),
            None => Ok(0),
        }
    }

    /// Reads, runs and commits until nobody interferes and every condition holds.
    fn attempts(
        &self,
        client: &mut Client,
        invocation: &Invocation,
        needs: &Needs,
        waits: bool,
    ) -> Result<Committed, Stop> {
        // A name that somebody else took after we looked breaks an index: the second look says whose it is.
        let mut second_look = false;
        loop {
            let rows = snapshot::read(client, needs).map_err(|error| match error {
                ClientError::Timeout if waits => self.not_in_time(),
                error => self.explain(error),
            })?;
            match self.attempt(client, invocation, needs, rows) {
                Err(Stop::TryAgain) => {}
                Err(Stop::Fail { message, .. }) if !second_look && message.contains("\"constraint violation\"") => {
                    second_look = true;
                    continue;
                }
                result => return result,
            }
            if waits {
                match client.notification() {
                    Ok(_) => client.forget_notifications(),
                    Err(ClientError::Timeout) => return Err(self.not_in_time()),
                    Err(error) => return Err(self.explain(error)),
                }
            }
        }
    }

    fn not_in_time(&self) -> Stop {
        Stop::new(format!("wait-until: the conditions did not hold within {}", self.limit()))
            .hint(Some("nothing was changed; give a longer --timeout"))
    }

    fn attempt(
        &self,
        client: &mut Client,
        invocation: &Invocation,
        needs: &Needs,
        rows: snapshot::Rows,
    ) -> Result<Committed, Stop> {
        let schema = needs.schema.clone();
        let mut ctx = Context::new(schema.clone(), Transaction::new(schema, rows), self.as_ovs);
        ctx.txn.root();
        let mut outputs = vec![];
        for command in &invocation.commands {
            if let Action::Config { run, .. } = command.spec.action {
                run(&mut ctx, command)?;
            }
            outputs.push((std::mem::take(&mut ctx.out), ctx.table.take()));
        }
        ctx.check_symbols()?;
        let (next_cfg, uuids) = self.commit(client, invocation, &ctx.txn)?;
        self.warn(&ctx.warnings);
        let mut output = format_outputs(outputs, invocation);
        for (ours, theirs) in &uuids {
            output = output.replace(&ours.to_string(), &theirs.to_string());
        }
        let touched = ctx.txn.touched.into_iter();
        let touched = touched.map(|(table, row)| (table, *uuids.get(&row).unwrap_or(&row)));
        Ok(Committed { output, touched: touched.collect(), next_cfg })
    }

    /// Sends the transaction. Gives the new `next_cfg`, and which UUIDs the daemon gave to our new rows.
    fn commit(
        &self,
        client: &mut Client,
        invocation: &Invocation,
        txn: &Transaction,
    ) -> Result<(Option<i64>, BTreeMap<Uuid, Uuid>), Stop> {
        let (mut operations, places) = txn.operations()?;
        if operations.is_empty() {
            return Ok((None, BTreeMap::new()));
        }
        let comment = format!("{}: {}", self.name, self.words);
        operations.push(json!({"op": "comment", "comment": comment}));
        if invocation.wait && !invocation.dry_run {
            operations.push(json!({"op": "mutate", "table": DATABASE, "where": [],
                "mutations": [["next_cfg", "+=", 1]]}));
            operations.push(json!({"op": "select", "table": DATABASE, "where": [], "columns": ["next_cfg"]}));
        }
        if invocation.dry_run {
            operations.push(json!({"op": "abort"}));
        }
        let mut params = vec![json!(DATABASE)];
        params.extend(operations);
        let results = client.call("transact", Value::Array(params)).map_err(|error| match error {
            ClientError::Timeout | ClientError::Lost(_) => Stop::new(format!(
                "unix:{}: {error} after the transaction was sent: it may or may not have been committed",
                self.socket.display()
            ))
            .hint(Some("\"show\" tells; look at shuntd's log")),
            error => self.explain(error),
        })?;
        let results = results.as_array().map_or(&[][..], Vec::as_slice);
        if let Some(failed) = results.iter().find(|result| result.get("error").is_some_and(|e| !e.is_null())) {
            match failed["error"].as_str() {
                Some("timed out") => return Err(Stop::TryAgain),
                Some("aborted") if invocation.dry_run => {}
                _ => return Err(Stop::new(format!("transaction error: {}", error_text(failed)))),
            }
        }
        let uuid = |place: &usize| Uuid::try_parse(results.get(*place)?["uuid"][1].as_str()?).ok();
        let uuids = places.iter().filter_map(|(place, ours)| Some((*ours, uuid(place)?)));
        let next_cfg = results.iter().find_map(|result| result["rows"][0]["next_cfg"].as_i64());
        Ok((next_cfg, uuids.collect()))
    }
}

fn format_outputs(outputs: Vec<(String, Option<output::Table>)>, invocation: &Invocation) -> String {
    let (mut text, mut first) = (String::new(), true);
    for (out, table) in outputs {
        match table {
            Some(table) => {
                text += &table.format(&invocation.style, first);
                first = false;
            }
            None if invocation.oneline => {
                let line = out.strip_suffix('\n').unwrap_or(&out);
                text += &line.replace('\\', "\\\\").replace('\n', "\\n");
                text.push('\n');
            }
            None => text += &out,
        }
    }
    text
}

fn is_unknown_method(error: &Value) -> bool {
    error.get("error").unwrap_or(error).as_str() == Some("unknown method")
}

/// An error object with its members in order, as `ovs-vsctl` prints it.
fn error_text(error: &Value) -> String {
    match error {
        Value::String(text) => text.clone(),
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            json!(sorted).to_string()
        }
        other => other.to_string(),
    }
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
