//! Does our copy of the kernel's routes choose as the kernel does, whatever happens to them?
//!
//! Random changes by `ip`, then `ip route get fibmatch` for addresses in and beside all prefixes.

use ipnet::IpNet;
use serde_json::Value;
use shunt_control::kernel::{Routes, Told};
use shunt_control::routing::rib::{Best, Kind, NextHop, Rib};
use shunt_ffi::netns::TestNamespace;
use shunt_switch::port::fault::Dice;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

const DEVICES: [&str; 3] = ["va", "vb", "vc"];
/// Comes and goes to show that all before it has been told.
const SENTINEL: &str = "203.0.113.77";

struct World<'a> {
    namespace: &'a TestNamespace,
    routes: Routes,
    rib: Rib,
    sentinels: u32,
}

impl<'a> World<'a> {
    async fn new(namespace: &'a TestNamespace, buffer_bytes: usize) -> Self {
        for scope in ["all", "default"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "0").expect("IPv6");
        }
        for (n, device) in DEVICES.iter().enumerate() {
            namespace.ip(&format!("link add {device} type veth peer name {device}p"));
            namespace.ip(&format!("link set {device}p up"));
            namespace.ip(&format!("link set {device} up"));
            namespace.ip(&format!("addr add 10.9.{n}.1/24 dev {device}"));
            namespace.ip(&format!("addr add 2001:db8:9:{n}::1/64 dev {device} nodad"));
        }
        let routes = Routes::open_with(buffer_bytes).expect("netlink sockets");
        let mut world = Self { namespace, routes, rib: Rib::default(), sentinels: 0 };
        world.take_until(|_, told| told == &Told::ReadingFinished).await;
        world
    }

    /// Takes news until one of them is the awaited; says which prefixes were touched.
    async fn take_until(&mut self, awaited: impl Fn(&Rib, &Told) -> bool) -> BTreeSet<IpNet> {
        let (mut touched, mut is_reading, mut is_there) = (BTreeSet::new(), false, false);
        loop {
            let told = tokio::time::timeout(Duration::from_secs(20), self.routes.next()).await;
            for told in told.expect("news come").expect("news can be read") {
                match told.clone() {
                    Told::ReadingStarted => {
                        is_reading = true;
                        self.rib.start_reading();
                    }
                    Told::ReadingFinished => {
                        is_reading = false;
                        self.rib.finish_reading(&mut touched);
                    }
                    Told::News(news) => self.rib.apply(news, &mut touched),
                }
                is_there |= awaited(&self.rib, &told);
            }
            if is_there && !is_reading {
                return touched;
            }
        }
    }

    /// Runs `ip -batch`, which may refuse some of it, and takes all news of it.
    async fn batch(&mut self, lines: &[String]) {
        self.sentinels += 1;
        let metric = self.sentinels;
        let lines = lines.join("\n") + &format!("\nroute add unreachable {SENTINEL} metric {metric}\n");
        self.ip(&["-force", "-batch", "-"], &lines);
        let is_sentinel = |rib: &Rib, _: &Told| {
            rib.routes(&format!("{SENTINEL}/32").parse().unwrap()).any(|route| route.metric == metric)
        };
        self.take_until(is_sentinel).await;
    }

    fn ip(&self, words: &[&str], input: &str) {
        let mut command = Command::new("ip");
        command.args(["-n", self.namespace.name()]).args(words);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ip");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("ip reads");
        child.wait().expect("ip ends");
    }

    /// What our copy sends packets for the address by: the longest prefix that has a route in force.
    fn ours(&self, address: IpAddr) -> Option<Best> {
        let mut covering: Vec<&IpNet> = self.rib.prefixes().filter(|net| net.contains(&address)).collect();
        covering.sort_by_key(|net| std::cmp::Reverse(net.prefix_len()));
        covering.into_iter().find_map(|net| self.rib.best(net)).filter(|best| best.kind != Kind::Throw)
    }

    /// The kernel's choice.
    fn kernels(&self, address: IpAddr) -> Option<Best> {
        let address = address.to_string();
        let words = ["-n", self.namespace.name(), "-j", "-d", "route", "get", "fibmatch", &address];
        let output = Command::new("ip").args(words).output().expect("ip");
        let refusal = String::from_utf8_lossy(&output.stderr).into_owned();
        let verdict = |kind| Some(Best { kind, hops: Vec::new() });
        match refusal.trim() {
            "" => {}
            "RTNETLINK answers: Network is unreachable" => return None,
            "RTNETLINK answers: Invalid argument" => return verdict(Kind::Blackhole),
            "RTNETLINK answers: No route to host" => return verdict(Kind::Unreachable),
            "RTNETLINK answers: Permission denied" => return verdict(Kind::Prohibit),
            other => panic!("{address}: {other}"),
        }
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let route = &answer[0];
        if route["type"] != "unicast" {
            return verdict(match route["type"].as_str() {
                Some("broadcast") => Kind::Broadcast,
                Some("local" | "anycast") => Kind::Local,
                other => panic!("{address}: a route of type {other:?}"),
            });
        }
        let hop = |value: &Value| {
            let gateway = value["gateway"].as_str().or(value["via"]["host"].as_str());
            NextHop {
                ifindex: self.namespace.ifindex(value["dev"].as_str().expect("a device")),
                gateway: gateway.map(|gateway| gateway.parse().expect("an address")),
                weight: value["weight"].as_u64().unwrap_or(1) as u16,
                dead: value["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "dead")),
            }
        };
        let hops = match route["nexthops"].as_array() {
            Some(hops) => hops.iter().map(hop).collect(),
            None => vec![hop(route)],
        };
        Some(Best { kind: Kind::Unicast, hops: merged(hops) })
    }

    fn compare(&self, addresses: &BTreeSet<IpAddr>, title: &str) {
        for address in addresses {
            let [ours, kernels] = [self.ours(*address), self.kernels(*address)].map(without_lone_weight);
            assert_eq!(ours, kernels, "{title}: {address}");
        }
    }
}

