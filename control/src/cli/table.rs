//! Which commands and options does `shuntctl` have? The one table that the parser, the help, the listings and the
//! shell completions are made from.

use super::commands::{Context, Stop, bridge, database, legacy, neighbor, port, route, show, svi, zones};
use super::grammar::{Command, Invocation};
use super::needs::Needs;
use super::program::Program;
use super::{brctl, capture, docker, drops, flows, top, trace, watch};

/// Adds the tables and columns that a command reads to what is fetched before it runs.
pub type NeedsFn = fn(&mut Needs, &Command) -> Result<(), Stop>;
/// Runs a command on the client's copy of the database.
pub type RunFn = fn(&mut Context, &Command) -> Result<(), Stop>;

/// Runs a tool; gives the exit status.
pub type ToolFn = fn(&Program, &Invocation, &Command) -> Result<u8, Stop>;

/// How a command is carried out.
#[derive(Clone, Copy)]
pub enum Action {
    /// Part of the one transaction of an invocation.
    Config {
        /// What it reads.
        needs: NeedsFn,
        /// What it does.
        run: RunFn,
    },
    /// A method of the daemon with string parameters.
    Runtime,
    /// A tool of its own.
    Tool(ToolFn),
    /// Prints a shell completion script; needs no daemon.
    Completion,
}

/// One command.
pub struct Spec {
    /// Under which heading the help lists it.
    pub group: &'static str,
    /// Its name: one word, or two. Between two, a slash will do for the space and the other way round.
    pub name: &'static str,
    /// Its options, each with `=` if it takes a value: `--if-exists --id=`.
    pub options: &'static str,
    /// Fewest arguments.
    pub min: usize,
    /// Most arguments.
    pub max: usize,
    /// Its arguments as the help shows them.
    pub args: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// What carries it out.
    pub action: Action,
}

impl Spec {
    /// The options with `=` where they take a value.
    pub fn options(&self) -> impl Iterator<Item = &'static str> {
        self.options.split_ascii_whitespace()
    }

    /// The method of the daemon, if it is one.
    pub fn method(&self) -> String {
        self.name.replace(' ', "/")
    }
}

const MANY: usize = usize::MAX;

macro_rules! config {
    ($group:expr, $name:literal, $options:literal, $min:expr, $max:expr, $args:literal, $needs:path, $run:path, $help:literal) => {
        Spec {
            group: $group,
            name: $name,
            options: $options,
            min: $min,
            max: $max,
            args: $args,
            help: $help,
            action: Action::Config { needs: $needs, run: $run },
        }
    };
}

macro_rules! runtime {
    ($name:literal, $min:expr, $max:expr, $args:literal, $help:literal) => {
        Spec {
            group: RUNTIME,
            name: $name,
            options: "",
            min: $min,
            max: $max,
            args: $args,
            help: $help,
            action: Action::Runtime,
        }
    };
}

macro_rules! tool {
    ($name:literal, $min:expr, $args:literal, $run:path, $help:literal) => {
        Spec {
            group: TOOLS,
            name: $name,
            options: "",
            min: $min,
            max: MANY,
            args: $args,
            help: $help,
            action: Action::Tool($run),
        }
    };
}

const SWITCH: &str = "Switch commands";
const BRIDGE: &str = "Bridge commands";
const PORT: &str = "Port commands (a bond is one port)";
const IFACE: &str = "Interface commands (a bond has several interfaces)";
const ROUTER: &str = "Router commands";
const STORED: &str = "Controller, manager, SSL and other settings (stored for compatibility, not acted on)";
const DATABASE: &str = "Database commands";
const RUNTIME: &str = "Run-time commands (ask the running daemon; not to be chained)";
const TOOLS: &str = "Tools (not to be chained)";
const SHELL: &str = "Shell";

