//! Does the journal keep what was acknowledged, and nothing else, whatever happens to the process and the disk?

use faulty::Faulty;
use proptest::prelude::*;
use serde_json::{Value, json};
use shunt_control::fuzzing::{contents, small_schema, transactions};
use shunt_control::store::{Reply, Request, Store};
use std::time::Duration;

mod faulty;

fn run(store: &mut Store, operations: &[Value]) -> (Vec<Value>, bool) {
    match store.transact(operations, Duration::MAX, &|_| false) {
        Reply::Done { results, changed } => (results, changed),
        Reply::Waiting(_) => panic!("nothing here waits"),
    }
}

/// Runs transactions as one group.
fn run_group(store: &mut Store, group: &[Vec<Value>]) -> Vec<(Vec<Value>, bool)> {
    let request = |operations| Request { operations, waited: Duration::MAX, owns_lock: &|_| false };
    let requests: Vec<_> = group.iter().map(|operations| request(operations)).collect();
    let reply = |reply| match reply {
        Reply::Done { results, changed } => (results, changed),
        Reply::Waiting(_) => panic!("nothing here waits"),
    };
    store.transact_all(&requests).into_iter().map(reply).collect()
}

fn error(results: &[Value]) -> Option<&str> {
    results.iter().find_map(|result| result.get("error")).and_then(Value::as_str)
}

/// Everything but what a restart forgets.
fn durable(store: &Store) -> Value {
    let mut all = contents(store.database());
    for row in all["Root"].as_object_mut().expect("rows").values_mut() {
        row["status"] = json!(["set", []]);
    }
    all
}

fn insert(name: u8) -> Vec<Value> {
    let row = json!({"name": name.to_string(), "status": "up", "number": name});
    vec![json!({"op": "insert", "table": "Root", "row": row})]
}

fn set_number(name: u8, number: u8) -> Vec<Value> {
    let row = json!({"number": number});
    vec![json!({"op": "update", "table": "Root", "where": [["name", "==", name.to_string()]], "row": row})]
}

/// Groups that insert, update and remove, with a rewrite in the middle. Yields the durable contents after each acknowledged group,
/// and those that the group in flight would have made.
fn life(disk: &Faulty) -> (Vec<Value>, Option<Value>) {
    let delete = vec![json!({"op": "delete", "table": "Root", "where": [["name", "==", "1"]]})];
    let groups = [
        vec![insert(0)],
        vec![insert(1), set_number(0, 7)],
        vec![delete],
        vec![insert(2), set_number(2, 1), insert(3)],
    ];
    let Ok(mut store) = disk.open() else { return (vec![], None) };
    let mut acknowledged = vec![durable(&store)];
    for (place, group) in groups.iter().enumerate() {
        let mut ideal = Store::in_memory(small_schema());
        for step in groups[..=place].iter().flatten() {
            run(&mut ideal, step);
        }
        if place == 3 && store.compact().is_err() {
            return (acknowledged, None);
        }
        let replies = run_group(&mut store, group);
        let refused = replies.iter().filter(|(_, changed)| !changed).count();
        assert!(refused == 0 || refused == group.len(), "a dead disk refuses all of a group");
        if refused > 0 {
            return (acknowledged, Some(without_uuids(&durable(&ideal))));
        }
        acknowledged.push(durable(&store));
    }
    (acknowledged, None)
}

/// Rows by name, as UUIDs are random.
fn without_uuids(all: &Value) -> Value {
    let mut rows: Vec<Value> = all["Root"].as_object().expect("rows").values().cloned().collect();
    rows.sort_by_key(|row| row["name"].to_string());
    Value::Array(rows)
}

