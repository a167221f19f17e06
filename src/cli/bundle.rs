//! `tidegate support-bundle`: what those need who are asked for help, in one file, and no secret in it (I11).
//!
//! The configuration is shown by where its keys stand (`config/redact`). What others wrote (the journal, the unit with
//! its drop-ins) is searched for the secrets of the configuration besides (`config/mask`), be it good or not.

mod tar;

use super::{CONFIG, doctor::text};
use crate::{
    config::{self, Config, excerpt, mask::Secrets, redact::redacted},
    control::client,
    doctor, store,
};
use adapter_api::{clock, shown};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf, absolute},
    process::{ExitCode, Stdio},
    time::Duration,
};
use tar::Archive;

/// What is typed behind `tidegate support-bundle`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The file to write
    #[arg(default_value = "tidegate-support.tar.gz")]
    file: PathBuf,
    /// Configuration file
    #[arg(short, long, default_value = CONFIG)]
    config: PathBuf,
    /// Control socket [default: the one of the configuration]
    #[arg(long)]
    socket: Option<PathBuf>,
}

/// The directory in the bundle.
const ROOT: &str = "tidegate-support";
/// How long the gateway and systemd may take for each answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The last lines of the journal.
const LINES: &str = "2000";
/// What a running gateway is asked.
const QUESTIONS: [(&str, &str); 3] =
    [("status.json", "/v1/status"), ("queue.json", "/v1/queue"), ("endpoints.json", "/v1/endpoints")];

/// Collects everything and packs it.
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { file, config: config_file, socket } = options;
    let config_file = absolute(&config_file).context("the path of the configuration")?;
    let path = shown(&file.to_string_lossy()).to_string();
    let out = File::options().write(true).create_new(true).mode(0o600).open(&file);
    let out = match out {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{path} is there already; remove it, or name another file")
        }
        out => out.with_context(|| format!("{path} cannot be written"))?,
    };
    let made = out.metadata().ok().and_then(|file| u64::try_from(file.mtime()).ok()).unwrap_or_default();
    let mut archive = Archive::new(made);
    for (name, content) in collected(&config_file, socket).await {
        archive.add(&format!("{ROOT}/{name}"), content.as_bytes());
    }
    if let Err(error) = compress(&archive.finish(), out).await {
        // Half a bundle helps nobody.
        let _gone = fs::remove_file(&file);
        return Err(error).with_context(|| format!("{path} cannot be written"));
    }
    writeln!(io::stdout(), "{path}: written; passwords, tokens and keys are not in it")?;
    Ok(ExitCode::SUCCESS)
}

/// The files, by name.
async fn collected(file: &Path, socket: Option<PathBuf>) -> Vec<(&'static str, String)> {
    let loaded = Config::load(file);
    // What is not UTF-8 in it spoils nothing but its own place.
    let text = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
    let findings = doctor::examine(file, socket.clone()).await;
    let socket = socket.map_or_else(|| config::control_socket(file), Ok);
    let mut files = vec![
        ("about.json", pretty(&about(file))),
        ("check.txt", check(&loaded)),
        ("configuration.json", pretty(&redacted(&text))),
        ("doctor.txt", self::text(&findings)),
        ("doctor.json", pretty(&json!({ "findings": findings }))),
    ];
    for (name, question) in QUESTIONS {
        let answer = match &socket {
            Ok(socket) => asked(socket, question).await,
            Err(error) => pretty(&json!({ "no_answer": error.to_string() })),
        };
        files.push((name, answer));
    }
    if let Ok((config, _)) = &loaded {
        files.push(("disk.txt", disk(&config.gateway.state_dir)));
    }
    if let Some(unit) = doctor::unit(file) {
        let journal = ["--unit", &unit, "--lines", LINES, "--no-pager", "--output", "short-iso"];
        files.push(("journal.txt", said("journalctl", &journal).await));
        files.push(("unit.txt", of_unit(&said("systemctl", &["cat", "--no-pager", &unit]).await)));
        files.push((
            "service.txt",
            said("systemctl", &["show", "--no-pager", &unit, "--property", SHOWN]).await,
        ));
    }
    // Nothing of the gateway's own should hold one; what others wrote may.
    let secrets = Secrets::of(&text, file);
    files.iter_mut().for_each(|(_, content)| *content = secrets.mask(content));
    files
}

/// Of the service, what says how it fares; none of its environment.
const SHOWN: &str = "ActiveState,SubState,Result,NRestarts,ExecMainStartTimestamp,ExecMainStatus,MemoryCurrent,\
                     MemoryPeak,CPUUsageNSec,TasksCurrent,FragmentPath,DropInPaths,UnitFileState,StatusText";

fn pretty(value: &Value) -> String {
    // JSON of texts and numbers can always be written.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn about(file: &Path) -> Value {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let release = text("/etc/os-release");
    let release = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
    let memory: Vec<String> = text("/proc/meminfo").lines().take(3).map(str::to_owned).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "architecture": std::env::consts::ARCH,
        "configuration": file,
        "kernel": text("/proc/version").trim(),
        "system": release.trim_matches('"'),
        "uptime_s": clock::uptime().as_secs(),
        "memory": memory,
        "load": text("/proc/loadavg").trim(),
    })
}

