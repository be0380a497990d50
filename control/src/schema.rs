//! Which tables and columns exist, of which types, and what must hold between rows?
//!
//! The types of a schema are here, its JSON form (RFC 7047 §3.2) is in [`json`], and the one list of our
//! tables is [`vswitch`].

use crate::datum::{Atom, Datum, DatumError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod build;
pub mod json;
pub mod vswitch;

/// The size of a set without an upper limit.
pub const UNLIMITED: u32 = u32::MAX;

/// The five types of an atom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtomType {
    /// 64-bit signed.
    Integer,
    /// Double.
    Real,
    /// `true` or `false`.
    Boolean,
    /// UTF-8.
    String,
    /// A row.
    Uuid,
}

impl AtomType {
    /// The name in a schema.
    pub fn name(self) -> &'static str {
        match self {
            AtomType::Integer => "integer",
            AtomType::Real => "real",
            AtomType::Boolean => "boolean",
            AtomType::String => "string",
            AtomType::Uuid => "uuid",
        }
    }
}

impl fmt::Display for AtomType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Another table whose rows a column names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The table.
    pub table: String,
    /// A weak reference vanishes with its row; a strong one keeps it.
    pub weak: bool,
}

/// The type of a key or a value, with what limits it. Bounds are inclusive; lengths count characters.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct BaseType {
    pub kind: AtomType,
    /// The only values allowed; empty means any.
    pub allowed: BTreeSet<Atom>,
    pub integer_min: i64,
    pub integer_max: i64,
    pub real_min: f64,
    pub real_max: f64,
    pub length_min: u32,
    pub length_max: u32,
    pub reference: Option<Reference>,
}

impl BaseType {
    /// Without limits.
    pub fn of(kind: AtomType) -> BaseType {
        BaseType {
            kind,
            allowed: BTreeSet::new(),
            integer_min: i64::MIN,
            integer_max: i64::MAX,
            real_min: f64::MIN,
            real_max: f64::MAX,
            length_min: 0,
            length_max: UNLIMITED,
            reference: None,
        }
    }

    /// Checks range, length and enumeration; the texts are those `ovs-vsctl` prints.
    pub fn check(&self, atom: &Atom) -> Result<(), DatumError> {
        if !self.allowed.is_empty() {
            if self.allowed.contains(atom) {
                return Ok(());
            }
            let allowed: Vec<String> = self.allowed.iter().map(Atom::to_string).collect();
            let allowed = format!("[{}]", allowed.join(", "));
            return Err(DatumError::Constraint(format!("{atom} is not one of the allowed values ({allowed})")));
        }
        let problem = match atom {
            Atom::Integer(n) => outside(
                *n,
                (self.integer_min, self.integer_max),
                (self.integer_min == i64::MIN, self.integer_max == i64::MAX),
            ),
            Atom::Real(r) => {
                outside(r.get(), (self.real_min, self.real_max), (self.real_min == f64::MIN, self.real_max == f64::MAX))
            }
            Atom::String(s) => {
                let length = u32::try_from(s.chars().count()).unwrap_or(UNLIMITED);
                if length < self.length_min {
                    Some(format!("\"{s}\" length {length} is less than minimum allowed length {}", self.length_min))
                } else if length > self.length_max {
                    Some(format!("\"{s}\" length {length} is greater than maximum allowed length {}", self.length_max))
                } else {
                    None
                }
            }
            Atom::Boolean(_) | Atom::Uuid(_) => None,
        };
        problem.map_or(Ok(()), |text| Err(DatumError::Constraint(text)))
    }
}

/// The complaint about a number outside its bounds; `open` says which bounds are none.
fn outside<N: PartialOrd + fmt::Display>(n: N, (min, max): (N, N), open: (bool, bool)) -> Option<String> {
    if n >= min && n <= max {
        return None;
    }
    Some(match open {
        (false, true) => format!("{n} is less than minimum allowed value {min}"),
        (true, false) => format!("{n} is greater than maximum allowed value {max}"),
        _ => format!("{n} is not in the valid range {min} to {max} (inclusive)"),
    })
}

/// The type of a column: a set of keys, or a map from keys to values, and how many of them.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnType {
    /// Elements of a set, or keys of a map.
    pub key: BaseType,
    /// Values of a map.
    pub value: Option<BaseType>,
    /// Fewest elements: 0 or 1.
    pub min: u32,
    /// Most elements, or [`UNLIMITED`].
    pub max: u32,
}

