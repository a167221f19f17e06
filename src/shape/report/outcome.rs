//! What becomes of samples: what is stored of them and with them, and how it is counted. Sans-IO.

use super::compare::Reason;
use adapter_api::{Quality, Reading, Sample, Stamp};
use std::collections::BTreeMap;

/// What becomes of samples.
#[derive(Debug)]
pub(super) struct Outcome {
    /// To be stored, in order: what is left of those offered, and those made here.
    pub(super) samples: Vec<Sample>,
    /// How many were made here.
    pub(super) made: u64,
    /// How many of those offered are not stored, by reason.
    pub(super) suppressed: BTreeMap<&'static str, u64>,
    /// Readings that were computed here, stored or not. What was withheld was shown when it came.
    pub(super) shown: Vec<Sample>,
    /// The weight of a sample, at most.
    limit: usize,
}

impl Outcome {
    /// None yet; no sample is heavier than `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self { samples: Vec::new(), made: 0, suppressed: BTreeMap::new(), shown: Vec::new(), limit }
    }

    /// What is left of a sample that was offered, and then what was computed from it: what of that is too much
    /// for one sample goes into others.
    pub(super) fn keep(&mut self, at: Stamp, readings: Vec<Reading>) {
        let samples = self.pack(at, readings);
        self.count_made(samples.len().saturating_sub(1));
        self.samples.extend(samples);
    }

    /// Nothing is left of a sample that was offered.
    pub(super) fn suppress(&mut self, reason: Reason) {
        *self.suppressed.entry(reason.name()).or_default() += 1;
    }

    /// Readings that were made here, those of one stamp in as few samples as have room for them.
    pub(super) fn make(&mut self, made: Vec<(Stamp, Vec<Reading>)>) {
        let mut stamps: Vec<(Stamp, Vec<Reading>)> = Vec::new();
        for (at, readings) in made {
            match stamps.iter_mut().find(|(known, _)| *known == at) {
                Some((_, known)) => known.extend(readings),
                None => stamps.push((at, readings)),
            }
        }
        for (at, readings) in stamps {
            let samples = self.pack(at, readings);
            self.count_made(samples.len());
            self.samples.extend(samples);
        }
    }

    /// These readings were computed here.
    pub(super) fn show(&mut self, at: Stamp, readings: &[Reading]) {
        if !readings.is_empty() {
            self.shown.push(Sample { at, readings: readings.to_vec() });
        }
    }

    fn count_made(&mut self, samples: usize) {
        self.made = self.made.saturating_add(u64::try_from(samples).unwrap_or(u64::MAX));
    }

    fn pack(&self, at: Stamp, readings: Vec<Reading>) -> Vec<Sample> {
        let (mut samples, mut bytes): (Vec<Sample>, _) = (Vec::new(), 0_usize);
        for reading in readings {
            let reading = self.fit(reading);
            bytes = bytes.saturating_add(reading.weight());
            match samples.last_mut().filter(|_| bytes <= self.limit) {
                Some(sample) => sample.readings.push(reading),
                None => {
                    let sample = Sample { at, readings: vec![reading] };
                    bytes = sample.weight();
                    samples.push(sample);
                }
            }
        }
        samples
    }

    /// A reading that is too heavy for a sample of its own says less about its quality: the words of a doubt are
    /// those of its inputs, and more.
    fn fit(&self, mut reading: Reading) -> Reading {
        let empty = Sample { at: Stamp::Mono { boot: 0, us: 0 }, readings: Vec::new() };
        let excess = empty.weight().saturating_add(reading.weight()).saturating_sub(self.limit);
        if excess > 0
            && let Quality::Uncertain(why) | Quality::Bad(why) = &mut reading.quality
        {
            let left = why.len().saturating_sub(excess);
            let end = (0..=left).rev().find(|end| why.is_char_boundary(*end)).unwrap_or_default();
            why.truncate(end);
        }
        reading
    }
}
