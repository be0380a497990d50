//! What do `list`, `find`, `get`, `set`, `add`, `remove`, `clear`, `create`, `destroy` and `wait-until` do?

use super::{Context, Needs, Stop, condition, names};
use crate::cli::grammar::Command;
use crate::cli::output::{Cell, Table, plain_atom, plain_column};
use crate::datum::Datum;
use crate::schema::{AtomType, BaseType, ColumnSchema, ColumnType, TableSchema, UNLIMITED};
use uuid::Uuid;

/// The records in the second and later arguments, or all.
pub fn needs_records(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    match &command.args[1..] {
        [] => needs.table(&command.args[0])?,
        records => needs.records(&command.args[0], records)?,
    };
    Ok(())
}

/// Adds the columns that `--columns` names, or all.
fn shown(needs: &mut Needs, table: &TableSchema, command: &Command) -> Result<(), Stop> {
    for column in names::columns(table, command.value("--columns"))?.into_iter().flatten() {
        needs.columns(&table.name, &[&column.name]);
    }
    Ok(())
}

/// Those records with the columns to be shown.
pub fn needs_list(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    needs_records(needs, command)?;
    let table = names::table(&needs.schema, &command.args[0])?.clone();
    shown(needs, &table, command)
}

/// The records that meet the conditions, as far as the daemon can tell; and the columns of the conditions.
pub fn needs_find(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    let table = names::table(&needs.schema, &command.args[0])?.clone();
    shown(needs, &table, command)?;
    let mut conditions = vec![];
    for condition in &command.args[1..] {
        let column = names::setting_column(&table, condition)?;
        needs.columns(&table.name, &[&column.name]);
        conditions.extend(condition::as_clause(&table, condition));
    }
    match conditions.as_slice() {
        [] => needs.all(&table.name, &[]),
        conditions => needs.rows(&table.name, conditions),
    }
    Ok(())
}

/// The record, with the columns in the third and later arguments.
pub fn needs_columns(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    let table = needs.records(&command.args[0], &command.args[1..2])?;
    for setting in command.args[2..].iter().filter(|arg| !names::is_uuid_column(arg)) {
        let column = match command.name.as_str() {
            "clear" => names::column(&table, setting)?,
            _ => names::setting_column(&table, setting)?,
        };
        needs.columns(&table.name, &[&column.name]);
    }
    Ok(())
}

/// The record, with the column in the third argument.
pub fn needs_column(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    let table = needs.records(&command.args[0], &command.args[1..2])?;
    let column = names::column(&table, &command.args[2])?;
    needs.columns(&table.name, &[&column.name]);
    Ok(())
}

/// Nothing, but a warning for what will vanish.
pub fn needs_create(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    let table = names::table(&needs.schema, &command.args[0])?;
    if !command.has("--id") && !table.is_root {
        needs.warnings.push(format!(
            "applying \"create\" command to table {} without --id option will have no effect",
            table.name
        ));
    }
    Ok(())
}

fn make_table(columns: &[Option<&ColumnSchema>]) -> Table {
    let heading = |column: &Option<&ColumnSchema>| match column {
        Some(column) => column.name.clone(),
        None => "_uuid".to_owned(),
    };
    Table { headings: columns.iter().map(heading).collect(), rows: vec![] }
}

fn add_record(ctx: &Context, out: &mut Table, table: &str, row: Uuid, columns: &[Option<&ColumnSchema>]) {
    let cell = |column: &Option<&ColumnSchema>| match column {
        Some(column) => Cell { value: ctx.txn.get(table, row, &column.name).clone(), kind: column.kind.clone() },
        None => Cell {
            value: Datum::from(row),
            kind: ColumnType { key: BaseType::of(AtomType::Uuid), value: None, min: 1, max: 1 },
        },
    };
    out.rows.push(columns.iter().map(cell).collect());
}

/// `list TABLE [RECORD]...`
pub fn list(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let schema = ctx.schema.clone();
    let table = names::table(&schema, &command.args[0])?;
    let columns = names::columns(table, command.value("--columns"))?;
    let mut out = make_table(&columns);
    let rows = match &command.args[1..] {
        [] => ctx.txn.rows(&table.name),
        typed => {
            let must_exist = !command.has("--if-exists");
            let found = typed.iter().map(|typed| ctx.record(table, typed, must_exist));
            found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
        }
    };
    for row in rows {
        add_record(ctx, &mut out, &table.name, row, &columns);
    }
    ctx.table = Some(out);
    Ok(())
}

/// `find TABLE CONDITION...`
pub fn find(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let schema = ctx.schema.clone();
    let table = names::table(&schema, &command.args[0])?;
    let columns = names::columns(table, command.value("--columns"))?;
    let mut out = make_table(&columns);
    'rows: for row in ctx.txn.rows(&table.name) {
        for condition in &command.args[1..] {
            if !ctx.meets(table, row, condition)? {
                continue 'rows;
            }
        }
        add_record(ctx, &mut out, &table.name, row, &columns);
    }
    ctx.table = Some(out);
    Ok(())
}

