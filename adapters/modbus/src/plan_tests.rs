//! Plans against devices that lack entries and have limits; and the mutants they kill.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn check(wants: &[(Table, u16, u16)], blocks: &[(Table, u16, u16)]) {
    check_within(Limits::STANDARD, wants, blocks);
}

fn check_within(limits: Limits, wants: &[(Table, u16, u16)], blocks: &[(Table, u16, u16)]) {
    let wants = wants.iter().map(|&(table, start, length)| Want { table, start, length }).collect();
    let plan = Plan::new(wants, limits);
    let planned: Vec<_> = plan.blocks.iter().map(|b| (b.table, b.start, b.length)).collect();
    assert_eq!(planned, blocks);
}

#[test]
fn direct_neighbours_are_read_together() {
    use Table::{Coil, Discrete, Holding, Input};
    check(&[], &[]);
    check(&[(Holding, 2, 2), (Holding, 0, 2)], &[(Holding, 0, 4)]);
    check(&[(Holding, 0, 2), (Holding, 3, 1)], &[(Holding, 0, 2), (Holding, 3, 1)]);
    check(&[(Holding, 0, 1), (Input, 1, 1)], &[(Holding, 0, 1), (Input, 1, 1)]);
    check(&[(Coil, 0, 1), (Discrete, 1, 1)], &[(Coil, 0, 1), (Discrete, 1, 1)]);
    check(&[(Holding, 5, 1), (Holding, 5, 1), (Holding, 4, 2)], &[(Holding, 4, 2)]);
    check(&[(Holding, 65_534, 2), (Holding, 65_533, 1)], &[(Holding, 65_533, 3)]);
}

#[test]
fn no_request_is_over_its_limit() {
    let registers: Vec<_> = (0..300).map(|n| (Table::Holding, n, 1)).collect();
    check(&registers, &[(Table::Holding, 0, 125), (Table::Holding, 125, 125), (Table::Holding, 250, 50)]);
    // 125 is odd: the 63rd pair does not fit and is not torn.
    let pairs: Vec<_> = (0..63).map(|n| (Table::Input, 2 * n, 2)).collect();
    check(&pairs, &[(Table::Input, 0, 124), (Table::Input, 124, 2)]);
    let bits: Vec<_> = (0..2_001).map(|n| (Table::Coil, n, 1)).collect();
    check(&bits, &[(Table::Coil, 0, 2_000), (Table::Coil, 2_000, 1)]);
}

#[test]
fn what_lies_close_together_is_read_at_once() {
    use Table::{Coil, Holding};
    let limits = Limits { registers: 20, bits: 100, hole: 3 };
    check_within(limits, &[(Holding, 0, 2), (Holding, 5, 1)], &[(Holding, 0, 6)]);
    check_within(limits, &[(Holding, 0, 2), (Holding, 6, 1)], &[(Holding, 0, 2), (Holding, 6, 1)]);
    check_within(limits, &[(Coil, 0, 1), (Coil, 49, 1)], &[(Coil, 0, 50)]);
    let wide = [(Holding, 0, 18), (Holding, 20, 1)];
    check_within(limits, &wide, &wide);
}

/// A device that lacks entries and takes so many at once; the clock goes on by a second a round.
struct Peer {
    missing: BTreeSet<(Table, u16)>,
    most: u16,
    now: Instant,
    /// Single entries it refused: until when they may not be asked for.
    refused: BTreeMap<(Table, u16), Instant>,
    asked: usize,
}

impl Peer {
    fn new(missing: impl IntoIterator<Item = (Table, u16)>, most: u16) -> Self {
        let now = Instant::from_start(Duration::ZERO);
        Self { missing: missing.into_iter().collect(), most, now, refused: BTreeMap::new(), asked: 0 }
    }

