//! `tidegate tail`: readings as they are committed, until Ctrl-C, the reader's or the gateway's end.

use super::{Ask, socket};
use crate::control::client;
use clap::Args;
use serde_json::Value;
use std::{
    io::{self, Write},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};

/// Whose readings.
#[derive(Debug, Args)]
pub(super) struct Tail {
    /// One endpoint only
    endpoint: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

/// Does what was typed.
pub(super) async fn run(tail: Tail) -> anyhow::Result<ExitCode> {
    let whose = tail.endpoint.map(|name| format!("?endpoint={}", client::segment(&name))).unwrap_or_default();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut lines = client::follow(&socket(&tail.ask)?, &format!("/v1/tail{whose}")).await?;
    loop {
        // A line that is cut short by the end is not printed.
        let line = tokio::select! {
            line = lines.next() => line?,
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        };
        match line {
            // Where nobody reads any more, `main` knows what that means.
            Some(line) => say(&line, tail.ask.json)?,
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// Readings for whoever reads; what is said beside them, for people on standard error.
fn say(line: &Value, json: bool) -> io::Result<()> {
    if json {
        return writeln!(io::stdout(), "{}", client::json_text(line));
    }
    let text = client::tail_text(line);
    match line.get("endpoint") {
        Some(_) => writeln!(io::stdout(), "{text}"),
        None => writeln!(io::stderr(), "{text}"),
    }
}
