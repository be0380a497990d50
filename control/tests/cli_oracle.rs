//! Does `shuntctl` do what `ovs-vsctl` does? Each command line goes through both, each to an `ovsdb-server` of its own;
//! output, messages, exit status and the database afterwards must be the same, save for UUIDs, our remedies in
//! parentheses, and the differences listed in `WANTED`.

use compare::{agrees, messages, normal, words};
use serde_json::{Value, json};
use shunt_control::cli::client::Client;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[path = "cli_oracle/compare.rs"]
mod compare;
#[path = "cli_oracle/daemons.rs"]
mod daemons;
#[path = "cli_oracle/scene.rs"]
mod scene;

use scene::SCHEMA;

/// An `ovsdb-server` with an empty vswitch database.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start(folder: &Path, name: &str) -> Server {
        let db = folder.join(name);
        let socket = folder.join(format!("{name}.sock"));
        let made = Command::new("ovsdb-tool").arg("create").args([&db, Path::new(SCHEMA)]).status();
        assert!(
            made.is_ok_and(|status| status.success()),
            "ovsdb-tool create failed; this test needs Debian's package openvswitch-switch"
        );
        let child = Command::new("ovsdb-server")
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg(format!("--unixctl={}", folder.join(format!("{name}.ctl")).display()))
            .arg("--no-chdir")
            .arg(&db)
            .stderr(Stdio::null())
            .spawn()
            .expect("ovsdb-server starts");
        let server = Server { child, socket };
        Client::connect(&server.socket, Some(Instant::now() + Duration::from_secs(10)), true, false)
            .expect("ovsdb-server listens");
        server
    }

    /// The whole database, rows nested where they are referred to, so that it has no UUIDs.
    fn content(&self) -> Value {
        let mut client = Client::connect(&self.socket, None, false, false).unwrap();
        let schema = client.call("get_schema", json!(["Open_vSwitch"])).unwrap();
        let tables: Vec<String> = schema["tables"].as_object().unwrap().keys().cloned().collect();
        let mut params = vec![json!("Open_vSwitch")];
        params.extend(tables.iter().map(|table| json!({"op": "select", "table": table, "where": []})));
        let results = client.call("transact", Value::Array(params)).unwrap();
        let mut rows = BTreeMap::new();
        for (place, _) in tables.iter().enumerate() {
            for row in results[place]["rows"].as_array().unwrap() {
                let uuid = row["_uuid"][1].as_str().unwrap().to_owned();
                let mut row = row.clone();
                row.as_object_mut().unwrap().retain(|name, _| !name.starts_with("_"));
                rows.insert(uuid, row);
            }
        }
        let roots = tables.iter().enumerate().filter(|(_, table)| schema["tables"][table]["isRoot"] == true);
        let nested = |place: usize| {
            let rows_here = results[place]["rows"].as_array().unwrap();
            let mut list: Vec<String> =
                rows_here.iter().map(|row| nest(&json!(["uuid", row["_uuid"][1]]), &rows).to_string()).collect();
            list.sort();
            list
        };
        roots.map(|(place, table)| (table.clone(), json!(nested(place)))).collect::<serde_json::Map<_, _>>().into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nest(json: &Value, rows: &BTreeMap<String, Value>) -> Value {
    match json {
        Value::Array(pair) if pair.len() == 2 && pair[0] == "uuid" => {
            rows.get(pair[1].as_str().unwrap()).map_or(json!("nowhere"), |row| nest(row, rows))
        }
        Value::Array(elements) => {
            let mut elements: Vec<Value> = elements.iter().map(|value| nest(value, rows)).collect();
            elements.sort_by_key(|value| (value.is_array(), value.to_string()));
            Value::Array(elements)
        }
        Value::Object(members) => {
            members.iter().map(|(k, v)| (k.clone(), nest(v, rows))).collect::<serde_json::Map<_, _>>().into()
        }
        scalar => scalar.clone(),
    }
}

/// The command lines.
fn lines() -> Vec<&'static str> {
    let lines = include_str!("cli_oracle_lines.txt").lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len() >= 250, "the list has shrunk to {} lines", lines.len());
    lines
}

