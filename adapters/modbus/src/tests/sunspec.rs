//! SunSpec devices: found, remembered, found again elsewhere.

use super::{Slave, config, devices, next_of, offline, presence};
use crate::{
    Modbus,
    sunspec::{END, MARKER},
    tests::slave::{Ask, Reply},
};
use adapter_api::{
    Health, Presence, Quality, Value,
    testkit::{Rig, run, wait_for},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

#[derive(Clone, Default)]
struct Device(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    words: BTreeMap<u16, u16>,
    /// It does not answer.
    silent: bool,
    /// From here on it does not refuse registers that it lacks: it is silent.
    silent_from: Option<u16>,
}

impl Device {
    /// A chain of models at this base; an inverter has so many watts.
    fn becomes(&self, base: u16, models: &[u16], watts: u16) {
        let mut words = MARKER.to_vec();
        for model in models {
            let begin = words.len();
            words.extend([*model, 50]);
            words.extend([0; 50]);
            words[begin + 14] = watts;
        }
        words.extend([END, 0]);
        self.0.lock().unwrap().words = (base..).zip(words).collect();
    }

    fn is_silent(&self, silent: bool) {
        self.0.lock().unwrap().silent = silent;
    }

    async fn start(&self) -> Slave {
        let device = self.clone();
        Slave::start(move |ask| device.reply(ask)).await
    }

    fn reply(&self, ask: Ask) -> Reply {
        let State { words, silent, silent_from } = &*self.0.lock().unwrap();
        let asked = ask.start..=ask.start + (ask.quantity - 1);
        let words: Option<Vec<u16>> = asked.map(|at| words.get(&at).copied()).collect();
        match words {
            _ if *silent => Reply::Silence,
            Some(words) => Reply::Words(words),
            None if silent_from.is_some_and(|from| ask.start >= from) => Reply::Silence,
            None => Reply::Exception(2),
        }
    }
}

fn start(slave: &Slave, more: &str) -> Rig<Modbus> {
    let device = format!("host = '{}'\nperiod = '20ms'\nprofile = 'sunspec'\n{more}", slave.address);
    Rig::start(config("timeout = '200ms'"), devices([("pv", toml::from_str(&device).unwrap())]))
}

/// The next reading of the inverter's power, committed.
async fn power(rig: &mut Rig<Modbus>) -> (Value, Quality) {
    let submission = next_of(rig, "pv").await;
    let reading =
        super::readings(&submission).iter().find(|r| r.resource.as_str() == "inverter.W").unwrap().clone();
    submission.answer(Ok(()));
    (reading.value, reading.quality)
}

fn good(watts: f64) -> (Value, Quality) {
    (Value::from(watts), Quality::Good)
}

fn lacks(rig: &Rig<Modbus>, words: &str) -> bool {
    let Health::Degraded(faults) = rig.board.read().0 else { return false };
    faults.iter().any(|fault| fault.code == "TG-448" && fault.what == words)
}

fn markers(slave: &Slave) -> usize {
    slave.asked().iter().filter(|ask| (ask.start, ask.quantity) == (40_000, 2)).count()
}

#[test]
fn a_chain_is_remembered_and_looked_for_again_when_the_device_was_away() {
    run(async {
        let device = Device::default();
        device.becomes(40_000, &[120, 103], 1_000);
        let slave = device.start().await;
        let mut rig = start(&slave, "only = ['inverter.W']");
        for _ in 0..5 {
            assert_eq!(power(&mut rig).await, good(1_000.0));
        }
        assert_eq!(markers(&slave), 1, "walked once");
        // Another firmware: what was the inverter's block is another model's now.
        device.is_silent(true);
        wait_for("it is away", || matches!(presence(&rig.board, "pv"), Some(Presence::Offline(_)))).await;
        device.becomes(40_000, &[103, 120], 2_000);
        device.is_silent(false);
        // What was taken before the silence is still on its way.
        let mut values = Vec::new();
        while values.last() != Some(&good(2_000.0)) {
            values.push(power(&mut rig).await);
        }
        values.dedup();
        assert!(
            [&[good(1_000.0), good(2_000.0)][..], &[good(2_000.0)]].contains(&values.as_slice()),
            "{values:?}"
        );
        assert_eq!(rig.board.read().0, Health::Up);
        rig.stop().await;
    });
}

#[test]
fn a_chain_that_moves_under_way_gives_no_wrong_value() {
    run(async {
        let device = Device::default();
        device.becomes(40_000, &[120, 103], 1_000);
        let slave = device.start().await;
        let mut rig = start(&slave, "only = ['inverter.W']");
        assert_eq!(power(&mut rig).await, good(1_000.0));
        device.becomes(40_000, &[103, 120], 2_000);
        let mut told = false;
        loop {
            match power(&mut rig).await {
                (Value::None, Quality::Bad(why)) => {
                    assert!(why.contains("looked for again"), "{why}");
                    told = true;
                }
                value if value == good(2_000.0) => break,
                value => assert_eq!(value, good(1_000.0)),
            }
        }
        assert!(told, "the registers of the old place were read once more");
        rig.stop().await;
    });
}

#[test]
fn without_a_chain_the_rest_is_read_and_the_lack_is_told() {
    run(async {
        let device = Device::default();
        device.becomes(7, &[], 0);
        let slave = device.start().await;
        let mut rig = start(&slave, "resources.u = { register = 'holding:7', type = 'u16' }");
        let first = next_of(&mut rig, "pv").await;
        assert_eq!(super::values(&first), [("u".to_owned(), Value::Int(i64::from(MARKER[0])))]);
        first.answer(Ok(()));
        wait_for("it is told", || lacks(&rig, "the device has no SunSpec models at 40000, 50000 or 0")).await;
        // It is switched on in the device's settings.
        device.becomes(50_000, &[103], 3_000);
        loop {
            let submission = next_of(&mut rig, "pv").await;
            let found = super::readings(&submission).iter().any(|r| r.value == Value::from(3_000.0));
            submission.answer(Ok(()));
            if found {
                break;
            }
        }
        rig.stop().await;
    });
}

#[test]
fn points_the_device_lacks_are_named() {
    run(async {
        let device = Device::default();
        device.becomes(0, &[103], 1_000);
        let slave = device.start().await;
        let mut rig = start(&slave, "only = ['inverter.W', 'meter.W']");
        assert_eq!(power(&mut rig).await, good(1_000.0));
        wait_for("it is told", || lacks(&rig, "the device has no meter.W")).await;
        rig.stop().await;
    });
}

#[test]
fn a_chain_that_moves_to_another_base_is_found_there() {
    run(async {
        let device = Device::default();
        device.becomes(40_000, &[120, 103], 1_000);
        let slave = device.start().await;
        let mut rig = start(&slave, "only = ['inverter.W']");
        assert_eq!(power(&mut rig).await, good(1_000.0));
        device.becomes(50_000, &[103], 2_000);
        loop {
            match power(&mut rig).await {
                (Value::None, Quality::Bad(why)) => assert!(why.contains("illegal data address"), "{why}"),
                value if value == good(2_000.0) => break,
                value => assert_eq!(value, good(1_000.0)),
            }
        }
        rig.stop().await;
    });
}

#[test]
fn a_device_that_is_silent_at_the_first_base_is_found_at_the_next() {
    run(async {
        for framing in ["tcp", "rtu"] {
            let device = Device::default();
            device.becomes(50_000, &[103], 1_000);
            device.0.lock().unwrap().silent_from = Some(0);
            let script = device.clone();
            let slave = match framing {
                "tcp" => Slave::start(move |ask| script.reply(ask)).await,
                _ => Slave::start_rtu(move |ask| script.reply(ask)).await,
            };
            let text = format!(
                "host = '{}'\nperiod = '20ms'\nprofile = 'sunspec'\nonly = ['inverter.W']",
                slave.address
            );
            let adapter = config(&format!("framing = '{framing}'\ntimeout = '100ms'"));
            let mut rig = Rig::start(adapter, devices([("pv", toml::from_str(&text).unwrap())]));
            assert_eq!(power(&mut rig).await, good(1_000.0), "{framing}");
            let starts: Vec<u16> = slave.asked().iter().map(|ask| ask.start).take(5).collect();
            assert_eq!(starts, [40_000, 50_000, 50_002, 50_054, 50_002], "{framing}");
            wait_for("it is there", || presence(&rig.board, "pv") == Some(Presence::Online)).await;
            assert_eq!(rig.board.read().0, Health::Up, "{framing}");
            rig.stop().await;
        }
    });
}

#[test]
fn plain_registers_of_a_device_that_is_silent_at_all_bases_are_read() {
    run(async {
        // In one group with what is looked for, and in another one.
        for period in ["20ms", "50ms"] {
            let device = Device::default();
            device.0.lock().unwrap().words.insert(7, 5);
            device.0.lock().unwrap().silent_from = Some(0);
            let slave = device.start().await;
            let resource =
                format!("resources.u = {{ register = 'holding:7', type = 'u16', period = '{period}' }}");
            let mut rig = start(&slave, &resource);
            for _ in 0..4 {
                let submission = next_of(&mut rig, "pv").await;
                assert_eq!(super::values(&submission), [("u".to_owned(), Value::Int(5))], "{period}");
                submission.answer(Ok(()));
                assert!(!offline(&rig.board, "pv", ""), "{period}");
            }
            rig.stop().await;
        }
    });
}

#[test]
fn a_device_that_is_silent_everywhere_is_away() {
    run(async {
        let device = Device::default();
        device.is_silent(true);
        let slave = device.start().await;
        let rig = start(&slave, "");
        wait_for("it is away", || offline(&rig.board, "pv", "gives no answer")).await;
        let starts: Vec<u16> = slave.asked().iter().map(|ask| ask.start).take(3).collect();
        assert_eq!(starts, [40_000, 50_000, 0]);
        rig.stop().await;
    });
}
