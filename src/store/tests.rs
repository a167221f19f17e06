//! The store as a whole, on a real database in a temporary directory.

mod autonomy;
mod behind;
mod change;
mod damage;
mod letters;
mod noted;
mod overview;
mod quotas;
mod report;
mod room;
mod salvage;
mod time;

use super::*;
use crate::{
    config::secret::EndpointToken,
    endpoints::{Endpoint, EndpointKey, Tenant},
    shape::quota::Quotas,
    uplink::outflow::testing,
};
use adapter_api::{Reading, Refused, Sample, Source, Stamp, SubmitError, Urgency, Value};

struct Site {
    dir: tempfile::TempDir,
    store: Store,
    died: oneshot::Receiver<()>,
}

fn endpoint(name: &str) -> Endpoint {
    let name = EndpointName::new(name).unwrap();
    Endpoint {
        token: EndpointToken::new(&format!("T-{name}")),
        key: EndpointKey { tenant: Tenant::default(), name },
        enabled: true,
        quotas: Quotas::default(),
        report: None,
        unit: None,
        name_on_wire: BTreeMap::new(),
    }
}

fn open_in(dir: tempfile::TempDir, uplink: bool) -> Site {
    open_with(dir, uplink, Limits::default())
}

fn open_in_boot(dir: tempfile::TempDir, uplink: bool, boot: &str) -> Site {
    open_as(dir, uplink, boot, Limits::default())
}

fn open_with(dir: tempfile::TempDir, uplink: bool, limits: Limits) -> Site {
    open_as(dir, uplink, "boot-1", limits)
}

fn open_as(dir: tempfile::TempDir, uplink: bool, boot: &str, limits: Limits) -> Site {
    open_of(dir, uplink, boot, limits, Quotas::default())
}

fn open_of(dir: tempfile::TempDir, uplink: bool, boot: &str, limits: Limits, quotas: Quotas) -> Site {
    let mut off = endpoint("off");
    off.enabled = false;
    let a = Endpoint { quotas, ..endpoint("a") };
    let directory = Arc::new(Directory::new([a, endpoint("b"), off]));
    let shape = Shape::new(directory.clone(), uplink);
    let options = Options {
        dir: dir.path().to_owned(),
        commit_within: Duration::from_millis(50),
        max_sample_bytes: 1_000,
        boot_id: boot.into(),
        limits,
    };
    let (store, died) = open(&options, &directory, shape).unwrap();
    Site { dir, store, died }
}

fn site() -> Site {
    open_in(tempfile::tempdir().unwrap(), true)
}

fn sample(n: i64) -> Sample {
    let reading = Reading::measured(Resource::new("n").unwrap(), n);
    Sample { at: Stamp::Wall { us: n, source: Source::Gateway }, readings: vec![reading] }
}

impl Site {
    async fn submit(&self, endpoint: &str, numbers: Range<i64>) -> Result<(), Refused> {
        let intake = self.store.intake().await.unwrap();
        let name = EndpointName::new(endpoint).unwrap();
        let receipt = intake.submit(&name, numbers.map(sample).collect(), Urgency::Urgent).await.unwrap();
        receipt.committed().await
    }

    /// One session for all endpoints.
    pub(super) async fn uplink(&self) -> mpsc::UnboundedReceiver<Event> {
        let all = ["a", "b", "off"].map(|name| endpoint(name).key).to_vec();
        self.store.uplink(SessionKey(None), all).await.unwrap()
    }

    /// What another process sees in the table.
    fn outbox(&self) -> i64 {
        let db = rusqlite::Connection::open(database(self.dir.path())).unwrap();
        db.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).unwrap()
    }

    async fn totals(&self) -> Totals {
        let totals = self.store.figures().await.unwrap().totals;
        assert!(totals.balance(), "{totals:?}");
        totals
    }

    async fn restart(self, uplink: bool) -> Self {
        self.store.stop().await.unwrap();
        self.died.await.unwrap_err();
        open_in(self.dir, uplink)
    }
}

