//! Does the mirror of the kernel's links show what `ip link` does, and do requests reach the kernel?
use std::collections::BTreeSet;
use std::time::Duration;

use shunt_control::kernel::{Error, Kernel, Kind, Links, Peer};
use shunt_ffi::netns::TestNamespace;

/// Runs a test in a network namespace of its own.
fn alone<T: Send>(test: impl AsyncFnOnce(&TestNamespace) -> T + Send) -> T {
    let namespace = TestNamespace::new();
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test(&namespace))
    })
}

/// Waits until the mirror satisfies `condition`, and returns all names touched on the way.
async fn until(links: &mut Links, condition: impl Fn(&Links) -> bool) -> BTreeSet<String> {
    let mut touched = BTreeSet::new();
    while !condition(links) {
        let change = tokio::time::timeout(Duration::from_secs(20), links.changed()).await;
        touched.extend(change.expect("an event comes").expect("events can be read"));
    }
    touched
}

#[test]
fn links_are_seen_to_come_change_and_go() {
    alone(async |ns| {
        let (_kernel, mut links) = Kernel::open().await.unwrap();
        assert_eq!(links.by_name("lo").unwrap().kind, Kind::Loopback);

        ns.ip("link add va type veth peer name vb");
        let touched = until(&mut links, |l| l.by_name("va").is_some() && l.by_name("vb").is_some()).await;
        assert!(touched.contains("va") && touched.contains("vb") && !touched.contains("lo"), "{touched:?}");
        let (va, vb) = (links.by_name("va").unwrap().clone(), links.by_name("vb").unwrap().clone());
        assert_eq!((va.kind, va.admin_up, va.carrier, va.is_ethernet), (Kind::Veth, false, false, true));
        assert_eq!(va.peer, Some(Peer { ifindex: vb.ifindex, netnsid: None }));

        ns.ip("link set va up");
        ns.ip("link set vb up");
        until(&mut links, |l| l.by_name("va").is_some_and(|va| va.admin_up && va.carrier)).await;

        ns.ip("link set va mtu 9000 promisc on address 02:00:00:00:00:07 alias hello");
        until(&mut links, |l| l.by_name("va").is_some_and(|va| va.alias.is_some() && va.promiscuous)).await;
        let now = links.by_name("va").unwrap();
        assert_eq!((now.mtu, now.mac, now.alias.as_deref()), (9000, [2, 0, 0, 0, 0, 7], Some("hello")));

        ns.ip("link set va down");
        ns.ip("link set va name vc");
        let touched = until(&mut links, |l| l.by_name("vc").is_some()).await;
        assert!(touched.contains("va") && touched.contains("vc"), "{touched:?}");
        assert!(links.by_name("va").is_none());
        assert_eq!(links.by_name("vc").unwrap().ifindex, va.ifindex);

        ns.ip("link del vc");
        until(&mut links, |l| l.by_name("vc").is_none() && l.by_name("vb").is_none()).await;
        ns.ip("link add va type veth peer name vb");
        until(&mut links, |l| l.by_name("va").is_some()).await;
        assert_ne!(links.by_name("va").unwrap().ifindex, va.ifindex, "made anew");
        assert!(links.by_ifindex(va.ifindex).is_none());
    });
}

#[test]
fn joining_and_leaving_a_bridge_shows_as_master() {
    alone(async |ns| {
        let (_kernel, mut links) = Kernel::open().await.unwrap();
        ns.ip("link add va type veth peer name vb");
        ns.ip("link add lb type bridge");
        ns.ip("link set va master lb");
        until(&mut links, |l| l.by_name("va").is_some_and(|va| va.master.is_some())).await;
        let bridge = links.by_name("lb").unwrap();
        assert_eq!(bridge.kind, Kind::Bridge);
        assert_eq!(links.by_name("va").unwrap().master, Some(bridge.ifindex));
        ns.ip("link set va nomaster");
        until(&mut links, |l| l.by_name("va").is_some_and(|va| va.master.is_none())).await;
    });
}

#[test]
fn a_peer_in_another_namespace_has_a_namespace_number() {
    alone(async |ns| {
        let (_kernel, mut links) = Kernel::open().await.unwrap();
        let container = TestNamespace::new();
        ns.veth("va", &container, "eth0", "");
        until(&mut links, |l| l.by_name("va").is_some_and(|va| va.carrier)).await;
        let peer = links.by_name("va").unwrap().peer.unwrap();
        assert_eq!(peer.ifindex, container.ifindex("eth0"));
        assert!(peer.netnsid.is_some_and(|id| id >= 0), "{peer:?}");
        // Moved away, a link is gone here.
        ns.ip(&format!("link set va netns {}", container.name()));
        until(&mut links, |l| l.by_name("va").is_none()).await;
    });
}

#[test]
fn a_burst_is_one_change() {
    alone(async |ns| {
        let (_kernel, mut links) = Kernel::open().await.unwrap();
        for n in 0..20 {
            ns.ip(&format!("link add va{n} type veth peer name vb{n}"));
        }
        let touched = links.changed().await.unwrap();
        assert_eq!(touched.len(), 40, "{touched:?}");
        assert_eq!(links.iter().filter(|link| link.kind == Kind::Veth).count(), 40);
    });
}

