//! Which rows fly, and what becomes of them. Sans-IO.
//!
//! One flight per lane, made of parts of one encoding each (I3). A part's rows leave the books by the
//! confirmation of that part or into the dead letters (I2): [`Landed`] and [`Buried`] have no other
//! constructor than this file. A lane is free again when the store has taken the last of them.
//!
//! A lane's way: `Idle` -> in `ready` -> `Asked` (the store was asked for rows) -> `Flying` -> `Idle`,
//! or `Waiting` for its backoff. A refused endpoint is parked with all its lanes and probed with one row.

mod ground;
#[cfg(test)]
mod tests;

use super::{
    parking::Parking,
    window::{Size, Window},
};
use crate::{
    backoff::{Backoff, Rng},
    dialect::Refusal,
    endpoints::EndpointKey,
    mutant::{self, Mutant},
    store::{LaneId, LaneInfo, RowId},
};
use adapter_api::{Instant, Sample};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

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
}

/// What a lane that another session carries is doing.
pub(super) const NOT_MINE: &str = "unknown";
/// A request that the broker took so long ago is no longer the link's matter: it leaves the window, or
/// one endpoint that gets no answers would hold up all others until its deadline (I4).
const LATE: Duration = Duration::from_secs(2);
/// Why an endpoint is parked whose requests get no replies.
pub(super) const NO_ANSWER: &str = "the platform does not answer for this endpoint";
/// Missing replies in a row that park an endpoint.
const MISSES: u32 = 5;
/// Single rows refused in a row that park an endpoint instead of being buried.
const SINGLES: u32 = 3;
/// Bytes asked of the store at once.
const READ: usize = 64 << 10;
/// Parts of one lane in the air at once where nothing can refuse.
const PIPELINE: usize = 64;

/// All lanes of a session.
#[derive(Debug)]
pub struct Outflow {
    pace: Pace,
    rng: Rng,
    lanes: BTreeMap<LaneId, Lane>,
    ready: [VecDeque<LaneId>; 2],
    /// Flights of which a part may be launched as soon as the window has room, each once, in turn.
    unsent: VecDeque<FlightId>,
    flights: BTreeMap<FlightId, Flight>,
    asked: usize,
    endpoints: BTreeMap<EndpointKey, Ways>,
    parking: Parking,
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

// === What comes from the store ===

impl Outflow {
    /// An outflow without lanes and without a connection.
    pub fn new(pace: Pace, rng: Rng) -> Self {
        Self {
            parking: Parking::new(pace.probe),
            pace,
            rng,
            lanes: BTreeMap::new(),
            ready: [VecDeque::new(), VecDeque::new()],
            unsent: VecDeque::new(),
            flights: BTreeMap::new(),
            asked: 0,
            endpoints: BTreeMap::new(),
            timers: BTreeSet::new(),
            window: Window::new(),
            wishes: VecDeque::new(),
            unheard: VecDeque::new(),
            next_flight: 1,
            connected: false,
            draining: false,
        }
    }

    /// The store says that a lane holds rows.
    pub fn handle_ready(&mut self, info: LaneInfo) {
        let id = info.id;
        let lane = self.lanes.entry(id).or_insert_with(|| {
            self.endpoints.entry(info.endpoint.clone()).or_default().lanes.push(id);
            let backoff = Backoff::new(self.pace.retry.0, self.pace.retry.1);
            Lane {
                info,
                phase: Phase::Idle,
                more: false,
                limit: self.pace.batch,
                backoff,
                misses: 0,
                singles: 0,
                hold: None,
            }
        });
        lane.more = true;
        self.queue(id);
    }

