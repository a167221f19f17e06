//! What the small platform understands of 1/KP, and what it has written down. Sans-IO.
//!
//! Data collection only (2/DCP): `kp1/<application version>/<instance>/<token>/json[/<request id>]`
//! with samples in JSON, answered on `/status` or `/error`. It shares no code with the gateway's side
//! of this protocol. Not here: MQTT ([`super::platform`]).

use super::{meter::SEQUENCE, tally::Received};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The application version its endpoints belong to.
pub(super) const APP_VERSION: &str = "demo_v1";
/// Name of its data collection instance.
pub(super) const INSTANCE: &str = "dcx";
/// The member of a sample that holds its time.
pub(super) const TIMESTAMP: &str = "timestamp";

/// What the platform knows.
#[derive(Debug)]
pub(super) struct Book {
    /// By token.
    endpoints: HashMap<String, Numbers>,
    received: Received,
    sabotage: Sabotage,
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// The request's topic with `/status` or `/error`.
    pub(super) topic: String,
    /// Nothing, or what was wrong.
    pub(super) body: Vec<u8>,
}

/// The numbers of an endpoint's samples, as ranges from first to last.
#[derive(Debug, Default)]
struct Numbers {
    ranges: BTreeMap<u32, u32>,
    count: u64,
}

/// Whether one batch is confirmed and thrown away.
#[derive(Debug)]
enum Sabotage {
    Off,
    Due,
    /// Of this endpoint these samples. Should they come again, they are thrown away again.
    Done(String, HashSet<u32>),
}

/// A refusal: code and phrase.
type Fault = (u16, &'static str);

#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    token: &'a str,
    /// Without one, only a refusal is answered.
    id: Option<u32>,
}

#[derive(Debug)]
struct Sample {
    number: u32,
    readings: u64,
}

impl Book {
    /// A platform with these endpoints.
    pub(super) fn new(tokens: impl IntoIterator<Item = String>, sabotage: bool) -> Self {
        let endpoints = tokens.into_iter().map(|token| (token, Numbers::default())).collect();
        let sabotage = if sabotage { Sabotage::Due } else { Sabotage::Off };
        Self { endpoints, received: Received::default(), sabotage }
    }

    /// What it has decoded so far.
    pub(super) fn received(&self) -> Received {
        self.received
    }

    /// Distinct samples of an endpoint.
    pub(super) fn samples_of(&self, token: &str) -> u64 {
        self.endpoints.get(token).map_or(0, |numbers| numbers.count)
    }

    /// Takes a request. The answer may be sent only after this: then it is written down.
    pub(super) fn take(&mut self, topic: &str, body: &[u8]) -> Option<Reply> {
        let outcome = request(topic).and_then(|request| {
            self.record(request.token, &samples(body)?)?;
            Ok(request.id)
        });
        match outcome {
            Ok(Some(_)) => Some(Reply { topic: format!("{topic}/status"), body: Vec::new() }),
            Ok(None) => None,
            Err((code, phrase)) => {
                let body = json!({ "statusCode": code, "reasonPhrase": phrase }).to_string().into_bytes();
                Some(Reply { topic: format!("{topic}/error"), body })
            }
        }
    }

    fn record(&mut self, token: &str, samples: &[Sample]) -> Result<(), Fault> {
        let numbers = self.endpoints.get_mut(token).ok_or((404, "no endpoint has this token"))?;
        let fresh = |sample: &Sample| !numbers.holds(sample.number);
        if matches!(self.sabotage, Sabotage::Due) && !samples.is_empty() && samples.iter().all(fresh) {
            let thrown = samples.iter().map(|sample| sample.number).collect();
            self.sabotage = Sabotage::Done(token.to_owned(), thrown);
        }
        for sample in samples {
            if matches!(&self.sabotage, Sabotage::Done(of, thrown) if of == token && thrown.contains(&sample.number))
            {
                continue;
            }
            if numbers.note(sample.number) {
                self.received.samples += 1;
                self.received.readings += sample.readings;
            } else {
                self.received.resent += 1;
            }
        }
        Ok(())
    }
}

