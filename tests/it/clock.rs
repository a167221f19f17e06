//! A gateway without a clock of its own: it starts in 1970, learns the time early, late or never, and
//! its wall clock jumps. Nothing is lost, order is kept, stamps are true or marked, no timer is disturbed.
//!
//! The daemon's wall clock is libfaketime's, its monotonic clocks are real; `TIDEGATE_TRUST_FILE`
//! stands for the time service and `TIDEGATE_BOOT_FILE` for the machine's boot. All certificates here
//! are good from 1970 on.

use crate::{
    arrivals::{Accepted, Arrivals, Recorder},
    gateway::{Config, Gateway},
    peers::{Broker, Slave},
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, let_pass, until},
};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const SCALE: u32 = 10;
/// What a stamp may be off: the daemon reads its clock between the two readings of ours, in whole ms.
const EXACT: i64 = 5;
const DAY: i64 = 86_400;
const TEN_YEARS: i64 = 3_652 * DAY;

/// A gateway whose clock is ours.
struct Box1970 {
    site: Site,
    broker: Broker,
    recorder: Recorder,
    gateway: Gateway,
    port: u16,
    time_file: PathBuf,
    trust_file: PathBuf,
    boot_file: PathBuf,
    /// What the wall clock is ahead of the real one, in seconds.
    ahead: i64,
    /// When each number was pushed, by the real clock, in ms: before and after.
    pushed: Vec<(i64, i64)>,
}

impl Box1970 {
    /// Booted, in 1970, and not started yet; one endpoint is pushed to.
    fn new(hold: &str) -> Self {
        let port = free_port();
        Self::of(Site::new(), port, hold, |config| config.pushed(1, port))
    }

    fn of(site: Site, port: u16, hold: &str, add: impl FnOnce(Config) -> Config) -> Self {
        let broker = Broker::start(&site, true);
        let recorder = Recorder::start(&site, broker.port());
        let keys = format!("trust = \"auto\"\nhold = \"{hold}\"");
        // A keep-alive of half a second: a timer that stands still ends the connection.
        let config = Config::plain(&site, broker.port()).with_quality().set("keep_alive", "5s");
        let config = add(config.clock(&keys));
        let mut gateway = Gateway::new(&site, &config, SCALE);
        let [time_file, trust_file, boot_file] = ["time", "trusted", "boot"].map(|name| site.path(name));
        for (variable, value) in [
            ("LD_PRELOAD", &library()),
            ("FAKETIME_TIMESTAMP_FILE", &time_file),
            ("TIDEGATE_TRUST_FILE", &trust_file),
            ("TIDEGATE_BOOT_FILE", &boot_file),
        ] {
            gateway.environment(variable, value.to_str().unwrap());
        }
        for variable in ["FAKETIME_DONT_FAKE_MONOTONIC", "FAKETIME_NO_CACHE", "NO_FAKE_STAT"] {
            gateway.environment(variable, "1");
        }
        let mut this = Self {
            site,
            broker,
            recorder,
            gateway,
            port,
            time_file,
            trust_file,
            boot_file,
            ahead: 0,
            pushed: Vec::new(),
        };
        this.boot("first");
        this
    }

    /// A boot that begins now, in 1970.
    fn boot(&mut self, id: &str) {
        // CLOCK_BOOTTIME, in hundredths of a second.
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        fs::write(&self.boot_file, format!("{id} {:.0}", seconds * 1e6)).unwrap();
        self.set_wall(10 - real_ms() / 1_000);
    }

    /// Sets the wall clock: so many seconds ahead of the real one.
    fn set_wall(&mut self, ahead: i64) {
        self.ahead = ahead;
        let beside = self.time_file.with_extension("new");
        fs::write(&beside, format!("{ahead:+}")).unwrap();
        fs::rename(beside, &self.time_file).unwrap();
    }

    /// The time service has set the clock, and says so.
    fn learn(&mut self) {
        self.set_wall(0);
        fs::write(&self.trust_file, "").unwrap();
        self.gateway.until_status("the time is known", |status| status["clock"]["known"] == true);
    }

    /// Pushes the next `count` numbers, one by one, and insists on their acknowledgement.
    fn push(&mut self, count: usize) {
        let mut pusher = Pusher::connect(self.port);
        for _ in 0..count {
            let before = real_ms() + self.ahead * 1_000;
            pusher.push("p1", &(self.pushed.len() + 1).to_string());
            self.pushed.push((before, real_ms() + self.ahead * 1_000));
        }
    }

