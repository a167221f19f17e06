//! Which rows each lane holds, and who may have them next: the index of the outbox in memory. Sans-IO.
//!
//! There is no index on (lane, id) on disk: with 10,000 endpoints it wrote 37 bytes per stored byte
//! against 3.1 without. Ids are kept delta-coded, are rebuilt by one scan at start, and payloads are
//! read when they fly. A row is in exactly one place: `queue`, `returned`, `claimed` or `kept`.

pub(super) mod share;

use super::{Class, LaneId, RowId};
use crate::endpoints::EndpointKey;
use std::collections::{HashMap, HashSet, VecDeque};

/// A lane by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneInfo {
    /// Its row in table `lane`.
    pub id: LaneId,
    /// Whose lane.
    pub endpoint: EndpointKey,
    /// What flies in it.
    pub class: Class,
    /// Backlog lanes of an endpoint fly lowest first.
    pub seq: i64,
}

/// All lanes.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<LaneId, Lane>,
    /// Of each endpoint, by seq.
    of: HashMap<EndpointKey, Vec<(i64, LaneId)>>,
    /// The highest there ever was: not given out again while proofs of a removed lane may be under way.
    last: i64,
    queued: u64,
}

/// Which lane takes an endpoint's new samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// This one.
    Lane(LaneId),
    /// A new one with this seq.
    New(i64),
}

/// Lanes of samples an endpoint may have. After that its youngest backlog takes the live rows in.
const MOST: usize = 4;

#[derive(Debug)]
struct Lane {
    info: LaneInfo,
    /// Rows that flew and came back: older than everything in `queue`.
    returned: VecDeque<RowId>,
    /// Rows not yet handed out.
    queue: IdQueue,
    /// Rows in flight.
    claimed: Vec<RowId>,
    /// Rows of a newer format: left alone.
    kept: Vec<RowId>,
    /// Of all these rows, about: what leaves is taken for average.
    bytes: u64,
    /// The uplink knows that there is something.
    announced: bool,
    /// Of the waiting rows up to this one nobody can tell the age.
    passed: RowId,
}

/// Ascending ids as varint deltas: one or two bytes each where lanes interleave.
#[derive(Debug, Default)]
struct IdQueue {
    deltas: VecDeque<u8>,
    len: usize,
    /// Id before the first one.
    front: RowId,
    /// The last one.
    back: RowId,
}

impl Lanes {
    /// Makes a lane known.
    pub fn add(&mut self, info: LaneInfo) {
        self.last = self.last.max(info.id.0);
        let of = self.of.entry(info.endpoint.clone()).or_default();
        if !of.contains(&(info.seq, info.id)) {
            of.push((info.seq, info.id));
            of.sort_unstable();
        }
        self.lanes.entry(info.id).or_insert_with(|| Lane {
            info,
            returned: VecDeque::new(),
            queue: IdQueue::default(),
            claimed: Vec::new(),
            kept: Vec::new(),
            bytes: 0,
            announced: false,
            passed: RowId(0),
        });
    }

    /// The lane that takes an endpoint's new samples.
    pub fn intake(&self, endpoint: &EndpointKey) -> Intake {
        let of = self.of.get(endpoint).map(Vec::as_slice).unwrap_or_default();
        let lanes = || of.iter().filter_map(|(_, id)| self.lanes.get(id));
        let youngest = |class| lanes().rfind(|lane| lane.info.class == class).map(|lane| &lane.info);
        let backlog = youngest(Class::Backlog);
        let full = lanes().filter(|lane| lane.info.class != Class::Control).count() >= MOST;
        let oldest = lanes().find(|lane| lane.info.class == Class::Backlog).map(|lane| &lane.info);
        let taker =
            if crate::mutant::is(crate::mutant::Mutant::LiveIntoTheOldest) { oldest } else { backlog };
        match youngest(Class::Telemetry).or(taker.filter(|_| full)) {
            Some(lane) => Intake::Lane(lane.id),
            None => Intake::New(backlog.map_or(0, |lane| lane.seq.saturating_add(1))),
        }
    }

    /// The highest id a lane ever had.
    pub fn last(&self) -> LaneId {
        LaneId(self.last)
    }

    /// No lane gets an id up to this one.
    pub fn pass_over(&mut self, last: LaneId) {
        self.last = self.last.max(last.0);
    }

    /// A lane has fallen behind: it takes no new rows, and new ones open a lane after it.
    pub fn fall_behind(&mut self, lane: LaneId) -> Option<LaneInfo> {
        let lane = self.lanes.get_mut(&lane)?;
        lane.info.class = Class::Backlog;
        Some(lane.info.clone())
    }

    /// Whether more rows or bytes wait in a lane than this.
    pub fn exceeds(&self, lane: LaneId, rows: usize, bytes: usize) -> bool {
        let over = |lane: &Lane| lane.waiting() > rows || lane.bytes > count(bytes);
        self.lanes.get(&lane).is_some_and(over)
    }

