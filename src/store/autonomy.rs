//! How long the store can go on taking samples at the present rate, should none go up, before old ones are
//! dropped or new ones refused. Sans-IO.
//!
//! The rate is that of the last ten minutes, smoothed, of the store's own time: no clock that jumps
//! changes it. Where there is none yet, nothing is claimed.

use super::{
    quota::WhenFull,
    rate::{Rate, approximate},
};
use adapter_api::Instant;
use std::time::Duration;

/// The rate is smoothed over ten minutes, and known after one.
const OVER_S: u64 = 600;

/// How much still fits, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Autonomy {
    /// Bytes that still fit.
    pub room_bytes: u64,
    /// What comes in; `None` where that is not known yet, or nothing does.
    pub bytes_per_s: Option<f64>,
    /// For how long that fits.
    pub left: Option<Duration>,
    /// What ends it: `quota`, `free_space` or `age`.
    pub limit: &'static str,
    /// What happens then.
    pub then: WhenFull,
}

/// The bytes that come in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inflow {
    since: Instant,
    bytes: Rate<OVER_S>,
}

impl Inflow {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: Rate::new(now) }
    }

    pub(super) fn add(&mut self, bytes: u64, now: Instant) {
        self.bytes.add(bytes, now);
    }

    /// Bytes per second.
    pub(super) fn rate(&self, now: Instant) -> Option<f64> {
        self.bytes.per_second(self.since, now)
    }
}

impl Autonomy {
    /// With so much room and this rate; `age_left` until the oldest row is too old.
    pub(super) fn new(
        (room_bytes, limit): (u64, &'static str),
        then: WhenFull,
        bytes_per_s: Option<f64>,
        age_left: Option<Duration>,
    ) -> Self {
        let full = bytes_per_s.map(|rate| {
            let seconds = approximate(room_bytes) / rate;
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        });
        match (full, age_left) {
            (Some(full), Some(age)) if age < full => {
                Self { room_bytes, bytes_per_s, left: Some(age), limit: "age", then: WhenFull::DropOldest }
            }
            (left, _) => Self { room_bytes, bytes_per_s, left, limit, then },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    /// The rate after so many bytes every so many seconds.
    fn rate(bytes: u64, every: u64, until: u64) -> Option<f64> {
        let mut inflow = Inflow::new(at(0));
        (0..until).step_by(usize::try_from(every).unwrap()).for_each(|s| inflow.add(bytes, at(s)));
        inflow.rate(at(until))
    }

    fn near(rate: Option<f64>, wanted: f64) -> bool {
        rate.is_some_and(|rate| (rate - wanted).abs() < wanted / 20.0)
    }

    #[test]
    fn a_steady_rate_is_found_after_a_minute_and_not_before() {
        assert_eq!(rate(1_000, 1, 59), None);
        for until in [60, 300, 3_600, 86_400] {
            assert!(near(rate(1_000, 1, until), 1_000.0), "{until}: {:?}", rate(1_000, 1, until));
            assert!(near(rate(10_000, 10, until), 1_000.0), "{until}: {:?}", rate(10_000, 10, until));
        }
        assert_eq!(Inflow::new(at(0)).rate(at(86_400)), None, "nothing comes in");
    }

    #[test]
    fn it_follows_a_change_within_half_an_hour() {
        let mut inflow = Inflow::new(at(0));
        (0..3_600).for_each(|s| inflow.add(100, at(s)));
        (3_600..5_400).for_each(|s| inflow.add(1_000, at(s)));
        assert!(near(inflow.rate(at(5_400)), 955.0), "{:?}", inflow.rate(at(5_400)));
        assert!(inflow.rate(at(10_800)).unwrap() < 1.0);
    }

    #[test]
    fn room_and_rate_make_hours_and_age_may_come_first() {
        let autonomy = |room, rate, age: Option<u64>| {
            let age = age.map(Duration::from_secs);
            let found = Autonomy::new((room, "quota"), WhenFull::Refuse, rate, age);
            (found.left.map(|left| left.as_secs()), found.limit, found.then)
        };
        let (refuse, drop) = (WhenFull::Refuse, WhenFull::DropOldest);
        assert_eq!(autonomy(7_200_000, Some(1_000.0), None), (Some(7_200), "quota", refuse));
        assert_eq!(autonomy(0, Some(1_000.0), None), (Some(0), "quota", refuse));
        assert_eq!(autonomy(7_200_000, Some(1_000.0), Some(7_199)), (Some(7_199), "age", drop));
        assert_eq!(autonomy(7_200_000, Some(1_000.0), Some(7_201)), (Some(7_200), "quota", refuse));
        assert_eq!(autonomy(7_200_000, None, Some(5)), (None, "quota", refuse), "nothing is claimed");
        // Too long for any clock.
        let (left, ..) = autonomy(u64::MAX, Some(f64::MIN_POSITIVE), None);
        assert_eq!(left, Some(Duration::MAX.as_secs()));
    }
}
