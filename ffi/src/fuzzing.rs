//! What can a kernel gone mad do to us? Bodies of fuzz targets, also run by the tests.

use crate::descriptor::Descriptor;
use crate::fake;

/// Plays a kernel that hands over whatever `octets` say, between turns of a switch that forwards what it receives.
///
/// # Panics
/// If a frame is lost or doubled, which is what the fuzzer looks for. Panics of the code under test are others.
pub fn fuzz_descriptors(octets: &[u8]) {
    const FRAMES: u32 = 32;
    let (mut rx, mut tx, mut kernel) = fake::queue(FRAMES, 16, u32::MAX - 20);
    let mut octets = octets.iter().copied();
    let mut next = || octets.next();
    while let Some(operation) = next() {
        // Addresses near and in the area, mostly; lengths around a chunk's.
        let mut number = || u64::from(next().unwrap_or(0)) << 8 | u64::from(next().unwrap_or(0));
        match operation % 8 {
            0 => {
                let descriptor = Descriptor {
                    addr: number() << (operation / 8 % 8),
                    len: number() as u32 & 0xfff,
                    options: number() as u32,
                };
                let _ = kernel.rx.write(descriptor);
                kernel.rx.publish();
            }
            1 => {
                let _ = kernel.completion.write(number() << (operation / 8 % 8));
                kernel.completion.publish();
            }
            2 => drop(kernel.receive(&[&[operation; 60]])),
            3 => drop(kernel.receive(&[&[operation; 1700], &[operation; 1700], &[operation; 9]])),
            4 => drop(kernel.transmit()),
            5 => kernel.rx.play_index(number() as u32),
            6 => kernel.completion.play_index(number() as u32),
            _ => {
                let held = rx.receive(usize::from(operation / 8));
                let mut seen = 0;
                rx.packets().for_each(|packet| {
                    seen += 1;
                    if let Ok(mut writer) = tx.start(packet.len()) {
                        packet.segments().for_each(|segment| writer.append(segment));
                        writer.commit(None);
                    }
                });
                assert_eq!(seen, held);
                rx.release();
                tx.flush();
            }
        }
        let (received, sent) = (rx.frames(), tx.frames());
        assert!(received.is_conserved() && received.total == FRAMES / 2, "{received:?}");
        assert!(sent.is_conserved() && sent.total == FRAMES / 2, "{sent:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_descriptor_loses_a_frame(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
            super::fuzz_descriptors(&octets);
        }
    }
}
