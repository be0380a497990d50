//! What does the database hold right now? One read of what the commands need; of ports and interfaces that are named,
//! a second and a third for what they belong to.

use super::DATABASE;
use super::client::{Client, ClientError};
use super::needs::{Needs, Plan};
use super::transaction::Row;
use crate::datum::{Atom, Datum, no_names};
use crate::schema::{DatabaseSchema, TableSchema};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What was read.
#[derive(Default)]
pub(super) struct Snapshot {
    /// Rows by table.
    pub(super) rows: BTreeMap<String, BTreeMap<Uuid, Row>>,
    /// Tables of which not every row was read.
    pub(super) partial: BTreeSet<String>,
}

/// Sends the parameters of a `transact` and gives its results.
pub(super) type Transact<'a> = &'a mut dyn FnMut(Value) -> Result<Value, ClientError>;

/// Reads what is planned.
pub(super) fn read(transact: Transact<'_>, schema: &DatabaseSchema, plan: Plan) -> Result<Snapshot, ClientError> {
    let mut reader = Reader { transact, schema, columns: plan.columns, snapshot: Snapshot::default() };
    for table in reader.columns.keys() {
        reader.snapshot.rows.insert(table.clone(), BTreeMap::new());
    }
    reader.select(&plan.selects)?;
    if plan.places {
        reader.places()?;
    }
    reader.snapshot.partial = plan.partial;
    Ok(reader.snapshot)
}

struct Reader<'a> {
    transact: Transact<'a>,
    schema: &'a DatabaseSchema,
    columns: BTreeMap<String, BTreeSet<String>>,
    snapshot: Snapshot,
}

impl Reader<'_> {
    /// Reads rows in one transaction; gives the UUIDs that each of the selects found.
    fn select(&mut self, selects: &[(String, Value)]) -> Result<Vec<Vec<Uuid>>, ClientError> {
        let mut params = vec![json!(DATABASE)];
        for (table, conditions) in selects {
            let columns = self.columns.get(table).into_iter().flatten().map(String::as_str);
            let columns: Vec<&str> = ["_uuid"].into_iter().chain(columns).collect();
            params.push(json!({"op": "select", "table": table, "where": conditions, "columns": columns}));
        }
        let results = (self.transact)(Value::Array(params))?;
        let mut all = vec![];
        for (place, (name, _)) in selects.iter().enumerate() {
            let found = results.get(place).and_then(|result| result.get("rows")?.as_array());
            let (Some(found), Some(table)) = (found, self.schema.table(name)) else {
                return Err(ClientError::Refused(results[place].clone()));
            };
            let mut uuids = vec![];
            for json in found {
                let (uuid, row) = row(table, json)?;
                self.snapshot.rows.entry(name.clone()).or_default().insert(uuid, row);
                uuids.push(uuid);
            }
            all.push(uuids);
        }
        Ok(all)
    }

    fn known(&self, table: &str) -> Vec<Uuid> {
        self.snapshot.rows.get(table).into_iter().flat_map(|rows| rows.keys().copied()).collect()
    }

    /// The interfaces of a port that was read.
    fn interfaces(&self, port: Uuid) -> Vec<Uuid> {
        let row = self.snapshot.rows.get("Port").and_then(|rows| rows.get(&port)?.get("interfaces"));
        row.into_iter().flat_map(Datum::uuids).collect()
    }

    /// Reads what belongs to the ports and interfaces that were read, and what they belong to. A bridge whose `ports`
    /// were not read gets those among them.
    fn places(&mut self) -> Result<(), ClientError> {
        let bridges = !self.columns["Bridge"].contains("ports");
        let mut asked = BTreeSet::new();
        let mut ports: BTreeMap<Uuid, BTreeSet<Atom>> = BTreeMap::new();
        loop {
            let known: Vec<Uuid> = self.known("Port");
            let owned: BTreeSet<Uuid> = known.iter().flat_map(|port| self.interfaces(*port)).collect();
            let mut selects = vec![];
            let mut children = vec![];
            for port in known.into_iter().filter(|port| bridges && asked.insert(*port)) {
                children.push(port);
                selects.push(("Bridge".to_owned(), includes("ports", port)));
            }
            let interfaces: BTreeSet<Uuid> = self.known("Interface").into_iter().collect();
            for interface in owned.difference(&interfaces).filter(|row| asked.insert(**row)) {
                selects.push(("Interface".to_owned(), json!([["_uuid", "==", Atom::Uuid(*interface).to_json()]])));
            }
            for interface in interfaces.difference(&owned).filter(|row| asked.insert(**row)) {
                selects.push(("Port".to_owned(), includes("interfaces", *interface)));
            }
            if selects.is_empty() {
                break;
            }
            let found = self.select(&selects)?;
            for (port, bridges) in children.into_iter().zip(found) {
                for bridge in bridges {
                    ports.entry(bridge).or_default().insert(Atom::Uuid(port));
                }
            }
        }
        let rows = self.snapshot.rows.get_mut("Bridge").filter(|_| bridges);
        for (bridge, row) in rows.into_iter().flatten() {
            row.insert("ports".to_owned(), Datum::Set(ports.remove(bridge).unwrap_or_default()));
        }
        Ok(())
    }
}

fn includes(column: &str, row: Uuid) -> Value {
    json!([[column, "includes", Atom::Uuid(row).to_json()]])
}

fn row(table: &TableSchema, json: &Value) -> Result<(Uuid, Row), ClientError> {
    let odd = |what: String| ClientError::Lost(format!("table {}: {what}", table.name));
    let uuid = json["_uuid"][1].as_str().and_then(|text| Uuid::try_parse(text).ok());
    let uuid = uuid.ok_or_else(|| odd("a row without _uuid".to_owned()))?;
    let mut row = Row::new();
    for (name, value) in json.as_object().into_iter().flatten() {
        if let Some(column) = table.column(name) {
            let datum = Datum::from_json_any_size(value, &column.kind, &no_names)
                .map_err(|error| odd(format!("column {name}: {error}")))?;
            row.insert(name.clone(), datum);
        }
    }
    Ok((uuid, row))
}

/// Asks to be told when anything of that changes.
pub(super) fn monitor(client: &mut Client, needs: &Needs) -> Result<(), ClientError> {
    let request = |(table, columns)| (table, json!({"columns": columns, "select": {"initial": false}}));
    let requests: serde_json::Map<String, Value> = needs.whole().columns.into_iter().map(request).collect();
    client.call("monitor", json!([DATABASE, "needs", requests]))?;
    Ok(())
}

#[cfg(test)]
mod tests;
