//! How do captured packets get from the workers to a client?
//!
//! A client asks by the method `capture`; from then on its connection carries pcapng and nothing else. What is asked for goes down
//! the road of a command: the next snapshot has the capture's bit at its ports ([`Captures`]), and each worker gets an end of a
//! tap. A [`Feed`] reads the other ends whenever the client has taken what it was given. So nothing waits for a slow client: its
//! taps fill, and what does not fit is counted by the workers. The capture ends with the connection.

pub mod line;
pub mod pcapng;

use crate::clock::{self, Clock};
use crate::dataplane::{Dataplane, Stuck};
use crate::rpc;
use crate::state::State;
use pcapng::Statistics;
use serde::{Deserialize, Serialize};
use shunt_switch::capture::{Capture, CaptureReader, Seen, Views, Wish};
use shunt_switch::config::PortIndex;
use shunt_switch::filter::{Filter, Instruction};
use shunt_switch::limits::{CAPTURES_MAX, FRAME_MAX};
use shunt_switch::tap::Outcome;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;

/// Octets of packets taken from the workers at once.
const BATCH_OCTETS: usize = 256 << 10;

/// What a client asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// A port or a bridge.
    pub of: String,
    /// What the ports receive.
    pub came: bool,
    /// What leaves by them.
    pub left: bool,
    /// What does not leave.
    pub dropped: bool,
    /// Octets kept of a packet.
    pub snaplen: usize,
    /// End after so many packets.
    pub count: Option<u64>,
    /// As given, for the file.
    pub expression: Option<String>,
    /// The same, compiled: instructions of classic BPF.
    pub filter: Option<Vec<(u16, u8, u8, u32)>>,
}

impl Request {
    fn wish(&self) -> Result<Wish, String> {
        let views = Views { came: self.came, left: self.left, dropped: self.dropped };
        let line = |&(code, jt, jf, k): &(u16, u8, u8, u32)| Instruction { code, jt, jf, k };
        let program = self.filter.as_ref().map(|lines| Filter::new(lines.iter().map(line).collect()));
        let filter = program.transpose().map_err(|error| error.to_string())?.map(Arc::new);
        Ok(Wish { views, filter, snaplen: self.snaplen.min(FRAME_MAX + 64) })
    }
}

/// The captures that there are, by number.
#[derive(Default)]
pub struct Captures {
    slots: [Option<Active>; CAPTURES_MAX],
    /// The workers' snapshot is to be made anew.
    changed: bool,
}

struct Active {
    /// A port or a bridge.
    of: String,
    wish: Wish,
    /// By worker; those that have an end of it.
    readers: Vec<CaptureReader>,
}

impl Captures {
    /// A number for a capture, which the next snapshot puts in force.
    fn begin(&mut self, of: &str, wish: Wish) -> Result<u8, String> {
        let free = self.slots.iter().position(Option::is_none);
        let number =
            free.ok_or_else(|| format!("{CAPTURES_MAX} captures are running, and there cannot be more: end one"))?;
        self.slots[number] = Some(Active { of: of.to_owned(), wish, readers: Vec::new() });
        self.changed = true;
        Ok(number as u8)
    }

    /// The workers give their ends back.
    fn end(&mut self, number: u8, dataplane: &mut Dataplane) -> Result<(), Stuck> {
        self.slots[usize::from(number)] = None;
        self.changed = true;
        dataplane.end_capture(number)
    }

    /// True once after a capture came or went.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The bits of a port.
    pub fn bits(&self, port: &str, bridge: &str) -> u8 {
        let of = |active: &Active| active.of == port || active.of == bridge;
        (0..).zip(&self.slots).fold(0, |bits, (number, slot)| bits | u8::from(slot.as_ref().is_some_and(of)) << number)
    }

    /// A snapshot with the bits is in force: each worker that has no end of a capture gets one.
    pub fn installed(&mut self, dataplane: &mut Dataplane) -> Result<(), Stuck> {
        for (number, active) in (0..).zip(&mut self.slots) {
            let Some(active) = active else { continue };
            for worker in active.readers.len()..dataplane.cores().len() {
                let (capture, reader) = Capture::new(active.wish.clone());
                dataplane.begin_capture(worker, number, capture)?;
                active.readers.push(reader);
            }
        }
        Ok(())
    }
}

