//! Whatever registers hold, whatever they are taken for: never a panic, a reading exactly if there are
//! enough of them, a value in each that is good, and whole numbers as they are.
#![no_main]

use adapter_api::{Quality, Value};
use adapter_modbus::fuzz::{Pick, read};
use libfuzzer_sys::fuzz_target;

// The choices; scale, offset and decimals; the registers.
fuzz_target!(|input: ([u8; 4], u16, Option<(u8, u8)>, Option<i64>, (f64, f64, Option<u8>), Vec<u16>)| {
    let (choices, length, part, sentinel, scale, words) = input;
    let pick = Pick { choices, length, part, sentinel, scale };
    let _any = read(&pick, &words);
    // u16, ABCD, as it is; and u32 with its registers swapped.
    let plain = Pick { choices: [3, 0, 0, 0], length, part: None, sentinel: None, scale: (1.0, 0.0, None) };
    if let Some(reading) = read(&plain, &words) {
        assert_eq!((reading.value, reading.quality), (Value::from(u64::from(words[0])), Quality::Good));
    }
    let swapped = Pick { choices: [7, 1, 0, 0], ..plain };
    if let Some(reading) = read(&swapped, &words) {
        let number = u64::from(words[1]) << 16 | u64::from(words[0]);
        assert_eq!((reading.value, reading.quality), (Value::from(number), Quality::Good));
    }
});
