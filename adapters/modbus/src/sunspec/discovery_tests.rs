//! Rounds of a device that has its models only in part, later or elsewhere. Sans-IO.

use super::*;
use crate::{
    pdu::Exception,
    plan::{Limits, Want},
    point::Table,
    round::{Group, Missing, Round},
    sunspec::{END, Kind, MARKER},
};

/// Registers that are refused where there are none.
#[derive(Default)]
struct Device {
    words: BTreeMap<u16, u16>,
    /// From here on it is silent where it has no registers.
    silent_from: Option<u16>,
    /// The first registers of all requests.
    asked: Vec<u16>,
}

/// What a round brought: readings that have a value, what is said to be missing, and what was asked.
/// One that ends in silence brings nothing, and says whether the device is taken for away.
type Brought = (usize, Option<String>, Vec<u16>);

impl Device {
    /// Models of 50 registers, and what comes behind them.
    fn has(&mut self, base: u16, models: &[u16], behind: &[u16]) {
        let mut words = MARKER.to_vec();
        for model in models {
            words.extend([*model, 50]);
            words.extend([1; 50]);
        }
        words.extend(behind);
        self.words = (base..).zip(words).collect();
    }

    fn answer(&self, request: Request) -> Option<Answer> {
        let asked = request.start..=request.start + (request.count - 1);
        let words: Option<Vec<u16>> = asked.map(|at| self.words.get(&at).copied()).collect();
        let silent = self.silent_from.is_some_and(|from| request.start >= from);
        words.map(Answer::Words).or((!silent).then_some(Answer::Refused(Exception(2))))
    }

    fn round(&mut self, group: &mut Group, now: Instant) -> Brought {
        let (mut round, before) = (Round::default(), self.asked.len());
        while let Some(request) = group.poll_request(now, &mut round, false) {
            self.asked.push(request.start);
            let Some(answer) = self.answer(request) else {
                let elsewhere = group.pass_over(now, &round);
                if !elsewhere {
                    group.forget();
                }
                let said = if elsewhere { "silent here" } else { "away" };
                return (0, Some(said.to_owned()), self.asked.split_off(before));
            };
            group.handle_answer(now, &mut round, &answer);
        }
        group.handle_presence();
        let (readings, missing) = round.finish();
        let missing = missing.map(|missing| match missing {
            Missing::Points(lack) => lack.to_string(),
            refused @ Missing::Registers(..) => refused.fault(String::new()).what,
        });
        let good = readings.iter().filter(|reading| reading.value != adapter_api::Value::None).count();
        (good, missing, self.asked.split_off(before))
    }
}

fn at(seconds: u64) -> Instant {
    Instant::from_start(Duration::from_secs(seconds))
}

fn group(only: &[&str]) -> Group {
    group_with(only, Vec::new())
}

fn group_with(only: &[&str], known: Vec<Wanted>) -> Group {
    let only = only.iter().map(|name| Resource::new(name).unwrap()).collect();
    let choice = Choice { only: Some(only), period: Duration::from_secs(1) };
    Group::new(known, Limits { hole: 8, ..Limits::STANDARD }, Some(choice))
}

/// A register beside the chain.
fn plain(start: u16) -> Wanted {
    Wanted {
        resource: Resource::new("plain").unwrap(),
        want: Want { table: Table::Holding, start, length: 1 },
        base: None,
        form: Kind::U16.form().into(),
        period: Duration::from_secs(1),
    }
}

#[test]
fn a_chain_without_an_end_is_read_told_and_walked_again() {
    // Refused, zeroed, and longer than there is room.
    for behind in [&[][..], &[0, 0], &[204, 65_000]] {
        let mut device = Device::default();
        device.has(40_000, &[103], behind);
        let mut group = group(&["inverter.Evt1"]);
        let said = "the device's SunSpec models break off at 40054 without an end".to_owned();
        let chain = [40_000, 40_002, 40_054];
        let whole = [&chain[..], &[40_002]].concat();
        assert_eq!(device.round(&mut group, at(0)), (1, Some(said.clone()), whole.clone()));
        for seconds in [1, 30, 59] {
            assert_eq!(device.round(&mut group, at(seconds)), (1, Some(said.clone()), vec![40_002]));
        }
        // After a minute, twice as long, up to an hour.
        let mut walks = Vec::new();
        for minute in 1..400 {
            let (good, missing, asked) = device.round(&mut group, at(60 * minute));
            assert_eq!((good, missing.as_ref()), (1, Some(&said)));
            walks.extend((asked == whole).then_some(minute));
        }
        assert_eq!(walks, [1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]);
        device.has(40_000, &[103], &[END, 0]);
        assert_eq!(device.round(&mut group, at(60 * 423)), (1, None, whole.clone()));
        assert_eq!(device.round(&mut group, at(60 * 10_000)), (1, None, vec![40_002]), "no longer");
    }
}

