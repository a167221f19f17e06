//! Live rows and backlog, limits, and that lanes fly in turn.

use super::*;
use crate::uplink::pacing::Order;

fn live_first(replies: bool) -> Pace {
    let replay = Replay { order: Order::LiveFirst, ..Replay::default() };
    Pace { replay, ..pace(replies) }
}

/// Which of these are backlog rows: everything under a million.
fn is_backlog(rows: &[i64]) -> bool {
    rows.iter().all(|row| *row < 1_000_000)
}

impl Bench {
    /// A link that takes this long for each part confirms them one after the other; a live row is
    /// committed every second at most, once the one before has landed. Returns how many parts were confirmed between a live row's commit and its
    /// confirmation, at most, and how many were in the air at most.
    fn serve(&mut self, live: i64, endpoint: &str, part_ms: u64, parts: usize) -> (usize, usize) {
        let mut air: VecDeque<(PartId, Vec<i64>)> = VecDeque::new();
        let (mut committed, mut next, mut due) = (BTreeMap::new(), 1_000_000, self.now);
        let (mut longest, mut widest) = (0, 0);
        for served in 0..parts {
            if self.now >= due && committed.is_empty() {
                self.commit(live, endpoint, [next]);
                committed.insert(next, served);
                (next, due) = (next + 1, self.now + Duration::from_secs(1));
            }
            air.extend(self.launch());
            widest = widest.max(air.len());
            self.wait(part_ms);
            let Some((part, rows)) = air.pop_front() else { continue };
            for row in &rows {
                longest = longest.max(committed.remove(row).map_or(0, |since| served - since));
            }
            self.outflow.handle_delivered(self.now, part);
        }
        longest = longest.max(committed.values().map(|since| parts - since).max().unwrap_or_default());
        (longest, widest)
    }
}

#[test]
fn a_hundred_thousand_rows_hold_another_endpoint_up_by_a_round_of_the_window_at_most() {
    for (order, replies) in
        [(Order::InOrder, false), (Order::LiveFirst, false), (Order::InOrder, true), (Order::LiveFirst, true)]
    {
        let mut pace = live_first(replies);
        (pace.replay.order, pace.batch) = (order, 5);
        let mut bench = bench_with(pace, &[(1, "a"), (2, "b")]);
        bench.behind = vec![1];
        bench.commit(1, "a", 0..100_000);
        let (longest, widest) = bench.serve(2, "b", 20, 2_000);
        assert!(longest <= widest, "{order:?}: {longest} parts, {widest} in the air");
        assert!(bench.landed.iter().filter(|row| **row < 1_000_000).count() > 5_000, "and they go on");
    }
}

#[test]
fn beside_live_rows_backlog_has_its_share_of_the_window_and_alone_all_of_it() {
    let mut lanes: Vec<(i64, String)> = (2..=41).map(|n| (n, format!("b{n}"))).collect();
    lanes.push((1, "live".into()));
    let lanes: Vec<(i64, &str)> = lanes.iter().map(|(n, name)| (*n, name.as_str())).collect();
    let mut bench = bench_with(live_first(true), &lanes);
    for (lane, name) in lanes.iter().filter(|(lane, _)| *lane > 1) {
        bench.behind.push(*lane);
        bench.commit(*lane, name, lane * 1_000..lane * 1_000 + 500);
    }
    assert_eq!(bench.launch().len(), 4, "live rows may come");
    bench.outflow.handle_disconnected(bench.now);
    bench.outflow.handle_connected(bench.now);
    bench.commit(1, "live", [1_000_000]);
    lanes.iter().for_each(|(_, name)| bench.outflow.handle_open(&key(name)));
    let parts = bench.launch();
    assert_eq!(parts[0].1, [1_000_000], "live rows first");
    assert_eq!(parts.iter().filter(|(_, rows)| is_backlog(rows)).count(), 4, "half of 8");
    bench.outflow.handle_delivered(bench.now, parts[0].0);
    assert_eq!(bench.launch().len(), 0, "the rest is kept for live rows");
    let mut air = parts[1..].to_vec();
    for second in 1..=12 {
        bench.wait(1_000);
        air.iter().for_each(|(part, _)| _ = bench.outflow.handle_delivered(bench.now, *part));
        air = bench.launch();
        // Live rows have not come for ten seconds.
        let window = bench.outflow.window.publishes().min(40);
        let (least, most) = if second < 10 { (1, window / 2) } else { (window, window) };
        assert!((least..=most).contains(&air.len()), "second {second}: {} of {window}", air.len());
    }
}

