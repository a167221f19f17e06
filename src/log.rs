//! The journal: one line per event on standard error.
//!
//! How much is told says `[log]` of the configuration; where the environment has `TIDEGATE_LOG`, that in its place.
//! What `tidegate log` changes comes on top of either, until the next start or reload.
//!
//! ERROR: data lost or a person is needed. WARN: degraded, recovering. INFO: state changes only.

mod format;
mod panics;

use adapter_api::shown;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    panic::PanicHookInfo,
    sync::{Mutex, OnceLock, PoisonError},
};
use tracing_subscriber::EnvFilter;

/// How much is told.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing.
    Off,
    /// Data is lost, or a person is needed.
    Error,
    /// Degraded, recovering.
    Warn,
    /// State changes.
    #[default]
    Info,
    /// Details.
    Debug,
    /// Every sample.
    Trace,
}

/// `[log]`: how much is told, and by some parts more or less.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    /// By all others.
    pub level: Level,
    /// By parts of the program, as `tidegate::uplink`.
    pub targets: BTreeMap<String, Level>,
}

/// The way to change the filter of the running process.
struct Tap {
    set: Box<dyn Fn(EnvFilter) -> bool + Send + Sync>,
    force: Mutex<Force>,
}

/// What is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Force {
    /// `TIDEGATE_LOG`, in place of `[log]`.
    pub environment: Option<String>,
    /// By all others: of `[log]`, or changed.
    pub level: Option<Level>,
    /// By parts of the program: of `[log]`, or changed.
    pub targets: BTreeMap<String, Level>,
}

static TAP: OnceLock<Tap> = OnceLock::new();

/// Longer lines are cut: no fault needs more.
const LINE_BYTES: usize = 16 << 10;

impl Level {
    /// Its name in the file and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// As a filter, in which of two directives for the same the later counts.
impl fmt::Display for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let environment = self.environment.as_deref().filter(|environment| !environment.is_empty());
        let targets = self.targets.iter().map(|(target, level)| format!("{target}={}", level.name()));
        let parts = environment.map(str::to_owned).into_iter();
        let parts: Vec<String> =
            parts.chain(self.level.map(|level| level.name().to_owned())).chain(targets).collect();
        f.write_str(&parts.join(","))
    }
}

/// Whether this may name a part of the program.
pub fn is_target(target: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    target.len() <= 128 && target.split("::").all(word)
}

/// Whether standard error is systemd's journal.
pub fn is_journal() -> bool {
    matches!(format::Form::of_standard_error(), format::Form::Journal(_))
}

/// Starts logging for this process.
pub fn start() {
    let force = from_environment().unwrap_or_else(|| Force::of(&Levels::default()));
    let filter = EnvFilter::new(force.to_string());
    let subscriber = tracing_subscriber::fmt()
        .with_writer(|| Lines(io::stderr()))
        .event_format(format::Form::of_standard_error())
        .with_env_filter(filter)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    // A second start, in tests, changes nothing.
    if subscriber.try_init().is_ok() {
        let set = Box::new(move |filter| handle.reload(filter).is_ok());
        // Nobody has set it: logging was started just now.
        let _first = TAP.set(Tap { set, force: Mutex::new(force) });
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        if let Some(left_out) = panics::tell(&place) {
            tracing::error!(place, why = why(panic), left_out, "panic");
        }
    }));
}

impl Force {
    fn of(levels: &Levels) -> Self {
        let Levels { level, targets } = levels.clone();
        Self { environment: None, level: Some(level), targets }
    }

    fn change(&mut self, level: Level, target: Option<&str>) {
        match target {
            Some(target) => _ = self.targets.insert(target.to_owned(), level),
            None => self.level = Some(level),
        }
    }
}

fn from_environment() -> Option<Force> {
    of_variable(std::env::var("TIDEGATE_LOG").ok())
}

/// An empty one is none: it would silence everything, and what `tidegate log` changes of one part all others.
fn of_variable(environment: Option<String>) -> Option<Force> {
    let environment = environment.filter(|environment| environment.contains(|c| c != ',' && c != ' '))?;
    EnvFilter::try_new(&environment).ok()?;
    Some(Force { environment: Some(environment), ..Force::default() })
}

/// Tells so much from now on, unless `TIDEGATE_LOG` says otherwise. What `tidegate log` changed ends with it.
pub fn keep_to(levels: &Levels) {
    let environment = from_environment();
    if environment.is_some() && *levels != Levels::default() {
        tracing::info!("TIDEGATE_LOG is in force in place of [log]");
    }
    set(environment.unwrap_or_else(|| Force::of(levels)));
}

