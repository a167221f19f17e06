//! The one thread that owns SQLite: gather what waits, one transaction, COMMIT, *then* answer all (I1).
//!
//! Urgent submissions are committed at once with whatever is there, relaxed ones after
//! `commit_within` at the latest. Confirmed deletes ride on the next group, at the latest after 1 s;
//! until then they are kept in `gone`, also over a failed transaction. A crash in between sends those
//! rows again, which is allowed.

mod answers;
mod group;
mod sessions;

use super::{
    Class, Command, Event, LaneId, OpenError, Options, RowId,
    lanes::{LaneInfo, Lanes},
    latest::Latest,
    ledger::Ledger,
    outbox, schema,
};
use crate::{
    endpoints::{Directory, EndpointKey, Tenant},
    failpoint::{self, Point},
    shape::Shape,
};
use adapter_api::{
    EndpointName, Instant, Offer, Refused, Submission, Urgency,
    clock::{self, Bell},
};
use rusqlite::Connection;
use sessions::Sessions;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};

/// Requests in one transaction.
const GROUP: usize = 512;
/// Landed rows wait at most this long for a group to ride on.
const DELETE_WITHIN: Duration = Duration::from_secs(1);
/// Landed rows deleted in one transaction: bounds the time a device may wait behind them.
const DELETES: usize = 4_096;
/// `latest` goes to disk at most this often.
const LATEST_EVERY: Duration = Duration::from_secs(15 * 60);

/// The thread's state.
pub(super) struct Thread {
    db: Connection,
    shape: Shape,
    lanes: Lanes,
    ledger: Ledger,
    latest: Latest,
    latest_due: Instant,
    bell: Arc<Bell>,
    commands: mpsc::Receiver<Command>,
    units: Vec<mpsc::Receiver<Submission>>,
    turn: usize,
    group: Vec<Submission>,
    group_due: Option<Instant>,
    commit_within: Duration,
    gone: Vec<Gone>,
    gone_due: Option<Instant>,
    /// Offered and refused in a transaction that failed: counted with the next one.
    uncounted: u64,
    sessions: Sessions,
    dead_letters: u64,
    fault: Option<String>,
    stop: Option<oneshot::Sender<()>>,
}

/// A row that is off the books and still on disk.
struct Gone {
    lane: LaneInfo,
    row: RowId,
    /// Set: it goes to the dead letters. Not set: it landed.
    dead: Option<Arc<str>>,
}

/// What a transaction did, to be told after COMMIT.
#[derive(Default)]
struct Written {
    /// Rows that are new on disk.
    rows: Vec<(LaneId, RowId)>,
    /// Lanes that are new on disk.
    lanes: Vec<LaneInfo>,
    /// One result per submission of the group.
    results: Vec<Result<(), Refused>>,
    /// Leading entries of `gone` that are done with.
    gone: usize,
    /// Dead letters that are new on disk.
    dead: u64,
    /// `latest` was written.
    latest: bool,
}

