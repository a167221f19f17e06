//! The whole adapter against a real TCP server, and the contract kit.

mod alone;
mod converter;
mod outside;
mod profiles;
mod slave;
mod sunspec;
mod tools;
mod wires;

use crate::{Config, Device, Modbus};
use adapter_api::{
    Board, Devices, EndpointName, Health, Offer, Presence, Quality, Quota, Reading, Refused, Submission,
    Urgency, Value,
    clock::{now, sleep, timeout},
    testkit::{Answers, Field, Rig, contract, run, wait_for},
};
use slave::{Ask, Reply, Slave};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

fn name(text: &str) -> EndpointName {
    EndpointName::new(text).unwrap()
}

fn config(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

/// A device with holding registers, each of them a resource `rN`.
fn device(at: SocketAddr, unit: u8, period: &str, registers: &[u16]) -> Device {
    let mut text = format!("host = '{at}'\nunit = {unit}\nperiod = '{period}'\nmax_hole = 0\n[resources]\n");
    for n in registers {
        text += &format!("r{n:05} = {{ register = 'holding:{n}', type = 'u16' }}\n");
    }
    toml::from_str(&text).unwrap()
}

fn devices<const N: usize>(devices: [(&str, Device); N]) -> Devices<Device> {
    devices.into_iter().map(|(endpoint, device)| (name(endpoint), device)).collect()
}

fn readings(submission: &Submission) -> &[Reading] {
    let Offer::Samples(samples) = &submission.offer else { panic!("{submission:?}") };
    assert_eq!(samples.len(), 1, "one poll is one sample");
    &samples[0].readings
}

fn values(submission: &Submission) -> Vec<(String, Value)> {
    readings(submission).iter().map(|r| (r.resource.to_string(), r.value.clone())).collect()
}

fn presence(board: &Board, endpoint: &str) -> Option<Presence> {
    board.read().1.get(endpoint).cloned()
}

fn offline(board: &Board, endpoint: &str, words: &str) -> bool {
    matches!(presence(board, endpoint), Some(Presence::Offline(fault)) if fault.what.contains(words))
}

/// The next sample of this endpoint; what comes from others is committed.
async fn next_of(rig: &mut Rig<Modbus>, endpoint: &str) -> Submission {
    loop {
        let submission = rig.store.next().await;
        if submission.endpoint.as_str() == endpoint {
            return submission;
        }
        submission.answer(Ok(()));
    }
}

struct Meters(Option<Slave>);

impl Field for Meters {
    type Adapter = Modbus;
    const OUTSTANDING: usize = 8;

    async fn arrange(&mut self) -> (Config, Devices<Device>) {
        let slave = self.0.insert(Slave::start(|_| Reply::Addresses).await);
        let meters =
            [1, 2].map(|unit| (name(&format!("m-{unit}")), device(slave.address, unit, "20ms", &[7])));
        (config(""), meters.into())
    }

    async fn play(&mut self, _: Answers) {}
}

#[test]
fn it_keeps_the_contract() {
    contract(|| Meters(None));
}

#[test]
fn one_poll_is_one_sample_of_all_tables_and_types() {
    run(async {
        let slave = Slave::start(|ask| match ask.function {
            3 => Reply::Words(vec![0x42F6, 0xE979, 2_301, 0b1000][..usize::from(ask.quantity)].to_vec()),
            _ => Reply::Addresses,
        })
        .await;
        let text = format!(
            "host = '{}'\nunit = 9\nperiod = '10m'\nmax_hole = 0\n[resources]\n\
             a = {{ register = 'holding:0', type = 'f32' }}\n\
             b = {{ register = 'holding:2', type = 'i16', scale = 0.1 }}\n\
             c = {{ register = 'holding:3', bit = 3 }}\n\
             d = {{ register = 'holding:3', bit = 2 }}\n\
             e = {{ register = 'input:65535', type = 'u16' }}\n\
             f = {{ register = 'coil:10' }}\n\
             g = {{ register = 'coil:11' }}\n\
             h = {{ register = 'discrete:5' }}\n\
             i = {{ register = 'input:5', type = 'u32', order = 'CDAB', period = '20m' }}\n",
            slave.address
        );
        let mut rig = Rig::<Modbus>::start(config(""), devices([("m", toml::from_str(&text).unwrap())]));
        let expected = [
            ("a", Value::from(123.456)),
            ("b", Value::from(230.1)),
            ("c", Value::Bool(true)),
            ("d", Value::Bool(false)),
            ("e", Value::Int(65_535)),
            ("f", Value::Bool(false)),
            ("g", Value::Bool(true)),
            ("h", Value::Bool(true)),
        ];
        let first = rig.store.next().await;
        assert_eq!(values(&first), expected.map(|(name, value)| (name.to_owned(), value)));
        let second = rig.store.next().await;
        assert_eq!(values(&second), [("i".to_owned(), Value::Int((6 << 16) + 5))]);
        let asked: Vec<_> = slave.asked().iter().map(|a| (a.unit, a.function, a.start, a.quantity)).collect();
        assert_eq!(asked, [(9, 1, 10, 2), (9, 2, 5, 1), (9, 3, 0, 4), (9, 4, 65_535, 1), (9, 4, 5, 2)]);
        assert_eq!(rig.board.read(), (Health::Up, BTreeMap::from([(name("m"), Presence::Online)])));
        rig.store.held.extend([first, second]);
        rig.store.answer_held(Ok(()));
        rig.stop().await;
    });
}

#[test]
fn a_late_answer_never_becomes_another_registers_value() {
    run(async {
        let mut late = 2;
        let slave = Slave::start(move |ask: Ask| match ask.unit {
            1 if late > 0 => {
                late -= 1;
                Reply::Late(Duration::from_millis(150))
            }
            _ => Reply::Addresses,
        })
        .await;
        let at = slave.address;
        let slow = device(at, 1, "50ms", &[1_010, 2_020]);
        let mut rig = Rig::<Modbus>::start(
            config("timeout = '100ms'"),
            devices([("slow", slow), ("quick", device(at, 2, "20ms", &[30]))]),
        );
        // Every value of both devices is its register's own, over the time-outs and the recovery.
        let (mut slow, mut quick) = (0, 0);
        while slow < 5 {
            let submission = rig.store.next().await;
            for (name, value) in values(&submission) {
                let register: i64 = name.strip_prefix('r').unwrap().parse().unwrap();
                assert_eq!(value, Value::Int(register));
            }
            *(if submission.endpoint.as_str() == "slow" { &mut slow } else { &mut quick }) += 1;
            submission.answer(Ok(()));
        }
        assert!(quick > slow);
        let asked = slave.asked();
        let timed_out: Vec<usize> =
            asked.iter().filter(|a| a.unit == 1).map(|a| a.connection).take(2).collect();
        for connection in timed_out {
            let last = asked.iter().rfind(|a| a.connection == connection).unwrap();
            assert_eq!(last.unit, 1, "nothing more is asked on a connection that had a time-out");
        }
        rig.stop().await;
    });
}

/// The first reply is wrong, the device goes offline for this reason, and a new connection brings it back.
fn check_recovery(first: impl Fn() -> Reply + Send + 'static, words: &'static str) {
    run(async move {
        let mut asked = 0;
        let slave = Slave::start(move |_| {
            asked += 1;
            if asked == 1 { first() } else { Reply::Addresses }
        })
        .await;
        let mut rig = Rig::<Modbus>::start(
            config("timeout = '100ms'"),
            devices([("m", device(slave.address, 1, "20ms", &[5]))]),
        );
        rig.until(words, |board| offline(board, "m", words)).await;
        assert!(
            matches!(rig.board.read().0, Health::Degraded(faults) if faults[0].place.contains("endpoint m: unit 1 at"))
        );
        let sample = rig.store.next().await;
        assert_eq!(values(&sample), [("r00005".to_owned(), Value::Int(5))]);
        assert_eq!(presence(&rig.board, "m"), Some(Presence::Online));
        assert_eq!(rig.board.read().0, Health::Up);
        sample.answer(Ok(()));
        let connections: Vec<_> = slave.asked().iter().map(|a| a.connection).take(2).collect();
        assert_eq!(connections, [0, 1], "the connection was dropped");
        rig.stop().await;
    });
}

#[test]
fn a_mismatch_or_a_loss_drops_the_connection() {
    check_recovery(|| Reply::WrongTransaction, "no answer within 100ms");
    check_recovery(|| Reply::Words(vec![1, 2, 3]), "does not fit");
    check_recovery(|| Reply::Words(vec![]), "does not fit");
    check_recovery(|| Reply::Hangup, "lost");
    check_recovery(|| Reply::Silence, "no answer within 100ms");
}

#[test]
fn a_connection_closed_for_idleness_costs_no_sample() {
    run(async {
        let mut asked = 0;
        let slave = Slave::start(move |_| {
            asked += 1;
            if asked % 2 == 0 { Reply::Hangup } else { Reply::Addresses }
        })
        .await;
        let meter = device(slave.address, 1, "50ms", &[5]);
        let mut rig = Rig::<Modbus>::start(config(""), devices([("m", meter)]));
        let start = now();
        for _ in 0..5 {
            rig.store.next().await.answer(Ok(()));
            assert_eq!(presence(&rig.board, "m"), Some(Presence::Online));
        }
        assert!(now().since(start) < Duration::from_millis(900), "no back-off in between");
        rig.stop().await;
    });
}

#[test]
fn a_missing_register_spoils_only_its_own_reading() {
    run(async {
        let slave = Slave::start(|ask: Ask| {
            let missing = (ask.start..ask.start + ask.quantity).contains(&17);
            if missing { Reply::Exception(2) } else { Reply::Addresses }
        })
        .await;
        let registers: Vec<u16> = (0..100).collect();
        let mut rig =
            Rig::<Modbus>::start(config(""), devices([("m", device(slave.address, 1, "20ms", &registers))]));
        let mut requests = Vec::new();
        for _ in 0..2 {
            let sample = rig.store.next().await;
            for (n, reading) in readings(&sample).iter().enumerate() {
                if n == 17 {
                    let why = Quality::Bad("illegal data address (exception 02)".to_owned());
                    assert_eq!((&reading.value, &reading.quality), (&Value::None, &why));
                } else {
                    assert_eq!(reading.value, Value::Int(i64::try_from(n).unwrap()));
                }
            }
            assert_eq!(readings(&sample).len(), 100);
            sample.answer(Ok(()));
            requests.push(slave.asked().len());
        }
        assert!(requests[0] >= 8, "the block is halved: {requests:?}");
        assert!(requests[1] - requests[0] <= 7 + 7, "and that is remembered: {requests:?}");
        assert_eq!(presence(&rig.board, "m"), Some(Presence::Online), "a device that refuses answers");
        assert!(slave.asked().iter().all(|a| a.connection == 0), "a refusal is no reason to reconnect");
        rig.stop().await;
    });
}

/// Two registers of which the second one is missing, and one lost answer.
fn lacking(lost: usize) -> impl FnMut(Ask) -> Reply + Send + 'static {
    let mut asked = 0;
    move |ask: Ask| {
        asked += 1;
        match ask.start + ask.quantity {
            _ if asked == lost => Reply::Silence,
            2 => Reply::Exception(2),
            _ => Reply::Addresses,
        }
    }
}

