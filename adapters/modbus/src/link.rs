//! An open wire: puts one request at a time and waits for its answer.
//!
//! A TCP connection that had any [`Trouble`] but a gateway's refusal is spoilt, and its owner drops it.
//! A serial line, and a converter's connection to one, is not: another connection would bring the same
//! late bytes. It is listened to until it is silent before each request, and units that did not answer
//! are left alone for their quarantine ([`crate::line`]).

use crate::{
    fault,
    frame::{Exchange, Framing, Misfit},
    line::Line,
    pdu::{Answer, Exception, Question},
    tools::{Heard, WireTap},
    wire::{Lookup, Stream, Wire},
};
use adapter_api::{
    Fault, Instant, Span,
    clock::{Elapsed, now, timeout},
};
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Time-outs in a row after which a converter's connection is taken for half-open.
const DEAF: u32 = 3;

/// An open wire.
pub(crate) struct Link {
    stream: Box<dyn Stream>,
    /// Over TCP: the other end may be gone without a sign.
    remote: bool,
    transaction: u16,
    /// When the last byte came or went.
    last: Instant,
    /// Time-outs since anything was answered.
    silences: u32,
    /// Whether it has ever brought an answer: a connection that has may have been closed for idleness.
    pub(crate) proven: bool,
    tap: Option<WireTap>,
    /// What came since the last request, while somebody listens at the tap.
    heard: Heard,
}

/// Why a device gave no usable answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing came for so long.
    Silent(Span),
    /// Bytes came, but no answer.
    Noise(Span),
    /// The line should echo, and the request did not come back for so long.
    Unechoed(Span),
    /// The connection had ended before any of the request was sent.
    Closed,
    /// The connection ended, or took no more bytes, with the request under way: the unit may have it.
    Lost,
    /// The answer does not fit the request.
    Mismatch,
    /// A gateway cannot reach it.
    Unreachable(Exception),
}

impl Trouble {
    /// Whether the unit may have the request and answer it yet.
    pub(crate) fn owes_answer(&self) -> bool {
        match self {
            Self::Silent(_) | Self::Noise(_) | Self::Unechoed(_) | Self::Lost => true,
            Self::Closed | Self::Mismatch | Self::Unreachable(_) => false,
        }
    }

    /// Whether the request may be put again at once over another connection: the unit does not have it,
    /// or its answer cannot come there.
    pub(crate) fn may_be_repeated(&self, line: &Line) -> bool {
        *self == Self::Closed || (*self == Self::Lost && !line.needs_quarantine())
    }

    /// For people.
    pub(crate) fn fault(&self, place: String) -> Fault {
        match self {
            Self::Silent(within) => fault::silent(*within, place),
            Self::Noise(within) => fault::noise(*within, place),
            Self::Unechoed(within) => fault::unechoed(*within, place),
            Self::Closed | Self::Lost => fault::lost(place),
            Self::Mismatch => fault::mismatch(place),
            Self::Unreachable(code) => fault::unreachable(*code, place),
        }
    }
}

impl Trouble {
    /// Whether devices do so, some of them, where they have no registers; as a gateway says of them with
    /// exception 0B.
    pub(crate) fn may_be_of_registers(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Lost | Self::Unreachable(Exception(0x0b)))
    }
}

impl From<Misfit> for Trouble {
    fn from(_: Misfit) -> Self {
        Self::Mismatch
    }
}

impl Link {
    /// Opens a wire, or says for people why not.
    pub(crate) async fn open(
        wire: &Wire,
        line: &Line,
        within: Span,
        lookup: &mut Lookup,
    ) -> Result<Self, Fault> {
        let stream = wire.open(line, within, lookup).await?;
        Ok(Self::over(stream, matches!(wire, Wire::Tcp(_))))
    }

    fn over(stream: Box<dyn Stream>, remote: bool) -> Self {
        Self {
            stream,
            remote,
            transaction: 0,
            last: now(),
            silences: 0,
            proven: false,
            tap: None,
            heard: Heard::default(),
        }
    }

    /// Shows its frames to whoever listens there.
    pub(crate) fn tapped(self, tap: WireTap) -> Self {
        Self { tap: Some(tap), ..self }
    }

