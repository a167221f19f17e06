//! Three independent counts of one run, and whether they agree.

use crate::store::ledger::Totals;
use serde::Serialize;

/// What the simulated meters answered on their sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Served {
    /// Requests answered with values.
    pub(super) samples: u64,
    /// Values in them.
    pub(super) readings: u64,
    /// Answers that the other side left unread. Not in the sums.
    #[serde(skip)]
    pub(super) unread: u64,
}

/// What the database says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Ledger {
    offered: u64,
    refused: u64,
    suppressed: u64,
    stored: u64,
    landed: u64,
    queued: u64,
    dropped: u64,
    dead: u64,
}

/// What the platform decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Received {
    /// Distinct samples.
    pub(super) samples: u64,
    /// Values in them.
    pub(super) readings: u64,
    /// Samples that had come before.
    pub(super) resent: u64,
}

/// The counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    pub(super) served: Served,
    pub(super) ledger: Ledger,
    pub(super) platform: Received,
    /// Whether every sample served was stored, landed and decoded, and no other.
    pub(super) agree: bool,
}

impl Served {
    /// The socket took an answer.
    pub(super) fn answered(&mut self, readings: u64) {
        self.samples += 1;
        self.readings += readings;
    }

    /// The last answer of a connection was not read.
    pub(super) fn unread(&mut self, readings: u64) {
        self.samples = self.samples.saturating_sub(1);
        self.readings = self.readings.saturating_sub(readings);
        self.unread += 1;
    }
}

impl From<Totals> for Ledger {
    fn from(totals: Totals) -> Self {
        let Totals { offered, refused, suppressed, stored, landed, queued, dropped, dead, discarded: _ } =
            totals;
        Self { offered, refused, suppressed, stored, landed, queued, dropped, dead }
    }
}

impl Tally {
    /// Puts the counts beside each other.
    pub(super) fn new(served: Served, ledger: Ledger, platform: Received) -> Self {
        let Ledger { offered, refused, suppressed, stored, landed, queued, dropped, dead } = ledger;
        let all =
            [offered, stored, landed, platform.samples].into_iter().all(|count| count == served.samples);
        let none = [refused, suppressed, queued, dropped, dead].into_iter().all(|count| count == 0);
        let agree = all && none && served.readings == platform.readings;
        Self { served, ledger, platform, agree }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { served, ledger, platform, agree } = self;
        let row = |who: &str, samples: u64, more: &str| format!("{who:<22}{samples:>9} samples{more}\n");
        let term =
            |(count, term): (u64, &str)| if count > 0 { format!(", {count} {term}") } else { String::new() };
        let lost = [
            (ledger.queued, "queued"),
            (ledger.refused, "refused"),
            (ledger.suppressed, "suppressed"),
            (ledger.dropped, "dropped"),
            (ledger.dead, "dead"),
        ];
        let kept = format!(", {} landed{}", ledger.landed, lost.map(term).concat());
        let answered = format!(", {} readings{}", served.readings, term((served.unread, "unread")));
        let decoded = format!(", {} readings, {} came again", platform.readings, platform.resent);
        let mut text = row("The meters answered", served.samples, &answered);
        text += &row("The database holds", ledger.stored, &kept);
        text += &row("The platform decoded", platform.samples, &decoded);
        text += if *agree { "They agree.\n" } else { "They do NOT agree.\n" };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Served, &mut Ledger, &mut Received), agree: bool) {
        let mut served = Served { samples: 7, readings: 42, unread: 0 };
        let mut ledger = Ledger { offered: 7, stored: 7, landed: 7, ..Ledger::default() };
        let mut platform = Received { samples: 7, readings: 42, resent: 3 };
        change(&mut served, &mut ledger, &mut platform);
        let tally = Tally::new(served, ledger, platform);
        assert_eq!(tally.agree, agree, "{tally:?}");
    }

    #[test]
    fn one_difference_anywhere_is_no_agreement() {
        check(|_, _, _| {}, true);
        check(|served, _, _| served.samples = 8, false);
        check(|served, _, _| served.readings = 41, false);
        check(|served, _, _| served.unread = 1, true);
        check(|_, ledger, _| ledger.offered = 8, false);
        check(|_, ledger, _| ledger.stored = 6, false);
        check(|_, ledger, _| ledger.landed = 6, false);
        check(|_, ledger, _| ledger.refused = 1, false);
        check(|_, ledger, _| ledger.suppressed = 1, false);
        check(|_, ledger, _| ledger.queued = 1, false);
        check(|_, ledger, _| ledger.dropped = 1, false);
        check(|_, ledger, _| ledger.dead = 1, false);
        check(|_, _, platform| platform.samples = 6, false);
        check(|_, _, platform| platform.readings = 36, false);
        check(|_, _, platform| platform.resent = 0, true);
    }

    #[test]
    fn the_text_fits_on_a_small_terminal() {
        let served = Served { samples: 7_200_000, readings: 43_200_000, unread: 0 };
        let ledger = Ledger { stored: 7_200_000, landed: 7_100_000, queued: 100_000, ..Ledger::default() };
        let platform = Received { samples: 7_100_000, readings: 42_600_000, resent: 10_000 };
        let text = Tally::new(served, ledger, platform).text();
        assert!(text.lines().all(|line| line.len() < 80), "{text}");
        assert!(text.ends_with("They do NOT agree.\n"), "{text}");
    }

    #[test]
    fn the_last_line_has_these_members_in_this_order() {
        let tally = Tally::new(Served::default(), Ledger::default(), Received::default());
        let expected = concat!(
            r#"{"served":{"samples":0,"readings":0},"#,
            r#""ledger":{"offered":0,"refused":0,"suppressed":0,"stored":0,"landed":0,"queued":0,"dropped":0,"dead":0},"#,
            r#""platform":{"samples":0,"readings":0,"resent":0},"agree":true}"#
        );
        assert_eq!(serde_json::to_string(&tally).unwrap(), expected);
    }
}
