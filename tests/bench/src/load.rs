//! Loads: devices that push over the test adapter, and databases filled beforehand.

use adapter_api::{EndpointName, Reading, Resource, Sample, Urgency, Value};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};
use tidegate::{
    config::secret::EndpointToken,
    endpoints::{Directory, Endpoint, EndpointKey, Tenant},
    shape::Shape,
    store,
};

/// Padding that makes a sample 200 bytes of JSON: `{"timestamp":1234567890123,"n":123456,"pad":"..."}`.
pub const PAD: usize = 153;
/// Numbers of six digits, so that all samples are of one size.
const FIRST: u64 = 100_000;
/// Submissions of a flood that may wait for their answers: what the adapter reads ahead.
const WAITING: u64 = 64;

/// A device, or a flood of them, in a thread of its own.
pub struct Load {
    over: Arc<AtomicBool>,
    pushed: Arc<AtomicU64>,
    answers: Arc<Answers>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Answers {
    good: AtomicU64,
    bad: AtomicU64,
}

/// Which endpoint is next.
#[derive(Clone, Copy)]
pub enum Order {
    /// One after the other.
    Turns,
    /// Any.
    Random,
}

impl Load {
    /// So many samples a second, each its own line, in steps of a millisecond.
    pub fn paced(port: u16, endpoints: usize, order: Order, urgency: &'static str, rate: u64) -> Self {
        Self::start(port, move |turn, out| {
            let due = u64::try_from(turn.since.elapsed().as_micros()).unwrap_or(u64::MAX) * rate / 1_000_000;
            if turn.lines >= due {
                sleep(Duration::from_millis(1));
            }
            while turn.lines < due {
                let n = endpoint(order, turn.lines, endpoints);
                writeln!(out, "p{n} {} {urgency} bytes={PAD}", number(turn.lines)).expect("memory");
                turn.lines += 1;
                turn.samples += 1;
            }
        })
    }

    /// As fast as it is taken, in submissions of `range` samples; while `gate` says so, nothing. Urgent:
    /// relaxed ones would wait for company, and 64 of them each 200 ms are all a unit may have waiting.
    pub fn flood(port: u16, endpoints: usize, range: u64, gate: Arc<AtomicBool>) -> Self {
        Self::start(port, move |turn, out| {
            // Those that only wait in sockets would get in behind the gate.
            if gate.load(Relaxed) || turn.lines - turn.answered >= WAITING {
                sleep(Duration::from_micros(500));
                return;
            }
            let n = endpoint(Order::Turns, turn.lines, endpoints);
            let first = number(turn.lines);
            writeln!(out, "p{n} {first}-{} urgent bytes={PAD}", first + range - 1).expect("memory");
            turn.lines += 1;
            turn.samples += range;
        })
    }

    /// Urgent single samples of one endpoint, pipelined without waiting.
    pub fn flood_one(port: u16, name: usize) -> Self {
        Self::start(port, move |turn, out| {
            for _ in 0..16 {
                writeln!(out, "p{name} {} urgent bytes={PAD}", number(turn.lines)).expect("memory");
                turn.lines += 1;
                turn.samples += 1;
            }
        })
    }

    fn start(port: u16, mut step: impl FnMut(&mut Turn, &mut Vec<u8>) + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (pushed, answers) = (Arc::new(AtomicU64::new(0)), Arc::new(Answers::default()));
        let mut writer = connect(port);
        let reader = BufReader::new(writer.try_clone().expect("a socket"));
        let counting = thread::spawn({
            let answers = answers.clone();
            move || {
                for line in reader.lines().map_while(Result::ok) {
                    let count = if line.starts_with("ok ") { &answers.good } else { &answers.bad };
                    count.fetch_add(1, Relaxed);
                }
            }
        });
        let pushing = thread::spawn({
            let (over, pushed, answers) = (over.clone(), pushed.clone(), answers.clone());
            move || {
                let mut turn = Turn { since: Instant::now(), lines: 0, samples: 0, answered: 0 };
                let mut out = Vec::new();
                while !over.load(Relaxed) {
                    turn.answered = answers.good.load(Relaxed) + answers.bad.load(Relaxed);
                    step(&mut turn, &mut out);
                    if writer.write_all(&out).is_err() {
                        return;
                    }
                    out.clear();
                    pushed.store(turn.samples, Relaxed);
                }
                let _gone = writer.shutdown(std::net::Shutdown::Write);
            }
        });
        Self { over, pushed, answers, threads: vec![pushing, counting] }
    }

