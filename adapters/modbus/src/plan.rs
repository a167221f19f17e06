//! Which requests read a set of values: those close together at once, never over the limits. Sans-IO.
//!
//! A value is never spread over two requests: its halves could be of two instants. Registers nobody
//! asked for are read where they are few and lie between others, until the device refuses a request
//! with such a hole; then it is cut at its holes, and what is refused further is halved until the
//! missing registers are alone. Those are parked: asked for ever more rarely, at last once an hour. On
//! the same timetable parts that lie together are joined again, a few at a time.

use crate::{
    mutant::{self, Mutant},
    pdu::{Exception, Request},
    point::Table,
};
use adapter_api::Instant;
use std::time::Duration;

/// A device that has just started may refuse what it serves a minute later.
const FIRST_PARKING: Duration = Duration::from_secs(60);
const LONGEST_PARKING: Duration = Duration::from_secs(3_600);
/// Requests without an answer, while the device answers others, after which it is taken to lack them.
const SILENCES: u32 = 3;
/// Pairs of parts that are joined at once. Where the device refuses them still, a poll has enough splits
/// to undo that, and costs no value.
const JOINS: usize = 4;

/// The entries of one value. `start + length` is at most 65536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Want {
    /// Which table.
    pub table: Table,
    /// Its first entry.
    pub start: u16,
    /// How many.
    pub length: u16,
}

/// What one request to a device may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most registers.
    pub registers: u16,
    /// The most coils or discrete inputs.
    pub bits: u16,
    /// The most registers in a row that nobody asked for; of bits, sixteen times as many.
    pub hole: u16,
}

/// One request and the values it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Which table.
    pub table: Table,
    /// Its first entry.
    pub start: u16,
    /// How many.
    pub length: u16,
    /// Positions of its values in the wants of the plan.
    pub wants: Vec<usize>,
    /// It holds entries nobody asked for.
    holes: bool,
    parked: Option<Parked>,
    silent: Option<Silent>,
}

/// What a device says to a request for what it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// An exception.
    Refused(Exception),
    /// Nothing, while it answers other requests.
    Silent,
}

/// When parts of what was refused are joined again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rejoin {
    at: Instant,
    wait: Duration,
    /// Some were joined, and nothing was refused since.
    joined: bool,
}

/// Requests in a row that had no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Silent {
    /// Those before which the device had answered something.
    count: u32,
    /// The device's answers until the last one.
    answers: u64,
}

/// What the device does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parked {
    why: Absence,
    until: Instant,
    wait: Duration,
}

/// The requests for a set of wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    wants: Vec<Want>,
    limits: Limits,
    blocks: Vec<Block>,
    /// Something parked was served: its neighbours may be read with it from the next round on.
    changed: bool,
    /// Something is split.
    rejoin: Option<Rejoin>,
}

impl Limits {
    /// As the standard has them.
    #[cfg(test)]
    pub(crate) const STANDARD: Self = Self { registers: 125, bits: 2_000, hole: 0 };

    /// The most entries of a table in one request.
    pub(crate) fn of(self, table: Table) -> u16 {
        let own = if table.is_bits() { self.bits } else { self.registers };
        own.min(table.limit())
    }

    fn hole_of(self, table: Table) -> u16 {
        if table.is_bits() { self.hole.saturating_mul(16) } else { self.hole }
    }
}

impl Block {
    /// What to ask for.
    pub(crate) fn request(&self) -> Request {
        Request { table: self.table, start: self.start, count: self.length }
    }

    /// What the device said to it, if it is not to be asked again for now.
    pub(crate) fn parked(&self, now: Instant) -> Option<Absence> {
        let parked = self.parked.filter(|parked| now < parked.until && !mutant::is(Mutant::ParkedAsked));
        parked.map(|parked| parked.why)
    }

    fn park(&mut self, now: Instant, why: Absence) {
        if self.parked.is_none_or(|parked| parked.until <= now) {
            let wait = self.parked.map_or(FIRST_PARKING, |parked| parked.wait * 2).min(LONGEST_PARKING);
            self.parked = Some(Parked { why, until: now + wait, wait });
        }
    }

