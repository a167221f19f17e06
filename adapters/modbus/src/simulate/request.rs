//! Requests as a slave sees them: whole frames out of bytes, and answers back into frames. Sans-IO.

use crate::frame::{Framing, LONGEST, crc};

/// Transaction, protocol and length (Modbus Messaging on TCP/IP V1.0b §3.1.3).
const HEADER: usize = 6;

/// What has come in over one port.
#[derive(Debug)]
pub(super) struct Inbox {
    framing: Framing,
    buffer: Vec<u8>,
}

/// A request that is to be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    transaction: u16,
    /// Who is asked.
    pub(super) unit: u8,
    /// What.
    pub(super) pdu: Vec<u8>,
}

/// What came is not Modbus; nothing behind it can be understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

impl Inbox {
    /// Nothing has come yet.
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, buffer: Vec::new() }
    }

    /// Bytes came in.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next request.
    pub(super) fn poll_request(&mut self) -> Result<Option<Request>, Garbage> {
        if self.framing == Framing::Tcp { self.of_tcp() } else { Ok(self.of_rtu()) }
    }

    fn of_tcp(&mut self) -> Result<Option<Request>, Garbage> {
        let Some([t0, t1, p0, p1, l0, l1]) = self.buffer.first_chunk::<HEADER>().copied() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if [p0, p1] != [0, 0] || !(2..=254).contains(&length) {
            return Err(Garbage);
        }
        let Some((unit, pdu)) = self.buffer.get(HEADER..HEADER + length).and_then(<[u8]>::split_first) else {
            return Ok(None);
        };
        let request = Request { transaction: u16::from_be_bytes([t0, t1]), unit: *unit, pdu: pdu.to_vec() };
        self.buffer.drain(..HEADER + length);
        Ok(Some(request))
    }

    /// Frames are looked for at every byte: those of other units, and their answers, are passed over.
    fn of_rtu(&mut self) -> Option<Request> {
        for at in 0..self.buffer.len() {
            let Some((adu, sum)) = self
                .buffer
                .get(at..)
                .and_then(length)
                .and_then(|length| self.buffer.get(at..at + length)?.split_last_chunk::<2>())
            else {
                continue;
            };
            if u16::from_le_bytes(*sum) == crc(adu)
                && let Some((unit, pdu)) = adu.split_first()
            {
                let request = Request { transaction: 0, unit: *unit, pdu: pdu.to_vec() };
                let end = at + adu.len() + sum.len();
                self.buffer.drain(..end);
                return Some(request);
            }
        }
        // A frame that is still on its way begins among the last bytes.
        let gone = self.buffer.len().saturating_sub(LONGEST);
        self.buffer.drain(..gone);
        None
    }
}

/// How long a request frame is that begins with these bytes.
fn length(frame: &[u8]) -> Option<usize> {
    let count = |at: usize| frame.get(at).map(|count| usize::from(*count));
    Some(match frame.get(1)? {
        1..=6 | 8 => 8,
        7 | 11 | 12 | 17 => 4,
        0x0f | 0x10 => 9 + count(6)?,
        0x14 | 0x15 => 5 + count(2)?,
        0x16 => 10,
        0x17 => 13 + count(10)?,
        0x18 => 6,
        0x2b => 7,
        _ => return None,
    })
}

impl Request {
    /// The frame of its answer.
    pub(super) fn frame(&self, framing: Framing, answer: &[u8]) -> Vec<u8> {
        let mut adu = vec![self.unit];
        adu.extend_from_slice(answer);
        if framing == Framing::Tcp {
            let mut frame = self.transaction.to_be_bytes().to_vec();
            frame.extend([0, 0]);
            frame.extend(u16::try_from(adu.len()).unwrap_or(u16::MAX).to_be_bytes());
            frame.extend(adu);
            return frame;
        }
        let sum = crc(&adu);
        adu.extend(sum.to_le_bytes());
        adu
    }
}
