//! What goes on around the gateway while it lives and dies: connections that are cut, a platform out of
//! reach, and another program that fills the disk to the last byte and frees it again.

use crate::{
    cutter::Cutter,
    disk::Disk,
    peers::JsonLines,
    site::{free_port, let_pass},
};
use std::{
    ops::RangeInclusive,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

/// The weather there was.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    /// Platform out of reach for seconds: connections ended at once, or nothing passed.
    pub(crate) outages: usize,
    /// Connections of the slave that may have been open while the disk was full, one range per time.
    pub(crate) full: Vec<RangeInclusive<u64>>,
}

/// A small disk, and the slave's log to tell its connections by.
pub(crate) type Filled<'a> = Option<(&'a Disk, &'a Path)>;

/// Does something in bad weather. When it returns, the weather is good.
pub(crate) fn in_bad_weather<T>(
    (cutter, broker): (&Cutter, u16),
    disk: Filled<'_>,
    mut chance: fastrand::Rng,
    work: impl FnOnce() -> T,
) -> (T, Weather) {
    /// Ends the weather, also where the work panics.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let dice = chance.fork();
        let network = scope.spawn(|| cut_over_and_over(cutter, broker, dice, &over));
        let disk = disk.map(|(disk, log)| scope.spawn(|| fill_over_and_over(disk, log, chance, &over)));
        let done = {
            let _over = Over(&over);
            work()
        };
        let full = disk.map(|disk| disk.join().unwrap()).unwrap_or_default();
        (done, Weather { outages: network.join().unwrap(), full })
    })
}

/// Returns how many outages there were.
fn cut_over_and_over(cutter: &Cutter, broker: u16, mut chance: fastrand::Rng, over: &AtomicBool) -> usize {
    let nobody = free_port();
    let mut outages = 0;
    while !over.load(SeqCst) {
        let_pass(Duration::from_millis(chance.u64(100..2_500)));
        let lasts = Duration::from_millis(chance.u64(1_000..5_000));
        match chance.u8(0..16) {
            0 => {
                cutter.lead_to(nobody);
                let_pass(lasts);
                cutter.lead_to(broker);
                outages += 1;
            }
            1 => {
                cutter.hold(true);
                let_pass(lasts);
                cutter.hold(false);
                outages += 1;
            }
            _ => cutter.cut(),
        }
    }
    outages
}

/// Returns which connections of the slave it may have been felt on.
fn fill_over_and_over(
    disk: &Disk,
    log: &Path,
    mut chance: fastrand::Rng,
    over: &AtomicBool,
) -> Vec<RangeInclusive<u64>> {
    let mut log = JsonLines::of(log);
    let mut last = || log.all().iter().filter_map(|line| line["opened"].as_u64()).max().unwrap_or_default();
    let mut full = Vec::new();
    while !over.load(SeqCst) {
        let_pass(Duration::from_millis(chance.u64(200..4_000)));
        let first = last();
        // What the gateway gives up is taken from it as well, again and again.
        for _ in 0..chance.u32(1..60) {
            disk.fill();
            let_pass(Duration::from_millis(chance.u64(0..150)));
        }
        disk.free_up();
        full.push(first..=last());
    }
    full
}
