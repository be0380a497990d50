//! What does `shuntctl` do when the daemon is missing, slow, refuses, or somebody else interferes?
//!
//! The database is a real `ovsdb-server`; the part of the switch is played by a client that writes `cur_cfg` and `error`.

use serde_json::{Value, json};
use shunt_control::cli::client::Client;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("db");
        let made = Command::new("ovsdb-tool").arg("create").args([&db, Path::new(SCHEMA)]).status();
        assert!(
            made.is_ok_and(|status| status.success()),
            "ovsdb-tool create failed; this test needs Debian's package openvswitch-switch"
        );
        let child = Command::new("ovsdb-server")
            .arg(format!("--remote=punix:{}", folder.path().join("sock").display()))
            .arg(format!("--unixctl={}", folder.path().join("ctl").display()))
            .arg("--no-chdir")
            .arg(&db)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server { child, folder };
        server.client();
        assert_eq!(server.run("--no-wait init").status.code(), Some(0));
        server
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    fn client(&self) -> Client {
        let deadline = Some(Instant::now() + Duration::from_secs(30));
        Client::connect(&self.socket(), deadline, true, false).unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shuntctl"));
        command.env("SHUNT_DB", format!("unix:{}", self.socket().display())).args(line.split_whitespace());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Applies every change, as the daemon does: writes `error` for devices whose name begins with `missing`, then `cur_cfg`.
    fn play_switch(&self) -> JoinHandle<()> {
        let mut client = self.client();
        let request = json!({"Open_vSwitch": {"columns": ["next_cfg"]}});
        client.call("monitor", json!(["Open_vSwitch", "m", request])).unwrap();
        thread::spawn(move || {
            // Ends when the server does.
            while let Ok(note) = client.notification() {
                let rows = note["params"][1]["Open_vSwitch"].as_object().unwrap().values();
                let next = rows.filter_map(|row| row["new"]["next_cfg"].as_i64()).next().unwrap();
                let select = json!({"op": "select", "table": "Interface", "where": [], "columns": ["name"]});
                let names = client.call("transact", json!(["Open_vSwitch", select])).unwrap();
                let mut params = vec![json!("Open_vSwitch")];
                for row in names[0]["rows"].as_array().unwrap() {
                    let missing = row["name"].as_str().unwrap().starts_with("missing");
                    let error = if missing { json!("No such device") } else { json!(["set", []]) };
                    params.push(json!({"op": "update", "table": "Interface", "row": {"error": error},
                        "where": [["name", "==", row["name"]]]}));
                }
                params.push(json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"cur_cfg": next}}));
                client.call("transact", Value::Array(params)).unwrap();
            }
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn without_a_daemon_it_says_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nobody");
    for line in ["show", "version", "--timeout=0 add-br br0"] {
        let output = Command::new(env!("CARGO_BIN_EXE_shuntctl"))
            .arg(format!("--db={}", socket.display()))
            .args(line.split_whitespace())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}");
        let text = stderr(&output);
        let start =
            format!("shuntctl: unix:{}: database connection failed (No such file or directory)", socket.display());
        assert!(text.starts_with(&start) && text.contains("start shuntd") && text.lines().count() == 1, "{text}");
    }
}

#[test]
fn a_daemon_that_does_not_answer_costs_the_timeout_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("deaf");
    let _listener = UnixListener::bind(&socket).unwrap();
    let lines =
        ["show", "version", "fdb/show br0", "wait-until bridge br0", "--retry add-br br0", "brctl show", "watch"];
    let start = |line: &&str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shuntctl"));
        command.args([&format!("--db={}", socket.display()), "--timeout=1"]).args(line.split_whitespace());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = lines.iter().map(start).collect();
    for (line, child) in lines.iter().zip(children) {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(stderr(&output).contains("no answer within 1 s"), "{line}: {}", stderr(&output));
    }
}

#[test]
fn a_daemon_with_a_full_queue_of_connections_costs_no_more_either() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("full");
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut waiting = vec![];
    let full = loop {
        let stream = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        );
        let stream = stream.unwrap();
        let address = rustix::net::SocketAddrUnix::new(&socket).unwrap();
        match rustix::net::connect(&stream, &address) {
            Ok(()) => waiting.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(full, rustix::io::Errno::AGAIN);
    for line in ["show", "version", "watch", "brctl show"] {
        let output = Command::new(env!("CARGO_BIN_EXE_shuntctl"))
            .args([&format!("--db={}", socket.display()), "--timeout=1"])
            .args(line.split_whitespace())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(stderr(&output).contains("database connection failed"), "{line}: {}", stderr(&output));
    }
}

