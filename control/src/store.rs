//! How do the rows in memory and the journal on disk stay one thing?
//!
//! Clients' transactions that come together are run in memory, written with one sync, and only then seen by anybody
//! ([`Store::transact_all`]). The daemon reads rows here, and writes its status columns with [`Store::write`].

use crate::database::{Database, Delta, ReplayError, RowId, RowRef};
use crate::datum::Datum;
use crate::journal::{Disk, FileDisk, Journal, JournalError};
use crate::schema::{DatabaseSchema, vswitch};
use crate::transaction::{self, Context, OperationError, Outcome, Transaction};
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

/// The one table that a switch always has a row of.
pub const ROOT: &str = "Open_vSwitch";

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// About the journal.
    #[error("{path}: {source}")]
    Journal {
        /// The file.
        path: String,
        /// What is wrong.
        source: JournalError,
    },
    /// A record that is whole, but does not fit the tables.
    #[error(
        "{path}: the record at byte {offset} does not fit this version's tables: {problem}; start the version that wrote \
         it, or move the file away and configure anew"
    )]
    Replay {
        /// The file.
        path: String,
        /// Where the record begins.
        offset: usize,
        /// What is wrong.
        problem: ReplayError,
    },
    /// Whole records that together break the rules between rows.
    #[error(
        "{path}: what it holds contradicts itself: {problem}; restore the file from a copy, or move it away and configure \
         anew"
    )]
    Unsound {
        /// The file.
        path: String,
        /// What does not hold.
        problem: String,
    },
    /// Another process has the state.
    #[error(transparent)]
    InUse(JournalError),
}

/// A client's transaction.
pub struct Request<'a> {
    /// What it asks for.
    pub operations: &'a [Value],
    /// How long the client waits for it already.
    pub waited: Duration,
    /// Whether the client owns a lock, for `assert`.
    pub owns_lock: &'a dyn Fn(&str) -> bool,
}

/// How a client's transaction ended.
#[derive(Debug)]
pub enum Reply {
    /// The result of `transact`.
    Done {
        /// One result per operation; see [`Outcome::Done`].
        results: Vec<Value>,
        /// Whether rows changed.
        changed: bool,
    },
    /// To be tried again; see [`Outcome::Waiting`].
    Waiting(Option<Duration>),
}

/// The configuration: rows, and their journal.
pub struct Store {
    database: Database,
    journal: Option<Journal>,
    path: String,
    watched: bool,
    flush_failed: bool,
    changes: VecDeque<Rc<Delta>>,
    touched: BTreeSet<RowId>,
}

impl Store {
    /// Opens the journal at `path`, or makes a new one, for this process alone.
    pub fn open(path: &Path) -> Result<Store, OpenError> {
        let name = path.display().to_string();
        let disk = FileDisk::open(path).map_err(|source| match source {
            JournalError::InUse { .. } => OpenError::InUse(source),
            source => OpenError::Journal { path: name.clone(), source },
        })?;
        Store::open_disk(Box::new(disk), &name, vswitch::schema())
    }

    /// As [`Store::open`], on any disk and with any schema; `path` is for messages.
    pub fn open_disk(disk: Box<dyn Disk>, path: &str, schema: DatabaseSchema) -> Result<Store, OpenError> {
        let opened = Journal::open(disk, &schema.name, &schema.version);
        let (journal, contents) = opened.map_err(|source| OpenError::Journal { path: path.to_owned(), source })?;
        let mut store = Store::empty(schema);
        (store.journal, store.path) = (Some(journal), path.to_owned());
        for (offset, changes) in contents.records {
            for change in changes {
                let delta = Delta::from_json(&change, &store.database, &mut Uuid::new_v4)
                    .map_err(|problem| OpenError::Replay { path: path.to_owned(), offset, problem })?;
                store.database.apply(&delta);
            }
        }
        store.database.verify().map_err(|problem| OpenError::Unsound { path: path.to_owned(), problem })?;
        store.touched.extend(store.database.touched(&Delta::of_everything(&store.database)));
        store.compact_if_due();
        store.ensure_root();
        Ok(store)
    }

