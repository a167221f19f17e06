//! Hot reload: edit after edit of the file of a running daemon, each with exactly the restarts it needs, while one
//! endpoint that nothing is done to pushes numbers all the time, of which every one arrives.

use crate::{
    arrivals::Platform,
    gateway::{CLIENT_ID, Config, Gateway},
    peers::{Broker, Slave},
    pusher::{Pusher, Witness},
    site::{PATIENCE, Site, free_port, until},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Write as _,
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// The file in the making.
#[derive(Clone)]
struct File {
    state_dir: PathBuf,
    socket: PathBuf,
    log: String,
    store: String,
    uplink: String,
    tls: String,
    adapters: BTreeMap<&'static str, String>,
    endpoints: BTreeMap<&'static str, String>,
}

impl File {
    fn text(&self) -> String {
        let Self { state_dir, socket, log, store, uplink, tls, adapters, endpoints } = self;
        let mut text = format!(
            "[gateway]\nstate_dir = {state_dir:?}\ncontrol_socket = {socket:?}\n[clock]\ntrust = \"always\"\n[log]\n{log}\n\
             [store]\n{store}\n[uplink]\nkind = \"kaa\"\nclient_id = \"{CLIENT_ID}\"\n{uplink}\n[uplink.tls]\n{tls}\n\
             [uplink.kaa]\napp_version = \"demo-v1\"\n"
        );
        for (name, table) in adapters {
            writeln!(text, "[adapters.{name}]\n{table}").unwrap();
        }
        for (name, table) in endpoints {
            writeln!(text, "[endpoints.{name}]\n{table}").unwrap();
        }
        text
    }
}

/// What restarts count: each adapter's starts, the uplink's, and the connections the broker has seen.
type Counts = BTreeMap<String, u64>;

/// A daemon whose file is edited.
struct Bench {
    site: Site,
    broker: Broker,
    platform: Platform,
    gateway: Gateway,
    file: File,
    path: PathBuf,
    push: u16,
}

impl Bench {
    fn new() -> Self {
        let site = Site::new();
        let broker = Broker::start(&site, true);
        let platform = Platform::start(&site, broker.port());
        let push = free_port();
        let identity = site.identity("gateway");
        // A file of its own: its content changes.
        fs::copy(&identity.ca, site.path("uplink-ca.pem")).unwrap();
        let gateway = Gateway::new(&site, &Config::kaa(&site, broker.port()), 1);
        let file = File {
            state_dir: site.path("state"),
            socket: site.path("control.sock"),
            log: "level = \"info\"".to_owned(),
            store: String::new(),
            uplink: format!("urls = [\"mqtts://localhost:{}\"]", broker.port()),
            tls: format!(
                "ca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}",
                site.path("uplink-ca.pem"),
                identity.cert,
                identity.key
            ),
            adapters: [("test.push", format!("listen = \"127.0.0.1:{push}\""))].into(),
            endpoints: [("p1", pushed("TP1")), ("p2", pushed("TP2"))].into(),
        };
        let path = site.path("tidegate.toml");
        fs::write(&path, file.text()).unwrap();
        Self { site, broker, platform, gateway, file, path, push }
    }

    fn counts(&mut self) -> Counts {
        let status = self.gateway.status();
        let units = status["units"].as_array().unwrap();
        let mut counts: Counts = units
            .iter()
            .map(|unit| (unit["name"].as_str().unwrap().to_owned(), unit["starts"].as_u64().unwrap()))
            .collect();
        counts.insert("uplink".to_owned(), status["uplink"]["starts"].as_u64().unwrap());
        counts.insert("connections".to_owned(), self.broker.connects(CLIENT_ID) as u64);
        counts
    }

    fn loads(&mut self) -> u64 {
        self.gateway.status()["configuration"]["loads"].as_u64().unwrap()
    }

    /// Does something to the file, waits until it is in force, and looks at what was started for it since.
    fn edit(&mut self, what: &str, edit: impl FnOnce(&mut Self), expected: &[(&str, u64)]) {
        println!("edit: {what}");
        let (before, loads) = (self.counts(), self.loads());
        edit(self);
        self.gateway.until_status(&format!("it is in force: {what}"), |status| {
            status["configuration"]["loads"].as_u64() > Some(loads)
                && status["configuration"]["fault"].is_null()
                && status["uplink"]["state"] == "up"
                && status["uplink"]["subscribing"] == false
        });
        self.compare(what, &before, expected);
        assert_eq!(self.loads(), loads + 1, "{what}: it is taken once");
    }

    /// As before, but for what is expected: so many more, or 0 for what is no more.
    fn compare(&mut self, what: &str, before: &Counts, expected: &[(&str, u64)]) {
        let mut wanted = before.clone();
        for (name, more) in expected {
            match more {
                0 => drop(wanted.remove(*name)),
                more => *wanted.entry((*name).to_owned()).or_default() += more,
            }
        }
        // A connection is there before the broker has written it down, and a thread before it counts.
        let now = until(&format!("{what}: {wanted:?}"), PATIENCE, || {
            let now = self.counts();
            (now == wanted || expected.is_empty()).then_some(now)
        });
        assert_eq!(now, wanted, "{what}");
    }

    fn write(&self) {
        fs::write(&self.path, self.file.text()).unwrap();
    }

    /// Everything that was pushed to this token's endpoint has come to the platform.
    fn until_accepted(&mut self, token: &str, number: u64) {
        let wanted = |platform: &mut Platform| {
            let arrivals = platform.arrivals();
            arrivals.numbers().get(token).is_some_and(|numbers| numbers.contains(&number)).then_some(())
        };
        until(&format!("{number} of {token} is there"), PATIENCE, || wanted(&mut self.platform));
    }

    /// Lanes with rows, by endpoint: how many, and what they are doing.
    fn queued(&self, endpoint: &str) -> Option<(u64, String)> {
        let queue = self.gateway.ask(&["queue"])?;
        let lanes = queue["lanes"].as_array()?.clone();
        let lane = lanes.into_iter().find(|lane| lane["endpoint"] == endpoint && lane["queued"] != 0)?;
        Some((lane["queued"].as_u64()?, lane["state"].as_str()?.to_owned()))
    }
}

fn pushed(token: &str) -> String {
    format!("token = \"{token}\"\nadapter = \"push\"\ntest = {{}}")
}

fn meter(token: &str, adapter: &str, period: &str) -> String {
    format!(
        "token = \"{token}\"\nadapter = \"{adapter}\"\nmodbus = {{ unit = 1, period = \"{period}\", resources = \
         {{ seq = {{ register = \"holding:0\", type = \"u32\" }} }} }}"
    )
}

fn modbus(port: u16, timeout: &str) -> String {
    format!("host = \"127.0.0.1:{port}\"\ntimeout = \"{timeout}\"")
}

/// By a rename, as editors do.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn only_what_changed_restarts_and_untouched_endpoints_lose_nothing() {
    let mut bench = Bench::new();
    bench.gateway.start();
    bench.gateway.until_up();
    let witness = Witness::start(bench.push, vec!["p1".to_owned()]);
    let mut other = Pusher::connect(bench.push);
    let (first, second) = (Slave::start(&bench.site, 1, 4), Slave::start(&bench.site, 1, 4));

    endpoints_come_and_go(&mut bench, &mut other);
    adapters_come_and_go(&mut bench, first.port(), second.port());
    the_uplink_alone_restarts(&mut bench, &mut other);
    what_is_not_taken_changes_nothing(&mut bench);
    however_it_is_replaced(&mut bench, &mut other);
    the_journal_tells_as_much_as_is_wanted(&mut bench);

    let witnessed = witness.stop();
    assert!(witnessed.refused.is_empty(), "{:?}", witnessed.refused);
    let numbers = &witnessed.acknowledged["p1"];
    let last = *numbers.last().unwrap();
    assert_eq!(*numbers, (1..=last).collect::<Vec<_>>(), "its connection was never cut");
    bench.until_accepted("TP1", last);
    let arrivals = bench.platform.arrivals();
    arrivals.assert_exactly("TP1", 1..=last);
    println!("FIGURE reload: {last} numbers of an untouched endpoint arrived, {} twice", arrivals.resent);
    // What a device had queued when it left stays, orphaned.
    until("what the others had queued has gone", PATIENCE, || {
        ["p1", "p2"].iter().all(|name| bench.gateway.outbox_rows_of(name) == 0).then_some(())
    });
    bench.gateway.ledger();
    assert!(bench.gateway.terminate().success());
}

