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

/// The devices of a board in short: counts, and no more than so many of them one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roll {
    /// How many answer.
    pub online: usize,
    /// How many sleep.
    pub asleep: usize,
    /// How many do not answer.
    pub offline: usize,
    /// Of those that do not answer, how many have a fault of this code.
    pub codes: BTreeMap<&'static str, usize>,
    /// The first by name of those that do not answer; where there is room, of those that sleep, and of the others.
    pub first: Vec<(EndpointName, Presence)>,
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

    /// The adapter's own health, as it was last reported.
    pub fn health(&self) -> Health {
        self.with(|reports| reports.health.clone())
    }

    /// Devices in short, at most so many of them by name: of ten thousand not each is copied for each look.
    pub fn roll(&self, most: usize) -> Roll {
        self.with(|reports| {
            let mut roll = Roll::default();
            let (mut silent, mut asleep, mut others) = (Vec::new(), Vec::new(), Vec::new());
            for (endpoint, presence) in &reports.presence {
                let list = match presence {
                    Presence::Online => {
                        roll.online += 1;
                        &mut others
                    }
                    Presence::Asleep => {
                        roll.asleep += 1;
                        &mut asleep
                    }
                    Presence::Offline(fault) => {
                        roll.offline += 1;
                        *roll.codes.entry(fault.code).or_default() += 1;
                        &mut silent
                    }
                };
                if list.len() < most {
                    list.push((endpoint, presence));
                }
            }
            let first = silent.into_iter().chain(asleep).chain(others).take(most);
            roll.first = first.map(|(endpoint, presence)| (endpoint.clone(), presence.clone())).collect();
            roll
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultKind;

    #[test]
    fn of_many_devices_those_that_do_not_answer_are_named_first_and_all_are_counted() {
        let (board, report) = Board::new();
        let name = |n: usize| EndpointName::new(&format!("d{n:03}")).unwrap();
        let silent = Fault::new(FaultKind { code: "TG-431", cause: "", todo: "" }, "silent", "unit 1");
        for n in 0..300 {
            let presence = match n {
                100..103 => Presence::Offline(silent.clone()),
                200..202 => Presence::Asleep,
                _ => Presence::Online,
            };
            report.presence(&name(n), presence);
        }
        let named = |most| -> Vec<EndpointName> {
            board.roll(most).first.into_iter().map(|(endpoint, _)| endpoint).collect()
        };
        let roll = board.roll(0);
        assert_eq!((roll.online, roll.asleep, roll.offline, roll.first.len()), (295, 2, 3, 0));
        assert_eq!(roll.codes, BTreeMap::from([("TG-431", 3)]));
        assert_eq!(named(2), [100, 101].map(name));
        assert_eq!(named(7), [100, 101, 102, 200, 201, 0, 1].map(name));
        assert_eq!(named(1_000).len(), 300);
    }
}
