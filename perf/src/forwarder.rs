//! What does the I/O path cost without any switching: two AF_XDP ports, every frame copied to the other one?

use anyhow::{Context, Result};
use clap::Args;
use shunt_ffi::{Attachment, ChecksumRequest, Claims, QueueOptions, WantedMode, XdpMode, XskRx, XskTx};

/// Packets taken at a time.
const BATCH: usize = 64;

/// Settings of the forwarder.
#[derive(Args, Clone, Debug)]
pub struct Forwarder {
    /// The two devices, in the network namespace of this program.
    #[arg(num_args = 2, required = true, value_name = "DEVICE")]
    pub devices: Vec<String>,
    /// The core to run on.
    #[arg(long, default_value_t = 1)]
    pub core: usize,
    /// Entries of each ring.
    #[arg(long, default_value_t = QueueOptions::default().ring_entries)]
    pub ring: u32,
    /// Frames of each port, half of them to receive.
    #[arg(long, default_value_t = QueueOptions::default().frames)]
    pub frames: u32,
    /// Ask the kernel to complete TCP's and UDP's checksums over untagged IPv4: what containers leave to their device.
    #[arg(long)]
    pub checksums: bool,
    /// Packets that one system call transmits.
    #[arg(long, default_value_t = QueueOptions::default().tx_budget)]
    pub tx_budget: u32,
}

/// What the forwarder says when it forwards.
pub const READY: &str = "forwarding";

/// Forwards until killed, polling all the time.
pub fn run(settings: &Forwarder) -> Result<()> {
    let options = QueueOptions {
        ring_entries: settings.ring,
        frames: settings.frames,
        tx_budget: settings.tx_budget,
        ..QueueOptions::default()
    };
    let (_keep_1, mut rx_1, mut tx_1) = open(&settings.devices[0], &options)?;
    let (_keep_2, mut rx_2, mut tx_2) = open(&settings.devices[1], &options)?;
    shunt_ffi::cpu::pin(settings.core)?;
    println!("{READY}");
    loop {
        forward(&mut rx_1, &mut tx_2, settings.checksums);
        forward(&mut rx_2, &mut tx_1, settings.checksums);
    }
}

fn open(device: &str, options: &QueueOptions) -> Result<(Attachment, XskRx, XskTx)> {
    let ifindex = crate::generator::ifindex(device)?;
    let mode = WantedMode::Exactly(XdpMode::Native);
    let (attachment, halves) = Attachment::open(ifindex, device, 1, mode, false, options, &Claims::Everything)?;
    let (rx, tx) = halves.into_iter().next().context("an attachment without queues")?;
    Ok((attachment, rx, tx))
}

/// One burst; what does not fit into the transmit ring is lost.
fn forward(rx: &mut XskRx, tx: &mut XskTx, checksums: bool) {
    let count = rx.receive(BATCH);
    rx.packets().for_each(|packet| {
        let request = if checksums { checksum_of(packet.head()) } else { None };
        if let Ok(mut writer) = tx.start(packet.len()) {
            for segment in packet.segments() {
                writer.append(segment);
            }
            writer.commit(request);
        }
    });
    if count > 0 {
        rx.release();
        tx.flush();
    }
}

/// Where the checksum of a TCP or UDP packet is that is no fragment.
fn checksum_of(head: &[u8]) -> Option<ChecksumRequest> {
    let ip = head.get(14..34)?;
    if head[12..14] != [0x08, 0x00] || ip[6] & 0x3f != 0 || ip[7] != 0 {
        return None;
    }
    let start = 14 + u16::from(ip[0] & 0x0f) * 4;
    match ip[9] {
        6 => Some(ChecksumRequest { start, offset: 16 }),
        17 => Some(ChecksumRequest { start, offset: 6 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_found_where_there_are_some() {
        let mut frame = crate::frame::template(64, 1, 2);
        assert_eq!(checksum_of(&frame), Some(ChecksumRequest { start: 34, offset: 6 }));
        frame[23] = 6;
        assert_eq!(checksum_of(&frame), Some(ChecksumRequest { start: 34, offset: 16 }));
        frame[20] = 0x20;
        assert_eq!(checksum_of(&frame), None, "a fragment");
        assert_eq!(checksum_of(&crate::frame::tagged_template(64, true, 1, 2)), None, "a tag");
        assert_eq!(checksum_of(&[0; 20]), None, "too short");
    }
}
