//! How are frames sent by a device as its host would?

use crate::error::SyscallError;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::mem::size_of;
use std::os::fd::AsRawFd;

/// Sends whole frames by a device of the namespace of the calling thread (packet(7)).
pub fn send_frames(ifindex: u32, frames: &[Vec<u8>]) -> Result<(), SyscallError> {
    let object = || format!("ifindex {ifindex}");
    // Protocol 0: the socket receives nothing.
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(|error| SyscallError::new("socket(AF_PACKET)", object(), error))?;
    // SAFETY: all fields of a sockaddr_ll are numbers, for which zero is a value.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = ifindex.cast_signed();
    for frame in frames {
        // SAFETY: frame and address live until the call returns, as long as the kernel is told, and it only reads them.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(SyscallError::last("sendto(AF_PACKET)", object()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::TestNamespace;

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
}
