//! The days of a simulated run: how much may be sent in one, and from when on a process knows which it is.

use super::{
    World,
    plan::{Kind, MINUTE, SECOND, Us},
};
use crate::{backoff::Rng, trust::Day, uplink::budget::Budget};
use std::time::Duration;

const HOUR: Us = 60 * MINUTE;

/// A budget, and days that are shorter than ours.
#[derive(Debug, Clone)]
pub(super) struct Days {
    limit: u64,
    length: Us,
    /// How much of the first is over when the run begins.
    begun: Us,
    /// So long after its start a process does not know the time.
    unknown: Us,
}

impl Days {
    /// Of a run in which samples may wait.
    pub(super) fn draw(kind: Kind, rng: &mut Rng) -> Option<Self> {
        if !matches!(kind, Kind::Wild | Kind::Slow) || rng.u8(..3) > 0 {
            return None;
        }
        let length = rng.choice([20 * MINUTE, 3 * HOUR]).unwrap_or(HOUR);
        Some(Self {
            limit: rng.choice([10_000, 100_000]).unwrap_or(10_000),
            length,
            begun: rng.u64(..length),
            unknown: rng.choice([0, 0, 40 * SECOND, 2 * HOUR]).unwrap_or(0),
        })
    }

    /// How long so many bytes take: until the time is known, a day of run time passes.
    pub(super) fn transmission(&self, bytes: u64) -> Us {
        24 * HOUR + (bytes / self.limit + 2) * self.length
    }

    fn of(&self, now: Us) -> Day {
        let since = now + self.begun;
        let left = Duration::from_micros(self.length - since % self.length);
        Day { number: i64::try_from(since / self.length).unwrap(), left }
    }
}

impl World {
    /// A process starts, with what an earlier one wrote down.
    pub(super) fn begin_days(&mut self) {
        self.born = self.now;
        let (now, kept) = (self.instant(), &self.shelf.budget);
        let budget = self.plan.days.as_ref().map(|days| Budget::new(now, days.limit, kept));
        self.engine.keep_to(budget);
    }

    /// Which day it is, where that is known.
    pub(super) fn today(&self) -> Option<Day> {
        let days = self.plan.days.as_ref()?;
        (self.now >= self.born + days.unknown).then(|| days.of(self.now))
    }

    /// So much is sent.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), String> {
        let Some(days) = &self.plan.days else { return Ok(()) };
        let today = days.of(self.now).number;
        if self.spent.0 != today {
            self.spent = (today, 0);
        }
        let before = self.spent.1;
        self.spent.1 += bytes as u64;
        self.stats.full_days += u64::from(before < days.limit && self.spent.1 >= days.limit);
        // While the time is not known, what goes counts for another day. A part of many frames goes as one.
        if before >= days.limit && days.unknown == 0 && !self.plan.per_resource {
            return Err(format!("{} bytes are sent in a day of {}", self.spent.1, days.limit));
        }
        Ok(())
    }
}
