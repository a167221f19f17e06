//! Damaged databases: what can be read goes on, what cannot is counted (I10).

use super::*;
use std::{collections::BTreeSet, os::unix::fs::FileExt};

const GARBAGE: usize = 64 << 10;

/// Overwrites 64 KiB of the database at a part of its length in thousands.
pub(super) fn damage(dir: &Path, part: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(database(dir)).unwrap();
    let mut garbage = vec![0_u8; GARBAGE];
    fastrand::Rng::with_seed(part).fill(&mut garbage);
    let at = file.metadata().unwrap().len() * part / 1_000;
    file.write_all_at(&garbage, at & !0xfff).unwrap();
}

/// Lands everything. Returns the numbers of the rows, each once.
async fn drain(site: &Site) -> BTreeSet<i64> {
    let mut events = site.uplink().await;
    let mut landed = BTreeSet::new();
    let lane = ready(&mut events).await;
    loop {
        let (flying, more) = rows(&site.store, &mut events, lane.id, 2_000).await;
        for row in &flying {
            assert!(landed.insert(row.stamp), "{} was handed out twice", row.stamp);
        }
        site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
        if !more {
            return landed;
        }
    }
}

async fn filled(rows: i64) -> tempfile::TempDir {
    let site = site();
    for first in (0..rows).step_by(1_000) {
        site.submit("a", first..first + 1_000).await.unwrap();
    }
    site.stop().await
}

#[tokio::test]
async fn garbage_in_the_middle_costs_a_few_rows_and_they_are_counted() {
    let dir = filled(50_000).await;
    damage(dir.path(), 500);
    let site = open_in(dir, true);
    let totals = site.totals().await;
    assert!(totals.queued >= 45_000, "{totals:?}");
    assert_eq!((totals.stored, site.reason("dropped(corrupt)").await), (50_000, 50_000 - totals.queued));
    assert_eq!(drain(&site).await.len() as u64, totals.queued);
    site.submit("a", 60_000..60_001).await.unwrap();
    let site = site.restart(true).await;
    let after = site.totals().await;
    assert_eq!((after.landed, after.queued, after.dropped), (totals.queued, 1, totals.dropped));
    println!("FIGURE salvage: {} of 50000 rows delivered, {} dropped(corrupt)", after.landed, after.dropped);
    assert!(site.dir.path().join("tidegate.db.damaged").exists(), "the old file is kept");
}

#[tokio::test]
async fn wherever_the_garbage_is_the_ledger_balances() {
    let dir = filled(20_000).await;
    let whole = std::fs::read(database(dir.path())).unwrap();
    for part in [0, 4, 100, 250, 400, 600, 750, 900, 970] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(database(dir.path()), &whole).unwrap();
        damage(dir.path(), part);
        let site = open_in(dir, true);
        let totals = site.totals().await;
        println!("garbage at {part}: {totals:?}");
        site.submit("a", 30_000..30_001).await.unwrap();
        let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
        let newest: i64 = db.query_row("SELECT max(id) FROM outbox", [], |row| row.get(0)).unwrap();
        assert!(newest > 20_000, "ids are not given out again: {newest}");
        assert_eq!(site.totals().await.queued, totals.queued + 1);
    }
}

#[tokio::test]
async fn damage_found_under_way_does_not_stop_the_flights() {
    let site = site();
    for round in 0..80 {
        site.submit_large("a", round * 100..(round + 1) * 100).await.unwrap();
    }
    let site = open_in(site.stop().await, true);
    damage(site.dir.path(), 500);
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (first, _) = rows(&site.store, &mut events, lane.id, 10).await;
    let mut landed = BTreeSet::new();
    loop {
        let (flying, more) = rows(&site.store, &mut events, lane.id, 100).await;
        landed.extend(numbers(&flying));
        site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
        if !more {
            break;
        }
    }
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&first)))).await.unwrap();
    landed.extend(numbers(&first));
    let site = site.restart(true).await;
    let totals = site.totals().await;
    assert!(landed.len() > 7_200 && totals.dropped > 0, "{totals:?}");
    assert_eq!((totals.landed, totals.queued), (landed.len() as u64, 0));
    assert_eq!(totals.dropped, site.reason("dropped(corrupt)").await);
}

