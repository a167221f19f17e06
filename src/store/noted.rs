//! Rows that landed and are still on disk.
//!
//! With many lanes the rows that land together lie a page apart each, and to delete one a page of 4 KiB is written
//! twice (22 bytes for each stored byte, with 10,000 lanes). So where they are scattered they are only noted: a
//! bit in a map of 8,192 ids, which is on disk before anybody counts them as landed. A block of which all rows have
//! landed is deleted in one sweep, as one piece; so are, bit by bit, those in which nothing has landed for a while,
//! and those whose room is needed.
//!
//! Constraints: a noted row is on disk and on nobody's books; a bit and its row go in the same transaction; bits
//! are never of a row that is to come, for ids are never reused.

use super::{RowId, outbox};
use adapter_api::Instant;
use rusqlite::{Connection, params};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Ids of a block.
const IDS: i64 = 8_192;
/// Bytes of its map.
const MAP: usize = 1_024;
/// Rows that lie in no more places than this are deleted at once: hardly more pages than the map's own.
const PLACES: usize = 8;
/// A block in which nothing has landed for so long is swept though some of its rows have not.
const REST: Duration = Duration::from_secs(60);

/// What is noted, block by block.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Rows on disk of each block, noted ones included. Only when to sweep hangs on it.
    there: BTreeMap<i64, usize>,
    /// Those that go with the open transaction.
    going: BTreeMap<i64, usize>,
    /// Where something is noted.
    blocks: BTreeMap<i64, Block>,
    /// As the open transaction leaves them; `None` for those that are swept.
    pending: BTreeMap<i64, Option<Block>>,
    /// When the next block is to be swept.
    sweep_due: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Block {
    map: Box<[u8; MAP]>,
    rows: usize,
    /// Of these rows, about.
    bytes: u64,
    /// When the last one was noted.
    at: Instant,
}

impl Noted {
    /// Reads the table; every row on disk is to be shown to [`Self::is_new`] then, and at last [`Self::committed`].
    pub(super) fn load(db: &Connection, now: Instant) -> rusqlite::Result<Self> {
        let mut noted = Self::default();
        let mut select = db.prepare("SELECT block, rows FROM landed")?;
        let mut blocks = select.query([])?;
        while let Some(row) = blocks.next()? {
            let number: i64 = row.get(0)?;
            // Anything else is damage that looks like a block.
            if (0..i64::MAX / IDS).contains(&number) {
                noted
                    .blocks
                    .insert(number, Block { map: map(&row.get::<_, Vec<u8>>(1)?), ..Block::new(now) });
            }
        }
        Ok(noted)
    }

    /// A row was found on disk: whether it still has to fly. Bits that are not asked for are of rows that a binary of
    /// 1.0 has deleted.
    pub(super) fn is_new(&mut self, row: RowId, bytes: u64) -> bool {
        self.came(row);
        let Some(known) = self.blocks.get(&number(row)).filter(|block| block.has(row)) else { return true };
        let found = self.pending.entry(number(row)).or_default();
        found.get_or_insert_with(|| Block::new(known.at)).note(row, bytes);
        false
    }

    /// Whether a row is noted.
    pub(super) fn has(&self, row: RowId) -> bool {
        self.blocks.get(&number(row)).is_some_and(|block| block.has(row))
    }

    /// A row has come, and is on disk.
    pub(super) fn came(&mut self, row: RowId) {
        *self.there.entry(number(row)).or_default() += 1;
    }

    /// Rows go from the disk with the open transaction, and are not noted.
    pub(super) fn go(&mut self, rows: &[RowId]) {
        for rows in rows.chunk_by(|a, b| number(*a) == number(*b)) {
            if let Some(first) = rows.first() {
                *self.going.entry(number(*first)).or_default() += rows.len();
            }
        }
    }

    /// Rows that landed, in the order of their ids and with their bytes: noted, or deleted where they lie together.
    /// Returns how many there were.
    pub(super) fn land(
        &mut self,
        db: &Connection,
        rows: &[(RowId, u64)],
        now: Instant,
    ) -> rusqlite::Result<usize> {
        let mut landed = 0;
        for rows in rows.chunk_by(|a, b| number(a.0) == number(b.0)) {
            let Some((first, _)) = rows.first() else { continue };
            let known = self.block(number(*first));
            let places = rows.chunk_by(|a, b| b.0.0 == a.0.0 + 1).count();
            if known.is_none() && places <= PLACES {
                let ids: Vec<RowId> = rows.iter().map(|(row, _)| *row).collect();
                landed += outbox::delete(db, &ids)?;
                self.go(&ids);
            } else {
                let mut block = known.cloned().unwrap_or_else(|| Block::new(now));
                landed += rows.iter().filter(|(row, bytes)| block.note(*row, *bytes)).count();
                block.at = now;
                self.pending.insert(number(*first), Some(block));
            }
        }
        Ok(landed)
    }

    /// Deletes noted rows, at most so many: of blocks that are due, and of those with most of them until `pressed` bytes
    /// are free.
    pub(super) fn sweep(
        &mut self,
        db: &Connection,
        most: usize,
        pressed: u64,
        now: Instant,
    ) -> rusqlite::Result<()> {
        let numbers: BTreeSet<i64> = self.blocks.keys().chain(self.pending.keys()).copied().collect();
        let mut order: Vec<(bool, Reverse<u64>, i64)> = Vec::new();
        for number in numbers {
            let Some(block) = self.block(number) else { continue };
            let due = self.due(number, block) <= now;
            if due || pressed > 0 {
                order.push((!due, Reverse(block.bytes), number));
            }
        }
        order.sort_unstable();
        let (mut room, mut bytes) = (most, 0);
        for (early, _, number) in order {
            if room == 0 || (early && bytes >= pressed) {
                break;
            }
            let Some(mut block) = self.block(number).cloned() else { continue };
            let before = block.bytes;
            let swept = block.sweep(number, room);
            room -= swept.len();
            bytes += before - block.bytes;
            outbox::delete(db, &swept)?;
            self.go(&swept);
            self.pending.insert(number, (block.rows > 0).then_some(block));
        }
        Ok(())
    }

