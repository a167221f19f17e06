//! The simulated store: the real index of lanes over rows that survive a power cut, answering late.

use super::plan::{Plan, Us};
use crate::{
    endpoints::EndpointKey,
    store::{
        Class, Event, LaneId, LaneInfo, RowId, StoredRow,
        lanes::{Intake, Lanes},
    },
    uplink::{outflow::FlightId, pacing::Order},
};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A sample by its lane and its own number.
pub(super) type Number = (usize, u64);

/// A question that is answered later.
#[derive(Debug)]
pub(super) enum Job {
    Next {
        lane: LaneId,
        max_rows: usize,
        max_bytes: usize,
        live_age: Option<Us>,
    },
    Release {
        lane: LaneId,
        rows: Vec<RowId>,
    },
    Take {
        lane: LaneId,
        flight: FlightId,
        rows: Vec<RowId>,
        dead: bool,
    },
    Reserve(u64),
    /// The transaction that deletes what is gone.
    Delete,
    Carry(Vec<EndpointKey>),
}

/// Disk and memory of the store.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    // On disk.
    pub(super) rows: BTreeMap<i64, Number>,
    pub(super) infos: Vec<LaneInfo>,
    /// Lanes that are no more.
    removed: BTreeSet<usize>,
    pub(super) next_id: u64,
    /// What is spent of the day's budget, as it was written down last.
    pub(super) budget: Vec<u8>,
    pub(super) dead: BTreeSet<Number>,
    pub(super) stored: u64,
    pub(super) landed: u64,
    pub(super) dropped: u64,
    live_first: bool,
    /// Lanes that fell behind, and that were drained afterwards.
    pub(super) behind: u64,
    pub(super) drained: u64,
    /// When each row was taken.
    taken: BTreeMap<i64, Us>,
    /// Sample numbers of each lane so far.
    numbers: Vec<u64>,
    last_row: i64,
    // In memory.
    lanes: Lanes,
    /// Endpoints that the uplink carries.
    carried: BTreeSet<EndpointKey>,
    /// Lanes that are called otherwise, until the uplink carries them so: nothing of theirs is in flight.
    renamed: BTreeSet<LaneId>,
    gone: Vec<(i64, bool)>,
    claimed: BTreeMap<LaneId, BTreeSet<RowId>>,
    /// When the last ordered answer is due.
    pub(super) busy_until: Us,
    /// When the last of all is, and before when nothing that is asked now is done.
    pub(super) last_job: Us,
    pub(super) barrier: Us,
    pub(super) delete_due: bool,
}

impl Shelf {
    pub(super) fn new(plan: &Plan, endpoints: &[EndpointKey]) -> Self {
        let live_first = plan.pace.replay.order == Order::LiveFirst;
        let mut shelf = Self { next_id: plan.first_id, live_first, ..Self::default() };
        for (e, endpoint) in endpoints.iter().enumerate() {
            for l in 0..plan.lanes {
                let id = LaneId(i64::try_from(e * plan.lanes + l + 1).unwrap());
                let class = plan.class(l);
                shelf.infos.push(LaneInfo {
                    id,
                    endpoint: endpoint.clone(),
                    class,
                    seq: i64::try_from(l).unwrap(),
                });
            }
        }
        shelf.numbers = vec![0; shelf.infos.len()];
        shelf.restart();
        shelf.carry(endpoints.to_vec());
        shelf
    }

    /// The power was cut: memory is rebuilt from the disk.
    pub(super) fn restart(&mut self) {
        self.lanes = Lanes::default();
        self.carried.clear();
        self.gone.clear();
        self.claimed.clear();
        self.busy_until = 0;
        self.delete_due = false;
        self.barrier = 0;
        self.last_job = 0;
        for (_, info) in self.infos.iter().enumerate().filter(|(lane, _)| !self.removed.contains(lane)) {
            self.lanes.add(info.clone());
        }
        for (row, (lane, _)) in &self.rows {
            self.lanes.push(self.infos[*lane].id, RowId(*row), 1);
        }
    }

    /// The uplink carries these from now on: of those it did not, nothing is in the air.
    pub(super) fn carry(&mut self, endpoints: Vec<EndpointKey>) {
        let before = std::mem::replace(&mut self.carried, endpoints.into_iter().collect());
        for info in &self.infos {
            if self.carried.contains(&info.endpoint) && !before.contains(&info.endpoint) {
                self.lanes.reset(info.id);
                self.claimed.remove(&info.id);
                self.renamed.remove(&info.id);
            }
        }
    }

    /// An endpoint is called otherwise: its lanes, which go along, and what flies of them is on the books again.
    pub(super) fn rename(&mut self, from: &EndpointKey, to: &EndpointKey) -> Vec<LaneId> {
        let lanes = self.lanes.renamed(from, to, &HashSet::new());
        for (id, info) in &lanes {
            self.lanes.rename(*id, info.clone());
            self.lanes.reset(*id);
            self.claimed.remove(id);
            self.renamed.insert(*id);
        }
        // What is committed to a lane that is no more goes to one of the same endpoint.
        self.infos.iter_mut().filter(|i| i.endpoint == *from).for_each(|i| i.endpoint = to.clone());
        lanes.into_iter().map(|(id, _)| id).collect()
    }

