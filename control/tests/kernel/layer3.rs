//! Are the router's addresses, routes and neighbours in the kernel, known again, and apart from those of others?

use super::alone;
use ipnet::IpNet;
use shunt_control::kernel::{Address, Kernel, Namespace, Routes, Told, WantedHop, WantedRoute};
use shunt_control::routing::rib::{Kind, Rib};
use shunt_ffi::netns::TestNamespace;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;

const OURS: u8 = shunt_control::kernel::PROTOCOL;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn ip(namespace: &TestNamespace, words: &str) -> String {
    let output = Command::new("ip").args(["-n", namespace.name()]).args(words.split(' ')).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A device with IPv6 and an address, up; its number.
fn device(namespace: &TestNamespace) -> u32 {
    for scope in ["all", "default"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "0").expect("IPv6");
    }
    namespace.ip("link add va type veth peer name vap");
    namespace.ip("link set vap up");
    namespace.ip("link set va up");
    namespace.ip("addr add 10.9.0.1/24 dev va");
    namespace.ip("addr add 2001:db8:9::1/64 dev va nodad");
    namespace.ifindex("va")
}

#[test]
fn addresses_of_ours_are_told_from_others() {
    alone(async |namespace, kernel| {
        let ifindex = device(namespace);
        let link = |net: &str, peer: &str| Address { net: net.parse().unwrap(), peer: Some(peer.parse().unwrap()) };
        // One IPv4 address has many links; an IPv6 address is there once.
        let own = [
            net("10.1.0.1/24").into(),
            net("2001:db8:1::1/64").into(),
            link("10.1.0.1/32", "10.7.0.1"),
            link("10.1.0.1/32", "10.7.0.2"),
            link("fe80::7:1/128", "2001:db8:7::1"),
        ];
        for one in own {
            kernel.add_address(ifindex, "va", one).await.unwrap();
        }
        let found: BTreeSet<_> = kernel.own_addresses().await.unwrap().into_iter().collect();
        assert_eq!(found, own.map(|one| (ifindex, one)).into());
        // At once, not after a second of asking who else has it.
        let shown = ip(namespace, "-6 -o addr show dev va to 2001:db8:1::/64");
        assert!(shown.contains("2001:db8:1::1/64") && !shown.contains("tentative"), "{shown}");
        for host in ["10.7.0.1", "10.7.0.2"] {
            assert!(
                ip(namespace, &format!("route show {host}")).contains("dev va proto kernel scope link src 10.1.0.1")
            );
        }
        assert!(ip(namespace, "-6 route show 2001:db8:7::1").contains("dev va proto kernel"));
        let text = kernel.add_address(ifindex, "va", net("10.9.0.1/24").into()).await.unwrap_err().to_string();
        assert!(text.contains("add the address 10.9.0.1/24 to va"), "{text}");
        for one in own {
            kernel.delete_address(ifindex, "va", one).await.unwrap();
            kernel.delete_address(ifindex, "va", one).await.expect("one that is gone is no error");
        }
        assert!(kernel.own_addresses().await.unwrap().is_empty());
        assert!(ip(namespace, "addr show dev va").contains("10.9.0.1/24"), "that of others stays");
    });
}

fn hop(gateway: &str, ifindex: Option<u32>, weight: u16, onlink: bool) -> WantedHop {
    let gateway = (!gateway.is_empty()).then(|| gateway.parse::<IpAddr>().expect("an address"));
    WantedHop { gateway, ifindex, weight, onlink }
}

async fn tables() -> Rib {
    let (mut routes, mut rib) = (Routes::open().expect("netlink sockets"), Rib::default());
    loop {
        for told in routes.next().await.expect("news") {
            match told {
                Told::ReadingStarted => rib.start_reading(),
                Told::News(news) => rib.apply(news, &mut BTreeSet::new()),
                Told::ReadingFinished => return rib,
            }
        }
    }
}

