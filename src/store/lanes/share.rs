//! Which rows go when some have to: the oldest of whoever uses most, never one in flight (I2). Sans-IO.

use super::{Lane, Lanes, count};
use crate::{
    endpoints::EndpointKey,
    store::{Class, LaneId, LaneInfo, RowId},
};
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, VecDeque},
};

/// A row that was taken off the books.
pub(in crate::store) struct Leaving {
    /// Of which lane.
    pub(in crate::store) lane: LaneInfo,
    /// Which.
    pub(in crate::store) row: RowId,
    /// Its bytes, about.
    pub(in crate::store) bytes: u64,
}

/// What is known of a row's age.
pub(in crate::store) enum Age {
    Old,
    Young,
    /// Nothing, now or later.
    Unknown,
}

/// An endpoint's lanes, those whose rows go first in front.
#[derive(Default)]
struct Share {
    bytes: u64,
    lanes: VecDeque<(Class, i64, LaneId)>,
}

impl Lanes {
    /// About so many bytes of the oldest rows, at most `max` of them, from the endpoint that uses most
    /// and then from the next. All endpoints have the same share.
    pub(in crate::store) fn drop_by_share(&mut self, bytes: u64, max: usize) -> Vec<Leaving> {
        let mut leaving = Vec::new();
        let mut shares = self.shares();
        let mut heap: BinaryHeap<(u64, usize)> =
            shares.iter().enumerate().map(|(n, share)| (share.bytes, n)).collect();
        let mut gone = 0;
        while gone < bytes
            && leaving.len() < max
            && let Some((used, n)) = heap.pop()
        {
            let Some(share) = shares.get_mut(n) else { break };
            let Some(&(_, _, id)) = share.lanes.front() else { continue };
            let Some((info, row_bytes, waiting)) =
                self.lanes.get(&id).map(|lane| (lane.info.clone(), lane.row_bytes().max(1), lane.waiting()))
            else {
                continue;
            };
            // In bites: small enough that endpoints of one size are cut back together.
            let wanted = usize::try_from((bytes - gone).div_ceil(row_bytes)).unwrap_or(usize::MAX);
            let bite = (waiting / 16).clamp(1, 256).min(wanted).min(max - leaving.len());
            let rows = self.drop_oldest(id, bite);
            let freed = row_bytes * count(rows.len());
            gone += freed;
            leaving.extend(rows.into_iter().map(|row| Leaving { lane: info.clone(), row, bytes: row_bytes }));
            if waiting <= bite {
                share.lanes.pop_front();
            }
            heap.push((used.saturating_sub(freed), n));
        }
        leaving
    }

    /// The rows with the lowest numbers of all in these lanes that are not in flight, at most `max`: those beside each
    /// other on the disk are cheap to delete.
    pub(in crate::store) fn drop_lowest(&mut self, lanes: &BTreeSet<LaneId>, max: usize) -> Vec<Leaving> {
        let mut heads: BinaryHeap<Reverse<(RowId, LaneId)>> =
            lanes.iter().filter_map(|lane| Some(Reverse((self.head(*lane)?, *lane)))).collect();
        let mut leaving = Vec::new();
        while leaving.len() < max
            && let Some(Reverse((_, id))) = heads.pop()
        {
            let bytes = self.row_bytes(id);
            let Some(info) = self.info(id).cloned() else { continue };
            let rows = self.drop_oldest(id, 1);
            leaving.extend(rows.into_iter().map(|row| Leaving { lane: info.clone(), row, bytes }));
            heads.extend(self.head(id).map(|row| Reverse((row, id))));
        }
        leaving
    }

    /// The row of a lane that would fly next.
    pub(in crate::store) fn head(&mut self, lane: LaneId) -> Option<RowId> {
        let lane = self.lanes.get_mut(&lane)?;
        let row = lane.returned.pop_front().or_else(|| lane.queue.pop())?;
        // It is the oldest again, wherever it came from.
        lane.returned.push_front(row);
        Some(row)
    }

