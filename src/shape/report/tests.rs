//! What the rules do, case by case.

mod random;

use super::*;
use crate::{
    config::secret::EndpointToken,
    endpoints::{Directory, Endpoint, EndpointKey, Tenant},
};
use adapter_api::{EndpointName, Instant, Quality, Reading, Sample, Source, Stamp, Value};
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);
/// Midnight of some day, µs since 1970.
const MIDNIGHT: i64 = 1_700_006_400_000_000;

fn resource(name: &str) -> Resource {
    Resource::new(name).unwrap()
}

fn at(ms: u64) -> Instant {
    Instant::from_start(Duration::from_millis(ms))
}

fn stamp(ms: u64) -> Stamp {
    Stamp::Wall { us: MIDNIGHT + i64::try_from(ms).unwrap() * 1_000, source: Source::Gateway }
}

fn ms_of(at: Stamp) -> u64 {
    let Stamp::Wall { us, .. } = at else { panic!("{at:?}") };
    u64::try_from((us - MIDNIGHT) / 1_000).unwrap()
}

fn one(rule: Rule) -> Report {
    Report::new(rule, BTreeMap::new(), [])
}

fn computed(name: &str, text: &str, rule: Rule) -> Report {
    Report::new(rule, BTreeMap::new(), [(resource(name), Expr::parse(text).unwrap())])
}

fn sample(ms: u64, readings: &[(&str, Value)]) -> Sample {
    let readings = readings.iter().map(|(name, value)| Reading::measured(resource(name), value.clone()));
    Sample { at: stamp(ms), readings: readings.collect() }
}

/// One endpoint with rules, and what it has reported.
struct Site {
    desks: Desks,
    name: EndpointName,
    stored: Vec<Sample>,
    offered: u64,
    made: u64,
    suppressed: BTreeMap<&'static str, u64>,
    shown: Vec<Sample>,
}

impl Site {
    fn new(report: Report) -> Self {
        let name = EndpointName::new("e").unwrap();
        let endpoint = Endpoint {
            key: EndpointKey { tenant: Tenant::default(), name: name.clone() },
            token: EndpointToken::new("T"),
            enabled: true,
            quotas: Default::default(),
            report: Some(Arc::new(report)),
            unit: None,
            name_on_wire: BTreeMap::new(),
        };
        let desks = Desks::new(&Directory::new([endpoint]));
        let (stored, suppressed, shown) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { desks, name, stored, offered: 0, made: 0, suppressed, shown }
    }

    fn take(&mut self, judged: Judged) {
        self.stored.extend(judged.samples.iter().cloned());
        self.shown.extend(judged.shown.iter().cloned());
        self.made += judged.made;
        for (reason, samples) in &judged.suppressed {
            *self.suppressed.entry(reason).or_default() += samples;
        }
        self.desks.accept(judged);
        self.desks.committed();
    }

    /// A submission in a transaction of its own.
    fn submit(&mut self, samples: &[Sample], now: u64) {
        let judged = self.desks.judge(&self.name, samples, at(now)).unwrap();
        self.offered += u64::try_from(samples.len()).unwrap();
        self.take(judged);
    }

    /// The same, and the transaction fails after all.
    fn fail(&mut self, samples: &[Sample], now: u64) {
        let judged = self.desks.judge(&self.name, samples, at(now)).unwrap();
        self.desks.accept(judged);
        self.fail_to_release(now);
        self.desks.rolled_back();
    }

    fn fail_to_release(&mut self, now: u64) {
        for place in self.desks.due(at(now), false, usize::MAX) {
            if let Some(judged) = self.desks.release(place, at(now), false) {
                self.desks.accept(judged);
            }
        }
        self.desks.rolled_back();
    }

    /// The timers up to now, each at its time. Returns when the last one was.
    fn run(&mut self, now: u64) {
        while let Some(due) = self.desks.poll_timeout().filter(|due| *due <= at(now)) {
            for place in self.desks.due(due, false, usize::MAX) {
                let judged = self.desks.release(place, due, false).expect("what is due is there");
                self.take(judged);
            }
        }
    }

