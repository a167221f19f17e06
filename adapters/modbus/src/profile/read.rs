//! From the text of a profile to a [`Profile`], with everything that is wrong in it.

use super::{Content, Defaults, Entry, Limits, NoProfile, Origin, Profile, Wrong};
use crate::{Register, config};
use adapter_api::Resource;
use serde::{Deserialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// The file as it is typed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Low {
    vendor: String,
    model: String,
    description: Option<String>,
    source: String,
    #[serde(default)]
    sunspec: bool,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    registers: BTreeMap<Resource, toml::Table>,
}

/// Reads a profile; what is wrong is told with its key.
pub(crate) fn profile(name: &str, origin: Origin, text: &str) -> Result<Profile, NoProfile> {
    let mut faults = Vec::new();
    match low(text, &mut faults).filter(|_| faults.is_empty()) {
        Some((low, content)) => Ok(Profile {
            name: name.to_owned(),
            origin,
            vendor: low.vendor,
            model: low.model,
            description: low.description,
            source: low.source,
            defaults: low.defaults,
            limits: low.limits,
            content,
        }),
        None => Err(NoProfile::Faulty { origin, faults }),
    }
}

fn low(text: &str, faults: &mut Vec<Wrong>) -> Option<(Low, Content)> {
    let document = toml::Deserializer::parse(text.strip_prefix('\u{feff}').unwrap_or(text));
    let document = match document {
        Ok(document) => document,
        Err(error) => {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or(text);
            let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
            faults.push(Wrong::new("", format!("line {line}: {}", error.message()), None));
            return None;
        }
    };
    let mut low: Low = typed(document, "", faults)?;
    for (key, text) in [("vendor", &low.vendor), ("model", &low.model), ("source", &low.source)] {
        if text.trim().is_empty() {
            faults.push(Wrong::new(key, "is empty", None));
        }
    }
    faults.extend(low.limits.wrong());
    faults.extend(low.defaults.wrong());
    let registers = std::mem::take(&mut low.registers);
    let content = match (low.sunspec, registers.is_empty()) {
        (true, true) => Content::SunSpec,
        (true, false) => {
            let why = "the registers of a SunSpec device are found by asking it";
            faults.push(Wrong::new("registers", why, Some("leave them or `sunspec` out")));
            return None;
        }
        (false, true) => {
            let hint = "name at least one resource and its register";
            faults.push(Wrong::new("registers", "there is nothing to read", Some(hint)));
            return None;
        }
        (false, false) => {
            let entries = registers
                .into_iter()
                .filter_map(|(resource, table)| Some((resource.clone(), entry(&resource, table, faults)?)));
            Content::Registers(entries.collect())
        }
    };
    Some((low, content))
}

fn entry(resource: &Resource, mut table: toml::Table, faults: &mut Vec<Wrong>) -> Option<Entry> {
    let at = format!("registers.{resource}");
    let mut words = |key: &str, faults: &mut Vec<Wrong>| match table.remove(key)? {
        toml::Value::String(text) => Some(text),
        _ => {
            faults.push(Wrong::new(&format!("{at}.{key}"), "expected a string", None));
            None
        }
    };
    let (unit, source) = (words("unit", faults), words("source", faults));
    let register: Register = typed(table, &at, faults)?;
    // The same rules as for a resource of a device, so the same words.
    let issues = config::of_profile(resource.as_str(), &register).err().unwrap_or_default();
    faults.extend(issues.into_iter().map(|issue| {
        let key: Vec<String> = issue.path.into_iter().skip(1).collect();
        Wrong { key: format!("registers.{}", key.join(".")), why: issue.why, hint: issue.hint }
    }));
    Some(Entry { register, unit, source })
}

/// A table as a type.
fn typed<'de, T: DeserializeOwned, D>(table: D, at: &str, faults: &mut Vec<Wrong>) -> Option<T>
where
    D: serde::Deserializer<'de, Error = toml::de::Error>,
{
    match serde_path_to_error::deserialize(table) {
        Ok(typed) => Some(typed),
        Err(error) => {
            let path = error.path().to_string();
            let keys = [at, path.as_str()];
            let keys: Vec<&str> = keys.into_iter().filter(|key| !key.is_empty() && *key != ".").collect();
            faults.push(Wrong::new(&keys.join("."), error.inner().message(), None));
            None
        }
    }
}

impl Wrong {
    fn new(key: &str, why: impl Into<String>, hint: Option<&str>) -> Self {
        Self { key: key.to_owned(), why: why.into(), hint: hint.map(str::to_owned) }
    }
}

impl Limits {
    fn wrong(self) -> Vec<Wrong> {
        let ranges = [
            ("limits.max_registers", self.max_registers, 1..=125),
            ("limits.max_bits", self.max_bits, 1..=2_000),
            ("limits.max_hole", self.max_hole, 0..=124),
        ];
        let beyond = |(key, given, range): (&str, Option<u16>, std::ops::RangeInclusive<u16>)| {
            let why = format!("out of range: expected {} to {}", range.start(), range.end());
            given.filter(|given| !range.contains(given)).map(|_| Wrong::new(key, why, None))
        };
        ranges.into_iter().filter_map(beyond).collect()
    }
}

impl Defaults {
    fn wrong(&self) -> Vec<Wrong> {
        let parity = self.parity.as_deref();
        [
            ("unit", self.unit.is_some_and(|unit| !(1..=247).contains(&unit)), "units are 1 to 247"),
            ("baud", self.baud == Some(0), "a line has a speed"),
            (
                "parity",
                parity.is_some_and(|parity| !["even", "odd", "none"].contains(&parity)),
                r#"the parity is one of "even", "odd", "none""#,
            ),
            ("stop_bits", self.stop_bits.is_some_and(|bits| !(1..=2).contains(&bits)), "1 or 2"),
        ]
        .into_iter()
        .filter(|(_, wrong, _)| *wrong)
        .map(|(key, _, why)| Wrong::new(&format!("defaults.{key}"), why, None))
        .collect()
    }
}
