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

use crate::pdu::{Answer, Request};

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

/// A request that was sent, and what has come in since.
#[derive(Debug)]
pub(crate) struct Exchange {
    framing: Framing,
    /// Of [`Framing::Tcp`].
    transaction: u16,
    unit: u8,
    request: Request,
    /// Not yet judged.
    buffer: Vec<u8>,
    received: usize,
}

/// The connection carries something that is not Modbus: nothing behind it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misfit;

impl Exchange {
    /// A request, and the frame to send for it.
    pub(crate) fn new(framing: Framing, transaction: u16, unit: u8, request: Request) -> (Self, Vec<u8>) {
        let mut adu = vec![unit];
        request.encode(&mut adu);
        let frame = match framing {
            Framing::Tcp => tcp::frame(transaction, &adu),
            Framing::Rtu => rtu::frame(adu),
            Framing::Ascii => ascii::frame(&adu),
        };
        (Self { framing, transaction, unit, request, buffer: Vec::new(), received: 0 }, frame)
    }

    /// Takes what came in. The answer ends the exchange.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Misfit> {
        self.buffer.extend_from_slice(bytes);
        self.received += bytes.len();
        match self.framing {
            Framing::Tcp => tcp::search(&mut self.buffer, self.transaction, self.unit, &self.request),
            Framing::Rtu => Ok(rtu::search(&mut self.buffer, self.unit, &self.request)),
            Framing::Ascii => Ok(ascii::search(&mut self.buffer, self.unit, &self.request)),
        }
    }

    /// How many bytes came in so far.
    pub(crate) fn received(&self) -> usize {
        self.received
    }

    /// Bytes of an answer's frame.
    pub(crate) fn answer_length(&self) -> usize {
        let adu = 3 + self.request.data_length();
        match self.framing {
            Framing::Tcp => tcp::HEADER + adu,
            Framing::Rtu => adu + 2,
            Framing::Ascii => 2 * (adu + 1) + 3,
        }
    }
}

/// The answer in an address and a PDU, if it is one.
fn answer(adu: &[u8], unit: u8, request: &Request) -> Option<Answer> {
    let (address, pdu) = adu.split_first()?;
    if *address == unit { request.decode(pdu) } else { None }
}
