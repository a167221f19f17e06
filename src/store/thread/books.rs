//! The books: what of the database is in memory, read at start.

use super::{drops, room::Room};
use crate::{
    backoff::Rng,
    endpoints::{EndpointKey, Tenant},
    store::{
        Class, LaneId, OpenError, Options, RowId,
        boots::Boots,
        lanes::{LaneInfo, Lanes},
        latest::Latest,
        ledger::Ledger,
        noted::Noted,
        outbox,
        progress::Progress,
        recover,
    },
};
use adapter_api::{EndpointName, clock};
use rusqlite::Connection;

/// What is read at start.
pub(super) struct Books {
    pub(super) db: Connection,
    pub(super) room: Room,
    pub(super) lanes: Lanes,
    pub(super) noted: Noted,
    pub(super) ledger: Ledger,
    pub(super) latest: Latest,
    pub(super) boots: Boots,
}

impl Books {
    /// Opens the database and reads them; a damaged one is salvaged first.
    pub(super) fn open(options: &Options) -> Result<Self, OpenError> {
        match Self::read(options) {
            Err(OpenError::Sqlite(error)) if recover::is_damage(&error) => {
                // Nobody watches yet.
                recover::salvage(&options.dir, None, &mut Rng::new(), &Progress::default())?;
                Self::read(options)
            }
            opened => opened,
        }
    }

    fn read(options: &Options) -> Result<Self, OpenError> {
        let (db, mut room) = Room::open(options)?;
        let (lanes, noted) = read_lanes(&db)?;
        let (ledger, latest) = (Ledger::load(&db)?, Latest::load(&db, clock::now())?);
        room.drops = drops::load(&db, &ledger)?;
        room.noted = noted.bytes();
        look_at_the_rest(&db)?;
        let boots = Boots::open(&db, &options.boot_id)?;
        Ok(Self { db, room, lanes, noted, ledger, latest, boots })
    }
}

/// What is not needed yet: damage there would be found when somebody waits for an answer.
fn look_at_the_rest(db: &Connection) -> rusqlite::Result<()> {
    for select in [
        "SELECT count(next) FROM ids",
        "SELECT count(seq) FROM sqlite_sequence",
        "SELECT count(seq) FROM lane INDEXED BY sqlite_autoindex_lane_1",
    ] {
        db.query_row(select, [], |_| Ok(()))?;
    }
    Ok(())
}

fn read_lanes(db: &Connection) -> rusqlite::Result<(Lanes, Noted)> {
    let mut lanes = Lanes::default();
    let mut noted = Noted::load(db, clock::now())?;
    let mut select = db.prepare("SELECT id, tenant, endpoint, class, seq FROM lane")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(name) = EndpointName::new(&row.get::<_, String>(2)?) else { continue };
        let endpoint = EndpointKey { tenant: Tenant::stored(&row.get::<_, String>(1)?), name };
        let Some(class) = Class::stored(row.get(3)?) else { continue };
        lanes.add(LaneInfo { id: LaneId(row.get(0)?), endpoint, class, seq: row.get(4)? });
    }
    let mut select = db.prepare("SELECT id, lane, length(item) FROM outbox ORDER BY id")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let bytes = outbox::row_bytes(usize::try_from(row.get::<_, i64>(2)?).unwrap_or_default());
        let (row, lane) = (RowId(row.get(0)?), LaneId(row.get(1)?));
        // Also of a lane that was drained and is no more, and of which rows are noted.
        lanes.pass_over(lane);
        if noted.is_new(row, bytes) {
            lanes.push(lane, row, bytes);
        }
    }
    noted.committed();
    Ok((lanes, noted))
}
