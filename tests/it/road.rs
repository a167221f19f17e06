//! The whole road, nothing going wrong: 10 units of 10 registers once a second, from pymodbus through
//! the daemon and mosquitto to the platform. Every value the slave says it served is there, once or
//! resent, in order per endpoint.

use crate::{
    arrivals::{Arrivals, Platform, Recorder, Which},
    gateway::{Config, Gateway},
    peers::{Broker, Served, Slave},
    site::{PATIENCE, Site, asked_for, until},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

const UNITS: u64 = 10;
const REGISTERS: u64 = 10;

#[test]
fn every_value_the_slave_served_is_at_the_kaa_platform() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let slave = Slave::start(&site, UNITS, REGISTERS);
    let config = Config::kaa(&site, broker.port()).meters(UNITS, slave.port());
    travel(&site, &config, "kaa", slave, |unit| format!("TM{unit}"), || platform.arrivals());
}

#[test]
fn every_value_the_slave_served_is_at_the_plain_broker() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut recorder = Recorder::start(&site, broker.port());
    let slave = Slave::start(&site, UNITS, REGISTERS);
    let config = Config::plain(&site, broker.port()).meters(UNITS, slave.port());
    travel(&site, &config, "plain", slave, |unit| format!("m{unit}"), || recorder.arrivals());
}

fn travel(
    site: &Site,
    config: &Config,
    dialect: &str,
    mut slave: Slave,
    name_of: impl Fn(u64) -> String,
    mut arrivals: impl FnMut() -> Arrivals,
) {
    let seconds: u64 = asked_for("TIDEGATE_TEST_SECONDS", 15);
    let mut gateway = Gateway::new(site, config, 1);
    gateway.start();
    let started = Instant::now();
    let wanted = usize::try_from(UNITS * seconds).unwrap();
    until("the slave has served its time", PATIENCE + Duration::from_secs(seconds * 2), || {
        gateway.assert_alive();
        (slave.count() >= wanted && started.elapsed().as_secs() >= seconds).then_some(())
    });
    let took = started.elapsed();
    let usage = gateway.usage();
    slave.stop();
    let served = slave.served();
    until("all of it has arrived", PATIENCE, || {
        (samples_of_meters(&arrivals()) >= served.len()).then_some(())
    });
    gateway.until_drained();
    let arrivals = arrivals();
    println!(
        "FIGURE road {dialect}: {UNITS} units x {REGISTERS} registers each second for {:.1} s: \
         {} reads, {} resent, RSS {:.1} MB (peak {:.1}), CPU {:.2} s",
        took.as_secs_f64(),
        served.len(),
        arrivals.resent,
        megabytes(usage.rss_kb),
        megabytes(usage.peak_rss_kb),
        usage.cpu.as_secs_f64(),
    );
    assert_same(&served, &arrivals, name_of);
    arrivals.assert_in_order();
    let rate = served.len() as f64 / took.as_secs_f64() / UNITS as f64;
    assert!((0.5..1.5).contains(&rate), "{rate:.2} reads of a unit each second");
    let ledger = gateway.ledger();
    assert_eq!((ledger.refused, ledger.dropped, ledger.dead), (0, 0, 0), "{ledger:?}");
    assert!(gateway.terminate().success());
    assert_eq!(gateway.outbox_rows(), 0);
}

/// What arrived is what was served: the same reads, and in each of them the same values.
fn assert_same(served: &[Served], arrivals: &Arrivals, name_of: impl Fn(u64) -> String) {
    let arrived: HashMap<_, _> =
        arrivals.first.iter().map(|a| ((a.whose.as_str(), &a.which), &a.sample)).collect();
    for read in served {
        let (name, which) = (name_of(read.unit), Which::Number(read.seq));
        let sample = arrived.get(&(name.as_str(), &which));
        let sample = sample.unwrap_or_else(|| panic!("never arrived: {read:?}"));
        // One read for all registers of a unit: neighbours are coalesced.
        assert_eq!((read.address, read.values.len()), (0, 10), "{read:?}");
        for (register, value) in read.values.iter().enumerate().skip(2) {
            assert_eq!(sample[format!("r{register}")], *value, "r{register} of {read:?}");
        }
    }
    assert_eq!(samples_of_meters(arrivals), served.len(), "more arrived than was served");
}

fn samples_of_meters(arrivals: &Arrivals) -> usize {
    arrivals.first.iter().filter(|a| matches!(a.which, Which::Number(_))).count()
}

fn megabytes(kb: u64) -> f64 {
    kb as f64 / 1024.0
}