/// A port in the file.
struct Interface {
    /// Its number there.
    number: u32,
    /// Packets in the file.
    written: u64,
    /// And in the data plane.
    index: PortIndex,
}

/// One capture's way to its client.
pub struct Feed {
    state: Rc<RefCell<State>>,
    dirty: Rc<Notify>,
    number: u8,
    request: Request,
    /// By name of the port.
    interfaces: HashMap<String, Interface>,
    names: HashMap<PortIndex, String>,
    /// The snapshot that `names` is of.
    generation: Option<u64>,
    from_ns: u64,
    taken: u64,
    ended: bool,
    batch: Vec<(Seen, std::ops::Range<usize>)>,
    octets: Vec<u8>,
    comment: String,
}

impl Feed {
    /// Begins a capture. `dirty` is told when a snapshot is due.
    pub fn begin(state: &Rc<RefCell<State>>, dirty: &Rc<Notify>, request: Request) -> Result<Self, String> {
        let wish = request.wish()?;
        let number = {
            let mut state = state.borrow_mut();
            if !state.ports.contains_key(&request.of) && !state.bridges.contains_key(&request.of) {
                return Err(format!(
                    "no port or bridge in force is named {} (\"show\" prints them, with what is wrong)",
                    request.of
                ));
            }
            state.captures.begin(&request.of, wish)?
        };
        dirty.notify_one();
        Ok(Self {
            state: Rc::clone(state),
            dirty: Rc::clone(dirty),
            number,
            request,
            interfaces: HashMap::new(),
            names: HashMap::new(),
            generation: None,
            from_ns: 0,
            taken: 0,
            ended: false,
            batch: Vec::new(),
            octets: Vec::new(),
            comment: String::new(),
        })
    }

    /// Begins the file, and takes over which number is which port.
    fn look(&mut self, output: &mut Vec<u8>) {
        let state = self.state.borrow();
        if self.generation == Some(state.generation()) {
            return;
        }
        if self.generation.is_none() {
            self.from_ns = Clock::start().now().0 + clock::epoch_ns();
            pcapng::section(output);
        }
        self.generation = Some(state.generation());
        self.names = state.ports.iter().map(|(name, port)| (port.index, name.clone())).collect();
        let own = state.ports.iter().filter(|(name, port)| **name == self.request.of || port.bridge == self.request.of);
        for (name, port) in own {
            let next = self.interfaces.len() as u32;
            let interface = self.interfaces.entry(name.clone()).or_insert_with(|| {
                let snaplen = self.request.snaplen as u32;
                pcapng::interface(output, name, snaplen, self.request.expression.as_deref());
                Interface { number: next, written: 0, index: port.index }
            });
            interface.index = port.index;
        }
    }

    /// Moves what the workers have told into the batch, in the order of its time.
    fn gather(&mut self) {
        self.batch.clear();
        self.octets.clear();
        let mut state = self.state.borrow_mut();
        let Some(active) = &mut state.captures.slots[usize::from(self.number)] else { return };
        let share = BATCH_OCTETS / active.readers.len().max(1);
        let mut one = Vec::new();
        for reader in &mut active.readers {
            let begin = self.octets.len();
            while self.octets.len() - begin < share
                && let Some(seen) = reader.tap.next(&mut one)
            {
                let at = self.octets.len();
                self.octets.extend_from_slice(&one);
                self.batch.push((seen, at..self.octets.len()));
            }
        }
        // What came in one turn came before what left in it.
        self.batch.sort_by_key(|(seen, _)| (seen.at, seen.is_out));
    }