impl ColumnType {
    /// Exactly one, and not a map.
    pub fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }

    /// At most one, and not a map.
    pub fn is_optional(&self) -> bool {
        self.value.is_none() && self.min == 0 && self.max == 1
    }

    /// Pairs of keys and values.
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// Checks the number of elements.
    pub fn check_size(&self, count: usize) -> Result<(), DatumError> {
        if count >= self.min as usize && (self.max == UNLIMITED || count <= self.max as usize) {
            return Ok(());
        }
        let class = if self.is_map() { "map" } else { "set" };
        let (min, max) = (self.min, self.max);
        Err(DatumError::Constraint(match (min, max) {
            (1, 1) => format!("{class} must have exactly one member but {count} are present"),
            (_, UNLIMITED) => {
                format!("{class} must have at least {min} members but {count} are present")
            }
            _ => format!("{class} must have {min} to {max} members but {count} are present"),
        }))
    }

    /// Checks a value altogether: shape, types, ranges, number of elements.
    pub fn check(&self, datum: &Datum) -> Result<(), DatumError> {
        let check = |base: &BaseType, atom: &Atom| {
            if atom.kind() != base.kind {
                return Err(DatumError::Syntax(format!("expected {}, got {atom}", base.kind)));
            }
            base.check(atom)
        };
        match (datum, &self.value) {
            (Datum::Set(set), None) => set.iter().try_for_each(|atom| check(&self.key, atom))?,
            (Datum::Map(map), Some(value)) => {
                map.iter().try_for_each(|(k, v)| check(&self.key, k).and_then(|()| check(value, v)))?;
            }
            _ => return Err(DatumError::Syntax(format!("expected {self}"))),
        }
        self.check_size(datum.len())
    }

    /// The key's and the value's types, where they refer to rows.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.key.reference.iter().chain(self.value.iter().filter_map(|v| v.reference.as_ref()))
    }
}

impl fmt::Display for ColumnType {
    /// In words: `integer`, `set of up to 4096 integers`, `map of (string, string) pairs`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_scalar() {
            return write!(f, "{}", self.key.kind);
        }
        let count = match (self.min, self.max) {
            (0, UNLIMITED) => String::new(),
            (min, UNLIMITED) => format!("{min} or more "),
            (0, max) => format!("up to {max} "),
            (min, max) => format!("{min} to {max} "),
        };
        match &self.value {
            None => write!(f, "set of {count}{}s", self.key.kind),
            Some(value) => write!(f, "map of {count}({}, {}) pairs", self.key.kind, value.kind),
        }
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSchema {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnType,
    /// Whether it may change after the row was inserted.
    pub mutable: bool,
    /// Not kept over a restart.
    pub ephemeral: bool,
}

/// One table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSchema {
    /// Its name.
    pub name: String,
    columns: Vec<ColumnSchema>,
    by_name: BTreeMap<String, usize>,
    /// The most rows it may have, or [`UNLIMITED`].
    pub rows_max: u32,
    /// Rows stay although no other row refers to them.
    pub is_root: bool,
    /// Groups of columns (by number) whose values together are unique among the rows.
    pub indexes: Vec<Vec<usize>>,
}

impl TableSchema {
    /// A table with these columns, no index, any number of rows.
    pub fn new(name: &str, columns: Vec<ColumnSchema>) -> TableSchema {
        let by_name = columns.iter().enumerate().map(|(i, column)| (column.name.clone(), i)).collect();
        TableSchema { name: name.to_owned(), columns, by_name, rows_max: UNLIMITED, is_root: false, indexes: vec![] }
    }

    /// In the order of declaration, without `_uuid` and `_version`.
    pub fn columns(&self) -> &[ColumnSchema] {
        &self.columns
    }

    /// The number of a column: its place in [`TableSchema::columns`].
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        Some(&self.columns[self.column_index(name)?])
    }
}

/// All tables of a database.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseSchema {
    /// Its name: `Open_vSwitch`.
    pub name: String,
    /// As `MAJOR.MINOR.PATCH`.
    pub version: String,
    /// By name.
    pub tables: BTreeMap<String, TableSchema>,
}

impl DatabaseSchema {
    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&TableSchema> {
        self.tables.get(name)
    }
}

/// What is wrong with a schema in JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema: {place}: {problem}")]
pub struct SchemaError {
    /// Table, column or member.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

#[cfg(test)]
mod tests;
