//! Quota, age, refusal, dead letters at their cap, space given back: the ledger balances after each.

use super::{
    change::{change, directory},
    *,
};

const MIB: u64 = 1 << 20;

fn limits(max_bytes: u64) -> Limits {
    Limits { max_bytes, min_free: 0, ..Limits::default() }
}

fn with(limits: Limits) -> Site {
    open_with(tempfile::tempdir().unwrap(), true, limits)
}

/// A sample of some 900 bytes.
pub(super) fn large(n: i64) -> Sample {
    let reading = Reading::measured(Resource::new("n").unwrap(), Value::Text("x".repeat(880)));
    Sample { at: Stamp::Wall { us: n, source: Source::Gateway }, readings: vec![reading] }
}

impl Site {
    pub(super) async fn submit_large(&self, endpoint: &str, numbers: Range<i64>) -> Result<(), Refused> {
        let intake = self.store.intake().await.unwrap();
        let name = EndpointName::new(endpoint).unwrap();
        let receipt = intake.submit(&name, numbers.map(large).collect(), Urgency::Urgent).await.unwrap();
        receipt.committed().await
    }

    pub(super) async fn stop(self) -> tempfile::TempDir {
        self.store.stop().await.unwrap();
        self.died.await.unwrap_err();
        self.dir
    }

    pub(super) async fn reason(&self, reason: &str) -> u64 {
        self.store.figures().await.unwrap().reasons.get(reason).copied().unwrap_or_default()
    }

    fn file_bytes(&self) -> u64 {
        std::fs::metadata(database(self.dir.path())).unwrap().len()
    }

    /// Bytes of pages with content.
    fn used(&self) -> u64 {
        let db = rusqlite::Connection::open(database(self.dir.path())).unwrap();
        let pages = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        let bytes = pages("page_size") * (pages("page_count") - pages("freelist_count"));
        u64::try_from(bytes).unwrap()
    }

    async fn queued_of(&self, endpoint: &str) -> usize {
        let queue = self.store.queue().await.unwrap();
        queue.iter().filter(|(lane, _)| lane.endpoint.name.as_str() == endpoint).map(|(_, rows)| rows).sum()
    }
}

#[tokio::test]
async fn i10_the_quota_holds_and_what_it_costs_is_counted() {
    let site = with(limits(2 * MIB));
    for round in 0..100 {
        site.submit_large("a", round * 100..(round + 1) * 100).await.unwrap();
        assert!(site.file_bytes() <= 2 * MIB, "round {round}: {}", site.file_bytes());
    }
    let totals = site.totals().await;
    assert_eq!((totals.offered, totals.stored, totals.refused), (10_000, 10_000, 0));
    assert!(totals.queued > 1_200, "much of the quota is in use: {totals:?}");
    assert_eq!(site.reason("dropped(quota)").await, totals.dropped);
    let drops = site.store.figures().await.unwrap().drops["quota"];
    let last = i64::try_from(totals.dropped).unwrap() - 1;
    assert_eq!((drops.samples, drops.first_us, drops.last_us), (totals.dropped, Some(0), Some(last)));
    // The oldest have gone, the youngest are there, after a restart too.
    let site = open_with(site.stop().await, true, limits(2 * MIB));
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(flying[0].stamp, last + 1);
    site.totals().await;
    let known = site.store.figures().await.unwrap().drops["quota"];
    assert_eq!((known.samples, known.first_us, known.last_us), (totals.dropped, Some(0), Some(last)));
}

#[tokio::test]
async fn i2_rows_in_flight_are_not_dropped() {
    let site = with(limits(2 * MIB));
    let mut events = site.uplink().await;
    site.submit_large("a", 0..100).await.unwrap();
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 50).await;
    for round in 1..60 {
        site.submit_large("a", round * 100..(round + 1) * 100).await.unwrap();
    }
    assert!(site.totals().await.dropped > 1_000);
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    let site = site.restart(true).await;
    assert_eq!(site.totals().await.landed, u64::try_from(flying.len()).unwrap());
}

