//! How does the switch take a device over, and how does the device return to the kernel?
//!
//! One memory area and one program for each device, one socket for each queue. The program is attached last, when all
//! sockets stand, and detached first.

use crate::descriptor::{Fault, Faults};
use crate::error::SyscallError;
use crate::ethtool::{self, Channels};
use crate::link::{Hook, Link};
use crate::options::{QueueOptions, RING_ENTRIES};
use crate::packet::SEGMENTS_MAX;
use crate::program::{Claims, ClaimsMap, Program, ProgramError, QUEUES_MAX};
use crate::rx::XskRx;
use crate::socket::{Copying, RingSizes, Rings, Socket};
use crate::tx::{TxAbilities, XskTx};
use crate::umem::{CHUNK_BYTES, Umem};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// How frames get from a device to the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// The program runs in the driver, which writes into our frames itself.
    NativeZeroCopy,
    /// The program runs in the driver, the kernel copies.
    Native,
    /// The program runs in the stack, the kernel copies.
    Generic,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            XdpMode::NativeZeroCopy => "native-with-zerocopy",
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        })
    }
}

/// Which mode an attachment may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedMode {
    /// The best that the driver has.
    BestEffort,
    /// This one or none.
    Exactly(XdpMode),
}

/// Why a device cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The device has another XDP program.
    #[error("{device}: {} is attached already; remove it (`ip link set dev {name} xdp off`, or stop the program that holds it)",
        id.map_or("an XDP program".to_owned(), |id| format!("XDP program {id}")))]
    ForeignProgram {
        /// "eth0 (ifindex 2)".
        device: String,
        /// The device's name.
        name: String,
        /// The other program's number, as `bpftool prog show id` takes it.
        id: Option<u32>,
    },
    /// The driver cannot run programs in the wanted mode.
    #[error("{device}: XDP mode {mode} is refused: {source}; {remedy}")]
    Mode {
        /// "eth0 (ifindex 2)".
        device: String,
        /// The mode asked for, or the last one tried.
        mode: XdpMode,
        /// The kernel's answer.
        source: SyscallError,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// Too many queues, or none.
    #[error(
        "{device}: {queues} receive queues, of which the switch can take 1 to {QUEUES_MAX}; set fewer (`ethtool -L {name} combined N`)"
    )]
    Queues {
        /// "eth0 (ifindex 2)".
        device: String,
        /// The device's name.
        name: String,
        /// How many it has.
        queues: u32,
    },
    /// A queue could receive but never transmit: the kernel takes what is sent on it and leaves it lying.
    #[error(
        "{device}: {queues} receive queues but {tx} transmit queues; make them equal (`ethtool -L {name} rx {queues} tx {queues}`)"
    )]
    TransmitQueues {
        /// "eth0 (ifindex 2)".
        device: String,
        /// The device's name.
        name: String,
        /// How many it should receive by.
        queues: u32,
        /// How many transmit queues it has.
        tx: u32,
    },
    /// Sizes that the kernel would refuse.
    #[error(
        "{ring_entries} ring entries, {frames} frames of {chunk_bytes} octets: the ring must be a power of two of at most 65536, \
        frames from 16 to 1048576, and of 2048 or 4096 octets"
    )]
    Options {
        /// See [`QueueOptions::ring_entries`].
        ring_entries: u32,
        /// See [`QueueOptions::frames`].
        frames: u32,
        /// See [`QueueOptions::chunk_bytes`].
        chunk_bytes: u32,
    },
    /// The XDP program could not be loaded.
    #[error("{device}: {source}")]
    Program {
        /// "eth0 (ifindex 2)".
        device: String,
        /// Why.
        source: ProgramError,
    },
    /// A system call failed.
    #[error(transparent)]
    Syscall(#[from] SyscallError),
}

impl AttachError {
    /// True if the device is gone, which is no fault: it is attached when it appears again.
    pub fn is_device_gone(&self) -> bool {
        let errno = match self {
            AttachError::Syscall(error) | AttachError::Mode { source: error, .. } => error.errno(),
            _ => 0,
        };
        matches!(errno, libc::ENODEV | libc::ENXIO)
    }
}