/// Every command.
#[rustfmt::skip]
pub static COMMANDS: &[Spec] = &[
    config!(SWITCH, "init", "", 0, 0, "", Needs::nothing, show::init, "create the row of the switch if it is not there"),
    config!(SWITCH, "show", "", 0, 0, "", show::needs, show::show, "print bridges, ports, interfaces and their state"),
    config!(SWITCH, "emer-reset", "", 0, 0, "", legacy::needs_emer_reset, legacy::emer_reset, "drop mirrors, sampling, policing, controllers and other_config"),

    config!(BRIDGE, "add-br", "--may-exist", 1, 3, "BRIDGE [PARENT VLAN]", bridge::needs_new, bridge::add_br, "add a bridge, or a fake bridge for VLAN of PARENT"),
    config!(BRIDGE, "del-br", "--if-exists", 1, 1, "BRIDGE", bridge::needs, bridge::del_br, "delete a bridge and all its ports"),
    config!(BRIDGE, "list-br", "--real --fake", 0, 0, "", bridge::needs, bridge::list_br, "print the names of the bridges"),
    config!(BRIDGE, "br-exists", "", 1, 1, "BRIDGE", bridge::needs, bridge::br_exists, "exit with status 2 if there is no such bridge"),
    config!(BRIDGE, "br-to-vlan", "", 1, 1, "BRIDGE", bridge::needs, bridge::br_to_vlan, "print the VLAN of a fake bridge, 0 for a real one"),
    config!(BRIDGE, "br-to-parent", "", 1, 1, "BRIDGE", bridge::needs, bridge::br_to_parent, "print the parent of a fake bridge"),
    config!(BRIDGE, "br-set-external-id", "", 2, 3, "BRIDGE KEY [VALUE]", bridge::needs_external_ids, bridge::br_set_external_id, "set KEY in external_ids, or remove it"),
    config!(BRIDGE, "br-get-external-id", "", 1, 2, "BRIDGE [KEY]", bridge::needs_external_ids, bridge::br_get_external_id, "print one or all of external_ids"),

    config!(PORT, "list-ports", "", 1, 1, "BRIDGE", port::needs_ports, port::list_ports, "print the names of a bridge's ports, without its own"),
    config!(PORT, "add-port", "--may-exist", 2, MANY, "BRIDGE PORT [COLUMN[:KEY]=VALUE]...", port::needs_new_port, port::add_port, "add a device as a port and set columns of the port"),
    config!(PORT, "del-port", "--if-exists --with-iface", 1, 2, "[BRIDGE] PORT", port::needs_names, port::del_port, "delete a port"),
    config!(PORT, "port-to-br", "", 1, 1, "PORT", port::needs_names, port::port_to_br, "print the bridge of a port"),
    config!(PORT, "add-bond", "--may-exist --fake-iface", 4, MANY, "BRIDGE PORT IFACE... [COLUMN[:KEY]=VALUE]...", port::needs_new_port, port::add_bond, "add a port of several interfaces"),
    config!(PORT, "add-bond-iface", "--may-exist", 2, 2, "PORT IFACE", port::needs_names, port::add_bond_iface, "add an interface to a bond"),
    config!(PORT, "del-bond-iface", "--if-exists", 1, 2, "[PORT] IFACE", port::needs_names, port::del_bond_iface, "remove an interface from a bond"),

    config!(IFACE, "list-ifaces", "", 1, 1, "BRIDGE", port::needs_interfaces, port::list_ifaces, "print the names of a bridge's interfaces, without its own"),
    config!(IFACE, "iface-to-br", "", 1, 1, "IFACE", port::needs_names, port::iface_to_br, "print the bridge of an interface"),

    config!(ROUTER, "add-svi", "--may-exist", 2, MANY, "BRIDGE NAME [tag=VID] [address=CIDR[,CIDR]...] [vrf=NAME] [mac=MAC]", svi::needs_new, svi::add_svi, "make the switch the gateway of a VLAN; of what has no tag where NAME is BRIDGE"),
    config!(ROUTER, "del-svi", "--if-exists", 1, 1, "NAME", svi::needs, svi::del_svi, "delete it; a bridge's own interface stays"),
    config!(ROUTER, "list-svi", "", 0, 1, "[BRIDGE]", svi::needs_all, svi::list_svi, "print the names of the gateways' interfaces"),
    config!(ROUTER, "route add", "--may-exist", 2, MANY, "[blackhole|unreachable|prohibit] PREFIX [via ADDRESS] [dev IFACE] [weight N] [onlink]... [metric N] [vrf NAME]", route::needs, route::add, "add a static route; each further via is a further way, by weight"),
    config!(ROUTER, "route del", "--if-exists", 1, 5, "PREFIX [metric N] [vrf NAME]", route::needs, route::del, "delete a static route"),
    config!(ROUTER, "neigh add", "--may-exist", 5, 7, "ADDRESS lladdr MAC dev IFACE [vrf NAME]", neighbor::needs, neighbor::add, "add a neighbour that is not asked for its MAC address"),
    config!(ROUTER, "neigh del", "--if-exists", 3, 5, "ADDRESS dev IFACE [vrf NAME]", neighbor::needs, neighbor::del, "delete such a neighbour"),

    config!(STORED, "get-controller", "", 1, 1, "BRIDGE", legacy::needs_controller, legacy::get_controller, "print the controllers"),
    config!(STORED, "del-controller", "", 1, 1, "BRIDGE", legacy::needs_controller, legacy::del_controller, "delete the controllers"),
    config!(STORED, "set-controller", "--inactivity-probe=", 1, MANY, "BRIDGE TARGET...", legacy::needs_controller, legacy::set_controller, "set the controllers"),
    config!(STORED, "get-fail-mode", "", 1, 1, "BRIDGE", legacy::needs_controller, legacy::get_fail_mode, "print the fail mode"),
    config!(STORED, "del-fail-mode", "", 1, 1, "BRIDGE", legacy::needs_controller, legacy::del_fail_mode, "delete the fail mode"),
    config!(STORED, "set-fail-mode", "", 2, 2, "BRIDGE standalone|secure", legacy::needs_controller, legacy::set_fail_mode, "set the fail mode"),
    config!(STORED, "get-manager", "", 0, 0, "", legacy::needs_manager, legacy::get_manager, "print the managers"),
    config!(STORED, "del-manager", "", 0, 0, "", legacy::needs_manager, legacy::del_manager, "delete the managers"),
    config!(STORED, "set-manager", "--inactivity-probe=", 1, MANY, "TARGET...", legacy::needs_manager, legacy::set_manager, "set the managers"),
    config!(STORED, "get-ssl", "", 0, 0, "", legacy::needs_ssl, legacy::get_ssl, "print the SSL settings"),
    config!(STORED, "del-ssl", "", 0, 0, "", legacy::needs_ssl, legacy::del_ssl, "delete the SSL settings"),
    config!(STORED, "set-ssl", "--bootstrap", 3, 3, "PRIVATE-KEY CERTIFICATE CA-CERT", legacy::needs_ssl, legacy::set_ssl, "set the SSL settings"),
    config!(STORED, "add-aa-mapping", "", 3, 3, "BRIDGE I-SID VLAN", legacy::needs_mapping, legacy::add_aa_mapping, "add an Auto Attach mapping"),
    config!(STORED, "del-aa-mapping", "", 3, 3, "BRIDGE I-SID VLAN", legacy::needs_mapping, legacy::del_aa_mapping, "delete an Auto Attach mapping"),
    config!(STORED, "get-aa-mapping", "", 1, 1, "BRIDGE", legacy::needs_mapping, legacy::get_aa_mapping, "print the Auto Attach mappings"),
    config!(STORED, "list-dp-cap", "", 1, 1, "DATAPATH", zones::needs_datapath, zones::list_dp_cap, "print what a datapath can do"),
    config!(STORED, "add-zone-tp", "--may-exist", 3, MANY, "DATAPATH zone=NUMBER TIMEOUT=SECONDS...", zones::needs_zones, zones::add_zone_tp, "set the connection timeouts of a zone"),
    config!(STORED, "del-zone-tp", "--if-exists", 2, 2, "DATAPATH zone=NUMBER", zones::needs_zones, zones::del_zone_tp, "delete the connection timeouts of a zone"),
    config!(STORED, "list-zone-tp", "", 1, 1, "DATAPATH", zones::needs_zones, zones::list_zone_tp, "print the connection timeouts of all zones"),

    config!(DATABASE, "list", "--if-exists --columns=", 1, MANY, "TABLE [RECORD]...", database::needs_list, database::list, "print all or some records"),
    config!(DATABASE, "find", "--columns=", 1, MANY, "TABLE [COLUMN[:KEY]=VALUE]...", database::needs_find, database::find, "print the records that meet every condition"),
    config!(DATABASE, "get", "--if-exists --id=", 2, MANY, "TABLE RECORD [COLUMN[:KEY]]...", database::needs_columns, database::get, "print columns of a record"),
    config!(DATABASE, "set", "--if-exists", 3, MANY, "TABLE RECORD COLUMN[:KEY]=VALUE...", database::needs_columns, database::set, "set columns of a record"),
    config!(DATABASE, "add", "--if-exists", 4, MANY, "TABLE RECORD COLUMN [KEY=]VALUE...", database::needs_column, database::add, "add values to a column"),
    config!(DATABASE, "remove", "--if-exists", 4, MANY, "TABLE RECORD COLUMN KEY|VALUE|KEY=VALUE...", database::needs_column, database::remove, "remove values from a column"),
    config!(DATABASE, "clear", "--if-exists", 3, MANY, "TABLE RECORD COLUMN...", database::needs_columns, database::clear, "empty columns"),
    config!(DATABASE, "create", "--id=", 2, MANY, "TABLE COLUMN[:KEY]=VALUE...", database::needs_create, database::create, "add a record; with --id=@NAME others can refer to it"),
    config!(DATABASE, "destroy", "--if-exists --all", 1, MANY, "TABLE [RECORD]...", database::needs_records, database::destroy, "delete records"),
    config!(DATABASE, "wait-until", "", 2, MANY, "TABLE RECORD [COLUMN[:KEY]=VALUE]...", database::needs_columns, database::wait_until, "wait for a record to exist and to meet every condition"),
    config!(DATABASE, "comment", "", 0, MANY, "[ARG]...", Needs::nothing, show::init, "do nothing; the words go to the log with the transaction"),

    runtime!("fdb/show", 1, 1, "BRIDGE", "print the MAC addresses that a bridge has learned"),
    runtime!("fdb/flush", 0, 1, "[BRIDGE]", "forget learned addresses; static ones stay"),
    runtime!("mdb/show", 1, 1, "BRIDGE", "print who wants which multicast group, and where routers are"),
    runtime!("mdb/flush", 0, 1, "[BRIDGE]", "forget what was learned about multicast"),
    runtime!("fdb/add", 4, 4, "BRIDGE PORT VLAN MAC", "add a static address"),
    runtime!("fdb/del", 3, 3, "BRIDGE VLAN MAC", "delete an address"),
    runtime!("fdb/stats-show", 1, 1, "BRIDGE", "print how many addresses were learned, moved, aged and evicted"),
    runtime!("fdb/stats-clear", 0, 1, "[BRIDGE]", "count learned, moved, aged and evicted addresses anew"),
    runtime!("port/stats", 0, 1, "[PORT]", "print packets, bytes and drops by reason"),
    Spec { group: RUNTIME, name: "drops", options: "", min: 0, max: MANY, args: "[PORT|BRIDGE] [--watch] [-i SECONDS] [--json]", help: "print what is dropped, most pressing first: packets, rates, likely causes, what to do", action: Action::Tool(drops::run) },
    runtime!("interface brief", 0, 0, "", "print a line for each interface: VLAN, type, mode, status and why, speed, address"),
    runtime!("interface", 1, 1, "NAME", "print all of one interface"),
    runtime!("route show", 0, 3, "[PREFIX] [vrf NAME]", "print the routes in force, whoever made them, and who forwards by them"),
    runtime!("route get", 1, 3, "ADDRESS [vrf NAME]", "print the route that packets for an address take"),
    runtime!("neigh show", 0, 4, "[dev IFACE] [vrf NAME]", "print the hosts known on the router's interfaces"),
    runtime!("neigh flush", 0, 4, "[dev IFACE] [vrf NAME]", "forget learned hosts, so that they are asked for anew; static ones stay"),
    runtime!("forward trace", 2, 10, "SOURCE DESTINATION [proto P] [sport N] [dport N] [vrf NAME]", "print which way a packet would take, and why"),
    runtime!("flows/top", 0, 1, "[COUNT]", "print the greatest flows of the last seconds, by sampled traffic"),
    runtime!("ofproto/trace", 1, 3, "[BRIDGE] FLOW [PACKET]", "print step by step what would become of a packet"),
    runtime!("worker/show", 0, 0, "", "print cores, their queues, load and batch sizes"),
    runtime!("version", 0, 0, "", "print the daemon's version"),
    runtime!("dpif/show", 0, 0, "", "print bridges and attached ports with their numbers"),
    runtime!("dpif-netdev/pmd-rxq-show", 0, 0, "", "print which core polls which queue, and what it costs"),
    runtime!("dpif-netdev/pmd-perf-show", 0, 0, "", "print what each worker did with its time"),
    runtime!("dpif-netdev/pmd-stats-show", 0, 0, "", "the same as dpif-netdev/pmd-perf-show"),
    runtime!("dpif-netdev/pmd-stats-clear", 0, 0, "", "begin the numbers of dpif-netdev/pmd-perf-show anew"),
    runtime!("dpif-netdev/pmd-sleep-show", 0, 0, "", "print how long workers may sleep"),
    runtime!("coverage/show", 0, 0, "", "print how often things happen: per second, minute and hour"),
    runtime!("coverage/read-counter", 1, 1, "COUNTER", "print one count of coverage/show"),
    runtime!("memory/show", 0, 0, "", "print how many things take memory"),
    runtime!("vlog/list", 0, 0, "", "print the modules that log, and their levels"),
    runtime!("vlog/set", 0, 64, "[MODULE:DESTINATION:LEVEL]...", "set levels of what is logged: off, emer, err, warn, info, dbg"),
    runtime!("list-commands", 0, 0, "", "print the run-time commands that the daemon knows"),
    runtime!("exit", 0, 1, "[--cleanup]", "stop the daemon; devices return to the kernel, and with --cleanup its own devices go"),

    tool!("watch", 0, "[TABLE|BRIDGE]...", watch::run, "print every change as it happens, until interrupted"),
    tool!("flows", 0, "[--top[=N]] [--watch [--above=RATE]]", flows::run, "print the greatest flows by sampled traffic; with --watch those above a rate (10M), as they begin and end"),
    tool!("top", 0, "[-i SECONDS] [-b]", top::run, "show ports, rates, drops and workers until q is pressed; -b prints them once"),
    tool!("capture", 1, "PORT|BRIDGE [-w FILE|-] [--filter EXPR] [--in|--out|--drops] [-c N] [--snaplen N]", capture::run, "show or write (pcapng) packets and what becomes of them, until interrupted"),
    tool!("trace", 1, "[BRIDGE] FLOW [PACKET] | --live PORT [--filter EXPR] [-c N]", trace::run, "print step by step what would become of a packet, or becomes of the next ones of a port"),
    tool!("brctl", 0, "COMMAND [ARG]...", brctl::run, "the commands of the Linux bridge's tool: addbr delbr addif delif show showmacs setageing"),
    tool!("docker", 0, "COMMAND [ARG]...", docker::run, "connect containers, as ovs-docker does: add-port del-port del-ports set-vlan"),

    Spec { group: SHELL, name: "completion", options: "", min: 1, max: 1, args: "bash|zsh|fish", help: "print a completion script for a shell", action: Action::Completion },
];

