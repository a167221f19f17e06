//! ASCII: `:`, address and PDU and LRC in hexadecimal, CR LF (Modbus over Serial Line V1.02 §2.5.2).

use super::Sought;
use crate::pdu::Answer;

/// Characters of the longest frame.
const LONGEST: usize = 513;

/// The frame of an address and a PDU.
pub(super) fn frame(adu: &[u8]) -> Vec<u8> {
    let mut frame = vec![b':'];
    for byte in adu.iter().chain([&lrc(adu)]) {
        frame.extend(format!("{byte:02X}").bytes());
    }
    frame.extend(b"\r\n");
    frame
}

/// The first frame that answers the request; what lies before it is thrown away.
pub(super) fn search(buffer: &mut Vec<u8>, sought: &Sought) -> Option<Answer> {
    loop {
        let colon = buffer.iter().position(|byte| *byte == b':').unwrap_or(buffer.len());
        buffer.drain(..colon);
        // A colon begins a frame wherever it stands: what was before it will not be finished.
        let next = buffer.iter().skip(1).position(|byte| *byte == b':').map(|at| at + 1);
        let end = buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        match (end, next) {
            (Some(end), next) if next.is_none_or(|next| end <= next) => {
                let line: Vec<u8> = buffer.drain(..end).collect();
                if let Some(answer) = adu(&line).and_then(|adu| sought.answer(&adu)) {
                    return Some(answer);
                }
            }
            (_, Some(next)) => drop(buffer.drain(..next)),
            (_, None) => {
                if buffer.len() > LONGEST {
                    buffer.clear();
                }
                return None;
            }
        }
    }
}

/// Address and PDU of a line with a right check sum.
pub(super) fn adu(line: &[u8]) -> Option<Vec<u8>> {
    let digits = line.strip_prefix(b":")?.strip_suffix(b"\n")?;
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
    let mut bytes = Vec::with_capacity(pairs.len());
    for [high, low] in pairs {
        bytes.push(nibble(*high)? << 4 | nibble(*low)?);
    }
    let received = bytes.pop()?;
    (received == lrc(&bytes)).then_some(bytes)
}

/// The two's complement of the sum.
pub(super) fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}