#[test]
fn lost_events_are_made_up_for() {
    alone(async |ns| {
        let (_kernel, mut links) = Kernel::open_with(8 << 10).await.unwrap();
        ns.ip("link add gone type veth peer name gone2");
        until(&mut links, |l| l.by_name("gone2").is_some()).await;
        for n in 0..40 {
            ns.ip(&format!("link add va{n} type veth peer name vb{n}"));
        }
        ns.ip("link del gone");
        ns.ip("link set va39 name last");
        // The events of the last command cannot have fitted into a buffer of 8 KiB.
        until(&mut links, |l| l.by_name("last").is_some() && l.by_name("gone").is_none()).await;
        assert_eq!(links.iter().filter(|link| link.kind == Kind::Veth).count(), 80);
        // And events are still heard after that.
        ns.ip("link del last");
        until(&mut links, |l| l.by_name("last").is_none()).await;
    });
}

#[test]
fn a_change_is_not_lost_with_the_future_that_waited_for_it() {
    alone(async |ns| {
        let (_kernel, mut links) = Kernel::open_with(8 << 10).await.unwrap();
        for n in 0..40 {
            ns.ip(&format!("link add va{n} type veth peer name vb{n}"));
        }
        // Polled once and dropped, most likely in the middle of reading all links anew.
        tokio::select! { biased; _ = links.changed() => {} () = std::future::ready(()) => {} }
        until(&mut links, |l| l.by_name("vb39").is_some()).await;
    });
}

#[test]
fn requests_reach_the_kernel() {
    alone(async |_ns| {
        let (kernel, mut links) = Kernel::open().await.unwrap();
        kernel.create_veth("va", "vb", 2000).await.unwrap();
        let va = kernel.link_by_name("va").await.unwrap();
        assert_eq!((va.mtu, va.rx_queues, va.tx_queues, va.admin_up), (2000, 1, 1, false));
        let vb = kernel.link(va.peer.unwrap().ifindex).await.unwrap();
        assert_eq!((vb.name.as_str(), vb.mtu, vb.rx_queues, vb.tx_queues), ("vb", 2000, 1, 1));

        kernel.set_up(va.ifindex).await.unwrap();
        kernel.set_up(vb.ifindex).await.unwrap();
        kernel.set_mtu(va.ifindex, 1400).await.unwrap();
        kernel.set_mac(va.ifindex, [2, 0, 0, 0, 0, 9]).await.unwrap();
        kernel.set_alias(va.ifindex, "shunt test").await.unwrap();
        kernel.set_promiscuous(va.ifindex, true).await.unwrap();
        let now = kernel.link(va.ifindex).await.unwrap();
        assert_eq!((now.mtu, now.mac, now.alias.as_deref()), (1400, [2, 0, 0, 0, 0, 9], Some("shunt test")));
        assert!(now.admin_up && now.carrier && now.promiscuous);
        until(&mut links, |l| l.by_name("va") == Some(&now)).await;

        kernel.set_promiscuous(va.ifindex, false).await.unwrap();
        kernel.set_down(va.ifindex).await.unwrap();
        let now = kernel.link(va.ifindex).await.unwrap();
        assert!(!now.admin_up && !now.promiscuous);
        kernel.delete(va.ifindex).await.unwrap();
        assert!(kernel.link(vb.ifindex).await.unwrap_err().is_gone());
        kernel.delete(va.ifindex).await.unwrap();
    });
}

#[test]
fn counters_are_read_afresh() {
    alone(async |ns| {
        let (kernel, _links) = Kernel::open().await.unwrap();
        ns.ip("link add va type veth peer name vb");
        ns.ip("link set va up");
        ns.ip("link set vb up");
        let va = kernel.link_by_name("va").await.unwrap().ifindex;
        let before = kernel.statistics(va).await.unwrap();
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        ns.ip("addr add 192.0.2.1/24 dev va");
        ns.ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:01 dev va");
        socket.send_to(&[0; 100], "192.0.2.2:9").unwrap();
        let after = kernel.statistics(va).await.unwrap();
        assert_eq!((after.tx_packets - before.tx_packets, after.tx_bytes - before.tx_bytes), (1, 142));
    });
}

#[test]
fn refusals_name_device_value_reason_and_remedy() {
    alone(async |_ns| {
        let (kernel, _links) = Kernel::open().await.unwrap();
        kernel.create_veth("va", "vb", 1500).await.unwrap();
        let va = kernel.link_by_name("va").await.unwrap();

        let text = kernel.set_mtu(va.ifindex, 70_000).await.unwrap_err().to_string();
        for part in ["set the MTU of va to 70000", "Invalid argument", "68 to 65535"] {
            assert!(text.contains(part), "{text}");
        }
        let text = kernel.create_veth("va", "vc", 1500).await.unwrap_err().to_string();
        for part in ["va and vc", "File exists", "ip link delete va"] {
            assert!(text.contains(part), "{text}");
        }
        let text = kernel.set_mac(va.ifindex, [1, 0, 0, 0, 0, 0]).await.unwrap_err().to_string();
        assert!(text.contains("01:00:00:00:00:00") && text.contains("va"), "{text}");
        for error in [kernel.set_up(99_999).await.unwrap_err(), kernel.link_by_name("absent").await.unwrap_err()] {
            assert!(matches!(error, Error::NoDevice { .. }), "{error}");
        }
    });
}
