//! Which rows go when some have to: the oldest of whoever uses most, never one in flight (I2). Sans-IO.

use super::{Lane, Lanes, count};
use crate::{
    endpoints::EndpointKey,
    store::{Class, LaneId, LaneInfo, RowId},
};
use std::{
    collections::{BinaryHeap, HashMap, VecDeque},
    ops::ControlFlow,
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

    /// The oldest rows of a lane that are not in flight, at most `max`.
    pub(in crate::store) fn drop_leading(&mut self, lane: LaneId, max: usize) -> Vec<Leaving> {
        let bytes = self.row_bytes(lane);
        let Some(info) = self.info(lane).cloned() else { return Vec::new() };
        let rows = self.drop_oldest(lane, max);
        rows.into_iter().map(|row| Leaving { lane: info.clone(), row, bytes }).collect()
    }

    /// The leading rows of every lane for which `old` says so; it breaks off with the first that is not.
    pub(in crate::store) fn drop_while(
        &mut self,
        max: usize,
        mut old: impl FnMut(RowId) -> ControlFlow<()>,
    ) -> Vec<Leaving> {
        let mut leaving = Vec::new();
        let all: Vec<LaneId> = self.lanes.keys().copied().collect();
        for id in all {
            while leaving.len() < max {
                let Some(lane) = self.lanes.get_mut(&id) else { break };
                let Some(row) = lane.returned.pop_front().or_else(|| lane.queue.pop()) else { break };
                // It is the oldest again, wherever it came from.
                lane.returned.push_front(row);
                if old(row).is_break() {
                    break;
                }
                let (info, bytes) = (lane.info.clone(), lane.row_bytes());
                let rows = self.drop_oldest(id, 1);
                leaving.extend(rows.into_iter().map(|row| Leaving { lane: info.clone(), row, bytes }));
            }
        }
        leaving
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
        let old = |row: RowId| match row.0 {
            1..=5 | 11 | 13 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        };
        let mut leaving: Vec<i64> = lanes.drop_while(99, old).iter().map(|row| row.row.0).collect();
        leaving.sort_unstable();
        assert_eq!(leaving, [3, 4, 5, 11]);
        assert_eq!(lanes.claim(LaneId(1), 1), [RowId(6)]);
    }
}
