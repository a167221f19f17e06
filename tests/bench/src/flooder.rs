//! Whether a device that pushes without waiting holds up another one.

use crate::{
    load::Load,
    pair::{self, Pair},
    site::Site,
    table::Table,
};
use std::time::Duration;

pub fn run() {
    let mut table = Table::new("Flooder");
    for (what, unit) in [("the same unit", "quiet"), ("another unit", "loud")] {
        pair::judge(&mut table, &format!("a flooder in {what}"), || measure(unit));
    }
}

/// The p99 alone, and beside a flooder in this unit.
fn measure(unit: &str) -> (Duration, Duration) {
    let site = Site::new();
    let pair = Pair::start(&site, "", &[]);
    let alone = pair.p99();
    let flood = match unit {
        "quiet" => Load::flood_one(pair.quiet, 2),
        _ => Load::flood_one(pair.loud, 3),
    };
    let beside = pair.p99();
    assert!(flood.pushed() > 0, "it floods");
    // What waits in the sockets would take longer than all of this.
    drop(pair);
    flood.stop();
    (alone, beside)
}
