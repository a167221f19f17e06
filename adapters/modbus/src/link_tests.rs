//! The link against a slave at the other end of a pipe that is late, noisy, or echoed; in paused time.

use super::*;
use crate::{
    frame::Echo,
    line::{Characters, Parity, Quarantine},
    pdu::Request,
    point::Table,
    tools::Tap,
    wiring::Wiring,
};
use adapter_api::Clock;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{DuplexStream, WriteHalf},
    sync::Mutex,
    task::JoinSet,
};

const TIMEOUT: Duration = Duration::from_millis(300);
const UNITS: u8 = 3;

fn line(quarantine: Duration) -> Line {
    let timeout = "300ms".parse().unwrap();
    let gap = Duration::from_millis(2);
    Line { framing: Framing::Rtu, characters: None, gap, timeout, quarantine, wiring: Wiring::default() }
}

/// CRC-16/MODBUS by a table of its own, not by the code under test.
fn with_crc(mut adu: Vec<u8>) -> Vec<u8> {
    let table: Vec<u16> = (0..256_u16)
        .map(|n| (0..8).fold(n, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 }))
        .collect();
    let crc = adu
        .iter()
        .fold(0xFFFF_u16, |crc, byte| (crc >> 8) ^ table[usize::from((crc ^ u16::from(*byte)) & 0xFF)]);
    adu.extend(crc.to_le_bytes());
    adu
}

/// How a slave treats one request.
struct Manner {
    after: Duration,
    echo: bool,
    noise: usize,
}

/// Every register holds its own address.
async fn slave(stream: DuplexStream, mut manner: impl FnMut() -> Manner) {
    async fn write(to: &Mutex<WriteHalf<DuplexStream>>, bytes: &[u8]) {
        // The master may have ended.
        let _gone = to.lock().await.write_all(bytes).await;
    }
    let (mut from, to) = tokio::io::split(stream);
    let to = Arc::new(Mutex::new(to));
    let mut tasks = JoinSet::new();
    let mut ask = [0; 8];
    while from.read_exact(&mut ask).await.is_ok() {
        assert_eq!(with_crc(ask[..6].to_vec()), ask, "a request of the right form");
        let Manner { after, echo, noise } = manner();
        let mut bytes = if echo { ask.to_vec() } else { Vec::new() };
        bytes.extend((0..noise).map(|_| fastrand::u8(..)));
        write(&to, &bytes).await;
        let (start, count) = (u16::from_be_bytes([ask[2], ask[3]]), u16::from_be_bytes([ask[4], ask[5]]));
        let mut adu = vec![ask[0], ask[1], u8::try_from(2 * count).unwrap()];
        adu.extend((start..start + count).flat_map(u16::to_be_bytes));
        let (to, answer) = (to.clone(), with_crc(adu));
        tasks.spawn(async move {
            adapter_api::clock::sleep(after).await;
            write(&to, &answer).await;
        });
    }
}

#[derive(Debug, Default)]
struct Seen {
    right: usize,
    wrong: usize,
    late: usize,
}

