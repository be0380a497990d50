//! How does the running switch become what the database asks for?
//!
//! [`Reconciler::reconcile`] is the whole way of a command behind the database, top to bottom: rows → model → plan → steps
//! on devices → snapshot on the workers → status columns and `cur_cfg`. A device that is missing or refuses stops nothing:
//! its interface keeps an `error`, and the next event on the device, or the retry timer, tries again. A restart is the same
//! road with nothing attached yet.

mod settings;

use crate::clock::Clock;
use crate::database::Database;
use crate::dataplane::Stuck;
use crate::datum::Datum;
use crate::kernel::{self, Kernel, Link, Links, Prepared};
use crate::model::Model;
use crate::plan::{Step, Users, Wish, Wishes, plan};
use crate::remembered::Remembered;
use crate::state::{Device, State};
use crate::status;
use crate::store::Store;
use shunt_ffi::{Attachment, Claims, QueueOptions, WantedMode, XdpMode, XskRx, XskTx, ethtool};
use shunt_switch::config::DeviceIndex;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long after a failure a device is tried again though nothing about it has changed.
const RETRY: Duration = Duration::from_secs(5);
/// How long after a failure the device may still be changing because of it.
const SETTLE: Duration = Duration::from_millis(200);
/// Devices attached before the workers are told, so that the first of a thousand ports do not wait for the last.
const ATTACH_AT_ONCE: usize = 256;
/// Payload above which larger frames are used, so that jumbo packets need fewer of them.
const SMALL_FRAME_MTU: u32 = 1600;

/// Keeps the switch in line with its configuration.
pub struct Reconciler {
    store: Rc<RefCell<Store>>,
    state: Rc<RefCell<State>>,
    kernel: Kernel,
    links: Links,
    options: QueueOptions,
    /// By device name.
    failures: BTreeMap<String, Failure>,
    /// Why a wanted setting of an interface is not in force though it is attached; by interface name.
    complaints: BTreeMap<String, String>,
    remembered: Remembered,
    /// The cores to run workers on where `pmd-cpu-mask` is not set.
    cores: Vec<usize>,
    /// What of the `pmd-` settings is not in force, and why.
    polling_problem: Option<String>,
    /// What the workers forward by.
    installed: Option<Model>,
}

/// The two halves of each queue.
type Halves = Vec<(XskRx, XskTx)>;

/// A device that could not be attached.
struct Failure {
    text: String,
    /// As it was then.
    link: Option<Link>,
    wish: Wish,
    at: Instant,
}

impl Reconciler {
    /// Nothing is touched before the first [`Reconciler::reconcile`].
    pub fn new(
        store: Rc<RefCell<Store>>,
        state: Rc<RefCell<State>>,
        (kernel, links): (Kernel, Links),
        options: QueueOptions,
        remembered: Remembered,
    ) -> Self {
        let (failures, complaints) = (BTreeMap::new(), BTreeMap::new());
        let cores = state.borrow().dataplane.cores().into_iter().flatten().collect();
        let (polling_problem, installed) = (None, None);
        Self {
            store,
            state,
            kernel,
            links,
            options,
            failures,
            complaints,
            remembered,
            cores,
            polling_problem,
            installed,
        }
    }

    /// Waits until a link of the host changes.
    pub async fn link_changed(&mut self) -> Result<(), kernel::Error> {
        self.links.changed().await.map(drop)
    }

    /// Undoes what a killed daemon left on devices that this one does not attach. Call it after the first reconciliation.
    pub async fn clean_up_after_crash(&mut self) {
        for prepared in self.remembered.take_orphans() {
            self.undo("after a crash", prepared).await;
        }
        self.remember();
    }

    fn remember(&mut self) {
        self.remembered.keep(self.state.borrow().devices.values().map(|device| &device.prepared));
    }

    /// Some device refused and is to be tried again.
    pub fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// How often [`Reconciler::refresh_statistics`] is wanted.
    pub fn statistics_interval(&self) -> Duration {
        Duration::from_millis(self.installed.as_ref().map_or(5000, |model| model.stats_interval_ms))
    }