    /// Whether the uplink carries the endpoint of a lane.
    pub(super) fn is_carried(&self, lane: LaneId) -> bool {
        self.carried.contains(&self.infos[self.index(lane)].endpoint)
    }

    /// What is said to an uplink that starts, or that carries endpoints it did not.
    pub(super) fn announcements(&mut self) -> Vec<Event> {
        let carried = self.infos.iter().filter(|info| self.carried.contains(&info.endpoint));
        let all: Vec<LaneId> = carried.map(|info| info.id).collect();
        all.into_iter().filter_map(|lane| self.lanes.announce(lane)).map(Event::Ready).collect()
    }

    /// The lane that takes what is committed to this one: with backlog it may be a later one.
    pub(super) fn intake(&mut self, lane: usize) -> Result<usize, String> {
        let info = &self.infos[lane];
        if info.class == Class::Control || !self.live_first {
            return Ok(lane);
        }
        let endpoint = info.endpoint.clone();
        let (id, seq) = match self.lanes.intake(&endpoint) {
            Intake::Lane(id) => {
                let taker = self.index(id);
                let seq = self.infos[taker].seq;
                let later = self
                    .present()
                    .find(|(_, l)| l.endpoint == endpoint && l.seq > seq && l.class != Class::Control);
                if let Some((later, _)) = later {
                    return Err(format!("lane {taker} takes new rows before those of lane {later}"));
                }
                return Ok(taker);
            }
            Intake::New(seq) => (LaneId(i64::try_from(self.infos.len() + 1).unwrap()), seq),
        };
        let known = self.present().filter(|(_, l)| l.endpoint == endpoint && l.class != Class::Control);
        if known.count() >= 4 {
            return Err("an endpoint has more than four lanes".into());
        }
        let info = LaneInfo { id, endpoint, class: Class::Telemetry, seq };
        self.lanes.add(info.clone());
        self.infos.push(info);
        self.numbers.push(0);
        Ok(self.infos.len() - 1)
    }

    /// Lanes that are on disk.
    pub(super) fn present(&self) -> impl Iterator<Item = (usize, &LaneInfo)> {
        self.infos.iter().enumerate().filter(|(lane, _)| !self.removed.contains(lane))
    }

    pub(super) fn index(&self, id: LaneId) -> usize {
        usize::try_from(id.0).unwrap() - 1
    }

    /// Whether a lane has rows to hand out.
    pub(super) fn has_waiting(&self, lane: usize) -> bool {
        self.lanes.exceeds(self.infos[lane].id, 0, usize::MAX)
    }

    /// Removes backlog lanes that are drained.
    pub(super) fn sweep(&mut self) -> Vec<Event> {
        let gone: BTreeSet<usize> = self.gone.iter().map(|(row, _)| self.rows[row].0).collect();
        let drained: Vec<usize> = self
            .present()
            .filter(|(lane, info)| self.lanes.is_drained(info.id) && !gone.contains(lane))
            .map(|(lane, _)| lane)
            .collect();
        let mut events = Vec::new();
        for lane in drained {
            self.removed.insert(lane);
            self.lanes.remove(self.infos[lane].id);
            self.drained += 1;
            events.push(Event::Drained(self.infos[lane].id));
        }
        events
    }

    /// Commits new samples of a lane.
    pub(super) fn commit(&mut self, now: Us, lane: usize, count: usize, gap: i64) -> Option<Event> {
        for _ in 0..count {
            self.last_row += gap;
            self.taken.insert(self.last_row, now);
            self.rows.insert(self.last_row, (lane, self.numbers[lane]));
            self.numbers[lane] += 1;
            self.stored += 1;
            self.lanes.push(self.infos[lane].id, RowId(self.last_row), 1);
        }
        let id = self.infos[lane].id;
        self.is_carried(id).then(|| self.lanes.announce(id)).flatten().map(Event::Ready)
    }

    /// Drops up to so many of the oldest rows of a lane.
    pub(super) fn drop_oldest(&mut self, lane: usize, max: usize) -> Result<(), String> {
        let id = self.infos[lane].id;
        for row in self.lanes.drop_oldest(id, max) {
            if self.claimed.get(&id).is_some_and(|claimed| claimed.contains(&row)) {
                return Err(format!("row {} was dropped in flight", row.0));
            }
            if self.rows.remove(&row.0).is_none() {
                return Err(format!("row {} was dropped and is not on disk", row.0));
            }
            self.dropped += 1;
        }
        self.balance()
    }

