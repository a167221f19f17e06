//! Rows that landed and are still on disk: counted once, never handed out again, and gone in the end.

use super::{room::large, *};
use crate::store::{noted::Noted, outbox, schema};
use adapter_api::Instant;
use std::collections::BTreeSet;

impl Site {
    /// Three rows of `a`, one of `b`, and so on.
    pub(super) async fn interleave(&self, rows: i64, sample: impl Fn(i64) -> Sample) {
        let intake = self.store.intake().await.unwrap();
        let names = ["a", "b"].map(|name| EndpointName::new(name).unwrap());
        let mut receipts = Vec::new();
        for n in 0..rows {
            let name = &names[usize::from(n % 4 == 3)];
            receipts.push(intake.submit(name, vec![sample(n)], Urgency::Relaxed).await.unwrap());
        }
        for receipt in receipts {
            receipt.committed().await.unwrap();
        }
    }

    /// Lands all that `a` has, and waits until that is written.
    pub(super) async fn land_a(&self, events: &mut mpsc::UnboundedReceiver<Event>) {
        let lane = loop {
            let lane = ready(events).await;
            if lane.endpoint.name.as_str() == "a" {
                break lane;
            }
        };
        let (mut landed, mut more) = (0, true);
        while more {
            let flying;
            (flying, more) = rows(&self.store, events, lane.id, 9_999).await;
            landed += flying.len();
            self.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
        }
        while self.totals().await.landed < landed as u64 {
            tokio::task::yield_now().await;
        }
    }

    /// As after `kill -9`: what is on disk now, opened by another life.
    pub(super) async fn killed(&self, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in ["tidegate.db", "tidegate.db-wal"] {
            let there = self.dir.path().join(file);
            if there.exists() {
                std::fs::copy(there, dir.path().join(file)).unwrap();
            }
        }
        open_with(dir, true, limits)
    }

    pub(super) fn maps(&self) -> i64 {
        let db = rusqlite::Connection::open(database(self.dir.path())).unwrap();
        db.query_row("SELECT count(*) FROM landed", [], |row| row.get(0)).unwrap()
    }
}

/// All rows that fly, lane by lane, and land.
async fn drain(site: &Site) -> BTreeSet<i64> {
    let mut events = site.uplink().await;
    // The store has told then which lanes there are.
    site.totals().await;
    let mut flown = BTreeSet::new();
    while let Ok(event) = events.try_recv() {
        let Event::Ready(lane) = event else { continue };
        let (flying, _) = rows(&site.store, &mut events, lane.id, 9_999).await;
        flown.extend(numbers(&flying));
        site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    }
    flown
}

#[tokio::test]
async fn i2_scattered_rows_are_noted_once_and_fly_no_more() {
    let first = site();
    first.interleave(400, sample).await;
    let mut events = first.uplink().await;
    first.land_a(&mut events).await;
    let totals = first.totals().await;
    assert_eq!((totals.landed, totals.queued), (300, 100));
    assert_eq!((first.outbox(), first.maps()), (400, 1), "not a page is written for each");
    assert_eq!(read_ledger(first.dir.path()).unwrap(), totals);

    let second = first.killed(Limits::default()).await;
    assert_eq!(second.totals().await, totals);
    assert_eq!(drain(&second).await, (3..400).step_by(4).collect());
    while second.totals().await.queued > 0 {
        tokio::task::yield_now().await;
    }
    second.submit("a", 400..401).await.unwrap();
    let second = second.restart(true).await;
    let totals = second.totals().await;
    assert_eq!((totals.stored, totals.landed, totals.queued), (401, 400, 1));
    assert_eq!((second.outbox(), second.maps()), (1, 0), "a block is swept when all of it has landed");
}

#[tokio::test]
async fn a_clean_stop_leaves_nothing_noted() {
    let site = site();
    site.interleave(400, sample).await;
    let mut events = site.uplink().await;
    site.land_a(&mut events).await;
    let totals = site.totals().await;
    let site = site.restart(true).await;
    assert_eq!((site.outbox(), site.maps()), (100, 0));
    assert_eq!(site.totals().await, totals);
}

#[tokio::test]
async fn i10_noted_rows_make_room_before_anything_is_dropped() {
    let limits = Limits { max_bytes: 2 << 20, min_free: 0, ..Limits::default() };
    let first = open_with(tempfile::tempdir().unwrap(), true, limits.clone());
    first.interleave(1_400, large).await;
    assert_eq!(first.totals().await.dropped, 0);
    let mut events = first.uplink().await;
    first.land_a(&mut events).await;
    assert_eq!(first.outbox(), 1_400);
    for site in [&first.killed(limits).await, &first] {
        for round in 20..26 {
            site.submit_large("b", round * 100..(round + 1) * 100).await.unwrap();
            let bytes = std::fs::metadata(database(site.dir.path())).unwrap().len();
            assert!(bytes <= 2 << 20, "round {round}: {bytes}");
        }
        let totals = site.totals().await;
        assert_eq!((totals.dropped, totals.queued, totals.landed), (0, 950, 1_050));
        assert_eq!(site.maps(), 0);
    }
}

