//! A plan in words and in JSON. No secret is in a plan, so none is told (I11).

use super::plan::{Plan, UnitChange, UplinkChange};
use adapter_api::EndpointName;
use serde_json::{Value, json};

impl Plan {
    /// For scripts.
    pub fn json(&self) -> Value {
        let names =
            |names: &[EndpointName]| json!(names.iter().map(EndpointName::as_str).collect::<Vec<_>>());
        let units = |change| json!(self.units_that(change).collect::<Vec<_>>());
        let changes = &self.endpoints;
        let pairs = |pairs: &[(EndpointName, EndpointName)]| {
            let pair = |(former, present): &(EndpointName, EndpointName)| json!({ "from": former.as_str(), "to": present.as_str() });
            json!(pairs.iter().map(pair).collect::<Vec<_>>())
        };
        json!({
            "start": units(UnitChange::Start),
            "stop": units(UnitChange::Stop),
            "restart": units(UnitChange::Restart),
            "devices": units(UnitChange::Devices),
            "uplink": self.uplink.name(),
            "endpoints": {
                "added": names(&changes.added),
                "removed": names(&changes.removed),
                "renamed": pairs(&changes.renamed),
                "merged": pairs(&changes.merged),
                "token": names(&changes.token),
                "enabled": names(&changes.enabled),
                "disabled": names(&changes.disabled),
                "rules": names(&changes.rules),
                "devices": names(&changes.devices),
            },
            "live": self.live,
            "needs_process_restart": self.needs_process_restart,
        })
    }

    /// In one line, for the journal.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        for (change, verb) in [
            (UnitChange::Stop, "stopped"),
            (UnitChange::Restart, "restarted"),
            (UnitChange::Start, "started"),
        ] {
            let units: Vec<&str> = self.units_that(change).collect();
            if !units.is_empty() {
                words.push(format!("{verb} {}", units.join(", ")));
            }
        }
        match self.uplink {
            UplinkChange::Keep | UplinkChange::Directory => {}
            UplinkChange::Start => words.push("started uplink".to_owned()),
            UplinkChange::Stop => words.push("stopped uplink".to_owned()),
            UplinkChange::Restart => words.push("restarted uplink".to_owned()),
        }
        let changes = &self.endpoints;
        for (names, verb) in [
            (&changes.added, "added"),
            (&changes.removed, "removed"),
            (&changes.token, "with another token"),
            (&changes.enabled, "enabled"),
            (&changes.disabled, "disabled"),
            (&changes.rules, "with other rules"),
            (&changes.devices, "changed"),
        ] {
            if let Some(first) = names.first() {
                words.push(format!("{} {verb}", some(first.as_str(), names.len())));
            }
        }
        if let Some((former, present)) = changes.renamed.first() {
            words.push(some(&format!("{former} is now {present}"), changes.renamed.len()));
        }
        if let Some((former, present)) = changes.merged.first() {
            words.push(some(&format!("{former} is one with {present}"), changes.merged.len()));
        }
        words.extend(self.live.iter().map(|key| format!("{key} changed")));
        if words.is_empty() { "nothing changed".to_owned() } else { words.join("; ") }
    }
}

impl UplinkChange {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Directory => "directory",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

fn some(first: &str, count: usize) -> String {
    if count > 1 { format!("{first} and {} more", count - 1) } else { first.to_owned() }
}
