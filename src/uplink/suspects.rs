//! Whose part it is that the broker hangs up on. In MQTT 3.1.1 it has no other way to refuse a publish (§3.3.5), be it
//! forbidden or too large. Sans-IO.
//!
//! - Whose part is in the air when the broker hangs up is noted. Any answer to a part of that lane ends it, and so does
//!   a broker that has had one for a while.
//! - Who is noted twice, without an answer in between, flies alone from then on: nothing else is in the air, and when
//!   the broker hangs up it is known on what. Others go first, so that they get something out of a connection that
//!   may end soon; a lane that waited so and did not get its turn need not wait on the next.
//! - Who was alone in the air twice is at fault; once may be chance, a broker that is restarted or a modem. A part of
//!   many rows is halved, and for a while no more of the lane goes at once; a single row parks its endpoint. Its
//!   probes fly alone as well.
//! - No row is given up for it: nobody said that a row is wrong.
//!
//! Here is who is noted. What becomes of them is in `outflow/hang_up`.

use crate::store::{LaneId, RowId};
use adapter_api::Instant;
use std::{collections::BTreeMap, time::Duration};

/// So often is no chance any more: in the air, and alone in it.
const TWICE: u32 = 2;
/// So often noted, it is told.
const OFTEN: u32 = 3;

/// Who is noted, and who sends less at once.
#[derive(Debug)]
pub(super) struct Suspects {
    noted: BTreeMap<LaneId, Note>,
    held: BTreeMap<LaneId, Held>,
    /// After so long twice as much is tried.
    again: Duration,
}

#[derive(Debug)]
struct Note {
    /// The first row that was in the air.
    head: RowId,
    /// How often it was in the air, and how often of these alone.
    cuts: u32,
    alone: u32,
    /// It lets others go first on the next connection.
    patient: bool,
}

#[derive(Debug)]
struct Held {
    rows: usize,
    until: Instant,
}

impl Suspects {
    /// Nobody is noted.
    pub(super) fn new(again: Duration) -> Self {
        Self { noted: BTreeMap::new(), held: BTreeMap::new(), again }
    }

    /// The broker hung up with these lanes in the air, each with its first row there.
    pub(super) fn note(&mut self, air: &BTreeMap<LaneId, RowId>, alone: bool) {
        for (lane, head) in air {
            let note = self.noted.entry(*lane).or_insert_with(|| Note::new(*head));
            if note.head != *head {
                // What it was noted for was dropped meanwhile.
                *note = Note::new(*head);
            }
            note.cuts = note.cuts.saturating_add(1);
            note.alone = note.alone.saturating_add(u32::from(alone));
            note.patient = true;
        }
    }

    /// A part of this lane was answered.
    pub(super) fn clear(&mut self, lane: LaneId) {
        self.noted.remove(&lane);
    }

    /// Nothing is known of this lane.
    pub(super) fn forget(&mut self, lane: LaneId) {
        self.clear(lane);
        self.lift(lane);
    }

    /// Whether nobody is noted.
    pub(super) fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// Whether this lane is to fly alone.
    pub(super) fn is_suspect(&self, lane: LaneId) -> bool {
        self.noted.get(&lane).is_some_and(|note| note.cuts >= TWICE)
    }

    /// Whether it is this lane that the broker hangs up on.
    pub(super) fn is_at_fault(&self, lane: LaneId) -> bool {
        self.noted.get(&lane).is_some_and(|note| note.alone >= TWICE)
    }

    /// Whether it is told that the broker hangs up with this lane in the air.
    pub(super) fn is_told(&self, lane: LaneId) -> bool {
        self.noted.get(&lane).is_some_and(|note| note.cuts >= OFTEN || note.alone >= TWICE)
    }

    /// Those who let others go first on the connection that is up now.
    pub(super) fn patient(&mut self) -> Vec<LaneId> {
        let suspects = self.noted.iter_mut().filter(|(_, note)| note.cuts >= TWICE);
        suspects.filter_map(|(lane, note)| std::mem::take(&mut note.patient).then_some(*lane)).collect()
    }

    /// This lane sends no more than so many rows at once.
    pub(super) fn hold(&mut self, now: Instant, lane: LaneId, rows: usize) {
        self.held.insert(lane, Held { rows, until: now + self.again });
    }

    /// It may send as much as any other.
    pub(super) fn lift(&mut self, lane: LaneId) {
        self.held.remove(&lane);
    }

    /// Most rows of this lane at once, of so many that any other may send.
    pub(super) fn most(&mut self, now: Instant, lane: LaneId, all: usize) -> usize {
        let Some(held) = self.held.get_mut(&lane) else { return all };
        if held.until <= now {
            // The platform's limit may be another one by now.
            *held = Held { rows: held.rows.saturating_mul(2), until: now + self.again };
        }
        if held.rows >= all {
            self.lift(lane);
            return all;
        }
        held.rows
    }
}

impl Note {
    fn new(head: RowId) -> Self {
        Self { head, cuts: 0, alone: 0, patient: false }
    }
}
