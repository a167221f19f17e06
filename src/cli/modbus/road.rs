//! How a tool gets to its device: through the gateway that has the wire, or over the wire itself.

use super::{Answer, PATIENCE, Place};
use crate::{
    config::{self, Config},
    control::{client, inquire::inquire},
};
use adapter_api::{Devices, EndpointName, clock, inquiry::telling, shown};
use adapter_modbus::tools::{At, Question, answer_alone};
use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
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

impl Road {
    /// Finds the one that works: a wire that a running gateway has is the gateway's.
    pub(super) async fn find(place: &Place) -> anyhow::Result<Self> {
        let socket = place.socket.clone().unwrap_or_else(|| config::control_socket(&place.config));
        for (adapter, wires) in adapters(&socket).await? {
            if let Some(at) = among(&wires, place) {
                if !place.json {
                    let through = shown(&adapter);
                    writeln!(io::stderr(), "through the running gateway, adapter {through}")?;
                }
                return Ok(Self::Live { socket, adapter, at });
            }
        }
        Self::alone(place)
    }

    fn alone(place: &Place) -> anyhow::Result<Self> {
        let mut at = At { unit: place.unit, timeout: place.timeout, ..At::default() };
        if let Some(endpoint) = &place.endpoint {
            let (config, devices) = configured(&place.config, endpoint)?;
            at.endpoint = Some(endpoint.clone());
            return Ok(Self::Alone { config: Box::new(config), devices, at });
        }
        if place.tcp.is_none() && place.port.is_none() {
            bail!("it is not said where the device is: give --endpoint, --tcp or --port");
        }
        if place.tcp.is_some() && place.framing.is_none() && !place.baud.is_empty() {
            bail!("--baud: Modbus TCP has none; behind a converter add --framing rtu");
        }
        if let Some((program, process)) = place.port.as_ref().and_then(|port| holder(Path::new(port))) {
            bail!(
                "another program has the serial port open: {} (process {process}); end it, or if it is a \
                 gateway, say which with --config or --socket",
                shown(&program)
            );
        }
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

/// The running gateway's Modbus adapters and their wires; none where no gateway runs.
async fn adapters(socket: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let asked = clock::timeout(PATIENCE, client::ask(socket, "/v1/status")).await;
    let status =
        match asked.with_context(|| format!("the gateway on {} does not answer", socket.display()))? {
            Ok(status) => status,
            Err(client::AskError::Silent { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
    let units = status.get("units").and_then(Value::as_array).into_iter().flatten();
    let names = units.filter_map(|unit| unit.get("name")?.as_str());
    let mut adapters = Vec::new();
    for name in names.filter(|name| name.starts_with("modbus.")) {
        let (to, mut lines) = telling();
        let question = serde_json::to_value(Question::Wires)?;
        // One that is being restarted has no wires.
        let Ok(Ok(())) = clock::timeout(PATIENCE, inquire(socket, name, &question, &to)).await else {
            continue;
        };
        if let Some(wires) = lines.recv().await {
            adapters.push((name.to_owned(), wires));
        }
    }
    Ok(adapters)
}

/// The place, if it is on one of these wires.
fn among(answer: &Value, place: &Place) -> Option<At> {
    let wires = answer.get("wires")?.as_array()?;
    let mut at = At { unit: place.unit, timeout: place.timeout, ..At::default() };
    if let Some(endpoint) = &place.endpoint {
        let is_it = |device: &Value| device.get("endpoint").and_then(Value::as_str) == Some(endpoint);
        let has =
            |wire: &Value| wire.get("devices").and_then(Value::as_array).is_some_and(|d| d.iter().any(is_it));
        at.endpoint = Some(endpoint.clone());
        return wires.iter().any(has).then_some(at);
    }
    let is_it = |wire: &&str| match (&place.tcp, &place.port) {
        (Some(tcp), _) => {
            [tcp.clone(), format!("{tcp}:502"), format!("[{tcp}]:502")].iter().any(|host| host == wire)
        }
        // A port has several names, as /dev/serial/by-id/... and /dev/ttyUSB0.
        (None, Some(port)) => {
            *wire == port
                || matches!((fs::canonicalize(wire), fs::canonicalize(port)), (Ok(a), Ok(b)) if a == b)
        }
        // Nothing said: the only one.
        (None, None) => wires.len() == 1,
    };
    let names = wires.iter().filter_map(|wire| wire.get("wire")?.as_str());
    at.wire = Some(names.clone().find(is_it)?.to_owned());
    Some(at)
}

/// An endpoint's adapter and its devices, as the file has them.
fn configured(
    file: &Path,
    endpoint: &str,
) -> anyhow::Result<(adapter_modbus::Config, Devices<adapter_modbus::Device>)> {
    let (config, _) = Config::load(file).map_err(|findings| anyhow!("{findings}"))?;
    let name = EndpointName::new(endpoint)?;
    let unit = config.adapters.modbus.into_values().find(|unit| unit.devices.contains_key(&name));
    let unit = unit.with_context(|| {
        format!("{}: no adapter has a Modbus endpoint {endpoint:?} that is enabled", file.display())
    })?;
    Ok((unit.config, unit.devices))
}

/// Who has a port open, of the processes this user may look at: root can open a port that is in use,
/// and two masters on one line garble both.
fn holder(port: &Path) -> Option<(String, u32)> {
    let port = fs::canonicalize(port).ok()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let process = numbers.find(|process| {
        let open = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        let open: Vec<PathBuf> = open.filter_map(|file| fs::read_link(file.path()).ok()).collect();
        // Whoever made a pseudo-terminal has its other end, and is the line itself.
        let made_it = open.iter().any(|file| file.ends_with("ptmx"));
        *process != std::process::id() && !made_it && open.contains(&port)
    })?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some((name.trim().to_owned(), process))
}
