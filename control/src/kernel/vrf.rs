//! Where does a VRF live? In a network namespace: the host's own, or `/run/netns/NAME`.

use super::internal::host_alias;
use super::{Error, Kernel, Link, Routes, Watched, switch_end};
use shunt_ffi::{host, netns};
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where namespaces have names.
const FOLDER: &str = "/run/netns";

/// The network namespace of a VRF.
pub struct Namespace {
    /// Requests to it.
    pub kernel: Kernel,
    /// What its tables tell.
    pub routes: Routes,
    file: File,
    /// Which of all namespaces it is.
    inode: u64,
    /// Its file; none of the host's own.
    path: Option<PathBuf>,
}

impl Namespace {
    /// The namespace of the calling thread, by the requests that there are already.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn own(kernel: &Kernel) -> Result<Self, Error> {
        let (file, inode) = open(Path::new("/proc/thread-self/ns/net"))?;
        Ok(Self { kernel: kernel.clone(), routes: Routes::open()?, file, inode, path: None })
    }

    /// The namespace called `name`; one that is not there is made if `create`.
    ///
    /// # Errors
    /// If there is none, or it cannot be made or entered.
    pub async fn named(name: &str, create: bool) -> Result<Self, Error> {
        let path = Path::new(FOLDER).join(name);
        if create && !path.exists() {
            netns::create(&path).map_err(|error| {
                Error::refused(format!("make the network namespace {name}"), error.to_string(), "see `ip netns`")
            })?;
        }
        let (file, inode) = open(&path)?;
        let kernel = requests_in(&file)?;
        let routes = inside(&file, Routes::open)?;
        // Without it the namespace does not reach its own addresses.
        let loopback = kernel.link_by_name("lo").await?;
        kernel.set_up(loopback.ifindex).await?;
        Ok(Self { kernel, routes, file, inode, path: Some(path) })
    }

    /// Whether its name still leads to it.
    pub fn is_there(&self) -> bool {
        self.path.as_ref().is_none_or(|path| fs::metadata(path).is_ok_and(|now| now.ino() == self.inode))
    }

    /// Whether there is a namespace of that name.
    pub fn exists(name: &str) -> bool {
        Path::new(FOLDER).join(name).exists()
    }

    /// Brings the host end of the internal port `name` here, wherever it is; `host` speaks to the namespace of its other end.
    ///
    /// # Errors
    /// If it is nowhere to be found, or a device of that name is here already.
    pub async fn fetch(&self, host: &Kernel, name: &str) -> Result<Link, Error> {
        match self.kernel.link_by_name(name).await {
            Ok(link) if link.alias.as_deref() == Some(&host_alias(name)) => return Ok(link),
            Ok(link) => {
                return Err(Error::refused(
                    format!("use {name} as an interface of the router"),
                    format!("there is a {} device of that name that is not ours", link.kind),
                    format!("rename or delete it (`ip link delete {name}`)"),
                ));
            }
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
        let Some(end) = host.link_by_name(&switch_end(name)).await?.peer else {
            return Err(Error::NoDevice { device: name.to_owned() });
        };
        match end.netnsid {
            None => host.move_to(end.ifindex, self.as_fd()).await?,
            Some(nsid) => {
                let elsewhere = host.namespaces.lock().await.open(host, nsid).await.ok_or_else(|| {
                    Error::refused(
                        format!("use {name} as an interface of the router"),
                        "its device is in a network namespace that has no name",
                        format!("move it back, or delete its other end (`ip link delete {}`)", switch_end(name)),
                    )
                })?;
                requests_in(&elsewhere)?.move_to(end.ifindex, self.as_fd()).await?;
            }
        }
        self.kernel.link_by_name(name).await
    }

    /// Overhears what concerns an interface of the router here.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn overhear(&self, device: &str, watched: &Watched) -> Result<OwnedFd, Error> {
        let open = || host::overhear(watched.ifindex, &watched.filter());
        let opened = if self.path.is_none() { Ok(open()) } else { netns::run_in(self.file.as_fd(), open) };
        opened.flatten().map_err(|error| {
            let action = format!("listen for duplicates of the addresses of {device}");
            Error::refused(action, error.to_string(), "it is tried again with the next change")
        })
    }

    /// Makes the device forward packets of both families, and answer ARP for all addresses that it has a route to, or not, if
    /// `proxy_arp` says so.
    ///
    /// # Errors
    /// What to set, where the kernel has no setting of the device alone.
    pub fn forward(&self, device: &str, has_v6: bool, proxy_arp: Option<bool>) -> Result<(), Error> {
        let is_ours = self.path.is_some();
        let set = || {
            write("ipv4", device, "forwarding", true)?;
            if let Some(proxy_arp) = proxy_arp {
                // The second is for addresses behind the device itself.
                write("ipv4", device, "proxy_arp", proxy_arp)?;
                write("ipv4", device, "proxy_arp_pvlan", proxy_arp)?;
            }
            if !has_v6 || write("ipv6", device, "force_forwarding", true).is_ok() {
                // Neighbours are told that it is a router.
                return if has_v6 { write("ipv6", device, "forwarding", true) } else { Ok(()) };
            }
            if is_ours {
                return write("ipv6", "all", "forwarding", true);
            }
            let all = fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap_or_default();
            if all.trim() == "1" {
                return Ok(());
            }
            Err(Error::refused(
                format!("forward IPv6 by {device}"),
                "this kernel (before 6.17) has one setting for all devices",
                "`sysctl -w net.ipv6.conf.all.forwarding=1`, with accept_ra=2 where the host takes router advertisements",
            ))
        };
        if !is_ours {
            return set();
        }
        inside(&self.file, set)
    }
}

fn requests_in(namespace: &File) -> Result<Kernel, Error> {
    inside(namespace, Kernel::requests)
}

/// Runs `work` in the namespace of a VRF, or, without one, here.
///
/// # Errors
/// In words, if there is no such namespace.
pub(super) fn in_vrf<T: Send>(vrf: Option<&str>, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let Some(name) = vrf else { return Ok(work()) };
    let (file, _) = open(&Path::new(FOLDER).join(name)).map_err(|error| error.to_string())?;
    netns::run_in(file.as_fd(), work).map_err(|error| error.to_string())
}

/// Runs `work`, which may open sockets, in another namespace.
fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let runtime = tokio::runtime::Handle::current();
    let done = netns::run_in(namespace.as_fd(), || {
        let _guard = runtime.enter();
        work()
    });
    done.unwrap_or_else(|error| Err(Error::refused("enter a network namespace", error.to_string(), "see `ip netns`")))
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// In the namespace of the calling thread.
fn write(family: &str, device: &str, setting: &str, is_on: bool) -> Result<(), Error> {
    let path = format!("/proc/sys/net/{family}/conf/{device}/{setting}");
    let value = if is_on { "1" } else { "0" };
    fs::write(&path, value).map_err(|error| {
        let action = format!("forward packets by {device}");
        Error::refused(action, format!("{path}: {error}"), format!("write {value} to {path}"))
    })
}

fn open(path: &Path) -> Result<(File, u64), Error> {
    let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata.ino())));
    opened.map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, reason: &str) -> Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Error::refused(
        format!("use the VRF {name}"),
        format!("its network namespace {} cannot be entered: {reason}", path.display()),
        format!("make it (`ip netns add {name}`), or an SVI in it"),
    )
}
