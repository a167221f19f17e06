//! Limits: an endpoint that floods is refused and costs no other, and with `when_full = "refuse"` a full
//! store leaves its devices in peace.

use crate::{
    arrivals::Recorder,
    gateway::{Config, Gateway},
    peers::{Broker, Slave},
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, let_pass, until},
};
use std::time::Duration;

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
        let (said, _) = gateway.say(&["status"]);
        assert!(said.contains("FAULT TG-221") && said.contains("endpoint p1: samples_per_s = 2"), "{said}");
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
    assert_eq!(gateway.says("an endpoint is over its quota"), 2, "once in each life");
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
    let health = |status: &serde_json::Value, word: &str| {
        let units = status["units"].as_array().unwrap();
        units.iter().any(|unit| unit["name"] == "modbus.site" && unit.to_string().contains(word))
    };
    let suspended = "polling suspended: the store is full";
    let status = gateway.until_status("polling is suspended", |status| health(status, suspended));
    assert!(status["store_full"]["code"] == "TG-222" && !health(&status, "offline"), "{status}");
    let (said, _) = gateway.say(&["status"]);
    assert!(said.contains("FAULT TG-222") && said.contains("store.max_bytes"), "{said}");
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
    assert_eq!(gateway.says("polling is suspended"), 1);
    assert!(gateway.terminate().success());
}
