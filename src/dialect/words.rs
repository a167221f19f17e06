//! Words of devices and platforms, made fit to be shown: cut, escaped, without tokens (I11).
//!
//! Not here: what they mean. That is each dialect's. Sans-IO.

use adapter_api::steers;

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

/// A platform's reason: at most [`REASON_BYTES`], nothing that steers a terminal, never `token`.
pub(super) fn reason(text: &str, token: &str) -> String {
    let mut escaped = String::new();
    for c in mask(text, token).chars() {
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
    let masked = mask(&escaped, token);
    let shown = cut(&masked, REASON_BYTES);
    if !token.is_empty() && shown.contains(token) { String::new() } else { shown.to_owned() }
}

fn mask(text: &str, token: &str) -> String {
    if token.is_empty() { text.to_owned() } else { text.replace(token, "***") }
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
            assert_eq!(reason(text, token), shown, "{text:?}");
        }
        assert_eq!(reason(&"é".repeat(200), "T"), "é".repeat(128));
    }

    proptest! {
        #[test]
        fn no_reason_holds_its_token(text in ".{0,400}", token in ".{1,3}") {
            let shown = reason(&format!("{text}{token}{text}"), &token);
            prop_assert!(!shown.contains(&token) && shown.len() <= REASON_BYTES && !shown.chars().any(steers));
        }
    }
}
