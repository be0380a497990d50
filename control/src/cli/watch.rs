//! What is changing right now? `watch` prints one line for each change of a row until it is interrupted or the daemon goes.

use super::client::{Client, ClientError};
use super::commands::Stop;
use super::grammar::{Command, Invocation};
use super::output::{Format, plain_column};
use super::program::Program;
use super::transaction::Row;
use super::{DATABASE, nearest};
use crate::datum::{Datum, no_names};
use crate::schema::{ColumnSchema, DatabaseSchema, TableSchema};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::{Duration, SystemTime};

/// A daemon that is silent for so long is asked whether it is alive, and given up when it is silent as long again.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Columns that change all the time: shown only if their table is asked for by name.
const RESTLESS: [(&str, &str); 4] = [
    ("Open_vSwitch", "cur_cfg"),
    ("Open_vSwitch", "next_cfg"),
    ("Open_vSwitch", "statistics"),
    ("Interface", "statistics"),
];

struct Watch {
    schema: DatabaseSchema,
    /// Every row of the tables that are followed, by table and UUID.
    rows: BTreeMap<String, BTreeMap<String, Row>>,
    /// Only what belongs to these bridges; empty: everything.
    bridges: BTreeSet<String>,
    /// Tables whose changes are printed.
    tables: BTreeSet<String>,
    /// Tables that were asked for by name.
    named: BTreeSet<String>,
    json: bool,
}

/// `watch [TABLE|BRIDGE]...`
pub(super) fn run(program: &Program, invocation: &Invocation, command: &Command) -> Result<u8, Stop> {
    end_on_interrupt();
    let mut client = program.connect(invocation)?;
    let schema = client.call("get_schema", json!([DATABASE])).map_err(|error| program.explain(error))?;
    let schema = DatabaseSchema::from_json(&schema).map_err(|error| Stop::new(error.to_string()))?;
    let mut watch = Watch {
        schema,
        rows: BTreeMap::new(),
        bridges: BTreeSet::new(),
        tables: BTreeSet::new(),
        named: BTreeSet::new(),
        json: invocation.style.format == Format::Json,
    };
    let names = program.read(&mut client, &[("Bridge", &["name"])])?;
    let names: BTreeSet<&str> = names[0].iter().filter_map(|row| row["name"].as_str()).collect();
    command.args.iter().try_for_each(|typed| watch.choose(typed, &names))?;
    watch.complete();
    let updates = client.call("monitor_cond", json!([DATABASE, "watch", watch.requests()]));
    let updates = updates.map_err(|error| program.explain(error))?;
    watch.apply(&updates, None);
    watch.follow(program, &mut client)
}

/// Ctrl-C is how what goes on for ever is meant to end. Each line has been written by then.
pub(super) fn end_on_interrupt() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            std::process::exit(0);
        }
    });
}

impl Watch {
    /// A bridge by its name, else a table.
    fn choose(&mut self, typed: &str, bridges: &BTreeSet<&str>) -> Result<(), Stop> {
        if bridges.contains(typed) {
            self.bridges.insert(typed.to_owned());
            return Ok(());
        }
        match super::commands::table(&self.schema, typed) {
            Ok(table) => {
                let name = table.name.clone();
                self.named.insert(name.clone());
                self.tables.insert(name);
                Ok(())
            }
            Err(_) => {
                let names = bridges.iter().copied().chain(self.schema.tables.keys().map(String::as_str));
                let near = nearest(typed, names).map(|near| format!("did you mean {near}?"));
                let remedy = near.or_else(|| Some("\"list-br\" shows the bridges".to_owned()));
                Err(Stop::new(format!("no bridge or table named {typed}")).hint(remedy))
            }
        }
    }

    /// What is followed if nothing was asked for; and what must be known to tell what belongs to a bridge.
    fn complete(&mut self) {
        if !self.bridges.is_empty() {
            self.tables.extend(["Bridge", "Port", "Interface"].map(str::to_owned));
        } else if self.tables.is_empty() {
            self.tables.extend(self.schema.tables.keys().cloned());
        }
        for table in self.tables.iter().map(String::as_str).chain(["Bridge", "Port", "Interface"]) {
            self.rows.entry(table.to_owned()).or_default();
        }
    }

    fn requests(&self) -> Value {
        let request = |table: &String| {
            let columns = self.schema.table(table).map_or(&[][..], TableSchema::columns);
            let names = columns.iter().map(|column| column.name.as_str());
            let names: Vec<&str> = names.filter(|column| !self.is_restless(table, column)).collect();
            (table.clone(), json!([{ "columns": names }]))
        };
        self.rows.keys().map(request).collect::<serde_json::Map<_, _>>().into()
    }