    fn stop(&mut self, now: u64) {
        for place in self.desks.due(at(now), true, usize::MAX) {
            let judged = self.desks.release(place, at(now), true).unwrap();
            self.take(judged);
        }
        assert_eq!(self.desks.poll_timeout(), None);
    }

    /// Offered and made are stored or suppressed.
    fn balances(&self) -> bool {
        let suppressed: u64 = self.suppressed.values().sum();
        self.offered + self.made == suppressed + u64::try_from(self.stored.len()).unwrap()
    }

    /// All stored readings of a resource.
    fn of(&self, name: &str) -> Vec<(u64, Value, Quality)> {
        let readings = self.stored.iter().flat_map(|s| s.readings.iter().map(|r| (ms_of(s.at), r)));
        let readings = readings.filter(|(_, reading)| reading.resource.as_str() == name);
        readings.map(|(ms, reading)| (ms, reading.value.clone(), reading.quality.clone())).collect()
    }

    fn values(&self, name: &str) -> Vec<Value> {
        self.of(name).into_iter().map(|(_, value, _)| value).collect()
    }
}

/// Which of these values, one a second, are reported by a rule.
fn reported(rule: Rule, values: &[Value]) -> Vec<Value> {
    let mut site = Site::new(one(rule));
    for (n, value) in values.iter().enumerate() {
        let ms = u64::try_from(n).unwrap() * 1_000;
        site.submit(&[sample(ms, &[("r", value.clone())])], ms);
    }
    assert!(site.balances());
    site.values("r")
}

#[test]
fn a_value_is_compared_with_the_last_one_reported() {
    let floats = |values: &[f64]| values.iter().map(|x| Value::from(*x)).collect::<Vec<_>>();
    let on_change = Rule { on_change: true, ..Rule::default() };
    let half = Rule { deadband: 0.5, ..Rule::default() };
    let percent = Rule { deadband_percent: 10.0, ..Rule::default() };
    let both = Rule { deadband: 0.5, ..percent };
    for (rule, values, expected) in [
        (Rule::default(), floats(&[1.0, 1.0]), floats(&[1.0, 1.0])),
        (on_change, floats(&[1.0, 1.0, 1.0 + f64::EPSILON, 1.0]), floats(&[1.0, 1.0 + f64::EPSILON, 1.0])),
        (on_change, floats(&[0.0, -0.0]), floats(&[0.0])),
        // Small steps add up: it is the last value reported that counts.
        (half, floats(&[20.0, 20.4, 20.5, 20.6, 20.9, 21.2]), floats(&[20.0, 20.6, 21.2])),
        (Rule { deadband: 0.1, ..half }, floats(&[20.0, 20.1, 20.2]), floats(&[20.0, 20.2])),
        (percent, floats(&[100.0, 110.0, 110.1, 120.0, 98.0]), floats(&[100.0, 110.1, 98.0])),
        // At 0 every change is beyond a part of it.
        (percent, floats(&[0.0, 0.001, 0.001, 0.0]), floats(&[0.0, 0.001, 0.0])),
        (both, floats(&[0.0, 0.4, 0.6, 100.0, 109.0]), floats(&[0.0, 0.6, 100.0])),
        (half, floats(&[-1e308, 1e308, f64::MAX]), floats(&[-1e308, 1e308, f64::MAX])),
        // 2^53 + 1 is no float.
        (
            on_change,
            vec![Value::from(9_007_199_254_740_992_i64), Value::from(9_007_199_254_740_993_i64)],
            vec![Value::from(9_007_199_254_740_992_i64), Value::from(9_007_199_254_740_993_i64)],
        ),
        (
            Rule { deadband: 2.0, ..half },
            vec![Value::from(u64::MAX), Value::from(u64::MAX - 2), Value::from(i64::MIN)],
            vec![Value::from(u64::MAX), Value::from(i64::MIN)],
        ),
        (
            on_change,
            vec![Value::from(1_i64), Value::from(1.0), Value::from(true)],
            vec![Value::from(1_i64), Value::from(true)],
        ),
        (
            half,
            vec![
                Value::from("on"),
                Value::from("on"),
                Value::from("off"),
                Value::from(1.0),
                Value::from(1.3),
            ],
            vec![Value::from("on"), Value::from("off"), Value::from(1.0)],
        ),
        (
            half,
            vec![Value::from(false), Value::from(true), Value::from(true)],
            vec![Value::from(false), Value::from(true)],
        ),
        // A width that no number has withholds nothing.
        (percent, floats(&[5e307, 20.0, 21.0]), floats(&[5e307, 20.0])),
        (
            Rule { deadband_percent: 100.0, ..Rule::default() },
            floats(&[f64::MAX, 20.0, f64::MAX]),
            floats(&[f64::MAX, 20.0, f64::MAX]),
        ),
        // NaN is no value, and a change of quality.
        (
            half,
            floats(&[1.0, f64::NAN, f64::NAN, 1.1]),
            vec![Value::from(1.0), Value::None, Value::from(1.1)],
        ),
    ] {
        assert_eq!(reported(rule, &values), expected, "{rule:?} {values:?}");
    }
}

