//! How a tool's requests get to a wire: between the polls of its bus, or over a wire opened for the tool.

use super::{
    End,
    place::{Bench, Connections},
};
use crate::{
    line::{Line, Quarantine},
    link::{Link, Trouble},
    outside::{Outside, Unheard},
    pdu::{Answer, Exception, Question},
    wire::{Lookup, Wire},
};
use adapter_api::{
    Span,
    clock::{now, sleep_until},
};
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
    lookup: Lookup,
    link: Option<Link>,
    quarantine: Quarantine,
}

impl Way {
    pub(super) fn over_bus(wire: Wire, line: Line, connections: Connections) -> Self {
        Self { wire, line, timeout: None, by: By::Bus(connections) }
    }

    pub(super) fn own(bench: &Bench, wire: Wire) -> Self {
        let own = Own {
            tap: bench.tap.of(&wire, &bench.clock),
            connect_timeout: bench.config.connect_timeout,
            lookup: Lookup::default(),
            link: None,
            quarantine: Quarantine::default(),
        };
        Self { wire, line: bench.line.clone(), timeout: None, by: By::Own(Box::new(own)) }
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

    /// How long a device may take to begin its answers, for this tool.
    pub(super) fn hurry(&mut self, timeout: Span) {
        let timeout = timeout.min(LONGEST);
        self.line.quarantine = timeout.duration() * 3;
        (self.line.timeout, self.timeout) = (timeout, Some(timeout));
    }

    /// Whether its settings are the tool's to choose.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.by, By::Own(_))
    }

    /// Goes on with other settings, which a bus does not.
    pub(super) fn retune(&mut self, line: Line) {
        if let By::Own(own) = &mut self.by
            && line != self.line
        {
            // The old one is closed before the port is opened anew.
            (own.link, own.quarantine) = (None, Quarantine::default());
            self.line = line;
        }
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
            let mut link = match self.link.take() {
                Some(link) => link,
                None => {
                    let opened = Link::open(wire, line, self.connect_timeout, &mut self.lookup).await;
                    opened.map_err(Unheard::Wire)?.tapped(self.tap.clone())
                }
            };
            let proven = link.proven;
            let result = link.ask(line, unit, question).await;
            // A device may close a connection that was idle for long: that is not its silence.
            if proven && again && result == Err(Trouble::Lost) {
                again = false;
                continue;
            }
            if line.needs_quarantine()
                && matches!(result, Err(Trouble::Silent(_) | Trouble::Noise(_) | Trouble::Unechoed(_)))
            {
                self.quarantine.begin(unit, now() + line.quarantine);
            }
            if result.as_ref().err().is_none_or(|trouble| link.survives(line, trouble)) {
                self.link = Some(link);
            }
            return result.map_err(Unheard::Device);
        }
    }
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