fn endpoints_come_and_go(bench: &mut Bench, other: &mut Pusher) {
    let added = |bench: &mut Bench| {
        bench.file.endpoints.insert("p3", pushed("TP3"));
        bench.write();
    };
    bench.edit("an endpoint is added", added, &[]);
    other.push("p3", "1");
    bench.until_accepted("TP3", 1);

    // What is queued of one that leaves waits for it.
    bench.platform.rules(&json!({ "refuse_tokens": { "TP3": 404 } }));
    other.push("p3", "2");
    other.push("p3", "3");
    let removed = |bench: &mut Bench| {
        bench.file.endpoints.remove("p3");
        bench.write();
    };
    bench.edit("an endpoint is removed", removed, &[]);
    assert!(!other.try_push("p3", "99"), "it is unknown");
    assert_eq!(bench.queued("p3"), Some((2, "orphaned".to_owned())));
    bench.platform.rules(&json!({}));
    bench.edit("it comes back", added, &[]);
    bench.until_accepted("TP3", 3);

    bench.platform.rules(&json!({ "refuse_tokens": { "TP3": 404 } }));
    other.push("p3", "4");
    // It is parked now, and would wait for its probe.
    until("p3 is parked", PATIENCE, || bench.queued("p3").filter(|(_, state)| state == "parked"));
    bench.platform.rules(&json!({}));
    let renamed = |bench: &mut Bench| {
        bench.file.endpoints.remove("p3");
        bench.file.endpoints.insert("p4", format!("formerly = \"p3\"\n{}", pushed("TP3")));
        bench.write();
    };
    bench.edit("it is called otherwise", renamed, &[]);
    assert_eq!(bench.queued("p3"), None);
    other.push("p4", "5");
    other.push("p3", "6");
    bench.until_accepted("TP3", 6);

    let retokened = |bench: &mut Bench| {
        bench.file.endpoints.insert("p4", format!("formerly = \"p3\"\n{}", pushed("TP4")));
        bench.write();
    };
    bench.edit("it has another token", retokened, &[]);
    other.push("p4", "7");
    bench.until_accepted("TP4", 7);

    let limited = |bench: &mut Bench| {
        bench.file.endpoints.insert("p2", pushed("TP2") + "\nquota.samples_per_s = 1");
        bench.write();
    };
    bench.edit("one has a quota", limited, &[]);
    let refused = (1..=20).filter(|n: &u64| !other.try_push("p2", &n.to_string())).count();
    assert!(refused >= 9, "{refused} of 20 refused");
    let free = |bench: &mut Bench| {
        bench.file.endpoints.insert("p2", pushed("TP2") + "\nreport.on_change = true");
        bench.write();
    };
    bench.edit("it has a report rule in its place", free, &[]);
    other.push("p2", "21");
    other.push("p2", "21");

    // By command, beside the file.
    let before = bench.counts();
    let (said, good) = bench.gateway.say(&["endpoint", "disable", "p2"]);
    assert!(good && said.contains("p2 disabled"), "{said}");
    assert_eq!(bench.gateway.status()["configuration"]["disabled"], json!(["p2"]));
    other.push("p2", "22");
    let (said, good) = bench.gateway.say(&["endpoint", "disable", "nobody"]);
    assert!(!good && said.contains("no endpoint nobody"), "{said}");
    let (said, good) = bench.gateway.say(&["endpoint", "enable", "p2"]);
    assert!(good && said.contains("p2 enabled"), "{said}");
    bench.compare("disabled and enabled", &before, &[]);
    other.push("p2", "23");
    bench.until_accepted("TP2", 23);
    assert!(!bench.platform.arrivals().numbers()["TP2"].contains(&22), "it was disabled");
    let who = format!("uid {}, ", rustix::process::getuid().as_raw());
    let written_down = |line: &str| line.contains(&who) && line.contains("/v1/endpoint/p2/disable");
    assert!(bench.gateway.journal().lines().any(written_down), "who asked is written down");
}

