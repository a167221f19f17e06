//! What arrived at the far end, by the samples' own numbers.

use crate::{
    peers::{JsonLines, Python, files},
    site::Site,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Which sample of an endpoint: its own number, or all of it where it has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Which {
    /// `n` of a pushed sample, `seq` of a meter's.
    Number(u64),
    /// A sample without a number, such as one that says a device is away.
    Whole(String),
}

/// A sample that was accepted for the first time, with its place among all of them.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    /// Token (Kaa) or endpoint (plain).
    pub(crate) whose: String,
    pub(crate) which: Which,
    pub(crate) sample: Value,
}

/// The 1/KP platform.
pub(crate) struct Platform {
    python: Python,
    log: JsonLines,
}

/// The subscriber that stands for any platform behind `plain`.
pub(crate) struct Recorder {
    _python: Python,
    log: JsonLines,
}

/// What was accepted, each sample once, in the order of first deliveries.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    pub(crate) first: Vec<Accepted>,
    pub(crate) resent: usize,
}

impl Platform {
    /// Connects and subscribes; accepts everything until told otherwise.
    pub(crate) fn start(site: &Site, broker_port: u16) -> Self {
        let log = site.path("platform.jsonl");
        let python = subscriber(site, "kaa_platform.py", "platform", broker_port, &log, &[]);
        Self { python, log: JsonLines::of(&log) }
    }

    /// Replaces its rules.
    pub(crate) fn rules(&mut self, rules: &Value) {
        self.python.tell(&json!({"rules": rules}));
    }

    /// Publishes anything; the broker has it when this returns.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str) {
        self.python.tell(&json!({"publish": {"topic": topic, "payload": payload}}));
    }

    /// How many samples came in, again and again included, whatever became of them.
    pub(crate) fn seen(&mut self, token: &str) -> usize {
        self.log.all().iter().filter(|l| l["token"] == token).count()
    }

    /// The ids of a token's requests, in order.
    pub(crate) fn request_ids(&mut self, token: &str) -> Vec<u64> {
        let lines = self.log.all().iter().filter(|l| l["token"] == token);
        let mut ids: Vec<u64> = lines.filter_map(|l| l["id"].as_u64()).collect();
        ids.dedup();
        ids
    }

    /// How many samples were accepted for the first time.
    pub(crate) fn accepted(&mut self) -> usize {
        self.log.all().iter().filter(|l| l["verdict"] == "accepted" && l["resent"] == false).count()
    }

    /// What was wrong with requests, and their topics.
    pub(crate) fn violations(&mut self) -> Vec<String> {
        self.log.all().iter().filter(|l| l.get("violation").is_some()).map(Value::to_string).collect()
    }

    /// What was accepted. Panics where a request broke 1/KP.
    pub(crate) fn arrivals(&mut self) -> Arrivals {
        let violations = self.violations();
        assert!(violations.is_empty(), "requests that 1/KP does not allow: {violations:?}");
        let accepted = self.log.all().iter().filter(|l| l["verdict"] == "accepted");
        Arrivals::of(accepted.map(|l| (l["token"].as_str().unwrap().to_owned(), l["sample"].clone())))
    }
}

impl Recorder {
    /// Connects and subscribes to `site/{endpoint}/telemetry`.
    pub(crate) fn start(site: &Site, broker_port: u16) -> Self {
        let log = site.path("recorder.jsonl");
        let python = subscriber(site, "record.py", "recorder", broker_port, &log, &["--filter", "site/#"]);
        Self { _python: python, log: JsonLines::of(&log) }
    }

    /// What came, by endpoint.
    pub(crate) fn arrivals(&mut self) -> Arrivals {
        Arrivals::of(self.log.all().iter().map(|line| {
            assert_eq!((&line["qos"], &line["retain"]), (&json!(1), &json!(false)), "{line}");
            let topic: Vec<_> = line["topic"].as_str().unwrap().split('/').collect();
            assert!(topic.len() == 3 && topic[2] == "telemetry", "{line}");
            let sample = serde_json::from_str(line["payload"].as_str().unwrap()).unwrap();
            (topic[1].to_owned(), sample)
        }))
    }
}

impl Arrivals {
    fn of(samples: impl Iterator<Item = (String, Value)>) -> Self {
        let mut known = HashSet::new();
        let mut arrivals = Self::default();
        for (whose, sample) in samples {
            let which = Which::of(&sample);
            if known.insert((whose.clone(), which.clone())) {
                arrivals.first.push(Accepted { whose, which, sample });
            } else {
                arrivals.resent += 1;
            }
        }
        arrivals
    }

    /// All of them, for looking up.
    pub(crate) fn set(&self) -> BTreeSet<(&str, &Which)> {
        self.first.iter().map(|a| (a.whose.as_str(), &a.which)).collect()
    }

    /// The numbers of each endpoint, in the order of arrival.
    pub(crate) fn numbers(&self) -> BTreeMap<&str, Vec<u64>> {
        let mut numbers: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for accepted in &self.first {
            if let Which::Number(n) = accepted.which {
                numbers.entry(&accepted.whose).or_default().push(n);
            }
        }
        numbers
    }

    /// First deliveries of every endpoint are in order (I3).
    pub(crate) fn assert_in_order(&self) {
        for (whose, numbers) in self.numbers() {
            for pair in numbers.windows(2) {
                assert!(pair[0] < pair[1], "{whose}: {} arrived before {}", pair[0], pair[1]);
            }
        }
    }

    /// Exactly these numbers of this endpoint arrived, in order.
    pub(crate) fn assert_exactly(&self, whose: &str, expected: impl Iterator<Item = u64>) {
        let expected: Vec<_> = expected.collect();
        let arrived = self.numbers().remove(whose).unwrap_or_default();
        if arrived != expected {
            let missing: Vec<_> = expected.iter().filter(|n| !arrived.contains(n)).take(20).collect();
            panic!(
                "{whose}: {} of {} arrived, or in another order; missing {missing:?}",
                arrived.len(),
                expected.len()
            );
        }
    }
}

impl Which {
    fn of(sample: &Value) -> Self {
        let number = sample["n"].as_u64().or_else(|| sample["seq"].as_u64());
        number.map_or_else(|| Self::Whole(sample.to_string()), Self::Number)
    }
}

/// A Python peer that subscribes with a persistent session.
pub(crate) fn subscriber(
    site: &Site,
    script: &str,
    client_id: &str,
    broker_port: u16,
    log: &std::path::Path,
    more: &[&str],
) -> Python {
    let identity = site.identity(client_id);
    let port = broker_port.to_string();
    let mut arguments = vec!["--port", &port, "--client-id", client_id, "--log", log.to_str().unwrap()];
    arguments.extend(files(&identity));
    arguments.extend(more);
    Python::start(site, script, &arguments)
}
