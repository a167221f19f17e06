//! What is told when, as a table: looks at what stands, and the lines that come of them.

use super::*;

/// `code count` of 30 devices each, or `code what` of something that is not counted.
fn standing(text: &str) -> Standing {
    let (code, more) = text.split_once(' ').unwrap();
    let count = more.parse().ok().map(|count| (count, 30, "devices"));
    let what = if count.is_some() { "silent" } else { more };
    Standing { who: "uplink".into(), code: code.into(), what: what.into(), count, ..Standing::default() }
}

fn shown(line: &Line) -> String {
    let one = |s: &Standing| format!("{} {}", s.code, s.share().unwrap_or_else(|| s.what.clone()));
    match line {
        Line::Begins(fault) => format!("begins {}", one(fault)),
        Line::Changed(fault) => format!("changed {}", one(fault)),
        Line::Over { was, after } => format!("over {} after {} s", one(was), after.as_secs()),
        Line::Works { who, devices } => format!("works {who} {devices}"),
        Line::Still(faults) => format!("still {}", list(faults)),
    }
}

/// One who looks when something changes, and when it is due.
#[derive(Default)]
struct Keeper {
    telling: Telling,
    stands: Vec<Standing>,
    unheard: Option<&'static str>,
    told: Vec<(u64, String)>,
}

impl Keeper {
    fn look(&mut self, at: u64) {
        let now = Instant::from_start(Duration::from_secs(at));
        self.telling.handle_look(now, self.stands.clone(), self.unheard);
        while let Some(line) = self.telling.poll_line() {
            self.told.push((at, shown(&line)));
        }
    }

    /// Lets the time pass, looking only when it is due.
    fn pass(&mut self, from: u64, to: u64) {
        for at in from..to {
            let now = Instant::from_start(Duration::from_secs(at));
            if self.telling.poll_timeout().is_some_and(|due| due <= now) {
                self.look(at);
            }
        }
    }
}

/// What is told until `end` of what stands from each of these seconds on.
fn told(changes: &[(u64, &[&str])], end: u64) -> Vec<(u64, String)> {
    let mut keeper = Keeper::default();
    for (n, (at, stands)) in changes.iter().enumerate() {
        keeper.stands = stands.iter().map(|text| standing(text)).collect();
        keeper.look(*at);
        keeper.pass(*at + 1, changes.get(n + 1).map_or(end, |next| next.0));
    }
    keeper.told
}

#[test]
fn a_fault_is_told_at_once_then_on_change_and_hourly_and_its_end_once() {
    let check = |changes: &[(u64, &[&str])], end, expected: &[(u64, &str)]| {
        let expected: Vec<_> = expected.iter().map(|(at, line)| (*at, (*line).to_owned())).collect();
        assert_eq!(told(changes, end), expected, "{changes:?}");
    };
    check(&[(5, &[])], 99_999, &[]);
    check(
        &[(5, &["TG-431 1"]), (2_000, &[])],
        99_999,
        &[(5, "begins TG-431 silent"), (2_000, "over TG-431 silent after 1995 s")],
    );
    // One after the other falls silent, and one after the other comes back: both are told together.
    check(
        &[
            (5, &["TG-431 1"]),
            (6, &["TG-431 9"]),
            (9, &["TG-431 17"]),
            (4_000, &["TG-431 11"]),
            (4_008, &["TG-431 2"]),
            (4_009, &[]),
        ],
        9_999,
        &[
            (5, "begins TG-431 silent"),
            (16, "changed TG-431 17 of 30 devices"),
            (3_605, "still uplink TG-431 17 of 30 devices"),
            (4_009, "over TG-431 17 of 30 devices after 4004 s"),
        ],
    );
    // They come back so slowly that it is told, and its end is that of all of them.
    check(
        &[(5, &["TG-431 30"]), (5_000, &["TG-431 2"]), (6_000, &[])],
        7_000,
        &[
            (5, "begins TG-431 30 of 30 devices"),
            (3_605, "still uplink TG-431 30 of 30 devices"),
            (5_010, "changed TG-431 2 of 30 devices"),
            (6_000, "over TG-431 30 of 30 devices after 5995 s"),
        ],
    );
    // Two kinds, in one line each hour.
    check(
        &[(5, &["TG-431 30", "TG-102 refused"])],
        8_000,
        &[
            (5, "begins TG-102 refused"),
            (5, "begins TG-431 30 of 30 devices"),
            (3_605, "still uplink TG-102; uplink TG-431 30 of 30 devices"),
            (7_205, "still uplink TG-102; uplink TG-431 30 of 30 devices"),
        ],
    );
    // Another device in place of the one is told, of two it is not.
    check(
        &[(5, &["TG-442 register 5"]), (50, &["TG-442 register 6"])],
        100,
        &[(5, "begins TG-442 register 5"), (60, "changed TG-442 register 6")],
    );
    // A connection that is back soon was not away.
    check(&[(5, &["TG-106 closed"]), (9, &[]), (1_800, &["TG-106 closed"]), (1_801, &[])], 9_000, &[]);
    check(&[(5, &["TG-106 closed"])], 20, &[(15, "begins TG-106 closed")]);
}

