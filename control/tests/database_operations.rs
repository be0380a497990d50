//! Does each operation of RFC 7047 do what it says, and is each mistake refused with words that help?

use serde_json::{Value, json};
use shunt_control::fuzzing::contents;
use shunt_control::schema::vswitch;
use shunt_control::store::{Reply, Store};
use std::time::Duration;

fn uuid(number: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{number:02x}")
}

fn run(store: &mut Store, operations: Value) -> Vec<Value> {
    let operations = operations.as_array().expect("a list").clone();
    match store.transact(&operations, Duration::MAX, &|lock| lock == "mine") {
        Reply::Done { results, .. } => results,
        Reply::Waiting(_) => panic!("{operations:?} waits"),
    }
}

/// Bridge `br0` with port and interface `p0`, under known UUIDs.
fn scene() -> Store {
    let mut store = Store::in_memory(vswitch::schema());
    let reference = |number| json!(["uuid", uuid(number)]);
    let results = run(
        &mut store,
        json!([
            {"op": "insert", "table": "Interface", "uuid": uuid(1), "row": {"name": "p0"}},
            {"op": "insert", "table": "Port", "uuid": uuid(2), "row": {
                "name": "p0", "interfaces": reference(1), "trunks": ["set", [10, 20]],
                "external_ids": ["map", [["a", "1"], ["b", "2"]]]}},
            {"op": "insert", "table": "Bridge", "uuid": uuid(3), "row": {"name": "br0", "ports": reference(2)}},
            {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["bridges", "insert", reference(3)]]},
        ]),
    );
    assert_eq!(results.last(), Some(&json!({"count": 1})), "{results:?}");
    store
}

/// The value of a column of the port after the operations.
fn port_after(operations: Value, column: &str) -> Value {
    let mut store = scene();
    let results = run(&mut store, operations);
    assert!(results.iter().all(|result| result.get("error").is_none()), "{results:?}");
    store.rows("Port").next().expect("the port").get(column).to_json()
}

#[test]
fn mutators() {
    let mutate = |column: &str, mutator: &str, value: Value| {
        let mutations = json!([[column, mutator, value]]);
        port_after(json!([{"op": "mutate", "table": "Port", "where": [], "mutations": mutations}]), column)
    };
    assert_eq!(mutate("trunks", "+=", json!(5)), json!(["set", [15, 25]]));
    assert_eq!(mutate("trunks", "-=", json!(10)), json!(["set", [0, 10]]));
    assert_eq!(mutate("trunks", "*=", json!(2)), json!(["set", [20, 40]]));
    assert_eq!(mutate("trunks", "/=", json!(3)), json!(["set", [3, 6]]));
    assert_eq!(mutate("trunks", "%=", json!(3)), json!(["set", [1, 2]]));
    assert_eq!(mutate("bond_updelay", "-=", json!(7)), json!(-7));
    assert_eq!(mutate("trunks", "insert", json!(["set", [10, 30]])), json!(["set", [10, 20, 30]]));
    assert_eq!(mutate("trunks", "delete", json!(["set", [10, 30]])), json!(20));
    assert_eq!(mutate("tag", "insert", json!(4)), json!(4));
    let map = |pairs: Value| json!(["map", pairs]);
    let inserted = mutate("external_ids", "insert", map(json!([["a", "9"], ["c", "3"]])));
    assert_eq!(inserted, map(json!([["a", "1"], ["b", "2"], ["c", "3"]])), "what is there stays");
    assert_eq!(mutate("external_ids", "delete", map(json!([["a", "1"], ["b", "9"]]))), map(json!([["b", "2"]])));
    assert_eq!(mutate("external_ids", "delete", json!(["set", ["a", "z"]])), map(json!([["b", "2"]])));
    assert_eq!(mutate("external_ids", "delete", json!("b")), map(json!([["a", "1"]])));
}

