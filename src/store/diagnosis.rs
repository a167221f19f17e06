//! What errors of the store mean to people: codes, causes and remedies.
//!
//! Not here: what is done about them (`thread/group`, `recover`).

use super::{OpenError, recover};
use crate::fault::{self, Code, Fault};
use rusqlite::ErrorCode;
use std::path::Path;

/// Why a transaction failed, or a row could not be read. SQLite's own words come along.
pub(super) fn failed(error: &rusqlite::Error, disk_is_full: bool, dir: &Path) -> Fault {
    let (code, what) = match error.sqlite_error_code() {
        _ if disk_is_full => (Code::DiskFull, "the disk is full: nothing more can be written"),
        _ if recover::is_damage(error) => (Code::DatabaseDamaged, "the database is damaged"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (Code::DatabaseBusy, "another program has the database locked")
        }
        Some(ErrorCode::ReadOnly) => (Code::DirectoryReadOnly, "the database can no longer be written"),
        _ => (Code::DatabaseFault, "the database cannot be read or written"),
    };
    Fault::new(code, format!("{what} (SQLite: {})", words(error)), place(Some(dir)))
}

/// In SQLite's words, without the types of the library.
fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(words)) => words.clone(),
        rusqlite::Error::SqliteFailure(failure, None) => {
            rusqlite::ffi::code_to_str(failure.extended_code).to_owned()
        }
        _ => "not what was expected".to_owned(),
    }
}

fn place(dir: Option<&Path>) -> String {
    dir.map_or("gateway.state_dir".into(), |dir| format!("gateway.state_dir: {}", dir.display()))
}

impl OpenError {
    /// For people.
    pub fn fault(&self) -> Fault {
        use ErrorCode as C;
        use std::io::ErrorKind as K;
        let (code, what, path) = match self {
            Self::Newer { path, found, ours } => {
                let what = format!("the database is of version {found}, and this program's is {ours}");
                (Code::DatabaseNewer, what, Some(path))
            }
            Self::Foreign { path } => {
                (Code::DatabaseForeign, "the database is of another program".into(), Some(path))
            }
            Self::Locked { path } => {
                (Code::DatabaseLocked, "another tidegate runs on this directory".into(), Some(path))
            }
            Self::Full { path } => {
                (Code::DiskFull, "no room is left on the file system of the database".into(), Some(path))
            }
            Self::ReadOnly { path } => {
                (Code::DirectoryReadOnly, "the state directory cannot be written".into(), Some(path))
            }
            Self::Directory { path, source } if source.kind() == K::ReadOnlyFilesystem => {
                (Code::DirectoryReadOnly, "the state directory cannot be written".into(), Some(path))
            }
            Self::Directory { path, source } => {
                let what = format!("the state directory cannot be used: {}", fault::words(source));
                (Code::DirectoryUnusable, what, Some(path))
            }
            Self::NoRoomToSalvage { path, lacks } => {
                let mib = lacks.div_ceil(1 << 20);
                let what = format!(
                    "the database is damaged, and to copy what can be read of it {mib} MiB more have to be free"
                );
                (Code::DatabaseDamaged, what, Some(path))
            }
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(C::NotADatabase) => (Code::DatabaseForeign, "the file is no database".into(), None),
                Some(C::ReadOnly | C::CannotOpen | C::PermissionDenied) => {
                    (Code::DirectoryUnusable, "the database cannot be opened or written".into(), None)
                }
                _ => (Code::DatabaseFault, "the database cannot be used".into(), None),
            },
        };
        let fault = Fault::new(code, what, place(path.map(|path| path.as_path())));
        let remedy = match code {
            // From inside a service both look alike.
            Code::DirectoryReadOnly => {
                let cause = "the unit of the service does not let it write there (ProtectSystem=), or the file system is \
                             mounted read-only, as Linux does by itself when the disk or card fails";
                let remedy = "`tidegate doctor` as root says which; for a gateway.state_dir of your own add \
                              ReadWritePaths= by `systemctl edit`; else look at `mount` and `dmesg`, and remount it \
                              writable or replace the card";
                return Fault { cause, ..fault }.with_remedy(remedy.to_owned());
            }
            Code::DiskFull => {
                "look at `df`; free some space and start the gateway again; nothing that was kept is lost"
            }
            Code::DatabaseDamaged => {
                "look at `df` and free so much; what can be read is then copied by itself, and what is lost is counted; \
                 look at `dmesg`; replace the card"
            }
            _ => return fault,
        };
        fault.with_remedy(remedy.to_owned())
    }
}
