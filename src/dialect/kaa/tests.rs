//! Requests and replies against the reference's own examples, and any reply at all.

use super::*;
use crate::dialect::{
    Dialect,
    arbitrary::{TOKEN, any_sample, endpoint, resource, sample},
};
use adapter_api::{Place, Value};
use proptest::prelude::*;

fn kaa(table: &str) -> Kaa {
    let table = format!("app_version = \"demo_application_v1\"\n{table}");
    Kaa { config: toml::from_str(&table).unwrap() }
}

fn encode(kaa: &Kaa, samples: &[&Sample], max_payload: usize) -> Result<Encoded, EncodeError> {
    let mut ids = 42..;
    kaa.encode(&endpoint(&[]), samples, max_payload, &mut || ids.next().unwrap())
}

#[derive(Deserialize)]
struct Reply {
    path: String,
    body: String,
    is: String,
    #[serde(default)]
    id: u32,
    #[serde(default)]
    reason: String,
}

fn check(reply: &Reply) {
    let correlation = Correlation { token: EndpointToken::new(TOKEN), instance: "dcx".into(), id: reply.id };
    let seen = kaa("").decode(&reply.path, reply.body.as_bytes());
    if let Inbound::Refused { reason, .. } = &seen {
        assert_eq!(reason.shown(&EndpointToken::new(TOKEN), []), reply.reason, "{}", reply.body);
    }
    let refused = |refusal| {
        let Inbound::Refused { reason, .. } = seen.clone() else { panic!("{seen:?}") };
        Inbound::Refused { correlation: correlation.clone(), refusal, reason }
    };
    let expected = match reply.is.as_str() {
        "delivered" => Inbound::Delivered(correlation.clone()),
        "item" => refused(Refusal::Item),
        "later" => refused(Refusal::Later { after: None }),
        "endpoint" => refused(Refusal::Endpoint),
        why => {
            assert!(matches!(seen, Inbound::Ignored(seen) if seen == why), "{}: {seen:?}", reply.path);
            return;
        }
    };
    assert_eq!(seen, expected, "{} {}", reply.path, reply.body);
}

#[test]
fn replies_are_understood_as_in_the_golden_data() {
    let replies: Vec<Reply> =
        serde_json::from_str(include_str!("../../../tests/data/dialect/kaa-replies.json")).unwrap();
    assert!(replies.len() > 60);
    replies.iter().for_each(check);
}

