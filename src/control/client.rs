//! Asks the control socket, and prints the answers: tables for people, JSON for scripts.

use crate::config::escape::shown;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no gateway answers on {}: {why}", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What the system said, in words.
        why: &'static str,
    },
    /// It was not understood.
    #[error("the answer on {} could not be read", path.display())]
    Unreadable {
        /// The socket.
        path: PathBuf,
    },
    /// The gateway said no.
    #[error("{0}")]
    Refused(String),
}

/// Asks one question.
pub async fn ask(socket: &Path, question: &str) -> Result<Value, AskError> {
    let unreadable = || AskError::Unreadable { path: socket.to_owned() };
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "this user may not use the socket; be root or a member of its group"
            }
            io::ErrorKind::NotFound => "there is no such socket; is it running? (systemctl status tidegate)",
            _ => "nobody listens; is it running? (systemctl status tidegate)",
        };
        AskError::Silent { path: socket.to_owned(), why }
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| unreadable())?;
    let request = Request::get(question)
        .header("host", "tidegate")
        .body(Empty::<Bytes>::new())
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
    let answer: Value = serde_json::from_slice(&body).map_err(|_| unreadable())?;
    match (good, answer.get("error").and_then(Value::as_str)) {
        (true, _) => Ok(answer),
        (false, Some(error)) => Err(AskError::Refused(shown(error).to_string())),
        (false, None) => Err(unreadable()),
    }
}

/// Encodes one segment of a question's path or query.
pub fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `tidegate status` for people.
pub fn status_text(answer: &Value) -> String {
    let mut out = String::new();
    line(&mut out, "clock", &clock_text(at(answer, "clock")));
    let uplink = at(answer, "uplink");
    let fault = at(uplink, "fault");
    let error = if fault.is_null() { text(uplink, "last_error") } else { String::new() };
    line(&mut out, "uplink", &join(&[text(uplink, "state"), text(uplink, "address"), error]));
    if let Some(used_up) = at(at(uplink, "budget"), "used_up").as_str() {
        line(&mut out, "  paused", &shown(used_up).to_string());
    }
    for fault in std::iter::once(fault).chain(list(uplink, "faults")).filter(|fault| !fault.is_null()) {
        fault_lines(&mut out, fault);
    }
    for parked in list(uplink, "parked") {
        let words = [text(parked, "endpoint"), text(parked, "code"), text(parked, "why")];
        line(&mut out, "  parked", &join(&words));
    }
    let ledger = at(answer, "ledger");
    let terms =
        ["offered", "refused", "suppressed", "stored", "landed", "queued", "dropped", "dead", "discarded"];
    let sums = terms.map(|term| format!("{term} {}", text(ledger, term)));
    line(&mut out, "ledger", &sums.join("  "));
    if at(answer, "balance") == &Value::Bool(false) {
        line(&mut out, "FAULT", "the ledger does not add up");
    }
    if let Some(fault) = at(answer, "store_fault").as_str() {
        line(&mut out, "FAULT", &format!("the database: {}", shown(fault)));
    }
    for (reason, samples) in at(answer, "reasons").as_object().into_iter().flatten() {
        line(&mut out, "", &format!("{}: {samples}", shown(reason)));
    }
    for unit in list(answer, "units") {
        let words = [text(unit, "state"), text(unit, "why"), text(unit, "health"), text(unit, "health_why")];
        line(&mut out, &text(unit, "name"), &join(&words));
        for (endpoint, device) in at(unit, "devices").as_object().into_iter().flatten() {
            if text(device, "presence") != "online" {
                let words = [shown(endpoint).to_string(), text(device, "presence"), text(device, "why")];
                line(&mut out, "", &join(&words));
            }
        }
    }
    out
}

/// A fault in its four parts.
fn fault_lines(out: &mut String, fault: &Value) {
    line(out, &format!("FAULT {}", text(fault, "code")), &text(fault, "what"));
    for (name, part) in [("  where", "where"), ("  cause", "cause"), ("  to do", "todo")] {
        line(out, name, &text(fault, part));
    }
}

/// `tidegate queue` for people.
pub fn queue_text(answer: &Value) -> String {
    let mut out = format!("{:<32} {:<10} {:>4} {:>10}  {}\n", "endpoint", "class", "seq", "queued", "state");
    for lane in list(answer, "lanes").filter(|lane| at(lane, "queued") != &Value::from(0)) {
        let row = ["endpoint", "class", "seq", "queued", "state"].map(|key| text(lane, key));
        let [endpoint, class, seq, queued, state] = row;
        let _infallible = writeln!(out, "{endpoint:<32} {class:<10} {seq:>4} {queued:>10}  {state}");
    }
    let _infallible =
        writeln!(out, "queued {}, dead letters {}", text(answer, "queued"), text(answer, "dead"));
    if !at(answer, "paused").is_null() {
        let _infallible = writeln!(out, "{}", text(answer, "paused"));
    }
    out
}

/// `tidegate queue --dead` for people.
pub fn dead_text(answer: &Value) -> String {
    let mut out = String::new();
    for letter in list(answer, "dead") {
        line(
            &mut out,
            &text(letter, "id"),
            &join(&[text(letter, "endpoint"), text(letter, "reason"), text(letter, "sample")]),
        );
    }
    if out.is_empty() { "no dead letters\n".into() } else { out }
}

/// `tidegate read` for people.
pub fn latest_text(answer: &Value) -> String {
    let mut out = String::new();
    for value in list(answer, "values") {
        let age = at(value, "age_ms").as_u64().map(|ms| format!("{}.{} s ago", ms / 1_000, ms % 1_000 / 100));
        let quality = if text(value, "quality") == "good" { String::new() } else { text(value, "quality") };
        let words = [text(value, "value"), quality, text(value, "why"), age.unwrap_or_default()];
        line(&mut out, &text(value, "resource"), &join(&words));
    }
    if out.is_empty() { "nothing read yet\n".into() } else { out }
}

fn clock_text(clock: &Value) -> String {
    match (at(clock, "known"), at(clock, "holding_for_s")) {
        (Value::Bool(true), _) => format!("known by {}", text(clock, "by")),
        (_, Value::Null) => {
            "not known since boot; samples go up without it, marked uncertain (clock)".to_owned()
        }
        (_, seconds) => {
            format!(
                "not known since boot; {} samples wait for it, at most {seconds} s",
                text(clock, "holding")
            )
        }
    }
}

fn line(out: &mut String, key: &str, words: &str) {
    let _infallible = writeln!(out, "{key:<24} {words}");
}

fn join(words: &[String]) -> String {
    words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join("  ")
}

fn at<'v>(value: &'v Value, key: &str) -> &'v Value {
    value.get(key).unwrap_or(&Value::Null)
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    at(value, key).as_array().into_iter().flatten()
}

/// Text from devices and platforms is escaped where it is shown.
fn text(value: &Value, key: &str) -> String {
    match at(value, key) {
        Value::Null => String::new(),
        Value::String(text) => shown(text).to_string(),
        other => shown(&other.to_string()).to_string(),
    }
}
