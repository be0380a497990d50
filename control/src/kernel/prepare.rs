//! What must hold before AF_XDP is attached to a device, and how is it put back?
use serde::{Deserialize, Serialize};

use super::features::{self, Switched};
use super::request::change_of;
use super::{Error, Kernel, Kind, Link, XdpMode};

/// What a NIC must not do, as XDP would not see it: cut tags off, or merge frames. Filtering by VLAN would drop tags
/// that no kernel device asked for.
const HIDES_TAGS: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];
const FILTERS_OR_MERGES: [&str; 4] = ["rx-vlan-filter", "rx-vlan-stag-filter", "rx-lro", "rx-gro-hw"];
/// Root queueing disciplines that a device has without anybody's wish.
const DEFAULT_QDISCS: [&str; 5] = ["noqueue", "mq", "fq_codel", "pfifo_fast", "noop"];

/// What [`Kernel::prepare`] changed on a device, to be given to [`Kernel::undo`].
/// It can be stored, and then survives the daemon: see [`Prepared::absorb`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prepared {
    ifindex: u32,
    raised: bool,
    features: Vec<String>,
    peer_features: Vec<String>,
    /// Why VLAN tags may be hidden on this device; `None` if it is certain that they are not.
    pub tags_hidden: Option<String>,
}

impl Prepared {
    /// The device.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Adds what an earlier life of the daemon changed on the same device and could not put back, because it was killed.
    /// (Store it under `/run`: after a reboot ifindexes begin anew.)
    pub fn absorb(&mut self, earlier: Prepared) {
        if earlier.ifindex != self.ifindex {
            return;
        }
        self.raised |= earlier.raised;
        for (mine, theirs) in [(&mut self.features, earlier.features), (&mut self.peer_features, earlier.peer_features)]
        {
            mine.extend(theirs);
            mine.sort();
            mine.dedup();
        }
    }
}

/// Why a device cannot be a port.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Not a device for a switch.
    #[error("{device} is a {kind} device: only NICs and veths can be ports; {remedy}")]
    Unsuitable {
        /// The device.
        device: String,
        /// What it is.
        kind: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// It belongs to somebody else.
    #[error("{device} belongs to {master}: take it out with `ip link set {device} nomaster`")]
    HasMaster {
        /// The device.
        device: String,
        /// Its bridge, bond, ….
        master: String,
    },
    /// Its frames go to somebody else.
    #[error(
        "{device} has XDP program {program_id} attached ({mode}) by somebody else: detach it with `ip link set {device} xdp off`, or stop the program that holds it (`bpftool link`)"
    )]
    ForeignXdp {
        /// The device.
        device: String,
        /// The kernel's number of the program.
        program_id: u32,
        /// Where it runs.
        mode: XdpMode,
    },
    /// The port is to carry VLAN tags and might lose them.
    #[error("{device} cannot carry VLAN tags: {reason}; {remedy}")]
    TagsHidden {
        /// The device.
        device: String,
        /// What could not be done or verified.
        reason: String,
        /// What the operator can do.
        remedy: String,
    },
    /// The kernel refused something else.
    #[error(transparent)]
    Kernel(#[from] Error),
}

impl PrepareError {
    /// Does this mean that the device has gone away?
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Kernel(error) if error.is_gone())
    }
}

impl Kernel {
    /// Sets, and then verifies, what a device needs before AF_XDP is attached: no master, no XDP program, up,
    /// promiscuous, no hidden VLAN tags, no frames merged. What a refused device had been changed by then is put back.
    ///
    /// `carries_tags`: the port belongs to more than its native VLAN, so a device that may hide tags is refused;
    /// else it is only warned of. Some drivers reset the NIC on the way, which takes up to a second.
    pub async fn prepare(&self, link: &Link, carries_tags: bool) -> Result<Prepared, PrepareError> {
        let ifindex = link.ifindex;
        // The mirror may lag behind: what we decide on, and later put back, is how the device is now.
        let link = self.link(ifindex).await?;
        self.refuse_unsuitable(&link).await?;
        self.warn_of_bypassed(&link).await;
        let mut prepared = Prepared { ifindex, ..Prepared::default() };
        match self.change_for_xdp(&link, carries_tags, &mut prepared).await {
            Ok(()) => Ok(prepared),
            Err(error) => {
                if let Err(more) = self.undo(prepared).await {
                    tracing::warn!("{more}");
                }
                Err(error)
            }
        }
    }

