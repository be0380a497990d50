//! How is a container connected? The work of `ovs-docker` with its words, for Docker's containers, processes and
//! network namespaces, by netlink alone.

use super::commands::Stop;
use super::grammar::{Command, Invocation};
use super::output::{Format, json_text};
use super::program::Program;
use super::{nearest, print};
use crate::kernel::{Inside, Kernel};
use container::Container;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

mod container;

/// `--option`, and how its value is called.
static OPTIONS: [(&str, &str); 5] = [
    ("--ipaddress", "ADDRESS[/BITS][,...]"),
    ("--macaddress", "MAC"),
    ("--gateway", "ADDRESS[,...]"),
    ("--mtu", "BYTES"),
    ("--vlan", "VID"),
];

static VERBS: [(&str, &str, usize); 4] = [
    ("add-port", "BRIDGE INTERFACE CONTAINER [OPTION]...", 3),
    ("del-port", "BRIDGE INTERFACE CONTAINER", 3),
    ("del-ports", "BRIDGE CONTAINER", 2),
    ("set-vlan", "BRIDGE INTERFACE CONTAINER VLAN", 4),
];

struct Tool<'a> {
    program: &'a Program,
    settings: &'a Invocation,
}

/// What the options say.
#[derive(Default)]
struct Wanted {
    inside: Inside,
    vlan: Option<String>,
}

/// `docker COMMAND [ARG]...`
pub(super) fn run(program: &Program, settings: &Invocation, command: &Command) -> Result<u8, Stop> {
    let verb = command.args.first().map_or("--help", String::as_str);
    if matches!(verb, "-h" | "--help") {
        print(&usage());
        return Ok(0);
    }
    let Some((_, args, count)) = VERBS.iter().find(|(name, ..)| *name == verb) else {
        let near = nearest(verb, VERBS.iter().map(|(name, ..)| *name)).map(|near| format!("did you mean {near}?"));
        let remedy = near.unwrap_or_else(|| "\"docker --help\" lists the commands".to_owned());
        return Err(Stop::new(format!("unknown command \"{verb}\"")).hint(Some(remedy)));
    };
    let (options, words): (Vec<&String>, Vec<&String>) =
        command.args[1..].iter().partition(|arg| arg.starts_with("--"));
    let words: Vec<&str> = words.into_iter().map(String::as_str).collect();
    if words.len() != *count || words.iter().any(|word| word.is_empty()) {
        let problem = if words.len() > *count { "too many arguments" } else { "not enough arguments" };
        return Err(Stop::new(format!("{verb}: {problem}")).hint(Some(format!("usage: docker {verb} {args}"))));
    }
    if verb != "add-port" && !options.is_empty() {
        return Stop::fail(format!("{verb}: unknown option \"{}\"", options[0]));
    }
    let tool = Tool { program, settings };
    match (verb, &words[..]) {
        ("add-port", [bridge, interface, container]) => tool.add_port(bridge, interface, container, &options),
        ("del-port", [bridge, interface, container]) => tool.del_port(bridge, interface, container),
        ("del-ports", [bridge, container]) => tool.del_ports(bridge, container),
        ("set-vlan", [bridge, interface, container, vlan]) => tool.set_vlan(bridge, interface, container, vlan),
        _ => Ok(1),
    }
}

fn usage() -> String {
    let verbs = VERBS.iter().map(|(name, args, _)| format!("  {name} {args}\n"));
    let options = OPTIONS.iter().map(|(name, value)| format!("  {name}={value}\n"));
    format!(
        "usage: docker COMMAND\n\nCommands:\n{}\nOptions of add-port:\n{}\nCONTAINER is a container's name or ID, netns:NAME, the path of a namespace, or a process's number.\n",
        verbs.collect::<String>(),
        options.collect::<String>()
    )
}

