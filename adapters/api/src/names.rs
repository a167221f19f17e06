//! Names that both sides of the contract check the same way.

use serde::{Deserialize, Serialize};
use std::{borrow::Borrow, fmt, sync::Arc};

/// Why a name was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An endpoint's name is `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    #[error(
        "an endpoint's name has 1 to 64 letters, digits, '.', '_' or '-' and starts with a letter or digit"
    )]
    Endpoint,
    /// A resource's name has 1 to 128 bytes without control characters.
    #[error("a resource's name has 1 to 128 bytes and no control characters")]
    Resource,
}

/// The name of an endpoint: the thing the platform knows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointName(Arc<str>);

/// The name of a resource: a named quantity of an endpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resource(Arc<str>);

impl EndpointName {
    /// Checks a name against the rule for endpoints.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if first && rest && name.len() <= 64 { Ok(Self(name.into())) } else { Err(NameError::Endpoint) }
    }
}

impl Resource {
    /// Checks a name against the rule for resources.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if (1..=128).contains(&name.len()) && !name.chars().any(char::is_control) {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Resource)
        }
    }
}

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
name!(EndpointName);
name!(Resource);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_rules() {
        for (name, good) in [
            ("boiler-7", true),
            ("7", true),
            ("", false),
            (".a", false),
            ("a b", false),
            ("a/b", false),
            ("é", false),
        ] {
            assert_eq!(EndpointName::new(name).is_ok(), good, "{name}");
        }
        assert!(EndpointName::new(&"a".repeat(64)).is_ok());
        assert!(EndpointName::new(&"a".repeat(65)).is_err());
        for (name, good) in
            [("Spannung L1", true), ("", false), ("a\nb", false), ("\u{9b}31m", false), ("t°", true)]
        {
            assert_eq!(Resource::new(name).is_ok(), good, "{name:?}");
        }
        assert!(Resource::new(&"a".repeat(129)).is_err());
    }
}
