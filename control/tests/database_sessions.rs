//! Do sessions answer every stream of bytes, in order, and without disturbing each other?

use serde_json::{Value, json};
use shunt_control::fuzzing::{contents, fuzz_canary, fuzz_journal, fuzz_rpc, fuzz_transaction};
use shunt_control::rpc::{CONNECTIONS_MAX, Daemon, Hub, MESSAGE_MAX, NESTING_MAX, Peer, QUEUE_BUSY, SessionId};
use shunt_control::schema::vswitch;
use shunt_control::store::Store;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Remembers what it was told.
#[derive(Default)]
struct Notes {
    commits: Vec<Peer>,
}

impl Daemon for Notes {
    fn command(&mut self, name: &str, args: &[String]) -> Result<Value, String> {
        match name {
            "version" => Ok(json!({"args": args})),
            _ => Err(format!("\"{name}\" is not a valid command")),
        }
    }

    fn committed(&mut self, peer: Peer) {
        self.commits.push(peer);
    }
}

struct World {
    hub: Hub,
    store: Rc<RefCell<Store>>,
    notes: Rc<RefCell<Notes>>,
    now: Instant,
    clients: u32,
}

impl World {
    fn new() -> World {
        let store = Rc::new(RefCell::new(Store::in_memory(vswitch::schema())));
        let notes = Rc::new(RefCell::new(Notes::default()));
        let hub = Hub::new(Rc::clone(&store), Rc::clone(&notes) as Rc<RefCell<dyn Daemon>>);
        World { hub, store, notes, now: Instant::now(), clients: 0 }
    }

    fn connect(&mut self) -> SessionId {
        self.clients += 1;
        self.hub.connect(Peer { uid: self.clients, pid: Some(7) }, Rc::default())
    }

    fn feed(&mut self, client: SessionId, bytes: &[u8]) {
        self.hub.receive(client, bytes);
        while self.hub.step(client, self.now) {}
        self.hub.commit(self.now);
    }

    /// Takes all that waits for a client.
    fn read(&mut self, client: SessionId) -> Vec<Value> {
        let mut bytes = Vec::new();
        loop {
            let part = self.hub.output(client).to_vec();
            if part.is_empty() {
                break;
            }
            self.hub.written(client, part.len());
            bytes.extend(part);
        }
        serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Result<_, _>>().expect("whole JSON texts")
    }

    fn send(&mut self, client: SessionId, method: &str, params: Value, id: Value) {
        self.feed(client, json!({"method": method, "params": params, "id": id}).to_string().as_bytes());
    }

    fn call(&mut self, client: SessionId, method: &str, params: Value) -> Value {
        self.send(client, method, params, json!("call"));
        let mut all = self.read(client);
        let reply = all.pop().unwrap_or_default();
        assert_eq!((all.len(), &reply["id"]), (0, &json!("call")), "{all:?}");
        reply
    }

    fn transact(&mut self, client: SessionId, operation: Value) -> Value {
        self.send(client, "transact", json!(["Open_vSwitch", operation]), json!("t"));
        self.read(client).pop().unwrap_or_default()["result"].take()
    }

    fn root(&self) -> String {
        self.store.borrow().root().expect("root").uuid().to_string()
    }
}

fn count_up() -> Value {
    json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]})
}

fn wait_for(next_cfg: i64, timeout: Option<u64>) -> Value {
    let mut wait = json!({"op": "wait", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"], "until": "==",
        "rows": [{"next_cfg": next_cfg}]});
    if let Some(timeout) = timeout {
        wait["timeout"] = timeout.into();
    }
    wait
}