impl Numbers {
    fn holds(&self, number: u32) -> bool {
        self.ranges.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    /// Returns whether it is new.
    fn note(&mut self, number: u32) -> bool {
        if self.holds(number) {
            return false;
        }
        self.count += 1;
        let before = self.ranges.range(..number).next_back().map(|(first, last)| (*first, *last));
        let first =
            before.filter(|(_, last)| last.checked_add(1) == Some(number)).map_or(number, |(first, _)| first);
        let last = number.checked_add(1).and_then(|next| self.ranges.remove(&next)).unwrap_or(number);
        self.ranges.insert(first, last);
        true
    }
}

/// 1/KP, resource path: the request id is a positive integer as the last level.
fn request(topic: &str) -> Result<Request<'_>, Fault> {
    let levels: Vec<&str> = topic.split('/').collect();
    let (levels, id) = match *levels.as_slice() {
        [kp, version, instance, token, json] => ([kp, version, instance, token, json], None),
        [kp, version, instance, token, json, id] => ([kp, version, instance, token, json], Some(id)),
        _ => return Err((404, "no such resource path")),
    };
    let [kp, version, instance, token, json] = levels;
    if kp != "kp1" || instance != INSTANCE || json != "json" {
        return Err((404, "no such resource path"));
    }
    if version != APP_VERSION {
        return Err((404, "no such application version"));
    }
    let id = match id {
        None => None,
        Some(digits) => {
            let id = digits.parse::<i32>().ok().and_then(|id| u32::try_from(id).ok()).filter(|id| *id > 0);
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            Some(id.filter(|_| plain).ok_or((400, "not a request id"))?)
        }
    };
    Ok(Request { token, id })
}

/// 2/DCP: an array is a batch; any other value is one sample.
fn samples(body: &[u8]) -> Result<Vec<Sample>, Fault> {
    match serde_json::from_slice(body) {
        Ok(Value::Array(batch)) => batch.iter().map(sample).collect(),
        Ok(one) => Ok(vec![sample(&one)?]),
        Err(_) => Err((400, "not JSON")),
    }
}

