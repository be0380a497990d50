//! What do the `interface` commands answer? The database's columns and what is attached, as network people expect to read it.

use super::Context;
use crate::database::{Database, RowRef};
use crate::datum::Atom;
use crate::kernel;
use crate::routing::text;
use ipnet::IpNet;
use serde_json::{Value, json};
use shunt_switch::counters::PortTotals;
use shunt_switch::reason::Reason;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// An interface with the rows that tell of it.
struct View<'a> {
    name: &'a str,
    bridge: &'a str,
    port: RowRef<'a>,
    row: RowRef<'a>,
    svi: Option<RowRef<'a>>,
    /// It is one of the router's, or leads to hosts that have nothing but addresses: VLANs are no concern of it.
    is_routed: bool,
    /// The port has further interfaces.
    is_bonded: bool,
    /// Those that the kernel has on the host end, or the SVI's row where it cannot be asked.
    addresses: Vec<String>,
}

/// The addresses of devices, by VRF and number.
type Addresses = BTreeMap<Option<String>, Vec<(u32, IpNet)>>;

/// Asks the kernel for the addresses in the host's namespace and in those of SVIs.
fn addresses(db: &Database) -> Addresses {
    let vrfs: BTreeSet<_> = db.rows("SVI").map(|svi| svi.get("vrf").as_str()).chain([None]).collect();
    let known = vrfs.into_iter().filter_map(|vrf| Some((vrf.map(str::to_owned), kernel::addresses(vrf).ok()?)));
    known.collect()
}

/// All interfaces, by bridge and port; `of_router` says which have become the router's, with or without a row.
fn views<'a>(db: &'a Database, addresses: &Addresses, of_router: impl Fn(&str) -> bool) -> Vec<View<'a>> {
    let mut all = Vec::new();
    for bridge in db.rows("Bridge") {
        for port in bridge.get("ports").uuids().filter_map(|uuid| db.row("Port", &uuid)) {
            let interfaces = port.get("interfaces");
            for row in interfaces.uuids().filter_map(|uuid| db.row("Interface", &uuid)) {
                let svi = row.get("svi").uuids().next().and_then(|uuid| db.row("SVI", &uuid));
                let has_hosts = row.get("options").get("host-addresses").is_some();
                all.push(View {
                    name: text(row, "name"),
                    bridge: text(bridge, "name"),
                    port,
                    row,
                    svi,
                    is_routed: svi.is_some() || has_hosts || of_router(text(row, "name")),
                    is_bonded: interfaces.len() > 1,
                    addresses: addresses_of(row, svi, addresses),
                });
            }
        }
    }
    all.sort_by_key(|view| (view.bridge, view.name != view.bridge, view.name));
    all
}

/// Those that are in force, global ones first; of a port with hosts behind it theirs.
fn addresses_of(row: RowRef<'_>, svi: Option<RowRef<'_>>, known: &Addresses) -> Vec<String> {
    if let Some(hosts) = row.get("options").get("host-addresses") {
        return hosts.split([',', ' ']).filter(|host| !host.is_empty()).map(str::to_owned).collect();
    }
    let vrf = svi.and_then(|svi| svi.get("vrf").as_str()).map(str::to_owned);
    let number = |row: RowRef<'_>| row.get("ifindex").as_integer();
    let in_vrf = |svi: RowRef<'_>| svi.get("status").get("ifindex").and_then(|text| text.parse().ok());
    let number = svi.filter(|_| vrf.is_some()).map_or(number(row), in_vrf);
    let Some(all) = known.get(&vrf) else {
        return svi.into_iter().flat_map(|svi| svi.get("addresses").strings()).map(str::to_owned).collect();
    };
    // Every device has a link-local one; what comes from a port's does not go to the kernel.
    let is_shown = |net: &IpNet| text(row, "type") == "internal" || !text::is_link_local(net.addr());
    let own = all.iter().filter(|(ifindex, _)| Some(i64::from(*ifindex)) == number).map(|(_, net)| *net);
    let mut own: Vec<_> = own.filter(is_shown).collect();
    own.sort_unstable_by_key(|net| (text::is_link_local(net.addr()), *net));
    own.into_iter().map(|net| net.to_string()).collect()
}

fn text<'a>(row: RowRef<'a>, column: &str) -> &'a str {
    row.get(column).as_str().unwrap_or_default()
}

impl<'a> View<'a> {
    fn tag(&self) -> Option<i64> {
        self.port.get("tag").as_integer()
    }

