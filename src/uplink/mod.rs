//! The way up: what is queued flies to the platform, and is deleted when the platform confirmed it.
//!
//! | file | responsible for |
//! |---|---|
//! | `outflow` | which rows fly, and what becomes of them (sans-IO) |
//! | `parking` | endpoints the platform refuses for now (sans-IO) |
//! | `suspects` | whose part it is that the broker hangs up on (sans-IO) |
//! | `window` | how much may be in the air (sans-IO) |
//! | `pacing`, `budget` | what the operator allows in a second, and in a day (sans-IO) |
//! | `subscribe` | filters a connection still has to ask for (sans-IO) |
//! | `engine` | one session's machine of these and the dialect (sans-IO) |
//! | `mqtt` | one MQTT 3.1.1 connection (sans-IO) |
//! | `redial` | which address is tried next, and when (sans-IO) |
//! | `session` | the only place that awaits |
//! | `link`, `tls`, `traffic` | TCP and TLS; how many bytes go over them |
//! | `diagnosis` | what a failed connection means (sans-IO) |
//! | `probe` | one try on the way to a broker, step by step, for tools |
//! | `fuzz` | what `tests/fuzz` drives; in its builds only |
//!
//! The dialect's session key says which connection carries an endpoint; each key has its own session
//! with its own engine. Both dialects so far carry all endpoints on one.

pub mod budget;
mod diagnosis;
pub(crate) mod engine;
#[cfg(fuzzing)]
pub mod fuzz;
mod link;
pub(crate) mod mqtt;
pub mod outflow;
pub mod pacing;
mod parking;
pub mod probe;
mod redial;
mod session;
#[cfg(test)]
mod sim;
mod subscribe;
mod suspects;
mod tls;
mod traffic;
pub(crate) mod window;

use crate::{
    backoff::Rng,
    config::UplinkConfig,
    dialect::SessionKey,
    endpoints::{Directory, Endpoint, EndpointKey},
    fault::{Code, Fault},
    store::{Closed, LaneId, Store},
    supervisor::UnitWatch,
};
use adapter_api::{CancellationToken, clock};
use budget::{Budget, Spent};
use engine::{Counts, Engine};
use outflow::{NOT_MINE, Pace};
use serde::{Deserialize, Serialize};
use session::Session;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use traffic::Traffic;

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

impl State {
    /// The one that a person should look at.
    fn worse(self, other: Self) -> Self {
        let rank =
            |state| [Self::None, Self::Up, Self::Degraded, Self::Connecting].iter().position(|s| *s == state);
        if rank(other) > rank(self) { other } else { self }
    }
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
    /// For so many seconds it has been connected, or not.
    pub for_s: u64,
    /// How often the uplink was started in the life of the process.
    pub starts: u64,
    /// Connections that came up since then.
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
    /// Bytes handed to TCP, TLS and its handshakes included, in the life of the process.
    pub sent_bytes: u64,
    /// Bytes that came from there, likewise.
    pub received_bytes: u64,
    /// It did not answer: which endpoints it has parked is not known.
    #[serde(skip)]
    pub unheard: bool,
    /// What of the day's budget is spent, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Spent>,
}

/// A question about the session, and about some lanes.
pub(crate) struct Question {
    pub(crate) lanes: Vec<LaneId>,
    pub(crate) answer: oneshot::Sender<(SessionStatus, Vec<&'static str>)>,
}

/// Why the uplink ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The store has.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// A session panicked; the journal says where.
    #[error("a session panicked")]
    Panicked,
}

/// A handle on the uplink, which outlives its restarts.
#[derive(Debug, Clone)]
pub struct Uplink(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    ends: Mutex<Ends>,
    /// Whose samples it carries.
    directory: watch::Sender<Arc<Directory>>,
    starts: AtomicU64,
    /// Of all sessions there were.
    traffic: Traffic,
}

#[derive(Debug, Default)]
struct Ends {
    sessions: Vec<mpsc::Sender<Question>>,
    unit: Option<UnitWatch>,
}

/// An uplink that says nothing for so long does not turn.
const PATIENCE: Duration = Duration::from_secs(5);

impl Uplink {
    /// Forgets the sessions of an earlier start.
    fn restart(&self) {
        self.0.starts.fetch_add(1, Relaxed);
        self.with(|ends| ends.sessions.clear());
    }

