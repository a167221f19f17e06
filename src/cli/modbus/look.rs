//! What `tidegate init` asks a device: what it is, which profile fits it, and one value as a proof.
//!
//! Over the same roads as the tools, so that a device of the running gateway can be asked as well.

use super::{
    Place,
    road::{Road, Settings},
    text,
};
use adapter_api::shown;
use adapter_modbus::{
    profile::{Content, Library, NoProfile},
    tools::{Form, Identify, Question, Read},
};
use anyhow::{anyhow, bail};
use serde_json::Value;
use std::{fmt::Write as _, path::Path};

/// Where a device is, as it is typed behind `tidegate init`.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Wire {
    /// `HOST` or `HOST:PORT`
    Tcp(String),
    /// A serial port and how it is set; 2 stop bits without a parity, as the standard has it, if not given.
    Rtu { port: String, baud: i64, parity: String, stop_bits: Option<i64> },
}

/// What was seen of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Sight {
    /// In words, on lines.
    pub(in crate::cli) said: String,
    /// What fits it.
    pub(in crate::cli) profile: Option<String>,
    /// Without a profile, a register that it has.
    pub(in crate::cli) register: Option<&'static str>,
}

/// Registers that a device without a profile is asked for.
const REGISTERS: [&str; 2] = ["holding:0", "input:0"];
/// The voltages of the second and third phase, where Eastron's meters have them.
const PHASES: [&str; 2] = ["input:2", "input:4"];

impl Place {
    /// The place of a device that no configuration has yet. `config` is that of a gateway which may have the wire.
    pub(in crate::cli) fn of(wire: &Wire, unit: u8, config: &Path) -> Self {
        let mut place = Self {
            endpoint: None,
            tcp: None,
            port: None,
            baud: Vec::new(),
            parity: Vec::new(),
            stop_bits: None,
            framing: None,
            unit: Some(unit),
            timeout: None,
            config: config.to_owned(),
            socket: None,
            json: false,
        };
        match wire {
            Wire::Tcp(host) => place.tcp = Some(host.clone()),
            Wire::Rtu { port, baud, parity, stop_bits } => {
                place.port = Some(port.clone());
                place.baud = vec![*baud];
                place.parity = vec![parity.clone()];
                place.stop_bits = *stop_bits;
            }
        }
        place
    }
}

/// Asks the device. With a profile that is given, whether it fits.
pub(in crate::cli) async fn look(place: &Place, profile: Option<&str>) -> anyhow::Result<Sight> {
    let road = Road::find(place, Settings::One).await?;
    let mut answer = road.ask(Question::Identify(Identify { at: road.at() }), false);
    let (mut said, mut lines) = (String::new(), Vec::new());
    while let Some(line) = answer.next().await? {
        text::identify_lines(&mut said, &line);
        lines.push(line);
    }
    let library = Library::default();
    let profile = match profile {
        Some(given) => Some(given.to_owned()),
        None => match named(&lines, &library) {
            Some(named) => Some(named),
            None if is_eastron(&lines) => Some(phases(&road).await?.to_owned()),
            None => None,
        },
    };
    match &profile {
        Some(name) => {
            let value = of_profile(&road, &library, name, speaks_sunspec(&lines)).await?;
            let _infallible = writeln!(said, "{:<14}  {name}: {value}", "profile");
            Ok(Sight { said, profile, register: None })
        }
        None => {
            let mut register = None;
            for candidate in REGISTERS {
                if let Ok(value) = one(&road, candidate, Form::default()).await? {
                    let _infallible = writeln!(said, "{:<14}  {}", candidate, value.trim_start());
                    register = Some(candidate);
                    break;
                }
            }
            if register.is_none() {
                let which = REGISTERS.join(" nor ");
                let _infallible = writeln!(said, "it answers, and has neither {which}");
            }
            Ok(Sight { said, profile: None, register })
        }
    }
}

/// The profile whose model the device names, or SunSpec where it speaks that.
fn named(lines: &[Value], library: &Library) -> Option<String> {
    let text = |line: &Value, pointer| {
        line.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_uppercase()
    };
    let says = |model: &str| {
        let pointers = ["/object/value", "/known/model"];
        lines.iter().any(|line| pointers.iter().any(|pointer| text(line, pointer).contains(model)))
    };
    let profiles = library.names().into_iter().filter_map(|name| library.find(&name).ok());
    let registers = profiles.filter(|profile| matches!(profile.content, Content::Registers(_)));
    let of_model = registers.filter(|profile| says(&profile.model.to_uppercase()));
    // A longer name says more.
    let best = of_model.max_by_key(|profile| profile.model.len()).map(|profile| profile.name);
    best.or_else(|| speaks_sunspec(lines).then(|| "sunspec".to_owned()))
}