    /// One round as a poll has it: what was served, and how often.
    fn round(&mut self, plan: &mut Plan, splits: u32) -> BTreeMap<(Table, u16), usize> {
        let (mut served, mut at, mut split) = (BTreeMap::new(), 0, 0);
        self.now = self.now + Duration::from_secs(1);
        plan.begin(self.now);
        while let Some(block) = plan.block(at).cloned() {
            if block.parked(self.now).is_some() {
                at += 1;
                continue;
            }
            self.asked += 1;
            let entries: Vec<_> =
                (block.start..=block.start + (block.length - 1)).map(|e| (block.table, e)).collect();
            for entry in &entries {
                let until = self.refused.get(entry);
                assert!(until.is_none_or(|until| *until <= self.now), "{entry:?} was refused");
            }
            let lacks = entries.iter().any(|entry| self.missing.contains(entry));
            if lacks || block.length > self.most {
                let code = Exception(if lacks { 2 } else { 3 });
                if plan.handle_refusal(self.now, at, code, split < splits) {
                    split += 1;
                    continue;
                }
                if let [entry] = entries[..] {
                    self.refused.insert(entry, self.now + FIRST_PARKING);
                }
            } else {
                plan.handle_served(at);
                for want in block.wants.iter().map(|i| plan.wants[*i]) {
                    for entry in want.start..=want.start + (want.length - 1) {
                        *served.entry((want.table, entry)).or_default() += 1;
                    }
                }
            }
            at += 1;
        }
        served
    }
}

fn singles(range: std::ops::Range<u16>) -> Vec<Want> {
    range.map(|start| Want { table: Table::Holding, start, length: 1 }).collect()
}

#[test]
fn a_refused_request_is_halved_until_the_missing_entry_is_alone() {
    let mut plan = Plan::new(singles(0..125), Limits::STANDARD);
    let mut peer = Peer::new([(Table::Holding, 37)], 125);
    assert_eq!(peer.round(&mut plan, 8).len(), 124);
    assert!(peer.asked <= 7 + 8, "{} requests", peer.asked);
    assert!(plan.blocks.len() <= 8, "the split is remembered");
    plan.join();
    assert_eq!(plan.blocks.len(), 1);
}

fn parked_registers_are_asked_for_ever_more_rarely() {
    let mut plan = Plan::new(singles(0..3), Limits::STANDARD);
    let mut peer = Peer::new([(Table::Holding, 1)], 125);
    let mut probed = Vec::new();
    for second in 1..20_000_u64 {
        let before = peer.asked;
        peer.refused.clear();
        assert_eq!(peer.round(&mut plan, 8).len(), 2);
        if peer.asked > before + 2 {
            probed.push(second);
        }
        if probed.len() > 10 {
            break;
        }
    }
    let waits: Vec<u64> = probed.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits, [60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600, 3_600]);
    // The device has learned it: at the next probe it is read, and with its neighbours thereafter.
    peer.missing.clear();
    peer.now = peer.now + LONGEST_PARKING;
    assert_eq!(peer.round(&mut plan, 8).len(), 3);
    let before = peer.asked;
    assert_eq!(peer.round(&mut plan, 8).len(), 3);
    assert_eq!(peer.asked - before, 1);
}

#[test]
fn what_a_device_lacks_is_asked_for_ever_more_rarely() {
    parked_registers_are_asked_for_ever_more_rarely();
}

fn holes_are_given_up_first() {
    let limits = Limits { hole: 8, ..Limits::STANDARD };
    let wants: Vec<Want> = singles(0..100).into_iter().filter(|want| want.start % 10 < 5).collect();
    let mut plan = Plan::new(wants, limits);
    assert_eq!(plan.blocks.len(), 1);
    let mut peer = Peer::new([(Table::Holding, 57)], 125);
    assert_eq!(peer.round(&mut plan, 8).len(), 50, "all that is wanted is there");
    assert_eq!(peer.asked, 1 + 10);
    assert_eq!(peer.round(&mut plan, 8).len(), 50);
    assert_eq!(peer.asked, 1 + 10 + 10, "and that is remembered");
}

#[test]
fn a_hole_that_is_refused_costs_no_value() {
    holes_are_given_up_first();
}

/// A round as far as the first request without an answer: what was asked for.
fn asked_until_silence(plan: &mut Plan, now: Instant, answers: &mut u64, silent: &[u16]) -> Vec<u16> {
    let (mut asked, mut at) = (Vec::new(), 0);
    plan.begin(now);
    while let Some(block) = plan.block(at) {
        if block.parked(now).is_none() {
            asked.push(block.start);
            if silent.contains(&block.start) {
                plan.handle_silence(now, at, Some(*answers));
                break;
            }
            *answers += 1;
            plan.handle_served(at);
        }
        at += 1;
    }
    asked
}