    /// Without a journal, for tests and tools; with any schema.
    pub fn in_memory(schema: DatabaseSchema) -> Store {
        let mut store = Store::empty(schema);
        store.ensure_root();
        store
    }

    fn empty(schema: DatabaseSchema) -> Store {
        let database = Database::new(schema);
        Store {
            database,
            journal: None,
            path: String::new(),
            watched: false,
            flush_failed: false,
            changes: VecDeque::new(),
            touched: BTreeSet::new(),
        }
    }

    /// A fresh configuration has its root row. It is the same as none, so it need not be durable.
    fn ensure_root(&mut self) {
        let Some(table) = self.database.table_id(ROOT) else { return };
        if self.database.rows(ROOT).next().is_none() {
            let made = self.edit(|tx| tx.insert(table, None).map(drop));
            debug_assert!(made.is_ok(), "an empty root row is valid");
        }
    }

    /// All rows.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The rows of a table.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = RowRef<'_>> {
        self.database.rows(table)
    }

    /// A row of a table.
    pub fn row(&self, table: &str, uuid: &Uuid) -> Option<RowRef<'_>> {
        self.database.row(table, uuid)
    }

    /// The row of the table `Open_vSwitch`.
    pub fn root(&self) -> Option<RowRef<'_>> {
        self.rows(ROOT).next()
    }

    /// Runs one client's operations; see [`Store::transact_all`].
    pub fn transact(&mut self, operations: &[Value], waited: Duration, owns_lock: &dyn Fn(&str) -> bool) -> Reply {
        let mut replies = self.transact_all(&[Request { operations, waited, owns_lock }]);
        replies.pop().unwrap_or(Reply::Waiting(None))
    }

    /// Runs transactions, each on what the ones before it left; what they change is on the disk, in one record with one
    /// sync, when this returns. Nobody sees the rows meanwhile. If the disk refuses, all are undone and each is tried on its own.
    pub fn transact_all(&mut self, requests: &[Request<'_>]) -> Vec<Reply> {
        // A rewrite takes the rows as they are, so it has to come first.
        let ready = self.rewrite_if_stale();
        let (mut replies, mut deltas, mut changes) = (Vec::with_capacity(requests.len()), Vec::new(), Vec::new());
        for request in requests {
            let mut context =
                Context { fresh: &mut Uuid::new_v4, waited: request.waited, owns_lock: request.owns_lock };
            match transaction::execute(&self.database, request.operations, &mut context) {
                Outcome::Waiting(until) => replies.push(Reply::Waiting(until)),
                Outcome::Done(results, delta) => {
                    let changed = !delta.changes.is_empty();
                    if changed {
                        changes.extend(delta.to_json(&self.database));
                        self.database.apply(&delta);
                        deltas.push(delta);
                    }
                    replies.push(Reply::Done { results, changed });
                }
            }
        }
        let written = ready.and_then(|()| match &mut self.journal {
            Some(journal) if !changes.is_empty() => journal.append(&changes),
            _ => Ok(()),
        });
        match written {
            Ok(()) => {
                deltas.into_iter().for_each(|delta| self.tell(delta));
                self.compact_if_due();
            }
            Err(_) if changes.is_empty() => deltas.into_iter().for_each(|delta| self.tell(delta)),
            Err(error) => {
                deltas.into_iter().rev().for_each(|delta| self.database.apply(&delta.reversed()));
                if requests.len() > 1 {
                    return requests.chunks(1).flat_map(|request| self.transact_all(request)).collect();
                }
                if let Some(Reply::Done { results, changed }) = replies.first_mut() {
                    results.push(self.journal_refused(&error).to_json());
                    *changed = false;
                }
            }
        }
        replies
    }

    /// Gives columns of rows other values for the daemon itself, all in one; says whether anything changed. Rows that
    /// are gone meanwhile are passed over. It reaches the journal with the next client's transaction or [`Store::flush_now_and_then`].
    pub fn write<'a>(&mut self, updates: impl IntoIterator<Item = (&'a str, Uuid, &'a str, Datum)>) -> bool {
        let written = self.edit(|tx| {
            for (table, uuid, column, value) in updates {
                if let Err(problem) = tx.set(table, uuid, column, value) {
                    // A value that the schema does not allow is our mistake; the others are written all the same.
                    tracing::error!("status of {table} {uuid}: {problem}");
                }
            }
            Ok(())
        });
        written.unwrap_or_else(|problem| {
            tracing::error!("status columns: {problem}");
            false
        })
    }

    /// As [`Store::write`], with all that a transaction can do: all or nothing.
    pub fn edit(
        &mut self,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<(), OperationError>,
    ) -> Result<bool, OperationError> {
        let mut fresh = Uuid::new_v4;
        let mut tx = Transaction::new(&self.database, &mut fresh);
        edit(&mut tx)?;
        let delta = tx.finish()?;
        if delta.changes.is_empty() {
            return Ok(false);
        }
        if let (Some(journal), Some(change)) = (&mut self.journal, delta.to_json(&self.database)) {
            journal.append_later(&change);
        }
        self.database.apply(&delta);
        self.tell(delta);
        Ok(true)
    }

    /// Writes to the disk what [`Store::write`] left waiting.
    pub fn flush(&mut self) -> io::Result<()> {
        self.rewrite_if_stale()?;
        self.journal.as_mut().map_or(Ok(()), Journal::flush)
    }

    /// As [`Store::flush`], to be called from time to time; says once if the disk refuses.
    pub fn flush_now_and_then(&mut self) {
        let result = self.flush();
        if let (Err(error), false) = (&result, self.flush_failed) {
            tracing::warn!("{}: status columns cannot be written, they wait in memory: {error}", self.path);
        }
        self.flush_failed = result.is_err();
        self.compact_if_due();
    }

    /// From now on keeps what changes for [`Store::take_changes`].
    pub fn watch(&mut self) {
        self.watched = true;
    }

    /// What changed since the last call, in order.
    pub fn take_changes(&mut self) -> VecDeque<Rc<Delta>> {
        std::mem::take(&mut self.changes)
    }

    /// The rows that changed since the last call, or since the store was opened empty, and those to which others refer since.
    pub fn take_touched(&mut self) -> BTreeSet<RowId> {
        std::mem::take(&mut self.touched)
    }

    /// Keeps a change that was made for those who watch.
    fn tell(&mut self, delta: Delta) {
        self.touched.extend(self.database.touched(&delta));
        if self.watched {
            self.changes.push_back(Rc::new(delta));
        }
    }

    fn rewrite_if_stale(&mut self) -> io::Result<()> {
        if self.journal.as_ref().is_some_and(Journal::is_stale) { self.compact() } else { Ok(()) }
    }

    /// Rewrites the journal from the rows; happens by itself when it has grown.
    pub fn compact(&mut self) -> io::Result<()> {
        let everything = Delta::of_everything(&self.database).to_json(&self.database);
        self.journal.as_mut().map_or(Ok(()), |journal| journal.compact(everything.as_ref()))
    }

    fn compact_if_due(&mut self) {
        if self.journal.as_ref().is_some_and(Journal::wants_compaction)
            && let Err(error) = self.compact()
        {
            tracing::warn!("{}: cannot rewrite the journal, it goes on growing: {error}", self.path);
        }
    }

    fn journal_refused(&self, error: &io::Error) -> OperationError {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let (kind, remedy) = if full {
            ("resources exhausted", "free some space there and repeat the command")
        } else {
            ("I/O error", "see to the disk and repeat the command")
        };
        let path = &self.path;
        OperationError::new(kind, format!("cannot write {path}: {error}; nothing was changed; {remedy}"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!("{}: the last status columns are not written: {error}", self.path);
        }
    }
}
