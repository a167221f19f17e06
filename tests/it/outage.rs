//! Outages and refusals: the broker away, the broker mute, one endpoint or all of them refused, and
//! one sample the platform cannot digest.

use crate::{
    arrivals::Platform,
    gateway::{CLIENT_ID, Config, Gateway},
    peers::{Broker, MuteBroker},
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, until},
};
use serde_json::{Value, json};

#[test]
fn a_hundred_thousand_samples_of_an_outage_arrive_in_order() {
    const ENDPOINTS: u64 = 10;
    const EACH: u64 = 10_000;
    const BATCH: u64 = 500;
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).pushed(ENDPOINTS, port);
    let mut gateway = Gateway::new(&site, &config, 5);
    gateway.start();
    gateway.until_up();
    broker.stop();
    let mut pusher = Pusher::connect(port);
    for first in (1..=EACH).step_by(usize::try_from(BATCH).unwrap()) {
        for endpoint in 1..=ENDPOINTS {
            pusher.push(&format!("p{endpoint}"), &format!("{first}-{}", first + BATCH - 1));
        }
    }
    let all = ENDPOINTS * EACH;
    assert_eq!(gateway.outbox_rows(), all);
    gateway.until_status("it knows that the broker is away", |s| s["uplink"]["state"] == "connecting");

    broker.start_again();
    until("all samples have arrived", PATIENCE * 3, || {
        gateway.assert_alive();
        (platform.accepted() as u64 >= all).then_some(())
    });
    gateway.until_drained();
    let arrivals = platform.arrivals();
    for endpoint in 1..=ENDPOINTS {
        arrivals.assert_exactly(&format!("TP{endpoint}"), 1..=EACH);
    }
    let ledger = gateway.ledger();
    assert_eq!((ledger.stored, ledger.landed, ledger.dropped, ledger.dead), (all, all, 0, 0), "{ledger:?}");
    println!("FIGURE outage: {all} samples, {} resent", arrivals.resent);
    assert!(gateway.terminate().success());
}

#[test]
fn a_broker_that_never_confirms_is_left_and_nothing_is_deleted() {
    let site = Site::new();
    let mut broker = MuteBroker::start(&site);
    let port = free_port();
    // 2 s each, as the time is scaled.
    let config = Config::kaa(&site, broker.port()).set("confirm_timeout", "10s").pushed(2, port);
    let mut gateway = Gateway::new(&site, &config, 5);
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(port);
    pusher.push("p1", "1-50");
    pusher.push("p2", "1-50");
    until("it has tried three connections", PATIENCE, || {
        gateway.assert_alive();
        (broker.connections_with_publishes() >= 3).then_some(())
    });
    // The deletes of confirmed rows ride with the next commit at the latest: this is one.
    pusher.push("p1", "51");
    assert_eq!(gateway.outbox_rows(), 101);
    let status = gateway.status();
    assert!(status["uplink"]["connections"].as_u64() >= Some(3), "{status}");
    let ledger = gateway.ledger();
    assert_eq!((ledger.stored, ledger.landed, ledger.queued, ledger.dead), (101, 0, 101, 0), "{ledger:?}");
}

#[test]
fn an_endpoint_without_answers_is_parked_and_the_other_99_go_on() {
    const ENDPOINTS: u64 = 100;
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    platform.rules(&json!({"silent_tokens": ["TP42"]}));
    let port = free_port();
    let config = Config::kaa(&site, broker.port())
        .set("retry_min", "1s")
        .set("retry_max", "5s")
        .set("probe_min", "20s")
        .set("probe_max", "40s")
        .pushed(ENDPOINTS, port);
    let mut gateway = Gateway::new(&site, &config, 10);
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(port);
    let mut number = 0;
    let mut status = Value::Null;
    until("the endpoint without answers is parked", PATIENCE, || {
        gateway.assert_alive();
        number += 1;
        for endpoint in 1..=ENDPOINTS {
            pusher.push(&format!("p{endpoint}"), &number.to_string());
        }
        status = gateway.status();
        parked(&status).contains(&"p42").then_some(())
    });
    assert_eq!(parked(&status), ["p42"]);
    // While others are answered. When they have nothing left to say, nobody is, and the session may be renewed.
    assert_eq!(status["uplink"]["connections"], 1, "{status}");
    assert_eq!(broker.connects(CLIENT_ID), 1);
    for endpoint in 1..=ENDPOINTS {
        pusher.push(&format!("p{endpoint}"), &(number + 1).to_string());
    }
    number += 1;
    let others = usize::try_from((ENDPOINTS - 1) * number).unwrap();
    until("all samples of the other 99 have arrived", PATIENCE, || {
        gateway.assert_alive();
        (platform.accepted() >= others).then_some(())
    });
    until("they are deleted", PATIENCE, || (gateway.outbox_rows() == number).then_some(()));
    assert_eq!(gateway.outbox_rows_of("p42"), number, "the data of the parked endpoint is kept");
    assert!(platform.seen("TP42") > 0);
    let arrivals = platform.arrivals();
    for endpoint in (1..=ENDPOINTS).filter(|n| *n != 42) {
        arrivals.assert_exactly(&format!("TP{endpoint}"), 1..=number);
    }

    platform.rules(&json!({}));
    gateway.until_drained();
    platform.arrivals().assert_exactly("TP42", 1..=number);
    assert!(gateway.terminate().success());
}

