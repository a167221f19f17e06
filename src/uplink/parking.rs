//! Endpoints the platform refuses for now: parked with their data kept, probed with one row. Sans-IO.

use crate::{
    backoff::{Backoff, Rng},
    endpoints::EndpointKey,
    store::LaneId,
};
use adapter_api::Instant;
use std::{
    collections::{BTreeMap, HashMap},
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
    flown: HashMap<LaneId, Instant>,
    degraded: bool,
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
        Self { probe, parked: BTreeMap::new(), flown: HashMap::new(), degraded: false }
    }

    /// Parks an endpoint, or parks it again after a probe. Returns when to probe it. Another refusal
    /// of what was in the air when it was parked says nothing new.
    pub(super) fn park(&mut self, now: Instant, endpoint: &EndpointKey, why: &str, rng: &mut Rng) -> Instant {
        let fresh = !self.parked.contains_key(endpoint);
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
        self.parked.remove(endpoint);
    }

    /// Whether an endpoint is parked.
    pub(super) fn is_parked(&self, endpoint: &EndpointKey) -> bool {
        self.parked.contains_key(endpoint)
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

    /// Brings the probes of all parked endpoints forward, paced.
    pub(super) fn bring_forward(&mut self, now: Instant) -> Vec<(Instant, EndpointKey)> {
        let mut at = now;
        let waiting = self.parked.iter_mut().filter(|(_, parked)| parked.probe == Probe::No);
        waiting
            .map(|(endpoint, parked)| {
                at = at + PACE;
                parked.until = parked.until.min(at);
                (parked.until, endpoint.clone())
            })
            .collect()
    }

    /// A lane flew.
    pub(super) fn flew(&mut self, now: Instant, lane: LaneId) {
        self.flown.insert(lane, now);
    }

    /// Whether more than half of the lanes that flew in the last minute are parked. While none flies
    /// and somebody is parked, it stays as it was.
    pub(super) fn is_degraded<'a>(
        &mut self,
        now: Instant,
        endpoint_of: impl Fn(LaneId) -> Option<&'a EndpointKey>,
    ) -> bool {
        if self.parked.is_empty() {
            self.degraded = false;
            return false;
        }
        self.flown.retain(|_, at| now.since(*at) <= LATELY);
        if !self.flown.is_empty() {
            let is_parked = |lane: &&LaneId| {
                endpoint_of(**lane).is_some_and(|endpoint| self.parked.contains_key(endpoint))
            };
            self.degraded = self.flown.keys().filter(is_parked).count() * 2 > self.flown.len();
        }
        self.degraded
    }

    /// Whether more than half of those lanes that flew in the last minute are parked, of those that
    /// `endpoint_of` names. While none of them flies: whether somebody else is parked at all.
    pub(super) fn are_most_parked<'a>(
        &self,
        now: Instant,
        endpoint_of: impl Fn(LaneId) -> Option<&'a EndpointKey>,
    ) -> bool {
        let lately = self.flown.iter().filter(|(_, at)| now.since(**at) <= LATELY);
        let endpoints: Vec<&EndpointKey> = lately.filter_map(|(lane, _)| endpoint_of(*lane)).collect();
        if endpoints.is_empty() {
            return self.parked.len() > 1;
        }
        endpoints.iter().filter(|endpoint| self.parked.contains_key(**endpoint)).count() * 2 > endpoints.len()
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
