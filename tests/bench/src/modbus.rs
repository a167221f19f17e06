//! How much of a serial line's time is used, what silent, late and babbling devices cost their
//! neighbours, and what polling over TCP costs the machine.

use crate::{
    gateway::{Config, Gateway, Usage, usage},
    paced::{Asked, CHARACTER, Manner, Paced, TURNAROUND, register},
    platform::{Arrival, Observer},
    site::{Broker, Site, end, free_port, until},
    table::{Table, median},
};
use serde_json::Value;
use std::{
    env,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    thread::{self, sleep},
    time::Duration,
};

/// Units of the line with neighbours, and their registers.
const UNITS: u8 = 30;
const REGISTERS: u16 = 20;
/// Those that misbehave.
const FIRST: u8 = 7;
const SECOND: u8 = 19;
/// Later than the time-out of 300 ms, and within the quarantine of three of them.
const LATE: Duration = Duration::from_millis(450);
/// Until all have been asked a few times.
const WARM_UP: Duration = Duration::from_secs(6);

/// What one run over the paced line came to.
struct Run {
    /// Seconds between two questions to the same unit, of those that are healthy in every run.
    cycle: Cycle,
    /// Readings that were checked against what their unit held.
    right: u64,
    wrong: u64,
    asked: Vec<Asked>,
    usage: Usage,
}

#[derive(Clone, Copy)]
struct Cycle {
    median: f64,
    /// The median hides what only some cycles pay for, as probes of silent units.
    mean: f64,
}

pub fn run(length: Duration) {
    let mut table = Table::new("Modbus");
    alone(&mut table, length);
    neighbours(&mut table, length);
    over_tcp(&mut table, length.min(Duration::from_secs(60)));
}

/// One slave, 125 registers back to back.
fn alone(table: &mut Table, length: Duration) {
    let run = serial(1, 125, length, |_| {});
    let answered: Vec<_> = run.asked.iter().filter_map(|asked| asked.answered).collect();
    // Silences of 3.5 characters before the request and before the answer.
    let ideal = CHARACTER * (8 + 255) + CHARACTER * 7 + TURNAROUND;
    let [first, .., last] = answered.as_slice() else {
        return table.skip("one slave alone", "it answered once at most");
    };
    let each = last.duration_since(*first).as_secs_f64() / (answered.len() - 1) as f64;
    let share = 100.0 * ideal.as_secs_f64() / each;
    table.judge(
        "one slave at 19,200 8E1, 125 registers back to back: share of the ideal",
        &format!(
            "{share:.1} % ({:.1} of {:.1} ms; {} reads, {} wrong; CPU {:.1} %)",
            1e3 * ideal.as_secs_f64(),
            1e3 * each,
            answered.len(),
            run.wrong,
            percent(run.usage, length),
        ),
        "at least 95 %",
        share >= 95.0 && run.wrong == 0,
    );
}

/// Thirty slaves, and what one or two of them do to the others.
fn neighbours(table: &mut Table, length: Duration) {
    let healthy = serial(UNITS, REGISTERS, length, |_| {});
    let silent_and_late = serial(UNITS, REGISTERS, length, |line| {
        line.state().manners.extend([(FIRST, Manner::Silent), (SECOND, Manner::Late(LATE))]);
    });
    let babbling = serial(UNITS, REGISTERS, length, |line| {
        line.state().manners.insert(FIRST, Manner::Babbling);
    });
    table.tell(
        "30 slaves of 20 registers at 19,200 8E1, all healthy: median cycle",
        &format!(
            "{:.1} ms (mean {:.1} ms, CPU {:.1} %)",
            1e3 * healthy.cycle.median,
            1e3 * healthy.cycle.mean,
            percent(healthy.usage, length)
        ),
    );
    for (what, run, most) in [
        ("with one silent and one late (450 ms, time-out 300 ms)", &silent_and_late, 5.0),
        ("with one babbling", &babbling, 25.0),
    ] {
        let growth = |now: f64, before: f64| 100.0 * (now / before - 1.0);
        let of_mean = growth(run.cycle.mean, healthy.cycle.mean);
        let growth = growth(run.cycle.median, healthy.cycle.median);
        table.judge(
            &format!("the same {what}: growth of the healthy ones' median cycle"),
            &format!("{growth:+.1} % ({:.1} ms); of the mean {of_mean:+.1} %", 1e3 * run.cycle.median),
            &format!("less than {most} %"),
            growth < most,
        );
    }
    let all = [&healthy, &silent_and_late, &babbling];
    let (right, wrong) = all.iter().fold((0, 0), |(r, w), run| (r + run.right, w + run.wrong));
    table.judge(
        "samples of these three runs with a wrong value",
        &format!("{wrong} of {}", right + wrong),
        "0 of at least 10,000",
        wrong == 0 && right >= 10_000,
    );
}

