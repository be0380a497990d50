//! How do the workers run, and how does the control thread reach them?
//!
//! A worker is a pinned thread around [`Worker::turn`]. The control thread owns the other end of each worker's command and
//! event rings; its calls here return when every worker has done what was asked. There are as many workers as there were
//! ever cores for them at one time: one whose core is taken away sleeps, and gets the next core that is added.

mod thread;

use shunt_ffi::cpu;
use shunt_switch::capture::Capture;
use shunt_switch::command::{self, Command, Event};
use shunt_switch::config::{DeviceIndex, Snapshot};
use shunt_switch::counters::{Counter, WorkerCounters};
use shunt_switch::crossing::{self, Crossing, Wake};
use shunt_switch::limits::WORKERS_MAX;
use shunt_switch::port::{Receive, Transmit};
use shunt_switch::tap::Reader;
use shunt_switch::worker::Worker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thread::{Shared, UNTIL_WOKEN};

/// How workers spend their time.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// How long a worker spins after the last packet before it sleeps.
    pub spin: Duration,
    /// Never sleep, unless the configuration says otherwise.
    pub busy_poll: bool,
}

impl Tuning {
    /// Longest sleep where `pmd-sleep-max` is not set; none for no limit.
    pub fn sleep_max(self) -> Option<Duration> {
        self.busy_poll.then_some(Duration::ZERO)
    }
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

/// Why workers could not be started.
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
    /// The workers that there are do not answer.
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

struct Handle {
    /// None while there is no core for it.
    core: Option<usize>,
    shared: Arc<Shared>,
    rings: command::Handle,
    thread: Option<JoinHandle<()>>,
    started: Instant,
}

/// All workers.
pub struct Dataplane {
    workers: Vec<Handle>,
    /// The cores that this process may use.
    allowed: Vec<usize>,
    tuning: Tuning,
    sleep_max_us: u64,
}

/// What the status commands tell of one worker, since its start.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// The core that it is pinned to; none if there is none for it now.
    pub core: Option<usize>,
    /// Time since it was started.
    pub total_ns: u64,
    /// Time spent on packets.
    pub busy_ns: u64,
    /// Time-stamp counter cycles spent on packets.
    pub busy_cycles: u64,
    /// How often it slept.
    pub sleeps: u64,
    /// Time slept.
    pub slept_ns: u64,
    /// Turns.
    pub turns: u64,
    /// Turns that found work.
    pub busy_turns: u64,
    /// Packets received.
    pub packets: u64,
    /// Visits to a queue that found packets.
    pub bursts: u64,
    /// Packets of which at least one copy was to leave.
    pub forwarded: u64,
    /// Copies that were to leave.
    pub copies: u64,
    /// Packets handed to other workers.
    pub crossed: u64,
}

/// A worker as others see it, also on other threads. Looking disturbs nobody.
#[derive(Clone)]
pub struct Watched {
    /// As in [`Load::core`].
    pub core: Option<usize>,
    /// What it counts about itself.
    pub counters: Arc<WorkerCounters>,
    shared: Arc<Shared>,
    started: Instant,
}

/// All sides of a device, back from the workers.
#[derive(Default)]
pub struct Recalled {
    /// Queue number and receiving side.
    pub receivers: Vec<(u16, Box<dyn Receive>)>,
    /// Transmitting sides: any of them will do on any worker.
    pub transmitters: Vec<Box<dyn Transmit>>,
}

impl Dataplane {
    /// Starts one worker on each of `cores`.
    pub fn start(cores: &[usize], tuning: Tuning) -> Result<Self, StartError> {
        let sleep_max_us = to_us(tuning.sleep_max());
        let mut dataplane = Self { workers: Vec::new(), allowed: cpu::allowed(), tuning, sleep_max_us };
        dataplane.set_cores(cores)?;
        Ok(dataplane)
    }

