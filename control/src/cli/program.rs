//! How are commands carried out? Connect, read what they need, run them, commit, wait until applied, and say what came of it.

use super::client::{Client, ClientError};
use super::commands::{Context, Stop};
use super::grammar::{self, Command, Invocation};
use super::needs::{Needs, Plan};
use super::output::{self, Format, Table};
use super::snapshot::Snapshot;
use super::table::Action;
use super::transaction::Transaction;
use super::{DATABASE, DB_VARIABLE, print, snapshot};
use crate::schema::{DatabaseSchema, vswitch};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The program: how it was called, and what it talks to.
pub struct Program {
    /// In front of every message.
    pub(super) name: &'static str,
    /// Called as `ovs-vsctl`: print exactly what that prints.
    pub(super) as_ovs: bool,
    pub(super) socket: PathBuf,
    pub(super) deadline: Option<Instant>,
    /// As given, for messages.
    pub(super) timeout: Option<Duration>,
    /// The words of the command line, for the log.
    pub(super) words: String,
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
    pub(super) fn connect(&self, invocation: &Invocation) -> Result<Client, Stop> {
        let client = Client::connect(&self.socket, self.deadline, invocation.retry, invocation.verbose);
        client.map_err(|error| self.explain(error))
    }

    /// A failure to talk to the daemon, before anything was changed.
    pub(super) fn explain(&self, error: ClientError) -> Stop {
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

    pub(super) fn limit(&self) -> String {
        match self.timeout {
            Some(timeout) => format!("{} s", timeout.as_secs()),
            None => "the time limit".to_owned(),
        }
    }

    /// Calls a method of the daemon with string parameters.
    pub(super) fn call_method(&self, invocation: &Invocation, command: &Command) -> Result<u8, Stop> {
        let mut params = command.args.clone();
        if invocation.style.format == Format::Json {
            params.push("--format=json".to_owned());
        }
        let mut client = self.connect(invocation)?;
        let result = client.call(&command.name.replace(' ', "/"), json!(params)).map_err(|error| match error {
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

    pub(super) fn transact(&self, invocation: &Invocation) -> Result<u8, Stop> {
        let mut client = self.connect(invocation)?;
        let committed = self.commands(&mut client, invocation)?;
        print(&committed.output);
        match committed.next_cfg.filter(|_| invocation.wait && !invocation.dry_run) {
            Some(next_cfg) => {
                let trouble = self.wait_applied(&mut client, next_cfg, &committed.touched)?;
                Ok(self.report(&trouble))
            }
            None => Ok(0),
        }
    }

    /// For the tools: runs commands as if typed with `settings`' options; gives what they print, and the names and
    /// errors of interfaces in trouble.
    pub(super) fn change(
        &self,
        settings: &Invocation,
        words: &[&str],
    ) -> Result<(String, Vec<(String, String)>), Stop> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut invocation = grammar::parse(&words)?;
        (invocation.retry, invocation.verbose) = (settings.retry, settings.verbose);
        let mut client = self.connect(&invocation)?;
        let committed = self.commands(&mut client, &invocation)?;
        let trouble = match committed.next_cfg.filter(|_| settings.wait) {
            Some(next_cfg) => self.wait_applied(&mut client, next_cfg, &committed.touched)?,
            None => vec![],
        };
        Ok((committed.output, trouble))
    }

    /// For the tools: columns of whole tables, as they are on the wire.
    pub(super) fn read(&self, client: &mut Client, tables: &[(&str, &[&str])]) -> Result<Vec<Vec<Value>>, Stop> {
        let mut params = vec![json!(DATABASE)];
        let select = |(table, columns): &(&str, &[&str])| json!({"op": "select", "table": table, "where": [], "columns": columns});
        params.extend(tables.iter().map(select));
        let results = client.call("transact", Value::Array(params)).map_err(|error| self.explain(error))?;
        let rows = |place: usize| results[place]["rows"].as_array().cloned().unwrap_or_default();
        Ok((0..tables.len()).map(rows).collect())
    }

    /// The daemon's schema, which is only sent if it is not ours.
    fn schema(&self, client: &mut Client) -> Result<DatabaseSchema, Stop> {
        let schema = client.call("get_schema", json!([DATABASE, vswitch::DIGEST]));
        match schema.map_err(|error| self.explain(error))? {
            Value::Null => Ok(vswitch::schema()),
            json => DatabaseSchema::from_json(&json).map_err(|error| Stop::new(error.to_string())),
        }
    }

    fn commands(&self, client: &mut Client, invocation: &Invocation) -> Result<Committed, Stop> {
        let schema = self.schema(client)?;
        let needs = Needs::of(schema, &invocation.commands)?;
        self.warn(&needs.warnings);
        let waits = invocation.commands.iter().any(|command| command.name == "wait-until");
        if waits {
            snapshot::monitor(client, &needs).map_err(|error| self.explain(error))?;
        }
        self.attempts(client, invocation, &needs, waits)
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
            match self.attempt(client, invocation, needs, waits) {
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
        waits: bool,
    ) -> Result<Committed, Stop> {
        let explain = |error| match error {
            ClientError::Timeout if waits => self.not_in_time(),
            error => self.explain(error),
        };
        let mut read = |plan: Plan| snapshot::read(&mut |params| client.call("transact", params), &needs.schema, plan);
        let named = match read(needs.named()) {
            Ok(rows) => {
                let is_partial = !rows.partial.is_empty();
                Some(run(self.as_ovs, invocation, needs, rows)).filter(|ran| !is_partial || is_final(ran))
            }
            Err(ClientError::Refused(_)) => None,
            Err(error) => return Err(explain(error)),
        };
        let (ctx, outputs) = match named {
            Some(ran) => ran?,
            None => run(self.as_ovs, invocation, needs, read(needs.whole()).map_err(explain)?)?,
        };
        self.check_routers(client, &ctx)?;
        let (next_cfg, uuids) = self.commit(client, invocation, &ctx.txn)?;
        self.warn(&ctx.warnings);
        let mut output = format_outputs(outputs, invocation);
        for (ours, theirs) in &uuids {
            output = output.replace(&ours.to_string(), &theirs.to_string());
        }
        let touched = if self.as_ovs { ctx.txn.added } else { ctx.txn.touched }.into_iter();
        let touched = touched.map(|(table, row)| (table, *uuids.get(&row).unwrap_or(&row)));
        Ok(Committed { output, touched: touched.collect(), next_cfg })
    }

    /// Refuses routers that the daemon knows to be on no link, or on another one.
    fn check_routers(&self, client: &mut Client, ctx: &Context) -> Result<(), Stop> {
        for router in &ctx.routers {
            let mut params = vec![router.via.to_string(), "--format=json".to_owned()];
            params.extend(router.vrf.iter().flat_map(|vrf| ["vrf".to_owned(), vrf.clone()]));
            let is_on_link = match client.call("route/get", json!(params)) {
                Ok(route) => {
                    let hop = &route["next_hops"][0];
                    let is_named = router.dev.as_ref().is_none_or(|dev| hop["dev"] == dev.as_str());
                    route["type"] == "unicast" && hop["via"].is_null() && is_named
                }
                Err(ClientError::Refused(error)) => !error_text(&error).contains("no route to"),
                Err(error) => return Err(self.explain(error)),
            };
            if !is_on_link {
                let link = router.dev.as_ref().map_or("any link".to_owned(), |dev| format!("the link of {dev}"));
                let remedy = "give a router in the network of an interface, or add \"dev IFACE onlink\"";
                return Err(
                    Stop::new(format!("{} is not reachable: it is not on {link}", router.via)).hint(Some(remedy))
                );
            }
        }
        Ok(())
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

pub(super) type Outputs = Vec<(String, Option<Table>, Option<Value>)>;

/// Whether whole tables could bring nothing else: what is wrong, and what may have been meant, is seen in them only.
pub(super) fn is_final<T>(ran: &Result<T, Stop>) -> bool {
    !matches!(ran, Err(Stop::Fail { .. } | Stop::ReadAll))
}

/// Runs the commands on what was read.
pub(super) fn run(
    as_ovs: bool,
    invocation: &Invocation,
    needs: &Needs,
    snapshot: Snapshot,
) -> Result<(Context, Outputs), Stop> {
    let schema = needs.schema.clone();
    let mut ctx = Context::new(schema.clone(), Transaction::new(schema, snapshot), as_ovs);
    ctx.txn.root();
    let mut outputs = vec![];
    for command in &invocation.commands {
        if let Action::Config { run, .. } = command.spec.action {
            run(&mut ctx, command)?;
        }
        outputs.push((std::mem::take(&mut ctx.out), ctx.table.take(), ctx.json.take()));
    }
    ctx.check_symbols()?;
    Ok((ctx, outputs))
}

pub(super) fn format_outputs(outputs: Outputs, invocation: &Invocation) -> String {
    let (mut text, mut first) = (String::new(), true);
    for (out, table, json) in outputs {
        match (table, json) {
            (Some(table), _) => {
                text += &table.format(&invocation.style, first);
                first = false;
            }
            (None, Some(json)) if invocation.style.format == Format::Json => {
                text += &(output::json_text(&json, invocation.style.pretty) + "\n");
            }
            (None, _) if invocation.oneline => {
                let line = out.strip_suffix('\n').unwrap_or(&out);
                text += &line.replace('\\', "\\\\").replace('\n', "\\n");
                text.push('\n');
            }
            (None, _) => text += &out,
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
