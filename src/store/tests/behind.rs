//! Lanes that fall behind and become a backlog, until they are drained.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

impl Site {
    /// Asks for one row of a lane that may be a minute old; it has fallen behind.
    async fn fall_behind(&self, events: &mut mpsc::UnboundedReceiver<Event>, lane: &LaneInfo) -> LaneInfo {
        self.next(lane.id, 1).await;
        match events.recv().await.unwrap() {
            Event::Behind(info) => info,
            other => panic!("{other:?}"),
        }
    }

    async fn next(&self, lane: LaneId, max_rows: usize) {
        let next = Command::Next { lane, max_rows, max_bytes: 1 << 20, live_age: Some(MINUTE) };
        self.store.ask(next).await.unwrap();
    }

    /// (id, class, seq) of each lane of `a` in the table.
    fn lanes(&self) -> Vec<(i64, i64, i64)> {
        let db = rusqlite::Connection::open(database(self.dir.path())).unwrap();
        let mut select =
            db.prepare("SELECT id, class, seq FROM lane WHERE endpoint = 'a' ORDER BY id").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }
}

async fn drained(events: &mut mpsc::UnboundedReceiver<Event>) -> LaneId {
    loop {
        match events.recv().await.unwrap() {
            Event::Drained(lane) => return lane,
            Event::Taken(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_old_lane_becomes_a_backlog_before_it_flies_and_goes_when_it_is_drained() {
    let site = site();
    site.store.clock().trust();
    let mut events = site.uplink().await;
    // Of 1970.
    site.submit("a", 0..5).await.unwrap();
    let lane = ready(&mut events).await;
    let backlog = site.fall_behind(&mut events, &lane).await;
    assert_eq!((backlog.id, backlog.class, backlog.seq), (lane.id, Class::Backlog, 0));
    assert_eq!(site.lanes(), [(1, 2, 0)], "on disk before any row is handed out");
    site.submit("a", 5..7).await.unwrap();
    let live = ready(&mut events).await;
    assert_eq!((live.id, live.class, live.seq), (LaneId(2), Class::Telemetry, 1));
    assert_eq!(numbers(&rows(&site.store, &mut events, live.id, 9).await.0), [5, 6]);

    // The next life knows which is which, and hears of the older one first.
    let site = site.restart(true).await;
    let mut events = site.uplink().await;
    assert_eq!((ready(&mut events).await, ready(&mut events).await), (backlog.clone(), live.clone()));
    let (flying, more) = rows(&site.store, &mut events, backlog.id, 9).await;
    assert_eq!((numbers(&flying), more), ((0..5).collect(), false));
    site.store.ask(Command::Landed(testing::landed(&backlog, ids(&flying[1..])))).await.unwrap();
    site.submit("b", 0..1).await.unwrap();
    assert_eq!(site.lanes(), [(1, 2, 0), (2, 1, 1)], "one of its rows is in the air");
    site.store.ask(Command::Landed(testing::landed(&backlog, ids(&flying[..1])))).await.unwrap();
    let of_b = loop {
        match events.recv().await.unwrap() {
            Event::Ready(lane) => break lane,
            Event::Taken(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(of_b.endpoint.name.as_str(), "b");
    assert_eq!(drained(&mut events).await, backlog.id);
    assert_eq!((site.lanes(), site.outbox()), (vec![(2, 1, 1)], 3));
    // A late proof of it changes nothing, and a question for it waits for no answer.
    site.store.ask(Command::Landed(testing::landed(&backlog, ids(&flying)))).await.unwrap();
    site.next(backlog.id, 1).await;
    let totals = site.totals().await;
    assert_eq!((totals.stored, totals.landed, totals.queued), (8, 5, 3));
    let reasons = site.store.figures().await.unwrap().reasons;
    assert!(reasons.is_empty(), "{reasons:?}");
}

#[tokio::test]
async fn with_four_lanes_the_youngest_backlog_takes_the_live_rows_in() {
    let site = site();
    site.store.clock().trust();
    let mut events = site.uplink().await;
    let mut lanes = Vec::new();
    for n in 0..4 {
        site.submit("a", n * 10..n * 10 + 5).await.unwrap();
        let lane = ready(&mut events).await;
        lanes.push(site.fall_behind(&mut events, &lane).await);
    }
    site.submit("a", 40..42).await.unwrap();
    assert_eq!(site.lanes(), [(1, 2, 0), (2, 2, 1), (3, 2, 2), (4, 2, 3)]);
    let (flying, _) = rows(&site.store, &mut events, lanes[3].id, 9).await;
    assert_eq!(numbers(&flying), [30, 31, 32, 33, 34, 40, 41]);
    // One is drained: there is room for live rows again.
    let (flying, _) = rows(&site.store, &mut events, lanes[0].id, 9).await;
    site.store.ask(Command::Landed(testing::landed(&lanes[0], ids(&flying)))).await.unwrap();
    assert_eq!(drained(&mut events).await, lanes[0].id);
    site.submit("a", 50..51).await.unwrap();
    assert_eq!(site.lanes(), [(2, 2, 1), (3, 2, 2), (4, 2, 3), (5, 1, 4)], "no id is given out again");
}

#[tokio::test]
async fn a_lane_of_a_newer_version_is_left_alone() {
    let site = site().restart(true).await;
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    db.execute_batch(
        "INSERT INTO lane VALUES (7, 'default', 'a', 9, 0);
         INSERT INTO outbox(lane, stamp, boot, item) VALUES (7, 0, NULL, x'63')",
    )
    .unwrap();
    drop(db);
    let site = site.restart(true).await;
    site.submit("a", 0..1).await.unwrap();
    assert_eq!((site.lanes(), site.outbox()), (vec![(7, 9, 0), (8, 1, 0)], 2));
}

#[tokio::test]
async fn what_is_not_old_or_goes_at_once_does_not_fall_behind() {
    let site = site();
    site.submit("a", 0..5).await.unwrap();
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let flies = async |events: &mut mpsc::UnboundedReceiver<Event>, max_rows| {
        site.next(lane.id, max_rows).await;
        let Event::Rows { rows, .. } = events.recv().await.unwrap() else { panic!("no rows") };
        site.store.ask(Command::Release { lane: lane.id, rows: ids(&rows) }).await.unwrap();
        rows.len()
    };
    assert_eq!(flies(&mut events, 1).await, 1, "nobody knows how old it is");
    site.store.clock().trust();
    assert_eq!(flies(&mut events, 5).await, 5, "nothing is left behind them");
    site.fall_behind(&mut events, &lane).await;
}

#[tokio::test]
async fn rows_without_a_time_are_as_old_as_the_boot_says() {
    let site = site();
    let Stamp::Mono { boot, us } = site.store.clock().stamp() else { panic!("the time is known") };
    let submit = async |site: &Site, name: &str, us: i64| {
        let samples = (0..5).map(|n| Sample { at: Stamp::Mono { boot, us }, ..sample(n) }).collect();
        let intake = site.store.intake().await.unwrap();
        let receipt = intake.submit(&EndpointName::new(name).unwrap(), samples, Urgency::Urgent).await;
        receipt.unwrap().committed().await.unwrap();
    };
    submit(&site, "a", us - 61_000_000).await;
    submit(&site, "b", us).await;
    let mut events = site.uplink().await;
    site.store.end_hold().await.unwrap();
    let (old, young) = (ready(&mut events).await, ready(&mut events).await);
    site.fall_behind(&mut events, &old).await;
    site.next(young.id, 1).await;
    assert!(matches!(events.recv().await, Some(Event::Rows { .. })));
    // In the next boot they are of an earlier one.
    site.store.stop().await.unwrap();
    site.died.await.unwrap_err();
    let site = open_in_boot(site.dir, true, "boot-2");
    let mut events = site.uplink().await;
    assert_eq!(ready(&mut events).await.class, Class::Backlog);
    let young = ready(&mut events).await;
    assert_eq!(site.fall_behind(&mut events, &young).await.id, young.id);
}