#[test]
fn every_command_that_prints_can_print_json() {
    let server = Server::start();
    server.run("--no-wait add-br br0 -- add-port br0 eth0 tag=7 trunks=1,2 -- add-br child br0 9");
    server.run(
        "--no-wait set-ssl a b c -- set-manager ptcp:1 -- set-controller br0 tcp:1.2.3.4 -- set-fail-mode br0 secure",
    );
    server.run("--no-wait br-set-external-id br0 k v -- add-aa-mapping br0 10 20");
    let zone = "--no-wait -- --id=@m create Datapath datapath_version=1 capabilities:a=b -- set open . datapaths:t=@m";
    server.run(zone);
    server.run("--no-wait add-zone-tp t zone=3 icmp_first=1");
    for (line, want) in [
        ("list-br", json!(["br0", "child"])),
        ("list-ports br0", json!(["eth0"])),
        ("list-ifaces br0", json!(["eth0"])),
        ("br-to-vlan child", json!(9)),
        ("br-to-parent child", json!("br0")),
        ("port-to-br eth0", json!("br0")),
        ("iface-to-br eth0", json!("br0")),
        ("br-get-external-id br0", json!({"k": "v"})),
        ("br-get-external-id br0 k", json!("v")),
        ("br-get-external-id br0 none", json!(null)),
        ("get port eth0 tag", json!(7)),
        ("get port br0 tag", json!(null)),
        ("get port eth0 name trunks other_config", json!(["eth0", [1, 2], {}])),
        ("get bridge br0 external_ids:k", json!("v")),
        ("get-manager", json!(["ptcp:1"])),
        ("get-controller br0", json!(["tcp:1.2.3.4"])),
        ("get-fail-mode br0", json!("secure")),
        ("get-aa-mapping br0", json!([{"isid": 10, "vlan": 20}])),
        ("list-dp-cap t", json!({"a": "b"})),
        ("list-zone-tp t", json!([{"zone": 3, "timeouts": {"icmp_first": 1}}])),
        ("--columns=name,tag list port eth0", json!({"headings": ["name", "tag"], "data": [["eth0", 7]]})),
    ] {
        let output = server.run(&format!("--format=json {line}"));
        assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).ok(), Some(want), "{line}: {}", stdout(&output));
    }
    let ssl: Value = serde_json::from_slice(&server.run("--format=json get-ssl").stdout).unwrap();
    assert_eq!(ssl["private_key"], "a");
    let shown: Value = serde_json::from_slice(&server.run("--format=json show").stdout).unwrap();
    let ports = shown["bridges"][0]["ports"].as_array().unwrap();
    let eth0 = ports.iter().find(|port| port["name"] == "eth0").unwrap();
    assert_eq!((&eth0["tag"], &eth0["trunks"], &eth0["vlan_mode"]), (&json!(7), &json!([1, 2]), &json!(null)));
    assert_eq!((&eth0["interfaces"][0]["name"], &eth0["interfaces"][0]["error"]), (&json!("eth0"), &json!(null)));
    let lines = stdout(&server.run("--format=json list-br -- get port eth0 tag"));
    assert_eq!(lines, "[\"br0\",\"child\"]\n7\n", "one line for each of a chain");
}

#[test]
fn a_change_that_is_not_applied_in_time_is_kept_and_said() {
    let server = Server::start();
    let output = server.run("--timeout=1 add-br br0");
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(
        text.starts_with("shuntctl: the change is committed and kept, but shuntd has not applied it within 1 s"),
        "{text}"
    );
    assert_eq!(stdout(&server.run("list-br")), "br0\n");
}

#[test]
fn a_change_returns_when_it_is_applied_and_devices_in_trouble_are_named() {
    let server = Server::start();
    let switch = server.play_switch();
    let status = |line: &str| {
        let output = server.run(line);
        (output.status.code().unwrap(), stderr(&output))
    };
    let fine = (0, String::new());
    let trouble = (65, "shuntctl: Error detected while setting up 'missing0': No such device\n".to_owned());
    assert_eq!(status("add-br br0 -- add-port br0 eth0"), fine);
    assert_eq!(status("add-port br0 missing0"), trouble);
    assert_eq!(status("list-ports br0"), fine, "reading waits for nothing");
    assert_eq!(status("add-port br0 eth1"), fine, "another port's trouble is not ours");
    assert_eq!(status("set port missing0 tag=5"), trouble, "but a port's own is");
    assert_eq!(status("set port missing0 tag=5"), fine, "nothing was changed, so nothing is waited for");
    assert_eq!(status("set interface missing0 mtu_request=1400"), trouble);
    assert_eq!(status("set bridge br0 other_config:a=b"), fine, "the bridge itself has no trouble");
    assert_eq!(status("--no-wait set port missing0 tag=6"), fine);
    assert_eq!(status("--dry-run set port missing0 tag=7"), fine);
    assert_eq!(stdout(&server.run("get port missing0 tag")), "6\n");
    assert_eq!(status("del-port missing0"), fine);
    drop(server);
    switch.join().unwrap();
}