    /// What kind of interface it is.
    fn kind(&self) -> &'a str {
        match (self.is_routed, text(self.row, "type"), self.row.get("status").get("driver_name")) {
            (true, "internal", _) => "svi",
            (_, "internal", _) => "internal",
            (_, _, Some("hardware")) => "eth",
            (_, _, Some(driver)) => driver,
            _ if crate::model::split_sub_port(self.name).is_some() => "vlan",
            _ => "--",
        }
    }

    /// What its port does with VLANs; an interface of the router takes part in none.
    fn mode(&self) -> &'a str {
        match (self.is_routed, text(self.port, "vlan_mode"), self.tag()) {
            (true, ..) => "routed",
            (_, "", Some(_)) => "access",
            (_, "", None) => "trunk",
            (_, mode, _) => mode,
        }
    }

    /// Its VLAN, the native one of those that have one, or all that a trunk carries.
    fn vlans(&self) -> String {
        let trunks: Vec<i64> = self.port.get("trunks").integers().collect();
        match (self.tag(), text(self.port, "vlan_mode")) {
            (Some(tag), mode) if mode != "trunk" => tag.to_string(),
            _ if self.is_routed => "--".to_owned(),
            _ if trunks.is_empty() => "all".to_owned(),
            _ => ranges(&trunks),
        }
    }

    /// Somebody else has an address of the SVI, which is in force all the same.
    fn has_duplicates(&self) -> bool {
        self.svi.is_some_and(|svi| svi.get("status").get("duplicates").is_some())
    }

    /// Why it does not work, or not for all.
    fn reason(&self) -> Option<&'static str> {
        let is_down = |column: &str| text(self.row, column) == "down";
        let own_error = self.svi.map_or("", |svi| text(svi, "error"));
        if self.row.get("ifindex").is_empty() {
            Some("no device")
        } else if self.has_duplicates() && text(self.row, "error").is_empty() {
            Some("duplicate")
        } else if !text(self.row, "error").is_empty() || !own_error.is_empty() {
            Some("error")
        } else if is_down("admin_state") {
            Some("admin down")
        } else {
            is_down("link_state").then_some("no link")
        }
    }

    fn errors(&self) -> Vec<&'a str> {
        let both = [Some(self.row), self.svi].into_iter().flatten().map(|row| text(row, "error"));
        both.filter(|error| !error.is_empty()).collect()
    }

    fn status(&self) -> &'static str {
        if matches!(self.reason(), None | Some("duplicate")) { "up" } else { "down" }
    }

    fn speed_mbps(&self) -> Option<i64> {
        self.row.get("link_speed").as_integer().map(|bits| bits / 1_000_000)
    }

    fn port_channel(&self) -> Option<&'a str> {
        self.is_bonded.then(|| text(self.port, "name"))
    }

    /// How its device is driven.
    fn driver(&self) -> Vec<(&'a str, &'a str)> {
        let text = |atom: &'a Atom| if let Atom::String(text) = atom { Some(text.as_str()) } else { None };
        self.row.get("status").pairs().filter_map(|(key, value)| Some((text(key)?, text(value)?))).collect()
    }

    fn vrf(&self) -> Option<&'a str> {
        self.svi.and_then(|svi| svi.get("vrf").as_str())
    }

    fn brief_json(&self) -> Value {
        let trunks: Vec<i64> = self.port.get("trunks").integers().collect();
        json!({
            "interface": self.name, "bridge": self.bridge, "vlan": self.tag(), "trunks": trunks, "type": self.kind(),
            "mode": self.mode(), "status": self.status(), "reason": self.reason(), "speed_mbps": self.speed_mbps(),
            "port_channel": self.port_channel(), "addresses": self.addresses, "vrf": self.vrf(),
        })
    }
}

