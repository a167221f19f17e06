//! Rules that are best shown small. What holds in every order of things is shown by the simulation.

mod departure;
mod hang_up;
mod replay;

use super::*;
use crate::{dialect::Refusal, endpoints::Tenant, store::Class};
use adapter_api::{EndpointName, Source, Stamp};

const ONE: Size = Size { publishes: 1, bytes: 100 };
const MINUTE: u64 = 60_000;
/// Rows from this one on were dead letters before.
const AGAIN: i64 = 10_000;

/// An outflow with a store that answers at once.
struct Bench {
    outflow: Outflow,
    now: Instant,
    waiting: BTreeMap<LaneId, Vec<i64>>,
    landed: Vec<i64>,
    buried: Vec<i64>,
    untaken: Vec<FlightId>,
    /// Lanes that have fallen behind when they are next asked for.
    behind: Vec<i64>,
}

fn key(endpoint: &str) -> EndpointKey {
    EndpointKey { tenant: Tenant::default(), name: EndpointName::new(endpoint).unwrap() }
}

fn bench(replies: bool, lanes: &[(i64, &str)]) -> Bench {
    bench_with(pace(replies), lanes)
}

fn pace(replies: bool) -> Pace {
    Pace {
        confirm_timeout: Duration::from_secs(30),
        retry: (Duration::from_secs(5), Duration::from_secs(600)),
        probe: (Duration::from_secs(60), Duration::from_secs(3_600)),
        batch: 100,
        replies,
        replay: Replay::default(),
        limits: Limits::default(),
    }
}

fn bench_with(pace: Pace, lanes: &[(i64, &str)]) -> Bench {
    let outflow = Outflow::new(pace, Rng::with_seed(1));
    let mut bench = Bench {
        outflow,
        now: Instant::from_start(Duration::ZERO),
        waiting: BTreeMap::new(),
        landed: Vec::new(),
        buried: Vec::new(),
        untaken: Vec::new(),
        behind: Vec::new(),
    };
    bench.outflow.handle_connected(bench.now);
    for (lane, endpoint) in lanes {
        bench.waiting.insert(LaneId(*lane), Vec::new());
        let info =
            LaneInfo { id: LaneId(*lane), endpoint: key(endpoint), class: Class::Telemetry, seq: *lane };
        bench.outflow.handle_ready(info);
        bench.outflow.handle_open(&key(endpoint));
    }
    bench.store();
    bench
}

impl Bench {
    fn commit(&mut self, lane: i64, endpoint: &str, rows: impl IntoIterator<Item = i64>) {
        self.waiting.get_mut(&LaneId(lane)).unwrap().extend(rows);
        let info = LaneInfo { id: LaneId(lane), endpoint: key(endpoint), class: Class::Telemetry, seq: lane };
        self.outflow.handle_ready(info);
    }

    /// Answers what outflow wishes; proofs are taken by `take`.
    fn store(&mut self) {
        while let Some(wish) = self.outflow.poll_wish(self.now) {
            match wish {
                Wish::Next { lane, live_age: Some(_), .. } if self.behind.contains(&lane.0) => {
                    self.behind.retain(|behind| *behind != lane.0);
                    let known = &self.outflow.lanes[&lane].info;
                    let info = LaneInfo { class: Class::Backlog, ..known.clone() };
                    self.outflow.handle_behind(&info);
                }
                Wish::Next { lane, max_rows, .. } => {
                    let waiting = self.waiting.get_mut(&lane).unwrap();
                    let sample =
                        Sample { at: Stamp::Wall { us: 0, source: Source::Gateway }, readings: Vec::new() };
                    let rows = waiting.drain(..max_rows.min(waiting.len())).map(|id| Row {
                        id: RowId(id),
                        sample: sample.clone(),
                        again: id >= AGAIN,
                    });
                    let rows: Vec<Row> = rows.collect();
                    let more = !waiting.is_empty();
                    self.outflow.handle_rows(self.now, lane, rows, Vec::new(), more);
                }
                Wish::Land(landed) => {
                    self.landed.extend(landed.rows().iter().map(|row| row.0));
                    self.untaken.push(landed.flight());
                }
                Wish::Bury(buried) => {
                    self.buried.push(buried.row().0);
                    self.untaken.push(buried.flight());
                }
                Wish::Release { lane, rows } => {
                    let waiting = self.waiting.get_mut(&lane).unwrap();
                    waiting.extend(rows.iter().map(|row| row.0));
                    waiting.sort_unstable();
                }
            }
        }
    }

