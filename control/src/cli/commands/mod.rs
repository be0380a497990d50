//! What do the commands work with? The client's copy of the database, symbols such as `@name`, and the output.

use super::needs::Needs;
use super::output::Table;
use super::transaction::Transaction;
use crate::datum::{Atom, Datum, DatumError};
use crate::routing::text::Wrong;
use crate::schema::{BaseType, ColumnSchema, ColumnType, DatabaseSchema};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use uuid::Uuid;

pub mod bridge;
mod condition;
pub mod database;
pub mod legacy;
mod names;
pub mod neighbor;
pub(super) use names::{describe_namings, table};
pub mod port;
pub mod route;
pub mod show;
pub mod svi;
pub mod zones;

/// Why an invocation ends, or has to start again.
#[derive(Debug)]
pub enum Stop {
    /// Print the message and the remedy; exit with the status.
    Fail {
        /// In the words of `ovs-vsctl`.
        message: String,
        /// What the user can do.
        hint: Option<String>,
        /// The exit status.
        status: u8,
    },
    /// Exit without a word.
    Exit(u8),
    /// A condition does not hold yet, or somebody else changed what was read: read again.
    TryAgain,
    /// The rows that were read do not suffice: read whole tables.
    ReadAll,
}

impl Stop {
    /// Exit status 1.
    pub fn new(message: impl Into<String>) -> Stop {
        Stop::Fail { message: message.into(), hint: None, status: 1 }
    }

    /// As [`Stop::new`], as an error of any result.
    pub fn fail<T>(message: impl Into<String>) -> Result<T, Stop> {
        Err(Stop::new(message))
    }

    /// Adds the remedy.
    pub fn hint(mut self, remedy: Option<impl Into<String>>) -> Stop {
        if let Stop::Fail { hint, .. } = &mut self {
            *hint = remedy.map(Into::into);
        }
        self
    }
}

impl From<Wrong> for Stop {
    fn from(wrong: Wrong) -> Stop {
        Stop::new(wrong.what).hint(Some(wrong.remedy))
    }
}

/// A value that was refused.
fn refuse(error: DatumError) -> Stop {
    Stop::new(error.to_string())
}

/// A row named with `--id=@NAME`, or referred to as `@NAME`.
#[derive(Clone, Copy)]
struct Symbol {
    uuid: Uuid,
    created: bool,
    /// Somebody refers to it: weakly or strongly.
    weak: bool,
    strong: bool,
}

/// A router of a new route.
pub(super) struct Router {
    pub(super) via: IpAddr,
    pub(super) dev: Option<String>,
    pub(super) vrf: Option<String>,
}

/// What a command runs on.
pub struct Context {
    /// What the database looks like.
    pub schema: Rc<DatabaseSchema>,
    /// The client's copy, and what was changed in it.
    pub txn: Transaction,
    /// What the command prints.
    pub out: String,
    /// What `list` and `find` print.
    pub table: Option<Table>,
    /// What the command prints with `--format=json`.
    pub json: Option<Value>,
    /// Print exactly what `ovs-vsctl` prints.
    pub as_ovs: bool,
    /// Things to tell the user that stop nothing.
    pub warnings: Vec<String>,
    /// Routers of new routes that no SVI has on its link: another interface must have them.
    pub(super) routers: Vec<Router>,
    symbols: BTreeMap<String, Symbol>,
}

impl Context {
    /// At the start of an attempt.
    pub fn new(schema: Rc<DatabaseSchema>, txn: Transaction, as_ovs: bool) -> Context {
        Context {
            schema,
            txn,
            out: String::new(),
            table: None,
            json: None,
            as_ovs,
            warnings: vec![],
            routers: vec![],
            symbols: BTreeMap::new(),
        }
    }

