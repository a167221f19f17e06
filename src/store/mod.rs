//! The store: durable before answered, deleted only with proof.
//!
//! This file is the async front; `thread.rs` is the one thread that touches SQLite. The outbox table
//! *is* the queue: memory holds only ids and what is in flight, there is no cursor on disk and no
//! memory mode.

mod autonomy;
mod boots;
mod diagnosis;
mod inspect;
pub mod item;
pub mod lanes;
mod latest;
pub mod ledger;
pub mod letters;
mod noted;
mod outbox;
mod overview;
mod progress;
mod quota;
mod rate;
mod recover;
mod reserve;
mod schema;
pub mod tail;
#[cfg(test)]
mod tests;
mod thread;

use crate::{
    dialect::SessionKey,
    endpoints::{Directory, EndpointKey},
    fault::{self, Fault},
    shape::{DeviceTime, Shape, quota::Exceeded},
    uplink::outflow::{Buried, FlightId, Landed},
};
use adapter_api::{Clock, EndpointName, Intake, Resource, clock::Bell};
pub use autonomy::Autonomy;
pub use inspect::{runner, version};
pub use lanes::LaneInfo;
pub use latest::Last;
use ledger::Totals;
pub use overview::Overview;
use progress::Progress;
pub use quota::{Drops, Limits, WhenFull};
pub use reserve::{Space, space};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};

/// A row of the outbox. Never reused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub i64);

/// A row of table `lane`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub i64);

/// What flies in a lane; lower flies first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Greetings, results of orders.
    Control,
    /// Samples.
    Telemetry,
    /// Samples of a lane that fell behind: with `replay.order = "live-first"`, later than live ones.
    Backlog,
}

/// A row as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// Which.
    pub id: RowId,
    /// µs since 1970, or since `boot`.
    pub stamp: i64,
    /// Set where the wall time was not known.
    pub boot: Option<i64>,
    /// `[format][CBOR]`.
    pub item: Vec<u8>,
    /// The platform has refused it before, and somebody queued it again since this process began.
    pub again: bool,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub endpoint: String,
    /// Why it was buried.
    pub reason: String,
    /// The row.
    pub stamp: i64,
    /// The row's boot.
    pub boot: Option<i64>,
    /// The row's item.
    pub item: Vec<u8>,
}

/// What the store tells the uplink, in the order of its questions.
#[derive(Debug)]
pub enum Event {
    /// This lane has rows to fly. Said once, until `Rows` said that there are no more.
    Ready(LaneInfo),
    /// The answer to [`Store::next`].
    Rows {
        /// Whose.
        lane: LaneId,
        /// In order; they are in flight now.
        rows: Vec<StoredRow>,
        /// Whether the lane holds more.
        more: bool,
    },
    /// In place of `Rows`: this lane has fallen behind and is a backlog lane from now on, on disk as well.
    Behind(LaneInfo),
    /// This lane was a backlog, is drained and no more.
    Drained(LaneId),
    /// Landed or buried rows of this flight are off the books and cannot be handed out again.
    Taken(FlightId),
    /// Counters reserved on disk: never handed out before, whatever happens.
    Ids(Range<u64>),
}

/// What may change while the store is open.
#[derive(Debug, Clone)]
pub struct Change {
    /// The endpoints, with what they were called before.
    pub directory: Arc<Directory>,
    /// Whether there is an uplink.
    pub uplink: bool,
    /// What becomes of a device's implausible stamp.
    pub device_time: DeviceTime,
    /// See [`Options`].
    pub commit_within: Duration,
    /// See [`Options`].
    pub limits: Limits,
}

