//! Frames of the reference, cut into pieces, damaged, late and among others.

use super::*;
use crate::{
    identity::tests::answered,
    pdu::{Exception, Request},
    point::{Table, tables},
};
use proptest::prelude::*;

const FRAMINGS: [Framing; 3] = [Framing::Tcp, Framing::Rtu, Framing::Ascii];

fn request(table: Table, start: u16, count: u16) -> Request {
    Request { table, start, count }
}

/// The frame a device sends.
fn sent(framing: Framing, transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let adu: Vec<u8> = [unit].into_iter().chain(pdu.iter().copied()).collect();
    match framing {
        Framing::Tcp => tcp::frame(transaction, &adu),
        Framing::Rtu => rtu::frame(adu),
        Framing::Ascii => ascii::frame(&adu),
    }
}

/// An answer with these bytes as its data, as many as it takes.
fn fitting(request: &Request, data: &[u8]) -> Vec<u8> {
    let (mut pdu, question) = (Vec::new(), Question::from(*request));
    question.encode(&mut pdu);
    pdu.truncate(1);
    let length = question.longest_answer() - 2;
    pdu.push(u8::try_from(length).unwrap());
    pdu.extend(data.iter().cycle().take(length));
    pdu
}

fn open(framing: Framing, transaction: u16, unit: u8, asked: impl Into<Question>) -> (Exchange, Vec<u8>) {
    Exchange::new(framing, Echo::Possible, transaction, unit, asked.into())
}

fn decoded(request: Request, pdu: &[u8]) -> Option<Answer> {
    Question::from(request).decode(pdu)
}

/// Feeds bytes in pieces; the first answer.
fn feed(exchange: &mut Exchange, bytes: &[u8], pieces: &[usize]) -> Option<Answer> {
    let (mut rest, mut pieces) = (bytes, pieces.iter().cycle());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*pieces.next().unwrap()).clamp(1, rest.len()));
        rest = after;
        if let Some(answer) = exchange.handle_bytes(piece).expect("it is Modbus") {
            assert!(rest.is_empty(), "found before it was complete");
            return Some(answer);
        }
    }
    None
}

#[test]
fn frames_are_those_of_the_reference() {
    let words = request(Table::Holding, 0x6B, 3);
    let (_, rtu) = open(Framing::Rtu, 0, 0x11, words);
    assert_eq!(rtu, [0x11, 0x03, 0x00, 0x6B, 0x00, 0x03, 0x76, 0x87]);
    let (_, ascii) = open(Framing::Ascii, 0, 0x11, words);
    assert_eq!(ascii, b":1103006B00037E\r\n");
    let (_, tcp) = open(Framing::Tcp, 1, 0x11, words);
    assert_eq!(tcp, [0, 1, 0, 0, 0, 6, 0x11, 0x03, 0, 0x6B, 0, 3]);
    let coils = request(Table::Coil, 0x13, 0x25);
    let (mut exchange, rtu) = open(Framing::Rtu, 0, 0x11, coils);
    assert_eq!(rtu, [0x11, 0x01, 0x00, 0x13, 0x00, 0x25, 0x0E, 0x84]);
    let answer = exchange.handle_bytes(&[0x11, 0x01, 0x05, 0xCD, 0x6B, 0xB2, 0x0E, 0x1B, 0x45, 0xE6]);
    assert!(matches!(answer, Ok(Some(Answer::Bits(bits))) if bits.len() == 37));
    let (mut exchange, _) = open(Framing::Rtu, 0, 0x11, words);
    let refused = exchange.handle_bytes(&[0x11, 0x83, 0x02, 0xC1, 0x34]);
    assert_eq!(refused, Ok(Some(Answer::Refused(Exception(2)))));
    assert_eq!((rtu::crc(b"123456789"), ascii::lrc(&[0xF7, 0x03, 0x13, 0x89, 0, 0x0A])), (0x4B37, 0x60));
}

