//! The keys a person writes, what is wrong with them, and what they mean to the rest of the adapter.
//!
//! Serde takes whatever has the right shape; [`resolve`] says the rest, so that a misspelt order is
//! reported at its key with a hint and not as a parse error.

mod chosen;
mod line;
mod manner;
mod register;
mod wiring;

pub(crate) use chosen::known;
pub(crate) use line::{connections, line};
pub(crate) use manner::{Manner, spread};
pub use register::Register;
pub(crate) use register::of_profile;
pub use wiring::{Rs485, Rs485Table};

use crate::{
    plan::Want,
    profile::{Library, Named},
    sunspec::{Choice, Reader},
    value::Form,
    wire::Wire,
};
use adapter_api::{EndpointName, Issue, Place, Reading, Resource, Span};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr, time::Duration};

/// A `[adapters.modbus.NAME]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where devices are that do not say it themselves: `"ADDRESS"` or `"ADDRESS:PORT"`.
    pub host: Option<String>,
    /// In place of hosts: the serial port that all its devices are on, as a path.
    pub port: Option<String>,
    /// `"tcp"`, `"rtu"` or `"ascii"`; if not given, `"rtu"` with a port and `"tcp"` without one.
    pub framing: Option<String>,
    /// Bits per second of the serial line.
    pub baud: Option<i64>,
    /// `"even"`, `"odd"` or `"none"`.
    pub parity: Option<String>,
    /// 1 or 2.
    pub stop_bits: Option<i64>,
    /// 7 (with `"ascii"`) or 8.
    pub data_bits: Option<i64>,
    /// Who switches the direction of an RS-485 port that does not do it itself.
    pub rs485: Option<Rs485>,
    /// Whether the line gives back what is sent over it; if not given, an echo is skipped where it comes.
    pub echo: Option<bool>,
    /// Silence before each request, beyond what the framing needs.
    pub gap: Option<Span>,
    /// How long a device may take for an answer, beside the time its characters take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How long a device that did not answer is left alone on a serial line; 3 time-outs if not given.
    pub quarantine: Option<Span>,
    /// How long a host may take to accept a connection.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Span,
    /// How long a wire is left alone after it was opened; not at all if not given.
    pub connect_delay: Option<Span>,
    /// How many TCP connections to each host, 1 to 16; its units are spread over them. 1 if not given.
    pub connections: Option<i64>,
}

/// A `[endpoints.NAME.modbus]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Where it is, if not at the adapter's host.
    pub host: Option<String>,
    /// Its unit identifier: 0 to 247, or 255.
    #[serde(default = "default_unit")]
    pub unit: i64,
    /// The number of its first register, 0 or 1; 0 if not given, but then `40001` is not read.
    pub base: Option<i64>,
    /// How often its resources are read, unless they say otherwise.
    #[serde(default = "default_period")]
    pub period: Span,
    /// How long it may take for an answer, in place of the adapter's `timeout`.
    pub timeout: Option<Span>,
    /// After how long it may still answer at worst: it is left alone at least so long after a time-out.
    pub max_response: Option<Span>,
    /// Silence before each request to it, in place of the adapter's `gap`; as well for Modbus TCP.
    pub gap: Option<Span>,
    /// How long its wire is left alone after it was opened, in place of the adapter's.
    pub connect_delay: Option<Span>,
    /// The most registers in one request, 1 to 125; 125 if not given.
    pub max_registers: Option<i64>,
    /// The most coils or discrete inputs in one request, 1 to 2000; 2000 if not given.
    pub max_bits: Option<i64>,
    /// The most registers in a row that are read without being asked for, to save a request; 8 if not given.
    pub max_hole: Option<i64>,
    /// The model of the device, whose registers are known.
    pub profile: Option<Named>,
    /// What of the profile is read; all of it if not given.
    pub only: Option<Vec<Resource>>,
    /// What is read, beside the profile or in place of its entries.
    #[serde(default)]
    pub resources: BTreeMap<Resource, Register>,
}

/// Where a TCP connection goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host {
    /// A name or an address.
    pub name: String,
    /// A port.
    pub port: u16,
}

/// A device as the rest of the adapter sees it: checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    /// How one gets there.
    pub wire: Wire,
    /// Which of the connections to its host, from 0.
    pub connection: u16,
    /// Which unit on it.
    pub unit: u8,
    /// How it is asked.
    pub manner: Manner,
    /// What is read.
    pub resources: Vec<Wanted>,
    /// What of it is found by asking the device.
    pub sunspec: Option<Choice>,
    /// The number of its first register, where it is said.
    pub base: Option<u16>,
}

/// A resource as the rest of the adapter sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// Its name.
    pub resource: Resource,
    /// Its entries.
    pub want: Want,
    /// The number that the first register has where this one is named, if it is said there.
    pub base: Option<u16>,
    /// Its meaning.
    pub form: Meaning,
    /// How often it is read.
    pub period: Duration,
}

/// How registers become a reading.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Meaning {
    /// As the configuration or a profile says.
    Form(Form),
    /// As a SunSpec model says.
    SunSpec(Reader),
}

/// Not `"ADDRESS"` or `"ADDRESS:PORT"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address")]
pub(crate) struct HostError;

const HOST_HINT: &str = r#"write it as "192.168.1.20", "meter.example:502" or "[fd00::20]:502""#;

fn default_timeout() -> Span {
    Span::from_secs(1)
}
fn default_connect_timeout() -> Span {
    Span::from_secs(5)
}
fn default_unit() -> i64 {
    1
}
fn default_period() -> Span {
    Span::from_secs(1)
}

