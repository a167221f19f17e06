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
use std::{fs::OpenOptions, os::unix::fs::FileExt as _, time::Duration};

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
    gateway.environment("TIDEGATE_LINGER", "4");
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
    let before = systemd.fed();
    until("it is salvaged", PATIENCE * 4, || {
        gateway.has_logged("salvaged; the damaged file is kept").then_some(())
    });
    let fed = systemd.fed() - before;
    println!("FIGURE slow salvage: meanwhile the watchdog of {WATCHDOG:?} was fed {fed} times");
    // Three times in each of its times.
    assert!(fed > 3, "it was no slow one, or systemd would have killed it: {fed}");
    gateway.assert_alive();
    gateway.until_status("what is left goes up", |status| status["ledger"]["landed"].as_u64() > Some(2_000));
    let ledger = gateway.ledger();
    assert!((1..ROWS / 4).contains(&ledger.dropped), "{ledger:?}");
    assert_eq!((ledger.stored, ledger.landed + ledger.queued), (ROWS, ROWS - ledger.dropped), "{ledger:?}");
    assert!(gateway.terminate().success());
}
