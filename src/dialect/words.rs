//! Words of devices and platforms, made fit to be shown: cut, escaped, without tokens (I11).
//!
//! Not here: what they mean. That is each dialect's. Sans-IO.

use crate::config::secret::EndpointToken;
use adapter_api::steers;
use std::fmt;

/// Most bytes of a foreign reason that are kept.
pub(super) const REASON_BYTES: usize = 256;

/// The leading part of `text` that fits `bytes`, cut between characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Longer words are counted and not shown.
const READABLE: usize = 4_096;

/// A platform's words as they came. They may hold tokens, this endpoint's or another's, so there is no way
/// to show them but [`Words::shown`] (I11).
#[derive(Clone, PartialEq, Eq)]
pub struct Words(String);

impl Words {
    /// A code, where there is one, and words.
    pub(super) fn new(code: Option<u16>, text: &str) -> Self {
        let text = match text.len() {
            bytes if bytes > READABLE => format!("and {bytes} bytes of words, not shown"),
            _ => text.to_owned(),
        };
        Self(match code {
            Some(code) => format!("{code} {text}").trim_end().to_owned(),
            None => text,
        })
    }

    /// At most [`REASON_BYTES`], nothing that steers a terminal, and none of these tokens. Of others than
    /// its `own`, one so short that it is part of words is left: it protects nothing.
    pub fn shown<'t>(
        &self,
        own: &'t EndpointToken,
        others: impl IntoIterator<Item = &'t EndpointToken>,
    ) -> String {
        let others = others.into_iter().map(EndpointToken::expose).filter(|token| token.len() >= 4);
        let all = std::iter::once(own.expose()).chain(others);
        let mut found: Vec<&str> = all.filter(|token| mask(&self.0, token).is_some()).collect();
        // The longer first: one may be part of another.
        found.sort_unstable_by_key(|token| std::cmp::Reverse(token.len()));
        // Before it is cut: what is left of a token at the end would be shown.
        let masked = found.iter().fold(self.0.clone(), |text, token| mask(&text, token).unwrap_or(text));
        reason(&masked, own.expose())
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of words", self.0.len())
    }
}

/// A platform's reason: at most [`REASON_BYTES`], nothing that steers a terminal, never `token`.
fn reason(text: &str, token: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if steers(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
        if escaped.len() > 4 * REASON_BYTES {
            break;
        }
    }
    // An odd token can be spelt by the escapes, and one with asterisks by its own mask.
    let masked = mask(&escaped, token).unwrap_or(escaped);
    let shown = cut(&masked, REASON_BYTES);
    if !token.is_empty() && shown.contains(token) { String::new() } else { shown.to_owned() }
}

/// Without the token, as it is and as it is written in an address (RFC 3986 §2.1). `None` if it is not there.
fn mask(text: &str, token: &str) -> Option<String> {
    if token.is_empty() {
        return None;
    }
    let masked = text.contains(token).then(|| text.replace(token, "***"));
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    if token.bytes().all(unreserved) {
        return masked;
    }
    let encode = |b: u8| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    let encoded: String = token.bytes().map(encode).collect();
    let text = masked.as_deref().unwrap_or(text);
    if text.contains(&encoded) { Some(text.replace(&encoded, "***")) } else { masked }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_cut_between_characters() {
        for (text, bytes, left) in
            [("abc", 3, "abc"), ("abc", 2, "ab"), ("aé", 2, "a"), ("é", 1, ""), ("", 0, "")]
        {
            assert_eq!(cut(text, bytes), left, "{text} {bytes}");
        }
    }

    #[test]
    fn a_reason_steers_no_terminal_and_shows_no_token() {
        for (text, token, shown) in [
            ("404 Not Found", "JTjdbENzHh", "404 Not Found"),
            ("no endpoint JTjdbENzHh, JTjdbENzHh", "JTjdbENzHh", "no endpoint ***, ***"),
            ("\u{1b}[31mred\r\n", "T", r"\u{1b}[31mred\u{d}\u{a}"),
            ("a\u{202e}b\u{2066}c\u{200f}", "T", r"a\u{202e}b\u{2066}c\u{200f}"),
            ("Zähler fehlt", "T", "Zähler fehlt"),
            // Only the escape spells this one.
            ("\u{7}", "u{7}", r"\***"),
            // Its own mask spells this one: then nothing is shown.
            ("a*b", "*", ""),
        ] {
            assert_eq!(said(text, token, &[]), shown, "{text:?}");
        }
        assert_eq!(said(&"é".repeat(200), "T", &[]), "é".repeat(128));
    }

    #[test]
    fn tokens_of_others_and_encoded_ones_are_not_shown_either() {
        for (text, token, others, shown) in [
            ("not JTjd but SECRET-2", "JTjd", ["SECRET-2"], "not *** but ***"),
            ("see /SECRET%202%C3%BC", "JTjd", ["SECRET 2ü"], "see /***"),
            // Part of a word.
            ("no endpoint", "JTjd", ["end"], "no endpoint"),
        ] {
            assert_eq!(said(text, token, &others), shown, "{text}");
        }
        // One that the cut goes through.
        let text = format!("{}SECRET-1", "x".repeat(REASON_BYTES - 4));
        let shown = said(&text, "T", &["SECRET-1"]);
        assert!(shown.ends_with("x***") && !shown.contains("SECRET"), "{shown}");
        let words = Words::new(Some(404), &"y".repeat(70_000));
        assert_eq!(words.shown(&EndpointToken::new("T"), []), "404 and 70000 bytes of words, not shown");
        assert!(!format!("{:?}", Words::new(None, "SECRET")).contains("SECRET"));
    }

    fn said(text: &str, token: &str, others: &[&str]) -> String {
        let others: Vec<_> = others.iter().map(|token| EndpointToken::new(token)).collect();
        Words::new(None, text).shown(&EndpointToken::new(token), &others)
    }

    proptest! {
        #[test]
        fn no_reason_holds_its_token(text in ".{0,400}", token in ".{1,3}") {
            let shown = said(&format!("{text}{token}{text}"), &token, &[]);
            prop_assert!(!shown.contains(&token) && shown.len() <= REASON_BYTES && !shown.chars().any(steers));
        }
    }
}
