//! A day on which nothing works: the broker away, thirty devices dead, a hundred endpoints refused by the platform.
//! The journal stays short, the memory flat, and in the end all data is there.
//!
//! 240 times as fast: the day takes six minutes (`TIDEGATE_TEST_LONG`), or an hour of it 15 s.

use crate::{
    arrivals::Platform,
    gateway::{Config, Gateway},
    peers::{Broker, Slave},
    pusher::Pusher,
    site::{PATIENCE, Pty, Site, free_port, let_pass, until},
};
use serde_json::{Value, json};
use std::{
    env,
    fmt::Write as _,
    time::{Duration, Instant},
};

const SCALE: u32 = 240;
const HOUR: Duration = Duration::from_secs(3_600);
/// Endpoints that push, and how many of them are refused.
const PUSHED: u64 = 130;
const REFUSED: u64 = 100;
/// Dead devices: at a host that refuses connections, silent ones behind a host that answers none of them, and
/// on a line with nobody on it.
const DEAD: u64 = 10;
/// The lines of a day at most.
const LINES: usize = 100;
/// What the process may grow by, the queue of the day included.
const GROWTH_KB: u64 = 16 << 10;

/// Three adapters with ten dead devices each.
fn dead_devices(silent: u16, line: &Pty) -> String {
    let nobody = free_port();
    let mut tables = format!(
        "[adapters.modbus.refused]\nhost = \"127.0.0.1:{nobody}\"\n\
         [adapters.modbus.silent]\nhost = \"127.0.0.1:{silent}\"\ntimeout = \"1m\"\n\
         [adapters.modbus.line]\nport = {:?}\nbaud = 19200\ntimeout = \"1m\"\n",
        line.ours
    );
    for adapter in ["refused", "silent", "line"] {
        for unit in 1..=DEAD {
            write!(
                tables,
                "[endpoints.{adapter}-{unit}]\ntoken = \"T-{adapter}-{unit}\"\nadapter = \"{adapter}\"\n\
                 [endpoints.{adapter}-{unit}.modbus]\nunit = {unit}\nperiod = \"10s\"\n\
                 [endpoints.{adapter}-{unit}.modbus.resources]\nt = {{ register = \"holding:2\", type = \"u16\" }}\n"
            )
            .unwrap();
        }
    }
    tables
}

fn parked(status: &Value) -> usize {
    status["uplink"]["parked"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_day_on_which_nothing_works_is_told_in_few_lines_and_loses_nothing() {
    let hours: u32 = if env::var_os("TIDEGATE_TEST_LONG").is_some() { 24 } else { 1 };
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let refused: serde_json::Map<String, Value> =
        (1..=REFUSED).map(|n| (format!("TP{n}"), json!(401))).collect();
    platform.rules(&json!({ "refuse_tokens": refused }));
    let mut slave = Slave::start(&site, DEAD, 4);
    slave.mode(0, "silent", 0);
    let line = Pty::new(&site);
    let port = free_port();
    // In truth 5 s and 2.5 s: the peers are not faster than the machine.
    let config = Config::kaa(&site, broker.port())
        .set("confirm_timeout", "10m")
        .set("keep_alive", "20m")
        .set("probe_min", "10m")
        .set("probe_max", "1h")
        .pushed(PUSHED, port)
        .line(&dead_devices(slave.port(), &line));
    let mut gateway = Gateway::new(&site, &config, SCALE);
    let (said, good) = gateway.check();
    assert!(good, "{said}");
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(port);
    for endpoint in 1..=PUSHED {
        pusher.push(&format!("p{endpoint}"), "1");
    }
    gateway.until_status("the refused are parked, and the dead are known", |status| {
        let dead = status["units"].as_array().unwrap().iter().filter(|unit| unit["health"] == "degraded");
        parked(status) as u64 == REFUSED && dead.count() == 3
    });
    broker.stop();
    gateway.until_status("the broker is away", |status| status["uplink"]["state"] == "connecting");

    // The day: whoever has something to say, says it.
    let (began, before) = (Instant::now(), gateway.usage().rss_kb);
    let (mut number, mut flat) = (1, before);
    while began.elapsed() < HOUR * hours / SCALE {
        number += 1;
        for endpoint in 1..=PUSHED {
            pusher.push(&format!("p{endpoint}"), &number.to_string());
        }
        let_pass(HOUR / SCALE / 4);
        gateway.assert_alive();
        // After the first hour everything is where it stays.
        if began.elapsed() < HOUR / SCALE {
            flat = gateway.usage().rss_kb;
        }
    }
    let after = gateway.usage().rss_kb;
    let lines = gateway.journal_of_life().lines().count();
    println!(
        "FIGURE outage of {hours} h: {lines} lines in the journal, RSS {before} kB at its beginning, {flat} after an hour, \
         {after} at its end, with {} samples queued",
        number * PUSHED
    );
    let status = gateway.status();
    assert_eq!(parked(&status) as u64, REFUSED, "they are still parked");
    assert!(lines < LINES, "{lines} lines:\n{}", gateway.journal_of_life());
    assert!(after < before + GROWTH_KB, "grown from {before} to {after} kB");
    let told = gateway.journal_of_life();
    for share in ["10 of 10 devices", "100 of 160 endpoints"] {
        assert!(told.contains(share), "{share}:\n{told}");
    }

    broker.start_again();
    platform.rules(&json!({}));
    until("the queue is empty", PATIENCE * 3, || {
        gateway.assert_alive();
        (gateway.outbox_rows() == 0).then_some(())
    });
    let arrivals = platform.arrivals();
    for endpoint in 1..=PUSHED {
        arrivals.assert_exactly(&format!("TP{endpoint}"), 1..=number);
    }
    slave.mode(0, "serve", 0);
    gateway.until_status("what can be well is well", |status| {
        let silent = status["units"].as_array().unwrap().iter().find(|unit| unit["name"] == "modbus.silent");
        status["uplink"]["state"] == "up" && parked(status) == 0 && silent.unwrap()["health"] == "up"
    });
    until("their recovery is told", PATIENCE, || {
        let journal = gateway.journal_of_life();
        let over = |who: &str, share: &str| {
            journal
                .lines()
                .any(|line| line.contains("works again") && line.contains(who) && line.contains(share))
        };
        (over("unit=\"uplink\"", "100 of 160 endpoints")
            && over("unit=\"modbus.silent\"", "10 of 10 devices"))
        .then_some(())
    });
    let ledger = gateway.ledger();
    assert_eq!((ledger.dropped, ledger.dead), (0, 0), "{ledger:?}");
    let lines = gateway.journal_of_life().lines().count();
    assert!(lines < LINES, "{lines} lines with the recovery:\n{}", gateway.journal_of_life());
    assert!(gateway.terminate().success());
}
