//! Which table, column or record does a user mean? Names may be abbreviated and written in any case, with `-` for `_`.

use super::{Context, Needs, Stop};
use crate::cli::nearest;
use crate::datum::{Atom, Datum, parse_uuid};
use crate::schema::{AtomType, ColumnSchema, DatabaseSchema, TableSchema};
use serde_json::json;
use uuid::Uuid;

/// How well `typed` fits `name`: not at all, as a beginning, but for case and hyphens, exactly.
fn fit(name: &str, typed: &str) -> u8 {
    let fold = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    if name == typed {
        3
    } else if fold(name) == fold(typed) {
        2
    } else {
        (!typed.is_empty() && fold(name).starts_with(&fold(typed))).into()
    }
}

/// The names that fit best.
fn best<'a>(names: impl Iterator<Item = &'a str> + Clone, typed: &str) -> Vec<&'a str> {
    let top = names.clone().map(|name| fit(name, typed)).max();
    let top = top.filter(|top| *top > 0);
    let mut found: Vec<&str> = names.filter(|name| Some(fit(name, typed)) == top).collect();
    found.sort_unstable();
    found
}

/// Finds a table.
pub(in crate::cli) fn table<'a>(schema: &'a DatabaseSchema, typed: &str) -> Result<&'a TableSchema, Stop> {
    let names = schema.tables.keys().map(String::as_str);
    let found = best(names.clone(), typed);
    match found[..] {
        [] => {
            let near = nearest(typed, names).map(|near| format!("did you mean {near}?"));
            Err(Stop::new(format!("unknown table \"{typed}\"")).hint(near))
        }
        [name] => Ok(&schema.tables[name]),
        _ => Stop::fail(format!("\"{typed}\" matches multiple table names: {}", found.join(", "))),
    }
}

/// Finds a column.
pub(super) fn column<'a>(table: &'a TableSchema, typed: &str) -> Result<&'a ColumnSchema, Stop> {
    let names = table.columns().iter().map(|column| column.name.as_str());
    let found = best(names.clone(), typed);
    match found[..] {
        [] => {
            let near = nearest(typed, names).map(|near| format!("did you mean {near}?"));
            let message = format!("{} does not contain a column whose name matches \"{typed}\"", table.name);
            Err(Stop::new(message).hint(near))
        }
        [name] => table.column(name).ok_or_else(|| Stop::new(format!("no column {name}"))),
        _ => Stop::fail(format!(
            "{} contains more than one column whose name matches \"{typed}\": {}",
            table.name,
            found.join(", ")
        )),
    }
}

/// Whether a user asks for the UUID, which is no column.
pub(super) fn is_uuid_column(typed: &str) -> bool {
    typed.eq_ignore_ascii_case("_uuid") || typed.eq_ignore_ascii_case("-uuid")
}

/// The columns of `--columns`, or all in alphabetical order; `None` is the UUID.
pub(super) fn columns<'a>(table: &'a TableSchema, typed: Option<&str>) -> Result<Vec<Option<&'a ColumnSchema>>, Stop> {
    let Some(typed) = typed else {
        let mut all: Vec<_> = table.columns().iter().map(Some).collect();
        all.sort_unstable_by_key(|column| column.map(|column| &column.name));
        all.insert(0, None);
        return Ok(all);
    };
    let words = typed.split([',', ' ']).filter(|word| !word.is_empty());
    let found = words
        .map(|word| match word.eq_ignore_ascii_case("_uuid") {
            true => Ok(None),
            false => column(table, word).map(Some),
        })
        .collect::<Result<Vec<_>, _>>()?;
    match found.is_empty() {
        true => Stop::fail("must specify at least one column name"),
        false => Ok(found),
    }
}

/// `COLUMN[:KEY][OPERATOR VALUE]`, taken apart.
pub(super) struct Setting<'a> {
    pub(super) column: &'a ColumnSchema,
    pub(super) key: Option<String>,
    /// Index into the operators that were allowed.
    pub(super) operator: usize,
    pub(super) value: String,
}

