//! How does a thread, or a program, get into a network namespace, and how does all we made go away with us?

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::process;

const PREFIX: &str = "shuntperf-";

/// A network namespace of our own; removed, with the devices in it, when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes the namespace `shuntperf-PID-ROLE`, with IPv6 off so that no host in it speaks by itself.
    pub fn create(role: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{role}", std::process::id());
        process::run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        for scope in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
            namespace.within(|| if fs::exists(&path)? { fs::write(&path, "1") } else { Ok(()) })??;
        }
        Ok(namespace)
    }

    /// Its name, for `ip -n`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the kernel shows it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `work` on a thread of its own inside the namespace, and waits for it.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| enter(&self.path()).map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run inside the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = process::run(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("shunt-perf: {error:#}; remove it with: ip netns del {}", self.name);
        }
    }
}

/// Moves the calling thread into the namespace at `path`, for good.
pub fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open the namespace {}", path.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("cannot enter the namespace {}; run as root", path.display()))
}

/// Removes namespaces and folders of runs that were killed before they could do it themselves.
pub fn remove_leftovers() -> Result<()> {
    for name in orphans(Path::new("/run/netns")) {
        process::run(Command::new("ip").args(["netns", "del", &name]))?;
    }
    for name in orphans(&std::env::temp_dir()) {
        let path = std::env::temp_dir().join(name);
        fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// A temporary folder for a switch under test, removed when dropped.
pub fn folder() -> Result<TempDir> {
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().context("cannot make a temporary folder")
}

/// Names in a folder that processes of ours have left there which no longer run.
fn orphans(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_orphan =
        |name: &String| owner_of(name).is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true));
    names.filter(is_orphan).collect()
}

/// The process that made a namespace or folder, if one of ours did.
fn owner_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_namespaces_have_an_owner() {
        assert_eq!(owner_of("shuntperf-123-dut"), Some(123));
        for other in ["shuntperf-x-dut", "shuntperf-123", "shunt-123-dut", "container7"] {
            assert_eq!(owner_of(other), None, "{other}");
        }
    }
}
