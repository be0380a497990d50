//! What does the I/O path cost without any switching: two AF_XDP ports, every frame copied to the other one?

use anyhow::{Context, Result};
use clap::Args;
use shunt_ffi::{Attachment, Claims, QueueOptions, WantedMode, XdpMode, XskRx, XskTx};

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
        forward(&mut rx_1, &mut tx_2);
        forward(&mut rx_2, &mut tx_1);
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
fn forward(rx: &mut XskRx, tx: &mut XskTx) {
    let count = rx.receive(BATCH);
    for index in 0..count {
        let packet = rx.packet(index);
        if let Ok(mut writer) = tx.start(packet.len()) {
            for segment in packet.segments() {
                writer.append(segment);
            }
            writer.commit(None);
        }
    }
    if count > 0 {
        rx.release();
        tx.flush();
    }
}
