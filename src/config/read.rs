//! From a TOML table to a type, reporting everything that is wrong and not only the first of it.
//!
//! serde stops at its first error. So what is wrong is noted, taken out, and the rest is read again.
//! What serde says is never passed on as it is: it quotes values, and a value may be a secret (I11).

use super::{
    check::{Half, KeyPath, Notes, Severity},
    suggest,
};
use crate::fault::Code;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use std::ops::Range;
use toml::{
    Spanned,
    de::{DeValue, ValueDeserializer},
};

/// Rounds after which the rest of a table goes unreported.
const ROUNDS: usize = 64;

/// What serde complains about.
#[derive(Debug, PartialEq, Eq)]
enum Complaint<'m> {
    UnknownKey { known: Vec<&'m str> },
    Missing(&'m str),
    Choice { known: Vec<&'m str> },
    Type(&'m str),
    Range(&'m str),
    Other(&'m str),
}

/// Reads a table as `T`. `None`, with findings, where that cannot be; `Some` may come with findings too.
///
/// `also` are keys of this table that somebody else reads, for suggestions.
pub(super) fn read<T: DeserializeOwned>(
    notes: &mut Notes<'_>,
    at: &KeyPath,
    node: &Spanned<DeValue<'_>>,
    also: &[&str],
) -> Option<T> {
    if !node.get_ref().is_table() {
        // serde would take a list for a table.
        notes.error(at, format!("expected a table, found {}", kind(node.get_ref())));
        notes.unread(at.clone());
        return None;
    }
    let mut node = node.clone();
    for _ in 0..ROUNDS {
        let error = match serde_path_to_error::deserialize(ValueDeserializer::from(node.clone())) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let path = error.path().iter().map_while(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        let mut round = Round { notes, at, also, node: &mut node };
        if !round.resolve(path.collect(), error.inner()) {
            break;
        }
    }
    notes.unread(at.clone());
    None
}

/// One error, and what it is about.
struct Round<'r, 'd, 'n> {
    notes: &'r mut Notes<'d>,
    at: &'r KeyPath,
    also: &'r [&'r str],
    node: &'r mut Spanned<DeValue<'n>>,
}

impl Round<'_, '_, '_> {
    /// Notes the error and takes its cause out. False where nothing of the table would be left.
    fn resolve(&mut self, mut path: Vec<String>, error: &toml::de::Error) -> bool {
        while find(self.node, &path).is_none() && path.pop().is_some() {}
        match Complaint::of(error.message()) {
            Complaint::UnknownKey { known } => {
                // serde's path includes the key that it does not know.
                if self.key_span(&path).is_some_and(|span| error.span() == Some(span)) {
                    path.pop();
                }
                let strangers = self.strangers(&path, &known);
                for stranger in &strangers {
                    self.unknown(&path, stranger, &known);
                    self.take(&path, stranger);
                }
                !strangers.is_empty()
            }
            Complaint::Missing(key) => {
                let path_to = self.at.below(path.iter().cloned()).key(key);
                self.note(&path_to, Half::Value, "is missing".to_owned(), None);
                self.drop(&path)
            }
            complaint => {
                let key = self.is_key(&path, error);
                let half = if key { Half::Key } else { Half::Value };
                let (what, hint) = match find(self.node, &path) {
                    Some(value) if !key => complaint.about(value),
                    _ => complaint.about(&DeValue::String(path.last().cloned().unwrap_or_default().into())),
                };
                let path_to = self.at.below(path.iter().cloned());
                self.note(&path_to, half, what, hint);
                self.drop(&path)
            }
        }
    }

    fn note(&mut self, path: &KeyPath, half: Half, what: String, hint: Option<String>) {
        self.notes.add(Severity::Error, path, half, what, hint);
        self.notes.unread(path.clone());
    }

    /// Keys of the table that are not among the known ones.
    fn strangers(&self, path: &[String], known: &[&str]) -> Vec<String> {
        let Some(DeValue::Table(table)) = find(self.node, path) else { return Vec::new() };
        let keys = table.keys().map(|key| key.get_ref().as_ref());
        keys.filter(|key| !known.contains(key)).map(str::to_owned).collect()
    }

    fn unknown(&mut self, path: &[String], key: &str, known: &[&str]) {
        let table = self.at.below(path.iter().cloned());
        let also = if path.is_empty() { self.also } else { &[] };
        unknown_key(self.notes, &table, key, known.iter().chain(also).copied());
    }

    /// Whether the error is about the key itself: a name that its type refuses.
    fn is_key(&self, path: &[String], error: &toml::de::Error) -> bool {
        let Some((last, above)) = path.split_last() else { return false };
        let Some(DeValue::Table(table)) = find(self.node, above) else { return false };
        // A table that is only implied has no place of its own but its key's.
        let value = table.get(last.as_str()).map(Spanned::span);
        error.span().is_some() && error.span() == self.key_span(path) && error.span() != value
    }

    fn key_span(&self, path: &[String]) -> Option<Range<usize>> {
        let (last, above) = path.split_last()?;
        let DeValue::Table(table) = find(self.node, above)? else { return None };
        table.get_key_value(last.as_str()).map(|(key, _)| key.span())
    }

    fn take(&mut self, path: &[String], key: &str) {
        if let Some(DeValue::Table(table)) = find_mut(self.node, path) {
            table.remove(key);
        }
    }

    /// Takes out a value. From a list nothing is taken, or the rest would move: the list goes.
    fn drop(&mut self, path: &[String]) -> bool {
        let mut path = path;
        while let Some((last, above)) = path.split_last() {
            if let Some(DeValue::Table(table)) = find_mut(self.node, above) {
                return table.remove(last.as_str()).is_some();
            }
            path = above;
        }
        false
    }
}

/// Notes a key that nobody knows.
pub(super) fn unknown_key<'k>(
    notes: &mut Notes<'_>,
    table: &KeyPath,
    key: &str,
    known: impl IntoIterator<Item = &'k str>,
) {
    let known: Vec<&str> = known.into_iter().collect();
    let near = suggest::nearest(key, known.iter().copied());
    let hint = match near {
        Some("password_file") => {
            Some("a password never stands in this file: put it into a file of its own and name that in `password_file`".to_owned())
        }
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if known.is_empty() => None,
        None => Some(format!("known here: {}", known.join(", "))),
    };
    notes.fault(Code::UnknownKey, &table.key(key), Half::Key, "unknown key", hint);
    notes.unread(table.key(key));
    // What was meant is here, then, if not as it should be.
    if let Some(near) = near.map(|near| table.key(near)).filter(|near| !notes.has(near)) {
        notes.unread(near);
    }
}

impl<'m> Complaint<'m> {
    fn of(message: &'m str) -> Self {
        // A quoted value may hold these words too, so what was expected is what follows them last.
        let expected = || message.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
        if message.starts_with("unknown field ") {
            Self::UnknownKey { known: quoted(expected()) }
        } else if message.starts_with("unknown variant ") {
            Self::Choice { known: quoted(expected()) }
        } else if let Some(key) = message.strip_prefix("missing field `").and_then(|m| m.strip_suffix('`')) {
            Self::Missing(key)
        } else if message.starts_with("invalid type: ") {
            Self::Type(expected())
        } else if message.starts_with("invalid value: ") || message.starts_with("invalid length ") {
            Self::Range(expected())
        } else {
            Self::Other(message)
        }
    }

    /// What is wrong with the value, and what to do.
    fn about(&self, value: &DeValue<'_>) -> (String, Option<String>) {
        match self {
            Self::Type(expected) => (format!("expected {}, found {}", words(expected), kind(value)), None),
            Self::Range(expected) => (format!("out of range: expected {}", words(expected)), None),
            Self::Choice { known } => {
                let hint = value.as_str().and_then(|s| suggest::did_you_mean(s, known.iter().copied()));
                (format!("expected {}", list(known)), hint)
            }
            Self::Other(message) if message.contains("untagged enum") => ("not understood".to_owned(), None),
            Self::Other("wanted string or table") => {
                (format!("expected a string, found {}", kind(value)), None)
            }
            Self::Other("integer number overflowed" | "floating-point number overflowed") => {
                ("the number is too large".to_owned(), None)
            }
            Self::Other(message) => (scrub(message, value), None),
            Self::UnknownKey { .. } | Self::Missing(_) => ("not understood".to_owned(), None),
        }
    }
}

/// A message without the value it is about.
fn scrub(message: &str, value: &DeValue<'_>) -> String {
    let mut message = message.to_owned();
    match value {
        DeValue::String(text) => {
            for quote in ['"', '\'', '`'] {
                message = message.replace(&format!("{quote}{text}{quote}"), "this");
            }
            message = message.replace(&format!("{text:?}"), "this");
            if text.chars().count() >= 4 {
                message = message.replace(text.as_ref(), "...");
            }
        }
        DeValue::Array(items) => {
            for item in items.iter() {
                message = scrub(&message, item.get_ref());
            }
        }
        DeValue::Table(table) => {
            for (_, item) in table {
                message = scrub(&message, item.get_ref());
            }
        }
        _ => {}
    }
    message
}

/// serde's names between backticks.
fn quoted(expected: &str) -> Vec<&str> {
    expected.split('`').skip(1).step_by(2).collect()
}

fn list(known: &[&str]) -> String {
    let known: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
    match known.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => known.concat(),
    }
}

/// What serde expected, in words for people.
fn words(expected: &str) -> String {
    let whole = |max: u64| format!("a whole number from 0 to {max}");
    match expected {
        "u8" => whole(u8::MAX.into()),
        "u16" => whole(u16::MAX.into()),
        "u32" => whole(u32::MAX.into()),
        "u64" | "usize" | "u128" => "a whole number, not below 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" | "i128" => "a whole number".to_owned(),
        "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number above 0".to_owned()
        }
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "path string" => "a path in quotes".to_owned(),
        "a sequence" | "an array" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other if other.starts_with("enum ") || other.starts_with("variant ") => "a string".to_owned(),
        other => other.to_owned(),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn find<'v, 'n>(node: &'v Spanned<DeValue<'n>>, path: &[String]) -> Option<&'v DeValue<'n>> {
    let mut node = node.get_ref();
    for key in path {
        node = match node {
            DeValue::Table(table) => table.get(key.as_str())?.get_ref(),
            DeValue::Array(items) => items.get(key.parse::<usize>().ok()?)?.get_ref(),
            _ => return None,
        };
    }
    Some(node)
}

fn find_mut<'v, 'n>(node: &'v mut Spanned<DeValue<'n>>, path: &[String]) -> Option<&'v mut DeValue<'n>> {
    let mut node = node.get_mut();
    for key in path {
        node = match node {
            DeValue::Table(table) => table.get_mut(key.as_str())?.get_mut(),
            _ => return None,
        };
    }
    Some(node)
}
