//! Which of many findings are shown: one mistake in a template is made for each of ten thousand endpoints.

use super::check::{Finding, Severity};
use std::{collections::BTreeMap, fmt};

/// So many of each kind are shown.
const EACH: usize = 20;
/// Of so many kinds.
const KINDS: usize = 20;
/// So few in all are shown as they are.
const FEW: usize = 50;

/// A part of what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'f> {
    /// As it is.
    One(&'f Finding),
    /// So many more are of the kind of those before.
    More(Severity, usize),
    /// So many more are of other kinds.
    Others(Severity, usize),
}

impl Line<'_> {
    /// How bad it is; of many, the worst.
    pub fn severity(self) -> Severity {
        match self {
            Self::One(finding) => finding.severity,
            Self::More(severity, _) | Self::Others(severity, _) => severity,
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(finding) => finding.fmt(f),
            Self::More(_, count) => write!(f, "and {} more like these", Grouped(*count)),
            Self::Others(_, count) => write!(f, "and {} more of other kinds", Grouped(*count)),
        }
    }
}

/// The findings in their order; where there are too many, by kinds with the worst first, and the first of each kind.
pub fn excerpt(findings: &[Finding]) -> Vec<Line<'_>> {
    let mut kinds: Vec<Vec<&Finding>> = Vec::new();
    let mut known = BTreeMap::new();
    for finding in findings {
        let kind = *known
            .entry((finding.severity, finding.code.map(|code| code.id()), pattern(&finding.key)))
            .or_insert_with(|| {
                kinds.push(Vec::new());
                kinds.len().saturating_sub(1)
            });
        kinds.get_mut(kind).into_iter().for_each(|kind| kind.push(finding));
    }
    let few = kinds.len() <= KINDS && kinds.iter().all(|kind| kind.len() <= EACH);
    if few || findings.len() < FEW {
        return findings.iter().map(Line::One).collect();
    }
    // What keeps the gateway from starting is not to be found among "others".
    kinds.sort_by_key(|kind| kind.first().map(|first| first.severity));
    let (mut lines, mut others) = (Vec::new(), None);
    for (n, kind) in kinds.iter().enumerate() {
        let Some(severity) = kind.first().map(|first| first.severity) else { continue };
        if n >= KINDS {
            let (worst, count) = others.unwrap_or((severity, 0_usize));
            others = Some((worst.min(severity), count.saturating_add(kind.len())));
            continue;
        }
        lines.extend(kind.iter().take(EACH).map(|finding| Line::One(finding)));
        if let Some(more @ 1..) = kind.len().checked_sub(EACH) {
            lines.push(Line::More(severity, more));
        }
    }
    lines.extend(others.map(|(severity, count)| Line::Others(severity, count)));
    lines
}

/// A key without the names that people gave: what stands at the same place of another endpoint is of the same kind.
fn pattern(key: &str) -> String {
    let (mut parts, mut quoted) = (vec![String::new()], false);
    for c in key.chars() {
        quoted ^= c == '"';
        match (c, quoted, parts.last_mut()) {
            ('.', false, _) => parts.push(String::new()),
            (c, _, Some(part)) => part.push(c),
            _ => {}
        }
    }
    let mut named = match parts.first().map(String::as_str) {
        Some("endpoints") => Some(1),
        Some("adapters") => Some(2),
        _ => None,
    };
    for n in 0..parts.len() {
        let Some(part) = parts.get_mut(n) else { continue };
        if named == Some(n) {
            "*".clone_into(part);
        } else if ["resources", "expressions", "enum", "name_on_wire"].contains(&part.as_str()) {
            named = Some(n.saturating_add(1));
        } else if let Some((list, _)) = part.split_once('[') {
            *part = list.to_owned();
        }
    }
    parts.join(".")
}

/// `9,980`
struct Grouped(usize);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (n, digit) in digits.chars().enumerate() {
            if n > 0 && digits.len().saturating_sub(n) % 3 == 0 {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Code;

    fn finding(severity: Severity, key: &str) -> Finding {
        let code = (severity == Severity::Error).then_some(Code::UnknownKey);
        let (line, column, what, hint) = (1, 1, String::new(), None);
        Finding { severity, code, file: "F".into(), line, column, key: key.to_owned(), what, hint }
    }

    #[test]
    fn of_each_kind_the_first_are_shown_and_the_others_counted() {
        let mut findings: Vec<Finding> = Vec::new();
        for n in 0..10_000 {
            findings.push(finding(Severity::Warning, &format!("endpoints.e{n}.token_file")));
            if n < 3 {
                findings.push(finding(Severity::Error, &format!("endpoints.\"e.{n}\".x")));
            }
        }
        let lines = excerpt(&findings);
        let said: Vec<String> = lines.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 24, "{said:?}");
        assert_eq!(said[23], "and 9,980 more like these");
        assert_eq!((lines[2].severity(), lines[23].severity()), (Severity::Error, Severity::Warning));
        assert!(said[0].contains("e.0") && said[22].contains("endpoints.e19."), "{said:?}");
        // Few are shown in their order.
        let few: Vec<Finding> = findings.drain(..6).collect();
        assert!(excerpt(&few).iter().zip(&few).all(|(line, finding)| *line == Line::One(finding)));
        assert!(few[0].severity != few[1].severity && excerpt(&[]).is_empty());
    }

    #[test]
    fn kinds_are_not_without_end_either() {
        let findings: Vec<Finding> =
            (0..1_000).map(|n| finding(Severity::Warning, &format!("uplink.k{n}"))).collect();
        let lines = excerpt(&findings);
        assert_eq!(lines.len(), KINDS + 1);
        assert_eq!(lines[KINDS].to_string(), "and 980 more of other kinds");
    }

    #[test]
    fn an_error_is_not_hidden_by_many_kinds_of_warnings() {
        let mut findings: Vec<Finding> =
            (0..60).map(|n| finding(Severity::Warning, &format!("uplink.k{n}"))).collect();
        findings.push(finding(Severity::Error, "uplink.kind"));
        assert_eq!(excerpt(&findings)[0], Line::One(&findings[60]));
        let few = &findings[12..];
        assert!(few.len() < FEW && excerpt(few).iter().zip(few).all(|(line, one)| *line == Line::One(one)));
        assert_eq!(excerpt(few).len(), few.len());
    }

    #[test]
    fn a_kind_has_no_names_in_it() {
        for (key, expected) in [
            ("endpoints.e1.modbus.unit", "endpoints.*.modbus.unit"),
            ("endpoints.\"a.b\".token", "endpoints.*.token"),
            ("endpoints.e1.modbus.resources.volts.type", "endpoints.*.modbus.resources.*.type"),
            ("endpoints.e1.formerly[3]", "endpoints.*.formerly"),
            ("adapters.modbus.line-1.port", "adapters.modbus.*.port"),
            ("uplink.urls[1]", "uplink.urls"),
            ("", ""),
        ] {
            assert_eq!(pattern(key), expected);
        }
        for (number, said) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Grouped(number).to_string(), said);
        }
    }
}
