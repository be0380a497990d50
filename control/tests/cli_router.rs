//! What do the router's commands print, refuse and leave in the database? As written down in `cli_router_lines.txt`.
//!
//! `$ COMMAND` is run by `shuntctl` on a server of our own; below stands what it prints, and `[STATUS]` before what it says when
//! it fails. `SHUNT_BLESS=1` writes the file anew.

mod server;

use server::Server;
use std::fmt::Write;
use std::process::Command;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli_router_lines.txt");

fn run(server: &Server, line: &str) -> String {
    let words = line.split_whitespace().map(|word| word.trim_matches('\''));
    let mut command = Command::new(env!("CARGO_BIN_EXE_shuntctl"));
    let output = command.arg(format!("--db={}", server.address())).args(words).output().expect("shuntctl runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let mut out = text(output.stdout);
    if !output.status.success() {
        let _ = write!(out, "[{}] {}", output.status.code().unwrap_or(-1), text(output.stderr));
    }
    // What an empty line is in the file, it is for the reader.
    out.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

#[test]
fn commands_say_what_is_written_down() {
    let server = Server::start();
    let before = std::fs::read_to_string(FILE).expect("the list of commands");
    let mut after = String::new();
    for line in before.lines() {
        if line.starts_with('#') || line.is_empty() {
            let _ = writeln!(after, "{line}");
        } else if let Some(command) = line.strip_prefix("$ ") {
            let _ = write!(after, "{line}\n{}", run(&server, command));
        }
    }
    if std::env::var_os("SHUNT_BLESS").is_some() {
        std::fs::write(FILE, &after).expect("the tree can be written");
    }
    let differs = before.lines().zip(after.lines()).find(|(before, after)| before != after);
    assert_eq!(differs, None, "expected (left), said (right)");
    assert_eq!(before.lines().count(), after.lines().count());
}
