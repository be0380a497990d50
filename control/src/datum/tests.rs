//! Do values survive the wire and the text form, and are bad ones refused with the right words?

use super::*;
use crate::schema::vswitch;
use serde_json::json;

fn column(table: &str, name: &str) -> ColumnType {
    vswitch::schema().table(table).and_then(|t| t.column(name)).expect("column").kind.clone()
}

fn parse(table: &str, name: &str, text: &str) -> Result<Datum, String> {
    let mut symbols = |_: &str| Ok(Uuid::from_u128(7));
    Datum::parse(text, &column(table, name), &mut symbols).map_err(|e| e.to_string())
}

#[test]
fn wire_forms_go_both_ways() {
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    for (table, name, wire) in [
        ("Port", "tag", json!(7)),
        ("Port", "tag", json!(["set", []])),
        ("Port", "trunks", json!(["set", [1, 2, 4095]])),
        ("Bridge", "stp_enable", json!(true)),
        ("Bridge", "ports", json!(["uuid", uuid])),
        ("Bridge", "external_ids", json!(["map", [["", "b\u{e9}\n"], ["c d", "e"]]])),
        ("Bridge", "flow_tables", json!(["map", [[3, ["uuid", uuid]]]])),
    ] {
        let datum = Datum::from_json(&wire, &column(table, name), &no_names).expect("valid");
        assert_eq!(datum.to_json(), wire);
    }
    let one = Datum::from_json(&json!(["set", [3.0]]), &column("Port", "tag"), &no_names);
    assert_eq!(one, Ok(Datum::from(3)), "a set of one and a whole real are the integer");
}

