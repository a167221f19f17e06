//! Edits of a configuration, and exactly what they make happen.

use super::{Plan, plan, plan::merged};
use crate::config::Config;
use serde_json::Value;
use std::{fs, path::Path};

const BEFORE: &str = r#"
[log]
level = "info"
[uplink]
kind = "kaa"
urls = ["mqtts://a.example"]
tls.ca_file = "ca.pem"
[uplink.kaa]
app_version = "demo-v1"
[adapters.modbus.hall]
host = "10.0.0.1"
[adapters.modbus.roof]
host = "10.0.0.2"
[endpoints.own]
token = "OWN"
[endpoints.m1]
token = "T1"
adapter = "hall"
modbus = { unit = 1, resources = { t = { register = "input:1", type = "i16" } } }
[endpoints.m2]
token = "T2"
adapter = "hall"
modbus = { unit = 2, resources = { t = { register = "input:1", type = "i16" } } }
[endpoints.r1]
token = "T3"
adapter = "roof"
modbus = { unit = 1, resources = { t = { register = "input:1", type = "i16" } } }
[gateway]
endpoint = "own"
"#;

fn config(text: &str, dir: &Path) -> Config {
    Config::parse(text, "F", dir).unwrap_or_else(|findings| panic!("{findings}\n{text}")).0
}

/// What is not nothing of a plan: `key: value` in the order of its JSON, lists as `a b`.
fn shown(plan: &Plan) -> String {
    fn walk(key: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(members) if members.contains_key("from") => {}
            Value::Object(members) => members.iter().for_each(|(key, value)| walk(key, value, out)),
            Value::Array(items) if !items.is_empty() => {
                let item = |item: &Value| match item.get("from") {
                    Some(from) => format!("{}>{}", from.as_str().unwrap(), item["to"].as_str().unwrap()),
                    None => item.as_str().unwrap().to_owned(),
                };
                out.push(format!("{key}: {}", items.iter().map(item).collect::<Vec<_>>().join(" ")));
            }
            Value::String(text) if text != "keep" => out.push(format!("{key}: {text}")),
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk("", &plan.json(), &mut out);
    out.sort();
    out.join("; ")
}

/// Of an edit: what is replaced by what.
fn check(edits: &[(&str, &str)], expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), "1").unwrap();
    let before = config(BEFORE, dir.path());
    let mut text = BEFORE.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let after = config(&text, dir.path());
    let there = plan(&before, &after);
    assert_eq!(shown(&there), expected, "{edits:?}");
    // What is in force then needs nothing more, but for what a new process has to do.
    let rest = plan(&merged(&before, &after), &after);
    assert_eq!(rest, Plan { needs_process_restart: there.needs_process_restart, ..Plan::default() });
}

#[test]
fn only_what_changed_restarts() {
    check(&[], "");
    check(&[("10.0.0.1", "10.0.0.9")], "restart: modbus.hall");
    check(&[("host = \"10.0.0.2\"", "host = \"10.0.0.2\"\ntimeout = \"3s\"")], "restart: modbus.roof");
    check(
        &[("[adapters.modbus.hall]", "[adapters.modbus.new]\nhost = \"h\"\n[adapters.modbus.hall]")],
        "start: modbus.new",
    );
    check(
        &[("[adapters.modbus.roof]\nhost = \"10.0.0.2\"", ""), ("adapter = \"roof\"", "adapter = \"hall\"")],
        "devices: modbus.hall; stop: modbus.roof",
    );
    check(
        &[
            ("[adapters.modbus.roof]", "[adapters.modbus.tower]"),
            ("adapter = \"roof\"", "adapter = \"tower\""),
        ],
        "start: modbus.tower; stop: modbus.roof",
    );
}

