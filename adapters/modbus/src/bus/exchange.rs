//! One request on a bus: its connection, its gaps, what follows from its failure, and what it costs.

use super::{Bus, Shared};
use crate::{
    health::Subject,
    line::Line,
    link::{Link, Trouble},
    outside::Unheard,
    pdu::{Answer, Question},
    wire::Wire,
};
use adapter_api::{
    Fault, Instant, Presence,
    clock::{now, sleep, sleep_until},
};
use std::time::Duration;

/// Between attempts to connect.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const SLOWEST_RETRY: Duration = Duration::from_secs(30);
/// A port that was pulled out comes back when somebody plugs it in, and looking for it costs nothing.
const SLOWEST_PORT_RETRY: Duration = Duration::from_secs(5);

impl Bus {
    /// Whether a request from outside may go next. Polls that cannot go do not keep it.
    pub(super) fn admits_outside(&self, room: bool) -> bool {
        let down = self.down.as_ref().is_some_and(|(until, _)| *until > now());
        !room || down || self.schedule.admits_outside(now())
    }

    pub(super) fn inquiry_at(&mut self) -> Option<Instant> {
        self.inquiries.poll_timeout(now(), &mut self.quarantine)
    }

    /// Puts one request from outside, if one may be put.
    pub(super) async fn inquire(&mut self) {
        // With the first connection a quarantine begins, which the request is to wait for.
        if !self.opened
            && let Ok(link) = self.connected().await
        {
            self.link = Some(link);
        }
        let Some(inquiry) = self.inquiries.poll_inquiry(now(), &mut self.quarantine) else { return };
        let started = now();
        let mut line = self.line_of(inquiry.unit);
        line.timeout = inquiry.timeout.unwrap_or(line.timeout);
        line.quarantine = line.quarantine.max(line.timeout.duration() * 3);
        let result = self.exchange(&line, inquiry.unit, inquiry.question).await;
        let ended = now();
        self.schedule.handle_outside(ended, ended.since(started));
        inquiry.answer(result);
    }

    /// How a unit is asked, configured or not.
    fn line_of(&self, unit: u8) -> Line {
        let known = self.devices.values().find(|device| device.target.unit == unit);
        known.map_or(&self.shared.line, |device| &device.target.manner.line).clone()
    }

    /// One request and its answer, over a connection that is opened if there is none. A device may close
    /// one that was idle for long: that is not its silence, and is tried once more. On a serial line not
    /// if the unit may have the request: it would answer twice, and the second time to another one.
    pub(super) async fn exchange(
        &mut self,
        line: &Line,
        unit: u8,
        question: impl Into<Question>,
    ) -> Result<Answer, Unheard> {
        let question = question.into();
        let mut again = true;
        loop {
            let mut link = self.connected().await.map_err(Unheard::Wire)?;
            if line.needs_quarantine() && self.quarantine.until(unit, now()).is_some() {
                self.link = Some(link);
                return Err(Unheard::NoTurn);
            }
            let proven = link.proven;
            // On a line the link waits, since it has to listen meanwhile.
            if !line.needs_quarantine() && !line.gap.is_zero() {
                sleep_until(self.ended + line.gap).await;
            }
            let started = now();
            let result = link.ask(line, unit, question).await;
            self.ended = now();
            self.took = self.ended.since(started);
            if line.needs_quarantine() {
                self.shared.report.used(&self.name, started, self.ended);
            }
            let trouble = result.as_ref().err();
            if proven && again && trouble.is_some_and(|trouble| trouble.may_be_repeated(line)) {
                again = false;
                continue;
            }
            if trouble.is_some_and(Trouble::owes_answer) {
                self.leave_alone(line, unit);
            }
            if trouble.is_none_or(|trouble| link.survives(line, trouble)) {
                self.link = Some(link);
            }
            return result.map_err(Unheard::Device);
        }
    }

    /// A unit that may still answer: none of its registers is asked for until it cannot any more.
    fn leave_alone(&mut self, line: &Line, unit: u8) {
        if line.needs_quarantine() {
            let until = now() + line.quarantine;
            self.quarantine.begin(unit, until);
            for (endpoint, _) in self.devices.iter().filter(|(_, device)| device.target.unit == unit) {
                self.schedule.hold(endpoint, until);
            }
        }
    }

    /// Whoever used the line before us may have gone in the middle of a request, as we do at a shutdown:
    /// no unit is asked until that answer cannot come any more.
    fn let_pass(&mut self) {
        if !self.shared.line.needs_quarantine() {
            return;
        }
        let at = now();
        self.quarantine.begin_all(at + self.shared.line.quarantine);
        for (endpoint, device) in &self.devices {
            let unit = device.target.unit;
            self.quarantine.begin(unit, at + device.target.manner.line.quarantine);
            if let Some(until) = self.quarantine.until(unit, at) {
                self.schedule.hold(endpoint, until);
            }
        }
        let quarantine_s = self.shared.line.quarantine.as_secs_f64();
        tracing::debug!(wire = %self.wire, quarantine_s, "late answers to others are let pass first");
    }

    /// Takes the connection, opened if there is none. It is put back only after a clean answer.
    async fn connected(&mut self) -> Result<Link, Fault> {
        if let Some(link) = self.link.take() {
            return Ok(link);
        }
        if let Some((until, fault)) = &self.down
            && *until > now()
        {
            return Err(fault.clone());
        }
        let opened = {
            let Shared { line, connect_timeout, .. } = &*self.shared;
            Link::open(&self.wire, line, *connect_timeout, &mut self.lookup).await
        };
        let subject = Subject::Link(self.wire.clone(), self.connection);
        match opened {
            Ok(link) => {
                if std::mem::take(&mut self.attempts) > 0 {
                    self.schedule.handle_return();
                }
                self.down = None;
                self.shared.complaints.clear(&subject);
                let delays = self.devices.values().map(|device| device.target.manner.connect_delay);
                sleep(delays.max().unwrap_or_default()).await;
                if !std::mem::replace(&mut self.opened, true) {
                    self.let_pass();
                }
                Ok(link.tapped(self.shared.tap.of(&self.wire, &self.shared.clock)))
            }
            Err(fault) => {
                self.attempts = self.attempts.saturating_add(1);
                let doubled = FIRST_RETRY.saturating_mul(1 << (self.attempts - 1).min(8));
                // Jitter between 80 and 120 %, so that gateways do not knock in step after a power cut.
                let slowest = match self.wire {
                    Wire::Serial(_) => SLOWEST_PORT_RETRY,
                    Wire::Tcp(_) => SLOWEST_RETRY,
                };
                let wait = doubled.min(slowest).mul_f64(0.8 + 0.4 * fastrand::f64());
                self.down = Some((now() + wait, fault.clone()));
                if self.targets.has_changed().is_ok() {
                    self.shared.complaints.raise(subject, fault.clone());
                }
                let endpoints: Vec<_> = self.devices.keys().cloned().collect();
                for endpoint in endpoints {
                    self.present(&endpoint, Presence::Offline(fault.clone()));
                }
                Err(fault)
            }
        }
    }
}
