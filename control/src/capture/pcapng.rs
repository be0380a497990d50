//! How is a capture written down, and read? pcapng (draft-ietf-opsawg-pcapng), which Wireshark, tshark and tcpdump read.
//!
//! One section in little endian, an interface for each port, nanoseconds. What became of a packet is its comment.

/// Block types.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
/// How a reader finds out about the byte order.
const MAGIC: u32 = 0x1a2b_3c4d;
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
/// 10^-9 s.
const NANOSECONDS: u8 = 9;
/// Option codes: of all blocks, and of each its own.
const COMMENT: u16 = 1;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_FILTER: u16 = 11;
const INTERFACE_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
const STATISTICS_START: u16 = 2;
const STATISTICS_END: u16 = 3;
const STATISTICS_RECEIVED: u16 = 4;
const STATISTICS_DROPPED: u16 = 5;
/// A block: type, length, ..., length.
const FRAME: usize = 12;

/// A block being appended to `out`.
struct Block<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Block<'a> {
    fn begin(out: &'a mut Vec<u8>, kind: u32) -> Self {
        let start = out.len();
        out.extend(kind.to_le_bytes());
        out.extend([0; 4]);
        Self { out, start }
    }

    fn word(&mut self, word: u32) {
        self.out.extend(word.to_le_bytes());
    }

    /// 64 bits, the high half first.
    fn time(&mut self, ns: u64) {
        self.word((ns >> 32) as u32);
        self.word(ns as u32);
    }

    fn padded(&mut self, octets: &[u8]) {
        self.out.extend(octets);
        self.out.extend(&[0; 3][..octets.len().wrapping_neg() & 3]);
    }

    fn option(&mut self, code: u16, octets: &[u8]) {
        let octets = &octets[..octets.len().min(usize::from(u16::MAX))];
        self.out.extend(code.to_le_bytes());
        self.out.extend((octets.len() as u16).to_le_bytes());
        self.padded(octets);
    }

    fn time_option(&mut self, code: u16, ns: u64) {
        let [high, low] = [(ns >> 32) as u32, ns as u32].map(u32::to_le_bytes);
        self.option(code, &[high, low].concat());
    }

    /// No more options.
    fn end(mut self) {
        self.word(0);
        let len = (self.out.len() - self.start + 4) as u32;
        self.word(len);
        self.out[self.start + 4..self.start + 8].copy_from_slice(&len.to_le_bytes());
    }
}

/// Begins a file.
pub fn section(out: &mut Vec<u8>) {
    let mut block = Block::begin(out, SECTION);
    block.word(MAGIC);
    // Version 1.0; how long the section is, is not known.
    block.word(1);
    block.word(u32::MAX);
    block.word(u32::MAX);
    block.option(SECTION_APPLICATION, concat!("shunt ", env!("CARGO_PKG_VERSION")).as_bytes());
    block.end();
}

/// The next interface: they are numbered from 0 in the order in which they come.
pub fn interface(out: &mut Vec<u8>, name: &str, snaplen: u32, filter: Option<&str>) {
    let mut block = Block::begin(out, INTERFACE);
    block.word(ETHERNET.into());
    block.word(snaplen);
    block.option(INTERFACE_NAME, name.as_bytes());
    block.option(INTERFACE_RESOLUTION, &[NANOSECONDS]);
    if let Some(filter) = filter {
        // 0: it is text, as libpcap takes it.
        block.option(INTERFACE_FILTER, &[&[0], filter.as_bytes()].concat());
    }
    block.end();
}

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Number of its interface.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub at_ns: u64,
    /// It leaves; or it came.
    pub is_out: bool,
    /// Octets that it had.
    pub len: u32,
    /// Those that are kept.
    pub octets: &'a [u8],
    /// What became of it.
    pub comment: &'a str,
}

/// Writes a packet.
pub fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let mut block = Block::begin(out, PACKET);
    block.word(packet.interface);
    block.time(packet.at_ns);
    block.word(packet.octets.len() as u32);
    block.word(packet.len);
    block.padded(packet.octets);
    let direction: u32 = if packet.is_out { 2 } else { 1 };
    block.option(PACKET_FLAGS, &direction.to_le_bytes());
    block.option(COMMENT, packet.comment.as_bytes());
    block.end();
}

/// What an interface came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Number of the interface.
    pub interface: u32,
    /// First and last nanosecond, since 1970.
    pub from_ns: u64,
    /// Last one.
    pub to_ns: u64,
    /// Packets that were wanted.
    pub received: u64,
    /// Those of them that are not in the file.
    pub dropped: u64,
}

/// Ends an interface.
pub fn statistics(out: &mut Vec<u8>, statistics: &Statistics) {
    let mut block = Block::begin(out, STATISTICS);
    block.word(statistics.interface);
    block.time(statistics.to_ns);
    block.time_option(STATISTICS_START, statistics.from_ns);
    block.time_option(STATISTICS_END, statistics.to_ns);
    block.option(STATISTICS_RECEIVED, &statistics.received.to_le_bytes());
    block.option(STATISTICS_DROPPED, &statistics.dropped.to_le_bytes());
    block.end();
}

