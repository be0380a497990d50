//! Do clients that follow the database end with its contents, after any number of transactions?
//!
//! Open vSwitch's Python library and `ovsdb-client monitor` follow random transactions, on a small schema with every kind
//! of reference, and on a running shuntd with all of its tables; at some of them both must hold exactly what the server
//! holds. `SHUNT_LONG=1`: 10 000 transactions. Needs the Debian packages `python3-openvswitch` and `openvswitch-common`.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use random::{Random, Rows};
use scene::{Scene, Switch};
use serde_json::{Map, Value, json};
use server::{Client, Server};
use shunt_control::fuzzing::{small_schema, transactions};
use shunt_control::schema::{DatabaseSchema, vswitch};
use shunt_control::store::Store;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

#[path = "database_followers/random.rs"]
mod random;
#[allow(dead_code, reason = "Open vSwitch's daemons are for others")]
#[path = "cli_oracle/scene.rs"]
mod scene;
mod server;

/// A database, and the table and column whose values mark moments in it.
struct Followed {
    database: &'static str,
    mark: (&'static str, &'static str),
}

const SMALL: Followed = Followed { database: "Small", mark: ("Root", "status") };
const FULL: Followed = Followed { database: "Open_vSwitch", mark: ("Open_vSwitch", "dpdk_version") };

fn wanted() -> usize {
    if std::env::var_os("SHUNT_LONG").is_some() { 10_000 } else { 1000 }
}

/// Transactions between two looks at the followers.
const STRIDE: usize = 250;

/// A program whose lines are read as they come; it ends with the test.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(command: &mut Command) -> Follower {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Follower { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(60)).expect("the follower says something in time")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `ovsdb-client monitor --format=json` says, put together: rows by table and UUID.
struct Monitored {
    follower: Follower,
    tables: Map<String, Value>,
    marked: (&'static str, &'static str),
}

impl Monitored {
    fn start(address: &str, followed: &Followed, schema: &DatabaseSchema) -> Monitored {
        let monitor = ["monitor", address, followed.database, "ALL", "--format=json"];
        let follower = Follower::start(Command::new("ovsdb-client").args(monitor));
        let empty = schema.tables.keys().map(|table| (table.clone(), json!({}))).collect();
        Monitored { follower, tables: empty, marked: followed.mark }
    }

    /// Reads until a row is marked so.
    fn until(&mut self, mark: &str) -> Value {
        let (table, column) = self.marked;
        while !self.tables[table].as_object().expect("rows").values().any(|row| row[column] == mark) {
            let line = self.follower.line();
            if line.is_empty() {
                continue;
            }
            let table: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let rows = self.tables[table["caption"].as_str().expect("caption")].as_object_mut().expect("rows");
            let headings = table["headings"].as_array().expect("headings");
            let mut uuid = String::new();
            for cells in table["data"].as_array().expect("rows") {
                // The second line of a change leaves it out.
                if let Some(text) = cells[0].as_str().filter(|text| !text.is_empty()) {
                    uuid = text.to_owned();
                }
                match cells[1].as_str() {
                    Some("delete") => drop(rows.remove(&uuid)),
                    Some("old") => {}
                    _ => {
                        let cells = headings.iter().zip(cells.as_array().expect("cells")).skip(2);
                        let cells = cells.filter(|(name, _)| **name != "_version");
                        let row =
                            cells.map(|(name, cell)| (name.as_str().unwrap_or_default().to_owned(), cell.clone()));
                        rows.insert(uuid.clone(), row.collect());
                    }
                }
            }
        }
        Value::Object(self.tables.clone())
    }
}

/// The Python library; says what it holds whenever it sees a new mark.
fn start_idl(address: &str, followed: &Followed, schema: &DatabaseSchema, directory: &Path) -> Follower {
    let file = directory.join("schema");
    std::fs::write(&file, schema.to_json().to_string()).expect("written");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/follow.py");
    let (table, column) = followed.mark;
    Follower::start(Command::new("/usr/bin/python3").args([script, address]).arg(&file).args([table, column]))
}

/// All rows as the server has them right after `first`: rows by table and UUID, as [`shunt_control::fuzzing::contents`].
fn selected(client: &mut Client, followed: &Followed, schema: &DatabaseSchema, first: Value) -> Value {
    let select = |table: &String| json!({"op": "select", "table": table, "where": []});
    let params = [json!(followed.database), first].into_iter().chain(schema.tables.keys().map(select));
    let mut reply = client.call("transact", params.collect());
    let rows = |result: &mut Value| -> Value {
        let row = |row: &mut Value| {
            let row = row.as_object_mut().expect("a row");
            row.remove("_version");
            (row.remove("_uuid").expect("uuid")[1].as_str().expect("text").to_owned(), Value::Object(row.clone()))
        };
        result["rows"].as_array_mut().expect("rows").iter_mut().map(row).collect::<Map<_, _>>().into()
    };
    let results = reply["result"].as_array_mut().expect("results").iter_mut().skip(1).map(rows);
    schema.tables.keys().cloned().zip(results).collect::<Map<_, _>>().into()
}

/// Sends all at once, so that they are run in groups; gives how many were accepted.
fn send(client: &mut Client, followed: &Followed, group: &[Vec<Value>]) -> usize {
    for (id, operations) in group.iter().enumerate() {
        let params: Vec<Value> = std::iter::once(json!(followed.database)).chain(operations.iter().cloned()).collect();
        client.send(&json!({"method": "transact", "params": params, "id": id}));
    }
    let mut accepted = 0;
    for (id, operations) in group.iter().enumerate() {
        let reply = client.receive();
        assert_eq!(reply["id"], json!(id), "{reply}");
        let results = reply["result"].as_array().expect("results");
        accepted += usize::from(results.len() == operations.len() && results.iter().all(|one| one["error"].is_null()));
    }
    accepted
}

