//! How does shunt do with a thousand ports: adding one, starting again, memory, transactions a second?
//!
//! One namespace for the switch, one for all the other ends. Ports carry 4094 VLANs between them. The state is in the folder
//! for temporary files: its disk decides how long a sync takes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::arguments::Scale;
use crate::memory::{kernel_kib, resident_kib};
use crate::netns::{self, Netns};
use crate::process::{self, Interrupt, Service};
use crate::statistics::Summary;

const START_LIMIT: Duration = Duration::from_secs(60);
/// How many additions one figure is the median of.
const ADDITIONS: u32 = 10;
const VLANS: u32 = 4094;

/// What one round found.
#[derive(Debug, Clone, serde::Serialize)]
struct Figures {
    ports: u32,
    /// `shuntctl add-port`, as a process: the median of those around the 10th, and of the last ones.
    add_10th_ms: f64,
    add_last_ms: f64,
    /// From the start of the process, after `kill -9`, until the socket accepts.
    restart_ms: f64,
    /// Growth of the daemon's resident memory, and of the kernel's memory.
    user_kib_per_port: f64,
    kernel_kib_per_port: f64,
    /// Transactions a second, each acknowledged after its sync: clients that wait for each reply, and one that does not.
    transactions_one_client: f64,
    transactions_clients: f64,
    transactions_pipelined: f64,
}

/// Rows of the table: what it is called, and where it is.
type Row = (&'static str, fn(&Figures) -> f64);
const ROWS: [Row; 9] = [
    ("`shuntctl add-port`, 10th port, ms", |f| f.add_10th_ms),
    ("`shuntctl add-port`, last port, ms", |f| f.add_last_ms),
    ("the last beside the 10th", |f| f.add_last_ms / f.add_10th_ms),
    ("start with all ports after kill -9, ms", |f| f.restart_ms),
    ("memory of the daemon, KiB a port", |f| f.user_kib_per_port),
    ("memory of the kernel, KiB a port", |f| f.kernel_kib_per_port),
    ("transactions a second, 1 client", |f| f.transactions_one_client),
    ("transactions a second, 8 clients", |f| f.transactions_clients),
    ("transactions a second, 1 client with 64 on the way", |f| f.transactions_pipelined),
];

/// Runs the rounds; JSON lines on stdout if asked for, the table on stderr.
pub fn run(settings: &Scale) -> Result<()> {
    netns::remove_leftovers()?;
    let interrupt = Interrupt::install()?;
    let bin_dir = match &settings.bin_dir {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default(),
    };
    if let Some(missing) = crate::dut::shunt::missing(&bin_dir) {
        bail!(missing);
    }
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds {
        let figures = Scene::create(settings, &bin_dir, &interrupt)?.measure()?;
        if settings.json {
            println!("{}", serde_json::to_string(&figures)?);
        }
        rounds.push(figures);
    }
    eprint!("{}", table(&rounds));
    Ok(())
}

fn table(rounds: &[Figures]) -> String {
    let ports = rounds.first().map_or(0, |figures| figures.ports);
    let mut text = format!("| {ports} ports, {VLANS} VLANs | median [least … most] |\n|---|---|\n");
    for (name, value) in ROWS {
        let values: Vec<f64> = rounds.iter().map(value).collect();
        if let Some(Summary { median, min, max }) = Summary::of(&values) {
            text += &format!("| {name} | {median:.1} [{min:.1} … {max:.1}] |\n");
        }
    }
    text
}

/// The namespaces and the daemon of one round. What is dropped first comes first.
struct Scene<'a> {
    daemon: Option<Service>,
    settings: &'a Scale,
    bin_dir: PathBuf,
    interrupt: &'a Interrupt,
    folder: TempDir,
    dut: Netns,
    _far: Netns,
}