#[test]
fn one_lost_answer_does_not_make_a_device_another_one() {
    run(async {
        let slave = Slave::start(lacking(4)).await;
        let meter = device(slave.address, 1, "20ms", &[0, 1]);
        let mut rig = Rig::<Modbus>::start(config("timeout = '100ms'"), devices([("m", meter)]));
        while slave.asked().len() < 8 {
            rig.store.next().await.answer(Ok(()));
        }
        let quantities: Vec<_> = slave.asked().iter().map(|a| a.quantity).take(8).collect();
        assert_eq!(quantities, [2, 1, 1, 1, 1, 1, 1, 1], "what it lacks is not asked for again");
        rig.stop().await;
    });
}

#[test]
fn a_device_that_came_back_is_asked_as_if_it_were_new() {
    run(async {
        let slave = Slave::start(lacking(0)).await;
        let at = slave.address;
        let meter = device(at, 1, "20ms", &[0, 1]);
        let mut rig = Rig::<Modbus>::start(config("timeout = '100ms'"), devices([("m", meter)]));
        rig.store.next().await.answer(Ok(()));
        drop(slave);
        rig.until("gone", |board| offline(board, "m", "refused")).await;
        let slave = Slave::start_at(&at.to_string(), |_| Reply::Addresses).await;
        while slave.asked().len() < 4 {
            rig.store.next().await.answer(Ok(()));
        }
        // The first one is still without what was missing before.
        let quantities: Vec<_> = slave.asked().iter().map(|a| a.quantity).take(4).collect();
        assert_eq!(quantities, [1, 2, 2, 2]);
        rig.stop().await;
    });
}

