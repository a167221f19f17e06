//! Requests from outside the timetable - a tool's - that go between two frames of the polls. Sans-IO but
//! for the channel.
//!
//! Not here: when they may go before a poll ([`crate::schedule`]).

use crate::{
    line::Quarantine,
    link::Trouble,
    pdu::{Answer, Request},
};
use adapter_api::{Fault, Instant, Span, clock};
use std::{collections::VecDeque, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// Requests that wait in the channel, and as many again that wait for their unit's quarantine: a tool
/// asks one thing at a time, and a few tools may do so at once.
const AT_MOST: usize = 8;

/// Asks units on one wire beside its polls. Clones ask on the same wire.
#[derive(Debug, Clone)]
pub(crate) struct Outside(mpsc::Sender<Inquiry>);

/// A wire's end of it.
#[derive(Debug)]
pub(crate) struct Inquiries {
    channel: mpsc::Receiver<Inquiry>,
    waiting: VecDeque<Inquiry>,
}

/// One request from outside.
#[derive(Debug)]
pub(crate) struct Inquiry {
    /// Whom it is for, configured or not.
    pub unit: u8,
    /// What is asked.
    pub request: Request,
    /// How long the unit may take to begin its answer, in place of what is configured.
    pub timeout: Option<Span>,
    /// Not asked any more after this.
    by: Instant,
    reply: oneshot::Sender<Result<Answer, Unheard>>,
}

/// Why a request from outside has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unheard {
    /// It was put.
    #[error("the unit gave no usable answer")]
    Device(Trouble),
    /// There is no connection.
    #[error("{}", .0.what)]
    Wire(Fault),
    /// It was not put.
    #[error(
        "not asked in time: the wire had more urgent requests, or the unit was left alone after a time-out"
    )]
    NoTurn,
    /// It was not put, or given up in the middle.
    #[error("the wire left the configuration, or the adapter stops")]
    Closed,
}

impl Outside {
    /// A wire's two ends.
    pub(crate) fn new() -> (Self, Inquiries) {
        let (tx, channel) = mpsc::channel(AT_MOST);
        (Self(tx), Inquiries { channel, waiting: VecDeque::new() })
    }

    /// Puts a request and waits for its answer. It goes between two frames; what was not put `within`
    /// is dropped. Cancel-safe: whoever stops waiting before its turn has asked nothing.
    ///
    /// # Errors
    /// Says why there is no answer. A Modbus exception of the device's own is an answer.
    #[cfg_attr(not(test), expect(dead_code, reason = "asked by the tools, which are not built yet"))]
    pub(crate) async fn ask(
        &self,
        unit: u8,
        request: Request,
        timeout: Option<Span>,
        within: Duration,
    ) -> Result<Answer, Unheard> {
        let (reply, answer) = oneshot::channel();
        let inquiry = Inquiry { unit, request, timeout, by: clock::now() + within, reply };
        match clock::timeout(within, self.0.send(inquiry)).await {
            Ok(Ok(())) => answer.await.unwrap_or(Err(Unheard::Closed)),
            Ok(Err(_)) => Err(Unheard::Closed),
            Err(_) => Err(Unheard::NoTurn),
        }
    }
}

impl Inquiries {
    /// Waits for one more; for ever if nobody asks any more, or enough are waiting. Cancel-safe.
    pub(crate) async fn arrive(&mut self) {
        if self.waiting.len() < AT_MOST
            && let Some(inquiry) = self.channel.recv().await
        {
            self.waiting.push_back(inquiry);
            return;
        }
        std::future::pending::<()>().await;
    }

    /// The first one that may be put now. What is too late is dropped and told so.
    pub(crate) fn poll_inquiry(&mut self, now: Instant, quarantine: &mut Quarantine) -> Option<Inquiry> {
        while self.waiting.len() < AT_MOST
            && let Ok(inquiry) = self.channel.try_recv()
        {
            self.waiting.push_back(inquiry);
        }
        let mut at = 0;
        while let Some(inquiry) = self.waiting.get(at) {
            let (over, quiet) = (inquiry.by <= now, quarantine.until(inquiry.unit, now).is_some());
            if inquiry.reply.is_closed() || over {
                if let Some(late) = self.waiting.remove(at) {
                    late.answer(Err(Unheard::NoTurn));
                }
            } else if quiet {
                at += 1;
            } else {
                return self.waiting.remove(at);
            }
        }
        None
    }

    /// When [`Self::poll_inquiry`] has something to do.
    pub(crate) fn poll_timeout(&self, now: Instant, quarantine: &mut Quarantine) -> Option<Instant> {
        let ripe = |inquiry: &Inquiry| inquiry.by.min(quarantine.until(inquiry.unit, now).unwrap_or(now));
        self.waiting.iter().map(ripe).min()
    }
}

impl Inquiry {
    /// Whoever asked may be gone.
    pub(crate) fn answer(self, answer: Result<Answer, Unheard>) {
        let _gone = self.reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::Table;
    use tokio::task::JoinSet;

    const REQUEST: Request = Request { table: Table::Holding, start: 0, count: 1 };

    /// Puts requests to these units, each of them for at most a second, and lets them arrive.
    async fn asked(units: &[u8]) -> (JoinSet<Result<Answer, Unheard>>, Inquiries) {
        let (outside, mut inquiries) = Outside::new();
        let mut askers = JoinSet::new();
        for unit in units.iter().copied() {
            let outside = outside.clone();
            askers.spawn(async move { outside.ask(unit, REQUEST, None, Duration::from_secs(1)).await });
            inquiries.arrive().await;
        }
        (askers, inquiries)
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_in_quarantine_is_waited_for_and_others_are_not_kept() {
        let (_askers, mut inquiries) = asked(&[7, 8]).await;
        let (at, mut quarantine) = (clock::now(), Quarantine::default());
        let free = at + Duration::from_millis(300);
        quarantine.begin(7, free);
        assert_eq!(inquiries.poll_inquiry(at, &mut quarantine).map(|i| i.unit), Some(8));
        assert!(inquiries.poll_inquiry(at, &mut quarantine).is_none());
        assert_eq!(inquiries.poll_timeout(at, &mut quarantine), Some(free));
        assert_eq!(inquiries.poll_inquiry(free, &mut quarantine).map(|i| i.unit), Some(7));
        assert_eq!(inquiries.poll_timeout(free, &mut quarantine), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_late_is_never_put() {
        let (mut askers, mut inquiries) = asked(&[7]).await;
        let mut quarantine = Quarantine::default();
        let late = clock::now() + Duration::from_secs(2);
        assert!(inquiries.poll_inquiry(late, &mut quarantine).is_none());
        assert_eq!(askers.join_next().await.unwrap().unwrap(), Err(Unheard::NoTurn));
        let (mut askers, mut inquiries) = asked(&[7, 8]).await;
        askers.shutdown().await;
        assert!(inquiries.poll_inquiry(clock::now(), &mut quarantine).is_none(), "the askers are gone");
        let (mut askers, inquiries) = asked(&[7]).await;
        drop(inquiries);
        assert_eq!(askers.join_next().await.unwrap().unwrap(), Err(Unheard::Closed));
    }
}
