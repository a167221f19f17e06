//! `tidegate tail` for people: a line for each reading.

use super::{at, join, moment_text, text};
use serde_json::Value;

/// One line of it.
pub fn tail_text(line: &Value) -> String {
    if let Some(missed) = at(line, "missed").as_u64() {
        return format!("... {missed} missed: they came faster than they were read here");
    }
    if !at(line, "ended").is_null() {
        return text(line, "ended");
    }
    if !at(line, "refused").is_null() {
        let refused = format!("REFUSED {} samples: {}", text(line, "refused"), text(line, "why"));
        return join(&[text(line, "endpoint"), refused]);
    }
    let quality = if text(line, "quality") == "good" { String::new() } else { text(line, "quality") };
    let value = match at(line, "value") {
        Value::Null => "-".to_owned(),
        _ => text(line, "value"),
    };
    let words =
        [stamp_text(at(line, "stamp_us")), text(line, "endpoint"), text(line, "resource"), value, quality];
    join(&[join(&words), text(line, "why")])
}

/// In UTC, with thousandths.
fn stamp_text(stamp_us: &Value) -> String {
    let moment = |us: i64| Some((moment_text(us)?, us.rem_euclid(1_000_000) / 1_000));
    match stamp_us.as_i64().and_then(moment) {
        Some((moment, ms)) => format!("{moment}.{ms:03}"),
        None => "time not known yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_when_what_and_how_far_to_trust_it() {
        let reading = json!({ "endpoint": "a", "stamp_us": 1_795_273_445_123_999_i64, "resource": "v", "value": 1.5, "quality": "good", "why": null });
        let mut bad = reading.clone();
        (bad["value"], bad["quality"], bad["why"]) = (json!(null), json!("bad"), json!("a\nb"));
        bad["stamp_us"] = json!(null);
        for (line, said) in [
            (reading, "2026-11-21 15:04:05.123  a  v  1.5"),
            (bad, "time not known yet  a  v  -  bad  a\\u{a}b"),
            (json!({ "missed": 3 }), "... 3 missed: they came faster than they were read here"),
            (json!({ "endpoint": "a", "refused": 2, "why": "full" }), "a  REFUSED 2 samples: full"),
            (json!({ "ended": "the gateway stops" }), "the gateway stops"),
        ] {
            assert_eq!(tail_text(&line), said);
        }
    }
}
