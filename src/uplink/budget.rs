//! How much may be sent in a day: `limits.daily_bytes`. Sans-IO.
//!
//! A day is one of UTC where the time is known, and 24 hours of run time where it is not. What was used
//! survives a restart: it is written down ahead, in steps of a hundredth of the budget, so that a crash
//! makes it too much by a step and never too little.

use crate::trust::Day;
use adapter_api::Instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A day of run time.
const DAY: Duration = Duration::from_secs(86_400);
/// How far a day of run time has come is written down so often.
const NOTE: Duration = Duration::from_secs(3_600);
/// Steps of the budget.
const STEPS: u64 = 100;

/// What may be sent today.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: u64,
    /// What is written down as used.
    written: u64,
    /// Of UTC, counted from 1970; `None`: of run time.
    day: Option<i64>,
    ends: Instant,
    /// When it is written down next how far a day of run time has come. One of UTC needs no note.
    note_due: Instant,
    changed: bool,
}

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    used: u64,
    day: Option<i64>,
    /// Run time so far, in seconds.
    ran: u64,
}

/// The budget as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// Bytes of topics and payloads published today.
    pub used: u64,
    /// Of so many.
    pub limit: u64,
    /// Nothing goes any more, and when it goes on.
    pub used_up: Option<String>,
}

impl Budget {
    /// Of so many bytes a day, with what an earlier life wrote down.
    pub(crate) fn new(now: Instant, limit: u64, kept: &[u8]) -> Self {
        let kept: Kept = serde_json::from_slice(kept).unwrap_or(Kept { used: 0, day: None, ran: 0 });
        let ran = Duration::from_secs(kept.ran).min(DAY);
        Self {
            limit,
            used: kept.used,
            written: kept.used,
            day: kept.day,
            // Of a day of UTC it is learnt when the time is known; until then it counts as one of run time.
            ends: now + (DAY - ran),
            note_due: now + NOTE,
            changed: false,
        }
    }

    /// What day it is, if that is known.
    pub(crate) fn handle_day(&mut self, now: Instant, today: Option<Day>) {
        match (self.day, today) {
            (Some(day), Some(today)) if day == today.number => self.ends = now + today.left,
            // What was used before the time was known counts for today: less is sent, not more.
            (None, Some(today)) if now < self.ends => {
                (self.day, self.ends, self.changed) = (Some(today.number), now + today.left, true);
            }
            (_, Some(today)) => self.begin(now, Some(today.number), today.left),
            (_, None) if now >= self.ends => self.begin(now, None, DAY),
            (_, None) => {}
        }
        if self.day.is_none() && self.note_due <= now {
            (self.note_due, self.changed) = (now + NOTE, true);
        }
    }

    /// Whether nothing may be sent today any more.
    pub(crate) fn is_used_up(&self) -> bool {
        self.used >= self.limit
    }

