//! What a simulated slave answers, read back by the adapter's own codec and types.

use super::{
    Slave, encode,
    request::{Garbage, Inbox},
};
use crate::{
    config,
    frame::{Echo, Exchange, Framing, crc},
    pdu::{Answer, Exception, Request},
    point::Table,
    profile::{Content, Library, Profile},
    sunspec::{Choice, Walk},
};
use adapter_api::{Quality, Reading, Resource, Value};
use proptest::prelude::*;
use std::time::Duration;

fn profile(name: &str) -> Profile {
    Library::new("/nowhere".into()).find(name).unwrap()
}

fn slave(name: &str) -> Slave {
    Slave::new(profile(name), 7)
}

/// The registers it answers with, or its exception.
fn ask(slave: &Slave, table: Table, start: u16, count: u16, age: Duration) -> Answer {
    let function = if table == Table::Holding { 3 } else { 4 };
    let [s0, s1] = start.to_be_bytes();
    let [c0, c1] = count.to_be_bytes();
    let answer = slave.answer(&[function, s0, s1, c0, c1], age);
    if answer[0] != function {
        return Answer::Refused(Exception(answer[1]));
    }
    assert_eq!(usize::from(answer[1]), 2 * usize::from(count));
    Answer::Words(answer[2..].as_chunks().0.iter().map(|word| u16::from_be_bytes(*word)).collect())
}

/// Every resource of a profile as the adapter reads it.
fn read_all(name: &str, age: Duration) -> Vec<Reading> {
    let slave = slave(name);
    let Content::Registers(entries) = profile(name).content else { panic!("{name}") };
    let readings = entries.into_iter().map(|(resource, entry)| {
        let (want, form) = config::of_profile(resource.as_str(), &entry.register).unwrap();
        match ask(&slave, want.table, want.start, want.length, age) {
            Answer::Words(words) => form.decode(resource, &words).unwrap(),
            other => panic!("{resource}: {other:?}"),
        }
    });
    readings.collect()
}

#[test]
fn every_value_of_every_profile_is_good_and_most_move() {
    for name in ["ai8", "sdm72", "sdm120", "sdm230", "sdm630"] {
        let [now, later] = [Duration::ZERO, Duration::from_secs(3_601)].map(|age| read_all(name, age));
        assert!(now.iter().chain(&later).all(|reading| reading.quality == Quality::Good), "{now:?}");
        let moved = now.iter().zip(&later).filter(|(now, later)| now.value != later.value).count();
        assert_eq!(moved, now.len(), "{name}");
        for (now, later) in now.iter().zip(&later).filter(|(now, _)| now.resource.as_str().contains("energy"))
        {
            let (Value::Float(now), Value::Float(later)) = (&now.value, &later.value) else {
                panic!("{now:?}")
            };
            assert!(later.value() > now.value(), "energy goes up");
        }
    }
}

#[test]
fn a_simulated_sunspec_device_is_walked_and_read() {
    let slave = slave("sunspec");
    let read = |request: Request| ask(&slave, request.table, request.start, request.count, Duration::ZERO);
    let mut walk = Walk::default();
    while let Some(request) = walk.poll_request() {
        walk.handle_answer(&read(request));
    }
    let models = walk.models().unwrap();
    assert_eq!(models.iter().map(|found| found.id).collect::<Vec<_>>(), [1, 103, 203]);
    let choice = Choice { only: None, period: Duration::from_secs(1) };
    let value = |name: &str| {
        let wanted =
            choice.wanted(models).into_iter().find(|wanted| wanted.resource.as_str() == name).unwrap();
        let request =
            Request { table: wanted.want.table, start: wanted.want.start, count: wanted.want.length };
        let Answer::Words(words) = read(request) else { panic!("{name}") };
        wanted.form.decode(wanted.resource, &words).unwrap().value
    };
    for (name, range) in [
        ("inverter.PhVphA", 227.0..233.0),
        ("inverter.PPVphAB", 395.0..405.0),
        ("inverter.Hz", 49.9..50.1),
        ("inverter.WH", 1_000_000.0..2_000_000.0),
        ("meter.PhVphAB", 395.0..405.0),
        ("meter.PF", 93.0..99.0),
        ("meter.TotWhImp", 1_000_000.0..2_000_000.0),
    ] {
        let Value::Float(value) = value(name) else { panic!("{name}") };
        assert!(range.contains(&value.value()), "{name}: {value:?}");
    }
    assert_eq!(value("common.Mn"), Value::from("Tidegate"));
    assert_eq!((value("common.DA"), value("inverter.St")), (Value::Int(7), Value::Int(4)));
}

