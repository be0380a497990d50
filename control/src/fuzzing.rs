//! What can clients and broken disks do to us? Bodies of fuzz targets, also run by the tests.

use crate::database::Database;
use crate::journal::{self, Disk};
use crate::rpc::{Daemon, Hub, Peer};
use crate::schema::{DatabaseSchema, vswitch};
use crate::store::{Reply, Store};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Has a fault that the rig must find.
///
/// # Panics
/// If the input begins with `bug`.
pub fn fuzz_canary(octets: &[u8]) {
    // One comparison after the other: coverage shows the way, as in a parser.
    let matched = octets.iter().zip(b"bug").take_while(|(found, wanted)| found == wanted).count();
    assert!(matched < 3, "found");
}

struct Silent;

impl Daemon for Silent {
    fn command(&mut self, name: &str, _: &[String]) -> Result<Value, String> {
        Err(format!("\"{name}\" is not a valid command"))
    }

    fn committed(&mut self, _: Peer) {}
}

/// Two clients: one sends `octets` (in pieces), the other still gets its answer.
///
/// # Panics
/// If it does not, or if the database is broken, which is what the fuzzer looks for.
pub fn fuzz_rpc(octets: &[u8]) {
    let store = Rc::new(RefCell::new(Store::in_memory(vswitch::schema())));
    let mut hub = Hub::new(Rc::clone(&store), Rc::new(RefCell::new(Silent)));
    let peer = Peer { uid: 0, pid: None };
    let (attacker, other) = (hub.connect(peer, Rc::default()), hub.connect(peer, Rc::default()));
    // The clock only moves on where the input ends.
    let now = Instant::now();
    let middle = octets.first().map_or(0, |first| usize::from(*first) % octets.len());
    for piece in [&octets[..middle], &octets[middle..]] {
        hub.receive(attacker, piece);
        while hub.step(attacker, now) {}
        hub.commit(now);
    }
    hub.poll(now + Duration::from_secs(3600));
    hub.receive(other, br#"{"method":"echo","params":["still"],"id":7}"#);
    while hub.step(other, now) {}
    hub.commit(now);
    let answer: Value = serde_json::from_slice(hub.output(other)).unwrap_or_default();
    assert_eq!(answer, json!({"id": 7, "result": ["still"], "error": null}));
    hub.disconnect(attacker);
    assert_eq!(store.borrow().database().verify(), Ok(()));
}

/// A journal file of these octets is refused, or yields a sound database which takes another transaction.
///
/// # Panics
/// If not, which is what the fuzzer looks for.
pub fn fuzz_journal(octets: &[u8]) {
    // As it is; and as changes in records that are whole.
    open(octets.to_vec());
    if let Ok(text) = std::str::from_utf8(octets) {
        let mut file = journal::header("Open_vSwitch", "8.3.1").into_bytes();
        file.extend(text.lines().flat_map(journal::encode_record));
        open(file);
    }
}

fn open(bytes: Vec<u8>) {
    let disk = Memory { file: Some(bytes), staged: Vec::new() };
    let Ok(mut store) = Store::open_disk(Box::new(disk), "memory", vswitch::schema()) else { return };
    let count = json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "-=", 1]]});
    store.transact(&[count], Duration::ZERO, &|_| false);
    assert_eq!(store.database().verify(), Ok(()));
}

/// A disk that never fails.
struct Memory {
    file: Option<Vec<u8>>,
    staged: Vec<u8>,
}

