//! What an adapter reports of itself and its devices; read by `status`.

use crate::{EndpointName, Fault};
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
pub struct Board(Arc<Mutex<(Health, BTreeMap<EndpointName, Presence>)>>);

/// The adapter's end of a [`Board`].
#[derive(Debug, Clone)]
pub struct Reporter(Board);

impl Board {
    /// An empty board and its writing end.
    pub fn new() -> (Self, Reporter) {
        let board = Self(Arc::new(Mutex::new((Health::Starting, BTreeMap::new()))));
        (board.clone(), Reporter(board))
    }

    /// What was last reported.
    pub fn read(&self) -> (Health, BTreeMap<EndpointName, Presence>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with(&self, change: impl FnOnce(&mut (Health, BTreeMap<EndpointName, Presence>))) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Reporter {
    /// Reports the adapter's own health.
    pub fn health(&self, health: Health) {
        self.0.with(|board| board.0 = health);
    }

    /// Reports whether a device can be reached.
    pub fn presence(&self, endpoint: &EndpointName, presence: Presence) {
        self.0.with(|board| {
            board.1.insert(endpoint.clone(), presence);
        });
    }

    /// Forgets a device that left the configuration.
    pub fn forget(&self, endpoint: &EndpointName) {
        self.0.with(|board| {
            board.1.remove(endpoint);
        });
    }
}