impl Thread {
    /// Opens the database and reads what the books need.
    pub(super) fn open(
        options: &Options,
        directory: &Directory,
        shape: Shape,
        bell: Arc<Bell>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, OpenError> {
        let db = schema::open(&super::database(&options.dir))?;
        let lanes = read_lanes(&db)?;
        let ledger = Ledger::load(&db)?;
        let totals = ledger.totals(lanes.queued());
        if !totals.balance() {
            // A fault with its number, never corrected silently.
            tracing::error!(?totals, "the ledger does not add up");
        }
        let dead: i64 = db.query_row("SELECT count(*) FROM dead", [], |row| row.get(0))?;
        let orphans = lanes
            .iter()
            .filter(|(lane, rows)| *rows > 0 && directory.by_key(&lane.endpoint).is_none())
            .count();
        if orphans > 0 {
            tracing::warn!(
                lanes = orphans,
                "queued rows belong to endpoints that left the configuration; they are kept"
            );
        }
        Ok(Self {
            latest: Latest::load(&db)?,
            latest_due: clock::now() + LATEST_EVERY,
            db,
            shape,
            lanes,
            ledger,
            bell,
            commands,
            units: Vec::new(),
            turn: 0,
            group: Vec::new(),
            group_due: None,
            commit_within: options.commit_within,
            gone: Vec::new(),
            gone_due: None,
            uncounted: 0,
            sessions: Sessions::default(),
            dead_letters: u64::try_from(dead).unwrap_or_default(),
            fault: None,
            stop: None,
        })
    }

    /// Turns until told to stop.
    pub(super) fn run(mut self) {
        loop {
            let more = self.gather();
            let now = clock::now();
            if self.stop.is_some() && !more {
                return self.finish();
            }
            match self.due(now) {
                Some(due) if due <= now => self.commit(now),
                due if !more => self.bell.wait(due),
                _ => {}
            }
        }
    }

    /// Takes commands and submissions, the units in turn. Returns whether a full group left some waiting.
    fn gather(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
        let mut idle = 0;
        while self.group.len() < GROUP && idle < self.units.len() {
            self.turn = (self.turn + 1) % self.units.len();
            let Some(unit) = self.units.get_mut(self.turn) else { break };
            match unit.try_recv() {
                Ok(submission) => {
                    idle = 0;
                    self.admit(submission);
                }
                Err(TryRecvError::Empty) => idle += 1,
                Err(TryRecvError::Disconnected) => {
                    self.units.remove(self.turn);
                }
            }
        }
        self.group.len() >= GROUP
    }

    fn admit(&mut self, submission: Submission) {
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
        [full, self.group_due, self.gone_due, latest].into_iter().flatten().min()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Unit(submissions) => self.units.push(submissions),
            Command::Uplink { session, endpoints, events } => {
                let carried: HashSet<EndpointKey> = endpoints.iter().cloned().collect();
                self.sessions.attach(&session, endpoints, events);
                let all = self.lanes.iter().map(|(lane, _)| lane);
                let lanes: Vec<LaneId> =
                    all.filter(|l| carried.contains(&l.endpoint)).map(|l| l.id).collect();
                for lane in lanes {
                    // Nothing of an earlier life of this session is in the air any more.
                    self.lanes.reset(lane);
                    self.announce(lane);
                }
            }
            Command::Next { lane, max_rows, max_bytes } => self.next(lane, max_rows, max_bytes),
            Command::Landed(landed) => {
                failpoint::pass(Point::AfterConfirmation);
                self.off_the_books(landed.lane(), landed.rows(), None);
                self.sessions.tell(&landed.lane().endpoint, Event::Taken(landed.flight()));
            }
            Command::Bury(buried) => {
                let reason: Arc<str> = buried.reason().into();
                self.off_the_books(buried.lane(), &[buried.row()], Some(&reason));
                self.sessions.tell(&buried.lane().endpoint, Event::Taken(buried.flight()));
            }
            Command::Release { lane, rows } => self.lanes.release(lane, &rows),
            Command::Reserve { session, count } => self.reserve(&session, count),
            Command::Keep { owner, key, draw, answer } => {
                let kept = self.keep(owner, key, &draw).unwrap_or_else(|error| {
                    tracing::error!(%error, owner, key, "a kept value could not be read");
                    draw
                });
                reply(answer, kept);
            }
            Command::Figures(answer) => reply(answer, self.figures()),
            Command::Queue(answer) => {
                reply(answer, self.lanes.iter().map(|(lane, rows)| (lane.clone(), rows)).collect());
            }
            Command::Dead { limit, answer } => reply(answer, self.dead(limit).unwrap_or_default()),
            Command::Latest { endpoint, resource, answer } => {
                reply(answer, self.last(&endpoint, resource.as_ref()));
            }
            Command::Stop(answer) => self.stop = Some(answer),
        }
    }

    /// Hands leading rows of a lane to the uplink.
    fn next(&mut self, lane: LaneId, max_rows: usize, max_bytes: usize) {
        let (mut rows, mut bytes, mut unread) = (Vec::new(), 0_usize, Vec::new());
        while rows.len() < max_rows && bytes < max_bytes && unread.is_empty() {
            let Some(id) = self.lanes.claim(lane, 1).pop() else { break };
            match outbox::read(&self.db, id) {
                Ok(Some(row)) if super::item::is_readable(&row.item) => {
                    bytes = bytes.saturating_add(row.item.len());
                    rows.push(row);
                }
                Ok(Some(_)) => {
                    tracing::warn!(row = id.0, "a row of a newer format is left alone");
                    self.lanes.keep(lane, id);
                }
                Ok(None) => {
                    tracing::error!(row = id.0, "a row on the books is not in the table");
                    self.lanes.take(lane, &[id]);
                }
                Err(error) => {
                    self.fault = Some(error.to_string());
                    tracing::error!(%error, row = id.0, "a row could not be read");
                    unread.push(id);
                }
            }
        }
        self.lanes.release(lane, &unread);
        let more = self.lanes.has_more(lane);
        if let Some(info) = self.lanes.info(lane) {
            self.sessions.tell(&info.endpoint, Event::Rows { lane, rows, more });
        }
    }

    fn off_the_books(&mut self, lane: &LaneInfo, rows: &[RowId], dead: Option<&Arc<str>>) {
        let taken = self.lanes.take(lane.id, rows);
        self.gone.extend(taken.into_iter().map(|row| Gone { lane: lane.clone(), row, dead: dead.cloned() }));
        if !self.gone.is_empty() && self.gone_due.is_none() {
            self.gone_due = Some(clock::now() + DELETE_WITHIN);
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
            self.commit(now);
            if self.fault.is_some() || (self.gone.is_empty() && !self.latest.is_changed()) {
                break;
            }
        }
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

fn read_lanes(db: &Connection) -> rusqlite::Result<Lanes> {
    let mut lanes = Lanes::default();
    let mut select = db.prepare("SELECT id, tenant, endpoint, class, seq FROM lane")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(name) = EndpointName::new(&row.get::<_, String>(2)?) else { continue };
        let endpoint = EndpointKey { tenant: Tenant::stored(&row.get::<_, String>(1)?), name };
        let Some(class) = Class::stored(row.get(3)?) else { continue };
        lanes.add(LaneInfo { id: LaneId(row.get(0)?), endpoint, class, seq: row.get(4)? });
    }
    let mut select = db.prepare("SELECT id, lane FROM outbox ORDER BY id")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        lanes.push(LaneId(row.get(1)?), RowId(row.get(0)?));
    }
    Ok(lanes)
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
