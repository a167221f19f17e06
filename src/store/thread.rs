//! The one thread that owns SQLite: gather what waits, one transaction, COMMIT, *then* answer all (I1).
//!
//! Urgent submissions are committed at once with whatever is there, relaxed ones after
//! `commit_within` at the latest. Confirmed deletes are gathered for 1 s and ride on the group that is
//! next then; until then they are kept in `gone`, also over a failed transaction. A crash in between
//! sends those rows again, which is allowed.

mod admission;
mod answers;
mod behind;
mod books;
mod change;
mod drops;
mod group;
mod letters;
mod report;
mod room;
mod salvage;
mod sessions;
mod suspend;
#[cfg(test)]
mod tests;
mod time;
mod trouble;
mod units;

use super::{
    Command, Event, LaneId, OpenError, Options, RowId,
    autonomy::Inflow,
    boots::{Boots, Moment},
    lanes::{LaneInfo, Lanes, share::Leaving},
    latest::Latest,
    ledger::Ledger,
    noted::Noted,
    outbox,
    progress::Progress,
    recover,
    tail::Tellers,
};
use crate::{
    endpoints::{Directory, EndpointKey, Tenant},
    failpoint::{self, Point},
    fault::Fault,
    shape::Shape,
    uplink::outflow::FlightId,
};
use adapter_api::{
    Clock, Instant, Offer, Refused, Sample, Submission, Urgency,
    clock::{self, Bell},
};
use behind::Behind;
use books::Books;
use room::Room;
use rusqlite::Connection;
use salvage::Unsalvaged;
use sessions::Sessions;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};
use suspend::Suspension;
use tokio::sync::{mpsc, oneshot, watch};
use units::Units;

/// Requests in one transaction.
const GROUP: usize = 512;
/// Commands obeyed before submissions are looked at: as many as can wait.
const COMMANDS: usize = 256;
/// Landed rows are gathered for so long before they are deleted.
const DELETE_WITHIN: Duration = Duration::from_secs(1);
/// Rows deleted in one transaction, as many again if they were noted: bounds the time a device may wait behind them. Many at a time
/// wear the flash less: what is left of a page is written with each of them.
const DELETES: usize = 16_384;
/// On a full disk: each may write a page of its own to the journal, and it has what the reserve held.
const DELETES_WHEN_FULL: usize = 1_024;
/// At the end, for so long at most: what is noted may stay so.
const SWEEP_AT_STOP: Duration = Duration::from_secs(1);
/// `latest` goes to disk at most this often.
const LATEST_EVERY: Duration = Duration::from_secs(15 * 60);

