//! The crash test: killed at random moments and at fail points, its broker connections cut at random,
//! with a witness outside the daemon who knows what was acknowledged, and a slave who knows what it
//! answered.

use crate::{
    arrivals::{Arrivals, Platform, Which},
    cutter::Cutter,
    gateway::{Config, Gateway},
    peers::{Broker, Served, Slave},
    pusher::{Acknowledged, Witness},
    site::{Site, asked_for, free_port, let_pass},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

/// Where the daemon can be told to kill itself.
const FAIL_POINTS: [&str; 4] = ["before_commit", "after_commit", "in_flight", "after_confirmation"];
const METERS: u64 = 10;
const PUSHED: u64 = 3;
/// Reads that one kill may lose on a connection: 8 handed in and not committed, one in the wire.
const OUTSTANDING: usize = 9;

#[test]
fn nothing_acknowledged_is_lost_however_it_is_killed() {
    let rounds: usize = asked_for("TIDEGATE_TEST_ROUNDS", 10);
    let seed: u64 = asked_for("TIDEGATE_TEST_SEED", fastrand::u64(..));
    println!("FIGURE crash: seed {seed} (TIDEGATE_TEST_SEED)");
    let mut chance = fastrand::Rng::with_seed(seed);
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let mut slave = Slave::start(&site, METERS, 10);
    let cutter = Cutter::start(broker.port());
    let push_port = free_port();
    let config = Config::kaa(&site, cutter.port()).meters(METERS, slave.port()).pushed(PUSHED, push_port);
    let mut gateway = Gateway::new(&site, &config, 10);
    let witness = Witness::start(push_port, (1..=PUSHED).map(|n| format!("p{n}")).collect());

    let hits =
        cutting_meanwhile(&cutter, chance.fork(), || kill_over_and_over(&mut gateway, rounds, &mut chance));

    // The last life: nothing is cut, all of it drains.
    gateway.start();
    gateway.until_up();
    let acknowledged = witness.stop();
    slave.stop();
    gateway.until_drained();
    let arrivals = platform.arrivals();
    let served = slave.served();
    let ledger = gateway.ledger();
    println!("FIGURE crash: {rounds} kills, {} broker cuts, fail points {hits:?}", cutter.cuts());
    println!(
        "FIGURE crash: {} numbers acknowledged, {} reads served, {} samples at the platform, {} resent; {ledger:?}",
        acknowledged.values().map(Vec::len).sum::<usize>(),
        served.len(),
        arrivals.first.len(),
        arrivals.resent,
    );
    for point in FAIL_POINTS {
        let least = rounds / (2 * FAIL_POINTS.len());
        assert!(
            hits.get(point).copied().unwrap_or_default() >= least,
            "{point} was not passed {least} times"
        );
    }
    assert_acknowledged_arrived(&acknowledged, &arrivals);
    assert_only_last_reads_missing(&served, &arrivals, rounds);
    arrivals.assert_in_order();
    assert_eq!(gateway.outbox_rows(), 0);
    assert_eq!((ledger.queued, ledger.dropped, ledger.dead), (0, 0, 0), "{ledger:?}");
    assert_eq!(ledger.stored, u64::try_from(arrivals.first.len()).unwrap() + ledger.dead, "{ledger:?}");
    assert!(gateway.terminate().success());
    assert_eq!(gateway.outbox_rows(), 0);
}

/// Every second life ends at a fail point, the points in turn; the others at any moment.
fn kill_over_and_over(
    gateway: &mut Gateway,
    rounds: usize,
    chance: &mut fastrand::Rng,
) -> BTreeMap<&'static str, usize> {
    let mut hits = BTreeMap::new();
    for round in 0..rounds {
        if round % 2 == 0 {
            let point = FAIL_POINTS[round / 2 % FAIL_POINTS.len()];
            let when = format!("{point}@{}", chance.u32(1..=20));
            gateway.start_to_fail(Some(&when));
            gateway.until_killed(&when);
            *hits.entry(point).or_default() += 1;
        } else {
            gateway.start();
            let_pass(Duration::from_millis(chance.u64(20..3_000)));
            gateway.assert_alive();
            gateway.kill();
        }
    }
    hits
}

/// Does something while broker connections are cut at random moments.
fn cutting_meanwhile<T>(cutter: &Cutter, mut chance: fastrand::Rng, work: impl FnOnce() -> T) -> T {
    /// Ends the cutting, also where the work panics.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                let_pass(Duration::from_millis(chance.u64(100..2_500)));
                cutter.cut();
            }
        });
        let _over = Over(&over);
        work()
    })
}

/// (a) Every acknowledged number is at the platform.
fn assert_acknowledged_arrived(acknowledged: &Acknowledged, arrivals: &Arrivals) {
    let arrived = arrivals.set();
    assert_eq!(acknowledged.len() as u64, PUSHED, "an endpoint had nothing acknowledged");
    for (endpoint, numbers) in acknowledged {
        let token = format!("T{}", endpoint.to_uppercase());
        let lost: Vec<_> =
            numbers.iter().filter(|n| !arrived.contains(&(token.as_str(), &Which::Number(**n)))).collect();
        assert!(lost.is_empty(), "{endpoint}: acknowledged and lost: {lost:?}");
    }
}

/// (b) What is missing of the meters' reads is only the last ones before a kill.
fn assert_only_last_reads_missing(served: &[Served], arrivals: &Arrivals, kills: usize) {
    let arrived = arrivals.set();
    let mut connections: BTreeMap<u64, Vec<&Served>> = BTreeMap::new();
    for read in served {
        connections.entry(read.connection).or_default().push(read);
    }
    let last = connections.keys().next_back().copied();
    let mut missing_of = BTreeMap::new();
    assert!(!served.is_empty(), "the slave was never read");
    for (connection, reads) in &connections {
        let missing: BTreeSet<usize> = reads
            .iter()
            .enumerate()
            .filter(|(_, r)| !arrived.contains(&(format!("TM{}", r.unit).as_str(), &Which::Number(r.seq))))
            .map(|(at, _)| at)
            .collect();
        let Some(first) = missing.first() else { continue };
        missing_of.insert(*connection, missing.len());
        assert!(
            reads.len() - first <= OUTSTANDING,
            "connection {connection}: of {} reads these are missing: {missing:?}",
            reads.len(),
        );
        assert_ne!(Some(*connection), last, "reads of the last life, which was not killed, are missing");
    }
    println!("FIGURE crash: reads missing by connection {missing_of:?} of {} connections", connections.len());
    assert!(missing_of.len() <= kills, "reads are missing on more connections than there were kills");
    let known: BTreeSet<_> = served.iter().map(|r| (format!("TM{}", r.unit), Which::Number(r.seq))).collect();
    for accepted in arrivals.first.iter().filter(|a| a.whose.starts_with("TM")) {
        if let Which::Number(_) = accepted.which {
            let identity = (accepted.whose.clone(), accepted.which.clone());
            assert!(known.contains(&identity), "arrived and never served: {accepted:?}");
        }
    }
}
