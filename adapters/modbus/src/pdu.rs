//! Requests and answers as every wire carries them (Modbus Application Protocol V1.1b3 §6). Sans-IO.

use crate::{
    identity::{self, Identify, Page},
    point::Table,
};
use std::fmt;

/// Bytes of the longest PDU (§4.1).
pub(crate) const LONGEST: usize = 253;

/// What a device can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// For entries of a table.
    Read(Request),
    /// For what it is.
    Identify(Identify),
}

/// A request to read neighbouring entries of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// Which table.
    pub table: Table,
    /// Its first entry.
    pub start: u16,
    /// How many, at least one and at most the table's limit.
    pub count: u16,
}

/// What a device said to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The entries of a table of bits.
    Bits(Vec<bool>),
    /// The entries of a table of registers.
    Words(Vec<u16>),
    /// Some of what it is.
    Identity(Page),
    /// A Modbus exception.
    Refused(Exception),
}

/// An exception code (§7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exception(pub u8);

/// Set in the function code of an exception.
const REFUSED: u8 = 0x80;

impl Question {
    fn function(&self) -> u8 {
        match self {
            Self::Read(request) => request.function(),
            Self::Identify(_) => identity::FUNCTION,
        }
    }

    /// Appends the request.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Read(request) => request.encode(to),
            Self::Identify(identify) => identify.encode(to),
        }
    }

    /// Bytes of the longest answer.
    pub(crate) fn longest_answer(&self) -> usize {
        match self {
            Self::Read(request) => 2 + request.data_length(),
            Self::Identify(_) => LONGEST,
        }
    }

    /// How long an answer is that begins with these bytes, or if that is more than there are, how many
    /// it takes to know more; `None` where it cannot be an answer to this.
    pub(crate) fn answer_length(&self, pdu: &[u8]) -> Option<usize> {
        if *pdu.first()? == self.function() | REFUSED {
            return Some(2);
        }
        match self {
            Self::Read(request) => request.answer_length(pdu),
            Self::Identify(identify) => identify.answer_length(pdu),
        }
    }

    /// The answer to this, and to nothing else.
    pub(crate) fn decode(&self, pdu: &[u8]) -> Option<Answer> {
        if let [function, code] = pdu
            && *function == self.function() | REFUSED
        {
            return Some(Answer::Refused(Exception(*code)));
        }
        match self {
            Self::Read(request) => request.decode(pdu),
            Self::Identify(identify) => identify.decode(pdu).map(Answer::Identity),
        }
    }
}

impl From<Request> for Question {
    fn from(request: Request) -> Self {
        Self::Read(request)
    }
}

impl From<Identify> for Question {
    fn from(identify: Identify) -> Self {
        Self::Identify(identify)
    }
}

impl Request {
    fn function(&self) -> u8 {
        match self.table {
            Table::Coil => 1,
            Table::Discrete => 2,
            Table::Holding => 3,
            Table::Input => 4,
        }
    }

    fn encode(&self, to: &mut Vec<u8>) {
        to.push(self.function());
        to.extend(self.start.to_be_bytes());
        to.extend(self.count.to_be_bytes());
    }

    /// Bytes of the entries in the answer.
    fn data_length(&self) -> usize {
        let count = usize::from(self.count);
        if self.table.is_bits() { count.div_ceil(8) } else { 2 * count }
    }

    /// With only the function code known, what follows is taken for granted.
    fn answer_length(&self, pdu: &[u8]) -> Option<usize> {
        let function = *pdu.first()?;
        let count = self.data_length();
        let fits = pdu.get(1).is_none_or(|length| usize::from(*length) == count);
        (function == self.function() && fits).then_some(2 + count)
    }

