//! `tidegate diff FILE`: what a file would change. Nothing is changed by it, and no secret is printed (I11).

use super::{Ask, EX_CONFIG, PATIENCE};
use crate::{
    config::{self, Config, Findings},
    control::client,
    reload::{
        self, Plan,
        plan::{UnitChange, UplinkChange},
    },
};
use adapter_api::{EndpointName, clock, shown};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// What the running gateway knows.
struct Running {
    /// Queued samples by endpoint.
    queued: BTreeMap<String, u64>,
    disabled: BTreeSet<EndpointName>,
    /// It does not run on the file that is installed.
    other: Option<String>,
}

pub(super) async fn diff(file: &Path, ask: Ask) -> anyhow::Result<ExitCode> {
    let installed = &ask.file.config;
    let (old, new) = match (Config::load(installed), Config::load_as(file, installed)) {
        (Ok((old, _)), Ok((new, _))) => (old, new),
        (Err(findings), _) | (_, Err(findings)) => return refuse(&findings),
    };
    let socket = ask.socket.unwrap_or_else(|| config::control_socket(installed));
    let running = running(&socket).await;
    let disabled = running.as_ref().map(|running| running.disabled.clone()).unwrap_or_default();
    let plan = reload::plan(&old.without(&disabled), &new.without(&disabled));
    let queued = running.as_ref().map(|running| &running.queued);
    let orphaned = queued.map(|queued| {
        let of = |name: &EndpointName| Some((name.as_str().to_owned(), *queued.get(name.as_str())?));
        plan.endpoints.removed.iter().filter_map(of).filter(|(_, rows)| *rows > 0).collect::<BTreeMap<_, _>>()
    });
    let note = match &running {
        None => Some(format!(
            "no gateway answers on {}: compared with {}, and what is queued is not known",
            socket.display(),
            installed.display()
        )),
        Some(running) => running.other.as_ref().map(|why| {
            format!("the gateway does not run on {}, which was compared: {why}", installed.display())
        }),
    };
    if ask.json {
        let mut answer = plan.json();
        if let Some(members) = answer.as_object_mut() {
            members.insert("orphaned".to_owned(), json!(orphaned));
            members.insert("note".to_owned(), json!(note));
        }
        writeln!(io::stdout(), "{}", client::json_text(&answer))?;
    } else {
        write!(io::stdout(), "{}", text(&plan, orphaned.as_ref(), note.as_deref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn refuse(findings: &Findings) -> anyhow::Result<ExitCode> {
    writeln!(io::stderr(), "{findings}")?;
    Ok(ExitCode::from(EX_CONFIG))
}

/// What the gateway says, if it answers.
async fn running(socket: &Path) -> Option<Running> {
    let ask = async |question| clock::timeout(PATIENCE, client::ask(socket, question)).await.ok()?.ok();
    let (status, queue) = (ask("/v1/status").await?, ask("/v1/queue").await?);
    let mut queued: BTreeMap<String, u64> = BTreeMap::new();
    for lane in queue.get("lanes").and_then(Value::as_array).into_iter().flatten() {
        let endpoint = lane.get("endpoint").and_then(Value::as_str).unwrap_or_default();
        // Of another tenant it is `tenant/name`; names are unique all the same.
        let name = endpoint.rsplit('/').next().unwrap_or(endpoint);
        *queued.entry(name.to_owned()).or_default() +=
            lane.get("queued").and_then(Value::as_u64).unwrap_or(0);
    }
    let disabled = status.pointer("/configuration/disabled").and_then(Value::as_array);
    let disabled = disabled.into_iter().flatten().filter_map(Value::as_str);
    let disabled = disabled.filter_map(|name| EndpointName::new(name).ok()).collect();
    let other = status.pointer("/configuration/fault/what").and_then(Value::as_str).map(str::to_owned);
    Some(Running { queued, disabled, other })
}

/// For people: each line says what would be done, and to whom.
fn text(plan: &Plan, orphaned: Option<&BTreeMap<String, u64>>, note: Option<&str>) -> String {
    let mut out = String::new();
    let mut line = |what: &str, whom: &str| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(out, "{what:<10} {}", shown(whom));
    };
    for (change, verb) in
        [(UnitChange::Stop, "stop"), (UnitChange::Restart, "restart"), (UnitChange::Start, "start")]
    {
        plan.units_that(change).for_each(|unit| line(verb, unit));
    }
    match plan.uplink {
        UplinkChange::Keep => {}
        UplinkChange::Directory => line("live", "uplink: subscriptions, without a new connection"),
        UplinkChange::Start => line("start", "uplink"),
        UplinkChange::Stop => line("stop", "uplink"),
        UplinkChange::Restart => line("restart", "uplink: a new connection"),
    }
    let changes = &plan.endpoints;
    for (former, present) in &changes.renamed {
        line("live", &format!("endpoint {former} is called {present}; what is queued goes along"));
    }
    for (names, what) in [
        (&changes.added, "added"),
        (&changes.removed, "removed"),
        (&changes.token, "another token"),
        (&changes.enabled, "enabled"),
        (&changes.disabled, "disabled"),
        (&changes.rules, "other quotas, report rules or names"),
        (&changes.devices, "what is read of it"),
    ] {
        names.iter().for_each(|name| line("live", &format!("endpoint {name}: {what}")));
    }
    plan.live.iter().for_each(|key| line("live", key));
    for (endpoint, rows) in orphaned.into_iter().flatten() {
        line("orphaned", &format!("{rows} queued samples of {endpoint}: kept, and sent when it comes back"));
    }
    plan.needs_process_restart
        .iter()
        .for_each(|key| line("later", &format!("{key}: with a restart of the process")));
    if plan.is_empty() {
        line("nothing", "would change");
    }
    if let Some(note) = note {
        line("note", note);
    }
    out
}
