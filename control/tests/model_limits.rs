//! Which limits and mirrors does the model read out of the rows, and what does it say of values that make no sense?

use serde_json::{Value, json};
use shunt_control::guards;
use shunt_control::mirrors::Mirrors;
use shunt_control::model::{Interface, Model};
use shunt_control::schema::vswitch;
use shunt_control::store::{Reply, Store};
use shunt_switch::config::PortIndex;
use shunt_switch::counters::PortTotals;
use shunt_switch::reason::Reason;
use shunt_switch::table::guard::{GuardConfig, MacLimits};
use std::collections::BTreeMap;
use std::time::Duration;

/// A bridge with a port whose `other_config` is this, and whose interface has these columns beside its name.
fn model(other_config: &[(&str, &str)], interface: Value, mirror: Value) -> Model {
    Model::read(store(other_config, interface, mirror).database(), |_| true)
}

fn store(other_config: &[(&str, &str)], interface: Value, mirror: Value) -> Store {
    let mut store = Store::in_memory(vswitch::schema());
    let pairs: Vec<_> = other_config.iter().map(|(key, value)| json!([key, value])).collect();
    let mut row = interface;
    row["name"] = json!("p0");
    let mut bridge = json!({"name": "br0", "ports": ["named-uuid", "p"]});
    let mut operations = vec![
        json!({"op": "insert", "table": "Interface", "uuid-name": "i", "row": row}),
        json!({"op": "insert", "table": "Port", "uuid-name": "p",
            "row": {"name": "p0", "interfaces": ["named-uuid", "i"], "other_config": ["map", pairs]}}),
    ];
    if !mirror.is_null() {
        bridge["mirrors"] = json!(["named-uuid", "m"]);
        operations.push(json!({"op": "insert", "table": "Mirror", "uuid-name": "m", "row": mirror}));
    }
    operations.push(json!({"op": "insert", "table": "Bridge", "uuid-name": "b", "row": bridge}));
    operations.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
        "mutations": [["bridges", "insert", ["named-uuid", "b"]]]}));
    match store.transact(&operations, Duration::MAX, &|_| false) {
        Reply::Done { results, .. } => {
            assert!(results.iter().all(|result| result.get("error").is_none()), "{results:?}")
        }
        Reply::Waiting(_) => panic!("it waits"),
    }
    store
}

fn port(other_config: &[(&str, &str)]) -> Interface {
    model(other_config, json!({}), Value::Null).interfaces["p0"].clone()
}

#[test]
fn all_limits_but_of_exceptions_are_off_unless_set() {
    let plain = port(&[]);
    assert_eq!((&plain.guard, plain.problem), (&GuardConfig { exceptions_pps: 250, ..GuardConfig::default() }, None));
}

