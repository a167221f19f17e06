//! `tidegate profiles`: what models of devices are known, and what is read from one.

use crate::control::client::json_text;
use adapter_api::shown;
use adapter_modbus::profile::{Defaults, Library, Limits, Listed, Profile};
use clap::Args;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

/// What is asked of the profiles.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Show what this one reads
    name: Option<String>,
    /// JSON for scripts
    #[arg(long)]
    json: bool,
}

/// Lists the profiles, or shows one. Exit code 1 if the one is not there or not good, or one of all is not.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let library = Library::default();
    match &options.name {
        Some(name) => show(&library, name, options.json),
        None => list(&library, options.json),
    }
}

fn list(library: &Library, as_json: bool) -> anyhow::Result<ExitCode> {
    let (mut good, mut rows) = (Vec::new(), Vec::new());
    let mut faulty = false;
    for name in library.names() {
        match library.find(&name) {
            Ok(profile) => {
                let description = profile.description.clone().unwrap_or_default();
                let model = format!("{} {}", profile.vendor, profile.model);
                rows.push([name, model, description, profile.origin.to_string()]);
                good.push(summary(&profile));
            }
            Err(error) => {
                faulty = true;
                writeln!(io::stderr(), "{}", shown(&error.to_string()))?;
            }
        }
    }
    if as_json {
        let answer = json!({ "profiles": good, "directory": library.directory().to_string_lossy() });
        writeln!(io::stdout(), "{}", json_text(&answer))?;
    } else {
        write!(io::stdout(), "{}", table(["NAME", "MODEL", "", "FROM"], &rows))?;
        let directory = library.directory().to_string_lossy();
        writeln!(io::stdout(), "More can be put into {}.", shown(&directory))?;
    }
    Ok(if faulty { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(library: &Library, name: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let profile = match library.find(name) {
        Ok(profile) => profile,
        Err(adapter_modbus::profile::NoProfile::Faulty { origin, faults }) => {
            for fault in faults {
                writeln!(io::stderr(), "{}", shown(&format!("{origin}: {fault}")))?;
            }
            return Ok(ExitCode::FAILURE);
        }
        Err(error @ adapter_modbus::profile::NoProfile::Unknown { .. }) => {
            let adapter_modbus::profile::NoProfile::Unknown { names } = &error else { anyhow::bail!(error) };
            anyhow::bail!("{error}; there are {}", names.join(", "));
        }
        Err(error) => anyhow::bail!(error),
    };
    let listed = profile.listed();
    if as_json {
        let mut answer = summary(&profile);
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("resources".into(), listed.iter().map(resource).collect());
        }
        writeln!(io::stdout(), "{}", json_text(&answer))?;
    } else {
        write!(io::stdout(), "{}", text(&profile, &listed))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(profile: &Profile) -> Value {
    let Defaults { unit, baud, parity, stop_bits } = &profile.defaults;
    let Limits { max_registers, max_bits, max_hole } = profile.limits;
    json!({
        "name": profile.name,
        "vendor": profile.vendor,
        "model": profile.model,
        "description": profile.description,
        "source": profile.source,
        "from": profile.origin.to_string(),
        "defaults": { "unit": unit, "baud": baud, "parity": parity, "stop_bits": stop_bits },
        "limits": { "max_registers": max_registers, "max_bits": max_bits, "max_hole": max_hole },
    })
}

fn resource(listed: &Listed) -> Value {
    let Listed { resource, register, kind, order, scale, unit, source } = listed;
    json!({
        "resource": resource,
        "register": register,
        "type": kind,
        "order": order,
        "scale": scale,
        "unit": unit,
        "source": source,
    })
}

fn text(profile: &Profile, listed: &[Listed]) -> String {
    let mut text = String::new();
    let Defaults { unit, baud, parity, stop_bits } = &profile.defaults;
    let mut defaults = Vec::new();
    defaults.extend(unit.map(|unit| format!("unit {unit}")));
    defaults.extend(baud.map(|baud| format!("{baud} baud")));
    defaults.extend(parity.as_ref().map(|parity| format!("parity {parity}")));
    defaults.extend(stop_bits.map(|bits| format!("{bits} stop bit{}", if bits == 1 { "" } else { "s" })));
    let lines = [
        ("model", format!("{} {}", profile.vendor, profile.model)),
        ("", profile.description.clone().unwrap_or_default()),
        ("source", profile.source.clone()),
        ("from", profile.origin.to_string()),
        ("when new", defaults.join(", ")),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        // Writing to a text cannot fail.
        let _infallible = writeln!(text, "{name:<9} {}", shown(value));
    }
    text.push('\n');
    let scaled = |listed: &Listed| listed.scale.map(|scale| format!("x {scale}")).unwrap_or_default();
    let rows: Vec<[String; 6]> = listed
        .iter()
        .map(|listed| {
            [
                listed.resource.to_string(),
                listed.register.clone().unwrap_or_else(|| "asked for".to_owned()),
                [listed.kind.as_deref(), listed.order.as_deref()]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(" "),
                scaled(listed),
                listed.unit.clone().unwrap_or_default(),
                listed.source.clone().unwrap_or_default(),
            ]
        })
        .collect();
    text + &table(["RESOURCE", "REGISTER", "TYPE", "SCALE", "UNIT", "SOURCE"], &rows)
}

/// Columns that are as wide as what they hold; those that hold nothing are left out.
fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for (width, head) in widths.iter_mut().zip(heads).filter(|(width, _)| **width > 0) {
        *width = (*width).max(head.len());
    }
    let mut text = String::new();
    let heads = heads.map(str::to_owned);
    for row in std::iter::once(&heads).chain(rows) {
        let cells: Vec<String> = widths
            .iter()
            .zip(row)
            .filter(|(width, _)| **width > 0)
            .map(|(width, cell)| format!("{:<width$}", shown(cell).to_string(), width = *width))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
