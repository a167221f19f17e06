//! What can be asked of a running gateway, as JSON.

pub mod endpoints;
pub mod letters;
pub mod tail;
#[cfg(test)]
mod tests;

use crate::{
    endpoints::Directory,
    fault::{Code, Fault, Notice},
    shape::quota::Exceeded,
    store::{Autonomy, Closed, Figures, LaneInfo, Last, Store, WhenFull, item, letters::DeedError},
    supervisor::UnitWatch,
    trust::{State, watch::TrustView},
    uplink::{SessionStatus, Uplink},
};
use adapter_api::{
    Board, Clock, EndpointName, Health, Instant, Presence, Quality, Resource, Roll, Sample, Source, Stamp,
    Value, clock,
    inquiry::{Desk, Lines},
};
use base64::Engine as _;
use serde_json::{Map, Value as Json, json};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Of devices, of endpoints that the platform refuses, and of those that go over a quota, so many are told one by one,
/// and of all of them how many there are: `status` is asked for whenever something changes.
const LISTED: usize = 100;
/// The longest autonomy that is told.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// What can be looked at.
pub struct View {
    /// Ledger, lanes, dead letters, latest values.
    pub store: Store,
    /// What is known of the time.
    pub trust: TrustView,
    /// The session; `None` with `uplink.kind = "none"`.
    pub uplink: Option<Uplink>,
    /// Adapters.
    pub units: Vec<UnitView>,
    /// Which endpoints there are.
    pub directory: Arc<Directory>,
    /// What is wrong with the HTTP listener.
    pub http: Notice,
    /// Where the configuration is from, and how it was taken.
    pub configuration: Configuration,
}

/// What is known of the configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The file; `None` where there is none.
    pub file: Option<PathBuf>,
    /// When the one in force was taken.
    pub loaded: Instant,
    /// How many were taken in the life of the process.
    pub loads: u64,
    /// Why a later one was not.
    pub fault: Option<Fault>,
    /// Keys that differ in the file and stay as they were until the process is restarted.
    pub needs_process_restart: Vec<&'static str>,
    /// Endpoints that were disabled on the command line.
    pub disabled: Vec<EndpointName>,
    /// Why a change of the file is noticed late, if it is.
    pub late: Notice,
}

/// An adapter's unit.
#[derive(Debug, Clone)]
pub struct UnitView {
    /// `modbus.boiler-room`
    pub name: String,
    /// The supervisor's side.
    pub unit: UnitWatch,
    /// The adapter's side.
    pub board: Board,
    /// Where the adapter is asked.
    pub desk: Desk,
    /// How often it was started.
    pub starts: Arc<AtomicU64>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The store has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// No such thing.
    #[error("{0}")]
    Unknown(String),
    /// Not as things are.
    #[error("{0}")]
    Refused(String),
    /// It went wrong.
    #[error("{0}")]
    Failed(String),
}

impl From<DeedError> for ViewError {
    fn from(error: DeedError) -> Self {
        match error {
            DeedError::Closed(closed) => closed.into(),
            DeedError::Failed { .. } => Self::Failed(error.to_string()),
            DeedError::Configured(_) => Self::Refused(error.to_string()),
        }
    }
}

