//! How does a worker's thread spend its time?
//!
//! It spins while packets come, for a while after the last one, and then sleeps in `poll` on its sockets and a wake-up event.
//! (Not `epoll`: the kernel would look at its list of watchers for each packet that is transmitted, awake or not, some 40 ns.)

use crate::clock::Clock;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, OwnedFd};
use shunt_ffi::cpu;
use shunt_switch::crossing::Wake;
use shunt_switch::worker::Worker;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// [`Shared::sleep_max_us`] of a worker that sleeps until something happens.
pub(super) const UNTIL_WOKEN: u64 = u64::MAX;

/// What a worker and the control thread both see of each other.
#[derive(Debug)]
pub(super) struct Shared {
    wakeup: OwnedFd,
    sleeping: AtomicBool,
    stop: AtomicBool,
    /// The core to run on.
    pub(super) core: AtomicUsize,
    /// Longest sleep in microseconds: 0 for none, [`UNTIL_WOKEN`] for no limit.
    pub(super) sleep_max_us: AtomicU64,
    /// Time spent in turns that found work.
    pub(super) busy_ns: AtomicU64,
    pub(super) busy_cycles: AtomicU64,
    pub(super) sleeps: AtomicU64,
    pub(super) slept_ns: AtomicU64,
}

impl Wake for Shared {
    fn wake(&self) {
        // Pairs with the fence in `sleep`: either the worker sees what was queued, or we see that it sleeps.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            self.ring();
        }
    }
}

impl Shared {
    pub(super) fn new(core: usize, sleep_max_us: u64) -> rustix::io::Result<Self> {
        Ok(Self {
            wakeup: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            sleeping: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            core: AtomicUsize::new(core),
            sleep_max_us: AtomicU64::new(sleep_max_us),
            busy_ns: AtomicU64::new(0),
            busy_cycles: AtomicU64::new(0),
            sleeps: AtomicU64::new(0),
            slept_ns: AtomicU64::new(0),
        })
    }

    /// Ends a sleep, or the next one.
    pub(super) fn ring(&self) {
        // The counter of an eventfd cannot overflow here: the sleeper resets it.
        let _ = rustix::io::write(&self.wakeup, &1u64.to_ne_bytes());
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ring();
    }
}

/// A worker's thread, from pinning to the end.
pub(super) fn run(mut worker: Worker, shared: &Shared, spin: Duration) {
    let mut core = usize::MAX;
    let clock = Clock::start();
    let spin_ns = u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX);
    let mut now = clock.now();
    let mut last_work = now;
    while !shared.stop.load(Ordering::Acquire) {
        let wanted = shared.core.load(Ordering::Relaxed);
        if wanted != core {
            core = wanted;
            move_to(core);
        }
        let (start, cycles) = (now, cpu::cycles());
        let turn = worker.turn(now);
        now = clock.now();
        if turn.packets > 0 {
            add(&shared.busy_ns, now.0 - start.0);
            add(&shared.busy_cycles, cpu::cycles() - cycles);
        }
        if turn.pending {
            last_work = now;
        } else if now.0 - last_work.0 <= spin_ns || !sleep(&worker, shared, clock) {
            std::hint::spin_loop();
        } else {
            now = clock.now();
            last_work = now;
        }
    }
}

/// The highest priority (nice). Nobody polls to share a core: who is off it for one tick of the scheduler, 4 ms, loses packets.
const PRIORITY: i32 = -20;

fn move_to(core: usize) {
    if let Err(error) = cpu::pin(core) {
        tracing::error!("worker for core {core} runs unpinned: {error}");
    }
    // On Linux of this thread alone. Without the privilege it stays as it is.
    if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
        tracing::debug!("worker on core {core} has no priority over other programs there: {error}");
    }
    if let Ok(name) = CString::new(format!("worker{core}")) {
        // It is only for those who read `top`.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Adds to a number of which this thread is the only writer.
fn add(to: &AtomicU64, n: u64) {
    to.store(to.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

/// Sleeps until a socket has packets, somebody wakes us, or it has been long enough. False if it must not sleep at all.
fn sleep(worker: &Worker, shared: &Shared, clock: Clock) -> bool {
    let sleep_max_us = match shared.sleep_max_us.load(Ordering::Relaxed) {
        // Whoever never sleeps does so for the packets' sake.
        0 if worker.has_queues() => return false,
        0 => UNTIL_WOKEN,
        limit => limit,
    };
    shared.sleeping.store(true, Ordering::Relaxed);
    std::sync::atomic::fence(Ordering::SeqCst);
    if !worker.has_work() && !shared.stop.load(Ordering::Acquire) {
        let sockets = worker.descriptors().chain([shared.wakeup.as_fd()]);
        let mut watched: Vec<_> = sockets.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let limit =
            Timespec { tv_sec: (sleep_max_us / 1_000_000) as i64, tv_nsec: (sleep_max_us % 1_000_000 * 1000) as i64 };
        let start = clock.now();
        // An interrupted wait is as good as a finished one: the next turn looks at everything anyway.
        let _ = poll(&mut watched, (sleep_max_us != UNTIL_WOKEN).then_some(&limit));
        add(&shared.sleeps, 1);
        add(&shared.slept_ns, clock.now().0 - start.0);
    }
    shared.sleeping.store(false, Ordering::Relaxed);
    let mut count = [0; 8];
    let _ = rustix::io::read(shared.wakeup.as_fd(), &mut count);
    true
}