fn adapters_come_and_go(bench: &mut Bench, first: u16, second: u16) {
    let added = |bench: &mut Bench| {
        bench.file.adapters.insert("modbus.hall", modbus(first, "5s"));
        bench.file.endpoints.insert("m1", meter("TM1", "hall", "200ms"));
        bench.write();
    };
    bench.edit("an adapter is added", added, &[("modbus.hall", 1)]);
    bench.until_accepted("TM1", 3);
    let period = |bench: &mut Bench| {
        bench.file.endpoints.insert("m1", meter("TM1", "hall", "300ms"));
        bench.write();
    };
    bench.edit("a device is read less often", period, &[]);
    let timeout = |bench: &mut Bench| {
        bench.file.adapters.insert("modbus.hall", modbus(first, "6s"));
        bench.write();
    };
    bench.edit("an adapter has another timeout", timeout, &[("modbus.hall", 1)]);
    let port = |bench: &mut Bench| {
        bench.file.adapters.insert("modbus.hall", modbus(second, "6s"));
        bench.write();
    };
    bench.edit("its bus is elsewhere", port, &[("modbus.hall", 1)]);
    let moved = |bench: &mut Bench| {
        bench.file.adapters.insert("modbus.roof", modbus(first, "5s"));
        bench.file.endpoints.insert("m1", meter("TM1", "roof", "300ms"));
        bench.file.endpoints.insert("m2", meter("TM2", "hall", "300ms"));
        bench.write();
    };
    bench.edit("a device moves to a new adapter", moved, &[("modbus.roof", 1)]);
    bench.until_accepted("TM2", 30);
    let removed = |bench: &mut Bench| {
        for name in ["modbus.hall", "modbus.roof"] {
            bench.file.adapters.remove(name);
        }
        bench.file.endpoints.remove("m1");
        bench.file.endpoints.remove("m2");
        bench.write();
    };
    bench.edit("adapters are removed", removed, &[("modbus.hall", 0), ("modbus.roof", 0)]);
}

