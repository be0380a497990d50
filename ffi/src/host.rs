//! How are frames sent by a device as its host would, and how is what arrives there overheard?

use crate::error::SyscallError;
use crate::pcap::Instruction;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

/// Sends whole frames by a device of the namespace of the calling thread (packet(7)).
pub fn send_frames(ifindex: u32, frames: &[Vec<u8>]) -> Result<(), SyscallError> {
    // Protocol 0: the socket receives nothing.
    let socket = bound(ifindex, &[], 0)?;
    for frame in frames {
        rustix::net::send(&socket, frame, SendFlags::empty())
            .map_err(|error| SyscallError::new("send(AF_PACKET)", object(ifindex), error))?;
    }
    Ok(())
}

/// A socket that overhears what arrives at a device of the namespace of the calling thread, as far as the program lets it through. A
/// datagram is a frame; one that is sent leaves by the device. The socket never waits. Its end takes the kernel a grace period.
pub fn overhear(ifindex: u32, filter: &[Instruction]) -> Result<OwnedFd, SyscallError> {
    bound(ifindex, filter, (libc::ETH_P_ALL as u16).to_be())
}

fn object(ifindex: u32) -> String {
    format!("ifindex {ifindex}")
}

fn bound(ifindex: u32, filter: &[Instruction], protocol: u16) -> Result<OwnedFd, SyscallError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
        .map_err(|error| SyscallError::new("socket(AF_PACKET)", object(ifindex), error))?;
    if !filter.is_empty() {
        let len = u16::try_from(filter.len())
            .map_err(|_| SyscallError::new("setsockopt(SO_ATTACH_FILTER)", object(ifindex), Errno::INVAL))?;
        let program = libc::sock_fprog { len, filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut() };
        // SAFETY: the option takes a sock_fprog. The kernel only reads it, and `len` instructions behind its pointer, which are there.
        unsafe { set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program) }
            .map_err(|error| SyscallError::new("setsockopt(SO_ATTACH_FILTER)", object(ifindex), error))?;
        // SAFETY: the option takes a number, which the kernel only reads.
        unsafe { set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32) }
            .map_err(|error| SyscallError::new("setsockopt(PACKET_IGNORE_OUTGOING)", object(ifindex), error))?;
    }
    // SAFETY: all fields of a sockaddr_ll are numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = ifindex.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address lives until the call returns, is as long as the kernel is told, and is only read.
    let status = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if status == 0 { Ok(socket) } else { Err(SyscallError::last("bind(AF_PACKET)", object(ifindex))) }
}

/// # Safety
/// The option must take a `T` that the kernel only reads, and with it what pointers in it lead to.
unsafe fn set<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value lives until the call returns and is as long as the kernel is told; the rest is the caller's promise.
    let status =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Of <linux/if_packet.h>: what the device sends is not heard.
const PACKET_IGNORE_OUTGOING: i32 = 23;

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::TestNamespace;
    use rustix::net::RecvFlags;
    use std::time::{Duration, Instant};

    #[test]
    fn what_a_device_sends_arrives() {
        let (here, there) = (TestNamespace::new(), TestNamespace::new());
        here.veth("v0", &there, "v1", "");
        let received = || std::fs::read_to_string("/proc/thread-self/net/dev").expect("proc");
        let count = |text: String| {
            let line = text.lines().find(|line| line.trim_start().starts_with("v1:")).map(str::to_owned);
            line.and_then(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).expect("a counter")
        };
        let (ifindex, before) = (here.ifindex("v0"), count(there.run(received)));
        here.run(|| send_frames(ifindex, &[vec![0xff; 60], vec![0xff; 60]])).expect("it is up");
        assert_eq!(count(there.run(received)), before + 2);
        assert!(here.run(|| send_frames(9999, &[vec![0xff; 60]])).is_err());
    }

    #[test]
    fn what_the_program_lets_through_is_heard_and_what_one_says_oneself_is_not() {
        let (here, there) = (TestNamespace::new(), TestNamespace::new());
        here.veth("v0", &there, "v1", "");
        let (near, far) = (here.ifindex("v0"), there.ifindex("v1"));
        // Of octet 12: is it 0x88?
        let program = [(0x30, 0, 0, 12), (0x15, 0, 1, 0x88), (0x06, 0, 0, 64), (0x06, 0, 0, 0)];
        let program = program.map(|(code, jt, jf, k)| Instruction { code, jt, jf, k });
        let socket = there.run(|| overhear(far, &program)).expect("a socket");
        let frame = |kind: u8, mark: u8| [vec![0xff; 6], vec![2, 0, 0, 0, 0, 1, kind, 0xb5], vec![mark; 60]].concat();
        here.run(|| send_frames(near, &[frame(0x88, 1), frame(0x08, 2), frame(0x88, 3)])).expect("it is up");
        rustix::net::send(&socket, &frame(0x88, 4), SendFlags::empty()).expect("it is up");
        // A veth hands frames over before it returns from sending, but for a softirq.
        let mut heard = Vec::new();
        let mut buffer = [0; 128];
        let mut receive =
            || rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()).map(|(length, _)| (length, buffer[20]));
        let deadline = Instant::now() + Duration::from_secs(10);
        while heard.len() < 2 && Instant::now() < deadline {
            match receive() {
                Ok(frame) => heard.push(frame),
                Err(error) => assert_eq!(error, Errno::AGAIN),
            }
        }
        assert_eq!(heard, [(64, 1), (64, 3)]);
        assert_eq!(receive(), Err(Errno::AGAIN));
        assert!(there.run(|| overhear(9999, &program)).is_err());
    }
}