impl Disk for Memory {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.file.clone())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.get_or_insert_default().extend(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.get_or_insert_default().truncate(length as usize);
        Ok(())
    }

    fn stage(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.staged = bytes.to_vec();
        Ok(())
    }

    fn install(&mut self) -> io::Result<()> {
        self.file = Some(std::mem::take(&mut self.staged));
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Transactions made from `octets` on a small schema with every kind of reference; and `octets` itself as operations.
///
/// # Panics
/// If the database is broken after any of them, or changed by a refused one, which is what the fuzzer looks for.
pub fn fuzz_transaction(octets: &[u8]) {
    let mut store = Store::in_memory(small_schema());
    for operations in transactions(octets) {
        run(&mut store, &operations);
    }
    if let Ok(Value::Array(operations)) = serde_json::from_slice(octets) {
        run(&mut Store::in_memory(vswitch::schema()), &operations);
    }
}

fn run(store: &mut Store, operations: &[Value]) {
    let before = contents(store.database());
    let reply = store.transact(operations, Duration::MAX, &|_| false);
    assert_eq!(store.database().verify(), Ok(()), "{operations:?}");
    let Reply::Done { results, changed } = reply else { return };
    let refused = results.len() > operations.len() || results.iter().any(|result| result.get("error").is_some());
    assert!(!(refused && changed));
    assert!(changed || before == contents(store.database()), "refused or idle, yet changed: {operations:?}");
}

/// Everything in the database but the versions of rows: rows by table and UUID.
pub fn contents(database: &Database) -> Value {
    let row = |row: crate::database::RowRef<'_>| {
        let columns = row.columns().map(|(column, datum)| (column.name.clone(), datum.to_json()));
        (row.uuid().to_string(), Value::Object(columns.collect()))
    };
    let tables = database.tables().iter();
    tables.map(|table| (table.schema().name.clone(), Value::Object(table.rows().map(row).collect()))).collect()
}

/// Three tables with strong and weak references in sets and maps, indexes, ranges and a limit of rows.
pub fn small_schema() -> DatabaseSchema {
    let any = |kind: Value| json!({"type": {"key": kind, "min": 0, "max": "unlimited"}});
    let optional = |kind: Value| json!({"type": {"key": kind, "min": 0, "max": 1}});
    let strong = |table: &str| json!({"type": "uuid", "refTable": table});
    let weak = |table: &str| json!({"type": "uuid", "refTable": table, "refType": "weak"});
    let small = json!({"type": "integer", "minInteger": 0, "maxInteger": 9});
    let schema = json!({"name": "Small", "version": "1.0.0", "tables": {
        "Root": {"isRoot": true, "maxRows": 4, "indexes": [["name"]], "columns": {
            "name": {"type": "string"},
            "number": {"type": {"key": small}},
            "kids": any(strong("Kid")),
            "pals": any(weak("Root")),
            "mixed": {"type": {"key": strong("Kid"), "value": weak("Root"), "min": 0, "max": "unlimited"}},
            "status": {"type": {"key": "string", "min": 0, "max": 1}, "ephemeral": true},
        }},
        "Kid": {"indexes": [["tag", "name"]], "columns": {
            "name": {"type": "string", "mutable": false},
            "tag": optional(small),
            "next": optional(strong("Kid")),
            "needs": any(strong("Need")),
        }},
        "Need": {"columns": {
            "boss": {"type": {"key": weak("Root")}},
            "words": {"type": {"key": "string", "value": "integer", "min": 0, "max": 3}},
        }},
    }});
    DatabaseSchema::from_json(&schema).unwrap_or_else(|error| unreachable!("our own: {error}"))
}

/// A row that may or may not exist: one of five per table.
fn uuid(table: &str, number: u8) -> Value {
    json!(["uuid", format!("00000000-0000-4000-8000-{:010x}{:02x}", table.len(), number % 8)])
}

/// Transactions of a few operations, whatever the octets are.
pub fn transactions(octets: &[u8]) -> Vec<Vec<Value>> {
    let mut octets = octets.iter().copied();
    let mut transactions = Vec::new();
    while let Some(first) = octets.next() {
        let mut next = || octets.next().unwrap_or(0);
        let count = 0..=first % 4;
        transactions.push(
            count.flat_map(|_| if next() < 96 { adoption(&mut next) } else { vec![operation(&mut next)] }).collect(),
        );
    }
    transactions
}

