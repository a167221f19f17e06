//! Notices that the content of the configuration changed: of the file, or of one it names.
//!
//! Watched are the directories and not the files: editors and dpkg replace a file by a rename, and directories of
//! symbolic links are swapped under it (as Kubernetes does with `..data`). So every name on the way to a file is
//! watched, through every link. What was seen then decides by the content, so that nothing is reloaded twice.
//!
//! Where the system has no watches left, or the file system may be another machine's and tell nothing of what is changed
//! there, the content is looked at every half a minute; `status` says so.

use crate::{
    config::{self, files::digest},
    fault::{self, Code, Fault, Notice},
};
use adapter_api::clock;
use rustix::{
    fd::OwnedFd,
    fs::{
        inotify::{self, CreateFlags, ReadFlags, WatchFlags},
        statfs,
    },
    io::Errno,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::{OsStr, OsString},
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    time::Duration,
};
use tokio::io::unix::AsyncFd;

/// A file is written in several steps: nothing is looked at before it was quiet for so long,
const QUIET: Duration = Duration::from_millis(250);
/// or after so long, if it never is.
const STORM: Duration = Duration::from_secs(5);
/// Looks at which files are named, while somebody changes that.
const LOOKS: usize = 8;
/// Without watches, the content is looked at so often.
const POLL: Duration = Duration::from_secs(30);
/// What could not be applied is tried again after this, then after twice as long, and so on up to the other: what
/// hindered it may end at any time, and then a unit may still be missing for so long.
const AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// File systems of other machines, by `f_type` of statfs(2): NFS, SMB and CIFS, 9p, Ceph, AFS, FUSE (sshfs, virtiofs).
const REMOTE: [u32; 8] =
    [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f, 0x6573_5546];
/// Links followed on the way to one file, as the system does.
const LINKS: usize = 40;

/// Watches one configuration.
#[derive(Debug)]
pub struct Watcher {
    file: PathBuf,
    inotify: Option<AsyncFd<OwnedFd>>,
    /// By watch: the directory and the names in it that matter.
    watches: BTreeMap<i32, Watched>,
    /// The content that was taken note of last.
    seen: Option<u64>,
    /// The content that could not be applied last, and after how long it is tried again.
    failed: Option<u64>,
    pause: Duration,
    /// Something happened that was not looked at yet.
    stirred: bool,
    /// Why changes are noticed late, if they are.
    late: Notice,
}

#[derive(Debug)]
struct Watched {
    directory: PathBuf,
    names: BTreeSet<OsString>,
}

impl Watcher {
    /// Watches this file, and those it names. Nothing has been seen of it yet.
    pub fn new(file: &Path) -> Self {
        let opened = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let inotify = opened.map_err(std::io::Error::from).and_then(registered);
        let mut watcher = Self {
            file: std::path::absolute(file).unwrap_or_else(|_| file.to_owned()),
            inotify: None,
            watches: BTreeMap::new(),
            seen: None,
            failed: None,
            pause: AGAIN.0,
            stirred: false,
            late: Notice::default(),
        };
        match inotify {
            Ok(inotify) => watcher.inotify = Some(inotify),
            Err(error) => watcher.has_no_watch(&error),
        }
        watcher.note();
        watcher
    }

    /// Why changes are noticed late, if they are; for `status`, as it changes.
    pub fn late(&self) -> Notice {
        self.late.clone()
    }

    fn is_polling(&self) -> bool {
        self.late.fault().is_some()
    }

    /// Takes note of the content there is now: a later one is a change. To be called before it is read.
    pub fn note(&mut self) {
        let mut files = config::files_of(&self.file);
        for _ in 0..LOOKS {
            self.watch(&files);
            // What was named before it was watched was not noticed.
            let named = config::files_of(&self.file);
            if named == files {
                break;
            }
            files = named;
        }
        self.seen = Some(digest(files.iter()));
    }

    /// What was taken note of is not in force, or not all of it, and not for a fault of its own: it counts as changed
    /// after a while.
    pub fn again(&mut self) {
        let same = self.seen.is_some() && self.seen == self.failed;
        self.pause = if same { (self.pause * 2).min(AGAIN.1) } else { AGAIN.0 };
        self.failed = self.seen.take();
    }