async fn rows(
    store: &Store,
    events: &mut mpsc::UnboundedReceiver<Event>,
    lane: LaneId,
    max: usize,
) -> (Vec<StoredRow>, bool) {
    store.ask(Command::Next { lane, max_rows: max, max_bytes: 1 << 20, live_age: None }).await.unwrap();
    loop {
        match events.recv().await.unwrap() {
            Event::Rows { rows, more, .. } => return (rows, more),
            Event::Ready(_) | Event::Taken(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn ready(events: &mut mpsc::UnboundedReceiver<Event>) -> LaneInfo {
    match events.recv().await.unwrap() {
        Event::Ready(lane) => lane,
        other => panic!("{other:?}"),
    }
}

fn ids(rows: &[StoredRow]) -> Vec<RowId> {
    rows.iter().map(|row| row.id).collect()
}

fn numbers(rows: &[StoredRow]) -> Vec<i64> {
    rows.iter().map(|row| row.stamp).collect()
}

#[tokio::test]
async fn what_was_answered_is_on_disk() {
    let site = site();
    site.submit("a", 0..3).await.unwrap();
    assert_eq!(site.outbox(), 3);
    let totals = site.totals().await;
    assert_eq!((totals.offered, totals.stored, totals.queued), (3, 3, 3));
}

#[tokio::test]
async fn relaxed_samples_are_committed_within_their_time() {
    let site = site();
    let intake = site.store.intake().await.unwrap();
    let name = EndpointName::new("a").unwrap();
    let relaxed = intake.submit(&name, vec![sample(1)], Urgency::Relaxed).await.unwrap();
    relaxed.committed().await.unwrap();
    assert_eq!(site.outbox(), 1);
}

#[tokio::test]
async fn rows_fly_in_order_land_once_and_leave_the_table() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("a", 0..5).await.unwrap();
    let lane = ready(&mut events).await;
    assert_eq!(lane.endpoint.name.as_str(), "a");
    let (first, more) = rows(&site.store, &mut events, lane.id, 3).await;
    assert_eq!((numbers(&first), more), (vec![0, 1, 2], true));
    // Rows in flight are not handed out twice.
    let (second, more) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!((numbers(&second), more), (vec![3, 4], false));
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&first)))).await.unwrap();
    site.store.ask(Command::Release { lane: lane.id, rows: ids(&second) }).await.unwrap();
    let (again, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(numbers(&again), [3, 4]);
    // The delete itself rides on a later group.
    let site = site.restart(true).await;
    assert_eq!(site.outbox(), 2);
    let totals = site.totals().await;
    assert_eq!((totals.stored, totals.landed, totals.queued), (5, 3, 2));
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    assert_eq!(numbers(&rows(&site.store, &mut events, lane.id, 9).await.0), [3, 4]);
}

#[tokio::test]
async fn a_buried_row_is_kept_with_its_reason() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("a", 0..2).await.unwrap();
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 1).await;
    site.store.ask(Command::Bury(testing::buried(&lane, flying[0].id, "400 Bad Request"))).await.unwrap();
    let site = site.restart(true).await;
    let totals = site.totals().await;
    assert_eq!((totals.stored, totals.dead, totals.queued), (2, 1, 1));
    let dead = site.store.dead(9).await.unwrap();
    assert_eq!((dead.len(), dead[0].reason.as_str(), dead[0].endpoint.as_str()), (1, "400 Bad Request", "a"));
    assert_eq!(item::decode(dead[0].stamp, dead[0].boot, &dead[0].item).unwrap(), sample(0));
}

