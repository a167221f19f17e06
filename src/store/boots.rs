//! Boots, and what is known of the time they began: how a stamp since boot becomes an instant.
//!
//! Rows are never rewritten: a boot's offset is stored once, and its rows resolve to true time when
//! they are handed out. Who decides that the time is known is in `trust.rs`.

use super::recover;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

/// Boots remembered. Rows of older ones go up without an instant, as if it had never been known.
const KEPT: i64 = 1_000;
/// The number of a boot that could not be written down: it never resolves.
const NAMELESS: i64 = 0;

/// All boots that rows may be of.
#[derive(Debug)]
pub(super) struct Boots {
    present: i64,
    /// What tells it from all others.
    id: String,
    /// µs from 1970 to the boot, where known.
    offsets: HashMap<i64, i64>,
    /// Rows of the present boot wait no longer for its offset.
    hold_over: bool,
}

/// When a row was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// µs since 1970.
    At(i64),
    /// It will never be known, or has not become known for too long.
    Unknown,
    /// It may become known soon.
    NotYet,
}

impl Boots {
    /// Reads the table, and writes the present boot into it if it is new.
    pub(super) fn open(db: &Connection, id: &str) -> rusqlite::Result<Self> {
        let known = db.query_row("SELECT id FROM boot WHERE uuid = ?1", [id], |row| row.get(0)).optional()?;
        let present = match known.map_or_else(|| Self::begin(db, id), Ok) {
            Err(error) if recover::is_damage(&error) => return Err(error),
            Err(error) => {
                // A full disk, most likely, on which no row would find room either.
                tracing::error!(%error, "this boot could not be written down");
                NAMELESS
            }
            Ok(present) => present,
        };
        let mut select =
            db.prepare("SELECT id, wall_offset_us FROM boot WHERE wall_offset_us IS NOT NULL")?;
        let offsets = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let offsets = offsets.collect::<rusqlite::Result<_>>()?;
        Ok(Self { present, id: id.to_owned(), offsets, hold_over: false })
    }

    fn begin(db: &Connection, id: &str) -> rusqlite::Result<i64> {
        db.execute("INSERT INTO boot(uuid) VALUES (?1)", [id])?;
        let number = db.last_insert_rowid();
        // Not by their numbers: a salvage leaps over many.
        db.execute(
            "DELETE FROM boot WHERE id <= (SELECT id FROM boot ORDER BY id DESC LIMIT 1 OFFSET ?1)",
            [KEPT],
        )?;
        Ok(number)
    }

    /// Writes all that is known into a database in which some of it may be missing.
    pub(super) fn write_all(&self, db: &Connection) -> rusqlite::Result<()> {
        // No boot has such a name: what the earlier ones were called is not in memory.
        let mut add = db.prepare(
            "INSERT OR IGNORE INTO boot(id, uuid, wall_offset_us) VALUES (?1, 'number ' || ?1, ?2)",
        )?;
        for (boot, offset) in self.offsets.iter().filter(|(boot, _)| **boot != self.present) {
            add.execute([boot, offset])?;
        }
        if self.present != NAMELESS {
            let write = "INSERT OR REPLACE INTO boot(id, uuid, wall_offset_us) VALUES (?1, ?2, ?3)";
            db.execute(write, params![self.present, self.id, self.offset()])?;
        }
        Ok(())
    }

    /// The number of the present boot.
    pub(super) fn present(&self) -> i64 {
        self.present
    }

    /// The present boot's offset, if it is known.
    pub(super) fn offset(&self) -> Option<i64> {
        self.offsets.get(&self.present).copied()
    }

    /// The moment of a row's two columns.
    pub(super) fn moment(&self, stamp: i64, boot: Option<i64>) -> Moment {
        let Some(boot) = boot else { return Moment::At(stamp) };
        match self.offsets.get(&boot) {
            Some(offset) => Moment::At(stamp.saturating_add(*offset)),
            None if boot == self.present && !self.hold_over && boot != NAMELESS => Moment::NotYet,
            None => Moment::Unknown,
        }
    }

    /// Whether no more will ever be known of a boot's time than is now.
    pub(super) fn is_past(&self, boot: Option<i64>) -> bool {
        boot.is_some_and(|boot| boot != self.present || boot == NAMELESS)
    }

    /// The present boot's time is known. The first word stands: what was resolved by it stays as it is.
    pub(super) fn know(&mut self, db: &Connection, offset_us: i64) -> rusqlite::Result<()> {
        if self.present == NAMELESS {
            return Ok(());
        }
        let offset = *self.offsets.entry(self.present).or_insert(offset_us);
        let mut update = db.prepare_cached("UPDATE boot SET wall_offset_us = ?2 WHERE id = ?1")?;
        update.execute(params![self.present, offset]).map(drop)
    }

    /// Rows of the present boot wait no longer.
    pub(super) fn end_hold(&mut self) {
        self.hold_over = true;
    }
}
