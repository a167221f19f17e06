//! What an adapter that panics, blocks its thread or floods costs its neighbour (I8); whether it is told by name, and
//! whether systemd hears all the while that the gateway is alive.

use crate::{
    gateway::Gateway,
    load::Load,
    pair::{self, Pair},
    site::{Site, until},
    table::Table,
};
use serde_json::Value;
use std::{
    env,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

/// What systemd allows between two signs of life; in the package it is a minute.
const WATCHDOG: Duration = Duration::from_secs(6);
/// What p3 may push: the flood is over it.
const QUOTA: &str = "[endpoints.p3.quota]\nsamples_per_s = 50";

/// How the adapter of p3 misbehaves, and how that is told.
struct Case {
    name: &'static str,
    what: &'static str,
    code: &'static str,
    place: &'static str,
    /// Begins it on this port; what is returned waits for its end, without the gateway.
    begin: fn(u16) -> Box<dyn FnOnce()>,
}

const CASES: [Case; 3] = [
    Case {
        name: "panics",
        what: "an adapter that panics whenever it was started again",
        code: "TG-213",
        place: "test.loud",
        begin: |port| say(port, "panic\n"),
    },
    Case {
        name: "blocks",
        what: "an adapter whose thread is blocked",
        code: "TG-218",
        place: "test.loud",
        // Longer than it takes until that is told.
        begin: |port| say(port, "block 120\n"),
    },
    Case {
        name: "floods",
        what: "an adapter that floods, over its quota",
        code: "TG-221",
        place: "endpoint p3: samples_per_s = 50",
        begin: |port| {
            let flood = Load::flood_one(port, 3);
            Box::new(move || {
                let (_, refused) = flood.end();
                assert!(refused > 0, "it floods");
            })
        },
    },
];

pub fn run() {
    let mut table = Table::new("Isolation");
    let mut silence = Duration::ZERO;
    let only = env::var("TIDEGATE_BENCH_ONLY").ok();
    for case in CASES.iter().filter(|case| only.as_ref().is_none_or(|only| only.contains(case.name))) {
        let mut told = None;
        pair::judge(&mut table, case.what, || {
            let (p99s, fault, silent) = measure(case);
            told = Some(fault);
            silence = silence.max(silent);
            p99s
        });
        table.tell(&format!("how {} is told", case.what), &told.unwrap_or_default());
    }
    table.judge(
        "longest time in which systemd heard nothing",
        &format!("{:.2} s", silence.as_secs_f64()),
        &format!("under {} s", WATCHDOG.as_secs()),
        silence < WATCHDOG,
    );
}

/// The p99 alone, and beside it; how it was told; the longest silence.
fn measure(case: &Case) -> ((Duration, Duration), String, Duration) {
    let site = Site::new();
    let path = site.path("notify");
    let heard = listen(&path);
    let path = path.to_str().expect("a path of ours");
    let environment = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string())];
    let pair = Pair::start(&site, QUOTA, &environment);
    let alone = pair.p99();
    let end = (case.begin)(pair.loud);
    let beside = pair.p99();
    let told = until_told(&pair.gateway, case);
    let (last, longest) = *heard.lock().expect("nobody panics with it");
    drop(pair);
    end();
    ((alone, beside), told, longest.max(last.elapsed()))
}

/// Says that on connection after connection, as soon as there is one, until the gateway has gone.
fn say(port: u16, words: &'static str) -> Box<dyn FnOnce()> {
    let over = Arc::new(AtomicBool::new(false));
    let thread = thread::spawn({
        let over = over.clone();
        move || {
            while !over.load(Relaxed) {
                if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                    // It may be gone before it is read.
                    let _gone = stream.write_all(words.as_bytes());
                    let _gone = stream.read_to_end(&mut Vec::new());
                }
                sleep(Duration::from_millis(20));
            }
        }
    });
    Box::new(move || {
        over.store(true, Relaxed);
        thread.join().expect("it goes on until then");
    })
}

/// systemd's end: when it was last told that the gateway is alive, and the longest time before that. Its thread ends
/// with this process.
fn listen(path: &Path) -> Arc<Mutex<(Instant, Duration)>> {
    let socket = UnixDatagram::bind(path).expect("a socket");
    let heard = Arc::new(Mutex::new((Instant::now(), Duration::ZERO)));
    let known = heard.clone();
    thread::spawn(move || {
        let mut room = [0; 4_096];
        while let Ok(length) = socket.recv(&mut room) {
            if &room[..length] == b"WATCHDOG=1" {
                let mut known = known.lock().expect("nobody panics with it");
                *known = (Instant::now(), known.1.max(known.0.elapsed()));
            }
        }
    });
    heard
}

/// Waits until it is told where it belongs, and nothing of its neighbour.
fn until_told(gateway: &Gateway, case: &Case) -> String {
    until("it is told", || {
        let status = gateway.ask()?;
        let all =
            |pointer: &str| status.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        let units = all("/units");
        let quiet = units.iter().find(|unit| unit["name"] == "test.quiet").expect("the neighbour");
        assert!(quiet["starts"] == 1 && quiet["faults"].as_array().is_some_and(Vec::is_empty), "{quiet}");
        let of_units = units.iter().filter_map(|unit| unit["faults"].as_array()).flatten().cloned();
        let of_quotas = all("/quotas").into_iter().map(|quota| quota["fault"].clone());
        let fault = of_units.chain(of_quotas).find(|fault| fault["code"] == case.code)?;
        assert_eq!(fault["where"], case.place, "{fault}");
        Some(format!("{}, {}: {}", case.code, case.place, fault["what"].as_str().unwrap_or_default()))
    })
}
