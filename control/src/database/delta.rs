//! What did a transaction change, and how is that written into the journal?

use super::{Database, Row, RowId};
use crate::datum::{Datum, no_names, parse_uuid};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// One row before and after.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which row.
    pub id: RowId,
    /// `None`: inserted.
    pub old: Option<Arc<Row>>,
    /// `None`: deleted.
    pub new: Option<Arc<Row>>,
}

/// Everything that one transaction changed; at most one change per row.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// In no particular order.
    pub changes: Vec<Change>,
}

/// Why a journaled change does not fit the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReplayError(String);

impl Delta {
    /// What undoes it.
    pub fn reversed(self) -> Delta {
        let reverse = |change: Change| Change { id: change.id, old: change.new, new: change.old };
        Delta { changes: self.changes.into_iter().map(reverse).collect() }
    }

    /// The form in the journal, `{TABLE: {UUID: {"insert": {...}} | {"modify": {...}} | {"delete": null}}}`, without
    /// ephemeral columns; `None` if nothing durable changed. Sets and maps are differences ([`Datum::diff`]).
    pub fn to_json(&self, database: &Database) -> Option<Value> {
        let mut tables = Map::new();
        for change in &self.changes {
            let schema = database.tables[change.id.table].schema();
            let mut columns = Map::new();
            if let Some(new) = &change.new {
                for (at, column) in schema.columns().iter().enumerate().filter(|(_, column)| !column.ephemeral) {
                    let default = || Datum::default_of(&column.kind);
                    let value = &new.columns[at];
                    match &change.old {
                        Some(old) if old.columns[at] != *value => {
                            let diff = old.columns[at].diff(value, &column.kind);
                            columns.insert(column.name.clone(), diff.to_json());
                        }
                        None if *value != default() => {
                            columns.insert(column.name.clone(), value.to_json());
                        }
                        _ => {}
                    }
                }
            }
            let entry = match (&change.old, &change.new) {
                (Some(_), Some(_)) if columns.is_empty() => continue,
                (Some(_), Some(_)) => json!({"modify": columns}),
                (None, Some(_)) => json!({"insert": columns}),
                _ => json!({"delete": null}),
            };
            let table = tables.entry(schema.name.clone()).or_insert_with(|| json!({}));
            table[change.id.uuid.to_string()] = entry;
        }
        (!tables.is_empty()).then_some(Value::Object(tables))
    }

    /// All rows of the database, as if one transaction had inserted them.
    pub fn of_everything(database: &Database) -> Delta {
        let rows = database.tables.iter().enumerate().flat_map(|(table, rows)| {
            let change =
                move |row: &Arc<Row>| Change { id: RowId { table, uuid: row.uuid }, old: None, new: Some(row.clone()) };
            rows.all().values().map(change)
        });
        Delta { changes: rows.collect() }
    }

    /// Reads the journal's form. `fresh` makes the `_version`s.
    pub fn from_json(json: &Value, database: &Database, fresh: &mut dyn FnMut() -> Uuid) -> Result<Delta, ReplayError> {
        let mut delta = Delta::default();
        let mut seen = BTreeSet::new();
        for (name, rows) in object(json, "a change")? {
            let Some(table) = database.table_id(name) else { return error(format!("there is no table {name}")) };
            for (uuid, entry) in object(rows, name)? {
                let Some(uuid) = parse_uuid(uuid) else { return error(format!("{name}: bad UUID {uuid}")) };
                let id = RowId { table, uuid };
                if !seen.insert(id) {
                    return error(format!("{name}: row {uuid} twice in one change"));
                }
                delta.changes.push(change_from_json(entry, database, id, fresh())?);
            }
        }
        Ok(delta)
    }
}

fn change_from_json(entry: &Value, database: &Database, id: RowId, version: Uuid) -> Result<Change, ReplayError> {
    let table = &database.tables[id.table];
    let name = &table.schema().name;
    let old = database.shared(id).cloned();
    let entry = object(entry, name)?;
    let (kind, columns) =
        entry.iter().next().map(|(kind, columns)| (kind.as_str(), columns)).unwrap_or(("", &Value::Null));
    let mut new = match (kind, &old) {
        ("delete", Some(_)) => return Ok(Change { id, old, new: None }),
        ("insert", None) => {
            let columns = table.schema().columns().iter().map(|column| Datum::default_of(&column.kind)).collect();
            Row { uuid: id.uuid, version, columns }
        }
        ("modify", Some(old)) => Row { version, ..(**old).clone() },
        _ => return error(format!("{name}: \"{kind}\" does not fit row {}", id.uuid)),
    };
    for (column, value) in object(columns, name)? {
        let place = |e: &dyn std::fmt::Display| ReplayError(format!("{name} row {} column {column}: {e}", id.uuid));
        let Some(at) = table.schema().column_index(column) else { return Err(place(&"there is no such column")) };
        let kind = &table.schema().columns()[at].kind;
        let diff = Datum::from_json_any_size(value, kind, &no_names).map_err(|e| place(&e))?;
        if old.is_none() {
            new.columns[at] = diff;
        } else {
            new.columns[at].apply_diff(diff, kind);
        }
        kind.check_size(new.columns[at].len()).map_err(|e| place(&e))?;
    }
    Ok(Change { id, old, new: Some(Arc::new(new)) })
}

fn object<'a>(json: &'a Value, what: &str) -> Result<&'a Map<String, Value>, ReplayError> {
    json.as_object().ok_or_else(|| ReplayError(format!("{what} must be an object")))
}

fn error<T>(text: String) -> Result<T, ReplayError> {
    Err(ReplayError(text))
}
