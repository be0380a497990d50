//! Is a device made fit for AF_XDP, wherever its other end is, and given back as it was?
use super::alone;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Child, Command};

use shunt_control::kernel::{Kernel, PrepareError, Prepared};
use shunt_ffi::netns::{TestNamespace, run_in};
use shunt_ffi::{Attachment, Claims, QueueOptions, WantedMode, ethtool};

const TXVLAN: [&str; 2] = ["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"];

/// What `device` of the calling thread's namespace has on, of the features that hide tags.
fn txvlan(device: &str) -> [bool; 2] {
    TXVLAN.map(|feature| ethtool::feature(device, feature).unwrap().expect("veths have it"))
}

async fn prepare(kernel: &Kernel, ifindex: u32, carries_tags: bool) -> Result<Prepared, PrepareError> {
    let link = kernel.link(ifindex).await?;
    kernel.prepare(&link, carries_tags).await
}

async fn flags(kernel: &Kernel, ifindex: u32) -> (bool, bool) {
    let link = kernel.link(ifindex).await.unwrap();
    (link.admin_up, link.promiscuous)
}

#[test]
fn a_veth_is_prepared_and_given_back() {
    alone(async |ns, kernel| {
        let container = TestNamespace::new();
        let va = ns.veth("va", &container, "eth0", "");
        assert_eq!(container.run(|| txvlan("eth0")), [true, true], "as the kernel makes them");
        ns.ip("link set va down");

        let prepared = prepare(&kernel, va, true).await.unwrap();
        assert_eq!(prepared.tags_hidden, None);
        assert_eq!(container.run(|| txvlan("eth0")), [false, false]);
        assert_eq!(flags(&kernel, va).await, (true, true));

        kernel.undo(prepared).await.unwrap();
        assert_eq!(container.run(|| txvlan("eth0")), [true, true]);
        assert_eq!(flags(&kernel, va).await, (false, false));
    });
}

#[test]
fn what_the_operator_had_set_stays() {
    alone(async |ns, kernel| {
        ns.ip("link add va type veth peer name vb");
        ns.ip("link set va up promisc on");
        ethtool::set_feature("vb", TXVLAN[0], false).unwrap();
        let va = ns.ifindex("va");

        let prepared = prepare(&kernel, va, true).await.unwrap();
        assert_eq!(txvlan("vb"), [false, false]);
        kernel.undo(prepared).await.unwrap();
        assert_eq!(txvlan("vb"), [false, true]);
        assert_eq!(flags(&kernel, va).await, (true, true));
    });
}

#[test]
fn what_the_operator_sets_meanwhile_stays() {
    alone(async |ns, kernel| {
        ns.ip("link add va type veth peer name vb");
        let va = ns.ifindex("va");
        let prepared = prepare(&kernel, va, true).await.unwrap();
        ns.ip("link set va promisc off");
        ns.ip("link set va down");
        kernel.undo(prepared).await.unwrap();
        assert_eq!(flags(&kernel, va).await, (false, false));
    });
}

#[test]
fn the_peer_is_found_after_it_moved_and_was_renamed() {
    alone(async |ns, kernel| {
        let (first, second) = (TestNamespace::new(), TestNamespace::new());
        let va = ns.veth("va", &first, "eth0", "");
        let prepared = prepare(&kernel, va, true).await.unwrap();
        first.ip("link set eth0 down");
        first.ip("link set eth0 name net7");
        first.ip(&format!("link set net7 netns {}", second.name()));
        kernel.undo(prepared).await.unwrap();
        assert_eq!(second.run(|| txvlan("net7")), [true, true], "put back where it is now");
        let prepared = prepare(&kernel, va, true).await.unwrap();
        assert_eq!(second.run(|| txvlan("net7")), [false, false]);
        // Home to our own namespace, and its former one is gone.
        second.ip(&format!("link set net7 netns {}", ns.name()));
        drop((first, second));
        kernel.undo(prepared).await.unwrap();
        assert_eq!(txvlan("net7"), [true, true]);
    });
}

#[test]
fn namespace_numbers_that_are_used_again_do_not_confuse() {
    alone(async |ns, kernel| {
        for round in 0..4 {
            let container = TestNamespace::new();
            let name = format!("va{round}");
            let va = ns.veth(&name, &container, "eth0", "");
            prepare(&kernel, va, true).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert_eq!(container.run(|| txvlan("eth0")), [false, false], "round {round}");
        }
    });
}

/// A process that ends with the test, also with one that fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn a_namespace_without_a_name_is_found_by_its_process() {
    alone(async |ns, kernel| {
        let process = Process(Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().expect("unshare runs"));
        let id = process.0.id();
        let path = format!("/proc/{id}/ns/net");
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        // `unshare` takes a moment before it is in its own namespace.
        while std::fs::read_link(&path).unwrap() == own {
            std::thread::yield_now();
        }
        ns.ip(&format!("link add va type veth peer name eth0 netns {id}"));
        let prepared = prepare(&kernel, ns.ifindex("va"), true).await.unwrap();
        assert_eq!(prepared.tags_hidden, None);
        assert_eq!(run_in(File::open(&path).unwrap().as_fd(), || txvlan("eth0")).unwrap(), [false, false]);
    });
}

