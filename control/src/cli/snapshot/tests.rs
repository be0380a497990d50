//! Does it make no difference to a command whether it reads what it names or whole tables, and does it then read little?

use super::read;
use crate::cli::commands::Stop;
use crate::cli::grammar::{Invocation, parse};
use crate::cli::needs::{Needs, Plan};
use crate::cli::program::{format_outputs, is_final, run};
use crate::database::Database;
use crate::schema::vswitch::schema;
use crate::transaction::{Context, Outcome, execute};
use proptest::prelude::*;
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// Commands on a few names, so that they get in each other's way.
const LINES: &[&str] = &[
    "--may-exist add-br br0",
    "--may-exist add-br br1",
    "--may-exist add-br f0 br0 5",
    "add-br f1 br0 6",
    "add-br p0",
    "del-br br1",
    "--if-exists del-br br0",
    "--if-exists del-br f0",
    "--may-exist add-port br0 p0",
    "add-port br0 p1 tag=5",
    "--may-exist add-port f0 p2",
    "--may-exist add-port br1 p3 trunks=1,2",
    "add-port br1 e0",
    "--may-exist add-port br0 br0",
    "--may-exist add-bond br0 bond0 e0 e1 lacp=active",
    "add-bond-iface bond0 e2",
    "--may-exist add-bond-iface bond0 e0",
    "--if-exists del-bond-iface e1",
    "--if-exists del-bond-iface bond0 e2",
    "del-port p0",
    "--if-exists del-port br0 p1",
    "--if-exists del-port p2",
    "--if-exists --with-iface del-port e0",
    "port-to-br p1",
    "port-to-br p2",
    "iface-to-br e0",
    "iface-to-br p2",
    "list-ports br0",
    "list-ports f0",
    "list-ifaces br0",
    "list-br",
    "br-exists f0",
    "br-exists p1",
    "br-to-vlan f0",
    "br-to-parent f0",
    "br-set-external-id f0 a b",
    "br-get-external-id f0",
    "set Port p1 tag=7",
    "set Port p0 tag=5",
    "set Port p0 fake_bridge=true tag=9",
    "set Interface e0 type=internal",
    "set Interface p2 external_ids:a=b",
    "get Port p1 tag",
    "--if-exists get Port p0 tag",
    "get Bridge br0 ports",
    "clear Bridge br1 ports",
    "list Port p2 bond0",
    "list Bridge",
    "--columns=name,interfaces list Port",
    "--columns=name find Port tag=5",
    "--columns=name find Interface external_ids:a=b",
    "find Interface type=internal name=e0",
    "find Interface type!=internal",
    "--if-exists remove Port p3 trunks 1",
    "destroy Port p1",
    "--id=@m create Mirror name=m select_src_port=[] -- add Bridge br0 mirrors @m",
    "get Mirror m name",
    "--id=@q create QoS type=linux-htb -- set Port p0 qos=@q",
    "list QoS p0",
    "set-controller br0 tcp:1.2.3.4",
    "get-controller f0",
    "get Controller br0 target",
    "--if-exists del-port x1 -- --id=@i create Interface name=x1 -- --id=@p create Port name=x1 interfaces=@i -- add Bridge br0 ports @p",
    "port-to-br x1",
    "iface-to-br x1",
    "get Interface ca11 name",
    "--may-exist add-port br0 ca11",
    "wait-until Port p0 tag=5",
    "get Open_vSwitch . bridges",
    "show",
    "emer-reset",
];

fn invocation(line: &str) -> Invocation {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    parse(&words).unwrap_or_else(|stop| panic!("{line}: {stop:?}"))
}

/// Runs operations as the daemon does.
fn transact(database: &mut Database, operations: &[Value]) -> Vec<Value> {
    let mut fresh = Uuid::new_v4;
    let mut context = Context { fresh: &mut fresh, waited: Duration::ZERO, owns_lock: &|_| false };
    match execute(database, operations, &mut context) {
        Outcome::Done(results, delta) => {
            database.apply(&delta);
            results
        }
        Outcome::Waiting(_) => panic!("no operation waits"),
    }
}

/// What a line prints and sends.
#[derive(Debug, PartialEq)]
struct Done {
    printed: Vec<String>,
    guards: Vec<String>,
    changes: Vec<String>,
    sent: Vec<Value>,
}

/// Runs a line on what is planned to be read. Gives the number of rows that were read, too.
fn attempt(database: &Database, line: &str, plan: impl Fn(&Needs) -> Plan) -> (Result<Done, Stop>, usize) {
    let invocation = invocation(line);
    let needs = Needs::of(schema(), &invocation.commands).unwrap_or_else(|stop| panic!("{line}: {stop:?}"));
    let mut count = 0;
    let snapshot = read(
        &mut |params| {
            let results = transact(&mut database.clone(), &params.as_array().unwrap()[1..]);
            count += results.iter().map(|result| result["rows"].as_array().unwrap().len()).sum::<usize>();
            Ok(Value::Array(results))
        },
        &needs.schema,
        plan(&needs),
    );
    let ran = run(false, &invocation, &needs, snapshot.unwrap()).and_then(|(ctx, outputs)| {
        let (sent, places) = ctx.txn.operations()?;
        let mut texts: Vec<String> = sent.iter().map(|operation| sorted(operation.clone()).to_string()).collect();
        for (number, (_, uuid)) in places.iter().enumerate() {
            let name = format!("row{}", uuid.to_string().replace('-', "_"));
            texts.iter_mut().for_each(|text| *text = text.replace(&name, &format!("#{number}")));
        }
        texts.iter_mut().for_each(|text| *text = without_new(text, database));
        texts.iter_mut().for_each(|text| *text = sorted(serde_json::from_str(text).unwrap()).to_string());
        texts.sort();
        // Sets, and rows of the same name, have the order of their UUIDs.
        let words = |line: &str| {
            let mut words: Vec<String> =
                line.split([' ', ',', '[', ']', '"']).map(|word| without_new(word, database)).collect();
            words.sort_unstable();
            words.join(" ")
        };
        let mut printed: Vec<String> = format_outputs(outputs, &invocation).lines().map(words).collect();
        printed.sort();
        let (guards, changes) = texts.into_iter().partition(|text| text.contains("\"op\":\"wait\""));
        Ok(Done { printed, guards, changes, sent })
    });
    (ran, count)
}

