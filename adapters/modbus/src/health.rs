//! What the adapter complains about, put together into its one health.

use crate::wire::Wire;
use adapter_api::{EndpointName, Fault, Health, Reporter, field};
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
    /// This one of the connections to a wire cannot be opened.
    Link(Wire, u16),
    /// This device does not answer.
    Device(EndpointName),
    /// This device refuses registers of this group of its resources.
    Registers(EndpointName, usize),
}

/// The open complaints of all connections of one adapter.
#[derive(Debug, Clone)]
pub(crate) struct Complaints(Arc<Mutex<Open>>);

#[derive(Debug)]
struct Open {
    by_subject: BTreeMap<Subject, Fault>,
    reporter: Reporter,
    shown: Health,
}

impl Complaints {
    pub(crate) fn new(reporter: Reporter) -> Self {
        Self(Arc::new(Mutex::new(Open { by_subject: BTreeMap::new(), reporter, shown: Health::Starting })))
    }

    /// Something is wrong.
    pub(crate) fn raise(&self, subject: Subject, fault: Fault) {
        self.with(|open| {
            if open.by_subject.get(&subject) == Some(&fault) {
                return;
            }
            tracing::debug!(%fault, "degraded; it is tried again for ever");
            open.by_subject.insert(subject, fault);
        });
    }

    /// Something is wrong, or works.
    pub(crate) fn settle(&self, subject: Subject, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.raise(subject, fault),
            None => self.clear(&subject),
        }
    }

    /// It works.
    pub(crate) fn clear(&self, subject: &Subject) {
        self.with(|open| {
            if open.by_subject.remove(subject).is_some() {
                tracing::debug!(subject = %subject, "works again");
            }
        });
    }

    /// Polling is suspended, or goes on.
    pub(crate) fn suspend(&self, suspended: bool) {
        if suspended {
            let what = "polling is suspended: the store is full";
            self.raise(Subject::Polling, Fault::new(field::STORE_FULL, what, "all devices of this adapter"));
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
    /// One fault of each kind, that of the first subject.
    fn health(&self) -> Health {
        let mut kinds: Vec<(Fault, usize)> = Vec::new();
        for fault in self.by_subject.values() {
            match kinds.iter_mut().find(|(known, _)| known.code == fault.code) {
                Some((_, others)) => *others += 1,
                None => kinds.push((fault.clone(), 0)),
            }
        }
        if kinds.is_empty() {
            return Health::Up;
        }
        let counted = kinds.into_iter().map(|(mut fault, others)| {
            if others > 0 {
                fault.place += &format!(" and {others} more");
            }
            fault
        });
        Health::Degraded(counted.collect())
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Polling => f.write_str("polling suspended"),
            Self::Store(endpoint) | Self::Device(endpoint) | Self::Registers(endpoint, _) => endpoint.fmt(f),
            Self::Link(wire, _) => wire.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault;
    use adapter_api::Board;

    #[test]
    fn the_worst_fault_of_each_kind_is_shown_and_the_others_are_counted() {
        let (board, reporter) = Board::new();
        let complaints = Complaints::new(reporter);
        let host = Subject::Link(Wire::Tcp("10.0.0.5".parse().unwrap()), 0);
        let device = |name: &str| Subject::Device(EndpointName::new(name).unwrap());
        let shown = || match board.read().0 {
            Health::Degraded(faults) => faults.iter().map(|f| format!("{} {}", f.code, f.place)).collect(),
            other => vec![format!("{other:?}")],
        };
        assert_eq!(shown(), ["Starting"]);
        complaints.raise(device("boiler"), fault::lost("boiler".to_owned()));
        complaints.raise(device("chiller"), fault::lost("chiller".to_owned()));
        assert_eq!(shown(), ["TG-405 boiler and 1 more"]);
        complaints.raise(host.clone(), Fault::new(field::HOST_REFUSED, "no", "10.0.0.5:502"));
        assert_eq!(shown(), ["TG-401 10.0.0.5:502", "TG-405 boiler and 1 more"]);
        complaints.settle(host, None);
        complaints.retain(|subject| *subject != device("boiler"));
        assert_eq!(shown(), ["TG-405 chiller"]);
        complaints.clear(&device("chiller"));
        assert_eq!(board.read().0, Health::Up);
    }
}
