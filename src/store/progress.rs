//! How far the salvage of a damaged database has come. Meanwhile the store answers nobody, and may do so for longer than
//! a watchdog waits: whoever watches it learns here that it moves.

use crate::failpoint;
use adapter_api::clock;
use rusqlite::Connection;
use std::{
    ffi::c_int,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// While there is no answer, it is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of SQLite's virtual machine, which takes some for each row.
const OPERATIONS: c_int = 1_000;

/// Steps of a salvage. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

/// Until it is dropped, a salvage is under way.
pub(super) struct UnderWay<'a>(&'a Progress);

impl Progress {
    /// A salvage begins.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.0.store(1, Relaxed);
        UnderWay(self)
    }

    /// How many steps the salvage under way has made; `None` where there is none.
    pub(super) fn steps(&self) -> Option<u64> {
        Some(self.0.load(Relaxed)).filter(|steps| *steps > 0)
    }

    /// Waits for an answer, or until a salvage has made a step since the last look.
    pub(super) async fn or_answers(&self, answer: impl Future<Output = bool>) -> bool {
        let (mut answer, mut known) = (pin!(answer), self.steps());
        loop {
            if let Ok(answered) = clock::timeout(LOOK_EVERY, answer.as_mut()).await {
                return answered;
            }
            let steps = self.steps();
            if steps.is_some() && steps != known {
                return true;
            }
            known = steps;
        }
    }

    /// Whatever is done on a connection counts.
    pub(super) fn count(&self, db: &mut Connection) -> rusqlite::Result<()> {
        let progress = self.clone();
        let step = move || {
            failpoint::linger();
            progress.0.fetch_add(1, Relaxed);
            false
        };
        db.progress_handler(OPERATIONS, Some(step))
    }

    /// What is done on a connection does not count any more.
    pub(super) fn leave(db: &mut Connection) -> rusqlite::Result<()> {
        db.progress_handler(0, None::<fn() -> bool>)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_while_a_salvage_is_under_way() {
        let progress = Progress::default();
        let mut db = Connection::open_in_memory().unwrap();
        let count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000) SELECT max(i) FROM n";
        assert_eq!(progress.steps(), None);
        let under_way = progress.begin();
        progress.count(&mut db).unwrap();
        let before = progress.steps().unwrap();
        db.query_row(count, [], |_| Ok(())).unwrap();
        let after = progress.steps().unwrap();
        assert!(after > before + 10, "{after} after {before}");
        Progress::leave(&mut db).unwrap();
        db.query_row(count, [], |_| Ok(())).unwrap();
        assert_eq!(progress.steps(), Some(after));
        drop(under_way);
        assert_eq!(progress.steps(), None);
    }

    /// Whether somebody without an answer is taken to live within an hour.
    async fn lives(progress: &Progress) -> bool {
        let answer = progress.or_answers(std::future::pending());
        clock::timeout(Duration::from_secs(3_600), answer).await.unwrap_or(false)
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_only_a_salvage_that_moves_is_life() {
        let progress = Progress::default();
        assert!(progress.or_answers(async { true }).await && !progress.or_answers(async { false }).await);
        assert!(!lives(&progress).await, "it hangs");
        {
            let _under_way = progress.begin();
            assert!(!lives(&progress).await, "it hangs in a salvage");
            let step = async {
                clock::sleep(Duration::from_secs(90)).await;
                progress.0.fetch_add(1, Relaxed);
            };
            assert!(tokio::join!(lives(&progress), step).0, "it moves");
            assert!(!lives(&progress).await, "it has stopped moving");
        }
        let begins = async {
            clock::sleep(Duration::from_secs(90)).await;
            progress.begin()
        };
        assert!(tokio::join!(lives(&progress), begins).0, "it begins");
    }
}
