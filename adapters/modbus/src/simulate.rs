//! A slave that is played: the registers of a profile with values that move, over TCP, a serial port or
//! a pseudo-terminal.
//!
//! ```text
//! port: bytes -> request: one frame -> Slave: its answer -> image: the registers of this moment
//! ```
//! It shares the profiles and the types with the adapter, and nothing of the way a request takes.

mod encode;
mod image;
mod motion;
mod port;
mod request;
#[cfg(test)]
mod tests;

pub use port::{Place, Port, PortError};

use crate::{point::Table, profile::Profile};
use image::Image;
use std::{iter, time::Duration};

/// Exceptions that are given (Modbus Application Protocol V1.1b3 §7).
const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_ADDRESS: u8 = 2;
const ILLEGAL_VALUE: u8 = 3;
/// Read Device Identification (§6.21): its function, and its kind of encapsulated request.
const IDENTIFY: u8 = 0x2b;
const IDENTIFICATION: u8 = 0x0e;
/// Basic and regular objects, as a stream and one by one.
const CONFORMITY: u8 = 0x82;

/// A simulated device.
#[derive(Debug)]
pub struct Slave {
    profile: Profile,
    unit: u8,
    image: Image,
}

impl Slave {
    /// A device of this model with this unit identifier.
    pub fn new(profile: Profile, unit: u8) -> Self {
        let image = Image::new(&profile, unit);
        Self { profile, unit, image }
    }

    /// Its unit identifier.
    pub fn unit(&self) -> u8 {
        self.unit
    }

    /// The answer to a request, so long after the device was switched on.
    fn answer(&self, pdu: &[u8], age: Duration) -> Vec<u8> {
        let function = pdu.first().copied().unwrap_or_default();
        let refused = |code: u8| vec![function | 0x80, code];
        let table = match function {
            1 => Table::Coil,
            2 => Table::Discrete,
            3 => Table::Holding,
            4 => Table::Input,
            IDENTIFY => return self.identify(pdu).unwrap_or_else(refused),
            _ => return refused(ILLEGAL_FUNCTION),
        };
        let &[_, s0, s1, c0, c1] = pdu else { return refused(ILLEGAL_VALUE) };
        let (start, count) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([c0, c1]));
        let limits = self.profile.limits;
        let limit = if table.is_bits() { limits.max_bits } else { limits.max_registers };
        if !(1..=limit.unwrap_or(table.limit())).contains(&count) {
            return refused(ILLEGAL_VALUE);
        }
        let Some(words) = self.image.read(table, start, count, age) else { return refused(ILLEGAL_ADDRESS) };
        let data: Vec<u8> = if table.is_bits() {
            let packed =
                |bits: &[u16]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit != 0));
            words.chunks(8).map(packed).collect()
        } else {
            words.into_iter().flat_map(u16::to_be_bytes).collect()
        };
        // 250 bytes at most.
        let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
        [function, length].into_iter().chain(data).collect()
    }

    /// Read Device Identification, or the exception it is refused with.
    fn identify(&self, pdu: &[u8]) -> Result<Vec<u8>, u8> {
        let &[_, kind, code, first] = pdu else { return Err(ILLEGAL_VALUE) };
        if kind != IDENTIFICATION {
            return Err(ILLEGAL_FUNCTION);
        }
        let product = self.profile.description.as_deref().unwrap_or(&self.profile.model);
        let objects = [
            (0, self.profile.vendor.as_str()),
            (1, self.profile.name.as_str()),
            (2, env!("CARGO_PKG_VERSION")),
            (4, product),
            (5, self.profile.model.as_str()),
        ];
        let last = match code {
            1 => 2,
            2 | 3 => 6,
            4 if objects.iter().any(|(id, _)| *id == first) => first,
            4 => return Err(ILLEGAL_ADDRESS),
            _ => return Err(ILLEGAL_VALUE),
        };
        // A stream that begins with an object there is not begins with the first.
        let known = objects.iter().any(|(id, _)| *id == first) && first <= last;
        let from = if known { first } else { 0 };
        let chosen: Vec<_> = objects.into_iter().filter(|(id, _)| (from..=last).contains(id)).collect();
        let count = u8::try_from(chosen.len()).unwrap_or_default();
        let mut answer = vec![IDENTIFY, IDENTIFICATION, code, CONFORMITY, 0, 0, count];
        for (id, text) in chosen {
            // Short, so that all of them fit one answer.
            let text: Vec<u8> = text.bytes().filter(u8::is_ascii).take(46).collect();
            answer.extend(iter::once(id).chain(u8::try_from(text.len())).chain(text));
        }
        Ok(answer)
    }
}
