//! The keys a person writes, what is wrong with them, and what they mean to the rest of the adapter.
//!
//! Serde takes whatever has the right shape; [`resolve`] says the rest, so that a misspelt order is
//! reported at its key with a hint and not as a parse error.

use crate::{
    plan::Want,
    point::{Point, Table},
    value::{Form, Kind, Order},
};
use adapter_api::{EndpointName, Issue, Place, Resource, Span};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr, time::Duration};

/// A `[adapters.modbus.NAME]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where devices are that do not say it themselves: `"ADDRESS"` or `"ADDRESS:PORT"`.
    pub host: Option<String>,
    /// How long a device may take for an answer.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How long a host may take to accept a connection.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Span,
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
    /// How often its resources are read, unless they say otherwise.
    #[serde(default = "default_period")]
    pub period: Span,
    /// What is read.
    pub resources: BTreeMap<Resource, Register>,
}

/// One resource of a device.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Where it begins: `"holding:0"`.
    pub register: String,
    /// Its type; may be left out for coils, discrete inputs and where `bit` is given.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The order of its bytes, `"ABCD"` if not given.
    pub order: Option<String>,
    /// Which bit of the register, 0 the least significant.
    pub bit: Option<i64>,
    /// Factor.
    pub scale: Option<f64>,
    /// Summand, after the factor.
    pub offset: Option<f64>,
    /// How often it is read.
    pub period: Option<Span>,
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
    /// On which connection.
    pub host: Host,
    /// Which unit on it.
    pub unit: u8,
    /// What is read.
    pub resources: Vec<Wanted>,
}

/// A resource as the rest of the adapter sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// Its name.
    pub resource: Resource,
    /// Its entries.
    pub want: Want,
    /// Its meaning.
    pub form: Form,
    /// How often it is read.
    pub period: Duration,
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
    found.issues
}

/// A device as it is to be read, or all that is wrong with it.
pub(crate) fn resolve(
    config: &Config,
    endpoint: &EndpointName,
    device: &Device,
) -> Result<Target, Vec<Issue>> {
    let mut found = Findings { place: Place::Device(endpoint.clone()), issues: Vec::new() };
    let host = match (&device.host, &config.host) {
        (Some(host), _) => found.host(&["host"], host),
        // Its own fault is reported once, at the adapter's table.
        (None, Some(host)) => host.parse().ok(),
        (None, None) => {
            found.add(&[], "it is not said where the device is", "give `host` here or at the adapter");
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
    found.not_zero(&["period"], device.period);
    if device.resources.is_empty() {
        found.add(&["resources"], "there is nothing to read", "name at least one resource and its register");
    }
    let mut resources = Vec::with_capacity(device.resources.len());
    for (resource, register) in &device.resources {
        let period = register.period.unwrap_or(device.period).duration();
        if let Some((want, form)) = found.register(resource.as_str(), register) {
            resources.push(Wanted { resource: resource.clone(), want, form, period });
        }
    }
    match (host, unit) {
        (Some(host), Some(unit)) if found.issues.is_empty() => Ok(Target { host, unit, resources }),
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

    /// Everything of one resource; `None` if something is wrong with it.
    fn register(&mut self, name: &str, register: &Register) -> Option<(Want, Form)> {
        let before = self.issues.len();
        let at = |key: &'static str| ["resources", name, key];
        if let Some(period) = register.period {
            self.not_zero(&at("period"), period);
        }
        let point = match register.register.parse::<Point>() {
            Ok(point) => Some(point),
            Err(error) => {
                self.add(&at("register"), error.to_string(), error.hint());
                None
            }
        };
        let kind = self.kind(name, register, point.map(|point| point.table));
        let order = match &register.order {
            None => Some(Order::default()),
            Some(text) => self.one_of(&at("order"), text, &Order::NAMES, "order of bytes"),
        };
        if let (Some(point), Some(kind)) = (point, kind) {
            self.fits(name, point, kind);
            self.bits(name, register, point.table, kind);
        }
        for (key, number) in [("scale", register.scale), ("offset", register.offset)] {
            if number.is_some_and(|n| !n.is_finite() || (key == "scale" && n == 0.0)) {
                self.add(&at(key), "not usable as a number here", "a finite number; a scale not zero");
            } else if number.is_some() && kind == Some(Kind::Bool) {
                self.add(&at(key), "a truth value has none", "leave it out");
            }
        }
        let (Point { table, address: start }, kind, order) = (point?, kind?, order?);
        let bit = register.bit.and_then(|bit| u8::try_from(bit).ok()).unwrap_or_default();
        let (scale, offset) = (register.scale.unwrap_or(1.0), register.offset.unwrap_or(0.0));
        let form = Form { kind, order, bit, scale, offset };
        (self.issues.len() == before).then_some((Want { table, start, length: kind.length() }, form))
    }

    fn kind(&mut self, name: &str, register: &Register, table: Option<Table>) -> Option<Kind> {
        let at = ["resources", name, "type"];
        match (&register.kind, table) {
            (Some(text), _) => self.one_of(&at, text, &Kind::NAMES, "type"),
            (None, Some(table)) if table.is_bits() => Some(Kind::Bool),
            (None, _) if register.bit.is_some() => Some(Kind::Bool),
            (None, Some(_)) => {
                self.add(&["resources", name], "the type is missing", listed("type", &Kind::NAMES));
                None
            }
            // The register itself could not be read; that is enough for one go.
            (None, None) => None,
        }
    }

    fn fits(&mut self, name: &str, point: Point, kind: Kind) {
        if u32::from(point.address) + u32::from(kind.length()) > 65_536 {
            self.add(
                &["resources", name, "register"],
                format!("a value of {} registers at {point} ends behind register 65535", kind.length()),
                "check the address and the type",
            );
        }
    }

    /// What goes together with single bits.
    fn bits(&mut self, name: &str, register: &Register, table: Table, kind: Kind) {
        let at = |key: &'static str| ["resources", name, key];
        if table.is_bits() {
            if kind != Kind::Bool {
                let why = format!("an entry of the table {} is one bit", table.name());
                self.add(&at("type"), why, r#"leave it out, or write "bool""#);
            }
            for (key, given) in [("bit", register.bit.is_some()), ("order", register.order.is_some())] {
                if given {
                    self.add(&at(key), "a single bit has none", "leave it out");
                }
            }
        } else if kind == Kind::Bool {
            match register.bit {
                None => {
                    let hint = "add `bit = 0` (the least significant) to `bit = 15`";
                    self.add(&["resources", name], "it is not said which bit of the register", hint);
                }
                Some(0..=15) => {}
                Some(_) => {
                    self.add(&at("bit"), "a register has the bits 0 to 15", "0 is the least significant");
                }
            }
        } else if register.bit.is_some() {
            self.add(&at("bit"), "only a truth value has a bit", r#"write `type = "bool"`, or leave it out"#);
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