/// A weight says nothing where there is no choice, and the kernel does not always show it then.
fn without_lone_weight(mut best: Option<Best>) -> Option<Best> {
    if let Some(Best { hops, .. }) = &mut best
        && let [hop] = &mut hops[..]
    {
        hop.weight = 1;
    }
    best
}

/// As [`Rib::best`] gives them.
fn merged(hops: Vec<NextHop>) -> Vec<NextHop> {
    let mut merged: Vec<NextHop> = Vec::new();
    for hop in hops.into_iter().filter(|hop| !hop.dead) {
        match merged.iter_mut().find(|other| (other.ifindex, other.gateway) == (hop.ifindex, hop.gateway)) {
            Some(other) => other.weight += hop.weight,
            None => merged.push(hop),
        }
    }
    merged.sort_by_key(|hop| (hop.ifindex, hop.gateway));
    merged
}

fn pick<'a, T: ?Sized>(dice: &mut Dice, from: &[&'a T]) -> &'a T {
    from[dice.below(from.len())]
}

const V4: [&str; 12] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.128/25",
    "10.1.2.3/32",
    "10.9.0.0/24",
    "10.9.1.64/26",
    "0.0.0.0/0",
    "172.16.0.0/12",
    "172.16.5.0/24",
    "192.0.2.1/32",
    "10.9.2.1/32",
];
const V6: [&str; 8] = [
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1:2::/64",
    "2001:db8:1:2::3/128",
    "2001:db8:9:0::/64",
    "::/0",
    "2001:db8:9:1:8000::/65",
    "fd00::/8",
];

fn via(dice: &mut Dice, v6: bool) -> String {
    let n = dice.below(3);
    let (device, host) = (DEVICES[n], 2 + dice.below(3));
    match (v6, dice.below(4)) {
        (_, 0) => format!("dev {device}"),
        (true, _) => format!("via 2001:db8:9:{n}::{host} dev {device}"),
        (false, 1) => format!("via inet6 2001:db8:9:{n}::{host} dev {device}"),
        (false, _) => format!("via 10.9.{n}.{host} dev {device}"),
    }
}

