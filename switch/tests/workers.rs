//! Do workers obey, answer and hand packets to each other without losing anything?

use shunt_switch::command::{Command, Event};
use shunt_switch::config::DeviceIndex;
use shunt_switch::counters::PortCounters;
use shunt_switch::crossing::{Crossing, NeverAsleep, PORTS_PER_PARCEL, Wake, way};
use shunt_switch::limits::{COMMANDS_PER_TURN_MAX, CROSSING_RING, EVENT_RING};
use shunt_switch::port::memory::Queue;
use shunt_switch::port::{Receive, Transmit};
use shunt_switch::reason::Reason;
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::worker::{Worker, crew};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const NOW: Instant = Instant::from_secs(1);
const A: Mac = Mac(0x0200_0000_000a);
const B: Mac = Mac(0x0200_0000_000b);
const ALL: Mac = Mac(0xffff_ffff_ffff);

fn to(destination: Mac, source: Mac) -> Vec<u8> {
    frame(destination, source, &[], 0x88b5, &[9; 50])
}

fn rig(ports: usize, workers: usize, frames: usize) -> Rig {
    let port = |device| Some(PortSpec { device, ..PortSpec::default() });
    Rig::new(Scene { ports: (0..ports as u16).map(port).collect(), workers, ..Scene::default() }, frames)
}

fn events(rig: &mut Rig, worker: usize) -> Vec<Event> {
    let handle = &mut rig.crew[worker].1;
    std::iter::from_fn(|| handle.events.pop().ok()).collect()
}

#[test]
fn a_flood_crosses_once_to_each_worker() {
    let mut rig = rig(9, 3, 8);
    assert!(rig.inputs[0].push(&to(ALL, A)));
    rig.run(NOW);
    for (device, queue) in rig.outputs.iter().enumerate() {
        assert_eq!(queue.drain().len(), usize::from(device != 0), "device {device}");
    }
    let crossed: Vec<u64> = rig.workers().map(|worker| worker.crossed.get()).collect();
    assert_eq!(crossed, [2, 0, 0]);
    assert!(rig.inputs[4].push(&to(A, B)));
    rig.run(NOW);
    assert_eq!(rig.outputs[0].drain().len(), 1);
    assert_eq!(rig.outputs.iter().map(Queue::len).sum::<usize>(), 0);
    rig.check();
}

#[test]
fn a_flood_to_more_ports_than_a_parcel_holds_reaches_all() {
    let ports = 2 * PORTS_PER_PARCEL + 200;
    let mut rig = rig(ports, 2, 2);
    assert!(rig.inputs[0].push(&to(ALL, A)));
    rig.run(NOW);
    assert!(rig.outputs.iter().skip(1).all(|queue| queue.drain().len() == 1));
    rig.check();
}

#[test]
fn a_worker_that_does_not_take_turns_costs_its_own_ports_only() {
    let mut rig = rig(3, 2, CROSSING_RING + 50);
    let sent = CROSSING_RING + 10;
    for _ in 0..sent {
        assert!(rig.inputs[0].push(&to(ALL, A)));
    }
    while rig.crew[0].0.turn(NOW).packets > 0 {}
    assert_eq!(rig.totals(1).dropped(Reason::CrossingFull), 10);
    assert_eq!(rig.outputs[2].drain().len(), sent);
    rig.run(NOW);
    assert_eq!(rig.outputs[1].drain().len(), CROSSING_RING);
    rig.check();
}

#[test]
fn a_worker_with_a_transmitting_side_of_its_own_uses_it() {
    let mut rig = rig(2, 2, 8);
    let own = Queue::new(4);
    rig.command(0, Command::Transmit { device: DeviceIndex(1), side: Box::new(own.transmitter()) });
    assert!(rig.inputs[0].push(&to(ALL, A)));
    rig.run(NOW);
    assert_eq!((own.drain().len(), rig.outputs[1].len()), (1, 0));
}

#[test]
fn a_device_without_a_transmitting_side_is_down() {
    let mut rig = rig(2, 1, 8);
    rig.command(0, Command::Detach(DeviceIndex(1)));
    assert!(rig.inputs[0].push(&to(ALL, A)));
    rig.run(NOW);
    assert_eq!(rig.totals(1).dropped(Reason::TxDown), 1);
}