/// What the kernel and the checks of descriptors counted, summed over the queues of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpStatistics {
    /// Packets that the kernel could not put into a frame.
    pub rx_dropped: u64,
    /// Addresses in the fill ring that the kernel refused.
    pub rx_invalid_descs: u64,
    /// Descriptors in the transmit ring that the kernel refused.
    pub tx_invalid_descs: u64,
    /// Packets dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Packets dropped because the fill ring was empty.
    pub rx_fill_ring_empty: u64,
    /// Descriptors, addresses and indices from the kernel that made no sense.
    pub faults: u64,
    /// Packets dropped because they came in more than [`SEGMENTS_MAX`] pieces.
    pub rx_too_many_segments: u64,
    /// Packets that left without the checksum completion that was asked for. A bug of ours.
    pub tx_checksum_requests_refused: u64,
}

/// A device that the switch has taken. The control thread keeps it; dropping it gives the device back to the kernel at once.
/// A socket and the memory go when the attachment and both halves of the queue are dropped.
pub struct Attachment {
    // First: fields are dropped in order, and the program must go before the sockets.
    link: Option<Link>,
    claims: ClaimsMap,
    queues: Vec<Queue>,
    mode: XdpMode,
    ifindex: u32,
    ring_entries: u32,
    tx_checksum: bool,
}

struct Queue {
    socket: Arc<Socket>,
    faults: Arc<Faults>,
}

impl Attachment {
    /// Takes all `queues` of a device of the current network namespace, or on failure none. Returns the two halves of each
    /// queue, for workers. Generic mode is tried only if `generic_allowed` (not over veth: TCP fails in it).
    pub fn open(
        ifindex: u32,
        name: &str,
        queues: u32,
        wanted: WantedMode,
        generic_allowed: bool,
        options: &QueueOptions,
        claims: &Claims,
    ) -> Result<(Self, Vec<(XskRx, XskTx)>), AttachError> {
        let device = Device { ifindex, name, object: format!("{name} (ifindex {ifindex})") };
        check_options(options)?;
        if queues == 0 || queues > QUEUES_MAX {
            return Err(AttachError::Queues { device: device.object, name: name.to_owned(), queues });
        }
        if queues > 1
            && let Ok(Channels { tx, .. }) = ethtool::channels(name)
            && tx < queues
        {
            return Err(AttachError::TransmitQueues { device: device.object, name: name.to_owned(), queues, tx });
        }

        let sockets = bind_all(&device, queues, wanted, options)?;
        let program_error = |source| AttachError::Program { device: device.object.clone(), source };
        let mut program = Program::take(ifindex).map_err(program_error)?;
        for (queue, socket) in (0..).zip(&sockets.bound) {
            program.set_socket(queue, socket.queue.socket.as_fd()).map_err(program_error)?;
        }
        program.claims().set(claims).map_err(program_error)?;
        let (link, mode) = attach(&device, &program, wanted, generic_allowed, sockets.copying)?;

        let mut halves = Vec::with_capacity(queues as usize);
        let mut kept = Vec::with_capacity(queues as usize);
        for socket in sockets.bound {
            halves.push((socket.rx, socket.tx));
            kept.push(socket.queue);
        }
        let attachment = Self {
            link: Some(link),
            claims: program.into_claims(),
            queues: kept,
            mode,
            ifindex,
            ring_entries: options.ring_entries,
            tx_checksum: sockets.tx_checksum,
        };
        Ok((attachment, halves))
    }

    /// The mode in force.
    pub fn mode(&self) -> XdpMode {
        self.mode
    }

    /// The device's number when it was taken.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// How many queues there are.
    pub fn queues(&self) -> u32 {
        self.queues.len() as u32
    }

    /// Entries of each receive and transmit ring.
    pub fn ring_entries(&self) -> u32 {
        self.ring_entries
    }

    /// True if packets can ask for their checksum to be completed by whoever receives them.
    pub fn tx_checksum(&self) -> bool {
        self.tx_checksum
    }

    /// From now on takes the frames that `claims` says. No frame is lost in between.
    pub fn claim(&mut self, claims: &Claims) -> Result<(), ProgramError> {
        self.claims.set(claims)
    }

    /// Gives the device back to the kernel; sockets and memory stay until everything is dropped. Closing a socket waits for
    /// an RCU grace period (some 10 ms): who detaches many devices does this first, then hands them to [`drop_all`].
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// The sums over all queues. Those of a device that is gone stay.
    pub fn statistics(&self) -> XdpStatistics {
        let mut sum = XdpStatistics::default();
        for Queue { socket, faults } in &self.queues {
            let kernel = socket.statistics();
            sum.rx_dropped += kernel.rx_dropped;
            sum.rx_invalid_descs += kernel.rx_invalid_descs;
            sum.tx_invalid_descs += kernel.tx_invalid_descs;
            sum.rx_ring_full += kernel.rx_ring_full;
            sum.rx_fill_ring_empty += kernel.rx_fill_ring_empty_descs;
            for fault in Fault::ALL {
                let count = faults.get(fault);
                match fault {
                    Fault::Foreign | Fault::NotLent | Fault::Length | Fault::RingIndex => sum.faults += count,
                    Fault::TooManySegments => sum.rx_too_many_segments += count,
                    Fault::ChecksumRequest => sum.tx_checksum_requests_refused += count,
                }
            }
        }
        sum
    }
}

