//! Which rows fly, and what becomes of them. Sans-IO.
//!
//! | file | responsible for |
//! |---|---|
//! | this one | the state: lanes, flights, parts; the proofs; what `status` asks |
//! | `from_store` | lanes with rows, rows, proofs taken: flights begin and end |
//! | `from_link` | connections, confirmations, refusals: parts land, are buried or come back |
//! | `turns` | whose turn it is for rows and for the window; timers |
//! | `replay` | live rows and backlog: which lanes have fallen behind, their order, their share |
//! | `departure` | endpoints that leave the configuration, or get another token |
//! | `ground` | what keeps a lane on the ground: backoff, parking, another lane's probe |
//! | `hang_up` | what becomes of those on whose parts the broker hangs up |
//!
//! One flight per lane, made of parts of one encoding each (I3). A part's rows leave the books by the
//! confirmation of that part or into the dead letters (I2): [`Landed`] and [`Buried`] have no other
//! constructor than this module. A lane is free again when the store has taken the last of them.
//!
//! A lane's way: `Idle` -> in `ready` -> `Asked` (the store was asked for rows) -> `Flying` -> `Idle`,
//! or `Waiting` for its backoff. A refused endpoint is parked with all its lanes and probed with one row.

mod departure;
mod from_link;
mod from_store;
mod ground;
mod hang_up;
mod replay;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod turns;

use super::{
    pacing::{Bucket, Limits, Pacing, Replay},
    parking::Parking,
    suspects::Suspects,
    window::{Size, Window},
};
use crate::{
    backoff::{Backoff, Rng},
    endpoints::EndpointKey,
    store::{LaneId, LaneInfo, RowId},
};
use adapter_api::{Instant, Sample};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Lives of a session in this process: what the store says of a flight of an earlier one means no flight of this.
static LIVES: AtomicU64 = AtomicU64::new(1);
/// Flights of one life have so many bits.
const FLIGHT_BITS: u32 = 40;

/// A flight: never reused in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(u64);

/// A part of a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId {
    /// Which flight.
    pub flight: FlightId,
    part: u32,
}

/// Proof that rows were confirmed by their own flight.
#[derive(Debug)]
pub struct Landed {
    lane: LaneInfo,
    flight: FlightId,
    rows: Vec<RowId>,
}

/// Proof that the platform refused a row for itself alone.
#[derive(Debug)]
pub struct Buried {
    lane: LaneInfo,
    flight: FlightId,
    row: RowId,
    reason: String,
}

/// A row in the air.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which.
    pub id: RowId,
    /// What it says.
    pub sample: Sample,
    /// The platform has refused it before: it goes back to the dead letters if it does again.
    pub again: bool,
}

/// What outflow wants of the store, in order.
#[derive(Debug)]
pub enum Wish {
    /// Leading rows of a lane.
    Next {
        /// Whose.
        lane: LaneId,
        /// At most so many.
        max_rows: usize,
        /// About so many bytes, at least one row.
        max_bytes: usize,
        /// If the oldest row is older, the lane becomes a backlog instead.
        live_age: Option<Duration>,
    },
    /// These are delivered.
    Land(Landed),
    /// This goes to the dead letters.
    Bury(Buried),
    /// These come back.
    Release {
        /// Whose.
        lane: LaneId,
        /// Which.
        rows: Vec<RowId>,
    },
}

/// The times and limits outflow keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// A platform's reply is missing this long after its PUBACK.
    pub confirm_timeout: Duration,
    /// A lane's backoff, from and to.
    pub retry: (Duration, Duration),
    /// Probes of a parked endpoint, from and to.
    pub probe: (Duration, Duration),
    /// Most rows in one part.
    pub batch: usize,
    /// A confirmation can refuse: one part of a lane at a time.
    pub replies: bool,
    /// What goes first after an outage.
    pub replay: Replay,
    /// What the operator allows.
    pub limits: Limits,
}

