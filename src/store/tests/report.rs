//! Report rules in the store: what is withheld is counted with its reason, the ledger balances to the sample, a
//! value of a transaction that failed is not taken for reported, and the timer loses nothing.

use super::*;
use crate::shape::{
    expr::Expr,
    report::{Report, Rule},
};

const FAIL: &str =
    "CREATE TRIGGER no_insert BEFORE INSERT ON outbox BEGIN SELECT RAISE(ROLLBACK, 'on purpose'); END;";
const FAIL_ONE: &str =
    "CREATE TRIGGER no_insert BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'on purpose'); END;";
/// No statement fails, but the commit.
const FAIL_AT_COMMIT: &str =
    "CREATE TABLE never(lane INTEGER REFERENCES lane(id) DEFERRABLE INITIALLY DEFERRED);
     CREATE TRIGGER no_insert AFTER INSERT ON outbox BEGIN INSERT INTO never VALUES (-1); END;";

fn resource(name: &str) -> Resource {
    Resource::new(name).unwrap()
}

/// A site whose endpoint `a` has this rule, and one for `x`, twice its `n`.
fn ruled(dir: tempfile::TempDir, rule: Rule) -> Site {
    ruled_with(dir, rule, true)
}

fn ruled_report(rule: Rule) -> Option<Arc<Report>> {
    let twice = (resource("x"), Expr::parse("n * 2").unwrap());
    let on_change = Rule { on_change: true, ..Rule::default() };
    Some(Arc::new(Report::new(rule, [(resource("x"), on_change)].into(), [twice])))
}

fn ruled_with(dir: tempfile::TempDir, rule: Rule, uplink: bool) -> Site {
    let a = Endpoint { report: ruled_report(rule), ..endpoint("a") };
    let directory = Arc::new(Directory::new([a, endpoint("b")]));
    let options = Options {
        dir: dir.path().to_owned(),
        commit_within: Duration::from_millis(50),
        max_sample_bytes: 1_000,
        boot_id: "boot-1".into(),
        limits: Limits::default(),
    };
    let (store, died) = open(&options, &directory, Shape::new(directory.clone(), uplink)).unwrap();
    Site { dir, store, died }
}

fn deadband(width: f64) -> Rule {
    Rule { deadband: width, ..Rule::default() }
}

impl Site {
    /// Samples of `a` with these values of `n`, all of one instant.
    async fn values(&self, values: &[i64]) -> Result<(), Refused> {
        let samples = values.iter().map(|value| Sample { at: sample(0).at, ..sample(*value) });
        let intake = self.store.intake().await.unwrap();
        let name = EndpointName::new("a").unwrap();
        let receipt = intake.submit(&name, samples.collect(), Urgency::Urgent).await.unwrap();
        receipt.committed().await
    }

    /// What is in the table, row by row.
    fn stored(&self) -> Vec<Vec<(String, Value)>> {
        let db = rusqlite::Connection::open(database(self.dir.path())).unwrap();
        let mut select = db.prepare("SELECT stamp, boot, item FROM outbox ORDER BY id").unwrap();
        let rows =
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?))).unwrap();
        let samples =
            rows.map(|row| row.unwrap()).map(|(at, boot, item)| item::decode(at, boot, &item).unwrap());
        let named = |reading: Reading| (reading.resource.as_str().to_owned(), reading.value);
        samples.map(|sample| sample.readings.into_iter().map(named).collect()).collect()
    }

    /// The values of one resource in the table.
    fn of(&self, name: &str) -> Vec<Value> {
        self.stored()
            .into_iter()
            .flatten()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value)
            .collect()
    }

    async fn reasons(&self) -> Vec<(String, u64)> {
        self.store.figures().await.unwrap().reasons.into_iter().collect()
    }

    /// Another process makes inserts fail.
    fn break_it(&self, how: &str) -> rusqlite::Connection {
        let db = rusqlite::Connection::open(database(self.dir.path())).unwrap();
        db.execute_batch(how).unwrap();
        db
    }
}

fn reason(name: &str, samples: u64) -> (String, u64) {
    (name.to_owned(), samples)
}