    /// Deletes in another database what is noted here.
    pub(super) fn sweep_from(&self, db: &Connection) -> rusqlite::Result<()> {
        for (number, block) in &self.blocks {
            outbox::delete(db, &block.noted(*number))?;
        }
        Ok(())
    }

    /// Writes what the open transaction has noted and swept.
    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut write = db.prepare_cached("INSERT OR REPLACE INTO landed(block, rows) VALUES (?1, ?2)")?;
        let mut delete = db.prepare_cached("DELETE FROM landed WHERE block = ?1")?;
        for (number, block) in &self.pending {
            match block {
                Some(block) => write.execute(params![number, block.map.as_slice()])?,
                None => delete.execute([number])?,
            };
        }
        Ok(())
    }

    /// After COMMIT.
    pub(super) fn committed(&mut self) {
        for (number, block) in std::mem::take(&mut self.pending) {
            match block {
                Some(block) => self.blocks.insert(number, block),
                None => self.blocks.remove(&number),
            };
        }
        for (number, gone) in std::mem::take(&mut self.going) {
            if let Some(there) = self.there.get_mut(&number) {
                *there = there.saturating_sub(gone);
            }
        }
        self.there.retain(|_, there| *there > 0);
        self.sweep_due = self.blocks.iter().map(|(number, block)| self.due(*number, block)).min();
    }

    /// After ROLLBACK.
    pub(super) fn rolled_back(&mut self) {
        self.pending.clear();
        self.going.clear();
    }

    /// When the next block is to be swept.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.sweep_due
    }

    /// The next row that is not noted, or may not be.
    pub(super) fn pass(&self, mut row: RowId) -> RowId {
        while self.has(row) {
            row = RowId(row.0 + 1);
        }
        row
    }

    /// The process ends: what is noted is to be swept now, for whoever opens the database next.
    pub(super) fn hurry(&mut self) {
        self.there.clear();
        self.sweep_due = self.blocks.values().map(|block| block.at).min();
    }

    /// Bytes of what is noted, about.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.values().map(|block| block.bytes).sum()
    }

    /// As the open transaction has it.
    fn block(&self, number: i64) -> Option<&Block> {
        self.pending.get(&number).map_or_else(|| self.blocks.get(&number), Option::as_ref)
    }

    /// When a block is to be swept: at once if it is whole.
    fn due(&self, number: i64, block: &Block) -> Instant {
        let going = self.going.get(&number).copied().unwrap_or_default();
        let there = self.there.get(&number).copied().unwrap_or_default().saturating_sub(going);
        if block.rows >= there { Instant::from_start(Duration::ZERO) } else { block.at + REST }
    }
}

impl Block {
    fn new(now: Instant) -> Self {
        Self { map: Box::new([0; MAP]), rows: 0, bytes: 0, at: now }
    }

    fn has(&self, row: RowId) -> bool {
        self.map.get(byte(row)).is_some_and(|byte| byte & bit(row) != 0)
    }

    /// Returns whether it is new.
    fn note(&mut self, row: RowId, bytes: u64) -> bool {
        let Some(byte) = self.map.get_mut(byte(row)).filter(|byte| **byte & bit(row) == 0) else {
            return false;
        };
        *byte |= bit(row);
        self.rows += 1;
        self.bytes += bytes;
        true
    }

    /// Takes out up to so many of the first. Returns them.
    fn sweep(&mut self, number: i64, most: usize) -> Vec<RowId> {
        let mut swept = self.noted(number);
        swept.truncate(most);
        for row in &swept {
            if let Some(byte) = self.map.get_mut(byte(*row)) {
                *byte &= !bit(*row);
            }
        }
        let left = self.rows.saturating_sub(swept.len());
        // What goes is taken for average; bits without a row count for nothing.
        let bytes = u128::from(self.bytes) * wide(left) / wide(self.rows).max(1);
        self.bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.rows = left;
        swept
    }

    /// Those that are noted, in order.
    fn noted(&self, number: i64) -> Vec<RowId> {
        (0..IDS).map(|id| RowId(number * IDS + id)).filter(|row| self.has(*row)).collect()
    }
}

/// How many rows are noted in a database.
pub(super) fn count(db: &Connection) -> rusqlite::Result<u64> {
    let noted = Noted::load(db, Instant::from_start(Duration::ZERO))?;
    let ones = |block: &Block| block.map.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
    Ok(noted.blocks.values().map(ones).sum())
}

/// Deletes all that are noted in a database.
pub(super) fn sweep_all(db: &Connection) -> rusqlite::Result<()> {
    Noted::load(db, Instant::from_start(Duration::ZERO))?.sweep_from(db)?;
    db.execute_batch("DELETE FROM landed")
}

fn wide(rows: usize) -> u128 {
    u128::try_from(rows).unwrap_or(u128::MAX)
}

/// Of as many bytes as were found.
fn map(found: &[u8]) -> Box<[u8; MAP]> {
    let mut map = Box::new([0; MAP]);
    map.iter_mut().zip(found).for_each(|(ours, found)| *ours = *found);
    map
}

fn number(row: RowId) -> i64 {
    row.0.div_euclid(IDS)
}

fn byte(row: RowId) -> usize {
    usize::try_from(row.0.rem_euclid(IDS) / 8).unwrap_or_default()
}

fn bit(row: RowId) -> u8 {
    1 << row.0.rem_euclid(8)
}
