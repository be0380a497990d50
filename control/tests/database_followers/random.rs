//! What might clients do to a switch's database? Transactions made from octets, most of which are accepted: rows come, are
//! referred to, changed and dropped, in every table of the schema.

use serde_json::{Map, Value, json};
use shunt_control::schema::{AtomType, BaseType, ColumnSchema, ColumnType, DatabaseSchema, UNLIMITED};
use std::collections::BTreeMap;

/// UUIDs of the rows that there are, by table.
pub(crate) type Rows = BTreeMap<String, Vec<String>>;

/// Columns that are left to the daemon or to the test.
const SPARED: [&str; 4] = ["next_cfg", "cur_cfg", "error", super::FULL.mark.1];

pub(crate) struct Random<'a> {
    pub(crate) schema: &'a DatabaseSchema,
    pub(crate) rows: &'a Rows,
    pub(crate) octets: std::vec::IntoIter<u8>,
}

impl Random<'_> {
    fn next(&mut self) -> usize {
        self.octets.next().unwrap_or(0).into()
    }

    fn one_of<'b, T>(&mut self, all: &'b [T]) -> Option<&'b T> {
        let number = self.next();
        all.get(number % all.len().max(1))
    }

    /// A row that was there when the octets were drawn.
    fn row_of(&mut self, table: &str) -> Option<Value> {
        let rows = self.rows.get(table)?;
        Some(json!(["uuid", self.one_of(rows)?]))
    }

    /// Transactions until the octets are used up.
    pub(crate) fn transactions(&mut self) -> Vec<Vec<Value>> {
        let mut transactions = vec![];
        while self.octets.len() > 0 {
            let operations = match self.next() {
                0..110 => self.adoption(),
                110..200 => self.update().into_iter().collect(),
                200..250 => self.release().into_iter().collect(),
                _ => self.removal().into_iter().collect(),
            };
            transactions.extend((!operations.is_empty()).then_some(operations));
        }
        transactions
    }

    /// A new row, and a reference to it.
    fn adoption(&mut self) -> Vec<Value> {
        let Some((table, column)) = self.reference() else { return vec![] };
        let Some(child) = column.kind.references().next().map(|reference| reference.table.clone()) else {
            return vec![];
        };
        let Some(parent) = self.row_of(&table) else { return vec![] };
        let mut operations = vec![];
        let new = self.insertion(&child, &mut operations);
        let value = match column.kind.is_map() {
            true => json!(["map", [[self.atom(&column.kind.key), new]]]),
            false => new,
        };
        let clause = json!([["_uuid", "==", parent]]);
        operations.push(match column.kind.max {
            UNLIMITED => {
                json!({"op": "mutate", "table": table, "where": clause, "mutations": [[column.name, "insert", value]]})
            }
            _ => json!({"op": "update", "table": table, "where": clause, "row": {column.name.clone(): value}}),
        });
        operations
    }

    /// Any column with strong references; bridges and ports come more often.
    fn reference(&mut self) -> Option<(String, ColumnSchema)> {
        let schema = self.schema;
        let usual = [("Open_vSwitch", "bridges"), ("Bridge", "ports"), ("Bridge", "ports"), ("Bridge", "mirrors")];
        if let Some((table, column)) = usual.get(self.next() % 8) {
            return Some(((*table).to_owned(), schema.table(table)?.column(column)?.clone()));
        }
        let strong = |column: &&ColumnSchema| column.kind.references().any(|reference| !reference.weak);
        let all: Vec<_> = schema
            .tables
            .values()
            .flat_map(|table| table.columns().iter().filter(strong).map(|column| (table.name.clone(), column.clone())))
            .collect();
        self.one_of(&all).cloned()
    }

    /// An insert, with what its row cannot be without; gives the row's name.
    fn insertion(&mut self, table: &str, operations: &mut Vec<Value>) -> Value {
        let mut row = Map::new();
        let columns = self.schema.table(table).map_or(&[][..], |table| table.columns());
        for column in columns {
            let needed = column.kind.references().find(|reference| !reference.weak && column.kind.min > 0);
            if let Some(reference) = needed {
                let child = self.insertion(&reference.table, operations);
                row.insert(column.name.clone(), child);
            } else if column.name == "name" {
                row.insert("name".to_owned(), self.name(table).into());
            } else if self.next().is_multiple_of(8) && !SPARED.contains(&column.name.as_str()) {
                row.extend(self.value(&column.kind).map(|value| (column.name.clone(), value)));
            }
        }
        let name = format!("row{}", operations.len());
        operations.push(json!({"op": "insert", "table": table, "row": row, "uuid-name": name}));
        json!(["named-uuid", name])
    }

    /// Few bridges, which are devices of the host; few of the ports have a device.
    fn name(&mut self, table: &str) -> String {
        match table {
            "Bridge" => format!("b{}", self.next() % 3),
            _ => format!("p{}", self.next() % 40),
        }
    }

    /// Another value for a column of a row.
    fn update(&mut self) -> Option<Value> {
        let tables: Vec<&String> =
            self.rows.iter().filter(|(_, rows)| !rows.is_empty()).map(|(table, _)| table).collect();
        let table = (*self.one_of(&tables)?).clone();
        let columns = self.schema.table(&table)?.columns();
        let column = self.one_of(columns)?;
        if !column.mutable || SPARED.contains(&column.name.as_str()) {
            return None;
        }
        let (row, value) = (self.row_of(&table)?, self.value(&column.kind)?);
        let clause = json!([["_uuid", "==", row]]);
        Some(json!({"op": "update", "table": table, "where": clause, "row": {column.name.clone(): value}}))
    }

    /// A reference less.
    fn release(&mut self) -> Option<Value> {
        let (table, column) = self.reference()?;
        let target = column.kind.references().next()?.table.clone();
        let (row, target) = (self.row_of(&table)?, self.row_of(&target)?);
        let clause = json!([["_uuid", "==", row]]);
        let gone = if column.kind.is_map() { json!(["set", [self.atom(&column.kind.key)]]) } else { target };
        Some(json!({"op": "mutate", "table": table, "where": clause, "mutations": [[column.name, "delete", gone]]}))
    }

    /// A row less, in a table whose rows stay by themselves.
    fn removal(&mut self) -> Option<Value> {
        let roots: Vec<&String> = self.schema.tables.iter().filter(|(_, t)| t.is_root).map(|(name, _)| name).collect();
        let table = (*self.one_of(&roots)?).clone();
        let row = self.row_of(&table).filter(|_| table != "Open_vSwitch")?;
        Some(json!({"op": "delete", "table": table, "where": [["_uuid", "==", row]]}))
    }

    fn value(&mut self, kind: &ColumnType) -> Option<Value> {
        let most = kind.max.min(kind.min + 3) - kind.min;
        let count = kind.min as usize + self.next() % (most as usize + 1);
        let mut keys = BTreeMap::new();
        for _ in 0..count {
            let (key, value) = (self.atom(&kind.key), kind.value.as_ref().map(|value| self.atom(value)));
            if !key.is_null() && value != Some(Value::Null) {
                keys.insert(key.to_string(), value.map_or(key.clone(), |value| json!([key, value])));
            }
        }
        let all: Vec<Value> = keys.into_values().collect();
        (all.len() >= kind.min as usize).then(|| json!([if kind.is_map() { "map" } else { "set" }, all]))
    }

    /// Null if there is no row to refer to.
    fn atom(&mut self, base: &BaseType) -> Value {
        if !base.allowed.is_empty() {
            let allowed: Vec<Value> = base.allowed.iter().map(|atom| atom.to_json()).collect();
            return self.one_of(&allowed).cloned().unwrap_or_default();
        }
        match base.kind {
            AtomType::Integer => {
                let least = base.integer_min.max(-2);
                (least + self.next() as i64 % 50).min(base.integer_max).into()
            }
            AtomType::Real => json!(self.next() as f64 / 4.0),
            AtomType::Boolean => self.next().is_multiple_of(2).into(),
            AtomType::String => format!("s{}", self.next() % 6).into(),
            AtomType::Uuid => {
                let table = base.reference.as_ref().map_or("", |reference| reference.table.as_str()).to_owned();
                self.row_of(&table).unwrap_or_default()
            }
        }
    }
}
