//! Are rows of the router in force when a pass is over, and what of an earlier daemon is left?

use super::*;
use crate::model::router::VrfName;
use crate::routing::rib::Kind;
use std::process::Command;

/// A daemon of which nothing is left when it is dropped, as after kill -9.
async fn daemon(rows: &[Value]) -> Reconciler {
    let cores: Vec<usize> = shunt_ffi::cpu::allowed().into_iter().take(1).collect();
    let tuning = Tuning { spin: Duration::ZERO, busy_poll: false };
    let store = Rc::new(RefCell::new(Store::in_memory(vswitch::schema())));
    let state = State::new(Dataplane::start(&cores, tuning).expect("a worker"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut reconciler = Reconciler::new(
        Rc::clone(&store),
        Rc::new(RefCell::new(state)),
        Kernel::open().await.expect("netlink"),
        QueueOptions::default(),
        Remembered::open(&folder.path().join("db.sock")),
    );
    store.borrow_mut().transact(rows, Duration::ZERO, &|_| false);
    reconciler.reconcile().await.expect("the workers answer");
    reconciler
}

fn svi(addresses: &[&str]) -> Vec<Value> {
    vec![
        json!({"op": "insert", "table": "SVI", "uuid-name": "s",
            "row": {"name": "vlan10", "addresses": ["set", addresses]}}),
        json!({"op": "insert", "table": "Interface", "uuid-name": "i",
            "row": {"name": "vlan10", "type": "internal", "svi": ["named-uuid", "s"], "mac": "02:00:00:00:00:10"}}),
        json!({"op": "insert", "table": "Port", "uuid-name": "p",
            "row": {"name": "vlan10", "tag": 10, "interfaces": ["named-uuid", "i"]}}),
        json!({"op": "insert", "table": "Bridge", "uuid-name": "b",
            "row": {"name": "br0", "ports": ["named-uuid", "p"]}}),
        json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["bridges", "insert", ["named-uuid", "b"]]]}),
    ]
}

fn route(prefix: &str, next_hop: &str) -> Value {
    json!({"op": "insert", "table": "Route", "row": {"prefix": prefix, "next_hops": next_hop}})
}

fn neighbour(address: &str, mac: &str) -> Value {
    json!({"op": "insert", "table": "Neighbor", "row": {"interface": "vlan10", "address": address, "mac": mac}})
}

fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The `error` of all rows of a table.
fn errors(reconciler: &Reconciler, table: &str) -> Vec<String> {
    let store = reconciler.store.borrow();
    let mut errors: Vec<_> =
        store.database().rows(table).map(|row| row.get("error").as_str().unwrap_or("-").to_owned()).collect();
    errors.sort();
    errors
}

fn in_namespace(test: impl AsyncFnOnce() + Send) {
    let namespace = TestNamespace::new();
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    });
}

