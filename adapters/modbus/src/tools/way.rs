//! How a tool's requests get to a wire: between the polls of its bus, or over a wire opened for the tool.

use super::place::Bench;
use crate::{
    line::{Line, Quarantine},
    link::{Link, Trouble},
    outside::Outside,
    pdu::{Answer, Request},
    wire::{Lookup, Wire},
};
use adapter_api::{
    Fault,
    clock::{now, sleep_until},
};

/// One wire, for one tool.
pub(crate) struct Way {
    wire: Wire,
    line: Line,
    by: By,
}

enum By {
    Bus(Outside),
    Own(Box<Own>),
}

/// A wire of the tool's own.
struct Own {
    open: Box<dyn Fn(Link) -> Link + Send>,
    within: adapter_api::Span,
    lookup: Lookup,
    link: Option<Link>,
    quarantine: Quarantine,
}

impl Way {
    pub(super) fn over_bus(wire: Wire, line: Line, outside: Outside) -> Self {
        Self { wire, line, by: By::Bus(outside) }
    }

    pub(super) fn own(bench: &Bench, wire: Wire) -> Self {
        let tap = bench.tap.of(&wire, &bench.clock);
        let own = Own {
            open: Box::new(move |link| link.tapped(tap.clone())),
            within: bench.config.connect_timeout,
            lookup: Lookup::default(),
            link: None,
            quarantine: Quarantine::default(),
        };
        Self { wire, line: bench.line.clone(), by: By::Own(Box::new(own)) }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Goes on with other settings. False on a bus, whose settings are its own.
    pub(super) fn retune(&mut self, line: Line) -> bool {
        match &mut self.by {
            By::Bus(_) => false,
            By::Own(own) => {
                if line != self.line {
                    (own.link, own.quarantine) = (None, Quarantine::default());
                    self.line = line;
                }
                true
            }
        }
    }

    /// Puts a request and waits for its answer, or says for people why there is none.
    pub(super) async fn ask(&mut self, unit: u8, request: Request) -> Result<Answer, Fault> {
        match &mut self.by {
            By::Bus(outside) => outside.ask(unit, request).await,
            By::Own(own) => own.ask(&self.wire, &self.line, unit, request).await,
        }
    }
}

impl Own {
    async fn ask(
        &mut self,
        wire: &Wire,
        line: &Line,
        unit: u8,
        request: Request,
    ) -> Result<Answer, Fault> {
        if let Some(until) = self.quarantine.until(unit, now()) {
            sleep_until(until).await;
        }
        let mut again = true;
        loop {
            let mut link = match self.link.take() {
                Some(link) => link,
                None => (self.open)(Link::open(wire, line, self.within, &mut self.lookup).await?),
            };
            let proven = link.proven;
            let result = link.ask(line, unit, request).await;
            // A device may close a connection that was idle for long: that is not its silence.
            if proven && again && result == Err(Trouble::Lost) {
                again = false;
                continue;
            }
            if line.needs_quarantine() && matches!(result, Err(Trouble::Silent(_) | Trouble::Noise(_))) {
                self.quarantine.begin(unit, now() + line.quarantine);
            }
            if result.as_ref().err().is_none_or(|trouble| link.survives(line, trouble)) {
                self.link = Some(link);
            }
            return result.map_err(|trouble| trouble.fault(format!("unit {unit} at {wire}")));
        }
    }
}
