//! What people read: escaped, brief, and never made up.

use super::*;
use serde_json::json;

const HOSTILE: &str = "\u{1b}]0;x\u{7}a\nlevel=ERROR \u{202e}\u{9b}2J\u{7f}";

fn steered(text: &str) -> bool {
    text.chars().any(|c| steers(c) && c != '\n')
}

#[test]
fn text_from_outside_is_shown_escaped_and_brief() {
    let long = "x".repeat(65_536);
    let parked = json!([{ "endpoint": HOSTILE, "code": "TG-154", "why": HOSTILE }]);
    let fault = json!({ "code": "TG-154", "what": HOSTILE, "where": HOSTILE, "cause": "c", "todo": "t" });
    let devices = json!({ HOSTILE: { "presence": "offline", "why": HOSTILE } });
    let unit = json!({ "name": HOSTILE, "state": "running", "faults": [fault], "devices": devices, "wires": { HOSTILE: {} } });
    let uplink = json!({ "state": "up", "faults": [fault], "parked": parked, "last_error": HOSTILE });
    let status = json!({ "uplink": uplink, "faults": [fault], "units": [unit], "reasons": { HOSTILE: 1 } });
    let queue = json!({ "lanes": [{ "endpoint": HOSTILE, "queued": 1 }] });
    let dead = json!({ "dead": [{ "id": 1, "reason": HOSTILE, "sample": { HOSTILE: long } }] });
    let read = json!({ "values": [{ "resource": HOSTILE, "value": long, "why": HOSTILE }] });
    for (answer, text) in [
        (&status, status_text(&status)),
        (&queue, queue_text(&queue)),
        (&dead, dead_text(&dead)),
        (&read, latest_text(&read)),
    ] {
        assert!(!steered(&text) && text.contains("\\u{1b}]0;x"), "{text:?}");
        assert!(text.lines().all(|line| !line.starts_with("level=ERROR")), "{text}");
        assert!(text.len() < 8_192, "{} bytes for people", text.len());
        let json = json_text(answer);
        assert!(!steered(&json) && !json.contains('\n'), "{json}");
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), *answer, "it is the same to a script");
    }
}

#[test]
fn the_load_of_a_line_is_told() {
    let unit =
        json!({ "name": "modbus.hall", "state": "running", "wires": { "/dev/ttyUSB0": { "busy": 0.934 } } });
    let status = status_text(&json!({ "units": [unit] }));
    assert!(status.contains("/dev/ttyUSB0           93 % busy in the last minute\n"), "{status}");
}

#[test]
fn of_those_that_are_not_listed_it_is_told_how_many_there_are() {
    let fault = json!({ "code": "TG-221", "what": "w", "where": "p", "cause": "c", "todo": "t" });
    let device = |presence: &str| json!({ "presence": presence, "code": "TG-431", "why": "silent" });
    let devices = json!({ "a": device("offline"), "b": device("asleep"), "c": device("online") });
    let unit = |presence| json!({ "name": "modbus.hall", "devices": devices, "presence": presence });
    let many = unit(json!({ "online": 9, "asleep": 3, "offline": 4 }));
    let parked = json!([{ "endpoint": "p1", "code": "TG-154", "why": "404" }]);
    let status = status_text(&json!({
        "uplink": { "parked": parked, "parked_codes": { "TG-154": 5, "TG-109": 2 } },
        "quotas": [{ "fault": fault }],
        "over_quota": 4,
        "units": [many],
    }));
    for said in [
        "6 more endpoints are parked\n",
        "3 more endpoints are over their quotas\n",
        "5 more devices are not online\n",
    ] {
        assert!(status.contains(said), "{status}");
    }
    let all = status_text(&json!({
        "uplink": { "parked": parked, "parked_codes": { "TG-154": 1 } },
        "quotas": [{ "fault": fault }],
        "over_quota": 1,
        "units": [unit(json!({ "online": 1, "asleep": 1, "offline": 1 }))],
    }));
    assert!(!all.contains(" more "), "{all}");
}

#[test]
fn drops_are_told_with_their_time_range() {
    let status = status_text(&json!({
        "reasons": { "dropped(quota)": 1_500, "dropped(corrupt)": 3, "refused(full)": 1 },
        "drops": {
            "quota": { "samples": 1_500, "first_us": 1_795_273_445_999_999_i64, "last_us": 1_795_302_245_000_000_i64 },
            "corrupt": { "samples": 3, "first_us": null, "last_us": null },
        },
    }));
    for said in [
        "dropped(quota): 1500  of 2026-11-21 15:04:05 to 2026-11-21 23:04:05 UTC\n",
        "dropped(corrupt): 3\n",
        "refused(full): 1\n",
    ] {
        assert!(status.contains(said), "{status}");
    }
}

#[test]
fn autonomy_is_told_in_words_and_never_made_up() {
    for (hours, year, then, limit, said) in [
        (
            json!(51.3),
            false,
            "drop-oldest",
            "quota",
            "51.3 h at 1.2 kB/s, if nothing goes up; then the oldest readings are dropped (store.max_bytes)",
        ),
        (
            json!(0.4),
            false,
            "refuse",
            "free_space",
            "0.4 h at 1.2 kB/s, if nothing goes up; then new readings are refused (store.min_free)",
        ),
        (json!(0.0), false, "refuse", "quota", "none left: new readings are refused (store.max_bytes)"),
        (
            json!(719.9),
            false,
            "drop-oldest",
            "age",
            "29 days at 1.2 kB/s, if nothing goes up; then the oldest readings are dropped (store.max_age)",
        ),
        (
            json!(8760.0),
            true,
            "drop-oldest",
            "quota",
            "more than a year at 1.2 kB/s, if nothing goes up; then the oldest readings are dropped (store.max_bytes)",
        ),
        (
            json!(null),
            false,
            "drop-oldest",
            "quota",
            "unknown: there is room for 812.3 MB, and no rate yet at which it is used",
        ),
    ] {
        let autonomy = json!({
            "hours": hours, "over_a_year": year, "room_bytes": 812_345_678, "then": then, "limit": limit,
            "bytes_per_s": if hours.is_null() { json!(null) } else { json!(1_234.5) },
        });
        assert_eq!(autonomy_text(&autonomy), said);
    }
}
