//! One session's machine: outflow, dialect, subscriptions and request ids. Sans-IO.
//!
//! Events of the store and of the link go in, [`Output`]s come out; `session.rs` carries them. A reply
//! confirms a flight only if token, extension instance and id are those of a flight of *this*
//! connection; anything else is counted as a stale reply.
//!
//! `engine/directory`: what becomes of a session whose endpoints change.

mod directory;

use super::{
    budget::{Budget, Spent},
    mqtt,
    outflow::{Outflow, Pace, PartId, Row, Wish},
    subscribe::{Subscriptions, Unwanted},
    window::Size,
};
use crate::{
    backoff::{Backoff, Rng},
    dialect::{Correlation, Dialect, EncodeError, Encoded, Frame, Inbound, Path, SessionKey},
    endpoints::{Directory, EndpointKey},
    fault::Code,
    mutant::{self, Mutant},
    store::{self, Command, StoredRow, item},
    trust::Day,
};
use adapter_api::Instant;
use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

/// Request ids are `int` on the platform's side (1/KP): 1 to 2^31 - 1, wrapping.
const IDS: u64 = (1 << 31) - 1;
/// Ids are reserved on disk in blocks of so many.
const BLOCK: u64 = 65_536;
/// The next block is asked for when so many are left.
const LOW: u64 = 8_192;
/// A store that could not reserve ids is asked again after this long.
const RESERVE_AGAIN: Duration = Duration::from_secs(1);
/// A session is renewed for want of replies at most this often.
const RENEW_EVERY: Duration = Duration::from_secs(600);
/// Why an endpoint is parked whose filters the broker refused.
pub(super) const SUBSCRIPTION_REFUSED: &str = "the broker refused the subscription";
/// Requests whose answers were given up are forgotten when there are so many.
const REQUESTS: usize = 4_096;

/// What the session has to do.
pub(crate) enum Output {
    /// Ask the store.
    Store(Command),
    /// Send a frame; it carries this tag.
    Publish(PartId, Frame),
    /// Subscribe; the answer carries this key.
    Subscribe(u64, Vec<Path>),
    /// Take filters back; the answer carries this key.
    Unsubscribe(u64, Vec<Path>),
    /// Drop the connection and open a new one.
    Renew(Code, &'static str),
}

/// What the engine has counted since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Samples confirmed by the platform.
    pub delivered: u64,
    /// Batches refused.
    pub refused: u64,
    /// Replies that were missed.
    pub missed: u64,
    /// Replies to nothing that flies on this connection.
    pub stale_replies: u64,
    /// Messages that are not for us.
    pub ignored: u64,
}

/// One session.
pub(crate) struct Engine {
    session: SessionKey,
    dialect: Dialect,
    directory: Arc<Directory>,
    max_payload: usize,
    confirm_timeout: Duration,
    outflow: Outflow,
    budget: Option<Budget>,
    subscriptions: Subscriptions,
    unwanted: Unwanted,
    connected: bool,
    /// Requests of this connection by id.
    requests: HashMap<u32, (Correlation, PartId)>,
    ids: VecDeque<Range<u64>>,
    ids_asked: bool,
    /// The store could not reserve ids: it is asked again then.
    ids_due: Option<Instant>,
    /// What the mutant uses in place of reserved ids.
    restarted: u64,
    outputs: VecDeque<Output>,
    counts: Counts,
    last_reply: Instant,
    last_renewal: Option<Instant>,
    /// The broker refused the filters that all endpoints share: they are asked for again then.
    common_due: Option<Instant>,
    common_backoff: Backoff,
    /// The last answer about them was a refusal.
    common_refused: bool,
    rng: Rng,
}

