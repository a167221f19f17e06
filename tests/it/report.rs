//! Report rules: what a Modbus device said, read by read, against what came to the platform by each rule.

use crate::{
    arrivals::Recorder,
    gateway::{Config, Gateway},
    peers::{Broker, Served, Slave},
    site::{PATIENCE, Site, free_port, until},
};
use serde_json::{Value, json};

/// µs, as the samples have it.
const SECOND: u64 = 1_000_000;

/// A meter whose `seq` counts its reads, with a rule for each of the resources made of it.
fn config(site: &Site, broker_port: u16, slave_port: u16) -> Config {
    Config::plain(site, broker_port)
        .line("timestamp_format = \"epoch-us\"")
        .with_quality()
        .line(&format!("[adapters.modbus.site]\nhost = \"127.0.0.1:{slave_port}\"\ntimeout = \"60s\""))
        .line("[endpoints.m1]\ntoken = \"TM1\"")
        .line("[endpoints.m1.report]\non_change = true")
        .line("[endpoints.m1.report.resources]")
        .line("dead = { deadband = 2.5 }")
        .line("still = { heartbeat = \"1s\" }")
        .line("slow = { min_interval = \"1s\" }")
        .line("high = { window = \"2s\" }")
        .line("[endpoints.m1.report.expressions]\nhalf = \"dead % 4 == 0 ? dead / 2 : -1\"\nhalf_known = \"dead > 7\"")
        .line("[endpoints.m1.modbus]\nunit = 1\nperiod = \"100ms\"\n[endpoints.m1.modbus.resources]")
        // Bits of the count: every fourth read is a change.
        .line("fourth = { register = \"holding:1\", type = \"u16\", bits = \"2-9\" }")
        .line("dead = { register = \"holding:1\", type = \"u16\" }")
        .line("slow = { register = \"holding:1\", type = \"u16\" }")
        .line("high = { register = \"holding:1\", type = \"u16\" }")
        .line("still = { register = \"holding:0\", type = \"u16\" }")
}

/// The values of one resource at the platform, with their stamps in µs, in order.
fn of(samples: &[Value], resource: &str) -> Vec<(u64, Value)> {
    let with = samples.iter().filter(|sample| sample.get(resource).is_some());
    with.map(|sample| (sample["timestamp"].as_u64().unwrap(), sample[resource].clone())).collect()
}

fn whole(values: &[(u64, Value)]) -> Vec<u64> {
    values.iter().map(|(_, value)| value.as_u64().unwrap_or_else(|| panic!("{value}"))).collect()
}

/// What the rules are to make of the reads, but for what depends on time.
fn check_values(samples: &[Value], reads: &[u64]) {
    let last = *reads.last().unwrap();
    let mut fourth: Vec<u64> = reads.iter().map(|seq| seq >> 2).collect();
    fourth.dedup();
    assert_eq!(whole(&of(samples, "fourth")), fourth, "on change");
    // Of 1, 2, 3, 4 it is 4 that is more than 2.5 away.
    let dead: Vec<u64> = (1..=last).step_by(3).collect();
    assert_eq!(whole(&of(samples, "dead")), dead, "deadband");
    let mut half: Vec<Value> =
        reads.iter().map(|seq| if seq % 4 == 0 { json!(*seq as f64 / 2.0) } else { json!(-1.0) }).collect();
    half.dedup();
    let halves = of(samples, "half").into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    let floats = |values: &[Value]| values.iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(floats(&halves), floats(&half), "expression");
    let known: Vec<Value> = of(samples, "half_known").into_iter().map(|(_, value)| value).collect();
    assert_eq!(known, [json!(false), json!(true)], "a truth, on change");
    assert!(samples.iter().all(|sample| sample.get("high").is_none()), "aggregated only");
}

/// What depends on time, by the samples' own stamps.
fn check_times(samples: &[Value], last: u64) -> (usize, usize, usize) {
    let still = of(samples, "still");
    assert!(still.iter().all(|(_, value)| *value == 0), "{still:?}");
    let slow = of(samples, "slow");
    for (what, values) in [("heartbeat", &still), ("interval", &slow)] {
        // One a second, and not one for each of ten reads. A group's commit may come late by its part.
        let (first, last) = (values[0].0, values[values.len() - 1].0);
        assert!((values.len() as u64 - 1) * SECOND <= last - first + 2 * SECOND, "{what}: {values:?}");
    }
    assert_eq!(whole(&slow).last(), Some(&last), "the last value is not lost");
    // Each window is told once, the first and the last one marked; together they have every read.
    let (low, high, mean) = (of(samples, "high.min"), of(samples, "high.max"), of(samples, "high.mean"));
    assert_eq!((low.len(), high.len()), (mean.len(), mean.len()));
    let mut next = 1;
    for (n, ((at, min), (_, max))) in low.iter().zip(&high).enumerate() {
        assert_eq!(min.as_u64(), Some(next), "window {n} of {low:?} and {high:?}");
        next = max.as_u64().unwrap() + 1;
        let middle = (min.as_f64().unwrap() + max.as_f64().unwrap()) / 2.0;
        assert!((mean[n].1.as_f64().unwrap() - middle).abs() < 1e-9, "{mean:?}");
        let doubtful = n == 0 || n + 1 == low.len();
        let sample = samples.iter().find(|s| s.get("high.min").is_some() && s["timestamp"] == *at).unwrap();
        if !doubtful {
            assert_eq!((at % (2 * SECOND), sample.get("high.min_quality")), (0, None), "{sample}");
        } else if n == 0 {
            assert!(sample["high.min_quality"].to_string().contains("window incomplete"), "{sample}");
        }
    }
    assert_eq!(next, last + 1, "every read is in a window");
    (still.len(), slow.len(), low.len())
}

