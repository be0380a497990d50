//! What do 1000 devices cost in time and kernel memory, and how fast do they return when the process is killed? (Needs root.)

use shunt_ffi::netns::TestNamespace;
use shunt_ffi::{Attachment, Claims, QueueOptions, WantedMode, XskRx, XskTx};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEVICES: usize = 1000;
/// Kernel memory that one device may take.
const KIB_MAX: i64 = 200;

/// Memory that the kernel uses for itself, in KiB. The areas are not in it: they are the process's.
fn kernel_kib() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|value| value.parse::<i64>().ok()).unwrap_or(0)
    };
    ["SUnreclaim:", "VmallocUsed:", "PageTables:", "Percpu:"].map(field).iter().sum()
}

fn devices() -> (TestNamespace, TestNamespace, Vec<u32>) {
    let (switch, containers) = (TestNamespace::new(), TestNamespace::new());
    let mut script = String::new();
    for n in 0..DEVICES {
        script += &format!("link add sw{n} type veth peer name ct{n} netns {}\nlink set sw{n} up\n", containers.name());
    }
    switch.ip_batch(&script);
    let indices =
        switch.run(|| (0..DEVICES).map(|n| shunt_ffi::kernel::ifindex(&format!("sw{n}")).expect("is there")).collect());
    (switch, containers, indices)
}

type Open = Vec<(Attachment, Vec<(XskRx, XskTx)>)>;

/// In the current namespace.
fn attach_all(indices: &[u32]) -> Open {
    let options = QueueOptions::default();
    let attach = |(n, &ifindex): (usize, &u32)| {
        let name = format!("sw{n}");
        Attachment::open(ifindex, &name, 1, WantedMode::BestEffort, false, &options, &Claims::Everything)
            .expect("attach")
    };
    indices.iter().enumerate().map(attach).collect()
}

fn attached(namespace: &TestNamespace, indices: &[u32]) -> usize {
    let has_program = |&&index: &&u32| shunt_ffi::xdp_query::program_id(index).expect("query").is_some();
    namespace.run(|| indices.iter().filter(has_program).count())
}

#[test]
fn a_thousand_devices_come_and_go() {
    if let Ok(name) = std::env::var("SHUNT_TEST_CHILD_NAMESPACE") {
        return be_killed(&name);
    }
    shunt_ffi::raise_limits().expect("limits");
    let (switch, containers, indices) = devices();
    let start = Instant::now();
    let first = switch.run(|| attach_all(&indices[..1]));
    println!("the first device: {:?}", start.elapsed());
    let before = kernel_kib();
    let start = Instant::now();
    let open = switch.run(|| attach_all(&indices[1..]));
    let took = start.elapsed();
    let kib = (kernel_kib() - before) / (DEVICES as i64 - 1);
    println!("attach: {took:?}, {:?} and {kib} KiB of kernel memory each", took / DEVICES as u32);
    assert_eq!(attached(&switch, &indices), DEVICES);
    assert!(kib < KIB_MAX, "{kib} KiB each");

    let start = Instant::now();
    let (mut attachments, halves): (Vec<_>, Vec<_>) = first.into_iter().chain(open).unzip();
    attachments.iter_mut().for_each(Attachment::detach);
    println!("detach: {:?}", start.elapsed());
    assert_eq!(attached(&switch, &indices), 0);
    drop(halves);
    println!("and free all memory: {:?}", start.elapsed());
    shunt_ffi::drop_all(attachments);
    println!("and free all sockets: {:?}", start.elapsed());

    killed(&switch, &containers, &indices);
}

/// The same in a child process that is killed: how long until no device has a program?
fn killed(switch: &TestNamespace, _containers: &TestNamespace, indices: &[u32]) {
    let mut child = Command::new(std::env::current_exe().expect("ourselves"))
        .args(["--exact", "a_thousand_devices_come_and_go", "--nocapture"])
        .env("SHUNT_TEST_CHILD_NAMESPACE", switch.name())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ourselves again");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("child: attached")), "the child attaches");
    assert_eq!(attached(switch, indices), DEVICES);
    let start = Instant::now();
    child.kill().expect("ours");
    // Asking takes the lock that detaching needs: ask seldom.
    while attached(switch, indices) > 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("kill -9, all devices back: {:?}", start.elapsed());
    child.wait().expect("ours");
    println!("kill -9, process gone: {:?}", start.elapsed());
}

fn be_killed(namespace: &str) {
    shunt_ffi::raise_limits().expect("limits");
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).expect("the parent's namespace");
    let open = shunt_ffi::netns::run_in(std::os::fd::AsFd::as_fd(&file), || {
        let indices: Vec<u32> =
            (0..DEVICES).map(|n| shunt_ffi::kernel::ifindex(&format!("sw{n}")).expect("is there")).collect();
        attach_all(&indices)
    })
    .expect("the parent's namespace");
    println!("child: attached");
    loop {
        std::thread::park();
        assert!(!open.is_empty());
    }
}
