//! The units' channels, read in turn. An endpoint that floods rests after each group.

use adapter_api::{EndpointName, Instant, Submission, UNIT_SUBMISSIONS};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};
use tokio::sync::mpsc::{self, error::TryRecvError};

/// An endpoint with so many submissions in one group does not wait for the answer to one before it hands
/// in the next: it is not waiting for any of them.
const DEEP: u32 = 32;
/// So long nothing more is taken of it then. Else its next group forms while one is committed, and
/// whoever waits for a single answer always finds the store busy.
const REST: Duration = Duration::from_millis(10);
/// So much is held of those who rest, so that their neighbours behind them are found; what it may weigh is
/// bounded by the unit's bytes. Beyond it is the unit that waits.
const HELD: usize = 16 * UNIT_SUBMISSIONS;

/// All units that hand in samples.
#[derive(Default)]
pub(super) struct Units {
    units: Vec<Unit>,
    turn: usize,
}

struct Unit {
    submissions: mpsc::Receiver<Submission>,
    /// Submissions in the group that is being gathered.
    gathered: HashMap<EndpointName, u32>,
    /// Who rests, and until when.
    resting: BTreeSet<EndpointName>,
    rests_until: Option<Instant>,
    /// Of those who rest; their neighbours in the unit go before them. While anybody rests, so does whoever
    /// has something here: it would overtake itself (I3).
    held: VecDeque<Submission>,
}

enum Next {
    Submission(Submission),
    Nothing,
    Gone,
}

impl Units {
    /// One more.
    pub(super) fn add(&mut self, submissions: mpsc::Receiver<Submission>) {
        self.units.push(Unit {
            submissions,
            gathered: HashMap::new(),
            resting: BTreeSet::new(),
            rests_until: None,
            held: VecDeque::new(),
        });
    }

    /// The next submission that waits, of the units in turn; with `all` also of those who rest.
    pub(super) fn next(&mut self, now: Instant, all: bool) -> Option<Submission> {
        let mut idle = 0;
        while idle < self.units.len() {
            self.turn = (self.turn + 1) % self.units.len();
            match self.units.get_mut(self.turn)?.next(now, all) {
                Next::Submission(submission) => return Some(submission),
                Next::Nothing => idle += 1,
                Next::Gone => {
                    self.units.remove(self.turn);
                }
            }
        }
        None
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.units.iter().map(|unit| unit.held.len() + unit.submissions.len()).sum()
    }

    /// The group is committed, or refused.
    pub(super) fn handle_group(&mut self, now: Instant) {
        for unit in &mut self.units {
            let deep =
                unit.gathered.drain().filter(|(_, count)| *count >= DEEP).map(|(endpoint, _)| endpoint);
            let deep: Vec<EndpointName> = deep.collect();
            if !deep.is_empty() {
                unit.resting.extend(deep);
                unit.resting.extend(unit.held.iter().map(|submission| submission.endpoint.clone()));
                unit.rests_until = Some(now + REST);
            }
        }
    }

    /// When somebody has rested and there is something of theirs.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.units.iter().filter(|unit| !unit.held.is_empty());
        waiting.filter_map(|unit| unit.rests_until).min()
    }
}

impl Unit {
    fn next(&mut self, now: Instant, all: bool) -> Next {
        if all || self.rests_until.is_some_and(|until| until <= now) {
            self.rests_until = None;
            self.resting.clear();
        }
        if self.resting.is_empty()
            && let Some(submission) = self.held.pop_front()
        {
            return self.gather(submission);
        }
        while self.held.len() < HELD {
            match self.submissions.try_recv() {
                Ok(submission) if self.resting.contains(&submission.endpoint) => {
                    self.held.push_back(submission);
                }
                Ok(submission) => return self.gather(submission),
                Err(TryRecvError::Disconnected) if self.held.is_empty() => return Next::Gone,
                Err(_) => return Next::Nothing,
            }
        }
        Next::Nothing
    }