/// What `store` is told at start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the database lies.
    pub dir: PathBuf,
    /// The longest a relaxed submission waits for company: the stated loss at a power cut.
    pub commit_within: Duration,
    /// Limit of one sample.
    pub max_sample_bytes: usize,
    /// What tells this boot from all others.
    pub boot_id: String,
    /// How much it may keep.
    pub limits: Limits,
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a newer major version. Nothing was touched.
    #[error("database is of version {found}, this is {ours}: {}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its `user_version`.
        found: i64,
        /// Ours.
        ours: i64,
    },
    /// Somebody else's database.
    #[error("{} is a database of another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process runs on this directory.
    #[error("another tidegate runs on {}", path.display())]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// The directory cannot be used.
    #[error("state directory {}: {}", path.display(), fault::words(source))]
    Directory {
        /// The state directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is not even room to open it.
    #[error("no room is left on the file system of {}", path.display())]
    Full {
        /// The state directory.
        path: PathBuf,
    },
    /// Nothing can be written.
    #[error("the file system of {} is read-only", path.display())]
    ReadOnly {
        /// The state directory.
        path: PathBuf,
    },
    /// It is damaged, and what can be read of it does not fit beside it. Nothing was written.
    #[error("the database is damaged, and {lacks} bytes are lacking to copy it: {}", path.display())]
    NoRoomToSalvage {
        /// The state directory.
        path: PathBuf,
        /// So many have to be freed.
        lacks: u64,
    },
    /// SQLite refused.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The store has ended, and with it the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped")]
pub struct Closed;

/// The figures of the ledger.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Sums; `queued` counted from the table at start and kept since.
    pub totals: Totals,
    /// Samples per term and reason.
    pub reasons: BTreeMap<String, u64>,
    /// Dead letters.
    pub dead_letters: u64,
    /// What was dropped, by reason.
    pub drops: BTreeMap<String, Drops>,
    /// Endpoints that went over a quota since the start.
    pub quotas: Vec<Exceeded>,
    /// How long it can go on; `None` where the disk cannot be asked.
    pub autonomy: Option<Autonomy>,
    /// Nothing more is read for want of room.
    pub full: Option<Fault>,
    /// Why the last transaction failed, if it did.
    pub fault: Option<Fault>,
}

/// A handle on the store.
#[derive(Debug, Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    bell: Arc<Bell>,
    max_sample_bytes: usize,
    full: watch::Receiver<bool>,
    dropped: watch::Receiver<u64>,
    progress: Progress,
    clock: Clock,
    boot_offset: Option<i64>,
}

/// What the front asks of the thread.
pub(crate) enum Command {
    Unit(mpsc::Receiver<adapter_api::Submission>),
    Uplink {
        session: SessionKey,
        endpoints: Vec<EndpointKey>,
        events: mpsc::UnboundedSender<Event>,
    },
    Carry {
        session: SessionKey,
        endpoints: Vec<EndpointKey>,
    },
    Change {
        change: Change,
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    Next {
        lane: LaneId,
        max_rows: usize,
        max_bytes: usize,
        live_age: Option<Duration>,
    },
    Landed(Landed),
    Bury(Buried),
    Release {
        lane: LaneId,
        rows: Vec<RowId>,
    },
    Reserve {
        session: SessionKey,
        count: u64,
    },
    Keep {
        owner: &'static str,
        key: &'static str,
        draw: Vec<u8>,
        answer: oneshot::Sender<Vec<u8>>,
    },
    Put {
        owner: &'static str,
        key: &'static str,
        value: Vec<u8>,
        /// Whether it is on disk, for those who ask.
        answer: Option<oneshot::Sender<bool>>,
    },
    Figures(oneshot::Sender<Figures>),
    Queue(oneshot::Sender<Vec<(LaneInfo, usize)>>),
    Dead {
        limit: usize,
        answer: oneshot::Sender<Vec<DeadLetter>>,
    },
    Overview {
        endpoints: Vec<EndpointKey>,
        answer: oneshot::Sender<Vec<Overview>>,
    },
    Letters {
        deed: letters::Deed,
        which: letters::Letters,
        span: letters::Span,
        answer: oneshot::Sender<Result<(letters::Done, Option<letters::Span>), Fault>>,
    },
    DiscardOrphans {
        endpoint: Option<EndpointName>,
        answer: oneshot::Sender<Result<letters::Orphans, Fault>>,
    },
    Tail {
        teller: tail::Teller,
        answer: oneshot::Sender<bool>,
    },
    Latest {
        endpoint: EndpointName,
        resource: Option<Resource>,
        answer: oneshot::Sender<Vec<Last>>,
    },
    Time {
        offset_us: i64,
        answer: oneshot::Sender<bool>,
    },
    EndHold,
    Stop(oneshot::Sender<()>),
}

impl OpenError {
    /// What it comes down to, where that is simpler than what was said.
    fn sharpened(self, dir: &Path) -> Self {
        use rusqlite::ErrorCode;
        use std::io::ErrorKind;
        let path = dir.to_owned();
        let full = |dir| reserve::space(dir).is_some_and(|space| space.free < 64 << 10);
        match &self {
            Self::Directory { source, .. } => match source.kind() {
                ErrorKind::StorageFull => Self::Full { path },
                ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
                _ => self,
            },
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Self::Full { path },
                Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
                Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if full(dir) => Self::Full { path },
                _ => self,
            },
            _ => self,
        }
    }
}

