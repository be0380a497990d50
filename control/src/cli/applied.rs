//! Is the data plane doing what was committed, and did every device agree?

use super::client::{Client, ClientError};
use super::commands::Stop;
use super::{DATABASE, Program};
use crate::datum::Atom;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Committed, but not or not wholly applied.
const STATUS_NOT_APPLIED: u8 = 65;

impl Program {
    /// Waits until `cur_cfg` has reached `next_cfg`, then reports the errors of the interfaces concerned.
    pub(super) fn wait_applied(
        &self,
        client: &mut Client,
        next_cfg: i64,
        touched: &[(String, Uuid)],
    ) -> Result<u8, Stop> {
        let mut cur_cfg = None;
        let result = follow(client, next_cfg, &mut cur_cfg).and_then(|()| errors(client, touched));
        match result {
            Ok(errors) if errors.is_empty() => Ok(0),
            Ok(errors) => {
                for (name, error) in errors {
                    eprintln!("{}: Error detected while setting up '{name}': {error}", self.name);
                }
                Ok(STATUS_NOT_APPLIED)
            }
            Err(error) => {
                let reason = match error {
                    ClientError::Timeout => {
                        let reached =
                            cur_cfg.map_or(String::new(), |cur| format!(" (cur_cfg {cur}, next_cfg {next_cfg})"));
                        format!("shuntd has not applied it within {}{reached}", self.limit())
                    }
                    error => error.to_string(),
                };
                Err(Stop::Fail {
                    message: format!("the change is committed and kept, but {reason}"),
                    hint: Some("shuntd goes on with it; \"show\" and shuntd's log tell more".to_owned()),
                    status: STATUS_NOT_APPLIED,
                })
            }
        }
    }
}

fn follow(client: &mut Client, next_cfg: i64, cur_cfg: &mut Option<i64>) -> Result<(), ClientError> {
    let request = json!({DATABASE: {"columns": ["cur_cfg"]}});
    let mut updates = client.call("monitor", json!([DATABASE, "applied", request]))?;
    loop {
        let rows = updates[DATABASE].as_object().into_iter().flatten();
        for (_, change) in rows {
            *cur_cfg = change["new"]["cur_cfg"].as_i64().or(*cur_cfg);
        }
        if cur_cfg.is_some_and(|cur| cur >= next_cfg) {
            return Ok(());
        }
        updates = loop {
            let mut note = client.notification()?;
            if note["method"] == "update" && note["params"][0] == "applied" {
                break note["params"][1].take();
            }
        };
    }
}

/// Names and errors of the interfaces among `touched`, or below the bridges and ports among them.
fn errors(client: &mut Client, touched: &[(String, Uuid)]) -> Result<Vec<(String, String)>, ClientError> {
    let of = |table: &str| touched.iter().filter(move |(t, _)| t == table).map(|(_, row)| *row).collect();
    let bridges: BTreeSet<Uuid> = of("Bridge");
    let mut ports: BTreeSet<Uuid> = of("Port");
    let mut interfaces: BTreeSet<Uuid> = of("Interface");
    for row in select(client, "Bridge", &bridges, &["ports"])? {
        ports.extend(references(&row["ports"]));
    }
    for row in select(client, "Port", &ports, &["interfaces"])? {
        interfaces.extend(references(&row["interfaces"]));
    }
    let rows = select(client, "Interface", &interfaces, &["name", "error"])?;
    let error = |row: &Value| {
        let error = row["error"].as_str().filter(|error| !error.is_empty())?;
        Some((row["name"].as_str()?.to_owned(), error.to_owned()))
    };
    let mut errors: Vec<_> = rows.iter().filter_map(error).collect();
    errors.sort_unstable();
    Ok(errors)
}

fn select(
    client: &mut Client,
    table: &str,
    rows: &BTreeSet<Uuid>,
    columns: &[&str],
) -> Result<Vec<Value>, ClientError> {
    if rows.is_empty() {
        return Ok(vec![]);
    }
    let mut params = vec![json!(DATABASE)];
    for row in rows {
        params.push(json!({"op": "select", "table": table, "columns": columns,
            "where": [["_uuid", "==", Atom::Uuid(*row).to_json()]]}));
    }
    let mut results = client.call("transact", Value::Array(params))?;
    let results = results.as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(results.into_iter().filter_map(|mut result| result["rows"].get_mut(0).map(Value::take)).collect())
}

/// The rows in `["uuid", X]` or `["set", [["uuid", X], ...]]`.
fn references(json: &Value) -> Vec<Uuid> {
    let uuid = |json: &Value| Uuid::try_parse(json[1].as_str()?).ok();
    match json[0].as_str() {
        Some("set") => json[1].as_array().into_iter().flatten().filter_map(uuid).collect(),
        _ => uuid(json).into_iter().collect(),
    }
}
