//! How does shuntd live, from start to end?
//!
//! One thread does everything but forward packets: it serves the control socket, keeps the switch in line with the database
//! ([`crate::reconcile`]), ages what was learned and refreshes statistics. The workers forward ([`crate::dataplane`]).

use crate::capture::{Feed, Request};
use crate::clock::Clock;
use crate::commands::{self, Context, Exit};
use crate::dataplane::{Dataplane, Stuck, Tuning};
use crate::datum::{Atom, Datum};
use crate::history::{self, History};
use crate::kernel::Kernel;
use crate::logging::Logging;
use crate::metrics::server::{Address, Limits};
use crate::metrics::{self, Control, Source};
use crate::reconcile::{Event, Reconciler};
use crate::remembered::Remembered;
use crate::rpc::{self, Daemon, Peer};
use crate::sflow;
use crate::state::State;
use crate::store::Store;
use serde::Deserialize;
use serde_json::Value;
use shunt_ffi::QueueOptions;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// What the command line says.
pub struct Options {
    /// The control socket.
    pub socket: PathBuf,
    /// The database's journal.
    pub state: PathBuf,
    /// One worker on each.
    pub cores: Vec<usize>,
    /// Frames and rings of each queue.
    pub queue: QueueOptions,
    /// How workers wait.
    pub tuning: Tuning,
    /// Where metrics are served, if they are.
    pub metrics: Option<Address>,
    /// What is logged.
    pub logging: Logging,
}

/// How often learned addresses are looked at for ageing, status columns are written to the disk, and refused devices for another try.
const TICK: Duration = Duration::from_secs(1);

/// How often the kernel is told which neighbours packets go to. It forgets one after a minute.
const KEEP_NEIGHBOURS: Duration = Duration::from_secs(5);

/// Runs until SIGTERM, SIGINT or the `exit` command. The error is one line for the operator.
pub async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    // One that comes while devices are attached is obeyed after that.
    let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    shunt_ffi::kernel::check()?;
    shunt_ffi::kernel::raise_limits()?;
    let store = Rc::new(RefCell::new(Store::open(&options.state)?));
    rpc::refuse_if_live(&options.socket)?;
    describe_ourselves(&mut store.borrow_mut());
    let (kernel, links) = Kernel::open().await?;
    let state = Rc::new(RefCell::new(State::new(Dataplane::start(&options.cores, options.tuning)?)));
    let control = Arc::new(Control::default());
    if let Some(address) = &options.metrics {
        let directory = Arc::clone(&state.borrow().directory);
        let source = Source { directory, control: Arc::clone(&control) };
        let address = metrics::server::start(address, source, Limits::default())?;
        tracing::info!("metrics at {address}");
    }
    let mut reconciler = Reconciler::new(
        Rc::clone(&store),
        Rc::clone(&state),
        (kernel, links),
        options.queue,
        Remembered::open(&options.socket),
    );
    reconciler.reconcile().await?;
    reconciler.clean_up_after_crash().await;

    let frontend = Rc::new(RefCell::new(Frontend::new(&state, &store, &control, options.logging)));
    let written = Rc::new(Notify::new());
    let listener = rpc::listen(&options.socket)?;
    let server =
        rpc::serve(listener, Rc::clone(&store), Rc::clone(&frontend) as Rc<RefCell<dyn Daemon>>, Rc::clone(&written));
    let server = tokio::task::spawn_local(server);
    tracing::info!("serving {}, workers on cores {:?}", options.socket.display(), options.cores);
    // Without systemd there is nobody to notify, and that is fine.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    live(&mut reconciler, &frontend, &written, &mut signals).await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("detaching from {} devices", state.borrow().devices.len());
    // The reply to `exit` goes out while devices are given back.
    let cleanup = frontend.borrow().exit.is_some_and(|exit| exit.cleanup);
    reconciler.shut_down(cleanup).await?;
    tokio::task::yield_now().await;
    server.abort();
    // Somebody may already have taken them away.
    let _ = std::fs::remove_file(&options.socket);
    if let Some(Address::Unix(path)) = &options.metrics {
        let _ = std::fs::remove_file(path);
    }
    Ok(store.borrow_mut().flush()?)
}