    /// The old rows of every lane that come before its first young one; those of unknown age stay, and are passed over
    /// once for all. Ends when `most` were old or unknown. Returns whether it did.
    pub(in crate::store) fn drop_old(
        &mut self,
        most: usize,
        mut age: impl FnMut(RowId) -> Age,
    ) -> (Vec<Leaving>, bool) {
        let (mut leaving, mut left) = (Vec::new(), most);
        for lane in self.lanes.values_mut() {
            let (mut old, mut stays, mut passed) = (Vec::new(), false, lane.passed);
            for row in lane.returned.iter().copied().chain(lane.queue.iter()) {
                if row <= lane.passed {
                    stays = true;
                    continue;
                }
                if left == 0 {
                    break;
                }
                match age(row) {
                    Age::Young => break,
                    Age::Unknown => stays = true,
                    Age::Old => old.push(row),
                }
                passed = row;
                left -= 1;
            }
            lane.passed = passed;
            let bytes = lane.row_bytes();
            lane.take_out(&old, stays);
            self.queued = self.queued.saturating_sub(count(old.len()));
            leaving.extend(old.into_iter().map(|row| Leaving { lane: lane.info.clone(), row, bytes }));
        }
        (leaving, left == 0)
    }

    /// The bytes of each lane, and whose they are.
    pub(in crate::store) fn used(&self) -> impl Iterator<Item = (&EndpointKey, u64)> {
        self.lanes.values().map(|lane| (&lane.info.endpoint, lane.bytes))
    }

    /// Whether any row could be dropped.
    pub(in crate::store) fn may_drop(&self) -> bool {
        self.lanes.values().any(|lane| lane.waiting() > 0)
    }

    /// Bytes of an average row of a lane.
    pub(in crate::store) fn row_bytes(&self, lane: LaneId) -> u64 {
        self.lanes.get(&lane).map_or(0, Lane::row_bytes)
    }

    /// Who uses how much. Control rows go last: they are answers somebody waits for.
    fn shares(&self) -> Vec<Share> {
        let mut keys: HashMap<&EndpointKey, usize> = HashMap::new();
        let mut shares: Vec<Share> = Vec::new();
        for (id, lane) in &self.lanes {
            let n = *keys.entry(&lane.info.endpoint).or_insert(shares.len());
            if n == shares.len() {
                shares.push(Share::default());
            }
            let Some(share) = shares.get_mut(n) else { continue };
            share.bytes = share.bytes.saturating_add(lane.bytes);
            if lane.waiting() > 0 {
                share.lanes.push_back((lane.info.class, lane.info.seq, *id));
            }
        }
        for share in &mut shares {
            share
                .lanes
                .make_contiguous()
                .sort_unstable_by_key(|(class, seq, id)| (*class == Class::Control, *seq, *id));
        }
        shares
    }
}