impl View {
    /// How the gateway is doing.
    pub async fn status(&self) -> Result<Json, ViewError> {
        let figures = self.store.figures().await?;
        let uplink = session_json(self.session(Vec::new()).await.0);
        let endpoints = self.directory.len();
        let over_quota = figures.quotas.iter().filter(|quota| quota.now).count();
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "endpoints": endpoints,
            "configuration": self.configuration.json(),
            "clock": clock_json(self.trust.state(), figures.totals.queued),
            "uplink": uplink,
            "ledger": figures.totals,
            "balance": figures.totals.balance(),
            "reasons": figures.reasons,
            "dead_letters": figures.dead_letters,
            "drops": figures.drops,
            "faults": faults(&figures).into_iter().chain(self.http.fault()).collect::<Vec<_>>(),
            "quotas": figures.quotas.iter().take(LISTED).map(quota_json).collect::<Vec<_>>(),
            "over_quota": over_quota,
            "autonomy": figures.autonomy.as_ref().map(autonomy_json),
            "store_full": figures.full,
            "units": self.units.iter().map(UnitView::json).collect::<Vec<_>>(),
        }))
    }

    /// What is queued, by lane.
    pub async fn queue(&self) -> Result<Json, ViewError> {
        let mut lanes = self.store.queue().await?;
        lanes.sort_by(|(a, _), (b, _)| (&a.endpoint, a.class, a.seq).cmp(&(&b.endpoint, b.class, b.seq)));
        let (session, phases) = self.session(lanes.iter().map(|(lane, _)| lane.id).collect()).await;
        let figures = self.store.figures().await?;
        let waiting = matches!(self.trust.state(), State::Waiting(_));
        let lane = |(index, (lane, queued)): (usize, &(LaneInfo, usize))| {
            let known = self.directory.by_key(&lane.endpoint).is_some();
            let state = match phases.get(index).copied() {
                _ if !known => "orphaned",
                None => "no uplink",
                // The store says of a lane that waits for the time that there is nothing to fly yet.
                Some("idle") if *queued > 0 && waiting => "waits for the time",
                Some(phase) => phase,
            };
            json!({
                "endpoint": lane.endpoint.to_string(),
                "class": lane.class.name(),
                "seq": lane.seq,
                "queued": queued,
                "state": state,
            })
        };
        Ok(json!({
            "lanes": lanes.iter().enumerate().map(lane).collect::<Vec<_>>(),
            "queued": lanes.iter().map(|(_, queued)| queued).sum::<usize>(),
            "dead": figures.dead_letters,
            "autonomy": figures.autonomy.as_ref().map(autonomy_json),
            "quotas": figures.quotas.iter().map(quota_json).collect::<Vec<_>>(),
            "paused": session.budget.and_then(|budget| budget.used_up),
        }))
    }

    /// The youngest dead letters.
    pub async fn dead(&self, limit: usize) -> Result<Json, ViewError> {
        let letters = self.store.dead(limit).await?;
        let letter = |letter: crate::store::DeadLetter| {
            let sample = item::decode(letter.stamp, letter.boot, &letter.item).ok();
            json!({
                "id": letter.id,
                "endpoint": letter.endpoint,
                "reason": letter.reason,
                "stamp_us": letter.boot.is_none().then_some(letter.stamp),
                "sample": sample.as_ref().map(sample_json),
            })
        };
        let total = self.store.figures().await?.dead_letters;
        Ok(json!({ "dead": letters.into_iter().map(letter).collect::<Vec<_>>(), "total": total }))
    }

    /// Last readings of an endpoint.
    pub async fn latest(&self, endpoint: &str, resource: Option<&str>) -> Result<Json, ViewError> {
        let unknown = || no_endpoint(endpoint);
        let name = EndpointName::new(endpoint).map_err(|_| unknown())?;
        self.directory.by_name(&name).ok_or_else(unknown)?;
        let wanted = match resource {
            None => None,
            Some(name) => Some(Resource::new(name).map_err(|error| ViewError::Unknown(error.to_string()))?),
        };
        let values = self.store.latest(name, wanted).await?;
        let (clock, now) = (self.store.clock(), clock::now());
        let values: Vec<Json> = values.iter().map(|last| reading(last, clock, now)).collect();
        Ok(json!({ "endpoint": endpoint, "values": values }))
    }

    /// Asks an adapter by its unit's name.
    pub async fn inquire(&self, unit: &str, question: Json) -> Result<Lines, ViewError> {
        let unknown = |why: &str| ViewError::Unknown(format!("adapter {}: {why}", quoted(unit)));
        let asked = self.units.iter().find(|known| known.name == unit);
        let asked = asked.ok_or_else(|| unknown("there is none of this name"))?;
        asked.desk.ask(question).await.map_err(|error| unknown(&error.to_string()))
    }

    async fn session(&self, lanes: Vec<crate::store::LaneId>) -> (SessionStatus, Vec<&'static str>) {
        match &self.uplink {
            None => (SessionStatus::default(), Vec::new()),
            Some(uplink) => uplink.status(lanes).await,
        }
    }
}