#[test]
fn a_sample_is_cut_down_and_counted_when_it_is_empty() {
    let rules =
        [(resource("free"), Rule::default()), (resource("t"), Rule { deadband: 1.0, ..Rule::default() })];
    let mut site = Site::new(Report::new(Rule { on_change: true, ..Rule::default() }, rules.into(), []));
    site.submit(&[sample(0, &[("free", 1.0.into()), ("t", 1.0.into()), ("x", 1.0.into())])], 0);
    site.submit(&[sample(1, &[("free", 1.0.into()), ("t", 1.5.into()), ("x", 1.0.into())])], 1);
    site.submit(&[sample(2, &[("t", 1.5.into()), ("x", 1.0.into())])], 2);
    site.submit(&[sample(3, &[("x", 1.0.into())]), sample(4, &[("x", 2.0.into())])], 4);
    let readings: Vec<usize> = site.stored.iter().map(|sample| sample.readings.len()).collect();
    assert_eq!(readings, [3, 1, 1]);
    assert_eq!(site.suppressed, [("deadband", 1), ("unchanged", 1)].into());
    assert!(site.balances());
}

#[test]
fn of_more_resources_than_the_limit_everything_is_reported() {
    let mut site = Site::new(one(Rule { on_change: true, ..Rule::default() }));
    let names: Vec<String> = (0..4_200).map(|n| format!("r{n:04}")).collect();
    let readings: Vec<(&str, Value)> = names.iter().map(|name| (name.as_str(), 1.0.into())).collect();
    for n in 0..3 {
        site.submit(&[sample(n, &readings)], n);
    }
    let counts: Vec<usize> = site.stored.iter().map(|sample| sample.readings.len()).collect();
    assert_eq!(counts, [4_200, 104, 104]);
    assert_eq!(site.stored[1].readings[0].resource.as_str(), "r4096");
    assert!(site.balances());
}

#[test]
fn a_change_of_quality_is_reported_at_once_and_its_words_are_a_change() {
    let mut site =
        Site::new(one(Rule { on_change: true, min_interval: Some(SECOND * 10), ..Rule::default() }));
    let qualities = [
        Quality::Good,
        Quality::Bad("timeout".into()),
        Quality::Bad("timeout".into()),
        Quality::Bad("exception 2".into()),
        Quality::Uncertain("old".into()),
        Quality::Good,
    ];
    for (n, quality) in qualities.into_iter().enumerate() {
        let reading = Reading { resource: resource("r"), value: Value::from(1.0), quality };
        let ms = u64::try_from(n).unwrap() * 1_000;
        site.submit(&[Sample { at: stamp(ms), readings: vec![reading] }], ms);
    }
    let stamps: Vec<u64> = site.of("r").iter().map(|(ms, ..)| *ms).collect();
    assert_eq!(stamps, [0, 1_000, 4_000, 5_000]);
    assert_eq!(site.suppressed, [("unchanged", 1), ("interval", 1)].into());
}

