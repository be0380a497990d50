//! How do all the sessions share one database? Bytes of each client go in, bytes for each client come out.
//!
//! One request at a time ([`Hub::step`]). What a transaction changes is told to every monitor before its own
//! reply is queued, so that a client which has the reply has seen the change. Transactions that wait are tried again after every
//! change, in the order in which they came.

use super::frame::Splitter;
use super::lock::Locks;
use super::message::{self, Message};
use super::monitor::Monitor;
use super::{Daemon, Peer, QUEUE_BUSY, QUEUE_MAX, server_database};
use crate::database::Database;
use crate::store::{Reply, Store};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use uuid::Uuid;

/// A connection's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

/// A transaction that waits for its `wait` to hold.
pub(super) struct Waiting {
    pub(super) id: Value,
    pub(super) operations: Vec<Value>,
    pub(super) since: Instant,
    pub(super) until: Option<Instant>,
}

pub(super) struct Session {
    pub(super) peer: Peer,
    input: Splitter,
    output: VecDeque<u8>,
    pub(super) monitors: Vec<Monitor>,
    pub(super) waiting: Vec<Waiting>,
    /// Nothing more is read; the connection ends when the output is out.
    ending: bool,
    /// The client does not read; the connection ends now.
    dead: bool,
    wake: Rc<Notify>,
}

impl Session {
    pub(super) fn send(&mut self, json: &Value) {
        if self.dead {
            return;
        }
        let bytes = json.to_string().into_bytes();
        if self.output.len() + bytes.len() > QUEUE_MAX {
            tracing::warn!("client {:?} does not read its messages: cut off", self.peer);
            self.dead = true;
            self.output = VecDeque::new();
        }
        self.output.extend(bytes);
        self.wake.notify_one();
    }

    /// Takes out the waiting transaction of this request id.
    pub(super) fn take_waiting(&mut self, id: &Value) -> Option<Waiting> {
        let place = self.waiting.iter().position(|waiting| waiting.id == *id)?;
        Some(self.waiting.remove(place))
    }
}

/// All sessions, the store and the daemon.
pub struct Hub {
    pub(super) store: Rc<RefCell<Store>>,
    pub(super) daemon: Rc<RefCell<dyn Daemon>>,
    pub(super) server_database: Database,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) locks: Locks,
    last: u64,
    /// Told when [`Hub::deadline`] may have changed.
    pub(super) timer: Rc<Notify>,
}

impl Hub {
    /// Without sessions.
    pub fn new(store: Rc<RefCell<Store>>, daemon: Rc<RefCell<dyn Daemon>>) -> Hub {
        store.borrow_mut().watch();
        let server_database = server_database::build(store.borrow().database().schema());
        let (sessions, locks) = (BTreeMap::new(), Locks::default());
        Hub { store, daemon, server_database, sessions, locks, last: 0, timer: Rc::new(Notify::new()) }
    }

    /// A client connected. `wake` is told when there is output for it.
    pub fn connect(&mut self, peer: Peer, wake: Rc<Notify>) -> SessionId {
        self.last += 1;
        let id = SessionId(self.last);
        let session = Session {
            peer,
            input: Splitter::default(),
            output: VecDeque::new(),
            monitors: Vec::new(),
            waiting: Vec::new(),
            ending: false,
            dead: false,
            wake,
        };
        self.sessions.insert(id, session);
        id
    }

    /// A client is gone, and with it its monitors, locks and waiting transactions.
    pub fn disconnect(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        for (name, owner) in self.locks.forget(id) {
            self.tell_lock("locked", &name, owner);
        }
    }

    /// Number of sessions.
    pub fn connections(&self) -> usize {
        self.sessions.len()
    }

