//! Are metrics what they should be, for a strict parser that others wrote (the Debian package `python3-prometheus-client`), and does
//! whoever asks get them, whatever other clients do?

use serde_json::Value;
use shunt_control::dataplane::{Dataplane, Tuning};
use shunt_control::directory::{Directory, Port, Rest};
use shunt_control::metrics::list::METRICS;
use shunt_control::metrics::server::{self, Address, Limits};
use shunt_control::metrics::{self, Control, Kind, Source};
use shunt_control::sflow;
use shunt_ffi::cpu;
use shunt_switch::counters::PortCounters;
use shunt_switch::reason::Reason;
use shunt_switch::table::fdb::Fdb;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A port with counters that tell which they are.
fn port(name: &str, bridge: &str, n: u64, reasons: &[Reason]) -> (String, Option<Port>) {
    let counters = PortCounters::default();
    counters.rx_packets.add(n);
    counters.tx_bytes.add(1000 * n);
    reasons.iter().for_each(|&reason| counters.dropped(reason, n + reason as u64));
    let kernel = PortCounters::default();
    kernel.dropped(Reason::RxNoFrame, 7);
    let blocks: Vec<Arc<[PortCounters]>> = vec![Arc::new([counters]), Arc::new([kernel])];
    let port = Port { name: name.to_owned(), bridge: bridge.to_owned(), blocks, device: Some((vec![0, 1], 4096)) };
    (name.to_owned(), Some(port))
}

/// A switch with these ports, a bridge, a worker and a VRF.
fn source(ports: impl IntoIterator<Item = (String, Option<Port>)>) -> (Source, Dataplane) {
    let tuning = Tuning { spin: Duration::ZERO, busy_poll: false };
    let dataplane = Dataplane::start(&cpu::allowed()[..1], tuning).expect("a worker");
    let directory = Arc::new(Directory::default());
    let rest = Rest {
        bridges: vec![("br0".to_owned(), Arc::new(Fdb::new(2048, 1)))],
        workers: dataplane.watched(),
        vrfs: vec![(String::new(), Arc::default()), ("blue".to_owned(), Arc::default())],
        fib_bytes: 4096,
        snapshots: 3,
        sflow: sflow::Totals { datagrams: 20, datagrams_lost: 1, packets: 2, drops: 3, counters: 4, lost: 5 },
    };
    directory.update(ports, rest);
    (Source { directory, control: Arc::new(Control::default()) }, dataplane)
}

fn many_ports(count: u64) -> Vec<(String, Option<Port>)> {
    (1..=count).map(|n| port(&format!("veth{n:08}"), "br-containers", n, Reason::ALL)).collect()
}

/// Name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// As OpenMetrics' reference parser reads it.
fn parse(text: &str) -> Vec<Sample> {
    const SCRIPT: &str = "import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as families
print(json.dumps([[s.name, s.labels, s.value] for family in families(sys.stdin.read()) for s in family.samples]))";
    let mut command = Command::new("/usr/bin/python3");
    let mut parser =
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
    parser.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = parser.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the parser refuses:\n{text}");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    serde_json::from_value(json).expect("samples")
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has = |sample: &Sample| labels.iter().all(|(key, value)| sample.1.get(*key).is_some_and(|v| v == value));
    samples.iter().find(|sample| sample.0 == name && has(sample)).map(|sample| sample.2)
}

