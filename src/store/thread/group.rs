//! What one transaction does: the group's samples in, what is gone out, the ledger; then the answers.

use super::{DELETE_WITHIN, DELETES, Gone, LATEST_EVERY, Thread, Written, offered};
use crate::{
    endpoints::{EndpointKey, Tenant},
    failpoint::{self, Point},
    shape::Verdict,
    store::{Class, LaneId, LaneInfo, RowId, ledger::Term, outbox},
};
use adapter_api::{Instant, Offer, Refused, Sample, Submission};
use rusqlite::{ErrorCode, params};
use std::time::Duration;

/// A locked database is tried again after this.
const BUSY: Duration = Duration::from_millis(200);

impl Thread {
    /// One transaction for the group and for what is gone; then the answers.
    pub(super) fn commit(&mut self, now: Instant) {
        let group = std::mem::take(&mut self.group);
        self.group_due = None;
        let written = self.transact(&group, now).inspect_err(|_| {
            // What could not be rolled back is closed by SQLite itself.
            let _already = self.db.execute_batch("ROLLBACK");
            self.ledger.rolled_back();
        });
        match written {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                // Another program has the file locked. Nothing was begun: the group waits.
                self.fault = Some("another program has the database locked".into());
                self.group = group;
                self.group_due = Some(now + BUSY);
            }
            Ok(written) => {
                if !group.is_empty() {
                    failpoint::pass(Point::AfterCommit);
                }
                self.fault = None;
                self.settle(written, group, now);
            }
            Err(error) => {
                if self.fault.is_none() {
                    tracing::error!(%error, "a transaction failed; its samples are refused, deletes are tried again");
                }
                self.fault = Some(error.to_string());
                self.uncounted += group.iter().map(offered).sum::<u64>();
                group.into_iter().for_each(|submission| submission.answer(Err(Refused::Failed)));
                // Deletes are kept and tried again; `latest` can wait.
                self.gone_due = (!self.gone.is_empty()).then(|| now + DELETE_WITHIN);
                self.latest_due = now + LATEST_EVERY;
            }
        }
    }

    pub(super) fn settle(&mut self, written: Written, group: Vec<Submission>, now: Instant) {
        self.ledger.committed();
        self.uncounted = 0;
        self.dead_letters += written.dead;
        self.gone.drain(..written.gone.min(self.gone.len()));
        self.gone_due = (!self.gone.is_empty()).then_some(now);
        if written.latest {
            self.latest.written();
            self.latest_due = now + LATEST_EVERY;
        }
        written.lanes.into_iter().for_each(|lane| self.lanes.add(lane));
        for (submission, result) in group.iter().zip(&written.results) {
            if let (Ok(()), Offer::Samples(samples)) = (result, &submission.offer) {
                let (Verdict::Keep(key) | Verdict::Suppress(key, _)) = self.shape.admit(&submission.endpoint)
                else {
                    continue;
                };
                samples.iter().for_each(|sample| self.latest.note(&key, sample));
            }
        }
        for (submission, result) in group.into_iter().zip(written.results) {
            submission.answer(result);
        }
        for (lane, row) in written.rows {
            self.lanes.push(lane, row);
            self.announce(lane);
        }
    }

    pub(super) fn transact(&mut self, group: &[Submission], now: Instant) -> rusqlite::Result<Written> {
        let mut written = Written::default();
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        if self.uncounted > 0 {
            self.ledger.add(&Tenant::default(), Class::Telemetry, Term::Offered, "", self.uncounted);
            self.ledger.add(
                &Tenant::default(),
                Class::Telemetry,
                Term::Refused,
                "transaction_failed",
                self.uncounted,
            );
        }
        for submission in group {
            let result = self.write_submission(submission, &mut written)?;
            written.results.push(result);
        }
        self.write_gone(&mut written)?;
        if self.latest.is_changed() && (self.latest_due <= now || self.stop.is_some()) {
            self.latest.write(&self.db)?;
            written.latest = true;
        }
        if self.ledger.is_changed() {
            self.ledger.write(&self.db)?;
        }
        if !group.is_empty() {
            failpoint::pass(Point::BeforeCommit);
        }
        self.db.execute_batch("COMMIT")?;
        Ok(written)
    }

    /// One submission under its own savepoint: what SQLite refuses of it takes nothing else along.
    pub(super) fn write_submission(
        &mut self,
        submission: &Submission,
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
            (Verdict::Suppress(key, reason), Offer::Samples(_)) => {
                self.ledger.add(&key.tenant, Class::Telemetry, Term::Offered, "", count);
                self.ledger.add(&key.tenant, Class::Telemetry, Term::Suppressed, reason, count);
                return Ok(Ok(()));
            }
            (Verdict::Keep(key), Offer::Samples(samples)) => (key, samples),
        };
        self.ledger.add(&key.tenant, Class::Telemetry, Term::Offered, "", count);
        let (rows, lanes) = (written.rows.len(), written.lanes.len());
        self.db.prepare_cached("SAVEPOINT submission")?.execute([])?;
        match self.write_samples(&key, samples, written) {
            Ok(()) => {
                self.db.prepare_cached("RELEASE submission")?.execute([])?;
                self.ledger.add(&key.tenant, Class::Telemetry, Term::Stored, "", count);
                Ok(Ok(()))
            }
            Err(error) => {
                // Fails itself where SQLite has rolled back the whole transaction: then the group failed.
                self.db.execute_batch("ROLLBACK TO submission; RELEASE submission")?;
                written.rows.truncate(rows);
                written.lanes.truncate(lanes);
                tracing::error!(%error, endpoint = %key, "a submission could not be written");
                self.ledger.add(&key.tenant, Class::Telemetry, Term::Refused, "not_written", count);
                Ok(Err(Refused::Failed))
            }
        }
    }

    pub(super) fn write_samples(
        &self,
        key: &EndpointKey,
        samples: &[Sample],
        written: &mut Written,
    ) -> rusqlite::Result<()> {
        let class = Class::Telemetry;
        let fresh = written
            .lanes
            .iter()
            .find(|lane| lane.endpoint == *key && lane.class == class)
            .map(|lane| lane.id);
        let lane = match self.lanes.newest(key, class).or(fresh) {
            Some(lane) => lane,
            None => {
                let mut insert = self.db.prepare_cached(
                    "INSERT INTO lane(tenant, endpoint, class, seq) VALUES (?1, ?2, ?3, 0)",
                )?;
                insert.execute(params![key.tenant.as_str(), key.name.as_str(), class.number()])?;
                let id = LaneId(self.db.last_insert_rowid());
                written.lanes.push(LaneInfo { id, endpoint: key.clone(), class, seq: 0 });
                id
            }
        };
        for sample in samples {
            written.rows.push((lane, outbox::insert(&self.db, lane, sample)?));
        }
        Ok(())
    }

    /// Deletes landed rows and buries dead ones, counting what really changed.
    pub(super) fn write_gone(&mut self, written: &mut Written) -> rusqlite::Result<()> {
        written.gone = self.gone.len().min(DELETES);
        let Some(gone) = self.gone.get_mut(..written.gone) else { return Ok(()) };
        // In id order, which is cheap. The order in `gone` has no meaning.
        gone.sort_unstable_by_key(|gone| gone.row);
        let mut landed: Vec<&Gone> = Vec::with_capacity(gone.len());
        for gone in gone.iter() {
            match &gone.dead {
                None => landed.push(gone),
                Some(reason) => {
                    let buried = u64::from(outbox::bury(&self.db, &gone.lane, gone.row, reason)?);
                    self.ledger.add(&gone.lane.endpoint.tenant, gone.lane.class, Term::Dead, "", buried);
                    written.dead += buried;
                }
            }
        }
        landed.sort_by(|a, b| {
            (&a.lane.endpoint.tenant, a.lane.class, a.row).cmp(&(
                &b.lane.endpoint.tenant,
                b.lane.class,
                b.row,
            ))
        });
        for same in landed
            .chunk_by(|a, b| a.lane.endpoint.tenant == b.lane.endpoint.tenant && a.lane.class == b.lane.class)
        {
            let rows: Vec<RowId> = same.iter().map(|gone| gone.row).collect();
            let deleted = outbox::delete(&self.db, &rows)?;
            if let Some(first) = same.first() {
                let deleted = u64::try_from(deleted).unwrap_or_default();
                self.ledger.add(&first.lane.endpoint.tenant, first.lane.class, Term::Landed, "", deleted);
            }
        }
        Ok(())
    }
}
