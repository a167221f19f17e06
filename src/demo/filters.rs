//! Which topics a client has subscribed to (MQTT 3.1.1 §4.7). Sans-IO.

use std::collections::HashMap;

/// Deeper filters are refused: no topic of this platform has so many levels.
const LEVELS: usize = 16;

/// The filters of a connection, by level.
#[derive(Debug, Default)]
pub(super) struct Filters {
    next: HashMap<String, Filters>,
    /// A filter ends here.
    ends: bool,
    /// A filter goes on with `#` from here.
    rest: bool,
}

impl Filters {
    /// Adds a filter. Returns whether it is one.
    pub(super) fn add(&mut self, filter: &str) -> bool {
        let levels: Vec<&str> = filter.split('/').collect();
        let (last, before) = levels.split_last().unwrap_or((&"", &[]));
        let wild = |level: &&str| level.contains('#') || (level.contains('+') && *level != "+");
        let bad = before.iter().any(wild) || (*last != "#" && wild(last));
        if filter.is_empty() || levels.len() > LEVELS || bad {
            return false;
        }
        let mut at = self;
        for level in before {
            at = at.next.entry((*level).to_owned()).or_default();
        }
        if *last == "#" {
            at.rest = true;
        } else {
            at.next.entry((*last).to_owned()).or_default().ends = true;
        }
        true
    }

    /// Whether one of them takes this topic.
    pub(super) fn take(&self, topic: &str) -> bool {
        let levels: Vec<&str> = topic.split('/').collect();
        self.takes(&levels)
    }

    fn takes(&self, levels: &[&str]) -> bool {
        // §4.7.1.2: "#" stands for the level above it, too.
        let Some((level, below)) = levels.split_first() else { return self.ends || self.rest };
        let goes_on = |level: &str| self.next.get(level).is_some_and(|next| next.takes(below));
        self.rest || goes_on(level) || goes_on("+")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filters: &[&str], topic: &str, taken: bool) {
        let mut tree = Filters::default();
        for filter in filters {
            assert!(tree.add(filter), "{filter}");
        }
        assert_eq!(tree.take(topic), taken, "{filters:?} {topic}");
    }

    #[test]
    fn topics_match_as_the_standard_says() {
        check(&[], "a", false);
        check(&["a/b"], "a/b", true);
        check(&["a/b"], "a/b/c", false);
        check(&["a/b"], "a", false);
        check(&["a/+/c"], "a/b/c", true);
        check(&["a/+/c"], "a/b/d", false);
        check(&["a/+"], "a/", true);
        check(&["+/b", "a/c"], "a/b", true);
        check(&["a/#"], "a/b/c", true);
        check(&["a/#"], "a", true);
        check(&["#"], "a/b", true);
        check(&["kp1/v/dcx/t/json/+/status"], "kp1/v/dcx/t/json/42/status", true);
        check(&["kp1/v/dcx/t/json/+/status"], "kp1/v/dcx/t/json/42/error", false);
        check(&["kp1/v/dcx/t/json/+/status"], "kp1/v/dcx/u/json/42/status", false);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let deep = ["a"; LEVELS + 1].join("/");
        for filter in ["", "a#", "#/a", "a/b+", "a/+b/c", &deep] {
            assert!(!Filters::default().add(filter), "{filter}");
        }
    }
}
