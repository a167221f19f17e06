//! A serial line as lines are: noisy, echoing, with silent, late and babbling devices, unplugged in the
//! middle of a frame. Whatever happens, no value arrives that a device did not send.

use crate::{
    arrivals::Recorder,
    gateway::{Config, Gateway},
    paced::{Manner, Paced, register},
    peers::Broker,
    site::{PATIENCE, Site, asked_for, until},
};
use serde_json::Value;
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

const REGISTERS: u16 = 20;

/// A paced line, and what is read of it at the far end of the daemon.
struct Road {
    line: Paced,
    recorder: Recorder,
    gateway: Gateway,
    _broker: Broker,
    _site: Site,
}

impl Road {
    /// Units 1 to `units`, as often as it goes.
    fn new(units: u8, keys: &str, scale: u32, prepare: impl FnOnce(&Paced)) -> Self {
        let site = Site::new();
        let broker = Broker::start(&site, true);
        let recorder = Recorder::start(&site, broker.port());
        let port = site.path("ttyS");
        let line = Paced::start(&port, 1..=units);
        prepare(&line);
        let mut tables =
            format!("[adapters.modbus.line]\nport = {port:?}\nbaud = 19200\nparity = \"even\"\n{keys}\n");
        for unit in 1..=units {
            write!(
                tables,
                "[endpoints.m{unit}]\ntoken = \"TM{unit}\"\n[endpoints.m{unit}.modbus]\nunit = {unit}\n\
                 period = \"10ms\"\n[endpoints.m{unit}.modbus.resources]\n\
                 seq = {{ register = \"holding:0\", type = \"u32\" }}\n"
            )
            .unwrap();
            for n in 2..REGISTERS {
                writeln!(tables, "r{n} = {{ register = \"holding:{n}\", type = \"u16\" }}").unwrap();
            }
        }
        let config = Config::plain(&site, broker.port()).line(&tables);
        let mut gateway = Gateway::new(&site, &config, scale);
        let (said, good) = gateway.check();
        assert!(good, "{said}");
        gateway.start();
        Self { line, recorder, gateway, _broker: broker, _site: site }
    }

    /// Answers that left whole, of one unit.
    fn answers(&self, unit: u8) -> usize {
        let state = self.line.state();
        state.asked.iter().filter(|asked| asked.unit == unit && asked.answered.is_some()).count()
    }

    /// Waits until each of these units has answered once more.
    fn until_answered(&mut self, units: &[u8]) {
        let before: Vec<_> = units.iter().map(|unit| self.answers(*unit)).collect();
        until("the units are read", PATIENCE, || {
            self.gateway.assert_alive();
            units.iter().zip(&before).all(|(unit, before)| self.answers(*unit) > *before).then_some(())
        });
    }

    /// Waits for so many samples with values. How many there are; each is what its unit sent.
    fn until_right(&mut self, wanted: usize) -> usize {
        until("the samples have arrived", PATIENCE, || {
            let arrivals = self.recorder.arrivals();
            let samples = arrivals.first.iter().filter(|a| a.sample["seq"].is_u64());
            let right = samples.inspect(|a| assert_right(&a.whose, &a.sample)).count();
            (right >= wanted).then_some(right)
        })
    }
}

/// All values of the sample are of the one answer it counts.
fn assert_right(whose: &str, sample: &Value) {
    let unit = whose.trim_start_matches('m').parse().unwrap();
    let seq = u32::try_from(sample["seq"].as_u64().unwrap()).unwrap();
    for n in 2..REGISTERS {
        let expected = u64::from(register(unit, seq, n));
        assert_eq!(sample[format!("r{n}")].as_u64(), Some(expected), "r{n} of {whose}: {sample}");
    }
}

const ALL: [u8; 5] = [1, 2, 3, 4, 5];

