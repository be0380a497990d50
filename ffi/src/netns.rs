//! How does something run in another network namespace without moving the whole process there?
//!
//! On a thread of its own, which enters the namespace, runs it and ends: so nothing can be left in the wrong one. Sockets
//! keep the namespace in which they were created.

use crate::error::SyscallError;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Runs `work` in the network namespace that `namespace` is a descriptor of, and waits for it. A panic of `work` goes on here.
pub fn run_in<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T, SyscallError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
                .map_err(|errno| SyscallError::new("setns(CLONE_NEWNET)", "network namespace", errno))?;
            Ok(work())
        });
        let thread = thread.map_err(|error| SyscallError::new("clone", "thread for a network namespace", error))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes a network namespace with a name, as `ip netns add` does: `path` keeps it, until that is unmounted.
pub fn create(path: &Path) -> Result<(), SyscallError> {
    let failed = |call| move |errno| SyscallError::new(call, "network namespace", errno);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let io = |call| move |error: std::io::Error| failed(call)(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    std::fs::create_dir_all(folder).map_err(io("mkdir"))?;
    // So that other mount namespaces see it, too.
    let share = || mount_change(folder, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    if share().is_err() {
        mount_bind_recursive(folder, folder).map_err(failed("mount(MS_BIND)"))?;
        share().map_err(failed("mount(MS_SHARED)"))?;
    }
    std::fs::OpenOptions::new().create_new(true).write(true).open(path).map_err(io("open(O_CREAT)"))?;
    let made = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: unshare(CLONE_NEWNET) is unsafe for what a thread shares with others, such as its table of
            // descriptors; this thread, which is new, leaves nothing but a network namespace, and ends after one more call.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(failed("unshare(CLONE_NEWNET)"))?;
            mount_bind("/proc/thread-self/ns/net", path).map_err(failed("mount(MS_BIND)"))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if made.is_err() {
        // It leads nowhere.
        let _ = std::fs::remove_file(path);
    }
    made
}

/// A network namespace for tests: uniquely named, removed with all its devices when dropped.
#[derive(Debug)]
pub struct TestNamespace {
    name: String,
    fd: File,
}

impl TestNamespace {
    /// Creates a namespace with its loopback up. Needs root.
    ///
    /// # Panics
    /// If `ip` fails: a test cannot go on.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("shunt-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        ip(&["netns", "add", &name]);
        let path = format!("/run/netns/{name}");
        let fd = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let namespace = Self { name, fd };
        // No IPv6 chatter among the packets that a test counts.
        namespace.run(|| {
            for scope in ["all", "default"] {
                // Without IPv6 there is nothing to switch off.
                let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
            }
        });
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` with these words in the namespace.
    ///
    /// # Panics
    /// If the command fails.
    pub fn ip(&self, words: &str) {
        let mut all = vec!["-n", &self.name];
        all.extend(words.split_whitespace());
        ip(&all);
    }

    /// Runs `ip -batch` with these lines in the namespace.
    ///
    /// # Panics
    /// If a line fails.
    pub fn ip_batch(&self, lines: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("ip (iproute2) can be run");
        let written = child.stdin.take().map(|mut input| input.write_all(lines.as_bytes()));
        let status = child.wait().expect("ip ends");
        assert!(status.success() && written.is_some_and(|result| result.is_ok()), "ip -batch: {status}");
    }

    /// Runs `work` in the namespace.
    ///
    /// # Panics
    /// If `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        run_in(self.fd.as_fd(), work).expect("a namespace that exists can be entered")
    }

    /// Creates a veth pair, `name` here and `peer_name` in `peer`, both up. `more` are further words for `ip link add`,
    /// such as "numrxqueues 2 numtxqueues 2". Returns the number of the end here.
    ///
    /// # Panics
    /// If `ip` fails.
    pub fn veth(&self, name: &str, peer: &TestNamespace, peer_name: &str, more: &str) -> u32 {
        self.ip(&format!("link add {name} {more} type veth peer name {peer_name} {more} netns {}", peer.name));
        self.ip(&format!("link set {name} up"));
        peer.ip(&format!("link set {peer_name} up"));
        self.ifindex(name)
    }

    /// The number of a device in the namespace.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn ifindex(&self, name: &str) -> u32 {
        self.run(|| crate::kernel::ifindex(name)).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Default for TestNamespace {
    fn default() -> Self {
        Self::new()
    }
}

impl AsFd for TestNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("ip (iproute2) can be run");
    assert!(output.status.success(), "ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
}
