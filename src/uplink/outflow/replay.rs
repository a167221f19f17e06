//! Live rows and backlog: which queue a lane stands in, the order of an endpoint's lanes, and how much of
//! the window backlog may have. Sans-IO.
//!
//! With `order = "live-first"` the store makes a lane a backlog that has fallen behind; an endpoint's
//! backlog lanes fly one at a time, lowest seq first. With `"in-order"` those that an earlier life left
//! fly before the endpoint's live rows.

use super::{FlightId, Lane, Outflow, Phase, Size};
use crate::{
    mutant::{self, Mutant},
    store::{Class, LaneId},
    uplink::pacing::Order,
};
use adapter_api::Instant;
use std::{collections::VecDeque, time::Duration};

/// The queues in the order they are served.
const CONTROL: usize = 0;
const LIVE: usize = 1;
pub(super) const BACKLOG: usize = 2;
/// Live rows come every few seconds, not all the time: for so long after them the window keeps room.
/// What is in the air when they come is what they wait for.
const LATELY: Duration = Duration::from_secs(10);
/// Bytes of a part that are worth a round trip on any link.
const PART: usize = 4 << 10;

impl Outflow {
    /// Where a lane waits for its turn.
    pub(super) fn queue_of(&self, lane: &Lane) -> usize {
        match (lane.info.class, self.pace.replay.order) {
            (Class::Control, _) => CONTROL,
            (Class::Backlog, Order::LiveFirst) => BACKLOG,
            (Class::Telemetry, _) | (Class::Backlog, Order::InOrder) => LIVE,
        }
    }

    /// How old a live lane's oldest row may be; `None` where no lane falls behind.
    pub(super) fn live_age(&self) -> Option<Duration> {
        (self.pace.replay.order == Order::LiveFirst).then_some(self.pace.replay.live_age)
    }

    /// Whether no earlier backlog of the endpoint has to fly before this lane.
    pub(super) fn is_turn(&self, lane: &Lane) -> bool {
        let waits = match lane.info.class {
            Class::Control => false,
            Class::Telemetry => self.pace.replay.order == Order::InOrder,
            Class::Backlog => !mutant::is(Mutant::BacklogAtOnce),
        };
        let Some(ways) = self.endpoints.get(&lane.info.endpoint).filter(|_| waits) else { return true };
        let earlier = |other: &&Lane| other.info.class == Class::Backlog && other.info.seq < lane.info.seq;
        let mut earlier = ways.lanes.iter().filter_map(|id| self.lanes.get(id)).filter(earlier);
        earlier.all(|other| !other.more && other.phase == Phase::Idle)
    }

    /// A backlog lane that has nothing left lets those after it fly.
    pub(super) fn let_next_fly(&mut self, id: LaneId) {
        let drained =
            |lane: &&Lane| lane.info.class == Class::Backlog && lane.phase == Phase::Idle && !lane.more;
        if let Some(lane) = self.lanes.get(&id).filter(drained) {
            let endpoint = lane.info.endpoint.clone();
            self.queue_all(&endpoint);
        }
    }

    /// Bytes that a queue may still send; `None` if it has to wait for the window.
    pub(super) fn room(&mut self, now: Instant, queue: usize) -> Option<usize> {
        let room = self.window.room(now)?;
        if queue != BACKLOG || !self.is_live_about(now) {
            return Some(room);
        }
        let share = self.window.share(self.pace.replay.share);
        if self.backlog_air.publishes == 0 {
            // One part may always go: of its share, or of a size that is worth a round trip.
            return Some(room.min(share.bytes.max(PART)));
        }
        let left = share.bytes.saturating_sub(self.backlog_air.bytes);
        if self.backlog_air.publishes >= share.publishes || left == 0 {
            self.window.fill();
            return None;
        }
        Some(room.min(left))
    }

    /// When a limit lets backlog go on, if that is not now.
    pub(super) fn backlog_wait(&self, now: Instant, queue: usize) -> Option<Instant> {
        self.backlog_rate.as_ref().filter(|_| queue == BACKLOG)?.wait(now)
    }

    /// Most rows of a part that limits allow: a second's worth.
    pub(super) fn most_rows(&self, lane: &Lane) -> usize {
        let rate = self.backlog_rate.as_ref().filter(|_| self.queue_of(lane) == BACKLOG);
        rate.map_or(usize::MAX, super::Bucket::rate)
    }

    /// A part of so many rows went.
    pub(super) fn note_sent(&mut self, now: Instant, flight: FlightId, size: Size, rows: usize) {
        let lane = self.flights.get(&flight).and_then(|flight| self.lanes.get(&flight.lane));
        match lane.map(|lane| self.queue_of(lane)) {
            Some(BACKLOG) => {
                self.backlog_air.publishes = self.backlog_air.publishes.saturating_add(size.publishes);
                self.backlog_air.bytes = self.backlog_air.bytes.saturating_add(size.bytes);
                self.backlog_rate.iter_mut().for_each(|bucket| bucket.take(now, rows));
            }
            Some(LIVE) => self.expect_live(now),
            _ => {}
        }
    }

    /// Live rows will come, as they did lately.
    pub(super) fn expect_live(&mut self, now: Instant) {
        self.live_until = Some(now + LATELY);
    }

    /// So much of a lane is no longer in the air.
    pub(super) fn out_of_the_air(&mut self, now: Instant, lane: LaneId, held: Size) {
        self.window.lost(now, held);
        if self.lanes.get(&lane).is_some_and(|lane| self.queue_of(lane) == BACKLOG) {
            self.backlog_air.publishes = self.backlog_air.publishes.saturating_sub(held.publishes);
            self.backlog_air.bytes = self.backlog_air.bytes.saturating_sub(held.bytes);
        }
    }

    /// Whether live rows wait, or flew lately.
    fn is_live_about(&self, now: Instant) -> bool {
        let waits = |lines: &[VecDeque<FlightId>]| lines.get(LIVE).is_some_and(|line| !line.is_empty());
        self.live_until.is_some_and(|until| now < until)
            || self.ready.get(LIVE).is_some_and(|ready| !ready.is_empty())
            || self.asked.get(LIVE).is_some_and(|asked| *asked > 0)
            || waits(&self.unsent)
    }
}
