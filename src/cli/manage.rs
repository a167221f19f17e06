//! `tidegate reload`, `endpoint enable|disable`, `log`: what changes the running gateway.

use super::{Ask, EX_CONFIG};
use crate::{
    control::client::{Reply, json_text, segment, send},
    log::Level,
};
use adapter_api::{clock, shown};
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

/// Adapters that stop may take their time.
const PATIENCE: Duration = Duration::from_secs(60);

/// `tidegate endpoint`
#[derive(Debug, Subcommand)]
pub(super) enum Switch {
    /// Take its samples again
    Enable(Which),
    /// Take no samples of it, until it is enabled
    Disable(Which),
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// The endpoint
    endpoint: String,
    #[command(flatten)]
    ask: Ask,
}

/// `tidegate log`
#[derive(Debug, Args)]
pub(super) struct Telling {
    /// How much
    level: Level,
    /// Of one part of the program only, such as tidegate::uplink
    target: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

pub(super) async fn reload(ask: Ask) -> anyhow::Result<ExitCode> {
    let json = ask.json;
    let reply = asked(ask, "/v1/reload", &Value::Null).await?;
    if json || reply.good {
        return told(&reply, json);
    }
    let findings: Vec<&str> = reply
        .answer
        .get("findings")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for finding in &findings {
        // A finding has two lines.
        finding.lines().try_for_each(|line| writeln!(io::stderr(), "{}", shown(line)))?;
    }
    if findings.is_empty() {
        return told(&reply, json);
    }
    writeln!(io::stderr(), "not reloaded: what runs goes on as it was")?;
    Ok(ExitCode::from(EX_CONFIG))
}

pub(super) async fn switch(switch: Switch) -> anyhow::Result<ExitCode> {
    let (which, verb) = match switch {
        Switch::Enable(which) => (which, "enable"),
        Switch::Disable(which) => (which, "disable"),
    };
    let json = which.ask.json;
    let path = format!("/v1/endpoint/{}/{verb}", segment(&which.endpoint));
    told(&asked(which.ask, &path, &Value::Null).await?, json)
}

pub(super) async fn log(telling: Telling) -> anyhow::Result<ExitCode> {
    let json = telling.ask.json;
    let wanted = json!({ "level": telling.level, "target": telling.target });
    let reply = asked(telling.ask, "/v1/log", &wanted).await?;
    if json || !reply.good {
        return told(&reply, json);
    }
    let part = telling.target.as_deref().map_or_else(String::new, |target| format!(" {}", shown(target)));
    let level = telling.level.name();
    writeln!(io::stdout(), "the journal tells{part} at level {level} until the next start or reload")?;
    if let Some(environment) = reply.answer.get("environment").and_then(Value::as_str) {
        let environment = shown(environment);
        writeln!(
            io::stdout(),
            "all else is as TIDEGATE_LOG={environment} in its environment says, not [log]"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn asked(ask: Ask, path: &str, body: &Value) -> anyhow::Result<Reply> {
    let socket = super::socket(&ask)?;
    let asked = clock::timeout(PATIENCE, send(&socket, path, body)).await;
    Ok(asked.with_context(|| format!("the gateway on {} does not answer", socket.display()))??)
}

/// What came of it, for scripts or for people.
fn told(reply: &Reply, json: bool) -> anyhow::Result<ExitCode> {
    let text = |key: &str| reply.answer.get(key).and_then(Value::as_str).unwrap_or_default();
    if json {
        writeln!(io::stdout(), "{}", json_text(&reply.answer))?;
    } else if reply.good {
        writeln!(io::stdout(), "{}", shown(text("words")))?;
        let keys = reply.answer.pointer("/plan/needs_process_restart").and_then(Value::as_array);
        let keys: Vec<&str> = keys.into_iter().flatten().filter_map(Value::as_str).collect();
        if !keys.is_empty() {
            writeln!(io::stdout(), "changes with a restart of the process only: {}", keys.join(", "))?;
        }
    } else {
        anyhow::bail!("{}", text("error"));
    }
    Ok(if reply.good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