fn sample(value: &Value) -> Result<Sample, Fault> {
    let members: &Map<String, Value> = value.as_object().ok_or((400, "a sample is an object"))?;
    members.get(TIMESTAMP).and_then(Value::as_i64).ok_or((400, "a sample has a timestamp"))?;
    let number = members.get(SEQUENCE).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let number = number.ok_or((400, "a sample has a sequence number"))?;
    let readings = members.iter().filter(|(name, value)| *name != TIMESTAMP && !value.is_null()).count();
    Ok(Sample { number, readings: u64::try_from(readings).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(sabotage: bool) -> Book {
        Book::new(["a".to_owned(), "b".to_owned()], sabotage)
    }

    fn check(topic: &str, expected: Result<(&str, Option<u32>), u16>) {
        let got = request(topic).map(|request| (request.token, request.id)).map_err(|(code, _)| code);
        assert_eq!(got, expected, "{topic}");
    }

    #[test]
    fn topics_are_taken_apart() {
        check("kp1/demo_v1/dcx/a/json/42", Ok(("a", Some(42))));
        check("kp1/demo_v1/dcx/a/json", Ok(("a", None)));
        check("kp1/demo_v1/dcx/a/json/2147483647", Ok(("a", Some(2_147_483_647))));
        check("kp1/demo_v1/dcx/a/json/2147483648", Err(400));
        check("kp1/demo_v1/dcx/a/json/0", Err(400));
        check("kp1/demo_v1/dcx/a/json/+1", Err(400));
        check("kp1/demo_v1/dcx/a/json/", Err(400));
        check("kp1/demo_v1/dcx/a/json/x", Err(400));
        check("kp1/demo_v1/dcx/a/json/42/status", Err(404));
        check("kp1/demo_v2/dcx/a/json/42", Err(404));
        check("kp1/demo_v1/epmx/a/json/42", Err(404));
        check("/kp1/demo_v1/dcx/a/json", Err(404));
        check("kp2/demo_v1/dcx/a/json/42", Err(404));
        check("", Err(404));
    }

    #[test]
    fn samples_are_counted_once_and_readings_without_the_timestamp() {
        let mut book = book(false);
        let topic = "kp1/demo_v1/dcx/a/json/42";
        let body = br#"[{"timestamp":1,"sequence":1,"v":2.5,"w":null},{"timestamp":2,"sequence":2,"v":3}]"#;
        let status = Some(Reply { topic: format!("{topic}/status"), body: Vec::new() });
        assert_eq!(book.take(topic, body), status);
        assert_eq!(book.take(topic, body), status);
        assert_eq!(
            book.take("kp1/demo_v1/dcx/b/json", br#"{"timestamp":1,"sequence":1}"#),
            None,
            "without an id"
        );
        assert_eq!(book.received(), Received { samples: 3, readings: 5, resent: 2 });
        assert_eq!((book.samples_of("a"), book.samples_of("b"), book.samples_of("c")), (2, 1, 0));
    }

    #[test]
    fn a_bad_batch_is_refused_as_a_whole() {
        let mut book = book(false);
        for (topic, body, code) in [
            ("kp1/demo_v1/dcx/a/json/1", "[{", 400),
            ("kp1/demo_v1/dcx/a/json/1", r#"[{"timestamp":1,"sequence":1},7]"#, 400),
            ("kp1/demo_v1/dcx/a/json/1", r#"[{"sequence":1}]"#, 400),
            ("kp1/demo_v1/dcx/a/json/1", r#"[{"timestamp":1,"sequence":-1}]"#, 400),
            ("kp1/demo_v1/dcx/c/json/1", r#"[{"timestamp":1,"sequence":1}]"#, 404),
            ("kp1/demo_v1/dcx/c/json", r#"[{"timestamp":1,"sequence":1}]"#, 404),
        ] {
            let reply = book.take(topic, body.as_bytes()).unwrap();
            assert_eq!(reply.topic, format!("{topic}/error"));
            let error: Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(error["statusCode"], code, "{topic} {body}");
        }
        assert_eq!(book.received(), Received::default());
    }

    #[test]
    fn numbers_are_kept_as_ranges() {
        let mut numbers = Numbers::default();
        for (number, fresh) in [(1, true), (2, true), (2, false), (5, true), (4, true), (3, true), (4, false)]
        {
            assert_eq!(numbers.note(number), fresh, "{number}");
        }
        assert!(numbers.note(u32::MAX) && numbers.note(0) && !numbers.note(u32::MAX));
        assert_eq!(numbers.ranges, BTreeMap::from([(0, 5), (u32::MAX, u32::MAX)]));
        assert_eq!(numbers.count, 7);
    }

    #[test]
    fn sabotage_confirms_one_batch_and_throws_it_away() {
        let mut book = book(true);
        let topic = "kp1/demo_v1/dcx/a/json/42";
        let first = br#"[{"timestamp":1,"sequence":1},{"timestamp":2,"sequence":2}]"#;
        let more = br#"[{"timestamp":2,"sequence":2},{"timestamp":3,"sequence":3}]"#;
        for body in [first, more] {
            assert_eq!(book.take(topic, body).unwrap().topic, format!("{topic}/status"));
        }
        assert_eq!(book.received(), Received { samples: 1, readings: 1, resent: 0 });
        book.take("kp1/demo_v1/dcx/b/json/43", first);
        assert_eq!(book.received(), Received { samples: 3, readings: 3, resent: 0 });
    }
}