/// The thread's state.
pub(super) struct Thread {
    db: Connection,
    shape: Shape,
    lanes: Lanes,
    ledger: Ledger,
    latest: Latest,
    /// Who looks on.
    tellers: Tellers,
    latest_due: Instant,
    bell: Arc<Bell>,
    commands: mpsc::Receiver<Command>,
    units: Units,
    group: Vec<Submission>,
    group_due: Option<Instant>,
    commit_within: Duration,
    gone: Vec<Gone>,
    noted: Noted,
    /// Bytes that are to be had from noted rows.
    pressed: u64,
    /// Rows that were dead letters, queued again in this life and still on the books.
    requeued: HashSet<RowId>,
    gone_due: Option<Instant>,
    /// Some of `gone` are to be dropped.
    dropping: bool,
    /// Offered and refused without a transaction or in one that failed, whose and why: counted with the
    /// next one.
    uncounted: BTreeMap<(Tenant, &'static str), u64>,
    room: Room,
    suspension: Suspension,
    /// How many samples were dropped in the life of the database.
    dropped: watch::Sender<u64>,
    inflow: Inflow,
    sessions: Sessions,
    clock: Clock,
    boots: Boots,
    /// Questions for lanes that are being written down as fallen behind.
    behind: Vec<Behind>,
    /// Report rules that end: what they withhold is reported with the next transaction that has room for it.
    ending: Vec<usize>,
    /// Lanes whose head waits for the time of this boot.
    timeless: BTreeSet<LaneId>,
    fault: Option<Fault>,
    lines: trouble::Lines,
    /// A transaction for reading is open.
    reading: bool,
    /// The database is damaged.
    damaged: bool,
    /// And there is no room to salvage it.
    unsalvaged: Option<Unsalvaged>,
    progress: Progress,
    stop: Option<oneshot::Sender<()>>,
}

/// Who is told at once, without asking.
pub(super) struct Tell {
    /// Whether the store is full and refuses.
    pub(super) full: watch::Sender<bool>,
    /// How many samples were dropped.
    pub(super) dropped: watch::Sender<u64>,
    /// How far a salvage is.
    pub(super) progress: Progress,
}

/// A row that is off the books and still on disk.
struct Gone {
    lane: LaneInfo,
    row: RowId,
    /// About.
    bytes: u64,
    end: End,
}

/// What became of a row.
#[derive(Clone)]
enum End {
    Landed,
    /// It goes to the dead letters, for this reason; the flight is told when it is there.
    Dead(Arc<str>, FlightId),
    /// For want of space or age.
    Dropped(&'static str),
}

/// What a transaction did, to be told after COMMIT.
#[derive(Default)]
struct Written {
    /// Rows that are new on disk.
    rows: Vec<(LaneId, RowId, u64)>,
    /// Bytes that may still be written.
    room: u64,
    /// Lanes that are new on disk.
    lanes: Vec<LaneInfo>,
    /// Backlog lanes that are no more on disk.
    drained: Vec<LaneId>,
    /// One result per submission of the group.
    results: Vec<Result<(), Refused>>,
    /// Leading entries of `gone` that are done with.
    gone: usize,
    /// Dead letters that are new on disk, and their bytes.
    dead: Sum,
    /// Dead letters that had to go.
    forgotten: Sum,
    /// What was dropped: why, how many, and the range of their stamps.
    drops: Vec<(&'static str, u64, outbox::Range)>,
    /// Report rules that end, and for whose last reports there was no room.
    unreported: Vec<usize>,
    /// `latest` was written.
    latest: bool,
    /// Readings that report rules made, to be shown.
    shown: Vec<(EndpointKey, Vec<Sample>)>,
}

/// Rows and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    rows: u64,
    bytes: u64,
}

impl Thread {
    /// Opens the database and reads what the books need.
    pub(super) fn open(
        options: &Options,
        directory: &Directory,
        shape: Shape,
        bell: Arc<Bell>,
        commands: mpsc::Receiver<Command>,
        tell: Tell,
    ) -> Result<Self, OpenError> {
        let Books { db, room, lanes, noted, ledger, latest, boots } = Books::open(options)?;
        let totals = ledger.totals(lanes.queued());
        if !totals.balance() {
            // A fault with its number, never corrected silently.
            tracing::error!(?totals, "the ledger does not add up");
        }
        let mut thread = Self {
            clock: Clock::untrusted(boots.present()),
            boots,
            behind: Vec::new(),
            ending: Vec::new(),
            timeless: BTreeSet::new(),
            latest,
            tellers: Tellers::default(),
            latest_due: clock::now() + LATEST_EVERY,
            db,
            shape,
            lanes,
            ledger,
            bell,
            commands,
            units: Units::default(),
            group: Vec::new(),
            group_due: None,
            commit_within: options.commit_within,
            gone: Vec::new(),
            noted,
            pressed: 0,
            requeued: HashSet::new(),
            // The quota may be a smaller one than that of the last run.
            gone_due: Some(clock::now()),
            dropping: false,
            uncounted: BTreeMap::new(),
            sessions: Sessions::default(),
            room,
            suspension: Suspension::new(tell.full),
            dropped: tell.dropped,
            inflow: Inflow::new(clock::now()),
            fault: None,
            lines: trouble::Lines::default(),
            reading: false,
            damaged: false,
            unsalvaged: None,
            progress: tell.progress,
            stop: None,
        };
        if let Err(error) = thread.rename(directory) {
            // What is queued must get out all the same, on a full disk above all.
            thread.room.diagnose(&error).log_error(change::NOT_RENAMED);
            thread.damaged |= recover::is_damage(&error);
        }
        thread.warn_of_orphans(directory);
        Ok(thread)
    }

