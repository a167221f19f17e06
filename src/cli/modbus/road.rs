//! How a tool gets to its device: through the gateway that has the wire, or over the wire itself.

use super::{Answer, CONFIG, PATIENCE, Place};
use crate::{
    config::{self, Config},
    control::{client, inquire::inquire},
    doctor::holders,
};
use adapter_api::{Devices, EndpointName, clock, inquiry::telling, shown};
use adapter_modbus::tools::{At, Question, answer_alone, same_host, wire_of};
use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::JoinSet;

/// One of the two ways.
#[derive(Debug)]
pub(super) enum Road {
    /// Through the running gateway.
    Live {
        /// Its control socket.
        socket: PathBuf,
        /// `modbus.site`
        adapter: String,
        at: At,
    },
    /// Over a wire of the tool's own.
    Alone { config: Box<adapter_modbus::Config>, devices: Devices<adapter_modbus::Device>, at: At },
}

/// What a tool does with speeds and parities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settings {
    /// It uses one.
    One,
    /// It tries them.
    Several,
}

impl Road {
    /// Finds the one that works: a wire that a running gateway has is the gateway's.
    pub(super) async fn find(place: &Place, settings: Settings) -> anyhow::Result<Self> {
        applicable(place, settings)?;
        // What `init` has yet to write names no gateway, and the wire may be the packaged one's.
        let named =
            || config::control_socket(&place.config).or_else(|_| config::control_socket(CONFIG.as_ref()));
        let socket = place.socket.clone().map_or_else(named, Ok)?;
        let running = adapters(&socket).await?;
        for (adapter, wires) in &running {
            if let Some((at, setting)) = among(wires, place).await {
                if let Some(option) = contradicted(place, &setting, settings) {
                    let wire = at.wire.as_deref().or(at.endpoint.as_deref()).unwrap_or_default();
                    bail!("{option}: the running gateway uses {wire} at {}; leave it out", shown(&setting));
                }
                if !place.json {
                    let through = shown(adapter);
                    writeln!(io::stderr(), "through the running gateway, adapter {through}")?;
                }
                return Ok(Self::Live { socket, adapter: adapter.clone(), at });
            }
        }
        Self::alone(place, &running).await
    }

    async fn alone(place: &Place, running: &[(String, Value)]) -> anyhow::Result<Self> {
        let mut at = At { unit: place.unit, timeout: place.timeout, ..At::default() };
        if let Some(endpoint) = &place.endpoint {
            let (name, config, devices) = configured(&place.config, endpoint)?;
            let wire = devices.get(&name).and_then(|device| wire_of(&config, &name, device));
            let wire =
                wire.with_context(|| format!("endpoint {endpoint}: `tidegate check` says what is wrong"))?;
            let wire = if config.port.is_some() { Wire::Port(&wire) } else { Wire::Host(&wire) };
            for (adapter, wires) in running {
                if wire.named(wires).await.is_some() {
                    bail!(
                        "the running gateway has the wire of {endpoint} (adapter {}), but not yet the endpoint: \
                         restart it (systemctl restart tidegate), or give the wire and --unit in place of --endpoint",
                        shown(adapter)
                    );
                }
            }
            wire.free()?;
            at.endpoint = Some(endpoint.clone());
            return Ok(Self::Alone { config: Box::new(config), devices, at });
        }
        let Some(wire) = Wire::of(place) else {
            bail!("it is not said where the device is: give --endpoint, --tcp or --port");
        };
        if place.tcp.is_some() && place.framing.is_none() && !place.baud.is_empty() {
            bail!("--baud: Modbus TCP has none; behind a converter add --framing rtu");
        }
        wire.free()?;
        // As in `[adapters.modbus.*]`, and checked like it.
        let config = json!({
            "host": place.tcp,
            "port": place.port,
            "framing": place.framing,
            "baud": place.baud.first(),
            "parity": place.parity.first(),
            "stop_bits": place.stop_bits,
        });
        let config = serde_json::from_value(config).context("the place of the device")?;
        Ok(Self::Alone { config: Box::new(config), devices: Devices::new(), at })
    }