#[tokio::test]
async fn i3_what_could_not_be_dropped_flies_before_what_came_after_it() {
    let site = with(limits(2 * MIB));
    let mut pushed = 0;
    while site.totals().await.dropped == 0 {
        site.submit_large("a", pushed..pushed + 100).await.unwrap();
        pushed += 100;
    }
    let dropped = site.totals().await.dropped;
    // Another process makes every delete fail.
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    let fail = "BEFORE DELETE ON outbox BEGIN SELECT RAISE(ROLLBACK, 'on purpose'); END";
    db.execute_batch(&format!("CREATE TRIGGER no_delete {fail}")).unwrap();
    while site.submit_large("a", pushed..pushed + 100).await.is_ok() {
        pushed += 100;
    }
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(flying[0].stamp, i64::try_from(dropped).unwrap(), "the oldest on disk");
    let totals = site.totals().await;
    let on_disk = u64::try_from(site.outbox()).unwrap();
    assert_eq!((totals.dropped, totals.queued), (dropped, on_disk), "{totals:?}");
    db.execute_batch("DROP TRIGGER no_delete").unwrap();
    let other = pushed + 100;
    site.submit_large("a", other..other + 100).await.unwrap();
    assert!(site.totals().await.dropped > dropped, "they go when they can");
}

#[tokio::test]
async fn whoever_uses_most_loses_first() {
    let site = with(limits(2 * MIB));
    site.submit_large("b", 0..100).await.unwrap();
    for round in 0..60 {
        site.submit_large("a", round * 100..(round + 1) * 100).await.unwrap();
    }
    assert_eq!(site.queued_of("b").await, 100);
    assert!(site.totals().await.dropped > 0);
}

#[tokio::test]
async fn with_refuse_the_old_rows_stay_and_the_adapter_is_told() {
    let limits = Limits { when_full: WhenFull::Refuse, ..limits(2 * MIB) };
    let site = with(limits.clone());
    let mut refused = 0;
    for round in 0..40 {
        match site.submit_large("a", round * 100..(round + 1) * 100).await {
            Ok(()) => {}
            Err(Refused::Full) => refused += 100,
            Err(other) => panic!("{other}"),
        }
    }
    let totals = site.totals().await;
    assert!(refused > 0 && site.file_bytes() <= 2 * MIB);
    assert_eq!((totals.refused, totals.dropped), (refused, 0));
    assert_eq!(site.reason("refused(full)").await, refused);
    // What lands makes room again.
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 500).await;
    assert_eq!(flying[0].stamp, 0);
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    let site = open_with(site.stop().await, true, limits);
    site.submit_large("a", 0..100).await.unwrap();
    site.totals().await;
}

#[tokio::test]
async fn a_quota_that_shrank_is_met_after_the_start() {
    let site = with(limits(64 * MIB));
    for round in 0..80 {
        site.submit_large("a", round * 100..(round + 1) * 100).await.unwrap();
    }
    let site = open_with(site.stop().await, true, limits(2 * MIB));
    while site.totals().await.queued > 2_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.totals().await.stored, 8_000);
}

#[tokio::test]
async fn i10_when_the_limits_fall_noted_rows_go_first_and_then_only_what_is_still_too_much() {
    let first = with(limits(64 * MIB));
    first.interleave(4_000, large).await;
    let mut events = first.uplink().await;
    first.land_a(&mut events).await;
    assert_eq!((first.outbox(), first.totals().await.queued), (4_000, 1_000));
    let second = first.killed(limits(3 * MIB)).await;
    let third = first.killed(limits(3 * MIB)).await;
    let fourth = first.killed(limits(MIB)).await;

    assert!(first.used() > 3 * MIB);
    let lower = Change { limits: limits(3 * MIB), ..change(directory(&["a", "b"].map(endpoint), &[])) };
    let (changed, taken) = tokio::join!(first.store.change(lower), first.submit_large("b", 0..100));
    assert_eq!((changed.unwrap().is_ok(), taken), (true, Ok(())));
    second.submit_large("b", 0..100).await.unwrap();
    for site in [&first, &second] {
        while site.maps() > 0 {
            tokio::task::yield_now().await;
        }
        site.submit_large("b", 100..200).await.unwrap();
        let totals = site.totals().await;
        assert_eq!((totals.dropped, totals.refused, totals.queued, totals.landed), (0, 0, 1_200, 3_000));
        assert!(site.used() <= 3 * MIB, "{}", site.used());
    }
    // Stopped at once.
    let dir = third.stop().await;
    assert_eq!(read_ledger(dir.path()).unwrap().dropped, 0);
    while fourth.used() > MIB {
        tokio::task::yield_now().await;
    }
    let totals = fourth.totals().await;
    assert!(totals.dropped > 0 && totals.queued > 0, "{totals:?}");
}

