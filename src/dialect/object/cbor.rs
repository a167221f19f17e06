//! Members and values as CBOR items of definite length (RFC 8949). Sans-IO.

use super::{Member, Written};
use adapter_api::Value;
use minicbor::{Encoder, encode::Error};
use std::{borrow::Cow, convert::Infallible};

type Wrote = Result<(), Error<Infallible>>;
type Out<'a> = Encoder<&'a mut Vec<u8>>;

/// Writes an object: a map with text keys.
pub(super) fn object(members: &[(Cow<'_, str>, Member<'_>)], out: &mut Vec<u8>) {
    written(write_object(members, &mut Encoder::new(out)));
}

/// Writes a value.
pub(super) fn item(value: &Value, out: &mut Vec<u8>) {
    written(write_item(value, &mut Encoder::new(out)));
}

/// Writes what opens an array of so many items.
pub(super) fn array_head(count: usize, out: &mut Vec<u8>) {
    written(Encoder::new(out).array(length(count)).map(drop));
}

fn write_object(members: &[(Cow<'_, str>, Member<'_>)], out: &mut Out<'_>) -> Wrote {
    out.map(length(members.len()))?;
    for (name, member) in members {
        out.str(name)?;
        match member {
            Member::Stamp(Written::Number(number)) => out.i64(*number).map(drop)?,
            Member::Stamp(Written::Text(text)) | Member::Quality(text) => out.str(text).map(drop)?,
            Member::Value(value) => write_item(value, out)?,
        }
    }
    Ok(())
}

fn write_item(value: &Value, out: &mut Out<'_>) -> Wrote {
    match value {
        Value::None => out.null().map(drop),
        Value::Bool(value) => out.bool(*value).map(drop),
        Value::Int(value) => out.i64(*value).map(drop),
        Value::Uint(value) => out.u64(value.value()).map(drop),
        Value::Float(value) => out.f64(value.value()).map(drop),
        Value::Text(text) => out.str(text).map(drop),
        Value::Bytes(bytes) => out.bytes(bytes).map(drop),
        Value::List(items) => {
            out.array(length(items.len()))?;
            items.iter().try_for_each(|item| write_item(item, out))
        }
        Value::Map(members) => {
            out.map(length(members.len()))?;
            for (name, member) in members {
                out.str(name)?;
                write_item(member, out)?;
            }
            Ok(())
        }
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[expect(clippy::expect_used, reason = "memory takes all that is written: the error type has no value")]
fn written(wrote: Wrote) {
    wrote.expect("items are written to memory");
}