#[test]
fn routes_of_all_kinds_come_back_by_the_mirror() {
    alone(async |namespace, kernel| {
        let va = Some(device(namespace));
        let wanted = [
            ("10.20.0.0/16", Kind::Unicast, 0, vec![hop("10.9.0.2", None, 1, false)]),
            ("10.21.0.0/16", Kind::Unicast, 7, vec![hop("", va, 1, false)]),
            ("10.22.0.0/16", Kind::Unicast, 0, vec![hop("10.9.0.2", None, 1, false), hop("10.9.0.3", va, 200, false)]),
            ("10.23.0.0/16", Kind::Unicast, 0, vec![hop("2001:db8:9::2", va, 1, false)]),
            ("10.24.0.0/16", Kind::Unicast, 0, vec![hop("169.254.0.1", va, 1, true)]),
            ("10.25.0.0/16", Kind::Blackhole, 0, vec![]),
            ("10.26.0.0/16", Kind::Unreachable, 3, vec![]),
            ("10.27.0.0/16", Kind::Prohibit, 0, vec![]),
            ("0.0.0.0/0", Kind::Unicast, 0, vec![hop("10.9.0.9", va, 1, false)]),
            ("2001:db8:20::/48", Kind::Unicast, 0, vec![hop("2001:db8:9::2", None, 1, false)]),
            (
                "2001:db8:21::/48",
                Kind::Unicast,
                5,
                vec![hop("2001:db8:9::2", va, 1, false), hop("fe80::2", va, 3, false)],
            ),
            ("2001:db8:22::/48", Kind::Unreachable, 0, vec![]),
            ("::/0", Kind::Unicast, 0, vec![hop("", va, 1, false)]),
        ];
        for (prefix, kind, metric, hops) in wanted.clone() {
            let route = WantedRoute { prefix: net(prefix), kind, metric, hops };
            kernel.add_route(&route, false).await.unwrap_or_else(|error| panic!("{prefix}: {error}"));
        }
        namespace.ip("route add 10.20.0.0/16 via 10.9.0.7 metric 9");
        let rib = tables().await;
        for (prefix, kind, metric, hops) in &wanted {
            let own: Vec<_> = rib.routes(&net(prefix)).filter(|route| route.protocol == OURS).collect();
            let is_v6 = prefix.contains(':') && *metric == 0;
            assert_eq!(own.len(), 1, "{prefix}");
            assert_eq!((own[0].kind, own[0].metric), (*kind, if is_v6 { 1024 } else { *metric }), "{prefix}");
            let best = rib.best(&net(prefix)).expect("in force");
            let gateways: BTreeSet<_> = best.hops.iter().map(|hop| (hop.gateway, hop.weight)).collect();
            assert_eq!(gateways, hops.iter().map(|hop| (hop.gateway, hop.weight)).collect(), "{prefix}");
        }
        // Taken by somebody else, replaced by ourselves, and gone.
        let route = |metric, gateway| WantedRoute {
            prefix: net("10.20.0.0/16"),
            kind: Kind::Unicast,
            metric,
            hops: vec![hop(gateway, None, 1, false)],
        };
        let text = kernel.add_route(&route(9, "10.9.0.2"), false).await.unwrap_err().to_string();
        assert!(text.contains("somebody else has one of this metric") && text.contains("10.20.0.0/16"), "{text}");
        let text = kernel.add_route(&route(1, "172.31.0.1"), false).await.unwrap_err().to_string();
        assert!(text.contains("unreachable") && text.contains("onlink"), "{text}");
        kernel.add_route(&route(0, "10.9.0.4"), true).await.unwrap();
        assert!(ip(namespace, "route show").contains("10.20.0.0/16 via 10.9.0.4"));
        for (prefix, kind, metric, _) in &wanted {
            kernel.delete_route(net(prefix), *metric, *kind).await.unwrap();
            kernel.delete_route(net(prefix), *metric, *kind).await.expect("one that is gone is no error");
        }
        let rib = tables().await;
        assert!(!rib.prefixes().any(|prefix| rib.routes(prefix).any(|route| route.protocol == OURS)));
        assert!(ip(namespace, "route show").contains("10.20.0.0/16 via 10.9.0.7"), "that of others stays");
    });
}

