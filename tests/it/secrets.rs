//! No secret leaves the daemon (I11): tokens, a token's file, the password, the private key, in whatever
//! it prints, logs, answers or writes beside its database.
//!
//! Every secret begins with `SECRET-`. What is emitted is searched for each of them as it is, and in
//! base64, percent-encoded, escaped, in hexadecimal and as a list of bytes.

use crate::{
    arrivals::Platform,
    gateway::{Config, Gateway, binary},
    peers::Broker,
    pusher::Pusher,
    site::{Identity, PATIENCE, Site, free_port, until},
    stub::{Manners, Stub},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::json;
use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
};

/// In the configuration itself.
const INLINE: &str = "SECRET-one";
/// In a file of its own, with everything that is escaped somewhere.
const FILED: &str = "SECRET-two \u{fc}\"%\\";
/// Of an endpoint that sends nothing.
const OTHERS: &str = "SECRET-three";
const PASSWORD: &str = "SECRET-pass \u{fc}\"%\\";
/// Of whoever may change things on the status page.
const PAGE: &str = "SECRET-page-0123456789";

/// All that was emitted: where, and what.
#[derive(Default)]
struct Emitted(Vec<(String, Vec<u8>)>);

impl Emitted {
    fn add(&mut self, place: impl Into<String>, what: impl Into<Vec<u8>>) {
        self.0.push((place.into(), what.into()));
    }

    /// Runs the command line, with everything logged.
    fn run(&mut self, arguments: &[&str]) -> bool {
        let mut command = Command::new(binary());
        let output = command.args(arguments).env("TIDEGATE_LOG", "trace").output().unwrap();
        self.add(format!("tidegate {}", arguments.join(" ")), [output.stdout, output.stderr].concat());
        output.status.success()
    }

    /// Asks the socket itself.
    fn ask(&mut self, socket: &Path, question: &str) {
        let mut stream = UnixStream::connect(socket).unwrap();
        write!(stream, "GET {question} HTTP/1.1\r\nhost: tidegate\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        self.add(format!("control socket {question}"), answer);
    }

    /// Asks the HTTP listener.
    fn browse(&mut self, port: &str, path: &str) {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        self.add(format!("page {path}"), answer);
    }

    /// The files of the daemon, but for its database.
    fn files(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.starts_with("tidegate.db") {
                self.add(format!("file {name}"), fs::read(&path).unwrap());
            }
        }
    }

    /// Everything from a place has this text, so that it is worth being searched.
    fn assert_has(&self, place: &str, text: &str) {
        let found = self.0.iter().filter(|(from, _)| from.starts_with(place));
        let with = found.filter(|(_, what)| String::from_utf8_lossy(what).contains(text)).count();
        assert!(with > 0, "{place} says nothing of {text:?}: the test does not reach it");
    }

    /// Where which secret is found, and in which form.
    fn leaks(&self, secrets: &[String]) -> Vec<String> {
        let forms: Vec<(String, String)> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        let mut leaks = Vec::new();
        for (place, what) in &self.0 {
            let text = String::from_utf8_lossy(what);
            for (name, form) in &forms {
                if let Some(at) = text.find(form.as_str()) {
                    let line = text[..at].matches('\n').count() + 1;
                    leaks.push(format!("{place}, line {line}: {name}"));
                }
            }
        }
        leaks
    }
}

/// How a secret may be written, with the name of the form.
fn forms(secret: &str) -> Vec<(String, String)> {
    let bytes = secret.as_bytes();
    let json = serde_json::to_string(secret).unwrap();
    let debug = format!("{secret:?}");
    let list = format!("{bytes:?}");
    let mut percent = String::new();
    let mut hex = String::new();
    for byte in bytes {
        let bare = byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        let _infallible =
            if bare { write!(percent, "{}", char::from(*byte)) } else { write!(percent, "%{byte:02X}") };
        write!(hex, "{byte:02x}").unwrap();
    }
    let mut forms = vec![
        ("as it is", secret.to_owned()),
        ("as JSON", json.trim_matches('"').to_owned()),
        ("as Rust", debug.trim_matches('"').to_owned()),
        ("as ASCII", secret.escape_default().to_string()),
        ("percent-encoded", percent),
        ("in hexadecimal", hex),
        ("as bytes", list.trim_matches(['[', ']']).to_owned()),
    ];
    // In the midst of other bytes it has three forms; at each end of one, bits of the neighbours.
    for before in 0..3 {
        let shifted = [&b"xx"[..before], bytes].concat();
        for (name, engine) in [("in base64", STANDARD_NO_PAD), ("in base64 for URLs", URL_SAFE_NO_PAD)] {
            let whole = engine.encode(&shifted);
            let from = if before == 0 { 0 } else { 4 };
            forms.push((name, whole[from..whole.len() - 2].to_owned()));
        }
    }
    forms.into_iter().map(|(name, form)| (format!("{secret:.12} {name}"), form)).collect()
}

