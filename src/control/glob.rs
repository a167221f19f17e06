//! Patterns of endpoints' names: `*` stands for anything, `?` for one character. Sans-IO.

/// Whether a name fits a pattern.
pub fn fits(name: &str, pattern: &str) -> bool {
    let (name, pattern): (Vec<char>, Vec<char>) = (name.chars().collect(), pattern.chars().collect());
    let (mut n, mut p) = (0, 0);
    // Where the last `*` is, and how much of the name it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => (n, p) = (n + 1, p + 1),
            _ => {
                // The last `*` stands for one more; an earlier one need not be tried again.
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (n, p) = (from + 1, at + 1);
            }
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// Whether it can fit more than one name.
pub fn is_pattern(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, fitting, others) in [
            ("a", &["a"][..], &["", "b", "aa"][..]),
            ("*", &["", "a", "boiler-7"], &[]),
            ("boiler-*", &["boiler-", "boiler-7"], &["boiler", "a-boiler-7"]),
            ("*-7", &["-7", "b-7", "7-7-7"], &["7", "-7x"]),
            ("b?-*.t", &["b1-.t", "b2-x.t", "b2-x.t.t"], &["b-.t", "b1-.", "b12-.t"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a", "b"]),
            ("?", &["x", "\u{fc}"], &["", "xx"]),
        ] {
            for name in fitting {
                assert!(fits(name, pattern), "{name:?} fits {pattern:?}");
            }
            for name in others {
                assert!(!fits(name, pattern), "{name:?} does not fit {pattern:?}");
            }
        }
        let hostile = "a".repeat(30) + "b";
        assert!(!fits(&"a".repeat(64), &format!("{}{hostile}", "*a".repeat(500))), "and ends soon");
    }
}
