//! Start order, wiring, shutdown order: the only file that knows every part.
//!
//! Up: control socket, store, clock, uplink, adapters. Down: adapters (their last samples get in), uplink (the last
//! confirmations), store (the last commits). A stop at any other moment loses nothing that was answered.

use crate::{
    config::{Config, Uplink as UplinkChoice, adapters::UnitConfig},
    control::{
        self,
        view::{UnitView, View},
    },
    endpoints::Directory,
    fault::{self, Code, Fault},
    journal, losses,
    shape::Shape,
    store::{self, Closed, Store},
    supervisor::{self, Unit},
    trust::watch::Watch,
    uplink::{self, Uplink},
};
use adapter_api::{Adapter, AdapterCx, Board, CancellationToken, clock, inquiry::Desk};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};

/// All of the shutdown together.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// Of it, for the adapters.
const ADAPTERS: Duration = Duration::from_secs(4);
/// Of it, for the store: an uplink that hangs must not take it.
const STORE: Duration = Duration::from_secs(3);

/// A running gateway.
pub struct Daemon {
    store: Store,
    store_died: oneshot::Receiver<()>,
    /// Whoever looks at the system's clock, and whoever reports what was dropped; they end with the daemon.
    _watchers: JoinSet<()>,
    uplink: Option<Unit>,
    adapters: Vec<Unit>,
    view: Arc<View>,
    control: JoinSet<()>,
}

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// It ended at once.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// A thread could not be started.
    #[error("no thread for {unit}: {}", fault::words(source))]
    Thread {
        /// Whose.
        unit: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The control socket could not be opened.
    #[error(transparent)]
    Control(#[from] control::server::ListenError),
}

impl StartError {
    /// For people, where there is more to say than the error itself.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Store(error) => Some(error.fault()),
            Self::Control(error) => {
                let code = match error {
                    control::server::ListenError::InUse { .. } => Code::DatabaseLocked,
                    control::server::ListenError::Io { .. } => Code::ControlSocket,
                };
                Some(Fault::new(code, error.to_string(), "gateway.control_socket"))
            }
            Self::Thread { unit, .. } => Some(Fault::new(Code::NoThread, self.to_string(), unit.as_str())),
            Self::Closed(_) => None,
        }
    }

    /// Whether starting again would not help: a person has to change something.
    pub fn is_config(&self) -> bool {
        use store::OpenError::{Foreign, Newer};
        matches!(self, Self::Store(Newer { .. } | Foreign { .. }))
    }
}

impl Daemon {
    /// Starts everything. From the store's opening on, nothing outside can make it fail: an adapter or
    /// a platform that is not there is only unhealthy.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let directory = Arc::new(config.directory());
        let shape = Shape::new(directory.clone(), matches!(config.uplink, UplinkChoice::Mqtt(_)))
            .device_time(config.clock.device_time);
        let options = store::Options {
            dir: config.gateway.state_dir.clone(),
            commit_within: config.store.commit_within,
            max_sample_bytes: config.store.max_sample_bytes,
            boot_id: clock::boot_id(),
            limits: config.store.limits.clone(),
        };
        // Before anything is seen outside: a second gateway must not push the first one off its broker.
        let socket = control::server::bind(&config.gateway.control_socket)?;
        let (store, store_died) = store::open(&options, &directory, shape)?;
        let watch = Watch::begin(config.clock.trust, config.clock.hold, &store).await?;
        let trust = watch.view();
        let mut watchers = JoinSet::new();
        watchers.spawn(watch.run());
        if let Some(own) = &config.gateway.endpoint {
            let report = losses::report(store.clone(), store.intake().await?, own.clone());
            // It ends when the store has.
            watchers.spawn(async move { report.await.unwrap_or_default() });
        }
        let (uplink, handle) = start_uplink(config, &directory, &store)?;
        let (mut adapters, mut views) = (Vec::new(), Vec::new());
        start_adapters(config, &store, &mut adapters, &mut views).await?;
        let view = Arc::new(View { store: store.clone(), trust, uplink: handle, units: views, directory });
        let shown = view.clone();
        watchers.spawn(journal::keep(async move || shown.status().await.ok()));
        let mut control = JoinSet::new();
        control.spawn(control::server::serve(socket, view.clone()));
        tracing::info!(endpoints = config.endpoints.len(), adapters = adapters.len(), "started");
        Ok(Self { store, store_died, _watchers: watchers, uplink, adapters, view, control })
    }

    /// What `status` and the demo look at.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Resolves when the store has died: then the process has to end.
    pub async fn store_died(&mut self) {
        let _dropped = (&mut self.store_died).await;
    }

    /// Stops the adapters; what they have measured gets in.
    pub async fn stop_adapters(&mut self) {
        let deadline = clock::now() + ADAPTERS;
        let mut stopping = JoinSet::new();
        for mut unit in self.adapters.drain(..) {
            stopping.spawn(async move {
                unit.stop(deadline).await;
            });
        }
        while stopping.join_next().await.is_some() {}
    }

    /// Stops everything in order.
    pub async fn stop(mut self) -> Result<(), Closed> {
        let deadline = clock::now() + SHUTDOWN;
        self.stop_adapters().await;
        if let Some(uplink) = &mut self.uplink {
            uplink.stop(deadline - STORE).await;
        }
        self.control.abort_all();
        let stopped = clock::timeout(deadline.since(clock::now()), self.store.stop()).await;
        tracing::info!("stopped");
        stopped.unwrap_or(Err(Closed))
    }
}