#[test]
fn detaching_gives_everything_back_in_order() {
    let mut rig = rig(2, 1, 8);
    let second = Queue::new(4);
    rig.command(0, Command::Receive { device: DeviceIndex(1), queue: 1, side: Box::new(second.receiver()) });
    // The same queue again takes the place of the first one, which comes back.
    rig.command(0, Command::Receive { device: DeviceIndex(1), queue: 1, side: Box::new(second.receiver()) });
    rig.command(0, Command::Detach(DeviceIndex(1)));
    rig.command(0, Command::Detach(DeviceIndex(7)));
    rig.run(NOW);
    let device = DeviceIndex(1);
    match &events(&mut rig, 0)[..] {
        [
            Event::ReceiveReturned(a, _, _),
            Event::ReceiveReturned(b, _, _),
            Event::ReceiveReturned(c, _, _),
            Event::TransmitReturned(d, _),
            Event::Detached(e),
            Event::Detached(DeviceIndex(7)),
        ] => assert_eq!([a, b, c, d, e], [&device; 5]),
        events => panic!("{} events", events.len()),
    }
    assert!(second.push(&to(ALL, A)));
    rig.run(NOW);
    assert_eq!(second.len(), 1, "a detached queue is not polled");
}

#[test]
fn a_worker_whose_answers_find_no_room_waits_with_the_command() {
    let mut rig = rig(1, 1, 2);
    for _ in 0..EVENT_RING {
        rig.command(0, Command::Detach(DeviceIndex(5)));
    }
    rig.run(NOW);
    rig.command(0, Command::Detach(DeviceIndex(0)));
    assert!(rig.crew[0].0.turn(NOW).pending);
    assert!(rig.inputs[0].push(&to(ALL, A)));
    assert_eq!(rig.crew[0].0.turn(NOW).packets, 1, "packets do not wait for the control thread");
    assert_eq!(events(&mut rig, 0).len(), EVENT_RING);
    rig.run(NOW);
    assert_eq!(events(&mut rig, 0).len(), 3);
}

#[test]
fn configuration_is_obeyed_in_slices_and_old_snapshots_come_back() {
    let mut rig = rig(1, 1, 2);
    for generation in 100..150 {
        let snapshot = Arc::new(rig.scene.snapshot(generation));
        rig.command(0, Command::Install(snapshot));
    }
    rig.crew[0].0.turn(NOW);
    assert_eq!(events(&mut rig, 0).len(), COMMANDS_PER_TURN_MAX);
    rig.run(NOW);
    let last = events(&mut rig, 0).pop();
    let Some(Event::Installed { generation: 149, old }) = last else { panic!("the last generation") };
    assert_eq!((old.generation, Arc::strong_count(&old)), (148, 1));
}

#[test]
fn packets_on_their_way_leave_before_a_number_means_another_port() {
    let mut rig = rig(2, 2, 8);
    assert!(rig.inputs[0].push(&to(ALL, A)));
    rig.crew[0].0.turn(NOW);
    // The packet for port 1 waits at worker 1, when there the number ceases to mean that port.
    rig.scene.ports[1] = None;
    let snapshot = Arc::new(rig.scene.snapshot(9));
    rig.command(1, Command::Install(snapshot));
    rig.crew[1].0.turn(NOW);
    assert_eq!((rig.outputs[1].drain().len(), rig.totals(1).tx_packets), (1, 1), "sent by the port that was meant");
    rig.check();
}

#[test]
fn a_port_that_vanishes_between_two_workers_is_stale() {
    let mut rig = rig(2, 2, 8);
    rig.scene.ports[1] = None;
    let snapshot = Arc::new(rig.scene.snapshot(9));
    rig.command(1, Command::Install(snapshot));
    rig.crew[1].0.turn(NOW);
    assert!(rig.inputs[0].push(&to(ALL, A)));
    rig.run(NOW);
    assert_eq!(rig.unattributed(Reason::StalePort), 1);
    assert!(rig.outputs[1].is_empty());
    rig.check();
}

type Sides = (Vec<Box<dyn Receive>>, Vec<Box<dyn Transmit>>);

/// What comes back of a device.
fn recall(rig: &mut Rig, worker: usize, device: DeviceIndex) -> Sides {
    rig.command(worker, Command::Detach(device));
    rig.run(NOW);
    let (mut receivers, mut transmitters) = (Vec::new(), Vec::new());
    for event in events(rig, worker) {
        match event {
            Event::ReceiveReturned(_, 0, side) => receivers.push(side),
            Event::TransmitReturned(_, side) => transmitters.push(side),
            _ => {}
        }
    }
    (receivers, transmitters)
}

