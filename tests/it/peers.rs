//! The peers: mosquitto, and the Python programs in `peers/`. All of them end with their value here.

use crate::site::{Identity, PATIENCE, Site, free_port, repository, until};
use serde_json::{Value, json};
use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Mosquitto with TLS, which asks every client for a certificate.
pub(crate) struct Broker {
    port: u16,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// A running Python peer: told in JSON lines, answering each.
pub(crate) struct Python {
    script: String,
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What followed `ready` on its first line.
    pub(crate) ready: String,
}

/// A file of JSON lines that still grows.
pub(crate) struct JsonLines {
    path: PathBuf,
    read: u64,
    lines: Vec<Value>,
}

/// The Modbus TCP slave.
pub(crate) struct Slave {
    python: Python,
    log: JsonLines,
}

/// One read the slave answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) connection: u64,
    pub(crate) unit: u64,
    pub(crate) seq: u64,
    pub(crate) address: u64,
    pub(crate) values: Vec<u64>,
}

/// The broker that confirms nothing.
pub(crate) struct MuteBroker {
    python: Python,
    log: JsonLines,
}

/// After it, the configuration says who may come in.
const CLIENTS: &str = "# clients\n";
/// Clients with a certificate, and no others.
pub(crate) const WITH_CERTIFICATE: &str = "require_certificate true\nuse_identity_as_username true\n";

impl Broker {
    /// Starts it on a free port. `persistent` sessions survive [`Broker::stop`], none a kill.
    pub(crate) fn start(site: &Site, persistent: bool) -> Self {
        Self::start_for(site, persistent, "127.0.0.1", WITH_CERTIFICATE)
    }

    /// Starts it on all IPv4 addresses there are.
    pub(crate) fn start_everywhere(site: &Site) -> Self {
        Self::start_for(site, true, "0.0.0.0", WITH_CERTIFICATE)
    }

    /// Starts it for clients that log in with this name and password, and need no certificate.
    pub(crate) fn start_for_login(site: &Site, username: &str, password: &str) -> Self {
        let file = Self::write_password(site, username, password);
        let address = "127.0.0.1";
        Self::start_for(
            site,
            true,
            address,
            &format!("allow_anonymous false\npassword_file {}\n", file.display()),
        )
    }

    /// Writes the file of the one login.
    pub(crate) fn write_password(site: &Site, username: &str, password: &str) -> PathBuf {
        let file = site.path("passwords");
        let made = Command::new(program("mosquitto_passwd"))
            .args(["-b", "-c"])
            .arg(&file)
            .args([username, password])
            .status();
        assert!(made.unwrap().success(), "mosquitto_passwd");
        file
    }

    /// Ends it, and starts it with other lines about its clients; its files are read anew.
    pub(crate) fn restart_for(&mut self, clients: &str) {
        self.stop();
        let text = fs::read_to_string(&self.config).unwrap();
        let kept = text.split_once(CLIENTS).map_or(text.as_str(), |(kept, _)| kept);
        fs::write(&self.config, format!("{kept}{CLIENTS}{clients}")).unwrap();
        self.start_again();
    }

    fn start_for(site: &Site, persistent: bool, address: &str, clients: &str) -> Self {
        let port = free_port();
        let Identity { ca, cert, key } = site.identity("broker");
        let config = site.path("mosquitto.conf");
        let text = format!(
            "per_listener_settings false\nuser root\nlistener {port} {address}\n\
             cafile {}\ncertfile {}\nkeyfile {}\n\
             set_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
             persistence {persistent}\npersistence_location {}/\nautosave_interval 0\n\
             log_dest stderr\nlog_type error\nlog_type warning\nlog_type notice\nlog_type information\n\
             {CLIENTS}{clients}",
            ca.display(),
            cert.display(),
            key.display(),
            site.path("").display(),
        );
        fs::write(&config, text).unwrap();
        let mut broker = Self { port, config, log: site.path("mosquitto.log"), child: None };
        broker.start_again();
        broker
    }

