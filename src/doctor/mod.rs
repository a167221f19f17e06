//! What is right and what is wrong with a gateway and what is around it, whether it runs or not: for the person who
//! stands in front of it.
//!
//! | file | looks at |
//! |---|---|
//! | `configuration` | the file, as `check` does |
//! | `running` | the gateway that answers on the control socket, and what it says itself |
//! | `service` | the service of systemd: how it fares, what it sees and where it may write |
//! | `files` | the files that the configuration names: whether the gateway's user gets at them |
//! | `machine` | the clock, watches on files |
//! | `disk` | the state directory, room, how long a write takes, the database |
//! | `serial` | serial ports: there, allowed, free |
//! | `platform` | the way to the platform: name, port, certificates, login |
//! | `person` | who the gateway is, and what that user may |
//!
//! Nothing is changed by it but for a file in the state directory that is removed at once. Not here: how findings are
//! printed (`cli/doctor`).

mod configuration;
mod disk;
mod files;
mod machine;
mod person;
mod platform;
mod running;
mod serial;
mod service;

use crate::config::{self, Config, Uplink, files::SERVICE};
use adapter_api::{Fault, FaultKind, shown};
use person::Person;
use running::Running;
use serde::Serialize;
pub use serial::holders;
use service::Service;
pub use service::unit;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and probably not for long or not as was meant.
    Warning,
    /// It does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, in a word.
    pub area: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// Of a fault that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What was found.
    pub what: String,
    /// A key, a path, an address.
    #[serde(rename = "where", skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// What it mostly comes from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What a person can do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub todo: String,
}

impl Finding {
    fn of(area: &'static str, verdict: Verdict, what: impl Into<String>) -> Self {
        let (place, cause, todo) = Default::default();
        Self { area, verdict, code: None, what: what.into(), place, cause, todo }
    }

    fn ok(area: &'static str, what: impl Into<String>) -> Self {
        Self::of(area, Verdict::Ok, what)
    }

    fn warning(area: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { todo: todo.into(), ..Self::of(area, Verdict::Warning, what) }
    }

    fn error(area: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { todo: todo.into(), ..Self::of(area, Verdict::Error, what) }
    }

    /// A fault of the tables.
    fn fault(area: &'static str, fault: Fault) -> Self {
        let Fault { code, what, place, cause, todo } = fault;
        let (code, cause, todo) = (Some(code.to_owned()), cause.to_owned(), todo.into_owned());
        Self { area, verdict: Verdict::Error, code, what, place, cause, todo }
    }

    /// One of a kind, with a remedy for just this case where there is one.
    fn kind(
        area: &'static str,
        kind: impl Into<FaultKind>,
        what: String,
        place: &str,
        todo: Option<String>,
    ) -> Self {
        let fault = Fault::new(kind, what, place);
        Self::fault(
            area,
            match todo {
                Some(todo) => fault.with_remedy(todo),
                None => fault,
            },
        )
    }

    /// As bad as this.
    fn but(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }
}

/// The verdict, the area, what was found; below it where, why and what to do, as far as there is something to say.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Error => "ERROR",
        };
        let code = self.code.as_ref().map(|code| format!("{} ", shown(code))).unwrap_or_default();
        write!(f, "{verdict:<8} {:<14} {code}{}", self.area, shown(&self.what))?;
        for (name, part) in [("where", &self.place), ("cause", &self.cause), ("to do", &self.todo)] {
            if !part.is_empty() {
                write!(f, "\n{:<24}{name}: {}", "", shown(part))?;
            }
        }
        Ok(())
    }
}

/// Looks at everything there is to look at: the file, and what follows from it.
pub async fn examine(file: &Path, socket: Option<PathBuf>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let config = configuration::examine(file, &mut findings);
    let service = Service::of(file).await;
    findings.extend(service.as_ref().map(Service::finding));
    // What the file cannot say of its gateway is not asked of another one.
    let Ok(socket) = socket.map_or_else(|| config::control_socket(file), Ok) else { return findings };
    let running = Running::ask(&socket).await;
    let unit = unit(file).unwrap_or_else(|| SERVICE.to_owned());
    findings.extend(running.findings(&socket, &unit));
    let person = Person::of_gateway(file, running.pid());
    findings.extend(files::examine(file, &person, service.as_ref()));
    findings.push(machine::watches(&person, running.pid(), &unit));
    let Some(config) = config else { return findings };
    findings.push(machine::clock(&config, &running).await);
    findings.extend(disk::examine(&config, &person, service.as_ref(), &running));
    findings.extend(serial::examine(&serial_ports(&config), &person, service.as_ref(), running.pid()));
    if let Uplink::Mqtt(uplink) = &config.uplink {
        findings.extend(platform::examine(uplink, &running).await);
    }
    findings
}

/// The serial ports of all adapters.
fn serial_ports(config: &Config) -> Vec<String> {
    #[cfg(feature = "modbus")]
    let ports = config.adapters.modbus.values().filter_map(|unit| unit.config.port.clone()).collect();
    #[cfg(not(feature = "modbus"))]
    let ports = Vec::new();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Code;

    #[test]
    fn a_finding_is_shown_with_what_there_is_to_say_and_steers_nothing() {
        let fault = Fault::new(Code::Refused, "no\u{1b}[2J", "broker port 1");
        let shown = Finding::fault("port", fault).to_string();
        assert!(shown.starts_with("ERROR    port           TG-102 no\\u{1b}[2J\n"), "{shown}");
        assert_eq!(shown.lines().count(), 4);
        assert_eq!(Finding::ok("disk", "there is room").to_string(), "ok       disk           there is room");
        let doubt = Finding::warning("clock", "it is not known", "look at it");
        assert_eq!(serde_json::to_value(&doubt).unwrap()["verdict"], "warning");
        assert_eq!(doubt.to_string().lines().count(), 2);
    }
}
