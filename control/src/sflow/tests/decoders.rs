//! Do three decoders read the same in whatever is told: Wireshark's, that of a crate, and one that believes no length?

use super::super::agent::{Active, Agent, Seen};
use super::*;
use shunt_switch::port::fault::Dice;
use std::net::Ipv4Addr;
use std::process::Command;

/// One of each kind of thing that can be told, with random contents.
fn tell(agent: &mut Agent, dice: &mut Dice) {
    let mut word = || dice.roll() as u32;
    let counters = IfCounters {
        ifindex: 101,
        speed: u64::from(word()) << 8,
        direction: 1,
        admin_up: true,
        carrier: word() % 2 == 0,
        received: Direction {
            octets: u64::from(word()) << 16,
            packets: [word(), word(), word()],
            ..Direction::default()
        },
        sent: Direction { octets: u64::from(word()), discards: word(), errors: word(), ..Direction::default() },
        promiscuous: false,
    };
    let ethernet = EthernetCounters { too_long: word(), receive_errors: word(), transmit_errors: word() };
    let vlan = VlanCounters { vlan: word() % 4096, received: counters.received };
    let name = "enp101s0f1v42.18"[..1 + dice.below(16)].to_owned();
    let octets = packet(60 + dice.below(1455));
    let header = &octets[..octets.len().min(14 + dice.below(1011))];
    let vlans = [0, 1].map(|_| Some(Vlan { vid: dice.below(4096) as u16, pcp: dice.below(8) as u8 }));
    let [vlan_in, vlan_out] = vlans.map(|vlan| vlan.filter(|_| dice.below(4) > 0));
    let reason = Reason::ALL[dice.below(Reason::COUNT)];
    let outcome = match dice.below(3) {
        0 => Outcome::Sent(PortIndex(1)),
        1 => Outcome::Flooded(dice.below(4096) as u16),
        _ => Outcome::Dropped { reason, port: PortIndex::NONE },
    };
    let record = Record { vlan_in, vlan_out, len: octets.len() as u32, ..sampled(1, outcome) };
    let next_hop = [IpAddr::V4(Ipv4Addr::from_bits(dice.roll() as u32)), IpAddr::V6((dice.roll() as u128).into())];
    let lens = [dice.below(33) as u32, dice.below(129) as u32];
    let router = |next_hop| ExtendedRouter { next_hop, source_len: lens[0], destination_len: lens[1] };
    let router = next_hop.get(dice.below(4)).copied().map(router);
    let input = 100 + dice.below(4) as u32;
    let seen = Seen { record: &record, header, input, output: dice.below(200) as u32, router };
    let told = match dice.below(6) {
        0 => agent.counted(Source::Port(input), &[&counters, &ethernet, &PortName(&name)]),
        1 => agent.counted(Source::Port(input), &[&counters, &vlan, &PortName(&name)]),
        2 => agent.counted(agent.itself(), &[&Processor::default(), &Tables::default()]),
        3 => agent.discarded(&seen, reason),
        _ => agent.sampled(&seen, 1 + dice.below(100_000) as u32),
    };
    assert!(told);
}

/// Datagrams of agents with addresses of both families.
fn everything() -> Vec<Vec<u8>> {
    let (mut dice, mut all) = (Dice::new(5), Vec::new());
    for address in [AGENT, "2001:db8::7"] {
        let address = address.parse().expect("an address");
        let mut agent = Agent::new(dice.below(5) as u32);
        agent.active = Some(Active { settings: settings(), address, notices: None });
        let sources = (100..104).map(Source::Port).chain([agent.itself()]);
        agent.set_sources(sources.map(|source| (source, Default::default())).collect(), Instant::now(), || 0.5);
        for _ in 0..400 {
            (0..=dice.below(12)).for_each(|_| tell(&mut agent, &mut dice));
            all.extend(agent.take(dice.roll() as u32));
        }
    }
    all
}

/// What is left to read.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn take(&mut self, octets: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(octets);
        self.0 = rest;
        taken
    }

    fn word(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four octets"))
    }

    /// A structure behind its format and its length.
    fn structure(&mut self) -> (u32, Words<'a>) {
        let (format, len) = (self.word(), self.word());
        (format, Words(self.take(len as usize)))
    }

    /// Octets behind their length, and zeros up to a whole word.
    fn opaque(&mut self) {
        let len = self.word() as usize;
        let octets = self.take(len.next_multiple_of(4));
        assert!(octets[len..].iter().all(|octet| *octet == 0), "padded with {:?}", &octets[len..]);
    }

    fn address(&mut self) {
        let octets = [0, 4, 16][self.word() as usize];
        self.take(octets);
    }
}

/// Number of the datagram, and the formats of its samples; each structure is as long as it says, and as its fields are.
fn strict(datagram: &[u8]) -> (u32, Vec<u32>) {
    let mut words = Words(datagram);
    assert_eq!(words.word(), 5);
    words.address();
    let [_, sequence, _, count] = [(); 4].map(|()| words.word());
    let sample = |_| {
        let (format, mut sample) = words.structure();
        // In words; none of the compact forms is used.
        sample.take(4 * [0, 0, 0, 10, 3, 7][format as usize]);
        for _ in 0..sample.word() {
            let (record, mut body) = sample.structure();
            let fixed = match (format, record) {
                (3 | 5, 1) => 12,
                (3, 1001) => 16,
                (3, 1002) => 0,
                (4, 1) => 88,
                (4, 2) => 52,
                (4, 5 | 1001) => 28,
                (4, 1005) => 0,
                (4, 0x0113_d003) => 36 * 4,
                other => panic!("{other:?} is no structure that we tell"),
            };
            body.take(fixed);
            match (format, record) {
                (3 | 5, 1) | (4, 1005) => body.opaque(),
                (3, 1002) => {
                    body.address();
                    body.take(8);
                }
                _ => {}
            }
            assert!(body.0.is_empty(), "{} octets too many in record {record} of sample {format}", body.0.len());
        }
        assert!(sample.0.is_empty(), "{} octets too many in sample {format}", sample.0.len());
        format
    };
    let formats = (0..count).map(sample).collect();
    assert!(words.0.is_empty(), "{} octets too many", words.0.len());
    (sequence, formats)
}