#[test]
fn an_endpoints_backlog_lanes_fly_one_at_a_time_and_the_oldest_first() {
    let mut bench = bench_with(live_first(true), &[(1, "a"), (2, "a"), (3, "a")]);
    bench.behind = vec![1, 2];
    bench.commit(1, "a", 0..150);
    bench.commit(2, "a", 200..250);
    bench.commit(3, "a", [1_000_000]);
    let rows = |parts: &[(PartId, Vec<i64>)]| parts.iter().map(|(_, rows)| rows[0]).collect::<Vec<_>>();
    let parts = bench.launch();
    assert_eq!(rows(&parts), [1_000_000, 0]);
    assert_eq!(bench.outflow.phase_of(LaneId(2)), "waits for an earlier lane");
    bench.outflow.handle_delivered(bench.now, parts[1].0);
    let parts = bench.launch();
    assert_eq!(rows(&parts), [100]);
    bench.outflow.handle_delivered(bench.now, parts[0].0);
    bench.store();
    assert!(bench.outflow.poll_part(bench.now).is_none(), "its rows are on the books yet");
    assert_eq!(rows(&bench.launch()), [200]);
    // The store has deleted the first: nothing of it is kept.
    bench.outflow.handle_drained(LaneId(1));
    assert_eq!(bench.outflow.lanes.len(), 2);
}

#[test]
fn a_probe_goes_to_the_backlog_whose_turn_it_is() {
    let mut bench = bench_with(live_first(true), &[(1, "a"), (2, "a")]);
    bench.behind = vec![1, 2];
    bench.commit(1, "a", 0..150);
    bench.commit(2, "a", 200..250);
    let (part, _) = bench.launch().remove(0);
    bench.outflow.handle_refused(bench.now, part, &Refusal::Endpoint, "404 no");
    for _ in 0..3 {
        bench.wait(60 * MINUTE);
        let parts = bench.launch();
        assert_eq!(parts.iter().map(|(_, rows)| rows.clone()).collect::<Vec<_>>(), [[0]]);
        bench.outflow.handle_refused(bench.now, parts[0].0, &Refusal::Endpoint, "404 no");
    }
    bench.wait(60 * MINUTE);
    bench.refuse(&[]);
    assert_eq!(bench.landed, (0..150).chain(200..250).collect::<Vec<_>>());
}

#[test]
fn in_order_an_old_backlog_flies_before_the_live_rows_behind_it() {
    let mut bench = bench_with(live_first(true), &[(1, "a"), (2, "a")]);
    bench.behind = vec![1];
    bench.commit(1, "a", 0..150);
    bench.launch();
    // The order is changed: another life.
    bench.outflow.pace.replay.order = Order::InOrder;
    bench.outflow.handle_disconnected(bench.now);
    bench.outflow.handle_connected(bench.now);
    bench.store();
    bench.commit(2, "a", [1_000_000]);
    bench.outflow.handle_open(&key("a"));
    bench.refuse(&[]);
    assert_eq!(bench.landed, (0..150).chain([1_000_000]).collect::<Vec<_>>());
}

#[test]
fn backlog_goes_no_faster_than_its_limit_and_live_rows_do_not_wait_for_it() {
    let mut pace = live_first(false);
    (pace.replay.max_rate, pace.batch) = (Some(20), 10);
    let mut bench = bench_with(pace, &[(1, "a"), (2, "b")]);
    bench.behind = vec![1];
    bench.commit(1, "a", 0..1_000);
    let (longest, _) = bench.serve(2, "b", 50, 20 * 20);
    assert!(longest <= 2, "{longest}");
    let backlog = bench.landed.iter().filter(|row| **row < 1_000_000).count();
    assert!((380..=430).contains(&backlog), "{backlog} in 20 s");
}

#[test]
fn control_goes_first_under_a_limit() {
    let mut pace = pace(true);
    pace.limits.messages_per_s = Some(1);
    let mut bench = bench_with(pace, &[(1, "a"), (2, "b")]);
    let control = LaneInfo { id: LaneId(3), endpoint: key("b"), class: Class::Control, seq: 0 };
    bench.commit(1, "a", 0..200);
    bench.commit(2, "b", 200..400);
    let first = bench.launch();
    assert_eq!(first.len(), 1, "one a second");
    bench.waiting.insert(LaneId(3), vec![7_000]);
    bench.outflow.handle_ready(control);
    assert!(bench.launch().is_empty());
    let due = bench.outflow.poll_timeout().expect("it goes on by itself");
    assert!(due > bench.now, "it would turn without an end");
    bench.now = due;
    bench.outflow.handle_timeout(bench.now);
    let next = bench.launch();
    assert_eq!(next.iter().map(|(_, rows)| rows.clone()).collect::<Vec<_>>(), [[7_000]]);
}
