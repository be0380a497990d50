//! What does a device's driver say of itself, and which of its features are on?
//!
//! `ioctl(SIOCETHTOOL)`, include/uapi/linux/ethtool.h. Devices are looked up by name in the calling thread's network namespace.

use crate::error::SyscallError;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::ffi::c_char;
use std::os::fd::AsRawFd;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GDRVINFO: u32 = 0x03;
const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
const GCHANNELS: u32 = 0x3c;
const SCHANNELS: u32 = 0x3d;
/// String sets.
const SS_STATS: u32 = 1;
const SS_FEATURES: u32 = 4;
/// ETH_GSTRING_LEN
const STRING_BYTES: usize = 32;
/// The kernel answers GSTRINGS and GSTATS with as many items as the driver has now, whatever we have room for: room for
/// some that came since they were counted.
const ITEMS_SPARE: usize = 4096;

/// A feature, as `ethtool -k` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Such as "rx-vlan-hw-parse".
    pub name: String,
    /// It is on.
    pub active: bool,
    /// It cannot be changed.
    pub fixed: bool,
}

/// How many queues a device has in use, and could have. Combined ones count in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Receive queues.
    pub rx: u32,
    /// Transmit queues.
    pub tx: u32,
    /// Most receive queues.
    pub rx_max: u32,
    /// Most transmit queues.
    pub tx_max: u32,
}

/// All features of the device.
pub fn features(device: &str) -> Result<Vec<Feature>, SyscallError> {
    let names = strings(device, SS_FEATURES)?;
    let blocks = names.len().div_ceil(32);
    let mut request = words(&[GFEATURES, blocks as u32], blocks * 16);
    call(device, "ioctl(ETHTOOL_GFEATURES)", &mut request)?;
    let bit = |index: usize, field: usize| word(&request, 2 + index / 32 * 4 + field) >> (index % 32) & 1 == 1;
    // struct ethtool_get_features_block: available, requested, active, never_changed.
    let feature = |(index, name)| Feature { name, active: bit(index, 2), fixed: !bit(index, 0) || bit(index, 3) };
    Ok(names.into_iter().enumerate().map(feature).collect())
}

/// Whether the feature is on; `None` if this kernel does not know it.
pub fn feature(device: &str, name: &str) -> Result<Option<bool>, SyscallError> {
    Ok(features(device)?.into_iter().find(|feature| feature.name == name).map(|feature| feature.active))
}

/// Switches the feature and reads it back: a driver that leaves it as it was is an error (EOPNOTSUPP).
pub fn set_feature(device: &str, name: &str, on: bool) -> Result<(), SyscallError> {
    const CALL: &str = "ioctl(ETHTOOL_SFEATURES)";
    let refused = || SyscallError::new(CALL, format!("{device} {name}"), Errno::OPNOTSUPP);
    let names = strings(device, SS_FEATURES)?;
    let index = names.iter().position(|known| known == name).ok_or_else(refused)?;
    let blocks = names.len().div_ceil(32);
    let mut request = words(&[SFEATURES, blocks as u32], blocks * 8);
    // struct ethtool_set_features_block: valid, requested.
    let bit = 1u32 << (index % 32);
    set_word(&mut request, 2 + index / 32 * 2, bit);
    set_word(&mut request, 2 + index / 32 * 2 + 1, if on { bit } else { 0 });
    call(device, CALL, &mut request)?;
    if feature(device, name)? == Some(on) { Ok(()) } else { Err(refused()) }
}

/// The driver's name, such as "veth" or "virtio_net".
pub fn driver(device: &str) -> Result<String, SyscallError> {
    // struct ethtool_drvinfo has 196 octets; the name comes after the command.
    let mut request = words(&[GDRVINFO], 192);
    call(device, "ioctl(ETHTOOL_GDRVINFO)", &mut request)?;
    Ok(text(&request[4..4 + STRING_BYTES]))
}

/// The device's queues. A driver that does not count them has one in each direction.
pub fn channels(device: &str) -> Result<Channels, SyscallError> {
    match raw_channels(device) {
        Ok(raw) => Ok(Channels {
            rx: raw.rx + raw.combined,
            tx: raw.tx + raw.combined,
            rx_max: raw.rx_max + raw.combined_max,
            tx_max: raw.tx_max + raw.combined_max,
        }),
        Err(error) if error.errno() == libc::EOPNOTSUPP => Ok(Channels { rx: 1, tx: 1, rx_max: 1, tx_max: 1 }),
        Err(error) => Err(error),
    }
}

/// Gives the device `count` queues in each direction, and reads that back. A device that has them already is left alone.
pub fn set_queues(device: &str, count: u32) -> Result<(), SyscallError> {
    const CALL: &str = "ioctl(ETHTOOL_SCHANNELS)";
    let now = channels(device)?;
    if (now.rx, now.tx) == (count, count) {
        return Ok(());
    }
    let raw = raw_channels(device)?;
    let (rx, tx, combined) = if raw.combined_max > 0 { (0, 0, count) } else { (count, count, 0) };
    let maxima = [raw.rx_max, raw.tx_max, raw.other_max, raw.combined_max];
    let mut request = words(&[SCHANNELS], 0);
    for value in maxima.into_iter().chain([rx, tx, raw.other, combined]) {
        request.extend(value.to_ne_bytes());
    }
    call(device, CALL, &mut request)?;
    let now = channels(device)?;
    if (now.rx, now.tx) == (count, count) { Ok(()) } else { Err(SyscallError::new(CALL, device, Errno::OPNOTSUPP)) }
}