    fn end(&self) -> u32 {
        u32::from(self.start) + u32::from(self.length)
    }
}

impl Want {
    /// The entry behind its last one.
    fn end(self) -> u32 {
        u32::from(self.start) + u32::from(self.length)
    }
}

impl Plan {
    /// As few requests as the limits allow.
    pub(crate) fn new(wants: Vec<Want>, limits: Limits) -> Self {
        let mut plan = Self { wants, limits, blocks: Vec::new(), changed: false, rejoin: None };
        plan.join();
        plan
    }

    /// A round begins: what was learned in the last one becomes its requests.
    pub(crate) fn begin(&mut self, now: Instant) {
        if std::mem::take(&mut self.changed) {
            self.blocks.retain(|block| block.parked.is_some());
            let parked: Vec<usize> = self.blocks.iter().flat_map(|block| block.wants.clone()).collect();
            let free = (0..self.wants.len()).filter(|want| !parked.contains(want)).collect();
            let free = self.coalesce(free, self.limits.hole);
            self.blocks.splice(0..0, free);
        }
        if let Some(rejoin) = self.rejoin.filter(|rejoin| rejoin.at <= now) {
            // The last ones were served, so that the next ones need not wait for long.
            let wait = if rejoin.joined { FIRST_PARKING } else { rejoin.wait };
            self.rejoin = self.join_some().then_some(Rejoin { at: now + wait, wait, joined: true });
        }
    }

    /// Joins a few neighbours. False if there are none.
    fn join_some(&mut self) -> bool {
        self.blocks.sort_by_key(|block| (block.silent.is_some(), block.table, block.start));
        let (mut joins, mut at) = (0, 0);
        while let Some([left, right]) = self.blocks.get(at..at + 2)
            && joins < JOINS
            && !mutant::is(Mutant::NeverJoined)
        {
            let free = [left, right].iter().all(|block| block.parked.is_none() && block.silent.is_none());
            let wants = left.wants.iter().chain(&right.wants).copied().collect();
            let joined = if free { self.coalesce(wants, self.limits.hole) } else { Vec::new() };
            if joined.len() == 1 {
                self.blocks.splice(at..at + 2, joined);
                joins += 1;
            }
            at += 1;
        }
        joins > 0
    }

    /// The request at a position.
    pub(crate) fn block(&self, at: usize) -> Option<&Block> {
        self.blocks.get(at)
    }

    /// Whether there is nothing in it that the device has. It is asked all the same: else nobody would
    /// know whether it is there.
    pub(crate) fn is_all_parked(&self, now: Instant) -> bool {
        self.blocks.iter().all(|block| block.parked(now).is_some())
    }

    /// Whether asking for it to see whether the device is there would most likely cost a time-out.
    pub(crate) fn is_mute(&self, now: Instant) -> bool {
        self.blocks.first().and_then(|block| block.parked(now)) == Some(Absence::Silent)
    }

    /// Forgets all that was learned: another device may be there.
    pub(crate) fn join(&mut self) {
        (self.changed, self.rejoin) = (false, None);
        self.blocks.clear();
        self.blocks = self.coalesce((0..self.wants.len()).collect(), self.limits.hole);
    }

    /// The device served a request.
    pub(crate) fn handle_served(&mut self, at: usize) {
        if let Some(block) = self.blocks.get_mut(at) {
            block.silent = None;
            self.changed |= block.parked.take().is_some();
        }
    }

    /// A request had no answer; `answers` is what the device has answered so far, if that says anything
    /// about this request. In the next round it is the last one, so that it keeps no other from being read.
    pub(crate) fn handle_silence(&mut self, now: Instant, at: usize, answers: Option<u64>) {
        if at >= self.blocks.len() {
            return;
        }
        let mut block = self.blocks.remove(at);
        if let Some(answers) = answers {
            let count = match block.silent {
                None => 1,
                Some(before) => before.count + u32::from(before.answers < answers),
            };
            block.silent = Some(Silent { count: count.min(SILENCES), answers });
            if count >= SILENCES {
                block.park(now, Absence::Silent);
            }
        }
        let place = if mutant::is(Mutant::SilentFirst) { at } else { self.blocks.len() };
        self.blocks.insert(place, block);
    }