    fn take(&mut self) {
        while !self.untaken.is_empty() {
            std::mem::take(&mut self.untaken)
                .into_iter()
                .for_each(|flight| self.outflow.handle_taken(flight));
            self.store();
        }
    }

    /// Launches what may fly: each part with the rows it holds.
    fn launch(&mut self) -> Vec<(PartId, Vec<i64>)> {
        self.store();
        self.take();
        let mut launched = Vec::new();
        while let Some((flight, _, _)) = self.outflow.poll_part(self.now) {
            let rows: Vec<i64> = self.outflow.rows(flight).iter().map(|row| row.id.0).collect();
            let part = self.outflow.launch(self.now, flight, rows.len(), ONE).unwrap();
            launched.push((part, rows));
            self.store();
        }
        launched
    }

    fn wait(&mut self, ms: u64) -> usize {
        self.now = self.now + Duration::from_millis(ms);
        self.outflow.handle_timeout(self.now)
    }

    /// The platform refuses each part that holds one of these and takes all others, until nothing flies.
    fn refuse(&mut self, poison: &[i64]) {
        for _ in 0..1_000 {
            let parts = self.launch();
            if parts.is_empty() {
                return;
            }
            for (part, rows) in parts {
                if rows.iter().any(|row| poison.contains(row)) {
                    self.outflow.handle_refused(self.now, part, &Refusal::Item, "400 no");
                } else {
                    self.outflow.handle_delivered(self.now, part);
                }
            }
        }
        panic!("it does not end");
    }
}

#[test]
fn who_leaves_takes_nobody_along_and_flies_again_when_it_is_back() {
    let mut bench = bench(false, &[(1, "a"), (2, "b")]);
    bench.commit(1, "a", 1..=3);
    bench.commit(2, "b", 4..=6);
    let parts = bench.launch();
    assert_eq!(parts.len(), 2);
    bench.outflow.handle_left(bench.now, &key("a"));
    bench.store();
    for (part, _) in &parts {
        bench.outflow.handle_delivered(bench.now, *part);
    }
    bench.store();
    assert_eq!((&bench.landed, &bench.waiting[&LaneId(1)]), (&vec![4, 5, 6], &vec![1, 2, 3]));
    assert_eq!(bench.outflow.air(), Size::default());
    // It is back, and may fly when its replies can reach us.
    bench.commit(1, "a", []);
    assert!(bench.launch().is_empty());
    bench.outflow.handle_open(&key("a"));
    let parts = bench.launch();
    assert_eq!(parts[0].1, [1, 2, 3]);
    bench.outflow.handle_delivered(bench.now, parts[0].0);
    bench.store();
    assert_eq!(bench.landed, [4, 5, 6, 1, 2, 3]);
}

/// Rows in memory and parts in the air at most, while so many lanes with a row a part drain over a fast link.
fn drained(lanes: i64) -> (usize, usize) {
    let names: Vec<String> = (0..lanes).map(|lane| format!("e{lane}")).collect();
    let known: Vec<(i64, &str)> = (0..lanes).zip(names.iter().map(String::as_str)).collect();
    let mut bench = bench_with(Pace { batch: 1, ..pace(false) }, &known);
    for (lane, name) in &known {
        bench.commit(*lane, name, lane * 1_000..lane * 1_000 + 500);
    }
    let (mut most, mut air) = (0, 0);
    for _ in 0..100 {
        let parts = bench.launch();
        most = most.max(bench.outflow.flights.values().map(|flight| flight.unsent.len()).sum());
        air = air.max(bench.outflow.air().publishes);
        bench.wait(5);
        parts.iter().for_each(|(part, _)| assert!(bench.outflow.handle_delivered(bench.now, *part)));
    }
    (most, air)
}

#[test]
fn of_many_lanes_few_rows_each_are_read_ahead_and_of_few_lanes_many() {
    let (most, air) = drained(1_000);
    assert_eq!(air, 256, "the window is open");
    assert!(most <= 256 * LEAST, "{most} rows in memory");
    let (most, air) = drained(4);
    assert!(most <= 4 * PIPELINE && air >= 3 * PIPELINE, "{most} in memory, {air} in the air");
}

