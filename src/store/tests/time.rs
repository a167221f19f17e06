//! Rows that were stamped before the time was known.

use super::{room::clock_until, *};

/// 2026, in µs.
const REAL: i64 = 1_770_000_000_000_000;

impl Site {
    /// Numbers of endpoint `a`, stamped so many µs after this boot.
    async fn submit_timeless(&self, numbers: Range<i64>) {
        let Stamp::Mono { boot, .. } = self.store.clock().stamp() else { panic!("the time is known") };
        let sample = |n| Sample { at: Stamp::Mono { boot, us: n }, ..sample(n) };
        let intake = self.store.intake().await.unwrap();
        let name = EndpointName::new("a").unwrap();
        let receipt = intake.submit(&name, numbers.map(sample).collect(), Urgency::Urgent).await.unwrap();
        receipt.committed().await.unwrap();
    }

    async fn reboot(self, boot: &str) -> Self {
        self.store.stop().await.unwrap();
        self.died.await.unwrap_err();
        open_in_boot(self.dir, true, boot)
    }

    pub(super) fn boots(&self) -> Vec<(i64, Option<i64>)> {
        let db = rusqlite::Connection::open(database(self.dir.path())).unwrap();
        let mut select = db.prepare("SELECT id, wall_offset_us FROM boot ORDER BY id").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }
}

fn stamps(rows: &[StoredRow]) -> Vec<(i64, Option<i64>)> {
    rows.iter().map(|row| (row.stamp, row.boot)).collect()
}

/// No event is under way: the store has answered a question asked after everything else.
async fn is_quiet(site: &Site, events: &mut mpsc::UnboundedReceiver<Event>) -> bool {
    site.store.figures().await.unwrap();
    events.try_recv().is_err()
}

#[tokio::test]
async fn a_lane_waits_for_the_time_and_is_woken_by_it() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit_timeless(0..2).await;
    let lane = ready(&mut events).await;
    assert_eq!(rows(&site.store, &mut events, lane.id, 9).await, (vec![], false));
    site.submit_timeless(2..3).await;
    assert!(is_quiet(&site, &mut events).await, "new rows do not ring for a lane that waits");
    assert!(site.store.know_time(REAL).await.unwrap());
    assert_eq!(ready(&mut events).await.id, lane.id);
    site.submit("a", 7..8).await.unwrap();
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(stamps(&flying), [(REAL, None), (REAL + 1, None), (REAL + 2, None), (7, None)]);
    assert_eq!(site.boots(), [(1, Some(REAL))]);
    // Once and for all.
    assert!(site.store.know_time(5).await.unwrap());
    assert_eq!(site.boots(), [(1, Some(REAL))]);
}

#[tokio::test]
async fn what_is_known_flies_before_what_waits_and_nothing_overtakes() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("a", 0..2).await.unwrap();
    site.submit_timeless(2..3).await;
    site.submit("a", 3..4).await.unwrap();
    site.submit("b", 0..1).await.unwrap();
    let lane = ready(&mut events).await;
    let other = ready(&mut events).await;
    let (flying, more) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!((numbers(&flying), more), (vec![0, 1], false));
    assert_eq!(numbers(&rows(&site.store, &mut events, other.id, 9).await.0), [0], "only this lane waits");
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    assert_eq!(rows(&site.store, &mut events, lane.id, 9).await, (vec![], false));
    site.store.end_hold().await.unwrap();
    assert_eq!(ready(&mut events).await.id, lane.id);
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(stamps(&flying), [(2, Some(1)), (3, None)]);
    assert_eq!(item::decode(2, Some(1), &flying[0].item).unwrap().at, Stamp::Mono { boot: 1, us: 2 });
    // Known late, and not sent yet: it is used.
    site.store.ask(Command::Release { lane: lane.id, rows: ids(&flying) }).await.unwrap();
    site.store.know_time(REAL).await.unwrap();
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(stamps(&flying), [(REAL + 2, None), (3, None)]);
    let totals = site.restart(true).await.totals().await;
    assert_eq!((totals.stored, totals.landed, totals.queued), (5, 2, 3));
}

#[tokio::test]
async fn a_boot_without_time_goes_up_without_and_one_with_time_resolves_after_restarts() {
    let site = site();
    site.submit_timeless(0..2).await;
    let site = site.reboot("boot-2").await;
    assert_eq!((site.boots(), site.store.boot_offset()), (vec![(1, None), (2, None)], None));
    site.submit_timeless(5..6).await;
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, more) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(
        (stamps(&flying), more),
        (vec![(0, Some(1)), (1, Some(1))], false),
        "the first will never be known"
    );
    site.store.know_time(REAL).await.unwrap();
    // The same boot again: a number of its own is not drawn twice.
    let site = site.reboot("boot-2").await;
    assert_eq!((site.boots(), site.store.boot_offset()), (vec![(1, None), (2, Some(REAL))], Some(REAL)));
    let site = site.reboot("boot-3").await;
    site.submit_timeless(9..10).await;
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, more) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!((stamps(&flying), more), (vec![(0, Some(1)), (1, Some(1)), (REAL + 5, None)], false));
}

