//! `tidegate init`: a first configuration from what was typed, or is asked for at a terminal. The device and the
//! platform in it are tried before it is written.
//!
//! `ask` puts the questions, `draft` makes the text. Not here: what the tries are (`modbus/look`, `uplink/probe`).

mod ask;
mod draft;

use super::{
    CONFIG,
    modbus::{Place, Wire, look, told},
};
use crate::{
    config::{Config, Uplink, UplinkConfig, files::PACKAGED},
    uplink::probe::Probe,
};
use adapter_api::{EndpointName, shown};
use adapter_modbus::profile::Library;
use anyhow::{Context, anyhow, bail};
use ask::Person;
use clap::Args;
use draft::{Device, Draft, Platform};
use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf, absolute},
    process::ExitCode,
    time::Duration,
};

/// What is typed behind `tidegate init`.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    /// A device on the network: HOST or HOST:PORT
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "modbus_rtu")]
    modbus_tcp: Option<String>,
    /// A device on a serial port, as /dev/ttyUSB0
    #[arg(long, value_name = "DEVICE")]
    modbus_rtu: Option<String>,
    /// Bits per second [default: the profile's, or 9600]
    #[arg(long, requires = "modbus_rtu")]
    baud: Option<i64>,
    /// even, odd or none [default: the profile's, or none]
    #[arg(long, requires = "modbus_rtu", value_parser = ["even", "odd", "none"])]
    parity: Option<String>,
    /// 1 or 2 [default: the profile's; without a parity 2, else 1]
    #[arg(long, requires = "modbus_rtu")]
    stop_bits: Option<i64>,
    /// The device's number on the line [default: 1]
    #[arg(long)]
    unit: Option<u8>,
    /// Its model, one of `tidegate profiles` [default: found out from the device]
    #[arg(long)]
    profile: Option<String>,
    /// What the device is called on the platform
    #[arg(long)]
    endpoint: Option<String>,
    /// A file with the device's token [default: it is the endpoint's name]
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// The platform: mqtts://HOST or mqtts://HOST:PORT
    #[arg(long, value_name = "URL")]
    uplink: Option<String>,
    /// It is a Kaa platform; this is the application version
    #[arg(long, value_name = "APP_VERSION", requires = "uplink")]
    kaa: Option<String>,
    /// User name on the platform
    #[arg(long, requires = "uplink")]
    username: Option<String>,
    /// A file with its password
    #[arg(long, requires = "username")]
    password_file: Option<PathBuf>,
    /// A file with the authority that signed the platform's certificate [default: the system's]
    #[arg(long, requires = "uplink")]
    ca_file: Option<PathBuf>,
    /// Take mqtt:// to another machine: everything, tokens too, can be read on the way
    #[arg(long, requires = "uplink")]
    insecure: bool,
    /// Write it without trying the device and the platform
    #[arg(long)]
    untested: bool,
    /// Replace the file that is there, if it is not the package's own; it is kept beside as FILE.old
    #[arg(long)]
    force: bool,
    /// The file to write
    #[arg(short, long, default_value = CONFIG)]
    config: PathBuf,
}

/// How long each step of a try may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing is written.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// What was tried does not work; said already.
    Failed,
}

