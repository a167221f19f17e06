//! Wear: what the daemon writes for each stored byte. A stored byte is one of a sample's 200.

use crate::{
    gateway::{Config, Gateway, settle, usage},
    load::{Load, Order, PAD, fill},
    reference::delete_by_lane,
    site::{Broker, Site, free_port},
    table::Table,
};
use std::{fs, io::Write, thread::sleep, time::Duration};

const RATE: u64 = 1_000;
const QUEUED: u64 = 500_000;
const SAMPLE: u64 = 200;
const GOAL: f64 = 5.0;

pub fn run(length: Duration) {
    let mut table = Table::new("Flash");
    let site = Site::new();
    if !is_counted(&site) {
        return table.skip(
            "all",
            "this file system's writes are not counted in /proc/self/io; set TIDEGATE_BENCH_DIR",
        );
    }
    drop(site);
    for endpoints in [100, 10_000] {
        for urgency in ["relaxed", "urgent"] {
            connected(&mut table, endpoints, urgency, length);
        }
        full(&mut table, endpoints, length);
    }
}

/// Whether a MiB written here is seen in `write_bytes`.
fn is_counted(site: &Site) -> bool {
    let before = usage(std::process::id()).written;
    let mut file = fs::File::create(site.path("probe")).expect("a file");
    file.write_all(&vec![b'x'; 1 << 20]).expect("written");
    file.sync_all().expect("on disk");
    usage(std::process::id()).written - before >= 1 << 20
}

fn report(table: &mut Table, what: &str, endpoints: usize, wear: f64, judged: bool) {
    let (what, figure) = (format!("{what}, {endpoints} endpoints"), format!("{wear:.2}"));
    match judged {
        true => table.judge(&what, &figure, "at most 5", wear <= GOAL),
        false => table.tell(&what, &figure),
    }
}

/// Written for each stored byte while samples come in.
fn push(gateway: &Gateway, port: u16, endpoints: usize, urgency: &'static str, length: Duration) -> f64 {
    let load = Load::paced(port, endpoints, Order::Random, urgency, RATE);
    // The first samples of each endpoint make its lane.
    sleep(Duration::from_secs(2));
    let (stored, before) = (gateway.term("stored"), gateway.usage());
    sleep(length);
    let (stored, used) = (gateway.term("stored") - stored, gateway.usage() - before);
    load.stop();
    used.written as f64 / (stored * SAMPLE) as f64
}

fn connected(table: &mut Table, endpoints: usize, urgency: &'static str, length: Duration) {
    let site = Site::new();
    // The lanes are there.
    fill(&site.path("state"), endpoints, 2 * endpoints as u64, PAD, Order::Turns);
    let broker = Broker::start(&site);
    let port = free_port();
    let mut config = Config::new(&site, "plain", broker.port);
    config.pushed("push", 1..=endpoints, port);
    let gateway = Gateway::start(&site, &config);
    gateway.until_up();
    gateway.until_drained();
    let wear = push(&gateway, port, endpoints, urgency, length);
    gateway.until_drained();
    gateway.stop();
    report(table, &format!("connected, {urgency}"), endpoints, wear, urgency == "relaxed");
}

fn full(table: &mut Table, endpoints: usize, length: Duration) {
    let site = Site::new();
    fill(&site.path("state"), endpoints, QUEUED, PAD, Order::Random);
    copy(&site, "state", "copy");
    let port = free_port();
    let mut broker = Broker::start(&site);
    broker.stop();
    let mut config = Config::new(&site, "plain", broker.port);
    config.pushed("push", 1..=endpoints, port);
    let gateway = Gateway::start(&site, &config);
    for urgency in ["relaxed", "urgent"] {
        let wear = push(&gateway, port, endpoints, urgency, length);
        report(
            table,
            &format!("outage with 500,000 queued, {urgency}"),
            endpoints,
            wear,
            urgency == "relaxed",
        );
    }
    settle();
    let (queued, before) = (gateway.term("queued"), gateway.usage());
    broker.start_again();
    gateway.until_drained();
    let used = gateway.usage() - before;
    gateway.stop();
    let wear = used.written as f64 / (queued * SAMPLE) as f64;
    report(table, "draining", endpoints, wear, endpoints == 100);
    if endpoints > 100 {
        let plain = delete_by_lane(&site.path("copy"), QUEUED);
        report(table, "a plain delete in lane order", endpoints, plain, false);
    }
}

fn copy(site: &Site, from: &str, to: &str) {
    fs::create_dir(site.path(to)).expect("a directory");
    fs::copy(site.path(from).join("tidegate.db"), site.path(to).join("tidegate.db")).expect("copied");
}
