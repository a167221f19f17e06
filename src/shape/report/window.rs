//! The least, the greatest and the mean value of a resource over a window of time. Sans-IO.
//!
//! Windows are aligned to the samples' own clock: one of a minute ends with each full minute of wall time,
//! or of the time since boot as long as samples are stamped by that. A window is closed by the first number
//! beyond it, or by the timer a little after its end. Its results carry its end as their stamp.

use adapter_api::{Instant, Quality, Reading, Resource, Source, Stamp, Value};
use std::time::Duration;

/// After its end a window waits so long for samples that are still on their way, and up to a second longer: those
/// of all endpoints are closed in one transaction.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// What the results are called behind the name of their resource.
pub const RESULTS: [&str; 3] = [".min", ".max", ".mean"];
/// Some of the window is not in it: it began before the gateway, ended after it, or had its turn already.
pub(super) const INCOMPLETE: &str = "window incomplete";
/// Not all readings in it were usable.
pub(super) const GAPS: &str = "bad readings in the window";

/// What a stamp is measured by. What is known of the time only grows: that since boot comes before wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timeline {
    Boot(i64),
    Wall,
}

/// A window's place in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Frame {
    timeline: Timeline,
    n: i64,
}

/// An open window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    pub(super) frame: Frame,
    /// When the timer closes it.
    pub(super) due: Instant,
    length_us: i64,
    last_at: Stamp,
    count: u64,
    min: (f64, Value),
    max: (f64, Value),
    mean: f64,
    incomplete: bool,
    gaps: bool,
    /// The first doubt about a reading in it.
    doubt: Option<String>,
}

impl Frame {
    pub(super) fn of(at: Stamp, length: Duration) -> Self {
        let (timeline, us) = place(at);
        Self { timeline, n: us.div_euclid(micros(length)) }
    }

    /// Whether it is later on the same clock.
    pub(super) fn follows(self, other: Self) -> bool {
        self.timeline == other.timeline && self.n > other.n
    }
}

impl Window {
    /// Opens one with its first reading, the number `x`. `furthest` is the latest there was of this resource.
    pub(super) fn open(
        length: Duration,
        reading: &Reading,
        x: f64,
        at: Stamp,
        furthest: Option<Frame>,
        now: Instant,
    ) -> Self {
        let (frame, length_us) = (Frame::of(at, length), micros(length));
        let end = frame.n.saturating_add(1).saturating_mul(length_us);
        let left = u64::try_from(end.saturating_sub(place(at).1)).unwrap_or_default();
        let mut window = Self {
            frame,
            due: whole_second(now + Duration::from_micros(left).min(length) + GRACE),
            length_us,
            last_at: at,
            count: 0,
            min: (x, reading.value.clone()),
            max: (x, reading.value.clone()),
            mean: 0.0,
            incomplete: furthest.is_none_or(|furthest| !frame.follows(furthest)),
            gaps: false,
            doubt: None,
        };
        window.add(reading, x, at);
        window
    }

    /// Takes a reading of this window.
    pub(super) fn add(&mut self, reading: &Reading, x: f64, at: Stamp) {
        self.last_at = at;
        self.count = self.count.saturating_add(1);
        if x < self.min.0 {
            self.min = (x, reading.value.clone());
        }
        if x > self.max.0 {
            self.max = (x, reading.value.clone());
        }
        // In parts, so that no sum overflows.
        let n = f64::from(u32::try_from(self.count).unwrap_or(u32::MAX));
        self.mean += x / n - self.mean / n;
        if let (None, Quality::Uncertain(why)) = (&self.doubt, &reading.quality) {
            self.doubt = Some(why.clone());
        }
    }

    /// A reading of this window has no value.
    pub(super) fn miss(&mut self, at: Stamp) {
        self.last_at = at;
        self.gaps = true;
    }

    /// Its results. `cut`: before its end.
    pub(super) fn close(&self, resource: &Resource, cut: bool) -> (Stamp, Vec<Reading>) {
        let at = if cut { self.last_at } else { self.end() };
        let mut doubts: Vec<&str> = Vec::new();
        doubts.extend((cut || self.incomplete).then_some(INCOMPLETE));
        doubts.extend(self.gaps.then_some(GAPS));
        doubts.extend(self.doubt.as_deref());
        // The mean of equal numbers, and what rounding makes of it, lies between them.
        let mean = Value::from(self.mean.clamp(self.min.0, self.max.0));
        let values = [self.min.1.clone(), self.max.1.clone(), mean];
        let results = RESULTS.iter().zip(values).filter_map(|(result, value)| {
            let name = Resource::new(&format!("{}{result}", resource.as_str())).ok()?;
            let mut reading = Reading::measured(name, value);
            if !doubts.is_empty() && reading.quality == Quality::Good {
                reading.quality = Quality::Uncertain(doubts.join("; "));
            }
            Some(reading)
        });
        (at, results.collect())
    }

    fn end(&self) -> Stamp {
        let us = self.frame.n.saturating_add(1).saturating_mul(self.length_us);
        match self.last_at {
            Stamp::Wall { source, .. } => Stamp::Wall { us, source },
            Stamp::Mono { boot, .. } => Stamp::Mono { boot, us },
        }
    }
}

/// Whether the results of this resource have names: a very long one leaves no room for them.
pub fn has_names(resource: &Resource) -> bool {
    let longest = RESULTS.iter().max_by_key(|result| result.len());
    longest.is_some_and(|result| Resource::new(&format!("{}{result}", resource.as_str())).is_ok())
}

/// On which clock, and when.
pub(super) fn place(at: Stamp) -> (Timeline, i64) {
    match at {
        Stamp::Wall { us, source: Source::Device | Source::Gateway } => (Timeline::Wall, us),
        Stamp::Mono { boot, us } => (Timeline::Boot(boot), us),
    }
}

/// The same clock's stamp so much later.
pub(super) fn later(at: Stamp, by: Duration) -> Stamp {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    match at {
        Stamp::Wall { us, source } => Stamp::Wall { us: us.saturating_add(by), source },
        Stamp::Mono { boot, us } => Stamp::Mono { boot, us: us.saturating_add(by) },
    }
}

/// The next whole second of the process, or this one.
fn whole_second(at: Instant) -> Instant {
    let past = at.since(Instant::from_start(Duration::ZERO)).subsec_nanos();
    if past == 0 { at } else { at + (Duration::from_secs(1) - Duration::from_nanos(past.into())) }
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1)
}