#[test]
fn conditions() {
    let mut store = Store::in_memory(vswitch::schema());
    for (number, dscp, ids) in [(1, json!(["set", []]), json!([])), (2, json!(5), json!([["k", "v"]]))] {
        let row = json!({"dscp": dscp, "external_ids": ["map", ids]});
        run(&mut store, json!([{"op": "insert", "table": "Queue", "uuid": uuid(number), "row": row}]));
    }
    let map = |pairs: Value| json!(["map", pairs]);
    for (clauses, expected) in [
        (json!([]), vec![1, 2]),
        (json!([true]), vec![1, 2]),
        (json!([false]), vec![]),
        (json!([["_uuid", "==", ["uuid", uuid(1)]]]), vec![1]),
        (json!([["_uuid", "!=", ["uuid", uuid(1)]]]), vec![2]),
        (json!([["_uuid", "includes", ["uuid", uuid(2)]]]), vec![2]),
        (json!([["dscp", "==", 5]]), vec![2]),
        (json!([["dscp", "==", ["set", []]]]), vec![1]),
        (json!([["dscp", "!=", 5]]), vec![1]),
        (json!([["dscp", "<", 6]]), vec![2]),
        (json!([["dscp", "<", 5]]), vec![]),
        (json!([["dscp", "<=", 5]]), vec![2]),
        (json!([["dscp", ">", 4]]), vec![2]),
        (json!([["dscp", ">", 5]]), vec![]),
        (json!([["dscp", ">=", 5]]), vec![2]),
        (json!([["dscp", ">=", 60]]), vec![]),
        (json!([["dscp", "includes", 5]]), vec![2]),
        (json!([["dscp", "includes", ["set", []]]]), vec![1, 2]),
        (json!([["dscp", "excludes", 5]]), vec![1]),
        (json!([["external_ids", "includes", map(json!([["k", "v"]]))]]), vec![2]),
        (json!([["external_ids", "includes", map(json!([["k", "w"]]))]]), vec![]),
        (json!([["external_ids", "excludes", map(json!([["k", "v"]]))]]), vec![1]),
        (json!([["external_ids", "excludes", map(json!([["k", "w"]]))]]), vec![1, 2]),
        (json!([["external_ids", "==", map(json!([]))]]), vec![1]),
        (json!([["dscp", ">", 4], ["external_ids", "==", map(json!([]))]]), vec![]),
    ] {
        let select = json!([{"op": "select", "table": "Queue", "where": clauses, "columns": ["_uuid"]}]);
        let rows: Vec<Value> = expected.into_iter().map(|number| json!({"_uuid": ["uuid", uuid(number)]})).collect();
        assert_eq!(run(&mut store, select), [json!({"rows": rows})], "{clauses}");
    }
}

#[test]
fn select_yields_distinct_rows_as_they_are_in_the_transaction() {
    let mut store = scene();
    let results = run(
        &mut store,
        json!([
            {"op": "insert", "table": "Queue", "row": {"dscp": 1}},
            {"op": "insert", "table": "Queue", "row": {"dscp": 1}},
            {"op": "select", "table": "Queue", "where": [], "columns": ["dscp"]},
            {"op": "update", "table": "Queue", "where": [], "row": {"dscp": 2}},
            {"op": "select", "table": "Queue", "where": [["dscp", "==", 2]]},
            {"op": "delete", "table": "Queue", "where": []},
            {"op": "select", "table": "Queue", "where": []},
            {"op": "select", "table": "Bridge", "where": [["name", "==", "br0"]], "columns": ["name", "fail_mode"]},
        ]),
    );
    assert_eq!(results[2], json!({"rows": [{"dscp": 1}]}));
    assert_eq!(results[3], json!({"count": 2}));
    let all = results[4]["rows"].as_array().expect("rows");
    assert_eq!(all.len(), 2, "{all:?}");
    let mut names: Vec<&String> = all[0].as_object().expect("a row").keys().collect();
    names.sort();
    assert_eq!(names, ["_uuid", "_version", "dscp", "external_ids", "other_config"]);
    assert_eq!(results[6], json!({"rows": []}));
    assert_eq!(results[7], json!({"rows": [{"name": "br0", "fail_mode": ["set", []]}]}));
}

