//! Endpoints the platform refuses for now: parked with their data kept, probed with one row. Sans-IO.

use crate::{
    backoff::{Backoff, Rng},
    endpoints::EndpointKey,
    store::LaneId,
};
use adapter_api::Instant;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

/// "In the last minute": who counts for being degraded.
const LATELY: Duration = Duration::from_secs(60);
/// Between two probes that a success brought forward.
const PACE: Duration = Duration::from_millis(20);

/// Who is parked, and who flew lately.
#[derive(Debug)]
pub(super) struct Parking {
    probe: (Duration, Duration),
    parked: BTreeMap<EndpointKey, Parked>,
    flown: Flown,
    degraded: bool,
    /// Probes were brought forward up to then.
    forward_until: Option<Instant>,
}

/// Lanes that flew in the last minute. Counted as it changes: 10,000 refused endpoints are parked one
/// by one, and each asks how many others are.
#[derive(Debug, Default)]
struct Flown {
    /// When, and for whom: it may be another endpoint's lane since.
    last: HashMap<LaneId, (Instant, EndpointKey)>,
    order: BTreeSet<(Instant, LaneId)>,
    /// How many lanes of each endpoint.
    lanes: HashMap<EndpointKey, usize>,
    /// How many lanes of parked endpoints.
    parked: usize,
}

#[derive(Debug)]
struct Parked {
    why: String,
    until: Instant,
    backoff: Backoff,
    probe: Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Not due.
    No,
    /// Whichever lane has a row first.
    Any,
    /// This one.
    Lane(LaneId),
}

impl Parking {
    /// Nobody is parked; probes grow from the first interval to the second.
    pub(super) fn new(probe: (Duration, Duration)) -> Self {
        Self { probe, parked: BTreeMap::new(), flown: Flown::default(), degraded: false, forward_until: None }
    }

    /// Parks an endpoint, or parks it again after a probe. Returns when to probe it. Another refusal
    /// of what was in the air when it was parked says nothing new.
    pub(super) fn park(&mut self, now: Instant, endpoint: &EndpointKey, why: &str, rng: &mut Rng) -> Instant {
        let fresh = !self.parked.contains_key(endpoint);
        if fresh {
            self.flown.parked += self.flown.of(endpoint);
        }
        let parked = self.parked.entry(endpoint.clone()).or_insert_with(|| Parked {
            why: String::new(),
            until: now,
            backoff: Backoff::new(self.probe.0, self.probe.1),
            probe: Probe::No,
        });
        why.clone_into(&mut parked.why);
        if !fresh && parked.probe == Probe::No {
            return parked.until;
        }
        parked.until = now + parked.backoff.equal_jitter(rng);
        parked.probe = Probe::No;
        parked.until
    }

    /// Ends it.
    pub(super) fn unpark(&mut self, endpoint: &EndpointKey) {
        if self.parked.remove(endpoint).is_some() {
            self.flown.parked -= self.flown.of(endpoint);
        }
    }

    /// Whether an endpoint is parked.
    pub(super) fn is_parked(&self, endpoint: &EndpointKey) -> bool {
        self.parked.contains_key(endpoint)
    }

    /// Whether an endpoint is parked for this.
    pub(super) fn is_parked_for(&self, endpoint: &EndpointKey, why: &str) -> bool {
        self.parked.get(endpoint).is_some_and(|parked| parked.why == why)
    }

    /// Whether a probe is due now.
    pub(super) fn is_due(&self, now: Instant, endpoint: &EndpointKey) -> bool {
        self.parked.get(endpoint).is_some_and(|parked| parked.until <= now && parked.probe == Probe::No)
    }

    /// Whether this lane has its endpoint's probe.
    pub(super) fn is_probing(&self, endpoint: &EndpointKey, lane: LaneId) -> bool {
        self.parked.get(endpoint).is_some_and(|parked| parked.probe == Probe::Lane(lane))
    }

    /// Allows a parked endpoint one probe: by this lane, or by the first that has a row.
    pub(super) fn allow(&mut self, endpoint: &EndpointKey, lane: Option<LaneId>) {
        if let Some(parked) = self.parked.get_mut(endpoint) {
            parked.probe = lane.map_or(Probe::Any, Probe::Lane);
        }
    }

    /// Whether this lane may fly: its endpoint is not parked, or this is the probe.
    pub(super) fn may_fly(&mut self, endpoint: &EndpointKey, lane: LaneId) -> bool {
        let Some(parked) = self.parked.get_mut(endpoint) else { return true };
        if parked.probe == Probe::Any {
            parked.probe = Probe::Lane(lane);
        }
        parked.probe == Probe::Lane(lane)
    }

