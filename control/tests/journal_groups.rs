//! Do clients whose transactions share a sync see only what is durable, and in order?

use faulty::Faulty;
use serde_json::{Value, json};
use shunt_control::rpc::{Daemon, Hub, Peer, SessionId};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

mod faulty;

/// Counts what it is told of.
#[derive(Default)]
struct Commits(usize);

impl Daemon for Commits {
    fn command(&mut self, _: &str, _: &[String]) -> Result<Value, String> {
        Ok(json!(""))
    }

    fn committed(&mut self, _: Peer) {
        self.0 += 1;
    }
}

struct World {
    hub: Hub,
    disk: Faulty,
    commits: Rc<RefCell<Commits>>,
    now: Instant,
}

impl World {
    fn new() -> World {
        let disk = Faulty::default();
        let store = Rc::new(RefCell::new(disk.open().expect("opens")));
        let commits = Rc::new(RefCell::new(Commits::default()));
        let hub = Hub::new(store, Rc::clone(&commits) as Rc<RefCell<dyn Daemon>>);
        World { hub, disk, commits, now: Instant::now() }
    }

    fn connect(&mut self) -> SessionId {
        self.hub.connect(Peer { uid: 0, pid: None }, Rc::default())
    }

    /// Sends a request, which is looked at, but no group is ended.
    fn send(&mut self, client: SessionId, method: &str, params: Value, id: i32) {
        let request = json!({"method": method, "params": params, "id": id}).to_string();
        self.hub.receive(client, request.as_bytes());
        while self.hub.step(client, self.now) {}
    }

    fn insert(&mut self, client: SessionId, name: &str, id: i32) {
        let insert = json!({"op": "insert", "table": "Root", "row": {"name": name}});
        self.send(client, "transact", json!(["Small", insert]), id);
    }

    fn commit(&mut self) {
        self.hub.commit(self.now);
    }

    fn read(&mut self, client: SessionId) -> Vec<Value> {
        let mut bytes = Vec::new();
        while let Some(part) = Some(self.hub.output(client).to_vec()).filter(|part| !part.is_empty()) {
            self.hub.written(client, part.len());
            bytes.extend(part);
        }
        serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Result<_, _>>().expect("whole JSON texts")
    }

    fn monitor(&mut self, client: SessionId) {
        self.send(client, "monitor", json!(["Small", "m", {"Root": {"columns": ["name"]}}]), 0);
        assert_eq!(self.read(client).len(), 1);
    }
}

/// What was received, in short: names of inserted rows, numbers of replies, `!` for an error.
fn brief(all: &[Value]) -> String {
    let brief = |message: &Value| {
        if let Some(rows) = message["params"][1]["Root"].as_object() {
            return rows.values().filter_map(|row| row["new"]["name"].as_str()).collect();
        }
        let failed = message["result"].as_array().is_some_and(|all| all.iter().any(|one| one["error"].is_string()));
        format!("{}{}", message["id"], if failed { "!" } else { "" })
    };
    all.iter().map(brief).collect::<Vec<String>>().join(" ")
}

#[test]
fn nobody_hears_of_a_group_before_it_is_durable_and_then_in_order() {
    let mut world = World::new();
    let (one, two, watcher) = (world.connect(), world.connect(), world.connect());
    world.monitor(watcher);
    world.monitor(one);
    let syncs = world.disk.syncs();
    world.insert(one, "a", 1);
    world.insert(two, "b", 2);
    world.insert(one, "c", 3);
    // Other clients' reads are answered meanwhile, by what is durable.
    world.send(watcher, "transact", json!(["_Server", {"op": "select", "table": "Database", "where": []}]), 9);
    world.send(watcher, "monitor", json!(["Small", "late", {"Root": {"columns": ["name"]}}]), 10);
    let seen = world.read(watcher);
    assert_eq!((seen.len(), &seen[1]["result"]), (2, &json!({})), "{seen:?}");
    assert!(world.read(one).is_empty() && world.read(two).is_empty() && world.disk.syncs() == syncs);
    world.commit();
    assert_eq!(world.disk.syncs(), syncs + 1);
    assert_eq!(brief(&world.read(one)), "a 1 b c 3");
    assert_eq!(brief(&world.read(two)), "2");
    assert_eq!(brief(&world.read(watcher)), "a a b b c c", "both monitors");
    assert_eq!(world.commits.borrow().0, 3);
}

#[test]
fn a_clients_own_requests_come_in_order() {
    let mut world = World::new();
    let one = world.connect();
    world.insert(one, "a", 1);
    world.send(one, "echo", json!([]), 2);
    world.insert(one, "b", 3);
    world.send(one, "monitor", json!(["Small", "m", {"Root": {"columns": ["name"]}}]), 4);
    world.insert(one, "c", 5);
    world.send(one, "transact", json!(["Nonsense"]), 6);
    let seen = world.read(one);
    assert_eq!(brief(&seen), "1 2 3 4 c 5 6");
    assert_eq!(seen[3]["result"]["Root"].as_object().map(|rows| rows.len()), Some(2), "{:?}", seen[3]);
}

#[test]
fn a_group_that_fails_is_seen_by_nobody() {
    let mut world = World::new();
    let (one, watcher) = (world.connect(), world.connect());
    world.monitor(watcher);
    world.disk.limit(Some(world.disk.file().len()));
    world.insert(one, "a", 1);
    world.insert(one, "b", 2);
    world.commit();
    assert_eq!(brief(&world.read(one)), "1! 2!");
    assert_eq!(world.read(watcher), Vec::<Value>::new());
    assert_eq!(world.commits.borrow().0, 0);
    world.disk.limit(None);
    world.insert(one, "b", 3);
    world.commit();
    assert_eq!(brief(&world.read(one)), "3");
    assert_eq!(brief(&world.read(watcher)), "b");
}

#[test]
fn what_waits_goes_on_with_the_group_that_it_waited_for() {
    let mut world = World::new();
    let (one, two) = (world.connect(), world.connect());
    let wait = json!({"op": "wait", "table": "Root", "where": [["name", "==", "b"]], "columns": ["name"], "until": "==",
        "rows": [{"name": "b"}], "timeout": 1000});
    let insert = json!({"op": "insert", "table": "Root", "row": {"name": "c"}});
    world.send(two, "transact", json!(["Small", wait, insert]), 7);
    // The same id once more, while the first is not yet answered.
    world.send(two, "transact", json!(["Small", wait]), 7);
    world.insert(one, "a", 1);
    world.insert(one, "b", 2);
    world.commit();
    assert_eq!(brief(&world.read(one)), "1 2");
    let seen = world.read(two);
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(seen[0]["error"]["details"], "transact: duplicate request ID");
    assert_eq!(brief(&seen[1..]), "7");
    // One that gives up its connection is still done, as it was asked before.
    world.insert(two, "d", 8);
    world.hub.disconnect(two);
    world.commit();
    assert_eq!(world.commits.borrow().0, 4);
    world.now += Duration::from_secs(2);
    world.hub.poll(world.now);
}
