//! Step 2: what kind of frame is it, and which port did it come in by?
//!
//! Exits: [`Reason::Oversized`], [`Reason::TruncatedEthernet`], [`Reason::TruncatedVlan`], [`Reason::NoPort`].

use crate::config::{Ingress, PortIndex};
use crate::limits::FRAME_MAX;
use crate::meta::Meta;
use crate::path::lane::{Lane, Lanes};
use crate::reason::Reason;
use crate::wire::vlan::{TAG, TPID_8021AD, TPID_8021Q};
use crate::wire::{ethernet, vlan};

/// Reads the headers of a packet of `meta.len` octets, and finds the port that it came in by.
#[inline(always)]
pub fn one<'l, 'a>(
    meta: &mut Meta,
    head: &[u8],
    ingress: &Ingress,
    lanes: &'l mut Lanes<'a>,
) -> Result<&'l mut Lane<'a>, Reason> {
    let Ingress::Port(port) = ingress else { return by_link_tag(meta, head, ingress, lanes) };
    let lane = lanes.of(*port);
    // First: whatever is wrong is then counted there.
    if lane.is_some() {
        meta.port = *port;
    }
    let ethertype = ethernet(meta, head)?;
    let lane = lane.ok_or(Reason::NoPort)?;
    tags(meta, head, ethertype)?;
    Ok(lane)
}

/// A packet of a device that several ports share, which its outermost tag tells apart.
#[inline(never)]
fn by_link_tag<'l, 'a>(
    meta: &mut Meta,
    head: &[u8],
    ingress: &Ingress,
    lanes: &'l mut Lanes<'a>,
) -> Result<&'l mut Lane<'a>, Reason> {
    let (tpid, ports) = match ingress {
        Ingress::Port(_) => return Err(Reason::NoPort),
        Ingress::Vlans(ports) => (TPID_8021Q, ports),
        Ingress::Punted(ports) => (TPID_8021AD, ports),
    };
    let mut ethertype = ethernet(meta, head)?;
    if ethertype == tpid {
        let (tag, next) = vlan::tag_at(head, ethernet::ADDRESSES, ethertype).map_err(|_| Reason::TruncatedVlan)?;
        let port = ports[usize::from(tag.vid())];
        if tag.vid() != 0 && lanes.of(port).is_some() {
            meta.port = port;
        }
        meta.link_octets = TAG as u8;
        ethertype = next;
    }
    if meta.port == PortIndex::NONE {
        return Err(Reason::NoPort);
    }
    tags(meta, head, ethertype)?;
    lanes.of(meta.port).ok_or(Reason::NoPort)
}

/// Reads the addresses. Returns the EtherType behind them.
#[inline(always)]
fn ethernet(meta: &mut Meta, head: &[u8]) -> Result<u16, Reason> {
    if meta.len as usize > FRAME_MAX {
        return Err(Reason::Oversized);
    }
    let header = ethernet::parse(head).ok_or(Reason::TruncatedEthernet)?;
    meta.destination = header.destination;
    meta.source = header.source;
    Ok(header.ethertype)
}

/// Reads the tags that the bridge sees, where `ethertype` is.
#[inline(always)]
fn tags(meta: &mut Meta, head: &[u8], ethertype: u16) -> Result<(), Reason> {
    let offset = ethernet::ADDRESSES + usize::from(meta.link_octets);
    (meta.ethertype, meta.payload) = (ethertype, offset as u8 + 2);
    if vlan::is_tpid(ethertype) {
        (meta.tags, meta.ethertype) = vlan::parse(head, offset, ethertype).map_err(|_| Reason::TruncatedVlan)?;
        meta.payload += (meta.tags.count() * TAG) as u8;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bridge_ports, device};

    fn parsed(frame: &[u8], ingress: &Ingress) -> (Result<(), Reason>, Meta) {
        let config = bridge_ports(&[Default::default(), Default::default()]);
        let mut meta = Meta { len: frame.len() as u32, ..Meta::default() };
        let lane = one(&mut meta, frame, ingress, &mut Lanes::new(&config)).map(|lane| lane.index);
        (lane.map(|lane| assert_eq!(lane, meta.port)), meta)
    }

    #[test]
    fn frames_are_measured_before_they_are_read() {
        let ingress = device(0).ingress;
        let frame = [[2u8; 12].as_slice(), &[0x81, 0, 0, 5, 0x88, 0xa8, 0, 6, 8, 0]].concat();
        for len in 0..14 {
            assert_eq!(parsed(&frame[..len], &ingress).0, Err(Reason::TruncatedEthernet));
        }
        for len in 14..22 {
            assert_eq!(parsed(&frame[..len], &ingress).0, Err(Reason::TruncatedVlan), "{len}");
        }
        let (result, meta) = parsed(&frame, &ingress);
        assert_eq!((result, meta.tags.count(), meta.ethertype, meta.payload_offset()), (Ok(()), 2, 0x0800, 22));
        assert_eq!(parsed(&vec![0; FRAME_MAX + 1], &ingress).0, Err(Reason::Oversized));
    }

    #[test]
    fn the_outermost_tag_chooses_the_port_of_a_shared_device() {
        let mut ports = Box::new([PortIndex::NONE; crate::limits::VLANS]);
        ports[181] = PortIndex(1);
        ports[182] = PortIndex(40);
        ports[0] = PortIndex(0);
        let ingress = Ingress::Vlans(ports.into());
        let frame = |tags: &[u8]| [[2u8; 12].as_slice(), tags, &[8, 0]].concat();
        let (result, meta) = parsed(&frame(&[0x81, 0, 0, 181, 0x81, 0, 0, 9]), &ingress);
        assert_eq!(
            (result, meta.port, meta.link_octets, meta.tags.get(0).unwrap().vid()),
            (Ok(()), PortIndex(1), 4, 9)
        );
        for tags in [&[0x81, 0, 0, 182][..], &[0x81, 0, 0, 183], &[0x81, 0, 0, 0], &[0x88, 0xa8, 0, 181], &[]] {
            assert_eq!(parsed(&frame(tags), &ingress).0, Err(Reason::NoPort), "{tags:?}");
        }
        assert_eq!(parsed(&frame(&[]), &Ingress::Port(PortIndex(2))).0, Err(Reason::NoPort));
    }
}