#[tokio::test]
async fn ids_are_never_handed_out_twice_over_restarts() {
    let mut seen = 0..0;
    let mut site = site();
    for _ in 0..3 {
        let mut events = site.uplink().await;
        for _ in 0..2 {
            site.store.ask(Command::Reserve { session: SessionKey(None), count: 100 }).await.unwrap();
            let Some(Event::Ids(ids)) = events.recv().await else { panic!("no ids") };
            assert!(ids.start >= seen.end && ids.end == ids.start + 100, "{ids:?} after {seen:?}");
            seen = ids;
        }
        site = site.restart(true).await;
    }
}

#[tokio::test]
async fn ids_that_could_not_be_committed_are_not_handed_out() {
    let site = site();
    let mut events = site.uplink().await;
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    // The commit fails, and no statement before it: as on a full disk.
    let never = "CREATE TABLE never(lane INTEGER REFERENCES lane(id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER fails AFTER INSERT ON ids BEGIN INSERT INTO never VALUES (-1); END;";
    for (change, count) in [(never, 0), ("DROP TRIGGER fails", 100)] {
        db.execute_batch(change).unwrap();
        site.store.ask(Command::Reserve { session: SessionKey(None), count: 100 }).await.unwrap();
        let Some(Event::Ids(ids)) = events.recv().await else { panic!("no ids") };
        assert_eq!(ids.end - ids.start, count, "after {change}");
    }
}

#[tokio::test]
async fn refused_and_suppressed_samples_are_counted() {
    let site = site();
    assert_eq!(site.submit("nobody", 0..2).await, Err(Refused::Unknown));
    site.submit("off", 0..3).await.unwrap();
    let intake = site.store.intake().await.unwrap();
    let mut large = sample(1);
    large.readings[0].value = Value::Text("x".repeat(2_000));
    let name = EndpointName::new("a").unwrap();
    let refused = intake.submit(&name, vec![large], Urgency::Urgent).await.unwrap_err();
    assert!(matches!(refused, SubmitError::TooLarge { limit: 1_000, .. }));
    let empty = Sample { readings: Vec::new(), ..sample(1) };
    assert_eq!(intake.submit(&name, vec![empty], Urgency::Urgent).await.unwrap_err(), SubmitError::Empty);
    site.submit("a", 0..1).await.unwrap();
    let totals = site.totals().await;
    assert_eq!((totals.offered, totals.refused, totals.suppressed, totals.stored), (7, 3, 3, 1));
    let reasons = site.store.figures().await.unwrap().reasons;
    let expected = [("refused(too_large)", 1), ("refused(unknown_endpoint)", 2), ("suppressed(disabled)", 3)];
    assert_eq!(reasons.iter().map(|(k, v)| (k.as_str(), *v)).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn without_an_uplink_values_are_visible_and_the_queue_is_left_alone() {
    let site = site();
    site.submit("a", 0..2).await.unwrap();
    let site = site.restart(false).await;
    site.submit("a", 7..8).await.unwrap();
    let totals = site.totals().await;
    assert_eq!((totals.suppressed, totals.queued), (1, 2));
    let last = site.store.latest(EndpointName::new("a").unwrap(), None).await.unwrap();
    assert_eq!(last[0].reading.value, Value::Int(7));
    assert!(last[0].seen.is_some());
}

#[tokio::test]
async fn the_last_values_survive_a_clean_stop() {
    let site = site();
    site.submit("a", 0..4).await.unwrap();
    let site = site.restart(true).await;
    let last =
        site.store.latest(EndpointName::new("a").unwrap(), Some(Resource::new("n").unwrap())).await.unwrap();
    let (at, reading) = (sample(3).at, sample(3).readings[0].clone());
    assert_eq!(last, [Last { at, seen: None, reading }]);
}

#[tokio::test]
async fn a_row_of_a_newer_format_stays_and_lets_the_others_pass() {
    let site = site();
    site.submit("a", 0..3).await.unwrap();
    site.store.stop().await.unwrap();
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    db.execute("UPDATE outbox SET item = x'02a0' WHERE id = 2", []).unwrap();
    drop(db);
    site.died.await.unwrap_err();
    let site = open_in(site.dir, true);
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(numbers(&flying), [0, 2]);
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    let site = site.restart(true).await;
    let totals = site.totals().await;
    assert_eq!((totals.landed, totals.queued, totals.dead, site.outbox()), (2, 1, 0, 1));
}

#[tokio::test]
async fn a_second_gateway_on_the_directory_is_refused() {
    let site = site();
    let options = Options {
        dir: site.dir.path().to_owned(),
        commit_within: Duration::ZERO,
        max_sample_bytes: 1,
        boot_id: "boot-1".into(),
        limits: Limits::default(),
    };
    let directory = Arc::new(Directory::default());
    let refused = open(&options, &directory, Shape::new(directory.clone(), true));
    assert!(matches!(refused, Err(OpenError::Locked { .. })));
}

#[tokio::test]
async fn a_new_uplink_gets_what_the_old_one_had_in_the_air() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("a", 0..4).await.unwrap();
    let lane = ready(&mut events).await;
    rows(&site.store, &mut events, lane.id, 2).await;
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    assert_eq!(numbers(&rows(&site.store, &mut events, lane.id, 9).await.0), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_failed_transaction_refuses_its_group_and_keeps_its_deletes() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("a", 0..2).await.unwrap();
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 1).await;
    // Another process makes every insert fail, and every delete.
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    db.execute_batch(
        "CREATE TRIGGER no_insert BEFORE INSERT ON ledger BEGIN SELECT RAISE(ROLLBACK, 'on purpose'); END;
         CREATE TRIGGER no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ROLLBACK, 'on purpose'); END;",
    )
    .unwrap();
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    assert_eq!(site.submit("a", 2..4).await, Err(Refused::Failed));
    assert!(site.store.figures().await.unwrap().fault.is_some());
    assert_eq!(site.outbox(), 2);
    // What has landed is not handed out again meanwhile.
    assert_eq!(numbers(&rows(&site.store, &mut events, lane.id, 9).await.0), [1]);
    db.execute_batch("DROP TRIGGER no_insert; DROP TRIGGER no_update;").unwrap();
    site.submit("a", 4..5).await.unwrap();
    let site = site.restart(true).await;
    let totals = site.totals().await;
    assert_eq!((totals.offered, totals.refused, totals.stored, totals.landed), (5, 2, 3, 1));
}

