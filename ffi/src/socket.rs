//! How is an AF_XDP socket made, bound to one queue of a device, woken and asked for its counters?
//!
//! The kernel's side is net/xdp/xsk.c; the interface is include/uapi/linux/if_xdp.h.

use crate::descriptor::Descriptor;
use crate::error::SyscallError;
use crate::ring::{Consumer, Offsets, Producer, Ring};
use crate::umem::Umem;
use rustix::io::Errno;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Packets that one `sendto` transmits in copy mode: SOL_XDP option of kernel 6.17, missing in the libc crate.
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;
/// The kernel's TX_BATCH_SIZE: the budget without the option, and the smallest that it takes.
const TX_BUDGET_DEFAULT: u32 = 32;

/// Octets before each transmitted packet that carry the request to complete its checksum (`struct xsk_tx_metadata`).
pub(crate) const TX_METADATA_BYTES: u32 = 16;

/// How the kernel moves frames between a socket and its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copying {
    ZeroCopy,
    Copy,
}

/// Entries of the four rings, each a power of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingSizes {
    pub(crate) rx: u32,
    pub(crate) tx: u32,
    pub(crate) fill: u32,
    pub(crate) completion: u32,
}

/// Our ends of a socket's rings.
pub(crate) struct Rings {
    pub(crate) rx: Consumer<Descriptor>,
    pub(crate) tx: Producer<Descriptor>,
    pub(crate) fill: Producer<u64>,
    pub(crate) completion: Consumer<u64>,
}

/// One queue's AF_XDP socket.
pub(crate) struct Socket {
    fd: OwnedFd,
    /// "eth0 (ifindex 7) queue 1", for messages.
    object: String,
}

