//! Who the gateway is, and what that user may do with a file: whoever asks is often root, who may do everything.

use super::service::Service;
use crate::config::files::{PACKAGED, SERVICE};
use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// A user of this machine with the groups that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    uid: u32,
    groups: Vec<u32>,
    /// `None` where this user has no name.
    name: Option<String>,
}

/// The group the packaged service has beside its own (`packaging/systemd/tidegate.service`).
const BESIDE: &str = "dialout";

impl Person {
    /// The user that the gateway runs as; if it does not run, would run as: of the service for its files, else of
    /// whoever asks.
    pub(super) fn of_gateway(file: &Path, pid: Option<u32>) -> Self {
        let status = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = fs::read_to_string("/etc/group").unwrap_or_default();
        let of_process = |status: &str| Self::of_process(status, &passwd);
        if let Some(running) = pid.and_then(|pid| of_process(&status(&pid.to_string()))) {
            return running;
        }
        let packaged = file.parent() == Some(Path::new(PACKAGED));
        let service = if packaged { Self::of_service(&passwd, &group) } else { None };
        let nobody = Self { uid: u32::MAX, groups: Vec::new(), name: None };
        service.or_else(|| of_process(&status("self"))).unwrap_or(nobody)
    }

    /// proc_pid_status(5)
    fn of_process(status: &str, passwd: &str) -> Option<Self> {
        let numbers = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.split_whitespace().filter_map(|number| number.parse().ok()).collect::<Vec<u32>>())
        };
        // Real, effective, saved, of the file system.
        let (uid, gid) = (*numbers("Uid:")?.get(1)?, *numbers("Gid:")?.get(1)?);
        let groups = std::iter::once(gid).chain(numbers("Groups:").unwrap_or_default()).collect();
        Some(Self { uid, groups, name: name_of(passwd, uid).map(str::to_owned) })
    }

    fn of_service(passwd: &str, group: &str) -> Option<Self> {
        let mut user =
            passwd.lines().find(|line| line.split(':').next() == Some(SERVICE))?.split(':').skip(2);
        let (uid, gid) = (user.next()?.parse().ok()?, user.next()?.parse().ok()?);
        let member = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (group, gid) = (fields.next()?, fields.nth(1)?);
            let is_member = fields.next()?.split(',').any(|member| member == SERVICE);
            (is_member || group == BESIDE).then(|| gid.parse().ok())?
        });
        Some(Self {
            uid,
            groups: std::iter::once(gid).chain(member).collect(),
            name: Some(SERVICE.to_owned()),
        })
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("with the number {}", self.uid))
    }

    /// As commands take it.
    pub(super) fn user(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.uid.to_string())
    }

    /// As chown(1) takes it, with its own group.
    pub(super) fn owner(&self) -> String {
        self.name.as_ref().map_or_else(|| format!("{}:{}", self.uid, self.group()), |name| format!("{name}:"))
    }

    /// What lets it into a group, which its processes have from their start on.
    pub(super) fn let_into(&self, gid: u32, service: Option<&Service>) -> String {
        let group = group(gid);
        let restart = service.map_or_else(
            || "restart the gateway".to_owned(),
            |service| format!("`systemctl restart {}`", service.unit()),
        );
        match &self.name {
            Some(name) => format!("`usermod -aG {group} {name}`, then {restart}"),
            None => format!("let the user {} into the group {group}, then {restart}", self.name()),
        }
    }

    /// Its number.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// The name of its own group.
    pub(super) fn group(&self) -> String {
        self.groups.first().map_or_else(|| self.uid.to_string(), |gid| group(*gid))
    }

    /// Whether it is in the group.
    pub(super) fn is_in(&self, gid: u32) -> bool {
        self.groups.contains(&gid)
    }

    /// Whether it may read a file that has these rights.
    pub(super) fn may_read(&self, rights: &Metadata) -> bool {
        self.may(rights.mode(), rights.uid(), rights.gid(), 0o4)
    }

    /// Whether it may get at what lies in a directory that has these rights.
    pub(super) fn may_pass(&self, rights: &Metadata) -> bool {
        self.may(rights.mode(), rights.uid(), rights.gid(), 0o1)
    }

    /// Whether it may read and write what has these rights; with a directory, make files in it.
    pub(super) fn may_write(&self, rights: &Metadata) -> bool {
        self.may(rights.mode(), rights.uid(), rights.gid(), if rights.is_dir() { 0o3 } else { 0o6 })
    }

    fn may(&self, mode: u32, uid: u32, gid: u32, wanted: u32) -> bool {
        let shift = match (self.uid == uid, self.groups.contains(&gid)) {
            (true, _) => 6,
            (_, true) => 3,
            _ => 0,
        };
        self.uid == 0 || mode >> shift & wanted == wanted
    }
}

/// `root and the group dialout, mode 660`
pub(super) fn rights(rights: &Metadata) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let owner = name_of(&passwd, rights.uid()).map_or_else(|| rights.uid().to_string(), str::to_owned);
    format!("{owner} and the group {}, mode {:o}", group(rights.gid()), rights.mode() & 0o777)
}

/// What a group is called.
pub(super) fn group(gid: u32) -> String {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    name_of(&groups, gid).map_or_else(|| gid.to_string(), str::to_owned)
}

/// The name with this number, in a file like passwd(5) or group(5).
fn name_of(file: &str, number: u32) -> Option<&str> {
    let mut lines = file.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then_some(name)
    })
}

#[cfg(test)]
impl Person {
    /// One without a name.
    pub(super) fn numbered(uid: u32, groups: &[u32]) -> Self {
        Self { uid, groups: groups.to_owned(), name: None }
    }

    /// The service's, by numbers that nobody has here.
    pub(super) fn service() -> Self {
        Self { uid: 54_321, groups: vec![54_322], name: Some(SERVICE.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\ntidegate:x:998:997::/var/lib/tidegate:/usr/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\ntty:x:5:\ndialout:x:20:\nplugdev:x:46:alice,tidegate\ntidegate:x:997:\n";

    #[test]
    fn the_service_has_its_own_groups_and_those_of_the_unit() {
        let service = Person::of_service(PASSWD, GROUP).unwrap();
        assert_eq!((service.uid, service.groups.as_slice()), (998, &[997, 20, 46][..]));
        assert_eq!(Person::of_service("root:x:0:0::/:/bin/sh\n", GROUP), None);
        let status = "Name:\ttidegate\nUid:\t1\t998\t2\t3\nGid:\t1\t997\t2\t3\nGroups:\t20 46 \n";
        let running = Person::of_process(status, PASSWD).unwrap();
        assert_eq!((running.uid, running.groups.as_slice()), (998, &[997, 20, 46][..]));
        assert_eq!(running.name(), "tidegate");
    }

    #[test]
    fn what_one_may_depends_on_owner_then_group_then_all() {
        let service = Person::of_service(PASSWD, GROUP).unwrap();
        for (mode, uid, gid, may) in [
            (0o660, 0, 20, true),
            (0o640, 0, 20, false),
            (0o660, 0, 5, false),
            (0o666, 0, 0, true),
            (0o600, 998, 0, true),
            // The owner's rights count, though others have more.
            (0o066, 998, 0, false),
        ] {
            assert_eq!(service.may(mode, uid, gid, 0o6), may, "{mode:o} {uid} {gid}");
        }
        let root = Person { uid: 0, groups: Vec::new(), name: None };
        assert!(root.may(0, 998, 997, 0o6));
    }
}