    /// Starts it on the port it had.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "the broker still runs");
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(program("mosquitto"));
        command.arg("-c").arg(&self.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("mosquitto is not installed; tests/run installs it"));
        until("mosquitto listens", PATIENCE, || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// Ends it in order: persistent sessions are written.
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().expect("the broker runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How often this client has connected.
    pub(crate) fn connects(&self, client_id: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        let as_client = format!(" as {client_id} (");
        log.lines().filter(|l| l.contains("New client connected") && l.contains(&as_client)).count()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.iter_mut().for_each(end);
    }
}

impl Python {
    /// Starts a script of `peers/` and waits until it is ready.
    pub(crate) fn start(site: &Site, script: &str, arguments: &[&str]) -> Self {
        let interpreter = interpreter();
        let errors = site.path(&format!("{script}.{}.stderr", fastrand::u32(..)));
        let mut child = Command::new(&interpreter)
            .arg("-B")
            .arg(repository().join("tests/it/peers").join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; tests/run installs it", interpreter.display()));
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut python = Self { script: script.to_owned(), child, commands, answers, ready: String::new() };
        let first = python.answer();
        let ready = first.strip_prefix("ready");
        let ready = ready.unwrap_or_else(|| panic!("{script}: {}", fs::read_to_string(errors).unwrap()));
        python.ready = ready.trim().to_owned();
        python
    }

    /// Gives a command and waits until it is in effect.
    pub(crate) fn tell(&mut self, command: &Value) {
        let commands = self.commands.as_mut().unwrap();
        writeln!(commands, "{command}").unwrap();
        commands.flush().unwrap();
        let answer = self.answer();
        assert!(answer.starts_with("ok"), "{} answers {command} with {answer:?}", self.script);
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl JsonLines {
    /// Of this file, which need not exist yet.
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0, lines: Vec::new() }
    }

    /// All whole lines so far.
    pub(crate) fn all(&mut self) -> &[Value] {
        if let Ok(mut file) = File::open(&self.path) {
            let mut text = Vec::new();
            file.seek(SeekFrom::Start(self.read)).unwrap();
            file.read_to_end(&mut text).unwrap();
            let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            for line in text[..whole].split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                self.lines.push(serde_json::from_slice(line).unwrap());
            }
            self.read += u64::try_from(whole).unwrap();
        }
        &self.lines
    }
}

impl Slave {
    /// With so many units of so many registers.
    pub(crate) fn start(site: &Site, units: u64, registers: u64) -> Self {
        let log = site.path("slave.jsonl");
        let (units, registers) = (units.to_string(), registers.to_string());
        let arguments = ["--units", &units, "--registers", &registers, "--log", log.to_str().unwrap()];
        Self { python: Python::start(site, "modbus_slave.py", &arguments), log: JsonLines::of(&log) }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.python.ready.parse().unwrap()
    }

    /// Ends all connections and listens no more. What it has answered is on its way.
    pub(crate) fn stop(&mut self) {
        self.python.tell(&json!({"do": "stop"}));
    }

    /// How one unit (0: all of them) behaves: `serve`, `silent`, `busy`, `stranger`, or `slow` by so many ms.
    pub(crate) fn mode(&mut self, unit: u64, mode: &str, ms: u64) {
        self.python.tell(&json!({"unit": unit, "mode": mode, "ms": ms}));
    }

    /// A unit answers everything with this exception.
    pub(crate) fn refuse(&mut self, unit: u64, code: u8) {
        self.python.tell(&json!({"unit": unit, "mode": "refuse", "code": code}));
    }

    /// How many reads it has answered.
    pub(crate) fn count(&mut self) -> usize {
        self.log.all().iter().filter(|l| l.get("seq").is_some()).count()
    }

    /// All reads it has answered, in order.
    pub(crate) fn served(&mut self) -> Vec<Served> {
        let reads = self.log.all().iter().filter(|l| l.get("seq").is_some());
        let number = |line: &Value, key: &str| line[key].as_u64().unwrap();
        reads
            .map(|l| Served {
                connection: number(l, "connection"),
                unit: number(l, "unit"),
                seq: number(l, "seq"),
                address: number(l, "address"),
                values: l["values"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect(),
            })
            .collect()
    }
}

impl MuteBroker {
    /// Starts it on a free port.
    pub(crate) fn start(site: &Site) -> Self {
        let log = site.path("mute.jsonl");
        let identity = site.identity("mute");
        let mut arguments = vec!["--log", log.to_str().unwrap()];
        arguments.extend(files(&identity));
        Self { python: Python::start(site, "mute_broker.py", &arguments), log: JsonLines::of(&log) }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.python.ready.parse().unwrap()
    }

    /// On how many connections something was published.
    pub(crate) fn connections_with_publishes(&mut self) -> usize {
        let published = self.log.all().iter().filter_map(|l| l.get("published")?.as_u64());
        published.collect::<std::collections::BTreeSet<_>>().len()
    }
}

/// The arguments that tell a peer its certificate.
pub(crate) fn files(identity: &Identity) -> [&str; 6] {
    [
        "--ca",
        identity.ca.to_str().unwrap(),
        "--cert",
        identity.cert.to_str().unwrap(),
        "--key",
        identity.key.to_str().unwrap(),
    ]
}

/// The Python that has what the peers need.
pub(crate) fn interpreter() -> PathBuf {
    match env::var_os("TIDEGATE_TEST_PYTHON") {
        Some(path) => path.into(),
        None => repository().join("target/venv/bin/python"),
    }
}

/// Kills it and waits for its end.
pub(crate) fn end(child: &mut Child) {
    // It may be gone already.
    let _gone = child.kill();
    let _status = child.wait();
}

/// A program that may be outside the search path of a plain user.
fn program(name: &str) -> PathBuf {
    let mut places = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    places.push("/usr/sbin".into());
    places.push("/usr/local/sbin".into());
    places.iter().map(|p| p.join(name)).find(|p| p.exists()).unwrap_or_else(|| name.into())
}