#[test]
fn many_at_once_lose_nothing() {
    let server = Server::start();
    assert_eq!(server.run("--no-wait add-br br0").status.code(), Some(0));
    let chain = |client: usize, i: usize| {
        format!(
            "--no-wait add-port br0 p{client}-{i} tag={i} -- set port p{client}-{i} external_ids:by={client} -- set bridge br0 other_config:c{client}={i}"
        )
    };
    thread::scope(|scope| {
        for client in 0..6 {
            let (server, chain) = (&server, &chain);
            scope.spawn(move || {
                for i in 0..15 {
                    let output = server.run(&chain(client, i));
                    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
                }
            });
        }
    });
    assert_eq!(stdout(&server.run("list-ports br0")).lines().count(), 90);
    let last = "{c0=\"14\", c1=\"14\", c2=\"14\", c3=\"14\", c4=\"14\", c5=\"14\"}\n";
    assert_eq!(stdout(&server.run("get bridge br0 other_config")), last);
}

#[test]
fn of_many_who_want_one_name_one_gets_it() {
    let server = Server::start();
    for bridge in ["br0", "br1", "br2", "br3"] {
        server.run(&format!("--no-wait add-br {bridge}"));
    }
    for round in 0..10 {
        let children: Vec<(usize, Child)> = (0..4)
            .map(|i| {
                let mut command = server.command(&format!("--no-wait add-port br{i} wanted{round}"));
                (i, command.stderr(Stdio::piped()).spawn().unwrap())
            })
            .collect();
        let outputs: Vec<(usize, Output)> =
            children.into_iter().map(|(i, child)| (i, child.wait_with_output().unwrap())).collect();
        let winners: Vec<usize> = outputs.iter().filter(|(_, out)| out.status.success()).map(|(i, _)| *i).collect();
        assert_eq!(winners.len(), 1, "{outputs:?}");
        let words = format!(
            "shuntctl: cannot create a port named wanted{round} because a port named wanted{round} already exists on bridge br{}",
            winners[0]
        );
        for (i, output) in outputs.iter().filter(|(i, _)| *i != winners[0]) {
            assert_eq!(output.status.code(), Some(1), "client {i}");
            assert!(stderr(output).starts_with(&words), "{}", stderr(output));
        }
    }
}

#[test]
fn wait_until_wakes_up_and_goes_on() {
    let server = Server::start();
    let mut waiting = server.command("--no-wait wait-until bridge br7 other_config:go=1 -- get bridge br7 name");
    let waiting = waiting.stdout(Stdio::piped()).spawn().unwrap();
    for line in [
        "--no-wait add-br br7",
        "--no-wait set bridge br7 other_config:go=0",
        "--no-wait set bridge br7 other_config:go=1",
    ] {
        assert_eq!(server.run(line).status.code(), Some(0));
    }
    let output = waiting.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "br7\n"));

    let output = server.run("--timeout=1 wait-until bridge br8");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("did not hold within 1 s"), "{}", stderr(&output));
}

