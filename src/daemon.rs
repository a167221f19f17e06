//! Start order, wiring, shutdown order: the only file that knows every part.
//!
//! Up: control socket, store, clock, uplink, adapters. Down: adapters (their last samples get in), uplink (the last
//! confirmations), store (the last commits). A stop at any other moment loses nothing that was answered.
//!
//! `daemon/units`: the adapters that run, and how they are started; `daemon/change`: another configuration while
//! all of it runs.

mod change;
mod units;

use crate::{
    config::{Config, Finding, Uplink as UplinkChoice, UplinkConfig},
    control::{
        self,
        errand::Errand,
        live::Live,
        view::{Configuration, View},
    },
    endpoints::Directory,
    fault::{self, Code, Fault, Notice},
    http::Http,
    journal, losses,
    shape::Shape,
    store::{self, Change, Closed, Store},
    supervisor::{self, Unit},
    trust::watch::{TrustView, Watch},
    uplink::{self, Uplink},
};
use adapter_api::{CancellationToken, EndpointName, clock};
pub use change::{ReloadError, SwitchError, tell};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use units::Adapters;

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
    trust: TrustView,
    /// Whoever looks at the system's clock; it ends with the daemon.
    watchers: JoinSet<()>,
    /// Whoever reports what was dropped.
    reporters: JoinSet<()>,
    /// The configuration as the file has it, and as it is in force: without the endpoints that were disabled, and
    /// with what only a new process takes up as it was.
    given: Config,
    config: Config,
    /// Not all of it is: what was applied last has to be tried again.
    unfinished: bool,
    disabled: BTreeSet<EndpointName>,
    /// What was thought of the file when it was read anew: told once.
    warned: Vec<Finding>,
    directory: Arc<Directory>,
    uplink: Option<Unit>,
    handle: Uplink,
    adapters: Adapters,
    told: Configuration,
    live: Live,
    errands: Option<mpsc::Receiver<Errand>>,
    control: JoinSet<()>,
    http: Http,
    notice: Notice,
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
    /// One of this name was told to stop, and its thread is still there.
    #[error(
        "{unit} did not stop, and is not started beside itself; it is when its thread has ended, or with a restart of \
         the process"
    )]
    LeftBehind {
        /// Which.
        unit: String,
    },
    /// The control socket could not be opened.
    #[error(transparent)]
    Control(#[from] control::server::ListenError),
}

/// Against a second gateway that was made by copying the file of the first.
const OF_ITS_OWN: &str = "stop the other one, or give this one a gateway.control_socket and a gateway.state_dir of its \
                          own; for tidegate@NAME /run/tidegate-NAME/control.sock and /var/lib/tidegate/NAME";

impl StartError {
    /// For people, where there is more to say than the error itself.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Store(error) => Some(error.fault()),
            Self::Control(error) => {
                let fault = |code| Fault::new(code, error.to_string(), "gateway.control_socket");
                Some(match error {
                    control::server::ListenError::InUse { .. } => {
                        fault(Code::DatabaseLocked).with_remedy(OF_ITS_OWN.to_owned())
                    }
                    control::server::ListenError::Io { .. } => fault(Code::ControlSocket),
                })
            }
            Self::Thread { unit, .. } => Some(Fault::new(Code::NoThread, self.to_string(), unit.as_str())),
            Self::LeftBehind { unit } => {
                Some(Fault::new(Code::UnitLeftBehind, self.to_string(), unit.as_str()))
            }
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
    /// a platform that is not there is only unhealthy. `file`: where the configuration is from, if from a file.
    pub async fn start(config: Config, file: Option<PathBuf>) -> Result<Self, StartError> {
        let given = config;
        let directory = Arc::new(given.directory());
        let shape = Shape::new(directory.clone(), has_uplink(&given)).device_time(given.clock.device_time);
        // Before anything is seen outside: a second gateway must not push the first one off its broker.
        let socket = control::server::bind(&given.gateway.control_socket)?;
        let (store, store_died) = store::open(&options(&given), &directory, shape)?;
        let watch = Watch::begin(given.clock.trust, given.clock.hold, &store).await?;
        let trust = watch.view();
        let mut watchers = JoinSet::new();
        watchers.spawn(watch.run());
        let known = change::disabled(&store).await?;
        let disabled = given.by_present_names(&known);
        let config = given.without(&disabled);
        let told = Configuration::new(file);
        let handle = Uplink::new(directory.clone());
        let notice = Notice::default();
        let view = View {
            store: store.clone(),
            trust: trust.clone(),
            uplink: None,
            units: Vec::new(),
            directory: directory.clone(),
            configuration: told.clone(),
            http: notice.clone(),
        };
        let (live, errands) = Live::new(view);
        let mut daemon = Self {
            store,
            store_died,
            trust,
            watchers,
            reporters: JoinSet::new(),
            given,
            config,
            unfinished: false,
            disabled,
            warned: Vec::new(),
            directory,
            uplink: None,
            handle,
            adapters: Adapters::default(),
            told,
            live: live.clone(),
            errands: Some(errands),
            control: JoinSet::new(),
            http: Http::new(notice.clone(), live.clone()),
            notice,
        };
        if known != daemon.disabled {
            // It outlives the line in the file that told of the former name.
            daemon.keep_disabled(&daemon.disabled).await?;
        }
        if !daemon.disabled.is_empty() {
            daemon.told.disabled = daemon.disabled_in_force();
            daemon.directory = Arc::new(daemon.config.directory());
            if let Err(fault) = daemon.change_store(&daemon.config, daemon.directory.clone()).await? {
                fault.log_error("endpoints that were disabled are not");
            }
        }
        daemon.start_reporter().await?;
        if let UplinkChoice::Mqtt(config) = daemon.config.uplink.clone() {
            daemon.start_uplink(*config)?;
        }
        let config = daemon.config.adapters.clone();
        if let Some(error) = daemon.adapters.start(&daemon.store, &config).await?.into_iter().next() {
            return Err(error);
        }
        daemon.show();
        daemon.http.apply(daemon.config.http.as_ref(), clock::now()).await;
        let shown = live.clone();
        daemon.watchers.spawn(journal::keep(async move || shown.now().status().await.ok()));
        daemon.control.spawn(control::server::serve(socket, live));
        let (endpoints, adapters) = (daemon.config.endpoints.len(), daemon.adapters.len());
        tracing::info!(endpoints, adapters, "started");
        Ok(daemon)
    }

