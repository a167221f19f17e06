//! Publishes to any broker, by configuration.

use super::*;
use crate::dialect::{
    Dialect,
    arbitrary::{TOKEN, any_sample, endpoint, resource, sample},
};
use adapter_api::{Reading, Value};
use proptest::prelude::*;

fn plain(table: &str) -> Plain {
    let plain = Plain { config: toml::from_str(table).unwrap() };
    assert_eq!(plain.config.check(), [], "{table}");
    plain
}

fn check(table: &str, frames: &[(&str, &[u8])], qos: Qos, taken: usize) {
    let mut first = sample(&[("Spannung L1", 230.1.into()), ("a/b", Value::Bytes(vec![0, 255]))]);
    first.readings.push(Reading::bad(resource("t"), "timeout"));
    let second = sample(&[]);
    let endpoint = endpoint(&[("Spannung L1", "u")]);
    let encoded = plain(table).encode(&endpoint, &[&first, &second], 1_000).unwrap();
    let seen: Vec<_> = encoded.frames.iter().map(|f| (f.path.expose(), f.body.as_slice())).collect();
    assert_eq!(seen, frames, "{table}");
    assert!(encoded.frames.iter().all(|frame| frame.qos == qos), "{table}");
    assert_eq!((encoded.reply, encoded.taken), (None, taken), "{table}");
}

#[test]
fn a_publish_is_what_the_configuration_says() {
    let object = br#"{"timestamp":1566987697005,"u":230.1,"a/b":"AP8=","t":null}"#.as_slice();
    let array =
        br#"[{"timestamp":1566987697005,"u":230.1,"a/b":"AP8=","t":null},{"timestamp":1566987697005}]"#
            .as_slice();
    check("", &[("tidegate/boiler-7/telemetry", object)], Qos::AtLeastOnce, 1);
    check("qos = 0", &[("tidegate/boiler-7/telemetry", object)], Qos::AtMostOnce, 1);
    check("batch = 2", &[("tidegate/boiler-7/telemetry", array)], Qos::AtLeastOnce, 2);
    check(
        "topic = \"a/{tenant}/{endpoint}-x/{token}\"\ntimestamp_field = \"ts\"\ntimestamp_format = \"iso8601\"\nquality = \"field\"",
        &[(
            "a/default/boiler-7-x/JTjdbENzHh",
            br#"{"ts":"2019-08-28T10:21:37.005000Z","u":230.1,"a/b":"AP8=","t":null,"t_quality":"bad: timeout"}"#,
        )],
        Qos::AtLeastOnce,
        1,
    );
    check(
        "topic = \"{endpoint}/{resource}\"",
        &[("boiler-7/u", b"230.1"), ("boiler-7/a%2Fb", b"\"AP8=\""), ("boiler-7/t", b"null")],
        Qos::AtLeastOnce,
        1,
    );
    check(
        "topic = \"{endpoint}/{resource}\"\nformat = \"cbor\"\nqos = 0",
        &[
            ("boiler-7/u", b"\xfb\x40\x6c\xc3\x33\x33\x33\x33\x33"),
            ("boiler-7/a%2Fb", b"\x42\x00\xff"),
            ("boiler-7/t", b"\xf6"),
        ],
        Qos::AtMostOnce,
        1,
    );
}

#[test]
fn an_array_stays_one_with_a_single_sample() {
    let sample = sample(&[("t", Value::Int(1))]);
    for (format, body) in [
        ("json", b"[{\"timestamp\":1566987697005,\"t\":1}]".as_slice()),
        ("cbor", b"\x81\xa2\x69timestamp\x1b\x00\x00\x01\x6c\xd7\xbe\xbb\x6d\x61t\x01"),
    ] {
        let plain = plain(&format!("batch = 5\nformat = \"{format}\""));
        let encoded = plain.encode(&endpoint(&[]), &[&sample], 1_000).unwrap();
        assert_eq!(encoded.frames[0].body, body, "{format}");
    }
}

