//! How do all the sessions share one database? Bytes of each client go in, bytes for each client come out.
//!
//! One request at a time ([`Hub::step`]). Transactions are only gathered by that; [`Hub::commit`] runs them all, in the order
//! in which they came, with one sync of the journal. What a transaction changes is told to every monitor before its own
//! reply is queued, so that a client which has the reply has seen the change. A client's other requests see what its transactions
//! before them did. Transactions that wait are tried again after every change, in the order in which they came.

use super::frame::Splitter;
use super::lock::Locks;
use super::message::{self, Message};
use super::methods;
use super::monitor::Monitor;
use super::{
    CONNECTIONS_MAX, Daemon, Feed, GROUP_BYTES_MAX, GROUP_MAX, PER_SESSION_MAX, Peer, QUEUE_BUSY, QUEUE_MAX,
    server_database,
};
use crate::database::{Database, Delta};
use crate::schema::vswitch;
use crate::store::{Reply, Request, Store};
use crate::transaction::OperationError;
use serde_json::Value;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use uuid::Uuid;

/// A connection's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

/// A client's transaction that is yet to run, or waits for its `wait` to hold.
pub(super) struct Waiting {
    pub(super) session: SessionId,
    pub(super) peer: Peer,
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
    /// What the connection carries from now on.
    pub(super) feed: Option<Box<dyn Feed>>,
    /// It carries that.
    feeds: bool,
    /// The hub's count of messages when it last sent something.
    heard: u64,
    /// Nothing more is read; the connection ends when the output is out.
    ending: bool,
    /// The client does not read, or gave way to another; the connection ends now.
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
            return self.cut_off();
        }
        self.output.extend(bytes);
        self.wake.notify_one();
    }

    fn cut_off(&mut self) {
        self.dead = true;
        self.output = VecDeque::new();
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
    /// Another one after each start.
    pub(super) server_id: Uuid,
    /// The database is that of [`vswitch::schema`].
    pub(super) serves_own_schema: bool,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) locks: Locks,
    /// Transactions for the next [`Hub::commit`], and the bytes of their requests.
    gathered: Vec<Waiting>,
    gathered_bytes: usize,
    /// Told when there are such.
    pub(super) to_commit: Rc<Notify>,
    last: u64,
    /// Messages so far, or parts of such.
    heard: u64,
    /// Told when [`Hub::deadline`] may have changed.
    pub(super) timer: Rc<Notify>,
}

impl Hub {
    /// Without sessions.
    pub fn new(store: Rc<RefCell<Store>>, daemon: Rc<RefCell<dyn Daemon>>) -> Hub {
        store.borrow_mut().watch();
        let server_database = server_database::build(store.borrow().database().schema());
        let serves_own_schema = *store.borrow().database().schema() == vswitch::schema();
        let (sessions, locks) = (BTreeMap::new(), Locks::default());
        let (gathered, to_commit, timer) = (Vec::new(), Rc::default(), Rc::default());
        Hub {
            store,
            daemon,
            server_database,
            server_id: Uuid::new_v4(),
            serves_own_schema,
            sessions,
            locks,
            gathered,
            gathered_bytes: 0,
            to_commit,
            last: 0,
            heard: 0,
            timer,
        }
    }

    /// Makes room for another client. Where all places are taken one gives way that loses nothing but its connection; of those
    /// one of the process that has the most, and of those the one that was silent the longest. False if each client follows
    /// or waits for something and is alone in its process.
    pub fn make_room(&mut self) -> bool {
        let live = || self.sessions.iter().filter(|(_, session)| !session.dead);
        if live().count() < CONNECTIONS_MAX {
            return true;
        }
        let mut of_process: HashMap<Peer, usize> = HashMap::new();
        live().for_each(|(_, session)| *of_process.entry(session.peer).or_default() += 1);
        let claim = |(id, session): (&SessionId, &Session)| {
            let is_idle = session.monitors.is_empty() && session.waiting.is_empty() && self.locks.count(*id) == 0;
            (is_idle, of_process[&session.peer], Reverse(session.heard), *id)
        };
        // Feeds are few.
        let least = live().filter(|(_, session)| session.feed.is_none() && !session.feeds).map(claim).max();
        let Some((is_idle, of_process, _, id)) = least else { return false };
        let gives_way = is_idle || of_process > 1;
        self.sessions.get_mut(&id).filter(|_| gives_way).map(Session::cut_off).is_some()
    }

