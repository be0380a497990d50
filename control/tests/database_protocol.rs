//! Do the methods other than `transact` answer as ovsdb-server does, errors included; and does every command of
//! `ovsdb-client` get from shuntd what it gets from there?
//!
//! `oracle/requests.txt` runs on both. Needs the Debian package `openvswitch-switch`.
//!
//! Wanted differences, which no line can show: an error has a `result` that is null, as RFC 7047 says, which ovsdb-server leaves
//! out; what is no request is answered with an error, while ovsdb-server hangs up; a monitor without requests is refused,
//! while it crashes; a method that nobody knows is taken for a run-time command; `convert` is refused, and so is to wait for
//! a change of `_Server`; our schemas have no checksum; a transaction that is
//! canceled is answered, as RFC 7047 says.

use oracle::{Oracle, normal};
use serde_json::{Value, json};
use server::{Client, Server};
use shunt_control::schema::{DatabaseSchema, vswitch};
use shunt_control::store::Store;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

mod oracle;
mod server;

const REQUESTS: &str = include_str!("oracle/requests.txt");
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/schema.json");
const VSWITCH_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Whether it is the answer to a request with this id.
fn answers(message: &Value, id: &Value) -> bool {
    message["id"] == *id && message.get("method").is_none()
}

/// Sends a request; gives everything that comes until it is answered, and until an echo behind it is.
fn ask(client: &mut Client, request: &Value, is_answered: bool) -> Vec<Value> {
    let mut told = vec![];
    let mut until = |client: &mut Client, id: &Value| {
        loop {
            let mut message = client.receive();
            if answers(&message, id) && *id == json!("fence") {
                break;
            }
            let end = answers(&message, id);
            if !message["error"].is_null() {
                message.as_object_mut().expect("an object").remove("result");
            }
            normal(&mut message);
            told.push(without_row_ids(message));
            if end {
                break;
            }
        }
        // Monitors are told in the order of a hash table, but before the answer.
        let notes = told.iter().take_while(|message| message.get("method").is_some()).count();
        told[..notes].sort_by_key(Value::to_string);
    };
    client.send(request);
    if is_answered {
        until(client, &request["id"]);
    }
    client.send(&json!({"method": "echo", "params": [], "id": "fence"}));
    until(client, &json!("fence"));
    told
}

/// A list of rows in place of an object whose members' names are their UUIDs.
fn without_row_ids(json: Value) -> Value {
    match json {
        Value::Array(elements) => elements.into_iter().map(without_row_ids).collect(),
        Value::Object(members) => {
            let is_row = |(name, _): (&String, &Value)| shunt_control::datum::parse_uuid(name).is_some();
            let of_rows = !members.is_empty() && members.iter().all(is_row);
            let members = members.into_iter().map(|(name, value)| (name, without_row_ids(value)));
            if !of_rows {
                return Value::Object(members.collect());
            }
            let mut rows: Vec<Value> = members.map(|(_, row)| row).collect();
            rows.sort_by_key(Value::to_string);
            rows.into()
        }
        scalar => scalar,
    }
}

#[test]
fn requests_are_answered_as_by_ovsdb_server() {
    let server = Server::with(|_| {
        let schema = serde_json::from_str(include_str!("oracle/schema.json")).expect("JSON");
        Store::in_memory(DatabaseSchema::from_json(&schema).expect("a schema"))
    });
    let oracle = Oracle::start(Path::new(SCHEMA));
    let (mut ours, mut theirs) = (Client::connect(&server.socket()), oracle.connect());
    let (mut count, mut differences) = (0, vec![]);
    for line in REQUESTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        // "METHOD PARAMS"; "-" in front: a notification; "?": answered later, or never.
        let (kind, rest) = match line.split_at(1) {
            ("-" | "?", rest) => (&line[..1], rest),
            _ => ("", line),
        };
        let (method, params) = rest.split_once(' ').expect("METHOD PARAMS");
        let params: Value = serde_json::from_str(params).unwrap_or_else(|error| panic!("{line}: {error}"));
        let id = match kind {
            "-" => Value::Null,
            "?" => json!("later"),
            _ => json!(count),
        };
        let request = json!({"method": method, "params": params, "id": id});
        println!("{line}"); // the last one is the one that ended a failed run
        let [ours, theirs] = [&mut ours, &mut theirs].map(|client| ask(client, &request, kind.is_empty()));
        count += 1;
        if ours != theirs {
            let lines = |told: Vec<Value>| told.iter().map(|one| format!("\n      {one}")).collect::<String>();
            differences.push(format!("{line}\n   ours:{}\n   theirs:{}", lines(ours), lines(theirs)));
        }
    }
    assert!(count > 100, "{count} requests");
    assert!(differences.is_empty(), "{} of {count} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn a_schema_is_kept_and_not_sent_to_who_has_it() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    let params = |digest: u64| json!(["Open_vSwitch", digest]);
    assert_eq!(client.call("get_schema", params(vswitch::DIGEST))["result"], Value::Null);
    assert_eq!(client.call("get_schema", params(vswitch::DIGEST + 1))["result"]["name"], "Open_vSwitch");
    assert_eq!(client.call("get_schema", json!(["_Server", vswitch::DIGEST]))["result"]["name"], "_Server");
    let refused = client.call("convert", json!(["Open_vSwitch", vswitch::schema().to_json()]))["error"].take();
    assert_eq!(refused["error"], "not supported");
    for params in [json!(["Open_vSwitch"]), json!(["Open_vSwitch", "m"])] {
        assert_eq!(client.call("monitor", params)["error"]["details"], "invalid parameters");
    }
    // Another schema than the program's is sent whatever the client has.
    let other = Server::with(|_| Store::in_memory(DatabaseSchema { version: "0.0.1".into(), ..vswitch::schema() }));
    let mut client = Client::connect(&other.socket());
    assert_eq!(client.call("get_schema", params(vswitch::DIGEST))["result"]["version"], "0.0.1");
}