#[test]
fn refusals_name_the_object_and_the_remedy() {
    let server = Server::start();
    server.run("--no-wait add-br br0 -- add-port br0 veth0 tag=7");
    for (line, message) in [
        ("add-port br9 x", "no bridge named br9 (did you mean br0?)"),
        (
            "list-ports elsewhere",
            "no bridge named elsewhere (\"add-br elsewhere\" makes it, \"list-br\" shows what there is)",
        ),
        ("port-to-br vteh0", "no port named vteh0 (did you mean veth0?)"),
        ("get Prot veth0 tag", "unknown table \"Prot\" (did you mean Port?)"),
        ("get port veth0 tga", "Port does not contain a column whose name matches \"tga\" (did you mean tag?)"),
        ("get port veth1 tag", "no row \"veth1\" in table Port (did you mean veth0?)"),
        ("set port veth0 tag=4096", "constraint violation: 4096 is not in the valid range 0 to 4095 (inclusive)"),
        ("set port veth0 tag=red", "\"red\" is not a valid integer or range"),
        (
            "add port veth0 tag 8",
            "\"add\" operation would put 2 values in column tag of table Port but the maximum number is 1 (use \"set\" to replace the value of tag)",
        ),
        ("--timout=3 list-br", "unrecognized option '--timout' (did you mean '--timeout'?)"),
        ("-- --may-exists add-br br0", "'add-br' command has no '--may-exists' option (did you mean '--may-exist'?)"),
        ("lst-br", "unknown command 'lst-br'; use --help for help (did you mean 'list-br'?)"),
    ] {
        let output = server.run(&format!("--no-wait {line}"));
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(stderr(&output), format!("shuntctl: {message}\n"), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
    }
    assert_eq!(server.run("br-exists br9").status.code(), Some(2));
    assert_eq!(server.run("br-exists br0").status.code(), Some(0));
    assert_eq!(stdout(&server.run("get port veth0 tag")), "7\n", "what is refused changes nothing");
}

#[test]
fn show_tells_more_than_the_original() {
    let server = Server::start();
    server.run("--no-wait add-br br0 -- add-port br0 eth0 tag=7 vlan_mode=native-untagged");
    let mut client = server.client();
    let update = json!({"op": "update", "table": "Interface", "where": [["name", "==", "eth0"]],
        "row": {"link_state": "up", "error": "no XDP", "status": ["map", [["xdp-mode", "native"], ["driver", "veth"]]]}});
    client.call("transact", json!(["Open_vSwitch", update])).unwrap();
    let update =
        json!({"op": "update", "table": "Bridge", "where": [], "row": {"status": ["map", [["mirror-m0", "no port"]]]}});
    client.call("transact", json!(["Open_vSwitch", update])).unwrap();
    let shown = stdout(&server.run("show"));
    let (_, shown) = shown.split_once('\n').unwrap();
    assert_eq!(
        shown,
        "    Bridge br0\n        mirror-m0: no port\n        Port br0\n            Interface br0\n                type: internal\n        \
         Port eth0\n            tag: 7\n            vlan_mode: native-untagged\n            Interface eth0\n                \
         error: \"no XDP\"\n                link_state: up\n                xdp-mode: native\n"
    );
}

/// A daemon that answers one run-time command, and tells how it was asked.
fn answer(reply: Value, line: &str) -> (Value, Output) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = vec![];
        let request = loop {
            let mut chunk = [0; 1024];
            let count = stream.read(&mut chunk).unwrap();
            bytes.extend_from_slice(&chunk[..count]);
            if let Ok(request) = serde_json::from_slice::<Value>(&bytes) {
                break request;
            }
        };
        let mut reply = reply;
        reply["id"] = request["id"].clone();
        stream.write_all(reply.to_string().as_bytes()).unwrap();
        request
    });
    let output = Command::new(env!("CARGO_BIN_EXE_shuntctl"))
        .arg(format!("--db={}", socket.display()))
        .args(line.split_whitespace())
        .output()
        .unwrap();
    (daemon.join().unwrap(), output)
}

#[test]
fn runtime_commands_go_through_as_they_are() {
    let (asked, output) = answer(json!({"result": " port  VLAN\n", "error": null}), "fdb/show br0");
    assert_eq!((&asked["method"], &asked["params"]), (&json!("fdb/show"), &json!(["br0"])));
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), " port  VLAN\n"));

    let (asked, output) = answer(json!({"result": [{"port": "p"}], "error": null}), "fdb/show br0 --format=json");
    assert_eq!(asked["params"], json!(["br0", "--format=json"]));
    assert_eq!(stdout(&output), "[{\"port\":\"p\"}]\n");

    let (asked, output) = answer(json!({"result": null, "error": "no such bridge"}), "-f json fdb/flush br1");
    assert_eq!(asked["params"], json!(["br1", "--format=json"]));
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), "shuntctl: no such bridge\n"));

    let (asked, output) = answer(json!({"result": "done", "error": null}), "some/thing a b");
    assert_eq!((&asked["method"], &asked["params"]), (&json!("some/thing"), &json!(["a", "b"])));
    assert_eq!(stdout(&output), "done\n");
}

#[test]
fn completion_scripts_are_valid() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Command::new(env!("CARGO_BIN_EXE_shuntctl")).args(["completion", shell]).output().unwrap();
        assert_eq!(script.status.code(), Some(0), "{shell}");
        // Shells that are not installed cannot be asked.
        if let Ok(mut child) = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn() {
            child.stdin.take().unwrap().write_all(&script.stdout).unwrap();
            assert!(child.wait().unwrap().success(), "{shell} does not understand its script");
        }
    }
    let script = "source <(\"$0\" completion bash); COMP_WORDS=(shuntctl list-p); COMP_CWORD=1; _shuntctl; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_shuntctl")]).output().unwrap();
    assert_eq!(stdout(&output), "list-ports\n", "{}", stderr(&output));
}
