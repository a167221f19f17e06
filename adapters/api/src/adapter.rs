//! What an adapter is: a function `run(config, cx)` on its own thread, restarted for ever with backoff.

use crate::{CancellationToken, Clock, EndpointName, Intake, Reporter, Resource};
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};
use tokio::sync::watch;

/// The devices of one adapter, by endpoint.
pub type Devices<D> = BTreeMap<EndpointName, D>;

/// A protocol adapter.
pub trait Adapter: 'static {
    /// Its name in `[adapters.KIND.*]` and `[endpoints.*.KIND]`.
    const KIND: &'static str;
    /// Devices wait for an answer of this adapter (MQTT, CoAP), so that data it may not keep is refused to them.
    const ANSWERS_DEVICES: bool;
    /// Its `[adapters.<kind>.<name>]` table. A change restarts the adapter.
    type Config: DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static;
    /// Its half of an `[endpoints.<name>]` table, without the key `adapter`. A change arrives live.
    type Device: DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static;

    /// What is wrong with a configuration that parsed.
    fn check(config: &Self::Config, devices: &Devices<Self::Device>) -> Vec<Issue>;

    /// What is probably not meant in a configuration that is right. Devices that are not enabled are left out.
    fn doubts(_config: &Self::Config, _devices: &Devices<Self::Device>) -> Vec<Issue> {
        Vec::new()
    }

    /// The resources that are known before the device has spoken.
    fn resources(device: &Self::Device) -> Vec<Resource>;

    /// Runs until `cx.shutdown`. Returning earlier, or panicking, means "restart me after a backoff".
    fn run(config: Self::Config, cx: AdapterCx<Self::Device>) -> impl Future<Output = Result<(), Failure>>;
}

/// What an adapter is given to live with.
#[derive(Debug)]
pub struct AdapterCx<D> {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its devices; changes arrive live, batched.
    pub devices: watch::Receiver<Arc<Devices<D>>>,
    /// Where samples go.
    pub intake: Intake,
    /// Where presence and health go.
    pub report: Reporter,
    /// The stamps of samples.
    pub clock: Clock,
    /// Cancelled when the adapter has to stop, within 2 s and after its last samples were submitted.
    pub shutdown: CancellationToken,
}

/// Why an adapter gave up for now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Something wrong in a configuration; resolved to file, line and column by `config/check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Which table.
    pub place: Place,
    /// The keys inside that table, outermost first.
    pub path: Vec<String>,
    /// What is wrong.
    pub why: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The table an [`Issue`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The adapter's own table.
    Config,
    /// The adapter's half of this endpoint's table.
    Device(EndpointName),
}
