//! What is refused before it costs a transaction: submissions of endpoints over their quota (I8).
//!
//! Not here: what is over a quota (`shape::quota`).

use super::{DELETE_WITHIN, Thread, offered, room};
use crate::{endpoints::EndpointKey, shape::quota::Load};
use adapter_api::{Instant, Offer, Refused, Submission, clock, journal};

impl Thread {
    /// The submission, unless its endpoint is over a quota. Then it is answered at once: a flood writes
    /// nothing to the disk but its count, with the next transaction, at the latest after 1 s.
    pub(super) fn within_quota(&mut self, submission: Submission) -> Option<Submission> {
        let Offer::Samples(samples) = &submission.offer else { return Some(submission) };
        if !self.shape.is_limited(&submission.endpoint) {
            return Some(submission);
        }
        let now = clock::now();
        let load = Load { samples: offered(&submission), bytes: room::bytes(samples) };
        if self.shape.wants_look(&submission.endpoint, load.bytes, now) {
            self.look_at_the_books(now);
        }
        let Err(excess) = self.shape.weigh(&submission.endpoint, load, now) else { return Some(submission) };
        if excess.begins {
            journal::stir();
        }
        *self.uncounted.entry((excess.endpoint.tenant, excess.quota.key())).or_default() += load.samples;
        self.gone_due.get_or_insert(now + DELETE_WITHIN);
        let refused = Refused::OverQuota(excess.quota);
        self.tellers.refused(&submission.endpoint, load.samples, &refused);
        submission.answer(Err(refused));
        None
    }

    /// Tells who is within the quotas again.
    pub(super) fn calm(&mut self, now: Instant) {
        for endpoint in self.shape.handle_timeout(now) {
            let refused: u64 = endpoint.refused.values().sum();
            tracing::debug!(endpoint = %endpoint.endpoint, refused, "an endpoint is within its quota again");
            journal::stir();
        }
    }

    /// What each endpoint has on the books, and what of it waits in the group.
    fn look_at_the_books(&mut self, now: Instant) {
        let entering: Vec<(EndpointKey, u64)> = self
            .group
            .iter()
            .filter_map(|submission| match &submission.offer {
                Offer::Samples(samples) => {
                    Some((self.shape.key(&submission.endpoint)?.clone(), room::bytes(samples)))
                }
                Offer::TooLarge { .. } => None,
            })
            .collect();
        let entering = entering.iter().map(|(endpoint, bytes)| (endpoint, *bytes));
        self.shape.look(self.lanes.used().chain(entering), now);
    }
}