#[test]
fn rows_are_named_before_and_after_they_are_inserted() {
    let mut store = scene();
    let results = run(
        &mut store,
        json!([
            {"op": "mutate", "table": "Bridge", "where": [], "mutations": [["ports", "insert", ["named-uuid", "p"]]]},
            {"op": "insert", "table": "Port", "uuid-name": "p",
             "row": {"name": "p1", "interfaces": ["named-uuid", "i"]}},
            {"op": "insert", "table": "Interface", "uuid-name": "i", "row": {"name": "p1"}},
            {"op": "update", "table": "Port", "where": [["_uuid", "==", ["named-uuid", "p"]]], "row": {"tag": 5}},
        ]),
    );
    assert_eq!(results[3], json!({"count": 1}), "{results:?}");
    let port = store.rows("Port").find(|row| row.get("name").as_str() == Some("p1")).expect("the port");
    assert_eq!(port.get("tag").as_integer(), Some(5));
    assert_eq!(results[1]["uuid"], json!(["uuid", port.uuid().to_string()]));
}

#[test]
fn unreferenced_rows_vanish_with_all_they_refer_to() {
    let mut store = scene();
    let weak = json!([{"op": "insert", "table": "Mirror", "uuid": uuid(9), "row": {
        "select_src_port": ["uuid", uuid(2)], "select_dst_port": ["uuid", uuid(2)], "output_port": ["uuid", uuid(2)]}},
        {"op": "insert", "table": "Bridge", "uuid": uuid(8), "row": {"name": "br1", "mirrors": ["uuid", uuid(9)]}},
        {"op": "mutate", "table": "Open_vSwitch", "where": [],
         "mutations": [["bridges", "insert", ["uuid", uuid(8)]]]}]);
    run(&mut store, weak);
    assert_eq!(store.rows("Mirror").next().map(|row| row.get("output_port").len()), Some(1));
    let unplug = json!([{"op": "update", "table": "Bridge", "where": [["name", "==", "br0"]],
        "row": {"ports": ["set", []]}}]);
    assert_eq!(run(&mut store, unplug), [json!({"count": 1})]);
    assert_eq!((store.rows("Port").count(), store.rows("Interface").count()), (0, 0));
    let mirror = store.rows("Mirror").next().expect("kept");
    for column in ["select_src_port", "select_dst_port", "output_port"] {
        assert!(mirror.get(column).is_empty(), "weak references go with the port: {column}");
    }
    assert_eq!(store.database().verify(), Ok(()));
    run(&mut store, json!([{"op": "insert", "table": "sFlow", "row": {"targets": "10.0.0.1"}}]));
    assert_eq!(store.rows("sFlow").count(), 0, "created, but nobody refers to it");
    run(&mut store, json!([{"op": "insert", "table": "QoS", "row": {}}]));
    assert_eq!(store.rows("QoS").count(), 1, "a root table keeps its rows");
}

