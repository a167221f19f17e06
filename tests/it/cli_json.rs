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
    site::{PATIENCE, Site, free_port, until},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    thread,
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

/// Done with the gateway itself.
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

/// Of the machine, so that `doctor` has other words and verdicts for it from run to run.
const OF_THE_MACHINE: [&str; 3] = ["clock", "disk", "watches"];

/// Runs a command and compares its lines.
fn agreed(command: &[&str], more: &[&str]) {
    agreed_but(command, more, |answers| answers);
}

/// The same, of what is made of its lines.
fn agreed_but(command: &[&str], more: &[&str], but: impl FnOnce(Vec<Value>) -> Vec<Value>) {
    let mut call = Command::new(binary());
    call.args(command).args(more).arg("--json").stdin(Stdio::null());
    let output = call.output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    compare(command, but(answers(&out)), &format!("{err}exit code {}", output.status.code().unwrap()));
}

/// Lines of JSON.
fn answers(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn compare(command: &[&str], answers: Vec<Value>, rest: &str) {
    let mut said = String::new();
    for mut answer in answers {
        mask(&mut answer);
        said += &(serde_json::to_string_pretty(&answer).unwrap() + "\n");
    }
    assert_json_agreed(&command.join(" "), &(said + rest));
}

/// What `doctor` answers, without what it says of this machine, and without numbers of this run.
fn examined(mut answers: Vec<Value>) -> Vec<Value> {
    for answer in &mut answers {
        let findings = answer["findings"].as_array_mut().unwrap();
        for finding in findings.iter_mut() {
            let area = finding["area"].as_str().unwrap().to_owned();
            if OF_THE_MACHINE.contains(&area.as_str()) {
                *finding = json!({ "area": area, "verdict": "VARIES", "what": "VARIES" });
            } else if let Some(what) = finding["what"].as_str() {
                let what = what.replace(env!("CARGO_PKG_VERSION"), "VERSION");
                // Which addresses a name has says /etc/hosts.
                let vary = [
                    ("good for ", " days"),
                    ("the user ", " may"),
                    ("localhost is ", ""),
                    (" at ", " accepts"),
                    (" at ", " shows"),
                ];
                finding["what"] =
                    vary.iter().fold(what, |what, (before, after)| varying(&what, before, after)).into();
            }
        }
        let of = |verdict| findings.iter().filter(|finding| finding["verdict"] == verdict).count();
        let (errors, warnings) = (of("error"), of("warning"));
        (answer["errors"], answer["warnings"]) = (errors.into(), warnings.into());
    }
    answers
}

/// With what is between these two replaced; where nothing comes after it, all there is.
fn varying(text: &str, before: &str, after: &str) -> String {
    let tail = |rest: &'_ str| {
        if after.is_empty() { Some(rest.len()) } else { rest.find(after).map(|at| at + after.len()) }
    };
    let parts = text.split_once(before).and_then(|(head, rest)| Some((head, &rest[tail(rest)?..])));
    parts.map_or_else(|| text.to_owned(), |(head, tail)| format!("{head}{before}VARIES{after}{tail}"))
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
    agreed_but(&["doctor"], &["-c", &file], examined);
    tailed(&mut gateway, &mut pusher);

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

/// Looks on at readings, at one that is refused, and at the gateway's end.
fn tailed(gateway: &mut Gateway, pusher: &mut Pusher) {
    let mut tail = gateway.begin(&["tail", "--json"]);
    let mut lines = BufReader::new(tail.stdout.take().unwrap());
    // It listens from some moment on: pushed until one is heard.
    let mut heard = String::new();
    thread::scope(|scope| {
        let listening = scope.spawn(|| lines.read_line(&mut heard).unwrap());
        let mut numbers = 1_001..;
        until("a reading is heard", PATIENCE, || {
            pusher.push("p3", &numbers.next().unwrap().to_string());
            listening.is_finished().then_some(())
        });
    });
    pusher.push("p3", "9001-9002");
    assert!(!pusher.try_push("nobody", "1"));
    assert!(gateway.terminate().success());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let status = until("tail ends with the gateway", PATIENCE, || tail.try_wait().unwrap());
    let answers = answers(&(heard + &rest)).into_iter();
    let answers = answers.skip_while(|line| line["value"] != 9_001).collect();
    compare(&["tail"], answers, &format!("exit code {}", status.code().unwrap()));
}

#[test]
fn of_a_set_up_that_is_broken() {
    let site = Site::new();
    let line = "[adapters.modbus.line]\nport = \"/dev/ttyNONE\"\nbaud = 9600\n[endpoints.d]\ntoken = \"T1\"\n\
                [endpoints.d.modbus]\nunit = 1\nprofile = \"sdm230\"";
    let _gateway = Gateway::new(&site, &Config::plain(&site, 8883).no_uplink().line(line), 1);
    let file = site.path("tidegate.toml").display().to_string();
    agreed_but(&["doctor", "-c"], &[&file], examined);
}

#[test]
fn of_the_demo() {
    agreed_but(&["demo"], &["--seconds", "1"], |mut answers| {
        answers.iter_mut().for_each(uncounted);
        answers
    });
}

/// All numbers of a run vary.
fn uncounted(answer: &mut Value) {
    match answer {
        Value::Number(_) => *answer = "VARIES".into(),
        Value::Object(members) => members.values_mut().for_each(uncounted),
        _ => {}
    }
}

#[test]
fn of_a_trace() {
    let site = Site::new();
    let devices = Python::start(&site, "modbus_devices.py", &["--wire", "tcp"]);
    let host = format!("127.0.0.1:{}", devices.ready);
    let line = format!(
        "[adapters.modbus.site]\nhost = {host:?}\n[endpoints.meter]\ntoken = \"T1\"\n[endpoints.meter.modbus]\n\
         unit = 5\nperiod = \"100ms\"\n[endpoints.meter.modbus.resources]\n\
         volts = {{ register = \"input:0\", type = \"f32\" }}"
    );
    let mut gateway = Gateway::new(&site, &Config::plain(&site, free_port()).no_uplink().line(&line), 1);
    gateway.start();
    gateway.until_status("it polls", |s| s["units"][0]["devices"]["meter"]["presence"] == "online");
    let (file, capture) = (site.path("tidegate.toml"), site.path("trace.pcapng"));
    let arguments = ["--seconds", "2", "-w", capture.to_str().unwrap(), "-c", file.to_str().unwrap()];
    agreed_but(&["modbus", "trace"], &arguments, |answers| traced(answers, &host));
    assert!(gateway.terminate().success());
}

/// A request and its answer may be seen any number of times: once is shown, whatever its number on the wire.
fn traced(mut answers: Vec<Value>, host: &str) -> Vec<Value> {
    let (mut frames, mut seen) = (0, BTreeSet::new());
    answers.retain_mut(|answer| {
        let Some(frame) = answer.get_mut("frame") else { return true };
        frames += 1;
        assert!(frame["us"].as_u64().unwrap() > 1_600_000_000_000_000, "{frame}");
        frame["us"] = "VARIES".into();
        // The transaction identifier is counted up.
        let hex = frame["hex"].as_str().unwrap();
        frame["hex"] = format!("NNNN{}", &hex[4..]).into();
        seen.insert(frame.to_string())
    });
    let done = &mut answers.last_mut().unwrap()["done"]["frames"];
    assert!(frames > 4 && *done == frames, "{frames} frames, and it says {done}");
    *done = "VARIES".into();
    // Either may come first.
    answers.sort_by_key(|answer| {
        let ours = answer.pointer("/frame/ours").map(|ours| *ours == false);
        (answer.get("done").is_some(), ours)
    });
    let text = serde_json::to_string(&answers).unwrap().replace(host, "127.0.0.1:PORT");
    serde_json::from_str(&text).unwrap()
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
