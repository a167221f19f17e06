//! One poll of a group of resources, answer by answer. Sans-IO.

use crate::{
    config::{Target, Wanted},
    fault::{self, Refusal},
    pdu::{Answer, Request},
    plan::{Absence, Block, Limits, Plan},
    point::Point,
    sunspec::{Choice, Discovery, Lack, Step},
};
use adapter_api::{Fault, Instant, Reading};
use std::{collections::BTreeMap, time::Duration};

/// Splits of refused requests in one poll: enough to find one missing register among 125, too
/// few for a device that refuses everything to hold up the others. The next poll goes on.
const SPLITS: u32 = 8;

/// The resources of a device with one period.
#[derive(Debug)]
pub(crate) struct Group {
    wanted: Vec<Wanted>,
    plan: Plan,
    limits: Limits,
    /// What is found by asking the device, beside what is known.
    discovery: Option<(Discovery, Vec<Wanted>)>,
}

/// How far a poll of a group is.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Something was asked for it.
    begun: bool,
    /// Something was read for it, or refused.
    answered: bool,
    /// The block that is asked for.
    at: usize,
    splits: u32,
    readings: Vec<Option<Reading>>,
    refusal: Option<Refusal>,
    search: Search,
    lack: Option<Lack>,
    /// The device has registers where some of what was found should be.
    served: bool,
}

/// Whether the device is asked what it has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// If that is wanted.
    #[default]
    Before,
    Within,
    /// No longer, in this round.
    Over,
}

/// What a round could not read.
#[derive(Debug)]
pub(crate) enum Missing {
    /// Registers the device refuses.
    Registers(Refusal),
    /// What a SunSpec device does not have.
    Points(Lack),
}

impl Group {
    /// What is read together, and what of that is found by asking the device.
    pub(crate) fn new(wanted: Vec<Wanted>, limits: Limits, choice: Option<Choice>) -> Self {
        let discovery = choice.map(|choice| (Discovery::new(choice), wanted.clone()));
        Self { plan: plan(&wanted, limits), wanted, limits, discovery }
    }

    /// The device is away: when it comes back, what was found there may be elsewhere.
    pub(crate) fn forget(&mut self) {
        if let Some((discovery, _)) = &mut self.discovery {
            discovery.restart();
        }
    }

    /// Another device may be there: what this one lacked is asked for again.
    pub(crate) fn join(&mut self) {
        self.plan.join();
    }

    /// Whether there is nothing in it that the device has.
    pub(crate) fn is_all_parked(&self, now: Instant) -> bool {
        self.plan.is_all_parked(now)
    }

    /// The next request of a round; `None` at its end. `elsewhere`: another group shows whether the
    /// device is there.
    pub(crate) fn poll_request(
        &mut self,
        now: Instant,
        round: &mut Round,
        elsewhere: bool,
    ) -> Option<Request> {
        if let Some((discovery, _)) = &self.discovery {
            if round.search != Search::Over
                && let Some(request) = discovery.poll_request()
            {
                round.search = Search::Within;
                return Some(request);
            }
            round.search = Search::Over;
            round.lack = discovery.lack().cloned();
        }
        if !round.begun {
            self.plan.begin(now);
        }
        // Of a device that lacks everything, the first is asked for to see whether it is there.
        let mute = elsewhere && self.plan.is_mute(now);
        let any = !round.begun && !mute && self.plan.is_all_parked(now);
        while let Some(block) = self.plan.block(round.at) {
            match block.parked(now).filter(|_| !any) {
                Some(why) => {
                    self.lack(block, why, round);
                    round.at += 1;
                }
                None => {
                    round.begun = true;
                    return Some(block.request());
                }
            }
        }
        // A chain that was found and is refused as a whole is elsewhere.
        if let Some((discovery, known)) = &mut self.discovery
            && self.wanted.len() > known.len()
            && round.refusal.is_some()
            && !round.served
        {
            discovery.restart();
        }
        None
    }

