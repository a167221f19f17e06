//! The timetable of a connection against scripted devices, in virtual time; and the mutants it kills.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Instant {
    Instant::from_start(Duration::from_millis(ms))
}

fn name(n: usize) -> EndpointName {
    EndpointName::new(&format!("unit-{n:03}")).unwrap()
}

/// A connection with scripted devices: what was read when, and what the silent ones cost.
struct Bus {
    schedule: Schedule,
    now: Instant,
    answer: Duration,
    timeout: Duration,
    reads: BTreeMap<EndpointName, Vec<Instant>>,
    /// When each time-out began, and whose.
    silences: Vec<(Instant, EndpointName)>,
}

impl Bus {
    fn new(devices: usize, periods: &[Duration]) -> Self {
        let mut schedule = Schedule::default();
        for n in 0..devices {
            schedule.handle_device(at(0), &name(n), periods);
        }
        let (answer, timeout) = (Duration::from_millis(10), SECOND);
        Self { schedule, now: at(0), answer, timeout, reads: BTreeMap::new(), silences: Vec::new() }
    }

    fn run(&mut self, until: Instant, silent: impl Fn(Instant, &EndpointName) -> bool) {
        while let Some(wake) = self.schedule.poll_timeout().filter(|wake| *wake < until) {
            self.now = self.now.max(wake);
            let turn = self.schedule.poll_turn(self.now).expect("due at its time-out");
            if self.now >= until {
                return;
            }
            let start = self.now;
            if silent(start, &turn.endpoint) {
                self.now = self.now + self.timeout;
                self.silences.push((start, turn.endpoint.clone()));
                self.schedule.handle_silence(self.now, &turn, self.timeout, false);
            } else {
                self.now = self.now + self.answer;
                self.reads.entry(turn.endpoint.clone()).or_default().push(start);
                self.schedule.handle_answer(&turn);
            }
        }
    }

    fn reads(&self, n: usize) -> &[Instant] {
        self.reads.get(&name(n)).map_or(&[], Vec::as_slice)
    }
}

#[test]
fn missed_periods_are_left_out_and_the_grid_is_kept() {
    for (due, period, now, next) in [
        (0, 1_000, 10, 1_000),
        (0, 1_000, 999, 1_000),
        (0, 1_000, 1_000, 2_000),
        (0, 1_000, 7_350, 8_000),
        (250, 1_000, 7_350, 8_250),
        (0, 200, 1_010, 1_200),
    ] {
        let got = on_the_grid(at(due), Duration::from_millis(period), at(now));
        assert_eq!(got, at(next), "{due} + n * {period} after {now}");
    }
    let mut bus = Bus::new(1, &[SECOND]);
    bus.now = at(5_500);
    bus.run(at(10_000), |_, _| false);
    assert_eq!(bus.reads(0), [at(5_500), at(6_000), at(7_000), at(8_000), at(9_000)]);
}

#[test]
fn after_a_suspension_each_group_is_read_once_and_keeps_to_its_grid() {
    let mut bus = Bus::new(3, &[SECOND, Duration::from_secs(60)]);
    bus.run(at(5_500), |_, _| false);
    // A thousand periods in which nobody asks whose turn it is.
    let back = at(1_005_500);
    bus.now = back;
    bus.run(at(1_010_500), |_, _| false);
    for n in 0..3 {
        let reads: Vec<_> = bus.reads(n).iter().filter(|read| **read >= back).collect();
        // Both groups at once, and then the short one each second.
        assert_eq!(reads.len(), 2 + 5, "{n}: {reads:?}");
        assert!(*reads[2] >= at(1_006_000), "{n}: {reads:?}");
    }
}

#[test]
fn groups_keep_their_own_periods() {
    let mut bus = Bus::new(1, &[SECOND, Duration::from_secs(10)]);
    bus.run(at(20_000), |_, _| false);
    assert_eq!(bus.reads(0).len(), 20 + 2);
}

#[test]
fn an_overloaded_connection_is_shared_fairly() {
    let mut bus = Bus::new(10, &[SECOND]);
    bus.answer = Duration::from_millis(200);
    bus.run(at(100_000), |_, _| false);
    for n in 0..10 {
        assert!((49..=51).contains(&bus.reads(n).len()), "{n}: {}", bus.reads(n).len());
    }
}

