//! Which XDP program does a device run already? (rtnetlink's IFLA_XDP, for the message that refuses such a device.)

use crate::error::SyscallError;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// include/uapi/linux/if_link.h
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
/// `struct nlmsghdr`, `struct ifinfomsg`.
const HEADER_BYTES: usize = 16;
const IFINFO_BYTES: usize = 16;

/// The number of the program that the device runs, in whatever mode, if there is one.
pub fn program_id(ifindex: u32) -> Result<Option<u32>, SyscallError> {
    let failed = |call| move |errno: rustix::io::Errno| SyscallError::new(call, format!("ifindex {ifindex}"), errno);
    // Protocol 0 of this family is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(failed("socket(NETLINK_ROUTE)"))?;

    let mut request = [0u8; HEADER_BYTES + IFINFO_BYTES];
    request[0..4].copy_from_slice(&((HEADER_BYTES + IFINFO_BYTES) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&ifindex.to_ne_bytes());
    rustix::net::send(&socket, &request, SendFlags::empty()).map_err(failed("send(RTM_GETLINK)"))?;

    let mut answer = vec![0u8; 64 << 10];
    let (len, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty()).map_err(failed("recv(RTM_NEWLINK)"))?;
    Ok(program_in(&answer[..len]))
}

/// The program's number in an RTM_NEWLINK message; `None` also for an error message.
fn program_in(message: &[u8]) -> Option<u32> {
    if u16_at(message, 4)? != libc::RTM_NEWLINK {
        return None;
    }
    let xdp = attributes(message.get(HEADER_BYTES + IFINFO_BYTES..)?).find(|&(kind, _)| kind == IFLA_XDP)?.1;
    attributes(xdp)
        .filter(|(kind, _)| (IFLA_XDP_PROG_ID..=IFLA_XDP_HW_PROG_ID).contains(kind))
        .filter_map(|(_, value)| Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?)))
        .find(|&id| id != 0)
}

/// The attributes (`struct rtattr`) in `octets`, up to the first that is broken.
fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(octets, 0)?);
        let kind = u16_at(octets, 2)? & !(libc::NLA_F_NESTED as u16);
        let value = octets.get(4..len)?;
        octets = octets.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

const _: () = assert!(IFLA_XDP_PROG_ID < IFLA_XDP_DRV_PROG_ID && IFLA_XDP_DRV_PROG_ID < IFLA_XDP_HW_PROG_ID);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_messages_name_no_program() {
        for len in 0..64 {
            assert_eq!(program_in(&vec![0xff; len]), None);
            assert_eq!(program_in(&vec![0; len]), None);
        }
    }

    #[test]
    fn loopback_runs_no_program() {
        assert_eq!(program_id(1).expect("lo is there"), None);
    }
}
