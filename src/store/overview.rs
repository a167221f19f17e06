//! What the store knows of endpoints at a glance: what `endpoints` shows. Answered from memory.

use super::{Closed, Command, Last, Store};
use crate::endpoints::EndpointKey;

/// Endpoints in one question: the store answers nobody else meanwhile, for some tenths of a millisecond.
const AT_ONCE: usize = 1_024;

/// An endpoint at a glance.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overview {
    /// Samples that wait for the platform, those in the air included.
    pub queued: u64,
    /// It goes over a quota now.
    pub over_quota: bool,
    /// Samples its device hands in, stored or suppressed, over about the last minute; `None` in the first seconds,
    /// and where none came.
    pub samples_per_s: Option<f64>,
    /// Its youngest reading.
    pub last: Option<Last>,
}

impl Store {
    /// These endpoints at a glance, in this order.
    pub async fn overview(&self, endpoints: Vec<EndpointKey>) -> Result<Vec<Overview>, Closed> {
        let mut all = Vec::with_capacity(endpoints.len());
        for some in endpoints.chunks(AT_ONCE) {
            let endpoints = some.to_vec();
            all.extend(self.query(|answer| Command::Overview { endpoints, answer }).await?);
        }
        Ok(all)
    }
}