    /// Whether a lane is a backlog without any rows.
    pub fn is_drained(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_some_and(|lane| lane.info.class == Class::Backlog && lane.rows() == 0)
    }

    /// Forgets a lane.
    pub fn remove(&mut self, lane: LaneId) -> Option<LaneInfo> {
        let removed = self.lanes.remove(&lane)?.info;
        if let Some(of) = self.of.get_mut(&removed.endpoint) {
            of.retain(|(_, id)| *id != lane);
        }
        Some(removed)
    }

    /// Whether an endpoint has lanes.
    pub fn knows(&self, endpoint: &EndpointKey) -> bool {
        self.of.get(endpoint).is_some_and(|of| !of.is_empty())
    }

    /// An endpoint's lanes as they are when it is called otherwise; `None` in place of those that are no longer
    /// needed. Where the other name has lanes already, they come before those, as backlog.
    /// `needed`: lanes that stay though nothing of theirs is on the books.
    pub fn renamed(
        &self,
        from: &EndpointKey,
        to: &EndpointKey,
        needed: &HashSet<LaneId>,
    ) -> Vec<(LaneId, Option<LaneInfo>)> {
        let lanes = |endpoint| self.of.get(endpoint).map(Vec::as_slice).unwrap_or_default();
        let (ours, theirs) = (lanes(from), lanes(to));
        let count = i64::try_from(ours.len()).unwrap_or(i64::MAX);
        let first = theirs.first().map_or(0, |(seq, _)| *seq).saturating_sub(count);
        let moved = |(n, (seq, id)): (usize, &(i64, LaneId))| {
            let lane = self.lanes.get(id)?;
            let mut info = LaneInfo { id: *id, endpoint: to.clone(), class: lane.info.class, seq: *seq };
            if !theirs.is_empty() {
                if lane.rows() == 0 && !needed.contains(id) {
                    return Some((*id, None));
                }
                info.seq = first.saturating_add(i64::try_from(n).unwrap_or(i64::MAX));
                if info.class == Class::Telemetry {
                    info.class = Class::Backlog;
                }
            }
            Some((*id, Some(info)))
        };
        ours.iter().enumerate().filter_map(moved).collect()
    }

    /// A lane is another endpoint's from now on, or is no more.
    pub fn rename(&mut self, id: LaneId, info: Option<LaneInfo>) {
        let Some(info) = info else {
            self.remove(id);
            return;
        };
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let before = std::mem::replace(&mut lane.info, info.clone());
        if let Some(of) = self.of.get_mut(&before.endpoint) {
            of.retain(|(_, lane)| *lane != id);
        }
        let of = self.of.entry(info.endpoint).or_default();
        of.push((info.seq, id));
        of.sort_unstable();
    }

