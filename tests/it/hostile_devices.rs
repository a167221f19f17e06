//! Names and values that would steer a terminal, forge a line or never end, from devices, from the configuration and
//! from whoever types: harmless in every command, for people and for scripts, and in the journal.

use crate::{
    gateway::{Config, Gateway, binary},
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, until},
};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::ffi::OsStrExt as _,
    process::{Command, Stdio},
};

/// A terminal's title, a forged line, writing from right to left, an escape of one byte in C1.
const TITLE: &str = "\u{1b}]0;x\u{7}";
const IMAGE: &str = "<img src=x onerror=alert(1)>";
const FORGED: &str = "a\nlevel=ERROR forged \u{202e}gnitirw\u{2066} \u{9b}2J\u{7f}\u{2028}";

/// What was said, and where.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, place: &str, text: impl Into<String>) {
        self.0.push((place.to_owned(), text.into()));
    }

    /// Runs a command as it is typed, with whatever bytes.
    fn run(&mut self, place: &str, arguments: &[&OsStr]) -> String {
        let output = Command::new(binary()).args(arguments).stdin(Stdio::null()).output().unwrap();
        // Not even what is no text gets through.
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect(place);
        self.add(place, text.clone());
        text
    }

    fn assert_harmless(&self) {
        for (place, text) in &self.0 {
            let steers = |c: &char| *c != '\n' && adapter_api::steers(*c);
            assert_eq!(text.chars().find(steers), None, "{place}: {text:?}");
            let forged = text.lines().find(|line| line.trim_start().starts_with("level=ERROR"));
            assert_eq!(forged, None, "{place}: {text}");
            assert!(place.ends_with("JSON") || text.lines().all(|line| line.len() < 20_000), "{place}");
        }
    }

    fn assert_reached(&self, place: &str, text: &str) {
        let reached = self.0.iter().any(|(from, said)| from.starts_with(place) && said.contains(text));
        assert!(reached, "{place} says nothing of {text:?}: the test does not reach it: {:?}", self.0);
    }
}

fn words<'a>(words: &[&'a str]) -> Vec<&'a OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

#[test]
fn values_and_resources_of_hostile_devices_are_shown_escaped_and_short() {
    let site = Site::new();
    let port = free_port();
    // Nobody listens there.
    let mut gateway = Gateway::new(&site, &Config::plain(&site, free_port()).pushed(6, port), 1);
    gateway.environment("TIDEGATE_LOG", "trace");
    gateway.start();
    let mut pusher = Pusher::connect(port);
    let mut said = Said::default();
    let mut tails: Vec<_> = [&["tail"][..], &["tail", "--json"]].map(|tail| gateway.begin(tail)).into();
    let mut heard: Vec<_> =
        tails.iter_mut().map(|tail| BufReader::new(tail.stdout.take().unwrap())).collect();
    // They listen from some moment on.
    std::thread::scope(|scope| {
        let first: Vec<_> = heard
            .iter_mut()
            .map(|lines| scope.spawn(move || lines.read_line(&mut String::new()).unwrap()))
            .collect();
        let mut number = 100;
        until("both listen", PATIENCE, || {
            number += 1;
            pusher.push("p6", &number.to_string());
            first.iter().all(|listening| listening.is_finished()).then_some(())
        });
    });
    // Of the readings of one sample the first by name is shown at a glance.
    let right_to_left = format!("a\u{202e}gnitirw{IMAGE}");
    assert!(pusher.push_text("p1", 1, "text", TITLE.as_bytes()));
    assert!(pusher.push_text("p2", 1, IMAGE, IMAGE.as_bytes()));
    assert!(pusher.push_text("p3", 1, &right_to_left, FORGED.as_bytes()));
    assert!(pusher.push_text("p4", 1, "text", b"\xff\xfe\x1b]0;x\x07\xc3("));
    assert!(pusher.push_text("p5", 1, "text", "\u{1b}[2J".repeat(15_000).as_bytes()), "almost 64 KiB");
    assert!(!pusher.push_text("p6", 1, "text", &[b'x'; 65_536]), "larger than a sample may be");
    for command in ["status", "queue", "endpoints", "read p1", "read p2", "read p3", "read p4", "read p5"] {
        let command: Vec<&str> = command.split(' ').collect();
        said.add(command[0], gateway.say(&command).0);
        let json = gateway.say(&[&command[..], &["--json"]].concat()).0;
        serde_json::from_str::<Value>(&json).unwrap();
        said.add("JSON", json);
    }
    assert!(gateway.terminate().success());
    for (place, (tail, mut lines)) in ["tail", "tail JSON"].into_iter().zip(tails.iter_mut().zip(heard)) {
        let mut text = String::new();
        lines.read_to_string(&mut text).unwrap();
        said.add(place, text);
        assert!(tail.wait().unwrap().success());
    }
    said.add("journal", gateway.journal());
    said.assert_harmless();
    for place in ["tail", "read"] {
        for shown in ["\\u{1b}]0;x\\u{7}", "\\u{a}level=ERROR", "\\u{202e}gnitirw", IMAGE, "60000 bytes"] {
            said.assert_reached(place, shown);
        }
    }
    said.assert_reached("endpoints", "\\u{202e}gnitirw");
    said.assert_reached("tail", "p6  REFUSED 1 samples: larger than store.max_sample_bytes");
}

