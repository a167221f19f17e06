//! Rows of a damaged database.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::store::item;

fuzz_target!(|data: &[u8]| {
    if let Ok(sample) = item::decode(0, None, data) {
        // What was read can be written, and read again as the same.
        let row = item::encode(&sample);
        assert_eq!(item::decode(0, None, &row), Ok(sample));
    }
});
