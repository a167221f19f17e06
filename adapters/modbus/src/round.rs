//! One poll of a group of resources, answer by answer. Sans-IO.

use crate::{
    config::Wanted,
    fault::Refusal,
    pdu::{Answer, Request},
    plan::{Block, Plan},
    point::Point,
};
use adapter_api::Reading;

/// Splits of refused requests in one poll: enough to find one missing register among 125, too
/// few for a device that refuses everything to hold up the others. The next poll goes on.
const SPLITS: u32 = 8;

/// The resources of a device with one period.
#[derive(Debug)]
pub(crate) struct Group {
    wanted: Vec<Wanted>,
    plan: Plan,
}

/// How far a poll of a group is.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// The block that is asked for.
    at: usize,
    splits: u32,
    readings: Vec<Option<Reading>>,
    refusal: Option<Refusal>,
}

impl Group {
    /// What is read together.
    pub(crate) fn new(wanted: Vec<Wanted>) -> Self {
        let plan = Plan::new(wanted.iter().map(|wanted| wanted.want).collect());
        Self { wanted, plan }
    }

    /// Another device may be there: what this one lacked is asked for again.
    pub(crate) fn join(&mut self) {
        self.plan.join();
    }

    /// The next request of a round; `None` at its end.
    pub(crate) fn poll_request(&self, round: &mut Round) -> Option<Request> {
        Some(self.plan.block(round.at)?.request())
    }

    /// What the device said to it.
    pub(crate) fn handle_answer(&mut self, round: &mut Round, answer: &Answer) {
        if let Answer::Refused(code) = answer
            && code.is_about_addresses()
            && round.splits < SPLITS
            && self.plan.split(round.at)
        {
            round.splits += 1;
            return;
        }
        if let Some(block) = self.plan.block(round.at) {
            self.take(block, answer, round);
        }
        round.at += 1;
    }

    /// Puts what an answer says in its places.
    fn take(&self, block: &Block, answer: &Answer, round: &mut Round) {
        if let Answer::Refused(code) = *answer {
            let point = Point { table: block.table, address: block.start };
            let refusal = Refusal { point, code, values: 0 };
            round.refusal.get_or_insert(refusal).values += block.wants.len();
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
                Answer::Refused(code) => Some(Reading::bad(resource, code.to_string())),
            };
        }
    }
}

impl Round {
    /// Whether anything was asked for it.
    pub(crate) fn has_begun(&self) -> bool {
        self.at > 0 || self.splits > 0
    }

    /// What was read, and what the device refused.
    pub(crate) fn finish(self) -> (Vec<Reading>, Option<Refusal>) {
        (self.readings.into_iter().flatten().collect(), self.refusal)
    }
}