fn speaks_sunspec(lines: &[Value]) -> bool {
    lines.iter().any(|line| line.pointer("/known/as").and_then(Value::as_str) == Some("SunSpec"))
}

fn is_eastron(lines: &[Value]) -> bool {
    let known = lines.iter().filter_map(|line| line.pointer("/known/as")?.as_str());
    known.into_iter().any(|known| known.starts_with("Eastron"))
}

/// A meter that does not say its model: three phases have three voltages. The profiles taken have what the others of
/// the family have as well.
async fn phases(road: &Road) -> anyhow::Result<&'static str> {
    for register in PHASES {
        let form = Form { kind: Some("f32".to_owned()), ..Form::default() };
        let volts = one(road, register, form).await?.ok().and_then(|value| value.parse::<f64>().ok());
        if !volts.is_some_and(|volts| (80.0..300.0).contains(&volts)) {
            return Ok("sdm120");
        }
    }
    Ok("sdm630")
}

/// The first value of a profile, as a proof that it fits.
async fn of_profile(
    road: &Road,
    library: &Library,
    name: &str,
    speaks_sunspec: bool,
) -> anyhow::Result<String> {
    let profile = library.find(name).map_err(|error| match &error {
        NoProfile::Unknown { names } => {
            anyhow!("--profile {}: {error}; there are {}", shown(name), names.join(", "))
        }
        _ => anyhow!(error),
    })?;
    let is_number = |kind: &Option<String>| !matches!(kind.as_deref(), Some("string" | "raw"));
    let mut listed = profile.listed().into_iter().filter(|listed| is_number(&listed.kind));
    let Some((first, register)) = listed.find_map(|first| Some((first.clone(), first.register?))) else {
        if !speaks_sunspec {
            bail!("the device does not speak SunSpec: it says so neither at 40000 nor at 50000 nor at 0");
        }
        return Ok("the device is asked itself what it has".to_owned());
    };
    let form = Form { kind: first.kind, order: first.order, scale: first.scale, ..Form::default() };
    match one(road, &register, form).await? {
        Ok(value) => {
            let unit = first.unit.unwrap_or_default();
            Ok(format!("{} is {value} {}", first.resource.as_str(), shown(&unit)).trim_end().to_owned())
        }
        Err(why) => bail!(
            "the device has no {register}, which the profile {} reads ({why}); `tidegate profiles` lists others, and \
             `tidegate modbus find` looks for registers by what the display shows",
            shown(name)
        ),
    }
}

/// One value; or why the device refuses it. A device that does not answer is an error.
async fn one(road: &Road, register: &str, form: Form) -> anyhow::Result<Result<String, String>> {
    let read = Read { at: road.at(), registers: vec![register.to_owned()], form };
    let mut answer = road.ask(Question::Read(read), false);
    let mut found = Err("no answer".to_owned());
    while let Some(line) = answer.next().await? {
        let Some(value) = line.get("value") else { continue };
        let word = |key: &str| {
            value.get(key).map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned))
        };
        found = match value.get("exception") {
            Some(_) => Err(shown(&word("why").unwrap_or_default()).to_string()),
            None => Ok(shown(&word("value").unwrap_or_default()).to_string()),
        };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_profile_is_known_by_what_the_device_says() {
        let library = Library::new("/nowhere".into());
        for (lines, profile) in [
            (
                json!([{ "object": { "name": "product code", "value": "Eastron SDM630-Modbus V2" } }]),
                Some("sdm630"),
            ),
            (json!([{ "object": { "name": "model", "value": "sdm72d" } }]), Some("sdm72")),
            (json!([{ "known": { "as": "SunSpec", "vendor": "SMA", "model": "STP" } }]), Some("sunspec")),
            (json!([{ "object": { "name": "vendor", "value": "Eastron" } }]), None),
            (json!([{ "no_identification": "SDM630" }]), None),
        ] {
            let lines = lines.as_array().unwrap();
            assert_eq!(named(lines, &library).as_deref(), profile, "{lines:?}");
        }
    }
}
