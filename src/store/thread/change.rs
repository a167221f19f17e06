//! What changes while the store is open: endpoints, their names, their rules, limits, and who carries them up.
//!
//! What is queued stays queued, whatever changes. Rows of an endpoint that left the configuration are kept, and
//! fly when it comes back.

use super::{GROUP, Thread, suspend};
use crate::{
    dialect::SessionKey,
    endpoints::{Directory, EndpointKey},
    fault::Fault,
    store::{Change, LaneId, LaneInfo, Limits},
};
use adapter_api::{Instant, Submission, clock};
use rusqlite::params;
use std::collections::{HashMap, HashSet};

/// Then they are orphaned, until the next change or start.
pub(super) const NOT_RENAMED: &str = "queued samples could not be given another name";

/// An endpoint that is called otherwise, and what becomes of its lanes: `None` for those that are no more.
struct Renaming {
    former: EndpointKey,
    present: EndpointKey,
    lanes: Vec<(LaneId, Option<LaneInfo>)>,
}

impl Thread {
    /// Changes everything at once; or nothing, and why.
    pub(super) fn change(&mut self, change: Change) -> Result<(), Fault> {
        let Change { directory, uplink, device_time, commit_within, limits } = change;
        let now = clock::now();
        self.finish_under_these_rules(&directory, &limits, now)?;
        self.rename(&directory).map_err(|error| self.failed(&error))?;
        self.shape.adopt(directory.clone(), uplink, device_time, now);
        self.commit_within = commit_within;
        self.room.keep_to(limits, now);
        self.warn_of_orphans(&directory);
        self.after_commit(now);
        self.watch_room(now);
        Ok(())
    }