fn the_uplink_alone_restarts(bench: &mut Bench, other: &mut Pusher) {
    let restarted = [("uplink", 1), ("connections", 1)];
    let port = bench.broker.port();
    let address = |bench: &mut Bench| {
        bench.file.uplink = format!("urls = [\"mqtts://localhost:{port}\", \"mqtts://localhost:1\"]");
        bench.write();
    };
    let sent = |bench: &mut Bench| bench.gateway.status()["uplink"]["sent_bytes"].as_u64().unwrap();
    let before = sent(bench);
    bench.edit("the platform has another address", address, &restarted);
    assert!(before > 0 && sent(bench) > before, "bytes are counted over restarts");
    let authority = |bench: &mut Bench| {
        let ca = bench.site.path("uplink-ca.pem");
        let text = fs::read_to_string(&ca).unwrap();
        fs::write(&ca, format!("{text}# renewed\n")).unwrap();
    };
    bench.edit("the authorities' file has another content", authority, &restarted);
    let keep_alive = |bench: &mut Bench| {
        bench.file.uplink.push_str("\nkeep_alive = \"30s\"");
        bench.write();
    };
    bench.edit("another keep-alive", keep_alive, &restarted);
    other.push("p4", "8");
    bench.until_accepted("TP4", 8);
}

fn what_is_not_taken_changes_nothing(bench: &mut Bench) {
    let log = |bench: &mut Bench| {
        bench.file.log = "level = \"info\"\ntargets = { \"tidegate::uplink\" = \"debug\" }".to_owned();
        bench.write();
    };
    bench.edit("more is logged", log, &[]);
    let (state_dir, elsewhere) = (bench.file.state_dir.clone(), bench.site.path("elsewhere"));
    let moved = |bench: &mut Bench| {
        bench.file.state_dir = elsewhere.clone();
        bench.write();
    };
    bench.edit("another state directory", moved, &[]);
    let needs = bench.gateway.status()["configuration"]["needs_process_restart"].clone();
    assert_eq!(needs, json!(["gateway.state_dir"]));
    assert!(!elsewhere.exists());
    let back = |bench: &mut Bench| {
        bench.file.state_dir = state_dir;
        bench.write();
    };
    bench.edit("and back", back, &[]);
    assert_eq!(bench.gateway.status()["configuration"]["needs_process_restart"], json!([]));

    let (before, loads) = (bench.counts(), bench.loads());
    // Whoever asks finds the socket there.
    let gateway = format!("[gateway]\ncontrol_socket = {:?}\n", bench.file.socket);
    for (what, text) in [
        ("broken", "[uplink\nkind = \"kaa\"\ntoken = \"SECRET-17\""),
        ("empty", ""),
        ("misspelt", "[uplink]\nkind = \"kaa\"\nurlz = [\"SECRET-17\"]"),
    ] {
        replace(&bench.path, &format!("{gateway}{text}"));
        let (said, good) = bench.gateway.say(&["reload"]);
        assert!(!good && said.contains("tidegate.toml") && said.contains("error"), "{what}: {said}");
        let told = bench.gateway.until_fault("TG-309");
        assert!(told.contains("the changed file is not taken"), "{what}: {told}");
        assert!(!said.contains("SECRET-17") && !told.contains("SECRET-17"), "{what}");
        bench.compare(what, &before, &[]);
        assert_eq!(bench.loads(), loads, "{what}: what was there is in force");
    }
    let aged = |bench: &mut Bench| {
        bench.file.store = "max_age = \"7d\"".to_owned();
        replace(&bench.path, &bench.file.text());
    };
    bench.edit("replaced by a good file, in which old rows go", aged, &[]);
    assert!(!bench.gateway.journal().contains("SECRET-17"));
}

fn however_it_is_replaced(bench: &mut Bench, other: &mut Pusher) {
    // As Kubernetes mounts it: the file is a link through `..data`, which is swapped.
    let version = |bench: &Bench, name: &str| {
        let dir = bench.site.path(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("tidegate.toml"), bench.file.text()).unwrap();
    };
    let linked = |bench: &mut Bench| {
        bench.file.endpoints.insert("p5", pushed("TP5"));
        version(bench, "v1");
        symlink("v1", bench.site.path("..data")).unwrap();
        let beside = bench.site.path("link");
        symlink("..data/tidegate.toml", &beside).unwrap();
        fs::rename(beside, &bench.path).unwrap();
    };
    bench.edit("the file becomes a link", linked, &[]);
    let swapped = |bench: &mut Bench| {
        bench.file.endpoints.insert("p6", pushed("TP6"));
        version(bench, "v2");
        let beside = bench.site.path("..data_tmp");
        symlink("v2", &beside).unwrap();
        fs::rename(beside, bench.site.path("..data")).unwrap();
    };
    bench.edit("its directory is swapped", swapped, &[]);
    other.push("p6", "1");
    bench.until_accepted("TP6", 1);

    let asked = |bench: &mut Bench| {
        let answer = bench.gateway.ask(&["reload"]).expect("it answers");
        assert_eq!((&answer["applied"], &answer["words"]), (&json!(true), &json!("nothing changed")));
    };
    bench.edit("nothing changed, and it is asked to reload", asked, &[]);
    bench.edit("nothing changed, and SIGHUP", |bench| bench.gateway.hang_up(), &[]);
}

