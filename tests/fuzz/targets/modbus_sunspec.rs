//! A SunSpec device, whatever its chain, wherever it is silent and whatever changes under way: never a
//! panic, every round ends, and what is good has a value.
#![no_main]

use adapter_modbus::fuzz::{Sunspec, rounds};
use libfuzzer_sys::fuzz_target;

type Input = (u8, Vec<(u8, u16)>, Vec<u16>, Vec<(u8, u16, u16)>, (u16, u16), u8, Option<u16>, u16);

fuzz_target!(|input: Input| {
    let (base, models, behind, changes, silent, code, plain, seconds) = input;
    let _any = rounds(&Sunspec { base, models, behind, changes, silent, code, plain, seconds });
    // Nothing but a meter between marker and end.
    let whole = Sunspec { base, models: vec![(6, 105)], behind: vec![0xffff, 0], ..Sunspec::default() };
    assert_eq!(rounds(&whole) > 0, base % 4 < 3);
});
