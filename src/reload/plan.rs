//! From two configurations to what has to be done. Sans-IO.
//!
//! Only what changed restarts, and what can change live does: endpoints come and go beside their neighbours, who
//! notice nothing. What cannot change while the process runs is named, and stays as it was.

use crate::{
    config::{Config, Units, Uplink},
    endpoints::{Endpoint, Fate},
};
use adapter_api::{Adapter, EndpointName};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What has to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Adapters by their units' names, `modbus.site`; those that stay as they are are not in it.
    pub units: BTreeMap<String, UnitChange>,
    /// The way to the platform.
    pub uplink: UplinkChange,
    /// What changes of endpoints, without anything being restarted for it.
    pub endpoints: EndpointChanges,
    /// Tables and keys that change live.
    pub live: Vec<&'static str>,
    /// Keys that stay as they were until the process is restarted.
    pub needs_process_restart: Vec<&'static str>,
}

/// What becomes of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitChange {
    /// It is new.
    Start,
    /// It is no more.
    Stop,
    /// Its own table changed.
    Restart,
    /// Its endpoints changed; it goes on.
    Devices,
}

/// What becomes of the way to the platform.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UplinkChange {
    /// Nothing.
    #[default]
    Keep,
    /// Endpoints come and go on the connection there is.
    Directory,
    /// There was none.
    Start,
    /// There is none any more.
    Stop,
    /// It connects anew.
    Restart,
}

/// What changes of endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointChanges {
    /// New ones.
    pub added: Vec<EndpointName>,
    /// Those that left. What is queued of them stays, orphaned.
    pub removed: Vec<EndpointName>,
    /// Former and present names.
    pub renamed: Vec<(EndpointName, EndpointName)>,
    /// Former and present names of those that become one with another: what is queued of them goes before its own.
    pub merged: Vec<(EndpointName, EndpointName)>,
    /// Those with another token or tenant.
    pub token: Vec<EndpointName>,
    /// Those that are wanted again.
    pub enabled: Vec<EndpointName>,
    /// Those that are wanted no longer.
    pub disabled: Vec<EndpointName>,
    /// Those with other quotas, report rules or names on the wire.
    pub rules: Vec<EndpointName>,
    /// Those of which something else changed: what is read, or how often.
    pub devices: Vec<EndpointName>,
}

impl EndpointChanges {
    /// Whether the uplink carries the same. What is queued of a disabled endpoint goes up all the same.
    fn is_directory_kept(&self) -> bool {
        let Self { added, removed, renamed, merged, token, rules, enabled: _, disabled: _, devices: _ } =
            self;
        renamed.is_empty()
            && merged.is_empty()
            && [added, removed, token, rules].iter().all(|list| list.is_empty())
    }
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The units of which this becomes.
    pub fn units_that(&self, change: UnitChange) -> impl Iterator<Item = &str> {
        self.units.iter().filter(move |(_, what)| **what == change).map(|(unit, _)| unit.as_str())
    }
}

/// What has to be done to get from one configuration to the other.
pub fn plan(old: &Config, new: &Config) -> Plan {
    let mut plan = Plan { needs_process_restart: fixed(old, new), ..Plan::default() };
    let new = merged(old, new);
    plan.endpoints = endpoints(old, &new);
    let mut devices = Vec::new();
    #[cfg(feature = "modbus")]
    units::<adapter_modbus::Modbus>(
        &old.adapters.modbus,
        &new.adapters.modbus,
        &mut plan.units,
        &mut devices,
    );
    #[cfg(feature = "test-hooks")]
    units::<adapter_api::test_adapter::Test>(
        &old.adapters.test,
        &new.adapters.test,
        &mut plan.units,
        &mut devices,
    );
    let told = |name: &EndpointName| {
        let changes = &plan.endpoints;
        changes.renamed.iter().chain(&changes.merged).any(|(_, present)| present == name)
            || [&changes.added, &changes.removed, &changes.enabled, &changes.disabled]
                .iter()
                .any(|list| list.contains(name))
    };
    devices.retain(|name| !told(name));
    plan.endpoints.devices = devices;
    plan.uplink = match (&old.uplink, &new.uplink) {
        (Uplink::None, Uplink::None) => UplinkChange::Keep,
        (Uplink::None, Uplink::Mqtt(_)) => UplinkChange::Start,
        (Uplink::Mqtt(_), Uplink::None) => UplinkChange::Stop,
        (Uplink::Mqtt(old), Uplink::Mqtt(new)) if old != new => UplinkChange::Restart,
        _ if !plan.endpoints.is_directory_kept() => UplinkChange::Directory,
        _ => UplinkChange::Keep,
    };
    for (key, same) in [
        ("log", old.log == new.log),
        ("clock.device_time", old.clock.device_time == new.clock.device_time),
        ("store", old.store == new.store),
        ("http", old.http == new.http),
        ("gateway.endpoint", old.gateway.endpoint == new.gateway.endpoint),
    ] {
        if !same {
            plan.live.push(key);
        }
    }
    plan
}

/// The new configuration as far as it can be had without a new process.
pub fn merged(old: &Config, new: &Config) -> Config {
    let mut merged = new.clone();
    merged.gateway.state_dir.clone_from(&old.gateway.state_dir);
    merged.gateway.control_socket.clone_from(&old.gateway.control_socket);
    (merged.clock.trust, merged.clock.hold) = (old.clock.trust, old.clock.hold);
    merged.store.max_sample_bytes = old.store.max_sample_bytes;
    merged
}

