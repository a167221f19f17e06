//! One adapter that panics, blocks its thread or floods, and its neighbour in the same gateway (I8): the
//! neighbour's data arrives whole, each misbehaviour is reported by its name, and systemd hears all the while
//! that the gateway is alive. What it costs the neighbour in time is printed, not judged.

use crate::{
    arrivals::Recorder,
    gateway::{Config, Gateway},
    peers::Broker,
    pusher::Pusher,
    site::{PATIENCE, Site, asked_for, free_port, let_pass, until},
};
use serde_json::Value;
use std::{
    io::Write as _,
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// Of each figure: `TIDEGATE_TEST_ROUNDS`. Those of a release build are taken by `tests/bench/run isolation`.
fn runs() -> usize {
    asked_for("TIDEGATE_TEST_ROUNDS", 1)
}

/// Submissions that a figure is taken of.
const SUBMISSIONS: u64 = 300;

/// systemd's end: what it is told.
pub(crate) struct Systemd {
    alive: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

impl Systemd {
    /// Listens under this path. Its thread ends with the test's process.
    pub(crate) fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let systemd =
            Self { alive: Arc::new(AtomicUsize::new(0)), stopping: Arc::new(AtomicBool::new(false)) };
        let (alive, stopping) = (systemd.alive.clone(), systemd.stopping.clone());
        thread::spawn(move || {
            let mut room = [0; 4_096];
            while let Ok(length) = socket.recv(&mut room) {
                let told = String::from_utf8_lossy(&room[..length]);
                alive.fetch_add(usize::from(told == "WATCHDOG=1"), SeqCst);
                if told.starts_with("STOPPING=1") {
                    stopping.store(true, SeqCst);
                }
            }
        });
        systemd
    }

    /// How often the watchdog was fed.
    pub(crate) fn fed(&self) -> usize {
        self.alive.load(SeqCst)
    }

    /// Waits until the watchdog was fed so often from now on.
    fn until_fed(&self, times: usize) {
        let before = self.fed();
        until("the watchdog is fed", PATIENCE, || (self.fed() >= before + times).then_some(()));
    }
}

/// A gateway with two adapters: `calm`, whose endpoint is p1, and `wild`, whose endpoint is w1.
struct Pair {
    gateway: Gateway,
    recorder: Recorder,
    systemd: Systemd,
    calm: u16,
    wild: u16,
    /// The last number of p1.
    number: u64,
    _broker: Broker,
    _site: Site,
}

impl Pair {
    fn new(scale: u32) -> Self {
        let site = Site::new();
        let broker = Broker::start(&site, true);
        let recorder = Recorder::start(&site, broker.port());
        let (calm, wild) = (free_port(), free_port());
        let config = Config::plain(&site, broker.port()).line(&format!(
            "[adapters.test.calm]\nlisten = \"127.0.0.1:{calm}\"\n\
             [adapters.test.wild]\nlisten = \"127.0.0.1:{wild}\"\n\
             [endpoints.p1]\ntoken = \"TP1\"\nadapter = \"calm\"\n[endpoints.p1.test]\n\
             [endpoints.w1]\ntoken = \"TW1\"\nadapter = \"wild\"\n[endpoints.w1.test]\n\
             [endpoints.w1.quota]\nsamples_per_s = 50"
        ));
        let mut gateway = Gateway::new(&site, &config, scale);
        let (said, good) = gateway.check();
        assert!(good, "{said}");
        let path = site.path("notify");
        let systemd = Systemd::listen(&path);
        gateway.environment("NOTIFY_SOCKET", path.to_str().unwrap());
        gateway.environment("WATCHDOG_USEC", "6000000");
        gateway.start();
        gateway.until_up();
        Self { gateway, recorder, systemd, calm, wild, number: 0, _broker: broker, _site: site }
    }

    /// The 99th percentile of what p1 waits for its receipts.
    fn p99(&mut self) -> Duration {
        let mut pusher = Pusher::connect(self.calm);
        let mut waits: Vec<Duration> = (0..SUBMISSIONS)
            .map(|_| {
                self.number += 1;
                let began = Instant::now();
                pusher.push("p1", &self.number.to_string());
                let waited = began.elapsed();
                // A device, not a flood.
                let_pass(Duration::from_millis(5));
                waited
            })
            .collect();
        waits.sort_unstable();
        waits[waits.len() * 99 / 100]
    }

    /// The same while something goes on in the other adapter, over and over, as a multiple of what it is before.
    fn ratio(&mut self, wild: impl Fn(&mut TcpStream) -> std::io::Result<()> + Sync) -> f64 {
        let quiet = self.p99();
        let (over, port) = (AtomicBool::new(false), self.wild);
        let beside = thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = None;
                while !over.load(SeqCst) {
                    if stream.is_none() {
                        stream = connect(port).ok();
                    }
                    let good = stream.as_mut().is_some_and(|stream| wild(stream).is_ok());
                    if !good {
                        stream = None;
                        let_pass(Duration::from_millis(20));
                    }
                }
            });
            let beside = self.p99();
            over.store(true, SeqCst);
            beside
        });
        beside.as_secs_f64() / quiet.as_secs_f64()
    }

    /// Blocks the other adapter's thread, for longer than any test.
    fn block(&mut self) {
        Pusher::connect(self.wild);
        let mut stream = TcpStream::connect(("127.0.0.1", self.wild)).unwrap();
        stream.write_all(b"block 10000\n").unwrap();
        self.until_wild("it has stalled", |unit| unit["state"] == "stalled");
    }

    /// What is said of the other adapter.
    fn until_wild(&mut self, what: &str, mut so: impl FnMut(&Value) -> bool) -> Value {
        self.gateway.until_status(what, |status| {
            let unit = unit_of(status, "test.wild");
            assert_eq!(unit_codes(unit_of(status, "test.calm")), [] as [&str; 0], "{status}");
            so(unit)
        })
    }

    /// The fault of the other adapter is told by its name, in `status` and in the journal.
    fn assert_told(&mut self, code: &str) {
        let status = self.until_wild(code, |unit| unit_codes(unit).contains(&code));
        let faults = unit_of(&status, "test.wild")["faults"].as_array().unwrap();
        let fault = faults.iter().find(|fault| fault["code"] == code).unwrap();
        assert_eq!(fault["where"], "test.wild", "{fault}");
        let line = format!("unit=\"test.wild\" code=\"{code}\"");
        until("the journal says so", PATIENCE, || self.gateway.has_logged(&line).then_some(()));
    }

    /// Whatever p1 was answered has arrived.
    fn assert_whole(&mut self) {
        self.gateway.until_drained();
        let number = self.number;
        self.recorder.arrivals().assert_exactly("p1", 1..=number);
    }
}

