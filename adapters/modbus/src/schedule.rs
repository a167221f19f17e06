//! Which group of which device is read when, on one connection. Sans-IO.
//!
//! Every group keeps to its own grid: the next reading is due a whole number of periods after the
//! last one, behind its beginning; what was missed is left out. Of what is due, the longest overdue goes
//! first. A silent device is probed by one of its groups, ever more rarely, so that the devices
//! beside it keep their share of the connection (I8). One that answers now and then is no better: each
//! time-out counts for two answers.

use crate::mutant::{self, Mutant};
use adapter_api::{EndpointName, Instant};
use std::{collections::BTreeMap, time::Duration};

/// Between the first failure and the first probe.
const FIRST_PROBE: Duration = Duration::from_secs(1);
/// Probes of one device are at most this far apart, if its time-outs are short.
const SLOWEST_PROBE: Duration = Duration::from_secs(60);
/// What a failure counts: where bytes came it may have been the line's, and costs the device half as much.
const SILENT: u32 = 2;
const GARBLED: u32 = 1;
/// From three time-outs on, the probes of one device may take a 50th of the connection's time: 2 %.
const CALM_AFTER: u32 = 3 * SILENT;
const CALM_SHARE: u32 = 50;
/// And come at least so far apart.
const CALM_PROBE: Duration = Duration::from_secs(10);
/// On a line where others are garbled as well, only so many failures in a row make a device silent.
const SILENT_IN_NOISE: u32 = 20;
/// Such a line is one on which a quarter of the devices are garbled, and at least two.
const NOISY_SHARE: usize = 4;
/// More is not remembered of a device.
const WORST: u32 = 7 * SILENT;
/// The probes of all silent devices may take half of the time at first, a fifth of it later.
const PROBES_SHARE: u32 = 2;
const CALM_PROBES_SHARE: u32 = 5;

/// The timetable of one connection.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    devices: BTreeMap<EndpointName, Device>,
    /// Before this instant no device is probed while another one answers.
    probes_from: Option<Instant>,
    /// What the last request from outside took from the polls.
    outside: Option<Debt>,
}

/// Bus time to be given back to the polls.
#[derive(Debug)]
struct Debt {
    until: Instant,
    /// One has come to its end since.
    polled: bool,
}

/// One group that is to be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Whose.
    pub endpoint: EndpointName,
    /// Which of its groups.
    pub group: usize,
    /// When it was due, and when its turn came.
    due: Instant,
    begun: Instant,
}

