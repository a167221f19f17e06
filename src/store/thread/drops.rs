//! What was dropped and why, with the range of its stamps: every loss is reported, after a restart too (I10).
//!
//! The samples are counted by the ledger; the range is kept beside it, written in the same transaction.

use super::Thread;
use crate::store::{ledger::Ledger, outbox::Range, quota::Drops};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// Whose the ranges are in table `keep`.
const OWNER: &str = "drops";

/// By reason.
pub(super) type AllDrops = BTreeMap<String, Drops>;

/// What the database knows of drops.
pub(super) fn load(db: &Connection, ledger: &Ledger) -> rusqlite::Result<AllDrops> {
    let mut drops = AllDrops::new();
    for (reason, samples) in ledger.dropped() {
        drops.entry(reason).or_default().add(samples, None);
    }
    let mut select = db.prepare("SELECT key, value FROM keep WHERE owner = ?1")?;
    let mut rows = select.query([OWNER])?;
    while let Some(row) = rows.next()? {
        let (reason, value): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        if let Some(known) = drops.get_mut(&reason) {
            known.add(0, decode(&value));
        }
    }
    Ok(drops)
}

impl Thread {
    /// Tells whoever reports them how many there are.
    pub(super) fn tell_dropped(&self) {
        let dropped = self.room.drops.values().map(|drops| drops.samples).sum();
        self.dropped.send_if_modified(|told| std::mem::replace(told, dropped) != dropped);
    }

    /// Keeps the ranges with what the open transaction drops.
    pub(super) fn write_drops(&self, new: &[(&'static str, u64, Range)]) -> rusqlite::Result<()> {
        let mut ranges: BTreeMap<&str, Drops> = BTreeMap::new();
        for (reason, _, range) in new.iter().filter(|(_, _, range)| range.is_some()) {
            let known = || self.room.drops.get(*reason).copied().unwrap_or_default();
            ranges.entry(reason).or_insert_with(known).add(0, *range);
        }
        for (reason, drops) in ranges {
            let (Some(first), Some(last)) = (drops.first_us, drops.last_us) else { continue };
            self.put(OWNER, reason, &encode(first, last))?;
        }
        Ok(())
    }

    /// Takes the figures of a salvaged database, with the ranges that are known: those on disk may be lost.
    pub(super) fn find_drops(&mut self) -> rusqlite::Result<()> {
        let found = load(&self.db, &self.ledger)?;
        let known = std::mem::replace(&mut self.room.drops, found);
        for (reason, Drops { first_us, last_us, .. }) in known {
            let (Some(first), Some(last)) = (first_us, last_us) else { continue };
            if let Some(found) = self.room.drops.get_mut(&reason) {
                found.add(0, Some((first, last)));
                self.put(OWNER, &reason, &encode(first, last))?;
            }
        }
        Ok(())
    }
}

fn encode(first: i64, last: i64) -> Vec<u8> {
    [first.to_be_bytes(), last.to_be_bytes()].concat()
}

fn decode(value: &[u8]) -> Range {
    let (first, last) = value.split_first_chunk::<8>()?;
    let (last, _) = last.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*first), i64::from_be_bytes(*last)))
}
