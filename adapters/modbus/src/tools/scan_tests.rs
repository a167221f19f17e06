//! The course of a scan, and how long it says it takes.

use super::*;

const SILENCE: Duration = Duration::from_millis(300);

/// Runs a course over units that answer at once, all others being silent; returns who was found.
fn run_course(course: &mut Course, there: &[(usize, u8)]) -> Vec<Probe> {
    let mut found = Vec::new();
    while let Some(probe) = course.poll_probe() {
        let answers = there.contains(&(probe.setting, probe.unit));
        course.handle_end(answers, if answers { SILENCE / 10 } else { SILENCE });
        found.extend(answers.then_some(probe));
    }
    found
}

#[test]
fn every_unit_is_tried_once_at_every_setting() {
    let mut course = Course::new(vec![SILENCE, 2 * SILENCE], (1, 247), false);
    assert_eq!(course.probes(), 2 * 247);
    assert_eq!(course.at_most(), SILENCE * 3 * 247);
    assert_eq!(course.poll_probe(), Some(Probe { setting: 0, unit: 1 }));
    let there = [(0, 1), (1, 17), (1, 247)];
    let found = run_course(&mut course, &there);
    assert_eq!(found.iter().map(|p| (p.setting, p.unit)).collect::<Vec<_>>(), there);
    assert_eq!((course.done(), course.found()), (494, 3));
    assert_eq!((course.at_most(), course.left()), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn the_first_is_enough_where_it_was_asked_for() {
    let mut course = Course::new(vec![SILENCE], (5, 9), true);
    assert_eq!(run_course(&mut course, &[(0, 7), (0, 8)]), [Probe { setting: 0, unit: 7 }]);
    assert_eq!((course.done(), course.probes()), (3, 5));
}

#[test]
fn the_estimate_follows_what_is_measured() {
    let mut course = Course::new(vec![SILENCE], (1, 100), false);
    assert_eq!(course.left(), SILENCE * 100, "nothing is known yet");
    for _ in 0..50 {
        course.handle_end(true, SILENCE / 10);
    }
    assert_eq!(course.at_most(), SILENCE * 50, "the rest may be silent");
    assert_eq!(course.left(), SILENCE * 5, "if it goes on like this");
    // A bus that is busy takes longer than its silences.
    for _ in 0..25 {
        course.handle_end(false, SILENCE * 3);
    }
    assert!(course.left() > course.at_most());
}

#[test]
fn who_got_no_turn_is_asked_once_more_at_the_end() {
    let mut course = Course::new(vec![SILENCE], (1, 4), false);
    let mut asked = Vec::new();
    let mut given_up = Vec::new();
    while let Some(Probe { unit, .. }) = course.poll_probe() {
        asked.push(unit);
        // Unit 2 gets its turn late, unit 3 never.
        match (unit, asked.iter().filter(|asked| **asked == unit).count()) {
            (3, _) | (2, 1) => given_up.extend(course.handle_no_turn().then_some(unit)),
            _ => course.handle_end(unit == 2, SILENCE),
        }
    }
    assert_eq!((asked.as_slice(), given_up.as_slice()), (&[1, 2, 3, 4, 2, 3][..], &[3][..]));
    assert_eq!((course.done(), course.unasked(), course.found()), (3, 1, 1));
}

#[test]
fn a_setting_the_port_does_not_have_is_left_out() {
    let mut course = Course::new(vec![SILENCE; 3], (1, 10), false);
    course.handle_end(true, SILENCE);
    while course.poll_probe().unwrap().setting == 0 {
        course.handle_end(false, SILENCE);
    }
    course.handle_no_setting();
    assert_eq!(course.poll_probe(), Some(Probe { setting: 2, unit: 1 }));
    assert_eq!(course.at_most(), SILENCE * 10);
    course.handle_no_setting();
    assert_eq!((course.poll_probe(), course.done(), course.unasked(), course.found()), (None, 10, 20, 1));
}