fn the_journal_tells_as_much_as_is_wanted(bench: &mut Bench) {
    let says = |bench: &Bench| bench.gateway.says("asked for on the control socket");
    let (said, good) = bench.gateway.say(&["log", "error"]);
    assert!(good && said.contains("level error"), "{said}");
    let before = says(bench);
    assert!(bench.gateway.say(&["log", "debug", "tidegate::store"]).1);
    assert_eq!(says(bench), before, "who asks is told at a lower level");
    assert!(!bench.gateway.say(&["log", "debug", "tidegate=trace"]).1, "no target");
    assert!(bench.gateway.say(&["reload"]).1);
    assert!(bench.gateway.say(&["log", "warn", "tidegate::store"]).1);
    assert_eq!(says(bench), before + 1, "a reload ends it");
}

#[test]
fn a_file_is_compared_before_it_is_taken() {
    let mut bench = Bench::new();
    let draft = bench.site.path("draft.toml");
    let mut file = bench.file.clone();
    file.endpoints.remove("p2");
    file.endpoints.insert("p9", pushed("SECRET-18"));
    file.adapters.insert("test.new", format!("listen = \"127.0.0.1:{}\"", free_port()));
    file.uplink.push_str("\nkeep_alive = \"30s\"");
    file.state_dir = bench.site.path("elsewhere");
    fs::write(&draft, file.text()).unwrap();
    let path = draft.to_str().unwrap();
    let (said, good) = bench.gateway.say(&["diff", path]);
    assert!(good && said.contains("no gateway answers"), "{said}");

    bench.gateway.start();
    bench.gateway.until_up();
    bench.platform.rules(&json!({ "refuse_tokens": { "TP2": 404 } }));
    let mut pusher = Pusher::connect(bench.push);
    (1..=3).for_each(|n| pusher.push("p2", &n.to_string()));
    let (said, good) = bench.gateway.say(&["diff", path]);
    assert!(good, "{said}");
    let expected = "start      test.new\nrestart    uplink: a new connection\nlive       endpoint p9: added\n\
                    live       endpoint p2: removed\n\
                    orphaned   3 queued samples of p2: kept, and sent when it comes back\n\
                    later      gateway.state_dir: with a restart of the process\n";
    assert_eq!(said, expected);
    let answer: Value = bench.gateway.ask(&["diff", path]).expect("JSON");
    assert_eq!((&answer["orphaned"], &answer["start"]), (&json!({ "p2": 3 }), &json!(["test.new"])));
    assert!(!answer.to_string().contains("SECRET-18"));
    let merged = format!("formerly = \"p2\"\n{}", pushed("TP1"));
    for (p1, p2, expected) in [
        (
            merged,
            None,
            "live       uplink: subscriptions, without a new connection\n\
             live       endpoint p2 becomes one with p1; what is queued of it goes first\n",
        ),
        (
            pushed("TP1"),
            Some(pushed("TP2") + "\ntenant = \"other\""),
            "live       uplink: subscriptions, without a new connection\n\
             live       endpoint p2: another token or tenant\n\
             orphaned   3 queued samples of p2: kept, and sent when it comes back\n",
        ),
    ] {
        let mut file = bench.file.clone();
        file.endpoints.insert("p1", p1);
        match p2 {
            Some(p2) => drop(file.endpoints.insert("p2", p2)),
            None => drop(file.endpoints.remove("p2")),
        }
        fs::write(&draft, file.text()).unwrap();
        let (said, good) = bench.gateway.say(&["diff", path]);
        assert!(good, "{said}");
        assert_eq!(said, expected);
    }
    let installed = bench.path.to_str().unwrap().to_owned();
    let (said, _) = bench.gateway.say(&["diff", &installed]);
    assert_eq!(said, "nothing    would change\n");
    fs::write(&draft, "nonsense").unwrap();
    let (said, good) = bench.gateway.say(&["diff", path]);
    assert!(!good && said.contains("draft.toml:1:"), "{said}");
    assert_eq!(bench.loads(), 1, "nothing was changed by it");
}

