//! Which group of which device is read when, on one connection. Sans-IO.
//!
//! Every group keeps to its own grid: the next reading is due a whole number of periods after the
//! last one, in the future; what was missed is left out. Of what is due, the longest overdue goes
//! first. A silent device is probed by one of its groups, ever more rarely, so that the devices
//! beside it keep their share of the connection (I8).

use adapter_api::{EndpointName, Instant};
use std::{collections::BTreeMap, time::Duration};

/// Between the first failure and the first probe.
const FIRST_PROBE: Duration = Duration::from_secs(1);
/// Probes of one device are at most this far apart, if its time-outs are short.
const SLOWEST_PROBE: Duration = Duration::from_secs(60);
/// From this failure on, the probes of one device may take a 50th of the connection's time: 2 %.
const CALM_AFTER: u32 = 3;
const CALM_SHARE: u32 = 50;
/// The probes of all silent devices may take half of the time at first, a fifth of it later.
const PROBES_SHARE: u32 = 2;
const CALM_PROBES_SHARE: u32 = 5;
/// Polls with long periods are behind after this.
const BEHIND: Duration = Duration::from_secs(1);

/// The timetable of one connection.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    devices: BTreeMap<EndpointName, Device>,
    /// Before this instant no device is probed while another one answers.
    probes_from: Option<Instant>,
    /// What the last request from outside took from the polls, until they had it back.
    outside: Option<Debt>,
}

/// Bus time that polls gave to a request from outside.
#[derive(Debug)]
struct Debt {
    until: Instant,
    /// One has gone since.
    polled: bool,
}

/// One group that is to be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Whose.
    pub endpoint: EndpointName,
    /// Which of its groups.
    pub group: usize,
    /// When it was due.
    due: Instant,
}

#[derive(Debug)]
struct Device {
    groups: Vec<Group>,
    /// In a row.
    failures: u32,
    probe_at: Instant,
    /// Not read before, whatever is due.
    held_until: Instant,
}

#[derive(Debug)]
struct Group {
    period: Duration,
    due: Instant,
}

impl Schedule {
    /// A device that is new or has changed; all its groups are due at once.
    pub(crate) fn handle_device(&mut self, now: Instant, endpoint: &EndpointName, periods: &[Duration]) {
        let groups = periods.iter().map(|period| Group { period: *period, due: now }).collect();
        self.devices.insert(endpoint.clone(), Device { groups, failures: 0, probe_at: now, held_until: now });
    }

    /// A device that is gone.
    pub(crate) fn handle_removal(&mut self, endpoint: &EndpointName) {
        self.devices.remove(endpoint);
    }

    /// The group was read.
    pub(crate) fn handle_answer(&mut self, now: Instant, turn: &Turn) {
        self.polled();
        let Some(device) = self.devices.get_mut(&turn.endpoint) else { return };
        device.failures = 0;
        if let Some(group) = device.groups.get_mut(turn.group) {
            group.due = on_the_grid(turn.due, group.period, now);
        }
    }

    /// The device gave no usable answer; finding that out took so long.
    pub(crate) fn handle_silence(&mut self, now: Instant, turn: &Turn, took: Duration) {
        self.polled();
        let alone = self.devices.len() == 1;
        let Some(device) = self.devices.get_mut(&turn.endpoint) else { return };
        device.failures = device.failures.saturating_add(1);
        let doublings = device.failures.saturating_sub(1).min(16);
        let mut wait = FIRST_PROBE.saturating_mul(1 << doublings).min(SLOWEST_PROBE);
        let mut share = PROBES_SHARE;
        if device.failures >= CALM_AFTER && !alone {
            wait = wait.max(took.saturating_mul(CALM_SHARE - 1));
            share = CALM_PROBES_SHARE;
        }
        device.probe_at = now + wait;
        self.probes_from = Some(now + took.saturating_mul(share - 1));
    }

    /// A request from outside was answered or not; that took so long.
    pub(crate) fn handle_outside(&mut self, now: Instant, took: Duration) {
        self.outside = Some(Debt { until: now + took, polled: false });
    }

    /// Whether a request from outside may go before what is due: polls that are behind get a turn, and
    /// as much time, after each.
    pub(crate) fn admits_outside(&self, now: Instant) -> bool {
        let paid = self.outside.as_ref().is_none_or(|debt| debt.polled && debt.until <= now);
        paid || !self.is_behind(now)
    }