    /// Rows of a lane, asked for with [`Wish::Next`]. Rows that cannot be read are named with their reason.
    pub fn handle_rows(
        &mut self,
        now: Instant,
        id: LaneId,
        rows: Vec<Row>,
        unreadable: Vec<(RowId, String)>,
        more: bool,
    ) {
        self.asked = self.asked.saturating_sub(1);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.more = more;
        let asked = lane.phase == Phase::Asked;
        // Meanwhile the connection may be another one, or the endpoint may be parked.
        let endpoint = &lane.info.endpoint;
        let open = self.connected && self.endpoints.get(endpoint).is_some_and(|ways| ways.open);
        let fits = asked && open && self.parking.may_fly(endpoint, id);
        if !fits && !mutant::is(Mutant::TwoFlightsInALane) || rows.is_empty() && unreadable.is_empty() {
            if asked {
                lane.phase = Phase::Idle;
            }
            let back: Vec<RowId> =
                rows.iter().map(|row| row.id).chain(unreadable.iter().map(|row| row.0)).collect();
            if !back.is_empty() {
                lane.more = true;
                self.wishes.push_back(Wish::Release { lane: id, rows: back });
                self.queue(id);
            } else if more && asked {
                // The store could not read: not at once again.
                self.wait(now, id, None);
            }
            self.pass_probe_on(id);
            return;
        }
        let flight = FlightId(self.next_flight);
        self.next_flight += 1;
        lane.phase = Phase::Flying(flight);
        let info = lane.info.clone();
        if self.parking.is_parked(&info.endpoint) {
            lane.limit = 1;
        }
        self.parking.flew(now, id);
        let proofs = unreadable.len();
        self.flights.insert(
            flight,
            Flight { lane: id, unsent: rows.into(), parts: Vec::new(), next_part: 0, proofs },
        );
        self.line_up(flight);
        for (row, reason) in unreadable {
            self.wishes.push_back(Wish::Bury(Buried { lane: info.clone(), flight, row, reason }));
        }
    }

    /// The store has taken one proof of this flight: its rows cannot be handed out again.
    pub fn handle_taken(&mut self, flight: FlightId) {
        if let Some(flying) = self.flights.get_mut(&flight) {
            flying.proofs = flying.proofs.saturating_sub(1);
        }
        self.settle(flight);
    }
}

// === What comes from the link ===

impl Outflow {
    /// A connection is up; nothing of an earlier one counts on it.
    pub fn handle_connected(&mut self) {
        self.connected = true;
        self.window = Window::new();
    }

    /// The replies of this endpoint can reach us now.
    pub fn handle_open(&mut self, endpoint: &EndpointKey) {
        let ways = self.endpoints.entry(endpoint.clone()).or_default();
        ways.open = true;
        if std::mem::take(&mut ways.closed) {
            // What it was parked for is over.
            self.parking.allow(endpoint, None);
        }
        self.queue_all(endpoint);
    }

    /// The connection is gone: all that is in the air comes back.
    pub fn handle_disconnected(&mut self, now: Instant) {
        self.connected = false;
        self.endpoints.values_mut().for_each(|ways| ways.open = false);
        self.unheard.clear();
        self.ready.iter_mut().for_each(VecDeque::clear);
        for lane in self.lanes.values_mut() {
            if lane.phase == Phase::Ready {
                lane.phase = Phase::Idle;
            }
        }
        if mutant::is(Mutant::FlightsKeptOverDisconnect) {
            return;
        }
        let flying: Vec<FlightId> = self.flights.keys().copied().collect();
        flying.into_iter().for_each(|flight| self.give_back(now, flight));
        self.window = Window::new();
    }

    /// The next encoding to make: a flight, its leading unsent rows, and the bytes they may take.
    pub fn poll_part(&mut self, now: Instant) -> Option<(FlightId, EndpointKey, usize)> {
        if self.draining {
            return None;
        }
        let id = *self.unsent.front()?;
        let room = self.window.room(now)?;
        let lane = self.lanes.get(&self.flights.get(&id)?.lane)?;
        Some((id, lane.info.endpoint.clone(), room))
    }

    /// The unsent rows of a flight, at most one part's worth.
    pub fn rows(&self, flight: FlightId) -> Vec<&Row> {
        let Some(flying) = self.flights.get(&flight) else { return Vec::new() };
        let limit = self.lanes.get(&flying.lane).map_or(1, |lane| lane.limit);
        flying.unsent.iter().take(limit.min(self.pace.batch)).collect()
    }

    /// Whether nothing is in the air: then one part may go, however large.
    pub fn is_air_clear(&self) -> bool {
        self.window.air().publishes == 0
    }

    /// Whether the window has room for so many frames at once.
    pub fn fits(&mut self, frames: usize) -> bool {
        self.window.fits(frames)
    }

    /// The leading `taken` rows of a flight go out in so many frames and bytes.
    pub fn launch(&mut self, now: Instant, flight: FlightId, taken: usize, size: Size) -> Option<PartId> {
        let flying = self.flights.get_mut(&flight)?;
        let id = PartId { flight, part: flying.next_part };
        flying.next_part += 1;
        let rows = flying.unsent.drain(..taken.min(flying.unsent.len())).map(|row| row.id).collect();
        flying.parts.push(Part {
            id,
            rows,
            frames: size.publishes,
            size,
            sent: now,
            held: size,
            late: None,
            deadline: None,
        });
        self.window.sent(size);
        // To the end of the line: lanes fly in turn.
        if self.unsent.front() == Some(&flight) {
            self.unsent.pop_front();
        } else {
            self.unsent.retain(|waiting| *waiting != flight);
        }
        self.line_up(flight);
        Some(id)
    }