#[tokio::test]
async fn a_salvage_that_was_cut_short_is_finished_or_begun_again() {
    let dir = filled(1_000).await;
    let at = |name: &str| dir.path().join(name);
    // Cut before the new file was complete: the old one counts.
    std::fs::write(at("tidegate.db.new"), b"half").unwrap();
    recover::resume(dir.path()).unwrap();
    assert!(!at("tidegate.db.new").exists() && database(dir.path()).exists());
    // Cut between the two renames: the new one counts, without the old one's journal.
    std::fs::rename(database(dir.path()), at("tidegate.db.new")).unwrap();
    std::fs::write(at("tidegate.db.damaged"), b"damaged").unwrap();
    std::fs::write(at("tidegate.db-wal"), b"of the damaged one").unwrap();
    let site = open_in(dir, true);
    assert_eq!(site.totals().await.queued, 1_000);
}

/// The pages on which tables and their indexes begin, by table.
pub(super) fn roots(dir: &Path) -> BTreeMap<String, Vec<u64>> {
    let db = rusqlite::Connection::open(database(dir)).unwrap();
    let mut select = db.prepare("SELECT tbl_name, rootpage FROM sqlite_schema").unwrap();
    let found = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
    let mut roots: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (table, page) in found.map(Result::unwrap) {
        roots.entry(table).or_default().push(u64::try_from(page).unwrap());
    }
    roots
}

/// Overwrites pages of the database, also of one that is open: whoever has them in memory forgets them.
pub(super) fn overwrite(dir: &Path, pages: &[u64]) {
    let db = rusqlite::Connection::open(database(dir)).unwrap();
    db.execute_batch("PRAGMA user_version=1001").unwrap();
    while db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).unwrap() != 0 {}
    drop(db);
    let file = std::fs::OpenOptions::new().write(true).open(database(dir)).unwrap();
    for page in pages {
        file.write_all_at(&[0xa5; 4_096], (page - 1) * 4_096).unwrap();
    }
}

/// A database with something in most tables: 1,000 rows of `a`, one of them buried.
pub(super) async fn with_something_of_each() -> (Vec<u8>, BTreeMap<String, Vec<u64>>) {
    let site = site();
    site.submit("a", 0..1_000).await.unwrap();
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 1).await;
    site.store.ask(Command::Bury(testing::buried(&lane, flying[0].id, "400"))).await.unwrap();
    assert_eq!(given(&site, &mut events).await, 10);
    assert!(site.store.put("test", "key", b"kept".to_vec()).await.unwrap());
    assert!(site.store.know_time(7).await.unwrap());
    let dir = site.stop().await;
    (std::fs::read(database(dir.path())).unwrap(), roots(dir.path()))
}

pub(super) fn copy_of(database: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(super::database(dir.path()), database).unwrap();
    dir
}

/// How many ids are given. Asked for again where none were, as the uplink does.
async fn given(site: &Site, events: &mut mpsc::UnboundedReceiver<Event>) -> u64 {
    for _ in 0..3 {
        site.store.ask(Command::Reserve { session: SessionKey(None), count: 10 }).await.unwrap();
        let ids = loop {
            if let Event::Ids(ids) = events.recv().await.unwrap() {
                break ids;
            }
        };
        if !ids.is_empty() {
            return ids.end - ids.start;
        }
    }
    0
}

/// Handed in again where it was refused, as an adapter does.
async fn submit_again(site: &Site, endpoint: &str, number: i64) {
    for _ in 0..3 {
        if site.submit(endpoint, number..number + 1).await.is_ok() {
            return;
        }
    }
    panic!("{number} is not taken");
}

#[tokio::test]
async fn whichever_table_is_damaged_the_gateway_starts_with_the_queue() {
    let (whole, roots) = with_something_of_each().await;
    assert!(roots.len() >= 10, "{roots:?}");
    for (table, pages) in &roots {
        let dir = copy_of(&whole);
        overwrite(dir.path(), pages);
        let site = open_in(dir, true);
        let totals = site.totals().await;
        let queued = if ["outbox", "lane"].contains(&table.as_str()) { 0 } else { 999 };
        assert_eq!(totals.queued, queued, "{table}");
        site.submit("b", 5_000..5_001).await.unwrap();
        let mut events = site.uplink().await;
        assert_eq!(given(&site, &mut events).await, 10, "{table}");
        assert!(site.store.put("test", "key", b"more".to_vec()).await.unwrap(), "{table}");
        let site = site.restart(true).await;
        assert_eq!(site.totals().await.queued, queued + 1, "{table}");
    }
}

