//! The books of all endpoints that have report rules. Sans-IO.
//!
//! A transaction writes into copies, which take the place of the books after COMMIT and are thrown away after
//! ROLLBACK. So a value is "reported" only when it is on disk, and the same samples are judged the same way
//! when the transaction is tried again.

use super::{
    Report,
    book::{Book, RESOURCES},
    outcome::Outcome,
};
use crate::endpoints::{Directory, EndpointKey};
use adapter_api::{EndpointName, Instant, Sample};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// All endpoints with rules.
#[derive(Debug, Default)]
pub(crate) struct Desks {
    desks: Vec<Desk>,
    by_name: HashMap<EndpointName, usize>,
    /// Books of the open transaction.
    open: BTreeMap<usize, Book>,
    /// When something is to be reported though no sample comes.
    due: BTreeSet<(Instant, usize)>,
    /// What is due is not tried before.
    not_before: Option<Instant>,
    /// The weight of a sample, at most; `None` is without limit.
    limit: Option<usize>,
}

#[derive(Debug)]
struct Desk {
    endpoint: EndpointKey,
    report: Arc<Report>,
    book: Book,
    due: Option<Instant>,
}

/// What the rules make of samples; to be accepted by [`super::super::Shape::accept`] when they are written.
#[derive(Debug)]
pub struct Judged {
    desk: usize,
    book: Book,
    /// Whose they are.
    pub endpoint: EndpointKey,
    /// What is to be stored, in order.
    pub samples: Vec<Sample>,
    /// Samples among them that were made here, and not offered.
    pub made: u64,
    /// Offered samples of which nothing is stored, by reason.
    pub suppressed: BTreeMap<&'static str, u64>,
    /// Readings that were computed here, stored or not, by their stamps.
    pub shown: Vec<Sample>,
}

impl Desks {
    pub(crate) fn new(directory: &Directory) -> Self {
        let mut all = Self::default();
        for endpoint in directory.iter().filter(|endpoint| endpoint.enabled) {
            if let Some(report) = &endpoint.report {
                all.by_name.insert(endpoint.key.name.clone(), all.desks.len());
                let (endpoint, report) = (endpoint.key.clone(), report.clone());
                all.desks.push(Desk { endpoint, report, book: Book::default(), due: None });
            }
        }
        all
    }

    /// Other endpoints and rules: where they are the same, what was reported and what is withheld stays known.
    pub(crate) fn adopt(&mut self, directory: &Directory) {
        let mut after = Self::new(directory);
        (after.limit, after.not_before) = (self.limit, self.not_before);
        let taken = self.taken(directory);
        for (place, desk) in std::mem::take(&mut self.desks).into_iter().enumerate() {
            let Some(heir) = taken.get(&place).and_then(|name| after.by_name.get(name)) else { continue };
            let Some(known) = after.desks.get_mut(*heir) else { continue };
            (known.book, known.due) = (desk.book, desk.due);
            after.due.extend(known.due.map(|due| (due, *heir)));
        }
        *self = after;
    }

    /// The endpoints whose rules end or change with these.
    pub(crate) fn ending(&self, directory: &Directory) -> Vec<usize> {
        let taken = self.taken(directory);
        (0..self.desks.len()).filter(|place| !taken.contains_key(place)).collect()
    }

    /// The places whose rules stay as they are, and the endpoint that has them then: no two places the same. Where
    /// an endpoint becomes one with another, the other's stay and its own end.
    fn taken(&self, directory: &Directory) -> HashMap<usize, EndpointName> {
        let renamed: HashMap<EndpointKey, EndpointKey> = directory.renamed().collect();
        let mut heirs: HashSet<EndpointKey> = self.desks.iter().map(|desk| desk.endpoint.clone()).collect();
        let mut taken = HashMap::new();
        for (place, desk) in self.desks.iter().enumerate() {
            let same = directory.by_key(&desk.endpoint).is_some();
            let key = if same { Some(&desk.endpoint) } else { renamed.get(&desk.endpoint) };
            let heir = key.and_then(|key| directory.by_key(key)).filter(|heir| heir.enabled);
            if let Some(heir) = heir.filter(|heir| heir.report.as_ref() == Some(&desk.report))
                && (same || heirs.insert(heir.key.clone()))
            {
                taken.insert(place, heir.key.name.clone());
            }
        }
        taken
    }

