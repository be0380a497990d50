//! What do the commands read before they run? The rows that they name where that is enough, else whole tables, so that
//! a command costs what it touches and not what there is.

use super::commands::Stop;
use super::grammar::Command;
use super::table::Action;
use crate::schema::DatabaseSchema;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Rows of one table asked for by name, or names of bridges, ports and interfaces: with more, all rows are read at once.
const NAMED_MAX: usize = 64;

/// What [`Context::topology`](super::commands::Context) is made of, if all of it is read.
const TREE: [(&str, &[&str]); 4] = [
    ("Open_vSwitch", &["bridges"]),
    ("Bridge", &["name", "ports"]),
    ("Port", &["name", "fake_bridge", "tag", "interfaces"]),
    ("Interface", &["name"]),
];

/// What is read of a table.
#[derive(Default)]
struct Wanted {
    columns: BTreeSet<String>,
    /// All rows.
    whole: bool,
    /// Else those that one of these `where` clauses, as text, means.
    conditions: BTreeSet<String>,
}

impl Wanted {
    fn is_whole(&self) -> bool {
        self.whole || self.conditions.len() > NAMED_MAX
    }
}

/// How much of bridges, ports and interfaces, and of what hangs where.
#[derive(Default)]
struct Tree {
    /// Ports and interfaces that matter.
    names: BTreeSet<String>,
    /// Every port matters.
    ports: bool,
    /// Every interface matters, too.
    interfaces: bool,
}

/// The tables, columns and rows to fetch before the commands run.
pub struct Needs {
    /// What can be fetched.
    pub schema: Rc<DatabaseSchema>,
    /// Things to tell the user that stop nothing.
    pub warnings: Vec<String>,
    tables: BTreeMap<String, Wanted>,
    tree: Option<Tree>,
}

/// What one transaction reads.
pub(super) struct Plan {
    /// Columns of each table, beside `_uuid`.
    pub(super) columns: BTreeMap<String, BTreeSet<String>>,
    /// Tables, with a `where` clause.
    pub(super) selects: Vec<(String, Value)>,
    /// Tables of which not every row is read.
    pub(super) partial: BTreeSet<String>,
    /// For the ports and interfaces that were read, what they belong to and what belongs to them is read, too.
    pub(super) places: bool,
}

impl Needs {
    /// Of commands that read nothing.
    pub fn nothing(_: &mut Needs, _: &Command) -> Result<(), Stop> {
        Ok(())
    }

    /// Of these commands, and the row of the switch.
    pub(super) fn of(schema: DatabaseSchema, commands: &[Command]) -> Result<Needs, Stop> {
        let schema = Rc::new(schema);
        let mut needs = Needs { schema, warnings: vec![], tables: BTreeMap::new(), tree: None };
        needs.all(super::DATABASE, &[]);
        for command in commands {
            if let Action::Config { needs: add, .. } = command.spec.action {
                add(&mut needs, command)?;
            }
        }
        Ok(needs)
    }

    /// Columns of the rows that are read, as far as the database has them; `name` comes with every table, to sort by.
    pub(super) fn columns(&mut self, table: &str, columns: &[&str]) {
        let Some(schema) = self.schema.table(table) else {
            return;
        };
        let wanted = &mut self.tables.entry(table.to_owned()).or_default().columns;
        let known = |column: &&&str| schema.column(column).is_some();
        wanted.extend(columns.iter().chain(&["name"]).filter(known).map(|c| (*c).to_owned()));
    }

    /// Columns of all rows.
    pub(super) fn all(&mut self, table: &str, columns: &[&str]) {
        self.columns(table, columns);
        if let Some(wanted) = self.tables.get_mut(table) {
            wanted.whole = true;
        }
    }

    /// The rows that meet `conditions`, in the form of RFC 7047.
    pub(super) fn rows(&mut self, table: &str, conditions: &[Value]) {
        self.columns(table, &[]);
        if let Some(wanted) = self.tables.get_mut(table) {
            wanted.conditions.insert(json!(conditions).to_string());
        }
    }

    /// The bridges, fake ones too.
    pub(super) fn bridges(&mut self) {
        self.tree.get_or_insert_default();
    }

    /// Whatever bridge, port or interface has this name, and what it belongs to.
    pub(super) fn place(&mut self, name: &str) {
        self.tree.get_or_insert_default().names.insert(name.to_owned());
    }

