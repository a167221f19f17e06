//! The rules against brute force, on random samples, with transactions that fail at random.
//!
//! Mutants it kills: ROLLBACK keeps the books; a withheld value is reported though it came back; the last value
//! seen is compared with, not the last one reported; what the timer reports is not noted; the window that a
//! sample closes is forgotten; a late number opens a closed window again; an interval begins with the stamp of
//! what the timer reports.

use super::*;
use proptest::prelude::*;

/// A step of a simulation: a pause, a value, its quality, and how often its transaction fails.
type Step = (u64, i32, u8, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..4_000_u64, -20..20_i32, 0..12_u8, 0..3_u8), 1..80)
}

fn offered(step: &Step, ms: u64) -> Sample {
    let (_, value, quality, _) = *step;
    let value = Value::from(f64::from(value) / 4.0);
    let reading = match quality {
        0 => Reading::bad(resource("r"), "timeout"),
        1 => Reading { resource: resource("r"), value, quality: Quality::Uncertain("old".into()) },
        _ => Reading::measured(resource("r"), value),
    };
    Sample { at: stamp(ms), readings: vec![reading] }
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Float(x) => x.value(),
        other => panic!("{other:?}"),
    }
}

fn rules() -> impl Strategy<Value = Rule> {
    let span = |longest: u64| prop::option::of((1..longest).prop_map(Duration::from_secs));
    (any::<bool>(), 0..5_u8, 0..3_u8, span(15), span(10)).prop_map(
        |(on_change, width, percent, heartbeat, interval)| Rule {
            on_change,
            deadband: f64::from(width) / 2.0,
            deadband_percent: f64::from(percent) * 20.0,
            // As the configuration has it.
            heartbeat: heartbeat.map(|heartbeat| heartbeat.max(interval.unwrap_or_default())),
            min_interval: interval,
            window: None,
        },
    )
}

