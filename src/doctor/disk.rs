//! The state directory: whether the gateway may write there, how much room there is, how long a write takes until it is
//! on the disk, and whose the database is.

use super::{
    Finding, Verdict,
    files::{Obstacle, obstacle, passed},
    person::Person,
    running::Running,
    service::Service,
};
use crate::{
    config::{Config, files::shell_word},
    fault::{self, Code},
    store::{self, OpenError, Space},
};
use adapter_api::clock;
use std::{
    fs::{self, File, Metadata},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

const STATE_DIR: &str = "gateway.state_dir";
const CONTROL_SOCKET: &str = "gateway.control_socket";
const DIRECTORY: &str = "directory";
const DISK: &str = "disk";
const DATABASE: &str = "database";
/// Of so many writes the middle one counts.
const WRITES: usize = 5;
/// A commit that takes longer keeps devices waiting that want to be answered.
const SLOW: Duration = Duration::from_millis(150);

pub(super) fn examine(
    config: &Config,
    person: &Person,
    service: Option<&Service>,
    running: &Running,
) -> Vec<Finding> {
    let dir = &config.gateway.state_dir;
    let mut findings: Vec<Finding> =
        service.and_then(|service| kept_out(config, person, service)).into_iter().collect();
    if !findings.is_empty() && !dir.is_dir() {
        return findings;
    }
    match directory(dir, person, service) {
        Ok(None) => {
            findings.push(Finding::ok(DIRECTORY, format!("{} is made at the first start", dir.display())));
            return findings;
        }
        Ok(Some(took)) => {
            if findings.is_empty() {
                findings.push(Finding::ok(DIRECTORY, format!("the gateway may write to {}", dir.display())));
            }
            findings.push(speed(took, dir));
        }
        Err(finding) => {
            findings.push(*finding);
            if !dir.is_dir() {
                return findings;
            }
        }
    }
    findings.extend(store::space(dir).map(|space| room(space, config, dir)));
    findings.push(database(dir, running));
    findings
}

/// That the unit keeps the service from its directory or its socket, and how that is mended. Whoever looks is not in
/// the unit, and may write there.
fn kept_out(config: &Config, person: &Person, service: &Service) -> Option<Finding> {
    let gateway = &config.gateway;
    let socket = gateway.control_socket.parent().unwrap_or(&gateway.control_socket);
    let dirs = [(STATE_DIR, gateway.state_dir.as_path()), (CONTROL_SOCKET, socket)];
    dirs.into_iter().find_map(|(key, dir)| {
        let real = real(dir);
        let (code, what, todo) = if let Some((setting, hidden)) = service.hides(&real) {
            let what =
                format!("the service has no place there: {setting}= of its unit keeps {hidden} from it");
            (Code::DirectoryUnusable, what, name_its_own(key, Some(service)))
        } else if !service.may_write(&real) {
            let what =
                "the service may not write there: its unit allows its own directories only (ProtectSystem=)";
            (Code::DirectoryReadOnly, what.to_owned(), allowed(key, &real, person, service))
        } else {
            return None;
        };
        let place = format!("{key}: {}", dir.display());
        let (state, socket) = (service.state_dir(), service.control_socket());
        let run = socket.parent().unwrap_or(&socket);
        let cause = format!(
            "the unit of the package lets the service write to {} and {} only",
            state.display(),
            run.display()
        );
        let finding = Finding::kind(DIRECTORY, code, what, &place, Some(todo));
        Some(Finding { cause, ..finding })
    })
}

/// Lets the service write to a directory that is its own, or that nobody has made yet: no other's is given to it.
fn allowed(key: &str, dir: &Path, person: &Person, service: &Service) -> String {
    // What is made in /run is gone at the next boot, and the unit does not start without it.
    let of_units = dir.starts_with("/var/lib/tidegate") && dir != service.state_dir();
    if of_units || dir.starts_with("/run") {
        return name_its_own(key, Some(service));
    }
    let made = match fs::metadata(dir) {
        Ok(rights) if rights.uid() == person.uid() => String::new(),
        Ok(_) => return name_its_own(key, Some(service)),
        Err(_) => {
            let (owner, group) = (person.user(), person.group());
            format!("`install -d -o {owner} -g {group} -m 750 {}`; then ", shell_word(dir))
        }
    };
    let (unit, dir) = (service.unit(), unit_word(dir));
    format!(
        "{made}`systemctl edit {unit}`, write `[Service]` and below it `ReadWritePaths={dir}`, and \
         `systemctl restart {unit}`"
    )
}

/// What the unit gives to the service, to be named in the configuration.
fn name_its_own(key: &str, service: Option<&Service>) -> String {
    let packaged = |at: &str| PathBuf::from(at);
    let own = match key {
        CONTROL_SOCKET => {
            service.map_or_else(|| packaged("/run/tidegate/control.sock"), Service::control_socket)
        }
        _ => service.map_or_else(|| packaged("/var/lib/tidegate"), Service::state_dir),
    };
    format!("name a directory of its own in {key}, as {}", own.display())
}

/// A path as it is written in a unit, systemd.syntax(7).
fn unit_word(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%");
    let plain = !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\'));
    if plain { text } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// Where a path leads, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    // Part by part: an empty rest is no final slash.
    let real = there.and_then(|(above, mut real)| {
        real.extend(path.strip_prefix(above).ok()?);
        Some(real)
    });
    real.unwrap_or_else(|| path.to_owned())
}

/// Whether the gateway may write there, and how long that takes; `None` where it will make the directory itself.
fn directory(
    dir: &Path,
    person: &Person,
    service: Option<&Service>,
) -> Result<Option<Duration>, Box<Finding>> {
    let unusable = |code, what: String, todo| {
        Box::new(Finding::kind(DIRECTORY, code, what, &format!("gateway.state_dir: {}", dir.display()), todo))
    };
    let Ok(rights) = fs::metadata(dir) else {
        let above = dir.ancestors().skip(1).find_map(|above| fs::metadata(above).ok());
        return match above {
            Some(above) if person.may_write(&above) => Ok(None),
            _ => Err(unusable(Code::DirectoryUnusable, "there is no such directory".into(), None)),
        };
    };
    if !rights.is_dir() {
        return Err(unusable(Code::DirectoryUnusable, "it is no directory".into(), None));
    }
    if let Some(obstacle) = obstacle(dir, person, None, Person::may_write) {
        let todo = match &obstacle {
            Obstacle::Dir(above, rights) => passed(above, rights, person, service),
            _ => written(dir, &rights, person, service),
        };
        let what = obstacle.words(person, "may not write there");
        return Err(unusable(Code::DirectoryUnusable, what, Some(todo)));
    }
    match write(dir) {
        Ok(took) => Ok(Some(took)),
        Err(error) => {
            let code = match error.kind() {
                io::ErrorKind::ReadOnlyFilesystem => Code::DirectoryReadOnly,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
                _ => Code::DirectoryUnusable,
            };
            Err(unusable(code, format!("nothing can be written there: {}", fault::words(&error)), None))
        }
    }
}

/// Lets the gateway write to its directory. One of others that has no database of it stays theirs.
fn written(dir: &Path, rights: &Metadata, person: &Person, service: Option<&Service>) -> String {
    let word = shell_word(dir);
    if rights.uid() == person.uid() {
        format!("chmod u+rwx {word}")
    } else if store::database(dir).exists() {
        format!("chown -R {} {word}", person.owner())
    } else {
        name_its_own(STATE_DIR, service)
    }
}

/// How long a write takes until it is on the disk.
fn write(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(format!("doctor-{}", std::process::id()));
    let result = write_to(&path);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => result.and(Err(error)),
        _ => result,
    }
}

