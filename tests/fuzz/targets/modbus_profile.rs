//! A profile, whatever its text: never a panic, and either something to read or words about what is wrong.
#![no_main]

use adapter_modbus::fuzz::profile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match profile(text) {
        Ok(count) => assert!(count > 0),
        Err(faults) => assert!(!faults.is_empty()),
    }
});
