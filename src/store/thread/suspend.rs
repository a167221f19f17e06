//! Whether there is room for what adapters would read. With `when_full = "refuse"` a full store suspends
//! polling, so that nothing is read that cannot be kept (I10).
//!
//! They are told a little before samples are refused: what they have under way still gets in.

use super::Thread;
use crate::{
    fault::{Code, Fault},
    store::quota::WhenFull,
};
use adapter_api::{Instant, journal};
use std::time::Duration;
use tokio::sync::watch;

/// While it is full, room is looked for so often: another program may have given some back.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a transaction that failed for want of space, so much has to be free again.
const AGAIN: u64 = 1 << 20;

/// What the adapters were told.
pub(super) struct Suspension {
    full: watch::Sender<bool>,
    /// What sets the limit, while it is full.
    pub(super) reason: Option<&'static str>,
    look_at: Option<Instant>,
}

impl Suspension {
    pub(super) fn new(full: watch::Sender<bool>) -> Self {
        Self { full, reason: None, look_at: None }
    }

    /// When to look for room.
    pub(super) fn due(&self) -> Option<Instant> {
        self.look_at
    }
}

impl Thread {
    /// Tells the adapters whether there is room: after each commit, and while there is none.
    pub(super) fn watch_room(&mut self, now: Instant) {
        let refuses = self.room.limits.when_full == WhenFull::Refuse && self.shape.stores();
        let was = self.suspension.reason.is_some();
        if !refuses && !was {
            return;
        }
        let Some((level, measure)) = self.room.level(&self.db) else { return };
        // The policy may have been changed meanwhile.
        let full = refuses && (level.is_tight(was) || (self.room.full && measure.free < AGAIN));
        self.suspension.look_at = full.then(|| now + LOOK_EVERY);
        if full == was {
            return;
        }
        self.suspension.reason = full.then_some(level.reason);
        self.suspension.full.send_replace(full);
        journal::stir();
    }
}

/// For people.
pub(in crate::store) fn fault(reason: &'static str) -> Fault {
    Fault::new(Code::StoreFull, "the store is full: nothing more is read or taken", place(reason))
}

/// Of a change that would end report rules.
pub(super) fn unreported(reason: &'static str) -> Fault {
    let what =
        "the store is full: there is no room for what report rules withhold, which the change would end";
    Fault::new(Code::StoreFull, what, place(reason))
}

fn place(reason: &str) -> &'static str {
    match reason {
        "free_space" => "store.min_free",
        _ => "store.max_bytes",
    }
}
