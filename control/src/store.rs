//! How do the rows in memory and the journal on disk stay one thing?
//!
//! A client's transaction is in the journal before it is in memory, and in memory before it is acknowledged. The
//! daemon reads rows here, and writes its status columns with [`Store::write`].

use crate::database::{Database, Delta, ReplayError, RowRef};
use crate::datum::Datum;
use crate::journal::{Disk, FileDisk, Journal, JournalError};
use crate::schema::{DatabaseSchema, vswitch};
use crate::transaction::{self, Context, OperationError, Outcome, Transaction};
use serde_json::Value;
use std::collections::VecDeque;
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
    changes: VecDeque<Rc<Delta>>,
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
        Store { database, journal: None, path: String::new(), watched: false, changes: VecDeque::new() }
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

    /// Runs a client's operations; what they change is on the disk when this returns. `waited`: how long the
    /// client waits for it already; `owns_lock`: for `assert`.
    pub fn transact(&mut self, operations: &[Value], waited: Duration, owns_lock: &dyn Fn(&str) -> bool) -> Reply {
        let mut context = Context { fresh: &mut Uuid::new_v4, waited, owns_lock };
        let (mut results, delta) = match transaction::execute(&self.database, operations, &mut context) {
            Outcome::Done(results, delta) => (results, delta),
            Outcome::Waiting(until) => return Reply::Waiting(until),
        };
        if delta.changes.is_empty() {
            return Reply::Done { results, changed: false };
        }
        if let Err(error) = self.journal(&delta) {
            results.push(self.journal_refused(&error).to_json());
            return Reply::Done { results, changed: false };
        }
        self.apply(delta);
        self.compact_if_due();
        Reply::Done { results, changed: true }
    }

    /// Gives columns of rows other values for the daemon itself, all in one; says whether anything changed. Rows that
    /// are gone meanwhile are passed over. It reaches the journal with the next client's transaction or [`Store::flush`].
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
        self.apply(delta);
        Ok(true)
    }

    /// Writes to the disk what [`Store::write`] left waiting.
    pub fn flush(&mut self) -> io::Result<()> {
        self.rewrite_if_stale()?;
        self.journal.as_mut().map_or(Ok(()), Journal::flush)
    }

    /// From now on keeps what changes for [`Store::take_changes`].
    pub fn watch(&mut self) {
        self.watched = true;
    }

    /// What changed since the last call, in order.
    pub fn take_changes(&mut self) -> VecDeque<Rc<Delta>> {
        std::mem::take(&mut self.changes)
    }

    fn apply(&mut self, delta: Delta) {
        self.database.apply(&delta);
        if self.watched {
            self.changes.push_back(Rc::new(delta));
        }
    }

    fn journal(&mut self, delta: &Delta) -> io::Result<()> {
        let Some(change) = delta.to_json(&self.database) else { return Ok(()) };
        self.rewrite_if_stale()?;
        self.journal.as_mut().map_or(Ok(()), |journal| journal.append(&change))
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