#[test]
fn a_kill_at_any_byte_or_step_loses_nothing_acknowledged() {
    let whole = Faulty::default();
    whole.0.borrow_mut().life = Some(usize::MAX);
    let (acknowledged, _) = life(&whole);
    assert_eq!(acknowledged.len(), 5);
    let cost = usize::MAX - whole.0.borrow().life.expect("counted");
    assert!(cost > 500, "{cost} points of failure");
    for point in 0..cost {
        let disk = Faulty::default();
        disk.0.borrow_mut().life = Some(point);
        let (acknowledged, in_flight) = life(&disk);
        let last = acknowledged.last().cloned().unwrap_or_else(|| json!({"Root": {}, "Kid": {}, "Need": {}}));
        let survivors = std::iter::once(disk.after_kill()).chain(disk.after_power_failure());
        for (shape, survivor) in survivors.enumerate() {
            let mut store = survivor.open().unwrap_or_else(|error| panic!("killed at {point}, shape {shape}: {error}"));
            let found = durable(&store);
            let is_last = found == last;
            let is_next = Some(without_uuids(&found)) == in_flight;
            assert!(is_last || is_next, "killed at {point}, shape {shape}: {found:#} instead of {last:#}");
            // And it goes on from there.
            let (results, changed) = run(&mut store, &insert(9));
            assert!(changed, "{results:?}");
            let expected = durable(&store);
            drop(store);
            assert_eq!(durable(&survivor.open().expect("opens again")), expected);
        }
    }
}

#[test]
fn a_full_disk_refuses_and_changes_nothing() {
    let roomy = Faulty::default();
    life(&roomy);
    let most = roomy.file().len() * 3;
    let (mut refusals, mut unopened) = (0, 0);
    for capacity in 0..most {
        let disk = Faulty::default();
        disk.limit(Some(capacity));
        let Ok(mut store) = disk.open() else {
            unopened += 1;
            continue;
        };
        for step in [insert(0), insert(1), set_number(0, 5), insert(2)] {
            let (before, file) = (contents(store.database()), disk.file());
            let (results, changed) = run(&mut store, &step);
            let Some(refused) = error(&results) else { continue };
            refusals += 1;
            assert_eq!((refused, changed), ("resources exhausted", false));
            let details = results.last().expect("an error")["details"].as_str().unwrap_or_default();
            assert!(details.starts_with("cannot write conf.db: ") && details.contains("free some space"), "{details}");
            assert_eq!(contents(store.database()), before);
            assert_eq!(disk.file(), file, "the file is as it was");
            break;
        }
        // Space is freed: it goes on without a restart.
        disk.limit(None);
        let (results, changed) = run(&mut store, &insert(3));
        assert!(changed, "{results:?}");
        assert_eq!(durable(&disk.open().expect("opens")), durable(&store));
    }
    assert!(refusals > 200 && unopened > 10, "{refusals}, {unopened}");
}

#[test]
fn a_failed_sync_refuses_and_the_file_stays_good() {
    for stuck in [false, true] {
        let disk = Faulty::default();
        let mut store = disk.open().expect("opens");
        run(&mut store, &insert(0));
        let before = durable(&store);
        {
            let mut platter = disk.0.borrow_mut();
            platter.failing_syncs = vec![platter.syncs + 1];
            platter.stuck = stuck;
        }
        let (results, changed) = run(&mut store, &insert(1));
        assert_eq!((error(&results), changed), (Some("I/O error"), false));
        assert_eq!(durable(&store), before);
        if !stuck {
            assert_eq!(durable(&disk.after_kill().open().expect("opens")), before);
        }
        // With a truncation that fails too, the whole file is rewritten before anything else is acknowledged.
        let (results, changed) = run(&mut store, &insert(2));
        assert!(changed, "{results:?}");
        assert_eq!(durable(&disk.after_kill().open().expect("opens")), durable(&store));
    }
}

#[test]
fn a_group_is_one_record_with_one_sync() {
    let disk = Faulty::default();
    let mut store = disk.open().expect("opens");
    let (lines, syncs) = (disk.file().split(|byte| *byte == b'\n').count(), disk.syncs());
    let replies = run_group(&mut store, &[insert(0), set_number(0, 5), insert(0), insert(1)]);
    let changed: Vec<bool> = replies.iter().map(|(_, changed)| *changed).collect();
    assert_eq!(changed, [true, true, false, true], "the third breaks the index and disturbs nobody");
    assert_eq!(disk.file().split(|byte| *byte == b'\n').count(), lines + 1);
    assert_eq!(disk.syncs(), syncs + 1);
    assert_eq!(durable(&disk.after_kill().open().expect("opens")), durable(&store));
}