    /// Brings the probes of all parked endpoints forward, paced. Not again before the last of them.
    pub(super) fn bring_forward(&mut self, now: Instant) -> Vec<(Instant, EndpointKey)> {
        if self.forward_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        let mut at = now;
        let waiting = self.parked.iter_mut().filter(|(_, parked)| parked.probe == Probe::No);
        let forward = waiting
            .map(|(endpoint, parked)| {
                at = at + PACE;
                parked.until = parked.until.min(at);
                (parked.until, endpoint.clone())
            })
            .collect();
        self.forward_until = Some(at);
        forward
    }

    /// A lane flew.
    pub(super) fn flew(&mut self, now: Instant, endpoint: &EndpointKey, lane: LaneId) {
        self.expire(now);
        self.forget(lane);
        *self.flown.lanes.entry(endpoint.clone()).or_default() += 1;
        self.flown.parked += usize::from(self.parked.contains_key(endpoint));
        self.flown.order.insert((now, lane));
        self.flown.last.insert(lane, (now, endpoint.clone()));
    }

    /// Whether more than half of the lanes that flew in the last minute are parked. While none flies
    /// and somebody is parked, it stays as it was.
    pub(super) fn is_degraded(&mut self, now: Instant) -> bool {
        self.expire(now);
        if self.parked.is_empty() {
            self.degraded = false;
        } else if !self.flown.last.is_empty() {
            self.degraded = self.flown.parked * 2 > self.flown.last.len();
        }
        self.degraded
    }

    /// Whether more than half of the lanes that flew in the last minute are parked, those of this
    /// endpoint left aside. While no other flies: whether somebody else is parked at all.
    pub(super) fn are_others_parked(&mut self, now: Instant, endpoint: &EndpointKey) -> bool {
        self.expire(now);
        let own = self.flown.of(endpoint);
        let parked = self.flown.parked - if self.parked.contains_key(endpoint) { own } else { 0 };
        match self.flown.last.len() - own {
            0 => self.parked.len() > 1,
            others => parked * 2 > others,
        }
    }

    /// Forgets who flew more than a minute ago.
    fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.flown.order.first()
            && now.since(*at) > LATELY
        {
            let Some((_, lane)) = self.flown.order.pop_first() else { return };
            self.forget(lane);
        }
    }

    /// Forgets that a lane flew.
    fn forget(&mut self, lane: LaneId) {
        let Some((at, endpoint)) = self.flown.last.remove(&lane) else { return };
        self.flown.order.remove(&(at, lane));
        self.flown.parked -= usize::from(self.parked.contains_key(&endpoint));
        if let Some(lanes) = self.flown.lanes.get_mut(&endpoint) {
            *lanes -= 1;
            if *lanes == 0 {
                self.flown.lanes.remove(&endpoint);
            }
        }
    }

    /// Whether the probes of a parked endpoint have grown as rare as they get.
    pub(super) fn is_given_up(&self, endpoint: &EndpointKey) -> bool {
        self.parked.get(endpoint).is_some_and(|parked| parked.backoff.is_longest())
    }

    /// The next probe comes after the shortest interval again.
    pub(super) fn start_anew(&mut self, endpoint: &EndpointKey) {
        if let Some(parked) = self.parked.get_mut(endpoint) {
            parked.backoff.reset();
        }
    }

    /// Parked endpoints and why.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&EndpointKey, &str)> {
        self.parked.iter().map(|(endpoint, parked)| (endpoint, parked.why.as_str()))
    }
}

impl Flown {
    /// Lanes of this endpoint.
    fn of(&self, endpoint: &EndpointKey) -> usize {
        self.lanes.get(endpoint).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::Tenant;
    use adapter_api::EndpointName;

    #[test]
    fn the_books_say_who_flew_and_is_parked_whatever_a_lane_is_called_since() {
        for seed in 0..500 {
            let mut rng = Rng::with_seed(seed);
            let mut parking = Parking::new((LATELY, 60 * LATELY));
            let mut now = Instant::from_start(Duration::ZERO);
            for _ in 0..200 {
                let name = EndpointName::new(&format!("e{}", rng.u8(..3))).unwrap();
                let endpoint = EndpointKey { tenant: Tenant::default(), name };
                match rng.u8(..6) {
                    0 => _ = parking.park(now, &endpoint, "404 no", &mut rng),
                    1 => parking.unpark(&endpoint),
                    2 => now = now + Duration::from_secs(rng.u64(..40)),
                    3 => _ = parking.is_degraded(now),
                    // Any lane is anybody's.
                    _ => parking.flew(now, &endpoint, LaneId(rng.i64(..4))),
                }
                let Flown { last, order, lanes, parked } = &parking.flown;
                let mut anew = HashMap::<EndpointKey, usize>::new();
                last.values().for_each(|(_, endpoint)| *anew.entry(endpoint.clone()).or_default() += 1);
                let still = last.values().filter(|(_, endpoint)| parking.is_parked(endpoint)).count();
                assert_eq!((lanes, *parked, order.len()), (&anew, still, last.len()), "seed {seed}");
                assert!(last.iter().all(|(lane, (at, _))| order.contains(&(*at, *lane))), "seed {seed}");
            }
        }
    }
}
