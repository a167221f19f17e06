//! Salvage of a damaged database: a new file, and in it every row that can still be read.
//!
//! Rows are read around the damage, upwards to it and downwards to it. What was not found again is
//! counted `dropped(corrupt)`, so that the ledger balances (I10). Counters are raised by one block:
//! what the old file gave out last may have been unreadable. The old file is kept once.

use super::{
    OpenError,
    boots::Boots,
    database,
    lanes::{LaneInfo, Lanes},
    ledger::Ledger,
    noted::{self, Noted},
    progress::Progress,
    reserve, schema,
};
use crate::backoff::Rng;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, ToSql, params};
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

/// Counters are raised by so much.
const BLOCK: i64 = 65_536;
/// Ids leapt over at first where reading fails.
const LEAP: i64 = 64;
/// Room for what is no copy: the first pages of a new file, its journal.
const BESIDES: u64 = 1 << 20;
/// What a salvage that did not come to its end may leave.
const BEGUN: [&str; 4] = [".new", ".new-journal", ".new-wal", ".new-shm"];
/// Kept of an earlier salvage: worth less than what is copied now.
const EARLIER: [&str; 2] = [".damaged", ".damaged-wal"];

/// What memory knows, and better than a damaged disk.
pub(super) struct Known<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) noted: &'a Noted,
    pub(super) lanes: &'a Lanes,
    pub(super) boots: &'a Boots,
}

/// A table: its name, its columns, and by which of them it can be walked.
struct Table(&'static str, &'static str, &'static [&'static str]);

const ROWS: [Table; 2] = [
    Table("outbox", "id, lane, stamp, boot, item", &["id"]),
    Table("dead", "id, tenant, endpoint, class, stamp, boot, item, reason", &["id"]),
];
const SMALL: [Table; 7] = [
    Table("lane", "id, tenant, endpoint, class, seq", &["id", "tenant, endpoint, class, seq"]),
    Table("ledger", "tenant, class, term, reason, samples", &["tenant, class, term, reason"]),
    Table("latest", "tenant, endpoint, resource, stamp, boot, item", &["tenant, endpoint, resource"]),
    Table("keep", "owner, key, value", &["owner, key"]),
    Table("ids", "name, next", &["name"]),
    Table("boot", "id, uuid, wall_offset_us", &["id"]),
    Table("landed", "block, rows", &["block"]),
];
const UPSERT: &str = "INSERT INTO ledger(tenant, class, term, reason, samples) VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT DO UPDATE SET samples = samples + excluded.samples";

/// Whether a failure means that the file is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Finishes a salvage that was cut short when the new file was complete; forgets one that was not.
pub(super) fn resume(dir: &Path) -> io::Result<()> {
    let (old, new) = (database(dir), beside(dir, ".new"));
    if old.exists() || !beside(dir, ".damaged").exists() {
        return BEGUN.iter().try_for_each(|left| remove(&beside(dir, left)));
    }
    if new.exists() {
        move_journal(dir)?;
        std::fs::rename(new, old)?;
    }
    Ok(())
}

/// Whether what can be read of a database fits beside it, with the room of the reserve and of what an earlier salvage
/// has left. `Err`: so much is lacking.
pub(super) fn check_room(dir: &Path, old: &Connection) -> Result<(), OpenError> {
    let Some(free) = free(dir) else { return Ok(()) };
    let bytes = |left: &str| std::fs::metadata(beside(dir, left)).map_or(0, |file| file.len());
    let earlier: u64 = EARLIER.into_iter().map(bytes).sum();
    let there = free.saturating_add(reserve::held(dir)).saturating_add(earlier);
    match needed(old).saturating_sub(there) {
        0 => Ok(()),
        lacks => Err(OpenError::NoRoomToSalvage { path: dir.to_owned(), lacks }),
    }
}