    fn gather(&mut self, submission: Submission) -> Next {
        match self.gathered.get_mut(&submission.endpoint) {
            Some(count) => *count += 1,
            None => {
                self.gathered.insert(submission.endpoint.clone(), 1);
            }
        }
        Next::Submission(submission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapter_api::{Intake, Offer, Reading, Resource, Sample, Source, Stamp, Urgency, Value, clock::Bell};
    use std::sync::Arc;
    use tokio::sync::watch;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn unit(units: &mut Units) -> Intake {
        let (intake, submissions) =
            adapter_api::channel(Arc::new(Bell::default()), 65_536, watch::channel(false).1);
        units.add(submissions);
        intake
    }

    async fn submit(intake: &Intake, endpoint: &str, n: i64) {
        let endpoint = EndpointName::new(endpoint).unwrap();
        let reading = Reading::measured(Resource::new("n").unwrap(), n);
        let at = Stamp::Wall { us: 0, source: Source::Gateway };
        let sample = Sample { at, readings: vec![reading] };
        drop(intake.submit(&endpoint, vec![sample], Urgency::Urgent).await.unwrap());
    }

    fn shown(submission: &Submission) -> String {
        match &submission.offer {
            Offer::Samples(samples) => match samples[0].readings[0].value {
                Value::Int(n) => format!("{} {n}", submission.endpoint),
                ref other => panic!("{other:?}"),
            },
            Offer::TooLarge { .. } => panic!("too large"),
        }
    }

    /// Everything that is handed out now, as `endpoint number`.
    fn all(units: &mut Units, now: Instant, stopping: bool) -> Vec<String> {
        std::iter::from_fn(|| units.next(now, stopping)).map(|submission| shown(&submission)).collect()
    }

    fn numbers(endpoint: &str, range: std::ops::Range<i64>) -> Vec<String> {
        range.map(|n| format!("{endpoint} {n}")).collect()
    }

    #[tokio::test]
    async fn a_flooder_rests_and_its_neighbours_in_the_unit_and_outside_do_not() {
        let mut units = Units::default();
        let (ours, theirs) = (unit(&mut units), unit(&mut units));
        for n in 0..40 {
            submit(&ours, "flood", n).await;
        }
        assert_eq!(all(&mut units, at(0), false), numbers("flood", 0..40));
        units.handle_group(at(1));
        assert_eq!(units.poll_timeout(), None, "nothing waits");
        for n in 40..80 {
            submit(&ours, "flood", n).await;
        }
        submit(&ours, "meek", 1).await;
        submit(&theirs, "other", 1).await;
        assert_eq!(all(&mut units, at(2), false), ["other 1", "meek 1"]);
        units.handle_group(at(3));
        assert_eq!(units.poll_timeout(), Some(at(11)));
        assert_eq!(all(&mut units, at(10), false), [] as [String; 0]);
        assert_eq!(all(&mut units, at(11), false), numbers("flood", 40..80));
    }

    #[tokio::test]
    async fn two_flooders_of_a_unit_keep_their_order() {
        let mut units = Units::default();
        let ours = unit(&mut units);
        let (mut given, mut taken) = ([0; 2], Vec::new());
        let mut give = async |which: usize, count: i64| {
            for _ in 0..count {
                submit(&ours, ["a", "b"][which], given[which]).await;
                given[which] += 1;
            }
        };
        // Each line: how many of each there are now, and when it is.
        for (a, b, ms) in [(40, 20, 1), (1, 40, 2), (1, 0, 4), (10, 0, 12), (20, 20, 13), (0, 0, 40)] {
            give(0, a).await;
            give(1, b).await;
            taken.extend(all(&mut units, at(ms), false));
            units.handle_group(at(ms + 1));
        }
        for (endpoint, count) in ["a", "b"].into_iter().zip(given) {
            let of_it: Vec<String> =
                taken.iter().filter(|text| text.starts_with(endpoint)).cloned().collect();
            assert_eq!(of_it, numbers(endpoint, 0..count));
        }
    }

    #[tokio::test]
    async fn a_group_that_is_full_before_all_is_handed_out_changes_no_order() {
        let mut units = Units::default();
        let ours = unit(&mut units);
        for n in 0..64 {
            submit(&ours, "a", n).await;
        }
        let mut taken = all(&mut units, at(0), false);
        units.handle_group(at(0));
        for n in 64..84 {
            submit(&ours, "a", n).await;
        }
        for n in 0..40 {
            submit(&ours, "b", n).await;
        }
        // All of `b`, and when `a` has rested a part of it.
        taken.extend(all(&mut units, at(1), false));
        taken.extend(std::iter::from_fn(|| units.next(at(10), false)).take(10).map(|s| shown(&s)));
        units.handle_group(at(10));
        submit(&ours, "a", 84).await;
        taken.extend(all(&mut units, at(11), false));
        taken.extend(all(&mut units, at(20), false));
        let of_a: Vec<String> = taken.into_iter().filter(|text| text.starts_with('a')).collect();
        assert_eq!(of_a, numbers("a", 0..85));
    }

    #[tokio::test]
    async fn many_endpoints_that_share_a_unit_do_not_rest() {
        let mut units = Units::default();
        let ours = unit(&mut units);
        for _ in 0..3 {
            for n in 0..60 {
                submit(&ours, &format!("e{}", n % 4), n).await;
            }
            assert_eq!(all(&mut units, at(0), false).len(), 60);
            units.handle_group(at(0));
        }
    }

    #[tokio::test]
    async fn a_stop_waits_for_nobody_and_a_unit_that_ended_is_drained() {
        let mut units = Units::default();
        let ours = unit(&mut units);
        for n in 0..32 {
            submit(&ours, "flood", n).await;
        }
        assert_eq!(all(&mut units, at(0), false).len(), 32);
        units.handle_group(at(0));
        submit(&ours, "flood", 32).await;
        drop(ours);
        assert_eq!(all(&mut units, at(1), false), [] as [String; 0]);
        assert_eq!(units.units.len(), 1, "it still holds something");
        assert_eq!(all(&mut units, at(1), true), ["flood 32"]);
        assert_eq!(units.units.len(), 0);
    }

    #[tokio::test]
    async fn of_a_flooder_a_bounded_number_is_held() {
        let mut units = Units::default();
        let ours = unit(&mut units);
        let deep = i64::from(DEEP);
        for n in 0..deep {
            submit(&ours, "flood", n).await;
        }
        let _first = all(&mut units, at(0), false);
        units.handle_group(at(0));
        for round in 0..16 {
            for n in 0..64 {
                submit(&ours, "flood", deep + round * 64 + n).await;
            }
            assert_eq!(all(&mut units, at(1), false), [] as [String; 0]);
        }
        submit(&ours, "meek", 1).await;
        assert_eq!(all(&mut units, at(1), false), [] as [String; 0], "now the unit waits");
        assert_eq!(units.units[0].held.len(), HELD);
        let mut expected = numbers("flood", deep..deep + 16 * 64);
        expected.push("meek 1".to_owned());
        assert_eq!(all(&mut units, at(10), false), expected);
    }
}
