//! How does a device become promiscuous for just as long as somebody wants it?
//!
//! Not by the administrator's flag, which would stay when the process dies, but as a capture does it: through a membership of
//! a packet socket (packet(7), PACKET_MR_PROMISC). The kernel counts memberships, and ends ours with the socket.

use crate::error::SyscallError;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

/// The kernel looks through all memberships of a socket for each new one. Shared out among so many, a thousand cost it little;
/// the end of each socket takes it a grace period.
const SOCKETS: usize = 8;

/// Devices that are promiscuous because of us, in the network namespace of the thread that made this.
#[derive(Debug)]
pub struct Promiscuous {
    /// By device number.
    sockets: Vec<OwnedFd>,
}

impl Promiscuous {
    /// None yet.
    pub fn new() -> Result<Self, SyscallError> {
        let mut sockets = Vec::with_capacity(SOCKETS);
        for _ in 0..SOCKETS {
            // Protocol 0: the socket receives nothing.
            let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)
                .map_err(|error| SyscallError::new("socket(AF_PACKET)", "the daemon", error))?;
            sockets.push(socket);
        }
        Ok(Self { sockets })
    }

    /// Makes the device promiscuous. Each call wants one [`Promiscuous::leave`].
    pub fn join(&self, ifindex: u32) -> Result<(), SyscallError> {
        self.set(libc::PACKET_ADD_MEMBERSHIP, "setsockopt(PACKET_ADD_MEMBERSHIP)", ifindex)
    }

    /// Takes one [`Promiscuous::join`] back. Of a device that was deleted the kernel has done so by itself, and says
    /// EADDRNOTAVAIL.
    pub fn leave(&self, ifindex: u32) -> Result<(), SyscallError> {
        self.set(libc::PACKET_DROP_MEMBERSHIP, "setsockopt(PACKET_DROP_MEMBERSHIP)", ifindex)
    }

    fn set(&self, option: libc::c_int, call: &'static str, ifindex: u32) -> Result<(), SyscallError> {
        let request = libc::packet_mreq {
            mr_ifindex: ifindex.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        // SAFETY: the option takes a packet_mreq, which lives until the call returns and which the kernel only reads.
        let result = unsafe {
            libc::setsockopt(
                self.sockets[ifindex as usize % SOCKETS].as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const request).cast(),
                size_of::<libc::packet_mreq>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(SyscallError::last(call, format!("ifindex {ifindex}"))) }
    }
}
