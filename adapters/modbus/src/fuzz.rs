//! What the Modbus targets of `tests/fuzz` drive: an exchange that hears whatever comes over a wire, the
//! answers in it, and registers that become readings.

mod device;

pub use device::{Sunspec, profile, rounds};

use crate::{
    frame::{Echo, Exchange, Framing, Misfit},
    identity::{Access, Identify, Identity},
    pdu::{Answer, Question, Request},
    point::Table,
    value::{Form, Half, Kind, Order, Part, Scale, Sentinel},
};
use adapter_api::{Quality, Reading, Resource};
use std::collections::BTreeMap;

/// One request, made of whatever bytes there are.
#[derive(Debug, Clone, Copy)]
pub struct Ask(Question);

/// A framing and whether its line echoes.
#[derive(Debug, Clone, Copy)]
pub struct Wire(Framing, Echo);

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing so far.
    Nothing,
    /// What is no Modbus TCP.
    Misfit,
    /// A device's refusal.
    Refused(u8),
    /// Registers, as many as were asked for.
    Words(Vec<u16>),
    /// Bits, as many as were asked for.
    Bits(Vec<bool>),
    /// Objects of an identification.
    Objects(Vec<(u8, Vec<u8>)>),
}

impl Ask {
    /// Every request that can be made.
    pub fn of(kind: u8, start: u16, count: u16) -> Self {
        let table = [Table::Coil, Table::Discrete, Table::Holding, Table::Input].get(usize::from(kind % 8));
        if let Some(table) = table {
            let count = 1 + count % table.limit();
            return Self(Request { table: *table, start, count }.into());
        }
        let [object, _] = start.to_be_bytes();
        let access = match kind % 4 {
            0 => Access::Basic,
            1 => Access::Regular,
            2 => Access::Extended,
            _ => Access::Single,
        };
        Self(Identify { access, object }.into())
    }

    /// Entries asked for; `None` of an identification.
    pub fn count(&self) -> Option<usize> {
        match self.0 {
            Question::Read(request) => Some(usize::from(request.count)),
            Question::Identify(_) => None,
        }
    }

    /// The PDU of the request.
    pub fn pdu(&self) -> Vec<u8> {
        let mut pdu = Vec::new();
        self.0.encode(&mut pdu);
        pdu
    }

    /// What a PDU answers to it. The length that its beginnings promise is never beyond a whole answer.
    pub fn decode(&self, pdu: &[u8]) -> Heard {
        let answer = self.0.decode(pdu);
        if answer.is_some() {
            for end in 1..=pdu.len() {
                let promised = pdu.get(..end).and_then(|begun| self.0.answer_length(begun));
                assert!(promised.is_some_and(|length| length <= pdu.len()), "{promised:?} of {end} bytes");
            }
        }
        if let Some(Answer::Identity(page)) = &answer {
            let mut identity = Identity::new(Access::Extended);
            let next = identity.handle_page(page.clone());
            assert!(next.is_none_or(|next| !identity.objects.contains_key(&next.object)));
        }
        Heard::from(Ok(answer))
    }
}

impl Wire {
    /// TCP, RTU or ASCII, with or without an echo.
    pub fn of(framing: u8, echo: u8) -> Self {
        let framing = match framing % 3 {
            0 => Framing::Tcp,
            1 => Framing::Rtu,
            _ => Framing::Ascii,
        };
        Self(
            framing,
            match echo % 3 {
                0 => Echo::Possible,
                1 => Echo::Absent,
                // TCP has none.
                _ if framing == Framing::Tcp => Echo::Absent,
                _ => Echo::Certain,
            },
        )
    }

    /// Whether the same bytes mean the same in any pieces. In RTU a shorter frame inside a longer one
    /// that is not complete is found first.
    pub fn is_cut_anywhere(&self) -> bool {
        self.0 != Framing::Rtu
    }

