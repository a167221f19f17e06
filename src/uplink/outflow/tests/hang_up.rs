//! A broker that hangs up on what it does not like.

use super::*;

/// A bench between a gateway and a broker that takes parts in order.
struct Wire {
    bench: Bench,
    endpoints: Vec<&'static str>,
    /// What was told of each time the broker hung up.
    told: Vec<bool>,
}

impl Wire {
    fn new(batch: usize, lanes: &[(i64, &'static str)]) -> Self {
        let endpoints = lanes.iter().map(|(_, endpoint)| *endpoint).collect();
        Self { bench: bench_with(Pace { batch, ..pace(false) }, lanes), endpoints, told: Vec::new() }
    }

    /// All that flies now flies, until nothing more does or the broker hangs up on a part. Whether it does.
    fn fly(&mut self, hates: &dyn Fn(&[i64]) -> bool) -> bool {
        loop {
            let parts = self.bench.launch();
            if parts.is_empty() {
                return false;
            }
            for (part, rows) in parts {
                if hates(&rows) {
                    self.hang_up();
                    return true;
                }
                self.bench.outflow.handle_delivered(self.bench.now, part);
            }
        }
    }

    /// The broker hangs up, and lets us in again a second later.
    fn hang_up(&mut self) {
        self.told.push(self.bench.outflow.handle_hang_up(self.bench.now));
        self.reconnect();
    }

    fn reconnect(&mut self) {
        self.bench.outflow.handle_disconnected(self.bench.now);
        self.bench.store();
        self.bench.take();
        self.bench.wait(1_000);
        self.bench.outflow.handle_connected(self.bench.now);
        self.endpoints.iter().for_each(|endpoint| self.bench.outflow.handle_open(&key(endpoint)));
    }

    /// For so many seconds; how often the broker hangs up.
    fn run(&mut self, seconds: u64, hates: &dyn Fn(&[i64]) -> bool) -> usize {
        let (before, until) = (self.told.len(), self.bench.now + Duration::from_secs(seconds));
        while self.bench.now < until {
            if !self.fly(hates) {
                self.bench.wait(1_000);
            }
        }
        self.told.len() - before
    }

    fn landed(&self, rows: std::ops::Range<i64>) -> Vec<i64> {
        self.bench.landed.iter().copied().filter(|row| rows.contains(row)).collect()
    }

    fn parked(&self) -> Vec<String> {
        self.bench.outflow.parked().map(|(endpoint, _)| endpoint.name.to_string()).collect()
    }
}

/// Of the endpoint whose rows are 100 to 199.
fn forbidden(rows: &[i64]) -> bool {
    rows.iter().any(|row| (100..200).contains(row))
}

fn anything(_: &[i64]) -> bool {
    true
}

fn nothing(_: &[i64]) -> bool {
    false
}

/// Three endpoints with twenty rows each, of which the broker forbids one.
fn site(bad: &'static str, others: [&'static str; 2]) -> Wire {
    let mut names = [bad, others[0], others[1]];
    names.sort_unstable();
    let lanes: Vec<(i64, &'static str)> = (1..).zip(names).collect();
    let mut wire = Wire::new(1, &lanes);
    for (lane, name) in lanes {
        let first = if name == bad { 100 } else { 200 + 100 * lane };
        wire.bench.commit(lane, name, first..first + 20);
    }
    wire
}

#[test]
fn who_is_forbidden_to_publish_is_parked_and_mutes_nobody() {
    // Wherever it stands in the line.
    for (bad, others) in [("a", ["m", "z"]), ("m", ["a", "z"]), ("z", ["a", "m"])] {
        let mut wire = site(bad, others);
        assert_eq!(wire.run(40, &forbidden), 4, "{bad}: twice beside others, twice alone");
        assert_eq!(wire.told, [false, false, true, true], "{bad}: though others deliver");
        assert_eq!(wire.parked(), [bad]);
        assert_eq!(wire.landed(200..1_000).len(), 40, "{bad}: all others");
        assert_eq!((wire.landed(100..200), &wire.bench.buried), (vec![], &vec![]), "{bad}");
        // Allowed again: in order, and nothing is missing.
        assert_eq!(wire.run(120, &nothing), 0);
        assert_eq!(wire.landed(100..200), (100..120).collect::<Vec<_>>());
        assert!(wire.parked().is_empty() && !wire.bench.outflow.flies_alone(LaneId(1)));
    }
}

#[test]
fn others_go_first_on_a_connection_that_may_end_soon() {
    let mut wire = site("a", ["m", "z"]);
    assert!(wire.fly(&forbidden) && wire.fly(&forbidden), "beside others");
    assert!(wire.landed(200..1_000).is_empty(), "all fly behind it");
    // All were in the air twice: in line, each alone.
    let parts = wire.bench.launch();
    assert_eq!((parts.len(), &parts[0].1), (1, &vec![100]));
    wire.hang_up();
    assert!(!wire.fly(&forbidden), "nothing of it is in the air");
    assert_eq!(wire.landed(200..1_000).len(), 40);
    wire.bench.wait(9_000);
    assert!(wire.bench.launch().is_empty());
    wire.bench.wait(1_000);
    assert!(wire.fly(&forbidden));
    assert_eq!(wire.parked(), ["a"]);
}

#[test]
fn who_waited_for_others_and_lost_its_turn_need_not_wait_again() {
    let mut wire = site("a", ["m", "z"]);
    (0..3).for_each(|_| assert!(wire.fly(&forbidden)));
    // These connections break before it is its turn, and others never come to an end.
    for connection in 0..20 {
        wire.bench.commit(2, "m", [5_000 + connection]);
        wire.fly(&nothing);
        wire.reconnect();
    }
    assert_eq!(wire.landed(100..200).len(), 20);
}

#[test]
fn a_probe_flies_alone_and_costs_one_connection() {
    let mut wire = site("a", ["m", "z"]);
    wire.run(40, &forbidden);
    assert_eq!(wire.parked(), ["a"]);
    // 1, 2, 4, 8, 16 and 32 minutes after each other, and then each hour; jitter may halve that.
    let mut row = 1_000;
    let mut hung_up = 0;
    for _ in 0..6 * 60 {
        wire.bench.commit(2, "m", row..row + 10);
        wire.bench.commit(3, "z", row + 10..row + 20);
        row += 20;
        hung_up += wire.run(60, &forbidden);
    }
    assert!((7..=20).contains(&hung_up), "{hung_up} in six hours");
    wire.run(20, &forbidden);
    assert_eq!(wire.landed(1_000..row).len(), usize::try_from(row - 1_000).unwrap(), "all of the others");
    assert_eq!((wire.parked(), wire.bench.buried), (vec!["a".to_owned()], vec![]));
}

#[test]
fn what_is_too_large_for_the_broker_is_halved_and_stays_so_for_a_while() {
    let too_large = |rows: &[i64]| rows.len() > 30;
    let mut wire = Wire::new(100, &[(1, "a"), (2, "b")]);
    wire.bench.commit(1, "a", 0..400);
    wire.bench.commit(2, "b", 1_000..1_005);
    assert_eq!(wire.run(60, &too_large), 5, "four for the first half, and one for the next");
    assert_eq!(wire.landed(0..400), (0..400).collect::<Vec<_>>());
    assert!(wire.parked().is_empty());
    wire.bench.commit(1, "a", 400..900);
    assert_eq!(wire.run(60, &too_large), 0, "no more than that at once");
    // An hour later twice as much is tried.
    wire.bench.wait(60 * MINUTE);
    wire.bench.commit(1, "a", 2_000..2_400);
    wire.run(10, &nothing);
    wire.bench.commit(1, "a", 2_400..2_800);
    let most = wire.bench.launch().iter().map(|(_, rows)| rows.len()).max();
    assert_eq!(most, Some(50));
}

#[test]
fn one_row_that_is_too_large_parks_and_is_not_given_up() {
    let mut wire = Wire::new(100, &[(1, "a"), (2, "b")]);
    wire.bench.commit(1, "a", 100..200);
    wire.bench.commit(2, "b", [1]);
    wire.run(200, &|rows| rows.contains(&150));
    assert_eq!((wire.parked(), wire.landed(0..100)), (vec!["a".to_owned()], vec![1]));
    assert_eq!(wire.landed(100..200), (100..150).collect::<Vec<_>>());
    assert!(wire.bench.buried.is_empty());
    assert!(wire.bench.waiting[&LaneId(1)].starts_with(&[150]));
}

#[test]
fn connections_that_end_by_chance_park_nobody() {
    let mut wire = Wire::new(10, &[(1, "a"), (2, "b")]);
    for round in 0..50 {
        wire.bench.commit(1, "a", 100 * round..100 * round + 5);
        assert!(wire.fly(&anything), "alone in the air");
        if round % 2 == 0 {
            // The next one breaks on the way.
            wire.bench.launch();
            wire.reconnect();
        }
        wire.fly(&nothing);
    }
    assert_eq!(wire.told, [false; 50]);
    assert_eq!((wire.parked(), wire.bench.landed.len()), (vec![], 250));
}

#[test]
fn what_was_noted_is_forgotten_with_the_row_the_lane_and_the_token() {
    let mut wire = Wire::new(1, &[(1, "a"), (2, "b")]);
    let twice = |wire: &mut Wire| {
        wire.bench.commit(1, "a", [1, 2]);
        wire.bench.commit(2, "b", [11]);
        assert!(wire.fly(&anything) && wire.fly(&anything));
        assert!(wire.bench.outflow.flies_alone(LaneId(1)));
    };
    twice(&mut wire);
    // The quota takes the row.
    wire.bench.waiting.insert(LaneId(1), vec![2]);
    wire.bench.waiting.insert(LaneId(2), vec![]);
    assert!(wire.fly(&anything));
    assert!(!wire.bench.outflow.flies_alone(LaneId(1)), "another row is another matter");
    wire.fly(&nothing);
    twice(&mut wire);
    wire.bench.outflow.handle_shut(wire.bench.now, &key("a"));
    assert!(!wire.bench.outflow.flies_alone(LaneId(1)));
    wire.bench.outflow.handle_open(&key("a"));
    wire.fly(&nothing);
    twice(&mut wire);
    wire.bench.outflow.handle_left(wire.bench.now, &key("a"));
    assert!(!wire.bench.outflow.flies_alone(LaneId(1)));
}