/// Drops many things whose end waits for the kernel, such as [`Attachment`]s, side by side: 1000 sockets close in about half a
/// second instead of 12.
pub fn drop_all<T: Send>(things: Vec<T>) {
    const THREADS: usize = 32;
    let mut things = things;
    let share = things.len().div_ceil(THREADS).max(1);
    std::thread::scope(|scope| {
        while things.len() > share {
            let part = things.split_off(things.len() - share);
            // Where no thread can be had, the closure is dropped here, and the part with it.
            let _ = std::thread::Builder::new().name("close".to_owned()).spawn_scoped(scope, move || drop(part));
        }
        drop(things);
    });
}

struct Device<'a> {
    ifindex: u32,
    name: &'a str,
    object: String,
}

impl Device<'_> {
    fn foreign_program(&self, id: Option<u32>) -> AttachError {
        AttachError::ForeignProgram { device: self.object.clone(), name: self.name.to_owned(), id }
    }
}

fn check_options(options: &QueueOptions) -> Result<(), AttachError> {
    let &QueueOptions { ring_entries, frames, chunk_bytes, .. } = options;
    let ring = ring_entries.is_power_of_two() && ring_entries <= *RING_ENTRIES.end();
    let frames_fit = (16..=1 << 20).contains(&frames);
    if ring && frames_fit && CHUNK_BYTES.contains(&chunk_bytes) {
        Ok(())
    } else {
        Err(AttachError::Options { ring_entries, frames, chunk_bytes })
    }
}

/// All sockets of a device, bound.
struct Sockets {
    bound: Vec<BoundSocket>,
    copying: Copying,
    tx_checksum: bool,
}

struct BoundSocket {
    queue: Queue,
    rx: XskRx,
    tx: XskTx,
}

/// Makes the area and all sockets, and binds them.
fn bind_all(
    device: &Device<'_>,
    queues: u32,
    wanted: WantedMode,
    options: &QueueOptions,
) -> Result<Sockets, AttachError> {
    let tx_frames = options.frames / 3;
    let rx_frames = options.frames - tx_frames;
    let sizes = RingSizes {
        rx: options.ring_entries,
        tx: options.ring_entries,
        // Room for every frame: giving one back cannot fail.
        fill: rx_frames.next_power_of_two(),
        completion: tx_frames.next_power_of_two(),
    };
    let umem = Arc::new(Umem::memfd(device.name, queues * options.frames, options.chunk_bytes)?);
    let socket_of = |queue: u32| Socket::open(format!("{} queue {queue}", device.object)).map(Arc::new);
    let first = socket_of(0)?;
    let tx_checksum = first.register(&umem)?;

    let mut bound = Vec::with_capacity(queues as usize);
    let mut copying = Copying::Copy;
    let mut segments_max = SEGMENTS_MAX;
    for queue in 0..queues {
        let socket = if queue == 0 { first.clone() } else { socket_of(queue)? };
        let Rings { rx, tx, fill, completion } = socket.rings(sizes)?;
        let faults = Arc::<Faults>::default();
        let start = queue * options.frames;
        // The fill ring is filled before the bind: some zero-copy drivers look at it only then.
        let rx = XskRx::new(rx, fill, umem.clone(), start..start + rx_frames, faults.clone(), Some(socket.clone()));
        if queue == 0 {
            (copying, segments_max) = bind_first(device, &socket, wanted)?;
        } else {
            bind_patiently(device, || socket.bind_shared(device.ifindex, queue, &first))?;
        }
        socket.set_tx_budget(options.tx_budget, sizes.tx)?;
        // The kernel accounts a page for each further piece of a packet, and doubles what it is told.
        socket.set_send_buffer(tx_frames.saturating_mul(4096));
        let abilities = TxAbilities { segments_max, checksum: tx_checksum };
        let frames = start + rx_frames..start + options.frames;
        let tx = XskTx::new(tx, completion, umem.clone(), frames, abilities, faults.clone(), Some(socket.clone()));
        bound.push(BoundSocket { queue: Queue { socket, faults }, rx, tx });
    }
    Ok(Sockets { bound, copying, tx_checksum })
}

