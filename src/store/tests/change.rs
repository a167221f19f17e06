//! Endpoints that come, go and are called otherwise while the store is open.

use super::*;
use crate::shape::report::Report;

/// As the configuration has it: those that are, and `former>present` names.
pub(super) fn directory(endpoints: &[Endpoint], former: &[(&str, &str)]) -> Arc<Directory> {
    let name = |name: &str| EndpointName::new(name).unwrap();
    let former = former.iter().map(|(a, b)| (name(a), name(b)));
    Arc::new(Directory::new(endpoints.to_vec()).formerly(former))
}

pub(super) fn change(directory: Arc<Directory>) -> Change {
    Change {
        directory,
        uplink: true,
        device_time: DeviceTime::default(),
        commit_within: Duration::from_millis(50),
        limits: Limits::default(),
    }
}

impl Site {
    async fn apply(&self, endpoints: &[Endpoint], former: &[(&str, &str)]) {
        self.store.change(change(directory(endpoints, former))).await.unwrap().unwrap();
    }

    async fn carry(&self, endpoints: &[&str]) {
        let endpoints = endpoints.iter().map(|name| endpoint(name).key).collect();
        self.store.ask(Command::Carry { session: SessionKey(None), endpoints }).await.unwrap();
    }

    /// Queued rows by endpoint.
    async fn queued(&self) -> BTreeMap<String, usize> {
        let mut queued = BTreeMap::new();
        for (lane, rows) in self.store.queue().await.unwrap() {
            *queued.entry(lane.endpoint.to_string()).or_default() += rows;
        }
        queued.retain(|_, rows| *rows > 0);
        queued
    }

    async fn read(&self, endpoint: &str) -> Vec<i64> {
        let name = EndpointName::new(endpoint).unwrap();
        let values = self.store.latest(name, None).await.unwrap();
        values.iter().map(|last| if let Value::Int(n) = last.reading.value { n } else { -1 }).collect()
    }
}

fn counted(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect()
}

#[tokio::test]
async fn an_endpoint_comes_and_goes_and_its_rows_wait_for_it() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("b", 0..3).await.unwrap();
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 2).await;
    assert_eq!(numbers(&flying), [0, 1]);
    // It leaves with two rows in the air; the uplink gives them back or not, and is told nothing more.
    site.apply(&[endpoint("a")], &[]).await;
    site.carry(&["a"]).await;
    assert_eq!(site.submit("b", 3..4).await, Err(Refused::Unknown));
    assert_eq!(site.queued().await, counted(&[("b", 3)]));
    // It comes back: all of them, in order.
    site.apply(&[endpoint("a"), endpoint("b")], &[]).await;
    site.carry(&["a", "b"]).await;
    assert_eq!(ready(&mut events).await.id, lane.id);
    let (flying, more) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!((numbers(&flying), more), (vec![0, 1, 2], false));
    site.submit("b", 4..5).await.unwrap();
    assert_eq!(ready(&mut events).await.id, lane.id);
    site.totals().await;
}

#[tokio::test]
async fn who_stays_notices_nothing() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("a", 0..3).await.unwrap();
    let lane = ready(&mut events).await;
    let (flying, _) = rows(&site.store, &mut events, lane.id, 2).await;
    site.apply(&[endpoint("a"), endpoint("c")], &[]).await;
    site.carry(&["a", "c"]).await;
    site.store.ask(Command::Landed(testing::landed(&lane, ids(&flying)))).await.unwrap();
    assert!(matches!(events.recv().await.unwrap(), Event::Taken(_)), "what was in the air lands");
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(numbers(&flying), [2], "and is not handed out again");
}

#[tokio::test]
async fn what_is_queued_and_known_goes_along_with_a_name() {
    let site = site();
    let mut events = site.uplink().await;
    site.submit("b", 0..3).await.unwrap();
    let lane = ready(&mut events).await;
    site.apply(&[endpoint("a"), endpoint("c")], &[("b", "c"), ("older", "c")]).await;
    assert_eq!(site.queued().await, counted(&[("c", 3)]));
    assert_eq!((site.read("b").await, site.read("c").await), (vec![], vec![2]));
    // An adapter that has not heard of it yet hands in by the former name.
    site.submit("b", 3..4).await.unwrap();
    site.submit("c", 4..5).await.unwrap();
    assert_eq!(site.queued().await, counted(&[("c", 5)]));
    site.carry(&["a", "c"]).await;
    let renamed = ready(&mut events).await;
    assert_eq!((renamed.id, renamed.endpoint.to_string()), (lane.id, "c".to_owned()));
    let (flying, _) = rows(&site.store, &mut events, lane.id, 9).await;
    assert_eq!(numbers(&flying), [0, 1, 2, 3, 4]);
    site.totals().await;
    // The next start finds it so.
    let dir = site.dir.path().to_owned();
    site.store.stop().await.unwrap();
    let db = rusqlite::Connection::open(database(&dir)).unwrap();
    let names: String =
        db.query_row("SELECT group_concat(DISTINCT endpoint) FROM lane", [], |row| row.get(0)).unwrap();
    assert_eq!(names, "c");
}

