//! How do a device's queues come to the workers, and from one worker to another?

use super::{Device, State, owner};
use crate::dataplane::{Recalled, Stuck};
use crate::model::Model;
use crate::placement::{Affinity, Placement};
use crate::plan::Users;
use shunt_ffi::{XskRx, XskTx};
use shunt_switch::command::Command;
use std::collections::BTreeSet;

/// A queue in `worker/show`.
pub struct QueueView<'a> {
    /// Index of the worker.
    pub worker: usize,
    /// The port's name, or the device's if several ports share it.
    pub port: &'a str,
    /// The queue's number.
    pub queue: usize,
    /// The device.
    pub device: &'a Device,
}

impl State {
    /// Takes over where the configuration wants queues to be polled; [`State::install`] moves those that are elsewhere.
    /// True if there are other places now.
    pub fn place(&mut self, model: &Model) -> bool {
        let pinned = model.pinned.iter().filter_map(|name| model.interfaces.get(name));
        let affinities = pinned.map(|interface| &interface.affinity);
        let placement = Placement::new(&self.dataplane.cores(), affinities, !model.polling.mixed);
        let changed = placement != self.placement;
        self.placement = placement;
        self.misplaced |= changed;
        changed
    }

    /// The rules by which queues are polled.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Hands an opened device's queues to the workers. Frames are forwarded only after [`State::install`].
    pub fn attach(
        &mut self,
        name: &str,
        mut device: Device,
        queues: Vec<(XskRx, XskTx)>,
        model: &Model,
    ) -> Result<(), Stuck> {
        let affinity = affinity(model, &device.wish.users);
        device.workers = self.placement.of(device.index.0, queues.len(), affinity);
        let mut sides = Recalled::default();
        for (number, (rx, tx)) in (0..).zip(queues) {
            sides.receivers.push((number, Box::new(rx)));
            sides.transmitters.push(Box::new(tx));
        }
        self.hand_out(&mut device, sides)?;
        self.compiled.outdate_device(name);
        self.devices.insert(name.to_owned(), device);
        Ok(())
    }

    /// Gives a device's sides to the workers that are to have them.
    fn hand_out(&mut self, device: &mut Device, mut sides: Recalled) -> Result<(), Stuck> {
        sides.transmitters.append(&mut device.spare);
        let workers: BTreeSet<usize> = device.workers.iter().copied().collect();
        // There is a side for each queue, so for each worker that polls one.
        for worker in workers {
            if !sides.transmitters.is_empty() {
                let side = sides.transmitters.remove(0);
                self.dataplane.send(worker, Command::Transmit { device: device.index, side })?;
            }
        }
        device.spare = sides.transmitters;
        for (queue, side) in sides.receivers {
            let worker = device.workers[usize::from(queue)];
            self.dataplane.send(worker, Command::Receive { device: device.index, queue, side })?;
        }
        Ok(())
    }

    /// Moves queues to where they are to be polled. Returns the devices whose queues moved: then nothing is received until the
    /// workers resume, so that no packet overtakes another or finds its way out gone.
    pub(super) fn move_queues(&mut self, model: &Model, touched: &BTreeSet<String>) -> Result<Vec<String>, Stuck> {
        let names: BTreeSet<_> = if std::mem::take(&mut self.misplaced) {
            self.devices.keys().cloned().collect()
        } else {
            touched.iter().filter_map(|name| self.ports.get(name)).map(|port| port.device.clone()).collect()
        };
        let place = |name: String| {
            let device = self.devices.get(&name)?;
            let queues = device.workers.len();
            let workers = self.placement.of(device.index.0, queues, affinity(model, &device.wish.users));
            (workers != device.workers).then_some((name, workers))
        };
        let moves: Vec<_> = names.into_iter().filter_map(place).collect();
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        self.dataplane.hold()?;
        let moved = moves.iter().map(|(name, _)| name.clone()).collect();
        for (name, workers) in moves {
            let Some(mut device) = self.devices.remove(&name) else { continue };
            let sides = self.dataplane.recall(device.index)?;
            device.workers = workers;
            self.hand_out(&mut device, sides)?;
            self.compiled.outdate_device(&name);
            tracing::debug!("{name}: its queues are polled by workers {:?}", device.workers);
            self.devices.insert(name, device);
        }
        Ok(moved)
    }

    /// Which worker polls what.
    pub fn queues(&self) -> impl Iterator<Item = QueueView<'_>> {
        self.devices.iter().flat_map(|(name, device)| {
            let port = owner(name, device);
            let numbered = device.workers.iter().enumerate();
            numbered.map(move |(queue, &worker)| QueueView { worker, port, queue, device })
        })
    }
}

/// Where queues of a device are wanted: as its port says, or the first of its ports that says anything.
fn affinity<'a>(model: &'a Model, users: &Users) -> &'a Affinity {
    static NONE: Affinity = Affinity::new();
    let interfaces = users.names().into_iter().filter_map(|name| model.interfaces.get(name));
    interfaces.map(|interface| &interface.affinity).find(|affinity| !affinity.is_empty()).unwrap_or(&NONE)
}