    fn decode(&self, pdu: &[u8]) -> Option<Answer> {
        if self.answer_length(pdu)? != pdu.len() {
            return None;
        }
        let (_, data) = pdu.split_at_checked(2)?;
        Some(if self.table.is_bits() {
            let bits = data.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
            Answer::Bits(bits.take(usize::from(self.count)).collect())
        } else {
            Answer::Words(data.as_chunks().0.iter().map(|word| u16::from_be_bytes(*word)).collect())
        })
    }
}

impl Exception {
    /// Whether a smaller request might be answered.
    pub(crate) fn is_about_addresses(self) -> bool {
        matches!(self.0, 2 | 3)
    }

    /// Whether the same request may be answered later.
    pub(crate) fn is_about_time(self) -> bool {
        matches!(self.0, 5 | 6)
    }

    /// Whether a gateway speaks for a device it cannot reach.
    pub(crate) fn is_of_a_gateway(self) -> bool {
        matches!(self.0, 0x0a | 0x0b)
    }
}

/// As it is shown in a reading's quality.
impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "illegal function",
            2 => "illegal data address",
            3 => "illegal data value",
            4 => "device failure",
            5 => "acknowledged, still working",
            6 => "device busy",
            7 => "negative acknowledge",
            8 => "memory parity error",
            0x0a => "gateway path unavailable",
            0x0b => "gateway target did not respond",
            _ => "exception",
        };
        match self.0 {
            0..=9 => write!(f, "{name} (exception {:02})", self.0),
            _ => write!(f, "{name} (exception {0:02X}, decimal {0})", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(table: Table, start: u16, count: u16) -> Question {
        Request { table, start, count }.into()
    }

    fn encoded(request: Question) -> Vec<u8> {
        let mut pdu = Vec::new();
        request.encode(&mut pdu);
        pdu
    }

    #[test]
    fn the_examples_of_the_standard() {
        // §6.1, §6.3 and the exception of §7.
        let coils = request(Table::Coil, 0x13, 0x25);
        assert_eq!(encoded(coils), [1, 0, 0x13, 0, 0x25]);
        let Some(Answer::Bits(bits)) = coils.decode(&[1, 5, 0xCD, 0x6B, 0xB2, 0x0E, 0x1B]) else { panic!() };
        assert_eq!(bits.len(), 0x25);
        assert_eq!(bits[..8], [true, false, true, true, false, false, true, true], "27 to 20: CD");
        let words = request(Table::Holding, 0x6B, 3);
        assert_eq!(encoded(words), [3, 0, 0x6B, 0, 3]);
        let answer = words.decode(&[3, 6, 0x02, 0x2B, 0, 0, 0, 0x64]);
        assert_eq!(answer, Some(Answer::Words(vec![0x22B, 0, 0x64])));
        assert_eq!(words.decode(&[0x83, 2]), Some(Answer::Refused(Exception(2))));
    }

    #[test]
    fn what_does_not_fit_is_no_answer() {
        let words = request(Table::Holding, 0, 2);
        for pdu in [
            &[][..],
            &[3],
            &[3, 4, 0, 1, 0],
            &[3, 4, 0, 1, 0, 2, 0],
            &[3, 2, 0, 1],
            &[3, 3, 0, 1, 0],
            &[4, 4, 0, 1, 0, 2],
            &[0x84, 2],
            &[0x83],
            &[0x83, 2, 0],
        ] {
            assert_eq!(words.decode(pdu), None, "{pdu:x?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_it_has_the_length_that_was_asked_for(
            table in crate::point::tables(), start: u16, count in 1_u16..=125, pdu: Vec<u8>
        ) {
            let request = request(table, start, count);
            match request.decode(&pdu) {
                Some(Answer::Bits(bits)) => prop_assert!(table.is_bits() && bits.len() == usize::from(count)),
                Some(Answer::Words(words)) => prop_assert!(!table.is_bits() && words.len() == usize::from(count)),
                Some(Answer::Refused(_)) => prop_assert_eq!(pdu.len(), 2),
                Some(Answer::Identity(_)) => prop_assert!(false, "a table was asked for"),
                None => {}
            }
        }
    }
}
