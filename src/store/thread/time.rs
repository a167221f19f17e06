//! The time of this boot: what the store does when it becomes known, and when it has not for too long.

use super::Thread;
use crate::store::{DeadLetter, boots::Moment, outbox};
use adapter_api::{Clock, Source, Stamp, clock};

impl Thread {
    /// The clock of this boot, and its offset if it is known already.
    pub(in crate::store) fn boot(&self) -> (Clock, Option<i64>) {
        (self.clock.clone(), self.boots.offset())
    }

    /// Rows of this boot resolve from now on. Returns whether the next start will know as well.
    pub(super) fn know_time(&mut self, offset_us: i64) -> bool {
        let kept = self.boots.know(&self.db, offset_us);
        self.room.trust_clock(clock::now());
        self.wake_timeless();
        match kept {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "the time of this boot could not be kept");
                self.failed(&error);
                false
            }
        }
    }

    /// Rows of this boot go up though their time is not known.
    pub(super) fn end_hold(&mut self) {
        self.boots.end_hold();
        self.wake_timeless();
    }

    fn wake_timeless(&mut self) {
        for lane in std::mem::take(&mut self.timeless) {
            self.lanes.forget_announced(lane);
            self.announce(lane);
        }
    }

    /// A stamp with its boot's offset, if that is known by now.
    pub(super) fn resolved(&self, at: Stamp) -> Stamp {
        let (stamp, boot) = outbox::columns(at);
        match (boot, self.boots.moment(stamp, boot)) {
            (Some(_), Moment::At(us)) => Stamp::Wall { us, source: Source::Gateway },
            _ => at,
        }
    }

    /// A dead letter likewise.
    pub(super) fn resolve_letter(&self, letter: &mut DeadLetter) {
        if let Moment::At(us) = self.boots.moment(letter.stamp, letter.boot) {
            (letter.stamp, letter.boot) = (us, None);
        }
    }
}