    /// Does everything that the configuration asks for and the devices allow. Errors only if the workers are stuck.
    pub async fn reconcile(&mut self) -> Result<(), Stuck> {
        let model = self.read_model();
        self.apply_polling(&model)?;
        let wishes = Wishes::of(&model, kernel::switch_end);
        let attached = self.state.borrow().attached();
        let steps = plan(&attached, &wishes, |name| self.links.by_name(name).map(|link| link.ifindex));
        let mut changed = self.observe_links();

        let leaving: Vec<_> = steps
            .iter()
            .filter_map(|step| if let Step::Detach(name) = step { Some(name.clone()) } else { None })
            .collect();
        self.detach(&leaving, &model).await?;
        let mut since_install = 0;
        for step in &steps {
            match step {
                Step::Detach(_) => {}
                Step::RemoveInternal(name) => self.remove_internal(name).await,
                Step::EnsureInternal(name) => self.ensure_internal(name).await,
                Step::Attach(name) => {
                    let wish = &wishes.devices[name];
                    if self.is_due(name, wish) && self.attach(name, wish, &model).await? {
                        changed = true;
                        since_install += 1;
                    }
                }
                Step::Claim(name) => {
                    self.claim(name, &wishes.devices[name]);
                    changed = true;
                }
            }
            if since_install == ATTACH_AT_ONCE {
                self.install(&model)?;
                since_install = 0;
            }
        }
        self.failures.retain(|name, _| wishes.devices.contains_key(name) || wishes.internals.contains_key(name));
        changed |= self.apply_settings(&model).await;
        if changed || self.installed.as_ref() != Some(&model) {
            self.install(&model)?;
        }
        self.write_status(&model, &wishes);
        Ok(())
    }

    /// Gives every device back to the kernel; the internal ports' own devices stay for the next start unless `cleanup`.
    pub async fn shut_down(&mut self, cleanup: bool) -> Result<(), Stuck> {
        let model = Model::default();
        let all: Vec<_> = self.state.borrow().devices.keys().cloned().collect();
        self.detach(&all, &model).await?;
        self.remember();
        if cleanup {
            let internals: Vec<_> = self.state.borrow().internals.keys().cloned().collect();
            for name in internals {
                self.remove_internal(&name).await;
            }
        }
        Ok(())
    }

    /// Reads the kernel's drop counters and writes the `statistics` columns.
    pub async fn refresh_statistics(&mut self) {
        self.refresh_device_drops().await;
        let Some(model) = &self.installed else { return };
        let updates =
            status::statistics(self.store.borrow().database(), model, &self.state.borrow(), Clock::start().now());
        self.store.borrow_mut().write(updates);
    }

    /// Reads how much each attached device dropped after the switch had handed it over.
    async fn refresh_device_drops(&mut self) {
        let devices: Vec<_> =
            self.state.borrow().devices.iter().map(|(name, device)| (name.clone(), device.ifindex)).collect();
        for (name, ifindex) in devices {
            if let Ok(statistics) = self.kernel.statistics(ifindex).await
                && let Some(device) = self.state.borrow_mut().devices.get_mut(&name)
            {
                device.tx_dropped.1 = statistics.tx_dropped;
            }
        }
    }

    fn read_model(&self) -> Model {
        let store = self.store.borrow();
        let db: &Database = store.database();
        let is_vlan = |link: &Link| matches!(&link.kind, kernel::Kind::Other(kind) if kind == "vlan");
        Model::read(db, |name| self.links.by_name(name).is_some_and(|link| !is_vlan(link)))
    }

    /// Takes over what changed on attached devices by itself; true if the workers must know.
    fn observe_links(&mut self) -> bool {
        let mut changed = false;
        for (name, device) in &mut self.state.borrow_mut().devices {
            if let Some(link) = self.links.by_name(name).filter(|link| link.mtu != device.mtu) {
                device.mtu = link.mtu;
                changed = true;
            }
        }
        changed
    }