/// Does what was typed.
pub(super) async fn run(mut options: Options) -> anyhow::Result<ExitCode> {
    let file = absolute(&options.config).context("the path of the file")?;
    // Said at once; what counts is what is there when it is written.
    let replace = options.force || is_as_packaged(&file);
    if file.exists() && !replace {
        return Err(there_already(&file));
    }
    let typed = options.modbus_tcp.is_some() || options.modbus_rtu.is_some() || options.uplink.is_some();
    let mut person = (!typed && io::stdin().is_terminal() && io::stderr().is_terminal())
        .then(|| Person::new(io::stdin().lock(), io::stderr()));
    if let Some(person) = &mut person {
        person.complete(&mut options)?;
    }
    let mut verdict = Verdict::Good;
    let mut draft = Draft::of(&file);
    draft.in_container = Path::new("/run/systemd/container").exists() || Path::new("/.dockerenv").exists();
    draft.device = options.device(&file)?;
    draft.platform = options.platform(&file)?;
    if !options.untested
        && let Some(device) = &mut draft.device
        && try_device(device, &options).await? == Verdict::Failed
    {
        verdict = Verdict::Failed;
    }
    let text = draft.text();
    // As it will be read: with its files, as `check` does.
    let (config, _) = match Config::parse(&text, &file.to_string_lossy(), file.parent().unwrap_or(&file)) {
        Ok(checked) => checked,
        Err(findings) => bail!("this would not be a good configuration:\n{findings}"),
    };
    if !options.untested
        && let Uplink::Mqtt(uplink) = &config.uplink
        && try_platform(uplink).await? == Verdict::Failed
    {
        verdict = Verdict::Failed;
    }
    if verdict == Verdict::Failed {
        let agreed = match &mut person {
            Some(person) => person.agrees("Write the file all the same?")?,
            None => false,
        };
        if !agreed {
            writeln!(io::stderr(), "nothing was written; --untested writes it without trying")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    if let Some(kept) = write(&file, &text, replace)? {
        writeln!(io::stdout(), "kept           {}", shown(&kept.to_string_lossy()))?;
    }
    say_next(&file, &draft)?;
    Ok(ExitCode::SUCCESS)
}

impl Options {
    fn device(&self, file: &Path) -> anyhow::Result<Option<Device>> {
        let library = Library::default();
        let defaults = self.profile.as_ref().and_then(|name| library.find(name).ok()).map(|p| p.defaults);
        let defaults = defaults.unwrap_or_default();
        let wire = match (&self.modbus_tcp, &self.modbus_rtu) {
            (Some(host), _) => Wire::Tcp(host.clone()),
            (None, Some(port)) => Wire::Rtu {
                port: port.clone(),
                baud: self.baud.or(defaults.baud.map(i64::from)).unwrap_or(9_600),
                parity: self.parity.clone().or(defaults.parity).unwrap_or_else(|| "none".to_owned()),
                stop_bits: self.stop_bits.or(defaults.stop_bits.map(i64::from)),
            },
            (None, None) => return Ok(None),
        };
        if let Some(name) = &self.endpoint {
            EndpointName::new(name).context("--endpoint")?;
        }
        Ok(Some(Device {
            wire,
            unit: self.unit.or(defaults.unit).unwrap_or(1),
            endpoint: self.endpoint.clone().unwrap_or_else(|| named_after(self.profile.as_deref())),
            token_file: self.token_file.as_ref().map(|path| beside(path, file)).transpose()?,
            profile: self.profile.clone(),
            register: "holding:0",
        }))
    }

    fn platform(&self, file: &Path) -> anyhow::Result<Option<Platform>> {
        let Some(url) = self.uplink.clone().filter(|url| url != "none") else { return Ok(None) };
        if url.starts_with("mqtt://") && !self.insecure && !is_local(&url) {
            bail!(
                "--uplink: mqtt:// is without TLS; write mqtts://, or allow it with --insecure: everything, tokens \
                 too, can then be read on the way"
            );
        }
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| beside(path, file)).transpose();
        Ok(Some(Platform {
            url,
            kaa: self.kaa.clone(),
            username: self.username.clone(),
            password_file: path(&self.password_file)?,
            ca_file: path(&self.ca_file)?,
        }))
    }
}

/// An endpoint nobody has named.
fn named_after(profile: Option<&str>) -> String {
    match profile {
        Some("sunspec") => "inverter-1",
        Some(meter) if meter.starts_with("sdm") => "meter-1",
        _ => "device-1",
    }
    .to_owned()
}

/// A path as it is written into the file: one beside it by its name alone.
fn beside(path: &Path, file: &Path) -> anyhow::Result<PathBuf> {
    let path = absolute(path).context("the path of a file")?;
    let name = file.parent().and_then(|dir| path.strip_prefix(dir).ok()).map(Path::to_owned);
    Ok(name.unwrap_or(path))
}

/// Whether an address is this machine's own: nobody reads on the way.
fn is_local(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|local| {
        host.strip_prefix(local).is_some_and(|rest| rest.is_empty() || rest.starts_with(':') || rest == "/")
    })
}