fn write_to(path: &Path) -> io::Result<Duration> {
    let mut file = File::create_new(path)?;
    let mut took = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let began = clock::now();
        file.write_all(&[0; 4_096])?;
        file.sync_data()?;
        took.push(clock::now().since(began));
    }
    took.sort_unstable();
    Ok(took.get(WRITES / 2).copied().unwrap_or_default())
}

fn speed(took: Duration, dir: &Path) -> Finding {
    let what = format!("a write is on the disk after {:.1} ms", took.as_secs_f64() * 1_000.0);
    if took < SLOW {
        return Finding::ok(DISK, what);
    }
    let todo =
        "look for what else writes (`iotop`) and at `dmesg`; a card that becomes slow wears out: replace it";
    Finding {
        place: dir.display().to_string(),
        cause: "something else keeps the disk busy, or the card is slow".to_owned(),
        ..Finding::warning(DISK, what, todo)
    }
}

fn room(space: Space, config: &Config, dir: &Path) -> Finding {
    let (free, total) = (space.free >> 20, space.total >> 20);
    let limits = &config.store.limits;
    // As the store has it: of a small disk it leaves less alone.
    let kept_free = limits.min_free.min(space.total / 16);
    let what = format!("{free} of {total} MiB are free");
    let place = format!("gateway.state_dir: {}", dir.display());
    if space.free < kept_free {
        let what = format!("{what}, less than store.min_free: the database may not grow");
        return Finding::kind(DISK, Code::DiskFull, what, &place, None);
    }
    let used = fs::metadata(store::database(dir)).map_or(0, |file| file.len());
    let wanted = limits.max_bytes.saturating_sub(used);
    if space.free - kept_free < wanted {
        let todo =
            "free some space, or lower store.max_bytes; `tidegate queue` tells for how long there is room";
        let what = format!("{what}: the disk is full before the queue has store.max_bytes");
        return Finding { place, ..Finding::warning(DISK, what, todo) };
    }
    Finding::ok(DISK, what)
}

