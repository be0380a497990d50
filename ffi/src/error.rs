//! Which call failed, on which object, and what can the operator do about it?

use std::fmt;
use std::io;

/// A system call that the kernel refused.
#[derive(Debug)]
pub struct SyscallError {
    /// The call, with the option or command that tells it from its siblings: `bind(AF_XDP)`.
    pub call: &'static str,
    /// What it was applied to: a device's name, number and queue.
    pub object: String,
    /// The kernel's answer.
    pub source: io::Error,
}

impl SyscallError {
    /// The call's failure with `source` as the reason.
    pub fn new(call: &'static str, object: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Self { call, object: object.to_string(), source: source.into() }
    }

    /// The failure of a call that has just set `errno`.
    pub(crate) fn last(call: &'static str, object: impl fmt::Display) -> Self {
        Self::new(call, object, io::Error::last_os_error())
    }

    /// The kernel's error number, 0 if the failure has none.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }

    /// What the operator can do, where the error number suggests something.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self.errno() {
            libc::EPERM | libc::EACCES => "run as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF",
            libc::EMFILE | libc::ENFILE => "raise the limit of open files (LimitNOFILE= in the unit, ulimit -n)",
            libc::ENOMEM | libc::ENOBUFS => "free memory, raise LimitMEMLOCK=, or use fewer frames (--frames)",
            libc::ENODEV | libc::ENXIO => "the device is gone; it is used again when it appears again",
            libc::EBUSY => "another process holds this queue or this device's XDP hook; stop it",
            libc::EAFNOSUPPORT => "use a kernel with CONFIG_XDP_SOCKETS",
            libc::EOPNOTSUPP => "the driver cannot do this; choose another options:xdp-mode",
            _ => return None,
        })
    }
}

impl fmt::Display for SyscallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.call, self.source)?;
        match self.remedy() {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SyscallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_object_call_reason_and_remedy() {
        let error = SyscallError::new("bind(AF_XDP)", "eth0 queue 1", io::Error::from_raw_os_error(libc::EBUSY));
        let text = error.to_string();
        for part in ["eth0 queue 1", "bind(AF_XDP)", "busy", "stop it"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
