//! How do the workers run, and how does the control thread reach them?
//!
//! A worker is a pinned thread around [`Worker::turn`]. It spins while packets come, for [`Tuning::spin`] after the last
//! one, and then sleeps in `poll` on its sockets and a wake-up event. (Not `epoll`: the kernel would look at its list of
//! watchers for each packet that is transmitted, awake or not, some 40 ns.) The control thread owns the other end of each
//! worker's command and event rings; its calls here return when every worker has done what was asked.

use crate::clock::Clock;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::{AsFd, OwnedFd};
use shunt_ffi::cpu;
use shunt_switch::command::{self, Command, Event};
use shunt_switch::config::{DeviceIndex, Snapshot};
use shunt_switch::counters::{Counter, WorkerCounters};
use shunt_switch::crossing::Wake;
use shunt_switch::worker::{self, Worker};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How workers spend their time.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// How long a worker spins after the last packet before it sleeps.
    pub spin: Duration,
    /// Never sleep.
    pub busy_poll: bool,
}

/// Longest wait for workers to obey; they do within microseconds unless the machine starves them.
const OBEY_TIMEOUT: Duration = Duration::from_secs(10);

/// A worker did not do what it was told in time.
#[derive(Debug, thiserror::Error)]
#[error("worker {worker} on core {core} did not answer within {} s: look for what starves this core", OBEY_TIMEOUT.as_secs())]
pub struct Stuck {
    worker: usize,
    core: usize,
}

/// Why the workers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An operating system call failed.
    #[error("cannot start the worker for core {core}: {call}: {source}")]
    System {
        /// The core that the worker was to be pinned to.
        core: usize,
        /// What was called.
        call: &'static str,
        /// Its error.
        source: std::io::Error,
    },
}

/// What a worker and the control thread both see of each other.
#[derive(Debug)]
struct Shared {
    wakeup: OwnedFd,
    sleeping: AtomicBool,
    stop: AtomicBool,
    /// Time spent in turns that found work, and time since the start.
    busy_ns: AtomicU64,
    total_ns: AtomicU64,
    busy_cycles: AtomicU64,
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
    fn ring(&self) {
        // The counter of an eventfd cannot overflow here: the sleeper resets it.
        let _ = rustix::io::write(&self.wakeup, &1u64.to_ne_bytes());
    }
}

struct Handle {
    core: usize,
    shared: Arc<Shared>,
    rings: command::Handle,
    thread: Option<JoinHandle<()>>,
}

/// All workers.
pub struct Dataplane {
    workers: Vec<Handle>,
}

/// What `worker/show` tells of one worker.
#[derive(Debug, Clone)]
pub struct Load {
    /// The core that it is pinned to.
    pub core: usize,
    /// Share of its time, since the start, spent on packets: 0 to 1.
    pub busy_share: f64,
    /// Packets received.
    pub packets: u64,
    /// Mean number of packets found at a visit that found any.
    pub batch_mean: f64,
    /// Time-stamp counter cycles in turns that found work, per packet.
    pub cycles_per_packet: f64,
}