/// Rows of every kind of column, and rows that belong to others.
const CONTENT: &str = r#"["Open_vSwitch",
    {"op":"insert","table":"Open_vSwitch","row":{"external_ids":["map",[["a b","c\"d"],["e","é"]]],"next_cfg":7}},
    {"op":"insert","table":"Interface","row":{"name":"p0","options":["map",[["x","1"]]]},"uuid-name":"i"},
    {"op":"insert","table":"Port","row":{"name":"p0","trunks":["set",[1,5,9]],"tag":3,"interfaces":["named-uuid","i"]},"uuid-name":"p"},
    {"op":"insert","table":"Bridge","row":{"name":"br,0","stp_enable":true,"ports":["named-uuid","p"],"fail_mode":"secure"},"uuid-name":"b"},
    {"op":"mutate","table":"Open_vSwitch","where":[],"mutations":[["bridges","insert",["named-uuid","b"]]]}]"#;

/// `@` stands for the address.
const COMMANDS: &[&str] = &[
    "list-dbs @",
    "get-schema-version @",
    "get-schema-version @ _Server",
    "get-schema-version @ nope",
    "get-schema @ nope",
    "list-tables @",
    "list-tables @ _Server",
    "list-columns @ Open_vSwitch Bridge",
    "list-columns @ Open_vSwitch Nope",
    "list-columns @ _Server",
    "dump @ Open_vSwitch Port name trunks tag interfaces",
    "--format=csv dump @ Open_vSwitch Bridge name ports stp_enable fail_mode",
    "--format=json dump @ Open_vSwitch Open_vSwitch external_ids next_cfg",
    "dump @ Open_vSwitch Interface name options nope",
    "dump @ Open_vSwitch Nope",
    "dump @ _Server Database name model connected leader",
    "query @ [\"Open_vSwitch\",{\"op\":\"select\",\"table\":\"Port\",\"where\":[],\"columns\":[\"name\",\"tag\"]}]",
    "query @ [\"Open_vSwitch\",{\"op\":\"delete\",\"table\":\"Port\",\"where\":[]}]",
    "transact @ [\"Open_vSwitch\",{\"op\":\"comment\",\"comment\":\"x\"}]",
    "transact @ [\"Nope\",{\"op\":\"comment\",\"comment\":\"x\"}]",
    "wait @ Open_vSwitch connected",
    "wait @ Open_vSwitch added",
    "wait @ nope removed",
    "--timeout=1 lock @ l",
    "--timeout=1 steal @ l",
    "--timeout=1 unlock @ l",
    "--timeout=1 lock @ 1",
];

/// Tables that only our schema has.
const OWN_TABLES: [&str; 3] = ["Neighbor", "Route", "SVI"];

fn run(socket: &Path, line: &str, input: Stdio) -> Output {
    let address = format!("unix:{}", socket.display());
    let words = line.split(' ').map(|word| if word == "@" { address.as_str() } else { word });
    let output = Command::new("ovsdb-client").arg("--timeout=10").args(words).stdin(input).output();
    output.expect("ovsdb-client, of openvswitch-common")
}

/// Reads a backup of a whole database in, whatever schema it was made with.
fn restore(socket: &Path, backup: &[u8]) {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(backup).and_then(|()| file.rewind()).expect("written");
    let restored = run(socket, "--force restore @", file.into());
    assert!(restored.status.success(), "{restored:?}");
}

/// What it printed, without chance and without what only one schema has.
fn printed(output: &Output) -> (Option<i32>, Vec<String>) {
    let text =
        [output.stdout.as_slice(), output.stderr.as_slice()].map(|part| String::from_utf8_lossy(part).into_owned());
    let mut text = Value::from(text.concat());
    normal(&mut text);
    let lines = text.as_str().unwrap_or_default().lines();
    // A log line begins with the time.
    let line = |line: &str| {
        line.split_once('Z').filter(|(time, _)| time.starts_with("20")).map_or(line, |(_, rest)| rest).to_owned()
    };
    let is_common = |line: &String| !line.contains("unix:") && !OWN_TABLES.contains(&line.as_str());
    let mut lines: Vec<String> = lines.map(line).filter(is_common).collect();
    lines.sort();
    (output.status.code(), lines)
}

#[test]
fn every_command_of_ovsdb_client_works() {
    let (server, oracle) = (Server::start(), Oracle::start(Path::new(VSWITCH_SCHEMA)));
    let sockets = [server.socket(), oracle.socket()];
    let mut client = oracle.connect();
    client.call("transact", serde_json::from_str(CONTENT).expect("JSON"));
    let backup = run(&oracle.socket(), "backup @", Stdio::null());
    assert!(backup.status.success(), "{backup:?}");
    sockets.iter().for_each(|socket| restore(socket, &backup.stdout));
    let mut differences = vec![];
    for line in COMMANDS {
        let [ours, theirs] = sockets.each_ref().map(|socket| printed(&run(socket, line, Stdio::null())));
        if ours != theirs {
            differences.push(format!("{line}\n   ours:   {ours:?}\n   theirs: {theirs:?}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    // There and back.
    let saved = run(&server.socket(), "backup @", Stdio::null());
    let again = Server::start();
    restore(&again.socket(), &saved.stdout);
    let dumps = [&server, &again].map(|server| printed(&run(&server.socket(), "dump @ Open_vSwitch", Stdio::null())));
    assert_eq!(dumps[0], dumps[1]);
    assert!(dumps[0].1.iter().any(|line| line.contains("br,0")), "{dumps:?}");
}
