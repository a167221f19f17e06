//! What a person sees: logins that are refused, a gateway without a platform, the tables of the
//! command line.

use crate::{
    arrivals::Recorder,
    gateway::{Config, Gateway, binary},
    peers::{Broker, Slave},
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, until},
};
use std::{fs, process::Command};

#[test]
fn a_wrong_password_is_named_and_the_right_one_delivers() {
    let site = Site::new();
    let broker = Broker::start_for_login(&site, "gateway-1", "SECRET-right");
    let port = free_port();
    let password = site.path("password");
    fs::write(&password, "SECRET-wrong\n").unwrap();
    let config = Config::plain(&site, broker.port()).login("gateway-1", &password).pushed(1, port);
    let mut gateway = Gateway::new(&site, &config, 5);
    gateway.start();
    Pusher::connect(port).push("p1", "1-3");
    let status =
        gateway.until_status("the refusal is told", |status| status["uplink"]["last_error"].is_string());
    let error = status["uplink"]["last_error"].as_str().unwrap();
    assert!(error.contains("the broker refused the connection"), "{error}");
    gateway.terminate();
    fs::write(&password, "SECRET-right\n").unwrap();
    gateway.start();
    gateway.until_drained();
    assert_eq!(gateway.ledger().landed, 3);
}

#[test]
fn without_a_platform_values_are_visible_and_an_old_queue_is_left_alone() {
    let site = Site::new();
    let slave = Slave::start(&site, 1, 10);
    let push = free_port();
    // Nobody listens there.
    let config = Config::plain(&site, free_port()).meters(1, slave.port()).pushed(1, push);
    let mut gateway = Gateway::new(&site, &config, 1);
    gateway.start();
    Pusher::connect(push).push("p1", "1-7");
    gateway.terminate();
    let queued = gateway.outbox_rows();
    assert!(queued >= 7);

    gateway.configure(&site, &config.no_uplink());
    let (said, good) = gateway.check();
    // The test adapter answers its devices.
    assert!(good && said.contains("told that their data is kept"), "{said}");
    gateway.start();
    let read = until("a value is read", PATIENCE, || {
        let answer = gateway.ask(&["read", "m1", "r2"])?;
        let fresh = answer["values"][0]["age_ms"].as_u64().is_some_and(|age| age < 2_000);
        fresh.then_some(answer)
    });
    assert_eq!(
        (&read["values"][0]["resource"], &read["values"][0]["quality"]),
        (&"r2".into(), &"good".into())
    );
    let status = gateway.until_status("it is counted", |s| s["ledger"]["suppressed"].as_u64() > Some(1));
    assert_eq!(status["uplink"]["state"], "none");
    assert!(status["reasons"]["suppressed(no_uplink)"].as_u64() > Some(1), "{status}");
    assert_eq!(gateway.outbox_rows(), queued, "the queue is not left alone");
    gateway.ledger();
    gateway.terminate();
}

#[test]
fn the_tables_for_people_say_what_is_wrong_and_where() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut recorder = Recorder::start(&site, broker.port());
    let slave = Slave::start(&site, 2, 10);
    let config = Config::plain(&site, broker.port()).meters(2, slave.port());
    let mut gateway = Gateway::new(&site, &config, 1);
    let (said, good) = gateway.say(&["status"]);
    assert!(!good && said.contains("no gateway answers on") && said.contains("is it running?"), "{said}");
    gateway.start();
    gateway.until_status("both meters are delivered", |s| s["ledger"]["landed"].as_u64() >= Some(4));
    let (said, good) = gateway.say(&["status"]);
    assert!(good && said.contains("up  localhost port") && said.contains("modbus.site"), "{said}");
    let (said, good) = gateway.say(&["queue"]);
    assert!(good && said.contains("dead letters 0"), "{said}");
    let (said, good) = gateway.say(&["queue", "--dead"]);
    assert!(good && said.contains("no dead letters"), "{said}");
    let (said, good) = gateway.say(&["read", "m2"]);
    assert!(good && said.contains("r9") && said.contains("s ago"), "{said}");
    let (said, good) = gateway.say(&["read", "m3"]);
    assert!(!good && said.contains("no endpoint \"m3\" in the configuration"), "{said}");
    assert!(gateway.terminate().success());
    assert!(!recorder.arrivals().first.is_empty());
}

#[test]
fn the_hours_of_autonomy_are_unknown_at_first_and_then_told() {
    let site = Site::new();
    let push = free_port();
    // Nobody listens there.
    let config = Config::plain(&site, free_port()).pushed(1, push);
    // A minute lasts a second: sooner there is no rate.
    let mut gateway = Gateway::new(&site, &config, 60);
    gateway.start();
    let mut pusher = Pusher::connect(push);
    let (said, good) = gateway.say(&["queue"]);
    assert!(good && said.contains("unknown: there is room for"), "{said}");
    assert!(gateway.status()["autonomy"]["hours"].is_null());
    pusher.push("p1", "1-1000");
    let autonomy = |gateway: &Gateway| {
        let autonomy = gateway.ask(&["queue"])?["autonomy"].clone();
        autonomy["hours"].is_f64().then_some(autonomy)
    };
    let told = until("there is a rate", PATIENCE, || autonomy(&gateway));
    let number = |key: &str| told[key].as_f64().unwrap();
    let bytes = number("hours") * 3_600.0 * number("bytes_per_s");
    assert!((bytes - number("room_bytes")).abs() < number("room_bytes") / 20.0, "{told}");
    assert_eq!((&told["then"], &told["over_a_year"]), (&"drop-oldest".into(), &false.into()));
    for command in ["queue", "status"] {
        let (said, good) = gateway.say(&[command]);
        assert!(
            good && said.contains("/s, if nothing goes up; then the oldest readings are dropped"),
            "{said}"
        );
    }
    gateway.terminate();

    gateway.configure(&site, &config.line("[store]\nmax_age = \"1h\""));
    gateway.start();
    Pusher::connect(push).push("p1", "1001-1010");
    let told = until("there is a rate", PATIENCE, || autonomy(&gateway));
    assert!(told["limit"] == "age" && (0.8..1.0).contains(&told["hours"].as_f64().unwrap()), "{told}");
    assert!(gateway.terminate().success());
}

#[test]
fn a_file_that_is_not_there_stands_for_no_other_gateway() {
    let site = Site::new();
    let nowhere = site.path("nowhere.toml");
    for command in [
        &["queue", "discard", "--all", "--yes"][..],
        &["queue", "requeue", "--all"],
        &["endpoint", "disable", "p1"],
        &["log", "debug"],
        &["reload"],
        &["status"],
        &["tail"],
    ] {
        let output = Command::new(binary()).args(command).arg("-c").arg(&nowhere).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains("nowhere.toml: No such file"),
            "{command:?}: {said}"
        );
    }
}