#[tokio::test]
async fn what_is_withheld_is_counted_in_the_same_transaction_and_shown_all_the_same() {
    let site = ruled(tempfile::tempdir().unwrap(), deadband(2.0));
    site.values(&[10, 11, 12]).await.unwrap();
    site.values(&[12]).await.unwrap();
    site.values(&[13, 13]).await.unwrap();
    site.submit("b", 0..4).await.unwrap();
    // `x` is reported on change: of 11 and 12 it is what is left.
    let row =
        |readings: &[(&str, Value)]| readings.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
    let expected: [Vec<(String, Value)>; 4] = [
        row(&[("n", 10_i64.into()), ("x", 20.0.into())]),
        row(&[("x", 22.0.into())]),
        row(&[("x", 24.0.into())]),
        row(&[("n", 13_i64.into()), ("x", 26.0.into())]),
    ];
    assert_eq!(site.stored()[..4], expected);
    assert_eq!(site.outbox(), 8);
    let totals = site.totals().await;
    assert_eq!((totals.offered, totals.stored, totals.suppressed), (10, 8, 2));
    assert_eq!(site.reasons().await, [reason("suppressed(deadband)", 1), reason("suppressed(unchanged)", 1)]);
    let latest = site.store.latest(EndpointName::new("a").unwrap(), None).await.unwrap();
    let latest: Vec<_> =
        latest.iter().map(|l| (l.reading.resource.as_str(), l.reading.value.clone())).collect();
    assert_eq!(latest, [("n", 13_i64.into()), ("x", 26.0.into())]);
    // After a restart the first value is reported whatever it is, and the ledger is what it was.
    site.store.stop().await.unwrap();
    site.died.await.unwrap_err();
    let site = ruled(site.dir, deadband(2.0));
    site.values(&[13, 13]).await.unwrap();
    assert_eq!(site.of("n"), [10_i64, 13, 0, 1, 2, 3, 13].map(Value::from));
    let totals = site.totals().await;
    assert_eq!((totals.offered, totals.stored, totals.suppressed), (12, 9, 3));
}

#[tokio::test]
async fn a_value_of_a_transaction_that_failed_is_not_taken_for_reported() {
    for how in [FAIL, FAIL_ONE, FAIL_AT_COMMIT] {
        let site = ruled(tempfile::tempdir().unwrap(), deadband(0.5));
        site.values(&[1]).await.unwrap();
        let db = site.break_it(how);
        assert_eq!(site.values(&[5, 6]).await, Err(Refused::Failed), "{how}");
        // Nothing to insert: it is told that it is kept, for the platform has this value.
        site.values(&[1]).await.unwrap();
        db.execute_batch("DROP TRIGGER no_insert").unwrap();
        site.values(&[5, 6]).await.unwrap();
        assert_eq!(site.of("n"), [1_i64, 5, 6].map(Value::from), "{how}");
        let totals = site.totals().await;
        assert_eq!((totals.offered, totals.stored, totals.suppressed, totals.refused), (6, 3, 1, 2), "{how}");
    }
}

#[tokio::test]
async fn what_was_withheld_is_reported_by_the_timer_though_its_transaction_fails_at_first() {
    let rule = Rule { on_change: true, min_interval: Some(Duration::from_millis(100)), ..Rule::default() };
    let site = ruled(tempfile::tempdir().unwrap(), rule);
    let mut events = site.uplink().await;
    // The fourth row is the timer's.
    let db = site.break_it(&FAIL.replace("BEGIN", "WHEN (SELECT count(*) FROM outbox) = 3 BEGIN"));
    site.values(&[1, 2, 3]).await.unwrap();
    let lane = ready(&mut events).await;
    assert_eq!(rows(&site.store, &mut events, lane.id, 9).await.0.len(), 3);
    while site.store.figures().await.unwrap().fault.is_none() {}
    assert_eq!(site.of("n"), [Value::from(1_i64)]);
    db.execute_batch("DROP TRIGGER no_insert").unwrap();
    assert_eq!(ready(&mut events).await.id, lane.id);
    assert_eq!(site.of("n"), [1_i64, 3].map(Value::from));
    assert_eq!(site.of("x"), [2.0, 4.0, 6.0].map(Value::from));
    let totals = site.totals().await;
    assert_eq!((totals.offered, totals.stored, totals.suppressed, totals.refused), (4, 4, 0, 0));
    assert_eq!(site.reasons().await, [reason("offered(report)", 1)]);
}

