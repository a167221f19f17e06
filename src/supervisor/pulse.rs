//! Whether a unit's thread still turns (I8).
//!
//! An idle unit is not woken for it: a thread that waits for something to do says so as it begins to wait.
//! Only one that is at work is asked, and answers with its next turn. Not here: what is done about it.

use adapter_api::Instant;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{runtime::Builder, sync::Notify};

/// The units are looked at so often, all of them together.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// A unit that has not turned for so long has stalled.
const STALLED: Duration = Duration::from_secs(30);
/// And was looked at so often meanwhile: a process that was stopped, or a machine that slept, is no stalled unit.
const LOOKS: u32 = 4;

/// A unit's pulse, kept by its runtime.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<Beat>);

#[derive(Debug, Default)]
struct Beat {
    /// The thread waits for something to do.
    waits: AtomicBool,
    /// It was seen to turn so often.
    turns: AtomicU64,
    asked: Notify,
}

/// Looks at a pulse. Sans-IO.
#[derive(Debug, Default)]
pub(super) struct Finger {
    /// Which of the unit's runs was felt: what was seen of another says nothing of this one.
    run: Option<u64>,
    turns: u64,
    /// At work and without a turn since then, and how often it was seen so.
    still: Option<(Instant, u32)>,
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It turns, or has nothing to do.
    Turns,
    /// It is at work; the next look says more if it is asked now.
    AtWork,
    /// It has stalled.
    Stalled,
}

impl Pulse {
    /// Has a runtime keep this pulse.
    pub(super) fn kept_by(&self, runtime: &mut Builder) {
        let (before, after) = (self.clone(), self.clone());
        runtime.on_thread_park(move || {
            before.0.turns.fetch_add(1, SeqCst);
            before.0.waits.store(true, SeqCst);
        });
        runtime.on_thread_unpark(move || after.0.waits.store(false, SeqCst));
    }

    /// Answers whenever the unit is asked. To be run beside its work, on its thread.
    pub(super) async fn answer(&self) {
        loop {
            self.0.asked.notified().await;
            self.0.turns.fetch_add(1, SeqCst);
        }
    }

    /// One look, at `now`, in this run of the unit; `None` while it does not run.
    pub(super) fn look(&self, now: Instant, run: Option<u64>, finger: &mut Finger) -> Seen {
        let seen = finger.handle_look(now, run, self.0.waits.load(SeqCst), self.0.turns.load(SeqCst));
        if seen != Seen::Turns {
            self.0.asked.notify_one();
        }
        seen
    }
}

impl Finger {
    fn handle_look(&mut self, now: Instant, run: Option<u64>, waits: bool, turns: u64) -> Seen {
        if waits || turns != self.turns || run != self.run {
            self.still = None;
        }
        (self.run, self.turns) = (run, turns);
        if waits || run.is_none() {
            return Seen::Turns;
        }
        let (since, looks) = self.still.get_or_insert((now, 0));
        *looks = looks.saturating_add(1);
        if *looks >= LOOKS && now.since(*since) >= STALLED {
            return Seen::Stalled;
        }
        Seen::AtWork
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_stalled_that_is_at_work_for_long_without_a_turn() {
        use Seen::{AtWork, Stalled, Turns};
        // (seconds, the run, it waits, turns so far)
        let check_runs = |looks: &[(u64, Option<u64>, bool, u64, Seen)]| {
            let mut finger = Finger::default();
            for &(seconds, run, waits, turns, expected) in looks {
                let now = Instant::from_start(Duration::from_secs(seconds));
                let seen = finger.handle_look(now, run, waits, turns);
                assert_eq!(seen, expected, "at {seconds} s of {looks:?}");
            }
        };
        let check = |looks: &[(u64, bool, u64, Seen)]| {
            let first = |&(seconds, waits, turns, seen)| (seconds, Some(1), waits, turns, seen);
            check_runs(&looks.iter().map(first).collect::<Vec<_>>());
        };
        // Idle for ever.
        check(&[(10, true, 1, Turns), (20, true, 1, Turns), (300, true, 1, Turns)]);
        // Busy for ever, and turning.
        check(&[
            (10, false, 1, AtWork),
            (20, false, 2, AtWork),
            (30, false, 3, AtWork),
            (300, false, 9, AtWork),
        ]);
        // Blocked, and free again.
        check(&[
            (10, false, 1, AtWork),
            (20, false, 1, AtWork),
            (30, false, 1, AtWork),
            (40, false, 1, Stalled),
            (50, false, 1, Stalled),
            (60, true, 2, Turns),
            (70, false, 3, AtWork),
        ]);
        // It ended at work, is started again much later, and has not turned yet.
        check_runs(&[
            (10, Some(1), false, 1, AtWork),
            (20, None, false, 1, Turns),
            (30, None, false, 1, Turns),
            (40, None, false, 1, Turns),
            (50, None, false, 1, Turns),
            (60, Some(2), false, 1, AtWork),
            (70, Some(2), true, 2, Turns),
        ]);
        // It ends between the looks, each time in the middle of a turn.
        check_runs(&[
            (10, Some(1), false, 1, AtWork),
            (20, Some(2), false, 1, AtWork),
            (30, Some(3), false, 1, AtWork),
            (40, Some(4), false, 1, AtWork),
            (50, Some(4), false, 1, AtWork),
            (60, Some(4), false, 1, AtWork),
            (70, Some(4), false, 1, Stalled),
        ]);
        // The process was stopped in the middle of a turn: nobody has looked meanwhile.
        check(&[
            (10, false, 1, AtWork),
            (20, false, 1, AtWork),
            (500, false, 1, AtWork),
            (510, true, 2, Turns),
        ]);
    }

    #[test]
    fn a_runtime_that_waits_is_not_woken_and_one_at_work_answers() {
        let pulse = Pulse::default();
        let mut builder = Builder::new_current_thread();
        pulse.kept_by(&mut builder);
        let runtime = builder.enable_time().build().unwrap();
        let mut finger = Finger::default();
        let at = |n: u64| Instant::from_start(Duration::from_secs(10 * n));
        runtime.block_on(async {
            // It never waits, but turns.
            let busy = async {
                for n in 1..20 {
                    assert_eq!(pulse.look(at(n), Some(1), &mut finger), Seen::AtWork);
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                }
            };
            tokio::select! {
                () = pulse.answer() => {}
                () = busy => {}
            }
        });
        let turns = pulse.0.turns.load(SeqCst);
        assert!(turns >= 19, "asked 19 times, answered {turns} times");
        assert!(!pulse.0.waits.load(SeqCst));
    }
}