    /// A device that failed is tried again when it or what is asked of it has changed, and from time to time. Trying changes
    /// the device for a moment, so that a change right after a failure says nothing.
    fn is_due(&self, name: &str, wish: &Wish) -> bool {
        let Some(failure) = self.failures.get(name) else { return true };
        let (was, is) = (failure.link.as_ref(), self.links.by_name(name));
        let other_device = was.map(|link| link.ifindex) != is.map(|link| link.ifindex);
        let since = failure.at.elapsed();
        other_device || failure.wish != *wish || was != is && since >= SETTLE || since >= RETRY
    }

    fn fail(&mut self, name: &str, wish: &Wish, text: String) {
        let link = self.links.by_name(name).cloned();
        let failure = Failure { text: text.clone(), link, wish: wish.clone(), at: Instant::now() };
        let before = self.failures.insert(name.to_owned(), failure);
        if before.is_none_or(|before| before.text != text) {
            tracing::warn!("{name}: {text}");
        }
    }

    /// Keeps why something about an interface is not as configured, and says it once.
    fn complain(&mut self, name: &str, text: String) {
        if self.complaints.insert(name.to_owned(), text.clone()).as_ref() != Some(&text) {
            tracing::warn!("{name}: {text}");
        }
    }

    async fn detach(&mut self, names: &[String], model: &Model) -> Result<(), Stuck> {
        let leaving = self.state.borrow_mut().detach(names, model)?;
        for device in leaving {
            tracing::info!("{}: detached", device.name);
            restore_queues(&device.name, device.queues_before);
            self.undo(&device.name, device.prepared).await;
        }
        Ok(())
    }

    /// Puts a device's settings back. One that is gone has none.
    async fn undo(&self, name: &str, prepared: Prepared) {
        if let Err(error) = self.kernel.undo(prepared).await
            && !error.is_gone()
        {
            tracing::warn!("{name}: not all settings could be put back: {error}");
        }
    }

    async fn ensure_internal(&mut self, name: &str) {
        match self.kernel.ensure_internal(name).await {
            Ok(internal) => {
                self.complaints.remove(name);
                self.state.borrow_mut().internals.insert(name.to_owned(), internal.switch_end);
            }
            Err(error) => self.complain(name, error.to_string()),
        }
    }

    async fn remove_internal(&mut self, name: &str) {
        self.state.borrow_mut().internals.remove(name);
        if let Err(error) = self.kernel.remove_internal(name).await
            && !error.is_gone()
        {
            tracing::warn!("{name}: the device of the removed internal port is still there: {error}");
        }
    }

    /// Opens a device and hands it to the workers. False, with the reason kept, if it refuses.
    async fn attach(&mut self, name: &str, wish: &Wish, model: &Model) -> Result<bool, Stuck> {
        let Some(index) = self.state.borrow_mut().number_device() else {
            self.fail(name, wish, "the switch is full: remove ports that are not used".to_owned());
            return Ok(false);
        };
        match self.open(name, wish, index).await {
            Ok((device, queues)) => {
                self.failures.remove(name);
                tracing::info!("{name}: attached, {} mode, {} queue(s)", device.attachment.mode(), queues.len());
                self.state.borrow_mut().attach(name, device, queues, model)?;
                Ok(true)
            }
            Err(text) => {
                self.state.borrow_mut().renumber_device(index);
                self.fail(name, wish, text);
                Ok(false)
            }
        }
    }

