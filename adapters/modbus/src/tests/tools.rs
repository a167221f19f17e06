//! Inquiries of tools to a running adapter.

use super::{Ask, Reply, Slave, config, device, devices, name, presence, run};
use crate::{
    Modbus,
    tools::{At, Form, Question, Read, Scan, Sweep, Trace},
};
use adapter_api::{Presence, clock::timeout, testkit::Rig};
use serde_json::{Value, json};
use std::time::Duration;

async fn told(rig: &Rig<Modbus>, question: Value) -> Vec<Value> {
    let mut lines = rig.desk.ask(question).await.expect("it answers inquiries");
    let mut told = Vec::new();
    while let Some(line) = lines.recv().await {
        told.push(line);
    }
    told
}

fn at(endpoint: &str) -> At {
    At { endpoint: Some(endpoint.to_owned()), ..At::default() }
}

async fn started() -> (Slave, Rig<Modbus>) {
    let has = |ask: Ask| ask.start + ask.quantity <= 100;
    let slave = Slave::start(move |ask| if has(ask) { Reply::Addresses } else { Reply::Exception(2) }).await;
    let rig = Rig::start(config(""), devices([("m", device(slave.address, 3, "10m", &[7]))]));
    rig.until("m answers", |board| presence(board, "m") == Some(Presence::Online)).await;
    (slave, rig)
}

#[test]
fn an_inquiry_is_answered_beside_the_polls() {
    run(async {
        let (slave, rig) = started().await;
        let wires = told(&rig, json!("wires")).await;
        assert_eq!(wires[0]["wires"][0]["wire"], slave.address.to_string());
        assert_eq!(wires[0]["wires"][0]["devices"], json!([{"endpoint": "m", "unit": 3}]));
        let registers = vec!["holding:99..101".to_owned(), "r00007".to_owned()];
        let read = Read { at: at("m"), registers, form: Form::default() };
        let lines = told(&rig, json!(Question::Read(read))).await;
        let values: Vec<&Value> = lines.iter().filter_map(|line| line.get("value")).collect();
        let said: Vec<_> = values.iter().map(|v| (v["register"].clone(), v["value"].clone())).collect();
        let none = Value::Null;
        let expected = [
            ("holding:7", json!(7)),
            ("holding:99", json!(99)),
            ("holding:100", none.clone()),
            ("holding:101", none),
        ];
        assert_eq!(said, expected.map(|(register, value)| (json!(register), value)));
        assert_eq!(values[2]["exception"], 2);
        let ranges = vec!["input:0..130".to_owned()];
        let lines = told(&rig, json!(Question::Sweep(Sweep { at: at("m"), ranges, base: None }))).await;
        assert_eq!(lines.last().unwrap()["done"]["read"], 100, "{lines:?}");
        rig.stop().await;
    });
}

#[test]
fn what_makes_no_sense_is_refused_in_words_and_harms_nothing() {
    run(async {
        let (slave, mut rig) = started().await;
        let before = slave.asked().len();
        let read = |registers: &[&str], form| {
            let registers = registers.iter().map(|&text| text.to_owned()).collect();
            json!(Question::Read(Read { at: at("m"), registers, form }))
        };
        let scan =
            |units, settings| json!(Question::Scan(Scan { at: at("m"), units, settings, first: false }));
        let setting = crate::tools::Setting { baud: 9_600, parity: "even".to_owned(), stop_bits: None };
        for question in [
            json!(null),
            json!("nothing"),
            json!({"read": 1}),
            json!({"read": {"at": {"unit": 256}, "registers": [], "form": {}}}),
            read(&["holding"], Form::default()),
            read(&["holding:65536"], Form::default()),
            read(&["holding:65535"], Form { kind: Some("f64".to_owned()), ..Form::default() }),
            read(&["holding:0..65535"], Form::default()),
            read(&["holding:0"], Form { length: Some(i64::MAX), ..Form::default() }),
            read(&["holding:0"], Form { base: Some(7), ..Form::default() }),
            json!(Question::Read(Read { at: at("nobody"), ..Read::default() })),
            json!(Question::Read(Read {
                at: At { wire: Some("elsewhere".to_owned()), ..At::default() },
                ..Read::default()
            })),
            json!(Question::Sweep(Sweep { at: at("m"), ranges: vec!["input:9..1".to_owned()], base: None })),
            json!(Question::Sweep(Sweep {
                at: at("m"),
                ranges: vec!["input:0..65535".to_owned(); 3],
                base: None
            })),
            scan((0, 5), Vec::new()),
            scan((5, 1), Vec::new()),
            scan((1, 255), Vec::new()),
            scan((1, 5), vec![setting]),
            json!(Question::Trace(Trace { at: at("nobody"), length: None })),
        ] {
            let lines = told(&rig, question.clone()).await;
            let wrong = lines.first().and_then(|line| line["wrong"].as_str());
            assert!(lines.len() == 1 && wrong.is_some_and(|why| !why.is_empty()), "{question}: {lines:?}");
        }
        assert_eq!(slave.asked().len(), before, "nothing of it reached the wire");
        rig.assert_running();
        assert_eq!(presence(&rig.board, name("m").as_str()), Some(Presence::Online));
        rig.stop().await;
    });
}

#[test]
fn who_traces_keeps_no_tool_from_its_device() {
    run(async {
        let (_slave, rig) = started().await;
        let mut traces = Vec::new();
        for _ in 0..20 {
            let trace = Trace { at: at("m"), length: None };
            let mut lines = rig.desk.ask(json!(Question::Trace(trace))).await.unwrap();
            assert!(lines.recv().await.unwrap().get("tracing").is_some());
            traces.push(lines);
        }
        let asked = async {
            assert!(told(&rig, json!("wires")).await[0].get("wires").is_some());
            let read = Read { at: at("m"), registers: vec!["holding:1".to_owned()], form: Form::default() };
            assert_eq!(told(&rig, json!(Question::Read(read))).await[0]["value"]["value"], 1);
        };
        timeout(Duration::from_secs(20), asked).await.expect("they are answered");
        rig.stop().await;
    });
}
