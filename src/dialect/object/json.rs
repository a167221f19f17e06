//! Members and values as JSON text (RFC 8259), written without a tree in between. Sans-IO.

use super::{Member, Written};
use adapter_api::Value;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use std::borrow::Cow;

/// Writes an object.
pub(super) fn object(members: &[(Cow<'_, str>, Member<'_>)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, member)) in members.iter().enumerate() {
        key(at, name, out);
        match member {
            Member::Stamp(Written::Number(number)) => scalar(number, out),
            Member::Stamp(Written::Text(text)) | Member::Quality(text) => scalar(text, out),
            Member::Value(inner) => value(inner, out),
        }
    }
    out.push(b'}');
}

/// Writes a value. Integers stay integers beyond 2^53; a float is its shortest decimal, `23.0` with its point.
pub(super) fn value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::None => out.extend_from_slice(b"null"),
        Value::Bool(value) => scalar(value, out),
        Value::Int(value) => scalar(value, out),
        Value::Uint(value) => scalar(&value.value(), out),
        Value::Float(value) => scalar(&value.value(), out),
        Value::Text(text) => scalar(text, out),
        Value::Bytes(bytes) => scalar(&STANDARD.encode(bytes), out),
        Value::List(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                self::value(item, out);
            }
            out.push(b']');
        }
        Value::Map(members) => {
            out.push(b'{');
            for (at, (name, member)) in members.iter().enumerate() {
                key(at, name, out);
                self::value(member, out);
            }
            out.push(b'}');
        }
    }
}

fn key(at: usize, name: &str, out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
    scalar(name, out);
    out.push(b':');
}

#[expect(clippy::expect_used, reason = "no scalar fails to serialize and memory takes all that is written")]
fn scalar(scalar: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, scalar).expect("scalars are written to memory");
}