    fn arrived(&mut self) -> usize {
        self.recorder.arrivals().first.len()
    }

    fn until_arrived(&mut self, count: usize) {
        until("they have arrived", PATIENCE, || {
            self.gateway.assert_alive();
            (self.recorder.arrivals().first.len() >= count).then_some(())
        });
    }

    /// Everything arrived, in order and once; returns it, and ends the gateway.
    fn end(mut self) -> (Arrivals, Vec<(i64, i64)>) {
        self.gateway.until_drained();
        let arrivals = self.recorder.arrivals();
        arrivals.assert_exactly("p1", 1..=self.pushed.len() as u64);
        let ledger = self.gateway.ledger();
        let all = self.pushed.len() as u64;
        assert_eq!(
            (ledger.stored, ledger.landed, ledger.dropped, ledger.dead),
            (all, all, 0, 0),
            "{ledger:?}"
        );
        assert!(self.gateway.terminate().success());
        assert_eq!(self.gateway.says("panic"), 0, "{}", self.site.path("tidegate.log").display());
        (arrivals, self.pushed)
    }
}

/// True to the real clock; returns by how much it is off, in ms.
fn assert_true(sample: &Accepted, pushed: (i64, i64), ahead_ms: i64) -> i64 {
    let stamp = sample.sample["timestamp"].as_i64().unwrap_or_else(|| panic!("no stamp: {sample:?}"));
    assert!(sample.sample.get("n_quality").is_none(), "marked though its time is known: {sample:?}");
    let (before, after) = (pushed.0 + ahead_ms, pushed.1 + ahead_ms);
    let off = (before - stamp).max(stamp - after).max(0);
    assert!(off <= EXACT, "{off} ms off: {sample:?}, pushed from {before} to {after}");
    off
}

fn assert_marked(sample: &Accepted) {
    assert!(sample.sample.get("timestamp").is_none(), "a stamp of a clock nobody trusts: {sample:?}");
    assert_eq!(sample.sample["n_quality"], "uncertain: clock", "{sample:?}");
}

