//! What there is under which path.
//!
//! The page's figures under `/api` are the control socket's, from the same view.

use super::{
    brief,
    change::{Asked, Changes},
    guard::{self, Guard, Refusal},
    health, metrics,
};
use crate::{
    config::HttpConfig,
    control::{
        live::Live,
        view::{ViewError, endpoints::Wanted},
    },
};
use adapter_api::clock;
use axum::extract::Query;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    http::request::Parts,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{convert::Infallible, net::IpAddr, time::Duration};
use tokio::sync::Semaphore;

/// What is served, and to whom.
pub(super) struct Site {
    guard: Guard,
    live: Live,
    metrics_per_endpoint: bool,
    changes: Changes,
    /// One question at a time: whoever asks without pause takes turns with the others here, and the store has time
    /// for what it is there for (I8).
    turns: Semaphore,
}

type Reply = Response<Full<Bytes>>;

/// Endpoints at a time: nobody reads more, and they are all asked for every two seconds.
const PAGE: usize = 200;
/// Characters of a filter: names have 64.
const FILTER: usize = 128;
/// Dead letters, the youngest.
const LETTERS: usize = 50;
/// Whoever is asked for figures answers within it.
const PATIENCE: Duration = Duration::from_secs(10);

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The page: a path, its type, its text.
const FILES: [(&str, &str, &str); 4] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

impl Site {
    pub(super) fn new(config: HttpConfig, live: Live) -> Self {
        let metrics_per_endpoint = config.metrics_per_endpoint;
        let (guard, turns) = (Guard::new(config), Semaphore::new(1));
        Self { guard, live, metrics_per_endpoint, changes: Changes::default(), turns }
    }
}

/// Answers one request: where it came in, and from where.
pub(super) async fn answer(
    site: &Site,
    (local, peer): (IpAddr, IpAddr),
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let (request, body) = request.into_parts();
    let mut reply = match site.guard.admit(&request, local) {
        Err(refusal) => refuse(&request, refusal),
        // No question has a body.
        Ok(()) if request.method == Method::GET || request.method == Method::HEAD => {
            match clock::timeout(PATIENCE, route(site, &request)).await {
                Ok(reply) => reply,
                Err(clock::Elapsed) => {
                    failure(&request, StatusCode::SERVICE_UNAVAILABLE, "the gateway does not answer in time")
                }
            }
        }
        Ok(()) => changed(site, &request, body, peer).await,
    };
    guard::protect(reply.headers_mut());
    Ok(reply)
}

async fn route(site: &Site, request: &Parts) -> Reply {
    let path = request.uri.path();
    if let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == path) {
        return reply(StatusCode::OK, kind, *text);
    }
    // It is never closed.
    let _turn = site.turns.acquire().await;
    let view = site.live.now();
    match path {
        "/healthz" => {
            let (status, health) = health::look(&view).await;
            reply(status, JSON, health.to_string())
        }
        "/metrics" => match figures(site).await {
            Ok(text) => reply(StatusCode::OK, metrics::TYPE, text),
            Err(error) => failure(request, status_of(&error), &error.to_string()),
        },
        "/api/status" => told(request, view.status().await, brief::devices),
        "/api/endpoints" => match Query::<Wanted>::try_from_uri(&request.uri) {
            Ok(Query(mut wanted)) if wanted.filter.as_ref().is_none_or(|filter| filter.len() <= FILTER) => {
                wanted.limit = Some(wanted.limit.unwrap_or(PAGE).min(PAGE));
                told(request, view.endpoints(&wanted).await, brief::values)
            }
            _ => {
                failure(request, StatusCode::BAD_REQUEST, "known here: filter (128 characters), after, limit")
            }
        },
        "/api/dead" => told(request, view.dead(LETTERS).await, brief::values),
        "/api/changes" => told(request, Ok(json!({ "possible": site.guard.has_token() })), |_| {}),
        _ => match path.strip_prefix("/api/latest/") {
            Some(endpoint) => told(request, view.latest(endpoint, None).await, brief::values),
            None => failure(request, StatusCode::NOT_FOUND, "there is nothing under this path"),
        },
    }
}

/// Changes something, for whoever has been let in.
async fn changed(site: &Site, request: &Parts, body: Incoming, peer: IpAddr) -> Reply {
    let asked = Asked::of(request.uri.path()).filter(|_| request.method == Method::POST);
    let Some(asked) = asked else {
        return failure(request, StatusCode::NOT_FOUND, "nothing is changed under this path");
    };
    let (status, outcome) = site.changes.run(&site.live, peer, asked, body).await;
    reply(status, JSON, outcome.to_string())
}

async fn figures(site: &Site) -> Result<String, ViewError> {
    let view = site.live.now();
    let status = view.status().await?;
    let endpoints = match site.metrics_per_endpoint {
        true => view.endpoints(&Wanted::default()).await?.endpoints,
        false => Vec::new(),
    };
    Ok(metrics::text(&status, &endpoints, &metrics::Process::now()))
}

/// An answer of the view, made fit for a page.
fn told<T: Serialize>(request: &Parts, answer: Result<T, ViewError>, fit: fn(&mut Value)) -> Reply {
    match answer.map(serde_json::to_value) {
        Ok(Ok(mut value)) => {
            fit(&mut value);
            reply(StatusCode::OK, JSON, value.to_string())
        }
        Ok(Err(_)) => failure(request, StatusCode::INTERNAL_SERVER_ERROR, "this cannot be said in JSON"),
        Err(error) => failure(request, status_of(&error), &error.to_string()),
    }
}

pub(super) fn status_of(error: &ViewError) -> StatusCode {
    match error {
        ViewError::Unknown(_) => StatusCode::NOT_FOUND,
        ViewError::Refused(_) => StatusCode::CONFLICT,
        ViewError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        ViewError::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn refuse(request: &Parts, refusal: Refusal) -> Reply {
    let mut reply = failure(request, refusal.status(), refusal.words());
    if refusal == Refusal::NoWrites {
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if refusal == Refusal::NoToken {
        // RFC 9110 §15.5.2
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}

/// For programs as JSON, for people in words.
fn failure(request: &Parts, status: StatusCode, why: &str) -> Reply {
    if request.uri.path().starts_with("/api/") {
        reply(status, JSON, json!({ "error": why }).to_string())
    } else {
        reply(status, TEXT, format!("{why}\n"))
    }
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}
