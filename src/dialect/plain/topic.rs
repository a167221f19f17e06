//! Topic templates: `site/{tenant}/{endpoint}/{resource}`. Sans-IO.
//!
//! A resource's name becomes a part of one level: `/ + #`, control characters and `%` itself are
//! percent-encoded (`%2F`), so that two names never share a topic and each can be had back.

use super::super::{KeyFault, Path, fault};
use crate::endpoints::Endpoint;
use serde::Deserialize;

/// A topic template, read once. Faults are kept for `check`, so that a file shows all of its faults at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Topic {
    parts: Vec<Part>,
    fault: Option<Fault>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Tenant,
    Endpoint,
    Token,
    Resource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Empty,
    TooLong,
    Forbidden,
    Brace,
    Unknown(String),
}

/// More is no topic a broker takes together with long names (MQTT 3.1.1 §1.5.3: 65,535 bytes in all).
const TEMPLATE_BYTES: usize = 1_024;
const KNOWN: &str = "a topic knows {tenant}, {endpoint}, {token} and {resource}";

impl From<String> for Topic {
    fn from(template: String) -> Self {
        let (parts, unread) = read(&template);
        let forbidden = |c: char| matches!(c, '+' | '#') || c.is_control();
        let fault = if template.is_empty() {
            Some(Fault::Empty)
        } else if template.len() > TEMPLATE_BYTES {
            Some(Fault::TooLong)
        } else if template.contains(forbidden) {
            Some(Fault::Forbidden)
        } else {
            unread
        };
        Self { parts, fault }
    }
}

impl Default for Topic {
    fn default() -> Self {
        Self::from("tidegate/{endpoint}/telemetry".to_owned())
    }
}

impl Topic {
    /// What is wrong with the template.
    pub(super) fn check(&self) -> Option<KeyFault> {
        let (why, hint) = match self.fault.as_ref()? {
            Fault::Empty => ("the topic is empty".to_owned(), "leave the key out for the default"),
            Fault::TooLong => {
                (format!("a topic's template has at most {TEMPLATE_BYTES} bytes"), "shorten it")
            }
            Fault::Forbidden => (
                "a topic to publish on has no '+', '#' or control character".to_owned(),
                "wildcards are for subscribers; each endpoint's topic comes from {endpoint}",
            ),
            Fault::Brace => ("a brace without its other half".to_owned(), KNOWN),
            Fault::Unknown(name) => (format!("no such placeholder: {{{}}}", name.escape_debug()), KNOWN),
        };
        Some(fault("topic", &why, Some(hint)))
    }

    /// Whether each reading has its own topic.
    pub(super) fn names_resource(&self) -> bool {
        self.parts.contains(&Part::Resource)
    }

    /// Whether tokens are part of the topic.
    pub(super) fn names_token(&self) -> bool {
        self.parts.contains(&Part::Token)
    }

    /// The topic of an endpoint, or of one of its resources by its name on the wire.
    pub(super) fn path(&self, endpoint: &Endpoint, resource: &str) -> Path {
        let start = Path::of(&endpoint.key.name);
        let path = self.parts.iter().fold(start, |path, part| match part {
            Part::Text(text) => path.text(text),
            Part::Tenant => path.text(endpoint.key.tenant.as_str()),
            Part::Endpoint => path.text(endpoint.key.name.as_str()),
            Part::Token => path.token(endpoint.token.expose()),
            Part::Resource => path.text(&level(resource)),
        });
        path.done()
    }
}

/// Reads a template; what cannot be read stays as it is, with the first fault.
fn read(template: &str) -> (Vec<Part>, Option<Fault>) {
    let (mut parts, mut fault, mut rest) = (Vec::new(), None, template);
    while let Some((text, behind)) = rest.split_once('{') {
        if text.contains('}') {
            fault = fault.or(Some(Fault::Brace));
        }
        parts.push(Part::Text(text.to_owned()));
        let Some((name, behind)) = behind.split_once('}') else {
            return (parts, fault.or(Some(Fault::Brace)));
        };
        parts.push(match name {
            "tenant" => Part::Tenant,
            "endpoint" => Part::Endpoint,
            "token" => Part::Token,
            "resource" => Part::Resource,
            _ => {
                fault = fault.or_else(|| Some(Fault::Unknown(name.to_owned())));
                Part::Text(format!("{{{name}}}"))
            }
        });
        rest = behind;
    }
    if rest.contains('}') {
        fault = fault.or(Some(Fault::Brace));
    }
    parts.push(Part::Text(rest.to_owned()));
    (parts, fault)
}

fn level(name: &str) -> String {
    let mut level = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '/' | '+' | '#' | '%') || c.is_control() {
            let mut bytes = [0; 4];
            level.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
        } else {
            level.push(c);
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, why: &str) {
        let fault = Topic::from(template.to_owned()).check();
        assert_eq!(fault.as_ref().map_or("", |fault| fault.1.as_str()), why, "{template}");
        assert!(fault.is_none_or(|(path, _, hint)| path == ["topic"] && hint.is_some()));
    }

    #[test]
    fn a_template_knows_its_placeholders() {
        for good in ["t", "/t/", "{tenant}/{endpoint}/{token}/{resource}", "a{resource}b", "é/{endpoint}"] {
            check(good, "");
        }
        check("", "the topic is empty");
        check("a/{device}/b", "no such placeholder: {device}");
        check("a/{}", "no such placeholder: {}");
        check("a/{\u{7f}}", "a topic to publish on has no '+', '#' or control character");
        for brace in ["a/{endpoint", "a}/b", "{endpoint}}", "a/}{endpoint}"] {
            check(brace, "a brace without its other half");
        }
        for wild in ["a/+/b", "a/#", "a\0b", "a\nb", "{+}"] {
            check(wild, "a topic to publish on has no '+', '#' or control character");
        }
        check(&"a".repeat(1_025), "a topic's template has at most 1024 bytes");
    }

    #[test]
    fn a_resource_stays_in_its_level() {
        for (name, encoded) in [
            ("temperature", "temperature"),
            ("a/b", "a%2Fb"),
            ("a+b#c", "a%2Bb%23c"),
            ("a\0b", "a%00b"),
            ("humidity %", "humidity %25"),
            ("a%2Fb", "a%252Fb"),
            ("t°", "t°"),
            ("\u{9b}", "%C2%9B"),
        ] {
            assert_eq!(level(name), encoded, "{name:?}");
        }
    }
}
