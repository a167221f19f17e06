//! `endpoints`: each with its value, age, presence, rate and queue. One question to the store for all of them.

use super::{View, ViewError, reading};
use crate::{control::glob, endpoints::Endpoint, fault::Code, store::Overview};
use adapter_api::{Clock, EndpointName, Fault, Instant, Presence, clock};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::{collections::HashMap, sync::Arc};

/// Which endpoints are asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// A name, or a pattern with `*` and `?`.
    pub filter: Option<String>,
    /// Those after this name, for the next page.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// Endpoints by name.
#[derive(Debug, Serialize)]
pub struct Endpoints {
    /// A page of them.
    pub endpoints: Vec<Shown>,
    /// How many fit the filter in all.
    pub total: usize,
}

/// An endpoint as it is shown.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Its name.
    pub name: EndpointName,
    /// The unit its device is behind.
    pub unit: Option<Arc<str>>,
    /// Whether its samples are wanted.
    pub enabled: bool,
    /// `online`, `asleep` or `offline`; nothing where its adapter has not said.
    pub presence: Option<&'static str>,
    /// Of the fault of a device that is offline.
    pub code: Option<&'static str>,
    /// Why it is offline.
    pub why: Option<String>,
    /// Samples that wait for the platform.
    pub queued: u64,
    /// Why the platform refuses it for now.
    pub parked: Option<Parked>,
    /// It goes over a quota now.
    pub over_quota: bool,
    /// Samples its device hands in, over about the last minute.
    pub samples_per_s: Option<f64>,
    /// Its youngest reading, as `read` shows it.
    pub last: Option<Json>,
}

/// Why an endpoint is parked.
#[derive(Debug, Clone, Serialize)]
pub struct Parked {
    code: Code,
    why: String,
}

impl View {
    /// Endpoints at a glance, sorted by name.
    pub async fn endpoints(&self, wanted: &Wanted) -> Result<Endpoints, ViewError> {
        let filter = wanted.filter.as_deref();
        let fits = |name: &str| filter.is_none_or(|filter| glob::fits(name, filter));
        let mut endpoints: Vec<&Arc<Endpoint>> =
            self.directory.iter().filter(|endpoint| fits(endpoint.key.name.as_str())).collect();
        let total = endpoints.len();
        if let Some(name) = filter.filter(|filter| total == 0 && !glob::is_pattern(filter)) {
            return Err(ViewError::Unknown(format!("no endpoint {name:?} in the configuration")));
        }
        let after = wanted.after.as_deref();
        endpoints.retain(|endpoint| after.is_none_or(|after| endpoint.key.name.as_str() > after));
        endpoints.sort_unstable_by(|a, b| a.key.name.cmp(&b.key.name));
        endpoints.truncate(wanted.limit.unwrap_or(usize::MAX));
        let keys = endpoints.iter().map(|endpoint| endpoint.key.clone()).collect();
        let overviews = self.store.overview(keys).await?;
        let session = self.session(Vec::new()).await.0;
        let parked: HashMap<String, Parked> = session
            .parked
            .into_iter()
            .map(|parked| (parked.endpoint, Parked { code: parked.code, why: parked.why }))
            .collect();
        let (clock, now) = (self.store.clock(), clock::now());
        let shown = endpoints.into_iter().zip(overviews).map(|(endpoint, overview)| {
            let presence = self.presence(&endpoint.key.name);
            // Most are not parked: their names need not be written out.
            let parked =
                (!parked.is_empty()).then(|| parked.get(&endpoint.key.to_string()).cloned()).flatten();
            shown(endpoint, overview, presence, parked, (clock, now))
        });
        Ok(Endpoints { endpoints: shown.collect(), total })
    }

    /// What the adapter of a device says of it.
    fn presence(&self, endpoint: &EndpointName) -> Option<Presence> {
        self.units.iter().find_map(|unit| unit.board.presence(endpoint))
    }
}

fn shown(
    endpoint: &Endpoint,
    overview: Overview,
    presence: Option<Presence>,
    parked: Option<Parked>,
    (clock, now): (&Clock, Instant),
) -> Shown {
    let (presence, fault) = match presence {
        None => (None, None),
        Some(Presence::Online) => (Some("online"), None),
        Some(Presence::Asleep) => (Some("asleep"), None),
        Some(Presence::Offline(fault)) => (Some("offline"), Some(fault)),
    };
    let (code, why) = fault.map(|Fault { code, what, .. }| (code, what)).unzip();
    Shown {
        name: endpoint.key.name.clone(),
        unit: endpoint.unit.clone(),
        enabled: endpoint.enabled,
        presence,
        code,
        why,
        queued: overview.queued,
        parked,
        over_quota: overview.over_quota,
        // In thousandths: it is an estimate.
        samples_per_s: overview.samples_per_s.map(|rate| (rate * 1_000.0).round() / 1_000.0),
        last: overview.last.as_ref().map(|last| reading(last, clock, now)),
    }
}
