//! A database that is damaged under a running gateway. The salvage takes longer than systemd's watchdog waits, which is
//! fed all the while: else it would be begun again for ever.

use crate::{
    arrivals::Platform,
    gateway::{Config, Gateway},
    isolation::Systemd,
    peers::Broker,
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, until},
};
use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

const ROWS: u64 = 60_000;
const BATCH: u64 = 500;
const WATCHDOG: Duration = Duration::from_secs(3);

#[test]
fn a_salvage_longer_than_the_watchdog_feeds_it_and_comes_to_its_end() {
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let _platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).pushed(1, port);
    let mut gateway = Gateway::new(&site, &config, 1);
    gateway.start();
    gateway.until_up();
    broker.stop();
    let mut pusher = Pusher::connect(port);
    for first in (1..=ROWS).step_by(usize::try_from(BATCH).unwrap()) {
        pusher.push("p1", &format!("{first}-{}", first + BATCH - 1));
    }
    assert!(gateway.terminate().success());

    let path = site.path("notify");
    let systemd = Systemd::listen(&path);
    gateway.environment("NOTIFY_SOCKET", path.to_str().unwrap());
    gateway.environment("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string());
    gateway.environment("TIDEGATE_LINGER", "5");
    gateway.start();
    gateway.status();
    // What it has in memory of the file is its end, which was read last.
    let file = OpenOptions::new().write(true).open(gateway.database()).unwrap();
    let quarter = file.metadata().unwrap().len() / 4;
    file.write_all_at(&[0xa5; 64 << 10], quarter & !0xfff).unwrap();
    broker.start_again();
    until("the damage is found", PATIENCE, || {
        gateway.has_logged("the database is damaged; what can be read is copied").then_some(())
    });
    let (began, mut last, mut longest) = (Instant::now(), (Instant::now(), systemd.fed()), Duration::ZERO);
    until("it is salvaged", PATIENCE * 4, || {
        if systemd.fed() > last.1 {
            last = (Instant::now(), systemd.fed());
        }
        longest = longest.max(last.0.elapsed());
        gateway.has_logged("salvaged; the damaged file is kept").then_some(())
    });
    let took = began.elapsed();
    println!("FIGURE slow salvage: {took:.1?} long, the watchdog was fed after {longest:.1?} at the latest");
    assert!(took > 2 * WATCHDOG, "it was no slow one: {took:?}");
    assert!(longest < WATCHDOG, "systemd would have killed it");
    gateway.assert_alive();
    gateway.until_drained();
    let ledger = gateway.ledger();
    assert!((1..ROWS / 4).contains(&ledger.dropped), "{ledger:?}");
    assert_eq!((ledger.stored, ledger.landed), (ROWS, ROWS - ledger.dropped), "{ledger:?}");
    assert!(gateway.terminate().success());
}