    fn write_batch(&mut self, output: &mut Vec<u8>) {
        let offset = clock::epoch_ns();
        for (seen, octets) in &self.batch {
            if self.request.count.is_some_and(|count| self.taken >= count) {
                break;
            }
            let Some(interface) = self.names.get(&seen.port).and_then(|name| self.interfaces.get_mut(name)) else {
                continue;
            };
            self.comment.clear();
            comment(&mut self.comment, seen, &self.names);
            let packet = pcapng::Packet {
                interface: interface.number,
                at_ns: seen.at.0 + offset,
                is_out: seen.is_out,
                len: seen.len,
                octets: &self.octets[octets.clone()],
                comment: &self.comment,
            };
            pcapng::packet(output, &packet);
            interface.written += 1;
            self.taken += 1;
        }
    }

    /// Writes what became of each interface.
    fn finish(&mut self, output: &mut Vec<u8>) {
        self.ended = true;
        let to_ns = Clock::start().now().0 + clock::epoch_ns();
        let state = self.state.borrow();
        let readers = state.captures.slots[usize::from(self.number)].as_ref().map_or(&[][..], |active| &active.readers);
        let mut interfaces: Vec<&Interface> = self.interfaces.values().collect();
        interfaces.sort_by_key(|interface| interface.number);
        for Interface { number, written, index } in interfaces {
            let lost = readers.iter().filter_map(|reader| reader.lost.get(usize::from(index.0)));
            let dropped = lost.map(|lost| lost.get()).sum();
            let received = written + dropped;
            let end = Statistics { interface: *number, from_ns: self.from_ns, to_ns, received, dropped };
            pcapng::statistics(output, &end);
        }
    }
}

impl rpc::Feed for Feed {
    fn take(&mut self, output: &mut Vec<u8>) -> bool {
        if self.ended {
            return false;
        }
        // The first octets say that it is in force.
        let in_force = |active: &Active| !active.readers.is_empty();
        if !self.state.borrow().captures.slots[usize::from(self.number)].as_ref().is_some_and(in_force) {
            return true;
        }
        self.look(output);
        self.gather();
        self.write_batch(output);
        if self.request.count.is_some_and(|count| self.taken >= count) {
            self.finish(output);
        }
        true
    }

    fn end(&mut self, output: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        self.look(output);
        // What is in the taps by now still counts; what comes meanwhile does not keep it going.
        for _ in 0..64 {
            self.gather();
            if self.batch.is_empty() {
                break;
            }
            self.write_batch(output);
        }
        self.finish(output);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        let State { captures, dataplane, .. } = &mut *state;
        if let Err(error) = captures.end(self.number, dataplane) {
            tracing::error!("cannot end a capture: {error}");
        }
        self.dirty.notify_one();
    }
}

/// What became of a packet, in words.
fn comment(out: &mut String, seen: &Seen, names: &HashMap<PortIndex, String>) {
    let name = |port: PortIndex| names.get(&port).map_or("a port that is gone", String::as_str);
    let is_port = |port: PortIndex| port != PortIndex::NONE;
    // Writing to a string does not fail.
    let _ = match seen.outcome {
        Outcome::Dropped { reason, port } => match (seen.is_out, is_port(port)) {
            (true, _) => write!(out, "dropped: {}, from {}", reason.name(), name(seen.from)),
            (false, true) => write!(out, "dropped: {}, to {}", reason.name(), name(port)),
            (false, false) => write!(out, "dropped: {}", reason.name()),
        },
        _ if seen.is_out && seen.is_routed => write!(out, "routed, from {}", name(seen.from)),
        _ if seen.is_out && !is_port(seen.from) => write!(out, "mirrored"),
        _ if seen.is_out => write!(out, "from {}", name(seen.from)),
        outcome => {
            if is_port(seen.routed_from) {
                let _ = write!(out, "routed by {} ", name(seen.routed_from));
            }
            let named = seen.to.iter().filter(|port| is_port(**port));
            let count = named.clone().count();
            for (place, port) in named.enumerate() {
                let _ = write!(out, "{} {}", if place == 0 { "to" } else { "," }, name(*port));
            }
            if let Outcome::Flooded(all) = outcome
                && usize::from(all) > count
            {
                let _ = write!(out, " and {} more", usize::from(all) - count);
            }
            seen.lost.map_or(Ok(()), |reason| write!(out, "; a copy was dropped: {}", reason.name()))
        }
    };
}