    /// The first unsent row cannot be encoded at all.
    pub fn unsendable(&mut self, now: Instant, flight: FlightId, reason: &str) {
        let Some(flying) = self.flights.get_mut(&flight) else { return };
        let Some(row) = flying.unsent.pop_front() else { return };
        // As a part that the platform refused: the same rules guard against burying everything.
        let id = PartId { flight, part: flying.next_part };
        flying.next_part += 1;
        let size = Size::default();
        flying.parts.push(Part {
            id,
            rows: vec![row.id],
            frames: 1,
            size,
            sent: now,
            held: size,
            late: None,
            deadline: None,
        });
        if flying.unsent.is_empty() {
            self.unsent.retain(|waiting| *waiting != flight);
        }
        self.handle_refused(now, id, &Refusal::Item, reason);
    }

    /// A part's request has reached the broker; from now on its reply can be missed.
    pub fn handle_reply_due(&mut self, now: Instant, part: PartId) {
        let (late, deadline) = (now + LATE, now + self.pace.confirm_timeout);
        let Some(flying) = self.flights.get_mut(&part.flight) else { return };
        let Some(found) = flying.parts.iter_mut().find(|p| p.id == part) else { return };
        if found.deadline.is_none() {
            (found.late, found.deadline) = (Some(late), Some(deadline));
            self.timers.insert((late, Timer::Late(part)));
            self.timers.insert((deadline, Timer::Reply(part)));
        }
    }

    /// One frame of a part is confirmed; with the last one its rows have landed. Returns whether this
    /// confirmation was of a flight.
    pub fn handle_delivered(&mut self, now: Instant, part: PartId) -> bool {
        let Some(flying) = self.flights.get_mut(&part.flight) else { return false };
        let Some(at) = flying.parts.iter().position(|p| p.id == part) else { return false };
        let Some(found) = flying.parts.get_mut(at) else { return false };
        found.frames = found.frames.saturating_sub(1);
        if found.frames > 0 {
            return true;
        }
        let landed = flying.parts.remove(at);
        flying.proofs += 1;
        let lane_id = flying.lane;
        self.end_deadline(&landed);
        self.window.lost(now, landed.held);
        self.window.carried(now, landed.sent, landed.size);
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return true };
        lane.backoff.reset();
        (lane.misses, lane.singles) = (0, 0);
        lane.limit = lane.limit.saturating_mul(2).clamp(1, self.pace.batch);
        let info = lane.info.clone();
        self.wishes.push_back(Wish::Land(Landed {
            lane: info.clone(),
            flight: part.flight,
            rows: landed.rows,
        }));
        self.welcome(now, &info.endpoint);
        self.line_up(part.flight);
        self.settle(part.flight);
        true
    }

    /// The platform refused a part. Returns whether the whole session is refused.
    pub fn handle_refused(&mut self, now: Instant, part: PartId, refusal: &Refusal, reason: &str) -> bool {
        let Some(flying) = self.flights.get_mut(&part.flight) else { return false };
        let Some(at) = flying.parts.iter().position(|p| p.id == part) else { return false };
        let Some(refused) = flying.parts.get_mut(at) else { return false };
        let (lane_id, rows) = (flying.lane, refused.rows.len());
        // The link carried it and its answer: as good as a confirmation for the window.
        self.window.lost(now, std::mem::take(&mut refused.held));
        self.window.carried(now, refused.sent, refused.size);
        if let Some(lane) = self.lanes.get_mut(&lane_id) {
            lane.misses = 0;
        }
        match refusal {
            Refusal::Item if rows > 1 => {
                if mutant::is(Mutant::RefusalBuriesTheBatch) {
                    self.bury(part, reason);
                    return false;
                }
                if let Some(lane) = self.lanes.get_mut(&lane_id) {
                    lane.limit = rows.div_ceil(2).max(1);
                }
                self.give_back(now, part.flight);
            }
            Refusal::Item => self.refuse_single(now, part, lane_id, reason),
            Refusal::Later { after } => {
                self.wait(now, lane_id, *after);
                self.give_back(now, part.flight);
            }
            Refusal::Endpoint => self.park_lane(now, part.flight, lane_id, reason),
            Refusal::Session => {
                self.give_back(now, part.flight);
                return true;
            }
        }
        false
    }

