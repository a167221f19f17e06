//! Profiles against the tables of others (sdm_modbus, pysunspec2), profiles of a site, and the simulated
//! slave against our own adapter and pymodbus's client.

use crate::{
    gateway::{Config, Gateway, binary},
    peers::{Python, end},
    site::{PATIENCE, Site, free_port, until},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// A device that is played by our own command line.
struct Simulated {
    child: Child,
    /// What it says first.
    said: String,
}

impl Simulated {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(binary())
            .args(["simulate", "modbus"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        Self { child, said }
    }

    /// `... on 127.0.0.1:5020 (Modbus TCP)`
    fn address(&self) -> &str {
        self.said.split(" on ").nth(1).and_then(|rest| rest.split(' ').next()).expect(&self.said)
    }

    /// As Ctrl-C does; whether it ended well.
    fn interrupt(mut self) -> bool {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A daemon with one device, `d`, with these lines in its table.
fn daemon(site: &Site, adapter: &str, device: &str) -> Gateway {
    let config = Config::plain(site, free_port())
        .no_uplink()
        .line(&format!("[adapters.modbus.line]\n{adapter}\n[endpoints.d]\ntoken = \"T1\""))
        .line(&format!("[endpoints.d.modbus]\nunit = 1\n{device}"));
    Gateway::new(site, &config, 1)
}

/// The values of `d` by resource, once there are so many.
fn values(gateway: &mut Gateway, count: usize) -> BTreeMap<String, Value> {
    let read = until("everything is read", PATIENCE, || {
        gateway.assert_alive();
        gateway.ask(&["read", "d"]).filter(|r| r["values"].as_array().map(Vec::len) == Some(count))
    });
    let values = read["values"].as_array().unwrap();
    values.iter().map(|v| (v["resource"].as_str().unwrap().to_owned(), v.clone())).collect()
}

/// A profile as the command line shows it.
fn profile(name: &str) -> Value {
    let output = Command::new(binary()).args(["profiles", name, "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn good(value: &Value, wanted: &Value) -> bool {
    if wanted.is_null() {
        return value["value"].is_null() && value["quality"] == "bad";
    }
    let same =
        value["value"] == *wanted || value["value"].as_f64().is_some_and(|v| Some(v) == wanted.as_f64());
    same && value["quality"] == "good"
}

#[test]
fn eastron_meters_are_read_as_their_tables_say() {
    for name in ["sdm72", "sdm120", "sdm230", "sdm630"] {
        let site = Site::new();
        let device = Python::start(&site, "modbus_profiles.py", &[name]);
        let (port, tables) = device.ready.split_once(' ').unwrap();
        let tables: Vec<Vec<Value>> = serde_json::from_str(tables).unwrap();
        let [table] = tables.as_slice() else { panic!("{tables:?}") };
        let known = profile(name);
        let known = known["resources"].as_array().unwrap();
        assert_eq!(known.len(), table.len(), "{name}: as many registers as the table has");
        let adapter = format!("host = \"127.0.0.1:{port}\"");
        let mut gateway = daemon(&site, &adapter, &format!("profile = {name:?}"));
        let (said, is_good) = gateway.check();
        assert!(is_good, "{said}");
        gateway.start();
        let read = values(&mut gateway, table.len());
        for row in table {
            let entry = known.iter().find(|entry| entry["register"] == row["register"]).expect(name);
            let resource = entry["resource"].as_str().unwrap();
            assert!(good(&read[resource], &row["value"]), "{row} was read as {}", read[resource]);
            // Ampere-hours, says the manual; the package takes them for a current.
            let (unit, wanted) = (entry["unit"].as_str().unwrap_or(""), row["unit"].as_str().unwrap());
            let charge = row["register"] == "input:82" && (unit, wanted) == ("Ah", "A");
            assert!(charge || unit.eq_ignore_ascii_case(wanted), "{entry}: {wanted}");
        }
        println!("FIGURE profile {name}: {} values are equal to those of sdm_modbus's table", table.len());
        assert!(gateway.terminate().success());
    }
}

#[test]
fn sunspec_chains_are_found_wherever_they_are() {
    let site = Site::new();
    let mut device = Python::start(&site, "modbus_profiles.py", &["sunspec"]);
    let ready = device.ready.clone();
    let (port, tables) = ready.split_once(' ').unwrap();
    let tables: Vec<Vec<Value>> = serde_json::from_str(tables).unwrap();
    let adapter = format!("host = \"127.0.0.1:{port}\"\ntimeout = \"300ms\"");
    let mut gateway = daemon(&site, &adapter, "profile = \"sunspec\"\nperiod = \"100ms\"");
    let (said, is_good) = gateway.check();
    assert!(is_good, "{said}");
    gateway.start();
    let mut compared = 0;
    for (turn, table) in tables.iter().enumerate() {
        if turn > 0 {
            device.tell(&json!({ "do": "move" }));
        }
        let mut wrong = Vec::new();
        let all = || {
            gateway.assert_alive();
            let read = gateway.ask(&["read", "d"])?;
            let read = read["values"].as_array().unwrap();
            // The last chain may have had models that this one lacks.
            wrong = table
                .iter()
                .filter(|row| {
                    let value = read.iter().find(|value| value["resource"] == row["resource"]);
                    !value.is_some_and(|value| good(value, &row["value"]))
                })
                .collect();
            wrong.is_empty().then_some(())
        };
        until(&format!("chain {turn} is read"), PATIENCE, all);
        compared += table.len();
    }
    println!(
        "FIGURE profile sunspec: {compared} values of {} chains are equal to pysunspec2's",
        tables.len()
    );
    assert!(gateway.terminate().success());
}

#[test]
fn a_device_without_sunspec_is_told_so() {
    let site = Site::new();
    let device = Simulated::start(&["--profile", "sdm120", "--tcp", "127.0.0.1:0"]);
    let adapter = format!("host = {:?}", device.address());
    let mut gateway = daemon(&site, &adapter, "profile = \"sunspec\"\nperiod = \"100ms\"");
    gateway.start();
    let told = gateway.until_fault("TG-448");
    assert!(told.contains("no SunSpec models at 40000, 50000 or 0"), "{told}");
    assert!(gateway.terminate().success());
}

#[test]
fn a_profile_of_the_site_is_taken_and_a_faulty_one_named() {
    let site = Site::new();
    let dir = site.path("profiles");
    fs::create_dir(&dir).unwrap();
    let mut gateway = daemon(&site, "host = \"127.0.0.1:1\"", "profile = \"sdm120\"\nonly = [\"voltage\"]");
    let check = || {
        let mut check = Command::new(binary());
        let output = check
            .arg("check")
            .arg(site.path("tidegate.toml"))
            .env("TIDEGATE_PROFILES", &dir)
            .output()
            .unwrap();
        (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.success())
    };
    let (said, is_good) = check();
    assert!(is_good, "{said}");
    let own =
        "vendor = 'a'\nmodel = 'b'\nsource = 'c'\nregisters.level = { register = 'input:0', type = 'u16' }\n";
    fs::write(dir.join("sdm120.toml"), own).unwrap();
    let (said, is_good) = check();
    assert!(!is_good && said.contains("endpoints.d.modbus.only[0]") && said.contains("level"), "{said}");
    fs::write(dir.join("sdm120.toml"), own.replace("u16", "u17")).unwrap();
    let (said, is_good) = check();
    assert!(!is_good && said.contains("sdm120.toml: registers.level.type: there is no such type"), "{said}");
    // One that no device uses hinders nobody, and is told.
    fs::rename(dir.join("sdm120.toml"), dir.join("later.toml")).unwrap();
    let (said, is_good) = check();
    assert!(is_good && said.contains("later.toml: registers.level.type: there is no such type"), "{said}");
    let config = |device: &str| {
        Config::plain(&site, free_port())
            .no_uplink()
            .line("[adapters.modbus.line]\nhost = \"127.0.0.1:1\"\n[endpoints.d]\ntoken = \"T1\"")
            .line(&format!("[endpoints.d.modbus]\nunit = 1\n{device}"))
    };
    gateway.configure(&site, &config("profile = \"smd630\""));
    let (said, is_good) = check();
    assert!(!is_good && said.contains("there are sdm630, "), "{said}");
    println!("FIGURE profile check: faults of profiles are told by file and key");
}

#[test]
fn what_is_simulated_is_read_by_the_daemon_and_by_pymodbus() {
    let known = profile("sdm630");
    let known = known["resources"].as_array().unwrap();
    let site = Site::new();
    let tcp = Simulated::start(&["--profile", "sdm630", "--tcp", "127.0.0.1:0", "--unit", "1"]);
    let path = site.path("tty");
    let pty = Simulated::start(&["--profile", "sdm630", "--pty", path.to_str().unwrap()]);
    for (adapter, period) in
        [(format!("host = {:?}", tcp.address()), "1s"), (format!("port = {path:?}\nbaud = 115200"), "2s")]
    {
        let site = Site::new();
        let mut gateway = daemon(&site, &adapter, &format!("profile = \"sdm630\"\nperiod = {period:?}"));
        gateway.start();
        let read = values(&mut gateway, known.len());
        for entry in known {
            let value = &read[entry["resource"].as_str().unwrap()];
            let range = match entry["unit"].as_str() {
                Some("V") => 220.0..=410.0,
                Some("Hz") => 49.9..=50.1,
                Some("kWh" | "kVAh" | "kvarh" | "Ah") => 1_000.0..=2_000.0,
                _ => 0.0..=2_000.0,
            };
            let plausible = value["value"].as_f64().is_some_and(|value| range.contains(&value));
            assert!(plausible && value["quality"] == "good", "{value}");
        }
        let first = read["voltage_l1"]["value"].clone();
        until("a value moves", PATIENCE, || {
            let read = gateway.ask(&["read", "d", "voltage_l1"])?;
            (read["values"][0]["value"] != first).then_some(())
        });
        assert!(gateway.terminate().success());
    }
    let registers: Vec<u64> = known
        .iter()
        .map(|entry| entry["register"].as_str().unwrap()["input:".len()..].parse().unwrap())
        .collect();
    let port = tcp.address().rsplit(':').next().unwrap().to_owned();
    let arguments = ["read", "--port", &port, "--registers", &json!(registers).to_string()];
    let client = Python::start(&site, "modbus_profiles.py", &arguments);
    let said: Value = serde_json::from_str(&client.ready).unwrap();
    assert_eq!(said["values"].as_object().unwrap().len(), registers.len());
    assert!((220.0..240.0).contains(&said["values"]["0"].as_f64().unwrap()), "{said}");
    assert_eq!((&said["who"]["0"], &said["who"]["5"]), (&json!("Eastron"), &json!("SDM630")));
    println!("FIGURE simulate: {} values over TCP and a pseudo-terminal, and by pymodbus", known.len());
    assert!(tcp.interrupt() && pty.interrupt(), "Ctrl-C is a clean end");
    assert!(!path.is_symlink(), "the path of the pseudo-terminal is left behind");
}
