//! What does each operation of `transact` do (RFC 7047 §5.2)?

use super::condition::ColumnRef;
use super::mutation::Mutation;
use super::{Condition, OperationError, Transaction};
use crate::database::{Database, Delta, Row, RowId, TableId};
use crate::datum::{Datum, Named, parse_uuid};
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use uuid::Uuid;

/// What a transaction needs besides its operations.
pub struct Context<'a> {
    /// Makes UUIDs.
    pub fresh: &'a mut dyn FnMut() -> Uuid,
    /// How long the transaction has waited already.
    pub waited: Duration,
    /// Whether the client owns the lock of this name.
    pub owns_lock: &'a dyn Fn(&str) -> bool,
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Outcome {
    /// One result per operation, `null` after the one that failed, or one error more when the end failed; and what
    /// changed, nothing if there was an error.
    Done(Vec<Value>, Delta),
    /// A `wait` does not hold yet. To be tried again when the database changes, or when the transaction has waited
    /// this long altogether (`None`: for ever).
    Waiting(Option<Duration>),
}

/// Runs the operations on a database, which stays as it is.
pub fn execute(database: &Database, operations: &[Value], context: &mut Context<'_>) -> Outcome {
    let names = row_names(operations, context.fresh);
    let (waited, owns_lock) = (context.waited, context.owns_lock);
    let tx = Transaction::new(database, &mut *context.fresh);
    let mut run = Run { database, tx, names, inserted: BTreeSet::new(), waited, owns_lock };
    let mut results = Vec::with_capacity(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        match run.operation(operation) {
            Ok(Step::Result(result)) => results.push(result),
            Ok(Step::Wait(until)) => return Outcome::Waiting(until),
            Err(mut error) => {
                if error.kind == "syntax error" && error.syntax.is_none() {
                    let place = format!("Parsing ovsdb operation {} of {} failed: ", index + 1, operations.len());
                    error.details.insert_str(0, &place);
                    if operation.is_object() {
                        error = error.about(operation);
                    }
                }
                results.push(error.to_json());
                results.resize(operations.len(), Value::Null);
                return Outcome::Done(results, Delta::default());
            }
        }
    }
    match run.tx.finish() {
        Ok(delta) => Outcome::Done(results, delta),
        Err(error) => {
            results.push(error.to_json());
            Outcome::Done(results, Delta::default())
        }
    }
}

/// A UUID for each `uuid-name`: an operation may name a row that a later one inserts.
fn row_names(operations: &[Value], fresh: &mut dyn FnMut() -> Uuid) -> HashMap<String, Uuid> {
    let inserts = operations.iter().filter(|operation| operation.get("op") == Some(&json!("insert")));
    let mut names = HashMap::new();
    for insert in inserts {
        if let Some(name) = insert.get("uuid-name").and_then(Value::as_str) {
            let explicit = insert.get("uuid").and_then(Value::as_str).and_then(parse_uuid);
            names.entry(name.to_owned()).or_insert_with(|| explicit.unwrap_or_else(&mut *fresh));
        }
    }
    names
}

enum Step {
    Result(Value),
    Wait(Option<Duration>),
}

struct Run<'a> {
    database: &'a Database,
    tx: Transaction<'a>,
    names: HashMap<String, Uuid>,
    /// `uuid-name`s of the inserts so far.
    inserted: BTreeSet<String>,
    waited: Duration,
    owns_lock: &'a dyn Fn(&str) -> bool,
}

/// The members of an operation; each must be asked for, what is left over is an error.
struct Members<'a> {
    left: Map<String, Value>,
    operation: &'a Map<String, Value>,
}

impl<'a> Members<'a> {
    fn of(operation: &'a Value) -> Result<Members<'a>, OperationError> {
        match operation.as_object() {
            Some(members) => Ok(Members { left: members.clone(), operation: members }),
            None => Err(OperationError::syntax("Object expected.")),
        }
    }

    fn optional(&mut self, name: &str) -> Option<&'a Value> {
        self.left.remove(name);
        self.operation.get(name)
    }

    fn required(&mut self, name: &str) -> Result<&'a Value, OperationError> {
        self.optional(name).ok_or_else(|| OperationError::syntax(format!("Required '{name}' member is missing.")))
    }

    fn text(&mut self, name: &str) -> Result<&'a str, OperationError> {
        self.required(name)?.as_str().ok_or_else(|| mismatch(name))
    }

    fn list(&mut self, name: &str) -> Result<&'a [Value], OperationError> {
        self.required(name)?.as_array().map(Vec::as_slice).ok_or_else(|| mismatch(name))
    }

    fn object(&mut self, name: &str) -> Result<&'a Map<String, Value>, OperationError> {
        self.required(name)?.as_object().ok_or_else(|| mismatch(name))
    }

    fn end(self) -> Result<(), OperationError> {
        match self.left.keys().next() {
            Some(name) => Err(OperationError::syntax(format!("Member '{name}' is present but not allowed here."))),
            None => Ok(()),
        }
    }
}

