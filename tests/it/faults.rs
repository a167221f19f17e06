//! Faults besides those of the link: what is said at a start that cannot be, about a configuration
//! that is not taken, and by a platform that refuses.

use crate::{
    agreed::{assert_agreed, paragraphs},
    arrivals::Platform,
    gateway::{Config, Gateway},
    peers::Broker,
    pusher::Pusher,
    site::{Site, free_port},
};
use rusqlite::Connection;
use serde_json::json;
use std::fs;

#[test]
fn a_start_that_cannot_be_says_why() {
    let site = Site::new();
    let state = site.path("state");
    let config = Config::plain(&site, 1).pushed(1, free_port());
    let mut gateway = Gateway::new(&site, &config, 10);
    let database = state.join("tidegate.db");
    let sql = |text: &str| Connection::open(&database).unwrap().execute_batch(text).unwrap();

    sql("CREATE TABLE theirs(x)");
    gateway.start();
    assert_agreed("database of another program", &gateway.last_words());
    // "TDGT": ours.
    sql("PRAGMA application_id = 1413760852; PRAGMA user_version = 9000");
    gateway.start();
    assert_agreed("database newer", &gateway.last_words());
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "a file").unwrap();
    gateway.start();
    assert_agreed("state directory is a file", &gateway.last_words());
    fs::remove_file(&state).unwrap();

    let mut first = Gateway::new(&site, &config, 10);
    first.start();
    first.status();
    gateway.start();
    assert_agreed("another gateway runs", &gateway.last_words());
}

#[test]
fn a_configuration_that_is_not_taken_says_why() {
    let site = Site::new();
    let none = site.path("none");
    for (name, config) in [
        ("unknown key", Config::plain(&site, 1).line("formt = \"json\"").pushed(1, 1)),
        (
            "duplicate token",
            Config::plain(&site, 1).pushed(1, 1).line("[endpoints.q]\ntoken = \"TP1\"\n[endpoints.q.test]"),
        ),
        ("credential file missing", Config::plain(&site, 1).login("gateway-1", &none).pushed(1, 1)),
    ] {
        let gateway = Gateway::new(&site, &config, 10);
        let (said, good) = gateway.check();
        assert!(!good, "{said}");
        assert_agreed(name, &said);
    }
}

#[test]
fn a_platform_that_refuses_is_understood() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).set("probe_min", "20s").set("probe_max", "40s");
    let mut gateway = Gateway::new(&site, &config.pushed(3, port), 10);
    gateway.start();
    let mut pusher = Pusher::connect(port);
    gateway.until_up();
    for endpoint in ["p1", "p2", "p3"] {
        pusher.push(endpoint, "1");
    }
    gateway.until_drained();
    platform.rules(&json!({"refuse_tokens": {"TP1": 401}}));
    for endpoint in ["p1", "p2", "p3"] {
        pusher.push(endpoint, "2");
    }
    assert_agreed("token revoked", &gateway.until_fault("TG-154"));
    platform.rules(&json!({"refuse_all": 404}));
    for endpoint in ["p1", "p2", "p3"] {
        pusher.push(endpoint, "3");
    }
    assert_agreed("wrong application version", &gateway.until_fault("TG-151"));
    platform.rules(&json!({}));
    gateway.until_drained();
    gateway.until_status("all is well", |s| s["uplink"]["state"] == "up" && s["uplink"]["fault"].is_null());
}

#[test]
fn there_are_enough_agreements() {
    assert!(paragraphs().len() >= 15, "tests/data/faults.txt has lost some");
}
