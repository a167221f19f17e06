//! How a tool's requests get to a wire: between the polls of its bus, or over a wire opened for the tool.

use super::{
    End,
    place::{Bench, Connections},
};
use crate::{
    config::Target,
    line::{Line, Quarantine},
    link::{Link, Trouble},
    outside::{Outside, Unheard},
    pdu::{Answer, Exception, Question},
    wire::{Lookup, Wire},
};
use adapter_api::{
    Fault, Instant, Span,
    clock::{now, sleep, sleep_until},
    field,
    inquiry::Telling,
};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

/// What a request waits for its turn between polls, before the bus is called too busy.
const TURN: Duration = Duration::from_secs(30);

/// However patient a tool is: on a bus, the devices that are polled wait as long.
const LONGEST: Span = Span::from_secs(10);

/// One wire, for one tool.
pub(super) struct Way {
    wire: Wire,
    line: Line,
    /// In place of the time-out that was configured.
    timeout: Option<Span>,
    by: By,
}

enum By {
    Bus(Connections),
    Own(Box<Own>),
}

/// A wire of the tool's own.
struct Own {
    tap: super::tap::WireTap,
    connect_timeout: Span,
    connect_delay: Duration,
    lookup: Lookup,
    link: Option<Link>,
    quarantine: Quarantine,
    /// When the last request was over.
    ended: Option<Instant>,
    /// Until then a unit may answer what nobody waits for any more.
    owed: Option<Instant>,
}

impl Way {
    pub(super) fn over_bus(target: &Target, connections: Connections) -> Self {
        Self::to(target, By::Bus(connections))
    }

    pub(super) fn own(bench: &Bench, target: &Target) -> Self {
        let own = Own {
            tap: bench.tap.of(&target.wire, &bench.clock),
            connect_timeout: bench.config.connect_timeout,
            connect_delay: target.manner.connect_delay,
            lookup: Lookup::default(),
            link: None,
            quarantine: Quarantine::default(),
            ended: None,
            owed: None,
        };
        Self::to(target, By::Own(Box::new(own)))
    }

    fn to(target: &Target, by: By) -> Self {
        Self { wire: target.wire.clone(), line: target.manner.line.clone(), timeout: None, by }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// A unit as people find it.
    pub(super) fn place(&self, unit: u8) -> String {
        format!("unit {unit} at {}", self.wire)
    }

    /// How long a device may take to begin its answers, for this tool. A quarantine that is longer stays.
    pub(super) fn hurry(&mut self, timeout: Span) {
        let timeout = timeout.min(LONGEST);
        self.line.quarantine = self.line.quarantine.max(timeout.duration() * 3);
        (self.line.timeout, self.timeout) = (timeout, Some(timeout));
    }

    /// Whether its settings are the tool's to choose.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.by, By::Own(_))
    }

    /// Goes on with other settings, which a bus does not.
    pub(super) async fn retune(&mut self, line: Line) {
        if let By::Own(own) = &mut self.by
            && line != self.line
        {
            own.fall_quiet().await;
            // The old one is closed before the port is opened anew.
            own.link = None;
            self.line = line;
        }
    }

    /// Keeps a wire of its own until no late answer can come: whoever asks next would take it for theirs.
    pub(super) async fn settle<T>(&mut self, ended: Result<T, End>, to: &Telling) -> Result<T, End> {
        if let By::Own(own) = &mut self.by
            && let Some(left) = own.owed.map(|until| until.since(now())).filter(|left| !left.is_zero())
        {
            let seconds = left.as_secs_f64();
            to.tell(json!({ "settling": { "wire": self.wire.to_string(), "seconds": seconds } })).await?;
            own.fall_quiet().await;
        }
        ended
    }

    /// Puts a request and waits for its answer, or says why there is none.
    pub(super) async fn ask(&mut self, unit: u8, question: Question) -> Result<Answer, Unheard> {
        match &mut self.by {
            // On the connection that polls it: a device behind a converter is asked one thing at a time.
            By::Bus(connections) => {
                let polls = |(units, _): &&(BTreeSet<u8>, Outside)| units.contains(&unit);
                let by = connections.iter().find(polls).or(connections.first());
                let (_, outside) = by.ok_or(Unheard::Closed)?;
                outside.ask(unit, question, self.timeout, TURN).await
            }
            By::Own(own) => own.ask(&self.wire, &self.line, unit, question).await,
        }
    }
}

impl Own {
    async fn ask(
        &mut self,
        wire: &Wire,
        line: &Line,
        unit: u8,
        question: Question,
    ) -> Result<Answer, Unheard> {
        if let Some(until) = self.quarantine.until(unit, now()) {
            sleep_until(until).await;
        }
        let mut again = true;
        loop {
            let mut link = self.connected(wire, line).await.map_err(Unheard::Wire)?;
            let proven = link.proven;
            // On a line the link waits, since it has to listen meanwhile.
            if let Some(ended) = self.ended.filter(|_| !line.needs_quarantine()) {
                sleep_until(ended + line.gap).await;
            }
            let result = link.ask(line, unit, question).await;
            self.ended = Some(now());
            let trouble = result.as_ref().err();
            // A device may close a connection that was idle for long: that is not its silence.
            if proven && again && trouble.is_some_and(|trouble| trouble.may_be_repeated(line)) {
                again = false;
                continue;
            }
            if line.needs_quarantine() && trouble.is_some_and(Trouble::owes_answer) {
                let until = now() + line.quarantine;
                self.quarantine.begin(unit, until);
                self.owed = self.owed.max(Some(until));
            }
            if trouble.is_none_or(|trouble| link.survives(line, trouble)) {
                self.link = Some(link);
            }
            return result.map_err(Unheard::Device);
        }
    }

    /// Takes the connection, opened if there is none. It is put back only after a clean answer.
    async fn connected(&mut self, wire: &Wire, line: &Line) -> Result<Link, Fault> {
        if let Some(link) = self.link.take() {
            return Ok(link);
        }
        let opened = Link::open(wire, line, self.connect_timeout, &mut self.lookup).await;
        let link = opened.map_err(once)?;
        sleep(self.connect_delay).await;
        Ok(link.tapped(self.tap.clone()))
    }

    /// Waits with the wire open. What comes is thrown away before the next request, or with the wire.
    async fn fall_quiet(&mut self) {
        if let Some(until) = self.owed.take() {
            sleep_until(until).await;
        }
    }
}

/// A fault of a wire that nobody opens a second time.
fn once(fault: Fault) -> Fault {
    if fault.code == field::PORT_MISSING.code {
        return fault.with_remedy("plug it in; compare the path with `ls -l /dev/serial/by-id`".to_owned());
    }
    fault
}

/// What a gateway said in the place of a device it does not reach.
pub(super) fn said_by_gateway(unheard: &Unheard) -> Option<Exception> {
    match unheard {
        Unheard::Device(Trouble::Unreachable(exception)) => Some(*exception),
        _ => None,
    }
}

/// Why a tool does not go on.
pub(super) fn end(unheard: Unheard, place: String) -> End {
    match unheard {
        Unheard::Device(trouble) => End::Fault(trouble.fault(place)),
        Unheard::Wire(fault) => End::Fault(fault),
        Unheard::NoTurn | Unheard::Closed => End::Wrong(format!("{place}: {unheard}"), None),
    }
}