#[test]
fn a_request_is_that_of_the_reference() {
    let sample = sample(&[("temperature", Value::Int(23))]);
    let encoded = encode(&kaa(""), &[&sample], 1_000).unwrap();
    let [frame] = encoded.frames.as_slice() else { panic!("one frame") };
    assert_eq!(frame.path.expose(), "kp1/demo_application_v1/dcx/JTjdbENzHh/json/42");
    assert_eq!(frame.body, br#"[{"timestamp":1566987697005,"temperature":23}]"#);
    assert_eq!((frame.qos, encoded.taken), (Qos::AtLeastOnce, 1));
    let correlation = Correlation { token: EndpointToken::new(TOKEN), instance: "dcx".into(), id: 42 };
    assert_eq!(encoded.reply.as_ref(), Some(&correlation));
    let status = format!("{}/status", frame.path.expose());
    assert_eq!(kaa("").decode(&status, b""), Inbound::Delivered(correlation));
}

#[test]
fn a_request_takes_a_batch_and_what_fits() {
    let sample = sample(&[("temperature", Value::Int(23))]);
    let samples = [&sample; 5];
    for (table, max_payload, taken) in
        [("", 1_000, Ok(5)), ("batch = 2", 1_000, Ok(2)), ("", 100, Ok(2)), ("", 46, Ok(1))]
    {
        assert_eq!(
            encode(&kaa(table), &samples, max_payload).map(|e| e.taken),
            taken,
            "{table} {max_payload}"
        );
    }
    let mut asked = 0;
    let refused = kaa("").encode(&endpoint(&[]), &samples, 45, &mut || {
        asked += 1;
        asked
    });
    assert_eq!((refused, asked), (Err(EncodeError::TooLarge { bytes: 46, limit: 45 }), 0), "no id is wasted");
}

#[test]
fn filters_ask_for_replies_only() {
    let shown = |paths: Vec<Path>| paths.iter().map(|p| p.expose().to_owned()).collect::<Vec<_>>();
    for (subscribe, one, all) in
        [("per-endpoint", Some(TOKEN), None), ("per-extension", None, Some("+")), ("none", None, None)]
    {
        let kaa = kaa(&format!("subscribe = \"{subscribe}\""));
        let filters = |level: Option<&str>| {
            let filter = |level, verdict| format!("kp1/demo_application_v1/dcx/{level}/json/+/{verdict}");
            level.map_or(Vec::new(), |level| vec![filter(level, "status"), filter(level, "error")])
        };
        assert_eq!(shown(kaa.subscriptions(&endpoint(&[]))), filters(one), "{subscribe}");
        assert_eq!(shown(kaa.common_subscriptions()), filters(all), "{subscribe}");
    }
}

#[test]
fn a_configuration_has_defaults_and_faults() {
    assert!(kaa("").config.check().is_empty());
    assert_eq!((kaa("").config.batch, kaa("").config.qos), (100, Qos::AtLeastOnce));
    for (table, key) in [
        ("app_version = \"\"", "app_version"),
        ("app_version = \"Demo\"", "app_version"),
        ("app_version = \"a/b\"", "app_version"),
        ("app_version = \"a\"\ndcx = \"\"", "dcx"),
        ("app_version = \"a\"\ndcx = \"a/+\"", "dcx"),
        ("app_version = \"a\"\ntimestamp_field = \"\"", "timestamp_field"),
        ("app_version = \"a\"\nbatch = 0", "batch"),
        ("app_version = \"a\"\nbatch = 1001", "batch"),
    ] {
        let config: KaaConfig = toml::from_str(table).unwrap();
        let keys: Vec<_> = config.check().into_iter().map(|(path, ..)| path).collect();
        assert_eq!(keys, [[key]], "{table}");
    }
    for (table, words) in [
        ("", "app_version"),
        ("app_version = \"a\"\nqos = 2", "qos is 0 or 1"),
        ("app_version = \"a\"\ntopic = \"t\"", "unknown field `topic`"),
        ("app_version = \"a\"\ntimestamp_format = \"ms\"", "epoch-ms"),
    ] {
        let error = toml::from_str::<KaaConfig>(table).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn an_endpoint_is_checked_against_the_time_series() {
    let renamed = [("Spannung L1", "u_l1"), ("alias", "t"), ("odd", "ö")];
    let endpoint = endpoint(&renamed);
    let resources = ["Spannung L1", "Spannung L2", "t", "alias", "timestamp"].map(resource);
    let issues = kaa("").check(&endpoint, &resources);
    let seen: Vec<_> = issues.iter().map(|issue| (issue.path[1].as_str(), issue.why.as_str())).collect();
    let charset = "Kaa's time series take names of A-Z, a-z, 0-9, '_' and '-' only";
    assert_eq!(
        seen,
        [
            ("Spannung L2", format!("\"Spannung L2\": {charset}").as_str()),
            ("alias", "\"alias\" and \"t\" are both \"t\" on the wire"),
            ("timestamp", "\"timestamp\" is the name of the timestamp field"),
            ("odd", format!("\"ö\": {charset}").as_str()),
        ]
    );
    for issue in issues {
        assert_eq!(
            (issue.place, issue.path[0].as_str()),
            (Place::Device(endpoint.key.name.clone()), "resources")
        );
        assert!(issue.hint.unwrap().contains("name_on_wire = { "));
    }
}

#[test]
fn a_token_is_one_level_without_a_dot() {
    for (token, good) in [
        (TOKEN, true),
        ("42", true),
        ("ö ", true),
        ("", false),
        ("a/b", false),
        ("a+", false),
        ("#", false),
        ("a.b", false),
        ("a\0", false),
        ("a\n", false),
    ] {
        assert_eq!(check_token(&EndpointToken::new(token)).is_ok(), good, "{token:?}");
    }
    assert!(check_token(&EndpointToken::new(&"a".repeat(1_025))).is_err());
}

#[test]
fn an_error_of_any_size_and_spelling_is_a_refusal() {
    let deep = "[".repeat(60_000);
    let wide = format!("{{\"statusCode\":400,\"x\":\"{}\"}}", "y".repeat(70_000));
    for body in [deep.as_bytes(), wide.as_bytes(), b"\xff\xfe", b"{\"statusCode\":\xff}"] {
        let seen = kaa("").decode("kp1/demo_application_v1/dcx/JTjdbENzHh/json/7/error", body);
        assert!(matches!(seen, Inbound::Refused { refusal: Refusal::Endpoint, .. }), "{seen:?}");
    }
    // The code counts, even where the words are no UTF-8.
    let body = b"{\"statusCode\":400,\"reasonPhrase\":\"\xff\"}";
    let seen = kaa("").decode("kp1/demo_application_v1/dcx/JTjdbENzHh/json/7/error", body);
    assert!(matches!(seen, Inbound::Refused { refusal: Refusal::Item, reason, .. }
            if reason.shown(&EndpointToken::new(TOKEN), []) == "400 \u{fffd}"));
}

proptest! {
    #[test]
    fn nothing_that_comes_in_panics(path in ".{0,80}", body in any::<Vec<u8>>()) {
        let _ignored = kaa("").decode(&path, &body);
    }

    #[test]
    fn nothing_that_looks_like_a_reply_panics(
        levels in prop::collection::vec("kp1|demo_application_v1|dcx|JTjdbENzHh|json|[0-9+]{1,12}|status|error||.", 0..9),
        body in prop_oneof![any::<Vec<u8>>(), ".{0,40}".prop_map(String::into_bytes),
            (any::<i32>(), ".{0,40}").prop_map(|(code, why)| format!("{{\"statusCode\":{code},\"reasonPhrase\":{why:?}}}").into_bytes())],
    ) {
        let _ignored = kaa("").decode(&levels.join("/"), &body);
    }

    #[test]
    fn no_token_is_shown(sample in any_sample(), words in ".{0,300}", error in any::<bool>()) {
        let dialect = Dialect::Kaa(kaa(""));
        let encoded = dialect.encode(&endpoint(&[]), &[&sample], usize::MAX, &mut || 7).unwrap();
        let body = format!("{words}{TOKEN}{words}");
        let body = if error { serde_json::json!({ "statusCode": 404, "reasonPhrase": body }).to_string() } else { body };
        let path = format!("{}/error", encoded.frames[0].path.expose());
        let seen = dialect.decode(&path, body.as_bytes());
        let Inbound::Refused { reason, .. } = &seen else { panic!("{seen:?}") };
        let reason = reason.shown(&EndpointToken::new(TOKEN), []);
        prop_assert!(reason.len() <= 256 && !reason.chars().any(char::is_control));
        let filters = dialect.subscriptions(&endpoint(&[]));
        let shown = format!("{encoded:?} {seen:?} {reason} {filters:?} {} {}", encoded.frames[0].path, filters[0]);
        prop_assert!(!shown.contains(TOKEN), "{}", shown);
        prop_assert_eq!(encoded.taken, 1);
    }
}
