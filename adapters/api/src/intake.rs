//! Where adapters hand in samples: one bounded channel per unit, and the receipt for each submission.
//!
//! `submit` waits for room, never for the commit; [`Receipt::committed`] waits for the commit. A
//! device is answered only after it (I1).

use crate::{EndpointName, Sample, clock::Bell};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Submissions a unit may have waiting: enough for a store busy with one commit, little enough to
/// push back on a flooder.
pub const UNIT_SUBMISSIONS: usize = 64;
/// Bytes a unit may have waiting.
pub const UNIT_BYTES: usize = 1 << 20;

/// How long a submission may wait for company in its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A device waits for its answer: committed at once, with whatever is there.
    Urgent,
    /// Polled data: committed with the next urgent group or after `commit_within`.
    Relaxed,
}

/// A limit of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quota {
    /// Samples it may hand in per second.
    SamplesPerS,
    /// Bytes it may hand in per second.
    BytesPerS,
    /// Bytes it may have waiting for the platform.
    BytesQueued,
}

/// Why the store did not take a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The store may not grow, and its policy is to refuse.
    #[error("the store is full")]
    Full,
    /// No such endpoint in the configuration, or it is disabled.
    #[error("the endpoint is not configured")]
    Unknown,
    /// The endpoint is over its quota: what it sends is too much, or too early.
    #[error("the endpoint is over its quota {}", .0.key())]
    OverQuota(Quota),
    /// The transaction failed; nothing of it is kept.
    #[error("the store could not commit")]
    Failed,
    /// The store has stopped.
    #[error("the store has stopped")]
    Closed,
}

/// Why a submission did not even reach the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// One of the samples is over the limit. None of them was taken.
    #[error("a sample of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// `store.max_sample_bytes`.
        limit: usize,
    },
    /// A sample without readings, or no sample at all.
    #[error("there is nothing in it")]
    Empty,
    /// The store has stopped.
    #[error("the store has stopped")]
    Closed,
}

/// What an adapter offers in one submission.
#[derive(Debug)]
pub enum Offer {
    /// To be kept.
    Samples(Vec<Sample>),
    /// Refused by the intake already, so that the ledger may count it.
    TooLarge {
        /// How many samples were refused.
        samples: u64,
    },
}

/// One submission on its way to the store.
#[derive(Debug)]
pub struct Submission {
    /// Whose samples.
    pub endpoint: EndpointName,
    /// What is offered.
    pub offer: Offer,
    /// How long it may wait.
    pub urgency: Urgency,
    /// Told after the transaction is over.
    pub answer: oneshot::Sender<Result<(), Refused>>,
    /// Room taken from the unit's byte limit, given back when the submission is done with.
    room: Option<OwnedSemaphorePermit>,
}

/// The promise that a submission will be answered after its commit.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<(), Refused>>);

/// A unit's way into the store.
#[derive(Debug, Clone)]
pub struct Intake {
    tx: mpsc::Sender<Submission>,
    bytes: Arc<Semaphore>,
    bell: Arc<Bell>,
    max_sample_bytes: usize,
    full: watch::Receiver<bool>,
}

/// A unit's intake and the end the store reads from; `bell` wakes the store, and `full` says whether it
/// is full and refuses.
pub fn channel(
    bell: Arc<Bell>,
    max_sample_bytes: usize,
    full: watch::Receiver<bool>,
) -> (Intake, mpsc::Receiver<Submission>) {
    let (tx, rx) = mpsc::channel(UNIT_SUBMISSIONS);
    let intake = Intake { tx, bytes: Arc::new(Semaphore::new(UNIT_BYTES)), bell, max_sample_bytes, full };
    (intake, rx)
}

impl Quota {
    /// Its key in the configuration.
    pub const fn key(self) -> &'static str {
        match self {
            Self::SamplesPerS => "samples_per_s",
            Self::BytesPerS => "bytes_per_s",
            Self::BytesQueued => "bytes_queued",
        }
    }
}

impl Intake {
    /// Hands samples of one endpoint to the store as one unit of commit. Waits for room, not for the commit.
    ///
    /// Cancel-safe: a submission that did not get in leaves nothing behind.
    pub async fn submit(
        &self,
        endpoint: &EndpointName,
        samples: Vec<Sample>,
        urgency: Urgency,
    ) -> Result<Receipt, SubmitError> {
        if samples.is_empty() || samples.iter().any(|s| s.readings.is_empty()) {
            return Err(SubmitError::Empty);
        }
        let weights = samples.iter().map(Sample::weight);
        let largest = weights.clone().max().unwrap_or_default();
        // A whole submission must fit the unit's room too, or it could wait for ever.
        let too_large = largest > self.max_sample_bytes || weights.clone().sum::<usize>() > UNIT_BYTES;
        if too_large {
            let count = u64::try_from(samples.len()).unwrap_or(u64::MAX);
            self.send(endpoint, Offer::TooLarge { samples: count }, urgency, 0).await?;
            return Err(SubmitError::TooLarge { bytes: largest, limit: self.max_sample_bytes });
        }
        let room = u32::try_from(weights.sum::<usize>()).unwrap_or(u32::MAX);
        self.send(endpoint, Offer::Samples(samples), urgency, room).await
    }

    /// Takes nothing more: whoever holds it was left behind. What is inside gets to the store.
    pub fn close(&self) {
        self.bytes.close();
    }

    /// Whether the store is full and refuses: then nothing is to be read from a device, for it could not
    /// be kept. What was read already still gets in.
    pub fn is_full(&self) -> bool {
        *self.full.borrow()
    }

    /// Waits until the store is full, or is not. Cancel-safe.
    pub async fn until_full(&self, full: bool) {
        let told = self.full.clone().wait_for(|known| *known == full).await.is_ok();
        if !told {
            // The store has stopped, and says nothing more.
            std::future::pending::<()>().await;
        }
    }

    async fn send(
        &self,
        endpoint: &EndpointName,
        offer: Offer,
        urgency: Urgency,
        room: u32,
    ) -> Result<Receipt, SubmitError> {
        let room = match room {
            _ if self.bytes.is_closed() => return Err(SubmitError::Closed),
            0 => None,
            n => Some(self.bytes.clone().acquire_many_owned(n).await.map_err(|_| SubmitError::Closed)?),
        };
        let (answer, receipt) = oneshot::channel();
        let submission = Submission { endpoint: endpoint.clone(), offer, urgency, answer, room };
        self.tx.send(submission).await.map_err(|_| SubmitError::Closed)?;
        self.bell.ring();
        Ok(Receipt(receipt))
    }
}

impl Submission {
    /// Answers the adapter and gives the room back. To be called after COMMIT, or instead of it.
    pub fn answer(self, result: Result<(), Refused>) {
        drop(self.room);
        // An adapter that no longer waits for its receipt needs no answer.
        let _gone = self.answer.send(result);
    }
}

impl Receipt {
    /// Returns when the transaction with these samples is on disk, or was refused.
    pub async fn committed(self) -> Result<(), Refused> {
        self.0.await.unwrap_or(Err(Refused::Closed))
    }
}