#[test]
fn what_is_not_there_is_refused() {
    let slave = slave("sdm120");
    for (pdu, exception) in [
        // Half beside, all beside, at the end of the table.
        (&[4, 0, 0, 0, 3][..], 2),
        (&[4, 0, 2, 0, 2], 2),
        (&[4, 0xff, 0xff, 0, 2], 2),
        (&[3, 0, 0, 0, 2], 2),
        (&[1, 0, 0, 0, 1], 2),
        // None, more than the device's limit, a request that is too short or too long.
        (&[4, 0, 0, 0, 0], 3),
        (&[4, 0, 0, 0, 81], 3),
        (&[4, 0, 0, 0], 3),
        (&[4, 0, 0, 0, 2, 0], 3),
        (&[6, 0, 0, 0, 1], 1),
        (&[16, 0, 0, 0, 1, 2, 0, 0], 1),
        (&[0x2b, 0x0d, 1, 0], 1),
        (&[0x2b, 0x0e, 4, 3], 2),
        (&[0x2b, 0x0e, 5, 0], 3),
        (&[0x2b, 0x0e], 3),
    ] {
        assert_eq!(slave.answer(pdu, Duration::ZERO), [pdu[0] | 0x80, exception], "{pdu:x?}");
    }
    assert!(is_voltage(&ask(&slave, Table::Input, 0, 2, Duration::ZERO)));
}

