//! How do the operations of a client become new rows, all of them or none (RFC 7047 §5.2)?
//!
//! A [`Transaction`] is an overlay over the database: rows that were inserted, changed or deleted so far. [`execute`]
//! runs a client's operations on one; [`Transaction::finish`] checks what must hold between rows and yields the
//! [`Delta`]. Nothing here touches the database itself.

use crate::database::{Database, Delta, Row, RowId, TableId};
use crate::datum::{Datum, DatumError};
use crate::schema::TableSchema;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

mod condition;
mod integrity;
mod mutation;
mod operations;
pub(crate) use condition::ColumnRef;
pub use condition::Condition;
pub(crate) use operations::is_id;
pub use operations::{Context, Outcome, execute};

/// Why an operation failed, in the words of RFC 7047.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {details}")]
pub struct OperationError {
    /// The `error` member, such as `constraint violation`.
    pub kind: &'static str,
    /// The `details` member: what exactly.
    pub details: String,
    /// The `syntax` member: the part of the request that is wrong, if there is one.
    pub syntax: Option<String>,
}

/// Bytes of a request that an error quotes.
const QUOTE_MAX: usize = 4096;

impl OperationError {
    pub(crate) fn new(kind: &'static str, details: impl Into<String>) -> OperationError {
        OperationError { kind, details: details.into(), syntax: None }
    }

    /// With the part of the request that is wrong, members in the order of their names.
    pub(crate) fn about(self, json: &Value) -> OperationError {
        let mut json = json.clone();
        json.sort_all_objects();
        let mut text = json.to_string();
        if text.len() > QUOTE_MAX {
            let end = (0..=QUOTE_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text += "...";
        }
        OperationError { syntax: Some(text), ..self }
    }

    pub(crate) fn syntax(details: impl Into<String>) -> OperationError {
        OperationError::new("syntax error", details)
    }

    pub(crate) fn constraint(details: impl Into<String>) -> OperationError {
        OperationError::new("constraint violation", details)
    }

    /// `{"error": ..., "details": ...}`, and `syntax` if there is one.
    pub fn to_json(&self) -> Value {
        let mut json = json!({"error": self.kind, "details": self.details});
        if let Some(syntax) = &self.syntax {
            json["syntax"] = syntax.as_str().into();
        }
        json
    }
}

impl From<DatumError> for OperationError {
    fn from(error: DatumError) -> OperationError {
        match error {
            DatumError::Syntax(text) => OperationError::syntax(text),
            DatumError::Constraint(text) => OperationError::constraint(text),
            DatumError::Json { problem, json } => OperationError::syntax(problem).about(&json),
            DatumError::Duplicate(text) => OperationError::new("ovsdb error", text),
        }
    }
}

/// What was done so far, on top of a database that does not change meanwhile.
pub struct Transaction<'a> {
    database: &'a Database,
    /// `None`: deleted.
    changes: BTreeMap<RowId, Option<Row>>,
    fresh: &'a mut dyn FnMut() -> Uuid,
}

impl<'a> Transaction<'a> {
    /// Nothing done yet. `fresh` makes UUIDs.
    pub fn new(database: &'a Database, fresh: &'a mut dyn FnMut() -> Uuid) -> Transaction<'a> {
        Transaction { database, changes: BTreeMap::new(), fresh }
    }

    fn schema(&self, table: TableId) -> &'a TableSchema {
        self.database.tables()[table].schema()
    }

    /// A row as it is now.
    pub fn row(&self, id: RowId) -> Option<&Row> {
        match self.changes.get(&id) {
            Some(change) => change.as_ref(),
            None => self.database.shared(id).map(AsRef::as_ref),
        }
    }

    /// The rows of a table as they are now.
    pub fn rows(&self, table: TableId) -> impl Iterator<Item = &Row> {
        let all = RowId { table, uuid: Uuid::nil() }..=RowId { table, uuid: Uuid::max() };
        let untouched = move |uuid: &Uuid| !self.changes.contains_key(&RowId { table, uuid: *uuid });
        let stored = self.database.tables()[table].all().iter();
        let stored = stored.filter(move |(uuid, _)| untouched(uuid)).map(|(_, row)| row.as_ref());
        stored.chain(self.changes.range(all).filter_map(|(_, row)| row.as_ref()))
    }

    /// Inserts a row with default values under `uuid`, or a fresh one. Refused if that UUID is taken.
    pub fn insert(&mut self, table: TableId, uuid: Option<Uuid>) -> Result<&mut Row, OperationError> {
        let uuid = uuid.unwrap_or_else(|| (self.fresh)());
        let id = RowId { table, uuid };
        if self.changes.contains_key(&id) || self.database.shared(id).is_some() {
            let details = "This UUID would duplicate a UUID already present within the table or deleted within the same transaction.";
            return Err(OperationError::new("duplicate uuid", details).about(&uuid.to_string().into()));
        }
        let columns = self.schema(table).columns().iter().map(|column| Datum::default_of(&column.kind)).collect();
        let row = Row { uuid, version: Uuid::nil(), columns };
        Ok(self.changes.entry(id).or_insert(None).insert(row))
    }

    /// A row to be changed.
    pub fn modify(&mut self, id: RowId) -> Option<&mut Row> {
        let database = self.database;
        match self.changes.entry(id) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut().as_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let row = database.shared(id)?;
                entry.insert(Some(Row::clone(row))).as_mut()
            }
        }
    }

    /// Deletes a row, if it is there.
    pub fn delete(&mut self, id: RowId) {
        self.changes.insert(id, None);
    }

    /// Gives a column another value, for the daemon's own status columns. A row that is gone is passed over.
    pub fn set(&mut self, table: &str, uuid: Uuid, column: &str, value: Datum) -> Result<(), OperationError> {
        let unknown = |what: String| Err(OperationError::new("unknown column", what));
        let Some(id) = self.database.table_id(table) else { return unknown(format!("No table named {table}.")) };
        let schema = self.schema(id);
        let Some(at) = schema.column_index(column) else {
            return unknown(format!("No column {column} in table {table}."));
        };
        let refuse =
            |e: DatumError| OperationError::constraint(format!("{table} column \"{column}\": {}", e.details()));
        schema.columns()[at].kind.check(&value).map_err(refuse)?;
        let id = RowId { table: id, uuid };
        if self.row(id).is_some_and(|row| row.columns[at] != value)
            && let Some(row) = self.modify(id)
        {
            row.columns[at] = value;
        }
        Ok(())
    }

    /// Checks references, indexes and sizes; removes rows nobody refers to and weak references to rows that went; and
    /// says what changed in the end.
    pub fn finish(self) -> Result<Delta, OperationError> {
        integrity::finish(self)
    }
}
