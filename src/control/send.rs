//! Asks for something that changes the running gateway, and takes what came of it.

use super::client::{AskError, connect};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::Path;

/// What came of it.
#[derive(Debug)]
pub struct Reply {
    /// Whether it was done.
    pub good: bool,
    /// As it was told; with `error` if it was not done.
    pub answer: Value,
}

/// Posts to the control socket.
pub async fn send(socket: &Path, path: &str, body: &Value) -> Result<Reply, AskError> {
    let unreadable = || AskError::Unreadable { path: socket.to_owned() };
    let stream = connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| unreadable())?;
    let request = Request::post(path)
        .header("host", "tidegate")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|_| unreadable())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|_| unreadable())?;
        let good = response.status().is_success();
        let body = response.into_body().collect().await.map_err(|_| unreadable())?.to_bytes();
        Ok::<_, AskError>((good, body))
    };
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    let (good, body) = tokio::select! {
        answer = &mut exchange => answer?,
        _ended = &mut connection => exchange.await?,
    };
    let answer = serde_json::from_slice(&body).map_err(|_| unreadable())?;
    Ok(Reply { good, answer })
}