#[test]
fn a_group_that_the_disk_refuses_is_tried_one_by_one() {
    // One byte more room at a time: those that fit are kept, the others refused, and each reply tells the truth.
    let mut seen = std::collections::BTreeSet::new();
    for room in 0..400 {
        let disk = Faulty::default();
        let mut store = disk.open().expect("opens");
        run(&mut store, &insert(9));
        disk.limit(Some(disk.file().len() + room));
        let replies = run_group(&mut store, &[insert(0), set_number(0, 5), insert(1)]);
        let kept = replies.iter().filter(|(_, changed)| *changed).count();
        for (results, changed) in &replies {
            assert_eq!(error(results).is_none(), *changed || results[0] == json!({"count": 0}), "{results:?}");
        }
        let rows = store.rows("Root").count();
        assert_eq!(
            rows,
            1 + replies.iter().filter(|(results, changed)| *changed && results[0]["uuid"].is_array()).count()
        );
        assert_eq!(store.database().verify(), Ok(()));
        assert_eq!(durable(&disk.after_kill().open().expect("opens")), durable(&store));
        seen.insert(kept);
    }
    assert_eq!(seen, [0, 1, 2, 3].into());
}

#[test]
fn nothing_is_acknowledged_while_a_rename_may_be_lost() {
    let disk = Faulty::default();
    let mut store = disk.open().expect("opens");
    run(&mut store, &insert(0));
    let before = durable(&store);
    disk.0.borrow_mut().directory_stuck = true;
    store.compact().expect_err("the directory cannot be synced");
    let (results, changed) = run(&mut store, &insert(1));
    assert_eq!((error(&results), changed), (Some("I/O error"), false));
    for survivor in disk.after_power_failure() {
        assert_eq!(durable(&survivor.open().expect("opens")), before);
    }
    disk.0.borrow_mut().directory_stuck = false;
    let (results, changed) = run(&mut store, &insert(2));
    assert!(changed, "{results:?}");
    for survivor in disk.after_power_failure() {
        assert_eq!(durable(&survivor.open().expect("opens")), durable(&store));
    }
}

/// A good file, and the durable contents after each of its records.
fn good_file() -> (Vec<u8>, Vec<(usize, Value)>) {
    let disk = Faulty::default();
    let mut store = disk.open().expect("opens");
    let mut stages = vec![(disk.file().len(), durable(&store))];
    for step in [insert(0), insert(1), set_number(0, 5), insert(2)] {
        run(&mut store, &step);
        stages.push((disk.file().len(), durable(&store)));
    }
    (disk.file(), stages)
}

#[test]
fn a_torn_end_is_cut_at_every_length() {
    let (file, stages) = good_file();
    for length in 0..=file.len() {
        let disk = Faulty::with(file[..length].to_vec());
        let mut store = disk.open().unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        let empty = (0, stages[0].1.clone());
        let (whole, expected) = stages.iter().rev().find(|(end, _)| *end <= length).unwrap_or(&empty);
        assert_eq!(durable(&store), *expected, "{length} bytes");
        assert_eq!(disk.file().len(), (*whole).max(stages[0].0), "{length} bytes: cut to whole records");
        run(&mut store, &insert(3));
        assert_eq!(durable(&disk.open().expect("opens")), durable(&store));
    }
}

