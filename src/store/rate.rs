//! How much comes in per second, smoothed: what came weighs the less the longer it is ago. Sans-IO.
//!
//! By this process's own time: no clock that jumps changes it.

use adapter_api::Instant;
use std::time::Duration;

/// Smoothed over about `OVER_S` seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate<const OVER_S: u64> {
    at: Instant,
    /// With its weight at `at`.
    sum: f64,
}

impl<const OVER_S: u64> Rate<OVER_S> {
    const OVER: Duration = Duration::from_secs(OVER_S);

    /// Nothing has come yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { at: now, sum: 0.0 }
    }

    /// So much has come.
    pub(super) fn add(&mut self, amount: u64, now: Instant) {
        self.sum = self.weighed(now) + approximate(amount);
        self.at = now;
    }

    /// Per second, since it was first looked for; `None` in the first tenth of the time it is smoothed over, and
    /// where nothing has come at all.
    pub(super) fn per_second(&self, since: Instant, now: Instant) -> Option<f64> {
        let known = now.since(since);
        let rate = self.weighed(now) / (Self::OVER.as_secs_f64() * (1.0 - Self::faded(known)));
        (known >= Self::OVER / 10 && rate > 0.0).then_some(rate)
    }

    fn weighed(&self, now: Instant) -> f64 {
        self.sum * Self::faded(now.since(self.at))
    }

    /// What is left of a weight after this time.
    fn faded(after: Duration) -> f64 {
        (-after.as_secs_f64() / Self::OVER.as_secs_f64()).exp()
    }
}

/// As a number that rates are reckoned with.
#[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
pub(super) fn approximate(amount: u64) -> f64 {
    amount as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn a_steady_stream_has_its_rate_and_one_that_ends_fades() {
        for (samples, every) in [(1, 1), (5, 1), (10, 10), (1, 20)] {
            let mut rate = Rate::<60>::new(at(0));
            (0..300).step_by(every).for_each(|s| rate.add(samples, at(s)));
            let wanted = approximate(samples) / approximate(u64::try_from(every).unwrap());
            let found = rate.per_second(at(0), at(299)).unwrap();
            assert!((found - wanted).abs() < wanted / 4.0, "{samples} every {every} s: {found}");
            assert!(rate.per_second(at(0), at(900)).unwrap() < wanted / 1_000.0);
        }
        let mut rate = Rate::<60>::new(at(100));
        rate.add(1, at(103));
        assert_eq!(rate.per_second(at(100), at(105)), None, "too early to say");
        assert!(rate.per_second(at(100), at(106)).is_some());
        assert_eq!(Rate::<60>::new(at(0)).per_second(at(0), at(100)), None, "nothing came");
    }
}