#[tokio::test]
async fn what_leaves_does_not_wait_for_a_report_that_cannot_come_in() {
    let rule = Rule { on_change: true, min_interval: Some(Duration::from_millis(100)), ..Rule::default() };
    let site = ruled(tempfile::tempdir().unwrap(), rule);
    let mut events = site.uplink().await;
    site.values(&[1, 2, 3]).await.unwrap();
    let db = site.break_it(FAIL);
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    while site.store.figures().await.unwrap().fault.is_none() {}
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    while site.outbox() > 0 {
        tokio::task::yield_now().await;
    }
    db.execute_batch("DROP TRIGGER no_insert").unwrap();
    while site.of("n").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.of("n"), [Value::from(3_i64)]);
    let totals = site.totals().await;
    assert_eq!((totals.offered, totals.stored, totals.landed, totals.refused), (4, 4, 3, 0));
}

#[tokio::test]
async fn an_orderly_stop_reports_what_is_withheld() {
    let hour = Some(Duration::from_secs(3_600));
    for (rule, of, expected) in [
        (Rule { min_interval: hour, ..Rule::default() }, "n", [1_i64, 4].map(Value::from).to_vec()),
        (Rule { window: hour, ..Rule::default() }, "n.max", vec![Value::from(4_i64)]),
    ] {
        let site = ruled(tempfile::tempdir().unwrap(), rule);
        site.values(&[1, 2, 3, 4]).await.unwrap();
        site.store.stop().await.unwrap();
        site.died.await.unwrap_err();
        let site = ruled(site.dir, rule);
        assert_eq!(site.of(of), expected, "{rule:?}");
        let totals = site.totals().await;
        assert_eq!((totals.offered, totals.stored, totals.suppressed), (5, 5, 0), "x is stored of each");
        assert_eq!(site.reasons().await, [reason("offered(report)", 1)]);
    }
}

#[tokio::test]
async fn a_change_that_ends_rules_waits_until_there_is_room_for_what_they_withhold() {
    let rule = Rule { min_interval: Some(Duration::from_secs(3_600)), ..Rule::default() };
    let site = ruled(tempfile::tempdir().unwrap(), rule);
    for round in 0..16 {
        site.submit_large("b", round * 100..(round + 1) * 100).await.unwrap();
    }
    site.values(&[1, 2]).await.unwrap();
    let last = Value::from(2_i64);
    let refuse =
        |max_bytes| Limits { max_bytes, min_free: 0, when_full: WhenFull::Refuse, ..Limits::default() };
    let to = |a: Endpoint, max_bytes: u64| Change {
        limits: refuse(max_bytes),
        ..change::change(change::directory(&[a, endpoint("b")], &[]))
    };
    let same = Endpoint { report: ruled_report(rule), ..endpoint("a") };
    site.store.change(to(same, 1 << 20)).await.unwrap().unwrap();
    for _ in 0..2 {
        let fault = site.store.change(to(endpoint("a"), 1 << 20)).await.unwrap().unwrap_err();
        assert_eq!((fault.code, &*fault.place), ("TG-222", "store.max_bytes"));
        assert_eq!(site.values(&[3]).await, Err(Refused::Full));
        assert!(!site.of("n").contains(&last));
    }
    // Other rules and room for it at once.
    site.store.change(to(endpoint("a"), 64 << 20)).await.unwrap().unwrap();
    assert!(site.of("n").contains(&last));
    assert_eq!(site.reason("offered(report)").await, 1);
    site.totals().await;
}

#[tokio::test]
async fn what_the_rules_compute_is_shown_without_an_uplink_and_nothing_is_stored() {
    let window = Rule { window: Some(Duration::from_millis(20)), ..Rule::default() };
    let site = ruled_with(tempfile::tempdir().unwrap(), window, false);
    let shown = async |name: &str| {
        let latest = site.store.latest(EndpointName::new("a").unwrap(), Some(resource(name))).await.unwrap();
        latest.into_iter().map(|last| last.reading.value).next()
    };
    site.values(&[1, 5]).await.unwrap();
    assert_eq!((shown("n").await, shown("x").await), (Some(5_i64.into()), Some(10.0.into())));
    // By the timer.
    while shown("n.max").await.is_none() {}
    assert_eq!((shown("n.min").await, shown("n.mean").await), (Some(1_i64.into()), Some(3.0.into())));
    assert_eq!(site.outbox(), 0);
    let totals = site.totals().await;
    assert_eq!((totals.offered, totals.stored, totals.suppressed), (2, 0, 2));
    assert_eq!(site.reasons().await, [reason("suppressed(no_uplink)", 2)]);
}
