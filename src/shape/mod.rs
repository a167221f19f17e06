//! Rules between intake and store. Sans-IO.
//!
//! A pass-through so far, with its ledger terms: an unknown endpoint is refused, a disabled one and a
//! gateway without uplink suppress. A suppressed sample is counted, and its values stay visible.

use crate::endpoints::{Directory, EndpointKey};
use adapter_api::{EndpointName, Refused};
use std::sync::Arc;

/// The rules.
#[derive(Debug)]
pub struct Shape {
    directory: Arc<Directory>,
    uplink: bool,
}

/// What becomes of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is stored.
    Keep(EndpointKey),
    /// It is counted and shown, but not stored.
    Suppress(EndpointKey, &'static str),
    /// The adapter is told no.
    Refuse(Refused, &'static str),
}

impl Shape {
    /// Rules for these endpoints; `uplink` says whether there is one (`uplink.kind` is not `none`).
    pub fn new(directory: Arc<Directory>, uplink: bool) -> Self {
        Self { directory, uplink }
    }

    /// Decides over a submission.
    pub fn admit(&self, endpoint: &EndpointName) -> Verdict {
        match self.directory.by_name(endpoint) {
            None => Verdict::Refuse(Refused::Unknown, "unknown_endpoint"),
            Some(endpoint) if !endpoint.enabled => Verdict::Suppress(endpoint.key.clone(), "disabled"),
            Some(endpoint) if !self.uplink => Verdict::Suppress(endpoint.key.clone(), "no_uplink"),
            Some(endpoint) => Verdict::Keep(endpoint.key.clone()),
        }
    }
}
