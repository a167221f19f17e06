//! Modbus TCP: the MBAP header, then the PDU (Modbus Messaging on TCP/IP V1.0b §3.1.3).

use super::{Misfit, Sought};
use crate::pdu::Answer;

/// Transaction, protocol and length come before the unit.
pub(super) const HEADER: usize = 6;
/// Unit and PDU.
const LONGEST: u16 = 254;

/// The frame of a unit and a PDU.
pub(super) fn frame(transaction: u16, adu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(adu.len()).unwrap_or(LONGEST);
    let mut frame = Vec::with_capacity(HEADER + adu.len());
    frame.extend(transaction.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend_from_slice(adu);
    frame
}

/// The frame of this transaction. Those of others were given up; they are skipped.
pub(super) fn search(
    buffer: &mut Vec<u8>,
    transaction: u16,
    sought: &Sought,
) -> Result<Option<Answer>, Misfit> {
    while let Some([t0, t1, p0, p1, l0, l1]) = buffer.first_chunk::<HEADER>().copied() {
        let length = u16::from_be_bytes([l0, l1]);
        if [p0, p1] != [0, 0] || !(2..=LONGEST).contains(&length) {
            return Err(Misfit);
        }
        let end = HEADER + usize::from(length);
        if buffer.len() < end {
            break;
        }
        let frame: Vec<u8> = buffer.drain(..end).collect();
        if u16::from_be_bytes([t0, t1]) == transaction {
            let adu = frame.get(HEADER..).unwrap_or_default();
            return sought.answer(adu).map(Some).ok_or(Misfit);
        }
    }
    Ok(None)
}