    fn is_restless(&self, table: &str, column: &str) -> bool {
        !self.named.contains(table) && RESTLESS.contains(&(table, column))
    }

    fn follow(&mut self, program: &Program, client: &mut Client) -> Result<u8, Stop> {
        let mut asked = false;
        loop {
            match client.notification_within(SILENCE_MAX) {
                Ok(Some(note)) => {
                    asked = false;
                    if note["method"] == "update2"
                        && let Err(error) = self.apply(&note["params"][1], Some(now())).flush()
                    {
                        return match error.kind() {
                            std::io::ErrorKind::BrokenPipe => Ok(0), // the reader has seen enough
                            _ => Stop::fail(format!("cannot write: {error}")),
                        };
                    }
                }
                Ok(None) => asked = false, // an answer to our question
                Err(ClientError::Timeout) if !asked => {
                    client.ask_for_life(SILENCE_MAX).map_err(|error| program.explain(error))?;
                    asked = true;
                }
                Err(ClientError::Timeout) => {
                    let socket = program.socket.display();
                    return Err(Stop::new(format!("unix:{socket}: the daemon does not answer any more"))
                        .hint(Some("changes may have been missed; look at shuntd's log")));
                }
                Err(error) => return Err(program.explain(error)),
            }
        }
    }

    /// Takes changes in (`update2`); with a time also as lines.
    fn apply(&mut self, updates: &Value, time: Option<SystemTime>) -> Lines {
        let before = self.mine();
        let mut changes = vec![];
        for (table, rows) in updates.as_object().into_iter().flatten() {
            let Some(schema) = self.schema.table(table).cloned() else { continue };
            for (uuid, change) in rows.as_object().into_iter().flatten() {
                changes.extend(self.row(&schema, uuid, change));
            }
        }
        let mut lines = Lines(String::new());
        let Some(time) = time else { return lines };
        let after = self.mine();
        let time = rfc3339(time);
        let gone: BTreeMap<&String, &String> =
            changes.iter().filter_map(|change| Some((&change.uuid, change.name.as_ref()?))).collect();
        let name_of = |table: &str, row: &String| {
            let name = self.rows.get(table).and_then(|rows| row_name(rows.get(row)?));
            name.or_else(|| gone.get(row).map(|name| (*name).clone())).unwrap_or_else(|| row.clone())
        };
        for change in changes.iter().filter(|change| self.tables.contains(&change.table)) {
            let ours = |mine: &BTreeSet<String>| mine.contains(&change.uuid);
            let is_wanted =
                self.bridges.is_empty() || self.named.contains(&change.table) || ours(&before) || ours(&after);
            if is_wanted {
                lines.0 += &if self.json { change.json(&time) } else { change.text(&time, &name_of) };
                lines.0.push('\n');
            }
        }
        lines
    }

    /// The rows of the chosen bridges, their ports and interfaces.
    fn mine(&self) -> BTreeSet<String> {
        let mut mine = BTreeSet::new();
        if self.bridges.is_empty() {
            return mine;
        }
        let rows = |table: &str| self.rows.get(table).into_iter().flatten();
        for (uuid, bridge) in
            rows("Bridge").filter(|(_, row)| row_name(row).is_some_and(|name| self.bridges.contains(&name)))
        {
            mine.insert(uuid.clone());
            mine.extend(references(bridge.get("ports")));
        }
        let below = rows("Port").filter(|(uuid, _)| mine.contains(*uuid));
        let below: Vec<String> = below.flat_map(|(_, port)| references(port.get("interfaces"))).collect();
        mine.extend(below);
        mine
    }

