//! Tables, pragmas, and which database this binary may open.

use super::OpenError;
use rusqlite::{Connection, OpenFlags};
use std::{path::Path, time::Duration};

/// Databases of another major version are not touched.
pub(super) const MAJOR: i64 = 1;
/// Additive changes within the major version.
pub(super) const MINOR: i64 = 1;
/// `PRAGMA application_id`: "TDGT".
pub(super) const APPLICATION: i64 = 0x5444_4754;

const TABLES: &str = "
CREATE TABLE lane  (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, endpoint TEXT NOT NULL, class INTEGER NOT NULL, seq INTEGER NOT NULL,
                    UNIQUE(tenant, endpoint, class, seq)) STRICT;
CREATE TABLE outbox(id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, stamp INTEGER NOT NULL, boot INTEGER, item BLOB NOT NULL) STRICT;
CREATE TABLE dead  (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, endpoint TEXT NOT NULL, class INTEGER NOT NULL,
                    stamp INTEGER NOT NULL, boot INTEGER, item BLOB NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE ledger(tenant TEXT NOT NULL, class INTEGER NOT NULL, term TEXT NOT NULL, reason TEXT NOT NULL, samples INTEGER NOT NULL,
                    PRIMARY KEY(tenant, class, term, reason)) STRICT, WITHOUT ROWID;
CREATE TABLE latest(tenant TEXT NOT NULL, endpoint TEXT NOT NULL, resource TEXT NOT NULL, stamp INTEGER NOT NULL, boot INTEGER, item BLOB NOT NULL,
                    PRIMARY KEY(tenant, endpoint, resource)) STRICT, WITHOUT ROWID;
CREATE TABLE keep  (owner TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(owner, key)) STRICT, WITHOUT ROWID;
CREATE TABLE ids   (name TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE boot  (id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, wall_offset_us INTEGER) STRICT;
";

/// Since 1.1. A binary of 1.0 sends what is noted once more; the ledger is then off by these rows, and says so. A clean
/// stop leaves none, if a second is enough for all of them.
const SINCE_1_1: &str =
    "CREATE TABLE IF NOT EXISTS landed(block INTEGER PRIMARY KEY, rows BLOB NOT NULL) STRICT;";

/// Opens the database, creating it if there is none.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    // Looked at before any pragma writes: a database that is not ours stays as it is.
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i64 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    match (version, tables) {
        (0, 0) => create(&db)?,
        _ if application != APPLICATION => return Err(OpenError::Foreign { path: path.to_owned() }),
        (0, _) => return Err(OpenError::Foreign { path: path.to_owned() }),
        (version, _) if version / 1000 > MAJOR => {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                found: version,
                ours: MAJOR * 1000 + MINOR,
            });
        }
        (version, _) if version < MAJOR * 1000 + MINOR => db.execute_batch(&format!(
            "BEGIN IMMEDIATE; {SINCE_1_1} PRAGMA user_version={}; COMMIT;",
            MAJOR * 1000 + MINOR
        ))?,
        _ => {}
    }
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA journal_size_limit=4194304;
         PRAGMA temp_store=MEMORY; PRAGMA cache_size=-2048; PRAGMA foreign_keys=ON;",
    )?;
    db.set_prepared_statement_cache_capacity(32);
    // Short: the store answers nobody meanwhile, and tries again.
    db.busy_timeout(Duration::from_secs(1))?;
    Ok(db)
}

fn create(db: &Connection) -> Result<(), OpenError> {
    // This order: after WAL the first is silently ignored.
    db.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")?;
    // One transaction: a power cut leaves either no table or all, with their version.
    db.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} {SINCE_1_1} PRAGMA application_id={APPLICATION}; PRAGMA user_version={}; COMMIT;",
        MAJOR * 1000 + MINOR
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_gives_its_space_back_and_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("t.db")).unwrap();
        let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(pragma("auto_vacuum"), 2, "incremental");
        assert_eq!(pragma("synchronous"), 2, "full");
        assert_eq!(pragma("user_version"), 1001);
    }

    #[test]
    fn a_newer_major_is_left_alone_and_a_newer_minor_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        open(&path).unwrap().execute_batch("PRAGMA user_version=1007").unwrap();
        drop(open(&path).unwrap());
        Connection::open(&path)
            .unwrap()
            .execute_batch("PRAGMA user_version=2000; PRAGMA journal_mode=DELETE;")
            .unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found: 2000, ours: 1001, .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_database_of_somebody_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs(x)").unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(open(&path), Err(OpenError::Foreign { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
