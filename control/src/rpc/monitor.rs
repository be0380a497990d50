//! Which rows does a client watch, and what is it told when they change (RFC 7047 §4.1.5–4.1.7, and the conditional
//! forms of ovsdb-server(7))?

use crate::database::{Database, Delta, Row, TableId};
use crate::datum::{Datum, no_names};
use crate::schema::{ColumnType, TableSchema};
use crate::transaction::{ColumnRef, Condition, OperationError};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Which form of notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// `monitor` and `update`: whole values, before and after.
    Update,
    /// `monitor_cond` and `update2`: differences.
    Update2,
    /// `monitor_cond_since` and `update3`: the same with the transaction's id.
    Update3,
}

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Initial,
    Insert,
    Delete,
    Modify,
}

/// The kinds of changes that are told of, in the order of [`Kind`].
type Select = [bool; 4];

#[derive(Debug)]
struct Column {
    name: String,
    at: ColumnRef,
    kind: ColumnType,
    select: Select,
}

impl Column {
    fn value<'a>(&self, row: &'a Row) -> Cow<'a, Datum> {
        self.at.value(row)
    }
}

#[derive(Debug)]
struct TableMonitor {
    columns: Vec<Column>,
    /// What any of the columns is wanted for; also when there are none.
    select: Select,
    /// A row is watched if any of them holds, or if there are none.
    conditions: Vec<Condition>,
}

/// One monitor of one client.
#[derive(Debug)]
pub(super) struct Monitor {
    /// What the client calls it.
    pub(super) id: Value,
    /// The database it watches.
    pub(super) database: String,
    version: Version,
    tables: BTreeMap<TableId, TableMonitor>,
}

impl Monitor {
    /// Reads `{TABLE: REQUEST or [REQUEST, ...], ...}`.
    pub(super) fn from_json(
        id: Value,
        requests: &Value,
        database: &Database,
        version: Version,
    ) -> Result<Monitor, OperationError> {
        let wrong = || OperationError::syntax("monitor-requests must be object").about(requests);
        let requests = requests.as_object().ok_or_else(wrong)?;
        let mut tables = BTreeMap::new();
        for (name, requests) in requests {
            let Some(table) = database.table_id(name) else {
                return Err(OperationError::syntax(format!("no table named {name}")));
            };
            let schema = database.tables()[table].schema();
            let mut monitor = TableMonitor { columns: Vec::new(), select: [false; 4], conditions: Vec::new() };
            match requests {
                Value::Array(requests) => requests.iter().try_for_each(|request| monitor.add(request, schema, version)),
                request => monitor.add(request, schema, version),
            }?;
            tables.insert(table, monitor);
        }
        Ok(Monitor { id, database: database.schema().name.clone(), version, tables })
    }

    /// What there is when the monitor begins: the result of the request.
    pub(super) fn initial(&self, database: &Database) -> Value {
        let mut updates = Updates::default();
        for (table, monitor) in &self.tables {
            for row in database.tables()[*table].all().values() {
                if monitor.watches(row) && monitor.select[Kind::Initial as usize] {
                    let update = monitor.appeared(self.version, Kind::Initial, row);
                    updates.put(database, *table, row.uuid, update);
                }
            }
        }
        match self.version {
            Version::Update | Version::Update2 => Value::Object(updates.0),
            // No history is kept: what the client knew before is void.
            Version::Update3 => json!([false, Uuid::nil().to_string(), updates.0]),
        }
    }

    /// Method and parameters of the notification about a transaction; `None` if the client need not know.
    pub(super) fn update(
        &self,
        database: &Database,
        delta: &Delta,
        transaction: Uuid,
    ) -> Option<(&'static str, Value)> {
        let mut updates = Updates::default();
        for change in &delta.changes {
            let Some(monitor) = self.tables.get(&change.id.table) else { continue };
            let watched = |row: &Row| monitor.watches(row);
            let old = change.old.as_deref().filter(|row| watched(row));
            let new = change.new.as_deref().filter(|row| watched(row));
            if let Some(update) = monitor.row_update(self.version, old, new) {
                updates.put(database, change.id.table, change.id.uuid, update);
            }
        }
        self.notification(updates, transaction)
    }

    fn notification(&self, updates: Updates, transaction: Uuid) -> Option<(&'static str, Value)> {
        let (id, updates) = (&self.id, (!updates.0.is_empty()).then_some(updates.0)?);
        Some(match self.version {
            Version::Update => ("update", json!([id, updates])),
            Version::Update2 => ("update2", json!([id, updates])),
            Version::Update3 => ("update3", json!([id, transaction.to_string(), updates])),
        })
    }

