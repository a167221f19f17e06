//! Profiles whatever their text, and SunSpec devices whatever their registers.

use crate::{
    config,
    pdu::{Answer, Exception},
    plan::{Limits, Want},
    point::Table,
    profile::{self, Content, NoProfile, Origin},
    round::{Group, Round},
    sunspec::{BASES, Choice, Kind, MARKER},
};
use adapter_api::{Instant, Quality, Resource, Value};
use std::{collections::BTreeMap, time::Duration};

/// What a profile of this text reads, or what is wrong in it, each with words. What is good can be listed,
/// and lies within its tables.
///
/// # Errors
/// Says what is wrong: at least one thing.
pub fn profile(text: &str) -> Result<usize, Vec<String>> {
    match profile::parse("fuzz", Origin::BuiltIn, text) {
        Ok(profile) => {
            let listed = profile.listed();
            if let Content::Registers(entries) = &profile.content {
                assert_eq!(listed.len(), entries.len());
                for (resource, entry) in entries {
                    let (want, _) = config::of_profile(resource.as_str(), &entry.register)
                        .unwrap_or_else(|issues| panic!("{resource}: {issues:?}"));
                    assert!(want.length > 0 && u32::from(want.start) + u32::from(want.length) <= 65_536);
                }
            }
            assert!(!listed.is_empty());
            Ok(listed.len())
        }
        Err(NoProfile::Faulty { faults, .. }) => {
            assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.why.is_empty()));
            Err(faults.iter().map(ToString::to_string).collect())
        }
        Err(other) => panic!("{other}: of a text"),
    }
}

/// A device that is asked which SunSpec models it has.
#[derive(Debug, Clone, Default)]
pub struct Sunspec {
    /// Which of the bases its chain begins at; none of the last of four.
    pub base: u8,
    /// Which of the known numbers and which length its models have.
    pub models: Vec<(u8, u16)>,
    /// What stands behind them.
    pub behind: Vec<u16>,
    /// In which round a register becomes another one.
    pub changes: Vec<(u8, u16, u16)>,
    /// From here to there it is silent in place of a refusal; refusals are of this number.
    pub silent: (u16, u16),
    /// See there.
    pub code: u8,
    /// A register that is read beside the chain.
    pub plain: Option<u16>,
    /// Time between two rounds.
    pub seconds: u16,
}

/// Eight rounds of it. Each ends, every request is one that can be made, and what is good has a value.
/// How many values were good.
pub fn rounds(device: &Sunspec) -> usize {
    let mut words = image(device);
    let choice = Choice { only: None, period: Duration::from_secs(1) };
    let known = device.plain.into_iter().filter_map(plain).collect();
    let mut group = Group::new(known, Limits { registers: 125, bits: 2_000, hole: 8 }, Some(choice));
    let mut good = 0;
    for turn in 0_u8..8 {
        words.extend(
            device.changes.iter().filter(|(at, ..)| at % 8 == turn).map(|(_, at, word)| (*at, *word)),
        );
        let now = Instant::from_start(Duration::from_secs(u64::from(device.seconds) * u64::from(turn)));
        let mut round = Round::default();
        let mut requests = 0;
        loop {
            let Some(request) = group.poll_request(now, &mut round, false) else {
                group.handle_presence();
                let (readings, missing) = round.finish();
                for reading in readings {
                    let none = reading.value == Value::None;
                    assert!(!(none && reading.quality == Quality::Good), "{reading:?}");
                    good += usize::from(!none);
                }
                assert!(missing.is_none_or(|missing| !missing.fault(String::new()).what.is_empty()));
                break;
            };
            requests += 1;
            // A walk, and a request for each of some hundred points of each of at most 64 models.
            assert!(requests < 10_000, "a round without an end");
            assert!((1..=125).contains(&request.count));
            assert!(u32::from(request.start) + u32::from(request.count) <= 65_536);
            let asked = request.start..=request.start + (request.count - 1);
            let there: Option<Vec<u16>> = asked.map(|at| words.get(&at).copied()).collect();
            let (from, to) = device.silent;
            match there {
                Some(words) => group.handle_answer(now, &mut round, &Answer::Words(words)),
                None if (from..to).contains(&request.start) => {
                    if !group.pass_over(now, &round) {
                        group.forget();
                    }
                    break;
                }
                None => group.handle_answer(now, &mut round, &Answer::Refused(Exception(device.code))),
            }
        }
    }
    good
}

fn plain(start: u16) -> Option<config::Wanted> {
    let want = Want { table: Table::Holding, start, length: 1 };
    let (resource, period) = (Resource::new("plain").ok()?, Duration::from_secs(1));
    Some(config::Wanted { resource, want, base: None, form: Kind::U16.form().into(), period })
}

/// The registers of its chain; each holds its own address but for the heads of the models.
fn image(device: &Sunspec) -> BTreeMap<u16, u16> {
    let known = [1, 101, 102, 103, 201, 202, 203, 204, 120];
    let mut words = BTreeMap::new();
    let Some(base) = BASES.get(usize::from(device.base % 4)) else { return words };
    let mut at = *base;
    let mut put = |word: Option<u16>| {
        words.insert(at, word.unwrap_or(at));
        at = at.wrapping_add(1);
    };
    MARKER.into_iter().for_each(|word| put(Some(word)));
    for (id, length) in device.models.iter().take(80) {
        put(known.get(usize::from(*id) % known.len()).copied());
        put(Some(*length));
        (0..length % 300).for_each(|_| put(None));
    }
    device.behind.iter().take(300).for_each(|word| put(Some(*word)));
    words
}
