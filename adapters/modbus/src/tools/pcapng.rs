//! Frames as a file that Wireshark and tshark read: pcapng with packets that name their dissector
//! (`LINKTYPE_WIRESHARK_UPPER_PDU`), so that RTU is decoded as well as Modbus TCP without any setting.
//! Sans-IO.
//!
//! Addresses and ports in them are made up: requests go from 192.0.2.1 to port 502 of 192.0.2.2.

use std::net::Ipv4Addr;

/// Blocks of pcapng (draft-ietf-opsawg-pcapng §4).
const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
/// Little-endian, as the rest of the file.
const BYTE_ORDER: u32 = 0x1A2B_3C4D;
const UPPER_PDU: u16 = 252;
/// Options: the end, a section's program, an interface's name and description, a packet's flags.
const END: u16 = 0;
const PROGRAM: u16 = 4;
const NAME: u16 = 2;
const DESCRIPTION: u16 = 3;
const FLAGS: u16 = 2;
/// Directions in a packet's flags.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// Tags of an upper PDU (wireshark, `epan/exported_pdu.h`), big-endian.
const DISSECTOR: u16 = 12;
const FROM: u16 = 20;
const TO: u16 = 21;
const PORT_TYPE: u16 = 24;
const FROM_PORT: u16 = 25;
const TO_PORT: u16 = 26;
const OVER_TCP: u32 = 2;
/// What is made up.
const MASTER: (Ipv4Addr, u32) = (Ipv4Addr::new(192, 0, 2, 1), 50_200);
const SLAVE: (Ipv4Addr, u32) = (Ipv4Addr::new(192, 0, 2, 2), 502);

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The interface it was seen on, counted from 0 as they were written.
    pub interface: u32,
    /// When, in µs since 1970.
    pub us: u64,
    /// From us to the device.
    pub ours: bool,
    /// With an MBAP header; otherwise address, PDU, CRC.
    pub tcp: bool,
    /// As on the wire.
    pub bytes: &'a [u8],
    /// How many more there were on the wire.
    pub missing: usize,
}

/// The beginning of a file.
pub fn section() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(BYTE_ORDER.to_le_bytes());
    body.extend(1_u16.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    // The section's length is not known beforehand.
    body.extend(u64::MAX.to_le_bytes());
    option(&mut body, PROGRAM, concat!("tidegate ", env!("CARGO_PKG_VERSION")).as_bytes());
    option(&mut body, END, &[]);
    block(SECTION, &body)
}

/// One wire, before its first packet.
pub fn interface(name: &str, description: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(UPPER_PDU.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    // No limit to a packet's length.
    body.extend(0_u32.to_le_bytes());
    option(&mut body, NAME, name.as_bytes());
    option(&mut body, DESCRIPTION, description.as_bytes());
    option(&mut body, END, &[]);
    block(INTERFACE, &body)
}

/// One frame; times are in microseconds, which is what an interface has if it says nothing else.
pub fn packet(packet: &Packet<'_>) -> Vec<u8> {
    let (from, to) = if packet.ours { (MASTER, SLAVE) } else { (SLAVE, MASTER) };
    let mut data = Vec::new();
    tag(&mut data, DISSECTOR, if packet.tcp { b"mbtcp" } else { b"mbrtu" });
    tag(&mut data, FROM, &from.0.octets());
    tag(&mut data, TO, &to.0.octets());
    tag(&mut data, PORT_TYPE, &OVER_TCP.to_be_bytes());
    tag(&mut data, FROM_PORT, &from.1.to_be_bytes());
    tag(&mut data, TO_PORT, &to.1.to_be_bytes());
    tag(&mut data, END, &[]);
    data.extend_from_slice(packet.bytes);
    let length = |more| u32::try_from(data.len().saturating_add(more)).unwrap_or(u32::MAX).to_le_bytes();
    let (captured, original) = (length(0), length(packet.missing));
    let mut body = Vec::new();
    body.extend(packet.interface.to_le_bytes());
    // The upper half of the time comes first (§4.3).
    let (high, low) = (packet.us >> 32, packet.us & 0xFFFF_FFFF);
    for half in [high, low] {
        body.extend(u32::try_from(half).unwrap_or_default().to_le_bytes());
    }
    body.extend(captured);
    body.extend(original);
    body.extend(data);
    pad(&mut body);
    option(&mut body, FLAGS, &(if packet.ours { OUTBOUND } else { INBOUND }).to_le_bytes());
    option(&mut body, END, &[]);
    block(PACKET, &body)
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    // Bodies are padded already: they end with an option.
    let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX);
    let mut block = Vec::with_capacity(body.len() + 12);
    block.extend(kind.to_le_bytes());
    block.extend(length.to_le_bytes());
    block.extend_from_slice(body);
    block.extend(length.to_le_bytes());
    block
}

fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    let (value, length) = sized(value);
    to.extend(code.to_le_bytes());
    to.extend(length.to_le_bytes());
    to.extend_from_slice(value);
    pad(to);
}

/// Its length includes what it is padded with (`epan/exported_pdu.c`).
fn tag(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    let mut value = value.to_vec();
    pad(&mut value);
    let (value, length) = sized(&value);
    to.extend(code.to_be_bytes());
    to.extend(length.to_be_bytes());
    to.extend_from_slice(value);
}

/// What 16 bits can count of a value: names of wires are far shorter.
fn sized(value: &[u8]) -> (&[u8], u16) {
    match u16::try_from(value.len()) {
        Ok(length) => (value, length),
        Err(_) => (&[], 0),
    }
}

fn pad(to: &mut Vec<u8>) {
    to.resize(to.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_of_the_length_they_say_and_of_whole_words() {
        for bytes in [&[][..], &[1], &[1, 2, 3, 4, 5]] {
            let frame = Packet { interface: 0, us: 1 << 33 | 5, ours: true, tcp: false, bytes, missing: 7 };
            for block in [section(), interface("tty", "9600 8E1"), packet(&frame)] {
                let says = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
                assert_eq!(says(4) as usize, block.len());
                assert_eq!(says(block.len() - 4) as usize, block.len());
                assert_eq!(block.len() % 4, 0);
            }
            let block = packet(&frame);
            assert_eq!(block[12..20], [2, 0, 0, 0, 5, 0, 0, 0], "the time's upper half first");
            let length = |at: usize| {
                usize::try_from(u32::from_le_bytes(block[at..at + 4].try_into().unwrap())).unwrap()
            };
            let data = length(20);
            assert_eq!(length(24), data + 7, "as it was on the wire");
            assert!(block[28..28 + data].ends_with(bytes));
        }
    }
}