    /// Adds a committed row of so many bytes. Ids of a lane ascend.
    pub fn push(&mut self, lane: LaneId, row: RowId, bytes: u64) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.queue.push(row);
            lane.bytes = lane.bytes.saturating_add(bytes);
            self.queued += 1;
        }
    }

    /// Hands out up to `max` leading rows; they are in flight until landed or released.
    pub fn claim(&mut self, lane: LaneId, max: usize) -> Vec<RowId> {
        let Some(lane) = self.lanes.get_mut(&lane) else { return Vec::new() };
        let mut rows = Vec::new();
        while rows.len() < max
            && let Some(row) = lane.returned.pop_front().or_else(|| lane.queue.pop())
        {
            rows.push(row);
        }
        lane.claimed.extend(&rows);
        rows
    }

    /// Takes rows off the books for good (landed or buried): they can not be handed out again.
    /// Returns those that were on the books and in flight, each once.
    pub fn take(&mut self, lane: LaneId, rows: &[RowId]) -> Vec<RowId> {
        let Some(lane) = self.lanes.get_mut(&lane) else { return Vec::new() };
        let taken: Vec<RowId> = match rows {
            // A confirmation of one row, the most frequent of all.
            [only] => lane.claimed.extract_if(.., |row| row == only).collect(),
            _ => {
                let rows: HashSet<RowId> = rows.iter().copied().collect();
                lane.claimed.extract_if(.., |row| rows.contains(row)).collect()
            }
        };
        if lane.claimed.is_empty() {
            // Of 10,000 lanes few fly at a time; the others keep no room for it.
            lane.claimed = Vec::new();
        }
        lane.weigh(taken.len());
        self.queued = self.queued.saturating_sub(count(taken.len()));
        taken
    }

    /// Gives rows back: they fly again, before everything else of the lane.
    pub fn release(&mut self, lane: LaneId, rows: &[RowId]) {
        let Some(lane) = self.lanes.get_mut(&lane) else { return };
        let rows: HashSet<RowId> = rows.iter().copied().collect();
        let mut back: Vec<RowId> = lane.claimed.extract_if(.., |row| rows.contains(row)).collect();
        back.iter().for_each(|row| lane.look_again(*row));
        back.extend(lane.returned.drain(..));
        back.sort_unstable();
        lane.returned = back.into();
    }

    /// Sets a row in flight aside: it is of a newer format and stays where it is.
    pub fn keep(&mut self, lane: LaneId, row: RowId) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.claimed.retain(|claimed| *claimed != row);
            lane.kept.push(row);
        }
    }

    /// Drops up to `max` of the oldest rows that are not in flight (I2: never rows in flight).
    pub fn drop_oldest(&mut self, lane: LaneId, max: usize) -> Vec<RowId> {
        let Some(lane) = self.lanes.get_mut(&lane) else { return Vec::new() };
        let mut rows = Vec::new();
        if crate::mutant::is(crate::mutant::Mutant::DropIgnoresFlights) {
            let flying = lane.claimed.len().min(max);
            rows.extend(lane.claimed.drain(..flying));
        }
        while rows.len() < max
            && let Some(row) = lane.returned.pop_front().or_else(|| lane.queue.pop())
        {
            rows.push(row);
        }
        lane.weigh(rows.len());
        self.queued = self.queued.saturating_sub(count(rows.len()));
        rows
    }

    /// A row that was to be dropped and is still on disk is on the books again, in its place.
    pub fn take_back(&mut self, lane: LaneId, row: RowId, bytes: u64) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.look_again(row);
            // What is before it was passed over.
            while lane.queue.iter().next().is_some_and(|first| first < row)
                && let Some(first) = lane.queue.pop()
            {
                lane.returned.push_back(first);
            }
            let at = lane.returned.partition_point(|known| *known < row);
            lane.returned.insert(at, row);
            lane.bytes = lane.bytes.saturating_add(bytes);
            self.queued += 1;
        }
    }

    /// Forgets rows that are not on disk any more.
    pub(super) fn retain(&mut self, mut there: impl FnMut(RowId) -> bool) {
        self.queued = 0;
        for lane in self.lanes.values_mut() {
            let before = lane.rows();
            let mut queue = std::mem::take(&mut lane.queue);
            while let Some(row) = queue.pop() {
                if there(row) {
                    lane.queue.push(row);
                }
            }
            lane.returned.retain(|row| there(*row));
            lane.claimed.retain(|row| there(*row));
            lane.kept.retain(|row| there(*row));
            lane.weigh(before - lane.rows());
            self.queued += count(lane.rows());
        }
    }

    /// Lanes with rows to hand out that the uplink was not told of since it last found them empty.
    pub fn announce(&mut self, lane: LaneId) -> Option<LaneInfo> {
        let lane = self.lanes.get_mut(&lane)?;
        if lane.announced || lane.waiting() == 0 {
            return None;
        }
        lane.announced = true;
        Some(lane.info.clone())
    }

    /// Lets a lane be announced once more.
    pub fn forget_announced(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.announced = false;
        }
    }

    /// Brings everything in flight back and forgets what was announced: the session starts anew.
    pub fn reset(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.passed = RowId(0);
            lane.returned.extend(lane.claimed.drain(..));
            lane.returned.make_contiguous().sort_unstable();
            lane.announced = false;
        }
    }

    /// What is known of a lane.
    pub fn info(&self, lane: LaneId) -> Option<&LaneInfo> {
        self.lanes.get(&lane).map(|lane| &lane.info)
    }

    /// Whether there is more to hand out. If not, the next row will be announced.
    pub fn has_more(&mut self, lane: LaneId) -> bool {
        let Some(lane) = self.lanes.get_mut(&lane) else { return false };
        lane.announced = lane.waiting() > 0;
        lane.announced
    }

    /// Every lane with the number of its rows, in flight ones included.
    pub fn iter(&self) -> impl Iterator<Item = (&LaneInfo, usize)> {
        self.lanes.values().map(|lane| (&lane.info, lane.rows()))
    }

    /// Rows of an endpoint, in flight ones included.
    pub fn queued_of(&self, endpoint: &EndpointKey) -> u64 {
        let of = self.of.get(endpoint).map(Vec::as_slice).unwrap_or_default();
        of.iter().filter_map(|(_, lane)| self.lanes.get(lane)).map(|lane| count(lane.rows())).sum()
    }

    /// Rows on the books.
    pub fn queued(&self) -> u64 {
        self.queued
    }
}

impl Lane {
    fn waiting(&self) -> usize {
        self.returned.len() + self.queue.len
    }

    fn rows(&self) -> usize {
        self.waiting() + self.claimed.len() + self.kept.len()
    }

