//! What an operator decides over by hand: dead letters fly again or go for good, and so do queued rows whose
//! endpoint left the configuration.
//!
//! Up to [`AT_ONCE`] in one transaction, so that nobody waits long behind them; each leaves the ledger in balance. A
//! crash in between leaves some undone, never one in two places.

use super::{Closed, Command, Store};
use crate::fault::Fault;
use adapter_api::EndpointName;
use serde::Deserialize;

/// Letters looked at, or rows discarded, in one transaction,
pub(super) const AT_ONCE: usize = 1_024;
/// and about the bytes of letters: each is written twice on its way.
pub(super) const BYTES_AT_ONCE: u64 = 1 << 20;

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letters {
    /// These.
    Ids(Vec<i64>),
    /// Those of an endpoint.
    Endpoint(String),
    /// All there are now.
    All,
}

/// What is done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// They are queued again, behind what is queued, with their own stamps.
    Requeue,
    /// They are deleted and counted as discarded.
    Discard,
}

/// A part of the letters: those after one and up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) after: i64,
    /// The youngest when it began: one that dies meanwhile is not meant. `None` at the beginning.
    pub(crate) upto: Option<i64>,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// So many letters.
    pub letters: u64,
    /// Which stay, for their endpoint left the configuration and nobody would carry them.
    pub orphaned: Vec<i64>,
    /// Which stay, for they are older than `store.max_age`: queued, they would be dropped.
    pub too_old: Vec<i64>,
    /// Asked for and not there.
    pub missing: Vec<i64>,
}

/// What was discarded of endpoints that left the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orphans {
    /// So many rows.
    pub rows: u64,
    /// So many are left: in the air, or of a newer version.
    pub left: u64,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum DeedError {
    /// The store has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// It could not be written. What was done before is done.
    #[error("{}; {} were done before", fault.what, done)]
    Failed {
        /// Why.
        fault: Box<Fault>,
        /// How many were done before.
        done: u64,
    },
    /// The endpoint is there: its rows are on their way.
    #[error("endpoint {0} is in the configuration; only rows of endpoints that left it are discarded")]
    Configured(EndpointName),
}

/// Tells the journal how far a deed came that is not carried on: whoever asked for it went away, or it failed.
struct CutOff {
    what: &'static str,
    done: u64,
    whole: bool,
}

impl CutOff {
    fn if_dropped(what: &'static str) -> Self {
        Self { what, done: 0, whole: false }
    }
}

impl Drop for CutOff {
    fn drop(&mut self) {
        if !self.whole {
            tracing::warn!(done = self.done, "{}", self.what);
        }
    }
}

impl Store {
    /// Queues or deletes dead letters.
    pub async fn letters(&self, deed: Deed, which: &Letters) -> Result<Done, DeedError> {
        let mut done = Done::default();
        let mut told = CutOff::if_dropped("what was decided over dead letters was cut off");
        let mut which = which.clone();
        if let Letters::Ids(ids) = &mut which {
            ids.sort_unstable();
            ids.dedup();
        }
        let mut next = Some(Span::default());
        while let Some(span) = next {
            let which = which.clone();
            let (some, rest) = self
                .query(|answer| Command::Letters { deed, which, span, answer })
                .await?
                .map_err(|fault| DeedError::Failed { fault: Box::new(fault), done: done.letters })?;
            done.letters = done.letters.saturating_add(some.letters);
            done.orphaned.extend(some.orphaned);
            done.too_old.extend(some.too_old);
            done.missing.extend(some.missing);
            told.done = done.letters;
            next = rest;
        }
        told.whole = true;
        Ok(done)
    }

    /// Deletes queued rows of endpoints that left the configuration, or of one of them.
    pub async fn discard_orphans(&self, endpoint: Option<&EndpointName>) -> Result<Orphans, DeedError> {
        let mut done = Orphans::default();
        let mut told = CutOff::if_dropped("the discarding of orphaned rows was cut off");
        loop {
            let endpoint = endpoint.cloned();
            let some = self
                .query(|answer| Command::DiscardOrphans { endpoint, answer })
                .await?
                .map_err(|fault| DeedError::Failed { fault: Box::new(fault), done: done.rows })?;
            (done.rows, done.left) = (done.rows.saturating_add(some.rows), some.left);
            told.done = done.rows;
            if some.rows == 0 {
                told.whole = true;
                return Ok(done);
            }
        }
    }
}
