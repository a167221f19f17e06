//! What happens in one run, drawn from its seed: the site, the link's and the platform's behaviour.

use super::{
    days::Days,
    dialects::{kaa_dialect, plain_dialect},
};
use crate::{
    backoff::Rng,
    dialect::{Dialect, Qos, kaa::Subscribe},
    store::{Class, item},
    uplink::{
        outflow::Pace,
        pacing::{Limits, Order, Replay},
    },
};
use adapter_api::{Reading, Resource, Sample, Source, Stamp};
use std::time::Duration;

/// Microseconds since the run began.
pub(super) type Us = u64;
pub(super) const MS: Us = 1_000;
pub(super) const SECOND: Us = 1_000 * MS;
pub(super) const MINUTE: Us = 60 * SECOND;
/// In place of the codes of a [`Rule`]: the broker hangs up.
pub(super) const HANG_UP: u16 = 1_000;

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Everything goes wrong.
    Wild,
    /// A link of 1 kB/s on which nothing is lost.
    Slow,
    /// One endpoint is in trouble, everything else is well.
    OneBad,
    /// Everything is refused for an hour.
    AllRefused,
    /// A few samples that the platform never takes.
    Poison,
}

/// The platform refuses requests.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Of this endpoint, or of all.
    pub(super) endpoint: Option<usize>,
    pub(super) from: Us,
    pub(super) until: Us,
    pub(super) codes: Vec<u16>,
    /// In a hundred requests.
    pub(super) percent: u8,
}

