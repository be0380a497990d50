//! Who serves the tests of clients? The real protocol server on a real socket, without a switch behind it.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]

use serde_json::{Value, json};
use shunt_control::rpc::{self, Daemon, Peer, Store};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::Notify;

/// Applies everything at once: sets cur_cfg to next_cfg when told of a change.
struct Applied {
    store: Rc<RefCell<Store>>,
    changed: Rc<Notify>,
    dirty: Rc<Notify>,
}

impl Daemon for Applied {
    fn command(&mut self, name: &str, args: &[String]) -> Result<Value, String> {
        match name {
            "say" => Ok(json!(args.join(" ") + "\n")),
            _ => Err(format!(
                "\"{name}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
            )),
        }
    }

    fn committed(&mut self, peer: Peer) {
        assert_eq!(peer.uid, rustix::process::getuid().as_raw());
        assert!(peer.pid.is_some());
        self.dirty.notify_one();
    }
}

impl Applied {
    fn apply(&self) {
        let mut store = self.store.borrow_mut();
        let Some((uuid, next)) = store.root().map(|root| (root.uuid(), root.get("next_cfg").clone())) else { return };
        store.write([("Open_vSwitch", uuid, "cur_cfg", next)]);
        self.changed.notify_one();
    }
}

/// A server in a thread of its own, stopped when dropped.
pub struct Server {
    pub directory: tempfile::TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// With Open vSwitch's tables and an empty journal.
    pub fn start() -> Server {
        Server::with(|state| Store::open(state).expect("store"))
    }

    /// With any store.
    pub fn with(store: fn(&Path) -> Store) -> Server {
        let directory = tempfile::tempdir().expect("directory");
        let (socket, state) = (directory.path().join("run/db.sock"), directory.path().join("lib/conf.db"));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, wait) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let store = Rc::new(RefCell::new(store(&state)));
                let (changed, dirty) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
                let applied =
                    Applied { store: Rc::clone(&store), changed: Rc::clone(&changed), dirty: Rc::clone(&dirty) };
                let daemon = Rc::new(RefCell::new(applied));
                let listener = rpc::listen(&socket).expect("socket");
                ready.send(()).expect("test waits");
                let served: Rc<RefCell<dyn Daemon>> = daemon.clone();
                let apply = async {
                    loop {
                        dirty.notified().await;
                        daemon.borrow().apply();
                    }
                };
                tokio::select! {
                    () = rpc::serve(listener, store, served, changed) => {}
                    () = apply => {}
                    _ = stopped => {}
                }
            });
        });
        wait.recv().expect("server starts");
        Server { directory, stop: Some(stop), thread: Some(thread) }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("run/db.sock")
    }

    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new(program);
        match program {
            "ovs-vsctl" => command.arg(format!("--db={}", self.address())).args(["--timeout=10"]).args(args),
            _ => command.args(["--timeout=10", args[0], &self.address()]).args(&args[1..]),
        };
        command.output().unwrap_or_else(|error| panic!("{program}, of openvswitch-common or -switch: {error}"))
    }

    pub fn text(&self, program: &str, args: &[&str]) -> String {
        let output = self.run(program, args);
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()), "the server panicked");
    }
}

/// A connection spoken to in JSON.
pub struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(socket: &Path) -> Client {
        let stream = UnixStream::connect(socket).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        Client { stream, buffer: Vec::new() }
    }

    pub fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    pub fn send(&mut self, json: &Value) {
        self.stream.write_all(json.to_string().as_bytes()).expect("sends");
    }

    pub fn receive(&mut self) -> Value {
        loop {
            let mut texts = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Value>();
            if let Some(Ok(json)) = texts.next() {
                let end = texts.byte_offset();
                self.buffer.drain(..end);
                return json;
            }
            let mut chunk = [0; 65536];
            let count = self.stream.read(&mut chunk).expect("an answer in time");
            assert!(count > 0, "the server hung up");
            self.buffer.extend(&chunk[..count]);
        }
    }

    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(&json!({"method": method, "params": params, "id": method}));
        self.receive()
    }
}
