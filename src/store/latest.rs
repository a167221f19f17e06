//! The last value of each resource: what `read` shows. On disk at clean stop and at most every 15 min.

use super::{item, rate::Rate};
use crate::endpoints::{EndpointKey, Tenant};
use adapter_api::{EndpointName, Instant, Quality, Reading, Sample, Stamp, Value};
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

/// Last readings by endpoint and resource, and how often some come in.
#[derive(Debug)]
pub(super) struct Latest {
    of: HashMap<EndpointKey, Known>,
    /// Since when they are noted.
    since: Instant,
    changed: bool,
}

/// What is known of an endpoint.
#[derive(Debug)]
struct Known {
    /// By resource. Lists no longer than they are filled: a tree's node has room for eleven, and most
    /// of 10,000 endpoints have few.
    values: Vec<Noted>,
    /// Samples it handed in.
    rate: Rate<60>,
}

#[derive(Debug)]
struct Noted {
    last: Last,
    on_disk: bool,
}

impl Latest {
    /// Reads the table.
    pub(super) fn load(db: &Connection, now: Instant) -> rusqlite::Result<Self> {
        let mut latest = Self { of: HashMap::new(), since: now, changed: false };
        let mut rows = db.prepare("SELECT tenant, endpoint, stamp, boot, item FROM latest")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(name) = EndpointName::new(&row.get::<_, String>(1)?) else { continue };
            let key = EndpointKey { tenant: Tenant::stored(&row.get::<_, String>(0)?), name };
            // Only a convenience: what cannot be read is measured again soon.
            let Ok(sample) = item::decode(row.get(2)?, row.get(3)?, &row.get::<_, Vec<u8>>(4)?) else {
                continue;
            };
            let known = latest.known(&key, now);
            for reading in sample.readings {
                let last = Last { at: sample.at, seen: None, reading };
                put(&mut known.values, Noted { last, on_disk: true });
            }
        }
        Ok(latest)
    }

    fn known(&mut self, endpoint: &EndpointKey, now: Instant) -> &mut Known {
        self.of.entry(endpoint.clone()).or_insert_with(|| Known { values: Vec::new(), rate: Rate::new(now) })
    }

    /// Takes note of samples that a device handed in, committed or suppressed.
    pub(super) fn note(&mut self, endpoint: &EndpointKey, samples: &[Sample], now: Instant) {
        let count = u64::try_from(samples.len()).unwrap_or(u64::MAX);
        self.known(endpoint, now).rate.add(count, now);
        self.show(endpoint, samples, now);
    }

    /// Takes note of what rules made.
    pub(super) fn show(&mut self, endpoint: &EndpointKey, samples: &[Sample], now: Instant) {
        self.changed |= samples.iter().any(|sample| !sample.readings.is_empty());
        let values = &mut self.known(endpoint, now).values;
        // From the last to the first: most readings are followed by one of the same resource.
        let mut noted = HashSet::new();
        for sample in samples.iter().rev() {
            for reading in sample.readings.iter().rev() {
                if noted.insert(&reading.resource) {
                    let last = Last { at: sample.at, seen: Some(now), reading: reading.clone() };
                    put(values, Noted { last, on_disk: false });
                }
            }
        }
    }

    /// An endpoint's last readings.
    pub(super) fn of(&self, endpoint: &EndpointKey) -> Vec<Last> {
        let values = self.of.get(endpoint).map(|known| known.values.as_slice()).unwrap_or_default();
        values.iter().map(|noted| noted.last.clone()).collect()
    }

    /// An endpoint's youngest reading in short, and how many samples a second it hands in, over about the last minute.
    pub(super) fn glance(&self, endpoint: &EndpointKey, now: Instant) -> (Option<Last>, Option<f64>) {
        let Some(known) = self.of.get(endpoint) else { return (None, None) };
        let age = |last: &Last| {
            let (Stamp::Wall { us, .. } | Stamp::Mono { us, .. }) = last.at;
            (last.seen, us)
        };
        // Of those of one sample the first by name, always the same.
        let youngest = known.values.iter().rev().max_by_key(|noted| age(&noted.last));
        (youngest.map(|noted| brief(&noted.last)), known.rate.per_second(self.since, now))
    }

    /// Whether anything is known of an endpoint.
    pub(super) fn knows(&self, endpoint: &EndpointKey) -> bool {
        self.of.contains_key(endpoint)
    }

    /// After COMMIT: an endpoint is called otherwise. What is known by that name already stays.
    pub(super) fn rename(&mut self, from: &EndpointKey, to: &EndpointKey) {
        let Some(mut leaving) = self.of.remove(from) else { return };
        let Some(known) = self.of.get_mut(to) else {
            self.of.insert(to.clone(), leaving);
            return;
        };
        for noted in leaving.values.drain(..) {
            let resource = &noted.last.reading.resource;
            if known.values.binary_search_by(|known| known.last.reading.resource.cmp(resource)).is_err() {
                put(&mut known.values, noted);
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
        for (endpoint, known) in &self.of {
            let values = known.values.iter().filter(|noted| !noted.on_disk);
            for Noted { last: Last { at, reading, .. }, .. } in values {
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

    /// The disk may have lost some: all is to be written.
    pub(super) fn unwritten(&mut self) {
        self.changed = !self.of.is_empty();
        self.of.values_mut().flat_map(|known| &mut known.values).for_each(|noted| noted.on_disk = false);
    }

    /// After COMMIT: all is on disk.
    pub(super) fn written(&mut self) {
        self.changed = false;
        self.of.values_mut().flat_map(|known| &mut known.values).for_each(|noted| noted.on_disk = true);
    }
}

/// A glance is short: of a long value the beginning or what it is, not all of it.
fn brief(last: &Last) -> Last {
    let Last { at, seen, reading } = last;
    if reading.weight() <= BRIEF_BYTES {
        return last.clone();
    }
    let kind = match &reading.value {
        Value::Text(text) => cut(text),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::List(items) => format!("a list of {}", items.len()),
        Value::Map(members) => format!("a map of {}", members.len()),
        scalar => return Last { at: *at, seen: *seen, reading: shorn(reading, scalar.clone()) },
    };
    Last { at: *at, seen: *seen, reading: shorn(reading, Value::Text(kind)) }
}

/// The reading with another value, and with a quality of bounded length.
fn shorn(reading: &Reading, value: Value) -> Reading {
    let quality = match &reading.quality {
        Quality::Good => Quality::Good,
        Quality::Uncertain(why) => Quality::Uncertain(cut(why)),
        Quality::Bad(why) => Quality::Bad(cut(why)),
    };
    Reading { resource: reading.resource.clone(), value, quality }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(BRIEF_CHARACTERS) {
        Some((end, _)) => format!("{}... ({} bytes)", text.get(..end).unwrap_or_default(), text.len()),
        None => text.to_owned(),
    }
}

/// A longer reading is cut at a glance, and its texts to so many characters.
const BRIEF_BYTES: usize = 1_024;
const BRIEF_CHARACTERS: usize = 256;

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

#[cfg(test)]
mod tests {
    use super::*;
    use adapter_api::{Resource, Source};

    #[test]
    fn of_a_long_value_the_beginning_is_shown_at_a_glance() {
        let text = |length: usize| Value::Text("\u{fc}".repeat(length));
        let cut = format!("{}... (2000 bytes)", "\u{fc}".repeat(256));
        for (value, why, shown, shown_why) in [
            (text(400), "", text(400), String::new()),
            (text(1_000), "", Value::Text(cut.clone()), String::new()),
            (Value::Bytes(vec![0; 5_000]), "", Value::from("5000 bytes"), String::new()),
            (Value::List(vec![Value::Int(1); 500]), "", Value::from("a list of 500"), String::new()),
            (Value::Int(7), "\u{fc}", Value::Int(7), cut),
        ] {
            let why = why.repeat(1_000);
            let resource = Resource::new("r").unwrap();
            let last = |value, why: &str| Last {
                at: Stamp::Wall { us: 1, source: Source::Gateway },
                seen: None,
                reading: Reading {
                    resource: resource.clone(),
                    value,
                    quality: Quality::Uncertain(why.into()),
                },
            };
            assert_eq!(brief(&last(value, &why)), last(shown, &shown_why));
        }
    }
}
