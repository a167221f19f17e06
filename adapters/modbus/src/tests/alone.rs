//! Tools over wires of their own: what comes late is nobody's value, and an endpoint is asked as it is
//! configured.

use super::{
    config,
    converter::Converter,
    devices,
    slave::{Ask, Reply, Slave},
};
use crate::{
    Device,
    sunspec::{END, MARKER},
    tools::{At, Form, Question, Read, Scan, Setting, Sweep, answer_alone},
};
use adapter_api::{Devices, Span, inquiry::telling, testkit::run};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// All that a tool says, of this adapter with these devices.
async fn told(adapter: &str, devices: Devices<Device>, question: Question) -> Vec<Value> {
    let (to, mut lines) = telling();
    let answer = answer_alone(config(adapter), devices, question, to);
    let listen = async {
        let mut told = Vec::new();
        while let Some(line) = lines.recv().await {
            told.push(line);
        }
        told
    };
    tokio::join!(answer, listen).1
}

fn has<'l>(lines: &'l [Value], member: &'l str) -> impl Iterator<Item = &'l Value> {
    lines.iter().filter_map(move |line| line.get(member))
}

fn values(lines: &[Value]) -> Vec<Value> {
    has(lines, "value").map(|value| value["value"].clone()).collect()
}

fn read(at: At, registers: &[&str]) -> Question {
    let registers = registers.iter().map(|&text| text.to_owned()).collect();
    Question::Read(Read { at, registers, form: Form::default() })
}

fn within(ms: u64) -> At {
    At { timeout: Some(Span::from_millis(ms)), ..At::default() }
}

fn meter() -> At {
    At { endpoint: Some("meter".to_owned()), ..At::default() }
}

fn endpoint(slave: &Slave, keys: &str) -> Devices<Device> {
    let text = format!("host = '{}'\n{keys}", slave.address);
    devices([("meter", toml::from_str(&text).unwrap())])
}

#[test]
fn a_request_cut_off_on_a_line_is_not_put_again_and_the_line_is_left_quiet() {
    run(async {
        let converter = Converter::start(Duration::from_millis(60), &[1]).await;
        let adapter =
            format!("host = '{}'\nframing = 'rtu'\ntimeout = '2s'\nquarantine = '400ms'", converter.address);
        let registers = ["holding:0", "holding:200", "holding:400"];
        let lines = told(&adapter, Devices::new(), read(At::default(), &registers)).await;
        assert_eq!(has(&lines, "fault").next().unwrap()["code"], "TG-405", "{lines:?}");
        assert_eq!(converter.asked.lock().unwrap().len(), 2, "each of them once");
        assert_eq!(has(&lines, "settling").count(), 1, "{lines:?}");
        let lines = told(&adapter, Devices::new(), read(At::default(), &registers[2..])).await;
        assert_eq!(values(&lines), [json!(400)], "{lines:?}");
    });
}

#[test]
fn the_answer_to_one_tool_is_never_the_value_of_the_next() {
    run(async {
        // A unit that is slower than three of the tool's time-outs is known to be.
        for (takes, patience, key) in [(250, 150, ""), (700, 100, "quarantine = '1500ms'")] {
            let converter = Converter::start(Duration::from_millis(takes), &[]).await;
            let adapter = format!("host = '{}'\nframing = 'rtu'\n{key}", converter.address);
            let lines = told(&adapter, Devices::new(), read(within(patience), &["holding:0"])).await;
            assert_eq!(has(&lines, "fault").next().unwrap()["code"], "TG-431", "{lines:?}");
            let lines = told(&adapter, Devices::new(), read(within(5_000), &["holding:10"])).await;
            assert_eq!(values(&lines), [json!(10)], "{lines:?}");
            assert_eq!(has(&lines, "settling").count(), 0, "it was answered: {lines:?}");
        }
    });
}

#[test]
fn the_answer_at_one_setting_is_not_found_at_the_next() {
    run(async {
        let converter = Converter::start(Duration::from_millis(500), &[]).await;
        let adapter = format!("host = '{}'\nframing = 'rtu'", converter.address);
        let setting = |baud| Setting { baud, parity: "even".to_owned(), stop_bits: None };
        let settings = vec![setting(9_600), setting(19_200)];
        let scan = Scan { at: within(300), units: (1, 1), settings, first: false };
        let lines = told(&adapter, Devices::new(), Question::Scan(scan)).await;
        assert_eq!(has(&lines, "done").next().unwrap()["probes"], 2, "{lines:?}");
        assert_eq!(has(&lines, "found").count(), 0, "it is slower than both: {lines:?}");
    });
}