#[test]
fn what_an_earlier_daemon_left_goes_unless_it_is_wanted() {
    in_namespace(async || {
        let rows = [
            svi(&["10.0.10.1/24", "10.0.11.1/24"]),
            vec![route("10.7.0.0/16", "via 10.0.10.9"), route("10.8.0.0/16", "via 10.0.10.9 dev vlan10")],
            vec![neighbour("10.0.10.9", "02:00:00:00:00:09"), neighbour("10.0.10.8", "02:00:00:00:00:08")],
        ];
        let first = daemon(&rows.concat()).await;
        let no_errors = |reconciler: &Reconciler, count: usize| {
            for table in ["SVI", "Route", "Neighbor"] {
                assert!(errors(reconciler, table).iter().all(|error| error == "-"), "{:?}", errors(reconciler, table));
            }
            assert_eq!(errors(reconciler, "Route").len(), count);
        };
        no_errors(&first, 2);
        {
            let state = first.state.borrow();
            let host: VrfName = None;
            let (net, best) = state.router.lookup(&host, "10.8.1.1".parse().unwrap()).expect("a route");
            assert_eq!((net.to_string().as_str(), best.kind, best.hops.len()), ("10.8.0.0/16", Kind::Unicast, 1));
            let interface = &state.router.interfaces["vlan10"];
            assert_eq!(interface.link.mac, [2, 0, 0, 0, 0, 0x10]);
            let known =
                state.router.vrfs[&host].forwarding.neighbour(interface.link.ifindex, "10.0.10.9".parse().unwrap());
            assert_eq!(known.map(|mac| mac.octets()), Some([2, 0, 0, 0, 0, 9]));
            let entry = state.bridges["br0"].fdb.entries(Clock::start().now()).pop().expect("the router's");
            assert_eq!((entry.vlan, entry.mac.octets(), entry.is_static), (10, [2, 0, 0, 0, 0, 0x10], true));
        }
        drop(first);

        assert!(ip("address show dev vlan10").contains("10.0.11.1/24"), "all of it outlives the daemon");
        ip("address add 10.0.12.1/24 dev vlan10");
        ip("route add 10.9.0.0/16 via 10.0.10.9");
        let rows = [
            svi(&["10.0.10.1/24"]),
            vec![route("10.7.0.0/16", "via 10.0.10.8")],
            vec![neighbour("10.0.10.9", "02:00:00:00:00:09")],
        ];
        let second = daemon(&rows.concat()).await;
        no_errors(&second, 1);
        let (addresses, routes, neighbours) =
            (ip("address show dev vlan10"), ip("route show"), ip("neighbour show dev vlan10"));
        assert!(addresses.contains("10.0.10.1/24") && !addresses.contains("10.0.11.1"), "{addresses}");
        assert!(routes.contains("10.7.0.0/16 via 10.0.10.8") && !routes.contains("10.8.0.0"), "{routes}");
        assert!(neighbours.contains("10.0.10.9 ") && !neighbours.contains("10.0.10.8 "), "{neighbours}");
        assert!(addresses.contains("10.0.12.1/24") && routes.contains("10.9.0.0/16"), "that of others stays");
    });
}

#[test]
fn a_row_that_cannot_be_applied_says_why_and_is_tried_again() {
    in_namespace(async || {
        let rows = [
            svi(&["10.0.10.1/24"]),
            vec![
                route("10.1.0.0/8", "via 10.0.10.9"),
                route("10.2.0.0/16", "via 172.31.0.1"),
                route("10.3.0.0/16", "via 10.0.99.1 dev later"),
                route("10.4.0.0/16", "via 10.0.10.9"),
                neighbour("10.0.10.9", "01:00:00:00:00:09"),
                neighbour("224.0.0.9", "02:00:00:00:00:09"),
                neighbour("10.0.10.8", "02:00:00:00:00:08"),
            ],
        ];
        let mut daemon = daemon(&rows.concat()).await;
        let texts = errors(&daemon, "Route");
        let said =
            ["-", "10.1.0.0/8 has host bits set", "cannot add the route to 10.2.0.0/16", "there is no interface later"];
        assert!(texts.len() == 4 && said.iter().zip(&texts).all(|(said, text)| text.starts_with(said)), "{texts:?}");
        let texts = errors(&daemon, "Neighbor");
        assert!(
            texts[0] == "-" && texts[1].contains("multicast MAC") && texts[2].contains("multicast address"),
            "{texts:?}"
        );
        assert!(daemon.has_failures());
        // What was missing comes.
        ip("link add later type veth peer name laterp");
        ip("link set laterp up");
        ip("link set later up");
        ip("address add 10.0.99.9/24 dev later");
        let in_time = async {
            while errors(&daemon, "Route").iter().any(|text| text.contains("later")) {
                if daemon.event().await.expect("netlink") == Event::Routes {
                    daemon.take_routes();
                }
                daemon.reconcile().await.expect("the workers answer");
            }
        };
        tokio::time::timeout(Duration::from_secs(20), in_time).await.expect("it is tried again");
        assert!(ip("route show").contains("10.3.0.0/16 via 10.0.99.1 dev later"));
    });
}
