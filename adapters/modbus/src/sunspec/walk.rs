//! The way along a device's chain of models: what to read next, and what was found. Sans-IO.
//!
//! ```text
//! base: "SunS" | id, length, points | id, length, points | 0xffff
//! ```
//! Whatever a device answers, the walk ends: every step leads to a higher address, and there are at
//! most [`MOST`] of them. Some devices are silent where they have no registers: that is known from one
//! that is away by an answer somewhere else.

use crate::{
    pdu::{Answer, Request},
    point::Table,
};
use std::collections::VecDeque;

/// Where the marker may be (SunSpec Device Information Model Specification, "Discovery").
pub(crate) const BASES: [u16; 3] = [40_000, 50_000, 0];
/// "SunS"
pub(crate) const MARKER: [u16; 2] = [0x5375, 0x6e53];
/// Behind the last model.
pub(crate) const END: u16 = 0xffff;
/// Models of one device; real ones have about ten.
const MOST: usize = 64;

/// A model of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its number.
    pub id: u16,
    /// Where its number stands.
    pub at: u16,
    /// Registers behind its number and this length.
    pub length: u16,
}

/// A walk along a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walk {
    stage: Stage,
    /// Where the marker is looked for; the first is next.
    bases: VecDeque<u16>,
    /// Bases in a row at which nothing was heard.
    silences: usize,
    /// The device has answered since the walk began.
    answered: bool,
    /// Bases at which a device was silent that was there.
    silent: Vec<u16>,
    found: Vec<Found>,
}

/// What an answer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// On with the next request, or at the end.
    Forward,
    /// The device has no time; the same request again, later.
    Later,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The marker is looked for.
    Marker,
    /// A model's number and length are here.
    Model(u16),
    Ended {
        /// Where there should be a model or the end, and is neither.
        broken: Option<u16>,
    },
}

/// At the end of the chain.
const WHOLE: Stage = Stage::Ended { broken: None };

impl Default for Walk {
    fn default() -> Self {
        Self::over(BASES)
    }
}

impl Walk {
    /// Looks for the marker at these bases, in this order.
    pub(crate) fn over(bases: impl Into<VecDeque<u16>>) -> Self {
        let bases = bases.into();
        Self {
            stage: Stage::Marker,
            bases,
            silences: 0,
            answered: false,
            silent: Vec::new(),
            found: Vec::new(),
        }
    }

    /// What to ask for; `None` at the end.
    pub(crate) fn poll_request(&self) -> Option<Request> {
        let start = match self.stage {
            Stage::Marker => *self.bases.front()?,
            Stage::Model(at) => at,
            Stage::Ended { .. } => return None,
        };
        Some(Request { table: Table::Holding, start, count: 2 })
    }

    /// The answer to that request.
    pub(crate) fn handle_answer(&mut self, answer: &Answer) -> Progress {
        let words = match answer {
            Answer::Refused(code) if code.is_about_time() => return Progress::Later,
            Answer::Words(words) => words.as_slice(),
            _ => &[],
        };
        self.answered = true;
        self.stage = match (self.stage, words) {
            (Stage::Marker, words) if words == MARKER => {
                self.bases.front().and_then(|base| base.checked_add(2)).map_or(WHOLE, Stage::Model)
            }
            (Stage::Marker, _) => {
                self.bases.pop_front();
                self.marker()
            }
            (Stage::Model(_), [END, _]) => WHOLE,
            (Stage::Model(at), [id, length]) if *id != 0 && self.found.len() < MOST => {
                self.take(Found { id: *id, at, length: *length })
            }
            // What came before it is good.
            (Stage::Model(at), _) => Stage::Ended { broken: Some(at) },
            (Stage::Ended { .. }, _) => return Progress::Forward,
        };
        Progress::Forward
    }

    /// There was none. True if it may come elsewhere; the device is away if not.
    pub(crate) fn handle_silence(&mut self) -> bool {
        if self.stage != Stage::Marker {
            return false;
        }
        let Some(base) = self.bases.pop_front() else { return false };
        if self.answered {
            self.silent.push(base);
            self.stage = self.marker();
            return true;
        }
        // Once more when it is known whether anybody is there.
        self.bases.push_back(base);
        self.silences += 1;
        self.silences < self.bases.len()
    }

    /// The device has answered something else.
    pub(crate) fn handle_presence(&mut self) {
        self.answered = true;
    }

