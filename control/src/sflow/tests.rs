//! Does another decoder read in each datagram what the switch saw? And the faults of other exporters: are they ours?

mod decoders;

use super::wire::{Direction, EthernetCounters, IfCounters, PortName, Processor, Tables, UNKNOWN, VlanCounters};
use super::*;
use crate::model::Bridge;
use sflow_parser::models::core::{CounterData, FlowData, SampleData};
use sflow_parser::{SFlowDatagram, parse_datagram};
use shunt_switch::reason::Reason;
use shunt_switch::tap::Vlan;
use shunt_switch::testing::frame;
use shunt_switch::wire::ethernet::Mac;
use uuid::Uuid;

const COLLECTOR: &str = "192.0.2.1:6343";
const AGENT: &str = "192.0.2.7";

/// A bridge `br0` with ports `p0` to `p3`, `ifIndex` from 100 on.
struct World {
    sflow: Sflow,
    model: Model,
    ports: BTreeMap<String, Port>,
    router: Router,
}

fn settings() -> Settings {
    Settings {
        targets: vec![COLLECTOR.parse().expect("an address")],
        agent: Some(AGENT.to_owned()),
        sampling: 64,
        polling: Some(Duration::from_secs(20)),
        header: 128,
        drops_pps: 10,
    }
}

fn bridge(sflow: Option<Result<Settings, String>>) -> Bridge {
    Bridge {
        uuid: Uuid::nil(),
        ageing_s: 300,
        fdb_size: 1000,
        flood_vlans: Default::default(),
        forward_bpdu: false,
        mirrors: Vec::new(),
        snooping: None,
        sflow,
    }
}

impl World {
    fn new(settings: Settings) -> Self {
        let names: Vec<String> = (0..4).map(|number| format!("p{number}")).collect();
        let port = |(index, name): (u16, &String)| (name.clone(), Port::of_device("br0", name, index));
        let ports = (0..).zip(&names).map(port).collect();
        let mut model = Model::default();
        model.bridges.insert("br0".to_owned(), bridge(Some(Ok(settings))));
        let mut world = Self { sflow: Sflow::default(), model, ports, router: Router::default() };
        let links = names.into_iter().zip(100..).collect();
        assert!(world.sflow.set_hosts(&world.model, Hosts { links, addresses: Vec::new() }));
        world.update();
        world
    }

    fn update(&mut self) {
        self.sflow.update(&self.model, &self.ports, 2);
    }

    fn set(&mut self, sflow: Option<Result<Settings, String>>) {
        self.model.bridges.insert("br0".to_owned(), bridge(sflow));
        self.update();
    }

    fn told(&mut self, record: &Record, packet: &[u8]) {
        let caught = &packet[..packet.len().min(128)];
        let record = Record { len: packet.len() as u32, caught: caught.len() as u16, ..*record };
        self.sflow.told(&record, caught, &self.router);
    }

    /// What is sent now, as another program reads it.
    fn sent(&mut self) -> Vec<SFlowDatagram> {
        let all = self.sflow.take(Instant::now());
        let read = all.iter().map(|(targets, octets)| {
            assert_eq!(*targets, [COLLECTOR.parse().expect("an address")]);
            assert!(octets.len() <= wire::DATAGRAM_MAX && octets.len().is_multiple_of(4), "{} octets", octets.len());
            parse_datagram(octets).expect("a datagram")
        });
        read.collect()
    }

    fn samples(&mut self) -> Vec<SampleData> {
        self.sent().into_iter().flat_map(|datagram| datagram.samples).map(|sample| sample.sample_data).collect()
    }
}

fn sampled(port: u16, outcome: Outcome) -> Record {
    Record {
        cause: Cause::Sampled(64),
        at: shunt_switch::time::Instant::from_secs(1),
        port: PortIndex(port),
        len: 0,
        caught: 0,
        vlan_in: Some(Vlan { vid: 181, pcp: 5 }),
        vlan_out: Some(Vlan { vid: 182, pcp: 0 }),
        routed_from: PortIndex::NONE,
        next_hop: None,
        outcome,
    }
}

fn packet(len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len - 14).map(|n| n as u8 | 1).collect();
    frame(Mac(0x0200_0000_000a), Mac(0x0200_0000_000b), &[], 0x88b5, &payload)
}