#[test]
fn endpoints_change_beside_their_neighbours() {
    let third = "[endpoints.m3]\ntoken = \"T9\"\nadapter = \"hall\"\n\
                 modbus = { unit = 3, resources = { t = { register = \"input:1\", type = \"i16\" } } }\n[endpoints.m2]";
    check(&[("[endpoints.m2]", third)], "added: m3; devices: modbus.hall; uplink: directory");
    check(
        &[("[endpoints.m2]", "[endpoints.m7]")],
        "added: m7; devices: modbus.hall; removed: m2; uplink: directory",
    );
    check(
        &[("[endpoints.m2]", "[endpoints.m7]\nformerly = \"m2\"")],
        "devices: modbus.hall; renamed: m2>m7; uplink: directory",
    );
    check(
        &[("[endpoints.m2]", "[endpoints.m7]\nformerly = [\"old\", \"m2\"]"), ("\"T2\"", "\"T8\"")],
        "devices: modbus.hall; renamed: m2>m7; token: m7; uplink: directory",
    );
    let two_become_one =
        "modbus = { unit = 2, resources = { t = { register = \"input:1\", type = \"i16\" } } }";
    check(
        &[
            (&format!("[endpoints.m2]\ntoken = \"T2\"\nadapter = \"hall\"\n{two_become_one}"), ""),
            ("\"T1\"", "\"T1\"\nformerly = \"m2\""),
        ],
        "devices: modbus.hall; merged: m2>m1; uplink: directory",
    );
    let again = "modbus = { unit = 1, resources = { t = { register = \"input:1\", type = \"i16\" } } }\n";
    check(
        &[
            (&format!("[endpoints.m1]\ntoken = \"T1\"\nadapter = \"hall\"\n{again}"), ""),
            ("[endpoints.m2]", "[endpoints.m7]\nformerly = [\"m1\", \"m2\"]"),
        ],
        "devices: modbus.hall; merged: m2>m7; renamed: m1>m7; token: m7; uplink: directory",
    );
    check(
        &[("[endpoints.m2]", "[endpoints.m7]\ntenant = \"other\"\nformerly = \"m2\"")],
        "added: m7; devices: modbus.hall; removed: m2; uplink: directory",
    );
    check(&[("\"T2\"", "\"T8\"")], "token: m2; uplink: directory");
    check(&[("\"T2\"", "\"T2\"\ntenant = \"other\"")], "token: m2; uplink: directory");
    check(&[("unit = 2", "period = \"5s\", unit = 2")], "devices: m2; devices: modbus.hall");
    check(&[("\"T2\"", "\"T2\"\nenabled = false")], "devices: modbus.hall; disabled: m2");
    check(&[("\"T2\"", "\"T2\"\nquota.samples_per_s = 1")], "rules: m2; uplink: directory");
    check(&[("\"T2\"", "\"T2\"\nreport.on_change = true")], "rules: m2; uplink: directory");
    check(&[("\"T2\"", "\"T2\"\nname_on_wire.t = \"T\"")], "rules: m2; uplink: directory");
    check(&[("\"T2\"", "\"T2\"\nformerly = \"old\"")], "");
}

#[test]
fn the_uplink_restarts_for_its_own_sake_only() {
    check(&[("a.example", "b.example")], "uplink: restart");
    check(&[("demo-v1", "demo-v2")], "uplink: restart");
    check(&[("kind = \"kaa\"", "kind = \"kaa\"\nkeep_alive = \"30s\"")], "uplink: restart");
    check(&[("kind = \"kaa\"", "kind = \"none\"")], "uplink: stop");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), "1").unwrap();
    let before = config(BEFORE, dir.path());
    assert!(plan(&before, &config(BEFORE, dir.path())).is_empty());
    fs::write(dir.path().join("ca.pem"), "2").unwrap();
    let renewed = config(BEFORE, dir.path());
    assert_eq!(shown(&plan(&before, &renewed)), "uplink: restart", "another certificate in the same file");
    assert_eq!(shown(&plan(&renewed, &before)), "uplink: restart");
}

