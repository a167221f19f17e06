//! Answers that are none: an old process's `/status` delivered by a persistent session, another
//! endpoint's, and one to a request that never was. Nothing is deleted by any of them.

use crate::{
    arrivals::Platform,
    gateway::{Config, Gateway},
    peers::Broker,
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, until},
};
use serde_json::{Value, json};

#[test]
fn an_answer_to_an_earlier_process_deletes_nothing() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    platform.rules(&json!({"confirm": false}));
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).pushed(1, port);
    let mut gateway = Gateway::new(&site, &config, 5);
    gateway.start();
    gateway.until_up();
    Pusher::connect(port).push("p1", "1-20");
    until("the first process's request is at the platform", PATIENCE, || {
        (platform.seen("TP1") > 0).then_some(())
    });
    gateway.kill();
    // The broker keeps these for the session of this client id.
    let old = platform.request_ids("TP1");
    let publish_old = |platform: &mut Platform| {
        for id in &old {
            platform.publish(&format!("kp1/demo-v1/dcx/TP1/json/{id}/status"), "");
        }
    };
    publish_old(&mut platform);

    gateway.start();
    let expected = u64::try_from(old.len()).unwrap();
    gateway.until_status("the old answer has come", |status| stale_replies(status) >= expected);
    until("the second process's request is at the platform", PATIENCE, || {
        (platform.request_ids("TP1").len() > old.len()).then_some(())
    });
    let new = &platform.request_ids("TP1")[old.len()..];
    assert!(new.iter().all(|id| !old.contains(id)), "request ids {old:?} were used again: {new:?}");
    // Once more, now that a request of the same endpoint is in the air.
    publish_old(&mut platform);
    gateway.until_status("the old answer has come again", |status| stale_replies(status) >= 2 * expected);
    Pusher::connect(port).push("p1", "21");
    assert_eq!(gateway.outbox_rows(), 21, "an old answer has deleted something");

    arrive_once_confirmed(&mut gateway, &mut platform, &[("TP1", 21)]);
}

#[test]
fn an_answer_under_another_token_deletes_nothing() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    platform.rules(&json!({"silent_tokens": ["TP2"], "answer_as": {"TP1": "TP2"}}));
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).pushed(2, port);
    let mut gateway = Gateway::new(&site, &config, 5);
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(port);
    pusher.push("p2", "1-20");
    pusher.push("p1", "1-20");
    gateway.until_status("the other endpoint's answer has come", |status| stale_replies(status) >= 1);
    pusher.push("p1", "21");
    pusher.push("p2", "21");
    assert_eq!((gateway.outbox_rows_of("p1"), gateway.outbox_rows_of("p2")), (21, 21));

    arrive_once_confirmed(&mut gateway, &mut platform, &[("TP2", 21)]);
    // The platform did accept the samples of p1, under a wrong name; they come again.
    platform.arrivals().assert_exactly("TP1", 1..=21);
}

#[test]
fn an_answer_to_no_request_deletes_nothing() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    platform.rules(&json!({"confirm": false}));
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).pushed(1, port);
    let mut gateway = Gateway::new(&site, &config, 5);
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(port);
    pusher.push("p1", "1-20");
    until("its request is at the platform", PATIENCE, || platform.request_ids("TP1").first().copied());
    // 2^31-1 is the last id of the reserved counter; a fresh store does not begin there.
    platform.publish("kp1/demo-v1/dcx/TP1/json/2147483647/status", "");
    platform
        .publish("kp1/demo-v1/dcx/TP1/json/2147483647/error", r#"{"statusCode":400,"reasonPhrase":"no"}"#);
    platform.publish("kp1/demo-v1/dcx/TP1/json/2147483647/error", "not even JSON");
    gateway.until_status("these answers have come", |status| stale_replies(status) >= 2);
    pusher.push("p1", "21");
    assert_eq!(gateway.outbox_rows(), 21);
    assert!(gateway.dead().is_empty());

    arrive_once_confirmed(&mut gateway, &mut platform, &[("TP1", 21)]);
}

/// Once the platform answers as it should, all numbers from 1 arrive, and the daemon stops in order.
fn arrive_once_confirmed(gateway: &mut Gateway, platform: &mut Platform, expected: &[(&str, u64)]) {
    platform.rules(&json!({}));
    gateway.until_drained();
    for (token, count) in expected {
        platform.arrivals().assert_exactly(token, 1..=*count);
    }
    let ledger = gateway.ledger();
    assert_eq!((ledger.landed, ledger.dead, ledger.dropped), (ledger.stored, 0, 0), "{ledger:?}");
    assert!(gateway.terminate().success());
}

fn stale_replies(status: &Value) -> u64 {
    status["uplink"]["stale_replies"].as_u64().unwrap_or_default()
}