    /// Where a device that is there says nothing.
    pub(crate) fn silent(&self) -> &[u16] {
        &self.silent
    }

    /// Where the marker was found.
    pub(crate) fn base(&self) -> Option<u16> {
        self.bases.front().copied()
    }

    fn marker(&self) -> Stage {
        if self.bases.is_empty() { WHOLE } else { Stage::Marker }
    }

    /// The models, once the end is reached.
    pub(crate) fn models(&self) -> Option<&[Found]> {
        (self.poll_request().is_none()).then_some(&self.found)
    }

    /// Where the chain broke off: a device that is starting may have more of it later.
    pub(crate) fn broken(&self) -> Option<u16> {
        if let Stage::Ended { broken } = self.stage { broken } else { None }
    }

    fn take(&mut self, found: Found) -> Stage {
        let behind = u32::from(found.at) + 2 + u32::from(found.length);
        // A model has to end within the table.
        if behind > 65_536 {
            return Stage::Ended { broken: Some(found.at) };
        }
        self.found.push(found);
        // Two registers are left for the next one.
        u16::try_from(behind).ok().filter(|at| *at < u16::MAX).map_or(WHOLE, Stage::Model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::Exception;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Registers of a device; what is not there is refused.
    #[derive(Default)]
    struct Device(BTreeMap<u16, u16>);

    impl Device {
        fn new(base: u16, chain: &[(u16, u16)]) -> Self {
            let mut device = Self::default();
            let mut at = base;
            let mut put = |word: u16| {
                device.0.insert(at, word);
                at += 1;
            };
            MARKER.into_iter().for_each(&mut put);
            for (id, length) in chain {
                put(*id);
                put(*length);
                (0..*length).for_each(|_| put(7));
            }
            device
        }

        fn answer(&self, request: Request) -> Answer {
            let addresses = request.start..=request.start + (request.count - 1);
            let words: Option<Vec<u16>> = addresses.map(|at| self.0.get(&at).copied()).collect();
            words.map_or(Answer::Refused(Exception(2)), Answer::Words)
        }

        fn walk(&self) -> (Vec<(u16, u16, u16)>, Vec<u16>) {
            let (walk, asked) = self.walked();
            let models = walk.models().unwrap();
            (models.iter().map(|found| (found.id, found.at, found.length)).collect(), asked)
        }

        fn walked(&self) -> (Walk, Vec<u16>) {
            let (mut walk, mut asked) = (Walk::default(), Vec::new());
            while let Some(request) = walk.poll_request() {
                assert_eq!((walk.models(), request.count), (None, 2));
                asked.push(request.start);
                assert_eq!(walk.handle_answer(&self.answer(request)), Progress::Forward);
            }
            (walk, asked)
        }
    }

    #[test]
    fn a_chain_is_found_at_each_base() {
        for (base, before) in [(40_000, 0), (50_000, 1), (0, 2)] {
            let device = Device::new(base, &[(1, 66), (103, 50), (END, 0)]);
            let (models, asked) = device.walk();
            assert_eq!(models, [(1, base + 2, 66), (103, base + 70, 50)]);
            assert_eq!(asked[..before], BASES[..before]);
            assert_eq!(asked[before..], [base, base + 2, base + 70, base + 122]);
            assert_eq!(device.walked().0.broken(), None);
        }
    }

    #[test]
    fn no_chain_is_no_model() {
        assert_eq!(Device::default().walk(), (vec![], BASES.to_vec()));
        let mut other = Device::new(40_000, &[(1, 66), (END, 0)]);
        other.0.insert(40_001, 0);
        assert_eq!(other.walk(), (vec![], BASES.to_vec()));
    }

    #[test]
    fn a_chain_that_breaks_off_is_good_up_to_there() {
        let models = [(1, 40_002, 66), (103, 40_070, 50)];
        // No end marker; zeros in its place; a length beyond the table.
        for end in [&[][..], &[(0, 0)], &[(204, 25_413)]] {
            let mut device = Device::new(40_000, &[(1, 66), (103, 50)]);
            for (at, word) in (40_122..).zip(end.iter().flat_map(|(id, length)| [*id, *length])) {
                device.0.insert(at, word);
            }
            assert_eq!(device.walk().0, models, "{end:?}");
            assert_eq!(device.walked().0.broken(), Some(40_122), "{end:?}");
        }
    }

    #[test]
    fn a_model_up_to_the_last_register_ends_the_walk() {
        for (length, asked) in [(15_532, 2), (15_531, 2), (15_530, 3)] {
            let mut device = Device::new(50_000, &[(1, 0)]);
            device.0.insert(50_003, length);
            let (models, walked) = device.walk();
            assert_eq!((models.len(), walked.len()), (1, asked + 1), "{length}");
            // Of 15,530 there is room for an end behind it.
            assert_eq!(device.walked().0.broken().is_some(), asked == 3, "{length}");
        }
        let mut device = Device::new(50_000, &[(1, 0)]);
        device.0.insert(50_003, 15_533);
        assert_eq!(device.walk().0, []);
    }

    #[test]
    fn a_device_without_time_is_asked_the_same_again() {
        let device = Device::new(40_000, &[(1, 66), (END, 0)]);
        let mut walk = Walk::default();
        while let Some(request) = walk.poll_request() {
            assert_eq!(walk.handle_answer(&Answer::Refused(Exception(6))), Progress::Later);
            assert_eq!(walk.poll_request(), Some(request));
            walk.handle_answer(&device.answer(request));
        }
        assert_eq!(walk.models().unwrap().len(), 1);
    }

    #[test]
    fn a_silence_leads_to_the_next_base_and_is_asked_about_again_when_somebody_is_there() {
        let refused = Answer::Refused(Exception(2));
        let asks = |walk: &Walk| walk.poll_request().map(|request| request.start);
        let mut walk = Walk::default();
        assert!(walk.handle_silence());
        assert_eq!(asks(&walk), Some(50_000));
        assert_eq!(walk.clone().handle_answer(&Answer::Words(MARKER.to_vec())), Progress::Forward);
        // Nowhere anything: it is away.
        let mut away = walk.clone();
        assert!(away.handle_silence() && !away.handle_silence());
        assert_eq!(asks(&away), Some(40_000));
        // It is there, and has nothing elsewhere.
        walk.handle_answer(&refused);
        walk.handle_answer(&refused);
        assert_eq!((asks(&walk), walk.models()), (Some(40_000), None));
        let mut late = walk.clone();
        late.handle_answer(&Answer::Words(MARKER.to_vec()));
        assert_eq!((asks(&late), late.base(), late.silent()), (Some(40_002), Some(40_000), &[][..]));
        assert!(!late.handle_silence(), "a model is no place to be silent at");
        assert!(walk.handle_silence());
        assert_eq!((walk.models(), walk.silent()), (Some(&[][..]), &[40_000][..]));
        assert!(!walk.handle_silence(), "at the end nothing was asked");
    }

    fn answers() -> impl Strategy<Value = Answer> {
        let id = prop_oneof![Just(0_u16), Just(1), Just(END), any::<u16>()];
        let length = prop_oneof![8 => 0_u16..200, 2 => any::<u16>(), 1 => Just(0)];
        prop_oneof![
            3 => Just(Answer::Words(MARKER.to_vec())),
            12 => (id, length).prop_map(|(id, length)| Answer::Words(vec![id, length])),
            1 => any::<u8>().prop_map(|code| Answer::Refused(Exception(code))),
            1 => proptest::collection::vec(any::<u16>(), 0..5).prop_map(Answer::Words),
            1 => proptest::collection::vec(any::<bool>(), 0..5).prop_map(Answer::Bits),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_answered_the_walk_only_goes_up_and_ends(answers in proptest::collection::vec(answers(), 0..300)) {
            let (mut walk, mut highest, mut steps) = (Walk::default(), None, 0);
            for answer in &answers {
                let Some(request) = walk.poll_request() else { break };
                prop_assert!(u32::from(request.start) + u32::from(request.count) <= 65_536);
                if matches!(walk.stage, Stage::Model(_)) {
                    prop_assert!(highest.is_none_or(|highest| highest <= request.start));
                }
                if walk.handle_answer(answer) == Progress::Forward {
                    steps += 1;
                    highest = Some(match walk.stage { Stage::Model(at) => at, _ => highest.unwrap_or(0) });
                }
            }
            prop_assert!(steps <= BASES.len() + MOST + 1);
            let mut behind = 0;
            for found in &walk.found {
                prop_assert!(u32::from(found.at) >= behind && ![0, END].contains(&found.id));
                behind = u32::from(found.at) + 2 + u32::from(found.length);
                prop_assert!(behind <= 65_536);
            }
        }
    }
}