#[test]
fn a_hidden_peer_is_refused_only_where_tags_matter() {
    alone(async |ns, kernel| {
        // The namespace lives on by its descriptor alone: no file leads to it.
        let nameless = TestNamespace::new();
        let va = ns.veth("va", &nameless, "eth0", "");
        let _fd = nameless.as_fd().try_clone_to_owned().unwrap();
        drop(nameless);

        let error = prepare(&kernel, va, true).await.unwrap_err();
        assert!(matches!(error, PrepareError::TagsHidden { .. }), "{error}");
        for part in ["va cannot carry VLAN tags", "/run/netns", "ethtool -K"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(flags(&kernel, va).await, (true, false), "a refused device is left as it was");
        let prepared = prepare(&kernel, va, false).await.unwrap();
        assert!(prepared.tags_hidden.is_some());
        kernel.undo(prepared).await.unwrap();
    });
}

#[test]
fn what_a_killed_daemon_changed_can_still_be_put_back() {
    alone(async |ns, kernel| {
        ns.ip("link add va type veth peer name vb");
        let va = ns.ifindex("va");
        let stored = serde_json::to_string(&prepare(&kernel, va, true).await.unwrap()).unwrap();
        // The next life finds everything as it should be, and changes nothing.
        let next = prepare(&kernel, va, true).await.unwrap();
        kernel.undo(next.clone()).await.unwrap();
        assert_eq!((txvlan("vb"), flags(&kernel, va).await), ([false, false], (true, true)));
        let mut next: Prepared = next;
        next.absorb(serde_json::from_str(&stored).unwrap());
        kernel.undo(next).await.unwrap();
        assert_eq!(txvlan("vb"), [true, true]);
        assert_eq!(flags(&kernel, va).await, (false, false));
    });
}

#[test]
fn devices_of_others_and_unfit_ones_are_refused() {
    alone(async |ns, kernel| {
        ns.ip("link add va type veth peer name vb");
        ns.ip("link add lb type bridge");
        ns.ip("link add mv link vb type macvlan");
        ns.ip("link set va master lb");
        let before = flags(&kernel, ns.ifindex("va")).await;
        for (device, parts) in [
            ("va", &["va belongs to bridge lb", "ip link set va nomaster"][..]),
            ("lb", &["lb is a bridge device", "members"]),
            ("lo", &["lo is a loopback device"]),
            ("mv", &["mv is a macvlan device", "veth"]),
        ] {
            let text = prepare(&kernel, ns.ifindex(device), true).await.unwrap_err().to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        assert_eq!(flags(&kernel, ns.ifindex("va")).await, before, "untouched");
        assert!(prepare(&kernel, 99_999, true).await.unwrap_err().is_gone());
    });
}

#[test]
fn promiscuous_mode_ends_with_the_daemon() {
    alone(async |ns, kernel| {
        ns.ip("link add va type veth peer name vb");
        let va = ns.ifindex("va");
        let daemon = Kernel::open().await.unwrap();
        prepare(&daemon.0, va, true).await.unwrap();
        assert!(flags(&kernel, va).await.1);
        drop(daemon);
        assert!(!flags(&kernel, va).await.1);
    });
}

#[test]
fn a_foreign_xdp_program_is_refused() {
    alone(async |ns, kernel| {
        ns.ip("link add va type veth peer name vb");
        ns.ip("link set va up");
        let va = ns.ifindex("va");
        let other =
            Attachment::open(va, "va", 1, WantedMode::BestEffort, false, &QueueOptions::default(), &Claims::Everything)
                .unwrap();
        let id = kernel.link(va).await.unwrap().xdp.expect("a program").program_id;
        let error = prepare(&kernel, va, true).await.unwrap_err();
        assert!(matches!(error, PrepareError::ForeignXdp { program_id, .. } if program_id == id), "{error}");
        for part in ["va", "native", &id.to_string(), "ip link set va xdp off"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        drop(other);
        prepare(&kernel, va, true).await.unwrap();
    });
}

#[test]
fn many_ports_in_many_namespaces_are_found() {
    const PORTS: usize = 40;
    alone(async |ns, kernel| {
        let containers: Vec<_> = (0..PORTS).map(|_| TestNamespace::new()).collect();
        let ports: Vec<_> = containers
            .iter()
            .enumerate()
            .map(|(n, container)| ns.veth(&format!("va{n}"), container, "eth0", ""))
            .collect();
        for ifindex in ports {
            prepare(&kernel, ifindex, true).await.unwrap();
        }
        for container in &containers {
            assert_eq!(container.run(|| txvlan("eth0")), [false, false]);
        }
    });
}