#[test]
fn a_flow_sample_says_what_the_record_says() {
    let mut world = World::new(settings());
    for (outcome, format, value) in [
        (Outcome::Sent(PortIndex(2)), 0, 102),
        (Outcome::Flooded(7), 2, 7),
        (Outcome::Dropped { reason: Reason::MtuExceeded, port: PortIndex(3) }, 1, 262),
    ] {
        // Odd lengths are padded.
        for len in [60, 61, 127, 128, 1514] {
            let octets = packet(len);
            world.told(&sampled(1, outcome), &octets);
            let [SampleData::FlowSampleExpanded(sample)] = &world.samples()[..] else { panic!("one flow sample") };
            assert_eq!((sample.source_id.source_id_type, sample.source_id.source_id_index), (0, 101));
            assert_eq!((sample.input.format, sample.input.value), (0, 101));
            assert_eq!((sample.output.format, sample.output.value), (format, value));
            let [header, switch] = &sample.flow_records[..] else { panic!("two records: {:?}", sample.flow_records) };
            let FlowData::SampledHeader(header) = &header.flow_data else { panic!("a header first") };
            assert_eq!((header.frame_length, header.stripped), (len as u32 + 4, 4), "with the FCS, which is not there");
            assert_eq!(header.header, octets[..len.min(128)]);
            let FlowData::ExtendedSwitch(switch) = &switch.flow_data else { panic!("then the VLANs") };
            assert_eq!((switch.src_vlan, switch.src_priority, switch.dst_vlan, switch.dst_priority), (181, 5, 182, 0));
        }
    }
}

/// Exporters that advertise another rate than they sample by (pmacct 585), and count no lost samples (Dell).
#[test]
fn rate_pool_and_drops_are_those_in_force() {
    let mut world = World::new(settings());
    let sampling = world.sflow.sampling_of("p1").expect("sampled");
    assert_eq!(sampling.rate, 64);
    sampling.samplers[0].pool.add(1000);
    sampling.samplers[1].pool.add(500);
    sampling.samplers[1].lost.add(3);
    // The record is from before the rate was changed.
    world.set(Some(Ok(Settings { sampling: 1000, ..settings() })));
    world.told(&sampled(1, Outcome::Flooded(2)), &packet(60));
    let [SampleData::FlowSampleExpanded(sample)] = &world.samples()[..] else { panic!("one flow sample") };
    assert_eq!((sample.sampling_rate, sample.sample_pool, sample.drops), (64, 1500, 3));
    assert_eq!(world.sflow.sampling_of("p1").expect("sampled").rate, 1000);
}

/// A probability of 32 bits, as the kernel's PSAMPLE has one, is no rate; and rates above 16 bits were cut (hsflowd).
#[test]
fn any_rate_is_told_as_it_is() {
    let mut world = World::new(settings());
    for rate in [1, 2, 3, 1000, 65_537, 100_000, u32::MAX] {
        world.set(Some(Ok(Settings { sampling: rate, ..settings() })));
        assert_eq!(world.sflow.sampling_of("p1").expect("sampled").rate, rate);
        world.told(&Record { cause: Cause::Sampled(rate), ..sampled(1, Outcome::Flooded(2)) }, &packet(60));
        let [SampleData::FlowSampleExpanded(sample)] = &world.samples()[..] else { panic!("one flow sample") };
        assert_eq!(sample.sampling_rate, rate);
    }
}

/// Of Open vSwitch: the agent's address was the collector's.
#[test]
fn the_agent_is_never_the_collector() {
    let mut world = World::new(settings());
    world.set(Some(Ok(Settings { agent: Some("192.0.2.1".to_owned()), ..settings() })));
    assert!(!world.sflow.is_on() && world.sflow.sampling_of("p1").is_none());
    let problem = world.sflow.problem("br0").expect("a problem").to_owned();
    assert!(problem.contains("192.0.2.1 is that of the collector") && problem.contains("set agent"), "{problem}");
    world.told(&sampled(1, Outcome::Flooded(2)), &packet(60));
    assert!(world.sent().is_empty());
    world.set(Some(Ok(Settings { agent: Some("nowhere0".to_owned()), ..settings() })));
    assert!(world.sflow.problem("br0").is_some_and(|text| text.contains("nowhere0 is neither")));
    world.set(Some(Err("wrong".to_owned())));
    assert_eq!(world.sflow.problem("br0"), Some("wrong"));
    world.set(None);
    assert_eq!(world.sflow.problem("br0"), None);
}