/// A connection whose answers nobody waits for. They are read: else the adapter would wait for that.
fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut answers = stream.try_clone()?;
    thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
    Ok(stream)
}

fn unit_of<'s>(status: &'s Value, name: &str) -> &'s Value {
    let units = status["units"].as_array().unwrap();
    units.iter().find(|unit| unit["name"] == name).unwrap()
}

fn unit_codes(unit: &Value) -> Vec<&str> {
    unit["faults"].as_array().unwrap().iter().filter_map(|fault| fault["code"].as_str()).collect()
}

fn figure(what: &str, mut ratios: Vec<f64>) {
    ratios.sort_by(f64::total_cmp);
    println!(
        "FIGURE isolation, {what}: p99 of a neighbour's urgent receipts {:.2} times the quiet one (median of {}; {ratios:.2?})",
        ratios[ratios.len() / 2],
        ratios.len()
    );
}

#[test]
fn an_adapter_that_panics_costs_its_neighbour_nothing() {
    let mut pair = Pair::new(10);
    let ratios = (0..runs()).map(|_| pair.ratio(|stream| stream.write_all(b"panic\n"))).collect();
    figure("a neighbour panics whenever it was started again", ratios);
    pair.assert_told("TG-213");
    let status = pair.gateway.status();
    let wild = unit_of(&status, "test.wild");
    assert!(wild["panics"].as_u64() > Some(0) && wild["starts"].as_u64() > Some(1), "{wild}");
    assert_eq!(unit_of(&status, "test.calm")["starts"], 1, "{status}");
    pair.until_wild("it is well again", |unit| unit["state"] == "running" && unit_codes(unit).is_empty());
    pair.systemd.until_fed(2);
    pair.assert_whole();
    assert!(pair.gateway.terminate().success());
}