/// One run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) kind: Kind,
    pub(super) dialect: Dialect,
    /// A plain topic with `{resource}`: each reading is a frame.
    pub(super) per_resource: bool,
    pub(super) pace: Pace,
    pub(super) max_payload: usize,
    pub(super) endpoints: usize,
    pub(super) lanes: usize,
    /// Commits per lane: at most so many rows each, so far apart on average.
    pub(super) commits: usize,
    pub(super) rows: usize,
    pub(super) every: Us,
    /// From then on nothing goes wrong any more.
    pub(super) faults_until: Us,
    /// Bytes per second.
    pub(super) rate: u64,
    pub(super) latency: (Us, Us),
    /// The link stands still at times, for at most so long.
    pub(super) stall: Us,
    /// Mean time between cuts, of the connection and of the power.
    pub(super) cut: Option<Us>,
    pub(super) power_cut: Option<Us>,
    /// In a hundred: requests the platform forgets; replies lost, doubled, late, foreign and with a wrong id.
    pub(super) forgotten: u8,
    pub(super) lost: u8,
    pub(super) doubled: u8,
    pub(super) late: u8,
    pub(super) foreign: u8,
    pub(super) wrong: u8,
    pub(super) rules: Vec<Rule>,
    /// Every so manieth sample is poison.
    pub(super) poison: Option<u64>,
    /// Its requests are never answered.
    pub(super) mute: Option<usize>,
    /// The broker refuses its filters.
    pub(super) closed: Option<usize>,
    /// Mean time between quota drops.
    pub(super) drops: Option<Us>,
    /// Mean time between changes of the configuration: an endpoint leaves, comes back, has another token or name.
    pub(super) edits: Option<Us>,
    pub(super) days: Option<Days>,
    pub(super) store_delay: Us,
    /// In a hundred commits.
    pub(super) store_fails: u8,
    /// Some rows cannot be read.
    pub(super) damaged: bool,
    /// Where the reserved ids begin.
    pub(super) first_id: u64,
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x7469_6465);
        let kind = match rng.u8(..100) {
            0..=49 => Kind::Wild,
            50..=64 => Kind::Slow,
            65..=79 => Kind::OneBad,
            80..=89 => Kind::AllRefused,
            _ => Kind::Poison,
        };
        let refusing = matches!(kind, Kind::OneBad | Kind::AllRefused | Kind::Poison);
        let batch = rng.choice([1, 5, 20, 100]).unwrap_or(1);
        let plain = !refusing && rng.u8(..100) < 30;
        let per_resource = plain && rng.u8(..100) < 30;
        let qos = if rng.u8(..100) < 15 { Qos::AtMostOnce } else { Qos::AtLeastOnce };
        let subscribe = rng.choice([
            Subscribe::PerEndpoint,
            Subscribe::PerEndpoint,
            Subscribe::PerExtension,
            Subscribe::None,
        ]);
        let subscribe = subscribe.unwrap_or_default();
        let dialect = if plain {
            plain_dialect(per_resource, if per_resource { 1 } else { batch }, qos)
        } else {
            kaa_dialect(batch, qos, subscribe)
        };
        let endpoints = if rng.u8(..10) == 0 { rng.usize(20..=60) } else { rng.usize(1..=6) };
        let mut plan = Self {
            seed,
            kind,
            pace: Pace {
                confirm_timeout: Duration::from_secs(30),
                retry: (Duration::from_secs(5), Duration::from_secs(600)),
                probe: (Duration::from_secs(60), Duration::from_secs(3_600)),
                batch: dialect.batch(),
                replies: dialect.replies(),
                replay: Replay::default(),
                limits: Limits::default(),
            },
            dialect,
            per_resource,
            max_payload: 256 << 10,
            endpoints: if refusing { endpoints.max(3) } else { endpoints },
            lanes: if endpoints > 10 { 1 } else { rng.usize(1..=3) },
            commits: rng.usize(2..=8),
            rows: if rng.bool() { 3 } else { 25 },
            every: rng.u64(SECOND..=2 * MINUTE),
            faults_until: rng.u64(10..=90) * MINUTE,
            rate: rng.choice([20_000, 1_000_000, 1_000_000]).unwrap_or(1_000_000),
            latency: (5 * MS, rng.choice([10 * MS, 200 * MS, 2 * SECOND]).unwrap_or(10 * MS)),
            stall: 0,
            cut: None,
            power_cut: None,
            forgotten: 0,
            lost: 0,
            doubled: 0,
            late: 0,
            foreign: 0,
            wrong: 0,
            rules: Vec::new(),
            poison: None,
            mute: None,
            closed: None,
            drops: None,
            edits: None,
            days: None,
            store_delay: rng.choice([MS, 50 * MS, 2 * SECOND]).unwrap_or(MS),
            store_fails: 0,
            damaged: false,
            first_id: rng.choice([0, (1 << 31) - 40, 7_000_000_000]).unwrap_or(0),
        };
        if endpoints > 10 {
            plan.commits = plan.commits.min(3);
            plan.rows = 8;
        }
        match kind {
            Kind::Wild => {
                plan.make_wild(&mut rng);
                plan.limit(&mut rng);
            }
            Kind::Slow => {
                plan.rate = 1_000;
                plan.endpoints = plan.endpoints.min(6);
                plan.stall = if rng.bool() { 28 * SECOND } else { 0 };
                if rng.bool() {
                    (plan.rows, plan.commits) = (60, 3);
                }
                plan.latency.1 = plan.latency.1.min(600 * MS);
                plan.limit(&mut rng);
            }
            Kind::OneBad => plan.make_one_bad(&mut rng),
            Kind::AllRefused => {
                let from = rng.u64(0..=5) * MINUTE;
                let codes = vec![rng.choice([401, 403, 404]).unwrap_or(404)];
                plan.faults_until = from + 60 * MINUTE;
                plan.rules.push(Rule { endpoint: None, from, until: plan.faults_until, codes, percent: 100 });
            }
            Kind::Poison => {
                plan.poison = Some(rng.u64(7..=40));
                plan.damaged = rng.bool();
                if rng.bool() {
                    plan.max_payload = 2 << 10;
                }
            }
        }
        if rng.bool() {
            plan.pace.replay = Replay {
                order: Order::LiveFirst,
                live_age: Duration::from_secs(rng.choice([1, 5, 60]).unwrap_or(60)),
                share: rng.choice([10, 50, 100]).unwrap_or(50),
                max_rate: rng.choice([None, None, Some(5)]).unwrap_or_default(),
            };
            // As the store has them: one of live rows, one of control.
            plan.lanes = plan.lanes.min(2);
        }
        let edited = kind == Kind::Wild && rng.u8(..3) == 0;
        plan.edits = edited.then(|| rng.u64(5..=300) * SECOND);
        plan.days = Days::draw(kind, &mut rng);
        plan
    }

    /// What the operator allows.
    fn limit(&mut self, rng: &mut Rng) {
        self.pace.limits = Limits {
            messages_per_s: rng.choice([None, None, Some(5)]).unwrap_or_default(),
            bytes_per_s: rng.choice([None, None, Some(2_000)]).unwrap_or_default(),
            daily_bytes: None,
        };
    }

    /// Of an endpoint's lane with this number.
    pub(super) fn class(&self, lane: usize) -> Class {
        let control = if self.pace.replay.order == Order::LiveFirst { 1 } else { 2 };
        if lane == control { Class::Control } else { Class::Telemetry }
    }

    fn make_wild(&mut self, rng: &mut Rng) {
        let mut some = |percents: &[u8]| rng.choice(percents).copied().unwrap_or(0);
        self.forgotten = some(&[0, 0, 3, 20]);
        self.lost = some(&[0, 0, 3, 20]);
        self.doubled = some(&[0, 10, 30]);
        self.late = some(&[0, 10, 40]);
        self.foreign = some(&[0, 10, 40]);
        self.wrong = some(&[0, 10]);
        self.store_fails = some(&[0, 10, 50]);
        self.cut = rng.bool().then(|| rng.u64(5..=600) * SECOND);
        self.power_cut = rng.bool().then(|| rng.u64(60..=1_200) * SECOND);
        self.drops = (rng.u8(..3) == 0).then(|| rng.u64(1..=120) * SECOND);
        self.poison = (rng.u8(..3) == 0).then(|| rng.u64(9..=40));
        self.damaged = rng.u8(..4) == 0;
        if rng.u8(..4) == 0 {
            self.rate = 1_000;
            self.endpoints = self.endpoints.min(6);
        }
        if rng.u8(..6) == 0 {
            // A gateway that restarts all the time, and answers of its earlier lives.
            self.endpoints = self.endpoints.min(2);
            self.power_cut = Some(45 * SECOND);
            (self.forgotten, self.late) = (20, 60);
        }
        for _ in 0..rng.usize(..3) {
            let from = rng.u64(..self.faults_until);
            let codes = [
                vec![404],
                vec![401, 403],
                vec![503, 429, 408],
                vec![400],
                vec![413, 503],
                vec![0, 500, 404],
                vec![HANG_UP],
            ];
            self.rules.push(Rule {
                endpoint: rng.bool().then(|| rng.usize(..self.endpoints)),
                from,
                until: (from + rng.u64(1..=60) * MINUTE).min(self.faults_until),
                codes: rng.choice(codes).unwrap_or_default(),
                percent: rng.choice([100, 30]).unwrap_or(100),
            });
        }
        self.mute = (rng.u8(..6) == 0).then(|| rng.usize(..self.endpoints));
        self.closed = (rng.u8(..6) == 0).then(|| rng.usize(..self.endpoints));
    }

    fn make_one_bad(&mut self, rng: &mut Rng) {
        // What others are kept waiting shows only where nothing else is slow.
        self.latency.1 = self.latency.1.min(200 * MS);
        self.store_delay = self.store_delay.min(50 * MS);
        let bad = rng.usize(..self.endpoints);
        match rng.u8(..8) {
            0 => self.mute = Some(bad),
            1 => self.closed = Some(bad),
            n => {
                let codes = match n {
                    2 => vec![404],
                    3 => vec![401, 403, 0],
                    4 => vec![503, 429, 408],
                    5 => vec![400],
                    _ => vec![HANG_UP],
                };
                if n == 7 {
                    self.dialect = plain_dialect(false, self.pace.batch, Qos::AtLeastOnce);
                    self.pace.replies = false;
                }
                self.rules.push(Rule {
                    endpoint: Some(bad),
                    from: 0,
                    until: self.faults_until,
                    codes,
                    percent: 100,
                });
            }
        }
    }

    /// The endpoint in trouble, where the run is about one.
    pub(super) fn bad(&self) -> Option<usize> {
        self.mute.or(self.closed).or_else(|| self.rules.iter().find_map(|rule| rule.endpoint))
    }

    /// Whether a rule holds that says this of an endpoint's requests: what it is.
    pub(super) fn rule(&self, now: Us, rng: &mut Rng, endpoint: usize, hang_up: bool) -> Option<&Rule> {
        let holds = |rule: &&Rule| {
            rule.endpoint.is_none_or(|e| e == endpoint)
                && rule.codes.contains(&HANG_UP) == hang_up
                && (rule.from..rule.until).contains(&now)
        };
        self.rules.iter().find(holds).filter(|rule| rng.u8(..100) < rule.percent)
    }

    /// Whether the broker hangs up on some.
    pub(super) fn hangs_up(&self) -> bool {
        self.rules.iter().any(|rule| rule.codes.contains(&HANG_UP))
    }

    /// Whether every request is answered soon.
    pub(super) fn is_prompt(&self) -> bool {
        self.kind != Kind::Wild && self.mute.is_none()
    }

    /// Whether the platform takes this sample for wrong, whatever else. Never three of a lane in a row
    /// (those are given up one a probe, which takes hours); with drops and rules in between that cannot be
    /// promised, so it ends with the other faults.
    pub(super) fn is_poison(&self, now: Us, (_, number): super::Number) -> bool {
        let ends = self.kind == Kind::Wild && now >= self.faults_until;
        !ends && self.poison.is_some_and(|every| number % every == 4 || number % (every * 2) == 5)
    }

    /// Whether its row cannot be read.
    pub(super) fn is_damaged(&self, number: u64) -> bool {
        self.damaged && number % 50 == 17
    }

    /// Whether it is over the payload limit alone.
    pub(super) fn is_huge(&self, number: u64) -> bool {
        self.max_payload < 3_000 && number % 30 == 12 && !self.is_poison(0, (1, number - 1))
    }

    /// Readings of a sample; without any, a plain topic with `{resource}` has nothing to say.
    pub(super) fn readings(&self, number: u64) -> u64 {
        if self.per_resource { (number + 1) % 4 } else { 2 }
    }

    pub(super) fn sample(&self, lane: usize, number: u64) -> Sample {
        let at = Stamp::Wall { us: i64::try_from(number).unwrap_or_default(), source: Source::Gateway };
        let value = i64::try_from(number).unwrap_or_default();
        let named = |name: String, value| Reading::measured(Resource::new(&name).unwrap(), value);
        if self.per_resource {
            let readings = (0..self.readings(number)).map(|k| named(format!("l{lane}-{k}"), value)).collect();
            return Sample { at, readings };
        }
        let mix = (number ^ (lane as u64) << 20 ^ self.seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let pad = match mix % 40 {
            _ if self.is_huge(number) => 3_000,
            0 => 1_500,
            n => usize::try_from(n * 4).unwrap(),
        };
        let mut readings = vec![named("lane".into(), lane as i64), named("n".into(), value)];
        readings.push(Reading::measured(Resource::new("pad").unwrap(), "x".repeat(pad).as_str()));
        Sample { at, readings }
    }

    /// The bytes of a sample's row.
    pub(super) fn row(&self, lane: usize, number: u64) -> Vec<u8> {
        if self.is_damaged(number) { vec![1, 0xff] } else { item::encode(&self.sample(lane, number)) }
    }
}
