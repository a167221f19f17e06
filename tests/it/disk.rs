//! A file system of 32 MB, full: by the queue itself, and by another program to the last byte.
//!
//! `TIDEGATE_TEST_DISK` names the directory where `tests/run` has mounted it, for these tests and the
//! crash test, one after the other; without it they are skipped.

use crate::{
    arrivals::{Arrivals, Platform},
    gateway::{Config, Gateway},
    peers::Broker,
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, let_pass, until},
};
use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::Errno,
};
use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

/// In one submission.
const BATCH: u64 = 5_000;
/// The reserve on such a disk, at least: a quarter of it.
const RESERVE: u64 = 6_000_000;

/// The small file system, empty.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Where there is one.
    pub(crate) fn find() -> Option<Self> {
        let Some(dir) = env::var_os("TIDEGATE_TEST_DISK").map(PathBuf::from) else {
            println!("SKIPPED full disk: tests/run --system and --long mount one");
            return None;
        };
        let disk = Self(dir);
        assert!(disk.bytes() < 40_000_000, "{} is no small file system", disk.0.display());
        let _absent = fs::remove_dir_all(disk.state());
        let _absent = fs::remove_file(disk.ballast());
        Some(disk)
    }

    /// The state directory on it.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    fn bytes(&self) -> u64 {
        let found = statvfs(&self.0).unwrap();
        found.f_blocks * found.f_frsize
    }

    fn free(&self) -> u64 {
        let found = statvfs(&self.0).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Another program takes what is left, to the last byte: nearly all of it at once, for what the
    /// gateway gives up meanwhile is the gateway's.
    pub(crate) fn fill(&self) {
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        // Not without end, should others take it first.
        for _ in 0..100 {
            let (length, free) = (ballast.metadata().unwrap().len(), self.free());
            match fallocate(&ballast, FallocateFlags::empty(), length, free.max(1)) {
                Ok(()) => break,
                Err(Errno::NOSPC) if free > 0 => {}
                Err(Errno::NOSPC) => break,
                Err(error) => panic!("{error}"),
            }
        }
        for size in [1 << 10, 1] {
            write_until_full(&mut ballast, &vec![7; size]);
        }
    }

    /// The other program gives back what it took.
    pub(crate) fn free_up(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn remount(&self, how: &str) {
        let mount = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status();
        assert!(mount.unwrap().success(), "{} cannot be mounted {how}", self.0.display());
    }

    /// The length of a file of the store; 0 if it is not there.
    fn length(&self, name: &str) -> u64 {
        fs::metadata(self.state().join(name)).map_or(0, |file| file.len())
    }

    fn until_space_is_given_back(&self) {
        until("the database is small again", PATIENCE, || {
            (self.length("tidegate.db") < 1 << 20).then_some(())
        });
        until("the reserve is whole", PATIENCE, || (self.length("reserve") >= RESERVE).then_some(()));
    }
}

/// Not without end, should others give room meanwhile.
fn write_until_full(file: &mut File, bytes: &[u8]) {
    for _ in 0..5_000 {
        match file.write_all(bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_disk_filled_by_the_queue_costs_the_oldest_rows_only() {
    const ENDPOINTS: u64 = 2;
    let Some(disk) = Disk::find() else { return };
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).state_dir(&disk.state()).pushed(ENDPOINTS, port);
    let mut gateway = Gateway::new(&site, &config, 5);
    gateway.start();
    gateway.until_up();
    broker.stop();
    let mut pusher = Pusher::connect(port);
    let mut pushed = 0;
    let mut least_free = u64::MAX;
    until("the queue has filled the disk", PATIENCE * 3, || {
        for endpoint in 1..=ENDPOINTS {
            pusher.push(&format!("p{endpoint}"), &format!("{}-{}", pushed + 1, pushed + BATCH));
        }
        pushed += BATCH;
        least_free = least_free.min(disk.free());
        (gateway.ledger().dropped > 10 * BATCH).then_some(())
    });
    let full = gateway.ledger();
    println!(
        "FIGURE disk full of its queue: {} samples queued, {} dropped, at least {least_free} bytes free; database {}",
        full.queued,
        full.dropped,
        disk.length("tidegate.db"),
    );
    assert_eq!((full.stored, full.refused), (ENDPOINTS * pushed, 0), "{full:?}");
    assert!(disk.length("reserve") >= RESERVE, "the reserve was not touched");
    let status = gateway.status();
    assert_eq!(status["reasons"]["dropped(free_space)"], full.dropped, "{status}");

    // A restart in that state works.
    assert!(gateway.terminate().success());
    gateway.start();
    gateway.until_status("it runs again", |_| true);
    assert_eq!(gateway.ledger().stored, full.stored);

    broker.start_again();
    until("all of the queue has arrived", PATIENCE * 4, || {
        gateway.assert_alive();
        (gateway.outbox_rows() == 0).then_some(())
    });
    let after = gateway.ledger();
    let arrivals = platform.arrivals();
    println!("FIGURE disk full of its queue: {after:?}, {} resent", arrivals.resent);
    assert_eq!((after.landed, arrivals.resent), (arrivals.first.len() as u64, 0));
    assert_youngest(&arrivals, ENDPOINTS, pushed);
    disk.until_space_is_given_back();
    assert!(gateway.terminate().success());
}

#[test]
fn a_disk_filled_by_another_program_does_not_stop_the_delivery() {
    const ROWS: u64 = 60_000;
    let Some(disk) = Disk::find() else { return };
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).state_dir(&disk.state()).pushed(1, port);
    let mut gateway = Gateway::new(&site, &config, 1);
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(port);
    for first in (1..=ROWS).step_by(usize::try_from(BATCH).unwrap()) {
        pusher.push("p1", &format!("{first}-{}", first + BATCH - 1));
    }
    disk.fill();
    let waiting = gateway.outbox_rows();
    assert!(waiting > 0 && platform.accepted() > 0, "rows are in the air: {waiting} queued");
    println!("FIGURE disk full of another's: {waiting} of {ROWS} rows queued when it was full");
    gateway.until_drained();
    assert!(gateway.has_logged("the reserve was given up"));

    // Restarted in that state, and filled once more.
    assert!(gateway.terminate().success());
    gateway.start();
    gateway.until_up();
    disk.fill();
    let mut pusher = Pusher::connect(port);
    let mut taken = (1..=50).filter(|n| pusher.try_push("p1", &(ROWS + n).to_string())).count() as u64;
    gateway.until_drained();

    // Filled while it was down: not even a journal can be begun without the reserve.
    disk.free_up();
    until("the reserve is whole", PATIENCE, || {
        taken += u64::from(pusher.try_push("p1", &(ROWS + 50 + taken + 1).to_string()));
        (disk.length("reserve") >= RESERVE).then_some(())
    });
    gateway.until_drained();
    assert!(gateway.terminate().success());
    disk.fill();
    assert_eq!(disk.free(), 0);
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(port);
    taken += (1..=50).filter(|n| pusher.try_push("p1", &(2 * ROWS + n).to_string())).count() as u64;
    gateway.until_drained();
    assert_eq!(disk.length("reserve"), 0, "it was given up");
    let tight = gateway.ledger();
    println!("FIGURE disk full of another's: {taken} samples taken after it was full; {tight:?}");

    disk.free_up();
    until("samples are taken again", PATIENCE, || {
        let more = pusher.try_push("p1", &(3 * ROWS).to_string());
        more.then_some(())
    });
    gateway.until_drained();
    disk.until_space_is_given_back();
    let (ledger, arrivals) = (gateway.ledger(), platform.arrivals());
    println!("FIGURE disk full of another's: {ledger:?}, {} resent", arrivals.resent);
    assert_eq!(arrivals.resent, 0);
    assert_eq!((ledger.landed, ledger.dropped), (arrivals.first.len() as u64, 0), "{ledger:?}");
    assert_eq!(ledger.stored, ROWS + taken + 1, "{ledger:?}");
    arrivals.assert_in_order();
    assert!(gateway.terminate().success());
}

#[test]
fn a_program_that_takes_the_reserve_as_well_stops_no_delivery() {
    const ROWS: u64 = 30_000;
    let Some(disk) = Disk::find() else { return };
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).state_dir(&disk.state()).pushed(1, port);
    let mut gateway = Gateway::new(&site, &config, 1);
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(port);
    pusher.push("p1", "1");
    gateway.until_drained();
    broker.stop();
    for first in (2..=ROWS).step_by(usize::try_from(BATCH).unwrap()) {
        pusher.push("p1", &format!("{first}-{}", ROWS.min(first + BATCH - 1)));
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                disk.fill();
                let_pass(Duration::from_millis(5));
            }
        });
        broker.start_again();
        until("all of it has arrived", PATIENCE, || {
            gateway.assert_alive();
            (platform.accepted() as u64 >= ROWS).then_some(())
        });
        over.store(true, SeqCst);
    });
    let kept = gateway.outbox_rows();
    println!("FIGURE disk full, the reserve too: {ROWS} rows delivered, {kept} of them not yet deleted");
    assert_eq!((disk.free(), disk.length("reserve")), (0, 0));
    disk.free_up();
    gateway.until_drained();
    disk.until_space_is_given_back();
    let (ledger, arrivals) = (gateway.ledger(), platform.arrivals());
    assert_eq!((arrivals.resent, ledger.landed, ledger.dropped), (0, ROWS, 0), "{ledger:?}");
    arrivals.assert_in_order();
    assert!(gateway.terminate().success());
}