/// Whether these are the registers of a single near 230.
fn is_voltage(answer: &Answer) -> bool {
    let Answer::Words(words) = answer else { return false };
    let [high, low] = words[..] else { return false };
    (227.0..233.0).contains(&f32::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[test]
fn it_says_what_it_is() {
    let slave = slave("sdm120");
    let answer = slave.answer(&[0x2b, 0x0e, 4, 0], Duration::ZERO);
    assert_eq!(answer, b"\x2b\x0e\x04\x82\x00\x00\x01\x00\x07Eastron");
    for (code, ids) in [(1, &[0_u8, 1, 2][..]), (2, &[0, 1, 2, 4, 5]), (3, &[0, 1, 2, 4, 5])] {
        // An object that is not known: from the beginning.
        let answer = slave.answer(&[0x2b, 0x0e, code, 0x77], Duration::ZERO);
        assert!(answer.len() <= 253);
        let (head, mut rest) = answer.split_at(7);
        assert_eq!(usize::from(head[6]), ids.len());
        for id in ids {
            assert_eq!(rest[0], *id);
            rest = &rest[2 + usize::from(rest[1])..];
        }
        assert_eq!(rest, [] as [u8; 0]);
    }
}

#[test]
fn the_adapters_own_frames_are_understood() {
    let slave = slave("sdm120");
    for framing in [Framing::Tcp, Framing::Rtu] {
        let request = Request { table: Table::Input, start: 0, count: 2 };
        let (mut exchange, frame) = Exchange::new(framing, Echo::default(), 0x1234, 7, request.into());
        let mut inbox = Inbox::new(framing);
        for byte in &frame[..frame.len() - 1] {
            inbox.handle_bytes(&[*byte]);
            assert_eq!(inbox.poll_request(), Ok(None));
        }
        inbox.handle_bytes(&frame[frame.len() - 1..]);
        let received = inbox.poll_request().unwrap().expect("the whole frame");
        assert_eq!((received.unit, inbox.poll_request()), (7, Ok(None)));
        let answer = received.frame(framing, &slave.answer(&received.pdu, Duration::ZERO));
        let answer = exchange.handle_bytes(&answer).unwrap();
        assert!(answer.as_ref().is_some_and(is_voltage), "{framing:?}: {answer:?}");
    }
}

#[test]
fn on_a_line_noise_and_others_are_passed_over() {
    let mut inbox = Inbox::new(Framing::Rtu);
    let rtu = |adu: &[u8]| [adu, &crc(adu).to_le_bytes()].concat();
    inbox.handle_bytes(&[0x07, 0x04, 0x00, 0xff]);
    inbox.handle_bytes(&rtu(&[9, 4, 4, 1, 2, 3, 4]));
    inbox.handle_bytes(&rtu(&[7, 4, 0, 0, 0, 2]));
    inbox.handle_bytes(&rtu(&[7, 16, 0, 0, 0, 1, 2, 0, 5]));
    let pdus: Vec<_> =
        std::iter::from_fn(|| inbox.poll_request().unwrap()).map(|r| (r.unit, r.pdu)).collect();
    assert_eq!(pdus, [(7, vec![4, 0, 0, 0, 2]), (7, vec![16, 0, 0, 0, 1, 2, 0, 5])]);
    let mut inbox = Inbox::new(Framing::Tcp);
    inbox.handle_bytes(b"GET / HTTP/1.1\r\n");
    assert_eq!(inbox.poll_request(), Err(Garbage));
}

/// What may be written for a register of its own type and order.
fn register() -> impl Strategy<Value = String> {
    let order = proptest::sample::select(vec!["ABCD", "CDAB", "BADC", "DCBA"]);
    let kind = proptest::sample::select(vec![
        "u8", "i8", "u16", "i16", "u24", "i24", "u32", "i32", "u48", "i48", "u64", "i64", "bcd16", "bcd32",
        "bcd64", "f32", "f64",
    ]);
    let scale = proptest::sample::select(vec![0.01, 0.1, 0.5, 1.0]);
    (kind, order, scale).prop_map(|(kind, order, scale)| {
        format!("register = 'holding:0'\ntype = '{kind}'\norder = '{order}'\nscale = {scale:?}")
    })
}

proptest! {
    #[test]
    fn a_quantity_comes_back_through_every_type_and_order(register in register(), quantity in 0_u8..=1) {
        let register: crate::Register = toml::from_str(&register).unwrap();
        let (want, form) = config::of_profile("r", &register).unwrap();
        // A hundred of the finest: within 8 bits.
        let quantity = f64::from(quantity);
        let words = encode::words(&form, quantity);
        prop_assert_eq!(words.len(), usize::from(want.length));
        let reading = form.decode(Resource::new("r").unwrap(), &words).unwrap();
        let value = match reading.value { Value::Int(n) => f64::from(i32::try_from(n).unwrap()), Value::Float(f) => f.value(), other => panic!("{other:?}") };
        prop_assert_eq!(value, quantity);
    }

    #[test]
    fn whatever_is_asked_there_is_an_answer_that_fits_a_frame(
        name in proptest::sample::select(vec!["ai8", "sdm630", "sunspec"]), pdu: Vec<u8>, age in 0_u64..1_000_000_000
    ) {
        let answer = slave(name).answer(&pdu, Duration::from_secs(age));
        prop_assert!((2..=253).contains(&answer.len()));
    }

    #[test]
    fn whatever_comes_in_ends(framing in proptest::sample::select(vec![Framing::Tcp, Framing::Rtu]), pieces: Vec<Vec<u8>>) {
        let mut inbox = Inbox::new(framing);
        for piece in pieces {
            inbox.handle_bytes(&piece);
            while let Ok(Some(request)) = inbox.poll_request() {
                prop_assert!(!request.pdu.is_empty());
            }
        }
    }
}
