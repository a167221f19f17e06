//! Faults besides those of the link: what is said at a start that cannot be, about a configuration
//! that is not taken, and by a platform that refuses.

use crate::{
    agreed::{assert_agreed, paragraphs},
    arrivals::Platform,
    gateway::{Config, Gateway},
    peers::{Broker, Slave},
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, until},
    stub::{Manners, Stub},
};
use rusqlite::Connection;
use serde_json::json;
use std::{fs, io::Write as _, net::TcpListener, process::Command};

#[test]
fn a_start_that_cannot_be_says_why() {
    let site = Site::new();
    let state = site.path("state");
    let config = Config::plain(&site, 1).pushed(1, free_port());
    let mut gateway = Gateway::new(&site, &config, 10);
    let database = state.join("tidegate.db");
    let sql = |text: &str| Connection::open(&database).unwrap().execute_batch(text).unwrap();

    sql("CREATE TABLE theirs(x)");
    gateway.start();
    assert_agreed("database of another program", &gateway.last_words());
    // "TDGT": ours.
    sql("PRAGMA application_id = 1413760852; PRAGMA user_version = 9000");
    gateway.start();
    assert_agreed("database newer", &gateway.last_words());
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "a file").unwrap();
    gateway.start();
    assert_agreed("state directory is a file", &gateway.last_words());
    fs::remove_file(&state).unwrap();

    let mut first = Gateway::new(&site, &config, 10);
    first.start();
    first.status();
    gateway.start();
    assert_agreed("another gateway runs", &gateway.last_words());
}

#[test]
fn a_configuration_that_is_not_taken_says_why() {
    let site = Site::new();
    let none = site.path("none");
    for (name, config) in [
        ("unknown key", Config::plain(&site, 1).line("formt = \"json\"").pushed(1, 1)),
        (
            "duplicate token",
            Config::plain(&site, 1).pushed(1, 1).line("[endpoints.q]\ntoken = \"TP1\"\n[endpoints.q.test]"),
        ),
        ("credential file missing", Config::plain(&site, 1).login("gateway-1", &none).pushed(1, 1)),
    ] {
        let gateway = Gateway::new(&site, &config, 10);
        let (said, good) = gateway.check();
        assert!(!good, "{said}");
        assert_agreed(name, &said);
    }
}

#[test]
fn a_platform_that_refuses_is_understood() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).set("probe_min", "20s").set("probe_max", "40s");
    let mut gateway = Gateway::new(&site, &config.pushed(3, port), 10);
    gateway.start();
    let mut pusher = Pusher::connect(port);
    gateway.until_up();
    for endpoint in ["p1", "p2", "p3"] {
        pusher.push(endpoint, "1");
    }
    gateway.until_drained();
    platform.rules(&json!({"refuse_tokens": {"TP1": 401}}));
    for endpoint in ["p1", "p2", "p3"] {
        pusher.push(endpoint, "2");
    }
    assert_agreed("token revoked", &gateway.until_fault("TG-154"));
    platform.rules(&json!({"refuse_all": 404}));
    for endpoint in ["p1", "p2", "p3"] {
        pusher.push(endpoint, "3");
    }
    assert_agreed("wrong application version", &gateway.until_fault("TG-151"));
    platform.rules(&json!({}));
    gateway.until_drained();
    gateway.until_status("all is well", |s| s["uplink"]["state"] == "up" && s["uplink"]["fault"].is_null());
}

#[test]
fn there_are_enough_agreements() {
    assert!(paragraphs().len() >= 50, "tests/data/faults.txt has lost some");
}

/// A Modbus device with one register, and no platform.
fn boiler(site: &Site, host: &str) -> Config {
    let table = format!(
        "[adapters.modbus.site]\nhost = \"{host}\"\ntimeout = \"5s\"\n\
         [endpoints.boiler]\ntoken = \"T1\"\n[endpoints.boiler.modbus]\n\
         [endpoints.boiler.modbus.resources]\nt = {{ register = \"holding:13\", type = \"u16\" }}"
    );
    Config::plain(site, 1).line(&table).no_uplink()
}