/// Binds the first queue in the best way that is wanted and that the driver has. Returns it, and how many frames one packet
/// may span on transmit.
fn bind_first(device: &Device<'_>, socket: &Socket, wanted: WantedMode) -> Result<(Copying, usize), AttachError> {
    let ways =
        [(Copying::ZeroCopy, true, SEGMENTS_MAX), (Copying::ZeroCopy, false, 1), (Copying::Copy, true, SEGMENTS_MAX)];
    let ways = match wanted {
        WantedMode::BestEffort => &ways[..],
        WantedMode::Exactly(XdpMode::NativeZeroCopy) => &ways[..2],
        WantedMode::Exactly(XdpMode::Native | XdpMode::Generic) => &ways[2..],
    };
    let mut refused = None;
    for &(copying, multi_buffer, segments_max) in ways {
        match bind_patiently(device, || socket.bind(device.ifindex, 0, copying, multi_buffer)) {
            Ok(()) => return Ok((copying, segments_max)),
            // Only these say that it is the mode which is refused.
            Err(AttachError::Syscall(error)) if matches!(error.errno(), libc::EOPNOTSUPP | libc::EINVAL) => {
                refused = Some((copying, error));
            }
            Err(error) => return Err(error),
        }
    }
    let (copying, source) = refused.expect("at least one way was tried");
    Err(match copying {
        Copying::Copy => source.into(),
        Copying::ZeroCopy => AttachError::Mode {
            device: device.object.clone(),
            mode: XdpMode::NativeZeroCopy,
            source,
            remedy: "this driver has no zero-copy; set options:xdp-mode=native",
        },
    })
}

/// Binds, and again for a moment while the queue is busy: the kernel frees a queue some time after its last socket was closed
/// (xp_release_deferred, on a work queue). A device that runs a program is not waited for: somebody uses it.
fn bind_patiently(device: &Device<'_>, bind: impl Fn() -> Result<(), SyscallError>) -> Result<(), AttachError> {
    const TRIES: u32 = 10;
    for tried in 0..TRIES {
        match bind() {
            Err(error) if error.errno() == libc::EBUSY => {
                if let Ok(Some(id)) = crate::xdp_query::program_id(device.ifindex) {
                    return Err(device.foreign_program(Some(id)));
                }
            }
            other => return Ok(other?),
        }
        // 1 to 512 ms, together a second: on a busy machine a work queue takes its time.
        std::thread::sleep(Duration::from_millis(1 << tried));
    }
    Ok(bind()?)
}

/// Attaches the program in the best mode that is wanted and that the driver has.
fn attach(
    device: &Device<'_>,
    program: &Program,
    wanted: WantedMode,
    generic_allowed: bool,
    copying: Copying,
) -> Result<(Link, XdpMode), AttachError> {
    let native = match copying {
        Copying::ZeroCopy => XdpMode::NativeZeroCopy,
        Copying::Copy => XdpMode::Native,
    };
    let modes: &[XdpMode] = match wanted {
        WantedMode::Exactly(XdpMode::Generic) => &[XdpMode::Generic],
        // Sockets in zero-copy mode need the driver.
        WantedMode::BestEffort if generic_allowed && copying == Copying::Copy => &[native, XdpMode::Generic],
        _ => &[native],
    };
    let fd = program.fd();
    let mut refused = None;
    for &mode in modes {
        let hook = if mode == XdpMode::Generic { Hook::Generic } else { Hook::Native };
        match Link::attach(fd, device.ifindex, &device.object, hook) {
            Ok(link) => return Ok((link, mode)),
            Err(error) => match error.errno() {
                libc::EBUSY | libc::EEXIST => {
                    let id = crate::xdp_query::program_id(device.ifindex).ok().flatten();
                    return Err(device.foreign_program(id));
                }
                libc::ENODEV | libc::EPERM | libc::EMFILE => return Err(error.into()),
                _ => refused = Some((mode, error)),
            },
        }
    }
    let (mode, source) = refused.expect("at least one mode was tried");
    let remedy = match source.errno() {
        // drivers/net/veth.c, veth_xdp_set
        libc::ENOSPC => "the device has fewer receive queues than its peer has transmit queues: `ethtool -L DEV rx N`",
        libc::ERANGE => "the MTU of the device or its peer is too large for XDP: lower it",
        _ => "the driver cannot; set options:xdp-mode=generic if this is a NIC, or update the driver",
    };
    Err(AttachError::Mode { device: device.object.clone(), mode, source, remedy })
}