/// `get TABLE RECORD [COLUMN[:KEY]]...`
pub fn get(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let must_exist = !command.has("--if-exists");
    if command.has("--id") && !must_exist {
        return Stop::fail("--if-exists and --id may not be specified together");
    }
    let schema = ctx.schema.clone();
    let table = names::table(&schema, &command.args[0])?;
    let record = &command.args[1];
    let Some(row) = ctx.record(table, record, must_exist)? else {
        return Ok(());
    };
    if let Some(id) = command.value("--id") {
        ctx.create_symbol(id, Some(row))?;
    }
    let mut values = vec![];
    for typed in &command.args[2..] {
        if names::is_uuid_column(typed) {
            ctx.print(&row.to_string());
            values.push(row.to_string().into());
            continue;
        }
        let wanted = names::setting(table, typed, &[])?;
        let column = wanted.column;
        ctx.txn.rely_on_value(&table.name, row, &column.name);
        let Some(key_text) = wanted.key else {
            let value = ctx.txn.get(&table.name, row, &column.name).clone();
            ctx.print(&value.to_text(&column.kind));
            values.push(plain_column(&value, &column.kind));
            continue;
        };
        if !column.kind.is_map() {
            return Stop::fail(format!("cannot specify key to get for non-map column {}", column.name));
        }
        let key = ctx.parse_atom(&key_text, &column.kind.key)?;
        let found = match ctx.txn.get(&table.name, row, &column.name) {
            Datum::Map(map) => map.get(&key).cloned(),
            Datum::Set(_) => None,
        };
        if found.is_none() && must_exist {
            return Stop::fail(format!(
                "no key \"{key_text}\" in {} record \"{record}\" column {}",
                table.name, column.name
            ));
        }
        ctx.print(&found.as_ref().map(ToString::to_string).unwrap_or_default());
        values.push(found.as_ref().map_or(serde_json::Value::Null, plain_atom));
    }
    match <[_; 1]>::try_from(values) {
        Ok([value]) => ctx.tell(value),
        Err(values) => ctx.tell(values.into()),
    }
    Ok(())
}

impl Context {
    /// Carries out `COLUMN[:KEY]=VALUE` on a row.
    pub(super) fn set_column(&mut self, table: &TableSchema, row: Uuid, text: &str) -> Result<(), Stop> {
        let setting = names::setting(table, text, &["="])?;
        let column = setting.column;
        self.check_mutable(&table.name, row, column)?;
        let Some(key) = setting.key else {
            let value = self.parse(&setting.value, &column.kind)?;
            self.txn.replace(&table.name, row, &column.name, value);
            return Ok(());
        };
        let Some(value_type) = &column.kind.value else {
            return Stop::fail(format!("cannot specify key to set for non-map column {}", column.name));
        };
        let pair = (self.parse_atom(&key, &column.kind.key)?, self.parse_atom(&setting.value, value_type)?);
        let mut value = self.txn.get(&table.name, row, &column.name).clone();
        if let Datum::Map(map) = &mut value {
            map.insert(pair.0, pair.1);
        }
        self.note_references(&value, &column.kind);
        self.txn.amend(&table.name, row, &column.name, value);
        Ok(())
    }
}

/// The table and the record of a command that changes columns; marks the record's interfaces.
fn target<'a>(
    ctx: &mut Context,
    schema: &'a crate::schema::DatabaseSchema,
    command: &Command,
) -> Result<Option<(&'a TableSchema, Uuid)>, Stop> {
    let table = names::table(schema, &command.args[0])?;
    let row = ctx.record(table, &command.args[1], !command.has("--if-exists"))?;
    if let Some(row) = row {
        ctx.txn.touch(&table.name, row);
    }
    Ok(row.map(|row| (table, row)))
}

/// `set TABLE RECORD COLUMN[:KEY]=VALUE...`
pub fn set(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let schema = ctx.schema.clone();
    let Some((table, row)) = target(ctx, &schema, command)? else {
        return Ok(());
    };
    command.args[2..].iter().try_for_each(|setting| ctx.set_column(table, row, setting))
}

/// The column's type for arguments of `add` and `remove`: at least one element, any number.
fn any_number(kind: &ColumnType) -> ColumnType {
    ColumnType { min: 1, max: UNLIMITED, ..kind.clone() }
}

/// The complaint about a number of elements.
fn wrong_count(command: &Command, column: &ColumnSchema, table: &str, count: usize, bound: &str, limit: u32) -> Stop {
    Stop::new(format!(
        "\"{}\" operation would put {count} {} in column {} of table {table} but the {bound} number is {limit}",
        command.name,
        names::elements(column),
        column.name
    ))
}

