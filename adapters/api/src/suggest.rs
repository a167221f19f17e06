//! "Did you mean ...": the known names nearest to one that is not known. Sans-IO.

/// The nearest of the known names, if it is near enough to have been meant.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let name = plain(name);
    // Long enough for any name of ours, short enough that a hostile key costs nothing.
    if name.is_empty() || name.len() > 128 {
        return None;
    }
    let limit = (name.chars().count() / 3).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let other = plain(candidate);
        // `ca` for `ca_file`, `password` for `password_file`.
        let shortened = other.strip_prefix(&name).is_some_and(|rest| rest.starts_with('_'));
        let distance = if shortened { 1 } else { distance(&name, &other) };
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The same for a hint.
pub fn did_you_mean<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    nearest(name, known).map(|near| format!("did you mean `{near}`?"))
}

/// All known names, the nearest first; of those equally near in the order given.
pub fn by_nearness<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Vec<&'k str> {
    let mut known: Vec<&str> = known.into_iter().collect();
    // Long enough for any name of ours, short enough that a hostile one costs nothing.
    let name = plain(name.get(..128).unwrap_or(name));
    if name.len() <= 128 {
        known.sort_by_cached_key(|candidate| {
            let other = plain(candidate);
            (if other.starts_with(&name) { 0 } else { distance(&name, &other) }, other.len())
        });
    }
    known
}

/// What people confuse without thinking.
fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

/// Insertions, deletions, changes and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (row, from) in a.chars().enumerate() {
        let mut here = vec![row.saturating_add(1)];
        for (column, &to) in b.iter().enumerate() {
            let at =
                |cells: &[usize], n: usize| cells.get(n).copied().unwrap_or(usize::MAX).saturating_add(1);
            let changed =
                above.get(column).copied().unwrap_or(usize::MAX).saturating_add(usize::from(from != to));
            let mut least = changed.min(at(&above, column.saturating_add(1))).min(at(&here, column));
            if let Some(left) = column.checked_sub(1)
                && previous == Some(to)
                && b.get(left) == Some(&from)
            {
                least = least.min(at(&before, left));
            }
            here.push(least);
        }
        before = std::mem::replace(&mut above, here);
        previous = Some(from);
    }
    above.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["keep_alive", "password_file", "ca_file", "unit", "urls", "kind"];
        for (name, near) in [
            ("keepalive", Some("keep_alive")),
            ("keep-alive", Some("keep_alive")),
            ("password", Some("password_file")),
            ("CA", Some("ca_file")),
            ("uint", Some("unit")),
            ("url", Some("urls")),
            ("knid", Some("kind")),
            ("colour", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, known), near, "{name}");
        }
        assert_eq!(by_nearness("sdm12", ["sdm630", "ai8", "sdm120"]), ["sdm120", "sdm630", "ai8"]);
        assert_eq!(by_nearness("", ["b", "a"]), ["b", "a"]);
        assert_eq!((distance("", "abc"), distance("ab", "ba"), distance("abc", "")), (3, 1, 3));
    }
}
