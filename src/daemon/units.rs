//! The adapters that run: how they are started, told of their devices, and stopped.
//!
//! A new kind of adapter needs a field here and its lines in `Adapters`.

use super::StartError;
use crate::{
    config::{AdapterConfigs, UnitConfig},
    control::view::UnitView,
    store::{Closed, Store},
    supervisor::{self, Unit, UnitState},
};
use adapter_api::{Adapter, AdapterCx, Board, CancellationToken, Devices, Instant, inquiry::Desk};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{sync::watch, task::JoinSet};

/// All adapters.
#[derive(Default)]
pub(super) struct Adapters {
    #[cfg(feature = "modbus")]
    modbus: Kind<adapter_modbus::Modbus>,
    #[cfg(feature = "test-hooks")]
    test: Kind<adapter_api::test_adapter::Test>,
    /// Starts of each unit in the life of the process.
    starts: BTreeMap<String, Arc<AtomicU64>>,
    /// Those that did not stop when they were told to.
    left: Vec<UnitView>,
}

/// Those of one kind, by their names in the configuration.
struct Kind<A: Adapter>(BTreeMap<String, Running<A>>);

struct Running<A: Adapter> {
    unit: Unit,
    view: UnitView,
    devices: watch::Sender<Arc<Devices<A::Device>>>,
}

impl<A: Adapter> Default for Kind<A> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl Adapters {
    /// Starts those that do not run yet. Returns why some of them could not be.
    pub(super) async fn start(
        &mut self,
        store: &Store,
        config: &AdapterConfigs,
    ) -> Result<Vec<StartError>, Closed> {
        let mut failed = Vec::new();
        self.left.retain(|left| left.unit.state() != UnitState::Stopped);
        #[cfg(feature = "modbus")]
        for (name, unit) in &config.modbus {
            failed.extend(self.modbus.start(name, unit, store, &mut self.starts, &self.left).await?.err());
        }
        #[cfg(feature = "test-hooks")]
        for (name, unit) in &config.test {
            failed.extend(self.test.start(name, unit, store, &mut self.starts, &self.left).await?.err());
        }
        Ok(failed)
    }

    /// Tells those that run, but for these, which devices are theirs; where nothing changed they notice nothing.
    pub(super) fn tell(&self, config: &AdapterConfigs, but: &BTreeSet<String>) {
        #[cfg(feature = "modbus")]
        config.modbus.iter().for_each(|(name, unit)| self.modbus.tell(name, &unit.devices, but));
        #[cfg(feature = "test-hooks")]
        config.test.iter().for_each(|(name, unit)| self.test.tell(name, &unit.devices, but));
    }

    /// Stops these; one that does not stop in time is left behind, and stays in sight until it has.
    pub(super) async fn stop(&mut self, names: &BTreeSet<String>, deadline: Instant) {
        let mut leaving: Vec<(Unit, UnitView)> = Vec::new();
        #[cfg(feature = "modbus")]
        leaving.extend(self.modbus.take(names));
        #[cfg(feature = "test-hooks")]
        leaving.extend(self.test.take(names));
        let mut stopping = JoinSet::new();
        for (mut unit, view) in leaving {
            stopping.spawn(async move { (!unit.stop(deadline).await).then_some(view) });
        }
        while let Some(stopped) = stopping.join_next().await {
            self.left.extend(stopped.ok().flatten());
        }
    }

    /// All of them.
    pub(super) fn views(&self) -> Vec<UnitView> {
        let mut views: Vec<UnitView> = Vec::new();
        #[cfg(feature = "modbus")]
        views.extend(self.modbus.0.values().map(|running| running.view.clone()));
        #[cfg(feature = "test-hooks")]
        views.extend(self.test.0.values().map(|running| running.view.clone()));
        views.extend(self.left.iter().filter(|left| left.unit.state() != UnitState::Stopped).cloned());
        views
    }

    /// Their units' names.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.views().into_iter().map(|view| view.name).collect()
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.views().len()
    }
}

impl<A: Adapter> Kind<A> {
    async fn start(
        &mut self,
        name: &str,
        config: &UnitConfig<A::Config, A::Device>,
        store: &Store,
        starts: &mut BTreeMap<String, Arc<AtomicU64>>,
        left: &[UnitView],
    ) -> Result<Result<(), StartError>, Closed> {
        if self.0.contains_key(name) {
            return Ok(Ok(()));
        }
        let full_name = format!("{}.{name}", A::KIND);
        if left.iter().any(|left| left.name == full_name) {
            // Two of them would ask the same devices on the same port.
            return Ok(Err(StartError::LeftBehind { unit: full_name }));
        }
        let intake = store.intake().await?;
        let (board, report) = Board::new();
        let (tell, devices) = watch::channel(config.devices.clone());
        let (short, config, shutdown) =
            (Arc::<str>::from(name), config.config.clone(), CancellationToken::new());
        let (stop, stamps, taken) = (shutdown.clone(), store.clock().clone(), intake.clone());
        let desk = Desk::default();
        let inquired = desk.clone();
        let starts = starts.entry(full_name.clone()).or_default().clone();
        let counted = starts.clone();
        let run = move || {
            counted.fetch_add(1, Relaxed);
            A::run(
                config.clone(),
                AdapterCx {
                    name: short.clone(),
                    devices: devices.clone(),
                    intake: intake.clone(),
                    report: report.clone(),
                    clock: stamps.clone(),
                    inquiries: inquired.open(),
                    shutdown: stop.clone(),
                },
            )
        };
        let unit = match supervisor::start(full_name.clone(), shutdown, run) {
            Ok(unit) => unit.handing_in_by(taken),
            Err(source) => return Ok(Err(StartError::Thread { unit: full_name, source })),
        };
        let view = UnitView { name: full_name, unit: unit.watch(), board, desk, starts };
        self.0.insert(name.to_owned(), Running { unit, view, devices: tell });
        Ok(Ok(()))
    }

    fn tell(&self, name: &str, devices: &Arc<Devices<A::Device>>, but: &BTreeSet<String>) {
        let Some(running) = self.0.get(name).filter(|running| !but.contains(&running.view.name)) else {
            return;
        };
        running.devices.send_if_modified(|known| {
            let changed = *known != *devices;
            // Also if they are the same: one copy of them is enough.
            known.clone_from(devices);
            changed
        });
    }

    fn take(&mut self, names: &BTreeSet<String>) -> Vec<(Unit, UnitView)> {
        let ours = self.0.iter().filter(|(_, running)| names.contains(&running.view.name));
        let ours: Vec<String> = ours.map(|(name, _)| name.clone()).collect();
        ours.iter()
            .filter_map(|name| self.0.remove(name))
            .map(|running| (running.unit, running.view))
            .collect()
    }
}
