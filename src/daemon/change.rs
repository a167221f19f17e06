//! Another configuration while everything runs: what changed is stopped, told or started; the rest notices nothing.
//!
//! In this order: the store learns of endpoints and limits, for it alone may refuse, and what it refuses changes nothing
//! (I9); adapters that stay are told of their devices; those that go are stopped, and their last samples get in: until
//! then the store keeps the endpoints of theirs that leave; then it forgets these; then the uplink, then the adapters
//! that come.

use super::{ADAPTERS, Daemon, StartError, has_uplink};
use crate::{
    config::{Config, Finding, Findings, Severity, Uplink as UplinkChoice, excerpt},
    fault::{Code, Fault},
    log, memory,
    reload::{
        self, Plan,
        plan::{UnitChange, UplinkChange},
    },
    store::{Closed, Store},
    supervisor::UnitState,
};
use adapter_api::{EndpointName, clock, journal};
use std::{collections::BTreeSet, path::Path, sync::Arc};

/// Where the store keeps which endpoints were disabled on the command line.
const DISABLED: (&str, &str) = ("gateway", "disabled");

/// Why a configuration is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file is not taken. What runs goes on as it was.
    #[error("{0}")]
    File(Findings),
    /// It could not be applied. What runs goes on as it was.
    #[error("{0}")]
    Fault(Fault),
    /// It is in force, but for this.
    #[error("{0}")]
    Partly(Fault),
    /// The process has to end.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why an endpoint was neither enabled nor disabled.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// No such endpoint.
    #[error("no endpoint {0} in the configuration")]
    Unknown(EndpointName),
    /// The file goes before.
    #[error(
        "endpoint {0} has `enabled = false` in the configuration, which goes before: remove the line, and it is reloaded"
    )]
    File(EndpointName),
    /// The gateway speaks there.
    #[error("endpoint {0} is the gateway's own; remove gateway.endpoint first")]
    Own(EndpointName),
    /// It would not be known after a restart.
    #[error("it could not be written down, so nothing was changed; see `tidegate status`")]
    NotKept,
    /// See there.
    #[error(transparent)]
    Reload(#[from] ReloadError),
}

impl From<Closed> for SwitchError {
    fn from(closed: Closed) -> Self {
        Self::Reload(closed.into())
    }
}

/// The endpoints that were disabled on the command line, in this life or an earlier one.
pub(super) async fn disabled(store: &Store) -> Result<BTreeSet<EndpointName>, Closed> {
    let kept = store.keep(DISABLED.0, DISABLED.1, b"[]".to_vec()).await?;
    let names: Vec<String> = serde_json::from_slice(&kept).unwrap_or_default();
    Ok(names.iter().filter_map(|name| EndpointName::new(name).ok()).collect())
}

impl Daemon {
    /// Reads the file anew and applies it.
    pub async fn reload(&mut self, file: &Path) -> Result<Plan, ReloadError> {
        let loaded = Config::load(file);
        let outcome = match loaded {
            Ok((mut config, warnings)) => {
                config.share(&self.given);
                if self.warned != warnings {
                    tell(&warnings);
                    self.warned = warnings;
                }
                self.apply(config).await
            }
            Err(findings) => {
                // What was begun is finished, whatever became of the file since.
                if self.unfinished
                    && let Err(ReloadError::Closed(closed)) = self.apply(self.given.clone()).await
                {
                    return Err(closed.into());
                }
                Err(ReloadError::File(findings))
            }
        };
        let fault = match &outcome {
            Ok(_) => None,
            Err(ReloadError::File(findings)) => Some(refused(findings)),
            Err(ReloadError::Fault(fault) | ReloadError::Partly(fault)) => Some(fault.clone()),
            Err(ReloadError::Closed(_)) => return outcome,
        };
        self.told.fault = fault;
        if matches!(outcome, Ok(_) | Err(ReloadError::Partly(_))) {
            // Also if nothing in it changed: what `tidegate log` set ends here.
            log::keep_to(&self.config.log);
        }
        if outcome.is_ok() {
            self.told.loaded = clock::now();
            self.told.loads = self.told.loads.saturating_add(1);
        }
        self.show();
        // It tells of the fault, and of its end.
        journal::stir();
        outcome
    }