    /// Resolves when the content is another one than was taken note of last. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            if !self.stirred {
                self.stir().await;
            }
            // What comes in the meantime belongs to it.
            let until = clock::now() + STORM;
            while clock::now() < until && clock::timeout(QUIET, self.stir()).await.is_ok() {}
            self.stirred = false;
            let files = config::files_of(&self.file);
            // Names may lead elsewhere now.
            self.watch(&files);
            if Some(digest(files.iter())) != self.seen {
                return;
            }
        }
    }

    /// Waits until something happens to a name that matters, or for the next look.
    async fn stir(&mut self) {
        let look = if self.seen.is_none() { Some(self.pause) } else { self.is_polling().then_some(POLL) };
        // Whatever happens to other names meanwhile puts it off no further.
        let due = look.map(|pause| clock::now() + pause);
        loop {
            let Some(inotify) = &self.inotify else {
                clock::sleep(look.unwrap_or(POLL)).await;
                self.stirred = true;
                return;
            };
            let ready = async { inotify.readable().await.map(|mut ready| ready.clear_ready()) };
            let ready = match due {
                Some(due) => clock::timeout(due.since(clock::now()), ready).await.ok(),
                None => Some(ready.await),
            };
            match ready {
                // Time for a look.
                None => self.stirred = true,
                Some(Ok(())) => self.stirred |= self.drain() || due.is_some_and(|due| due <= clock::now()),
                Some(Err(error)) => {
                    self.inotify = None;
                    self.has_no_watch(&error);
                }
            }
            if self.stirred {
                return;
            }
        }
    }

    /// Reads what happened. Returns whether something of it matters.
    fn drain(&self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut room = [MaybeUninit::uninit(); 4_096];
        let mut events = inotify::Reader::new(inotify.get_ref(), &mut room);
        let mut matters = false;
        // Until it would block.
        while let Ok(event) = events.next() {
            // The directory itself has gone, or events were lost.
            let lost = event
                .events()
                .intersects(ReadFlags::IGNORED | ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT);
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            let known = self.watches.get(&event.wd());
            matters |= lost
                || match (known, name) {
                    (Some(watched), Some(name)) => watched.names.contains(name),
                    (Some(_), None) => true,
                    (None, _) => false,
                };
        }
        matters
    }

    /// Watches every name on the way to these files, and nothing else any more.
    fn watch(&mut self, files: &BTreeSet<PathBuf>) {
        let Some(inotify) = &self.inotify else { return };
        let mut wanted: BTreeMap<PathBuf, Names> = BTreeMap::new();
        files.iter().for_each(|file| ways(file, &mut wanted));
        let what = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR;
        let mut watches: BTreeMap<i32, Watched> = BTreeMap::new();
        let (mut missing, mut remote) = (None, None);
        for (directory, Names { names, turns }) in wanted {
            match inotify::add_watch(inotify, directory.as_path(), what) {
                Ok(watch) => {
                    if turns && remote.is_none() && is_remote(&directory) {
                        remote = Some(directory.clone());
                    }
                    let watched = Watched { directory, names: BTreeSet::new() };
                    watches.entry(watch).or_insert(watched).names.extend(names);
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                // Above the files there may be directories that may be passed and not read.
                Err(Errno::ACCESS) if !turns => {}
                Err(error) => missing = Some(error),
            }
        }
        for (watch, watched) in &self.watches {
            // One whose directory has gone is no more.
            if !watches.contains_key(watch)
                && let Err(error) = inotify::remove_watch(inotify, *watch)
            {
                tracing::trace!(%error, directory = %watched.directory.display(), "was watched");
            }
        }
        self.watches = watches;
        match (missing, remote) {
            (Some(error), _) => self.has_no_watch(&error.into()),
            (None, Some(directory)) => {
                self.looks_for("its file system may be another machine's", &directory);
            }
            (None, None) => {
                if self.late.set(None) {
                    tracing::info!("changes of the configuration are noticed at once again");
                }
            }
        }
    }

    fn has_no_watch(&self, error: &std::io::Error) {
        tracing::debug!(%error, "no watch");
        let why = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::MFILE | Errno::NFILE) => "the system has no watch left",
            _ => fault::words(error),
        };
        self.looks_for(why, &self.file);
    }

    fn looks_for(&self, why: &str, place: &Path) {
        let what = format!("changes of the configuration are noticed within half a minute only: {why}");
        let fault = Fault::new(Code::NotWatched, what, place.to_string_lossy());
        if self.late.set(Some(fault.clone())) {
            // Once: whoever keeps the file elsewhere knows, and is not reminded every hour.
            fault.log_warning("the configuration is looked at now and then");
        }
    }
}

