//! Finding out what a SunSpec device has: when its chain is walked, and what is read then. Sans-IO.
//!
//! The chain is walked before the first reading, again after the device was away (its firmware may be
//! another), when a model is no longer where it was, and as long as nothing was found that is wanted. One
//! that breaks off is walked again ever more rarely: a device that is starting may not have all of it yet.
//! As rarely is a base asked at which a device is silent that is there.

use super::{BASES, Choice, Found, Progress, Walk};
use crate::{
    config::Wanted,
    pdu::{Answer, Request},
};
use adapter_api::{Instant, Resource};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// Between the walks along a chain that breaks off, and between silences at a base: as registers that are missing are asked for.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// What of a device is found by asking it.
#[derive(Debug)]
pub(crate) struct Discovery {
    choice: Choice,
    /// A walk begins with the next round.
    wanted: bool,
    /// The one that is under way.
    walk: Option<Walk>,
    /// Where a chain was last: there it is looked for first.
    base: Option<u16>,
    /// Bases at which the device says nothing, though it is there.
    silent: BTreeMap<u16, Wait>,
    /// The models of a chain that has no end.
    broken: Option<(Vec<Found>, Wait)>,
    lack: Option<Lack>,
}

/// Something that is put off.
#[derive(Debug, Clone, Copy)]
struct Wait {
    until: Instant,
    wait: Duration,
}

impl Wait {
    /// Twice as long as the last time.
    fn after(last: Option<Self>, now: Instant) -> Self {
        let wait = last.map_or(FIRST_WAIT, |last| last.wait * 2).min(LONGEST_WAIT);
        Self { until: now + wait, wait }
    }
}

/// What an answer on the way meant.
#[derive(Debug)]
pub(crate) enum Step {
    /// There is more to ask.
    On,
    /// The device has no time; to be gone on with in the next round.
    Later,
    /// This is what the device has.
    Found(Vec<Wanted>),
    /// It has what it had.
    Same,
}

/// What a device does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lack {
    /// A chain.
    Chain,
    /// Models that are known; these it has.
    Known(Vec<u16>),
    /// Points that were chosen.
    Points(Vec<Resource>),
    /// The end of its chain: it breaks off at this register, and has not these points that were chosen.
    End(u16, Vec<Resource>),
}

impl Discovery {
    /// Nothing is known yet.
    pub(crate) fn new(choice: Choice) -> Self {
        let (silent, broken) = (BTreeMap::new(), None);
        Self { choice, wanted: true, walk: None, base: None, silent, broken, lack: None }
    }

    /// The chain may be another one.
    pub(crate) fn restart(&mut self) {
        (self.wanted, self.walk, self.broken) = (true, None, None);
        self.silent.clear();
    }

    /// What to ask for before anything is read. With nothing to read else it is asked `anyway`: nobody
    /// would know whether the device is there.
    pub(crate) fn poll_request(&mut self, now: Instant, anyway: bool) -> Option<Request> {
        let again = self.broken.as_ref().is_some_and(|(_, wait)| wait.until <= now);
        if self.walk.is_none() && (self.wanted || again) {
            let mut bases = Vec::from(BASES);
            bases.sort_by_key(|base| Some(*base) != self.base);
            let all = bases.clone();
            bases.retain(|base| self.silent.get(base).is_none_or(|wait| wait.until <= now));
            match (bases.is_empty(), anyway) {
                (false, _) => self.walk = Some(Walk::over(bases)),
                (true, true) => self.walk = Some(Walk::over(all)),
                (true, false) => {}
            }
        }
        self.walk.as_ref()?.poll_request()
    }

    /// The answer to that.
    pub(crate) fn handle_answer(&mut self, now: Instant, answer: &Answer) -> Step {
        let Some(walk) = &mut self.walk else { return Step::Later };
        if walk.handle_answer(answer) == Progress::Later {
            return Step::Later;
        }
        self.advance(now)
    }

    /// There was none: true if it may come elsewhere. The device is away if not.
    pub(crate) fn handle_silence(&mut self, now: Instant) -> Option<Step> {
        if !self.walk.as_mut().is_some_and(Walk::handle_silence) {
            return None;
        }
        Some(self.advance(now))
    }

    /// The device has answered something else.
    pub(crate) fn handle_presence(&mut self) {
        if let Some(walk) = &mut self.walk {
            walk.handle_presence();
        }
    }

    fn advance(&mut self, now: Instant) -> Step {
        let Some(walk) = self.walk.take_if(|walk| walk.models().is_some()) else { return Step::On };
        let models = walk.models().unwrap_or_default();
        for base in walk.silent() {
            self.silent.insert(*base, Wait::after(self.silent.get(base).copied(), now));
        }
        let before = match self.broken.take() {
            // What was read of a chain is still read: if it is no longer there, that tells itself.
            Some((before, wait)) if models.is_empty() => {
                self.broken = Some((before, Wait::after(Some(wait), now)));
                return Step::Same;
            }
            before => before,
        };
        let same = before.filter(|(before, _)| before == models);
        let found = self.conclude(&walk);
        // Where nothing was found that is wanted the next walk does not wait.
        if walk.broken().is_some() && !self.wanted {
            let wait = Wait::after(same.as_ref().map(|(_, wait)| *wait), now);
            self.broken = Some((models.to_vec(), wait));
        }
        if same.is_some() { Step::Same } else { Step::Found(found) }
    }

    /// What is wanted of what was found, and what is not there.
    fn conclude(&mut self, walk: &Walk) -> Vec<Wanted> {
        let models = walk.models().unwrap_or_default();
        let wanted = self.choice.wanted(models);
        let has: BTreeSet<&Resource> = wanted.iter().map(|wanted| &wanted.resource).collect();
        let lacks =
            |only: &BTreeSet<Resource>| only.iter().filter(|name| !has.contains(name)).cloned().collect();
        let lacking: Vec<Resource> = self.choice.only.as_ref().map_or_else(Vec::new, lacks);
        self.lack = match (walk.broken(), models, wanted.is_empty(), lacking.is_empty()) {
            (Some(at), ..) => Some(Lack::End(at, lacking)),
            (_, [], ..) => Some(Lack::Chain),
            (_, _, _, false) => Some(Lack::Points(lacking)),
            (_, models, true, true) => Some(Lack::Known(models.iter().map(|found| found.id).collect())),
            (_, _, false, true) => None,
        };
        self.base = walk.base().or(self.base);
        self.wanted = wanted.is_empty();
        wanted
    }

    /// What the device did not have when it was last asked.
    pub(crate) fn lack(&self) -> Option<&Lack> {
        self.lack.as_ref()
    }
}

/// As what the device lacks.
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain => f.write_str("the device has no SunSpec models at 40000, 50000 or 0"),
            Self::Known(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                write!(f, "the device has only SunSpec models that are not read: {}", ids.join(", "))
            }
            Self::Points(points) => write!(f, "the device has no {}", listed(points)),
            Self::End(at, points) => {
                write!(f, "the device's SunSpec models break off at {at} without an end")?;
                if points.is_empty() { Ok(()) } else { write!(f, "; before it is no {}", listed(points)) }
            }
        }
    }
}

fn listed(points: &[Resource]) -> String {
    let points: Vec<&str> = points.iter().map(Resource::as_str).collect();
    points.join(", ")
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
