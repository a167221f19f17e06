//! What is wrong with a configuration, and where: findings with file, line, column and key.
//!
//! A finding never quotes the file: the line may hold a secret (I11).
//!
//! Not here: what the rules are. Those are with what they are about (`uplink`, `endpoints`, `adapters`,
//! and every adapter's and dialect's own `check`).

use super::excerpt::{Line, excerpt};
use crate::fault::Code;
use adapter_api::shown;
use std::{borrow::Cow, collections::BTreeSet, fmt, ops::Range, sync::Arc};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration is not taken.
    Error,
    /// A file it names is of no use as it is. `check` does not take that; the daemon starts all the same
    /// and tells it: it reads the file again at each connection, and readings are kept until then.
    Unusable,
    /// It is taken, and probably not what was meant.
    Warning,
}

/// Something wrong at one place of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of fault it is, where that has a code.
    pub code: Option<Code>,
    /// As it was given to us.
    pub file: Arc<str>,
    /// From 1; 0 where the file could not even be read.
    pub line: usize,
    /// In characters, from 1; 0 where the file could not even be read.
    pub column: usize,
    /// As in `endpoints.boiler-7.modbus.unit`; empty where the file is not TOML.
    pub key: String,
    /// What is wrong. Never holds a secret, nor any of the file's lines.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Everything that was found in a configuration that is not taken: at least one error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

/// A key by the tables above it. Shown as people write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct KeyPath(Vec<String>);

/// Which half of `key = value` a finding points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Key,
    Value,
}

/// Collects findings about one file.
#[derive(Debug)]
pub(super) struct Notes<'d> {
    file: Arc<str>,
    text: &'d str,
    /// Where each line starts.
    lines: Vec<usize>,
    doc: Option<&'d Spanned<DeTable<'d>>>,
    findings: Vec<Finding>,
    /// Keys that could not be read, so that nothing follows from their absence.
    unread: BTreeSet<KeyPath>,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error | Self::Unusable => "error",
            Self::Warning => "warning",
        })
    }
}

/// `file:line:column: error[TG-301]: key: what`, the code where there is one, and the hint on a line of its own.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", shown(&self.file))?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}", self.severity)?;
        if let Some(code) = self.code {
            write!(f, "[{}]", code.id())?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", brief(&self.key))?;
        }
        write!(f, "{}", shown(&brief(&self.what)))?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {}", shown(&brief(hint))),
            None => Ok(()),
        }
    }
}

/// Names of the file may be of any length; what people read is not.
fn brief(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

/// In characters.
const LONGEST: usize = 1_024;

impl Findings {
    /// Of a file that could not be read.
    pub(super) fn unreadable(file: &Arc<str>, what: &str, hint: Option<&str>) -> Self {
        Self(vec![Finding {
            severity: Severity::Error,
            code: Some(Code::FileUnreadable),
            file: file.clone(),
            line: 0,
            column: 0,
            key: String::new(),
            what: what.to_owned(),
            hint: hint.map(str::to_owned),
        }])
    }

    /// All findings, errors and warnings, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// As many of them as can be read.
    pub fn excerpt(&self) -> Vec<Line<'_>> {
        excerpt(&self.0)
    }
}

/// One finding after the other.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, line) in self.excerpt().into_iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

impl KeyPath {
    pub(super) fn new(keys: &[&str]) -> Self {
        Self(keys.iter().map(|&key| key.to_owned()).collect())
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.below([key.to_owned()])
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.key(&index.to_string())
    }

    pub(super) fn below(&self, keys: impl IntoIterator<Item = String>) -> Self {
        Self(self.0.iter().cloned().chain(keys).collect())
    }

    /// The tables it is in, outermost first, and itself.
    fn keys(&self) -> &[String] {
        &self.0
    }

    fn is_at_or_below(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    fn parent(&self) -> Option<Self> {
        self.0.split_last().map(|(_, above)| Self(above.to_vec()))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, key) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(".")?;
            }
            let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            if !key.is_empty() && key.bytes().all(bare) {
                f.write_str(key)?;
            } else {
                write!(f, "\"{}\"", shown(key))?;
            }
        }
        Ok(())
    }
}

impl<'d> Notes<'d> {
    pub(super) fn new(file: &Arc<str>, text: &'d str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at.saturating_add(1)));
        let lines = lines.collect();
        Self { file: file.clone(), text, lines, doc: None, findings: Vec::new(), unread: BTreeSet::new() }
    }

    /// The document in which keys are looked for from now on.
    pub(super) fn of(mut self, doc: &'d Spanned<DeTable<'d>>) -> Self {
        self.doc = Some(doc);
        self
    }

    /// Not TOML: there are no keys yet. One mistake makes others, so a line has one.
    pub(super) fn syntax(&mut self, span: Option<Range<usize>>, what: &str) {
        let at = span.map_or(self.text.len(), |s| s.start);
        let (line, _) = self.line_and_column(at);
        if !self.findings.iter().any(|f| f.line == line) {
            self.push(Severity::Error, Some(Code::NotToml), at, String::new(), what.to_owned(), None);
        }
    }

    pub(super) fn error(&mut self, path: &KeyPath, what: impl Into<String>) {
        self.add(Severity::Error, path, Half::Value, what.into(), None);
    }