#[tokio::test]
async fn a_name_that_has_rows_already_gets_the_others_before_them() {
    let site = site();
    site.submit("b", 0..2).await.unwrap();
    site.submit("a", 2..4).await.unwrap();
    site.apply(&[endpoint("a")], &[("b", "a")]).await;
    assert_eq!(site.queued().await, counted(&[("a", 4)]));
    assert_eq!(site.read("a").await, [3], "what was known by the name stays");
    let mut events = site.uplink().await;
    let (first, second) = (ready(&mut events).await, ready(&mut events).await);
    assert_eq!((first.class, second.class), (Class::Backlog, Class::Telemetry));
    assert!(first.seq < second.seq);
    assert_eq!(numbers(&rows(&site.store, &mut events, first.id, 9).await.0), [0, 1]);
    assert_eq!(numbers(&rows(&site.store, &mut events, second.id, 9).await.0), [2, 3]);
    site.totals().await;
}

#[tokio::test]
async fn names_change_at_the_start_as_well() {
    let site = site();
    site.submit("b", 0..2).await.unwrap();
    site.store.stop().await.unwrap();
    site.died.await.unwrap_err();
    let directory = directory(&[endpoint("c")], &[("b", "c")]);
    let options = Options {
        dir: site.dir.path().to_owned(),
        commit_within: Duration::from_millis(50),
        max_sample_bytes: 1_000,
        boot_id: "boot-1".into(),
        limits: Limits::default(),
    };
    let (store, died) = open(&options, &directory, Shape::new(directory.clone(), true)).unwrap();
    let site = Site { dir: site.dir, store, died };
    assert_eq!(site.queued().await, counted(&[("c", 2)]));
    assert_eq!(site.read("c").await, [1]);
}

/// Another program has the file.
fn lock(site: &Site) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    db
}

#[tokio::test]
async fn what_an_endpoint_handed_in_last_is_taken_though_it_leaves_before_the_store_looks() {
    let site = site();
    let intake = site.store.intake().await.unwrap();
    let submit = async |name: &str| {
        let name = EndpointName::new(name).unwrap();
        intake.submit(&name, vec![sample(1)], Urgency::Urgent).await.unwrap()
    };
    let db = lock(&site);
    let first = submit("a").await;
    let last = submit("b").await;
    let removed = change(directory(&[endpoint("a")], &[]));
    let (changed, ()) = tokio::join!(site.store.change(removed), async {
        tokio::task::yield_now().await;
        db.execute_batch("COMMIT").unwrap();
    });
    changed.unwrap().unwrap();
    first.committed().await.unwrap();
    last.committed().await.unwrap();
    assert_eq!(site.queued().await, counted(&[("a", 1), ("b", 1)]));
    assert_eq!(site.submit("b", 2..3).await, Err(Refused::Unknown));
}

#[tokio::test]
async fn a_change_that_cannot_be_written_changes_nothing() {
    let site = site();
    let intake = site.store.intake().await.unwrap();
    let db = lock(&site);
    let b = EndpointName::new("b").unwrap();
    let last = intake.submit(&b, vec![sample(1)], Urgency::Relaxed).await.unwrap();
    site.store.change(change(directory(&[endpoint("a")], &[]))).await.unwrap().unwrap_err();
    db.execute_batch("COMMIT").unwrap();
    last.committed().await.unwrap();
    site.submit("b", 2..3).await.unwrap();
    site.apply(&[endpoint("a")], &[]).await;
    assert_eq!(site.queued().await, counted(&[("b", 2)]));
    site.totals().await;
}

