//! Which IPv4 addresses does a device of this namespace have, and how is a frame sent by it as the host would?

use crate::error::SyscallError;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::ffi::CStr;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::ptr;

/// What a device is called by others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The kernel's number of it.
    pub ifindex: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 addresses.
    pub v4: Vec<Ipv4Addr>,
}

/// What `device`, in the network namespace of the calling thread, is called by others; none if it has no MAC address or is gone.
pub fn names(device: &str) -> Result<Option<Names>, SyscallError> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the call only writes the head of a list that it allocates.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(SyscallError::last("getifaddrs", device));
    }
    let (mut names, mut found) = (Names::default(), false);
    let mut at = list;
    while !at.is_null() {
        // SAFETY: `at` is an entry of the list, which lives until freeifaddrs.
        let entry = unsafe { &*at };
        at = entry.ifa_next;
        // SAFETY: each entry has a name that ends in a zero octet.
        let is_ours = unsafe { CStr::from_ptr(entry.ifa_name) }.to_bytes() == device.as_bytes();
        if !is_ours || entry.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: an address that is not null has a family, in front of all that its family has.
        match i32::from(unsafe { (*entry.ifa_addr).sa_family }) {
            libc::AF_INET => {
                // SAFETY: an address of AF_INET is a sockaddr_in, which getifaddrs aligns as one.
                let address = unsafe { &*entry.ifa_addr.cast::<libc::sockaddr_in>() };
                names.v4.push(Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes()));
            }
            libc::AF_PACKET => {
                // SAFETY: an address of AF_PACKET is a sockaddr_ll, which getifaddrs aligns as one.
                let link = unsafe { &*entry.ifa_addr.cast::<libc::sockaddr_ll>() };
                if usize::from(link.sll_halen) == names.mac.len() {
                    names.mac.copy_from_slice(&link.sll_addr[..6]);
                    names.ifindex = link.sll_ifindex.cast_unsigned();
                    found = true;
                }
            }
            _ => {}
        }
    }
    // SAFETY: the list came from getifaddrs, and nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(found.then_some(names))
}

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
    fn a_device_is_known_by_its_names_and_what_it_sends_arrives() {
        let (here, there) = (TestNamespace::new(), TestNamespace::new());
        here.veth("v0", &there, "v1", "");
        here.ip("link set v0 address 02:00:00:00:00:07");
        here.ip("addr add 10.0.0.1/24 dev v0");
        here.ip("addr add 10.0.0.2/24 dev v0");
        let names = here.run(|| names("v0")).expect("getifaddrs").expect("it is there");
        assert_eq!((names.mac, names.v4.len()), ([2, 0, 0, 0, 0, 7], 2));
        assert_eq!(names.v4, [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]);
        let received = || std::fs::read_to_string("/proc/thread-self/net/dev").expect("proc");
        let count = |text: String| {
            let line = text.lines().find(|line| line.trim_start().starts_with("v1:")).map(str::to_owned);
            line.and_then(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).expect("a counter")
        };
        let before = count(there.run(received));
        here.run(|| send_frames(names.ifindex, &[vec![0xff; 60], vec![0xff; 60]])).expect("it is up");
        assert_eq!(count(there.run(received)), before + 2);
        assert_eq!(here.run(|| super::names("lo")).expect("getifaddrs").map(|names| names.mac), Some([0; 6]));
        assert_eq!(here.run(|| super::names("none")).expect("getifaddrs"), None);
    }
}
