//! What changed in a value? Sets and maps of many elements travel and are stored as the difference, so that adding the
//! thousandth port to a bridge costs one element and not a thousand.

use super::Datum;
use crate::schema::ColumnType;
use std::collections::BTreeMap;

impl Datum {
    /// The difference from `self` to `new`: elements that come or go; pairs that go (with their old value), come or
    /// change (with the new one). Where at most one element fits, it is `new` itself.
    pub fn diff(&self, new: &Datum, column: &ColumnType) -> Datum {
        match (self, new) {
            _ if column.max == 1 => new.clone(),
            (Datum::Set(old), Datum::Set(new)) => Datum::Set(old.symmetric_difference(new).cloned().collect()),
            (Datum::Map(old), Datum::Map(new)) => {
                let gone = old.iter().filter(|(key, _)| !new.contains_key(key));
                let come = new.iter().filter(|(key, value)| old.get(key) != Some(value));
                Datum::Map(gone.chain(come).map(|(key, value)| (key.clone(), value.clone())).collect())
            }
            _ => new.clone(),
        }
    }

    /// Undoes [`Datum::diff`]: the new value from the old one and the difference.
    pub fn apply_diff(&mut self, diff: Datum, column: &ColumnType) {
        match (self, diff) {
            (old, diff) if column.max == 1 => *old = diff,
            (Datum::Set(old), Datum::Set(diff)) => {
                for element in diff {
                    if !old.remove(&element) {
                        old.insert(element);
                    }
                }
            }
            (Datum::Map(old), Datum::Map(diff)) => toggle(old, diff),
            (old, diff) => *old = diff,
        }
    }
}

fn toggle<V: PartialEq>(old: &mut BTreeMap<super::Atom, V>, diff: BTreeMap<super::Atom, V>) {
    for (key, value) in diff {
        if old.get(&key) == Some(&value) {
            old.remove(&key);
        } else {
            old.insert(key, value);
        }
    }
}
