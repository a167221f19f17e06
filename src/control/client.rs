//! Asks the control socket, and prints the answers: tables for people, JSON for scripts.
//!
//! Later answers have a file each below this one.

mod deeds;
mod endpoints;
mod tail;

pub use deeds::{decided_text, discarded_text};
pub use endpoints::endpoints_text;
pub use tail::tail_text;

use adapter_api::{shown, steers};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, Connection},
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    pin::pin,
};
use time::OffsetDateTime;
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no gateway answers on {}: {why}", shown(&path.to_string_lossy()))]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What the system said, in words.
        why: &'static str,
    },
    /// It was not understood.
    #[error("the answer on {} could not be read", shown(&path.to_string_lossy()))]
    Unreadable {
        /// The socket.
        path: PathBuf,
    },
    /// It did not come to its end.
    #[error("the gateway on {} has ended, or the connection to it", shown(&path.to_string_lossy()))]
    Broken {
        /// The socket.
        path: PathBuf,
    },
    /// The gateway said no.
    #[error("{0}")]
    Refused(String),
}

/// No line of an answer is longer.
const LONGEST_LINE: usize = 4 << 20;

/// An answer that comes line by line. Dropping it tells the gateway that nobody listens any more.
#[derive(Debug)]
pub struct Lines {
    link: Link,
    body: Incoming,
    held: Vec<u8>,
    socket: PathBuf,
}

/// The connection of one exchange, which has to be driven while its answer is read.
#[derive(Debug)]
struct Link {
    connection: Option<Connection<TokioIo<UnixStream>, Full<Bytes>>>,
}

/// Asks one question.
pub async fn ask(socket: &Path, question: &str) -> Result<Value, AskError> {
    whole(socket, Request::get(question).body(Full::default())).await
}

/// Asks for something to be done.
pub async fn order(socket: &Path, path: &str, what: &Value) -> Result<Value, AskError> {
    whole(socket, posted(path, what)).await
}

/// What came of an order.
#[derive(Debug)]
pub struct Reply {
    /// Whether it was done.
    pub good: bool,
    /// As it was told; with `error` if it was not done.
    pub answer: Value,
}

/// Asks for something to be done, where a refusal says more than why.
pub async fn send(socket: &Path, path: &str, what: &Value) -> Result<Reply, AskError> {
    let (mut link, response) = respond(socket, posted(path, what)).await?;
    let good = response.status().is_success();
    Ok(Reply { good, answer: read(&mut link, response.into_body(), socket).await? })
}

/// Asks a question whose answer comes line by line.
pub async fn follow(socket: &Path, question: &str) -> Result<Lines, AskError> {
    lines(socket, Request::get(question).body(Full::default())).await
}

/// Asks a question of some length, whose answer comes line by line.
pub async fn follow_posted(socket: &Path, path: &str, question: &Value) -> Result<Lines, AskError> {
    lines(socket, posted(path, question)).await
}

type Asked = Result<Request<Full<Bytes>>, hyper::http::Error>;

fn posted(path: &str, what: &Value) -> Asked {
    let body = Full::new(Bytes::from(what.to_string()));
    Request::post(path).header("content-type", "application/json").body(body)
}

async fn whole(socket: &Path, request: Asked) -> Result<Value, AskError> {
    let (mut link, body) = exchange(socket, request).await?;
    read(&mut link, body, socket).await
}

async fn read(link: &mut Link, body: Incoming, socket: &Path) -> Result<Value, AskError> {
    let unreadable = || AskError::Unreadable { path: socket.to_owned() };
    let body = link.during(body.collect()).await.map_err(|_| unreadable())?.to_bytes();
    serde_json::from_slice(&body).map_err(|_| unreadable())
}

async fn lines(socket: &Path, request: Asked) -> Result<Lines, AskError> {
    let (link, body) = exchange(socket, request).await?;
    Ok(Lines { link, body, held: Vec::new(), socket: socket.to_owned() })
}

/// One request, and the answer that is to be read, if it is one.
async fn exchange(socket: &Path, request: Asked) -> Result<(Link, Incoming), AskError> {
    let (mut link, response) = respond(socket, request).await?;
    let good = response.status().is_success();
    let body = response.into_body();
    if good {
        return Ok((link, body));
    }
    let why = read(&mut link, body, socket).await?;
    let unreadable = || AskError::Unreadable { path: socket.to_owned() };
    let why = why.get("error").and_then(Value::as_str).ok_or_else(unreadable)?;
    Err(AskError::Refused(shown(why).to_string()))
}

