//! The files of the configuration, and whether the gateway gets at them: whoever asks is often root, who may read
//! everything, and the gateway reads them again at each start.
//!
//! Not here: what is in them (`configuration`).

use super::{
    Finding,
    person::{self, Person},
    service::Service,
};
use crate::{
    config::{
        self,
        files::{CREDENTIALS, PACKAGED, shell_word},
    },
    fault::Code,
};
use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

const AREA: &str = "files";
/// As many as Linux follows.
const LINKS: usize = 40;

/// Why somebody does not get at a file or directory.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// The unit hides it, by this setting, with all that is below the directory.
    Hidden { setting: &'static str, dir: &'static str },
    /// A directory on the way.
    Dir(PathBuf, Metadata),
    /// What it leads to.
    End(PathBuf, Metadata),
}

/// The configuration and each file that it names.
pub(super) fn examine(file: &Path, person: &Person, service: Option<&Service>) -> Vec<Finding> {
    let own = (String::new(), file.to_owned());
    let named: Vec<_> = std::iter::once(own).chain(config::files_named(file)).collect();
    let beside = service.map_or_else(|| file.parent().unwrap_or(Path::new("/")), |_| Path::new(PACKAGED));
    let moved = |key: &str, path: &Path| moved(key, path, &named, person, beside);
    let findings: Vec<Finding> =
        named.iter().filter_map(|(key, path)| examine_one(key, path, person, service, moved)).collect();
    if !findings.is_empty() {
        return findings;
    }
    let outside = named.iter().filter(|(_, path)| !path.starts_with(CREDENTIALS));
    vec![seen(outside.map(|(_, path)| path.try_exists()), person)]
}

/// That nothing is wrong with those that are there, as far as whoever asks can tell.
fn seen(there: impl Iterator<Item = io::Result<bool>>, person: &Person) -> Finding {
    let (mut good, mut unseen) = (0, 0);
    for there in there {
        match there {
            Ok(true) => good += 1,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unseen += 1,
            _ => {}
        }
    }
    if unseen > 0 {
        let what = format!("this user may not look at {unseen} of them");
        return Finding::warning(AREA, what, "run `tidegate doctor` as root");
    }
    Finding::ok(AREA, format!("the user {} may read each of the {good} that are there", person.name()))
}

fn examine_one(
    key: &str,
    path: &Path,
    person: &Person,
    service: Option<&Service>,
    moved: impl Fn(&str, &Path) -> String,
) -> Option<Finding> {
    if path.starts_with(CREDENTIALS) {
        return None;
    }
    let obstacle = obstacle(path, person, service, Person::may_read)?;
    // What is not there may be the password itself, written where the name of its file belongs (I11).
    if (!key.is_empty() || matches!(obstacle, Obstacle::Hidden { .. })) && !path.exists() {
        return None;
    }
    let code = match key {
        "" => Code::FileUnreadable,
        _ if key.ends_with("password_file") || key.ends_with("token_file") => Code::CredentialFile,
        _ => Code::NamedFile,
    };
    let place =
        if key.is_empty() { path.display().to_string() } else { format!("{key}: {}", path.display()) };
    let todo = match &obstacle {
        Obstacle::Hidden { .. } => moved(key, path),
        Obstacle::Dir(dir, _) if is_a_home(dir) => moved(key, path),
        Obstacle::Dir(dir, rights) => passed(dir, rights, person, service),
        Obstacle::End(file, rights) => read(file, rights, person, service),
    };
    Some(Finding::kind(AREA, code, obstacle.words(person, "may not read it"), &place, Some(todo)))
}

impl Obstacle {
    /// What is in the way.
    pub(super) fn words(&self, person: &Person, may_not: &str) -> String {
        let (name, of) = (person.name(), person::rights);
        match self {
            Self::Hidden { setting, dir } => {
                format!("the service does not see it: {setting}= of its unit keeps {dir} from it")
            }
            Self::Dir(dir, rights) => {
                let dir = dir.display();
                format!("the user {name} gets at nothing in {dir}: it belongs to {}", of(rights))
            }
            Self::End(_, rights) => format!("the user {name} {may_not}: it belongs to {}", of(rights)),
        }
    }
}

