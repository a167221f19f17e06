//! What an adapter reports of itself and its devices; read by `status`.

use crate::{EndpointName, Fault, Instant, journal, load::Load};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Whether a device can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It answers.
    Online,
    /// It sleeps and will come back by itself.
    Asleep,
    /// It does not answer, and why.
    Offline(Fault),
}

/// How an adapter as a whole is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Nothing to say yet.
    Starting,
    /// Works.
    Up,
    /// Works in part or not at all, and why: one fault of each kind, the worst first.
    Degraded(Vec<Fault>),
}

/// One unit's board: written by the adapter, read by the control socket.
#[derive(Debug, Clone)]
pub struct Board(Arc<Mutex<Reports>>);

#[derive(Debug)]
struct Reports {
    health: Health,
    presence: BTreeMap<EndpointName, Presence>,
    /// Of which so many are configured.
    devices: usize,
    /// Of the wires that its devices share, by the names that people know them by.
    wires: BTreeMap<String, Load>,
}

/// The adapter's end of a [`Board`].
#[derive(Debug, Clone)]
pub struct Reporter(Board);

impl Board {
    /// An empty board and its writing end.
    pub fn new() -> (Self, Reporter) {
        let (presence, wires) = (BTreeMap::new(), BTreeMap::new());
        let reports = Reports { health: Health::Starting, presence, devices: 0, wires };
        let board = Self(Arc::new(Mutex::new(reports)));
        (board.clone(), Reporter(board))
    }

    /// What was last reported.
    pub fn read(&self) -> (Health, BTreeMap<EndpointName, Presence>) {
        self.with(|reports| (reports.health.clone(), reports.presence.clone()))
    }

    /// How many devices it has, those included of which nothing was reported yet.
    pub fn devices(&self) -> usize {
        self.with(|reports| reports.devices.max(reports.presence.len()))
    }

    /// What was last reported of one device.
    pub fn presence(&self, endpoint: &EndpointName) -> Option<Presence> {
        self.with(|reports| reports.presence.get(endpoint).cloned())
    }

    /// The share of the last minute, 0 to 1, in which each wire that devices share was used.
    pub fn wires(&self, now: Instant) -> BTreeMap<String, f64> {
        self.with(|reports| {
            reports.wires.iter().map(|(wire, load)| (wire.clone(), load.share(now))).collect()
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Reports) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reporter {
    /// Reports the adapter's own health.
    pub fn health(&self, health: Health) {
        let changed = self.0.with(|board| {
            let changed = board.health != health;
            board.health = health;
            changed
        });
        if changed {
            journal::stir();
        }
    }

    /// Reports how many devices it has.
    pub fn devices(&self, count: usize) {
        self.0.with(|board| board.devices = count);
    }

    /// Reports whether a device can be reached.
    pub fn presence(&self, endpoint: &EndpointName, presence: Presence) {
        let changed = self.0.with(|board| {
            if board.presence.get(endpoint) == Some(&presence) {
                return false;
            }
            board.presence.insert(endpoint.clone(), presence);
            true
        });
        if changed {
            journal::stir();
        }
    }

    /// Forgets a device that left the configuration.
    pub fn forget(&self, endpoint: &EndpointName) {
        if self.0.with(|board| board.presence.remove(endpoint).is_some()) {
            journal::stir();
        }
    }

    /// A wire that devices share was used from `from` until `to`, which is now: whoever else has
    /// something to ask on it had to wait.
    pub fn used(&self, wire: &str, from: Instant, to: Instant) {
        self.0.with(|board| match board.wires.get_mut(wire) {
            Some(load) => load.add(from, to),
            None => {
                let mut load = Load::new(from);
                load.add(from, to);
                board.wires.insert(wire.to_owned(), load);
            }
        });
    }

    /// Forgets a wire that left the configuration.
    pub fn forget_wire(&self, wire: &str) {
        self.0.with(|board| {
            board.wires.remove(wire);
        });
    }
}
