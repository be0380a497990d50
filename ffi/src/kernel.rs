//! Is this kernel able to run the switch, and do its limits let it?

use crate::error::SyscallError;
use crate::socket::{Copying, RingSizes, Socket};
use crate::umem::Umem;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

/// What the running kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFeatures {
    /// Checksums of what leaves toward containers are completed by their receiver (kernel 6.8). Without it the switch
    /// completes them in software.
    pub tx_checksum: bool,
}

/// The kernel cannot run the switch.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// It lacks a feature.
    #[error(
        "kernel {release}: {missing} is missing; shunt needs Linux 6.6 or later with CONFIG_XDP_SOCKETS=y, and 6.8 for all it can do"
    )]
    TooOld {
        /// `uname -r`.
        release: String,
        /// What was looked for.
        missing: &'static str,
    },
    /// It could not be asked.
    #[error(transparent)]
    Probe(#[from] SyscallError),
}

/// Tries what the switch needs, on the loopback device of the current network namespace, without a program and so without
/// touching any traffic.
pub fn check() -> Result<KernelFeatures, KernelError> {
    let too_old = |missing| KernelError::TooOld { release: release(), missing };
    let socket = match Socket::open("AF_XDP probe on lo".to_owned()) {
        Err(error) if error.errno() == libc::EAFNOSUPPORT => return Err(too_old("AF_XDP")),
        other => other?,
    };
    let umem = Umem::memfd("shunt probe", 16, 2048)?;
    let tx_checksum = socket.register(&umem)?;
    let _rings = socket.rings(RingSizes { rx: 8, tx: 8, fill: 8, completion: 8 })?;
    let lo = ifindex("lo")?;
    match socket.bind(lo, 0, Copying::Copy, true) {
        Ok(()) => Ok(KernelFeatures { tx_checksum }),
        Err(error) if error.errno() == libc::EINVAL => Err(too_old("multi-buffer AF_XDP (XDP_USE_SG)")),
        // Another switch probes at this moment: whoever holds the queue got past XDP_USE_SG.
        Err(error) if error.errno() == libc::EBUSY => Ok(KernelFeatures { tx_checksum }),
        Err(error) => Err(error.into()),
    }
}

/// Raises the limit of open files to the most that there can be, and lifts the limit of locked memory: as far as the
/// process may. Fails if it may not even use its own hard limits.
pub fn raise_limits() -> Result<(), SyscallError> {
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    raise(Resource::Nofile, "limit of open files", Some(most.unwrap_or(1 << 20)))?;
    raise(Resource::Memlock, "limit of locked memory", None)
}

/// To `wanted` (`None` is no limit), or to the hard limit if that is all there is.
fn raise(resource: Resource, object: &str, wanted: Option<u64>) -> Result<(), SyscallError> {
    let now = rustix::process::getrlimit(resource);
    rustix::process::setrlimit(resource, Rlimit { current: wanted, maximum: wanted })
        .or_else(|_| rustix::process::setrlimit(resource, Rlimit { current: now.maximum, maximum: now.maximum }))
        .map_err(|errno| SyscallError::new("setrlimit", object, errno))
}

/// How many descriptors the process may have now.
pub(crate) fn open_files_limit() -> u64 {
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The number of a device in the current network namespace.
pub fn ifindex(name: &str) -> Result<u32, SyscallError> {
    let text = std::ffi::CString::new(name).map_err(|_| SyscallError::new("if_nametoindex", name, Errno::INVAL))?;
    // SAFETY: a string that ends in zero.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(SyscallError::last("if_nametoindex", name)),
        index => Ok(index),
    }
}
