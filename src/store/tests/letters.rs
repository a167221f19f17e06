//! Dead letters and orphaned rows by hand: nothing is lost, nothing is there twice, the ledger balances.

use super::*;
use crate::store::letters::{Deed, DeedError, Done, Letters};
use std::collections::{BTreeMap, BTreeSet};

/// The same site after endpoint `b` left the configuration.
fn without_b(dir: tempfile::TempDir) -> Site {
    let directory = Arc::new(Directory::new([endpoint("a")]));
    let shape = Shape::new(directory.clone(), true);
    let options = Options {
        dir: dir.path().to_owned(),
        commit_within: Duration::from_millis(50),
        max_sample_bytes: 1_000,
        boot_id: "boot-1".into(),
        limits: Limits::default(),
    };
    let (store, died) = open(&options, &directory, shape).unwrap();
    Site { dir, store, died }
}

impl Site {
    async fn done(&self, deed: Deed, which: Letters) -> Done {
        self.store.letters(deed, &which).await.unwrap()
    }

    /// Lets the next row of a lane die, and waits until it has.
    async fn bury_one(&self, events: &mut mpsc::UnboundedReceiver<Event>, lane: &LaneInfo) -> i64 {
        let (flying, _) = rows(&self.store, events, lane.id, 1).await;
        self.store.ask(Command::Bury(testing::buried(lane, flying[0].id, "400"))).await.unwrap();
        while !matches!(events.recv().await, Some(Event::Taken(_))) {}
        flying[0].stamp
    }

    /// The letters, the oldest first: number, endpoint, stamp.
    async fn letters(&self) -> Vec<(i64, String, i64)> {
        let letters = self.store.dead(10_000).await.unwrap();
        letters.into_iter().rev().map(|letter| (letter.id, letter.endpoint, letter.stamp)).collect()
    }

    /// The stamps in the outbox of an endpoint, in the order in which they will fly.
    fn stamps(&self, endpoint: &str) -> Vec<i64> {
        let db = rusqlite::Connection::open(database(self.dir.path())).unwrap();
        let mut select = db
            .prepare(
                "SELECT stamp FROM outbox JOIN lane ON lane.id = lane WHERE endpoint = ?1 ORDER BY outbox.id",
            )
            .unwrap();
        let stamps = select.query_map([endpoint], |row| row.get(0)).unwrap();
        stamps.map(Result::unwrap).collect()
    }
}

#[tokio::test]
async fn a_requeued_letter_is_the_last_row_of_its_endpoint_with_its_own_stamp() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("a", 0..3).await.unwrap();
    let lane = ready(&mut events).await;
    assert_eq!(site.bury_one(&mut events, &lane).await, 0);
    assert_eq!(site.letters().await, [(1, "a".into(), 0)]);
    let done = site.done(Deed::Requeue, Letters::Ids(vec![1, 7, 1])).await;
    assert_eq!((done.letters, done.missing, done.orphaned), (1, vec![7], vec![]));
    assert_eq!(site.stamps("a"), [1, 2, 0]);
    assert!(site.letters().await.is_empty());
    let (flying, more) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!((numbers(&flying), more), (vec![1, 2, 0], false));
    assert!(flying[2].id > flying[1].id, "a new number: an old confirmation may be under way");
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    let site = site.restart(true).await;
    let totals = site.totals().await;
    assert_eq!((totals.stored, totals.landed, totals.queued, totals.dead), (3, 3, 0, 0));
    assert_eq!(site.store.figures().await.unwrap().dead_letters, 0);
}

#[tokio::test]
async fn a_lane_that_was_found_empty_is_announced_for_a_requeued_letter() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("a", 0..1).await.unwrap();
    let lane = ready(&mut events).await;
    site.bury_one(&mut events, &lane).await;
    site.done(Deed::Requeue, Letters::All).await;
    assert_eq!(ready(&mut events).await, lane);
    assert_eq!(numbers(&rows(&site.store, &mut events, lane.id, 9).await.0), [0]);
}

