//! Answers to questions that change nothing of the queue: counters, kept values, figures.

use super::{Thread, suspend};
use crate::{
    dialect::SessionKey,
    endpoints::EndpointKey,
    store::{Autonomy, DeadLetter, Event, Figures, Last, Overview, RowId, boots::Moment},
};
use adapter_api::{EndpointName, Instant, Resource, clock};
use rusqlite::{OptionalExtension, params};
use std::time::Duration;

impl Thread {
    /// Reserves counters on disk, in a transaction of their own.
    pub(super) fn reserve(&mut self, session: &SessionKey, count: u64) {
        let step = i64::try_from(count).unwrap_or(i64::MAX);
        let mut reserved = self.raise(step);
        if reserved.as_ref().is_err_and(|error| self.room.is_full(error)) {
            // Without ids nothing is delivered, and nothing given back.
            self.room.full = true;
            if self.room.reserve.give_up() {
                reserved = self.raise(step);
            }
        }
        match reserved {
            Ok(next) => {
                let next = u64::try_from(next).unwrap_or_default();
                self.sessions.answer(session, Event::Ids(next.saturating_sub(count)..next));
            }
            Err(error) => {
                tracing::debug!(%error, "request ids could not be reserved; asked again when needed");
                self.failed(&error);
                self.sessions.answer(session, Event::Ids(0..0));
            }
        }
    }

    /// Not by RETURNING: its row comes before the COMMIT, whose failure then goes unheard.
    fn raise(&self, step: i64) -> rusqlite::Result<i64> {
        self.db.execute(
            "INSERT INTO ids(name, next) VALUES ('request', ?1) ON CONFLICT DO UPDATE SET next = next + ?1",
            [step],
        )?;
        self.db.query_row("SELECT next FROM ids WHERE name = 'request'", [], |row| row.get(0))
    }

    pub(super) fn keep(&self, owner: &str, key: &str, draw: &[u8]) -> rusqlite::Result<Vec<u8>> {
        self.db.execute(
            "INSERT OR IGNORE INTO keep(owner, key, value) VALUES (?1, ?2, ?3)",
            params![owner, key, draw],
        )?;
        let kept =
            self.db.query_row("SELECT value FROM keep WHERE owner = ?1 AND key = ?2", [owner, key], |row| {
                row.get(0)
            });
        Ok(kept.optional()?.unwrap_or_else(|| draw.to_vec()))
    }

    pub(super) fn put(&self, owner: &str, key: &str, value: &[u8]) -> rusqlite::Result<()> {
        let mut put =
            self.db.prepare_cached("INSERT OR REPLACE INTO keep(owner, key, value) VALUES (?1, ?2, ?3)")?;
        put.execute(params![owner, key, value]).map(drop)
    }

    pub(super) fn figures(&self) -> Figures {
        // Rows off the books and still on disk are neither landed nor gone yet.
        let queued = self.lanes.queued() + u64::try_from(self.gone.len()).unwrap_or_default();
        let mut totals = self.ledger.totals(queued);
        let mut reasons = self.ledger.reasons();
        for ((_, reason), samples) in &self.uncounted {
            // Refused without a transaction or in one that failed: in the table with the next one.
            totals.offered += samples;
            totals.refused += samples;
            *reasons.entry(format!("refused({reason})")).or_default() += samples;
        }
        Figures {
            totals,
            reasons,
            dead_letters: self.room.dead.rows,
            drops: self.room.drops.clone(),
            quotas: self.shape.exceeded(),
            autonomy: self.autonomy(clock::now()),
            full: self.suspension.reason.map(suspend::fault),
            fault: self.unsalvaged.as_ref().map(|waiting| &waiting.fault).or(self.fault.as_ref()).cloned(),
        }
    }

    fn autonomy(&self, now: Instant) -> Option<Autonomy> {
        let (level, _) = self.room.level(&self.db)?;
        let then = self.room.limits.when_full;
        let room = (level.left(then), level.reason);
        Some(Autonomy::new(room, then, self.inflow.rate(now), self.age_left()))
    }

    /// Until the oldest row is too old; `None` where that does not count, or nobody can tell.
    fn age_left(&self) -> Option<Duration> {
        let max_age = self.room.limits.max_age.filter(|_| self.clock.is_trusted())?;
        let age = match self.oldest().ok()? {
            None => 0,
            Some((stamp, boot)) => match self.boots.moment(stamp, boot) {
                Moment::At(us) => self.clock.wall_us().saturating_sub(us),
                Moment::Unknown | Moment::NotYet => return None,
            },
        };
        Some(max_age.saturating_sub(Duration::from_micros(u64::try_from(age).unwrap_or_default())))
    }

    /// The stamp of the first row that has not landed.
    fn oldest(&self) -> rusqlite::Result<Option<(i64, Option<i64>)>> {
        let select = "SELECT id, stamp, boot FROM outbox WHERE id >= ?1 ORDER BY id LIMIT 1";
        let mut select = self.db.prepare_cached(select)?;
        let mut from = RowId(0);
        loop {
            let first = select.query_row([from.0], |row| Ok((RowId(row.get(0)?), row.get(1)?, row.get(2)?)));
            match first.optional()? {
                None => return Ok(None),
                Some((row, stamp, boot)) if !self.noted.has(row) => return Ok(Some((stamp, boot))),
                Some((row, ..)) => from = self.noted.pass(row),
            }
        }
    }

    pub(super) fn dead(&self, limit: usize) -> rusqlite::Result<Vec<DeadLetter>> {
        let mut select = self.db.prepare_cached(
            "SELECT id, endpoint, reason, stamp, boot, item FROM dead ORDER BY id DESC LIMIT ?1",
        )?;
        let letters = select.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(DeadLetter {
                id: row.get(0)?,
                endpoint: row.get(1)?,
                reason: row.get(2)?,
                stamp: row.get(3)?,
                boot: row.get(4)?,
                item: row.get(5)?,
            })
        })?;
        letters
            .map(|letter| {
                let mut letter = letter?;
                self.resolve_letter(&mut letter);
                Ok(letter)
            })
            .collect()
    }

    pub(super) fn overview(&self, endpoints: &[EndpointKey]) -> Vec<Overview> {
        let now = clock::now();
        let glance = |endpoint: &EndpointKey| {
            let (mut last, samples_per_s) = self.latest.glance(endpoint, now);
            if let Some(last) = &mut last {
                last.at = self.resolved(last.at);
            }
            let queued = self.lanes.queued_of(endpoint);
            let over_quota = self.shape.is_over_quota(&endpoint.name);
            Overview { queued, over_quota, samples_per_s, last }
        };
        endpoints.iter().map(glance).collect()
    }

    pub(super) fn last(&self, endpoint: &EndpointName, resource: Option<&Resource>) -> Vec<Last> {
        let Some(key) = self.shape.key(endpoint) else { return Vec::new() };
        let mut values = self.latest.of(key);
        values.retain(|last| resource.is_none_or(|wanted| last.reading.resource == *wanted));
        values.iter_mut().for_each(|last| last.at = self.resolved(last.at));
        values
    }
}