#[test]
fn what_a_device_does_wrong_is_told_and_mends_itself() {
    let site = Site::new();
    let mut slave = Slave::start(&site, 1, 20);
    let config = boiler(&site, &format!("127.0.0.1:{}", slave.port()));
    let mut gateway = Gateway::new(&site, &config, 10);
    gateway.start();
    let well = |gateway: &mut Gateway| {
        gateway.until_status("all is well", |s| {
            s["units"][0]["health"] == "up" && s["units"][0]["faults"] == json!([])
        });
    };
    // The journal looks a moment later than status, and at what still stands.
    let in_journal = |gateway: &Gateway, code: &str| {
        until("it is in the journal", PATIENCE, || {
            gateway.journal().contains(&format!("code=\"{code}\"")).then_some(())
        });
    };
    well(&mut gateway);
    for (mode, name, code) in
        [("silent", "unit silent", "TG-431"), ("stranger", "another unit answers", "TG-432")]
    {
        slave.mode(1, mode, 0);
        assert_agreed(name, &gateway.until_fault(code));
        assert_eq!(gateway.status()["units"][0]["devices"]["boiler"]["code"], code);
        in_journal(&gateway, code);
        slave.mode(1, "serve", 0);
        well(&mut gateway);
    }
    for (exception, name, code) in [
        (1, "Modbus exception 01", "TG-441"),
        (2, "Modbus exception 02", "TG-442"),
        (3, "Modbus exception 03", "TG-443"),
        (4, "Modbus exception 04", "TG-444"),
        (6, "Modbus exception 06", "TG-445"),
        (10, "Modbus exception 0A", "TG-433"),
        (11, "Modbus exception 0B", "TG-434"),
    ] {
        slave.refuse(1, exception);
        assert_agreed(name, &gateway.until_fault(code));
        if code == "TG-442" {
            in_journal(&gateway, code);
        }
        slave.mode(1, "serve", 0);
        well(&mut gateway);
    }
    slave.stop();
    assert_agreed("device refuses the connection", &gateway.until_fault("TG-401"));
    in_journal(&gateway, "TG-401");
    let journal = gateway.journal();
    for code in ["TG-401", "TG-431", "TG-442"] {
        let told = |line: &&str| line.contains(&format!("code=\"{code}\""));
        let line = journal.lines().find(told).unwrap_or_else(|| panic!("no {code} in the journal"));
        assert!(["what=", "where=", "cause=", "todo="].iter().all(|part| line.contains(part)), "{line}");
    }
    assert!(gateway.terminate().success());
}

#[test]
fn a_device_that_is_nowhere_or_says_too_much_is_told() {
    let site = Site::new();
    let mut gateway = Gateway::new(&site, &boiler(&site, "no-such-device.invalid"), 10);
    gateway.start();
    assert_agreed("device's name unknown", &gateway.until_fault("TG-404"));
    gateway.terminate();

    let slave = Slave::start(&site, 1, 20);
    let names = ["a", "b", "c"].map(|name| name.repeat(100));
    let lines: String = names
        .iter()
        .map(|name| format!("{name} = {{ register = \"holding:2\", type = \"u16\" }}\n"))
        .collect();
    let config = boiler(&site, &format!("127.0.0.1:{}", slave.port())).line(&lines);
    gateway.configure(&site, &config.line("[store]\nmax_sample_bytes = 256"));
    gateway.start();
    assert_agreed("sample too large", &gateway.until_fault("TG-421"));
    gateway.terminate();

    let port = free_port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    gateway.configure(&site, &Config::plain(&site, 1).pushed(1, port));
    gateway.start();
    assert_agreed("a unit ends again and again", &gateway.until_fault("TG-213"));
}

