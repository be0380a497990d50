//! How does an acknowledged transaction survive a kill at any byte?
//!
//! The file is text, one record per line, behind one header line:
//!
//! ```text
//! shunt-journal 1 Open_vSwitch 8.3.1
//! LENGTH CHECKSUM [CHANGE, ...]
//! ```
//!
//! LENGTH is the number of bytes of the JSON after it and CHECKSUM its CRC-32, both in eight hexadecimal digits; a CHANGE is
//! [`Delta::to_json`](crate::database::Delta::to_json). Why not the log format of ovsdb: this one is cut, found again and read with `less` and `grep`
//! alike, and needs no SHA-1.
//!
//! A record is written and synced before its transaction is acknowledged. What a kill or a power failure leaves of
//! the last record (a part, or holes full of zeros) is cut when the file is opened; anything else that does not fit its checksum is damage, and the
//! start is refused. Transactions that come together are one record, so they cost one sync. Status columns that the daemon writes are
//! kept in memory until the next client's transaction takes them along, or a second has passed. The file is rewritten from the rows (to a new file, synced, renamed) when it has grown to several
//! times their size.

use serde_json::Value;
use std::io;

pub mod disk;
pub use disk::{Disk, FileDisk};

const MAGIC: &str = "shunt-journal 1 ";
/// `LENGTH CHECKSUM ` in bytes.
const PREFIX: usize = 18;
/// Below this size a journal is not worth a rewrite, in bytes.
const COMPACT_MIN: u64 = 1 << 20;
/// A rewrite is due when the file is this many times what the last rewrite left.
const COMPACT_FACTOR: u64 = 4;
/// Changes that wait in memory for the next durable one, in bytes.
const PENDING_MAX: usize = 1 << 16;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("{path} is in use by process {process}; stop that one first, or give this one another --state")]
    InUse {
        /// The journal.
        path: String,
        /// Its number, or `unknown`.
        process: String,
    },
    /// The system refused.
    #[error("{action}: {source}")]
    Io {
        /// What was tried on which file.
        action: String,
        /// Why not.
        source: io::Error,
    },
    /// It was never one, or is one of another program or version.
    #[error(
        "not a journal of this program and version: it begins with \"{found}\", not with \"{expected}\"; move it away, or \
         start the version that wrote it"
    )]
    Foreign {
        /// The first line.
        found: String,
        /// Ours.
        expected: String,
    },
    /// Damage that a kill cannot have done.
    #[error(
        "damaged at byte {offset}: {problem}; restore the file from a copy, or keep only what is before the damage with \
         `truncate -s {offset} FILE` (what follows is lost), then start again"
    )]
    Damaged {
        /// Where the bad record begins.
        offset: usize,
        /// What is wrong.
        problem: String,
    },
}

/// What a journal holds.
#[derive(Debug)]
pub struct Contents {
    /// The offset and the changes of each record.
    pub records: Vec<(usize, Vec<Value>)>,
    /// Bytes of whole records, the header included. What follows is torn.
    pub whole: usize,
    /// Bytes in all.
    pub length: usize,
}

/// The header line for a database of this name and version.
pub fn header(name: &str, version: &str) -> String {
    format!("{MAGIC}{name} {version}\n")
}

/// Reads a whole file. `name` is the database's; its version may be another.
pub fn read(bytes: &[u8], name: &str) -> Result<Contents, JournalError> {
    let expected = format!("{MAGIC}{name} ");
    let mut contents = Contents { records: Vec::new(), whole: 0, length: bytes.len() };
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let end = first.len();
    let version = first.strip_prefix(expected.as_bytes());
    let is_header = version.is_some_and(|version| version.iter().all(|c| c.is_ascii_digit() || *c == b'.'));
    if end == bytes.len() && (is_header || expected.as_bytes().starts_with(first)) {
        // A file is created whole, so somebody cut it; nothing acknowledged was in it.
        return Ok(contents);
    }
    if !is_header {
        return Err(foreign(first, expected));
    }
    contents.whole = end + 1;
    while contents.whole < bytes.len() {
        let rest = &bytes[contents.whole..];
        match record(rest) {
            Ok((changes, length)) => {
                contents.records.push((contents.whole, changes));
                contents.whole += length;
            }
            Err(problem) if is_torn(rest) => {
                tracing::debug!("journal: byte {}: {problem}", contents.whole);
                break;
            }
            Err(problem) => {
                return Err(JournalError::Damaged { offset: contents.whole, problem: problem.to_owned() });
            }
        }
    }
    Ok(contents)
}

