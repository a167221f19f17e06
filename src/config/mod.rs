//! The configuration: one TOML file, checked as a whole before any of it is used (I9).
//!
//! In two steps: tables as they are typed (`low`, and the types of adapters and dialects), then a
//! [`Config`] in which everything holds. What is wrong is reported all at once, with line and column,
//! and without ever quoting the file (I11).
//!
//! Not here: what a change of the configuration means for what runs.

pub mod adapters;
mod check;
mod endpoints;
mod excerpt;
pub(crate) mod files;
mod http;
mod low;
pub mod mask;
pub(crate) mod pem;
mod quota;
mod read;
pub mod redact;
mod report;
pub mod secret;
#[cfg(test)]
mod tests;
mod uplink;

use crate::{
    endpoints::{Directory, Endpoint},
    log::{self, Levels},
    shape::{DeviceTime, quota::Quotas},
    store::{Limits, WhenFull},
    trust::Choice,
};
use adapter_api::{EndpointName, Span, shown, suggest};
pub use adapters::{AdapterConfigs, UnitConfig, Units};
pub use check::{Finding, Findings, Severity};
use check::{KeyPath, Notes};
pub use excerpt::{Line, excerpt};
use files::{Base, PACKAGED_FILE};
pub use http::HttpConfig;
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{self, ErrorKind, Read},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
pub use uplink::{Address, Login, TlsConfig, Uplink, UplinkConfig};

/// Largest configuration: some ten thousand endpoints.
const MAX_BYTES: usize = 8 << 20;
/// Mistakes of spelling after which the rest of a file says nothing.
const MAX_SYNTAX: usize = 10;