    /// From now on there is one worker on each of `cores`, at most [`WORKERS_MAX`]. Workers on other cores go to the cores
    /// that are new, or have none: take their queues away before or after. The calling thread keeps off them, if that leaves
    /// it any core: a worker that has to wait for it to finish a change loses packets meanwhile.
    pub fn set_cores(&mut self, cores: &[usize]) -> Result<(), StartError> {
        for handle in &mut self.workers {
            handle.core = handle.core.filter(|core| cores.contains(core));
        }
        for &core in cores.iter().take(WORKERS_MAX) {
            if self.workers.iter().any(|handle| handle.core == Some(core)) {
                continue;
            }
            match self.workers.iter_mut().find(|handle| handle.core.is_none()) {
                Some(handle) => {
                    handle.core = Some(core);
                    handle.shared.core.store(core, Ordering::Relaxed);
                    handle.shared.ring();
                }
                None => self.start_worker(core)?,
            }
        }
        let left: Vec<usize> = self.allowed.iter().copied().filter(|core| !cores.contains(core)).collect();
        let left = if left.is_empty() { &self.allowed } else { &left };
        if let Err(error) = cpu::keep_on(left) {
            tracing::warn!("configuration changes may take time from workers: {error}");
        }
        Ok(())
    }

    /// The cores that workers can be given.
    pub fn allowed(&self) -> &[usize] {
        &self.allowed
    }

    fn start_worker(&mut self, core: usize) -> Result<(), StartError> {
        let system = |call| move |source| StartError::System { core, call, source };
        let shared = Shared::new(core, self.sleep_max_us).map_err(|errno| system("eventfd")(errno.into()))?;
        let (shared, index) = (Arc::new(shared), self.workers.len());
        let (mut worker, rings) = Worker::new(index as u16, Crossing::default());
        let wake: Arc<dyn Wake> = Arc::clone(&shared) as Arc<dyn Wake>;
        for other in 0..index {
            let its: Arc<dyn Wake> = Arc::clone(&self.workers[other].shared) as Arc<dyn Wake>;
            let (ours, theirs) = crossing::way(&wake, &its);
            worker.meet(other as u16, ours);
            self.send(other, Command::Meet { worker: index as u16, way: theirs })?;
        }
        let (own, spin) = (Arc::clone(&shared), self.tuning.spin);
        let thread = std::thread::Builder::new()
            .name(format!("worker{core}"))
            .spawn(move || thread::run(worker, &own, spin))
            .map_err(system("thread spawn"))?;
        self.workers.push(Handle { core: Some(core), shared, rings, thread: Some(thread), started: Instant::now() });
        Ok(())
    }

    /// How long a worker may sleep at a time: zero for never, none for no limit.
    pub fn set_sleep_max(&mut self, limit: Option<Duration>) {
        let us = to_us(limit);
        if std::mem::replace(&mut self.sleep_max_us, us) != us {
            for handle in &self.workers {
                handle.shared.sleep_max_us.store(us, Ordering::Relaxed);
                handle.shared.ring();
            }
        }
    }

    /// As [`Dataplane::set_sleep_max`]; without an argument of its own, what is in force.
    pub fn sleep_max(&self) -> Option<Duration> {
        (self.sleep_max_us != UNTIL_WOKEN).then(|| Duration::from_micros(self.sleep_max_us))
    }

    /// How the workers were started.
    pub fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// The core of each worker, in worker order.
    pub fn cores(&self) -> Vec<Option<usize>> {
        self.workers.iter().map(|handle| handle.core).collect()
    }

    /// Gives `worker` a command, to be seen at its next turn; waits while its ring is full. A worker that sleeps sleeps on:
    /// with a thousand devices to come, each would have it look at all that came before.
    pub fn send(&mut self, worker: usize, command: Command) -> Result<(), Stuck> {
        let mut patience = Patience::new();
        let handle = &mut self.workers[worker];
        let mut command = command;
        while let Err(rtrb::PushError::Full(back)) = handle.rings.commands.push(command) {
            command = back;
            handle.shared.ring();
            patience.wait().map_err(|()| handle.stuck(worker))?;
        }
        Ok(())
    }

