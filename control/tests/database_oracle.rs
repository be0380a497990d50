//! Does `transact` answer as ovsdb-server does, errors included?
//!
//! `oracle/transactions.txt` runs on both. Results must be equal but for UUIDs; the `details` of an error too, except
//! on lines marked `~`. Needs the Debian package `openvswitch-switch`.
//!
//! Wanted differences, which no line can show: a string with a NUL is refused as a value, while ovsdb-server hangs up; the part of a
//! request that an error quotes (`syntax`) ends after 4096 bytes; the bytes of a request and its nesting are limited.

use oracle::{Oracle, normal};
use serde_json::{Value, json};
use server::{Client, Server};
use shunt_control::schema::DatabaseSchema;
use shunt_control::store::Store;
use std::path::Path;

mod oracle;
mod server;

const SCHEMA: &str = include_str!("oracle/schema.json");
const TRANSACTIONS: &str = include_str!("oracle/transactions.txt");

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
    let oracle = Oracle::start(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/schema.json")));
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
