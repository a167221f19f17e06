//! Proofs for the store's own tests, which have no flights.

use super::{Buried, FlightId, Landed, LaneInfo, RowId};

pub(crate) fn landed(lane: &LaneInfo, rows: Vec<RowId>) -> Landed {
    Landed { lane: lane.clone(), flight: FlightId(1), rows }
}

pub(crate) fn buried(lane: &LaneInfo, row: RowId, reason: &str) -> Buried {
    Buried { lane: lane.clone(), flight: FlightId(1), row, reason: reason.to_owned() }
}
