//! How does a mutation change a value in place (RFC 7047 §5.1)?

use super::OperationError;
use crate::datum::{Atom, Datum, Named, Real};
use crate::schema::{AtomType, BaseType, ColumnType, TableSchema, UNLIMITED};
use serde_json::Value;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
enum Action {
    Arithmetic(Operator, Atom),
    Insert(Datum),
    /// Elements, or keys with any value.
    DeleteKeys(BTreeSet<Atom>),
    /// Pairs that match in key and value.
    DeletePairs(Datum),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// One `[COLUMN, MUTATOR, VALUE]`.
#[derive(Debug, Clone)]
pub(super) struct Mutation {
    column: usize,
    mutator: String,
    action: Action,
}

impl Mutation {
    pub(super) fn from_json(json: &Value, schema: &TableSchema, named: Named<'_>) -> Result<Mutation, OperationError> {
        let Some([Value::String(name), Value::String(mutator), value]) = json.as_array().map(Vec::as_slice) else {
            return Err(OperationError::syntax("Parse error in mutation.").about(json));
        };
        let immutable = || {
            let details = format!("Cannot mutate immutable column {name} in table {}.", schema.name);
            Err(OperationError::constraint(details).about(json))
        };
        if matches!(name.as_str(), "_uuid" | "_version") {
            return immutable();
        }
        let Some(column) = schema.column_index(name) else {
            let details = format!("No column {name} in table {}.", schema.name);
            return Err(OperationError::new("unknown column", details).about(json));
        };
        if !schema.columns()[column].mutable {
            return immutable();
        }
        let kind = &schema.columns()[column].kind;
        let action = action(json, (name, mutator, value), kind, named)?;
        Ok(Mutation { column, mutator: mutator.clone(), action })
    }

    /// Changes the columns of a row; the results are within the limits of the column.
    pub(super) fn apply(&self, columns: &mut [Datum], schema: &TableSchema) -> Result<(), OperationError> {
        let column = &schema.columns()[self.column];
        let datum = &mut columns[self.column];
        match (&self.action, &mut *datum) {
            (Action::Arithmetic(operator, operand), Datum::Set(set)) => {
                let results = set.iter().map(|atom| compute(*operator, atom, operand, &self.mutator));
                let results: Vec<Atom> = results.collect::<Result<_, _>>()?;
                let count = results.len();
                *set = results.into_iter().collect();
                if set.len() < count {
                    let details = format!("Result of \"{}\" operation contains duplicates.", self.mutator);
                    return Err(OperationError::constraint(details));
                }
            }
            (Action::Insert(Datum::Set(new)), Datum::Set(set)) => set.extend(new.iter().cloned()),
            (Action::Insert(Datum::Map(new)), Datum::Map(map)) => {
                for (key, value) in new {
                    map.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            (Action::DeleteKeys(keys), Datum::Set(set)) => {
                for key in keys {
                    set.remove(key);
                }
            }
            (Action::DeleteKeys(keys), Datum::Map(map)) => {
                for key in keys {
                    map.remove(key);
                }
            }
            (Action::DeletePairs(Datum::Map(pairs)), Datum::Map(map)) => {
                for (key, value) in pairs {
                    if map.get(key) == Some(value) {
                        map.remove(key);
                    }
                }
            }
            // The action was made for this column's shape.
            _ => {}
        }
        if matches!(self.action, Action::Arithmetic(..)) {
            datum.elements().try_for_each(|atom| column.kind.key.check(atom))?;
        }
        column.kind.check_size(datum.len()).map_err(|_| {
            OperationError::constraint(format!("Attempted to store {} elements in {}.", datum.len(), column.kind))
        })
    }
}

fn action(
    json: &Value,
    (name, mutator, value): (&str, &str, &Value),
    kind: &ColumnType,
    named: Named<'_>,
) -> Result<Action, OperationError> {
    let mismatch = || {
        Err(OperationError::syntax(format!(
            "Type mismatch: \"{mutator}\" operator may not be applied to column {name} of type {kind}."
        ))
        .about(json))
    };
    let operator = match mutator {
        "+=" => Operator::Add,
        "-=" => Operator::Subtract,
        "*=" => Operator::Multiply,
        "/=" => Operator::Divide,
        "%=" => Operator::Remainder,
        "insert" | "delete" if kind.is_scalar() => return mismatch(),
        "insert" => return Datum::from_json_any_size(value, kind, named).map(Action::Insert).map_err(Into::into),
        "delete" => {
            let any = |base: &BaseType| BaseType::of(base.kind);
            let keys = ColumnType { key: any(&kind.key), value: None, min: 0, max: UNLIMITED };
            if let Ok(Datum::Set(keys)) = Datum::from_json(value, &keys, named) {
                return Ok(Action::DeleteKeys(keys));
            }
            let pairs = ColumnType { value: kind.value.as_ref().map(any), ..keys };
            return Datum::from_json(value, &pairs, named).map(Action::DeletePairs).map_err(Into::into);
        }
        _ => {
            return Err(OperationError::new("unknown mutator", format!("No mutator named {mutator}.")));
        }
    };
    let number = match kind.key.kind {
        AtomType::Integer => true,
        AtomType::Real => operator != Operator::Remainder,
        _ => false,
    };
    if kind.value.is_some() || !number {
        return mismatch();
    }
    let operand = Atom::of_kind(value, kind.key.kind, named)?;
    Ok(Action::Arithmetic(operator, operand))
}

fn compute(operator: Operator, left: &Atom, right: &Atom, mutator: &str) -> Result<Atom, OperationError> {
    let out_of_range =
        || OperationError::new("range error", format!("Result of \"{mutator}\" operation is out of range."));
    let zero = || OperationError::new("domain error", "Division by zero.");
    match (left, right) {
        (Atom::Integer(left), Atom::Integer(right)) => match operator {
            Operator::Divide | Operator::Remainder if *right == 0 => return Err(zero()),
            Operator::Add => left.checked_add(*right),
            Operator::Subtract => left.checked_sub(*right),
            Operator::Multiply => left.checked_mul(*right),
            Operator::Divide => left.checked_div(*right),
            Operator::Remainder => Some(left.checked_rem(*right).unwrap_or(0)),
        }
        .map(Atom::Integer)
        .ok_or_else(out_of_range),
        (Atom::Real(left), Atom::Real(right)) => {
            let (left, right) = (left.get(), right.get());
            let result = match operator {
                Operator::Divide if right == 0.0 => return Err(zero()),
                Operator::Add => left + right,
                Operator::Subtract => left - right,
                Operator::Multiply => left * right,
                Operator::Divide => left / right,
                Operator::Remainder => left % right,
            };
            Real::new(result).map(Atom::Real).ok_or_else(out_of_range)
        }
        // The operand was read as the column's type.
        _ => Err(out_of_range()),
    }
}
