//! The HTTP listener: who is answered, with which headers, and that figures and words arrive as they are meant.

use crate::{
    agreed::assert_agreed,
    arrivals::Platform,
    cutter::Cutter,
    gateway::{Config, Gateway},
    peers::{Broker, Slave, interpreter},
    pusher::Pusher,
    site::{PATIENCE, Site, asked_for, free_port, repository, until},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Instant,
};

const TOKEN: &str = "0123456789abcdef0123";

/// What came back.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// One request on a connection of its own; `None` where nobody answers.
fn try_ask(port: u16, method: &str, target: &str, headers: &[(&str, &str)]) -> Option<Answer> {
    try_send(port, method, target, headers, "")
}

fn try_send(port: u16, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n" + body).as_bytes()).ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).ok()?;
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| line.split_once(": ").map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()));
    Some(Answer { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
}

/// A body to a path, with the token.
fn change(port: u16, path: &str, body: &str) -> Answer {
    let (bearer, length) = (format!("Bearer {TOKEN}"), body.len().to_string());
    let mut headers = vec![("Host", "localhost"), ("Authorization", bearer.as_str())];
    headers.extend([("Origin", "http://localhost"), ("Sec-Fetch-Site", "same-origin")]);
    headers.push(("Content-Length", &length));
    let answer = try_send(port, "POST", path, &headers, body);
    answer.expect("an answer")
}

fn ask(port: u16, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    until("the page is served", PATIENCE, || try_ask(port, method, target, headers))
}

fn look(port: u16, target: &str) -> Answer {
    ask(port, "GET", target, &[("Host", &format!("127.0.0.1:{port}"))])
}

/// `[http]` on this port, with these further lines.
fn listening(config: Config, port: u16, lines: &str) -> Config {
    config.line(&format!("[http]\nlisten = \"127.0.0.1:{port}\"\n{lines}"))
}

/// A gateway with two pushed endpoints, a platform that nobody is, and a page.
fn served(site: &Site, lines: &str) -> (Gateway, Pusher, u16) {
    let (push, port) = (free_port(), free_port());
    let config = listening(Config::plain(site, free_port()).pushed(2, push), port, lines);
    let mut gateway = Gateway::new(site, &config, 10);
    gateway.start();
    (gateway, Pusher::connect(push), port)
}

/// The samples in `/metrics`, by name and labels, as a client of Prometheus reads them.
fn figures(text: &str) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let mut reader = Command::new(interpreter())
        .arg("-B")
        .arg(repository().join("tests/it/peers/prometheus_reader.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    reader.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success(), "no text for Prometheus: {text}");
    let samples = String::from_utf8(output.stdout).unwrap();
    let sample = |line: &str| {
        let sample: Value = serde_json::from_str(line).unwrap();
        let labels = sample["labels"].as_object().unwrap().iter();
        let labels = labels.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect();
        ((sample["name"].as_str().unwrap().to_owned(), labels), sample["value"].as_f64().unwrap())
    };
    samples.lines().map(sample).collect()
}

/// One of them; its value.
fn figure(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let all = figures(text);
    *all.get(&(name.to_owned(), labels)).unwrap_or_else(|| panic!("no {name}: {text}"))
}

#[test]
fn every_answer_forbids_what_a_browser_need_not_do() {
    let site = Site::new();
    let (mut gateway, mut pusher, port) = served(&site, "");
    pusher.push("p1", "7");
    let kinds = [
        ("/", 200, "text/html; charset=utf-8"),
        ("/page.css", 200, "text/css; charset=utf-8"),
        ("/page.js", 200, "text/javascript; charset=utf-8"),
        ("/icon.svg", 200, "image/svg+xml"),
        ("/healthz", 200, "application/json"),
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8"),
        ("/api/status", 200, "application/json"),
        ("/api/endpoints", 200, "application/json"),
        ("/api/latest/p1", 200, "application/json"),
        ("/api/dead", 200, "application/json"),
        ("/api/changes", 200, "application/json"),
        ("/api/endpoints?colour=blue", 400, "application/json"),
        ("/api/latest/p9", 404, "application/json"),
        ("/api/latest/%3Cimg%3E", 404, "application/json"),
        ("/api/no", 404, "application/json"),
        ("/../etc/passwd", 404, "text/plain; charset=utf-8"),
        ("/page.js/", 404, "text/plain; charset=utf-8"),
    ];
    let expected = [
        (
            "content-security-policy",
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ];
    let protected = |answer: &Answer, what: &str| {
        for (name, value) in expected {
            assert_eq!(answer.headers.get(name).map(String::as_str), Some(value), "{what}: {name}");
        }
        let telling = ["set-cookie", "server", "date", "access-control-allow-origin"];
        assert!(
            telling.iter().all(|name| !answer.headers.contains_key(*name)),
            "{what}: {:?}",
            answer.headers
        );
    };
    for (path, status, kind) in kinds {
        let answer = look(port, path);
        assert_eq!((answer.status, answer.headers["content-type"].as_str()), (status, kind), "{path}");
        protected(&answer, path);
        let head = ask(port, "HEAD", path, &[("Host", "localhost")]);
        assert_eq!((head.status, head.body.as_str()), (status, ""), "HEAD {path}");
    }
    protected(&ask(port, "GET", "/", &[("Host", "evil.example")]), "a foreign name");
    protected(&ask(port, "POST", "/", &[("Host", "localhost")]), "a write");

    // The page has nothing that the policy would forbid, and nothing of anybody else.
    let page = look(port, "/").body;
    assert!(
        page.contains("<script src=\"/page.js\" defer></script>") && page.matches("<script").count() == 1
    );
    let all = page + &look(port, "/page.js").body + &look(port, "/page.css").body;
    for no in ["<style", " style=", "onclick=", "javascript:", "innerHTML", "eval(", "@import", "url("] {
        assert!(!all.contains(no), "the page says {no}");
    }
    assert!(!all.replace("http://www.w3.org/2000/svg", "").contains("://"), "the page names another server");
    assert!(gateway.terminate().success());
}

#[test]
fn only_its_own_names_are_answered_to() {
    let site = Site::new();
    let (mut gateway, _pusher, port) = served(&site, "hosts = [\"Gateway.example.com\"]");
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1", 200),
        ("gateway.example.com:443", 200),
        // A name that an attacker lets point here, and an address we were not asked on.
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("192.0.2.7", 421),
        ("[::1]", 421),
    ] {
        for path in ["/", "/healthz", "/metrics", "/api/status", "/no"] {
            let answer = ask(port, "GET", path, &[("Host", host)]);
            let expected = if status == 200 && path == "/no" { 404 } else { status };
            assert_eq!(answer.status, expected, "{host} {path}");
            assert!(status == 200 || answer.body.contains("http.hosts"), "{}", answer.body);
        }
    }
    let twice = [("Host", "localhost"), ("Host", "evil.example")];
    assert_eq!(ask(port, "GET", "/", &twice).status, 400);
    assert_eq!(ask(port, "GET", "http://evil.example/", &[("Host", "localhost")]).status, 421);
    assert!(gateway.terminate().success());
}

#[test]
fn nothing_is_changed_without_the_token() {
    let site = Site::new();
    let token = site.path("page.token");
    fs::write(&token, TOKEN).unwrap();
    let (mut gateway, _pusher, port) = served(&site, "");
    let methods = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT-THEM"];
    let paths = ["/", "/api/status", "/api/latest/p1", "/metrics"];
    for (method, path) in methods.iter().flat_map(|method| paths.map(|path| (method, path))) {
        let answer = ask(port, method, path, &[("Host", "localhost"), ("Content-Length", "0")]);
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.headers["allow"], "GET, HEAD", "{method} {path}");
    }
    assert!(gateway.terminate().success());

    let (mut gateway, _pusher, port) = served(&site, &format!("token_file = {token:?}"));
    let bearer = format!("Bearer {TOKEN}");
    let check = |headers: &[(&str, &str)], status: u16| {
        let headers = [&[("Host", "localhost"), ("Content-Length", "0")][..], headers].concat();
        assert_eq!(ask(port, "POST", "/api/status", &headers).status, status, "{headers:?}");
    };
    check(&[], 401);
    check(&[("Authorization", "Bearer 0123456789abcdef0124")], 401);
    check(&[("Authorization", &bearer), ("Origin", "http://evil.example")], 403);
    check(&[("Authorization", &bearer), ("Sec-Fetch-Site", "cross-site")], 403);
    // Known, and there is nothing to be changed under that path.
    check(&[("Authorization", &bearer)], 404);
    let known = [("Host", "localhost"), ("Authorization", bearer.as_str()), ("Content-Length", "0")];
    assert_eq!(ask(port, "POST", "/api/dead/requeue", &known).status, 400);
    assert_eq!(ask(port, "GET", "/api/dead/requeue", &known).status, 404);
    assert_eq!(look(port, "/api/changes").json()["possible"], true);
    // Somebody else's cookie or a token in the address count for nothing.
    let address = format!("/api/status?token={TOKEN}");
    assert_eq!(ask(port, "POST", &address, &[("Host", "localhost"), ("Cookie", &bearer)]).status, 401);
    let said = gateway.journal() + &gateway.say(&["status"]).0 + &look(port, "/api/status").body;
    assert!(!said.contains(TOKEN), "the token was told");
    assert!(gateway.terminate().success());
}

#[test]
fn health_follows_the_platform_and_is_never_lost_with_it() {
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let (push, port) = (free_port(), free_port());
    let config = listening(Config::plain(&site, broker.port()).pushed(1, push), port, "");
    let mut gateway = Gateway::new(&site, &config, 10);
    gateway.start();
    let health = |status: &str| {
        until(&format!("it is {status}"), PATIENCE, || {
            let answer = look(port, "/healthz");
            assert_eq!(answer.status, 200, "{}", answer.body);
            let health = answer.json();
            (health["status"] == status).then_some(health)
        })
    };
    health("ok");
    broker.stop();
    let degraded = health("degraded");
    assert_eq!(degraded["uplink"], "connecting", "{degraded}");
    until("it says why", PATIENCE, || (health("degraded")["faults"] == json!(["TG-102"])).then_some(()));
    Pusher::connect(push).push("p1", "1-3");
    assert_eq!(health("degraded")["status"], "degraded", "and goes on taking what comes");
    broker.start_again();
    health("ok");
    assert!(gateway.terminate().success());
}

#[test]
fn a_client_of_prometheus_reads_what_status_says() {
    let site = Site::new();
    let (mut gateway, mut pusher, port) = served(&site, "");
    pusher.push("p1", "1-50");
    let status = gateway.until_status("all are queued", |status| status["ledger"]["queued"] == 50);
    let text = look(port, "/metrics").body;
    for (term, samples) in [("offered", 50.0), ("stored", 50.0), ("landed", 0.0)] {
        let labels = [("term", term), ("reason", "")];
        assert_eq!(figure(&text, "tidegate_samples_total", &labels), samples, "{term}");
    }
    assert_eq!(figure(&text, "tidegate_queued_samples", &[]), 50.0);
    assert_eq!(figure(&text, "tidegate_ledger_balanced", &[]), 1.0);
    assert_eq!(figure(&text, "tidegate_clock_known", &[]), 1.0);
    assert_eq!(figure(&text, "tidegate_uplink_state", &[("state", "connecting")]), 1.0);
    assert_eq!(figure(&text, "tidegate_unit_state", &[("unit", "test.push"), ("state", "running")]), 1.0);
    let version = status["version"].as_str().unwrap();
    assert_eq!(figure(&text, "tidegate_build_info", &[("version", version)]), 1.0);
    assert_eq!(figure(&text, "tidegate_unit_starts_total", &[("unit", "test.push")]), 1.0);
    let resident = figure(&text, "process_resident_memory_bytes", &[]);
    assert!(resident > 1e6 && resident < 1e9, "{resident}");
    // Whoever scrapes ten thousand endpoints has asked for them.
    assert!(!text.contains("tidegate_endpoint_"), "{text}");
    assert!(gateway.terminate().success());
}

#[test]
fn every_byte_of_the_uplink_is_counted_with_its_handshakes() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let cutter = Cutter::start(broker.port());
    let (push, port) = (free_port(), free_port());
    let config = listening(Config::plain(&site, cutter.port()).pushed(1, push), port, "");
    let mut gateway = Gateway::new(&site, &config, 10);
    gateway.start();
    gateway.until_up();
    let told = || {
        let text = look(port, "/metrics").body;
        ["sent", "received"].map(|way| figure(&text, "tidegate_uplink_bytes_total", &[("direction", way)]))
    };
    // Under way it is in one of the counts only.
    let agreed = || {
        until("what is told is what was carried", PATIENCE, || {
            let told = told();
            (told == cutter.carried().map(|bytes| bytes as f64)).then_some(told)
        })
    };
    let [sent, received] = agreed();
    assert!(sent > 500.0 && received > 1_000.0, "a handshake at least: {sent} {received}");
    let mut pusher = Pusher::connect(push);
    for number in 1..=50 {
        pusher.push_padded("p1", number, 2_000);
    }
    gateway.until_drained();
    let [more, received] = agreed();
    assert!(more - sent > 100_000.0 && more - sent < 120_000.0, "{sent} {more}");
    cutter.cut();
    gateway.until_status("it is up again", |status| status["uplink"]["connections"] == 2);
    let [again, received_again] = told();
    assert!(again > more + 200.0 && received_again > received + 200.0, "{again} {received_again}");
    assert!(gateway.terminate().success());
}