/// A device that says nothing to requests for what it does not have.
fn mute_from_500(ask: Ask) -> Reply {
    if ask.start + ask.quantity > 500 { Reply::Silence } else { Reply::Addresses }
}

#[test]
fn a_range_without_an_answer_spoils_only_its_own_readings() {
    run(async {
        let slave = Slave::start(mute_from_500).await;
        let meter = device(slave.address, 1, "20ms", &[3, 500]);
        let mut rig = Rig::<Modbus>::start(config("timeout = '60ms'"), devices([("m", meter)]));
        let sample = rig.store.next().await;
        let why = Quality::Bad("the device gives no answer within 60ms".to_owned());
        assert_eq!(readings(&sample)[0].value, Value::Int(3));
        assert_eq!((&readings(&sample)[1].value, &readings(&sample)[1].quality), (&Value::None, &why));
        sample.answer(Ok(()));
        assert_eq!(presence(&rig.board, "m"), Some(Presence::Online), "it answers");
        rig.stop().await;
    });
}

#[test]
fn a_range_without_an_answer_does_not_keep_the_device_from_being_read() {
    run(async {
        let slave = Slave::start(mute_from_500).await;
        let mut meter = device(slave.address, 1, "20ms", &[3]);
        let other = device(slave.address, 1, "20ms", &[500, 501]);
        meter.resources.extend(other.resources.into_iter().map(|(name, mut register)| {
            register.period = Some("30ms".parse().unwrap());
            (name, register)
        }));
        let mut rig = Rig::<Modbus>::start(config("timeout = '60ms'"), devices([("m", meter)]));
        let told = |health: Health| matches!(health, Health::Degraded(faults) if faults[0].code == "TG-449");
        while !told(rig.board.read().0) {
            rig.store.next().await.answer(Ok(()));
        }
        let mut good = 0;
        while good < 20 {
            let sample = rig.store.next().await;
            good += usize::from(values(&sample) == [("r00003".to_owned(), Value::Int(3))]);
            sample.answer(Ok(()));
        }
        rig.stop().await;
    });
}

