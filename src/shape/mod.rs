//! Rules between intake and store. Sans-IO.
//!
//! Device time that cannot be true is marked or replaced; an endpoint over its quota is refused (`quota`).
//! An unknown endpoint is refused, a disabled one and a gateway without uplink suppress, and so do report
//! rules (`report`). A suppressed sample is counted, and its values stay visible, and what the rules compute of
//! them: without an uplink too.

pub mod expr;
pub mod quota;
pub mod report;

use crate::{
    endpoints::{Directory, EndpointKey},
    trust::EARLIEST,
};
use adapter_api::{EndpointName, Instant, Quality, Refused, Sample, Source, Stamp};
use quota::{Exceeded, Excess, Gauges, Load};
use report::{Desks, Judged};
use serde::Deserialize;
use std::sync::Arc;

/// The latest a device's clock may be ahead, in µs: a day.
const AHEAD: i64 = 86_400_000_000;
/// Why a reading with an implausible stamp is uncertain.
const DEVICE_CLOCK: &str = "device clock";

/// `clock.device_time`: what becomes of a device's stamp that cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceTime {
    /// It stays.
    Trust,
    /// It stays, and the readings are uncertain.
    #[default]
    Mark,
    /// The gateway's stamp takes its place.
    Replace,
}

/// The rules.
#[derive(Debug)]
pub struct Shape {
    directory: Arc<Directory>,
    uplink: bool,
    device_time: DeviceTime,
    gauges: Gauges,
    desks: Desks,
}

/// What becomes of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is stored.
    Keep(EndpointKey),
    /// It is counted and shown, but not stored.
    Suppress(EndpointKey, &'static str),
    /// The adapter is told no.
    Refuse(Refused, &'static str),
}

impl Shape {
    /// Rules for these endpoints; `uplink` says whether there is one (`uplink.kind` is not `none`).
    pub fn new(directory: Arc<Directory>, uplink: bool) -> Self {
        let (gauges, desks) = (Gauges::new(&directory), Desks::new(&directory));
        Self { directory, uplink, device_time: DeviceTime::default(), gauges, desks }
    }

    /// These endpoints and rules from now on. Those that stay as they were keep what is known of them.
    pub fn adopt(&mut self, directory: Arc<Directory>, uplink: bool, device_time: DeviceTime, now: Instant) {
        self.gauges.adopt(&directory, now);
        self.desks.adopt(&directory);
        (self.directory, self.uplink, self.device_time) = (directory, uplink, device_time);
    }

    /// The endpoints whose report rules end with these endpoints, for [`Shape::release`].
    pub fn ending(&self, directory: &Directory) -> Vec<usize> {
        self.desks.ending(directory)
    }

    /// What an endpoint is called now that is known by a former name.
    pub fn present_name(&self, former: &EndpointName) -> Option<&EndpointName> {
        self.directory.present_name(former)
    }

    /// With this rule for device time.
    #[must_use]
    pub fn device_time(self, device_time: DeviceTime) -> Self {
        Self { device_time, ..self }
    }

    /// With samples of at most so many bytes, by [`Sample::weight`], in what report rules make.
    #[must_use]
    pub fn max_sample_bytes(mut self, bytes: usize) -> Self {
        self.desks.set_limit(bytes);
        self
    }

    /// Applies the rule for device time. `wall_us` is the time now, if it is known, `stamp` the
    /// gateway's stamp. Counts nothing: no sample is lost by it.
    pub fn set_right(&self, samples: &mut [Sample], wall_us: Option<i64>, stamp: Stamp) {
        let latest = wall_us.map_or(i64::MAX, |now| now.saturating_add(AHEAD));
        let implausible = |sample: &&mut Sample| match sample.at {
            Stamp::Wall { us, source: Source::Device } => us < EARLIEST || us > latest,
            _ => false,
        };
        for sample in samples.iter_mut().filter(implausible) {
            match self.device_time {
                DeviceTime::Trust => {}
                DeviceTime::Mark => sample.readings.iter_mut().for_each(|r| doubt(&mut r.quality)),
                DeviceTime::Replace => sample.at = stamp,
            }
        }
    }

    /// Decides over a submission.
    pub fn admit(&self, endpoint: &EndpointName) -> Verdict {
        match self.directory.by_name(endpoint) {
            None => Verdict::Refuse(Refused::Unknown, "unknown_endpoint"),
            Some(endpoint) if !endpoint.enabled => Verdict::Suppress(endpoint.key.clone(), "disabled"),
            Some(endpoint) if !self.uplink => Verdict::Suppress(endpoint.key.clone(), "no_uplink"),
            Some(endpoint) => Verdict::Keep(endpoint.key.clone()),
        }
    }

    /// Whether anything is stored: without an uplink values are only shown.
    pub fn stores(&self) -> bool {
        self.uplink
    }

    /// Whether what this endpoint hands in has to be weighed. What is not stored needs no quota.
    pub fn is_limited(&self, endpoint: &EndpointName) -> bool {
        self.uplink && self.gauges.is_limited(endpoint)
    }

    /// Whether the endpoint is at its limit of bytes queued, as far as is known: then [`Shape::look`] first.
    pub fn wants_look(&self, endpoint: &EndpointName, bytes: u64, now: Instant) -> bool {
        self.gauges.wants_look(endpoint, bytes, now)
    }

    /// Takes note of the bytes of each endpoint that are on the books or about to be.
    pub fn look<'a>(&mut self, books: impl Iterator<Item = (&'a EndpointKey, u64)>, now: Instant) {
        self.gauges.look(books, now);
    }

    /// Takes a submission of a limited endpoint into account, or refuses it.
    pub fn weigh(&mut self, endpoint: &EndpointName, load: Load, now: Instant) -> Result<(), Excess> {
        self.gauges.weigh(endpoint, load, now)
    }

    /// When [`Shape::handle_timeout`] has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.gauges.poll_timeout()
    }

    /// The endpoints that are within their quotas again.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Exceeded> {
        self.gauges.handle_timeout(now)
    }

    /// The endpoints that went over a quota since the start, those that still do first.
    pub fn exceeded(&self) -> Vec<Exceeded> {
        self.gauges.exceeded()
    }

    /// Whether an endpoint goes over a quota now.
    pub fn is_over_quota(&self, endpoint: &EndpointName) -> bool {
        self.gauges.is_over(endpoint)
    }

    /// Whether an endpoint has report rules.
    pub fn has_report(&self, endpoint: &EndpointName) -> bool {
        self.desks.has(endpoint)
    }

    /// Applies the report rules of an endpoint that is enabled, in a transaction. `None` if it has none.
    pub fn judge(&self, endpoint: &EndpointName, samples: &[Sample], now: Instant) -> Option<Judged> {
        self.desks.judge(endpoint, samples, now)
    }

    /// Endpoints that have something to report though no sample comes, at most `most`; with `all`, of
    /// whom anything is withheld. To be reported by [`Shape::release`].
    pub fn reports_due(&self, now: Instant, all: bool, most: usize) -> Vec<usize> {
        self.desks.due(now, all, most)
    }

    /// What one of these endpoints has to report; `None` if that is done already.
    pub fn release(&self, place: usize, now: Instant, all: bool) -> Option<Judged> {
        self.desks.release(place, now, all)
    }

    /// What was judged or released is written in the open transaction.
    pub fn accept(&mut self, judged: Judged) {
        self.desks.accept(judged);
    }

    /// After COMMIT: what was accepted is reported.
    pub fn committed(&mut self) {
        self.desks.committed();
    }

    /// After ROLLBACK: nothing was.
    pub fn rolled_back(&mut self) {
        self.desks.rolled_back();
    }

    /// What is due could not be written, and is not tried before `until`.
    pub fn put_off_reports(&mut self, until: Instant) {
        self.desks.put_off(until);
    }

    /// When [`Shape::reports_due`] has something to say.
    pub fn poll_report(&self) -> Option<Instant> {
        self.desks.poll_timeout()
    }

    /// What the store knows an endpoint by.
    pub fn key(&self, endpoint: &EndpointName) -> Option<&EndpointKey> {
        self.directory.by_name(endpoint).map(|endpoint| &endpoint.key)
    }
}