#[test]
fn silent_late_and_babbling_neighbours_spoil_no_value() {
    let late = Manner::Late(Duration::from_millis(250));
    let mut road = Road::new(5, "timeout = \"100ms\"", 1, |line| {
        line.state().manners.extend([(2, Manner::Silent), (3, late), (4, Manner::Babbling)]);
    });
    road.until_answered(&[1, 5]);
    let right = road.until_right(200);
    let state = road.line.state();
    let of = |unit| state.asked.iter().filter(|asked| asked.unit == unit).count();
    assert!((2..=4).all(|unit| of(unit) > 0), "each was asked");
    println!(
        "FIGURE modbus neighbours: {right} samples, none wrong; asked: silent {}, late {}, babbling {}, healthy {}",
        of(2),
        of(3),
        of(4),
        of(1)
    );
}

#[test]
fn an_echo_is_expected_where_it_is_said_and_no_harm_elsewhere() {
    let mut road = Road::new(5, "timeout = \"200ms\"\necho = true", 1, |line| line.state().echo = true);
    road.until_answered(&ALL);
    road.until_right(20);
    road.line.state().echo = false;
    road.gateway.until_fault("TG-439");
    drop(road);
    let mut road = Road::new(5, "timeout = \"200ms\"", 1, |line| line.state().echo = true);
    road.until_answered(&ALL);
    road.until_right(20);
}

/// One byte in a hundred is changed, of requests as of answers.
#[test]
fn noise_spoils_no_value() {
    // The line of the benchmark: a cycle of all its units takes 1.2 s.
    const UNITS: u8 = 30;
    let all: Vec<u8> = (1..=UNITS).collect();
    let mut road = Road::new(UNITS, "timeout = \"300ms\"", 1, |_| {});
    road.until_answered(&all);
    road.line.state().noise = 0.01;
    let seconds: u64 = asked_for("TIDEGATE_TEST_SECONDS", 15);
    let began = road.line.state().asked.len();
    // A healthy line has some 25 answers in a second, this one hardly more than half of that.
    let wanted = began + usize::try_from(10 * seconds).unwrap();
    until("there was noise for long enough", PATIENCE + Duration::from_secs(10 * seconds), || {
        road.gateway.assert_alive();
        (road.line.state().asked.len() >= wanted).then_some(())
    });
    let (damaged, asked, ended) = {
        let mut state = road.line.state();
        state.noise = 0.0;
        (state.damaged, state.asked.len(), Instant::now())
    };
    assert!(damaged > 0, "there was noise");
    road.until_answered(&all);
    let after = {
        let later = &road.line.state().asked[asked..];
        let last = later.last().map(|asked| asked.at.duration_since(ended)).unwrap_or_default();
        format!("{} requests and {} ms", later.len(), last.as_millis())
    };
    let answered = road.line.state().asked.iter().filter(|asked| asked.answered.is_some()).count();
    let right = road.until_right(answered / 2);
    let undetected = road.line.state().undetected;
    assert_eq!(undetected, 0, "a damaged frame had a right check sum: the run says nothing");
    println!(
        "FIGURE modbus noise: {damaged} frames damaged among {asked} requests, {right} samples arrived, none wrong; \
         {after} until all {UNITS} units had answered again"
    );
}

#[test]
fn a_port_replugged_in_the_middle_of_a_frame_is_read_on() {
    let rounds: u64 = asked_for("TIDEGATE_TEST_ROUNDS", 10);
    // Ten times as fast: a second between attempts to open is the longest wait here.
    let mut road = Road::new(5, "timeout = \"3s\"\nquarantine = \"3s\"", 10, |_| {});
    road.until_answered(&ALL);
    for round in 1..=rounds {
        road.line.unplug();
        until("it was unplugged", PATIENCE, || {
            road.gateway.assert_alive();
            (road.line.state().unplugged == round).then_some(())
        });
        road.until_answered(&[1]);
    }
    road.until_answered(&ALL);
    let right = road.until_right(usize::try_from(rounds).unwrap());
    println!("FIGURE modbus replug: {rounds} times in the middle of a frame, {right} samples, none wrong");
    assert!(road.gateway.terminate().success());
}
