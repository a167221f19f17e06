//! A path on the wire. It may carry a token, so what is shown of it has the endpoint's name instead (I11).

use adapter_api::EndpointName;
use std::{fmt, ops::Range};

/// An MQTT topic, topic filter or HTTP path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Path {
    wire: String,
    /// Where tokens stand in `wire`, and whose.
    tokens: Vec<Range<usize>>,
    endpoint: Option<EndpointName>,
}

/// Writes a path piece by piece and notes where tokens stand.
#[derive(Debug)]
pub struct PathWriter(Path);

impl Path {
    /// A path without tokens.
    pub fn open(wire: &str) -> Self {
        Self { wire: wire.to_owned(), tokens: Vec::new(), endpoint: None }
    }

    /// Starts a path of `endpoint`.
    pub fn of(endpoint: &EndpointName) -> PathWriter {
        PathWriter(Self { wire: String::new(), tokens: Vec::new(), endpoint: Some(endpoint.clone()) })
    }

    /// What goes on the wire.
    pub fn expose(&self) -> &str {
        &self.wire
    }
}

impl PathWriter {
    /// Appends what may be shown.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.0.wire.push_str(text);
        self
    }

    /// Appends what may not.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        let start = self.0.wire.len();
        self.0.wire.push_str(token);
        self.0.tokens.push(start..self.0.wire.len());
        self
    }

    /// The finished path.
    pub fn done(self) -> Path {
        self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = 0;
        for token in &self.tokens {
            f.write_str(self.wire.get(shown..token.start).unwrap_or_default())?;
            write!(f, "<{}>", self.endpoint.as_ref().map_or("?", EndpointName::as_str))?;
            shown = token.end;
        }
        f.write_str(self.wire.get(shown..).unwrap_or_default())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let endpoint = EndpointName::new("boiler-7").unwrap();
        let path =
            Path::of(&endpoint).text("kp1/av/dcx/").token("SECRET-1").text("/json/").token("SECRET-1").done();
        assert_eq!(path.expose(), "kp1/av/dcx/SECRET-1/json/SECRET-1");
        assert_eq!(
            format!("{path} {path:?}"),
            "kp1/av/dcx/<boiler-7>/json/<boiler-7> kp1/av/dcx/<boiler-7>/json/<boiler-7>"
        );
    }
}