#[test]
fn each_column_and_key_sets_its_limit() {
    let columns = json!({"ingress_policing_rate": 1, "ingress_policing_burst": 2,
        "ingress_policing_kpkts_rate": 3, "ingress_policing_kpkts_burst": 4});
    let keys = [
        ("storm-broadcast-pps", "5"),
        ("storm-unknown-pps", "6"),
        ("storm-multicast-pps", "7"),
        ("mac-limit", "8"),
        ("mac-flap-limit", "9"),
        ("mac-flap-window-s", "10"),
        ("exceptions-pps", "11"),
        ("allowed-addresses", "10.1.1.5, 2001:db8::/64"),
    ];
    let read = model(&keys, columns, Value::Null).interfaces["p0"].clone();
    let expected = GuardConfig {
        rate_kbps: 1,
        burst_kb: 2,
        rate_kpps: 3,
        burst_kpkts: 4,
        broadcast_pps: 5,
        unknown_pps: 6,
        multicast_pps: 7,
        macs: MacLimits { learned_max: 8, moves_max: 9, window_ms: 10_000 },
        exceptions_pps: 11,
        sources: vec!["10.1.1.5/32".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
    };
    assert_eq!((read.guard, read.problem), (expected, None));
    assert!(port(&[("mac-flap-limit", "1")]).guard.macs.window_ms > 0, "there is a window without one being set");
}

#[test]
fn strict_turns_all_on_and_single_keys_override() {
    let strict = port(&[("port-security", "strict")]).guard;
    let pps = [strict.broadcast_pps, strict.unknown_pps, strict.multicast_pps];
    let MacLimits { learned_max, moves_max, window_ms } = strict.macs;
    assert!(pps.iter().all(|pps| *pps > 0) && learned_max > 0 && moves_max > 0 && window_ms > 0, "{strict:?}");
    let own = port(&[("port-security", "strict"), ("storm-unknown-pps", "0"), ("mac-limit", "1")]).guard;
    let macs = MacLimits { learned_max: 1, ..strict.macs };
    assert_eq!(own, GuardConfig { unknown_pps: 0, macs, ..strict });
}

#[test]
fn what_makes_no_sense_is_said_and_off() {
    for (key, value) in [
        ("storm-broadcast-pps", "many"),
        ("storm-unknown-pps", "-1"),
        ("storm-multicast-pps", "4294967296"),
        ("mac-limit", "1000001"),
        ("mac-flap-limit", "1e3"),
        ("mac-flap-window-s", "0"),
        ("exceptions-pps", "few"),
        ("port-security", "paranoid"),
    ] {
        let read = port(&[(key, value)]);
        assert_eq!(read.guard, port(&[]).guard, "{key}={value}");
        let problem = read.problem.expect("a problem");
        assert!(problem.contains(&format!("other_config:{key}={value} of port p0")), "{problem}");
    }
    let strict = port(&[("port-security", "strict")]).guard;
    let read = port(&[("port-security", "strict"), ("mac-limit", "x"), ("storm-unknown-pps", "y")]);
    assert_eq!(read.guard, strict, "what strict says stays");
    let problem = read.problem.expect("a problem");
    assert!(problem.contains("mac-limit=x") && problem.contains("storm-unknown-pps=y"), "{problem}");
}

/// Of `host-addresses`: who serves them, their guard, and what is wrong.
#[test]
fn hosts_are_served_by_the_own_interface_of_their_bridge() {
    let own = json!([
        {"op": "insert", "table": "Interface", "uuid-name": "l", "row": {"name": "br0", "type": "internal"}},
        {"op": "insert", "table": "Port", "uuid-name": "lp", "row": {"name": "br0", "interfaces": ["named-uuid", "l"]}},
        {"op": "mutate", "table": "Bridge", "where": [], "mutations": [["ports", "insert", ["named-uuid", "lp"]]]},
    ]);
    let read = |listed: &str, operations: &Value| {
        let row = json!({"options": ["map", [["host-addresses", listed]]]});
        let mut store = store(&[], row, Value::Null);
        store.transact(operations.as_array().expect("operations"), Duration::ZERO, &|_| true);
        Model::read(store.database(), |_| true)
    };
    let good = read("10.9.0.7/32, 2001:db8:9::7", &own);
    assert_eq!(good.hosts.refusal("p0"), None);
    assert!(good.svi("br0").is_some() && good.interfaces["p0"].problem.is_none());
    let served = good.served_by("br0");
    assert!(served.is_alone && served.hosts.len() == 2, "{served:?}");
    let allowed: Vec<_> = good.interfaces["p0"].guard.sources.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.9.0.7/32", "2001:db8:9::7/128"]);
    let routes: Vec<_> = good.routes.values().flatten().map(|route| route.prefix.to_string()).collect();
    assert_eq!(routes, ["2001:db8:9::7/128"]);
    let alone = read("10.9.0.7", &json!([]));
    let error = alone.hosts.refusal("p0").expect("no gateway");
    assert!(error.contains("VLAN 0 of br0 has no SVI"), "{error}");
    for (listed, wrong) in [
        ("10.9.0.0/24", "10.9.0.0/24 is a network: give single addresses, as 10.9.0.0/32"),
        ("224.0.0.1", "224.0.0.1 is a multicast address"),
        ("fe80::7", "fe80::7 is link-local"),
        ("10.9.0.7,10.9.0.7", "10.9.0.7 is there twice"),
        ("ten", "\"ten\" is not an IP address"),
        ("", "it has no address"),
    ] {
        let bad = read(listed, &own);
        let problem = bad.interfaces["p0"].problem.clone().expect("a problem");
        assert!(problem.contains("options:host-addresses of p0") && problem.contains(wrong), "{problem}");
        assert!(!bad.interfaces["p0"].guard.sources.is_empty(), "nobody may speak whose address is not known");
    }
}

#[test]
fn a_status_key_for_each_guard_that_has_acted_and_is_on() {
    let guard = port(&[("port-security", "strict"), ("storm-multicast-pps", "0")]).guard;
    let mut totals = PortTotals::default();
    let shown = |totals: &PortTotals, held| guards::status(&guard, totals, held).to_json();
    assert_eq!(shown(&totals, 0), json!(["map", []]));
    for (reason, n) in [(Reason::StormBroadcast, 3), (Reason::StormMulticast, 4), (Reason::MacFlap, 5)] {
        totals.drops[reason as usize] = n;
    }
    assert_eq!(shown(&totals, 0), json!(["map", [["mac-flap", "0"], ["storm-broadcast", "3"]]]));
    assert_eq!(shown(&PortTotals::default(), 2), json!(["map", [["mac-flap", "2"]]]));
    let held = guards::held_by_port([[PortIndex(1), PortIndex(2)], [PortIndex(1), PortIndex(3)]]);
    assert_eq!(held, BTreeMap::from([(PortIndex(1), 2), (PortIndex(2), 1), (PortIndex(3), 1)]));
}

#[test]
fn a_mirror_that_cannot_work_is_told_in_the_words_of_open_vswitch() {
    for (mirror, said) in [
        (json!({"name": "m", "select_all": true}), "does not specify output; ignoring"),
        (json!({"name": "m", "output_vlan": 5}), "selects no port"),
        (json!({"name": "m", "select_all": true, "output_port": ["named-uuid", "p"]}), "which is not attached"),
        (
            json!({"name": "m", "select_all": true, "output_port": ["named-uuid", "p"], "output_vlan": 5}),
            "specifies both output port and output vlan; ignoring output vlan",
        ),
    ] {
        let model = model(&[], json!({}), mirror);
        let mut mirrors = Mirrors::default();
        mirrors.resolve(&model, &BTreeMap::new(), 1);
        let status = mirrors.status("br0").to_json();
        let text = status[1][0][1].as_str().expect("a text");
        assert!(status[1][0][0] == "mirror-m" && text.contains(said), "{text}");
    }
    let good = model(&[], json!({}), json!({"name": "m", "select_all": true, "output_vlan": 5}));
    let mut mirrors = Mirrors::default();
    assert_eq!(mirrors.resolve(&good, &BTreeMap::new(), 1)["br0"].len(), 1);
    assert_eq!(mirrors.status("br0").to_json(), json!(["map", []]));
    let statistics = mirrors.statistics(&good);
    assert_eq!(statistics[0].1.to_json(), json!(["map", [["tx_bytes", 0], ["tx_packets", 0]]]));
    // One that has stopped working has none.
    mirrors.resolve(&Model::default(), &BTreeMap::new(), 1);
    assert_eq!(mirrors.statistics(&good)[0].1.to_json(), json!(["map", []]));
}