    /// Puts back what [`Kernel::prepare`] changed, as far as nobody else has changed it since. Does all it can.
    ///
    /// # Errors
    /// Names all that could not be put back; [`Error::NoDevice`] if there is nothing left to put it back on.
    pub async fn undo(&self, prepared: Prepared) -> Result<(), Error> {
        let link = self.link(prepared.ifindex).await?;
        let mut failures = Vec::new();
        if !prepared.peer_features.is_empty()
            && let Err(reason) = self.restore_peer(&link, prepared.peer_features).await
        {
            failures.push(format!("the VLAN acceleration of its other end stays off: {reason}"));
        }
        if let Err(reason) = features::switch_on(&link.name, &prepared.features) {
            failures.push(format!("offloads stay off: {reason}"));
        }
        // A device made promiscuous by an earlier life of the daemon has ended to be so with it.
        let _ = self.promiscuous.leave(link.ifindex);
        let mut flags = change_of(link.ifindex);
        if prepared.raised && link.admin_up {
            flags = flags.down();
        }
        let message = flags.build();
        if !message.header.change_mask.is_empty()
            && let Err(error) =
                self.change(link.ifindex, |device| format!("put back the flags of {device}"), message).await
        {
            failures.push(error.to_string());
        }
        if failures.is_empty() {
            return Ok(());
        }
        let action = format!("put {} back as it was", link.name);
        Err(Error::refused(action, failures.join("; "), "set it with `ip link` and `ethtool -K` if you need it"))
    }

    async fn refuse_unsuitable(&self, link: &Link) -> Result<(), PrepareError> {
        let device = link.name.clone();
        let remedy = match &link.kind {
            Kind::Loopback => Some("give addresses to the bridge's own device instead"),
            Kind::Bridge => Some("add the bridge's own members as ports instead"),
            Kind::Hardware | Kind::Veth | Kind::Tun if link.is_ethernet => None,
            Kind::Hardware | Kind::Veth | Kind::Tun => Some("it carries no Ethernet frames"),
            Kind::Other(kind) if kind == "vlan" => {
                Some("add DEVICE.VID of the NIC below it, which needs no kernel device")
            }
            Kind::Other(kind) if kind == "bond" || kind == "team" => Some("add its members as ports instead"),
            Kind::Other(_) => Some("use a veth instead, which can do XDP natively"),
        };
        if let Some(remedy) = remedy {
            return Err(PrepareError::Unsuitable { device, kind: link.kind.to_string(), remedy });
        }
        if let Some(master) = link.master {
            let master =
                self.link(master).await.map_or_else(|_| format!("#{master}"), |m| format!("{} {}", m.kind, m.name));
            return Err(PrepareError::HasMaster { device, master });
        }
        match link.xdp {
            Some(xdp) => Err(PrepareError::ForeignXdp { device, program_id: xdp.program_id, mode: xdp.mode }),
            None => Ok(()),
        }
    }

    async fn warn_of_bypassed(&self, link: &Link) {
        let name = &link.name;
        if let Some(qdisc) = link.qdisc.as_deref().filter(|qdisc| !DEFAULT_QDISCS.contains(qdisc)) {
            tracing::warn!("{name} has the queueing discipline {qdisc}: frames that the switch sends bypass it");
        }
        if self.has_ingress_filters(link.ifindex).await {
            tracing::warn!(
                "{name} has a tc hook (ingress or clsact): frames that the switch takes or sends bypass its filters"
            );
        }
    }

    async fn change_for_xdp(
        &self,
        link: &Link,
        carries_tags: bool,
        prepared: &mut Prepared,
    ) -> Result<(), PrepareError> {
        let hidden = match link.kind {
            Kind::Veth => self.show_tags_of_veth(link, prepared).await,
            _ => show_tags_of_nic(link, prepared),
        };
        if let Err((reason, remedy)) = hidden {
            if carries_tags {
                return Err(PrepareError::TagsHidden { device: link.name.clone(), reason, remedy });
            }
            tracing::warn!("{} may hide VLAN tags: {reason}; {remedy}", link.name);
            prepared.tags_hidden = Some(reason);
        }
        self.set_flags(link, prepared).await?;
        Ok(())
    }