impl<'a> Scene<'a> {
    fn create(settings: &'a Scale, bin_dir: &Path, interrupt: &'a Interrupt) -> Result<Scene<'a>> {
        let (dut, far) = (Netns::create("dut")?, Netns::create("far")?);
        let ports = 1..=settings.ports;
        let add = |i| format!("link add p{i} type veth peer name q{i} netns {}\nlink set p{i} up\n", far.name());
        process::batch(&dut, &ports.clone().map(add).collect::<String>())?;
        process::batch(&far, &ports.map(|i| format!("link set q{i} up\n")).collect::<String>())?;
        let (bin_dir, folder) = (bin_dir.to_owned(), netns::folder()?);
        Ok(Scene { daemon: None, settings, bin_dir, interrupt, folder, dut, _far: far })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("db.sock")
    }

    /// Starts the daemon; how long until it serves.
    fn start(&mut self) -> Result<Duration> {
        let mut command = self.dut.command(self.bin_dir.join("shuntd"));
        command.arg("--socket").arg(self.socket()).arg("--state").arg(self.folder.path().join("conf.db"));
        let begin = Instant::now();
        let mut daemon = Service::start("shuntd", &command, self.folder.path().join("shuntd.log"))?;
        self.interrupt.wait_for("the start of shuntd", START_LIMIT, || {
            daemon.check_alive()?;
            Ok(UnixStream::connect(self.socket()).ok())
        })?;
        self.daemon = Some(daemon);
        Ok(begin.elapsed())
    }

    fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let database = format!("--db=unix:{}", self.socket().display());
        process::run(Command::new(self.bin_dir.join("shuntctl")).arg(database).arg("--timeout=60").args(arguments))
    }

    fn measure(mut self) -> Result<Figures> {
        self.start()?;
        self.ctl(&["add-br", "br0"])?;
        let ports = self.settings.ports;
        let (user, kernel) = (self.user_kib()?, kernel_kib()?);
        let mut additions = Vec::new();
        for i in 1..=ports {
            self.interrupt.check()?;
            let vlans: Vec<String> = (i..=VLANS).step_by(ports as usize).map(|vid| vid.to_string()).collect();
            let begin = Instant::now();
            self.ctl(&["add-port", "br0", &format!("p{i}"), &format!("trunks={}", vlans.join(","))])?;
            additions.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        let each = f64::from(ports);
        let (user, kernel) = ((self.user_kib()? - user) / each, (kernel_kib()? - kernel) / each);
        let near = additions.len().min(5)..additions.len().min(5 + ADDITIONS as usize);
        let last = additions.len().saturating_sub(ADDITIONS as usize)..additions.len();
        let median = |range| Summary::of(&additions[range]).map_or(0.0, |summary| summary.median);
        let (add_10th_ms, add_last_ms) = (median(near), median(last));
        if let Some(daemon) = self.daemon.take() {
            daemon.kill()?;
        }
        std::fs::remove_file(self.socket()).context("the socket of the killed daemon")?;
        let restart_ms = self.start()?.as_secs_f64() * 1000.0;
        Ok(Figures {
            ports,
            add_10th_ms,
            add_last_ms,
            restart_ms,
            user_kib_per_port: user,
            kernel_kib_per_port: kernel,
            transactions_one_client: self.transactions(1, 1)?,
            transactions_clients: self.transactions(8, 1)?,
            transactions_pipelined: self.transactions(1, 64)?,
        })
    }

    /// Resident memory of the daemon.
    fn user_kib(&self) -> Result<f64> {
        resident_kib(self.daemon.as_ref().context("the daemon runs")?.pid())
    }

    /// Transactions a second by so many clients, each with so many on the way.
    fn transactions(&self, clients: usize, window: usize) -> Result<f64> {
        let (socket, seconds) = (self.socket(), self.settings.seconds);
        let end = Instant::now() + Duration::from_secs(seconds.into());
        let client = |number| {
            let socket = &socket;
            move || change_until(socket, number, window, end)
        };
        let count = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..clients).map(|number| scope.spawn(client(number))).collect();
            threads.into_iter().try_fold(0, |sum, thread| {
                Ok::<_, anyhow::Error>(sum + thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
            })
        })?;
        Ok(f64::from(count) / f64::from(seconds))
    }
}

/// Changes a column again and again; how many changes were acknowledged by `end`.
fn change_until(socket: &Path, client: usize, window: usize, end: Instant) -> Result<u32> {
    let mut stream = UnixStream::connect(socket)?;
    let (mut sent, mut acknowledged, mut buffer) = (0_u32, 0, Vec::new());
    while Instant::now() < end {
        while sent - acknowledged < window as u32 {
            sent += 1;
            let key = format!("client{client}");
            let operation = json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [
                ["external_ids", "delete", key], ["external_ids", "insert", ["map", [[key, sent.to_string()]]]]]});
            let request = json!({"method": "transact", "params": ["Open_vSwitch", operation], "id": sent});
            stream.write_all(request.to_string().as_bytes())?;
        }
        let mut chunk = [0; 65536];
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            bail!("shuntd hung up");
        }
        buffer.extend_from_slice(&chunk[..count]);
        let mut texts = serde_json::Deserializer::from_slice(&buffer).into_iter::<Value>();
        let mut used = 0;
        while let Some(Ok(reply)) = texts.next() {
            used = texts.byte_offset();
            acknowledged += 1;
            if reply["result"][0]["count"] != 1 {
                bail!("a transaction was refused: {reply}");
            }
        }
        buffer.drain(..used);
    }
    Ok(acknowledged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_figure() {
        let figures = |add_last_ms| Figures {
            ports: 1000,
            add_10th_ms: 20.0,
            add_last_ms,
            restart_ms: 900.0,
            user_kib_per_port: 1.0,
            kernel_kib_per_port: 2.0,
            transactions_one_client: 3.0,
            transactions_clients: 4.0,
            transactions_pipelined: 5.0,
        };
        let text = table(&[figures(30.0), figures(40.0), figures(20.0)]);
        assert!(text.contains("| the last beside the 10th | 1.5 [1.0 … 2.0] |"), "{text}");
        assert_eq!(text.lines().count(), 2 + ROWS.len());
    }
}
