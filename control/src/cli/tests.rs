//! Do the grammar, the tables, the transaction and the help do what they promise?

use super::commands::Stop;
use super::grammar::{Invocation, Page, parse};
use super::output::{Cell, DataFormat, Format, Style, Table};
use super::snapshot::Snapshot;
use super::table::COMMANDS;
use super::transaction::{Row, Transaction};
use super::{help, nearest};
use crate::datum::Datum;
use crate::schema::vswitch::schema;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

fn words(line: &str) -> Result<Invocation, Stop> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    parse(&words)
}

fn parsed(line: &str) -> Invocation {
    words(line).unwrap_or_else(|stop| panic!("{line}: {stop:?}"))
}

fn refused(line: &str) -> String {
    match words(line) {
        Err(Stop::Fail { message, status: 1, .. }) => message,
        Err(other) => panic!("{line}: {other:?}"),
        Ok(_) => panic!("{line} is accepted"),
    }
}

#[test]
fn options_are_read_in_every_form() {
    for line in ["-t3 list-br", "-t 3 list-br", "--timeout=3 list-br", "--timeout 3 list-br", "--ti=3 list-br"] {
        assert_eq!(parsed(line).timeout, Some(Some(Duration::from_secs(3))), "{line}");
    }
    assert_eq!(parsed("list-br").timeout, None, "which name we have decides");
    assert_eq!(parsed("-t0 list-br").timeout, Some(None));
    assert_eq!(parsed("--db=/x list-br").db.as_deref(), Some("/x"));
    let style = parsed("--bare list port").style;
    assert_eq!((style.format, style.data, style.headings), (Format::List, DataFormat::Bare, false));
    assert!(!parsed("--no-wait list-br").wait);
    assert_eq!(parsed("add-br x --help").page, None);
    assert_eq!(parsed("-h nonsense").page, Some(Page::Help));
    assert_eq!(parsed("-V").page, Some(Page::Version));
}

#[test]
fn commands_are_chained_with_their_own_options() {
    let line = parsed("--may-exist add-br a -- --if-exists del-port b c -- --id=@x create Mirror name=m --");
    let names: Vec<&str> = line.commands.iter().map(|command| command.name.as_str()).collect();
    assert_eq!(names, ["add-br", "del-port", "create"]);
    assert!(line.commands[0].has("--may-exist") && !line.commands[1].has("--may-exist"));
    assert_eq!(line.commands[1].args, ["b", "c"]);
    assert_eq!(line.commands[2].value("--id"), Some("@x"));
    assert_eq!(line.commands[0].words(), "--may-exist add-br a");
}

#[test]
fn bad_lines_are_refused_precisely() {
    for (line, message) in [
        ("", "missing command name (use --help for help)"),
        ("frob", "unknown command 'frob'; use --help for help"),
        ("list-br x", "'list-br' command takes at most 0 arguments"),
        ("del-br", "'del-br' command requires at least 1 arguments"),
        ("--frob list-br", "unrecognized option '--frob'"),
        ("-x list-br", "invalid option -- 'x'"),
        ("-t", "option requires an argument -- 't'"),
        ("-t x list-br", "value x on -t or --timeout is invalid"),
        ("--dry-run=1 list-br", "option '--dry-run' doesn't allow an argument"),
        ("-f frob list port", "unknown output format \"frob\""),
        (
            "fdb/show br0 -- list-br",
            "'fdb/show' is not part of a transaction and cannot be chained with \"--\"; run it by itself",
        ),
        (
            "list-br -- version",
            "'version' is not part of a transaction and cannot be chained with \"--\"; run it by itself",
        ),
        ("-p key list-br", "--private-key: TLS is not supported; the daemon listens on a Unix socket (--db=unix:PATH)"),
    ] {
        assert_eq!(refused(line), message, "{line}");
    }
    assert!(
        refused("--no list-br").starts_with("option '--no' is ambiguous; possibilities: '--no-syslog' '--no-wait'")
    );
}

#[test]
fn a_runtime_command_takes_its_format_before_or_after_its_name() {
    for line in [
        "-f json fdb/show br0",
        "--format=json fdb/show br0",
        "fdb/show br0 --format=json",
        "fdb/show --format json br0",
        "fdb/show -fjson br0",
        "fdb/show br0 -f json",
    ] {
        let parsed = parsed(line);
        assert_eq!(parsed.style.format, Format::Json, "{line}");
        assert_eq!(parsed.commands[0].args, ["br0"], "{line}");
    }
    assert_eq!(parsed("dpctl/show a b c").commands[0].args.len(), 3);
    assert_eq!(refused("fdb/show"), "'fdb/show' command requires at least 1 arguments");
    assert_eq!(refused("fdb/show a b"), "'fdb/show' command takes at most 1 arguments");
}

