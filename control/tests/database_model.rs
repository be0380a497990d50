//! Does the database do what a naive one does, after any transactions?
//!
//! The naive one keeps rows as maps, copies all of them for each transaction, and looks at everything at its end.

use proptest::prelude::*;
use serde_json::Value;
use shunt_control::database::Database;
use shunt_control::datum::{Datum, no_names};
use shunt_control::fuzzing::{contents, small_schema, transactions};
use shunt_control::schema::{ColumnType, DatabaseSchema};
use shunt_control::store::{Reply, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Id = (String, String);
type Rows = BTreeMap<Id, BTreeMap<String, Datum>>;

struct Naive {
    schema: DatabaseSchema,
    rows: Rows,
}

/// The rows that a value refers to, strongly or weakly.
fn targets(datum: &Datum, kind: &ColumnType, weak: bool) -> Vec<Id> {
    let id = |base: &shunt_control::schema::BaseType, atom: &shunt_control::datum::Atom| {
        let reference = base.reference.as_ref().filter(|reference| reference.weak == weak)?;
        Some((reference.table.clone(), atom.to_string()))
    };
    let mut all: Vec<Id> = datum.elements().filter_map(|atom| id(&kind.key, atom)).collect();
    for (key, value) in datum.pairs() {
        all.extend(id(&kind.key, key));
        all.extend(kind.value.as_ref().and_then(|base| id(base, value)));
    }
    all
}

impl Naive {
    fn kind(&self, table: &str, column: &str) -> &ColumnType {
        &self.schema.table(table).and_then(|table| table.column(column)).expect("column").kind
    }

    /// The error's name if refused.
    fn transact(&mut self, operations: &[Value]) -> Result<(), &'static str> {
        let mut rows = self.rows.clone();
        // A row that this transaction deleted keeps its UUID.
        let mut used: BTreeSet<Id> = rows.keys().cloned().collect();
        for operation in operations {
            self.operate(&mut rows, &mut used, operation)?;
        }
        let lists = |rows: &Rows, weak: bool| -> Vec<(Id, Id)> {
            let row = |(id, columns): (&Id, &BTreeMap<String, Datum>)| {
                let all = columns.iter().flat_map(|(name, datum)| targets(datum, self.kind(&id.0, name), weak));
                all.map(|target| (id.clone(), target)).collect::<Vec<_>>()
            };
            rows.iter().flat_map(row).collect()
        };
        if lists(&rows, false).iter().any(|(_, target)| !rows.contains_key(target)) {
            return Err("referential integrity violation");
        }
        loop {
            loop {
                let strong = lists(&rows, false);
                let wanted: BTreeSet<Id> =
                    strong.into_iter().filter(|(from, to)| from != to).map(|(_, to)| to).collect();
                let count = rows.len();
                rows.retain(|id, _| self.schema.tables[&id.0].is_root || wanted.contains(id));
                if rows.len() == count {
                    break;
                }
            }
            let dangling: BTreeSet<Id> =
                lists(&rows, true).into_iter().map(|(_, to)| to).filter(|to| !rows.contains_key(to)).collect();
            if dangling.is_empty() {
                break;
            }
            for (id, columns) in &mut rows {
                for (name, datum) in columns {
                    let kind = self.kind(&id.0, name);
                    let keep = |part: Datum| !targets(&part, kind, true).iter().any(|to| dangling.contains(to));
                    match datum {
                        Datum::Set(set) => set.retain(|atom| keep(Datum::Set([atom.clone()].into()))),
                        Datum::Map(map) => map.retain(|k, v| keep(Datum::Map([(k.clone(), v.clone())].into()))),
                    }
                    if datum.len() < kind.min as usize {
                        return Err("constraint violation");
                    }
                }
            }
        }
        for (name, table) in &self.schema.tables {
            let mine = || rows.iter().filter(|((table, _), _)| table == name);
            if mine().count() > table.rows_max as usize {
                return Err("constraint violation");
            }
            for index in &table.indexes {
                let key = |columns: &BTreeMap<String, Datum>| -> Vec<Datum> {
                    index.iter().map(|at| columns[&table.columns()[*at].name].clone()).collect()
                };
                let keys: BTreeSet<_> = mine().map(|(_, columns)| key(columns)).collect();
                if keys.len() < mine().count() {
                    return Err("constraint violation");
                }
            }
        }
        self.rows = rows;
        Ok(())
    }

    fn operate(&self, rows: &mut Rows, used: &mut BTreeSet<Id>, operation: &Value) -> Result<(), &'static str> {
        let table = operation["table"].as_str().expect("table").to_owned();
        let given = || -> Result<Vec<(String, Datum)>, &'static str> {
            let row = operation["row"].as_object().expect("row").iter();
            let read = |(name, value): (&String, &Value)| {
                let datum = Datum::from_json(value, self.kind(&table, name), &no_names);
                datum.map(|datum| (name.clone(), datum)).map_err(|_| "constraint violation")
            };
            row.map(read).collect()
        };
        if operation["op"] == "insert" {
            let id = (table.clone(), operation["uuid"].as_str().expect("uuid").to_owned());
            let columns = self.schema.tables[&table].columns().iter();
            let defaults = columns.map(|column| (column.name.clone(), Datum::default_of(&column.kind)));
            let columns = defaults.chain(given()?).collect();
            if !used.insert(id.clone()) {
                return Err("duplicate uuid");
            }
            rows.insert(id, columns);
            return Ok(());
        }
        let chosen: Vec<Id> =
            rows.keys().filter(|id| id.0 == table && chosen(&operation["where"], &id.1)).cloned().collect();
        if operation["op"] == "delete" {
            chosen.iter().for_each(|id| drop(rows.remove(id)));
        } else if operation["op"] == "update" {
            let given = given()?;
            for id in chosen {
                rows.get_mut(&id).expect("there").extend(given.clone());
            }
        } else {
            let mutation = &operation["mutations"][0];
            let name = mutation[0].as_str().expect("column");
            let kind = self.kind(&table, name);
            check_operand(mutation, kind)?;
            for id in chosen {
                let datum = rows.get_mut(&id).and_then(|columns| columns.get_mut(name)).expect("there");
                mutate(datum, mutation, kind)?;
            }
        }
        Ok(())
    }
}