    /// The unit it is run by.
    pub(crate) fn run_by(&self, unit: UnitWatch) {
        self.with(|ends| ends.unit = Some(unit));
    }

    /// What is wrong with the unit it is run by.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.with(|ends| ends.unit.clone())?.fault("uplink")
    }

    fn with<T>(&self, look: impl FnOnce(&mut Ends) -> T) -> T {
        look(&mut self.0.ends.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An uplink that is to carry these endpoints.
    pub fn new(directory: Arc<Directory>) -> Self {
        let handle = Handle {
            ends: Mutex::default(),
            directory: watch::Sender::new(directory),
            starts: AtomicU64::new(0),
            traffic: Traffic::default(),
        };
        Self(Arc::new(handle))
    }

    /// It carries these from now on; those that stay as they were notice nothing.
    pub fn carry(&self, directory: Arc<Directory>) {
        self.0.directory.send_replace(directory);
    }

    /// The end that a session answers from.
    fn attach(&self) -> mpsc::Receiver<Question> {
        // A handful of people look at a time.
        let (tx, rx) = mpsc::channel(8);
        self.with(|ends| ends.sessions.push(tx));
        rx
    }

    /// The status of all sessions together, and what these lanes are doing. While the uplink is being restarted, or
    /// does not turn, that is a fault, and what does not depend on its answer.
    pub async fn status(&self, lanes: Vec<LaneId>) -> (SessionStatus, Vec<&'static str>) {
        let answer = clock::timeout(PATIENCE, self.ask(lanes)).await.ok().flatten();
        let (mut status, phases) = answer.unwrap_or_else(|| (self.unheard(), Vec::new()));
        status.fault = status.fault.take().or_else(|| self.fault());
        status.starts = self.0.starts.load(Relaxed);
        (status.sent_bytes, status.received_bytes) = (self.0.traffic.sent(), self.0.traffic.received());
        (status, phases)
    }

    fn unheard(&self) -> SessionStatus {
        let what = "the uplink is started again, or too busy to answer";
        let fault = self.fault().unwrap_or_else(|| Fault::new(Code::UnitEnded, what, "uplink"));
        SessionStatus {
            state: State::Connecting,
            last_error: Some(fault.what.clone()),
            fault: Some(fault),
            unheard: true,
            ..SessionStatus::default()
        }
    }

    async fn ask(&self, lanes: Vec<LaneId>) -> Option<(SessionStatus, Vec<&'static str>)> {
        let sessions = self.with(|ends| ends.sessions.clone());
        let mut all: Option<(SessionStatus, Vec<&'static str>)> = None;
        for session in sessions {
            let (answer, status) = oneshot::channel();
            session.send(Question { lanes: lanes.clone(), answer }).await.ok()?;
            let (status, phases) = status.await.ok()?;
            match &mut all {
                None => all = Some((status, phases)),
                Some((sum, known)) => {
                    sum.add(status);
                    for (known, phase) in
                        known.iter_mut().zip(phases).filter(|(known, _)| **known == NOT_MINE)
                    {
                        *known = phase;
                    }
                }
            }
        }
        all
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

    /// Adds another session: the worst state, the sums, the last error there is.
    fn add(&mut self, other: Self) {
        let worse = self.state.worse(other.state);
        if worse != self.state {
            self.for_s = other.for_s;
        }
        self.state = worse;
        self.connections += other.connections;
        self.last_error = self.last_error.take().or(other.last_error);
        self.subscribing |= other.subscribing;
        self.fault = self.fault.take().or(other.fault);
        self.parked.extend(other.parked);
        for fault in other.faults {
            if self.faults.iter().all(|known| known.code != fault.code) {
                self.faults.push(fault);
            }
        }
        self.delivered += other.delivered;
        self.refused += other.refused;
        self.missed += other.missed;
        self.stale_replies += other.stale_replies;
        self.ignored += other.ignored;
        self.budget = self.budget.take().or(other.budget);
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
            outflow::HUNG_UP => Code::PayloadTooLarge,
            _ => Code::EndpointRefused,
        };
        Self { endpoint: endpoint.to_string(), why, code }
    }
}

/// Carries all endpoints until the daemon stops: a session for each key of the dialect.
pub(crate) async fn run(
    config: UplinkConfig,
    store: Store,
    handle: Uplink,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let client_id = match &config.client_id {
        Some(id) => id.clone(),
        // Drawn once: the broker keeps the session of a client id over our restarts.
        None => {
            let drawn = format!("tidegate-{:016x}", Rng::new().u64(..));
            String::from_utf8_lossy(&store.keep("uplink", "client_id", drawn.into_bytes()).await?)
                .into_owned()
        }
    };
    handle.restart();
    let mut directories = handle.0.directory.subscribe();
    let mut sessions = JoinSet::new();
    let mut open_sessions: BTreeMap<SessionKey, watch::Sender<Arc<Directory>>> = BTreeMap::new();
    loop {
        let directory = directories.borrow_and_update().clone();
        let mut carried = divided(&directory, &config);
        for (key, session) in &open_sessions {
            // One that has nothing to carry any more stays: the platform still sees the gateway.
            session.send_replace(Arc::new(Directory::new(carried.remove(key).unwrap_or_default())));
        }
        for (key, endpoints) in carried {
            let (tell, directories) = watch::channel(Arc::new(Directory::new(endpoints)));
            let session =
                open(key.clone(), directories, &config, &client_id, &store, &handle, &shutdown).await?;
            open_sessions.insert(key, tell);
            sessions.spawn_local(session.run());
        }
        tokio::select! {
            ended = sessions.join_next() => match ended {
                // One that panicked takes the others along: the unit is started again as a whole.
                Some(ended) => ended.map_err(|_| RunError::Panicked)??,
                None => return Ok(()),
            },
            Ok(()) = directories.changed(), if !shutdown.is_cancelled() => {}
        }
    }
}

/// The endpoints of each session.
fn divided(directory: &Directory, config: &UplinkConfig) -> BTreeMap<SessionKey, Vec<Arc<Endpoint>>> {
    let mut carried: BTreeMap<SessionKey, Vec<Arc<Endpoint>>> = BTreeMap::new();
    for endpoint in directory.iter() {
        carried.entry(config.dialect.session_key(endpoint)).or_default().push(endpoint.clone());
    }
    // Without endpoints the platform still sees the gateway.
    if carried.is_empty() {
        carried.insert(SessionKey(None), Vec::new());
    }
    carried
}

async fn open(
    key: SessionKey,
    mut directories: watch::Receiver<Arc<Directory>>,
    config: &UplinkConfig,
    client_id: &str,
    store: &Store,
    handle: &Uplink,
    shutdown: &CancellationToken,
) -> Result<Session, Closed> {
    let pace = Pace {
        confirm_timeout: config.confirm_timeout,
        retry: (*config.retry.start(), *config.retry.end()),
        probe: (*config.probe.start(), *config.probe.end()),
        batch: config.dialect.batch(),
        replies: config.dialect.replies(),
        replay: config.replay,
        limits: config.limits,
    };
    let client_id = match &key.0 {
        None => client_id.to_owned(),
        Some(endpoint) => format!("{client_id}-{}", endpoint.name),
    };
    let directory = directories.borrow_and_update().clone();
    let events = store.uplink(key.clone(), directory.iter().map(|e| e.key.clone()).collect()).await?;
    let dialect = config.dialect.clone();
    let mut engine = Engine::new(clock::now(), key, dialect, directory, config.max_payload, pace, Rng::new());
    if let Some(limit) = config.limits.daily_bytes {
        let spent = store.keep("uplink", "budget", Vec::new()).await?;
        engine.keep_to(Some(Budget::new(clock::now(), limit, &spent)));
    }
    Ok(Session {
        config: config.clone(),
        client_id,
        engine,
        store: store.clone(),
        events,
        questions: handle.attach(),
        directories,
        shutdown: shutdown.clone(),
        rng: Rng::new(),
        status: SessionStatus { state: State::Connecting, ..SessionStatus::default() },
        traffic: handle.0.traffic.clone(),
        up_since: None,
        since: clock::now(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    #[tokio::test]
    async fn bytes_are_counted_over_restarts_and_told_without_an_answer() {
        let uplink = Uplink::new(Arc::new(Directory::new(Vec::<Endpoint>::new())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        uplink.0.traffic.clone().count(stream).write_all(b"hello").await.unwrap();
        let questions = uplink.attach();
        drop(questions);
        for what in ["the session has gone", "it is started again"] {
            let (status, _) = uplink.status(Vec::new()).await;
            assert_eq!((status.unheard, status.state), (true, State::Connecting), "{what}");
            assert_eq!((status.sent_bytes, status.received_bytes), (5, 0), "{what}");
            uplink.restart();
        }
    }
}