fn foreign(line: &[u8], expected: String) -> JournalError {
    let found = String::from_utf8_lossy(&line[..line.len().min(60)]).escape_debug().to_string();
    JournalError::Foreign { found, expected }
}

const ENDS_EARLY: &str = "the record ends early";

/// The changes of the record that `bytes` begins with, and its length.
fn record(bytes: &[u8]) -> Result<(Vec<Value>, usize), &'static str> {
    let prefix = bytes.get(..PREFIX).ok_or(ENDS_EARLY)?;
    let number = |digits: &[u8]| -> Option<usize> {
        let lower = digits.iter().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit));
        usize::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| lower)?, 16).ok()
    };
    let form = "the record does not begin with a length and a checksum";
    let (length, checksum) = number(&prefix[..8]).zip(number(&prefix[9..17])).ok_or(form)?;
    if prefix[8] != b' ' || prefix[17] != b' ' {
        return Err(form);
    }
    let json = bytes.get(PREFIX..PREFIX + length).ok_or(ENDS_EARLY)?;
    let newline = bytes.get(PREFIX + length).ok_or(ENDS_EARLY)?;
    if *newline != b'\n' || crc32fast::hash(json) as usize != checksum {
        return Err("the record does not match its checksum");
    }
    let changes: Vec<Value> = serde_json::from_slice(json).map_err(|_| "the record is not a JSON array")?;
    Ok((changes, PREFIX + length + 1))
}

/// Whether the bad rest of a file can be what a kill or a power failure left of the last record: it is a mere beginning, or
/// blocks that were never written read as zeros; and no whole record follows.
fn is_torn(bytes: &[u8]) -> bool {
    /// More zeros than a few flipped bits make, fewer than any block has.
    const HOLE: [u8; 8] = [0; 8];
    let is_beginning = !bytes.contains(&b'\n') && record(bytes) == Err(ENDS_EARLY);
    let has_hole = bytes.ends_with(&[0]) || bytes.windows(HOLE.len()).any(|window| window == HOLE);
    let mut later = bytes.split_inclusive(|byte| *byte == b'\n').skip(1);
    (is_beginning || has_hole) && !later.any(|line| record(line).is_ok())
}

/// One record with one change, for tests.
pub fn encode_record(change: &str) -> Vec<u8> {
    encode(&[change.to_owned()])
}

fn encode(changes: &[String]) -> Vec<u8> {
    let json = format!("[{}]", changes.join(","));
    format!("{:08x} {:08x} {json}\n", json.len(), crc32fast::hash(json.as_bytes())).into_bytes()
}

/// An open journal, ready to be appended to.
pub struct Journal {
    disk: Box<dyn Disk>,
    header: String,
    /// Bytes of whole, synced records.
    length: u64,
    compact_at: u64,
    pending: Vec<String>,
    pending_bytes: usize,
    /// The file may end in garbage or miss changes: it has to be rewritten before the next record.
    stale: bool,
    /// The file was renamed, but its directory not yet synced.
    directory_unsynced: bool,
}