/// The secrets themselves, what each begins with, and the lines of the key.
fn secrets(key: &Path) -> Vec<String> {
    let pem = fs::read_to_string(key).unwrap();
    let lines = pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned);
    let mut all: Vec<String> = lines.collect();
    assert!(!all.is_empty());
    all.extend(["SECRET-", INLINE, FILED, OTHERS, PASSWORD, PAGE].map(str::to_owned));
    all
}

/// The tables of the endpoints that hold them.
fn endpoints(site: &Site, config: Config, port: u16) -> Config {
    let (token, password) = (site.path("two.token"), site.path("password"));
    fs::write(&token, format!("{FILED}\n")).unwrap();
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let (page_token, page) = (site.path("page.token"), free_port());
    fs::write(&page_token, format!("{PAGE}\n")).unwrap();
    fs::write(site.path("page.port"), page.to_string()).unwrap();
    config.set("username", "gateway-1").set("password_file", &password.display().to_string()).line(&format!(
        "[adapters.test.push]\nlisten = \"127.0.0.1:{port}\"\n\
         [endpoints.p1]\ntoken = \"{INLINE}\"\n[endpoints.p1.test]\n\
         [endpoints.p2]\ntoken_file = {token:?}\n[endpoints.p2.test]\n\
         [endpoints.p3]\ntoken = \"{OTHERS}\"\n[endpoints.p3.test]\n\
         [http]\nlisten = \"127.0.0.1:{page}\"\nmetrics_per_endpoint = true\ntoken_file = {page_token:?}"
    ))
}

fn traced(site: &Site, config: &Config) -> Gateway {
    let mut gateway = Gateway::new(site, config, 10);
    gateway.environment("TIDEGATE_LOG", "trace");
    gateway
}

/// Everything that can be asked of a running gateway.
fn ask_all(site: &Site, emitted: &mut Emitted) {
    let config = site.path("tidegate.toml").display().to_string();
    for question in
        [&["status"][..], &["queue"], &["queue", "--dead"], &["endpoints"], &["read", "p1"], &["read", "p2"]]
    {
        let asked = [question, &["-c", &config]].concat();
        assert!(emitted.run(&asked), "{asked:?}");
        assert!(emitted.run(&[&asked[..], &["--json"]].concat()));
    }
    for question in
        ["/v1/status", "/v1/queue", "/v1/dead", "/v1/endpoints", "/v1/latest/p1", "/v1/latest/p9", "/v1/none"]
    {
        emitted.ask(&site.path("control.sock"), question);
    }
    let page = fs::read_to_string(site.path("page.port")).unwrap();
    for path in
        ["/", "/page.js", "/healthz", "/metrics", "/api/status", "/api/endpoints", "/api/latest/p1", "/none"]
    {
        emitted.browse(&page, path);
    }
}

#[test]
fn what_is_planted_is_found() {
    let secrets = vec![FILED.to_owned()];
    for (name, form) in forms(FILED) {
        let mut emitted = Emitted::default();
        emitted.add("here", format!("before\n{form} after"));
        let leaks = emitted.leaks(&secrets);
        assert!(leaks.iter().any(|leak| leak.starts_with("here, line 2")), "{name}: {leaks:?}");
    }
    for around in ["", "a", "ab", "abc"] {
        let mut emitted = Emitted::default();
        emitted.add("here", STANDARD_NO_PAD.encode(format!("{around}{FILED}{around}")));
        assert!(!emitted.leaks(&secrets).is_empty(), "{around}");
    }
    let mut emitted = Emitted::default();
    emitted.add("here", "nothing of the kind");
    assert!(emitted.leaks(&secrets).is_empty());
}

