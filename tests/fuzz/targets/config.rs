//! A configuration file, whatever is in it: never a panic, neither in reading nor in the words about
//! what is wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use tidegate::config::Config;

fuzz_target!(|text: &str| {
    match Config::parse(text, "fuzz.toml", Path::new("/nonexistent")) {
        Ok((_, warnings)) => warnings.iter().for_each(|warning| drop(warning.to_string())),
        Err(findings) => drop(findings.to_string()),
    }
});
