//! The reserve: a file of allocated bytes, given up when the disk is full. The blocks of the journal's
//! index. And how full the disk is.
//!
//! SQLite can neither delete nor checkpoint on a full disk: both write to the journal first. What the
//! reserve held is then enough for deletes and one checkpoint, and they give more space back.

use adapter_api::{clock, journal::Seldom};
use rusqlite::ErrorCode;
use rustix::{fs, io::Errno};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Its file.
const NAME: &str = "reserve";
/// Twice the journal's size: once for the journal, once for what a checkpoint appends.
const BYTES: u64 = 8 << 20;

/// The index of a journal of 64 MiB.
const INDEX_BYTES: u64 = 128 << 10;
/// With so little left, whatever SQLite calls the failure is a full disk.
const NOTHING_LEFT: u64 = 128 << 10;

/// The index of the journal (`-shm`), with all its blocks. SQLite writes to it through a mapping, and
/// allocates one byte of each 4 KiB: where blocks are smaller, or copied on write, a full file system
/// is not an error then, but a SIGBUS.
///
/// Open as long as the database is: closing it would end SQLite's locks on it (fcntl_locking(2)).
#[derive(Debug, Default)]
pub(super) struct Index(Option<File>);

/// The reserve of a state directory.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    dir: PathBuf,
    bytes: u64,
    held: bool,
    given_up: Seldom,
    kept: Seldom,
    unallocated: Seldom,
}

/// The file system of a directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Space {
    /// Bytes that may still be written.
    pub free: u64,
    /// Bytes it has.
    pub total: u64,
}

impl Reserve {
    /// The reserve as it was left.
    pub(super) fn new(dir: &Path) -> Self {
        let path = dir.join(NAME);
        // On a small file system it would be the better part of it.
        let bytes = space(dir).map_or(BYTES, |space| BYTES.min(space.total / 4));
        let held = std::fs::metadata(&path).is_ok_and(|file| file.len() >= bytes);
        let [given_up, kept, unallocated] = Default::default();
        Self { path, dir: dir.to_owned(), bytes, held, given_up, kept, unallocated }
    }

    /// Bytes that are missing of it.
    pub(super) fn lacks(&self) -> u64 {
        if self.held { 0 } else { self.bytes }
    }

    /// Gives its bytes to the file system. Returns whether there were any.
    pub(super) fn give_up(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        match std::fs::remove_file(&self.path) {
            Ok(()) => {
                if let Some(left_out) = self.given_up.tell(clock::now()) {
                    tracing::warn!(
                        bytes = self.bytes,
                        left_out,
                        "the file system is full; the reserve was given up"
                    );
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                if let Some(left_out) = self.kept.tell(clock::now()) {
                    tracing::error!(%error, left_out, "the reserve could not be given up");
                }
                self.held = held;
                false
            }
        }
    }

    /// Allocates it, if so many bytes are free besides it.
    pub(super) fn build(&mut self, besides: u64) {
        let room = space(&self.dir).is_some_and(|space| space.free >= self.bytes.saturating_add(besides));
        if self.held || !room {
            return;
        }
        match allocate(&self.path, self.bytes) {
            Ok(()) => self.held = true,
            Err(error) => {
                if let Some(left_out) = self.unallocated.tell(clock::now()) {
                    tracing::warn!(%error, left_out, "the reserve could not be allocated");
                }
                // Half a reserve is none; what is left of it is removed with the next try.
                let _absent = std::fs::remove_file(&self.path);
            }
        }
    }
}

impl Index {
    /// The index of an open database.
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        match OpenOptions::new().write(true).open(index(database)) {
            Ok(file) => Ok(Self(Some(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }

    /// Allocates its blocks, if need be those of the reserve.
    pub(super) fn allocate(&self, reserve: &mut Reserve) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let allocate = || match fs::fallocate(file, fs::FallocateFlags::empty(), 0, INDEX_BYTES) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            done => done,
        };
        match allocate() {
            Err(Errno::NOSPC) if reserve.give_up() => Ok(allocate()?),
            done => Ok(done?),
        }
    }

    /// Whether there is room for it: SQLite makes a new one of the blocks of an old one.
    pub(super) fn has_room(database: &Path, dir: &Path) -> bool {
        let held = std::fs::metadata(index(database)).map_or(0, |file| file.blocks().saturating_mul(512));
        space(dir).is_none_or(|space| space.free.saturating_add(held) >= INDEX_BYTES)
    }
}

fn index(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-shm");
    path.into()
}

/// Bytes that the reserve of a directory holds.
pub(super) fn held(dir: &Path) -> u64 {
    std::fs::metadata(dir.join(NAME)).map_or(0, |file| file.blocks().saturating_mul(512))
}

/// Whether a failure means that the disk is full.
pub(super) fn is_full(error: &rusqlite::Error, dir: &Path) -> bool {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => true,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
            space(dir).is_some_and(|space| space.free < NOTHING_LEFT)
        }
        _ => false,
    }
}

/// How full the file system of a directory is; `None` if it does not say.
pub fn space(dir: &Path) -> Option<Space> {
    let found = fs::statvfs(dir).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Space { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    match fs::fallocate(&file, fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // A file system that cannot: then by writing.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_all(&mut file, bytes),
        Err(error) => Err(error.into()),
    }
}

fn write_all(file: &mut File, bytes: u64) -> io::Result<()> {
    let block = [0_u8; 4_096];
    for _ in 0..bytes / 4_096 {
        file.write_all(&block)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_allocated_given_up_once_and_built_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::new(dir.path());
        assert_eq!(reserve.lacks(), BYTES);
        reserve.build(0);
        assert_eq!(reserve.lacks(), 0);
        let file = std::fs::metadata(dir.path().join("reserve")).unwrap();
        assert!(file.blocks() * 512 >= BYTES, "its blocks are really there");
        assert_eq!(Reserve::new(dir.path()).lacks(), 0, "found by the next start");
        assert!(reserve.give_up());
        assert!(!reserve.give_up());
        reserve.build(u64::MAX);
        assert_eq!(reserve.lacks(), BYTES, "not while there is no room besides");
        reserve.build(0);
        assert_eq!(reserve.lacks(), 0);
    }

    #[test]
    fn the_index_of_an_open_database_has_all_its_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        assert!(Index::has_room(&path, dir.path()));
        let db = crate::store::schema::open(&path).unwrap();
        let index = Index::open(&path).unwrap();
        index.allocate(&mut Reserve::new(dir.path())).unwrap();
        let allocated = std::fs::metadata(dir.path().join("t.db-shm")).unwrap().blocks() * 512;
        assert!(allocated >= INDEX_BYTES, "{allocated}");
        db.execute_batch("INSERT INTO ids VALUES ('request', 1)").unwrap();
        drop((db, index));
    }
}
