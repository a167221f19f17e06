//! `tidegate modbus find`: which register holds what the display shows.

use super::{
    Place, Progress,
    road::{Road, Settings},
    text::Table,
};
use adapter_api::{
    Span,
    clock::{self, now},
};
use adapter_modbus::tools::{At, Candidate, Image, NotShown, Question, Shown, Sweep, candidates};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

/// What can be typed.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// What the display shows, with all its digits: 231.4
    #[arg(allow_hyphen_values = true)]
    shown: String,
    /// What it shows later: read again until something fits, to narrow down
    #[arg(long, allow_hyphen_values = true)]
    then: Vec<String>,
    /// Where to look
    #[arg(long, default_values = ["input:0..199", "holding:0..199"])]
    range: Vec<String>,
    /// The number of the first register in the manual: 0 or 1
    #[arg(long)]
    base: Option<i64>,
    /// How many candidates to show
    #[arg(long, default_value_t = 12)]
    top: usize,
    /// How long to wait for each value of --then
    #[arg(long, default_value = "30s")]
    within: Span,
    #[command(flatten)]
    place: Place,
}

/// Between two looks for a value that is to come.
const AGAIN: Duration = Duration::from_millis(500);
/// More candidates than this are not read again one by one.
const FEW: usize = 40;

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let shown = read(&options.shown)?;
    let mut later =
        options.then.iter().map(|text| read(text)).collect::<anyhow::Result<Vec<_>>>()?.into_iter();
    let road = Road::find(&options.place, Settings::One).await?;
    let look = Look { road: &road, at: road.at(), json: options.place.json };
    let image = look.image(options.range.clone(), options.base, true).await?;
    if image.is_empty() {
        bail!("the device has none of these registers; say where to look with --range");
    }
    let mut found = candidates(&image, shown);
    let mut last = options.shown.clone();
    let mut texts = options.then.iter();
    loop {
        let next = match (later.next(), texts.next()) {
            (Some(value), Some(text)) => Some((value, text.clone())),
            _ => look.prompt(&found, &options, &last)?,
        };
        let Some((value, text)) = next else { break };
        writeln!(
            io::stderr(),
            "{} ways to read {last}; waiting until one of them reads {text}",
            found.len()
        )?;
        found = look.narrow(&found, &options, value).await?;
        last = text;
    }
    show(&found, &options, &last, image.len())?;
    Ok(if found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(text: &str) -> anyhow::Result<Shown> {
    text.parse().map_err(|error: NotShown| anyhow::anyhow!("{text}: {error}"))
}

/// Whoever looks.
struct Look<'a> {
    road: &'a Road,
    at: At,
    json: bool,
}

impl Look<'_> {
    async fn image(&self, ranges: Vec<String>, base: Option<i64>, first: bool) -> anyhow::Result<Image> {
        let question = Question::Sweep(Sweep { at: self.at.clone(), ranges, base });
        let mut answer = self.road.ask(question, false);
        let mut progress = Progress::new(self.json || !first);
        let mut image = Image::default();
        while let Some(line) = answer.next().await? {
            if let Some(row) = line.get("row") {
                image.take(row);
            } else if let Some(at) = line.get("progress") {
                let number = |key| at.get(key).and_then(Value::as_u64).unwrap_or_default();
                progress.at(&format!("{} of {} registers", number("done"), number("of")))?;
            }
        }
        progress.end()?;
        Ok(image)
    }

    /// Those that still fit once something does, read again and again.
    async fn narrow(
        &self,
        found: &[Candidate],
        options: &Options,
        shown: Shown,
    ) -> anyhow::Result<Vec<Candidate>> {
        let ranges: BTreeSet<String> = found.iter().map(Candidate::range).collect();
        // Ranges of candidates are addresses; those that were typed follow the base.
        let (ranges, base) = if ranges.len() <= FEW {
            (ranges.into_iter().collect(), Some(0))
        } else {
            (options.range.clone(), options.base)
        };
        let end = now() + options.within.duration();
        loop {
            let image = self.image(ranges.clone(), base, false).await?;
            let still: Vec<Candidate> = found.iter().filter_map(|one| one.still(&image, shown)).collect();
            if !still.is_empty() || found.is_empty() || now() >= end {
                return Ok(still);
            }
            clock::sleep(AGAIN).await;
        }
    }

    /// Asks the person, where there is one and several ways are left.
    fn prompt(
        &self,
        found: &[Candidate],
        options: &Options,
        last: &str,
    ) -> anyhow::Result<Option<(Shown, String)>> {
        let person = io::stdin().is_terminal() && io::stdout().is_terminal() && !self.json;
        if !person || found.len() < 2 {
            return Ok(None);
        }
        show(found, options, last, 0)?;
        write!(io::stdout(), "what does the display show now? (nothing to end) ")?;
        io::stdout().flush()?;
        let mut line = String::new();
        io::stdin().read_line(&mut line).context("nothing can be read")?;
        if line.trim().is_empty() { Ok(None) } else { Ok(Some((read(&line)?, line.trim().to_owned()))) }
    }
}

fn show(found: &[Candidate], options: &Options, last: &str, registers: usize) -> anyhow::Result<()> {
    if options.place.json {
        for one in found {
            let line = json!({ "candidate": {
                "keys": one.keys(), "value": one.value, "exact": one.exact, "oddity": one.oddity,
            } });
            writeln!(io::stdout(), "{line}")?;
        }
        writeln!(
            io::stdout(),
            "{}",
            json!({ "done": { "candidates": found.len(), "registers": registers } })
        )?;
        return Ok(());
    }
    if found.is_empty() {
        let hint = "try other registers with --range, fewer digits, or the unit the device counts in";
        writeln!(io::stdout(), "nothing there reads {last}; {hint}")?;
        return Ok(());
    }
    let mut table = Table::new(&["resource", "value", ""]);
    for one in found.iter().take(options.top) {
        let cut = if one.exact { "" } else { "if the display cuts digits off" };
        table.row(vec![one.to_string(), one.value.to_string(), cut.to_owned()]);
    }
    write!(io::stdout(), "{}", table.text())?;
    let more = found.len().saturating_sub(options.top);
    if more > 0 {
        writeln!(
            io::stdout(),
            "and {more} less usual ways; narrow down with --then and the next value shown"
        )?;
    }
    Ok(())
}
