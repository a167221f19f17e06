//! What an operator decides over by hand: dead letters, and rows of endpoints that left the configuration.
//!
//! Not here: who may (the socket's permissions), and who did (the journal, `server`).

use super::{View, ViewError};
use crate::store::letters::{Deed, DeedError, Letters};
use adapter_api::EndpointName;
use serde::{Deserialize, Serialize};

/// What was done with dead letters.
#[derive(Debug, Serialize)]
pub struct Decided {
    /// `requeued` or `discarded`.
    pub done: &'static str,
    /// So many.
    pub letters: u64,
    /// These stay, for their endpoint is not in the configuration.
    pub orphaned: Vec<i64>,
    /// These were asked for and are not there.
    pub missing: Vec<i64>,
}

/// Whose queued rows are to be discarded.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orphaned {
    /// One endpoint's; without, those of all that left the configuration.
    pub endpoint: Option<String>,
}

/// What was discarded of them.
#[derive(Debug, Serialize)]
pub struct Discarded {
    /// So many rows.
    pub discarded: u64,
    /// So many are left: still in the air, or of a newer version.
    pub left: u64,
}

impl View {
    /// Queues dead letters again, or deletes them.
    pub async fn decide(&self, deed: Deed, which: &Letters) -> Result<Decided, ViewError> {
        if let Letters::Endpoint(name) = which {
            EndpointName::new(name).map_err(|error| ViewError::Unknown(format!("{name:?}: {error}")))?;
        }
        let done = self.store.letters(deed, which).await?;
        Ok(Decided {
            done: match deed {
                Deed::Requeue => "requeued",
                Deed::Discard => "discarded",
            },
            letters: done.letters,
            orphaned: done.orphaned,
            missing: done.missing,
        })
    }

    /// Deletes queued rows of endpoints that left the configuration.
    pub async fn discard_orphaned(&self, which: &Orphaned) -> Result<Discarded, ViewError> {
        let name = match &which.endpoint {
            None => None,
            Some(name) => Some(
                EndpointName::new(name).map_err(|error| ViewError::Unknown(format!("{name:?}: {error}")))?,
            ),
        };
        // The store looks once more, as it does it.
        if let Some(known) = name.as_ref().filter(|name| self.directory.by_name(name).is_some()) {
            return Err(DeedError::Configured(known.clone()).into());
        }
        let done = self.store.discard_orphans(name.as_ref()).await?;
        if done.rows == 0 && done.left == 0 {
            let what = name.map_or_else(
                || "nothing is queued of endpoints that left the configuration".to_owned(),
                |name| format!("nothing is queued of an endpoint {name} that left the configuration"),
            );
            return Err(ViewError::Unknown(what));
        }
        Ok(Discarded { discarded: done.rows, left: done.left })
    }
}