/// Answers to whatever happens, until the end is asked for.
async fn live(
    reconciler: &mut Reconciler,
    frontend: &RefCell<Frontend>,
    written: &Notify,
    signals: &mut [Signal; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    let (state, store) = (Rc::clone(&frontend.borrow().state), Rc::clone(&frontend.borrow().store));
    let (dirty, stop) = (Rc::clone(&frontend.borrow().dirty), Rc::clone(&frontend.borrow().stop));
    let [terminate, interrupt] = signals;
    let mut tick = tokio::time::interval(TICK);
    let mut using = tokio::time::interval(KEEP_NEIGHBOURS);
    let mut sampling = tokio::time::interval(history::INTERVAL);
    let mut telling = tokio::time::interval(sflow::INTERVAL);
    telling.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut statistics = Box::pin(tokio::time::sleep(reconciler.statistics_interval()));
    loop {
        let is_sampled = state.borrow().sflow.is_on();
        tokio::select! {
            () = dirty.notified() => pass(reconciler, frontend).await?,
            event = reconciler.event() => match event? {
                Event::Links => pass(reconciler, frontend).await?,
                Event::Routes if reconciler.take_routes() => pass(reconciler, frontend).await?,
                Event::Routes => continue,
                Event::PassDue => {
                    reconciler.reclaim()?;
                    continue;
                }
            },
            _ = tick.tick() => {
                now_and_then(&state.borrow(), &mut store.borrow_mut(), &frontend.borrow().control);
                let moved = reconciler.check_agents().await;
                if reconciler.check_vrfs().await? || moved || reconciler.has_failures() {
                    pass(reconciler, frontend).await?;
                }
            }
            _ = using.tick() => reconciler.keep_neighbours().await,
            _ = telling.tick(), if is_sampled => {
                reconciler.export_samples();
                continue;
            }
            _ = sampling.tick() => frontend.borrow_mut().history.sample(&state.borrow()),
            () = &mut statistics => {
                reconciler.refresh_statistics().await;
                statistics.as_mut().reset(tokio::time::Instant::now() + reconciler.statistics_interval());
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = stop.notified() => return Ok(()),
        }
        written.notify_one();
    }
}

/// Puts in force what was committed until now, and measures how long it took.
async fn pass(reconciler: &mut Reconciler, frontend: &RefCell<Frontend>) -> Result<(), Stuck> {
    let (begun, acknowledged) = (Instant::now(), std::mem::take(&mut frontend.borrow_mut().acknowledged));
    reconciler.reconcile().await?;
    frontend.borrow().control.passed(begun, &acknowledged);
    Ok(())
}

/// Forgets what has not been heard of for too long, writes status columns to the disk, and tells readers of metrics what does not
/// come with a snapshot.
fn now_and_then(state: &State, store: &mut Store, control: &Control) {
    let now = Clock::start().now();
    for bridge in state.bridges.values() {
        bridge.fdb.age(now, bridge.ageing_s);
        if let Some(snooping) = &bridge.snooping {
            snooping.age(now);
        }
    }
    store.flush_now_and_then();
    state.publish_tables();
    control.set_errors(store.rows("Interface").filter(|row| row.get("error").as_str().is_some()).count());
}

/// Fills the columns in which OVS's tools look for the switch's kind and version.
fn describe_ourselves(store: &mut Store) {
    let Some(uuid) = store.database().rows("Open_vSwitch").next().map(|root| root.uuid()) else { return };
    let set = |names: &[&str]| Datum::Set(names.iter().map(|&name| Atom::from(name)).collect());
    let os = os_release();
    let updates = vec![
        ("Open_vSwitch", uuid, "ovs_version", Datum::from(Some(env!("CARGO_PKG_VERSION")))),
        ("Open_vSwitch", uuid, "db_version", Datum::from(Some(store.database().schema().version.as_str()))),
        ("Open_vSwitch", uuid, "system_type", Datum::from(Some(os.0.as_str()))),
        ("Open_vSwitch", uuid, "system_version", Datum::from(Some(os.1.as_str()))),
        ("Open_vSwitch", uuid, "iface_types", set(&["afxdp", "internal", "system"])),
        ("Open_vSwitch", uuid, "datapath_types", set(&["netdev"])),
        ("Open_vSwitch", uuid, "dpdk_initialized", Datum::from(false)),
    ];
    store.write(updates);
}

/// ID and VERSION_ID of os-release(5).
fn os_release() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map_or("unknown", |value| value.trim_matches('"')).to_owned()
    };
    (field("ID"), field("VERSION_ID"))
}

/// What the protocol server reaches of the daemon.
struct Frontend {
    state: Rc<RefCell<State>>,
    store: Rc<RefCell<Store>>,
    history: History,
    control: Arc<Control>,
    /// When transactions were acknowledged that are not in force yet.
    acknowledged: Vec<Instant>,
    logging: Logging,
    dirty: Rc<Notify>,
    stop: Rc<Notify>,
    exit: Option<Exit>,
}

impl Frontend {
    fn new(state: &Rc<RefCell<State>>, store: &Rc<RefCell<Store>>, control: &Arc<Control>, logging: Logging) -> Self {
        Self {
            state: Rc::clone(state),
            store: Rc::clone(store),
            history: History::default(),
            control: Arc::clone(control),
            acknowledged: Vec::new(),
            logging,
            dirty: Rc::default(),
            stop: Rc::default(),
            exit: None,
        }
    }
}

impl Daemon for Frontend {
    fn command(&mut self, name: &str, args: &[String]) -> Result<Value, String> {
        let mut state = self.state.borrow_mut();
        let now = Clock::start().now();
        let mut context = Context {
            state: &mut state,
            store: &self.store.borrow(),
            history: &mut self.history,
            logging: &self.logging,
            now,
            exit: &mut self.exit,
            json: false,
        };
        let answer = commands::run(&mut context, name, args);
        if self.exit.is_some() {
            self.stop.notify_one();
        }
        if state.router.has_to_forget() {
            self.dirty.notify_one();
        }
        answer
    }

    fn feed(&mut self, request: &Value) -> Result<Box<dyn rpc::Feed>, String> {
        let request = Request::deserialize(request).map_err(|error| format!("capture: {error}"))?;
        Ok(Box::new(Feed::begin(&self.state, &self.dirty, request)?))
    }

    fn committed(&mut self, peer: Peer) {
        self.control.acknowledged();
        self.acknowledged.push(Instant::now());
        tracing::debug!("configuration changed by uid {} pid {:?}", peer.uid, peer.pid);
        self.dirty.notify_one();
    }
}
