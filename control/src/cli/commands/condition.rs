//! Does a row meet `COLUMN[:KEY]OPERATOR VALUE`? For `find` and `wait-until`.

use super::{Context, Stop, names};
use crate::datum::{Atom, Datum};
use crate::schema::{AtomType, ColumnType, TableSchema, UNLIMITED};
use serde_json::{Value, json};
use std::cmp::Ordering;
use uuid::Uuid;

/// In the order in which messages list them.
const OPERATORS: [&str; 14] =
    ["=", "!=", "<", ">", "<=", ">=", "{=}", "{!=}", "{<}", "{>}", "{<=}", "{>=}", "{in}", "{not-in}"];

/// The condition as a clause of `where`; `None` if only [`Context::meets`] can tell.
pub(super) fn as_clause(table: &TableSchema, text: &str) -> Option<Value> {
    let condition = names::setting(table, text, &OPERATORS).ok()?;
    let (name, kind) = (&condition.column.name, &condition.column.kind);
    let parse = |kind: &ColumnType| {
        let no_symbols = &mut |_: &str| Err("no row has a name yet".to_owned());
        Datum::parse(&condition.value, kind, no_symbols).ok()
    };
    match (OPERATORS[condition.operator], condition.key) {
        ("=", None) => Some(json!([name, "==", parse(kind)?.to_json()])),
        ("=", Some(key)) if kind.key.kind == AtomType::String && !key.starts_with('"') => {
            let value = parse(&ColumnType { key: kind.value.clone()?, value: None, min: 1, max: 1 })?;
            Some(json!([name, "includes", ["map", [[key, value.scalar()?.to_json()]]]]))
        }
        _ => None,
    }
}

impl Context {
    /// Whether `row` meets the condition.
    pub(super) fn meets(&mut self, table: &TableSchema, row: Uuid, text: &str) -> Result<bool, Stop> {
        let condition = names::setting(table, text, &OPERATORS)?;
        let operator = OPERATORS[condition.operator];
        let column = condition.column;
        self.txn.rely_on_value(&table.name, row, &column.name);
        let have = self.txn.get(&table.name, row, &column.name).clone();
        let Some(key) = condition.key else {
            let want = self.parse(&condition.value, &column.kind)?;
            return Ok(holds(operator, &have, &want));
        };
        let Some(value_type) = &column.kind.value else {
            return Stop::fail(format!("cannot specify key to check for non-map column {}", column.name));
        };
        let key = self.parse_atom(&key, &column.kind.key)?;
        let set = ColumnType { key: value_type.clone(), value: None, min: column.kind.min, max: UNLIMITED };
        let want = self.parse(&condition.value, &set)?;
        let found = match &have {
            Datum::Map(map) => map.get(&key).cloned(),
            Datum::Set(_) => None,
        };
        // A missing key meets no condition but those on sets: there it is an empty set.
        if found.is_none() && !operator.starts_with('{') {
            return Ok(false);
        }
        Ok(holds(operator, &found.into_iter().collect(), &want))
    }
}

/// The smaller value has fewer elements, or the smaller first element that differs.
fn order(have: &Datum, want: &Datum) -> Ordering {
    have.len().cmp(&want.len()).then_with(|| match (have, want) {
        (Datum::Map(have), Datum::Map(want)) => {
            have.keys().cmp(want.keys()).then_with(|| have.values().cmp(want.values()))
        }
        _ => have.cmp(want),
    })
}

/// Whether every element (or pair) of `part` is in `whole`.
fn includes(whole: &Datum, part: &Datum) -> bool {
    match (whole, part) {
        (Datum::Set(whole), Datum::Set(part)) => part.is_subset(whole),
        (Datum::Map(whole), Datum::Map(part)) => part.iter().all(|(k, v)| whole.get(k) == Some(v)),
        _ => false,
    }
}

fn excludes(have: &Datum, want: &Datum) -> bool {
    match (have, want) {
        (Datum::Set(have), Datum::Set(want)) => have.is_disjoint(want),
        (Datum::Map(have), Datum::Map(want)) => want.iter().all(|(k, v): (&Atom, &Atom)| have.get(k) != Some(v)),
        _ => true,
    }
}

fn holds(operator: &str, have: &Datum, want: &Datum) -> bool {
    match operator {
        "=" | "{=}" => have == want,
        "!=" | "{!=}" => have != want,
        "<" => order(have, want).is_lt(),
        ">" => order(have, want).is_gt(),
        "<=" => order(have, want).is_le(),
        ">=" => order(have, want).is_ge(),
        "{<}" => have.len() < want.len() && includes(want, have),
        "{>}" => have.len() > want.len() && includes(have, want),
        "{<=}" | "{in}" => includes(want, have),
        "{>=}" => includes(have, want),
        _ => excludes(have, want),
    }
}
