//! How are settings kept that only Open vSwitch acts on: controllers, managers, SSL, Auto Attach mappings?

use super::bridge::BridgeView;
use super::{Context, Needs, Stop, bridge};
use crate::cli::grammar::Command;
use crate::cli::output::plain_atom;
use crate::datum::{Atom, Datum};
use uuid::Uuid;

/// Bridges with their controllers and fail modes.
pub fn needs_controller(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    bridge::needs(needs, command)?;
    needs.columns("Bridge", &["controller", "fail_mode"]);
    needs.all("Controller", &["target"]);
    Ok(())
}

/// The switch's managers.
pub fn needs_manager(needs: &mut Needs, _: &Command) -> Result<(), Stop> {
    needs.all("Open_vSwitch", &["manager_options"]);
    needs.all("Manager", &["target"]);
    Ok(())
}

/// The switch's SSL settings.
pub fn needs_ssl(needs: &mut Needs, _: &Command) -> Result<(), Stop> {
    needs.all("Open_vSwitch", &["ssl"]);
    needs.all("SSL", &["private_key", "certificate", "ca_cert", "bootstrap_ca_cert"]);
    Ok(())
}

/// Bridges with their Auto Attach mappings.
pub fn needs_mapping(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    bridge::needs(needs, command)?;
    needs.columns("Bridge", &["auto_attach"]);
    needs.all("AutoAttach", &["mappings"]);
    Ok(())
}

/// Where rows with a `target` hang.
struct Targets {
    table: &'static str,
    owner: &'static str,
    row: Uuid,
    column: &'static str,
}

impl Context {
    fn controllers(&mut self, view: &BridgeView) -> Targets {
        Targets { table: "Controller", owner: "Bridge", row: view.row, column: "controller" }
    }

    fn managers(&mut self) -> Targets {
        let row = self.txn.root();
        Targets { table: "Manager", owner: "Open_vSwitch", row, column: "manager_options" }
    }

    fn print_targets(&mut self, at: &Targets) {
        self.txn.rely_on_value(at.owner, at.row, at.column);
        let rows: Vec<Uuid> = self.txn.get(at.owner, at.row, at.column).uuids().collect();
        let mut targets: Vec<String> = vec![];
        for row in rows {
            self.txn.rely_on_value(at.table, row, "target");
            targets.extend(self.txn.get(at.table, row, "target").as_str().map(str::to_owned));
        }
        self.print_sorted(targets.iter().map(String::as_str));
    }

    /// Replaces the rows; none deletes them.
    fn set_targets(&mut self, at: &Targets, targets: &[String], command: &Command) {
        let old: Vec<Uuid> = self.txn.get(at.owner, at.row, at.column).uuids().collect();
        old.into_iter().for_each(|row| self.txn.delete(at.table, row));
        let probe = command.value("--inactivity-probe").map(|text| text.parse::<i64>().unwrap_or(0));
        let mut rows = vec![];
        for target in targets {
            const KINDS: [&str; 6] = ["tcp:", "ssl:", "unix:", "ptcp:", "pssl:", "punix:"];
            if !KINDS.iter().any(|kind| target.starts_with(kind)) {
                self.warnings.push(format!("target type \"{target}\" is possibly erroneous"));
            }
            let row = self.txn.insert(at.table, None, [("target", Datum::from(target.as_str()))]);
            if probe.is_some() {
                self.txn.replace(at.table, row, "inactivity_probe", Datum::from(probe));
            }
            rows.push(row);
        }
        self.txn.replace(at.owner, at.row, at.column, rows.into_iter().collect());
    }
}

/// The real bridge behind a name.
fn behind(ctx: &mut Context, command: &Command) -> Result<BridgeView, Stop> {
    let topology = ctx.topology();
    ctx.bridge(&topology, &command.args[0])
}

/// A bridge that is not a fake one.
fn real(ctx: &mut Context, command: &Command) -> Result<BridgeView, Stop> {
    let topology = ctx.topology();
    ctx.real_bridge(&topology, &command.args[0])
}

/// `get-controller BRIDGE`
pub fn get_controller(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let view = behind(ctx, command)?;
    let at = ctx.controllers(&view);
    ctx.print_targets(&at);
    Ok(())
}