#[tokio::test]
async fn what_is_noted_stays_landed_when_the_database_is_salvaged() {
    let first = site();
    // More than SQLite keeps in memory.
    first.interleave(4_000, large).await;
    let mut events = first.uplink().await;
    first.land_a(&mut events).await;
    let second = first.killed(Limits::default()).await;
    let before = second.totals().await;
    drop(first);
    let db = rusqlite::Connection::open(database(second.dir.path())).unwrap();
    // What was noted is lost as well, but for the memory of the process.
    db.execute_batch("DELETE FROM landed").unwrap();
    let busy = || db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).unwrap();
    while busy() != 0 {
        second.totals().await;
    }
    drop(db);
    // In the middle of the rows, and found when they are read.
    damage::damage(second.dir.path(), 300);
    let flown = drain(&second).await;
    assert!(flown.iter().all(|n| n % 4 == 3), "none of those that had landed: {flown:?}");
    while second.totals().await.landed < before.landed + flown.len() as u64 {
        tokio::task::yield_now().await;
    }
    assert!(second.dir.path().join("tidegate.db.damaged").exists());
    let third = second.killed(Limits::default()).await;
    let totals = third.totals().await;
    let flown = flown.len() as u64;
    assert_eq!((totals.stored, totals.landed), (before.stored, before.landed + flown));
    assert!((1..100).contains(&totals.dropped), "{totals:?}");
    assert_eq!(totals.dropped + totals.queued + flown, before.queued);
}

const AT: Instant = Instant::from_start(Duration::from_secs(1_000));

fn table() -> rusqlite::Connection {
    let db = rusqlite::Connection::open_in_memory().unwrap();
    db.execute_batch(
        "CREATE TABLE outbox(id INTEGER PRIMARY KEY AUTOINCREMENT, lane, stamp, boot, item);
         CREATE TABLE landed(block INTEGER PRIMARY KEY, rows BLOB NOT NULL);",
    )
    .unwrap();
    db
}

fn reopened(db: &rusqlite::Connection) -> (Noted, BTreeSet<i64>) {
    let mut noted = Noted::load(db, AT).unwrap();
    let on_books = on_disk(db).into_iter().filter(|row| noted.is_new(RowId(*row), 10)).collect();
    noted.committed();
    (noted, on_books)
}