fn start_uplink(
    config: &Config,
    directory: &Arc<Directory>,
    store: &Store,
) -> Result<(Option<Unit>, Option<Uplink>), StartError> {
    let UplinkChoice::Mqtt(config) = &config.uplink else { return Ok((None, None)) };
    let handle = Uplink::default();
    let (config, directory, store, uplink) =
        (config.clone(), directory.clone(), store.clone(), handle.clone());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let run = move || {
        uplink::run(config.as_ref().clone(), directory.clone(), store.clone(), uplink.clone(), stop.clone())
    };
    let unit = supervisor::start("uplink".into(), shutdown, run)
        .map_err(|source| StartError::Thread { unit: "uplink".into(), source })?;
    handle.run_by(unit.watch());
    Ok((Some(unit), Some(handle)))
}

async fn start_adapters(
    config: &Config,
    store: &Store,
    units: &mut Vec<Unit>,
    views: &mut Vec<UnitView>,
) -> Result<(), StartError> {
    #[cfg(feature = "modbus")]
    for (name, unit) in &config.adapters.modbus {
        start_adapter::<adapter_modbus::Modbus>(name, unit, store, units, views).await?;
    }
    #[cfg(feature = "test-hooks")]
    for (name, unit) in &config.adapters.test {
        start_adapter::<adapter_api::test_adapter::Test>(name, unit, store, units, views).await?;
    }
    Ok(())
}

async fn start_adapter<A: Adapter>(
    name: &str,
    unit: &UnitConfig<A::Config, A::Device>,
    store: &Store,
    units: &mut Vec<Unit>,
    views: &mut Vec<UnitView>,
) -> Result<(), StartError> {
    let intake = store.intake().await?;
    let (board, report) = Board::new();
    let full_name = format!("{}.{name}", A::KIND);
    // The sending half is kept by the closure: devices change only with a restart so far.
    let (devices_tx, devices) = watch::channel(Arc::new(unit.devices.clone()));
    let (short, config, shutdown) = (Arc::<str>::from(name), unit.config.clone(), CancellationToken::new());
    let (stop, stamps) = (shutdown.clone(), store.clock().clone());
    let desk = Desk::default();
    let inquired = desk.clone();
    let taken = intake.clone();
    let run = move || {
        let _held = &devices_tx;
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
    let started = supervisor::start(full_name.clone(), shutdown, run);
    let unit = started
        .map_err(|source| StartError::Thread { unit: full_name.clone(), source })?
        .handing_in_by(taken);
    views.push(UnitView { name: full_name, unit: unit.watch(), board, desk });
    units.push(unit);
    Ok(())
}