impl Configuration {
    /// One that was just taken.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            loaded: clock::now(),
            loads: 1,
            fault: None,
            needs_process_restart: Vec::new(),
            disabled: Vec::new(),
            late: Notice::default(),
        }
    }

    fn json(&self) -> Json {
        json!({
            "file": self.file.as_ref().map(|file| file.to_string_lossy()),
            "age_ms": u64::try_from(clock::now().since(self.loaded).as_millis()).unwrap_or(u64::MAX),
            "loads": self.loads,
            "fault": self.fault,
            "late": self.late.fault(),
            "needs_process_restart": self.needs_process_restart,
            "disabled": self.disabled.iter().map(EndpointName::as_str).collect::<Vec<_>>(),
        })
    }
}

impl UnitView {
    fn json(&self) -> Json {
        let Roll { online, asleep, offline, codes, first } = self.board.roll(LISTED);
        let (health, mut faults) = match self.board.health() {
            Health::Starting => ("starting", Vec::new()),
            Health::Up => ("up", Vec::new()),
            Health::Degraded(faults) => ("degraded", faults),
        };
        let (state, why) = self.unit.words();
        faults.extend(self.unit.fault(&self.name));
        let devices: Map<String, Json> = first
            .into_iter()
            .map(|(endpoint, presence)| {
                let shown = match presence {
                    Presence::Online => json!({ "presence": "online" }),
                    Presence::Asleep => json!({ "presence": "asleep" }),
                    Presence::Offline(fault) => {
                        json!({ "presence": "offline", "code": fault.code, "why": fault.what })
                    }
                };
                (endpoint.as_str().to_owned(), shown)
            })
            .collect();
        // In thousandths: nobody measures better.
        let wires: Map<String, Json> = self
            .board
            .wires(clock::now())
            .into_iter()
            .map(|(wire, busy)| (wire, json!({ "busy": (busy * 1_000.0).round() / 1_000.0 })))
            .collect();
        json!({
            "name": self.name,
            "state": state,
            "starts": self.starts.load(Relaxed),
            "why": why,
            "panics": self.unit.panics(),
            "health": health,
            "faults": faults,
            "configured": self.board.devices(),
            "presence": { "online": online, "asleep": asleep, "offline": offline },
            "offline_codes": codes,
            "devices": devices,
            "wires": wires,
        })
    }
}

/// Not one of ours.
fn no_endpoint(name: &str) -> ViewError {
    ViewError::Unknown(format!("no endpoint {} in the configuration", quoted(name)))
}

/// A name that somebody asked for, and not all of it if it cannot be one.
pub(super) fn quoted(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{:?}...", name.get(..end).unwrap_or_default()),
        None => format!("{name:?}"),
    }
}

/// In characters; no endpoint's name is longer.
const LONGEST_NAME: usize = 64;

/// A session, with no more of the endpoints that the platform refuses than are worth a list.
fn session_json(mut session: SessionStatus) -> Json {
    let mut codes: BTreeMap<&str, u64> = BTreeMap::new();
    for parked in &session.parked {
        *codes.entry(parked.code.id()).or_default() += 1;
    }
    session.parked.truncate(LISTED);
    let mut shown = json!(session);
    if let Some(shown) = shown.as_object_mut() {
        // Null: not known. None parked would be none any more.
        shown.insert("parked_codes".to_owned(), if session.unheard { Json::Null } else { json!(codes) });
    }
    shown
}

/// What is wrong with what is kept.
fn faults(figures: &Figures) -> Vec<Fault> {
    let mut faults: Vec<Fault> = figures.fault.iter().cloned().collect();
    if !figures.totals.balance() {
        faults.push(Fault::new(Code::LedgerOff, "the ledger does not add up", "`ledger` in status"));
    }
    if figures.dead_letters > 0 {
        let what = format!("samples that go up no more: {}; they are kept", figures.dead_letters);
        faults.push(Fault::new(Code::DeadLetters, what, "`tidegate queue --dead`"));
    }
    faults
}