/// Asks the device what it is, and takes over what it says.
async fn try_device(device: &mut Device, options: &Options) -> anyhow::Result<Verdict> {
    let place = Place::of(&device.wire, device.unit, &options.config);
    let at = match &device.wire {
        Wire::Tcp(host) => host.clone(),
        Wire::Rtu { port, baud, parity, .. } => format!("{port}, {baud} baud, parity {parity}"),
    };
    writeln!(io::stdout(), "device         {}, unit {}", shown(&at), device.unit)?;
    match look(&place, device.profile.as_deref()).await {
        Ok(sight) => {
            write!(io::stdout(), "{}", sight.said)?;
            if options.endpoint.is_none() {
                device.endpoint = named_after(sight.profile.as_deref());
            }
            device.profile = sight.profile;
            device.register = sight.register.unwrap_or(device.register);
            Ok(Verdict::Good)
        }
        Err(error) => {
            let failed = told(Err(error));
            if let Err(error) = failed {
                writeln!(io::stderr(), "{}", shown(&format!("{error:#}")))?;
            }
            if matches!(device.wire, Wire::Rtu { .. }) {
                writeln!(io::stderr(), "`tidegate modbus scan` looks for units, speeds and parities")?;
            }
            Ok(Verdict::Failed)
        }
    }
}

/// Goes the way to the platform, and tells each step.
async fn try_platform(uplink: &UplinkConfig) -> io::Result<Verdict> {
    let client_id = format!("tidegate-init-{}", std::process::id());
    let probe = Probe { config: uplink, client_id: Some(&client_id), patience: PATIENCE };
    let mut verdict = Verdict::Good;
    for step in probe.steps().await {
        match step.found {
            Ok(found) => writeln!(io::stdout(), "platform       {}", shown(&found))?,
            Err(fault) => {
                writeln!(io::stderr(), "{}", fault.lines())?;
                verdict = Verdict::Failed;
            }
        }
    }
    Ok(verdict)
}

/// Into the file, all at once: whoever reads it meanwhile has the old one or the new one. A link stays one, and the
/// file it leads to is written. One that is replaced is kept beside it: under which name, is returned. The new one has
/// its owner, group and mode; where there was none, it is for its owner and the directory's group only.
fn write(file: &Path, text: &str, replace: bool) -> anyhow::Result<Option<PathBuf>> {
    let about = || format!("{} cannot be written", shown(&file.to_string_lossy()));
    let file = led_to(file).with_context(about)?;
    let (new, mut made) = create_beside(&file, "new").with_context(about)?;
    let written = put(&file, &new, &mut made, text, replace);
    if written.is_err() {
        // Whatever is left of it is of no use; it may not even be there.
        let _absent = fs::remove_file(&new);
    }
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(there_already(&file)),
        written => written.with_context(about),
    }
}

/// The one the package came with, in which nobody has written anything: to be replaced it needs no force.
fn is_as_packaged(file: &Path) -> bool {
    fs::read(file).is_ok_and(|text| text == include_bytes!("../../packaging/tidegate.toml"))
}

fn there_already(file: &Path) -> anyhow::Error {
    anyhow!("{} is there already; --force replaces it", shown(&file.to_string_lossy()))
}

