//! The test adapter: devices push lines over TCP and get one answer per line, in order. The witness
//! of crash tests: whatever it said `ok` to has to arrive.
//!
//! ```text
//! -> [poison] ENDPOINT NUMBER|FIRST-LAST [urgent|relaxed] [bytes=N] [name=HEX] [text=HEX]
//! <- ok NUMBER|FIRST-LAST  |  refused NUMBER|FIRST-LAST REASON  |  error WHY
//! ```
//! A range is one submission of several samples. Each sample has the resource `n`, with `bytes=N`
//! also the text `pad` of N bytes, with `poison` also `poison = true`. With `text=HEX` it has these bytes as a text
//! besides, as a careless adapter would take them, by the name `text` or by another one.
//!
//! A line `panic` makes the adapter panic, and `block SECONDS` keeps its thread from turning for so long: what
//! no adapter should do, to see what that does to others.

use crate::{
    Adapter, AdapterCx, CancellationToken, Clock, Devices, EndpointName, Failure, Health, Intake, Issue,
    Place, Presence, Reading, Receipt, Refused, Reporter, Resource, Sample, SubmitError, Urgency, Value,
    clock::{Bell, now, sleep, timeout},
    journal::Seldom,
};
use serde::Deserialize;
use std::{
    collections::{BTreeSet, VecDeque},
    future::Future,
    io,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// The adapter.
#[derive(Debug, Clone, Copy)]
pub struct Test;

/// A `[adapters.test.NAME]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens, as `"127.0.0.1:0"`.
    pub listen: String,
    /// Where it writes the port it got.
    pub port_file: Option<PathBuf>,
}

/// A `[endpoints.NAME.test]` table: has no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {}

/// Lines a client may have unanswered; beyond them nothing more is read.
pub const PIPELINED: usize = 64;
/// Samples in one line.
const BATCH: i64 = 10_000;
/// Bytes of padding.
const PAD: usize = 1 << 20;
/// After the shutdown was asked for, so long for the last answers.
const GRACE: Duration = Duration::from_secs(1);

impl Adapter for Test {
    const KIND: &'static str = "test";
    const ANSWERS_DEVICES: bool = true;
    type Config = Config;
    type Device = Device;

