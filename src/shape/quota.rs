//! What one endpoint may hand in, so that its flood costs no other (I8). Sans-IO.
//!
//! Rates are token buckets that hold 10 s worth: so much may come at once after a pause. A submission
//! is taken whole or not at all. One that is larger than its bucket is taken when the bucket is full,
//! and nothing more until it is paid off; so a small quota slows a large submission down and does not
//! lock it out. What is refused takes nothing from any bucket.
//!
//! Bytes are those a sample takes in the database, at most.

use crate::{
    endpoints::{Directory, EndpointKey},
    fault::{Code, Fault},
};
use adapter_api::{EndpointName, Instant, Quota};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// What a bucket holds, as time at its rate.
pub const BURST: Duration = Duration::from_secs(10);
/// An endpoint that had nothing refused for so long is within its quotas again.
pub const CALM_AFTER: Duration = Duration::from_secs(60);
/// The books are looked through so often at most, however many endpoints are at their limit.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `[quota]` and `[endpoints.NAME.quota]`; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Samples it may hand in per second.
    pub samples_per_s: Option<u64>,
    /// Bytes it may hand in per second.
    pub bytes_per_s: Option<u64>,
    /// Bytes it may have waiting for the platform.
    pub bytes_queued: Option<u64>,
}

/// What a submission weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Its samples.
    pub samples: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// An endpoint that went over a quota since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// Which one.
    pub endpoint: EndpointKey,
    /// Which quota it went over last, and what that allows.
    pub quota: Quota,
    /// See there.
    pub limit: u64,
    /// It still does.
    pub now: bool,
    /// Samples refused since the start, by quota.
    pub refused: BTreeMap<&'static str, u64>,
}

/// A submission that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// Because of this quota,
    pub quota: Quota,
    /// which allows so much,
    pub limit: u64,
    /// of this endpoint.
    pub endpoint: EndpointKey,
    /// The endpoint was within its quotas until now.
    pub begins: bool,
}

/// All endpoints that have a quota.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    by_name: HashMap<EndpointName, Gauge>,
    /// The books may be looked through again.
    look_at: Option<Instant>,
    /// When to see who is within the quotas again.
    calm_at: Option<Instant>,
}

#[derive(Debug)]
struct Gauge {
    endpoint: EndpointKey,
    quotas: Quotas,
    samples: Bucket,
    bytes: Bucket,
    /// Bytes on the books when they were last looked through, and what was taken since: never less than
    /// there are. `None` before the first look.
    queued: Option<u64>,
    /// When it last went over a quota, unless that is long ago; and which.
    over: Option<Instant>,
    last: Quota,
    refused: BTreeMap<Quota, u64>,
}

/// A token bucket, known by when it will be full again.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket(Option<Instant>);

impl Quotas {
    fn limit(&self, quota: Quota) -> Option<u64> {
        match quota {
            Quota::SamplesPerS => self.samples_per_s,
            Quota::BytesPerS => self.bytes_per_s,
            Quota::BytesQueued => self.bytes_queued,
        }
    }
}

impl Excess {
    /// For people.
    pub fn fault(&self) -> Fault {
        fault(&self.endpoint, self.quota, self.limit)
    }
}

impl Exceeded {
    /// For people.
    pub fn fault(&self) -> Fault {
        fault(&self.endpoint, self.quota, self.limit)
    }
}

fn fault(endpoint: &EndpointKey, quota: Quota, limit: u64) -> Fault {
    let key = quota.key();
    let what = format!("endpoint {endpoint} goes over its quota; what is over it is refused");
    Fault::new(Code::EndpointOverQuota, what, format!("endpoint {endpoint}: {key} = {limit}"))
}

impl Gauges {
    pub(super) fn new(directory: &Directory) -> Self {
        let limited = directory.iter().filter(|e| e.enabled && e.quotas != Quotas::default());
        let by_name = limited.map(|e| (e.key.name.clone(), Gauge::new(e.key.clone(), e.quotas))).collect();
        Self { by_name, look_at: None, calm_at: None }
    }

