//! What did a killed daemon change on devices, that somebody must still put back?
//!
//! A clean stop undoes everything. After `kill -9` the kernel takes programs and sockets back by itself, but promiscuous
//! mode and switched-off features stay. They are kept in a file beside the control socket, under `/run`, where a reboot, after
//! which device numbers begin anew, forgets them too.

use crate::kernel::Prepared;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The file, and what an earlier life of the daemon left in it.
pub struct Remembered {
    path: PathBuf,
    earlier: BTreeMap<u32, Prepared>,
    written: Vec<Prepared>,
}

impl Remembered {
    /// Reads the file that belongs to `socket`. One that cannot be read is taken for an empty one: the worst that follows
    /// is a device that stays promiscuous.
    pub fn open(socket: &Path) -> Self {
        let mut path = socket.as_os_str().to_owned();
        path.push(".devices");
        let path = PathBuf::from(path);
        let text = std::fs::read(&path).unwrap_or_default();
        let list: Vec<Prepared> = serde_json::from_slice(&text).unwrap_or_default();
        let earlier = list.into_iter().map(|prepared| (prepared.ifindex(), prepared)).collect();
        Self { path, earlier, written: Vec::new() }
    }

    /// Adds to what was just changed on a device what an earlier life changed on it.
    pub fn complete(&mut self, prepared: &mut Prepared) {
        if let Some(earlier) = self.earlier.remove(&prepared.ifindex()) {
            prepared.absorb(earlier);
        }
    }

    /// What an earlier life left on devices that are not attached any more, to be undone now.
    pub fn take_orphans(&mut self) -> Vec<Prepared> {
        std::mem::take(&mut self.earlier).into_values().collect()
    }

    /// Keeps what is changed on the attached devices. With none, the file goes.
    pub fn keep<'a>(&mut self, attached: impl Iterator<Item = &'a Prepared>) {
        let all: Vec<_> = attached.cloned().chain(self.earlier.values().cloned()).collect();
        if all == self.written && self.path.exists() != all.is_empty() {
            return;
        }
        if let Err(error) = self.write(&all) {
            tracing::warn!(
                "{}: {error}: should the daemon be killed, settings of devices will not be put back",
                self.path.display()
            );
        }
        self.written = all;
    }

    fn write(&self, all: &[Prepared]) -> io::Result<()> {
        if all.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let text = serde_json::to_vec(all).map_err(io::Error::other)?;
        let fresh = self.path.with_extension("new");
        std::fs::write(&fresh, text)?;
        std::fs::rename(&fresh, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_and_goes_away() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("db.sock");
        let prepared = Prepared::default();
        Remembered::open(&socket).keep([&prepared].into_iter());
        let mut next = Remembered::open(&socket);
        assert_eq!(next.take_orphans(), vec![prepared.clone()]);
        assert_eq!(next.take_orphans(), vec![]);
        next.keep([&prepared].into_iter());
        next.keep(std::iter::empty());
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
    }

    #[test]
    fn a_damaged_file_is_an_empty_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("db.sock");
        std::fs::write(folder.path().join("db.sock.devices"), "[{\"ifin").expect("written");
        assert_eq!(Remembered::open(&socket).take_orphans(), vec![]);
    }
}
