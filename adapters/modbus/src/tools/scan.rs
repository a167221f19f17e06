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
use adapter_api::{Fault, Instant, clock::now, field, inquiry::Telling};
use serde_json::{Map, Value, json};
use std::{collections::VecDeque, time::Duration};

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
    /// Probes that got no turn, for once more at the end.
    again: VecDeque<Probe>,
    /// Probes that were not put at all: no turn, or no such setting.
    unasked: usize,
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
        let again = VecDeque::new();
        Self { silences, units, first, next: 0, again, unasked: 0, found: 0, took: none, allowed: none }
    }

    fn units(&self) -> usize {
        usize::from(self.units.1.saturating_sub(self.units.0)) + 1
    }

    pub(super) fn probes(&self) -> usize {
        self.units() * self.silences.len()
    }

    /// Probes that were put.
    pub(super) fn done(&self) -> usize {
        self.next - self.again.len() - self.unasked
    }

    pub(super) fn found(&self) -> usize {
        self.found
    }

    pub(super) fn unasked(&self) -> usize {
        self.unasked
    }

    /// The next probe: all units at one setting before the next setting.
    pub(super) fn poll_probe(&self) -> Option<Probe> {
        if self.first && self.found > 0 {
            return None;
        }
        if self.next >= self.probes() {
            return self.again.front().copied();
        }
        let unit = u8::try_from(self.next % self.units()).ok()?.checked_add(self.units.0)?;
        Some(Probe { setting: self.next / self.units(), unit })
    }

    /// The probe is over.
    pub(super) fn handle_end(&mut self, found: bool, took: Duration) {
        let Some(probe) = self.poll_probe() else { return };
        self.allowed += self.silences.get(probe.setting).copied().unwrap_or_default();
        self.step();
        self.found += usize::from(found);
        self.took += took;
    }

    /// The probe got no turn. True if it will get no other.
    pub(super) fn handle_no_turn(&mut self) -> bool {
        let (probe, last) = (self.poll_probe(), self.next >= self.probes());
        self.step();
        if last {
            self.unasked += 1;
        } else {
            self.again.extend(probe);
        }
        last
    }

    /// Nobody can be asked at the setting of the probe, or of those behind it at the same one.
    pub(super) fn handle_no_setting(&mut self) {
        let Some(probe) = self.poll_probe() else { return };
        let silence = self.silences.get(probe.setting).copied().unwrap_or_default();
        while self.poll_probe().is_some_and(|next| next.setting == probe.setting) {
            self.allowed += silence;
            self.unasked += 1;
            self.step();
        }
    }

    fn step(&mut self) {
        if self.next < self.probes() {
            self.next += 1;
        } else {
            self.again.pop_front();
        }
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
    let mut way = bench.place(&scan.at)?.way;
    let lines = lines(bench, &way, &scan.settings)?;
    let ended = probe(&mut way, &lines, &scan, to).await;
    way.settle(ended, to).await
}

async fn probe(way: &mut Way, lines: &[Line], scan: &Scan, to: &Telling) -> Result<(), End> {
    let silences = lines.iter().map(|line| line.deadline(CHARACTERS.0, CHARACTERS.1) + line.silence());
    let mut course = Course::new(silences.collect(), scan.units, scan.first);
    let settings: Vec<String> = lines.iter().map(setting_text).collect();
    // Behind each setting, late answers are waited for.
    let quiet =
        lines.iter().filter(|line| way.is_own() && line.needs_quarantine()).map(|line| line.quarantine);
    let quiet: Duration = quiet.sum();
    to.tell(json!({ "plan": {
        "wire": way.wire().to_string(),
        "settings": settings,
        "units": [scan.units.0, scan.units.1],
        "probes": course.probes(),
        "at_most_s": seconds(course.at_most() + quiet),
        "shared": !way.is_own(),
    } }))
    .await?;
    let (mut told, begun): (Instant, Instant) = (now(), now());
    // Connections that ended, and the last setting that the port does not have.
    let (mut lost, mut refused) = (0, None);
    while let Some(probe) = course.poll_probe() {
        if let Some(line) = lines.get(probe.setting) {
            way.retune(line.clone()).await;
        }
        let setting = settings.get(probe.setting).map_or("", String::as_str);
        let began = now();
        let answer = way.ask(probe.unit, PROBE.into()).await;
        let took = now().since(began);
        match judge(answer, probe.unit, way)? {
            Found::Nothing => course.handle_end(false, took),
            Found::Lost => {
                lost += 1;
                course.handle_end(false, took);
            }
            Found::NoTurn => {
                if course.handle_no_turn() {
                    to.tell(json!({ "unasked": { "setting": setting, "unit": probe.unit } })).await?;
                }
            }
            Found::NoSetting(fault) => {
                course.handle_no_setting();
                to.tell(json!({ "skipped": { "setting": setting, "why": fault.what } })).await?;
                refused = Some(fault);
            }
            Found::Noise => {
                course.handle_end(false, took);
                let noise = json!({ "setting": setting, "unit": probe.unit });
                to.tell(json!({ "noise": noise })).await?;
            }
            Found::Unit(words) => {
                course.handle_end(true, took);
                let mut line = Map::new();
                line.insert("setting".to_owned(), json!(setting));
                line.insert("unit".to_owned(), json!(probe.unit));
                line.insert("answer".to_owned(), json!(words));
                line.insert("is".to_owned(), json!(identify::in_short(way, probe.unit).await));
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
    if course.done() == lost {
        // Nobody was heard at all.
        if lost > 0 {
            return Err(Trouble::Lost.fault(way.wire().to_string()).into());
        }
        if let Some(fault) = refused {
            return Err(fault.into());
        }
    }
    Ok(to
        .tell(json!({ "done": {
            "found": course.found(),
            "probes": course.done(),
            "of": course.probes(),
            "unasked": course.unasked(),
            "took_s": seconds(now().since(begun)),
        } }))
        .await?)
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
        let Line { timeout, quarantine, gap, .. } = *way.line();
        Ok::<Line, End>(Line { timeout, quarantine, gap, ..config::line(&config)? })
    };
    settings.iter().map(line).collect()
}

/// What a probe brought.
enum Found {
    Nothing,
    /// The end of the connection.
    Lost,
    /// It was not put.
    NoTurn,
    /// The port has no such speed or parity.
    NoSetting(Fault),
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
        Err(Unheard::Device(Trouble::Silent(_) | Trouble::Unreachable(_))) => Found::Nothing,
        // Some gateways close the connection for a unit they do not have.
        Err(Unheard::Device(Trouble::Lost | Trouble::Closed)) => Found::Lost,
        // The bus was busy, or leaves the unit alone.
        Err(Unheard::NoTurn) => Found::NoTurn,
        Err(Unheard::Wire(fault)) if way.is_own() && fault.code == field::PORT_FAILED.code => {
            Found::NoSetting(fault)
        }
        Err(unheard) => return Err(end(unheard, way.place(unit))),
    })
}

fn seconds(time: Duration) -> Value {
    json!((time.as_secs_f64() * 10.0).ceil() / 10.0)
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
