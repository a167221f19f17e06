//! Whatever a device answers to a read or to an identification: never a panic, never more or fewer
//! entries than were asked for, and lengths that were promised are kept.
#![no_main]

use adapter_modbus::fuzz::{Ask, Heard};
use libfuzzer_sys::fuzz_target;

// Kind, start and count of the request; whether the answer begins as it should; the rest of it.
fuzz_target!(|input: (u8, u16, u16, u8, &[u8])| {
    let (kind, start, count, begun, rest) = input;
    let ask = Ask::of(kind, start, count);
    let mut pdu = ask.pdu();
    pdu.truncate(usize::from(begun % 4));
    pdu.extend(rest);
    match ask.decode(&pdu) {
        Heard::Words(words) => assert_eq!(Some(words.len()), ask.count()),
        Heard::Bits(bits) => assert_eq!(Some(bits.len()), ask.count()),
        Heard::Objects(objects) => {
            let bytes: usize = objects.iter().map(|(_, value)| 2 + value.len()).sum();
            assert_eq!((ask.count(), 7 + bytes), (None, pdu.len()));
        }
        Heard::Refused(code) => assert_eq!(pdu, [ask.pdu()[0] | 0x80, code]),
        Heard::Nothing | Heard::Misfit => {}
    }
});