impl Socket {
    /// A socket in the calling thread's network namespace, not yet bound.
    pub(crate) fn open(object: String) -> Result<Self, SyscallError> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(SyscallError::last("socket(AF_XDP)", object));
        }
        // SAFETY: a descriptor that the kernel has just given us.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, object })
    }

    /// Registers the area with this socket. Returns true if packets can carry checksum requests.
    pub(crate) fn register(&self, umem: &Umem) -> Result<bool, SyscallError> {
        let mut registration = libc::xdp_umem_reg {
            addr: umem.base() as u64,
            len: umem.len() as u64,
            chunk_size: umem.chunk_bytes(),
            headroom: 0,
            flags: libc::XDP_UMEM_TX_METADATA_LEN,
            tx_metadata_len: TX_METADATA_BYTES,
        };
        match self.set("setsockopt(XDP_UMEM_REG)", libc::XDP_UMEM_REG, &registration) {
            Ok(()) => Ok(true),
            // Before 6.8 the flag is unknown.
            Err(error) if error.errno() == libc::EINVAL => {
                registration.flags = 0;
                registration.tx_metadata_len = 0;
                self.set("setsockopt(XDP_UMEM_REG)", libc::XDP_UMEM_REG, &registration).map(|()| false)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes and maps the four rings.
    pub(crate) fn rings(&self, sizes: RingSizes) -> Result<Rings, SyscallError> {
        self.set("setsockopt(XDP_UMEM_FILL_RING)", libc::XDP_UMEM_FILL_RING, &sizes.fill)?;
        self.set("setsockopt(XDP_UMEM_COMPLETION_RING)", libc::XDP_UMEM_COMPLETION_RING, &sizes.completion)?;
        self.set("setsockopt(XDP_RX_RING)", libc::XDP_RX_RING, &sizes.rx)?;
        self.set("setsockopt(XDP_TX_RING)", libc::XDP_TX_RING, &sizes.tx)?;
        // SAFETY: all zeroes are a valid `xdp_mmap_offsets`.
        let mut all: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
        self.get("getsockopt(XDP_MMAP_OFFSETS)", libc::XDP_MMAP_OFFSETS, &mut all)?;
        Ok(Rings {
            rx: Consumer::new(self.map("mmap(rx ring)", libc::XDP_PGOFF_RX_RING as u64, &all.rx, sizes.rx)?),
            tx: Producer::new(self.map("mmap(tx ring)", libc::XDP_PGOFF_TX_RING as u64, &all.tx, sizes.tx)?),
            fill: Producer::new(self.map("mmap(fill ring)", libc::XDP_UMEM_PGOFF_FILL_RING, &all.fr, sizes.fill)?),
            completion: Consumer::new(self.map(
                "mmap(completion ring)",
                libc::XDP_UMEM_PGOFF_COMPLETION_RING,
                &all.cr,
                sizes.completion,
            )?),
        })
    }

    fn map<T: crate::ring::Entry>(
        &self,
        call: &'static str,
        page_offset: u64,
        offsets: &libc::xdp_ring_offset,
        size: u32,
    ) -> Result<Ring<T>, SyscallError> {
        let offsets = Offsets {
            producer: offsets.producer as usize,
            consumer: offsets.consumer as usize,
            flags: offsets.flags as usize,
            entries: offsets.desc as usize,
        };
        Ring::map(self.fd.as_fd(), page_offset, offsets, size)
            .map_err(|errno| SyscallError::new(call, &self.object, errno))
    }

    /// Binds the device's first queue, the one whose socket has the area. Without `multi_buffer` a packet is one frame.
    pub(crate) fn bind(
        &self,
        ifindex: u32,
        queue: u32,
        copying: Copying,
        multi_buffer: bool,
    ) -> Result<(), SyscallError> {
        let mut flags = libc::XDP_USE_NEED_WAKEUP;
        flags |= match copying {
            Copying::ZeroCopy => libc::XDP_ZEROCOPY,
            Copying::Copy => libc::XDP_COPY,
        };
        if multi_buffer {
            flags |= libc::XDP_USE_SG;
        }
        self.bind_with(ifindex, queue, flags, 0)
    }

    /// Binds a further queue of the device, which uses the first one's area and flags: the kernel refuses any of its own.
    pub(crate) fn bind_shared(&self, ifindex: u32, queue: u32, first: &Socket) -> Result<(), SyscallError> {
        self.bind_with(ifindex, queue, libc::XDP_SHARED_UMEM, first.fd.as_raw_fd() as u32)
    }

    fn bind_with(&self, ifindex: u32, queue: u32, flags: u16, shared_umem_fd: u32) -> Result<(), SyscallError> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: shared_umem_fd,
        };
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is a whole sockaddr_xdp of `len` octets.
        let result = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), len) };
        if result == 0 { Ok(()) } else { Err(SyscallError::last("bind(AF_XDP)", &self.object)) }
    }

    /// Sets how many packets one kick transmits in copy mode; a kernel without the option keeps its default of 32.
    pub(crate) fn set_tx_budget(&self, packets: u32, tx_ring: u32) -> Result<(), SyscallError> {
        let packets = packets.min(tx_ring);
        if packets <= TX_BUDGET_DEFAULT {
            return Ok(());
        }
        match self.set("setsockopt(XDP_MAX_TX_SKB_BUDGET)", XDP_MAX_TX_SKB_BUDGET, &packets) {
            Err(error) if error.errno() != libc::ENOPROTOOPT => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets `octets` of packets wait in the device's queue. The default (net.core.wmem_default, 208 KiB) is a handful of jumbo
    /// packets, after which a NIC in copy mode takes no more until it has sent some. Without the privilege it stays.
    pub(crate) fn set_send_buffer(&self, octets: u32) {
        let octets = octets.min(1 << 30) as c_int;
        let len = size_of_val(&octets) as libc::socklen_t;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE);
        // SAFETY: the value is a whole int.
        unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, option, (&raw const octets).cast(), len) };
    }

    /// Makes the kernel transmit what is in the ring.
    #[inline]
    pub(crate) fn kick(&self) -> Result<(), Errno> {
        // SAFETY: an empty message to no address: no pointers.
        let sent =
            unsafe { libc::sendto(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
        if sent >= 0 { Ok(()) } else { Err(last_errno()) }
    }

    /// Makes a sleeping driver look at the fill ring. Its failures show when transmitting, and in netlink.
    #[cold]
    pub(crate) fn wake_receive(&self) {
        let (fd, null) = (self.fd.as_raw_fd(), std::ptr::null_mut::<c_void>());
        // SAFETY: nothing is written: the buffer has no octets and no address is asked for.
        unsafe { libc::recvfrom(fd, null, 0, libc::MSG_DONTWAIT, std::ptr::null_mut(), std::ptr::null_mut()) };
    }

    /// The kernel's counters of this socket.
    pub(crate) fn statistics(&self) -> libc::xdp_statistics {
        // SAFETY: all zeroes are a valid `xdp_statistics`.
        let mut statistics: libc::xdp_statistics = unsafe { std::mem::zeroed() };
        // Fails for no socket of ours: every kernel that has multi-buffer has the structure whole.
        let _ = self.get("getsockopt(XDP_STATISTICS)", libc::XDP_STATISTICS, &mut statistics);
        statistics
    }

    fn set<T: Copy>(&self, call: &'static str, option: c_int, value: &T) -> Result<(), SyscallError> {
        let len = size_of::<T>() as libc::socklen_t;
        // SAFETY: `value` points to `len` readable octets.
        let result =
            unsafe { libc::setsockopt(self.fd.as_raw_fd(), libc::SOL_XDP, option, (&raw const *value).cast(), len) };
        if result == 0 { Ok(()) } else { Err(SyscallError::last(call, &self.object)) }
    }

    /// Reads an option whose type is plain integers, so that any octets the kernel writes are a valid value.
    fn get<T: Copy>(&self, call: &'static str, option: c_int, value: &mut T) -> Result<(), SyscallError> {
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: `value` points to `len` writable octets.
        let result = unsafe {
            libc::getsockopt(self.fd.as_raw_fd(), libc::SOL_XDP, option, (&raw mut *value).cast(), &raw mut len)
        };
        match result {
            0 if len as usize == size_of::<T>() => Ok(()),
            // An older, shorter form of the structure.
            0 => Err(SyscallError::new(call, &self.object, Errno::OPNOTSUPP)),
            _ => Err(SyscallError::last(call, &self.object)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