fn doubt(quality: &mut Quality) {
    match quality {
        Quality::Good => *quality = Quality::Uncertain(DEVICE_CLOCK.into()),
        Quality::Uncertain(why) => *why = format!("{DEVICE_CLOCK}; {why}"),
        Quality::Bad(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapter_api::{Reading, Resource};

    const NOW: i64 = 1_800_000_000_000_000;
    const OURS: Stamp = Stamp::Wall { us: NOW, source: Source::Gateway };

    /// The stamp and the quality that come of a device's stamp.
    fn check(rule: DeviceTime, us: i64, wall_us: Option<i64>) -> (Stamp, Quality) {
        let shape = Shape::new(Arc::default(), true).device_time(rule);
        let reading = Reading::measured(Resource::new("r").unwrap(), 1_i64);
        let at = Stamp::Wall { us, source: Source::Device };
        let mut samples = [Sample { at, readings: vec![reading] }];
        shape.set_right(&mut samples, wall_us, OURS);
        let [sample] = samples;
        (sample.at, sample.readings[0].quality.clone())
    }

    #[test]
    fn device_time_that_cannot_be_true_is_marked_or_replaced() {
        let theirs = |us| Stamp::Wall { us, source: Source::Device };
        let marked = Quality::Uncertain("device clock".into());
        for (us, wall_us, plausible) in [
            (NOW, Some(NOW), true),
            (EARLIEST, Some(NOW), true),
            (EARLIEST - 1, Some(NOW), false),
            (0, None, false),
            (NOW + AHEAD, Some(NOW), true),
            (NOW + AHEAD + 1, Some(NOW), false),
            // Nobody knows how late it is.
            (NOW + AHEAD + 1, None, true),
            (i64::MAX, None, true),
            (i64::MIN, Some(NOW), false),
        ] {
            assert_eq!(check(DeviceTime::Trust, us, wall_us), (theirs(us), Quality::Good), "{us}");
            let quality = if plausible { Quality::Good } else { marked.clone() };
            assert_eq!(check(DeviceTime::Mark, us, wall_us), (theirs(us), quality), "{us}");
            let at = if plausible { theirs(us) } else { OURS };
            assert_eq!(check(DeviceTime::Replace, us, wall_us), (at, Quality::Good), "{us}");
        }
    }

    #[test]
    fn a_doubt_is_added_to_those_there_are() {
        let mut quality = Quality::Uncertain("drift".into());
        doubt(&mut quality);
        assert_eq!(quality, Quality::Uncertain("device clock; drift".into()));
        let mut quality = Quality::Bad("timeout".into());
        doubt(&mut quality);
        assert_eq!(quality, Quality::Bad("timeout".into()));
    }
}