    async fn show_tags_of_veth(&self, link: &Link, prepared: &mut Prepared) -> Result<(), (String, String)> {
        let remedy = || {
            let device = &link.name;
            format!(
                "run `ethtool -K PEER txvlan off tx-vlan-stag-hw-insert off` inside, PEER being the other end of {device}, or see that its namespace is in /run/netns"
            )
        };
        let Switched { changed, still_on } =
            self.accelerate_peer_off(link).await.map_err(|reason| (reason, remedy()))?;
        prepared.peer_features = changed;
        if still_on.is_empty() {
            return Ok(());
        }
        Err((format!("its other end keeps {} on", still_on.join(" and ")), remedy()))
    }

    async fn set_flags(&self, link: &Link, prepared: &mut Prepared) -> Result<(), Error> {
        self.promiscuous.join(link.ifindex).map_err(|error| {
            Error::refused(
                format!("set {} promiscuous", link.name),
                error.to_string(),
                "run shuntd as root, or with CAP_NET_RAW",
            )
        })?;
        let mut flags = change_of(link.ifindex);
        if !link.admin_up {
            flags = flags.up();
        }
        let message = flags.build();
        if message.header.change_mask.is_empty() {
            return Ok(());
        }
        self.change(link.ifindex, |device| format!("set {device} up"), message).await?;
        prepared.raised = true;
        let now = self.link(link.ifindex).await?;
        if now.admin_up {
            return Ok(());
        }
        Err(Error::refused(
            format!("set {} up", now.name),
            "it is down again",
            "see whether a network manager sets it, and tell it to leave the device unmanaged",
        ))
    }
}

/// Switches off what a NIC does to frames before XDP sees them.
fn show_tags_of_nic(link: &Link, prepared: &mut Prepared) -> Result<(), (String, String)> {
    let name = &link.name;
    let remedy = format!("try `ethtool -K {name} rxvlan off`, another driver, or one VLAN without tags on this port");
    // Filters and merging first: their failure is no reason to refuse, and must not hide theirs.
    match features::switch_off(name, &FILTERS_OR_MERGES) {
        Ok(Switched { changed, still_on }) => {
            prepared.features = changed;
            if !still_on.is_empty() {
                // Promiscuous mode lifts the filters of many devices, and attaching XDP ends merging in most drivers.
                tracing::warn!("{name} keeps {} on: it may drop tagged frames or merge frames", still_on.join(" and "));
            }
        }
        Err(reason) => tracing::warn!("the offloads of {name} stay as they are: {reason}"),
    }
    let Switched { changed, still_on } =
        features::switch_off(name, &HIDES_TAGS).map_err(|reason| (reason, remedy.clone()))?;
    prepared.features.extend(changed);
    if still_on.is_empty() {
        return Ok(());
    }
    Err((format!("its driver keeps {} on", still_on.join(" and ")), remedy))
}

#[cfg(test)]
mod tests {
    use shunt_ffi::ethtool;
    use shunt_ffi::netns::TestNamespace;

    use super::*;

    /// A veth stands in for the NIC: its driver lets go of the same features.
    #[test]
    fn a_nic_shows_its_tags_and_is_given_back() {
        let namespace = TestNamespace::new();
        namespace.ip("link add nic type veth peer name wire");
        let on = |feature| ethtool::feature("nic", feature).expect("ethtool answers").expect("a known feature");
        namespace.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (kernel, _links) = Kernel::open().await.expect("netlink");
                let link = kernel.link_by_name("nic").await.expect("it is there");
                ethtool::set_feature("nic", HIDES_TAGS[1], false).expect("it can be changed");
                let mut prepared = Prepared { ifindex: link.ifindex, ..Prepared::default() };
                assert!(on(HIDES_TAGS[0]));
                show_tags_of_nic(&link, &mut prepared).expect("all go off");
                assert!(!on(HIDES_TAGS[0]) && !on(HIDES_TAGS[1]));
                kernel.undo(prepared).await.expect("it can be put back");
                assert!(on(HIDES_TAGS[0]) && !on(HIDES_TAGS[1]), "what was off stays off");
            });
        });
    }

    /// `lo` has no driver to ask, and features that nobody can change.
    #[test]
    fn features_that_stay_on_are_named() {
        let switched = features::switch_off("lo", &["loopback", "rx-lro"]).expect("lo answers");
        assert_eq!((switched.changed, switched.still_on), (vec![], vec!["loopback".to_owned()]));
        let reason = features::switch_off("no-such-device", &HIDES_TAGS).expect_err("there is none");
        assert!(reason.contains("no-such-device"), "{reason}");
    }
}