    /// What the device said to it.
    pub(crate) fn handle_answer(&mut self, now: Instant, round: &mut Round, answer: &Answer) {
        if let Some((discovery, known)) = self.discovery.as_mut().filter(|_| round.search == Search::Within) {
            match discovery.handle_answer(answer) {
                Step::On => {}
                Step::Later => round.search = Search::Over,
                Step::Found(found) => {
                    round.search = Search::Over;
                    self.wanted = known.iter().cloned().chain(found).collect();
                    self.plan = plan(&self.wanted, self.limits);
                }
            }
            return;
        }
        round.answered = true;
        match answer {
            Answer::Refused(code) if code.is_about_addresses() => {
                if self.plan.handle_refusal(now, round.at, *code, round.splits < SPLITS) {
                    round.splits += 1;
                    return;
                }
            }
            Answer::Refused(_) => {}
            _ => self.plan.handle_served(round.at),
        }
        if let Some(block) = self.plan.block(round.at) {
            self.take(block, answer, round);
            if let (Some((discovery, known)), Answer::Words(words)) = (&mut self.discovery, answer) {
                let found = block.wants.iter().filter(|index| **index >= known.len());
                for wanted in found.filter_map(|index| self.wanted.get(*index)) {
                    round.served = true;
                    let from = usize::from(wanted.want.start.saturating_sub(block.start));
                    if words.get(from..).is_some_and(|words| wanted.form.has_moved(words)) {
                        discovery.restart();
                    }
                }
            }
        }
        round.at += 1;
    }

    /// It had no answer, which ends the round: what was not read is bad. `answers` as
    /// [`Plan::handle_silence`] has it. False if nothing was read at all.
    pub(crate) fn handle_silence(
        &mut self,
        now: Instant,
        round: &mut Round,
        answers: Option<u64>,
        why: &str,
    ) -> bool {
        if round.search == Search::Within {
            return false;
        }
        self.plan.handle_silence(now, round.at, answers);
        round.readings.resize(self.wanted.len(), None);
        for (place, wanted) in round.readings.iter_mut().zip(&self.wanted) {
            place.get_or_insert_with(|| Reading::bad(wanted.resource.clone(), why));
        }
        round.answered
    }

    /// Puts into its places that there is nothing.
    fn lack(&self, block: &Block, why: Absence, round: &mut Round) {
        let point = Point { table: block.table, address: block.start };
        round.refusal.get_or_insert(Refusal { point, why, values: 0 }).values += block.wants.len();
        round.readings.resize(self.wanted.len(), None);
        for index in &block.wants {
            if let (Some(wanted), Some(place)) = (self.wanted.get(*index), round.readings.get_mut(*index)) {
                *place = Some(Reading::bad(wanted.resource.clone(), why.to_string()));
            }
        }
    }

    /// Puts what an answer says in its places.
    fn take(&self, block: &Block, answer: &Answer, round: &mut Round) {
        if let Answer::Refused(code) = *answer {
            return self.lack(block, Absence::Refused(code), round);
        }
        round.readings.resize(self.wanted.len(), None);
        for index in &block.wants {
            let (Some(wanted), Some(place)) = (self.wanted.get(*index), round.readings.get_mut(*index))
            else {
                continue;
            };
            let resource = wanted.resource.clone();
            let from = usize::from(wanted.want.start.saturating_sub(block.start));
            *place = match answer {
                Answer::Bits(bits) => bits.get(from).map(|bit| Reading::measured(resource, *bit)),
                Answer::Words(words) => {
                    words.get(from..).and_then(|words| wanted.form.decode(resource, words))
                }
                // A block asks for entries of its table; a refusal is dealt with above.
                Answer::Identity(_) | Answer::Refused(_) => None,
            };
        }
    }
}

impl Round {
    /// Whether anything was asked for it.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun || self.search == Search::Within
    }

    /// What was read, and what the device refused or does not have.
    pub(crate) fn finish(self) -> (Vec<Reading>, Option<Missing>) {
        let missing = self.refusal.map(Missing::Registers).or(self.lack.map(Missing::Points));
        (self.readings.into_iter().flatten().collect(), missing)
    }
}

impl Missing {
    /// For people.
    pub(crate) fn fault(&self, base: Option<u16>, place: String) -> Fault {
        match self {
            Self::Registers(refusal) => refusal.fault(base, place),
            Self::Points(lack) => fault::lacking(lack, place),
        }
    }
}

fn plan(wanted: &[Wanted], limits: Limits) -> Plan {
    Plan::new(wanted.iter().map(|wanted| wanted.want).collect(), limits)
}

/// What of a device is read how often.
pub(crate) fn groups(target: &Target) -> BTreeMap<Duration, Vec<Wanted>> {
    let mut groups: BTreeMap<Duration, Vec<Wanted>> = BTreeMap::new();
    for wanted in &target.resources {
        groups.entry(wanted.period).or_default().push(wanted.clone());
    }
    if let Some(choice) = &target.sunspec {
        groups.entry(choice.period).or_default();
    }
    groups
}