    /// Turns until told to stop.
    pub(super) fn run(mut self) {
        self.watch_room(clock::now());
        self.tell_dropped();
        self.begin_lanes();
        loop {
            if self.is_to_mend() && !self.mend() {
                return;
            }
            let more = self.gather();
            // At once, also before an end: memory knows what the disk does not.
            if self.is_to_mend() {
                continue;
            }
            let now = clock::now();
            if self.stop.is_some() && !more {
                return self.finish();
            }
            match self.due(now) {
                Some(due) if due <= now => self.commit(now),
                due if !more => match self.chores_due() {
                    Some(chore) if chore <= now => self.do_chores(now),
                    chore => {
                        let rested = self.units.poll_timeout();
                        self.bell.wait([due, chore, rested].into_iter().flatten().min());
                    }
                },
                _ => {}
            }
        }
    }

    /// Takes commands and submissions, the units in turn. Returns whether a full group left some waiting.
    fn gather(&mut self) -> bool {
        let mut asked = 0;
        // Whoever asks faster than is answered must not hold up those who hand in (I8).
        while asked < COMMANDS
            && !self.is_to_mend()
            && let Ok(command) = self.commands.try_recv()
        {
            asked += 1;
            // All reads of a turn under one lock of the file: it costs more than the reading.
            match command {
                Command::Next { .. } => self.begin_reading(),
                Command::Landed(_) | Command::Release { .. } => {}
                _ => self.end_reading(),
            }
            self.obey(command);
        }
        self.end_reading();
        // Of what is taken, some may be refused at once: that must not hold up the others' commit.
        let (now, stopping) = (clock::now(), self.stop.is_some());
        let mut taken = 0;
        while self.group.len() < GROUP
            && taken < GROUP
            && let Some(submission) = self.units.next(now, stopping)
        {
            taken += 1;
            self.take(submission);
        }
        self.group.len() >= GROUP || taken >= GROUP || asked >= COMMANDS
    }

    fn take(&mut self, submission: Submission) {
        let submission = self.by_present_name(submission);
        if let Some(submission) = self.within_quota(submission) {
            self.admit(submission);
        }
    }

    fn admit(&mut self, mut submission: Submission) {
        if let Offer::Samples(samples) = &mut submission.offer {
            let wall_us = self.clock.is_trusted().then(|| self.clock.wall_us());
            self.shape.set_right(samples, wall_us, self.clock.stamp());
        }
        let due = match submission.urgency {
            Urgency::Urgent => clock::now(),
            Urgency::Relaxed => clock::now() + self.commit_within,
        };
        self.group_due = Some(self.group_due.map_or(due, |known| known.min(due)));
        self.group.push(submission);
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let full = (self.group.len() >= GROUP).then_some(now);
        let latest = self.latest.is_changed().then_some(self.latest_due);
        [full, self.group_due, self.gone_due, latest, self.shape.poll_report()].into_iter().flatten().min()
    }

    /// When there is something to do that can wait.
    fn chores_due(&self) -> Option<Instant> {
        // Not while its transaction is due: one that fails is tried again when that is.
        let noted = self.noted.poll_timeout().filter(|_| self.gone_due.is_none());
        let salvage = self.unsalvaged.as_ref().map(|waiting| waiting.look_at);
        let others = [self.room.due(), noted, self.suspension.due(), self.shape.poll_timeout()];
        others.into_iter().chain([salvage]).flatten().min()
    }