#[test]
fn a_device_that_is_starting_is_read_whole_a_minute_later() {
    let mut device = Device::default();
    let mut group = group(&["common.DA", "inverter.Evt1", "meter.W"]);
    // As long as nothing is there that is wanted, each round looks for it.
    device.has(40_000, &[120], &[]);
    let said = "the device's SunSpec models break off at 40054 without an end; before it is no common.DA, \
                inverter.Evt1, meter.W";
    for seconds in 0..20 {
        let chain = vec![40_000, 40_002, 40_054];
        assert_eq!(device.round(&mut group, at(seconds)), (0, Some(said.to_owned()), chain));
    }
    device.has(40_000, &[120, 103], &[0, 0]);
    let (good, missing, _) = device.round(&mut group, at(20));
    let said =
        "the device's SunSpec models break off at 40106 without an end; before it is no common.DA, meter.W";
    assert_eq!((good, missing.as_deref()), (1, Some(said)));
    device.has(40_000, &[120, 103, 203], &[END, 0]);
    assert_eq!(device.round(&mut group, at(79)).0, 1);
    let (good, missing, _) = device.round(&mut group, at(80));
    assert_eq!((good, missing.as_deref()), (2, Some("the device has no common.DA")));
}

#[test]
fn what_a_device_refuses_stays_parked_when_its_broken_chain_is_walked_again() {
    let mut device = Device::default();
    device.has(40_000, &[103, 203], &[0, 0]);
    // The points of the meter are refused though its beginning is served.
    device.words.retain(|at, _| !(40_060..40_106).contains(at));
    let mut group = group(&["inverter.Evt1", "meter.Hz"]);
    let first = device.round(&mut group, at(0)).2;
    assert_eq!(first, [40_000, 40_002, 40_054, 40_106, 40_002, 40_054]);
    assert_eq!(device.round(&mut group, at(59)).2, [40_002]);
    // The walk, and what is due to be asked again.
    assert_eq!(device.round(&mut group, at(60)).2, first);
    assert_eq!(device.round(&mut group, at(179)).2, [40_002], "for twice as long");
}

#[test]
fn a_device_that_is_silent_at_a_base_is_found_at_another() {
    for (base, silent_from) in [(50_000, 30_000), (0, 30_000), (0, 50_000)] {
        let mut device = Device { silent_from: Some(silent_from), ..Device::default() };
        device.has(base, &[103], &[END, 0]);
        let mut group = group(&["inverter.Evt1"]);
        let mut walked = Vec::new();
        for seconds in 0.. {
            let (good, missing, asked) = device.round(&mut group, at(seconds));
            walked.extend(asked);
            assert_ne!(missing.as_deref(), Some("away"));
            if good > 0 {
                break;
            }
        }
        let before = BASES.iter().position(|of| *of == base).unwrap();
        let chain = [base, base + 2, base + 54, base + 2];
        assert_eq!(walked, [&BASES[..before], &chain[..]].concat());
        // When it was away the chain is looked for first where it was.
        group.forget();
        assert_eq!(device.round(&mut group, at(100)), (1, None, chain.to_vec()));
    }
}

#[test]
fn a_device_that_is_silent_at_all_bases_is_away() {
    let mut device = Device { silent_from: Some(0), ..Device::default() };
    let mut group = group(&["inverter.Evt1"]);
    for turn in 0..9 {
        let said = if turn % 3 == 2 { "away" } else { "silent here" };
        let asked = vec![BASES[turn % 3]];
        assert_eq!(device.round(&mut group, at(turn as u64)), (0, Some(said.to_owned()), asked));
    }
    // It comes back between two bases: none of them is held against it.
    device.round(&mut group, at(10));
    device.silent_from = None;
    device.has(40_000, &[103], &[END, 0]);
    let asked = vec![50_000, 0, 40_000, 40_002, 40_054, 40_002];
    assert_eq!(device.round(&mut group, at(11)), (1, None, asked));
}

#[test]
fn what_is_known_of_a_silent_base_is_asked_ever_more_rarely() {
    let mut device = Device { silent_from: Some(40_000), ..Device::default() };
    device.words.insert(7, 5);
    // Silent at two of the bases; it refuses the third.
    let mut group = group_with(&["inverter.Evt1"], vec![plain(7)]);
    let (mut silences, mut unread) = (Vec::new(), 0);
    for seconds in 0..600 {
        let (good, missing, asked) = device.round(&mut group, at(seconds));
        assert_ne!(missing.as_deref(), Some("away"), "{seconds}");
        silences.extend(asked.iter().filter(|start| **start >= 40_000).map(|_| seconds));
        // Each silence costs a round, and the next one reads what there is.
        unread = if good == 0 { unread + 1 } else { 0 };
        assert!(unread < 2, "{seconds}");
    }
    assert!(silences.len() < 20, "{silences:?}");
    assert!(silences.iter().all(|second| *second < 10 || *second >= 60), "{silences:?}");
}

#[test]
fn plain_registers_of_a_device_that_is_silent_at_all_bases_are_read() {
    let mut device = Device { silent_from: Some(0), ..Device::default() };
    device.words.insert(7, 5);
    let mut group = group_with(&["inverter.Evt1"], vec![plain(7)]);
    let rounds: Vec<_> = (0..60).map(|seconds| device.round(&mut group, at(seconds))).collect();
    assert!(rounds.iter().all(|(_, missing, _)| missing.as_deref() != Some("away")), "{rounds:?}");
    let read = rounds.iter().filter(|(good, ..)| *good == 1).count();
    assert!(read >= 55, "{read}");
    assert_eq!(
        rounds.last().unwrap().1.as_deref(),
        Some("the device has no SunSpec models at 40000, 50000 or 0")
    );
    // Now it is off.
    device.words.clear();
    let (mut away, mut turns) = (false, 60);
    while !away {
        away = device.round(&mut group, at(turns)).1.as_deref() == Some("away");
        turns += 1;
        assert!(turns < 70);
    }
}
