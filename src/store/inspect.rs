//! A state directory seen from outside, whether a gateway runs on it or not. Neither SQLite's files nor its locks are
//! touched: whoever looks may be another user than the gateway, and would leave files behind that it cannot write.

use super::{
    OpenError, database,
    schema::{APPLICATION, MAJOR, MINOR},
};
use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// What a database begins with (sqlite.org/fileformat2.html §1.3).
const MAGIC: &[u8] = b"SQLite format 3\0";
const USER_VERSION: usize = 60;
const APPLICATION_ID: usize = 68;

/// The version of the database in a state directory; `None` where there is none yet, or nothing but a journal.
pub fn version(dir: &Path) -> Result<Option<i64>, OpenError> {
    let path = database(dir);
    let mut header = [0; 100];
    let read = File::open(&path).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            // SQLite takes an empty file for a new database.
            let empty = fs::metadata(&path).is_ok_and(|file| file.len() == 0);
            return if empty { Ok(None) } else { Err(OpenError::Foreign { path }) };
        }
        Err(source) => return Err(OpenError::Directory { path, source }),
    }
    let number = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        i64::from(u32::from_be_bytes(bytes.unwrap_or_default()))
    };
    match (header.starts_with(MAGIC), number(APPLICATION_ID), number(USER_VERSION)) {
        // Its tables are still in the journal.
        (true, 0, 0) => Ok(None),
        (true, APPLICATION, found) if found / 1000 > MAJOR => {
            Err(OpenError::Newer { path, found, ours: MAJOR * 1000 + MINOR })
        }
        (true, APPLICATION, found) => Ok(Some(found)),
        _ => Err(OpenError::Foreign { path }),
    }
}

/// The process that has a state directory for itself, as proc_locks(5) has it.
pub fn runner(dir: &Path) -> Option<u32> {
    let inode = fs::metadata(dir.join("lock")).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| holder(line, inode))
}

/// `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`
fn holder(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, pid, place) = (words.next()?, words.nth(2)?, words.next()?);
    let is_it = kind == "FLOCK" && place.rsplit(':').next()?.parse() == Ok(inode);
    pid.parse().ok().filter(|_| is_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    #[test]
    fn the_version_is_read_without_touching_anything() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(version(dir.path()).unwrap(), None);
        let db = schema::open(&database(dir.path())).unwrap();
        db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        assert_eq!(version(dir.path()).unwrap(), Some(1001));
        db.execute_batch("PRAGMA user_version=2000; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        assert!(matches!(version(dir.path()), Err(OpenError::Newer { found: 2000, ours: 1001, .. })));
        drop(db);
        let names = || fs::read_dir(dir.path()).unwrap().count();
        let before = names();
        assert!(version(dir.path()).is_err());
        assert_eq!(names(), before);
        fs::write(database(dir.path()), "no database").unwrap();
        assert!(matches!(version(dir.path()), Err(OpenError::Foreign { .. })));
    }

    #[test]
    fn whoever_has_the_lock_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(runner(dir.path()), None);
        let lock = File::create(dir.path().join("lock")).unwrap();
        assert_eq!(runner(dir.path()), None);
        lock.lock().unwrap();
        assert_eq!(runner(dir.path()), Some(std::process::id()));
        assert_eq!(holder("2: POSIX  ADVISORY  WRITE 7 fd:01:5678 0 EOF", 5678), None);
        assert_eq!(holder("2: FLOCK  ADVISORY  WRITE 7 fd:01:5678 0 EOF", 5678), Some(7));
        assert_eq!(holder("2: FLOCK  ADVISORY  WRITE 7 fd:01:5679 0 EOF", 5678), None);
    }
}
