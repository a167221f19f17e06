//! Live first: whether what is measured now passes a long queue on a slow link.

use crate::{
    gateway::{Config, Gateway},
    load::{Load, Order, fill},
    platform::Observer,
    site::{Broker, Site, free_port},
    table::{Table, percentile},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread::{self, sleep},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const ENDPOINTS: usize = 10;
const QUEUED: u64 = 100_000;
const BYTES_PER_S: usize = 32_000;
/// Without padding, or the queue alone would take a quarter of an hour.
const PAD: usize = 0;

pub fn run() {
    let mut table = Table::new("Live first");
    let site = Site::new();
    let broker = Broker::start(&site);
    let (port, slow) = (free_port(), free_port());
    let mut config = Config::new(&site, "plain", slow);
    config.line("batch = 100\ntimestamp_format = \"epoch-us\"");
    config.line("[uplink.replay]\norder = \"live-first\"");
    config.pushed("push", 1..=ENDPOINTS, port);
    if !config.is_good(&site) {
        return table.skip("all", "this build does not know `[uplink.replay] order`");
    }
    fill(&site.path("state"), ENDPOINTS, QUEUED, PAD, Order::Turns);
    // Older than `live_age`.
    let live_age = Duration::from_secs(62);
    sleep(live_age);
    shape(slow, broker.port);
    let observer = Observer::start(&site, &broker, true);
    let gateway = Gateway::start(&site, &config);
    // A lane has fallen behind when its turn comes: what is pushed before belongs to the backlog.
    while gateway.term("landed") < 20 * ENDPOINTS as u64 * 10 {
        sleep(Duration::from_millis(200));
    }
    let opened = wall_us();
    let load = Load::paced(port, ENDPOINTS, Order::Turns, "urgent", 20);
    let began = Instant::now();
    while gateway.term("landed") < QUEUED && began.elapsed() < Duration::from_secs(400) {
        sleep(Duration::from_millis(500));
    }
    let pushed = load.stop();
    let took = began.elapsed();
    gateway.until_drained();
    let landed = gateway.term("landed");
    gateway.stop();
    let (mut ages, mut backlog, mut disorder) = (Vec::new(), 0_u64, 0_u64);
    let mut last = BTreeMap::new();
    let start = Instant::now();
    let now = wall_us();
    for arrival in observer.stop() {
        // On the wall clock, as the stamps are.
        let at =
            now - i64::try_from(start.saturating_duration_since(arrival.at).as_micros()).unwrap_or(i64::MAX);
        let Ok(Value::Array(samples)) = serde_json::from_slice(&arrival.body) else { panic!("no list") };
        for sample in samples {
            let stamp = sample["timestamp"].as_i64().expect("a stamp");
            let live = stamp >= opened;
            match live {
                true => ages.push(Duration::from_micros(u64::try_from(at - stamp).unwrap_or(0))),
                false => backlog += 1,
            }
            let before = last.insert((arrival.topic.clone(), live), stamp);
            disorder += u64::from(before.is_some_and(|before| before > stamp));
        }
    }
    assert_eq!(landed, QUEUED + pushed, "all landed");
    let late = ages.iter().filter(|age| **age >= Duration::from_secs(5)).count();
    let share = 1.0 - late as f64 / ages.len() as f64;
    table.judge(
        "live samples under 5 s old, 100,000 queued, 32 kB/s",
        &format!(
            "{:.2} % of {} (99 %: {:.2} s); the queue took {:.0} s",
            share * 100.0,
            ages.len(),
            percentile(&ages, 99).as_secs_f64(),
            took.as_secs_f64(),
        ),
        "99 %",
        share >= 0.99,
    );
    table.judge(
        "the queue, complete and in order",
        &format!("{backlog} of {QUEUED}, {disorder} out of order"),
        "all, 0",
        backlog == QUEUED && disorder == 0,
    );
}

fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("it fits")
}

/// A link to the broker that carries so many bytes a second up, and anything down.
fn shape(from: u16, to: u16) {
    let listener = TcpListener::bind(("127.0.0.1", from)).expect("a port");
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // Little waits inside: it would be a link of its own.
            let _kept = rustix::net::sockopt::set_socket_recv_buffer_size(&near, 4_096);
            let far = TcpStream::connect(("127.0.0.1", to)).expect("the broker");
            let (mut up, mut down) =
                ((near.try_clone().expect("a socket"), far.try_clone().expect("a socket")), (far, near));
            thread::spawn(move || {
                let mut some = [0; 1_024];
                while let Ok(read @ 1..) = up.0.read(&mut some) {
                    sleep(Duration::from_secs(1) * u32::try_from(read).unwrap_or(1) / BYTES_PER_S as u32);
                    if up.1.write_all(&some[..read]).is_err() {
                        break;
                    }
                }
                let _gone = up.1.shutdown(std::net::Shutdown::Both);
            });
            thread::spawn(move || {
                let _ended = std::io::copy(&mut down.0, &mut down.1);
                let _gone = down.1.shutdown(std::net::Shutdown::Both);
            });
        }
    });
}