#[test]
fn a_lane_that_becomes_anothers_comes_back_and_flies_for_that_one() {
    let mut bench = bench(false, &[(1, "a"), (2, "b")]);
    bench.commit(2, "b", 4..=6);
    let before = bench.launch()[0].0;
    let info = LaneInfo { id: LaneId(2), endpoint: key("a"), class: Class::Backlog, seq: -1 };
    bench.outflow.handle_renamed(bench.now, &info);
    bench.outflow.handle_ready(info);
    bench.outflow.handle_left(bench.now, &key("b"));
    assert!(!bench.outflow.handle_delivered(bench.now, before), "its old flight is no more");
    let after = bench.launch();
    assert_eq!(after[0].1, [4, 5, 6]);
    bench.outflow.handle_delivered(bench.now, after[0].0);
    bench.store();
    assert_eq!(bench.landed, [4, 5, 6]);
}

#[test]
fn a_poison_row_is_buried_alone() {
    let mut bench = bench(true, &[(1, "a")]);
    bench.commit(1, "a", 0..100);
    bench.refuse(&[37]);
    assert_eq!(bench.buried, [37]);
    assert_eq!(bench.landed, (0..100).filter(|row| *row != 37).collect::<Vec<_>>());
    assert_eq!(bench.outflow.parked().count(), 0);
}

#[test]
fn three_refused_single_rows_park_the_endpoint() {
    let mut bench = bench(true, &[(1, "a")]);
    bench.commit(1, "a", 0..10);
    bench.refuse(&[3, 4, 5]);
    assert_eq!(bench.buried, [3, 4], "the third says that something else is wrong");
    assert_eq!(bench.landed, [0, 1, 2]);
    assert_eq!(bench.outflow.parked().count(), 1);
}

#[test]
fn a_run_of_bad_rows_is_given_up_one_row_a_probe() {
    let mut bench = bench(true, &[(1, "a"), (2, "b")]);
    let run = [3, 4, 5, 6, 7];
    bench.commit(1, "a", 0..20);
    bench.refuse(&run);
    assert_eq!(bench.buried, [3, 4], "then it is parked");
    for given_up in 5..=7 {
        assert!(bench.launch().is_empty(), "not before its probe");
        // The shortest interval: a row each minute, not each hour.
        bench.wait(MINUTE);
        bench.refuse(&run);
        assert_eq!(bench.buried, (3..=given_up).collect::<Vec<_>>());
        assert_eq!(bench.outflow.parked().count(), 1);
    }
    bench.wait(MINUTE);
    bench.refuse(&run);
    assert_eq!(bench.buried, run);
    assert_eq!(bench.landed, (0..20).filter(|row| !run.contains(row)).collect::<Vec<_>>(), "in order");
    assert_eq!(bench.outflow.parked().count(), 0);
}

#[test]
fn a_run_of_bad_rows_is_given_up_an_hour_apart_where_others_are_refused_too() {
    let mut bench = bench(true, &[(1, "a"), (2, "b"), (3, "c")]);
    let run = [0, 1, 2, 3, 4];
    bench.commit(1, "a", 0..20);
    bench.refuse(&run);
    assert_eq!(bench.buried, [0, 1]);
    bench.commit(2, "b", [100]);
    bench.commit(3, "c", [101]);
    let mut probes = 0;
    while bench.buried.len() < 4 {
        for (part, rows) in bench.launch() {
            probes += usize::from(rows[0] < 100);
            let (refusal, code) =
                if rows[0] < 100 { (Refusal::Item, "400 no") } else { (Refusal::Endpoint, "404 no") };
            bench.outflow.handle_refused(bench.now, part, &refusal, code);
        }
        bench.store();
        // Each probe once, whatever its interval has grown to.
        bench.wait(60 * MINUTE);
        assert!(probes < 20, "the endpoint would be mute for ever (I4)");
    }
    // 1, 2, 4, 8, 16 and 32 minutes after it was parked, and then each hour: two rows.
    assert_eq!((bench.buried, probes), (vec![0, 1, 2, 3], 7));
}

#[test]
fn bad_heads_of_three_lanes_park_nothing() {
    let mut bench = bench(true, &[(1, "a"), (2, "a"), (3, "a")]);
    (1..=3).for_each(|lane| bench.commit(lane, "a", [10 * lane, 10 * lane + 1]));
    bench.refuse(&[10, 20, 30]);
    bench.landed.sort_unstable();
    assert_eq!((bench.buried, bench.landed), (vec![10, 20, 30], vec![11, 21, 31]));
}

