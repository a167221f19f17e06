//! The thread, turned by hand: what it does when, in paused time.

use super::*;
use crate::store::{Limits, database};
use std::path::Path;

/// On the database of a directory, in which it knows no endpoint.
fn thread(dir: &Path, limits: Limits) -> Box<Thread> {
    let options = Options {
        dir: dir.to_owned(),
        commit_within: Duration::from_millis(50),
        max_sample_bytes: 1_000,
        boot_id: "boot-1".into(),
        limits,
    };
    let directory = Arc::new(Directory::default());
    let tell = Tell { full: watch::channel(false).0, dropped: watch::channel(0).0 };
    let shape = Shape::new(directory.clone(), true);
    let (_, commands) = mpsc::channel(1);
    Box::new(Thread::open(&options, &directory, shape, Arc::default(), commands, tell).unwrap())
}

/// Turns as [`Thread::run`] does, for so long. Returns how often there was something to do.
async fn turns(thread: &mut Thread, length: Duration) -> usize {
    let (end, mut turns) = (clock::now() + length, 0);
    loop {
        let now = clock::now();
        let (due, chores) = (thread.due(now), thread.chores_due());
        match [due, chores].into_iter().flatten().min() {
            Some(first) if first <= now => {
                turns += 1;
                assert!(turns <= 100, "it does not come to rest");
                if due.is_some_and(|due| due <= now) { thread.commit(now) } else { thread.do_chores(now) }
            }
            Some(next) if next <= end => clock::sleep_until(next).await,
            _ => {
                clock::sleep_until(end).await;
                return turns;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn old_rows_that_cannot_be_deleted_are_not_tried_over_and_over() {
    let dir = tempfile::tempdir().unwrap();
    let db = crate::store::schema::open(&database(dir.path())).unwrap();
    db.execute_batch(
        "INSERT INTO lane VALUES (1, 'default', 'a', 1, 0);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000)
         INSERT INTO outbox(lane, stamp, item) SELECT 1, i, x'01a0' FROM n;
         INSERT INTO ledger VALUES ('default', 1, 'offered', '', 20000), ('default', 1, 'stored', '', 20000);
         CREATE TRIGGER no_delete BEFORE DELETE ON outbox BEGIN SELECT RAISE(ROLLBACK, 'on purpose'); END;",
    )
    .unwrap();
    let limits = Limits { max_age: Some(Duration::from_secs(3_600)), ..Limits::default() };
    let mut thread = thread(dir.path(), limits);
    thread.clock.trust();
    assert!(thread.know_time(0));
    let in_vain = turns(&mut thread, Duration::from_secs(10)).await;
    assert!(thread.fault.is_some() && in_vain < 5, "{in_vain} turns, {:?}", thread.fault);
    assert_eq!(thread.figures().totals.queued, 20_000);
    db.execute_batch("DROP TRIGGER no_delete").unwrap();
    turns(&mut thread, Duration::from_secs(60)).await;
    let totals = thread.figures().totals;
    assert_eq!((totals.queued, totals.dropped, &thread.fault), (0, 20_000, &None));
}
