//! Is our list Open vSwitch's, and does it survive the wire?

use super::*;

#[test]
fn our_schema_survives_the_wire() {
    let schema = vswitch::schema();
    let again = DatabaseSchema::from_json(&schema.to_json()).expect("valid");
    assert_eq!(again, schema);
}

/// Against the file of the Debian package `openvswitch-switch`.
#[test]
fn our_schema_is_that_of_open_vswitch() {
    let path = "/usr/share/openvswitch/vswitch.ovsschema";
    let text = std::fs::read_to_string(path).expect("needs the Debian package openvswitch-switch");
    let theirs = DatabaseSchema::from_json(&serde_json::from_str(&text).expect("JSON")).expect("schema");
    let ours = vswitch::schema();
    for (name, table) in &theirs.tables {
        let mine = ours.table(name).unwrap_or_else(|| panic!("table {name} is missing"));
        assert_eq!((mine.is_root, mine.rows_max), (table.is_root, table.rows_max), "{name}");
        let names = |table: &TableSchema| -> Vec<Vec<String>> {
            let index = |index: &Vec<usize>| index.iter().map(|i| table.columns()[*i].name.clone()).collect();
            table.indexes.iter().map(index).collect()
        };
        assert_eq!(names(mine), names(table), "indexes of {name}");
        for column in table.columns() {
            assert_eq!(mine.column(&column.name), Some(column), "{name}.{}", column.name);
        }
    }
}

#[test]
fn bad_schemas_are_refused() {
    for (json, message) in [
        (r#"{}"#, "schema: database: \"name\" must be a string"),
        (r#"{"name":"D"}"#, "schema: database: \"tables\" must be an object"),
        (r#"{"name":"D","tables":{"T":{"columns":{"c":{}}}}}"#, "schema: T.c: has no \"type\""),
        (r#"{"name":"D","tables":{"T":{"columns":{"c":{"type":"strin"}}}}}"#, "schema: T.c: \"strin\" is not a type"),
        (
            r#"{"name":"D","tables":{"T":{"columns":{"c":{"type":{"key":{"type":"uuid","refTable":"X"}}}}}}}"#,
            "schema: T.c: refers to table \"X\", which does not exist",
        ),
        (
            r#"{"name":"D","tables":{"T":{"columns":{"c":{"type":{"key":"string","min":2}}}}}}"#,
            "schema: T.c: \"min\" must be 0 or 1, and \"max\" at least 1",
        ),
        (
            r#"{"name":"D","tables":{"T":{"columns":{},"indexes":[["x"]]}}}"#,
            "schema: T: \"indexes\" must be lists of the table's columns",
        ),
    ] {
        let error = DatabaseSchema::from_json(&serde_json::from_str(json).expect("JSON")).expect_err(json);
        assert_eq!(error.to_string(), message);
    }
}
