//! How do the commands' changes become one atomic transaction that nobody else's change can falsify?
//!
//! Commands work on a copy of the rows. What they relied on is sent back as `wait` operations, what they changed as
//! `insert`, `update`, `mutate` and `delete`. If a `wait` fails, somebody else was faster: read again, run again.

use super::commands::Stop;
use super::snapshot::Snapshot;
use crate::datum::{Atom, Datum};
use crate::schema::{DatabaseSchema, TableSchema, UNLIMITED};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use uuid::Uuid;

/// Columns by name.
pub type Row = BTreeMap<String, Datum>;

static EMPTY: Datum = Datum::Set(BTreeSet::new());

/// How a column was changed.
struct Change {
    before: Datum,
    /// The new value replaces whatever is there; else only the difference is sent.
    replace: bool,
}

/// The rows as the commands see them, and what has to be sent.
pub struct Transaction {
    schema: Rc<DatabaseSchema>,
    rows: BTreeMap<String, BTreeMap<Uuid, Row>>,
    /// Tables of which not every row was read.
    partial: BTreeSet<String>,
    inserted: Vec<(String, Uuid)>,
    deleted: Vec<(String, Uuid)>,
    changed: BTreeMap<(String, Uuid), BTreeMap<String, Change>>,
    /// `wait` operations as text, each once.
    guards: BTreeSet<String>,
    /// Rows whose interfaces are looked at after the change was applied.
    pub touched: BTreeSet<(String, Uuid)>,
    /// New interfaces of new ports and bridges: the ones that `ovs-vsctl` looks at.
    pub added: BTreeSet<(String, Uuid)>,
}

impl Transaction {
    /// On rows that were just read.
    pub(super) fn new(schema: Rc<DatabaseSchema>, snapshot: Snapshot) -> Transaction {
        Transaction {
            schema,
            rows: snapshot.rows,
            partial: snapshot.partial,
            inserted: vec![],
            deleted: vec![],
            changed: BTreeMap::new(),
            guards: BTreeSet::new(),
            touched: BTreeSet::new(),
            added: BTreeSet::new(),
        }
    }

    /// Whether the table may have rows that were not read.
    pub fn is_partial(&self, table: &str) -> bool {
        self.partial.contains(table)
    }

    /// The rows of a table that were read, by name where it has names, then by UUID.
    pub fn rows(&self, table: &str) -> Vec<Uuid> {
        let Some(rows) = self.rows.get(table) else {
            return vec![];
        };
        let mut sorted: Vec<(Option<&Datum>, Uuid)> = rows.iter().map(|(uuid, row)| (row.get("name"), *uuid)).collect();
        sorted.sort_unstable();
        sorted.into_iter().map(|(_, uuid)| uuid).collect()
    }

    /// Whether a row is there.
    pub fn exists(&self, table: &str, row: Uuid) -> bool {
        self.rows.get(table).is_some_and(|rows| rows.contains_key(&row))
    }

    /// Whether a row is new in this transaction.
    pub fn is_inserted(&self, row: Uuid) -> bool {
        self.inserted.iter().any(|(_, uuid)| *uuid == row)
    }

    /// A column; the empty set where the row, or the column in this database, is missing.
    pub fn get(&self, table: &str, row: Uuid, column: &str) -> &Datum {
        self.rows.get(table).and_then(|rows| rows.get(&row)?.get(column)).unwrap_or(&EMPTY)
    }

    /// The name of a row.
    pub fn name(&self, table: &str, row: Uuid) -> &str {
        self.get(table, row, "name").as_str().unwrap_or_default()
    }

    /// The one row of `Open_vSwitch`; made if it is not there.
    pub fn root(&mut self) -> Uuid {
        const ROOT: &str = "Open_vSwitch";
        let first = self.rows.get(ROOT).and_then(|rows| rows.keys().next().copied());
        first.unwrap_or_else(|| {
            self.guard(ROOT, json!([]), "==");
            self.insert(ROOT, None, [])
        })
    }