    /// Takes the change of one row in.
    fn row(&mut self, schema: &TableSchema, uuid: &str, change: &Value) -> Option<Change> {
        let rows = self.rows.get_mut(&schema.name)?;
        let old = rows.remove(uuid);
        let (what, columns) = match change.as_object()?.iter().next()? {
            (what, _) if what == "delete" => (What::Delete, None),
            (what, columns) if what == "modify" => (What::Modify, Some(columns)),
            (_, columns) => (What::Insert, Some(columns)),
        };
        let mut row = old.unwrap_or_default();
        let name = row_name(&row);
        let mut changed = vec![];
        for (column, value) in columns.and_then(Value::as_object).into_iter().flatten() {
            let Some(column) = schema.column(column) else { continue };
            let Ok(value) = Datum::from_json_any_size(value, &column.kind, &no_names) else { continue };
            let old = row.remove(&column.name).unwrap_or_else(|| Datum::default_of(&column.kind));
            let mut new = old.clone();
            match what {
                What::Modify => new.apply_diff(value, &column.kind),
                _ => new = value,
            }
            if old != new {
                let (column, new) = (column.clone(), new.clone());
                changed.push(Changed { column, old, new });
            }
            row.insert(column.name.clone(), new);
        }
        let name = row_name(&row).or(name);
        if what != What::Delete {
            rows.insert(uuid.to_owned(), row);
        }
        let tells = what != What::Modify || !changed.is_empty();
        tells.then(|| Change { table: schema.name.clone(), uuid: uuid.to_owned(), name, what, changed })
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum What {
    Insert,
    Modify,
    Delete,
}

/// The name of a row of a table.
type NameOf<'a> = &'a dyn Fn(&str, &String) -> String;

struct Changed {
    column: ColumnSchema,
    old: Datum,
    new: Datum,
}

impl Changed {
    fn text(&self, what: What, name_of: NameOf<'_>) -> String {
        let (column, kind) = (&self.column.name, &self.column.kind);
        let named = |row: &String| match &kind.key.reference {
            Some(reference) => name_of(&reference.table, row),
            None => row.clone(),
        };
        let text = |value: &Datum| {
            let rows = references(Some(value));
            rows.iter().fold(value.to_text(kind), |text, row| text.replace(row, &named(row)))
        };
        match (&self.old, &self.new) {
            _ if what == What::Insert && column == "name" => String::new(),
            (_, new) if what == What::Insert => format!(" {column}={}", text(new)),
            (Datum::Set(old), Datum::Set(new)) if kind.key.reference.is_some() && kind.max != 1 => {
                let gone = old.difference(new).map(|row| format!(" -{}", named(&row.to_string())));
                let added = new.difference(old).map(|row| format!(" +{}", named(&row.to_string())));
                format!(" {column}:{}", gone.chain(added).collect::<String>())
            }
            (old, new) => format!(" {column}: {} → {}", text(old), text(new)),
        }
    }
}

struct Change {
    table: String,
    uuid: String,
    name: Option<String>,
    what: What,
    changed: Vec<Changed>,
}

impl Change {
    fn text(&self, time: &str, name_of: NameOf<'_>) -> String {
        let sign = match self.what {
            What::Insert => '+',
            What::Modify => '~',
            What::Delete => '-',
        };
        let name = self.name.as_deref().unwrap_or_else(|| self.uuid.get(..8).unwrap_or(&self.uuid));
        let changed: String = self.changed.iter().map(|changed| changed.text(self.what, name_of)).collect();
        format!("{time} {sign} {} {name}{changed}", self.table)
    }

    fn json(&self, time: &str) -> String {
        let what = match self.what {
            What::Insert => "insert",
            What::Modify => "modify",
            What::Delete => "delete",
        };
        let column = |changed: &Changed| {
            let [old, new] = [&changed.old, &changed.new].map(|value| plain_column(value, &changed.column.kind));
            let value = if self.what == What::Insert { json!({"new": new}) } else { json!({"old": old, "new": new}) };
            (changed.column.name.clone(), value)
        };
        let columns: serde_json::Map<_, _> = self.changed.iter().map(column).collect();
        json!({"time": time, "op": what, "table": self.table, "uuid": self.uuid, "name": self.name, "columns": columns})
            .to_string()
    }
}

/// Lines to be written at once.
struct Lines(String);

impl Lines {
    fn flush(self) -> std::io::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(self.0.as_bytes())?;
        stdout.flush()
    }
}

fn row_name(row: &Row) -> Option<String> {
    ["name", "target"].iter().find_map(|column| row.get(*column)?.as_str().map(str::to_owned))
}

fn references(value: Option<&Datum>) -> Vec<String> {
    value.into_iter().flat_map(Datum::uuids).map(|row| row.to_string()).collect()
}

/// For people to read; nothing is reckoned with it.
pub(super) fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "the time of day is what is asked for")]
    SystemTime::now()
}

/// `2026-11-21T04:31:46.123Z`
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a date in the Gregorian calendar, with years that begin in March (so that a leap day is their last).
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        let at = |seconds: u64| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.007Z");
        assert_eq!(at(1_795_235_506), "2026-11-21T04:31:46.007Z");
    }
}
