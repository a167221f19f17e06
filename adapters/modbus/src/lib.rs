//! Modbus TCP: reads the registers of devices by function codes 1 to 4.
//!
//! ```text
//! config -> Target -> bus (one task per connection) -> schedule: who is due -> plan: which requests
//!                                                   -> link: one request -> value -> Sample -> intake
//! ```
//! A connection is dropped at every error and every answer that does not fit, since an answer that
//! comes late would otherwise be taken for another register's value.
//!
//! Not here: writing, RTU and ASCII framing.

mod bus;
mod config;
mod health;
mod link;
mod outstanding;
mod plan;
mod point;
mod schedule;
#[cfg(test)]
mod tests;
mod value;

pub use config::{Config, Device, Register};

use adapter_api::{Adapter, AdapterCx, Devices, Failure, Issue, Presence, Resource, clock::timeout};
use bus::{Shared, Targets};
use config::Host;
use health::{Complaints, Subject};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

/// The Modbus adapter.
#[derive(Debug, Clone, Copy)]
pub struct Modbus;

/// What the connections may take at the shutdown; they keep to less by themselves.
const DRAIN: Duration = Duration::from_millis(1_800);

impl Adapter for Modbus {
    const KIND: &'static str = "modbus";
    const ANSWERS_DEVICES: bool = false;
    type Config = Config;
    type Device = Device;

    fn check(config: &Config, devices: &Devices<Device>) -> Vec<Issue> {
        let mut issues = config::check(config);
        for (endpoint, device) in devices {
            issues.extend(config::resolve(config, endpoint, device).err().unwrap_or_default());
        }
        issues
    }

    fn resources(device: &Device) -> Vec<Resource> {
        device.resources.keys().cloned().collect()
    }

    async fn run(config: Config, mut cx: AdapterCx<Device>) -> Result<(), Failure> {
        let shared = Arc::new(Shared {
            timeout: config.timeout,
            connect_timeout: config.connect_timeout,
            intake: cx.intake.clone(),
            report: cx.report.clone(),
            clock: cx.clock.clone(),
            shutdown: cx.shutdown.clone(),
            complaints: Complaints::new(cx.report.clone()),
        });
        let mut buses =
            Buses { config, shared, tasks: JoinSet::new(), open: BTreeMap::new(), known: BTreeSet::new() };
        let (mut configured, mut suspended) = (true, false);
        loop {
            buses.adopt(&cx.devices.borrow_and_update());
            // All arms are cancel-safe.
            tokio::select! {
                biased;
                () = cx.shutdown.cancelled() => break,
                changed = cx.devices.changed(), if configured => configured = changed.is_ok(),
                () = cx.intake.until_full(!suspended) => {
                    suspended = !suspended;
                    buses.shared.complaints.suspend(suspended);
                }
                Some(ended) = buses.tasks.join_next() => survived(ended)?,
            }
        }
        // Tasks that are late are ended with the set.
        let drained = async { while buses.tasks.join_next().await.is_some() {} };
        if timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("stopped before all connections had ended");
        }
        Ok(())
    }
}

/// The connections and who is on them.
struct Buses {
    config: Config,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    open: BTreeMap<Host, watch::Sender<Arc<Targets>>>,
    /// All devices of the last configuration.
    known: BTreeSet<adapter_api::EndpointName>,
}

impl Buses {
    /// Gives every connection its devices. Connections whose devices did not change notice nothing.
    fn adopt(&mut self, devices: &Devices<Device>) {
        let mut wanted: BTreeMap<Host, Targets> = BTreeMap::new();
        for (endpoint, device) in devices {
            match config::resolve(&self.config, endpoint, device) {
                Ok(target) => {
                    let targets = wanted.entry(target.host.clone()).or_default();
                    targets.insert(endpoint.clone(), Arc::new(target));
                }
                // `check` has said it before; whoever did not listen sees it here.
                Err(issues) => {
                    let why = issues.first().map_or("the adapter's host is wrong", |issue| &issue.why);
                    self.shared.report.presence(endpoint, Presence::Offline(format!("configuration: {why}")));
                }
            }
        }
        self.open.retain(|host, _| wanted.contains_key(host));
        for (host, targets) in wanted {
            let targets = Arc::new(targets);
            match self.open.get(&host) {
                Some(bus) => {
                    bus.send_if_modified(|known| {
                        let changed = *known != targets;
                        *known = targets;
                        changed
                    });
                }
                None => {
                    let (tx, rx) = watch::channel(targets);
                    self.tasks.spawn(bus::run(self.shared.clone(), host.clone(), rx));
                    self.open.insert(host, tx);
                }
            }
        }
        self.forget(devices);
    }

    /// After the connections were told: they report nothing about what they no longer have.
    fn forget(&mut self, devices: &Devices<Device>) {
        let known = std::mem::replace(&mut self.known, devices.keys().cloned().collect());
        for endpoint in known.iter().filter(|endpoint| !devices.contains_key(*endpoint)) {
            self.shared.report.forget(endpoint);
        }
        self.shared.complaints.retain(|subject| match subject {
            Subject::Store(endpoint) | Subject::Device(endpoint) => devices.contains_key(endpoint),
            Subject::Polling => true,
            Subject::Link(host) => self.open.contains_key(host),
        });
    }
}

/// A connection's task ends when its host leaves the configuration, or by a panic.
fn survived(ended: Result<(), JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(()) => Ok(()),
        Err(error) => Err(Failure(format!("a connection's task failed: {error}"))),
    }
}
