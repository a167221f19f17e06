//! `tidegate check`: what is wrong with a configuration, for people or for scripts.

use super::EX_CONFIG;
use crate::{
    config::{Config, Finding, Severity, excerpt},
    control::client,
};
use adapter_api::shown;
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// Checks a file; with exit code 78 if the daemon would not run well with it.
pub(super) fn run(file: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let (good, findings) = match Config::load(file) {
        Ok((_, warnings)) => (warnings.iter().all(|found| found.severity == Severity::Warning), warnings),
        Err(findings) => (false, findings.iter().cloned().collect()),
    };
    let name = file.to_string_lossy();
    if as_json {
        let findings: Vec<Value> = findings.iter().map(finding).collect();
        let answer = json!({ "file": name, "good": good, "findings": findings });
        writeln!(io::stdout(), "{}", client::json_text(&answer))?;
    } else {
        for line in excerpt(&findings) {
            writeln!(io::stderr(), "{line}")?;
        }
        if good {
            writeln!(io::stdout(), "{}: good, {} warnings", shown(&name), findings.len())?;
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(EX_CONFIG) })
}

fn finding(found: &Finding) -> Value {
    json!({
        "severity": found.severity.to_string(),
        "code": found.code,
        "line": found.line,
        "column": found.column,
        "key": found.key,
        "what": found.what,
        "hint": found.hint,
    })
}
