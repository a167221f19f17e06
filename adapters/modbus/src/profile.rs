//! Profiles: what is known of a model of device, so that a configuration need not say it.
//!
//! A profile is a TOML file. Those of `packaging/profiles` are built in; a file of the same name in
//! the directory of profiles takes the place of a built-in one, others there are added to them.
//!
//! Not here: what of a profile a device uses (`config`).

mod read;
#[cfg(test)]
mod tests;
mod unused;

#[cfg(fuzzing)]
pub(crate) use read::profile as parse;
pub(crate) use unused::unused;

use crate::{Register, config, sunspec};
use adapter_api::{Resource, suggest};
use serde::{Deserialize, Deserializer};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt,
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, ErrorKind, Read as _},
    ops::Deref,
    path::{Path, PathBuf},
};

/// Where profiles of the site lie.
const DIRECTORY: &str = "/etc/tidegate/profiles";
/// Names another directory; for tests, and for sites that are not installed by a package.
const VARIABLE: &str = "TIDEGATE_PROFILES";
/// Larger than any profile: some thousand registers.
const MAX_BYTES: u64 = 1 << 20;

const BUILT_IN: [(&str, &str); 6] = [
    ("ai8", include_str!("../../../packaging/profiles/ai8.toml")),
    ("sdm120", include_str!("../../../packaging/profiles/sdm120.toml")),
    ("sdm230", include_str!("../../../packaging/profiles/sdm230.toml")),
    ("sdm630", include_str!("../../../packaging/profiles/sdm630.toml")),
    ("sdm72", include_str!("../../../packaging/profiles/sdm72.toml")),
    ("sunspec", include_str!("../../../packaging/profiles/sunspec.toml")),
];

/// What is known of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// What it is called in a configuration.
    pub name: String,
    /// Where it is from.
    pub origin: Origin,
    /// Who makes the device.
    pub vendor: String,
    /// What its maker calls it.
    pub model: String,
    /// In a few words what it is.
    pub description: Option<String>,
    /// The document the registers were taken from.
    pub source: String,
    /// How the device is set when it is new.
    pub defaults: Defaults,
    /// What it answers at once.
    pub limits: Limits,
    /// What there is to read.
    pub content: Content,
}

/// Where a profile is from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The program.
    BuiltIn,
    /// This file.
    File(PathBuf),
}

/// How a device is set when it comes from its maker. Hints for people: the configuration does not take
/// them over, since a line has one setting for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Its unit identifier.
    pub unit: Option<u8>,
    /// Bits per second.
    pub baud: Option<u32>,
    /// `"even"`, `"odd"` or `"none"`.
    pub parity: Option<String>,
    /// 1 or 2.
    pub stop_bits: Option<u8>,
}

/// The most a device answers to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Registers, 1 to 125.
    pub max_registers: Option<u16>,
    /// Coils or discrete inputs, 1 to 2000.
    pub max_bits: Option<u16>,
    /// Registers nobody wants that may lie between two wanted ones in a request.
    pub max_hole: Option<u16>,
}

/// What there is to read from a device.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// These.
    Registers(BTreeMap<Resource, Entry>),
    /// What the device says itself that it has.
    SunSpec,
}

/// A resource of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its register, counted from 0.
    pub register: Register,
    /// What its value is measured in, after scale and offset.
    pub unit: Option<String>,
    /// Where it stands in the profile's source.
    pub source: Option<String>,
}

/// All profiles there are.
#[derive(Debug, Clone)]
pub struct Library {
    dir: PathBuf,
}

/// Why there is no such profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoProfile {
    /// None has this name.
    #[error("there is no profile of this name")]
    Unknown {
        /// All there are, the nearest first.
        names: Vec<String>,
    },
    /// The file cannot be read.
    #[error("{}: {why}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// Something is wrong in the file.
    #[error("{origin}: {first}{}", more(.faults.len()), first = .faults.first().map(ToString::to_string).unwrap_or_default())]
    Faulty {
        /// Which.
        origin: Origin,
        /// What; at least one.
        faults: Vec<Wrong>,
    },
}

/// Something wrong in a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The key, with those of the tables it is in; empty for the file as a whole.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do.
    pub hint: Option<String>,
}

