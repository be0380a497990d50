//! How are conntrack timeouts by zone, and a datapath's capabilities, kept? Only Open vSwitch acts on them.

use super::{Context, Needs, Stop};
use crate::cli::grammar::Command;
use crate::cli::output::{plain, plain_atom};
use crate::datum::{Atom, Datum};
use serde_json::json;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Data paths and what they can do.
pub fn needs_datapath(needs: &mut Needs, _: &Command) -> Result<(), Stop> {
    needs.all("Open_vSwitch", &["datapaths"]);
    needs.all("Datapath", &["capabilities"]);
    Ok(())
}

/// Data paths, their zones and the zones' timeouts.
pub fn needs_zones(needs: &mut Needs, _: &Command) -> Result<(), Stop> {
    needs.all("Open_vSwitch", &["datapaths"]);
    needs.all("Datapath", &["ct_zones"]);
    needs.all("CT_Zone", &["timeout_policy"]);
    needs.all("CT_Timeout_Policy", &["timeouts"]);
    Ok(())
}

impl Context {
    fn datapath(&mut self, name: &str) -> Option<Uuid> {
        let root = self.txn.root();
        self.txn.rely_on_value("Open_vSwitch", root, "datapaths");
        referred(self.txn.get("Open_vSwitch", root, "datapaths"), &Atom::from(name))
    }

    /// The datapath's row, the zone's number, and its row if it is there.
    fn zone(&mut self, command: &Command) -> Result<(Uuid, i64, Option<Uuid>), Stop> {
        let name = &command.args[0];
        let datapath = self.datapath(name).ok_or_else(|| Stop::new(format!("datapath {name} does not exist")))?;
        let typed = &command.args[1];
        let number = typed.strip_prefix("zone=").and_then(|number| number.parse().ok());
        let Some(number) = number else {
            return Err(Stop::new(format!("{typed}: not a zone")).hint(Some("write zone=NUMBER")));
        };
        self.txn.rely_on_value("Datapath", datapath, "ct_zones");
        let zone = referred(self.txn.get("Datapath", datapath, "ct_zones"), &Atom::Integer(number));
        Ok((datapath, number, zone))
    }

    /// The policy with these timeouts; zones with the same ones share it.
    fn policy(&mut self, timeouts: Datum) -> Uuid {
        const TABLE: &str = "CT_Timeout_Policy";
        let same = |row: &Uuid| *self.txn.get(TABLE, *row, "timeouts") == timeouts;
        let found = self.txn.rows(TABLE).into_iter().find(same);
        found.unwrap_or_else(|| self.txn.insert(TABLE, None, [("timeouts", timeouts)]))
    }
}

/// The row that a map from names or numbers to rows has for `key`.
fn referred(map: &Datum, key: &Atom) -> Option<Uuid> {
    match map {
        Datum::Map(map) => match map.get(key) {
            Some(Atom::Uuid(row)) => Some(*row),
            _ => None,
        },
        Datum::Set(_) => None,
    }
}

/// `add-zone-tp DATAPATH zone=NUMBER KEY=SECONDS...`
pub fn add_zone_tp(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let (datapath, number, zone) = ctx.zone(command)?;
    if zone.is_some() && !command.has("--may-exist") {
        return Stop::fail(format!("zone id {number} already exists"));
    }
    let mut timeouts = BTreeMap::new();
    for setting in &command.args[2..] {
        // As in C: what is not a number is 0, and of a key that is given twice the first counts.
        let (key, seconds) = setting.split_once('=').unwrap_or((setting, ""));
        let digits = seconds.bytes().enumerate().take_while(|(i, c)| c.is_ascii_digit() || (*i == 0 && *c == b'-'));
        let seconds = seconds[..digits.count()].parse().unwrap_or(0);
        timeouts.entry(Atom::from(key)).or_insert(Atom::Integer(seconds));
    }
    let policy = Datum::from(ctx.policy(Datum::Map(timeouts)));
    match zone {
        Some(zone) => ctx.txn.replace("CT_Zone", zone, "timeout_policy", policy),
        None => {
            let zone = ctx.txn.insert("CT_Zone", None, [("timeout_policy", policy)]);
            let mut zones = ctx.txn.get("Datapath", datapath, "ct_zones").clone();
            if let Datum::Map(map) = &mut zones {
                map.insert(Atom::Integer(number), Atom::Uuid(zone));
            }
            ctx.txn.amend("Datapath", datapath, "ct_zones", zones);
        }
    }
    Ok(())
}

/// `del-zone-tp DATAPATH zone=NUMBER`
pub fn del_zone_tp(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let (datapath, number, zone) = ctx.zone(command)?;
    let Some(zone) = zone else {
        return match command.has("--if-exists") {
            true => Ok(()),
            false => Stop::fail(format!("zone id {number} does not exist")),
        };
    };
    let mut zones = ctx.txn.get("Datapath", datapath, "ct_zones").clone();
    if let Datum::Map(map) = &mut zones {
        map.retain(|key, _| *key != Atom::Integer(number));
    }
    ctx.txn.amend("Datapath", datapath, "ct_zones", zones);
    ctx.txn.delete("CT_Zone", zone);
    Ok(())
}

/// `list-zone-tp DATAPATH`
pub fn list_zone_tp(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let name = &command.args[0];
    let Some(datapath) = ctx.datapath(name) else {
        return Stop::fail(format!("datapath: {name} record not found"));
    };
    let zones = ctx.txn.get("Datapath", datapath, "ct_zones").clone();
    let mut json = vec![];
    for (number, zone) in zones.pairs() {
        let Atom::Uuid(zone) = zone else { continue };
        let policy = ctx.txn.get("CT_Zone", *zone, "timeout_policy").as_uuid();
        let timeouts = policy.map(|row| ctx.txn.get("CT_Timeout_Policy", row, "timeouts").clone());
        json.push(json!({"zone": plain_atom(number), "timeouts": timeouts.as_ref().map(plain)}));
        let timeouts = timeouts.map_or("Default".to_owned(), |timeouts| timeouts.to_bare());
        ctx.print(&format!("Zone:{number}, Timeout Policies: {timeouts}"));
    }
    ctx.tell(json.into());
    Ok(())
}

/// `list-dp-cap DATAPATH`
pub fn list_dp_cap(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let name = &command.args[0];
    let Some(row) = ctx.datapath(name) else {
        return Stop::fail(format!("datapath \"{name}\" record not found"));
    };
    let capabilities = ctx.txn.get("Datapath", row, "capabilities").clone();
    ctx.print(&capabilities.to_bare());
    ctx.tell(plain(&capabilities));
    Ok(())
}
