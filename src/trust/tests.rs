//! The machine, driven by hand and at random.

use super::*;

const HOLD: Duration = Duration::from_secs(600);
/// 2026, in µs.
const REAL: i64 = 1_770_000_000_000_000;

fn at(seconds: u64) -> Instant {
    Instant::from_start(Duration::from_secs(seconds))
}

fn us(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap() * 1_000_000
}

/// A look `seconds` after boot, on a wall clock that began at `epoch_us`.
fn look(seconds: u64, sign: Option<Sign>, epoch_us: i64) -> Look {
    Look { sign, complete: true, wall_us: epoch_us + us(seconds), boot_us: us(seconds) }
}

fn outputs(trust: &mut Trust) -> Vec<Output> {
    std::iter::from_fn(|| trust.poll_output()).collect()
}

#[test]
fn the_time_is_known_by_the_first_sign_and_for_good() {
    let mut trust = Trust::new(at(1), at(600), None);
    trust.handle_look(at(1), &look(1, None, 0));
    assert_eq!((outputs(&mut trust), trust.state()), (vec![], State::Waiting(at(600))));
    trust.handle_look(at(9), &look(9, Some(Sign::Timedated), REAL));
    let known = Output::Known { by: Sign::Timedated, offset_us: REAL };
    assert_eq!((outputs(&mut trust), trust.state()), (vec![known], State::Known(Sign::Timedated)));
    trust.handle_look(at(700), &look(700, None, REAL));
    assert_eq!((outputs(&mut trust), trust.state()), (vec![], State::Known(Sign::Timedated)));
}

#[test]
fn samples_wait_until_the_hold_is_over_and_the_time_may_come_later() {
    let mut trust = Trust::new(at(1), at(600), None);
    trust.handle_look(at(599), &look(599, None, 0));
    assert_eq!(outputs(&mut trust), []);
    trust.handle_look(at(600), &look(600, None, 0));
    assert_eq!((outputs(&mut trust), trust.state()), (vec![Output::HoldOver], State::Unknown));
    trust.handle_look(at(610), &look(610, None, 0));
    assert_eq!(outputs(&mut trust), [], "said once");
    trust.handle_look(at(9_000), &look(9_000, Some(Sign::Timesyncd), REAL));
    assert_eq!(outputs(&mut trust), [Output::Known { by: Sign::Timesyncd, offset_us: REAL }]);
}

#[test]
fn the_hold_is_not_over_before_everything_was_asked() {
    // A start long after boot: timedated has not answered yet.
    let mut trust = Trust::new(at(0), at(0), None);
    let hasty = Look { complete: false, ..look(9_000, None, REAL) };
    trust.handle_look(at(0), &hasty);
    assert_eq!(outputs(&mut trust), []);
    trust.handle_look(at(1), &look(9_001, Some(Sign::Timedated), REAL));
    assert_eq!(outputs(&mut trust), [Output::Known { by: Sign::Timedated, offset_us: REAL }]);
}

#[test]
fn a_mark_on_a_clock_of_1970_is_not_believed_unless_configured() {
    for (sign, believed) in [(Sign::Timesyncd, false), (Sign::Timedated, false), (Sign::Configured, true)] {
        let mut trust = Trust::new(at(1), at(600), None);
        trust.handle_look(at(1), &look(1, Some(sign), 0));
        assert_eq!(matches!(trust.state(), State::Known(_)), believed, "{sign:?}");
    }
}

#[test]
fn what_was_known_earlier_in_the_boot_is_known_at_the_start() {
    let mut trust = Trust::new(at(1), at(600), Some(REAL));
    assert_eq!(outputs(&mut trust), [Output::Known { by: Sign::Earlier, offset_us: REAL }]);
    trust.handle_look(at(1), &look(5_000, None, REAL));
    assert_eq!((outputs(&mut trust), trust.state()), (vec![], State::Known(Sign::Earlier)));
}

#[test]
fn a_step_of_a_trusted_clock_is_told_and_slow_drift_is_not() {
    let mut trust = Trust::new(at(1), at(600), None);
    trust.handle_look(at(1), &look(1, Some(Sign::Configured), REAL));
    outputs(&mut trust);
    for n in 1..100 {
        trust.handle_look(at(60 * n), &look(60 * n, None, REAL + us(n)));
        assert_eq!(outputs(&mut trust), [], "a second per minute");
    }
    trust.handle_look(at(6_000), &look(6_000, None, REAL + us(99) - us(86_400)));
    assert_eq!(outputs(&mut trust), [Output::Stepped { by_us: -us(86_400) }]);
    assert_eq!(trust.poll_timeout(), at(6_060), "and no timer follows it");
}

/// Any wall clock, signs that come and go, looks that are late: what is promised holds.
#[test]
fn whatever_the_wall_clock_does_samples_wait_no_longer_than_the_hold() {
    for seed in 0..5_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let hold_until = at(0) + HOLD.mul_f64(rng.f64());
        let mut trust = Trust::new(at(0), hold_until, None);
        let (mut now, mut wall_us) = (at(0), rng.i64(-REAL..2 * REAL));
        let (mut known, mut over) = (None, 0);
        for _ in 0..1_500 {
            let due = trust.poll_timeout();
            let late = Duration::from_millis(rng.u64(0..500));
            let passed = due.since(now) + late;
            assert!(passed <= Duration::from_secs(61), "seed {seed}: looks come to an end");
            now = now + passed;
            wall_us += i64::try_from(passed.as_micros()).unwrap();
            if rng.u8(..) < 20 {
                wall_us = rng.i64(-REAL..2 * REAL);
            }
            let sign = [Sign::Timesyncd, Sign::Timedated][rng.usize(..2)];
            let boot_us = i64::try_from(now.since(at(0)).as_micros()).unwrap();
            let complete = now.since(at(0)) > Duration::from_secs(3);
            let look = Look { sign: (rng.u8(..) == 0).then_some(sign), complete, wall_us, boot_us };
            trust.handle_look(now, &look);
            while let Some(output) = trust.poll_output() {
                match output {
                    Output::Known { offset_us, .. } => {
                        assert_eq!(known.replace(offset_us), None, "seed {seed}: known once");
                        assert_eq!(offset_us + boot_us, wall_us, "seed {seed}");
                        assert!(wall_us >= EARLIEST, "seed {seed}: {wall_us} believed");
                    }
                    Output::HoldOver => {
                        over += 1;
                        assert!(known.is_none() && now >= hold_until, "seed {seed}");
                    }
                    Output::Stepped { .. } => assert!(known.is_some(), "seed {seed}"),
                }
            }
            let waits = matches!(trust.state(), State::Waiting(_));
            let longest = hold_until.max(at(3)) + Duration::from_secs(2);
            assert!(!waits || now < longest, "seed {seed}: samples still wait at {now:?}");
            assert!(over <= 1, "seed {seed}: said once");
        }
    }
}