#[test]
fn a_gateway_between_broker_and_platform_emits_no_secret() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).set("probe_min", "20s").set("probe_max", "40s");
    let config = endpoints(&site, config, port);
    let mut gateway = traced(&site, &config);
    let secrets = secrets(&site.identity("gateway").key);
    let mut emitted = Emitted::default();
    let file = site.path("tidegate.toml").display().to_string();
    assert!(emitted.run(&["check", &file]));

    // A panic of the unit that holds all of them, with one of them in its words.
    gateway.environment("TIDEGATE_PANIC", "login");
    gateway.start();
    gateway.until_up();
    assert!(gateway.has_logged(" panic "), "it did not panic");
    assert!(gateway.status()["uplink"]["starts"].as_u64() > Some(1), "it was started again");
    let mut pusher = Pusher::connect(port);
    for endpoint in ["p1", "p2", "p3"] {
        pusher.push(endpoint, "1-5");
    }
    gateway.until_drained();

    // Refusals that repeat the token, another endpoint's, and an encoded one.
    let encoded = "SECRET-two%20%C3%BC%22%25%5C";
    let reason = format!("no such endpoint {{token}}, nor {OTHERS}, see /e/{encoded} for '{FILED}'");
    platform.rules(&json!({"refuse_tokens": {INLINE: 404, FILED: 413}, "reason": reason}));
    for endpoint in ["p1", "p2"] {
        pusher.push(endpoint, "6");
    }
    gateway.until_status("one is parked, one has a dead letter", |status| {
        status["uplink"]["parked"][0]["endpoint"] == "p1" && status["dead_letters"] == 1
    });
    // Replies that are none, and one that answers nothing.
    let body = format!("{{\"statusCode\": \"{OTHERS}\", \"reasonPhrase\": [\"{FILED}\"");
    for (token, rest) in [(INLINE, "json/abc/status"), (FILED, "json/0/error"), (OTHERS, "json/-1/error")] {
        platform.publish(&format!("kp1/demo-v1/dcx/{token}/{rest}"), &body);
    }
    for token in [INLINE, FILED, OTHERS] {
        platform.publish(&format!("kp1/demo-v1/dcx/{token}/json/2147483647/status"), &body);
        platform.publish(&format!("kp1/demo-v1/dcx/{token}/json/2147483647/error"), &body);
    }
    gateway.until_status("all of them have come", |status| {
        let count = |name: &str| status["uplink"][name].as_u64().unwrap();
        count("stale_replies") >= 6 && count("ignored") >= 3
    });
    ask_all(&site, &mut emitted);
    emitted.add("journal", gateway.journal());
    emitted.files(&site.path("state"));
    // An answer under another endpoint's token.
    platform.rules(&json!({"answer_as": {INLINE: OTHERS}}));
    gateway.until_status("its answer has come", |s| s["uplink"]["stale_replies"].as_u64() >= Some(7));
    platform.rules(&json!({}));
    gateway.until_drained();
    assert!(gateway.terminate().success());
    emitted.add("journal", gateway.journal());

    emitted.assert_has("tidegate status", "TG-154");
    emitted.assert_has("tidegate queue --dead", "413");
    emitted.assert_has("tidegate read", "n");
    emitted.assert_has("control socket /v1/status", "TG-154");
    emitted.assert_has("page /api/status", "TG-154");
    emitted.assert_has("page /metrics", "TG-154");
    emitted.assert_has("journal", "endpoint parked");
    emitted.assert_has("journal", "TRACE");
    emitted.assert_has("journal", "kp1/demo-v1/dcx/<p1>/json/");
    assert_eq!(emitted.leaks(&secrets), [""; 0]);
}

#[test]
fn a_gateway_that_is_refused_emits_no_secret() {
    let site = Site::new();
    let stub = Stub::start(Manners::ConnAck(4));
    let address = format!("mqtt://127.0.0.1:{}", stub.port());
    let port = free_port();
    let config = Config::kaa(&site, 1).at(&[&address]).set("probe_min", "5s").set("probe_max", "10s");
    let mut gateway = traced(&site, &endpoints(&site, config, port));
    let secrets = secrets(&site.identity("gateway").key);
    let mut emitted = Emitted::default();
    gateway.start();
    let mut pusher = Pusher::connect(port);
    for endpoint in ["p1", "p2", "p3"] {
        pusher.push(endpoint, "1-5");
    }
    for (manners, code) in
        [(Manners::ConnAck(4), "TG-141"), (Manners::ConnAck(5), "TG-142"), (Manners::NoFilter, "TG-152")]
    {
        stub.behave(manners);
        gateway.until_fault(code);
        ask_all(&site, &mut emitted);
        emitted.assert_has("tidegate status", code);
    }
    assert!(gateway.terminate().success());
    emitted.files(&site.path("state"));
    emitted.add("journal", gateway.journal());
    for text in ["TG-141", "TG-142", "TRACE", "the broker refused the subscription"] {
        emitted.assert_has("journal", text);
    }
    assert_eq!(emitted.leaks(&secrets), [""; 0]);
}