/// Reads a word up to a delimiter; quotes and backslashes protect delimiters and are removed.
fn token(text: &mut &str) -> Result<String, Stop> {
    let (mut out, mut quoted) = (String::new(), false);
    let mut chars = text.char_indices();
    let rest = loop {
        let Some((at, c)) = chars.next() else {
            break "";
        };
        match c {
            '"' => quoted = !quoted,
            '\\' => match chars.next() {
                Some((_, escaped)) => out.push(escaped),
                None => {
                    return Stop::fail(format!("{text}: backslash at end of argument"));
                }
            },
            _ if !quoted && ":=, []{}!<>".contains(c) => break &text[at..],
            _ => out.push(c),
        }
    };
    if quoted {
        return Stop::fail(format!("{text}: quoted string extends past end of argument"));
    }
    *text = rest;
    Ok(out)
}

/// The column of a setting; nothing else is checked.
pub(super) fn setting_column<'a>(table: &'a TableSchema, text: &str) -> Result<&'a ColumnSchema, Stop> {
    let mut rest = text;
    let name = token(&mut rest)?;
    match name.is_empty() {
        true => Stop::fail(format!("{text}: missing column name")),
        false => column(table, &name),
    }
}

/// Takes a setting apart. Without operators nothing may follow the key.
pub(super) fn setting<'a>(table: &'a TableSchema, text: &str, operators: &[&str]) -> Result<Setting<'a>, Stop> {
    let mut rest = text;
    let name = token(&mut rest)?;
    if name.is_empty() {
        return Stop::fail(format!("{text}: missing column name"));
    }
    let column = column(table, &name)?;
    let mut key = None;
    if let Some(after) = rest.strip_prefix(':') {
        rest = after;
        key = Some(token(&mut rest)?);
    }
    if operators.is_empty() {
        return match rest {
            "" => Ok(Setting { column, key, operator: 0, value: String::new() }),
            _ => Stop::fail(format!("{text}: trailing garbage \"{rest}\" in argument")),
        };
    }
    let longest = operators
        .iter()
        .enumerate()
        .filter(|(_, op)| rest.starts_with(**op) && rest.len() > op.len())
        .max_by_key(|(_, op)| op.len());
    match longest {
        Some((operator, op)) => Ok(Setting { column, key, operator, value: rest[op.len()..].to_owned() }),
        None => {
            Stop::fail(format!("{text}: argument does not end in {} followed by a value.", alternatives(operators)))
        }
    }
}

/// `"="`; `"a" or "b"`; `"a", "b", or "c"`.
fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.as_slice() {
        [one] => one.clone(),
        [one, two] => format!("{one} or {two}"),
        [first @ .., last] => format!("{}, or {last}", first.join(", ")),
        [] => String::new(),
    }
}

/// How a table's records can be named: by a column of its own, or by the name of a row that refers to them.
struct Naming {
    table: &'static str,
    name: (&'static str, &'static str),
    reference: Option<&'static str>,
}

const fn by(table: &'static str, column: &'static str) -> Naming {
    Naming { table, name: (table, column), reference: None }
}

const fn via(table: &'static str, referrer: &'static str, column: &'static str) -> Naming {
    Naming { table, name: (referrer, "name"), reference: Some(column) }
}

static NAMINGS: &[Naming] = &[
    by("Bridge", "name"),
    by("Port", "name"),
    by("Interface", "name"),
    by("Mirror", "name"),
    by("SVI", "name"),
    by("Manager", "target"),
    by("Flow_Table", "name"),
    by("Flow_Sample_Collector_Set", "id"),
    via("Controller", "Bridge", "controller"),
    via("NetFlow", "Bridge", "netflow"),
    via("QoS", "Port", "qos"),
    via("sFlow", "Bridge", "sflow"),
    via("IPFIX", "Bridge", "ipfix"),
    via("AutoAttach", "Bridge", "auto_attach"),
];

/// How the help describes the records of a table.
pub(in crate::cli) fn describe_namings(table: &str) -> String {
    let mut ways = vec!["UUID".to_owned()];
    for naming in NAMINGS.iter().filter(|naming| naming.table == table) {
        ways.push(match naming.reference {
            None => naming.name.1.to_owned(),
            Some(column) => format!("the {} whose {column} it is", naming.name.0),
        });
    }
    if matches!(table, "Open_vSwitch" | "SSL") {
        ways.push("\".\"".to_owned());
    }
    ways.join(", ")
}

impl Needs {
    /// Finds a table, all of which is read.
    pub(super) fn table(&mut self, typed: &str) -> Result<TableSchema, Stop> {
        let table = table(&self.schema, typed)?.clone();
        self.all(&table.name, &[]);
        Ok(table)
    }

