//! What can go wrong when we ask the kernel about a link, and what shall the operator do?
use std::io;

use rtnetlink::packet_core::ErrorMessage;

/// A request about a link that did not succeed. The text names the device, the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket can be opened in this namespace.
    #[error("cannot open a netlink socket: {0}; run shuntd as root, or with CAP_NET_ADMIN")]
    Socket(#[source] io::Error),
    /// The device is not there (any more).
    #[error("there is no network device {device}; create it, and the port attaches by itself")]
    NoDevice {
        /// Its name, or `#ifindex` if no more is known.
        device: String,
    },
    /// The kernel refused.
    #[error("cannot {action}: {reason}; {remedy}")]
    Refused {
        /// What was asked, with the device and the value: `set the MTU of eth0 to 9500`.
        action: String,
        /// The OS error, with the kernel's own explanation where it gave one.
        reason: String,
        /// `raw_os_error` of the answer; 0 when the refusal is ours.
        errno: i32,
        /// What the operator can do.
        remedy: String,
    },
    /// No answer in time: rtnetlink is blocked by somebody else, or the socket is gone.
    #[error(
        "cannot {action}: the kernel did not answer within {seconds} s; look for a blocked `ip` or driver in the kernel log"
    )]
    Silent {
        /// What was asked.
        action: String,
        /// How long we waited.
        seconds: u64,
    },
}

impl Error {
    /// A refusal of our own, before the kernel was asked.
    pub(crate) fn refused(action: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Refused { action: action.into(), reason: reason.into(), errno: 0, remedy: remedy.into() }
    }

    /// What the kernel answered to `action` on `device`, with the usual remedy for its error number.
    pub(crate) fn from_netlink(action: String, device: &str, error: rtnetlink::Error) -> Self {
        let rtnetlink::Error::NetlinkError(message) = error else {
            return Self::refused(action, error.to_string(), "this is a fault of shuntd or of the kernel: report it");
        };
        let os_error = message.to_io();
        let errno = os_error.raw_os_error().unwrap_or(0);
        if errno == errno::NODEV {
            return Self::NoDevice { device: device.to_owned() };
        }
        let reason = match explanation(&message) {
            Some(text) => format!("{os_error}: {text}"),
            None => os_error.to_string(),
        };
        let remedy = match errno {
            errno::PERM | errno::ACCES => "run shuntd as root, or with CAP_NET_ADMIN".to_owned(),
            errno::EXIST => format!("another device has that name: rename or delete it (`ip link delete {device}`)"),
            errno::BUSY => format!("{device} is in use: set it down first (`ip link set {device} down`)"),
            _ => format!("see `ip -details link show {device}` and the kernel log"),
        };
        Self::Refused { action, reason, errno, remedy }
    }

    /// Does this mean that the device has gone away?
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::NoDevice { .. })
    }
}

/// The error numbers that have a remedy of their own (`errno.h`).
mod errno {
    pub(super) const PERM: i32 = 1;
    pub(super) const ACCES: i32 = 13;
    pub(super) const BUSY: i32 = 16;
    pub(super) const EXIST: i32 = 17;
    pub(super) const NODEV: i32 = 19;
}

/// The text in NLMSGERR_ATTR_MSG (`netlink.h`), which follows the header of the request that failed.
/// Needs NETLINK_EXT_ACK and NETLINK_CAP_ACK on the socket.
fn explanation(message: &ErrorMessage) -> Option<String> {
    const HEADER_BYTES: usize = 16;
    const ATTRIBUTE_MESSAGE: u16 = 1;
    let mut rest = message.header.get(HEADER_BYTES..)?;
    loop {
        let (length, kind) = (rest.get(0..2)?, rest.get(2..4)?);
        let length = usize::from(u16::from_ne_bytes(length.try_into().ok()?));
        let kind = u16::from_ne_bytes(kind.try_into().ok()?);
        let value = rest.get(4..length)?;
        if kind == ATTRIBUTE_MESSAGE {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(errno: i32, payload: &[u8]) -> rtnetlink::Error {
        let mut message = ErrorMessage::default();
        message.code = std::num::NonZeroI32::new(-errno);
        message.header = payload.to_vec();
        rtnetlink::Error::NetlinkError(message)
    }

    #[test]
    fn the_kernels_own_words_are_kept() {
        let mut payload = vec![0; 16];
        payload.extend_from_slice(&8u16.to_ne_bytes()); // NLMSGERR_ATTR_OFFS comes first
        payload.extend_from_slice(&2u16.to_ne_bytes());
        payload.extend_from_slice(&[0; 4]);
        payload.extend_from_slice(&12u16.to_ne_bytes());
        payload.extend_from_slice(&1u16.to_ne_bytes());
        payload.extend_from_slice(b"too big\0");
        let text = Error::from_netlink("set it".into(), "eth9", message(22, &payload)).to_string();
        assert!(text.contains("Invalid argument") && text.contains(": too big;"), "{text}");
    }

    #[test]
    fn torn_explanations_are_ignored() {
        for payload in [&[][..], &[0; 16], &[0; 18], &[0; 24], &[255; 40]] {
            let text = Error::from_netlink("set it".into(), "eth9", message(22, payload)).to_string();
            assert!(text.starts_with("cannot set it: Invalid argument"), "{text}");
        }
    }

    #[test]
    fn a_device_that_is_gone_is_told_apart() {
        assert!(Error::from_netlink("set it".into(), "eth9", message(19, &[])).is_gone());
        assert!(!Error::from_netlink("set it".into(), "eth9", message(1, &[])).is_gone());
    }
}
