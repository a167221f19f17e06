//! Room on the disk (I10): what has to go before a group can come in, the reserve, old rows, and pages
//! given back when there is nothing else to do.
//!
//! Not here: how much may be kept (`quota`), and which rows go (`lanes::share`).

use super::{DELETES, DELETES_WHEN_FULL, End, Sum, Thread, Written, drops::AllDrops};
use crate::fault::Fault;
use crate::store::{
    OpenError, Options,
    boots::Moment,
    database, diagnosis,
    lanes::share::Age,
    outbox,
    quota::{self, Level, Limits, Measure, WhenFull},
    reserve::{self, Index, Reserve, Space},
    schema,
};
use adapter_api::{
    Clock, Instant, Offer, Sample, Submission,
    clock::{self},
    journal::Seldom,
};
use rusqlite::Connection;
use std::{path::PathBuf, time::Duration};

/// Old rows are looked for so often.
const AGE_EVERY: Duration = Duration::from_secs(60);
/// A wall clock that has jumped by more is not believed for a day: rows are not old for that.
const JUMP: Duration = Duration::from_secs(3_600);
const DISBELIEF: Duration = Duration::from_secs(86_400);
/// Empty pages that are worth giving back, if they are a quarter of the file.
const EMPTY_BYTES: u64 = 1 << 20;
/// After the last commit, and between two steps.
const VACUUM_AFTER: Duration = Duration::from_secs(1);
const VACUUM_PAUSE: Duration = Duration::from_millis(10);
/// What is left free when the reserve is built.
const BESIDES: u64 = 1 << 20;

/// What the thread knows of its room.
pub(super) struct Room {
    pub(super) limits: Limits,
    pub(super) reserve: Reserve,
    pub(super) index: Index,
    pub(super) dir: PathBuf,
    page: u64,
    /// Bytes of rows in `gone`.
    pub(super) leaving: u64,
    /// Bytes of rows that are noted as landed: their room can be had.
    pub(super) noted: u64,
    pub(super) dead: Sum,
    pub(super) drops: AllDrops,
    /// A transaction failed for want of space, and none has gone well since.
    pub(super) full: bool,
    /// Noted rows make room first: what comes in waits meanwhile, and nothing is dropped for it.
    pub(super) sweeping: bool,
    vacuum_due: Option<Instant>,
    age_due: Option<Instant>,
    /// Wall time less monotonic time, in µs, when it was last looked at; and until when it is not believed.
    offset_us: i64,
    disbelieved: Instant,
    jumps: Seldom,
}

impl Room {
    /// Opens the database; on a full disk with what the reserve held.
    pub(super) fn open(options: &Options) -> Result<(Connection, Self), OpenError> {
        let mut reserve = Reserve::new(&options.dir);
        let path = database(&options.dir);
        let unusable = |source| OpenError::Directory { path: options.dir.clone(), source };
        if !Index::has_room(&path, &options.dir) && !reserve.give_up() {
            return Err(OpenError::Full { path: options.dir.clone() });
        }
        let db = match schema::open(&path) {
            Err(OpenError::Sqlite(error)) if reserve::is_full(&error, &options.dir) && reserve.give_up() => {
                schema::open(&path)
            }
            opened => opened,
        }?;
        let index = Index::open(&path).map_err(unusable)?;
        if let Err(error) = index.allocate(&mut reserve) {
            drop(db);
            return Err(unusable(error));
        }
        let page: i64 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let dead = letters(&db)?;
        let now = clock::now();
        let mut room = Self {
            limits: options.limits.clone(),
            reserve,
            index,
            dir: options.dir.clone(),
            page: u64::try_from(page).unwrap_or(4_096),
            leaving: 0,
            noted: 0,
            dead,
            drops: AllDrops::new(),
            full: false,
            sweeping: false,
            vacuum_due: None,
            age_due: options.limits.max_age.map(|_| now),
            offset_us: offset_us(now),
            disbelieved: now,
            jumps: Seldom::new(),
        };
        room.rebuild();
        Ok((db, room))
    }

    /// Other limits from now on.
    pub(super) fn keep_to(&mut self, limits: Limits, now: Instant) {
        self.age_due = limits.max_age.map(|_| now);
        self.limits = limits;
    }

