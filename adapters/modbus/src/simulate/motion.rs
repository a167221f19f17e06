//! Quantities that move as those of a small factory do. Sans-IO.

use std::{f64::consts::TAU, time::Duration};

/// One turn of the wave.
const TURN_S: f64 = 120.0;

/// How a quantity moves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Motion {
    middle: f64,
    /// Of a slow wave.
    swing: f64,
    /// By so much an hour.
    rise: f64,
    /// Of the wave, in turns: neighbours are not in step.
    phase: f64,
}

impl Motion {
    /// Of a quantity that is measured in this unit and has this name; the n-th of its device.
    #[expect(clippy::cast_precision_loss, reason = "a handful of resources")]
    pub(super) fn of(unit: &str, name: &str, n: usize) -> Self {
        let line = ["l1_l2", "l2_l3", "l3_l1", "line", "PPV", "PhVphAB", "PhVphBC", "PhVphCA"];
        let wave = |middle, swing| Self { middle, swing, rise: 0.0, phase: n as f64 * 0.37 };
        let counter = |middle, rise| Self { middle, swing: 0.0, rise, phase: 0.0 };
        let thousand = n as f64 * 1_000.0;
        match unit {
            "V" if line.iter().any(|part| name.contains(part)) => wave(400.0, 4.0),
            "V" => wave(230.0, 2.5),
            "A" => wave(4.2, 0.8),
            "W" => wave(920.0, 180.0),
            "VA" => wave(960.0, 180.0),
            "var" => wave(140.0, 30.0),
            "Hz" => wave(50.0, 0.02),
            "°" => wave(8.0, 2.0),
            "°C" => wave(41.0, 3.0),
            "mA" => wave(12.0, 7.5),
            "%" if name.starts_with("PF") => wave(96.0, 2.0),
            "%" => wave(2.4, 0.6),
            "kWh" | "kVAh" | "kvarh" | "Ah" => counter(1_000.0 + n as f64, 0.92),
            "Wh" | "VAh" | "varh" => counter(1_000_000.0 + thousand, 920.0),
            _ => wave(0.96, 0.02),
        }
    }

    /// Its value, so long after the device was switched on.
    pub(super) fn at(&self, age: Duration) -> f64 {
        let turns = age.as_secs_f64() / TURN_S + self.phase;
        self.middle + self.swing * (turns * TAU).sin() + self.rise * age.as_secs_f64() / 3_600.0
    }
}
