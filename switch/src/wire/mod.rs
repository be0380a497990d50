//! How do headers lie in a frame? One header per file: its length is checked once, then it is read without failing.

pub mod checksum;
pub mod ethernet;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
pub mod membership;
pub mod vlan;

/// The big-endian 16-bit number at `offset`, if the octets reach that far.
#[inline]
pub fn be16(octets: &[u8], offset: usize) -> Option<u16> {
    let bytes = octets.get(offset..offset.checked_add(2)?)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}