/// What keeps somebody from a file or directory: the directories on the way and the links count too. `None` as well
/// where it is not there, or nobody here can tell.
pub(super) fn obstacle(
    path: &Path,
    person: &Person,
    service: Option<&Service>,
    may: impl Fn(&Person, &Metadata) -> bool,
) -> Option<Obstacle> {
    let parts = |path: &Path| -> VecDeque<OsString> {
        let parts =
            path.components().filter(|part| !matches!(part, Component::Prefix(_) | Component::CurDir));
        parts.map(|part| part.as_os_str().to_owned()).collect()
    };
    let (mut at, mut links, mut ahead) = (PathBuf::from("/"), 0, parts(path));
    while let Some(part) = ahead.pop_front() {
        if part == "/" || part == ".." {
            // Of the root the parent is the root.
            at = if part == "/" { PathBuf::from("/") } else { at.parent().unwrap_or(&at).to_owned() };
            continue;
        }
        let rights = fs::metadata(&at).ok()?;
        if !person.may_pass(&rights) && !has_list(&at) {
            return Some(Obstacle::Dir(at, rights));
        }
        at.push(part);
        // A part of what is hidden may be seen after all.
        let whole = ahead.iter().fold(at.clone(), |way, part| way.join(part));
        if let Some((setting, dir)) = service.and_then(|service| service.hides(&whole)) {
            return Some(Obstacle::Hidden { setting, dir });
        }
        if let Ok(to) = fs::read_link(&at) {
            links += 1;
            if links > LINKS {
                return None;
            }
            at.pop();
            ahead = parts(&to).into_iter().chain(ahead).collect();
        }
    }
    let rights = fs::metadata(&at).ok()?;
    (!may(person, &rights) && !has_list(&at)).then_some(Obstacle::End(at, rights))
}

/// Whether an access control list says who may what, acl(5): more than the mode shows.
fn has_list(path: &Path) -> bool {
    let mut list = [0_u8; 512];
    match rustix::fs::getxattr(path, "system.posix_acl_access", &mut list) {
        Ok(length) => length > 0,
        Err(error) => error == rustix::io::Errno::RANGE,
    }
}

/// Whether it is somebody's own directory, into which nobody else should be let.
fn is_a_home(dir: &Path) -> bool {
    dir == Path::new("/root") || dir.parent() == Some(Path::new("/home")) || dir.starts_with("/run/user")
}

/// Where the gateway gets at it. A command is named only where it replaces nothing.
fn moved(key: &str, path: &Path, named: &[(String, PathBuf)], person: &Person, beside: &Path) -> String {
    let from = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let target = beside.join(path.file_name().unwrap_or_default());
    let taken = fs::symlink_metadata(&target).is_ok();
    let others = named.iter().any(|(_, other)| other != path && other.file_name() == path.file_name());
    let (from, group) = (shell_word(&from), person.group());
    let named = if key.is_empty() { String::new() } else { format!(", and name that in {key}") };
    if taken || others || is_a_home(beside) {
        let name = person.name();
        return format!(
            "put a copy where the user {name} gets at it, under a name that is not taken there, for root and the group \
             {group} only (mode 640){named}; it is {from}"
        );
    }
    let to = shell_word(&target);
    format!("put it where the gateway gets at it{named}: install -o root -g {group} -m 640 {from} {to}")
}

/// Lets somebody into a directory, but not look around there.
pub(super) fn passed(dir: &Path, rights: &Metadata, person: &Person, service: Option<&Service>) -> String {
    let (word, group) = (shell_word(dir), person.group());
    match who(dir, rights, person, 0o010) {
        Who::Owner => format!("chmod u+x {word}"),
        Who::Group => format!("chmod g+x {word}"),
        Who::OfAnother => person.let_into(rights.gid(), service),
        Who::Other if rights.uid() == 0 && dir.starts_with(PACKAGED) => {
            format!("chown root:{group} {word} && chmod 750 {word}")
        }
        Who::Other => format!("chgrp {group} {word} && chmod g+x {word}"),
    }
}

/// Lets somebody read a file, and nobody else.
fn read(file: &Path, rights: &Metadata, person: &Person, service: Option<&Service>) -> String {
    let (word, group) = (shell_word(file), person.group());
    match who(file, rights, person, 0o040) {
        Who::Owner => format!("chmod u+r {word}"),
        Who::Group => format!("chmod g+r {word}"),
        Who::OfAnother => person.let_into(rights.gid(), service),
        Who::Other if rights.uid() == 0 => format!("chown root:{group} {word} && chmod 640 {word}"),
        Who::Other => format!("chgrp {group} {word} && chmod g+r {word}"),
    }
}

