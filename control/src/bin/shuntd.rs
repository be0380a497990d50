//! What does the daemon's command line say?
#![forbid(unsafe_code)]

use clap::Parser;
use shunt_control::daemon::{self, Options};
use shunt_control::dataplane::Tuning;
use shunt_control::logging::Logging;
use shunt_control::metrics::server::Address;
use shunt_ffi::{QueueOptions, RING_ENTRIES, cpu};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The userspace packet switch for container hosts.
///
/// shuntd attaches to network cards and to the host ends of containers' veth pairs through AF_XDP and switches
/// frames between them on pinned cores. It runs in the foreground, logs to stderr, and is configured with
/// shuntctl(1), or with ovs-vsctl(8), through its control socket. The socket accepts connections once the stored
/// configuration has been applied; under systemd READY=1 is sent at the same moment.
///
/// On SIGTERM all devices go back to the kernel as they were found. If the daemon is killed, the kernel takes them back by
/// itself, and the next start restores the configuration.
#[derive(Parser)]
#[command(name = "shuntd", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    /// Control socket, mode 0660
    #[arg(long, value_name = "PATH", default_value = "/run/shunt/db.sock")]
    socket: PathBuf,
    /// Configuration database; a lock beside it keeps a second daemon out
    #[arg(long, value_name = "PATH", default_value = "/var/lib/shunt/conf.db")]
    state: PathBuf,
    /// Cores that forward, one worker each, as in 1,3-5; default: the last core that this process may use
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    cores: Option<Cores>,
    /// Frames of 2 KiB (4 KiB if the MTU is above 1600) for each queue of a device: two thirds receive, one transmits
    #[arg(long, value_name = "N", default_value_t = QueueOptions::default().frames, value_parser = clap::value_parser!(u32).range(96..=98304))]
    frames: u32,
    /// Entries in each ring of a queue: a power of two, not more than two thirds of the frames
    #[arg(long, value_name = "N", default_value_t = QueueOptions::default().ring_entries, value_parser = power_of_two)]
    ring: u32,
    /// Never let a worker sleep: lowest latency, each core always 100 % busy
    #[arg(long)]
    busy_poll: bool,
    /// How long a worker polls after the last packet before it sleeps, in microseconds
    #[arg(long, value_name = "US", default_value_t = 50, conflicts_with = "busy_poll")]
    spin: u64,
    /// Serve Prometheus metrics over HTTP: PORT (for this host only), ADDRESS:PORT or unix:PATH
    #[arg(long, value_name = "ADDR")]
    metrics: Option<Address>,
    /// Log more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXAMPLES: &str = "Examples:
  shuntd                                     one worker on the last core
  shuntd --cores 2-3 --busy-poll             two workers that never sleep
  shuntctl add-br br0 -- add-port br0 eth1   then configure it

Files:
  /run/shunt/db.sock       control socket
  /var/lib/shunt/conf.db   configuration";

#[derive(Clone)]
struct Cores(Vec<usize>);

/// `1,3-5` → 1, 3, 4, 5; each of them must be allowed to this process.
fn parse_cores(text: &str) -> Result<Cores, String> {
    let allowed = cpu::allowed();
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.parse::<usize>().map_err(|_| format!("{text:?} is not a core number: write a list such as 1,3-5"))
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("{part} goes backwards: write {last}-{first}"));
        }
        for core in first..=last.min(first + shunt_switch::limits::WORKERS_MAX) {
            if !allowed.contains(&core) {
                return Err(format!("core {core} is not available to this process: choose from {allowed:?}"));
            }
            if !cores.contains(&core) {
                cores.push(core);
            }
        }
    }
    if cores.len() > shunt_switch::limits::WORKERS_MAX {
        return Err(format!("{} cores are more than {}: name fewer", cores.len(), shunt_switch::limits::WORKERS_MAX));
    }
    Ok(Cores(cores))
}

fn power_of_two(text: &str) -> Result<u32, String> {
    let number: u32 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if number.is_power_of_two() && RING_ENTRIES.contains(&number) {
        Ok(number)
    } else {
        Err(format!("{number} is not a power of two from 64 to 65536"))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let logging = Logging::start(arguments.verbose);
    // A ring that could fill up only after the frames have run out would be memory for nothing.
    let frames_needed = QueueOptions::default().with_rings(arguments.ring).frames;
    if arguments.frames < frames_needed {
        eprintln!(
            "shuntd: --ring {} is more than two thirds of --frames {}: raise --frames to {frames_needed}",
            arguments.ring, arguments.frames,
        );
        return ExitCode::FAILURE;
    }
    let cores =
        arguments.cores.map(|cores| cores.0).unwrap_or_else(|| cpu::allowed().last().copied().into_iter().collect());
    let options = Options {
        socket: arguments.socket,
        state: arguments.state,
        cores,
        queue: QueueOptions { ring_entries: arguments.ring, frames: arguments.frames, ..QueueOptions::default() },
        tuning: Tuning { spin: Duration::from_micros(arguments.spin), busy_poll: arguments.busy_poll },
        metrics: arguments.metrics,
        logging,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("shuntd: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match tokio::task::LocalSet::new().block_on(&runtime, daemon::run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shuntd: {error}");
            ExitCode::FAILURE
        }
    }
}
