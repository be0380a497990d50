//! How does the running switch become what the database asks for?
//!
//! [`Reconciler::reconcile`] is the whole way of a command behind the database, top to bottom: rows → model → plan → steps
//! on devices → snapshot on the workers → status columns and `cur_cfg`. A device that is missing or refuses stops nothing:
//! its interface keeps an `error`, and the next event on the device, or the retry timer, tries again. A restart is the same
//! road with nothing attached yet.

mod announce;
mod listen;
mod open;
mod samples;
mod settings;
mod static_rows;
mod svi;
mod wait;

use crate::clock::Clock;
use crate::dataplane::Stuck;
use crate::datum::Datum;
use crate::kernel::{self, Kernel, Link, Links, Prepared, Told};
use crate::model::router::VrfName;
use crate::model::{Changed, Model};
use crate::plan::{Attached, Scope, Step, Wish, Wishes, plan};
use crate::remembered::Remembered;
use crate::sflow::counters::HostLoad;
use crate::state::{Device, State};
use crate::status;
use crate::store::Store;
use futures_util::StreamExt;
use listen::Listeners;
use open::{Opened, Refusal, claims, open, restore_queues};
use shunt_ffi::QueueOptions;
use shunt_switch::config::DeviceIndex;
use shunt_switch::counters::PortCounters;
use static_rows::StaticRows;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use svi::Namespaces;
pub use wait::Event;

