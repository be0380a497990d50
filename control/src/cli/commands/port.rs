//! How are ports and their interfaces added, deleted and listed?

use super::bridge::{PortView, Topology};
use super::{Context, Needs, Stop};
use crate::cli::grammar::Command;
use crate::datum::Datum;
use uuid::Uuid;

/// Whatever has one of the names that are the arguments.
pub fn needs_names(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    command.args.iter().for_each(|name| needs.place(name));
    Ok(())
}

/// As that, for a bridge, a port, interfaces and settings: the bridge itself is known.
pub fn needs_new_port(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    needs.place(&command.args[1]);
    command.args[2..].iter().filter(|arg| !arg.contains('=')).for_each(|name| needs.place(name));
    Ok(())
}

/// The bridge's ports.
pub fn needs_ports(needs: &mut Needs, _: &Command) -> Result<(), Stop> {
    needs.ports();
    Ok(())
}

/// The bridge's interfaces.
pub fn needs_interfaces(needs: &mut Needs, _: &Command) -> Result<(), Stop> {
    needs.interfaces();
    Ok(())
}

/// What a port that is to be added looks like.
struct NewPort<'a> {
    bridge: &'a str,
    name: &'a str,
    interfaces: &'a [String],
    settings: &'a [String],
    fake_iface: bool,
}

impl Context {
    /// A port other than a bridge's own.
    fn find_port(&mut self, topology: &Topology, name: &str, must_exist: bool) -> Result<Option<PortView>, Stop> {
        match topology.ports.get(name).filter(|port| port.bridge != name) {
            Some(port) => {
                self.rely_on_port(port);
                Ok(Some(port.clone()))
            }
            None if must_exist => {
                let names = topology.ports.keys().map(String::as_str);
                let near = crate::cli::nearest(name, names.filter(|near| *near != name));
                let remedy = near.map(|near| format!("did you mean {near}?"));
                Err(Stop::new(format!("no port named {name}")).hint(remedy))
            }
            None => {
                self.txn.rely_on_absence("Port", name);
                Ok(None)
            }
        }
    }

    /// An interface other than a bridge's own, and its port's name.
    fn find_interface(&mut self, topology: &Topology, name: &str) -> Option<(Uuid, String)> {
        let found = topology.interfaces.get(name);
        let is_local = |port: &str| topology.ports.get(port).is_some_and(|port| port.bridge == name);
        match found.filter(|(_, port)| !is_local(port)) {
            Some((row, port)) => {
                if let Some(port) = topology.ports.get(port) {
                    self.txn.rely_on_link("Port", port.row, "interfaces", *row);
                }
                Some((*row, port.clone()))
            }
            None => {
                self.txn.rely_on_absence("Interface", name);
                None
            }
        }
    }

    fn add_new_port(&mut self, new: &NewPort<'_>, command: &Command) -> Result<(), Stop> {
        if new.name.is_empty() {
            return Stop::fail("port name must not be empty string");
        }
        if new.interfaces.iter().any(String::is_empty) {
            return Stop::fail("interface name must not be empty string");
        }
        let topology = self.topology();
        if command.has("--may-exist")
            && let Some(port) = self.find_port(&topology, new.name, false)?
        {
            return self.same_port(&port, new, command);
        }
        self.check_conflicts(&topology, new.name, "a port")?;
        for interface in new.interfaces {
            self.check_conflicts(&topology, interface, "an interface")?;
        }
        let bridge = self.bridge(&topology, new.bridge)?;
        let interfaces: Datum = new
            .interfaces
            .iter()
            .map(|name| self.txn.insert_interface([("name", Datum::from(name.as_str()))]))
            .collect();
        let columns = [
            ("name", Datum::from(new.name)),
            ("interfaces", interfaces),
            ("bond_fake_iface", Datum::from(new.fake_iface)),
        ];
        let port = self.txn.insert("Port", None, columns);
        if bridge.parent.is_some() {
            self.txn.replace("Port", port, "tag", bridge.vlan.into());
        }
        let schema = self.schema.clone();
        if let Some(table) = schema.table("Port") {
            new.settings.iter().try_for_each(|text| self.set_column(table, port, text))?;
        }
        self.txn.link("Bridge", bridge.row, "ports", port);
        Ok(())
    }

