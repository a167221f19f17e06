//! The outbox on disk: rows in, rows read for their flight, rows deleted with proof.
//!
//! AUTOINCREMENT is load-bearing: an id is never reused while an old confirmation may be under way.

use super::{Class, LaneId, RowId, StoredRow, lanes::LaneInfo};
use adapter_api::{Sample, Stamp};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

/// The two columns of a stamp.
pub(super) fn columns(at: Stamp) -> (i64, Option<i64>) {
    match at {
        Stamp::Wall { us, .. } => (us, None),
        Stamp::Mono { boot, us } => (us, Some(boot)),
    }
}

/// Longest reason of a dead letter, in bytes: it is the platform's text.
const REASON: usize = 256;

/// The bytes a row takes, about, with an item of so many.
pub(super) fn row_bytes(item: usize) -> u64 {
    u64::try_from(item).unwrap_or(u64::MAX).saturating_add(24)
}

/// A reason as it is kept.
pub(super) fn short(reason: &str) -> &str {
    (0..=REASON).rev().find_map(|end| reason.get(..end)).filter(|_| reason.len() > REASON).unwrap_or(reason)
}

/// The earliest and the latest wall time of some rows, µs since 1970.
pub(super) type Range = Option<(i64, i64)>;

/// Writes samples of a lane, inside the caller's transaction. Tells of each row its bytes, too.
pub(super) fn insert(
    db: &Connection,
    lane: LaneId,
    samples: &[Sample],
    mut wrote: impl FnMut(RowId, u64),
) -> rusqlite::Result<()> {
    let mut insert =
        db.prepare_cached("INSERT INTO outbox(lane, stamp, boot, item) VALUES (?1, ?2, ?3, ?4)")?;
    for sample in samples {
        let (stamp, boot) = columns(sample.at);
        let item = super::item::encode(sample);
        insert.execute(params![lane.0, stamp, boot, item])?;
        wrote(RowId(db.last_insert_rowid()), row_bytes(item.len()));
    }
    Ok(())
}

/// The two columns of a row's stamp.
pub(super) fn stamp(db: &Connection, row: RowId) -> rusqlite::Result<Option<(i64, Option<i64>)>> {
    let mut select = db.prepare_cached("SELECT stamp, boot FROM outbox WHERE id = ?1")?;
    select.query_row([row.0], |r| Ok((r.get(0)?, r.get(1)?))).optional()
}

/// The earliest and the latest wall time of rows in id order, also of those whose boot's time is known.
pub(super) fn range(db: &Connection, rows: &[RowId]) -> rusqlite::Result<Range> {
    // What is beyond an integer in a damaged row is cut to one.
    let mut select = db.prepare_cached(
        "SELECT CAST(min(us) AS INTEGER), CAST(max(us) AS INTEGER) FROM
         (SELECT iif(outbox.boot IS NULL, stamp, stamp + wall_offset_us) AS us
          FROM outbox LEFT JOIN boot ON boot.id = outbox.boot WHERE outbox.id BETWEEN ?1 AND ?2)",
    )?;
    let mut range: Range = None;
    for run in rows.chunk_by(|a, b| b.0 == a.0 + 1) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let found: (Option<i64>, Option<i64>) =
            select.query_row([first.0, last.0], |r| Ok((r.get(0)?, r.get(1)?)))?;
        if let (Some(first), Some(last)) = found {
            range = Some(range.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
        }
    }
    Ok(range)
}

/// Reads rows one by one.
pub(super) struct Reader<'a>(CachedStatement<'a>);

impl<'a> Reader<'a> {
    /// Prepared once for all of them.
    pub(super) fn new(db: &'a Connection) -> rusqlite::Result<Self> {
        db.prepare_cached("SELECT stamp, boot, item FROM outbox WHERE id = ?1").map(Self)
    }

    /// Reads one row.
    pub(super) fn read(&mut self, row: RowId) -> rusqlite::Result<Option<StoredRow>> {
        let stored = |r: &Row<'_>| {
            Ok(StoredRow { id: row, stamp: r.get(0)?, boot: r.get(1)?, item: r.get(2)?, again: false })
        };
        self.0.query_row([row.0], stored).optional()
    }
}

/// Deletes rows in id order (cheap in that order only: 2.4 against 40 bytes written per stored byte
/// in lane order). Returns how many there were.
pub(super) fn delete(db: &Connection, rows: &[RowId]) -> rusqlite::Result<usize> {
    let mut range = db.prepare_cached("DELETE FROM outbox WHERE id BETWEEN ?1 AND ?2")?;
    let mut deleted = 0;
    for run in rows.chunk_by(|a, b| b.0 == a.0 + 1) {
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            deleted += range.execute([first.0, last.0])?;
        }
    }
    Ok(deleted)
}