impl Lane {
    /// Takes waiting rows out, in order: the first ones, or with others `between` them.
    fn take_out(&mut self, rows: &[RowId], between: bool) {
        if between && !rows.is_empty() {
            let stays = |row: &RowId| rows.binary_search(row).is_err();
            self.returned.retain(stays);
            let mut queue = std::mem::take(&mut self.queue);
            while let Some(row) = queue.pop() {
                if stays(&row) {
                    self.queue.push(row);
                }
            }
        } else {
            for _ in rows {
                let _taken = self.returned.pop_front().or_else(|| self.queue.pop());
            }
        }
        self.weigh(rows.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::Tenant;
    use adapter_api::EndpointName;
    use std::collections::BTreeMap;

    /// Lanes of endpoints with so many rows of so many bytes.
    fn lanes(rows: &[(usize, u64)]) -> Lanes {
        let mut lanes = Lanes::default();
        let mut id = 0;
        for (n, (rows, bytes)) in (1..).zip(rows) {
            let name = EndpointName::new(&format!("e{n}")).unwrap();
            let endpoint = EndpointKey { tenant: Tenant::default(), name };
            lanes.add(LaneInfo { id: LaneId(n), endpoint, class: Class::Telemetry, seq: 0 });
            for _ in 0..*rows {
                id += 1;
                lanes.push(LaneId(n), RowId(id), *bytes);
            }
        }
        lanes
    }

    fn dropped(leaving: &[Leaving]) -> BTreeMap<i64, u64> {
        let mut by_lane = BTreeMap::new();
        leaving.iter().for_each(|row| *by_lane.entry(row.lane.id.0).or_default() += row.bytes);
        by_lane
    }

    #[test]
    fn whoever_uses_most_gives_first() {
        let mut lanes = lanes(&[(100, 10), (100, 100), (1_000, 10)]);
        let leaving = lanes.drop_by_share(15_000, 9_999);
        let by_lane = dropped(&leaving);
        assert_eq!(by_lane.get(&1), None, "the small one is spared");
        assert!(by_lane[&2].abs_diff(7_500) <= 700 && by_lane[&3].abs_diff(7_500) <= 700, "{by_lane:?}");
        assert_eq!(leaving.iter().find(|row| row.lane.id.0 == 2).unwrap().row, RowId(101), "the oldest");
    }

    #[test]
    fn rows_in_flight_stay_and_the_limit_of_rows_holds() {
        let mut lanes = lanes(&[(100, 10)]);
        lanes.claim(LaneId(1), 60);
        assert_eq!(lanes.drop_by_share(u64::MAX, 15).len(), 15);
        assert_eq!(lanes.drop_by_share(u64::MAX, 999).len(), 25);
        assert_eq!((lanes.queued(), lanes.row_bytes(LaneId(1))), (60, 10));
        assert!(lanes.drop_by_share(u64::MAX, 999).is_empty());
    }

    #[test]
    fn only_the_leading_old_rows_of_a_lane_go() {
        let mut lanes = lanes(&[(10, 1), (10, 1)]);
        lanes.claim(LaneId(1), 2);
        let age = |row: RowId| if matches!(row.0, 1..=5 | 11 | 13) { Age::Old } else { Age::Young };
        let (leaving, more) = lanes.drop_old(99, age);
        assert!(!more);
        let mut leaving: Vec<i64> = leaving.iter().map(|row| row.row.0).collect();
        leaving.sort_unstable();
        assert_eq!(leaving, [3, 4, 5, 11]);
        assert_eq!(lanes.claim(LaneId(1), 1), [RowId(6)]);
    }

    #[test]
    fn rows_of_unknown_age_are_looked_at_once_and_keep_their_place() {
        let mut lanes = lanes(&[(40, 10)]);
        lanes.claim(LaneId(1), 1);
        let looked = std::cell::RefCell::new(Vec::new());
        let age = |row: RowId| {
            looked.borrow_mut().push(row.0);
            match row.0 {
                1..=20 | 23 => Age::Unknown,
                21..=25 => Age::Old,
                _ => Age::Young,
            }
        };
        let dropped = |lanes: &mut Lanes| {
            let (leaving, more) = lanes.drop_old(10, age);
            let rows: Vec<i64> = leaving.iter().map(|row| row.row.0).collect();
            (rows, more, looked.take())
        };
        assert_eq!(dropped(&mut lanes), (vec![], true, (2..=11).collect()));
        assert_eq!(dropped(&mut lanes), (vec![21], true, (12..=21).collect()));
        assert_eq!(dropped(&mut lanes), (vec![22, 24, 25], false, (22..=26).collect()));
        assert_eq!(dropped(&mut lanes), (vec![], false, vec![26]));
        assert_eq!((lanes.queued(), lanes.row_bytes(LaneId(1))), (36, 10));
        // These could not be deleted; and the first has come back.
        lanes.take_back(LaneId(1), RowId(24), 10);
        lanes.take_back(LaneId(1), RowId(22), 10);
        assert_eq!(dropped(&mut lanes), (vec![22, 24], false, (22..=24).chain([26]).collect()));
        lanes.take_back(LaneId(1), RowId(22), 10);
        lanes.release(LaneId(1), &[RowId(1)]);
        assert_eq!(dropped(&mut lanes), (vec![], true, (1..=10).collect()));
        let flight: Vec<i64> = lanes.claim(LaneId(1), 23).iter().map(|row| row.0).collect();
        assert_eq!(flight, (1..=20).chain([22, 23, 26]).collect::<Vec<i64>>());
    }
}
