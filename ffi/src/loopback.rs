//! How much does a queue cost without a kernel? Our ends of its rings as they are, and a kernel that only hands frames around.
//!
//! For benches: what it measures is all of our code and none of the kernel's.

use crate::fake::{self, FakeKernel};
use crate::rx::XskRx;
use crate::tx::XskTx;

/// The kernel's part of a queue on the heap.
pub struct Loopback {
    kernel: FakeKernel,
}

/// A queue of `frames` frames of 2048 octets, half of them for receiving, with the same number of entries in each ring as
/// half the frames. `frames` is a power of two.
pub fn queue(frames: u32) -> (XskRx, XskTx, Loopback) {
    let (rx, tx, kernel) = fake::queue(frames, frames / 2, 0);
    (rx, tx, Loopback { kernel })
}

impl Loopback {
    /// A packet of one segment comes in. False if there is no frame for it.
    pub fn receive(&mut self, packet: &[u8]) -> bool {
        self.kernel.receive(&[packet])
    }

    /// Everything that waits to be transmitted has been. Returns how many packets.
    pub fn complete(&mut self) -> usize {
        self.kernel.complete()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_round() {
        let (mut rx, mut tx, mut kernel) = queue(8);
        for round in 0..20u8 {
            while kernel.receive(&[round; 60]) {}
            assert_eq!(rx.receive(8), 4);
            rx.packets().for_each(|packet| assert_eq!(packet.len(), 60));
            rx.release();
            for _ in 0..4 {
                let mut writer = tx.start(2).expect("a frame");
                writer.append(&[round, 1]);
                writer.commit(None);
            }
            assert!(tx.start(2).is_err());
            tx.flush();
            assert_eq!(kernel.complete(), 4);
            tx.flush();
        }
    }
}
