//! Does somebody else in the VLAN have an address of an SVI, and who asks for an IPv6 gateway that the router stands in for?
//!
//! An address is in force at once, as that of a gateway has to be, and may be on several hosts if the MAC address is the same there
//! (anycast). So nothing waits for an answer: one asks when the SVI comes up and when a port does, hears what others say by
//! themselves, and goes on asking while there is a duplicate. What was found is an `error` of the SVI until nobody answers any more.

use super::Reconciler;
use super::svi::Namespaces;
use crate::kernel::{Heard, Sought, Watched};
use crate::model::format_mac;
use crate::model::router::VrfName;
use crate::routing::rib::Kind;
use crate::routing::text::is_link_local;
use shunt_switch::wire::ethernet::Mac;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram as Datagrams;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// How often, and at which distance, one asks (RFC 5227 §1.1: PROBE_NUM, PROBE_MIN).
const QUESTIONS: u32 = 3;
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The same while there is a duplicate, and how long after its last word it is one no more.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(5);
const FORGET_AFTER: Duration = Duration::from_secs(12);
/// After so many frames nothing is read for so long: whoever sends more is not worth more of our time.
const FRAMES_MAX: usize = 32;
const PAUSE: Duration = Duration::from_millis(100);
/// News that nobody has taken yet.
const NEWS_MAX: usize = 64;
/// Of a frame that matters, the headers and an address.
const FRAME_BYTES: usize = 128;

/// Addresses of an SVI that somebody else has, and who.
type Duplicates = BTreeMap<IpAddr, [u8; 6]>;

/// The listeners at all SVIs.
pub(super) struct Listeners {
    by_name: BTreeMap<String, Listener>,
    sender: mpsc::Sender<(String, News)>,
    news: mpsc::Receiver<(String, News)>,
}

struct Listener {
    vrf: VrfName,
    watched: Watched,
    socket: Arc<Socket>,
    ask: Arc<Notify>,
    task: AbortHandle,
    duplicates: Duplicates,
}

/// What a listener tells.
pub(super) enum News {
    /// These are all that there are now.
    Duplicates(Duplicates),
    Sought(Sought),
}

impl Default for Listeners {
    fn default() -> Self {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        Self { by_name: BTreeMap::new(), sender, news }
    }
}

impl Listeners {
    /// Listens at the SVI `name` for this from now on.
    pub(super) fn keep(
        &mut self,
        name: &str,
        vrf: &VrfName,
        watched: Watched,
        namespaces: &Namespaces,
    ) -> Result<(), String> {
        if self.by_name.get(name).is_some_and(|known| (&known.vrf, &known.watched) == (vrf, &watched)) {
            return Ok(());
        }
        self.by_name.remove(name);
        if watched.addresses.is_empty() && !watched.stands_in {
            return Ok(());
        }
        let Some(namespace) = namespaces.open.get(vrf) else { return Ok(()) };
        let socket = namespace.overhear(name, &watched).map_err(|error| error.to_string())?;
        // A packet socket sends and receives as any other does that has datagrams: tokio need not know of which kind it is.
        let socket = UnixDatagram::from_std(Datagrams::from(socket));
        let socket = Arc::new(Socket(Some(socket.map_err(|error| format!("cannot listen at {name}: {error}"))?)));
        let ask = Arc::new(Notify::new());
        let task = listen(Arc::clone(&socket), watched.clone(), Arc::clone(&ask), name.to_owned(), self.sender.clone());
        let task = tokio::spawn(task).abort_handle();
        let listener = Listener { vrf: vrf.clone(), watched, socket, ask, task, duplicates: Duplicates::new() };
        self.by_name.insert(name.to_owned(), listener);
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// A port came up: who is behind it may have an address of ours.
    pub(super) fn ask_again(&self) {
        self.by_name.values().for_each(|listener| listener.ask.notify_one());
    }

    /// The addresses of an SVI that others have.
    pub(super) fn duplicates(&self, name: &str) -> Option<&Duplicates> {
        self.by_name.get(name).map(|listener| &listener.duplicates).filter(|duplicates| !duplicates.is_empty())
    }

    /// Waits for news. None are lost if the future is dropped before it is ready.
    pub(super) async fn heard(&mut self) -> (String, News) {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }
}

impl Reconciler {
    /// Takes over what a listener tells; true if the SVI is to be looked at again because of it.
    pub(super) fn take_heard(&mut self, (name, news): (String, News)) -> bool {
        match news {
            News::Sought(sought) => {
                self.stand_in(&name, &sought);
                false
            }
            News::Duplicates(mut found) => {
                found.retain(|_, mac| !self.is_own_mac(*mac));
                let Some(listener) = self.listeners.by_name.get_mut(&name) else { return false };
                if listener.duplicates == found {
                    return false;
                }
                if found.is_empty() {
                    tracing::info!("{name}: nobody else has its addresses any more");
                }
                listener.duplicates = found;
                self.namespaces.due.insert(name);
                true
            }
        }
    }

