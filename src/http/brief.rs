//! Makes an answer fit for a page: long values are cut, and whole numbers that a browser cannot hold are told as text.

use serde_json::Value;

/// Characters of a value that are shown.
const LONGEST: usize = 512;
/// Beyond it a browser's numbers have gaps: 2^53 - 1.
const EXACT: u64 = 9_007_199_254_740_991;
/// Silent devices of a unit that are told one by one.
const DEVICES: usize = 8;

/// Of readings, wherever they stand in an answer.
pub(super) fn values(answer: &mut Value) {
    match answer {
        Value::String(text) => cut(text),
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_some_and(|magnitude| magnitude > EXACT) {
                *answer = Value::String(number.to_string());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(values),
        Value::Object(members) => {
            for (name, member) in members {
                values(member);
                // A list or a map that a device made.
                if matches!(name.as_str(), "value" | "sample") && (member.is_array() || member.is_object()) {
                    let mut text = member.to_string();
                    if text.len() > LONGEST {
                        cut(&mut text);
                        *member = Value::String(text);
                    }
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// Of a unit's devices only the first ones that are silent; how many there are of each kind stands beside them.
pub(super) fn devices(status: &mut Value) {
    for unit in status.get_mut("units").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(unit) = unit.as_object_mut() else { continue };
        let Some(Value::Object(devices)) = unit.remove("devices") else { continue };
        let silent = devices
            .into_iter()
            .filter(|(_, device)| device.get("presence").is_some_and(|presence| presence == "offline"))
            .take(DEVICES);
        unit.insert("silent".to_owned(), Value::Object(silent.collect()));
    }
}

fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        let bytes = text.len();
        text.truncate(end);
        text.push_str(&format!("... ({bytes} bytes)"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_cut_and_never_wrong() {
        let check = |value: Value, expected: Value| {
            let mut answer = json!({ "values": [{ "value": value }] });
            values(&mut answer);
            assert_eq!(answer["values"][0]["value"], expected);
        };
        check(json!(230.1), json!(230.1));
        check(json!(9_007_199_254_740_991_u64), json!(9_007_199_254_740_991_u64));
        check(json!(9_007_199_254_740_993_u64), json!("9007199254740993"));
        check(json!(-9_007_199_254_740_993_i64), json!("-9007199254740993"));
        check(json!(u64::MAX), json!("18446744073709551615"));
        check(json!([1, 2]), json!([1, 2]));
        check(json!("\u{e4}".repeat(512)), json!("\u{e4}".repeat(512)));
        check(json!("\u{e4}".repeat(513)), json!("\u{e4}".repeat(512) + "... (1026 bytes)"));
        let mut long = json!({ "value": vec![1; 10_000] });
        values(&mut long);
        assert!(long["value"].as_str().unwrap().len() < 600, "{long}");
    }

    #[test]
    fn of_many_devices_the_silent_ones_are_told() {
        let mut all = serde_json::Map::new();
        for n in 0..100 {
            let presence = if n % 2 == 0 { "offline" } else { "online" };
            all.insert(format!("d{n}"), json!({ "presence": presence }));
        }
        let mut status = json!({ "units": [{ "name": "modbus.site", "devices": all }, { "name": "none" }] });
        devices(&mut status);
        assert_eq!(status["units"][0]["silent"].as_object().unwrap().len(), DEVICES);
        assert!(status.to_string().len() < 1_000);
    }
}