#[test]
fn a_read_only_file_system_is_said_plainly_and_a_start_later_works() {
    let Some(disk) = Disk::find() else { return };
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let config = Config::kaa(&site, broker.port()).state_dir(&disk.state()).pushed(1, free_port());
    let mut gateway = Gateway::new(&site, &config, 5);
    disk.remount("ro");
    gateway.start();
    let ended = gateway.ended("it does not start");
    disk.remount("rw");
    assert!(!ended.success());
    assert!(gateway.has_logged("code=\"TG-205\""));
    gateway.start();
    gateway.until_up();
    assert!(gateway.terminate().success());
}

/// Of each endpoint the youngest have arrived, in order and without a gap.
fn assert_youngest(arrivals: &Arrivals, endpoints: u64, last: u64) {
    let numbers = arrivals.numbers();
    for endpoint in 1..=endpoints {
        let token = format!("TP{endpoint}");
        let first = numbers[token.as_str()][0];
        assert!(first > 1, "{token}: none was dropped");
        arrivals.assert_exactly(&token, first..=last);
    }
}

#[test]
fn a_name_that_cannot_be_written_changes_when_there_is_room() {
    let Some(disk) = Disk::find() else { return };
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).state_dir(&disk.state()).pushed(2, port);
    let mut gateway = Gateway::new(&site, &config, 1);
    gateway.start();
    gateway.until_up();
    broker.stop();
    let mut pusher = Pusher::connect(port);
    (1..=50).for_each(|n| pusher.push("p2", &n.to_string()));
    let file = site.path("tidegate.toml");
    let text = fs::read_to_string(&file).unwrap();
    let call = |name: &str, formerly: &str| {
        assert!(text.contains("[endpoints.p2]\n"), "{text}");
        let renamed = format!("[endpoints.{name}]\nformerly = {formerly}\n");
        let text = text.replace("[endpoints.p2]\n", &renamed);
        fs::write(&file, text.replace("[endpoints.p2.test]", &format!("[endpoints.{name}.test]"))).unwrap();
    };
    let queued = |gateway: &Gateway| ["p2", "p3", "p4"].map(|name| gateway.outbox_rows_of(name));

    // The first change has what the reserve held.
    disk.fill();
    call("p3", "\"p2\"");
    gateway.until_status("it is in force", |status| status["configuration"]["loads"] == 2);
    assert_eq!((queued(&gateway), disk.length("reserve")), ([0, 50, 0], 0));

    // For the second one there is nothing.
    disk.fill();
    let starts = gateway.status()["units"][0]["starts"].clone();
    call("p4", "[\"p2\", \"p3\"]");
    let full = gateway
        .until_status("it cannot be in force", |status| status["configuration"]["fault"]["code"] == "TG-206");
    assert_eq!((&full["configuration"]["loads"], &full["units"][0]["starts"]), (&2.into(), &starts));
    assert_eq!(queued(&gateway), [0, 50, 0], "nothing was touched");

    disk.free_up();
    gateway.until_status("it is tried again", |status| status["configuration"]["fault"].is_null());
    assert_eq!(queued(&gateway), [0, 0, 50]);
    until("samples are taken again", PATIENCE, || pusher.try_push("p4", "51").then_some(()));
    broker.start_again();
    gateway.until_drained();
    platform.arrivals().assert_exactly("TP2", 1..=51);
    assert_eq!(gateway.ledger().dropped, 0);
    assert!(gateway.terminate().success());
}
