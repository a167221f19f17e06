//! When a fault is told: at once, when it changes, hourly with all others, and when it is over. Sans-IO.
//!
//! What comes and goes is told ever more rarely, at last once an hour. Memory is bounded by the units and the
//! kinds of faults there are.

use super::standing::Standing;
use adapter_api::Instant;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    time::Duration,
};

/// So often all that stands is told again.
const HOUR: Duration = Duration::from_secs(3_600);
/// A count that changes is told when it has had so long to settle.
const SETTLE: Duration = Duration::from_secs(10);
/// Between two lines about one kind of one unit, at first; it doubles up to an hour, and starts anew when for an
/// hour nothing has come or gone.
const PAUSE: Duration = Duration::from_secs(10);
/// Faults named in the hourly line.
const LISTED: usize = 20;

/// A line of the journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Something is wrong.
    Begins(Standing),
    /// It is wrong in another way, or of more or fewer.
    Changed(Standing),
    /// Nothing of it is wrong any more.
    Over {
        /// What was, when it was worst.
        was: Standing,
        /// How long it was told to stand.
        after: Duration,
    },
    /// All devices of a unit answer, for the first time.
    Works {
        /// The unit.
        who: String,
        /// How many.
        devices: usize,
    },
    /// All that is wrong, hourly.
    Still(Vec<Standing>),
}

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    kinds: BTreeMap<(String, String), Kind>,
    lines: VecDeque<Line>,
    remind_at: Option<Instant>,
    /// Units that worked once.
    worked: BTreeSet<String>,
}

/// One kind of fault of one unit.
#[derive(Debug, Default)]
struct Kind {
    stands: Option<Standing>,
    /// At the look before.
    stood: Option<Standing>,
    /// What the journal knows.
    told: Option<Standing>,
    /// Of that, when it was worst.
    worst: Option<Standing>,
    /// Since when it knows of it.
    told_since: Option<Instant>,
    /// Since when there is something else to tell.
    changed: Option<Instant>,
    last: Option<Instant>,
    /// When anything last came or went, told or not.
    moved: Option<Instant>,
    pause: Duration,
}

impl Telling {
    /// The units there are: what was wrong with one that left the configuration is not told to be over.
    pub(super) fn handle_units(&mut self, units: &BTreeSet<&str>) {
        // `uplink` and `store` are always there; adapters are `kind.name`.
        self.kinds.retain(|(who, _), _| !who.contains('.') || units.contains(who.as_str()));
        self.worked.retain(|who| units.contains(who.as_str()));
    }

    /// All that stands at this moment. What stood before of somebody unheard goes on: nobody says that it is over.
    pub(super) fn handle_look(&mut self, now: Instant, standings: Vec<Standing>, unheard: Option<&str>) {
        for kind in self.kinds.values_mut() {
            kind.stood = kind.stands.take();
        }
        for standing in standings {
            let kind = self.kinds.entry((standing.who.clone(), standing.code.clone())).or_default();
            // The first of its kind is the one that is told.
            kind.stands.get_or_insert(standing);
        }
        for ((who, _), kind) in &mut self.kinds {
            if unheard == Some(who) && kind.stands.is_none() {
                kind.stands.clone_from(&kind.stood);
            }
            self.lines.extend(kind.tell(now));
        }
        self.kinds.retain(|_, kind| !kind.is_forgotten(now));
        self.remind(now);
    }

    /// Units of which nothing is wrong, and how many devices of them answer. From the first time on only what is
    /// wrong is told, and that it is over.
    pub(super) fn handle_well(&mut self, well: &BTreeMap<&str, usize>) {
        for (who, devices) in well {
            if self.worked.insert((*who).to_owned()) {
                self.lines.push_back(Line::Works { who: (*who).to_owned(), devices: *devices });
            }
        }
    }

    /// What is to be written.
    pub(super) fn poll_line(&mut self) -> Option<Line> {
        self.lines.pop_front()
    }

    /// When to look again, if nothing else happens.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.kinds.values().filter_map(Kind::due).chain(self.remind_at).min()
    }

    /// Whether there is anything that could be over by itself.
    pub(super) fn is_anything_wrong(&self) -> bool {
        self.kinds.values().any(|kind| kind.stands.is_some())
    }

    fn remind(&mut self, now: Instant) {
        let told = || self.kinds.values().filter_map(|kind| kind.told.clone());
        let Some(at) = self.remind_at else {
            self.remind_at = told().next().map(|_| now + HOUR);
            return;
        };
        if at > now {
            return;
        }
        let told: Vec<Standing> = told().collect();
        self.remind_at = (!told.is_empty()).then(|| now + HOUR);
        if !told.is_empty() {
            self.lines.push_back(Line::Still(told));
        }
    }
}

impl Kind {
    fn tell(&mut self, now: Instant) -> Option<Line> {
        if differ(&self.stands, &self.stood) {
            if self.moved.is_some_and(|moved| now.since(moved) >= HOUR) {
                self.pause = Duration::ZERO;
            }
            self.moved = Some(now);
        }
        if !differ(&self.stands, &self.told) {
            self.changed = None;
            return None;
        }
        self.changed.get_or_insert(now);
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        self.pause = (self.pause * 2).clamp(PAUSE, HOUR);
        (self.last, self.changed) = (Some(now), None);
        let was = std::mem::replace(&mut self.told, self.stands.clone());
        match (was, self.stands.clone()) {
            (None, Some(stands)) => {
                (self.told_since, self.worst) = (Some(now), Some(stands.clone()));
                Some(Line::Begins(stands))
            }
            (Some(_), Some(stands)) => {
                if self.worst.as_ref().is_none_or(|worst| worst.many() <= stands.many()) {
                    self.worst = Some(stands.clone());
                }
                Some(Line::Changed(stands))
            }
            (Some(was), None) => {
                let since = self.told_since.take().unwrap_or(now);
                Some(Line::Over { was: self.worst.take().unwrap_or(was), after: now.since(since) })
            }
            (None, None) => None,
        }
    }

    /// When what has changed is told.
    fn due(&self) -> Option<Instant> {
        let changed = self.changed?;
        let settles_in = match (&self.stands, &self.told) {
            (Some(stands), None) => stands.settles_in(),
            (Some(_), Some(_)) => SETTLE,
            (None, _) => Duration::ZERO,
        };
        let not_before = self.last.map_or(changed, |last| last + self.pause);
        Some((changed + settles_in).max(not_before))
    }

    /// Nothing is wrong, and that is known for long.
    fn is_forgotten(&self, now: Instant) -> bool {
        self.stands.is_none()
            && self.told.is_none()
            && self.moved.is_none_or(|moved| now.since(moved) >= HOUR)
    }
}

fn differ(one: &Option<Standing>, other: &Option<Standing>) -> bool {
    match (one, other) {
        (None, None) => false,
        (Some(one), Some(other)) => one.differs(other),
        _ => true,
    }
}

/// The hourly line's list: `modbus.site TG-431 17 of 30 devices; uplink TG-102`.
pub(super) fn list(faults: &[Standing]) -> String {
    let mut list = String::new();
    for fault in faults.iter().take(LISTED) {
        let between = if list.is_empty() { "" } else { "; " };
        let share = fault.share().map(|share| format!(" {share}")).unwrap_or_default();
        // Writing to a string cannot fail.
        let _infallible = write!(list, "{between}{} {}{share}", fault.who, fault.code);
    }
    if faults.len() > LISTED {
        let _infallible = write!(list, "; and {} more", faults.len() - LISTED);
    }
    list
}

#[cfg(test)]
mod tests;