fn wanted(interface: &str, options: &[&String]) -> Result<Wanted, Stop> {
    let mut wanted = Wanted { inside: Inside { name: interface.to_owned(), ..Inside::default() }, vlan: None };
    let inside = &mut wanted.inside;
    let refuse = |problem: String| Stop::new(format!("add-port: {problem}"));
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let values = value.split(',').filter(|value| !value.is_empty());
        match name {
            _ if !OPTIONS.iter().any(|(known, _)| *known == name) => {
                let near = nearest(name, OPTIONS.iter().map(|(known, _)| *known));
                return Err(
                    refuse(format!("unknown option \"{option}\"")).hint(near.map(|n| format!("did you mean {n}?")))
                );
            }
            _ if value.is_empty() => return Err(refuse(format!("{name} needs a value: {name}=..."))),
            "--ipaddress" => {
                for value in values {
                    inside.addresses.push(value.parse().map_err(|error| refuse(format!("--ipaddress: {error}")))?);
                }
            }
            "--gateway" => {
                for value in values {
                    let gateway =
                        value.parse().map_err(|_| refuse(format!("--gateway: {value} is not an IP address")))?;
                    inside.gateways.push(gateway);
                }
            }
            "--macaddress" => {
                let mac = crate::model::parse_mac(value).filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6]);
                inside.mac =
                    Some(mac.ok_or_else(|| refuse(format!("--macaddress: {value} is no MAC address of one host")))?);
            }
            "--mtu" => {
                let mtu = value.parse().ok().filter(|mtu| (68..=65535).contains(mtu));
                inside.mtu =
                    Some(mtu.ok_or_else(|| refuse(format!("--mtu: {value} is not a number from 68 to 65535")))?);
            }
            _ => {
                let vlan = value.parse::<u16>().ok().filter(|vlan| *vlan < 4096);
                wanted.vlan = Some(vlan.ok_or_else(|| refuse(format!("--vlan: {value} is not a VLAN")))?.to_string());
            }
        }
    }
    for is_v4 in [true, false] {
        let of_family: Vec<_> = wanted.inside.gateways.iter().filter(|gateway| gateway.is_ipv4() == is_v4).collect();
        if of_family.len() > 1 {
            return Err(refuse(format!("--gateway: {} and {} are both default", of_family[0], of_family[1])));
        }
        if let [gateway] = of_family[..]
            && !wanted.inside.addresses.iter().any(|cidr| cidr.address.is_ipv4() == is_v4)
        {
            return Err(refuse(format!("--gateway: {gateway} cannot be reached without an address of its family"))
                .hint(Some("give --ipaddress too")));
        }
    }
    Ok(wanted)
}

/// The host's end of a container's interface: the same for the same container and interface, and no longer than the
/// kernel allows. `_l` is `ovs-docker`'s.
fn port_name(container: &str, interface: &str) -> String {
    // FNV-1a; 52 bits of it.
    let hash = format!("{container}\n{interface}")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{:013x}_l", hash >> 12)
}

fn block_on<T>(work: impl AsyncFnOnce(Kernel) -> Result<T, crate::kernel::Error>) -> Result<T, Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Stop::new(error.to_string()))?;
    runtime
        .block_on(async {
            let (kernel, _) = Kernel::open().await?;
            work(kernel).await
        })
        .map_err(|error| Stop::new(error.to_string()))
}

/// Deletes a device if it is there.
fn delete(name: &str) -> Result<(), Stop> {
    block_on(async |kernel| match kernel.link_by_name(name).await {
        Ok(link) => kernel.delete(link.ifindex).await,
        Err(error) if error.is_gone() => Ok(()),
        Err(error) => Err(error),
    })
}

/// A port of a container.
struct Attached {
    port: String,
    interface: String,
}

