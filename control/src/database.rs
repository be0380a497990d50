//! Which rows are there, and who refers to whom?
//!
//! Rows are immutable and shared: a transaction ([`crate::transaction`]) makes new ones and yields a [`Delta`], which is
//! journaled, applied here and shown to monitors. Beside the rows, a table knows for each of its own rows how many
//! strong references it has and which rows refer to it weakly, so that the cost of a transaction follows what it
//! touches and not the size of the database.

use crate::datum::{Atom, Datum};
use crate::schema::{ColumnSchema, DatabaseSchema, TableSchema};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

mod delta;
mod verify;
pub use delta::{Change, Delta, ReplayError};

/// A table, by its place in [`Database::tables`].
pub type TableId = usize;

/// One row of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// Its table.
    pub table: TableId,
    /// Its `_uuid`.
    pub uuid: Uuid,
}

/// The values of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `_uuid`.
    pub uuid: Uuid,
    /// `_version`: another one after each change.
    pub version: Uuid,
    /// In the order of the table's columns.
    pub columns: Vec<Datum>,
}

/// Where the values of a column point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) column: usize,
    /// The value of the pair, not the key.
    pub(crate) in_value: bool,
    pub(crate) target: TableId,
    pub(crate) weak: bool,
}

impl Link {
    /// The rows that `datum` refers to by this link, without what `other` holds too.
    pub(crate) fn targets(&self, datum: &Datum, other: Option<&Datum>) -> Vec<RowId> {
        let target = |atom: &Atom| match atom {
            Atom::Uuid(uuid) => Some(RowId { table: self.target, uuid: *uuid }),
            _ => None,
        };
        match (datum, other) {
            (Datum::Set(set), Some(Datum::Set(other))) => set.difference(other).filter_map(target).collect(),
            (Datum::Set(set), _) => set.iter().filter_map(target).collect(),
            (Datum::Map(map), other) => {
                let kept = |key: &Atom, value: &Atom| match other {
                    Some(Datum::Map(other)) => other.get(key) == Some(value),
                    _ => false,
                };
                let pairs = map.iter().filter(|(key, value)| !kept(key, value));
                pairs.filter_map(|(key, value)| target(if self.in_value { value } else { key })).collect()
            }
        }
    }
}

/// The rows of one table.
#[derive(Debug, Clone)]
pub struct Table {
    schema: TableSchema,
    pub(crate) links: Vec<Link>,
    rows: BTreeMap<Uuid, Arc<Row>>,
    /// For each index of the schema: the values to the row.
    indexes: Vec<HashMap<Vec<Datum>, Uuid>>,
    /// Strong references to each row, those from itself not counted.
    strong: Referrers,
    weak: Referrers,
}

/// Which rows refer to each row, and how often.
type Referrers = HashMap<Uuid, BTreeMap<RowId, usize>>;

impl Table {
    /// Its columns and rules.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// In the order of their UUIDs.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = RowRef<'_>> {
        self.rows.values().map(|row| RowRef { schema: &self.schema, row })
    }

    /// A row by its `_uuid`.
    pub fn row(&self, uuid: &Uuid) -> Option<RowRef<'_>> {
        Some(RowRef { schema: &self.schema, row: self.rows.get(uuid)? })
    }

    pub(crate) fn shared(&self, uuid: &Uuid) -> Option<&Arc<Row>> {
        self.rows.get(uuid)
    }

    pub(crate) fn all(&self) -> &BTreeMap<Uuid, Arc<Row>> {
        &self.rows
    }

    pub(crate) fn strong_count(&self, uuid: &Uuid) -> usize {
        self.strong.get(uuid).into_iter().flat_map(BTreeMap::values).sum()
    }

    /// The rows that refer strongly to a row, in the order of their UUIDs.
    pub fn strong_referrers(&self, uuid: &Uuid) -> impl DoubleEndedIterator<Item = RowId> {
        self.strong.get(uuid).into_iter().flat_map(|referrers| referrers.keys().copied())
    }

    pub(crate) fn weak_referrers(&self, uuid: &Uuid) -> impl Iterator<Item = RowId> {
        self.weak.get(uuid).into_iter().flat_map(|referrers| referrers.keys().copied())
    }

    /// The row that has these values in the columns of index number `index`.
    pub(crate) fn find(&self, index: usize, key: &[Datum]) -> Option<Uuid> {
        self.indexes[index].get(key).copied()
    }

    /// Whether two rows have the same values in index number `index`.
    pub(crate) fn same_key(&self, index: usize, one: &Row, other: &Row) -> bool {
        self.schema.indexes[index].iter().all(|column| one.columns[*column] == other.columns[*column])
    }

    /// The values of `row` in index number `index`.
    pub(crate) fn index_key(&self, index: usize, row: &Row) -> Vec<Datum> {
        self.schema.indexes[index].iter().map(|column| row.columns[*column].clone()).collect()
    }
}

/// A row together with the names of its columns.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    schema: &'a TableSchema,
    row: &'a Row,
}

impl<'a> RowRef<'a> {
    /// `_uuid`.
    pub fn uuid(&self) -> Uuid {
        self.row.uuid
    }

    /// The value of a column; of one that the schema does not have, the empty set.
    pub fn get(&self, column: &str) -> &'a Datum {
        static NONE: Datum = Datum::Set(BTreeSet::new());
        let index = self.schema.column_index(column);
        debug_assert!(index.is_some(), "table {} has no column {column}", self.schema.name);
        index.map_or(&NONE, |index| &self.row.columns[index])
    }

    /// Columns and their values.
    pub fn columns(&self) -> impl Iterator<Item = (&'a ColumnSchema, &'a Datum)> + use<'a> {
        self.schema.columns().iter().zip(&self.row.columns)
    }

    /// The table's name.
    pub fn table(&self) -> &'a str {
        &self.schema.name
    }
}