/// Text without the UUIDs of rows that are new, which are random.
fn without_new(text: &str, database: &Database) -> String {
    let is_old = |uuid: &Uuid| database.tables().iter().any(|table| table.row(uuid).is_some());
    let word = |word: &str| match Uuid::try_parse(word) {
        Ok(uuid) if !is_old(&uuid) => "new".to_owned(),
        _ => word.to_owned(),
    };
    text.split('"').map(word).collect::<Vec<_>>().join("\"")
}

fn sorted(json: Value) -> Value {
    match json {
        Value::Array(elements) => {
            let mut elements: Vec<Value> = elements.into_iter().map(sorted).collect();
            elements.sort_by_key(Value::to_string);
            elements.into()
        }
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, sorted(value))).collect::<serde_json::Map<_, _>>().into()
        }
        scalar => scalar,
    }
}

/// Runs a line both ways and applies it; whether reading names was enough.
fn both_ways(database: &mut Database, line: &str) -> bool {
    let (whole, _) = attempt(database, line, Needs::whole);
    let (narrow, _) = attempt(database, line, Needs::named);
    let enough = is_final(&narrow);
    match (narrow, &whole) {
        (Ok(mut narrow), Ok(whole)) => {
            assert_eq!((&narrow.printed, &narrow.changes), (&whole.printed, &whole.changes), "{line}");
            // What "find" did not get to see needs no guard.
            let more = whole.guards.iter().filter(|_| line.contains("find"));
            narrow.guards.extend(more.filter(|guard| !narrow.guards.contains(guard)).cloned().collect::<Vec<_>>());
            narrow.guards.sort();
            assert_eq!(narrow.guards, whole.guards, "{line}");
        }
        (Err(Stop::Exit(a)), Err(Stop::Exit(b))) if a == *b => {}
        (Err(Stop::TryAgain), Err(Stop::TryAgain)) => {}
        (Err(Stop::Fail { .. }), Err(Stop::Fail { .. })) | (Err(Stop::ReadAll), _) => {}
        (narrow, whole) => panic!("{line}: {narrow:?} but {whole:?}"),
    }
    if let Ok(done) = &whole {
        transact(database, &done.sent);
    }
    enough
}

proptest! {
    #[test]
    fn what_is_not_read_makes_no_difference(lines in prop::collection::vec(prop::collection::vec(0..LINES.len(), 1..5), 1..25)) {
        let mut database = Database::new(schema());
        both_ways(&mut database, "add-br br0 -- add-br br1 -- add-br f0 br0 5 -- add-port f0 p2 -- add-bond br0 bond0 e0 e1");
        for line in lines {
            let line: Vec<&str> = line.into_iter().map(|number| LINES[number]).collect();
            both_ways(&mut database, &format!("-- {}", line.join(" -- ")));
        }
    }
}

#[test]
fn a_command_reads_what_it_names() {
    const PORTS: usize = 300;
    let mut database = Database::new(schema());
    assert!(both_ways(&mut database, "add-br br0 -- add-br f0 br0 5"));
    let ports: Vec<String> = (0..PORTS).map(|i| format!("add-port br0 p{i} tag={}", i % 7)).collect();
    assert!(both_ways(&mut database, &format!("-- {}", ports.join(" -- "))));
    for line in [
        "list-br",
        "br-exists br0",
        "br-exists nope",
        "br-to-vlan f0",
        "add-br br1",
        "del-br br0",
        "br-set-external-id br0 a b",
        "get-controller br0",
        "add-port br0 new tag=3",
        "--may-exist add-port br0 p7",
        "--may-exist add-port br0 new -- set Interface new external_ids:a=b -- set Port new tag=4",
        "add-bond br0 new n1 n2",
        "add-bond-iface p7 n1",
        "--if-exists del-bond-iface n1",
        "del-port p7",
        "del-port br0 p7",
        "--if-exists del-port nope",
        "port-to-br p7",
        "iface-to-br p7",
        "set Port p7 tag=9",
        "get Interface p7 type",
        "list Port p7",
        "find Interface name=p7",
        "find Port external_ids:a=b",
        "wait-until Port p7",
        "--if-exists destroy Port nope",
        "list QoS",
    ] {
        let (ran, count) = attempt(&database, line, Needs::named);
        assert!(is_final(&ran), "{line}: {ran:?}");
        assert!(count <= 12, "{line} reads {count} rows");
    }
    let (_, count) = attempt(&database, "list-ports br0", Needs::named);
    assert!(count <= PORTS + 12, "list-ports reads {count} rows");
}