#[test]
fn an_adapter_that_blocks_is_told_by_name_and_costs_its_neighbour_nothing() {
    let mut pair = Pair::new(10);
    let mut ratios = Vec::new();
    for _ in 0..runs() {
        let quiet = pair.p99();
        // 9 s, as the time is scaled.
        Pusher::connect(pair.wild);
        let mut stream = TcpStream::connect(("127.0.0.1", pair.wild)).unwrap();
        stream.write_all(b"block 90\n").unwrap();
        ratios.push(pair.p99().as_secs_f64() / quiet.as_secs_f64());
        pair.until_wild("it has stalled", |unit| unit["state"] == "stalled");
        pair.systemd.until_fed(2);
        pair.assert_told("TG-218");
        pair.until_wild("it turns again", |unit| unit["state"] == "running" && unit_codes(unit).is_empty());
    }
    figure("a neighbour's thread is blocked", ratios);
    assert_eq!(unit_of(&pair.gateway.status(), "test.wild")["starts"], 1, "it was not started again");
    pair.assert_whole();
    assert!(pair.gateway.terminate().success());
}

#[test]
fn an_adapter_that_floods_is_told_by_name_and_its_neighbour_gets_in() {
    let mut pair = Pair::new(10);
    let flood = |stream: &mut TcpStream| stream.write_all(b"w1 1\n".repeat(64).as_slice());
    let ratios = (0..runs()).map(|_| pair.ratio(flood)).collect();
    figure("a neighbour floods, over its quota", ratios);
    let status = pair.gateway.until_status("it is over its quota", |status| {
        status["quotas"].as_array().is_some_and(|quotas| quotas.iter().any(|quota| quota["endpoint"] == "w1"))
    });
    assert_eq!(status["quotas"][0]["quota"], "samples_per_s", "{status}");
    until("the journal says so", PATIENCE, || pair.gateway.has_logged("where=\"endpoint w1").then_some(()));
    pair.systemd.until_fed(2);
    pair.assert_whole();
    assert!(pair.gateway.terminate().success());
}

#[test]
fn an_adapter_that_blocks_is_left_behind_at_the_stop_and_impatience_ends_it_at_once() {
    // The adapters have 1.3 s to stop, and the impatient come in between.
    let mut pair = Pair::new(3);
    pair.block();
    Pusher::connect(pair.calm).push("p1", "1");
    assert!(pair.gateway.terminate().success(), "in order, without the one that blocks");
    let journal = pair.gateway.journal();
    let told = journal.lines().find(|line| line.contains("left behind"));
    assert!(told.is_some_and(|line| line.contains("TG-219") && line.contains("test.wild")), "{told:?}");

    pair.gateway.start();
    pair.gateway.until_up();
    pair.block();
    Pusher::connect(pair.calm).push("p1", "2");
    pair.systemd.stopping.store(false, SeqCst);
    pair.gateway.ask_to_stop();
    until("the stop has begun", PATIENCE, || pair.systemd.stopping.load(SeqCst).then_some(()));
    assert!(!pair.gateway.terminate().success(), "it did not wait for the one that blocks");
    pair.number = 2;
    pair.gateway.start();
    pair.gateway.until_up();
    pair.assert_whole();
}