#[test]
fn an_address_in_use_is_told_and_costs_nothing_else() {
    let site = Site::new();
    let (push, port) = (free_port(), free_port());
    let other = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut gateway =
        Gateway::new(&site, &listening(Config::plain(&site, free_port()).pushed(1, push), port, ""), 10);
    gateway.start();
    assert_agreed("the status page's address is in use", &gateway.until_fault("TG-231"));
    Pusher::connect(push).push("p1", "1-3");
    drop(other);
    until("the page is served", PATIENCE, || {
        let answer = try_ask(port, "GET", "/api/status", &[("Host", "localhost")])?;
        assert_eq!(answer.json()["faults"], json!([]), "it is mended");
        Some(())
    });
    assert_eq!(gateway.says("for ever unit=\"http\" code=\"TG-231\""), 1);
    assert!(gateway.terminate().success());
}

#[test]
fn the_listener_follows_the_configuration() {
    let site = Site::new();
    let (push, first, second) = (free_port(), free_port(), free_port());
    let pushed = || Config::plain(&site, 1).pushed(1, push);
    let mut gateway = Gateway::new(&site, &listening(pushed(), first, ""), 10);
    gateway.start();
    look(first, "/healthz");
    gateway.configure(&site, &listening(pushed(), second, ""));
    assert_eq!(look(second, "/healthz").status, 200);
    until("nobody listens on the first one", PATIENCE, || TcpStream::connect(("127.0.0.1", first)).err());
    gateway.configure(&site, &pushed());
    until("nobody listens at all", PATIENCE, || TcpStream::connect(("127.0.0.1", second)).err());
    Pusher::connect(push).push("p1", "1");
    assert!(gateway.terminate().success());
}