    /// Finds a table and adds what [`Context::record`] needs to find these of its records.
    pub(super) fn records(&mut self, typed: &str, records: &[String]) -> Result<TableSchema, Stop> {
        let table = table(&self.schema, typed)?.clone();
        self.columns(&table.name, &[]);
        for typed in records {
            if let Some(uuid) = parse_uuid(typed) {
                self.rows(&table.name, &[json!(["_uuid", "==", Atom::Uuid(uuid).to_json()])]);
            }
            if typed == "." {
                self.all(&table.name, &[]);
            }
        }
        for naming in NAMINGS.iter().filter(|naming| naming.table == table.name) {
            let (named, column) = naming.name;
            self.columns(named, &[column]);
            if let Some(column) = naming.reference {
                self.columns(named, &[column]);
                self.all(&table.name, &[]);
            }
            let is_text = |c: &ColumnSchema| c.kind.key.kind == AtomType::String;
            match self.schema.table(named).and_then(|table| table.column(column)).is_some_and(is_text) {
                true => records.iter().for_each(|typed| self.rows(named, &[json!([column, "==", typed])])),
                false => self.all(named, &[]),
            }
        }
        Ok(table)
    }
}

impl Context {
    /// Finds a record, and relies on finding it. `None` if there is none and it need not be there.
    pub(super) fn record(&mut self, table: &TableSchema, typed: &str, must_exist: bool) -> Result<Option<Uuid>, Stop> {
        let found = self.find_record(table, typed)?;
        match found {
            Some(row) => self.txn.rely_on_row(&table.name, row),
            None if must_exist => {
                let rows = self.txn.rows(&table.name);
                let names = rows.iter().map(|row| self.txn.name(&table.name, *row));
                let remedy = match nearest(typed, names.filter(|name| !name.is_empty())) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("\"list {}\" shows what there is", table.name),
                };
                let message = format!("no row \"{typed}\" in table {}", table.name);
                return Err(Stop::new(message).hint(Some(remedy)));
            }
            None => {}
        }
        Ok(found)
    }

    fn find_record(&mut self, table: &TableSchema, typed: &str) -> Result<Option<Uuid>, Stop> {
        let name = &table.name;
        if let Some(uuid) = parse_uuid(typed).filter(|uuid| self.txn.exists(name, *uuid)) {
            return Ok(Some(uuid));
        }
        let rows = self.txn.rows(name);
        if typed == "." && rows.len() == 1 {
            return Ok(Some(rows[0]));
        }
        for naming in NAMINGS.iter().filter(|naming| naming.table == *name) {
            if let Some(row) = self.named_record(naming, typed)? {
                return Ok(Some(row));
            }
        }
        let hex = typed.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if typed.len() < 4 || !hex {
            return Ok(None);
        }
        if self.txn.is_partial(name) {
            return Err(Stop::ReadAll);
        }
        let typed_lower = typed.to_ascii_lowercase();
        let begins = |row: &&Uuid| row.to_string().starts_with(&typed_lower);
        let matches: Vec<&Uuid> = rows.iter().filter(begins).collect();
        match matches[..] {
            [] => Ok(None),
            [row] => Ok(Some(*row)),
            [one, two, ..] => Stop::fail(format!(
                "{name} contains 2 or more rows whose UUIDs begin with {typed}: at least {one} and {two}"
            )),
        }
    }

    fn named_record(&mut self, naming: &Naming, typed: &str) -> Result<Option<Uuid>, Stop> {
        let (table, column) = naming.name;
        let is_named = |row: &Uuid| match self.txn.get(table, *row, column).scalar() {
            Some(Atom::String(name)) => name == typed,
            Some(Atom::Integer(id)) => typed.parse() == Ok(*id),
            _ => false,
        };
        let rows: Vec<Uuid> = self.txn.rows(table).into_iter().filter(is_named).collect();
        let row = match rows[..] {
            [] => return Ok(None),
            [row] => row,
            _ => return Stop::fail(format!("multiple rows in {table} match \"{typed}\"")),
        };
        self.txn.rely_on_value(table, row, column);
        let Some(reference) = naming.reference else {
            return Ok(Some(row));
        };
        self.txn.rely_on_value(table, row, reference);
        let target: &Datum = self.txn.get(table, row, reference);
        Ok(target.as_uuid().filter(|uuid| self.txn.exists(naming.table, *uuid)))
    }
}

/// What a column's type is called in messages about too many or too few.
pub(super) fn elements(column: &ColumnSchema) -> &'static str {
    match column.kind.is_map() {
        true => "pairs",
        false => "values",
    }
}