    /// Other endpoints and quotas. An endpoint that stays keeps what it has taken.
    pub(super) fn adopt(&mut self, directory: &Directory, now: Instant) {
        let mut known = std::mem::replace(self, Self::new(directory));
        for (former, present) in directory.renamed() {
            if known.by_name.get(&present.name).is_some_and(|gauge| gauge.endpoint == present) {
                // It was there beside the other, and keeps its own.
                continue;
            }
            if let Some(mut gauge) = known.by_name.remove(&former.name).filter(|g| g.endpoint == former) {
                gauge.endpoint = present.clone();
                known.by_name.insert(present.name, gauge);
            }
        }
        for (name, gauge) in &mut self.by_name {
            let Some(before) = known.by_name.remove(name).filter(|known| known.endpoint == gauge.endpoint)
            else {
                continue;
            };
            let quotas = gauge.quotas;
            *gauge = Gauge { quotas, ..before };
            gauge.refused.retain(|quota, _| quotas.limit(*quota).is_some());
            if quotas.limit(gauge.last).is_none() {
                // The quota it was over is no more.
                gauge.over = None;
                gauge.last = gauge.refused.keys().next().copied().unwrap_or(gauge.last);
            }
        }
        let over = self.by_name.values().filter_map(|gauge| gauge.over);
        self.calm_at = over.map(|last| (last + CALM_AFTER).max(now)).min();
    }

    pub(super) fn is_limited(&self, endpoint: &EndpointName) -> bool {
        self.by_name.contains_key(endpoint)
    }

    pub(super) fn wants_look(&self, endpoint: &EndpointName, bytes: u64, now: Instant) -> bool {
        self.look_at.is_none_or(|at| at <= now)
            && self.by_name.get(endpoint).is_some_and(|gauge| !gauge.has_room(bytes))
    }

    pub(super) fn look<'a>(&mut self, books: impl Iterator<Item = (&'a EndpointKey, u64)>, now: Instant) {
        self.look_at = Some(now + LOOK_EVERY);
        self.by_name.values_mut().for_each(|gauge| gauge.queued = Some(0));
        for (endpoint, bytes) in books {
            if let Some(gauge) = self.by_name.get_mut(&endpoint.name)
                && gauge.endpoint == *endpoint
            {
                gauge.queued = gauge.queued.map(|known| known.saturating_add(bytes));
            }
        }
    }

    pub(super) fn weigh(&mut self, endpoint: &EndpointName, load: Load, now: Instant) -> Result<(), Excess> {
        let Some(gauge) = self.by_name.get_mut(endpoint) else { return Ok(()) };
        gauge.take(load, now).map_err(|quota| {
            let begins = gauge.refuse(quota, load.samples, now);
            if begins {
                self.calm_at.get_or_insert(now + CALM_AFTER);
            }
            let limit = gauge.quotas.limit(quota).unwrap_or_default();
            Excess { quota, limit, endpoint: gauge.endpoint.clone(), begins }
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.calm_at
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Exceeded> {
        if self.calm_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut calm = Vec::new();
        let mut next: Option<Instant> = None;
        for gauge in self.by_name.values_mut() {
            let Some(last) = gauge.over else { continue };
            let until = last + CALM_AFTER;
            if until <= now {
                gauge.over = None;
                calm.extend(gauge.exceeded());
            } else {
                next = Some(next.map_or(until, |known| known.min(until)));
            }
        }
        self.calm_at = next;
        calm
    }

    pub(super) fn is_over(&self, endpoint: &EndpointName) -> bool {
        self.by_name.get(endpoint).is_some_and(|gauge| gauge.over.is_some())
    }

    pub(super) fn exceeded(&self) -> Vec<Exceeded> {
        let mut exceeded: Vec<_> = self.by_name.values().filter_map(Gauge::exceeded).collect();
        exceeded.sort_by(|a, b| (!a.now, &a.endpoint).cmp(&(!b.now, &b.endpoint)));
        exceeded
    }
}

impl Gauge {
    fn new(endpoint: EndpointKey, quotas: Quotas) -> Self {
        Self {
            endpoint,
            quotas,
            samples: Bucket::default(),
            bytes: Bucket::default(),
            queued: None,
            over: None,
            last: Quota::SamplesPerS,
            refused: BTreeMap::new(),
        }
    }

    /// Whether so many bytes more may wait, as far as is known.
    fn has_room(&self, bytes: u64) -> bool {
        match (self.quotas.bytes_queued, self.queued) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(limit), Some(queued)) => queued.saturating_add(bytes) <= limit,
        }
    }

    fn take(&mut self, load: Load, now: Instant) -> Result<(), Quota> {
        let mut samples = self.samples;
        if !samples.take(self.quotas.samples_per_s, load.samples, now) {
            return Err(Quota::SamplesPerS);
        }
        let mut bytes = self.bytes;
        if !bytes.take(self.quotas.bytes_per_s, load.bytes, now) {
            return Err(Quota::BytesPerS);
        }
        if !self.has_room(load.bytes) {
            return Err(Quota::BytesQueued);
        }
        (self.samples, self.bytes) = (samples, bytes);
        self.queued = self.queued.map(|known| known.saturating_add(load.bytes));
        Ok(())
    }

    /// Counts what is refused. Returns whether the endpoint was within its quotas before.
    fn refuse(&mut self, quota: Quota, samples: u64, now: Instant) -> bool {
        let sum = self.refused.entry(quota).or_default();
        *sum = sum.saturating_add(samples);
        self.last = quota;
        self.over.replace(now).is_none()
    }

    fn exceeded(&self) -> Option<Exceeded> {
        (!self.refused.is_empty()).then(|| Exceeded {
            endpoint: self.endpoint.clone(),
            quota: self.last,
            limit: self.quotas.limit(self.last).unwrap_or_default(),
            now: self.over.is_some(),
            refused: self.refused.iter().map(|(quota, samples)| (quota.key(), *samples)).collect(),
        })
    }
}

