//! What every command answers with `--json`, compared with what was agreed on (`tests/data/cli-json.txt`): keys and
//! shapes as they are, and numbers unless they differ from run to run.
//!
//! One more command is one more line of a table below.

use crate::{
    agreed::assert_json_agreed,
    arrivals::Platform,
    gateway::{Config, Gateway, binary},
    peers::{Broker, Python},
    pusher::Pusher,
    site::{Site, free_port},
};
use serde_json::{Value, json};
use std::{
    fs,
    process::{Command, Stdio},
};

/// Members that differ from run to run.
const VARYING: &[&str] = &[
    "age_ms",
    "address",
    "bytes_per_s",
    "connections",
    "delivered",
    "directory",
    "for_s",
    "holding_for_s",
    "hours",
    "missed",
    "received_bytes",
    "room_bytes",
    "samples_per_s",
    "sent_bytes",
    "stamp_us",
    "version",
    // Of the tools for wires.
    "took_s",
];

/// Asked of a gateway with a parked endpoint, a dead letter and a silent endpoint.
const ASKED: &[&[&str]] = &[
    &["status"],
    &["endpoints"],
    &["endpoints", "p2"],
    &["endpoints", "nothing-*"],
    &["queue"],
    &["queue", "--dead"],
    &["read", "p2"],
    &["read", "p2", "n"],
    &["read", "p3"],
];

/// Done with its dead letter, in this order.
const DONE: &[&[&str]] = &[
    &["queue", "requeue", "7", "8"],
    &["queue", "requeue", "--endpoint", "p3"],
    &["queue", "discard", "1", "--yes"],
    &["queue", "discard", "--all", "--yes"],
];

/// Done with the gateway itself. What `doctor` says differs from machine to machine: see `doctor`.
const MANAGED: &[&[&str]] = &[
    &["reload"],
    &["log", "debug", "tidegate"],
    &["log", "info"],
    &["endpoint", "disable", "p3"],
    &["endpoint", "disable", "nobody"],
    &["endpoint", "enable", "p3"],
];

/// Asked without a gateway.
const ALONE: &[&[&str]] = &[&["profiles"], &["profiles", "sdm120"]];

/// Asked of a meter on unit 5 and an inverter on unit 17.
const WIRE: &[&[&str]] = &[
    &["modbus", "read", "input:0", "--type", "f32", "--unit", "5"],
    &["modbus", "scan", "--units", "4..6", "--timeout", "300ms"],
    &["modbus", "identify", "--unit", "17"],
    &["modbus", "find", "231.4", "--unit", "5"],
];

/// Runs a command and compares its lines.
fn agreed(command: &[&str], more: &[&str]) {
    let mut call = Command::new(binary());
    call.args(command).args(more).arg("--json").stdin(Stdio::null());
    let output = call.output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let lines: Vec<String> = out
        .lines()
        .map(|line| {
            let mut answer = serde_json::from_str(line).unwrap_or_else(|_| panic!("{command:?}: {line}"));
            mask(&mut answer);
            serde_json::to_string_pretty(&answer).unwrap()
        })
        .collect();
    let code = output.status.code().unwrap();
    let said = lines.into_iter().map(|line| line + "\n").collect::<String>();
    assert_json_agreed(&command.join(" "), &format!("{said}{err}exit code {code}"));
}

fn mask(answer: &mut Value) {
    match answer {
        Value::Object(members) => {
            for (key, value) in members {
                if VARYING.contains(&key.as_str()) {
                    *value = json!("VARIES");
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

#[test]
fn of_a_gateway_that_has_something_of_everything() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    // Nothing is tried again while it is looked at.
    let config = Config::kaa(&site, broker.port()).set("probe_min", "10m").set("probe_max", "1h");
    let mut gateway = Gateway::new(&site, &config.pushed(3, port), 1);
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(port);
    platform.rules(&json!({"refuse_tokens": {"TP1": 404, "TP2": 413}}));
    pusher.push("p1", "1-3");
    gateway.until_status("p1 is parked", |s| s["uplink"]["parked"].as_array().is_some_and(|p| p.len() == 1));
    pusher.push("p2", "1");
    gateway.until_status("p2 has a dead letter", |s| s["dead_letters"] == 1 && s["ledger"]["dead"] == 1);
    let file = site.path("tidegate.toml").display().to_string();
    for command in ASKED.iter().chain(DONE).chain(MANAGED) {
        agreed(command, &["-c", &file]);
    }
    let other = site.path("other.toml").display().to_string();
    fs::write(&other, fs::read_to_string(&file).unwrap().replace("TP3", "TP4")).unwrap();
    agreed(&["diff"], &[&other, "-c", &file]);
    assert!(gateway.terminate().success());

    // `p1` has left.
    let config = Config::kaa(&site, broker.port());
    gateway.configure(
        &site,
        &config.pushed(0, port).line("[endpoints.q1]\ntoken = \"TQ1\"\n[endpoints.q1.test]"),
    );
    gateway.start();
    gateway.until_up();
    agreed(&["queue", "discard", "--orphaned", "p1", "--yes"], &["-c", &file]);
    assert!(gateway.terminate().success());
}

#[test]
fn of_a_configuration_that_is_good_and_of_one_that_is_not() {
    let site = Site::new();
    let gateway = Gateway::new(&site, &Config::plain(&site, 8883).pushed(1, 5020).no_uplink(), 1);
    let file = site.path("tidegate.toml").display().to_string();
    agreed(&["check"], &[&file]);
    drop(gateway);
    fs::write(&file, "[uplink]\nkind = \"none\"\n[endpoints.a]\ntoken = 5\nperiot = 1\n").unwrap();
    agreed(&["check", "-c"], &[&file]);
}

#[test]
fn without_a_gateway() {
    for command in ALONE {
        agreed(command, &[]);
    }
}

#[test]
fn of_a_wire() {
    let site = Site::new();
    let devices = Python::start(&site, "modbus_devices.py", &["--wire", "tcp"]);
    let host = format!("127.0.0.1:{}", devices.ready);
    let nowhere = site.path("no-gateway.sock").display().to_string();
    for command in WIRE {
        agreed(command, &["--tcp", &host, "--socket", &nowhere]);
    }
}