#[test]
fn what_is_disabled_stays_so_over_a_kill() {
    let mut bench = Bench::new();
    bench.gateway.start();
    bench.gateway.until_up();
    let (said, good) = bench.gateway.say(&["endpoint", "disable", "p2"]);
    assert!(good, "{said}");
    bench.gateway.kill();
    bench.gateway.start();
    bench.gateway.until_up();
    assert_eq!(bench.gateway.status()["configuration"]["disabled"], json!(["p2"]));
    let (said, _) = bench.gateway.say(&["status"]);
    assert!(said.contains("disabled by command: p2"), "{said}");
    let mut pusher = Pusher::connect(bench.push);
    assert!(!pusher.try_push("p2", "1") || bench.gateway.ledger().suppressed == 1, "nothing of it is kept");
    pusher.push("p1", "1");
    bench.until_accepted("TP1", 1);
    bench.file.endpoints.insert("p2", pushed("TP2") + "\nenabled = false");
    bench.edit("disabled in the file too", |bench| bench.write(), &[]);
    let (said, good) = bench.gateway.say(&["endpoint", "enable", "p2"]);
    assert!(!good && said.contains("enabled = false"), "the file goes before: {said}");
    bench.file.endpoints.remove("p2");
    bench.file.endpoints.insert("p7", format!("formerly = \"p2\"\n{}", pushed("TP2")));
    bench.file.state_dir = bench.site.path("elsewhere");
    bench.edit("called otherwise", |bench| bench.write(), &[]);
    let needs = json!(["gateway.state_dir"]);
    for (disabled, command) in [(json!(["p7"]), "enable"), (json!([]), "disable")] {
        let told = bench.gateway.status()["configuration"].clone();
        assert_eq!((&told["disabled"], &told["needs_process_restart"]), (&disabled, &needs));
        let (said, good) = bench.gateway.say(&["endpoint", command, "p7"]);
        assert!(good, "{said}");
    }
}

#[test]
fn the_platform_goes_and_comes_back_while_the_rest_runs() {
    let mut bench = Bench::new();
    bench.gateway.start();
    bench.gateway.until_up();
    let mut pusher = Pusher::connect(bench.push);
    pusher.push("p1", "1");
    bench.until_accepted("TP1", 1);
    fs::write(&bench.path, bench.file.text().replace("kind = \"kaa\"", "kind = \"none\"")).unwrap();
    let status = bench.gateway.until_status("there is no platform", |s| s["uplink"]["state"] == "none");
    assert_eq!(status["units"][0]["starts"], 1);
    pusher.push("p1", "2");
    assert_eq!(bench.gateway.ledger().suppressed, 1, "values are visible on the gateway only");
    bench.write();
    bench.gateway.until_up();
    pusher.push("p1", "3");
    bench.until_accepted("TP1", 3);
    bench.platform.arrivals().assert_exactly("TP1", [1, 3].into_iter());
    assert_eq!(bench.broker.connects(CLIENT_ID), 2);
}

/// An adapter `test.wild`, on this port.
fn starts_with_a_wild_one(bench: &mut Bench) -> u16 {
    let port = free_port();
    bench.file.adapters.insert("test.wild", format!("listen = \"127.0.0.1:{port}\""));
    bench.write();
    bench.gateway.environment("TIDEGATE_TIME_SCALE", "3");
    bench.gateway.start();
    bench.gateway.until_up();
    Pusher::connect(port);
    port
}

/// It does not turn for 20 s, as the time is scaled. This is read long before a file that is changed from now on.
fn blocks(port: u16) {
    TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(b"block 20\n").unwrap();
}

fn wild_ones(status: &Value) -> Vec<Value> {
    let units = status["units"].as_array().unwrap();
    units.iter().filter(|unit| unit["name"] == "test.wild").cloned().collect()
}

/// Has it restarted while it does not stop, until it is left behind.
fn is_left_behind(bench: &mut Bench) -> Value {
    blocks(starts_with_a_wild_one(bench));
    bench.file.adapters.insert("test.wild", format!("listen = \"127.0.0.1:{}\"", free_port()));
    bench.write();
    bench.gateway.until_status("it is left behind, and told", |status| {
        !status["configuration"]["fault"].is_null() && !wild_ones(status).is_empty()
    })
}

#[test]
fn an_adapter_that_does_not_stop_stays_in_sight_and_none_starts_beside_it() {
    let mut bench = Bench::new();
    let status = is_left_behind(&mut bench);
    let left = wild_ones(&status);
    assert_eq!((left.len(), &left[0]["state"], &left[0]["starts"]), (1, &json!("left behind"), &json!(1)));
    assert_eq!(status["configuration"]["fault"]["code"], "TG-219");
    let mut pusher = Pusher::connect(bench.push);
    pusher.push("p1", "1");
    bench.until_accepted("TP1", 1);
    let status = bench
        .gateway
        .until_status("it is started when it has ended", |status| status["configuration"]["fault"].is_null());
    let again = wild_ones(&status);
    assert_eq!((again.len(), &again[0]["state"], &again[0]["starts"]), (1, &json!("running"), &json!(2)));
    assert!(bench.gateway.terminate().success());
}

