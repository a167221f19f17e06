//! Lanes that have fallen behind: they become a backlog, and go when they are drained.
//!
//! One UPDATE of the lane's row, committed before any of its rows flies as backlog; new samples then open
//! the next lane. It happens only when a lane would fly next, so that one that grows in an outage stays
//! one, and not to one whose rows the question takes all at once: nothing would wait behind them.

use super::Thread;
use crate::store::{Class, Event, LaneId, boots::Moment, outbox};
use adapter_api::clock;
use std::{collections::BTreeSet, time::Duration};

/// A question for rows, whose answer is that the lane is a backlog.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) lane: LaneId,
    pub(super) max_rows: usize,
    pub(super) max_bytes: usize,
}

impl Thread {
    /// Whether the oldest row of a lane of live rows is older than this.
    pub(super) fn is_behind(&mut self, asked: &Behind, age: Duration) -> bool {
        let live = self.lanes.info(asked.lane).is_some_and(|lane| lane.class == Class::Telemetry);
        if !live || !self.lanes.exceeds(asked.lane, asked.max_rows, asked.max_bytes) {
            return false;
        }
        let Some(head) = self.lanes.head(asked.lane) else { return false };
        // What cannot be read is found out by who reads it.
        let Ok(Some((stamp, boot))) = outbox::stamp(&self.db, head) else { return false };
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        match self.boots.moment(stamp, boot) {
            // A wall time says nothing where ours is not known: in order is the safe order.
            Moment::At(us) => self.clock.is_trusted() && self.clock.wall_us().saturating_sub(us) > age,
            Moment::NotYet => false,
            Moment::Unknown if boot == Some(self.boots.present()) => {
                self.clock.boot_us().saturating_sub(stamp) > age
            }
            Moment::Unknown => true,
        }
    }

    /// The lane is written down as backlog with the next transaction; the question is answered then.
    pub(super) fn put_behind(&mut self, asked: Behind) {
        self.behind.push(asked);
        self.gone_due = Some(clock::now());
    }

    /// What changes among the lanes in a transaction, after all rows came and went.
    pub(super) fn write_lanes(&self, written: &mut super::Written) -> rusqlite::Result<()> {
        let mut update = self.db.prepare_cached("UPDATE lane SET class = ?2 WHERE id = ?1")?;
        for behind in &self.behind {
            update.execute([behind.lane.0, Class::Backlog.number()])?;
        }
        let (gone, left) = self.gone.split_at(written.gone.min(self.gone.len()));
        let mut drained: BTreeSet<LaneId> = gone.iter().map(|gone| gone.lane.id).collect();
        drained.retain(|lane| self.lanes.is_drained(*lane));
        if drained.is_empty() {
            return Ok(());
        }
        for lane in left.iter().map(|gone| gone.lane.id).chain(written.rows.iter().map(|row| row.0)) {
            drained.remove(&lane);
        }
        let mut delete = self.db.prepare_cached("DELETE FROM lane WHERE id = ?1")?;
        for lane in drained {
            delete.execute([lane.0])?;
            written.drained.push(lane);
        }
        Ok(())
    }

    /// After COMMIT.
    pub(super) fn settle_lanes(&mut self, drained: &[LaneId]) {
        for lane in drained {
            if let Some(info) = self.lanes.remove(*lane) {
                self.sessions.tell(&info.endpoint, Event::Drained(*lane));
            }
        }
        for behind in std::mem::take(&mut self.behind) {
            if let Some(info) = self.lanes.fall_behind(behind.lane) {
                self.sessions.tell(&info.endpoint.clone(), Event::Behind(info));
            }
        }
    }

    /// After a transaction that failed: rather in order than not at all.
    pub(super) fn fly_behind(&mut self) {
        for behind in std::mem::take(&mut self.behind) {
            self.next(behind.lane, behind.max_rows, behind.max_bytes);
        }
    }

    /// At the start: ids of lanes that this version cannot read are not given out again, and backlog lanes
    /// that an earlier life left empty are removed.
    pub(super) fn begin_lanes(&mut self) {
        match self.db.query_row("SELECT max(id) FROM lane", [], |row| row.get::<_, Option<i64>>(0)) {
            Ok(last) => self.lanes.pass_over(LaneId(last.unwrap_or_default())),
            Err(error) => {
                tracing::warn!(%error, "the lanes could not be looked at");
                self.failed(&error);
            }
        }
        let lanes: Vec<LaneId> = self.lanes.iter().map(|(lane, _)| lane.id).collect();
        for lane in lanes.into_iter().filter(|lane| self.lanes.is_drained(*lane)).collect::<Vec<_>>() {
            match self.db.execute("DELETE FROM lane WHERE id = ?1", [lane.0]) {
                Ok(_) => drop(self.lanes.remove(lane)),
                Err(error) => {
                    self.lines.lane(&error);
                    self.failed(&error);
                }
            }
        }
    }
}
