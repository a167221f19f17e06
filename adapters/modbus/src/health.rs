//! What the adapter complains about, put together into its one health.

use crate::config::Host;
use adapter_api::{EndpointName, Health, Reporter};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What a complaint is about; the first in this order is shown first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// Nothing is read.
    Polling,
    /// The store does not take this endpoint's samples.
    Store(EndpointName),
    /// There is no connection to this host.
    Link(Host),
    /// This device does not answer.
    Device(EndpointName),
}

/// The open complaints of all connections of one adapter.
#[derive(Debug, Clone)]
pub(crate) struct Complaints(Arc<Mutex<Open>>);

#[derive(Debug)]
struct Open {
    by_subject: BTreeMap<Subject, String>,
    reporter: Reporter,
    shown: Health,
}

impl Complaints {
    pub(crate) fn new(reporter: Reporter) -> Self {
        Self(Arc::new(Mutex::new(Open { by_subject: BTreeMap::new(), reporter, shown: Health::Starting })))
    }

    /// Something is wrong.
    pub(crate) fn raise(&self, subject: Subject, why: &str) {
        self.with(|open| {
            if open.by_subject.get(&subject).is_some_and(|known| known == why) {
                return;
            }
            tracing::warn!(subject = %subject, why, "degraded");
            open.by_subject.insert(subject, why.to_owned());
        });
    }

    /// It works.
    pub(crate) fn clear(&self, subject: &Subject) {
        self.with(|open| {
            if open.by_subject.remove(subject).is_some() {
                tracing::info!(subject = %subject, "works again");
            }
        });
    }

    /// Polling is suspended, or goes on.
    pub(crate) fn suspend(&self, suspended: bool) {
        if suspended {
            self.raise(Subject::Polling, "the store is full");
        } else {
            self.clear(&Subject::Polling);
        }
    }

    /// Drops what is about hosts and devices that left the configuration.
    pub(crate) fn retain(&self, keep: impl Fn(&Subject) -> bool) {
        self.with(|open| open.by_subject.retain(|subject, _| keep(subject)));
    }

    fn with(&self, change: impl FnOnce(&mut Open)) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut open);
        let health = open.health();
        if open.shown != health {
            open.reporter.health(health.clone());
            open.shown = health;
        }
    }
}

impl Open {
    fn health(&self) -> Health {
        match (self.by_subject.first_key_value(), self.by_subject.len()) {
            (None, _) => Health::Up,
            (Some((subject, why)), 1) => Health::Degraded(format!("{subject}: {why}")),
            (Some((subject, why)), n) => Health::Degraded(format!("{subject}: {why} (and {} more)", n - 1)),
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Polling => f.write_str("polling suspended"),
            Self::Store(endpoint) | Self::Device(endpoint) => endpoint.fmt(f),
            Self::Link(host) => host.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapter_api::Board;

    #[test]
    fn the_worst_complaint_is_shown_and_the_others_are_counted() {
        let (board, reporter) = Board::new();
        let complaints = Complaints::new(reporter);
        let host = Subject::Link("10.0.0.5".parse().unwrap());
        let device = Subject::Device(EndpointName::new("boiler").unwrap());
        let degraded = |text: &str| Health::Degraded(text.to_owned());
        assert_eq!(board.read().0, Health::Starting);
        complaints.raise(device.clone(), "no answer within 1s");
        assert_eq!(board.read().0, degraded("boiler: no answer within 1s"));
        complaints.raise(host.clone(), "connection refused");
        assert_eq!(board.read().0, degraded("10.0.0.5:502: connection refused (and 1 more)"));
        complaints.clear(&host);
        complaints.retain(|subject| *subject != device);
        assert_eq!(board.read().0, Health::Up);
    }
}
