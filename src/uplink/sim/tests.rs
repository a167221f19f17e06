//! The runs.

use super::{Stats, Violation, plan::Plan, run};
use crate::mutant::{self, Mutant};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

/// Seeds of the default tier, of the long one, and at most for a mutant.
const SOME: u64 = 300;
const MANY: u64 = 5_000;
const TRIES: u64 = 1_000;

fn runs(seeds: std::ops::Range<u64>) -> Stats {
    let many = seeds.end - seeds.start;
    let next = AtomicU64::new(seeds.start);
    let worker = || {
        let mut ran = Vec::new();
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end) {
            ran.push(run(seed));
        }
        ran
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let ran: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let mut sum = Stats::default();
    let mut violations = Vec::new();
    for run in ran {
        match run {
            Ok(stats) => sum.add(&stats),
            Err(violation) => violations.push(violation),
        }
    }
    violations.sort_by_key(|violation| violation.seed);
    violations.iter().take(20).for_each(|violation| println!("{violation}"));
    if let Some(first) = violations.first() {
        panic!("{} of {many} seeds fail, first {first}\n{:#?}", violations.len(), Plan::draw(first.seed));
    }
    println!("simulation: {many} seeds, {sum:?}");
    sum
}

#[test]
fn nothing_is_lost_blocked_or_sent_without_need() {
    // One seed alone: TIDEGATE_SEED=17.
    match std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => drop(runs(seed..seed + 1)),
        None => {
            let sum = runs(0..SOME);
            // It would prove nothing if the faults did not happen.
            assert!(
                sum.resent > 0
                    && sum.dropped > 0
                    && sum.dead > 0
                    && sum.stale > 0
                    && sum.missed > 0
                    && sum.cuts > 0
                    && sum.hung_up > 0
                    && sum.behind > sum.drained / 2
                    && sum.drained > 0
                    && sum.edits > 0
                    && sum.renamed > 0
                    && sum.full_days > 0
            );
        }
    }
}

#[test]
#[ignore = "long: run by tests/run --long"]
fn nothing_is_lost_blocked_or_sent_without_need_in_many_runs() {
    runs(SOME..SOME + MANY);
}

#[test]
fn a_seed_always_runs_the_same() {
    for seed in 0..10 {
        let (a, b) = (run(seed).map(|stats| stats.steps), run(seed).map(|stats| stats.steps));
        assert_eq!(a.map_err(|v| v.to_string()), b.map_err(|v| v.to_string()), "seed {seed}");
    }
}

#[test]
fn every_mutant_is_killed_by_some_seed() {
    let mut alive = Vec::new();
    for mutant in Mutant::ALL {
        mutant::switch(Some(mutant));
        let killed = (0..TRIES).find_map(|seed| {
            // A mutant may break arithmetic as well: that is a kill, with its seed.
            let ran = catch_unwind(AssertUnwindSafe(|| run(seed)));
            ran.unwrap_or_else(|_| Err(Violation { seed, at: 0, what: "it panicked".into() })).err()
        });
        mutant::switch(None);
        match killed {
            Some(violation) => println!("mutant {mutant:?}: killed by {violation}"),
            None => alive.push(mutant),
        }
    }
    assert!(alive.is_empty(), "alive after {TRIES} seeds: {alive:?}");
}

impl Stats {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.stored += other.stored;
        self.resent += other.resent;
        self.dropped += other.dropped;
        self.dead += other.dead;
        self.stale += other.stale;
        self.missed += other.missed;
        self.cuts += other.cuts;
        self.hung_up += other.hung_up;
        self.behind += other.behind;
        self.drained += other.drained;
        self.edits += other.edits;
        self.renamed += other.renamed;
        self.full_days += other.full_days;
    }
}
