//! `scan`: which units answer, at which settings. What comes next and how long it takes is sans-IO.
//!
//! A unit is there if anything comes under its own address, an exception included.

use super::{
    End, identify,
    place::{Bench, setting_text},
    question::{Scan, Setting},
    sweep::wrong,
    way::{Way, end},
};
use crate::{
    config,
    line::Line,
    link::Trouble,
    outside::Unheard,
    pdu::{Answer, Request},
    point::Table,
};
use adapter_api::{Instant, clock::now, inquiry::Telling};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What is asked of every unit: most have a first holding register, and who has none says so.
const PROBE: Request = Request { table: Table::Holding, start: 0, count: 1 };
/// Frames of the probe and of its answer, in characters.
const CHARACTERS: (usize, usize) = (8, 7);
/// Between two words about how far it is.
const PACE: Duration = Duration::from_secs(1);

/// What is still to be tried.
#[derive(Debug)]
pub(super) struct Course {
    /// By setting, how long a silent unit takes.
    silences: Vec<Duration>,
    units: (u8, u8),
    /// Stop at the first that is there.
    first: bool,
    next: usize,
    found: usize,
    /// What the probes so far took, and what they would have taken had all been silent.
    took: Duration,
    allowed: Duration,
}

/// One unit at one setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) setting: usize,
    pub(super) unit: u8,
}

impl Course {
    pub(super) fn new(silences: Vec<Duration>, units: (u8, u8), first: bool) -> Self {
        let none = Duration::ZERO;
        Self { silences, units, first, next: 0, found: 0, took: none, allowed: none }
    }

    fn units(&self) -> usize {
        usize::from(self.units.1.saturating_sub(self.units.0)) + 1
    }

    pub(super) fn probes(&self) -> usize {
        self.units() * self.silences.len()
    }

    pub(super) fn done(&self) -> usize {
        self.next
    }

    pub(super) fn found(&self) -> usize {
        self.found
    }

    /// The next probe: all units at one setting before the next setting.
    pub(super) fn poll_probe(&self) -> Option<Probe> {
        if self.next >= self.probes() || (self.first && self.found > 0) {
            return None;
        }
        let unit = u8::try_from(self.next % self.units()).ok()?.checked_add(self.units.0)?;
        Some(Probe { setting: self.next / self.units(), unit })
    }

    /// The probe is over.
    pub(super) fn handle_end(&mut self, found: bool, took: Duration) {
        let allowed = self.silences.get(self.next / self.units()).copied().unwrap_or_default();
        self.next += 1;
        self.found += usize::from(found);
        self.took += took;
        self.allowed += allowed;
    }

    /// What is left if all of it is silent and nobody else uses the line.
    pub(super) fn at_most(&self) -> Duration {
        let all = self.silences.iter().map(|silence| *silence * u32::try_from(self.units()).unwrap_or(256));
        all.sum::<Duration>().saturating_sub(self.allowed)
    }

    /// What is left if it goes on as it went so far.
    pub(super) fn left(&self) -> Duration {
        if self.allowed.is_zero() {
            return self.at_most();
        }
        self.at_most().mul_f64(self.took.as_secs_f64() / self.allowed.as_secs_f64())
    }
}

