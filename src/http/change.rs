//! What can be changed on the page, with the token: what the control socket changes as well.
//!
//! Whoever asks has been let in (`guard`). Who asks for what is in the journal before it is done, and it is done to
//! its end though the browser has gone: it runs in a task of its own.

use crate::{
    control::{
        errand::{Done, Errand},
        live::Live,
    },
    store::letters::{Deed, Letters},
};
use adapter_api::{EndpointName, clock};
use http_body_util::{BodyExt, Limited};
use hyper::{StatusCode, body::Incoming};
use serde_json::{Value, json};
use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, task::JoinSet};

/// What is under way. It ends with the listener's unit.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<JoinSet<()>>);

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Something with dead letters; which ones is in the body.
    Letters(Deed),
    /// The configuration is read anew.
    Reload,
    /// An endpoint is enabled or disabled.
    Switch(EndpointName, bool),
}

/// What came of it.
pub(super) type Outcome = (StatusCode, Value);

/// A body is no longer: some thousand numbers.
const LARGEST: usize = 64 << 10;
/// And comes within it.
const PATIENCE: Duration = Duration::from_secs(10);

impl Asked {
    /// What a path asks for.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/api/dead/requeue" => Some(Self::Letters(Deed::Requeue)),
            "/api/dead/discard" => Some(Self::Letters(Deed::Discard)),
            "/api/reload" => Some(Self::Reload),
            _ => {
                let (endpoint, word) = path.strip_prefix("/api/endpoint/")?.split_once('/')?;
                let enabled = ["disable", "enable"].iter().position(|known| *known == word)? == 1;
                Some(Self::Switch(EndpointName::new(endpoint).ok()?, enabled))
            }
        }
    }
}

impl Changes {
    /// Does it, in its own task, and says what came of it.
    pub(super) async fn run(&self, live: &Live, peer: IpAddr, asked: Asked, body: Incoming) -> Outcome {
        let letters = match &asked {
            Asked::Letters(_) => match letters(body).await {
                Some(letters) => letters,
                None => return failed(StatusCode::BAD_REQUEST, WHICH),
            },
            Asked::Reload | Asked::Switch(..) => Letters::Ids(Vec::new()),
        };
        log(peer, &asked, &letters);
        let (tell, told) = oneshot::channel();
        let live = live.clone();
        {
            let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            while under_way.try_join_next().is_some() {}
            under_way.spawn(async move {
                // Nobody may be left who waits for it.
                let _gone = tell.send(done(&live, asked, &letters).await);
            });
        }
        told.await.unwrap_or_else(|_| stopping())
    }
}

const WHICH: &str = "say which: {\"ids\":[7]}, {\"endpoint\":\"NAME\"} or \"all\"";

/// Which letters are meant.
async fn letters(body: Incoming) -> Option<Letters> {
    let body = clock::timeout(PATIENCE, Limited::new(body, LARGEST).collect()).await.ok()?.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}

fn log(peer: IpAddr, asked: &Asked, letters: &Letters) {
    let which = match (asked, letters) {
        (Asked::Letters(_), Letters::All) => "all".to_owned(),
        (Asked::Letters(_), Letters::Endpoint(name)) => format!("those of {name}"),
        (Asked::Letters(_), Letters::Ids(ids)) => format!("{} by number", ids.len()),
        (Asked::Switch(name, _), _) => name.to_string(),
        (Asked::Reload, _) => "the configuration".to_owned(),
    };
    let what = match asked {
        Asked::Letters(Deed::Requeue) => "dead letters are queued again",
        Asked::Letters(Deed::Discard) => "dead letters are discarded",
        Asked::Reload => "reload",
        Asked::Switch(_, true) => "an endpoint is enabled",
        Asked::Switch(_, false) => "an endpoint is disabled",
    };
    tracing::info!(%peer, what, which, "asked for on the status page");
}

async fn done(live: &Live, asked: Asked, letters: &Letters) -> Outcome {
    match asked {
        Asked::Letters(deed) => match live.now().decide(deed, letters).await {
            Ok(decided) => match serde_json::to_value(&decided) {
                Ok(told) => (StatusCode::OK, told),
                Err(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, "this cannot be said in JSON"),
            },
            Err(error) => failed(super::answer::status_of(&error), &error.to_string()),
        },
        Asked::Reload => errand(live, Errand::Reload).await,
        Asked::Switch(endpoint, enabled) => {
            errand(live, |answer| Errand::Switch { endpoint, enabled, answer }).await
        }
    }
}

async fn errand(live: &Live, errand: impl FnOnce(oneshot::Sender<Done>) -> Errand) -> Outcome {
    let (tell, told) = oneshot::channel();
    if live.errands().send(errand(tell)).await.is_err() {
        return stopping();
    }
    match told.await {
        Ok(Done { answer, good: true }) => (StatusCode::OK, answer),
        Ok(Done { answer, .. }) => (StatusCode::CONFLICT, answer),
        Err(_) => stopping(),
    }
}

fn stopping() -> Outcome {
    failed(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping")
}

fn failed(status: StatusCode, why: &str) -> Outcome {
    (status, json!({ "error": why }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_paths_change_something() {
        let name = |name: &str| EndpointName::new(name).unwrap();
        let check = |path: &str, expected: Option<Asked>| assert_eq!(Asked::of(path), expected, "{path}");
        check("/api/dead/requeue", Some(Asked::Letters(Deed::Requeue)));
        check("/api/dead/discard", Some(Asked::Letters(Deed::Discard)));
        check("/api/reload", Some(Asked::Reload));
        check("/api/endpoint/boiler-7/enable", Some(Asked::Switch(name("boiler-7"), true)));
        check("/api/endpoint/boiler-7/disable", Some(Asked::Switch(name("boiler-7"), false)));
        for path in [
            "/",
            "/api/dead",
            "/api/status",
            "/api/reload/",
            "/api/endpoint/boiler-7",
            "/api/endpoint//enable",
            "/api/endpoint/a/b/enable",
            "/api/endpoint/%3C/enable",
            "/api/endpoint/boiler-7/remove",
        ] {
            check(path, None);
        }
    }
}
