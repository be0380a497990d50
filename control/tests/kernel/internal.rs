//! Does a bridge's own device outlive the daemon, and does it keep off devices of others?
use super::alone;
use shunt_control::kernel::Kernel;
use shunt_ffi::ethtool;
use shunt_ffi::netns::TestNamespace;

#[test]
fn a_pair_is_made_and_adopted_with_its_addresses() {
    alone(async |ns, kernel| {
        let made = kernel.ensure_internal("br0").await.unwrap();
        let host = kernel.link_by_name("br0").await.unwrap();
        let switch = kernel.link(made.switch_ifindex).await.unwrap();
        assert_eq!((made.host_ifindex, made.switch_end.as_str()), (Some(host.ifindex), "br0.sw"));
        assert_eq!(
            (host.alias.as_deref(), switch.alias.as_deref()),
            (Some("shunt br0"), Some("shunt switch end of br0"))
        );
        assert_eq!((host.rx_queues, switch.rx_queues, host.admin_up), (1, 1, false));
        assert_eq!(ethtool::feature("br0", "tx-checksum-ip-generic").unwrap(), Some(true), "checksums stay offloaded");
        let prepared = kernel.prepare(&switch, true).await.unwrap();
        assert_eq!(prepared.tags_hidden, None);
        assert_eq!(ethtool::feature("br0", "tx-vlan-hw-insert").unwrap(), Some(false));

        ns.ip("link set br0 up");
        ns.ip("addr add 192.0.2.1/24 dev br0");
        // A new daemon, by other sockets.
        let (kernel, _links) = Kernel::open().await.unwrap();
        assert_eq!(kernel.ensure_internal("br0").await.unwrap(), made);
        let now = kernel.link_by_name("br0").await.unwrap();
        assert_eq!((now.ifindex, now.mac, now.admin_up), (host.ifindex, host.mac, true));
        assert!(std::net::UdpSocket::bind("192.0.2.1:0").is_ok(), "the address is still there");

        assert_eq!(kernel.internals().await.unwrap(), ["br0"]);
        kernel.remove_internal("br0").await.unwrap();
        assert!(kernel.link_by_name("br0").await.unwrap_err().is_gone());
        kernel.remove_internal("br0").await.unwrap();
        assert!(kernel.internals().await.unwrap().is_empty());
    });
}

#[test]
fn a_pair_that_was_not_marked_yet_is_adopted() {
    alone(async |ns, kernel| {
        ns.ip("link add br0 type veth peer name br0.sw");
        let adopted = kernel.ensure_internal("br0").await.unwrap();
        assert_eq!(adopted.host_ifindex, Some(ns.ifindex("br0")));
        assert_eq!(kernel.internals().await.unwrap(), ["br0"]);
    });
}

#[test]
fn long_names_and_many_bridges_do_not_clash() {
    alone(async |_ns, kernel| {
        let mut switch_ends = Vec::new();
        for name in ["br-vlan1234567a", "br-vlan1234567b", "br0", "br1"] {
            switch_ends.push(kernel.ensure_internal(name).await.unwrap().switch_ifindex);
            assert!(kernel.link_by_name(name).await.is_ok());
        }
        switch_ends.sort();
        switch_ends.dedup();
        assert_eq!(switch_ends.len(), 4);
        let text = kernel.ensure_internal("sixteen-bytes-xx").await.unwrap_err().to_string();
        assert!(text.contains("sixteen-bytes-xx") && text.contains("15 bytes"), "{text}");
    });
}

#[test]
fn devices_of_others_are_refused_and_untouched() {
    alone(async |ns, kernel| {
        ns.ip("link add br0 type bridge");
        ns.ip("link add br1 type veth peer name other");
        ns.ip("link add br2.sw type veth peer name another");
        for (name, taken) in [("br0", "br0"), ("br1", "br1"), ("br2", "br2.sw")] {
            let text = kernel.ensure_internal(name).await.unwrap_err().to_string();
            for part in [&format!("internal port {name}"), "not ours", &format!("ip link delete {taken}")] {
                assert!(text.contains(part), "{text}");
            }
            kernel.remove_internal(name).await.unwrap();
            assert!(kernel.link_by_name(taken).await.is_ok(), "{taken} is still there");
        }
    });
}

#[test]
fn a_host_end_may_live_in_another_namespace_but_not_under_another_name() {
    alone(async |ns, kernel| {
        let container = TestNamespace::new();
        let made = kernel.ensure_internal("br0").await.unwrap();
        ns.ip("link set br0 name elsewhere");
        let text = kernel.ensure_internal("br0").await.unwrap_err().to_string();
        assert!(text.contains("renamed to elsewhere") && text.contains("name br0"), "{text}");
        ns.ip("link set elsewhere name br0");

        ns.ip(&format!("link set br0 netns {}", container.name()));
        let adopted = kernel.ensure_internal("br0").await.unwrap();
        assert_eq!((adopted.host_ifindex, adopted.switch_ifindex), (None, made.switch_ifindex));
        kernel.remove_internal("br0").await.unwrap();
        assert!(kernel.link(made.switch_ifindex).await.unwrap_err().is_gone());
    });
}
