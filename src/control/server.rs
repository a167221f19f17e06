//! Answers on the control socket. What changes something is a POST, and is logged with the user who asked for it; an
//! inquiry to an adapter may read from devices.

use super::{
    errand,
    live::Live,
    peer::{self, Peer},
    view::{
        View, ViewError,
        endpoints::{Endpoints, Wanted},
        letters::{Decided, Discarded, Orphaned},
    },
};
use crate::store::letters::{Deed, Letters};
use adapter_api::inquiry::Lines;
use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use hyper::body::{Bytes, Frame};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::net::UnixListener;

/// The control socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system refused.
    #[error("control socket {}: {}", path.display(), crate::fault::words(source))]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody answers there.
    #[error("control socket {}: another gateway answers there", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
}

/// Opens the socket.
pub fn bind(path: &std::path::Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Io { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    // Only a socket on which nobody listens is removed: never somebody's file.
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(ListenError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let stale = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
            if !stale || error.kind() != io::ErrorKind::ConnectionRefused {
                return Err(failed(error));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Answers on the socket for ever.
pub async fn serve(listener: UnixListener, live: Live) {
    let app = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/queue", get(queue))
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/dead", get(dead))
        .route("/v1/latest/{endpoint}", get(latest))
        .route("/v1/inquiry/{unit}", post(inquiry))
        .route("/v1/tail", get(tail))
        .route("/v1/dead/requeue", post(requeue))
        .route("/v1/dead/discard", post(discard))
        .route("/v1/queue/discard", post(discard_orphaned))
        .route("/v1/reload", post(errand::reload))
        .route("/v1/endpoint/{endpoint}/enable", post(errand::enable))
        .route("/v1/endpoint/{endpoint}/disable", post(errand::disable))
        .route("/v1/log", post(errand::change_log))
        .layer(axum::middleware::from_fn(peer::write_down))
        .with_state(live);
    let app = app.into_make_service_with_connect_info::<Peer>();
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "the control socket has ended");
    }
}

type Answer<T = Value> = Result<Json<T>, (StatusCode, Json<Value>)>;

fn answer<T>(result: Result<T, ViewError>) -> Answer<T> {
    result.map(Json).map_err(refusal)
}

/// A question without an answer.
fn refusal(error: ViewError) -> (StatusCode, Json<Value>) {
    let status = match error {
        ViewError::Unknown(_) => StatusCode::NOT_FOUND,
        ViewError::Refused(_) => StatusCode::CONFLICT,
        ViewError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        ViewError::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(json!({ "error": error.to_string() })))
}

async fn status(State(view): State<Arc<View>>) -> Answer {
    answer(view.status().await)
}

async fn queue(State(view): State<Arc<View>>) -> Answer {
    answer(view.queue().await)
}

async fn endpoints(State(view): State<Arc<View>>, Query(wanted): Query<Wanted>) -> Answer<Endpoints> {
    answer(view.endpoints(&wanted).await)
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn dead(State(view): State<Arc<View>>, Query(query): Query<Limit>) -> Answer {
    answer(view.dead(query.limit.unwrap_or(100).min(1_000)).await)
}

#[derive(Deserialize)]
struct Which {
    resource: Option<String>,
}

async fn latest(
    State(view): State<Arc<View>>,
    Path(endpoint): Path<String>,
    Query(query): Query<Which>,
) -> Answer {
    answer(view.latest(&endpoint, query.resource.as_deref()).await)
}

#[derive(Deserialize)]
struct Whose {
    endpoint: Option<String>,
}

async fn tail(
    State(view): State<Arc<View>>,
    Query(whose): Query<Whose>,
) -> Result<Body, (StatusCode, Json<Value>)> {
    view.tail(whose.endpoint.as_deref()).await.map(Body::new).map_err(refusal)
}

async fn requeue(
    State(view): State<Arc<View>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(which): Json<Letters>,
) -> Answer<Decided> {
    decide(&view, peer, Deed::Requeue, &which).await
}

async fn discard(
    State(view): State<Arc<View>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(which): Json<Letters>,
) -> Answer<Decided> {
    decide(&view, peer, Deed::Discard, &which).await
}

async fn decide(view: &View, peer: Peer, deed: Deed, which: &Letters) -> Answer<Decided> {
    let decided = view.decide(deed, which).await;
    match &decided {
        Ok(decided) => {
            tracing::info!(%peer, letters = decided.letters, done = decided.done, "dead letters, by hand");
        }
        Err(error) => tracing::warn!(%peer, %error, ?deed, "dead letters, by hand"),
    }
    answer(decided)
}

async fn discard_orphaned(
    State(view): State<Arc<View>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(which): Json<Orphaned>,
) -> Answer<Discarded> {
    let discarded = view.discard_orphaned(&which).await;
    match &discarded {
        Ok(done) => {
            let endpoint = which.endpoint.as_deref().unwrap_or("all");
            tracing::info!(%peer, rows = done.discarded, endpoint, "orphaned rows discarded, by hand");
        }
        Err(error) => tracing::warn!(%peer, %error, "orphaned rows not discarded"),
    }
    answer(discarded)
}

/// An inquiry's answer: a JSON value in each line, as they come. Dropped with the connection, which
/// tells the adapter that nobody listens any more.
struct Said(Lines);

impl hyper::body::Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(format!("{line}\n").into()))))
    }
}

async fn inquiry(
    State(view): State<Arc<View>>,
    Path(unit): Path<String>,
    Json(question): Json<Value>,
) -> Result<Body, (StatusCode, Json<Value>)> {
    match view.inquire(&unit, question).await {
        Ok(lines) => Ok(Body::new(Said(lines))),
        Err(error) => Err((StatusCode::NOT_FOUND, Json(json!({ "error": error.to_string() })))),
    }
}