/// Tells so much of everything, or of one target, until the next start or reload. Returns what is in force then.
pub fn change(level: Level, target: Option<&str>) -> Force {
    let force = TAP.get().map(|tap| tap.force.lock().unwrap_or_else(PoisonError::into_inner).clone());
    let mut force = force.unwrap_or_default();
    force.change(level, target);
    set(force.clone());
    force
}

fn set(force: Force) {
    let Some(tap) = TAP.get() else { return };
    if (tap.set)(EnvFilter::new(force.to_string())) {
        *tap.force.lock().unwrap_or_else(PoisonError::into_inner) = force;
    }
}

/// What commands say of a panic that do not log.
pub fn panics_are_plain() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let _unwritable = writeln!(Lines(io::stderr()), "tidegate: panic at {place}: {}", why(panic));
    }));
}

/// Why it panicked. Words that were put together may quote anything, as those of the standard library do
/// of a text that is cut in the wrong place; only fixed ones are passed on (I11).
fn why<'p>(panic: &'p PanicHookInfo<'_>) -> &'p str {
    panic
        .payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("the reason may quote data; see the place")
}

/// Takes one event at a time, and makes it one line in which nothing steers a terminal: an event's fields
/// come from devices and platforms.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let cut = event.get(..LINE_BYTES).unwrap_or(event);
        let text = String::from_utf8_lossy(cut);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let more = if cut.len() < event.len() { " (cut)" } else { "" };
        self.0.write_all(format!("{}{more}\n", shown(line)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_as_a_filter_and_targets_are_paths() {
        let mut levels = Levels::default();
        assert_eq!(Force::of(&levels).to_string(), "info");
        levels.targets.insert("tidegate::uplink".into(), Level::Trace);
        levels.level = Level::Warn;
        let mut force = Force::of(&levels);
        assert_eq!(force.to_string(), "warn,tidegate::uplink=trace");
        EnvFilter::try_new(force.to_string()).unwrap();
        force.change(Level::Off, Some("tidegate::uplink"));
        force.change(Level::Error, None);
        assert_eq!(force.to_string(), "error,tidegate::uplink=off");
        for (target, is) in [
            ("tidegate", true),
            ("a::b_2", true),
            ("", false),
            ("a::", false),
            ("a=b", false),
            ("a,b", false),
        ] {
            assert_eq!(is_target(target), is, "{target:?}");
        }
    }

    #[test]
    fn what_is_changed_comes_on_top_of_the_environment() {
        let mut force =
            Force { environment: Some("warn,tidegate::store=trace".to_owned()), ..Force::default() };
        force.change(Level::Debug, Some("tidegate::uplink"));
        let filter = EnvFilter::try_new(force.to_string()).unwrap().to_string();
        let has = |filter: &str, directive: &str| filter.split(',').any(|part| part == directive);
        for directive in ["warn", "tidegate::store=trace", "tidegate::uplink=debug"] {
            assert!(has(&filter, directive), "{directive}: {filter}");
        }
        force.change(Level::Error, None);
        force.change(Level::Off, Some("tidegate::store"));
        let filter = EnvFilter::try_new(force.to_string()).unwrap().to_string();
        assert!(has(&filter, "error") && has(&filter, "tidegate::store=off"), "{filter}");
        assert!(!has(&filter, "warn") && !filter.contains("trace"), "{filter}");
        force.environment = Some(String::new());
        assert!(force.to_string().starts_with("error,"));
    }

    #[test]
    fn an_empty_environment_says_nothing() {
        for (variable, is) in [(None, false), (Some(""), false), (Some(" ,"), false), (Some("warn"), true)] {
            let force = of_variable(variable.map(str::to_owned));
            assert_eq!(force.is_some(), is, "{variable:?}");
            // What is changed of one part says nothing of the others.
            let mut force = force.unwrap_or_else(|| Force::of(&Levels::default()));
            force.change(Level::Debug, Some("tidegate::uplink"));
            let said = force.to_string();
            assert!(said.contains("info,") || said.contains("warn,"), "{said}");
        }
    }

    #[test]
    fn an_event_is_one_line_that_steers_nothing() {
        for (event, line) in [
            ("a b\n", "a b\n"),
            ("a\nlevel=ERROR b\n", "a\\u{a}level=ERROR b\n"),
            ("\u{1b}]0;x\u{7}\n", "\\u{1b}]0;x\\u{7}\n"),
            ("\u{202e}\u{9b}2J", "\\u{202e}\\u{9b}2J\n"),
        ] {
            let mut out = Lines(Vec::new());
            out.write_all(event.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(out.0).unwrap(), line);
        }
        let mut out = Lines(Vec::new());
        out.write_all(&[b'x'; 100_000]).unwrap();
        assert!(out.0.len() < LINE_BYTES + 10 && out.0.ends_with(b" (cut)\n"));
    }
}
