//! What the journal is spared: lines that would repeat, and faults that are told from `status`.
//!
//! Whatever stands wrong for a while is reported (health, presence, the status of a unit); the daemon writes
//! the journal from these reports. Here is the word that one of them has changed, and a gate for lines
//! that no report shows. Not here: what is written of the reports (the daemon's `journal`).

use crate::Instant;
use std::{sync::LazyLock, time::Duration};
use tokio::sync::watch;

/// A line that could repeat is told again after this long.
const HOUR: Duration = Duration::from_secs(3_600);

static STIRRED: LazyLock<watch::Sender<()>> = LazyLock::new(|| watch::Sender::new(()));

/// Something that `status` shows has changed. Cheap, but not to be called for each sample.
pub fn stir() {
    STIRRED.send_replace(());
}

/// Sees each [`stir`] from now on.
pub fn stirred() -> watch::Receiver<()> {
    STIRRED.subscribe()
}

/// Lets a line through once, and hourly while there is more of it. Sans-IO.
#[derive(Debug, Default)]
pub struct Seldom {
    told: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Nothing was told yet.
    pub const fn new() -> Self {
        Self { told: None, left_out: 0 }
    }

    /// Whether the line may be written now, and how many were left out before it.
    pub fn tell(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now.since(told) < HOUR) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_repeats_is_told_once_and_hourly_with_what_was_left_out() {
        let mut gate = Seldom::new();
        for (minutes, expected) in
            [(5, Some(0)), (5, None), (6, None), (64, None), (65, Some(3)), (66, None), (300, Some(1))]
        {
            let now = Instant::from_start(Duration::from_secs(60 * minutes));
            assert_eq!(gate.tell(now), expected, "after {minutes} min");
        }
    }

    #[tokio::test]
    async fn a_stir_is_seen_by_everybody_and_not_lost() {
        let (mut first, mut second) = (stirred(), stirred());
        stir();
        stir();
        first.changed().await.unwrap();
        second.changed().await.unwrap();
    }
}
