//! Whatever a broker sends after its CONNACK, or in its place: never a panic, the same in one piece and
//! in two, and no publish confirmed twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use tidegate::uplink::fuzz::{IN_THE_AIR, hear};

// Where it is cut in two; whether a CONNACK comes first; what comes.
fuzz_target!(|input: (u16, bool, &[u8])| {
    let (cut, connack, rest) = input;
    let mut bytes = if connack { vec![0x20, 2, 0, 0] } else { Vec::new() };
    bytes.extend(rest);
    let whole = hear(&[&bytes]);
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    assert_eq!(hear(&[first, second]), whole);
    let once: BTreeSet<u16> = whole.acked.iter().copied().collect();
    assert!(once.len() == whole.acked.len() && once.iter().all(|tag| *tag < IN_THE_AIR), "{whole:?}");
    assert!(whole.answers <= 1, "{whole:?}");
});