/// The bytes of a copy, at most; of a file of which nothing can be read there is nothing to copy.
fn needed(old: &Connection) -> u64 {
    let pragma = |name| old.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap_or_default();
    let pages = pragma("page_count").saturating_sub(pragma("freelist_count"));
    u64::try_from(pages.saturating_mul(pragma("page_size"))).unwrap_or_default().saturating_add(BESIDES)
}

fn free(dir: &Path) -> Option<u64> {
    #[cfg(test)]
    if let Some(free) = pretended(dir, "free") {
        return Some(free);
    }
    reserve::space(dir).map(|space| space.free)
}

/// In tests a file says what the file system has.
#[cfg(test)]
fn pretended(dir: &Path, name: &str) -> Option<u64> {
    std::fs::read_to_string(dir.join(name)).ok()?.parse().ok()
}

/// Puts a new database in the place of the damaged one, which nobody has open.
pub(super) fn salvage(
    dir: &Path,
    known: Option<&Known<'_>>,
    rng: &mut Rng,
    progress: &Progress,
) -> Result<(), OpenError> {
    let unusable = |source| OpenError::Directory { path: dir.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut old = Connection::open_with_flags(database(dir), flags)?;
    progress.count(&mut old)?;
    let remove_all = |left: &[&str]| left.iter().try_for_each(|left| remove(&beside(dir, left)));
    remove_all(&BEGUN).map_err(unusable)?;
    check_room(dir, &old)?;
    tracing::error!("the database is damaged; what can be read is copied to a new one");
    let is_tight = || free(dir).is_some_and(|free| free < needed(&old));
    if is_tight() {
        reserve::Reserve::new(dir).give_up();
    }
    if is_tight() {
        remove_all(&EARLIER).map_err(unusable)?;
    }
    let size = std::fs::metadata(database(dir)).map_or(0, |file| file.len());
    let (found, lost) = write(dir, &old, known, rng, progress).map_err(|error| {
        let full = matches!(&error, OpenError::Sqlite(error) if reserve::is_full(error, dir));
        // It would only take the room that was lacking.
        if let Err(error) = remove_all(&BEGUN) {
            tracing::warn!(%error, "what was copied could not be removed");
        }
        let lacks = || OpenError::NoRoomToSalvage { path: dir.to_owned(), lacks: BESIDES };
        if full { lacks() } else { error }
    })?;
    // Closing copies the journal into the file, if it can.
    drop(old);
    swap(dir, size).map_err(unusable)?;
    tracing::error!(found, lost, "salvaged; the damaged file is kept beside the new one, once");
    Ok(())
}

/// Writes the new database. Returns how many rows were found and how many were lost.
fn write(
    dir: &Path,
    old: &Connection,
    known: Option<&Known<'_>>,
    rng: &mut Rng,
    progress: &Progress,
) -> Result<(i64, i64), OpenError> {
    let mut new = schema::open(&beside(dir, ".new"))?;
    progress.count(&mut new)?;
    #[cfg(test)]
    if let Some(pages) = pretended(dir, "pages") {
        new.pragma_update(None, "max_page_count", i64::try_from(pages).unwrap_or_default())?;
    }
    // Without a journal beside it, the file can be renamed.
    new.execute_batch("PRAGMA journal_mode=DELETE; BEGIN IMMEDIATE;")?;
    let whole = copy(old, &new, known)?;
    if let Some(Known { ledger, .. }) = known {
        new.execute_batch("DELETE FROM ledger")?;
        ledger.write_all(&new)?;
    } else if !whole {
        tracing::error!("the ledger was damaged, too; it begins anew with what was found");
        new.execute_batch("DELETE FROM ledger")?;
    }
    let found_and_lost = settle_ledger(&new)?;
    raise_counters(old, &new, rng)?;
    new.execute_batch("COMMIT")?;
    new.close().map_err(|(_, error)| error)?;
    Ok(found_and_lost)
}

/// Copies all that can be read. Returns whether the ledger is whole.
fn copy(old: &Connection, new: &Connection, known: Option<&Known<'_>>) -> rusqlite::Result<bool> {
    let mut whole = true;
    for Table(name, columns, orders) in SMALL {
        for order in orders {
            for direction in ["", " DESC"] {
                let order = order.replace(',', &format!("{direction},")) + direction;
                let select = format!("SELECT {columns} FROM {name} ORDER BY {order}");
                let complete = copy_run(old, new, &select, &[], name, columns)?.1;
                whole &= complete || name != "ledger";
                if complete {
                    break;
                }
            }
        }
    }
    for Table(name, columns, _) in ROWS {
        copy_around(old, new, name, columns)?;
    }
    // They are counted already. Those of which nobody knows that any more are taken for stored anew, and fly again.
    noted::sweep_all(new)?;
    if let Some(known) = known {
        known.noted.sweep_from(new)?;
        // Rows are of them, found as well as to come.
        write_lanes(known.lanes, new)?;
        known.boots.write_all(new)?;
    }
    // A row without its lane belongs to nobody.
    new.execute_batch("DELETE FROM outbox WHERE lane NOT IN (SELECT id FROM lane)")?;
    Ok(whole)
}

/// Writes lanes in the place of what the old file says of them.
fn write_lanes(lanes: &Lanes, new: &Connection) -> rusqlite::Result<()> {
    let mut write = new.prepare(
        "INSERT OR REPLACE INTO lane(id, tenant, endpoint, class, seq) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (LaneInfo { id, endpoint, class, seq }, _) in lanes.iter() {
        write.execute(params![
            id.0,
            endpoint.tenant.as_str(),
            endpoint.name.as_str(),
            class.number(),
            seq
        ])?;
    }
    Ok(())
}

/// Upwards with leaps over what cannot be read, then downwards into what was leapt over.
fn copy_around(old: &Connection, new: &Connection, name: &str, columns: &str) -> rusqlite::Result<()> {
    let up = format!("SELECT {columns} FROM {name} WHERE id >= ?1 ORDER BY id");
    let down = format!("SELECT {columns} FROM {name} WHERE id > ?1 AND id < ?2 ORDER BY id DESC");
    let (mut from, mut leap, mut gaps) = (1_i64, LEAP, Vec::new());
    loop {
        let (last, complete) = copy_run(old, new, &up, &[&from], name, columns)?;
        if complete {
            break;
        }
        if let Some(last) = last {
            (from, leap) = (last.saturating_add(1), LEAP);
        }
        let next = from.saturating_add(leap);
        gaps.push((from.saturating_sub(1), next));
        if next == i64::MAX {
            break;
        }
        (from, leap) = (next, leap.saturating_mul(2));
    }
    for (low, high) in gaps {
        copy_run(old, new, &down, &[&low, &high], name, columns)?;
    }
    Ok(())
}

/// Copies rows until one cannot be read. Returns the first column of the last one, if it is a number,
/// and whether it was the end.
fn copy_run(
    old: &Connection,
    new: &Connection,
    select: &str,
    bounds: &[&dyn ToSql],
    name: &str,
    columns: &str,
) -> rusqlite::Result<(Option<i64>, bool)> {
    // Without its schema nothing of the old file can be asked for.
    let Ok(mut select) = old.prepare_cached(select) else { return Ok((None, false)) };
    let places: Vec<String> = (1..=columns.split(',').count()).map(|n| format!("?{n}")).collect();
    let insert = format!("INSERT OR IGNORE INTO {name}({columns}) VALUES ({})", places.join(", "));
    let mut insert = new.prepare_cached(&insert)?;
    let mut last = None;
    let Ok(mut rows) = select.query(bounds) else { return Ok((None, false)) };
    loop {
        match rows.next() {
            Ok(None) => return Ok((last, true)),
            Err(_) => return Ok((last, false)),
            Ok(Some(row)) => {
                let Ok(values) = values(row, places.len()) else { return Ok((last, false)) };
                if let Some(rusqlite::types::Value::Integer(id)) = values.first() {
                    last = Some(*id);
                }
                match insert.execute(rusqlite::params_from_iter(values)) {
                    Err(error) if error.sqlite_error_code() != Some(ErrorCode::ConstraintViolation) => {
                        return Err(error);
                    }
                    // Not of the type it was written with: damage that looks like a row.
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
}

fn values(row: &Row<'_>, columns: usize) -> rusqlite::Result<Vec<rusqlite::types::Value>> {
    (0..columns).map(|column| row.get(column)).collect()
}

/// Counts what is missing as dropped. Returns how many rows were found and how many were lost.
fn settle_ledger(new: &Connection) -> rusqlite::Result<(i64, i64)> {
    // Backlog is counted as telemetry (`Class::account`).
    let mut select = new.prepare(
        "SELECT tenant, class, sum(expected), sum(found) FROM (
             SELECT tenant, class, CASE WHEN term = 'stored' THEN samples
                 WHEN term IN ('landed', 'dropped', 'dead', 'discarded') THEN -samples ELSE 0 END AS expected, 0 AS found
             FROM ledger
             UNION ALL SELECT lane.tenant, CASE lane.class WHEN 2 THEN 1 ELSE lane.class END, 0, 1 FROM outbox JOIN lane ON lane.id = outbox.lane)
         GROUP BY tenant, class",
    )?;
    let accounts: Vec<(String, i64, i64, i64)> = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let (mut all_found, mut all_lost) = (0, 0);
    for (tenant, class, expected, found) in accounts {
        all_found += found;
        let lost = expected - found;
        if lost > 0 {
            all_lost += lost;
            new.execute(UPSERT, params![tenant, class, "dropped", "corrupt", lost])?;
        } else if lost < 0 {
            // The ledger itself was lost: what was found had been stored.
            for term in ["offered", "stored"] {
                new.execute(UPSERT, params![tenant, class, term, "", -lost])?;
            }
        }
    }
    Ok((all_found, all_lost))
}

/// Numbers are never given out twice: one block up, or anywhere if they cannot be read.
fn raise_counters(old: &Connection, new: &Connection, rng: &mut Rng) -> rusqlite::Result<()> {
    new.execute("UPDATE ids SET next = next + ?1", [BLOCK])?;
    new.execute("INSERT OR IGNORE INTO ids(name, next) VALUES ('request', ?1)", [rng.i64(1..1 << 30)])?;
    // What was decided over by hand may have been the last of them.
    let last = "INSERT OR IGNORE INTO ids(name, next) SELECT 'letter', coalesce(max(id), 0) + ?1 FROM dead";
    new.execute(last, [BLOCK])?;
    for name in ["outbox", "boot"] {
        let read = |db: &Connection| {
            let seq = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
            db.query_row(seq, [name], |row| row.get::<_, i64>(0))
        };
        let known = match read(old) {
            Ok(seq) => seq,
            Err(rusqlite::Error::QueryReturnedNoRows) => 0,
            Err(_) => rng.i64(1 << 40..1 << 41),
        };
        let found = read(new).unwrap_or_default();
        new.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [name])?;
        let seq = known.max(found).saturating_add(BLOCK);
        new.execute("INSERT INTO sqlite_sequence(name, seq) VALUES (?1, ?2)", params![name, seq])?;
    }
    Ok(())
}

/// In this order: `resume` finishes it wherever it is cut.
fn swap(dir: &Path, size: u64) -> io::Result<()> {
    std::fs::rename(database(dir), beside(dir, ".damaged"))?;
    move_journal(dir)?;
    std::fs::rename(beside(dir, ".new"), database(dir))?;
    if reserve::space(dir).is_some_and(|space| space.free < size) {
        tracing::warn!("there is no room to keep the damaged file");
        remove(&beside(dir, ".damaged"))?;
    }
    Ok(())
}

/// The journal of the damaged file must not be taken for one of the new file.
fn move_journal(dir: &Path) -> io::Result<()> {
    remove(&beside(dir, "-shm"))?;
    match std::fs::rename(beside(dir, "-wal"), beside(dir, ".damaged-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(dir: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(database(dir));
    name.push(ending);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