/// Units 1.. on a paced line, polled as fast as it goes.
fn serial(units: u8, registers: u16, length: Duration, prepare: impl FnOnce(&Paced)) -> Run {
    let site = Site::new();
    let broker = Broker::start(&site);
    let port = site.path("ttyS");
    let line = Paced::start(&port, 1..=units);
    prepare(&line);
    let mut config = Config::new(&site, "plain", broker.port);
    config.line(&format!(
        "[adapters.modbus.line]\nport = {port:?}\nbaud = 19200\nparity = \"even\"\ntimeout = \"300ms\""
    ));
    for unit in 1..=units {
        device(&mut config, unit, registers, "1ms");
    }
    let gateway = Gateway::start(&site, &config);
    gateway.until_up();
    let observer = Observer::start(&site, &broker, true);
    sleep(WARM_UP);
    let warm = line.state().asked.len();
    let before = gateway.usage();
    sleep(length);
    let used = gateway.usage() - before;
    let asked = line.state().asked[warm..].to_vec();
    assert!(!asked.is_empty(), "no unit was asked: see {}", site.path("tidegate.log").display());
    let (mut right, mut wrong) = (0, 0);
    for arrival in observer.stop() {
        match is_right(&arrival, registers) {
            Some(true) => right += 1,
            Some(false) => wrong += 1,
            None => {}
        }
    }
    gateway.stop();
    Run { cycle: cycle(&asked), right, wrong, asked, usage: used }
}

/// An endpoint `mN` with these registers.
fn device(config: &mut Config, unit: u8, registers: u16, period: &str) {
    config.line(&format!(
        "[endpoints.m{unit}]\ntoken = \"TM{unit}\"\n[endpoints.m{unit}.modbus]\nunit = {unit}\nperiod = \"{period}\"\n\
         [endpoints.m{unit}.modbus.resources]"
    ));
    for register in 0..registers {
        config.line(&format!("r{register} = {{ register = \"holding:{register}\", type = \"u16\" }}"));
    }
}

/// Whether all values of a sample are of the same answer of this unit; `None` of one without values,
/// as of a unit that is away.
fn is_right(arrival: &Arrival, registers: u16) -> Option<bool> {
    let body: Value = serde_json::from_slice(&arrival.body).ok()?;
    let value = |n: u16| body[format!("r{n}")].as_u64();
    let values: Vec<_> = (0..registers).map(value).collect();
    if values.iter().all(Option::is_none) {
        return None;
    }
    let topic = arrival.topic.split('/').find_map(|part| part.strip_prefix('m'));
    let unit = topic.and_then(|unit| unit.parse().ok()).expect("its endpoint");
    let seq = u32::try_from(value(0)? << 16 | value(1)?).ok()?;
    Some((0..registers).zip(values).all(|(n, got)| got == Some(u64::from(register(unit, seq, n)))))
}

/// The times between two questions to a unit, of all units that never misbehave.
fn cycle(asked: &[Asked]) -> Cycle {
    let mut cycles = Vec::new();
    for unit in (1..=UNITS).filter(|unit| ![FIRST, SECOND].contains(unit)) {
        let times: Vec<_> = asked.iter().filter(|asked| asked.unit == unit).map(|asked| asked.at).collect();
        cycles.extend(times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64()));
    }
    Cycle { median: median(&cycles), mean: cycles.iter().sum::<f64>() / cycles.len().max(1) as f64 }
}

