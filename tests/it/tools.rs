//! `tidegate modbus`: every tool against pymodbus devices, over TCP and pseudo-terminals, without a
//! gateway and through one that goes on polling meanwhile.

use crate::{
    agreed::assert_output_agreed,
    gateway::{Config, Gateway, binary},
    peers::{Python, Slave, end},
    site::{PATIENCE, Pty, Site, free_port, until},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a tool printed, and whether it succeeded.
struct Said {
    out: String,
    err: String,
    good: bool,
}

impl Said {
    /// The lines of `--json` that have this member.
    fn lines(&self, member: &str) -> Vec<Value> {
        let lines = self.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line.get(member).cloned()).collect()
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("modbus").args(arguments).stdin(Stdio::null());
    command
}

fn tool(arguments: &[&str]) -> Said {
    let output = command(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { out: text(output.stdout), err: text(output.stderr), good: output.status.success() }
}

/// Some devices, and how a tool gets to them without a gateway.
struct Line {
    devices: Python,
    place: Vec<String>,
    /// Our end of the pseudo-terminal.
    port: Option<PathBuf>,
    _pty: Option<Pty>,
}

impl Line {
    fn start(site: &Site, wire: &str) -> Self {
        let pty = matches!(wire, "rtu" | "ascii").then(|| Pty::new(site));
        let mut arguments = vec!["--wire", wire];
        if let Some(pty) = &pty {
            arguments.extend(["--pty", pty.theirs.to_str().unwrap()]);
        }
        let devices = Python::start(site, "modbus_devices.py", &arguments);
        let port = pty.as_ref().map(|pty| pty.ours.clone());
        let host = format!("127.0.0.1:{}", devices.ready);
        let framing = wire.trim_end_matches("-over-tcp");
        let place: Vec<&str> = match &port {
            Some(port) => {
                vec![
                    "--port",
                    port.to_str().unwrap(),
                    "--baud",
                    "9600",
                    "--parity",
                    "none",
                    "--framing",
                    framing,
                ]
            }
            None => vec!["--tcp", &host, "--framing", framing],
        };
        let place = place.into_iter().map(str::to_owned).chain(nowhere(site)).collect();
        Self { devices, place, port, _pty: pty }
    }

    fn tool(&self, arguments: &[&str]) -> Said {
        let place = self.place.iter().map(String::as_str);
        tool(&arguments.iter().copied().chain(place).collect::<Vec<_>>())
    }

    /// The keys of an adapter that is on it.
    fn adapter(&self) -> String {
        match &self.port {
            Some(port) => format!("port = {port:?}\nbaud = 9600\nparity = \"none\""),
            None => format!("host = \"127.0.0.1:{}\"", self.devices.ready),
        }
    }
}

/// No gateway runs there.
fn nowhere(site: &Site) -> [String; 2] {
    ["--socket".to_owned(), site.path("no-gateway.sock").display().to_string()]
}

/// A gateway that polls the meter and the inverter of a line.
fn gateway(site: &Site, line: &Line, timeout: &str) -> Gateway {
    let table = format!(
        "[adapters.modbus.line]\n{}\ntimeout = {timeout:?}\n\
         [endpoints.meter]\ntoken = \"T1\"\n[endpoints.meter.modbus]\nunit = 5\nperiod = \"200ms\"\n\
         [endpoints.meter.modbus.resources]\nvolts = {{ register = \"input:0\", type = \"f32\" }}\n\
         hertz = {{ register = \"input:70\", type = \"f32\" }}\n\
         [endpoints.inverter]\ntoken = \"T2\"\n[endpoints.inverter.modbus]\nunit = 17\nperiod = \"200ms\"\n\
         [endpoints.inverter.modbus.resources]\n\
         maker = {{ register = \"holding:40004\", type = \"string\", length = 16 }}\n",
        line.adapter()
    );
    let config = Config::plain(site, free_port()).no_uplink().line(&table);
    let mut gateway = Gateway::new(site, &config, 1);
    let (said, good) = gateway.check();
    assert!(good, "{said}");
    gateway.start();
    gateway.until_status("both devices answer", |status| {
        let devices = &status["units"][0]["devices"];
        devices["meter"]["presence"] == "online" && devices["inverter"]["presence"] == "online"
    });
    gateway
}

/// How a tool is told of a gateway.
fn configuration(site: &Site) -> [String; 2] {
    ["--config".to_owned(), site.path("tidegate.toml").display().to_string()]
}

fn over_gateway(site: &Site, arguments: &[&str]) -> Said {
    let config = configuration(site);
    let config = config.iter().map(String::as_str);
    tool(&arguments.iter().copied().chain(config).collect::<Vec<_>>())
}

#[test]
fn read_shows_the_value_and_what_lies_on_the_wire() {
    let site = Site::new();
    for wire in ["tcp", "rtu", "ascii", "rtu-over-tcp"] {
        let line = Line::start(&site, wire);
        let said = line.tool(&["read", "input:0", "input:70", "-t", "f32", "--unit", "5"]);
        assert!(said.good, "{wire}: {}", said.err);
        assert_output_agreed("read two floats", &said.out);
        let said =
            line.tool(&["read", "holding:0..3", "-t", "i16", "--scale", "0.1", "--unit", "5", "--json"]);
        let values: Vec<Value> = said.lines("value").iter().map(|value| value["value"].clone()).collect();
        assert_eq!(values, [json!(231.4), json!(0.7), json!(-0.5), json!(0.1)], "{wire}: {}", said.out);
        assert_eq!(said.lines("value")[2]["raw"], json!(["fffb"]));
    }
}

#[test]
fn read_says_in_words_what_is_wrong() {
    let site = Site::new();
    let line = Line::start(&site, "tcp");
    let said = line.tool(&["read", "holding:499..501", "--unit", "99"]);
    assert!(said.good, "one of three is there: {}", said.err);
    assert_output_agreed("read what is there in part", &said.out);
    let said = line.tool(&["read", "40002", "--base", "1", "--unit", "5"]);
    assert_output_agreed("read by a manual's number", &said.out);
    for (name, arguments) in [
        ("read nothing", &["read", "--unit", "5"][..]),
        ("read a manual's number without a base", &["read", "40002", "--unit", "5"]),
        ("read an unknown type", &["read", "holding:0", "-t", "float", "--unit", "5"]),
        ("read from a silent unit", &["read", "holding:0", "--unit", "6", "--timeout", "200ms"]),
    ] {
        let said = line.tool(arguments);
        assert!(!said.good && said.out.is_empty(), "{name}: {}", said.out);
        assert_output_agreed(name, &said.err);
    }
    let missing = site.path("ttyMISSING").display().to_string();
    let none = nowhere(&site).join("=");
    let said = tool(&["read", "holding:0", "--port", &missing, "--baud", "9600", &none]);
    assert_output_agreed("read from a port that is not there", &said.err);
    let said = tool(&["read", "holding:0", "--port", &missing, &none]);
    assert_output_agreed("read at no speed", &said.err);
}

#[test]
fn scan_finds_who_is_there() {
    let site = Site::new();
    for wire in ["tcp", "rtu"] {
        let line = Line::start(&site, wire);
        let said = line.tool(&["scan", "--units", "1..24", "--timeout", "150ms"]);
        assert!(said.good, "{}", said.err);
        let (table, last) = said.out.trim_end().rsplit_once('\n').unwrap();
        assert_output_agreed(&format!("scan over {wire}"), table);
        assert!(last.starts_with("2 found with 24 probes in "), "{last}");
        assert!(
            said.err.contains("units 1 to 24, 24 probes, at most "),
            "the estimate comes first: {}",
            said.err
        );
        let said = line.tool(&["scan", "--units", "4..247", "--first", "--timeout", "150ms", "--json"]);
        assert_eq!(said.lines("found").len(), 1);
        assert_eq!(said.lines("done")[0]["probes"], 2, "{}", said.out);
    }
    let line = Line::start(&site, "tcp");
    let said = line.tool(&["scan", "--units", "1..4", "--timeout", "100ms"]);
    assert!(!said.good && said.out.starts_with("0 found with 4 probes"), "{}", said.out);
    let said = line.tool(&["scan", "--units", "0..300"]);
    assert!(!said.good && said.err.contains("--units"), "{}", said.err);
}

#[test]
fn scan_tries_speeds_and_parities_on_a_free_port() {
    let site = Site::new();
    let line = Line::start(&site, "rtu");
    let port = line.port.as_ref().unwrap().display().to_string();
    let none = nowhere(&site).join("=");
    let said = tool(&[
        "scan",
        "--port",
        &port,
        "--baud",
        "9600,19200",
        "--parity",
        "even,none",
        "--units",
        "5",
        "--json",
        &none,
    ]);
    let settings: Vec<Value> = said.lines("found").iter().map(|found| found["setting"].clone()).collect();
    // A pseudo-terminal has no speed: the device answers at all of them.
    assert_eq!(settings, ["9600 8E1 rtu", "9600 8N2 rtu", "19200 8E1 rtu", "19200 8N2 rtu"], "{}", said.err);
    assert_eq!(said.lines("plan")[0]["probes"], 4);
}

#[test]
fn a_port_that_somebody_else_has_is_left_alone() {
    let site = Site::new();
    let pty = Pty::new(&site);
    let port = pty.ours.display().to_string();
    let mut holder =
        Command::new("sleep").arg("600").stdin(fs::File::open(&pty.ours).unwrap()).spawn().unwrap();
    let process = holder.id().to_string();
    let none = nowhere(&site).join("=");
    let said = tool(&["read", "holding:0", "--port", &port, "--baud", "9600", &none]);
    end(&mut holder);
    assert!(!said.good && said.err.contains(&format!("sleep (process {process})")), "{}", said.err);
}

#[test]
fn identify_tells_what_a_device_is() {
    let site = Site::new();
    for wire in ["tcp", "rtu"] {
        let line = Line::start(&site, wire);
        for (unit, name) in
            [("5", "identify a meter"), ("17", "identify an inverter"), ("99", "identify neither")]
        {
            let said = line.tool(&["identify", "--unit", unit]);
            assert!(said.good, "{}", said.err);
            assert_output_agreed(name, &said.out);
        }
    }
}

#[test]
fn find_names_the_register_a_display_shows() {
    let site = Site::new();
    let mut line = Line::start(&site, "tcp");
    let said = line.tool(&["find", "231.4", "--unit", "5"]);
    assert_output_agreed("find a voltage", &said.out);
    // The display goes on while it looks.
    line.devices.tell(&json!({"unit": 5, "function": 6, "address": 0, "registers": [2319]}));
    let said = line.tool(&["find", "-0.5", "--then", "-0.5", "--unit", "5", "--json"]);
    let best = &said.lines("candidate")[0]["keys"];
    assert_eq!((&best["register"], &best["scale"]), (&json!("holding:2"), &json!(0.1)), "{}", said.out);
    let said = line.tool(&["find", "231.4", "--then", "232.9", "--within", "1s", "--unit", "5"]);
    assert!(!said.good && said.out.starts_with("nothing there reads 232.9"), "{}", said.out);
    let said = line.tool(&["find", "231.9 V", "--unit", "5"]);
    assert!(!said.good && said.err.contains("write what the display shows"), "{}", said.err);
}

#[test]
fn find_narrows_down_to_what_changes_with_the_display() {
    let site = Site::new();
    let mut line = Line::start(&site, "tcp");
    line.devices
        .tell(&json!({"unit": 5, "function": 6, "address": 0, "registers": [2314, 2314, 2314, 2314]}));
    let host = format!("--tcp=127.0.0.1:{}", line.devices.ready);
    let none = nowhere(&site).join("=");
    let ranges = ["--range=holding:0..3", "--within=60s", "--json", "--unit=5"];
    let mut finder = command(&["find", "231.4", "--then", "231.9", &host, &none]);
    let mut finder = finder.args(ranges).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut waits = String::new();
    BufReader::new(finder.stderr.take().unwrap()).read_line(&mut waits).unwrap();
    assert!(waits.contains("ways to read 231.4; waiting until one of them reads 231.9"), "{waits}");
    line.devices.tell(&json!({"unit": 5, "function": 6, "address": 2, "registers": [2319]}));
    let output = finder.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<&Value> = lines.iter().filter_map(|line| line.get("candidate")).collect();
    assert!(!found.is_empty() && found.iter().all(|one| one["keys"]["register"] == "holding:2"), "{said}");
}

#[test]
fn through_a_gateway_the_tools_find_their_way_and_polling_goes_on() {
    let site = Site::new();
    let line = Line::start(&site, "rtu");
    let mut gateway = gateway(&site, &line, "100ms");
    let said = over_gateway(&site, &["read", "--endpoint", "meter"]);
    assert!(
        said.good && said.err.contains("through the running gateway, adapter modbus.line"),
        "{}",
        said.err
    );
    assert_output_agreed("read an endpoint", &said.out);
    // The same wire by another name, and another unit on it.
    let other = site.path("by-id");
    std::os::unix::fs::symlink(line.port.as_ref().unwrap(), &other).unwrap();
    let port = other.display().to_string();
    let said = over_gateway(&site, &["read", "holding:500", "--port", &port, "--unit", "99"]);
    assert!(said.good && said.err.contains("through the running gateway"), "{} {}", said.out, said.err);
    let said = over_gateway(&site, &["identify", "--endpoint", "inverter"]);
    assert_output_agreed("identify an inverter", &said.out);
    let said = over_gateway(&site, &["find", "50.02", "--endpoint", "meter", "--range", "input:0..79"]);
    assert!(said.out.contains(r#"{ register = "input:70", type = "f32" }"#), "{}", said.out);
    let said = over_gateway(&site, &["scan", "--port", &port, "--baud", "9600", "--units", "5"]);
    assert!(!said.good && said.err.contains("a bus that is being polled keeps its speed"), "{}", said.err);
    let said = over_gateway(&site, &["read", "nothing", "--endpoint", "meter"]);
    assert_output_agreed("read what an endpoint has not", &said.err);

    let offered = |gateway: &mut Gateway| gateway.status()["ledger"]["offered"].as_u64().unwrap();
    let before = offered(&mut gateway);
    let said = over_gateway(&site, &["scan", "--port", &port, "--units", "1..30", "--json"]);
    let during = offered(&mut gateway) - before;
    let units: Vec<Value> = said.lines("found").iter().map(|found| found["unit"].clone()).collect();
    assert_eq!(units, [5, 17], "{}", said.err);
    assert_eq!(said.lines("plan")[0]["shared"], true);
    // 28 silent units at 100 ms and more: over a dozen rounds of two devices are due meanwhile.
    assert!(during >= 8, "only {during} samples while the bus was scanned");
    let devices = gateway.status()["units"][0]["devices"].clone();
    assert_eq!(
        (&devices["meter"]["presence"], &devices["inverter"]["presence"]),
        (&"online".into(), &"online".into())
    );
    println!("FIGURE scan of 30 units on a live bus: {during} samples of two devices meanwhile");
    assert!(gateway.terminate().success());
    // Its wire is free now, and the configuration still says where the endpoint is.
    let said = over_gateway(&site, &["read", "--endpoint", "meter"]);
    assert!(said.good && said.err.is_empty(), "{}", said.err);
    assert_output_agreed("read an endpoint", &said.out);
}

/// Traces until the file has something in it, and ends it as a person does.
fn trace(site: &Site, arguments: &[&str], file: &Path) {
    let config = configuration(site);
    let mut tracer = command(&["trace", "-w", file.to_str().unwrap()]);
    let mut tracer = tracer.args(arguments).args(config).stdout(Stdio::piped()).spawn().unwrap();
    until("some frames were traced", PATIENCE, || {
        fs::metadata(file).is_ok_and(|file| file.len() > 4_000).then_some(())
    });
    let pid = rustix::process::Pid::from_child(&tracer);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = until("it ends at Ctrl-C", PATIENCE, || tracer.try_wait().unwrap());
    if !status.success() {
        end(&mut tracer);
        panic!("the trace failed");
    }
}

/// What tshark makes of a file without any setting: one line of these fields for each frame.
fn decoded(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-T", "fields", "-E", "separator=;"]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let output =
        tshark.stderr(Stdio::null()).output().expect("tshark is not installed; tests/run installs it");
    assert!(output.status.success(), "tshark cannot read {}", file.display());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split(';').map(str::to_owned).collect()).collect()
}

#[test]
fn a_trace_over_tcp_is_what_the_slave_has_served() {
    let site = Site::new();
    let mut slave = Slave::start(&site, 3, 10);
    let config = Config::plain(&site, free_port()).meters(3, slave.port()).no_uplink();
    let mut gateway = Gateway::new(&site, &config, 10);
    gateway.start();
    gateway.until_status("all answer", |status| {
        let devices = &status["units"][0]["devices"];
        (1..=3).all(|unit| devices[format!("m{unit}")]["presence"] == "online")
    });
    let file = site.path("tcp.pcapng");
    let host = format!("127.0.0.1:{}", slave.port());
    trace(&site, &["--tcp", &host], &file);
    assert!(gateway.terminate().success());
    let served = slave.served();
    let frames =
        decoded(&file, &["_ws.col.Protocol", "mbtcp.unit_id", "modbus.func_code", "modbus.regval_uint16"]);
    let answers: Vec<&Vec<String>> = frames.iter().filter(|frame| !frame[3].is_empty()).collect();
    assert!(answers.len() > 10, "{frames:?}");
    for answer in &answers {
        assert_eq!((answer[0].as_str(), answer[2].as_str()), ("Modbus/TCP", "3"));
        let is_it = |read: &&crate::peers::Served| {
            let values: Vec<String> = read.values.iter().map(ToString::to_string).collect();
            read.unit.to_string() == answer[1] && values.join(",") == answer[3]
        };
        assert_eq!(served.iter().filter(is_it).count(), 1, "{answer:?} was never served");
    }
    let interfaces = decoded(&file, &["frame.interface_name", "frame.time_epoch"]);
    assert!(interfaces.iter().all(|frame| frame[0] == host), "{interfaces:?}");
    let times: Vec<f64> = interfaces.iter().map(|frame| frame[1].parse().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]) && times[0] > 1.6e9, "{times:?}");
    println!("FIGURE trace over TCP: {} answers decoded by tshark, each served once", answers.len());
}

#[test]
fn a_trace_of_a_serial_line_is_decoded_as_rtu() {
    let site = Site::new();
    for wire in ["rtu", "ascii"] {
        let line = Line::start(&site, wire);
        let mut gateway = if wire == "rtu" {
            gateway(&site, &line, "1s")
        } else {
            let port = line.port.as_ref().unwrap();
            let table = format!(
                "[adapters.modbus.line]\nport = {port:?}\nbaud = 9600\nframing = \"ascii\"\n\
                 [endpoints.meter]\ntoken = \"T1\"\n[endpoints.meter.modbus]\nunit = 5\nperiod = \"100ms\"\n\
                 [endpoints.meter.modbus.resources]\nvolts = {{ register = \"input:0\", type = \"f32\" }}\n"
            );
            let config = Config::plain(&site, free_port()).no_uplink().line(&table);
            let mut gateway = Gateway::new(&site, &config, 1);
            gateway.start();
            gateway
        };
        gateway.until_status("it polls", |status| {
            status["units"][0]["devices"]["meter"]["presence"] == "online"
        });
        let file = site.path(&format!("{wire}.pcapng"));
        trace(&site, &["--endpoint", "meter"], &file);
        assert!(gateway.terminate().success());
        let fields = [
            "_ws.col.Protocol",
            "mbrtu.unit_id",
            "modbus.func_code",
            "modbus.regval_uint16",
            "_ws.expert.message",
        ];
        let frames = decoded(&file, &fields);
        let volts = |frame: &&Vec<String>| frame[1] == "5" && frame[2] == "4" && frame[3] == "17255,26214";
        assert!(frames.iter().filter(volts).count() > 5, "{wire}: {frames:?}");
        assert!(
            frames.iter().all(|frame| frame[0] == "Modbus RTU" && frame[4].is_empty()),
            "{wire}: {frames:?}"
        );
    }
}

#[test]
fn a_trace_needs_a_gateway() {
    let site = Site::new();
    let line = Line::start(&site, "tcp");
    let file = site.path("none.pcapng");
    let said = line.tool(&["trace", "-w", file.to_str().unwrap()]);
    assert!(!said.good && said.err.contains("only a running gateway has traffic"), "{}", said.err);
    assert!(!file.exists());
}

#[test]
fn a_wire_of_the_running_gateway_is_its_own_by_any_name() {
    let site = Site::new();
    let line = Line::start(&site, "tcp");
    let mut gateway = gateway(&site, &line, "500ms");
    let by_name = format!("localhost:{}", line.devices.ready);
    let said = over_gateway(&site, &["read", "holding:0", "--tcp", &by_name, "--unit", "5"]);
    assert!(said.good && said.err.contains("through the running gateway"), "{}", said.err);
    let said = over_gateway(&site, &["read", "holding:0", "--tcp", &by_name, "--framing", "rtu"]);
    assert!(!said.good && said.err.contains("--framing"), "{}", said.err);
    // An endpoint of the file that the gateway has not taken over yet.
    let file = site.path("tidegate.toml");
    let text = fs::read_to_string(&file).unwrap();
    let more = format!(
        "{text}\n[endpoints.later]\ntoken = \"T3\"\n[endpoints.later.modbus]\nhost = {by_name:?}\nunit = 99\n\
         [endpoints.later.modbus.resources]\nx = {{ register = \"holding:500\", type = \"u16\" }}\n"
    );
    fs::write(&file, more).unwrap();
    let said = over_gateway(&site, &["read", "--endpoint", "later"]);
    assert!(!said.good && said.err.contains("but not yet the endpoint"), "{} {}", said.out, said.err);
    assert!(gateway.terminate().success());
    let said = over_gateway(&site, &["read", "--endpoint", "later"]);
    assert!(said.good, "{}", said.err);
}

#[test]
fn a_gateway_that_does_not_say_its_wires_may_have_any() {
    let site = Site::new();
    let line = Line::start(&site, "tcp");
    let socket = site.path("half.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // Knows its units, and answers no inquiry: as an adapter that is being restarted.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (mut lines, mut first) = (BufReader::new(&stream), String::new());
            lines.read_line(&mut first).unwrap();
            let (status, body) = match first.starts_with("GET /v1/status") {
                true => ("200 OK", json!({"units": [{"name": "modbus.line"}]})),
                false => ("404 Not Found", json!({"error": "the adapter answers no inquiries at present"})),
            };
            let body = body.to_string();
            let head =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            (&stream).write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    let (host, socket) = (format!("127.0.0.1:{}", line.devices.ready), socket.display().to_string());
    let said = tool(&["read", "holding:0", "--tcp", &host, "--unit", "5", "--socket", &socket]);
    assert!(!said.good && said.out.is_empty(), "{}", said.out);
    assert!(said.err.contains("which wires its adapter modbus.line has"), "{}", said.err);
}

#[test]
fn options_that_are_used_for_nothing_are_refused_by_name() {
    let site = Site::new();
    let none = nowhere(&site).join("=");
    for (option, arguments) in [
        ("--framing", &["read", "-e", "meter", "--framing", "rtu"][..]),
        ("--baud", &["read", "-e", "meter", "--baud", "9600"]),
        ("--parity", &["identify", "-e", "meter", "--parity", "none"]),
        ("--parity", &["scan", "-e", "meter", "--parity", "none"]),
        ("--stop-bits", &["scan", "--tcp", "127.0.0.1", "--framing", "rtu", "--stop-bits", "2"]),
        ("--baud", &["read", "holding:0", "--port", "/dev/null", "--baud", "9600,19200"]),
    ] {
        let said = tool(&[arguments, &[none.as_str()][..]].concat());
        let named = said.err.starts_with(&format!("tidegate: {option}: "));
        assert!(!said.good && named && said.out.is_empty(), "{arguments:?}: {}", said.err);
    }
}
