//! What keeps a lane on the ground: its backoff, its endpoint being parked, another lane's probe. Sans-IO.
//!
//! Which lanes may be asked for rows is decided here; what becomes of rows is not.

use super::{FlightId, LaneId, MISSES, Outflow, PartId, Phase, SINGLES, Timer};
use crate::{
    endpoints::EndpointKey,
    mutant::{self, Mutant},
};
use adapter_api::{Instant, journal};
use std::time::Duration;

impl Outflow {
    pub(super) fn lanes_of(&self, endpoint: &EndpointKey) -> Vec<LaneId> {
        self.endpoints.get(endpoint).map(|ways| ways.lanes.clone()).unwrap_or_default()
    }

    pub(super) fn flights_of(&self, endpoint: &EndpointKey) -> Vec<FlightId> {
        let phases = self.lanes_of(endpoint).into_iter().filter_map(|id| Some(self.lanes.get(&id)?.phase));
        phases
            .filter_map(|phase| if let Phase::Flying(flight) = phase { Some(flight) } else { None })
            .collect()
    }

    pub(super) fn queue_all(&mut self, endpoint: &EndpointKey) {
        self.lanes_of(endpoint).into_iter().for_each(|lane| self.queue(lane));
    }

    /// Puts a lane in the queue if it may fly.
    pub(super) fn queue(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let free = lane.phase == Phase::Idle
            || mutant::is(Mutant::TwoFlightsInALane) && matches!(lane.phase, Phase::Flying(_));
        let open = self.endpoints.get(&lane.info.endpoint).is_some_and(|ways| ways.open);
        let turn = self.lanes.get(&id).is_some_and(|lane| self.is_turn(lane));
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        // Asked last: the question takes the one probe of a parked endpoint for this lane.
        if !(free
            && turn
            && lane.more
            && self.connected
            && open
            && self.parking.may_fly(&lane.info.endpoint, id))
        {
            return;
        }
        lane.phase = Phase::Ready;
        let queue = self.lanes.get(&id).map_or(0, |lane| self.queue_of(lane));
        if let Some(ready) = self.ready.get_mut(queue) {
            ready.push_back(id);
        }
    }

    /// A single row was refused for itself.
    pub(super) fn refuse_single(&mut self, now: Instant, part: PartId, lane: LaneId, reason: &str) {
        if self.is_again(part) {
            return self.refuse_again(now, part, lane, reason);
        }
        let Some(found) = self.lanes.get_mut(&lane) else { return };
        found.singles = found.singles.saturating_add(1);
        let (singles, endpoint) = (found.singles, found.info.endpoint.clone());
        let probing = self.parking.is_parked(&endpoint) && singles > SINGLES;
        let alone = probing && !self.parking.are_others_parked(now, &endpoint);
        if alone || probing && self.parking.is_given_up(&endpoint) {
            // A probe that met the next bad row. One row each probe, at the shortest interval: a run of
            // bad rows must not mute the endpoint for ever (I4). Where others are refused as well, the
            // platform is the more likely cause, and a row is given up at the longest interval only.
            if alone {
                self.parking.start_anew(&endpoint);
            }
            self.park(now, &endpoint, reason);
            self.bury(part, reason);
        } else if singles >= SINGLES || self.is_degraded(now) {
            self.park_lane(now, part.flight, lane, reason);
        } else {
            // It was read and judged: the endpoint itself is welcome.
            self.welcome(now, &endpoint);
            self.bury(part, reason);
        }
    }

    fn is_again(&self, part: PartId) -> bool {
        let flight = self.flights.get(&part.flight);
        flight.and_then(|flight| flight.parts.iter().find(|p| p.id == part)).is_some_and(|part| part.again)
    }

    /// A dead letter that was queued again by hand is refused once more, and goes back to where it was. That says
    /// nothing new of its endpoint: a thousand of them must not mute it (I4).
    fn refuse_again(&mut self, now: Instant, part: PartId, lane: LaneId, reason: &str) {
        let Some(endpoint) = self.lanes.get(&lane).map(|lane| lane.info.endpoint.clone()) else { return };
        if self.parking.is_parked(&endpoint) {
            // Where others are refused as well, the platform is the more likely cause.
            if self.parking.are_others_parked(now, &endpoint) {
                self.park(now, &endpoint, reason);
            } else {
                self.welcome(now, &endpoint);
            }
        }
        self.bury(part, reason);
    }

