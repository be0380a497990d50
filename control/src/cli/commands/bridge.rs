//! Which bridge, real or fake, has which ports and interfaces; and how are bridges added, deleted and listed?

use super::{Context, Needs, Stop};
use crate::cli::grammar::Command;
use crate::cli::nearest;
use crate::datum::{Atom, Datum};
use std::collections::BTreeMap;
use std::rc::Rc;
use uuid::Uuid;

/// The bridges.
pub fn needs(needs: &mut Needs, _: &Command) -> Result<(), Stop> {
    needs.bridges();
    Ok(())
}

/// The bridges, and whatever has the name of the one to be added.
pub fn needs_new(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    needs.place(&command.args[0]);
    Ok(())
}

/// The bridges and their external_ids.
pub fn needs_external_ids(needs: &mut Needs, _: &Command) -> Result<(), Stop> {
    needs.bridges();
    needs.columns("Bridge", &["external_ids"]);
    needs.columns("Port", &["external_ids"]);
    Ok(())
}

/// A bridge, or a fake bridge: a port of another bridge that stands for one of its VLANs.
#[derive(Clone)]
pub(super) struct BridgeView {
    pub(super) name: String,
    /// The row of the real bridge: its own or its parent's.
    pub(super) row: Uuid,
    /// The parent of a fake bridge.
    pub(super) parent: Option<String>,
    /// The VLAN of a fake bridge, else 0.
    pub(super) vlan: i64,
    pub(super) ports: Vec<String>,
}

#[derive(Clone)]
pub(super) struct PortView {
    pub(super) row: Uuid,
    /// The name of the bridge, fake or real.
    pub(super) bridge: String,
    /// The row of the real bridge.
    pub(super) bridge_row: Uuid,
    pub(super) interfaces: Vec<Uuid>,
}

/// Bridges, ports and interfaces by name.
#[derive(Default)]
pub(super) struct Topology {
    pub(super) bridges: BTreeMap<String, BridgeView>,
    pub(super) ports: BTreeMap<String, PortView>,
    /// The interface's row and its port's name.
    pub(super) interfaces: BTreeMap<String, (Uuid, String)>,
}

impl Topology {
    fn child(&self, parent: &str, vlan: i64) -> Option<&BridgeView> {
        let fits = |view: &&BridgeView| view.parent.as_deref() == Some(parent) && view.vlan == vlan;
        self.bridges.values().find(fits)
    }
}

impl Context {
    /// The bridges as they are now, with this invocation's changes.
    pub(super) fn topology(&mut self) -> Rc<Topology> {
        let root = self.txn.root();
        let mut topology = Topology::default();
        let txn = &self.txn;
        let bridges: Vec<Uuid> = txn.get("Open_vSwitch", root, "bridges").uuids().collect();
        for row in bridges.iter().filter(|row| txn.exists("Bridge", **row)) {
            let name = txn.name("Bridge", *row).to_owned();
            topology.add_bridge(name, *row, None, 0);
        }
        let vlan = |port: Uuid| txn.get("Port", port, "tag").as_integer();
        let ports: Vec<(Uuid, Uuid)> = bridges
            .iter()
            .flat_map(|bridge| txn.get("Bridge", *bridge, "ports").uuids().map(|port| (*bridge, port)))
            .filter(|(_, port)| txn.exists("Port", *port))
            .collect();
        for (bridge, port) in &ports {
            if let Some(vlan) = vlan(*port)
                && txn.get("Port", *port, "fake_bridge").as_bool() == Some(true)
            {
                let parent = txn.name("Bridge", *bridge).to_owned();
                topology.add_bridge(txn.name("Port", *port).to_owned(), *bridge, Some(parent), vlan);
            }
        }
        for (bridge, port) in ports {
            let parent = txn.name("Bridge", bridge);
            let child = vlan(port).and_then(|vlan| topology.child(parent, vlan));
            let bridge_name = child.map_or(parent, |view| &view.name).to_owned();
            let name = txn.name("Port", port).to_owned();
            let interfaces: Vec<Uuid> = txn.get("Port", port, "interfaces").uuids().collect();
            for interface in interfaces.iter().filter(|row| txn.exists("Interface", **row)) {
                let entry = (*interface, name.clone());
                topology.interfaces.insert(txn.name("Interface", *interface).to_owned(), entry);
            }
            if let Some(view) = topology.bridges.get_mut(&bridge_name) {
                view.ports.push(name.clone());
            }
            let view = PortView { row: port, bridge: bridge_name, bridge_row: bridge, interfaces };
            topology.ports.insert(name, view);
        }
        Rc::new(topology)
    }