    /// Gives all workers a command, and wakes those that sleep.
    fn send_all(&mut self, command: impl Fn() -> Command) -> Result<(), Stuck> {
        (0..self.workers.len()).try_for_each(|worker| {
            self.send(worker, command())?;
            self.workers[worker].shared.wake();
            Ok(())
        })
    }

    /// Puts `snapshot` in force on all workers. When this returns, no worker reads an older one.
    pub fn install(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), Stuck> {
        self.send_all(|| Command::Install(Arc::clone(snapshot)))?;
        self.each_answers(
            |event| matches!(event, Event::Installed { generation, .. } if *generation == snapshot.generation),
            drop,
        )
    }

    /// Takes every side of `device` away from all workers.
    pub fn recall(&mut self, device: DeviceIndex) -> Result<Recalled, Stuck> {
        self.send_all(|| Command::Detach(device))?;
        let mut recalled = Recalled::default();
        self.each_answers(
            |event| matches!(event, Event::Detached(index) if *index == device),
            |event| match event {
                Event::ReceiveReturned(_, queue, side) => recalled.receivers.push((queue, side)),
                Event::TransmitReturned(_, side) => recalled.transmitters.push(side),
                _ => {}
            },
        )?;
        Ok(recalled)
    }

    /// Nothing is received from when this returns until [`Dataplane::resume`]; packets wait in their queues.
    pub fn hold(&mut self) -> Result<(), Stuck> {
        self.send_all(|| Command::Hold)?;
        self.each_answers(|event| matches!(event, Event::Held), drop)
    }

    /// Ends [`Dataplane::hold`].
    pub fn resume(&mut self) -> Result<(), Stuck> {
        self.send_all(|| Command::Resume)
    }

    /// Waits until every worker has finished what it was doing: none still uses what it found in a table before.
    pub fn come_past(&mut self) -> Result<(), Stuck> {
        self.send_all(|| Command::ComePast)?;
        self.each_answers(|event| matches!(event, Event::CamePast), drop)
    }

    /// Gives a worker its end of the capture of this number.
    pub fn begin_capture(&mut self, worker: usize, number: u8, capture: Box<Capture>) -> Result<(), Stuck> {
        self.send(worker, Command::Capture(number, capture))?;
        self.workers[worker].shared.wake();
        Ok(())
    }

    /// Takes the ends of the capture of this number away from all workers.
    pub fn end_capture(&mut self, number: u8) -> Result<(), Stuck> {
        self.send_all(|| Command::EndCapture(number))?;
        self.each_answers(|event| matches!(event, Event::CaptureEnded(_)), drop)
    }

    /// Waits until each worker has sent an event that `is_answer`; the events before go to `other`.
    fn each_answers(&mut self, is_answer: impl Fn(&Event) -> bool, mut other: impl FnMut(Event)) -> Result<(), Stuck> {
        let mut patience = Patience::new();
        for (worker, handle) in self.workers.iter_mut().enumerate() {
            loop {
                match handle.rings.events.pop() {
                    Ok(event) if is_answer(&event) => break,
                    Ok(event) => other(event),
                    Err(_) => patience.wait().map_err(|()| handle.stuck(worker))?,
                }
            }
        }
        Ok(())
    }

    /// What each worker did with its time, in worker order.
    pub fn loads(&self) -> Vec<Load> {
        self.workers.iter().map(|handle| handle.watched().load()).collect()
    }

    /// The workers, to be looked at from now on, in worker order.
    pub fn watched(&self) -> Vec<Watched> {
        self.workers.iter().map(Handle::watched).collect()
    }

    /// What each worker tells of single packets.
    pub fn taps(&mut self) -> impl Iterator<Item = &mut Reader> {
        self.workers.iter_mut().map(|handle| &mut handle.rings.tap)
    }

