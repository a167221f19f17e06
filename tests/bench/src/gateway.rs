//! The daemon that is measured: its configuration, its process, and what it says of itself.

use crate::site::{PATIENCE, Site, end, until};
use serde_json::Value;
use std::{
    env,
    fmt::Write as _,
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A configuration in the making.
pub struct Config {
    text: String,
}

/// A running daemon. Killed when dropped.
pub struct Gateway {
    socket: PathBuf,
    child: Child,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub rss: u64,
    pub peak: u64,
    pub written: u64,
    pub switches: u64,
}

/// The program under test: a release build; with `--features test-hooks` where the load needs its adapter.
pub fn binary() -> PathBuf {
    env::var_os("TIDEGATE_BENCH_BIN").expect("TIDEGATE_BENCH_BIN names the daemon").into()
}

impl Config {
    /// With an uplink of this kind, `plain` (one sample a publish) or `kaa` (batches of 100).
    pub fn new(site: &Site, kind: &str, port: u16) -> Self {
        let mut config = Self { text: String::new() };
        config.line(&format!(
            "[gateway]\nstate_dir = {:?}\ncontrol_socket = {:?}\n[clock]\ntrust = \"always\"\n\
             [uplink]\nkind = \"{kind}\"\nurls = [\"mqtts://localhost:{port}\"]\nclient_id = \"bench\"\n\
             [uplink.tls]\nca_file = {:?}",
            site.path("state"),
            site.path("control.sock"),
            site.path("ca.pem"),
        ));
        config.line(match kind {
            "kaa" => "[uplink.kaa]\napp_version = \"bench-v1\"",
            _ => "[uplink.plain]\ntopic = \"site/{endpoint}/telemetry\"",
        });
        config
    }

    /// One more line, for the last table so far.
    pub fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("memory takes it");
    }

    /// Endpoints `p1`.. behind a test adapter on this port.
    pub fn pushed(&mut self, adapter: &str, numbers: std::ops::RangeInclusive<usize>, port: u16) {
        self.line(&format!("[adapters.test.{adapter}]\nlisten = \"127.0.0.1:{port}\""));
        for n in numbers {
            self.line(&format!(
                "[endpoints.p{n}]\ntoken = \"TP{n}\"\nadapter = \"{adapter}\"\n[endpoints.p{n}.test]"
            ));
        }
    }

    fn write(&self, site: &Site) -> PathBuf {
        let file = site.path("tidegate.toml");
        fs::write(&file, &self.text).expect("written");
        file
    }

    /// Whether this build of the daemon knows all of its keys.
    pub fn is_good(&self, site: &Site) -> bool {
        let mut check = Command::new(binary());
        check.arg("check").arg(self.write(site)).stdout(Stdio::null()).stderr(Stdio::null());
        check.status().expect("the daemon can be started").success()
    }
}

impl Gateway {
    /// Starts it and returns at once.
    pub fn start(site: &Site, config: &Config) -> Self {
        Self::start_in(site, config, &[])
    }

    /// The same with these variables in its environment.
    pub fn start_in(site: &Site, config: &Config, environment: &[(&str, &str)]) -> Self {
        let file = config.write(site);
        let log = File::options().create(true).append(true).open(site.path("tidegate.log")).expect("a log");
        let mut command = Command::new(binary());
        command.args(["run", "-c"]).arg(file).stdin(Stdio::null()).envs(environment.iter().copied());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        Self { socket: site.path("control.sock"), child: command.spawn().expect("the daemon starts") }
    }

    /// Its status; `None` while nobody answers.
    pub fn ask(&self) -> Option<Value> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    pub fn status(&self) -> Value {
        until("the daemon answers", || self.ask())
    }

    /// Waits until the uplink is up and subscribed.
    pub fn until_up(&self) {
        until("the uplink is up", || {
            let status = self.ask()?;
            (status["uplink"]["state"] == "up" && status["uplink"]["subscribing"] == false).then_some(())
        });
    }

    /// Waits until nothing is queued, as long as it gets less.
    pub fn until_drained(&self) {
        let (mut least, mut since) = (u64::MAX, Instant::now());
        while least > 0 {
            let queued = self.term("queued");
            if queued < least {
                (least, since) = (queued, Instant::now());
            }
            assert!(since.elapsed() < PATIENCE, "{queued} are queued, and it gets no less");
            sleep(Duration::from_millis(20));
        }
    }

    /// A term of the ledger.
    pub fn term(&self, name: &str) -> u64 {
        self.status()["ledger"][name].as_u64().expect("a term of the ledger")
    }

    pub fn usage(&self) -> Usage {
        usage(self.child.id())
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let _status = self.child.wait();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Usage since an earlier one; sizes are those of now.
impl std::ops::Sub for Usage {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            written: self.written - before.written,
            switches: self.switches.saturating_sub(before.switches),
            ..self
        }
    }
}

/// Waits for the broker's other clients.
pub fn settle() {
    sleep(Duration::from_millis(500));
}

/// What a process has used, from `/proc`.
pub fn usage(pid: u32) -> Usage {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let number = |text: &str, key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_ascii_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default()
    };
    let (status, io, stat) = (read("status"), read("io"), read("stat"));
    // Behind the name: utime and stime are the 12th and 13th field, in ticks of 10 ms.
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    let mut switches = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        switches += number(&status, "voluntary_ctxt_switches:");
    }
    Usage {
        cpu: Duration::from_millis(ticks * 10),
        rss: number(&status, "VmRSS:") << 10,
        peak: number(&status, "VmHWM:") << 10,
        written: number(&io, "write_bytes: "),
        switches,
    }
}
