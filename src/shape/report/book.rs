//! What an endpoint has reported last, and what of its next sample is reported. Sans-IO.
//!
//! A book is cheap to copy, for a copy shares what it does not change: a transaction works on one, which takes
//! the place of the book only after COMMIT (`desk`).

use super::{
    Report, Rule,
    compare::{Reason, bad, number, rank, uncertain},
    outcome::Outcome,
    window::{self, Frame, GRACE, Window},
};
use adapter_api::{Instant, Quality, Reading, Resource, Sample, Stamp, Value};
use std::{sync::Arc, time::Duration};

/// Of more resources of an endpoint nothing is known, and all is reported.
pub(super) const RESOURCES: usize = 4_096;

/// What is known of an endpoint. Empty after a start: then the first value of each resource is reported.
#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    /// Those with a rule, by resource.
    entries: Vec<Arc<(Resource, Entry)>>,
    /// There are more of them than [`RESOURCES`].
    pub(super) crowded: bool,
    /// The last values of what expressions need; in their order.
    inputs: Vec<Option<Input>>,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    last: Option<Arc<Noted>>,
    /// Withheld for the minimum interval.
    held: Option<Arc<Held>>,
    window: Option<Window>,
    /// That of the window opened last.
    frame: Option<Frame>,
    /// The latest one there was.
    furthest: Option<Frame>,
    /// That of the last bad reading outside of the open window.
    missed: Option<Frame>,
    /// Since when all numbers were too late for their windows, by arrival.
    late: Option<Instant>,
}

/// What was reported.
#[derive(Debug)]
struct Noted {
    reading: Reading,
    /// Its stamp; of what the timer reported, what that would have been then.
    at: Stamp,
    /// When it was reported.
    seen: Instant,
}

#[derive(Debug)]
struct Held {
    reading: Reading,
    at: Stamp,
    /// When it came in.
    came: Instant,
    /// When it may be reported.
    due: Instant,
}

#[derive(Debug, Clone)]
struct Input {
    /// NaN if it is none.
    number: f64,
    quality: Quality,
}

impl Book {
    /// Takes a sample that came in now.
    pub(super) fn judge(&mut self, report: &Report, sample: &Sample, now: Instant, outcome: &mut Outcome) {
        let at = sample.at;
        let derived = self.derive(report, &sample.readings);
        outcome.show(at, &derived);
        let (mut kept, mut why, mut made) = (Vec::new(), None, Vec::new());
        for reading in sample.readings.iter().cloned().chain(derived) {
            let rule = report.rule(&reading.resource);
            if rule.is_idle() {
                kept.push(reading);
                continue;
            }
            let entry = self.entry(&reading.resource);
            match entry.map(|entry| entry.judge(&rule, &reading, at, now, &mut made)) {
                None | Some(Ok(())) => kept.push(reading),
                Some(Err(reason)) => why = why.max(Some(reason)),
            }
        }
        made.iter().for_each(|(at, readings)| outcome.show(*at, readings));
        outcome.make(made);
        if kept.is_empty() {
            outcome.suppress(why.unwrap_or(Reason::Unchanged));
        } else {
            outcome.keep(at, kept);
        }
    }

    /// Reports what is due: values whose interval is over, windows that ended. With `all`, those too for
    /// which it is too early: the gateway stops.
    pub(super) fn release(&mut self, now: Instant, all: bool, outcome: &mut Outcome) {
        let mut made = Vec::new();
        for entry in &mut self.entries {
            if !entry.1.due().is_some_and(|due| all || due <= now) {
                continue;
            }
            let (resource, entry) = Arc::make_mut(entry);
            if let Some(held) = entry.held.take_if(|held| all || held.due <= now) {
                made.push((held.at, vec![held.reading.clone()]));
                let at = window::later(held.at, now.since(held.came));
                entry.last = Some(Arc::new(Noted { reading: held.reading.clone(), at, seen: now }));
            }
            if let Some(window) = entry.window.take_if(|window| all || window.due <= now) {
                let (at, readings) = window.close(resource, window.due > now);
                outcome.show(at, &readings);
                made.push((at, readings));
            }
        }
        made.sort_by_key(|(at, _)| window::place(*at).1);
        outcome.make(made);
    }

