//! When the wall clock is believed. Gateways boot without a clock of their own.
//!
//! [`Trust`] is the machine (sans-IO): it is shown what the system says of its clock and decides when
//! the time is known, and when samples have waited for it long enough. Trust lasts until the next boot;
//! a jump of the wall clock changes no timer. [`watch`] looks, and tells the store and the adapters' clock.
//!
//! Not here: `adjtimex`. timedated answers by it, may ask it where the hardened unit may not, and a
//! machine without systemd has `trust = "always"`.

mod day;
pub mod watch;

use adapter_api::Instant;
pub use day::{Day, midnight_after, today};
use serde::Deserialize;
use std::{collections::VecDeque, time::Duration};

/// Under `trust = "auto"` no sign makes an earlier time than 2015-01-01T00:00:00Z believed, in µs.
pub const EARLIEST: i64 = 1_420_070_400_000_000;
/// How often the system is looked at while samples wait, afterwards, and once the time is known.
const LOOKS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];
/// A clock that is off by so much was set, not slewed.
const STEP_US: i64 = 2_000_000;

/// `clock.trust`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// When the system says that it is synchronised.
    #[default]
    Auto,
    /// From the beginning.
    Always,
}

/// What made the time known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// `trust = "always"`
    Configured,
    /// It was known earlier in this boot.
    Earlier,
    /// systemd-timesyncd left its mark.
    Timesyncd,
    /// systemd-timedated says that the clock is synchronised, by whichever program.
    Timedated,
}

/// What is known of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Samples wait for it, until then.
    Waiting(Instant),
    /// It is not known, and samples go up without.
    Unknown,
    /// It is known.
    Known(Sign),
}

/// One look at the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// What speaks for the wall clock.
    pub sign: Option<Sign>,
    /// Everything that could speak for it was asked.
    pub complete: bool,
    /// µs since 1970, by the wall clock.
    pub wall_us: i64,
    /// µs since boot.
    pub boot_us: i64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The time is known: this boot began at `offset_us` after 1970.
    Known {
        /// By what.
        by: Sign,
        /// µs from 1970 to the boot.
        offset_us: i64,
    },
    /// Samples have waited long enough.
    HoldOver,
    /// Somebody set the wall clock after it was trusted.
    Stepped {
        /// By so many µs.
        by_us: i64,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Trust {
    state: State,
    /// By the last look at a trusted clock.
    offset_us: i64,
    look_due: Instant,
    outputs: VecDeque<Output>,
}

impl Sign {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Configured => "the configuration (clock.trust)",
            Self::Earlier => "what was known earlier in this boot",
            Self::Timesyncd => "systemd-timesyncd",
            Self::Timedated => "systemd-timedated (NTPSynchronized)",
        }
    }
}

impl Trust {
    /// At the start. Samples wait until `hold_until`; `known_offset_us` is what the store knows of this boot.
    pub fn new(now: Instant, hold_until: Instant, known_offset_us: Option<i64>) -> Self {
        let mut trust =
            Self { state: State::Waiting(hold_until), offset_us: 0, look_due: now, outputs: VecDeque::new() };
        if let Some(offset_us) = known_offset_us {
            trust.know(now, Sign::Earlier, offset_us);
        }
        trust
    }

    /// What is known.
    pub fn state(&self) -> State {
        self.state
    }

    /// The system was looked at.
    pub fn handle_look(&mut self, now: Instant, look: &Look) {
        let offset_us = look.wall_us.saturating_sub(look.boot_us);
        // A mark of an earlier synchronisation, on a clock that has started anew since.
        let plausible = |sign: &Sign| *sign == Sign::Configured || look.wall_us >= EARLIEST;
        match (self.state, look.sign.filter(plausible)) {
            (State::Known(_), _) => {
                let by_us = offset_us.saturating_sub(self.offset_us);
                if by_us.saturating_abs() >= STEP_US {
                    self.outputs.push_back(Output::Stepped { by_us });
                }
                // Slow drift adds up to no step.
                self.offset_us = offset_us;
            }
            (_, Some(sign)) => self.know(now, sign, offset_us),
            (State::Waiting(until), None) if until <= now && look.complete => {
                self.state = State::Unknown;
                self.outputs.push_back(Output::HoldOver);
            }
            (State::Waiting(_) | State::Unknown, None) => {}
        }
        let [waiting, unknown, known] = LOOKS;
        self.look_due = now
            + match self.state {
                State::Waiting(_) => waiting,
                State::Unknown => unknown,
                State::Known(_) => known,
            };
    }

    /// When the system has to be looked at.
    pub fn poll_timeout(&self) -> Instant {
        self.look_due
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn know(&mut self, now: Instant, by: Sign, offset_us: i64) {
        self.state = State::Known(by);
        self.offset_us = offset_us;
        self.look_due = now;
        self.outputs.push_back(Output::Known { by, offset_us });
    }
}

#[cfg(test)]
mod tests;