/// Answers with a plan, progress, and a line for each unit found.
pub(super) async fn run(bench: &Bench, scan: Scan, to: &Telling) -> Result<(), End> {
    let (first, last) = scan.units;
    if !(1..=247).contains(&first) || !(first..=247).contains(&last) {
        return Err(wrong("units", "units are 1 to 247", Some("write for example 1..247".to_owned())));
    }
    let mut way = bench.bare(&scan.at)?.way;
    let lines = lines(bench, &way, &scan.settings)?;
    let silences = lines.iter().map(|line| line.deadline(CHARACTERS.0, CHARACTERS.1) + line.silence());
    let mut course = Course::new(silences.collect(), scan.units, scan.first);
    let settings: Vec<String> = lines.iter().map(setting_text).collect();
    to.tell(json!({ "plan": {
        "wire": way.wire().to_string(),
        "settings": settings,
        "units": [first, last],
        "probes": course.probes(),
        "at_most_s": seconds(course.at_most()),
        "shared": !way.is_own(),
    } }))
    .await?;
    let (mut told, begun): (Instant, Instant) = (now(), now());
    while let Some(probe) = course.poll_probe() {
        if let Some(line) = lines.get(probe.setting) {
            way.retune(line.clone());
        }
        let setting = settings.get(probe.setting).map_or("", String::as_str);
        let began = now();
        let answer = way.ask(probe.unit, PROBE.into()).await;
        let took = now().since(began);
        let found = judge(answer, probe.unit, &way)?;
        course.handle_end(matches!(found, Found::Unit(_)), took);
        match found {
            Found::Nothing => {}
            Found::Noise => {
                let noise = json!({ "setting": setting, "unit": probe.unit });
                to.tell(json!({ "noise": noise })).await?;
            }
            Found::Unit(words) => {
                let mut line = Map::new();
                line.insert("setting".to_owned(), json!(setting));
                line.insert("unit".to_owned(), json!(probe.unit));
                line.insert("answer".to_owned(), json!(words));
                line.insert("is".to_owned(), json!(identify::in_short(&mut way, probe.unit).await));
                to.tell(json!({ "found": line })).await?;
            }
        }
        if now().since(told) >= PACE {
            told = now();
            to.tell(json!({ "progress": {
                "done": course.done(),
                "of": course.probes(),
                "found": course.found(),
                "left_s": seconds(course.left()),
            } }))
            .await?;
        }
    }
    let took = seconds(now().since(begun));
    let done =
        json!({ "found": course.found(), "probes": course.done(), "of": course.probes(), "took_s": took });
    Ok(to.tell(json!({ "done": done })).await?)
}

/// The settings to try, at their own wire's only where it belongs to somebody else.
fn lines(bench: &Bench, way: &Way, settings: &[Setting]) -> Result<Vec<Line>, End> {
    if settings.is_empty() {
        return Ok(vec![way.line().clone()]);
    }
    if !way.is_own() {
        let why = "a bus that is being polled keeps its speed and parity";
        let hint = "leave them out, or stop the gateway (systemctl stop tidegate)".to_owned();
        return Err(wrong("settings", why, Some(hint)));
    }
    let line = |setting: &Setting| {
        let mut config = bench.config.clone();
        config.baud = Some(setting.baud);
        config.parity = Some(setting.parity.clone());
        config.stop_bits = setting.stop_bits;
        let mut line = config::line(&config)?;
        (line.timeout, line.quarantine) = (way.line().timeout, way.line().quarantine);
        Ok::<Line, End>(line)
    };
    settings.iter().map(line).collect()
}

/// What a probe brought.
enum Found {
    Nothing,
    /// Bytes that are no answer.
    Noise,
    /// A unit, and what it said.
    Unit(String),
}

fn judge(answer: Result<Answer, Unheard>, unit: u8, way: &Way) -> Result<Found, End> {
    Ok(match answer {
        Ok(Answer::Words(words)) => {
            Found::Unit(format!("holding:0 is {}", words.first().copied().unwrap_or_default()))
        }
        Ok(Answer::Refused(exception)) => Found::Unit(exception.to_string()),
        // Not what was asked for, but under its address.
        Ok(Answer::Bits(_) | Answer::Identity(_)) => Found::Unit("something else".to_owned()),
        Err(Unheard::Device(Trouble::Noise(_) | Trouble::Mismatch)) => Found::Noise,
        // Some gateways close the connection for a unit they do not have.
        Err(Unheard::Device(Trouble::Silent(_) | Trouble::Unreachable(_) | Trouble::Lost)) => Found::Nothing,
        // A unit that is being left alone by the bus was silent a moment ago.
        Err(Unheard::NoTurn) => Found::Nothing,
        Err(unheard) => return Err(end(unheard, way.place(unit))),
    })
}

fn seconds(time: Duration) -> Value {
    json!((time.as_secs_f64() * 10.0).ceil() / 10.0)
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