    /// A client connected. `wake` is told when there is output for it.
    pub fn connect(&mut self, peer: Peer, wake: Rc<Notify>) -> SessionId {
        self.last += 1;
        self.heard += 1;
        let id = SessionId(self.last);
        let session = Session {
            peer,
            input: Splitter::default(),
            output: VecDeque::new(),
            monitors: Vec::new(),
            waiting: Vec::new(),
            feed: None,
            feeds: false,
            heard: self.heard,
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

    /// What the client is to get from now on, once it has its replies.
    pub fn take_feed(&mut self, id: SessionId) -> Option<Box<dyn Feed>> {
        let session = self.sessions.get_mut(&id).filter(|session| session.output.is_empty())?;
        let feed = session.feed.take();
        session.feeds |= feed.is_some();
        feed
    }

    /// A client sent bytes; [`Hub::step`] looks at them.
    pub fn receive(&mut self, id: SessionId, bytes: &[u8]) {
        self.heard += 1;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.heard = self.heard;
            session.input.push(bytes);
        }
    }

    /// Handles one request of a client; `false` if there is none, or if it must read its replies first.
    pub fn step(&mut self, id: SessionId, now: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if session.ending || session.dead || session.feed.is_some() || session.output.len() > QUEUE_BUSY {
            return false;
        }
        let (message, length) = match session.input.next_object() {
            Ok(Some(bytes)) => (message::parse(bytes), bytes.len()),
            Ok(None) => return false,
            Err(error) => {
                session.ending = true;
                self.commit_of(id, now);
                let error = OperationError::syntax(error.to_string());
                self.send(id, &message::error(&Value::Null, error.to_json()));
                return false;
            }
        };
        let answer = match message {
            Ok(Message::Request { method, params, id: request }) if method == "transact" => {
                self.gathered_bytes += length;
                self.transact_request(id, params, request, now)
            }
            Ok(Message::Request { method, params, id: request }) => {
                self.commit_of(id, now);
                self.request(id, &method, params, &request, now)
            }
            Ok(Message::Answer) => None,
            Err(wrong) => Some(message::error(&wrong.0, wrong.1.to_json())),
        };
        if let Some(answer) = answer {
            self.commit_of(id, now);
            self.send(id, &answer);
        }
        if self.gathered.len() >= GROUP_MAX || self.gathered_bytes >= GROUP_BYTES_MAX {
            self.commit(now);
        }
        true
    }

    /// Adds a transaction to the next [`Hub::commit`].
    pub(super) fn gather(&mut self, transaction: Waiting) {
        self.gathered.push(transaction);
        self.to_commit.notify_one();
    }

    /// Whether there is something to [`Hub::commit`].
    pub fn is_gathering(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// What a client asked for before must be done before its next request is.
    fn commit_of(&mut self, session: SessionId, now: Instant) {
        if self.gathered.iter().any(|transaction| transaction.session == session) {
            self.commit(now);
        }
    }

    /// Runs the transactions that were gathered, makes them durable and answers them.
    pub fn commit(&mut self, now: Instant) {
        self.gathered_bytes = 0;
        let group = std::mem::take(&mut self.gathered);
        if self.transact(group, now) {
            self.retry(now);
        }
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
        changes.iter().for_each(|delta| self.tell_monitors(delta));
        !changes.is_empty()
    }

    fn tell_monitors(&mut self, delta: &Delta) {
        let store = self.store.borrow();
        let database = store.database();
        let transaction = Uuid::new_v4();
        for session in self.sessions.values_mut() {
            let watching = session.monitors.iter().filter(|m| m.database == database.schema().name);
            let updates: Vec<_> = watching.filter_map(|m| m.update(database, delta, transaction)).collect();
            for (method, params) in updates {
                session.send(&message::notification(method, params));
            }
        }
    }

    /// Tries every waiting transaction, the oldest first, until none of them changes anything any more.
    pub(super) fn retry(&mut self, now: Instant) {
        loop {
            let mut all: Vec<_> = self.sessions.values_mut().flat_map(|s| std::mem::take(&mut s.waiting)).collect();
            all.sort_by_key(|waiting| (waiting.since, waiting.session));
            if !self.transact(all, now) {
                break;
            }
        }
    }

    /// Runs transactions, and replies to each now or later; whether rows changed, so that others may go on.
    fn transact(&mut self, group: Vec<Waiting>, now: Instant) -> bool {
        if group.is_empty() {
            return false;
        }
        // What the daemon wrote came before.
        self.publish();
        let locks = &self.locks;
        let owners: Vec<_> = group.iter().map(|t| move |lock: &str| locks.owns(lock, t.session)).collect();
        let requests: Vec<_> = group
            .iter()
            .zip(&owners)
            .map(|(transaction, owns_lock)| Request {
                operations: &transaction.operations,
                waited: now.saturating_duration_since(transaction.since),
                owns_lock,
            })
            .collect();
        let replies = self.store.borrow_mut().transact_all(&requests);
        drop(requests);
        let mut deltas = self.store.borrow_mut().take_changes();
        let mut any = false;
        for (transaction, reply) in group.into_iter().zip(replies) {
            match reply {
                Reply::Waiting(limit) => self.wait(transaction, limit),
                Reply::Done { results, changed } => {
                    if let Some(delta) = changed.then(|| deltas.pop_front()).flatten() {
                        self.tell_monitors(&delta);
                    }
                    self.send(transaction.session, &message::result(&transaction.id, Value::Array(results)));
                    if changed {
                        any = true;
                        self.daemon.borrow_mut().committed(transaction.peer);
                    }
                }
            }
        }
        any
    }

    fn wait(&mut self, mut transaction: Waiting, limit: Option<Duration>) {
        let Some(session) = self.sessions.get_mut(&transaction.session) else { return };
        if session.waiting.iter().any(|waiting| waiting.id == transaction.id) {
            let database = Value::from(self.store.borrow().database().schema().name.as_str());
            let params = [database].into_iter().chain(transaction.operations).collect();
            let error = OperationError::syntax(methods::DUPLICATE_REQUEST).about(&params).to_json();
            session.send(&message::error(&transaction.id, error));
            return;
        }
        if session.waiting.len() >= PER_SESSION_MAX {
            let details = format!("{PER_SESSION_MAX} transactions of this client wait already; cancel one");
            let error = OperationError::new("resources exhausted", details).to_json();
            session.send(&message::error(&transaction.id, error));
            return;
        }
        transaction.until = limit.and_then(|limit| transaction.since.checked_add(limit));
        session.waiting.push(transaction);
        self.timer.notify_one();
    }

    pub(super) fn tell_lock(&mut self, what: &str, name: &str, session: SessionId) {
        self.send(session, &message::notification(what, serde_json::json!([name])));
    }
}
