//! A publish of the platform, whatever its topic and payload: never a panic, and no reply is taken for
//! the answer to a request whose topic it does not carry.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::dialect::{
    Dialect, Inbound,
    kaa::{Kaa, KaaConfig},
};

// Topic and payload, with a line feed between them.
fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (path, body) = input.split_at(end);
    let (Ok(path), body) = (std::str::from_utf8(path), body.get(1..).unwrap_or_default()) else { return };
    let config: KaaConfig = serde_json::from_str(r#"{"app_version":"demo-v1"}"#).expect("a table");
    let kaa = Dialect::Kaa(Kaa { config });
    for path in [path.to_owned(), format!("kp1/demo-v1/dcx/{path}")] {
        let (correlation, end) = match kaa.decode(&path, body) {
            Inbound::Delivered(correlation) => (correlation, "status"),
            Inbound::Refused { correlation, .. } => (correlation, "error"),
            Inbound::Ignored(_) => continue,
        };
        let token = correlation.token.expose();
        assert_eq!(path, format!("kp1/demo-v1/dcx/{token}/json/{}/{end}", correlation.id));
    }
});