/// Whether others may change what lies there, and the system here is not told.
fn is_remote(directory: &Path) -> bool {
    statfs(directory).is_ok_and(|found| is_of_another_machine(found.f_type))
}

/// The type is signed or not, and of another width, on other machines: its low 32 bits tell.
fn is_of_another_machine(kind: impl TryInto<i128>) -> bool {
    kind.try_into()
        .is_ok_and(|kind: i128| REMOTE.iter().any(|known| kind & 0xffff_ffff == i128::from(*known)))
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for descriptors that may be closed; an owned one stays open"
)]
fn registered(inotify: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(inotify)
}

/// Names in a directory that lead to files.
#[derive(Debug, Default)]
struct Names {
    names: BTreeSet<OsString>,
    /// One of them is a file or a link: what is replaced in the everyday.
    turns: bool,
}

/// The names on the way to a file, by their directories, through all links; as far as it leads.
fn ways(file: &Path, found: &mut BTreeMap<PathBuf, Names>) {
    let mut ahead: VecDeque<OsString> = names(file);
    let (mut here, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let link = std::fs::read_link(&next);
        let known = found.entry(here.clone()).or_default();
        known.turns |= link.is_ok() || ahead.is_empty();
        known.names.insert(name);
        match link {
            Ok(target) if links < LINKS => {
                links += 1;
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                names(&target).into_iter().rev().for_each(|name| ahead.push_front(name));
            }
            _ => here = next,
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    const LONG: Duration = Duration::from_secs(60);

    /// Whether a change is noticed, on the real clock: the system tells of it.
    async fn notices(watcher: &mut Watcher) -> bool {
        let noticed = clock::timeout(LONG, watcher.changed()).await.is_ok();
        watcher.note();
        noticed
    }

    /// Nothing that happened so far is a change.
    fn is_quiet(watcher: &Watcher) -> bool {
        let files = config::files_of(&watcher.file);
        Some(digest(files.iter())) == watcher.seen
    }

    #[tokio::test]
    async fn a_change_is_noticed_however_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("etc")).unwrap();
        let file = at("etc/t.toml");
        fs::write(&file, "a = 1").unwrap();
        let mut watcher = Watcher::new(&file);
        assert!(!watcher.is_polling());

        fs::write(&file, "a = 2").unwrap();
        assert!(notices(&mut watcher).await, "written in place");
        fs::write(at("etc/.t.toml.swp"), "a = 3").unwrap();
        fs::rename(at("etc/.t.toml.swp"), &file).unwrap();
        assert!(notices(&mut watcher).await, "replaced by a rename");
        fs::write(at("etc/else"), "x").unwrap();
        assert!(is_quiet(&watcher), "another file");
        fs::remove_file(&file).unwrap();
        assert!(notices(&mut watcher).await, "removed");
        fs::write(&file, "ca_file = \"ca.pem\"").unwrap();
        assert!(notices(&mut watcher).await, "made");
        fs::write(at("etc/ca.pem"), "1").unwrap();
        assert!(notices(&mut watcher).await, "a file it names is made");
        fs::write(at("etc/ca.pem"), "2").unwrap();
        assert!(notices(&mut watcher).await, "a file it names is written");
        fs::rename(at("etc"), at("old")).unwrap();
        assert!(notices(&mut watcher).await, "its directory is gone");
        fs::create_dir(at("new")).unwrap();
        fs::write(at("new/t.toml"), "a = 4").unwrap();
        fs::rename(at("new"), at("etc")).unwrap();
        assert!(notices(&mut watcher).await, "another directory in its place");
    }

    #[tokio::test]
    async fn a_swapped_link_is_noticed_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("v1", "a = 1"), ("v2", "a = 2"), ("v3", "a = 3")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("t.toml"), text).unwrap();
        }
        // As Kubernetes has it: t.toml -> ..data/t.toml, ..data -> v1.
        fs::create_dir(at("mount")).unwrap();
        symlink("../v1", at("mount/..data")).unwrap();
        symlink("..data/t.toml", at("mount/t.toml")).unwrap();
        symlink("mount", at("way")).unwrap();
        let mut watcher = Watcher::new(&at("way/t.toml"));
        symlink("../v2", at("mount/..data_tmp")).unwrap();
        fs::rename(at("mount/..data_tmp"), at("mount/..data")).unwrap();
        assert!(notices(&mut watcher).await, "..data is swapped");
        fs::write(at("v2/t.toml"), "a = 5").unwrap();
        assert!(notices(&mut watcher).await, "what it leads to is written");
        symlink("v3", at("way_tmp")).unwrap();
        fs::rename(at("way_tmp"), at("way")).unwrap();
        assert!(notices(&mut watcher).await, "the directory's own link is swapped");
    }

    #[test]
    fn where_a_file_or_a_link_lies_has_to_be_watched_and_what_is_passed_has_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::create_dir_all(dir.join("c/d")).unwrap();
        symlink(dir.join("c/d"), dir.join("a/b/link")).unwrap();
        let mut found = BTreeMap::new();
        ways(&dir.join("a/b/link/t.toml"), &mut found);
        let turns = |name: &str| found[&dir.join(name)].turns;
        assert_eq!(["a", "a/b", "c", "c/d"].map(turns), [false, true, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_applied_is_a_change_again_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        fs::write(&file, "a = 1").unwrap();
        let mut watcher = Watcher::new(&file);
        clock::timeout(3 * POLL, watcher.changed()).await.unwrap_err();
        // Ever more rarely, and never more so than once a minute.
        for _ in 0..20 {
            watcher.again();
            let began = clock::now();
            clock::timeout(2 * AGAIN.1, watcher.changed()).await.unwrap();
            assert!(clock::now().since(began) >= watcher.pause && watcher.pause <= AGAIN.1);
            watcher.note();
        }
        assert_eq!(watcher.pause, Duration::from_secs(60));
        fs::write(&file, "a = 2").unwrap();
        watcher.note();
        watcher.again();
        assert_eq!(watcher.pause, AGAIN.0);
        clock::timeout(3 * POLL, watcher.changed()).await.unwrap();
        watcher.note();
        clock::timeout(3 * POLL, watcher.changed()).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn without_watches_it_is_looked_at_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        fs::write(&file, "a = 1").unwrap();
        let mut watcher = Watcher::new(&file);
        let inotify = watcher.inotify.take();
        watcher.has_no_watch(&Errno::NOSPC.into());
        let told = watcher.late().fault().unwrap();
        assert_eq!(told.code, Code::NotWatched.id());
        assert!(told.what.ends_with("the system has no watch left"), "{}", told.what);
        clock::timeout(3 * POLL, watcher.changed()).await.unwrap_err();
        fs::write(&file, "a = 2").unwrap();
        clock::timeout(3 * POLL, watcher.changed()).await.unwrap();
        assert!(watcher.is_polling());
        watcher.inotify = inotify;
        let told = watcher.late();
        watcher.note();
        assert_eq!(told.fault(), None, "there are watches again");
    }

    #[test]
    fn what_other_machines_change_is_looked_for() {
        // ext4, tmpfs, overlay, btrfs, XFS, F2FS, SquashFS: what is changed is told.
        for kind in [0xef53_i64, 0x0102_1994, 0x794c_7630, 0x9123_683e, 0x5846_5342, 0xf2f5_2010, 0x7371_7368]
        {
            assert!(!is_of_another_machine(kind), "{kind:x}");
        }
        for kind in [0x6969_i64, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546] {
            assert!(is_of_another_machine(kind), "{kind:x}");
        }
        // CIFS, where the type is signed and has 32 bits.
        assert!(is_of_another_machine(-0x00ac_b2be_i32));
        assert!(!is_remote(tempfile::tempdir().unwrap().path()));
    }
}
