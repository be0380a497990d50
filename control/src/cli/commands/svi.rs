//! How does the switch become the gateway of a VLAN? An SVI is a port that leads into the host, with addresses.

use super::bridge::{BridgeView, Topology};
use super::{Context, Needs, Stop};
use crate::cli::grammar::Command;
use crate::cli::nearest;
use crate::datum::Datum;
use crate::routing::text;
use ipnet::IpNet;
use serde_json::json;
use uuid::Uuid;

/// Longest name of a network device (IFNAMSIZ, less the final zero).
const NAME_BYTES_MAX: usize = 15;

/// Whatever has the name.
pub fn needs(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    needs.place(&command.args[0]);
    needs.columns("Interface", &["svi"]);
    needs.rows("SVI", &[json!(["name", "==", command.args[0]])]);
    Ok(())
}

/// Whatever has the name, and the networks of all the others.
pub fn needs_new(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    needs.place(&command.args[1]);
    needs.columns("Interface", &["svi", "mac"]);
    needs.all("SVI", &["addresses", "vrf"]);
    Ok(())
}

/// All names, and which bridge they are on if that is asked for.
pub fn needs_all(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    needs.all("SVI", &[]);
    if !command.args.is_empty() {
        needs.ports();
    }
    Ok(())
}

/// What an SVI that is to be added looks like.
#[derive(Default)]
struct NewSvi {
    tag: Option<i64>,
    addresses: Vec<IpNet>,
    vrf: Option<String>,
    mac: Option<String>,
}

impl NewSvi {
    fn parse(words: &[String]) -> Result<NewSvi, Stop> {
        const KEYS: [&str; 4] = ["tag", "address", "vrf", "mac"];
        const REMEDY: &str = "an SVI has tag=VID [address=CIDR[,CIDR]...] [vrf=NAME] [mac=MAC]";
        let mut new = NewSvi::default();
        let mut seen: Vec<&str> = vec![];
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            if !KEYS.contains(&key) {
                return Err(Stop::new(format!("add-svi: unknown setting \"{word}\"")).hint(Some(REMEDY)));
            }
            if value.is_empty() {
                return Err(Stop::new(format!("add-svi: \"{word}\" has no value")).hint(Some(REMEDY)));
            }
            if seen.contains(&key) {
                return Err(Stop::new(format!("add-svi: {key}= is there twice")).hint(Some(REMEDY)));
            }
            seen.push(key);
            match key {
                "tag" => new.tag = Some(vlan(value)?),
                "address" => new.addresses = addresses(value)?,
                "vrf" => new.vrf = Some(vrf(value)?.to_owned()),
                _ => new.mac = text::mac(value).map(|_| Some(value.to_ascii_lowercase()))?,
            }
        }
        Ok(new)
    }
}

fn vlan(text: &str) -> Result<i64, Stop> {
    let vid = text.parse().ok().filter(|vid| (1..=4094).contains(vid));
    vid.ok_or_else(|| Stop::new(format!("tag {text} is out of range")).hint(Some("VLANs go from 1 to 4094")))
}

fn addresses(list: &str) -> Result<Vec<IpNet>, Stop> {
    let mut all: Vec<IpNet> = vec![];
    for text in list.split(',') {
        let address = text::interface_address(text)?;
        if all.iter().any(|other| other.addr() == address.addr()) {
            return Err(Stop::new(format!("address {} is there twice", address.addr())).hint(Some("leave one out")));
        }
        if let Some(other) = all.iter().find(|other| text::overlap(other, &address) && other.trunc() != address.trunc())
        {
            let remedy = "addresses of one network have prefixes of the same length";
            return Err(Stop::new(format!("{address} overlaps with {other}")).hint(Some(remedy)));
        }
        all.push(address);
    }
    Ok(all)
}

/// The name of a VRF is that of a network namespace.
pub(super) fn vrf(name: &str) -> Result<&str, Stop> {
    match name.is_empty() || name.len() > 255 || matches!(name, "." | "..") || name.contains(['/', '\0']) {
        true => Err(Stop::new(format!("\"{name}\" is no name of a VRF"))
            .hint(Some("it is that of a network namespace: no slash, at most 255 characters"))),
        false => Ok(name),
    }
}

impl Context {
    /// The SVI of this name.
    pub(super) fn svi(&self, name: &str) -> Option<Uuid> {
        self.txn.rows("SVI").into_iter().find(|row| self.txn.name("SVI", *row) == name)
    }