/// How long after a failure a device is tried again though nothing about it has changed.
const RETRY: Duration = Duration::from_secs(5);
/// How long after a failure the device may still be changing because of it.
const SETTLE: Duration = Duration::from_millis(200);
/// Devices attached before the workers are told, so that the first of a thousand ports do not wait for the last.
const ATTACH_AT_ONCE: usize = 256;
/// Devices opened side by side: most of it is waiting for the kernel to make and pin memory, in other threads.
const OPEN_AT_ONCE: usize = 4;

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
    /// As the rows were at the last pass.
    model: Rc<Model>,
    wishes: Rc<Wishes>,
    /// Names of links that appeared, changed or vanished since.
    touched_links: BTreeSet<String>,
    /// Attached devices behind which nobody has been announced yet.
    unannounced: BTreeSet<String>,
    /// The namespaces that routes come from, and SVIs live in.
    namespaces: Namespaces,
    /// What others say on the links of SVIs.
    listeners: Listeners,
    /// Static routes and neighbours.
    rows: StaticRows,
    /// What their tables told, and was not taken yet.
    heard: Vec<(VrfName, Vec<Told>)>,
    /// When memory that routes no longer take is to be used again.
    pass_due: Option<tokio::time::Instant>,
    /// How busy the host is, for collectors.
    load: HostLoad,
}

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
        let (polling_problem, touched_links) = (None, BTreeSet::new());
        let (model, wishes) = (Rc::default(), Rc::default());
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
            model,
            wishes,
            touched_links,
            unannounced: BTreeSet::new(),
            namespaces: Namespaces::default(),
            listeners: Listeners::default(),
            rows: StaticRows::default(),
            heard: Vec::new(),
            pass_due: None,
            load: HostLoad::default(),
        }
    }

    /// Undoes what a killed daemon left on devices that this one does not attach. Call it after the first reconciliation.
    pub async fn clean_up_after_crash(&mut self) {
        for prepared in self.remembered.take_orphans() {
            self.undo("after a crash", prepared).await;
        }
        self.remembered.write();
    }

    /// Some device refused and is to be tried again.
    pub fn has_failures(&self) -> bool {
        !self.failures.is_empty() || !self.namespaces.errors.is_empty() || self.rows.has_failures()
    }

    /// How often [`Reconciler::refresh_statistics`] is wanted.
    pub fn statistics_interval(&self) -> Duration {
        Duration::from_millis(self.model.stats_interval_ms)
    }

    /// Does everything that the configuration asks for and the devices allow. Errors only if the workers are stuck.
    ///
    /// Looks only at what may be different since the last time: rows and links that changed, whoever shares a device with them,
    /// and what could not be done then. `touched` are the names of those interfaces; the first time they are all.
    pub async fn reconcile(&mut self) -> Result<(), Stuck> {
        let Changed { interfaces: mut touched, forwarding: mut changed, routes, neighbours } = self.read_model();
        let model = Rc::clone(&self.model);
        let names_vrfs = !routes.is_empty() || !neighbours.is_empty() || self.touches_svi(&touched);
        self.rows.changed(&model, routes, neighbours);
        touched.extend(std::mem::take(&mut self.namespaces.due));
        touched.extend(self.namespaces.errors.keys().cloned());
        changed |= self.apply_polling(&model, &mut touched)?;
        let scope = self.update_wishes(touched);
        let wishes = Rc::clone(&self.wishes);
        let attached = self.state.borrow().attached(&scope);
        let steps = plan(&attached, &wishes, &scope, |name| self.links.by_name(name).map(|link| link.ifindex));
        changed |= self.observe_links(&scope);

        let mut touched = scope.interfaces;
        touched.extend(users_of(&steps, &attached, &wishes));
        let leaving: Vec<_> = steps
            .iter()
            .filter_map(|step| if let Step::Detach(name) = step { Some(name.clone()) } else { None })
            .collect();
        self.detach(&leaving, &model, &touched).await?;
        let mut due = Vec::new();
        for step in &steps {
            match step {
                Step::Detach(_) => {}
                Step::RemoveInternal(name) => self.remove_internal(name).await,
                Step::EnsureInternal(name) => self.ensure_internal(name).await,
                Step::Attach(name) => due.extend(wishes.devices.get_key_value(name)),
                Step::Claim(name) => {
                    self.claim(name, &wishes.devices[name]);
                    changed = true;
                }
            }
        }
        due.retain(|(name, wish)| self.is_due(name, wish));
        changed |= self.attach(&due, &model, &touched).await?;
        self.failures.retain(|name, _| wishes.devices.contains_key(name) || wishes.internals.contains_key(name));
        changed |= self.apply_svis(&model, &touched).await;
        changed |= self.refresh_hosts(&model).await;
        changed |= self.state.borrow_mut().captures.take_changed();
        if changed {
            self.install(&model, &touched)?;
        }
        self.apply_rows(&model).await;
        self.forget_neighbours().await;
        if names_vrfs {
            self.close_unused_vrfs(&model);
        }
        let resized = self.apply_settings(&model, &mut touched).await;
        if !resized.is_empty() {
            self.install(&model, &resized)?;
        }
        self.announce().await;
        self.hear_of_links(&wishes, &mut touched);
        self.write_status(&model, &wishes, &touched);
        Ok(())
    }

    /// Gives every device back to the kernel; the internal ports' own devices stay for the next start unless `cleanup`.
    pub async fn shut_down(&mut self, cleanup: bool) -> Result<(), Stuck> {
        let model = Model::default();
        let all: Vec<_> = self.state.borrow().devices.keys().cloned().collect();
        let ports = self.state.borrow().ports.keys().cloned().collect();
        self.detach(&all, &model, &ports).await?;
        if cleanup {
            self.remove_rows().await;
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
        let now = Clock::start().now();
        let updates = status::statistics(self.store.borrow().database(), &self.model, &self.state.borrow(), now);
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

    /// Takes over what rows and links tell.
    fn read_model(&mut self) -> Changed {
        let mut store = self.store.borrow_mut();
        let rows = store.take_touched();
        let is_vlan = |link: &Link| matches!(&link.kind, kernel::Kind::Other(kind) if kind == "vlan");
        let is_plain = |name: &str| self.links.by_name(name).is_some_and(|link| !is_vlan(link));
        Rc::make_mut(&mut self.model).update(store.database(), &rows, &self.touched_links, is_plain)
    }

    /// Takes over what the model asks of devices, and returns what to plan for: what changed, and what could not be done the
    /// last time.
    fn update_wishes(&mut self, mut touched: BTreeSet<String>) -> Scope {
        touched.extend(self.complaints.keys().cloned());
        let links = std::mem::take(&mut self.touched_links);
        let mut scope = Rc::make_mut(&mut self.wishes).update(&self.model, touched, &links, kernel::switch_end);
        scope.devices.extend(self.failures.keys().cloned());
        scope
    }

    /// Takes over what changed on attached devices by itself; true if the workers must know.
    fn observe_links(&mut self, scope: &Scope) -> bool {
        let mut changed = false;
        let devices = &mut self.state.borrow_mut().devices;
        for name in &scope.devices {
            if let (Some(device), Some(link)) = (devices.get_mut(name), self.links.by_name(name)) {
                changed |= std::mem::replace(&mut device.mtu, link.mtu) != link.mtu;
                if !link.carrier {
                    // Its address may have come from elsewhere when it is up again.
                    self.unannounced.insert(name.clone());
                }
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

    async fn detach(&mut self, names: &[String], model: &Model, touched: &BTreeSet<String>) -> Result<(), Stuck> {
        let leaving = self.state.borrow_mut().detach(names, model, touched)?;
        for device in leaving {
            tracing::info!("{}: detached", device.name);
            restore_queues(&device.name, device.queues_before);
            self.remembered.forget(device.ifindex);
            self.undo(&device.name, device.prepared).await;
        }
        self.remembered.write();
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

    /// Opens devices, some at a time, and hands each to the workers. True if any did not refuse.
    async fn attach(
        &mut self,
        due: &[(&String, &Wish)],
        model: &Model,
        touched: &BTreeSet<String>,
    ) -> Result<bool, Stuck> {
        let (kernel, options, state) = (self.kernel.clone(), self.options, Rc::clone(&self.state));
        let opening = futures_util::stream::iter(due).map(|&(name, wish)| {
            let index = state.borrow_mut().number_device();
            let opened = open(&kernel, options, name, wish);
            async move { (name, wish, index, if index.is_some() { opened.await } else { Err(Refusal::full()) }) }
        });
        let mut opening = std::pin::pin!(opening.buffered(OPEN_AT_ONCE));
        let mut attached = 0;
        while let Some((name, wish, index, opened)) = opening.next().await {
            // Routes do not wait for a thousand devices.
            self.hear_now();
            match (index, opened) {
                (Some(index), Ok(opened)) => {
                    self.attached(name, wish, index, opened, model)?;
                    attached += 1;
                    if attached % ATTACH_AT_ONCE == 0 {
                        self.install(model, touched)?;
                    }
                }
                (index, Err(Refusal { text, prepared })) => {
                    index.into_iter().for_each(|index| state.borrow_mut().renumber_device(index));
                    if let Some(mut prepared) = prepared {
                        self.remembered.complete(&mut prepared);
                        self.undo(name, prepared).await;
                    }
                    self.fail(name, wish, text);
                }
                (None, Ok(_)) => unreachable!("what has no number is not opened"),
            }
        }
        Ok(attached > 0)
    }

    fn attached(
        &mut self,
        name: &str,
        wish: &Wish,
        index: DeviceIndex,
        opened: Opened,
        model: &Model,
    ) -> Result<(), Stuck> {
        let Opened { link, mut prepared, queues_before, queues, dropped } = opened;
        self.remembered.complete(&mut prepared);
        self.remembered.keep(&prepared);
        self.failures.remove(name);
        tracing::info!("{name}: attached, {} mode, {} queue(s)", queues.attachment.mode(), queues.halves.len());
        let device = Device {
            index,
            ifindex: link.ifindex,
            wish: wish.clone(),
            attachment: queues.attachment,
            prepared,
            queues_before,
            is_veth: link.kind == kernel::Kind::Veth,
            mtu: link.mtu,
            tx_dropped: (dropped, dropped),
            kernel: Arc::new([PortCounters::default()]),
            frame_bytes: queues.frame_bytes,
            workers: Vec::new(),
            spare: Vec::new(),
        };
        self.unannounced.insert(name.to_owned());
        self.state.borrow_mut().attach(name, device, queues.halves, model)
    }

    fn claim(&mut self, name: &str, wish: &Wish) {
        let mut state = self.state.borrow_mut();
        let Some(device) = state.devices.get_mut(name) else { return };
        match device.attachment.claim(&claims(&wish.users)) {
            Ok(()) => device.wish.users = wish.users.clone(),
            Err(error) => tracing::error!("{name}: cannot change which VLANs are taken: {error}"),
        }
    }

    fn install(&mut self, model: &Model, touched: &BTreeSet<String>) -> Result<(), Stuck> {
        self.state.borrow_mut().install(model, touched)?;
        // A crash from here on must find what to undo.
        self.remembered.write();
        Ok(())
    }

    /// Whoever waits for `cur_cfg` is to see in the status columns what this pass did to devices.
    fn hear_of_links(&mut self, wishes: &Wishes, touched: &mut BTreeSet<String>) {
        match self.links.now() {
            // The host's end of an internal port has the port's name.
            Ok(links) => touched.extend(wishes.concerned(links).chain(links).cloned()),
            Err(error) => tracing::warn!("{error}"),
        }
    }

    fn write_status(&mut self, model: &Model, wishes: &Wishes, touched: &BTreeSet<String>) {
        let failure = |name: &str| self.failures.get(wishes.device_of(name)?).map(|failure| &failure.text);
        let error = |name: &str| {
            self.complaints.get(name).or_else(|| wishes.refused.get(name)).or_else(|| failure(name)).cloned()
        };
        let mut store = self.store.borrow_mut();
        let (state, interfaces) = (self.state.borrow(), touched.iter().map(String::as_str));
        let mut updates = status::updates(store.database(), model, &state, &self.links, interfaces, error);
        let interfaces = touched.iter().map(String::as_str);
        let duplicates = |name: &str| self.listeners.duplicates(name);
        updates.extend(status::svis(store.database(), model, &state, interfaces, &self.namespaces.errors, duplicates));
        updates.extend(status::rows(store.database(), self.rows.take_said(model)));
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

/// The interfaces on devices that are attached or detached.
fn users_of(steps: &[Step], attached: &Attached, wishes: &Wishes) -> Vec<String> {
    let wishes = steps.iter().filter_map(|step| match step {
        Step::Detach(name) => attached.devices.get(name).map(|(_, wish)| wish),
        Step::Attach(name) => wishes.devices.get(name),
        _ => None,
    });
    wishes.flat_map(|wish| wish.users.names()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