    /// What each worker counts about itself.
    pub fn counters(&self) -> impl Iterator<Item = &WorkerCounters> {
        self.workers.iter().map(|handle| &*handle.rings.counters)
    }
}

impl Handle {
    fn stuck(&self, worker: usize) -> Stuck {
        Stuck { worker, core: self.shared.core.load(Ordering::Relaxed) }
    }

    fn watched(&self) -> Watched {
        let (counters, shared) = (Arc::clone(&self.rings.counters), Arc::clone(&self.shared));
        Watched { core: self.core, counters, shared, started: self.started }
    }
}

impl Watched {
    /// What it did with its time.
    pub fn load(&self) -> Load {
        let (counters, read) = (&*self.counters, |number: &AtomicU64| number.load(Ordering::Relaxed));
        Load {
            core: self.core,
            total_ns: self.started.elapsed().as_nanos() as u64,
            busy_ns: read(&self.shared.busy_ns),
            busy_cycles: read(&self.shared.busy_cycles),
            sleeps: read(&self.shared.sleeps),
            slept_ns: read(&self.shared.slept_ns),
            turns: counters.turns.get(),
            busy_turns: counters.busy_turns.get(),
            packets: counters.packets.get(),
            bursts: counters.bursts.iter().map(Counter::get).sum(),
            forwarded: counters.forwarded.get(),
            copies: counters.copies.get(),
            crossed: counters.crossed.get(),
        }
    }
}

impl Load {
    /// What happened since `earlier`.
    pub fn since(&self, earlier: &Load) -> Load {
        Load {
            core: self.core,
            total_ns: self.total_ns - earlier.total_ns,
            busy_ns: self.busy_ns - earlier.busy_ns,
            busy_cycles: self.busy_cycles - earlier.busy_cycles,
            sleeps: self.sleeps - earlier.sleeps,
            slept_ns: self.slept_ns - earlier.slept_ns,
            turns: self.turns - earlier.turns,
            busy_turns: self.busy_turns - earlier.busy_turns,
            packets: self.packets - earlier.packets,
            bursts: self.bursts - earlier.bursts,
            forwarded: self.forwarded - earlier.forwarded,
            copies: self.copies - earlier.copies,
            crossed: self.crossed - earlier.crossed,
        }
    }

    /// Share of the time spent on packets: 0 to 1.
    pub fn busy_share(&self) -> f64 {
        ratio(self.busy_ns, self.total_ns)
    }

    /// Mean number of packets found at a visit that found any.
    pub fn batch_mean(&self) -> f64 {
        ratio(self.packets, self.bursts)
    }

    /// Time-stamp counter cycles in turns that found work, per packet.
    pub fn cycles_per_packet(&self) -> f64 {
        ratio(self.busy_cycles, self.packets)
    }
}

/// `a / b`, 0 of nothing.
pub fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.workers.iter().for_each(|handle| handle.shared.stop());
        for handle in &mut self.workers {
            if let Some(thread) = handle.thread.take() {
                // A worker that panicked has already said so on stderr.
                let _ = thread.join();
            }
        }
    }
}

fn to_us(limit: Option<Duration>) -> u64 {
    limit.map_or(UNTIL_WOKEN, |limit| u64::try_from(limit.as_micros()).unwrap_or(UNTIL_WOKEN))
}

/// Waiting for a worker: it mostly answers within microseconds, so that a nap would be the longest part of it.
struct Patience {
    since: Instant,
}

/// How long a core is kept busy with waiting.
const EAGER: Duration = Duration::from_micros(200);
/// The nap after that.
const NAP: Duration = Duration::from_micros(20);

impl Patience {
    fn new() -> Self {
        Self { since: Instant::now() }
    }

    fn wait(&mut self) -> Result<(), ()> {
        let waited = self.since.elapsed();
        if waited > OBEY_TIMEOUT {
            return Err(());
        }
        if waited < EAGER {
            std::thread::yield_now()
        } else {
            std::thread::sleep(NAP)
        }
        Ok(())
    }
}
