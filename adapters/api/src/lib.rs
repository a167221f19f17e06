//! The contract between Tidegate and its protocol adapters.
//!
//! An adapter speaks *endpoints* and knows nothing of tokens, dialects or the store. It hands
//! [`Sample`]s to its [`Intake`] and answers a device only after the [`Receipt`] says that the
//! transaction holding them was committed (I1).
//!
//! Not here: anything that touches SQLite or the uplink.

mod adapter;
pub mod clock;
mod escape;
mod fault;
pub mod field;
mod health;
pub mod inquiry;
mod intake;
pub mod journal;
mod load;
mod names;
mod sample;
mod span;
pub mod suggest;
#[cfg(feature = "test-hooks")]
pub mod test_adapter;
#[cfg(feature = "test-hooks")]
pub mod testkit;

pub use adapter::{Adapter, AdapterCx, Devices, Failure, Issue, Place};
pub use clock::{Clock, Instant};
pub use escape::{shown, steers};
pub use fault::{Fault, FaultKind};
pub use health::{Board, Health, Presence, Reporter, Roll};
pub use inquiry::Inquiries;
pub use intake::{
    Intake, Offer, Quota, Receipt, Refused, Submission, SubmitError, UNIT_BYTES, UNIT_SUBMISSIONS, Urgency,
    channel,
};
pub use names::{EndpointName, NameError, Resource};
pub use sample::{AboveI64, Finite, Quality, Reading, Sample, Source, Stamp, Value};
pub use span::{Span, SpanError};
pub use tokio_util::sync::CancellationToken;
