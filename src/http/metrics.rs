//! `/metrics`: what `status` says, as text for Prometheus (exposition format 0.0.4). Sans-IO but for what the
//! kernel knows of this process.
//!
//! Endpoints come one by one only where that is asked for: ten thousand of them are a burden to whoever
//! collects.

use crate::{control::view::endpoints::Shown, fault::Code};
use adapter_api::shown;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
    fs,
};

/// The type of the text.
pub(super) const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the kernel knows of this process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Process {
    resident_bytes: Option<u64>,
    open_files: Option<u64>,
}

/// A family of a single figure: name, kind, help, where it is in the status.
type Row = (&'static str, &'static str, &'static str, &'static str);

const SINGLE: [Row; 19] = [
    ("tidegate_endpoints", "gauge", "Endpoints in the configuration.", "/endpoints"),
    ("tidegate_clock_known", "gauge", "Whether the time is known.", "/clock/known"),
    ("tidegate_queued_samples", "gauge", "Samples that wait for the platform.", "/ledger/queued"),
    ("tidegate_dead_samples", "gauge", "Samples the platform refused for good.", "/ledger/dead"),
    ("tidegate_dead_letters", "gauge", "Of these, kept to be looked at.", "/dead_letters"),
    ("tidegate_ledger_balanced", "gauge", "Whether what came in is what became of it.", "/balance"),
    ("tidegate_store_room_bytes", "gauge", "Bytes that still fit into the store.", "/autonomy/room_bytes"),
    (
        "tidegate_store_inflow_bytes_per_second",
        "gauge",
        "Bytes stored, smoothed over ten minutes.",
        "/autonomy/bytes_per_s",
    ),
    ("tidegate_uplink_connections_total", "counter", "Connections that came up.", "/uplink/connections"),
    (
        "tidegate_uplink_state_seconds",
        "gauge",
        "For how long it has been connected, or not.",
        "/uplink/for_s",
    ),
    (
        "tidegate_uplink_delivered_samples_total",
        "counter",
        "Samples the platform confirmed.",
        "/uplink/delivered",
    ),
    ("tidegate_uplink_refused_batches_total", "counter", "Batches the platform refused.", "/uplink/refused"),
    (
        "tidegate_uplink_missed_replies_total",
        "counter",
        "Replies that did not come in time.",
        "/uplink/missed",
    ),
    (
        "tidegate_uplink_stale_replies_total",
        "counter",
        "Replies to nothing in the air.",
        "/uplink/stale_replies",
    ),
    (
        "tidegate_uplink_ignored_messages_total",
        "counter",
        "Messages that were not for us.",
        "/uplink/ignored",
    ),
    (
        "tidegate_uplink_budget_used_bytes",
        "gauge",
        "Bytes of the day's budget that are spent.",
        "/uplink/budget/used",
    ),
    ("tidegate_uplink_budget_limit_bytes", "gauge", "The day's budget.", "/uplink/budget/limit"),
    (
        "tidegate_uplink_subscribing",
        "gauge",
        "Whether subscriptions are still asked for.",
        "/uplink/subscribing",
    ),
    (
        "tidegate_samples_waiting_for_time",
        "gauge",
        "Samples that wait for the time to be known.",
        "/clock/holding",
    ),
];

/// Terms that only grow. What is dead or queued may become less.
const TERMS: [&str; 7] = ["offered", "refused", "suppressed", "stored", "landed", "dropped", "discarded"];
const UPLINK_STATES: [&str; 4] = ["none", "connecting", "up", "degraded"];
const UNIT_STATES: [&str; 6] = ["running", "backing off", "stalled", "stopping", "stopped", "left behind"];
const PRESENCES: [&str; 3] = ["online", "asleep", "offline"];
/// A longer text of a label is cut: in characters.
const LONGEST: usize = 200;

/// The text under construction.
struct Text(String);

impl Process {
    /// As it is now.
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let resident_bytes = resident.and_then(|kb| kb.trim().parse::<u64>().ok()).map(|kb| kb * 1_024);
        let files = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        Self { resident_bytes, open_files: files.and_then(|files| u64::try_from(files).ok()) }
    }
}