impl Class {
    /// Its number in the tables.
    pub const fn number(self) -> i64 {
        match self {
            Self::Control => 0,
            Self::Telemetry => 1,
            Self::Backlog => 2,
        }
    }

    /// What it is counted as: a sample stays one wherever it waits.
    pub(crate) const fn account(self) -> Self {
        match self {
            Self::Control => Self::Control,
            Self::Telemetry | Self::Backlog => Self::Telemetry,
        }
    }

    /// From the tables; `None` for a class of a newer version.
    pub const fn stored(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Control),
            1 => Some(Self::Telemetry),
            2 => Some(Self::Backlog),
            _ => None,
        }
    }

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Telemetry => "telemetry",
            Self::Backlog => "backlog",
        }
    }
}

/// Opens the store in its directory and starts its thread. The second value resolves when the thread
/// has ended, wanted or not.
pub fn open(
    options: &Options,
    directory: &Directory,
    shape: Shape,
) -> Result<(Store, oneshot::Receiver<()>), OpenError> {
    start(options, directory, shape).map_err(|error| error.sharpened(&options.dir))
}

fn start(
    options: &Options,
    directory: &Directory,
    shape: Shape,
) -> Result<(Store, oneshot::Receiver<()>), OpenError> {
    let unusable = |source| OpenError::Directory { path: options.dir.clone(), source };
    std::fs::create_dir_all(&options.dir).map_err(unusable)?;
    let lock = lock(&options.dir)?;
    recover::resume(&options.dir).map_err(unusable)?;
    let bell = Arc::new(Bell::default());
    // The uplink has one question per lane under way at most and waits for room otherwise; the thread
    // never waits for the uplink, so this cannot lock up.
    let (commands, questions) = mpsc::channel(256);
    let (alive, died) = oneshot::channel();
    let (tell_full, full) = watch::channel(false);
    let (tell_dropped, dropped) = watch::channel(0);
    let progress = Progress::default();
    let tell = thread::Tell { full: tell_full, dropped: tell_dropped, progress: progress.clone() };
    let shape = shape.max_sample_bytes(options.max_sample_bytes);
    let thread = thread::Thread::open(options, directory, shape, bell.clone(), questions, tell)?;
    let (clock, boot_offset) = thread.boot();
    spawn(move || {
        // Dropped in this order: whoever learns of the end may open the directory.
        let _held = (lock, alive);
        thread.run();
    })
    .map_err(unusable)?;
    let max_sample_bytes = options.max_sample_bytes;
    Ok((Store { commands, bell, max_sample_bytes, full, dropped, progress, clock, boot_offset }, died))
}

/// The database file of a state directory.
pub fn database(dir: &Path) -> PathBuf {
    dir.join("tidegate.db")
}

/// Reads the ledger of a database that no process has open.
pub fn read_ledger(dir: &Path) -> rusqlite::Result<Totals> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = rusqlite::Connection::open_with_flags(database(dir), flags)?;
    let rows: i64 = db.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
    let queued = u64::try_from(rows).unwrap_or_default().saturating_sub(noted::count(&db)?);
    Ok(ledger::Ledger::load(&db)?.totals(queued))
}

#[expect(clippy::disallowed_methods, reason = "I12: the store's own thread")]
fn spawn(run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name("store".into()).spawn(run).map(drop)
}

fn lock(dir: &Path) -> Result<std::fs::File, OpenError> {
    let unusable = |source| OpenError::Directory { path: dir.to_owned(), source };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked { path: dir.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(unusable(source)),
    }
}