/// One unit of ten is silent for 100 minutes; the others lose its time-outs and nothing else.
fn check_one_silent(timeout: Duration) {
    let mut bus = Bus::new(10, &[SECOND]);
    bus.timeout = timeout;
    let (silent, end) = (name(3), at(6_000_000));
    bus.run(end, |_, unit| *unit == silent);
    let calm = at(60_000);
    let spent = bus.silences.iter().filter(|(start, _)| *start >= calm).count();
    let allowed = end.since(calm).as_secs() / (50 * timeout.as_secs());
    assert!(u64::try_from(spent).unwrap() <= allowed + 1, "{spent} time-outs of {timeout:?} are over 2 %");
    assert!(spent >= 10, "it is still probed: {spent}");
    // A time-out, and the grid.
    let missed = bus.silences.len() * (usize::try_from(timeout.as_secs()).unwrap() + 1);
    for n in (0..10).filter(|n| *n != 3) {
        let reads = bus.reads(n);
        assert!(reads.len() + missed >= 6_000, "{n}: {} of 6000, {missed} may be missed", reads.len());
        let gap = reads.windows(2).map(|w| w[1].since(w[0])).max().unwrap();
        assert!(gap <= timeout + Duration::from_millis(1_200), "{n}: one time-out at a time, not {gap:?}");
    }
}

#[test]
fn a_silent_unit_of_ten_delays_the_others_by_its_timeouts_only() {
    check_one_silent(SECOND);
    check_one_silent(Duration::from_secs(5));
}

#[test]
fn many_silent_units_leave_four_fifths_of_the_time() {
    let mut bus = Bus::new(100, &[SECOND]);
    let live = name(99);
    bus.run(at(1_200_000), |_, unit| *unit != live);
    let calm = at(600_000);
    let spent = bus.silences.iter().filter(|(start, _)| *start >= calm).count();
    assert!(spent <= 121, "a fifth of 600 s are 120 time-outs, there were {spent}");
    let late = bus.reads(99).iter().filter(|start| **start >= calm).count();
    assert!(late >= 600 - spent, "{late}");
    let probed: std::collections::BTreeSet<_> = bus.silences.iter().rev().take(99).map(|s| &s.1).collect();
    assert_eq!(probed.len(), 99, "each in its turn");
}

#[test]
fn probes_double_from_ten_seconds_up_to_a_minute_where_nobody_else_is() {
    let mut bus = Bus::new(1, &[SECOND]);
    bus.run(at(400_000), |_, _| true);
    let starts: Vec<Instant> = bus.silences.iter().map(|s| s.0).collect();
    let gaps: Vec<u64> = starts.windows(2).map(|w| w[1].since(w[0]).as_secs()).collect();
    assert_eq!(gaps, [2, 3, 11, 11, 17, 33, 61, 61, 61, 61, 61]);
}

#[test]
fn a_unit_that_answers_again_is_read_as_before() {
    let mut bus = Bus::new(2, &[SECOND, Duration::from_secs(3_600)]);
    let back = at(100_000);
    bus.run(at(300_000), |now, unit| *unit == name(1) && now < back);
    let reads = bus.reads(1);
    assert!(reads[0] < at(160_000), "probed within a minute: {:?}", reads[0]);
    // Both groups at once, then the short one each second: no burst for what was missed.
    let expected = 2 + usize::try_from(at(300_000).since(reads[1]).as_secs()).unwrap();
    assert!(reads.len().abs_diff(expected) <= 1, "{} {expected}", reads.len());
    let hurried = reads.windows(2).skip(2).filter(|w| w[1].since(w[0]) < Duration::from_millis(900));
    assert_eq!(hurried.count(), 0);
}

#[test]
fn a_single_lost_answer_costs_a_second() {
    let mut bus = Bus::new(10, &[SECOND]);
    bus.run(at(20_000), |now, unit| *unit == name(0) && now == at(0));
    assert!(bus.reads(0)[0] <= at(2_100), "{:?}", bus.reads(0)[0]);
    assert_eq!(bus.silences.len(), 1);
}

#[test]
fn a_removed_device_is_not_read_and_a_host_that_returned_is() {
    let mut bus = Bus::new(2, &[SECOND]);
    bus.run(at(10_000), |_, _| true);
    bus.schedule.handle_return();
    bus.schedule.handle_removal(&name(0));
    let turn = bus.schedule.poll_turn(at(10_000)).unwrap();
    assert_eq!(turn.endpoint, name(1));
    bus.schedule.handle_removal(&name(1));
    assert_eq!(bus.schedule.poll_timeout(), None);
    bus.schedule.handle_answer(&turn);
    assert_eq!(bus.schedule.poll_turn(at(99_000)), None);
}