#[test]
fn a_command_of_two_words_may_have_a_slash_or_a_space() {
    for (line, name, args) in [
        ("route add 10.0.0.0/8 via 10.1.1.1", "route add", &["10.0.0.0/8", "via", "10.1.1.1"][..]),
        ("route/add 10.0.0.0/8 via 10.1.1.1", "route add", &["10.0.0.0/8", "via", "10.1.1.1"]),
        ("fdb show br0", "fdb/show", &["br0"]),
        ("fdb show br0 -f json", "fdb/show", &["br0"]),
        ("fdb/show br0", "fdb/show", &["br0"]),
        ("list Route", "list", &["Route"]),
    ] {
        let command = &parsed(line).commands[0];
        assert_eq!(
            (command.name.as_str(), &command.args[..]),
            (name, &args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()[..]),
            "{line}"
        );
    }
    assert_eq!(parsed("--may-exist route add default via 10.1.1.1 -- route del ::/0").commands.len(), 2);
    assert_eq!(refused("route add"), "'route add' command requires at least 2 arguments");
    assert_eq!(refused("--if-exists route add a b"), "'route add' command has no '--if-exists' option");
    assert_eq!(refused("route frob"), "unknown command 'route'; use --help for help");
    let Err(Stop::Fail { hint, .. }) = words("neigh") else { panic!("neigh alone is no command") };
    assert!(hint.as_deref().is_some_and(|hint| hint.starts_with("it goes on with one of: add, del")), "{hint:?}");
}

#[test]
fn every_command_is_explained_and_completed() {
    let page = help::page("shuntctl");
    for spec in COMMANDS {
        assert!(page.contains(spec.help) && !spec.help.is_empty(), "{} is not explained", spec.name);
        for shell in ["bash", "zsh", "fish"] {
            let script = help::completion(shell).unwrap();
            assert!(spec.name.split(' ').all(|word| script.contains(word)), "{shell} does not know {}", spec.name);
        }
    }
    for heading in ["Usage:", "Options:", "Exit status:", "Examples:", "Environment:", "Files:"] {
        assert!(page.contains(heading), "{heading}");
    }
    assert!(help::completion("csh").is_err());
    assert_eq!(help::commands().lines().count(), COMMANDS.len());
}

#[test]
fn a_slip_of_the_finger_is_understood() {
    let names = ["list-br", "list-ports", "add-br", "tag", "trunks"];
    for (typed, meant) in [("lst-br", "list-br"), ("ad-br", "add-br"), ("tga", "tag"), ("trunk", "trunks")] {
        assert_eq!(nearest(typed, names.into_iter()), Some(meant), "{typed}");
    }
    assert_eq!(nearest("x", names.into_iter()), None);
    assert_eq!(nearest("frobnicate", names.into_iter()), None);
}

fn sample() -> Table {
    let schema = schema();
    let columns = schema.table("Port").unwrap();
    let kind = |name: &str| columns.column(name).unwrap().kind.clone();
    let row = |name: &str, trunks: Datum| {
        vec![Cell { value: Datum::from(name), kind: kind("name") }, Cell { value: trunks, kind: kind("trunks") }]
    };
    Table {
        headings: vec!["name".into(), "trunks".into()],
        rows: vec![row("p,0", Datum::from_iter([1_i64, 2])), row("<p>", Datum::Set([].into()))],
    }
}

