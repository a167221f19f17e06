//! A row of the database, whatever is in it: never a panic, and what can be read is written and read
//! again as the same sample.
#![no_main]

use adapter_api::{Sample, Stamp};
use libfuzzer_sys::fuzz_target;
use tidegate::store::item::{FORMAT, ItemError, decode, encode, is_readable};

fuzz_target!(|input: (i64, Option<i64>, &[u8])| {
    let (stamp, boot, item) = input;
    match decode(stamp, boot, item) {
        Ok(sample) => {
            assert!(is_readable(item));
            let again = decode(stamp, boot, &encode(&sample)).expect("what was written can be read");
            assert_eq!(comparable(&again), comparable(&sample));
        }
        Err(ItemError::Newer(format)) => {
            assert!(format > FORMAT && !is_readable(item));
        }
        Err(ItemError::Damaged(_)) => {}
    }
});

fn comparable(sample: &Sample) -> (Stamp, String) {
    (sample.at, format!("{:?}", sample.readings))
}
