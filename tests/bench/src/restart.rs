//! How fast 10,000 endpoints are back after the broker was restarted.

use crate::{
    gateway::{Config, Gateway},
    load::{Load, Order},
    platform::Platform,
    site::{Broker, Site, free_port, until},
    table::Table,
};
use std::time::{Duration, Instant};

const ENDPOINTS: usize = 10_000;

pub fn run() {
    let mut table = Table::new("Broker restart");
    let site = Site::new();
    let mut broker = Broker::start(&site);
    let platform = Platform::start(&site, &broker);
    let port = free_port();
    let mut config = Config::new(&site, "kaa", broker.port);
    config.pushed("push", 1..=ENDPOINTS, port);
    let gateway = Gateway::start(&site, &config);
    gateway.until_up();
    let load = Load::paced(port, ENDPOINTS, Order::Random, "relaxed", 1_000);
    until("samples land", || (gateway.term("landed") > 2_000).then_some(()));
    broker.stop();
    until("the daemon notices", || (gateway.status()["uplink"]["state"] == "connecting").then_some(()));
    let before = gateway.status();
    let uplink = |status: &serde_json::Value, key: &str| status["uplink"][key].as_u64().expect("a figure");
    let (delivered, connections) = (uplink(&before, "delivered"), uplink(&before, "connections"));
    broker.start_again();
    let listens = Instant::now();
    let since = |what: &str, so: &dyn Fn(&serde_json::Value) -> bool| {
        until(what, || gateway.ask().filter(|status| so(status)).map(|_| listens.elapsed()))
    };
    let connected = since("it is connected again", &|status| uplink(status, "connections") > connections);
    let landed = since("something lands again", &|status| uplink(status, "delivered") > delivered);
    let subscribed = since("all are subscribed", &|status| {
        status["uplink"]["state"] == "up" && status["uplink"]["subscribing"] == false
    });
    load.stop();
    gateway.until_drained();
    gateway.stop();
    drop(platform);
    let seconds = |length: Duration| length.as_secs_f64();
    table.judge(
        "connected again to the first landing, 10,000 endpoints with a filter each",
        &format!(
            "{:.2} s ({:.2} s after the broker listened; the pause before connecting is drawn)",
            seconds(landed.saturating_sub(connected)),
            seconds(landed),
        ),
        "within 2 s",
        landed.saturating_sub(connected) <= Duration::from_secs(2),
    );
    table.judge(
        "connected again to all subscribed",
        &format!("{:.2} s", seconds(subscribed.saturating_sub(connected))),
        "within 60 s",
        subscribed.saturating_sub(connected) <= Duration::from_secs(60),
    );
}