    /// All ports of all bridges.
    pub(super) fn ports(&mut self) {
        self.tree.get_or_insert_default().ports = true;
    }

    /// All interfaces of all ports.
    pub(super) fn interfaces(&mut self) {
        self.tree.get_or_insert_default().interfaces = true;
    }

    /// Everything of every table and column that matters.
    pub(super) fn whole(&self) -> Plan {
        let mut columns: BTreeMap<_, _> =
            self.tables.iter().map(|(table, wanted)| (table.clone(), wanted.columns.clone())).collect();
        for (table, more) in TREE.iter().filter(|_| self.tree.is_some()) {
            columns.entry((*table).to_owned()).or_default().extend(more.iter().map(|column| (*column).to_owned()));
        }
        let selects = columns.keys().map(|table| (table.clone(), json!([]))).collect();
        Plan { columns, selects, partial: BTreeSet::new(), places: false }
    }

    /// The rows that the commands name; whole tables where that could miss something.
    pub(super) fn named(&self) -> Plan {
        let Some(tree) = &self.tree else {
            return self.tables_alone();
        };
        // A row may vanish with its bridge: of every port that some command reads it must be known where it hangs.
        let conditions = ["Port", "Interface"].into_iter().filter_map(|table| self.tables.get(table));
        let others = conditions.flat_map(|wanted| &wanted.conditions).map(|clause| name_in(clause));
        let names: Option<BTreeSet<String>> = others.chain(tree.names.iter().cloned().map(Some)).collect();
        let is_whole = |table: &str| self.tables.get(table).is_some_and(Wanted::is_whole);
        let fits = |names: &BTreeSet<String>| if tree.ports { names.is_empty() } else { names.len() <= NAMED_MAX };
        match names.filter(fits) {
            Some(names) if !tree.interfaces && !is_whole("Port") && !is_whole("Interface") => {
                self.tree_of(&names, tree.ports)
            }
            _ => self.whole(),
        }
    }

    /// All bridges, and of ports and interfaces those of these names; or all ports without their interfaces.
    fn tree_of(&self, names: &BTreeSet<String>, ports: bool) -> Plan {
        let mut plan = self.tables_alone();
        plan.selects.retain(|(table, _)| !TREE.iter().any(|(known, _)| known == table));
        for (table, columns) in TREE {
            let is_read = |column: &&&str| match **column {
                "ports" => ports,
                "interfaces" => !names.is_empty(),
                _ => true,
            };
            let wanted = plan.columns.entry(table.to_owned()).or_default();
            wanted.extend(columns.iter().filter(is_read).map(|column| (*column).to_owned()));
        }
        plan.partial.remove("Bridge");
        plan.partial.extend(["Port", "Interface"].map(str::to_owned));
        plan.places = true;
        let mut select = |table: &str, conditions: Value| plan.selects.push((table.to_owned(), conditions));
        select("Open_vSwitch", json!([]));
        select("Bridge", json!([]));
        select("Port", if ports { json!([]) } else { json!([["fake_bridge", "==", true]]) });
        for (table, name) in ["Port", "Interface"].into_iter().flat_map(|t| names.iter().map(move |name| (t, name))) {
            select(table, json!([["name", "==", name]]));
        }
        plan
    }

    /// The tables without the tree.
    fn tables_alone(&self) -> Plan {
        let mut plan = Plan { columns: BTreeMap::new(), selects: vec![], partial: BTreeSet::new(), places: false };
        for (table, wanted) in &self.tables {
            plan.columns.insert(table.clone(), wanted.columns.clone());
            if wanted.is_whole() {
                plan.selects.push((table.clone(), json!([])));
                continue;
            }
            plan.partial.insert(table.clone());
            let conditions = wanted.conditions.iter().filter_map(|text| serde_json::from_str(text).ok());
            plan.selects.extend(conditions.map(|conditions| (table.clone(), conditions)));
        }
        plan
    }
}

/// The name in `[["name","==",NAME]]`; `None` for every other clause.
fn name_in(conditions: &str) -> Option<String> {
    let clause: Value = serde_json::from_str(conditions).ok()?;
    match clause.as_array()?.as_slice() {
        [clause] if clause[0] == "name" && clause[1] == "==" => Some(clause[2].as_str()?.to_owned()),
        _ => None,
    }
}
