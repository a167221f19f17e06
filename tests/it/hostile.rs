//! Words of a platform that means harm: they steer no terminal, forge no line of the journal, and stay short.

use crate::{
    arrivals::Platform,
    gateway::{Config, Gateway},
    peers::Broker,
    pusher::Pusher,
    site::{Site, free_port},
};
use serde_json::json;

/// A terminal's title, a forged line, writing from right to left, an escape of one byte in C1.
const REASON: &str = "\u{1b}]0;x\u{7} a\nlevel=ERROR forged \u{202e}gnitirw\u{2066} \u{9b}2J\u{7f}\u{2028}";
/// The same without UTF-8.
const BYTES: &str = "fffe1b5d303b78070a6c6576656c3d4552524f52";

fn steers(c: char) -> bool {
    c != '\n'
        && (c.is_control()
            || ('\u{2028}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c))
}

#[test]
fn words_of_a_hostile_platform_are_shown_escaped_and_short() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).set("probe_min", "20s").set("probe_max", "40s");
    let mut gateway = Gateway::new(&site, &config.pushed(4, port), 10);
    gateway.environment("TIDEGATE_LOG", "trace");
    gateway.start();
    let mut pusher = Pusher::connect(port);
    gateway.until_up();
    let parked = |endpoint: &'static str| {
        move |status: &serde_json::Value| {
            let parked = status["uplink"]["parked"].as_array().unwrap();
            parked.iter().any(|parked| parked["endpoint"] == endpoint)
        }
    };
    platform.rules(&json!({"refuse_tokens": {"TP1": 404, "TP2": 413}, "reason": REASON}));
    pusher.push("p1", "1");
    pusher.push("p2", "1");
    gateway.until_status("p1 is parked", parked("p1"));
    gateway.until_status("p2 has a dead letter", |status| status["dead_letters"] == 1);
    platform.rules(&json!({"refuse_tokens": {"TP3": 404}, "error_hex": BYTES}));
    pusher.push("p3", "1");
    gateway.until_status("p3 is parked", parked("p3"));
    platform.rules(&json!({"refuse_tokens": {"TP4": 404}, "reason": "y".repeat(60_000)}));
    pusher.push("p4", "1");
    gateway.until_status("p4 is parked", parked("p4"));
    // A path that nobody asked for in so many words, with what a broker lets through.
    platform.publish("kp1/demo-v1/dcx/TP1/json/\u{202e}\u{2066}/status", REASON);
    gateway.until_status("it was ignored", |status| status["uplink"]["ignored"].as_u64() >= Some(1));

    let mut said = vec![("journal", gateway.journal())];
    for command in [&["status"][..], &["queue"], &["queue", "--dead"], &["read", "p1"]] {
        said.push(("command", gateway.say(command).0));
        let json = gateway.say(&[command, &["--json"]].concat()).0;
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        said.push(("JSON", json));
    }
    for (place, text) in &said {
        let steering = text.chars().find(|c| steers(*c));
        assert_eq!(steering, None, "{place}: {text:?}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("level=ERROR")), "{place}: {text}");
        assert!(text.lines().all(|line| line.len() < 20_000), "{place}");
    }
    let journal = &said[0].1;
    for line in journal.lines() {
        let level = line.split_whitespace().nth(1).unwrap_or_default();
        assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level), "{line}");
    }
    let status = &said[1].1;
    for shown in
        ["\\u{1b}]0;x\\u{7} a\\u{a}level=ERROR", "\\u{202e}gnitirw", "60000 bytes of words, not shown"]
    {
        assert!(status.contains(shown), "{shown} is missing: the test does not reach it: {status}");
    }
    assert!(gateway.terminate().success());
}
