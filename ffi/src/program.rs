//! Which frames of a device come to the switch? The XDP program, its maps, and the VLANs it is told to take.

use crate::error::SyscallError;
use aya::EbpfLoader;
use aya::maps::{Array, MapData, XskMap};
use aya::programs::Xdp;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Most queues of one device: QUEUES_MAX in bpf/redirect.bpf.c.
pub const QUEUES_MAX: u32 = 64;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect.bpf.o"));

/// One for the whole process: making one parses the types of the running kernel, which takes some 20 ms and is not needed, as
/// nothing in the program is relocated against them.
pub(crate) static LOADER: LazyLock<Mutex<EbpfLoader<'static>>> = LazyLock::new(|| {
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    Mutex::new(loader)
});

/// Which frames of a device belong to the switch. All others go on to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claims {
    /// All of them.
    Everything,
    /// Those whose outermost tag is 802.1Q (TPID 0x8100) with one of these VIDs. An empty list takes nothing.
    Vlans(Vec<u16>),
}

/// `struct claims` of bpf/redirect.bpf.c: the device, the flag "everything", then a bit for each VID.
type ClaimsValue = [u64; 2 + 4096 / 64];

impl Claims {
    fn value(&self, ifindex: u32) -> ClaimsValue {
        let mut value = [0; 2 + 4096 / 64];
        value[0] = ifindex.into();
        match self {
            Claims::Everything => value[1] = 1,
            Claims::Vlans(vids) => {
                for vid in vids.iter().map(|vid| usize::from(vid & 0xfff)) {
                    value[2 + vid / 64] |= 1 << (vid % 64);
                }
            }
        }
        value
    }
}

/// Devices that share one loaded program: DEVICES in bpf/redirect.bpf.c.
const DEVICES: u32 = 1024;

/// A loaded program with its maps, for all devices whose numbers differ modulo [`DEVICES`].
struct Shared {
    program: Arc<OwnedFd>,
    sockets: XskMap<MapData>,
    claims: Array<MapData, ClaimsValue>,
    taken: [bool; DEVICES as usize],
}

/// All that are loaded: mostly one. The first in which a device's place is free takes it.
static SHARED: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

fn shared() -> MutexGuard<'static, Vec<Shared>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A device's place in a loaded program, not yet attached.
pub(crate) struct Program {
    program: Arc<OwnedFd>,
    place: ClaimsMap,
}

/// A device's place in a loaded program, which says what is taken from the device; it can be written while the program runs.
/// When dropped, the place is free for another device, so the program must be detached before.
pub(crate) struct ClaimsMap {
    /// Which of [`SHARED`].
    program: usize,
    ifindex: u32,
}

impl ClaimsMap {
    /// Makes the program take what `claims` says from now on.
    pub(crate) fn set(&mut self, claims: &Claims) -> Result<(), ProgramError> {
        self.write(claims.value(self.ifindex))
    }

    fn write(&self, value: ClaimsValue) -> Result<(), ProgramError> {
        let written = shared()[self.program].claims.set(self.ifindex % DEVICES, value, 0);
        written.map_err(|error| ProgramError::new("write the claims map", error))
    }
}

impl Drop for ClaimsMap {
    fn drop(&mut self) {
        // Nothing is attached any more that would read it.
        let _ = self.write([0; 2 + 4096 / 64]);
        shared()[self.program].taken[(self.ifindex % DEVICES) as usize] = false;
    }
}

/// The XDP program could not be loaded or told what to do.
#[derive(Debug, thiserror::Error)]
#[error(
    "BPF program: cannot {what}: {reason} (run as root, or with CAP_BPF and CAP_NET_ADMIN, on kernel 6.6 or later)"
)]
pub struct ProgramError {
    what: &'static str,
    reason: String,
}

impl ProgramError {
    pub(crate) fn new(what: &'static str, reason: impl std::error::Error) -> Self {
        // aya keeps the kernel's answer in the chain of causes.
        let mut text = reason.to_string();
        let mut cause = reason.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        Self { what, reason: text }
    }
}

impl From<SyscallError> for ProgramError {
    fn from(error: SyscallError) -> Self {
        Self::new("attach", error)
    }
}

impl Shared {
    fn load() -> Result<Self, ProgramError> {
        let mut ebpf = LOADER
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .load(OBJECT)
            .map_err(|error| ProgramError::new("load", error))?;
        let program: &mut Xdp = ebpf
            .program_mut("redirect")
            .expect("the object has it")
            .try_into()
            .map_err(|error: aya::programs::ProgramError| ProgramError::new("load", error))?;
        program.load().map_err(|error| ProgramError::new("load", error))?;
        let fd = program.fd().map_err(|error| ProgramError::new("open", error))?;
        let fd = fd.as_fd().try_clone_to_owned().map_err(|error| ProgramError::new("keep", error))?;
        let sockets = XskMap::try_from(ebpf.take_map("sockets").expect("the object has it"));
        let claims = Array::try_from(ebpf.take_map("claims").expect("the object has it"));
        Ok(Self {
            program: Arc::new(fd),
            sockets: sockets.map_err(|error| ProgramError::new("open the sockets map", error))?,
            claims: claims.map_err(|error| ProgramError::new("open the claims map", error))?,
            taken: [false; DEVICES as usize],
        })
    }
}

impl Program {
    /// A place for a device; nothing is taken from it yet.
    pub(crate) fn take(ifindex: u32) -> Result<Self, ProgramError> {
        let place = (ifindex % DEVICES) as usize;
        let mut all = shared();
        let number = match all.iter().position(|shared| !shared.taken[place]) {
            Some(number) => number,
            None => {
                all.push(Shared::load()?);
                all.len() - 1
            }
        };
        all[number].taken[place] = true;
        let program = Arc::clone(&all[number].program);
        Ok(Self { program, place: ClaimsMap { program: number, ifindex } })
    }

    /// Frames of `queue` go to this socket.
    pub(crate) fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), ProgramError> {
        let key = self.place.ifindex % DEVICES * QUEUES_MAX + queue;
        shared()[self.place.program]
            .sockets
            .set(key, socket.as_raw_fd(), 0)
            .map_err(|error| ProgramError::new("write the sockets map", error))
    }

    pub(crate) fn claims(&mut self) -> &mut ClaimsMap {
        &mut self.place
    }

    /// Keeps only what a running attachment needs.
    pub(crate) fn into_claims(self) -> ClaimsMap {
        self.place
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_become_the_words_that_the_program_reads() {
        assert_eq!(Claims::Everything.value(7)[..2], [7, 1]);
        let value = Claims::Vlans(vec![0, 181, 4095]).value(7);
        assert_eq!((value[1], value[2], value[2 + 181 / 64], value[65]), (0, 1, 1 << (181 % 64), 1 << 63));
        assert_eq!(value[1..].iter().map(|word| word.count_ones()).sum::<u32>(), 3);
    }
}
