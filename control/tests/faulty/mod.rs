//! A disk that can be full, broken or cut off at every byte and step: what would be left on it?
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]

use shunt_control::fuzzing::small_schema;
use shunt_control::journal::Disk;
use shunt_control::store::{OpenError, Store};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// What outlives the process.
#[derive(Default, Clone)]
pub struct Platter {
    pub file: Option<Vec<u8>>,
    /// Bytes of `file` that survive a power failure.
    pub synced: usize,
    pub staged: Option<Vec<u8>>,
    /// The file before the last rename, until the directory is synced.
    pub shadowed: Option<Option<Vec<u8>>>,
    /// Bytes and steps until the process is killed.
    pub life: Option<usize>,
    /// Bytes that fit.
    pub capacity: Option<usize>,
    /// Which calls of `sync` fail, by number.
    pub failing_syncs: Vec<usize>,
    /// Whether `truncate` fails.
    pub stuck: bool,
    /// Whether `sync_directory` fails.
    pub directory_stuck: bool,
    pub syncs: usize,
}

impl Platter {
    fn dead() -> io::Error {
        io::Error::other("killed")
    }

    /// One step of a life.
    fn live(&mut self) -> io::Result<()> {
        match &mut self.life {
            Some(0) => Err(Self::dead()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Writes byte by byte into `target`, as far as life and space reach.
    fn write(&mut self, target: fn(&mut Platter) -> &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            self.live()?;
            let used = self.file.as_ref().map_or(0, Vec::len) + self.staged.as_ref().map_or(0, Vec::len);
            if self.capacity.is_some_and(|capacity| used >= capacity) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            target(self).push(*byte);
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
pub struct Faulty(pub Rc<RefCell<Platter>>);

impl Disk for Faulty {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut platter = self.0.borrow_mut();
        platter.live()?;
        Ok(platter.file.clone())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().write(|platter| platter.file.as_mut().expect("opened"), bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut platter = self.0.borrow_mut();
        platter.live()?;
        platter.syncs += 1;
        if platter.failing_syncs.contains(&platter.syncs) {
            return Err(io::Error::other("bad sector"));
        }
        platter.synced = platter.file.as_ref().map_or(0, Vec::len);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut platter = self.0.borrow_mut();
        platter.live()?;
        if platter.stuck {
            return Err(io::Error::other("stuck"));
        }
        platter.file.as_mut().expect("opened").truncate(length as usize);
        Ok(())
    }

    fn stage(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().staged = Some(Vec::new());
        let written = self.0.borrow_mut().write(|platter| platter.staged.as_mut().expect("staged"), bytes);
        if written.is_err() && self.0.borrow().life != Some(0) {
            self.0.borrow_mut().staged = None;
        }
        written
    }

    fn install(&mut self) -> io::Result<()> {
        let mut platter = self.0.borrow_mut();
        platter.live()?;
        let before = platter.file.take();
        platter.shadowed.get_or_insert(before);
        platter.file = platter.staged.take();
        platter.synced = platter.file.as_ref().map_or(0, Vec::len);
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut platter = self.0.borrow_mut();
        platter.live()?;
        if platter.directory_stuck {
            return Err(io::Error::other("directory is stuck"));
        }
        platter.shadowed = None;
        Ok(())
    }
}

impl Faulty {
    pub fn with(file: Vec<u8>) -> Faulty {
        let disk = Faulty::default();
        disk.0.borrow_mut().file = Some(file);
        disk
    }

    pub fn open(&self) -> Result<Store, OpenError> {
        Store::open_disk(Box::new(self.clone()), "conf.db", small_schema())
    }

    pub fn file(&self) -> Vec<u8> {
        self.0.borrow().file.clone().unwrap_or_default()
    }

    /// How often it was synced.
    pub fn syncs(&self) -> usize {
        self.0.borrow().syncs
    }

    /// Bytes that fit.
    pub fn limit(&self, capacity: Option<usize>) {
        self.0.borrow_mut().capacity = capacity;
    }

    /// What a new process finds after this one was killed.
    pub fn after_kill(&self) -> Faulty {
        let platter = self.0.borrow();
        let (file, staged) = (platter.file.clone(), platter.staged.clone());
        Faulty(Rc::new(RefCell::new(Platter { file, staged, ..Platter::default() })))
    }

    /// What may be found after a power failure: the rename may be lost, and what was not synced is lost, or zeros.
    pub fn after_power_failure(&self) -> Vec<Faulty> {
        let platter = self.0.borrow();
        if let Some(before) = &platter.shadowed {
            let old = Platter { file: before.clone(), ..Platter::default() };
            return vec![Faulty(Rc::new(RefCell::new(old))), self.after_kill()];
        }
        let file = platter.file.clone().unwrap_or_default();
        let mut lost = file.clone();
        lost.truncate(platter.synced);
        let mut zeros = file.clone();
        zeros[platter.synced..].fill(0);
        let mut tail_only = file.clone();
        let middle = platter.synced + (file.len() - platter.synced) / 2;
        tail_only[platter.synced..middle].fill(0);
        let mut head_only = file;
        head_only[middle..].fill(0);
        let long = tail_only.len() - platter.synced > 40;
        let shapes = [Some(lost), Some(zeros), long.then_some(tail_only), long.then_some(head_only)];
        shapes.into_iter().flatten().map(Faulty::with).collect()
    }
}
