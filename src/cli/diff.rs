//! `tidegate diff FILE`: what a file would change. Nothing is changed by it, and no secret is printed (I11).

use super::{Ask, EX_CONFIG, PATIENCE};
use crate::{
    config::{Config, Findings},
    control::client,
    endpoints::{Directory, EndpointKey, Fate, Tenant},
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
    /// Queued samples by the keys they are under.
    queued: BTreeMap<EndpointKey, u64>,
    disabled: BTreeSet<EndpointName>,
    /// It does not run on the file that is installed.
    other: Option<String>,
}

/// Queued samples that come to belong to somebody else, by their keys.
#[derive(Debug, Default, PartialEq, Eq)]
struct Owners {
    /// To nobody.
    orphaned: BTreeMap<String, u64>,
    /// From nobody to an endpoint of this name.
    adopted: BTreeMap<String, (u64, String)>,
}

pub(super) async fn diff(file: &Path, ask: Ask) -> anyhow::Result<ExitCode> {
    let installed = &ask.file.config;
    let (old, new) = match (Config::load(installed), Config::load_as(file, installed)) {
        (Ok((old, _)), Ok((new, _))) => (old, new),
        (Err(findings), _) | (_, Err(findings)) => return refuse(&findings),
    };
    let socket = super::socket(&ask)?;
    let running = running(&socket).await;
    let disabled = running.as_ref().map(|running| running.disabled.clone()).unwrap_or_default();
    let plan = reload::plan(&old.without(&disabled), &new.without(&new.by_present_names(&disabled)));
    let owners =
        running.as_ref().map(|running| Owners::of(&running.queued, &old.directory(), &new.directory()));
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
            let adopted = |owners: &Owners| -> BTreeMap<String, Value> {
                let adopted = owners.adopted.iter();
                adopted.map(|(of, (rows, by))| (of.clone(), json!({ "queued": rows, "by": by }))).collect()
            };
            members.insert("orphaned".to_owned(), json!(owners.as_ref().map(|owners| &owners.orphaned)));
            members.insert("adopted".to_owned(), json!(owners.as_ref().map(adopted)));
            members.insert("note".to_owned(), json!(note));
        }
        writeln!(io::stdout(), "{}", client::json_text(&answer))?;
    } else {
        write!(io::stdout(), "{}", text(&plan, owners.as_ref(), note.as_deref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Owners {
    /// As the store has it.
    fn of(queued: &BTreeMap<EndpointKey, u64>, before: &Directory, after: &Directory) -> Self {
        let mut owners = Self::default();
        for (key, rows) in queued.iter().filter(|(_, rows)| **rows > 0) {
            let was_nobodys = before.fate(key) == Fate::Orphaned;
            let name = |key: &EndpointKey| key.name.as_str().to_owned();
            match after.fate(key) {
                Fate::Orphaned if !was_nobodys => drop(owners.orphaned.insert(key.to_string(), *rows)),
                Fate::Stays if was_nobodys => {
                    drop(owners.adopted.insert(key.to_string(), (*rows, name(key))));
                }
                Fate::Goes(to) if was_nobodys => {
                    drop(owners.adopted.insert(key.to_string(), (*rows, name(&to))));
                }
                Fate::Orphaned | Fate::Stays | Fate::Goes(_) => {}
            }
        }
        owners
    }
}

/// As the control socket names it: of another tenant it is `tenant/name`.
fn key(endpoint: &str) -> Option<EndpointKey> {
    let (tenant, name) = match endpoint.split_once('/') {
        Some((tenant, name)) => (Tenant::new(&EndpointName::new(tenant).ok()?), name),
        None => (Tenant::default(), endpoint),
    };
    Some(EndpointKey { tenant, name: EndpointName::new(name).ok()? })
}

fn refuse(findings: &Findings) -> anyhow::Result<ExitCode> {
    writeln!(io::stderr(), "{findings}")?;
    Ok(ExitCode::from(EX_CONFIG))
}

/// What the gateway says, if it answers.
async fn running(socket: &Path) -> Option<Running> {
    let ask = async |question| clock::timeout(PATIENCE, client::ask(socket, question)).await.ok()?.ok();
    let (status, queue) = (ask("/v1/status").await?, ask("/v1/queue").await?);
    let mut queued: BTreeMap<EndpointKey, u64> = BTreeMap::new();
    for lane in queue.get("lanes").and_then(Value::as_array).into_iter().flatten() {
        let Some(key) = lane.get("endpoint").and_then(Value::as_str).and_then(key) else { continue };
        *queued.entry(key).or_default() += lane.get("queued").and_then(Value::as_u64).unwrap_or(0);
    }
    let disabled = status.pointer("/configuration/disabled").and_then(Value::as_array);
    let disabled = disabled.into_iter().flatten().filter_map(Value::as_str);
    let disabled = disabled.filter_map(|name| EndpointName::new(name).ok()).collect();
    let other = status.pointer("/configuration/fault/what").and_then(Value::as_str).map(str::to_owned);
    Some(Running { queued, disabled, other })
}

/// For people: each line says what would be done, and to whom.
fn text(plan: &Plan, owners: Option<&Owners>, note: Option<&str>) -> String {
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
    for (former, present) in &changes.merged {
        let what = format!("endpoint {former} becomes one with {present}; what is queued of it goes first");
        line("live", &what);
    }
    for (names, what) in [
        (&changes.added, "added"),
        (&changes.removed, "removed"),
        (&changes.token, "another token or tenant"),
        (&changes.enabled, "enabled"),
        (&changes.disabled, "disabled"),
        (&changes.rules, "other quotas, report rules or names"),
        (&changes.devices, "what is read of it"),
    ] {
        names.iter().for_each(|name| line("live", &format!("endpoint {name}: {what}")));
    }
    plan.live.iter().for_each(|key| line("live", key));
    for (endpoint, rows) in owners.into_iter().flat_map(|owners| &owners.orphaned) {
        line("orphaned", &format!("{rows} queued samples of {endpoint}: kept, and sent when it comes back"));
    }
    for (endpoint, (rows, by)) in owners.into_iter().flat_map(|owners| &owners.adopted) {
        line(
            "adopted",
            &format!("{rows} queued samples of {endpoint}, which were nobody's: sent as those of {by}"),
        );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::secret::EndpointToken, endpoints::Endpoint, shape::quota::Quotas};

    /// The endpoints `tenant/name`, of which some were `former>present`.
    fn directory(endpoints: &str) -> Directory {
        let named = endpoints.split_whitespace().filter(|word| !word.contains('>')).map(|word| Endpoint {
            key: key(word).unwrap(),
            token: EndpointToken::new("T"),
            enabled: true,
            quotas: Quotas::default(),
            report: None,
            unit: None,
            name_on_wire: BTreeMap::new(),
        });
        let former = endpoints.split_whitespace().filter_map(|word| word.split_once('>'));
        let name = |name| EndpointName::new(name).unwrap();
        Directory::new(named).formerly(former.map(|(former, present)| (name(former), name(present))))
    }

    /// With three samples queued under each of these keys: `orphaned KEY` or `adopted KEY by NAME`.
    fn check(queued: &str, before: &str, after: &str, expected: &[&str]) {
        let queued = queued.split_whitespace().map(|word| (key(word).unwrap(), 3)).collect();
        let owners = Owners::of(&queued, &directory(before), &directory(after));
        let orphaned = owners.orphaned.keys().map(|key| format!("orphaned {key}"));
        let adopted = owners.adopted.iter().map(|(key, (_, by))| format!("adopted {key} by {by}"));
        assert_eq!(orphaned.chain(adopted).collect::<Vec<_>>(), expected, "{before} -> {after}");
    }

    #[test]
    fn what_is_queued_is_told_of_where_it_changes_hands_in_or_out_of_nobodys() {
        check("a b", "a b", "a b", &[]);
        check("a b", "a b", "a", &["orphaned b"]);
        // Called otherwise, and two in one.
        check("a b", "a b", "a c b>c", &[]);
        check("a b", "a b", "a b>a", &[]);
        check("a b", "a b", "c a>c b>c", &[]);
        // A former name is its own tenant's.
        check("b", "b", "x/c b>c", &["orphaned b"]);
        check("x/b", "x/b", "x/c b>c", &[]);
        check("b", "b", "x/b", &["orphaned b"]);
        // Nobody's already, before and after.
        check("a z", "a", "a", &[]);
        check("a z", "a", "a z", &["adopted z by z"]);
        check("a z", "a", "a z>a", &["adopted z by a"]);
        check("x/b b", "b", "x/b", &["orphaned b", "adopted x/b by b"]);
    }
}
