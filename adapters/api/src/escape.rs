//! Text of files, devices and platforms, made safe to show on a terminal and in a journal.

use std::fmt;

/// Shows text with everything escaped that steers a terminal or turns the direction of writing.
pub fn shown(text: &str) -> impl fmt::Display {
    struct Shown<'t>(&'t str);
    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            use fmt::Write;
            for c in self.0.chars() {
                if steers(c) {
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

/// Control characters, line separators, and what turns the direction of writing.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