/// As a file of packets from port 6343 to port 6343 (LINKTYPE_IPV4).
fn pcap(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4u32, 0x0002_0004, 0, 0, 65_535, 228].map(u32::to_be_bytes).concat();
    for datagram in datagrams {
        let udp = 8 + datagram.len() as u16;
        let total = 20 + udp;
        file.extend([0, 0, u32::from(total), u32::from(total)].map(u32::to_be_bytes).concat());
        let ip = [0x4500, total, 0, 0, 0x4011, 0, 0xc000, 0x0207, 0xc000, 0x0201];
        file.extend(ip.into_iter().chain([6343, 6343, udp, 0]).flat_map(u16::to_be_bytes));
        file.extend(datagram);
    }
    file
}

/// The fields of each packet as Wireshark's dissector has them, each with all its values.
fn dissected<const N: usize>(datagrams: &[Vec<u8>], fields: [&str; N]) -> Vec<[String; N]> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sflow.pcap");
    std::fs::write(&path, pcap(datagrams)).expect("written");
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&path).args(["-d", "udp.port==6343,sflow", "-T", "fields"]);
    let output = tshark.args(fields.iter().flat_map(|field| ["-e", field])).output().expect("tshark runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let line = |line: &str| {
        let mut values = line.split('\t').map(str::to_owned);
        std::array::from_fn(|_| values.next().unwrap_or_default())
    };
    text.lines().map(line).collect()
}

fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn three_decoders_read_the_same() {
    let datagrams = everything();
    assert!(datagrams.len() > 800, "{} datagrams", datagrams.len());
    let fields = [
        "_ws.malformed",
        "sflow_245.sequence_number",
        "sflow_245.sampletype",
        "sflow_245.vlan.in",
        "sflow_245.pri.out",
        "sflow_245.nexthop",
        "sflow_245.nexthop.v6",
        "sflow_245.nexthop.dst_mask",
        "sflow_245.ifspeed",
        "sflow_245.ifinoct",
        "sflow_245.ifoutdisc",
        "sflow_245.vlan_id",
        "sflow_245.dot3StatsFrameTooLongs",
    ];
    let dissected = dissected(&datagrams, fields);
    assert_eq!(dissected.len(), datagrams.len());
    let mut last = 0;
    for (octets, dissected) in datagrams.iter().zip(dissected) {
        let (sequence, formats) = strict(octets);
        assert!(sequence == last + 1 || sequence == 1, "{sequence} after {last}");
        last = sequence;
        let parsed = parse_datagram(octets).expect("the crate reads it");
        assert_eq!((parsed.sequence_number, parsed.samples.len()), (sequence, formats.len()));
        let (mut flows, mut counters) = (Vec::new(), Vec::new());
        for sample in parsed.samples {
            match sample.sample_data {
                SampleData::FlowSampleExpanded(sample) => flows.extend(sample.flow_records),
                SampleData::CountersSampleExpanded(sample) => counters.extend(sample.counters),
                SampleData::DiscardedPacket(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let flow = |of: fn(&FlowData) -> Option<String>| list(flows.iter().filter_map(|record| of(&record.flow_data)));
        let count = |of: fn(&CounterData) -> Option<String>| {
            list(counters.iter().filter_map(|record| of(&record.counter_data)))
        };
        macro_rules! of {
            ($kind:path, $record:ident => $value:expr) => {
                |data| if let $kind($record) = data { Some($value.to_string()) } else { None }
            };
        }
        let hop = |wants_v4: bool| {
            let hops = flows.iter().filter_map(|record| match &record.flow_data {
                FlowData::ExtendedRouter(router) => match router.next_hop {
                    sflow_parser::models::core::Address::IPv4(address) => Some(IpAddr::V4(address)),
                    sflow_parser::models::core::Address::IPv6(address) => Some(IpAddr::V6(address)),
                    _ => None,
                },
                _ => None,
            });
            list(hops.filter(|address| address.is_ipv4() == wants_v4))
        };
        let expected = [
            String::new(),
            sequence.to_string(),
            list(formats),
            flow(of!(FlowData::ExtendedSwitch, switch => switch.src_vlan)),
            flow(of!(FlowData::ExtendedSwitch, switch => switch.dst_priority)),
            hop(true),
            hop(false),
            flow(of!(FlowData::ExtendedRouter, router => router.dst_mask_len)),
            count(of!(CounterData::GenericInterface, generic => generic.if_speed)),
            count(of!(CounterData::GenericInterface, generic => generic.if_in_octets)),
            count(of!(CounterData::GenericInterface, generic => generic.if_out_discards)),
            count(of!(CounterData::Vlan, vlan => vlan.vlan_id)),
            count(of!(CounterData::EthernetInterface, ethernet => ethernet.dot3_stats_frame_too_longs)),
        ];
        assert_eq!(dissected, expected, "datagram {sequence}");
    }
}
