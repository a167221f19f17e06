//! The thread, turned by hand: what it does when, in paused time.

use super::*;
use crate::{
    config::secret::EndpointToken,
    endpoints::Endpoint,
    shape::{
        quota::Quotas,
        report::{Report, Rule},
    },
    store::{Limits, WhenFull, database, progress::Progress},
};
use adapter_api::{EndpointName, Reading, Resource};
use std::{fs::File, path::Path};

fn thread(dir: &Path, directory: Directory, limits: Limits) -> Box<Thread> {
    let options = Options {
        dir: dir.to_owned(),
        commit_within: Duration::from_millis(50),
        max_sample_bytes: 1_000,
        boot_id: "boot-1".into(),
        limits,
    };
    let directory = Arc::new(directory);
    let (full, dropped) = (watch::channel(false).0, watch::channel(0).0);
    let tell = Tell { full, dropped, progress: Progress::default() };
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
    let mut thread = thread(dir.path(), Directory::default(), limits);
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

#[tokio::test]
async fn what_has_no_room_at_the_end_is_told_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let name = EndpointName::new("a").unwrap();
    let seldom = Rule { min_interval: Some(Duration::from_secs(3_600)), ..Rule::default() };
    let a = Endpoint {
        token: EndpointToken::new("T-a"),
        key: EndpointKey { tenant: Tenant::default(), name: name.clone() },
        enabled: true,
        quotas: Quotas::default(),
        report: Some(Arc::new(Report::new(seldom, BTreeMap::new(), []))),
        unit: None,
        name_on_wire: BTreeMap::new(),
    };
    let mut thread = thread(dir.path(), Directory::new([a]), Limits::default());
    let (_full, full) = watch::channel(false);
    let (intake, submissions) = adapter_api::channel(Arc::default(), 1_000, full);
    thread.units.add(submissions);
    for n in 1..=3_i64 {
        let readings = vec![Reading::measured(Resource::new("n").unwrap(), n)];
        let sample = Sample { at: thread.clock.stamp(), readings };
        intake.submit(&name, vec![sample], Urgency::Urgent).await.unwrap();
    }
    thread.gather();
    thread.commit(clock::now());
    assert_eq!(thread.figures().totals.stored, 1, "the others are withheld");

    thread.room.limits = Limits { max_bytes: 0, when_full: WhenFull::Refuse, ..Limits::default() };
    let (stop, _stopped) = oneshot::channel();
    thread.stop = Some(stop);
    let journal = dir.path().join("journal");
    let to = Arc::new(File::create(&journal).unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(to).finish();
    tracing::subscriber::with_default(subscriber, || thread.finish());
    let said = std::fs::read_to_string(journal).unwrap();
    let lost = said.lines().find(|line| line.contains("what report rules withheld")).unwrap_or_default();
    assert!(lost.contains("ERROR") && lost.contains("endpoints=1 samples=1"), "{said}");
}