fn on_disk(db: &rusqlite::Connection) -> BTreeSet<i64> {
    let mut select = db.prepare("SELECT id FROM outbox").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn with_bytes(rows: impl IntoIterator<Item = i64>) -> Vec<(RowId, u64)> {
    rows.into_iter().map(|row| (RowId(row), 10)).collect()
}

/// Rows 1 to so many, of which nothing is noted.
fn filled(rows: i64) -> (rusqlite::Connection, Noted) {
    let (db, mut noted) = (table(), Noted::default());
    insert(&db, rows).into_iter().for_each(|row| noted.came(row));
    (db, noted)
}

fn insert(db: &rusqlite::Connection, rows: i64) -> Vec<RowId> {
    let samples: Vec<Sample> = (0..rows).map(sample).collect();
    let mut new = Vec::new();
    outbox::insert(db, LaneId(1), &samples, |row, _| new.push(row)).unwrap();
    new
}

#[test]
fn what_lies_together_is_deleted_at_once() {
    let (db, mut noted) = filled(100);
    let together = with_bytes((1..=40).chain(50..=60));
    assert_eq!(noted.land(&db, &together, AT).unwrap(), 51);
    noted.committed();
    assert_eq!((on_disk(&db).len(), noted.poll_timeout(), noted.bytes()), (49, None, 0));
}

#[test]
fn a_block_is_swept_when_it_is_whole_or_at_rest() {
    let (db, mut noted) = filled(20_000);
    let land = |noted: &mut Noted, rows: Vec<i64>, at| {
        assert_eq!(noted.land(&db, &with_bytes(rows.clone()), at).unwrap(), rows.len());
        noted.sweep(&db, 9_999, 0, at).unwrap();
        noted.write(&db).unwrap();
        noted.committed();
    };
    land(&mut noted, (1..20_000).step_by(2).collect(), AT);
    assert_eq!((on_disk(&db).len(), noted.bytes()), (20_000, 100_000));
    let later = AT + Duration::from_secs(59);
    // The rest of the first block: ids up to 8,191.
    land(&mut noted, (2..8_192).step_by(2).collect(), later);
    assert_eq!(on_disk(&db).first(), Some(&8_192));
    assert_eq!(on_disk(&db).len(), 20_000 - 8_191);
    assert_eq!(noted.poll_timeout(), Some(AT + Duration::from_secs(60)));
    land(&mut noted, Vec::new(), AT + Duration::from_secs(60));
    assert_eq!((on_disk(&db).len(), noted.poll_timeout(), noted.bytes()), (10_000 - 4_095, None, 0));
    assert!(on_disk(&db).iter().all(|row| row % 2 == 0));
}

#[test]
fn whose_room_is_needed_goes_first_and_no_more_than_that() {
    let (db, mut noted) = filled(3 * 8_192);
    let rows = (1..8_000).step_by(3).chain((8_192..16_000).step_by(2)).chain((16_500..24_000).step_by(5));
    noted.land(&db, &with_bytes(rows), AT).unwrap();
    noted.committed();
    noted.sweep(&db, usize::MAX, 100, AT).unwrap();
    noted.committed();
    assert_eq!(on_disk(&db).len(), 3 * 8_192 - 3_904, "where most was to be had");
}

#[test]
fn at_most_so_many_rows_go_at_a_time() {
    let (db, mut noted) = filled(8_000);
    noted.land(&db, &with_bytes((1..8_000).step_by(2)), AT).unwrap();
    noted.write(&db).unwrap();
    noted.committed();
    for (turn, pressed) in [(1, u64::MAX), (2, u64::MAX), (3, 20_000)] {
        noted.sweep(&db, 1_500, pressed, AT).unwrap();
        noted.write(&db).unwrap();
        noted.committed();
        let left = 4_000_usize.saturating_sub(turn * 1_500);
        assert_eq!((on_disk(&db).len(), noted.bytes()), (4_000 + left, 10 * left as u64));
        let (again, books) = reopened(&db);
        assert_eq!((again.bytes(), books.len()), (noted.bytes(), 4_000), "on disk as well");
    }
}

#[test]
fn bits_of_rows_that_are_no_more_count_for_nothing() {
    let (db, mut noted) = filled(1_000);
    noted.land(&db, &with_bytes((1..1_000).step_by(2)), AT).unwrap();
    noted.write(&db).unwrap();
    noted.committed();
    // A binary of 1.0 knows nothing of them. And damage that looks like a block.
    db.execute_batch(
        "DELETE FROM outbox WHERE id < 901; INSERT INTO landed VALUES (9223372036854775807, x'ff')",
    )
    .unwrap();
    let (mut noted, books) = reopened(&db);
    assert_eq!((noted.bytes(), books.len()), (500, 50));
    noted.sweep(&db, 20, u64::MAX, AT).unwrap();
    noted.committed();
    assert_eq!((noted.bytes(), on_disk(&db).len()), (300, 80), "rows, and not bits");
    assert!(books.iter().all(|row| !noted.has(RowId(*row))));
}

/// Against a model: what is on the books is what is on disk and not noted, over rollbacks and restarts.
#[test]
fn i2_at_random() {
    for seed in 0..16 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (db, mut noted) = (table(), Noted::default());
        let (mut books, mut now) = (BTreeSet::new(), AT);
        for step in 0..40 {
            db.execute_batch("BEGIN").unwrap();
            let new = insert(&db, rng.i64(0..800));
            let mut left = books.clone();
            let share = rng.u8(1..=9);
            let mut take = |rng: &mut fastrand::Rng| -> Vec<i64> {
                let from = rng.i64(0..16_000);
                left.extract_if(from..from + 9_000, |_| rng.u8(0..10) < share).collect()
            };
            let landed = take(&mut rng);
            assert_eq!(noted.land(&db, &with_bytes(landed.clone()), now).unwrap(), landed.len());
            let dropped: Vec<RowId> = take(&mut rng).into_iter().map(RowId).collect();
            outbox::delete(&db, &dropped).unwrap();
            noted.go(&dropped);
            let pressed = if rng.u8(0..8) == 0 { rng.u64(0..20_000) } else { 0 };
            noted.sweep(&db, rng.usize(0..9_000), pressed, now).unwrap();
            noted.write(&db).unwrap();
            if rng.u8(0..5) == 0 {
                db.execute_batch("ROLLBACK").unwrap();
                noted.rolled_back();
            } else {
                db.execute_batch("COMMIT").unwrap();
                noted.committed();
                books = left;
                for row in new {
                    noted.came(row);
                    books.insert(row.0);
                }
            }
            let unnoted = on_disk(&db).into_iter().filter(|row| !noted.has(RowId(*row)));
            assert_eq!(unnoted.collect::<BTreeSet<i64>>(), books, "seed {seed}, step {step}");
            let first = books.first().is_none_or(|first| noted.pass(RowId(1)).0 <= *first);
            assert!(first, "seed {seed}, step {step}");
            if rng.u8(0..10) == 0 {
                let (reopened, found) = reopened(&db);
                assert_eq!(
                    (found, reopened.bytes()),
                    (books.clone(), noted.bytes()),
                    "seed {seed}, step {step}"
                );
                noted = reopened;
            }
            now = now + Duration::from_secs(rng.u64(0..20));
        }
        let rest = with_bytes(std::mem::take(&mut books));
        noted.land(&db, &rest, now).unwrap();
        noted.sweep(&db, usize::MAX, 0, now).unwrap();
        assert_eq!(on_disk(&db).len(), 0, "seed {seed}: all has gone when all has landed");
    }
}

#[test]
fn a_database_of_1_0_is_taken_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    schema::open(&path).unwrap().execute_batch("DROP TABLE landed; PRAGMA user_version=1000").unwrap();
    let db = schema::open(&path).unwrap();
    assert_eq!(crate::store::noted::count(&db).unwrap(), 0);
    assert_eq!(db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap(), 1001);
}