impl Meaning {
    /// The reading of registers as they were received; `None` if there are too few of them.
    pub(crate) fn decode(&self, resource: Resource, words: &[u16]) -> Option<Reading> {
        match self {
            Self::Form(form) => form.decode(resource, words),
            Self::SunSpec(reader) => reader.decode(resource, words),
        }
    }

    /// Whether the registers are no longer those that were found.
    pub(crate) fn has_moved(&self, words: &[u16]) -> bool {
        matches!(self, Self::SunSpec(reader) if reader.has_moved(words))
    }
}

impl From<Form> for Meaning {
    fn from(form: Form) -> Self {
        Self::Form(form)
    }
}

impl From<Reader> for Meaning {
    fn from(reader: Reader) -> Self {
        Self::SunSpec(reader)
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.parse::<IpAddr>().is_ok() {
            return Ok(Self { name: text.to_owned(), port: 502 });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !text.ends_with(']') => (name, port.parse().map_err(|_| HostError)?),
            _ => (text, 502),
        };
        let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let good = match bracketed {
            Some(address) => address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()),
            None => {
                !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        if !good || port == 0 {
            return Err(HostError);
        }
        Ok(Self { name: bracketed.unwrap_or(name).to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// What is wrong with the adapter's own table.
pub(crate) fn check(config: &Config) -> Vec<Issue> {
    let mut found = Findings { place: Place::Config, issues: Vec::new() };
    if let Some(host) = &config.host {
        found.host(&["host"], host);
    }
    for (key, span) in [("timeout", config.timeout), ("connect_timeout", config.connect_timeout)] {
        found.not_zero(&[key], span);
    }
    found.issues.extend(line(config).err().unwrap_or_default());
    found.issues
}

/// A device as it is to be read, or all that is wrong with it.
pub(crate) fn resolve(
    config: &Config,
    endpoint: &EndpointName,
    device: &Device,
) -> Result<Target, Vec<Issue>> {
    let mut found = Findings { place: Place::Device(endpoint.clone()), issues: Vec::new() };
    let wire = match (&device.host, &config.host, &config.port) {
        (Some(_), _, Some(_)) => {
            found.add(&["host"], "its adapter has a serial port", "leave it out, or use another adapter");
            None
        }
        (Some(host), _, None) => found.host(&["host"], host).map(Wire::Tcp),
        // Faults of the adapter's own are reported once, at its table.
        (None, Some(host), None) => host.parse().ok().map(Wire::Tcp),
        (None, _, Some(port)) => Some(Wire::Serial(port.clone())),
        (None, None, None) => {
            let hint = "give `host` here, or `host` or `port` at the adapter";
            found.add(&[], "it is not said where the device is", hint);
            None
        }
    };
    let unit = u8::try_from(device.unit).ok().filter(|unit| !(248..=254).contains(unit));
    if unit.is_none() {
        found.add(
            &["unit"],
            "no device can have this unit identifier",
            "units are 1 to 247; 0 and 255 are used by devices that have none",
        );
    }
    if config.port.is_some() && matches!(unit, Some(0 | 255)) {
        found.add(&["unit"], "a device on a serial line has a number", "units are 1 to 247");
    }
    found.not_zero(&["period"], device.period);
    let base = device.base.and_then(|base| u16::try_from(base).ok().filter(|base| *base <= 1));
    if device.base.is_some() && base.is_none() {
        found.add(&["base"], "registers are counted from 0 or from 1", "write `base = 0` or `base = 1`");
    }
    let chosen = found.chosen(&Library::default(), device);
    let manner = found.manner(config, device, chosen.limits);
    found.reach(chosen.sunspec.as_ref(), manner.as_ref());
    let mut resources = Vec::with_capacity(chosen.registers.len());
    for (resource, register) in &chosen.registers {
        let period = register.period.unwrap_or(device.period).duration();
        // A profile counts from 0, whatever the device's own keys do.
        let own = device.resources.get(resource).is_some_and(|own| own.register.is_some());
        let base = base.filter(|_| own);
        if let Some((want, form)) = found.register(resource.as_str(), register, base) {
            let most = manner.as_ref().map_or(u16::MAX, |manner| manner.limits.of(want.table));
            if want.length > most {
                found.too_long(resource.as_str(), want.length, most);
            }
            resources.push(Wanted { resource: resource.clone(), want, base, form: form.into(), period });
        }
    }
    match (wire, unit, manner) {
        (Some(wire), Some(unit), Some(manner)) if found.issues.is_empty() => {
            let sunspec = chosen.sunspec;
            Ok(Target { wire, connection: 0, unit, manner, resources, sunspec, base })
        }
        _ => Err(found.issues),
    }
}

struct Findings {
    place: Place,
    issues: Vec<Issue>,
}

impl Findings {
    fn add(&mut self, path: &[&str], why: impl Into<String>, hint: impl Into<String>) {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        self.issues.push(Issue { place: self.place.clone(), path, why: why.into(), hint: Some(hint.into()) });
    }

    fn host(&mut self, path: &[&str], text: &str) -> Option<Host> {
        let host = text.parse();
        if host.is_err() {
            self.add(path, "not an address", HOST_HINT);
        }
        host.ok()
    }

    fn not_zero(&mut self, path: &[&str], span: Span) {
        if span.is_zero() {
            self.add(path, "must be longer than zero", r#"write for example "1s""#);
        }
    }

    fn one_of<T: Copy>(&mut self, at: &[&str], text: &str, names: &[(&str, T)], what: &str) -> Option<T> {
        let known = names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if known.is_none() {
            self.add(at, format!("there is no such {what}"), listed(what, names));
        }
        known
    }
}

fn listed<T>(what: &str, names: &[(&str, T)]) -> String {
    let names: Vec<String> = names.iter().map(|(name, _)| format!("{name:?}")).collect();
    format!("the {what} is one of {}", names.join(", "))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