#[test]
fn what_was_begun_is_finished_though_the_file_has_a_mistake_by_then() {
    let mut bench = Bench::new();
    is_left_behind(&mut bench);
    let gateway = format!("[gateway]\ncontrol_socket = {:?}\n", bench.file.socket);
    replace(&bench.path, &format!("{gateway}nonsense = 1"));
    bench.gateway.until_fault("TG-309");
    let status = bench.gateway.until_status("it is started when it has ended", |status| {
        wild_ones(status).iter().any(|unit| unit["state"] == "running" && unit["starts"] == 2)
    });
    assert_eq!(status["configuration"]["fault"]["code"], "TG-309");
    bench.edit("the mistake is mended", |bench| replace(&bench.path, &bench.file.text()), &[]);
    assert!(bench.gateway.terminate().success());
}

#[test]
fn a_device_that_leaves_is_read_no_more_though_another_adapter_does_not_stop() {
    let mut bench = Bench::new();
    let slave = Slave::start(&bench.site, 1, 4);
    bench.file.adapters.insert("modbus.hall", modbus(slave.port(), "5s"));
    bench.file.endpoints.insert("m1", meter("TM1", "hall", "100ms"));
    let wild = starts_with_a_wild_one(&mut bench);
    bench.until_accepted("TM1", 3);
    let loads = bench.loads();
    blocks(wild);
    bench.file.adapters.remove("test.wild");
    bench.file.endpoints.remove("m1");
    bench.write();
    let status = bench
        .gateway
        .until_status("it is in force", |status| status["configuration"]["loads"].as_u64() > Some(loads));
    assert_eq!(wild_ones(&status).len(), 1, "it took the whole time");
    // One may be on the way.
    let refused = status["reasons"]["refused(unknown_endpoint)"].as_u64().unwrap_or_default();
    assert!(refused <= 2, "{refused} refused");
    assert!(bench.gateway.terminate().success());
}

#[test]
fn what_is_disabled_stays_so_under_another_name_from_a_start_on() {
    let mut bench = Bench::new();
    bench.gateway.start();
    bench.gateway.until_up();
    let (said, good) = bench.gateway.say(&["endpoint", "disable", "p2"]);
    assert!(good, "{said}");
    assert!(bench.gateway.terminate().success());
    bench.file.endpoints.remove("p2");
    for former in ["formerly = \"p2\"\n", ""] {
        bench.file.endpoints.insert("p7", format!("{former}{}", pushed("TP2")));
        bench.write();
        bench.gateway.start();
        bench.gateway.until_up();
        assert_eq!(bench.gateway.status()["configuration"]["disabled"], json!(["p7"]), "{former}");
        assert!(bench.gateway.terminate().success());
    }
}

#[test]
fn another_profile_of_the_same_name_is_read_by_from_then_on() {
    let mut bench = Bench::new();
    let profiles = bench.site.path("profiles");
    fs::create_dir(&profiles).unwrap();
    bench.gateway.environment("TIDEGATE_PROFILES", profiles.to_str().unwrap());
    let profile = |bench: &Bench, resource: &str| {
        let text = format!(
            "vendor = 'a'\nmodel = 'b'\nsource = 'c'\nregisters.{resource} = {{ register = 'holding:0', type = 'u32' }}\n"
        );
        replace(&bench.site.path("profiles/own.toml"), &text);
    };
    profile(&bench, "seq");
    let slave = Slave::start(&bench.site, 1, 4);
    bench.file.adapters.insert("modbus.line", modbus(slave.port(), "1s"));
    let own =
        "token = \"TM1\"\nadapter = \"line\"\nmodbus = { unit = 1, period = \"100ms\", profile = \"own\" }";
    bench.file.endpoints.insert("m1", own.to_owned());
    bench.write();
    bench.gateway.start();
    bench.gateway.until_up();
    bench.edit("a profile changes", |bench| profile(bench, "level"), &[]);
    let read = |bench: &Bench| bench.gateway.say(&["read", "m1"]).0;
    until("it is read by the other", PATIENCE, || read(&bench).contains("level").then_some(()));
}

