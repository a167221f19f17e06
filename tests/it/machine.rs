//! A machine on which the package is installed, as far as tools look at it.

use crate::site::Site;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::Command,
};

/// A machine with the package, as far as `doctor` looks at it: its user, its configuration and what systemd says of its
/// unit. In mounts of its own: nothing is left of them.
pub(crate) struct Packaged {
    pub(crate) site: Site,
    script: String,
}

impl Packaged {
    /// Its configuration.
    pub(crate) const FILE: &str = "/etc/tidegate/tidegate.toml";
    /// The user `tidegate`, of the machine it is made up for.
    const USER: u32 = 64_001;

    /// `None` where nothing can be mounted.
    pub(crate) fn new(config: &str) -> Option<Self> {
        let site = Site::new();
        let path = |name: &str| site.path(name);
        for dir in ["etc", "etc/tidegate", "etc/tidegate/keys", "bin", "state"] {
            fs::create_dir(path(dir)).unwrap();
        }
        let user = Self::USER;
        let passwd = format!("root:x:0:0::/root:/bin/sh\ntidegate:x:{user}:{user}::/:/bin/false\n");
        fs::write(path("etc/passwd"), passwd).unwrap();
        fs::write(path("etc/group"), format!("root:x:0:\ntidegate:x:{user}:\n")).unwrap();
        let state = path("state");
        fs::write(path("etc/tidegate/tidegate.toml"), config.replace("STATE", state.to_str().unwrap()))
            .unwrap();
        // As `systemctl show` and `systemctl cat` say it; what is not there, is left out.
        for (program, says) in [("bin/systemctl", "unit"), ("bin/journalctl", "journal")] {
            fs::write(path(program), format!("#!/bin/sh\nexec cat {}\n", path(says).display())).unwrap();
        }
        for name in ["", "etc/tidegate", "etc/tidegate/keys", "bin/systemctl", "bin/journalctl"] {
            fs::set_permissions(path(name), Permissions::from_mode(0o755)).unwrap();
        }
        let script = format!(
            "mount --bind {} /etc && mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && \
             chown {user}:{user} {} && PATH={}:$PATH && export PATH && exec \"$@\"",
            path("etc").display(),
            state.display(),
            path("bin").display(),
        );
        let packaged = Self { site, script };
        packaged.says("");
        packaged.sh("true").then_some(packaged)
    }

    /// What systemd says of the unit, beside that it runs.
    pub(crate) fn says(&self, more: &str) {
        let running = "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n";
        fs::write(self.site.path("unit"), format!("{running}{more}")).unwrap();
    }

    pub(crate) fn wrapper(&self) -> [&str; 6] {
        ["unshare", "--mount", "sh", "-c", &self.script, "sh"]
    }

    /// Runs a command of a shell there.
    pub(crate) fn sh(&self, command: &str) -> bool {
        let [program, arguments @ ..] = self.wrapper();
        let status = Command::new(program).args(arguments).args(["sh", "-c", command]).output();
        status.is_ok_and(|output| output.status.success())
    }
}
