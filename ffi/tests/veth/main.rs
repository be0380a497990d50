//! Does the kernel agree? Packets in and out over real veth pairs (needs root).

mod common;

use common::*;
use shunt_ffi::alloc;
use shunt_ffi::netns::TestNamespace;
use shunt_ffi::{
    AttachError, Attachment, ChecksumRequest, Claims, QueueOptions, TxState, WantedMode, XdpMode, ethtool,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: shunt_ffi::alloc::Counting = shunt_ffi::alloc::Counting;

#[test]
fn neither_receiving_nor_transmitting_allocates() {
    let wire = Wire::new("");
    let raw = wire.raw();
    let (_attachment, mut halves) = wire.attach(1, &Claims::Everything);
    let (rx, tx) = &mut halves[0];
    let mut calls = 0;
    for _ in 0..300 {
        raw.send(&frame(None, 1000));
        assert!(readable(rx.as_fd().expect("real"), Instant::now() + PATIENCE));
        let before = alloc::of_this_thread();
        rx.receive(64);
        rx.packets().for_each(|packet| {
            let mut writer = tx.start(packet.len()).expect("room");
            packet.segments().for_each(|segment| writer.append(segment));
            writer.commit(None);
        });
        rx.release();
        assert_eq!(tx.flush().pending, 0);
        calls += alloc::of_this_thread() - before;
    }
    assert_eq!(calls, 0);
    assert!(alloc::of_this_thread() > 0, "the allocator counts");
}

#[test]
fn a_packet_comes_in_and_one_goes_out() {
    let wire = Wire::new("");
    let raw = wire.raw();
    let (attachment, mut halves) = wire.attach(1, &Claims::Everything);
    let (rx, tx) = &mut halves[0];
    assert_eq!(attachment.mode().to_string(), "native");
    assert_eq!((attachment.queues(), attachment.ifindex()), (1, wire.ifindex));

    for n in 0..2000u32 {
        let mut sent = frame(None, 60 + n as usize % 1400);
        sent[14..18].copy_from_slice(&n.to_be_bytes());
        raw.send(&sent);
        assert_eq!(next_packet(rx).expect("arrives"), sent);
        sent[5] = 9;
        assert_eq!(send(tx, &sent, None).pending, 0);
        assert_eq!(raw.receive(|packet| packet[5] == 9).expect("arrives"), sent);
    }
    let (received, sent) = (rx.frames(), tx.frames());
    assert_eq!((received.in_kernel, received.total, sent.free, sent.total), (256, 256, 128, 128));
    assert_eq!(attachment.statistics(), shunt_ffi::XdpStatistics::default());
}

#[test]
fn a_burst_larger_than_the_ring_is_dropped_and_counted_by_the_kernel() {
    let wire = Wire::new("");
    let raw = wire.raw();
    let (attachment, mut halves) = wire.attach(1, &Claims::Everything);
    let (rx, _tx) = &mut halves[0];
    for _ in 0..400 {
        raw.send(&frame(None, 60));
    }
    // The ring's 256 come in; what was too much is counted.
    let mut received = 0;
    while received < 256 {
        assert!(readable(rx.as_fd().expect("real"), Instant::now() + PATIENCE), "{received}");
        received += rx.receive(64);
        rx.release();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let statistics = attachment.statistics();
        received += rx.receive(64);
        rx.release();
        if received as u64 + statistics.rx_dropped + statistics.rx_ring_full == 400 {
            break;
        }
        assert!(Instant::now() < deadline, "{received} received of 400, {statistics:?}");
    }
    assert_eq!(rx.frames().in_kernel, 256);
}

#[test]
fn jumbo_packets_are_chains_of_frames_both_ways() {
    let wire = Wire::new("");
    wire.switch.ip("link set sw0 mtu 9000");
    wire.container.ip("link set ct0 mtu 9000");
    let raw = wire.raw();
    let (attachment, mut halves) = wire.attach(1, &Claims::Everything);
    let (rx, tx) = &mut halves[0];
    for len in [9014, 5000, 1793, 1792, 3584, 3585] {
        let mut packet = frame(None, len);
        raw.send(&packet);
        assert_eq!(next_packet(rx).expect("arrives"), packet);
        packet[5] = 9;
        assert_eq!(send(tx, &packet, None).pending, 0);
        assert_eq!(raw.receive(|packet| packet[5] == 9).expect("arrives"), packet);
    }
    assert_eq!((rx.frames().in_kernel, tx.frames().free), (256, 128));
    assert_eq!(attachment.statistics(), shunt_ffi::XdpStatistics::default());
}

#[test]
fn chunks_of_4_kib_work_too() {
    let wire = Wire::new("");
    let raw = wire.raw();
    let options = QueueOptions { chunk_bytes: 4096, frames: 64, ring_entries: 32, ..QueueOptions::default() };
    let (_attachment, mut halves) = wire.try_attach(1, WantedMode::BestEffort, &options).expect("attach");
    let (rx, tx) = &mut halves[0];
    let packet = frame(None, 1514);
    raw.send(&packet);
    assert_eq!(next_packet(rx).expect("arrives"), packet);
    assert_eq!(send(tx, &packet, None).pending, 0);
}

#[test]
fn every_queue_receives_and_transmits() {
    const QUEUES: u32 = 4;
    let wire = Wire::new("numrxqueues 4 numtxqueues 4");
    wire.switch.run(|| ethtool::set_queues("sw0", QUEUES)).expect("four queues");
    wire.container.run(|| ethtool::set_queues("ct0", QUEUES)).expect("four queues");
    let (_attachment, mut halves) = wire.attach(QUEUES, &Claims::Everything);
    assert_eq!(halves.len(), QUEUES as usize);
    let raw = wire.raw();
    for (queue, (_, tx)) in halves.iter_mut().enumerate() {
        let mut packet = frame(None, 100);
        packet[5] = 100 + queue as u8;
        assert_eq!(send(tx, &packet, None).pending, 0, "queue {queue}");
        assert_eq!(raw.receive(|got| got[5] == packet[5]).expect("arrives"), packet);
    }
    // Which queue a packet takes is the kernel's choice: skb->queue_mapping by flow hash. Many flows reach all of them.
    let mut seen = [0; QUEUES as usize];
    for flow in 0..4000u32 {
        raw.send(&udp_packet(flow));
        for (queue, (rx, _)) in halves.iter_mut().enumerate() {
            seen[queue] += rx.receive(64);
            rx.release();
        }
        if seen.iter().all(|&count| count > 0) {
            break;
        }
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
    assert!(halves.iter().all(|(rx, tx)| rx.frames().is_conserved() && tx.frames().is_conserved()));
}

#[test]
fn claimed_vlans_come_to_the_switch_and_all_else_to_the_kernel() {
    let wire = Wire::new("");
    wire.switch.ip("addr add 192.0.2.1/24 dev sw0");
    let raw = wire.raw();
    let (mut attachment, mut halves) = wire.attach(1, &Claims::Vlans(vec![181]));
    let kernel = wire.switch.run(|| Raw::open("sw0"));
    let (rx, _) = &mut halves[0];

    let to_kernel = [
        frame(None, 61),
        frame(Some(182), 62),
        // Priority 5 of VLAN 180, and a tag that is only almost there.
        frame(Some(5 << 13 | 180), 63),
        frame(Some(0), 64),
        // 802.1ad is not ours.
        [&frame(Some(181), 65)[..12], &[0x88, 0xa8], &frame(Some(181), 65)[14..]].concat(),
    ];
    let to_switch = [frame(Some(181), 70), frame(Some(7 << 13 | 1 << 12 | 181), 71)];
    to_kernel.iter().chain(&to_switch).for_each(|packet| raw.send(packet));
    for packet in &to_switch {
        assert_eq!(&next_packet(rx).expect("claimed"), packet);
    }
    for packet in &to_kernel {
        // A packet socket sees frames without the tag that the kernel has taken off.
        assert!(kernel.receive(|got| got.len() == packet.len() || got.len() == packet.len() - 4).is_some());
    }

    attachment.claim(&Claims::Vlans(vec![182])).expect("live");
    raw.send(&frame(Some(181), 72));
    raw.send(&frame(Some(182), 73));
    assert_eq!(next_packet(rx).expect("claimed now").len(), 73);
    attachment.claim(&Claims::Everything).expect("live");
    raw.send(&frame(None, 74));
    assert_eq!(next_packet(rx).expect("claimed now").len(), 74);
    attachment.claim(&Claims::Vlans(vec![])).expect("live");
    raw.send(&frame(Some(181), 75));
    assert!(kernel.receive(|got| got.len() == 71).is_some());
    assert_eq!(rx.receive(1), 0);
}

#[test]
fn a_queue_that_could_not_transmit_is_refused() {
    let wire = Wire::new("numrxqueues 2 numtxqueues 1");
    let error = wire.try_attach(2, WantedMode::BestEffort, &QueueOptions::default()).err().expect("refused");
    assert!(error.to_string().contains("ethtool -L sw0 rx 2 tx 2"), "{error}");
}

#[test]
fn frames_of_a_queue_without_socket_go_to_the_kernel() {
    let wire = Wire::new("numrxqueues 2 numtxqueues 2");
    wire.switch.run(|| ethtool::set_queues("sw0", 2)).expect("two queues");
    wire.container.run(|| ethtool::set_queues("ct0", 2)).expect("two queues");
    let (_attachment, mut halves) = wire.attach(1, &Claims::Everything);
    let kernel = wire.switch.run(|| Raw::open("sw0"));
    let raw = wire.raw();
    let (mut to_switch, mut to_kernel) = (0, 0);
    for flow in 0..2000u32 {
        raw.send(&udp_packet(flow));
        to_switch += halves[0].0.receive(64);
        halves[0].0.release();
        to_kernel += kernel.count_now();
        if to_switch > 0 && to_kernel > 0 {
            return;
        }
    }
    panic!("{to_switch} to the switch, {to_kernel} to the kernel");
}

#[test]
fn a_device_with_a_program_of_somebody_else_is_refused_and_left_alone() {
    let wire = Wire::new("");
    let object = concat!(env!("OUT_DIR"), "/redirect.bpf.o");
    wire.switch.ip(&format!("link set dev sw0 xdpdrv obj {object} sec xdp.frags"));
    let id = wire.switch.run(|| shunt_ffi::xdp_query::program_id(wire.ifindex)).expect("query").expect("attached");
    let error = wire.try_attach(1, WantedMode::BestEffort, &QueueOptions::default()).err().expect("refused");
    assert!(matches!(&error, AttachError::ForeignProgram { id: Some(found), .. } if *found == id), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("sw0") && text.contains(&id.to_string()) && text.contains("ip link set dev sw0 xdp off"),
        "{text}"
    );
    assert_eq!(wire.switch.run(|| shunt_ffi::xdp_query::program_id(wire.ifindex)).expect("query"), Some(id));
    // All that the attempt opened is closed again.
    wire.switch.ip("link set dev sw0 xdpdrv off");
    wire.attach(1, &Claims::Everything);
}

#[test]
fn a_device_that_another_switch_holds_is_refused() {
    let wire = Wire::new("");
    let (_attachment, _halves) = wire.attach(1, &Claims::Everything);
    let error = wire.try_attach(1, WantedMode::BestEffort, &QueueOptions::default()).err().expect("refused");
    assert!(matches!(error, AttachError::ForeignProgram { id: Some(_), .. }), "{error}");
}

#[test]
fn a_device_can_be_taken_again_at_once() {
    let wire = Wire::new("");
    let raw = wire.raw();
    for cycle in 0..20u8 {
        let (attachment, mut halves) = wire.attach(1, &Claims::Everything);
        let sent = frame(None, 60 + usize::from(cycle));
        raw.send(&sent);
        assert_eq!(next_packet(&mut halves[0].0).expect("arrives"), sent);
        drop(attachment);
        assert_eq!(wire.switch.run(|| shunt_ffi::xdp_query::program_id(wire.ifindex)).expect("query"), None);
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let wire = Wire::new("");
    let options = QueueOptions::default();
    let zero_copy = WantedMode::Exactly(XdpMode::NativeZeroCopy);
    let error = wire.try_attach(1, zero_copy, &options).err().expect("veth has no zero-copy");
    assert!(matches!(error, AttachError::Mode { mode: XdpMode::NativeZeroCopy, .. }), "{error}");
    for queues in [0, 65] {
        let error = wire.try_attach(queues, WantedMode::BestEffort, &options).err().expect("refused");
        assert!(matches!(error, AttachError::Queues { .. }), "{error}");
    }
    let odd = QueueOptions { ring_entries: 100, ..options };
    assert!(matches!(wire.try_attach(1, WantedMode::BestEffort, &odd), Err(AttachError::Options { .. })));
    let gone = wire
        .switch
        .run(|| Attachment::open(9999, "gone0", 1, WantedMode::BestEffort, false, &options, &Claims::Everything));
    let error = gone.err().expect("no such device");
    assert!(error.is_device_gone() && error.to_string().contains("gone0 (ifindex 9999)"), "{error}");
    // After all these refusals nothing is left on the device.
    wire.attach(1, &Claims::Everything);
}

#[test]
fn generic_mode_works_where_it_is_asked_for() {
    let wire = Wire::new("");
    let generic = WantedMode::Exactly(XdpMode::Generic);
    let (attachment, mut halves) = wire.try_attach(1, generic, &QueueOptions::default()).expect("attach");
    assert_eq!(attachment.mode(), XdpMode::Generic);
    let sent = frame(None, 100);
    wire.raw().send(&sent);
    assert_eq!(next_packet(&mut halves[0].0).expect("arrives"), sent);
}

#[test]
fn a_device_deleted_under_us_is_reported_and_loses_no_frame() {
    let wire = Wire::new("");
    let raw = wire.raw();
    let (mut attachment, mut halves) = wire.attach(1, &Claims::Everything);
    let (rx, tx) = &mut halves[0];
    raw.send(&frame(None, 100));
    assert!(readable(rx.as_fd().expect("real"), Instant::now() + PATIENCE));
    assert_eq!(rx.receive(64), 1);
    wire.switch.ip("link del sw0");

    rx.packets().for_each(|packet| assert_eq!(packet.len(), 100, "the octets are ours"));
    rx.release();
    for _ in 0..300 {
        if let Ok(mut writer) = tx.start(100) {
            writer.append(&[0; 100]);
            writer.commit(None);
        }
        assert_eq!(tx.flush().state, TxState::Gone);
    }
    assert!(tx.flush().pending > 0);
    assert_eq!(rx.receive(64), 0);
    assert!(rx.frames().is_conserved() && tx.frames().is_conserved());
    attachment.claim(&Claims::Vlans(vec![1])).expect("the map outlives the device");
    attachment.statistics();
    attachment.detach();
}

#[test]
fn a_device_that_is_down_keeps_what_is_queued() {
    let wire = Wire::new("");
    let raw = wire.raw();
    let (_attachment, mut halves) = wire.attach(1, &Claims::Everything);
    let (_, tx) = &mut halves[0];
    wire.switch.ip("link set sw0 down");
    let mut packet = frame(None, 100);
    packet[5] = 9;
    let flush = send(tx, &packet, None);
    assert_eq!((flush.state, flush.pending), (TxState::Down, 1));
    wire.switch.ip("link set sw0 up");
    assert_eq!(tx.flush().pending, 0);
    assert_eq!(raw.receive(|got| got[5] == 9).expect("arrives"), packet);
    assert_eq!(tx.frames().free, 128);
}

#[test]
fn packets_to_a_peer_that_is_down_are_dropped_by_the_device_and_their_frames_return() {
    let wire = Wire::new("");
    let (_attachment, mut halves) = wire.attach(1, &Claims::Everything);
    let (_, tx) = &mut halves[0];
    wire.container.ip("link set ct0 down");
    for _ in 0..100 {
        let mut writer = tx.start(60).expect("room");
        writer.append(&[0; 60]);
        writer.commit(None);
    }
    let deadline = Instant::now() + PATIENCE;
    while tx.flush().pending > 0 {
        assert!(Instant::now() < deadline, "{:?}", tx.frames());
    }
    assert_eq!(tx.frames().free, 128);
}

/// Two containers with all offloads on, and a forwarder between them that asks the receiver to complete what is partial.
#[test]
fn tcp_and_udp_with_partial_checksums_are_accepted_when_completion_is_asked_for() {
    let (switch, one, two) = (TestNamespace::new(), TestNamespace::new(), TestNamespace::new());
    let devices = [("sw1", &one, "198.51.100.1/24"), ("sw2", &two, "198.51.100.2/24")];
    let mut open = Vec::new();
    for (name, container, address) in devices {
        let ifindex = switch.veth(name, container, "ct0", "");
        container.ip(&format!("addr add {address} dev ct0"));
        let options = QueueOptions::default();
        let attach =
            || Attachment::open(ifindex, name, 1, WantedMode::BestEffort, false, &options, &Claims::Everything);
        let (attachment, halves) = switch.run(attach).expect("attach");
        assert!(attachment.tx_checksum(), "this kernel has TX metadata");
        open.push((attachment, halves.into_iter().next().expect("one queue")));
    }
    let stop = AtomicBool::new(false);
    let (asked, exchanged) = std::thread::scope(|scope| {
        let forwarder = scope.spawn(|| forward(&mut open, &stop));
        let exchanged = exchange(&one, &two);
        stop.store(true, Relaxed);
        (forwarder.join().expect("no panic"), exchanged)
    });
    exchanged.expect("a megabyte by TCP and a datagram arrive");
    assert!(asked > 0, "the senders left checksums partial");
    for (attachment, (rx, tx)) in &open {
        assert!(rx.frames().is_conserved() && tx.frames().is_conserved());
        assert_eq!(attachment.statistics().tx_checksum_requests_refused, 0);
    }
}

/// Sends a megabyte by TCP and a datagram from `one` to `two`; each step fails rather than waits for ever.
fn exchange(one: &TestNamespace, two: &TestNamespace) -> std::io::Result<()> {
    let listener = two.run(|| TcpListener::bind("198.51.100.2:7000"))?;
    let udp = two.run(|| UdpSocket::bind("198.51.100.2:7001"))?;
    udp.set_read_timeout(Some(PATIENCE))?;
    let sent: Vec<u8> = (0..1 << 20).map(|n| (n % 253) as u8).collect();
    let mut stream = one.run(|| TcpStream::connect_timeout(&"198.51.100.2:7000".parse().expect("valid"), PATIENCE))?;
    let (mut accepted, _) = listener.accept()?;
    accepted.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut received = vec![0; sent.len()];
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| accepted.read_exact(&mut received));
        stream.write_all(&sent).and(reader.join().expect("no panic"))
    })?;
    assert!(received == sent);
    one.run(|| UdpSocket::bind("198.51.100.1:0")?.send_to(&[5; 999], "198.51.100.2:7001"))?;
    let mut datagram = [0; 2000];
    let len = udp.recv(&mut datagram)?;
    assert_eq!(datagram[..len], [5; 999]);
    Ok(())
}

