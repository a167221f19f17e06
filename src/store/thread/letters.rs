//! Dead letters and orphaned rows, by hand: each step a transaction of its own, never together with a group, so that
//! a deed that fails takes nothing else along.
//!
//! A letter that is queued again is a new row at the end of its endpoint's lane: it has had its turn, so that first
//! deliveries stay in order (I3). Rows in the air are not touched (I2).

use super::{Sum, Thread, Written};
use crate::{
    endpoints::{EndpointKey, Tenant},
    fault::Fault,
    store::{
        Class, Event, LaneId, RowId,
        boots::Moment,
        lanes::share::Leaving,
        ledger::Term,
        letters::{AT_ONCE, BYTES_AT_ONCE, Deed, Done, Letters, Orphans, Span},
        outbox::{self, Letter},
    },
};
use adapter_api::{EndpointName, clock};
use std::collections::BTreeSet;

/// What a step of dead letters came to.
type Step = (Done, Option<Span>);

impl Thread {
    /// A step over dead letters. Returns where the next one begins, if there is one.
    pub(super) fn letters(&mut self, deed: Deed, which: &Letters, span: Span) -> Result<Step, Fault> {
        let (written, step) = self.by_hand(|thread, written| {
            let step = thread.write_letters(deed, which, span, written)?;
            thread.ledger.write(&thread.db)?;
            Ok(step)
        })?;
        self.room.count(&written);
        written.lanes.into_iter().for_each(|lane| self.lanes.add(lane));
        for (lane, row, bytes) in written.rows {
            self.noted.came(row);
            self.lanes.push(lane, row, bytes);
            self.requeued.insert(row);
            self.announce(lane);
        }
        self.after_deed();
        Ok(step)
    }

    /// A step over queued rows of endpoints that left the configuration.
    pub(super) fn discard_orphans(&mut self, endpoint: Option<&EndpointName>) -> Result<Orphans, Fault> {
        let meant = |name: &EndpointName| endpoint.is_none_or(|wanted| wanted == name);
        let orphaned = |key: &EndpointKey| meant(&key.name) && self.shape.key(&key.name) != Some(key);
        let all = self.lanes.iter().filter(|(lane, rows)| *rows > 0 && orphaned(&lane.endpoint));
        let lanes: BTreeSet<LaneId> = all.map(|(lane, _)| lane.id).collect();
        let leaving = self.lanes.drop_lowest(&lanes, AT_ONCE);
        let waiting: BTreeSet<LaneId> = self.gone.iter().map(|gone| gone.lane.id).collect();
        let empty = |lane: &&LaneId| self.lanes.is_drained(**lane) && !waiting.contains(lane);
        let drained: Vec<LaneId> = lanes.iter().filter(empty).copied().collect();
        match self.by_hand(|thread, _| thread.write_orphans(&leaving, &drained)) {
            Err(fault) => {
                // In their places, as they are on disk (I3).
                for Leaving { lane, row, bytes } in leaving {
                    self.lanes.take_back(lane.id, row, bytes);
                    self.announce(lane.id);
                }
                Err(fault)
            }
            Ok((_, rows)) => {
                for lane in drained {
                    if let Some(info) = self.lanes.remove(lane) {
                        self.sessions.tell(&info.endpoint, Event::Drained(lane));
                    }
                }
                self.after_deed();
                let rest = self.lanes.iter().filter(|(lane, _)| lanes.contains(&lane.id));
                let left = rest.map(|(_, rows)| u64::try_from(rows).unwrap_or(u64::MAX)).sum();
                Ok(Orphans { rows, left })
            }
        }
    }

    /// One transaction; on a full disk with what the reserve holds, for whoever deletes makes room.
    fn by_hand<T>(
        &mut self,
        mut deed: impl FnMut(&mut Self, &mut Written) -> rusqlite::Result<T>,
    ) -> Result<(Written, T), Fault> {
        let mut attempt = |thread: &mut Self| -> rusqlite::Result<(Written, T)> {
            let mut written = Written::default();
            thread.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let done = deed(thread, &mut written)?;
            thread.db.prepare_cached("COMMIT")?.execute([])?;
            Ok((written, done))
        };
        let mut done = attempt(self).inspect_err(|_| self.undo());
        if done.as_ref().is_err_and(|error| self.room.is_full(error)) {
            self.room.full = true;
            if self.room.reserve.give_up() {
                done = attempt(self).inspect_err(|_| self.undo());
            }
        }
        done.inspect(|_| {
            self.ledger.committed();
            self.noted.committed();
        })
        .map_err(|error| self.failed(&error))
    }

    fn undo(&mut self) {
        // What could not be rolled back is closed by SQLite itself.
        let _already = self.db.execute_batch("ROLLBACK");
        self.ledger.rolled_back();
        self.noted.rolled_back();
    }

    /// There may be room now.
    fn after_deed(&mut self) {
        let now = clock::now();
        self.after_commit(now);
        self.watch_room(now);
    }

