//! How do bytes move between the sockets and the sessions?

use super::feed;
use super::hub::{Hub, SessionId};
use super::{CONNECTIONS_MAX, Daemon, Peer};
use crate::store::Store;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes read at once.
const READ_SIZE: usize = 64 << 10;
/// How long a refused `accept` (no descriptors left) is waited out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Owner and group may connect.
const SOCKET_MODE: u32 = 0o660;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("{0} is in use by another daemon; stop that one first, or give this one another --socket")]
    InUse(PathBuf),
    /// There is a file of another kind.
    #[error("{0} is there, but is not a socket; move it away, or give another --socket")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Whether the path is free, or holds a socket that nobody serves any more.
pub fn refuse_if_live(path: &Path) -> Result<(), ListenError> {
    let io = |source| ListenError::Io { action: "look at", path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse(path.to_owned())),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        Err(error) => Err(io(error)),
    }
}

/// Binds the socket: made under another name with its final mode, then renamed, so that nobody ever finds it open to all, and
/// a dead one is replaced.
pub fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    let io = |action| move |source| ListenError::Io { action, path: path.to_owned(), source };
    let listener = bind(path)?;
    listener.set_nonblocking(true).map_err(io("set the mode of"))?;
    UnixListener::from_std(listener).map_err(io("watch"))
}

/// As [`listen`], for others than this thread's runtime.
pub fn bind(path: &Path) -> Result<std::os::unix::net::UnixListener, ListenError> {
    refuse_if_live(path)?;
    let io = |action| move |source| ListenError::Io { action, path: path.to_owned(), source };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(io("create the directory of"))?;
    }
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".{}", std::process::id()));
    let staged = PathBuf::from(staged);
    let listener = std::os::unix::net::UnixListener::bind(&staged).map_err(io("bind"))?;
    let placed = fs::set_permissions(&staged, fs::Permissions::from_mode(SOCKET_MODE))
        .map_err(io("set the mode of"))
        .and_then(|()| fs::rename(&staged, path).map_err(io("rename the new socket to")));
    if let Err(error) = placed {
        // What matters is reported already.
        let _ = fs::remove_file(&staged);
        return Err(error);
    }
    Ok(listener)
}

/// Serves clients for ever; to be run in a `LocalSet`. The daemon calls `changed.notify_one()` after it wrote to the store.
pub async fn serve(
    listener: UnixListener,
    store: Rc<RefCell<Store>>,
    daemon: Rc<RefCell<dyn Daemon>>,
    changed: Rc<Notify>,
) {
    let hub = Rc::new(RefCell::new(Hub::new(store, daemon)));
    let (timer, to_commit) = (Rc::clone(&hub.borrow().timer), Rc::clone(&hub.borrow().to_commit));
    let mut connections = JoinSet::new();
    loop {
        let deadline = hub.borrow().deadline();
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if hub.borrow_mut().make_room() {
                        connections.spawn_local(connection(stream, Rc::clone(&hub)));
                        // What came with the connection is answered before more are taken; and who has to go goes.
                        tokio::task::yield_now().await;
                    } else {
                        tracing::warn!("{CONNECTIONS_MAX} clients follow or wait for something: another is turned away");
                    }
                }
                Err(error) => {
                    tracing::warn!("cannot accept a client: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = changed.notified() => hub.borrow_mut().poll(Instant::now().into_std()),
            () = sleep_until(deadline) => hub.borrow_mut().poll(Instant::now().into_std()),
            () = timer.notified() => {}
            () = to_commit.notified() => {
                // Others who are ready to ask for something shall share the sync.
                tokio::task::yield_now().await;
                hub.borrow_mut().commit(Instant::now().into_std());
            }
            // Only so that ended ones are forgotten.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn connection(stream: UnixStream, hub: Rc<RefCell<Hub>>) {
    let peer = match stream.peer_cred() {
        Ok(credentials) => Peer { uid: credentials.uid(), pid: credentials.pid() },
        Err(error) => {
            tracing::warn!("cannot tell who connected: {error}");
            return;
        }
    };
    let wake = Rc::new(Notify::new());
    let id = hub.borrow_mut().connect(peer, Rc::clone(&wake));
    let ended = converse(&stream, &hub, id, &wake).await;
    hub.borrow_mut().disconnect(id);
    if let Err(error) = ended {
        tracing::debug!("client {peer:?}: {error}");
    }
}

/// Until the client hangs up or has to go.
async fn converse(stream: &UnixStream, hub: &RefCell<Hub>, id: SessionId, wake: &Notify) -> io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    let mut at_end = false;
    loop {
        write_some(stream, hub, id)?;
        if hub.borrow().is_over(id) {
            return Ok(());
        }
        let feed = hub.borrow_mut().take_feed(id);
        if let Some(feed) = feed {
            return feed::run(stream, feed).await;
        }
        let stepped = hub.borrow_mut().step(id, Instant::now().into_std());
        // A client that does not wait for replies shares the sync with itself.
        while stepped && hub.borrow().is_gathering() && hub.borrow_mut().step(id, Instant::now().into_std()) {}
        if at_end && !stepped {
            hub.borrow_mut().commit(Instant::now().into_std());
        }
        if stepped {
            // The reply goes out before anybody else is served.
            write_some(stream, hub, id)?;
            tokio::task::yield_now().await;
            continue;
        }
        let has_output = !hub.borrow().output(id).is_empty();
        if at_end && !has_output {
            return Ok(());
        }
        let reading = !at_end && hub.borrow().is_reading(id);
        tokio::select! {
            ready = stream.readable(), if reading => {
                ready?;
                match stream.try_read(&mut buffer) {
                    Ok(0) => at_end = true,
                    Ok(count) => hub.borrow_mut().receive(id, &buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            ready = stream.writable(), if has_output => ready?,
            () = wake.notified() => {}
        }
    }
}

/// Writes what the socket takes without waiting.
fn write_some(stream: &UnixStream, hub: &RefCell<Hub>, id: SessionId) -> io::Result<()> {
    loop {
        let mut hub = hub.borrow_mut();
        let output = hub.output(id);
        if output.is_empty() {
            return Ok(());
        }
        match stream.try_write(output) {
            Ok(count) => hub.written(id, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