fn database(dir: &Path, running: &Running) -> Finding {
    let found = match store::version(dir) {
        Err(OpenError::Directory { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            let what = "this user may not look at the database";
            return Finding::warning(DATABASE, what, "run `tidegate doctor` as root");
        }
        Err(error) => return Finding::fault(DATABASE, error.fault()),
        Ok(Some(found)) => format!("version {found}"),
        Ok(None) if store::database(dir).exists() => "there; its version is still in its journal".to_owned(),
        Ok(None) => "there is none yet".to_owned(),
    };
    match store::runner(dir) {
        Some(runner) if running.pid() == Some(runner) => Finding::ok(DATABASE, found),
        // Seen from another container it has no number, or another.
        Some(_) if running.answers() => Finding::ok(DATABASE, found),
        Some(runner) => {
            let what =
                format!("the process {runner} runs on this directory, and another answers on the socket");
            let alone =
                format!("the process {runner} runs on this directory and does not answer on the socket");
            let what = if running.pid().is_some() { what } else { alone };
            let place = format!("gateway.state_dir: {}", dir.display());
            Finding::kind(DATABASE, Code::DatabaseLocked, what, &place, None).but(Verdict::Warning)
        }
        None => Finding::ok(DATABASE, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `systemctl show` says of the packaged unit.
    const UNIT: &str = "ProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nStateDirectory=tidegate\nRuntimeDirectory=tidegate\n";

    fn said(keys: &str, more: &str, person: &Person) -> Option<Finding> {
        let text = format!("[gateway]\n{keys}\n[uplink]\nkind = \"none\"\n");
        let (config, _) = Config::parse(&text, "t.toml", Path::new("/")).unwrap();
        kept_out(&config, person, &Service::told(&format!("{UNIT}{more}")))
    }

    #[test]
    fn a_directory_that_the_unit_does_not_allow_is_named_with_the_drop_in() {
        let said = |dir: &str, more: &str| said(&format!("state_dir = {dir:?}"), more, &Person::service());
        assert_eq!(said("/var/lib/tidegate", ""), None);
        let finding = said("/none/data", "").unwrap();
        assert_eq!(finding.code.as_deref(), Some("TG-205"));
        assert_eq!(finding.place, "gateway.state_dir: /none/data");
        assert!(
            finding.todo.starts_with("`install -d -o tidegate -g 54322 -m 750 /none/data`; "),
            "{finding}"
        );
        assert!(finding.todo.contains("`systemctl edit tidegate`"), "{finding}");
        assert!(finding.todo.contains("`ReadWritePaths=/none/data`"), "{finding}");
        assert!(said("/none/a b", "").unwrap().todo.contains("`ReadWritePaths=\"/none/a b\"`"));
        assert_eq!(said("/none/data", "ReadWritePaths=/none/data"), None);
        let finding = said("/home/none/data", "ReadWritePaths=/home/none/data").unwrap();
        assert!(finding.what.contains("ProtectHome="), "{finding}");
        // Written there, and gone with the service.
        assert!(said("/tmp/none", "").unwrap().what.contains("PrivateTmp="));
        // Below a directory of its own: what the unit gives to an instance is not what it gives to the other.
        let instance = "StateDirectory=tidegate/second\nRuntimeDirectory=tidegate-second";
        let of_instance = |dir: &str| {
            let keys = format!("state_dir = {dir:?}\ncontrol_socket = \"/run/tidegate-second/control.sock\"");
            self::said(&keys, instance, &Person::service())
        };
        assert_eq!(of_instance("/var/lib/tidegate/second"), None);
        let todo = of_instance("/var/lib/tidegate").unwrap().todo;
        assert_eq!(todo, "name a directory of its own in gateway.state_dir, as /var/lib/tidegate/second");
    }

    #[test]
    fn a_directory_of_others_is_not_given_to_the_gateway() {
        let socket = |path: &str, more| said(&format!("control_socket = {path:?}"), more, &Person::service());
        for path in ["/run/tidegate.sock", "/run/tidegate-2/control.sock", "/etc/tidegate.sock"] {
            let finding = socket(path, "").unwrap();
            let own = "name a directory of its own in gateway.control_socket, as /run/tidegate/control.sock";
            assert_eq!(finding.todo, own, "{path}");
        }
        let todo = socket("/run/tidegate.sock", "RuntimeDirectory=tidegate-second").unwrap().todo;
        assert!(todo.ends_with("as /run/tidegate-second/control.sock"), "{todo}");
        let state =
            |dir: &str, person: &Person| said(&format!("state_dir = {dir:?}"), "", person).unwrap().todo;
        assert!(!state("/usr", &Person::service()).contains("/usr"));
        // Root's own here: the drop-in is enough.
        assert!(state("/usr", &Person::numbered(0, &[0])).starts_with("`systemctl edit tidegate`"));

        let dir = tempfile::tempdir().unwrap();
        let rights = fs::metadata(dir.path()).unwrap();
        let todo = |person: &Person| written(dir.path(), &rights, person, None);
        let word = shell_word(dir.path());
        assert_eq!(todo(&Person::numbered(rights.uid(), &[])), format!("chmod u+rwx {word}"));
        assert!(todo(&Person::service()).ends_with("in gateway.state_dir, as /var/lib/tidegate"));
        File::create(store::database(dir.path())).unwrap();
        assert_eq!(todo(&Person::service()), format!("chown -R tidegate: {word}"));
        assert_eq!(todo(&Person::numbered(1, &[54_322])), format!("chown -R 1:54322 {word}"));
    }

    #[test]
    fn a_path_leads_on_where_nothing_is_yet() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().canonicalize().unwrap();
        let link = there.join("link");
        std::os::unix::fs::symlink(&there, &link).unwrap();
        assert_eq!(real(&link.join("a/b")).as_os_str(), there.join("a/b").as_os_str());
        assert_eq!(real(&link).as_os_str(), there.as_os_str(), "no slash at the end");
    }
}