proptest! {
    /// After each step the far end knows the device's value within the deadband, unless the minimum
    /// interval is not over; heartbeats and changes of quality come with their samples.
    #[test]
    fn the_far_end_knows_the_value_within_the_deadband(rule in rules(), steps in steps()) {
        let mut site = Site::new(one(rule));
        let mut now = 0;
        // When the last report was, by arrival.
        let mut told: Option<(u64, Reading)> = None;
        for step in &steps {
            now += step.0;
            let before = site.stored.len();
            // Only what is due before now: a report at `due` is by arrival at `due`.
            while let Some(due) = site.desks.poll_timeout().filter(|due| *due <= at(now)) {
                let known = site.stored.len();
                for place in site.desks.due(due, false, 9) {
                    let judged = site.desks.release(place, due, false).unwrap();
                    site.take(judged);
                }
                let ms = u64::try_from(due.since(at(0)).as_millis()).unwrap();
                let (last, _) = told.clone().unwrap();
                prop_assert!(Some(Duration::from_millis(ms - last)) >= rule.min_interval);
                told = Some((ms, site.stored[known].readings[0].clone()));
            }
            prop_assert!(site.stored.len() - before <= 1);
            let sample = offered(step, now);
            let known = site.stored.len();
            site.submit(std::slice::from_ref(&sample), now);
            let reading = &sample.readings[0];
            let passed = told.as_ref().map(|(ms, _)| Duration::from_millis(now - ms));
            let reported = site.stored.len() > known;
            let same_kind = told.as_ref().is_some_and(|(_, last)| {
                std::mem::discriminant(&last.quality) == std::mem::discriminant(&reading.quality)
            });
            let over = |length: Option<Duration>| length.is_some_and(|length| passed >= Some(length));
            if !same_kind || over(rule.heartbeat) {
                prop_assert!(reported, "{step:?} at {now}");
            }
            if reported {
                // Stamps and arrival are the same here: not more often than the interval.
                if let (true, Some((ms, _)), Some(interval)) = (same_kind, &told, rule.min_interval) {
                    prop_assert!(Duration::from_millis(now - ms) >= interval);
                }
                told = Some((now, reading.clone()));
                continue;
            }
            let (ms, last) = told.as_ref().unwrap();
            let within = match (&last.quality, &reading.quality) {
                (Quality::Bad(_), Quality::Bad(_)) => true,
                _ => {
                    let (a, b) = (float(&last.value), float(&reading.value));
                    (a - b).abs() <= rule.deadband.max(a.abs() * rule.deadband_percent / 100.0) + 1e-9
                }
            };
            let waits = rule.min_interval.is_some_and(|interval| Duration::from_millis(now - ms) < interval);
            prop_assert!((within && rule.compares()) || waits, "{step:?} at {now} after {last:?}");
            prop_assert!(!within || !rule.compares() || site.desks.poll_timeout().is_none());
        }
        site.stop(now);
        prop_assert!(site.balances());
        let last = site.of("r").pop().unwrap();
        if let (Value::Float(a), Value::Float(b)) = (&last.1, &offered(steps.last().unwrap(), now).readings[0].value) {
            let width = rule.deadband.max(a.value().abs() * rule.deadband_percent / 100.0);
            prop_assert!((a.value() - b.value()).abs() <= width + 1e-9);
        }
    }

    /// Transactions that fail, and are tried again or given up, change nothing of what is reported.
    #[test]
    fn transactions_that_fail_lose_nothing(
        rule in rules(),
        window in prop::option::of((1..8_u64).prop_map(Duration::from_secs)),
        steps in steps(),
    ) {
        let report = || computed("x", "r * 2 + 1", Rule { window, ..rule });
        let (mut calm, mut rough) = (Site::new(report()), Site::new(report()));
        let mut now = 0;
        for step in &steps {
            now += step.0;
            let sample = offered(step, now);
            // Some that are refused for good as well.
            let stranger = offered(&(0, step.1 + 7, step.2 ^ 1, 0), now);
            for _ in 0..step.3 {
                rough.fail_to_release(now);
            }
            calm.run(now);
            rough.run(now);
            for _ in 0..step.3 {
                rough.fail(std::slice::from_ref(&sample), now);
                rough.fail(std::slice::from_ref(&stranger), now);
            }
            for site in [&mut calm, &mut rough] {
                site.submit(std::slice::from_ref(&sample), now);
            }
        }
        for site in [&mut calm, &mut rough] {
            site.stop(now);
            prop_assert!(site.balances());
        }
        prop_assert_eq!(calm.stored, rough.stored);
        prop_assert_eq!(calm.suppressed, rough.suppressed);
    }

    /// Every number is in exactly one result of its window, however samples are bundled.
    #[test]
    fn windows_are_what_brute_force_says(
        seconds in 1..20_u64,
        bundles in prop::collection::vec(
            prop::collection::vec((0..3_000_u64, -1_000..1_000_i64), 1..6),
            1..30,
        ),
    ) {
        let length = Duration::from_secs(seconds);
        let mut site = Site::new(one(Rule { window: Some(length), ..Rule::default() }));
        let mut now = 0;
        let mut frames: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        let midnight = u64::try_from(MIDNIGHT / 1_000).unwrap();
        for bundle in &bundles {
            let mut samples = Vec::new();
            let begin = now;
            for (pause, value) in bundle {
                now += pause;
                frames.entry((midnight + now) / (seconds * 1_000)).or_default().push(*value);
                samples.push(sample(now, &[("t", Value::from(*value))]));
            }
            // They arrive with the last of them, and the timer is not late.
            site.run(begin);
            site.submit(&samples, now);
        }
        site.run(now + seconds * 1_000 + 3_000);
        prop_assert!(site.balances());
        let expected: Vec<(u64, i64, i64)> = frames
            .iter()
            .map(|(n, v)| ((n + 1) * seconds * 1_000 - midnight, *v.iter().min().unwrap(), *v.iter().max().unwrap()))
            .collect();
        let whole = |value: &Value| match value {
            Value::Int(n) => *n,
            other => panic!("{other:?}"),
        };
        let results: Vec<(u64, i64, i64)> = site
            .of("t.min")
            .iter()
            .zip(site.of("t.max"))
            .map(|((ms, min, _), (_, max, _))| (*ms, whole(min), whole(&max)))
            .collect();
        prop_assert_eq!(results, expected);
        for ((_, mean, quality), (n, values)) in site.of("t.mean").iter().zip(&frames) {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let exact = values.iter().sum::<i64>() as f64 / values.len() as f64;
            prop_assert!((float(mean) - exact).abs() < 1e-9, "{mean:?} of {values:?}");
            let first = Some(n) == frames.keys().next();
            prop_assert_eq!(*quality == Quality::Good, !first);
        }
        prop_assert_eq!(site.suppressed["window"], site.offered);
    }

    /// However late numbers come: one result of a window, of the numbers in it; the others as they are.
    #[test]
    fn late_numbers_change_no_result(
        steps in prop::collection::vec((0..3_000_u64, prop::option::of(0..60_000_u64)), 1..60),
    ) {
        const LENGTH: u64 = 10_000;
        let mut site = Site::new(one(Rule { window: Some(Duration::from_millis(LENGTH)), ..Rule::default() }));
        // Each number once.
        let (mut now, mut offered) = (60_000, BTreeMap::new());
        for (n, (pause, late)) in steps.iter().enumerate() {
            now += pause;
            site.run(now);
            // One in time after each that may be late.
            for (ms, value) in [(now - late.unwrap_or(0), 2 * n), (now, 2 * n + 1)] {
                let value = u64::try_from(value).unwrap();
                site.submit(&[sample(ms, &[("t", value.into())])], now);
                offered.insert(value, ms);
            }
        }
        site.run(now + LENGTH + 4_000);
        let whole = |value: &Value| match value {
            Value::Int(n) => u64::try_from(*n).unwrap(),
            Value::Uint(n) => n.value(),
            other => panic!("{other:?}"),
        };
        for (ms, value, _) in site.of("t") {
            prop_assert_eq!(offered.remove(&whole(&value)), Some(ms), "reported once, with its own stamp");
        }
        let mut frames: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (value, ms) in offered {
            frames.entry(ms / LENGTH).or_default().push(value);
        }
        let expected: Vec<_> = frames
            .iter()
            .enumerate()
            .map(|(n, (frame, all))| ((frame + 1) * LENGTH, *all.iter().min().unwrap(), *all.iter().max().unwrap(), n > 0))
            .collect();
        let told: Vec<_> = site
            .of("t.min")
            .iter()
            .zip(site.of("t.max"))
            .map(|((ms, min, quality), (_, max, _))| (*ms, whole(min), whole(&max), *quality == Quality::Good))
            .collect();
        prop_assert_eq!(told, expected);
        prop_assert!(site.balances());
    }

    /// Stamps in any order, of any clock, and values of any kind: no panic, and it balances.
    #[test]
    fn whatever_comes_is_counted(
        rule in rules(),
        window in prop::option::of((1..8_u64).prop_map(Duration::from_secs)),
        samples in prop::collection::vec((any::<i64>(), prop::option::of(0..2_i64), any::<f64>(), any::<u64>(), 0..5_u8), 1..40),
    ) {
        let mut site = Site::new(computed("x", "min(r, 5) / r", Rule { window, ..rule }));
        for (n, (us, boot, float, whole, kind)) in samples.into_iter().enumerate() {
            let at = match boot {
                Some(boot) => Stamp::Mono { boot, us },
                None => Stamp::Wall { us, source: Source::Device },
            };
            let value = match kind {
                0 => Value::from(float),
                1 => Value::from(whole),
                2 => Value::from("text"),
                3 => Value::List(vec![Value::from(float)]),
                _ => Value::from(whole % 2 == 0),
            };
            let now = u64::try_from(n).unwrap() * 700;
            site.run(now);
            site.submit(&[Sample { at, readings: vec![Reading::measured(resource("r"), value)] }], now);
        }
        site.stop(100_000);
        prop_assert!(site.balances());
    }
}