    fn check(config: &Config, _: &Devices<Device>) -> Vec<Issue> {
        if config.listen.parse::<SocketAddr>().is_ok() {
            return Vec::new();
        }
        vec![Issue {
            place: Place::Config,
            path: vec!["listen".to_owned()],
            why: "not an address with a port".to_owned(),
            hint: Some(r#"write it as "127.0.0.1:0""#.to_owned()),
        }]
    }

    fn resources(_: &Device) -> Vec<Resource> {
        Resource::new("n").into_iter().collect()
    }

    async fn run(config: Config, mut cx: AdapterCx<Device>) -> Result<(), Failure> {
        let listener =
            listen(&config).await.map_err(|error| Failure(format!("{}: {}", config.listen, error.kind())))?;
        cx.report.health(Health::Up);
        cx.inquiries.close();
        let (mut clients, mut refusals) = (JoinSet::new(), Seldom::new());
        let mut known = BTreeSet::new();
        let mut configured = true;
        loop {
            let devices = cx.devices.borrow_and_update().clone();
            for endpoint in known.iter().filter(|endpoint| !devices.contains_key(*endpoint)) {
                cx.report.forget(endpoint);
            }
            known = devices.keys().cloned().collect();
            cx.report.devices(known.len());
            // All arms are cancel-safe.
            tokio::select! {
                biased;
                () = cx.shutdown.cancelled() => break,
                changed = cx.devices.changed(), if configured => configured = changed.is_ok(),
                Some(ended) = clients.join_next() => {
                    // As an adapter that breaks on what one device sends.
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        clients.spawn(Client::new(&cx).serve(stream));
                    }
                    // Out of descriptors, most likely: trying at once would spin.
                    Err(error) => {
                        if let Some(left_out) = refusals.tell(now()) {
                            tracing::warn!(%error, left_out, "cannot accept");
                        }
                        sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        let drained = async { while clients.join_next().await.is_some() {} };
        if timeout(GRACE + GRACE / 2, drained).await.is_err() {
            tracing::warn!("stopped before all clients were answered");
        }
        Ok(())
    }
}

async fn listen(config: &Config) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(&config.listen).await?;
    if let Some(path) = &config.port_file {
        write_whole(path, &listener.local_addr()?.port().to_string())?;
    }
    Ok(listener)
}

/// A reader sees the whole file or none.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}

/// One connection.
struct Client {
    devices: watch::Receiver<Arc<Devices<Device>>>,
    intake: Intake,
    report: Reporter,
    clock: Clock,
    shutdown: CancellationToken,
    /// What is still to be answered, oldest first.
    owed: VecDeque<Pin<Box<dyn Future<Output = String> + Send>>>,
}

impl Client {
    fn new(cx: &AdapterCx<Device>) -> Self {
        Self {
            devices: cx.devices.clone(),
            intake: cx.intake.clone(),
            report: cx.report.clone(),
            clock: cx.clock.clone(),
            shutdown: cx.shutdown.clone(),
            owed: VecDeque::new(),
        }
    }

    async fn serve(mut self, mut stream: TcpStream) {
        let shutdown = self.shutdown.clone();
        let late = async {
            shutdown.cancelled().await;
            sleep(GRACE).await;
        };
        tokio::select! {
            result = self.converse(&mut stream) => if let Err(error) = result {
                tracing::debug!(%error, "client is gone");
            },
            () = late => {}
        }
    }

    /// Until the client has closed its half, or the shutdown, and everything is answered.
    async fn converse(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let (reader, mut writer) = stream.split();
        let mut lines = BufReader::new(reader).lines();
        let mut reading = true;
        while reading || !self.owed.is_empty() {
            let room = self.owed.len() < PIPELINED;
            // All arms are cancel-safe; what a line asks for is done below.
            tokio::select! {
                biased;
                () = self.shutdown.cancelled(), if reading => reading = false,
                answer = oldest(&mut self.owed) => {
                    writer.write_all(format!("{answer}\n").as_bytes()).await?;
                }
                line = lines.next_line(), if reading && room => match line? {
                    Some(line) => self.take(&line).await,
                    None => reading = false,
                },
            }
        }
        writer.shutdown().await
    }

    async fn take(&mut self, line: &str) {
        misbehave(line);
        let push = match Push::parse(line) {
            Ok(push) => push,
            Err(why) => return self.owe(std::future::ready(format!("error {why}"))),
        };
        if self.devices.borrow().contains_key(&push.endpoint) {
            self.report.presence(&push.endpoint, Presence::Online);
        }
        let numbers = push.shown();
        match self.intake.submit(&push.endpoint, push.samples(&self.clock), push.urgency).await {
            Ok(receipt) => self.owe(answer(numbers, receipt)),
            Err(error) => {
                let reason = match error {
                    SubmitError::TooLarge { .. } => "too-large",
                    SubmitError::Empty => "empty",
                    SubmitError::Closed => "closed",
                };
                self.owe(std::future::ready(format!("refused {numbers} {reason}")));
            }
        }
    }

    fn owe(&mut self, answer: impl Future<Output = String> + Send + 'static) {
        self.owed.push_back(Box::pin(answer));
    }
}

/// What no adapter should do, where the line says so.
#[expect(clippy::panic, reason = "this is what the line asks for")]
fn misbehave(line: &str) {
    if line == "panic" {
        panic!("on purpose");
    }
    let seconds = line.strip_prefix("block ").and_then(|seconds| seconds.parse().ok());
    if let Some(seconds) = seconds {
        Bell::default().wait(Some(now() + Duration::from_secs(seconds)));
    }
}

/// `ok` is said after the commit only (I1).
async fn answer(numbers: String, receipt: Receipt) -> String {
    let reason = match receipt.committed().await {
        Ok(()) => return format!("ok {numbers}"),
        Err(Refused::Full) => "full",
        Err(Refused::Unknown) => "unknown",
        Err(Refused::OverQuota(quota)) => quota.key(),
        Err(Refused::Failed) => "failed",
        Err(Refused::Closed) => "closed",
    };
    format!("refused {numbers} {reason}")
}

/// The next answer; waits for ever if none is owed. Cancel-safe.
async fn oldest(owed: &mut VecDeque<Pin<Box<dyn Future<Output = String> + Send>>>) -> String {
    match owed.front_mut() {
        Some(answer) => {
            let answer = answer.await;
            owed.pop_front();
            answer
        }
        None => std::future::pending().await,
    }
}

/// One line.
#[derive(Debug, PartialEq)]
struct Push {
    endpoint: EndpointName,
    numbers: RangeInclusive<i64>,
    urgency: Urgency,
    pad: usize,
    poison: bool,
    name: Option<String>,
    text: Option<String>,
}

impl Push {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut words = line.split_ascii_whitespace().peekable();
        let poison = words.next_if_eq(&"poison").is_some();
        let endpoint = words.next().ok_or("an endpoint is missing")?;
        let endpoint = EndpointName::new(endpoint).map_err(|_| "not the name of an endpoint")?;
        let numbers = words.next().ok_or("a number is missing")?;
        let number = |text: &str| text.parse::<i64>().map_err(|_| "not a number");
        let numbers = match numbers.split_once('-').filter(|(first, _)| !first.is_empty()) {
            Some((first, last)) => number(first)?..=number(last)?,
            None => number(numbers)?..=number(numbers)?,
        };
        if numbers.is_empty() || numbers.end().saturating_sub(*numbers.start()) >= BATCH {
            return Err("a range has 1 to 10000 numbers");
        }
        let mut push =
            Self { endpoint, numbers, urgency: Urgency::Urgent, pad: 0, poison, name: None, text: None };
        for word in words {
            if let Some(hex) = word.strip_prefix("name=") {
                push.name = Some(words_of(hex)?);
                continue;
            }
            if let Some(hex) = word.strip_prefix("text=") {
                push.text = Some(words_of(hex)?);
                continue;
            }
            match (word, word.strip_prefix("bytes=")) {
                ("urgent", _) => push.urgency = Urgency::Urgent,
                ("relaxed", _) => push.urgency = Urgency::Relaxed,
                (_, Some(bytes)) => {
                    let bytes = bytes.parse().ok().filter(|bytes| *bytes <= PAD);
                    push.pad = bytes.ok_or("bytes are a number up to 1048576")?;
                }
                _ => return Err("only urgent, relaxed and bytes=N may follow"),
            }
        }
        Ok(push)
    }

    fn shown(&self) -> String {
        let (first, last) = (self.numbers.start(), self.numbers.end());
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    }

    fn samples(&self, clock: &Clock) -> Vec<Sample> {
        let reading = |name: &str, value: Value| {
            Resource::new(name).ok().map(|resource| Reading::measured(resource, value))
        };
        let sample = |n: i64| {
            let pad = (self.pad > 0).then(|| Value::Text("x".repeat(self.pad)));
            let poison = self.poison.then_some(Value::Bool(true));
            let text = self.text.clone().map(Value::Text);
            let name = self.name.as_deref().unwrap_or("text");
            let values = [("n", Some(Value::Int(n))), ("pad", pad), ("poison", poison), (name, text)];
            let readings = values.into_iter().filter_map(|(name, value)| reading(name, value?)).collect();
            Sample { at: clock.stamp(), readings }
        };
        self.numbers.clone().map(sample).collect()
    }
}

/// Bytes in hexadecimal, as text; what is not UTF-8 is replaced.
fn words_of(hex: &str) -> Result<String, &'static str> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or("not hexadecimal")?;
    let pairs = digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| (byte << 4) | digit));
    Ok(String::from_utf8_lossy(&pairs.collect::<Vec<u8>>()).into_owned())
}

#[cfg(test)]
#[path = "test_adapter_tests.rs"]
mod tests;