    async fn open(&mut self, name: &str, wish: &Wish, index: DeviceIndex) -> Result<(Device, Halves), String> {
        let mode = wanted_mode(&wish.xdp_mode).ok_or_else(|| {
            format!(
                "options:xdp-mode={} of {name} is unknown: use best-effort, native-with-zerocopy, native or generic",
                wish.xdp_mode
            )
        })?;
        let link = self.kernel.link_by_name(name).await.map_err(|error| error.to_string())?;
        settings::check_mtu(&link)?;
        let mut prepared = self.kernel.prepare(&link, wish.tags).await.map_err(|error| error.to_string())?;
        self.remembered.complete(&mut prepared);
        let opened = queue_count(name, wish.n_rxq).and_then(|(count, before)| {
            let opened = self.open_queues(&link, wish, mode, count);
            opened.map(|opened| (opened, before)).inspect_err(|_| restore_queues(name, before))
        });
        let ((attachment, queues, frame_bytes), queues_before) = match opened {
            Ok(opened) => opened,
            Err(text) => {
                self.undo(name, prepared).await;
                return Err(text);
            }
        };
        let dropped = self.kernel.statistics(link.ifindex).await.map_or(0, |statistics| statistics.tx_dropped);
        let device = Device {
            index,
            ifindex: link.ifindex,
            wish: wish.clone(),
            attachment,
            prepared,
            queues_before,
            is_veth: link.kind == kernel::Kind::Veth,
            mtu: link.mtu,
            tx_dropped: (dropped, dropped),
            frame_bytes,
            workers: Vec::new(),
            spare: Vec::new(),
        };
        Ok((device, queues))
    }

    fn open_queues(
        &self,
        link: &Link,
        wish: &Wish,
        mode: WantedMode,
        queues: u32,
    ) -> Result<(Attachment, Halves, u64), String> {
        let mut options = self.options;
        if link.mtu > SMALL_FRAME_MTU {
            options.chunk_bytes = 4096;
        }
        // TCP fails in generic mode over veth.
        let generic_allowed = link.kind == kernel::Kind::Hardware;
        if mode == WantedMode::Exactly(XdpMode::Generic) && !generic_allowed {
            return Err(format!(
                "{}: options:xdp-mode=generic is for NICs whose driver has no native mode, not for a {}: clear it",
                link.name, link.kind
            ));
        }
        let frame_bytes = u64::from(queues) * u64::from(options.frames) * u64::from(options.chunk_bytes);
        Attachment::open(link.ifindex, &link.name, queues, mode, generic_allowed, &options, &claims(&wish.users))
            .map(|(attachment, halves)| (attachment, halves, frame_bytes))
            .map_err(|error| error.to_string())
    }

    fn claim(&mut self, name: &str, wish: &Wish) {
        let mut state = self.state.borrow_mut();
        let Some(device) = state.devices.get_mut(name) else { return };
        match device.attachment.claim(&claims(&wish.users)) {
            Ok(()) => device.wish.users = wish.users.clone(),
            Err(error) => tracing::error!("{name}: cannot change which VLANs are taken: {error}"),
        }
    }

    fn install(&mut self, model: &Model) -> Result<(), Stuck> {
        self.state.borrow_mut().install(model)?;
        // A crash from here on must find what to undo.
        self.remember();
        self.installed = Some(model.clone());
        Ok(())
    }

    fn write_status(&mut self, model: &Model, wishes: &Wishes) {
        let mut errors = wishes.refused.clone();
        for (name, failure) in &self.failures {
            let users = wishes.devices.get(name).map(|wish| wish.users.names()).unwrap_or_default();
            errors.extend(users.into_iter().map(|user| (user.to_owned(), failure.text.clone())));
        }
        errors.extend(self.complaints.clone());
        let mut store = self.store.borrow_mut();
        let mut updates = status::updates(store.database(), model, &self.state.borrow(), &self.links, &errors);
        if let Some(root) = store.database().rows("Open_vSwitch").next()
            && root.get("cur_cfg").as_integer() != Some(model.next_cfg)
        {
            updates.push(("Open_vSwitch", root.uuid(), "cur_cfg", Datum::from(model.next_cfg)));
        }
        if let Some(root) = store.database().rows("Open_vSwitch").next() {
            let problem = Datum::from(self.polling_problem.clone());
            if *root.get("error") != problem {
                updates.push(("Open_vSwitch", root.uuid(), "error", problem));
            }
        }
        store.write(updates);
    }
}

fn claims(users: &Users) -> Claims {
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
fn restore_queues(device: &str, before: Option<u32>) {
    if let Some(count) = before
        && let Err(error) = ethtool::set_queues(device, count)
    {
        tracing::warn!("{device}: keeps its number of queues: {error}");
    }
}
