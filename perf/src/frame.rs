//! Which octets does the generator start from?

/// The third octet of the addresses on the generator's side.
pub const GENERATOR_SIDE: u8 = 0x0a;
/// The third octet of the addresses on the sink's side.
pub const SINK_SIDE: u8 = 0x0b;

/// How all addresses of one side begin, as switches print it.
pub fn mac_prefix(side: u8) -> String {
    format!("02:53:{side:02x}:")
}

/// An Ethernet, IPv4 and UDP frame of `size` octets (at least 60) from one side to the other, with address number 0
/// and flow 0; `bpf/generator.c` changes the low halves of the IP addresses in opposite ways, so the checksum holds.
pub fn template(size: usize, from: u8, to: u8) -> Vec<u8> {
    let mut frame = vec![0; size.max(60)];
    frame[0..6].copy_from_slice(&[0x02, 0x53, to, 0, 0, 0]);
    frame[6..12].copy_from_slice(&[0x02, 0x53, from, 0, 0, 0]);
    frame[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());
    let ip_len = frame.len() - 14;
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(ip_len as u16).to_be_bytes());
    frame[22] = 64;
    frame[23] = 17;
    frame[26..30].copy_from_slice(&[10, from, 0x00, 0x00]);
    frame[30..34].copy_from_slice(&[10, to, 0xff, 0xff]);
    let checksum = ipv4_checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame[38..40].copy_from_slice(&((ip_len - 20) as u16).to_be_bytes());
    frame
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
        for size in [60, 64, 1514, 3000] {
            let mut frame = template(size, GENERATOR_SIDE, SINK_SIDE);
            assert_eq!(frame.len(), size);
            assert_eq!(usize::from(u16::from_be_bytes([frame[16], frame[17]])), size - 14);
            assert_eq!(usize::from(u16::from_be_bytes([frame[38], frame[39]])), size - 34);
            for flow in [0_u16, 1, 0x1234, 0xffff] {
                frame[28..30].copy_from_slice(&flow.to_ne_bytes());
                frame[32..34].copy_from_slice(&(!flow).to_ne_bytes());
                assert_eq!(ipv4_checksum(&frame[14..34]), 0, "size {size}, flow {flow}");
            }
        }
    }
}