#[test]
fn the_last_value_withheld_is_reported_with_its_own_stamp_when_the_interval_ends() {
    let rule = Rule { on_change: true, min_interval: Some(SECOND * 10), ..Rule::default() };
    let mut site = Site::new(one(rule));
    for (ms, value) in [(0, 1.0), (2_000, 2.0), (3_000, 3.0)] {
        site.submit(&[sample(ms, &[("r", value.into())])], ms);
    }
    assert_eq!((site.values("r"), site.desks.poll_timeout()), (vec![1.0.into()], Some(at(10_000))));
    site.run(10_000);
    assert_eq!(site.of("r")[1..], [(3_000, 3.0.into(), Quality::Good)]);
    assert_eq!((site.made, site.desks.poll_timeout()), (1, None));
    // It came back: nothing is left to report.
    site.submit(&[sample(11_000, &[("r", 4.0.into())])], 11_000);
    site.submit(&[sample(12_000, &[("r", 3.0.into())])], 12_000);
    assert_eq!(site.desks.poll_timeout(), None);
    // An orderly stop waits for no interval.
    site.submit(&[sample(12_500, &[("r", 5.0.into())])], 12_500);
    site.stop(12_600);
    assert_eq!(site.values("r"), [1.0.into(), 3.0.into(), 5.0.into()]);
    assert!(site.balances());
}

#[test]
fn an_interval_that_the_timer_ends_begins_then_and_not_with_the_stamp_of_what_it_reports() {
    let mut site = Site::new(one(Rule { min_interval: Some(SECOND * 10), ..Rule::default() }));
    let mut reports = Vec::new();
    for n in 0..60_u64 {
        let known = site.stored.len();
        site.run(n * 1_000);
        if [0, 1, 11, 12, 22, 23, 33, 34, 44, 45].contains(&n) {
            site.submit(&[sample(n * 1_000, &[("r", n.into())])], n * 1_000);
        }
        reports.extend((known..site.stored.len()).map(|_| n));
    }
    assert_eq!(reports, [0, 10, 20, 30, 40, 50]);
    assert_eq!(site.values("r"), [0_u64, 1, 12, 23, 34, 45].map(Value::from));
    assert!(site.balances());
}

#[test]
fn a_backlog_is_judged_by_its_stamps_and_a_clock_set_back_silences_nobody() {
    let rule = Rule {
        on_change: true,
        min_interval: Some(SECOND * 10),
        heartbeat: Some(SECOND * 60),
        ..Rule::default()
    };
    let mut site = Site::new(one(rule));
    let backlog: Vec<Sample> = (0..100).map(|n| sample(n * 1_000, &[("r", Value::from(n))])).collect();
    site.submit(&backlog, 500_000);
    let stamps: Vec<u64> = site.of("r").iter().map(|(ms, ..)| *ms).collect();
    assert_eq!(stamps, (0..10).map(|n| n * 10_000).collect::<Vec<_>>());
    site.run(510_000);
    assert_eq!(site.of("r").last().map(|(ms, ..)| *ms), Some(99_000), "the last one is not lost");
    // A day earlier by its stamps, and later all the same.
    let mut early = sample(0, &[("r", Value::from(7_u64))]);
    early.at = Stamp::Wall { us: MIDNIGHT - 86_400_000_000, source: Source::Gateway };
    site.submit(std::slice::from_ref(&early), 520_000);
    assert_eq!(site.stored.last(), Some(&early));
    site.submit(std::slice::from_ref(&early), 579_000);
    assert_eq!(site.suppressed["unchanged"], 1);
    site.submit(std::slice::from_ref(&early), 580_000);
    assert_eq!(site.stored.last(), Some(&early), "a heartbeat by arrival");
    assert!(site.balances());
}

#[test]
fn what_was_withheld_is_no_news_to_be_shown_when_it_is_reported() {
    let rules = [(resource("t"), Rule { window: Some(SECOND * 10), ..Rule::default() })];
    let slow = Rule { min_interval: Some(SECOND * 10), ..Rule::default() };
    let twice = (resource("x"), Expr::parse("r * 2").unwrap());
    let mut site = Site::new(Report::new(slow, rules.into(), [twice]));
    site.submit(&[sample(0, &[("r", 1.0.into()), ("t", 1.0.into())])], 0);
    site.submit(&[sample(2_000, &[("r", 2.0.into())])], 2_000);
    site.run(20_000);
    assert_eq!(
        (site.values("r"), site.values("x")),
        ([1.0, 2.0].map(Value::from).to_vec(), [2.0, 4.0].map(Value::from).to_vec())
    );
    let shown = site.shown.iter().flat_map(|s| s.readings.iter().map(|r| (ms_of(s.at), r.resource.as_str())));
    let shown: Vec<_> = shown.collect();
    assert_eq!(shown, [(0, "x"), (2_000, "x"), (10_000, "t.min"), (10_000, "t.max"), (10_000, "t.mean")]);
}

