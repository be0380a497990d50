//! Do clients that follow the database end with its contents, after any number of transactions?
//!
//! Open vSwitch's Python library and `ovsdb-client monitor` follow random transactions on a small schema with every kind
//! of reference; at some of them both must hold exactly what the server holds. `SHUNT_LONG=1`: 10 000 transactions.
//! Needs the Debian packages `python3-openvswitch` and `openvswitch-common`.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use server::{Client, Server};
use shunt_control::fuzzing::{small_schema, transactions};
use shunt_control::store::Store;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

mod server;

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
}

impl Monitored {
    /// Reads until a row of `Root` has the status `mark`.
    fn until(&mut self, mark: &str) -> Value {
        while !self.tables["Root"].as_object().expect("rows").values().any(|row| row["status"] == mark) {
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

/// All rows as the server has them: rows by table and UUID, as [`shunt_control::fuzzing::contents`].
fn selected(client: &mut Client, tables: &[String]) -> Value {
    let select = |table: &String| json!({"op": "select", "table": table, "where": []});
    let params: Vec<Value> = std::iter::once(json!("Small")).chain(tables.iter().map(select)).collect();
    let mut reply = client.call("transact", params.into());
    let rows = |result: &mut Value| -> Value {
        let row = |row: &mut Value| {
            let row = row.as_object_mut().expect("a row");
            row.remove("_version");
            (row.remove("_uuid").expect("uuid")[1].as_str().expect("text").to_owned(), Value::Object(row.clone()))
        };
        result["rows"].as_array_mut().expect("rows").iter_mut().map(row).collect::<Map<_, _>>().into()
    };
    let results = reply["result"].as_array_mut().expect("results").iter_mut().map(rows);
    tables.iter().cloned().zip(results).collect::<Map<_, _>>().into()
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
    let wanted = if std::env::var_os("SHUNT_LONG").is_some() { 10_000 } else { 1000 };
    let server = Server::with(|_| Store::in_memory(small_schema()));
    let schema = small_schema().to_json();
    let file = server.directory.path().join("schema");
    std::fs::write(&file, schema.to_string()).expect("written");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/follow.py");
    let tables: Vec<String> = schema["tables"].as_object().expect("tables").keys().cloned().collect();
    let idl = Follower::start(
        Command::new("/usr/bin/python3").arg(script).arg(server.address()).arg(&file).args(["Root", "status"]),
    );
    let monitor = ["monitor", &server.address(), "Small", "ALL", "--format=json"];
    let follower = Follower::start(Command::new("ovsdb-client").args(monitor));
    let empty = tables.iter().map(|table| (table.clone(), json!({}))).collect();
    let mut monitor = Monitored { follower, tables: empty };
    let mut client = Client::connect(&server.socket());

    let mut runner = TestRunner::default();
    let octets = proptest::collection::vec(any::<u8>(), 2000..4000);
    let (mut done, mut changed, mut rows) = (0, 0, 0);
    while done < wanted {
        let octets = octets.new_tree(&mut runner).expect("octets").current();
        let group: Vec<_> = transactions(&octets).into_iter().take(STRIDE.min(wanted - done)).collect();
        // All at once: they are run in groups.
        for (id, operations) in group.iter().enumerate() {
            let params: Vec<Value> = std::iter::once(json!("Small")).chain(operations.iter().cloned()).collect();
            client.send(&json!({"method": "transact", "params": params, "id": id}));
        }
        for (id, operations) in group.iter().enumerate() {
            let reply = client.receive();
            assert_eq!(reply["id"], json!(id), "{reply}");
            let results = reply["result"].as_array().expect("results");
            changed +=
                usize::from(results.len() == operations.len() && results.iter().all(|one| one["error"].is_null()));
        }
        done += group.len();
        let name = format!("after {done}");
        mark(&mut client, &name);
        let expected = selected(&mut client, &tables);
        let seen: Value = serde_json::from_str(&idl.line()).expect("JSON");
        assert_eq!((&seen[0], &seen[1]), (&json!(name), &expected), "the IDL {name}, octets {octets:?}");
        assert_eq!(monitor.until(&name), expected, "ovsdb-client monitor {name}, octets {octets:?}");
        rows += expected
            .as_object()
            .expect("tables")
            .values()
            .map(|rows| rows.as_object().map_or(0, Map::len))
            .sum::<usize>();
    }
    println!("{done} transactions, {changed} of them without an error; {rows} rows compared");
    assert!(changed > done / 10 && rows > done / STRIDE, "{changed} of {done} changed something, {rows} rows");
}
