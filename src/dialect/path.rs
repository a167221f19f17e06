//! A path on the wire. It may carry a token, so what is shown of it has the endpoint's name instead (I11).

use adapter_api::{EndpointName, shown};
use std::{fmt, ops::Range};

/// An MQTT topic, topic filter or HTTP path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Path {
    wire: String,
    /// Where tokens stand in `wire`, and whose.
    tokens: Vec<Range<usize>>,
    endpoint: Option<EndpointName>,
}

/// A path on which something came in: not understood yet, so nothing of it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ForeignPath(String);

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

impl ForeignPath {
    /// As it came.
    pub fn new(wire: String) -> Self {
        Self(wire)
    }

    /// What came on the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ForeignPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a path of {} bytes", self.0.len())
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
        let mut from = 0;
        for token in &self.tokens {
            shown(self.wire.get(from..token.start).unwrap_or_default()).fmt(f)?;
            write!(f, "<{}>", self.endpoint.as_ref().map_or("?", EndpointName::as_str))?;
            from = token.end;
        }
        shown(self.wire.get(from..).unwrap_or_default()).fmt(f)
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
        let odd = Path::of(&endpoint).text("\u{1b}[2J/").token("SECRET-1").text("/\u{202e}").done();
        assert_eq!(odd.to_string(), "\\u{1b}[2J/<boiler-7>/\\u{202e}");
        let foreign = ForeignPath::new("kp1/av/dcx/SECRET-1/json/1/status".to_owned());
        assert_eq!(format!("{foreign:?}"), "a path of 33 bytes");
    }
}