impl Tool<'_> {
    fn change(&self, words: &[&str]) -> Result<(String, Vec<(String, String)>), Stop> {
        self.program.change(self.settings, words)
    }

    /// The ports of a container. Scripts call it by the words that they connected it with: so do we, and by its ID.
    fn attached(&self, container: &str) -> Result<Vec<Attached>, Stop> {
        let mut client = self.program.connect(self.settings)?;
        let rows = self.program.read(&mut client, &[("Interface", &["name", "external_ids"])])?;
        let id = |row: &Value, key: &str| {
            let pairs = row["external_ids"][1].as_array()?;
            pairs.iter().find(|pair| pair[0] == key)?[1].as_str().map(str::to_owned)
        };
        let full_id = Container::full_id(container);
        let is_its = |row: &&Value| {
            let typed = id(row, "container_id");
            typed.as_deref() == Some(container) || full_id.is_some() && id(row, "container_full_id") == full_id
        };
        let attached = |row: &Value| {
            Some(Attached { port: row["name"].as_str()?.to_owned(), interface: id(row, "container_iface")? })
        };
        Ok(rows[0].iter().filter(is_its).filter_map(attached).collect())
    }

    fn port_of(&self, bridge: &str, interface: &str, container: &str) -> Result<String, Stop> {
        let attached = self.attached(container)?;
        let Some(found) = attached.iter().find(|attached| attached.interface == interface) else {
            let names: Vec<&str> = attached.iter().map(|attached| attached.interface.as_str()).collect();
            let remedy = (!names.is_empty()).then(|| format!("it has {}", names.join(", ")));
            return Err(Stop::new(format!(
                "Failed to find any attached port for CONTAINER={container} and INTERFACE={interface}"
            ))
            .hint(remedy));
        };
        let (on, _) = self.change(&["port-to-br", &found.port])?;
        match on.trim_end() == bridge {
            true => Ok(found.port.clone()),
            false => Stop::fail(format!(
                "port {} of the container is on bridge {}, not on {bridge}",
                found.port,
                on.trim_end()
            )),
        }
    }

    fn add_port(&self, bridge: &str, interface: &str, typed: &str, options: &[&String]) -> Result<u8, Stop> {
        let wanted = wanted(interface, options)?;
        let container = Container::find(typed)?;
        let port = port_name(&container.id, interface);
        if self.attached(typed)?.iter().any(|attached| attached.interface == interface || attached.port == port) {
            return Err(Stop::new(format!("Port already attached for CONTAINER={typed} and INTERFACE={interface}"))
                .hint(Some(format!("\"docker del-port {bridge} {interface} {typed}\" takes it off"))));
        }
        let had_bridge = match self.change(&["br-exists", bridge]) {
            Ok(_) => true,
            Err(Stop::Exit(2)) => false,
            Err(error) => return Err(error),
        };
        block_on(async |kernel| {
            // From here on an interrupt would leave half of it behind: it takes the time limit at most, so hear none.
            let ignored = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
            drop(ignored);
            kernel.create_container_veth(&port, &wanted.inside, std::os::fd::AsFd::as_fd(&container.namespace)).await
        })?;
        if let Err(stop) = self.connect_it(bridge, &port, typed, &container, &wanted) {
            // What was not there before goes; the reason counts, not what else goes wrong on the way back.
            let _ = self.change(&["--if-exists", "del-port", bridge, &port]);
            let _ = delete(&port);
            if !had_bridge {
                let _ = self.change(&["--if-exists", "del-br", bridge]);
            }
            return Err(stop);
        }
        if self.settings.style.format == Format::Json {
            let json = json!({"port": port, "bridge": bridge, "interface": interface, "container": typed});
            print(&(json_text(&json, self.settings.style.pretty) + "\n"));
        }
        Ok(0)
    }

    /// The veth is there: the port, then what is inside. The link comes up last, when the switch hears it.
    fn connect_it(
        &self,
        bridge: &str,
        port: &str,
        typed: &str,
        container: &Container,
        wanted: &Wanted,
    ) -> Result<(), Stop> {
        block_on(async |kernel| {
            let link = kernel.link_by_name(port).await?;
            kernel.set_up(link.ifindex).await
        })?;
        let quoted = |text: &str| Value::from(text).to_string();
        let ids = [
            format!("external_ids:container_id={}", quoted(typed)),
            format!("external_ids:container_iface={}", quoted(&wanted.inside.name)),
            format!("external_ids:container_full_id={}", quoted(&container.id)),
        ];
        let tag = wanted.vlan.as_ref().map(|vlan| format!("tag={vlan}"));
        let mut words = vec!["--may-exist", "add-br", bridge, "--", "add-port", bridge, port];
        words.extend(tag.as_deref());
        words.extend(["--", "set", "Interface", port]);
        words.extend(ids.iter().map(String::as_str));
        let (_, trouble) = self.change(&words)?;
        if let Some((name, error)) = trouble.first() {
            return Stop::fail(format!("Failed to add {name} to bridge {bridge}: {error}"));
        }
        Kernel::set_up_in(&container.namespace, &wanted.inside).map_err(Stop::new)
    }

    fn take_off(&self, port: &str) -> Result<(), Stop> {
        self.change(&["--if-exists", "del-port", port])?;
        delete(port)
    }

    fn del_port(&self, bridge: &str, interface: &str, container: &str) -> Result<u8, Stop> {
        let port = self.port_of(bridge, interface, container)?;
        self.take_off(&port).map(|()| 0)
    }

    fn del_ports(&self, bridge: &str, container: &str) -> Result<u8, Stop> {
        let (ports, _) = self.change(&["list-ports", bridge])?;
        let attached = self.attached(container)?;
        let here = attached.iter().filter(|attached| ports.lines().any(|port| port == attached.port));
        here.map(|attached| &attached.port).try_for_each(|port| self.take_off(port))?;
        Ok(0)
    }

    fn set_vlan(&self, bridge: &str, interface: &str, container: &str, vlan: &str) -> Result<u8, Stop> {
        let port = self.port_of(bridge, interface, container)?;
        let (_, trouble) = self.change(&["set", "Port", &port, &format!("tag={vlan}")])?;
        Ok(self.program.report(&trouble))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ports_fit_and_differ() {
        let name = port_name("c474a0e2830e", "eth1");
        assert_eq!(name, port_name("c474a0e2830e", "eth1"));
        assert_eq!(name.len(), crate::kernel::NAME_BYTES_MAX);
        assert_ne!(name, port_name("c474a0e2830e", "eth2"));
        assert_ne!(port_name("a", "bc"), port_name("ab", "c"));
    }

    #[test]
    fn options_are_checked_before_anything_is_done() {
        let wanted = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            wanted("eth1", &options.iter().collect::<Vec<_>>())
        };
        let good = wanted(&[
            "--ipaddress=192.168.1.2/24,fd00::2/64",
            "--gateway=192.168.1.1",
            "--gateway=fd00::1",
            "--macaddress=a2:c3:0d:49:7f:f8",
            "--mtu=1450",
        ]);
        let good = good.unwrap().inside;
        assert_eq!((good.addresses.len(), good.gateways.len(), good.mtu), (2, 2, Some(1450)));
        assert_eq!(good.mac, Some([0xa2, 0xc3, 0x0d, 0x49, 0x7f, 0xf8]));
        for options in [
            &["--ipaddress=192.168.1.256"][..],
            &["--ipaddress"],
            &["--macaddress=01:00:00:00:00:01"],
            &["--macaddress=x"],
            &["--mtu=67"],
            &["--mtu=1e3"],
            &["--gateway=10.0.0.1"],
            &["--ipaddress=10.0.0.1/8", "--gateway=10.0.0.1,10.0.0.2"],
            &["--ipadress=10.0.0.1"],
            &["--vlan=4096"],
        ] {
            assert!(wanted(options).is_err(), "{options:?}");
        }
    }
}