fn put(file: &Path, new: &Path, made: &mut File, text: &str, replace: bool) -> io::Result<Option<PathBuf>> {
    let old = match fs::metadata(file) {
        Ok(_) if !replace => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let dir = file.parent().unwrap_or(Path::new("/"));
    let (owner, group, mode) = match &old {
        Some(old) => (Some(old.uid()), old.gid(), old.mode() & 0o777),
        None => (None, fs::metadata(dir)?.gid(), 0o640),
    };
    let (group, mode) = for_the_service(file, group, mode, fs::metadata(dir)?.gid());
    let mode = handed_over(owner, mode, |owner| fchown(&*made, owner, Some(group)))?;
    made.set_permissions(fs::Permissions::from_mode(mode))?;
    made.write_all(text.as_bytes())?;
    made.sync_all()?;
    let kept = old.map(|old| keep(file, &old)).transpose()?;
    match kept {
        Some(_) => fs::rename(new, file)?,
        // Another may have been quicker: what it wrote stays.
        None => rename_to_nothing(new, file)?,
    }
    File::open(dir)?.sync_all()?;
    Ok(kept)
}

/// The group and the mode of a file, so that the service gets at its own: one that root has copied there is root's.
fn for_the_service(file: &Path, group: u32, mode: u32, of_dir: u32) -> (u32, u32) {
    if group == 0 && of_dir != 0 && file.starts_with(PACKAGED) { (of_dir, 0o640) } else { (group, mode) }
}

/// Gives a file its owner and its group. Who may not give it away keeps it; where it cannot have its group either, the
/// mode that is returned has nothing for another one.
fn handed_over(
    owner: Option<u32>,
    mode: u32,
    give: impl Fn(Option<u32>) -> io::Result<()>,
) -> io::Result<u32> {
    let forbidden = |given: &io::Result<()>| {
        given.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    let mut given = give(owner);
    if forbidden(&given) {
        given = give(None);
    }
    if forbidden(&given) {
        return Ok(mode & 0o707);
    }
    given.map(|()| mode)
}

/// Where a link leads, in the end, though nothing may be there yet.
fn led_to(file: &Path) -> io::Result<PathBuf> {
    let mut file = file.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        let Ok(to) = fs::read_link(&file) else { return Ok(file) };
        file = file.parent().unwrap_or(Path::new("/")).join(to);
    }
    Err(io::Error::other("its links lead in a circle"))
}

/// The file as it is, under another name; what has been kept before stays.
fn keep(file: &Path, rights: &fs::Metadata) -> io::Result<PathBuf> {
    if !rights.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let kept = beside_names(file, "old").find_map(|kept| match fs::hard_link(file, &kept) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        linked => Some(linked.map(|()| kept)),
    });
    match kept {
        Some(Ok(kept)) => Ok(kept),
        // There are file systems without links, and files that may not be linked.
        _ => {
            let (kept, mut copy) = create_beside(file, "old")?;
            io::copy(&mut File::open(file)?, &mut copy)?;
            let give = |owner| fchown(&copy, owner, Some(rights.gid()));
            let mode = handed_over(Some(rights.uid()), rights.mode() & 0o777, give)?;
            copy.set_permissions(fs::Permissions::from_mode(mode))?;
            copy.sync_all()?;
            Ok(kept)
        }
    }
}

/// `NAME.SUFFIX`, `NAME.SUFFIX.2` and so on.
fn beside_names(file: &Path, suffix: &str) -> impl Iterator<Item = PathBuf> {
    (1..10_000).map(move |n| {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(if n == 1 { format!(".{suffix}") } else { format!(".{suffix}.{n}") });
        file.with_file_name(name)
    })
}

/// The first of these that is not there yet, made, and for its owner only.
fn create_beside(file: &Path, suffix: &str) -> io::Result<(PathBuf, File)> {
    for name in beside_names(file, suffix) {
        match File::options().write(true).create_new(true).mode(0o600).open(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok((name, made?)),
        }
    }
    Err(io::Error::other("there are thousands of such files beside it"))
}

/// Fails if something is there already.
fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}

fn say_next(file: &Path, draft: &Draft) -> io::Result<()> {
    let path = shown(&file.to_string_lossy()).to_string();
    let mut out = io::stdout();
    writeln!(out, "written        {path}")?;
    match crate::doctor::unit(file) {
        Some(unit) => {
            writeln!(out, "next           systemctl restart {unit} && tidegate doctor{}", of_config(&path))?;
        }
        None => writeln!(out, "next           tidegate run --config {path}")?,
    }
    if let Some(device) = &draft.device {
        writeln!(out, "then           tidegate read {}{}", device.endpoint, of_config(&path))?;
    }
    Ok(())
}