    /// When [`Book::release`] has something to report.
    pub(super) fn due(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|entry| entry.1.due()).min()
    }

    /// `None` if there are too many.
    fn entry(&mut self, resource: &Resource) -> Option<&mut Entry> {
        let at = match self.entries.binary_search_by(|entry| entry.0.cmp(resource)) {
            Ok(at) => at,
            Err(_) if self.entries.len() >= RESOURCES => {
                self.crowded = true;
                return None;
            }
            Err(at) => {
                self.entries.insert(at, Arc::new((resource.clone(), Entry::default())));
                at
            }
        };
        self.entries.get_mut(at).map(|entry| &mut Arc::make_mut(entry).1)
    }

    /// The expressions that these readings change, from them and from the last values of the others.
    fn derive(&mut self, report: &Report, readings: &[Reading]) -> Vec<Reading> {
        if report.expressions.is_empty() {
            return Vec::new();
        }
        self.inputs.resize(report.inputs.len(), None);
        let mut fresh = vec![false; report.inputs.len()];
        for reading in readings {
            let Ok(n) = report.inputs.binary_search(&reading.resource) else { continue };
            if let (Some(input), Some(fresh)) = (self.inputs.get_mut(n), fresh.get_mut(n)) {
                *input = Some(Input::of(reading));
                *fresh = true;
            }
        }
        let is_fresh = |n: &usize| fresh.get(*n) == Some(&true);
        let concerned = report.expressions.iter().filter(|e| e.inputs.iter().any(is_fresh));
        let derived = concerned.filter_map(|expression| {
            // One that was never seen: no result.
            let inputs: Option<Vec<&Input>> =
                expression.inputs.iter().map(|n| self.inputs.get(*n)?.as_ref()).collect();
            let inputs = inputs?;
            let resource = expression.resource.clone();
            let worst = |wanted: fn(&Quality) -> Option<&str>| {
                let named = inputs.iter().zip(expression.expr.inputs());
                named
                    .filter_map(|(input, name)| Some((name.resource.as_str(), wanted(&input.quality)?)))
                    .next()
            };
            if let Some((name, why)) = worst(bad) {
                return Some(Reading::bad(resource, format!("{name}: {why}")));
            }
            let numbers: Vec<f64> = inputs.iter().map(|input| input.number).collect();
            let mut reading = Reading::measured(resource, expression.expr.value(&numbers));
            if let (Quality::Good, Some((name, why))) = (&reading.quality, worst(uncertain)) {
                reading.quality = Quality::Uncertain(format!("{name}: {why}"));
            }
            Some(reading)
        });
        derived.collect()
    }
}

impl Entry {
    fn due(&self) -> Option<Instant> {
        let held = self.held.as_ref().map(|held| held.due);
        held.into_iter().chain(self.window.as_ref().map(|window| window.due)).min()
    }

    /// Whether a reading is reported. Windows that it closes are added to `made`.
    fn judge(
        &mut self,
        rule: &Rule,
        reading: &Reading,
        at: Stamp,
        now: Instant,
        made: &mut Vec<(Stamp, Vec<Reading>)>,
    ) -> Result<(), Reason> {
        let Some(length) = rule.window else { return self.compare(rule, reading, at, now) };
        if !window::has_names(&reading.resource) {
            return Ok(());
        }
        let frame = Frame::of(at, length);
        let number = number(&reading.value).filter(|_| bad(&reading.quality).is_none());
        let Some(x) = number else {
            match self.window.as_mut().filter(|window| window.frame == frame) {
                Some(window) => window.miss(at),
                None => self.missed = Some(frame),
            }
            return self.compare(&Rule::ON_CHANGE, reading, at, now);
        };
        if self.is_late(frame, length, now) {
            return Ok(());
        }
        if let Some(window) = self.window.take_if(|window| window.frame != frame) {
            made.push(window.close(&reading.resource, !frame.follows(window.frame)));
        }
        match &mut self.window {
            Some(window) => window.add(reading, x, at),
            empty => {
                let mut window = Window::open(length, reading, x, at, self.furthest, now);
                if self.missed == Some(frame) {
                    window.miss(at);
                }
                *empty = Some(window);
            }
        }
        (self.frame, self.furthest) = (Some(frame), self.furthest.max(Some(frame)));
        // A change of quality is told as it happens. Before the first reading all was well.
        let good = Quality::Good;
        let before = self.last.as_ref().map_or(&good, |last| &last.reading.quality);
        if rank(before) == rank(&reading.quality) {
            return Err(Reason::Window);
        }
        self.note(reading, at, now);
        Ok(())
    }