fn real_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn library() -> PathBuf {
    let places = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found = places.map(|dir| dir.join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().expect("libfaketime is not installed; tests/run installs it")
}

#[test]
fn samples_of_1970_get_their_true_time_when_it_comes_within_the_hold() {
    let mut gateway = Box1970::new("10m");
    gateway.gateway.start();
    gateway.gateway.until_up();
    let unset = gateway.ahead;
    gateway.push(20);
    // Somebody sets the clock, ten years off: nobody trusts it either way.
    gateway.set_wall(TEN_YEARS);
    gateway.push(10);
    let status = gateway.gateway.status();
    assert_eq!(
        (&status["clock"]["known"], &status["clock"]["holding"]),
        (&false.into(), &30.into()),
        "{status}"
    );
    let (said, _) = gateway.gateway.say(&["status"]);
    assert!(said.contains("30 samples wait for it"), "{said}");
    assert_eq!(gateway.arrived(), 0, "nothing goes up before its time is known");
    gateway.learn();
    gateway.push(10);
    gateway.until_arrived(40);
    let status = gateway.gateway.status();
    assert_eq!(status["uplink"]["connections"], 1, "no timer follows the wall clock: {status}");
    assert_eq!(gateway.gateway.says("the time is known"), 1);
    assert_eq!(gateway.gateway.says("the time is still not known"), 0);
    let (arrivals, pushed) = gateway.end();
    let mut off = 0;
    for (index, sample) in arrivals.first.iter().enumerate() {
        let ahead = [unset, TEN_YEARS, 0][(index / 10).saturating_sub(1).min(2)];
        off = off.max(assert_true(sample, pushed[index], -ahead * 1_000));
    }
    println!(
        "FIGURE clock: stamps of 40 samples, 30 of them from before the time was known: at most {off} ms off"
    );
}

#[test]
fn samples_of_1970_go_up_marked_after_the_hold_and_true_once_the_time_is_known() {
    // Six seconds.
    let mut gateway = Box1970::new("60s");
    let booted = std::time::Instant::now();
    gateway.gateway.start();
    gateway.gateway.until_up();
    gateway.push(10);
    assert_eq!(gateway.arrived(), 0, "nothing goes up before the hold is over");
    gateway.until_arrived(10);
    let waited = booted.elapsed();
    assert!(waited >= Duration::from_secs(6), "{waited:?}");
    gateway.push(10);
    gateway.until_arrived(20);
    let status = gateway.gateway.status();
    assert_eq!(
        (&status["clock"]["known"], &status["clock"]["holding"]),
        (&false.into(), &0.into()),
        "{status}"
    );
    assert_eq!(gateway.gateway.says("the time is still not known"), 1, "said once");
    // The hold counts from the boot: another start waits no longer.
    assert!(gateway.gateway.terminate().success());
    gateway.gateway.start();
    gateway.gateway.until_up();
    gateway.push(10);
    gateway.until_arrived(30);
    assert_eq!(gateway.gateway.says("samples wait for it"), 1, "of the first start");
    gateway.learn();
    gateway.push(10);
    gateway.until_arrived(40);
    // What was known earlier in a boot is known at the next start, whoever says so or not.
    gateway.gateway.kill();
    fs::remove_file(&gateway.trust_file).unwrap();
    gateway.gateway.start();
    gateway.gateway.until_up();
    gateway.push(10);
    let (arrivals, pushed) = gateway.end();
    arrivals.first[..30].iter().for_each(assert_marked);
    for (sample, pushed) in arrivals.first[30..].iter().zip(&pushed[30..]) {
        assert_true(sample, *pushed, 0);
    }
    let waited = waited.as_secs_f32();
    println!("FIGURE clock: marked and sent {waited:.1} s after boot, with a hold of 6.0 s");
}

#[test]
fn a_jump_of_ten_years_and_a_day_back_disturbs_no_timer() {
    let mut gateway = Box1970::new("10m");
    gateway.set_wall(0);
    fs::write(&gateway.trust_file, "").unwrap();
    gateway.gateway.start();
    gateway.gateway.until_up();
    gateway.push(10);
    for (jump, all) in [(TEN_YEARS, 20), (TEN_YEARS - DAY, 30)] {
        gateway.set_wall(jump);
        gateway.push(10);
        gateway.until_arrived(all);
        // Six times the keep-alive.
        let_pass(Duration::from_secs(3));
        let read = gateway.gateway.ask(&["read", "p1"]).unwrap();
        let age_ms = read["values"][0]["age_ms"].as_u64().unwrap();
        assert!((20_000..600_000).contains(&age_ms), "of more than three seconds, ten times faster: {read}");
    }
    let status = gateway.gateway.status();
    assert_eq!(
        (&status["uplink"]["connections"], &status["uplink"]["state"]),
        (&1.into(), &"up".into()),
        "{status}"
    );
    let (arrivals, pushed) = gateway.end();
    for (sample, pushed) in arrivals.first.iter().zip(&pushed) {
        assert_true(sample, *pushed, 0);
    }
    assert_eq!(arrivals.resent, 0, "nothing was thought lost");
}

#[test]
fn a_meter_is_read_in_time_whatever_the_wall_clock_does() {
    let site = Site::new();
    let mut slave = Slave::start(&site, 1, 10);
    let mut gateway = Box1970::of(site, 0, "10m", |config| config.meters(1, slave.port()));
    gateway.set_wall(0);
    fs::write(&gateway.trust_file, "").unwrap();
    gateway.gateway.start();
    gateway.gateway.until_up();
    let started = real_ms();
    let jumps = [0, TEN_YEARS, TEN_YEARS - DAY, -DAY];
    for jump in jumps {
        gateway.set_wall(jump);
        let_pass(Duration::from_secs(2));
    }
    slave.stop();
    let served = slave.served();
    gateway.until_arrived(served.len());
    let arrivals = gateway.recorder.arrivals();
    arrivals.assert_exactly("m1", served.iter().map(|read| read.seq));
    // Its stamps are of one of the wall clocks; by the real one they are evenly spread.
    let real = |sample: &Accepted| {
        let stamp = sample.sample["timestamp"].as_i64().unwrap();
        let by = jumps.map(|ahead| stamp - ahead * 1_000);
        let of_this_run = |ms: &i64| (started - 60_000..=real_ms()).contains(ms);
        by.into_iter().find(of_this_run).unwrap_or_else(|| panic!("of no clock: {sample:?}"))
    };
    let reads: Vec<_> = arrivals.first.iter().filter(|a| a.sample.get("seq").is_some()).map(real).collect();
    let gaps = reads.windows(2).map(|pair| pair[1] - pair[0]);
    let (shortest, longest) = (gaps.clone().min().unwrap(), gaps.max().unwrap());
    println!(
        "FIGURE clock: {} reads, nominally every 100 ms, over three jumps: {shortest} to {longest} ms apart",
        reads.len()
    );
    assert!(reads.len() > 40 && shortest >= 0 && longest < 1_500);
    assert!(gateway.gateway.terminate().success());
}

/// A machine without the mark of systemd-timesyncd, where some other program keeps the time.
#[test]
fn timedated_is_asked_until_it_says_yes() {
    let mut gateway = Box1970::new("10m");
    let answer = gateway.site.path("answer");
    let program = gateway.site.path("timedatectl");
    let script =
        format!("#!/bin/sh\n[ \"$*\" = 'show --property=NTPSynchronized --value' ] && cat {answer:?}\n");
    fs::write(&answer, "no\n").unwrap();
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", gateway.site.path("").display(), env::var("PATH").unwrap());
    gateway.gateway.environment("PATH", &path);
    gateway.gateway.forget("TIDEGATE_TRUST_FILE");
    gateway.set_wall(0);
    let marked = Path::new("/run/systemd/timesync/synchronized").exists();
    gateway.gateway.start();
    gateway.push(10);
    let status = gateway.gateway.status();
    assert_eq!(status["clock"]["known"], marked, "{status}");
    fs::write(&answer, "yes\n").unwrap();
    gateway.until_arrived(10);
    let status = gateway.gateway.status();
    let by = if marked { "systemd-timesyncd" } else { "systemd-timedated (NTPSynchronized)" };
    assert_eq!(status["clock"]["by"], by, "{status}");
    let (arrivals, pushed) = gateway.end();
    for (sample, pushed) in arrivals.first.iter().zip(&pushed) {
        assert_true(sample, *pushed, 0);
    }
}

/// Whoever renews a certificate does not know of gateways that start in 1970.
#[test]
fn a_certificate_is_not_yet_valid_until_the_time_is_known_and_then_for_all_boots() {
    let mut gateway = Box1970::new("10m");
    gateway.broker.stop();
    gateway.site.identity_since("broker", 2024);
    gateway.broker.start_again();
    gateway.gateway.start();
    let first = gateway.ahead;
    gateway.push(10);
    let refused = |status: &serde_json::Value| status["uplink"]["fault"]["code"] == "TG-122";
    gateway.gateway.until_status("the certificate is of the future", refused);
    gateway.learn();
    gateway.gateway.until_up();
    gateway.until_arrived(10);
    gateway.gateway.kill();
    fs::remove_file(&gateway.trust_file).unwrap();
    gateway.boot("second");
    gateway.gateway.start();
    // In 1970 again, but it is known to be later.
    gateway.gateway.until_up();
    let second = gateway.ahead;
    gateway.push(10);
    assert_eq!(gateway.arrived(), 10);
    gateway.learn();
    let (arrivals, pushed) = gateway.end();
    for (index, sample) in arrivals.first.iter().enumerate() {
        let ahead = if index < 10 { first } else { second };
        assert_true(sample, pushed[index], -ahead * 1_000);
    }
}

#[test]
fn of_two_boots_the_first_one_never_learns_the_time() {
    let mut gateway = Box1970::new("10m");
    gateway.gateway.start();
    gateway.gateway.until_up();
    gateway.push(10);
    assert_eq!(gateway.arrived(), 0);
    gateway.gateway.kill();
    gateway.boot("second");
    gateway.gateway.start();
    let unset = gateway.ahead;
    gateway.push(10);
    // The first boot's will never be known, the second's may.
    gateway.until_arrived(10);
    until("only the second's wait", PATIENCE, || (gateway.gateway.outbox_rows_of("p1") == 10).then_some(()));
    let queue = gateway.gateway.ask(&["queue"]).unwrap();
    assert_eq!(queue["lanes"][0]["state"], "waits for the time", "{queue}");
    gateway.learn();
    gateway.push(10);
    let (arrivals, pushed) = gateway.end();
    arrivals.first[..10].iter().for_each(assert_marked);
    for (index, sample) in arrivals.first.iter().enumerate().skip(10) {
        assert_true(sample, pushed[index], if index < 20 { -unset * 1_000 } else { 0 });
    }
}