/// What a lane that another session carries is doing.
pub(super) const NOT_MINE: &str = "unknown";
/// A request that the broker took so long ago is no longer the link's matter: it leaves the window, or
/// one endpoint that gets no answers would hold up all others until its deadline (I4).
const LATE: Duration = Duration::from_secs(2);
/// Why an endpoint is parked whose requests get no replies.
pub(super) const NO_ANSWER: &str = "the platform does not answer for this endpoint";
/// Why an endpoint is parked on whose parts the broker hangs up.
pub(super) const HUNG_UP: &str = "the broker closes the connection on what is sent for this endpoint";
/// Missing replies in a row that park an endpoint.
const MISSES: u32 = 5;
/// Single rows refused in a row that park an endpoint instead of being buried.
const SINGLES: u32 = 3;
/// Bytes asked of the store at once.
const READ: usize = 64 << 10;
/// Parts of one lane in the air at once where nothing can refuse.
const PIPELINE: usize = 64;
/// Parts that all lanes in line are read ahead for, where nothing can refuse: of thousands each brings fewer,
const AHEAD: usize = 8_192;
/// but so many at least, or the store would be asked for each of them.
const LEAST: usize = 16;

/// Control, live rows, backlog.
const QUEUES: usize = 3;

/// All lanes of a session.
#[derive(Debug)]
pub struct Outflow {
    pace: Pace,
    rng: Rng,
    lanes: BTreeMap<LaneId, Lane>,
    /// Lanes that may fly, in turn; of each queue (`Outflow::queue_of`), as the next two are.
    ready: [VecDeque<LaneId>; QUEUES],
    /// Lanes the store was asked for rows of.
    asked: [usize; QUEUES],
    /// Flights of which a part may be launched as soon as the window has room, each once, in turn.
    unsent: [VecDeque<FlightId>; QUEUES],
    flights: BTreeMap<FlightId, Flight>,
    /// Of the air, what is backlog.
    backlog_air: Size,
    /// Live rows flew lately: until then backlog has its share only.
    live_until: Option<Instant>,
    backlog_rate: Option<Bucket>,
    pacing: Pacing,
    /// A part may go then that a limit holds back.
    paced_until: Option<Instant>,
    endpoints: BTreeMap<EndpointKey, Ways>,
    parking: Parking,
    suspects: Suspects,
    timers: BTreeSet<(Instant, Timer)>,
    window: Window,
    wishes: VecDeque<Wish>,
    /// Endpoints whose filters are to be asked for once more.
    unheard: VecDeque<EndpointKey>,
    next_flight: u64,
    connected: bool,
    /// Nothing new may fly.
    draining: bool,
}

/// What is known of an endpoint.
#[derive(Debug, Default)]
struct Ways {
    lanes: Vec<LaneId>,
    /// Its replies can reach us on this connection.
    open: bool,
    /// The broker refused its filters when it was last asked.
    closed: bool,
    /// The lane that was probed with last: they take turns, or one's bad row would speak for all.
    probed: Option<LaneId>,
}

#[derive(Debug)]
struct Lane {
    info: LaneInfo,
    phase: Phase,
    /// The store holds rows to hand out.
    more: bool,
    /// Rows in the next part: halved by a refusal, doubled by a success.
    limit: usize,
    backoff: Backoff,
    /// Replies missed in a row.
    misses: u32,
    /// Single rows refused in a row.
    singles: u32,
    /// It waits until then once its flight is settled.
    hold: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Ready,
    Asked,
    Flying(FlightId),
    Waiting(Instant),
}

#[derive(Debug)]
struct Flight {
    lane: LaneId,
    unsent: VecDeque<Row>,
    parts: Vec<Part>,
    next_part: u32,
    /// Proofs the store has not taken yet.
    proofs: usize,
}

#[derive(Debug)]
struct Part {
    id: PartId,
    rows: Vec<RowId>,
    /// It is one row that was refused before.
    again: bool,
    /// Frames not confirmed yet.
    frames: usize,
    size: Size,
    sent: Instant,
    /// What of it still counts in the window.
    held: Size,
    /// When its reply is late, and when it is missed.
    late: Option<Instant>,
    deadline: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Lane(LaneId),
    Probe(EndpointKey),
    Late(PartId),
    Reply(PartId),
}