#[test]
fn the_platform_gets_what_the_rules_leave_and_the_ledger_has_the_rest() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut recorder = Recorder::start(&site, broker.port());
    let mut slave = Slave::start(&site, 1, 2);
    let mut gateway = Gateway::new(&site, &config(&site, broker.port(), slave.port()), 1);
    let (said, good) = gateway.check();
    assert!(good, "{said}");
    gateway.start();
    until("the device is read for some windows", PATIENCE, || {
        gateway.assert_alive();
        (slave.count() >= 70).then_some(())
    });
    // Every value is shown, reported or not.
    let read = gateway.ask(&["read", "m1"]).unwrap();
    let shown = |name: &str| {
        let values = read["values"].as_array().unwrap().iter();
        values.filter(|value| value["resource"] == name).map(|value| value["value"].clone()).next()
    };
    assert_eq!(shown("high"), shown("dead"), "{read}");
    assert!(shown("half").is_some() && shown("high.mean").is_some(), "{read}");
    slave.stop();
    let reads = slave.served();
    let samples = |recorder: &mut Recorder| -> Vec<Value> {
        recorder.arrivals().first.iter().map(|accepted| accepted.sample.clone()).collect()
    };
    let numbers: Vec<u64> = reads.iter().map(|read: &Served| read.seq).collect();
    // The timer closes the last window and reports what was withheld, though no sample comes.
    until("the last window is told", PATIENCE, || {
        let last = of(&samples(&mut recorder), "high.max").last().map(|(_, value)| value.as_u64());
        (last == Some(numbers.last().copied())).then_some(())
    });
    gateway.until_drained();
    let status = gateway.status();
    let ledger = gateway.ledger();
    let reasons = &status["reasons"];
    let term = |name: &str| reasons[name].as_u64().unwrap_or(0);
    let samples = samples(&mut recorder);
    check_values(&samples, &numbers);
    let (beats, slow, windows) = check_times(&samples, *numbers.last().unwrap());
    assert!(windows >= 3 && beats >= 3, "{windows} windows, {beats} heartbeats");
    println!(
        "FIGURE report: {} reads, {} samples at the platform, {} heartbeats, {slow} by the interval, \
         {windows} windows; {ledger:?} {reasons}",
        numbers.len(),
        samples.len(),
        beats,
    );
    assert_eq!(ledger.landed, samples.len() as u64, "{ledger:?}");
    assert_eq!(ledger.offered, numbers.len() as u64 + term("offered(report)"), "{ledger:?} {reasons}");
    assert!(term("offered(report)") >= windows as u64, "{reasons}");
    // Two of four reads change `half`, and one of three `dead`.
    assert!(ledger.suppressed >= numbers.len() as u64 / 6, "{reasons}");
    let queue = gateway.ask(&["queue"]).unwrap();
    assert_eq!(queue["queued"], 0, "{queue}");
    assert_eq!((ledger.refused, ledger.dropped, ledger.dead), (0, 0, 0), "{ledger:?}");
    assert!(gateway.terminate().success());
}

#[test]
fn what_was_withheld_goes_up_at_an_orderly_stop_and_a_kill_loses_nothing_that_was_reported() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut recorder = Recorder::start(&site, broker.port());
    let port = free_port();
    let config = Config::plain(&site, broker.port())
        .pushed(2, port)
        .line("[endpoints.p1.report]\nmin_interval = \"24h\"")
        .line("[endpoints.p2.report]\non_change = true");
    let mut gateway = Gateway::new(&site, &config, 1);
    for life in 0..3_u64 {
        gateway.start();
        let mut pusher = crate::pusher::Pusher::connect(port);
        for n in 1..=20 {
            pusher.push("p1", &(life * 100 + n).to_string());
            // Each number twice: the second one is no change.
            pusher.push("p2", &(life * 100 + n).to_string());
            pusher.push("p2", &(life * 100 + n).to_string());
        }
        if life == 1 {
            gateway.kill();
        } else {
            assert!(gateway.terminate().success());
        }
    }
    gateway.start();
    gateway.until_drained();
    let ledger = gateway.ledger();
    let reasons = gateway.status()["reasons"].clone();
    println!("FIGURE report, over a stop, a kill and a stop: {ledger:?} {reasons}");
    until("the subscriber has all of it", PATIENCE, || {
        (recorder.arrivals().first.len() as u64 >= ledger.landed).then_some(())
    });
    let arrivals = recorder.arrivals();
    // The first of each life, and the last of those that ended in order.
    arrivals.assert_exactly("p1", [1, 20, 101, 201, 220].into_iter());
    arrivals.assert_exactly("p2", (0..3).flat_map(|life| (1..=20).map(move |n| life * 100 + n)));
    let suppressed = json!({
        "offered(report)": 2, "suppressed(interval)": 57, "suppressed(unchanged)": 60,
    });
    assert_eq!(reasons, suppressed, "{ledger:?}");
    assert_eq!((ledger.offered, ledger.stored), (182, 65), "{ledger:?}");
    assert!(gateway.terminate().success());
}