    /// The addresses of an SVI that can be read.
    pub(super) fn svi_addresses(&self, svi: Uuid) -> Vec<IpNet> {
        self.txn.get("SVI", svi, "addresses").strings().filter_map(|text| text.parse().ok()).collect()
    }

    /// Its VRF; none is the host's.
    pub(super) fn svi_vrf(&self, svi: Uuid) -> Option<&str> {
        self.txn.get("SVI", svi, "vrf").as_str()
    }

    /// Refuses networks that another SVI of the VRF has.
    fn check_networks(&self, new: &NewSvi) -> Result<(), Stop> {
        let others = self.txn.rows("SVI").into_iter().filter(|svi| self.svi_vrf(*svi) == new.vrf.as_deref());
        for svi in others {
            for other in self.svi_addresses(svi) {
                if let Some(address) = new.addresses.iter().find(|address| text::overlap(address, &other)) {
                    let message = format!("{address} overlaps with {other} of {}", self.txn.name("SVI", svi));
                    let remedy = "networks of one VRF have no address in common: choose another, or another vrf=";
                    return Err(Stop::new(message).hint(Some(remedy)));
                }
            }
        }
        Ok(())
    }

    /// Whether an SVI that exists is the one that `--may-exist` asks for.
    fn same_svi(
        &mut self,
        topology: &Topology,
        svi: Uuid,
        bridge: &str,
        new: &NewSvi,
        words: &str,
    ) -> Result<(), Stop> {
        let name = self.txn.name("SVI", svi).to_owned();
        let Some((interface, port)) = topology.interfaces.get(&name) else { return Ok(()) };
        let Some(port) = topology.ports.get(port) else { return Ok(()) };
        let mut have = self.svi_addresses(svi);
        let mut want = new.addresses.clone();
        have.sort_unstable();
        want.sort_unstable();
        let list = |all: &[IpNet]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let tag = self.txn.get("Port", port.row, "tag").as_integer();
        let mac = self.txn.get("Interface", *interface, "mac").as_str();
        let vrf = self.svi_vrf(svi);
        let but = if port.bridge != bridge {
            format!("is on bridge {}", port.bridge)
        } else if new.tag.is_some() && tag != new.tag {
            format!("has {}", tag.map_or("no tag".to_owned(), |tag| format!("tag {tag}")))
        } else if have != want {
            format!("has address {}", list(&have))
        } else if vrf != new.vrf.as_deref() {
            vrf.map_or("is in the host's VRF".to_owned(), |vrf| format!("is in VRF {vrf}"))
        } else if new.mac.is_some() && mac != new.mac.as_deref() {
            mac.map_or("has a MAC address of its own".to_owned(), |mac| format!("has the MAC address {mac}"))
        } else {
            self.txn.rely_on_row("SVI", svi);
            return Ok(());
        };
        Err(Stop::new(format!("\"{words}\" but {name} {but}"))
            .hint(Some(format!("\"del-svi {name}\" deletes that one"))))
    }

    /// A new port for it, or the bridge's own; gives its interface.
    fn svi_interface(
        &mut self,
        topology: &Topology,
        bridge: &BridgeView,
        name: &str,
        new: &NewSvi,
    ) -> Result<Uuid, Stop> {
        if name == bridge.name {
            let own = topology.interfaces.get(name).map(|(interface, _)| *interface);
            let own = own.ok_or_else(|| Stop::new(format!("bridge {name} has no interface of its own")))?;
            if new.tag.is_some() {
                let remedy =
                    format!("\"set port {name} tag=VID\" gives it one, any other name makes a port of its own");
                let message = format!("{name} is the bridge's own interface, which has no tag by add-svi");
                return Err(Stop::new(message).hint(Some(remedy)));
            }
            if !self.txn.get("Interface", own, "svi").is_empty() {
                return Err(Stop::new(format!("cannot create an SVI named {name} because it exists already")).hint(
                    Some(format!("\"del-svi {name}\" deletes it, \"set SVI {name} addresses=...\" changes it")),
                ));
            }
            self.txn.rely_on_value("Interface", own, "svi");
            return Ok(own);
        }
        let child = bridge.parent.is_some().then_some(bridge.vlan);
        let tag = match (new.tag, child) {
            (Some(tag), Some(vlan)) if tag != vlan => {
                return Err(Stop::new(format!("tag {tag} is not VLAN {vlan} of fake bridge {}", bridge.name))
                    .hint(Some("leave the tag out")));
            }
            (None, None) => {
                return Err(Stop::new(format!("add-svi: {name} needs a VLAN")).hint(Some(format!(
                    "add tag=VID; for what has no tag there is the bridge's own interface: \"add-svi {0} {0} ...\"",
                    bridge.name
                ))));
            }
            (tag, child) => tag.or(child),
        };
        self.check_conflicts(topology, name, "an SVI")?;
        let port = self.insert_local_port(name);
        self.txn.replace("Port", port, "tag", tag.into());
        self.txn.link("Bridge", bridge.row, "ports", port);
        self.txn
            .get("Port", port, "interfaces")
            .as_uuid()
            .ok_or_else(|| Stop::new(format!("port {name} has no interface")))
    }
}