#[tokio::test]
async fn the_file_gets_smaller_when_the_queue_has_drained() {
    let site = site();
    let mut events = site.uplink().await;
    for round in 0..80 {
        site.submit_large("a", round * 100..(round + 1) * 100).await.unwrap();
    }
    let lane = ready(&mut events).await;
    loop {
        let (flying, more) = rows(&site.store, &mut events, lane.id, 1_000).await;
        site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
        if !more {
            break;
        }
    }
    let full = site.file_bytes();
    assert!(full > 6 * MIB, "{full}");
    // A second for the deletes, one for the last commit to be over, then step by step.
    clock_until(|| site.file_bytes() < 200_000).await;
    assert_eq!(site.totals().await.landed, 8_000);
}

#[tokio::test]
async fn dead_letters_have_a_tenth_of_the_quota_and_short_reasons() {
    let site = with(limits(MIB));
    let mut events = site.uplink().await;
    site.submit_large("a", 0..300).await.unwrap();
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 300).await;
    let reason = "ä".repeat(400);
    for row in &flying {
        site.store.ask(Command::Bury(testing::buried(&lane, row.id, &reason))).await.unwrap();
    }
    let site = open_with(site.stop().await, true, limits(MIB));
    let dead = site.store.dead(999).await.unwrap();
    let bytes: usize = dead.iter().map(|letter| letter.item.len() + letter.reason.len()).sum();
    assert!((60_000..105_000).contains(&bytes), "{bytes}");
    assert!(dead.iter().all(|letter| letter.reason.len() == 256));
    assert_eq!(dead[0].stamp, flying.last().unwrap().stamp, "the youngest are kept");
    let totals = site.totals().await;
    assert_eq!(totals.dead, u64::try_from(flying.len()).unwrap(), "they stay dead");
    let kept = site.store.figures().await.unwrap().dead_letters;
    assert_eq!(kept, u64::try_from(dead.len()).unwrap());
    assert_eq!(site.reason("forgotten(quota)").await, totals.dead - kept);
}

/// Waits until it is so, as long as a slow machine may take.
pub(super) async fn clock_until(so: impl Fn() -> bool) {
    let deadline = adapter_api::clock::now() + Duration::from_secs(30);
    while !so() {
        assert!(adapter_api::clock::now() < deadline, "it did not come about");
        adapter_api::clock::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn rows_that_are_too_old_go_and_are_counted() {
    let site = site();
    site.submit("a", 0..10).await.unwrap();
    let now = adapter_api::Clock::trusting().wall_us();
    site.submit("a", now..now + 5).await.unwrap();
    let limits = Limits { max_age: Some(Duration::from_secs(3_600)), ..Limits::default() };
    let site = open_with(site.stop().await, true, limits);
    // Nothing is old to a clock that is not believed.
    assert_eq!(site.totals().await.queued, 15);
    site.store.clock().trust();
    site.store.know_time(0).await.unwrap();
    while site.totals().await.queued > 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.reason("dropped(age)").await, 10);
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_made_is_a_plain_fault() {
    // On procfs nobody, root neither, can make a directory.
    let options = Options {
        boot_id: "boot-1".into(),
        dir: PathBuf::from("/proc/tidegate"),
        commit_within: Duration::ZERO,
        max_sample_bytes: 1,
        limits: Limits::default(),
    };
    let directory = Arc::new(Directory::default());
    let refused = open(&options, &directory, Shape::new(directory.clone(), true)).unwrap_err();
    assert!(matches!(refused, OpenError::Directory { .. }), "{refused}");
}