#[test]
fn a_payload_that_is_too_large_is_told() {
    let site = Site::new();
    let stub = Stub::start(Manners::AtMost(20_000));
    let address = format!("mqtt://127.0.0.1:{}", stub.port());
    let port = free_port();
    let config = Config::plain(&site, 1).at(&[&address]).number("max_payload", 30_000).pushed(1, port);
    let mut gateway = Gateway::new(&site, &config, 10);
    gateway.start();
    let mut pusher = Pusher::connect(port);
    gateway.until_up();
    pusher.push_padded("p1", 1, 25_000);
    gateway.until_status("its endpoint is parked", |s| {
        s["uplink"]["parked"][0]["code"] == "TG-110" && s["uplink"]["state"] != "connecting"
    });
    assert_agreed("payload too large for the broker", &gateway.until_fault("TG-110"));
    stub.behave(Manners::Good);
    gateway.until_drained();
    pusher.push_padded("p1", 2, 40_000);
    assert_agreed("payload over uplink.max_payload", &gateway.until_fault("TG-156"));
    let (said, _) = gateway.say(&["queue", "--dead"]);
    assert!(said.contains("is over uplink.max_payload of 30000"), "{said}");
    let ledger = gateway.ledger();
    assert_eq!((ledger.landed, ledger.dead), (1, 1));
}

#[test]
fn an_endpoint_that_the_broker_hangs_up_on_mutes_no_other() {
    let site = Site::new();
    let stub = Stub::start(Manners::Forbids("site/p1/telemetry"));
    let address = format!("mqtt://127.0.0.1:{}", stub.port());
    let port = free_port();
    let mut gateway = Gateway::new(&site, &Config::plain(&site, 1).at(&[&address]).pushed(3, port), 10);
    gateway.start();
    let mut pusher = Pusher::connect(port);
    gateway.until_up();
    for endpoint in ["p1", "p2", "p3"] {
        pusher.push(endpoint, "1-20");
    }
    gateway.until_status("the others are delivered, and it is parked", |s| {
        let parked = &s["uplink"]["parked"];
        s["ledger"]["landed"] == 40 && parked[0]["endpoint"] == "p1" && parked[0]["code"] == "TG-110"
    });
    until("the journal tells it", PATIENCE, || gateway.journal().contains("code=\"TG-110\"").then_some(()));
    // They are not held up by its probes either.
    for endpoint in ["p2", "p3"] {
        pusher.push(endpoint, "21-40");
    }
    gateway.until_status("the others are delivered", |s| s["ledger"]["landed"] == 80);
    stub.behave(Manners::Good);
    gateway.until_drained();
    let ledger = gateway.ledger();
    assert_eq!((ledger.landed, ledger.dead), (100, 0));
    gateway.until_status("all is well", |s| {
        s["uplink"]["parked"] == json!([]) && s["uplink"]["fault"].is_null() && s["uplink"]["state"] == "up"
    });
    assert!(gateway.terminate().success());
}

#[test]
fn a_database_that_is_locked_is_told() {
    let site = Site::new();
    let slave = Slave::start(&site, 1, 20);
    let config = Config::plain(&site, 1).meters(1, slave.port());
    let mut gateway = Gateway::new(&site, &config, 10);
    gateway.start();
    gateway.until_status("something is queued", |s| s["ledger"]["queued"].as_u64() > Some(0));
    let tool = Connection::open(site.path("state/tidegate.db")).unwrap();
    tool.busy_timeout(PATIENCE).unwrap();
    tool.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_agreed("database locked", &gateway.until_fault("TG-207"));
    tool.execute_batch("ROLLBACK").unwrap();
    gateway.until_status("it goes on", |s| s["faults"] == json!([]));
    assert!(gateway.terminate().success());
}

