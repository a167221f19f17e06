//! The service that systemd runs with a configuration: how it fares, what it may see and where it may write.

use super::{Finding, Verdict};
use crate::config::files::{PACKAGED, SERVICE};
use adapter_api::{clock, shown};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

const AREA: &str = "service";
/// How long systemd may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Directories of a service's own, and what they are below.
const OWN: [(&str, &str); 4] = [
    ("StateDirectory", "/var/lib"),
    ("RuntimeDirectory", "/run"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
];

/// A unit, and what systemd says of it.
#[derive(Debug, Clone)]
pub(super) struct Service {
    unit: String,
    /// `None`: it does not answer.
    said: Option<BTreeMap<String, String>>,
}

/// The unit of systemd that runs with this file; `None` for one of somebody's own.
pub fn unit(file: &Path) -> Option<String> {
    let name = file.file_stem()?.to_str()?;
    let packaged = file.parent() == Some(Path::new(PACKAGED)) && file.extension()? == "toml";
    packaged.then(|| if name == "tidegate" { name.to_owned() } else { format!("tidegate@{name}") })
}

impl Service {
    /// Asks systemd, where it runs one with this file.
    pub(super) async fn of(file: &Path) -> Option<Self> {
        let unit = unit(file).filter(|_| Path::new("/run/systemd/system").exists())?;
        let properties = ["LoadState", "ActiveState", "SubState", "Result", "NRestarts", "UnitFileState"];
        let sandbox = [
            "ProtectSystem",
            "ProtectHome",
            "PrivateTmp",
            "ReadWritePaths",
            "BindPaths",
            "BindReadOnlyPaths",
        ];
        let own = OWN.iter().map(|(property, _)| *property);
        let mut command = tokio::process::Command::new("systemctl");
        command.arg("show").arg(&unit);
        command
            .args(properties.into_iter().chain(sandbox).chain(own).map(|name| format!("--property={name}")));
        command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let said = match clock::timeout(PATIENCE, command.output()).await {
            Ok(Ok(output)) => Some(of_lines(&String::from_utf8_lossy(&output.stdout))),
            _ => None,
        };
        Some(Self { unit, said })
    }

    /// What it is called.
    pub(super) fn unit(&self) -> &str {
        &self.unit
    }

    /// Where it keeps its database: the state directory that the unit gives it.
    pub(super) fn state_dir(&self) -> PathBuf {
        self.own("StateDirectory", "/var/lib")
    }

    /// Where its control socket is: in the directory that the unit gives it for as long as it runs.
    pub(super) fn control_socket(&self) -> PathBuf {
        self.own("RuntimeDirectory", "/run").join("control.sock")
    }

    /// The first of a kind; of a unit that has none, the packaged one's.
    fn own(&self, property: &str, above: &str) -> PathBuf {
        Path::new(above).join(self.says(property).split_whitespace().next().unwrap_or(SERVICE))
    }

    /// Whether it runs, and will at the next boot.
    pub(super) fn finding(&self) -> Finding {
        match &self.said {
            Some(said) => judged(&self.unit, said),
            None => {
                let todo = format!("try `systemctl status {}`", self.unit);
                Finding::warning(AREA, "systemd does not answer", todo)
            }
        }
    }

    /// The setting that hides this place from it, and what it hides.
    pub(super) fn hides(&self, path: &Path) -> Option<(&'static str, &'static str)> {
        let home = ["/home", "/root", "/run/user"].map(|dir| ("ProtectHome", dir));
        let tmp = ["/tmp", "/var/tmp"].map(|dir| ("PrivateTmp", dir));
        let hidden = home.into_iter().chain(tmp).find(|(setting, dir)| {
            // systemd.exec(5): what is only read-only can be seen.
            let on = !matches!(self.says(setting), "" | "no" | "read-only");
            on && path.starts_with(dir)
        });
        hidden.filter(|_| !self.bound().any(|seen| path.starts_with(seen)))
    }

    /// Whether it may write to this place, as far as systemd has a say in it.
    pub(super) fn may_write(&self, path: &Path) -> bool {
        let below = |dirs: &[&str]| dirs.iter().any(|dir| path.starts_with(dir));
        let guarded = match self.says("ProtectSystem") {
            "strict" => !below(&["/dev", "/proc", "/sys"]),
            "full" => below(&["/usr", "/boot", "/efi", "/etc"]),
            "" | "no" => false,
            _ => below(&["/usr", "/boot", "/efi"]),
        };
        let private = !matches!(self.says("PrivateTmp"), "" | "no") && below(&["/tmp", "/var/tmp"]);
        !guarded || private || self.writable().any(|dir| path.starts_with(dir))
    }

    /// What is excepted from what it may not write.
    fn writable(&self) -> impl Iterator<Item = PathBuf> {
        let own = OWN.iter().flat_map(|(property, above)| {
            self.says(property).split_whitespace().map(|dir| Path::new(above).join(dir))
        });
        // "-" and "+" in front of a path say where it is looked for, and whether it has to be there.
        let named = self.says("ReadWritePaths").split_whitespace();
        let named = named.map(|path| PathBuf::from(path.trim_start_matches(['-', '+'])));
        own.chain(named).chain(bound(self.says("BindPaths")))
    }

    fn bound(&self) -> impl Iterator<Item = PathBuf> {
        bound(self.says("BindPaths")).chain(bound(self.says("BindReadOnlyPaths")))
    }

    fn says(&self, property: &str) -> &str {
        self.said.as_ref().and_then(|said| said.get(property)).map_or("", String::as_str)
    }
}

/// Where something of elsewhere is seen: `SOURCE[:DESTINATION[:OPTIONS]]`.
fn bound(paths: &str) -> impl Iterator<Item = PathBuf> {
    paths.split_whitespace().filter_map(|path| {
        let mut parts = path.trim_start_matches('-').split(':');
        let source = parts.next()?;
        Some(PathBuf::from(parts.next().unwrap_or(source)))
    })
}

/// `KEY=VALUE` on each line.
fn of_lines(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn judged(unit: &str, said: &BTreeMap<String, String>) -> Finding {
    let of = |key: &str| shown(said.get(key).map_or("unknown", String::as_str)).to_string();
    let restarts = match of("NRestarts").as_str() {
        "0" | "unknown" => String::new(),
        n => format!(", restarted {n} times"),
    };
    let what = format!("{unit}.service is {} ({}){restarts}", of("ActiveState"), of("SubState"));
    match (of("LoadState").as_str(), of("ActiveState").as_str()) {
        ("not-found", _) => {
            let todo = "install the package; for a gateway of your own this is as it should be";
            Finding::warning(AREA, format!("systemd knows no {unit}.service"), todo)
        }
        (_, "active") if of("UnitFileState") == "disabled" => Finding::warning(
            AREA,
            format!("{what}, and not at the next boot"),
            format!("systemctl enable {unit}"),
        ),
        (_, "active") => Finding::ok(AREA, what),
        (_, "activating" | "reloading" | "deactivating") => Finding::of(AREA, Verdict::Warning, what),
        _ => {
            let todo = format!("`journalctl -u {unit}` says why; then `systemctl start {unit}`");
            Finding::error(AREA, format!("{what}: {}", of("Result")), todo)
        }
    }
}

#[cfg(test)]
impl Service {
    /// One of which systemd says this.
    pub(super) fn told(said: &str) -> Self {
        Self { unit: "tidegate".to_owned(), said: Some(of_lines(said)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_file_is_known_by_its_name() {
        for (file, expected) in [
            ("/etc/tidegate/tidegate.toml", Some("tidegate")),
            ("/etc/tidegate/second.toml", Some("tidegate@second")),
            ("/etc/tidegate/profiles/x.toml", None),
            ("/etc/tidegate/password", None),
            ("gateway.toml", None),
        ] {
            assert_eq!(unit(Path::new(file)).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn a_service_is_judged_by_what_systemd_says() {
        for (load, active, enabled, verdict) in [
            ("loaded", "active", "enabled", Verdict::Ok),
            ("loaded", "active", "disabled", Verdict::Warning),
            ("loaded", "activating", "enabled", Verdict::Warning),
            ("loaded", "inactive", "enabled", Verdict::Error),
            ("loaded", "failed", "enabled", Verdict::Error),
            ("not-found", "inactive", "", Verdict::Warning),
        ] {
            let said = [
                ("LoadState", load),
                ("ActiveState", active),
                ("UnitFileState", enabled),
                ("NRestarts", "3"),
            ];
            let said = said.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let finding = judged("tidegate", &said.into());
            assert_eq!(finding.verdict, verdict, "{finding}");
        }
    }

    /// What `systemctl show` says of the packaged unit.
    const UNIT: &str = "ProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nReadWritePaths=\nBindPaths=\n\
                        BindReadOnlyPaths=\nStateDirectory=tidegate\nRuntimeDirectory=tidegate\n";

    #[test]
    fn what_the_unit_hides_is_known_by_its_settings() {
        for (more, path, hidden) in [
            ("", "/root/password", Some(("ProtectHome", "/root"))),
            ("", "/home/alice/key.pem", Some(("ProtectHome", "/home"))),
            ("", "/run/user/1000/x", Some(("ProtectHome", "/run/user"))),
            ("", "/tmp/x", Some(("PrivateTmp", "/tmp"))),
            ("", "/etc/tidegate/password", None),
            ("", "/rooted/password", None),
            ("ProtectHome=tmpfs\nBindReadOnlyPaths=/srv/x:/home/alice:rbind", "/home/alice/key.pem", None),
            ("ProtectHome=tmpfs", "/home/alice/key.pem", Some(("ProtectHome", "/home"))),
            ("ProtectHome=read-only", "/home/alice/key.pem", None),
            ("PrivateTmp=no", "/tmp/x", None),
        ] {
            assert_eq!(
                Service::told(&format!("{UNIT}{more}")).hides(Path::new(path)),
                hidden,
                "{more} {path}"
            );
        }
        assert_eq!(Service::told("").hides(Path::new("/root/x")), None);
    }

    #[test]
    fn where_the_unit_may_write_is_known_by_its_settings() {
        for (more, path, may) in [
            ("", "/var/lib/tidegate", true),
            ("", "/var/lib/tidegate/second", true),
            ("", "/run/tidegate/control.sock", true),
            ("", "/var/lib/tidegate-2", false),
            ("", "/data/tidegate", false),
            ("", "/etc/tidegate/state", false),
            ("ReadWritePaths=-/data +/mnt", "/data/tidegate", true),
            ("BindPaths=/data:/srv/data:rbind", "/srv/data", true),
            ("ProtectSystem=full", "/data", true),
            ("ProtectSystem=full", "/etc/x", false),
            ("ProtectSystem=yes", "/etc/x", true),
            ("ProtectSystem=yes", "/usr/x", false),
            ("ProtectSystem=no", "/usr/x", true),
        ] {
            let service = Service::told(&format!("{UNIT}{more}"));
            assert_eq!(service.may_write(Path::new(path)), may, "{more} {path}");
        }
        assert!(Service::told("").may_write(Path::new("/data")), "nothing is known");
    }
}