impl Bucket {
    /// Takes so many tokens at this rate per second, or none.
    fn take(&mut self, rate: Option<u64>, tokens: u64, now: Instant) -> bool {
        let Some(rate) = rate else { return true };
        let full_at = self.0.filter(|at| *at > now);
        let after = full_at.unwrap_or(now) + duration(tokens, rate);
        let taken = full_at.is_none() || after <= now + BURST;
        if taken {
            self.0 = Some(after);
        }
        taken
    }
}

/// What so many tokens take to come in, rounded up.
fn duration(tokens: u64, rate: u64) -> Duration {
    let nanos = u128::from(tokens).saturating_mul(1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::Tenant;
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn key(name: &str) -> EndpointKey {
        EndpointKey { tenant: Tenant::default(), name: EndpointName::new(name).unwrap() }
    }

    fn gauges(quotas: Quotas) -> Gauges {
        let gauge = Gauge::new(key("e"), quotas);
        Gauges { by_name: [(gauge.endpoint.name.clone(), gauge)].into(), ..Gauges::default() }
    }

    fn submit(gauges: &mut Gauges, samples: u64, bytes: u64, ms: u64) -> Option<Quota> {
        gauges.weigh(&key("e").name, Load { samples, bytes }, at(ms)).err().map(|excess| excess.quota)
    }

    proptest! {
        /// In no span of time is more taken than ten seconds' worth, what comes in during the span, and
        /// the one submission that may overdraw; and whoever waits is never locked out.
        #[test]
        fn a_bucket_keeps_to_its_rate_and_locks_nobody_out(
            rate in 1_u64..50,
            submissions in prop::collection::vec((0_u64..5_000, 1_u64..1_000), 1..60),
        ) {
            let mut bucket = Bucket::default();
            let (mut now, mut taken) = (0, Vec::new());
            for (pause, tokens) in submissions {
                now += pause;
                if bucket.take(Some(rate), tokens, at(now)) {
                    taken.push((now, tokens));
                }
            }
            for (n, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (to, tokens) in &taken[n..] {
                    // Before the last one: only that may be larger than the bucket.
                    let allowed = 10 * rate + rate * (to - from).div_ceil(1_000) + tokens;
                    sum += tokens;
                    prop_assert!(sum <= allowed, "{sum} from {from} to {to}");
                }
            }
            let last = taken.last().map_or(0, |(_, tokens)| *tokens);
            let later = now + BURST.as_secs() * 1_000 + last.div_ceil(rate) * 1_000;
            prop_assert!(bucket.take(Some(rate), u64::MAX, at(later)), "full at {:?}", bucket);
        }
    }

    #[test]
    fn a_steady_stream_at_its_rate_is_taken_and_twice_of_it_is_halved() {
        let quotas = Quotas { samples_per_s: Some(10), ..Quotas::default() };
        let mut steady = gauges(quotas);
        assert!((0..1_000).all(|n| submit(&mut steady, 1, 50, n * 100).is_none()));
        let mut double = gauges(quotas);
        let taken = (0..2_000).filter(|n| submit(&mut double, 1, 50, n * 50).is_none()).count();
        assert!((1_000..=1_000 + 101).contains(&taken), "100 s at 10 and a burst of 100: {taken}");
    }

    #[test]
    fn what_is_refused_for_one_quota_takes_nothing_from_the_other() {
        let mut gauges =
            gauges(Quotas { samples_per_s: Some(1), bytes_per_s: Some(100), bytes_queued: None });
        assert_eq!(submit(&mut gauges, 1, 900, 0), None);
        assert_eq!(submit(&mut gauges, 1, 900, 0), Some(Quota::BytesPerS));
        assert_eq!(submit(&mut gauges, 9, 100, 0), None, "nine samples are left");
        assert_eq!(submit(&mut gauges, 1, 0, 0), Some(Quota::SamplesPerS));
        let refused = &gauges.exceeded()[0].refused;
        assert_eq!(*refused, [("bytes_per_s", 1), ("samples_per_s", 1)].into());
    }

    #[test]
    fn a_submission_larger_than_the_bucket_is_taken_when_that_is_full_and_paid_off_then() {
        let mut gauges = gauges(Quotas { samples_per_s: Some(1), ..Quotas::default() });
        assert_eq!(submit(&mut gauges, 500, 0, 0), None);
        assert_eq!(submit(&mut gauges, 1, 0, 490_000), Some(Quota::SamplesPerS));
        assert_eq!(submit(&mut gauges, 1, 0, 491_000), None);
    }

    #[test]
    fn the_books_say_what_is_queued_and_are_not_looked_through_for_each_submission() {
        let mut gauges = gauges(Quotas { bytes_queued: Some(1_000), ..Quotas::default() });
        let (name, key) = (key("e").name, key("e"));
        assert!(gauges.wants_look(&name, 1, at(0)), "nothing is known at the start");
        gauges.look([(&key, 300), (&key, 400)].into_iter(), at(0));
        assert_eq!(submit(&mut gauges, 1, 300, 0), None);
        assert_eq!(submit(&mut gauges, 1, 1, 0), Some(Quota::BytesQueued));
        assert!(!gauges.wants_look(&name, 1, at(99)));
        assert!(gauges.wants_look(&name, 1, at(100)));
        let other = EndpointKey { tenant: Tenant::stored("other"), ..key.clone() };
        gauges.look([(&key, 10), (&other, 5_000)].into_iter(), at(100));
        assert_eq!(submit(&mut gauges, 1, 990, 100), None, "what landed has made room");
    }

    fn endpoint(name: &str, quotas: Quotas) -> crate::endpoints::Endpoint {
        crate::endpoints::Endpoint {
            key: key(name),
            token: crate::config::secret::EndpointToken::new(name),
            enabled: true,
            quotas,
            report: None,
            unit: None,
            name_on_wire: BTreeMap::new(),
        }
    }

    #[test]
    fn a_quota_that_is_lifted_is_spoken_of_no_more_and_the_others_are() {
        let all = Quotas { samples_per_s: Some(1), bytes_per_s: Some(100), bytes_queued: None };
        let mut gauges = gauges(all);
        assert_eq!(submit(&mut gauges, 1, 1_000, 0), None);
        assert_eq!(submit(&mut gauges, 1, 5_000, 0), Some(Quota::BytesPerS));
        assert_eq!(submit(&mut gauges, 9, 0, 0), None);
        assert_eq!(submit(&mut gauges, 1, 0, 0), Some(Quota::SamplesPerS));
        let left = Quotas { samples_per_s: None, ..all };
        gauges.adopt(&Directory::new([endpoint("e", left)]), at(1));
        let exceeded = gauges.exceeded();
        let told: Vec<_> = exceeded.iter().map(|e| (e.quota, e.limit, e.refused.len(), e.now)).collect();
        assert_eq!(told, [(Quota::BytesPerS, 100, 1, false)]);
    }

    #[test]
    fn an_endpoint_that_takes_another_in_keeps_its_own_count() {
        let quotas = Quotas { samples_per_s: Some(1), ..Quotas::default() };
        let mut gauges = gauges(quotas);
        gauges.adopt(&Directory::new([endpoint("a", quotas), endpoint("e", quotas)]), at(0));
        assert_eq!(submit(&mut gauges, 500, 0, 0), None);
        let merged = Directory::new([endpoint("e", quotas)]).formerly([(key("a").name, key("e").name)]);
        gauges.adopt(&merged, at(0));
        assert_eq!(submit(&mut gauges, 1, 0, 0), Some(Quota::SamplesPerS));
    }

    #[test]
    fn it_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let mut gauges = gauges(Quotas { samples_per_s: Some(1), ..Quotas::default() });
        let mut told = 0;
        for ms in (0..100_000).step_by(100) {
            if let Err(excess) = gauges.weigh(&key("e").name, Load { samples: 1, bytes: 1 }, at(ms)) {
                told += u32::from(excess.begins);
            }
            assert_eq!(gauges.handle_timeout(at(ms)), []);
        }
        assert_eq!(told, 1);
        assert!(gauges.exceeded()[0].now);
        let end = gauges.poll_timeout().unwrap();
        assert!(end <= at(160_000), "{end:?}");
        let calm = gauges.handle_timeout(at(160_000));
        assert_eq!((calm.len(), calm[0].now, gauges.poll_timeout()), (1, false, None));
        assert!(!gauges.exceeded()[0].now, "it is still known what was refused");
    }
}
