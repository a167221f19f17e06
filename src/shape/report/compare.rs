//! Whether a reading differs enough from the last one reported. Sans-IO.

use super::Rule;
use adapter_api::{Quality, Reading, Value};

/// Why a reading is not reported. Of a sample of which nothing is, the last of its readings' reasons counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    Unchanged,
    Deadband,
    Window,
    Interval,
}

impl Reason {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Deadband => "deadband",
            Self::Window => "window",
            Self::Interval => "interval",
        }
    }
}

impl Rule {
    pub(super) const ON_CHANGE: Self = Self {
        on_change: true,
        deadband: 0.0,
        deadband_percent: 0.0,
        heartbeat: None,
        min_interval: None,
        window: None,
    };

    /// Why a reading of the same quality need not be reported after this one.
    pub(super) fn withholds(&self, last: &Reading, reading: &Reading) -> Option<Reason> {
        if !self.compares() {
            return None;
        }
        let same = last.value == reading.value;
        if same && last.quality == reading.quality {
            return Some(Reason::Unchanged);
        }
        if last.quality != reading.quality {
            return None;
        }
        let gap = gap(&last.value, &reading.value)?;
        if gap == 0.0 {
            return Some(Reason::Unchanged);
        }
        let (a, b) = (number(&last.value)?.abs(), number(&reading.value)?.abs());
        let width = self.deadband.max(a * (self.deadband_percent / 100.0));
        // 20.1 is not further from 20.0 than 0.1 for what rounding adds.
        let noise = if width > 0.0 { 4.0 * f64::EPSILON * a.max(b) } else { 0.0 };
        let width = width + noise;
        // Nothing is further away than infinity: such a width would withhold everything for good.
        (width.is_finite() && gap <= width).then_some(Reason::Deadband)
    }
}

pub(super) fn rank(quality: &Quality) -> u8 {
    match quality {
        Quality::Good => 0,
        Quality::Uncertain(_) => 1,
        Quality::Bad(_) => 2,
    }
}

pub(super) fn bad(quality: &Quality) -> Option<&str> {
    match quality {
        Quality::Bad(why) => Some(why),
        _ => None,
    }
}

pub(super) fn uncertain(quality: &Quality) -> Option<&str> {
    match quality {
        Quality::Uncertain(why) => Some(why),
        _ => None,
    }
}

/// How far two numbers are apart; exactly, where both are whole.
fn gap(a: &Value, b: &Value) -> Option<f64> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(real(a.saturating_sub(b).saturating_abs())),
        _ => Some((number(a)? - number(b)?).abs()),
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(n.value())),
        _ => None,
    }
}

pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(x) => Some(x.value()),
        value => whole(value).map(real),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the nearest float is meant")]
fn real(n: i128) -> f64 {
    n as f64
}