/// `del-controller BRIDGE`
pub fn del_controller(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let view = real(ctx, command)?;
    let at = ctx.controllers(&view);
    ctx.set_targets(&at, &[], command);
    Ok(())
}

/// `set-controller BRIDGE TARGET...`
pub fn set_controller(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let view = real(ctx, command)?;
    let at = ctx.controllers(&view);
    ctx.set_targets(&at, &command.args[1..], command);
    Ok(())
}

/// `get-fail-mode BRIDGE`
pub fn get_fail_mode(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let view = behind(ctx, command)?;
    ctx.txn.rely_on_value("Bridge", view.row, "fail_mode");
    let mode = ctx.txn.get("Bridge", view.row, "fail_mode").as_str().map(str::to_owned);
    mode.iter().for_each(|mode| ctx.print(mode));
    ctx.tell(mode.into());
    Ok(())
}

/// `del-fail-mode BRIDGE`
pub fn del_fail_mode(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let view = real(ctx, command)?;
    ctx.txn.replace("Bridge", view.row, "fail_mode", Datum::from(None::<&str>));
    Ok(())
}

/// `set-fail-mode BRIDGE MODE`
pub fn set_fail_mode(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let view = real(ctx, command)?;
    let mode = command.args[1].as_str();
    if !matches!(mode, "standalone" | "secure") {
        return Stop::fail("fail-mode must be \"standalone\" or \"secure\"");
    }
    ctx.txn.replace("Bridge", view.row, "fail_mode", Datum::from(mode));
    Ok(())
}

/// `get-manager`
pub fn get_manager(ctx: &mut Context, _: &Command) -> Result<(), Stop> {
    let at = ctx.managers();
    ctx.print_targets(&at);
    Ok(())
}

/// `del-manager`
pub fn del_manager(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let at = ctx.managers();
    ctx.set_targets(&at, &[], command);
    Ok(())
}

/// `set-manager TARGET...`
pub fn set_manager(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let at = ctx.managers();
    ctx.set_targets(&at, &command.args, command);
    Ok(())
}

/// `get-ssl`
pub fn get_ssl(ctx: &mut Context, _: &Command) -> Result<(), Stop> {
    let root = ctx.txn.root();
    ctx.txn.rely_on_value("Open_vSwitch", root, "ssl");
    ctx.tell(serde_json::Value::Null);
    let Some(row) = ctx.txn.get("Open_vSwitch", root, "ssl").as_uuid() else {
        return Ok(());
    };
    let mut json = serde_json::Map::new();
    let lines = [
        ("Private key", "private_key"),
        ("Certificate", "certificate"),
        ("CA Certificate", "ca_cert"),
        ("Bootstrap", "bootstrap_ca_cert"),
    ];
    for (label, column) in lines {
        ctx.txn.rely_on_value("SSL", row, column);
        let value = ctx.txn.get("SSL", row, column).clone();
        ctx.print(&format!("{label}: {}", value.to_bare()));
        json.insert(column.to_owned(), value.scalar().map_or(serde_json::Value::Null, plain_atom));
    }
    ctx.tell(json.into());
    Ok(())
}

/// `del-ssl`
pub fn del_ssl(ctx: &mut Context, _: &Command) -> Result<(), Stop> {
    let root = ctx.txn.root();
    if let Some(row) = ctx.txn.get("Open_vSwitch", root, "ssl").as_uuid() {
        ctx.txn.delete("SSL", row);
        ctx.txn.replace("Open_vSwitch", root, "ssl", Datum::from(None::<Uuid>));
    }
    Ok(())
}

/// `set-ssl PRIVATE-KEY CERTIFICATE CA-CERT`
pub fn set_ssl(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    del_ssl(ctx, command)?;
    let text = |at: usize| Datum::from(command.args[at].as_str());
    let columns = [
        ("private_key", text(0)),
        ("certificate", text(1)),
        ("ca_cert", text(2)),
        ("bootstrap_ca_cert", Datum::from(command.has("--bootstrap"))),
    ];
    let row = ctx.txn.insert("SSL", None, columns);
    let root = ctx.txn.root();
    ctx.txn.replace("Open_vSwitch", root, "ssl", row.into());
    Ok(())
}

