//! The daemon under test: its configuration, its lives and deaths, and what it says of itself.
//!
//! `status` and `queue` are asked through the real command line. The database is read as well, from
//! outside and read-only: what the daemon says is not taken for what is on the disk.

use crate::{
    peers::end,
    site::{PATIENCE, Site, until},
};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::{
    env,
    fmt::Write as _,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

/// The client id every configuration here uses.
pub(crate) const CLIENT_ID: &str = "gw-1";

/// A configuration in the making.
pub(crate) struct Config {
    state_dir: PathBuf,
    own: String,
    clock: String,
    uplink: String,
    tables: String,
}

/// A daemon, dead or alive. Killed when dropped.
pub(crate) struct Gateway {
    config: PathBuf,
    database: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    child: Option<Child>,
    /// Where in its journal this life begins.
    born: usize,
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) rss_kb: u64,
    pub(crate) peak_rss_kb: u64,
    pub(crate) cpu: Duration,
}

impl Config {
    /// An uplink to a 1/KP platform behind the broker on this port.
    pub(crate) fn kaa(site: &Site, broker_port: u16) -> Self {
        let mut config = Self::uplink(site, "kaa", broker_port);
        config.tables.push_str("[uplink.kaa]\napp_version = \"demo-v1\"\n");
        config
    }

    /// An uplink to a plain broker on this port, to `site/{endpoint}/telemetry`.
    pub(crate) fn plain(site: &Site, broker_port: u16) -> Self {
        let mut config = Self::uplink(site, "plain", broker_port);
        let table = "[uplink.plain]\ntopic = \"site/{endpoint}/telemetry\"\nformat = \"json\"\nbatch = 1\n";
        config.tables.push_str(table);
        config
    }

    fn uplink(site: &Site, kind: &str, broker_port: u16) -> Self {
        let identity = site.identity("gateway");
        let uplink = format!(
            "[uplink]\nkind = \"{kind}\"\nurls = [\"mqtts://localhost:{broker_port}\"]\nclient_id = \"{CLIENT_ID}\"\n",
        );
        let tables = format!(
            "[uplink.tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
            identity.ca, identity.cert, identity.key,
        );
        let clock = "trust = \"always\"".to_owned();
        Self { state_dir: site.path("state"), own: String::new(), clock, uplink, tables }
    }