/// How the other commands are told of a file.
fn of_config(path: &str) -> String {
    if path == CONFIG { String::new() } else { format!(" --config {path}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_this_machine_is_local() {
        for (url, local) in [
            ("mqtt://localhost", true),
            ("mqtt://localhost:1884", true),
            ("mqtt://127.0.0.1/", true),
            ("mqtt://[::1]:1", true),
            ("mqtt://localhost.example.com", false),
            ("mqtt://127.0.0.10", false),
            ("mqtt://broker", false),
        ] {
            assert_eq!(is_local(url), local, "{url}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_rights_and_each_that_was_there_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(write(&file, "1", false).unwrap(), None);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        let said = write(&file, "x", false).unwrap_err().to_string();
        assert!(said.contains("is there already"), "{said}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
        for (text, kept) in [("2", "t.toml.old"), ("3", "t.toml.old.2"), ("4", "t.toml.old.3")] {
            assert_eq!(write(&file, text, true).unwrap(), Some(dir.path().join(kept)));
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o604);
            assert_eq!(fs::metadata(dir.path().join(kept)).unwrap().mode() & 0o777, 0o604);
        }
        let kept = ["t.toml", "t.toml.old", "t.toml.old.2", "t.toml.old.3"].map(read);
        assert_eq!(kept, ["4", "1", "2", "3"]);
        // Nothing half-done is left.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        assert!(write(&dir.path().join("none/t.toml"), "x", false).is_err());
    }

    #[test]
    fn a_link_stays_one_and_the_file_it_leads_to_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (link, far) = (dir.path().join("t.toml"), dir.path().join("far"));
        fs::create_dir(&far).unwrap();
        symlink("far/real.toml", &link).unwrap();
        assert_eq!(write(&link, "1", false).unwrap(), None);
        assert_eq!(write(&link, "2", true).unwrap(), Some(far.join("real.toml.old")));
        assert!(write(&link, "x", false).is_err());
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("far/real.toml"));
        assert_eq!(fs::read_to_string(far.join("real.toml")).unwrap(), "2");
        symlink("circle", dir.path().join("circle")).unwrap();
        assert!(write(&dir.path().join("circle"), "x", true).is_err());
        assert_eq!((fs::read_dir(dir.path()).unwrap().count(), fs::read_dir(far).unwrap().count()), (3, 2));
    }

    #[test]
    fn what_root_has_copied_is_written_so_that_the_service_reads_it() {
        for (file, group, of_dir, given) in [
            ("/etc/tidegate/second.toml", 0, 997, (997, 0o640)),
            ("/etc/tidegate/second.toml", 20, 997, (20, 0o600)),
            ("/etc/tidegate/second.toml", 0, 0, (0, 0o600)),
            ("/root/second.toml", 0, 997, (0, 0o600)),
        ] {
            assert_eq!(for_the_service(Path::new(file), group, 0o600, of_dir), given, "{file} {group}");
        }
    }

    #[test]
    fn who_may_not_give_a_file_away_gives_it_its_group_or_nothing_to_another() {
        let forbidden = || Err(io::ErrorKind::PermissionDenied.into());
        let mode = |to_owner: bool, to_group: bool| {
            let asked = std::cell::RefCell::new(Vec::new());
            let give = |owner: Option<u32>| {
                asked.borrow_mut().push(owner);
                if owner.map_or(to_group, |_| to_owner) { Ok(()) } else { forbidden() }
            };
            (handed_over(Some(7), 0o664, give).unwrap(), asked.into_inner())
        };
        assert_eq!(mode(true, true), (0o664, vec![Some(7)]));
        assert_eq!(mode(false, true), (0o664, vec![Some(7), None]));
        assert_eq!(mode(false, false), (0o604, vec![Some(7), None]));
        assert!(handed_over(None, 0o640, |_| Err(io::ErrorKind::ReadOnlyFilesystem.into())).is_err());
    }

    #[test]
    fn who_comes_second_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        // It was not there when it was looked for.
        let (new, _) = create_beside(&file, "new").unwrap();
        fs::write(&file, "theirs").unwrap();
        let error = rename_to_nothing(&new, &file).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "theirs");
    }

    #[test]
    fn files_beside_the_configuration_are_named_alone() {
        let file = Path::new("/etc/tidegate/tidegate.toml");
        for (path, written) in [("/etc/tidegate/password", "password"), ("/root/ca.pem", "/root/ca.pem")] {
            assert_eq!(beside(Path::new(path), file).unwrap(), Path::new(written));
        }
    }
}