#[test]
fn expressions_use_the_last_values_and_the_worst_quality() {
    let mut site = Site::new(computed("p", "u * i", Rule::default()));
    site.submit(&[sample(0, &[("u", 230.0.into())])], 0);
    assert_eq!(site.of("p"), [], "an input was never seen");
    site.submit(&[sample(1, &[("i", 2_i64.into())])], 1);
    site.submit(&[sample(2, &[("other", 2.0.into())])], 2);
    site.submit(&[sample(3, &[("i", true.into()), ("u", 100.0.into())])], 3);
    site.submit(&[sample(4, &[("u", Value::from("high"))])], 4);
    let mut doubtful = sample(5, &[("i", 1.0.into()), ("u", 1.0.into())]);
    doubtful.readings[0].quality = Quality::Uncertain("old".into());
    site.submit(std::slice::from_ref(&doubtful), 5);
    doubtful.readings[1] = Reading::bad(resource("u"), "timeout");
    site.submit(&[doubtful], 6);
    site.submit(&[sample(7, &[("i", 1e300.into()), ("u", 1e300.into())])], 7);
    assert_eq!(
        site.of("p"),
        [
            (1, 460.0.into(), Quality::Good),
            (3, 100.0.into(), Quality::Good),
            (4, Value::None, Quality::Bad("u: not a number".into())),
            (5, 1.0.into(), Quality::Uncertain("i: old".into())),
            (5, Value::None, Quality::Bad("u: timeout".into())),
            (7, Value::None, Quality::Bad("not a finite number".into())),
        ]
    );
    assert_eq!((site.made, site.stored.len()), (0, 8), "results ride in the samples that they come of");
}

#[test]
fn windows_end_with_the_clock_and_say_what_they_lack() {
    let mut site = Site::new(one(Rule { window: Some(SECOND * 60), ..Rule::default() }));
    for (ms, value) in [(50_000, 5.0), (61_000, 1.0), (90_000, 4.0), (119_999, 1.0)] {
        site.submit(&[sample(ms, &[("t", value.into())])], ms);
    }
    let incomplete = Quality::Uncertain("window incomplete".into());
    assert_eq!(site.of("t.mean"), [(60_000, 5.0.into(), incomplete.clone())], "the gateway started in it");
    // By the timer, 2 s after its end.
    site.run(121_999);
    assert_eq!(site.of("t.mean").len(), 1);
    site.run(122_000);
    assert_eq!(site.of("t.min")[1..], [(120_000, 1.0.into(), Quality::Good)]);
    assert_eq!(site.of("t.max")[1..], [(120_000, 4.0.into(), Quality::Good)]);
    assert_eq!(site.of("t.mean")[1..], [(120_000, 2.0.into(), Quality::Good)]);
    // Too late for its window; a device away for a time.
    site.submit(&[sample(119_000, &[("t", 9.0.into())])], 123_000);
    site.submit(&[sample(124_000, &[("t", 2_i64.into())])], 124_000);
    let away = Sample { at: stamp(125_000), readings: vec![Reading::bad(resource("t"), "timeout")] };
    site.submit(&[away.clone(), away], 125_000);
    site.submit(&[sample(126_000, &[("t", 4_i64.into())])], 126_000);
    site.submit(&[sample(127_000, &[("t", 4_i64.into())])], 127_000);
    site.stop(130_000);
    let both = Quality::Uncertain("window incomplete; bad readings in the window".into());
    assert_eq!(site.of("t.max")[2..], [(127_000, 4_i64.into(), both)], "cut short by the stop");
    let told: Vec<u64> = site.of("t").iter().map(|(ms, ..)| *ms).collect();
    assert_eq!(told, [119_000, 125_000, 126_000], "late, away, and back");
    assert_eq!(site.suppressed, [("window", 6), ("unchanged", 1)].into());
    assert!(site.balances());
}