    /// Other keys of `[clock]` than `trust = "always"`.
    pub(crate) fn clock(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.clock);
        self
    }

    /// Marks what cannot be trusted, in members of their own. To be said first, of [`Config::plain`] only.
    pub(crate) fn with_quality(mut self) -> Self {
        self.tables.push_str("quality = \"field\"\n");
        self
    }

    /// An endpoint for the gateway itself; its table is still to be said.
    pub(crate) fn own_endpoint(mut self, name: &str) -> Self {
        self.own = format!("endpoint = {name:?}\n");
        self
    }

    /// Another state directory.
    pub(crate) fn state_dir(mut self, dir: &Path) -> Self {
        dir.clone_into(&mut self.state_dir);
        self
    }

    /// A key of `[uplink]` that holds text, such as a duration.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        writeln!(self.uplink, "{key} = {value:?}").unwrap();
        self
    }

    /// A key of `[uplink]` that holds a number.
    pub(crate) fn number(mut self, key: &str, value: u64) -> Self {
        writeln!(self.uplink, "{key} = {value}").unwrap();
        self
    }

    /// These addresses of the platform in place of the one.
    pub(crate) fn at(mut self, urls: &[&str]) -> Self {
        let kept = self.uplink.lines().filter(|l| !l.starts_with("urls"));
        self.uplink = kept.fold(String::new(), |uplink, line| uplink + line + "\n");
        writeln!(self.uplink, "insecure = true\nurls = {urls:?}").unwrap();
        self
    }

    /// A line for the last table so far.
    pub(crate) fn line(mut self, line: &str) -> Self {
        writeln!(self.tables, "{line}").unwrap();
        self
    }

    /// A login, and no certificate.
    pub(crate) fn login(mut self, username: &str, password_file: &Path) -> Self {
        self.tables = self
            .tables
            .lines()
            .filter(|l| !l.starts_with("cert_file") && !l.starts_with("key_file"))
            .fold(String::new(), |tables, line| tables + line + "\n");
        self.set("username", username).set("password_file", &password_file.display().to_string())
    }

    /// No platform, with everything else as it was.
    pub(crate) fn no_uplink(mut self) -> Self {
        self.uplink = "[uplink]\nkind = \"none\"\n".to_owned();
        self.tables =
            self.tables.split("[adapters.").skip(1).fold(String::new(), |t, table| t + "[adapters." + table);
        self
    }

    /// Endpoints `m1`.. with tokens `TM1`.., the units of one Modbus TCP slave: `seq` in registers 0
    /// and 1, `r2` to `r9` in the others, all of them once a second.
    pub(crate) fn meters(mut self, count: u64, slave_port: u16) -> Self {
        writeln!(self.tables, "[adapters.modbus.site]\nhost = \"127.0.0.1:{slave_port}\"\ntimeout = \"60s\"")
            .unwrap();
        for unit in 1..=count {
            let table = format!(
                "[endpoints.m{unit}]\ntoken = \"TM{unit}\"\nadapter = \"site\"\n[endpoints.m{unit}.modbus]\nunit = {unit}\n\
                 [endpoints.m{unit}.modbus.resources]\nseq = {{ register = \"holding:0\", type = \"u32\", period = \"1s\" }}\n",
            );
            self.tables.push_str(&table);
            for register in 2..=9 {
                writeln!(
                    self.tables,
                    "r{register} = {{ register = \"holding:{register}\", type = \"u16\", period = \"1s\" }}"
                )
                .unwrap();
            }
        }
        self
    }

    /// Endpoints `p1`.. with tokens `TP1`.., pushed over the test adapter on this port.
    pub(crate) fn pushed(mut self, count: u64, port: u16) -> Self {
        writeln!(self.tables, "[adapters.test.push]\nlisten = \"127.0.0.1:{port}\"").unwrap();
        for n in 1..=count {
            writeln!(self.tables, "[endpoints.p{n}]\ntoken = \"TP{n}\"\n[endpoints.p{n}.test]").unwrap();
        }
        self
    }

    fn text(&self, socket: &Path) -> String {
        let Self { state_dir, own, clock, uplink, tables } = self;
        format!(
            "[gateway]\nstate_dir = {state_dir:?}\ncontrol_socket = {socket:?}\n{own}\n[clock]\n{clock}\n{uplink}\n{tables}"
        )
    }
}

impl Gateway {
    /// Writes the configuration; starts nothing yet. All its waits are `scale` times faster.
    pub(crate) fn new(site: &Site, config: &Config, scale: u32) -> Self {
        fs::create_dir_all(&config.state_dir).unwrap();
        let file = site.path("tidegate.toml");
        fs::write(&file, config.text(&site.path("control.sock"))).unwrap();
        let environment = [("TIDEGATE_TIME_SCALE".to_owned(), scale.to_string())].into();
        let database = config.state_dir.join("tidegate.db");
        let log = site.path("tidegate.log");
        let wrapper = Vec::new();
        Self { config: file, database, log, environment, wrapper, child: None, born: 0 }
    }

    /// Writes another configuration for its next life.
    pub(crate) fn configure(&mut self, site: &Site, config: &Config) {
        fs::write(&self.config, config.text(&site.path("control.sock"))).unwrap();
    }

    /// A variable of its environment, from its next life on.
    pub(crate) fn environment(&mut self, variable: &str, value: &str) {
        self.environment.push((variable.to_owned(), value.to_owned()));
    }

    /// A variable its environment has no longer.
    pub(crate) fn forget(&mut self, variable: &str) {
        self.environment.retain(|(known, _)| known != variable);
    }

    /// How often its journal says this.
    pub(crate) fn says(&self, what: &str) -> usize {
        fs::read_to_string(&self.log).unwrap().lines().filter(|line| line.contains(what)).count()
    }

