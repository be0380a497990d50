//! Which rows does a `where` clause mean (RFC 7047 §5.1)?

use super::OperationError;
use crate::database::{Row, Table};
use crate::datum::{Atom, Datum, Named};
use crate::schema::{AtomType, BaseType, ColumnType, TableSchema, UNLIMITED};
use serde_json::Value;
use std::cmp::Ordering;
use uuid::Uuid;

/// A column of a row, the two that every table has included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ColumnRef {
    Uuid,
    Version,
    Column(usize),
}

impl ColumnRef {
    pub(crate) fn find(schema: &TableSchema, name: &str) -> Result<ColumnRef, OperationError> {
        match name {
            "_uuid" => Ok(ColumnRef::Uuid),
            "_version" => Ok(ColumnRef::Version),
            _ => match schema.column_index(name) {
                Some(at) => Ok(ColumnRef::Column(at)),
                None => {
                    Err(OperationError::new("unknown column", format!("No column {name} in table {}.", schema.name)))
                }
            },
        }
    }

    /// As [`ColumnRef::find`], with the part of the request that names the column.
    pub(super) fn find_for(schema: &TableSchema, name: &str, json: &Value) -> Result<ColumnRef, OperationError> {
        ColumnRef::find(schema, name).map_err(|error| error.about(json))
    }

    pub(crate) fn kind(self, schema: &TableSchema) -> ColumnType {
        match self {
            ColumnRef::Column(at) => schema.columns()[at].kind.clone(),
            _ => ColumnType { key: BaseType::of(AtomType::Uuid), value: None, min: 1, max: 1 },
        }
    }

    pub(crate) fn value(self, row: &Row) -> std::borrow::Cow<'_, Datum> {
        use std::borrow::Cow;
        match self {
            ColumnRef::Uuid => Cow::Owned(Datum::from(row.uuid)),
            ColumnRef::Version => Cow::Owned(Datum::from(row.version)),
            ColumnRef::Column(at) => Cow::Borrowed(&row.columns[at]),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
    Includes,
    Excludes,
}

#[derive(Debug, Clone)]
enum Clause {
    Constant(bool),
    Compare(ColumnRef, Function, Datum),
}

/// A `where` clause: all of its parts must hold.
#[derive(Debug, Clone)]
pub struct Condition {
    clauses: Vec<Clause>,
}

impl Condition {
    /// Reads `[[COLUMN, FUNCTION, VALUE], ...]`; `true` and `false` are clauses too.
    pub fn from_json(json: &Value, schema: &TableSchema, named: Named<'_>) -> Result<Condition, OperationError> {
        let list = json.as_array().ok_or_else(|| OperationError::syntax("\"where\" must be a list of conditions"))?;
        let clauses = list.iter().map(|clause| clause_from_json(clause, schema, named)).collect::<Result<_, _>>()?;
        Ok(Condition { clauses })
    }

    /// Whether `row` is meant.
    pub fn matches(&self, row: &Row) -> bool {
        self.clauses.iter().all(|clause| match clause {
            Clause::Constant(constant) => *constant,
            Clause::Compare(column, function, value) => compare(&column.value(row), *function, value),
        })
    }

    /// The only row that can match, if the condition names it by `_uuid`.
    pub(super) fn only_row(&self) -> Option<Uuid> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Compare(ColumnRef::Uuid, Function::Equal | Function::Includes, value) => value.as_uuid(),
            _ => None,
        })
    }

    /// The stored row that a condition on an index of one column, such as `name`, can match; the outer `None` if
    /// there is no such condition.
    pub(super) fn by_index(&self, table: &Table) -> Option<Option<Uuid>> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Compare(ColumnRef::Column(column), Function::Equal, value) => {
                let index = table.schema().indexes.iter().position(|index| index.as_slice() == [*column])?;
                Some(table.find(index, std::slice::from_ref(value)))
            }
            _ => None,
        })
    }
}

fn clause_from_json(json: &Value, schema: &TableSchema, named: Named<'_>) -> Result<Clause, OperationError> {
    if let Value::Bool(constant) = json {
        return Ok(Clause::Constant(*constant));
    }
    let Some([Value::String(column), Value::String(function), value]) = json.as_array().map(Vec::as_slice) else {
        return Err(OperationError::syntax("Parse error in condition.").about(json));
    };
    let name = column;
    let column = ColumnRef::find_for(schema, name, json)?;
    let mut kind = column.kind(schema);
    let function = match function.as_str() {
        "<" => Function::Less,
        "<=" => Function::LessOrEqual,
        "==" => Function::Equal,
        "!=" => Function::NotEqual,
        ">=" => Function::GreaterOrEqual,
        ">" => Function::Greater,
        "includes" => Function::Includes,
        "excludes" => Function::Excludes,
        _ => {
            return Err(OperationError::new("unknown function", format!("No function named {function}.")));
        }
    };
    let ordered = !matches!(function, Function::Equal | Function::NotEqual | Function::Includes | Function::Excludes);
    if ordered
        && (kind.value.is_some() || kind.max != 1 || !matches!(kind.key.kind, AtomType::Integer | AtomType::Real))
    {
        return Err(OperationError::syntax(format!(
            "Type mismatch: \"{}\" operator may not be applied to column {name} of type {kind}.",
            json[1].as_str().unwrap_or_default()
        ))
        .about(json));
    }
    // Parts of a set may be asked for.
    if !kind.is_scalar() {
        match function {
            Function::Includes => kind.min = 0,
            Function::Excludes => (kind.min, kind.max) = (0, UNLIMITED),
            _ => {}
        }
    }
    let value = Datum::from_json(value, &kind, named)?;
    if ordered && value.len() != 1 {
        return Err(OperationError::syntax(format!("{} column {name}: an order needs one number", schema.name)));
    }
    Ok(Clause::Compare(column, function, value))
}

fn compare(held: &Datum, function: Function, value: &Datum) -> bool {
    let order = || held.scalar().zip(value.scalar()).map(|(held, value)| held.cmp(value));
    match function {
        Function::Equal => held == value,
        Function::NotEqual => held != value,
        Function::Includes => includes(held, value),
        Function::Excludes => excludes(held, value),
        // An empty optional value is neither less nor greater.
        Function::Less => order() == Some(Ordering::Less),
        Function::LessOrEqual => matches!(order(), Some(Ordering::Less | Ordering::Equal)),
        Function::GreaterOrEqual => matches!(order(), Some(Ordering::Greater | Ordering::Equal)),
        Function::Greater => order() == Some(Ordering::Greater),
    }
}

fn pair_held(held: &Datum, key: &Atom, value: &Atom) -> bool {
    matches!(held, Datum::Map(map) if map.get(key) == Some(value))
}

fn includes(held: &Datum, value: &Datum) -> bool {
    match (held, value) {
        (Datum::Set(held), Datum::Set(value)) => value.is_subset(held),
        _ => value.pairs().all(|(k, v)| pair_held(held, k, v)),
    }
}

fn excludes(held: &Datum, value: &Datum) -> bool {
    match (held, value) {
        (Datum::Set(held), Datum::Set(value)) => value.is_disjoint(held),
        _ => !value.pairs().any(|(k, v)| pair_held(held, k, v)),
    }
}
