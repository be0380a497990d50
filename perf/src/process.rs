//! How are other programs run, awaited and ended, also when the user gives up?

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::netns::Netns;

/// Priority of the switch under test and of the generator, so that other programs disturb them little.
pub const NICENESS: i32 = -20;

const POLL: Duration = Duration::from_millis(20);
const GRACE: Duration = Duration::from_secs(5);

/// Whether the user wants the measurement to end: Ctrl-C, SIGTERM or SIGHUP.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over the signals: from now on they are noticed by [`Interrupt::check`], so that everything is removed.
    pub fn install() -> Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.0)).context("cannot handle signals")?;
        }
        Ok(interrupt)
    }

    /// Fails once a signal has come.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.0.load(Ordering::Relaxed), "interrupted; the rig was removed");
        Ok(())
    }

    /// Lets time pass, as measurements must.
    pub fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Waits until `ready` gives something; `what` names it in the message when `limit` is over.
    pub fn wait_for<T>(&self, what: &str, limit: Duration, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let end = Instant::now() + limit;
        loop {
            self.check()?;
            if let Some(found) = ready()? {
                return Ok(found);
            }
            ensure!(Instant::now() < end, "{what} did not happen within {} s", limit.as_secs());
            std::thread::sleep(POLL);
        }
    }
}

/// Raises the priority of this session, with the switches that will be started in it, until dropped. The scheduler weighs
/// sessions first (sched(7), "autogroup"): a compiler in another terminal is not impressed by [`NICENESS`] alone.
#[derive(Debug)]
pub struct Priority {
    before: Option<String>,
}

impl Priority {
    const FILE: &str = "/proc/self/autogroup";

    /// Raises it, where the kernel groups sessions at all.
    pub fn raise() -> Result<Self> {
        let Ok(text) = std::fs::read_to_string(Self::FILE) else { return Ok(Self { before: None }) };
        // "/autogroup-9 nice 0", or nothing in the root group.
        let before = text.trim().rsplit_once(' ').map(|(_, nice)| nice.to_owned());
        if before.is_some() {
            std::fs::write(Self::FILE, NICENESS.to_string())
                .with_context(|| format!("cannot write {}; run as root", Self::FILE))?;
        }
        Ok(Self { before })
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = std::fs::write(Self::FILE, before)
        {
            eprintln!("shunt-perf: cannot put {before} back into {}: {error}", Self::FILE);
        }
    }
}

/// Runs a command to its end and gives back its standard output; an exit status other than 0 is an error.
pub fn run(command: &mut Command) -> Result<String> {
    // A group of its own: Ctrl-C must not reach the commands that clean up.
    let output = command.process_group(0).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        bail!("{} failed ({}): {}", words(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Processor time that all threads of a process have had.
pub fn run_time(pid: u32) -> Result<Duration> {
    let folder = format!("/proc/{pid}/task");
    let threads = std::fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))?;
    // The first number of schedstat is ns on a core; the counters of stat are too coarse for an idle process.
    let times = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Ok(Duration::from_nanos(times.sum()))
}

/// Runs lines of `ip -batch` in a namespace.
pub fn batch(namespace: &Netns, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace.name(), "-batch", "-"]).process_group(0).stdin(Stdio::piped());
    let mut child = command.spawn().context("cannot run ip")?;
    child.stdin.take().context("piped")?.write_all(lines.as_bytes()).context("cannot write to ip")?;
    let status = child.wait().context("cannot wait for ip")?;
    ensure!(status.success(), "ip -batch failed ({status})");
    Ok(())
}

fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Finds a program as a shell would, also in the folders for administrators.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(administrators).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A program that runs beside us and is ended when dropped, or by the kernel if we are killed.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts `command` with its output in the file `log`. Must be called on the main thread: the kernel ends the
    /// service when the thread that started it dies.
    pub fn start(name: &str, command: &Command, log: PathBuf) -> Result<Self> {
        Self::start_at(NICENESS, name, command, log)
    }

    /// The same for a program that is no switch: it has no priority.
    pub fn start_plain(name: &str, command: &Command, log: PathBuf) -> Result<Self> {
        Self::start_at(0, name, command, log)
    }

    fn start_at(niceness: i32, name: &str, command: &Command, log: PathBuf) -> Result<Self> {
        let file = std::fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut wrapped = Command::new("nice");
        wrapped
            .args(["-n", &niceness.to_string(), "setpriv", "--pdeathsig", "KILL"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                wrapped.env(key, value);
            }
        }
        wrapped.process_group(0).stdin(Stdio::null());
        wrapped.stdout(file.try_clone().context("cannot share the log file")?).stderr(file);
        let child = wrapped.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Fails if the program has ended, with the end of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().with_context(|| format!("cannot ask for {}", self.name))? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(10).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!("{} ended by itself ({status}); its last words:\n{}", self.name, tail.join("\n"));
        }
        Ok(())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL, and returns when it is gone.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.child.wait().map(drop).with_context(|| format!("cannot wait for {}", self.name))
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process(Pid::from_child(&self.child), signal) {
            eprintln!("shunt-perf: cannot end {}: {error}", self.name);
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        self.signal(Signal::TERM);
        let end = Instant::now() + GRACE;
        while !self.has_ended() {
            if Instant::now() >= end {
                eprintln!("shunt-perf: {} did not end within {} s and was killed", self.name, GRACE.as_secs());
                self.signal(Signal::KILL);
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_words() {
        let error = run(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such thing"), "{error}");
    }

    #[test]
    fn a_service_ends_when_dropped_and_an_early_end_is_reported() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let service = Service::start("sleep", Command::new("sleep").arg("1000"), folder.path().join("log")).unwrap();
        let pid = service.child.id();
        drop(service);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());

        let command = &mut Command::new("sh");
        let mut service =
            Service::start("sh", command.args(["-c", "echo bye; exit 4"]), folder.path().join("log2")).unwrap();
        let error = Interrupt::default()
            .wait_for("an end", GRACE, || Ok(service.check_alive().err()))
            .expect("it ends by itself");
        assert!(error.to_string().contains("bye"), "{error}");
    }

    #[test]
    fn a_wait_that_takes_too_long_says_for_what() {
        let error = Interrupt::default().wait_for("rain", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert!(error.to_string().contains("rain"), "{error}");
    }
}
