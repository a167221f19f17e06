//! Whose turn it is: lanes wait for rows, flights for the window, timers for their moment. Sans-IO.

use super::{
    AHEAD, FlightId, LEAST, Outflow, PIPELINE, Part, PartId, Phase, QUEUES, READ, Row, Size, Timer, Wish,
    replay::BACKLOG,
};
use crate::{
    dialect::Refusal,
    endpoints::EndpointKey,
    store::{Class, LaneId},
};
use adapter_api::Instant;
use std::collections::VecDeque;

impl Outflow {
    /// The next encoding to make: a flight, its leading unsent rows, and the bytes they may take.
    pub fn poll_part(&mut self, now: Instant) -> Option<(FlightId, EndpointKey, usize)> {
        if self.draining {
            return None;
        }
        let alone = self.alone_in_line(now);
        if alone.is_some() && self.window.air().publishes > 0 {
            return None;
        }
        for queue in (0..QUEUES).filter(|queue| alone.is_none_or(|alone| alone == *queue)) {
            let Some(id) = self.unsent.get(queue).and_then(VecDeque::front).copied() else { continue };
            if let Some(later) = self.pacing.wait(now).or_else(|| self.backlog_wait(now, queue)) {
                self.paced_until = Some(self.paced_until.map_or(later, |known| known.min(later)));
                continue;
            }
            let Some(room) = self.room(now, queue) else { continue };
            let lane = self.lanes.get(&self.flights.get(&id)?.lane)?;
            return Some((id, lane.info.endpoint.clone(), room.min(self.pacing.most_bytes())));
        }
        None
    }

    /// The unsent rows of a flight, at most one part's worth.
    pub fn rows(&self, flight: FlightId) -> Vec<&Row> {
        let Some(flying) = self.flights.get(&flight) else { return Vec::new() };
        let Some(lane) = self.lanes.get(&flying.lane) else { return Vec::new() };
        let limit = lane.limit.min(self.pace.batch).min(self.most_rows(lane));
        flying.unsent.iter().take(limit.max(1)).collect()
    }

    /// Whether nothing is in the air: then one part may go, however large. Backlog need not wait for
    /// live rows: they may never be all down.
    pub fn is_air_clear(&self, flight: FlightId) -> bool {
        let lane = self.flights.get(&flight).and_then(|flight| self.lanes.get(&flight.lane));
        let backlog = lane.is_some_and(|lane| self.queue_of(lane) == BACKLOG);
        self.window.air().publishes == 0 || backlog && self.backlog_air.publishes == 0
    }

    /// Whether the window has room for so many frames at once.
    pub fn fits(&mut self, frames: usize) -> bool {
        self.window.fits(frames)
    }

