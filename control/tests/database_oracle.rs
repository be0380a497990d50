//! Does `transact` answer as ovsdb-server does, errors included?
//!
//! `oracle/transactions.txt` runs on both. Results must be equal but for UUIDs; the `details` of an error too, except
//! on lines marked `~`. Needs the Debian package `openvswitch-switch`.
//!
//! Wanted differences, which no line can show: a string with a NUL is refused as a value, while ovsdb-server hangs up; the part of a
//! request that an error quotes (`syntax`) ends after 4096 bytes; the bytes of a request and its nesting are limited.

use serde_json::{Value, json};
use server::{Client, Server};
use shunt_control::schema::DatabaseSchema;
use shunt_control::store::Store;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

mod server;

const SCHEMA: &str = include_str!("oracle/schema.json");
const TRANSACTIONS: &str = include_str!("oracle/transactions.txt");

/// The real server, in a directory of its own; it ends with the test.
struct Oracle {
    child: Child,
    directory: tempfile::TempDir,
}

impl Oracle {
    fn start() -> Oracle {
        let directory = tempfile::tempdir().expect("directory");
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("schema"), SCHEMA).expect("written");
        let made = Command::new("ovsdb-tool").args(["create", &at("db"), &at("schema")]).status();
        assert!(made.expect("ovsdb-tool, of openvswitch-common").success());
        let child = Command::new("ovsdb-server")
            .args([format!("--remote=punix:{}", at("socket")), format!("--unixctl={}", at("ctl")), at("db")])
            .env("OVS_RUNDIR", directory.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("ovsdb-server, of openvswitch-switch");
        Oracle { child, directory }
    }

    fn connect(&self) -> Client {
        let socket = self.directory.path().join("socket");
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "ovsdb-server does not start");
            std::thread::yield_now();
        }
        Client::connect(&socket)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts `<uuid>` for every UUID, also within texts, and rows in one order.
fn normal(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_order(&without_uuids(text)),
        Value::Array(all) => all.iter_mut().for_each(normal),
        Value::Object(members) => {
            members.values_mut().for_each(normal);
            members.sort_keys();
            if let Some(Value::Array(rows)) = members.get_mut("rows") {
                rows.sort_by_key(Value::to_string);
            }
        }
        _ => {}
    }
}

/// Which of two rows with the same index is found first is chance; so is how long a wait took.
fn without_order(text: &str) -> String {
    if let Some((before, rows)) = text.split_once("  First row, ")
        && let Some((first, second)) = rows.split_once("  Second row, ")
    {
        let mut both = [first, second];
        both.sort_unstable();
        return format!("{before} {both:?}");
    }
    match text.strip_prefix("\"wait\" timed out after ") {
        Some(_) => "\"wait\" timed out".to_owned(),
        None => text.to_owned(),
    }
}

fn without_uuids(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let candidate = rest.get(..36).filter(|start| shunt_control::datum::parse_uuid(start).is_some());
        if candidate.is_some() {
            out += "<uuid>";
            rest = &rest[36..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

fn without_details(value: &Value) -> Value {
    let strip = |result: &Value| match result.get("error") {
        Some(error) => json!({"error": error}),
        None => result.clone(),
    };
    value.as_array().map_or_else(|| strip(value), |all| all.iter().map(strip).collect())
}

#[test]
fn transactions_have_the_results_of_ovsdb_server() {
    let server = Server::with(|_| {
        let schema = serde_json::from_str(SCHEMA).expect("JSON");
        Store::in_memory(DatabaseSchema::from_json(&schema).expect("a schema"))
    });
    let oracle = Oracle::start();
    let (mut ours, mut theirs) = (Client::connect(&server.socket()), oracle.connect());
    let (mut count, mut differences) = (0, Vec::new());
    for line in TRANSACTIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (only_results, text) = line.strip_prefix('~').map_or((false, line), |text| (true, text));
        let params: Value = serde_json::from_str(&format!("[\"Oracle\",{text}]")).expect("JSON");
        let mut replies = [&mut ours, &mut theirs].map(|client| {
            let mut reply = client.call("transact", params.clone());
            normal(&mut reply["result"]);
            normal(&mut reply["error"]);
            [reply["result"].take(), reply["error"].take()]
        });
        let full = replies.clone();
        if only_results {
            assert_ne!(replies[0], replies[1], "needs no ~: {line}");
            replies.iter_mut().flatten().for_each(|part| *part = without_details(part));
        }
        count += 1;
        if replies[0] != replies[1] {
            let [ours, theirs] = full.map(|parts| parts.map(|part| part.to_string()).join(" "));
            differences.push(format!("{line}\n   ours:   {ours}\n   theirs: {theirs}"));
        }
    }
    assert!(count > 100, "{count} transactions");
    assert!(differences.is_empty(), "{} of {count} differ:\n{}", differences.len(), differences.join("\n"));
}
