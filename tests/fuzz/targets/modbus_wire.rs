//! Whatever comes over a Modbus wire, RTU, ASCII or TCP, echoed or not: never a panic, no memory, and an
//! answer only where there is one: of this unit, with a right check sum or this transaction.
#![no_main]

use adapter_modbus::fuzz::{Ask, Heard, Wire};
use libfuzzer_sys::fuzz_target;

const TRANSACTION: u16 = 7;

// Framing and echo; kind, start and count of the request; unit; where it is cut; what comes, and after
// it an answer with a right check sum made of a part of it.
fuzz_target!(|input: (u8, u8, u8, u16, u16, u8, u16, u8, &[u8])| {
    let (framing, echo, kind, start, count, unit, cut, seal, bytes) = input;
    let (wire, ask) = (Wire::of(framing, echo), Ask::of(kind, start, count));
    let mut stream = bytes.to_vec();
    if seal % 2 == 1 {
        if echo % 3 == 2 {
            stream.extend(wire.frame(TRANSACTION, unit, ask));
        }
        let end = bytes.len().saturating_sub(usize::from(seal));
        stream.extend(sealed(framing, unit, &bytes[end..]));
    }
    let heard = wire.hear(TRANSACTION, unit, ask, [stream.as_slice()]);
    let (first, second) = stream.split_at(usize::from(cut).min(stream.len()));
    let in_two = wire.hear(TRANSACTION, unit, ask, [first, second]);
    let singly = wire.hear(TRANSACTION, unit, ask, stream.chunks(1));
    if wire.is_cut_anywhere() {
        assert!(in_two == heard && singly == heard, "{heard:?}, {in_two:?}, {singly:?}");
    }
    for heard in [heard, in_two, singly] {
        judge(&heard, ask, framing, unit, &stream);
    }
});

/// There is an answer in the stream that says so.
fn judge(heard: &Heard, ask: Ask, framing: u8, unit: u8, stream: &[u8]) {
    let function = ask.pdu()[0];
    let pdu = match heard {
        Heard::Nothing => return,
        Heard::Misfit => return assert_eq!(framing % 3, 0, "only TCP is given up"),
        Heard::Refused(code) => vec![function | 0x80, *code],
        Heard::Words(words) => {
            assert_eq!(Some(words.len()), ask.count());
            let mut pdu = vec![function, u8::try_from(2 * words.len()).expect("at most 125")];
            pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            pdu
        }
        Heard::Bits(bits) => return assert_eq!(Some(bits.len()), ask.count()),
        Heard::Objects(objects) => {
            // Conformity and the next object are not told here.
            let mut body = Vec::new();
            for (number, value) in objects {
                body.extend([*number, u8::try_from(value.len()).expect("one byte")]);
                body.extend(value);
            }
            return assert!(framing % 3 == 2 || contains(stream, &body), "{objects:?}");
        }
    };
    let frame = sealed(framing, unit, &pdu);
    let stream = if framing % 3 == 2 { stream.to_ascii_uppercase() } else { stream.to_vec() };
    // An ASCII frame may end without CR.
    let frame = frame.strip_suffix(b"\r\n").unwrap_or(&frame);
    assert!(contains(&stream, frame), "{heard:?} came from nowhere");
}

fn contains(stream: &[u8], part: &[u8]) -> bool {
    part.is_empty() || stream.windows(part.len()).any(|window| window == part)
}

/// As a device frames it; by code of its own.
fn sealed(framing: u8, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let adu = [&[unit], pdu].concat();
    match framing % 3 {
        0 => {
            let length = u16::try_from(adu.len()).unwrap_or(u16::MAX).to_be_bytes();
            [&TRANSACTION.to_be_bytes()[..], &[0, 0], &length, &adu].concat()
        }
        1 => {
            let mut crc = u16::MAX;
            for byte in &adu {
                crc ^= u16::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xA001 };
                }
            }
            [&adu[..], &crc.to_le_bytes()].concat()
        }
        _ => {
            let sum = adu.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            let digits: String =
                adu.iter().chain([&sum.wrapping_neg()]).map(|b| format!("{b:02X}")).collect();
            format!(":{digits}\r\n").into_bytes()
        }
    }
}
