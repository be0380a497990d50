//! How are millions of frames a second put onto a device?
//!
//! A BPF program runs under `BPF_PROG_TEST_RUN` with live frames: the kernel calls it once per frame, it fills in
//! addresses and redirects the frame to the device. One call makes [`FRAMES_PER_CALL`] frames, because setting a call
//! up takes some 20 ms in which nothing is sent; once told to stop, the program throws the rest of its call away.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use aya::maps::{Array, MapData};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::frame;
use crate::netns::{self, Netns};
use crate::process::NICENESS;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/generator.o"));

/// Frames made, or held back, in one call of the kernel: seconds of traffic, a quarter of a second to throw away.
const FRAMES_PER_CALL: u32 = 16_000_000;
/// Frames that the kernel redirects at a time.
const FRAMES_PER_BATCH: u32 = 64;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Octets of a frame.
    pub size: u32,
    /// Combinations of IP addresses and ports.
    pub flows: u32,
    /// Addresses on each side.
    pub macs: u32,
    /// Third octet of the source addresses.
    pub from: u8,
    /// Third octet of the destination addresses.
    pub to: u8,
    /// Frames a second; as fast as possible if none.
    pub rate: Option<u64>,
    /// Number of frames to send; no end if none.
    pub count: Option<u64>,
}

/// A generator at work; it ends when dropped.
pub struct Generator {
    state: Array<MapData, [u64; 4]>,
    stop: Array<MapData, u32>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Generator {
    /// Starts sending from `device` in `namespace`, on `core`. Its peer must be able to take redirected frames: it has
    /// an XDP program, or GRO.
    pub fn start(namespace: &Netns, device: &str, core: usize, traffic: &Traffic) -> Result<Self> {
        let ifindex = namespace.within(|| ifindex(device))??;
        let mut bpf = load(ifindex, traffic)?;
        let state = Array::try_from(bpf.take_map("STATE").context("the generator has no STATE")?)?;
        let stop = Array::try_from(bpf.take_map("STOP").context("the generator has no STOP")?)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&stopping);
        let path = namespace.path();
        let template = frame::template(traffic.size as usize, traffic.from, traffic.to);
        let thread = std::thread::Builder::new()
            .name("generator".to_owned())
            .spawn(move || send(&bpf, &watched, &path, core, &template))
            .context("cannot start the generator's thread")?;
        Ok(Self { state, stop, stopping, thread: Some(thread) })
    }

    /// Frames sent so far.
    pub fn sent(&self) -> Result<u64> {
        Ok(self.state.get(&0, 0).context("cannot read the generator's counters")?[0])
    }

    /// Fails if the generator has ended by itself.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.thread.take_if(|thread| thread.is_finished()) {
            Some(thread) => Err(join(thread).err().unwrap_or_else(|| anyhow!("the generator ended too early"))),
            None => Ok(()),
        }
    }

    /// Ends it and gives back how many frames it has sent in all.
    pub fn stop(mut self) -> Result<u64> {
        self.end()?;
        self.sent()
    }

    fn end(&mut self) -> Result<()> {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop.set(0, 1, 0).context("cannot stop the generator")?;
        self.thread.take().map_or(Ok(()), join)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("shunt-perf: {error:#}");
        }
    }
}

fn load(ifindex: u32, traffic: &Traffic) -> Result<Ebpf> {
    // In 1/1024 ns, as the program counts.
    let interval = traffic.rate.map_or(0, |rate| (1_000_000_000 << 10) / rate);
    let frames_max = traffic.count.unwrap_or(0);
    let mut bpf = EbpfLoader::new()
        .override_global("TARGET_IFINDEX", &ifindex, true)
        .override_global("FLOWS", &traffic.flows, true)
        .override_global("MACS", &traffic.macs, true)
        .override_global("INTERVAL", &interval, true)
        .override_global("FRAMES_MAX", &frames_max, true)
        .load(OBJECT)
        .context("cannot load the generator's program")?;
    program(&mut bpf, "generate")?.load().context("the kernel refuses the generator's program")?;
    Ok(bpf)
}

/// An XDP program of an object, by its name in the C source.
pub(crate) fn program<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = bpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    program.try_into().with_context(|| format!("{name} is not an XDP program"))
}

/// The device's number in the calling thread's namespace.
pub(crate) fn ifindex(device: &str) -> Result<u32> {
    // sysfs shows the namespace that mounted it, so ask a socket instead.
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    rustix::net::netdevice::name_to_index(&socket, device).with_context(|| format!("there is no device {device}"))
}

/// The thread's work: calls the kernel until told to stop.
fn send(bpf: &Ebpf, stopping: &AtomicBool, namespace: &Path, core: usize, template: &[u8]) -> Result<()> {
    netns::enter(namespace)?;
    pin(core)?;
    setpriority_process(Some(rustix::thread::gettid()), NICENESS).context("cannot raise the generator's priority")?;
    let program: &Xdp = bpf.program("generate").context("the object has no program generate")?.try_into()?;
    while !stopping.load(Ordering::Relaxed) {
        let options = TestRunOptions {
            data_in: Some(template),
            repeat: FRAMES_PER_CALL,
            attrs: TestRunAttrs::new().xdp_live_frames(FRAMES_PER_BATCH),
            ..TestRunOptions::new()
        };
        program.test_run(options).context("the kernel does not run the generator (live frames need Linux 5.18)")?;
    }
    Ok(())
}

/// Binds the calling thread to a core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot run on core {core}; choose another one"))
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