#[test]
fn what_comes_and_goes_all_day_is_told_hourly_in_the_end() {
    for period in [2, 7, 30, 61, 600, 1_799] {
        let changes: Vec<(u64, &[&str])> = (0..86_400 / period)
            .map(|n| (n * period, if n % 2 == 0 { &["TG-431 1"] as &[&str] } else { &[] }))
            .collect();
        let lines = told(&changes, 86_400).len();
        assert!((2..=60).contains(&lines), "{lines} lines a day when it changes every {period} s");
    }
}

#[test]
fn nothing_is_kept_of_what_is_long_over() {
    let mut keeper = Keeper::default();
    for n in 0..1_000 {
        keeper.stands = vec![standing(&format!("TG-{n} x"))];
        keeper.look(n * 10);
    }
    keeper.stands.clear();
    keeper.look(10_001);
    keeper.look(20_000);
    assert!(keeper.telling.kinds.is_empty());
    assert_eq!(keeper.telling.poll_timeout(), None);
}

#[test]
fn what_left_the_configuration_is_not_told_to_be_well() {
    let mut keeper = Keeper::default();
    let of = |who: &str| Standing { who: who.into(), ..standing("TG-431 x") };
    keeper.stands = vec![of("modbus.a"), of("modbus.b"), of("store")];
    keeper.look(5);
    keeper.telling.handle_units(&["modbus.b"].into());
    keeper.stands.clear();
    keeper.look(50);
    let told: Vec<_> = keeper.told.iter().map(|(at, line)| format!("{at} {line}")).collect();
    let begins = "5 begins TG-431 x";
    assert_eq!(told, [begins, begins, begins, "50 over TG-431 x after 45 s", "50 over TG-431 x after 45 s"]);
}

#[test]
fn that_all_devices_answer_is_told_once() {
    let mut telling = Telling::default();
    let mut lines = Vec::new();
    for well in [vec![], vec![("a", 3)], vec![], vec![("a", 3), ("b", 1)], vec![("a", 4)]] {
        telling.handle_well(&well.into_iter().collect());
        lines.extend(std::iter::from_fn(|| telling.poll_line()).map(|line| shown(&line)));
    }
    assert_eq!(lines, ["works a 3", "works b 1"]);
}

#[test]
fn the_hourly_line_stays_short() {
    let many: Vec<Standing> = (100..200).map(|n| standing(&format!("TG-{n} x"))).collect();
    let list = list(&many);
    assert!(list.ends_with("uplink TG-119; and 80 more") && list.len() < 400, "{list}");
}

#[test]
fn whoever_does_not_answer_has_mended_nothing() {
    let mut keeper = Keeper { stands: vec![standing("TG-154 9")], ..Keeper::default() };
    keeper.look(5);
    // For a minute: that is told, and nothing else.
    (keeper.stands, keeper.unheard) = (vec![standing("TG-217 it does not answer")], Some("uplink"));
    keeper.look(100);
    keeper.pass(101, 160);
    (keeper.stands, keeper.unheard) = (vec![standing("TG-154 9")], None);
    keeper.look(160);
    keeper.pass(161, 900);
    keeper.stands = Vec::new();
    keeper.look(900);
    let expected = [
        (5, "begins TG-154 9 of 30 devices"),
        (100, "begins TG-217 it does not answer"),
        (160, "over TG-217 it does not answer after 60 s"),
        (900, "over TG-154 9 of 30 devices after 895 s"),
    ];
    let expected: Vec<_> = expected.iter().map(|(at, line)| (*at, (*line).to_owned())).collect();
    assert_eq!(keeper.told, expected);
}