#[test]
fn a_late_ack_deletes_nothing() {
    let mut bench = bench(false, &[(1, "a")]);
    bench.commit(1, "a", 0..3);
    let (part, rows) = bench.launch().remove(0);
    bench.outflow.handle_disconnected(bench.now);
    assert!(!bench.outflow.handle_delivered(bench.now, part));
    bench.store();
    assert!(bench.landed.is_empty());
    bench.outflow.handle_connected(bench.now);
    bench.outflow.handle_open(&key("a"));
    let again = bench.launch();
    assert_eq!(again.iter().map(|(_, rows)| rows).collect::<Vec<_>>(), [&rows]);
    assert!(bench.outflow.handle_delivered(bench.now, again[0].0));
    assert!(!bench.outflow.handle_delivered(bench.now, again[0].0), "a confirmation counts once");
    bench.store();
    assert_eq!(bench.landed, rows);
}

#[test]
fn a_lane_is_free_when_the_store_has_taken_its_rows() {
    let mut bench = bench(true, &[(1, "a")]);
    bench.commit(1, "a", 0..200);
    let (part, _) = bench.launch().remove(0);
    bench.outflow.handle_delivered(bench.now, part);
    bench.store();
    assert!(bench.outflow.poll_part(bench.now).is_none(), "landed, not yet taken");
    assert_eq!(bench.launch()[0].1, (100..200).collect::<Vec<_>>());
}

#[test]
fn rows_that_come_for_a_parked_endpoint_go_back() {
    let mut bench = bench(true, &[(1, "a"), (2, "a")]);
    bench.commit(1, "a", 0..3);
    let (part, _) = bench.launch().remove(0);
    bench.commit(2, "a", 5..9);
    let asked = bench.outflow.poll_wish(bench.now);
    assert!(matches!(asked, Some(Wish::Next { lane: LaneId(2), .. })));
    bench.outflow.handle_refused(bench.now, part, &Refusal::Endpoint, "404 no");
    let sample = Sample { at: Stamp::Wall { us: 0, source: Source::Gateway }, readings: Vec::new() };
    bench.outflow.handle_rows(
        bench.now,
        LaneId(2),
        vec![Row { id: RowId(5), sample, again: false }],
        Vec::new(),
        true,
    );
    assert!(bench.launch().is_empty());
}

#[test]
fn a_parked_endpoint_is_probed_with_one_row_and_its_lanes_take_turns() {
    let mut bench = bench(true, &[(1, "a"), (2, "a")]);
    bench.commit(1, "a", 0..50);
    bench.commit(2, "a", 50..99);
    let parts = bench.launch();
    parts.iter().for_each(|(part, _)| {
        _ = bench.outflow.handle_refused(bench.now, *part, &Refusal::Endpoint, "404 no");
    });
    assert!(bench.launch().is_empty());
    let mut probed: Vec<i64> = Vec::new();
    for _ in 0..4 {
        bench.wait(60 * MINUTE);
        let parts = bench.launch();
        assert_eq!(parts.len(), 1);
        probed.extend(&parts[0].1);
        bench.outflow.handle_refused(bench.now, parts[0].0, &Refusal::Endpoint, "404 no");
        assert!(bench.launch().is_empty(), "not at once again");
    }
    assert_eq!(probed, [0, 50, 0, 50]);
    bench.wait(60 * MINUTE);
    bench.refuse(&[]);
    assert_eq!(bench.landed.len(), 99, "a success ends it");
}

#[test]
fn a_probe_that_finds_nothing_goes_to_the_next_lane() {
    let mut bench = bench(true, &[(1, "a"), (2, "a")]);
    bench.commit(1, "a", 0..5);
    bench.commit(2, "a", 5..9);
    let parts = bench.launch();
    parts.iter().for_each(|(part, _)| {
        _ = bench.outflow.handle_refused(bench.now, *part, &Refusal::Endpoint, "404 no");
    });
    bench.store();
    // The quota has taken them all.
    bench.waiting.get_mut(&LaneId(1)).unwrap().clear();
    bench.wait(60 * MINUTE);
    assert_eq!(bench.launch()[0].1, [5]);
}