    /// A row comes back whose age nobody has looked at, or that is old.
    fn look_again(&mut self, row: RowId) {
        self.passed = self.passed.min(RowId(row.0.saturating_sub(1)));
    }

    /// After so many rows have left.
    fn weigh(&mut self, left: usize) {
        let (now, before) = (count(self.rows()), count(self.rows() + left));
        let bytes = u128::from(self.bytes) * u128::from(now) / u128::from(before.max(1));
        self.bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// An average row.
    fn row_bytes(&self) -> u64 {
        self.bytes / count(self.rows()).max(1)
    }
}

impl IdQueue {
    fn push(&mut self, id: RowId) {
        if self.len == 0 {
            self.front = RowId(0);
            self.back = RowId(0);
        }
        let mut delta = id.0.wrapping_sub(self.back.0).cast_unsigned();
        loop {
            let low = u8::try_from(delta & 0x7f).unwrap_or_default();
            delta >>= 7;
            if delta == 0 {
                self.deltas.push_back(low);
                break;
            }
            self.deltas.push_back(low | 0x80);
        }
        self.back = id;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<RowId> {
        self.len = self.len.checked_sub(1)?;
        self.front = after(self.front, || self.deltas.pop_front());
        if self.len == 0 {
            // Gives a drained backlog's memory back.
            self.deltas = VecDeque::new();
        }
        Some(self.front)
    }

    /// All of them, in order.
    fn iter(&self) -> impl Iterator<Item = RowId> {
        let (mut deltas, mut id) = (self.deltas.iter().copied(), self.front);
        (0..self.len).map(move |_| {
            id = after(id, || deltas.next());
            id
        })
    }
}

/// The id whose delta to this one comes next.
fn after(id: RowId, mut bytes: impl FnMut() -> Option<u8>) -> RowId {
    let (mut delta, mut shift) = (0_u64, 0_u32);
    while let Some(byte) = bytes() {
        delta |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    RowId(id.0.wrapping_add(delta.cast_signed()))
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::Tenant;
    use adapter_api::EndpointName;

    const LANE: LaneId = LaneId(1);

    fn lanes(rows: &[i64]) -> Lanes {
        let endpoint = EndpointKey { tenant: Tenant::default(), name: EndpointName::new("e").unwrap() };
        let mut lanes = Lanes::default();
        lanes.add(LaneInfo { id: LANE, endpoint, class: Class::Telemetry, seq: 0 });
        for row in rows {
            lanes.push(LANE, RowId(*row), 10);
        }
        lanes
    }

    fn ids(rows: &[RowId]) -> Vec<i64> {
        rows.iter().map(|row| row.0).collect()
    }

    #[test]
    fn ids_survive_the_delta_code() {
        let wanted = [1, 2, 130, 131, 100_000, i64::from(u32::MAX), i64::MAX - 1];
        let mut lanes = lanes(&wanted);
        let iter = |lanes: &Lanes| lanes.lanes[&LANE].queue.iter().map(|row| row.0).collect::<Vec<_>>();
        assert_eq!(iter(&lanes), wanted);
        assert_eq!(ids(&lanes.claim(LANE, 3)), wanted[..3]);
        assert_eq!(iter(&lanes), wanted[3..]);
        assert_eq!(ids(&lanes.claim(LANE, 99)), wanted[3..]);
        assert_eq!(lanes.queued(), 7);
    }

    #[test]
    fn what_comes_back_flies_first_and_in_order() {
        let mut lanes = lanes(&[1, 2, 3, 4, 5]);
        let flight = lanes.claim(LANE, 3);
        assert_eq!(
            ids(&lanes.take(LANE, &[RowId(2), RowId(2), RowId(9)])),
            [2],
            "each row once, none that does not fly"
        );
        lanes.release(LANE, &flight);
        assert_eq!(ids(&lanes.claim(LANE, 9)), [1, 3, 4, 5]);
        assert_eq!(lanes.queued(), 4);
        assert!(ids(&lanes.take(LANE, &[RowId(2)])).is_empty(), "a late confirmation takes nothing twice");
    }

    #[test]
    fn a_drop_leaves_rows_in_flight_alone() {
        let mut lanes = lanes(&[1, 2, 3, 4]);
        lanes.claim(LANE, 2);
        assert_eq!(ids(&lanes.drop_oldest(LANE, 9)), [3, 4]);
        assert_eq!(lanes.queued(), 2);
    }

    #[test]
    fn a_lane_is_announced_once_until_it_was_found_empty() {
        let mut lanes = lanes(&[1]);
        assert!(lanes.announce(LANE).is_some());
        lanes.push(LANE, RowId(2), 10);
        assert!(lanes.announce(LANE).is_none());
        lanes.claim(LANE, 9);
        assert!(!lanes.has_more(LANE));
        lanes.push(LANE, RowId(3), 10);
        assert!(lanes.announce(LANE).is_some());
    }
}
