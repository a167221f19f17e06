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
            /// A text without this secret. One so short that it is part of words is left: it protects nothing.
            pub fn mask(&self, text: &str) -> String {
                if self.0.len() < 4 { text.to_owned() } else { text.replace(&*self.0, "***") }
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

impl Secret {
    /// Whether this is the secret. Takes as long for a wrong one, wherever it differs.
    pub fn is(&self, guess: &str) -> bool {
        let (secret, guess) = (self.0.as_bytes(), guess.as_bytes());
        let differing = secret.iter().zip(guess).fold(0, |differing, (a, b)| differing | (a ^ b));
        std::hint::black_box(differing) == 0 && secret.len() == guess.len()
    }
}

impl EndpointToken {
    /// What no dialect can carry.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.0.is_empty() {
            return Err("is empty");
        }
        if self.0.chars().any(char::is_control) {
            return Err("a token has no control characters and no line breaks");
        }
        Ok(())
    }

    /// Whether it is this name, which everybody sees.
    pub fn is(&self, name: &str) -> bool {
        &*self.0 == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Login,
        dialect::{Correlation, ForeignPath},
        uplink::mqtt::Event,
    };

    #[test]
    fn whatever_holds_a_secret_shows_none() {
        let token = EndpointToken::new("SECRET-1");
        let login = Login { username: "gateway-1".to_owned(), password: Some(Secret::new("SECRET-2")) };
        let correlation = Correlation { token: token.clone(), instance: "dcx".into(), id: 7 };
        let path = ForeignPath::new("kp1/demo/dcx/SECRET-1/json/7/status".to_owned());
        let event: Event<u8> = Event::Inbound(path, Vec::new());
        let shown = format!("{token:?} {login:?} {correlation:?} {event:?}");
        assert!(shown.contains("gateway-1") && shown.contains("id: 7"), "{shown}");
        assert!(!shown.contains("SECRET"), "{shown}");
    }

    #[test]
    fn a_guess_is_right_as_a_whole_or_not_at_all() {
        for (guess, right) in
            [("SECRET-1", true), ("SECRET-2", false), ("SECRET-", false), ("SECRET-11", false), ("", false)]
        {
            assert_eq!(Secret::new("SECRET-1").is(guess), right, "{guess}");
        }
    }

    #[test]
    fn a_text_is_masked() {
        for (token, text, masked) in [
            ("SECRET-1", "not SECRET-1, SECRET-1", "not ***, ***"),
            ("SECRET-1", "SECRET-2", "SECRET-2"),
            // Part of words: it protects nothing.
            ("end", "endpoint", "endpoint"),
        ] {
            assert_eq!(EndpointToken::new(token).mask(text), masked);
        }
    }
}
