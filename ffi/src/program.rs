//! Which frames of a device come to the switch? The XDP program, its maps, and the VLANs it is told to take.

use crate::error::SyscallError;
use aya::maps::{Array, MapData, XskMap};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Most queues of one device: QUEUES_MAX in bpf/redirect.bpf.c.
pub const QUEUES_MAX: u32 = 64;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect.bpf.o"));

/// One for the whole process: making one parses the types of the running kernel, which takes some 20 ms and is not needed, as
/// nothing in the program is relocated against them.
static LOADER: LazyLock<Mutex<EbpfLoader<'static>>> = LazyLock::new(|| {
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

/// `struct claims` of bpf/redirect.bpf.c: the flag "everything", then a bit for each VID.
type ClaimsValue = [u64; 1 + 4096 / 64];

impl Claims {
    fn value(&self) -> ClaimsValue {
        let mut value = [0; 1 + 4096 / 64];
        match self {
            Claims::Everything => value[0] = 1,
            Claims::Vlans(vids) => {
                for vid in vids.iter().map(|vid| usize::from(vid & 0xfff)) {
                    value[1 + vid / 64] |= 1 << (vid % 64);
                }
            }
        }
        value
    }
}

/// A loaded program with its maps, not yet attached. The program keeps the maps alive, its attachment the program.
pub(crate) struct Program {
    ebpf: Ebpf,
    sockets: XskMap<MapData>,
    claims: ClaimsMap,
}

/// The map that says which frames the program takes; it can be written while the program runs.
pub(crate) struct ClaimsMap(Array<MapData, ClaimsValue>);

impl ClaimsMap {
    /// Makes the program take what `claims` says from now on.
    pub(crate) fn set(&mut self, claims: &Claims) -> Result<(), ProgramError> {
        self.0.set(0, claims.value(), 0).map_err(|error| ProgramError::new("write the claims map", error))
    }
}

/// The XDP program could not be loaded or told what to do.
#[derive(Debug, thiserror::Error)]
#[error(
    "XDP program: cannot {what}: {reason} (run as root, or with CAP_BPF and CAP_NET_ADMIN, on kernel 6.6 or later)"
)]
pub struct ProgramError {
    what: &'static str,
    reason: String,
}

impl ProgramError {
    fn new(what: &'static str, reason: impl std::error::Error) -> Self {
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

impl Program {
    /// Loads the program for a device with `queues` queues; it takes nothing yet.
    pub(crate) fn load(queues: u32) -> Result<Self, ProgramError> {
        let mut ebpf = LOADER
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map_max_entries("sockets", queues)
            .load(OBJECT)
            .map_err(|error| ProgramError::new("load", error))?;
        let program: &mut Xdp = ebpf
            .program_mut("redirect")
            .expect("the object has it")
            .try_into()
            .map_err(|error: aya::programs::ProgramError| ProgramError::new("load", error))?;
        program.load().map_err(|error| ProgramError::new("load", error))?;
        let sockets = XskMap::try_from(ebpf.take_map("sockets").expect("the object has it"));
        let claims = Array::try_from(ebpf.take_map("claims").expect("the object has it"));
        Ok(Self {
            ebpf,
            sockets: sockets.map_err(|error| ProgramError::new("open the sockets map", error))?,
            claims: ClaimsMap(claims.map_err(|error| ProgramError::new("open the claims map", error))?),
        })
    }

    /// Frames of `queue` go to this socket.
    pub(crate) fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), ProgramError> {
        self.sockets
            .set(queue, socket.as_raw_fd(), 0)
            .map_err(|error| ProgramError::new("write the sockets map", error))
    }

    pub(crate) fn claims(&mut self) -> &mut ClaimsMap {
        &mut self.claims
    }

    /// Keeps only what a running attachment needs.
    pub(crate) fn into_claims(self) -> ClaimsMap {
        self.claims
    }

    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>, ProgramError> {
        let program: &Xdp = self
            .ebpf
            .program("redirect")
            .expect("the object has it")
            .try_into()
            .map_err(|error: aya::programs::ProgramError| ProgramError::new("open", error))?;
        Ok(program.fd().map_err(|error| ProgramError::new("open", error))?.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_become_the_words_that_the_program_reads() {
        assert_eq!(Claims::Everything.value()[0], 1);
        let value = Claims::Vlans(vec![0, 181, 4095]).value();
        assert_eq!((value[0], value[1], value[1 + 181 / 64], value[64]), (0, 1, 1 << (181 % 64), 1 << 63));
        assert_eq!(value.iter().map(|word| word.count_ones()).sum::<u32>(), 3);
    }
}
