//! The configuration file: what `check` finds.

use super::{Finding, Verdict};
use crate::config::{self, Config, Severity};
use adapter_api::{FaultKind, shown};
use std::path::Path;

const AREA: &str = "configuration";

/// The configuration, if it can be used, and what there is to say about it.
pub(super) fn examine(file: &Path, findings: &mut Vec<Finding>) -> Option<Config> {
    let name = shown(&file.to_string_lossy()).to_string();
    match Config::load(file) {
        Ok((config, notes)) => {
            if !notes.iter().any(|note| note.severity == Severity::Unusable) {
                let (endpoints, all) = (config.endpoints.iter().filter(|e| e.enabled).count(), notes.len());
                let warnings = if all == 0 { String::new() } else { format!("; warnings: {all}") };
                findings.push(Finding::ok(AREA, format!("{name}: good; endpoints: {endpoints}{warnings}")));
            }
            findings.extend(notes.iter().map(finding));
            Some(config)
        }
        Err(wrong) => {
            findings.extend(wrong.iter().map(finding));
            None
        }
    }
}

fn finding(note: &config::Finding) -> Finding {
    let verdict = match note.severity {
        Severity::Warning => Verdict::Warning,
        Severity::Error | Severity::Unusable => Verdict::Error,
    };
    let key = if note.key.is_empty() { String::new() } else { format!("{}: ", note.key) };
    let kind = note.code.map(FaultKind::from);
    let place = match note.line {
        0 => note.file.to_string(),
        line => format!("{}:{line}:{}", note.file, note.column),
    };
    Finding {
        code: kind.map(|kind| kind.code.to_owned()),
        place,
        cause: kind.map_or_else(String::new, |kind| kind.cause.to_owned()),
        todo: note.hint.clone().or_else(|| kind.map(|kind| kind.todo.to_owned())).unwrap_or_default(),
        ..Finding::of(AREA, verdict, format!("{key}{}", note.what))
    }
}