    /// The leading `taken` rows of a flight go out in so many frames and bytes.
    pub fn launch(&mut self, now: Instant, flight: FlightId, taken: usize, size: Size) -> Option<PartId> {
        let alone = self.flies_alone(self.flights.get(&flight)?.lane);
        let flying = self.flights.get_mut(&flight)?;
        let id = PartId { flight, part: flying.next_part };
        flying.next_part += 1;
        let again = taken == 1 && flying.unsent.front().is_some_and(|row| row.again);
        let rows = flying.unsent.drain(..taken.min(flying.unsent.len())).map(|row| row.id).collect();
        flying.parts.push(Part {
            id,
            rows,
            again,
            frames: size.publishes,
            size,
            sent: now,
            held: size,
            late: None,
            deadline: None,
        });
        self.window.sent(size, alone);
        self.pacing.sent(now, size);
        self.note_sent(now, flight, size, taken);
        // To the end of the line: lanes fly in turn.
        self.out_of_line(flight);
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
            again: row.again,
            frames: 1,
            size,
            sent: now,
            held: size,
            late: None,
            deadline: None,
        });
        if flying.unsent.is_empty() {
            self.out_of_line(flight);
        }
        self.handle_refused(now, id, &Refusal::Item, reason);
    }

    /// The next moment at which something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at).into_iter().chain(self.paced_until).min()
    }

    /// Does what is due. Returns how many replies were missed.
    pub fn handle_timeout(&mut self, now: Instant) -> usize {
        let mut missed = 0;
        self.paced_until = self.paced_until.filter(|until| *until > now);
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
                    let Some(flying) = self.flights.get_mut(&part.flight) else { continue };
                    let lane = flying.lane;
                    if let Some(part) = flying.parts.iter_mut().find(|p| p.id == part) {
                        let held = std::mem::take(&mut part.held);
                        self.suspects.clear(lane);
                        self.out_of_the_air(now, lane, held);
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
        if !self.connected || self.draining {
            return None;
        }
        for queue in 0..QUEUES {
            // No more lanes are read than could fly: their rows would only wait in memory.
            while self.could_fly(queue)
                && let Some(room) = self
                    .ready
                    .get(queue)
                    .is_some_and(|r| !r.is_empty())
                    .then(|| self.room(now, queue))
                    .flatten()
                && let Some(id) = self.ready.get_mut(queue).and_then(VecDeque::pop_front)
            {
                if let Some(wish) = self.ask(id, queue, room) {
                    return Some(wish);
                }
            }
        }
        None
    }

    /// Whether fewer lanes of a queue are read than could fly.
    fn could_fly(&self, queue: usize) -> bool {
        self.read(queue) < self.window.publishes()
    }

    /// Lanes of a queue whose rows are in memory and wait for the window, or are on their way.
    fn read(&self, queue: usize) -> usize {
        self.asked.get(queue).copied().unwrap_or_default() + self.unsent.get(queue).map_or(0, VecDeque::len)
    }

    /// Asks for rows of a lane whose turn it is.
    fn ask(&mut self, id: LaneId, queue: usize, room: usize) -> Option<Wish> {
        let in_line = self.read(queue) + self.ready.get(queue).map_or(0, VecDeque::len);
        let ahead = PIPELINE.min(self.window.publishes()).min((AHEAD / in_line.max(1)).max(LEAST));
        let batches = if self.pace.replies { 1 } else { ahead };
        let lane = self.lanes.get_mut(&id).filter(|lane| lane.phase == Phase::Ready)?;
        let probing = self.parking.is_parked(&lane.info.endpoint);
        let max_rows = if probing { 1 } else { lane.limit.saturating_mul(batches) };
        if probing {
            lane.limit = 1;
        }
        lane.phase = Phase::Asked;
        let telemetry = lane.info.class == Class::Telemetry;
        if let Some(asked) = self.asked.get_mut(queue) {
            *asked += 1;
        }
        let live_age = (telemetry && !probing).then_some(self.live_age()).flatten();
        Some(Wish::Next { lane: id, max_rows, max_bytes: room.clamp(1, READ), live_age })
    }

    /// Lets nothing new fly; what is in the air may still be confirmed.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Puts a flight in the line for the window if a part of it may go.
    pub(super) fn line_up(&mut self, id: FlightId) {
        let at_once = if self.pace.replies { 1 } else { PIPELINE };
        let Some(flight) = self.flights.get(&id) else { return };
        let free = !flight.unsent.is_empty() && flight.parts.len() < at_once;
        let Some(queue) = self.lanes.get(&flight.lane).map(|lane| self.queue_of(lane)) else { return };
        if let Some(unsent) = self.unsent.get_mut(queue).filter(|unsent| free && !unsent.contains(&id)) {
            unsent.push_back(id);
        }
    }

    /// Takes a flight out of the line.
    pub(super) fn out_of_line(&mut self, id: FlightId) {
        for unsent in &mut self.unsent {
            // Mostly it is its turn just now.
            if unsent.front() == Some(&id) {
                unsent.pop_front();
            } else {
                unsent.retain(|waiting| *waiting != id);
            }
        }
    }
}