#[test]
fn another_exception_makes_the_block_bad_and_leaves_the_rest() {
    run(async {
        let slave =
            Slave::start(|ask: Ask| if ask.start == 0 { Reply::Exception(6) } else { Reply::Addresses })
                .await;
        let meter = device(slave.address, 1, "10m", &[0, 1, 10]);
        let mut rig = Rig::<Modbus>::start(config(""), devices([("m", meter)]));
        let sample = rig.store.next().await;
        let bad = Quality::Bad("device busy (exception 06)".to_owned());
        let qualities: Vec<_> = readings(&sample).iter().map(|r| &r.quality).collect();
        assert_eq!(qualities, [&bad, &bad, &Quality::Good]);
        assert_eq!(slave.asked().len(), 2, "a busy device is not asked in pieces");
        rig.stop().await;
    });
}

#[test]
fn a_unit_its_gateway_cannot_reach_is_offline_and_the_connection_stays() {
    run(async {
        let slave =
            Slave::start(|ask: Ask| if ask.unit == 1 { Reply::Exception(11) } else { Reply::Addresses })
                .await;
        let at = slave.address;
        let mut rig = Rig::<Modbus>::start(
            config(""),
            devices([("gone", device(at, 1, "20ms", &[1])), ("here", device(at, 2, "20ms", &[2]))]),
        );
        for _ in 0..20 {
            let sample = rig.store.next().await;
            assert_eq!(sample.endpoint.as_str(), "here", "no sample of what did not answer");
            sample.answer(Ok(()));
        }
        assert!(offline(&rig.board, "gone", "gateway"));
        assert!(slave.asked().iter().all(|a| a.connection == 0));
        assert!(slave.asked().iter().filter(|a| a.unit == 1).count() <= 3);
        rig.stop().await;
    });
}

