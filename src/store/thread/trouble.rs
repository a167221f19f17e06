//! What stands wrong with the store, for `status` and from there the journal; and lines that no report shows,
//! which could repeat with each row.

use super::{DELETE_WITHIN, Thread};
use crate::{fault::Fault, store::recover};
use adapter_api::{
    clock,
    journal::{self, Seldom},
};
use rusqlite::ErrorCode;
use std::{cell::RefCell, fmt::Display};

/// Lines that could repeat.
#[derive(Default)]
pub(super) struct Lines {
    failed: Seldom,
    unkept: Seldom,
    lane: Seldom,
    newer: Seldom,
    missing: Seldom,
    unwritten: RefCell<Seldom>,
    vacuum: Seldom,
    checkpoint: Seldom,
}

impl Thread {
    /// Any transaction or read has failed: it stands wrong from now on, and a damaged database is salvaged before
    /// anything else is done.
    pub(super) fn failed(&mut self, error: &rusqlite::Error) -> Fault {
        let fault = self.room.diagnose(error);
        self.damaged |= recover::is_damage(error);
        if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) {
            // An idle gateway writes nothing else that would show that it is free again.
            self.gone_due.get_or_insert_with(|| clock::now() + DELETE_WITHIN);
        }
        self.fails(fault.clone());
        fault
    }

    fn fails(&mut self, fault: Fault) {
        if self.fault.as_ref().is_none_or(|known| known.code != fault.code) {
            journal::stir();
            // The process may not live until the journal has heard of it.
            if self.lines.failed.tell(clock::now()).is_some() {
                fault.log_error("a transaction failed; it is tried again");
            }
        }
        self.fault = Some(fault);
    }

    /// It went well.
    pub(super) fn works(&mut self) {
        if self.fault.take().is_some() {
            journal::stir();
        }
    }
}

impl Lines {
    /// A small value of some part of the gateway.
    pub(super) fn unkept(&mut self, error: &rusqlite::Error, owner: &str, key: &str) {
        if let Some(left_out) = self.unkept.tell(clock::now()) {
            tracing::error!(%error, owner, key, left_out, "a value could not be kept or read");
        }
    }

    /// A lane without rows stays in the table.
    pub(super) fn lane(&mut self, error: &rusqlite::Error) {
        if let Some(left_out) = self.lane.tell(clock::now()) {
            tracing::warn!(%error, left_out, "an empty lane could not be removed");
        }
    }

    /// A row that an older version must leave alone.
    pub(super) fn newer(&mut self, row: i64) {
        if let Some(left_out) = self.newer.tell(clock::now()) {
            tracing::warn!(row, left_out, "a row of a newer format is left alone");
        }
    }

    /// A row on the books without one in the table.
    pub(super) fn missing(&mut self, row: i64) {
        if let Some(left_out) = self.missing.tell(clock::now()) {
            tracing::error!(row, left_out, "a row on the books is not in the table");
        }
    }

    /// A submission that SQLite does not take, though it takes others.
    pub(super) fn unwritten(&self, error: &rusqlite::Error, endpoint: &impl Display) {
        if let Some(left_out) = self.unwritten.borrow_mut().tell(clock::now()) {
            tracing::error!(%error, %endpoint, left_out, "a submission could not be written");
        }
    }

    /// Empty pages stay where they are.
    pub(super) fn vacuum(&mut self, error: &rusqlite::Error) {
        if let Some(left_out) = self.vacuum.tell(clock::now()) {
            tracing::warn!(%error, left_out, "empty pages could not be given back; tried again later");
        }
    }

    /// SQLite's own journal stays as long as it is.
    pub(super) fn checkpoint(&mut self, error: &rusqlite::Error) {
        if let Some(left_out) = self.checkpoint.tell(clock::now()) {
            tracing::warn!(%error, left_out, "the journal could not be given back");
        }
    }
}