#[test]
fn what_the_store_refuses_stops_nothing_and_is_in_force_when_it_can_be() {
    let mut bench = Bench::new();
    let listens = |bench: &mut Bench| {
        bench.file.adapters.insert("test.other", format!("listen = \"127.0.0.1:{}\"", free_port()));
    };
    listens(&mut bench);
    bench.write();
    bench.gateway.start();
    bench.gateway.until_up();
    bench.platform.rules(&json!({ "refuse_tokens": { "TP2": 404 } }));
    let mut pusher = Pusher::connect(bench.push);
    (1..=3).for_each(|n| pusher.push("p2", &n.to_string()));
    let db = Connection::open(bench.site.path("state/tidegate.db")).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    let no = "CREATE TRIGGER no BEFORE UPDATE OF endpoint ON lane BEGIN SELECT RAISE(ABORT, 'no'); END";
    db.execute_batch(no).unwrap();
    let (before, loads) = (bench.counts(), bench.loads());

    // An endpoint is called otherwise, an adapter listens elsewhere, and its neighbour is no more.
    bench.file.endpoints.remove("p2");
    bench.file.endpoints.insert("p7", format!("formerly = \"p2\"\n{}", pushed("TP2")));
    listens(&mut bench);
    bench.write();
    bench.gateway.until_fault("TG-209");
    for _ in 0..3 {
        let (said, good) = bench.gateway.say(&["reload"]);
        assert!(!good && said.contains("TG-209"), "{said}");
    }
    bench.compare("nothing was touched for it", &before, &[]);
    assert_eq!(bench.loads(), loads);
    pusher.push("p2", "4");
    assert_eq!(bench.queued("p2").map(|(rows, _)| rows), Some(4));
    assert_eq!(bench.queued("p7"), None);
    let told =
        |bench: &Bench| bench.gateway.says("a person is needed unit=\"configuration\" code=\"TG-209\"");
    until("the journal tells of it", PATIENCE, || (told(&bench) > 0).then_some(()));

    db.execute_batch("DROP TRIGGER no").unwrap();
    bench.platform.rules(&json!({}));
    bench
        .gateway
        .until_status("it is tried again by itself", |status| status["configuration"]["fault"].is_null());
    bench.compare("it is in force", &before, &[("test.other", 1)]);
    pusher.push("p7", "5");
    bench.until_accepted("TP2", 5);
    bench.platform.arrivals().assert_exactly("TP2", 1..=5);
    let over = "works again unit=\"configuration\" code=\"TG-209\"";
    until("the journal tells its end", PATIENCE, || bench.gateway.has_logged(over).then_some(()));
    assert_eq!(told(&bench), 1, "and told of it once");
    bench.gateway.ledger();
    assert!(bench.gateway.terminate().success());
}

#[test]
fn a_file_that_cannot_be_watched_is_told_of_and_read_anew_all_the_same() {
    let mut bench = Bench::new();
    let line = "echo 0 >/proc/sys/user/max_inotify_instances && exec \"$@\"";
    bench.gateway.started_by(&["unshare", "--map-root-user", "sh", "-c", line, "sh"]);
    bench.gateway.environment("TIDEGATE_TIME_SCALE", "10");
    bench.gateway.start();
    bench.gateway.until_up();
    for command in ["status", "doctor"] {
        let (said, _) = bench.gateway.say(&[command]);
        let late = "changes of the configuration are noticed within half a minute only: the system has no watch left";
        assert!(said.contains("TG-232") && said.contains(late), "{command}: {said}");
    }
    assert_eq!(bench.gateway.says("code=\"TG-232\""), 1);
    let added = |bench: &mut Bench| {
        bench.file.endpoints.insert("p3", pushed("TP3"));
        bench.write();
    };
    bench.edit("an endpoint is added", added, &[]);
    assert!(bench.gateway.terminate().success());
}

#[test]
fn an_uplink_that_does_not_stop_is_told_and_the_next_begins_when_it_has_ended() {
    let mut bench = Bench::new();
    let hangs = bench.site.path("hangs");
    bench.gateway.environment("TIDEGATE_HANG", hangs.to_str().unwrap());
    bench.gateway.start();
    bench.gateway.until_up();
    let mut pusher = Pusher::connect(bench.push);
    pusher.push("p1", "1");
    bench.until_accepted("TP1", 1);
    // The next one hangs when it has its connection, and the one after that cannot take its place.
    fs::write(&hangs, "").unwrap();
    let keep_alive = |bench: &mut Bench, seconds: u32| {
        let uplink = bench.file.uplink.lines().next().unwrap().to_owned();
        bench.file.uplink = format!("{uplink}\nkeep_alive = \"{seconds}s\"");
        bench.write();
    };
    let loads = bench.loads();
    keep_alive(&mut bench, 30);
    bench.gateway.until_status("it is in force", |s| s["configuration"]["loads"].as_u64() > Some(loads));
    let connections = bench.broker.connects(CLIENT_ID);
    keep_alive(&mut bench, 40);
    let told = bench.gateway.until_status("it is left behind, and told", |status| {
        status["configuration"]["fault"]["code"] == "TG-219"
    });
    assert_eq!(told["configuration"]["fault"]["where"], "uplink", "{told}");
    pusher.push("p1", "2");
    assert_eq!(bench.broker.connects(CLIENT_ID), connections, "no other has begun beside it");
    fs::remove_file(&hangs).unwrap();
    bench.gateway.until_status("it is started when the other has ended", |status| {
        status["configuration"]["fault"].is_null() && status["uplink"]["state"] == "up"
    });
    pusher.push("p1", "3");
    bench.until_accepted("TP1", 3);
    bench.platform.arrivals().assert_exactly("TP1", 1..=3);
    bench.gateway.ledger();
    assert!(bench.gateway.terminate().success());
}
