//! How does the switch receive from, and transmit on, a real device?

use super::{Receive, Transmit};
use crate::path::edit::{Edit, Write};
use crate::reason::Reason;
use shunt_ffi::{ChecksumRequest, Packet, TxRefused, TxState, TxWriter, XskRx, XskTx};
use std::os::fd::BorrowedFd;

impl Receive for XskRx {
    fn receive(&mut self, max: usize) -> usize {
        XskRx::receive(self, max)
    }

    fn packet(&self, index: usize) -> Packet<'_> {
        XskRx::packet(self, index)
    }

    fn head(&self, index: usize) -> (&[u8], usize) {
        XskRx::head(self, index)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.as_fd()
    }

    fn release(&mut self) {
        XskRx::release(self);
    }
}

impl Transmit for XskTx {
    fn send(&mut self, packet: &Packet<'_>, edit: &Edit) -> Result<usize, Reason> {
        let len = edit.len(packet);
        let mut earlier = None;
        loop {
            let refused = match self.start(len) {
                Ok(mut writer) => {
                    edit.write(packet, &mut writer);
                    writer.commit(edit.request().map(|(start, offset)| ChecksumRequest { start, offset }));
                    return Ok(len);
                }
                Err(refused) => refused,
            };
            if let Some(reason) = earlier {
                return Err(reason);
            }
            // Once more after the kernel was told to transmit: a burst may be larger than the ring. This also finds a device
            // that was down to be up again.
            earlier = Some(reason(refused, XskTx::flush(self).state));
        }
    }

    fn flush(&mut self) -> bool {
        let flush = XskTx::flush(self);
        // A device that is down or gone takes nothing however often it is asked.
        flush.pending > 0 && matches!(flush.state, TxState::Up | TxState::Busy)
    }
}

impl Write for TxWriter<'_> {
    #[inline]
    fn append(&mut self, octets: &[u8]) {
        TxWriter::append(self, octets);
    }

    fn patch(&mut self, offset: usize, octets: &[u8]) {
        TxWriter::patch(self, offset, octets);
    }
}

fn reason(refused: TxRefused, state: TxState) -> Reason {
    match (refused, state) {
        (TxRefused::Length, _) => Reason::Oversized,
        (_, TxState::Down | TxState::Gone | TxState::Failed(_)) => Reason::TxDown,
        (TxRefused::RingFull | TxRefused::NoFrame, TxState::Up | TxState::Busy) => Reason::TxFull,
    }
}