type Side = (Attachment, (shunt_ffi::XskRx, shunt_ffi::XskTx));

/// Forwards between the two until told to stop. Returns for how many packets completion was asked for.
fn forward(open: &mut [Side], stop: &AtomicBool) -> usize {
    let mut asked = 0;
    let [(_, (rx1, tx1)), (_, (rx2, tx2))] = open else { panic!("two sides") };
    while !stop.load(Relaxed) {
        for (rx, tx) in [(&mut *rx1, &mut *tx2), (&mut *rx2, &mut *tx1)] {
            rx.receive(64);
            rx.packets().for_each(|packet| {
                let Ok(mut writer) = tx.start(packet.len()) else { return };
                packet.segments().for_each(|segment| writer.append(segment));
                let checksum = partial(packet.head());
                asked += usize::from(checksum.is_some());
                writer.commit(checksum);
            });
            rx.release();
            tx.flush();
        }
        std::thread::yield_now();
    }
    asked
}

/// Where to complete the checksum of an IPv4 packet without options, if its L4 field is the pseudo-header's sum.
fn partial(packet: &[u8]) -> Option<ChecksumRequest> {
    let ip = packet.get(14..34).filter(|_| packet[12..14] == [8, 0])?;
    let offset = match ip[9] {
        6 => 16,
        17 => 6,
        _ => return None,
    };
    let len = u16::from_be_bytes([ip[2], ip[3]]) - 20;
    let words = ip[12..20].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = words.sum::<u32>() + u32::from(ip[9]) + u32::from(len);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
    let field = packet.get(34 + offset..34 + offset + 2)?;
    (field == folded.to_be_bytes()).then_some(ChecksumRequest { start: 34, offset: offset as u16 })
}

#[test]
fn ethtool_tells_a_veths_peer_and_switches_its_features() {
    let wire = Wire::new("");
    let peer = wire.container.ifindex("ct0");
    wire.switch.run(|| {
        assert_eq!(ethtool::driver("sw0").expect("answers"), "veth");
        assert_eq!(ethtool::veth_peer("sw0").expect("answers"), peer);
        assert_eq!(ethtool::feature("sw0", "tx-vlan-hw-insert").expect("answers"), Some(true));
        for on in [false, true] {
            ethtool::set_feature("sw0", "tx-vlan-hw-insert", on).expect("veth lets it change");
            assert_eq!(ethtool::feature("sw0", "tx-vlan-hw-insert").expect("answers"), Some(on));
        }
        let fixed = ethtool::features("sw0").expect("answers").into_iter().find(|feature| feature.fixed).expect("one");
        let error = ethtool::set_feature("sw0", &fixed.name, !fixed.active).expect_err("fixed");
        assert!(error.to_string().contains(&fixed.name), "{error}");
    });
}

#[test]
fn this_kernel_is_good_enough() {
    let namespace = TestNamespace::new();
    let features = namespace.run(shunt_ffi::kernel::check).expect("good enough");
    assert!(features.tx_checksum);
}
