//! What comes from the store: lanes that hold rows, rows, and that proofs were taken. Sans-IO.

use super::{Buried, Flight, FlightId, Lane, Outflow, Phase, Row, Timer, Wish};
use crate::{
    backoff::Backoff,
    mutant::{self, Mutant},
    store::{LaneId, LaneInfo, RowId},
};
use adapter_api::Instant;

impl Outflow {
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
        self.answered(id);
        let Some(lane) = self.lanes.get_mut(&id) else {
            // Its endpoint left the configuration meanwhile: they stay where they are.
            let rows: Vec<RowId> =
                rows.iter().map(|row| row.id).chain(unreadable.iter().map(|row| row.0)).collect();
            if !rows.is_empty() {
                self.wishes.push_back(Wish::Release { lane: id, rows });
            }
            return;
        };
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
        self.parking.flew(now, &info.endpoint, id);
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

    /// In place of rows: this lane has fallen behind, and is a backlog from now on.
    pub fn handle_behind(&mut self, info: &LaneInfo) {
        self.answered(info.id);
        let Some(lane) = self.lanes.get_mut(&info.id) else { return };
        lane.info.class = info.class;
        if lane.phase == Phase::Asked {
            lane.phase = Phase::Idle;
            lane.more = true;
        }
        self.queue(info.id);
        self.pass_probe_on(info.id);
    }

    /// A backlog lane is drained and no more: those after it may fly.
    pub fn handle_drained(&mut self, id: LaneId) {
        self.answered(id);
        // One that flies all the same ends its flight first; then it is idle and in nobody's way.
        if self.lanes.get(&id).is_none_or(|lane| matches!(lane.phase, Phase::Flying(_))) {
            return;
        }
        let Some(lane) = self.lanes.remove(&id) else { return };
        self.suspects.forget(id);
        let endpoint = lane.info.endpoint;
        let probing = self.parking.is_probing(&endpoint, id);
        if let Some(ways) = self.endpoints.get_mut(&endpoint) {
            ways.lanes.retain(|lane| *lane != id);
        }
        if probing {
            self.probe(&endpoint);
        }
        self.queue_all(&endpoint);
    }

    /// A question to the store is answered.
    pub(super) fn answered(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(&id).filter(|lane| lane.phase == Phase::Asked) else { return };
        let queue = self.queue_of(lane);
        if let Some(asked) = self.asked.get_mut(queue) {
            *asked = asked.saturating_sub(1);
        }
    }

    /// The store has taken one proof of this flight: its rows cannot be handed out again.
    pub fn handle_taken(&mut self, flight: FlightId) {
        if let Some(flying) = self.flights.get_mut(&flight) {
            flying.proofs = flying.proofs.saturating_sub(1);
        }
        self.settle(flight);
    }

    /// Frees the lane of a flight when nothing of it is in the air or on its way to the store.
    pub(super) fn settle(&mut self, id: FlightId) {
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
        self.let_next_fly(lane_id);
    }

    /// Takes a flight out of the air: its rows come back, in order.
    pub(super) fn give_back(&mut self, now: Instant, id: FlightId) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let parts = std::mem::take(&mut flight.parts);
        let unsent = std::mem::take(&mut flight.unsent);
        let lane_id = flight.lane;
        let rows: Vec<RowId> = parts
            .iter()
            .flat_map(|part| part.rows.iter().copied())
            .chain(unsent.iter().map(|row| row.id))
            .collect();
        self.out_of_line(id);
        for part in &parts {
            self.end_deadline(part);
            self.out_of_the_air(now, lane_id, part.held);
        }
        if !rows.is_empty() {
            self.wishes.push_back(Wish::Release { lane: lane_id, rows });
            if let Some(lane) = self.lanes.get_mut(&lane_id) {
                lane.more = true;
            }
        }
        self.settle(id);
    }
}
