//! Whether a device that pushes without waiting holds up another one.

use crate::{
    gateway::{Config, Gateway},
    load::{Load, latencies},
    site::{Broker, Site, free_port},
    table::{Table, median, percentile},
};
use std::time::Duration;

const RUNS: usize = 3;
const LENGTH: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(5);

pub fn run() {
    let mut table = Table::new("Flooder");
    for (what, unit) in [("the same unit", "quiet"), ("another unit", "loud")] {
        let mut ratios = Vec::new();
        let mut figures = Vec::new();
        for _ in 0..RUNS {
            let (quiet, flooded) = measure(unit);
            ratios.push(flooded.as_secs_f64() / quiet.as_secs_f64());
            figures.push(format!("{:.2} and {:.2}", ms(quiet), ms(flooded)));
        }
        let ratio = median(&ratios);
        table.judge(
            &format!("p99 of urgent submissions beside a flooder in {what}, median of {RUNS}"),
            &format!("{ratio:.2} times the quiet one ({} ms)", figures.join(", ")),
            "at most 2 times",
            ratio <= 2.0,
        );
    }
}

fn ms(length: Duration) -> f64 {
    length.as_secs_f64() * 1_000.0
}

/// The p99 alone, and beside a flooder in this unit.
fn measure(unit: &str) -> (Duration, Duration) {
    let site = Site::new();
    let broker = Broker::start(&site);
    let (quiet, loud) = (free_port(), free_port());
    let mut config = Config::new(&site, "plain", broker.port);
    config.pushed("quiet", 1..=2, quiet);
    config.pushed("loud", 3..=3, loud);
    let gateway = Gateway::start(&site, &config);
    gateway.until_up();
    let alone = latencies(quiet, 1, PAUSE, LENGTH);
    let flood = match unit {
        "quiet" => Load::flood_one(quiet, 2),
        _ => Load::flood_one(loud, 3),
    };
    let beside = latencies(quiet, 1, PAUSE, LENGTH);
    assert!(flood.pushed() > 0, "it floods");
    // What waits in the sockets would take longer than all of this.
    drop(gateway);
    flood.stop();
    (percentile(&alone, 99), percentile(&beside, 99))
}