#[test]
fn hostile_names_in_a_configuration_and_on_the_command_line_steer_nothing() {
    let site = Site::new();
    let port = free_port();
    let mut gateway = Gateway::new(&site, &Config::plain(&site, free_port()).pushed(1, port), 1);
    gateway.start();
    gateway.status();
    let socket = site.path("control.sock");
    let socket = socket.to_str().unwrap();
    let mut said = Said::default();
    let long = "x".repeat(65_536);
    let broken = OsStr::from_bytes(b"\xff\x1b]0;x\x07");
    for name in [TITLE, IMAGE, FORGED, "../../etc/passwd", "%00%1b", &long] {
        for command in [
            &["read", name][..],
            &["read", "p1", name],
            &["tail", name],
            &["endpoints", name],
            &["queue", "requeue", "--endpoint", name],
            &["queue", "discard", "--yes", "--endpoint", name],
            &["queue", "discard", "--yes", "--orphaned", name],
        ] {
            for json in [&[][..], &["--json"]] {
                let typed = [command, &["--socket", socket], json].concat();
                said.run("named", &words(&typed));
            }
        }
        for command in [&["status", "--socket", name][..], &["status", "-c", name], &["check", name]] {
            if !name.contains(&long) {
                said.run("path", &words(command));
            }
        }
        said.run("path JSON", &words(&["check", "--json", name]));
    }
    for command in [&["read"][..], &["endpoints"], &["check"], &["status", "-c"], &["queue", "requeue"]] {
        let typed: Vec<&OsStr> = words(command).into_iter().chain([broken]).collect();
        said.run("no text", &typed);
    }
    // As names in a file: of endpoints, adapters, kinds, keys and files.
    let quoted = |text: &str| Value::from(text).to_string().replace("\\u009b", "\u{9b}");
    for name in [TITLE, IMAGE, "a\nlevel=ERROR \u{202e}x", &long] {
        let name = quoted(name);
        let file = site.path("hostile.toml");
        fs::write(
            &file,
            format!(
                "{name} = 1\n[gateway]\nstate_dir = {name}\n{name} = 1\n[uplink]\nkind = {name}\nurls = [{name}]\n\
                 [uplink.tls]\nca_file = {name}\n[adapters.modbus.{name}]\nhost = {name}\n[adapters.{name}.x]\n\
                 [endpoints.{name}]\ntoken = {name}\nadapter = {name}\n[endpoints.{name}.modbus]\nunit = 1\nprofile = {name}\n\
                 [endpoints.a]\ntoken_file = {name}\n[endpoints.a.modbus]\nunit = 1\n[endpoints.a.modbus.resources]\n\
                 {name} = {{ register = {name}, type = {name} }}\n",
            ),
        )
        .unwrap();
        let file = file.to_str().unwrap();
        said.run("checked", &words(&["check", file]));
        said.run("checked JSON", &words(&["check", "--json", file]));
        said.run("run", &words(&["run", "-c", file]));
    }
    fs::write(site.path("hostile.toml"), b"[gateway]\nstate_dir = \"\xff\x1b]0;x\x07\"\n").unwrap();
    said.run("checked", &words(&["check", site.path("hostile.toml").to_str().unwrap()]));
    gateway.assert_alive();
    assert!(gateway.terminate().success());
    said.add("journal", gateway.journal());
    said.assert_harmless();
    said.assert_reached("named", "\\u{1b}]0;x\\u{7}");
    said.assert_reached("path", "\\u{1b}]0;x\\u{7}");
    said.assert_reached("checked", "\\u{1b}]0;x\\u{7}");
    said.assert_reached("checked", "not UTF-8 text");
}