impl Landed {
    /// Whose rows.
    pub fn lane(&self) -> &LaneInfo {
        &self.lane
    }
    /// Of which flight.
    pub fn flight(&self) -> FlightId {
        self.flight
    }
    /// Which.
    pub fn rows(&self) -> &[RowId] {
        &self.rows
    }
}

impl Buried {
    /// Whose row.
    pub fn lane(&self) -> &LaneInfo {
        &self.lane
    }
    /// Of which flight.
    pub fn flight(&self) -> FlightId {
        self.flight
    }
    /// Which.
    pub fn row(&self) -> RowId {
        self.row
    }
    /// In the platform's words.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl Outflow {
    /// An outflow without lanes and without a connection.
    pub fn new(pace: Pace, rng: Rng) -> Self {
        Self {
            parking: Parking::new(pace.probe),
            suspects: Suspects::new(pace.probe.1),
            backlog_rate: pace.replay.max_rate.map(Bucket::new),
            pacing: Pacing::new(&pace.limits),
            pace,
            rng,
            lanes: BTreeMap::new(),
            ready: [const { VecDeque::new() }; QUEUES],
            asked: [0; QUEUES],
            unsent: [const { VecDeque::new() }; QUEUES],
            flights: BTreeMap::new(),
            backlog_air: Size::default(),
            live_until: None,
            paced_until: None,
            endpoints: BTreeMap::new(),
            timers: BTreeSet::new(),
            window: Window::new(),
            wishes: VecDeque::new(),
            unheard: VecDeque::new(),
            next_flight: LIVES.fetch_add(1, Relaxed) << FLIGHT_BITS,
            connected: false,
            draining: false,
        }
    }

    /// Parked endpoints and why.
    pub fn parked(&self) -> impl Iterator<Item = (&EndpointKey, &str)> {
        self.parking.iter()
    }

    /// More than half of the lanes that flew in the last minute are parked.
    pub fn is_degraded(&mut self, now: Instant) -> bool {
        self.parking.is_degraded(now)
    }

    /// Whether a part is still in the air.
    pub fn is_flying(&self, part: PartId) -> bool {
        self.flights.get(&part.flight).is_some_and(|flight| flight.parts.iter().any(|p| p.id == part))
    }

    /// Rows in a part.
    pub fn rows_of(&self, part: PartId) -> u64 {
        let flight = self.flights.get(&part.flight);
        let part = flight.and_then(|flight| flight.parts.iter().find(|p| p.id == part));
        part.map_or(0, |part| u64::try_from(part.rows.len()).unwrap_or_default())
    }

    /// Whether an endpoint has something to fly.
    pub fn has_rows(&self, endpoint: &EndpointKey) -> bool {
        let lanes = self.endpoints.get(endpoint).map(|ways| ways.lanes.as_slice()).unwrap_or_default();
        lanes.iter().any(|id| self.lanes.get(id).is_some_and(|lane| lane.more))
    }

    /// Publishes and bytes in the air.
    pub fn air(&self) -> Size {
        self.window.air()
    }

    /// Flights and questions under way, and timers.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let held: usize =
            self.asked.iter().sum::<usize>() + self.unsent.iter().map(VecDeque::len).sum::<usize>();
        (self.flights.len() + held, self.timers.len())
    }

    /// Lanes that are doing something, and what: for `queue`.
    pub fn phase_of(&self, lane: LaneId) -> &'static str {
        match self.lanes.get(&lane) {
            None => NOT_MINE,
            Some(lane) if self.parking.is_parked(&lane.info.endpoint) => "parked",
            Some(lane) => match lane.phase {
                Phase::Idle if lane.more && !self.is_turn(lane) => "waits for an earlier lane",
                Phase::Idle => "idle",
                Phase::Ready | Phase::Asked => "ready",
                Phase::Flying(_) => "flying",
                Phase::Waiting(_) => "backing off",
            },
        }
    }
}
