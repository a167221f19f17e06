//! Whatever a platform publishes to us: topic and body, split at the first line feed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tidegate::{
    config::{Config, Uplink},
    dialect::{Dialect, Inbound},
};

static KAA: LazyLock<Dialect> = LazyLock::new(|| {
    let text = "[uplink]\nkind = \"kaa\"\nurls = [\"mqtts://h\"]\n[uplink.kaa]\napp_version = \"demo-v1\"\n";
    let (config, _) = Config::parse(text, "fuzz", std::path::Path::new("")).expect("a good configuration");
    match config.uplink {
        Uplink::Mqtt(uplink) => uplink.dialect,
        Uplink::None => unreachable!("it names one"),
    }
});

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (path, body) = data.split_at(at);
    let inbound = KAA.decode(&String::from_utf8_lossy(path), body.get(1..).unwrap_or_default());
    if let Inbound::Refused { reason, correlation, .. } = inbound {
        assert!(reason.len() <= 256 && !reason.contains(char::is_control));
        assert!((1..=i32::MAX as u32).contains(&correlation.id));
    }
});
