//! Whatever somebody saves as a configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::config::Config;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Err(findings) = Config::parse(&text, "fuzz", std::path::Path::new("/nonexistent")) {
        assert!(!findings.to_string().is_empty());
    }
});