#[path = "line_sim.rs"]
mod line_sim;

fn a_held_device_waits() {
    let mut bus = Bus::new(2, &[SECOND]);
    bus.schedule.hold(&name(0), at(7_500));
    bus.run(at(10_000), |_, _| false);
    assert_eq!(bus.reads(0), [at(7_500), at(8_000), at(9_000)]);
    assert_eq!(bus.reads(1).len(), 10, "nobody else does");
}

#[test]
fn a_device_on_hold_is_not_asked_and_holds_nobody_up() {
    a_held_device_waits();
}

fn every_second_answer_costs_little() {
    let mut bus = Bus::new(10, &[SECOND]);
    let late = std::cell::Cell::new(false);
    bus.run(at(6_000_000), |_, unit| {
        late.set(late.get() ^ (*unit == name(3)));
        late.get() && *unit == name(3)
    });
    let calm = bus.silences.iter().filter(|(start, _)| *start >= at(600_000)).count();
    assert!(calm <= 5_400 / 50 + 1, "{calm} time-outs of a second are over 2 %");
    assert!(bus.reads(3).len() >= 100, "it is read all the same: {}", bus.reads(3).len());
}

#[test]
fn a_device_that_answers_every_second_time_costs_no_more_than_a_silent_one() {
    every_second_answer_costs_little();
}

#[test]
fn a_garbled_answer_costs_half_of_a_silence() {
    let mut schedule = Schedule::default();
    for n in 0..2 {
        schedule.handle_device(at(0), &name(n), &[SECOND]);
    }
    let (took, mut now, mut waits) = (Duration::from_millis(100), at(0), Vec::new());
    for _ in 0..7 {
        let turn = Turn { endpoint: name(0), group: 0, due: now, begun: now };
        schedule.handle_silence(now, &turn, took, true);
        let probe = schedule.devices[&name(0)].probe_at;
        waits.push(probe.since(now).as_secs());
        now = probe;
    }
    assert_eq!(waits, [1, 1, 1, 2, 2, 10, 10]);
}

/// A single unit whose reading takes longer than its period.
#[test]
fn a_line_with_more_to_do_than_it_can_is_never_idle() {
    for (answer, periods) in [(160, vec![20]), (160, vec![100, 150]), (70, vec![100, 100, 400])] {
        let periods: Vec<Duration> = periods.into_iter().map(Duration::from_millis).collect();
        let mut bus = Bus::new(1, &periods);
        bus.answer = Duration::from_millis(answer);
        bus.run(at(100_000), |_, _| false);
        let busy = bus.answer * u32::try_from(bus.reads(0).len()).unwrap();
        assert!(busy >= Duration::from_secs(99), "{answer} ms, {periods:?}: busy {busy:?} of 100 s");
    }
}

/// Ten units that need half of the time, and a tool that always has something more to ask.
fn a_tool_leaves_the_polls_their_share() {
    let mut bus = Bus::new(10, &[SECOND]);
    bus.answer = Duration::from_millis(50);
    let (inquiry, end, mut put) = (Duration::from_millis(700), at(600_000), 0);
    while bus.now < end {
        if bus.schedule.admits_outside(bus.now) {
            bus.now = bus.now + inquiry;
            bus.schedule.handle_outside(bus.now, inquiry);
            put += 1;
        } else {
            let turn = bus.schedule.poll_turn(bus.now).expect("behind, so due");
            bus.reads.entry(turn.endpoint.clone()).or_default().push(bus.now);
            bus.now = bus.now + bus.answer;
            bus.schedule.handle_answer(&turn);
        }
    }
    for n in 0..10 {
        assert!(bus.reads(n).len() >= 400, "unit {n}: {} of 600", bus.reads(n).len());
    }
    assert!(put >= 400, "the tool gets on: {put}");
}

#[test]
fn requests_from_outside_leave_the_polls_half_of_the_time() {
    a_tool_leaves_the_polls_their_share();
}