fn a_silent_request_is_the_last_one() {
    let wants = singles(0..21).into_iter().filter(|want| want.start % 10 == 0).collect();
    let mut plan = Plan::new(wants, Limits::STANDARD);
    let (at, mut answers) = (|s| Instant::from_start(Duration::from_secs(s)), 0);
    let mut asked = |s, silent: &[u16]| asked_until_silence(&mut plan, at(s), &mut answers, silent);
    assert_eq!(asked(0, &[0]), [0]);
    assert_eq!(asked(1, &[0]), [10, 20, 0]);
    assert_eq!(asked(2, &[0]), [10, 20, 0]);
    assert_eq!(asked(3, &[0]), [10, 20], "and that is enough");
    assert_eq!(asked(62, &[0]), [10, 20, 0], "a minute later it is asked for again");
    assert_eq!(asked(150, &[0]), [10, 20], "and then in two");
    assert_eq!(asked(182, &[]), [10, 20, 0]);
    assert_eq!(asked(183, &[]), [0, 10, 20], "it has an answer");
    // A device that is away does not lack what it does not answer.
    for s in 200..220 {
        assert_eq!(asked(s, &[0, 10, 20]).len(), 1);
    }
    assert_eq!(asked(221, &[]).len(), 3);
}

#[test]
fn a_request_without_an_answer_keeps_no_other_from_being_read() {
    a_silent_request_is_the_last_one();
}

/// A hole that was refused once, and one register that is missing for good.
fn parts_are_joined_again() {
    let mut plan = Plan::new(singles(0..125), Limits::STANDARD);
    let mut peer = Peer::new([(Table::Holding, 37)], 125);
    for _ in 0..600 {
        assert_eq!(peer.round(&mut plan, 8).len(), 124, "no value is lost by it");
        peer.refused.clear();
    }
    let lengths: Vec<u16> = plan.blocks.iter().map(|block| block.length).collect();
    assert_eq!(lengths.iter().sum::<u16>(), 125);
    assert_eq!(lengths.len(), 3, "before it, itself, and behind it: {lengths:?}");
}

#[test]
fn what_was_split_is_joined_again() {
    parts_are_joined_again();
}

#[test]
fn joining_again_what_is_refused_for_good_costs_little_and_no_value() {
    let mut plan = Plan::new(singles(0..125), Limits::STANDARD);
    let mut peer = Peer::new([], 9);
    for _ in 0..10 {
        peer.round(&mut plan, 8);
    }
    let (blocks, rounds, before) = (plan.blocks.len(), 20_000, peer.asked);
    for _ in 0..rounds {
        assert_eq!(peer.round(&mut plan, 8).len(), 125);
    }
    let more = (peer.asked - before).saturating_sub(rounds * blocks);
    assert!(more < 20 * 2 * 8, "{more} requests more than {rounds} rounds of {blocks}");
}

#[test]
fn the_plans_mutants_are_killed() {
    use crate::mutant::{Mutant, is_killed_by};
    is_killed_by(
        Mutant::ParkedAsked,
        "what_a_device_lacks_is_asked_for_ever_more_rarely",
        parked_registers_are_asked_for_ever_more_rarely,
    );
    is_killed_by(Mutant::HolesKept, "a_hole_that_is_refused_costs_no_value", holes_are_given_up_first);
    is_killed_by(Mutant::NeverJoined, "what_was_split_is_joined_again", parts_are_joined_again);
    is_killed_by(
        Mutant::SilentFirst,
        "a_request_without_an_answer_keeps_no_other_from_being_read",
        a_silent_request_is_the_last_one,
    );
}

#[test]
fn bits_of_one_register_are_missing_together() {
    let word = Want { table: Table::Holding, start: 9, length: 1 };
    let mut plan = Plan::new(vec![word; 16], Limits::STANDARD);
    assert_eq!(plan.blocks.len(), 1);
    let now = Instant::from_start(Duration::ZERO);
    assert!(!plan.handle_refusal(now, 0, Exception(2), true));
    assert_eq!(plan.block(0).unwrap().parked(now), Some(Absence::Refused(Exception(2))));
    assert!(plan.is_all_parked(now));
}

/// Wants that overlap freely, many of them close together.
fn wants() -> impl Strategy<Value = Vec<Want>> {
    let want = (crate::point::tables(), 0_u16..600, prop_oneof![19 => 1_u16..=4, 1 => 1_u16..=125]);
    let want = want.prop_map(|(table, start, length)| Want { table, start, length });
    proptest::collection::vec(want, 0..200)
}

