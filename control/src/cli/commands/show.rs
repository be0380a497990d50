//! What does the switch look like? `show` prints bridges, ports, interfaces and what is unusual about them.

use super::{Context, Needs, Stop};
use crate::cli::grammar::Command;
use crate::datum::Datum;
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
        beyond: &[],
    },
    Shown {
        table: "Bridge",
        named_by: Some("name"),
        columns: &["controller", "fail_mode", "datapath_type", "ports"],
        beyond: &[],
    },
    Shown {
        table: "Port",
        named_by: Some("name"),
        columns: &["tag", "trunks", "interfaces"],
        beyond: &[("vlan_mode", None)],
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
        needs.add(shown.table, shown.columns);
        needs.add(shown.table, shown.named_by.as_slice());
        for (column, _) in shown.beyond {
            needs.add(shown.table, &[column]);
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
    Ok(())
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
        if *name == "interfaces" && !ctx.as_ovs {
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
        let value = ctx.txn.get(shown.table, row, column);
        let (name, value) = match key {
            Some(key) => (*key, value.get(key).map(str::to_owned)),
            None => (*column, value.as_str().map(str::to_owned)),
        };
        if let Some(value) = value {
            ctx.print(&format!("{indent}    {name}: {value}"));
        }
    }
}