/// What the store is to know while units stop: the new configuration, and what they may hand in last as it was, where
/// that one takes it no more or for somebody else. `None`: it takes all of it.
pub fn meanwhile(old: &Config, new: &Config, stops: &BTreeSet<String>) -> Option<Config> {
    let directory = new.directory();
    let kept = old.endpoints.iter().filter_map(|was| {
        let stops = was.unit.as_ref().is_some_and(|unit| stops.contains(&**unit));
        if !stops || !was.enabled {
            return None;
        }
        let name = directory.present_name(&was.key.name).unwrap_or(&was.key.name);
        match directory.by_name(name).filter(|now| now.key.tenant == was.key.tenant) {
            Some(now) if now.enabled => None,
            Some(now) => Some(Arc::new(Endpoint { enabled: true, ..now.as_ref().clone() })),
            None => Some(Arc::clone(was)),
        }
    });
    let kept: BTreeMap<EndpointName, Arc<Endpoint>> =
        kept.map(|kept| (kept.key.name.clone(), kept)).collect();
    let uplink_goes = matches!((&old.uplink, &new.uplink), (Uplink::Mqtt(_), Uplink::None));
    let uplink_goes = uplink_goes && !stops.is_empty();
    if kept.is_empty() && !uplink_goes {
        return None;
    }
    let mut meanwhile = new.clone();
    if uplink_goes {
        meanwhile.uplink = old.uplink.clone();
    }
    meanwhile.endpoints.retain(|endpoint| !kept.contains_key(&endpoint.key.name));
    meanwhile.endpoints.extend(kept.into_values());
    Some(meanwhile)
}

/// The keys whose values differ, and which nothing but a new process takes up.
fn fixed(old: &Config, new: &Config) -> Vec<&'static str> {
    let keys = [
        ("gateway.state_dir", old.gateway.state_dir == new.gateway.state_dir),
        ("gateway.control_socket", old.gateway.control_socket == new.gateway.control_socket),
        ("clock.trust", old.clock.trust == new.clock.trust),
        ("clock.hold", old.clock.hold == new.clock.hold),
        ("store.max_sample_bytes", old.store.max_sample_bytes == new.store.max_sample_bytes),
    ];
    keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}

fn endpoints(old: &Config, new: &Config) -> EndpointChanges {
    let by_name = |config: &Config| -> BTreeMap<EndpointName, Arc<Endpoint>> {
        config.endpoints.iter().map(|endpoint| (endpoint.key.name.clone(), endpoint.clone())).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let mut changes = EndpointChanges::default();
    let directory = new.directory();
    let mut now_called: BTreeMap<EndpointName, EndpointName> = BTreeMap::new();
    let mut gone_along = BTreeSet::new();
    for was in before.values() {
        // As the store has it.
        let Fate::Goes(present) = directory.fate(&was.key) else { continue };
        let pair = (was.key.name.clone(), present.name.clone());
        gone_along.insert(was.key.name.clone());
        if before.get(&present.name).is_some_and(|known| known.key == present)
            || now_called.contains_key(&present.name)
        {
            changes.merged.push(pair);
        } else {
            now_called.insert(present.name, was.key.name.clone());
            changes.renamed.push(pair);
        }
    }
    let is_new = |name: &&EndpointName| !before.contains_key(*name) && !now_called.contains_key(*name);
    let is_gone = |name: &&EndpointName| !after.contains_key(*name) && !gone_along.contains(*name);
    changes.added = after.keys().filter(is_new).cloned().collect();
    changes.removed = before.keys().filter(is_gone).cloned().collect();
    for (name, now) in &after {
        let former = now_called.get(name).and_then(|former| before.get(former));
        let Some(was) = before.get(name).or(former) else { continue };
        let mut note = |list: fn(&mut EndpointChanges) -> &mut Vec<EndpointName>, differs: bool| {
            if differs {
                list(&mut changes).push(name.clone());
            }
        };
        note(|c| &mut c.token, was.token != now.token || was.key.tenant != now.key.tenant);
        note(|c| &mut c.enabled, !was.enabled && now.enabled);
        note(|c| &mut c.disabled, was.enabled && !now.enabled);
        let same =
            (&was.quotas, &was.report, &was.name_on_wire) == (&now.quotas, &now.report, &now.name_on_wire);
        note(|c| &mut c.rules, !same);
    }
    changes
}

fn units<A: Adapter>(
    old: &Units<A>,
    new: &Units<A>,
    changes: &mut BTreeMap<String, UnitChange>,
    devices: &mut Vec<EndpointName>,
) {
    for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
        let change = match (old.get(name), new.get(name)) {
            (None, _) => UnitChange::Start,
            (_, None) => UnitChange::Stop,
            (Some(old), Some(new)) if old.config != new.config => UnitChange::Restart,
            (Some(old), Some(new)) if old.devices != new.devices => UnitChange::Devices,
            _ => continue,
        };
        changes.insert(format!("{}.{name}", A::KIND), change);
    }
    let before: BTreeMap<&EndpointName, &A::Device> = old.values().flat_map(|unit| &*unit.devices).collect();
    let after: BTreeMap<&EndpointName, &A::Device> = new.values().flat_map(|unit| &*unit.devices).collect();
    for (name, device) in after {
        if before.get(name).is_some_and(|before| *before != device) {
            devices.push(name.clone());
        }
    }
}
