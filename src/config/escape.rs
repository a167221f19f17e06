//! Text of a file, made safe to show on a terminal and in a journal.

use std::fmt;

/// Shows text with control and bidirectional characters escaped.
pub(crate) fn shown(text: &str) -> impl fmt::Display {
    struct Shown<'t>(&'t str);
    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            use fmt::Write;
            for c in self.0.chars() {
                if c.is_control() || is_bidi(c) {
                    write!(f, "\\u{{{:x}}}", u32::from(c))?;
                } else {
                    f.write_char(c)?;
                }
            }
            Ok(())
        }
    }
    Shown(text)
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
