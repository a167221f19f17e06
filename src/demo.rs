//! `tidegate demo`: a whole site with a platform in one process, around the real gateway.
//!
//! ```text
//! field (meters on Modbus TCP) -> Daemon, as `run` starts it -> platform (MQTT over TLS, 1/KP)
//!    served: answers taken           ledger: read from the            decoded: distinct samples,
//!    by the socket                   database afterwards              by the meters' own numbers
//! ```
//! Three parties count for themselves; at the end the counts are laid side by side. No root, no other
//! program and no file is needed, and nothing is left behind.
//!
//! | file | responsible for |
//! |---|---|
//! | `meter` | one meter's registers and answers (sans-IO) |
//! | `field` | the meters' sockets, and what was answered there |
//! | `platform` | TLS, MQTT, going away |
//! | `filters` | who gets which answer (sans-IO) |
//! | `book` | 1/KP, and what the platform has written down (sans-IO) |
//! | `setup` | directory, certificates, configuration |
//! | `table` | what a person sees meanwhile |
//! | `tally` | the three counts |

mod book;
mod field;
mod filters;
mod meter;
mod platform;
mod setup;
mod table;
mod tally;
#[cfg(test)]
mod tests;

use crate::{daemon::Daemon, log, store};
use adapter_api::{Instant, clock};
use anyhow::Context;
use book::Book;
use clap::builder::RangedU64ValueParser;
use field::Field;
use platform::Platform;
use setup::{Identity, Scratch, Simulated};
use std::{
    io::{self, Write},
    ops::Range,
    process::ExitCode,
    time::Duration,
};
use table::{Look, Screen, Stage};
use tally::Tally;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

/// What may be used up until everything has landed, after polling has stopped.
const DRAIN: Duration = Duration::from_secs(30);
/// The queue counts as empty when it was for this long: longer than samples wait for their commit.
const EMPTY: Duration = Duration::from_millis(500);
/// Between looks at the queue while it drains.
const LOOK: Duration = Duration::from_millis(100);
/// The platform is away for a quarter of the run, at most for so long.
const AWAY: Duration = Duration::from_secs(15);
/// A look that takes longer is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// Options of `tidegate demo`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Seconds of polling, 1 to 3600
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Simulated endpoints, 1 to 2000; each is read once a second
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = RangedU64ValueParser::<usize>::new().range(1..=2000))]
    pub endpoints: usize,
    /// Only the last line, as JSON
    #[arg(long)]
    pub json: bool,
    /// Let the platform confirm one batch that it throws away: the records must not agree
    #[arg(long)]
    pub sabotage: bool,
}

/// Runs the demo. Fails if the three records do not agree.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    // The table owns the terminal.
    let log = std::env::var_os("TIDEGATE_LOG").is_some();
    if log {
        log::start();
    }
    let (_listening, mut interrupts) = interrupts().context("signals cannot be caught")?;
    let mut screen = Screen::stdout(options.json, log);
    let tally = play(&options, &mut screen, &mut interrupts).await?;
    let words = if options.json { String::new() } else { format!("\n{}", tally.text()) };
    let last = serde_json::to_string(&tally)?;
    let mut out = io::stdout();
    let written = writeln!(out, "{words}{last}").and_then(|()| out.flush());
    if !tally.agree {
        return Ok(ExitCode::FAILURE);
    }
    written?;
    Ok(ExitCode::SUCCESS)
}

/// A run under way.
struct Run<'a> {
    options: &'a Options,
    screen: &'a mut Screen,
    endpoints: Vec<Simulated>,
    field: Field,
    platform: Platform,
    daemon: Daemon,
    started: Instant,
    next_look: Instant,
    /// The last to go.
    scratch: Scratch,
}

/// Plays everything through. An interrupt ends the polling, a second one the draining.
async fn play(
    options: &Options,
    screen: &mut Screen,
    interrupts: &mut mpsc::Receiver<()>,
) -> anyhow::Result<Tally> {
    let mut run = Run::start(options, screen).await?;
    run.poll(interrupts).await?;
    run.daemon.stop_adapters().await;
    run.drain(interrupts).await?;
    run.finish().await
}

