//! How is a program tied to a device so that the tie ends with the process, however it ends?
//!
//! By a BPF link: the descriptor is the attachment. It is moved to a number above all sockets: a dying process releases its
//! last descriptor first (its files go onto task_work, a stack), each link takes a moment, and each socket a whole RCU grace
//! period, so links that came after the sockets would keep 1000 devices for some 12 s.

use crate::error::SyscallError;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// include/uapi/linux/bpf.h
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
/// include/uapi/linux/if_link.h
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// The head of `union bpf_attr` for BPF_LINK_CREATE; the kernel takes a shorter one as padded with zeroes. For tcx those say: after
/// all others.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Where in the receive path the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// In the driver, before an skb exists.
    Native,
    /// In the stack.
    Generic,
    /// In the stack, on an skb, when packets have come in (tcx).
    Ingress,
}

/// A program attached to a device until this is dropped, or the process ends.
pub(crate) struct Link {
    fd: OwnedFd,
}

impl Link {
    /// Attaches the program.
    pub(crate) fn attach(
        program: BorrowedFd<'_>,
        ifindex: u32,
        object: &str,
        hook: Hook,
    ) -> Result<Self, SyscallError> {
        let attributes = LinkCreate {
            prog_fd: program.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: if hook == Hook::Ingress { BPF_TCX_INGRESS } else { BPF_XDP },
            flags: match hook {
                Hook::Native => XDP_FLAGS_DRV_MODE,
                Hook::Generic => XDP_FLAGS_SKB_MODE,
                Hook::Ingress => 0,
            },
        };
        // SAFETY: the attributes are as long as the kernel is told, and the call keeps no pointer to them.
        let fd =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, &raw const attributes, size_of_val(&attributes)) };
        if fd < 0 {
            return Err(SyscallError::last("bpf(BPF_LINK_CREATE)", object));
        }
        // SAFETY: a descriptor that the kernel has just given us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        Ok(Self { fd: above_sockets(fd) })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Closing is enough unless somebody has a copy, such as a child between fork and exec. Where this fails, the device
        // is gone, and there is nothing to detach from.
        let attributes = [self.fd.as_raw_fd() as u32];
        // SAFETY: the head of `union bpf_attr` for BPF_LINK_DETACH is the link's descriptor; as for BPF_LINK_CREATE.
        unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_DETACH, &raw const attributes, size_of_val(&attributes)) };
    }
}

/// The descriptor under a number above those of all sockets, or as it is if the limit of open files leaves no such number.
fn above_sockets(fd: OwnedFd) -> OwnedFd {
    let limit = crate::kernel::open_files_limit();
    rustix::io::fcntl_dupfd_cloexec(&fd, first_link_number(limit)).unwrap_or(fd)
}

/// Half of what the process may open is for links, but not beyond what makes the kernel's table of descriptors large.
fn first_link_number(limit: u64) -> RawFd {
    (limit / 2).min(1 << 16) as RawFd
}