/// A block that was read. Only what [`section`] and the others write is understood.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// An interface of this name.
    Interface(String),
    /// A packet.
    Packet(Packet<'a>),
    /// The end of an interface.
    Statistics(Statistics),
    /// Anything else.
    Other,
}

/// The first block of `octets`, and how long it is; none if it is not all there. An error, if this is no such file.
pub fn read(octets: &[u8]) -> Result<Option<(Read<'_>, usize)>, &'static str> {
    const WRONG: &str = "not the pcapng that shuntd writes";
    let (Some(kind), Some(len)) = (word(octets, 0), word(octets, 4)) else { return Ok(None) };
    let len = len as usize;
    if len < FRAME || !len.is_multiple_of(4) || len > 1 << 20 {
        return Err(WRONG);
    }
    let Some(block) = octets.get(..len) else { return Ok(None) };
    let body = &block[8..len - 4];
    let read = match kind {
        INTERFACE => interface_of(body),
        PACKET => packet_of(body),
        STATISTICS => statistics_of(body),
        _ => Some(Read::Other),
    };
    Ok(Some((read.ok_or(WRONG)?, len)))
}

fn interface_of(body: &[u8]) -> Option<Read<'_>> {
    let (_, name) = options(body.get(8..)?).find(|(code, _)| *code == INTERFACE_NAME)?;
    Some(Read::Interface(String::from_utf8_lossy(name).into_owned()))
}

fn packet_of(body: &[u8]) -> Option<Read<'_>> {
    let caught = word(body, 12)? as usize;
    let octets = body.get(20..)?.get(..caught)?;
    let behind = body.get(20 + caught.next_multiple_of(4)..)?;
    let of = |wanted| options(behind).find(|(code, _)| *code == wanted).map_or(&[][..], |(_, octets)| octets);
    let comment = std::str::from_utf8(of(COMMENT)).ok()?;
    let is_out = word(of(PACKET_FLAGS), 0)? & 3 == 2;
    let at_ns = time(body.get(4..12)?)?;
    Some(Read::Packet(Packet { interface: word(body, 0)?, at_ns, is_out, len: word(body, 16)?, octets, comment }))
}

fn statistics_of(body: &[u8]) -> Option<Read<'_>> {
    let of = |wanted| options(body.get(12..)?).find(|(code, _)| *code == wanted).map(|(_, octets)| octets);
    let count = |code| Some(u64::from_le_bytes(of(code)?.try_into().ok()?));
    let (from_ns, to_ns) = (time(of(STATISTICS_START)?)?, time(of(STATISTICS_END)?)?);
    let (received, dropped) = (count(STATISTICS_RECEIVED)?, count(STATISTICS_DROPPED)?);
    Some(Read::Statistics(Statistics { interface: word(body, 0)?, from_ns, to_ns, received, dropped }))
}

fn word(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*octets.get(at..)?.first_chunk()?))
}

fn time(octets: &[u8]) -> Option<u64> {
    Some(u64::from(word(octets, 0)?) << 32 | u64::from(word(octets, 4)?))
}

fn options(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = word(octets, 0)?;
        let (code, len) = (header as u16, (header >> 16) as usize);
        let value = octets.get(4..)?.get(..len)?;
        octets = octets.get(4 + len.next_multiple_of(4)..)?;
        (code != 0).then_some((code, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_however_it_comes() {
        let mut out = Vec::new();
        section(&mut out);
        interface(&mut out, "veth1", 9216, Some("arp"));
        let octets: Vec<u8> = (0..61).collect();
        let packets: Vec<Packet<'_>> = (0..8)
            .map(|n| Packet {
                interface: 0,
                at_ns: 1_700_000_000_123_456_789 + n,
                is_out: n % 2 == 1,
                len: 100,
                octets: &octets[..octets.len() - n as usize],
                comment: ["", "x", "to veth2, veth3"][n as usize % 3],
            })
            .collect();
        packets.iter().for_each(|one| packet(&mut out, one));
        let end = Statistics { interface: 0, from_ns: 5, to_ns: u64::MAX - 5, received: 10, dropped: 2 };
        statistics(&mut out, &end);
        let (mut at, mut blocks) = (0, Vec::new());
        while at < out.len() {
            let (_, len) = read(&out[at..]).unwrap().expect("a whole block");
            // As long as the block is not all there, there is nothing; and nothing panics.
            assert!((0..len).all(|cut| read(&out[at..at + cut]) == Ok(None)));
            blocks.push(read(&out[at..at + len]).unwrap().unwrap().0);
            at += len;
        }
        let wanted = [Read::Other, Read::Interface("veth1".to_owned())];
        assert_eq!(blocks[..2], wanted);
        assert_eq!(blocks[10], Read::Statistics(end));
        for (block, packet) in blocks[2..10].iter().zip(packets) {
            assert_eq!(*block, Read::Packet(packet));
        }
        assert!(read(&[0; 12]).is_err());
        assert!(read(&[6, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