#[test]
fn wire_errors_are_precise() {
    for (table, name, wire, message) in [
        ("Port", "tag", json!(4096), "constraint violation: 4096 is not in the valid range 0 to 4095 (inclusive)"),
        ("Port", "tag", json!("x"), "expected integer: \"x\""),
        ("Port", "tag", json!(1.5), "expected integer: 1.5"),
        ("Port", "tag", json!(["set", [1, 2]]), "set must have 0 to 1 members but 2 are present: [\"set\",[1,2]]"),
        ("Port", "name", json!(["set", []]), "set must have exactly one member but 0 are present: [\"set\",[]]"),
        ("Port", "trunks", json!(["set", [1, 1]]), "set contains duplicate"),
        ("Port", "trunks", json!(["map", []]), "expected integer: [\"map\",[]]"),
        ("Port", "external_ids", json!(["map", [["a"]]]), "expected 2-element array: [\"a\"]"),
        ("Port", "external_ids", json!(["map", [["a", "b"], ["a", "c"]]]), "map contains duplicate key"),
        ("Port", "external_ids", json!({}), "expected [\"map\", <array>]: {}"),
        ("Port", "name", json!("a\0b"), "expected string: \"a\\u0000b\""),
        ("Port", "interfaces", json!(["named-uuid", "x"]), "there are no names of rows here: [\"named-uuid\",\"x\"]"),
        ("Port", "interfaces", json!(["uuid", "x"]), "\"x\" is not a valid UUID: [\"uuid\",\"x\"]"),
        (
            "Port",
            "lacp",
            json!("on"),
            "constraint violation: on is not one of the allowed values ([active, off, passive])",
        ),
        ("Controller", "max_backoff", json!(9), "constraint violation: 9 is less than minimum allowed value 1000"),
    ] {
        let error = Datum::from_json(&wire, &column(table, name), &no_names).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
}

/// Outputs of `ovs-vsctl get` 3.1 for these strings.
#[test]
fn strings_are_quoted_where_ovs_vsctl_quotes_them() {
    for bare in ["abc", "a1", "a-b", "a.b", "_x", "TRUE", "a_9"] {
        assert_eq!(Atom::from(bare).to_string(), bare);
    }
    for quoted in ["1a", "true", "", "a b", "a/b", "a:b", "-a", ".a", "10", "\u{e9}", "@x"] {
        assert_eq!(Atom::from(quoted).to_string(), format!("\"{quoted}\""));
    }
    assert_eq!(Atom::from("a\"b\n").to_string(), r#""a\"b\n""#);
    assert_eq!(
        Atom::from("550e8400-e29b-41d4-a716-446655440000").to_string(),
        "\"550e8400-e29b-41d4-a716-446655440000\""
    );
}

#[test]
fn text_forms() {
    for (table, name, typed, printed, bare) in [
        ("Port", "tag", "7", "7", "7"),
        ("Port", "tag", "[]", "[]", ""),
        ("Port", "tag", "[7]", "7", "7"),
        ("Port", "trunks", "9,1-4", "[1, 2, 3, 4, 9]", "1 2 3 4 9"),
        ("Port", "trunks", " [1 2] ", "[1, 2]", "1 2"),
        ("Port", "trunks", "1,2,", "[1, 2]", "1 2"),
        ("Port", "trunks", "3", "[3]", "3"),
        ("Bridge", "stp_enable", "yes", "true", "true"),
        ("Port", "external_ids", "a=b,c=\"d e\"", "{a=b, c=\"d e\"}", "a=b c=d e"),
        ("Port", "external_ids", "{ }", "{}", ""),
        ("Port", "name", "\"a\\tb\"", "\"a\\tb\"", "a\tb"),
        ("Port", "name", "\"a\tb\"", "\"a\\tb\"", "a\tb"),
    ] {
        let datum = parse(table, name, typed).expect(typed);
        assert_eq!(datum.to_text(&column(table, name)), printed);
        assert_eq!(datum.to_bare(), bare);
        assert_eq!(parse(table, name, printed), Ok(datum), "what is printed reads back");
    }
}

/// Messages of `ovs-vsctl set` 3.1 for these arguments.
#[test]
fn text_errors_are_those_of_ovs_vsctl() {
    for (table, name, typed, message) in [
        ("Bridge", "flood_vlans", "4096", "constraint violation: 4096 is not in the valid range 0 to 4095 (inclusive)"),
        ("Bridge", "flood_vlans", "x", "\"x\" is not a valid integer or range"),
        ("Bridge", "flood_vlans", "5-", "\"5-\" is not a valid integer or range"),
        ("Bridge", "flood_vlans", "\"5\"", "\"\"5\"\" is not a valid integer or range"),
        ("Bridge", "flood_vlans", "9-2", "\"9-2\" is not a valid range. Range end cannot be before start."),
        ("Bridge", "flood_vlans", "-1-5", "constraint violation: -1 is not in the valid range 0 to 4095 (inclusive)"),
        ("Bridge", "flood_vlans", "[1", "[1: missing \"]\" at end of data"),
        ("Bridge", "flood_vlans", "[1]x", "[1]x: trailing garbage after \"]\""),
        ("Bridge", "flood_vlans", "1,1", "1,1: set contains duplicate value"),
        ("Bridge", "flood_vlans", "[1,,2]", "[1,,2]: unexpected \",\" parsing set of up to 4096 integers"),
        (
            "Bridge",
            "fail_mode",
            "zz",
            "constraint violation: zz is not one of the allowed values ([secure, standalone])",
        ),
        (
            "Bridge",
            "fail_mode",
            "[secure,standalone]",
            "[secure,standalone]: 2 value(s) specified but the maximum number is 1",
        ),
        ("Bridge", "stp_enable", "maybe", "\"maybe\" is not a valid boolean (use \"true\" or \"false\")"),
        ("Bridge", "stp_enable", "[]", "[]: 0 value(s) specified but the minimum number is 1"),
        ("Bridge", "external_ids", "a=b=c", "a=b=c: unexpected \"=\" parsing map of (string, string) pairs"),
        ("Bridge", "external_ids", "a=1,a=2", "a=1,a=2: map contains duplicate key"),
        ("Bridge", "external_ids", "a", "a: syntax error at \"\" expecting \"=\""),
        ("Bridge", "datapath_type", "a!b", "a!b: unexpected \"!\" parsing string"),
        ("Bridge", "datapath_type", "\"abc", "\"abc: quoted string extends past end of argument"),
        ("Bridge", "datapath_type", "\"a\"b", "\"a\"b: missing quote at end of quoted string"),
        ("Bridge", "datapath_type", "\"a\\qb\"", "\"a\\qb\": bad escape \\q"),
        ("Bridge", "datapath_type", "\"\\u00zz\"", "\"\\u00zz\": malformed \\u escape"),
        ("Bridge", "netflow", "abc", "\"abc\" is not a valid UUID"),
    ] {
        assert_eq!(parse(table, name, typed), Err(message.to_owned()));
    }
}

#[test]
fn symbols_are_looked_up() {
    assert_eq!(parse("Bridge", "netflow", "@n"), Ok(Datum::from(Uuid::from_u128(7))));
}