fn count_rows(contents: &Value) -> usize {
    contents.as_object().expect("tables").values().map(|rows| rows.as_object().map_or(0, Map::len)).sum()
}

/// Marks every row of `Root`; there is at least one.
fn mark(client: &mut Client, mark: &str) {
    let name = json!({"op": "insert", "table": "Root", "row": {"name": "marked"}});
    let wait = json!({"op": "wait", "table": "Root", "where": [], "until": "==", "rows": [], "timeout": 0});
    client.call("transact", json!(["Small", wait, name]));
    let update = json!({"op": "update", "table": "Root", "where": [], "row": {"status": mark}});
    let reply = client.call("transact", json!(["Small", update]));
    assert!(reply["result"][0]["count"].as_i64() > Some(0), "{reply}");
}

#[test]
fn python_idl_and_ovsdb_client_follow_random_transactions() {
    let wanted = wanted();
    let server = Server::with(|_| Store::in_memory(small_schema()));
    let schema = small_schema();
    let idl = start_idl(&server.address(), &SMALL, &schema, server.directory.path());
    let mut monitor = Monitored::start(&server.address(), &SMALL, &schema);
    let mut client = Client::connect(&server.socket());

    let mut runner = TestRunner::default();
    let octets = proptest::collection::vec(any::<u8>(), 2000..4000);
    let (mut done, mut changed, mut rows) = (0, 0, 0);
    while done < wanted {
        let octets = octets.new_tree(&mut runner).expect("octets").current();
        let group: Vec<_> = transactions(&octets).into_iter().take(STRIDE.min(wanted - done)).collect();
        changed += send(&mut client, &SMALL, &group);
        done += group.len();
        let name = format!("after {done}");
        mark(&mut client, &name);
        let expected = selected(&mut client, &SMALL, &schema, json!({"op": "comment", "comment": ""}));
        let seen: Value = serde_json::from_str(&idl.line()).expect("JSON");
        assert_eq!((&seen[0], &seen[1]), (&json!(name), &expected), "the IDL {name}, octets {octets:?}");
        assert_eq!(monitor.until(&name), expected, "ovsdb-client monitor {name}, octets {octets:?}");
        rows += count_rows(&expected);
    }
    println!("{done} transactions, {changed} of them without an error; {rows} rows compared");
    assert!(changed > done / 10 && rows > done / STRIDE, "{changed} of {done} changed something, {rows} rows");
}

/// The daemon writes, too, at any time: what it writes between a mark and its being seen may be there already or not yet, so
/// that marks are tried until one has quiet.
#[test]
fn they_follow_a_running_switch() {
    const MARKS_MAX: usize = 30;
    /// Transactions between two looks: what they refer to was there at the last one.
    const STRIDE: usize = 25;
    let wanted = wanted();
    let mut scene = Scene::start(Switch::Shunt);
    let (schema, address) = (vswitch::schema(), format!("unix:{}", scene.socket().display()));
    let directory = tempfile::tempdir().expect("directory");
    let idl = start_idl(&address, &FULL, &schema, directory.path());
    let mut monitor = Monitored::start(&address, &FULL, &schema);
    let mut client = Client::connect(&scene.socket());

    let mut runner = TestRunner::default();
    let draw = proptest::collection::vec(any::<u8>(), 1000);
    let mut contents = selected(&mut client, &FULL, &schema, json!({"op": "comment", "comment": ""}));
    let (mut done, mut changed, mut rows) = (0, 0, 0);
    while done < wanted {
        let octets = draw.new_tree(&mut runner).expect("octets").current();
        let uuids = |rows: &Value| rows.as_object().expect("rows").keys().cloned().collect();
        let all: Rows =
            contents.as_object().expect("tables").iter().map(|(table, rows)| (table.clone(), uuids(rows))).collect();
        let mut random = Random { schema: &schema, rows: &all, octets: octets.clone().into_iter() };
        let group: Vec<_> = random.transactions().into_iter().take(STRIDE.min(wanted - done)).collect();
        changed += send(&mut client, &FULL, &group);
        done += group.len();
        for attempt in 0.. {
            let name = format!("after {done}, {attempt}");
            let mark = json!({"op": "update", "table": FULL.mark.0, "where": [], "row": {FULL.mark.1: name}});
            contents = selected(&mut client, &FULL, &schema, mark);
            let seen: Value = serde_json::from_str(&idl.line()).expect("JSON");
            let monitored = monitor.until(&name);
            assert_eq!(seen[0], json!(name));
            if seen[1] == contents && monitored == contents {
                break;
            }
            assert!(scene.alive(), "{}", scene.logs());
            if attempt == MARKS_MAX {
                assert_eq!(seen[1], contents, "the IDL {name}, octets {octets:?}");
                assert_eq!(monitored, contents, "ovsdb-client monitor {name}, octets {octets:?}");
            }
        }
        rows += count_rows(&contents);
    }
    assert!(scene.alive(), "{}", scene.logs());
    println!("{done} transactions, {changed} of them without an error; {rows} rows compared");
    assert!(changed > done / 4 && rows > done / 4, "{changed} of {done} changed something, {rows} rows");
}