    /// What `status` and the demo look at.
    pub fn view(&self) -> Arc<View> {
        self.live.now()
    }

    /// Whoever watches the file says there why changes of it are noticed late.
    pub fn watched_by(&mut self, late: Notice) {
        self.told.late = late;
        self.show();
    }

    /// The same, as it changes.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// What is asked for on the control socket, and changes something; once.
    pub fn errands(&mut self) -> Option<mpsc::Receiver<Errand>> {
        self.errands.take()
    }

    /// Resolves when the store has died: then the process has to end.
    pub async fn store_died(&mut self) {
        let _dropped = (&mut self.store_died).await;
    }

    /// Stops the adapters; what they have measured gets in.
    pub async fn stop_adapters(&mut self) {
        let all = self.adapters.names();
        self.adapters.stop(&all, clock::now() + ADAPTERS).await;
    }

    /// Stops everything in order.
    pub async fn stop(mut self) -> Result<(), Closed> {
        let deadline = clock::now() + SHUTDOWN;
        self.stop_adapters().await;
        if let Some(uplink) = &mut self.uplink {
            uplink.stop(deadline - STORE).await;
        }
        self.control.abort_all();
        self.http.stop(deadline).await;
        let stopped = clock::timeout(deadline.since(clock::now()), self.store.stop()).await;
        tracing::info!("stopped");
        stopped.unwrap_or(Err(Closed))
    }

    /// Tells the store of a configuration's endpoints, rules and limits.
    async fn change_store(
        &self,
        config: &Config,
        directory: Arc<Directory>,
    ) -> Result<Result<(), Fault>, Closed> {
        let change = Change {
            directory,
            uplink: has_uplink(config),
            device_time: config.clock.device_time,
            commit_within: config.store.commit_within,
            limits: config.store.limits.clone(),
        };
        self.store.change(change).await
    }

    /// Whoever reports what was dropped, on the gateway's own endpoint, if it has one.
    async fn start_reporter(&mut self) -> Result<(), Closed> {
        self.reporters.abort_all();
        if let Some(own) = &self.config.gateway.endpoint {
            let report = losses::report(self.store.clone(), self.store.intake().await?, own.clone());
            // It ends when the store has.
            self.reporters.spawn(async move { report.await.unwrap_or_default() });
        }
        Ok(())
    }

    fn start_uplink(&mut self, config: UplinkConfig) -> Result<(), StartError> {
        self.handle.carry(self.directory.clone());
        let (store, uplink) = (self.store.clone(), self.handle.clone());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let run = move || uplink::run(config.clone(), store.clone(), uplink.clone(), stop.clone());
        let unit = supervisor::start("uplink".into(), shutdown, run)
            .map_err(|source| StartError::Thread { unit: "uplink".into(), source })?;
        self.handle.run_by(unit.watch());
        self.uplink = Some(unit);
        Ok(())
    }

    /// Shows what is there now.
    fn show(&self) {
        self.live.show(View {
            store: self.store.clone(),
            trust: self.trust.clone(),
            uplink: self.uplink.is_some().then(|| self.handle.clone()),
            units: self.adapters.views(),
            directory: self.directory.clone(),
            configuration: self.told.clone(),
            http: self.notice.clone(),
        });
    }
}

fn options(config: &Config) -> store::Options {
    store::Options {
        dir: config.gateway.state_dir.clone(),
        commit_within: config.store.commit_within,
        max_sample_bytes: config.store.max_sample_bytes,
        boot_id: clock::boot_id(),
        limits: config.store.limits.clone(),
    }
}

fn has_uplink(config: &Config) -> bool {
    matches!(config.uplink, UplinkChoice::Mqtt(_))
}