    /// Whether a port that exists is the one that `--may-exist` asks for.
    fn same_port(&mut self, port: &PortView, new: &NewPort<'_>, command: &Command) -> Result<(), Stop> {
        if port.bridge != new.bridge {
            let message =
                format!("\"{}\" but {} is actually attached to bridge {}", command.words(), new.name, port.bridge);
            let remedy = format!("\"del-port {} {}\" takes it off first", port.bridge, new.name);
            return Err(Stop::new(message).hint(Some(remedy)));
        }
        self.txn.rely_on_value("Port", port.row, "interfaces");
        let names = port.interfaces.iter().map(|row| self.txn.name("Interface", *row));
        let mut have: Vec<&str> = names.collect();
        let mut want: Vec<&str> = new.interfaces.iter().map(String::as_str).collect();
        have.sort_unstable();
        want.sort_unstable();
        if have == want {
            return Ok(());
        }
        Stop::fail(format!("\"{}\" but {} actually has interface(s) {}", command.words(), new.name, have.join(", ")))
    }

    /// Takes a port off its bridge; its row and its interfaces go with it.
    pub(super) fn delete_port(&mut self, port: &PortView) {
        self.txn.unlink("Bridge", port.bridge_row, "ports", port.row);
        for interface in &port.interfaces {
            if let Some(svi) = self.txn.get("Interface", *interface, "svi").as_uuid() {
                self.txn.delete("SVI", svi);
            }
            self.txn.delete("Interface", *interface);
        }
        self.txn.delete("Port", port.row);
    }
}

/// `add-port BRIDGE PORT [COLUMN[:KEY]=VALUE]...`
pub fn add_port(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let new = NewPort {
        bridge: &command.args[0],
        name: &command.args[1],
        interfaces: &command.args[1..2],
        settings: &command.args[2..],
        fake_iface: false,
    };
    ctx.add_new_port(&new, command)
}

/// `add-bond BRIDGE PORT IFACE... [COLUMN[:KEY]=VALUE]...`
pub fn add_bond(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let rest = &command.args[2..];
    let count = rest.iter().position(|arg| arg.contains('=')).unwrap_or(rest.len());
    if count < 2 {
        return Stop::fail(format!("add-bond requires at least 2 interfaces, but only {count} were specified"));
    }
    let new = NewPort {
        bridge: &command.args[0],
        name: &command.args[1],
        interfaces: &rest[..count],
        settings: &rest[count..],
        fake_iface: command.has("--fake-iface"),
    };
    ctx.add_new_port(&new, command)
}

/// `add-bond-iface PORT IFACE`
pub fn add_bond_iface(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let (port_name, name) = (command.args[0].as_str(), command.args[1].as_str());
    let topology = ctx.topology();
    let Some(port) = ctx.find_port(&topology, port_name, true)? else {
        return Ok(());
    };
    if command.has("--may-exist")
        && let Some((_, other)) = ctx.find_interface(&topology, name)
    {
        if other == port_name {
            return Ok(());
        }
        return Stop::fail(format!("\"{}\" but {name} is actually attached to port {other}", command.words()));
    }
    ctx.check_conflicts(&topology, name, "an interface")?;
    let interface = ctx.txn.insert_interface([("name", Datum::from(name))]);
    ctx.txn.link("Port", port.row, "interfaces", interface);
    Ok(())
}

