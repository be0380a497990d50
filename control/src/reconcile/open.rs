//! How is one device made ready and opened, and what does it say if it refuses?

use super::settings::check_mtu;
use crate::kernel::{Kernel, Kind, Link, Prepared};
use crate::plan::{Users, Wish};
use shunt_ffi::{Attachment, Claims, QueueOptions, WantedMode, XdpMode, XskRx, XskTx, ethtool};

/// Payload above which larger frames are used, so that jumbo packets need fewer of them.
const SMALL_FRAME_MTU: u32 = 1600;

/// Entries of an uplink's rings, if nobody says otherwise: all containers' packets come in by it, in bursts as long as the line
/// is fast, and there are few of them.
const UPLINK_RING: u32 = 2048;

/// An opened device.
pub(super) struct Opened {
    /// As it was before.
    pub(super) link: Link,
    pub(super) prepared: Prepared,
    /// How many queues it had, if that was changed.
    pub(super) queues_before: Option<u32>,
    pub(super) queues: Queues,
    /// Its `tx_dropped` so far.
    pub(super) dropped: u64,
}

/// Its queues.
pub(super) struct Queues {
    pub(super) attachment: Attachment,
    /// The two halves of each.
    pub(super) halves: Vec<(XskRx, XskTx)>,
    /// Memory for frames.
    pub(super) frame_bytes: u64,
}

/// Why a device is not opened, and what of it must be put back.
pub(super) struct Refusal {
    pub(super) text: String,
    pub(super) prepared: Option<Prepared>,
}

impl Refusal {
    pub(super) fn full() -> Self {
        Self { text: "the switch is full: remove ports that are not used".to_owned(), prepared: None }
    }
}

impl<E: ToString> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { text: error.to_string(), prepared: None }
    }
}

/// Prepares and opens a device.
pub(super) async fn open(kernel: &Kernel, options: QueueOptions, name: &str, wish: &Wish) -> Result<Opened, Refusal> {
    let mode = wanted_mode(&wish.xdp_mode).ok_or_else(|| {
        format!(
            "options:xdp-mode={} of {name} is unknown: use best-effort, native-with-zerocopy, native or generic",
            wish.xdp_mode
        )
    })?;
    let link = kernel.link_by_name(name).await?;
    check_mtu(&link)?;
    let prepared = kernel.prepare(&link, wish.tags).await?;
    let (device, n_rxq, claims) = (link.clone(), wish.n_rxq, claims(&wish.users));
    let options = sized(options, &link, wish);
    // The kernel works for a millisecond, and nobody shall wait for that.
    let opened = tokio::task::spawn_blocking(move || {
        let (count, before) = queue_count(&device.name, n_rxq)?;
        let queues = open_queues(&device, mode, count, options, &claims);
        queues.map(|queues| (queues, before)).inspect_err(|_| restore_queues(&device.name, before))
    });
    match opened.await.unwrap_or_else(|error| Err(error.to_string())) {
        Ok((queues, queues_before)) => {
            let dropped = kernel.statistics(link.ifindex).await.map_or(0, |statistics| statistics.tx_dropped);
            Ok(Opened { link, prepared, queues_before, queues, dropped })
        }
        Err(text) => Err(Refusal { text, prepared: Some(prepared) }),
    }
}

/// With rings as long as the device needs them.
fn sized(options: QueueOptions, link: &Link, wish: &Wish) -> QueueOptions {
    match wish.n_rxq_desc {
        Some(entries) => options.with_rings(entries),
        None if (wish.uplink || link.kind == Kind::Hardware) && options.ring_entries < UPLINK_RING => {
            options.with_rings(UPLINK_RING)
        }
        None => options,
    }
}

fn open_queues(
    link: &Link,
    mode: WantedMode,
    queues: u32,
    mut options: QueueOptions,
    claims: &Claims,
) -> Result<Queues, String> {
    if link.mtu > SMALL_FRAME_MTU {
        options.chunk_bytes = 4096;
    }
    // TCP fails in generic mode over veth.
    let generic_allowed = link.kind == Kind::Hardware;
    if mode == WantedMode::Exactly(XdpMode::Generic) && !generic_allowed {
        return Err(format!(
            "{}: options:xdp-mode=generic is for NICs whose driver has no native mode, not for a {}: clear it",
            link.name, link.kind
        ));
    }
    let frame_bytes = u64::from(queues) * u64::from(options.frames) * u64::from(options.chunk_bytes);
    Attachment::open(link.ifindex, &link.name, queues, mode, generic_allowed, &options, claims)
        .map(|(attachment, halves)| Queues { attachment, halves, frame_bytes })
        .map_err(|error| error.to_string())
}

pub(super) fn claims(users: &Users) -> Claims {
    match users {
        Users::Whole(_) => Claims::Everything,
        Users::Vlans(vlans) => Claims::Vlans(vlans.keys().copied().collect()),
    }
}

fn wanted_mode(text: &str) -> Option<WantedMode> {
    Some(match text {
        "best-effort" => WantedMode::BestEffort,
        "native-with-zerocopy" => WantedMode::Exactly(XdpMode::NativeZeroCopy),
        "native" => WantedMode::Exactly(XdpMode::Native),
        "generic" => WantedMode::Exactly(XdpMode::Generic),
        _ => return None,
    })
}

/// The device's receive queues, after setting their number if the configuration names one. Also how many there were before,
/// if that was changed.
fn queue_count(device: &str, wanted: Option<u32>) -> Result<(u32, Option<u32>), String> {
    let count = |error: shunt_ffi::SyscallError| format!("{device}: its queues cannot be counted: {error}");
    let before = ethtool::channels(device).map_err(count)?;
    let Some(wanted) = wanted.filter(|&wanted| wanted != before.rx) else { return Ok((before.rx, None)) };
    ethtool::set_queues(device, wanted).map_err(|error| {
        let most = before.rx_max.min(before.tx_max);
        format!("{device}: options:n_rxq={wanted} is refused: {error}; choose from 1 to {most} (of a veth not less than its peer transmits on), or clear it to use the {} that it has", before.rx)
    })?;
    Ok((wanted, Some(before.rx)))
}

/// Puts the number of queues back.
pub(super) fn restore_queues(device: &str, before: Option<u32>) {
    if let Some(count) = before
        && let Err(error) = ethtool::set_queues(device, count)
    {
        tracing::warn!("{device}: keeps its number of queues: {error}");
    }
}
