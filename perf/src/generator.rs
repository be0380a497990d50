//! How are millions of frames a second put onto a device?
//!
//! A BPF program runs under `BPF_PROG_TEST_RUN` with live frames: the kernel calls it once per frame, it fills in
//! addresses and redirects the frame to the device. One call makes [`FRAMES_PER_CALL`] frames, because setting a call
//! up takes some 20 ms in which nothing is sent; once told to stop, the program throws the rest of its call away.
//!
//! Frames that do not fit into a page go through an AF_XDP socket instead, see [`socket`](crate::socket).

use std::path::{Path, PathBuf};
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
use crate::load::{IN_KERNEL_SIZE_MAX, Size};
use crate::netns::{self, Netns};
use crate::process::NICENESS;
use crate::socket;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/generator.o"));

/// Frames made, or held back, in one call of the kernel: seconds of traffic, a quarter of a second to throw away.
const FRAMES_PER_CALL: u32 = 16_000_000;
/// Entries of the program's pattern of sizes.
const PATTERN_MAX: usize = 12;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Sizes of the frames.
    pub size: Size,
    /// Whether they have a tag.
    pub tagged: bool,
    /// Combinations of IP addresses and ports.
    pub flows: u32,
    /// Addresses on each side.
    pub macs: u32,
    /// Third octet of the source addresses.
    pub from: u8,
    /// Third octet of the destination addresses.
    pub to: u8,
    /// Number of frames to send; no end if none.
    pub count: Option<u64>,
    /// Each so manieth frame carries the time of its sending; 0 is none.
    pub sample_every: u64,
    /// Frames that the kernel redirects at a time: many are cheap, but each waits for the last of them.
    pub batch: u32,
}

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nothing for now.
    Held,
    /// Frames a second.
    Rate(u64),
    /// As many as possible.
    FlatOut,
}

impl Pace {
    /// Time between frames in 1/1024 ns, as the BPF program counts.
    pub(crate) fn interval(self) -> u64 {
        match self {
            Self::Held => u64::MAX,
            Self::Rate(rate) => (1_000_000_000 << 10) / rate.max(1),
            Self::FlatOut => 0,
        }
    }
}