/// How long the store can go on. `hours` is null where it is not known; beyond a year nobody measures.
fn autonomy_json(autonomy: &Autonomy) -> Json {
    let left = autonomy.left.map(|left| left.min(YEAR));
    json!({
        "hours": left.map(|left| (left.as_secs_f64() / 360.0).floor() / 10.0),
        "over_a_year": left == Some(YEAR),
        "room_bytes": autonomy.room_bytes,
        "bytes_per_s": autonomy.bytes_per_s.map(|rate| (rate * 10.0).round() / 10.0),
        "limit": autonomy.limit,
        "then": match autonomy.then {
            WhenFull::DropOldest => "drop-oldest",
            WhenFull::Refuse => "refuse",
        },
    })
}

/// An endpoint that went over a quota, with the fault while it still does.
fn quota_json(exceeded: &Exceeded) -> Json {
    json!({
        "endpoint": exceeded.endpoint.to_string(),
        "quota": exceeded.quota.key(),
        "limit": exceeded.limit,
        "over": exceeded.now,
        "refused": exceeded.refused,
        "fault": exceeded.now.then(|| exceeded.fault()),
    })
}

/// What is known of the time, and how many samples wait for it.
fn clock_json(state: State, queued: u64) -> Json {
    match state {
        State::Known(by) => json!({ "known": true, "by": by.words() }),
        State::Unknown => json!({ "known": false, "holding": 0 }),
        State::Waiting(until) => {
            let seconds = until.since(clock::now()).as_secs();
            json!({ "known": false, "holding": queued, "holding_for_s": seconds })
        }
    }
}

/// A resource's last reading.
fn reading(last: &Last, clock: &Clock, now: Instant) -> Json {
    let (reading, mut shown) = (&last.reading, Map::new());
    shown.insert("resource".into(), json!(reading.resource.as_str()));
    shown.insert("value".into(), value_json(&reading.value));
    let (quality, why) = quality(&reading.quality);
    shown.insert("quality".into(), json!(quality));
    shown.insert("why".into(), json!(why));
    if let Stamp::Wall { us, source } = &last.at {
        shown.insert("stamp_us".into(), json!(us));
        shown.insert("source".into(), json!(if *source == Source::Device { "device" } else { "gateway" }));
    }
    shown.insert("age_ms".into(), json!(age_ms(last, clock, now)));
    Json::Object(shown)
}

/// A quality by its name, and why.
fn quality(quality: &Quality) -> (&'static str, Option<&str>) {
    match quality {
        Quality::Good => ("good", None),
        Quality::Uncertain(why) => ("uncertain", Some(why)),
        Quality::Bad(why) => ("bad", Some(why)),
    }
}

/// How old a value is. A jump of the wall clock makes nothing older: what this process has seen is
/// measured by its own time, and the wall clock is asked where nobody else knows and it can be trusted.
fn age_ms(last: &Last, clock: &Clock, now: Instant) -> Option<i64> {
    if let Some(seen) = last.seen {
        return i64::try_from(now.since(seen).as_millis()).ok();
    }
    match last.at {
        Stamp::Wall { us, .. } if clock.is_trusted() => {
            Some((clock.wall_us().saturating_sub(us) / 1_000).max(0))
        }
        _ => None,
    }
}

fn sample_json(sample: &Sample) -> Json {
    sample
        .readings
        .iter()
        .map(|r| (r.resource.as_str().to_owned(), value_json(&r.value)))
        .collect::<Map<_, _>>()
        .into()
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(v) => json!(v),
        Value::Int(v) => json!(v),
        Value::Uint(v) => json!(v.value()),
        Value::Float(v) => json!(v.value()),
        Value::Text(v) => json!(v),
        Value::Bytes(v) => json!(base64::engine::general_purpose::STANDARD.encode(v)),
        Value::List(items) => items.iter().map(value_json).collect(),
        Value::Map(members) => {
            members.iter().map(|(k, v)| (k.clone(), value_json(v))).collect::<Map<_, _>>().into()
        }
    }
}
