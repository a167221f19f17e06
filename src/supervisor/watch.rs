//! How a unit is doing, looked at from outside: by `status`, the journal and systemd.

use super::HEALTHY;
use crate::fault::{Code, Fault};
use adapter_api::{Instant, clock, journal};
use std::sync::{Arc, Mutex, PoisonError};

/// How a unit is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitState {
    /// It runs.
    Running,
    /// It ended and is started again then.
    BackingOff {
        /// When.
        until: Instant,
        /// Why it ended.
        why: String,
    },
    /// Its thread has not turned for long: something in it blocks.
    Stalled,
    /// It was told to stop.
    Stopping,
    /// It has stopped for good.
    Stopped,
    /// It did not stop in time, and its thread is still there. Only a restart of the process ends it.
    LeftBehind,
}

/// Looks at a unit without holding it.
#[derive(Debug, Clone)]
pub struct UnitWatch(Arc<Mutex<Status>>);

#[derive(Debug)]
struct Status {
    state: UnitState,
    starts: u64,
    panics: u64,
    /// When it last ended by itself, and why.
    ended: Option<(Instant, String)>,
}

impl UnitWatch {
    pub(super) fn new() -> Self {
        let status = Status { state: UnitState::Running, starts: 0, panics: 0, ended: None };
        Self(Arc::new(Mutex::new(status)))
    }

    /// How it is doing.
    pub fn state(&self) -> UnitState {
        self.with(|status| status.state.clone())
    }

    /// How often it was started, the first time included.
    pub fn starts(&self) -> u64 {
        self.with(|status| status.starts)
    }

    /// Which of its runs is under way; `None` between two of them, and when it was told to stop.
    pub(super) fn run(&self) -> Option<u64> {
        self.with(|status| match status.state {
            UnitState::Running | UnitState::Stalled => Some(status.starts),
            _ => None,
        })
    }

    /// How often it ended by a panic.
    pub fn panics(&self) -> u64 {
        self.with(|status| status.panics)
    }

    /// The state in a word, and what there is to say of it.
    pub fn words(&self) -> (&'static str, Option<String>) {
        match self.state() {
            UnitState::Running => ("running", None),
            UnitState::BackingOff { until, .. } => {
                ("backing off", Some(format!("again in {} s", until.since(clock::now()).as_secs())))
            }
            UnitState::Stalled => ("stalled", None),
            UnitState::Stopping => ("stopping", None),
            UnitState::Stopped => ("stopped", None),
            UnitState::LeftBehind => ("left behind", Some("needs a restart of the process".to_owned())),
        }
    }

    /// What is wrong with the unit of this name. One that ended counts until it has run for a while: it may
    /// end again at once.
    pub fn fault(&self, name: &str) -> Option<Fault> {
        self.with(|status| match (&status.state, &status.ended) {
            (UnitState::BackingOff { why, .. }, _) => Some(Fault::new(Code::UnitEnded, why.as_str(), name)),
            (UnitState::Running, Some((at, why))) if clock::now().since(*at) < HEALTHY => {
                Some(Fault::new(Code::UnitEnded, why.as_str(), name))
            }
            (UnitState::Stalled, _) => {
                Some(Fault::new(Code::UnitStalled, "it has not turned for 30 s or longer", name))
            }
            (UnitState::LeftBehind, _) => {
                let what = "it did not stop in time and was left behind; nothing more is taken from it";
                Some(Fault::new(Code::UnitLeftBehind, what, name))
            }
            _ => None,
        })
    }

    pub(super) fn started(&self) {
        self.change(|status| {
            status.starts = status.starts.saturating_add(1);
            status.state = UnitState::Running;
        });
    }

    pub(super) fn ended(&self, now: Instant, until: Instant, why: String, panicked: bool) {
        self.change(|status| {
            status.panics = status.panics.saturating_add(u64::from(panicked));
            status.ended = Some((now, why.clone()));
            status.state = UnitState::BackingOff { until, why };
        });
    }

    /// Its pulse was felt.
    pub(super) fn stalled(&self, stalled: bool) {
        let (from, to) = match stalled {
            true => (UnitState::Running, UnitState::Stalled),
            false => (UnitState::Stalled, UnitState::Running),
        };
        if self.state() != from {
            return;
        }
        self.change(|status| {
            // It may have ended since.
            if status.state == from {
                status.state = to;
            }
        });
    }

    pub(super) fn stopping(&self) {
        self.change(|status| {
            if status.state != UnitState::Stopped {
                status.state = UnitState::Stopping;
            }
        });
    }

    /// Nobody reads `status` while the process ends: this is said in the journal as well.
    pub(super) fn left_behind(&self, name: &str) {
        self.change(|status| {
            if status.state != UnitState::Stopped {
                status.state = UnitState::LeftBehind;
            }
        });
        if let Some(fault) = self.fault(name) {
            fault.log_warning("left behind");
        }
    }

    pub(super) fn stopped(&self) {
        self.change(|status| status.state = UnitState::Stopped);
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        self.with(change);
        journal::stir();
    }

    fn with<T>(&self, look: impl FnOnce(&mut Status) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
