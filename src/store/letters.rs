//! What an operator decides over by hand: dead letters fly again or go for good, and so do queued rows whose
//! endpoint left the configuration.
//!
//! Up to [`AT_ONCE`] in one transaction, so that nobody waits long behind them; each leaves the ledger in balance. A
//! crash in between leaves some undone, never one in two places.

use super::{Closed, Command, Store};
use crate::fault::Fault;
use adapter_api::EndpointName;
use serde::Deserialize;

/// Letters looked at, or rows discarded, in one transaction.
pub(super) const AT_ONCE: usize = 1_024;

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

impl Store {
    /// Queues or deletes dead letters.
    pub async fn letters(&self, deed: Deed, which: &Letters) -> Result<Done, DeedError> {
        let mut done = Done::default();
        let mut ask = async |which: Letters, span: Span| {
            let (some, next) = self
                .query(|answer| Command::Letters { deed, which, span, answer })
                .await?
                .map_err(|fault| DeedError::Failed { fault: Box::new(fault), done: done.letters })?;
            done.letters = done.letters.saturating_add(some.letters);
            done.orphaned.extend(some.orphaned);
            done.missing.extend(some.missing);
            Ok::<_, DeedError>(next)
        };
        match which {
            Letters::Ids(ids) => {
                let mut ids = ids.clone();
                ids.sort_unstable();
                ids.dedup();
                for some in ids.chunks(AT_ONCE) {
                    ask(Letters::Ids(some.to_vec()), Span::default()).await?;
                }
            }
            Letters::Endpoint(_) | Letters::All => {
                let mut span = Some(Span::default());
                while let Some(next) = span {
                    span = ask(which.clone(), next).await?;
                }
            }
        }
        Ok(done)
    }

    /// Deletes queued rows of endpoints that left the configuration, or of one of them.
    pub async fn discard_orphans(&self, endpoint: Option<&EndpointName>) -> Result<Orphans, DeedError> {
        let mut done = Orphans::default();
        loop {
            let endpoint = endpoint.cloned();
            let some = self
                .query(|answer| Command::DiscardOrphans { endpoint, answer })
                .await?
                .map_err(|fault| DeedError::Failed { fault: Box::new(fault), done: done.rows })?;
            (done.rows, done.left) = (done.rows.saturating_add(some.rows), some.left);
            if some.rows == 0 {
                return Ok(done);
            }
        }
    }
}