    /// A bridge that must be there, or may be; relies on the answer.
    pub(super) fn find_bridge(
        &mut self,
        topology: &Topology,
        name: &str,
        must_exist: bool,
    ) -> Result<Option<BridgeView>, Stop> {
        let Some(view) = topology.bridges.get(name) else {
            if must_exist {
                let names = topology.bridges.keys().map(String::as_str);
                let remedy = match nearest(name, names) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("\"add-br {name}\" makes it, \"list-br\" shows what there is"),
                };
                return Err(Stop::new(format!("no bridge named {name}")).hint(Some(remedy)));
            }
            self.txn.rely_on_no_bridge(name);
            return Ok(None);
        };
        self.rely_on_bridge(topology, view);
        Ok(Some(view.clone()))
    }

    /// As [`Context::find_bridge`] for one that must be there.
    pub(super) fn bridge(&mut self, topology: &Topology, name: &str) -> Result<BridgeView, Stop> {
        let found = self.find_bridge(topology, name, true)?;
        found.ok_or_else(|| Stop::new(format!("no bridge named {name}")))
    }

    /// As [`Context::bridge`], but not a fake one.
    pub(super) fn real_bridge(&mut self, topology: &Topology, name: &str) -> Result<BridgeView, Stop> {
        let view = self.bridge(topology, name)?;
        match &view.parent {
            Some(parent) => {
                Err(Stop::new(format!("{name} is a fake bridge")).hint(Some(format!("its parent is {parent}"))))
            }
            None => Ok(view),
        }
    }

    fn rely_on_bridge(&mut self, topology: &Topology, view: &BridgeView) {
        self.txn.rely_on_row("Bridge", view.row);
        if view.parent.is_some()
            && let Some(port) = topology.ports.get(&view.name)
        {
            self.rely_on_port(port);
            self.txn.rely_on_value("Port", port.row, "fake_bridge");
            self.txn.rely_on_value("Port", port.row, "tag");
        }
    }

    pub(super) fn rely_on_port(&mut self, port: &PortView) {
        self.txn.rely_on_link("Bridge", port.bridge_row, "ports", port.row);
    }

    /// Refuses a name that a bridge, port or interface has already; relies on nobody having it.
    pub(super) fn check_conflicts(&mut self, topology: &Topology, name: &str, what: &str) -> Result<(), Stop> {
        let taken = if topology.bridges.contains_key(name) {
            format!("a bridge named {name} already exists")
        } else if let Some(port) = topology.ports.get(name) {
            format!("a port named {name} already exists on bridge {}", port.bridge)
        } else if let Some((_, port)) = topology.interfaces.get(name) {
            let bridge = topology.ports.get(port).map_or("", |port| &port.bridge);
            format!("an interface named {name} already exists on bridge {bridge}")
        } else {
            for table in ["Bridge", "Port", "Interface"] {
                self.txn.rely_on_absence(table, name);
            }
            return Ok(());
        };
        let remedy = "choose another name, delete that one first, or use --may-exist if it is the one you mean";
        Err(Stop::new(format!("cannot create {what} named {name} because {taken}")).hint(Some(remedy)))
    }

    /// Inserts a port with one interface of the same name that leads into the host.
    pub(super) fn insert_local_port(&mut self, name: &str) -> Uuid {
        let internal = [("name", Datum::from(name)), ("type", Datum::from("internal"))];
        let interface = self.txn.insert_interface(internal);
        let columns = [("name", Datum::from(name)), ("interfaces", Datum::from(interface))];
        self.txn.insert("Port", None, columns)
    }
}

