//! Where a tool's device is: which wire, which unit, by its endpoint or by what was typed.

use super::{End, question::At, tap::Tap, way::Way};
use crate::{
    Config, Device,
    config::{self, Target, Wanted},
    line::Line,
    outside::Outside,
    plan::Limits,
    wire::Wire,
};
use adapter_api::{Clock, Devices, EndpointName};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// The connections of a running bus, with the units that each of them polls.
pub(crate) type Connections = Vec<(BTreeSet<u8>, Outside)>;

/// What the tools work on: an adapter's wires and devices, of a running one or of one made for them.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    pub config: Config,
    pub line: Line,
    pub devices: Devices<Device>,
    /// The running adapter's; `None` without one.
    pub buses: Option<BTreeMap<Wire, Connections>>,
    pub tap: Tap,
    pub clock: Clock,
    /// One for each tool that asks devices.
    pub seats: Arc<Semaphore>,
}

/// A device's place.
pub(super) struct Place {
    pub way: Way,
    pub target: Target,
}

impl Bench {
    /// A device that has what `resources` say and nothing else, at the place of an endpoint or of its own.
    fn device(&self, at: &At, resources: Value, base: Option<i64>) -> Result<Device, End> {
        let mut device = match &at.endpoint {
            Some(endpoint) => Device { profile: None, only: None, ..self.endpoint(endpoint)?.clone() },
            None => {
                // Its own host would be redundant, and beside a port wrong.
                let host = at.wire.as_ref().filter(|_| self.config.port.is_none());
                let unit = at.unit.unwrap_or(1);
                let made = json!({ "host": host, "unit": unit, "resources": {} });
                serde_json::from_value(made).map_err(|_| End::Wrong("not a place".to_owned(), None))?
            }
        };
        device.base = base.or(device.base);
        device.resources = serde_json::from_value(resources)
            .map_err(|error| End::Wrong(format!("not a register: {error}"), None))?;
        Ok(device)
    }

    pub(super) fn endpoint(&self, endpoint: &str) -> Result<&Device, End> {
        self.devices
            .get(endpoint)
            .ok_or_else(|| End::Wrong(format!("this adapter has no endpoint {endpoint:?}"), None))
    }

    /// Where a device is, how it is asked, and what it has: an endpoint what its configuration says,
    /// another one nothing of interest.
    pub(super) fn place(&self, at: &At) -> Result<Place, End> {
        let mut device = match &at.endpoint {
            Some(endpoint) => self.endpoint(endpoint)?.clone(),
            None => self.device(at, json!({ "any": { "register": "holding:0", "type": "u16" } }), None)?,
        };
        device.unit = at.unit.map_or(device.unit, i64::from);
        let target = self.resolve(&device)?;
        let mut way = self.way(&target)?;
        if let Some(timeout) = at.timeout {
            way.hurry(timeout);
        }
        Ok(Place { way, target })
    }

    /// Registers that were typed, at a place that was found.
    pub(super) fn typed(
        &self,
        at: &At,
        resources: Value,
        base: Option<i64>,
        limits: Limits,
    ) -> Result<Vec<Wanted>, End> {
        let mut device = self.device(at, resources, base)?;
        (device.max_registers, device.max_bits) = (Some(limits.registers.into()), Some(limits.bits.into()));
        Ok(self.resolve(&device)?.resources)
    }

    /// Checked as a configuration is.
    pub(super) fn resolve(&self, device: &Device) -> Result<Target, End> {
        let name = EndpointName::new("tool").map_err(|error| End::Wrong(error.to_string(), None))?;
        Ok(config::resolve(&self.config, &name, device)?)
    }

    fn way(&self, target: &Target) -> Result<Way, End> {
        let Some(buses) = &self.buses else { return Ok(Way::own(self, target)) };
        match buses.get(&target.wire) {
            Some(connections) => Ok(Way::over_bus(target, connections.clone())),
            None => {
                let hint = "see `tidegate status`; give the wire as the configuration has it";
                let why = format!("the running adapter has no wire {}", target.wire);
                Err(End::Wrong(why, Some(hint.to_owned())))
            }
        }
    }

    /// What there is, for those who look for their device.
    pub(super) fn wires(&self) -> Value {
        let mut units: BTreeMap<Wire, Vec<Value>> = BTreeMap::new();
        for (endpoint, device) in &self.devices {
            if let Ok(target) = config::resolve(&self.config, endpoint, device) {
                let at = json!({ "endpoint": endpoint.as_str(), "unit": target.unit });
                units.entry(target.wire).or_default().push(at);
            }
        }
        let setting = setting_text(&self.line);
        let wires = units.into_iter().map(|(wire, devices)| {
            let serial = matches!(wire, Wire::Serial(_));
            json!({ "wire": wire.to_string(), "serial": serial, "setting": setting, "devices": devices })
        });
        json!({ "wires": wires.collect::<Vec<_>>() })
    }
}

/// `9600 8E1`, or what goes over TCP.
pub(super) fn setting_text(line: &Line) -> String {
    let framing = line.framing.name();
    match line.characters {
        Some(c) => {
            let parity = match c.parity {
                crate::line::Parity::None => 'N',
                crate::line::Parity::Even => 'E',
                crate::line::Parity::Odd => 'O',
            };
            format!("{} {}{parity}{} {framing}", c.baud, c.data_bits, c.stop_bits)
        }
        None => framing.to_owned(),
    }
}