#[test]
fn a_late_number_is_reported_as_it_is_and_ends_or_repeats_no_window() {
    let mut site = Site::new(one(Rule { window: Some(SECOND * 60), ..Rule::default() }));
    let mut submit = |ms: u64, value: f64, now| site.submit(&[sample(ms, &[("t", value.into())])], now);
    submit(0, 0.0, 0);
    submit(60_000, 1.0, 60_000);
    submit(119_000, 3.0, 119_000);
    submit(120_000, 5.0, 120_000);
    // Of the window before, while this one is open; then a backlog beside live data.
    submit(118_000, 100.0, 121_000);
    for n in 0..50 {
        submit(121_000 + n, 6.0, 121_000 + n);
        submit(n, 100.0, 121_000 + n);
    }
    submit(180_000, 7.0, 180_000);
    site.run(300_000);
    // Of a window that the timer closed.
    site.submit(&[sample(239_000, &[("t", 100.0.into())])], 300_000);
    let incomplete = Quality::Uncertain("window incomplete".into());
    let expected = [
        (60_000, 0.0, incomplete),
        (120_000, 3.0, Quality::Good),
        (180_000, 6.0, Quality::Good),
        (240_000, 7.0, Quality::Good),
    ];
    assert_eq!(site.of("t.max"), expected.map(|(ms, max, quality)| (ms, max.into(), quality)));
    assert_eq!(site.values("t.min"), [0.0, 1.0, 5.0, 7.0].map(Value::from));
    let late: Vec<u64> = [118_000].into_iter().chain(0..50).chain([239_000]).collect();
    assert_eq!(
        site.of("t"),
        late.into_iter().map(|ms| (ms, 100.0.into(), Quality::Good)).collect::<Vec<_>>()
    );
    assert!(site.balances());
}

#[test]
fn bad_readings_before_the_first_number_of_a_window_leave_a_doubt() {
    let mut site = Site::new(one(Rule { window: Some(SECOND * 60), ..Rule::default() }));
    let bad = |ms| Sample { at: stamp(ms), readings: vec![Reading::bad(resource("t"), "timeout")] };
    site.submit(&[sample(50_000, &[("t", 1.0.into())])], 50_000);
    for n in 60..116 {
        site.submit(&[bad(n * 1_000)], n * 1_000);
    }
    site.submit(&[sample(116_000, &[("t", 2.0.into())])], 116_000);
    // A window of which nothing is bad, and one that has a text first.
    site.submit(&[sample(121_000, &[("t", 3.0.into())])], 121_000);
    site.submit(&[sample(180_000, &[("t", Value::from("high"))])], 180_000);
    site.submit(&[sample(190_000, &[("t", 4.0.into())])], 190_000);
    site.run(250_000);
    let gaps = Quality::Uncertain("bad readings in the window".into());
    let told: Vec<_> = site.of("t.mean").into_iter().skip(1).map(|(ms, _, quality)| (ms, quality)).collect();
    assert_eq!(told, [(120_000, gaps.clone()), (180_000, Quality::Good), (240_000, gaps)]);
    assert!(site.balances());
}

#[test]
fn windows_begin_anew_some_time_after_a_clock_was_set_back() {
    let mut site = Site::new(one(Rule { window: Some(SECOND * 10), ..Rule::default() }));
    for n in 0..12 {
        site.submit(&[sample(3_600_000 + n * 1_000, &[("t", n.into())])], n * 1_000);
    }
    // An hour back.
    for n in 12..50 {
        site.run(n * 1_000);
        site.submit(&[sample(n * 1_000, &[("t", n.into())])], n * 1_000);
    }
    let late: Vec<u64> = (12..24).map(|n| n * 1_000).collect();
    assert_eq!(site.of("t").into_iter().map(|(ms, ..)| ms).collect::<Vec<_>>(), late);
    let told: Vec<_> =
        site.of("t.max").into_iter().map(|(ms, max, quality)| (ms, max, quality == Quality::Good)).collect();
    let expected = [
        (3_610_000, 9_u64, false),
        (3_620_000, 11, true),
        // For this time there were windows already, for all that is known.
        (30_000, 29, false),
        (40_000, 39, false),
    ];
    assert_eq!(told, expected.map(|(ms, max, good)| (ms, Value::from(max), good)));
    assert!(site.balances());
}