#[test]
fn whoever_holds_connections_open_holds_up_nobody() {
    let site = Site::new();
    let (mut gateway, mut pusher, port) = served(&site, "");
    look(port, "/");
    let mut held = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // Some have said half of what they want, and some want more than they read.
        let said: &[u8] =
            if n % 2 == 0 { b"GET / HT" } else { b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n" };
        stream.write_all(said).unwrap();
        held.push(stream);
    }
    for path in ["/", "/api/status", "/metrics", "/healthz"] {
        assert_eq!(look(port, path).status, 200, "{path}");
    }
    pusher.push("p1", "1-100");
    let long = format!("/{}", "y".repeat(100_000));
    let refused = try_ask(port, "GET", &long, &[("Host", "localhost")]);
    assert!(refused.is_none_or(|answer| answer.status >= 400));
    assert_eq!(look(port, "/api/latest/p1").json()["values"][0]["value"], 100);
    drop(held);
    assert!(gateway.terminate().success());
}

#[test]
fn whoever_looks_is_not_cut_off_by_a_scanner() {
    let site = Site::new();
    let (mut gateway, _pusher, port) = served(&site, "");
    look(port, "/");
    let mut person = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    person.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let mut held = Vec::new();
    for n in 0..400 {
        if n % 10 == 0 {
            assert_eq!(ask_again(&mut person), "HTTP/1.1 200 OK", "after {n} others");
        }
        let mut other = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let said: &[u8] = match n % 3 {
            0 => b"",
            1 => b"GET / HT",
            _ => b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        };
        // It may have been closed for another one.
        let _gone = other.write_all(said);
        held.push(other);
    }
    assert_eq!(ask_again(&mut person), "HTTP/1.1 200 OK");
    drop(held);
    assert!(gateway.terminate().success());
}

