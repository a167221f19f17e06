//! Samples a second through the daemon, beside those of a bare MQTT client and a bare SQLite queue.

use crate::{
    gateway::{Config, Gateway, Usage, usage},
    load::Load,
    platform::Platform,
    reference,
    site::{Broker, Site, free_port},
    table::{Table, median},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant},
};

const ENDPOINTS: usize = 100;
/// Samples in one submission: as many as reference B has in a commit.
const RANGE: u64 = 100;
/// The load pauses while more is queued: what is measured is the way through, not the queue.
const QUEUED: u64 = 20_000;

/// What one turn of the daemon gave.
struct Turn {
    rate: f64,
    daemon: Usage,
    broker: Duration,
    platform: Duration,
}

pub fn run(rounds: usize, length: Duration) {
    let site = Site::new();
    let broker = Broker::start(&site);
    let platform = Platform::start(&site, &broker);
    let (mut a, mut b, mut plain, mut kaa) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let only = std::env::var("TIDEGATE_BENCH_ONLY").ok();
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only.contains(name));
    for round in 1..=rounds {
        if wanted("A") {
            a.push(reference::mqtt(&site, broker.port, length));
        }
        if wanted("plain") {
            plain.push(turn(&site, &broker, &platform, "plain", length));
        }
        if wanted("B") {
            b.push(reference::sqlite(&site, length));
        }
        if wanted("kaa") {
            kaa.push(turn(&site, &broker, &platform, "kaa", length));
        }
        let last = |rates: &[f64]| rates.last().copied().unwrap_or(f64::NAN);
        let rates = |turns: &[Turn]| turns.iter().map(|turn| turn.rate).collect::<Vec<_>>();
        eprintln!(
            "round {round}: A {:.0}, plain {:.0}, B {:.0}, kaa {:.0} samples/s",
            last(&a),
            last(&rates(&plain)),
            last(&b),
            last(&rates(&kaa)),
        );
    }
    let mut table = Table::new("Throughput");
    report(&mut table, "plain", "A (rumqttc)", &plain, &a, 0.35);
    report(&mut table, "kaa", "B (SQLite)", &kaa, &b, 0.25);
}

fn report(table: &mut Table, kind: &str, reference: &str, turns: &[Turn], rates: &[f64], goal: f64) {
    let ours: Vec<f64> = turns.iter().map(|turn| turn.rate).collect();
    let ratios: Vec<f64> = ours.iter().zip(rates).map(|(ours, theirs)| ours / theirs).collect();
    let of = |part: fn(&Turn) -> Duration| {
        median(&turns.iter().map(|turn| part(turn).as_secs_f64()).collect::<Vec<_>>())
    };
    table.judge(
        &format!("`{kind}` beside {reference}, median of {} ratios", ratios.len()),
        &format!(
            "{:.2} ({:.0} of {:.0} samples/s; CPU of the daemon {:.1} s, broker {:.1} s, platform {:.1} s)",
            median(&ratios),
            median(&ours),
            median(rates),
            of(|turn| turn.daemon.cpu),
            of(|turn| turn.broker),
            of(|turn| turn.platform),
        ),
        &format!("at least {goal}"),
        median(&ratios) >= goal,
    );
}

fn turn(site: &Site, broker: &Broker, platform: &Platform, kind: &str, length: Duration) -> Turn {
    let _left = std::fs::remove_dir_all(site.path("state"));
    let port = free_port();
    let mut config = Config::new(site, kind, broker.port);
    config.pushed("push", 1..=ENDPOINTS, port);
    let gateway = Gateway::start(site, &config);
    gateway.until_up();
    let gate = Arc::new(AtomicBool::new(false));
    let load = Load::flood(port, ENDPOINTS, RANGE, gate.clone());
    watch(&gateway, &gate, Duration::from_secs(2));
    let others = || (usage(broker.pid()).cpu, usage(platform.pid()).cpu);
    let (began, landed, used, before) = (Instant::now(), gateway.term("landed"), gateway.usage(), others());
    watch(&gateway, &gate, length);
    let (past, landed) = (began.elapsed(), gateway.term("landed") - landed);
    let (used, after) = (gateway.usage() - used, others());
    load.stop();
    gateway.until_drained();
    gateway.stop();
    Turn {
        rate: landed as f64 / past.as_secs_f64(),
        daemon: used,
        broker: after.0.saturating_sub(before.0),
        platform: after.1.saturating_sub(before.1),
    }
}

/// Holds the load back while much is queued.
fn watch(gateway: &Gateway, gate: &AtomicBool, length: Duration) {
    let began = Instant::now();
    while began.elapsed() < length {
        gate.store(gateway.term("queued") > QUEUED, Relaxed);
        sleep(Duration::from_millis(20));
    }
}