#[test]
fn a_platform_that_refuses_everything_buries_nothing() {
    const ENDPOINTS: u64 = 20;
    const EACH: u64 = 10;
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    platform.rules(&json!({"refuse_all": 404}));
    let port = free_port();
    let config = Config::kaa(&site, broker.port())
        .set("probe_min", "20s")
        .set("probe_max", "40s")
        .pushed(ENDPOINTS, port);
    let mut gateway = Gateway::new(&site, &config, 10);
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(port);
    for endpoint in 1..=ENDPOINTS {
        pusher.push(&format!("p{endpoint}"), &format!("1-{EACH}"));
    }
    let status = gateway.until_status("it is degraded, with every endpoint parked", |status| {
        status["uplink"]["state"] == "degraded" && parked(status).len() as u64 == ENDPOINTS
    });
    assert!(status.to_string().contains("404"), "the platform's code is shown: {status}");
    assert_eq!(gateway.outbox_rows(), ENDPOINTS * EACH);
    assert!(gateway.dead().is_empty());

    platform.rules(&json!({}));
    gateway.until_drained();
    let arrivals = platform.arrivals();
    for endpoint in 1..=ENDPOINTS {
        arrivals.assert_exactly(&format!("TP{endpoint}"), 1..=EACH);
    }
    gateway
        .until_status("nothing is parked any more", |s| s["uplink"]["state"] == "up" && parked(s).is_empty());
    let ledger = gateway.ledger();
    assert_eq!((ledger.landed, ledger.dead), (ENDPOINTS * EACH, 0), "{ledger:?}");
    assert!(gateway.terminate().success());
}

#[test]
fn a_poison_sample_is_buried_alone() {
    const POISON: u64 = 50;
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    platform.rules(&json!({"poison_key": "poison"}));
    broker.stop();
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).pushed(2, port);
    let mut gateway = Gateway::new(&site, &config, 10);
    gateway.start();
    let mut pusher = Pusher::connect(port);
    pusher.push("p1", &format!("1-{}", POISON - 1));
    pusher.poison("p1", POISON);
    pusher.push("p1", &format!("{}-100", POISON + 1));
    pusher.push("p2", "1-100");
    assert_eq!(gateway.outbox_rows(), 200);

    broker.start_again();
    gateway.until_drained();
    let arrivals = platform.arrivals();
    arrivals.assert_exactly("TP1", (1..=100).filter(|n| *n != POISON));
    arrivals.assert_exactly("TP2", 1..=100);
    let dead = gateway.dead();
    assert_eq!(dead.len(), 1, "{dead:?}");
    let reason = dead[0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("the platform cannot digest this"), "{dead:?}");
    assert_eq!((&dead[0]["endpoint"], &dead[0]["sample"]["n"]), (&json!("p1"), &json!(POISON)), "{dead:?}");
    let ledger = gateway.ledger();
    assert_eq!((ledger.stored, ledger.landed, ledger.dead), (200, 199, 1), "{ledger:?}");
    assert!(gateway.terminate().success());
}

/// The parked endpoints, sorted.
fn parked(status: &Value) -> Vec<&str> {
    let parked = status["uplink"]["parked"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<_> = parked.iter().filter_map(|p| p["endpoint"].as_str()).collect();
    names.sort_unstable();
    names
}