#[test]
fn a_dead_host_delays_no_other_and_comes_back() {
    run(async {
        let slave = Slave::start(|_| Reply::Addresses).await;
        // Bound and dropped: nobody listens there any more.
        let dead = Slave::start(|_| Reply::Addresses).await.address;
        // Listens, but nobody accepts and nobody answers.
        let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut rig = Rig::<Modbus>::start(
            config(""),
            devices([
                ("dead", device(dead, 1, "20ms", &[1])),
                ("deaf", device(deaf.local_addr().unwrap(), 1, "20ms", &[1])),
                ("live", device(slave.address, 1, "20ms", &[1])),
            ]),
        );
        let start = now();
        for _ in 0..30 {
            let sample = rig.store.next().await;
            assert_eq!(sample.endpoint.as_str(), "live");
            sample.answer(Ok(()));
        }
        let took = now().since(start);
        assert!(took < Duration::from_millis(1_500), "30 polls of 20 ms took {took:?}");
        rig.until("refused", |board| offline(board, "dead", "the connection was refused")).await;
        let _back = Slave::start_at(&dead.to_string(), |_| Reply::Addresses).await;
        next_of(&mut rig, "dead").await.answer(Ok(()));
        assert_eq!(presence(&rig.board, "dead"), Some(Presence::Online));
        rig.stop().await;
    });
}

#[test]
fn at_most_eight_samples_per_connection_are_outstanding() {
    run(async {
        let slave = Slave::start(|_| Reply::Addresses).await;
        let mut rig =
            Rig::<Modbus>::start(config(""), devices([("m", device(slave.address, 1, "10ms", &[1]))]));
        rig.store.hold_until_quiet().await;
        assert_eq!(rig.store.held.len(), 8);
        assert_eq!(slave.asked().len(), 8, "nothing is read that cannot be handed in");
        // Polling must not wait for the store's own time: the sample that fills the room asks for a commit.
        let urgent: Vec<bool> = rig.store.held.iter().map(|held| held.urgency == Urgency::Urgent).collect();
        assert_eq!(urgent, [false, false, false, false, false, false, false, true]);
        rig.store.held.pop_front().unwrap().answer(Ok(()));
        rig.store.hold_until_quiet().await;
        assert_eq!(rig.store.held.len(), 8, "one receipt, one more sample");
        rig.store.answer_held(Err(Refused::Full));
        rig.until(
            "a full store",
            |board| matches!(board.read().0, Health::Degraded(faults) if faults[0].code == "TG-422"),
        )
        .await;
        for _ in 0..9 {
            rig.store.next().await.answer(Ok(()));
        }
        rig.until("works again", |board| board.read().0 == Health::Up).await;
        rig.stop().await;
    });
}

#[test]
fn the_shutdown_finishes_the_request_in_the_wire_and_waits_for_the_receipts() {
    run(async {
        let slave = Slave::start(|_| Reply::Late(Duration::from_millis(200))).await;
        let mut rig =
            Rig::<Modbus>::start(config(""), devices([("m", device(slave.address, 1, "10m", &[5]))]));
        wait_for("asked", || slave.asked().len() == 1).await;
        rig.shut_down();
        let sample = rig.store.next().await;
        assert_eq!(values(&sample), [("r00005".to_owned(), Value::Int(5))]);
        sleep(Duration::from_millis(100)).await;
        rig.assert_running();
        sample.answer(Ok(()));
        let start = now();
        rig.stop().await;
        assert!(now().since(start) < Duration::from_millis(500), "nothing left to wait for");
    });
}

#[test]
fn the_shutdown_does_not_wait_for_a_device_that_says_nothing() {
    run(async {
        let slave = Slave::start(|_| Reply::Silence).await;
        let meter = device(slave.address, 1, "10m", &[5]);
        let rig = Rig::<Modbus>::start(config("timeout = '1h'"), devices([("m", meter)]));
        wait_for("asked", || slave.asked().len() == 1).await;
        let start = now();
        rig.stop().await;
        assert!(now().since(start) < Duration::from_millis(1_500), "it ends by itself, not by being cut off");
    });
}

