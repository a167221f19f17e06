//! The way up: what is queued flies to the platform, and is deleted when the platform confirmed it.
//!
//! | file | responsible for |
//! |---|---|
//! | `outflow` | which rows fly, and what becomes of them (sans-IO) |
//! | `parking` | endpoints the platform refuses for now (sans-IO) |
//! | `window` | how much may be in the air (sans-IO) |
//! | `subscribe` | filters a connection still has to ask for (sans-IO) |
//! | `engine` | one session's machine of these and the dialect (sans-IO) |
//! | `mqtt` | one MQTT 3.1.1 connection (sans-IO) |
//! | `session` | the only place that awaits |
//! | `link`, `tls` | TCP and TLS |
//! | `diagnosis` | what a failed connection means (sans-IO) |
//!
//! A session key says which connection carries an endpoint. Both dialects so far carry all endpoints
//! on one, so one session runs; several come with the first dialect that needs them.

mod diagnosis;
pub(crate) mod engine;
mod link;
pub(crate) mod mqtt;
pub mod outflow;
mod parking;
mod session;
#[cfg(test)]
mod sim;
mod subscribe;
mod tls;
pub(crate) mod window;

use crate::{
    backoff::Rng,
    config::UplinkConfig,
    endpoints::{Directory, EndpointKey},
    fault::{Code, Fault},
    store::{Closed, LaneId, Store},
};
use adapter_api::{CancellationToken, clock};
use engine::{Counts, Engine};
use outflow::Pace;
use serde::{Deserialize, Serialize};
use session::Session;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{mpsc, oneshot};

/// How the uplink is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There is none: `uplink.kind = "none"`.
    #[default]
    None,
    /// Not connected; it is tried for ever.
    Connecting,
    /// Connected.
    Up,
    /// Connected, and the platform refuses most of what flies.
    Degraded,
}

/// A parked endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// Whose lanes wait.
    pub endpoint: String,
    /// In the platform's words.
    pub why: String,
    /// What it means; explained in `faults`.
    pub code: Code,
}

/// A session as `status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SessionStatus {
    /// How it is doing.
    pub state: State,
    /// The broker in use or tried last.
    pub address: String,
    /// Connections that came up since the process started.
    pub connections: u64,
    /// Why the last connection ended or did not come up.
    pub last_error: Option<String>,
    /// What is wrong now, for people.
    pub fault: Option<Fault>,
    /// Some endpoints still wait for their subscription.
    pub subscribing: bool,
    /// Endpoints the platform refuses for now.
    pub parked: Vec<Parked>,
    /// Why, for people: one of each kind.
    pub faults: Vec<Fault>,
    /// Samples confirmed since the process started.
    pub delivered: u64,
    /// Batches the platform refused.
    pub refused: u64,
    /// Replies that did not come in time.
    pub missed: u64,
    /// Replies that belong to nothing in the air.
    pub stale_replies: u64,
    /// Messages that are not for us.
    pub ignored: u64,
}

/// A question about the session, and about some lanes.
pub(crate) struct Question {
    pub(crate) lanes: Vec<LaneId>,
    pub(crate) answer: oneshot::Sender<(SessionStatus, Vec<&'static str>)>,
}

/// A handle on the uplink, which outlives its restarts.
#[derive(Debug, Clone, Default)]
pub struct Uplink(Arc<Mutex<Option<mpsc::Sender<Question>>>>);

impl Uplink {
    /// The end a started uplink answers from.
    pub(crate) fn attach(&self) -> mpsc::Receiver<Question> {
        // A handful of people look at a time.
        let (tx, rx) = mpsc::channel(8);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tx);
        rx
    }

    /// The session's status, and what these lanes are doing; `None` while the uplink is being restarted.
    pub async fn status(&self, lanes: Vec<LaneId>) -> Option<(SessionStatus, Vec<&'static str>)> {
        let questions = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let (answer, status) = oneshot::channel();
        questions.send(Question { lanes, answer }).await.ok()?;
        status.await.ok()
    }
}

impl SessionStatus {
    fn park(&mut self, parked: Vec<Parked>) {
        let mut kinds = BTreeMap::<Code, (&Parked, usize)>::new();
        for endpoint in &parked {
            kinds.entry(endpoint.code).or_insert((endpoint, 0)).1 += 1;
        }
        let faults = kinds.into_iter().map(|(code, (first, count))| {
            let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            Fault::new(code, first.why.as_str(), format!("endpoint {}{others}", first.endpoint))
        });
        self.faults = faults.collect();
        self.parked = parked;
    }

    fn count(&mut self, counts: Counts) {
        self.delivered = counts.delivered;
        self.refused = counts.refused;
        self.missed = counts.missed;
        self.stale_replies = counts.stale_replies;
        self.ignored = counts.ignored;
    }
}

impl From<(EndpointKey, String)> for Parked {
    fn from((endpoint, why): (EndpointKey, String)) -> Self {
        let code = match why.as_str() {
            engine::SUBSCRIPTION_REFUSED => Code::SubscriptionRefused,
            outflow::NO_ANSWER => Code::NoReplies,
            _ => Code::EndpointRefused,
        };
        Self { endpoint: endpoint.to_string(), why, code }
    }
}

/// Carries all endpoints until the daemon stops.
pub(crate) async fn run(
    config: UplinkConfig,
    directory: Arc<Directory>,
    store: Store,
    questions: mpsc::Receiver<Question>,
    shutdown: CancellationToken,
) -> Result<(), Closed> {
    let client_id = match &config.client_id {
        Some(id) => id.clone(),
        // Drawn once: the broker keeps the session of a client id over our restarts.
        None => {
            let drawn = format!("tidegate-{:016x}", Rng::new().u64(..));
            String::from_utf8_lossy(&store.keep("uplink", "client_id", drawn.into_bytes()).await?)
                .into_owned()
        }
    };
    let pace = Pace {
        confirm_timeout: config.confirm_timeout,
        retry: (*config.retry.start(), *config.retry.end()),
        probe: (*config.probe.start(), *config.probe.end()),
        batch: config.dialect.batch(),
        replies: config.dialect.replies(),
    };
    let events = store.uplink().await?;
    let engine =
        Engine::new(clock::now(), config.dialect.clone(), directory, config.max_payload, pace, Rng::new());
    let status = SessionStatus { state: State::Connecting, ..SessionStatus::default() };
    let session = Session {
        config,
        client_id,
        engine,
        store,
        events,
        questions,
        shutdown,
        rng: Rng::new(),
        status,
        up_since: None,
        told: BTreeMap::new(),
    };
    session.run().await
}