#[tokio::test]
async fn whichever_table_is_damaged_under_way_the_store_goes_on() {
    let (whole, roots) = with_something_of_each().await;
    for (table, pages) in &roots {
        let site = open_in(copy_of(&whole), true);
        let mut events = site.uplink().await;
        overwrite(site.dir.path(), pages);
        // Each table is asked for by somebody, who tries again.
        site.store.dead(9).await.unwrap();
        site.store.put("test", "key", b"more".to_vec()).await.unwrap();
        site.store.know_time(7).await.unwrap();
        assert_eq!(given(&site, &mut events).await, 10, "{table}");
        submit_again(&site, "b", 5_000).await;
        assert!(site.store.put("test", "key", b"more".to_vec()).await.unwrap(), "{table}");
        let figures = site.store.figures().await.unwrap();
        assert!(figures.fault.is_none(), "{table}: {:?}", figures.fault);
        assert_eq!(figures.dead_letters, if table == "dead" { 0 } else { 1 }, "{table}");
        let site = site.restart(true).await;
        assert_eq!(site.boots(), [(1, Some(7))], "{table}");
        // Whose lanes there are is in memory.
        let queued = if table == "outbox" { 0 } else { 999 };
        assert_eq!(site.totals().await.queued, queued + 1, "{table}");
    }
}

#[tokio::test]
async fn a_database_that_was_locked_is_no_fault_for_longer_than_that() {
    let site = site();
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(!site.store.put("test", "key", b"value".to_vec()).await.unwrap());
    assert_eq!(site.store.figures().await.unwrap().fault.unwrap().code, "TG-207");
    db.execute_batch("COMMIT").unwrap();
    while site.store.figures().await.unwrap().fault.is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_comes_after_a_salvage_under_way_flies_after_a_restart() {
    // With and without the page by which it is a database.
    for first in [1, 2] {
        let site = open_in(filled(2_000).await, true);
        site.submit("b", 1..2).await.unwrap();
        let site = site.restart(true).await;
        overwrite(site.dir.path(), &(first..=20).collect::<Vec<_>>());
        submit_again(&site, "a", 60_000).await;
        let totals = site.totals().await;
        assert_eq!((totals.stored, totals.queued), (2_002, 2_002 - totals.dropped), "{totals:?}");
        let site = site.restart(true).await;
        let last = site.store.latest(EndpointName::new("b").unwrap(), None).await.unwrap();
        assert_eq!(last.len(), 1, "the last values are known as well");
        assert_eq!(site.totals().await.queued, totals.queued, "all of it is on the books");
        let landed = drain(&site).await;
        assert!(landed.contains(&60_000), "{landed:?}");
        let site = site.restart(true).await;
        let after = site.totals().await;
        let expected = (totals.queued, 0, totals.dropped);
        assert_eq!((after.landed, after.queued, after.dropped), expected, "{after:?}");
        assert_eq!(after.landed, landed.len() as u64);
    }
}

#[tokio::test]
async fn the_range_of_what_was_dropped_outlives_a_salvage_under_way() {
    let limits = Limits { max_bytes: 2 << 20, min_free: 0, ..Limits::default() };
    let site = open_with(tempfile::tempdir().unwrap(), true, limits.clone());
    for round in 0..30 {
        site.submit_large("a", round * 100..(round + 1) * 100).await.unwrap();
    }
    let before = site.store.figures().await.unwrap().drops["quota"];
    assert_eq!(before.first_us, Some(0));
    overwrite(site.dir.path(), &roots(site.dir.path())["keep"]);
    assert!(!site.store.put("test", "key", b"value".to_vec()).await.unwrap());
    let site = open_with(site.stop().await, true, limits);
    let drops = site.store.figures().await.unwrap().drops["quota"];
    assert_eq!((drops.samples, drops.first_us), (before.samples, Some(0)));
    assert!(drops.last_us >= before.last_us, "{drops:?}");
}