    /// This was sent. What is left may be less than one publish: it goes, or nothing ever would.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.changed |= self.used > self.written;
    }

    /// When a day ends or is to be written down. After [`Budget::handle_day`] that is never now or earlier.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let note = self.day.is_none().then_some(self.note_due);
        note.into_iter().chain([self.ends]).min()
    }

    /// What is to be written down.
    pub(crate) fn poll_keep(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        if self.used > self.written {
            self.written = self.used.saturating_add(self.limit / STEPS);
        }
        self.keep(now, self.written)
    }

    /// The same, exactly: the daemon stops.
    pub(crate) fn last_words(&mut self, now: Instant) -> Option<Vec<u8>> {
        (self.written != self.used).then_some(())?;
        self.written = self.used;
        self.keep(now, self.used)
    }

    /// For `status`.
    pub(crate) fn spent(&self, now: Instant) -> Spent {
        let left = self.ends.since(now);
        let until = match self.day {
            Some(day) => crate::trust::midnight_after(day),
            None => format!("in {} h {} min", left.as_secs() / 3_600, left.as_secs() / 60 % 60),
        };
        let used_up = self.is_used_up().then(|| format!("daily budget used up, goes on {until}"));
        Spent { used: self.used, limit: self.limit, used_up }
    }

    fn begin(&mut self, now: Instant, day: Option<i64>, left: Duration) {
        (self.day, self.ends, self.note_due) = (day, now + left, now + NOTE);
        (self.used, self.written, self.changed) = (0, 0, true);
    }

    fn keep(&self, now: Instant, used: u64) -> Option<Vec<u8>> {
        let ran = if self.day.is_none() { DAY.saturating_sub(self.ends.since(now)) } else { Duration::ZERO };
        serde_json::to_vec(&Kept { used, day: self.day, ran: ran.as_secs() }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(hours: u32) -> Instant {
        Instant::from_start(HOUR * hours)
    }

    fn day(number: i64, hours_left: u32) -> Option<Day> {
        Some(Day { number, left: HOUR * hours_left })
    }

    #[test]
    fn a_day_of_utc_begins_anew_at_midnight() {
        let mut budget = Budget::new(at(0), 1_000, b"");
        budget.handle_day(at(0), day(20_000, 5));
        budget.spend(999);
        assert!(!budget.is_used_up(), "a publish larger than what is left goes");
        budget.spend(500);
        assert!(budget.is_used_up());
        assert_eq!(budget.poll_timeout(), Some(at(5)));
        let said = budget.spent(at(1)).used_up.unwrap();
        assert_eq!(said, "daily budget used up, goes on at 2024-10-05T00:00:00Z");
        budget.handle_day(at(4), day(20_000, 1));
        assert!(budget.is_used_up());
        budget.handle_day(at(5), day(20_001, 24));
        assert!(!budget.is_used_up());
        assert_eq!(budget.poll_timeout(), Some(at(29)));
    }

    #[test]
    fn without_the_time_a_day_is_24_hours_of_running() {
        let mut budget = Budget::new(at(0), 1_000, b"");
        budget.spend(1_000);
        let mut kept = budget.poll_keep(at(0)).unwrap();
        for hour in 1..=10 {
            budget.handle_day(at(hour), None);
            kept = budget.poll_keep(at(hour)).unwrap_or(kept);
        }
        assert_eq!(budget.spent(at(10)).used_up.unwrap(), "daily budget used up, goes on in 14 h 0 min");
        // Off for days: that is no run time.
        let mut budget = Budget::new(at(100), 1_000, &kept);
        budget.handle_day(at(113), None);
        assert!(budget.is_used_up());
        budget.handle_day(at(114), None);
        assert!(!budget.is_used_up());
    }

    #[test]
    fn what_was_used_survives_a_crash_and_costs_few_writes() {
        let mut budget = Budget::new(at(0), 100_000, b"");
        budget.handle_day(at(0), day(20_000, 24));
        let (mut kept, mut writes) = (Vec::new(), 0);
        for _ in 0..1_000 {
            budget.spend(100);
            if let Some(keep) = budget.poll_keep(at(0)) {
                (kept, writes) = (keep, writes + 1);
            }
            let known = Budget::new(at(1), 100_000, &kept).used;
            assert!((budget.used..=budget.used + 1_000).contains(&known), "{known} of {}", budget.used);
        }
        assert!((90..=101).contains(&writes), "{writes}");
        let mut again = Budget::new(at(1), 100_000, &kept);
        again.handle_day(at(1), day(20_000, 23));
        assert!(again.is_used_up());
        let mut tomorrow = Budget::new(at(1), 100_000, &kept);
        tomorrow.handle_day(at(1), day(20_001, 23));
        assert!(!tomorrow.is_used_up());
        assert_eq!(Budget::new(at(1), 100_000, &budget.last_words(at(1)).unwrap_or(kept)).used, 100_000);
    }

    #[test]
    fn nothing_stays_due_after_a_start_within_the_day_whether_the_time_is_known_or_not() {
        let mut budget = Budget::new(at(0), 1_000, b"");
        budget.handle_day(at(0), day(20_000, 24));
        budget.spend(1_000);
        let kept = budget.poll_keep(at(0)).unwrap();
        // Known all the time, never, and from the fifth hour or the second day on.
        for known_from in [1, u32::MAX, 5, 30] {
            let mut again = Budget::new(at(1), 1_000, &kept);
            for hour in 1..60 {
                let today = day(20_000 + i64::from(hour / 24), 24 - hour % 24);
                again.handle_day(at(hour), today.filter(|_| hour >= known_from));
                let due = again.poll_timeout().unwrap();
                assert!(due > at(hour), "known from {known_from}: {due:?} is due for ever in hour {hour}");
                assert!(again.is_used_up() || hour >= 24, "known from {known_from}: a second budget");
            }
            assert!(!again.is_used_up(), "known from {known_from}");
        }
    }

    #[test]
    fn time_that_becomes_known_gives_no_second_budget() {
        let mut budget = Budget::new(at(0), 1_000, b"");
        budget.spend(1_000);
        budget.handle_day(at(1), day(20_000, 3));
        assert!(budget.is_used_up());
        budget.handle_day(at(4), day(20_001, 24));
        assert!(!budget.is_used_up());
    }
}