    /// A reply did not come in time.
    pub(super) fn miss(&mut self, now: Instant, part: PartId) -> bool {
        let Some(lane_id) = self.flights.get(&part.flight).map(|flight| flight.lane) else { return false };
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return false };
        lane.misses = lane.misses.saturating_add(1);
        // A probe that is not answered is one that failed.
        if lane.misses >= MISSES || self.parking.is_parked(&lane.info.endpoint) {
            self.park_lane(now, part.flight, lane_id, super::NO_ANSWER);
        } else {
            self.wait(now, lane_id, None);
            self.give_back(now, part.flight);
        }
        true
    }

    /// Keeps a lane on the ground for its backoff, or as long as the platform asked for if that is longer.
    pub(super) fn wait(&mut self, now: Instant, id: LaneId, asked: Option<Duration>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let until = now + lane.backoff.equal_jitter(&mut self.rng).max(asked.unwrap_or_default());
        if matches!(lane.phase, Phase::Flying(_) | Phase::Asked) {
            // Proofs the store has not taken yet keep the lane; it waits after them.
            lane.hold = Some(until);
        } else {
            lane.phase = Phase::Waiting(until);
            self.timers.insert((until, Timer::Lane(id)));
        }
    }

    pub(super) fn park_lane(&mut self, now: Instant, flight: FlightId, lane: LaneId, reason: &str) {
        let Some(endpoint) = self.lanes.get(&lane).map(|lane| lane.info.endpoint.clone()) else { return };
        // First parked, then given back: or the lane would be queued at once.
        self.park(now, &endpoint, reason);
        self.give_back(now, flight);
    }

    pub(super) fn park(&mut self, now: Instant, endpoint: &EndpointKey, reason: &str) {
        if !self.parking.is_parked(endpoint) {
            tracing::debug!(%endpoint, why = reason, "endpoint parked, its data is kept");
            journal::stir();
        }
        let until = self.parking.park(now, endpoint, reason, &mut self.rng);
        self.timers.insert((until, Timer::Probe(endpoint.clone())));
        for id in self.lanes_of(endpoint) {
            if let Some(lane) = self.lanes.get_mut(&id)
                && matches!(lane.phase, Phase::Ready | Phase::Waiting(_))
            {
                lane.phase = Phase::Idle;
            }
        }
        // What has not left yet stays here.
        for id in self.flights_of(endpoint) {
            if self.flights.get(&id).is_some_and(|flight| flight.parts.is_empty()) {
                self.give_back(now, id);
            }
        }
        // Noted now: a minute later nobody has flown "in the last minute".
        self.is_degraded(now);
    }

    /// One lane of a parked endpoint may fly with one row: the next that has one.
    pub(super) fn probe(&mut self, endpoint: &EndpointKey) {
        let Some(ways) = self.endpoints.get(endpoint) else { return };
        if ways.closed {
            self.parking.allow(endpoint, None);
            if self.connected {
                self.unheard.push_back(endpoint.clone());
            }
            return;
        }
        let after = ways.lanes.iter().position(|lane| Some(*lane) == ways.probed).map_or(0, |last| last + 1);
        let mut turn = ways.lanes.iter().cycle().skip(after).take(ways.lanes.len());
        let next = turn.find(|id| self.lanes.get(id).is_some_and(|lane| lane.more && self.is_turn(lane)));
        let next = next.copied();
        if let Some(ways) = self.endpoints.get_mut(endpoint) {
            ways.probed = next.or(ways.probed);
        }
        self.parking.allow(endpoint, next);
        if let Some(lane) = next {
            self.queue(lane);
        }
    }

    /// A lane that has nothing left does not keep its endpoint's probe.
    pub(super) fn pass_probe_on(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let may_not = !lane.more || !self.is_turn(lane);
        if lane.phase == Phase::Idle && may_not && self.parking.is_probing(&lane.info.endpoint, id) {
            let endpoint = lane.info.endpoint.clone();
            self.probe(&endpoint);
        }
    }

    /// Something of this endpoint was accepted: it is parked no longer, and while the uplink is
    /// degraded the others are probed soon, paced.
    pub(super) fn welcome(&mut self, now: Instant, endpoint: &EndpointKey) {
        if !self.parking.is_parked(endpoint) {
            return;
        }
        let degraded = self.is_degraded(now);
        tracing::debug!(%endpoint, "endpoint accepted again");
        journal::stir();
        self.parking.unpark(endpoint);
        self.lanes_of(endpoint).into_iter().for_each(|lane| self.suspects.lift(lane));
        if degraded {
            for (until, endpoint) in self.parking.bring_forward(now) {
                self.timers.insert((until, Timer::Probe(endpoint)));
            }
        }
        self.queue_all(endpoint);
    }
}