    /// Enables or disables an endpoint, beside the file and over restarts.
    pub async fn switch(&mut self, endpoint: &EndpointName, enabled: bool) -> Result<Plan, SwitchError> {
        let known = self.given.endpoints.iter().find(|known| known.key.name == *endpoint);
        match known {
            None if !enabled || !self.disabled.contains(endpoint) => {
                return Err(SwitchError::Unknown(endpoint.clone()));
            }
            Some(known) if enabled && !known.enabled => return Err(SwitchError::File(endpoint.clone())),
            _ if !enabled && self.given.gateway.endpoint.as_ref() == Some(endpoint) => {
                return Err(SwitchError::Own(endpoint.clone()));
            }
            _ => {}
        }
        let mut disabled = self.disabled.clone();
        if enabled {
            disabled.remove(endpoint)
        } else {
            disabled.insert(endpoint.clone())
        };
        if !self.keep_disabled(&disabled).await? {
            return Err(SwitchError::NotKept);
        }
        self.disabled = disabled;
        let applied = self.apply(self.given.clone()).await;
        self.show();
        Ok(applied?)
    }

    pub(super) async fn keep_disabled(&self, disabled: &BTreeSet<EndpointName>) -> Result<bool, Closed> {
        let names: Vec<&str> = disabled.iter().map(EndpointName::as_str).collect();
        let text = serde_json::Value::from(names).to_string().into_bytes();
        self.store.put(DISABLED.0, DISABLED.1, text).await
    }

    /// Whether something of the configuration is still to be put in force, and should be tried again.
    pub const fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// Puts a configuration in force that holds in itself.
    async fn apply(&mut self, given: Config) -> Result<Plan, ReloadError> {
        let outcome = self.put_in_force(given).await;
        self.unfinished = outcome.is_err();
        outcome
    }

    async fn put_in_force(&mut self, given: Config) -> Result<Plan, ReloadError> {
        // An endpoint that is called otherwise stays disabled.
        let disabled = given.by_present_names(&self.disabled);
        let next = reload::plan::merged(&self.config, &given).without(&disabled);
        let mut plan = reload::plan(&self.config, &next);
        plan.needs_process_restart = reload::plan(&self.config, &given).needs_process_restart;
        let stops = plan.units_that(UnitChange::Stop).chain(plan.units_that(UnitChange::Restart));
        let stops: BTreeSet<String> = stops.map(str::to_owned).collect();
        let meanwhile = reload::plan::meanwhile(&self.config, &next, &stops);
        let directory = Arc::new(next.directory());
        let changed = match &meanwhile {
            Some(meanwhile) => self.change_store(meanwhile, Arc::new(meanwhile.directory())).await?,
            None => self.change_store(&next, directory.clone()).await?,
        };
        changed.map_err(ReloadError::Fault)?;
        (self.config, self.directory, self.given) = (next, directory, given);
        if disabled != self.disabled {
            // Where it is not kept, the file tells of the former name at the next start.
            self.keep_disabled(&disabled).await?;
            self.disabled = disabled;
        }
        // Until they hear of it, they ask devices whose readings the store refuses: not one more while others stop.
        self.adapters.tell(&self.config.adapters, &stops);
        self.adapters.stop(&stops, clock::now() + ADAPTERS).await;
        let mut failed: Vec<Fault> = Vec::new();
        if meanwhile.is_some() {
            // If it cannot now, endpoints of which nothing comes any more are known for longer.
            failed.extend(self.change_store(&self.config, self.directory.clone()).await?.err());
        }
        failed.extend(self.change_uplink(plan.uplink).await?.as_ref().map(fault_of));
        failed.extend(self.start_adapters().await?.iter().map(fault_of));
        if plan.live.contains(&"gateway.endpoint") {
            self.start_reporter().await?;
        }
        self.http.apply(self.config.http.as_ref(), clock::now() + ADAPTERS).await;
        memory::give_back();
        match failed.into_iter().next() {
            Some(fault) => {
                if plan != Plan::default() {
                    self.note(&plan);
                }
                Err(ReloadError::Partly(fault))
            }
            None => {
                self.note(&plan);
                Ok(plan)
            }
        }
    }

