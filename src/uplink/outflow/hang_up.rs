//! What becomes of those on whose parts the broker hangs up: they fly alone, in halves, or are parked. The rules
//! are stated in `suspects`. Sans-IO.

use super::{HUNG_UP, LaneId, Outflow, Phase, QUEUES, RowId, Timer};
use crate::mutant::{self, Mutant};
use adapter_api::Instant;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// So long on a new connection others go first. A connection that lasted this long is opened anew at once.
const PATIENCE: Duration = Duration::from_secs(10);

impl Outflow {
    /// The broker hung up; [`Outflow::handle_disconnected`] comes after it. Returns whether it did so on what was
    /// sent, as far as that can be known.
    pub fn handle_hang_up(&mut self, now: Instant) -> bool {
        if mutant::is(Mutant::HangUpIsChance) {
            return false;
        }
        let mut air = BTreeMap::<LaneId, RowId>::new();
        let mut parts = Vec::new();
        for flight in self.flights.values() {
            for part in flight.parts.iter().filter(|part| part.held.publishes > 0) {
                let Some(head) = part.rows.first() else { continue };
                air.entry(flight.lane).or_insert(*head);
                parts.push((flight.lane, part.rows.len()));
            }
        }
        self.suspects.note(&air, parts.len() == 1);
        if let [(lane, rows)] = parts.as_slice() {
            self.judge(now, *lane, *rows);
        }
        air.keys().any(|lane| self.suspects.is_told(*lane))
    }

    /// The broker hung up with nothing in the air but so many rows of this lane.
    fn judge(&mut self, now: Instant, id: LaneId, rows: usize) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let endpoint = lane.info.endpoint.clone();
        if !self.suspects.is_at_fault(id) && !self.parking.is_parked_for(&endpoint, HUNG_UP) {
            return;
        }
        if rows > 1 {
            lane.limit = rows.div_ceil(2);
            self.suspects.hold(now, id, lane.limit);
            tracing::debug!(%endpoint, rows, "the broker hangs up on so many rows at once: half of them are tried");
        } else {
            self.park(now, &endpoint, HUNG_UP);
        }
    }

    /// Whether a part of this lane may end the connection.
    pub(super) fn flies_alone(&self, id: LaneId) -> bool {
        let endpoint = self.lanes.get(&id).map(|lane| &lane.info.endpoint);
        self.suspects.is_suspect(id)
            || endpoint.is_some_and(|endpoint| self.parking.is_parked_for(endpoint, HUNG_UP))
    }

    /// The queue whose first flight flies alone. It waits until the air is clear, and all others wait for it: of
    /// thousands some would always be in the air.
    pub(super) fn alone_in_line(&self, now: Instant) -> Option<usize> {
        // The lane that an endpoint was parked for stays among them.
        if self.suspects.is_empty() {
            return None;
        }
        (0..QUEUES).find(|queue| {
            let first = self.unsent.get(*queue).and_then(VecDeque::front);
            let lane = first.and_then(|id| self.flights.get(id)).map(|flight| flight.lane);
            lane.is_some_and(|lane| self.flies_alone(lane)) && self.backlog_wait(now, *queue).is_none()
        })
    }

    /// On a new connection others go first, if there are any.
    pub(super) fn let_others_go_first(&mut self, now: Instant) {
        let patient = self.suspects.patient();
        if patient.is_empty() {
            return;
        }
        let mut others = self.lanes.iter().filter(|(id, lane)| lane.more && !patient.contains(id));
        if !others.any(|(_, lane)| !self.parking.is_parked(&lane.info.endpoint)) {
            return;
        }
        let until = now + PATIENCE;
        for id in patient {
            if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.phase == Phase::Idle) {
                lane.phase = Phase::Waiting(until);
                self.timers.insert((until, Timer::Lane(id)));
            }
        }
    }
}