impl Dataplane {
    /// Starts one worker on each of `cores`.
    pub fn start(cores: &[usize], tuning: Tuning) -> Result<Self, StartError> {
        let system =
            |core, call| move |source: rustix::io::Errno| StartError::System { core, call, source: source.into() };
        let mut shared = Vec::new();
        for &core in cores {
            let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system(core, "eventfd"))?;
            shared.push(Arc::new(Shared {
                wakeup,
                sleeping: AtomicBool::new(false),
                stop: AtomicBool::new(false),
                busy_ns: AtomicU64::new(0),
                total_ns: AtomicU64::new(0),
                busy_cycles: AtomicU64::new(0),
            }));
        }
        let wakes: Vec<Arc<dyn Wake>> = shared.iter().map(|shared| Arc::clone(shared) as Arc<dyn Wake>).collect();
        let mut workers = Vec::new();
        for ((worker, rings), (&core, shared)) in worker::crew(&wakes).into_iter().zip(cores.iter().zip(&shared)) {
            let own = Arc::clone(shared);
            let thread = std::thread::Builder::new()
                .name(format!("worker{core}"))
                .spawn(move || run(worker, core, &own, tuning))
                .map_err(|source| StartError::System { core, call: "thread spawn", source })?;
            workers.push(Handle { core, shared: Arc::clone(shared), rings, thread: Some(thread) });
        }
        Ok(Self { workers })
    }

    /// How many workers there are.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Never true: there is at least one core.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Gives `worker` a command; waits while its ring is full.
    pub fn send(&mut self, worker: usize, command: Command) -> Result<(), Stuck> {
        let deadline = Instant::now() + OBEY_TIMEOUT;
        let handle = &mut self.workers[worker];
        let mut command = command;
        while let Err(rtrb::PushError::Full(back)) = handle.rings.commands.push(command) {
            command = back;
            handle.shared.ring();
            pause(deadline).map_err(|()| Stuck { worker, core: handle.core })?;
        }
        handle.shared.wake();
        Ok(())
    }

    /// Puts `snapshot` in force on all workers. When this returns, no worker reads an older one.
    pub fn install(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), Stuck> {
        for worker in 0..self.len() {
            self.send(worker, Command::Install(Arc::clone(snapshot)))?;
        }
        self.each_answers(
            |event| matches!(event, Event::Installed { generation, .. } if *generation == snapshot.generation),
        )
    }

    /// Takes every side of `device` away from all workers and drops them.
    pub fn detach(&mut self, device: DeviceIndex) -> Result<(), Stuck> {
        for worker in 0..self.len() {
            self.send(worker, Command::Detach(device))?;
        }
        self.each_answers(|event| matches!(event, Event::Detached(index) if *index == device))
    }

    /// Waits until each worker has sent an event that `is_answer`; what the other events bring back is dropped here.
    fn each_answers(&mut self, is_answer: impl Fn(&Event) -> bool) -> Result<(), Stuck> {
        let deadline = Instant::now() + OBEY_TIMEOUT;
        for (worker, handle) in self.workers.iter_mut().enumerate() {
            loop {
                match handle.rings.events.pop() {
                    Ok(event) if is_answer(&event) => break,
                    Ok(_) => {}
                    Err(_) => pause(deadline).map_err(|()| Stuck { worker, core: handle.core })?,
                }
            }
        }
        Ok(())
    }

    /// What each worker does with its time.
    pub fn loads(&self) -> Vec<Load> {
        let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
        let load = |handle: &Handle| {
            let (packets, bursts) =
                (handle.rings.counters.packets.get(), handle.rings.counters.bursts.iter().map(Counter::get).sum());
            Load {
                core: handle.core,
                busy_share: ratio(
                    handle.shared.busy_ns.load(Ordering::Relaxed),
                    handle.shared.total_ns.load(Ordering::Relaxed),
                ),
                packets,
                batch_mean: ratio(packets, bursts),
                cycles_per_packet: ratio(handle.shared.busy_cycles.load(Ordering::Relaxed), packets),
            }
        };
        self.workers.iter().map(load).collect()
    }

    /// What each worker counts about itself.
    pub fn counters(&self) -> impl Iterator<Item = &WorkerCounters> {
        self.workers.iter().map(|handle| &*handle.rings.counters)
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        for handle in &self.workers {
            handle.shared.stop.store(true, Ordering::Release);
            handle.shared.ring();
        }
        for handle in &mut self.workers {
            if let Some(thread) = handle.thread.take() {
                // A worker that panicked has already said so on stderr.
                let _ = thread.join();
            }
        }
    }
}

fn pause(deadline: Instant) -> Result<(), ()> {
    if Instant::now() > deadline {
        return Err(());
    }
    std::thread::sleep(Duration::from_micros(20));
    Ok(())
}

/// A worker's thread, from pinning to the end.
fn run(mut worker: Worker, core: usize, shared: &Shared, tuning: Tuning) {
    if let Err(error) = cpu::pin(core) {
        tracing::error!("worker for core {core} runs unpinned: {error}");
    }
    let clock = Clock::start();
    let spin_ns = u64::try_from(tuning.spin.as_nanos()).unwrap_or(u64::MAX);
    let mut now = clock.now();
    let mut last_work = now;
    let mut times = Times { ns: now.0, cycles: cpu::cycles() };
    while !shared.stop.load(Ordering::Acquire) {
        let turn = worker.turn(now);
        now = clock.now();
        times.account(shared, now.0, turn.packets > 0);
        if turn.pending {
            last_work = now;
        } else if !tuning.busy_poll && now.0 - last_work.0 > spin_ns {
            sleep(&worker, shared);
            now = clock.now();
            times.account(shared, now.0, false);
            last_work = now;
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Where a worker's time went, up to the last turn.
struct Times {
    ns: u64,
    cycles: u64,
}

impl Times {
    fn account(&mut self, shared: &Shared, now_ns: u64, busy: bool) {
        let cycles = cpu::cycles();
        let add = |to: &AtomicU64, n: u64| to.store(to.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        add(&shared.total_ns, now_ns - self.ns);
        if busy {
            add(&shared.busy_ns, now_ns - self.ns);
            add(&shared.busy_cycles, cycles - self.cycles);
        }
        (self.ns, self.cycles) = (now_ns, cycles);
    }
}

/// Sleeps until a socket has packets or somebody wakes us.
fn sleep(worker: &Worker, shared: &Shared) {
    shared.sleeping.store(true, Ordering::Relaxed);
    std::sync::atomic::fence(Ordering::SeqCst);
    if !worker.has_work() && !shared.stop.load(Ordering::Acquire) {
        let sockets = worker.descriptors().chain([shared.wakeup.as_fd()]);
        let mut watched: Vec<_> = sockets.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        // An interrupted wait is as good as a finished one: the next turn looks at everything anyway.
        let _ = poll(&mut watched, None);
    }
    shared.sleeping.store(false, Ordering::Relaxed);
    let mut count = [0; 8];
    let _ = rustix::io::read(shared.wakeup.as_fd(), &mut count);
}
