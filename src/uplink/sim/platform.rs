//! The simulated platform: it reads requests as they come, notes whose samples it has, and answers badly.

use super::{
    plan::{MINUTE, MS, Plan, SECOND, Us},
    shelf::Number,
};
use crate::{backoff::Rng, dialect::Frame};
use std::collections::{BTreeMap, BTreeSet};

/// An endpoint has no more tokens, and names, one after the other than a run has turns; each is so much later.
pub(super) const TOKENS: usize = 1_000;

/// A frame on its way, as the platform reads it.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) endpoint: usize,
    /// The number of its token: each thousand is a later one.
    pub(super) token: usize,
    /// A request id of 1/KP.
    pub(super) id: Option<u64>,
    pub(super) samples: Vec<Number>,
    /// Which reading of its one sample, where each is a frame.
    reading: Option<u64>,
}

/// Something said to the gateway, after a while.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) after: Us,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

/// What the platform knows.
#[derive(Debug, Default)]
pub(super) struct Platform {
    /// Processed samples.
    pub(super) has: BTreeSet<Number>,
    pub(super) resent: u64,
    /// Samples refused for themselves, alone.
    pub(super) refused_alone: BTreeSet<Number>,
    last_first: BTreeMap<usize, u64>,
    partly: BTreeMap<Number, BTreeSet<u64>>,
    /// Requests of an endpoint are processed in order.
    pub(super) busy_until: BTreeMap<usize, Us>,
}

impl Parcel {
    pub(super) fn read(plan: &Plan, frame: &Frame) -> Result<Self, String> {
        let levels: Vec<&str> = frame.path.expose().split('/').collect();
        let unread = || format!("unreadable frame {}", frame.path.expose());
        let number =
            |value: &serde_json::Value, key: &str| value.get(key).and_then(serde_json::Value::as_u64);
        if plan.per_resource {
            let ["t", endpoint, resource] = levels[..] else { return Err(unread()) };
            let (lane, k) = resource.trim_start_matches('l').split_once('-').ok_or_else(unread)?;
            let n = std::str::from_utf8(&frame.body).ok().and_then(|n| n.parse().ok()).ok_or_else(unread)?;
            let lane = lane.parse().map_err(|_| unread())?;
            return Ok(Self {
                endpoint: number_of(endpoint)? % TOKENS,
                token: 0,
                id: None,
                samples: vec![(lane, n)],
                reading: k.parse().ok(),
            });
        }
        let (endpoint, id) = match levels[..] {
            ["t", endpoint] => (endpoint, None),
            ["kp1", "app-v1", "dcx", token, "json", id] => (token, id.parse().ok()),
            _ => return Err(unread()),
        };
        let body: serde_json::Value = serde_json::from_slice(&frame.body).map_err(|_| unread())?;
        let items = match &body {
            serde_json::Value::Array(items) => items.iter().collect(),
            one => vec![one],
        };
        let sample = |item| Some((usize::try_from(number(item, "lane")?).ok()?, number(item, "n")?));
        let samples: Option<Vec<Number>> = items.into_iter().map(sample).collect();
        let token = number_of(endpoint)?;
        let endpoint = token % TOKENS;
        Ok(Self { endpoint, token, id, samples: samples.ok_or_else(unread)?, reading: None })
    }
}

impl Platform {
    /// Processes a request or refuses it, and answers. `Err`: something arrived that should not have.
    pub(super) fn process(
        &mut self,
        plan: &Plan,
        now: Us,
        rng: &mut Rng,
        parcel: &Parcel,
    ) -> Result<Vec<Answer>, String> {
        let code = if parcel.id.is_some() { self.verdict(plan, now, rng, parcel) } else { None };
        if let Some(400 | 413 | 422) = code
            && let [alone] = parcel.samples[..]
        {
            self.refused_alone.insert(alone);
        }
        if code.is_none() {
            self.keep(plan, parcel)?;
        }
        let Some(id) = parcel.id else { return Ok(Vec::new()) };
        let calm = now >= plan.faults_until;
        if !calm && (plan.mute == Some(parcel.endpoint) || rng.u8(..100) < plan.lost) {
            return Ok(Vec::new());
        }
        let path = format!(
            "kp1/app-v1/dcx/tok{}/json/{id}/{}",
            parcel.token,
            if code.is_some() { "error" } else { "status" }
        );
        let body = code.map_or_else(Vec::new, error);
        let latest = rng.choice([MINUTE, 20 * MINUTE]).unwrap_or(MINUTE);
        let after = if !calm && rng.u8(..100) < plan.late { rng.u64(..latest) } else { rng.u64(MS..50 * MS) };
        let mut answers = vec![Answer { after, path, body }];
        if !calm && rng.u8(..100) < plan.doubled {
            let again = Answer { after: rng.u64(..10 * MINUTE), ..answers[0].clone() };
            answers.push(again);
        }
        Ok(answers)
    }

    fn verdict(&self, plan: &Plan, now: Us, rng: &mut Rng, parcel: &Parcel) -> Option<u16> {
        if let Some(rule) = plan.rule(now, rng, parcel.endpoint, false) {
            return rng.choice(&rule.codes).copied();
        }
        let poison = parcel.samples.iter().any(|number| plan.is_poison(now, *number));
        if poison { rng.choice([400, 413, 422]) } else { None }
    }

    fn keep(&mut self, plan: &Plan, parcel: &Parcel) -> Result<(), String> {
        for sample in &parcel.samples {
            if let Some(reading) = parcel.reading {
                let partly = self.partly.entry(*sample).or_default();
                partly.insert(reading);
                if (partly.len() as u64) < plan.readings(sample.1) {
                    continue;
                }
            }
            if !self.has.insert(*sample) {
                self.resent += 1;
                continue;
            }
            let (lane, number) = *sample;
            if let Some(last) = self.last_first.insert(lane, number)
                && last > number
            {
                return Err(format!("lane {lane}: sample {number} arrived first after {last} (I3)"));
            }
        }
        Ok(())
    }
}

/// Replies that come whether a request is processed or not: foreign, stale and wrong ones.
pub(super) fn noise(plan: &Plan, now: Us, rng: &mut Rng, parcel: &Parcel) -> Vec<Answer> {
    let mut noise = Vec::new();
    let Some(id) = parcel.id else { return noise };
    if now >= plan.faults_until {
        return noise;
    }
    let mut say = |token: usize, instance: &str, id: u64, rng: &mut Rng| {
        let after = rng.choice([0, MS, 300 * MS, 5 * SECOND, 10 * MINUTE]).unwrap_or(0);
        let (verdict, body) = if rng.bool() { ("status", Vec::new()) } else { ("error", error(400)) };
        noise.push(Answer {
            after,
            path: format!("kp1/app-v1/{instance}/tok{token}/json/{id}/{verdict}"),
            body,
        });
    };
    if rng.u8(..100) < plan.foreign {
        say((parcel.endpoint + 1) % plan.endpoints.max(2), "dcx", id, rng);
        say(parcel.token, "other", id, rng);
    }
    if rng.u8(..100) < plan.wrong {
        say(parcel.token, "dcx", (id + (1 << 30)) % (1 << 31), rng);
    }
    noise
}

fn number_of(name: &str) -> Result<usize, String> {
    name.trim_start_matches("tok").trim_start_matches('e').parse().map_err(|_| format!("no endpoint {name}"))
}

fn error(code: u16) -> Vec<u8> {
    match code {
        0 => b"something went wrong".to_vec(),
        code => format!("{{\"statusCode\":{code},\"reasonPhrase\":\"no\"}}").into_bytes(),
    }
}
