//! What does the switch look like? `show` prints bridges, ports, interfaces and what is unusual about them.

use super::{Context, Needs, Stop};
use crate::cli::grammar::Command;
use crate::cli::output::plain_column;
use crate::datum::{Atom, Datum};
use serde_json::Value;
use uuid::Uuid;

/// A table in the tree, and which of its columns are printed below a row.
struct Shown {
    table: &'static str,
    named_by: Option<&'static str>,
    columns: &'static [&'static str],
    /// Columns that `ovs-vsctl` does not print: a column, or a key of one.
    beyond: &'static [(&'static str, Option<&'static str>)],
}

static TREE: &[Shown] = &[
    Shown {
        table: "Open_vSwitch",
        named_by: None,
        columns: &["manager_options", "bridges", "ovs_version"],
        beyond: &[("error", None)],
    },
    Shown {
        table: "Bridge",
        named_by: Some("name"),
        columns: &["controller", "fail_mode", "datapath_type", "ports"],
        beyond: &[("status", None)],
    },
    Shown {
        table: "Port",
        named_by: Some("name"),
        columns: &["tag", "trunks", "interfaces"],
        beyond: &[("vlan_mode", None), ("status", None)],
    },
    Shown {
        table: "Interface",
        named_by: Some("name"),
        columns: &["type", "options", "error"],
        beyond: &[("link_state", None), ("status", Some("xdp-mode"))],
    },
    Shown { table: "Controller", named_by: Some("target"), columns: &["is_connected"], beyond: &[] },
    Shown { table: "Manager", named_by: Some("target"), columns: &["is_connected"], beyond: &[] },
];

/// Everything in the tree.
pub fn needs(needs: &mut Needs, _: &Command) -> Result<(), Stop> {
    for shown in TREE {
        needs.all(shown.table, shown.columns);
        needs.all(shown.table, shown.named_by.as_slice());
        for (column, _) in shown.beyond {
            needs.all(shown.table, &[column]);
        }
    }
    Ok(())
}

/// `init` and `comment`: the transaction alone does what there is to do.
pub fn init(_: &mut Context, _: &Command) -> Result<(), Stop> {
    Ok(())
}

/// `show`
pub fn show(ctx: &mut Context, _: &Command) -> Result<(), Stop> {
    let root = ctx.txn.root();
    show_row(ctx, &TREE[0], root, 0);
    let json = row_json(ctx, &TREE[0], root);
    ctx.tell(json);
    Ok(())
}

/// The same tree as nested objects; unlike the text it has every column of the tree, set or not.
fn row_json(ctx: &Context, shown: &Shown, row: Uuid) -> Value {
    let mut json = serde_json::Map::new();
    let Some(table) = ctx.schema.table(shown.table) else {
        return Value::Null;
    };
    json.insert("_uuid".to_owned(), row.to_string().into());
    for name in shown.named_by.iter().chain(shown.columns) {
        let Some(column) = table.column(name) else {
            continue;
        };
        let value = ctx.txn.get(shown.table, row, name);
        let below = column.kind.key.reference.as_ref();
        let value = match below.and_then(|r| TREE.iter().find(|shown| shown.table == r.table)) {
            Some(below) => {
                let mut rows: Vec<Uuid> = value.uuids().filter(|row| ctx.txn.exists(below.table, *row)).collect();
                rows.sort_by_cached_key(|row| ctx.txn.get(below.table, *row, below.named_by.unwrap_or("name")).clone());
                rows.into_iter().map(|row| row_json(ctx, below, row)).collect()
            }
            None => plain_column(value, &column.kind),
        };
        json.insert((*name).to_owned(), value);
    }
    for (column, key) in shown.beyond {
        let value = ctx.txn.get(shown.table, row, column);
        let value = match key {
            Some(key) => value.get(key).into(),
            None => table.column(column).map_or(Value::Null, |column| plain_column(value, &column.kind)),
        };
        json.insert(key.unwrap_or(column).to_owned(), value);
    }
    json.into()
}

fn show_row(ctx: &mut Context, shown: &Shown, row: Uuid, level: usize) {
    let schema = ctx.schema.clone();
    let Some(table) = schema.table(shown.table) else {
        return;
    };
    let text = |ctx: &Context, column: &str| {
        let kind = table.column(column).map(|column| &column.kind);
        kind.map(|kind| ctx.txn.get(shown.table, row, column).to_text(kind)).unwrap_or_default()
    };
    let indent = "    ".repeat(level);
    match shown.named_by {
        Some(column) => {
            let name = text(ctx, column);
            ctx.print(&format!("{indent}{} {name}", shown.table));
        }
        None => ctx.print(&format!("{indent}{row}")),
    }
    for name in shown.columns {
        let Some(column) = table.column(name) else {
            continue;
        };
        // What belongs to this row goes before the rows below it.
        if matches!(*name, "bridges" | "ports" | "interfaces") && !ctx.as_ovs {
            show_beyond(ctx, shown, row, &indent);
        }
        let referred = column.kind.key.reference.as_ref();
        let below = referred.and_then(|r| TREE.iter().find(|shown| shown.table == r.table));
        let value = ctx.txn.get(shown.table, row, name).clone();
        if let Some(below) = below {
            let rows = value.uuids().filter(|row| ctx.txn.exists(below.table, *row));
            let mut rows: Vec<Uuid> = rows.collect();
            let named_by = below.named_by.unwrap_or("name");
            rows.sort_by_cached_key(|row| ctx.txn.get(below.table, *row, named_by).clone());
            rows.into_iter().for_each(|row| show_row(ctx, below, row, level + 1));
        } else if value != Datum::default_of(&column.kind) {
            let value = text(ctx, name);
            ctx.print(&format!("{indent}    {name}: {value}"));
        }
    }
    if shown.table == "Interface" && !ctx.as_ovs {
        show_beyond(ctx, shown, row, &indent);
    }
}

fn show_beyond(ctx: &mut Context, shown: &Shown, row: Uuid, indent: &str) {
    for (column, key) in shown.beyond {
        let value = ctx.txn.get(shown.table, row, column).clone();
        let pairs: Vec<(&str, &str)> = match (key, &value) {
            (Some(key), _) => value.get(key).map(|value| (*key, value)).into_iter().collect(),
            (None, Datum::Map(map)) => {
                map.iter().filter_map(|(key, value)| Some((string(key)?, string(value)?))).collect()
            }
            (None, Datum::Set(_)) => value.as_str().map(|value| (*column, value)).into_iter().collect(),
        };
        pairs.into_iter().for_each(|(name, value)| ctx.print(&format!("{indent}    {name}: {value}")));
    }
}

fn string(atom: &Atom) -> Option<&str> {
    match atom {
        Atom::String(text) => Some(text),
        _ => None,
    }
}
