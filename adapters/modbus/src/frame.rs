//! One request on its way: its frame, and which of the bytes that come in are its answer. Sans-IO.
//!
//! What arrives in any pieces and with anything before it - an answer that comes late, the echo of the
//! own request, noise - is skipped until a frame of this unit, this function, this length and with a
//! right check sum is found. RTU frames have no transaction id: an answer that is late and fits would be
//! taken, so whoever gave up waiting has to keep a quarantine ([`crate::line`]).

mod ascii;
mod rtu;
mod tcp;
#[cfg(test)]
mod tests;

use crate::pdu::{Answer, Question};

pub(crate) use rtu::{LONGEST, crc};

/// How requests and answers are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Framing {
    /// Modbus TCP (MBAP).
    Tcp,
    /// Binary with a CRC, on a serial line or inside a TCP connection.
    Rtu,
    /// Hexadecimal with an LRC, on a serial line or inside a TCP connection.
    Ascii,
}

/// Whether a line gives back what is sent over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Echo {
    /// Nobody said so: it is skipped where it comes. An answer that cannot be told from it is skipped as
    /// well: of 20 coils from 0x310, the one whose bits read like address and count of the request.
    #[default]
    Possible,
    /// Never.
    Absent,
    /// Before each answer.
    Certain,
}

impl Framing {
    /// Its name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Rtu => "rtu",
            Self::Ascii => "ascii",
        }
    }
}

/// A request that was sent, and what has come in since.
#[derive(Debug)]
pub(crate) struct Exchange {
    framing: Framing,
    /// Of [`Framing::Tcp`].
    transaction: u16,
    sought: Sought,
    /// Bytes that are no sign of anybody else.
    echo_length: usize,
    /// What is to come back before anything is judged.
    owed: Vec<u8>,
    /// Not yet judged.
    buffer: Vec<u8>,
    received: usize,
}

/// Which answer is waited for.
#[derive(Debug)]
struct Sought {
    unit: u8,
    question: Question,
    /// Address and PDU of the request, where its echo would pass for an answer.
    own: Option<Vec<u8>>,
}

/// The connection carries something that is not Modbus: nothing behind it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misfit;

impl Exchange {
    /// A request, and the frame to send for it.
    pub(crate) fn new(
        framing: Framing,
        echo: Echo,
        transaction: u16,
        unit: u8,
        question: Question,
    ) -> (Self, Vec<u8>) {
        let mut adu = vec![unit];
        question.encode(&mut adu);
        let own = (framing != Framing::Tcp && echo == Echo::Possible).then(|| adu.clone());
        let frame = match framing {
            Framing::Tcp => tcp::frame(transaction, &adu),
            Framing::Rtu => rtu::frame(adu),
            Framing::Ascii => ascii::frame(&adu),
        };
        let owed = if echo == Echo::Certain { frame.clone() } else { Vec::new() };
        let echo_length = if echo == Echo::Absent { 0 } else { frame.len() };
        let sought = Sought { unit, question, own };
        (Self { framing, transaction, sought, echo_length, owed, buffer: Vec::new(), received: 0 }, frame)
    }

    /// Takes what came in. The answer ends the exchange.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Misfit> {
        self.buffer.extend_from_slice(bytes);
        self.received += bytes.len();
        if !self.owed.is_empty() && !self.take_echo() {
            return Ok(None);
        }
        match self.framing {
            Framing::Tcp => tcp::search(&mut self.buffer, self.transaction, &self.sought),
            Framing::Rtu => Ok(rtu::search(&mut self.buffer, &self.sought)),
            Framing::Ascii => Ok(ascii::search(&mut self.buffer, &self.sought)),
        }
    }

    /// Whether the request has come back; what lies before it goes with it.
    fn take_echo(&mut self) -> bool {
        let length = self.owed.len();
        if let Some(at) = self.buffer.windows(length).position(|window| window == self.owed) {
            self.buffer.drain(..at + length);
            self.owed.clear();
            return true;
        }
        let gone = self.buffer.len().saturating_sub(length - 1);
        self.buffer.drain(..gone);
        false
    }

    /// Whether more came in than the request itself.
    pub(crate) fn heard(&self) -> bool {
        self.received > self.echo_length
    }

    /// Whether the request should have come back, and did not.
    pub(crate) fn misses_echo(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Bytes that may still become an answer.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn kept(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes of the longest answer's frame.
    pub(crate) fn answer_length(&self) -> usize {
        let adu = 1 + self.sought.question.longest_answer();
        match self.framing {
            Framing::Tcp => tcp::HEADER + adu,
            Framing::Rtu => adu + 2,
            Framing::Ascii => 2 * (adu + 1) + 3,
        }
    }
}

impl Sought {
    /// The answer in an address and a PDU, if it is one.
    fn answer(&self, adu: &[u8]) -> Option<Answer> {
        let (address, pdu) = adu.split_first()?;
        if *address != self.unit || self.own.as_deref() == Some(adu) {
            return None;
        }
        self.question.decode(pdu)
    }
}

/// A frame as programs that look at traffic know it: they have no ASCII, which becomes RTU. What is
/// no whole frame stays as it is.
pub(crate) fn for_trace(framing: Framing, frame: &[u8]) -> Vec<u8> {
    let unwrapped = match framing {
        Framing::Ascii => ascii::adu(frame),
        Framing::Tcp | Framing::Rtu => None,
    };
    unwrapped.map_or_else(|| frame.to_vec(), rtu::frame)
}