/// `UUID(TABLE,RECORD)` becomes the record's UUID, which differs between the two databases.
fn run(program: &str, server: &Server, line: &str) -> Output {
    let db = format!("--db=unix:{}", server.socket.display());
    let expand =
        |word: String| match word.split_once("UUID(").map(|(before, rest)| (before, rest.split_once(')').unwrap())) {
            Some((before, (record, after))) => {
                let (table, name) = record.split_once(',').unwrap();
                let found =
                    Command::new("ovs-vsctl").args([&db, "--no-wait", "get", table, name, "_uuid"]).output().unwrap();
                format!("{before}{}{after}", String::from_utf8(found.stdout).unwrap().trim())
            }
            None => word,
        };
    let args = words(line).into_iter().map(expand);
    Command::new(program).args([&db, "--no-wait"]).args(args).output().unwrap()
}

/// Command lines where we differ on purpose, with our message.
const WANTED: &[(&str, &str)] = &[
    // 3.1 leaves this check to the server when the command is the last one; later releases do as we do.
    (
        "add port p0 tag 7",
        "\"add\" operation would put 2 values in column tag of table Port but the maximum number is 1",
    ),
    // 3.1 prints a NUL byte.
    ("set port p0 other_config=x", "x: syntax error at \"\" expecting \"=\""),
];

#[test]
fn the_same_lines_do_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = Server::start(folder.path(), "theirs");
    let ours = Server::start(folder.path(), "ours");
    let mut failures = vec![];
    for line in lines() {
        let a = run("ovs-vsctl", &theirs, line);
        let b = run(env!("CARGO_BIN_EXE_shuntctl"), &ours, line);
        let mut differences = vec![];
        let (said, say) = (messages(&a.stderr), messages(&b.stderr));
        let wanted = WANTED.iter().find(|(known, _)| *known == line);
        let agree = match wanted {
            Some((_, message)) if say.len() == 1 && agrees(message, &say[0]) => true,
            _ => said.len() == say.len() && said.iter().zip(&say).all(|(theirs, ours)| agrees(theirs, ours)),
        };
        if !agree {
            differences.push(format!("stderr {said:?}\n   ours {say:?}"));
        }
        let (printed, print) = (normal(&a.stdout, line), normal(&b.stdout, line));
        if printed != print {
            differences.push(format!("stdout {printed:?}\n   ours {print:?}"));
        }
        if a.status.code() != b.status.code() {
            differences.push(format!("status {:?}\n   ours {:?}", a.status.code(), b.status.code()));
        }
        let (have, got) = (theirs.content(), ours.content());
        if have != got {
            differences.push(format!("database {have}\n   ours {got}"));
        }
        if !differences.is_empty() {
            failures.push(format!("$ {line}\n   {}", differences.join("\n   ")));
            if have != got {
                break; // everything after this would differ
            }
        }
    }
    assert!(failures.is_empty(), "{} lines differ:\n{}", failures.len(), failures.join("\n"));
}

/// Called by the name of the original, not even the remedies are added.
#[test]
fn by_its_name_the_words_are_exactly_those() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), "db");
    let link = folder.path().join("ovs-vsctl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_shuntctl"), &link).unwrap();
    for line in ["init", "del-br nope", "add-port br9 p", "get port p tag", "frob", "list-br x", "list nope"] {
        let a = run("ovs-vsctl", &server, line);
        let b = run(link.to_str().unwrap(), &server, line);
        assert_eq!(String::from_utf8_lossy(&a.stderr), String::from_utf8_lossy(&b.stderr), "{line}");
        assert_eq!(a.status.code(), b.status.code(), "{line}");
    }
}
