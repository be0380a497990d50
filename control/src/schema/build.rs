//! With which words is a schema written down?

use super::{AtomType, BaseType, ColumnSchema, ColumnType, Reference, TableSchema, UNLIMITED};
use crate::datum::Atom;

/// What the user configures.
pub(super) fn config(name: &str, kind: ColumnType) -> ColumnSchema {
    ColumnSchema { name: name.to_owned(), kind, mutable: true, ephemeral: false }
}

/// What the user configures once, when the row is inserted.
pub(super) fn fixed(name: &str, kind: ColumnType) -> ColumnSchema {
    ColumnSchema { mutable: false, ..config(name, kind) }
}

/// What the daemon reports; not kept over a restart.
pub(super) fn status(name: &str, kind: ColumnType) -> ColumnSchema {
    ColumnSchema { ephemeral: true, ..config(name, kind) }
}

pub(super) fn string() -> BaseType {
    BaseType::of(AtomType::String)
}

pub(super) fn integer() -> BaseType {
    BaseType::of(AtomType::Integer)
}

pub(super) fn boolean() -> BaseType {
    BaseType::of(AtomType::Boolean)
}

pub(super) fn range(min: i64, max: i64) -> BaseType {
    BaseType { integer_min: min, integer_max: max, ..integer() }
}

pub(super) fn at_least(min: i64) -> BaseType {
    range(min, i64::MAX)
}

pub(super) fn one_of(allowed: &[&str]) -> BaseType {
    BaseType { allowed: allowed.iter().map(|word| Atom::from(*word)).collect(), ..string() }
}

/// Keeps the rows it refers to.
pub(super) fn strong(table: &str) -> BaseType {
    BaseType { reference: Some(Reference { table: table.to_owned(), weak: false }), ..BaseType::of(AtomType::Uuid) }
}

/// Vanishes with the rows it refers to.
pub(super) fn weak(table: &str) -> BaseType {
    BaseType { reference: Some(Reference { table: table.to_owned(), weak: true }), ..BaseType::of(AtomType::Uuid) }
}

pub(super) fn set(key: BaseType, min: u32, max: u32) -> ColumnType {
    ColumnType { key, value: None, min, max }
}

pub(super) fn one(key: BaseType) -> ColumnType {
    set(key, 1, 1)
}

pub(super) fn optional(key: BaseType) -> ColumnType {
    set(key, 0, 1)
}

pub(super) fn any(key: BaseType) -> ColumnType {
    set(key, 0, UNLIMITED)
}

pub(super) fn some(key: BaseType) -> ColumnType {
    set(key, 1, UNLIMITED)
}

pub(super) fn up_to(max: u32, key: BaseType) -> ColumnType {
    set(key, 0, max)
}

pub(super) fn map(key: BaseType, value: BaseType) -> ColumnType {
    ColumnType { value: Some(value), ..any(key) }
}

pub(super) fn text_map() -> ColumnType {
    map(string(), string())
}

pub(super) fn counters() -> ColumnType {
    map(string(), integer())
}

pub(super) fn table(name: &str, columns: Vec<ColumnSchema>) -> TableSchema {
    TableSchema::new(name, columns)
}

impl TableSchema {
    pub(super) fn root(self) -> TableSchema {
        TableSchema { is_root: true, ..self }
    }

    pub(super) fn rows(self, max: u32) -> TableSchema {
        TableSchema { rows_max: max, ..self }
    }

    pub(super) fn index(mut self, columns: &[&str]) -> TableSchema {
        self.indexes.push(columns.iter().filter_map(|name| self.column_index(name)).collect());
        self
    }
}