fn percent(used: Usage, length: Duration) -> f64 {
    100.0 * used.cpu.as_secs_f64() / length.as_secs_f64()
}

/// What many registers a second cost, and what few cost beside a script.
fn over_tcp(table: &mut Table, length: Duration) {
    let many = tcp(100, 100, length).0;
    table.judge(
        "10,000 registers/s over TCP from 100 units: CPU of the daemon",
        &format!("{:.1} % of a core", percent(many, length)),
        "at most 10 %",
        percent(many, length) <= 10.0,
    );
    let (ours, script) = tcp(10, 10, length);
    let ours = format!("{:.2} % of a core", percent(ours, length));
    match script {
        Some(script) => table.tell(
            "100 registers/s over TCP from 10 units: CPU of the daemon, and of a pymodbus poller beside it",
            &format!("{ours}, and {:.2} %", percent(script, length)),
        ),
        None => table.skip("the same beside a pymodbus poller", "there is no Python with pymodbus"),
    }
}

/// So many registers of so many units once a second; the daemon's usage, and the script's.
fn tcp(units: u8, registers: u16, length: Duration) -> (Usage, Option<Usage>) {
    let site = Site::new();
    let broker = Broker::start(&site);
    let slave = free_port();
    serve(slave);
    let mut config = Config::new(&site, "plain", broker.port);
    config.line(&format!("[adapters.modbus.site]\nhost = \"127.0.0.1:{slave}\""));
    for unit in 1..=units {
        device(&mut config, unit, registers, "1s");
    }
    let gateway = Gateway::start(&site, &config);
    gateway.until_up();
    let mut script = python().map(|python| {
        let mut command = Command::new(python);
        command.args(["-c", POLLER, &slave.to_string(), &units.to_string(), &registers.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("Python starts")
    });
    sleep(WARM_UP);
    let landed = gateway.term("landed");
    let (before, script_before) = (gateway.usage(), script.as_ref().map(|script| usage(script.id())));
    sleep(length);
    let used = gateway.usage() - before;
    let script_used = script.as_ref().zip(script_before).map(|(script, before)| usage(script.id()) - before);
    let samples = gateway.term("landed") - landed;
    let expected = u64::from(units) * length.as_secs();
    assert!(samples * 10 >= expected * 9, "{samples} of {expected} samples: it did not keep up");
    if let Some(script) = &mut script {
        assert!(script.try_wait().expect("a process").is_none(), "the poller has ended");
        end(script);
    }
    gateway.stop();
    (used, script_used)
}

const POLLER: &str = r#"
import asyncio, sys, time
from pymodbus.client import AsyncModbusTcpClient

port, units, registers = map(int, sys.argv[1:])

async def main():
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    due = time.monotonic()
    while True:
        for unit in range(1, units + 1):
            answer = await client.read_holding_registers(0, count=registers, device_id=unit)
            assert len(answer.registers) == registers
        due += 1
        await asyncio.sleep(max(0, due - time.monotonic()))

asyncio.run(main())
"#;

/// An interpreter that has pymodbus.
fn python() -> Option<PathBuf> {
    let venv = PathBuf::from("target/venv/bin/python");
    let python = env::var_os("TIDEGATE_TEST_PYTHON").map_or(venv, PathBuf::from);
    let mut probe = Command::new(&python);
    probe.args(["-c", "import pymodbus"]).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success()).then_some(python)
}

/// A Modbus TCP slave whose registers hold their own address.
fn serve(port: u16) {
    let listener = until("a port is free", || TcpListener::bind(("127.0.0.1", port)).ok());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        // Transaction, protocol, length, unit; then function, address, count.
        let mut request = [0; 12];
        stream.read_exact(&mut request)?;
        let (start, count) =
            (u16::from_be_bytes([request[8], request[9]]), u16::from_be_bytes([request[10], request[11]]));
        let mut reply = request[..4].to_vec();
        reply.extend((3 + 2 * count).to_be_bytes());
        reply.extend([request[6], request[7], u8::try_from(2 * count).unwrap_or(0)]);
        reply.extend((start..start + count).flat_map(u16::to_be_bytes));
        stream.write_all(&reply)?;
    }
}
