//! How does a bridge get a device of its own name on the host, one that outlives the daemon?
//!
//! As a veth pair: the host end carries the name, the addresses and the host's traffic; the switch end becomes a port
//! like any other. Both are marked by their alias, so that an operator sees what they are and the next daemon knows
//! them again, with all addresses, after a crash. The peer's VLAN tags are the business of [`Kernel::prepare`], as for
//! every veth; checksum offload stays on.
use std::fs;

use super::request::{NAME_BYTES_MAX, check_name};
use super::{Error, Kernel, Kind, Link};

/// MTU that a new pair is made with.
const MTU: u32 = 1500;

/// The veth pair behind an `internal` port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Internal {
    /// The host end; `None` if the operator has moved it into another namespace, where it keeps working.
    pub host_ifindex: Option<u32>,
    /// The end that is attached to the switch.
    pub switch_ifindex: u32,
    /// Its name.
    pub switch_end: String,
}

impl Kernel {
    /// Makes the veth pair whose host end is named `name`, or adopts one that an earlier daemon left.
    /// The host end is down when it is new, and else as it was, with its addresses.
    ///
    /// # Errors
    /// Refused if `name`, or the name for the switch end, belongs to a device that is not ours.
    pub async fn ensure_internal(&self, name: &str) -> Result<Internal, Error> {
        check_name(name)?;
        let switch_end = switch_end(name);
        let (host, switch) = (self.find(name).await?, self.find(&switch_end).await?);
        let switch = match (host, switch) {
            (Some(host), Some(switch)) if are_pair(&host, &switch) => switch,
            (Some(host), _) => return Err(foreign(name, &host, name)),
            (None, Some(switch)) if is_marked(&switch, name) => return self.adopt_without_host(name, switch).await,
            (None, Some(switch)) => return Err(foreign(name, &switch, &switch_end)),
            (None, None) => {
                self.create_veth(name, &switch_end, MTU).await?;
                self.link_by_name(&switch_end).await?
            }
        };
        // Again for an adopted pair: a daemon may have been killed between making and marking it.
        let host_ifindex = switch.peer.map(|peer| peer.ifindex);
        if let Some(host) = host_ifindex {
            self.set_alias(host, &host_alias(name)).await?;
        }
        self.set_alias(switch.ifindex, &switch_alias(name)).await?;
        silence(&switch_end);
        Ok(Internal { host_ifindex, switch_ifindex: switch.ifindex, switch_end })
    }

    /// Deletes the pair behind `name`, if there is one and it is ours.
    pub async fn remove_internal(&self, name: &str) -> Result<(), Error> {
        let switch_end = switch_end(name);
        let Some(switch) = self.find(&switch_end).await? else { return Ok(()) };
        let host = self.find(name).await?;
        if is_marked(&switch, name) || host.is_some_and(|host| are_pair(&host, &switch)) {
            self.delete(switch.ifindex).await?;
        }
        Ok(())
    }

    /// The names of all `internal` ports that an earlier daemon left in this namespace, to remove what is no longer
    /// configured.
    pub async fn internals(&self) -> Result<Vec<String>, Error> {
        let links = self.dump().await?;
        let names = links.iter().filter_map(|link| link.alias.as_deref()?.strip_prefix(SWITCH_ALIAS_PREFIX));
        Ok(names.map(str::to_owned).collect())
    }

    /// The switch end is there and ours, the host end has another name or is in another namespace.
    async fn adopt_without_host(&self, name: &str, switch: Link) -> Result<Internal, Error> {
        if let Some(peer) = switch.peer.filter(|peer| peer.netnsid.is_none()) {
            let host = self.link(peer.ifindex).await?.name;
            return Err(Error::refused(
                format!("adopt the internal port {name}"),
                format!("its device has been renamed to {host}"),
                format!(
                    "name it back (`ip link set {host} down && ip link set {host} name {name}`) or delete it (`ip link delete {host}`)"
                ),
            ));
        }
        Ok(Internal { host_ifindex: None, switch_ifindex: switch.ifindex, switch_end: switch.name })
    }

    async fn find(&self, name: &str) -> Result<Option<Link>, Error> {
        match self.link_by_name(name).await {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

const SWITCH_ALIAS_PREFIX: &str = "shunt switch end of ";

pub(super) fn host_alias(name: &str) -> String {
    format!("shunt {name}")
}

fn switch_alias(name: &str) -> String {
    format!("{SWITCH_ALIAS_PREFIX}{name}")
}

/// The two ends of one veth in this namespace. Nobody else names a peer so: no mark is needed.
fn are_pair(host: &Link, switch: &Link) -> bool {
    let other_end = |link: &Link| link.peer.filter(|peer| peer.netnsid.is_none()).map(|peer| peer.ifindex);
    other_end(host) == Some(switch.ifindex) && other_end(switch) == Some(host.ifindex)
}

fn is_marked(switch: &Link, name: &str) -> bool {
    switch.kind == Kind::Veth && switch.alias.as_deref() == Some(&switch_alias(name))
}

fn foreign(name: &str, link: &Link, taken: &str) -> Error {
    Error::refused(
        format!("create the internal port {name}"),
        format!("there is a {} device {taken} that is not ours", link.kind),
        format!(
            "rename it (`ip link set {taken} name NEW`), delete it (`ip link delete {taken}`), or name the bridge otherwise"
        ),
    )
}

/// The name of the switch end behind the internal port `name`: `br0.sw`, or a hash where that is too long for the kernel.
pub fn switch_end(name: &str) -> String {
    let readable = format!("{name}.sw");
    if readable.len() <= NAME_BYTES_MAX {
        return readable;
    }
    // FNV-1a; 48 bits of it, so that 1000 bridges meet with a chance of 2e-9, and then a refusal.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("shi{:012x}", hash >> 16)
}

/// Keeps the kernel's IPv6 from speaking on the switch end, where nobody listens: its router solicitations and
/// duplicate address detection would reach the host end as if from a neighbour. Without IPv6 there is nothing to do.
fn silence(switch_end: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{switch_end}/disable_ipv6");
    if let Err(error) = fs::write(&path, "1")
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("cannot write 1 to {path}: {error}; the host will see its own IPv6 neighbour discovery");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switch_ends_have_names_that_fit() {
        assert_eq!(switch_end("br0"), "br0.sw");
        assert_eq!(switch_end("br-vlan1234x"), "br-vlan1234x.sw");
        let (a, b) = (switch_end("br-vlan1234567a"), switch_end("br-vlan1234567b"));
        assert!(a.len() <= NAME_BYTES_MAX && a.starts_with("shi"), "{a}");
        assert_ne!(a, b);
        assert!(check_name(&a).is_ok());
    }
}