impl Store {
    /// A unit's way in.
    pub async fn intake(&self) -> Result<Intake, Closed> {
        let (intake, submissions) =
            adapter_api::channel(self.bell.clone(), self.max_sample_bytes, self.full.clone());
        self.ask(Command::Unit(submissions)).await?;
        Ok(intake)
    }

    /// Tells the store where a session of the uplink listens and whose lanes it carries. Those that hold
    /// rows are announced at once.
    ///
    /// The channel is bounded by construction: one `Ready` per lane and one answer per question.
    pub async fn uplink(
        &self,
        session: SessionKey,
        endpoints: Vec<EndpointKey>,
    ) -> Result<mpsc::UnboundedReceiver<Event>, Closed> {
        let (events, rx) = mpsc::unbounded_channel();
        self.ask(Command::Uplink { session, endpoints, events }).await?;
        Ok(rx)
    }

    /// Changes what may be changed, all at once: or nothing, and why.
    pub async fn change(&self, change: Change) -> Result<Result<(), Fault>, Closed> {
        self.query(|answer| Command::Change { change, answer }).await
    }

    /// The clock that stamps this gateway's samples: it knows the present boot by its number here.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether the time became known earlier in this boot, and then the µs from 1970 to the boot.
    pub fn boot_offset(&self) -> Option<i64> {
        self.boot_offset
    }

    /// The time of this boot is known: rows that wait for it are handed out. Returns whether it is on disk.
    pub async fn know_time(&self, offset_us: i64) -> Result<bool, Closed> {
        self.query(|answer| Command::Time { offset_us, answer }).await
    }

    /// Rows of this boot wait no longer for its time.
    pub async fn end_hold(&self) -> Result<(), Closed> {
        self.ask(Command::EndHold).await
    }

    /// Passes a question of the uplink on.
    pub(crate) async fn ask(&self, command: Command) -> Result<(), Closed> {
        self.commands.send(command).await.map_err(|_| Closed)?;
        self.bell.ring();
        Ok(())
    }

    async fn query<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Closed> {
        let (tx, rx) = oneshot::channel();
        self.ask(question(tx)).await?;
        rx.await.map_err(|_| Closed)
    }

    /// The value kept under a key; `draw` is kept if there is none yet.
    pub async fn keep(
        &self,
        owner: &'static str,
        key: &'static str,
        draw: Vec<u8>,
    ) -> Result<Vec<u8>, Closed> {
        self.query(|answer| Command::Keep { owner, key, draw, answer }).await
    }

    /// Keeps another value under a key. Returns whether it is on disk.
    pub async fn put(&self, owner: &'static str, key: &'static str, value: Vec<u8>) -> Result<bool, Closed> {
        self.query(|answer| Command::Put { owner, key, value, answer: Some(answer) }).await
    }

    /// Waits until so many samples and more were dropped in the life of the database. Returns how many.
    pub async fn until_dropped(&self, beyond: u64) -> Result<u64, Closed> {
        self.dropped.clone().wait_for(|dropped| *dropped > beyond).await.map(|now| *now).map_err(|_| Closed)
    }

    /// Waits until it is known to live: it answers, or salvages a damaged database and that moves. `false`: it has ended.
    pub async fn lives(&self) -> bool {
        self.progress.or_answers(async { self.figures().await.is_ok() }).await
    }

    /// The ledger.
    pub async fn figures(&self) -> Result<Figures, Closed> {
        self.query(Command::Figures).await
    }

    /// All lanes with the number of their rows.
    pub async fn queue(&self) -> Result<Vec<(LaneInfo, usize)>, Closed> {
        self.query(Command::Queue).await
    }

    /// The youngest dead letters.
    pub async fn dead(&self, limit: usize) -> Result<Vec<DeadLetter>, Closed> {
        self.query(|answer| Command::Dead { limit, answer }).await
    }

    /// Last readings of an endpoint.
    pub async fn latest(
        &self,
        endpoint: EndpointName,
        resource: Option<Resource>,
    ) -> Result<Vec<Last>, Closed> {
        self.query(|answer| Command::Latest { endpoint, resource, answer }).await
    }

    /// Commits what is there, writes the latest values, checkpoints and ends the thread.
    pub async fn stop(&self) -> Result<(), Closed> {
        self.query(Command::Stop).await
    }
}