#[tokio::test]
async fn discarded_letters_are_counted_and_their_numbers_are_not_given_again() {
    let site = site();
    let mut events = site.uplink().await;
    for endpoint in ["a", "b"] {
        site.submit(endpoint, 0..2).await.unwrap();
        let lane = ready(&mut events).await;
        site.bury_one(&mut events, &lane).await;
        site.bury_one(&mut events, &lane).await;
    }
    assert_eq!(site.done(Deed::Discard, Letters::Endpoint("b".into())).await.letters, 2);
    assert_eq!(site.letters().await.iter().map(|l| l.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(site.done(Deed::Discard, Letters::All).await.letters, 2);
    let totals = site.totals().await;
    assert_eq!((totals.stored, totals.discarded, totals.dead), (4, 4, 0));
    let site = site.restart(true).await;
    let mut events = site.uplink().await;
    site.submit("a", 5..6).await.unwrap();
    let lane = ready(&mut events).await;
    site.bury_one(&mut events, &lane).await;
    assert_eq!(site.letters().await, [(5, "a".into(), 5)]);
    assert_eq!(site.totals().await.discarded, 4, "on disk");
}

#[tokio::test]
async fn all_means_those_that_are_dead_when_it_is_said_however_many() {
    let site = site();
    site.submit("a", 0..1).await.unwrap();
    site.store.stop().await.unwrap();
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    // More than one step's worth, as a platform's bad day leaves them.
    db.execute_batch(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2500)
         INSERT INTO dead(tenant, endpoint, class, stamp, item, reason)
         SELECT 'default', CASE x % 2 WHEN 0 THEN 'a' ELSE 'b' END, 1, x, (SELECT item FROM outbox), '400' FROM n;
         INSERT INTO ledger VALUES ('default', 1, 'dead', '', 2500);
         UPDATE ledger SET samples = 2501 WHERE term IN ('offered', 'stored');",
    )
    .unwrap();
    drop(db);
    site.died.await.unwrap_err();
    let site = open_in(site.dir, true);
    assert_eq!(site.totals().await.dead, 2_500);
    assert_eq!(site.done(Deed::Requeue, Letters::Endpoint("b".into())).await.letters, 1_250);
    assert_eq!(site.done(Deed::Requeue, Letters::All).await.letters, 1_250);
    let evens: Vec<i64> = [0].into_iter().chain((2..=2_500).step_by(2)).collect();
    assert_eq!(site.stamps("a"), evens);
    assert_eq!(site.totals().await.queued, 2_501);
}

#[tokio::test]
async fn a_letter_of_an_endpoint_that_left_stays_and_its_queued_rows_can_be_discarded() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("b", 0..3).await.unwrap();
    let lane = ready(&mut events).await;
    site.bury_one(&mut events, &lane).await;
    site.submit("a", 7..8).await.unwrap();
    site.store.stop().await.unwrap();
    site.died.await.unwrap_err();
    let site = without_b(site.dir);
    let done = site.done(Deed::Requeue, Letters::All).await;
    assert_eq!((done.letters, done.orphaned), (0, vec![1]));
    let b = endpoint("b").key.name;
    let orphans = site.store.discard_orphans(Some(&endpoint("a").key.name)).await.unwrap();
    assert_eq!(orphans.rows, 0, "it is in the configuration");
    let orphans = site.store.discard_orphans(Some(&b)).await.unwrap();
    assert_eq!((orphans.rows, orphans.left), (2, 0));
    assert_eq!((site.stamps("a"), site.stamps("b")), (vec![7], vec![]));
    assert_eq!(site.done(Deed::Discard, Letters::Endpoint("b".into())).await.letters, 1);
    let totals = site.totals().await;
    assert_eq!((totals.stored, totals.queued, totals.discarded, totals.dead), (4, 1, 3, 0));
    let site = site.restart(true).await;
    assert_eq!(site.totals().await.queued, 1);
}

#[tokio::test]
async fn rows_of_a_newer_version_are_not_discarded() {
    let site = site();
    site.submit("b", 0..2).await.unwrap();
    site.store.stop().await.unwrap();
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    db.execute("UPDATE outbox SET item = x'02a0' WHERE id = 1", []).unwrap();
    drop(db);
    site.died.await.unwrap_err();
    // It is found out when it flies.
    let site = open_in(site.dir, true);
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(numbers(&flying), [1]);
    let orphans = site.store.discard_orphans(None).await.unwrap();
    assert_eq!(orphans.rows, 0, "none left the configuration");
    assert_eq!(site.stamps("b"), [0, 1]);
}

#[tokio::test]
async fn what_could_not_be_written_has_not_happened() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("a", 0..2).await.unwrap();
    let lane = ready(&mut events).await;
    site.bury_one(&mut events, &lane).await;
    site.submit("b", 5..7).await.unwrap();
    let before = site.totals().await;
    site.store.stop().await.unwrap();
    site.died.await.unwrap_err();
    let site = without_b(site.dir);
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    db.execute_batch(
        "CREATE TRIGGER no_insert BEFORE INSERT ON ledger BEGIN SELECT RAISE(ROLLBACK, 'on purpose'); END;
         CREATE TRIGGER no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ROLLBACK, 'on purpose'); END;",
    )
    .unwrap();
    for deed in [Deed::Requeue, Deed::Discard] {
        let failed = site.store.letters(deed, &Letters::All).await;
        assert!(matches!(failed, Err(DeedError::Failed { done: 0, .. })), "{failed:?}");
    }
    assert!(site.store.discard_orphans(None).await.is_err());
    assert_eq!(site.totals().await, before);
    assert_eq!((site.stamps("a"), site.stamps("b")), (vec![1], vec![5, 6]));
    db.execute_batch("DROP TRIGGER no_insert; DROP TRIGGER no_update;").unwrap();
    assert_eq!(site.store.discard_orphans(None).await.unwrap().rows, 2, "they were put back in their places");
    assert_eq!(site.done(Deed::Requeue, Letters::All).await.letters, 1);
    let totals = site.totals().await;
    assert_eq!((totals.queued, totals.discarded, totals.dead), (2, 2, 0));
}