#[test]
fn a_host_that_closes_every_connection_is_no_host_without_devices() {
    run(async {
        let scan = |units| Question::Scan(Scan { units, ..Scan::default() });
        let slave = Slave::start(|_| Reply::Hangup).await;
        let lines = told(&format!("host = '{}'", slave.address), Devices::new(), scan((1, 5))).await;
        assert_eq!(has(&lines, "fault").next().unwrap()["code"], "TG-405", "{lines:?}");
        assert_eq!(has(&lines, "done").count(), 0);
        // Some gateways do so for units they do not have.
        let slave =
            Slave::start(|ask: Ask| if ask.unit == 3 { Reply::Addresses } else { Reply::Hangup }).await;
        let lines = told(&format!("host = '{}'", slave.address), Devices::new(), scan((1, 5))).await;
        assert_eq!(has(&lines, "done").next().unwrap()["found"], 1, "{lines:?}");
    });
}

#[test]
fn an_endpoint_is_asked_as_it_is_configured() {
    run(async {
        let slave = Slave::start(|ask: Ask| match ask.quantity {
            ..=4 => Reply::Late(Duration::from_millis(150)),
            _ => Reply::Exception(3),
        })
        .await;
        let keys = "timeout = '20s'\nmax_registers = 4\n\
                    [resources]\nx = { register = 'holding:0', type = 'f64' }";
        let sweep = Sweep { at: meter(), ranges: vec!["input:0..9".to_owned()], base: None };
        let lines = told("timeout = '50ms'", endpoint(&slave, keys), Question::Sweep(sweep)).await;
        let done = has(&lines, "done").next().unwrap_or_else(|| panic!("{lines:?}"));
        assert_eq!((&done["read"], &done["refused"]), (&json!(10), &json!({})));
        let counts: Vec<u16> = slave.asked().iter().map(|ask| ask.quantity).collect();
        assert_eq!(counts, [4, 4, 2]);
    });
}

#[test]
fn of_a_profile_only_what_was_asked_for_is_read() {
    run(async {
        let slave = Slave::start(|_| Reply::Addresses).await;
        let keys = "profile = 'sdm120'\nonly = ['voltage', 'frequency']\nbase = 1";
        let named = |lines: &[Value]| -> Vec<String> {
            has(lines, "value").map(|value| value["register"].as_str().unwrap().to_owned()).collect()
        };
        for (registers, expected) in [
            (&["holding:5"][..], &["holding:4"][..]),
            (&["voltage"], &["input:0"]),
            // In the profile, and not among those that are polled.
            (&["current", "40003"], &["holding:2", "input:6"]),
            (&[], &["input:0", "input:70"]),
        ] {
            let before = slave.asked().len();
            let lines = told("", endpoint(&slave, keys), read(meter(), registers)).await;
            assert_eq!(named(&lines), expected, "{registers:?}: {lines:?}");
            assert_eq!(slave.asked().len() - before, expected.len(), "nothing else");
        }
        let lines = told("", endpoint(&slave, keys), read(meter(), &["nothing"])).await;
        assert!(lines[0]["wrong"].as_str().is_some_and(|why| why.contains("nothing")), "{lines:?}");
    });
}

#[test]
fn a_sunspec_endpoint_is_walked() {
    run(async {
        let mut words = MARKER.to_vec();
        words.extend([103, 50]);
        words.extend([0; 50]);
        words.extend([END, 0]);
        // Watts, and their scale factor.
        words[2 + 14] = 1_500;
        let device: BTreeMap<u16, u16> = (40_000..).zip(words).collect();
        let slave = Slave::start(move |ask: Ask| {
            let asked = ask.start..=ask.start + (ask.quantity - 1);
            let words: Option<Vec<u16>> = asked.map(|at| device.get(&at).copied()).collect();
            words.map_or(Reply::Exception(2), Reply::Words)
        })
        .await;
        let keys = "profile = 'sunspec'\nonly = ['inverter.Hz', 'inverter.W']";
        let lines = told("", endpoint(&slave, keys), read(meter(), &["inverter.W"])).await;
        assert_eq!(values(&lines), [json!(1500.0)], "{lines:?}");
        let lines = told("", endpoint(&slave, keys), read(meter(), &[])).await;
        assert_eq!(values(&lines).len(), 2, "{lines:?}");
        let lines = told("", endpoint(&slave, keys), read(meter(), &["inverter.W", "meter.W"])).await;
        assert_eq!(values(&lines), [json!(1500.0)], "{lines:?}");
        assert_eq!(has(&lines, "lacking").next(), Some(&json!("the device has no meter.W")));
        let lines = told("", endpoint(&slave, keys), read(meter(), &["meter.W"])).await;
        assert_eq!(has(&lines, "fault").next().unwrap()["code"], "TG-448", "{lines:?}");
    });
}
