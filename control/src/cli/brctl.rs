//! What do the Linux bridge's old commands do here? `brctl addbr br0` and its like, with that tool's columns and messages.

use super::commands::Stop;
use super::grammar::{Command, Invocation};
use super::output::{Format, json_text};
use super::program::Program;
use super::{nearest, print};
use serde_json::{Value, json};
use std::fmt::Write;

struct Verb {
    name: &'static str,
    /// As the usage shows them.
    args: &'static str,
    min: usize,
    max: usize,
    help: &'static str,
    run: Run,
}

type Run = fn(&Tool<'_>, &[String]) -> Result<u8, Stop>;

static VERBS: &[Verb] = &[
    Verb { name: "addbr", args: "<bridge>", min: 1, max: 1, help: "add bridge", run: addbr },
    Verb { name: "delbr", args: "<bridge>", min: 1, max: 1, help: "delete bridge", run: delbr },
    Verb {
        name: "addif",
        args: "<bridge> <device>...",
        min: 2,
        max: usize::MAX,
        help: "add interfaces to bridge",
        run: addif,
    },
    Verb {
        name: "delif",
        args: "<bridge> <device>...",
        min: 2,
        max: usize::MAX,
        help: "delete interfaces from bridge",
        run: delif,
    },
    Verb {
        name: "setageing",
        args: "<bridge> <time>",
        min: 2,
        max: 2,
        help: "set ageing time in seconds",
        run: setageing,
    },
    Verb { name: "show", args: "[ <bridge>... ]", min: 0, max: usize::MAX, help: "show a list of bridges", run: show },
    Verb { name: "showmacs", args: "<bridge>", min: 1, max: 1, help: "show a list of mac addrs", run: showmacs },
];

/// What the Linux bridge can do and this switch does otherwise, or not.
static REFUSED: &[(&[&str], &str)] = &[
    (
        &["stp", "showstp", "setbridgeprio", "setfd", "sethello", "setmaxage", "setpathcost", "setportprio"],
        "the switch speaks no spanning tree: container ports and an uplink make no loop, and BPDUs are not forwarded, \
         so nothing has to be switched off",
    ),
    (
        &["hairpin"],
        "a frame never leaves by the port that it came in by; containers that share a veth reach each other inside of it",
    ),
];

struct Tool<'a> {
    program: &'a Program,
    settings: &'a Invocation,
}

/// `brctl COMMAND [ARG]...`
pub(super) fn run(program: &Program, settings: &Invocation, command: &Command) -> Result<u8, Stop> {
    let Some((name, args)) = command.args.split_first() else {
        usage();
        return Err(Stop::Exit(1));
    };
    let name = name.as_str();
    match name {
        "-h" | "--help" => return Ok(usage()),
        "-V" | "--version" => {
            print(&format!("brctl (shunt) {}\n", env!("CARGO_PKG_VERSION")));
            return Ok(0);
        }
        _ => {}
    }
    if let Some((_, reason)) = REFUSED.iter().find(|(names, _)| names.contains(&name)) {
        return Stop::fail(format!("{name} is not supported: {reason}"));
    }
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        let near = nearest(name, VERBS.iter().map(|verb| verb.name));
        let remedy =
            near.map_or("\"brctl --help\" lists the commands".to_owned(), |near| format!("did you mean {near}?"));
        return Err(Stop::new(format!("never heard of command [{name}]")).hint(Some(remedy)));
    };
    if !(verb.min..=verb.max).contains(&args.len()) {
        print(&format!(
            "Incorrect number of arguments for command\nUsage: brctl {} {}\t{}\n",
            verb.name, verb.args, verb.help
        ));
        return Err(Stop::Exit(1));
    }
    (verb.run)(&Tool { program, settings }, args)
}

fn usage() -> u8 {
    let mut out = "Usage: brctl [commands]\ncommands:\n".to_owned();
    for verb in VERBS {
        let _ = writeln!(out, "\t{:<10}\t{}\t{}", verb.name, verb.args, verb.help);
    }
    print(&out);
    0
}

