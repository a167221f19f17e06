//! Endpoints that leave the configuration, or come to have another token. Sans-IO.
//!
//! What of theirs is in the air comes back: its rows stay queued, and fly again when the endpoint does. A
//! confirmation that is under way confirms nothing any more, so that some may arrive twice.

use super::{Outflow, Phase};
use crate::{
    endpoints::EndpointKey,
    mutant::{self, Mutant},
    store::{LaneId, LaneInfo},
};
use adapter_api::Instant;

impl Outflow {
    /// This endpoint has another token, for which it was not refused: it flies when [`Outflow::handle_open`] says
    /// that its filters are granted.
    pub fn handle_shut(&mut self, now: Instant, endpoint: &EndpointKey) {
        if mutant::is(Mutant::OpenWithTheOldFilter) {
            return;
        }
        self.ground(now, endpoint);
        self.parking.unpark(endpoint);
        if let Some(ways) = self.endpoints.get_mut(endpoint) {
            ways.probed = None;
        }
        for id in self.lanes_of(endpoint) {
            self.suspects.forget(id);
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            if matches!(lane.phase, Phase::Waiting(_)) {
                lane.phase = Phase::Idle;
            }
            (lane.misses, lane.singles, lane.hold) = (0, 0, None);
            lane.backoff.reset();
        }
    }

    /// This endpoint left the configuration: its lanes are forgotten.
    pub fn handle_left(&mut self, now: Instant, endpoint: &EndpointKey) {
        self.ground(now, endpoint);
        self.parking.unpark(endpoint);
        self.lanes_of(endpoint).into_iter().for_each(|id| self.forget(id));
        self.endpoints.remove(endpoint);
    }

    /// The store says that a lane holds rows. If it was another endpoint's, that one is called otherwise, and what
    /// of the lane is in the air comes back.
    ///
    /// So it does where the token stays the same as well. The store has the new name first, the session later: for
    /// flights to go on, each proof under way would name an endpoint that the other side does not know, and the lanes of
    /// two that become one would change their order under them (I2, I3). A name changes seldom, and what it costs is a
    /// window of rows that may arrive twice.
    pub fn handle_renamed(&mut self, now: Instant, lane: &LaneInfo) {
        let Some(known) = self.lanes.get(&lane.id).filter(|known| known.info.endpoint != lane.endpoint)
        else {
            return;
        };
        let (former, phase) = (known.info.endpoint.clone(), known.phase);
        if let Phase::Flying(flight) = phase {
            self.give_back(now, flight);
        }
        self.forget(lane.id);
        if let Some(ways) = self.endpoints.get_mut(&former) {
            ways.lanes.retain(|known| *known != lane.id);
        }
    }

    /// Forgets a lane that is not in the air any more.
    fn forget(&mut self, id: LaneId) {
        self.suspects.forget(id);
        // A question to the store is answered to nobody.
        self.answered(id);
        if let Some(Phase::Flying(flight)) = self.lanes.remove(&id).map(|lane| lane.phase) {
            // Only its proofs are under way still.
            self.flights.remove(&flight);
        }
    }

    /// Takes everything of an endpoint out of the air, and lets nothing more fly.
    fn ground(&mut self, now: Instant, endpoint: &EndpointKey) {
        if let Some(ways) = self.endpoints.get_mut(endpoint) {
            (ways.open, ways.closed) = (false, false);
        }
        self.unheard.retain(|waiting| waiting != endpoint);
        for id in self.lanes_of(endpoint) {
            if let Some(lane) = self.lanes.get_mut(&id)
                && lane.phase == Phase::Ready
            {
                lane.phase = Phase::Idle;
            }
        }
        if mutant::is(Mutant::FlightsKeptOverDeparture) {
            return;
        }
        for flight in self.flights_of(endpoint) {
            self.give_back(now, flight);
        }
    }
}