/// A configuration in which everything holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[gateway]`
    pub gateway: Gateway,
    /// `[log]`
    pub log: Levels,
    /// `[clock]`
    pub clock: ClockConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[http]`, where it is on
    pub http: Option<HttpConfig>,
    /// `[uplink]`
    pub uplink: Uplink,
    /// `[adapters.*.*]` with the adapters' halves of `[endpoints.*]`
    pub adapters: AdapterConfigs,
    /// `[endpoints.*]`, by name; disabled ones too. Shared: there are several configurations of the same thousands.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// What endpoints were called before, by their former names.
    pub former: BTreeMap<EndpointName, EndpointName>,
}

/// Where things are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Database and reserved files.
    pub state_dir: PathBuf,
    /// What `tidegate status` talks to.
    pub control_socket: PathBuf,
    /// The gateway's own endpoint: what it was that was dropped is told there.
    pub endpoint: Option<EndpointName>,
}

/// What is thought of clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockConfig {
    /// When the system's is believed.
    pub trust: Choice,
    /// After the boot, samples wait so long for the time.
    pub hold: Duration,
    /// What becomes of a device's implausible stamp.
    pub device_time: DeviceTime,
}

/// How samples are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// How long polled data may wait for company in its commit; the loss at a power cut.
    pub commit_within: Duration,
    /// A larger sample is refused.
    pub max_sample_bytes: usize,
    /// How much is kept, for how long, and what goes when there is more.
    pub limits: Limits,
}

impl Config {
    /// Reads a file, and the credentials it names. With the warnings it gave.
    pub fn load(path: &Path) -> Result<(Self, Vec<Finding>), Findings> {
        Self::load_as(path, path)
    }

    /// Reads a file as if it lay elsewhere: relative paths in it are relative to that place.
    pub fn load_as(path: &Path, place: &Path) -> Result<(Self, Vec<Finding>), Findings> {
        let file: Arc<str> = path.to_string_lossy().into();
        let unreadable = |what, hint| Findings::unreadable(&file, what, hint);
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let read = File::open(path).and_then(|f| f.take(limit).read_to_end(&mut bytes));
        read.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => unreadable("there is no such file", None),
            ErrorKind::PermissionDenied => unreadable("this user may not read it", None),
            ErrorKind::IsADirectory => unreadable("a directory, not a file", None),
            _ => unreadable("cannot be read", None),
        })?;
        if bytes.len() > MAX_BYTES {
            return Err(unreadable(TOO_LARGE, None));
        }
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let mut notes = Notes::new(&file, std::str::from_utf8(good).unwrap_or_default());
                notes.syntax(None, "not UTF-8 text from here on; save the file as UTF-8");
                return Err(notes.finish().err().unwrap_or_else(|| unreadable("not UTF-8 text", None)));
            }
        };
        Self::parse(text, &file, place.parent().unwrap_or(Path::new("")))
    }

    /// Reads a text. Relative paths in it are relative to `base_dir`; `file_name` is for the findings.
    pub fn parse(text: &str, file_name: &str, base_dir: &Path) -> Result<(Self, Vec<Finding>), Findings> {
        let file: Arc<str> = file_name.into();
        if text.len() > MAX_BYTES {
            return Err(Findings::unreadable(&file, TOO_LARGE, None));
        }
        // A mark some editors put in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut notes = Notes::new(&file, text);
        let (doc, mistakes) = DeTable::parse_recoverable(text);
        for mistake in mistakes.iter().take(MAX_SYNTAX) {
            let what = mistake.message();
            notes.syntax(mistake.span(), what.strip_suffix(", expected nothing").unwrap_or(what));
        }
        if !mistakes.is_empty() {
            return Err(match notes.finish() {
                Err(findings) => findings,
                Ok(_) => Findings::unreadable(&file, "not TOML", None),
            });
        }
        let mut notes = notes.of(&doc);
        let config = checked(&mut notes, doc.get_ref(), Base(base_dir));
        let warnings = notes.finish()?;
        let config = config.ok_or_else(|| Findings::unreadable(&file, "not understood", None))?;
        Ok((config, warnings))
    }

    /// The endpoints, to be looked up.
    pub fn directory(&self) -> Directory {
        let former = self.former.iter().map(|(former, present)| (former.clone(), present.clone()));
        Directory::new(self.endpoints.iter().cloned()).formerly(former)
    }

    /// The configuration with these endpoints disabled, as if the file said so.
    #[must_use]
    pub fn without(&self, disabled: &BTreeSet<EndpointName>) -> Self {
        let mut config = self.clone();
        for endpoint in config.endpoints.iter_mut().filter(|endpoint| disabled.contains(&endpoint.key.name)) {
            Arc::make_mut(endpoint).enabled = false;
        }
        config.adapters.forget(disabled);
        config
    }

    /// These endpoints, as they are called here.
    pub fn by_present_names(&self, names: &BTreeSet<EndpointName>) -> BTreeSet<EndpointName> {
        names.iter().map(|name| self.former.get(name).unwrap_or(name).clone()).collect()
    }

    /// Keeps of an earlier configuration what is the same in this one: after a reload there are not two of each
    /// of thousands of endpoints, whoever still holds the earlier ones.
    pub fn share(&mut self, earlier: &Self) {
        let known: HashMap<&EndpointName, &Arc<Endpoint>> =
            earlier.endpoints.iter().map(|endpoint| (&endpoint.key.name, endpoint)).collect();
        for endpoint in &mut self.endpoints {
            if let Some(known) = known.get(&endpoint.key.name).filter(|known| **known == endpoint) {
                *endpoint = Arc::clone(known);
            }
        }
    }
}

/// It is not known which gateway is meant by a file, and another one shall not be taken for it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}; which gateway is meant is said there, or by --socket", shown(&file.to_string_lossy()))]
pub struct SocketUnknown {
    file: PathBuf,
    error: io::Error,
}

/// The control socket a file names, without reading anything else of it: whoever asks for the status
/// may not be allowed to read the credentials. The default where the file says nothing, and where the packaged
/// one cannot be read; of no other file that cannot, for the default is the packaged gateway's.
pub fn control_socket(path: &Path) -> Result<PathBuf, SocketUnknown> {
    let text = match std::fs::read(path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) if path == Path::new(PACKAGED_FILE) => String::new(),
        Err(error) => return Err(SocketUnknown { file: path.to_owned(), error }),
    };
    let doc = DeTable::parse_recoverable(&text).0;
    let named = doc.get_ref().get("gateway").and_then(|gateway| gateway.get_ref().get("control_socket"));
    let named = named.and_then(|socket| socket.get_ref().as_str()).map(PathBuf::from);
    let named = named.unwrap_or_else(|| low::Gateway::default().control_socket);
    Ok(Base(path.parent().unwrap_or(Path::new(""))).path(&named))
}

/// The files whose content is part of a configuration: the file itself, and those it names. Of a file that is
/// not understood as well, so that one can be waited for that mends it.
pub fn files_of(path: &Path) -> BTreeSet<PathBuf> {
    files_named(path).into_iter().map(|(_, file)| file).chain([path.to_owned()]).collect()
}

/// The files that a configuration names, each with its key.
pub fn files_named(path: &Path) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if text.len() <= MAX_BYTES {
        let doc = DeTable::parse_recoverable(&text).0;
        let base = Base(path.parent().unwrap_or(Path::new("")));
        named_in(&KeyPath::default(), doc.get_ref(), base, &mut files);
    }
    files
}

/// All keys of files end alike; a profile is a file of its name.
fn named_in(at: &KeyPath, table: &DeTable<'_>, base: Base<'_>, files: &mut Vec<(String, PathBuf)>) {
    for (key, value) in table {
        let at = at.key(key.get_ref());
        match value.get_ref() {
            DeValue::Table(table) => named_in(&at, table, base, files),
            DeValue::String(file) if key.get_ref().ends_with("_file") && !file.is_empty() => {
                files.push((at.to_string(), base.path(Path::new(file.as_ref()))));
            }
            #[cfg(feature = "modbus")]
            DeValue::String(name) if key.get_ref() == "profile" => {
                let file = adapter_modbus::profile::Library::default().file(name);
                files.extend(file.map(|file| (at.to_string(), file)));
            }
            _ => {}
        }
    }
}

const TOO_LARGE: &str = "larger than 8 MiB, which no configuration is";

/// `None` only together with an error.
fn checked(notes: &mut Notes<'_>, doc: &DeTable<'_>, base: Base<'_>) -> Option<Config> {
    for key in doc.keys().map(|key| key.get_ref().as_ref()).filter(|key| !low::TOP.contains(key)) {
        read::unknown_key(notes, &KeyPath::default(), key, low::TOP);
    }
    let gateway = gateway(notes, doc, base);
    let log = section::<low::Log>(notes, doc, "log").map(|low| levels(notes, low));
    let clock = clock(notes, doc);
    let store = store(notes, doc);
    let http = section(notes, doc, "http").and_then(|low| http::check(notes, low, base));
    let uplink = match section::<low::Uplink>(notes, doc, "uplink") {
        Some(low) => uplink::check(notes, low, base),
        None => None,
    };
    let quotas = section::<low::Quota>(notes, doc, "quota").unwrap_or_default();
    let quotas = quota::check(notes, &KeyPath::new(&["quota"]), quotas, Quotas::default());
    let own = gateway.as_ref().and_then(|gateway| gateway.endpoint.as_ref());
    let mut drafts = endpoints::drafts(notes, doc, base, quotas, own);
    let no_platform = uplink == Some(Uplink::None);
    let adapters = adapters::units_of_all(notes, doc, &mut drafts, no_platform);
    let dialect = match &uplink {
        Some(Uplink::Mqtt(uplink)) => Some(&uplink.dialect),
        _ => None,
    };
    let former = endpoints::former(notes, &drafts);
    let endpoints = endpoints::finish(notes, drafts, dialect);
    Some(Config {
        gateway: gateway?,
        log: log?,
        clock: clock?,
        store: store?,
        http,
        uplink: uplink?,
        adapters,
        endpoints,
        former,
    })
}

/// A table at the top; without it, its defaults.
fn section<T: DeserializeOwned>(notes: &mut Notes<'_>, doc: &DeTable<'_>, name: &str) -> Option<T> {
    let empty = Spanned::new(0..0, DeValue::Table(DeTable::new()));
    read::read(notes, &KeyPath::new(&[name]), doc.get(name).unwrap_or(&empty), &[])
}

fn gateway(notes: &mut Notes<'_>, doc: &DeTable<'_>, base: Base<'_>) -> Option<Gateway> {
    let low: low::Gateway = section(notes, doc, "gateway")?;
    let at = KeyPath::new(&["gateway"]);
    for (key, path) in [("state_dir", &low.state_dir), ("control_socket", &low.control_socket)] {
        if path.as_os_str().is_empty() {
            notes.error(&at.key(key), "is empty");
        }
    }
    let control_socket = base.path(&low.control_socket);
    // unix(7): the path of a socket has 107 bytes and a NUL.
    if control_socket.as_os_str().len() > 107 {
        notes.error(&at.key("control_socket"), "the path of a socket has at most 107 bytes");
    }
    Some(Gateway { state_dir: base.path(&low.state_dir), control_socket, endpoint: low.endpoint })
}

fn levels(notes: &mut Notes<'_>, low: low::Log) -> Levels {
    let levels = Levels { level: low.level, targets: low.targets };
    for target in levels.targets.keys().filter(|target| !log::is_target(target)) {
        let key = KeyPath::new(&["log", "targets", target]);
        let what = "a target has letters, digits, '_' and \"::\"";
        let hint = "write \"tidegate::uplink\" = \"debug\"".to_owned();
        notes.add(Severity::Error, &key, check::Half::Key, what.to_owned(), Some(hint));
    }
    levels
}

fn clock(notes: &mut Notes<'_>, doc: &DeTable<'_>) -> Option<ClockConfig> {
    let low: low::Clock = section(notes, doc, "clock")?;
    let hold = low.hold.duration();
    if hold > Duration::from_secs(86_400) {
        notes.error(&KeyPath::new(&["clock", "hold"]), "out of range: expected \"0s\" to \"24h\"");
    }
    Some(ClockConfig { trust: low.trust, hold, device_time: low.device_time })
}

fn store(notes: &mut Notes<'_>, doc: &DeTable<'_>) -> Option<StoreConfig> {
    let low: low::Store = section(notes, doc, "store")?;
    let at = KeyPath::new(&["store"]);
    let commit_within = low.commit_within.duration();
    if commit_within > Duration::from_secs(60) {
        notes.error(&at.key("commit_within"), "out of range: expected \"0s\" to \"1m\"");
    }
    let largest = u64::try_from(adapter_api::UNIT_BYTES).unwrap_or(u64::MAX);
    let max_sample_bytes = range(notes, &at.key("max_sample_bytes"), low.max_sample_bytes, 256..=largest);
    range(notes, &at.key("max_bytes"), low.max_bytes, 1 << 20..=1 << 40);
    range(notes, &at.key("min_free"), low.min_free, 0..=1 << 40);
    let max_age = low.max_age.map(Span::duration);
    if max_age.is_some_and(|age| age < Duration::from_secs(60)) {
        notes.error(&at.key("max_age"), "out of range: expected at least \"1m\"");
    }
    let when_full = match low.when_full {
        low::WhenFull::DropOldest => WhenFull::DropOldest,
        low::WhenFull::Refuse => WhenFull::Refuse,
    };
    let limits = Limits { max_bytes: low.max_bytes, max_age, min_free: low.min_free, when_full };
    Some(StoreConfig { commit_within, max_sample_bytes, limits })
}

/// A number within its limits.
fn range(notes: &mut Notes<'_>, key: &KeyPath, value: u64, limits: RangeInclusive<u64>) -> usize {
    if !limits.contains(&value) {
        let (least, most) = (limits.start(), limits.end());
        notes.error(key, format!("out of range: expected a whole number from {least} to {most}"));
    }
    usize::try_from(value).unwrap_or(usize::MAX)
}