/// What somebody is to a file.
enum Who {
    Owner,
    Group,
    /// A group has what is wanted, and whoever is in it uses the file: another in its place would lock them out.
    OfAnother,
    Other,
}

/// `wanted`: the bit of the group.
fn who(path: &Path, rights: &Metadata, person: &Person, wanted: u32) -> Who {
    // The group of root is nobody's way in.
    let used = rights.gid() != 0 && rights.mode() & wanted == wanted && !path.starts_with(PACKAGED);
    match (rights.uid() == person.uid(), person.is_in(rights.gid())) {
        (true, _) => Who::Owner,
        (_, true) => Who::Group,
        _ if used => Who::OfAnother,
        _ => Who::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// Somebody who is neither the owner of what the test makes nor in its group.
    fn stranger() -> Person {
        Person::numbered(54_321, &[54_322])
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_way_to_a_file_counts_with_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (way, far, file) = (root.join("way"), root.join("far"), root.join("far/secret"));
        for dir in [&way, &far] {
            fs::create_dir(dir).unwrap();
            mode(dir, 0o711);
        }
        mode(&root, 0o711);
        fs::write(&file, "x").unwrap();
        symlink("../far/secret", way.join("link")).unwrap();
        let found = |modes: [u32; 3], person: &Person| {
            [&way, &far, &file].into_iter().zip(modes).for_each(|(path, wanted)| mode(path, wanted));
            let obstacle = obstacle(&way.join("link"), person, None, Person::may_read);
            [&way, &far, &file].into_iter().for_each(|path| mode(path, 0o755));
            obstacle
        };
        for (modes, at) in [
            ([0o711, 0o711, 0o644], None),
            ([0o710, 0o711, 0o644], Some(&way)),
            ([0o711, 0o700, 0o644], Some(&far)),
            ([0o711, 0o711, 0o640], Some(&file)),
        ] {
            let found = found(modes, &stranger()).map(|obstacle| match obstacle {
                Obstacle::Dir(at, _) | Obstacle::End(at, _) => at,
                Obstacle::Hidden { .. } => panic!("no unit hides it"),
            });
            assert_eq!(found.as_ref(), at, "{modes:?}");
        }
        assert!(found([0, 0, 0], &Person::numbered(0, &[0])).is_none(), "root may");
        assert!(obstacle(&root.join("none"), &stranger(), None, Person::may_read).is_none());
        symlink("circle", root.join("circle")).unwrap();
        assert!(obstacle(&root.join("circle"), &stranger(), None, Person::may_read).is_none());
    }

    #[test]
    fn what_the_unit_hides_is_to_be_moved_and_what_is_in_the_way_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        mode(&root, 0o711);
        let (config, password) = (root.join("tidegate.toml"), root.join("password"));
        fs::write(&password, "x").unwrap();
        fs::write(
            &config,
            "[uplink]\npassword_file = \"password\"\nca_file = \"none\"\nx_file = \"/run/credentials/x\"",
        )
        .unwrap();
        let look = |person: &Person, service: Option<&Service>| examine(&config, person, service);
        for path in [&config, &password] {
            mode(path, 0o644);
        }
        let good = look(&stranger(), None);
        assert!(good.len() == 1 && good[0].what.contains("each of the 2"), "{good:?}");
        mode(&password, 0o600);
        let wrong = look(&stranger(), None);
        let [wrong] = wrong.as_slice() else { panic!("{wrong:?}") };
        assert_eq!(wrong.place, format!("uplink.password_file: {}", password.display()));
        assert_eq!(wrong.code.as_deref(), Some("TG-305"));
        assert!(wrong.todo.contains("54322") && wrong.todo.contains(&*password.to_string_lossy()), "{wrong}");
        mode(&password, 0o644);
        // Whatever the rights are.
        let tmp = Service::told("PrivateTmp=yes\n");
        if root.starts_with("/tmp") {
            let hidden = look(&stranger(), Some(&tmp));
            assert_eq!(hidden.len(), 2, "{hidden:?}");
            let (from, todo) = (shell_word(&password), &hidden[1].todo);
            let to = format!("-g 54322 -m 640 {from} /etc/tidegate/password");
            assert!(todo.ends_with(&to) && todo.contains("name that in uplink.password_file: "), "{todo}");
            assert!(hidden[1].what.contains("PrivateTmp="), "{}", hidden[1]);
        }
    }

    #[test]
    fn what_is_moved_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (near, far) = (root.join("near"), root.join("far"));
        [&near, &far].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let file = |path: PathBuf| {
            fs::write(&path, "x").unwrap();
            path
        };
        let (key, other) = (file(far.join("key.pem")), file(far.join("other.pem")));
        symlink(&other, far.join("link.pem")).unwrap();
        symlink(&other, near.join("ours.pem")).unwrap();
        let said = |path: &Path, more: &[PathBuf]| {
            let named: Vec<_> = more.iter().map(|path| (String::new(), path.clone())).collect();
            moved("uplink.tls.key_file", path, &named, &stranger(), &near)
        };
        let command = |from: &Path, to: &Path| format!("640 {} {}", shell_word(from), shell_word(to));
        assert!(said(&key, std::slice::from_ref(&key)).ends_with(&command(&key, &near.join("key.pem"))));
        // As it is, not as it is called by a link that may lead elsewhere from there.
        assert!(said(&far.join("link.pem"), &[]).ends_with(&command(&other, &near.join("link.pem"))));
        for (path, more) in
            [(near.join("ours.pem"), vec![]), (key.clone(), vec![PathBuf::from("/none/key.pem")])]
        {
            let said = said(&path, &more);
            assert!(!said.contains("install") && said.contains("under a name that is not taken"), "{said}");
        }
        file(near.join("key.pem"));
        assert!(!said(&key, &[]).contains("install"));
    }

    #[test]
    fn what_whoever_asks_may_not_look_at_is_not_called_good() {
        let seen = |of: &[io::ErrorKind]| {
            let unseen = of.iter().map(|kind| Err((*kind).into()));
            seen([Ok(true), Ok(false)].into_iter().chain(unseen), &stranger())
        };
        let good = seen(&[io::ErrorKind::NotADirectory]);
        assert!(good.verdict == Verdict::Ok && good.what.contains("each of the 1"), "{good}");
        let unknown = seen(&[io::ErrorKind::PermissionDenied]);
        assert!(unknown.verdict == Verdict::Warning && unknown.todo.contains("as root"), "{unknown}");
    }

    #[test]
    fn a_password_in_place_of_its_file_is_not_repeated_wherever_it_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let config = root.join("tidegate.toml");
        fs::write(&config, "[uplink]\npassword_file = \"hunter2hunter2\"").unwrap();
        mode(&root, 0o700);
        let found = examine(&config, &stranger(), None);
        let [found] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(found.place, config.display().to_string());
        assert!(!found.to_string().contains("hunter2"), "{found}");
    }

    #[test]
    fn the_remedy_fits_what_one_is_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        mode(&file, 0o600);
        let rights = fs::metadata(&file).unwrap();
        let (uid, gid, word) = (rights.uid(), rights.gid(), shell_word(&file));
        let theirs = match uid {
            0 => format!("chown root:54322 {word} && chmod 640 {word}"),
            _ => format!("chgrp 54322 {word} && chmod g+r {word}"),
        };
        for (person, todo) in [
            (Person::numbered(uid, &[54_322]), format!("chmod u+r {word}")),
            (Person::numbered(54_321, &[gid]), format!("chmod g+r {word}")),
            (stranger(), theirs),
        ] {
            assert_eq!(read(&file, &rights, &person, None), todo);
        }
        assert_eq!(passed(dir.path(), &rights, &stranger(), None), {
            let dir = shell_word(dir.path());
            format!("chgrp 54322 {dir} && chmod g+x {dir}")
        });
    }

    #[test]
    fn the_group_of_a_file_that_others_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pem");
        fs::write(&file, "").unwrap();
        mode(&file, 0o640);
        // A group that is not root's: whoever is root gives it one, all others have one.
        let _own = std::os::unix::fs::chown(&file, None, Some(54_323));
        let rights = fs::metadata(&file).unwrap();
        let (person, group) = (Person::service(), person::group(rights.gid()));
        let unit = Service::told("");
        assert_eq!(
            read(&file, &rights, &person, Some(&unit)),
            format!("`usermod -aG {group} tidegate`, then `systemctl restart tidegate`")
        );
        assert!(passed(&file, &rights, &person, None).starts_with("chgrp 54322 "), "it may not pass either");
        mode(&file, 0o710);
        let rights = fs::metadata(&file).unwrap();
        assert!(passed(&file, &rights, &person, None).ends_with("tidegate`, then restart the gateway"));
        let ours = Path::new("/etc/tidegate/keys");
        assert!(passed(ours, &rights, &person, None).contains("chmod"), "nobody else's");
    }
}