    /// What is sent.
    pub fn frame(&self, transaction: u16, unit: u8, ask: Ask) -> Vec<u8> {
        Exchange::new(self.0, self.1, transaction, unit, ask.0).1
    }

    /// What the pieces answer, up to the first answer. No more is kept than a frame or two.
    pub fn hear<'a>(
        &self,
        transaction: u16,
        unit: u8,
        ask: Ask,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Heard {
        let (mut exchange, _) = Exchange::new(self.0, self.1, transaction, unit, ask.0);
        for piece in pieces {
            match Heard::from(exchange.handle_bytes(piece)) {
                Heard::Nothing => assert!(exchange.kept() < 1_024, "{} bytes are kept", exchange.kept()),
                other => return other,
            }
        }
        Heard::Nothing
    }
}

impl From<Result<Option<Answer>, Misfit>> for Heard {
    fn from(result: Result<Option<Answer>, Misfit>) -> Self {
        match result {
            Ok(None) => Self::Nothing,
            Err(Misfit) => Self::Misfit,
            Ok(Some(Answer::Refused(exception))) => {
                assert!(!exception.to_string().is_empty());
                Self::Refused(exception.0)
            }
            Ok(Some(Answer::Words(words))) => Self::Words(words),
            Ok(Some(Answer::Bits(bits))) => Self::Bits(bits),
            Ok(Some(Answer::Identity(page))) => Self::Objects(page.objects),
        }
    }
}

/// A form that a configuration may describe: `pick` chooses among types, orders and parts.
#[derive(Debug, Clone, Copy)]
pub struct Pick {
    /// Type, order, half, and whether there is a name.
    pub choices: [u8; 4],
    /// Of texts and raw bytes.
    pub length: u16,
    /// Lowest bit and number of bits of a part.
    pub part: Option<(u8, u8)>,
    /// A raw number that is none.
    pub sentinel: Option<i64>,
    /// Scale, offset, decimals.
    pub scale: (f64, f64, Option<u8>),
}

/// The reading of these registers. There is one exactly if there are enough of them, and what is good
/// has a value.
pub fn read(pick: &Pick, words: &[u16]) -> Option<Reading> {
    let [kind, order, half, named] = pick.choices;
    let (_, kind) = Kind::NAMES[usize::from(kind) % Kind::NAMES.len()];
    let (_, order) = Order::NAMES[usize::from(order) % Order::NAMES.len()];
    let bits = match kind {
        Kind::Bool => Some(16),
        Kind::Whole { bits, .. } => Some(bits),
        _ => None,
    };
    let part = pick.part.zip(bits).map(|((low, width), bits)| {
        let low = low % bits;
        Part { low, width: 1 + width % (bits - low) }
    });
    let (scale, offset, decimals) = pick.scale;
    let number = |given: f64, usual: f64| if given.is_normal() { given } else { usual };
    let form = Form {
        kind,
        order,
        length: kind.length().unwrap_or(1 + pick.length % 125),
        half: [None, Some(Half::High), Some(Half::Low)][usize::from(half % 3)],
        part: if kind == Kind::Bool {
            Some(part.map_or(Part { low: 0, width: 1 }, |part| Part { width: 1, ..part }))
        } else {
            part
        },
        sentinels: pick.sentinel.map(Sentinel::Whole).into_iter().collect(),
        names: (named % 2 == 1 && kind.is_number())
            .then(|| (0, "off".to_owned()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        scale: Scale {
            scale: number(scale, 1.0),
            offset: number(offset, 0.0),
            decimals: decimals.map(|decimals| decimals % 16),
        },
    };
    let reading = form.decode(Resource::new("value").ok()?, words);
    assert_eq!(reading.is_some(), words.len() >= usize::from(form.length), "{form:?}");
    if let Some(reading) = &reading {
        let none = reading.value == adapter_api::Value::None;
        assert!(!(none && reading.quality == Quality::Good), "{reading:?} of {form:?}");
    }
    reading
}
