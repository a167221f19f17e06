//! The last value of each resource: what `read` shows. On disk at clean stop and at most every 15 min.

use super::item;
use crate::endpoints::{EndpointKey, Tenant};
use adapter_api::{EndpointName, Instant, Reading, Sample, Stamp};
use rusqlite::{Connection, params};
use std::collections::{HashMap, HashSet};

/// A resource's last reading and when it was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Last {
    /// By its stamp.
    pub at: Stamp,
    /// By this process's own time; `None` if it is of an earlier one. No jump of a clock changes it.
    pub seen: Option<Instant>,
    /// What it says.
    pub reading: Reading,
}

/// Last readings by endpoint and resource.
#[derive(Debug, Default)]
pub(super) struct Latest {
    /// By resource. Lists no longer than they are filled: a tree's node has room for eleven, and most
    /// of 10,000 endpoints have few.
    values: HashMap<EndpointKey, Vec<Noted>>,
    changed: bool,
}

#[derive(Debug)]
struct Noted {
    last: Last,
    on_disk: bool,
}

impl Latest {
    /// Reads the table.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut latest = Self::default();
        let mut rows = db.prepare("SELECT tenant, endpoint, stamp, boot, item FROM latest")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(name) = EndpointName::new(&row.get::<_, String>(1)?) else { continue };
            let key = EndpointKey { tenant: Tenant::stored(&row.get::<_, String>(0)?), name };
            // Only a convenience: what cannot be read is measured again soon.
            let Ok(sample) = item::decode(row.get(2)?, row.get(3)?, &row.get::<_, Vec<u8>>(4)?) else {
                continue;
            };
            let values = latest.values.entry(key).or_default();
            for reading in sample.readings {
                let last = Last { at: sample.at, seen: None, reading };
                put(values, Noted { last, on_disk: true });
            }
        }
        Ok(latest)
    }

    /// Takes note of committed or suppressed samples.
    pub(super) fn note(&mut self, endpoint: &EndpointKey, samples: &[Sample], now: Instant) {
        if !self.values.contains_key(endpoint) {
            self.values.insert(endpoint.clone(), Vec::new());
        }
        let Some(values) = self.values.get_mut(endpoint) else { return };
        // From the last to the first: most readings are followed by one of the same resource.
        let mut noted = HashSet::new();
        for sample in samples.iter().rev() {
            for reading in sample.readings.iter().rev() {
                if noted.insert(&reading.resource) {
                    let last = Last { at: sample.at, seen: Some(now), reading: reading.clone() };
                    put(values, Noted { last, on_disk: false });
                    self.changed = true;
                }
            }
        }
    }

    /// An endpoint's last readings.
    pub(super) fn of(&self, endpoint: &EndpointName) -> Vec<Last> {
        self.values
            .iter()
            .filter(|(key, _)| key.name == *endpoint)
            .flat_map(|(_, values)| values.iter().map(|noted| noted.last.clone()))
            .collect()
    }

    /// Whether anything is known of an endpoint.
    pub(super) fn knows(&self, endpoint: &EndpointKey) -> bool {
        self.values.contains_key(endpoint)
    }

    /// After COMMIT: an endpoint is called otherwise. What is known by that name already stays.
    pub(super) fn rename(&mut self, from: &EndpointKey, to: &EndpointKey) {
        let Some(values) = self.values.remove(from) else { return };
        let known = self.values.entry(to.clone()).or_default();
        for noted in values {
            let resource = &noted.last.reading.resource;
            if known.binary_search_by(|known| known.last.reading.resource.cmp(resource)).is_err() {
                put(known, noted);
            }
        }
    }

    /// Whether there is something to write.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Writes changed rows, inside the caller's transaction.
    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut upsert = db.prepare_cached("INSERT OR REPLACE INTO latest(tenant, endpoint, resource, stamp, boot, item) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for (endpoint, values) in &self.values {
            for Noted { last: Last { at, reading, .. }, .. } in values.iter().filter(|noted| !noted.on_disk) {
                let sample = Sample { at: *at, readings: vec![reading.clone()] };
                let (stamp, boot) = super::outbox::columns(*at);
                upsert.execute(params![
                    endpoint.tenant.as_str(),
                    endpoint.name.as_str(),
                    reading.resource.as_str(),
                    stamp,
                    boot,
                    item::encode(&sample)
                ])?;
            }
        }
        Ok(())
    }

    /// After COMMIT: all is on disk.
    pub(super) fn written(&mut self) {
        self.changed = false;
        self.values.values_mut().flatten().for_each(|noted| noted.on_disk = true);
    }
}

/// In the place of its resource's last one.
fn put(values: &mut Vec<Noted>, noted: Noted) {
    let resource = &noted.last.reading.resource;
    match values.binary_search_by(|known| known.last.reading.resource.cmp(resource)) {
        Ok(at) => {
            if let Some(known) = values.get_mut(at) {
                *known = noted;
            }
        }
        Err(at) => {
            values.reserve_exact(1);
            values.insert(at, noted);
        }
    }
}
