//! Salvage of a damaged database while the store is open: at once, or when there is room for it.
//!
//! Until then nothing is copied, and the store goes on with what can be read and written: the lane of a row that cannot
//! be read waits. Not here: what is copied (`recover`).

use super::{
    End, Thread,
    room::{self, Room},
};
use crate::{
    backoff::Rng,
    fault::Fault,
    store::{
        OpenError, RowId, database,
        ledger::Ledger,
        noted::Noted,
        progress::Progress,
        recover::{self, Known},
        reserve::{Index, Reserve},
        schema,
    },
};
use adapter_api::{Instant, clock, journal};
use rusqlite::Connection;
use std::time::Duration;

/// Room is looked for so often: somebody may have given some back.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What did not fit though it should have is tried again after this.
const TRY_EVERY: Duration = Duration::from_secs(3_600);

/// A damaged database that there is no room to copy.
pub(super) struct Unsalvaged {
    pub(super) fault: Fault,
    pub(super) look_at: Instant,
}

impl Room {
    /// Replaces a damaged database. Returns the ledger and the ids of the rows that are left. Without room for that the
    /// damaged one stays, and is open.
    fn mend(
        &mut self,
        db: &mut Connection,
        known: &Known<'_>,
        progress: &Progress,
    ) -> Result<(Ledger, Vec<i64>), OpenError> {
        recover::check_room(&self.dir, db)?;
        *db = Connection::open_in_memory()?;
        self.index = Index::default();
        let no_room = match recover::salvage(&self.dir, Some(known), &mut Rng::new(), progress) {
            Ok(()) => None,
            Err(error @ OpenError::NoRoomToSalvage { .. }) => Some(error),
            Err(error) => return Err(error),
        };
        self.reserve = Reserve::new(&self.dir);
        let path = database(&self.dir);
        *db = schema::open(&path)?;
        let unusable = |source| OpenError::Directory { path: self.dir.clone(), source };
        self.index = Index::open(&path).map_err(unusable)?;
        self.index.allocate(&mut self.reserve).map_err(unusable)?;
        if let Some(error) = no_room {
            return Err(error);
        }
        // All of it is read once more.
        progress.count(db)?;
        self.dead = room::letters(db)?;
        let mut select = db.prepare("SELECT id FROM outbox ORDER BY id")?;
        let rows = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        drop(select);
        Progress::leave(db)?;
        Ok((Ledger::load(db)?, rows))
    }
}

impl Thread {
    /// Whether the database is damaged and to be salvaged now.
    pub(super) fn is_to_mend(&self) -> bool {
        self.damaged && self.unsalvaged.as_ref().is_none_or(|waiting| waiting.look_at <= clock::now())
    }

    /// Salvages the database under way: what is in the air stays there. Returns whether the store goes on; if
    /// not, the process ends and the next start tries again.
    pub(super) fn mend(&mut self) -> bool {
        let (ledger, noted, lanes, boots) = (&self.ledger, &self.noted, &self.lanes, &self.boots);
        let known = Known { ledger, noted, lanes, boots };
        let under_way = self.progress.begin();
        let mended = self.room.mend(&mut self.db, &known, &self.progress);
        drop(under_way);
        match mended {
            Ok((ledger, rows)) => {
                self.ledger = ledger;
                let there = |row: RowId| rows.binary_search(&row.0).is_ok();
                self.lanes.retain(there);
                // What was lost is counted as dropped already.
                self.gone.retain(|gone| matches!(gone.end, End::Dead(..)) || there(gone.row));
                self.room.leaving = self.gone.iter().map(|gone| gone.bytes).sum();
                self.noted = Noted::default();
                self.room.noted = 0;
                rows.iter().for_each(|row| self.noted.came(RowId(*row)));
                self.latest.unwritten();
                self.damaged = false;
                self.unsalvaged = None;
                self.works();
                if let Err(error) = self.find_drops() {
                    self.failed(&error);
                }
                self.tell_dropped();
                self.gone_due = Some(clock::now());
                true
            }
            Err(error @ OpenError::NoRoomToSalvage { .. }) => {
                self.wait_for_room(&error);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the damaged database could not be salvaged");
                false
            }
        }
    }

    /// There is no room for a salvage: said as long as that is so.
    fn wait_for_room(&mut self, error: &OpenError) {
        // It did not fit, or was not even begun.
        let begun = recover::check_room(&self.room.dir, &self.db).is_ok();
        let look_at = clock::now() + if begun { TRY_EVERY } else { LOOK_EVERY };
        let fault = error.fault();
        let known = self.unsalvaged.replace(Unsalvaged { fault: fault.clone(), look_at });
        if known.is_none() {
            fault.log_error("nothing is copied until then; what can be read goes on");
        }
        if known.is_none_or(|known| known.fault != fault) {
            journal::stir();
        }
    }
}