/// Where each number is.
#[derive(Debug, Default)]
struct Model {
    queued: BTreeMap<&'static str, Vec<i64>>,
    dead: BTreeMap<i64, (&'static str, i64)>,
    gone: BTreeSet<i64>,
}

#[tokio::test]
async fn at_random_every_number_is_in_one_place_and_each_lane_in_order() {
    for seed in 0..40 {
        random(seed).await;
    }
}

async fn random(seed: u64) {
    let mut rng = crate::backoff::Rng::with_seed(seed);
    let mut site = site();
    let (mut model, mut next, mut discarded, mut landed) = (Model::default(), 0, 0, 0);
    let mut events = site.uplink().await;
    let mut lanes: BTreeMap<&str, LaneInfo> = BTreeMap::new();
    for _ in 0..60 {
        let name = if rng.bool() { "a" } else { "b" };
        let queued = model.queued.entry(name).or_default();
        match rng.u8(..10) {
            0..=2 => {
                let count = rng.i64(1..4);
                site.submit(name, next..next + count).await.unwrap();
                queued.extend(next..next + count);
                next += count;
            }
            3..=6 if !queued.is_empty() => {
                let lane = match lanes.get(name) {
                    Some(lane) => lane.clone(),
                    None => loop {
                        let lane = ready(&mut events).await;
                        let of = if lane.endpoint.name.as_str() == "a" { "a" } else { "b" };
                        lanes.insert(of, lane.clone());
                        if of == name {
                            break lane;
                        }
                    },
                };
                let (flying, _) = rows(&site.store, &mut events, lane.id, 1).await;
                assert_eq!(numbers(&flying), [queued.remove(0)], "seed {seed}: in order");
                if rng.bool() {
                    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
                    model.gone.insert(flying[0].stamp);
                    landed += 1;
                } else {
                    let buried = testing::buried(&lane, flying[0].id, "400");
                    site.store.ask(Command::Bury(buried)).await.unwrap();
                    while !matches!(events.recv().await, Some(Event::Taken(_))) {}
                    let known: BTreeSet<i64> = model.dead.keys().copied().collect();
                    let letters = site.letters().await;
                    let fresh = letters.iter().find(|letter| !known.contains(&letter.0)).unwrap();
                    assert_eq!(fresh.2, flying[0].stamp, "seed {seed}");
                    model.dead.insert(fresh.0, (name, fresh.2));
                }
            }
            7 | 8 => {
                let deed = if rng.bool() { Deed::Requeue } else { Deed::Discard };
                let which = match rng.u8(..3) {
                    0 => Letters::All,
                    1 => Letters::Endpoint(name.into()),
                    _ => Letters::Ids((0..3).map(|_| rng.i64(1..20)).collect()),
                };
                let meant = |id: &i64, of: &str| match &which {
                    Letters::All => true,
                    Letters::Endpoint(endpoint) => of == endpoint,
                    Letters::Ids(ids) => ids.contains(id),
                };
                let chosen: Vec<i64> =
                    model.dead.iter().filter(|(id, (of, _))| meant(id, of)).map(|(id, _)| *id).collect();
                let done = site.done(deed, which.clone()).await;
                assert_eq!(done.letters, u64::try_from(chosen.len()).unwrap(), "seed {seed}: {which:?}");
                for id in chosen {
                    let (of, number) = model.dead.remove(&id).unwrap();
                    if deed == Deed::Requeue {
                        model.queued.entry(of).or_default().push(number);
                    } else {
                        model.gone.insert(number);
                        discarded += 1;
                    }
                }
            }
            _ => {
                site = site.restart(true).await;
                events = site.uplink().await;
                lanes.clear();
            }
        }
        site.totals().await;
    }
    let site = site.restart(true).await;
    let totals = site.totals().await;
    assert_eq!((totals.landed, totals.discarded), (landed, discarded), "seed {seed}");
    let dead: BTreeMap<i64, i64> = site.letters().await.into_iter().map(|l| (l.0, l.2)).collect();
    assert_eq!(dead, model.dead.iter().map(|(id, (_, number))| (*id, *number)).collect(), "seed {seed}");
    let mut all: BTreeSet<i64> = model.gone.iter().chain(dead.values()).copied().collect();
    for name in ["a", "b"] {
        assert_eq!(site.stamps(name), model.queued.remove(name).unwrap_or_default(), "seed {seed}");
        all.extend(site.stamps(name));
    }
    assert_eq!(all.len(), usize::try_from(next).unwrap(), "seed {seed}: none is lost");
}