/// A generator at work; it ends when dropped.
pub struct Generator {
    way: Way,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Where the frames are made.
enum Way {
    Kernel(Box<Maps>),
    Socket(Arc<socket::Shared>),
}

/// The BPF program's maps.
struct Maps {
    state: Array<MapData, [u64; 6]>,
    control: Array<MapData, [u64; 2]>,
}

impl Generator {
    /// Starts, sending nothing yet, on `device` in `namespace`, on `core`. Its peer must be able to take redirected frames:
    /// it has an XDP program, or GRO.
    pub fn start(namespace: &Netns, device: &str, core: usize, traffic: &Traffic) -> Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&stopping);
        let (path, traffic) = (namespace.path(), *traffic);
        let builder = std::thread::Builder::new().name("generator".to_owned());
        let (way, thread) = if traffic.size.max() > IN_KERNEL_SIZE_MAX {
            let shared = Arc::new(socket::Shared::new(Pace::Held));
            let (theirs, device) = (Arc::clone(&shared), device.to_owned());
            let work = move || socket::send(&device, &traffic, &theirs, &watched);
            (Way::Socket(shared), builder.spawn(move || prepare(&path, core).and_then(|()| work())))
        } else {
            let ifindex = namespace.within(|| ifindex(device))??;
            let mut bpf = load(ifindex, &traffic)?;
            let state = Array::try_from(bpf.take_map("STATE").context("the generator has no STATE")?)?;
            let mut control = Array::try_from(bpf.take_map("CONTROL").context("the generator has no CONTROL")?)?;
            control.set(0, [Pace::Held.interval(), 0], 0).context("cannot hold the generator")?;
            let work = move || send(&bpf, &watched, &traffic);
            (
                Way::Kernel(Box::new(Maps { state, control })),
                builder.spawn(move || prepare(&path, core).and_then(|()| work())),
            )
        };
        Ok(Self { way, stopping, thread: Some(thread.context("cannot start the generator's thread")?) })
    }

    /// Changes how fast it sends.
    pub fn set_pace(&mut self, pace: Pace) -> Result<()> {
        match &mut self.way {
            Way::Kernel(maps) => {
                maps.control.set(0, [pace.interval(), 0], 0).context("cannot set the generator's pace")
            }
            Way::Socket(shared) => {
                shared.set_pace(pace);
                Ok(())
            }
        }
    }

    /// Frames sent so far.
    pub fn sent(&self) -> Result<u64> {
        match &self.way {
            Way::Kernel(maps) => Ok(maps.state.get(&0, 0).context("cannot read the generator's counters")?[0]),
            Way::Socket(shared) => Ok(shared.sent()),
        }
    }

    /// Fails if the generator has ended by itself.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.thread.take_if(|thread| thread.is_finished()) {
            Some(thread) => Err(join(thread).err().unwrap_or_else(|| anyhow!("the generator ended too early"))),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.stopping.store(true, Ordering::Relaxed);
        if let Way::Kernel(maps) = &mut self.way {
            maps.control.set(0, [Pace::Held.interval(), 1], 0).context("cannot stop the generator")?;
        }
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
    let frame_of = |size| frame::tagged_template(size as usize, traffic.tagged, traffic.from, traffic.to);
    let l3 = frame::ethernet_len(traffic.tagged);
    let mut ethernet = [0_u16; 9];
    let first = frame_of(traffic.size.max());
    for (word, octets) in ethernet.iter_mut().zip(first[..l3].chunks_exact(2)) {
        *word = u16::from_ne_bytes([octets[0], octets[1]]);
    }
    let pattern = traffic.size.pattern();
    let (mut sizes, mut checksums) = ([0_u16; PATTERN_MAX], [0_u16; PATTERN_MAX]);
    for (at, size) in pattern.iter().enumerate() {
        let frame = frame_of(*size);
        sizes[at] = frame.len() as u16;
        checksums[at] = u16::from_ne_bytes([frame[l3 + 10], frame[l3 + 11]]);
    }
    let (l3, pattern_len, frames_max) = (l3 as u32, pattern.len() as u32, traffic.count.unwrap_or(0));
    let mut bpf = EbpfLoader::new()
        .override_global("TARGET_IFINDEX", &ifindex, true)
        .override_global("FLOWS", &traffic.flows, true)
        .override_global("MACS", &traffic.macs, true)
        .override_global("FRAMES_MAX", &frames_max, true)
        .override_global("SAMPLE_EVERY", &traffic.sample_every, true)
        .override_global("ETHERNET", &ethernet, true)
        .override_global("L3", &l3, true)
        .override_global("PATTERN_LEN", &pattern_len, true)
        .override_global("SIZES", &sizes, true)
        .override_global("CHECKSUMS", &checksums, true)
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

/// What every generator's thread begins with.
fn prepare(namespace: &PathBuf, core: usize) -> Result<()> {
    netns::enter(Path::new(namespace))?;
    pin(core)?;
    setpriority_process(Some(rustix::thread::gettid()), NICENESS).context("cannot raise the generator's priority")
}

/// The thread's work: calls the kernel until told to stop.
fn send(bpf: &Ebpf, stopping: &AtomicBool, traffic: &Traffic) -> Result<()> {
    let template = frame::tagged_template(traffic.size.max() as usize, traffic.tagged, traffic.from, traffic.to);
    let program: &Xdp = bpf.program("generate").context("the object has no program generate")?.try_into()?;
    while !stopping.load(Ordering::Relaxed) {
        let options = TestRunOptions {
            data_in: Some(&template),
            repeat: FRAMES_PER_CALL,
            attrs: TestRunAttrs::new().xdp_live_frames(traffic.batch),
            ..TestRunOptions::new()
        };
        match program.test_run(options) {
            // The kernel gives up for any work that waits for the thread.
            Err(error) if is_interruption(&error) => {}
            Err(error) => {
                return Err(error).context("the kernel does not run the generator (live frames need Linux 5.18)");
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn is_interruption(error: &(dyn std::error::Error + 'static)) -> bool {
    let io =
        |error: &(dyn std::error::Error + 'static)| error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| io(error) == Some(std::io::ErrorKind::Interrupted))
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