/// What a status, and the list of endpoints where it is wanted, say to Prometheus.
pub(super) fn text(status: &Value, endpoints: &[Shown], process: &Process) -> String {
    let mut text = Text(String::new());
    let version = status.get("version").and_then(Value::as_str).unwrap_or_default();
    text.family("tidegate_build_info", "gauge", "The version, as a label.");
    text.sample("tidegate_build_info", &[("version", version)], 1);
    // One that does not answer has lost no count: a counter that falls and comes back is taken for growth.
    let unheard = status.pointer("/uplink/parked_codes").is_some_and(Value::is_null);
    for (name, kind, help, pointer) in SINGLE {
        if unheard && pointer.starts_with("/uplink/") {
            continue;
        }
        if let Some(figure) = status.pointer(pointer).and_then(figure) {
            text.family(name, kind, help);
            text.sample(name, &[], figure);
        }
    }
    if let Some(hours) = status.pointer("/autonomy/hours").and_then(Value::as_f64) {
        let help = "For how long the store can go on if nothing goes up; a year stands for more.";
        text.family("tidegate_autonomy_seconds", "gauge", help);
        text.sample("tidegate_autonomy_seconds", &[], hours * 3_600.0);
    }
    let full = status.get("store_full").is_some_and(|full| !full.is_null());
    text.family("tidegate_store_full", "gauge", "Whether nothing is read for want of room.");
    text.sample("tidegate_store_full", &[], u8::from(full));
    ledger(&mut text, status);
    uplink(&mut text, status);
    units(&mut text, status);
    faults(&mut text, status);
    if !endpoints.is_empty() {
        each(&mut text, endpoints);
    }
    for (name, help, figure) in [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", process.resident_bytes),
        ("process_open_fds", "Number of open file descriptors.", process.open_files),
    ] {
        if let Some(figure) = figure {
            text.family(name, "gauge", help);
            text.sample(name, &[], figure);
        }
    }
    text.0
}

/// Each term by its reasons, and with an empty one what has none: the sum is the term.
fn ledger(text: &mut Text, status: &Value) {
    let name = "tidegate_samples_total";
    text.family(name, "counter", "Samples by what became of them, in the life of the database.");
    let reasons = status.get("reasons").and_then(Value::as_object);
    for term in TERMS {
        let mut rest = status.pointer(&format!("/ledger/{term}")).and_then(Value::as_u64).unwrap_or_default();
        for (reason, samples) in reasons.into_iter().flatten() {
            let reason = reason.strip_prefix(term).and_then(|r| r.strip_prefix('(')?.strip_suffix(')'));
            if let (Some(reason), Some(samples)) = (reason, samples.as_u64()) {
                rest = rest.saturating_sub(samples);
                text.sample(name, &[("term", term), ("reason", reason)], samples);
            }
        }
        text.sample(name, &[("term", term), ("reason", "")], rest);
    }
}

fn uplink(text: &mut Text, status: &Value) {
    let state = status.pointer("/uplink/state").and_then(Value::as_str).unwrap_or_default();
    text.family("tidegate_uplink_state", "gauge", "1 for the state it is in.");
    for known in UPLINK_STATES {
        text.sample("tidegate_uplink_state", &[("state", known)], u8::from(known == state));
    }
    let name = "tidegate_uplink_bytes_total";
    text.family(name, "counter", "Bytes over TCP, with TLS and its handshakes.");
    for (direction, pointer) in [("sent", "/uplink/sent_bytes"), ("received", "/uplink/received_bytes")] {
        // Where there is none now, there may have been one, and may be again.
        if state != "none"
            && let Some(bytes) = status.pointer(pointer).and_then(figure)
        {
            text.sample(name, &[("direction", direction)], bytes);
        }
    }
    let codes = status.pointer("/uplink/parked_codes").and_then(Value::as_object);
    let parked: u64 = codes.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    text.family("tidegate_uplink_parked_endpoints", "gauge", "Endpoints the platform refuses for now.");
    text.sample("tidegate_uplink_parked_endpoints", &[], parked);
}