    /// Does a job; says what to tell the uplink.
    pub(super) fn work(
        &mut self,
        plan: &Plan,
        now: Us,
        fails: bool,
        job: Job,
    ) -> Result<Option<Event>, String> {
        match job {
            // Nobody is told anything of a lane that is no more: that was said.
            Job::Next { lane, .. } if self.lanes.info(lane).is_none() => Ok(None),
            Job::Next { lane, max_rows, max_bytes, live_age } => {
                let old = live_age.is_some_and(|age| self.is_behind(now, lane, max_rows, max_bytes, age));
                // A change that cannot be written is not made.
                if old
                    && !fails
                    && let Some(info) = self.lanes.fall_behind(lane)
                {
                    let index = self.index(lane);
                    self.infos[index].class = info.class;
                    self.behind += 1;
                    return Ok(Some(Event::Behind(info)));
                }
                Ok(Some(self.next(plan, lane, max_rows, max_bytes)))
            }
            Job::Release { lane, rows } => {
                self.lanes.release(lane, &rows);
                let claimed = self.claimed.entry(lane).or_default();
                rows.iter().for_each(|row| _ = claimed.remove(row));
                Ok(None)
            }
            Job::Take { lane, flight, rows, dead } => {
                let taken = self.lanes.take(lane, &rows);
                if taken.len() != rows.len() && !self.renamed.contains(&lane) {
                    return Err(format!(
                        "{} of {} landed rows were not in flight",
                        rows.len() - taken.len(),
                        rows.len()
                    ));
                }
                let claimed = self.claimed.entry(lane).or_default();
                taken.iter().for_each(|row| _ = claimed.remove(row));
                if dead {
                    // Told only when it is on disk.
                    for row in &taken {
                        self.dead.extend(self.rows.remove(&row.0));
                    }
                } else {
                    self.gone.extend(taken.iter().map(|row| (row.0, dead)));
                }
                self.balance()?;
                Ok(Some(Event::Taken(flight)))
            }
            Job::Reserve(count) => {
                let from = self.next_id;
                self.next_id += count;
                Ok(Some(Event::Ids(from..self.next_id)))
            }
            Job::Carry(endpoints) => {
                self.carry(endpoints);
                Ok(None)
            }
            Job::Delete => {
                self.delete_due = false;
                for (row, dead) in std::mem::take(&mut self.gone) {
                    let Some(number) = self.rows.remove(&row) else {
                        return Err(format!("row {row} was deleted twice"));
                    };
                    if dead {
                        self.dead.insert(number);
                    } else {
                        self.landed += 1;
                    }
                }
                self.balance()?;
                Ok(None)
            }
        }
    }

    /// Samples of a lane so far.
    pub(super) fn stored_of(&self, lane: usize) -> u64 {
        self.numbers[lane]
    }

    /// Whether a row is in flight by the books.
    pub(super) fn is_claimed(&self, lane: LaneId, row: RowId) -> bool {
        self.claimed.get(&lane).is_some_and(|claimed| claimed.contains(&row))
    }

    /// Rows off the books that are still on disk.
    pub(super) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    fn is_behind(&mut self, now: Us, lane: LaneId, max_rows: usize, max_bytes: usize, age: Us) -> bool {
        let live = self.infos[self.index(lane)].class == Class::Telemetry;
        let Some(head) = self.lanes.claim(lane, 1).pop() else { return false };
        self.lanes.release(lane, &[head]);
        live && self.lanes.exceeds(lane, max_rows, max_bytes) && now > self.taken[&head.0] + age
    }

    fn next(&mut self, plan: &Plan, lane: LaneId, max_rows: usize, max_bytes: usize) -> Event {
        let (mut rows, mut bytes, mut unread) = (Vec::new(), 0, Vec::new());
        for id in self.lanes.claim(lane, max_rows) {
            if bytes >= max_bytes {
                unread.push(id);
                continue;
            }
            let (index, number) = self.rows[&id.0];
            let item = plan.row(index, number);
            bytes += item.len();
            rows.push(StoredRow {
                id,
                stamp: i64::try_from(number).unwrap(),
                boot: None,
                item,
                again: false,
            });
        }
        self.lanes.release(lane, &unread);
        self.claimed.entry(lane).or_default().extend(rows.iter().map(|row| row.id));
        let more = self.lanes.has_more(lane);
        Event::Rows { lane, rows, more }
    }

    /// stored = landed + queued + dropped + dead, and the books agree with the disk.
    fn balance(&self) -> Result<(), String> {
        let queued = self.rows.len() as u64;
        let sum = self.landed + queued + self.dropped + self.dead.len() as u64;
        if sum != self.stored {
            return Err(format!("the ledger is off: {} stored, {sum} accounted for", self.stored));
        }
        if self.lanes.queued() + self.gone.len() as u64 != queued {
            return Err(format!(
                "{queued} rows on disk, {} on the books, {} gone",
                self.lanes.queued(),
                self.gone.len()
            ));
        }
        Ok(())
    }
}