#[test]
fn what_is_no_modbus_tcp_breaks_the_connection() {
    for bytes in
        [&[0, 1, 0, 1, 0, 6, 1, 3][..], &[0, 1, 0, 0, 0, 1, 1], &[0, 1, 0, 0, 1, 0, 1], b"HTTP/1.1 400"]
    {
        let (mut exchange, _) = open(Framing::Tcp, 1, 1, request(Table::Holding, 0, 1));
        assert_eq!(exchange.handle_bytes(bytes), Err(Misfit), "{bytes:x?}");
    }
    // The right transaction, another unit.
    let words = request(Table::Holding, 0, 1);
    let (mut exchange, _) = open(Framing::Tcp, 1, 1, words);
    let other = sent(Framing::Tcp, 1, 2, &fitting(&words, &[0]));
    assert_eq!(exchange.handle_bytes(&other), Err(Misfit));
}

#[test]
fn a_babbling_line_takes_no_memory() {
    for framing in [Framing::Rtu, Framing::Ascii] {
        for babble in [1_u8, b':', b'0', 0] {
            let (mut exchange, _) = open(framing, 0, 1, request(Table::Holding, 0, 125));
            for _ in 0..1_000 {
                assert_eq!(exchange.handle_bytes(&[babble; 64]), Ok(None));
            }
            assert!(exchange.kept() < 1_024, "{framing:?} {babble}: {}", exchange.kept());
        }
    }
}

/// The request for 20 coils from 0x310 is, byte for byte, an answer with 20 coils.
#[test]
fn an_echo_that_looks_like_an_answer_is_none() {
    let asked = Question::from(request(Table::Coil, 0x310, 20));
    for framing in [Framing::Rtu, Framing::Ascii] {
        let answer = sent(framing, 0, 1, &[1, 3, 0xFF, 0xFF, 0x0F]);
        let on = |echo| Exchange::new(framing, echo, 0, 1, asked);
        let ((mut possible, frame), (mut certain, _), (mut absent, _)) =
            (on(Echo::Possible), on(Echo::Certain), on(Echo::Absent));
        assert_eq!(possible.handle_bytes(&frame), Ok(None));
        assert_eq!(certain.handle_bytes(&frame), Ok(None));
        assert!(!certain.misses_echo() && !certain.heard());
        let all = Answer::Bits(vec![true; 20]);
        assert_eq!(possible.handle_bytes(&answer), Ok(Some(all.clone())));
        assert_eq!(certain.handle_bytes(&answer), Ok(Some(all)));
        let bits = absent.handle_bytes(&frame);
        assert!(matches!(bits, Ok(Some(Answer::Bits(bits))) if bits.len() == 20), "there is no echo");
    }
}

#[test]
fn an_answer_before_the_echo_is_none() {
    let words = request(Table::Holding, 0, 1);
    for framing in [Framing::Rtu, Framing::Ascii] {
        let (mut exchange, frame) = Exchange::new(framing, Echo::Certain, 0, 1, words.into());
        let answer = sent(framing, 0, 1, &fitting(&words, &[7]));
        for _ in 0..100 {
            assert_eq!(exchange.handle_bytes(&answer), Ok(None));
        }
        assert!(exchange.misses_echo() && exchange.kept() < frame.len());
        // The driver that comes on makes a stray byte.
        assert_eq!(exchange.handle_bytes(&[&[0], frame.as_slice()].concat()), Ok(None));
        assert!(!exchange.misses_echo());
        assert_eq!(exchange.handle_bytes(&answer), Ok(Some(Answer::Words(vec![0x0707]))));
    }
}

fn requests() -> impl Strategy<Value = Request> {
    (tables(), any::<u16>(), 1_u16..=125).prop_map(|(table, start, count)| request(table, start, count))
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1_usize..40, 1..8)
}