    /// The host answers by every device for the addresses of all of them.
    fn is_own_mac(&self, mac: [u8; 6]) -> bool {
        let of_svis = |mac| self.state.borrow().router.interfaces.values().any(|interface| interface.link.mac == mac);
        of_svis(mac) || self.links.iter().any(|link| link.mac == mac)
    }

    /// Answers for a gateway that packets could go on from: a link-local one, which the packets themselves do not name, or one
    /// that there is a route to. Nobody is told that an address of one's own is elsewhere.
    fn stand_in(&self, name: &str, sought: &Sought) {
        let Some(listener) = self.listeners.by_name.get(name) else { return };
        let target = IpAddr::from(sought.target);
        let Some(port) = self.port_of(name, sought.asker_mac) else { return };
        let own = self.model.interfaces.get(&port).and_then(|interface| interface.hosts.as_ref());
        if own.is_some_and(|own| own.contains(&target)) {
            return;
        }
        let route = self.state.borrow().router.lookup(&listener.vrf, target);
        let leads_on = is_link_local(target) || route.is_some_and(|(_, best)| best.kind == Kind::Unicast);
        if leads_on {
            listener.socket.send(&listener.watched.answer(sought));
        }
    }

    /// The port that a MAC address in the VLAN of an SVI is behind.
    fn port_of(&self, svi: &str, mac: [u8; 6]) -> Option<String> {
        let (state, svi) = (self.state.borrow(), self.model.interfaces.get(svi)?);
        let port = state.bridges.get(&svi.bridge)?.fdb.lookup(svi.untagged_vlan(), Mac::new(mac))?;
        state.ports.iter().find(|(_, known)| known.index == port).map(|(name, _)| name.clone())
    }

    /// What is wrong with the addresses of an SVI, and where.
    pub(super) fn duplicates_of(&self, name: &str) -> Option<String> {
        let duplicates = self.listeners.duplicates(name)?;
        let one = |(address, mac): (&IpAddr, &[u8; 6])| {
            let port = self.port_of(name, *mac).map_or_else(String::new, |port| format!(" behind {port}"));
            format!("{address} is also in use by {}{port}", format_mac(*mac))
        };
        let all: Vec<_> = duplicates.iter().map(one).collect();
        Some(format!(
            "{}: give it another address there or here, or {name} the same mac= if that is the same gateway",
            all.join(", ")
        ))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket whose end nobody waits for: it takes the kernel a grace period. Some until then.
struct Socket(Option<UnixDatagram>);

impl Socket {
    /// What cannot be sent now is asked for again.
    fn send(&self, frame: &[u8]) {
        let _ = self.0.as_ref().map(|socket| socket.try_send(frame));
    }

    async fn receive(&self, buffer: &mut [u8]) -> usize {
        match &self.0 {
            // An error is that the device was down.
            Some(socket) => socket.recv(buffer).await.unwrap_or(0),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let socket = self.0.take().and_then(|socket| socket.into_std().ok());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(socket));
        }
    }
}

/// Tells what is heard, until it is aborted.
async fn listen(
    socket: Arc<Socket>,
    watched: Watched,
    ask: Arc<Notify>,
    name: String,
    to: mpsc::Sender<(String, News)>,
) {
    let mut known: BTreeMap<IpAddr, ([u8; 6], Instant)> = BTreeMap::new();
    let (mut told, mut left) = (Duplicates::new(), QUESTIONS);
    let (mut next, mut buffer, mut burst) = (Instant::now(), [0; FRAME_BYTES], 0);
    loop {
        let is_asking = !watched.addresses.is_empty() && (left > 0 || !known.is_empty());
        tokio::select! {
            length = socket.receive(&mut buffer) => {
                match watched.read(&buffer[..length]) {
                    Some(Heard::Claim(address, mac)) => drop(known.insert(address, (mac, Instant::now()))),
                    // Who asked asks again.
                    Some(Heard::Sought(sought)) => drop(to.try_send((name.clone(), News::Sought(sought)))),
                    None => {}
                }
                burst += 1;
                if burst == FRAMES_MAX || length == 0 {
                    burst = 0;
                    sleep(PAUSE).await;
                }
            }
            () = sleep_until(next), if is_asking => {
                known.retain(|_, (_, heard)| heard.elapsed() < FORGET_AFTER);
                watched.questions().iter().for_each(|question| socket.send(question));
                left = left.saturating_sub(1);
                next = Instant::now() + if left > 0 { ASK_EVERY } else { ASK_AGAIN_EVERY };
            }
            () = ask.notified() => {
                left = left.max(1);
                next = next.min(Instant::now() + ASK_EVERY);
            }
        }
        let now: Duplicates = known.iter().map(|(address, (mac, _))| (*address, *mac)).collect();
        if now != told && to.send((name.clone(), News::Duplicates(now.clone()))).await.is_ok() {
            told = now;
            // Two that take turns are not worth a pass of the reconciler each time.
            sleep(PAUSE).await;
        }
    }
}
