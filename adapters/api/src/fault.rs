//! A fault as it is told: a code `TG-xxx`, what happened, where, the likely cause, what to do.
//!
//! Not here: which faults there are. Those of devices are in `field` and in the adapters, all others
//! in the daemon's own tables.

use crate::shown;
use serde::Serialize;
use std::{borrow::Cow, fmt};

/// What is the same every time: a row of a table of faults. A code is never given to another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultKind {
    /// `TG-101`
    pub code: &'static str,
    /// What it mostly comes from.
    pub cause: &'static str,
    /// What a person can do.
    pub todo: &'static str,
}

/// A fault as it is told. No type names of the program, no bare errors of the system, no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Which one of the tables.
    pub code: &'static str,
    /// What happened.
    pub what: String,
    /// A key, a device, an address.
    #[serde(rename = "where")]
    pub place: String,
    /// What it mostly comes from.
    pub cause: &'static str,
    /// What a person can do.
    pub todo: Cow<'static, str>,
}

impl Fault {
    /// A fault with the cause and the remedy of its kind.
    pub fn new(kind: impl Into<FaultKind>, what: impl Into<String>, place: impl Into<String>) -> Self {
        let FaultKind { code, cause, todo } = kind.into();
        Self { code, what: what.into(), place: place.into(), cause, todo: todo.into() }
    }

    /// With a remedy for just this case.
    #[must_use]
    pub fn with_remedy(mut self, todo: String) -> Self {
        self.todo = todo.into();
        self
    }

    /// Into the journal: nothing goes on without a person.
    pub fn log_error(&self, result: &'static str) {
        let Self { code, what, place, cause, todo } = self;
        tracing::error!(code, what, r#where = place, cause, todo = &**todo, "{result}");
    }

    /// Into the journal: it is worse than it was, and mends itself.
    pub fn log_warning(&self, result: &'static str) {
        let Self { code, what, place, cause, todo } = self;
        tracing::warn!(code, what, r#where = place, cause, todo = &**todo, "{result}");
    }

    /// The four parts on lines of their own, escaped.
    pub fn lines(&self) -> String {
        let Self { code, what, place, cause, todo } = self;
        let (what, place, todo) = (shown(what), shown(place), shown(todo));
        format!("{code} {what}\n  where: {place}\n  cause: {cause}\n  to do: {todo}")
    }
}

/// Code and what happened, on one line.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.code, shown(&self.what), shown(&self.place))
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_in_four_parts_and_escaped() {
        let kind = FaultKind { code: "TG-102", cause: "the cause", todo: "the remedy" };
        let fault = Fault::new(kind, "no\u{1b}[2J", "broker\nport 1");
        assert_eq!(fault.to_string(), "TG-102 no\\u{1b}[2J (broker\\u{a}port 1)");
        assert_eq!(fault.lines().lines().count(), 4);
        assert_eq!(fault.with_remedy("another one".to_owned()).todo, "another one");
    }
}