#[test]
fn a_strict_parser_finds_every_metric_and_its_labels() {
    let odd = "a\"b\\c";
    let (source, _dataplane) = source([port("veth1", "br0", 5, &[Reason::Hairpin]), port(odd, "br0", 8, &[])]);
    source.control.acknowledged();
    source.control.passed(Instant::now(), &[Instant::now()]);
    let samples = parse(&metrics::encode(&source).expect("text"));
    let named = |name: &str, kind: Kind| match kind {
        Kind::Histogram => {
            let end = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
            end.unwrap_or(name).to_owned()
        }
        _ => name.to_owned(),
    };
    for metric in METRICS {
        let of_it: Vec<_> = samples.iter().filter(|sample| named(&sample.0, metric.kind) == metric.name).collect();
        assert!(!of_it.is_empty(), "{} has no sample", metric.name);
        let labels: BTreeSet<_> = of_it[0].1.keys().map(String::as_str).filter(|label| *label != "le").collect();
        assert_eq!(labels, metric.labels.iter().copied().collect(), "{}", metric.name);
    }
    let is_listed = |sample: &&Sample| METRICS.iter().any(|metric| named(&sample.0, metric.kind) == metric.name);
    assert_eq!(samples.iter().find(|sample| !is_listed(sample)), None, "a metric that is not in the list");

    let of = |name, labels: &[(&str, &str)]| value(&samples, name, labels);
    assert_eq!(of("shunt_port_receive_packets_total", &[("port", "veth1"), ("bridge", "br0")]), Some(5.0));
    assert_eq!(of("shunt_port_transmit_bytes_total", &[("port", odd)]), Some(8000.0));
    let hairpin = 5.0 + f64::from(Reason::Hairpin as u8);
    assert_eq!(of("shunt_port_drops_total", &[("port", "veth1"), ("reason", "hairpin")]), Some(hairpin));
    assert_eq!(of("shunt_port_drops_total", &[("port", "veth1"), ("reason", "rx_no_frame")]), Some(7.0));
    assert_eq!(of("shunt_port_drops_total", &[("port", odd), ("reason", "hairpin")]), None, "no series for nothing");
    assert_eq!(of("shunt_drops_total", &[("reason", "rx_no_frame")]), Some(14.0));
    assert_eq!(of("shunt_drops_total", &[("reason", "tx_full")]), Some(0.0), "every reason from the start");
    assert_eq!(of("shunt_fdb_entries_limit", &[("bridge", "br0")]), Some(2048.0));
    assert_eq!(of("shunt_fib_routes", &[("vrf", "blue"), ("family", "ipv6")]), Some(0.0));
    assert_eq!(of("shunt_worker_burst_packets_bucket", &[("le", "127.0"), ("worker", "0")]), Some(0.0));
    assert_eq!(of("shunt_queue_worker", &[("port", "veth1"), ("queue", "1")]), Some(1.0));
    assert_eq!(of("shunt_sflow_datagrams_lost_total", &[]), Some(1.0));
    assert_eq!(of("shunt_sflow_samples_total", &[("kind", "drop")]), Some(3.0));
    assert_eq!(of("shunt_sflow_samples_lost_total", &[]), Some(5.0));
    assert_eq!(of("shunt_control_transactions_total", &[]), Some(1.0));
    assert_eq!(of("shunt_control_apply_seconds_count", &[]), Some(1.0));
}

/// A sum that went back would look like a restart, and as many new drops.
#[test]
fn drops_of_a_port_that_goes_stay_in_the_sum() {
    let (source, dataplane) =
        source([port("a", "br0", 5, &[Reason::Hairpin]), port("b", "br0", 9, &[Reason::Hairpin])]);
    let sum = || value(&parse(&metrics::encode(&source).expect("text")), "shunt_drops_total", &[("reason", "hairpin")]);
    let before = sum();
    assert_eq!(before, Some(14.0 + 2.0 * f64::from(Reason::Hairpin as u8)));
    let rest = || Rest { workers: dataplane.watched(), ..Rest::default() };
    source.directory.update([("a".to_owned(), None)], rest());
    assert_eq!(sum(), before);
    source.directory.update([port("b", "br0", 0, &[])], rest());
    assert_eq!(sum(), before, "its counters began anew");
}

/// A thousand ports with every reason: 41 000 series.
#[test]
fn a_thousand_ports() {
    let (source, _dataplane) = source(many_ports(1000));
    let text = metrics::encode(&source).expect("text");
    let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(series("shunt_port_receive_bytes_total{"), 1000);
    assert_eq!(series("shunt_port_drops_total{"), 1000 * Reason::COUNT);
    assert!(text.ends_with("# EOF\n"));
}

fn serve(ports: u64, limits: Limits) -> (SocketAddr, Dataplane) {
    let (source, dataplane) = source(many_ports(ports));
    match server::start(&Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), source, limits) {
        Ok(Address::Tcp(address)) => (address, dataplane),
        other => panic!("not served: {other:?}"),
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).expect("it listens")
}

