//! `tidegate init`: the device and the platform are tried, what is found is written, and with what is written values
//! arrive.

use crate::{
    gateway::binary,
    peers::{Broker, Python, end},
    site::{PATIENCE, Site, free_port, until},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A process of ours. Ends with its value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

impl Running {
    /// A device that is played, once it is there.
    fn device(arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        let mut child =
            command.args(["simulate", "modbus"]).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains(" on "), "{said}");
        Self(child)
    }
}

/// What it says, and whether it wrote the file.
fn init(file: &Path, arguments: &[&str]) -> (String, bool) {
    let mut command = Command::new(binary());
    let output =
        command.arg("init").arg("-c").arg(file).args(arguments).stdin(Stdio::null()).output().unwrap();
    (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.success())
}

fn check(file: &Path) {
    let output = Command::new(binary()).arg("check").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(file).unwrap();
    assert!(text.lines().count() < 40, "{text}");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn with_what_is_written_a_value_arrives() {
    let site = Site::new();
    let broker = Broker::start_for_login(&site, "gateway-1", "SECRET-pass");
    let device = free_port();
    let host = format!("127.0.0.1:{device}");
    let _device = Running::device(&["--profile", "sdm630", "--tcp", &host]);
    let password = site.path("password");
    fs::write(&password, "SECRET-pass\n").unwrap();
    let file = site.path("gateway.toml");
    let url = format!("mqtts://localhost:{}", broker.port());
    let (ca, password) = (site.path("ca.pem"), password.display().to_string());
    let login = ["--username", "gateway-1", "--password-file", &password, "--ca-file", ca.to_str().unwrap()];
    let typed = [&["--modbus-tcp", &host, "--uplink", &url][..], &login].concat();
    let (said, good) = init(&file, &typed);
    assert!(good, "{said}");
    for text in ["sdm630: voltage_l1 is ", "lets the gateway in", "written  ", "tidegate read meter-1"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    check(&file);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("password_file = \"password\"\n") && !text.contains("SECRET"), "{text}");

    // As it is, but for the clock, for which nobody may vouch here.
    if !text.contains("[clock]") {
        fs::write(&file, text.replace("[uplink]\n", "[clock]\ntrust = \"always\"\n[uplink]\n")).unwrap();
    }
    let mut command = Command::new(binary());
    let run = command.args(["run", "-c"]).arg(&file).stderr(Stdio::null()).spawn().unwrap();
    let _gateway = Running(run);
    until("values are delivered", PATIENCE, || {
        let mut command = Command::new(binary());
        let status = command.args(["status", "--json", "-c"]).arg(&file).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        (status["ledger"]["landed"].as_u64()? > 2).then_some(())
    });
}

#[test]
fn what_is_there_is_not_replaced_and_what_does_not_work_is_not_written() {
    let site = Site::new();
    let file = site.path("gateway.toml");
    let nobody = format!("127.0.0.1:{}", free_port());
    let (said, good) = init(&file, &["--modbus-tcp", &nobody]);
    assert!(!good && said.contains("TG-401") && said.contains("nothing was written"), "{said}");
    let url = format!("mqtt://{nobody}");
    let (said, good) = init(&file, &["--uplink", &url]);
    assert!(!good && said.contains("TG-102") && said.contains("nothing was written"), "{said}");
    let (said, good) = init(&file, &["--uplink", "mqtt://broker.example.com"]);
    assert!(!good && said.contains("--insecure"), "{said}");
    let (said, good) = init(&file, &["--uplink", "tcp://localhost", "--untested"]);
    assert!(!good && said.contains("unknown scheme"), "{said}");
    assert!(!file.exists());
    let (said, good) =
        init(&file, &["--modbus-tcp", &nobody, "--uplink", &url, "--untested", "--profile", "sdm230"]);
    assert!(good, "{said}");
    check(&file);
    let before = fs::read(&file).unwrap();
    let (said, good) = init(&file, &[]);
    assert!(!good && said.contains("is there already"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), before);
    let (said, good) = init(&file, &["--force"]);
    let old = site.path("gateway.toml.old");
    assert!(good && said.contains(&format!("kept           {}", old.display())), "{said}");
    check(&file);
    assert_eq!(fs::read(&old).unwrap(), before);
    assert!(!site.path("gateway.toml.new").exists());
    // The package's own says nothing of a site yet.
    fs::write(&file, include_bytes!("../../packaging/tidegate.toml")).unwrap();
    let (said, good) = init(&file, &["--modbus-tcp", &nobody, "--untested", "--profile", "sdm230"]);
    assert!(good, "{said}");
    check(&file);
}

#[test]
fn a_device_on_a_serial_line_is_found_out() {
    let site = Site::new();
    for (model, endpoint) in [("sdm230", "meter-1"), ("sunspec", "inverter-1"), ("ai8", "device-1")] {
        let port = site.path(model);
        let port = port.to_str().unwrap();
        let _device = Running::device(&["--profile", model, "--pty", port, "--unit", "7"]);
        let file = site.path(&format!("{model}.toml"));
        let place = ["--modbus-rtu", port, "--baud", "19200", "--parity", "even", "--unit", "7", "--force"];
        let (said, good) = init(&file, &place);
        assert!(good, "{said}");
        check(&file);
        let text = fs::read_to_string(&file).unwrap();
        let table = format!("[endpoints.{endpoint}.modbus]\nunit = 7\nprofile = {model:?}\n");
        assert!(text.contains(&table), "{text}");
        // What is said is tried as well.
        let other = if model == "sunspec" { "sdm630" } else { "sunspec" };
        let before = fs::read(&file).unwrap();
        let (said, good) = init(&file, &[&place[..], &["--profile", other]].concat());
        assert!(!good && said.contains("nothing was written"), "{said}");
        assert_eq!(fs::read(&file).unwrap(), before);
    }
}

#[test]
fn a_device_that_does_not_say_what_it_is_is_known_by_its_registers_or_read_all_the_same() {
    let site = Site::new();
    let devices = Python::start(&site, "modbus_devices.py", &["--wire", "tcp"]);
    let host = format!("127.0.0.1:{}", devices.ready);
    for (unit, lines, said) in [
        ("5", "profile = \"sdm120\"", "sdm120: voltage is 231.4 V"),
        ("17", "profile = \"sunspec\"", "sunspec: the device is asked itself what it has"),
        ("99", "value = { register = \"holding:0\", type = \"u16\" }", "has neither holding:0 nor input:0"),
    ] {
        let file = site.path(unit);
        let (words, good) = init(&file, &["--modbus-tcp", &host, "--unit", unit]);
        assert!(good && words.contains(said), "{words}");
        check(&file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(lines), "{text}");
    }
    let (words, good) =
        init(&site.path("x"), &["--modbus-tcp", &host, "--unit", "99", "--profile", "sdm230"]);
    assert!(!good && words.contains("which the profile sdm230 reads"), "{words}");
}

#[test]
fn without_anything_typed_the_packaged_file_is_written() {
    let site = Site::new();
    let file = site.path("gateway.toml");
    let (said, good) = init(&file, &[]);
    assert!(good && said.contains("tidegate run --config"), "{said}");
    check(&file);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("kind = \"none\"") && text.contains("# [endpoints.meter-1]"), "{text}");
}
