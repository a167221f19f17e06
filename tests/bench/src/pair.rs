//! Two adapters in one gateway: what a device of one waits for its receipts, while something goes on and while
//! nothing does.

use crate::{
    gateway::{Config, Gateway},
    load::latencies,
    site::{Broker, Site, free_port},
    table::{Table, median, percentile},
};
use std::time::Duration;

pub const RUNS: usize = 3;
const LENGTH: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(5);

/// A gateway with the adapters `quiet`, of p1 and p2, and `loud`, of p3.
pub struct Pair {
    pub gateway: Gateway,
    pub quiet: u16,
    pub loud: u16,
    _broker: Broker,
}

impl Pair {
    /// Connected, with these lines for p3 and these variables in its environment.
    pub fn start(site: &Site, lines: &str, environment: &[(&str, &str)]) -> Self {
        let broker = Broker::start(site);
        let (quiet, loud) = (free_port(), free_port());
        let mut config = Config::new(site, "plain", broker.port);
        config.pushed("quiet", 1..=2, quiet);
        config.pushed("loud", 3..=3, loud);
        config.line(lines);
        let gateway = Gateway::start_in(site, &config, environment);
        gateway.until_up();
        Self { gateway, quiet, loud, _broker: broker }
    }

    /// The p99 of what p1 waits for the receipt of an urgent sample.
    pub fn p99(&self) -> Duration {
        percentile(&latencies(self.quiet, 1, PAUSE, LENGTH), 99)
    }
}

/// One row: in runs of their own the p99 in quiet and beside `what`, and the median of their ratios.
pub fn judge(table: &mut Table, what: &str, mut run: impl FnMut() -> (Duration, Duration)) {
    let (ratios, figures): (Vec<f64>, Vec<String>) = (0..RUNS)
        .map(|_| {
            let (quiet, beside) = run();
            let ratio = beside.as_secs_f64() / quiet.as_secs_f64();
            (ratio, format!("{:.2} and {:.2}", ms(quiet), ms(beside)))
        })
        .unzip();
    let ratio = median(&ratios);
    table.judge(
        &format!("p99 of urgent submissions beside {what}, median of {RUNS}"),
        &format!("{ratio:.2} times the quiet one ({} ms)", figures.join(", ")),
        "at most 2 times",
        ratio <= 2.0,
    );
}

fn ms(length: Duration) -> f64 {
    length.as_secs_f64() * 1_000.0
}