fn chosen(clause: &Value, uuid: &str) -> bool {
    match clause[0][1].as_str() {
        None => true,
        Some(function) => (clause[0][2][1] == uuid) == (function == "=="),
    }
}

/// What an insertion may contain does not depend on the rows.
fn check_operand(mutation: &Value, kind: &ColumnType) -> Result<(), &'static str> {
    if mutation[1] == "insert" {
        Datum::from_json_any_size(&mutation[2], kind, &no_names).map_err(|_| "constraint violation")?;
    }
    Ok(())
}

fn mutate(datum: &mut Datum, mutation: &Value, kind: &ColumnType) -> Result<(), &'static str> {
    let (mutator, value) = (mutation[1].as_str().expect("mutator"), &mutation[2]);
    if let Some(operand) = value.as_i64().filter(|_| mutator.ends_with('=')) {
        let old = datum.as_integer().expect("a number");
        let new = match mutator {
            "+=" => old + operand,
            "-=" => old - operand,
            "*=" => old * operand,
            _ if operand == 0 => return Err("domain error"),
            "/=" => old / operand,
            _ => old % operand,
        };
        *datum = Datum::from(new);
        return kind.check(datum).map_err(|_| "constraint violation");
    }
    let value = Datum::from_json_any_size(value, kind, &no_names);
    match (datum.clone(), value) {
        (Datum::Set(old), Ok(Datum::Set(value))) if mutator == "insert" => *datum = Datum::Set(&old | &value),
        (Datum::Set(old), Ok(Datum::Set(value))) => *datum = Datum::Set(&old - &value),
        (Datum::Map(old), Ok(Datum::Map(value))) if mutator == "insert" => {
            *datum = Datum::Map(value.into_iter().chain(old).collect());
        }
        (Datum::Map(mut old), Ok(Datum::Map(value))) => {
            old.retain(|k, v| value.get(k) != Some(v));
            *datum = Datum::Map(old);
        }
        (Datum::Map(mut old), Err(_)) => {
            old.retain(|k, _| Some(k.to_string()) != mutation[2].as_str().map(|text| format!("\"{text}\"")));
            *datum = Datum::Map(old);
        }
        (datum, value) => panic!("{mutator} of {value:?} to {datum:?}"),
    }
    kind.check_size(datum.len()).map_err(|_| "constraint violation")
}

