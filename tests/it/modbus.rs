//! Modbus over every wire: a device on pymodbus, and one on libmodbus, with a value of every type, function
//! code and order, read through the daemon over TCP, RTU and ASCII, on sockets and on pseudo-terminals.

use crate::{
    gateway::{Config, Gateway},
    peers::Python,
    site::{PATIENCE, Pty, Site, free_port, until},
};
use serde_json::Value;
use std::fmt::Write as _;

/// Every value of the device is what the daemon reads.
fn check_all_types(wire: &str) {
    check_all_types_of("modbus_types.py", wire);
}

fn check_all_types_of(script: &str, wire: &str) {
    let site = Site::new();
    let pty = matches!(wire, "rtu" | "ascii").then(|| Pty::new(&site));
    let mut arguments = vec!["--wire", wire];
    if let Some(pty) = &pty {
        arguments.extend(["--pty", pty.theirs.to_str().unwrap()]);
    }
    let device = Python::start(&site, script, &arguments);
    let (port, table) = device.ready.split_once(' ').unwrap();
    let table: Vec<Value> = serde_json::from_str(table).unwrap();
    let framing = wire.trim_end_matches("-over-tcp");
    let mut config = Config::plain(&site, free_port()).no_uplink().line("[adapters.modbus.line]");
    config = match &pty {
        Some(pty) => config
            .line(&format!("port = {:?}\nframing = {framing:?}\nbaud = 19200\nparity = \"none\"", pty.ours))
            .line("stop_bits = 1\ndata_bits = 8"),
        None => config.line(&format!("host = \"127.0.0.1:{port}\"\nframing = {framing:?}")),
    };
    let mut resources = "[endpoints.all]\ntoken = \"T1\"\n[endpoints.all.modbus]\nunit = 1\n\
                         [endpoints.all.modbus.resources]\n"
        .to_owned();
    for entry in &table {
        writeln!(resources, "{} = {}", entry["resource"].as_str().unwrap(), inline(&entry["keys"])).unwrap();
    }
    let mut gateway = Gateway::new(&site, &config.line(&resources), 1);
    let (said, good) = gateway.check();
    assert!(good, "{said}");
    gateway.start();
    let read = until("everything is read", PATIENCE, || {
        gateway.assert_alive();
        gateway.ask(&["read", "all"]).filter(|r| r["values"].as_array().map(Vec::len) == Some(table.len()))
    });
    let values = read["values"].as_array().unwrap();
    let mut wrong = Vec::new();
    for entry in &table {
        let got = values.iter().find(|value| value["resource"] == entry["resource"]).unwrap();
        let quality = if entry["value"].is_null() { "bad" } else { "good" };
        if !same(&got["value"], &entry["value"]) || got["quality"] != quality {
            wrong.push(format!("{entry} was read as {got}"));
        }
    }
    assert!(wrong.is_empty(), "{wire}: {wrong:#?}");
    let wires = &gateway.status()["units"][0]["wires"];
    let busy = wires.as_object().unwrap().values().filter(|load| load["busy"].as_f64() > Some(0.0)).count();
    assert_eq!(busy, usize::from(wire != "tcp"), "{wire}: the load of a line, and of a line only: {wires}");
    println!("FIGURE {script} {wire}: {} values of all types, functions and orders are equal", table.len());
    assert!(gateway.terminate().success());
}

/// A JSON object as an inline table of TOML.
fn inline(keys: &Value) -> String {
    match keys {
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{key:?} = {}", inline(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        other => other.to_string(),
    }
}

/// Whole numbers exactly, others as the nearest double.
fn same(got: &Value, wanted: &Value) -> bool {
    got == wanted || (wanted.is_f64() && got.as_f64() == wanted.as_f64())
}

#[test]
fn every_type_over_tcp() {
    check_all_types("tcp");
}

#[test]
fn every_type_over_rtu() {
    check_all_types("rtu");
}

#[test]
fn every_type_over_ascii() {
    check_all_types("ascii");
}

#[test]
fn every_type_over_converters() {
    check_all_types("rtu-over-tcp");
    check_all_types("ascii-over-tcp");
}

#[test]
fn every_type_of_libmodbus() {
    check_all_types_of("modbus_lib.py", "tcp");
    check_all_types_of("modbus_lib.py", "rtu");
}