impl Engine {
    /// The engine of a session that carries these endpoints.
    pub(crate) fn new(
        now: Instant,
        session: SessionKey,
        dialect: Dialect,
        directory: Arc<Directory>,
        max_payload: usize,
        pace: Pace,
        rng: Rng,
    ) -> Self {
        Self {
            session,
            dialect,
            directory,
            max_payload,
            confirm_timeout: pace.confirm_timeout,
            common_due: None,
            common_backoff: Backoff::new(pace.probe.0, pace.probe.1),
            common_refused: false,
            rng: rng.clone(),
            outflow: Outflow::new(pace, rng),
            budget: None,
            subscriptions: Subscriptions::default(),
            unwanted: Unwanted::default(),
            connected: false,
            requests: HashMap::new(),
            ids: VecDeque::new(),
            ids_asked: false,
            ids_due: None,
            restarted: 0,
            outputs: VecDeque::new(),
            counts: Counts::default(),
            last_reply: now,
            last_renewal: None,
        }
    }

    /// Sends no more in a day than this.
    pub(crate) fn keep_to(&mut self, budget: Option<Budget>) {
        self.budget = budget;
    }

    /// What day it is, if that is known.
    pub(crate) fn handle_day(&mut self, now: Instant, today: Option<Day>) {
        if let Some(budget) = &mut self.budget {
            budget.handle_day(now, today);
        }
    }

    /// The store said something.
    pub(crate) fn handle_store(&mut self, now: Instant, event: store::Event) {
        match event {
            // Of one that left meanwhile it was said too late; it is said again when it comes back.
            store::Event::Ready(lane) if self.directory.by_key(&lane.endpoint).is_none() => {}
            store::Event::Ready(lane) => {
                self.outflow.handle_renamed(now, &lane);
                self.outflow.handle_ready(lane);
            }
            store::Event::Rows { lane, rows, more } => {
                let (rows, unreadable) = decode(rows);
                self.outflow.handle_rows(now, lane, rows, unreadable, more);
            }
            store::Event::Behind(lane) => self.outflow.handle_behind(&lane),
            store::Event::Drained(lane) => self.outflow.handle_drained(lane),
            store::Event::Taken(flight) => self.outflow.handle_taken(flight),
            store::Event::Ids(range) => {
                self.ids_asked = false;
                if range.is_empty() {
                    self.ids_due = Some(now + RESERVE_AGAIN);
                }
                self.ids.push_back(range);
            }
        }
    }

    /// The link said something.
    pub(crate) fn handle_link(&mut self, now: Instant, event: mqtt::Event<PartId>) {
        match event {
            mqtt::Event::Connected => self.handle_connected(now),
            mqtt::Event::Acked(part) | mqtt::Event::Written(part) => {
                if self.dialect.replies() {
                    if !mutant::is(Mutant::DeadlineFromSubmission) {
                        self.outflow.handle_reply_due(now, part);
                    }
                } else {
                    self.outflow.handle_delivered(now, part);
                }
            }
            mqtt::Event::Subscribed(key, granted) => {
                let answer = self.subscriptions.handle_answer(key, &granted);
                answer.opened.iter().for_each(|endpoint| self.outflow.handle_open(endpoint));
                for endpoint in answer.refused {
                    self.outflow.handle_closed(now, &endpoint, SUBSCRIPTION_REFUSED);
                }
                if answer.all_refused {
                    // Another connection would be refused no less: it is asked again on this one.
                    let pause = self.common_backoff.equal_jitter(&mut self.rng);
                    (self.common_due, self.common_refused) = (Some(now + pause), true);
                } else if answer.all_granted {
                    self.common_backoff.reset();
                    self.common_refused = false;
                }
            }
            mqtt::Event::Unsubscribed(key) => self.unwanted.handle_answer(key),
            mqtt::Event::Inbound(path, body) => self.handle_inbound(now, path.expose(), &body),
        }
    }

    /// The broker hung up; [`Engine::handle_disconnected`] comes after it. Returns whether it did so on what was sent.
    pub(crate) fn handle_hang_up(&mut self, now: Instant) -> bool {
        self.outflow.handle_hang_up(now)
    }

