//! What one transaction does: the group's samples in, what is gone out, the ledger; then the answers.

use super::{
    DELETE_WITHIN, DELETES, DELETES_WHEN_FULL, End, Gone, LATEST_EVERY, Sum, Thread, Written, offered, room,
};
use crate::{
    endpoints::{EndpointKey, Tenant},
    failpoint::{self, Point},
    shape::Verdict,
    store::{Class, Event, LaneId, LaneInfo, RowId, lanes::Intake, ledger::Term, outbox},
};
use adapter_api::{Instant, Offer, Refused, Sample, Submission, clock};
use rusqlite::{ErrorCode, params};
use std::{collections::BTreeSet, time::Duration};

/// A locked database is tried again after this.
const BUSY: Duration = Duration::from_millis(200);

impl Thread {
    /// One transaction for the group and for what is gone; then the answers.
    pub(super) fn commit(&mut self, now: Instant) {
        let mut group = std::mem::take(&mut self.group);
        self.group_due = None;
        let room = self.make_room(&group, now);
        // So much is swept at a time that nobody waits long, and it is tried again after each.
        let waits = if self.room.sweeping { std::mem::take(&mut group) } else { Vec::new() };
        let reports = self.shape.poll_report().is_some_and(|due| due <= now);
        let mut written = self.attempt(&group, room, now);
        if written.as_ref().is_err_and(|error| self.room.is_full(error)) {
            self.room.full = true;
            if self.room.reserve.give_up() {
                written = self.attempt(&group, room, now);
            }
        }
        match written {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                // Another program has the file locked. Nothing was begun: the group waits.
                self.failed(&error);
                self.group = group;
                // It took a while to find that out.
                let again = clock::now() + BUSY;
                self.group_due = Some(again);
                self.shape.put_off_reports(again);
            }
            Ok(written) => {
                if !group.is_empty() {
                    failpoint::pass(Point::AfterCommit);
                }
                self.works();
                self.settle(written, group, now);
            }
            Err(error) => {
                let alone = group.is_empty() && !reports;
                self.refuse(group, &error, now);
                self.shape.put_off_reports(clock::now() + DELETE_WITHIN);
                // What leaves must not wait for what cannot come in.
                if !alone && (!self.gone.is_empty() || self.sweeps(now)) {
                    let due = self.gone_due.replace(now);
                    match self.attempt(&[], 0, now) {
                        Ok(written) => self.settle(written, Vec::new(), now),
                        Err(_) => self.gone_due = due,
                    }
                }
            }
        }
        if waits.is_empty() {
            self.units.handle_group(clock::now());
        } else {
            self.group = waits;
            self.group_due.get_or_insert(now);
        }
        self.take_back_dropped(now);
        self.after_commit(now);
        self.watch_room(now);
    }

    /// Rows that were to be dropped and are still on disk: the transaction failed, or had no room for all.
    /// What comes after them in their lane must not fly before them, as they would fly after a crash (I3).
    fn take_back_dropped(&mut self, now: Instant) {
        if !std::mem::take(&mut self.dropping) {
            return;
        }
        let dropped = |gone: &mut Gone| matches!(gone.end, End::Dropped(_));
        let back: Vec<Gone> = self.gone.extract_if(.., dropped).collect();
        for gone in &back {
            self.room.leaving = self.room.leaving.saturating_sub(gone.bytes);
            self.lanes.take_back(gone.lane.id, gone.row, gone.bytes);
        }
        let lanes: BTreeSet<LaneId> = back.iter().map(|gone| gone.lane.id).collect();
        lanes.into_iter().for_each(|lane| self.announce(lane));
        if self.gone.is_empty() && !self.sweeps(now) {
            self.gone_due = None;
        }
    }

    /// Whether noted rows are to go now.
    fn sweeps(&self, now: Instant) -> bool {
        (self.room.full && self.room.noted > 0) || self.noted.poll_timeout().is_some_and(|due| due <= now)
    }

    fn attempt(&mut self, group: &[Submission], room: u64, now: Instant) -> rusqlite::Result<Written> {
        self.transact(group, room, now).inspect_err(|_| {
            // What could not be rolled back is closed by SQLite itself.
            let _already = self.db.execute_batch("ROLLBACK");
            self.ledger.rolled_back();
            self.noted.rolled_back();
            self.shape.rolled_back();
        })
    }

    /// After a transaction that failed.
    fn refuse(&mut self, group: Vec<Submission>, error: &rusqlite::Error, now: Instant) {
        let fault = self.failed(error);
        tracing::debug!(%fault, "a transaction failed; it is tried again");
        let (refused, reason) = match self.room.is_full(error) {
            true => (Refused::Full, "disk_full"),
            false => (Refused::Failed, "transaction_failed"),
        };
        *self.uncounted.entry((Tenant::default(), reason)).or_default() +=
            group.iter().map(offered).sum::<u64>();
        for submission in group {
            self.tellers.refused(&submission.endpoint, offered(&submission), &refused);
            submission.answer(Err(refused));
        }
        self.fly_behind();
        // Deletes are kept and tried again; `latest` can wait.
        self.gone_due = (self.sweeps(now) || !self.gone.is_empty()).then(|| now + DELETE_WITHIN);
        self.latest_due = now + LATEST_EVERY;
    }

    pub(super) fn settle(&mut self, written: Written, group: Vec<Submission>, now: Instant) {
        self.ledger.committed();
        self.noted.committed();
        self.room.noted = self.noted.bytes();
        self.shape.committed();
        self.ending.clone_from(&written.unreported);
        self.uncounted.clear();
        for gone in self.gone.drain(..written.gone.min(self.gone.len())) {
            self.room.leaving = self.room.leaving.saturating_sub(gone.bytes);
            if let End::Dead(_, flight) = gone.end {
                self.sessions.tell(&gone.lane.endpoint, Event::Taken(flight));
            }
        }
        self.room.count(&written);
        if !written.drops.is_empty() {
            self.tell_dropped();
        }
        if self.sweeps(now) || (written.gone > 0 && !self.gone.is_empty()) {
            // The rest of many.
            self.gone_due = Some(now);
        } else if self.gone.is_empty() {
            self.gone_due = None;
        }
        if written.latest {
            self.latest.written();
            self.latest_due = now + LATEST_EVERY;
        }
        written.lanes.into_iter().for_each(|lane| self.lanes.add(lane));
        for (submission, result) in group.iter().zip(&written.results) {
            self.note(submission, *result, now);
        }
        for (key, samples) in &written.shown {
            self.latest.show(key, samples, now);
            self.tellers.taken(&key.name, samples);
        }
        for (submission, result) in group.into_iter().zip(written.results) {
            submission.answer(result);
        }
        self.inflow.add(written.rows.iter().map(|(_, _, bytes)| bytes).sum(), now);
        for (lane, row, bytes) in written.rows {
            self.noted.came(row);
            self.lanes.push(lane, row, bytes);
            self.announce(lane);
        }
        self.settle_lanes(&written.drained);
    }

    /// What became of a submission, for those who look.
    fn note(&mut self, submission: &Submission, result: Result<(), Refused>, now: Instant) {
        let endpoint = &submission.endpoint;
        match (result, &submission.offer) {
            (Ok(()), Offer::Samples(samples)) => {
                if let Verdict::Keep(key) | Verdict::Suppress(key, _) = self.shape.admit(endpoint) {
                    self.latest.note(&key, samples, now);
                    self.tellers.taken(endpoint, samples);
                }
            }
            (Ok(()), Offer::TooLarge { samples }) => {
                self.tellers.refused(endpoint, *samples, &"larger than store.max_sample_bytes");
            }
            (Err(refused), _) => self.tellers.refused(endpoint, offered(submission), &refused),
        }
    }

    pub(super) fn transact(
        &mut self,
        group: &[Submission],
        room: u64,
        now: Instant,
    ) -> rusqlite::Result<Written> {
        let mut written = Written { room, ..Written::default() };
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for ((tenant, reason), samples) in &self.uncounted {
            self.ledger.add(tenant, Class::Telemetry, Term::Offered, "", *samples);
            self.ledger.add(tenant, Class::Telemetry, Term::Refused, reason, *samples);
        }
        // First, for what comes takes the pages of what goes. Not with each group: a page of which rows
        // go one by one is written once for each of them.
        if self.stop.is_some() || self.gone.len() >= DELETES || self.gone_due.is_some_and(|due| due <= now) {
            self.write_gone(now, &mut written)?;
        }
        for submission in group {
            let result = self.write_submission(submission, now, &mut written)?;
            written.results.push(result);
        }
        self.write_reports_due(now, &mut written)?;
        if self.latest.is_changed() && (self.latest_due <= now || self.stop.is_some()) {
            self.latest.write(&self.db)?;
            written.latest = true;
        }
        self.write_drops(&written.drops)?;
        self.write_lanes(&mut written)?;
        if self.ledger.is_changed() {
            self.ledger.write(&self.db)?;
        }
        if !group.is_empty() {
            failpoint::pass(Point::BeforeCommit);
        }
        self.db.prepare_cached("COMMIT")?.execute([])?;
        Ok(written)
    }

    /// One submission: what is not stored of it is counted with its reason.
    pub(super) fn write_submission(
        &mut self,
        submission: &Submission,
        now: Instant,
        written: &mut Written,
    ) -> rusqlite::Result<Result<(), Refused>> {
        let count = offered(submission);
        let (key, samples) = match (self.shape.admit(&submission.endpoint), &submission.offer) {
            (Verdict::Refuse(refused, reason), _) => {
                let tenant = Tenant::default();
                self.ledger.add(&tenant, Class::Telemetry, Term::Offered, "", count);
                self.ledger.add(&tenant, Class::Telemetry, Term::Refused, reason, count);
                return Ok(Err(refused));
            }
            (Verdict::Keep(key) | Verdict::Suppress(key, _), Offer::TooLarge { .. }) => {
                self.ledger.add(&key.tenant, Class::Telemetry, Term::Offered, "", count);
                self.ledger.add(&key.tenant, Class::Telemetry, Term::Refused, "too_large", count);
                return Ok(Ok(()));
            }
            (Verdict::Suppress(key, reason), Offer::Samples(samples)) => {
                self.ledger.add(&key.tenant, Class::Telemetry, Term::Offered, "", count);
                self.ledger.add(&key.tenant, Class::Telemetry, Term::Suppressed, reason, count);
                if let Some(judged) = self.shape.judge(&submission.endpoint, samples, now) {
                    self.show(judged, written);
                }
                return Ok(Ok(()));
            }
            (Verdict::Keep(key), Offer::Samples(samples)) => (key, samples),
        };
        self.ledger.add(&key.tenant, Class::Telemetry, Term::Offered, "", count);
        let judged = self.shape.judge(&submission.endpoint, samples, now);
        let kept = judged.as_ref().map_or(samples.as_slice(), |judged| &judged.samples);
        match self.write_kept(&key, kept, written)? {
            Ok(()) => match judged {
                Some(judged) => self.accept(judged, written),
                None => self.ledger.add(&key.tenant, Class::Telemetry, Term::Stored, "", count),
            },
            Err((refused, reason)) => {
                self.ledger.add(&key.tenant, Class::Telemetry, Term::Refused, reason, count);
                return Ok(Err(refused));
            }
        }
        Ok(Ok(()))
    }

    /// Samples under a savepoint of their own: what SQLite refuses of them takes nothing else along. With
    /// the reason for the ledger where they are refused.
    pub(super) fn write_kept(
        &mut self,
        key: &EndpointKey,
        samples: &[Sample],
        written: &mut Written,
    ) -> rusqlite::Result<Result<(), (Refused, &'static str)>> {
        if samples.is_empty() {
            return Ok(Ok(()));
        }
        let Some(room) = written.room.checked_sub(room::bytes(samples)) else {
            return Ok(Err((Refused::Full, "full")));
        };
        written.room = room;
        let (rows, lanes) = (written.rows.len(), written.lanes.len());
        self.db.prepare_cached("SAVEPOINT submission")?.execute([])?;
        match self.write_samples(key, samples, written) {
            Ok(()) => {
                self.db.prepare_cached("RELEASE submission")?.execute([])?;
                Ok(Ok(()))
            }
            // Not about these samples: SQLite may have rolled back all of the transaction.
            Err(error) if is_of_the_disk(&error) => Err(error),
            Err(error) => {
                self.db.execute_batch("ROLLBACK TO submission; RELEASE submission")?;
                written.rows.truncate(rows);
                written.lanes.truncate(lanes);
                self.lines.unwritten(&error, key);
                Ok(Err((Refused::Failed, "not_written")))
            }
        }
    }

    pub(super) fn write_samples(
        &self,
        key: &EndpointKey,
        samples: &[Sample],
        written: &mut Written,
    ) -> rusqlite::Result<()> {
        let lane = self.intake_lane(key, written)?;
        outbox::insert(&self.db, lane, samples, |row, bytes| written.rows.push((lane, row, bytes)))
    }

    /// The lane that takes an endpoint's new rows; made in the open transaction if there is none.
    pub(super) fn intake_lane(&self, key: &EndpointKey, written: &mut Written) -> rusqlite::Result<LaneId> {
        let class = Class::Telemetry;
        let fresh = written
            .lanes
            .iter()
            .find(|lane| lane.endpoint == *key && lane.class == class)
            .map(|lane| lane.id);
        match (self.lanes.intake(key), fresh) {
            (Intake::Lane(lane), _) | (Intake::New(_), Some(lane)) => Ok(lane),
            (Intake::New(seq), None) => {
                let last = written.lanes.last().map_or(self.lanes.last(), |lane| lane.id);
                let id = LaneId(last.0.saturating_add(1));
                let mut insert = self.db.prepare_cached(
                    "INSERT INTO lane(id, tenant, endpoint, class, seq) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?;
                let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
                insert.execute(params![id.0, tenant, name, class.number(), seq])?;
                written.lanes.push(LaneInfo { id, endpoint: key.clone(), class, seq });
                Ok(id)
            }
        }
    }

    /// Deletes landed and dropped rows and buries dead ones (I2), counting what really changed.
    pub(super) fn write_gone(&mut self, now: Instant, written: &mut Written) -> rusqlite::Result<()> {
        let most = if self.room.full { DELETES_WHEN_FULL } else { DELETES };
        written.gone = self.gone.len().min(most);
        // What is dropped first, for others wait for its room; else in id order, which is cheap, and the
        // lowest of all: the rest has then other pages. The order in `gone` has no meaning.
        self.gone.sort_unstable_by_key(|gone| (!matches!(gone.end, End::Dropped(_)), gone.row));
        let Some(gone) = self.gone.get(..written.gone) else { return Ok(()) };
        let mut leaving: Vec<&Gone> = Vec::with_capacity(gone.len());
        for gone in gone.iter() {
            let End::Dead(reason, _) = &gone.end else {
                leaving.push(gone);
                continue;
            };
            if let Some(bytes) = outbox::bury(&self.db, &gone.lane, gone.row, reason)? {
                self.noted.go(&[gone.row]);
                self.ledger.add(&gone.lane.endpoint.tenant, gone.lane.class.account(), Term::Dead, "", 1);
                written.dead.rows += 1;
                written.dead.bytes += bytes;
            }
        }
        leaving.sort_by(|a, b| (a.account(), a.row).cmp(&(b.account(), b.row)));
        for same in leaving.chunk_by(|a, b| a.account() == b.account()) {
            let Some(first) = same.first() else { continue };
            let (tenant, class, dropped) = first.account();
            let Some(reason) = dropped else {
                let rows: Vec<(RowId, u64)> = same.iter().map(|gone| (gone.row, gone.bytes)).collect();
                let landed = u64::try_from(self.noted.land(&self.db, &rows, now)?).unwrap_or_default();
                self.ledger.add(tenant, class, Term::Landed, "", landed);
                continue;
            };
            let rows: Vec<RowId> = same.iter().map(|gone| gone.row).collect();
            let range = outbox::range(&self.db, &rows)?;
            let deleted = u64::try_from(outbox::delete(&self.db, &rows)?).unwrap_or_default();
            self.noted.go(&rows);
            self.ledger.add(tenant, class, Term::Dropped, reason, deleted);
            written.drops.push((reason, deleted, range));
        }
        let most = most.saturating_sub(written.gone).max(most / 4);
        self.noted.sweep(&self.db, most, self.pressed, now)?;
        self.noted.write(&self.db)?;
        self.write_forgotten(written)
    }

    /// Dead letters have a part of the quota; the oldest go.
    fn write_forgotten(&mut self, written: &mut Written) -> rusqlite::Result<()> {
        let bytes = self.room.dead.bytes.saturating_add(written.dead.bytes);
        let excess = bytes.saturating_sub(self.room.limits.dead_bytes());
        if excess > 0 {
            let (rows, bytes) = outbox::forget(&self.db, excess)?;
            written.forgotten = Sum { rows, bytes };
            self.ledger.add(&Tenant::default(), Class::Telemetry, Term::Forgotten, "quota", rows);
        }
        Ok(())
    }
}

impl Gone {
    /// Under which term of the ledger it goes, unless it is buried.
    fn account(&self) -> (&Tenant, Class, Option<&'static str>) {
        let dropped = match self.end {
            End::Dropped(reason) => Some(reason),
            End::Landed | End::Dead(..) => None,
        };
        (&self.lane.endpoint.tenant, self.lane.class.account(), dropped)
    }
}

fn is_of_the_disk(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::OutOfMemory
        )
    )
}
