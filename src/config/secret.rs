//! Values that are never printed (I11): `Debug` shows a placeholder, there is no `Display`, and
//! `expose` is the one greppable way out.

use serde::Deserialize;
use std::{fmt, sync::Arc};

/// A password or key.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(Arc<str>);

/// An endpoint's credential, which is also its name on the wire.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
pub struct EndpointToken(Arc<str>);

macro_rules! secret {
    ($name:ident) => {
        impl $name {
            /// Wraps a secret.
            pub fn new(secret: &str) -> Self {
                Self(secret.into())
            }
            /// The secret itself: for the wire only.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("***")
            }
        }
    };
}
secret!(Secret);
secret!(EndpointToken);