/// `add-svi BRIDGE NAME [tag=VID] [address=CIDR[,CIDR]...] [vrf=NAME] [mac=MAC]`
pub fn add_svi(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let (bridge, name) = (command.args[0].as_str(), command.args[1].as_str());
    let new = NewSvi::parse(&command.args[2..])?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(|c: char| c == '/' || c.is_whitespace()) {
        return Err(Stop::new(format!("\"{name}\" is no name of a network device"))
            .hint(Some(format!("give 1 to {NAME_BYTES_MAX} characters without slash and space"))));
    }
    let topology = ctx.topology();
    let bridge = ctx.bridge(&topology, bridge)?;
    if let Some(svi) = ctx.svi(name).filter(|_| command.has("--may-exist")) {
        return ctx.same_svi(&topology, svi, &bridge.name, &new, &command.words());
    }
    let interface = ctx.svi_interface(&topology, &bridge, name, &new)?;
    ctx.check_networks(&new)?;
    let addresses: Datum = new.addresses.iter().map(|address| address.to_string()).collect();
    let columns = [("name", Datum::from(name)), ("addresses", addresses), ("vrf", Datum::from(new.vrf))];
    let svi = ctx.txn.insert("SVI", None, columns);
    ctx.txn.replace("Interface", interface, "svi", svi.into());
    if let Some(mac) = new.mac {
        ctx.txn.replace("Interface", interface, "mac", Datum::from(mac.as_str()));
    }
    ctx.txn.touch("Interface", interface);
    Ok(())
}

/// `del-svi NAME`
pub fn del_svi(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let name = command.args[0].as_str();
    let topology = ctx.topology();
    let found = topology.interfaces.get(name);
    let svi = found.and_then(|(interface, _)| ctx.txn.get("Interface", *interface, "svi").as_uuid());
    let (Some((interface, port)), Some(svi)) = (found, svi) else {
        return match topology.ports.get(name) {
            Some(_) if topology.bridges.contains_key(name) && command.has("--if-exists") => Ok(()),
            Some(_) => Err(Stop::new(format!("port {name} is not an SVI"))
                .hint(Some(format!("\"del-port {name}\" deletes a port, \"list-svi\" shows the SVIs")))),
            None if command.has("--if-exists") => Ok(()),
            None => {
                let rows = ctx.txn.rows("SVI");
                let near = nearest(name, rows.iter().map(|row| ctx.txn.name("SVI", *row)));
                let remedy =
                    near.map_or("\"list-svi\" shows what there is".to_owned(), |near| format!("did you mean {near}?"));
                Err(Stop::new(format!("no SVI named {name}")).hint(Some(remedy)))
            }
        };
    };
    ctx.txn.rely_on_value("Interface", *interface, "svi");
    match topology.ports.get(port) {
        Some(port) if !topology.bridges.contains_key(name) => {
            ctx.rely_on_port(port);
            ctx.delete_port(port);
        }
        _ => ctx.txn.replace("Interface", *interface, "svi", Datum::from(None::<Uuid>)),
    }
    ctx.txn.delete("SVI", svi);
    Ok(())
}

/// `list-svi [BRIDGE]`
pub fn list_svi(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let rows = ctx.txn.rows("SVI");
    let mut names: Vec<String> = rows.iter().map(|row| ctx.txn.name("SVI", *row).to_owned()).collect();
    if let [bridge] = command.args.as_slice() {
        let topology = ctx.topology();
        let bridge = ctx.bridge(&topology, bridge)?;
        ctx.txn.rely_on_value("Bridge", bridge.row, "ports");
        names.retain(|name| topology.ports.get(name).is_some_and(|port| port.bridge == bridge.name));
    }
    ctx.print_sorted(names.iter().map(String::as_str));
    Ok(())
}
