//! Finding out what a SunSpec device has: when its chain is walked, and what is read then. Sans-IO.
//!
//! The chain is walked before the first reading, again after the device was away (its firmware may be
//! another), when a model is no longer where it was, and as long as nothing was found that is wanted. One
//! that breaks off is walked again ever more rarely: a device that is starting may not have all of it yet.

use super::{Choice, Found, Progress, Walk};
use crate::{
    config::Wanted,
    pdu::{Answer, Request},
};
use adapter_api::{Instant, Resource};
use std::{collections::BTreeSet, fmt, time::Duration};

/// Between the walks along a chain that breaks off: as registers that are missing are asked for.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// What of a device is found by asking it.
#[derive(Debug)]
pub(crate) struct Discovery {
    choice: Choice,
    /// The walk that is under way, or begins with the next round.
    walk: Option<Walk>,
    /// The chain that was found has no end.
    broken: Option<Broken>,
    lack: Option<Lack>,
}

/// A chain that breaks off.
#[derive(Debug)]
struct Broken {
    models: Vec<Found>,
    /// When it is walked again, and how long that was put off.
    until: Instant,
    wait: Duration,
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
        Self { choice, walk: Some(Walk::default()), broken: None, lack: None }
    }

    /// The chain may be another one.
    pub(crate) fn restart(&mut self) {
        (self.walk, self.broken) = (Some(Walk::default()), None);
    }

    /// What to ask for before anything is read.
    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Request> {
        if self.walk.is_none() && self.broken.as_ref().is_some_and(|broken| broken.until <= now) {
            self.walk = Some(Walk::default());
        }
        self.walk.as_ref()?.poll_request()
    }

    /// The answer to that.
    pub(crate) fn handle_answer(&mut self, now: Instant, answer: &Answer) -> Step {
        let Some(walk) = &mut self.walk else { return Step::Later };
        if walk.handle_answer(answer) == Progress::Later {
            return Step::Later;
        }
        let Some(walk) = self.walk.take_if(|walk| walk.models().is_some()) else { return Step::On };
        let models = walk.models().unwrap_or_default();
        let same = self.broken.take().filter(|before| before.models == models);
        let found = self.conclude(&walk);
        // Where nothing was found that is wanted the next walk does not wait.
        if walk.broken().is_some() && self.walk.is_none() {
            let wait = same.as_ref().map_or(FIRST_WAIT, |before| before.wait * 2).min(LONGEST_WAIT);
            self.broken = Some(Broken { models: models.to_vec(), until: now + wait, wait });
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
        self.walk = wanted.is_empty().then(Walk::default);
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