    /// This endpoint's replies cannot reach us: the broker refused its filter.
    pub fn handle_closed(&mut self, now: Instant, endpoint: &EndpointKey, reason: &str) {
        let ways = self.endpoints.entry(endpoint.clone()).or_default();
        (ways.open, ways.closed) = (false, true);
        self.park(now, endpoint, reason);
        for flight in self.flights_of(endpoint) {
            self.give_back(now, flight);
        }
    }

    /// An endpoint whose filters the broker refused: asks for them once more.
    pub fn poll_unheard(&mut self) -> Option<EndpointKey> {
        self.unheard.pop_front()
    }
}

// === Time and wishes ===

impl Outflow {
    /// The next moment at which something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due. Returns how many replies were missed.
    pub fn handle_timeout(&mut self, now: Instant) -> usize {
        let mut missed = 0;
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let Some((_, timer)) = self.timers.pop_first() else { break };
            match timer {
                Timer::Lane(lane) => {
                    if let Some(found) = self.lanes.get_mut(&lane)
                        && matches!(found.phase, Phase::Waiting(until) if until <= now)
                    {
                        found.phase = Phase::Idle;
                    }
                    self.queue(lane);
                }
                Timer::Probe(endpoint) if self.parking.is_due(now, &endpoint) => self.probe(&endpoint),
                Timer::Probe(_) => {}
                Timer::Late(part) => {
                    let parts = self.flights.get_mut(&part.flight).map(|flight| flight.parts.as_mut_slice());
                    if let Some(part) = parts.unwrap_or_default().iter_mut().find(|p| p.id == part) {
                        self.window.lost(now, std::mem::take(&mut part.held));
                    }
                }
                Timer::Reply(part) => missed += usize::from(self.miss(now, part)),
            }
        }
        missed
    }

    /// What is wanted of the store, in order.
    pub fn poll_wish(&mut self, now: Instant) -> Option<Wish> {
        if let Some(wish) = self.wishes.pop_front() {
            return Some(wish);
        }
        // No more lanes are read than could fly: their rows would only wait in memory.
        if !self.connected || self.draining || self.asked + self.unsent.len() >= self.window.publishes() {
            return None;
        }
        let room = self.window.room(now)?;
        while let Some(id) = self.ready.iter_mut().find_map(VecDeque::pop_front) {
            let batches = if self.pace.replies { 1 } else { PIPELINE.min(self.window.publishes()) };
            let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.phase == Phase::Ready) else {
                continue;
            };
            let probing = self.parking.is_parked(&lane.info.endpoint);
            let max_rows = if probing { 1 } else { lane.limit.saturating_mul(batches) };
            if probing {
                lane.limit = 1;
            }
            lane.phase = Phase::Asked;
            self.asked += 1;
            return Some(Wish::Next { lane: id, max_rows, max_bytes: room.clamp(1, READ) });
        }
        None
    }

    /// Lets nothing new fly; what is in the air may still be confirmed.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Parked endpoints and why.
    pub fn parked(&self) -> impl Iterator<Item = (&EndpointKey, &str)> {
        self.parking.iter()
    }

    /// More than half of the lanes that flew in the last minute are parked.
    pub fn is_degraded(&mut self, now: Instant) -> bool {
        let lanes = &self.lanes;
        self.parking.is_degraded(now, |lane| lanes.get(&lane).map(|lane| &lane.info.endpoint))
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

    /// Whether the platform refuses most of what flew lately, this endpoint left aside.
    fn are_others_refused(&self, now: Instant, endpoint: &EndpointKey) -> bool {
        let lanes = &self.lanes;
        let of = |lane| lanes.get(&lane).map(|lane| &lane.info.endpoint).filter(|other| *other != endpoint);
        self.parking.are_most_parked(now, of)
    }

    /// Publishes and bytes in the air.
    pub fn air(&self) -> Size {
        self.window.air()
    }

    /// Flights and questions under way, and timers.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.flights.len() + self.asked + self.unsent.len(), self.timers.len())
    }

    /// Lanes that are doing something, and what: for `queue`.
    pub fn phase_of(&self, lane: LaneId) -> &'static str {
        match self.lanes.get(&lane) {
            None => NOT_MINE,
            Some(lane) if self.parking.is_parked(&lane.info.endpoint) => "parked",
            Some(lane) => match lane.phase {
                Phase::Idle => "idle",
                Phase::Ready | Phase::Asked => "ready",
                Phase::Flying(_) => "flying",
                Phase::Waiting(_) => "backing off",
            },
        }
    }
}