/// Started so, a gateway has a file system of its own under its state directory; `more` is done to it first.
fn on_tmpfs(site: &Site, more: &str) -> Option<String> {
    let can = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status();
    if !can.is_ok_and(|status| status.success()) {
        println!("SKIPPED full and read-only disk: nothing can be mounted here");
        return None;
    }
    let state = site.path("state");
    Some(format!(
        "mount -t tmpfs -o size=16m tmpfs {state} && cd {state} && {{ {more}; }} && exec \"$0\" \"$@\"",
        state = state.display()
    ))
}

#[test]
fn a_disk_that_is_full_or_read_only_is_told() {
    let site = Site::new();
    let port = free_port();
    let config = Config::plain(&site, 1).pushed(1, port);
    let mut gateway = Gateway::new(&site, &config, 10);
    for (more, name) in [
        ("mount -o remount,ro .; cd /", "read-only file system at the start"),
        ("cat /dev/zero > ballast 2>/dev/null || cd /", "disk full at the start"),
    ] {
        let Some(line) = on_tmpfs(&site, more) else { return };
        gateway.started_by(&["unshare", "--mount", "sh", "-c", &line]);
        gateway.start();
        assert_agreed(name, &gateway.last_words());
    }
    let Some(line) = on_tmpfs(&site, "cd /") else { return };
    gateway.started_by(&["unshare", "--mount", "sh", "-c", &line]);
    gateway.start();
    let mut pusher = Pusher::connect(port);
    pusher.push("p1", "1");
    // As it sees it: the mount is its own.
    let state = gateway.root().join(site.path("state").strip_prefix("/").unwrap());
    let mut ballast = fs::OpenOptions::new().create(true).append(true).open(state.join("ballast")).unwrap();
    let mut number = 1;
    gateway.until_status("nothing more can be written", |status| {
        // Again and again: it gives up its reserve.
        while ballast.write_all(&[7; 4_096]).is_ok() {}
        number += 1;
        pusher.try_push("p1", &number.to_string());
        status["faults"].as_array().is_some_and(|faults| faults.iter().any(|fault| fault["code"] == "TG-206"))
    });
    assert_agreed("disk full", &gateway.until_fault("TG-206"));
    ballast.set_len(0).unwrap();
    gateway.until_status("it goes on", |status| {
        number += 1;
        pusher.try_push("p1", &number.to_string());
        status["faults"] == json!([])
    });
    assert!(gateway.terminate().success());
}

#[test]
fn certificates_that_are_none_are_found_by_check() {
    let site = Site::new();
    let other = site.identity("other");
    let (old, new) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let good = Config::plain(&site, 1).pushed(1, 1);
    let gateway = Gateway::new(&site, &good, 10);
    let own = |name: &str| fs::read(site.path(name)).unwrap();
    let kept = (own("gateway.pem"), own("gateway.key"), own("ca.pem"));
    for (name, file, content) in [
        ("certificate file is none", "gateway.pem", b"not a certificate".to_vec()),
        ("key file is none", "gateway.key", kept.0.clone()),
        ("key file of another certificate", "gateway.key", fs::read(&other.key).unwrap()),
        ("file of authorities is none", "ca.pem", kept.1.clone()),
    ] {
        fs::write(site.path(file), content).unwrap();
        let (said, taken) = gateway.check();
        assert!(!taken, "{name}: {said}");
        assert_agreed(name, &said);
        for (file, content) in [("gateway.pem", &kept.0), ("gateway.key", &kept.1), ("ca.pem", &kept.2)] {
            fs::write(site.path(file), content).unwrap();
        }
    }
    let (said, taken) = gateway.check();
    assert!(taken && said.contains("good, 0 warnings"), "{said}");
    site.identity_for("gateway", "localhost", |params| (params.not_before, params.not_after) = (old, new));
    let (said, taken) = gateway.check();
    assert!(
        taken && said.contains("warning[TG-308]: uplink.tls.cert_file: the certificate expired "),
        "{said}"
    );
}