    /// When there is something to tidy up.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.vacuum_due, self.age_due].into_iter().flatten().min()
    }

    /// Whether a failure means that the disk is full.
    pub(super) fn is_full(&self, error: &rusqlite::Error) -> bool {
        reserve::is_full(error, &self.dir)
    }

    /// After COMMIT.
    pub(super) fn count(&mut self, written: &Written) {
        for (count, sum) in [(&written.dead, 1), (&written.forgotten, -1)] {
            let add = |known: u64, by: u64| if sum > 0 { known + by } else { known.saturating_sub(by) };
            self.dead.rows = add(self.dead.rows, count.rows);
            self.dead.bytes = add(self.dead.bytes, count.bytes);
        }
        for (reason, samples, range) in &written.drops {
            let drops = self.drops.entry((*reason).to_owned()).or_default();
            drops.add(*samples, *range);
            drops.tell(reason);
        }
    }

    /// What a failure means to people.
    pub(super) fn diagnose(&self, error: &rusqlite::Error) -> Fault {
        diagnosis::failed(error, self.is_full(error), &self.dir)
    }

    /// Makes the reserve whole again, when there is room for a few commits besides.
    fn rebuild(&mut self) {
        self.reserve.build(BESIDES);
    }

    fn measure(&self, db: &Connection) -> rusqlite::Result<Measure> {
        let pages = |pragma: &str| -> rusqlite::Result<u64> {
            let count: i64 = db.prepare_cached(pragma)?.query_row([], |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or_default().saturating_mul(self.page))
        };
        // A file system that does not say has room.
        let space = reserve::space(&self.dir).unwrap_or(Space { free: u64::MAX / 4, total: 0 });
        let file = pages("PRAGMA page_count")?;
        let written = std::fs::metadata(database(&self.dir)).map_or(0, |found| found.len());
        Ok(Measure {
            file,
            empty: pages("PRAGMA freelist_count")?,
            free: quota::growth(space.free, written, file),
            total: space.total,
            reserve_lacks: self.reserve.lacks(),
        })
    }

    pub(super) fn level(&self, db: &Connection) -> Option<(Level, Measure)> {
        let measure = self.measure(db).ok()?;
        Some((self.limits.level(&measure, self.leaving, self.noted), measure))
    }

    /// Bytes that noted rows have to make room for, so that so many can come in.
    fn pressed(&self, measure: &Measure, incoming: u64) -> u64 {
        match self.noted {
            0 => 0,
            noted if self.full => noted,
            _ => self.limits.level(measure, self.leaving, 0).pressed(incoming),
        }
    }

    /// The wall clock is right from now on, wherever it stood before: ages are looked at, at once.
    pub(super) fn trust_clock(&mut self, now: Instant) {
        self.offset_us = offset_us(now);
        self.age_due = self.age_due.map(|due| due.min(now));
    }

    /// Whether the wall clock runs on as it did.
    fn believes(&mut self, now: Instant) -> bool {
        let offset = offset_us(now);
        let jumped = Duration::from_micros(offset.abs_diff(self.offset_us)) > JUMP;
        self.offset_us = offset;
        if jumped {
            if let Some(left_out) = self.jumps.tell(now) {
                tracing::warn!(left_out, "the wall clock has jumped; for a day no reading is too old");
            }
            self.disbelieved = now + DISBELIEF;
        }
        self.disbelieved <= now
    }
}

impl Thread {
    /// Takes rows off the books so that the group has room (I10). Returns the bytes that may come in.
    pub(super) fn make_room(&mut self, group: &[Submission], now: Instant) -> u64 {
        self.room.sweeping = false;
        let Some((level, measure)) = self.room.level(&self.db) else { return u64::MAX };
        let policy = self.room.limits.when_full;
        let incoming = group.iter().map(|submission| match &submission.offer {
            Offer::Samples(samples) => self.bytes_at_most(&submission.endpoint, samples),
            Offer::TooLarge { .. } => 0,
        });
        let incoming = incoming.sum::<u64>().saturating_add(self.report_bytes(now));
        let excess = level.excess(incoming);
        self.pressed = self.room.pressed(&measure, incoming);
        if self.pressed > 0 {
            // With this very group, as what is dropped.
            self.gone_due = Some(Instant::from_start(Duration::ZERO));
        }
        let mut dropped = 0;
        let drops = excess > 0 && policy == WhenFull::DropOldest;
        // Not while that fails: whoever waits for it would wait for nothing.
        self.room.sweeping = drops && self.fault.is_none() && level.sweeps_first(incoming, self.room.noted);
        if drops && !self.room.sweeping {
            let rows = self.lanes.drop_by_share(excess, DELETES);
            dropped = rows.iter().map(|row| row.bytes).sum();
            self.leave(rows, &End::Dropped(level.reason));
            // With this very group, which needs their room.
            self.gone_due = Some(Instant::from_start(Duration::ZERO));
        }
        level.room(policy, dropped)
    }