/// On a connection that stays open; the first line of what comes back.
fn ask_again(stream: &mut BufReader<TcpStream>) -> String {
    stream.get_mut().write_all(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut first, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "it was cut off");
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        first.get_or_insert_with(|| line.to_owned());
    }
    stream.read_exact(&mut vec![0; length]).unwrap();
    first.unwrap()
}

#[test]
fn whoever_asks_without_a_pause_takes_turns_with_the_devices() {
    let site = Site::new();
    let (push, port) = (free_port(), free_port());
    let config = listening(Config::plain(&site, free_port()).pushed(2_000, push), port, "");
    let mut gateway = Gateway::new(&site, &config, 1);
    gateway.start();
    let mut pusher = Pusher::connect(push);
    look(port, "/");
    let over = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let asker = || {
            let mut asked = 0;
            while !over.load(SeqCst) {
                // One that was pushed out by others asks again.
                let answer = try_ask(port, "GET", "/api/latest/p7", &[("Host", "localhost")]);
                asked += usize::from(answer.is_some_and(|answer| answer.status == 200));
            }
            asked
        };
        let askers: Vec<_> = (0..16).map(|_| scope.spawn(asker)).collect();
        for n in 1..=200 {
            pusher.push("p7", &n.to_string());
        }
        over.store(true, SeqCst);
        askers.into_iter().map(|asker| asker.join().unwrap()).sum::<usize>()
    });
    println!("FIGURE page_questions_during_200_pushes {asked}");
    assert!(asked > 0, "nobody asked");
    assert_eq!(look(port, "/api/latest/p7").json()["values"][0]["value"], 200);
    assert!(gateway.terminate().success());
}

