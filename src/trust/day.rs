//! Which day it is, where the wall clock is believed: for what is counted by the day, never for a timer.

use adapter_api::Clock;
use std::time::Duration;
use time::OffsetDateTime;

const DAY_US: i64 = 86_400_000_000;

/// A day of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Counted from 1970-01-01.
    pub number: i64,
    /// Until the next.
    pub left: Duration,
}

/// Today, if that is known.
pub fn today(clock: &Clock) -> Option<Day> {
    clock.is_trusted().then(|| Day::of(clock.wall_us()))
}

/// The beginning of the next day, for people.
pub fn midnight_after(day: i64) -> String {
    let seconds = day.saturating_add(1).saturating_mul(DAY_US / 1_000_000);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("at {:04}-{:02}-{:02}T00:00:00Z", at.year(), u8::from(at.month()), at.day())
}

impl Day {
    fn of(us: i64) -> Self {
        let left = DAY_US - us.rem_euclid(DAY_US);
        let left = Duration::from_micros(u64::try_from(left).unwrap_or_default());
        Self { number: us.div_euclid(DAY_US), left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_at_midnight_of_utc() {
        let last = Day { number: 18_136, left: Duration::from_micros(1) };
        let noon = 18_136 * DAY_US + DAY_US / 2;
        for (us, day) in [
            (18_137 * DAY_US - 1, last),
            (noon, Day { left: Duration::from_secs(43_200), ..last }),
            (-1, Day { number: -1, ..last }),
        ] {
            assert_eq!(Day::of(us), day, "{us}");
        }
        assert_eq!(midnight_after(18_136), "at 2019-08-29T00:00:00Z");
        assert_eq!(today(&Clock::untrusted(1)), None);
        assert!(today(&Clock::trusting()).is_some());
    }
}