async fn respond(socket: &Path, request: Asked) -> Result<(Link, Response<Incoming>), AskError> {
    let unreadable = || AskError::Unreadable { path: socket.to_owned() };
    let mut request = request.map_err(|_| unreadable())?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("tidegate"));
    let stream = connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| unreadable())?;
    let mut link = Link { connection: Some(connection) };
    let response = link.during(sender.send_request(request)).await.map_err(|_| unreadable())?;
    Ok((link, response))
}

impl Link {
    /// Drives the connection until this is done.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(connection) = &mut self.connection {
            tokio::select! {
                done = &mut work => return done,
                _ended = connection => {}
            }
            self.connection = None;
        }
        work.await
    }
}

impl Lines {
    /// The next line; `None` at the end of the answer.
    pub async fn next(&mut self) -> Result<Option<Value>, AskError> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|_| self.unreadable());
            }
            if self.held.len() > LONGEST_LINE {
                return Err(self.unreadable());
            }
            match self.link.during(self.body.frame()).await {
                None => return Ok(None),
                Some(Err(_)) => return Err(AskError::Broken { path: self.socket.clone() }),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.held.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    fn unreadable(&self) -> AskError {
        AskError::Unreadable { path: self.socket.clone() }
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, AskError> {
    UnixStream::connect(socket).await.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "this user may not use the socket; be root or a member of its group"
            }
            io::ErrorKind::NotFound => "there is no such socket; is it running? (systemctl status tidegate)",
            _ => "nobody listens; is it running? (systemctl status tidegate)",
        };
        AskError::Silent { path: socket.to_owned(), why }
    })
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

