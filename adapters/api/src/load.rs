//! How busy a shared wire is: the share of the last minute in which it was used. Sans-IO.

use crate::Instant;
use std::{collections::VecDeque, time::Duration};

/// What is looked back at.
const WINDOW: Duration = Duration::from_secs(60);
/// Uses within one of these are added up, so that a minute takes little room.
const GRAIN: Duration = Duration::from_millis(500);

/// The use of one wire.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    since: Instant,
    /// When each grain began, and how much of it was used; oldest first.
    grains: VecDeque<(Instant, Duration)>,
}

impl Load {
    /// Nothing is known of the time before.
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, grains: VecDeque::new() }
    }

    /// It was used from then to then, which is now.
    pub(crate) fn add(&mut self, from: Instant, to: Instant) {
        let used = to.since(from);
        match self.grains.back_mut() {
            Some((begun, sum)) if to.since(*begun) < GRAIN => *sum += used,
            _ => self.grains.push_back((from, used)),
        }
        while self.grains.front().is_some_and(|(begun, sum)| to.since(*begun) > WINDOW + *sum + GRAIN) {
            self.grains.pop_front();
        }
    }

    /// The share of the last minute, or of the time since the beginning: 0 to 1.
    pub(crate) fn share(&self, now: Instant) -> f64 {
        let span = now.since(self.since).min(WINDOW);
        let from = now - span;
        // What began before the window counts with what lies in it.
        let inside = |(begun, sum): &(Instant, Duration)| {
            let outside = from.since(*begun).min(*sum);
            if (*begun + (*sum).max(GRAIN)) <= from { Duration::ZERO } else { *sum - outside }
        };
        let used: Duration = self.grains.iter().map(inside).sum();
        if span.is_zero() { 0.0 } else { (used.as_secs_f64() / span.as_secs_f64()).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn check(uses: &[(u64, u64)], now: u64, share: f64) {
        let mut load = Load::new(at(0));
        for (from, to) in uses {
            load.add(at(*from), at(*to));
        }
        let got = load.share(at(now));
        assert!((got - share).abs() < 0.01, "{uses:?} at {now}: {got}, not {share}");
    }

    #[test]
    fn the_share_is_of_the_last_minute() {
        check(&[], 0, 0.0);
        check(&[], 10_000, 0.0);
        check(&[(0, 1_000)], 1_000, 1.0);
        check(&[(0, 1_000)], 10_000, 0.1);
        check(&[(0, 30_000)], 60_000, 0.5);
        check(&[(0, 30_000)], 75_000, 0.25);
        check(&[(0, 30_000), (30_000, 90_000)], 90_000, 1.0);
        check(&[(0, 1_000)], 120_000, 0.0);
        let third: Vec<(u64, u64)> = (0..6_000).map(|n| (30 * n, 30 * n + 10)).collect();
        check(&third, 180_000, 1.0 / 3.0);
        check(&third[..1_000], 30_000, 1.0 / 3.0);
    }

    #[test]
    fn a_minute_takes_little_room() {
        let mut load = Load::new(at(0));
        for n in 0..600_000 {
            load.add(at(n), at(n + 1));
        }
        assert!(load.grains.len() < 200, "{}", load.grains.len());
        assert!(load.share(at(600_000)) > 0.99);
    }
}