/// Reads single registers, back to back, of units that are late by 1 to 3 time-outs every tenth time.
async fn read_late_units(reads: usize, quarantine: Duration) -> Seen {
    let line = line(quarantine);
    let (ours, theirs) = tokio::io::duplex(4_096);
    let mut random = fastrand::Rng::with_seed(7);
    let manner = move || {
        let after = match random.u8(..10) {
            0 => TIMEOUT + TIMEOUT.mul_f64(2.99 * random.f64()),
            _ => Duration::from_millis(random.u64(1..8)),
        };
        Manner { after, echo: random.bool(), noise: random.usize(..4) }
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(slave(theirs, manner));
    let (mut link, mut quarantined) = (Link::over(Box::new(ours), true), Quarantine::default());
    let (mut seen, mut random) = (Seen::default(), fastrand::Rng::with_seed(8));
    for _ in 0..reads {
        let (unit, start) = (random.u8(1..=UNITS), random.u16(..60_000));
        if let Some(until) = quarantined.until(unit, now()) {
            adapter_api::clock::sleep_until(until).await;
        }
        match link.ask(&line, unit, Request { table: Table::Holding, start, count: 1 }).await {
            Ok(answer) if answer == Answer::Words(vec![start]) => seen.right += 1,
            Ok(_) => seen.wrong += 1,
            Err(Trouble::Silent(_) | Trouble::Noise(_)) => {
                seen.late += 1;
                quarantined.begin(unit, now() + quarantine);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_never_taken_for_another_registers() {
    let reads = std::env::var("TIDEGATE_TEST_READS").map_or(20_000, |reads| reads.parse().unwrap());
    let seen = read_late_units(reads, 3 * TIMEOUT).await;
    println!("FIGURE modbus late answers: {seen:?}");
    assert_eq!(seen.wrong, 0, "{seen:?}");
    assert!(seen.late > reads / 20 && seen.right > reads / 10 * 8, "{seen:?}");
}

/// The check above can fail: without a quarantine late answers are taken.
#[tokio::test(start_paused = true)]
async fn without_a_quarantine_it_would_be() {
    let seen = read_late_units(10_000, Duration::ZERO).await;
    assert!(seen.wrong > 10, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_babbles_is_used_all_the_same() {
    let (ours, theirs) = tokio::io::duplex(65_536);
    let (mut link, line) = (Link::over(Box::new(ours), true), line(3 * TIMEOUT));
    let (from, to) = tokio::io::split(theirs);
    let (mut from, to) = (from, Arc::new(Mutex::new(to)));
    let mut tasks = JoinSet::new();
    let babbler = to.clone();
    tasks.spawn(async move {
        loop {
            adapter_api::clock::sleep(Duration::from_millis(1)).await;
            babbler.lock().await.write_all(&[fastrand::u8(..)]).await.unwrap();
        }
    });
    tasks.spawn(async move {
        let mut ask = [0; 8];
        while from.read_exact(&mut ask).await.is_ok() {
            let answer = with_crc(vec![ask[0], 3, 2, ask[2], ask[3]]);
            to.lock().await.write_all(&answer).await.unwrap();
        }
    });
    for start in 0..100 {
        let answer = link.ask(&line, 1, Request { table: Table::Holding, start, count: 1 }).await;
        assert_eq!(answer, Ok(Answer::Words(vec![start])));
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_should_echo_and_does_not_is_told_from_a_silent_device() {
    let wiring = Wiring { echo: Echo::Certain, ..Wiring::default() };
    let line = Line { wiring, ..line(3 * TIMEOUT) };
    let (ours, theirs) = tokio::io::duplex(4_096);
    let (mut from, mut to) = tokio::io::split(theirs);
    let mut link = Link::over(Box::new(ours), true);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut ask = [0; 8];
        while from.read_exact(&mut ask).await.is_ok() {
            let answer = with_crc(vec![ask[0], 3, 2, ask[2], ask[3]]);
            let bytes = match ask[0] {
                // Another master's request came in between.
                1 => [&ask[..4], &[9], &ask[4..], &answer].concat(),
                2 => answer,
                3 => ask.to_vec(),
                _ => [ask.as_slice(), &answer].concat(),
            };
            to.write_all(&bytes).await.unwrap();
        }
    });
    let within = line.timeout;
    for (unit, expected) in [
        (1, Err(Trouble::Unechoed(within))),
        (2, Err(Trouble::Unechoed(within))),
        (3, Err(Trouble::Silent(within))),
        (4, Ok(Answer::Words(vec![7]))),
    ] {
        let answer = link.ask(&line, unit, Request { table: Table::Holding, start: 7, count: 1 }).await;
        assert_eq!(answer, expected, "unit {unit}");
    }
}

/// A wire that takes nothing, as a converter with a stuck handshake or a stopped terminal.
#[tokio::test(start_paused = true)]
async fn a_wire_that_takes_no_bytes_is_given_up() {
    let (ours, _theirs) = tokio::io::duplex(5);
    let (mut link, line) = (Link::over(Box::new(ours), true), line(3 * TIMEOUT));
    let trouble =
        link.ask(&line, 1, Request { table: Table::Holding, start: 0, count: 1 }).await.unwrap_err();
    assert_eq!(trouble, Trouble::Lost);
    assert!(!link.survives(&line, &trouble));
}

#[tokio::test(start_paused = true)]
async fn a_converter_that_went_deaf_is_found() {
    let known = Characters { baud: 9_600, data_bits: 8, parity: Parity::Even, stop_bits: 1 };
    let found = [true, true, false, false];
    for (remote, characters, expected) in
        [(true, None, found), (true, Some(known), found), (false, Some(known), [true; 4])]
    {
        let (ours, _theirs) = tokio::io::duplex(4_096);
        let mut link = Link::over(Box::new(ours), remote);
        let line = Line { characters, ..line(3 * TIMEOUT) };
        let mut survived = Vec::new();
        for _ in 0..4 {
            let request = Request { table: Table::Holding, start: 0, count: 1 };
            let trouble = link.ask(&line, 1, request).await.unwrap_err();
            survived.push(link.survives(&line, &trouble));
        }
        assert_eq!(survived, expected, "over TCP: {remote}, {characters:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_line_that_babbles_a_trace_keeps_the_beginning_and_how_much_more_there_was() {
    const BABBLE: usize = 100_000;
    let (ours, theirs) = tokio::io::duplex(1_024);
    let (tap, wire) = (Tap::new(), Wire::Serial("/dev/ttyX".to_owned()));
    let mut frames = tap.listen();
    let mut link = Link::over(Box::new(ours), true).tapped(tap.of(&wire, &Clock::trusting()));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut from, mut to) = tokio::io::split(theirs);
        let mut ask = [0; 8];
        from.read_exact(&mut ask).await.unwrap();
        to.write_all(&vec![0xFF; BABBLE]).await.unwrap();
        // An answer too late for its request.
        adapter_api::clock::sleep(TIMEOUT).await;
        to.write_all(&with_crc(vec![1, 3, 2, 0, 7])).await.unwrap();
        from.read_exact(&mut ask).await.unwrap();
    });
    let request = Request { table: Table::Holding, start: 7, count: 1 };
    assert!(matches!(link.ask(&line(3 * TIMEOUT), 1, request).await, Err(Trouble::Noise(_))));
    adapter_api::clock::sleep(TIMEOUT).await;
    assert!(link.ask(&line(3 * TIMEOUT), 1, request).await.is_err(), "it answers no more");
    let mut seen = Vec::new();
    while let Ok(frame) = frames.try_recv() {
        seen.push((frame.ours, frame.bytes.len(), frame.missing));
    }
    let [asked, babble, late, again] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((*asked, *again), ((true, 8, 0), (true, 8, 0)));
    assert!(!babble.0 && babble.1 <= 2_048 && babble.1 + babble.2 == BABBLE, "{seen:?}");
    assert_eq!(*late, (false, 7, 0), "thrown away, and shown");
}
