//! Resident memory, and how a long queue starts and drains.

use crate::{
    gateway::{Config, Gateway, settle},
    load::{Load, Order, PAD, fill},
    platform::Observer,
    site::{Broker, Site, free_port, until},
    table::{Table, mib},
};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

const MANY: usize = 10_000;
const ROWS: u64 = 1_000_000;

pub fn run(length: Duration) {
    let mut table = Table::new("Memory");
    few(&mut table, length);
    many(&mut table);
}

/// The largest of many looks at the memory while something goes on.
fn watch(gateway: &Gateway, mut on: impl FnMut() -> bool) -> u64 {
    let mut most = 0;
    while on() {
        most = most.max(gateway.usage().rss);
        sleep(Duration::from_millis(20));
    }
    most
}

fn few(table: &mut Table, length: Duration) {
    let site = Site::new();
    let broker = Broker::start(&site);
    let port = free_port();
    let mut config = Config::new(&site, "plain", broker.port);
    config.pushed("push", 1..=100, port);
    let gateway = Gateway::start(&site, &config);
    gateway.until_up();
    let load = Load::paced(port, 100, Order::Random, "relaxed", 1_000);
    let began = Instant::now();
    let rss = watch(&gateway, || began.elapsed() < length);
    let pushed = load.stop();
    gateway.until_drained();
    assert_eq!(gateway.term("landed"), pushed, "all landed");
    table.judge(
        "RSS, 100 endpoints, 1,000 samples/s",
        &format!("{:.1} MiB (peak {:.1})", mib(rss), mib(gateway.usage().peak)),
        "at most 20 MiB",
        rss <= 20 << 20,
    );
    gateway.stop();
}

fn many(table: &mut Table) {
    let site = Site::new();
    fill(&site.path("state"), MANY, ROWS, PAD, Order::Random);
    let broker = Broker::start(&site);
    let observer = Observer::start(&site, &broker, false);
    let mut config = Config::new(&site, "plain", broker.port);
    config.pushed("push", 1..=MANY, free_port());
    let began = Instant::now();
    let gateway = Gateway::start(&site, &config);
    until("something lands", || (observer.count() > 0).then_some(()));
    let rows = usize::try_from(ROWS).expect("it fits");
    let (mut last, mut count) = (Instant::now(), 0);
    let rss = watch(&gateway, || {
        let now = observer.count();
        if now > count {
            (last, count) = (Instant::now(), now);
        }
        assert!(last.elapsed() < Duration::from_secs(60), "{now} landed, and then nothing");
        now < rows
    });
    settle();
    gateway.until_drained();
    let (landed, usage) = (gateway.term("landed"), gateway.usage());
    gateway.stop();
    let arrivals = observer.stop();
    assert_eq!((landed, arrivals.len()), (ROWS, rows), "each landed once");
    let first = arrivals[0].at.duration_since(began);
    table.judge(
        "RSS, 10,000 endpoints, 1,000,000 samples queued",
        &format!("{:.1} MiB (peak {:.1})", mib(rss), mib(usage.peak)),
        "at most 64 MiB",
        rss <= 64 << 20,
    );
    table.judge(
        "start with them to the first landing",
        &format!("{:.2} s", first.as_secs_f64()),
        "under 2 s",
        first < Duration::from_secs(2),
    );
    let tenth = rows / 10;
    let rate = |part: &[crate::platform::Arrival]| {
        tenth as f64 / part[tenth - 1].at.duration_since(part[0].at).as_secs_f64()
    };
    let (head, tail) = (rate(&arrivals[..tenth]), rate(&arrivals[rows - tenth..]));
    table.judge(
        "drain rate, first and last tenth",
        &format!("{head:.0} and {tail:.0} samples/s, ratio {:.2}", tail / head),
        "within 20 %",
        (0.8..=1.2).contains(&(tail / head)),
    );
}
