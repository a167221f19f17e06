//! How much may be kept, and how much has to go (I10). Sans-IO.
//!
//! The quota is about the database: pages in use times their size. It stops short of the limit by a
//! slack, so that one commit stays under it. When the file system has less free than `min_free`, the
//! database does not grow: the limit is then what it has.

use adapter_api::{Instant, clock};
use serde::Serialize;
use std::time::Duration;

/// A fault that goes on is told again so often.
const TELL_EVERY: Duration = Duration::from_secs(3_600);

/// `[store]`: how much may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Of the database.
    pub max_bytes: u64,
    /// Of a row, by its stamp.
    pub max_age: Option<Duration>,
    /// Bytes of the file system that are left to others.
    pub min_free: u64,
    /// What gives way.
    pub when_full: WhenFull,
}

/// What gives way when the database may not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest rows of whoever uses most.
    DropOldest,
    /// New samples.
    Refuse,
}

/// What was dropped for one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Drops {
    /// How many samples.
    pub samples: u64,
    /// The earliest stamp among them, µs since 1970; `None` where no wall time was known.
    pub first_us: Option<i64>,
    /// The latest.
    pub last_us: Option<i64>,
    #[serde(skip)]
    told: Option<(Instant, u64)>,
}

/// What was found on disk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measure {
    /// Bytes of the database's pages.
    pub(super) file: u64,
    /// Of them, bytes of pages without content.
    pub(super) empty: u64,
    /// Bytes others may still write on the file system.
    pub(super) free: u64,
    /// Bytes of the file system.
    pub(super) total: u64,
    /// Bytes the reserve lacks.
    pub(super) reserve_lacks: u64,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    used: u64,
    limit: u64,
    slack: u64,
    /// What sets the limit.
    pub(super) reason: &'static str,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, max_age: None, min_free: 64 << 20, when_full: WhenFull::DropOldest }
    }
}

impl Limits {
    /// How full the store is. `leaving` bytes of rows are off the books and still on disk; `noted` ones, too, but
    /// not all of these go with one commit, and their pages may stay.
    pub(super) fn level(&self, measure: &Measure, leaving: u64, noted: u64) -> Level {
        let Measure { file, empty, free, total, reserve_lacks } = *measure;
        let left_alone = self.min_free.min(total / 16).saturating_add(reserve_lacks);
        let by_disk = file.saturating_add(free.saturating_sub(left_alone));
        let limit = self.max_bytes.min(by_disk);
        let slack = (limit / 32).clamp(32 << 10, 4 << 20);
        Level {
            used: file.saturating_sub(empty).saturating_sub(leaving).saturating_sub(noted.min(slack)),
            limit,
            slack,
            reason: if by_disk < self.max_bytes { "free_space" } else { "quota" },
        }
    }

    /// Whether whatever others have room for has room with these.
    pub(super) fn contain(&self, others: &Self) -> bool {
        self.max_bytes >= others.max_bytes && self.min_free <= others.min_free
    }

    /// Bytes of dead letters that are kept.
    pub(super) fn dead_bytes(&self) -> u64 {
        self.max_bytes / 10
    }
}

impl Level {
    /// Bytes that have to go before `incoming` can be written.
    pub(super) fn excess(self, incoming: u64) -> u64 {
        let wanted = self.used.saturating_add(incoming);
        // Where little is free it does not grow; for others it need not get smaller.
        if incoming == 0 && self.reason == "free_space" {
            return 0;
        }
        if wanted <= self.limit.saturating_sub(self.slack) {
            return 0;
        }
        wanted.saturating_sub(self.limit.saturating_sub(2 * self.slack))
    }

    /// Whether noted rows go before anything else has to: there are more of them than are counted upon. How much
    /// room that is shows when they have gone.
    pub(super) fn sweeps_first(self, incoming: u64, noted: u64) -> bool {
        noted > self.slack && self.excess(incoming) > 0
    }

    /// Bytes that noted rows should make room for: early, so that nothing else has to.
    pub(super) fn pressed(self, incoming: u64) -> u64 {
        self.excess(incoming.saturating_add(self.slack.saturating_mul(2)))
    }

    /// Whether so little is left that nothing more should be read; it `was` so until now.
    pub(super) fn is_tight(self, was: bool) -> bool {
        self.room(WhenFull::Refuse, 0) < self.slack.saturating_mul(if was { 2 } else { 1 })
    }

    /// Bytes that still come in before something gives way.
    pub(super) fn left(self, policy: WhenFull) -> u64 {
        let before = match policy {
            WhenFull::DropOldest => self.slack,
            WhenFull::Refuse => self.slack.saturating_mul(2),
        };
        self.limit.saturating_sub(before).saturating_sub(self.used)
    }

    /// Bytes that may still be written when so many have gone.
    pub(super) fn room(self, policy: WhenFull, dropped: u64) -> u64 {
        let limit = match policy {
            WhenFull::DropOldest => self.limit.saturating_add(dropped),
            WhenFull::Refuse => self.limit.saturating_sub(self.slack),
        };
        limit.saturating_sub(self.used)
    }
}

impl Drops {
    /// Counts samples with the range of their stamps.
    pub(crate) fn add(&mut self, samples: u64, range: Option<(i64, i64)>) {
        self.samples += samples;
        if let Some((first, last)) = range {
            self.first_us = Some(self.first_us.map_or(first, |known| known.min(first)));
            self.last_us = Some(self.last_us.map_or(last, |known| known.max(last)));
        }
    }