/// `del-bond-iface [PORT] IFACE`
pub fn del_bond_iface(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let topology = ctx.topology();
    let (port_name, name) = match command.args.as_slice() {
        [port, name] => (Some(port), name),
        [name, ..] => (None, name),
        [] => return Ok(()),
    };
    let Some((row, owner)) = ctx.find_interface(&topology, name) else {
        return match command.has("--if-exists") {
            true => Ok(()),
            false => Stop::fail(format!("no interface named {name}")),
        };
    };
    if let Some(port_name) = port_name {
        ctx.find_port(&topology, port_name, true)?;
        if owner != *port_name {
            return Stop::fail(format!("port {port_name} does not have an interface {name}"));
        }
    }
    let Some(port) = topology.ports.get(&owner) else {
        return Ok(());
    };
    if port.interfaces.len() < 2 {
        return Err(Stop::new(format!("cannot delete last interface from port {owner}"))
            .hint(Some(format!("\"del-port {owner}\" deletes the port"))));
    }
    ctx.txn.unlink("Port", port.row, "interfaces", row);
    ctx.txn.delete("Interface", row);
    Ok(())
}

/// `del-port [BRIDGE] PORT`
pub fn del_port(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let must_exist = !command.has("--if-exists");
    let topology = ctx.topology();
    let (bridge_name, name) = match command.args.as_slice() {
        [bridge, name] => (Some(bridge), name),
        [name, ..] => (None, name),
        [] => return Ok(()),
    };
    if ctx.find_bridge(&topology, name, false)?.is_some() {
        return match must_exist {
            true => Stop::fail(format!(
                "cannot delete port {name} because it is the local port for bridge {name} \
                 (deleting this port requires deleting the entire bridge)"
            )),
            false => Ok(()),
        };
    }
    let with_iface = command.has("--with-iface");
    let mut port = ctx.find_port(&topology, name, must_exist && !with_iface)?;
    if port.is_none() && with_iface {
        let owner = ctx.find_interface(&topology, name).map(|(_, owner)| owner);
        port = owner.and_then(|owner| topology.ports.get(&owner).cloned());
        if port.is_none() && must_exist {
            return Stop::fail(format!("no port or interface named {name}"));
        }
    }
    let Some(port) = port else {
        return Ok(());
    };
    if let Some(bridge_name) = bridge_name {
        let bridge = ctx.bridge(&topology, bridge_name)?;
        if port.bridge != bridge.name {
            let child = topology.bridges.get(&port.bridge).and_then(|view| view.parent.as_ref());
            let although = match child == Some(bridge_name) {
                true => format!(" (although its child bridge {} does)", port.bridge),
                false => String::new(),
            };
            let message = format!("bridge {bridge_name} does not have a port {name}{although}");
            return Err(Stop::new(message).hint(Some(format!("it is on bridge {}", port.bridge))));
        }
    }
    ctx.delete_port(&port);
    Ok(())
}

/// `port-to-br PORT`
pub fn port_to_br(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let topology = ctx.topology();
    if let Some(port) = ctx.find_port(&topology, &command.args[0], true)? {
        ctx.answer(&port.bridge);
    }
    Ok(())
}

/// `iface-to-br IFACE`
pub fn iface_to_br(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let topology = ctx.topology();
    let name = &command.args[0];
    let found = ctx.find_interface(&topology, name);
    match found.and_then(|(_, port)| topology.ports.get(&port)) {
        Some(port) => ctx.answer(&port.bridge),
        None => return Stop::fail(format!("no interface named {name}")),
    }
    Ok(())
}

/// `list-ports BRIDGE`
pub fn list_ports(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let topology = ctx.topology();
    let view = ctx.bridge(&topology, &command.args[0])?;
    ctx.txn.rely_on_value("Bridge", view.row, "ports");
    let names = view.ports.iter().map(String::as_str);
    ctx.print_sorted(names.filter(|name| *name != view.name));
    Ok(())
}

/// `list-ifaces BRIDGE`
pub fn list_ifaces(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let topology = ctx.topology();
    let view = ctx.bridge(&topology, &command.args[0])?;
    ctx.txn.rely_on_value("Bridge", view.row, "ports");
    let ports = view.ports.iter().filter_map(|name| topology.ports.get(name));
    let rows: Vec<Uuid> = ports.flat_map(|port| port.interfaces.iter().copied()).collect();
    let names: Vec<String> =
        rows.iter().map(|row| ctx.txn.name("Interface", *row).to_owned()).filter(|name| *name != view.name).collect();
    ctx.print_sorted(names.iter().map(String::as_str));
    Ok(())
}
