//! Limits: an endpoint that floods is refused and costs no other, and with `when_full = "refuse"` a full
//! store leaves its devices in peace.

use crate::{
    agreed::assert_agreed,
    arrivals::Recorder,
    gateway::{Config, Gateway},
    peers::{Broker, Slave},
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, let_pass, until},
};
use serde_json::Value;
use std::time::Duration;

/// A fault as `status` tells it.
fn fault(gateway: &Gateway, code: &str) -> String {
    let (said, good) = gateway.say(&["status"]);
    assert!(good, "{said}");
    let lines = said.lines().skip_while(|line| !line.starts_with(&format!("FAULT {code}")));
    lines.take(4).fold(String::new(), |fault, line| fault + line + "\n")
}

#[test]
fn a_flooder_is_refused_and_its_neighbour_is_untouched_also_over_a_kill() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut recorder = Recorder::start(&site, broker.port());
    let port = free_port();
    let config =
        Config::plain(&site, broker.port()).pushed(2, port).line("[endpoints.p1.quota]\nsamples_per_s = 2");
    let mut gateway = Gateway::new(&site, &config, 1);
    let (mut taken, mut refused) = (Vec::new(), 0);
    for life in 0..2 {
        gateway.start();
        let mut pusher = Pusher::connect(port);
        for n in life * 200 + 1..=life * 200 + 200 {
            if pusher.try_push("p1", &n.to_string()) {
                taken.push(n);
            } else {
                refused += 1;
            }
            pusher.push("p2", &n.to_string());
        }
        let status = gateway.status();
        let over = &status["quotas"][0];
        assert_eq!(
            (&over["endpoint"], &over["quota"], &over["over"]),
            (&"p1".into(), &"samples_per_s".into(), &true.into())
        );
        assert_agreed("endpoint over its quota", &fault(&gateway, "TG-221"));
        let (said, _) = gateway.say(&["queue"]);
        assert!(said.contains("p1") && said.contains("over its quota  samples_per_s = 2"), "{said}");
        if life == 0 {
            // What is refused is on the disk a moment later.
            until("the refusals are counted", PATIENCE, || (gateway.refused_rows() == refused).then_some(()));
            gateway.kill();
        }
    }
    gateway.until_drained();
    let ledger = gateway.ledger();
    println!("FIGURE quota: {} of 400 taken, {refused} refused; {ledger:?}", taken.len());
    assert_eq!((ledger.refused, ledger.stored), (refused, taken.len() as u64 + 400), "{ledger:?}");
    assert!(refused > 0 && taken.len() >= 40, "{} taken", taken.len());
    until("the subscriber has all of it", PATIENCE, || {
        (recorder.arrivals().first.len() as u64 >= ledger.landed).then_some(())
    });
    let arrivals = recorder.arrivals();
    arrivals.assert_exactly("p1", taken.into_iter());
    arrivals.assert_exactly("p2", 1..=400);
    assert_eq!(gateway.says("for ever unit=\"store\" code=\"TG-221\""), 2, "once in each life");
    assert!(gateway.terminate().success());
}

#[test]
fn nothing_is_read_while_a_store_that_refuses_is_full_and_reading_goes_on_when_there_is_room() {
    const BATCH: u64 = 500;
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let mut recorder = Recorder::start(&site, broker.port());
    let mut slave = Slave::start(&site, 2, 10);
    let port = free_port();
    let config = Config::plain(&site, broker.port())
        .meters(2, slave.port())
        .pushed(1, port)
        .line("[store]\nmax_bytes = 1048576\nmin_free = 0\nwhen_full = \"refuse\"");
    broker.stop();
    let mut gateway = Gateway::new(&site, &config, 5);
    gateway.start();
    until("the meters are read", PATIENCE, || (slave.count() > 4).then_some(()));
    let mut pusher = Pusher::connect(port);
    let (mut pushed, mut refused) = (0, 0);
    until("the store is full", PATIENCE, || {
        let taken = pusher.try_push("p1", &format!("{}-{}", pushed + 1, pushed + BATCH));
        if taken {
            pushed += BATCH;
        } else {
            refused += BATCH;
        }
        (refused > 0).then_some(())
    });
    let health = |status: &Value, word: &str| {
        let units = status["units"].as_array().unwrap();
        units.iter().any(|unit| unit["name"] == "modbus.site" && unit.to_string().contains(word))
    };
    let suspended = "polling is suspended: the store is full";
    let status = gateway.until_status("polling is suspended", |status| health(status, suspended));
    assert!(
        status["store_full"]["code"] == "TG-222" && !health(&status, "\"presence\":\"offline\""),
        "{status}"
    );
    assert_agreed("store full and refusing", &fault(&gateway, "TG-222"));
    let read = slave.count();
    // Fifteen periods.
    let_pass(Duration::from_secs(3));
    assert_eq!(slave.count(), read, "it is read though nothing can be kept");
    // What the slave was asked for was kept: nothing but what was pushed was refused.
    let ledger = gateway.ledger();
    assert_eq!((ledger.refused, ledger.dropped), (refused, 0), "{ledger:?}");
    assert_eq!(ledger.stored, pushed + read as u64, "{ledger:?}");

    broker.start_again();
    until("the meters are read again", PATIENCE, || (slave.count() > read + 6).then_some(()));
    gateway.until_status("it is well again", |s| health(s, "\"up\"") && s["store_full"].is_null());
    pusher.push("p1", &format!("{}-{}", pushed + 1, pushed + BATCH));
    slave.stop();
    gateway.until_drained();
    let ledger = gateway.ledger();
    println!("FIGURE refuse: {pushed} samples filled it, {read} reads before, {}; {ledger:?}", slave.count());
    assert_eq!((ledger.refused, ledger.dropped, ledger.dead), (refused, 0, 0), "{ledger:?}");
    assert_eq!(ledger.landed, pushed + BATCH + slave.count() as u64, "each read once: {ledger:?}");
    until("the subscriber has all of it", PATIENCE, || {
        (recorder.arrivals().first.len() as u64 >= ledger.landed).then_some(())
    });
    let arrivals = recorder.arrivals();
    arrivals.assert_in_order();
    arrivals.assert_exactly("p1", 1..=pushed + BATCH);
    assert_eq!(gateway.says("a person is needed unit=\"store\" code=\"TG-222\""), 1, "told once");
    assert_eq!(gateway.says("works again unit=\"store\" code=\"TG-222\""), 1, "and that it is over");
    assert!(gateway.terminate().success());
}