    /// Looks at the disk again: the reserve, what else has to go, pages to give back.
    pub(super) fn after_commit(&mut self, now: Instant) {
        if self.fault.is_none() {
            if std::mem::take(&mut self.room.full)
                && let Err(error) = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
            {
                self.lines.checkpoint(&error);
            }
            if self.room.reserve.lacks() > 0 {
                self.room.rebuild();
            }
        }
        let Some((level, measure)) = self.room.level(&self.db) else { return };
        let drops = self.room.limits.when_full == WhenFull::DropOldest;
        if drops
            && self.fault.is_none()
            && level.excess(0) > 0
            && self.gone_due.is_none()
            && self.lanes.may_drop()
        {
            self.gone_due = Some(now);
        }
        if self.fault.is_none() && self.room.pressed(&measure, 0) > 0 {
            self.gone_due = Some(now);
        }
        let worth = measure.empty >= EMPTY_BYTES && measure.empty.saturating_mul(4) >= measure.file;
        if worth && self.room.vacuum_due.is_none() {
            self.room.vacuum_due = Some(now + VACUUM_AFTER);
        }
    }

    /// What is done when there is nothing else to do.
    pub(super) fn tidy(&mut self, now: Instant) {
        if self.room.age_due.is_some_and(|due| due <= now) {
            self.room.age_due = Some(now + AGE_EVERY);
            self.expire(now);
        }
        if self.room.vacuum_due.is_some_and(|due| due <= now) {
            self.room.vacuum_due = match self.vacuum() {
                Ok(true) => Some(now + VACUUM_PAUSE),
                Ok(false) => None,
                Err(error) => {
                    self.lines.vacuum(&error);
                    self.failed(&error);
                    Some(now + AGE_EVERY)
                }
            };
        }
    }

    /// Gives some empty pages back. Returns whether there are more.
    fn vacuum(&self) -> rusqlite::Result<bool> {
        let measure = self.room.measure(&self.db)?;
        if measure.empty == 0 {
            return Ok(false);
        }
        {
            // Each step frees one page: `execute_batch` would free one in all.
            let mut step = self.db.prepare_cached("PRAGMA incremental_vacuum(256)")?;
            let mut freed = step.query([])?;
            while freed.next()?.is_some() {}
        }
        let more = self.room.measure(&self.db)?.empty > 0;
        if !more {
            // Only a checkpoint makes the file shorter.
            self.db.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        Ok(more)
    }

    /// Takes rows off the books that are too old.
    fn expire(&mut self, now: Instant) {
        let Some(age) = self.room.limits.max_age else { return };
        // A clock that is not believed says nothing of age.
        if !self.clock.is_trusted() || !self.room.believes(now) {
            return;
        }
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let oldest = self.clock.wall_us().saturating_sub(age);
        let (db, boots) = (&self.db, &self.boots);
        let most = if self.room.full { DELETES_WHEN_FULL } else { DELETES };
        let (rows, more) = self.lanes.drop_old(most, |row| match outbox::stamp(db, row) {
            Ok(Some((stamp, boot))) => match boots.moment(stamp, boot) {
                Moment::At(us) if us < oldest => Age::Old,
                Moment::Unknown if boots.is_past(boot) => Age::Unknown,
                _ => Age::Young,
            },
            // What cannot be read is found out by who reads it.
            _ => Age::Young,
        });
        if !rows.is_empty() {
            self.leave(rows, &End::Dropped("age"));
            self.gone_due = Some(now);
            self.commit(now);
        }
        // What failed would fail again at once.
        if more && self.fault.is_none() {
            self.room.age_due = Some(now);
        }
    }
}

/// The dead letters on disk.
pub(super) fn letters(db: &Connection) -> rusqlite::Result<Sum> {
    let (rows, bytes) = outbox::dead(db)?;
    Ok(Sum { rows: u64::try_from(rows).unwrap_or_default(), bytes: u64::try_from(bytes).unwrap_or_default() })
}

/// The bytes samples take in the outbox, at most.
pub(super) fn bytes(samples: &[Sample]) -> u64 {
    samples.iter().map(|sample| outbox::row_bytes(sample.weight())).sum()
}

fn offset_us(now: Instant) -> i64 {
    let since = now.since(Instant::from_start(Duration::ZERO));
    Clock::trusting().wall_us().saturating_sub(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
