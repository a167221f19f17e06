//! What `check` says to wrong configurations, key by key.

use super::*;
use crate::{
    frame::Framing,
    line::{Characters, Line, Parity},
    plan::Limits,
    value::{Half, Kind, Part},
};

fn config(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

fn resolved(config_text: &str, device: &str) -> Result<Target, Vec<Issue>> {
    resolve(&config(config_text), &EndpointName::new("meter").unwrap(), &toml::from_str(device).unwrap())
}

fn form(wanted: &Wanted) -> &Form {
    let Meaning::Form(form) = &wanted.form else { panic!("{wanted:?}") };
    form
}

/// One issue at this path; its cause contains these words and it has a hint.
fn check(config: &str, device: &str, path: &[&str], words: &str) {
    let issues = resolved(config, device).expect_err(device);
    assert_eq!(issues.len(), 1, "{device}: {issues:?}");
    assert_eq!(issues[0].path, path, "{device}");
    assert!(issues[0].why.contains(words), "{device}: {}", issues[0].why);
    assert!(issues[0].hint.is_some(), "{device}");
    assert_eq!(issues[0].place, Place::Device(EndpointName::new("meter").unwrap()));
}

fn check_register(register: &str, key: &[&str], words: &str) {
    let mut path = vec!["resources", "u"];
    path.extend(key);
    check("host = 'a'", &format!("resources.u = {{ {register} }}"), &path, words);
}

#[test]
fn a_wrong_register_is_reported_at_its_key() {
    for (register, key, words) in [
        ("register = 'holding:65536', type = 'u16'", &["register"][..], "65535"),
        ("register = 'holding:65535', type = 'u32'", &["register"], "behind register 65535"),
        ("register = '40001', type = 'u16'", &["register"], "begin with 0 or with 1"),
        ("register = '50001', type = 'u16'", &["register"], "not a register"),
        ("register = 'hold:1'", &["register"], "table"),
        ("register = 'holding:0'", &[], "type is missing"),
        ("register = 'holding:0', type = 'u12'", &["type"], "no such type"),
        ("register = 'holding:0', type = 'U16'", &["type"], "no such type"),
        ("register = 'holding:0', type = 'u32', order = 'ACBD'", &["order"], "no such order"),
        ("register = 'holding:0', type = 'bool'", &[], "which bit"),
        ("register = 'holding:0', type = 'bool', bit = 16", &["bit"], "0 to 15"),
        ("register = 'holding:0', bit = -1", &["bit"], "0 to 15"),
        ("register = 'holding:0', type = 'u16', bit = 3", &["bit"], "truth value"),
        ("register = 'coil:0', type = 'u16'", &["type"], "one bit"),
        ("register = 'coil:0', bit = 0", &["bit"], "single bit"),
        ("register = 'discrete:0', order = 'ABCD'", &["order"], "single bit"),
        ("register = 'coil:0', bits = '0-1'", &["bits"], "single bit"),
        ("register = 'coil:0', scale = 2", &["scale"], "only a number"),
        ("register = 'holding:0', bit = 1, bits = '0-1'", &["bits"], "at once"),
        ("register = 'holding:0', type = 'u16', bits = '4-16'", &["bits"], "0 to 15"),
        ("register = 'holding:0', type = 'u16', bits = '7-4'", &["bits"], "0 to 15"),
        ("register = 'holding:0', type = 'u16', bits = 'a'", &["bits"], "0 to 15"),
        ("register = 'holding:0', type = 'f32', bits = '0-3'", &["bits"], "whole number"),
        ("register = 'holding:0', type = 'u16', byte = 'high'", &["byte"], "single bytes"),
        ("register = 'holding:0', type = 'u8', byte = 'upper'", &["byte"], "two bytes"),
        ("register = 'holding:0', type = 'string'", &[], "how long"),
        ("register = 'holding:0', type = 'string', length = 126", &["length"], "1 to 125"),
        ("register = 'holding:65535', type = 'raw', length = 2", &["register"], "behind register 65535"),
        ("register = 'holding:0', type = 'u32', length = 2", &["length"], "its type"),
        ("register = 'holding:0', type = 'string', length = 2, scale = 2", &["scale"], "only a number"),
        (
            "register = 'holding:0', type = 'string', length = 2, sentinels = [0]",
            &["sentinels"],
            "only a number",
        ),
        ("register = 'holding:0', type = 'u16', sentinels = [0.5]", &["sentinels"], "never this"),
        ("register = 'holding:0', type = 'u16', enum = { x = 'a' }", &["enum", "x"], "whole number"),
        ("register = 'holding:0', type = 'f32', enum = { 1 = 'a' }", &["enum"], "whole numbers"),
        ("register = 'holding:0', type = 'u16', enum = { 1 = 'a' }, scale = 2", &["scale"], "not scaled"),
        ("register = 'holding:0', type = 'u16', decimals = 16", &["decimals"], "0 to 15"),
        ("register = 'input:0', type = 'u16', scale = 0", &["scale"], "number"),
        ("register = 'input:0', type = 'u16', scale = nan", &["scale"], "number"),
        ("register = 'input:0', type = 'u16', offset = inf", &["offset"], "number"),
        ("register = 'input:0', type = 'u16', period = '0s'", &["period"], "zero"),
    ] {
        check_register(register, key, words);
    }
}

#[test]
fn a_wrong_device_is_reported_at_its_key() {
    let rest = "resources.u = { register = 'holding:0', type = 'u16' }";
    check("", rest, &[], "where the device is");
    for unit in ["248", "254", "256", "-1"] {
        check("host = 'a'", &format!("unit = {unit}\n{rest}"), &["unit"], "unit");
    }
    for host in ["a b", ":502", "a:", "a:0", "a:70000", "[fd00::1", "fd00::1]:5", "http://a"] {
        check("", &format!("host = '{host}'\n{rest}"), &["host"], "not an address");
    }
    check("host = 'a'", &format!("period = '0ms'\n{rest}"), &["period"], "zero");
    check("host = 'a'", &format!("base = 2\n{rest}"), &["base"], "from 0 or from 1");
    check("host = 'a'", "resources = {}", &["resources"], "nothing to read");
    for (key, value) in [("max_registers", 126), ("max_registers", 0), ("max_bits", 2_001), ("max_hole", 125)]
    {
        check("host = 'a'", &format!("{key} = {value}\n{rest}"), &[key], "it is ");
    }
    check("host = 'a'", &format!("timeout = '0s'\n{rest}"), &["timeout"], "zero");
    let long = "max_registers = 1\nresources.u = { register = 'holding:0', type = 'u32' }";
    check("host = 'a'", long, &["resources", "u"], "more than `max_registers`");
    // A wrong host of the adapter is its own fault only.
    assert_eq!(resolved("host = 'a b'", rest), Err(Vec::new()));
}

#[test]
fn a_wrong_adapter_is_reported_at_its_key() {
    for (text, path) in [
        ("host = 'a b'", "host"),
        ("timeout = '0s'", "timeout"),
        ("connect_timeout = '0s'", "connect_timeout"),
        ("host = 'a'\nport = '/dev/ttyS0'\nbaud = 9600", "port"),
        ("port = ''\nbaud = 9600", "port"),
        ("port = '/dev/ttyS0'", ""),
        ("port = '/dev/ttyS0'\nbaud = 49", "baud"),
        ("port = '/dev/ttyS0'\nbaud = 9600\nframing = 'tcp'", "framing"),
        ("host = 'a'\nframing = 'udp'", "framing"),
        ("port = '/dev/ttyS0'\nbaud = 9600\nparity = 'mark'", "parity"),
        ("port = '/dev/ttyS0'\nbaud = 9600\nstop_bits = 3", "stop_bits"),
        ("port = '/dev/ttyS0'\nbaud = 9600\ndata_bits = 7", "data_bits"),
        ("host = 'a'\nparity = 'even'", "parity"),
        ("host = 'a'\necho = true", "echo"),
        ("host = 'a'\nframing = 'rtu'\nrs485 = true", "rs485"),
        ("port = '/dev/ttyS0'\nbaud = 9600\nrs485 = 'dtr'", "rs485"),
        ("port = '/dev/ttyS0'\nbaud = 9600\nrs485 = { by = 'dtr' }", "rs485.by"),
        ("port = '/dev/ttyS0'\nbaud = 9600\nrs485 = { rts_after_send = true }", "rs485.rts_after_send"),
        ("port = '/dev/ttyS0'\nbaud = 9600\nrs485 = { delay_before = '101ms' }", "rs485.delay_before"),
        ("port = '/dev/ttyS0'\nbaud = 9600\nrs485 = { delay_after = '1s' }", "rs485.delay_after"),
        ("host = 'a'\nquarantine = '1s'", "quarantine"),
        ("port = '/dev/ttyS0'\nbaud = 9600\nquarantine = '0s'", "quarantine"),
        ("host = 'a'\ngap = '1s'", "gap"),
        ("host = 'a'\nconnections = 0", "connections"),
        ("host = 'a'\nconnections = 17", "connections"),
        ("host = 'a'\nframing = 'rtu'\nconnections = 2", "connections"),
    ] {
        let issues = super::check(&config(text));
        assert_eq!(issues.iter().map(|i| i.path.join(".")).collect::<Vec<_>>(), [path], "{text}");
        assert_eq!(issues[0].place, Place::Config);
    }
    assert_eq!(super::check(&config("")), []);
    assert!(toml::from_str::<Config>("hots = 'a'").is_err(), "an unknown key is refused");
    assert!(toml::from_str::<Config>("timeout = 5").unwrap_err().to_string().contains(r#""5s""#));
}

#[test]
fn a_line_is_wired_as_it_is_written() {
    use crate::{
        frame::Echo,
        wiring::{Direction, Rs485, Wiring},
    };
    let usual = Rs485::default();
    let other = Rs485 {
        rts_on_send: false,
        rts_after_send: true,
        delay_before: Duration::from_millis(1),
        delay_after: Duration::from_millis(100),
    };
    let table = "rts_on_send = false, delay_before = '1ms', delay_after = '100ms'";
    for (text, direction, echo) in [
        ("", Direction::Itself, Echo::Possible),
        ("rs485 = false\necho = false", Direction::Nobody, Echo::Absent),
        ("rs485 = true\necho = true", Direction::Kernel(usual), Echo::Certain),
        ("rs485 = 'rts'", Direction::Rts(usual), Echo::Possible),
        ("rs485 = {}", Direction::Kernel(usual), Echo::Possible),
        (&format!("rs485 = {{ {table} }}"), Direction::Kernel(other), Echo::Possible),
        (&format!("rs485 = {{ by = 'rts', {table} }}"), Direction::Rts(other), Echo::Possible),
    ] {
        let line = super::line(&config(&format!("port = '/dev/ttyS0'\nbaud = 9600\n{text}")));
        assert_eq!(line.unwrap().wiring, Wiring { direction, echo }, "{text}");
    }
    let number = toml::from_str::<Config>("rs485 = 1").unwrap_err().to_string();
    assert!(number.contains("true, \"rts\" or a table"), "{number}");
    assert!(toml::from_str::<Config>("rs485 = { delay = '1ms' }").is_err(), "an unknown key is refused");
}

#[test]
fn what_is_left_out_has_a_default() {
    let target = resolved(
        "host = '10.0.0.5'",
        "resources.u = { register = 'holding:7', type = 'f32' }\n\
         resources.alarm = { register = 'holding:9', bit = 3, period = '5s' }\n\
         resources.pump = { register = 'coil:65535' }",
    )
    .unwrap();
    assert_eq!((target.wire.to_string().as_str(), target.unit), ("10.0.0.5:502", 1));
    let seen: Vec<_> = target
        .resources
        .iter()
        .map(|w| (w.resource.as_str(), w.want.start, w.want.length, form(w).kind, w.period.as_secs()))
        .collect();
    assert_eq!(
        seen,
        [("alarm", 9, 1, Kind::Bool, 5), ("pump", 65_535, 1, Kind::Bool, 1), ("u", 7, 2, Kind::Single, 1)]
    );
    assert!(resolved("host = 'a'", "unit = 255\nresources.u = { register = 'coil:1' }").is_ok());
    assert!(resolved("host = 'a'", "unit = 0\nresources.u = { register = 'coil:1' }").is_ok());
}

#[test]
fn hosts_are_read_as_people_write_them() {
    for (text, shown) in [
        ("192.168.1.20", "192.168.1.20:502"),
        ("192.168.1.20:1502", "192.168.1.20:1502"),
        ("meter", "meter:502"),
        ("meter.example:503", "meter.example:503"),
        ("fd00::20", "[fd00::20]:502"),
        ("[fd00::20]", "[fd00::20]:502"),
        ("[fd00::20]:1502", "[fd00::20]:1502"),
    ] {
        assert_eq!(text.parse::<Host>().unwrap().to_string(), shown, "{text}");
    }
}

#[test]
fn numbers_of_manuals_are_read_where_the_base_is_said() {
    for (base, start) in [(0, 13), (1, 12)] {
        let device = format!("base = {base}\nresources.u = {{ register = '40013', type = 'u16' }}");
        assert_eq!(resolved("host = 'a'", &device).unwrap().resources[0].want.start, start);
    }
}

#[test]
fn a_register_says_all_that_can_be_said_of_it() {
    let target = resolved(
        "host = 'a'",
        "resources.mode = { register = 'holding:1', type = 'u16', bits = '4-7', enum = { 0 = 'off', 0x1 = 'on' } }\n\
         resources.name = { register = 'holding:0x10', type = 'string', length = 8, byte = 'low' }\n\
         resources.level = { register = 'input:2', type = 'i16', sentinels = [0x7fff, -32768], scale = 0.1, decimals = 1 }",
    )
    .unwrap();
    let forms: Vec<_> = target.resources.iter().map(form).collect();
    assert_eq!((forms[0].scale.decimals, forms[0].sentinels.len()), (Some(1), 2));
    assert_eq!((forms[1].part, forms[1].names.len()), (Some(Part { low: 4, width: 4 }), 2));
    assert_eq!((forms[2].half, forms[2].length), (Some(Half::Low), 8));
    assert_eq!(target.resources[2].want.start, 16);
}

#[test]
fn a_serial_line_has_the_settings_of_the_standard_unless_it_says_otherwise() {
    let read = |text: &str| super::line(&config(text)).unwrap();
    let rtu = read("port = '/dev/ttyUSB0'\nbaud = 19200");
    let even = Characters { baud: 19_200, data_bits: 8, parity: Parity::Even, stop_bits: 1 };
    assert_eq!((rtu.framing, rtu.characters), (Framing::Rtu, Some(even)));
    assert_eq!(rtu.quarantine.as_secs(), 3);
    // Without parity there are two stop bits (Modbus over Serial Line V1.02 §2.5.1).
    let none = read("port = '/dev/ttyUSB0'\nbaud = 9600\nparity = 'none'").characters.unwrap();
    assert_eq!((none.parity, none.stop_bits), (Parity::None, 2));
    let ascii = read("port = '/dev/ttyUSB0'\nbaud = 9600\nframing = 'ascii'").characters.unwrap();
    assert_eq!(ascii.data_bits, 7);
    let converter = read("host = 'a'\nframing = 'rtu'\ngap = '20ms'\nquarantine = '5s'");
    assert_eq!((converter.framing, converter.characters), (Framing::Rtu, None));
    assert_eq!((converter.gap.as_millis(), converter.quarantine.as_secs()), (20, 5));
    assert_eq!(read("host = 'a'").framing, Framing::Tcp);
    let rest = "resources.u = { register = 'holding:0', type = 'u16' }";
    let serial = "port = '/dev/ttyUSB0'\nbaud = 19200";
    assert_eq!(resolved(serial, rest).unwrap().wire, Wire::Serial("/dev/ttyUSB0".to_owned()));
    check(serial, &format!("host = 'a'\n{rest}"), &["host"], "serial port");
    check(serial, &format!("unit = 255\n{rest}"), &["unit"], "has a number");
}

#[test]
fn a_device_is_asked_in_its_own_manner() {
    let rest = "resources.u = { register = 'holding:0', type = 'u16' }";
    let serial = "port = '/dev/ttyS0'\nbaud = 9600\ntimeout = '300ms'\ngap = '5ms'\nconnect_delay = '1s'";
    let manner = |device: &str| resolved(serial, &format!("{device}\n{rest}")).unwrap().manner;
    let shown = |manner: &Manner| {
        let Line { timeout, gap, quarantine, .. } = &manner.line;
        (
            timeout.duration().as_millis(),
            gap.as_millis(),
            quarantine.as_millis(),
            manner.connect_delay.as_millis(),
        )
    };
    assert_eq!(shown(&manner("")), (300, 5, 900, 1_000));
    assert_eq!(manner("").limits, Limits { registers: 125, bits: 2_000, hole: 8 });
    let own = "timeout = '2s'\ngap = '50ms'\nconnect_delay = '0s'\nmax_response = '7s'";
    assert_eq!(shown(&manner(own)), (2_000, 50, 7_000, 0));
    assert_eq!(shown(&manner("timeout = '2s'\nmax_response = '4s'")), (2_000, 5, 6_000, 1_000));
    let limits = manner("max_registers = 20\nmax_bits = 64\nmax_hole = 0").limits;
    assert_eq!(limits, Limits { registers: 20, bits: 64, hole: 0 });
}

#[test]
fn the_units_of_a_host_are_spread_over_its_connections() {
    let rest = "resources.u = { register = 'holding:0', type = 'u16' }";
    let mut targets: Vec<Target> = [("a", 2), ("a", 4), ("a", 6), ("a", 8), ("a", 4), ("b", 8)]
        .map(|(host, unit)| resolved("", &format!("host = '{host}'\nunit = {unit}\n{rest}")).unwrap())
        .into();
    spread(2, targets.iter_mut());
    let on: Vec<u16> = targets.iter().map(|target| target.connection).collect();
    assert_eq!(on, [0, 1, 0, 1, 1, 0], "each unit on one connection only");
}

#[test]
fn a_profile_says_what_one_request_may_be_unless_the_device_does() {
    for (more, registers, hole) in [("", 80, 8), ("max_registers = 20\nmax_hole = 0", 20, 0)] {
        let target = resolved("host = 'a'", &format!("profile = 'sdm630'\n{more}")).unwrap();
        assert_eq!((target.manner.limits.registers, target.manner.limits.hole), (registers, hole));
        assert_eq!((target.resources.len(), target.sunspec), (90, None));
    }
    // Profiles count from 0, whatever the device's own registers do.
    let own = "profile = 'sdm120'\nonly = ['current']\nbase = 1\nresources.u = { register = 'input:7', type = 'u16' }";
    let target = resolved("host = 'a'", own).unwrap();
    assert_eq!(target.resources.iter().map(|wanted| wanted.want.start).collect::<Vec<_>>(), [6, 6]);
    let target = resolved("host = 'a'", "profile = 'sunspec'\nperiod = '3s'").unwrap();
    assert_eq!(target.sunspec.map(|choice| (choice.only, choice.period.as_secs())), Some((None, 3)));
}

#[test]
fn sunspec_points_that_are_too_far_from_their_beginning_are_told() {
    let device = "profile = 'sunspec'\nmax_registers = 40";
    check("host = 'a'", device, &["max_registers"], "up to 107 registers");
    check("host = 'a'", &format!("{device}\nonly = ['inverter.Evt1']"), &["max_registers"], "up to 42");
    check("host = 'a'", &format!("{device}\nonly = ['meter_2.Evt']"), &["max_registers"], "up to 107");
    assert!(resolved("host = 'a'", &format!("{device}\nonly = ['inverter.W', 'inverter.DCW']")).is_ok());
}