#[test]
fn some_keys_change_live_and_some_with_the_process() {
    check(&[("level = \"info\"", "level = \"debug\"")], "live: log");
    check(&[("[log]", "[store]\nmax_age = \"7d\"\n[log]")], "live: store");
    check(&[("[log]", "[clock]\ndevice_time = \"trust\"\n[log]")], "live: clock.device_time");
    check(
        &[("endpoint = \"own\"", ""), ("[endpoints.own]\ntoken = \"OWN\"", "")],
        "live: gateway.endpoint; removed: own; uplink: directory",
    );
    for (from, to, key) in [
        ("[gateway]", "[gateway]\nstate_dir = \"/x\"", "gateway.state_dir"),
        ("[gateway]", "[gateway]\ncontrol_socket = \"/x\"", "gateway.control_socket"),
        ("[log]", "[clock]\ntrust = \"always\"\n[log]", "clock.trust"),
        ("[log]", "[clock]\nhold = \"1m\"\n[log]", "clock.hold"),
    ] {
        check(&[(from, to)], &format!("needs_process_restart: {key}"));
    }
    check(
        &[("[log]", "[store]\nmax_sample_bytes = 1024\nmax_age = \"7d\"\n[log]"), ("\"T2\"", "\"T8\"")],
        "live: store; needs_process_restart: store.max_sample_bytes; token: m2; uplink: directory",
    );
}

#[test]
fn the_journal_says_what_was_done_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), "1").unwrap();
    let before = config(BEFORE, dir.path());
    let after =
        BEFORE.replace("a.example", "b.example").replace("10.0.0.1", "10.0.0.9").replace("\"T2\"", "\"T8\"");
    let plan = plan(&before, &config(&after, dir.path()));
    assert_eq!(plan.words(), "restarted modbus.hall; restarted uplink; m2 with another token");
    assert_eq!(Plan::default().words(), "nothing changed");
    assert!(!plan.json().to_string().contains("T8") && !plan.words().contains("T8"), "no token is told");
}

/// What the store knows while `stops` stop, after an edit: `name` or `tenant/name`, with `-` where it is disabled; and
/// whether there is an uplink. Empty: nothing else than afterwards.
fn check_meanwhile(edits: &[(&str, &str)], stops: &[&str], expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), "1").unwrap();
    let before = config(BEFORE, dir.path());
    let text = edits.iter().fold(BEFORE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    let after = config(&text, dir.path());
    let stops = stops.iter().map(|unit| (*unit).to_owned()).collect();
    let shown = super::plan::meanwhile(&before, &after, &stops).map_or_else(String::new, |known| {
        let shown = known
            .endpoints
            .iter()
            .map(|endpoint| format!("{}{}", endpoint.key, if endpoint.enabled { "" } else { "-" }));
        let mut shown: Vec<String> = shown.collect();
        shown.sort();
        if known.uplink == crate::config::Uplink::None {
            shown.push("without uplink".to_owned());
        }
        shown.join(" ")
    });
    assert_eq!(shown, expected, "{edits:?} while {stops:?} stop");
}

#[test]
fn what_adapters_that_stop_hand_in_last_is_taken_as_it_was() {
    let m2 = "[endpoints.m2]\ntoken = \"T2\"\nadapter = \"hall\"\n\
              modbus = { unit = 2, resources = { t = { register = \"input:1\", type = \"i16\" } } }\n";
    let all = &["modbus.hall", "modbus.roof"][..];
    check_meanwhile(&[], all, "");
    check_meanwhile(&[(m2, "")], all, "m1 m2 own r1");
    check_meanwhile(&[(m2, "")], &["modbus.roof"], "");
    check_meanwhile(&[("\"T2\"", "\"T2\"\nenabled = false")], all, "m1 m2 own r1");
    check_meanwhile(&[("\"T2\"", "\"T2\"\nenabled = false")], &[], "");
    check_meanwhile(&[("\"T2\"", "\"T2\"\ntenant = \"other\"")], all, "m1 m2 own r1");
    check_meanwhile(&[("[endpoints.m2]", "[endpoints.m7]\nformerly = \"m2\"")], all, "");
    check_meanwhile(
        &[("[endpoints.m2]", "[endpoints.m7]\nenabled = false\nformerly = \"m2\"")],
        all,
        "m1 m7 own r1",
    );
    check_meanwhile(
        &[("[endpoints.m2]", "[endpoints.m7]\ntenant = \"other\"\nformerly = \"m2\"")],
        all,
        "m1 m2 other/m7 own r1",
    );
    let no_uplink = ("kind = \"kaa\"", "kind = \"none\"");
    check_meanwhile(&[no_uplink], all, "m1 m2 own r1");
    check_meanwhile(&[no_uplink], &[], "");
}