/// An index holds at the end of a transaction, not in its middle.
#[test]
fn unique_values_can_be_swapped_and_taken_over() {
    let mut store = Store::in_memory(vswitch::schema());
    let insert = |number, target: &str| json!({"op": "insert", "table": "Manager", "uuid": uuid(number), "row": {"target": target}});
    let managers = json!(["set", [["uuid", uuid(1)], ["uuid", uuid(2)]]]);
    let hold = json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"manager_options": managers}});
    let set = |number, target: &str| {
        let clause = json!([["_uuid", "==", ["uuid", uuid(number)]]]);
        json!({"op": "update", "table": "Manager", "where": clause, "row": {"target": target}})
    };
    run(&mut store, json!([insert(1, "a"), insert(2, "b"), hold]));
    let targets = |store: &Store| -> Vec<String> {
        store.rows("Manager").map(|row| row.get("target").as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(run(&mut store, json!([set(1, "b"), set(2, "a")])), [json!({"count": 1}), json!({"count": 1})]);
    assert_eq!(targets(&store), ["b", "a"]);
    let late = run(&mut store, json!([set(1, "a"), set(2, "a")]));
    assert_eq!(late.last().and_then(|error| error.get("error")), Some(&json!("constraint violation")));
    let managers = json!(["set", [["uuid", uuid(1)], ["uuid", uuid(3)]]]);
    let hold = json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"manager_options": managers}});
    let taken = run(
        &mut store,
        json!([insert(3, "a"), hold, {"op": "delete", "table": "Manager",
        "where": [["_uuid", "==", ["uuid", uuid(2)]]]}]),
    );
    assert_eq!(taken.last(), Some(&json!({"count": 1})), "{taken:?}");
    assert_eq!(targets(&store), ["b", "a"]);
    assert_eq!(store.database().verify(), Ok(()));
}

#[test]
fn versions_change_with_rows_only() {
    let mut store = scene();
    let version = |store: &mut Store| {
        let select = json!([{"op": "select", "table": "Port", "where": [], "columns": ["_version"]}]);
        run(store, select)[0]["rows"][0]["_version"].clone()
    };
    let first = version(&mut store);
    run(&mut store, json!([{"op": "update", "table": "Port", "where": [], "row": {"trunks": ["set", [10, 20]]}}]));
    assert_eq!(version(&mut store), first, "the same value is no change");
    run(&mut store, json!([{"op": "update", "table": "Port", "where": [], "row": {"tag": 1}}]));
    assert_ne!(version(&mut store), first);
}

#[test]
fn wait_compares_rows() {
    let mut store = scene();
    let wait = |until: &str, rows: Value, timeout: Value| {
        let mut wait = json!({"op": "wait", "table": "Port", "where": [["name", "==", "p0"]],
            "columns": ["name", "tag"], "until": until, "rows": rows});
        if !timeout.is_null() {
            wait["timeout"] = timeout;
        }
        vec![wait]
    };
    let there = json!([{"name": "p0"}]);
    assert_eq!(run(&mut store, json!(wait("==", there.clone(), Value::Null))), [json!({})]);
    assert_eq!(run(&mut store, json!(wait("!=", json!([]), Value::Null))), [json!({})]);
    assert_eq!(run(&mut store, json!(wait("!=", json!([{"name": "p0", "tag": 4}]), Value::Null))), [json!({})]);
    let late = run(&mut store, json!(wait("!=", there.clone(), json!(0))));
    assert_eq!(late[0]["error"], json!("timed out"));
    let mut waits = |waited: u64, timeout: Value| {
        store.transact(&wait("!=", there.clone(), timeout), Duration::from_millis(waited), &|_| false)
    };
    assert!(matches!(waits(99, json!(100)), Reply::Waiting(Some(limit)) if limit == Duration::from_millis(100)));
    assert!(matches!(waits(99, Value::Null), Reply::Waiting(None)));
    assert!(matches!(waits(100, json!(100)), Reply::Done { .. }));
}

#[test]
fn abort_comment_commit_and_assert() {
    let mut store = scene();
    let before = contents(store.database());
    let results = run(
        &mut store,
        json!([
            {"op": "comment", "comment": "x"},
            {"op": "commit", "durable": true},
            {"op": "assert", "lock": "mine"},
            {"op": "delete", "table": "Open_vSwitch", "where": []},
            {"op": "abort"},
            {"op": "comment", "comment": "y"},
        ]),
    );
    let aborted = json!({"error": "aborted", "details": "aborted by request"});
    assert_eq!(results, [json!({}), json!({}), json!({}), json!({"count": 1}), aborted, Value::Null]);
    assert_eq!(contents(store.database()), before);
}
