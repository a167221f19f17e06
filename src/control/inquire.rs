//! Asks an adapter of the running gateway and hands its answer on, line by line as it comes.

use super::client::{AskError, connect, segment};
use adapter_api::{inquiry::Telling, shown};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::Path;

/// No line of an answer is longer.
const LONGEST: usize = 4 << 20;

/// Asks the adapter of this unit (`modbus.site`). Returns at the end of the answer, or when nobody
/// takes its lines any more.
pub async fn inquire(socket: &Path, unit: &str, question: &Value, to: &Telling) -> Result<(), AskError> {
    let unreadable = || AskError::Unreadable { path: socket.to_owned() };
    let stream = connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| unreadable())?;
    let request = Request::post(format!("/v1/inquiry/{}", segment(unit)))
        .header("host", "tidegate")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(question.to_string())))
        .map_err(|_| unreadable())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|_| unreadable())?;
        if response.status().is_success() {
            return hand_on(response, to, unreadable).await;
        }
        let body = response.into_body().collect().await.map_err(|_| unreadable())?.to_bytes();
        let why: Option<Value> = serde_json::from_slice(&body).ok();
        match why.as_ref().and_then(|why| why.get("error")).and_then(Value::as_str) {
            Some(error) => Err(AskError::Refused(shown(error).to_string())),
            None => Err(unreadable()),
        }
    };
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answered = &mut exchange => answered,
        _ended = &mut connection => exchange.await,
    }
}

async fn hand_on(
    response: Response<Incoming>,
    to: &Telling,
    unreadable: impl Fn() -> AskError,
) -> Result<(), AskError> {
    let (mut body, mut held) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| unreadable())?.into_data() else { continue };
        held.extend_from_slice(&data);
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            let line = serde_json::from_slice(&line).map_err(|_| unreadable())?;
            if to.tell(line).await.is_err() {
                return Ok(());
            }
        }
        if held.len() > LONGEST {
            return Err(unreadable());
        }
    }
    Ok(())
}
