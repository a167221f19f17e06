//! Requests from outside on a wire that polls meanwhile.

use super::{Slave, config, device, devices, values};
use crate::{
    bus::{self, Shared, Targets},
    config::{self as keys, Host},
    health::Complaints,
    link::Trouble,
    outside::{Outside, Unheard},
    pdu::{Answer, Exception, Request},
    point::Table,
    tests::slave::{Ask, Reply},
    wire::Wire,
};
use adapter_api::{
    Board, CancellationToken, Clock, Submission, channel,
    clock::{Bell, timeout},
    testkit::{run, wait_for},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A wire's task with one device on it, unit 1, and its samples.
struct Bench {
    outside: Outside,
    samples: mpsc::Receiver<Submission>,
    board: Board,
    _targets: watch::Sender<Arc<Targets>>,
    _full: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Bench {
    fn start(at: SocketAddr, timeout: &str, period: &str, registers: &[u16]) -> Self {
        Self::framed(at, "tcp", timeout, period, registers)
    }

    fn framed(at: SocketAddr, framing: &str, timeout: &str, period: &str, registers: &[u16]) -> Self {
        let config = config(&format!("framing = '{framing}'\ntimeout = '{timeout}'"));
        let mut targets = Targets::new();
        for (endpoint, device) in devices([("m", device(at, 1, period, registers))]) {
            targets.insert(endpoint.clone(), keys::resolve(&config, &endpoint, &device).unwrap().into());
        }
        let (full, is_full) = watch::channel(false);
        let (intake, samples) = channel(Arc::new(Bell::default()), 65_536, is_full);
        let (board, report) = Board::new();
        let shared = Arc::new(Shared {
            line: keys::line(&config).unwrap(),
            connect_timeout: config.connect_timeout,
            intake,
            report: report.clone(),
            clock: Clock::trusting(),
            shutdown: CancellationToken::new(),
            complaints: Complaints::new(report),
        });
        let (targets, watched) = watch::channel(Arc::new(targets));
        let (outside, inquiries) = Outside::new();
        let mut tasks = JoinSet::new();
        let host = Host { name: at.ip().to_string(), port: at.port() };
        tasks.spawn_local(bus::run(shared, (Wire::Tcp(host), 0), watched, inquiries));
        Self { outside, samples, board, _targets: targets, _full: full, tasks }
    }

    async fn ask(&self, unit: u8, start: u16) -> Result<Answer, Unheard> {
        let request = Request { table: Table::Holding, start, count: 1 };
        timeout(PATIENCE, self.outside.ask(unit, request, None, PATIENCE)).await.expect("an answer")
    }

    async fn sample(&mut self) -> Submission {
        timeout(PATIENCE, self.samples.recv()).await.expect("polls go on").expect("the bus runs")
    }
}

#[test]
fn a_tool_asks_beside_the_polls() {
    run(async {
        let slave = Slave::start(|ask: Ask| match ask.start {
            900.. => Reply::Exception(2),
            _ => Reply::Addresses,
        })
        .await;
        let mut bench = Bench::start(slave.address, "1s", "20ms", &[5]);
        bench.sample().await.answer(Ok(()));
        assert_eq!(bench.ask(9, 77).await, Ok(Answer::Words(vec![77])));
        assert_eq!(bench.ask(9, 900).await, Ok(Answer::Refused(Exception(2))));
        let sample = bench.sample().await;
        assert_eq!(values(&sample), [("r00005".to_owned(), 5_i64.into())]);
        sample.answer(Ok(()));
        assert!(slave.asked().iter().all(|ask| ask.connection == 0), "one connection for both");
        bench.tasks.shutdown().await;
        assert_eq!(bench.ask(9, 1).await, Err(Unheard::Closed));
    });
}

#[test]
fn it_need_not_wait_for_the_end_of_a_long_poll() {
    run(async {
        let slave = Slave::start(|_| Reply::Late(Duration::from_millis(20))).await;
        let apart: Vec<u16> = (0..50).map(|n| 100 * n).collect();
        let bench = Bench::start(slave.address, "1s", "10m", &apart);
        wait_for("the poll has begun", || slave.asked().len() > 1).await;
        assert_eq!(bench.ask(9, 7).await, Ok(Answer::Words(vec![7])));
        let asked = slave.asked();
        let at = asked.iter().position(|ask| ask.unit == 9).unwrap();
        assert!(at < 49, "asked between two of the 50 blocks, after {at}");
    });
}

#[test]
fn a_scan_over_silent_units_leaves_every_other_turn_to_the_polls() {
    run(async {
        let silent = |ask: Ask| if ask.unit == 1 { Reply::Addresses } else { Reply::Silence };
        let slave = Slave::start(silent).await;
        let mut bench = Bench::start(slave.address, "60ms", "20ms", &[5]);
        bench.sample().await.answer(Ok(()));
        let mut scan = JoinSet::new();
        for unit in 10..30 {
            let outside = bench.outside.clone();
            let request = Request { table: Table::Holding, start: 0, count: 1 };
            scan.spawn_local(async move { outside.ask(unit, request, None, PATIENCE).await });
        }
        let answer_all = async {
            loop {
                bench.sample().await.answer(Ok(()));
            }
        };
        let results = tokio::select! {
            results = scan.join_all() => results,
            () = answer_all => unreachable!("it never ends"),
        };
        assert!(results.iter().all(|result| matches!(result, Err(Unheard::Device(Trouble::Silent(_))))));
        let units: Vec<u8> = slave.asked().iter().map(|ask| ask.unit).collect();
        let two = units.windows(2).filter(|pair| pair.iter().all(|unit| *unit != 1)).count();
        // The first two: the poll is not behind when the scan begins.
        assert!(two <= 1, "a poll between two requests of the scan: {units:?}");
    });
}

#[test]
fn without_a_connection_it_is_told_why() {
    run(async {
        let dead = Slave::start(|_| Reply::Addresses).await.address;
        let bench = Bench::start(dead, "1s", "20ms", &[5]);
        for _ in 0..3 {
            let Err(Unheard::Wire(fault)) = bench.ask(1, 5).await else { panic!("nobody listens") };
            assert_eq!(fault.code, "TG-401");
        }
        let _back = Slave::start_at(&dead.to_string(), |_| Reply::Addresses).await;
        let mut answer = bench.ask(1, 5).await;
        while matches!(answer, Err(Unheard::Wire(_))) {
            adapter_api::clock::sleep(Duration::from_millis(50)).await;
            answer = bench.ask(1, 5).await;
        }
        assert_eq!(answer, Ok(Answer::Words(vec![5])));
    });
}

/// The quarantine of a unit holds for both sides: what a tool gave up waiting for is not taken for the
/// next register of the poll it interrupted.
#[test]
fn the_late_answer_to_a_tool_never_becomes_a_registers_value() {
    run(async {
        let slave = Slave::start_rtu(|ask: Ask| match ask.start {
            7_777 => Reply::Late(Duration::from_millis(150)),
            _ => Reply::Late(Duration::from_millis(5)),
        })
        .await;
        let apart: Vec<u16> = (0..20).map(|n| 100 * n).collect();
        let mut bench = Bench::framed(slave.address, "rtu", "100ms", "20ms", &apart);
        let outside = bench.outside.clone();
        let tool = async {
            for _ in 0..5 {
                let midway = || slave.asked().last().is_some_and(|ask| (100..1_000).contains(&ask.start));
                wait_for("a poll is in its middle", midway).await;
                let request = Request { table: Table::Holding, start: 7_777, count: 1 };
                let answer = outside.ask(1, request, None, PATIENCE).await;
                assert!(matches!(answer, Err(Unheard::Device(Trouble::Silent(_)))), "{answer:?}");
            }
        };
        let polls = async {
            loop {
                let sample = bench.sample().await;
                for (name, value) in values(&sample) {
                    let register: i64 = name.strip_prefix('r').unwrap().parse().unwrap();
                    assert_eq!(value, register.into(), "{name}");
                }
                sample.answer(Ok(()));
            }
        };
        tokio::select! {
            () = tool => {}
            () = polls => unreachable!("they never end"),
        }
        // In the middle of a poll, at least once: else nothing was tried.
        let asked = slave.asked();
        let interrupted = asked.windows(2).any(|pair| pair[1].start == 7_777 && pair[0].start < 1_900);
        assert!(interrupted);
        let wires = bench.board.wires(adapter_api::clock::now());
        assert!(wires.len() == 1 && wires.values().all(|busy| *busy > 0.1), "{wires:?}");
    });
}