    pub(super) fn at(&self) -> At {
        match self {
            Self::Live { at, .. } | Self::Alone { at, .. } => at.clone(),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }

    /// Asks, and hands out the answer as it comes.
    pub(super) fn ask(&self, question: Question, json: bool) -> Answer {
        let (to, lines) = telling();
        let mut bringer = JoinSet::new();
        match self {
            Self::Live { socket, adapter, .. } => {
                let (socket, adapter) = (socket.clone(), adapter.clone());
                bringer.spawn(async move {
                    let question = serde_json::to_value(question)?;
                    Ok(inquire(&socket, &adapter, &question, &to).await?)
                });
            }
            Self::Alone { config, devices, .. } => {
                let (config, devices) = (config.as_ref().clone(), devices.clone());
                bringer.spawn(async move {
                    answer_alone(config, devices, question, to).await;
                    Ok(())
                });
            }
        }
        Answer { lines, bringer, json }
    }
}

/// Options that are used for nothing here.
fn applicable(place: &Place, settings: Settings) -> anyhow::Result<()> {
    let beside_speeds = [("--parity", !place.parity.is_empty()), ("--stop-bits", place.stop_bits.is_some())];
    let given =
        |options: &[(&'static str, bool)]| options.iter().find(|(_, given)| *given).map(|(name, _)| *name);
    if place.endpoint.is_some() {
        if place.framing.is_some() {
            bail!("--framing: the endpoint's adapter has one; leave it out");
        }
        let option = given(&beside_speeds).or((!place.baud.is_empty()).then_some("--baud"));
        if let Some(option) = option.filter(|_| settings == Settings::One) {
            bail!(
                "{option}: the endpoint's adapter has one; leave it out, or give --port in place of --endpoint"
            );
        }
    }
    match settings {
        Settings::One if place.baud.len() > 1 => bail!("--baud: only `scan` tries several"),
        Settings::One if place.parity.len() > 1 => bail!("--parity: only `scan` tries several"),
        Settings::Several if place.baud.is_empty() => match given(&beside_speeds) {
            Some(option) => bail!("{option}: give --baud with it"),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// An option that is not as the gateway's line is set (`9600 8N2 rtu`).
fn contradicted(place: &Place, setting: &str, settings: Settings) -> Option<&'static str> {
    let words: Vec<&str> = setting.split(' ').collect();
    if place.framing.as_deref().is_some_and(|framing| words.last() != Some(&framing)) {
        return Some("--framing");
    }
    // Those it would try are the adapter's to refuse.
    if settings == Settings::Several {
        return None;
    }
    let (baud, characters) = match words.as_slice() {
        [baud, characters, _] => (baud.parse().ok(), *characters),
        _ => (None, ""),
    };
    if place.baud.iter().any(|typed| Some(*typed) != baud) {
        return Some("--baud");
    }
    let letter = |parity: &String| parity.chars().next().map(|letter| letter.to_ascii_uppercase());
    if place.parity.iter().any(|parity| letter(parity) != characters.chars().nth(1)) {
        return Some("--parity");
    }
    let stop_bits = characters.chars().nth(2).and_then(|digit| digit.to_digit(10)).map(i64::from);
    place.stop_bits.is_some_and(|typed| Some(typed) != stop_bits).then_some("--stop-bits")
}

/// A wire, as it was typed or as it is configured.
#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Host(&'a str),
    Port(&'a str),
}

impl<'a> Wire<'a> {
    fn of(place: &'a Place) -> Option<Self> {
        place.tcp.as_deref().map(Self::Host).or(place.port.as_deref().map(Self::Port))
    }

    /// What a gateway calls it and how it is set, if it is one of these.
    async fn named(self, answer: &Value) -> Option<(String, String)> {
        for wire in answer.get("wires")?.as_array()? {
            if let Some(name) = wire.get("wire").and_then(Value::as_str)
                && self.is(name, wire.get("serial") == Some(&Value::Bool(true))).await
            {
                return Some((name.to_owned(), setting(wire)));
            }
        }
        None
    }

    async fn is(self, name: &str, serial: bool) -> bool {
        match self {
            Self::Host(host) => !serial && same_host(host, name).await,
            // A port has several names, as /dev/serial/by-id/... and /dev/ttyUSB0.
            Self::Port(port) => {
                name == port
                    || matches!((fs::canonicalize(name), fs::canonicalize(port)), (Ok(a), Ok(b)) if a == b)
            }
        }
    }

    /// Whether nobody has it, as far as that can be seen.
    fn free(self) -> anyhow::Result<()> {
        let Self::Port(port) = self else { return Ok(()) };
        if let Some((program, process)) = holders(Path::new(port)).into_iter().next() {
            bail!(
                "another program has the serial port open: {} (process {process}); end it, or if it is a \
                 gateway, say which with --config or --socket",
                shown(&program)
            );
        }
        Ok(())
    }
}

fn setting(wire: &Value) -> String {
    wire.get("setting").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The running gateway's Modbus adapters and their wires; none where no gateway runs. A gateway that does
/// not say them may have any.
async fn adapters(socket: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let asked = clock::timeout(PATIENCE, client::ask(socket, "/v1/status")).await;
    let status =
        match asked.with_context(|| format!("the gateway on {} does not answer", socket.display()))? {
            Ok(status) => status,
            Err(client::AskError::Silent { .. }) if !is_forbidden(socket) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
    let units = status.get("units").and_then(Value::as_array).into_iter().flatten();
    let names = units.filter_map(|unit| unit.get("name")?.as_str());
    let mut adapters = Vec::new();
    for name in names.filter(|name| name.starts_with("modbus.")) {
        let (to, mut lines) = telling();
        let question = serde_json::to_value(Question::Wires)?;
        let unsaid = || {
            format!(
                "the running gateway does not say which wires its adapter {} has, and one wire has one master; \
                 ask again, or stop the gateway (systemctl stop tidegate)",
                shown(name)
            )
        };
        clock::timeout(PATIENCE, inquire(socket, name, &question, &to))
            .await
            .with_context(unsaid)?
            .with_context(unsaid)?;
        drop(to);
        adapters.push((name.to_owned(), lines.recv().await.with_context(unsaid)?));
    }
    Ok(adapters)
}

/// A socket that this user may not use, which says nothing about who listens.
fn is_forbidden(socket: &Path) -> bool {
    let connected = std::os::unix::net::UnixStream::connect(socket);
    connected.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The place and how its wire is set, if it is on one of these wires.
async fn among(answer: &Value, place: &Place) -> Option<(At, String)> {
    let wires = answer.get("wires")?.as_array()?;
    let mut at = At { unit: place.unit, timeout: place.timeout, ..At::default() };
    if let Some(endpoint) = &place.endpoint {
        let is_it = |device: &Value| device.get("endpoint").and_then(Value::as_str) == Some(endpoint);
        let has = |wire: &&Value| {
            wire.get("devices").and_then(Value::as_array).is_some_and(|d| d.iter().any(is_it))
        };
        at.endpoint = Some(endpoint.clone());
        return Some((at, setting(wires.iter().find(has)?)));
    }
    let (name, setting) = match (Wire::of(place), wires.as_slice()) {
        (Some(wire), _) => wire.named(answer).await?,
        // Nothing said: the only one.
        (None, [only]) => (only.get("wire")?.as_str()?.to_owned(), setting(only)),
        (None, _) => return None,
    };
    at.wire = Some(name);
    Some((at, setting))
}

type Configured = (EndpointName, adapter_modbus::Config, Devices<adapter_modbus::Device>);

/// An endpoint's adapter and its devices, as the file has them.
fn configured(file: &Path, endpoint: &str) -> anyhow::Result<Configured> {
    let (config, _) = Config::load(file).map_err(|findings| anyhow!("{findings}"))?;
    let name = EndpointName::new(endpoint)?;
    let unit = config.adapters.modbus.into_values().find(|unit| unit.devices.contains_key(&name));
    let unit = unit.with_context(|| {
        format!("{}: no adapter has a Modbus endpoint {endpoint:?} that is enabled", file.display())
    })?;
    Ok((name, unit.config, Arc::unwrap_or_clone(unit.devices)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        place: Place,
    }

    #[test]
    fn what_contradicts_the_gateways_line_is_named() {
        for (typed, setting, option) in [
            ("", "9600 8N2 rtu", None),
            ("--baud 9600 --parity none --stop-bits 2 --framing rtu", "9600 8N2 rtu", None),
            ("--baud 19200", "9600 8N2 rtu", Some("--baud")),
            ("--baud 9600 --parity even", "9600 8N2 rtu", Some("--parity")),
            ("--stop-bits 1", "9600 8N2 rtu", Some("--stop-bits")),
            ("--framing ascii", "9600 8N2 rtu", Some("--framing")),
            ("--framing rtu", "tcp", Some("--framing")),
            ("--baud 9600", "rtu", Some("--baud")),
        ] {
            let place = Typed::parse_from(["x"].into_iter().chain(typed.split_whitespace())).place;
            assert_eq!(contradicted(&place, setting, Settings::One), option, "{typed} at {setting}");
            let tried = option.filter(|option| *option == "--framing");
            assert_eq!(contradicted(&place, setting, Settings::Several), tried, "{typed} at {setting}");
        }
    }
}