    fn do_chores(&mut self, now: Instant) {
        self.calm(now);
        self.tidy(now);
        if self.gone_due.is_none() && self.noted.poll_timeout().is_some_and(|due| due <= now) {
            self.gone_due = Some(now);
        }
        if self.suspension.due().is_some_and(|due| due <= now) {
            self.watch_room(now);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Unit(submissions) => self.units.add(submissions),
            Command::Uplink { session, endpoints, events } => {
                let carried: HashSet<EndpointKey> = endpoints.iter().cloned().collect();
                self.sessions.attach(&session, endpoints, events);
                self.begin_to_carry(&carried);
            }
            Command::Carry { session, endpoints } => self.carry(&session, endpoints),
            Command::Change { change, answer } => {
                let changed = self.change(change);
                reply(answer, changed);
            }
            Command::Next { lane, max_rows, max_bytes, live_age } => {
                let asked = Behind { lane, max_rows, max_bytes };
                match live_age {
                    Some(age) if self.is_behind(&asked, age) => self.put_behind(asked),
                    _ => self.next(lane, max_rows, max_bytes),
                }
            }
            Command::Landed(landed) => {
                failpoint::pass(Point::AfterConfirmation);
                self.off_the_books(landed.lane(), landed.rows(), &End::Landed);
                self.sessions.tell(&landed.lane().endpoint, Event::Taken(landed.flight()));
            }
            Command::Bury(buried) => {
                // Told after COMMIT: what comes after it in its lane waits until it cannot come again.
                let reason = outbox::short(buried.reason()).into();
                let end = End::Dead(reason, buried.flight());
                self.off_the_books(buried.lane(), &[buried.row()], &end);
                self.gone_due = Some(clock::now());
            }
            Command::Release { lane, rows } => self.lanes.release(lane, &rows),
            Command::Reserve { session, count } => self.reserve(&session, count),
            Command::Keep { owner, key, draw, answer } => {
                let kept = self.keep(owner, key, &draw).unwrap_or_else(|error| {
                    self.lines.unkept(&error, owner, key);
                    self.failed(&error);
                    draw
                });
                reply(answer, kept);
            }
            Command::Put { owner, key, value, answer } => {
                let put = self.put(owner, key, &value);
                if let Err(error) = &put {
                    self.lines.unkept(error, owner, key);
                    self.failed(error);
                }
                if let Some(answer) = answer {
                    reply(answer, put.is_ok());
                }
            }
            Command::Figures(answer) => reply(answer, self.figures()),
            Command::Queue(answer) => {
                reply(answer, self.lanes.iter().map(|(lane, rows)| (lane.clone(), rows)).collect());
            }
            Command::Dead { limit, answer } => {
                let letters = self.dead(limit).unwrap_or_else(|error| {
                    self.failed(&error);
                    Vec::new()
                });
                reply(answer, letters);
            }
            Command::Overview { endpoints, answer } => reply(answer, self.overview(&endpoints)),
            Command::Latest { endpoint, resource, answer } => {
                reply(answer, self.last(&endpoint, resource.as_ref()));
            }
            Command::Time { offset_us, answer } => {
                let kept = self.know_time(offset_us);
                reply(answer, kept);
            }
            Command::EndHold => self.end_hold(),
            Command::Letters { deed, which, span, answer } => {
                let done = self.letters(deed, &which, span);
                reply(answer, done);
            }
            Command::DiscardOrphans { endpoint, answer } => {
                let done = self.discard_orphans(endpoint.as_ref());
                reply(answer, done);
            }
            Command::Tail { teller, answer } => {
                let room = self.tellers.add(teller);
                reply(answer, room);
            }
            Command::Stop(answer) => {
                // Said before the last commits: whoever looks on has time to hear it.
                self.tellers.end();
                self.stop = Some(answer);
            }
        }
    }

    fn begin_reading(&mut self) {
        if !self.reading {
            // Without it each row is read under a lock of its own.
            self.reading = self.db.prepare_cached("BEGIN").and_then(|mut begin| begin.execute([])).is_ok();
        }
    }

