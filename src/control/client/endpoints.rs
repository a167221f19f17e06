//! `tidegate endpoints` for people: a line for each.

use super::{at, list, text};
use serde_json::Value;
use std::fmt::Write as _;

/// Longest value in the table, in characters.
const LONGEST: usize = 24;

/// A table, and below it what it stands for where something is wrong.
pub fn endpoints_text(answer: &Value) -> String {
    let head = ["endpoint", "value", "age", "quality", "presence", "samples/s", "queued"];
    let mut rows: Vec<[String; 7]> = vec![head.map(str::to_owned)];
    rows.extend(list(answer, "endpoints").map(row));
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &rows {
        let [name, value, age, quality, presence, rate, queued] = row;
        let [names, values, ages, qualities, presences, rates, queues] = widths;
        let _infallible = writeln!(
            out,
            "{name:<names$}  {value:<values$}  {age:>ages$}  {quality:<qualities$}  {presence:<presences$}  {rate:>rates$}  {queued:>queues$}",
        );
    }
    for endpoint in list(answer, "endpoints") {
        for why in trouble(endpoint) {
            let _infallible = writeln!(out, "{}: {why}", text(endpoint, "name"));
        }
    }
    let (listed, total) =
        (list(answer, "endpoints").count(), at(answer, "total").as_u64().unwrap_or_default());
    if u64::try_from(listed).is_ok_and(|listed| listed < total) {
        let _infallible = writeln!(out, "{listed} of {total} endpoints");
    }
    if total == 0 { "no endpoints\n".into() } else { out }
}

fn row(endpoint: &Value) -> [String; 7] {
    let last = at(endpoint, "last");
    let value = match last {
        Value::Null => String::new(),
        last => {
            let value = match at(last, "value") {
                Value::Null => "-".to_owned(),
                _ => text(last, "value"),
            };
            cut(&format!("{} {value}", text(last, "resource")))
        }
    };
    let presence = match at(endpoint, "enabled") {
        Value::Bool(false) => "disabled".to_owned(),
        _ => text(endpoint, "presence"),
    };
    [
        text(endpoint, "name"),
        value,
        at(last, "age_ms").as_u64().map(age_text).unwrap_or_default(),
        text(last, "quality"),
        presence,
        at(endpoint, "samples_per_s").as_f64().map(rate_text).unwrap_or_default(),
        text(endpoint, "queued"),
    ]
}

/// What is wrong with it.
fn trouble(endpoint: &Value) -> Vec<String> {
    let mut trouble = Vec::new();
    if !at(endpoint, "why").is_null() {
        trouble.push(format!("{} {}", text(endpoint, "code"), text(endpoint, "why")));
    }
    let parked = at(endpoint, "parked");
    if !parked.is_null() {
        trouble.push(format!("parked: {} {}", text(parked, "code"), text(parked, "why")));
    }
    if at(endpoint, "over_quota") == &Value::Bool(true) {
        trouble.push("over its quota: what is over it is refused".to_owned());
    }
    trouble
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// In the unit in which it is read at a glance.
fn age_text(ms: u64) -> String {
    match ms / 1_000 {
        s if s < 10 => format!("{}.{} s", s, ms % 1_000 / 100),
        s if s < 120 => format!("{s} s"),
        s if s < 7_200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

fn rate_text(rate: f64) -> String {
    match rate {
        fast if fast >= 100.0 => format!("{fast:.0}"),
        often if often >= 1.0 => format!("{often:.1}"),
        seldom => format!("{seldom:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_endpoint_has_a_line_and_what_is_wrong_is_said_below() {
        let last = json!({ "resource": "volts", "value": 230.1, "quality": "good", "age_ms": 1_240 });
        let endpoint = |name: &str| json!({ "name": name, "enabled": true, "presence": "online", "queued": 0, "samples_per_s": 1.0, "last": last });
        let mut off = endpoint("boiler-7");
        off["presence"] = json!("offline");
        (off["code"], off["why"]) = (json!("TG-201"), json!("does not answer"));
        off["parked"] = json!({ "code": "TG-154", "why": "404" });
        off["over_quota"] = json!(true);
        let disabled = json!({ "name": "z", "enabled": false, "queued": 1_000_000 });
        let answer = json!({ "endpoints": [endpoint("a"), off, disabled], "total": 4 });
        let said = endpoints_text(&answer);
        let wanted = "\
endpoint  value          age  quality  presence  samples/s   queued
a         volts 230.1  1.2 s  good     online          1.0        0
boiler-7  volts 230.1  1.2 s  good     offline         1.0        0
z                                      disabled             1000000
boiler-7: TG-201 does not answer
boiler-7: parked: TG-154 404
boiler-7: over its quota: what is over it is refused
3 of 4 endpoints
";
        assert_eq!(said, wanted);
        assert_eq!(endpoints_text(&json!({ "endpoints": [], "total": 0 })), "no endpoints\n");
    }

    #[test]
    fn ages_and_rates_are_read_at_a_glance() {
        for (ms, said) in [
            (0, "0.0 s"),
            (9_990, "9.9 s"),
            (119_000, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (200_000_000, "2 days"),
        ] {
            assert_eq!(age_text(ms), said);
        }
        for (rate, said) in [(0.011, "0.011"), (1.04, "1.0"), (1_234.5, "1234")] {
            assert_eq!(rate_text(rate), said);
        }
    }

    #[test]
    fn a_hostile_value_steers_nothing_and_breaks_no_line() {
        let hostile = "\u{1b}]0;x\u{7}a\nlevel=ERROR \u{202e}".repeat(2_000);
        let last = json!({ "resource": hostile, "value": hostile, "quality": hostile, "age_ms": 1 });
        let parked = json!({ "code": "TG-154", "why": hostile });
        let endpoint =
            json!({ "name": hostile, "why": hostile, "presence": hostile, "parked": parked, "last": last });
        let said = endpoints_text(&json!({ "endpoints": [endpoint], "total": 1 }));
        assert!(!said.chars().any(|c| adapter_api::steers(c) && c != '\n'), "{said:?}");
        assert_eq!(said.lines().count(), 4, "{said}");
        assert!(said.len() < 16_384, "{}", said.len());
    }
}