/// A new row of a table whose rows live only by references, and a row that refers to it.
fn adoption(next: &mut impl FnMut() -> u8) -> Vec<Value> {
    let (parent, column, child) = if next() < 128 { ("Root", "kids", "Kid") } else { ("Kid", "needs", "Need") };
    let (old, new) = (uuid(parent, next()), uuid(child, next()));
    let insert = json!({"op": "insert", "table": child, "uuid": new[1], "row": row(child, next)});
    let clause = json!([["_uuid", if next() < 128 { "==" } else { "!=" }, old]]);
    let adopt = json!({"op": "mutate", "table": parent, "where": clause, "mutations": [[column, "insert", new]]});
    vec![insert, adopt]
}

fn operation(next: &mut impl FnMut() -> u8) -> Value {
    let table = ["Root", "Kid", "Need"][usize::from(next() % 3)];
    let me = uuid(table, next());
    let clause = match next() % 16 {
        0 => json!([]),
        1 => json!([["_uuid", "!=", me]]),
        _ => json!([["_uuid", "==", me]]),
    };
    match next() % 10 {
        0..3 => json!({"op": "insert", "table": table, "uuid": me[1], "row": row(table, next)}),
        3..5 => {
            let mut row = row(table, next);
            if let Some(row) = row.as_object_mut().filter(|_| table == "Kid") {
                row.remove("name");
            }
            json!({"op": "update", "table": table, "where": clause, "row": row})
        }
        5..7 => json!({"op": "mutate", "table": table, "where": clause, "mutations": [mutation(table, next)]}),
        _ => json!({"op": "delete", "table": table, "where": clause}),
    }
}

/// Up to three references to rows of `table`, mostly none: rows that do not exist are refused.
fn uuids(table: &str, next: &mut impl FnMut() -> u8) -> Value {
    let count = next().saturating_sub(160) / 32;
    let numbers: std::collections::BTreeSet<u8> = (0..count).map(|_| next() % 5).collect();
    json!(["set", numbers.into_iter().map(|number| uuid(table, number)).collect::<Vec<_>>()])
}

fn row(table: &str, next: &mut impl FnMut() -> u8) -> Value {
    match table {
        "Root" => json!({
            "name": (next() % 6).to_string(),
            "number": next() % 64 / 6,
            "kids": uuids("Kid", next),
            "pals": ["set", [uuid("Root", 0), uuid("Root", 1 + next() % 4)]],
            "mixed": ["map", if next() < 192 { vec![] } else { vec![[uuid("Kid", next()), uuid("Root", next())]] }],
            "status": "s",
        }),
        "Kid" => {
            let next_kid = if next() < 192 { json!(["set", []]) } else { uuid("Kid", next()) };
            json!({"name": (next() % 3).to_string(), "tag": next() % 10, "next": next_kid, "needs": uuids("Need", next)})
        }
        _ => json!({"boss": uuid("Root", next() % 2), "words": ["map", [[(next() % 3).to_string(), next() % 3]]]}),
    }
}

fn mutation(table: &str, next: &mut impl FnMut() -> u8) -> Value {
    let mutator = ["insert", "delete"][usize::from(next() % 2)];
    match (table, next() % 3) {
        ("Root", 0) => json!(["kids", mutator, uuids("Kid", next)]),
        ("Root", 1) => json!(["pals", mutator, uuids("Root", next)]),
        ("Root", _) => {
            let mutator = ["+=", "-=", "*=", "/=", "%="][usize::from(next() % 5)];
            json!(["number", mutator, next() % 4])
        }
        ("Kid", 0) => json!(["next", mutator, uuid("Kid", next())]),
        ("Kid", _) => json!(["needs", mutator, uuids("Need", next)]),
        (_, 0) => json!(["words", mutator, ["map", [[(next() % 4).to_string(), next() % 3]]]]),
        _ => json!(["words", "delete", (next() % 3).to_string()]),
    }
}