    /// A new row with defaults but for `columns`.
    pub fn insert<const N: usize>(&mut self, table: &str, uuid: Option<Uuid>, columns: [(&str, Datum); N]) -> Uuid {
        let uuid = uuid.unwrap_or_else(Uuid::new_v4);
        let defaults = self.schema.table(table).map_or(&[][..], TableSchema::columns);
        let mut row: Row =
            defaults.iter().map(|column| (column.name.clone(), Datum::default_of(&column.kind))).collect();
        row.extend(columns.map(|(name, value)| (name.to_owned(), value)));
        self.rows.entry(table.to_owned()).or_default().insert(uuid, row);
        self.inserted.push((table.to_owned(), uuid));
        self.touch(table, uuid);
        uuid
    }

    /// A new interface of a port.
    pub fn insert_interface<const N: usize>(&mut self, columns: [(&str, Datum); N]) -> Uuid {
        let row = self.insert("Interface", None, columns);
        self.added.insert(("Interface".to_owned(), row));
        row
    }

    /// Removes a row. In tables without a root mark the daemon keeps it while somebody refers to it.
    pub fn delete(&mut self, table: &str, row: Uuid) {
        if self.rows.get_mut(table).and_then(|rows| rows.remove(&row)).is_none() {
            return;
        }
        self.changed.remove(&(table.to_owned(), row));
        let before = self.inserted.len();
        self.inserted.retain(|(_, uuid)| *uuid != row);
        let is_root = self.schema.table(table).is_some_and(|schema| schema.is_root);
        if is_root && self.inserted.len() == before {
            self.deleted.push((table.to_owned(), row));
        }
    }

    /// Gives a column a new value, whatever others make of it meanwhile.
    pub fn replace(&mut self, table: &str, row: Uuid, column: &str, value: Datum) {
        self.write(table, row, column, value, true);
    }

    /// Gives a column a new value such that only the difference is sent.
    pub fn amend(&mut self, table: &str, row: Uuid, column: &str, value: Datum) {
        self.write(table, row, column, value, false);
    }

    fn write(&mut self, table: &str, row: Uuid, column: &str, value: Datum, replace: bool) {
        let Some(columns) = self.rows.get_mut(table).and_then(|rows| rows.get_mut(&row)) else {
            return;
        };
        let before = columns.insert(column.to_owned(), value).unwrap_or_else(|| EMPTY.clone());
        if !self.is_inserted(row) {
            let changes = self.changed.entry((table.to_owned(), row)).or_default();
            let change = changes.entry(column.to_owned()).or_insert(Change { before, replace });
            change.replace |= replace;
        }
    }

    /// Adds a row to a set of references.
    pub fn link(&mut self, table: &str, row: Uuid, column: &str, target: Uuid) {
        let mut value = self.get(table, row, column).clone();
        if let Datum::Set(set) = &mut value {
            set.insert(Atom::Uuid(target));
        }
        self.amend(table, row, column, value);
    }

    /// Takes a row out of a set of references.
    pub fn unlink(&mut self, table: &str, row: Uuid, column: &str, target: Uuid) {
        let mut value = self.get(table, row, column).clone();
        if let Datum::Set(set) = &mut value {
            set.remove(&Atom::Uuid(target));
        }
        self.amend(table, row, column, value);
    }

    /// Has the row, and what belongs to it, looked at in the end: is it in trouble?
    pub fn touch(&mut self, table: &str, row: Uuid) {
        const REPORTING: [&str; 8] =
            ["Open_vSwitch", "Bridge", "Mirror", "Port", "Interface", "SVI", "Route", "Neighbor"];
        if REPORTING.contains(&table) {
            self.touched.insert((table.to_owned(), row));
        }
    }

