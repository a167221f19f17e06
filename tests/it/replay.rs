//! After an outage: live samples before the backlog, through a slow link, also where the daemon is killed
//! in the middle; and what the operator allows in a day.

use crate::{
    arrivals::{Arrivals, Platform},
    gateway::{Config, Gateway},
    pacer,
    peers::Broker,
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, let_pass, until},
};
use serde_json::Value;
use std::{ops::RangeInclusive, time::Duration};

/// 10,000 bytes per second, a tenth of a second away.
const LINE: pacer::Line =
    pacer::Line { bytes_per_s: 10_000, delay: Duration::from_millis(50), loss: 0.0, segment: 500 };
const ENDPOINTS: u64 = 3;
/// Taken in the outage, of each endpoint.
const BACKLOG: RangeInclusive<u64> = 1..=1_500;
/// Live samples have numbers from here.
const LIVE: u64 = 1_000_000;

/// A gateway behind a slow link, and what it took while the broker was away.
struct AfterOutage {
    site: Site,
    broker: Broker,
    platform: Platform,
    gateway: Gateway,
    pusher: Pusher,
    port: u16,
    /// Live samples pushed to each endpoint.
    live: u64,
}

impl AfterOutage {
    fn begin() -> Self {
        let site = Site::new();
        let mut broker = Broker::start(&site, true);
        let platform = Platform::start(&site, broker.port());
        let (port, slow) = (free_port(), pacer::start(broker.port(), LINE));
        let config = Config::kaa(&site, broker.port())
            .at(&[&format!("mqtts://localhost:{slow}")])
            .pushed(ENDPOINTS, port)
            .line("[uplink.replay]\norder = \"live-first\"\nlive_age = \"2s\"");
        let mut gateway = Gateway::new(&site, &config, 1);
        gateway.start();
        gateway.until_up();
        broker.stop();
        gateway.until_status("it knows that the broker is away", |s| s["uplink"]["state"] == "connecting");
        let mut pusher = Pusher::connect(port);
        for first in BACKLOG.step_by(100) {
            for endpoint in 1..=ENDPOINTS {
                pusher.push(&format!("p{endpoint}"), &format!("{first}-{}", first + 99));
            }
        }
        broker.start_again();
        gateway.until_up();
        let test = Self { site, broker, platform, gateway, pusher, port, live: 0 };
        // What is taken before that is of the outage as well.
        until("the lanes have fallen behind", PATIENCE, || {
            let classes = test.classes();
            (classes.iter().filter(|class| **class == "backlog").count() as u64 == ENDPOINTS).then_some(())
        });
        test
    }

    /// A live sample of each endpoint.
    fn push_live(&mut self) {
        for endpoint in 1..=ENDPOINTS {
            self.pusher.push(&format!("p{endpoint}"), &(LIVE + self.live).to_string());
        }
        self.live += 1;
    }

    /// Goes on pushing, live, until so many samples have arrived.
    fn push_until(&mut self, arrived: u64) {
        until("samples have arrived", PATIENCE * 2, || {
            self.gateway.assert_alive();
            self.push_live();
            // Devices, not a flood: live samples need a tenth of the link.
            let_pass(Duration::from_millis(100));
            (self.platform.accepted() as u64 >= arrived).then_some(())
        });
    }

    fn classes(&self) -> Vec<Value> {
        let queue = self.gateway.ask(&["queue"]).expect("it answers");
        queue["lanes"].as_array().unwrap().iter().map(|lane| lane["class"].clone()).collect()
    }

    /// All of it has arrived and the ledger says so. Numbers of an endpoint in the order of arrival.
    fn end(mut self) -> Vec<Vec<u64>> {
        let each = BACKLOG.end() + self.live;
        until("all samples have arrived", PATIENCE * 3, || {
            self.gateway.assert_alive();
            (self.platform.accepted() as u64 >= ENDPOINTS * each).then_some(())
        });
        self.gateway.until_drained();
        // Live lanes may have fallen behind in their turn, and be gone as well.
        assert!(self.gateway.lanes() <= ENDPOINTS, "drained backlog lanes are gone");
        let arrivals = self.platform.arrivals();
        let ledger = self.gateway.ledger();
        let sums = (ledger.stored, ledger.landed, ledger.dropped, ledger.dead);
        assert_eq!(sums, (ENDPOINTS * each, ENDPOINTS * each, 0, 0), "{ledger:?}");
        assert!(self.gateway.terminate().success());
        drop((self.broker, self.site));
        (1..=ENDPOINTS).map(|n| numbers(&arrivals, n, self.live)).collect()
    }
}