/// One line of what a profile reads, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its name.
    pub resource: Resource,
    /// Where it is; `None` if the device has to be asked.
    pub register: Option<String>,
    /// Its type.
    pub kind: Option<String>,
    /// The order of its bytes.
    pub order: Option<String>,
    /// Factor.
    pub scale: Option<f64>,
    /// What it is measured in.
    pub unit: Option<String>,
    /// Where it stands in the profile's source.
    pub source: Option<String>,
}

impl Profile {
    /// All it reads, in the order of registers.
    pub fn listed(&self) -> Vec<Listed> {
        let entries = match &self.content {
            Content::Registers(entries) => entries,
            Content::SunSpec => return sunspec::listed(),
        };
        let place = |(resource, entry): &(&Resource, &Entry)| {
            let want = config::of_profile(resource.as_str(), &entry.register).ok().map(|(want, _)| want);
            want.map(|want| (want.table, want.start))
        };
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by_cached_key(place);
        let listed = entries.into_iter().map(|(resource, entry)| Listed {
            resource: resource.clone(),
            register: entry.register.register.clone(),
            kind: entry.register.kind.clone(),
            order: entry.register.order.clone(),
            scale: entry.register.scale,
            unit: entry.unit.clone(),
            source: entry.source.clone(),
        });
        listed.collect()
    }
}

impl Default for Library {
    /// That of this machine.
    fn default() -> Self {
        Self::new(std::env::var_os(VARIABLE).map_or_else(|| DIRECTORY.into(), PathBuf::from))
    }
}

impl Library {
    /// The built-in profiles, and those of this directory. It need not exist.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory profiles of the site lie in.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// The file that a profile of this name is read from, if there is one.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        is_name(name).then(|| self.dir.join(format!("{name}.toml")))
    }

    /// The names of all profiles, in order.
    pub fn names(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
        // A directory that is missing, or may not be read, has none.
        for entry in self.dir.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            let stem = path.file_stem().and_then(OsStr::to_str);
            if path.extension() == Some(OsStr::new("toml"))
                && let Some(name) = stem.filter(|name| is_name(name))
            {
                names.insert(name.to_owned());
            }
        }
        names
    }

    /// The profile of this name.
    pub fn find(&self, name: &str) -> Result<Profile, NoProfile> {
        if let Some(file) = self.file(name) {
            match text(&file) {
                Ok(Some(text)) => return read::profile(name, Origin::File(file), &text),
                Ok(None) => {}
                Err(why) => return Err(NoProfile::Unreadable { file, why }),
            }
            if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
                return read::profile(name, Origin::BuiltIn, text);
            }
        }
        let names = self.names();
        let names = suggest::by_nearness(name, names.iter().map(String::as_str));
        Err(NoProfile::Unknown { names: names.into_iter().map(str::to_owned).collect() })
    }
}

/// A profile as a device's table names it. With another content of its file it is another one: then the device is
/// read otherwise, though nothing in its table changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    name: String,
    content: u64,
}

impl Deref for Named {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let file = Library::default().file(&name).map(|file| text(&file));
        let mut hasher = DefaultHasher::new();
        file.hash(&mut hasher);
        Ok(Self { name, content: hasher.finish() })
    }
}

/// What a profile can be called; nothing that leads out of the directory.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// What the file says; `None` if there is none.
fn text(file: &Path) -> Result<Option<String>, &'static str> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read.map_err(|error: io::Error| error.kind()) {
        Ok(read) if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) => {
            Err("larger than 1 MiB, which no profile is")
        }
        Ok(_) => String::from_utf8(bytes).map(Some).map_err(|_| "not UTF-8 text; save the file as UTF-8"),
        Err(ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        // With /etc/tidegate closed to this user nobody can say whether there is one.
        Err(ErrorKind::PermissionDenied) => Err("this user may not read it"),
        Err(ErrorKind::IsADirectory) => Err("a directory, not a file"),
        Err(_) => Err("cannot be read"),
    }
}

fn more(faults: usize) -> String {
    match faults {
        0 | 1 => String::new(),
        more => format!(" (and {} more)", more - 1),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::File(file) => file.display().fmt(f),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.why)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}
