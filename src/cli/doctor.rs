//! `tidegate doctor`: what is right and what is wrong, and what to do.

use super::Ask;
use crate::{
    control::client,
    doctor::{self, Finding, Verdict},
};
use serde_json::json;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Looks, and prints what was found. Exit code 1 if something does not work; warnings are no failure.
pub(super) async fn run(ask: Ask) -> anyhow::Result<ExitCode> {
    // Whose file it is, is told by its whole path.
    let file = std::path::absolute(&ask.file.config).unwrap_or(ask.file.config);
    let findings = doctor::examine(&file, ask.socket).await;
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (errors, warnings) = (count(Verdict::Error), count(Verdict::Warning));
    if ask.json {
        let answer = json!({ "findings": findings, "errors": errors, "warnings": warnings });
        writeln!(io::stdout(), "{}", client::json_text(&answer))?;
    } else {
        write!(io::stdout(), "{}", text(&findings))?;
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line for each finding, those that matter with what to do, and the sum.
pub(super) fn text(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (errors, warnings) = (count(Verdict::Error), count(Verdict::Warning));
    let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    match (errors, warnings) {
        (0, 0) => format!("{lines}\nnothing is wrong\n"),
        _ => format!("{lines}\nerrors: {errors}, warnings: {warnings}\n"),
    }
}
