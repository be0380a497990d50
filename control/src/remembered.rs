//! What did a killed daemon change on devices, that somebody must still put back?
//!
//! A clean stop undoes everything. After `kill -9` the kernel takes programs and sockets back by itself, but switched-off features
//! stay. They are kept in a file beside the control socket, under `/run`, where a reboot, after which device numbers begin anew,
//! forgets them too. A line is a device, or the number of one that is given back; now and then the file is written anew.

use crate::kernel::Prepared;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Lines that the file may have beyond twice the devices.
const SPARE_LINES: usize = 64;

/// The file, and what an earlier life of the daemon left in it.
pub struct Remembered {
    path: PathBuf,
    /// By device number.
    earlier: BTreeMap<u32, Prepared>,
    attached: BTreeMap<u32, Prepared>,
    /// Lines that are not in the file yet.
    waiting: Vec<String>,
    /// How many the file has; none if it is not ours yet.
    written: Option<usize>,
}

impl Remembered {
    /// Reads the file that belongs to `socket`. What of it cannot be read is left out: the worst that follows is a device
    /// whose features stay off.
    pub fn open(socket: &Path) -> Self {
        let mut path = socket.as_os_str().to_owned();
        path.push(".devices");
        let path = PathBuf::from(path);
        let mut earlier = BTreeMap::new();
        for line in fs::read_to_string(&path).unwrap_or_default().lines() {
            if let Ok(prepared) = serde_json::from_str::<Prepared>(line) {
                earlier.insert(prepared.ifindex(), prepared);
            } else if let Ok(ifindex) = line.parse() {
                earlier.remove(&ifindex);
            }
        }
        Self { path, earlier, attached: BTreeMap::new(), waiting: Vec::new(), written: None }
    }

    /// Adds to what was just changed on a device what an earlier life changed on it.
    pub fn complete(&mut self, prepared: &mut Prepared) {
        if let Some(earlier) = self.earlier.remove(&prepared.ifindex()) {
            prepared.absorb(earlier);
        }
    }

    /// What an earlier life left on devices that are not attached any more, to be undone now.
    pub fn take_orphans(&mut self) -> Vec<Prepared> {
        let orphans: Vec<_> = std::mem::take(&mut self.earlier).into_values().collect();
        self.waiting.extend(orphans.iter().map(|prepared| prepared.ifindex().to_string()));
        orphans
    }

    /// Keeps what was changed on a device, from the next [`Remembered::write`] on.
    pub fn keep(&mut self, prepared: &Prepared) {
        self.waiting.extend(serde_json::to_string(prepared));
        self.attached.insert(prepared.ifindex(), prepared.clone());
    }

    /// The device is as it was.
    pub fn forget(&mut self, ifindex: u32) {
        if self.attached.remove(&ifindex).is_some() {
            self.waiting.push(ifindex.to_string());
        }
    }

    /// Brings the file in line. Without devices it goes.
    pub fn write(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let most = 2 * (self.attached.len() + self.earlier.len()) + SPARE_LINES;
        let appended = self.written.map(|lines| lines + waiting.len()).filter(|lines| *lines <= most);
        let result = match appended {
            _ if self.attached.is_empty() && self.earlier.is_empty() => self.remove().map(|()| None),
            Some(lines) if self.append(&waiting).is_ok() => Ok(Some(lines)),
            _ => self.write_anew().map(Some),
        };
        self.written = result.unwrap_or_else(|error| {
            tracing::warn!(
                "{}: {error}: should the daemon be killed, settings of devices will not be put back",
                self.path.display()
            );
            None
        });
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn append(&self, lines: &[String]) -> io::Result<()> {
        let text = lines.join("\n") + "\n";
        fs::OpenOptions::new().append(true).open(&self.path)?.write_all(text.as_bytes())
    }

    fn write_anew(&self) -> io::Result<usize> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut text = Vec::new();
        for prepared in self.attached.values().chain(self.earlier.values()) {
            serde_json::to_writer(&mut text, prepared).map_err(io::Error::other)?;
            text.push(b'\n');
        }
        let fresh = self.path.with_extension("new");
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &self.path)?;
        Ok(self.attached.len() + self.earlier.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(ifindex: u32) -> Prepared {
        serde_json::from_value(serde_json::json!({"ifindex": ifindex, "raised": true, "features": ["a"],
            "peer_features": [], "tags_hidden": null}))
        .expect("a device")
    }

    #[test]
    fn survives_and_goes_away() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("db.sock");
        let mut first = Remembered::open(&socket);
        first.keep(&prepared(1));
        first.write();
        for ifindex in 2..4 {
            first.keep(&prepared(ifindex));
        }
        first.forget(1);
        first.write();
        let mut next = Remembered::open(&socket);
        let mut again = Prepared::default();
        next.complete(&mut again);
        assert_eq!(next.take_orphans(), [prepared(2), prepared(3)]);
        assert_eq!(next.take_orphans(), []);
        next.write();
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
    }

    /// Devices come and go for long: the file does not grow, and always tells of those that are there.
    #[test]
    fn the_file_stays_small() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("db.sock");
        let mut remembered = Remembered::open(&socket);
        remembered.keep(&prepared(1));
        for ifindex in 2..1000 {
            remembered.keep(&prepared(ifindex));
            remembered.write();
            assert_eq!(Remembered::open(&socket).take_orphans(), [prepared(1), prepared(ifindex)]);
            remembered.forget(ifindex);
            remembered.write();
            assert_eq!(Remembered::open(&socket).take_orphans(), [prepared(1)]);
        }
        let text = fs::read_to_string(folder.path().join("db.sock.devices")).expect("the file");
        assert!(text.lines().count() <= 2 * 2 + SPARE_LINES);
    }

    #[test]
    fn what_is_damaged_is_left_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (socket, path) = (folder.path().join("db.sock"), folder.path().join("db.sock.devices"));
        let whole = serde_json::to_string(&prepared(7)).expect("JSON");
        fs::write(&path, format!("{whole}\n{}", &whole[..9])).expect("written");
        let mut remembered = Remembered::open(&socket);
        assert_eq!(remembered.earlier.len(), 1);
        remembered.keep(&prepared(8));
        remembered.write();
        assert_eq!(fs::read_to_string(&path).expect("the file").lines().count(), 2, "no torn line in between");
    }
}
