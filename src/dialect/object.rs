//! One sample as one flat object: the timestamp field, then each resource by its name on the wire,
//! in the sample's order.
//!
//! Responsible for which members an object has, for their names being unique, and for how many
//! objects fit a payload. How a member is spelt is in `object/json.rs` and `object/cbor.rs`, how an
//! instant is in `object/stamp.rs`. Not here: topics and confirmations. Sans-IO.

mod cbor;
mod json;
mod stamp;
#[cfg(test)]
mod tests;

use super::{
    EncodeError,
    words::{REASON_BYTES, cut},
};
use crate::endpoints::Endpoint;
use adapter_api::{Quality, Reading, Resource, Sample, Stamp, Value};
use serde::Deserialize;
pub use stamp::TimestampFormat;
use stamp::Written;
use std::{borrow::Cow, collections::BTreeMap};

/// How objects are spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON text; bytes are base64 (RFC 4648 §4).
    #[default]
    Json,
    /// CBOR (RFC 8949) of definite lengths; bytes are byte strings.
    Cbor,
}

/// Whether an object says how far its values can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QualityMode {
    /// It does not; a `Bad` value is null all the same.
    #[default]
    Off,
    /// A member `<resource>_quality` follows everything that is not `Good`.
    Field,
}

/// How a dialect wants its objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout<'a> {
    /// JSON or CBOR.
    pub(super) format: Format,
    /// The member that holds the instant.
    pub(super) timestamp_field: &'a str,
    /// How it is written.
    pub(super) timestamp_format: TimestampFormat,
    /// Whether qualities are written.
    pub(super) quality: QualityMode,
}

/// The value of a member.
#[derive(Debug)]
enum Member<'a> {
    Stamp(Written),
    Value(&'a Value),
    Quality(String),
}

type Members<'a> = Vec<(Cow<'a, str>, Member<'a>)>;

impl<'a> Layout<'a> {
    /// Writes one sample as a bare object.
    pub(super) fn object(&self, endpoint: &'a Endpoint, sample: &'a Sample, out: &mut Vec<u8>) {
        let members = self.members(endpoint, sample);
        match self.format {
            Format::Json => json::object(&members, out),
            Format::Cbor => cbor::object(&members, out),
        }
    }

    /// An array of leading samples, at most `batch` of them and at most `limit` bytes, and how many it holds.
    pub(super) fn array(
        &self,
        endpoint: &'a Endpoint,
        samples: &[&'a Sample],
        batch: usize,
        limit: usize,
    ) -> Result<(Vec<u8>, usize), EncodeError> {
        let (mut items, mut taken, mut bytes) = (Vec::new(), 0_usize, self.array_bytes(0, 0));
        for sample in samples.iter().take(batch.max(1)) {
            let end = items.len();
            if self.format == Format::Json && taken > 0 {
                items.push(b',');
            }
            self.object(endpoint, sample, &mut items);
            bytes = self.array_bytes(taken.saturating_add(1), items.len());
            if bytes > limit {
                items.truncate(end);
                break;
            }
            taken = taken.saturating_add(1);
        }
        if taken == 0 && !samples.is_empty() {
            return Err(EncodeError::TooLarge { bytes, limit });
        }
        let mut body = Vec::with_capacity(self.array_bytes(taken, items.len()));
        match self.format {
            Format::Json => {
                body.push(b'[');
                body.append(&mut items);
                body.push(b']');
            }
            Format::Cbor => {
                cbor::array_head(taken, &mut body);
                body.append(&mut items);
            }
        }
        Ok((body, taken))
    }

    /// The size of an array of `count` items that take `bytes` with their commas.
    fn array_bytes(&self, count: usize, bytes: usize) -> usize {
        let around = match (self.format, count) {
            (Format::Json, _) => 2,
            // RFC 8949 §3: the count is in the head, or in 1, 2 or 4 bytes behind it.
            (Format::Cbor, 0..=23) => 1,
            (Format::Cbor, 24..=0xff) => 2,
            (Format::Cbor, 0x100..=0xffff) => 3,
            (Format::Cbor, _) => 5,
        };
        bytes.saturating_add(around)
    }

    fn members(&self, endpoint: &'a Endpoint, sample: &'a Sample) -> Members<'a> {
        let mut names = Names(BTreeMap::new());
        let mut members = Vec::with_capacity(sample.readings.len().saturating_add(1));
        // Reserved without a known instant as well: a resource must not change its name with the clock's state.
        let field = names.claim(self.timestamp_field.into());
        let timeless = match sample.at {
            Stamp::Wall { us, .. } => {
                members.push((field, Member::Stamp(self.timestamp_format.write(us))));
                false
            }
            Stamp::Mono { .. } => true,
        };
        for reading in &sample.readings {
            let name = names.claim(name_on_wire(endpoint, &reading.resource).into());
            let quality = match self.quality {
                QualityMode::Off => None,
                QualityMode::Field => quality_text(&reading.quality, timeless)
                    .map(|text| (names.claim(format!("{name}_quality").into()), Member::Quality(text))),
            };
            members.push((name, Member::Value(shown(reading))));
            members.extend(quality);
        }
        members
    }
}

/// Writes a reading's value without its name: a JSON value or a CBOR item.
pub(super) fn bare(format: Format, reading: &Reading, out: &mut Vec<u8>) {
    match format {
        Format::Json => json::value(shown(reading), out),
        Format::Cbor => cbor::item(shown(reading), out),
    }
}

/// What a resource is called on the wire.
pub(super) fn name_on_wire<'a>(endpoint: &'a Endpoint, resource: &'a Resource) -> &'a str {
    endpoint.name_on_wire.get(resource).map_or(resource.as_str(), String::as_str)
}

/// What of a reading goes on the wire: of a `Bad` one nothing.
fn shown(reading: &Reading) -> &Value {
    const NOTHING: &Value = &Value::None;
    if matches!(reading.quality, Quality::Bad(_)) { NOTHING } else { &reading.value }
}

/// `None` for what can be trusted. `timeless`: the instant is not known either.
fn quality_text(quality: &Quality, timeless: bool) -> Option<String> {
    let (word, why) = match quality {
        Quality::Good if timeless => return Some("uncertain: clock".to_owned()),
        Quality::Good => return None,
        Quality::Uncertain(why) if timeless => ("uncertain: clock", why),
        Quality::Uncertain(why) => ("uncertain", why),
        Quality::Bad(why) => ("bad", why),
    };
    let why = cut(why, REASON_BYTES);
    Some(if why.is_empty() { word.to_owned() } else { format!("{word}: {why}") })
}

/// The names of an object so far, each with how many `_` its last namesake got.
struct Names<'a>(BTreeMap<Cow<'a, str>, usize>);

impl<'a> Names<'a> {
    /// `name`, with as many `_` behind it as make it unique: a clash loses nothing.
    fn claim(&mut self, name: Cow<'a, str>) -> Cow<'a, str> {
        let Some(mut tail) = self.0.get(&name).copied() else {
            self.0.insert(name.clone(), 0);
            return name;
        };
        loop {
            tail = tail.saturating_add(1);
            let other: Cow<'a, str> = format!("{name}{}", "_".repeat(tail)).into();
            if !self.0.contains_key(&other) {
                self.0.insert(name, tail);
                self.0.insert(other.clone(), 0);
                return other;
            }
        }
    }
}