fn units(text: &mut Text, status: &Value) {
    let units: Vec<(&str, &Value)> = list(status, "/units")
        .filter_map(|unit| Some((unit.get("name").and_then(Value::as_str)?, unit)))
        .collect();
    text.family("tidegate_unit_state", "gauge", "1 for the state a unit is in.");
    for (name, unit) in &units {
        let state = unit.get("state").and_then(Value::as_str).unwrap_or_default();
        for known in UNIT_STATES {
            let labels = [("unit", *name), ("state", known)];
            text.sample("tidegate_unit_state", &labels, u8::from(known == state));
        }
    }
    text.family("tidegate_unit_starts_total", "counter", "How often a unit was started.");
    for (name, unit) in &units {
        if let Some(starts) = unit.get("starts").and_then(figure) {
            text.sample("tidegate_unit_starts_total", &[("unit", *name)], starts);
        }
    }
    text.family("tidegate_unit_devices", "gauge", "Devices by whether they can be reached.");
    for (name, unit) in &units {
        for known in PRESENCES {
            let count =
                unit.get("presence").and_then(|counts| counts.get(known)?.as_u64()).unwrap_or_default();
            text.sample("tidegate_unit_devices", &[("unit", *name), ("presence", known)], count);
        }
    }
    text.family(
        "tidegate_wire_busy_ratio",
        "gauge",
        "The share of the last minute in which a wire was used.",
    );
    for (name, unit) in &units {
        for (wire, load) in unit.get("wires").and_then(Value::as_object).into_iter().flatten() {
            if let Some(busy) = load.get("busy").and_then(figure) {
                text.sample("tidegate_wire_busy_ratio", &[("unit", *name), ("wire", wire)], busy);
            }
        }
    }
}

fn faults(text: &mut Text, status: &Value) {
    let mut counts = BTreeMap::new();
    for fault in crate::notify::faults(status) {
        let code = fault.get("code").and_then(Value::as_str).unwrap_or_default();
        *counts.entry(code).or_insert(0) += 1;
    }
    let unlisted = crate::notify::unlisted(status);
    if unlisted > 0 {
        *counts.entry(Code::EndpointOverQuota.id()).or_insert(0) += unlisted;
    }
    text.family(
        "tidegate_faults",
        "gauge",
        "What is wrong now, by the code that `tidegate status` explains.",
    );
    for (code, count) in counts {
        text.sample("tidegate_faults", &[("code", code)], count);
    }
}

/// Five figures of each endpoint.
fn each(text: &mut Text, endpoints: &[Shown]) {
    let mut all = |name: &str, help: &str, figure: &dyn Fn(&Shown) -> Option<f64>| {
        text.family(name, "gauge", help);
        for (endpoint, figure) in endpoints.iter().filter_map(|shown| Some((&shown.name, figure(shown)?))) {
            text.sample(name, &[("endpoint", endpoint.as_str())], figure);
        }
    };
    let truth = |truth: bool| f64::from(u8::from(truth));
    let queued = |shown: &Shown| u32::try_from(shown.queued).ok().map(f64::from);
    all("tidegate_endpoint_queued_samples", "Samples that wait for the platform.", &queued);
    let reachable = |shown: &Shown| shown.presence.map(|presence| truth(presence != "offline"));
    all("tidegate_endpoint_reachable", "Whether its device answers, or sleeps as it should.", &reachable);
    let parked = |shown: &Shown| Some(truth(shown.parked.is_some()));
    all("tidegate_endpoint_parked", "Whether the platform refuses it for now.", &parked);
    let rate = |shown: &Shown| shown.samples_per_s;
    all("tidegate_endpoint_samples_per_second", "Samples handed in, over about a minute.", &rate);
    let age = |shown: &Shown| Some(shown.last.as_ref()?.get("age_ms")?.as_f64()? / 1_000.0);
    all("tidegate_endpoint_age_seconds", "How old its youngest value is.", &age);
}

fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A number, or a truth as 1 or 0.
fn figure(value: &Value) -> Option<String> {
    match value {
        Value::Bool(truth) => Some(u8::from(*truth).to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], figure: impl Display) {
        self.0.push_str(name);
        for (n, (label, value)) in labels.iter().enumerate() {
            let _infallible = write!(self.0, "{}{label}=\"", if n == 0 { '{' } else { ',' });
            self.label(value);
            self.0.push('"');
        }
        let _infallible = writeln!(self.0, "{} {figure}", if labels.is_empty() { "" } else { "}" });
    }

    /// A label's value, without what steers a terminal, and then escaped as the format wants it.
    fn label(&mut self, value: &str) {
        let cut = value.char_indices().nth(LONGEST).and_then(|(end, _)| value.get(..end));
        for c in shown(cut.unwrap_or(value)).to_string().chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                other => self.0.push(other),
            }
        }
        if cut.is_some() {
            // Two long texts that begin alike would be the same line twice, which nobody takes.
            let sum = value.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, b| {
                (sum ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
            });
            let _infallible = write!(self.0, "...{sum:016x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(status: &Value, name: &str) -> Vec<String> {
        let text = text(status, &[], &Process::default());
        text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
    }

    #[test]
    fn every_term_is_the_sum_of_its_reasons() {
        let status = json!({
            "ledger": { "offered": 10, "refused": 3, "stored": 7, "landed": 4, "dropped": 3 },
            "reasons": { "refused(quota)": 2, "dropped(age)": 1, "dropped(quota)": 2, "forgotten(quota)": 9 },
        });
        let told = lines(&status, "tidegate_samples_total");
        assert_eq!(
            told,
            [
                r#"tidegate_samples_total{term="offered",reason=""} 10"#,
                r#"tidegate_samples_total{term="refused",reason="quota"} 2"#,
                r#"tidegate_samples_total{term="refused",reason=""} 1"#,
                r#"tidegate_samples_total{term="suppressed",reason=""} 0"#,
                r#"tidegate_samples_total{term="stored",reason=""} 7"#,
                r#"tidegate_samples_total{term="landed",reason=""} 4"#,
                r#"tidegate_samples_total{term="dropped",reason="age"} 1"#,
                r#"tidegate_samples_total{term="dropped",reason="quota"} 2"#,
                r#"tidegate_samples_total{term="dropped",reason=""} 0"#,
                r#"tidegate_samples_total{term="discarded",reason=""} 0"#,
            ]
        );
    }

    #[test]
    fn a_unit_is_in_one_state_whichever_it_is() {
        for state in ["running", "stalled", "left behind"] {
            let status = json!({ "units": [{ "name": "modbus.site", "state": state }] });
            let told = lines(&status, "tidegate_unit_state");
            let is = format!(r#"tidegate_unit_state{{unit="modbus.site",state="{state}"}} 1"#);
            assert_eq!(told.iter().filter(|line| line.ends_with(" 1")).collect::<Vec<_>>(), [&is]);
        }
    }

    #[test]
    fn hostile_words_stay_in_their_label() {
        let check = |wire: &str, label: &str| {
            let status = json!({ "units": [{ "name": "modbus.site", "wires": { wire: { "busy": 0.5 } } }] });
            let expected = format!(r#"tidegate_wire_busy_ratio{{unit="modbus.site",wire="{label}"}} 0.5"#);
            assert_eq!(lines(&status, "tidegate_wire_busy_ratio"), [expected]);
        };
        check("/dev/ttyUSB0", "/dev/ttyUSB0");
        check("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>");
        check("\u{1b}]0;x\u{7}", r"\\u{1b}]0;x\\u{7}");
        check("a\nlevel=ERROR", r"a\\u{a}level=ERROR");
        check(r#"a"} 1"#, r#"a\"} 1"#);
        check(r"C:\n", r"C:\\n");
        check("\u{202e}evil\u{2028}", r"\\u{202e}evil\\u{2028}");
        let long = "\u{e4}".repeat(65_536);
        let status = json!({ "units": [{ "name": "u", "wires": { &long: { "busy": 0.5 }, long.clone() + "b": { "busy": 0.5 } } }] });
        let told = lines(&status, "tidegate_wire_busy_ratio");
        assert!(told.len() == 2 && told[0] != told[1] && told[0].len() < 1_000, "{told:?}");
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let status = json!({ "clock": { "known": false }, "autonomy": { "hours": null, "room_bytes": 7 } });
        assert_eq!(lines(&status, "tidegate_clock_known"), ["tidegate_clock_known 0"]);
        assert_eq!(lines(&status, "tidegate_autonomy"), Vec::<String>::new());
        assert_eq!(lines(&status, "tidegate_store_room_bytes"), ["tidegate_store_room_bytes 7"]);
        assert_eq!(lines(&status, "process_"), Vec::<String>::new());
        let bytes = |state: &str| {
            let status = json!({ "uplink": { "state": state, "sent_bytes": 7, "received_bytes": 9 } });
            lines(&status, "tidegate_uplink_bytes").len()
        };
        assert_eq!(["none", "connecting", "up"].map(bytes), [0, 2, 2]);
        let connections = |parked: Value| {
            let status = json!({ "uplink": { "connections": 0, "parked_codes": parked } });
            lines(&status, "tidegate_uplink_connections").len()
        };
        assert_eq!([json!(null), json!({})].map(connections), [0, 1]);
        assert!(Process::now().resident_bytes.unwrap() > 1 << 20 && Process::now().open_files.unwrap() > 0);
    }

    #[test]
    fn faults_that_are_counted_and_not_listed_are_told_too() {
        let status =
            json!({ "over_quota": 120, "quotas": [{ "fault": { "code": "TG-221" } }, { "fault": null }] });
        assert_eq!(lines(&status, "tidegate_faults{"), [r#"tidegate_faults{code="TG-221"} 120"#]);
    }
}
