//! Several connections to one host, and devices that are asked in their own manner.

use super::{Ask, Reply, Slave, config, device, devices, name, next_of, offline, values};
use crate::{Device, Modbus};
use adapter_api::{
    Board, Value,
    clock::now,
    testkit::{Rig, run, wait_for},
};
use std::{collections::BTreeMap, time::Duration};

#[test]
fn the_units_of_a_host_are_polled_beside_each_other() {
    run(async {
        // Whatever is asked of unit 1 is never answered: the units on the other connection notice nothing.
        let slave =
            Slave::start(|ask: Ask| if ask.unit == 1 { Reply::Silence } else { Reply::Addresses }).await;
        let at = slave.address;
        let mut rig = Rig::<Modbus>::start(
            config("connections = 2\ntimeout = '1h'"),
            devices([1, 2, 3, 4].map(|unit| {
                (["a", "b", "c", "d"][usize::from(unit) - 1], device(at, unit, "20ms", &[u16::from(unit)]))
            })),
        );
        for _ in 0..10 {
            next_of(&mut rig, "b").await.answer(Ok(()));
            next_of(&mut rig, "d").await.answer(Ok(()));
        }
        let mut units: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for ask in slave.asked() {
            let on_it = units.entry(ask.connection).or_default();
            if !on_it.contains(&ask.unit) {
                on_it.push(ask.unit);
            }
        }
        let mut units: Vec<Vec<u8>> = units.into_values().collect();
        units.sort();
        assert_eq!(units, [vec![1], vec![2, 4]], "unit 3 waits behind unit 1");
        rig.stop().await;
    });
}

#[test]
fn a_device_has_a_time_out_of_its_own() {
    run(async {
        let slave = Slave::start(|ask: Ask| match ask.unit {
            1 => Reply::Silence,
            _ => Reply::Late(Duration::from_millis(150)),
        })
        .await;
        let quick = format!("host = '{}'\nunit = 1\nperiod = '20ms'\ntimeout = '70ms'\n", slave.address)
            + "resources.u = { register = 'holding:0', type = 'u16' }";
        let quick: Device = toml::from_str(&quick).unwrap();
        let slow = device(slave.address, 2, "20ms", &[7]);
        let mut rig =
            Rig::<Modbus>::start(config("timeout = '10s'"), devices([("quick", quick), ("slow", slow)]));
        next_of(&mut rig, "slow").await.answer(Ok(()));
        rig.until("silent", |board: &Board| offline(board, "quick", "no answer within 70ms")).await;
        assert!(!offline(&rig.board, "slow", ""));
        rig.stop().await;
    });
}

#[test]
fn a_device_is_asked_for_no_more_than_it_can() {
    run(async {
        let slave = Slave::start(|ask: Ask| match ask.quantity {
            ..=10 => Reply::Addresses,
            _ => Reply::Exception(3),
        })
        .await;
        let text = format!("host = '{}'\nperiod = '20ms'\nmax_registers = 10\nmax_hole = 3\n", slave.address)
            + "[resources]\n";
        let text = (0..20_u16).fold(text, |text, n| {
            text + &format!("r{n} = {{ register = 'holding:{}', type = 'u16' }}\n", 3 * n)
        });
        let mut rig = Rig::<Modbus>::start(config(""), devices([("m", toml::from_str(&text).unwrap())]));
        next_of(&mut rig, "m").await.answer(Ok(()));
        wait_for("a round", || slave.asked().len() >= 5).await;
        let asked: Vec<_> = slave.asked().iter().take(5).map(|ask| (ask.start, ask.quantity)).collect();
        assert_eq!(asked, [(0, 10), (12, 10), (24, 10), (36, 10), (48, 10)]);
        assert!(rig.board.read().1.contains_key(&name("m")));
        rig.stop().await;
    });
}

#[test]
fn a_device_that_needs_a_pause_between_requests_has_it() {
    run(async {
        let mut free = now();
        let slave = Slave::start(move |_| {
            let early = now() < free;
            free = now() + Duration::from_millis(30);
            if early { Reply::Exception(6) } else { Reply::Addresses }
        })
        .await;
        let text = format!("host = '{}'\nperiod = '20ms'\ngap = '40ms'\nmax_hole = 0\n", slave.address)
            + "[resources]\na = { register = 'holding:1', type = 'u16' }\n\
               b = { register = 'holding:3', type = 'u16' }\nc = { register = 'coil:3' }";
        let mut rig = Rig::<Modbus>::start(config(""), devices([("m", toml::from_str(&text).unwrap())]));
        for _ in 0..5 {
            let sample = next_of(&mut rig, "m").await;
            assert_eq!(
                values(&sample).into_iter().map(|(_, value)| value).collect::<Vec<_>>(),
                [Value::Int(1), Value::Int(3), Value::Bool(true)]
            );
            sample.answer(Ok(()));
        }
        rig.stop().await;
    });
}