/// All rows of all tables.
#[derive(Debug, Clone)]
pub struct Database {
    schema: Arc<DatabaseSchema>,
    ids: HashMap<String, TableId>,
    tables: Vec<Table>,
}

impl Database {
    /// Without rows.
    pub fn new(schema: DatabaseSchema) -> Database {
        let ids: HashMap<String, TableId> = schema.tables.keys().cloned().zip(0..).collect();
        let tables = schema
            .tables
            .values()
            .map(|table| Table {
                schema: table.clone(),
                links: links(table, &ids),
                rows: BTreeMap::new(),
                indexes: vec![HashMap::new(); table.indexes.len()],
                strong: HashMap::new(),
                weak: HashMap::new(),
            })
            .collect();
        Database { schema: Arc::new(schema), ids, tables }
    }

    /// Tables, columns and rules.
    pub fn schema(&self) -> &DatabaseSchema {
        &self.schema
    }

    /// The number of a table.
    pub fn table_id(&self, name: &str) -> Option<TableId> {
        self.ids.get(name).copied()
    }

    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        Some(&self.tables[self.table_id(name)?])
    }

    /// All tables in the order of their names.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The rows of a table; none if there is no such table.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = RowRef<'_>> {
        self.table(table).into_iter().flat_map(Table::rows)
    }

    /// A row by table and `_uuid`.
    pub fn row(&self, table: &str, uuid: &Uuid) -> Option<RowRef<'_>> {
        self.table(table)?.row(uuid)
    }

    pub(crate) fn shared(&self, id: RowId) -> Option<&Arc<Row>> {
        self.tables[id.table].shared(&id.uuid)
    }

    /// Makes the change. It must come from a transaction on this very state, or from the journal.
    pub fn apply(&mut self, delta: &Delta) {
        for change in &delta.changes {
            self.unlink(change);
        }
        for change in &delta.changes {
            self.link(change);
        }
    }

    /// Takes the old row out of rows, indexes and reference counts.
    fn unlink(&mut self, change: &Change) {
        let Some(old) = &change.old else { return };
        let table = &mut self.tables[change.id.table];
        table.rows.remove(&old.uuid);
        for index in 0..table.indexes.len() {
            if !change.new.as_ref().is_some_and(|new| table.same_key(index, old, new)) {
                let key = table.index_key(index, old);
                table.indexes[index].remove(&key);
            }
        }
        self.for_references(change.id, old, change.new.as_deref(), |referrers, target| {
            let of_target = referrers.entry(target).or_default();
            if let Some(count) = of_target.get_mut(&change.id) {
                *count -= 1;
                if *count == 0 {
                    of_target.remove(&change.id);
                }
            }
            if of_target.is_empty() {
                referrers.remove(&target);
            }
        });
    }

    /// Puts the new row into rows, indexes and reference counts.
    fn link(&mut self, change: &Change) {
        let Some(new) = &change.new else { return };
        let table = &mut self.tables[change.id.table];
        table.rows.insert(new.uuid, new.clone());
        for index in 0..table.indexes.len() {
            if !change.old.as_ref().is_some_and(|old| table.same_key(index, old, new)) {
                let key = table.index_key(index, new);
                table.indexes[index].insert(key, new.uuid);
            }
        }
        self.for_references(change.id, new, change.old.as_deref(), |referrers, target| {
            *referrers.entry(target).or_default().entry(change.id).or_default() += 1;
        });
    }

    /// Calls `each` for every reference that `row` has and `other` has not, with the referrers that it is to be kept among.
    fn for_references(&mut self, id: RowId, row: &Row, other: Option<&Row>, each: impl Fn(&mut Referrers, Uuid)) {
        for place in 0..self.tables[id.table].links.len() {
            let link = self.tables[id.table].links[place];
            let other = other.map(|other| &other.columns[link.column]);
            for target in link.targets(&row.columns[link.column], other) {
                let table = &mut self.tables[link.target];
                if link.weak {
                    each(&mut table.weak, target.uuid);
                } else if target != id {
                    each(&mut table.strong, target.uuid);
                }
            }
        }
    }

    /// The rows that the change made different, and those that by it have other rows referring to them strongly.
    pub fn touched(&self, delta: &Delta) -> Vec<RowId> {
        let mut touched = Vec::new();
        for change in &delta.changes {
            touched.push(change.id);
            for link in self.tables[change.id.table].links.iter().filter(|link| !link.weak) {
                let [old, new] =
                    [&change.old, &change.new].map(|row| row.as_ref().map(|row| &row.columns[link.column]));
                for (one, other) in [(old, new), (new, old)] {
                    touched.extend(one.into_iter().flat_map(|one| link.targets(one, other)));
                }
            }
        }
        touched
    }
}

fn links(table: &TableSchema, ids: &HashMap<String, TableId>) -> Vec<Link> {
    let mut links = Vec::new();
    for (column, schema) in table.columns().iter().enumerate() {
        let value = schema.kind.value.as_ref();
        for (base, in_value) in [(Some(&schema.kind.key), false), (value, true)] {
            if let Some(reference) = base.and_then(|base| base.reference.as_ref())
                && let Some(target) = ids.get(&reference.table)
            {
                links.push(Link { column, in_value, target: *target, weak: reference.weak });
            }
        }
    }
    links
}