#[test]
fn requests_in_any_pieces_are_answered_in_order() {
    let requests = [
        json!({"method": "echo", "params": ["a } \" \\ ] b", "c\\"], "id": 1}),
        json!({"method": "list_dbs", "params": [], "id": {"odd": [true]}}),
        json!({"method": "transact", "params": ["Open_vSwitch", count_up()], "id": 3}),
        json!({"method": "echo", "params": [], "id": null}),
        json!({"result": [], "error": null, "id": "an answer"}),
        json!({"method": "version", "params": ["x"], "id": 4}),
    ];
    let stream: String = requests.iter().map(|request| format!("{request}\n ")).collect();
    let expected = [
        json!({"id": 1, "result": ["a } \" \\ ] b", "c\\"], "error": null}),
        json!({"id": {"odd": [true]}, "result": ["Open_vSwitch", "_Server"], "error": null}),
        json!({"id": 3, "result": [{"count": 1}], "error": null}),
        json!({"id": 4, "result": {"args": ["x"]}, "error": null}),
    ];
    for split in 0..=stream.len() {
        let mut world = World::new();
        let client = world.connect();
        world.feed(client, &stream.as_bytes()[..split]);
        world.feed(client, &stream.as_bytes()[split..]);
        assert_eq!(world.read(client), expected, "split at {split}");
    }
    let mut world = World::new();
    let client = world.connect();
    stream.bytes().for_each(|byte| world.feed(client, &[byte]));
    assert_eq!(world.read(client), expected, "byte by byte");
}