    /// Whether a number comes too late for its window. Not for ever: if none came in time for as long as a
    /// window is open, the clock was set back.
    fn is_late(&mut self, frame: Frame, length: Duration, now: Instant) -> bool {
        let passed = |last: Frame| frame < last || (frame == last && self.window.is_none());
        if !self.frame.is_some_and(passed) {
            self.late = None;
            return false;
        }
        let is_late = now.since(*self.late.get_or_insert(now)) < length + GRACE;
        if !is_late {
            self.late = None;
        }
        is_late
    }

    fn compare(&mut self, rule: &Rule, reading: &Reading, at: Stamp, now: Instant) -> Result<(), Reason> {
        let Some(last) = self.last.clone() else {
            self.note(reading, at, now);
            return Ok(());
        };
        if rank(&last.reading.quality) != rank(&reading.quality) {
            self.note(reading, at, now);
            return Ok(());
        }
        let over = |length: Duration| last.is_over(length, at, now);
        let withheld = rule.withholds(&last.reading, reading);
        if let Some(reason) = withheld
            && !rule.heartbeat.is_some_and(over)
        {
            // What was held is no more what the device says.
            self.held = None;
            return Err(reason);
        }
        if let Some(interval) = rule.min_interval
            && !over(interval)
        {
            let due = last.seen + interval;
            self.held = Some(Arc::new(Held { reading: reading.clone(), at, came: now, due }));
            return Err(Reason::Interval);
        }
        self.note(reading, at, now);
        Ok(())
    }

    /// It is reported.
    fn note(&mut self, reading: &Reading, at: Stamp, now: Instant) {
        self.last = Some(Arc::new(Noted { reading: reading.clone(), at, seen: now }));
        self.held = None;
    }
}

impl Noted {
    /// Whether so much time has passed since, by the samples' own stamps or by their arrival. By the stamps
    /// alone, a clock that is set back would silence a device; by arrival alone, a backlog of hours that is
    /// handed in at once would be thinned out to one value.
    fn is_over(&self, length: Duration, at: Stamp, now: Instant) -> bool {
        let ((clock, from), (same, to)) = (window::place(self.at), window::place(at));
        let by_stamp = to.saturating_sub(from);
        let by_stamp = Duration::from_micros(u64::try_from(by_stamp).unwrap_or_default());
        now.since(self.seen) >= length || (clock == same && by_stamp >= length)
    }
}

impl Input {
    fn of(reading: &Reading) -> Self {
        let number = match &reading.value {
            Value::Bool(holds) => Some(f64::from(u8::from(*holds))),
            value => number(value),
        };
        let quality = match (&reading.quality, number) {
            (Quality::Good | Quality::Uncertain(_), None) => Quality::Bad("not a number".to_owned()),
            (quality, _) => quality.clone(),
        };
        Self { number: number.unwrap_or(f64::NAN), quality }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapter_api::Source;

    #[test]
    fn a_copy_shares_what_it_does_not_change() {
        let report = Report::new(
            Rule { window: Some(Duration::from_secs(60)), ..Rule::default() },
            Default::default(),
            [],
        );
        let sample = |us, names: std::ops::Range<usize>| {
            let reading = |n| Reading::measured(Resource::new(&format!("r{n}")).unwrap(), 1.0);
            Sample { at: Stamp::Wall { us, source: Source::Gateway }, readings: names.map(reading).collect() }
        };
        let now = Instant::from_start(Duration::ZERO);
        let mut book = Book::default();
        book.judge(&report, &sample(0, 0..100), now, &mut Outcome::new(usize::MAX));
        let mut copy = book.clone();
        copy.judge(&report, &sample(1, 7..8), now, &mut Outcome::new(usize::MAX));
        let changed = book.entries.iter().zip(&copy.entries).filter(|(a, b)| !Arc::ptr_eq(a, b));
        assert_eq!(changed.map(|(a, _)| a.0.as_str()).collect::<Vec<_>>(), ["r7"]);
        // Nor does a timer that has nothing to do for the others.
        let mut copy = book.clone();
        copy.release(now, false, &mut Outcome::new(usize::MAX));
        assert!(book.entries.iter().zip(&copy.entries).all(|(a, b)| Arc::ptr_eq(a, b)));
    }
}