#[test]
fn windows_that_end_together_are_closed_together() {
    let dues = (0..100_u64).map(|n| {
        let mut site = Site::new(one(Rule { window: Some(SECOND * 60), ..Rule::default() }));
        // The wall clock is 300 ms behind a full second of the other one, give or take some.
        site.submit(&[sample(30_000 + n * 7, &[("t", n.into())])], 5_300 + n * 7 + n % 3);
        site.desks.poll_timeout().unwrap()
    });
    let dues: std::collections::BTreeSet<Instant> = dues.collect();
    assert_eq!(dues.into_iter().collect::<Vec<_>>(), [at(38_000)]);
}

#[test]
fn what_the_rules_make_is_no_larger_than_a_sample_may_be() {
    const LIMIT: usize = 1_000;
    let rules =
        (0..100).map(|n| (resource(&format!("w{n}")), Rule { window: Some(SECOND * 10), ..Rule::default() }));
    let slow = (0..100)
        .map(|n| (resource(&format!("s{n}")), Rule { min_interval: Some(SECOND * 10), ..Rule::default() }));
    let expressions = (0..100).map(|n| (resource(&format!("x{n}")), Expr::parse("r * 2").unwrap()));
    let mut site = Site::new(Report::new(Rule::default(), rules.chain(slow).collect(), expressions));
    site.desks.set_limit(LIMIT);
    for n in 0..10 {
        let ms = 1_000 * n;
        let all = (0..20_u64)
            .map(|m| n * 20 + m)
            .map(|m| format!("{}{}", if m < 100 { 'w' } else { 's' }, m % 100));
        let all: Vec<String> = all.collect();
        let all: Vec<(&str, Value)> = all.iter().map(|name| (name.as_str(), 1.0.into())).collect();
        site.submit(&[sample(ms, &all)], ms);
        site.submit(&[sample(ms, &all)], ms);
    }
    // As large as may be, and all the expressions.
    let text = Value::from("x".repeat(950).as_str());
    site.submit(&[sample(9_500, &[("r", 1.0.into()), ("text", text)])], 9_500);
    // The words of its doubt leave no room for more.
    let mut doubtful = sample(9_600, &[("r", 2.0.into())]);
    doubtful.readings[0].quality = Quality::Uncertain("é".repeat(480));
    site.submit(&[doubtful], 9_600);
    site.run(100_000);
    let weights: Vec<usize> = site.stored.iter().map(Sample::weight).collect();
    assert!(weights.iter().all(|weight| *weight <= LIMIT), "{weights:?}");
    for n in 0..100 {
        for (name, count) in [(format!("w{n}.mean"), 1), (format!("s{n}"), 2), (format!("x{n}"), 2)] {
            assert_eq!(site.of(&name).len(), count, "{name}");
        }
    }
    // In as few as that takes, about.
    assert!(weights.len() < 170 && site.made > 20, "{} {weights:?}", site.made);
    assert!(site.balances());
}

#[test]
fn windows_before_the_time_is_known_are_of_their_boot() {
    let mut site = Site::new(one(Rule { window: Some(SECOND * 60), ..Rule::default() }));
    for (us, now) in [(10_000_000, 0), (70_000_000, 60_000), (130_000_000, 120_000)] {
        let at = Stamp::Mono { boot: 3, us };
        let readings = vec![Reading::measured(resource("t"), 1.0)];
        site.submit(&[Sample { at, readings }], now);
    }
    site.submit(&[sample(0, &[("t", 1.0.into())])], 121_000);
    let stamps: Vec<Stamp> = site.stored.iter().map(|sample| sample.at).collect();
    let mono = |us| Stamp::Mono { boot: 3, us };
    assert_eq!(stamps, [mono(60_000_000), mono(120_000_000), mono(130_000_000)], "the last one cut short");
}