    /// `monitor_cond_change`: other conditions, a new name. Yields the notification about rows that are
    /// watched from now on, or no longer, under the new name.
    pub(super) fn change_conditions(
        &mut self,
        id: Value,
        requests: &Value,
        database: &Database,
    ) -> Result<Option<(&'static str, Value)>, OperationError> {
        let wrong = || OperationError::syntax("monitor-cond-change-requests must be object");
        let requests = requests.as_object().ok_or_else(wrong)?;
        let mut changed = BTreeMap::new();
        for (name, requests) in requests {
            let table = database.table_id(name);
            let table = table.ok_or_else(|| OperationError::syntax(format!("no table named {name}")))?;
            if !self.tables.contains_key(&table) {
                return Err(OperationError::syntax(format!("no table named {name} in monitor session")));
            }
            let schema = database.tables()[table].schema();
            let no_array = || OperationError::syntax(format!("table {name} no monitor-cond-change JSON array"));
            let mut conditions = Vec::new();
            for request in requests.as_array().ok_or_else(no_array)? {
                let known: &[Member] = &[("columns", Value::is_array), ("where", Value::is_array)];
                let members = members(request, &format!("table {name}"), known)?;
                if members.contains_key("columns") {
                    return Err(OperationError::syntax("changing columns is unsupported").about(request));
                }
                conditions.extend(conditions_from_json(members, schema)?);
            }
            changed.insert(table, conditions);
        }
        if self.version == Version::Update {
            changed.clear(); // such a monitor has no conditions, as in ovsdb-server
        }
        let mut updates = Updates::default();
        for (table, conditions) in changed {
            let Some(monitor) = self.tables.get_mut(&table) else { continue };
            let rows = database.tables()[table].all().values();
            let before: Vec<bool> = rows.clone().map(|row| monitor.watches(row)).collect();
            monitor.conditions = conditions;
            for (row, before) in rows.zip(before) {
                let (old, new) = (before.then_some(&**row), monitor.watches(row).then_some(&**row));
                if let Some(update) = monitor.row_update(self.version, old, new) {
                    updates.put(database, table, row.uuid, update);
                }
            }
        }
        self.id = id;
        Ok(self.notification(updates, Uuid::nil()))
    }
}

/// The rows a client learns of, by table and UUID.
#[derive(Default)]
struct Updates(Map<String, Value>);

impl Updates {
    fn put(&mut self, database: &Database, table: TableId, uuid: Uuid, update: Value) {
        let name = &database.tables()[table].schema().name;
        let rows = self.0.entry(name.as_str()).or_insert_with(|| json!({}));
        rows[uuid.to_string()] = update;
    }
}

impl TableMonitor {
    /// Adds one request to what is watched of the table.
    fn add(&mut self, request: &Value, schema: &TableSchema, version: Version) -> Result<(), OperationError> {
        let known: &[Member] =
            &[("where", Value::is_array), ("columns", Value::is_array), ("select", Value::is_object)];
        let known = if version == Version::Update { &known[1..] } else { known };
        let members = members(request, &format!("table {}", schema.name), known)?;
        let select = select_from_json(members.get("select"), &schema.name)?;
        for (wanted, all) in select.iter().zip(&mut self.select) {
            *all |= wanted;
        }
        match members.get("columns") {
            None => {
                for name in schema.columns().iter().map(|column| column.name.as_str()).chain(["_version"]) {
                    self.add_column(name, schema, select)?;
                }
            }
            Some(columns) => {
                let wrong = || OperationError::syntax("array of column names expected").about(columns);
                for name in columns.as_array().into_iter().flatten() {
                    let name = name.as_str().ok_or_else(wrong)?;
                    self.add_column(name, schema, select).map_err(|error| error.about(columns))?;
                }
            }
        }
        self.conditions.extend(conditions_from_json(members, schema)?);
        Ok(())
    }

    fn add_column(&mut self, name: &str, schema: &TableSchema, select: Select) -> Result<(), OperationError> {
        let unknown = |_| OperationError::syntax(format!("{name} is not a valid column name"));
        let at = ColumnRef::find(schema, name).map_err(unknown)?;
        if self.columns.iter().any(|column| column.at == at) {
            return Err(OperationError::syntax(format!("column {name} mentioned more than once")));
        }
        self.columns.push(Column { name: name.to_owned(), at, kind: at.kind(schema), select });
        Ok(())
    }

