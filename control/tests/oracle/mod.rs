//! What does Open vSwitch's own server say? An `ovsdb-server` to be asked the same as ours, and its answers without chance.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]

use crate::server::Client;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The real server, in a directory of its own; it ends with the test.
pub struct Oracle {
    child: Child,
    pub directory: tempfile::TempDir,
}

impl Oracle {
    /// With an empty database of this schema.
    pub fn start(schema: &Path) -> Oracle {
        let directory = tempfile::tempdir().expect("directory");
        let at = |name: &str| directory.path().join(name).display().to_string();
        let made = Command::new("ovsdb-tool").args(["create".as_ref(), at("db").as_ref(), schema.as_os_str()]).status();
        assert!(made.expect("ovsdb-tool, of openvswitch-common").success());
        let child = Command::new("ovsdb-server")
            .args([format!("--remote=punix:{}", at("socket")), format!("--unixctl={}", at("ctl")), at("db")])
            .env("OVS_RUNDIR", directory.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("ovsdb-server, of openvswitch-switch");
        Oracle { child, directory }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub fn connect(&self) -> Client {
        let socket = self.socket();
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
pub fn normal(value: &mut Value) {
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
