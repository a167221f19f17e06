//! Which session of the uplink carries an endpoint, and where it listens.

use crate::{dialect::SessionKey, endpoints::EndpointKey, store::Event};
use std::collections::{HashMap, HashSet};
use tokio::sync::mpsc;

/// The sessions that listen now.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    listening: HashMap<SessionKey, mpsc::UnboundedSender<Event>>,
    carrying: HashMap<EndpointKey, SessionKey>,
}

impl Sessions {
    /// A session has started, perhaps again: it carries these endpoints.
    pub(super) fn attach(
        &mut self,
        session: &SessionKey,
        endpoints: Vec<EndpointKey>,
        events: mpsc::UnboundedSender<Event>,
    ) {
        self.carrying.retain(|_, carrier| carrier != session);
        self.carrying.extend(endpoints.into_iter().map(|endpoint| (endpoint, session.clone())));
        self.listening.insert(session.clone(), events);
    }

    /// A session carries these endpoints from now on. Returns those it did not carry before.
    pub(super) fn carry_now(
        &mut self,
        session: &SessionKey,
        endpoints: Vec<EndpointKey>,
    ) -> HashSet<EndpointKey> {
        let wanted: HashSet<EndpointKey> = endpoints.into_iter().collect();
        self.carrying.retain(|endpoint, carrier| carrier != session || wanted.contains(endpoint));
        let joined = wanted.into_iter().filter(|endpoint| self.carrying.get(endpoint) != Some(session));
        let joined: HashSet<EndpointKey> = joined.collect();
        self.carrying.extend(joined.iter().map(|endpoint| (endpoint.clone(), session.clone())));
        joined
    }

    /// Whether a session carries this endpoint. None carries one that left the configuration.
    pub(super) fn carry(&self, endpoint: &EndpointKey) -> bool {
        self.carrying.contains_key(endpoint)
    }

    /// Tells the session that carries this endpoint.
    pub(super) fn tell(&self, endpoint: &EndpointKey, event: Event) {
        if let Some(session) = self.carrying.get(endpoint) {
            self.answer(session, event);
        }
    }

    /// Answers a session.
    pub(super) fn answer(&self, session: &SessionKey, event: Event) {
        if let Some(events) = self.listening.get(session) {
            // One that has ended needs no answer; its rows are still on disk.
            let _gone = events.send(event);
        }
    }
}