impl Topology {
    /// The first of a name wins.
    fn add_bridge(&mut self, name: String, row: Uuid, parent: Option<String>, vlan: i64) {
        if self.bridges.contains_key(&name) {
            return;
        }
        let view = BridgeView { name: name.clone(), row, parent, vlan, ports: vec![] };
        self.bridges.insert(name, view);
    }
}

/// `add-br BRIDGE [PARENT VLAN]`
pub fn add_br(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let name = command.args[0].as_str();
    if name.is_empty() {
        return Stop::fail("bridge name must not be empty string");
    }
    let fake = match &command.args[1..] {
        [] => None,
        [parent, vlan] => Some((parent.as_str(), vlan_of(vlan)?)),
        _ => return Stop::fail("'add-br' command takes exactly 1 or 3 arguments"),
    };
    let topology = ctx.topology();
    if command.has("--may-exist")
        && let Some(view) = ctx.find_bridge(&topology, name, false)?
    {
        return same_bridge(&view, fake);
    }
    ctx.check_conflicts(&topology, name, "a bridge")?;
    let Some((parent_name, vlan)) = fake else {
        let port = ctx.insert_local_port(name);
        let columns = [("name", Datum::from(name)), ("ports", Datum::from(port))];
        let bridge = ctx.txn.insert("Bridge", None, columns);
        let root = ctx.txn.root();
        ctx.txn.link("Open_vSwitch", root, "bridges", bridge);
        return Ok(());
    };
    let parent = match ctx.find_bridge(&topology, parent_name, false)? {
        Some(parent) if parent.parent.is_some() => {
            return Stop::fail("cannot create bridge with fake bridge as parent");
        }
        Some(parent) => parent,
        None => {
            return Err(Stop::new(format!("parent bridge {parent_name} does not exist"))
                .hint(Some(format!("\"add-br {parent_name}\" makes it"))));
        }
    };
    if let Some(other) = topology.child(parent_name, vlan) {
        return Stop::fail(format!(
            "bridge {parent_name} already has a child VLAN bridge {} on VLAN {vlan}",
            other.name
        ));
    }
    let port = ctx.insert_local_port(name);
    ctx.txn.replace("Port", port, "fake_bridge", true.into());
    ctx.txn.replace("Port", port, "tag", vlan.into());
    ctx.txn.link("Bridge", parent.row, "ports", port);
    Ok(())
}

fn vlan_of(text: &str) -> Result<i64, Stop> {
    let digits = text.trim_start_matches('-').bytes().take_while(u8::is_ascii_digit).count();
    let sign = text.len() - text.trim_start_matches('-').len();
    // As C's atoi: what is not a number is 0.
    let vlan = text[..sign + digits].parse::<i64>().unwrap_or(0);
    match (0..=4095).contains(&vlan) {
        true => Ok(vlan),
        false => Stop::fail("add-br: vlan must be between 0 and 4095"),
    }
}

/// Whether a bridge that exists is the one that `--may-exist add-br` asks for.
fn same_bridge(view: &BridgeView, fake: Option<(&str, i64)>) -> Result<(), Stop> {
    let name = &view.name;
    let but = match (fake, &view.parent) {
        (None, None) => return Ok(()),
        (None, Some(_)) => format!("is a VLAN bridge for VLAN {}", view.vlan),
        (Some(_), None) => "is not a VLAN bridge".to_owned(),
        (Some((parent, _)), Some(other)) if parent != other => {
            format!("has the wrong parent {other}")
        }
        (Some((_, vlan)), Some(_)) if vlan != view.vlan => {
            format!("is a VLAN bridge for the wrong VLAN {}", view.vlan)
        }
        (Some(_), Some(_)) => return Ok(()),
    };
    let wanted = fake.map_or(String::new(), |(parent, vlan)| format!(" {parent} {vlan}"));
    Stop::fail(format!("\"--may-exist add-br {name}{wanted}\" but {name} {but}"))
}

