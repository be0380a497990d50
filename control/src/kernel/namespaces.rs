//! Where is the file of the network namespace that the kernel calls number N?
//!
//! The kernel tells in which namespace the other end of a veth is by a number of ours for it (NETNSID). To enter it we
//! need a file: one that was put under `/run/netns` by `ip netns`, under `/run/docker/netns` by Docker, or
//! `/proc/PID/ns/net` of a process inside. What was found is remembered, so that a thousand ports in a thousand
//! namespaces cost one look at each file, not a million.
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::Kernel;

/// Directories of named namespaces, looked at before all processes.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// Namespaces seen so far. Both maps may be out of date (namespaces go, and their numbers are used again), so what
/// they say is checked before it is used.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    by_nsid: HashMap<i32, PathBuf>,
    /// Inodes of files whose number is in `by_nsid`: no need to ask again.
    known: HashMap<u64, i32>,
}

impl Namespaces {
    /// Opens the namespace with number `nsid`, or `None` if no file leads to it.
    pub(super) async fn open(&mut self, kernel: &Kernel, nsid: i32) -> Option<File> {
        if let Some(path) = self.by_nsid.get(&nsid) {
            if let Some(file) = is(kernel, path, nsid).await {
                return Some(file);
            }
            self.forget();
        }
        if let Some(file) = self.search(kernel, nsid).await {
            return Some(file);
        }
        // A new namespace may have got the inode of one that is gone: look at everything once more.
        if self.known.is_empty() {
            return None;
        }
        self.forget();
        self.search(kernel, nsid).await
    }

    fn forget(&mut self) {
        self.by_nsid.clear();
        self.known.clear();
    }

    async fn search(&mut self, kernel: &Kernel, nsid: i32) -> Option<File> {
        for directory in NAMED {
            // The whole directory, though the one we look for may come first: the next port asks for another of it.
            self.learn(kernel, entries(Path::new(directory)).collect()).await;
            if let Some(path) = self.by_nsid.get(&nsid) {
                return is(kernel, path, nsid).await;
            }
        }
        let processes = entries(Path::new("/proc")).filter(|path| is_process(path)).map(|path| path.join("ns/net"));
        self.learn(kernel, processes.collect()).await;
        is(kernel, self.by_nsid.get(&nsid)?, nsid).await
    }

    async fn learn(&mut self, kernel: &Kernel, paths: Vec<PathBuf>) {
        for path in paths {
            let Ok(inode) = fs::metadata(&path).map(|metadata| metadata.ino()) else { continue };
            if self.known.contains_key(&inode) {
                continue;
            }
            let Ok(file) = File::open(&path) else { continue };
            if let Some(nsid) = nsid_of(kernel, &file).await {
                self.known.insert(inode, nsid);
                self.by_nsid.insert(nsid, path);
            }
        }
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn is_process(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
}

/// Opens `path` if it still leads to the namespace with number `nsid`.
async fn is(kernel: &Kernel, path: &Path, nsid: i32) -> Option<File> {
    let file = File::open(path).ok()?;
    (nsid_of(kernel, &file).await == Some(nsid)).then_some(file)
}

/// Our number for a namespace (RTM_GETNSID), if it has one.
async fn nsid_of(kernel: &Kernel, namespace: &File) -> Option<i32> {
    let mut question = NsidMessage::default();
    question.attributes = vec![NsidAttribute::Fd(u32::try_from(namespace.as_raw_fd()).ok()?)];
    let RouteNetlinkMessage::NewNsId(answer) = kernel.ask(RouteNetlinkMessage::GetNsId(question)).await? else {
        return None;
    };
    answer.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(nsid) if *nsid >= 0 => Some(*nsid),
        _ => None,
    })
}