#[test]
fn a_device_moves_to_a_worker_that_joined_later_and_no_packet_is_lost() {
    let mut rig = rig(2, 1, 64);
    assert!(rig.inputs[0].push(&to(ALL, A)));
    rig.run(NOW);
    let sleeper: Arc<dyn Wake> = Arc::new(NeverAsleep);
    rig.crew.push(Worker::new(1, Crossing::default()));
    let (first, second) = way(&sleeper, &sleeper);
    rig.command(0, Command::Meet { worker: 1, way: first });
    rig.crew[1].0.meet(0, second);
    rig.scene.workers = 2;
    // Packets for the device that moves: one on its way to it, and some that come while nobody receives.
    assert!(rig.inputs[1].push(&to(A, B)));
    rig.crew[0].0.turn(NOW);
    for worker in [0, 1] {
        rig.command(worker, Command::Hold);
        rig.run(NOW);
        assert!(events(&mut rig, worker).iter().any(|event| matches!(event, Event::Held)));
    }
    for _ in 0..20 {
        assert!(rig.inputs[0].push(&to(B, A)) && rig.inputs[1].push(&to(A, B)));
    }
    rig.run(NOW);
    assert_eq!(rig.totals(1).tx_packets, 1, "nothing moves while the workers are held");
    let device = DeviceIndex(1);
    let (receivers, transmitters) = recall(&mut rig, 0, device);
    for side in receivers {
        rig.command(1, Command::Receive { device, queue: 0, side });
    }
    for side in transmitters {
        rig.command(1, Command::Transmit { device, side });
    }
    rig.scene.homes[1] = 1;
    rig.scene.counters.iter_mut().for_each(|counters| *counters = (0..2).map(|_| PortCounters::default()).collect());
    rig.install();
    rig.command(0, Command::Resume);
    rig.command(1, Command::Resume);
    rig.run(NOW);
    assert_eq!((rig.outputs[0].discard(), rig.outputs[1].discard()), (21, 21));
    assert_eq!(rig.workers().map(|worker| worker.crossed.get()).collect::<Vec<_>>(), [20, 20]);
    assert_eq!(rig.totals(0).all_dropped() + rig.totals(1).all_dropped(), 0);
}

#[test]
fn whoever_is_sent_something_is_woken_once_a_turn() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let sleeper = Arc::new(Count(AtomicUsize::new(0)));
    let wakes: Vec<Arc<dyn Wake>> = vec![Arc::new(NeverAsleep), Arc::clone(&sleeper) as Arc<dyn Wake>];
    let mut rig = rig(2, 2, 8);
    // The same ports under a crew that can be woken.
    rig.crew = crew(&wakes);
    rig.attach(0);
    rig.attach(1);
    rig.install();
    rig.run(NOW);
    assert_eq!(sleeper.0.load(Relaxed), 0);
    for _ in 0..3 {
        assert!(rig.inputs[0].push(&to(ALL, A)));
    }
    rig.run(NOW);
    assert_eq!(sleeper.0.load(Relaxed), 1);
}

#[test]
fn threads_hand_packets_to_each_other_and_lose_none() {
    let mut rig = rig(4, 3, 512);
    let crew = std::mem::take(&mut rig.crew);
    let total = 60_000;
    let (crew, received) = std::thread::scope(|scope| {
        let stop = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = crew
            .into_iter()
            .map(|(mut worker, handle)| {
                let stop = Arc::clone(&stop);
                scope.spawn(move || {
                    while stop.load(Relaxed) == 0 {
                        worker.turn(NOW);
                    }
                    (worker, handle)
                })
            })
            .collect();
        let (mut sent, mut received) = (0, 0);
        while sent < total {
            let port = sent % 4;
            if rig.inputs[port].push(&to(Mac(B.0 + (sent as u64 * 7) % 5), Mac(B.0 + port as u64))) {
                sent += 1;
            }
            received += rig.outputs.iter().map(Queue::discard).sum::<usize>();
        }
        stop.store(1, Relaxed);
        (threads.into_iter().map(|thread| thread.join().expect("a worker")).collect(), received)
    });
    rig.crew = crew;
    rig.run(NOW);
    let received = received + rig.outputs.iter().map(Queue::discard).sum::<usize>();
    let sent: u64 = (0..4).map(|port| rig.totals(port).tx_packets).sum();
    assert_eq!(received as u64, sent);
    assert_eq!(rig.workers().map(|worker| worker.packets.get()).sum::<u64>(), total as u64);
    rig.check();
}