    /// What a command prints for people, on either stream, and whether it succeeded.
    pub(crate) fn say(&self, command: &[&str]) -> (String, bool) {
        let output = Command::new(binary()).args(command).arg("-c").arg(&self.config).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8(text).unwrap(), output.status.success())
    }

    /// Begins a command that goes on, with its output to be read.
    pub(crate) fn begin(&self, command: &[&str]) -> Child {
        let mut call = Command::new(binary());
        call.args(command).arg("-c").arg(&self.config).envs(self.environment.iter().cloned());
        call.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What `check` prints, and whether the configuration is good.
    pub(crate) fn check(&self) -> (String, bool) {
        let output = Command::new(binary()).arg("check").arg(&self.config).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8(text).unwrap(), output.status.success())
    }

    /// Whether its journal has this text.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        fs::read_to_string(&self.log).unwrap_or_default().contains(text)
    }

    /// A life.
    pub(crate) fn start(&mut self) {
        self.start_to_fail(None);
    }

    /// A life that ends by itself when it passes `NAME@COUNT`, if given.
    pub(crate) fn start_to_fail(&mut self, point: Option<&str>) {
        assert!(self.child.is_none(), "it still runs");
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        self.born = log.metadata().unwrap().len().try_into().unwrap();
        let mut line = self.wrapper.iter().map(Into::into).chain([binary().into_os_string()]);
        let mut command = Command::new(line.next().unwrap());
        command.args(line).args(["run", "-c"]).arg(&self.config);
        // What is told is agreed, whoever runs the tests: only what a test says counts.
        command.env_remove("TIDEGATE_LOG").envs(self.environment.iter().cloned());
        if let Some(point) = point {
            command.env("TIDEGATE_FAIL", point);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// `kill -9`, and how it ended: it may have been faster.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        end(&mut child);
        child.wait().unwrap()
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.ended("it stops after SIGTERM")
    }

    /// SIGTERM.
    pub(crate) fn ask_to_stop(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = rustix::process::Pid::from_child(child);
        // A child that has ended is there until it is waited for.
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until it ends by itself, and how.
    pub(crate) fn ended(&mut self, what: &str) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = until(what, PATIENCE, || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// What a command answers in JSON; `None` while nobody answers on the socket.
    pub(crate) fn ask(&self, command: &[&str]) -> Option<Value> {
        let mut call = Command::new(binary());
        call.args(command).arg("--json").arg("-c").arg(&self.config).stdin(Stdio::null());
        let output = call.envs(self.environment.iter().cloned()).output().unwrap();
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    /// Its status.
    pub(crate) fn status(&mut self) -> Value {
        self.until_status("it tells its status", |_| true)
    }

    /// Waits until its status is so.
    pub(crate) fn until_status(&mut self, what: &str, mut so: impl FnMut(&Value) -> bool) -> Value {
        until(what, PATIENCE, || {
            self.assert_alive();
            self.ask(&["status"]).filter(&mut so)
        })
    }

    /// From its next life on it is started by this command, which has to become it.
    pub(crate) fn started_by(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
    }

    /// Its root directory as it sees it, for those that may look.
    pub(crate) fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.child.as_ref().expect("it runs").id()).into()
    }

    /// The file of its database.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    /// Everything it has logged.
    pub(crate) fn journal(&self) -> String {
        String::from_utf8(fs::read(&self.log).unwrap()).expect("a journal is text")
    }

    /// Waits until it tells this fault, of the uplink, of a unit or of itself, and shows it as people see it.
    pub(crate) fn until_fault(&mut self, code: &str) -> String {
        let told = |fault: &Value| fault["code"] == code;
        let any_told = |faults: &Value| faults.as_array().is_some_and(|faults| faults.iter().any(told));
        self.until_status(&format!("it tells {code}"), |status| {
            let units = status["units"].as_array().map(Vec::as_slice).unwrap_or_default();
            told(&status["uplink"]["fault"])
                || told(&status["configuration"]["fault"])
                || any_told(&status["uplink"]["faults"])
                || any_told(&status["faults"])
                || units.iter().any(|unit| any_told(&unit["faults"]))
        });
        let (text, good) = self.say(&["status"]);
        assert!(good, "{text}");
        let lines = text.lines().skip_while(|line| !line.starts_with(&format!("FAULT {code}")));
        lines.take(4).fold(String::new(), |fault, line| fault + line + "\n")
    }

    /// Waits until it ends by itself; the last line of its journal, without the time.
    pub(crate) fn last_words(&mut self) -> String {
        self.ended("it ends by itself");
        let log = fs::read_to_string(&self.log).unwrap();
        // Another gateway may write to the same file.
        let last = log.lines().rfind(|line| line.contains("not started")).or_else(|| log.lines().last());
        let last = last.unwrap_or_default();
        last.split_once(' ').map_or(last, |(_, rest)| rest.trim_start()).to_owned() + "\n"
    }

    /// The journal of this life, or of the last one.
    pub(crate) fn journal_of_life(&self) -> String {
        fs::read_to_string(&self.log).unwrap().split_off(self.born)
    }

    /// Waits until the uplink is up.
    pub(crate) fn until_up(&mut self) {
        self.until_status("the uplink is up", |status| status["uplink"]["state"] == "up");
    }

    /// Its dead letters.
    pub(crate) fn dead(&self) -> Vec<Value> {
        let answer = self.ask(&["queue", "--dead"]).expect("it answers");
        answer["dead"].as_array().expect("a list of dead letters").clone()
    }

    /// The rows of the outbox, counted in the table.
    pub(crate) fn outbox_rows(&self) -> u64 {
        self.count("SELECT count(*) FROM outbox")
    }

    /// The rows of one endpoint in the outbox.
    pub(crate) fn outbox_rows_of(&self, endpoint: &str) -> u64 {
        self.count(&format!(
            "SELECT count(*) FROM outbox JOIN lane ON lane.id = outbox.lane WHERE lane.endpoint = '{endpoint}'"
        ))
    }

    /// The refused samples, as the table has them.
    pub(crate) fn refused_rows(&self) -> u64 {
        self.count("SELECT coalesce(sum(samples), 0) FROM ledger WHERE term = 'refused'")
    }

    /// The lanes, counted in the table.
    pub(crate) fn lanes(&self) -> u64 {
        self.count("SELECT count(*) FROM lane")
    }

    fn count(&self, query: &str) -> u64 {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(&self.database, flags).unwrap();
        database.busy_timeout(PATIENCE).unwrap();
        let count: i64 = database.query_row(query, [], |row| row.get(0)).unwrap();
        count.try_into().unwrap()
    }

    /// Waits until the outbox is empty.
    pub(crate) fn until_drained(&mut self) {
        until("the queue is empty", PATIENCE * 2, || {
            self.assert_alive();
            (self.outbox_rows() == 0).then_some(())
        });
    }

    /// Its ledger, which must balance; waits until the deletes of confirmed rows are in it.
    pub(crate) fn ledger(&mut self) -> Ledger {
        let status = self.status();
        let term =
            |name: &str| status["ledger"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {status}"));
        let ledger = Ledger {
            offered: term("offered"),
            refused: term("refused"),
            suppressed: term("suppressed"),
            stored: term("stored"),
            landed: term("landed"),
            queued: term("queued"),
            dropped: term("dropped"),
            dead: term("dead"),
            discarded: term("discarded"),
        };
        assert_eq!(ledger.offered, ledger.refused + ledger.suppressed + ledger.stored, "{ledger:?}");
        let gone = ledger.landed + ledger.dropped + ledger.dead + ledger.discarded;
        assert_eq!(ledger.stored, gone + ledger.queued, "{ledger:?}");
        ledger
    }

    /// What the running process has used, from `/proc`.
    pub(crate) fn usage(&self) -> Usage {
        let pid = self.child.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kb = |key: &str| {
            let line = status.lines().find(|l| l.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        // Fields 14 and 15 of proc_pid_stat(5); the name, field 2, is in parentheses.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // USER_HZ is 100 on every Linux we run on.
        Usage { rss_kb: kb("VmRSS:"), peak_rss_kb: kb("VmHWM:"), cpu: Duration::from_millis(ticks * 10) }
    }

    /// Panics with its last words if it has ended by itself.
    pub(crate) fn assert_alive(&mut self) {
        let ended = self.child.as_mut().expect("it was started").try_wait().unwrap();
        assert!(ended.is_none(), "the daemon ended by itself: {}", ended.unwrap());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.iter_mut().for_each(end);
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = lines.len().saturating_sub(40);
            println!("the daemon's last lines:\n{}", lines[last..].join("\n"));
        }
    }
}

/// What came in and what became of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ledger {
    pub(crate) offered: u64,
    pub(crate) refused: u64,
    pub(crate) suppressed: u64,
    pub(crate) stored: u64,
    pub(crate) landed: u64,
    pub(crate) queued: u64,
    pub(crate) dropped: u64,
    pub(crate) dead: u64,
    pub(crate) discarded: u64,
}

/// The daemon.
pub(crate) fn binary() -> PathBuf {
    env::var_os("TIDEGATE_TEST_BIN").map_or_else(|| env!("CARGO_BIN_EXE_tidegate").into(), PathBuf::from)
}