/// `del-br BRIDGE`
pub fn del_br(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let topology = ctx.topology();
    let must_exist = !command.has("--if-exists");
    let Some(view) = ctx.find_bridge(&topology, &command.args[0], must_exist)? else {
        return Ok(());
    };
    if view.parent.is_some() && ctx.txn.is_partial("Port") {
        return Err(Stop::ReadAll); // its ports are those of its VLAN
    }
    let doomed: Vec<&BridgeView> = topology
        .bridges
        .values()
        .filter(|other| other.name == view.name || other.parent.as_deref() == Some(&view.name))
        .collect();
    for port in doomed.iter().flat_map(|bridge| &bridge.ports) {
        if let Some(port) = topology.ports.get(port) {
            ctx.delete_port(port);
        }
    }
    if view.parent.is_none() {
        let root = ctx.txn.root();
        ctx.txn.unlink("Open_vSwitch", root, "bridges", view.row);
        ctx.txn.delete("Bridge", view.row);
    }
    Ok(())
}

/// `list-br`
pub fn list_br(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let (real, fake) = match (command.has("--real"), command.has("--fake")) {
        (false, false) => (true, true),
        chosen => chosen,
    };
    let topology = ctx.topology();
    let wanted = |view: &&BridgeView| if view.parent.is_some() { fake } else { real };
    ctx.print_sorted(topology.bridges.values().filter(wanted).map(|view| view.name.as_str()));
    Ok(())
}

/// `br-exists BRIDGE`
pub fn br_exists(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let topology = ctx.topology();
    match ctx.find_bridge(&topology, &command.args[0], false)? {
        Some(_) => Ok(()),
        None => Err(Stop::Exit(2)),
    }
}

/// `br-to-vlan BRIDGE`
pub fn br_to_vlan(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let topology = ctx.topology();
    let view = ctx.bridge(&topology, &command.args[0])?;
    ctx.print(&view.vlan.to_string());
    ctx.tell(view.vlan.into());
    Ok(())
}

/// `br-to-parent BRIDGE`
pub fn br_to_parent(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let topology = ctx.topology();
    let view = ctx.bridge(&topology, &command.args[0])?;
    ctx.answer(view.parent.as_ref().unwrap_or(&view.name));
    Ok(())
}

/// Where the external_ids of a bridge are: a fake one has them at its port, with a prefix.
fn external_ids(ctx: &mut Context, name: &str) -> Result<(&'static str, Uuid, &'static str), Stop> {
    let topology = ctx.topology();
    let view = ctx.bridge(&topology, name)?;
    Ok(match (&view.parent, topology.ports.get(name)) {
        (Some(_), Some(port)) => ("Port", port.row, "fake-bridge-"),
        _ => ("Bridge", view.row, ""),
    })
}

/// `br-set-external-id BRIDGE KEY [VALUE]`
pub fn br_set_external_id(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let (table, row, prefix) = external_ids(ctx, &command.args[0])?;
    let key = Atom::from(format!("{prefix}{}", command.args[1]));
    let mut value = ctx.txn.get(table, row, "external_ids").clone();
    if let Datum::Map(map) = &mut value {
        match command.args.get(2) {
            Some(text) => map.insert(key, Atom::from(text.as_str())),
            None => map.remove(&key),
        };
    }
    ctx.txn.amend(table, row, "external_ids", value);
    Ok(())
}

/// `br-get-external-id BRIDGE [KEY]`
pub fn br_get_external_id(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let (table, row, prefix) = external_ids(ctx, &command.args[0])?;
    ctx.txn.rely_on_value(table, row, "external_ids");
    let ids = ctx.txn.get(table, row, "external_ids").clone();
    if let Some(key) = command.args.get(1) {
        let value = ids.get(&format!("{prefix}{key}"));
        value.iter().for_each(|value| ctx.print(value));
        ctx.tell(value.into());
        return Ok(());
    }
    let mut json = serde_json::Map::new();
    for (key, value) in ids.pairs() {
        if let (Atom::String(key), Atom::String(value)) = (key, value)
            && let Some(key) = key.strip_prefix(prefix)
        {
            ctx.print(&format!("{key}={value}"));
            json.insert(key.to_owned(), value.as_str().into());
        }
    }
    ctx.tell(json.into());
    Ok(())
}