// === Helpers ===

impl Outflow {
    /// Puts a flight in the line for the window if a part of it may go.
    fn line_up(&mut self, id: FlightId) {
        let at_once = if self.pace.replies { 1 } else { PIPELINE };
        let free = self
            .flights
            .get(&id)
            .is_some_and(|flight| !flight.unsent.is_empty() && flight.parts.len() < at_once);
        if free && !self.unsent.contains(&id) {
            self.unsent.push_back(id);
        }
    }

    /// Frees the lane of a flight when nothing of it is in the air or on its way to the store.
    fn settle(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get(&id) else { return };
        let early = mutant::is(Mutant::LaneFreedEarly);
        if !flight.parts.is_empty() || !flight.unsent.is_empty() || flight.proofs > 0 && !early {
            return;
        }
        let lane_id = flight.lane;
        self.flights.remove(&id);
        if let Some(lane) = self.lanes.get_mut(&lane_id)
            && lane.phase == Phase::Flying(id)
        {
            lane.phase = Phase::Idle;
            if let Some(until) = lane.hold.take() {
                lane.phase = Phase::Waiting(until);
                self.timers.insert((until, Timer::Lane(lane_id)));
            }
        }
        self.queue(lane_id);
        self.pass_probe_on(lane_id);
    }

    /// Takes a flight out of the air: its rows come back, in order.
    fn give_back(&mut self, now: Instant, id: FlightId) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let parts = std::mem::take(&mut flight.parts);
        let unsent = std::mem::take(&mut flight.unsent);
        let lane_id = flight.lane;
        let rows: Vec<RowId> = parts
            .iter()
            .flat_map(|part| part.rows.iter().copied())
            .chain(unsent.iter().map(|row| row.id))
            .collect();
        self.unsent.retain(|flight| *flight != id);
        for part in &parts {
            self.end_deadline(part);
            self.window.lost(now, part.held);
        }
        if !rows.is_empty() {
            self.wishes.push_back(Wish::Release { lane: lane_id, rows });
            if let Some(lane) = self.lanes.get_mut(&lane_id) {
                lane.more = true;
            }
        }
        self.settle(id);
    }

    fn end_deadline(&mut self, part: &Part) {
        if let (Some(late), Some(deadline)) = (part.late, part.deadline) {
            self.timers.remove(&(late, Timer::Late(part.id)));
            self.timers.remove(&(deadline, Timer::Reply(part.id)));
        }
    }

    fn bury(&mut self, part: PartId, reason: &str) {
        let Some(flying) = self.flights.get_mut(&part.flight) else { return };
        let Some(at) = flying.parts.iter().position(|p| p.id == part) else { return };
        let refused = flying.parts.remove(at);
        flying.proofs += refused.rows.len();
        let lane_id = flying.lane;
        self.end_deadline(&refused);
        let Some(lane) = self.lanes.get(&lane_id).map(|lane| lane.info.clone()) else { return };
        for row in refused.rows {
            tracing::warn!(endpoint = %lane.endpoint, why = reason, "sample refused for good, kept as a dead letter");
            let buried = Buried { lane: lane.clone(), flight: part.flight, row, reason: reason.to_owned() };
            self.wishes.push_back(Wish::Bury(buried));
        }
        // What comes after it waits until the store has it among the dead: after a crash in between it
        // would come again, and behind them.
        let unsent: Vec<RowId> = match self.flights.get_mut(&part.flight) {
            Some(flight) => flight.unsent.drain(..).map(|row| row.id).collect(),
            None => Vec::new(),
        };
        self.unsent.retain(|waiting| *waiting != part.flight);
        if !unsent.is_empty() {
            self.wishes.push_back(Wish::Release { lane: lane_id, rows: unsent });
            if let Some(lane) = self.lanes.get_mut(&lane_id) {
                lane.more = true;
            }
        }
        self.settle(part.flight);
    }
}

/// Proofs for the store's own tests, which have no flights.
#[cfg(test)]
pub(crate) mod testing {
    use super::{Buried, FlightId, Landed, LaneInfo, RowId};

    pub(crate) fn landed(lane: &LaneInfo, rows: Vec<RowId>) -> Landed {
        Landed { lane: lane.clone(), flight: FlightId(1), rows }
    }

    pub(crate) fn buried(lane: &LaneInfo, row: RowId, reason: &str) -> Buried {
        Buried { lane: lane.clone(), flight: FlightId(1), row, reason: reason.to_owned() }
    }
}
