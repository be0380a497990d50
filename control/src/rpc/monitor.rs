//! Which rows does a client watch, and what is it told when they change (RFC 7047 §4.1.5–4.1.7, and the conditional
//! forms of ovsdb-server(7))?

use crate::database::{Database, Delta, Row, TableId};
use crate::datum::{Datum, no_names};
use crate::schema::{AtomType, BaseType, ColumnType, TableSchema};
use crate::transaction::{Condition, OperationError};
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
    /// `None`: `_version`.
    at: Option<usize>,
    kind: ColumnType,
    select: Select,
}

impl Column {
    fn value<'a>(&self, row: &'a Row) -> Cow<'a, Datum> {
        match self.at {
            Some(at) => Cow::Borrowed(&row.columns[at]),
            None => Cow::Owned(Datum::from(row.version)),
        }
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
        let requests = requests.as_object();
        let requests =
            requests.ok_or_else(|| OperationError::syntax("monitor requests must be an object of tables"))?;
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
    /// watched from now on, or no longer, still under the old name.
    pub(super) fn change_conditions(
        &mut self,
        id: Value,
        requests: &Value,
        database: &Database,
    ) -> Result<Option<(&'static str, Value)>, OperationError> {
        if self.version == Version::Update {
            return Err(OperationError::syntax("this monitor has no conditions: it was not made by monitor_cond"));
        }
        let requests = requests.as_object();
        let requests = requests.ok_or_else(|| OperationError::syntax("conditions must be an object of tables"))?;
        let mut changed = BTreeMap::new();
        for (name, requests) in requests {
            let Some(table) = database.table_id(name).filter(|table| self.tables.contains_key(table)) else {
                return Err(OperationError::syntax(format!("table {name} is not monitored")));
            };
            let schema = database.tables()[table].schema();
            let mut conditions = Vec::new();
            let requests = requests.as_array().map_or(std::slice::from_ref(requests), Vec::as_slice);
            for request in requests {
                let allowed = |(name, _): (&String, &Value)| name == "where";
                if !request.as_object().is_some_and(|members| members.iter().all(allowed)) {
                    return Err(OperationError::syntax("only \"where\" can be changed"));
                }
                conditions.extend(conditions_from_json(request, schema)?);
            }
            changed.insert(table, conditions);
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
        let notification = self.notification(updates, Uuid::nil());
        self.id = id;
        Ok(notification)
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
        let object = request.as_object();
        let object = object.ok_or_else(|| OperationError::syntax("a monitor request must be an object"))?;
        let conditional = version != Version::Update;
        let known = |name: &str| matches!(name, "columns" | "select") || (name == "where" && conditional);
        if let Some(name) = object.keys().find(|name| !known(name)) {
            return Err(OperationError::syntax(format!("Member '{name}' is present but not allowed here.")));
        }
        let select = select_from_json(object.get("select"), &schema.name)?;
        for (wanted, all) in select.iter().zip(&mut self.select) {
            *all |= wanted;
        }
        match object.get("columns") {
            None => {
                for column in schema.columns() {
                    self.add_column(&column.name, schema, select)?;
                }
            }
            Some(columns) => {
                let names = columns.as_array().map(|names| names.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
                let names = names.flatten().ok_or_else(|| OperationError::syntax("array of column names expected"))?;
                // The UUID is told of every row anyway.
                for name in names.into_iter().filter(|name| *name != "_uuid") {
                    self.add_column(name, schema, select)?;
                }
            }
        }
        self.conditions.extend(conditions_from_json(request, schema)?);
        Ok(())
    }

    fn add_column(&mut self, name: &str, schema: &TableSchema, select: Select) -> Result<(), OperationError> {
        let (at, kind) = match schema.column_index(name) {
            Some(at) => (Some(at), schema.columns()[at].kind.clone()),
            None if name == "_version" => {
                (None, ColumnType { key: BaseType::of(AtomType::Uuid), value: None, min: 1, max: 1 })
            }
            None => {
                let details = format!("{name} is not a valid column name in table {}", schema.name);
                return Err(OperationError::syntax(details));
            }
        };
        if self.columns.iter().any(|column| column.at == at) {
            return Err(OperationError::syntax(format!("column {name} mentioned more than once")));
        }
        self.columns.push(Column { name: name.to_owned(), at, kind, select });
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

fn select_from_json(json: Option<&Value>, table: &str) -> Result<Select, OperationError> {
    let mut select = [true; 4];
    let Some(json) = json else { return Ok(select) };
    let object = json.as_object().ok_or_else(|| OperationError::syntax("\"select\" must be an object"))?;
    for (name, value) in object {
        let kind = ["initial", "insert", "delete", "modify"].iter().position(|kind| kind == name);
        match (kind, value) {
            (Some(kind), Value::Bool(wanted)) => select[kind] = *wanted,
            (Some(_), _) => {
                let details = format!("Type mismatch for member '{name}': it must be true or false.");
                return Err(OperationError::syntax(details));
            }
            (None, _) => {
                let details = format!("Parsing table {table} select: Member '{name}' is present but not allowed here.");
                return Err(OperationError::syntax(details));
            }
        }
    }
    Ok(select)
}

/// Each clause of `where` on its own: one that holds is enough.
fn conditions_from_json(request: &Value, schema: &TableSchema) -> Result<Vec<Condition>, OperationError> {
    match request.get("where") {
        None => Ok(Vec::new()),
        Some(Value::Array(clauses)) => {
            let condition = |clause: &Value| Condition::from_json(&json!([clause]), schema, &no_names);
            clauses.iter().map(condition).collect()
        }
        Some(_) => Err(OperationError::syntax("Type mismatch for member 'where': it must be an array.")),
    }
}
