//! `tidegate doctor`: each of these set-ups is broken in one way, and that is what it names; one is good.

use crate::{
    agreed::assert_agreed,
    gateway::{CLIENT_ID, Config, Gateway, binary},
    machine::Packaged,
    peers::{Broker, end},
    pusher::Pusher,
    site::{PATIENCE, Pty, Site, free_port, until},
};
use rusqlite::Connection;
use serde_json::Value;
use std::{
    fs::{self, File, OpenOptions, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// What it found.
struct Found {
    findings: Vec<Value>,
    text: String,
    good: bool,
}

impl Found {
    /// Runs it in the place of a command, if one is given.
    fn within(site: &Site, wrapper: &[&str]) -> Self {
        Self::about(&site.path("tidegate.toml"), wrapper)
    }

    fn about(file: &Path, wrapper: &[&str]) -> Self {
        let run = |json: bool| {
            let mut line = wrapper.iter().map(|&word| word.into()).chain([binary().into_os_string()]);
            let mut command = Command::new(line.next().unwrap());
            command.args(line).args(["doctor", "-c"]).arg(file).stdin(Stdio::null());
            let output = command.args(json.then_some("--json")).output().unwrap();
            (String::from_utf8(output.stdout).unwrap(), output.status.code())
        };
        let (json, code) = run(true);
        let answer: Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{json}"));
        let (text, same) = run(false);
        assert_eq!(code, same, "{text}");
        let findings = answer["findings"].as_array().unwrap().clone();
        let errors = findings.iter().filter(|finding| finding["verdict"] == "error").count();
        assert_eq!(
            (answer["errors"].as_u64(), code),
            (Some(errors as u64), Some((errors > 0).into())),
            "{json}"
        );
        Self { findings, text, good: code == Some(0) }
    }

    fn of(site: &Site) -> Self {
        Self::within(site, &[])
    }

    fn verdict(&self, area: &str) -> &str {
        let found = self.findings.iter().find(|finding| finding["area"] == area);
        found.and_then(|found| found["verdict"].as_str()).unwrap_or("nothing said")
    }

    /// This is what is wrong, as agreed, and nothing else.
    fn assert_names(&self, name: &str, area: &str, code: &str) {
        let wrong: Vec<&Value> = self.findings.iter().filter(|found| found["verdict"] == "error").collect();
        let [wrong] = wrong.as_slice() else { panic!("{name}:\n{}", self.text) };
        assert_eq!((&wrong["area"], &wrong["code"]), (&area.into(), &code.into()), "{name}: {}", self.text);
        assert!(!self.good && !wrong["todo"].as_str().unwrap().is_empty(), "{name}: {}", self.text);
        let from = self.text.find("ERROR").unwrap();
        let said = &self.text[from..];
        let lines = said.lines().enumerate().take_while(|(n, line)| *n == 0 || line.starts_with("      "));
        let said = lines.fold(String::new(), |said, (_, line)| said + line.trim_end() + "\n");
        assert_agreed(&format!("doctor: {name}"), &said);
    }
}

/// Only the file; nothing runs.
fn written(site: &Site, config: &Config) -> Gateway {
    Gateway::new(site, config, 1)
}

#[test]
fn nothing_is_wrong_with_a_good_set_up_and_the_gateway_is_not_thrown_off() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let pty = Pty::new(&site);
    let port = free_port();
    let line = format!(
        "[adapters.modbus.line]\nport = {:?}\nbaud = 9600\n[endpoints.d]\ntoken = \"T1\"\n[endpoints.d.modbus]\nunit = 1\n\
         [endpoints.d.modbus.resources]\nx = {{ register = \"holding:0\", type = \"u16\" }}",
        pty.ours
    );
    let config = Config::plain(&site, broker.port()).pushed(1, port);
    let mut gateway = Gateway::new(&site, &config, 1);
    // Before it ever ran, and the login is tried.
    let found = Found::of(&site);
    assert!(found.good && found.verdict("login") == "ok", "{}", found.text);
    assert_eq!((found.verdict("gateway"), found.verdict("directory")), ("warning", "ok"), "{}", found.text);
    gateway.start();
    gateway.until_up();
    Pusher::connect(port).push("p1", "1-3");
    gateway.until_drained();
    let found = Found::of(&site);
    assert!(found.findings.iter().all(|finding| finding["verdict"] == "ok"), "{}", found.text);
    for area in
        ["configuration", "gateway", "clock", "directory", "disk", "database", "name", "port", "TLS", "login"]
    {
        assert_eq!(found.verdict(area), "ok", "{area}: {}", found.text);
    }
    assert!(found.text.ends_with("\nnothing is wrong\n"), "{}", found.text);
    assert_eq!(broker.connects(CLIENT_ID), 1, "the gateway was thrown off");
    assert!(gateway.terminate().success());
    // A port that is the gateway's own is in nobody else's hands.
    gateway.configure(&site, &config.line(&line));
    gateway.start();
    gateway.until_up();
    until("the port is open", PATIENCE, || {
        let found = Found::of(&site);
        found.text.contains("the gateway has it open").then_some(())
    });
    assert_eq!(Found::of(&site).verdict("serial port"), "ok");
}

#[test]
fn what_is_wrong_on_the_way_to_the_platform_is_named() {
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let config = Config::plain(&site, broker.port()).pushed(1, free_port());
    written(&site, &Config::plain(&site, free_port()).at(&["mqtts://broker.invalid"]).pushed(1, free_port()));
    Found::of(&site).assert_names("no such name", "name", "TG-101");
    written(&site, &Config::plain(&site, free_port()).pushed(1, free_port()));
    Found::of(&site).assert_names("nobody listens", "port", "TG-102");

    written(&site, &config);
    site.identity_for("broker", "localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    broker.restart_for(crate::peers::WITH_CERTIFICATE);
    Found::of(&site).assert_names("certificate expired", "TLS", "TG-121");
    site.identity_for("broker", "platform.example", |_| {});
    broker.restart_for(crate::peers::WITH_CERTIFICATE);
    Found::of(&site).assert_names("certificate for another name", "TLS", "TG-123");
    let other = Site::new();
    let stranger = other.identity("broker");
    fs::copy(&stranger.cert, site.path("broker.pem")).unwrap();
    fs::copy(&stranger.key, site.path("broker.key")).unwrap();
    broker.restart_for(crate::peers::WITH_CERTIFICATE);
    Found::of(&site).assert_names("another authority", "TLS", "TG-124");
}

#[test]
fn a_login_that_is_refused_is_named() {
    let site = Site::new();
    let broker = Broker::start_for_login(&site, "gateway-1", "SECRET-right");
    let password = site.path("password");
    fs::write(&password, "SECRET-wrong\n").unwrap();
    fs::set_permissions(&password, Permissions::from_mode(0o600)).unwrap();
    written(&site, &Config::plain(&site, broker.port()).login("gateway-1", &password).pushed(1, free_port()));
    let found = Found::of(&site);
    found.assert_names("login refused", "login", "TG-142");
    assert!(!found.text.contains("SECRET"), "{}", found.text);
}

/// By the clock of the machine.
fn days_since_2000() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs() / 86_400 - 10_957
}

#[test]
fn a_platform_s_certificate_that_ends_soon_is_a_warning() {
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    written(&site, &Config::plain(&site, broker.port()).pushed(1, free_port()));
    let today = rcgen::date_time_ymd(2000, 1, 1) + std::time::Duration::from_secs(days_since_2000() * 86_400);
    site.identity_for("broker", "localhost", |params| {
        params.not_after = today + std::time::Duration::from_secs(12 * 86_400);
    });
    broker.restart_for(crate::peers::WITH_CERTIFICATE);
    let found = Found::of(&site);
    assert!(found.good && found.verdict("TLS") == "warning", "{}", found.text);
    assert!(found.text.contains("good for 11 days more") || found.text.contains("good for 12 days more"));
}

#[test]
fn what_is_wrong_with_serial_ports_is_named() {
    let site = Site::new();
    let pty = Pty::new(&site);
    let line = |port: &Path| {
        let line = format!(
            "[adapters.modbus.line]\nport = {port:?}\nbaud = 9600\n[endpoints.d]\ntoken = \"T1\"\n\
             [endpoints.d.modbus]\nunit = 1\nprofile = \"sdm230\""
        );
        Config::plain(&site, 1).no_uplink().line(&line)
    };
    written(&site, &line(&site.path("ttyUSB9")));
    Found::of(&site).assert_names("no serial port", "serial port", "TG-406");
    written(&site, &line(&site.path("ca.pem")));
    Found::of(&site).assert_names("no serial port but a file", "serial port", "TG-409");
    written(&site, &line(&pty.ours));
    let found = Found::of(&site);
    assert!(found.good, "{}", found.text);
    let mut other = Other::hold(&pty.ours);
    let found = Found::of(&site);
    let text = found.text.replace(&other.0.id().to_string(), "PID");
    Found { text, ..found }.assert_names("another program has the port", "serial port", "TG-408");
    end(&mut other.0);
    assert!(Found::of(&site).good);
}

/// Another program with a file open. Ends with its value.
struct Other(Child);

impl Other {
    fn hold(file: &Path) -> Self {
        let open = File::options().read(true).write(true).open(file).unwrap();
        Self(Command::new("sleep").arg("600").stdin(open).spawn().unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

#[test]
fn a_database_of_a_newer_version_or_of_somebody_else_is_named_and_not_touched() {
    let site = Site::new();
    let mut gateway = written(&site, &Config::plain(&site, 1).no_uplink().pushed(1, free_port()));
    gateway.start();
    gateway.status();
    assert!(gateway.terminate().success());
    assert!(Found::of(&site).good);
    let database = site.path("state").join("tidegate.db");
    let db = Connection::open(&database).unwrap();
    db.execute_batch("PRAGMA user_version=7003; PRAGMA journal_mode=DELETE").unwrap();
    drop(db);
    let files = || fs::read_dir(site.path("state")).unwrap().count();
    let before = (fs::read(&database).unwrap(), files());
    Found::of(&site).assert_names("database of a newer version", "database", "TG-201");
    assert!(before == (fs::read(&database).unwrap(), files()), "it was touched");
    fs::write(&database, "not a database at all").unwrap();
    Found::of(&site).assert_names("no database", "database", "TG-202");
}

#[test]
fn a_file_that_is_no_configuration_is_named_with_its_places() {
    let site = Site::new();
    written(&site, &Config::plain(&site, 1).no_uplink().pushed(1, free_port()).line("nonsense = 1"));
    Found::of(&site).assert_names("unknown key", "configuration", "TG-303");
    fs::remove_file(site.path("tidegate.toml")).unwrap();
    Found::of(&site).assert_names("no file", "configuration", "TG-301");
}

#[test]
fn a_directory_that_is_full_or_cannot_be_written_is_named() {
    let site = Site::new();
    written(&site, &Config::plain(&site, 1).no_uplink().pushed(1, free_port()));
    let state = site.path("state");
    let state = state.to_str().unwrap();
    // In mounts of its own: nothing is left of them.
    let mounted = |how: &str, then: &str| {
        let script = format!("mount -t tmpfs -o {how} tmpfs {state} && {then}; exec \"$@\"");
        ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned)
    };
    let can = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", state]).output();
    if !can.is_ok_and(|can| can.status.success()) {
        println!("SKIPPED doctor: a full disk: nothing can be mounted here");
        fs::set_permissions(state, Permissions::from_mode(0o500)).unwrap();
        if OpenOptions::new().write(true).create_new(true).open(format!("{state}/x")).is_err() {
            Found::of(&site).assert_names("directory without rights", "directory", "TG-204");
        }
        return;
    }
    let full = mounted("size=128k", &format!("head -c 1M /dev/zero >{state}/ballast 2>/dev/null"));
    let found = Found::within(&site, &full.each_ref().map(String::as_str));
    assert_eq!((found.verdict("directory"), found.verdict("disk")), ("error", "error"), "{}", found.text);
    assert_eq!(found.text.matches("TG-206").count(), 2, "{}", found.text);
    let read_only = mounted("ro,size=2g", "true");
    let found = Found::within(&site, &read_only.each_ref().map(String::as_str));
    found.assert_names("directory that is read-only", "directory", "TG-205");
    fs::remove_dir(state).unwrap();
    fs::write(state, "").unwrap();
    Found::of(&site).assert_names("no directory but a file", "directory", "TG-204");
}

/// The gateway of a packaged service.
trait Examined {
    fn found(&self) -> Found;
    fn remedy(&self) -> String;
}

impl Examined for Packaged {
    fn found(&self) -> Found {
        Found::about(Path::new(Packaged::FILE), &self.wrapper())
    }

    /// The remedy of the one thing that is wrong.
    fn remedy(&self) -> String {
        let found = self.found();
        let wrong: Vec<&Value> = found.findings.iter().filter(|found| found["verdict"] == "error").collect();
        let [wrong] = wrong.as_slice() else { panic!("{}", found.text) };
        wrong["todo"].as_str().unwrap().to_owned()
    }
}

const PACKAGED: &str = "[gateway]\nstate_dir = \"STATE\"\ncontrol_socket = \"/run/tidegate/control.sock\"\n\
                        [clock]\ntrust = \"always\"\n[uplink]\nkind = \"none\"\n\
                        [endpoints.a]\ntoken_file = \"keys/a.token\"\n[endpoints.a.test]\n\
                        [adapters.test.push]\nlisten = \"127.0.0.1:5020\"\n";

#[test]
fn what_the_service_may_not_read_is_named_by_root_and_mended_by_the_command_that_is_told() {
    let Some(machine) = Packaged::new(PACKAGED) else {
        println!("SKIPPED doctor: the files of the service: nothing can be mounted here");
        return;
    };
    let (token, keys) =
        (machine.site.path("etc/tidegate/keys/a.token"), machine.site.path("etc/tidegate/keys"));
    fs::write(&token, "SECRET-a").unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(&token, 0o644);
    assert!(machine.found().good, "{}", machine.found().text);
    // What `check` says of a secret that everybody can read, as it stands in it, does not lock the service out.
    let text = machine.found().text;
    let hint = "chown root:tidegate /etc/tidegate/keys/a.token && chmod 640 /etc/tidegate/keys/a.token";
    assert!(text.contains("can be read by every user") && text.contains(hint), "{text}");
    assert!(machine.sh(hint) && machine.found().good, "{}", machine.found().text);
    assert!(!machine.found().text.contains("every user"));
    let rights = || (fs::metadata(&token).unwrap().permissions().mode() & 0o777, machine.found().good);
    assert_eq!(rights(), (0o640, true));

    assert!(machine.sh("chown root:root /etc/tidegate/keys/a.token"));
    machine.found().assert_names("a file the service may not read", "files", "TG-305");
    assert!(machine.sh(&machine.remedy()) && machine.found().good, "{}", machine.found().text);
    mode(&keys, 0o700);
    machine.found().assert_names("a directory the service may not pass", "files", "TG-305");
    assert!(machine.sh(&machine.remedy()) && machine.found().good, "{}", machine.found().text);
    assert!(
        machine.sh("chown root:root /etc/tidegate/tidegate.toml && chmod 600 /etc/tidegate/tidegate.toml")
    );
    machine.found().assert_names("a configuration the service may not read", "files", "TG-301");
    assert!(machine.sh(&machine.remedy()) && machine.found().good, "{}", machine.found().text);
}

#[test]
fn a_state_directory_that_the_unit_does_not_allow_is_named_with_its_drop_in() {
    let Some(machine) = Packaged::new(&PACKAGED.replace("token_file = \"keys/a.token\"", "token = \"T1\""))
    else {
        println!("SKIPPED doctor: what the unit allows: nothing can be mounted here");
        return;
    };
    let unit = "ProtectSystem=strict\nProtectHome=yes\nPrivateTmp=no\nStateDirectory=tidegate\nRuntimeDirectory=tidegate\n";
    machine.says(unit);
    let found = machine.found();
    found.assert_names("a state directory the unit does not allow", "directory", "TG-205");
    let state = machine.site.path("state").display().to_string();
    let line = format!("ReadWritePaths={state}");
    assert!(found.text.contains(&line) && found.text.contains("systemctl edit tidegate"), "{}", found.text);
    machine.says(&format!("{unit}{line}\n"));
    assert!(machine.found().good, "{}", machine.found().text);
}