    fn write_letters(
        &mut self,
        deed: Deed,
        which: &Letters,
        span: Span,
        written: &mut Written,
    ) -> rusqlite::Result<Step> {
        let mut done = Done::default();
        let (letters, next) = match which {
            Letters::Ids(ids) => self.these_letters(ids, span, &mut done)?,
            Letters::Endpoint(_) | Letters::All => self.some_letters(span)?,
        };
        let meant = |letter: &&Letter| match which {
            Letters::Endpoint(endpoint) => letter.endpoint == *endpoint,
            Letters::Ids(_) | Letters::All => true,
        };
        let mut last = None;
        for letter in letters.iter().filter(meant) {
            if deed == Deed::Requeue {
                if self.is_too_old(letter) {
                    done.too_old.push(letter.id);
                    continue;
                }
                if !self.requeue(letter, written)? {
                    done.orphaned.push(letter.id);
                    continue;
                }
            }
            outbox::forget_letter(&self.db, letter.id)?;
            let (tenant, class) = (Tenant::stored(&letter.tenant), letter.class);
            self.ledger.revive(&tenant, class);
            if deed == Deed::Discard {
                self.ledger.add(&tenant, class, Term::Discarded, "", 1);
            }
            written.forgotten = Sum {
                rows: written.forgotten.rows.saturating_add(1),
                bytes: written.forgotten.bytes.saturating_add(letter.bytes),
            };
            last = Some(letter.id);
            done.letters += 1;
        }
        if let Some(last) = last {
            outbox::pass_over_letters(&self.db, last)?;
        }
        Ok((done, next))
    }

    /// The next letters of a span, and what of it is left.
    fn some_letters(&self, span: Span) -> rusqlite::Result<(Vec<Letter>, Option<Span>)> {
        let upto = match span.upto {
            Some(upto) => upto,
            None => outbox::last_letter(&self.db)?,
        };
        let mut letters = outbox::letters(&self.db, span.after, upto, AT_ONCE)?;
        let mut more = letters.len() >= AT_ONCE;
        let mut bytes = 0_u64;
        // At least one.
        let light = letters.iter().take_while(|letter| {
            let fits = bytes < BYTES_AT_ONCE;
            bytes = bytes.saturating_add(letter.bytes);
            fits
        });
        let light = light.count();
        more |= light < letters.len();
        letters.truncate(light);
        let after = letters.last().map_or(upto, |letter| letter.id);
        Ok((letters, more.then_some(Span { after, upto: Some(upto) })))
    }

    /// The next of some letters, in order, and what of them is left.
    fn these_letters(
        &self,
        ids: &[i64],
        span: Span,
        done: &mut Done,
    ) -> rusqlite::Result<(Vec<Letter>, Option<Span>)> {
        let (mut letters, mut bytes) = (Vec::new(), 0_u64);
        for (n, id) in ids.iter().filter(|id| **id > span.after).enumerate() {
            if n >= AT_ONCE || bytes >= BYTES_AT_ONCE {
                return Ok((letters, Some(Span { after: id.saturating_sub(1), upto: None })));
            }
            match outbox::letter(&self.db, *id)? {
                Some(letter) => {
                    bytes = bytes.saturating_add(letter.bytes);
                    letters.push(letter);
                }
                None => done.missing.push(*id),
            }
        }
        Ok((letters, None))
    }

    /// Queued, it would be dropped for its age.
    fn is_too_old(&self, letter: &Letter) -> bool {
        let Some(age) = self.room.limits.max_age.filter(|_| self.clock.is_trusted()) else { return false };
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        match self.boots.moment(letter.stamp.0, letter.stamp.1) {
            Moment::At(us) => self.clock.wall_us().saturating_sub(us) > age,
            Moment::Unknown | Moment::NotYet => false,
        }
    }

    /// Makes a letter a row of its endpoint again. `false` where nobody would carry it.
    fn requeue(&self, letter: &Letter, written: &mut Written) -> rusqlite::Result<bool> {
        let name = EndpointName::new(&letter.endpoint).ok();
        let Some(key) = name.as_ref().and_then(|name| self.shape.key(name)) else { return Ok(false) };
        if key.tenant.as_str() != letter.tenant || letter.class != Class::Telemetry {
            return Ok(false);
        }
        let lane = self.intake_lane(key, written)?;
        let row = outbox::requeue(&self.db, lane, letter.id)?;
        written.rows.push((lane, row, letter.row_bytes));
        Ok(true)
    }

    fn write_orphans(&mut self, leaving: &[Leaving], drained: &[LaneId]) -> rusqlite::Result<u64> {
        let accounts: BTreeSet<(&Tenant, Class)> = leaving.iter().map(account).collect();
        let mut rows = 0;
        for (tenant, class) in accounts {
            let of_it = leaving.iter().filter(|gone| account(gone) == (tenant, class));
            let mut ids: Vec<RowId> = of_it.map(|gone| gone.row).collect();
            ids.sort_unstable();
            let deleted = u64::try_from(outbox::delete(&self.db, &ids)?).unwrap_or_default();
            self.noted.go(&ids);
            self.ledger.add(tenant, class, Term::Discarded, "", deleted);
            rows += deleted;
        }
        for lane in drained {
            self.db.prepare_cached("DELETE FROM lane WHERE id = ?1")?.execute([lane.0])?;
        }
        self.ledger.write(&self.db)?;
        Ok(rows)
    }
}

/// Under which name of the ledger a row is counted.
fn account(leaving: &Leaving) -> (&Tenant, Class) {
    (&leaving.lane.endpoint.tenant, leaving.lane.class.account())
}