#[test]
fn a_device_lends_its_address_and_the_route_if_there_is_none() {
    let mut world = World::new(Settings { agent: Some("p2".to_owned()), ..settings() });
    assert!(world.sflow.problem("br0").is_some_and(|text| text.contains("p2 has no address")));
    let links = world.sflow.hosts.links.clone();
    let addresses = ["fe80::2", "2001:db8::2", "192.0.2.22"].map(|text| (102, text.parse().expect("an address")));
    assert!(world.sflow.set_hosts(&world.model, Hosts { links: links.clone(), addresses: addresses.to_vec() }));
    world.update();
    world.told(&sampled(1, Outcome::Flooded(2)), &packet(60));
    assert_eq!(format!("{:?}", world.sent()[0].agent_address), "IPv4(192.0.2.22)");
    // The address goes: what is left is told from now on, in datagrams with a longer header.
    assert!(world.sflow.set_hosts(&world.model, Hosts { links, addresses: addresses[..2].to_vec() }));
    world.update();
    (0..30).for_each(|_| world.told(&sampled(1, Outcome::Flooded(2)), &packet(1000)));
    let sent = world.sent();
    assert_eq!(format!("{:?}", sent[0].agent_address), "IPv6(2001:db8::2)");
    assert_eq!(sent.iter().map(|datagram| datagram.samples.len()).sum::<usize>(), 30);
    // Its own address leads to the loopback, which is refused for being the collector's.
    world.set(Some(Ok(Settings { agent: None, targets: vec!["127.0.0.1:6343".parse().unwrap()], ..settings() })));
    assert!(world.sflow.problem("br0").is_some_and(|text| text.contains("127.0.0.1 is that of the collector")));
}

/// Of Open vSwitch with DPDK and of VPP: numbers of ports that are not the kernel's, and samples before those are known.
#[test]
fn a_port_without_a_number_of_the_kernel_is_not_told_of() {
    let mut world = World::new(settings());
    world.sflow.hosts.links.remove("p1");
    world.update();
    assert!(world.sflow.sampling_of("p1").is_none() && world.sflow.sampling_of("p0").is_some());
    world.told(&sampled(1, Outcome::Flooded(2)), &packet(60));
    world.told(&sampled(99, Outcome::Flooded(2)), &packet(60));
    assert!(world.sent().is_empty());
    world.told(&sampled(0, Outcome::Sent(PortIndex(1))), &packet(60));
    let [SampleData::FlowSampleExpanded(sample)] = &world.samples()[..] else { panic!("one flow sample") };
    assert_eq!((sample.input.value, sample.output.value), (100, 0), "not known is 0");
}

#[test]
fn each_port_has_its_rate() {
    let mut world = World::new(Settings { drops_pps: 0, ..settings() });
    assert!(world.sflow.sampling_of("p0").is_some_and(|own| own.rate == 64 && own.notices.is_none()));
    world.set(Some(Ok(Settings { sampling: 0, header: 256, ..settings() })));
    assert!(world.sflow.sampling_of("p0").is_some_and(|own| own.rate == 0 && own.header == 256));
}

/// Of Open vSwitch: strings were padded with what was in memory before.
#[test]
fn what_is_padded_is_padded_with_zeros() {
    let mut world = World::new(settings());
    for name in ["a", "ab", "abc", "abcd", "abcde"] {
        world.sflow.counted("br0", Source::Port(101), &[&PortName(name)]);
        let (_, octets) = world.sflow.take(Instant::now()).remove(0);
        let end = [name.as_bytes(), &[0; 3][..(4 - name.len() % 4) % 4]].concat();
        assert_eq!(octets[octets.len() - end.len()..], end, "{name}");
        // Sample: format, length, sequence, source, one record of this format and length.
        let word = |at: usize| u32::from_be_bytes(octets[at..at + 4].try_into().expect("a word"));
        assert_eq!((word(28), word(32) as usize), (4, octets.len() - 36));
        assert_eq!((word(52), word(56) as usize, word(60) as usize), (1005, 4 + end.len(), name.len()));
    }
}