    async fn change_uplink(&mut self, change: UplinkChange) -> Result<Option<StartError>, Closed> {
        let left = || Some(StartError::LeftBehind { unit: "uplink".into() });
        let state = self.uplink.as_ref().map(|uplink| uplink.watch().state());
        match state {
            // It was told to stop earlier.
            Some(UnitState::LeftBehind) => return Ok(left()),
            Some(UnitState::Stopped) => self.uplink = None,
            _ => {}
        }
        if matches!(change, UplinkChange::Stop | UplinkChange::Restart)
            && let Some(uplink) = &mut self.uplink
        {
            if !uplink.stop(clock::now() + ADAPTERS).await {
                // Two of them would speak for the same endpoints: the next begins when this one has ended.
                return Ok(left());
            }
            self.uplink = None;
        }
        match (&self.config.uplink, change) {
            (UplinkChoice::Mqtt(config), _) if self.uplink.is_none() => {
                match self.start_uplink(config.as_ref().clone()) {
                    Err(StartError::Closed(closed)) => Err(closed),
                    started => Ok(started.err()),
                }
            }
            (UplinkChoice::Mqtt(_), UplinkChange::Directory) => {
                self.handle.carry(self.directory.clone());
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn start_adapters(&mut self) -> Result<Vec<StartError>, Closed> {
        self.adapters.start(&self.store, &self.config.adapters).await
    }

    /// Of the endpoints that were disabled on the command line, those that there are.
    pub(super) fn disabled_in_force(&self) -> Vec<EndpointName> {
        let known = |name: &&EndpointName| self.config.endpoints.iter().any(|e| e.key.name == **name);
        self.disabled.iter().filter(known).cloned().collect()
    }

    /// Takes note of what is in force now, and tells the journal.
    fn note(&mut self, plan: &Plan) {
        self.told.disabled = self.disabled_in_force();
        if plan.needs_process_restart != self.told.needs_process_restart {
            self.told.needs_process_restart.clone_from(&plan.needs_process_restart);
            if !plan.needs_process_restart.is_empty() {
                tracing::warn!(
                    keys = plan.needs_process_restart.join(", "),
                    "these keys change with a restart of the process only; everything else is in force"
                );
            }
        }
        tracing::info!(changes = plan.words(), uplink = has_uplink(&self.config), "configuration in force");
    }
}

/// Why something of a configuration is not in force though the rest is.
fn fault_of(error: &StartError) -> Fault {
    error.fault().unwrap_or_else(|| Fault::new(Code::NoThread, error.to_string(), "reload"))
}

/// What is thought of a file that is taken.
pub fn tell(warnings: &[Finding]) {
    for finding in excerpt(warnings) {
        match finding.severity() {
            Severity::Warning => tracing::warn!(%finding, "configuration"),
            _ => tracing::error!(%finding, "configuration; readings are kept until it is put right"),
        }
    }
}

/// A file that is not taken: its first mistake, and where.
fn refused(findings: &Findings) -> Fault {
    let errors: Vec<&Finding> =
        findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    let Some(first) = errors.first() else {
        return Fault::new(Code::FileRefused, "the changed file is not taken", "configuration");
    };
    let more = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
    let key = if first.key.is_empty() { String::new() } else { format!("{}: ", first.key) };
    let place =
        if first.line > 0 { format!("{}:{}", first.file, first.line) } else { first.file.to_string() };
    Fault::new(Code::FileRefused, format!("the changed file is not taken: {key}{}{more}", first.what), place)
}