/// `1-3,7` for 1, 2, 3 and 7.
fn ranges(sorted: &[i64]) -> String {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for &vid in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == vid => *last = vid,
            _ => runs.push((vid, vid)),
        }
    }
    let run = |(first, last): (i64, i64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

/// Lines of words under headings, each column as wide as its widest word; the last is not padded.
pub(super) fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).chain([headings[at].len()]).max();
    let widths: Vec<usize> = (0..headings.len()).filter_map(width).collect();
    let mut text = String::new();
    let mut line = |row: &mut dyn Iterator<Item = &str>| {
        let padded: String = row.zip(&widths).map(|(word, width)| format!("{word:<width$}  ")).collect();
        let _ = writeln!(text, "{}", padded.trim_end());
    };
    line(&mut headings.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// One line an interface.
pub(super) fn brief(context: &mut Context<'_>, _: &[String]) -> Result<Value, String> {
    let of_router = |name: &str| context.state.router.interfaces.contains_key(name);
    let views = views(context.store.database(), &addresses(context.store.database()), of_router);
    if context.json {
        return Ok(views.iter().map(View::brief_json).collect());
    }
    let none = || "--".to_owned();
    let row = |view: &View<'_>| {
        let addresses = &view.addresses;
        vec![
            view.name.to_owned(),
            view.vlans(),
            view.kind().to_owned(),
            view.mode().to_owned(),
            view.status().to_owned(),
            view.reason().unwrap_or("none").to_owned(),
            view.speed_mbps().map_or_else(none, |speed| speed.to_string()),
            view.port_channel().map_or_else(none, str::to_owned),
            if addresses.is_empty() { none() } else { addresses.join(",") },
        ]
    };
    let headings = ["Interface", "VLAN", "Type", "Mode", "Status", "Reason", "Speed(Mb/s)", "Port channel", "Address"];
    Ok(columns(&headings, &views.iter().map(row).collect::<Vec<_>>()).into())
}

/// All of one interface.
pub(super) fn show(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let of_router = |name: &str| context.state.router.interfaces.contains_key(name);
    let views = views(context.store.database(), &addresses(context.store.database()), of_router);
    let view = views.iter().find(|view| view.name == args[0]);
    let view =
        view.ok_or_else(|| format!("no such interface: {} (\"interface brief\" shows those there are)", args[0]))?;
    let totals = context.state.statistics().into_iter().find(|(name, _)| *name == args[0]);
    let totals = totals.map(|(_, totals)| totals).unwrap_or_default();
    if context.json {
        return Ok(view.json(&totals));
    }
    let mut out = format!("{} is {}", view.name, view.status());
    let _ = writeln!(out, "{}", view.reason().map_or(String::new(), |reason| format!(" ({reason})")));
    let mut line = |what: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "  {:<13}{value}", format!("{what}:"));
        }
    };
    let number = |column: &str| view.row.get(column).as_integer().map_or(String::new(), |n| n.to_string());
    view.errors().into_iter().for_each(|error| line("error", error.to_owned()));
    line("bridge", format!("{}, port {}, ofport {}", view.bridge, text(view.port, "name"), number("ofport")));
    line("type", view.kind().to_owned());
    let trunks: Vec<i64> = view.port.get("trunks").integers().collect();
    let carried = if trunks.is_empty() { String::new() } else { format!(", trunks {}", ranges(&trunks)) };
    line("VLAN", format!("{} ({}{carried})", view.vlans(), view.mode()));
    line("port channel", view.port_channel().unwrap_or_default().to_owned());
    line("addresses", view.addresses.join(", "));
    line("VRF", view.vrf().unwrap_or_default().to_owned());
    line("MAC", text(view.row, "mac_in_use").to_owned());
    line("MTU", number("mtu"));
    let duplex = text(view.row, "duplex");
    line("speed", view.speed_mbps().map_or(String::new(), |speed| format!("{speed} Mb/s, {duplex} duplex")));
    let status: Vec<String> = view.driver().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    line("driven by", status.join(" "));
    line("received", format!("{} packets, {} bytes", totals.rx_packets, totals.rx_bytes));
    line("sent", format!("{} packets, {} bytes", totals.tx_packets, totals.tx_bytes));
    for &reason in Reason::ALL.iter().filter(|&&reason| totals.dropped(reason) > 0) {
        line("dropped", format!("{} {}: {}", totals.dropped(reason), reason.name(), reason.text()));
    }
    Ok(out.into())
}

