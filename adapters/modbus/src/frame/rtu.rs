//! RTU: address, PDU, CRC (Modbus over Serial Line V1.02 §2.5.1).

use super::Sought;
use crate::pdu::Answer;

/// Bytes of the longest frame.
pub(crate) const LONGEST: usize = 256;
const CRC: usize = 2;

/// The frame of an address and a PDU.
pub(super) fn frame(mut adu: Vec<u8>) -> Vec<u8> {
    let crc = crc(&adu);
    adu.extend(crc.to_le_bytes());
    adu
}

/// The first frame that answers the request; what lies before it is thrown away. Frames are looked for
/// at every byte: the silence that separates them cannot be seen through the buffers of a system.
pub(super) fn search(buffer: &mut Vec<u8>, sought: &Sought) -> Option<Answer> {
    let mut keep_from = None;
    for at in 0..buffer.len() {
        let Some(rest) = buffer.get(at..).filter(|rest| rest.first() == Some(&sought.unit)) else { continue };
        let length = match rest.get(1..) {
            Some(pdu) if !pdu.is_empty() => match sought.question.answer_length(pdu) {
                Some(length) => 1 + length + CRC,
                None => continue,
            },
            // Only the address is here so far.
            _ => LONGEST,
        };
        let Some(frame) = rest.get(..length) else {
            keep_from = keep_from.or(Some(at));
            continue;
        };
        let Some((adu, received)) = frame.split_last_chunk::<CRC>() else { continue };
        if u16::from_le_bytes(*received) == crc(adu)
            && let Some(answer) = sought.answer(adu)
        {
            buffer.drain(..at + length);
            return Some(answer);
        }
    }
    // What may still become the answer stays.
    let gone = keep_from.unwrap_or(buffer.len());
    buffer.drain(..gone);
    None
}

/// What each value of the lower byte makes of it.
const TABLE: [u16; 256] = table();

#[expect(clippy::indexing_slicing, clippy::as_conversions, reason = "evaluated by the compiler, below 256")]
const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        let (mut crc, mut bit) = (at as u16, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

/// CRC-16/MODBUS.
pub(crate) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        let [low, high] = crc.to_le_bytes();
        u16::from(high) ^ TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default()
    })
}