    /// Whether it may be used again after this.
    pub(crate) fn survives(&self, line: &Line, trouble: &Trouble) -> bool {
        match trouble {
            Trouble::Unreachable(_) => true,
            Trouble::Silent(_) | Trouble::Noise(_) | Trouble::Unechoed(_) => {
                line.framing != Framing::Tcp && (!self.remote || self.silences < DEAF)
            }
            Trouble::Closed | Trouble::Lost | Trouble::Mismatch => false,
        }
    }

    /// Puts one request and waits for its answer.
    pub(crate) async fn ask(
        &mut self,
        line: &Line,
        unit: u8,
        question: impl Into<Question>,
    ) -> Result<Answer, Trouble> {
        self.transaction = self.transaction.wrapping_add(1);
        let (mut exchange, frame) =
            Exchange::new(line.framing, line.wiring.echo, self.transaction, unit, question.into());
        if line.needs_quarantine() {
            let fell = self.fall_silent(line).await;
            self.show_heard();
            fell?;
        }
        let within = line.deadline(frame.len(), exchange.answer_length());
        timeout(within, self.send(&frame)).await.unwrap_or(Err(Trouble::Lost))?;
        if let Some(tap) = &self.tap {
            tap.show_ours(&frame);
        }
        let listened = timeout(within, self.listen(&mut exchange)).await;
        self.heard.without_echo(&frame);
        self.show_heard();
        match listened {
            Ok(Ok(Answer::Refused(exception))) if exception.is_of_a_gateway() => {
                Err(Trouble::Unreachable(exception))
            }
            Ok(answer) => answer,
            Err(Elapsed) => {
                self.silences = self.silences.saturating_add(1);
                let waited = line.timeout;
                Err(match exchange.heard() {
                    _ if exchange.misses_echo() => Trouble::Unechoed(waited),
                    true => Trouble::Noise(waited),
                    false => Trouble::Silent(waited),
                })
            }
        }
    }

    async fn send(&mut self, frame: &[u8]) -> Result<(), Trouble> {
        let mut sent = 0;
        while let Some(rest) = frame.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest).await {
                Ok(0) => return Err(if sent == 0 { Trouble::Closed } else { Trouble::Lost }),
                Ok(count) => sent += count,
                Err(error) if sent == 0 => return Err(failed(&error, Trouble::Closed)),
                Err(error) => return Err(failed(&error, Trouble::Lost)),
            }
        }
        self.stream.flush().await.map_err(|error| failed(&error, Trouble::Lost))?;
        self.last = now();
        Ok(())
    }

    async fn listen(&mut self, exchange: &mut Exchange) -> Result<Answer, Trouble> {
        let mut bytes = [0; 512];
        loop {
            let count = self.stream.read(&mut bytes).await.map_err(|error| failed(&error, Trouble::Lost))?;
            if count == 0 {
                return Err(Trouble::Lost);
            }
            self.last = now();
            self.hear(bytes.get(..count).unwrap_or_default());
            if let Some(answer) = exchange.handle_bytes(bytes.get(..count).unwrap_or_default())? {
                (self.proven, self.silences) = (true, 0);
                return Ok(answer);
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        if self.tap.as_ref().is_some_and(WireTap::is_open) {
            self.heard.take_in(bytes);
        }
    }

    fn show_heard(&mut self) {
        let heard = std::mem::take(&mut self.heard);
        if let Some(tap) = &self.tap {
            tap.show_theirs(heard);
        }
    }

    /// Throws away what comes until the line has been silent for long enough.
    async fn fall_silent(&mut self, line: &Line) -> Result<(), Trouble> {
        let (silence, begun) = (line.silence(), now());
        let mut bytes = [0; 512];
        loop {
            let wait = silence.saturating_sub(now().since(self.last));
            match timeout(wait, self.stream.read(&mut bytes)).await {
                Err(Elapsed) => return Ok(()),
                Ok(Ok(0)) => return Err(Trouble::Closed),
                Ok(Ok(count)) => {
                    self.last = now();
                    self.hear(bytes.get(..count).unwrap_or_default());
                }
                Ok(Err(error)) => return Err(failed(&error, Trouble::Closed)),
            }
            if now().since(begun) > line.patience() {
                return Ok(());
            }
        }
    }
}

/// Which error it was says nothing to a person: a pulled plug is `EIO`, a closed connection `ECONNRESET`.
fn failed(error: &io::Error, trouble: Trouble) -> Trouble {
    tracing::debug!(%error, "the wire failed");
    trouble
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
