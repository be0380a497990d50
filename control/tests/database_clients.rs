//! Do the real clients of Open vSwitch, and several of them at once, get on with our socket?
//!
//! Needs the Debian packages `openvswitch-common` and `openvswitch-switch` (the programs, not the services).

use serde_json::{Value, json};
use server::{Client, Server};
use shunt_control::rpc::{self, Store};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

mod server;

#[test]
fn ovsdb_client_works() {
    let server = Server::start();
    assert_eq!(server.text("ovsdb-client", &["list-dbs"]), "Open_vSwitch\n_Server\n");
    let schema: Value = serde_json::from_str(&server.text("ovsdb-client", &["get-schema"])).expect("JSON");
    assert_eq!(schema["tables"]["Bridge"]["columns"]["name"]["mutable"], json!(false));
    assert_eq!(server.text("ovsdb-client", &["get-schema-version"]), "8.3.1\n");
    assert!(server.text("ovsdb-client", &["list-tables"]).contains("Flow_Sample_Collector_Set"));
    let insert = r#"["Open_vSwitch",
        {"op":"insert","table":"Bridge","row":{"name":"br7"},"uuid-name":"b"},
        {"op":"mutate","table":"Open_vSwitch","where":[],"mutations":[["bridges","insert",["named-uuid","b"]]]}]"#;
    let results: Value = serde_json::from_str(&server.text("ovsdb-client", &["transact", insert])).expect("JSON");
    assert_eq!(results[1], json!({"count": 1}));
    let dump = server.text("ovsdb-client", &["dump", "Open_vSwitch", "Bridge", "name", "fail_mode"]);
    assert_eq!(dump, "Bridge table\nfail_mode name\n--------- ----\n[]        br7\n");
    let wait = ["wait", "Open_vSwitch", "connected"];
    assert!(server.run("ovsdb-client", &wait).status.success());
    for (database, other) in [("Open_vSwitch", "_Server"), ("_Server", "Open_vSwitch")] {
        let dump = server.text("ovsdb-client", &["dump", database]);
        assert!(dump.contains("Database table") == (database == "_Server"), "{database}, not {other}: {dump}");
    }
}

#[test]
fn ovs_vsctl_works() {
    let server = Server::start();
    let run = |args: &[&str]| server.text("ovs-vsctl", args);
    run(&["init"]);
    run(&["--no-wait", "add-br", "br0"]);
    // Without --no-wait it waits for cur_cfg by a monitor.
    run(&["add-port", "br0", "eth0.181", "tag=181", "--", "set", "interface", "eth0.181", "mtu_request=9000"]);
    assert_eq!(run(&["list-br"]), "br0\n");
    assert_eq!(run(&["list-ports", "br0"]), "eth0.181\n");
    assert_eq!(run(&["get", "port", "eth0.181", "tag"]), "181\n");
    assert_eq!(run(&["--bare", "--columns=name", "find", "interface", "mtu_request=9000"]), "eth0.181\n");
    run(&["wait-until", "interface", "eth0.181", "mtu_request>8000"]);
    let taken = server.run("ovs-vsctl", &["add-br", "br0"]);
    assert_eq!(taken.status.code(), Some(1));
    run(&["del-br", "br0"]);
    assert_eq!(run(&["list", "interface"]), "", "what nobody refers to vanishes");
}

#[test]
fn ovsdb_client_monitor_follows() {
    let server = Server::start();
    let mut monitor = Command::new("ovsdb-client")
        .args(["monitor", &server.address(), "Open_vSwitch", "Bridge", "name", "stp_enable", "--format=csv"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("ovsdb-client, of openvswitch-common");
    let mut output = monitor.stdout.take().expect("piped");
    let (lines, seen) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut byte = [0];
        let mut line = Vec::new();
        while matches!(output.read(&mut byte), Ok(1)) {
            line.push(byte[0]);
            if byte[0] == b'\n' && lines.send(String::from_utf8_lossy(&line).trim().to_owned()).is_err() {
                break;
            }
            if byte[0] == b'\n' {
                line.clear();
            }
        }
    });
    // The monitor may come before or after the bridge: it learns of it in both cases.
    server.text("ovs-vsctl", &["add-br", "br0"]);
    let await_line = |what: &str| loop {
        let line = seen.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| panic!("no line with {what}"));
        if line.contains(what) {
            return line;
        }
    };
    await_line(",br0,false");
    server.text("ovs-vsctl", &["set", "bridge", "br0", "stp_enable=true"]);
    await_line(",new,br0,true");
    server.text("ovs-vsctl", &["del-br", "br0"]);
    await_line(",delete,br0,true");
    monitor.kill().expect("our own process");
    monitor.wait().expect("ends");
    reader.join().expect("reader");
}

#[test]
fn socket_is_private_and_one() {
    let server = Server::start();
    let mode = std::fs::metadata(server.socket()).expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let state = server.directory.path().join("lib/conf.db");
    let refused = Store::open(&state).err().map(|error| error.to_string()).unwrap_or_default();
    let expected = format!("{} is in use by process {};", state.display(), std::process::id());
    assert!(refused.starts_with(&expected), "{refused}");
    let refused = rpc::refuse_if_live(&server.socket()).map_err(|error| error.to_string());
    let expected = format!(
        "{} is in use by another daemon; stop that one first, or give this one another --socket",
        server.socket().display()
    );
    assert_eq!(refused, Err(expected));
    let file = server.directory.path().join("file");
    std::fs::write(&file, "x").expect("writes");
    assert!(rpc::refuse_if_live(&file).is_err(), "what is not a socket is not replaced");
}

