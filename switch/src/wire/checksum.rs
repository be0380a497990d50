//! How are the Internet checksum (RFC 1071) and SCTP's CRC32c (RFC 9260 appendix A) computed, piece by piece?

/// A running one's complement sum over octets that come in pieces of any length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Sum of 16-bit words in the machine's order: the sum of swapped words is the swapped sum.
    words: u64,
    odd: bool,
}

impl Sum {
    /// Adds the next octets.
    #[inline]
    pub fn add(&mut self, octets: &[u8]) {
        let mut sum = 0u64;
        let mut quads = octets.chunks_exact(4);
        for quad in &mut quads {
            sum += u64::from(u32::from_ne_bytes([quad[0], quad[1], quad[2], quad[3]]));
        }
        let mut rest = [0; 4];
        rest[..quads.remainder().len()].copy_from_slice(quads.remainder());
        sum += u64::from(u32::from_ne_bytes(rest));
        // After an odd number of octets the next one is the low half of its word. Else there is no need to fold yet: 2^32 is 1
        // in this arithmetic, and the sum of a packet is far from 2^64.
        self.words += if self.odd { u64::from(fold(sum).swap_bytes()) } else { sum };
        self.odd ^= octets.len() % 2 == 1;
    }

    /// Adds a 16-bit number at an even place.
    #[inline]
    pub fn add_word(&mut self, word: u16) {
        self.words += u64::from(word.to_be());
    }

    /// The sum so far, folded into 16 bits, not complemented.
    #[inline]
    pub fn fold(self) -> u16 {
        u16::from_be(fold(self.words))
    }
}

/// What a TCP or UDP pseudo-header over IPv4 sums up to, as the two octets lie in memory; `addresses` and `len` as they lie there
/// too: the sum of swapped words is the swapped sum.
#[inline]
pub const fn pseudo_header(addresses: u64, protocol: u8, len: u16) -> u16 {
    let (sum, carry) = addresses.overflowing_add((protocol as u16).to_be() as u64 + len as u64);
    // A number plus itself with the halves swapped: both halves are their sum, the upper one with the carry of the lower.
    let sum = sum + carry as u64;
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut value = i as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[i] = value;
        i += 1;
    }
    table
};

/// A running CRC32c.
#[derive(Clone, Copy, Debug)]
pub struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Self(!0)
    }
}

impl Crc32c {
    /// Adds the next octets.
    pub fn add(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = CRC_TABLE[usize::from(self.0 as u8 ^ octet)] ^ self.0 >> 8;
        }
    }

    /// The value as SCTP puts it into its header.
    pub fn octets(self) -> [u8; 4] {
        (!self.0).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(octets: &[u8]) -> u16 {
        let mut sum = 0u64;
        for pair in octets.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn pieces_sum_like_the_whole(octets in proptest::collection::vec(any::<u8>(), 0..300), cuts in proptest::collection::vec(0usize..300, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(octets.len())).collect();
            cuts.sort_unstable();
            cuts.push(octets.len());
            let (mut sum, mut crc, mut from) = (Sum::default(), Crc32c::default(), 0);
            for cut in cuts {
                sum.add(&octets[from..cut]);
                crc.add(&octets[from..cut]);
                from = cut;
            }
            prop_assert_eq!(sum.fold(), naive(&octets));
            let mut whole = Crc32c::default();
            whole.add(&octets);
            prop_assert_eq!(crc.octets(), whole.octets());
        }
    }

    proptest! {
        #[test]
        fn a_pseudo_header_sums_like_its_octets(addresses in any::<[u8; 8]>(), protocol in any::<u8>(), len in any::<u16>()) {
            let octets = [&addresses[..], &[0, protocol], &len.to_be_bytes()].concat();
            let sum = pseudo_header(u64::from_ne_bytes(addresses), protocol, len.to_be());
            prop_assert_eq!(u16::from_be(sum), naive(&octets));
        }
    }

    #[test]
    fn long_runs_of_ones_do_not_overflow() {
        let mut sum = Sum::default();
        sum.add(&[0xff; 9216]);
        sum.add_word(1);
        assert_eq!(sum.fold(), 1);
    }

    #[test]
    fn the_crc_of_the_check_string_is_the_catalogued_one() {
        let mut crc = Crc32c::default();
        crc.add(b"123456789");
        assert_eq!(u32::from_le_bytes(crc.octets()), 0xe306_9283);
    }
}
