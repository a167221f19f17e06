//! `tidegate queue requeue` and `queue discard` for people: what was done, and what was not.

use super::{at, list, text};
use serde_json::Value;
use std::fmt::Write as _;

/// Letters named in full.
const NAMED: usize = 20;

/// After dead letters were requeued or discarded.
pub fn decided_text(answer: &Value) -> String {
    let mut out = format!("{} dead letters {}\n", text(answer, "letters"), text(answer, "done"));
    for (key, why) in [
        ("orphaned", "stay: their endpoints are not in the configuration"),
        ("missing", "are not there (see tidegate queue --dead)"),
    ] {
        let ids: Vec<String> = list(answer, key).map(Value::to_string).collect();
        if !ids.is_empty() {
            let more = ids.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named: Vec<String> = ids.into_iter().take(NAMED).collect();
            let _infallible = writeln!(out, "{}{more} {why}", named.join(", "));
        }
    }
    out
}

/// After queued rows of endpoints that left the configuration were discarded.
pub fn discarded_text(answer: &Value) -> String {
    let mut out = format!("{} queued samples discarded\n", text(answer, "discarded"));
    if at(answer, "left").as_u64().unwrap_or_default() > 0 {
        let left = text(answer, "left");
        let _infallible = writeln!(out, "{left} are left: they are in the air, or of a newer version");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_not_done_is_said_with_its_reason() {
        let many: Vec<i64> = (1..=23).collect();
        let answer = json!({ "done": "requeued", "letters": 2, "orphaned": [7], "missing": many });
        let said = decided_text(&answer);
        let wanted = "2 dead letters requeued\n7 stay: their endpoints are not in the configuration\n\
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 and 3 more are not there (see tidegate queue --dead)\n";
        assert_eq!(said, wanted);
        assert_eq!(discarded_text(&json!({ "discarded": 5, "left": 0 })), "5 queued samples discarded\n");
        assert!(discarded_text(&json!({ "discarded": 5, "left": 1 })).contains("1 are left"));
    }
}
