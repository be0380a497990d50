//! How does the control thread learn of single packets?
//!
//! A tap is a way from one worker to the control thread for records of packets: what a packet was, what became of it, and as much
//! of it as is wanted, as received. It is two bounded rings, one of records and one of octets: the octets of a record are there
//! before it is. A worker never waits and never wakes anybody for it; who reads comes to look (sFlow: ten times a second). What
//! does not fit is lost, and whoever asked for it counts that.
//!
//! [`path::tap`](crate::path::tap) writes at the end of the road, when a packet's fate is known and what was received is
//! still there. sFlow reads what [`Sampling`](crate::table::sampler::Sampling) of a port asks for. Each
//! [`Capture`](crate::capture::Capture) has a tap of its own, so that its loss is nobody else's.

use crate::config::PortIndex;
use crate::limits::{TAP_OCTETS, TAP_RECORDS};
use crate::reason::Reason;
use crate::table::next_hop::InterfaceIndex;
use crate::time::Instant;
use crate::wire::ethernet::Mac;
use rtrb::{Consumer, Producer, RingBuffer};
use shunt_ffi::Packet;

/// Why there is a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The packet was drawn: one in so many.
    Sampled(u32),
    /// The packet, or its only copy, was dropped, and drops are told of.
    Dropped,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It left by this port; or is on its way to the worker that has the port.
    Sent(PortIndex),
    /// Copies left by so many ports.
    Flooded(u16),
    /// It did not leave.
    Dropped {
        /// Why not.
        reason: Reason,
        /// The port that it should have left by, if that was known.
        port: PortIndex,
    },
}

/// A VLAN and a priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vlan {
    /// The bridge's VLAN, or that of the port's device if the bridge has only VLAN 0; 0 for none.
    pub vid: u16,
    /// Priority on the wire, 0 without a tag.
    pub pcp: u8,
}

/// One packet, as seen at the end of the road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Why this packet.
    pub cause: Cause,
    /// The beginning of the turn in which it was received.
    pub at: Instant,
    /// The port that it came in by, in the numbers of the snapshot in force then.
    pub port: PortIndex,
    /// Octets of the packet as received.
    pub len: u32,
    /// How many of them, the first, come with the record.
    pub caught: u16,
    /// Where it came in, if it got so far that it had a VLAN.
    pub vlan_in: Option<Vlan>,
    /// Where it left, if it did.
    pub vlan_out: Option<Vlan>,
    /// It was routed: the port of the router's interface that took it. [`PortIndex::NONE`] if not.
    pub routed_from: PortIndex,
    /// And to whom.
    pub next_hop: Option<(InterfaceIndex, Mac)>,
    /// Its fate.
    pub outcome: Outcome,
}

/// A record that octets of its packet come with.
pub trait Catch: Copy {
    /// How many.
    fn caught(&mut self) -> &mut u16;
}

impl Catch for Record {
    fn caught(&mut self) -> &mut u16 {
        &mut self.caught
    }
}

/// A worker's end of a tap.
pub struct Tap<R = Record> {
    records: Producer<R>,
    octets: Producer<u8>,
}

/// The control thread's end.
pub struct Reader<R = Record> {
    records: Consumer<R>,
    octets: Consumer<u8>,
}

/// Both ends of a worker's tap.
pub fn tap() -> (Tap, Reader) {
    with_room(TAP_RECORDS, TAP_OCTETS)
}

/// Both ends of a tap with room for so many records and octets.
pub fn with_room<R: Catch>(records: usize, octets: usize) -> (Tap<R>, Reader<R>) {
    let (records, record_end) = RingBuffer::new(records);
    let (octets, octet_end) = RingBuffer::new(octets);
    (Tap { records, octets }, Reader { records: record_end, octets: octet_end })
}

impl<R: Catch> Tap<R> {
    /// Hands over a record with up to `snaplen` octets of its packet. False if there was no room.
    #[must_use]
    pub fn write(&mut self, mut record: R, packet: &Packet<'_>, snaplen: usize) -> bool {
        let packet = packet.truncated(snaplen.min(usize::from(u16::MAX)));
        if self.records.is_full() || self.octets.slots() < packet.len() {
            return false;
        }
        for segment in packet.segments() {
            let written = self.octets.push_entire_slice(segment);
            debug_assert!(written.is_ok(), "there was room");
        }
        *record.caught() = packet.len() as u16;
        self.records.push(record).is_ok()
    }
}

impl<R: Catch> Reader<R> {
    /// The next record; its octets replace those in `octets`.
    pub fn next(&mut self, octets: &mut Vec<u8>) -> Option<R> {
        let mut record = self.records.pop().ok()?;
        octets.resize(usize::from(*record.caught()), 0);
        let read = self.octets.pop_entire_slice(octets);
        debug_assert!(read.is_ok(), "octets come before their record");
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: u32) -> Record {
        Record {
            cause: Cause::Sampled(1),
            at: Instant::default(),
            port: PortIndex(1),
            len,
            caught: 0,
            vlan_in: None,
            vlan_out: None,
            routed_from: PortIndex::NONE,
            next_hop: None,
            outcome: Outcome::Flooded(2),
        }
    }

    #[test]
    fn octets_stay_with_their_record_and_a_full_tap_takes_nothing() {
        let (mut tap, mut reader) = tap();
        let mut octets = Vec::new();
        let pieces: Vec<Vec<u8>> = (0..3u8).map(|n| vec![n; 100]).collect();
        let segments: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let long = Packet::segmented(&segments, 0, 300);
        // Several times around, with packets in pieces, cut and whole.
        for round in 0..TAP_RECORDS as u32 * 3 {
            let snaplen = round as usize % 400;
            assert!(tap.write(record(round), &long, snaplen));
            let read = reader.next(&mut octets).expect("a record");
            assert_eq!((read.len, usize::from(read.caught)), (round, snaplen.min(300)));
            assert_eq!(octets, &long.to_vec()[..snaplen.min(300)]);
            assert_eq!(reader.next(&mut octets), None);
        }
        let mut written = 0;
        while tap.write(record(written), &long, 128) {
            written += 1;
        }
        assert_eq!(written as usize, TAP_RECORDS);
        assert_eq!(std::iter::from_fn(|| reader.next(&mut octets)).count(), TAP_RECORDS);
        let huge = vec![7; usize::from(u16::MAX)];
        let huge = Packet::contiguous(&huge);
        written = 0;
        while tap.write(record(written), &huge, usize::MAX) {
            written += 1;
        }
        assert_eq!(written as usize, TAP_OCTETS / huge.len());
        assert_eq!(std::iter::from_fn(|| reader.next(&mut octets)).map(|read| read.len).max(), Some(written - 1));
    }
}