#[test]
fn malformed_requests_get_precise_errors() {
    for (text, id, details) in [
        (
            r#"{"method":3,"params":[],"id":1}"#,
            json!(1),
            "a request needs \"method\", a string, and \"params\", an array",
        ),
        (r#"{"method":"echo","params":{},"id":2}"#, json!(2), "\"params\" must be an array"),
        (r#"{"method":"echo","id":3}"#, json!(3), "\"params\" must be an array"),
        (r#"{"id":4}"#, json!(4), "a request needs \"method\", a string, and \"params\", an array"),
        (r#"{"method" "echo"}"#, Value::Null, "the request is not JSON: expected `:` at line 1 column 11"),
        (r#"{]"#, Value::Null, "the request is not JSON: key must be a string at line 1 column 2"),
    ] {
        let mut world = World::new();
        let client = world.connect();
        world.feed(client, text.as_bytes());
        let error = json!({"error": "syntax error", "details": details});
        assert_eq!(world.read(client), [json!({"id": id, "result": null, "error": error})], "{text}");
        assert_eq!(world.call(client, "echo", json!([5]))["result"], json!([5]), "the session goes on");
    }
}

#[test]
fn what_cannot_be_framed_ends_the_session() {
    let deep = "[".repeat(NESTING_MAX + 1);
    let long = "x".repeat(MESSAGE_MAX + 1);
    for (text, details) in [
        ("[]".to_owned(), "a request must be a JSON object, but begins with byte 0x5b".to_owned()),
        ("\u{1}".to_owned(), "a request must be a JSON object, but begins with byte 0x01".to_owned()),
        (
            format!(r#"{{"method":"echo","params":{deep}"#),
            format!("the request nests arrays and objects more than {NESTING_MAX} deep"),
        ),
        (
            format!(r#"{{"method":"echo","params":["{long}"#),
            format!("the request is longer than {MESSAGE_MAX} bytes; split it"),
        ),
    ] {
        let mut world = World::new();
        let (client, other) = (world.connect(), world.connect());
        world.feed(client, text.as_bytes());
        assert!(!world.hub.is_over(client), "the error is to be read first");
        let error = json!({"error": "syntax error", "details": details});
        assert_eq!(world.read(client), [json!({"id": null, "result": null, "error": error})]);
        assert!(world.hub.is_over(client));
        assert_eq!(world.call(other, "echo", json!([5]))["result"], json!([5]), "others do not notice");
    }
}

/// What ovsdb-server refuses, too, is in `oracle/requests.txt`.
#[test]
fn what_is_no_method_is_a_runtime_command() {
    let mut world = World::new();
    let client = world.connect();
    assert_eq!(world.call(client, "no_such_method", json!([{}]))["error"], json!("unknown method"));
    assert_eq!(world.call(client, "fly", json!(["x"]))["error"], json!("\"fly\" is not a valid command"));
}

#[test]
fn a_monitor_tells_of_each_kind_of_change() {
    let mut world = World::new();
    let (watcher, actor) = (world.connect(), world.connect());
    let requests = json!({"Queue": [
        {"columns": ["dscp"]},
        {"columns": ["external_ids"], "select": {"modify": false, "delete": false}},
        {"columns": ["other_config"], "select": {"initial": false, "insert": false}},
    ]});
    assert_eq!(world.call(watcher, "monitor", json!(["Open_vSwitch", ["m"], requests]))["result"], json!({}));
    let row = json!({"dscp": 1, "external_ids": ["map", [["k", "v"]]], "other_config": ["map", [["o", "p"]]]});
    let result = world.transact(actor, json!({"op": "insert", "table": "Queue", "row": row}));
    let uuid = result[0]["uuid"][1].as_str().expect("uuid").to_owned();
    let update = |change: Value| {
        let rows = json!({"Queue": {uuid.clone(): change}});
        json!({"id": null, "method": "update", "params": [["m"], rows]})
    };
    let k = json!(["map", [["k", "v"]]]);
    let o = json!(["map", [["o", "p"]]]);
    assert_eq!(world.read(watcher), [update(json!({"new": {"dscp": 1, "external_ids": k}}))]);
    let set =
        |column: &str, value: Value| json!({"op": "update", "table": "Queue", "where": [], "row": {column: value}});
    world.transact(actor, set("dscp", json!(2)));
    let change = json!({"old": {"dscp": 1}, "new": {"dscp": 2, "other_config": o}});
    assert_eq!(world.read(watcher), [update(change)]);
    world.transact(actor, set("external_ids", json!(["map", []])));
    assert_eq!(world.read(watcher), [] as [Value; 0], "not wanted for modify");
    world.transact(actor, json!({"op": "delete", "table": "Queue", "where": []}));
    assert_eq!(world.read(watcher), [update(json!({"old": {"dscp": 2, "other_config": o}}))]);
    assert_eq!(world.call(watcher, "monitor_cancel", json!([["m"]]))["result"], json!({}));
    world.transact(actor, json!({"op": "insert", "table": "Queue", "row": {}}));
    assert_eq!(world.read(watcher), [] as [Value; 0]);
}

#[test]
fn conditional_monitors_tell_differences() {
    for (method, since) in [("monitor_cond", false), ("monitor_cond_since", true)] {
        let mut world = World::new();
        let (watcher, actor) = (world.connect(), world.connect());
        let insert = |dscp: u8| {
            json!({"op": "insert", "table": "Queue", "row": {"dscp": dscp,
            "external_ids": ["map", [["a", "1"], ["b", "2"]]]}})
        };
        let uuid = |result: &Value| result[0]["uuid"][1].as_str().expect("uuid").to_owned();
        let first = uuid(&world.transact(actor, insert(1)));
        let requests =
            json!({"Queue": [{"columns": ["dscp", "external_ids"], "where": [["dscp", "==", 1], ["dscp", "==", 2]]}]});
        let mut params = vec![json!("Open_vSwitch"), json!("m"), requests];
        params.extend(since.then(|| json!("00000000-0000-0000-0000-000000000000")));
        let reply = world.call(watcher, method, Value::Array(params));
        let ids = json!(["map", [["a", "1"], ["b", "2"]]]);
        let initial = json!({"Queue": {first.clone(): {"initial": {"dscp": 1, "external_ids": ids}}}});
        if since {
            assert_eq!((&reply["result"][0], &reply["result"][2]), (&json!(false), &initial));
        } else {
            assert_eq!(reply["result"], initial);
        }
        let second = uuid(&world.transact(actor, insert(3)));
        assert_eq!(world.read(watcher), [] as [Value; 0], "not watched");
        let expect = |world: &mut World, rows: Value| {
            let [told] = world.read(watcher).try_into().expect("one notification");
            let place = if since { 2 } else { 1 };
            assert_eq!(told["method"], json!(if since { "update3" } else { "update2" }));
            assert_eq!(told["params"][place], json!({"Queue": rows}));
        };
        let set = |uuid: &str, row: Value| json!({"op": "update", "table": "Queue", "where": [["_uuid", "==", ["uuid", uuid]]], "row": row});
        world.transact(actor, set(&second, json!({"dscp": 2, "external_ids": ["map", []]})));
        expect(&mut world, json!({second.clone(): {"insert": {"dscp": 2}}}));
        world.transact(actor, set(&first, json!({"external_ids": ["map", [["b", "3"], ["c", "4"]]]})));
        let diff = json!(["map", [["a", "1"], ["b", "3"], ["c", "4"]]]);
        expect(&mut world, json!({first.clone(): {"modify": {"external_ids": diff}}}));
        world.transact(actor, set(&first, json!({"dscp": 9})));
        expect(&mut world, json!({first.clone(): {"delete": null}}));
        world.send(
            watcher,
            "monitor_cond_change",
            json!(["m", "m", {"Queue": [{"where": [["dscp", ">", 5]]}]}]),
            json!(1),
        );
        let told = world.read(watcher);
        let rows = json!({second: {"delete": null}, first: {"insert": {"dscp": 9,
            "external_ids": ["map", [["b", "3"], ["c", "4"]]]}}});
        assert_eq!(told[0]["params"].as_array().and_then(|params| params.last()), Some(&json!({"Queue": rows})));
        assert_eq!(told[1], json!({"id": 1, "result": {}, "error": null}));
    }
}

#[test]
fn the_update_comes_before_the_reply_and_the_daemon_is_told_after() {
    let mut world = World::new();
    let client = world.connect();
    world.call(client, "monitor", json!(["Open_vSwitch", "m", {"Open_vSwitch": {"columns": ["next_cfg"]}}]));
    world.send(client, "transact", json!(["Open_vSwitch", count_up()]), json!("t"));
    let told = world.read(client);
    assert_eq!(told[0]["params"][1]["Open_vSwitch"][world.root()]["new"], json!({"next_cfg": 1}));
    assert_eq!(told[1]["id"], json!("t"));
    assert_eq!(world.notes.borrow().commits, [Peer { uid: 1, pid: Some(7) }]);
    world.send(client, "transact", json!(["Open_vSwitch", {"op": "select", "table": "Bridge", "where": []}]), json!(1));
    assert_eq!(world.notes.borrow().commits.len(), 1, "nothing changed");
}

#[test]
fn the_daemons_own_writes_are_told() {
    let mut world = World::new();
    let client = world.connect();
    world.call(client, "monitor", json!(["Open_vSwitch", "m", {"Open_vSwitch": {"columns": ["cur_cfg"]}}]));
    let root = world.store.borrow().root().expect("root").uuid();
    assert!(world.store.borrow_mut().write([("Open_vSwitch", root, "cur_cfg", 5.into())]));
    assert_eq!(world.read(client), [] as [Value; 0]);
    world.hub.poll(world.now);
    let told = world.read(client);
    assert_eq!(told[0]["params"][1]["Open_vSwitch"][root.to_string()]["new"], json!({"cur_cfg": 5}));
}

#[test]
fn waiting_transactions_go_on_when_rows_change() {
    let mut world = World::new();
    let (patient, second, actor) = (world.connect(), world.connect(), world.connect());
    world.send(patient, "transact", json!(["Open_vSwitch", wait_for(1, None), count_up()]), json!("one"));
    // Goes on only by what the first one does.
    world.send(second, "transact", json!(["Open_vSwitch", wait_for(2, None), count_up()]), json!("two"));
    assert_eq!((world.read(patient), world.read(second)), (vec![], vec![]));
    world.transact(actor, count_up());
    assert_eq!(world.read(patient), [json!({"id": "one", "result": [{}, {"count": 1}], "error": null})]);
    assert_eq!(world.read(second), [json!({"id": "two", "result": [{}, {"count": 1}], "error": null})]);
    let next = world.store.borrow().root().expect("root").get("next_cfg").as_integer();
    assert_eq!(next, Some(3));
    assert_eq!(world.notes.borrow().commits.len(), 3);
}

#[test]
fn waiting_transactions_time_out_or_are_canceled() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, "transact", json!(["Open_vSwitch", wait_for(5, Some(1000))]), json!("a"));
    world.send(client, "transact", json!(["Open_vSwitch", wait_for(5, None)]), json!("b"));
    world.send(client, "transact", json!(["Open_vSwitch"]), json!("b"));
    let told = world.read(client);
    assert_eq!(told[0]["error"]["details"], json!("transact: duplicate request ID"));
    assert_eq!(world.hub.deadline(), Some(world.now + Duration::from_secs(1)));
    world.hub.poll(world.now + Duration::from_millis(999));
    assert_eq!(world.read(client), [] as [Value; 0]);
    world.hub.poll(world.now + Duration::from_millis(1000));
    let [told] = world.read(client).try_into().expect("one reply");
    assert_eq!((&told["id"], &told["result"][0]["error"]), (&json!("a"), &json!("timed out")));
    assert_eq!(world.hub.deadline(), None);
    world.send(client, "cancel", json!(["b"]), Value::Null);
    assert_eq!(world.read(client), [json!({"id": "b", "result": null, "error": "canceled"})]);
}

#[test]
fn locks_pass_from_one_to_the_next() {
    let mut world = World::new();
    let (one, two, three) = (world.connect(), world.connect(), world.connect());
    let locked = |told: &str, name: &str| vec![json!({"id": null, "method": told, "params": [name]})];
    assert_eq!(world.call(one, "lock", json!(["l"]))["result"], json!({"locked": true}));
    assert_eq!(world.call(two, "lock", json!(["l"]))["result"], json!({"locked": false}));
    let assert_lock = json!({"op": "assert", "lock": "l"});
    assert_eq!(world.transact(one, assert_lock.clone()), json!([{}]));
    assert_eq!(world.transact(two, assert_lock.clone())[0]["error"], json!("not owner"));
    assert_eq!(world.call(three, "steal", json!(["l"]))["result"], json!({"locked": true}));
    assert_eq!(world.read(one), locked("stolen", "l"));
    assert_eq!(world.call(three, "unlock", json!(["l"]))["result"], json!({}));
    assert_eq!(world.read(one), locked("locked", "l"));
    world.hub.disconnect(one);
    assert_eq!(world.read(two), locked("locked", "l"));
    assert_eq!(world.transact(two, assert_lock), json!([{}]));
}

#[test]
fn the_server_database_describes_and_is_read_only() {
    let mut world = World::new();
    let client = world.connect();
    let select = json!({"op": "select", "table": "Database", "where": [["name", "==", "Open_vSwitch"]],
        "columns": ["model", "connected", "leader"]});
    let reply = world.call(client, "transact", json!(["_Server", select]));
    assert_eq!(reply["result"], json!([{"rows": [{"model": "standalone", "connected": true, "leader": true}]}]));
    let delete = json!({"op": "delete", "table": "Database", "where": []});
    let reply = world.call(client, "transact", json!(["_Server", delete]));
    assert_eq!(reply["result"][0]["error"], json!("not allowed"));
    let reply = world.call(client, "monitor_cond", json!(["_Server", "s", {"Database": [{"columns": ["name"]}]}]));
    assert_eq!(reply["result"]["Database"].as_object().map(|rows| rows.len()), Some(2));
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let mut world = World::new();
    let client = world.connect();
    let text = "x".repeat(QUEUE_BUSY);
    let request = json!({"method": "echo", "params": [text], "id": 1}).to_string();
    world.hub.receive(client, request.repeat(3).as_bytes());
    let mut steps = 0;
    while world.hub.step(client, world.now) {
        steps += 1;
    }
    assert_eq!((steps, world.hub.is_reading(client)), (1, false), "one reply waits, the next request does too");
    assert_eq!(world.read(client).len(), 1);
    assert!(world.hub.is_reading(client) && world.hub.step(client, world.now));
}

#[test]
fn who_loses_least_gives_way_to_another() {
    let mut world = World::new();
    let clients: Vec<_> = (0..CONNECTIONS_MAX).map(|_| world.connect()).collect();
    let mut gone = Vec::new();
    let mut gives_way = |world: &mut World| {
        let made = world.hub.make_room();
        let over = |client: &&SessionId| !gone.contains(*client) && world.hub.is_over(**client);
        let over: Vec<_> = clients.iter().filter(over).copied().collect();
        over.iter().for_each(|client| world.hub.disconnect(*client));
        gone.extend(&over);
        assert_eq!(made, over.len() == 1, "{over:?}");
        over.first().copied()
    };
    // These follow, wait, and own a lock: they are never idle. The next one has just said something.
    world.call(clients[0], "monitor", json!(["Open_vSwitch", "m", {"Bridge": {}}]));
    world.send(clients[1], "transact", json!(["Open_vSwitch", wait_for(9, None)]), json!(1));
    world.call(clients[2], "lock", json!(["l"]));
    world.call(clients[3], "echo", json!([]));
    assert_eq!(gives_way(&mut world), Some(clients[4]), "silent for the longest time");
    assert!(world.hub.make_room(), "there is room");
    // A process with two is the first to lose one, though it spoke last.
    let twin = world.hub.connect(Peer { uid: 6, pid: Some(7) }, Rc::default());
    world.call(clients[5], "echo", json!([]));
    world.call(twin, "echo", json!([]));
    assert_eq!(gives_way(&mut world), Some(clients[5]));
    // Nobody is idle, nobody has two: they stay, and it is the other who has to go.
    let follows = |world: &mut World, client| {
        let reply = world.call(client, "monitor", json!(["Open_vSwitch", "m", {"Bridge": {}}]));
        assert_eq!(reply["error"], json!(null));
    };
    clients[6..].iter().chain([&twin]).for_each(|client| follows(&mut world, *client));
    let another = world.connect();
    follows(&mut world, another);
    assert_eq!(gives_way(&mut world), Some(clients[3]), "the only idle one");
    let another = world.connect();
    follows(&mut world, another);
    assert_eq!(gives_way(&mut world), None);
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let mut world = World::new();
    let client = world.connect();
    let before = contents(world.store.borrow().database());
    let bad = json!({"op": "insert", "table": "Open_vSwitch", "row": {}});
    world.send(client, "transact", json!(["Open_vSwitch", count_up(), bad]), json!(1));
    let result = world.read(client)[0]["result"].take();
    assert_eq!((result.as_array().map(Vec::len), &result[2]["error"]), (Some(3), &json!("constraint violation")));
    assert_eq!(contents(world.store.borrow().database()), before);
}

/// The fuzz targets, on what is likely to trip them.
#[test]
fn fuzz_bodies_run() {
    let request = json!({"method": "transact", "params": ["Open_vSwitch", count_up(), wait_for(9, Some(5))], "id": 1});
    let stream = format!("{request}{request}{{\"method\":[[[");
    for end in 0..stream.len() {
        fuzz_rpc(&stream.as_bytes()[..end]);
    }
    let change = r#"{"Bridge":{"00000000-0000-4000-8000-000000000001":{"insert":{"name":"x"}}}}"#;
    let root = r#"{"Open_vSwitch":{"00000000-0000-4000-8000-000000000002":{"insert":{}}}}"#;
    for text in ["", "x", "{}", "shunt-journal 1 Open_vSwitch 8.3.1\n00000000", change, root, "[]\nnull\n{\"Zz\":{}}"] {
        fuzz_journal(text.as_bytes());
    }
    fuzz_transaction(request["params"].to_string().as_bytes());
    fuzz_transaction(&(0..=255).cycle().take(4000).collect::<Vec<u8>>());
    fuzz_canary(b"fine");
}

#[test]
#[should_panic(expected = "found")]
fn the_canary_sings() {
    fuzz_canary(b"bug");
}