    /// A client sent bytes; [`Hub::step`] looks at them.
    pub fn receive(&mut self, id: SessionId, bytes: &[u8]) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.input.push(bytes);
        }
    }

    /// Handles one request of a client; `false` if there is none, or if it must read its replies first.
    pub fn step(&mut self, id: SessionId, now: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if session.ending || session.dead || session.output.len() > QUEUE_BUSY {
            return false;
        }
        let message = match session.input.next_object() {
            Ok(Some(bytes)) => message::parse(bytes),
            Ok(None) => return false,
            Err(error) => {
                let error = crate::transaction::OperationError::syntax(error.to_string());
                session.send(&message::error(&Value::Null, error.to_json()));
                session.ending = true;
                return false;
            }
        };
        match message {
            Ok(Message::Request { method, params, id: request }) => {
                if let Some(reply) = self.request(id, &method, params, &request, now) {
                    self.send(id, &reply);
                }
            }
            Ok(Message::Answer) => {}
            Err((request, error)) => session.send(&message::error(&request, error.to_json())),
        }
        true
    }

    /// Takes what waits for a client to be written, as much as is in one piece.
    pub fn output(&self, id: SessionId) -> &[u8] {
        self.sessions.get(&id).map_or(&[], |session| session.output.as_slices().0)
    }

    /// So many bytes of [`Hub::output`] are written.
    pub fn written(&mut self, id: SessionId, count: usize) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.output.drain(..count.min(session.output.len()));
            if session.output.is_empty() {
                session.output.shrink_to(QUEUE_BUSY);
            }
        }
    }

    /// Whether more requests of the client may be read.
    pub fn is_reading(&self, id: SessionId) -> bool {
        let reading = |session: &Session| !session.ending && !session.dead && session.output.len() <= QUEUE_BUSY;
        self.sessions.get(&id).is_some_and(reading)
    }

    /// Whether the connection is to be closed now.
    pub fn is_over(&self, id: SessionId) -> bool {
        let over = |session: &Session| session.dead || (session.ending && session.output.is_empty());
        self.sessions.get(&id).is_none_or(over)
    }

    pub(super) fn send(&mut self, id: SessionId, json: &Value) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.send(json);
        }
    }

    /// The daemon changed rows, or time passed: tells monitors, and tries again what waits.
    pub fn poll(&mut self, now: Instant) {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        if self.publish() || due {
            self.retry(now);
        }
    }

    /// When [`Hub::poll`] has to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.sessions.values().flat_map(|session| &session.waiting).filter_map(|waiting| waiting.until).min()
    }

    /// Tells monitors of everything that changed; whether anything did.
    fn publish(&mut self) -> bool {
        let changes = self.store.borrow_mut().take_changes();
        let store = self.store.borrow();
        let database = store.database();
        for delta in &changes {
            let transaction = Uuid::new_v4();
            for session in self.sessions.values_mut() {
                let watching = session.monitors.iter().filter(|m| m.database == database.schema().name);
                let updates: Vec<_> = watching.filter_map(|m| m.update(database, delta, transaction)).collect();
                for (method, params) in updates {
                    session.send(&message::notification(method, params));
                }
            }
        }
        !changes.is_empty()
    }

    /// Tries every waiting transaction, the oldest first, until none of them changes anything any more.
    pub(super) fn retry(&mut self, now: Instant) {
        let mut changed = true;
        while std::mem::take(&mut changed) {
            let all = self.sessions.iter().flat_map(|(id, session)| session.waiting.iter().map(|w| (*id, w)));
            let mut all: Vec<_> = all.map(|(id, waiting)| (waiting.since, id, waiting.id.clone())).collect();
            all.sort_by_key(|(since, id, _)| (*since, *id));
            for (_, session, request) in all {
                let waiting = self.sessions.get_mut(&session).and_then(|found| found.take_waiting(&request));
                if let Some(waiting) = waiting {
                    changed |= self.transact(session, waiting, now);
                }
            }
        }
    }

    /// Runs a transaction, and replies to it now or later; whether rows changed, so that others may go on.
    pub(super) fn transact(&mut self, session: SessionId, mut waiting: Waiting, now: Instant) -> bool {
        let waited = now.saturating_duration_since(waiting.since);
        let owns = |lock: &str| self.locks.owns(lock, session);
        let reply = self.store.borrow_mut().transact(&waiting.operations, waited, &owns);
        match reply {
            Reply::Waiting(limit) => {
                waiting.until = limit.and_then(|limit: Duration| waiting.since.checked_add(limit));
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.waiting.push(waiting);
                    self.timer.notify_one();
                }
                false
            }
            Reply::Done { results, changed } => {
                self.publish();
                if !waiting.id.is_null() {
                    self.send(session, &message::result(&waiting.id, Value::Array(results)));
                }
                if let Some(session) = self.sessions.get(&session).filter(|_| changed) {
                    self.daemon.borrow_mut().committed(session.peer);
                }
                changed
            }
        }
    }

    pub(super) fn tell_lock(&mut self, what: &str, name: &str, session: SessionId) {
        self.send(session, &message::notification(what, serde_json::json!([name])));
    }
}
