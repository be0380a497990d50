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
    let output = Command::new(env!("CARGO_BIN_EXE_shuntctl"))
        .args([&format!("--db={}", socket.display()), "--timeout=1", "show"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no answer within 1 s"), "{}", stderr(&output));
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
    assert_eq!(status("set bridge br0 other_config:a=b"), trouble);
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
    let shown = stdout(&server.run("show"));
    let (_, shown) = shown.split_once('\n').unwrap();
    assert_eq!(
        shown,
        "    Bridge br0\n        Port br0\n            Interface br0\n                type: internal\n        \
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