    pub(super) fn error_with(&mut self, path: &KeyPath, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Error, path, Half::Value, what.into(), Some(hint.into()));
    }

    pub(super) fn warn(&mut self, path: &KeyPath, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warning, path, Half::Value, what.into(), Some(hint.into()));
    }

    /// A warning of a kind that has a code.
    pub(super) fn warn_of(&mut self, code: Code, path: &KeyPath, what: String, hint: &str) {
        self.add_of(Severity::Warning, code, path, Half::Value, what, Some(hint.to_owned()));
    }

    /// A file that is of no use as it is.
    pub(super) fn unusable(&mut self, code: Code, path: &KeyPath, what: String, hint: &str) {
        self.add_of(Severity::Unusable, code, path, Half::Value, what, Some(hint.to_owned()));
    }

    /// An error, unless it only follows from one that is known.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        path: &KeyPath,
        half: Half,
        what: String,
        hint: Option<String>,
    ) {
        if self.is_unread(path) {
            return;
        }
        let at = self.position(path, half);
        let key = self.shown(path);
        self.push(severity, None, at, key, what, hint);
    }

    /// An error of a kind that has a code, unless it only follows from one that is known.
    pub(super) fn fault(
        &mut self,
        code: Code,
        path: &KeyPath,
        half: Half,
        what: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add_of(Severity::Error, code, path, half, what.into(), hint);
    }

    fn add_of(
        &mut self,
        severity: Severity,
        code: Code,
        path: &KeyPath,
        half: Half,
        what: String,
        hint: Option<String>,
    ) {
        let before = self.findings.len();
        self.add(severity, path, half, what, hint);
        if let Some(added) = self.findings.get_mut(before) {
            added.code = Some(code);
        }
    }

    /// Nothing follows from the absence of this key.
    pub(super) fn unread(&mut self, path: KeyPath) {
        self.unread.insert(path);
    }

    /// Whether the key, or a table it is in, could not be read.
    pub(super) fn is_unread(&self, path: &KeyPath) -> bool {
        let mut path = Some(path.clone());
        while let Some(at) = path {
            if self.unread.contains(&at) {
                return true;
            }
            path = at.parent();
        }
        false
    }

    /// Whether the key, or one in its table, could not be read.
    pub(super) fn is_partial(&self, path: &KeyPath) -> bool {
        self.unread.range(path.clone()..).next().is_some_and(|at| at.is_at_or_below(path))
    }

    /// Whether there is an error so far.
    pub(super) fn has_errors(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Error)
    }

    /// Whether the file says anything at this very key.
    pub(super) fn has(&self, path: &KeyPath) -> bool {
        let Some(mut table) = self.doc.map(Spanned::get_ref) else { return false };
        let Some((last, above)) = path.keys().split_last() else { return true };
        for key in above {
            match table.get(key.as_str()).map(Spanned::get_ref) {
                Some(DeValue::Table(inner)) => table = inner,
                _ => return false,
            }
        }
        table.contains_key(last.as_str())
    }

    /// The findings if there is an error among them; else the warnings.
    pub(super) fn finish(mut self) -> Result<Vec<Finding>, Findings> {
        self.findings.sort_by_key(|f| (f.line, f.column));
        self.findings.dedup();
        if self.has_errors() {
            return Err(Findings(self.findings));
        }
        Ok(self.findings)
    }

    fn push(
        &mut self,
        severity: Severity,
        code: Option<Code>,
        at: usize,
        key: String,
        what: String,
        hint: Option<String>,
    ) {
        let (line, column) = self.line_and_column(at);
        self.findings.push(Finding {
            severity,
            code,
            file: self.file.clone(),
            line,
            column,
            key,
            what,
            hint,
        });
    }

    /// Where a key stands; for one that is missing, the innermost table it would be in.
    fn position(&self, path: &KeyPath, half: Half) -> usize {
        let Some(mut table) = self.doc.map(Spanned::get_ref) else { return 0 };
        let mut at = 0;
        let mut keys = path.keys().iter().peekable();
        while let Some(name) = keys.next() {
            let Some((key, mut value)) = table.get_key_value(name.as_str()) else { return at };
            at = if half == Half::Key && keys.peek().is_none() {
                key.span().start
            } else {
                value.span().start
            };
            while let DeValue::Array(items) = value.get_ref() {
                let Some(item) = keys.next().and_then(|n| n.parse::<usize>().ok()).and_then(|n| items.get(n))
                else {
                    return at;
                };
                value = item;
                at = value.span().start;
            }
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => return at,
            }
        }
        at
    }

    /// With `[n]` for the elements of lists.
    fn shown(&self, path: &KeyPath) -> String {
        let Some((last, above)) = path.keys().split_last() else { return String::new() };
        let list = last.parse::<usize>().is_ok() && self.is_list(above);
        if list { format!("{}[{last}]", KeyPath(above.to_vec())) } else { path.to_string() }
    }

    fn is_list(&self, path: &[String]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let first = self.doc.and_then(|doc| doc.get_ref().get(first.as_str()));
        let mut node = first.map(Spanned::get_ref);
        for key in rest {
            node = node.and_then(|n| n.get(key.as_str())).map(Spanned::get_ref);
        }
        node.is_some_and(DeValue::is_array)
    }

    fn line_and_column(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|&start| start <= at);
        let start = line.checked_sub(1).and_then(|n| self.lines.get(n)).copied().unwrap_or_default();
        let before = self.text.get(start..at).map_or(0, |s| s.chars().count());
        (line, before.saturating_add(1))
    }
}