/// Finds the command that these words begin with, and how many of them are its name.
pub fn find(words: &[String]) -> Option<(&'static Spec, usize)> {
    let named = |typed: &str| COMMANDS.iter().find(|spec| spec.method() == typed.replace(' ', "/"));
    let two = || Some((named(&words.get(..2)?.join(" "))?, 2));
    two().or_else(|| Some((named(words.first()?)?, 1)))
}

/// The words that can follow the first one of a command of two.
pub fn second_words(first: &str) -> Vec<&'static str> {
    COMMANDS
        .iter()
        .filter_map(|spec| spec.name.split_once([' ', '/']))
        .filter(|(one, _)| *one == first)
        .map(|(_, two)| two)
        .collect()
}

/// Any other method of the daemon: `dpif/show` and the like.
pub static OTHER_METHOD: Spec = runtime!("", 0, MANY, "[ARG]...", "");

/// Whether an option takes a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// Never.
    Nothing,
    /// `--name VALUE` or `--name=VALUE`.
    Value,
    /// `--name` or `--name=VALUE`.
    Optional,
}

/// One option that goes before the command.
pub struct GlobalOption {
    /// Without the hyphens.
    pub long: &'static str,
    /// One letter.
    pub short: Option<char>,
    /// Its value.
    pub takes: Takes,
    /// How the help names the value.
    pub value: &'static str,
    /// One line of help; empty for what is accepted for compatibility and does nothing.
    pub help: &'static str,
}