fn rows_of(database: &Database) -> Rows {
    let row = |row: shunt_control::database::RowRef<'_>| {
        let columns = row.columns().map(|(column, datum)| (column.name.clone(), datum.clone())).collect();
        ((row.table().to_owned(), row.uuid().to_string()), columns)
    };
    database.tables().iter().flat_map(|table| table.rows().map(row).collect::<Vec<_>>()).collect()
}

/// What a run of random transactions brought about.
#[derive(Default, Debug)]
struct Tally {
    accepted: usize,
    refused: usize,
    /// Transactions after which there were rows in all tables.
    full: usize,
    /// Rows that went without being deleted.
    collected: usize,
    /// Weak references whose row went, of rows that stayed.
    pruned: usize,
}

impl Tally {
    fn add(&mut self, operations: &[Value], naive: &Naive, before: &Rows) {
        let after = &naive.rows;
        let tables: BTreeSet<&String> = after.keys().map(|(table, _)| table).collect();
        self.full += usize::from(tables.len() == 3);
        let deletes = |table: &String| operations.iter().any(|o| o["op"] == "delete" && o["table"] == **table);
        for (id, row) in before {
            if !after.contains_key(id) {
                self.collected += usize::from(!deletes(&id.0));
                continue;
            }
            let weak = row.iter().flat_map(|(name, datum)| targets(datum, naive.kind(&id.0, name), true));
            self.pruned += weak.filter(|target| !after.contains_key(target)).count();
        }
    }
}

fn compare(octets: &[u8], tally: &mut Tally) {
    let mut store = Store::in_memory(small_schema());
    let mut naive = Naive { schema: small_schema(), rows: Rows::new() };
    for operations in transactions(octets) {
        let before = contents(store.database());
        let rows = naive.rows.clone();
        let Reply::Done { results, .. } = store.transact(&operations, Duration::MAX, &|_| false) else {
            panic!("nothing here waits")
        };
        let error = results.iter().find_map(|result| result.get("error")).and_then(Value::as_str);
        let expected = naive.transact(&operations);
        assert_eq!(error, expected.err(), "{operations:#?}: {results:#?}");
        assert_eq!(rows_of(store.database()), naive.rows, "{operations:#?}");
        assert_eq!(store.database().verify(), Ok(()));
        if error.is_some() {
            tally.refused += 1;
            assert_eq!(contents(store.database()), before, "a refused transaction changes nothing");
        } else {
            tally.accepted += 1;
        }
        tally.add(&operations, &naive, &rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn random_transactions_are_those_of_the_model(octets in proptest::collection::vec(any::<u8>(), 0..1500)) {
        compare(&octets, &mut Tally::default());
    }
}

/// The generator is of use only if all that can happen does.
#[test]
fn the_generator_is_not_lame() {
    let mut random = 1_u32;
    let octets: Vec<u8> = std::iter::repeat_with(|| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    })
    .take(120_000)
    .collect();
    let mut tally = Tally::default();
    for part in octets.chunks(3000) {
        compare(part, &mut tally);
    }
    let Tally { accepted, refused, full, collected, pruned } = tally;
    assert!(accepted > 300 && refused > 300 && full > 100 && collected > 50 && pruned > 5, "{tally:?}");
}
