//! Benchmarks of the daemon: `tests/bench/run` builds it and this, and says what can be asked for.
//! Figures come as Markdown on standard output, progress on standard error.
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod flash;
mod flooder;
mod gateway;
mod idle;
mod isolation;
mod live;
mod load;
mod memory;
mod modbus;
mod paced;
mod pair;
mod platform;
mod reference;
mod restart;
mod site;
mod table;
mod throughput;

use std::{env, path::Path, time::Duration};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [first, port, ca] = arguments.as_slice()
        && first == "platform"
    {
        platform::serve(port.parse().expect("a port"), Path::new(ca));
    }
    // To look at one case by hand.
    if let [first, dir, endpoints, samples] = arguments.as_slice()
        && first == "fill"
    {
        let (endpoints, samples) = (endpoints.parse().expect("a number"), samples.parse().expect("a number"));
        return load::fill(Path::new(dir), endpoints, samples, load::PAD, load::Order::Random);
    }
    let number = |variable: &str, default: u64| {
        env::var(variable).ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(default)
    };
    let rounds = usize::try_from(number("TIDEGATE_BENCH_ROUNDS", 5)).expect("a few");
    let length = Duration::from_secs(number("TIDEGATE_BENCH_SECONDS", 20));
    for section in &arguments {
        match section.as_str() {
            "throughput" => throughput::run(rounds, length),
            "memory" => memory::run(length),
            "restart" => restart::run(),
            "flash" => flash::run(length),
            "idle" => idle::run(),
            "live" => live::run(),
            "flooder" => flooder::run(),
            "isolation" => isolation::run(),
            "modbus" => modbus::run(Duration::from_secs(number("TIDEGATE_BENCH_MODBUS_SECONDS", 300))),
            other => panic!("no such section: {other}"),
        }
    }
}