impl Tool<'_> {
    fn change(&self, words: &[&str]) -> Result<(String, Vec<(String, String)>), Stop> {
        self.program.change(self.settings, words)
    }

    /// Says what is in trouble as every change does.
    fn report(&self, trouble: &[(String, String)]) -> u8 {
        self.program.report(trouble)
    }

    fn is_json(&self) -> bool {
        self.settings.style.format == Format::Json
    }

    fn exists(&self, bridge: &str) -> Result<bool, Stop> {
        match self.change(&["br-exists", bridge]) {
            Ok(_) => Ok(true),
            Err(Stop::Exit(2)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn must_exist(&self, bridge: &str) -> Result<(), Stop> {
        match self.exists(bridge)? {
            true => Ok(()),
            false => Stop::fail(format!("bridge {bridge} does not exist!")),
        }
    }

    /// The bridge that a device is a port of.
    fn bridge_of(&self, device: &str) -> Result<Option<String>, Stop> {
        match self.change(&["port-to-br", device]) {
            Ok((bridge, _)) => Ok(Some(bridge.trim_end().to_owned())),
            Err(Stop::Fail { message, .. }) if message.starts_with("no port named") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn bridges(&self, chosen: &[String]) -> Result<Vec<Bridge>, Stop> {
        let mut client = self.program.connect(self.settings)?;
        let tables: [(&str, &[&str]); 3] = [
            ("Bridge", &["name", "datapath_id", "ports"]),
            ("Port", &["_uuid", "name", "interfaces"]),
            ("Interface", &["_uuid", "name"]),
        ];
        let tables = self.program.read(&mut client, &tables)?;
        let [bridges, ports, interfaces] = &tables[..] else { return Ok(vec![]) };
        let among = |json: &Value, uuid: &Value| match json[0].as_str() {
            Some("set") => json[1].as_array().is_some_and(|set| set.contains(uuid)),
            _ => json == uuid,
        };
        let mut out = vec![];
        for bridge in bridges {
            let Some(name) = bridge["name"].as_str() else { continue };
            if !chosen.is_empty() && !chosen.iter().any(|chosen| chosen == name) {
                continue;
            }
            let ports = ports.iter().filter(|port| among(&bridge["ports"], &port["_uuid"]) && port["name"] != name);
            let mut devices: Vec<String> = ports
                .flat_map(|port| interfaces.iter().filter(|i| among(&port["interfaces"], &i["_uuid"])))
                .filter_map(|interface| interface["name"].as_str().map(str::to_owned))
                .collect();
            devices.sort_unstable();
            // As the Linux bridge's: priority, then the MAC address, which is the end of the datapath's number.
            let number = bridge["datapath_id"].as_str().and_then(|id| id.get(4..)).unwrap_or("000000000000");
            out.push(Bridge { name: name.to_owned(), id: format!("8000.{number}"), devices });
        }
        out.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }
}

struct Bridge {
    name: String,
    id: String,
    devices: Vec<String>,
}

fn addbr(tool: &Tool<'_>, args: &[String]) -> Result<u8, Stop> {
    let name = &args[0];
    if tool.exists(name)? {
        return Stop::fail(format!("device {name} already exists; can't create bridge with the same name"));
    }
    let (_, trouble) = tool.change(&["add-br", name])?;
    Ok(tool.report(&trouble))
}

fn delbr(tool: &Tool<'_>, args: &[String]) -> Result<u8, Stop> {
    let name = &args[0];
    if !tool.exists(name)? {
        return Stop::fail(format!("bridge {name} doesn't exist; can't delete it"));
    }
    let (state, _) = tool.change(&["--if-exists", "get", "Interface", name, "admin_state"])?;
    if state.trim_end() == "up" {
        return Err(Stop::new(format!("bridge {name} is still up; can't delete it"))
            .hint(Some(format!("\"ip link set {name} down\" first, or use \"shuntctl del-br {name}\""))));
    }
    tool.change(&["del-br", name])?;
    Ok(0)
}

/// All of the devices, or none.
fn addif(tool: &Tool<'_>, args: &[String]) -> Result<u8, Stop> {
    let (bridge, devices) = (&args[0], &args[1..]);
    tool.must_exist(bridge)?;
    for device in devices {
        if tool.bridge_of(device)?.is_some() {
            return Stop::fail(format!(
                "device {device} is already a member of a bridge; can't add it to bridge {bridge}."
            ));
        }
    }
    let words = devices.iter().flat_map(|device| ["--", "add-port", bridge, device]);
    let (_, trouble) = tool.change(&words.collect::<Vec<_>>())?;
    let Some((missing, _)) = trouble.iter().find(|(_, error)| error.contains("(No such device)")) else {
        return Ok(tool.report(&trouble));
    };
    // `add-port` would keep the port and wait for the device; who calls this tool expects it to have done nothing.
    let undo = devices.iter().flat_map(|device| ["--", "--if-exists", "del-port", bridge, device]);
    tool.change(&undo.collect::<Vec<_>>())?;
    Err(Stop::new(format!("interface {missing} does not exist!"))
        .hint(Some(format!("\"shuntctl add-port {bridge} {missing}\" attaches it as soon as it does"))))
}

/// All of the devices, or none.
fn delif(tool: &Tool<'_>, args: &[String]) -> Result<u8, Stop> {
    let (bridge, devices) = (&args[0], &args[1..]);
    tool.must_exist(bridge)?;
    for device in devices {
        if tool.bridge_of(device)?.as_ref() != Some(bridge) || device == bridge {
            return Stop::fail(format!("device {device} is not a port of {bridge}"));
        }
    }
    let words = devices.iter().flat_map(|device| ["--", "del-port", bridge, device]);
    tool.change(&words.collect::<Vec<_>>())?;
    Ok(0)
}

fn setageing(tool: &Tool<'_>, args: &[String]) -> Result<u8, Stop> {
    let (bridge, time) = (&args[0], &args[1]);
    let Some(seconds) = time.parse::<f64>().ok().filter(|seconds| (15.0..=3600.0).contains(seconds)) else {
        return Err(Stop::new("bad ageing time value").hint(Some("15 to 3600 seconds")));
    };
    if !tool.exists(bridge)? {
        return Stop::fail("set ageing time failed: No such device");
    }
    let setting = format!("other_config:mac-aging-time={}", seconds.round());
    let (_, trouble) = tool.change(&["set", "Bridge", bridge, &setting])?;
    Ok(tool.report(&trouble))
}

fn show(tool: &Tool<'_>, args: &[String]) -> Result<u8, Stop> {
    let bridges = tool.bridges(args)?;
    let mut status = 0;
    for name in args.iter().filter(|name| !bridges.iter().any(|bridge| bridge.name == **name)) {
        eprintln!("bridge {name} does not exist!");
        status = 1;
    }
    if tool.is_json() {
        let bridge = |b: &Bridge| json!({"name": b.name, "id": b.id, "stp": false, "interfaces": b.devices});
        let json: Value = bridges.iter().map(bridge).collect();
        print(&(json_text(&json, tool.settings.style.pretty) + "\n"));
        return Ok(status);
    }
    let mut out = "bridge name\tbridge id\t\tSTP enabled\tinterfaces\n".to_owned();
    for bridge in bridges {
        let devices = bridge.devices.join("\n\t\t\t\t\t\t\t");
        let _ = writeln!(out, "{}\t\t{}\tno\t\t{devices}", bridge.name, bridge.id);
    }
    print(&out);
    Ok(status)
}

fn showmacs(tool: &Tool<'_>, args: &[String]) -> Result<u8, Stop> {
    let bridge = &args[0];
    if !tool.exists(bridge)? {
        return Stop::fail("read of forward table failed: No such device");
    }
    let mut client = tool.program.connect(tool.settings)?;
    let learned = client.call("fdb/show", json!([bridge, "--format=json"]));
    let mut learned = learned.map_err(|error| tool.program.explain(error))?;
    if let Some(text) = learned.as_str() {
        learned = serde_json::from_str(text).unwrap_or_default();
    }
    let mut rows: Vec<(String, String, bool, f64)> = vec![];
    for entry in learned.as_array().into_iter().flatten() {
        let (Some(mac), port) = (entry["mac"].as_str(), &entry["ofport"]) else { continue };
        // The bridge's own leg has the number 0 in the Linux tool's eyes.
        let is_local = port == "LOCAL" || port == 65534;
        let port = if is_local { "0".to_owned() } else { port.to_string() };
        rows.push((mac.to_owned(), port, is_local, entry["age_s"].as_f64().unwrap_or(0.0)));
    }
    let (own, _) = tool.change(&["--if-exists", "get", "Interface", bridge, "mac_in_use"])?;
    let own = own.trim().trim_matches('"').to_owned();
    if own.contains(':') {
        rows.retain(|(mac, _, is_local, _)| !is_local || *mac != own);
        rows.push((own, "0".to_owned(), true, 0.0));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    if tool.is_json() {
        let row = |(mac, port, is_local, age): &(String, String, bool, f64)| json!({"port": port.parse::<i64>().ok(), "mac": mac, "local": is_local, "age_s": age});
        let json: Value = rows.iter().map(row).collect();
        print(&(json_text(&json, tool.settings.style.pretty) + "\n"));
        return Ok(0);
    }
    let mut out = "port no\tmac addr\t\tis local?\tageing timer\n".to_owned();
    for (mac, port, is_local, age) in rows {
        let _ = writeln!(out, "{port:>3}\t{mac}\t{}\t\t{age:7.2}", if is_local { "yes" } else { "no" });
    }
    print(&out);
    Ok(0)
}