    /// Asserts that some rows (`!=`) or no rows (`==`) meet the conditions.
    fn count_guard(&self, table: &str, conditions: Value, until: &str) -> Value {
        // Any column will do where the number of rows is all that matters.
        let any = self.schema.table(table).and_then(|t| t.columns().first());
        let columns: Vec<&str> = any.iter().map(|column| column.name.as_str()).collect();
        json!({"op": "wait", "timeout": 0, "table": table, "where": conditions,
               "columns": columns, "until": until, "rows": []})
    }

    fn guard(&mut self, table: &str, conditions: Value, until: &str) {
        let guard = self.count_guard(table, conditions, until).to_string();
        self.guards.insert(guard);
    }

    /// Relies on the row's existence.
    pub fn rely_on_row(&mut self, table: &str, row: Uuid) {
        if !self.is_inserted(row) {
            self.guard(table, by_uuid(row), "!=");
        }
    }

    /// Relies on no row having this name.
    pub fn rely_on_absence(&mut self, table: &str, name: &str) {
        self.guard(table, json!([["name", "==", name]]), "==");
    }

    /// Relies on no bridge, real or fake, having this name.
    pub fn rely_on_no_bridge(&mut self, name: &str) {
        self.rely_on_absence("Bridge", name);
        let fake = json!([["name", "==", name], ["fake_bridge", "==", true]]);
        self.guard("Port", fake, "==");
    }

    /// Relies on a reference in a set.
    pub fn rely_on_link(&mut self, table: &str, row: Uuid, column: &str, target: Uuid) {
        if !self.is_inserted(row) && !self.is_inserted(target) {
            let uuid = |uuid| Atom::Uuid(uuid).to_json();
            let conditions = json!([["_uuid", "==", uuid(row)], [column, "includes", uuid(target)]]);
            self.guard(table, conditions, "!=");
        }
    }

    /// Relies on the value that a column had when it was read.
    pub fn rely_on_value(&mut self, table: &str, row: Uuid, column: &str) {
        if self.is_inserted(row) {
            return;
        }
        let changes = self.changed.get(&(table.to_owned(), row));
        let value = match changes.and_then(|columns| columns.get(column)) {
            Some(change) => &change.before,
            None => self.get(table, row, column),
        };
        let guard = json!({"op": "wait", "timeout": 0, "table": table,
            "where": by_uuid(row),
            "columns": [column], "until": "==", "rows": [{column: value.to_json()}]});
        self.guards.insert(guard.to_string());
    }

    /// The operations, and at which place of the reply the UUID of each inserted row is. No operations if nothing was
    /// changed.
    pub fn operations(&self) -> Result<(Vec<Value>, BTreeMap<usize, Uuid>), Stop> {
        let mut changes = vec![];
        for (table, row) in &self.deleted {
            changes.push(json!({"op": "delete", "table": table, "where": by_uuid(*row)}));
        }
        for ((table, row), columns) in &self.changed {
            self.change_operations(table, *row, columns, &mut changes)?;
        }
        if changes.is_empty() && self.inserted.is_empty() {
            return Ok((vec![], BTreeMap::new()));
        }
        // A row that vanished meanwhile would swallow its change without a word.
        let changed = self.changed.keys().map(|(table, row)| self.count_guard(table, by_uuid(*row), "!=").to_string());
        let guards: BTreeSet<String> = self.guards.iter().cloned().chain(changed).collect();
        let mut operations: Vec<Value> = guards.iter().filter_map(|guard| serde_json::from_str(guard).ok()).collect();
        let mut places = BTreeMap::new();
        for (table, uuid) in &self.inserted {
            places.insert(operations.len(), *uuid);
            operations.push(self.insert_operation(table, *uuid));
        }
        operations.extend(changes);
        operations.iter_mut().for_each(|operation| self.use_names(operation));
        Ok((operations, places))
    }

