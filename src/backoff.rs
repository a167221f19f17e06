//! How long to wait before the next try, and where chance comes from. Sans-IO.

use std::time::Duration;

/// The source of chance; machines get it as an argument, so that a test can seed it.
pub use fastrand::Rng;

/// Growing waits between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits grow from `min` to `max`.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, tries: 0 }
    }

    /// The next wait with full jitter (anything from nothing to the ceiling): a thousand gateways
    /// that lost one broker do not come back together.
    pub fn full_jitter(&mut self, rng: &mut Rng) -> Duration {
        self.ceiling().mul_f64(rng.f64())
    }

    /// The next wait with equal jitter (half the ceiling to all of it): never at once.
    pub fn equal_jitter(&mut self, rng: &mut Rng) -> Duration {
        self.ceiling().mul_f64(0.5 + rng.f64() / 2.0)
    }

    /// After success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// Whether the waits have grown to the longest.
    pub fn is_longest(&self) -> bool {
        self.min.saturating_mul(2_u32.saturating_pow(self.tries.min(31))) >= self.max
    }

    fn ceiling(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.tries.min(31));
        self.tries = self.tries.saturating_add(1);
        self.min.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_start_again_after_success() {
        let (min, max) = (Duration::from_secs(5), Duration::from_secs(600));
        let mut backoff = Backoff::new(min, max);
        let mut rng = Rng::with_seed(1);
        for ceiling in [5, 10, 20, 40, 80, 160, 320, 600, 600].map(Duration::from_secs) {
            let wait = backoff.equal_jitter(&mut rng);
            assert!(ceiling / 2 <= wait && wait <= ceiling, "{wait:?} of {ceiling:?}");
        }
        for _ in 0..100 {
            assert!(backoff.full_jitter(&mut rng) <= max);
        }
        assert!(backoff.is_longest());
        backoff.reset();
        assert!(!backoff.is_longest());
        assert!(backoff.equal_jitter(&mut rng) <= min);
    }
}