#[test]
fn dead_letters_are_sent_again_and_discarded_with_the_token() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let (push, port, token) = (free_port(), free_port(), site.path("page.token"));
    fs::write(&token, TOKEN).unwrap();
    let config = Config::kaa(&site, broker.port()).pushed(2, push);
    let mut gateway = Gateway::new(&site, &listening(config, port, &format!("token_file = {token:?}")), 10);
    gateway.start();
    gateway.until_up();
    platform.rules(&json!({"refuse_tokens": {"TP1": 413, "TP2": 413}, "reason": "no"}));
    let mut pusher = Pusher::connect(push);
    pusher.push("p1", "1");
    pusher.push("p2", "2");
    gateway.until_status("both are dead", |status| status["dead_letters"] == 2);
    let dead = look(port, "/api/dead").json()["dead"].clone();
    let id_of = |endpoint: &str| {
        let mut letters = dead.as_array().unwrap().iter();
        letters.find(|letter| letter["endpoint"].as_str().unwrap().contains(endpoint)).unwrap()["id"].clone()
    };
    platform.rules(&json!({"refuse_tokens": {}}));
    let body = json!({ "ids": [id_of("p1")] }).to_string();
    // What is in the address or in a form of somebody else's page is no token.
    let without = try_send(port, "POST", "/api/dead/requeue", &[("Host", "localhost")], "");
    assert_eq!(without.unwrap().status, 401);
    let answer = change(port, "/api/dead/requeue", &body);
    assert_eq!((answer.status, &answer.json()["letters"]), (200, &json!(1)), "{}", answer.body);
    gateway.until_status("it has landed", |status| {
        status["dead_letters"] == 1 && status["ledger"]["queued"] == 0 && status["balance"] == true
    });
    let answer = change(port, "/api/dead/discard", "\"all\"");
    assert_eq!(answer.json()["done"], "discarded", "{}", answer.body);
    gateway.until_status("none is left", |status| {
        status["dead_letters"] == 0 && status["ledger"]["discarded"] == 1 && status["balance"] == true
    });
    assert_eq!(gateway.says("asked for on the status page"), 2);
    // What there is no journal line for was not done.
    let answer = change(port, "/api/endpoint/p2/disable", "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let enabled = |port| look(port, "/api/endpoints?filter=p2").json()["endpoints"][0]["enabled"].clone();
    assert_eq!(enabled(port), false);
    assert_eq!(change(port, "/api/endpoint/p9/disable", "").status, 409);
    assert_eq!(change(port, "/api/endpoint/p2/enable", "").status, 200);
    assert_eq!(enabled(port), true);
    assert_eq!(change(port, "/api/reload", "").status, 200);
    assert_eq!(gateway.says("asked for on the status page"), 6);
    assert!(gateway.terminate().success());
}

/// A terminal's title, a forged line, writing from right to left.
const HOSTILE: &str =
    "\u{1b}]0;x\u{7} a\nlevel=ERROR \"quoted\" \\ \u{202e}gnitirw <img src=x onerror=alert(1)>";
