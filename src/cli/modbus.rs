//! `tidegate modbus`: the tools for a wire, over the running gateway or without one.
//!
//! `road` finds out how one gets there, `text` makes tables of the answers. Not here: what the tools
//! do (`adapter_modbus::tools`).

mod find;
mod look;
mod road;
mod text;
mod trace;

use super::{CONFIG, PATIENCE};
use adapter_api::{Span, inquiry::Lines};
use adapter_modbus::tools::{Form, Identify, Question, Read, Scan, Setting};
use anyhow::bail;
use clap::{Args, Subcommand};
pub(super) use look::{Wire, look};
use road::{Road, Settings};
use serde_json::Value;
use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};
use text::Table;

/// What is typed behind `tidegate modbus`.
#[derive(Debug, Subcommand)]
pub(super) enum Tool {
    /// Read registers once, with what lies on the wire beside the value
    Read {
        /// holding:0, input:10..20 (both ends), 40001 with --base, or names of the endpoint's resources
        registers: Vec<String>,
        /// u16, i32, f32, bcd32, string, ... as in the configuration
        #[arg(short = 't', long = "type")]
        kind: Option<String>,
        /// ABCD, CDAB, BADC or DCBA
        #[arg(short, long)]
        order: Option<String>,
        /// Registers of a string or of raw bytes
        #[arg(long)]
        length: Option<i64>,
        /// Factor
        #[arg(long, allow_hyphen_values = true)]
        scale: Option<f64>,
        /// The number of the first register in the manual: 0 or 1
        #[arg(long)]
        base: Option<i64>,
        #[command(flatten)]
        place: Place,
    },
    /// See which units answer, at which speeds and parities
    Scan {
        /// First and last unit
        #[arg(long, default_value = "1..247")]
        units: String,
        /// Stop at the first that answers
        #[arg(long)]
        first: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Ask a device what it is
    Identify {
        #[command(flatten)]
        place: Place,
    },
    /// Look for the registers that hold what a display shows
    Find(find::Options),
    /// Write the traffic of the running gateway to a file for Wireshark
    Trace(trace::Options),
}

/// Where the device is.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    /// A configured endpoint, with its wire and unit
    #[arg(short, long, conflicts_with_all = ["tcp", "port"])]
    endpoint: Option<String>,
    /// A host, or HOST:PORT
    #[arg(long, value_name = "HOST", conflicts_with = "port")]
    tcp: Option<String>,
    /// A serial port, as /dev/ttyUSB0
    #[arg(short, long, value_name = "PATH")]
    port: Option<String>,
    /// Bits per second; several for `scan`, separated by commas
    #[arg(short, long, value_delimiter = ',')]
    baud: Vec<i64>,
    /// even, odd or none [default: even]; several for `scan`
    #[arg(long, value_delimiter = ',')]
    parity: Vec<String>,
    /// 1 or 2 [default: 1, without parity 2]
    #[arg(long)]
    stop_bits: Option<i64>,
    /// tcp, rtu or ascii [default: tcp for hosts, rtu for ports]
    #[arg(long)]
    framing: Option<String>,
    /// The device's number on the line [default: 1]
    #[arg(short, long)]
    unit: Option<u8>,
    /// How long it may take to begin an answer [default: 1s, for `scan` without a gateway 300ms]
    #[arg(long)]
    timeout: Option<Span>,
    /// Configuration file
    #[arg(short, long, default_value = CONFIG)]
    config: PathBuf,
    /// Control socket of the running gateway [default: the one of the configuration]
    #[arg(long)]
    socket: Option<PathBuf>,
    /// JSON for scripts, a line for each part of the answer
    #[arg(long)]
    json: bool,
}

/// Speeds that `scan` tries where none is given: those most devices come with.
const BAUDS: [i64; 4] = [9_600, 19_200, 38_400, 115_200];
const PARITIES: [&str; 2] = ["even", "none"];

/// Does what was typed.
pub(super) async fn run(tool: Tool) -> anyhow::Result<ExitCode> {
    told(answer(tool).await)
}

/// A fault is told on its own lines.
pub(super) fn told(ended: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    match ended.as_ref().err().and_then(|error| error.downcast_ref::<text::Told>()) {
        Some(told) => {
            writeln!(io::stderr(), "{told}")?;
            Ok(ExitCode::FAILURE)
        }
        None => ended,
    }
}