    fn watches(&self, row: &Row) -> bool {
        self.conditions.is_empty() || self.conditions.iter().any(|condition| condition.matches(row))
    }

    fn wanted(&self, kind: Kind) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(move |column| column.select[kind as usize])
    }

    fn row_update(&self, version: Version, old: Option<&Row>, new: Option<&Row>) -> Option<Value> {
        let (kind, update) = match (old, new) {
            (None, Some(new)) => (Kind::Insert, self.appeared(version, Kind::Insert, new)),
            (Some(old), None) => (Kind::Delete, self.vanished(version, old)),
            (Some(old), Some(new)) => (Kind::Modify, self.modified(version, old, new)?),
            (None, None) => return None,
        };
        self.select[kind as usize].then_some(update)
    }

    fn appeared(&self, version: Version, kind: Kind, row: &Row) -> Value {
        let mut columns = Map::new();
        for column in self.wanted(kind) {
            let value = column.value(row);
            // The later forms leave out what has its default value.
            if version == Version::Update || *value != Datum::default_of(&column.kind) {
                columns.insert(column.name.clone(), value.to_json());
            }
        }
        match (version, kind) {
            (Version::Update, _) => json!({"new": columns}),
            (_, Kind::Initial) => json!({"initial": columns}),
            _ => json!({"insert": columns}),
        }
    }

    fn vanished(&self, version: Version, row: &Row) -> Value {
        if version != Version::Update {
            return json!({"delete": null});
        }
        let columns = self.wanted(Kind::Delete).map(|column| (column.name.clone(), column.value(row).to_json()));
        json!({"old": columns.collect::<Map<_, _>>()})
    }

    /// `None` if nothing that is watched differs.
    fn modified(&self, version: Version, old: &Row, new: &Row) -> Option<Value> {
        let (mut all, mut changed) = (Map::new(), Map::new());
        for column in self.wanted(Kind::Modify) {
            let (before, after) = (column.value(old), column.value(new));
            let differs = before != after;
            if version == Version::Update {
                all.insert(column.name.clone(), after.to_json());
                if differs {
                    changed.insert(column.name.clone(), before.to_json());
                }
            } else if differs {
                changed.insert(column.name.clone(), before.diff(&after, &column.kind).to_json());
            }
        }
        (!changed.is_empty()).then(|| match version {
            Version::Update => json!({"old": changed, "new": all}),
            Version::Update2 | Version::Update3 => json!({"modify": changed}),
        })
    }
}

/// A member's name, and whether a value is of its type.
type Member = (&'static str, fn(&Value) -> bool);

/// The members of an object, which must be among those `known`. The errors are ovsdb-server's.
fn members<'a>(json: &'a Value, what: &str, known: &[Member]) -> Result<&'a Map<String, Value>, OperationError> {
    let failed = |problem: String| OperationError::syntax(format!("Parsing {what} failed: {problem}"));
    let members = json.as_object().ok_or_else(|| failed("Object expected.".to_owned()))?;
    for (name, fits) in known {
        if members.get(*name).is_some_and(|value| !fits(value)) {
            return Err(failed(format!("Type mismatch for member '{name}'.")).about(json));
        }
    }
    match members.keys().find(|name| !known.iter().any(|(known, _)| known == name)) {
        Some(name) => Err(failed(format!("Member '{name}' is present but not allowed here.")).about(json)),
        None => Ok(members),
    }
}

fn select_from_json(json: Option<&Value>, table: &str) -> Result<Select, OperationError> {
    let Some(json) = json else { return Ok([true; 4]) };
    let names = ["initial", "insert", "delete", "modify"];
    let members = members(json, &format!("table {table} select"), &names.map(|name| (name, Value::is_boolean as _)))?;
    Ok(names.map(|name| members.get(name) != Some(&Value::Bool(false))))
}

/// Each clause of `where` on its own: one that holds is enough.
fn conditions_from_json(request: &Map<String, Value>, schema: &TableSchema) -> Result<Vec<Condition>, OperationError> {
    let clauses = request.get("where").and_then(Value::as_array);
    let condition = |clause: &Value| Condition::from_json(&json!([clause]), schema, &no_names);
    clauses.into_iter().flatten().map(condition).collect()
}