#[derive(Debug)]
struct Device {
    groups: Vec<Group>,
    /// In a row.
    failures: u32,
    /// What it failed, less its answers since.
    score: u32,
    /// Its last failure came with bytes.
    garbled: bool,
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
        let device = Device { groups, failures: 0, score: 0, garbled: false, probe_at: now, held_until: now };
        self.devices.insert(endpoint.clone(), device);
    }

    /// A device that is gone.
    pub(crate) fn handle_removal(&mut self, endpoint: &EndpointName) {
        self.devices.remove(endpoint);
    }

    /// The group was read.
    pub(crate) fn handle_answer(&mut self, turn: &Turn) {
        self.polled();
        let Some(device) = self.devices.get_mut(&turn.endpoint) else { return };
        if !mutant::is(Mutant::FailuresKept) {
            device.failures = 0;
        }
        device.score = if mutant::is(Mutant::ScoreForgotten) { 0 } else { device.score.saturating_sub(1) };
        if let Some(group) = device.groups.get_mut(turn.group) {
            group.due = on_the_grid(turn.due, group.period, turn.begun);
        }
    }

    /// The device gave no usable answer, though perhaps bytes; finding that out took so long.
    pub(crate) fn handle_silence(&mut self, now: Instant, turn: &Turn, took: Duration, garbled: bool) {
        self.polled();
        let (alone, noisy) = (self.devices.len() == 1, self.is_noisy());
        let Some(device) = self.devices.get_mut(&turn.endpoint) else { return };
        device.failures = device.failures.saturating_add(1);
        device.garbled = garbled;
        device.score = (device.score + if garbled { GARBLED } else { SILENT }).min(WORST);
        let doublings = (device.score / SILENT).saturating_sub(1);
        let mut wait = FIRST_PROBE.saturating_mul(1 << doublings).min(SLOWEST_PROBE);
        let mut share = PROBES_SHARE;
        if noisy && device.failures < SILENT_IN_NOISE {
            // It is the line: when that is mended, nobody should have to be waited for.
            wait = FIRST_PROBE;
        } else if device.score >= CALM_AFTER && !mutant::is(Mutant::NeverCalm) {
            wait = wait.max(CALM_PROBE);
            if !alone {
                wait = wait.max(took.saturating_mul(CALM_SHARE - 1));
                share = CALM_PROBES_SHARE;
            }
        }
        if mutant::is(Mutant::NoShare) {
            (wait, share) = (FIRST_PROBE, 1);
        }
        device.probe_at = now + wait;
        self.probes_from = Some(now + took.saturating_mul(share - 1));
    }

    /// The group is to be read later: what else of the device is due goes first.
    pub(crate) fn handle_postponement(&mut self, now: Instant, turn: &Turn) {
        let device = self.devices.get_mut(&turn.endpoint);
        if let Some(group) = device.and_then(|device| device.groups.get_mut(turn.group)) {
            group.due = group.due.max(now);
        }
    }

    /// A request from outside was answered or not; that took so long.
    pub(crate) fn handle_outside(&mut self, now: Instant, took: Duration) {
        self.outside = Some(Debt { until: now + took, polled: false });
    }

    /// Whether a request from outside may go before what is due: after each the polls have as much time
    /// as it took, and one of them at least its turn, if they need it.
    pub(crate) fn admits_outside(&self, now: Instant) -> bool {
        let paid = self.outside.as_ref().is_none_or(|debt| debt.polled && debt.until <= now);
        paid || mutant::is(Mutant::OutsideFirst) || self.poll_timeout().is_none_or(|due| due > now)
    }

    /// A device that may not be asked before.
    pub(crate) fn hold(&mut self, endpoint: &EndpointName, until: Instant) {
        if let Some(device) = self.devices.get_mut(endpoint)
            && !mutant::is(Mutant::NoHold)
        {
            device.held_until = until;
        }
    }

    /// The host came back: nothing is known about its devices, so all are as good as answering.
    pub(crate) fn handle_return(&mut self) {
        for device in self.devices.values_mut() {
            (device.failures, device.score) = (0, 0);
        }
    }

    /// What is to be read now.
    pub(crate) fn poll_turn(&self, now: Instant) -> Option<Turn> {
        self.first().filter(|(at, _)| *at <= now).map(|(_, turn)| Turn { begun: now, ..turn })
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

    /// Whether what fails is more likely the line than a device.
    fn is_noisy(&self) -> bool {
        let garbled = self.devices.values().filter(|device| device.garbled && device.score > 0).count();
        garbled > 1 && garbled * NOISY_SHARE >= self.devices.len() && !mutant::is(Mutant::NoiseBlamed)
    }

    fn first(&self) -> Option<(Instant, Turn)> {
        // With nobody answering there is nobody to protect.
        let gate = self.probes_from.filter(|_| self.devices.values().any(|d| d.failures == 0));
        let turns = self.devices.iter().filter_map(|(endpoint, device)| {
            let (group, due) = device.first()?;
            // The gate makes the same instant of many probes; the longest overdue is still the first.
            let wanted = if device.failures > 0 { device.probe_at } else { due };
            let at = if device.failures > 0 { wanted.max(gate.unwrap_or(wanted)) } else { due };
            let at = at.max(device.held_until);
            Some((at, wanted, Turn { endpoint: endpoint.clone(), group, due, begun: at }))
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
    if mutant::is(Mutant::NoGrid) {
        return now + period;
    }
    if mutant::is(Mutant::MissedMadeUp) {
        return due + period;
    }
    let late = now.since(due).as_nanos().checked_rem(period.as_nanos()).unwrap_or_default();
    let late = u64::try_from(late).map_or(Duration::ZERO, Duration::from_nanos);
    now + period.saturating_sub(late)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