    /// The connection is gone.
    pub(crate) fn handle_disconnected(&mut self, now: Instant) {
        self.connected = false;
        self.unwanted.handle_disconnected();
        self.outputs.retain(|output| matches!(output, Output::Store(_)));
        self.subscriptions = Subscriptions::default();
        self.common_due = None;
        if !mutant::is(Mutant::FlightsKeptOverDisconnect) {
            self.requests.clear();
        }
        self.outflow.handle_disconnected(now);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.ids_due = self.ids_due.filter(|due| *due > now);
        if self.common_due.is_some_and(|due| due <= now) {
            self.common_due = None;
            self.subscriptions.ask_common_again(self.dialect.common_subscriptions());
        }
        let missed = self.outflow.handle_timeout(now);
        self.counts.missed += u64::try_from(missed).unwrap_or_default();
        let mute = now.since(self.last_reply) >= self.confirm_timeout;
        let allowed = self.last_renewal.is_none_or(|last| now.since(last) >= RENEW_EVERY);
        if missed > 0 && mute && allowed {
            self.last_renewal = Some(now);
            self.outputs
                .push_back(Output::Renew(Code::NoReplies, "no endpoint gets an answer of the platform"));
        }
    }

    /// The next moment at which something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let day = self.budget.as_ref().and_then(Budget::poll_timeout);
        self.outflow.poll_timeout().into_iter().chain(self.ids_due).chain(self.common_due).chain(day).min()
    }

    /// What the session has to do next.
    pub(crate) fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if self.outputs.is_empty() {
            self.reserve_ids();
            while let Some(endpoint) = self.outflow.poll_unheard() {
                let filters =
                    self.directory.by_key(&endpoint).map(|endpoint| self.dialect.subscriptions(endpoint));
                self.subscriptions.ask_again(endpoint, filters.unwrap_or_default());
            }
            // All of it before what is wanted: nothing is taken back that was just asked for.
            match self.connected.then(|| self.unwanted.poll()).flatten() {
                Some((key, filters)) => self.outputs.push_back(Output::Unsubscribe(key, filters)),
                None => {
                    let asked = self.subscriptions.poll();
                    self.outputs.extend(asked.map(|(key, filters)| Output::Subscribe(key, filters)));
                }
            }
            self.pump(now);
            let spent = self.budget.as_mut().and_then(|budget| budget.poll_keep(now));
            self.outputs.extend(spent.map(keep));
        }
        self.outputs.pop_front()
    }

    /// Lets nothing new fly: the daemon stops.
    pub(crate) fn drain(&mut self, now: Instant) {
        self.outflow.drain();
        let spent = self.budget.as_mut().and_then(|budget| budget.last_words(now));
        self.outputs.extend(spent.map(keep));
    }

    /// What of the day's budget is spent, if there is one.
    pub(crate) fn spent(&self, now: Instant) -> Option<Spent> {
        self.budget.as_ref().map(|budget| budget.spent(now))
    }

    /// What was counted.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// The lanes, for `status` and `queue`.
    pub(crate) fn outflow(&mut self) -> &mut Outflow {
        &mut self.outflow
    }

    fn handle_connected(&mut self, now: Instant) {
        self.last_reply = now;
        self.connected = true;
        self.outflow.handle_connected(now);
        let common = self.dialect.common_subscriptions();
        let mut open = Vec::new();
        let mut asked = Vec::new();
        // Of one that is disabled too: nothing new comes of it, and what is queued goes up.
        for endpoint in self.directory.iter() {
            let filters = self.dialect.subscriptions(endpoint);
            match (filters.is_empty(), common.is_empty()) {
                (true, true) => open.push(endpoint.key.clone()),
                _ => asked.push((endpoint.key.clone(), filters)),
            }
        }
        // Those that have something to say first.
        asked.sort_by_cached_key(|(endpoint, _)| (!self.outflow.has_rows(endpoint), endpoint.clone()));
        open.sort();
        self.subscriptions = Subscriptions::new(common, asked);
        open.iter().for_each(|endpoint| self.outflow.handle_open(endpoint));
    }

    fn handle_inbound(&mut self, now: Instant, path: &str, body: &[u8]) {
        match self.dialect.decode(path, body) {
            Inbound::Delivered(correlation) => match self.request(&correlation) {
                Some((part, rows)) if self.outflow.handle_delivered(now, part) => {
                    self.last_reply = now;
                    self.counts.delivered += rows;
                }
                _ => self.counts.stale_replies += 1,
            },
            Inbound::Refused { correlation, refusal, reason } => match self.request(&correlation) {
                Some((part, _)) if self.outflow.is_flying(part) => {
                    self.last_reply = now;
                    self.counts.refused += 1;
                    let tokens = self.directory.iter().map(|endpoint| &endpoint.token);
                    let reason = reason.shown(&correlation.token, tokens);
                    if self.outflow.handle_refused(now, part, &refusal, &reason) {
                        self.outputs.push_back(Output::Renew(
                            Code::SessionRefused,
                            "the platform refused the session",
                        ));
                    }
                }
                _ => self.counts.stale_replies += 1,
            },
            Inbound::Ignored(why) => {
                tracing::debug!(why, bytes = body.len(), "ignored what the platform sent");
                self.counts.ignored += 1;
            }
        }
    }

    /// The part that a reply belongs to and the number of its rows. All three of token, instance and id must match.
    fn request(&mut self, reply: &Correlation) -> Option<(PartId, u64)> {
        let (asked, part) = self.requests.get(&reply.id)?;
        let same = asked.instance == reply.instance
            && (asked.token == reply.token || mutant::is(Mutant::TokenNotCompared));
        let part = *part;
        if !same {
            return None;
        }
        self.requests.remove(&reply.id);
        Some((part, self.outflow.rows_of(part)))
    }

    fn reserve_ids(&mut self) {
        if !self.dialect.replies() || self.ids_asked || self.ids_due.is_some() {
            return;
        }
        let left: u64 = self.ids.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        if left < LOW {
            self.ids_asked = true;
            self.outputs
                .push_back(Output::Store(Command::Reserve { session: self.session.clone(), count: BLOCK }));
        }
    }

    /// Moves what can move: wishes to the store, parts to the link.
    fn pump(&mut self, now: Instant) {
        loop {
            while let Some(wish) = self.outflow.poll_wish(now) {
                self.outputs.push_back(Output::Store(match wish {
                    Wish::Next { lane, max_rows, max_bytes, live_age } => {
                        Command::Next { lane, max_rows, max_bytes, live_age }
                    }
                    Wish::Land(landed) => {
                        if !self.dialect.replies() {
                            self.counts.delivered += u64::try_from(landed.rows().len()).unwrap_or_default();
                        }
                        Command::Landed(landed)
                    }
                    Wish::Bury(buried) => Command::Bury(buried),
                    Wish::Release { lane, rows } => Command::Release { lane, rows },
                }));
            }
            if !self.fly(now) {
                return;
            }
        }
    }

    /// Encodes and launches one part. Returns whether another try makes sense.
    fn fly(&mut self, now: Instant) -> bool {
        self.ids.retain(|range| !range.is_empty());
        if self.dialect.replies() && self.ids.is_empty() {
            return false;
        }
        if self.budget.as_ref().is_some_and(Budget::is_used_up) {
            return false;
        }
        let Some((flight, key, room)) = self.outflow.poll_part(now) else { return false };
        let Some(endpoint) = self.directory.by_key(&key).cloned() else {
            self.outflow.handle_closed(now, &key, "the endpoint is not configured");
            return true;
        };
        let samples: Vec<_> = self.outflow.rows(flight).into_iter().map(|row| &row.sample).collect();
        let (ids, restarted) = (&mut self.ids, &mut self.restarted);
        let mut next_id = || next_id(ids, restarted);
        let limit = self.max_payload.min(room);
        let mut encoded = self.dialect.encode(&endpoint, &samples, limit, &mut next_id);
        if let Err(EncodeError::TooLarge { .. }) = encoded
            && limit < self.max_payload
        {
            // Over what the window has room for: it flies alone, when the air is clear.
            if !self.outflow.is_air_clear(flight) {
                return false;
            }
            encoded = self.dialect.encode(
                &endpoint,
                samples.get(..1).unwrap_or_default(),
                self.max_payload,
                &mut next_id,
            );
        }
        match encoded {
            // Nothing to say is said: the rows are delivered at once.
            Ok(Encoded { frames, taken, .. }) if frames.is_empty() => {
                if let Some(part) = self.outflow.launch(now, flight, taken, Size::default()) {
                    self.outflow.handle_delivered(now, part);
                }
            }
            Ok(encoded) if encoded.frames.len() > 1 && !self.outflow.fits(encoded.frames.len()) => {
                return false;
            }
            Ok(encoded) => self.launch(now, flight, encoded),
            Err(error) => self.outflow.unsendable(now, flight, &error.to_string()),
        }
        true
    }

    fn launch(&mut self, now: Instant, flight: super::outflow::FlightId, encoded: Encoded) {
        let bytes = encoded.frames.iter().map(|frame| frame.path.expose().len() + frame.body.len()).sum();
        let size = Size { publishes: encoded.frames.len(), bytes };
        let Some(part) = self.outflow.launch(now, flight, encoded.taken, size) else { return };
        self.budget.iter_mut().for_each(|budget| budget.spend(bytes));
        if let Some(correlation) = encoded.reply {
            if self.requests.len() >= REQUESTS {
                let outflow = &self.outflow;
                self.requests.retain(|_, (_, part)| outflow.is_flying(*part));
            }
            self.requests.insert(correlation.id, (correlation, part));
            if mutant::is(Mutant::DeadlineFromSubmission) {
                self.outflow.handle_reply_due(now, part);
            }
        }
        self.outputs.extend(encoded.frames.into_iter().map(|frame| Output::Publish(part, frame)));
    }

    /// Whether an endpoint's lanes may fly on this connection: for `status`.
    pub(crate) fn is_waiting_for_subscriptions(&self) -> bool {
        self.subscriptions.is_open_ended()
    }

    /// The broker refused the filters without which no endpoint can fly: for `status`.
    pub(crate) fn hears_nothing(&self) -> bool {
        self.common_refused
    }

    /// Flights and questions under way, requests remembered, timers: none may grow without bound.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let (held, timers) = self.outflow.sizes();
        (held, self.requests.len(), timers)
    }

    /// Endpoints that are parked and why.
    pub(crate) fn parked(&self) -> Vec<(EndpointKey, String)> {
        self.outflow.parked().map(|(endpoint, why)| (endpoint.clone(), why.to_owned())).collect()
    }
}

fn keep(spent: Vec<u8>) -> Output {
    Output::Store(Command::Put { owner: "uplink", key: "budget", value: spent, answer: None })
}

/// The next reserved id.
fn next_id(ids: &mut VecDeque<Range<u64>>, restarted: &mut u64) -> u32 {
    let mut counter = 0;
    while let Some(range) = ids.front_mut() {
        if let Some(next) = range.next() {
            counter = next;
            break;
        }
        ids.pop_front();
    }
    if mutant::is(Mutant::IdsRestartAtOne) {
        counter = *restarted;
        *restarted += 1;
    }
    u32::try_from(counter % IDS).unwrap_or_default() + 1
}

fn decode(rows: Vec<StoredRow>) -> (Vec<Row>, Vec<(store::RowId, String)>) {
    let (mut good, mut bad) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match item::decode(row.stamp, row.boot, &row.item) {
            Ok(sample) => good.push(Row { id: row.id, sample, again: row.again }),
            Err(error) => bad.push((row.id, error.to_string())),
        }
    }
    (good, bad)
}
