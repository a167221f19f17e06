//! The crash test: killed at random moments and at fail points, while it starts and while it stops, in
//! bad weather: connections cut, the platform out of reach, the disk full. With a witness outside the
//! daemon who knows what was acknowledged, and a slave who knows what it answered.

use crate::{
    arrivals::{Arrivals, Platform, Which},
    cutter::Cutter,
    disk::Disk,
    gateway::{Config, Gateway, Ledger},
    peers::{Broker, Served, Slave},
    pusher::{Acknowledged, Witness, Witnessed},
    site::{Site, asked_for, free_port, let_pass},
    weather::{Weather, in_bad_weather},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::Duration,
};

/// Where the daemon can be told to kill itself.
const FAIL_POINTS: [&str; 4] = ["before_commit", "after_commit", "in_flight", "after_confirmation"];
const METERS: u64 = 10;
const PUSHED: u64 = 3;
/// Reads that one kill may lose on a connection: 8 handed in and not committed, one in the wire.
const OUTSTANDING: usize = 9;

/// Many lives, and what is known after the last one.
struct Trial {
    gateway: Gateway,
    rounds: usize,
    lives: Lives,
    weather: Weather,
    acknowledged: Acknowledged,
    refused: BTreeMap<String, usize>,
    served: Vec<Served>,
    arrivals: Arrivals,
    ledger: Ledger,
    /// What they run with and in.
    _world: (Site, Broker, Platform, Slave, Cutter),
}

#[test]
fn nothing_acknowledged_is_lost_however_it_is_killed() {
    let disk = Disk::find();
    // What cannot be kept is refused: what was acknowledged is never dropped for it.
    let mut trial = Trial::run("refuse", asked_for("TIDEGATE_TEST_ROUNDS", 10), disk.as_ref());
    let Trial { acknowledged, arrivals, ledger, .. } = &trial;
    assert!(disk.is_some() || trial.refused.is_empty(), "refused, and the disk was not full");
    let lost = lost(acknowledged, arrivals);
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_only_last_reads_missing(&trial.served, arrivals, trial.rounds, &trial.weather);
    assert_eq!(ledger.dropped, 0, "{ledger:?}");
    assert_eq!(ledger.stored, u64::try_from(arrivals.first.len()).unwrap(), "{ledger:?}");
    trial.ends_well();
}

#[test]
fn what_a_full_disk_costs_is_counted_however_it_is_killed() {
    let Some(disk) = Disk::find() else { return };
    let rounds = asked_for("TIDEGATE_TEST_ROUNDS", 10);
    let mut trial = Trial::run("drop-oldest", 10.max(rounds / 5), Some(&disk));
    let Trial { acknowledged, arrivals, ledger, .. } = &trial;
    let lost = u64::try_from(lost(acknowledged, arrivals).len()).unwrap();
    let missing = ledger.stored - u64::try_from(arrivals.first.len()).unwrap();
    println!("FIGURE crash: {lost} numbers acknowledged and dropped; of {ledger:?} {missing} did not arrive");
    // Some were dropped after they had arrived, and were not known to have.
    assert!(lost <= missing && missing <= ledger.dropped, "{lost}, {missing}: {ledger:?}");
    trial.ends_well();
}

impl Trial {
    fn run(when_full: &str, rounds: usize, disk: Option<&Disk>) -> Self {
        let seed: u64 = asked_for("TIDEGATE_TEST_SEED", fastrand::u64(..));
        println!("FIGURE crash: {rounds} lives with {when_full}, seed {seed} (TIDEGATE_TEST_SEED)");
        let mut chance = fastrand::Rng::with_seed(seed);
        let site = Site::new();
        let broker = Broker::start(&site, true);
        let mut platform = Platform::start(&site, broker.port());
        let mut slave = Slave::start(&site, METERS, 10);
        let cutter = Cutter::start(broker.port());
        let port = free_port();
        let config = Config::kaa(&site, cutter.port()).meters(METERS, slave.port()).pushed(PUSHED, port);
        let mut config = config.line(&format!("[store]\nwhen_full = {when_full:?}"));
        if let Some(disk) = disk {
            config = config.state_dir(&disk.state());
        }
        let mut gateway = Gateway::new(&site, &config, 10);
        let witness = Witness::start(port, (1..=PUSHED).map(|n| format!("p{n}")).collect());

        let log = site.path("slave.jsonl");
        let filled = disk.map(|disk| (disk, log.as_path()));
        let (lives, weather) = in_bad_weather((&cutter, broker.port()), filled, chance.fork(), || {
            kill_over_and_over(&mut gateway, rounds, &mut chance)
        });

        // The last life: good weather, all of it drains.
        gateway.start();
        gateway.until_up();
        let Witnessed { acknowledged, refused } = witness.stop();
        slave.stop();
        gateway.until_drained();
        let (arrivals, served, ledger) = (platform.arrivals(), slave.served(), gateway.ledger());
        println!(
            "FIGURE crash: {lives:?}; {} broker cuts, {} outages, disk full {} times",
            cutter.cuts(),
            weather.outages,
            weather.full.len(),
        );
        println!(
            "FIGURE crash: {} numbers acknowledged, refused {refused:?}, {} reads served, {} samples at the platform, {} resent; {ledger:?}",
            acknowledged.values().map(Vec::len).sum::<usize>(),
            served.len(),
            arrivals.first.len(),
            arrivals.resent,
        );
        assert_eq!(acknowledged.len() as u64, PUSHED, "an endpoint had nothing acknowledged");
        let _world = (site, broker, platform, slave, cutter);
        Self { gateway, rounds, lives, weather, acknowledged, refused, served, arrivals, ledger, _world }
    }