/// `add TABLE RECORD COLUMN [KEY=]VALUE...`
pub fn add(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let schema = ctx.schema.clone();
    let Some((table, row)) = target(ctx, &schema, command)? else {
        return Ok(());
    };
    let column = names::column(table, &command.args[2])?;
    ctx.check_mutable(&table.name, row, column)?;
    let kind = any_number(&column.kind);
    let mut value = ctx.txn.get(&table.name, row, &column.name).clone();
    for typed in &command.args[3..] {
        match (&mut value, ctx.parse(typed, &kind)?) {
            (Datum::Set(set), Datum::Set(more)) => set.extend(more),
            // As in a database: what is there already stays.
            (Datum::Map(map), Datum::Map(more)) => {
                more.into_iter().for_each(|(key, value)| {
                    map.entry(key).or_insert(value);
                });
            }
            _ => {}
        }
    }
    if value.len() > column.kind.max as usize {
        let remedy = format!("use \"set\" to replace the value of {}", column.name);
        let max = column.kind.max;
        return Err(
            wrong_count(command, column, &table.name, value.len(), "maximum", max).hint((max == 1).then_some(remedy))
        );
    }
    if column.kind.max != UNLIMITED {
        ctx.txn.rely_on_value(&table.name, row, &column.name);
    }
    ctx.txn.amend(&table.name, row, &column.name, value);
    Ok(())
}

/// `remove TABLE RECORD COLUMN KEY|VALUE|KEY=VALUE...`
pub fn remove(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let schema = ctx.schema.clone();
    let Some((table, row)) = target(ctx, &schema, command)? else {
        return Ok(());
    };
    let column = names::column(table, &command.args[2])?;
    ctx.check_mutable(&table.name, row, column)?;
    let kind = any_number(&column.kind);
    let keys = ColumnType { value: None, ..kind.clone() };
    let mut value = ctx.txn.get(&table.name, row, &column.name).clone();
    for typed in &command.args[3..] {
        let gone = match ctx.parse(typed, &kind) {
            Err(_) if kind.is_map() => ctx.parse(typed, &keys)?,
            parsed => parsed?,
        };
        match (&mut value, gone) {
            (Datum::Set(set), Datum::Set(gone)) => set.retain(|atom| !gone.contains(atom)),
            (Datum::Map(map), Datum::Set(gone)) => map.retain(|key, _| !gone.contains(key)),
            (Datum::Map(map), Datum::Map(gone)) => {
                map.retain(|key, value| gone.get(key) != Some(value));
            }
            _ => {}
        }
    }
    if value.len() < column.kind.min as usize {
        let min = column.kind.min;
        return Err(wrong_count(command, column, &table.name, value.len(), "minimum", min));
    }
    ctx.txn.rely_on_value(&table.name, row, &column.name);
    ctx.txn.amend(&table.name, row, &column.name, value);
    Ok(())
}

/// `clear TABLE RECORD COLUMN...`
pub fn clear(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let schema = ctx.schema.clone();
    let Some((table, row)) = target(ctx, &schema, command)? else {
        return Ok(());
    };
    for typed in &command.args[2..] {
        let column = names::column(table, typed)?;
        ctx.check_mutable(&table.name, row, column)?;
        if column.kind.min > 0 {
            return Stop::fail(format!(
                "\"clear\" operation cannot be applied to column {} of table {}, which is not allowed to be empty",
                column.name, table.name
            ));
        }
        let empty = Datum::default_of(&column.kind);
        ctx.txn.replace(&table.name, row, &column.name, empty);
    }
    Ok(())
}

/// `create TABLE COLUMN[:KEY]=VALUE...`
pub fn create(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let schema = ctx.schema.clone();
    let table = names::table(&schema, &command.args[0])?;
    let uuid = match command.value("--id") {
        Some(id) => Some(ctx.create_symbol(id, None)?),
        None => None,
    };
    if let Some(id) = command.value("--id").filter(|_| table.is_root) {
        ctx.symbol(id).strong = true; // a row of such a table stays without being referred to
    }
    let row = ctx.txn.insert(&table.name, uuid, []);
    for setting in &command.args[1..] {
        ctx.set_column(table, row, setting)?;
    }
    // The daemon gives the row another UUID; it takes this one's place in the output after the commit.
    ctx.answer(&row.to_string());
    Ok(())
}

/// `destroy TABLE [RECORD]...`
pub fn destroy(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let schema = ctx.schema.clone();
    let table = names::table(&schema, &command.args[0])?;
    let (all, if_exists) = (command.has("--all"), command.has("--if-exists"));
    let records = &command.args[1..];
    if all && !records.is_empty() {
        return Stop::fail("--all and records argument should not be specified together");
    }
    if all && if_exists {
        return Stop::fail("--all and --if-exists should not be specified together");
    }
    if !all && records.is_empty() {
        ctx.warnings.push("either --all or records argument should be specified".to_owned());
    }
    if all {
        let rows = ctx.txn.rows(&table.name);
        rows.into_iter().for_each(|row| ctx.txn.delete(&table.name, row));
    }
    for typed in records {
        if let Some(row) = ctx.record(table, typed, !if_exists)? {
            ctx.txn.delete(&table.name, row);
        }
    }
    Ok(())
}

/// `wait-until TABLE RECORD [CONDITION]...`
pub fn wait_until(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let schema = ctx.schema.clone();
    let table = names::table(&schema, &command.args[0])?;
    let Some(row) = ctx.record(table, &command.args[1], false)? else {
        return Err(Stop::TryAgain);
    };
    for condition in &command.args[2..] {
        if !ctx.meets(table, row, condition)? {
            return Err(Stop::TryAgain);
        }
    }
    Ok(())
}
