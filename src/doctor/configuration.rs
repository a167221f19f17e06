//! The configuration file: what `check` finds.

use super::{Finding, Verdict};
use crate::config::{self, Config, Line, Severity, excerpt};
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
            findings.extend(excerpt(&notes).into_iter().map(line));
            Some(config)
        }
        Err(wrong) => {
            findings.extend(wrong.excerpt().into_iter().map(line));
            None
        }
    }
}

fn verdict(severity: Severity) -> Verdict {
    match severity {
        Severity::Warning => Verdict::Warning,
        Severity::Error | Severity::Unusable => Verdict::Error,
    }
}

/// Of very many, how many more there are.
fn line(line: Line<'_>) -> Finding {
    match line {
        Line::One(note) => finding(note),
        more => Finding {
            todo: "`tidegate check --json` names each".to_owned(),
            ..Finding::of(AREA, verdict(more.severity()), more.to_string())
        },
    }
}

fn finding(note: &config::Finding) -> Finding {
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
        ..Finding::of(AREA, verdict(note.severity), format!("{key}{}", note.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_mistakes_the_first_are_told_and_the_others_counted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        let keys: String = (0..1_000).map(|n| format!("x{n} = 1\n")).collect();
        std::fs::write(&file, format!("[uplink]\nkind = \"none\"\n{keys}")).unwrap();
        let mut findings = Vec::new();
        assert!(examine(&file, &mut findings).is_none());
        let last = findings.last().unwrap();
        assert!(findings.len() < 50 && last.what.starts_with("and 98"), "{last}");
        assert!(last.verdict == Verdict::Error && last.todo.contains("--json"), "{last}");
    }
}