#[test]
fn an_endpoint_that_is_within_its_quota_again_is_told_so() {
    let site = Site::new();
    let port = free_port();
    // Nobody listens there.
    let config =
        Config::plain(&site, free_port()).pushed(1, port).line("[endpoints.p1.quota]\nsamples_per_s = 2");
    let mut gateway = Gateway::new(&site, &config, 60);
    gateway.start();
    let mut pusher = Pusher::connect(port);
    // More than an hour's worth: it is taken, and nothing more until it is paid off.
    pusher.push("p1", "1-10000");
    assert!(!pusher.try_push("p1", "10001"));
    let status = gateway.until_status("it is calm", |status| status["quotas"][0]["over"] == false);
    assert_eq!(
        (&status["quotas"][0]["refused"]["samples_per_s"], &status["quotas"][0]["fault"]),
        (&1.into(), &Value::Null)
    );
    until("the journal says so", PATIENCE, || {
        (gateway.says("works again unit=\"store\" code=\"TG-221\"") == 1).then_some(())
    });
    let (said, _) = gateway.say(&["queue"]);
    assert!(said.contains("was over its quota  samples_per_s = 2  1 refused"), "{said}");
    assert!(gateway.terminate().success());
}

#[test]
fn what_was_dropped_is_told_to_the_platform_again_and_again_and_after_a_kill() {
    const BATCH: u64 = 500;
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let mut recorder = Recorder::start(&site, broker.port());
    let port = free_port();
    let config = Config::plain(&site, broker.port())
        .own_endpoint("box")
        .pushed(2, port)
        .line("[endpoints.box]\ntoken = \"TBOX\"\n[store]\nmax_bytes = 1048576\nmin_free = 0");
    broker.stop();
    let mut gateway = Gateway::new(&site, &config, 60);
    gateway.start();
    let (mut pushed, mut dropped) = (0, 0);
    for outage in 1..=3 {
        let mut pusher = Pusher::connect(port);
        until("samples were dropped", PATIENCE, || {
            pusher.push("p1", &format!("{}-{}", pushed + 1, pushed + BATCH));
            pushed += BATCH;
            (gateway.ledger().dropped > dropped).then_some(())
        });
        if outage == 1 {
            // The first report may not be on disk yet: the next life makes it up.
            gateway.kill();
            gateway.start();
        }
        broker.start_again();
        gateway.until_drained();
        dropped = gateway.ledger().dropped;
        let told = until("the platform was told of all of it", PATIENCE, || {
            recorder
                .arrivals()
                .first
                .iter()
                .map(|arrival| arrival.sample.clone())
                .find(|sample| sample["dropped"] == dropped && sample["dropped.quota"] == dropped)
        });
        let range = ["first_ms", "last_ms"].map(|end| told[format!("dropped.quota.{end}")].as_u64().unwrap());
        assert!(range[0] <= range[1] && range[0] > 1_600_000_000_000, "{told}");
        println!("FIGURE losses: {dropped} of {pushed} dropped, told as {told}");
        broker.stop();
    }
    assert!(gateway.terminate().success());
}