    fn end_reading(&mut self) {
        if std::mem::take(&mut self.reading)
            && let Err(error) = self.db.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]))
        {
            // What was read is read; SQLite may have ended it by itself.
            tracing::debug!(%error, "the end of reading");
            let _already = self.db.execute_batch("ROLLBACK");
        }
    }

    /// Hands leading rows of a lane to the uplink.
    fn next(&mut self, lane: LaneId, max_rows: usize, max_bytes: usize) {
        let (mut rows, mut bytes, mut unread) = (Vec::new(), 0_usize, Vec::new());
        let (mut timeless, mut failed) = (false, None);
        let mut reader = outbox::Reader::new(&self.db);
        while rows.len() < max_rows && bytes < max_bytes && unread.is_empty() {
            let Some(id) = self.lanes.claim(lane, 1).pop() else { break };
            let read = match &mut reader {
                Ok(reader) => reader.read(id),
                // Asked once more, for the error.
                Err(_) => outbox::Reader::new(&self.db).and_then(|mut reader| reader.read(id)),
            };
            match read {
                Ok(Some(mut row)) if super::item::is_readable(&row.item) => {
                    match self.boots.moment(row.stamp, row.boot) {
                        Moment::At(us) => (row.stamp, row.boot) = (us, None),
                        Moment::Unknown => {}
                        Moment::NotYet => {
                            timeless = true;
                            unread.push(id);
                            continue;
                        }
                    }
                    bytes = bytes.saturating_add(row.item.len());
                    row.again = self.requeued.contains(&id);
                    rows.push(row);
                }
                Ok(Some(_)) => {
                    self.lines.newer(id.0);
                    self.lanes.keep(lane, id);
                }
                Ok(None) => {
                    self.lines.missing(id.0);
                    self.lanes.take(lane, &[id]);
                }
                Err(error) => {
                    tracing::debug!(%error, row = id.0, "a row could not be read");
                    failed = Some(error);
                    unread.push(id);
                }
            }
        }
        drop(reader);
        if let Some(error) = failed {
            self.failed(&error);
        }
        self.lanes.release(lane, &unread);
        let more = self.lanes.has_more(lane);
        if timeless {
            self.timeless.insert(lane);
        }
        // It stays announced, so that new rows do not ring for it: the time will.
        let more = more && !timeless;
        if let Some(info) = self.lanes.info(lane) {
            self.sessions.tell(&info.endpoint, Event::Rows { lane, rows, more });
        }
    }

    fn off_the_books(&mut self, lane: &LaneInfo, rows: &[RowId], end: &End) {
        let bytes = self.lanes.row_bytes(lane.id);
        let taken = self.lanes.take(lane.id, rows);
        self.leave(taken.into_iter().map(|row| Leaving { lane: lane.clone(), row, bytes }), end);
        if !self.gone.is_empty() && self.gone_due.is_none() {
            self.gone_due = Some(clock::now() + DELETE_WITHIN);
        }
    }

    /// Rows that are off the books are deleted with one of the next transactions.
    fn leave(&mut self, rows: impl IntoIterator<Item = Leaving>, end: &End) {
        for Leaving { lane, row, bytes } in rows {
            self.dropping |= matches!(end, End::Dropped(_));
            self.room.leaving = self.room.leaving.saturating_add(bytes);
            self.requeued.remove(&row);
            self.gone.push(Gone { lane, row, bytes, end: end.clone() });
        }
    }

    fn announce(&mut self, lane: LaneId) {
        let carried = self.lanes.info(lane).is_some_and(|lane| self.sessions.carry(&lane.endpoint));
        if carried && let Some(info) = self.lanes.announce(lane) {
            self.sessions.tell(&info.endpoint.clone(), Event::Ready(info));
        }
    }

    /// The last transactions, then the checkpoint.
    fn finish(mut self) {
        let now = clock::now();
        loop {
            self.noted.hurry();
            self.commit(now);
            let done = self.gone.is_empty() && !self.latest.is_changed() && !self.room.sweeping;
            let swept = self.noted.poll_timeout().is_none() || clock::now() >= now + SWEEP_AT_STOP;
            if self.fault.is_some() || (done && swept) {
                break;
            }
        }
        self.tell_unreported(now);
        if let Err(error) = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "the last checkpoint failed; the next start makes it up");
        }
        let stop = self.stop.take();
        drop(self);
        if let Some(stop) = stop {
            reply(stop, ());
        }
    }
}

fn offered(submission: &Submission) -> u64 {
    match &submission.offer {
        Offer::Samples(samples) => u64::try_from(samples.len()).unwrap_or(u64::MAX),
        Offer::TooLarge { samples } => *samples,
    }
}

/// Whoever asked may have gone meanwhile.
fn reply<T>(to: oneshot::Sender<T>, answer: T) {
    let _gone = to.send(answer);
}