async fn answer(tool: Tool) -> anyhow::Result<ExitCode> {
    match tool {
        Tool::Read { registers, kind, order, length, scale, base, place } => {
            let road = Road::find(&place, Settings::One).await?;
            let form = Form { kind, order, length, scale, base };
            let read = Question::Read(Read { at: road.at(), registers, form });
            let mut answer = road.ask(read, place.json);
            let mut table = Table::new(&["register", "raw", "value"]);
            let mut read = 0;
            while let Some(line) = answer.next().await? {
                if let Some(lacking) = line.get("lacking").and_then(Value::as_str).filter(|_| !place.json) {
                    writeln!(io::stderr(), "{}", adapter_api::shown(lacking))?;
                } else if let Some(value) = line.get("value") {
                    read += usize::from(value.get("exception").is_none());
                    table.row(text::read_row(value));
                }
            }
            answer.print(&table.text())?;
            Ok(if read > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Tool::Scan { units, first, place } => scan(&units, first, place).await,
        Tool::Identify { place } => {
            let road = Road::find(&place, Settings::One).await?;
            let mut answer = road.ask(Question::Identify(Identify { at: road.at() }), place.json);
            let mut said = String::new();
            while let Some(line) = answer.next().await? {
                text::identify_lines(&mut said, &line);
            }
            answer.print(&said)?;
            Ok(ExitCode::SUCCESS)
        }
        Tool::Find(options) => find::run(options).await,
        Tool::Trace(options) => trace::run(options).await,
    }
}

async fn scan(units: &str, first: bool, mut place: Place) -> anyhow::Result<ExitCode> {
    let ends = units.split_once("..").unwrap_or((units, units));
    let (Ok(from), Ok(to)) = (ends.0.parse(), ends.1.parse()) else {
        bail!("--units {units}: write the first and the last unit, as in 1..247");
    };
    // Without a place to look settings up, it has some to begin with.
    let typed = !place.baud.is_empty() || !place.parity.is_empty();
    if place.port.is_some() && place.baud.is_empty() {
        place.baud = BAUDS.to_vec();
        if place.parity.is_empty() {
            place.parity = PARITIES.map(str::to_owned).to_vec();
        }
    }
    let road = Road::find(&place, Settings::Several).await?;
    let parities = if place.parity.is_empty() { vec!["even".to_owned()] } else { place.parity.clone() };
    let mut settings = Vec::new();
    for &baud in &place.baud {
        for parity in &parities {
            settings.push(Setting { baud, parity: parity.clone(), stop_bits: place.stop_bits });
        }
    }
    let mut at = road.at();
    if road.is_live() {
        // Those that nobody typed are not meant.
        settings.retain(|_| typed);
    } else {
        at.timeout = at.timeout.or(Some(Span::from_millis(300)));
    }
    let scan = Scan { at, units: (from, to), settings, first };
    let mut answer = road.ask(Question::Scan(scan), place.json);
    let mut table = Table::new(&["unit", "settings", "answer", "is"]);
    let mut progress = Progress::new(place.json);
    let (mut found, mut last) = (0, String::new());
    let mut failed = None;
    loop {
        let line = match answer.next().await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            // What was found before it is told all the same.
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        if let Some(plan) = line.get("plan") {
            progress.say(&text::plan(plan))?;
        } else if let Some(at) = line.get("progress") {
            progress.at(&text::progress(at))?;
        } else if let Some(unit) = line.get("found") {
            found += 1;
            table.row(text::found_row(unit));
            progress.say(&text::found(unit))?;
        } else if let Some(noise) = line.get("noise") {
            progress.say(&text::noise(noise))?;
        } else if let Some(unasked) = line.get("unasked") {
            progress.say(&text::unasked(unasked))?;
        } else if let Some(skipped) = line.get("skipped") {
            progress.say(&text::skipped(skipped))?;
        } else if let Some(done) = line.get("done") {
            last = format!("{}\n", text::scanned(done));
        }
    }
    progress.end()?;
    let table = if found > 0 { table.text() } else { String::new() };
    answer.print(&format!("{table}{last}"))?;
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(if found > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What people see while they wait: on the error stream, and only where they can see it.
struct Progress {
    shown: bool,
    terminal: bool,
    open: bool,
}

impl Progress {
    fn new(json: bool) -> Self {
        Self { shown: !json, terminal: io::stderr().is_terminal(), open: false }
    }

    /// Something that stays.
    fn say(&mut self, line: &str) -> io::Result<()> {
        self.end()?;
        if self.shown { writeln!(io::stderr(), "{line}") } else { Ok(()) }
    }

    /// Something that is overwritten.
    fn at(&mut self, line: &str) -> io::Result<()> {
        if !self.shown || !self.terminal {
            return Ok(());
        }
        self.open = true;
        write!(io::stderr(), "\r\x1b[K{line}")?;
        io::stderr().flush()
    }

    fn end(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.open) { write!(io::stderr(), "\r\x1b[K") } else { Ok(()) }
    }
}

/// An answer on its way.
struct Answer {
    lines: Lines,
    /// Whoever brings it; ends with it.
    bringer: tokio::task::JoinSet<anyhow::Result<()>>,
    json: bool,
}

impl Answer {
    /// The next line; a fault ends it. For scripts, lines are printed as they come.
    async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        let Some(line) = self.lines.recv().await else {
            while let Some(brought) = self.bringer.join_next().await {
                brought??;
            }
            return Ok(None);
        };
        if self.json {
            writeln!(io::stdout(), "{}", crate::control::client::json_text(&line))?;
        }
        text::good(&line)?;
        if let Some(settling) = line.get("settling")
            && !self.json
            && io::stderr().is_terminal()
        {
            writeln!(io::stderr(), "{}", text::settling(settling))?;
        }
        Ok(Some(line))
    }

    /// For people.
    fn print(&self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { write!(io::stdout(), "{text}") }
    }
}