#[test]
fn damage_is_refused_and_never_passes_for_a_torn_end() {
    let (file, stages) = good_file();
    let all = &stages.last().expect("stages").1;
    let mut refused = 0;
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            let disk = Faulty::with(damaged.clone());
            match disk.open() {
                // The version in the header is not checked: a later one may have written it.
                Ok(store) => assert_eq!(durable(&store), *all, "byte {at} bit {bit}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.starts_with("conf.db: ") && text.contains("; "), "names file and remedy: {text}");
                    assert_eq!(disk.file(), damaged, "a refused file is not touched");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > file.len() * 7, "{refused} of {}", file.len() * 8);
}

#[test]
fn damage_messages_say_what_to_do() {
    let (file, stages) = good_file();
    let mut damaged = file.clone();
    damaged[stages[1].0 + 30] ^= 1;
    let text = Faulty::with(damaged).open().err().map(|error| error.to_string()).unwrap_or_default();
    let at = stages[1].0;
    assert_eq!(
        text,
        format!(
            "conf.db: damaged at byte {at}: the record does not match its checksum; restore the file from a copy, or \
             keep only what is before the damage with `truncate -s {at} FILE` (what follows is lost), then start again"
        )
    );
    let text = Faulty::with(b"OVSDB JSON 26720 abc\n".to_vec()).open().err().map(|error| error.to_string());
    assert!(text.is_some_and(|text| text.contains("it begins with \"OVSDB JSON 26720 abc\"")));
}

#[test]
fn status_columns_are_not_journaled_and_the_daemons_writes_come_with_the_next_transaction() {
    let disk = Faulty::default();
    let mut store = disk.open().expect("opens");
    run(&mut store, &insert(0));
    let length = disk.file().len();
    let uuid = store.rows("Root").next().expect("row").uuid();
    assert!(store.write([("Root", uuid, "status", Some("down").into())]));
    assert!(!store.write([("Root", uuid, "status", Some("down").into())]), "no change is none");
    store.flush().expect("nothing to write");
    assert_eq!(disk.file().len(), length, "ephemeral");
    assert!(store.write([("Root", uuid, "number", 3.into())]));
    assert_eq!(disk.file().len(), length, "waits");
    run(&mut store, &insert(1));
    let again = disk.open().expect("opens");
    assert_eq!(again.row("Root", &uuid).map(|row| row.get("number").as_integer()), Some(Some(3)));
    assert!(again.row("Root", &uuid).is_some_and(|row| row.get("status").is_empty()));
    assert!(store.write([("Root", uuid, "number", 4.into())]));
    drop(store);
    let again = disk.open().expect("opens");
    assert_eq!(again.row("Root", &uuid).map(|row| row.get("number").as_integer()), Some(Some(4)), "written at the end");
}

#[test]
fn the_daemons_writes_survive_a_full_disk_in_memory() {
    let disk = Faulty::default();
    let mut store = disk.open().expect("opens");
    run(&mut store, &insert(0));
    let uuid = store.rows("Root").next().expect("row").uuid();
    run(&mut store, &insert(2));
    let other = store.rows("Root").map(|row| row.uuid()).find(|other| *other != uuid).expect("two rows");
    disk.limit(Some(0));
    assert!(store.write([("Root", other, "number", 8.into())]));
    // Far more than is kept waiting: the first one is not kept so long.
    for round in 0..2000 {
        assert!(store.write([("Root", uuid, "number", (round % 9 + 1).into())]));
    }
    assert_eq!(error(&run(&mut store, &insert(1)).0), Some("resources exhausted"));
    disk.limit(None);
    assert_eq!(error(&run(&mut store, &insert(1)).0), None);
    assert_eq!(durable(&disk.open().expect("opens")), durable(&store));
}

#[test]
fn a_grown_journal_is_rewritten() {
    let disk = Faulty::default();
    let mut store = disk.open().expect("opens");
    run(&mut store, &insert(0));
    let mut longest = 0;
    let mut rewritten = false;
    for round in 0..20_000_u32 {
        run(&mut store, &set_number(0, u8::try_from(round % 9).expect("small")));
        let length = disk.0.borrow().file.as_ref().map_or(0, Vec::len);
        rewritten |= length < longest;
        longest = longest.max(length);
    }
    assert!(rewritten && longest < 2 << 20, "{longest} bytes");
    assert_eq!(durable(&disk.open().expect("opens")), durable(&store));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn replay_is_memory(octets in proptest::collection::vec(any::<u8>(), 0..1500), rewrite in 0..40_usize) {
        let disk = Faulty::default();
        let mut store = disk.open().expect("opens");
        for (number, operations) in transactions(&octets).iter().enumerate() {
            run(&mut store, operations);
            if number == rewrite {
                store.compact().expect("rewrites");
            }
        }
        let again = disk.open().expect("opens");
        prop_assert_eq!(durable(&again), durable(&store));
        prop_assert_eq!(again.database().verify(), Ok(()));
    }
}
