//! What does a worker do in one turn?

use crate::batch::Batch;
use crate::capture::Captures;
use crate::command::{Command, Event, Handle};
use crate::config::{Device, DeviceIndex, Ingress, PortIndex, Snapshot};
use crate::counters::WorkerCounters;
use crate::crossing::{self, Crossing, Wake};
use crate::limits::{COMMAND_RING, COMMANDS_PER_TURN_MAX, CROSSING_RING, DEVICES_MAX, EVENT_RING, PORTS_MAX};
use crate::path::egress::{Exit, Sides};
use crate::path::lane::Lanes;
use crate::path::lookup::Way;
use crate::path::{
    checksum, egress, learn, lookup, mirror, parse, police, reserved, route, rx, shorten, snoop, storm, tap, vlan_in,
};
use crate::port::{Packets, Receive};
use crate::reason::Reason;
use crate::tap::Tap;
use crate::time::Instant;
use rtrb::{Consumer, Producer, RingBuffer};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// One forwarding thread's state. It owns receive queues and transmitting sides, and shares nothing that it writes but
/// counters and FDBs.
pub struct Worker {
    index: u16,
    config: Arc<Snapshot>,
    queues: Vec<Queue>,
    sides: Sides,
    crossing: Crossing,
    /// Nothing is received for the time being.
    held: bool,
    batch: Batch,
    router: route::Room,
    listeners: Vec<PortIndex>,
    tap: Tap,
    captures: Captures,
    commands: Consumer<Command>,
    events: Producer<Event>,
    counters: Arc<WorkerCounters>,
}

/// Where packets come from whose device was just removed from the configuration: no port claims them.
const NO_DEVICE: Device = Device {
    ingress: Ingress::Port(PortIndex::NONE),
    partial_checksums: false,
    home: 0,
    offload: None,
    guarded: false,
    mirrored: false,
    tapped: false,
};

struct Queue {
    device: DeviceIndex,
    number: u16,
    side: Box<dyn Receive>,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Packets received, from devices and from other workers.
    pub packets: usize,
    /// There is something left to do at once: do not sleep.
    pub pending: bool,
}

/// As many workers as there are `wakes`, in worker order, each with the handle of the thread that commands it.
pub fn crew(wakes: &[Arc<dyn Wake>]) -> Vec<(Worker, Handle)> {
    crossing::mesh(wakes).into_iter().enumerate().map(|(index, crossing)| Worker::new(index as u16, crossing)).collect()
}

impl Worker {
    /// Worker number `index`, which has no ports yet and an empty configuration.
    pub fn new(index: u16, crossing: Crossing) -> (Self, Handle) {
        let (commands, command_end) = RingBuffer::new(COMMAND_RING);
        let (event_end, events) = RingBuffer::new(EVENT_RING);
        let counters = Arc::new(WorkerCounters::default());
        let (tap, reader) = crate::tap::tap();
        let worker = Self {
            index,
            config: Arc::default(),
            queues: Vec::with_capacity(DEVICES_MAX),
            sides: Sides::default(),
            crossing,
            held: false,
            batch: Batch::default(),
            router: route::Room::default(),
            // Members, ports that get everything, and routers.
            listeners: Vec::with_capacity(3 * PORTS_MAX),
            tap,
            captures: Captures::default(),
            commands: command_end,
            events: event_end,
            counters: Arc::clone(&counters),
        };
        (worker, Handle { commands, events, tap: reader, counters })
    }

    /// Exchanges packets with worker `other` from now on; for a worker that runs already there is [`Command::Meet`].
    pub fn meet(&mut self, other: u16, way: crossing::Way) {
        self.crossing.meet(other, way);
    }

    /// One turn. Reads in the order a packet travels; each line is one file in `path/`.
    pub fn turn(&mut self, now: Instant) -> Turn {
        let mut received = 0;
        let now_ms = now.as_millis();
        self.obey(now);
        let (config, batch, counters) = (&*self.config, &mut self.batch, &*self.counters);
        let (sides, crossing) = (&mut self.sides, &mut self.crossing);
        let (listeners, router) = (&mut self.listeners, &mut self.router);
        let (tap, captures) = (&mut self.tap, &mut self.captures);
        let (worker, lost, to_groups) = (self.index, false, false);
        let mut exit =
            Exit { config, worker, sides, crossing, counters, listeners, tap, captures, now, lost, to_groups };
        let queues = if self.held { &mut [] } else { &mut self.queues[..] };
        for Queue { device, side, .. } in queues {
            if !rx::run(&mut **side, counters) {
                continue;
            }
            let mut packets = Packets::new();
            side.packets(&mut packets);
            received += packets.len();
            let device = config.device(*device).unwrap_or(&NO_DEVICE);
            let mut lanes = Lanes::new(config);
            // What depends on the packet and its port alone: packet by packet, until a reason to drop it is found.
            batch.begin(&packets, |meta, places, head| {
                let lane = parse::one(meta, head, &device.ingress, &mut lanes)?;
                if device.guarded {
                    police::one(meta, head, lane.port, now)?;
                }
                reserved::one(meta.destination, lane.bridge)?;
                vlan_in::one(meta, lane)?;
                if device.partial_checksums {
                    checksum::one(meta, head);
                }
                *places = learn::places(meta, lane);
                Ok(())
            });
            // What depends on the FDB, which is at hand by now.
            let mut way = Way::NONE;
            batch.decide(|meta, [source, destination]| {
                let lane = lanes.of(meta.port).ok_or(Reason::NoPort)?;
                learn::one(meta, *source, lane, config, now, now_ms)?;
                lookup::one(meta, *destination, lane, &mut way, config);
                Ok(())
            });
            // Then the burst step by step.
            storm::run(batch, device, config, now);
            snoop::run(batch, &packets, config, now);
            let mut onward = Packets::new();
            route::run(batch, &packets, router, &mut onward, (config, now, exit.worker), counters);
            egress::run(batch, &packets, &mut exit);
            mirror::run(batch, &packets, device, &mut exit);
            route::again(router, &onward, &mut exit);
            let own_octets = device.own_octets();
            let forwarded = batch.settle(config, usize::from(self.index), own_octets, &counters.unattributed);
            counters.forwarded.add(forwarded);
            exit.lost |= forwarded < batch.len() as u64;
            tap::run(batch, &packets, router, device, &mut exit);
            shorten::run(batch, device, config);
            drop((packets, onward));
            side.release();
        }
        received += egress::arrivals(&mut exit, CROSSING_RING);
        let unsent = exit.sides.flush();
        exit.crossing.wake();
        counters.turns.add(1);
        counters.busy_turns.add(u64::from(received > 0));
        Turn { packets: received, pending: received > 0 || unsent || self.has_work() }
    }