    /// Whether a poll that may go now is later than its own period, or a second.
    fn is_behind(&self, now: Instant) -> bool {
        let behind = |device: &Device| {
            let late = |group: &Group| group.due + group.period.min(BEHIND) < now;
            device.failures == 0 && device.held_until <= now && device.groups.iter().any(late)
        };
        self.devices.values().any(behind)
    }

    /// A device that may not be asked before.
    pub(crate) fn hold(&mut self, endpoint: &EndpointName, until: Instant) {
        if let Some(device) = self.devices.get_mut(endpoint) {
            device.held_until = until;
        }
    }

    /// The host came back: nothing is known about its devices, so all are as good as answering.
    pub(crate) fn handle_return(&mut self) {
        for device in self.devices.values_mut() {
            device.failures = 0;
        }
    }

    /// What is to be read now.
    pub(crate) fn poll_turn(&self, now: Instant) -> Option<Turn> {
        self.first().filter(|(at, _)| *at <= now).map(|(_, turn)| turn)
    }

    /// When there is something to be read.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    fn polled(&mut self) {
        if let Some(debt) = &mut self.outside {
            debt.polled = true;
        }
    }

    fn first(&self) -> Option<(Instant, Turn)> {
        // With nobody answering there is nobody to protect.
        let gate = self.probes_from.filter(|_| self.devices.values().any(|d| d.failures == 0));
        let turns = self.devices.iter().filter_map(|(endpoint, device)| {
            let (group, due) = device.first()?;
            // The gate makes the same instant of many probes; the longest overdue is still the first.
            let wanted = if device.failures == 0 { due } else { device.probe_at };
            let at = if device.failures == 0 { due } else { wanted.max(gate.unwrap_or(wanted)) };
            Some((at.max(device.held_until), wanted, Turn { endpoint: endpoint.clone(), group, due }))
        });
        turns.min_by_key(|(at, wanted, _)| (*at, *wanted)).map(|(at, _, turn)| (at, turn))
    }
}

impl Device {
    fn first(&self) -> Option<(usize, Instant)> {
        self.groups.iter().enumerate().map(|(n, group)| (n, group.due)).min_by_key(|(_, due)| *due)
    }
}

/// The first point of the grid through `due` that lies behind `now`.
fn on_the_grid(due: Instant, period: Duration, now: Instant) -> Instant {
    let late = now.since(due).as_nanos().checked_rem(period.as_nanos()).unwrap_or_default();
    let late = u64::try_from(late).map_or(Duration::ZERO, Duration::from_nanos);
    now + period.saturating_sub(late)
}

#[cfg(test)]
mod tests {
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
                    self.schedule.handle_silence(self.now, &turn, self.timeout);
                } else {
                    self.now = self.now + self.answer;
                    self.reads.entry(turn.endpoint.clone()).or_default().push(start);
                    self.schedule.handle_answer(self.now, &turn);
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
        assert!(
            u64::try_from(spent).unwrap() <= allowed + 1,
            "{spent} time-outs of {timeout:?} are over 2 %"
        );
        assert!(spent >= 10, "it is still probed: {spent}");
        // A time-out, and the grid.
        let missed = bus.silences.len() * (usize::try_from(timeout.as_secs()).unwrap() + 1);
        for n in (0..10).filter(|n| *n != 3) {
            let reads = bus.reads(n);
            assert!(reads.len() + missed >= 6_000, "{n}: {} of 6000, {missed} may be missed", reads.len());
            let gap = reads.windows(2).map(|w| w[1].since(w[0])).max().unwrap();
            assert!(
                gap <= timeout + Duration::from_millis(1_200),
                "{n}: one time-out at a time, not {gap:?}"
            );
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
        let probed: std::collections::BTreeSet<_> =
            bus.silences.iter().rev().take(99).map(|s| &s.1).collect();
        assert_eq!(probed.len(), 99, "each in its turn");
    }

    #[test]
    fn probes_double_up_to_a_minute_where_nobody_else_is() {
        let mut bus = Bus::new(1, &[SECOND]);
        bus.run(at(400_000), |_, _| true);
        let starts: Vec<Instant> = bus.silences.iter().map(|s| s.0).collect();
        let gaps: Vec<u64> = starts.windows(2).map(|w| w[1].since(w[0]).as_secs()).collect();
        assert_eq!(gaps, [2, 3, 5, 9, 17, 33, 61, 61, 61, 61, 61]);
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
        bus.schedule.handle_answer(at(10_000), &turn);
        assert_eq!(bus.schedule.poll_turn(at(99_000)), None);
    }
}