impl View<'_> {
    fn json(&self, totals: &PortTotals) -> Value {
        let mut all = self.brief_json();
        let driver: serde_json::Map<_, _> =
            self.driver().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        let drops: serde_json::Map<_, _> = (Reason::ALL.iter().filter(|&&reason| totals.dropped(reason) > 0))
            .map(|&reason| (reason.name().to_owned(), totals.dropped(reason).into()))
            .collect();
        let more = json!({
            "port": text(self.port, "name"), "ofport": self.row.get("ofport").as_integer(), "errors": self.errors(),
            "mac": self.row.get("mac_in_use").as_str(), "mtu": self.row.get("mtu").as_integer(),
            "duplex": self.row.get("duplex").as_str(), "status": self.status(), "driven_by": driver,
            "rx_packets": totals.rx_packets, "rx_bytes": totals.rx_bytes,
            "tx_packets": totals.tx_packets, "tx_bytes": totals.tx_bytes, "drops": drops,
        });
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::vswitch;
    use crate::store::Store;
    use std::time::Duration;

    #[test]
    fn runs_of_vlans_are_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3,7,9-10");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn columns_are_as_wide_as_their_words() {
        let rows = [vec!["vlan10".to_owned(), "10".to_owned()], vec!["b".to_owned(), "--".to_owned()]];
        assert_eq!(columns(&["If", "VLAN"], &rows), "If      VLAN\nvlan10  10\nb       --\n");
    }

    /// An interface of each kind, in each state.
    #[test]
    fn interfaces_are_described() {
        let mut store = Store::in_memory(vswitch::schema());
        let port = |name: &str, port: Value, interface: Value| {
            let (mut port, mut interface) = (port, interface);
            let id = name.replace(['.', '-'], "_");
            port["name"] = name.into();
            port["interfaces"] = json!(["named-uuid", format!("i_{id}")]);
            interface["name"] = name.into();
            [
                json!({"op": "insert", "table": "Port", "row": port, "uuid-name": format!("p_{id}")}),
                json!({"op": "insert", "table": "Interface", "row": interface, "uuid-name": format!("i_{id}")}),
            ]
        };
        let up = json!({"ifindex": 5, "admin_state": "up", "link_state": "up", "link_speed": 10_000_000_000_u64,
            "status": ["map", [["driver_name", "hardware"]]]});
        let no_link = json!({"ifindex": 6, "admin_state": "up", "link_state": "down",
            "status": ["map", [["driver_name", "veth"]]]});
        let svi = json!({"type": "internal", "svi": ["named-uuid", "svi"], "ifindex": 7, "admin_state": "up", "link_state": "up"});
        let mut operations: Vec<Value> = [
            port("eth0", json!({"trunks": ["set", [1, 2, 3, 9]]}), up),
            port("c1", json!({"tag": 10}), no_link),
            port("c2", json!({"tag": 5, "vlan_mode": "native-untagged"}), json!({"ifindex": 8, "admin_state": "down"})),
            port(
                "host",
                json!({}),
                json!({"options": ["map", [["host-addresses", "10.1.1.1,2001:db8::1"]]],
                "ifindex": 9, "admin_state": "up", "link_state": "up"}),
            ),
            port("gone", json!({"tag": 10}), json!({"error": "could not open network device gone"})),
            port("vlan10", json!({"tag": 10}), svi),
        ]
        .concat();
        operations.push(json!({"op": "insert", "table": "SVI", "uuid-name": "svi",
            "row": {"name": "vlan10", "addresses": ["set", ["192.168.1.1/24", "2001:db8::1/64"]], "vrf": "red"}}));
        let ports =
            ["eth0", "c1", "c2", "host", "gone", "vlan10"].map(|name| json!(["named-uuid", format!("p_{name}")]));
        operations.push(json!({"op": "insert", "table": "Bridge", "uuid-name": "br",
            "row": {"name": "br0", "ports": ["set", ports]}}));
        operations.push(json!({"op": "update", "table": "Open_vSwitch", "where": [],
            "row": {"bridges": ["named-uuid", "br"]}}));
        let reply = store.transact(&operations, Duration::ZERO, &|_| true);
        let views = views(store.database(), &Addresses::new(), |name| name == "br0");
        let described: Vec<_> = views
            .iter()
            .map(|view| {
                let channel = view.port_channel();
                (view.name, view.vlans(), view.kind(), view.mode(), view.reason(), view.speed_mbps(), channel)
            })
            .collect();
        let text = str::to_owned;
        let wanted = [
            ("c1", text("10"), "veth", "access", Some("no link"), None, None),
            ("c2", text("5"), "--", "native-untagged", Some("admin down"), None, None),
            ("eth0", text("1-3,9"), "eth", "trunk", None, Some(10_000), None),
            ("gone", text("10"), "--", "access", Some("no device"), None, None),
            ("host", text("--"), "--", "routed", None, None, None),
            ("vlan10", text("10"), "svi", "routed", None, None, None),
        ];
        assert_eq!(described, wanted, "{reply:?}");
        assert_eq!(views[5].addresses, ["192.168.1.1/24", "2001:db8::1/64"]);
        assert_eq!(views[4].addresses, ["10.1.1.1", "2001:db8::1"]);
        assert_eq!((views[5].vrf(), views[5].status(), views[3].status()), (Some("red"), "up", "down"));
        assert_eq!(views[3].errors(), ["could not open network device gone"]);
    }
}
