//! What can be changed on the page, with the token: what `tidegate queue requeue` and `discard` do.
//!
//! Whoever asks has been let in (`guard`); what was done is in the journal with the address it was asked from.

use crate::{
    control::view::{View, ViewError, letters::Decided},
    store::letters::{Deed, Letters},
};
use adapter_api::clock;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::{net::IpAddr, time::Duration};

/// A body is no longer: some thousand numbers.
const LARGEST: usize = 64 << 10;
/// And comes within it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a path asks for.
pub(super) fn deed(path: &str) -> Option<Deed> {
    match path {
        "/api/dead/requeue" => Some(Deed::Requeue),
        "/api/dead/discard" => Some(Deed::Discard),
        _ => None,
    }
}

/// Which letters are meant: `{"ids":[7]}`, `{"endpoint":"boiler-7"}` or `"all"`.
pub(super) async fn letters(body: Incoming) -> Option<Letters> {
    let body = clock::timeout(PATIENCE, Limited::new(body, LARGEST).collect()).await.ok()?.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}

/// Does it.
pub(super) async fn decide(
    view: &View,
    peer: IpAddr,
    deed: Deed,
    which: &Letters,
) -> Result<Decided, ViewError> {
    let decided = view.decide(deed, which).await;
    match &decided {
        Ok(decided) => {
            let (letters, done) = (decided.letters, decided.done);
            tracing::info!(%peer, letters, done, "dead letters, by hand on the status page");
        }
        Err(error) => tracing::warn!(%peer, %error, ?deed, "dead letters, by hand on the status page"),
    }
    decided
}