#[test]
fn five_missed_replies_park_and_a_mute_endpoint_does_not_hold_the_window() {
    let mut bench = bench(true, &[(1, "mute"), (2, "well")]);
    bench.commit(1, "mute", 0..5);
    for _ in 0..5 {
        assert_eq!(bench.outflow.parked().count(), 0);
        let (part, _) = bench.launch().remove(0);
        bench.outflow.handle_reply_due(bench.now, part);
        bench.wait(2_000);
        assert_eq!(bench.outflow.air(), Size::default());
        assert_eq!(bench.wait(28_000), 1);
        assert!(bench.launch().is_empty(), "not at once again");
        if bench.outflow.parked().count() == 0 {
            bench.wait(10 * MINUTE);
        }
    }
    assert_eq!(bench.outflow.parked().count(), 1);
    bench.commit(2, "well", 5..9);
    bench.refuse(&[]);
    assert_eq!(bench.landed, [5, 6, 7, 8]);
}

#[test]
fn a_refused_filter_is_asked_for_again() {
    let mut bench = bench(true, &[(1, "a")]);
    bench.outflow.handle_closed(bench.now, &key("a"), "the broker refused the subscription");
    bench.commit(1, "a", 0..3);
    assert!(bench.launch().is_empty() && bench.outflow.poll_unheard().is_none());
    bench.wait(60 * MINUTE);
    assert_eq!(bench.outflow.poll_unheard(), Some(key("a")));
    assert!(bench.launch().is_empty());
    bench.outflow.handle_open(&key("a"));
    bench.refuse(&[]);
    assert_eq!(bench.landed, [0, 1, 2]);
}

#[test]
fn while_more_than_half_are_parked_nothing_is_buried() {
    let mut bench = bench(true, &[(1, "a"), (2, "b"), (3, "c")]);
    (1..=3).for_each(|lane| bench.commit(lane, ["a", "b", "c"][usize::try_from(lane).unwrap() - 1], [lane]));
    let parts = bench.launch();
    for (part, _) in &parts[..2] {
        bench.outflow.handle_refused(bench.now, *part, &Refusal::Endpoint, "404 no");
    }
    assert!(bench.outflow.is_degraded(bench.now));
    bench.outflow.handle_refused(bench.now, parts[2].0, &Refusal::Item, "400 no");
    bench.store();
    assert!(bench.buried.is_empty() && bench.outflow.parked().count() == 3);
    bench.wait(59 * MINUTE);
    assert!(bench.outflow.is_degraded(bench.now), "it stays so while nobody flies");
}

#[test]
fn i4_dead_letters_that_are_refused_again_go_back_and_mute_nobody() {
    let mut bench = bench(true, &[(1, "a")]);
    bench.commit(1, "a", (AGAIN..AGAIN + 20).chain(0..3));
    let again: Vec<i64> = (AGAIN..AGAIN + 20).collect();
    bench.refuse(&again);
    assert_eq!(bench.buried, again);
    assert_eq!(bench.landed, [0, 1, 2]);
    assert_eq!(bench.outflow.parked().count(), 0);
}

#[test]
fn a_dead_letter_that_is_refused_again_as_a_probe_frees_its_endpoint_and_where_all_are_refused_it_does_not() {
    for others in [0, 2] {
        let mut bench = bench(true, &[(1, "a"), (2, "b"), (3, "c")]);
        let names = ["a", "b", "c"];
        (1..=3).for_each(|lane| {
            let row = if lane == 1 { AGAIN } else { lane };
            bench.commit(lane, names[usize::try_from(lane).unwrap() - 1], [row]);
        });
        let parts = bench.launch();
        for (part, rows) in &parts {
            if rows[0] == AGAIN || usize::try_from(rows[0]).unwrap() - 2 < others {
                bench.outflow.handle_refused(bench.now, *part, &Refusal::Endpoint, "404 no");
            } else {
                bench.outflow.handle_delivered(bench.now, *part);
            }
        }
        bench.store();
        assert_eq!(bench.outflow.parked().count(), 1 + others);
        bench.wait(61 * MINUTE);
        let parts = bench.launch();
        let (part, _) = parts.iter().find(|(_, rows)| rows == &[AGAIN]).unwrap();
        bench.outflow.handle_refused(bench.now, *part, &Refusal::Item, "400 no");
        bench.store();
        assert_eq!(bench.buried, [AGAIN]);
        assert_eq!(bench.outflow.parked().count(), if others == 0 { 0 } else { 3 });
    }
}

#[test]
fn two_lives_of_a_session_have_no_flight_in_common() {
    let bench = || bench(true, &[(1, "a")]);
    let launch = |mut bench: Bench| {
        bench.commit(1, "a", [1]);
        let parts = bench.launch();
        parts[0].0.flight
    };
    assert_ne!(launch(bench()), launch(bench()));
}