fn mismatch(name: &str) -> OperationError {
    OperationError::syntax(format!("Type mismatch for member '{name}'."))
}

/// `<id>` of RFC 7047: a name that starts with a letter or an underscore.
pub(crate) fn is_id(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Run<'_> {
    fn operation(&mut self, operation: &Value) -> Result<Step, OperationError> {
        let mut members = Members::of(operation)?;
        let result = match members.text("op")? {
            "insert" => self.insert(members)?,
            "select" => self.select(members)?,
            "update" => self.update(members)?,
            "mutate" => self.mutate(members)?,
            "delete" => self.delete(members)?,
            "wait" => return self.wait(members),
            "commit" => {
                // Every transaction is durable before it is acknowledged.
                members.required("durable")?.as_bool().ok_or_else(|| mismatch("durable"))?;
                members.end()?;
                json!({})
            }
            "abort" => {
                members.end()?;
                return Err(OperationError::new("aborted", "aborted by request"));
            }
            "comment" => {
                members.text("comment")?;
                members.end()?;
                json!({})
            }
            "assert" => {
                let lock = members
                    .text("lock")
                    .and_then(|lock| is_id(lock).then_some(lock).ok_or_else(|| mismatch("lock")))?;
                members.end()?;
                if !(self.owns_lock)(lock) {
                    return Err(OperationError::new("not owner", format!("Asserted lock {lock} not held.")));
                }
                json!({})
            }
            other => {
                return Err(OperationError::syntax(format!("No operation \"{other}\"")));
            }
        };
        Ok(Step::Result(result))
    }

    /// The row of a name. One that no insert has is that of no row, which is complained of where a row is needed.
    fn named(&self, name: &str) -> Uuid {
        self.names.get(name).copied().unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            Uuid::from_u64_pair(hasher.finish(), 0)
        })
    }

    fn table(&self, members: &mut Members<'_>) -> Result<TableId, OperationError> {
        let name = members.text("table")?;
        self.database.table_id(name).ok_or_else(|| OperationError::syntax(format!("No table named {name}.")))
    }

    fn insert(&mut self, mut members: Members<'_>) -> Result<Value, OperationError> {
        let table = self.table(&mut members)?;
        let row = members.object("row")?;
        let name = members.optional("uuid-name");
        let explicit = members.optional("uuid");
        members.end()?;
        let mut uuid = None;
        if let Some(text) = explicit {
            let text_is = text.as_str().ok_or_else(|| mismatch("uuid"))?;
            uuid = Some(parse_uuid(text_is).ok_or_else(|| OperationError::syntax("bad uuid").about(text))?);
        }
        if let Some(name) = name {
            let name = name.as_str().filter(|name| is_id(name)).ok_or_else(|| mismatch("uuid-name"))?;
            if !self.inserted.insert(name.to_owned()) {
                let details = "This \"uuid-name\" appeared on an earlier \"insert\" operation.";
                return Err(OperationError::new("duplicate uuid-name", details).about(&name.into()));
            }
            uuid = Some(self.named(name));
        }
        let values = self.row_values(table, row)?;
        let schema = self.database.tables()[table].schema();
        let new = self.tx.insert(table, uuid)?;
        for (at, datum) in values {
            new.columns[at] = datum;
        }
        // A default may be outside the column's limits.
        schema.columns().iter().zip(&new.columns).try_for_each(|(column, datum)| column.kind.check(datum))?;
        Ok(json!({"uuid": ["uuid", new.uuid.to_string()]}))
    }

    /// The columns that a `row` member gives, checked against the schema.
    fn row_values(&self, table: TableId, row: &Map<String, Value>) -> Result<Vec<(usize, Datum)>, OperationError> {
        let schema = self.database.tables()[table].schema();
        let whole = || Value::Object(row.clone());
        let mut values = Vec::with_capacity(row.len());
        for (name, value) in row {
            // An insert passes over the columns that the server sets.
            let ColumnRef::Column(at) = ColumnRef::find(schema, name).map_err(|error| error.about(&whole()))? else {
                continue;
            };
            let datum = Datum::from_json(value, &schema.columns()[at].kind, &|name| Some(self.named(name)));
            values.push((at, datum?));
        }
        Ok(values)
    }

    /// The rows that a `where` clause means, as they are now.
    fn matching(&self, table: TableId, condition: &Condition) -> Vec<&Row> {
        let id = |uuid| RowId { table, uuid };
        if let Some(uuid) = condition.only_row() {
            return self.tx.row(id(uuid)).filter(|row| condition.matches(row)).into_iter().collect();
        }
        if let Some(stored) = condition.by_index(&self.database.tables()[table]) {
            let stored = stored.map(id).filter(|id| !self.tx.changes.contains_key(id)).and_then(|id| self.tx.row(id));
            let all = RowId { table, uuid: Uuid::nil() }..=RowId { table, uuid: Uuid::max() };
            let touched = self.tx.changes.range(all).filter_map(|(_, row)| row.as_ref());
            return stored.into_iter().chain(touched).filter(|row| condition.matches(row)).collect();
        }
        self.tx.rows(table).filter(|row| condition.matches(row)).collect()
    }

    fn condition(&self, table: TableId, members: &mut Members<'_>) -> Result<Condition, OperationError> {
        let json = members.required("where")?;
        if !json.is_array() {
            return Err(mismatch("where"));
        }
        let named: Named<'_> = &|name| Some(self.named(name));
        Condition::from_json(json, self.database.tables()[table].schema(), named)
    }

    fn column_list(&self, table: TableId, members: &mut Members<'_>) -> Result<Option<Vec<ColumnRef>>, OperationError> {
        if members.optional("columns").is_none() {
            return Ok(None);
        }
        let schema = self.database.tables()[table].schema();
        let mut columns = Vec::new();
        let whole = members.required("columns")?;
        for name in members.list("columns")? {
            let distinct = || OperationError::syntax("array of distinct column names expected").about(whole);
            let name = name.as_str().ok_or_else(distinct)?;
            let unknown = |_| OperationError::syntax(format!("{name} is not a valid column name")).about(whole);
            let column = ColumnRef::find(schema, name).map_err(unknown)?;
            if columns.contains(&column) {
                return Err(distinct());
            }
            columns.push(column);
        }
        Ok(Some(columns))
    }

    fn select(&mut self, mut members: Members<'_>) -> Result<Value, OperationError> {
        let table = self.table(&mut members)?;
        let condition = self.condition(table, &mut members)?;
        let columns = self.column_list(table, &mut members)?;
        members.end()?;
        let schema = self.database.tables()[table].schema();
        let columns = columns.unwrap_or_else(|| {
            let own = (0..schema.columns().len()).map(ColumnRef::Column);
            [ColumnRef::Uuid, ColumnRef::Version].into_iter().chain(own).collect()
        });
        let name = |column: &ColumnRef| match column {
            ColumnRef::Uuid => "_uuid".to_owned(),
            ColumnRef::Version => "_version".to_owned(),
            ColumnRef::Column(at) => schema.columns()[*at].name.clone(),
        };
        let mut seen = BTreeSet::new();
        let mut rows = Vec::new();
        for row in self.matching(table, &condition) {
            let values: Vec<_> = columns.iter().map(|column| column.value(row)).collect();
            let json = columns.iter().zip(&values).map(|(column, value)| (name(column), value.to_json()));
            let json: Map<String, Value> = json.collect();
            // Those whose UUID is shown are different anyway.
            if columns.contains(&ColumnRef::Uuid) || seen.insert(values) {
                rows.push(Value::Object(json));
            }
        }
        // Not by `json!`, which copies what it is given.
        Ok(Value::Object([("rows".to_owned(), Value::Array(rows))].into_iter().collect()))
    }

    fn update(&mut self, mut members: Members<'_>) -> Result<Value, OperationError> {
        let table = self.table(&mut members)?;
        let condition = self.condition(table, &mut members)?;
        let row = members.object("row")?;
        let values = self.row_values(table, row)?;
        let operation = Value::Object(members.operation.clone());
        members.end()?;
        let schema = self.database.tables()[table].schema();
        let is_fixed = |name: &str| schema.column_index(name).is_none_or(|at| !schema.columns()[at].mutable);
        if let Some(column) = row.keys().find(|name| is_fixed(name)) {
            let details = format!("Cannot update immutable column {column} in table {}.", schema.name);
            return Err(OperationError::constraint(details).about(&operation));
        }
        self.change(table, &condition, |columns| {
            for (at, datum) in &values {
                columns[*at] = datum.clone();
            }
            Ok(())
        })
    }

    fn mutate(&mut self, mut members: Members<'_>) -> Result<Value, OperationError> {
        let table = self.table(&mut members)?;
        let condition = self.condition(table, &mut members)?;
        let schema = self.database.tables()[table].schema();
        let named: Named<'_> = &|name| Some(self.named(name));
        let mutations = members.list("mutations")?.iter();
        let mutations: Vec<Mutation> =
            mutations.map(|json| Mutation::from_json(json, schema, named)).collect::<Result<_, _>>()?;
        members.end()?;
        self.change(table, &condition, |columns| {
            mutations.iter().try_for_each(|mutation| mutation.apply(columns, schema))
        })
    }

    /// Changes every row that matches, and says how many.
    fn change(
        &mut self,
        table: TableId,
        condition: &Condition,
        change: impl Fn(&mut [Datum]) -> Result<(), OperationError>,
    ) -> Result<Value, OperationError> {
        let uuids: Vec<Uuid> = self.matching(table, condition).iter().map(|row| row.uuid).collect();
        for uuid in &uuids {
            if let Some(row) = self.tx.modify(RowId { table, uuid: *uuid }) {
                change(&mut row.columns)?;
            }
        }
        Ok(json!({"count": uuids.len()}))
    }

    fn delete(&mut self, mut members: Members<'_>) -> Result<Value, OperationError> {
        let table = self.table(&mut members)?;
        let condition = self.condition(table, &mut members)?;
        members.end()?;
        let uuids: Vec<Uuid> = self.matching(table, &condition).iter().map(|row| row.uuid).collect();
        for uuid in &uuids {
            self.tx.delete(RowId { table, uuid: *uuid });
        }
        Ok(json!({"count": uuids.len()}))
    }

    fn wait(&mut self, mut members: Members<'_>) -> Result<Step, OperationError> {
        let table = self.table(&mut members)?;
        let timeout = match members.optional("timeout") {
            Some(value) if value.as_i64().is_some_and(i64::is_negative) => {
                return Err(OperationError::syntax("timeout must be nonnegative").about(value));
            }
            Some(value) => Some(value.as_u64().ok_or_else(|| mismatch("timeout"))?),
            None => None,
        };
        let condition = self.condition(table, &mut members)?;
        let columns = self.column_list(table, &mut members)?;
        let equal = match members.text("until")? {
            "==" => true,
            "!=" => false,
            other => {
                return Err(OperationError::syntax("\"until\" must be \"==\" or \"!=\"").about(&other.into()));
            }
        };
        let wanted = members.list("rows")?;
        members.end()?;
        let schema = self.database.tables()[table].schema();
        let columns = columns.unwrap_or_else(|| (0..schema.columns().len()).map(ColumnRef::Column).collect::<Vec<_>>());
        let mut rows = BTreeSet::new();
        for row in wanted {
            rows.insert(self.wanted_row(table, &columns, row)?);
        }
        let found: BTreeSet<Vec<Datum>> = self
            .matching(table, &condition)
            .into_iter()
            .map(|row| columns.iter().map(|column| column.value(row).into_owned()).collect())
            .collect();
        if (found == rows) == equal {
            return Ok(Step::Result(json!({})));
        }
        match timeout.map(Duration::from_millis) {
            Some(timeout) if self.waited >= timeout => {
                let details = match self.waited.as_millis() {
                    _ if timeout.is_zero() => "\"where\" clause test failed".to_owned(),
                    waited => format!("\"wait\" timed out after {waited} ms"),
                };
                Err(OperationError::new("timed out", details))
            }
            timeout => Ok(Step::Wait(timeout)),
        }
    }

    /// A row as a `wait` describes it, reduced to `columns`; what it leaves out has the default value.
    fn wanted_row(&self, table: TableId, columns: &[ColumnRef], row: &Value) -> Result<Vec<Datum>, OperationError> {
        let schema = self.database.tables()[table].schema();
        let whole = row;
        let row = row.as_object().ok_or_else(|| OperationError::syntax("row must be JSON object").about(whole))?;
        let mut given = HashMap::new();
        for (name, value) in row {
            let column = ColumnRef::find_for(schema, name, whole)?;
            let datum = Datum::from_json(value, &column.kind(schema), &|name| Some(self.named(name)));
            given.insert(column, datum?);
        }
        let value =
            |column: &ColumnRef| given.remove(column).unwrap_or_else(|| Datum::default_of(&column.kind(schema)));
        Ok(columns.iter().map(value).collect())
    }
}