    fn insert_operation(&self, table: &str, uuid: Uuid) -> Value {
        let mut row = serde_json::Map::new();
        for column in self.schema.table(table).map_or(&[][..], TableSchema::columns) {
            let value = self.get(table, uuid, &column.name);
            if *value != Datum::default_of(&column.kind) {
                row.insert(column.name.clone(), value.to_json());
            }
        }
        json!({"op": "insert", "table": table, "row": row, "uuid-name": uuid_name(uuid)})
    }

    fn change_operations(
        &self,
        table: &str,
        row: Uuid,
        columns: &BTreeMap<String, Change>,
        out: &mut Vec<Value>,
    ) -> Result<(), Stop> {
        let mut update = serde_json::Map::new();
        let mut mutations = vec![];
        for (column, change) in columns {
            let after = self.get(table, row, column);
            if *after == change.before {
                continue;
            }
            let max =
                self.schema.table(table).and_then(|schema| schema.column(column)).map_or(1, |column| column.kind.max);
            if change.replace || max != UNLIMITED {
                update.insert(column.clone(), after.to_json());
            } else {
                mutations.extend(difference(column, &change.before, after));
            }
        }
        if !update.is_empty() {
            out.push(json!({"op": "update", "table": table, "where": by_uuid(row), "row": update}));
        }
        if !mutations.is_empty() {
            out.push(json!({"op": "mutate", "table": table, "where": by_uuid(row), "mutations": mutations}));
        }
        Ok(())
    }

    /// Rows of this transaction have no UUID yet: they are called by name.
    fn use_names(&self, json: &mut Value) {
        match json {
            Value::Array(pair) if pair.len() == 2 && pair[0] == "uuid" => {
                let uuid = pair[1].as_str().and_then(|text| Uuid::try_parse(text).ok());
                if let Some(uuid) = uuid.filter(|uuid| self.is_inserted(*uuid)) {
                    *json = json!(["named-uuid", uuid_name(uuid)]);
                }
            }
            Value::Array(elements) => elements.iter_mut().for_each(|value| self.use_names(value)),
            Value::Object(members) => members.values_mut().for_each(|value| self.use_names(value)),
            _ => {}
        }
    }
}

fn by_uuid(row: Uuid) -> Value {
    json!([["_uuid", "==", Atom::Uuid(row).to_json()]])
}

/// A name that RFC 7047 allows: letters, digits and underscores.
fn uuid_name(uuid: Uuid) -> String {
    format!("row{}", uuid.to_string().replace('-', "_"))
}

/// The mutations that lead from one value to another: removed elements, then new ones.
fn difference(column: &str, before: &Datum, after: &Datum) -> Vec<Value> {
    let (gone, new) = match (before, after) {
        (Datum::Set(before), Datum::Set(after)) => (
            Datum::Set(before.difference(after).cloned().collect()),
            Datum::Set(after.difference(before).cloned().collect()),
        ),
        (Datum::Map(before), Datum::Map(after)) => {
            let gone = before.iter().filter(|(k, v)| after.get(k) != Some(v));
            let new = after.iter().filter(|(k, v)| before.get(k) != Some(v));
            // "insert" leaves a key alone that is there: a key with a new value is deleted first, whatever its value.
            let gone: BTreeSet<Atom> = gone.map(|(k, _)| k.clone()).collect();
            let new: BTreeMap<Atom, Atom> = new.map(|(k, v)| (k.clone(), v.clone())).collect();
            let keys = gone.iter().chain(new.keys()).cloned().collect();
            (Datum::Set(keys), Datum::Map(new))
        }
        _ => return vec![],
    };
    let mut mutations = vec![];
    if !gone.is_empty() {
        // A single element without its "set" would be read as a map's pair list otherwise.
        let all: Vec<Value> = gone.elements().map(Atom::to_json).collect();
        mutations.push(json!([column, "delete", ["set", all]]));
    }
    if !new.is_empty() {
        mutations.push(json!([column, "insert", new.to_json()]));
    }
    mutations
}
