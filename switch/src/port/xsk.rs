//! How does the switch receive from, and transmit on, a real device?

use super::{Outcome, Packets, Receive, Transmit};
use crate::limits::FRAME_MIN;
use crate::path::edit::{Checksum, Copies, Cursor, Edit, One, Write};
use crate::reason::Reason;
use shunt_ffi::{ChecksumRequest, TxBurst, TxRefused, TxState, TxWriter, XskRx, XskTx};
use std::os::fd::BorrowedFd;

impl Receive for XskRx {
    fn receive(&mut self, max: usize) -> usize {
        XskRx::receive(self, max)
    }

    fn packets<'a>(&'a self, packets: &mut Packets<'a>) {
        XskRx::packets(self).for_each(|packet| packets.push(packet));
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.as_fd()
    }

    fn release(&mut self) {
        XskRx::release(self);
    }
}

impl Transmit for XskTx {
    fn send(&mut self, copies: Copies<'_>, edit: &Edit, sent: &mut Outcome) {
        let mut rest = copies;
        // Why nothing more fits, even after the kernel was told to transmit: it is asked again only after something did.
        let mut full = None;
        loop {
            let (queued, refused) = queue(&mut self.burst(rest.len()), rest, edit, &mut sent.octets);
            rest = rest.behind(queued);
            let Some(copy) = rest.iter().next() else { return };
            let place = (copies.len() - rest.len()) as u8;
            if queued > 0 {
                full = None;
            }
            let long = refused == TxRefused::Length;
            let attempt = if long { queue_long(self, &copy, edit) } else { Err(refused) };
            match (attempt, full) {
                (Ok(octets), _) => sent.octets += octets as u64,
                (Err(TxRefused::Length), _) => sent.refused.push((place, Reason::Oversized)),
                (Err(refused), None) => {
                    // A burst may be larger than the ring. This also finds a device that was down to be up again.
                    full = Some(reason(refused, XskTx::flush(self).state));
                    continue;
                }
                (Err(_), Some(reason)) => sent.refused.push((place, reason)),
            }
            rest = rest.behind(1);
        }
    }

    fn flush(&mut self) -> bool {
        let flush = XskTx::flush(self);
        // A device that is down or gone takes nothing however often it is asked.
        flush.pending > 0 && matches!(flush.state, TxState::Up | TxState::Busy)
    }
}

/// Queues copies of one frame each up to one that is refused. Returns how many, and why the next one was not.
#[inline]
fn queue(burst: &mut TxBurst<'_>, copies: Copies<'_>, edit: &Edit, octets: &mut u64) -> (usize, TxRefused) {
    let checksums = copies.checksums;
    let plain = |_, packet: &[u8], to: &mut [u8]| shunt_ffi::copy(packet, to);
    let tagged = |_, packet: &[u8], to: &mut [u8]| edit.write_whole(packet, to);
    let destinations = copies.destinations;
    if edit.is_routed() {
        let routed = |i: usize, packet: &[u8], to: &mut [u8]| edit.write_routed(packet, destinations[i], to);
        let checksum_of = |i| checksums.get(i).copied().unwrap_or_default();
        return queue_by(burst, copies, edit, octets, checksum_of, routed);
    }
    match (edit.changes_nothing(), checksums.is_empty()) {
        (true, true) => queue_by(burst, copies, edit, octets, |_| Checksum::Keep, plain),
        (true, false) => queue_by(burst, copies, edit, octets, |i| checksums[i], plain),
        (false, true) => queue_by(burst, copies, edit, octets, |_| Checksum::Keep, tagged),
        (false, false) => queue_by(burst, copies, edit, octets, |i| checksums[i], tagged),
    }
}

/// The same loop several times, so that copies which differ in nothing do not pay for those that do. `write` writes copy number so
/// and so, whose packet is in one segment.
#[inline(always)]
fn queue_by(
    burst: &mut TxBurst<'_>,
    copies: Copies<'_>,
    edit: &Edit,
    octets: &mut u64,
    checksum_of: impl Fn(usize) -> Checksum,
    write: impl Fn(usize, &[u8], &mut [u8]),
) -> (usize, TxRefused) {
    let (mut sum, packets) = (0, copies.packets);
    for (queued, packet) in packets.iter().enumerate() {
        let (head, checksum) = (packet.head(), checksum_of(queued));
        let len = edit.len_unpadded(packet);
        let is_plain = head.len() == packet.len() && len >= FRAME_MIN;
        let outcome = match checksum {
            Checksum::Keep if is_plain => burst.queue(len, None, |to| write(queued, head, to)),
            Checksum::Request { .. } if is_plain => {
                burst.queue(len, request(edit, checksum), |to| write(queued, head, to))
            }
            _ => unusual(burst, copies.behind(queued), edit),
        };
        if let Err(refused) = outcome {
            *octets += sum;
            return (queued, refused);
        }
        sum += len.max(FRAME_MIN) as u64;
    }
    *octets += sum;
    (packets.len(), TxRefused::Length)
}

/// Queues the first of the copies, which is padded, finished or put together.
#[inline(never)]
fn unusual(burst: &mut TxBurst<'_>, copies: Copies<'_>, edit: &Edit) -> Result<(), TxRefused> {
    let Some(copy) = copies.iter().next() else { return Ok(()) };
    let write = |to: &mut [u8]| edit.write(&copy, &mut Cursor::new(to));
    burst.queue(edit.len(copy.packet), request(edit, copy.checksum), write)
}

/// Queues a copy that may need several frames.
#[cold]
fn queue_long(side: &mut XskTx, copy: &One<'_>, edit: &Edit) -> Result<usize, TxRefused> {
    let len = edit.len(copy.packet);
    let mut writer = side.start(len)?;
    edit.write(copy, &mut writer);
    writer.commit(request(edit, copy.checksum));
    Ok(len)
}

#[inline]
fn request(edit: &Edit, checksum: Checksum) -> Option<ChecksumRequest> {
    edit.request(checksum).map(|(start, offset)| ChecksumRequest { start, offset })
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
