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