/// Any answer for scripts: JSON in which nothing steers a terminal.
pub fn json_text(answer: &Value) -> String {
    let mut out = String::new();
    for c in answer.to_string().chars() {
        // All of these are in strings, and in the plane that one escape reaches.
        if steers(c) {
            let _infallible = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// What there is to say of the configuration: nothing, where all of it is in force.
fn configuration_lines(out: &mut String, configuration: &Value) {
    if !at(configuration, "fault").is_null() {
        fault_lines(out, at(configuration, "fault"));
    }
    if !at(configuration, "late").is_null() {
        fault_lines(out, at(configuration, "late"));
    }
    for (key, what) in
        [("needs_process_restart", "with a restart of the process only"), ("disabled", "disabled by command")]
    {
        let names: Vec<String> =
            list(configuration, key).filter_map(Value::as_str).map(|name| shown(name).to_string()).collect();
        if !names.is_empty() {
            line(out, "config", &format!("{what}: {}", names.join(", ")));
        }
    }
}

/// `tidegate status` for people.
pub fn status_text(answer: &Value) -> String {
    let mut out = String::new();
    configuration_lines(&mut out, at(answer, "configuration"));
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
    let parked: u64 = sum(at(uplink, "parked_codes"), |_| true);
    more(&mut out, parked, list(uplink, "parked").count(), "endpoints are parked");
    let ledger = at(answer, "ledger");
    let terms =
        ["offered", "refused", "suppressed", "stored", "landed", "queued", "dropped", "dead", "discarded"];
    let sums = terms.map(|term| format!("{term} {}", text(ledger, term)));
    line(&mut out, "ledger", &sums.join("  "));
    list(answer, "faults").for_each(|fault| fault_lines(&mut out, fault));
    for (reason, samples) in at(answer, "reasons").as_object().into_iter().flatten() {
        let dropped = reason.strip_prefix("dropped(").and_then(|r| r.strip_suffix(')'));
        let range = dropped.map(|why| range_text(at(at(answer, "drops"), why))).unwrap_or_default();
        line(&mut out, "", &format!("{}: {samples}{range}", shown(reason)));
    }
    line(&mut out, "autonomy", &autonomy_text(at(answer, "autonomy")));
    if !at(answer, "store_full").is_null() {
        fault_lines(&mut out, at(answer, "store_full"));
    }
    let over: Vec<&Value> = list(answer, "quotas").filter(|quota| !at(quota, "fault").is_null()).collect();
    for quota in over.iter().take(FAULTS) {
        fault_lines(&mut out, at(quota, "fault"));
    }
    let over_quota = at(answer, "over_quota").as_u64().unwrap_or_default();
    more(&mut out, over_quota, over.len().min(FAULTS), "endpoints are over their quotas");
    for unit in list(answer, "units") {
        let words = [text(unit, "state"), text(unit, "why"), text(unit, "health")];
        line(&mut out, &text(unit, "name"), &join(&words));
        list(unit, "faults").for_each(|fault| fault_lines(&mut out, fault));
        for (wire, load) in at(unit, "wires").as_object().into_iter().flatten() {
            let busy = at(load, "busy").as_f64().unwrap_or_default() * 100.0;
            line(&mut out, &format!("  {}", shown(wire)), &format!("{busy:.0} % busy in the last minute"));
        }
        let mut listed = 0;
        for (endpoint, device) in at(unit, "devices").as_object().into_iter().flatten() {
            if text(device, "presence") != "online" {
                listed += 1;
                let words = [text(device, "presence"), text(device, "code"), text(device, "why")];
                line(&mut out, &format!("  {}", shown(endpoint)), &join(&words));
            }
        }
        let away = sum(at(unit, "presence"), |presence| presence != "online");
        more(&mut out, away, listed, "devices are not online");
    }
    out
}

/// Those that are not listed.
fn more(out: &mut String, all: u64, listed: usize, what: &str) {
    let left = all.saturating_sub(u64::try_from(listed).unwrap_or(u64::MAX));
    if left > 0 {
        line(out, "", &format!("{left} more {what}"));
    }
}

/// Of an object of counts.
fn sum(counts: &Value, which: impl Fn(&str) -> bool) -> u64 {
    let counts = counts.as_object().into_iter().flatten().filter(|(name, _)| which(name));
    counts.filter_map(|(_, count)| count.as_u64()).sum()
}

/// Faults of one kind that are shown in full.
const FAULTS: usize = 3;

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
    for quota in list(answer, "quotas") {
        let limit = format!("{} = {}", text(quota, "quota"), text(quota, "limit"));
        let state =
            if at(quota, "over") == &Value::Bool(true) { "over its quota" } else { "was over its quota" };
        let refused: u64 =
            at(quota, "refused").as_object().into_iter().flatten().filter_map(|r| r.1.as_u64()).sum();
        line(&mut out, &text(quota, "endpoint"), &format!("{state}  {limit}  {refused} refused"));
    }
    line(&mut out, "autonomy", &autonomy_text(at(answer, "autonomy")));
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
    let (told, total) = (list(answer, "dead").count(), at(answer, "total").as_u64().unwrap_or_default());
    if u64::try_from(told).is_ok_and(|told| told < total) {
        let _infallible = writeln!(out, "the youngest {told} of {total}");
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

/// How long the store can go on taking samples, should none go up.
fn autonomy_text(autonomy: &Value) -> String {
    let room = at(autonomy, "room_bytes").as_f64().map(bytes_text).unwrap_or_default();
    let (Some(hours), Some(rate)) = (at(autonomy, "hours").as_f64(), at(autonomy, "bytes_per_s").as_f64())
    else {
        return format!("unknown: there is room for {room}, and no rate yet at which it is used");
    };
    let refuses = at(autonomy, "then") == "refuse";
    let what = if refuses { "new readings are refused" } else { "the oldest readings are dropped" };
    let limit = match text(autonomy, "limit").as_str() {
        "age" => "store.max_age",
        "free_space" => "store.min_free",
        _ => "store.max_bytes",
    };
    let long = match hours {
        _ if at(autonomy, "over_a_year") == &Value::Bool(true) => "more than a year".to_owned(),
        hours if hours < 0.1 => return format!("none left: {what} ({limit})"),
        hours if hours < 100.0 => format!("{hours:.1} h"),
        hours => format!("{:.0} days", (hours / 24.0).floor()),
    };
    format!("{long} at {}/s, if nothing goes up; then {what} ({limit})", bytes_text(rate))
}

/// From when to when what was dropped had been read, in UTC.
fn range_text(drops: &Value) -> String {
    let moment = |key| at(drops, key).as_i64().and_then(moment_text);
    match (moment("first_us"), moment("last_us")) {
        (Some(first), Some(last)) => format!("  of {first} to {last} UTC"),
        _ => String::new(),
    }
}

/// A wall time in UTC.
fn moment_text(us: i64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(us.div_euclid(1_000_000)).ok()?;
    let ((hour, minute, second), month) = (at.to_hms(), u8::from(at.month()));
    Some(format!("{:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}", at.year(), at.day()))
}

fn bytes_text(bytes: f64) -> String {
    match bytes {
        few if few < 1_000.0 => format!("{few:.0} B"),
        kilo if kilo < 1_000_000.0 => format!("{:.1} kB", kilo / 1_000.0),
        mega if mega < 1_000_000_000.0 => format!("{:.1} MB", mega / 1_000_000.0),
        giga => format!("{:.1} GB", giga / 1_000_000_000.0),
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
        Value::String(text) => brief(text),
        other => brief(&other.to_string()),
    }
}

/// A long text is cut: a line for people is read by people.
fn brief(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => {
            let start = text.get(..end).unwrap_or_default();
            format!("{}... ({} bytes)", shown(start), text.len())
        }
        None => shown(text).to_string(),
    }
}

/// In characters.
const LONGEST: usize = 512;

#[cfg(test)]
mod tests;
