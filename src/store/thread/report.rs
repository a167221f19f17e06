//! Report rules in a transaction: what they made and withheld is counted, and what is due is written though
//! no sample comes.
//!
//! Not here: the rules (`shape::report`).

use super::{DELETE_WITHIN, Thread, Written, room};
use crate::{
    shape::report::Judged,
    store::{Class, ledger::Term},
};
use adapter_api::{EndpointName, Instant, Refused, Sample};

/// Endpoints whose reports are written in one transaction.
const REPORTS: usize = 512;
/// What the reports of an endpoint take on disk, about, when room is made for them.
const REPORT_BYTES: u64 = 1_024;
/// Rules add to what is offered: the results of windows and expressions, what was withheld.
const GROWTH: u64 = 4;

impl Thread {
    /// Writes what the timer has to report; all that is withheld, if this is the end.
    pub(super) fn write_reports_due(&mut self, now: Instant, written: &mut Written) -> rusqlite::Result<()> {
        let stops = self.stop.is_some();
        let most = if stops { usize::MAX } else { REPORTS };
        let due = self.shape.reports_due(now, stops, most).into_iter().map(|place| (place, false));
        let ending = self.ending.iter().map(|place| (*place, true));
        for (place, ends) in due.chain(ending).collect::<Vec<_>>() {
            let Some(released) = self.shape.release(place, now, stops || ends) else { continue };
            if !self.shape.stores() {
                self.show(released, written);
                continue;
            }
            match self.write_kept(&released.endpoint, &released.samples, written)? {
                Ok(()) => self.accept(released, written),
                // It stays withheld, and is tried again.
                Err((refused, _)) => {
                    self.shape.put_off_reports(now + DELETE_WITHIN);
                    if ends && refused == Refused::Full {
                        written.unreported.push(place);
                    }
                }
            }
        }
        Ok(())
    }

    /// At the end: what is withheld still goes with the process.
    pub(super) fn tell_unreported(&self, now: Instant) {
        let places = self.shape.reports_due(now, true, usize::MAX);
        let withheld = places.iter().filter_map(|place| self.shape.release(*place, now, true));
        let samples: usize = withheld.map(|released| released.samples.len()).sum();
        if samples > 0 && self.shape.stores() {
            tracing::error!(
                endpoints = places.len(),
                samples,
                "what report rules withheld could not be written any more, and is lost"
            );
        }
    }

    /// Counts what the rules made of samples that were just written.
    pub(super) fn accept(&mut self, judged: Judged, written: &mut Written) {
        let tenant = &judged.endpoint.tenant;
        let stored = u64::try_from(judged.samples.len()).unwrap_or(u64::MAX);
        self.ledger.add(tenant, Class::Telemetry, Term::Offered, "report", judged.made);
        self.ledger.add(tenant, Class::Telemetry, Term::Stored, "", stored);
        for (reason, samples) in &judged.suppressed {
            self.ledger.add(tenant, Class::Telemetry, Term::Suppressed, reason, *samples);
        }
        self.show(judged, written);
    }

    /// Shows what the rules computed, whether or not it is stored.
    pub(super) fn show(&mut self, mut judged: Judged, written: &mut Written) {
        let shown = std::mem::take(&mut judged.shown);
        if !shown.is_empty() {
            written.shown.push((judged.endpoint.clone(), shown));
        }
        self.shape.accept(judged);
    }

    /// The bytes a submission takes in the outbox, at most, or about that with rules.
    pub(super) fn bytes_at_most(&self, endpoint: &EndpointName, samples: &[Sample]) -> u64 {
        let growth = if self.shape.has_report(endpoint) { GROWTH } else { 1 };
        room::bytes(samples).saturating_mul(growth)
    }

    /// The bytes that what is due takes, about.
    pub(super) fn report_bytes(&self, now: Instant) -> u64 {
        let due = self.shape.reports_due(now, self.stop.is_some(), REPORTS).len() + self.ending.len();
        u64::try_from(due).unwrap_or(u64::MAX).saturating_mul(REPORT_BYTES)
    }
}
