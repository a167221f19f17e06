//! What a platform wants on the wire. Sans-IO.
//!
//! A dialect is a pure codec: it turns samples into frames, says *when an item counts as delivered*
//! and *what a refusal means*. It tracks nothing: `uplink/outflow.rs` does.
//!
//! | file | responsible for |
//! |---|---|
//! | `mod` | the contract between the uplink and any dialect |
//! | `path` | paths that may carry a token and do not show it |
//! | `kaa` | Kaa 1/KP: requests, replies, what their codes mean |
//! | `plain` | any MQTT broker: topic templates, bare values |
//! | `object` | a sample as one flat object, in JSON and CBOR; shared |
//! | `resources` | what can be wrong with names and tokens on the wire; shared |
//! | `words` | the platform's words, made fit to be shown; shared |
//!
//! A new dialect is a new file beside `plain`, a variant of [`Dialect`] and its arms below.
//! The golden vectors are in `tests/data/dialect/`.

#[cfg(test)]
mod arbitrary;
pub mod kaa;
mod object;
mod path;
pub mod plain;
mod resources;
mod words;

use crate::{
    config::secret::EndpointToken,
    endpoints::{Endpoint, EndpointKey},
};
use adapter_api::{Issue, Resource, Sample};
pub use object::{Format, QualityMode, TimestampFormat};
pub use path::{ForeignPath, Path, PathWriter};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
pub use words::Words;

/// The dialect of this process: one platform profile.
#[derive(Debug, Clone, PartialEq)]
pub enum Dialect {
    /// Kaa 1/KP.
    Kaa(kaa::Kaa),
    /// Any MQTT broker.
    Plain(plain::Plain),
}

/// MQTT's quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "i64")]
pub enum Qos {
    /// 0
    AtMostOnce,
    /// 1
    #[default]
    AtLeastOnce,
}

/// Not a quality of service we offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("qos is 0 or 1")]
pub struct NoSuchQos;

impl TryFrom<i64> for Qos {
    type Error = NoSuchQos;
    fn try_from(number: i64) -> Result<Self, NoSuchQos> {
        match number {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            _ => Err(NoSuchQos),
        }
    }
}

/// Something wrong in a dialect's own table: the keys inside it, outermost first; what is wrong; what to do.
pub type KeyFault = (Vec<String>, String, Option<String>);

fn fault(key: &str, why: &str, hint: Option<&str>) -> KeyFault {
    (vec![key.to_owned()], why.to_owned(), hint.map(str::to_owned))
}

/// What a dialect wants sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Topic, HTTP path, or a field of a CBOR frame.
    pub path: Path,
    /// Payload.
    pub body: Vec<u8>,
    /// How MQTT carries it.
    pub qos: Qos,
}

/// The leading samples of a flight, ready for the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// To be sent in order; the samples are delivered when each of them is confirmed. Without frames
    /// (a sample without readings, where each reading is a frame) they are delivered at once.
    pub frames: Vec<Frame>,
    /// The platform's own answer that confirms them, where the dialect has one ([`Dialect::replies`]);
    /// otherwise the link does: QoS 1 by its PUBACK, QoS 0 by taking them.
    pub reply: Option<Correlation>,
    /// How many leading samples are in `frames`: at least one.
    pub taken: usize,
}

/// What ties a platform's answer to a request. All three must match (a reply of another endpoint or
/// another extension instance with the same id confirms nothing).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Correlation {
    /// Whose request.
    pub token: EndpointToken,
    /// The extension instance it went to.
    pub instance: Arc<str>,
    /// Its request id.
    pub id: u32,
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// The platform processed a request.
    Delivered(Correlation),
    /// The platform refused a request.
    Refused {
        /// Which one.
        correlation: Correlation,
        /// What that means.
        refusal: Refusal,
        /// In the platform's words.
        reason: Words,
    },
    /// Not for us, or not understood: counted, never acted on. Says why, without tokens.
    Ignored(&'static str),
}

/// What a refusal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This payload is wrong.
    Item,
    /// Not now.
    Later {
        /// What the platform asked for.
        after: Option<Duration>,
    },
    /// This endpoint is not welcome.
    Endpoint,
    /// Nothing on this session is.
    Session,
}

/// A sample cannot go up in this dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Alone it is over the payload limit.
    #[error("payload of {bytes} bytes is over uplink.max_payload of {limit}")]
    TooLarge {
        /// Size of the frame's body.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Which session carries an endpoint. `None`: all endpoints of the tenant share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub Option<EndpointKey>);

impl Dialect {
    /// Encodes leading samples of one endpoint: as many as fit one frame.
    ///
    /// `samples` is not empty. `next_id` gives request ids that are unique across connections and restarts.
    pub fn encode(
        &self,
        endpoint: &Endpoint,
        samples: &[&Sample],
        max_payload: usize,
        next_id: &mut dyn FnMut() -> u32,
    ) -> Result<Encoded, EncodeError> {
        match self {
            Self::Kaa(kaa) => kaa.encode(endpoint, samples, max_payload, next_id),
            Self::Plain(plain) => plain.encode(endpoint, samples, max_payload),
        }
    }

    /// Most samples one frame takes.
    pub fn batch(&self) -> usize {
        match self {
            Self::Kaa(kaa) => kaa.config.batch,
            Self::Plain(plain) => plain.config.batch,
        }
    }

    /// Understands what came in.
    pub fn decode(&self, path: &str, body: &[u8]) -> Inbound {
        match self {
            Self::Kaa(kaa) => kaa.decode(path, body),
            Self::Plain(_) => Inbound::Ignored("this dialect expects nothing"),
        }
    }

    /// Whether a confirmation can refuse: then one part of a lane flies at a time.
    pub fn replies(&self) -> bool {
        matches!(self, Self::Kaa(_))
    }

    /// Filters that serve all endpoints of a session.
    pub fn common_subscriptions(&self) -> Vec<Path> {
        match self {
            Self::Kaa(kaa) => kaa.common_subscriptions(),
            Self::Plain(_) => Vec::new(),
        }
    }

    /// Filters without which a request of this endpoint could not be answered.
    pub fn subscriptions(&self, endpoint: &Endpoint) -> Vec<Path> {
        match self {
            Self::Kaa(kaa) => kaa.subscriptions(endpoint),
            Self::Plain(_) => Vec::new(),
        }
    }

    /// Which session carries this endpoint.
    pub fn session_key(&self, _endpoint: &Endpoint) -> SessionKey {
        // Kaa's credential speaks for every endpoint of its tenant, and so does a broker's login.
        SessionKey(None)
    }

    /// What is wrong with the dialect's own table.
    pub fn check_config(&self) -> Vec<KeyFault> {
        match self {
            Self::Kaa(kaa) => kaa.config.check(),
            Self::Plain(plain) => plain.config.check(),
        }
    }

    /// What is wrong with an endpoint's token in this dialect, without the token.
    pub fn check_token(&self, token: &EndpointToken) -> Result<(), &'static str> {
        match self {
            Self::Kaa(_) => kaa::check_token(token),
            Self::Plain(plain) => plain.check_token(token),
        }
    }

    /// What is wrong with an endpoint's resources in this dialect.
    pub fn check(&self, endpoint: &Endpoint, resources: &[Resource]) -> Vec<Issue> {
        match self {
            Self::Kaa(kaa) => kaa.check(endpoint, resources),
            Self::Plain(plain) => plain.check(endpoint, resources),
        }
    }
}
