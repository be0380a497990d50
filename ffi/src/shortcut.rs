//! How does a packet get from one device to another inside the kernel, by decisions that the switch leaves there?
//!
//! One tcx program for all devices, and memory that it shares with the switch, so that a decision is left, and withdrawn,
//! without a system call. What the memory means is the switch's business (`table::shortcut`); here is how large it is.

use crate::link::{Hook, Link};
use crate::program::{LOADER, ProgramError};
use crate::words::Words;
use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Words of a shortcut: `struct shortcut` of bpf/shortcut.bpf.c.
pub const SHORTCUT_WORDS: usize = 16;
/// Shortcuts of a bucket.
pub const WAYS: usize = 4;
/// Buckets.
pub const BUCKETS: usize = 1 << 14;
/// What a shortcut depends on.
pub const DEPENDS: usize = 5;
/// Words that change when something changes that shortcuts depend on. Behind them is the secret of the hash.
pub const EPOCHS: usize = 1 << 16;
/// Devices that may have the program: a place has the counters of one of them, and is the VID of the tag with which packets
/// come to the switch.
pub const PLACES: usize = 1 << 12;
/// Words of a place's counters on one processor: `struct counters` of bpf/shortcut.bpf.c.
pub const COUNTER_WORDS: usize = 8;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shortcut.bpf.o"));

/// The loaded program and its memory.
pub struct Program {
    ebpf: Ebpf,
    table: Arc<Words>,
    epochs: Arc<Words>,
    counters: Arc<Words>,
    devices: Arc<Devices>,
}

type Devices = Mutex<HashMap<MapData, u32, [u32; 2]>>;

/// The program on a device, until this is dropped or the process ends.
pub struct Attached {
    // First: nothing must come in any more when the device is forgotten.
    link: Option<Link>,
    ifindex: u32,
    devices: Arc<Devices>,
}

impl Program {
    /// Loads the program; it is attached to nothing yet.
    ///
    /// # Errors
    /// If the kernel refuses it, or does not keep loads in order (only x86-64 does), on which the program relies.
    pub fn load() -> Result<Self, ProgramError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(ProgramError::new("load", std::io::Error::other("kernel offload is for x86-64 only")));
        }
        let possible = aya::util::nr_cpus().map_err(|(file, error)| {
            ProgramError::new("count processors", std::io::Error::other(format!("{file}: {error}")))
        })?;
        let mut ebpf = {
            let mut loader = LOADER.lock().unwrap_or_else(PoisonError::into_inner);
            loader.map_max_entries("counters", (possible * PLACES) as u32);
            loader.load(OBJECT).map_err(|error| ProgramError::new("load", error))?
        };
        let words = |map: Option<&Map>, len: usize| {
            let Some(Map::Array(data)) = map else { unreachable!("the object has these arrays") };
            Words::of_map(data.fd().as_fd(), len).map(Arc::new).map_err(|error| ProgramError::new("map memory", error))
        };
        let table = words(ebpf.map("shortcuts"), BUCKETS * WAYS * SHORTCUT_WORDS)?;
        let epochs = words(ebpf.map("epochs"), EPOCHS + 1)?;
        let counters = words(ebpf.map("counters"), possible * PLACES * COUNTER_WORDS)?;
        let devices = HashMap::try_from(ebpf.take_map("devices").expect("the object has it"));
        let devices = devices.map_err(|error| ProgramError::new("open the devices map", error))?;
        let program: &mut SchedClassifier = ebpf
            .program_mut("shortcut")
            .expect("the object has it")
            .try_into()
            .map_err(|error: aya::programs::ProgramError| ProgramError::new("load", error))?;
        program.load().map_err(|error| ProgramError::new("load", error))?;
        Ok(Self { ebpf, table, epochs, counters, devices: Arc::new(Mutex::new(devices)) })
    }

    fn program(&self) -> &SchedClassifier {
        let program = self.ebpf.program("shortcut").and_then(|program| program.try_into().ok());
        program.expect("loading found it")
    }

    /// [`BUCKETS`] times [`WAYS`] shortcuts.
    pub fn table(&self) -> &Arc<Words> {
        &self.table
    }

    /// [`EPOCHS`] words, then the secret of the hash.
    pub fn epochs(&self) -> &Arc<Words> {
        &self.epochs
    }

    /// [`PLACES`] blocks for each processor.
    pub fn counters(&self) -> &Arc<Words> {
        &self.counters
    }

    /// Takes over what comes in by the device: what has no shortcut goes to `punt_ifindex`, with an 802.1ad tag of VID `place`
    /// (less than [`PLACES`]).
    pub fn attach(&self, ifindex: u32, name: &str, place: u16, punt_ifindex: u32) -> Result<Attached, ProgramError> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let written = devices.insert(ifindex, [punt_ifindex, place.into()], 0);
        written.map_err(|error| ProgramError::new("write the devices map", error))?;
        drop(devices);
        let mut attached = Attached { link: None, ifindex, devices: Arc::clone(&self.devices) };
        let fd = self.program().fd().map_err(|error| ProgramError::new("open", error))?;
        attached.link = Some(Link::attach(fd.as_fd(), ifindex, &format!("{name} (ifindex {ifindex})"), Hook::Ingress)?);
        Ok(attached)
    }

    /// Runs the program on one frame as if it had come in by the device `ifindex`, for tests. Returns the verdict and the frame
    /// as the program left it.
    ///
    /// # Panics
    /// If the kernel does not run it.
    pub fn try_on(&self, ifindex: u32, frame: &[u8]) -> (i32, Vec<u8>) {
        let mut out = vec![0; frame.len() + 64];
        // struct __sk_buff: `ifindex` is its eleventh word.
        let mut context = [0; 192];
        context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = self.program().test_run(options).expect("the kernel runs the program");
        let len = result.data_size_out as usize;
        out.truncate(len);
        (result.return_value as i32, out)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.link = None;
        // Where this fails it was never entered.
        let _ = self.devices.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.ifindex);
    }
}

/// Now as the program tells time: units of 2^30 ns of CLOCK_MONOTONIC, a good second each.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    (time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()) >> 30
}