/// Sends a request and reads until the end.
fn ask(mut stream: impl Read + Write, request: &str) -> String {
    // A request that is refused may be cut off before all of it was taken.
    let written = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    for error in [written.err(), stream.read_to_end(&mut answer).err()].into_iter().flatten() {
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    }
    String::from_utf8(answer).expect("text")
}

const GOOD: &str = "GET /metrics HTTP/1.1\r\nHost: shunt\r\n\r\n";

#[test]
fn requests_good_and_bad() {
    let (address, _dataplane) = serve(1, Limits::default());
    let answer = ask(connect(address), GOOD);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert_eq!(value(&parse(body), "shunt_port_queues", &[("port", "veth00000001")]), Some(2.0));
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    for (request, status) in [
        ("HEAD /metrics HTTP/1.1\r\nHost: shunt\r\n\r\n", "200"),
        ("GET /metrics?a=b HTTP/1.0\r\n\r\n", "200"),
        ("GET / HTTP/1.1\r\nHost: shunt\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: shunt\r\nContent-Length: 0\r\n\r\n", "405"),
        ("GET\r\n\r\n", "400"),
        ("\u{16}\u{3}\u{1} garbage \u{0}\r\n\r\n", "400"),
        ("GET /metrics HTTP/9.9\r\n\r\n", "400"),
        (&long, "431"),
    ] {
        let answer = ask(connect(address), request);
        let is_told = answer.starts_with("HTTP/1") && answer.split(' ').nth(1) == Some(status);
        assert!(is_told || answer.is_empty() && status == "431", "{request:.40}: {answer:.80}");
    }
    assert!(ask(connect(address), GOOD).ends_with("# EOF\n"), "and still it serves");
}

/// Connections that say nothing, a part, garbage, or ask and do not read: whoever asks and reads is served all the same.
#[test]
fn two_thousand_bad_clients() {
    const BAD: usize = 2000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("to the hard limit");
    let limits =
        Limits { request: Duration::from_secs(600), connection: Duration::from_secs(600), ..Limits::default() };
    let (address, _dataplane) = serve(100, limits);
    let says = ["", "GET /met", "\u{16}\u{3}\u{1} garbage\r\n\r\n", GOOD];
    let mut bad = Vec::new();
    for n in 0..BAD {
        let mut stream = connect(address);
        // It may have given way already.
        let _ = stream.write_all(says[n % says.len()].as_bytes());
        stream.set_nonblocking(true).expect("a socket");
        bad.push(stream);
        if n % 500 == 0 {
            assert!(ask(connect(address), GOOD).ends_with("# EOF\n"), "after {n}");
        }
    }
    assert!(ask(connect(address), GOOD).ends_with("# EOF\n"));
    let is_open = |mut stream: &TcpStream| loop {
        match stream.read(&mut [0; 1 << 16]) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
            _ => break false,
        }
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while bad.iter().filter(|stream| is_open(stream)).count() > limits.connections {
        assert!(Instant::now() < deadline, "the oldest did not give way");
        std::thread::yield_now();
    }
}

#[test]
fn who_does_not_ask_is_sent_away() {
    let limits = Limits { request: Duration::from_millis(50), ..Limits::default() };
    let (address, _dataplane) = serve(1, limits);
    for part in ["", "GET /metrics HTTP/1.1\r\nHost: "] {
        assert!(!ask(connect(address), part).contains("200"));
    }
}

/// Over a Unix socket, whose buffers are small: what is left of the answer goes with the connection.
#[test]
fn who_does_not_read_is_sent_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("metrics.sock");
    let (source, _dataplane) = source(many_ports(300));
    let limits = Limits { connection: Duration::from_secs(1), ..Limits::default() };
    server::start(&Address::Unix(path.clone()), source, limits).expect("it serves");
    let connect = || UnixStream::connect(&path).expect("it listens");
    let whole = ask(connect(), GOOD);
    assert!(whole.ends_with("# EOF\n"));
    let mut slow = connect();
    slow.write_all(GOOD.as_bytes()).expect("taken");
    // One that came later was sent away: so was the slow one.
    assert_eq!(ask(connect(), ""), "");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("text");
    assert!(answer.len() < whole.len() / 2, "{} of {}", answer.len(), whole.len());
}