fn check(loaded: &Result<(Config, Vec<config::Finding>), config::Findings>) -> String {
    match loaded {
        Ok((_, warnings)) => {
            excerpt(warnings).iter().map(|line| format!("{line}\n")).collect::<String>() + "taken\n"
        }
        Err(findings) => format!("{findings}\nnot taken\n"),
    }
}

async fn asked(socket: &Path, question: &str) -> String {
    match clock::timeout(PATIENCE, client::ask(socket, question)).await {
        Ok(Ok(answer)) => pretty(&answer),
        Ok(Err(error)) => pretty(&json!({ "no_answer": error.to_string() })),
        Err(_) => pretty(&json!({ "no_answer": "not in time" })),
    }
}

/// The files of the state directory by size, and the room beside them.
fn disk(dir: &Path) -> String {
    let mut text = format!("{}\n", shown(&dir.to_string_lossy()));
    if let Some(space) = store::space(dir) {
        let _infallible = writeln!(text, "{:>14} bytes free of {}", space.free, space.total);
    }
    let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (bytes, mode) = entry.metadata().map_or((0, 0), |m| (m.len(), m.mode()));
        let name = entry.file_name().to_string_lossy().into_owned();
        let _infallible = writeln!(text, "{bytes:>14} {mode:o} {}", shown(&name));
    }
    match store::version(dir) {
        Ok(version) => {
            let version = version.map_or_else(|| "none in the file itself".to_owned(), |v| v.to_string());
            let _infallible = writeln!(text, "database: version {version}");
        }
        Err(error) => {
            let _infallible = writeln!(text, "database: {error}");
        }
    }
    text
}

/// What a program of the system says.
async fn said(program: &str, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match clock::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => format!("{program} says nothing\n"),
    }
}

/// Keys of a unit that may hold a secret.
const SECRET_KEYS: [&str; 3] = ["Environment", "SetCredential", "SetCredentialEncrypted"];

/// A unit with its drop-ins, without the values of those keys. A value goes on behind a backslash.
fn of_unit(text: &str) -> String {
    let (mut out, mut hidden) = (String::new(), false);
    for line in text.lines() {
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        let goes_on = line.trim_end().ends_with('\\');
        if !hidden && SECRET_KEYS.contains(&key) {
            let _infallible = writeln!(out, "{key}=***");
            hidden = goes_on;
        } else if hidden {
            // systemd.syntax(7): a comment within a value does not end it.
            hidden = goes_on || line.trim_start().starts_with(['#', ';']);
        } else {
            let _infallible = writeln!(out, "{line}");
        }
    }
    out
}

/// By gzip(1), which every system has.
async fn compress(bytes: &[u8], out: File) -> anyhow::Result<()> {
    use tokio::io::AsyncWriteExt;
    let mut command = tokio::process::Command::new("gzip");
    command.args(["--stdout", "--no-name"]).stdin(Stdio::piped()).stdout(out).kill_on_drop(true);
    let mut gzip = command.spawn().context("gzip cannot be started")?;
    let mut stdin = gzip.stdin.take().context("gzip takes nothing")?;
    stdin.write_all(bytes).await?;
    stdin.shutdown().await?;
    drop(stdin);
    if gzip.wait().await?.success() { Ok(()) } else { bail!("gzip failed") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Finding, Severity};

    #[test]
    fn of_very_many_warnings_the_first_are_told_and_the_others_counted() {
        let (config, _) = Config::parse("[uplink]\nkind = \"none\"\n", "t.toml", Path::new("/")).unwrap();
        let warning = |n| {
            let (what, key) = ("it is so".to_owned(), format!("endpoints.e{n}.token"));
            let (severity, code, line, column, hint) = (Severity::Warning, None, n, 1, None);
            Finding { severity, code, file: "t.toml".into(), line, column, key, what, hint }
        };
        let text = check(&Ok((config, (1..=10_000).map(warning).collect())));
        assert!(text.lines().count() < 50 && text.ends_with("and 9,980 more like these\ntaken\n"), "{text}");
    }

    #[test]
    fn a_unit_is_shown_without_what_may_be_secret() {
        let unit = "[Service]\nUser=tidegate\nEnvironment=A=SECRET-1 B=2\nSetCredential=mqtt: SECRET-2 \\\n  SECRET-3 \\\n  \
                    SECRET-4\nSetCredentialEncrypted = x: SECRET-5\n# SetCredential is above\nUMask=0077\n";
        let shown = of_unit(unit);
        assert_eq!(
            shown,
            "[Service]\nUser=tidegate\nEnvironment=***\nSetCredential=***\nSetCredentialEncrypted=***\n\
             # SetCredential is above\nUMask=0077\n"
        );
    }
}
