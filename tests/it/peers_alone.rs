//! The peers by themselves, without the daemon: a test that passes because its peer does nothing
//! proves nothing.

use crate::{
    arrivals::{Platform, Recorder},
    cutter::Cutter,
    peers::{Broker, MuteBroker, Slave, end, files},
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
    let device = site.identity("device");
    let ask = |token: &str, id: u32, body: &str| {
        let topic = format!("kp1/demo-v1/dcx/{token}/json/{id}");
        request(broker.port(), &device, &topic, body)
    };
    let one = r#"[{"timestamp":1566987697005,"n":1}]"#;
    assert_eq!(ask("T1", 1, one).as_deref(), Some("kp1/demo-v1/dcx/T1/json/1/status "));
    assert_eq!(ask("T1", 2, one).as_deref(), Some("kp1/demo-v1/dcx/T1/json/2/status "));

    platform.rules(&json!({"refuse_all": 404}));
    let refused =
        "kp1/demo-v1/dcx/T2/json/3/error {\"statusCode\": 404, \"reasonPhrase\": \"no such endpoint\"}";
    assert_eq!(ask("T2", 3, one).as_deref(), Some(refused));

    platform.rules(&json!({"poison_key": "poison", "silent_tokens": ["T3"]}));
    let poison = r#"[{"timestamp":1,"n":2},{"timestamp":1,"n":3,"poison":true}]"#;
    assert!(ask("T2", 4, poison).unwrap().contains("\"statusCode\": 400"));
    assert!(ask("T2", 5, r#"[{"timestamp":1,"n":2}]"#).unwrap().ends_with("/5/status "));
    assert_eq!(ask("T3", 6, one), None);

    platform.rules(&json!({"answer_as": {"T1": "T2"}}));
    assert_eq!(ask("T1", 7, one), None);

    let arrivals = platform.arrivals();
    arrivals.assert_exactly("T1", 1..=1);
    arrivals.assert_exactly("T2", 2..=2);
    assert_eq!((arrivals.first.len(), arrivals.resent), (2, 2));
    assert_eq!(platform.request_ids("T1"), [1, 2, 7]);
    assert_eq!((platform.seen("T3"), platform.accepted()), (1, 2));
}

#[test]
#[should_panic(expected = "a request id used twice")]
fn the_platform_finds_what_the_protocol_forbids() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let device = site.identity("device");
    for n in 1..=2 {
        let body = format!(r#"[{{"timestamp":1,"n":{n}}}]"#);
        request(broker.port(), &device, "kp1/demo-v1/dcx/T1/json/1", &body);
    }
    platform.arrivals();
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

/// Publishes a request and waits for its answer, as `TOPIC PAYLOAD`; `None` after some seconds.
fn request(port: u16, device: &Identity, topic: &str, body: &str) -> Option<String> {
    // `mosquitto_rr` subscribes before it publishes, but to one topic only; a filter will do.
    let mut command = mosquitto("mosquitto_rr", port, device);
    command.args(["-t", topic, "-e", &format!("{topic}/+"), "-m", body, "-v", "-W", "3", "-V", "311"]);
    let output = command.output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    let answer = answer.strip_suffix('\n').unwrap_or(&answer);
    (!answer.is_empty()).then(|| answer.replace("(null)", ""))
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