/// What arrived of an endpoint: complete, and the backlog in order.
fn numbers(arrivals: &Arrivals, endpoint: u64, live: u64) -> Vec<u64> {
    let numbers = arrivals.numbers().remove(format!("TP{endpoint}").as_str()).unwrap_or_default();
    let backlog: Vec<u64> = numbers.iter().copied().filter(|n| *n < LIVE).collect();
    assert_eq!(backlog, BACKLOG.collect::<Vec<_>>(), "p{endpoint}: the backlog");
    let mut young: Vec<u64> = numbers.iter().copied().filter(|n| *n >= LIVE).collect();
    young.sort_unstable();
    assert_eq!(young, (LIVE..LIVE + live).collect::<Vec<_>>(), "p{endpoint}: live samples");
    numbers
}

#[test]
fn live_samples_do_not_wait_for_the_backlog() {
    let mut test = AfterOutage::begin();
    let before = test.platform.accepted() as u64;
    let backlog = ENDPOINTS * BACKLOG.end();
    test.push_until(before + backlog / 2);
    let classes = test.classes();
    assert!(classes.contains(&"backlog".into()) && classes.contains(&"telemetry".into()), "{classes:?}");
    let (text, good) = test.gateway.say(&["queue"]);
    assert!(good && text.contains("backlog"), "{text}");
    let live = usize::try_from(test.live).unwrap();
    for numbers in test.end() {
        let first = numbers.iter().position(|n| *n >= LIVE).unwrap();
        let last = numbers.iter().rposition(|n| *n < LIVE).unwrap();
        let before = numbers[..last].iter().filter(|n| **n >= LIVE).count();
        println!(
            "FIGURE replay: first live sample after {first} of the backlog, {before} of {live} before its end"
        );
        assert!(first < numbers.len() / 3, "a live sample waited for {first} of {}", numbers.len());
        assert!(before * 10 > live * 9, "{before} of {live} live samples passed the backlog");
    }
}

#[test]
fn a_kill_in_the_middle_of_the_replay_loses_nothing() {
    let mut test = AfterOutage::begin();
    let backlog = ENDPOINTS * BACKLOG.end();
    for part in 1..=3 {
        let arrived = (part * backlog / 4).max(test.platform.accepted() as u64);
        test.push_until(arrived);
        test.gateway.kill();
        assert!(test.gateway.lanes() > ENDPOINTS, "backlog lanes are on disk");
        test.gateway.start();
        test.pusher = Pusher::connect(test.port);
    }
    test.gateway.until_up();
    test.push_live();
    test.end();
}

#[test]
fn what_a_day_allows_is_sent_and_the_rest_is_kept_over_a_restart() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config =
        Config::kaa(&site, broker.port()).pushed(1, port).line("[uplink.limits]\ndaily_bytes = 65536");
    let mut gateway = Gateway::new(&site, &config, 1);
    gateway.start();
    gateway.until_up();
    Pusher::connect(port).push("p1", "1-5000");
    let used_up = |status: &Value| {
        let said = status["uplink"]["budget"]["used_up"].as_str();
        said.is_some_and(|said| said.starts_with("daily budget used up, goes on at 20"))
    };
    let status = gateway.until_status("the day's budget is used up", used_up);
    let used = status["uplink"]["budget"]["used"].as_u64().unwrap();
    assert!((65_536..80_000).contains(&used), "a publish over it at most: {used}");
    assert_eq!(status["uplink"]["state"], "up");
    for command in ["status", "queue"] {
        let (text, good) = gateway.say(&[command]);
        assert!(good && text.contains("daily budget used up, goes on at 20"), "{text}");
    }
    let left = until("what was sent is confirmed", PATIENCE, || {
        let ledger = gateway.ledger();
        (ledger.landed > 0 && ledger.landed == platform.accepted() as u64).then_some(ledger.queued)
    });
    assert!((1..5_000).contains(&left), "{left} of 5000 are kept");
    gateway.kill();
    gateway.start();
    gateway.until_status("and so it is in the next life", used_up);
    gateway.until_up();
    assert_eq!(gateway.ledger().queued, left);
    assert_eq!(gateway.outbox_rows(), left);
    assert!(gateway.terminate().success());
}