/// Of SONiC: counters under the tag of another structure.
#[test]
fn counters_are_read_as_what_they_are() {
    let mut world = World::new(settings());
    let direction =
        |base: u32| Direction { octets: 1 << 40 | u64::from(base), packets: [base, 2, 3], discards: 4, errors: 5 };
    let interface = IfCounters {
        ifindex: 101,
        // 10 Gbit/s do not fit 32 bits.
        speed: 10_000_000_000,
        direction: 1,
        admin_up: true,
        carrier: false,
        received: direction(10),
        sent: direction(20),
        promiscuous: true,
    };
    let ethernet = EthernetCounters { too_long: 1, receive_errors: 2, transmit_errors: 3 };
    let vlan = VlanCounters { vlan: 181, received: direction(30) };
    world.sflow.counted("br0", Source::Port(101), &[&interface, &ethernet, &vlan, &PortName("p1")]);
    let processor = Processor { busy: [1, 2, 3], memory: 1 << 40, free: 7 };
    let tables = Tables { macs: [5, 1000], routes: 6, neighbours: [7, 8] };
    world.sflow.counted("br0", Source::Switch(1), &[&processor, &tables]);
    let samples = world.samples();
    let [SampleData::CountersSampleExpanded(port), SampleData::CountersSampleExpanded(itself)] = &samples[..] else {
        panic!("two counter samples: {samples:?}")
    };
    let records: Vec<_> = port.counters.iter().map(|record| &record.counter_data).collect();
    let [
        CounterData::GenericInterface(generic),
        CounterData::EthernetInterface(ethernet),
        CounterData::Vlan(vlan),
        CounterData::OpenFlowPortName(name),
    ] = records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((generic.if_index, generic.if_type, generic.if_speed), (101, 6, 10_000_000_000));
    assert_eq!((generic.if_direction, generic.if_status, generic.if_promiscuous_mode), (1, 1, 1));
    assert_eq!((generic.if_in_octets, generic.if_in_ucast_pkts, generic.if_in_multicast_pkts), (1 << 40 | 10, 10, 2));
    assert_eq!((generic.if_in_broadcast_pkts, generic.if_in_discards, generic.if_in_errors), (3, 4, 5));
    assert_eq!(
        (generic.if_in_unknown_protos, generic.if_out_octets, generic.if_out_errors),
        (UNKNOWN, 1 << 40 | 20, 5)
    );
    assert_eq!((ethernet.dot3_stats_frame_too_longs, ethernet.dot3_stats_fcs_errors), (1, UNKNOWN));
    assert_eq!((ethernet.dot3_stats_internal_mac_receive_errors, ethernet.dot3_stats_symbol_errors), (2, UNKNOWN));
    assert_eq!(ethernet.dot3_stats_internal_mac_transmit_errors, 3);
    assert_eq!((vlan.vlan_id, vlan.octets, vlan.ucast_pkts, vlan.discards), (181, 1 << 40 | 30, 30, 4));
    assert_eq!(name.port_name, "p1");
    assert_eq!((itself.source_id.source_id_type, itself.source_id.source_id_index), (2, 1));
    let records: Vec<_> = itself.counters.iter().map(|record| &record.counter_data).collect();
    let [CounterData::Processor(processor), CounterData::BroadcomTables(tables)] = records[..] else {
        panic!("{records:?}")
    };
    assert_eq!((processor.cpu_5s, processor.cpu_5m, processor.total_memory, processor.free_memory), (1, 3, 1 << 40, 7));
    assert_eq!((tables.mac_entries, tables.mac_entries_max, tables.total_routes), (5, 1000, 6));
    assert_eq!((tables.ipv4_neighbors, tables.ipv6_neighbors, tables.ipv4_routes), (7, 8, UNKNOWN));
}

#[test]
fn a_drop_is_told_with_its_code() {
    let mut world = World::new(settings());
    for reason in Reason::ALL {
        let outcome = Outcome::Dropped { reason: *reason, port: PortIndex(2) };
        world.told(&Record { cause: Cause::Dropped, ..sampled(1, outcome) }, &packet(77));
    }
    let sent = world.sflow.take(Instant::now());
    let mut codes = Vec::new();
    for (number, sample) in sent.iter().flat_map(|(_, octets)| parse_datagram(octets).unwrap().samples).enumerate() {
        let SampleData::DiscardedPacket(drop) = sample.sample_data else { panic!("a discarded packet") };
        assert_eq!((drop.sequence_number, drop.source_id.source_id_index), (number as u32 + 1, 101));
        assert_eq!((drop.input_ifindex, drop.output_ifindex), (101, 102));
        let FlowData::SampledHeader(header) = &drop.flow_records[0].flow_data else { panic!("a header") };
        assert_eq!((header.frame_length, header.header.len()), (81, 77));
        codes.push(drop.reason as u32);
    }
    // The parser knows codes up to 303; of later ones it says "unknown".
    let expected = Reason::ALL.iter().map(|reason| match reason.sflow_code() {
        code if code > 303 => 256,
        code => code,
    });
    assert_eq!(codes, expected.collect::<Vec<_>>());
}