#[tokio::test]
async fn each_session_hears_of_its_own_lanes_and_ids_only() {
    let site = site();
    let (a, b) = (endpoint("a").key, endpoint("b").key);
    let (of_a, of_b) = (SessionKey(Some(a.clone())), SessionKey(Some(b.clone())));
    let mut hears_a = site.store.uplink(of_a, vec![a.clone()]).await.unwrap();
    let mut hears_b = site.store.uplink(of_b.clone(), vec![b.clone()]).await.unwrap();
    site.submit("a", 0..1).await.unwrap();
    site.submit("b", 1..2).await.unwrap();
    let (lane_a, lane_b) = (ready(&mut hears_a).await, ready(&mut hears_b).await);
    assert_eq!((&lane_a.endpoint, &lane_b.endpoint), (&a, &b));
    site.store.ask(Command::Reserve { session: of_b, count: 10 }).await.unwrap();
    let (flying, _) = rows(&site.store, &mut hears_a, lane_a.id, 9).await;
    assert_eq!(numbers(&flying), [0]);
    site.store.ask(Command::Landed(testing::landed(&lane_a, ids(&flying)))).await.unwrap();
    assert!(matches!(hears_a.recv().await, Some(Event::Taken(_))));
    assert!(matches!(hears_b.recv().await, Some(Event::Ids(ids)) if ids.end - ids.start == 10));
    site.store.figures().await.unwrap();
    assert!(hears_a.try_recv().is_err() && hears_b.try_recv().is_err());
}
