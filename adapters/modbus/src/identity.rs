//! What a device says of itself: Read Device Identification, function 43 with MEI type 14 (Modbus
//! Application Protocol V1.1b3 §6.21). Sans-IO.
//!
//! Not here: who asks, and what is made of it.

use std::collections::BTreeMap;

/// The function code, Encapsulated Interface Transport.
pub(crate) const FUNCTION: u8 = 0x2B;
/// The MEI type.
const MEI: u8 = 0x0E;
/// Function, MEI type, access, conformity, more follows, next object, number of objects.
const HEAD: usize = 7;
/// More than any device takes for its 256 objects.
const PAGES: u32 = 256;

/// Which objects are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Access {
    /// Vendor, product code and revision: every device that knows the function has them.
    Basic = 1,
    /// Also the other objects the standard names.
    Regular = 2,
    /// Also the maker's own, from 0x80.
    Extended = 3,
    /// One object.
    Single = 4,
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identify {
    /// Which objects.
    pub access: Access,
    /// The first of them, or with [`Access::Single`] the one.
    pub object: u8,
}

/// An answer: some objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// What the device can be asked for: the highest access, with 0x80 for [`Access::Single`] as well.
    pub conformity: u8,
    /// The object to go on with, where not all fitted in.
    pub next: Option<u8>,
    /// Numbers and values, as they came: mostly ASCII.
    pub objects: Vec<(u8, Vec<u8>)>,
}

/// All objects of a device, asked for page by page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    access: Access,
    pages: u32,
    /// What has come so far, by number.
    pub objects: BTreeMap<u8, Vec<u8>>,
}

impl Identify {
    /// Appends the request.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.extend([FUNCTION, MEI, self.code(), self.object]);
    }

    /// How long an answer is that begins with these bytes, or if that is more than there are, how many
    /// it takes to know more; `None` where it cannot be one. Lengths are told object by object.
    pub(crate) fn answer_length(&self, pdu: &[u8]) -> Option<usize> {
        let expected = [FUNCTION, MEI, self.code()];
        if pdu.iter().zip(&expected).any(|(got, expected)| got != expected) {
            return None;
        }
        let mut length = HEAD;
        for _ in 0..pdu.get(HEAD - 1).copied().unwrap_or_default() {
            let Some(size) = pdu.get(length + 1) else { return fitting(length + 2) };
            length += 2 + usize::from(*size);
        }
        fitting(length)
    }

    /// The objects in a whole answer.
    pub(crate) fn decode(&self, pdu: &[u8]) -> Option<Page> {
        if self.answer_length(pdu)? != pdu.len() {
            return None;
        }
        let (head, mut rest) = pdu.split_first_chunk::<HEAD>()?;
        let [_, _, _, conformity, more, next, count] = *head;
        let mut objects = Vec::with_capacity(usize::from(count));
        while let Some(([number, size], after)) = rest.split_first_chunk() {
            let (value, after) = after.split_at_checked(usize::from(*size))?;
            objects.push((*number, value.to_vec()));
            rest = after;
        }
        let single = self.access == Access::Single;
        let asked_for = !single || matches!(objects.as_slice(), [(number, _)] if *number == self.object);
        let next = (more == 0xFF && !single).then_some(next);
        asked_for.then_some(Page { conformity, next, objects })
    }

    fn code(&self) -> u8 {
        self.access as u8
    }
}

fn fitting(length: usize) -> Option<usize> {
    (length <= crate::pdu::LONGEST).then_some(length)
}

impl Identity {
    /// Nothing yet.
    pub(crate) fn new(access: Access) -> Self {
        Self { access, pages: 0, objects: BTreeMap::new() }
    }

    /// The first request.
    pub(crate) fn begin(&self) -> Identify {
        Identify { access: self.access, object: 0 }
    }

    /// Takes a page. Returns the next request, or `None` at the end; a device that goes back to what
    /// it has said already, or says nothing new, is at its end.
    pub(crate) fn handle_page(&mut self, page: Page) -> Option<Identify> {
        let before = self.objects.len();
        self.objects.extend(page.objects);
        self.pages += 1;
        let news = self.objects.len() > before && self.pages < PAGES;
        let object = page.next.filter(|next| news && !self.objects.contains_key(next))?;
        Some(Identify { access: self.access, object })
    }
}

/// What the standard calls an object.
pub(crate) fn name(object: u8) -> Option<&'static str> {
    Some(match object {
        0 => "vendor",
        1 => "product code",
        2 => "revision",
        3 => "vendor URL",
        4 => "product",
        5 => "model",
        6 => "application",
        _ => return None,
    })
}

#[cfg(test)]
#[path = "identity_tests.rs"]
pub(crate) mod tests;
