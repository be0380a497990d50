//! What does the journal need of a disk? A trait, so that tests can fail or kill it at every byte and step.

use super::JournalError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that is appended to, and can be replaced as a whole.
pub trait Disk {
    /// The contents; `None` if there is no file.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>>;
    /// Writes at the end; after an error a part may be written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when what was appended is on the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Writes and syncs another file beside it.
    fn stage(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Puts the staged file in the place of this one, which is then the one appended to.
    fn install(&mut self) -> io::Result<()>;
    /// Returns when the name of the file is on the disk.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// A file in a directory, with a lock file beside it that keeps a second process away for as long as this lives.
#[derive(Debug)]
pub struct FileDisk {
    path: PathBuf,
    file: Option<File>,
    staged: Option<File>,
    _lock: File,
}

impl FileDisk {
    /// Makes the directory if needed, and takes the lock.
    pub fn open(path: &Path) -> Result<FileDisk, JournalError> {
        let io = |action: &str, path: &Path| {
            let action = format!("cannot {action} {}", path.display());
            move |source| JournalError::Io { action, source }
        };
        let directory = directory(path);
        fs::create_dir_all(directory).map_err(io("create directory", directory))?;
        let lock_path = beside(path, ".lock");
        let mut options = OpenOptions::new();
        let mut lock = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&lock_path)
            .map_err(io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let known = lock.read_to_string(&mut process).is_ok() && !process.trim().is_empty();
                let process = if known { process.trim().to_owned() } else { "unknown".to_owned() };
                return Err(JournalError::InUse { path: path.display().to_string(), process });
            }
            Err(TryLockError::Error(error)) => return Err(io("lock", &lock_path)(error)),
        }
        // Only for the message above: a lock without a number is as good.
        let _ = lock.set_len(0).and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        Ok(FileDisk { path: path.to_owned(), file: None, staged: None, _lock: lock })
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Disk for FileDisk {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut file = match OpenOptions::new().read(true).append(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        self.file = Some(file);
        Ok(Some(bytes))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file()?.set_len(length)
    }

    fn stage(&mut self, bytes: &[u8]) -> io::Result<()> {
        let path = beside(&self.path, ".new");
        // One that an earlier kill left behind, with whatever rights.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o640).open(&path)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // The space may be what is missing.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.staged = Some(file);
        Ok(())
    }

    fn install(&mut self) -> io::Result<()> {
        let staged = self.staged.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        fs::rename(beside(&self.path, ".new"), &self.path)?;
        self.file = Some(staged);
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(directory(&self.path))?.sync_all()
    }
}
