//! What does the database hold right now? One read of the tables and columns that the commands need.

use super::DATABASE;
use super::client::{Client, ClientError};
use super::commands::Needs;
use super::transaction::Row;
use crate::datum::{Datum, no_names};
use crate::schema::TableSchema;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Rows by table.
pub(super) type Rows = BTreeMap<String, BTreeMap<Uuid, Row>>;

/// Reads everything in one transaction, so that it fits together.
pub(super) fn read(client: &mut Client, needs: &Needs) -> Result<Rows, ClientError> {
    let mut params = vec![json!(DATABASE)];
    for (table, columns) in &needs.tables {
        let columns: Vec<&str> = ["_uuid"].into_iter().chain(columns.iter().map(String::as_str)).collect();
        params.push(json!({"op": "select", "table": table, "where": [], "columns": columns}));
    }
    let results = client.call("transact", Value::Array(params))?;
    let mut rows = Rows::new();
    for (place, name) in needs.tables.keys().enumerate() {
        let found = results.get(place).and_then(|result| result.get("rows")?.as_array());
        let (Some(found), Some(table)) = (found, needs.schema.table(name)) else {
            return Err(ClientError::Refused(results[place].clone()));
        };
        let parsed = found.iter().map(|json| row(table, json)).collect::<Result<_, _>>()?;
        rows.insert(name.clone(), parsed);
    }
    Ok(rows)
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
    let requests: serde_json::Map<String, Value> = needs
        .tables
        .iter()
        .map(|(table, columns)| {
            let request = json!({"columns": columns, "select": {"initial": false}});
            (table.clone(), request)
        })
        .collect();
    client.call("monitor", json!([DATABASE, "needs", requests]))?;
    Ok(())
}