#[tokio::test]
async fn last_values_and_dead_letters_show_the_time_once_it_is_known() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit_timeless(0..2).await;
    site.store.end_hold().await.unwrap();
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 1).await;
    site.store.ask(Command::Bury(testing::buried(&lane, flying[0].id, "no"))).await.unwrap();
    let site = site.restart(true).await;
    let last = async || site.store.latest(EndpointName::new("a").unwrap(), None).await.unwrap()[0].at;
    let dead = async || {
        let letter = site.store.dead(1).await.unwrap().remove(0);
        (letter.stamp, letter.boot)
    };
    assert_eq!((last().await, dead().await), (Stamp::Mono { boot: 1, us: 1 }, (0, Some(1))));
    site.store.know_time(REAL).await.unwrap();
    assert_eq!(last().await, Stamp::Wall { us: REAL + 1, source: Source::Gateway });
    assert_eq!(dead().await, (REAL, None));
}

#[tokio::test]
async fn only_so_many_boots_are_remembered() {
    let site = site();
    site.store.stop().await.unwrap();
    site.died.await.unwrap_err();
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    db.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)
         INSERT INTO boot(uuid, wall_offset_us) SELECT 'old-' || i, i FROM n;",
    )
    .unwrap();
    drop(db);
    let site = open_in_boot(site.dir, true, "boot-new");
    assert_eq!((site.boots().len(), site.boots().last()), (1_000, Some(&(3_002, None))));
}

#[tokio::test]
async fn the_times_of_earlier_boots_outlive_a_salvage() {
    let site = site();
    site.submit_timeless(0..1).await;
    assert!(site.store.know_time(REAL).await.unwrap());
    let dir = site.stop().await;
    damage::overwrite(dir.path(), &damage::roots(dir.path())["keep"]);
    let site = open_in_boot(dir, true, "boot-2");
    assert!(site.dir.path().join("tidegate.db.damaged").exists());
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(stamps(&flying), [(REAL, None)]);
}

#[tokio::test]
async fn rows_behind_timeless_ones_are_too_old_all_the_same() {
    let hour = || Limits { max_age: Some(Duration::from_secs(3_600)), ..Limits::default() };
    let now = adapter_api::Clock::trusting().wall_us();
    // Whether the time of the first boot becomes known, and the stamps that are left.
    for (known, left) in [(true, vec![]), (false, vec![(0, Some(1)), (1, Some(1))])] {
        let site = site();
        site.submit_timeless(0..2).await;
        site.submit("a", 10..20).await.unwrap();
        site.submit("a", now..now + 2).await.unwrap();
        if known {
            site.store.know_time(5).await.unwrap();
        }
        let site = open_as(site.stop().await, true, "boot-2", hour());
        site.store.clock().trust();
        site.store.know_time(0).await.unwrap();
        let there = i64::try_from(left.len() + 2).unwrap();
        clock_until(|| site.outbox() == there).await;
        let mut events = site.uplink().await;
        let lane = ready(&mut events).await;
        let (flying, _) = rows(&site.store, &mut events, lane.id, 99).await;
        assert_eq!(stamps(&flying), [left, vec![(now, None), (now + 1, None)]].concat());
        let drops = site.store.figures().await.unwrap().drops["age"];
        let (samples, first) = if known { (12, 5) } else { (10, 10) };
        assert_eq!((drops.samples, drops.first_us, drops.last_us), (samples, Some(first), Some(19)));
    }
}

#[tokio::test]
async fn nothing_is_too_old_behind_a_row_whose_time_may_become_known_soon() {
    let site = site();
    site.submit("a", 0..2).await.unwrap();
    site.submit_timeless(2..3).await;
    site.submit("a", 3..5).await.unwrap();
    site.store.clock().trust();
    let limits = Limits { max_age: Some(Duration::from_secs(3_600)), ..Limits::default() };
    let both = change::directory(&["a", "b"].map(endpoint), &[]);
    site.store.change(Change { limits, ..change::change(both) }).await.unwrap().unwrap();
    clock_until(|| site.outbox() < 5).await;
    assert_eq!(site.totals().await.queued, 3);
    site.store.know_time(5).await.unwrap();
    clock_until(|| site.outbox() == 0).await;
}

#[tokio::test]
async fn a_device_that_lives_in_1970_is_marked_and_counted_like_any_other() {
    let site = site();
    let intake = site.store.intake().await.unwrap();
    let name = EndpointName::new("a").unwrap();
    let of_device = |us| Sample { at: Stamp::Wall { us, source: Source::Device }, ..sample(1) };
    let samples = vec![of_device(5), of_device(REAL)];
    intake.submit(&name, samples, Urgency::Urgent).await.unwrap().committed().await.unwrap();
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    let decoded = flying.iter().map(|row| item::decode(row.stamp, row.boot, &row.item).unwrap());
    let decoded: Vec<_> = decoded.map(|sample| (sample.at, sample.readings[0].quality.clone())).collect();
    let marked = adapter_api::Quality::Uncertain("device clock".into());
    let good = adapter_api::Quality::Good;
    assert_eq!(decoded, [(of_device(5).at, marked), (of_device(REAL).at, good)]);
    let totals = site.totals().await;
    assert_eq!((totals.offered, totals.stored, totals.queued), (2, 2, 2));
}