/// The number of a veth's other end, in the namespace where that is.
pub fn veth_peer(device: &str) -> Result<u32, SyscallError> {
    let unknown = || SyscallError::new("ioctl(ETHTOOL_GSTATS)", format!("{device} peer_ifindex"), Errno::OPNOTSUPP);
    let index = strings(device, SS_STATS)?.iter().position(|name| name == "peer_ifindex").ok_or_else(unknown)?;
    let mut request = words(&[GSTATS, 0], (index + 1 + ITEMS_SPARE) * 8);
    call(device, "ioctl(ETHTOOL_GSTATS)", &mut request)?;
    let value = request.get(8 + index * 8..).and_then(|octets| octets.first_chunk()).ok_or_else(unknown)?;
    // 0: the other end is being removed.
    u32::try_from(u64::from_ne_bytes(*value)).ok().filter(|&ifindex| ifindex != 0).ok_or_else(unknown)
}

/// `struct ethtool_channels` without the command.
struct RawChannels {
    rx_max: u32,
    tx_max: u32,
    other_max: u32,
    combined_max: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

fn raw_channels(device: &str) -> Result<RawChannels, SyscallError> {
    let mut request = words(&[GCHANNELS], 32);
    call(device, "ioctl(ETHTOOL_GCHANNELS)", &mut request)?;
    Ok(RawChannels {
        rx_max: word(&request, 1),
        tx_max: word(&request, 2),
        other_max: word(&request, 3),
        combined_max: word(&request, 4),
        rx: word(&request, 5),
        tx: word(&request, 6),
        other: word(&request, 7),
        combined: word(&request, 8),
    })
}

/// The names of a string set, in order.
fn strings(device: &str, set: u32) -> Result<Vec<String>, SyscallError> {
    // struct ethtool_sset_info: command, reserved, a mask of sets, and the length of each set asked for.
    let mut request = words(&[GSSET_INFO, 0], 0);
    request.extend((1u64 << set).to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    call(device, "ioctl(ETHTOOL_GSSET_INFO)", &mut request)?;
    let count = word(&request, 4) as usize;

    let mut request = words(&[GSTRINGS, set, count as u32], (count + ITEMS_SPARE) * STRING_BYTES);
    call(device, "ioctl(ETHTOOL_GSTRINGS)", &mut request)?;
    let count = (word(&request, 2) as usize).min(count + ITEMS_SPARE);
    Ok(request[12..].chunks_exact(STRING_BYTES).take(count).map(text).collect())
}

/// `struct ifreq` with the pointer that SIOCETHTOOL takes.
#[repr(C)]
struct Request {
    name: [c_char; libc::IFNAMSIZ],
    data: *mut u8,
    /// The rest of the union.
    _rest: [u64; 2],
}

/// Hands `request` to the driver and lets it answer in place. It begins with the command and has room for the answer.
fn call(device: &str, call: &'static str, request: &mut [u8]) -> Result<(), SyscallError> {
    let fail = |errno| SyscallError::new(call, device, errno);
    if device.len() >= libc::IFNAMSIZ || device.contains('\0') {
        return Err(fail(Errno::NODEV));
    }
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| SyscallError::new("socket(AF_INET)", device, errno))?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(device.bytes()) {
        *to = from as c_char;
    }
    let mut argument = Request { name, data: request.as_mut_ptr(), _rest: [0; 2] };
    // SAFETY: `argument` is a whole ifreq whose pointer leads to `request`. The callers make that as long as the command's
    // structure, with room for more items than there can be where the kernel does not heed the length it is told.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut argument) };
    if result < 0 { Err(SyscallError::last(call, device)) } else { Ok(()) }
}

/// The words in native order, then room for `more` octets.
fn words(words: &[u32], more: usize) -> Vec<u8> {
    let mut octets = Vec::with_capacity(words.len() * 4 + more);
    octets.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    octets.resize(words.len() * 4 + more, 0);
    octets
}

fn word(octets: &[u8], index: usize) -> u32 {
    octets[index * 4..].first_chunk().map_or(0, |word| u32::from_ne_bytes(*word))
}

fn set_word(octets: &mut [u8], index: usize, value: u32) {
    octets[index * 4..index * 4 + 4].copy_from_slice(&value.to_ne_bytes());
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets.split(|&octet| octet == 0).next().unwrap_or(&[])).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_features_and_other_names_have_none() {
        let features = features("lo").expect("lo answers");
        let found = features.iter().find(|feature| feature.name == "loopback").expect("lo has it");
        assert!(found.active && found.fixed);
        assert_eq!(feature("lo", "no-such-feature").expect("lo answers"), None);
        assert!(set_feature("lo", "no-such-feature", true).is_err());
        assert!(veth_peer("lo").is_err());
        assert_eq!(channels("lo").expect("one each"), Channels { rx: 1, tx: 1, rx_max: 1, tx_max: 1 });
        for name in ["", "no-such-device", "a-name-that-is-much-too-long", "l\0o"] {
            assert!(super::features(name).is_err(), "{name:?}");
        }
    }
}
