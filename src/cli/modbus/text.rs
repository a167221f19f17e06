//! Tables and lines for people, made of the answers' JSON.

use adapter_api::shown;
use anyhow::bail;
use serde_json::Value;
use std::fmt::Write as _;

/// Rows under a heading; columns are as wide as they have to be.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|&word| word.to_owned()).collect()] }
    }

    pub(super) fn row(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _infallible = write!(line, "{cell:<width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A fault in its four parts, escaped already.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Told(pub(super) String);

/// Whether a line is not the bad end of an answer.
pub(super) fn good(line: &Value) -> anyhow::Result<()> {
    if let Some(fault) = line.get("fault") {
        let part = |key: &str| word(fault, key);
        let text = format!(
            "{} {}\n  where: {}\n  cause: {}\n  to do: {}",
            part("code"),
            part("what"),
            part("where"),
            part("cause"),
            part("todo")
        );
        return Err(Told(text).into());
    }
    if let Some(wrong) = line.get("wrong").and_then(Value::as_str) {
        match line.get("hint").and_then(Value::as_str) {
            Some(hint) => bail!("{}; {}", shown(wrong), shown(&as_typed(hint))),
            None => bail!("{}", shown(wrong)),
        }
    }
    Ok(())
}

/// Hints are about keys of a configuration; on the command line `base = 1` is `--base 1`.
fn as_typed(hint: &str) -> String {
    let parts = hint.split('`').enumerate().map(|(at, part)| match part.split_once(" = ") {
        Some((key, value)) if at % 2 == 1 => format!("--{key} {}", value.trim_matches('"')),
        _ if at % 2 == 1 => format!("`{part}`"),
        _ => part.to_owned(),
    });
    parts.collect()
}

/// Text from devices is escaped where it is shown.
fn word(of: &Value, key: &str) -> String {
    match of.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => shown(text).to_string(),
        Some(other) => shown(&other.to_string()).to_string(),
    }
}

pub(super) fn read_row(value: &Value) -> Vec<String> {
    let register = word(value, "register");
    let named = match word(value, "resource") {
        name if name.is_empty() => register,
        name => format!("{name} ({register})"),
    };
    let raw: Vec<&str> =
        value.get("raw").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let raw = if raw.is_empty() { "-".to_owned() } else { shown(&raw.join(" ")).to_string() };
    let said = [word(value, "value"), word(value, "why")];
    let said: Vec<String> = said.into_iter().filter(|word| !word.is_empty()).collect();
    vec![named, raw, said.join("  ")]
}

pub(super) fn identify_lines(said: &mut String, line: &Value) {
    let mut put = |name: &str, words: &str| {
        let _infallible = writeln!(said, "{name:<14}  {words}");
    };
    if let Some(object) = line.get("object") {
        put(&word(object, "name"), &word(object, "value"));
    } else if let Some(why) = line.get("no_identification").and_then(Value::as_str) {
        put("identification", &format!("none: {}", shown(why)));
    } else if let Some(known) = line.get("known") {
        put("recognized", &format!("{}: {}", word(known, "as"), word(known, "by")));
        for key in ["vendor", "model", "version", "serial"] {
            let words = word(known, key);
            if !words.is_empty() {
                put(&format!("  {key}"), &words);
            }
        }
    } else if let Some(done) = line.get("done")
        && done.get("known").and_then(Value::as_u64) == Some(0)
    {
        put("recognized", "nothing: neither SunSpec nor a meter like Eastron's");
    }
}

pub(super) fn plan(plan: &Value) -> String {
    let settings: Vec<&str> = plan
        .get("settings")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let units: Vec<String> =
        plan.get("units").and_then(Value::as_array).into_iter().flatten().map(Value::to_string).collect();
    let shared = plan.get("shared") == Some(&Value::Bool(true));
    format!(
        "scanning {} at {}: units {}, {} probes, {}{}",
        word(plan, "wire"),
        shown(&settings.join(", ")),
        units.join(" to "),
        word(plan, "probes"),
        if shared { "" } else { "at most " },
        match (shared, duration(plan, "at_most_s")) {
            (true, time) => format!("about {time} and what polling takes; devices go on being polled"),
            (false, time) => time,
        }
    )
}

pub(super) fn progress(at: &Value) -> String {
    let (done, of, found) = (word(at, "done"), word(at, "of"), word(at, "found"));
    format!("{done} of {of}, {found} found, about {} left", duration(at, "left_s"))
}

pub(super) fn found(unit: &Value) -> String {
    format!("unit {} answers at {}", word(unit, "unit"), word(unit, "setting"))
}

pub(super) fn found_row(unit: &Value) -> Vec<String> {
    ["unit", "setting", "answer", "is"].map(|key| word(unit, key)).to_vec()
}

pub(super) fn noise(noise: &Value) -> String {
    let (unit, setting) = (word(noise, "unit"), word(noise, "setting"));
    format!("asked for unit {unit} at {setting}: bytes came, but no answer")
}

pub(super) fn unasked(probe: &Value) -> String {
    let (unit, setting) = (word(probe, "unit"), word(probe, "setting"));
    format!("unit {unit} was not asked at {setting}: the wire had more urgent requests, or leaves it alone")
}

pub(super) fn skipped(setting: &Value) -> String {
    format!("{} is left out: {}", word(setting, "setting"), word(setting, "why"))
}

pub(super) fn settling(wire: &Value) -> String {
    let time = duration(wire, "seconds");
    format!(
        "keeping {} for {time}: an answer may still come, and would be taken for another's",
        word(wire, "wire")
    )
}

pub(super) fn scanned(done: &Value) -> String {
    let (found, probes, of) = (word(done, "found"), word(done, "probes"), word(done, "of"));
    let stopped = if probes == of { String::new() } else { format!(" of {of}") };
    let unasked = done.get("unasked").and_then(Value::as_u64).unwrap_or_default();
    let unasked = if unasked == 0 { String::new() } else { format!(", {unasked} not asked") };
    format!("{found} found with {probes}{stopped} probes in {}{unasked}", duration(done, "took_s"))
}

fn duration(of: &Value, key: &str) -> String {
    let seconds = of.get(key).and_then(Value::as_f64).unwrap_or_default().round();
    if seconds < 90.0 {
        return format!("{seconds:.0} s");
    }
    let minutes = (seconds / 60.0).floor();
    format!("{minutes:.0} min {:.0} s", seconds - 60.0 * minutes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_told_as_people_do() {
        for (seconds, told) in
            [(0.2, "0 s"), (89.4, "89 s"), (90.0, "1 min 30 s"), (119.7, "2 min 0 s"), (613.2, "10 min 13 s")]
        {
            assert_eq!(duration(&json!({ "left_s": seconds }), "left_s"), told);
        }
    }

    #[test]
    fn columns_are_as_wide_as_they_have_to_be_and_nothing_steers_the_terminal() {
        let mut table = Table::new(&["register", "raw", "value"]);
        table.row(read_row(&json!({"register": "input:0", "raw": ["0001", "0002"], "value": "a\u{1b}[2Jb"})));
        table.row(read_row(&json!({"register": "x", "resource": "n\u{e9}", "why": "no"})));
        let text =
            "register  raw        value\ninput:0   0001 0002  a\\u{1b}[2Jb\nn\u{e9} (x)    -          no\n";
        assert_eq!(table.text(), text);
    }

    #[test]
    fn hints_are_about_what_can_be_typed() {
        assert_eq!(as_typed("add `base = 1`, see `check`"), "add --base 1, see `check`");
        assert_eq!(as_typed("behind it write `framing = \"rtu\"`"), "behind it write --framing rtu");
        assert_eq!(as_typed("x = 1"), "x = 1");
    }

    #[test]
    fn a_fault_ends_an_answer_in_four_parts() {
        let fault =
            json!({"fault": {"code": "TG-431", "what": "w", "where": "x\ny", "cause": "c", "todo": "t"}});
        let told = good(&fault).unwrap_err().to_string();
        assert_eq!(told, "TG-431 w\n  where: x\\u{a}y\n  cause: c\n  to do: t");
        assert_eq!(good(&json!({"wrong": "w", "hint": null})).unwrap_err().to_string(), "w");
        assert!(good(&json!({"value": 1})).is_ok());
    }
}