    /// What holds whatever the weather was.
    fn ends_well(&mut self) {
        for point in FAIL_POINTS {
            let least = self.rounds / (2 * FAIL_POINTS.len());
            let passed = self.lives.points.get(point).copied().unwrap_or_default();
            assert!(passed >= least, "{point} was not passed {least} times");
        }
        self.arrivals.assert_in_order();
        assert_eq!((self.ledger.queued, self.ledger.dead), (0, 0), "{:?}", self.ledger);
        assert!(self.gateway.terminate().success());
        assert_eq!(self.gateway.outbox_rows(), 0);
    }
}

/// How lives ended.
#[derive(Debug, Default)]
struct Lives {
    points: BTreeMap<&'static str, usize>,
    killed: usize,
    /// Asked to stop, they did before they were killed.
    stopped: usize,
    /// They could not even begin for want of space, and said so.
    starved: usize,
    /// Ended by SIGBUS while the database was opened.
    nipped: usize,
}

/// Every second life ends at a fail point, the points in turn; the others at any moment, most of all
/// while they start or stop.
fn kill_over_and_over(gateway: &mut Gateway, rounds: usize, chance: &mut fastrand::Rng) -> Lives {
    let mut lives = Lives::default();
    let pass = |chance: &mut fastrand::Rng, ms| let_pass(Duration::from_millis(chance.u64(ms)));
    for round in 0..rounds {
        if round % 2 == 0 {
            let point = FAIL_POINTS[round / 2 % FAIL_POINTS.len()];
            let when = format!("{point}@{}", chance.u32(1..=20));
            loop {
                gateway.start_to_fail(Some(&when));
                let status = gateway.ended(&format!("it passes the fail point {when}"));
                if status.signal() == Some(9) {
                    break;
                }
                lives.assert_starved(gateway, status);
            }
            *lives.points.entry(point).or_default() += 1;
            continue;
        }
        gateway.start();
        let asked = match chance.u8(0..4) {
            0 => {
                pass(chance, 0..100);
                false
            }
            1 => {
                pass(chance, 200..1_500);
                gateway.ask_to_stop();
                pass(chance, 0..200);
                true
            }
            _ => {
                pass(chance, 20..3_000);
                false
            }
        };
        let status = gateway.kill();
        match status.signal() {
            Some(9) => lives.killed += 1,
            // Asked before it could listen, it ends as any program does.
            None | Some(15) if asked && (status.success() || status.signal().is_some()) => lives.stopped += 1,
            _ => lives.assert_starved(gateway, status),
        }
    }
    lives
}

impl Lives {
    /// It may only have ended by itself for want of space.
    fn assert_starved(&mut self, gateway: &Gateway, status: ExitStatus) {
        let journal = gateway.journal_of_life();
        if journal.contains("no room is left") {
            self.starved += 1;
        } else {
            // SQLite extends the index of its journal byte by byte and maps it: what another program
            // takes in just this moment is missing there. Nothing was taken in yet.
            let opening = status.signal() == Some(7) && !journal.contains(" started ");
            assert!(opening, "it ended by itself: {status}: {journal}");
            self.nipped += 1;
        }
    }
}

/// (a) Every acknowledged number is at the platform, but for these.
fn lost(acknowledged: &Acknowledged, arrivals: &Arrivals) -> Vec<(String, u64)> {
    let arrived = arrivals.set();
    let mut lost = Vec::new();
    for (endpoint, numbers) in acknowledged {
        let token = format!("T{}", endpoint.to_uppercase());
        let missing = numbers.iter().filter(|n| !arrived.contains(&(token.as_str(), &Which::Number(**n))));
        lost.extend(missing.map(|n| (endpoint.clone(), *n)));
    }
    lost
}

/// (b) What is missing of the meters' reads is only the last ones before a kill, and what was read
/// while the disk was full.
fn assert_only_last_reads_missing(served: &[Served], arrivals: &Arrivals, kills: usize, weather: &Weather) {
    let arrived = arrivals.set();
    let mut connections: BTreeMap<u64, Vec<&Served>> = BTreeMap::new();
    for read in served {
        connections.entry(read.connection).or_default().push(read);
    }
    let all = connections.len();
    connections.retain(|connection, _| !weather.full.iter().any(|full| full.contains(connection)));
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
    println!(
        "FIGURE crash: on {} of {all} connections the disk was not full; on {} of them reads are missing, {} in all",
        connections.len(),
        missing_of.len(),
        missing_of.values().sum::<usize>(),
    );
    assert!(missing_of.len() <= kills, "reads are missing on more connections than there were kills");
    let known: BTreeSet<_> = served.iter().map(|r| (format!("TM{}", r.unit), Which::Number(r.seq))).collect();
    for accepted in arrivals.first.iter().filter(|a| a.whose.starts_with("TM")) {
        if let Which::Number(_) = accepted.which {
            let identity = (accepted.whose.clone(), accepted.which.clone());
            assert!(known.contains(&identity), "arrived and never served: {accepted:?}");
        }
    }
}