/// Moves a row to the dead letters. Returns the bytes it takes there, if it was in the outbox.
pub(super) fn bury(
    db: &Connection,
    lane: &LaneInfo,
    row: RowId,
    reason: &str,
) -> rusqlite::Result<Option<u64>> {
    let mut select = db.prepare_cached("SELECT length(item) FROM outbox WHERE id = ?1")?;
    let item: Option<i64> = select.query_row([row.0], |r| r.get(0)).optional()?;
    let mut copy = db.prepare_cached(
        // A number is not given to another letter: whoever decides over it by hand has looked at it before.
        "INSERT INTO dead(id, tenant, endpoint, class, stamp, boot, item, reason)
         SELECT 1 + max(coalesce((SELECT max(id) FROM dead), 0),
                        coalesce((SELECT next FROM ids WHERE name = 'letter'), 0)),
                ?2, ?3, ?4, stamp, boot, item, ?5 FROM outbox WHERE id = ?1",
    )?;
    let tenant = lane.endpoint.tenant.as_str();
    let name = lane.endpoint.name.as_str();
    copy.execute(params![row.0, tenant, name, lane.class.account().number(), reason])?;
    delete(db, &[row])?;
    let text = u64::try_from(name.len() + reason.len()).unwrap_or_default();
    Ok(item.map(|item| u64::try_from(item).unwrap_or_default().saturating_add(text)))
}

/// A dead letter, without what it says.
pub(super) struct Letter {
    pub(super) id: i64,
    pub(super) tenant: String,
    pub(super) endpoint: String,
    pub(super) class: Class,
    /// Of the letter, and of the row it was.
    pub(super) bytes: u64,
    pub(super) row_bytes: u64,
    /// Its two columns.
    pub(super) stamp: (i64, Option<i64>),
}

const LETTER: &str = "SELECT id, tenant, endpoint, class, length(item), length(endpoint) + length(CAST(reason AS BLOB)), stamp, boot FROM dead";

impl Letter {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (item, text): (i64, i64) = (row.get(4)?, row.get(5)?);
        let count = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
        Ok(Self {
            id: row.get(0)?,
            tenant: row.get(1)?,
            endpoint: row.get(2)?,
            // Backlog is never one: it is counted as telemetry. A class of a newer version stays where it is.
            class: Class::stored(row.get(3)?).unwrap_or(Class::Control),
            bytes: count(item).saturating_add(count(text)),
            row_bytes: row_bytes(usize::try_from(item).unwrap_or_default()),
            stamp: (row.get(6)?, row.get(7)?),
        })
    }
}

/// One of them.
pub(super) fn letter(db: &Connection, id: i64) -> rusqlite::Result<Option<Letter>> {
    db.prepare_cached(&format!("{LETTER} WHERE id = ?1"))?.query_row([id], Letter::read).optional()
}

/// Those after one and up to another, the oldest first, at most `max`.
pub(super) fn letters(db: &Connection, after: i64, upto: i64, max: usize) -> rusqlite::Result<Vec<Letter>> {
    let select = format!("{LETTER} WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3");
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    db.prepare_cached(&select)?.query_map([after, upto, max], Letter::read)?.collect()
}

/// The number of the youngest.
pub(super) fn last_letter(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT coalesce(max(id), 0) FROM dead", [], |row| row.get(0))
}

/// Writes the row of a letter into a lane, with the stamp it had.
pub(super) fn requeue(db: &Connection, lane: LaneId, letter: i64) -> rusqlite::Result<RowId> {
    let mut insert = db.prepare_cached(
        "INSERT INTO outbox(lane, stamp, boot, item) SELECT ?2, stamp, boot, item FROM dead WHERE id = ?1",
    )?;
    insert.execute([letter, lane.0])?;
    Ok(RowId(db.last_insert_rowid()))
}

/// Deletes a letter.
pub(super) fn forget_letter(db: &Connection, letter: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM dead WHERE id = ?1")?.execute([letter]).map(drop)
}

/// No letter gets a number up to this one any more.
pub(super) fn pass_over_letters(db: &Connection, last: i64) -> rusqlite::Result<()> {
    let mut keep = db.prepare_cached(
        "INSERT INTO ids(name, next) VALUES ('letter', ?1) ON CONFLICT DO UPDATE SET next = max(next, ?1)",
    )?;
    keep.execute([last]).map(drop)
}

/// The dead letters, and their bytes.
pub(super) fn dead(db: &Connection) -> rusqlite::Result<(i64, i64)> {
    db.query_row(
        "SELECT count(*), coalesce(sum(length(item) + length(endpoint) + length(CAST(reason AS BLOB))), 0) FROM dead",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Deletes the oldest dead letters until so many bytes of them are gone. Returns how many, and their bytes.
pub(super) fn forget(db: &Connection, bytes: u64) -> rusqlite::Result<(u64, u64)> {
    let mut select = db.prepare_cached(
        "SELECT id, length(item) + length(endpoint) + length(CAST(reason AS BLOB)) FROM dead ORDER BY id LIMIT 4096",
    )?;
    let mut letters = select.query([])?;
    let (mut last, mut count, mut freed) = (i64::MIN, 0, 0);
    while freed < bytes
        && let Some(letter) = letters.next()?
    {
        last = letter.get(0)?;
        count += 1;
        freed += u64::try_from(letter.get::<_, i64>(1)?).unwrap_or_default();
    }
    drop(letters);
    db.prepare_cached("DELETE FROM dead WHERE id <= ?1")?.execute([last])?;
    pass_over_letters(db, last)?;
    Ok((count, freed))
}