proptest! {
    #[test]
    fn an_answer_is_found_however_it_is_cut(
        request in requests(), unit: u8, transaction: u16,
        data in proptest::collection::vec(any::<u8>(), 1..9), pieces in pieces(),
    ) {
        for framing in FRAMINGS {
            let pdu = fitting(&request, &data);
            let bytes = sent(framing, transaction, unit, &pdu);
            let (mut exchange, _) = open(framing, transaction, unit, request);
            prop_assert_eq!(exchange.answer_length(), bytes.len());
            prop_assert_eq!(feed(&mut exchange, &bytes, &pieces), decoded(request, &pdu), "{:?}", framing);
        }
    }

    /// Its length is told by what it contains.
    #[test]
    fn an_identification_is_found_however_it_is_cut(
        (asked, pdu) in answered(), unit: u8, strange in 1_u8.., pieces in pieces(), echo: bool,
    ) {
        for framing in FRAMINGS {
            let (mut exchange, own) = open(framing, 7, unit, asked);
            let mut bytes = sent(framing, 6, unit.wrapping_add(strange), &pdu);
            if echo && framing != Framing::Tcp {
                bytes.extend(own);
            }
            bytes.extend(sent(framing, 7, unit, &pdu));
            let page = asked.decode(&pdu).map(Answer::Identity);
            prop_assert!(page.is_some());
            prop_assert_eq!(feed(&mut exchange, &bytes, &pieces), page, "{:?}", framing);
        }
    }

    #[test]
    fn an_echo_is_taken_off_however_it_is_cut(
        request in requests(), unit: u8,
        data in proptest::collection::vec(any::<u8>(), 1..9), pieces in pieces(),
    ) {
        for framing in [Framing::Rtu, Framing::Ascii] {
            let pdu = fitting(&request, &data);
            let (mut exchange, mut bytes) =
                Exchange::new(framing, Echo::Certain, 0, unit, request.into());
            bytes.extend(sent(framing, 0, unit, &pdu));
            prop_assert_eq!(feed(&mut exchange, &bytes, &pieces), decoded(request, &pdu), "{:?}", framing);
        }
    }

    /// Answers of other units, functions and lengths and other transactions come first, and the echo.
    #[test]
    fn what_belongs_to_others_is_skipped(
        asked in requests(), unit: u8, other in requests(), strange in 1_u8..,
        data in proptest::collection::vec(any::<u8>(), 1..9), pieces in pieces(),
    ) {
        for framing in FRAMINGS {
            let (mut exchange, echo) = open(framing, 7, unit, asked);
            let mut bytes = Vec::new();
            let late = sent(framing, 6, unit.wrapping_add(strange), &fitting(&other, &data));
            bytes.extend(&late);
            if (other.table, other.count) != (asked.table, asked.count)
                && decoded(asked, &fitting(&other, &data)).is_none()
            {
                bytes.extend(sent(framing, 6, unit, &fitting(&other, &data)));
            }
            if framing != Framing::Tcp {
                bytes.extend(echo);
            }
            let pdu = fitting(&asked, &data);
            bytes.extend(sent(framing, 7, unit, &pdu));
            prop_assert_eq!(feed(&mut exchange, &bytes, &pieces), decoded(asked, &pdu), "{:?}", framing);
        }
    }

    /// One damaged byte is no answer: CRC and LRC find every single one.
    #[test]
    fn a_damaged_answer_is_none(
        request in requests(), unit: u8, at: proptest::sample::Index, flip in 1_u8..,
        data in proptest::collection::vec(any::<u8>(), 1..9),
    ) {
        for framing in [Framing::Rtu, Framing::Ascii] {
            let mut bytes = sent(framing, 0, unit, &fitting(&request, &data));
            let body = bytes.len() - if framing == Framing::Ascii { 2 } else { 0 };
            let at = at.index(body);
            // In ASCII a digit may turn into the same digit in lower case.
            let damaged = bytes[at] ^ flip;
            prop_assume!(!(framing == Framing::Ascii && damaged.eq_ignore_ascii_case(&bytes[at])));
            bytes[at] = damaged;
            let (mut exchange, _) = open(framing, 0, unit, request);
            prop_assert_eq!(exchange.handle_bytes(&bytes), Ok(None), "{:?} at {}", framing, at);
        }
    }

    #[test]
    fn noise_is_no_answer_and_no_panic(request in requests(), unit: u8, noise: Vec<u8>) {
        for framing in FRAMINGS {
            let (mut exchange, _) = open(framing, 0, unit, request);
            let found = exchange.handle_bytes(&noise);
            prop_assert!(matches!(found, Ok(None) | Err(Misfit)), "{:?}", found);
        }
    }
}