#[test]
fn devices_change_live_without_a_new_connection() {
    run(async {
        let slave = Slave::start(|_| Reply::Addresses).await;
        let other = Slave::start(|_| Reply::Addresses).await;
        let at = slave.address;
        let stays = device(at, 1, "20ms", &[1]);
        let mut rig = Rig::<Modbus>::start(
            config(""),
            devices([
                ("stays", stays.clone()),
                ("goes", device(at, 2, "20ms", &[2])),
                ("moves", device(at, 3, "20ms", &[3])),
            ]),
        );
        for endpoint in ["stays", "goes", "moves"] {
            next_of(&mut rig, endpoint).await.answer(Ok(()));
        }
        let changed = devices([
            ("stays", stays),
            ("moves", device(other.address, 3, "20ms", &[33])),
            ("comes", device(at, 4, "20ms", &[4])),
        ]);
        rig.devices.send_replace(changed.into());
        next_of(&mut rig, "comes").await.answer(Ok(()));
        wait_for("the moved one is read at its new place", || !other.asked().is_empty()).await;
        assert_eq!(other.asked()[0].start, 33);
        let mark = slave.asked().len();
        for _ in 0..10 {
            next_of(&mut rig, "stays").await.answer(Ok(()));
        }
        assert!(
            slave.asked()[mark..].iter().all(|a| [1, 4].contains(&a.unit)),
            "{:?}",
            &slave.asked()[mark..]
        );
        assert!(slave.asked().iter().all(|a| a.connection == 0), "the connection was not touched");
        let known: Vec<_> = rig.board.read().1.into_keys().map(String::from).collect();
        assert_eq!(known, ["comes", "moves", "stays"]);
        rig.devices.send_replace(devices([]).into());
        rig.until("all are forgotten", |board| board.read().1.is_empty()).await;
        while let Ok(submission) = timeout(Duration::from_millis(300), rig.store.next()).await {
            submission.answer(Err(Refused::Unknown));
        }
        rig.until("no complaint is left", |board| board.read().0 == Health::Up).await;
        rig.stop().await;
    });
}

#[test]
fn while_the_store_is_full_nothing_is_asked_and_then_no_poll_is_made_up_for() {
    run(async {
        let slave = Slave::start(|_| Reply::Addresses).await;
        let at = slave.address;
        let mut rig = Rig::<Modbus>::start(
            config(""),
            devices([("m", device(at, 1, "20ms", &[1])), ("slow", device(at, 2, "10m", &[1]))]),
        );
        for endpoint in ["m", "slow"] {
            next_of(&mut rig, endpoint).await.answer(Ok(()));
        }
        rig.store.full.send_replace(true);
        rig.store.answer_until_quiet(Ok(())).await;
        let suspended = |health: &Health| matches!(health, Health::Degraded(faults) if faults[0].what.contains("suspended"));
        assert!(suspended(&rig.board.read().0), "{:?}", rig.board.read().0);
        let asked = slave.asked().len();
        rig.store.hold_until_quiet().await;
        assert_eq!((rig.store.held.len(), slave.asked().len()), (0, asked), "no device is asked");
        assert_eq!(presence(&rig.board, "m"), Some(Presence::Online), "it was not silent");
        rig.store.full.send_replace(false);
        for _ in 0..5 {
            let sample = rig.store.next().await;
            assert_eq!(sample.endpoint.as_str(), "m", "the other one is not due yet");
            sample.answer(Ok(()));
        }
        assert_eq!(rig.board.read().0, Health::Up);
        assert!(slave.asked().iter().all(|a| a.connection == 0));
        rig.stop().await;
    });
}

#[test]
fn an_endpoint_over_its_quota_is_read_on_and_is_not_the_adapters_fault() {
    run(async {
        let slave = Slave::start(|_| Reply::Addresses).await;
        let mut rig =
            Rig::<Modbus>::start(config(""), devices([("m", device(slave.address, 1, "20ms", &[1]))]));
        rig.store.next().await.answer(Ok(()));
        rig.until("up", |board| board.read().0 == Health::Up).await;
        for _ in 0..20 {
            rig.store.next().await.answer(Err(Refused::OverQuota(Quota::SamplesPerS)));
            assert_eq!(rig.board.read().0, Health::Up);
        }
        rig.stop().await;
    });
}
