//! What comes from the link: connections, confirmations, refusals, and filters that were refused. Sans-IO.

use super::{Buried, FlightId, LATE, Landed, Outflow, Part, PartId, Phase, Size, Timer, Window, Wish};
use crate::{
    dialect::Refusal,
    endpoints::EndpointKey,
    mutant::{self, Mutant},
    store::RowId,
};
use adapter_api::Instant;
use std::collections::VecDeque;

impl Outflow {
    /// A connection is up; nothing of an earlier one counts on it.
    pub fn handle_connected(&mut self, now: Instant) {
        self.connected = true;
        self.window = Window::new();
        self.backlog_air = Size::default();
        // Those that come first would wait behind a whole window.
        self.expect_live(now);
        self.let_others_go_first(now);
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
        self.backlog_air = Size::default();
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
        self.out_of_the_air(now, lane_id, landed.held);
        self.window.carried(now, landed.sent, landed.size);
        self.suspects.clear(lane_id);
        let most = self.suspects.most(now, lane_id, self.pace.batch);
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return true };
        lane.backoff.reset();
        (lane.misses, lane.singles) = (0, 0);
        lane.limit = lane.limit.saturating_mul(2).clamp(1, most);
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
        let (held, sent, size) = (std::mem::take(&mut refused.held), refused.sent, refused.size);
        // The link carried it and its answer: as good as a confirmation for the window.
        self.out_of_the_air(now, lane_id, held);
        self.window.carried(now, sent, size);
        self.suspects.clear(lane_id);
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

    pub(super) fn end_deadline(&mut self, part: &Part) {
        if let (Some(late), Some(deadline)) = (part.late, part.deadline) {
            self.timers.remove(&(late, Timer::Late(part.id)));
            self.timers.remove(&(deadline, Timer::Reply(part.id)));
        }
    }

    pub(super) fn bury(&mut self, part: PartId, reason: &str) {
        let Some(flying) = self.flights.get_mut(&part.flight) else { return };
        let Some(at) = flying.parts.iter().position(|p| p.id == part) else { return };
        let refused = flying.parts.remove(at);
        flying.proofs += refused.rows.len();
        let lane_id = flying.lane;
        self.end_deadline(&refused);
        let Some(lane) = self.lanes.get(&lane_id).map(|lane| lane.info.clone()) else { return };
        for row in refused.rows {
            tracing::debug!(endpoint = %lane.endpoint, why = reason, "sample refused for good, kept as a dead letter");
            let buried = Buried { lane: lane.clone(), flight: part.flight, row, reason: reason.to_owned() };
            self.wishes.push_back(Wish::Bury(buried));
        }
        // What comes after it waits until the store has it among the dead: after a crash in between it
        // would come again, and behind them.
        let unsent: Vec<RowId> = match self.flights.get_mut(&part.flight) {
            Some(flight) => flight.unsent.drain(..).map(|row| row.id).collect(),
            None => Vec::new(),
        };
        self.out_of_line(part.flight);
        if !unsent.is_empty() {
            self.wishes.push_back(Wish::Release { lane: lane_id, rows: unsent });
            if let Some(lane) = self.lanes.get_mut(&lane_id) {
                lane.more = true;
            }
        }
        self.settle(part.flight);
    }
}