    /// Samples pushed so far.
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Relaxed)
    }

    /// Ends it when all is answered. Returns how many samples it pushed; none may have been refused.
    pub fn stop(self) -> u64 {
        let (pushed, refused) = self.end();
        assert_eq!(refused, 0, "refused");
        pushed
    }

    /// Ends it when all is answered, or the daemon has gone. Returns how many samples it pushed, and how many
    /// submissions were refused.
    pub fn end(self) -> (u64, u64) {
        self.over.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("the load"));
        (self.pushed.load(Relaxed), self.answers.bad.load(Relaxed))
    }
}

struct Turn {
    since: Instant,
    lines: u64,
    samples: u64,
    /// Lines that were.
    answered: u64,
}

/// A device that waits for each answer: how long an urgent submission takes.
pub fn latencies(port: u16, name: usize, pause: Duration, length: Duration) -> Vec<Duration> {
    let mut stream = BufReader::new(connect(port));
    let (began, mut all, mut answer) = (Instant::now(), Vec::new(), String::new());
    while began.elapsed() < length {
        let asked = Instant::now();
        let line = format!("p{name} {} urgent bytes={PAD}\n", number(all.len() as u64));
        stream.get_mut().write_all(line.as_bytes()).expect("the daemon reads");
        answer.clear();
        stream.read_line(&mut answer).expect("the daemon answers");
        assert!(answer.starts_with("ok "), "{answer}");
        all.push(asked.elapsed());
        sleep(pause);
    }
    all
}

pub fn connect(port: u16) -> TcpStream {
    let stream =
        crate::site::until("the test adapter listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    stream.set_nodelay(true).expect("an option");
    stream
}

fn number(n: u64) -> u64 {
    FIRST + n % 800_000
}

fn endpoint(order: Order, n: u64, endpoints: usize) -> usize {
    match order {
        Order::Turns => 1 + usize::try_from(n).unwrap_or(0) % endpoints,
        Order::Random => fastrand::usize(1..=endpoints),
    }
}

/// Fills a state directory by the store's own code: so many samples with so much padding, over the
/// endpoints in this order. With none, the database is only created.
pub fn fill(dir: &Path, endpoints: usize, samples: u64, pad: usize, order: Order) {
    let name = |n: usize| EndpointName::new(&format!("p{n}")).expect("a name");
    let all = (1..=endpoints).map(|n| Endpoint {
        key: EndpointKey { tenant: Tenant::default(), name: name(n) },
        token: EndpointToken::new(&format!("TP{n}")),
        enabled: true,
        quotas: Default::default(),
        report: None,
        unit: None,
        name_on_wire: [].into(),
    });
    let directory = Arc::new(Directory::new(all));
    let options = store::Options {
        dir: dir.to_owned(),
        commit_within: Duration::from_millis(200),
        max_sample_bytes: 65_536,
        boot_id: "bench".to_owned(),
        limits: store::Limits::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (store, died) =
            store::open(&options, &directory, Shape::new(directory.clone(), true)).expect("a store");
        store.know_time(store.clock().wall_us() - store.clock().boot_us()).await.expect("a store");
        store.clock().trust();
        let intake = store.intake().await.expect("a store");
        let resource = |text: &str| Resource::new(text).expect("a resource");
        let (n, padding) = (resource("n"), resource("pad"));
        let mut receipts = std::collections::VecDeque::new();
        for count in 0..samples {
            let mut readings =
                vec![Reading::measured(n.clone(), Value::Int(i64::try_from(number(count)).unwrap_or(0)))];
            if pad > 0 {
                readings.push(Reading::measured(padding.clone(), Value::Text("x".repeat(pad))));
            }
            let sample = Sample { at: store.clock().stamp(), readings };
            let endpoint = name(endpoint(order, count, endpoints));
            receipts
                .push_back(intake.submit(&endpoint, vec![sample], Urgency::Relaxed).await.expect("a store"));
            if receipts.len() > 4_096 {
                let receipt = receipts.pop_front().expect("one");
                receipt.committed().await.expect("committed");
            }
        }
        for receipt in receipts {
            receipt.committed().await.expect("committed");
        }
        store.stop().await.expect("a store");
        let _ended = died.await;
    });
}