#[test]
fn a_dead_socket_is_replaced() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("db.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let _listener = rpc::listen(&path).expect("replaces it");
        UnixStream::connect(&path).expect("is served");
    });
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("lists").collect();
    assert_eq!(left.len(), 1, "nothing else is left behind: {left:?}");
}

#[test]
fn clients_see_each_other_and_commands_reach_the_daemon() {
    let server = Server::start();
    let (mut one, mut two) = (Client::connect(&server.socket()), Client::connect(&server.socket()));
    let requests = json!({"Open_vSwitch": {"columns": ["next_cfg", "cur_cfg"]}});
    let reply = one.call("monitor", json!(["Open_vSwitch", "m", requests]));
    assert_eq!(reply["result"]["Open_vSwitch"].as_object().map(|rows| rows.len()), Some(1), "{reply}");
    let mutate = json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]});
    let reply = two.call("transact", json!(["Open_vSwitch", mutate]));
    assert_eq!(reply["result"], json!([{"count": 1}]));
    let news = |update: &Value| {
        let rows = update["params"][1]["Open_vSwitch"].as_object().expect("rows").clone();
        rows.values().next().expect("one row")["new"].clone()
    };
    assert_eq!(news(&one.receive()), json!({"next_cfg": 1, "cur_cfg": 0}));
    assert_eq!(news(&one.receive()), json!({"next_cfg": 1, "cur_cfg": 1}), "the daemon's own write is told too");
    assert_eq!(two.call("say", json!(["a", "b"]))["result"], json!("a b\n"));
    let unknown = two.call("nonsense", json!([]));
    assert!(unknown["error"].as_str().is_some_and(|text| text.contains("not a valid command")), "{unknown}");
    two.send(&json!({"method": "echo", "params": [1], "id": 1}));
    assert_eq!(two.receive(), json!({"id": 1, "result": [1], "error": null}));
}

#[test]
fn ovs_appctl_reaches_commands() {
    let server = Server::start();
    let socket = server.socket().display().to_string();
    let output =
        Command::new("ovs-appctl").args(["-t", &socket, "say", "x", "y"]).output().expect("openvswitch-common");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "x y\n", "{output:?}");
    let output = Command::new("ovs-appctl").args(["-t", &socket, "nonsense"]).output().expect("openvswitch-common");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_client_that_does_not_read_does_not_stop_others() {
    let server = Server::start();
    let mut deaf = Client::connect(&server.socket());
    deaf.call("monitor", json!(["Open_vSwitch", "m", {"Open_vSwitch": {"columns": ["other_config"]}}]));
    let mut one = Client::connect(&server.socket());
    let text = "x".repeat(1 << 20);
    // More than QUEUE_MAX gathers for it, old and new values together.
    for round in 0..2 * (rpc::QUEUE_MAX >> 20) {
        let row = json!({"other_config": ["map", [["k", format!("{round}{text}")]]]});
        let update = json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": row});
        let reply = one.call("transact", json!(["Open_vSwitch", update]));
        assert_eq!(reply["result"], json!([{"count": 1}]));
    }
    let mut rest = Vec::new();
    deaf.stream().read_to_end(&mut rest).expect("cut off");
    assert_eq!(one.call("echo", json!([]))["result"], json!([]));
}

#[test]
fn too_long_a_request_is_refused_and_others_go_on() {
    let server = Server::start();
    let (mut rude, mut one) = (Client::connect(&server.socket()), Client::connect(&server.socket()));
    let head = br#"{"method":"echo","id":1,"params":[""#;
    let text = vec![b'x'; rpc::MESSAGE_MAX + 1];
    // The server hangs up before it has read all.
    let sent = rude.stream().write_all(head).and_then(|()| rude.stream().write_all(&text));
    let mut rest = Vec::new();
    let read = rude.stream().read_to_end(&mut rest);
    let reply: Option<Value> = serde_json::from_slice(&rest).ok();
    let details = reply.as_ref().and_then(|reply| reply["error"]["details"].as_str());
    assert!(details.is_some_and(|text| text.contains("longer than 16777216 bytes")), "{sent:?} {read:?} {reply:?}");
    assert_eq!(one.call("echo", json!([]))["result"], json!([]));
}

#[test]
fn a_client_that_asks_is_served_whoever_else_says_nothing() {
    let server = Server::start();
    let mut clients: Vec<Client> = (0..rpc::CONNECTIONS_MAX).map(|_| Client::connect(&server.socket())).collect();
    let one = &mut clients[0];
    assert_eq!(one.call("echo", json!([]))["result"], json!([]));
    // All places are taken, thousands want more, some say things that make no sense.
    let mut more: Vec<_> = (0..2000).map(|_| Client::connect(&server.socket())).collect();
    for client in more.iter_mut().step_by(7) {
        // It may have given way.
        let _ = client.stream().write_all(b"\x16\x03 garbage");
    }
    let mut next = Client::connect(&server.socket());
    assert_eq!(next.call("echo", json!([1]))["result"], json!([1]));
    assert_eq!(clients[1].stream().read(&mut [0]).ok(), Some(0), "hung up");
}