#[test]
fn what_is_too_large_alone_is_refused() {
    let sample = sample(&[("t", "x".repeat(50).as_str().into())]);
    for (table, bytes) in
        [("", 84), ("batch = 2", 86), ("topic = \"{resource}\"", 52), ("format = \"cbor\"", 74)]
    {
        let plain = plain(table);
        let encode = |limit| plain.encode(&endpoint(&[]), &[&sample, &sample], limit);
        assert_eq!(encode(bytes).map(|e| e.taken), Ok(1), "{table}");
        assert_eq!(encode(bytes - 1), Err(EncodeError::TooLarge { bytes, limit: bytes - 1 }), "{table}");
    }
}

#[test]
fn a_sample_without_readings_is_never_stuck() {
    let (empty, full) = (sample(&[]), sample(&[("t", Value::Int(1))]));
    let encoded = plain("topic = \"{resource}\"").encode(&endpoint(&[]), &[&empty, &full], 10).unwrap();
    assert_eq!((encoded.frames.len(), encoded.taken), (0, 1));
}

#[test]
fn a_configuration_has_faults() {
    for (table, keys) in [
        ("topic = \"a/{device}\"", vec!["topic"]),
        ("topic = \"a/+\"\nbatch = 0\ntimestamp_field = \"\"", vec!["topic", "batch", "timestamp_field"]),
        ("topic = \"{resource}\"\nbatch = 2", vec!["batch"]),
        ("topic = \"{resource}\"\nquality = \"field\"", vec!["quality"]),
        ("batch = 1001", vec!["batch"]),
    ] {
        let config: PlainConfig = toml::from_str(table).unwrap();
        let seen: Vec<_> = config.check().into_iter().flat_map(|(path, ..)| path).collect();
        assert_eq!(seen, keys, "{table}");
    }
    for table in ["qos = 2", "retain = true", "format = \"xml\"", "topic = 1"] {
        assert!(toml::from_str::<PlainConfig>(table).is_err(), "{table}");
    }
}

#[test]
fn an_endpoint_is_checked_against_the_topic() {
    let endpoint = endpoint(&[("a", ""), ("b", "x\0"), ("c", "d")]);
    let resources = ["a", "b", "c", "d", "timestamp", "Spannung L1"].map(resource);
    let faulty = |table| -> Vec<_> {
        let issues = plain(table).check(&endpoint, &resources);
        issues.into_iter().map(|issue| issue.path[1].clone()).collect()
    };
    assert_eq!(faulty(""), ["a", "b", "d", "timestamp"]);
    assert_eq!(faulty("topic = \"{resource}\""), ["a", "b", "d"], "a bare value has no timestamp field");
}

#[test]
fn a_token_matters_where_the_topic_names_it() {
    for (token, good) in
        [(TOKEN, true), ("a.b", true), ("", false), ("a/b", false), ("+", false), ("#", false), ("\0", false)]
    {
        let token = EndpointToken::new(token);
        assert_eq!(
            Dialect::Plain(plain("topic = \"{token}\"")).check_token(&token).is_ok(),
            good,
            "{}",
            token.expose()
        );
        assert!(Dialect::Plain(plain("")).check_token(&token).is_ok());
    }
}

proptest! {
    #[test]
    fn no_token_is_shown(sample in any_sample(), bare in any::<bool>(), cbor in any::<bool>()) {
        let topic = if bare { "{token}/{resource}/{token}" } else { "x/{token}" };
        let format = if cbor { "cbor" } else { "json" };
        let dialect = Dialect::Plain(plain(&format!("topic = \"{topic}\"\nformat = \"{format}\"")));
        let encoded = dialect.encode(&endpoint(&[]), &[&sample], usize::MAX, &mut || 7).unwrap();
        prop_assert_eq!(encoded.frames.len(), if bare { sample.readings.len() } else { 1 });
        for frame in &encoded.frames {
            prop_assert!(frame.path.expose().contains(TOKEN));
            prop_assert_eq!(frame.path.expose().matches('/').count(), if bare { 2 } else { 1 });
            let shown = format!("{frame:?} {}", frame.path);
            prop_assert!(!shown.contains(TOKEN), "{}", shown);
            if !cbor {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&frame.body).is_ok());
            }
        }
    }
}
