//! Modbus over TCP and serial lines (RTU, ASCII): reads the registers of devices by function codes 1 to 4.
//!
//! ```text
//! config -> Target -> bus (one task per wire) -> schedule: who is due -> plan: which requests
//!                                             -> link: one request -> value -> Sample -> intake
//! wire: a TCP connection or a serial port    frame: RTU, ASCII, TCP around a pdu (sans-IO)
//! port: a serial port and who switches its direction (wiring, rs485)
//! line: characters, silences, quarantine (sans-IO)    round: one poll, answer by answer (sans-IO)
//! forecast: whether a line can carry what is configured (sans-IO)
//! identity: what a device says of itself (sans-IO)
//! tools -> outside: requests of tools, between two frames of the polls
//! profile: what is known of models    sunspec: what a device says itself that it has (sans-IO)
//! simulate: a slave that is played, from the same profiles
//! ```
//! An answer that comes late never becomes another register's value: a TCP connection is dropped at every
//! error and every answer that does not fit; on a serial line a unit that did not answer is left alone
//! until it cannot answer any more.
//!
//! Not here: writing.

mod bus;
mod config;
mod fault;
mod forecast;
mod frame;
#[cfg(fuzzing)]
pub mod fuzz;
mod health;
mod identity;
mod line;
mod link;
mod mutant;
mod outside;
mod outstanding;
mod pdu;
mod plan;
mod point;
mod port;
pub mod profile;
mod round;
mod rs485;
mod schedule;
pub mod simulate;
mod sunspec;
#[cfg(test)]
mod tests;
pub mod tools;
mod value;
mod wire;
mod wiring;

pub use config::{Config, Device, Register, Rs485, Rs485Table};
pub use fault::FAULTS;
pub use value::Sentinel;

use adapter_api::{
    Adapter, AdapterCx, Devices, EndpointName, Failure, Issue, Presence, Resource, clock::timeout,
};
use bus::{Shared, Targets};
use config::Target;
use health::{Complaints, Subject};
use outside::Outside;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinError, JoinSet},
};
use tools::{Bench, Tap};
use wire::Wire;

/// Tools that ask devices at once; more wait. Who traces, or asks for the wires, asks none.
const TOOLS: usize = 8;
/// Inquiries of all kinds at once; more wait.
const INQUIRIES: usize = 64;

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

    fn doubts(config: &Config, devices: &Devices<Device>) -> Vec<Issue> {
        let mut doubts = forecast::forecast(config, devices);
        doubts.extend(profile::unused(&profile::Library::default(), devices));
        doubts
    }

    fn resources(device: &Device) -> Vec<Resource> {
        config::known(device)
    }

    async fn run(config: Config, mut cx: AdapterCx<Device>) -> Result<(), Failure> {
        let line = match config::line(&config) {
            Ok(line) => line,
            // `check` has said it before.
            Err(issues) => {
                let why = issues.first().map_or_else(String::new, |issue| issue.why.clone());
                return Err(Failure(format!("configuration: {why}")));
            }
        };
        let shared = Arc::new(Shared {
            line,
            connect_timeout: config.connect_timeout,
            intake: cx.intake.clone(),
            report: cx.report.clone(),
            clock: cx.clock.clone(),
            shutdown: cx.shutdown.clone(),
            complaints: Complaints::new(cx.report.clone()),
            tap: Tap::new(),
        });
        let mut buses = Buses {
            config,
            shared,
            tasks: JoinSet::new(),
            open: BTreeMap::new(),
            known: BTreeSet::new(),
            seats: Arc::new(Semaphore::new(TOOLS)),
        };
        let mut tools: JoinSet<()> = JoinSet::new();
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
                Some(ended) = buses.tasks.join_next() => survived(&ended)?,
                Some(inquiry) = cx.inquiries.next(), if tools.len() < INQUIRIES => {
                    let bench = buses.bench(&cx.devices.borrow());
                    tools.spawn(tools::answer_live(bench, inquiry.question, inquiry.telling));
                }
                // A tool that panicked has told its asker nothing more; nobody else notices.
                Some(_ended) = tools.join_next() => {}
            }
        }
        // Tools hold on to their wires' ends.
        tools.shutdown().await;
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
    open: BTreeMap<Connection, Open>,
    /// All devices of the last configuration.
    known: BTreeSet<EndpointName>,
    /// Of tools that ask devices.
    seats: Arc<Semaphore>,
}

