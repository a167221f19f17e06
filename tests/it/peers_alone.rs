//! The peers by themselves, without the daemon: a test that passes because its peer does nothing
//! proves nothing.

use crate::{
    arrivals::{Platform, Recorder, subscriber},
    cutter::Cutter,
    peers::{Broker, JsonLines, MuteBroker, Python, Slave, end, files},
    site::{Identity, PATIENCE, Site, until},
};
use serde_json::json;
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::{Command, Output, Stdio},
    time::Duration,
};

#[test]
fn the_platform_judges_by_its_rules() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let mut device = Asking::start(&site, &broker);
    let one = r#"[{"timestamp":1566987697005,"n":1}]"#;
    assert_eq!(device.ask("T1", 1, one), "status ");
    assert_eq!(device.ask("T1", 2, one), "status ");

    platform.rules(&json!({"refuse_all": 404}));
    let refused = r#"error {"statusCode": 404, "reasonPhrase": "no such endpoint"}"#;
    assert_eq!(device.ask("T2", 3, one), refused);

    platform.rules(&json!({"poison_key": "poison", "silent_tokens": ["T3"], "answer_as": {"T1": "T4"}}));
    let poison = r#"[{"timestamp":1,"n":2},{"timestamp":1,"n":3,"poison":true}]"#;
    assert!(device.ask("T2", 4, poison).starts_with(r#"error {"statusCode": 400"#));
    device.send("T3", 5, one);
    device.send("T1", 6, one);
    assert_eq!(device.ask("T2", 7, r#"[{"timestamp":1,"n":2}]"#), "status ");
    assert_eq!((device.answer("T3", 5), device.answer("T1", 6)), (None, None));
    assert_eq!(device.answer("T4", 6).as_deref(), Some("status "));

    let arrivals = platform.arrivals();
    arrivals.assert_exactly("T1", 1..=1);
    arrivals.assert_exactly("T2", 2..=2);
    assert_eq!((arrivals.first.len(), arrivals.resent), (2, 2));
    assert_eq!(platform.request_ids("T1"), [1, 2, 6]);
    assert_eq!((platform.seen("T3"), platform.accepted()), (1, 2));
    platform.publish("kp1/demo-v1/dcx/T9/json/9/status", "");
    until("it published that", PATIENCE, || device.answer("T9", 9));
}

#[test]
fn the_platform_finds_what_the_protocol_forbids() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let mut device = Asking::start(&site, &broker);
    device.send("T1", 1, r#"[{"timestamp":1,"n":1}]"#);
    device.send("T1", 1, r#"[{"timestamp":1,"n":2}]"#);
    device.send("T1", 2, r#"[{"n":3}]"#);
    device.send("T1", 3, "{");
    device.ask("T1", 4, r#"[{"timestamp":1,"n":3}]"#);
    let violations = platform.violations();
    let expected = ["a request id used twice", "a sample without a timestamp in ms", "not JSON"];
    assert_eq!(violations.len(), expected.len(), "{violations:?}");
    for (violation, why) in violations.iter().zip(expected) {
        assert!(violation.contains(why), "{violation}");
    }
}

#[test]
fn a_stopped_broker_keeps_sessions_and_asks_for_certificates() {
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let mut recorder = Recorder::start(&site, broker.port());
    let device = site.identity("device");
    let publish = |n: u32| {
        let body = json!({"timestamp": 1, "n": n}).to_string();
        publish(broker.port(), &device, "site/e1/telemetry", &body)
    };
    assert!(publish(1).status.success());
    until("it is recorded", PATIENCE, || (!recorder.arrivals().first.is_empty()).then_some(()));
    drop(recorder);
    assert!(publish(2).status.success());
    broker.stop();
    let port = broker.port();
    assert!(!self::publish(port, &device, "site/e1/telemetry", "{}").status.success());
    broker.start_again();
    let mut recorder = Recorder::start(&site, port);
    until("the kept one is recorded", PATIENCE, || (recorder.arrivals().first.len() == 2).then_some(()));
    recorder.arrivals().assert_exactly("e1", 1..=2);
    assert_eq!(broker.connects("recorder"), 2);

    let stranger = Site::new().identity("stranger");
    let stranger = Identity { ca: device.ca.clone(), ..stranger };
    assert!(!self::publish(port, &stranger, "site/e1/telemetry", "{}").status.success());
}

#[test]
fn the_slave_writes_down_what_it_serves() {
    let site = Site::new();
    let mut slave = Slave::start(&site, 2, 10);
    let mut master = TcpStream::connect(("127.0.0.1", slave.port())).unwrap();
    master.set_read_timeout(Some(PATIENCE)).unwrap();
    let first = read_registers(&mut master, 1);
    assert_eq!((first.len(), &first[..2]), (10, &[0, 1][..]));
    read_registers(&mut master, 2);
    let second = read_registers(&mut master, 1);
    assert_eq!(&second[..2], &[0, 2]);
    slave.mode(2, "silent", 0);
    slave.mode(1, "slow", 100);
    master.write_all(&request_registers(2)).unwrap();
    let third = read_registers(&mut master, 1);
    let served = slave.served();
    assert_eq!(served.iter().map(|s| (s.unit, s.seq)).collect::<Vec<_>>(), [(1, 1), (2, 1), (1, 2), (1, 3)]);
    assert_eq!((&served[2].values, &served[3].values), (&second, &third));
    assert!(served.iter().all(|s| s.connection == 1 && s.address == 0));
    slave.stop();
    assert_eq!((master.read(&mut [0; 1]).unwrap(), slave.count()), (0, 4));
}

#[test]
fn the_cutter_cuts_and_holds() {
    let site = Site::new();
    let mut slave = Slave::start(&site, 1, 10);
    let cutter = Cutter::start(slave.port());
    let mut master = TcpStream::connect(("127.0.0.1", cutter.port())).unwrap();
    master.set_read_timeout(Some(PATIENCE)).unwrap();
    read_registers(&mut master, 1);
    cutter.hold(true);
    master.write_all(&request_registers(1)).unwrap();
    master.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let held = master.read(&mut [0; 1]).unwrap_err().kind();
    assert!(matches!(held, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{held:?}");
    cutter.hold(false);
    master.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(master.read(&mut [0; 999]).unwrap(), 29);
    cutter.cut();
    assert_eq!((master.read(&mut [0; 1]).unwrap(), cutter.cuts(), slave.count()), (0, 1, 2));
}

#[test]
fn the_mute_broker_takes_and_never_confirms() {
    let site = Site::new();
    let mut broker = MuteBroker::start(&site);
    let device = site.identity("device");
    let mut command = mosquitto("mosquitto_pub", broker.port(), &device);
    let mut child = command.args(["-t", "a/b", "-m", "x"]).stderr(Stdio::null()).spawn().unwrap();
    until("it was published", PATIENCE, || (broker.connections_with_publishes() == 1).then_some(()));
    assert!(child.try_wait().unwrap().is_none(), "it was confirmed");
    end(&mut child);
}

/// A device that speaks 1/KP by hand.
struct Asking {
    _python: Python,
    log: JsonLines,
    port: u16,
    identity: Identity,
}

impl Asking {
    fn start(site: &Site, broker: &Broker) -> Self {
        let log = site.path("asking.jsonl");
        let filter = ["--filter", "kp1/+/+/+/json/+/+"];
        let python = subscriber(site, "record.py", "asking", broker.port(), &log, &filter);
        let identity = site.identity("device");
        Self { _python: python, log: JsonLines::of(&log), port: broker.port(), identity }
    }

    fn send(&self, token: &str, id: u32, body: &str) {
        let topic = format!("kp1/demo-v1/dcx/{token}/json/{id}");
        assert!(publish(self.port, &self.identity, &topic, body).status.success());
    }

    /// `status PAYLOAD` or `error PAYLOAD`, if it has come.
    fn answer(&mut self, token: &str, id: u32) -> Option<String> {
        let topic = format!("kp1/demo-v1/dcx/{token}/json/{id}/");
        self.log.all().iter().find_map(|line| {
            let kind = line["topic"].as_str()?.strip_prefix(&topic)?;
            Some(format!("{kind} {}", line["payload"].as_str()?))
        })
    }

    fn ask(&mut self, token: &str, id: u32, body: &str) -> String {
        self.send(token, id, body);
        until("the platform answers", PATIENCE, || self.answer(token, id))
    }
}

fn publish(port: u16, device: &Identity, topic: &str, body: &str) -> Output {
    mosquitto("mosquitto_pub", port, device).args(["-t", topic, "-m", body]).output().unwrap()
}

fn mosquitto(program: &str, port: u16, device: &Identity) -> Command {
    let mut command = Command::new(program);
    let [ca, ca_file, rest @ ..] = files(device);
    command.args(["-h", "localhost", "-p", &port.to_string(), "-q", "1", "--cafile", ca_file]).args(rest);
    assert_eq!(ca, "--ca");
    command.stdin(Stdio::null());
    command
}

fn request_registers(unit: u8) -> [u8; 12] {
    [0, 7, 0, 0, 0, 6, unit, 3, 0, 0, 0, 10]
}

fn read_registers(master: &mut TcpStream, unit: u8) -> Vec<u64> {
    master.write_all(&request_registers(unit)).unwrap();
    let mut answer = [0; 29];
    master.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..9], [0, 7, 0, 0, 0, 23, unit, 3, 20]);
    answer[9..].chunks(2).map(|b| u64::from(b[0]) << 8 | u64::from(b[1])).collect()
}