#[test]
fn tables_have_every_layout() {
    let style = |format| Style { format, ..Style::default() };
    let text = |format| sample().format(&style(format), true);
    assert_eq!(
        text(Format::List),
        "name                : \"p,0\"\ntrunks              : [1, 2]\n\nname                : \"<p>\"\ntrunks              : []\n"
    );
    assert_eq!(text(Format::Table), "name  trunks\n----- ------\n\"p,0\" [1, 2]\n\"<p>\" []\n");
    assert_eq!(text(Format::Csv), "name,trunks\n\"\"\"p,0\"\"\",\"[1, 2]\"\n\"\"\"<p>\"\"\",[]\n");
    assert_eq!(
        text(Format::Json),
        "{\"data\":[[\"p,0\",[\"set\",[1,2]]],[\"<p>\",[\"set\",[]]]],\"headings\":[\"name\",\"trunks\"]}\n"
    );
    assert!(text(Format::Html).contains("<td>&quot;&lt;p&gt;&quot;</td>"));
    let bare = Style { data: DataFormat::Bare, headings: false, ..style(Format::List) };
    assert_eq!(sample().format(&bare, true), "p,0\n1 2\n\n<p>\n\n");
    let narrow = Style { column_width_max: 2, headings: false, ..style(Format::Table) };
    assert_eq!(sample().format(&narrow, true), "\"p [1\n\"< []\n");
    assert!(sample().format(&style(Format::List), false).starts_with('\n'), "a second table is set apart");
}

/// A transaction on one bridge with one port in its row, and their UUIDs.
fn transaction() -> (Transaction, Uuid, Uuid) {
    let (bridge, port) = (Uuid::new_v4(), Uuid::new_v4());
    let mut row = Row::new();
    row.insert("name".into(), "br0".into());
    row.insert("ports".into(), port.into());
    row.insert("other_config".into(), Datum::from_iter([("a", "1"), ("b", "2")]));
    let rows = BTreeMap::from([("Bridge".to_owned(), BTreeMap::from([(bridge, row)]))]);
    (Transaction::new(Rc::new(schema()), Snapshot { rows, ..Snapshot::default() }), bridge, port)
}

fn operations(txn: &Transaction, op: &str) -> Vec<Value> {
    let (operations, _) = txn.operations().unwrap();
    operations.into_iter().filter(|operation| operation["op"] == op).collect()
}

#[test]
fn only_what_changed_is_sent() {
    let (mut txn, bridge, port) = transaction();
    assert!(txn.operations().unwrap().0.is_empty());
    txn.rely_on_value("Bridge", bridge, "ports");
    txn.replace("Bridge", bridge, "ports", port.into());
    assert!(txn.operations().unwrap().0.is_empty(), "the same value is no change, and a guard alone is nothing");

    let (mut txn, bridge, port) = transaction();
    txn.rely_on_link("Bridge", bridge, "ports", port);
    let added = txn.insert("Port", None, [("name", "p9".into())]);
    txn.link("Bridge", bridge, "ports", added);
    let mutate = operations(&txn, "mutate");
    let name = operations(&txn, "insert")[0]["uuid-name"].clone();
    assert_eq!(mutate[0]["mutations"], json!([["ports", "insert", ["named-uuid", name]]]));
    assert_eq!(operations(&txn, "wait").len(), 2, "the guard, and that the bridge is still there");
}

#[test]
fn a_map_is_changed_key_by_key() {
    let (mut txn, bridge, _) = transaction();
    txn.amend("Bridge", bridge, "other_config", Datum::from_iter([("b", "3"), ("c", "4")]));
    assert_eq!(
        operations(&txn, "mutate")[0]["mutations"],
        json!([
            ["other_config", "delete", ["set", ["a", "b", "c"]]],
            ["other_config", "insert", ["map", [["b", "3"], ["c", "4"]]]]
        ])
    );
    txn.replace("Bridge", bridge, "other_config", Datum::from_iter([("b", "3")]));
    assert!(operations(&txn, "mutate").is_empty());
    assert_eq!(operations(&txn, "update")[0]["row"], json!({"other_config": ["map", [["b", "3"]]]}));
}

#[test]
fn what_was_read_is_what_is_relied_on() {
    let (mut txn, bridge, _) = transaction();
    let old = txn.get("Bridge", bridge, "other_config").to_json();
    txn.amend("Bridge", bridge, "other_config", Datum::from_iter([("z", "9")]));
    txn.rely_on_value("Bridge", bridge, "other_config");
    let waits = operations(&txn, "wait");
    assert!(waits.iter().any(|wait| wait["rows"] == json!([{"other_config": old}])), "{waits:?}");
}

#[test]
fn rows_are_deleted_only_where_no_reference_keeps_them() {
    let (mut txn, bridge, _) = transaction();
    txn.delete("Bridge", bridge);
    assert!(txn.operations().unwrap().0.is_empty(), "the daemon deletes a bridge that nobody refers to");
    let queue = txn.insert("Queue", None, []);
    txn.delete("Queue", queue);
    assert!(txn.operations().unwrap().0.is_empty(), "made and deleted in one transaction");
}