const fn option(
    long: &'static str,
    short: Option<char>,
    takes: Takes,
    value: &'static str,
    help: &'static str,
) -> GlobalOption {
    GlobalOption { long, short, takes, value, help }
}

/// The options before the command, in the order of the help.
#[rustfmt::skip]
pub static OPTIONS: &[GlobalOption] = &[
    option("db", None, Takes::Value, "unix:PATH", "the daemon's socket; a bare path will do (default unix:/run/shunt/db.sock)"),
    option("no-syslog", None, Takes::Nothing, "", ""),
    option("no-wait", None, Takes::Nothing, "", "return after the commit; do not wait until the data plane has applied it"),
    option("dry-run", None, Takes::Nothing, "", "check everything, change nothing"),
    option("oneline", None, Takes::Nothing, "", "print one line per command; a newline inside becomes \\n"),
    option("timeout", Some('t'), Takes::Value, "SECS", "give up after SECS seconds (default 10; 0 means never)"),
    option("retry", None, Takes::Nothing, "", "keep trying to reach the daemon until the timeout"),
    option("help", Some('h'), Takes::Nothing, "", "print this help"),
    option("commands", None, Takes::Nothing, "", "print every command with its options and arguments, for programs"),
    option("options", None, Takes::Nothing, "", "print every option, for programs"),
    option("leader-only", None, Takes::Nothing, "", ""),
    option("no-leader-only", None, Takes::Nothing, "", ""),
    option("shuffle-remotes", None, Takes::Nothing, "", ""),
    option("no-shuffle-remotes", None, Takes::Nothing, "", ""),
    option("version", Some('V'), Takes::Nothing, "", "print the version of this program"),
    option("verbose", Some('v'), Takes::Optional, "SPEC", "print what goes over the socket on standard error"),
    option("log-file", None, Takes::Optional, "FILE", ""),
    option("syslog-method", None, Takes::Value, "METHOD", ""),
    option("syslog-target", None, Takes::Value, "HOST:PORT", ""),
    option("format", Some('f'), Takes::Value, "FORMAT", "how list and find print: list (default), table, csv, json, html; run-time commands know json"),
    option("data", Some('d'), Takes::Value, "FORMAT", "how list and find print a value: string (default), bare, json"),
    option("no-headings", None, Takes::Nothing, "", "leave column names out"),
    option("pretty", None, Takes::Nothing, "", "indent JSON"),
    option("bare", None, Takes::Nothing, "", "the same as --format=list --data=bare --no-headings"),
    option("max-column-width", None, Takes::Value, "N", "cut columns of a table at N characters"),
    option("private-key", Some('p'), Takes::Value, "FILE", ""),
    option("certificate", Some('c'), Takes::Value, "FILE", ""),
    option("ca-cert", Some('C'), Takes::Value, "FILE", ""),
    option("ssl-protocols", None, Takes::Value, "PROTOCOLS", ""),
    option("ssl-ciphers", None, Takes::Value, "CIPHERS", ""),
    option("bootstrap-ca-cert", None, Takes::Value, "FILE", ""),
    option("peer-ca-cert", None, Takes::Value, "FILE", ""),
];
