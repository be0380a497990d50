//! How are frames sent that are too long for the in-kernel generator?
//!
//! Through an AF_XDP socket on the generator's device, which takes packets of several frames.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use shunt_ffi::{Attachment, Claims, QueueOptions, WantedMode, XdpMode, XskTx};

use crate::frame;
use crate::generator::{Pace, Traffic, ifindex};

/// Packets handed to the kernel at a time.
const BATCH: u32 = 16;
/// Lateness that is caught up; the rest is forgotten. As in `bpf/generator.c`.
const CATCH_UP_MAX: u64 = 50_000 << 10;

/// What the sending thread and its owner share.
pub struct Shared {
    /// In 1/1024 ns.
    interval: AtomicU64,
    sent: AtomicU64,
}

impl Shared {
    /// Nothing sent yet.
    pub fn new(pace: Pace) -> Self {
        Self { interval: AtomicU64::new(pace.interval()), sent: AtomicU64::new(0) }
    }

    /// Changes how fast is sent.
    pub fn set_pace(&self, pace: Pace) {
        self.interval.store(pace.interval(), Ordering::Relaxed);
    }

    /// Frames sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Sends until told to stop, from the namespace of the calling thread.
pub fn send(device: &str, traffic: &Traffic, shared: &Shared, stopping: &AtomicBool) -> Result<()> {
    let options = QueueOptions { ring_entries: 1024, frames: 1024, chunk_bytes: 4096, ..QueueOptions::default() };
    let mode = WantedMode::Exactly(XdpMode::Native);
    // What comes back is left to the kernel.
    let claims = Claims::Vlans(Vec::new());
    let (_attachment, halves) = Attachment::open(ifindex(device)?, device, 1, mode, false, &options, &claims)?;
    let (_, mut tx) = halves.into_iter().next().context("an attachment without queues")?;
    let mut frame = frame::tagged_template(traffic.size.max() as usize, traffic.tagged, traffic.from, traffic.to);
    let (mut sent, mut due) = (0_u64, 0_u64);
    while !stopping.load(Ordering::Relaxed) {
        let interval = shared.interval.load(Ordering::Relaxed);
        let left = traffic.count.map_or(u64::MAX, |count| count - sent);
        if interval == u64::MAX || left == 0 {
            due = 0;
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let mut queued = 0;
        while queued < BATCH && u64::from(queued) < left && is_due(&mut due, interval) {
            if !queue(&mut tx, &mut frame, traffic, sent) {
                break;
            }
            sent += 1;
            queued += 1;
        }
        if queued > 0 || tx.frames().in_kernel > 0 {
            tx.flush();
            shared.sent.store(sent, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn is_due(due: &mut u64, interval: u64) -> bool {
    if interval == 0 {
        return true;
    }
    let now = now_ns() << 10;
    if now < *due {
        return false;
    }
    let from = if now - *due > CATCH_UP_MAX { now } else { *due };
    *due = from + interval;
    true
}

/// Queues frame number `number`; false if there is no room.
fn queue(tx: &mut XskTx, frame: &mut [u8], traffic: &Traffic, number: u64) -> bool {
    let index = |count: u32| (number % u64::from(count)) as u32;
    let is_sample = traffic.sample_every > 0 && number.is_multiple_of(traffic.sample_every);
    let stamp = if is_sample { now_ns() } else { 0 };
    frame::vary(frame, traffic.tagged, index(traffic.flows), index(traffic.macs), stamp);
    match tx.start(frame.len()) {
        Ok(mut writer) => {
            writer.append(frame);
            writer.commit(None);
            true
        }
        Err(_) => false,
    }
}