    /// No sample that is stored is heavier.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.limit = Some(bytes);
    }

    pub(crate) fn has(&self, endpoint: &EndpointName) -> bool {
        self.by_name.contains_key(endpoint)
    }

    /// Applies the rules of an endpoint to samples that came in now. `None` if it has none.
    pub(crate) fn judge(&self, endpoint: &EndpointName, samples: &[Sample], now: Instant) -> Option<Judged> {
        let place = *self.by_name.get(endpoint)?;
        self.work(place, |book, report, outcome| {
            samples.iter().for_each(|sample| book.judge(report, sample, now, outcome));
        })
    }

    /// What is due of some endpoints, at most `most`; with `all`, whatever is withheld.
    pub(crate) fn due(&self, now: Instant, all: bool, most: usize) -> Vec<usize> {
        if all {
            let holds = |n: &usize| self.book(*n).is_some_and(|book| book.due().is_some());
            return (0..self.desks.len()).filter(holds).take(most).collect();
        }
        if self.not_before.is_some_and(|not_before| not_before > now) {
            return Vec::new();
        }
        let due = self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, place)| *place);
        due.take(most).collect()
    }

    /// Reports what is due of one of them. `None` if the open transaction has done that already.
    pub(crate) fn release(&self, place: usize, now: Instant, all: bool) -> Option<Judged> {
        let released = self.work(place, |book, _, outcome| book.release(now, all, outcome))?;
        (!released.samples.is_empty()).then_some(released)
    }

    fn book(&self, place: usize) -> Option<&Book> {
        self.open.get(&place).or_else(|| self.desks.get(place).map(|desk| &desk.book))
    }

    fn work(&self, place: usize, work: impl FnOnce(&mut Book, &Report, &mut Outcome)) -> Option<Judged> {
        let desk = self.desks.get(place)?;
        let mut book = self.book(place)?.clone();
        let mut outcome = Outcome::new(self.limit.unwrap_or(usize::MAX));
        work(&mut book, &desk.report, &mut outcome);
        let Outcome { samples, made, suppressed, shown, .. } = outcome;
        Some(Judged { desk: place, book, endpoint: desk.endpoint.clone(), samples, made, suppressed, shown })
    }

    /// The samples are written in the open transaction.
    pub(crate) fn accept(&mut self, judged: Judged) {
        self.open.insert(judged.desk, judged.book);
    }

    /// After COMMIT.
    pub(crate) fn committed(&mut self) {
        for (place, book) in std::mem::take(&mut self.open) {
            let Some(desk) = self.desks.get_mut(place) else { continue };
            if book.crowded && !desk.book.crowded {
                tracing::warn!(
                    endpoint = %desk.endpoint,
                    limit = RESOURCES,
                    "an endpoint has more resources with report rules than the limit; of the others all is reported: \
                     give them no rule, or divide them among several endpoints"
                );
            }
            let due = book.due();
            desk.book = book;
            if due != desk.due {
                self.due.extend(due.map(|due| (due, place)));
                if let Some(known) = std::mem::replace(&mut desk.due, due) {
                    self.due.remove(&(known, place));
                }
            }
        }
    }

    /// After ROLLBACK.
    pub(crate) fn rolled_back(&mut self) {
        self.open.clear();
    }

    /// What is due could not be written: it is tried again then.
    pub(crate) fn put_off(&mut self, until: Instant) {
        self.not_before = Some(until);
    }

    /// When something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let (due, _) = self.due.first()?;
        Some(self.not_before.map_or(*due, |not_before| not_before.max(*due)))
    }
}
