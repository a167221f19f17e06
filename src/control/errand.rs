//! What is asked for on the control socket and changes something of the running gateway. Done by the daemon, one
//! after the other.

use super::live::Live;
use crate::log::{self, Level};
use adapter_api::EndpointName;
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// What came of it, and whether it was done.
#[derive(Debug)]
pub struct Done {
    /// For whoever asked; with `error` in words if it was not done.
    pub answer: Value,
    /// Whether it was done.
    pub good: bool,
}

/// Something to be done.
#[derive(Debug)]
pub enum Errand {
    /// Read the configuration anew.
    Reload(oneshot::Sender<Done>),
    /// Enable or disable an endpoint.
    Switch {
        /// Which.
        endpoint: EndpointName,
        /// Whether it is wanted.
        enabled: bool,
        /// Who asked.
        answer: oneshot::Sender<Done>,
    },
}

type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

pub(super) async fn reload(State(live): State<Live>) -> Answer {
    run(&live, Errand::Reload).await
}

pub(super) async fn enable(State(live): State<Live>, Path(endpoint): Path<String>) -> Answer {
    switch(&live, &endpoint, true).await
}

pub(super) async fn disable(State(live): State<Live>, Path(endpoint): Path<String>) -> Answer {
    switch(&live, &endpoint, false).await
}

async fn switch(live: &Live, endpoint: &str, enabled: bool) -> Answer {
    let endpoint = EndpointName::new(endpoint).map_err(|error| refused(&error.to_string()))?;
    run(live, |answer| Errand::Switch { endpoint, enabled, answer }).await
}

/// How much the journal tells.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Telling {
    level: Level,
    target: Option<String>,
}

pub(super) async fn change_log(Json(telling): Json<Telling>) -> Answer {
    if let Some(target) = telling.target.as_deref().filter(|target| !log::is_target(target)) {
        return Err(refused(&format!("{target:?} is not a target; write tidegate::uplink, for example")));
    }
    let levels = log::change(telling.level, telling.target.as_deref());
    tracing::info!(%levels, "the journal tells so much until the next start or reload");
    Ok(Json(json!(levels)))
}

async fn run(live: &Live, errand: impl FnOnce(oneshot::Sender<Done>) -> Errand) -> Answer {
    let stopping = || {
        let error = json!({ "error": "the gateway is stopping" });
        (StatusCode::SERVICE_UNAVAILABLE, Json(error))
    };
    let (tell, done) = oneshot::channel();
    live.errands().send(errand(tell)).await.map_err(|_| stopping())?;
    let done = done.await.map_err(|_| stopping())?;
    if done.good { Ok(Json(done.answer)) } else { Err((StatusCode::CONFLICT, Json(done.answer))) }
}

fn refused(why: &str) -> (StatusCode, Json<Value>) {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": why })))
}