    /// What was handed in before a change is judged by the rules it was handed in under, and what those withhold
    /// is written. `Err`: it could not be, and would be lost.
    fn finish_under_these_rules(
        &mut self,
        directory: &Directory,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Fault> {
        // Not what comes meanwhile: it could come for ever.
        for _ in 0..self.units.waiting() {
            let Some(submission) = self.units.next(now, true) else { break };
            self.take(submission);
            if self.group.len() >= GROUP {
                self.commit_whole(now);
                if !self.group.is_empty() {
                    break;
                }
            }
        }
        self.ending = self.shape.ending(directory);
        if self.group.is_empty() && self.gone.is_empty() && self.ending.is_empty() {
            return Ok(());
        }
        self.gone_due = Some(now);
        self.commit_whole(now);
        if self.fault.is_none() && !self.ending.is_empty() && limits.contain(&self.room.limits) {
            // The change may be to give it room.
            let before = std::mem::replace(&mut self.room.limits, limits.clone());
            self.commit_whole(now);
            self.room.limits = before;
        }
        let ends = !std::mem::take(&mut self.ending).is_empty();
        match &self.fault {
            Some(fault) if ends || !self.group.is_empty() => Err(fault.clone()),
            None if ends => {
                let reason = self.room.level(&self.db).map_or("quota", |(level, _)| level.reason);
                Err(suspend::unreported(reason))
            }
            _ => Ok(()),
        }
    }

    /// Commits the group, though noted rows have to make room for it first.
    fn commit_whole(&mut self, now: Instant) {
        self.commit(now);
        while self.room.sweeping {
            self.commit(now);
        }
    }

    /// What is queued and known under former names of endpoints goes to their present ones: all in one transaction.
    pub(super) fn rename(&mut self, directory: &Directory) -> rusqlite::Result<()> {
        let known =
            |(former, _): &(EndpointKey, EndpointKey)| self.lanes.knows(former) || self.latest.knows(former);
        let mut renamed: Vec<(EndpointKey, EndpointKey)> = directory.renamed().filter(known).collect();
        if renamed.is_empty() {
            return Ok(());
        }
        // Where several become one, their order is the same at each try.
        renamed.sort_unstable();
        // An empty lane that still has rows on disk is needed until they are gone.
        let needed: HashSet<LaneId> = self.gone.iter().map(|gone| gone.lane.id).collect();
        let mut before = Vec::new();
        let renamings: Vec<Renaming> =
            renamed.into_iter().map(|names| self.move_lanes(names, &needed, &mut before)).collect();
        let mut written = self.write_renamings(&renamings);
        if written.as_ref().is_err_and(|error| self.room.is_full(error)) {
            self.room.full = true;
            if self.room.reserve.give_up() {
                written = self.write_renamings(&renamings);
            }
        }
        if let Err(error) = written {
            self.move_back(before);
            return Err(error);
        }
        let names: HashMap<&EndpointKey, &EndpointKey> =
            renamings.iter().map(|renaming| (&renaming.former, &renaming.present)).collect();
        for gone in &mut self.gone {
            if let Some(present) = names.get(&gone.lane.endpoint) {
                gone.lane.endpoint = (*present).clone();
            }
        }
        renamings.into_iter().for_each(|renaming| self.settle_renaming(renaming));
        Ok(())
    }

    /// Before COMMIT, and on the books only: of several that become one, the next goes before those that went. What
    /// the lanes were is added to `before`.
    fn move_lanes(
        &mut self,
        (former, present): (EndpointKey, EndpointKey),
        needed: &HashSet<LaneId>,
        before: &mut Vec<LaneInfo>,
    ) -> Renaming {
        let lanes = self.lanes.renamed(&former, &present, needed);
        for (id, info) in &lanes {
            before.extend(self.lanes.info(*id).cloned());
            self.lanes.rename(*id, info.clone());
        }
        Renaming { former, present, lanes }
    }

    /// It could not be written: the lanes are what they were.
    fn move_back(&mut self, before: Vec<LaneInfo>) {
        for info in before {
            match self.lanes.info(info.id) {
                Some(_) => self.lanes.rename(info.id, Some(info)),
                // It had no rows.
                None => self.lanes.add(info),
            }
        }
    }

    fn write_renamings(&self, renamings: &[Renaming]) -> rusqlite::Result<()> {
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        self.write_each(renamings).and_then(|()| self.db.execute_batch("COMMIT")).inspect_err(|_| {
            // What could not be rolled back is closed by SQLite itself.
            let _already = self.db.execute_batch("ROLLBACK");
        })
    }

    fn write_each(&self, renamings: &[Renaming]) -> rusqlite::Result<()> {
        for Renaming { former, present, lanes } in renamings {
            for (id, info) in lanes {
                match info {
                    None => self.db.execute("DELETE FROM lane WHERE id = ?1", [id.0])?,
                    Some(LaneInfo { endpoint, class, seq, .. }) => self.db.execute(
                        "UPDATE lane SET tenant = ?2, endpoint = ?3, class = ?4, seq = ?5 WHERE id = ?1",
                        params![id.0, endpoint.tenant.as_str(), endpoint.name.as_str(), class.number(), seq],
                    )?,
                };
            }
            let from = [former.tenant.as_str(), former.name.as_str()];
            let both = [from[0], from[1], present.tenant.as_str(), present.name.as_str()];
            let sides = "SET tenant = ?3, endpoint = ?4 WHERE tenant = ?1 AND endpoint = ?2";
            if self.room.dead.rows > 0 {
                self.db.execute(&format!("UPDATE dead {sides}"), both)?;
            }
            self.db.execute(&format!("UPDATE OR IGNORE latest {sides}"), both)?;
            self.db.execute("DELETE FROM latest WHERE tenant = ?1 AND endpoint = ?2", from)?;
        }
        Ok(())
    }

    /// After COMMIT.
    fn settle_renaming(&mut self, Renaming { former, present, lanes }: Renaming) {
        tracing::info!(%former, %present, "an endpoint is called otherwise; what is queued of it goes along");
        self.latest.rename(&former, &present);
        for (id, _) in lanes {
            self.lanes.reset(id);
            self.behind.retain(|asked| asked.lane != id);
            self.timeless.remove(&id);
            self.announce(id);
        }
    }

    /// Rows that no endpoint of the configuration owns.
    pub(super) fn warn_of_orphans(&self, directory: &Directory) {
        let orphaned =
            |(lane, rows): &(&LaneInfo, usize)| *rows > 0 && directory.by_key(&lane.endpoint).is_none();
        let lanes = self.lanes.iter().filter(orphaned).count();
        if lanes > 0 {
            tracing::warn!(
                lanes,
                "queued rows belong to endpoints that left the configuration; they are kept"
            );
        }
    }

    /// A session carries these endpoints from now on.
    pub(super) fn carry(&mut self, session: &SessionKey, endpoints: Vec<EndpointKey>) {
        let joined = self.sessions.carry_now(session, endpoints);
        self.begin_to_carry(&joined);
        let (lanes, sessions) = (&self.lanes, &self.sessions);
        // Nobody waits for an answer about the others.
        self.behind.retain(|asked| lanes.info(asked.lane).is_some_and(|lane| sessions.carry(&lane.endpoint)));
    }

    /// A session did not carry these before, or not in this life of it: it is told what there is of theirs.
    pub(super) fn begin_to_carry(&mut self, endpoints: &HashSet<EndpointKey>) {
        if endpoints.is_empty() {
            return;
        }
        let all = self.lanes.iter().map(|(lane, _)| lane);
        let mut lanes: Vec<(i64, LaneId)> =
            all.filter(|l| endpoints.contains(&l.endpoint)).map(|l| (l.seq, l.id)).collect();
        // An endpoint's lanes in their order: the uplink must know of the earlier ones first.
        lanes.sort_unstable();
        let known: HashSet<LaneId> = lanes.iter().map(|(_, lane)| *lane).collect();
        self.behind.retain(|asked| !known.contains(&asked.lane));
        for (_, lane) in lanes {
            // Nothing of an earlier life of this session is in the air any more.
            self.lanes.reset(lane);
            self.timeless.remove(&lane);
            self.announce(lane);
        }
    }

    /// A submission by the name its endpoint has now: its adapter may not have heard of it yet.
    pub(super) fn by_present_name(&self, mut submission: Submission) -> Submission {
        if let Some(present) = self.shape.present_name(&submission.endpoint) {
            submission.endpoint = present.clone();
        }
        submission
    }
}
