//! Quotas of endpoints: who floods is refused, whoever is beside it notices nothing, the ledger balances.

use super::*;
use adapter_api::Quota;

/// A site whose endpoint `a` has these quotas.
fn limited(dir: tempfile::TempDir, quotas: Quotas) -> Site {
    open_of(dir, true, "boot-1", Limits::default(), quotas)
}

fn new(quotas: Quotas) -> Site {
    limited(tempfile::tempdir().unwrap(), quotas)
}

impl Site {
    /// The rows of the ledger in the file, as another process sees them.
    fn ledger_rows(&self, term: &str) -> Vec<(String, i64)> {
        let db = rusqlite::Connection::open(database(self.dir.path())).unwrap();
        let mut select = db.prepare("SELECT reason, samples FROM ledger WHERE term = ?1").unwrap();
        let rows = select.query_map([term], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

#[tokio::test]
async fn i8_a_flooder_is_refused_and_its_neighbour_notices_nothing() {
    let quotas = Quotas { samples_per_s: Some(2), ..Quotas::default() };
    let site = new(quotas);
    let mut refused = 0;
    for n in 0..300 {
        match site.submit("a", n..n + 1).await {
            Ok(()) => {}
            Err(Refused::OverQuota(Quota::SamplesPerS)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        site.submit("b", n..n + 1).await.unwrap();
    }
    let totals = site.totals().await;
    assert!(totals.stored >= 320, "ten seconds' worth at once: {totals:?}");
    assert_eq!((totals.offered, totals.refused), (600, refused));
    assert!(refused >= 150, "{refused} of 300, at two a second");
    let figures = site.store.figures().await.unwrap();
    let [over] = figures.quotas.as_slice() else { panic!("{:?}", figures.quotas) };
    assert_eq!(
        (&over.endpoint, over.quota, over.limit, over.now),
        (&endpoint("a").key, Quota::SamplesPerS, 2, true)
    );
    assert_eq!(over.refused, [("samples_per_s", refused)].into());
    // One row for all of it, also after a restart.
    let site = limited(site.stop().await, quotas);
    assert_eq!(site.ledger_rows("refused"), [("samples_per_s".to_owned(), i64::try_from(refused).unwrap())]);
    assert_eq!(site.totals().await.refused, refused);
}

#[tokio::test]
async fn a_flood_alone_is_counted_on_disk_within_a_moment_and_survives_a_crash() {
    let quotas = Quotas { bytes_per_s: Some(10), ..Quotas::default() };
    let site = new(quotas);
    // Larger than its bucket: taken when that is full.
    site.submit_large("a", 0..1).await.unwrap();
    for _ in 0..50 {
        assert_eq!(site.submit_large("a", 1..3).await, Err(Refused::OverQuota(Quota::BytesPerS)));
    }
    assert_eq!(site.totals().await.refused, 100, "before it is on disk");
    room::clock_until(|| site.ledger_rows("refused") == [("bytes_per_s".to_owned(), 100)]).await;
    // What a crash leaves: the files as they are.
    assert_eq!(site.submit("a", 0..1).await, Err(Refused::OverQuota(Quota::BytesPerS)));
    let copy = tempfile::tempdir().unwrap();
    for file in ["tidegate.db", "tidegate.db-wal"] {
        std::fs::copy(site.dir.path().join(file), copy.path().join(file)).unwrap();
    }
    let crashed = limited(copy, quotas);
    let totals = crashed.totals().await;
    assert_eq!((totals.stored, totals.offered), (1, 1 + totals.refused));
    assert!((100..=101).contains(&totals.refused), "{totals:?}");
    crashed.submit("a", 0..1).await.unwrap();
}

#[tokio::test]
async fn bytes_queued_are_those_on_the_books_and_what_lands_makes_room() {
    let site = new(Quotas { bytes_queued: Some(100_000), ..Quotas::default() });
    let mut events = site.uplink().await;
    let mut stored = 0;
    while site.submit_large("a", stored..stored + 1).await.is_ok() {
        stored += 1;
    }
    // Some 930 bytes each.
    assert!((100..110).contains(&stored), "{stored}");
    site.submit_large("b", 0..200).await.unwrap();
    assert_eq!(site.submit_large("a", 0..60).await, Err(Refused::OverQuota(Quota::BytesQueued)));
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 70).await;
    assert_eq!(
        site.submit_large("a", 0..60).await,
        Err(Refused::OverQuota(Quota::BytesQueued)),
        "they only fly"
    );
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    let deadline = adapter_api::clock::now() + Duration::from_secs(30);
    while site.submit_large("a", 0..60).await.is_err() {
        assert!(adapter_api::clock::now() < deadline, "what has landed makes no room");
        adapter_api::clock::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(site.reason("dropped(quota)").await, 0);
    let totals = site.totals().await;
    assert_eq!(totals.stored, u64::try_from(stored).unwrap() + 200 + 60);
    // After a restart the books are what they were.
    let site = limited(site.stop().await, Quotas { bytes_queued: Some(100_000), ..Quotas::default() });
    assert_eq!(site.submit_large("a", 0..60).await, Err(Refused::OverQuota(Quota::BytesQueued)));
    site.submit_large("a", 0..1).await.unwrap();
    site.totals().await;
}

#[tokio::test]
async fn what_waits_in_the_group_counts_as_queued() {
    let site = new(Quotas { bytes_queued: Some(10_000), ..Quotas::default() });
    let intake = site.store.intake().await.unwrap();
    let name = EndpointName::new("a").unwrap();
    let mut receipts = Vec::new();
    for n in 0..30 {
        let sample = room::large(n);
        receipts.push(intake.submit(&name, vec![sample], Urgency::Relaxed).await.unwrap());
    }
    let mut stored = 0;
    for receipt in receipts {
        stored += u64::from(receipt.committed().await.is_ok());
    }
    assert_eq!(stored, 10);
    assert_eq!(site.totals().await.stored, 10);
}

#[tokio::test]
async fn i10_with_refuse_adapters_are_told_before_anything_is_refused_and_again_when_there_is_room() {
    let limits = Limits { max_bytes: 2 << 20, min_free: 0, when_full: WhenFull::Refuse, ..Limits::default() };
    let site = open_with(tempfile::tempdir().unwrap(), true, limits.clone());
    let intake = site.store.intake().await.unwrap();
    let mut read = 0;
    while !intake.is_full() {
        assert!(read < 10_000, "it does not get full");
        site.submit_large("a", read..read + 1).await.unwrap();
        read += 1;
    }
    let fault = site.store.figures().await.unwrap().full.unwrap();
    assert_eq!((fault.code, fault.place.as_str()), ("TG-222", "store.max_bytes"));
    // What was under way still gets in: eight samples of each of three connections.
    for n in 0..24 {
        site.submit_large("a", n..n + 1).await.unwrap();
    }
    assert_eq!(site.totals().await.refused, 0);
    // Without an uplink nothing is stored: values can be shown all the same.
    let site = open_with(site.stop().await, false, limits.clone());
    site.submit("a", 0..1).await.unwrap();
    assert!(!site.store.intake().await.unwrap().is_full());
    // It is known from the start on.
    let site = open_with(site.stop().await, true, limits);
    let intake = site.store.intake().await.unwrap();
    intake.until_full(true).await;
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 500).await;
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    intake.until_full(false).await;
    assert!(site.store.figures().await.unwrap().full.is_none());
    site.submit_large("a", 0..100).await.unwrap();
    site.totals().await;
}

#[tokio::test]
async fn with_drop_oldest_adapters_are_not_told_to_leave_off() {
    let limits = Limits { max_bytes: 1 << 20, min_free: 0, ..Limits::default() };
    let site = open_with(tempfile::tempdir().unwrap(), true, limits);
    let intake = site.store.intake().await.unwrap();
    for n in 0..30 {
        site.submit_large("a", n * 100..(n + 1) * 100).await.unwrap();
        assert!(!intake.is_full());
    }
    assert!(site.totals().await.dropped > 0);
}

#[tokio::test]
async fn a_look_at_the_books_counts_what_is_not_on_them_yet() {
    let site = new(Quotas { bytes_queued: Some(10_000), ..Quotas::default() });
    let intake = site.store.intake().await.unwrap();
    let name = EndpointName::new("a").unwrap();
    // The first look is now, the next one is allowed later.
    site.submit_large("a", 0..1).await.unwrap();
    adapter_api::clock::sleep(Duration::from_millis(150)).await;
    let five = |first| (first..first + 5).map(room::large).collect();
    let waits = intake.submit(&name, five(1), Urgency::Relaxed).await.unwrap();
    let over = intake.submit(&name, five(6), Urgency::Relaxed).await.unwrap();
    assert_eq!(over.committed().await, Err(Refused::OverQuota(Quota::BytesQueued)));
    waits.committed().await.unwrap();
    assert_eq!(site.totals().await.stored, 6);
}