#[tokio::test]
async fn names_that_cannot_change_at_the_start_do_not_keep_the_store_closed() {
    let site = site();
    site.submit("b", 0..2).await.unwrap();
    site.store.stop().await.unwrap();
    site.died.await.unwrap_err();
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    db.execute_batch(
        "CREATE TRIGGER no BEFORE UPDATE OF endpoint ON lane BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .unwrap();
    let renamed = directory(&[endpoint("c")], &[("b", "c")]);
    let options = Options {
        dir: site.dir.path().to_owned(),
        commit_within: Duration::from_millis(50),
        max_sample_bytes: 1_000,
        boot_id: "boot-1".into(),
        limits: Limits::default(),
    };
    let (store, died) = open(&options, &renamed, Shape::new(renamed.clone(), true)).unwrap();
    let site = Site { dir: site.dir, store, died };
    assert_eq!(site.queued().await, counted(&[("b", 2)]), "kept, and of nobody");
    site.store.change(change(renamed.clone())).await.unwrap().unwrap_err();
    assert_eq!(site.queued().await, counted(&[("b", 2)]));
    db.execute_batch("DROP TRIGGER no").unwrap();
    site.store.change(change(renamed)).await.unwrap().unwrap();
    assert_eq!(site.queued().await, counted(&[("c", 2)]));
    site.totals().await;
}

#[tokio::test]
async fn rules_that_stay_keep_what_they_know_and_those_that_end_report_it() {
    let site = site();
    let rule = crate::shape::report::Rule { on_change: true, ..Default::default() };
    let on_change = Arc::new(Report::new(rule, BTreeMap::new(), []));
    let with = |name: &str| Endpoint { report: Some(on_change.clone()), ..endpoint(name) };
    site.apply(&[with("a"), with("b")], &[]).await;
    let same = || sample(7);
    let submit = async |name: &str| {
        let intake = site.store.intake().await.unwrap();
        let name = EndpointName::new(name).unwrap();
        intake.submit(&name, vec![same()], Urgency::Urgent).await.unwrap().committed().await.unwrap();
    };
    submit("a").await;
    submit("b").await;
    // `a` stays as it is beside one that is new; `b` is called otherwise; then `a` has no rules any more.
    site.apply(&[with("a"), with("c"), endpoint("d")], &[("b", "c")]).await;
    submit("a").await;
    submit("c").await;
    assert_eq!(site.queued().await, counted(&[("a", 1), ("c", 1)]), "unchanged is not reported again");
    site.apply(&[endpoint("a"), with("c")], &[("b", "c")]).await;
    submit("a").await;
    submit("c").await;
    assert_eq!(site.queued().await, counted(&[("a", 2), ("c", 1)]));
}

#[tokio::test]
async fn of_two_endpoints_that_become_one_neither_loses_what_a_rule_withholds() {
    let site = site();
    let rule =
        crate::shape::report::Rule { min_interval: Some(Duration::from_secs(3_600)), ..Default::default() };
    let seldom = Arc::new(Report::new(rule, BTreeMap::new(), []));
    let with = |name: &str| Endpoint { report: Some(seldom.clone()), ..endpoint(name) };
    site.apply(&[with("a"), with("b")], &[]).await;
    for n in [1, 2] {
        site.submit("a", n..n + 1).await.unwrap();
        site.submit("b", n + 10..n + 11).await.unwrap();
    }
    assert_eq!(site.queued().await, counted(&[("a", 1), ("b", 1)]), "the second of each is withheld");
    site.apply(&[with("b")], &[("a", "b")]).await;
    assert_eq!(site.queued().await, counted(&[("b", 3)]), "the one that ends is reported");
    site.apply(&[endpoint("b")], &[]).await;
    assert_eq!(site.queued().await, counted(&[("b", 4)]), "the other was still known");
    site.totals().await;
}

#[tokio::test]
async fn limits_change_while_it_is_open() {
    let site = site();
    let quotas = Quotas { samples_per_s: Some(1), ..Quotas::default() };
    let limited = Endpoint { quotas, ..endpoint("a") };
    site.apply(&[limited.clone(), endpoint("b")], &[]).await;
    site.submit("a", 0..10).await.unwrap();
    let over = Err(Refused::OverQuota(adapter_api::Quota::SamplesPerS));
    assert_eq!(site.submit("a", 10..20).await, over);
    // Another endpoint comes: what `a` has taken stays taken.
    site.apply(&[limited, endpoint("c")], &[]).await;
    assert_eq!(site.submit("a", 10..20).await, over);
    site.apply(&[endpoint("a")], &[]).await;
    site.submit("a", 10..20).await.unwrap();
    site.totals().await;
}

/// An endpoint of a tenant: `tenant/name`, or `name` of the default one.
fn of(key: &str) -> Endpoint {
    match key.split_once('/') {
        None => endpoint(key),
        Some((tenant, name)) => {
            let mut endpoint = endpoint(name);
            endpoint.key.tenant = crate::endpoints::Tenant::new(&EndpointName::new(tenant).unwrap());
            endpoint
        }
    }
}

#[tokio::test]
async fn what_is_queued_goes_where_the_directory_says_and_nowhere_else() {
    use crate::endpoints::Fate;
    // Those there are, each with samples; those there are then, and former names.
    type Names<'a> = &'a [(&'a str, &'a str)];
    let table: [(&[&str], &[&str], Names<'_>); 8] = [
        (&["a", "b"], &["a"], &[]),
        (&["a", "b"], &["a", "c"], &[("b", "c")]),
        (&["a", "b"], &["a"], &[("b", "a")]),
        (&["a", "b", "d"], &["c"], &[("a", "c"), ("b", "c"), ("d", "c")]),
        (&["x/b", "a"], &["c", "a"], &[("b", "c")]),
        (&["x/b", "a"], &["x/c", "a"], &[("b", "c")]),
        (&["b"], &["x/b"], &[]),
        (&["a", "b"], &["b", "c"], &[("a", "c")]),
    ];
    for (before, after, former) in table {
        let site = site();
        let (old, new): (Vec<Endpoint>, Vec<Endpoint>) =
            (before.iter().map(|key| of(key)).collect(), after.iter().map(|key| of(key)).collect());
        site.apply(&old, &[]).await;
        let mut expected = BTreeMap::new();
        let directory = directory(&new, former);
        for (endpoint, rows) in old.iter().zip(1..) {
            site.submit(endpoint.key.name.as_str(), 0..rows).await.unwrap();
            let owner = match directory.fate(&endpoint.key) {
                Fate::Goes(present) => present,
                Fate::Stays | Fate::Orphaned => endpoint.key.clone(),
            };
            *expected.entry(owner.to_string()).or_default() += usize::try_from(rows).unwrap();
        }
        site.store.change(change(directory)).await.unwrap().unwrap();
        assert_eq!(site.queued().await, expected, "{before:?} -> {after:?} {former:?}");
        site.totals().await;
    }
}

#[tokio::test]
async fn several_names_become_one_in_one_transaction_or_not_at_all() {
    let site = site();
    let all = ["a", "b", "d"].map(endpoint);
    site.apply(&all, &[]).await;
    for (name, n) in [("b", 0), ("d", 10), ("a", 20)] {
        site.submit(name, n..n + 2).await.unwrap();
    }
    let three = counted(&[("a", 2), ("b", 2), ("d", 2)]);
    assert_eq!(site.queued().await, three);
    // The last of them cannot be written.
    let db = rusqlite::Connection::open(database(site.dir.path())).unwrap();
    db.execute_batch(
        "CREATE TRIGGER no BEFORE UPDATE OF endpoint ON lane WHEN OLD.endpoint = 'd' \
         BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .unwrap();
    let one = directory(&[endpoint("a")], &[("b", "a"), ("d", "a")]);
    site.store.change(change(one.clone())).await.unwrap().unwrap_err();
    assert_eq!(site.queued().await, three, "none of them");
    let names = "SELECT group_concat(DISTINCT endpoint) FROM lane";
    let names: String = db.query_row(names, [], |row| row.get(0)).unwrap();
    assert_eq!(names.split(',').count(), 3, "on disk neither: {names}");
    let submitted = site.submit("b", 2..3).await;
    assert_eq!(submitted, Ok(()), "it goes on under its name");
    db.execute_batch("DROP TRIGGER no").unwrap();
    site.store.change(change(one)).await.unwrap().unwrap();
    assert_eq!(site.queued().await, counted(&[("a", 7)]));
    // Each endpoint's own order is kept.
    let mut events = site.uplink().await;
    let lanes = [ready(&mut events).await, ready(&mut events).await, ready(&mut events).await];
    let mut flown = Vec::new();
    for lane in lanes {
        flown.extend(numbers(&rows(&site.store, &mut events, lane.id, 9).await.0));
    }
    assert_eq!(flown, [10, 11, 0, 1, 2, 20, 21]);
    site.totals().await;
}