/// The I-SID and the VLAN of a mapping.
fn mapping(command: &Command) -> Result<(Atom, Atom), Stop> {
    let number = |at: usize| {
        let text = &command.args[at];
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number = text[..digits].parse::<i64>().ok();
        number.map(Atom::from).ok_or_else(|| Stop::new(format!("Invalid argument {text}")))
    };
    Ok((number(1)?, number(2)?))
}

/// `add-aa-mapping BRIDGE I-SID VLAN`
pub fn add_aa_mapping(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let (isid, vlan) = mapping(command)?;
    let view = behind(ctx, command)?;
    let row = match ctx.txn.get("Bridge", view.row, "auto_attach").as_uuid() {
        Some(row) => row,
        None => {
            let row = ctx.txn.insert("AutoAttach", None, []);
            ctx.txn.replace("Bridge", view.row, "auto_attach", row.into());
            row
        }
    };
    let mut mappings = ctx.txn.get("AutoAttach", row, "mappings").clone();
    if let Datum::Map(map) = &mut mappings {
        map.insert(isid, vlan);
    }
    ctx.txn.amend("AutoAttach", row, "mappings", mappings);
    Ok(())
}

/// `del-aa-mapping BRIDGE I-SID VLAN`
pub fn del_aa_mapping(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let (isid, vlan) = mapping(command)?;
    let view = behind(ctx, command)?;
    if let Some(row) = ctx.txn.get("Bridge", view.row, "auto_attach").as_uuid() {
        let mut mappings = ctx.txn.get("AutoAttach", row, "mappings").clone();
        if let Datum::Map(map) = &mut mappings {
            map.retain(|key, value| *key != isid || *value != vlan);
        }
        ctx.txn.amend("AutoAttach", row, "mappings", mappings);
    }
    Ok(())
}

/// `get-aa-mapping BRIDGE`
pub fn get_aa_mapping(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let view = behind(ctx, command)?;
    let row = ctx.txn.get("Bridge", view.row, "auto_attach").as_uuid();
    let mappings = row
        .map(|row| ctx.txn.get("AutoAttach", row, "mappings").clone())
        .unwrap_or_else(|| Datum::Set(Default::default()));
    mappings.pairs().for_each(|(isid, vlan)| ctx.print(&format!("{isid} {vlan}")));
    let json = |(isid, vlan)| serde_json::json!({"isid": plain_atom(isid), "vlan": plain_atom(vlan)});
    ctx.tell(mappings.pairs().map(json).collect());
    Ok(())
}

/// What `emer-reset` empties.
const RESET: &[(&str, &[&str])] = &[
    ("Open_vSwitch", &["manager_options", "ssl"]),
    ("Bridge", &["controller", "fail_mode", "mirrors", "netflow", "sflow", "ipfix", "flood_vlans", "other_config"]),
    ("Port", &["other_config"]),
    ("Interface", &["ingress_policing_rate", "ingress_policing_burst"]),
];

/// All of that, and the rows of the root tables among what it drops.
pub fn needs_emer_reset(needs: &mut Needs, _: &Command) -> Result<(), Stop> {
    RESET.iter().for_each(|(table, columns)| needs.all(table, columns));
    needs.all("Flow_Sample_Collector_Set", &["id"]);
    Ok(())
}

/// `emer-reset`
pub fn emer_reset(ctx: &mut Context, _: &Command) -> Result<(), Stop> {
    let schema = ctx.schema.clone();
    for (table, columns) in RESET {
        for row in ctx.txn.rows(table) {
            for name in *columns {
                let kind = schema.table(table).and_then(|table| table.column(name));
                let Some(kind) = kind.map(|column| &column.kind) else {
                    continue;
                };
                let mut value = Datum::default_of(kind);
                // A bridge keeps its MAC address.
                if (*table, *name) == ("Bridge", "other_config")
                    && let Some(address) = ctx.txn.get(table, row, name).get("hwaddr")
                {
                    value = Datum::from_iter([("hwaddr", address)]);
                }
                ctx.txn.replace(table, row, name, value);
            }
        }
    }
    for row in ctx.txn.rows("Flow_Sample_Collector_Set") {
        ctx.txn.delete("Flow_Sample_Collector_Set", row);
    }
    Ok(())
}