/// A wire, and which of the connections to its host.
type Connection = (Wire, u16);

/// A connection's task as the adapter sees it; it ends when this is dropped.
struct Open {
    targets: watch::Sender<Arc<Targets>>,
    outside: Outside,
}

impl Buses {
    /// Gives every connection its devices. Connections whose devices did not change notice nothing.
    fn adopt(&mut self, devices: &Devices<Device>) {
        self.shared.report.devices(devices.len());
        let mut targets: BTreeMap<EndpointName, Target> = BTreeMap::new();
        for (endpoint, device) in devices {
            match config::resolve(&self.config, endpoint, device) {
                Ok(target) => {
                    targets.insert(endpoint.clone(), target);
                }
                // `check` has said it before; whoever did not listen sees it here.
                Err(issues) => {
                    let why = issues.first().map_or("the adapter's host is wrong", |issue| &issue.why);
                    let fault = fault::not_configured(why, format!("endpoint {endpoint}"));
                    self.shared.report.presence(endpoint, Presence::Offline(fault));
                }
            }
        }
        config::spread(config::connections(&self.config).unwrap_or(1), targets.values_mut());
        let mut wanted: BTreeMap<Connection, Targets> = BTreeMap::new();
        for (endpoint, target) in targets {
            let connection = (target.wire.clone(), target.connection);
            wanted.entry(connection).or_default().insert(endpoint, Arc::new(target));
        }
        self.open.retain(|connection, _| wanted.contains_key(connection));
        for (connection, targets) in wanted {
            let targets = Arc::new(targets);
            match self.open.get(&connection) {
                Some(bus) => {
                    bus.targets.send_if_modified(|known| {
                        let changed = *known != targets;
                        *known = targets;
                        changed
                    });
                }
                None => {
                    let (tx, rx) = watch::channel(targets);
                    let (outside, inquiries) = Outside::new();
                    self.tasks.spawn(bus::run(self.shared.clone(), connection.clone(), rx, inquiries));
                    self.open.insert(connection, Open { targets: tx, outside });
                }
            }
        }
        self.forget(devices);
    }

    /// What tools work on.
    fn bench(&self, devices: &Devices<Device>) -> Bench {
        let mut buses: BTreeMap<Wire, tools::Connections> = BTreeMap::new();
        for ((wire, _), open) in &self.open {
            let units = open.targets.borrow().values().map(|target| target.unit).collect();
            buses.entry(wire.clone()).or_default().push((units, open.outside.clone()));
        }
        Bench {
            config: self.config.clone(),
            line: self.shared.line.clone(),
            devices: devices.clone(),
            buses: Some(buses),
            tap: self.shared.tap.clone(),
            clock: self.shared.clock.clone(),
            seats: self.seats.clone(),
        }
    }

    /// After the connections were told: they report nothing about what they no longer have.
    fn forget(&mut self, devices: &Devices<Device>) {
        let known = std::mem::replace(&mut self.known, devices.keys().cloned().collect());
        for endpoint in known.iter().filter(|endpoint| !devices.contains_key(*endpoint)) {
            self.shared.report.forget(endpoint);
        }
        self.shared.complaints.retain(|subject| match subject {
            Subject::Store(endpoint) | Subject::Device(endpoint) | Subject::Registers(endpoint, _) => {
                devices.contains_key(endpoint)
            }
            Subject::Polling => true,
            Subject::Link(wire, n) => self.open.contains_key(&(wire.clone(), *n)),
        });
    }
}

/// A connection's task ends when its host leaves the configuration, or by a panic.
fn survived(ended: &Result<(), JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(()) => Ok(()),
        // Not the error itself: it quotes the panic, which may quote anything (I11).
        Err(_) => Err(Failure("a connection's task panicked".to_owned())),
    }
}