const RESOURCE: &str = "<img src=x onerror=alert(1)>\"'\\";

#[test]
fn hostile_words_and_names_arrive_as_text() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let (slave, push, port) = (Slave::start(&site, 1, 10), free_port(), free_port());
    let config = Config::kaa(&site, broker.port()).set("probe_min", "20s").set("probe_max", "40s");
    let config = config
        .pushed(2, push)
        .meters(1, slave.port())
        .line(&format!("{RESOURCE:?} = {{ register = \"holding:0\", type = \"u16\", period = \"1s\" }}"))
        .line(&format!("[endpoints.m1.name_on_wire]\n{RESOURCE:?} = \"img\""));
    let text = listening(config, port, "metrics_per_endpoint = true");
    let mut gateway = Gateway::new(&site, &text, 10);
    gateway.start();
    gateway.until_up();
    let mut pusher = Pusher::connect(push);
    platform.rules(&json!({"refuse_tokens": {"TP1": 404}, "reason": HOSTILE}));
    pusher.push("p1", "1");
    let parked = |status: &Value| status["uplink"]["parked"].as_array().is_some_and(|p| !p.is_empty());
    gateway.until_status("p1 is parked", parked);
    platform.rules(&json!({"refuse_tokens": {"TP2": 404}, "reason": "y".repeat(65_536)}));
    pusher.push("p2", "1");
    let both = |status: &Value| status["uplink"]["parked"].as_array().is_some_and(|p| p.len() == 2);
    gateway.until_status("p2 is parked", both);

    let status = look(port, "/api/status").json();
    let why = status["uplink"]["parked"][0]["why"].as_str().unwrap();
    assert!(why.contains("onerror") && status.to_string().len() < 100_000, "{why}");
    until("the resource has a value", PATIENCE, || {
        let latest = look(port, "/api/latest/m1").json();
        let values = latest["values"].as_array().unwrap();
        values.iter().any(|value| value["resource"] == RESOURCE).then_some(())
    });
    let text = look(port, "/metrics").body;
    assert_eq!(figure(&text, "tidegate_uplink_parked_endpoints", &[]), 2.0);
    assert_eq!(figure(&text, "tidegate_endpoint_parked", &[("endpoint", "p1")]), 1.0);
    let steering =
        text.chars().find(|c| c.is_control() && *c != '\n' || ('\u{2028}'..='\u{202e}').contains(c));
    assert_eq!(steering, None, "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("level=ERROR")), "{text}");
    assert!(gateway.terminate().success());
}

#[test]
fn ten_thousand_endpoints_are_a_page_at_a_time() {
    let site = Site::new();
    let (push, port) = (free_port(), free_port());
    let count = asked_for("TIDEGATE_TEST_ENDPOINTS", 10_000);
    let config = listening(Config::plain(&site, free_port()).pushed(count, push), port, "");
    let mut gateway = Gateway::new(&site, &config, 1);
    gateway.start();
    let mut pusher = Pusher::connect(push);
    for n in 1..=100 {
        pusher.push(&format!("p{n}"), "1-2");
    }
    let page = |query: &str| look(port, &format!("/api/endpoints?{query}")).json();
    let names = |page: &Value| -> Vec<String> {
        let endpoints = page["endpoints"].as_array().unwrap().iter();
        endpoints.map(|endpoint| endpoint["name"].as_str().unwrap().to_owned()).collect()
    };
    let began = Instant::now();
    let first = page("limit=50");
    println!("FIGURE endpoints_page_ms {:.1} of {count}", began.elapsed().as_secs_f64() * 1_000.0);
    assert_eq!((names(&first).len(), &first["total"]), (50, &json!(count)));
    let last = names(&first).pop().unwrap();
    let second = page(&format!("limit=50&after={last}"));
    assert!(names(&second).len() == 50 && names(&second)[0] > last);
    let filtered = page("limit=50&filter=*p77*");
    assert!(names(&filtered).iter().all(|name| name.contains("p77")) && !names(&filtered).is_empty());
    let began = Instant::now();
    assert_eq!(look(port, &format!("/api/endpoints?filter={}", "p".repeat(200))).status, 400);
    let all = page("limit=100000");
    println!("FIGURE endpoints_all_ms {:.1} of {count}", began.elapsed().as_secs_f64() * 1_000.0);
    assert!(names(&all).len() == 200, "nobody gets all of them at once");
    assert!(gateway.terminate().success());
}