/// One of three groups has no answer.
fn a_silent_group_has_its_turn_and_no_more() {
    let mut schedule = Schedule::default();
    let (unit, mut now, mut turns) = (name(0), at(0), [0; 3]);
    schedule.handle_device(now, &unit, &[SECOND, 2 * SECOND, 3_600 * SECOND]);
    while now < at(600_000) {
        now = now.max(schedule.poll_timeout().unwrap());
        let turn = schedule.poll_turn(now).unwrap();
        turns[turn.group] += 1;
        now = now + Duration::from_millis(100);
        match turn.group {
            0 => schedule.handle_silence(now, &turn, Duration::from_millis(100), false),
            _ => schedule.handle_answer(&turn),
        }
        assert!(!schedule.is_away(&unit), "it answers now and then");
    }
    assert!(turns.iter().all(|turns| *turns > 5), "{turns:?}");
}

#[test]
fn a_group_without_an_answer_does_not_keep_the_others_from_being_read() {
    a_silent_group_has_its_turn_and_no_more();
}

#[test]
fn after_three_time_outs_a_device_is_away_until_it_answers() {
    let mut schedule = Schedule::default();
    schedule.handle_device(at(0), &name(0), &[SECOND]);
    let turn = schedule.poll_turn(at(0)).unwrap();
    for away in [false, false, true, true] {
        schedule.handle_silence(at(0), &turn, SECOND, false);
        assert_eq!(schedule.is_away(&name(0)), away);
    }
    schedule.handle_answer(&turn);
    assert!(!schedule.is_away(&name(0)));
}

#[test]
fn the_timetables_mutants_are_killed() {
    use crate::mutant::{Mutant as M, is_killed_by};
    let killers: [(M, &str, fn()); 10] = [
        (
            M::SameGroup,
            "a_group_without_an_answer_does_not_keep_the_others_from_being_read",
            a_silent_group_has_its_turn_and_no_more,
        ),
        (M::NoHold, "a_device_on_hold_is_not_asked_and_holds_nobody_up", a_held_device_waits),
        (
            M::FailuresKept,
            "a_unit_that_answers_again_is_read_as_before",
            a_unit_that_answers_again_is_read_as_before,
        ),
        (
            M::ScoreForgotten,
            "a_device_that_answers_every_second_time_costs_no_more_than_a_silent_one",
            every_second_answer_costs_little,
        ),
        (
            M::NoShare,
            "a_silent_unit_of_ten_delays_the_others_by_its_timeouts_only",
            a_silent_unit_of_ten_delays_the_others_by_its_timeouts_only,
        ),
        (
            M::NeverCalm,
            "probes_double_from_ten_seconds_up_to_a_minute_where_nobody_else_is",
            probes_double_from_ten_seconds_up_to_a_minute_where_nobody_else_is,
        ),
        (
            M::NoiseBlamed,
            "after_minutes_of_noise_all_are_read_within_two_cycles",
            line_sim::noise_ends_with_the_noise,
        ),
        (
            M::NoGrid,
            "missed_periods_are_left_out_and_the_grid_is_kept",
            missed_periods_are_left_out_and_the_grid_is_kept,
        ),
        (
            M::MissedMadeUp,
            "after_a_suspension_each_group_is_read_once_and_keeps_to_its_grid",
            after_a_suspension_each_group_is_read_once_and_keeps_to_its_grid,
        ),
        (
            M::OutsideFirst,
            "requests_from_outside_leave_the_polls_half_of_the_time",
            a_tool_leaves_the_polls_their_share,
        ),
    ];
    for (mutant, name, test) in killers {
        is_killed_by(mutant, name, test);
    }
}

#[test]
fn after_three_time_outs_probes_are_ten_seconds_apart_however_short_the_time_out() {
    for devices in [1, 10] {
        let mut bus = Bus::new(devices, &[SECOND]);
        bus.timeout = Duration::from_millis(50);
        bus.run(at(600_000), |_, unit| *unit == name(0));
        let starts: Vec<Instant> = bus.silences.iter().map(|silence| silence.0).collect();
        let apart: Vec<Duration> = starts.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        assert!(apart[1] < Duration::from_secs(3), "a single lost answer costs little: {apart:?}");
        assert!(apart[2..].iter().all(|apart| *apart >= Duration::from_secs(10)), "{devices}: {apart:?}");
        assert!(apart.iter().all(|apart| *apart <= Duration::from_secs(62)), "{devices}: {apart:?}");
    }
}
