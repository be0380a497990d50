//! Which octets does the generator start from?

use crate::load::VID;

/// The third octet of the addresses on the generator's side.
pub const GENERATOR_SIDE: u8 = 0x0a;
/// The third octet of the addresses on the sink's side.
pub const SINK_SIDE: u8 = 0x0b;

/// How all addresses of one side begin, as switches print it.
pub fn mac_prefix(side: u8) -> String {
    format!("02:53:{side:02x}:")
}

/// Octets before the IP header.
pub fn ethernet_len(tagged: bool) -> usize {
    if tagged { 18 } else { 14 }
}

/// A frame without a tag, see [`tagged_template`].
pub fn template(size: usize, from: u8, to: u8) -> Vec<u8> {
    tagged_template(size, false, from, to)
}

/// An Ethernet, IPv4 and UDP frame of `size` octets (at least 60) from one side to the other, with address number 0
/// and flow 0; `bpf/generator.c` changes the low halves of the IP addresses in opposite ways, so the checksum holds.
pub fn tagged_template(size: usize, tagged: bool, from: u8, to: u8) -> Vec<u8> {
    let mut frame = vec![0; size.max(60)];
    frame[0..6].copy_from_slice(&[0x02, 0x53, to, 0, 0, 0]);
    frame[6..12].copy_from_slice(&[0x02, 0x53, from, 0, 0, 0]);
    let l3 = ethernet_len(tagged);
    if tagged {
        frame[12..14].copy_from_slice(&0x8100_u16.to_be_bytes());
        frame[14..16].copy_from_slice(&VID.to_be_bytes());
    }
    frame[l3 - 2..l3].copy_from_slice(&0x0800_u16.to_be_bytes());
    let ip = &mut frame[l3..];
    let ip_len = ip.len() as u16;
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&[10, from, 0x00, 0x00]);
    ip[16..20].copy_from_slice(&[10, to, 0xff, 0xff]);
    let checksum = ipv4_checksum(&ip[..20]);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip[24..26].copy_from_slice(&(ip_len - 20).to_be_bytes());
    frame
}

/// Makes the template frame number `index` of its flow and address, sent at `stamp` ns (0: no sample): what
/// `bpf/generator.c` does, for frames that are too long for it.
pub fn vary(frame: &mut [u8], tagged: bool, flow: u32, mac: u32, stamp: u64) {
    frame[3..6].copy_from_slice(&mac.to_be_bytes()[1..]);
    frame[9..12].copy_from_slice(&mac.to_be_bytes()[1..]);
    let ip = &mut frame[ethernet_len(tagged)..];
    let low = flow as u16;
    ip[14..16].copy_from_slice(&low.to_ne_bytes());
    ip[18..20].copy_from_slice(&(!low).to_ne_bytes());
    ip[20..22].copy_from_slice(&low.to_ne_bytes());
    ip[22..24].copy_from_slice(&((flow >> 4) as u16).to_ne_bytes());
    ip[28..36].copy_from_slice(&stamp.to_ne_bytes());
}

/// RFC 1071 over a header whose own checksum field counts as it stands.
fn ipv4_checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_valid_frame_for_every_flow() {
        for (size, tagged) in [(60, false), (64, true), (1514, false), (3000, true), (9014, false)] {
            let mut frame = tagged_template(size, tagged, GENERATOR_SIDE, SINK_SIDE);
            assert_eq!(frame.len(), size);
            let l3 = ethernet_len(tagged);
            assert_eq!(frame[l3 - 2..l3], [0x08, 0x00]);
            assert_eq!(usize::from(u16::from_be_bytes([frame[l3 + 2], frame[l3 + 3]])), frame.len() - l3);
            assert_eq!(usize::from(u16::from_be_bytes([frame[l3 + 24], frame[l3 + 25]])), frame.len() - l3 - 20);
            for flow in [0, 1, 0x1234, 0xffff] {
                vary(&mut frame, tagged, flow, 99_999, 7);
                assert_eq!(ipv4_checksum(&frame[l3..l3 + 20]), 0, "size {size}, flow {flow}");
                assert_eq!(frame[..6], [2, 0x53, SINK_SIDE, 1, 0x86, 0x9f]);
            }
        }
    }
}