    /// Says so in the journal: at once, and hourly while it goes on.
    pub(super) fn tell(&mut self, reason: &str) {
        let now = clock::now();
        if self.told.is_some_and(|(at, told)| told == self.samples || now.since(at) < TELL_EVERY) {
            return;
        }
        self.told = Some((now, self.samples));
        tracing::error!(
            reason,
            samples = self.samples,
            first_us = self.first_us,
            last_us = self.last_us,
            "readings were dropped; the figures are of all drops for this reason"
        );
    }
}

/// By how many bytes a database may grow. What is in the journal so far needs its place in the file,
/// which is `written` bytes long; and pages that were given back keep theirs until the checkpoint.
pub(super) fn growth(free: u64, written: u64, file: u64) -> u64 {
    free.saturating_add(written).saturating_sub(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn level(file: u64, empty: u64, free: u64) -> Level {
        let limits = Limits { max_bytes: 64 * MIB, ..Limits::default() };
        let total = 4_096 * MIB;
        limits.level(&Measure { file, empty, free, total, reserve_lacks: 0 }, 0, 0)
    }

    #[test]
    fn nothing_goes_while_there_is_room() {
        assert_eq!(level(61 * MIB, 0, 1_000 * MIB).excess(MIB), 0);
        let full = level(63 * MIB, 0, 1_000 * MIB);
        assert_eq!((full.excess(0), full.reason), (3 * MIB, "quota"));
        assert_eq!(full.room(WhenFull::Refuse, 0), 0);
        assert_eq!(full.room(WhenFull::DropOldest, 3 * MIB), 4 * MIB);
    }

    #[test]
    fn noted_rows_make_room_before_anything_else_and_only_so_much_as_they_can_at_once() {
        let limits = Limits { max_bytes: 64 * MIB, min_free: 0, ..Limits::default() };
        let measure = |file: u64| Measure { file: file * MIB, free: 1_000 * MIB, ..Measure::default() };
        let level = |file, noted: u64| limits.level(&measure(file), 0, noted * MIB);
        assert_eq!((level(57, 0).pressed(0), level(57, 0).excess(0)), (0, 0));
        assert_eq!((level(60, 0).pressed(0), level(60, 0).excess(0)), (4 * MIB, 0), "early");
        assert_eq!(level(63, 40).room(WhenFull::Refuse, 0), MIB, "no more than the slack is counted upon");
        assert_eq!(level(63, 1).excess(0), 0);
        // As after a limit that has fallen.
        assert_eq!((level(80, 40).excess(0), level(80, 40).sweeps_first(0, 40 * MIB)), (18 * MIB, true));
        assert!(!level(80, 2).sweeps_first(0, 2 * MIB), "these are counted upon, and are not enough");
        assert!(!level(57, 40).sweeps_first(0, 40 * MIB), "there is room");
    }

    #[test]
    fn reading_stops_before_samples_are_refused_and_goes_on_when_there_is_more_room() {
        assert_eq!(level(57 * MIB, 0, 1_000 * MIB).left(WhenFull::Refuse), 3 * MIB);
        assert_eq!(level(57 * MIB, 0, 1_000 * MIB).left(WhenFull::DropOldest), 5 * MIB);
        for (used, fresh, was) in [(57, false, false), (59, false, true), (61, true, true), (63, true, true)]
        {
            let level = level(used * MIB, 0, 1_000 * MIB);
            assert_eq!((level.is_tight(false), level.is_tight(true)), (fresh, was), "{used} of 64 MiB");
        }
    }

    #[test]
    fn with_too_little_free_the_database_does_not_grow() {
        let tight = level(32 * MIB, 0, 10 * MIB);
        assert_eq!((tight.excess(MIB), tight.reason), (3 * MIB, "free_space"));
        assert_eq!(tight.excess(0), 0, "nothing comes in, and nothing has to go for others");
        assert_eq!(level(32 * MIB, 8 * MIB, 10 * MIB).excess(MIB), 0, "empty pages are filled");
        assert_eq!(level(32 * MIB, 0, 164 * MIB).reason, "quota");
    }

    #[test]
    fn pages_that_were_given_back_are_room_before_the_checkpoint() {
        assert_eq!(growth(5 * MIB, 8 * MIB, 9 * MIB), 4 * MIB, "one is in the journal only");
        // A queue that drains on a full disk: nothing of it has to go because its file gets shorter.
        let free = growth(0, 16 * MIB, 8 * MIB);
        let limits = Limits::default();
        let drained = Measure { file: 8 * MIB, free, total: 32 * MIB, ..Measure::default() };
        assert_eq!(limits.level(&drained, 0, 0).excess(MIB), 0);
    }

    #[test]
    fn a_small_file_system_is_not_kept_free_altogether() {
        let limits = Limits::default();
        let small = Measure { file: MIB, free: 20 * MIB, total: 32 * MIB, ..Measure::default() };
        assert_eq!(limits.level(&small, 0, 0).room(WhenFull::DropOldest, 0), 18 * MIB);
        let lacking = Measure { reserve_lacks: 8 * MIB, ..small };
        assert_eq!(limits.level(&lacking, 0, 0).room(WhenFull::DropOldest, 0), 10 * MIB);
    }
}