#[test]
fn a_configuration_with_mistakes_is_checked_without_its_secrets() {
    const UPLINK: &str = "[uplink]\nkind = \"kaa\"\nurls = [\"mqtts://localhost\"]\n";
    const KAA: &str =
        "[uplink.kaa]\napp_version = \"demo-v1\"\n[adapters.test.a]\nlisten = \"127.0.0.1:0\"\n";
    let site = Site::new();
    let Identity { cert, key, .. } = site.identity("gateway");
    let secrets = secrets(&key);
    let mut emitted = Emitted::default();
    for (name, bytes) in [
        ("broken.key", fs::read_to_string(&key).unwrap().replace("PRIVATE", "PUBLIC").into_bytes()),
        ("cut.key", fs::read(&key).unwrap()[..120].to_vec()),
        ("latin1.token", b"SECRET-\xfc".to_vec()),
        ("two.token", b"SECRET-a\nSECRET-b\n".to_vec()),
    ] {
        fs::write(site.path(name), bytes).unwrap();
    }
    let dir = site.path("");
    let dir = dir.display();
    let endpoint = |lines: &str| format!("{UPLINK}{KAA}[endpoints.p1]\n{lines}\n[endpoints.p1.test]\n");
    let uplink = |lines: &str| format!("{UPLINK}{lines}\n{KAA}");
    let tls =
        |file: &str| uplink(&format!("[uplink.tls]\ncert_file = {cert:?}\nkey_file = \"{dir}/{file}\""));
    let cases = [
        ("not closed", endpoint("token = \"SECRET-one")),
        ("no quotes", endpoint("token = SECRET-one")),
        ("no equals sign", endpoint("token \"SECRET-one\"")),
        ("colon", endpoint("token: \"SECRET-one\"")),
        ("bad escape", endpoint("token = \"SECRET-one\\q\"")),
        ("two values", endpoint("token = \"SECRET-one\" \"SECRET-three\"")),
        ("not closed, three quotes", endpoint("token = '''SECRET-one")),
        ("list", endpoint("token = [\"SECRET-one\"]")),
        ("table", endpoint("token = { file = \"SECRET-one\" }")),
        ("key in a table", endpoint("token.SECRET = \"SECRET-one\"")),
        ("wrong type beside it", endpoint("token = \"SECRET-one\"\nenabled = \"SECRET-one\"")),
        ("unknown key", endpoint("tokn = \"SECRET-one\"")),
        ("unknown key beside it", endpoint("token = \"SECRET-one\"\nsecret = \"SECRET-three\"")),
        ("twice", endpoint("token = \"SECRET-one\"\ntoken = \"SECRET-three\"")),
        ("both", endpoint(&format!("token = \"SECRET-one\"\ntoken_file = \"{dir}/two.token\""))),
        ("characters", endpoint("token = \"SECRET-one/+\"")),
        ("control characters", endpoint("token = \"SECRET-one\\u0007\"")),
        ("as the file", endpoint("token_file = \"SECRET-one\"")),
        ("file of two", endpoint(&format!("token_file = \"{dir}/two.token\""))),
        ("file that is no text", endpoint(&format!("token_file = \"{dir}/latin1.token\""))),
        (
            "of two endpoints",
            endpoint("token = \"SECRET-one\"")
                + "[endpoints.p2]\ntoken = \"SECRET-one\"\n[endpoints.p2.test]\n",
        ),
        ("password", uplink("username = \"g\"\npassword = \"SECRET-pass\"")),
        ("password as the file", uplink("username = \"g\"\npassword_file = \"SECRET-pass\"")),
        ("password in the address", UPLINK.replace("localhost", "g:SECRET-pass@localhost") + KAA),
        ("address without quotes", UPLINK.replace("\"mqtts://localhost\"", "mqtts://g:SECRET-pass@h") + KAA),
        ("number", uplink("max_payload = \"SECRET-pass\"")),
        ("choice", UPLINK.replace("\"kaa\"", "\"SECRET-pass\"") + KAA),
        ("span", uplink("keep_alive = \"SECRET-pass\"")),
    ];
    // With these it runs all the same, and waits for better ones.
    let files = [("key file of another kind", tls("broken.key")), ("key file cut short", tls("cut.key"))];
    let runs = files.len();
    for (n, (name, text)) in files.into_iter().chain(cases).enumerate() {
        let file = site.path("wrong.toml");
        fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        assert!(!emitted.run(&["check", &file]), "{name} is taken");
        let (place, said) = emitted.0.last_mut().unwrap();
        assert!(String::from_utf8_lossy(said).contains("error"), "{name}");
        *place = format!("check of {name}");
        if n >= runs {
            assert!(!emitted.run(&["run", "-c", &file]), "{name} is run");
        }
    }
    assert_eq!(emitted.leaks(&secrets), [""; 0]);
}

#[test]
fn the_journal_of_a_start_that_cannot_be_has_no_secret() {
    let site = Site::new();
    let config = endpoints(&site, Config::kaa(&site, 1), free_port());
    let mut gateway = traced(&site, &config);
    let secrets = secrets(&site.identity("gateway").key);
    let mut first = traced(&site, &config);
    first.start();
    until("it answers", PATIENCE, || first.ask(&["status"]));
    gateway.start();
    gateway.last_words();
    let mut emitted = Emitted::default();
    emitted.add("journal", gateway.journal());
    emitted.assert_has("journal", "TG-203");
    assert_eq!(emitted.leaks(&secrets), [""; 0]);
}