/// Numbers go on whatever is configured; only what begins to count anew is numbered anew (Open vSwitch crashed on this race).
#[test]
fn numbers_go_on_through_any_reconfiguration() {
    let mut world = World::new(settings());
    let mut datagrams = 0;
    let mut flows = 0;
    for round in 0..60u16 {
        match round % 6 {
            0 => world.set(Some(Ok(Settings { sampling: u32::from(round) + 1, header: 64 + round, ..settings() }))),
            1 => world.set(Some(Ok(Settings { polling: None, ..settings() }))),
            2 => world.sflow.update(&world.model, &world.ports, 2 + usize::from(round) % 3),
            3 => world.set(Some(Ok(Settings { drops_pps: round.into(), ..settings() }))),
            // Switched off and on between a sample and its datagram: the source begins anew, the agent does not.
            4 => {
                world.told(&sampled(1, Outcome::Flooded(2)), &packet(60));
                world.set(None);
                world.told(&sampled(1, Outcome::Flooded(2)), &packet(60));
                assert!(world.sent().is_empty());
                world.set(Some(Ok(settings())));
                flows = 0;
            }
            _ => {}
        }
        world.told(&sampled(1, Outcome::Flooded(2)), &packet(60));
        let [datagram] = &world.sent()[..] else { panic!("one datagram in round {round}") };
        (datagrams, flows) = (datagrams + 1, flows + 1);
        assert_eq!((datagram.sub_agent_id, datagram.sequence_number), (0, datagrams), "round {round}");
        let SampleData::FlowSampleExpanded(sample) = &datagram.samples[0].sample_data else { panic!("a flow sample") };
        assert_eq!(sample.sequence_number, flows, "round {round}");
    }
    // The port was taken away and is back: another one, though it has the same name and number.
    let port = world.ports.remove("p1").expect("a port");
    world.update();
    assert!(world.sflow.sampling_of("p1").is_none());
    world.ports.insert("p1".to_owned(), port);
    world.update();
    world.told(&sampled(1, Outcome::Flooded(2)), &packet(60));
    let [SampleData::FlowSampleExpanded(sample)] = &world.samples()[..] else { panic!("a flow sample") };
    assert_eq!((sample.sequence_number, sample.sample_pool), (1, 0));
}

/// Of Open vSwitch: counters lay around for up to a second. And all ports at one moment make a burst.
#[test]
fn counters_are_spread_and_leave_at_once() {
    let polling = Duration::from_secs(10);
    let ports = 400;
    let mut world = World::new(Settings { polling: Some(polling), ..settings() });
    for number in 4..ports {
        let name = format!("p{number}");
        world.sflow.hosts.links.insert(name.clone(), 100 + u32::from(number));
        world.ports.insert(name.clone(), Port::of_device("br0", &name, number));
    }
    let begin = Instant::now();
    world.update();
    let mut times: BTreeMap<Source, Vec<u32>> = BTreeMap::new();
    for tick in 0..=300u32 {
        let due = world.sflow.take_due(begin + INTERVAL * tick);
        assert!(due.len() < 25, "{} ports at one moment", due.len());
        for (bridge, source, names) in due {
            world.sflow.counted(&bridge, source, &[&PortName("p")]);
            assert_eq!(world.samples().len(), 1, "it leaves in the same tick");
            assert_eq!(names.len(), usize::from(matches!(source, Source::Port(_))));
            times.entry(source).or_default().push(tick);
        }
    }
    assert_eq!(times.len(), usize::from(ports) + 1, "all ports and the switch itself");
    for (source, times) in times {
        assert!((2..=4).contains(&times.len()), "{source:?}: {times:?}");
        assert!(times.windows(2).all(|pair| (99..=101).contains(&(pair[1] - pair[0]))), "{source:?}: {times:?}");
    }
}

#[test]
fn vlans_of_one_device_are_one_source_and_bridges_are_several_agents() {
    let mut world = World::new(settings());
    world.sflow.hosts.links.insert("eth0".to_owned(), 7);
    for (number, bridge) in [(10, "br0"), (11, "br0"), (12, "br1")] {
        let mut port = Port::of_device(bridge, "eth0", number);
        port.link_vid = Some(number);
        world.ports.insert(format!("eth0.{number}"), port);
    }
    world.model.bridges.insert("br1".to_owned(), bridge(Some(Ok(settings()))));
    world.update();
    for name in ["eth0.10", "eth0.11"] {
        world.sflow.sampling_of(name).expect("sampled").samplers[0].pool.add(100);
    }
    for port in [10, 11, 12] {
        world.told(&sampled(port, Outcome::Flooded(2)), &packet(60));
    }
    let seen: Vec<_> = world
        .sent()
        .iter()
        .map(|datagram| {
            let numbers = datagram.samples.iter().map(|sample| {
                let SampleData::FlowSampleExpanded(sample) = &sample.sample_data else { panic!("a flow sample") };
                (sample.source_id.source_id_index, sample.sequence_number, sample.sample_pool)
            });
            (datagram.sub_agent_id, numbers.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(seen, [(0, vec![(7, 1, 200), (7, 2, 200)]), (1, vec![(7, 1, 0)])]);
}