    /// A line of output.
    pub fn print(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// A line of output that is one string.
    pub fn answer(&mut self, line: &str) {
        self.print(line);
        self.tell(line.into());
    }

    /// What the command prints with `--format=json`. `ovs-vsctl` knows that for `list` and `find` alone.
    pub fn tell(&mut self, json: Value) {
        if !self.as_ovs {
            self.json = Some(json);
        }
    }

    /// Lines of output in alphabetical order.
    pub fn print_sorted<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        let mut lines: Vec<&str> = lines.into_iter().collect();
        lines.sort_unstable();
        lines.iter().for_each(|line| self.print(line));
        self.tell(lines.into());
    }

    fn symbol(&mut self, id: &str) -> &mut Symbol {
        self.symbols.entry(id.to_owned()).or_insert_with(|| Symbol {
            uuid: Uuid::new_v4(),
            created: false,
            weak: false,
            strong: false,
        })
    }

    /// Reads what a user typed for a column of `kind`.
    fn parse(&mut self, text: &str, kind: &ColumnType) -> Result<Datum, Stop> {
        let datum = Datum::parse(text, kind, &mut |id| Ok(self.symbol(id).uuid)).map_err(refuse)?;
        self.note_references(&datum, kind);
        Ok(datum)
    }

    /// Reads what a user typed for one key or one value: all of `text` is the atom, spaces and commas included.
    fn parse_atom(&mut self, text: &str, base: &BaseType) -> Result<Atom, Stop> {
        if base.kind == crate::schema::AtomType::String && !text.starts_with('"') {
            let atom = Atom::from(text);
            base.check(&atom).map_err(refuse)?;
            return Ok(atom);
        }
        Atom::parse(text, base, &mut |id| Ok(self.symbol(id).uuid)).map_err(refuse)
    }

    /// Remembers which symbols a value refers to, and how.
    fn note_references(&mut self, datum: &Datum, kind: &ColumnType) {
        let Some(reference) = kind.references().next() else {
            return;
        };
        let values = datum.pairs().map(|(_, value)| value);
        for atom in datum.elements().chain(values) {
            let Atom::Uuid(uuid) = atom else { continue };
            for symbol in self.symbols.values_mut().filter(|s| s.uuid == *uuid) {
                symbol.weak |= reference.weak;
                symbol.strong |= !reference.weak;
            }
        }
    }

    /// Marks `id` as created here, with `uuid` if the row exists already; gives the row's UUID.
    fn create_symbol(&mut self, id: &str, uuid: Option<Uuid>) -> Result<Uuid, Stop> {
        if !id.starts_with('@') {
            return Stop::fail(format!("row id \"{id}\" does not begin with \"@\""));
        }
        let known = self.symbols.contains_key(id);
        let symbol = self.symbol(id);
        if symbol.created {
            return Stop::fail(format!("row id \"{id}\" may only be specified on one --id option"));
        }
        symbol.created = true;
        if let Some(uuid) = uuid {
            if known {
                return Stop::fail(format!(
                    "row id \"{id}\" specified on \"get\" command was used before it was defined"
                ));
            }
            symbol.uuid = uuid;
            symbol.strong = true;
        }
        Ok(symbol.uuid)
    }

    /// After the last command: every symbol must have been created, and should be referred to.
    pub fn check_symbols(&mut self) -> Result<(), Stop> {
        for (id, symbol) in &self.symbols {
            if !symbol.created {
                return Stop::fail(format!(
                    "row id \"{id}\" is referenced but never created (e.g. with \"-- --id={id} create ...\")"
                ));
            }
            if !symbol.strong {
                let what = match symbol.weak {
                    true => "only a weak reference to it was inserted",
                    false => "no reference to it was inserted",
                };
                self.warnings.push(format!(
                    "row id \"{id}\" was created but {what}, so it will not actually appear in the database"
                ));
            }
        }
        Ok(())
    }

    /// Refuses to change a column that is fixed after the row was inserted.
    fn check_mutable(&self, table: &str, row: Uuid, column: &ColumnSchema) -> Result<(), Stop> {
        if column.mutable || self.txn.is_inserted(row) {
            return Ok(());
        }
        Stop::fail(format!("cannot modify read-only column {} in table {table}", column.name))
    }
}
