//! Is the data plane doing what was committed, and did every device agree?

use super::DATABASE;
use super::client::{Client, ClientError};
use super::commands::Stop;
use super::program::Program;
use crate::datum::Atom;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Committed, but not or not wholly applied.
const STATUS_NOT_APPLIED: u8 = 65;

impl Program {
    /// Waits until `cur_cfg` has reached `next_cfg`; gives names and errors of the interfaces concerned.
    pub(super) fn wait_applied(
        &self,
        client: &mut Client,
        next_cfg: i64,
        touched: &[(String, Uuid)],
    ) -> Result<Vec<(String, String)>, Stop> {
        let mut cur_cfg = None;
        let result = follow(client, next_cfg, &mut cur_cfg).and_then(|()| errors(client, touched));
        result.map_err(|error| {
            let reason = match error {
                ClientError::Timeout => {
                    let reached = cur_cfg.map_or(String::new(), |cur| format!(" (cur_cfg {cur}, next_cfg {next_cfg})"));
                    format!("shuntd has not applied it within {}{reached}", self.limit())
                }
                error => error.to_string(),
            };
            Stop::Fail {
                message: format!("the change is committed and kept, but {reason}"),
                hint: Some("shuntd goes on with it; \"show\" and shuntd's log tell more".to_owned()),
                status: STATUS_NOT_APPLIED,
            }
        })
    }

    /// Names the interfaces in trouble; gives the exit status.
    pub(super) fn report(&self, trouble: &[(String, String)]) -> u8 {
        for (name, error) in trouble {
            let end = if self.as_ovs { ".  See ovs-vswitchd log for details." } else { "" };
            eprintln!("{}: Error detected while setting up '{name}': {error}{end}", self.name);
        }
        match (trouble, self.as_ovs) {
            ([], _) => 0,
            (_, false) => STATUS_NOT_APPLIED,
            (_, true) => {
                let log = std::env::var("OVS_LOGDIR").unwrap_or_else(|_| "/var/log/openvswitch".to_owned());
                eprintln!("{}: The default log directory is \"{log}\".", self.name);
                0
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

/// Names and errors of the interfaces among `touched`, below the ports and of the bridges among them.
fn errors(client: &mut Client, touched: &[(String, Uuid)]) -> Result<Vec<(String, String)>, ClientError> {
    let of =
        |table: &str| -> BTreeSet<Uuid> { touched.iter().filter(|(t, _)| t == table).map(|(_, row)| *row).collect() };
    let (bridges, mut ports, mut interfaces) = (of("Bridge"), of("Port"), of("Interface"));
    // A bridge's own port: a container that is gone is not the fault of who changes a setting of the bridge.
    for row in select(client, "Bridge", &bridges, &["name"])? {
        let own =
            json!({"op": "select", "table": "Port", "columns": ["_uuid"], "where": [["name", "==", row["name"]]]});
        let results = client.call("transact", json!([DATABASE, own]))?;
        ports.extend(references(&results[0]["rows"][0]["_uuid"]));
    }
    for row in select(client, "Port", &ports, &["interfaces"])? {
        interfaces.extend(references(&row["interfaces"]));
    }
    let rows = select(client, "Interface", &interfaces, &["name", "error"])?;
    let error = |name: &str, row: &Value| {
        let error = row["error"].as_str().filter(|error| !error.is_empty())?;
        Some((row[name].as_str()?.to_owned(), error.to_owned()))
    };
    let mut errors: Vec<_> = rows.iter().filter_map(|row| error("name", row)).collect();
    for (table, name) in [("SVI", "name"), ("Route", "prefix"), ("Neighbor", "address")] {
        let rows = select(client, table, &of(table), &[name, "error"])?;
        errors.extend(rows.iter().filter_map(|row| error(name, row)));
    }
    errors.sort_unstable();
    errors.dedup();
    errors.extend(mirrors(client, touched)?);
    for row in select(client, "Open_vSwitch", &of("Open_vSwitch"), &["error"])? {
        errors.extend(row["error"].as_str().map(|error| ("Open_vSwitch".to_owned(), error.to_owned())));
    }
    Ok(errors)
}

/// Names and errors of the mirrors among `touched`, and of those of the bridges among them.
fn mirrors(client: &mut Client, touched: &[(String, Uuid)]) -> Result<Vec<(String, String)>, ClientError> {
    if !touched.iter().any(|(table, _)| matches!(table.as_str(), "Bridge" | "Mirror")) {
        return Ok(vec![]);
    }
    let among = |uuid: &Value| touched.iter().any(|(_, row)| uuid[1].as_str() == Some(row.to_string().as_str()));
    let all =
        |table: &str, column: &str| json!({"op": "select", "table": table, "where": [], "columns": ["_uuid", column]});
    let results = client.call("transact", json!([DATABASE, all("Bridge", "status"), all("Mirror", "name")]))?;
    let rows = |place: usize| results[place]["rows"].as_array().into_iter().flatten();
    let ours: BTreeSet<&str> =
        rows(1).filter(|row| among(&row["_uuid"])).filter_map(|row| row["name"].as_str()).collect();
    let mut errors = vec![];
    for bridge in rows(0) {
        for pair in bridge["status"][1].as_array().into_iter().flatten() {
            let mirror = pair[0].as_str().and_then(|key| key.strip_prefix("mirror-"));
            if let (Some(mirror), Some(error)) = (mirror, pair[1].as_str())
                && (among(&bridge["_uuid"]) || ours.contains(mirror))
            {
                errors.push((mirror.to_owned(), error.to_owned()));
            }
        }
    }
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