impl<'a> Run<'a> {
    async fn start(options: &'a Options, screen: &'a mut Screen) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let endpoints = setup::endpoints(options.endpoints);
        let field = Field::start(endpoints.len()).await.context("no simulated site")?;
        let identity = Identity::new().context("no certificates")?;
        let book = Book::new(endpoints.iter().map(|simulated| simulated.token.clone()), options.sabotage);
        let platform = Platform::start(identity.server, book).await.context("no simulated platform")?;
        let config =
            setup::configuration(&scratch, &endpoints, &field, &identity.authority, platform.port())?;
        let started = clock::now();
        let daemon = Daemon::start(config, None).await.context("the gateway did not start")?;
        Ok(Self { options, screen, endpoints, field, platform, daemon, started, next_look: started, scratch })
    }

    /// Until the time is over, or an interrupt.
    async fn poll(&mut self, interrupts: &mut mpsc::Receiver<()>) -> anyhow::Result<()> {
        let length = Duration::from_secs(self.options.seconds);
        let (end, away) = (self.started + length, away(self.started, length));
        loop {
            let now = clock::now();
            if now >= end {
                return Ok(());
            }
            self.platform.set_open(!away.contains(&now));
            self.look(now, Stage::Polling(now.since(self.started), length)).await;
            let pause = self.screen.pace().map(|_| self.next_look);
            let wake = [pause, Some(away.start), Some(away.end), Some(end)].into_iter().flatten();
            let wake = wake.filter(|at| *at > now).min().unwrap_or(end);
            // All arms are cancel-safe.
            tokio::select! {
                biased;
                () = self.daemon.store_died() => anyhow::bail!("the gateway's store has died"),
                Some(()) = interrupts.recv() => return Ok(()),
                () = clock::sleep_until(wake) => {}
            }
        }
    }

    /// Until everything has landed, or the time for that is over, or an interrupt.
    async fn drain(&mut self, interrupts: &mut mpsc::Receiver<()>) -> anyhow::Result<()> {
        self.platform.set_open(true);
        let end = clock::now() + DRAIN;
        let mut empty_since = None;
        loop {
            let figures = self.daemon.view().store.figures().await.context("the gateway's store has died")?;
            let now = clock::now();
            if figures.totals.queued > 0 {
                empty_since = None;
            }
            let since = if figures.totals.queued == 0 { *empty_since.get_or_insert(now) } else { now };
            if now.since(since) >= EMPTY || now >= end {
                // What is on the screen last should be how it ended.
                self.next_look = now;
                self.look(now, Stage::Draining).await;
                return Ok(());
            }
            self.look(now, Stage::Draining).await;
            // All arms are cancel-safe.
            tokio::select! {
                biased;
                () = self.daemon.store_died() => anyhow::bail!("the gateway's store has died"),
                Some(()) = interrupts.recv() => return Ok(()),
                () = clock::sleep(LOOK) => {}
            }
        }
    }

    /// Stops everything and counts.
    async fn finish(self) -> anyhow::Result<Tally> {
        let Self { field, platform, daemon, scratch, .. } = self;
        if daemon.stop().await.is_err() {
            writeln!(io::stderr(), "tidegate: the gateway's store did not stop in order")?;
        }
        let served = field.finish().await;
        let ledger = store::read_ledger(&scratch.state_dir()).context("the ledger cannot be read")?;
        let received = platform.book().received();
        Ok(Tally::new(served, ledger.into(), received))
    }

    /// Shows how it goes, if it is time.
    async fn look(&mut self, now: Instant, stage: Stage) {
        let Some(pace) = self.screen.pace().filter(|_| now >= self.next_look) else { return };
        self.next_look = now + pace;
        let view = self.daemon.view();
        let look = Look::take(&view, &self.platform, &self.endpoints, stage);
        if let Ok(Ok(look)) = clock::timeout(PATIENCE, look).await {
            self.screen.show(&look);
        }
    }
}

/// When the platform is away: from two fifths of the run on.
fn away(started: Instant, length: Duration) -> Range<Instant> {
    let gone = started + length * 2 / 5;
    gone..gone + (length / 4).min(AWAY)
}

/// Ctrl-C and SIGTERM, for as long as the first value lives.
fn interrupts() -> io::Result<(JoinSet<()>, mpsc::Receiver<()>)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Two of them say everything that can be said.
    let (tx, rx) = mpsc::channel(2);
    let mut listening = JoinSet::new();
    listening.spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if tx.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok((listening, rx))
}