impl Journal {
    /// Reads the file, cuts off a torn end, and makes the file if there is none.
    pub fn open(mut disk: Box<dyn Disk>, name: &str, version: &str) -> Result<(Journal, Contents), JournalError> {
        let io = |action: &str| {
            let action = action.to_owned();
            move |source| JournalError::Io { action, source }
        };
        let bytes = disk.read().map_err(io("cannot read it"))?;
        let contents = read(bytes.as_deref().unwrap_or_default(), name)?;
        let mut journal = Journal {
            disk,
            header: header(name, version),
            length: contents.whole as u64,
            compact_at: COMPACT_MIN,
            pending: Vec::new(),
            pending_bytes: 0,
            stale: false,
            directory_unsynced: false,
        };
        if contents.whole == 0 {
            journal.replace(Vec::new()).map_err(io("cannot create it"))?;
        } else if contents.whole < contents.length {
            let torn = contents.length - contents.whole;
            tracing::warn!("journal: cut {torn} bytes of an unfinished record at byte {}", contents.whole);
            journal.disk.truncate(journal.length).map_err(io("cannot cut off the unfinished record at its end"))?;
            journal.disk.sync().map_err(io("cannot sync it"))?;
        }
        Ok((journal, contents))
    }

    /// Whether it has to be rewritten ([`Journal::compact`]) before anything else can be written.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether a rewrite would save much.
    pub fn wants_compaction(&self) -> bool {
        self.length >= self.compact_at
    }

    /// Writes changes and all that wait as one record, and returns when it is on the disk. After an error they are neither in
    /// the file nor waiting.
    pub fn append(&mut self, changes: &[Value]) -> io::Result<()> {
        let waiting = self.pending.len();
        self.pending.extend(changes.iter().map(Value::to_string));
        let result = self.flush();
        if result.is_err() {
            self.pending.truncate(waiting);
        }
        result
    }

    /// Keeps a change in memory, to be written with the next one that has to be durable.
    pub fn append_later(&mut self, change: &Value) {
        let change = change.to_string();
        self.pending_bytes += change.len();
        self.pending.push(change);
        if self.pending_bytes > PENDING_MAX && self.flush().is_err() {
            // The rows are in memory: a rewrite brings them back.
            self.pending.clear();
            self.pending_bytes = 0;
            self.stale = true;
        }
    }

    /// Writes what waits.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.stale {
            return Err(io::Error::other("the journal has to be rewritten first"));
        }
        self.sync_directory()?;
        if self.pending.is_empty() {
            return Ok(());
        }
        let record = encode(&self.pending);
        if let Err(error) = self.disk.append(&record).and_then(|()| self.disk.sync()) {
            // Back to what was there; where that fails too, only a rewrite can help.
            self.stale = self.disk.truncate(self.length).and_then(|()| self.disk.sync()).is_err();
            return Err(error);
        }
        self.length += record.len() as u64;
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    /// Rewrites the file with `everything` as its only change. After an error the old file is in force, unless the new one
    /// is already in its place.
    pub fn compact(&mut self, everything: Option<&Value>) -> io::Result<()> {
        // Not at once again if it fails.
        self.compact_at = self.length.saturating_mul(2).max(COMPACT_MIN);
        self.replace(everything.map(Value::to_string).into_iter().collect())
    }

    fn replace(&mut self, changes: Vec<String>) -> io::Result<()> {
        let mut bytes = self.header.clone().into_bytes();
        if !changes.is_empty() {
            bytes.extend(encode(&changes));
        }
        self.disk.stage(&bytes)?;
        self.disk.install()?;
        self.length = bytes.len() as u64;
        self.compact_at = self.length.saturating_mul(COMPACT_FACTOR).max(COMPACT_MIN);
        self.pending.clear();
        self.pending_bytes = 0;
        self.stale = false;
        self.directory_unsynced = true;
        self.sync_directory()
    }

    /// Until the directory is synced, a power failure may bring the old file back: nothing may be acknowledged before.
    fn sync_directory(&mut self) -> io::Result<()> {
        if self.directory_unsynced {
            self.disk.sync_directory()?;
            self.directory_unsynced = false;
        }
        Ok(())
    }
}
