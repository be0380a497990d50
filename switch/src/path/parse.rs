//! Step 2: what kind of frame is it, and which port did it come in by?
//!
//! Exits: [`Reason::Oversized`], [`Reason::TruncatedEthernet`], [`Reason::TruncatedVlan`], [`Reason::NoPort`].

use crate::batch::Batch;
use crate::config::{DeviceIndex, Ingress, PortIndex, Snapshot};
use crate::limits::FRAME_MAX;
use crate::meta::{Fate, Meta};
use crate::port::Receive;
use crate::reason::Reason;
use crate::wire::vlan::{TAG, TPID_8021Q};
use crate::wire::{ethernet, vlan};

/// Reads the headers of all packets, which came from `device`, and finds their ports.
#[inline]
pub fn run(batch: &mut Batch, side: &dyn Receive, device: DeviceIndex, config: &Snapshot) {
    let ingress = config.device(device).map(|device| &device.ingress);
    for (i, meta) in batch.all() {
        let (head, len) = side.head(i);
        meta.len = len as u32;
        if let Err(reason) = one(meta, head, ingress, config) {
            meta.fate = Fate::Dropped(reason);
        }
    }
}

#[inline]
fn one(meta: &mut Meta, head: &[u8], ingress: Option<&Ingress>, config: &Snapshot) -> Result<(), Reason> {
    // The port first, where it does not depend on the frame: whatever is wrong is then counted there.
    let claimed = |port: PortIndex| if config.port(port).is_some() { port } else { PortIndex::NONE };
    if let Some(Ingress::Port(port)) = ingress {
        meta.port = claimed(*port);
    }
    if meta.len as usize > FRAME_MAX {
        return Err(Reason::Oversized);
    }
    let header = ethernet::parse(head).ok_or(Reason::TruncatedEthernet)?;
    meta.destination = header.destination;
    meta.source = header.source;
    let mut ethertype = header.ethertype;
    if let Some(Ingress::Vlans(ports)) = ingress
        && ethertype == TPID_8021Q
    {
        let (tag, next) = vlan::tag_at(head, ethernet::ADDRESSES, ethertype).map_err(|_| Reason::TruncatedVlan)?;
        if tag.vid() != 0 {
            meta.port = claimed(ports[usize::from(tag.vid())]);
        }
        meta.link_octets = TAG as u8;
        ethertype = next;
    }
    if meta.port == PortIndex::NONE {
        return Err(Reason::NoPort);
    }
    let offset = ethernet::ADDRESSES + usize::from(meta.link_octets);
    (meta.tags, meta.ethertype) = vlan::parse(head, offset, ethertype).map_err(|_| Reason::TruncatedVlan)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bridge_ports, device};

    fn parsed(frame: &[u8], ingress: Option<&Ingress>) -> (Result<(), Reason>, Meta) {
        let config = bridge_ports(&[Default::default(), Default::default()]);
        let mut meta = Meta { len: frame.len() as u32, ..Meta::default() };
        (one(&mut meta, frame, ingress, &config), meta)
    }

    #[test]
    fn frames_are_measured_before_they_are_read() {
        let ingress = device(0).ingress;
        let frame = [[2u8; 12].as_slice(), &[0x81, 0, 0, 5, 0x88, 0xa8, 0, 6, 8, 0]].concat();
        for len in 0..14 {
            assert_eq!(parsed(&frame[..len], Some(&ingress)).0, Err(Reason::TruncatedEthernet));
        }
        for len in 14..22 {
            assert_eq!(parsed(&frame[..len], Some(&ingress)).0, Err(Reason::TruncatedVlan), "{len}");
        }
        let (result, meta) = parsed(&frame, Some(&ingress));
        assert_eq!((result, meta.tags.count(), meta.ethertype, meta.payload_offset()), (Ok(()), 2, 0x0800, 22));
        assert_eq!(parsed(&vec![0; FRAME_MAX + 1], Some(&ingress)).0, Err(Reason::Oversized));
    }

    #[test]
    fn the_outermost_tag_chooses_the_port_of_a_shared_device() {
        let mut ports = Box::new([PortIndex::NONE; crate::limits::VLANS]);
        ports[181] = PortIndex(1);
        ports[182] = PortIndex(40);
        ports[0] = PortIndex(0);
        let ingress = Ingress::Vlans(ports);
        let frame = |tags: &[u8]| [[2u8; 12].as_slice(), tags, &[8, 0]].concat();
        let (result, meta) = parsed(&frame(&[0x81, 0, 0, 181, 0x81, 0, 0, 9]), Some(&ingress));
        assert_eq!(
            (result, meta.port, meta.link_octets, meta.tags.get(0).unwrap().vid()),
            (Ok(()), PortIndex(1), 4, 9)
        );
        for tags in [&[0x81, 0, 0, 182][..], &[0x81, 0, 0, 183], &[0x81, 0, 0, 0], &[0x88, 0xa8, 0, 181], &[]] {
            assert_eq!(parsed(&frame(tags), Some(&ingress)).0, Err(Reason::NoPort), "{tags:?}");
        }
        assert_eq!(parsed(&frame(&[]), None).0, Err(Reason::NoPort));
    }
}
