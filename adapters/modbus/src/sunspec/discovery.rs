//! Finding out what a SunSpec device has: when its chain is walked, and what is read then. Sans-IO.
//!
//! The chain is walked before the first reading, again after the device was away (its firmware may be
//! another), when a model is no longer where it was, and as long as nothing was found that is wanted.

use super::{Choice, Progress, Walk};
use crate::{
    config::Wanted,
    pdu::{Answer, Request},
};
use adapter_api::Resource;
use std::{collections::BTreeSet, fmt};

/// What of a device is found by asking it.
#[derive(Debug)]
pub(crate) struct Discovery {
    choice: Choice,
    /// The walk that is under way, or begins with the next round.
    walk: Option<Walk>,
    lack: Option<Lack>,
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
}

impl Discovery {
    /// Nothing is known yet.
    pub(crate) fn new(choice: Choice) -> Self {
        Self { choice, walk: Some(Walk::default()), lack: None }
    }

    /// The chain may be another one.
    pub(crate) fn restart(&mut self) {
        self.walk = Some(Walk::default());
    }

    /// What to ask for before anything is read.
    pub(crate) fn poll_request(&self) -> Option<Request> {
        self.walk.as_ref()?.poll_request()
    }

    /// The answer to that.
    pub(crate) fn handle_answer(&mut self, answer: &Answer) -> Step {
        let Some(walk) = &mut self.walk else { return Step::Later };
        if walk.handle_answer(answer) == Progress::Later {
            return Step::Later;
        }
        let Some(models) = walk.models() else { return Step::On };
        let wanted = self.choice.wanted(models);
        let has: BTreeSet<&Resource> = wanted.iter().map(|wanted| &wanted.resource).collect();
        let lacks =
            |only: &BTreeSet<Resource>| only.iter().filter(|name| !has.contains(name)).cloned().collect();
        let lacking: Vec<Resource> = self.choice.only.as_ref().map_or_else(Vec::new, lacks);
        self.lack = match (models, wanted.is_empty(), lacking.is_empty()) {
            ([], ..) => Some(Lack::Chain),
            (_, _, false) => Some(Lack::Points(lacking)),
            (models, true, true) => Some(Lack::Known(models.iter().map(|found| found.id).collect())),
            (_, false, true) => None,
        };
        self.walk = wanted.is_empty().then(Walk::default);
        Step::Found(wanted)
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
            Self::Points(points) => {
                let points: Vec<&str> = points.iter().map(Resource::as_str).collect();
                write!(f, "the device has no {}", points.join(", "))
            }
        }
    }
}