    /// Does what the control thread asked for, a few commands at a time. A command whose answers have no room waits.
    fn obey(&mut self, now: Instant) {
        for _ in 0..COMMANDS_PER_TURN_MAX {
            let Ok(command) = self.commands.peek() else { return };
            if let Command::Detach(device) = command {
                let device = *device;
                if !self.detach(device, now) {
                    return;
                }
            } else if self.events.is_full() {
                // Each of the others is answered by one event at most.
                return;
            }
            if let Ok(command) = self.commands.pop() {
                self.execute(command, now);
            }
        }
    }

    fn execute(&mut self, command: Command, now: Instant) {
        match command {
            Command::Receive { device, queue, side } => {
                if let Some(old) = self.add_queue(device, queue, side) {
                    self.tell(Event::ReceiveReturned(device, queue, old));
                }
            }
            Command::Transmit { device, side } => {
                if let Some(old) = self.sides.attach(device, side) {
                    self.tell(Event::TransmitReturned(device, old));
                }
            }
            Command::Detach(device) => self.tell(Event::Detached(device)),
            Command::Meet { worker, way } => self.meet(worker, way),
            Command::Hold => {
                self.held = true;
                self.tell(Event::Held);
            }
            Command::Resume => self.held = false,
            Command::ComePast => self.tell(Event::CamePast),
            Command::Capture(number, capture) => {
                if let Some(old) = self.captures.put(number, Some(capture)) {
                    self.tell(Event::CaptureEnded(Some(old)));
                }
            }
            Command::EndCapture(number) => {
                let ended = self.captures.put(number, None);
                self.tell(Event::CaptureEnded(ended));
            }
            Command::Install(snapshot) => {
                // Packets on the way here name ports by number: they leave by the ports that had the numbers when they
                // were sent, before a number can mean another port.
                self.drain_arrivals(now);
                let generation = snapshot.generation;
                let old = std::mem::replace(&mut self.config, snapshot);
                self.tell(Event::Installed { generation, old });
            }
        }
    }

    /// Takes a queue in. Returns the side that it replaces, or `side` itself if there are too many.
    fn add_queue(&mut self, device: DeviceIndex, number: u16, side: Box<dyn Receive>) -> Option<Box<dyn Receive>> {
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.device == device && queue.number == number) {
            return Some(std::mem::replace(&mut queue.side, side));
        }
        if self.queues.len() == self.queues.capacity() {
            return Some(side);
        }
        self.queues.push(Queue { device, number, side });
        None
    }

    /// Gives back as many sides of the device as there is room for in the ring of events. True when all are, and there is
    /// room for one more event.
    fn detach(&mut self, device: DeviceIndex, now: Instant) -> bool {
        // What others sent this way while the device was still here leaves by it.
        self.drain_arrivals(now);
        while !self.events.is_full() {
            if let Some(position) = self.queues.iter().position(|queue| queue.device == device) {
                let queue = self.queues.swap_remove(position);
                self.tell(Event::ReceiveReturned(device, queue.number, queue.side));
            } else if let Some(side) = self.sides.detach(device) {
                self.tell(Event::TransmitReturned(device, side));
            } else {
                return true;
            }
        }
        false
    }

    /// Room in the ring was checked before.
    fn tell(&mut self, event: Event) {
        let told = self.events.push(event);
        debug_assert!(told.is_ok(), "an event without room");
    }

    fn drain_arrivals(&mut self, now: Instant) {
        let (sides, crossing) = (&mut self.sides, &mut self.crossing);
        let (config, counters) = (&*self.config, &*self.counters);
        let (listeners, tap, captures) = (&mut self.listeners, &mut self.tap, &mut self.captures);
        let (worker, lost, to_groups) = (self.index, false, false);
        let mut exit =
            Exit { config, worker, sides, crossing, counters, listeners, tap, captures, now, lost, to_groups };
        let workers = exit.crossing.workers();
        egress::arrivals(&mut exit, CROSSING_RING * workers);
    }

    /// Whether it has packets to wait for from anybody but other workers.
    pub fn has_queues(&self) -> bool {
        !self.queues.is_empty()
    }

    /// What to poll for packets.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.queues.iter().filter_map(|queue| queue.side.descriptor())
    }

    /// True while commands or other workers' packets wait: what a worker must look at once more before it sleeps.
    pub fn has_work(&self) -> bool {
        self.crossing.waiting() || !self.commands.is_empty()
    }

    /// The ways between this worker and the others, for checks.
    pub fn crossing(&self) -> &Crossing {
        &self.crossing
    }
}