/// Those of them that share no entry.
fn disjoint(wants: Vec<Want>) -> Vec<Want> {
    let mut taken = BTreeSet::new();
    let free = wants.into_iter().filter(|w| {
        let mut entries = (w.start..w.start + w.length).map(|entry| (w.table, entry));
        entries.clone().all(|e| !taken.contains(&e)) && entries.all(|e| taken.insert(e))
    });
    free.collect()
}

fn limits() -> impl Strategy<Value = Limits> {
    (125_u16..=125, 125_u16..=2_000, 0_u16..20).prop_map(|(registers, bits, hole)| Limits {
        registers,
        bits,
        hole,
    })
}

fn holds(plan: &Plan, disjoint: bool) -> Result<(), TestCaseError> {
    let mut brought: Vec<usize> = plan.blocks.iter().flat_map(|b| b.wants.clone()).collect();
    brought.sort_unstable();
    prop_assert_eq!(brought, (0..plan.wants.len()).collect::<Vec<_>>(), "each value by one request");
    let mut read = BTreeSet::new();
    for block in &plan.blocks {
        prop_assert!(block.length <= plan.limits.of(block.table));
        let mut wanted = BTreeSet::new();
        for want in block.wants.iter().map(|i| plan.wants[*i]) {
            prop_assert_eq!(want.table, block.table);
            prop_assert!(want.start >= block.start && want.end() <= u32::from(block.start + block.length));
            wanted.extend(want.start..want.start + want.length);
        }
        let mut hole = 0;
        for entry in block.start..block.start + block.length {
            hole = if wanted.contains(&entry) { 0 } else { hole + 1 };
            prop_assert!(hole <= plan.limits.hole_of(block.table), "a hole of {hole} at {}", entry);
            prop_assert!(hole == 0 || block.holes, "a hole that nobody knows of at {}", entry);
            prop_assert!(hole > 0 || read.insert((block.table, entry)) || !disjoint, "{} read twice", entry);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn each_wanted_entry_is_read_once_and_no_hole_is_too_wide(wants in wants(), limits in limits()) {
        holds(&Plan::new(disjoint(wants.clone()), limits), true)?;
        holds(&Plan::new(wants, limits), false)?;
    }

    #[test]
    fn splitting_loses_nothing(
        wants in wants(), limits in limits(), at in proptest::collection::vec(0_usize..50, 0..50)
    ) {
        let mut plan = Plan::new(wants, limits);
        for at in at {
            plan.handle_refusal(Instant::from_start(Duration::ZERO), at, Exception(2), true);
            holds(&plan, false)?;
        }
    }

    /// Whatever a device lacks: all that it has is read exactly once a round, as soon as the missing
    /// entries are found, and those are not asked for while they are parked.
    #[test]
    fn what_a_device_has_is_read_once_a_round_and_what_it_lacks_is_left_alone(
        starts in proptest::collection::btree_set(0_u16..200, 1..80),
        missing in proptest::collection::btree_set(0_u16..200, 0..20),
        most in 5_u16..=125,
        hole in 0_u16..20,
    ) {
        let table = Table::Holding;
        let wants: Vec<Want> = starts.iter().map(|&start| Want { table, start, length: 1 }).collect();
        let mut plan = Plan::new(wants, Limits { hole, ..Limits::STANDARD });
        let mut peer = Peer::new(missing.iter().map(|&entry| (table, entry)), most);
        for _ in 0..40 {
            peer.round(&mut plan, 8);
        }
        let served = peer.round(&mut plan, 8);
        let has: BTreeMap<_, _> =
            starts.difference(&missing).map(|&entry| ((table, entry), 1)).collect();
        prop_assert_eq!(served, has);
        let (lacks, asked) = (starts.intersection(&missing).count(), peer.asked);
        prop_assert!(plan.blocks.iter().filter(|block| block.parked.is_some()).count() == lacks);
        // Once more, after a year in which the device was exchanged for one that has everything.
        peer.missing.clear();
        peer.refused.clear();
        peer.now = peer.now + Duration::from_secs(31_536_000);
        prop_assert_eq!(peer.round(&mut plan, 8).len(), starts.len());
        prop_assert!(asked > 0);
    }
}
