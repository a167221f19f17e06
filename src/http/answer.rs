//! What there is under which path.
//!
//! The page's figures under `/api` are the control socket's, from the same view.

use super::{
    guard::{self, Guard, Refusal},
    health, metrics,
};
use crate::{
    config::HttpConfig,
    control::{live::Live, view::ViewError},
};
use adapter_api::clock;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    http::request::Parts,
};
use serde_json::{Value, json};
use std::{convert::Infallible, net::IpAddr, time::Duration};

/// What is served, and to whom.
pub(super) struct Site {
    guard: Guard,
    live: Live,
    metrics_per_endpoint: bool,
}

type Reply = Response<Full<Bytes>>;

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
        Self { guard: Guard::new(config), live, metrics_per_endpoint }
    }
}

/// Answers one request that came in on this address.
pub(super) async fn answer(
    site: &Site,
    local: IpAddr,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    // No question has a body.
    let request = request.into_parts().0;
    let mut reply = match site.guard.admit(&request, local) {
        Err(refusal) => refuse(&request, refusal),
        Ok(()) => match clock::timeout(PATIENCE, route(site, &request)).await {
            Ok(reply) => reply,
            Err(clock::Elapsed) => {
                failure(&request, StatusCode::SERVICE_UNAVAILABLE, "the gateway does not answer in time")
            }
        },
    };
    guard::protect(reply.headers_mut());
    Ok(reply)
}

async fn route(site: &Site, request: &Parts) -> Reply {
    let path = request.uri.path();
    if request.method != Method::GET && request.method != Method::HEAD {
        return refuse(request, Refusal::NoWrites);
    }
    if let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == path) {
        return reply(StatusCode::OK, kind, *text);
    }
    let view = site.live.now();
    match path {
        "/healthz" => {
            let (status, health) = health::look(&view).await;
            reply(status, JSON, health.to_string())
        }
        "/metrics" => match figures(site).await {
            Ok(text) => reply(StatusCode::OK, metrics::TYPE, text),
            Err(error) => failure(request, StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        },
        "/api/status" => told(request, view.status().await),
        _ => match path.strip_prefix("/api/latest/") {
            Some(endpoint) => told(request, view.latest(endpoint, None).await),
            None => failure(request, StatusCode::NOT_FOUND, "there is nothing under this path"),
        },
    }
}

async fn figures(site: &Site) -> Result<String, ViewError> {
    let status = site.live.now().status().await?;
    Ok(metrics::text(&status, None, &metrics::Process::now()))
}

fn told(request: &Parts, answer: Result<Value, ViewError>) -> Reply {
    match answer {
        Ok(value) => reply(StatusCode::OK, JSON, value.to_string()),
        Err(error) => {
            let status = match error {
                ViewError::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
                ViewError::Unknown(_) => StatusCode::NOT_FOUND,
                ViewError::Refused(_) => StatusCode::CONFLICT,
                ViewError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            failure(request, status, &error.to_string())
        }
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
