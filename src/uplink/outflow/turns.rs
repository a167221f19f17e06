//! Whose turn it is: lanes wait for rows, flights for the window, timers for their moment. Sans-IO.

use super::{FlightId, Outflow, PIPELINE, Part, PartId, Phase, READ, Row, Size, Timer, Wish};
use crate::{dialect::Refusal, endpoints::EndpointKey};
use adapter_api::Instant;
use std::collections::VecDeque;

impl Outflow {
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
        self.unsent.retain(|waiting| *waiting != flight);
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

    /// Puts a flight in the line for the window if a part of it may go.
    pub(super) fn line_up(&mut self, id: FlightId) {
        let at_once = if self.pace.replies { 1 } else { PIPELINE };
        let free = self
            .flights
            .get(&id)
            .is_some_and(|flight| !flight.unsent.is_empty() && flight.parts.len() < at_once);
        if free && !self.unsent.contains(&id) {
            self.unsent.push_back(id);
        }
    }
}