#[test]
fn neighbours_are_permanent_and_those_in_use_stay_fresh() {
    alone(async |namespace, kernel| {
        let ifindex = device(namespace);
        for address in ["10.9.0.5", "2001:db8:9::5"] {
            let address = address.parse().unwrap();
            kernel.set_neighbour(ifindex, "va", address, [2, 0, 0, 0, 0, 5]).await.unwrap();
            kernel.set_neighbour(ifindex, "va", address, [2, 0, 0, 0, 0, 6]).await.unwrap();
        }
        namespace.ip("neighbour add 10.9.0.6 lladdr 02:00:00:00:00:07 dev va");
        namespace.ip("neighbour add 10.9.0.7 lladdr 02:00:00:00:00:07 nud stale dev va");
        assert_eq!(kernel.own_neighbours().await.unwrap().len(), 2);
        let shown = ip(namespace, "neighbour show dev va");
        assert!(shown.contains("10.9.0.5 lladdr 02:00:00:00:00:06 PERMANENT"), "{shown}");
        kernel.use_neighbour(ifindex, "10.9.0.7".parse().unwrap()).await.unwrap();
        let shown = ip(namespace, "neighbour show 10.9.0.7 dev va");
        assert!(shown.contains("DELAY") || shown.contains("PROBE"), "{shown}");
        kernel.use_neighbour(ifindex, "10.9.0.99".parse().unwrap()).await.expect("one that is not there is no error");
        for address in ["10.9.0.5", "2001:db8:9::5"] {
            kernel.delete_neighbour(ifindex, address.parse().unwrap()).await.unwrap();
            kernel.delete_neighbour(ifindex, address.parse().unwrap()).await.unwrap();
        }
        assert!(kernel.own_neighbours().await.unwrap().is_empty());
        assert!(ip(namespace, "neighbour show dev va").contains("10.9.0.6 "), "that of others stays");
    });
}

/// The namespace of a VRF is made, the host end comes there from wherever it is, and forwards.
#[test]
fn a_host_end_goes_where_its_vrf_is() {
    alone(async |namespace, kernel: Kernel| {
        let name = format!("{}-red", namespace.name());
        assert!(!Namespace::exists(&name));
        let text = Namespace::named(&name, false).await.err().expect("it is not there").to_string();
        assert!(text.contains(&name) && text.contains("ip netns add"), "{text}");
        kernel.ensure_internal("vlan10").await.unwrap();
        let red = Namespace::named(&name, true).await.unwrap();
        assert!(red.is_there() && Namespace::exists(&name));
        let there = red.fetch(&kernel, "vlan10").await.unwrap();
        assert!(kernel.link_by_name("vlan10").await.unwrap_err().is_gone());
        assert_eq!(red.fetch(&kernel, "vlan10").await.unwrap().ifindex, there.ifindex);
        red.forward("vlan10", true, None).unwrap();
        let host = Namespace::own(&kernel).unwrap();
        host.fetch(&kernel, "vlan10").await.unwrap();
        assert!(red.kernel.link_by_name("vlan10").await.unwrap_err().is_gone());
        host.forward("vlan10", false, None).unwrap();
        let set = std::fs::read_to_string("/proc/sys/net/ipv4/conf/vlan10/forwarding").unwrap();
        assert_eq!(set.trim(), "1");
        // A device of somebody else's is not taken.
        let words = "link add vlan10 type veth peer name other";
        let status = Command::new("ip").args(["-n", &name]).args(words.split(' ')).status();
        assert!(status.expect("ip").success());
        let text = red.fetch(&kernel, "vlan10").await.unwrap_err().to_string();
        assert!(text.contains("not ours"), "{text}");
        assert!(Command::new("ip").args(["netns", "del", &name]).status().expect("ip").success());
        assert!(!red.is_there());
        kernel.remove_internal("vlan10").await.unwrap();
    });
}