    /// The device does not have what a request asks for. True if it is split, and its first part has its
    /// position; else it is parked.
    pub(crate) fn handle_refusal(
        &mut self,
        now: Instant,
        at: usize,
        code: Exception,
        may_split: bool,
    ) -> bool {
        let Some(block) = self.blocks.get_mut(at) else { return false };
        block.silent = None;
        let Some(block) = self.blocks.get(at) else { return false };
        let parts = if block.holes {
            let hole = if mutant::is(Mutant::HolesKept) { self.limits.hole } else { 0 };
            self.coalesce(block.wants.clone(), hole)
        } else {
            self.halves(block)
        };
        if !parts.is_empty() {
            if may_split {
                self.blocks.splice(at..=at, parts);
                let wait = match self.rejoin {
                    None => FIRST_PARKING,
                    Some(rejoin) if rejoin.joined => (rejoin.wait * 2).min(LONGEST_PARKING),
                    Some(rejoin) => rejoin.wait,
                };
                self.rejoin = Some(Rejoin { at: now + wait, wait, joined: false });
            }
            return may_split;
        }
        if let Some(block) = self.blocks.get_mut(at) {
            block.park(now, Absence::Refused(code));
        }
        false
    }

    /// Its values in two requests; none if they all lie on the same entries (bits of a status word):
    /// those are missing together.
    fn halves(&self, block: &Block) -> Vec<Block> {
        let mut distinct: Vec<Want> = block.wants.iter().filter_map(|i| self.want(*i)).collect();
        distinct.dedup();
        let Some(middle) = distinct.get(distinct.len() / 2).copied().filter(|_| distinct.len() > 1) else {
            return Vec::new();
        };
        let (left, right) = block.wants.iter().partition(|i| self.want(**i).is_some_and(|w| w < middle));
        self.coalesce(left, 0).into_iter().chain(self.coalesce(right, 0)).collect()
    }

    fn want(&self, at: usize) -> Option<Want> {
        self.wants.get(at).copied()
    }

    /// Greedy over the wants in order of their addresses.
    fn coalesce(&self, mut chosen: Vec<usize>, hole: u16) -> Vec<Block> {
        chosen.sort_by_key(|i| self.wants.get(*i));
        let limits = Limits { hole, ..self.limits };
        let mut blocks: Vec<Block> = Vec::new();
        for index in chosen {
            let Some(want) = self.want(index) else { continue };
            match blocks.last_mut().and_then(|block| Some((self.joined(block, want, limits)?, block))) {
                Some((length, block)) => {
                    block.holes |= u32::from(want.start) > block.end();
                    block.length = length;
                    block.wants.push(index);
                }
                None => blocks.push(Block {
                    table: want.table,
                    start: want.start,
                    length: want.length,
                    wants: vec![index],
                    holes: false,
                    parked: None,
                    silent: None,
                }),
            }
        }
        blocks
    }

    /// The block's length with this want in it, if it is close enough, the limits allow it, and nothing
    /// that is parked lies between them.
    fn joined(&self, block: &Block, want: Want, limits: Limits) -> Option<u16> {
        let (end, start) = (block.end(), u32::from(want.start));
        if want.table != block.table || start > end + u32::from(limits.hole_of(block.table)) {
            return None;
        }
        let lacking = |other: &Block| {
            other.parked.is_some()
                && other.table == block.table
                && u32::from(other.start) < start
                && other.end() > end
        };
        if start > end && self.blocks.iter().any(lacking) {
            return None;
        }
        let length = u16::try_from(end.max(want.end()) - u32::from(block.start)).ok()?;
        (length <= limits.of(block.table)).then_some(length)
    }
}

impl std::fmt::Display for Absence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(code) => code.fmt(f),
            Self::Silent => f.write_str("no answer"),
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
