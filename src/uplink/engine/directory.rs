//! A session whose endpoints change while it is up. Sans-IO.

use super::{Engine, Output};
use crate::{
    endpoints::{Directory, EndpointKey},
    store::Command,
};
use adapter_api::Instant;
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

impl Engine {
    /// These are the session's endpoints from now on. Those that stay as they were notice nothing; the flights
    /// of the others come back, and what is queued of them waits until the store says that it may fly.
    pub(crate) fn handle_directory(&mut self, now: Instant, directory: Arc<Directory>) {
        let before = std::mem::replace(&mut self.directory, directory);
        let after = self.directory.clone();
        let filters = |directory: &Directory, key: &EndpointKey| {
            directory.by_key(key).map(|endpoint| self.dialect.subscriptions(endpoint)).unwrap_or_default()
        };
        let token = |directory: &Directory, key: &EndpointKey| directory.by_key(key).map(|e| e.token.clone());
        let differs = |key: &EndpointKey| token(&before, key) != token(&after, key);
        let keys = |directory: &Directory| -> Vec<EndpointKey> {
            let keys: BTreeSet<&EndpointKey> = directory.iter().map(|endpoint| &endpoint.key).collect();
            keys.into_iter().filter(|key| differs(key)).cloned().collect()
        };
        let (left, joined) = (keys(&before), keys(&after));
        let unwanted = left.iter().flat_map(|key| filters(&before, key)).collect();
        let asked: Vec<_> = joined.into_iter().map(|key| (filters(&after, &key), key)).collect();
        let needed = after.iter().flat_map(|endpoint| self.dialect.subscriptions(endpoint));
        let needed: HashSet<String> = needed.map(|filter| filter.expose().to_owned()).collect();
        self.unwanted.add(unwanted, &needed);
        for key in left {
            self.subscriptions.leave(&key);
            match after.by_key(&key) {
                Some(_) => self.outflow.handle_shut(now, &key),
                None => self.outflow.handle_left(now, &key),
            }
        }
        // What is said of those that left comes before it, and what is asked of those that joined after it.
        self.pump(now);
        let endpoints = after.iter().map(|endpoint| endpoint.key.clone()).collect();
        self.outputs.push_back(Output::Store(Command::Carry { session: self.session.clone(), endpoints }));
        let common = !self.dialect.common_subscriptions().is_empty();
        for (filters, key) in asked {
            if self.connected && self.subscriptions.join(key.clone(), filters, common) {
                self.outflow.handle_open(&key);
            }
        }
    }
}