/// A line for `ip -batch`; many are refused, by the kernel's own rules.
fn change(dice: &mut Dice) -> String {
    let is_v6 = dice.chance(400);
    let prefix = if is_v6 { pick(dice, &V6) } else { pick(dice, &V4) };
    let metric = format!("metric {}", 10 + 10 * dice.below(3));
    let verb = pick(dice, &["add", "add", "replace", "append", "prepend", "del", "del"]);
    match dice.below(16) {
        0 => {
            format!("route {verb} {} {prefix} {metric}", pick(dice, &["blackhole", "unreachable", "prohibit", "throw"]))
        }
        1 | 2 => {
            let hops: Vec<_> = (0..1 + dice.below(3))
                .map(|_| format!("nexthop {} weight {}", via(dice, is_v6), 1 + dice.below(3)))
                .collect();
            format!("route {verb} {prefix} {metric} {}", hops.join(" "))
        }
        3 | 4 => format!("route {verb} {prefix} {metric} nhid {}", 1 + dice.below(8)),
        5 => format!("nexthop {} id {} {}", pick(dice, &["add", "replace"]), 1 + dice.below(5), via(dice, is_v6)),
        6 => format!(
            "nexthop {} id {} group {}/{},{}",
            pick(dice, &["add", "replace"]),
            6 + dice.below(2),
            1 + dice.below(5),
            1 + dice.below(3),
            1 + dice.below(5)
        ),
        7 => format!("nexthop del id {}", 1 + dice.below(8)),
        8 if dice.chance(100) => format!("link set {} down", pick(dice, &DEVICES)),
        8 => format!("link set {} up", pick(dice, &DEVICES)),
        9 => format!("route del {prefix}"),
        _ => format!("route {verb} {prefix} {metric} {}", via(dice, is_v6)),
    }
}

/// Addresses in and beside all prefixes.
fn probes() -> BTreeSet<IpAddr> {
    let mut probes = BTreeSet::new();
    for net in V4.iter().chain(&V6).map(|net| net.parse::<IpNet>().expect("a prefix")) {
        probes.extend([net.network(), net.broadcast()]);
        probes.extend(net.hosts().nth(2));
    }
    for address in [
        "10.1.2.4",
        "10.9.0.1",
        "10.9.0.200",
        "10.200.0.1",
        "198.51.100.1",
        "2001:db8:1:3::1",
        "2001:db8:9::1",
        "2400::1",
    ] {
        probes.insert(address.parse().expect("an address"));
    }
    // The kernel answers for these out of no table.
    probes.retain(|address| !address.is_unspecified() && !address.is_multicast() && *address != IpAddr::from([255; 4]));
    probes
}

#[test]
fn random_changes() {
    let long = std::env::var_os("SHUNT_LONG").is_some();
    for seed in 0..if long { 40 } else { 4 } {
        super::alone(async |namespace, _| {
            let mut dice = Dice::new(seed);
            let mut world = World::new(namespace, 8 << 20).await;
            let probes = probes();
            world.compare(&probes, "at first");
            for round in 0..12 {
                // Few, which a failure shows well, and many.
                let most = if round % 2 == 0 { 12 } else { 200 };
                let lines: Vec<String> = (0..1 + dice.below(most)).map(|_| change(&mut dice)).collect();
                world.batch(&lines).await;
                world.compare(&probes, &format!("seed {seed}, round {round}, {lines:#?}"));
            }
        });
    }
}

/// News that nobody reads in time are lost; what was missed is found by reading everything anew, and what went is gone.
#[test]
fn an_overrun() {
    super::alone(async |namespace, _| {
        let mut world = World::new(namespace, 4096).await;
        let net = |n: usize| format!("10.{}.{}.0/24", 100 + n / 256, n % 256);
        let add = |n| format!("route add {} via 10.9.0.2 dev va", net(n));
        world.batch(&(0..2000).map(add).collect::<Vec<_>>()).await;
        let change = |n| match n % 2 {
            0 => format!("route del {}", net(n)),
            _ => format!("route replace {} via 10.9.1.2 dev vb", net(n)),
        };
        world.batch(&(0..2000).map(change).collect::<Vec<_>>()).await;
        let probes = (0..2000).step_by(97).map(|n| net(n).parse::<IpNet>().expect("a prefix").addr());
        world.compare(&probes.collect(), "after an overrun");
        let left = world.rib.prefixes().filter(|net| (100..108).contains(&second_octet(net))).count();
        assert_eq!(left, 1000);
    });
}

/// The second octet of a prefix in 10.0.0.0/8; 0 for all others.
fn second_octet(net: &IpNet) -> u8 {
    match net.addr() {
        IpAddr::V4(address) if address.octets()[0] == 10 => address.octets()[1],
        _ => 0,
    }
}
