//! Objects against golden vectors, and any sample against readers that are not ours.

use super::*;
use crate::dialect::arbitrary::{any_sample, endpoint, resource, sample};
use adapter_api::Source;
use minicbor::{data::Type, decode::Decoder};
use proptest::prelude::*;
use serde_json::Value as Json;

#[derive(Deserialize)]
struct Case {
    what: String,
    timestamp_format: TimestampFormat,
    quality: QualityMode,
    at: Option<i64>,
    renamed: std::collections::BTreeMap<String, String>,
    readings: Vec<(String, Golden, String)>,
    json: String,
    cbor: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Golden {
    None,
    Bool(bool),
    Int(String),
    Float(String),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Golden>),
    Map(std::collections::BTreeMap<String, Golden>),
}

impl From<Golden> for Value {
    fn from(golden: Golden) -> Self {
        match golden {
            Golden::None => Self::None,
            Golden::Bool(value) => Self::Bool(value),
            Golden::Int(digits) => {
                digits.parse::<i64>().map_or_else(|_| digits.parse::<u64>().unwrap().into(), Self::from)
            }
            Golden::Float(decimal) => decimal.parse::<f64>().unwrap().into(),
            Golden::Text(text) => Self::Text(text),
            Golden::Bytes(bytes) => Self::Bytes(bytes),
            Golden::List(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Golden::Map(members) => Self::Map(members.into_iter().map(|(k, v)| (k, v.into())).collect()),
        }
    }
}

fn layout(format: Format, timestamp_format: TimestampFormat, quality: QualityMode) -> Layout<'static> {
    Layout { format, timestamp_field: "timestamp", timestamp_format, quality }
}

fn check(case: Case) {
    let quality = |text: &str| match text.split_once(':') {
        Some(("bad", why)) => Quality::Bad(why.to_owned()),
        Some((_, why)) => Quality::Uncertain(why.to_owned()),
        None => Quality::Good,
    };
    let readings = case.readings.into_iter().map(|(name, value, doubt)| Reading {
        resource: resource(&name),
        value: value.into(),
        quality: quality(&doubt),
    });
    let at = case.at.map_or(Stamp::Mono { boot: 3, us: 5 }, |us| Stamp::Wall { us, source: Source::Gateway });
    let sample = Sample { at, readings: readings.collect() };
    let renamed: Vec<_> = case.renamed.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let endpoint = endpoint(&renamed);
    let write = |format| {
        let mut out = Vec::new();
        layout(format, case.timestamp_format, case.quality).object(&endpoint, &sample, &mut out);
        out
    };
    assert_eq!(String::from_utf8(write(Format::Json)).unwrap(), case.json, "{}", case.what);
    let hex: String = write(Format::Cbor).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, case.cbor, "{}", case.what);
}

#[test]
fn samples_are_written_as_in_the_golden_vectors() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../tests/data/dialect/objects.json")).unwrap();
    assert!(cases.len() > 15);
    cases.into_iter().for_each(check);
}

#[test]
fn an_array_takes_what_fits() {
    let endpoint = endpoint(&[]);
    let sample = sample(&[("temperature", Value::Int(23))]);
    for format in [Format::Json, Format::Cbor] {
        let layout = layout(format, TimestampFormat::EpochMs, QualityMode::Off);
        let one = layout.array(&endpoint, &[&sample], 10, 1_000).unwrap().0.len();
        for count in [1, 2, 23, 24, 25, 255, 256, 257] {
            let samples = vec![&sample; count];
            let (body, taken) = layout.array(&endpoint, &samples, 1_000, 1_000_000).unwrap();
            assert_eq!(taken, count);
            assert_eq!(layout.array(&endpoint, &samples, 1_000, body.len()).unwrap(), (body.clone(), count));
            let less = layout.array(&endpoint, &samples, 1_000, body.len() - 1);
            if count == 1 {
                assert_eq!(less, Err(EncodeError::TooLarge { bytes: one, limit: one - 1 }));
            } else {
                assert_eq!(less.unwrap().1, count - 1);
            }
        }
        let (_, taken) = layout.array(&endpoint, &[&sample; 9], 4, 1_000_000).unwrap();
        assert_eq!(taken, 4, "the batch is the limit");
    }
}

#[test]
fn a_thousand_namesakes_are_told_apart() {
    let sample = sample(&vec![("t", Value::Int(1)); 1_000]);
    let mut out = Vec::new();
    layout(Format::Json, TimestampFormat::EpochMs, QualityMode::Off).object(
        &endpoint(&[]),
        &sample,
        &mut out,
    );
    let Json::Object(members) = serde_json::from_slice(&out).unwrap() else { panic!("no object") };
    assert_eq!(members.len(), 1_001);
}

/// Whether what a reader of JSON sees is the value. It may be off in a float's last bits; what
/// we write is exact: see the test below.
fn same(value: &Value, json: &Json) -> bool {
    match (value, json) {
        (Value::None, Json::Null) => true,
        (Value::Bool(value), Json::Bool(seen)) => value == seen,
        (Value::Int(value), Json::Number(seen)) => seen.as_i64() == Some(*value),
        (Value::Uint(value), Json::Number(seen)) => seen.as_u64() == Some(value.value()),
        (Value::Float(value), Json::Number(seen)) => {
            let (value, seen) = (value.value(), seen.as_f64().unwrap());
            value.to_bits().abs_diff(seen.to_bits()) <= 4 || value.to_bits().abs_diff(seen.to_bits()) <= 1
        }
        (Value::Text(text), Json::String(seen)) => text == seen,
        (Value::Bytes(bytes), Json::String(seen)) => {
            use base64::{Engine, engine::general_purpose::STANDARD};
            STANDARD.decode(seen).as_ref() == Ok(bytes)
        }
        (Value::List(items), Json::Array(seen)) => {
            items.len() == seen.len() && items.iter().zip(seen).all(|(item, seen)| same(item, seen))
        }
        (Value::Map(members), Json::Object(seen)) => {
            members.len() == seen.len()
                && members.iter().all(|(k, v)| seen.get(k).is_some_and(|seen| same(v, seen)))
        }
        _ => false,
    }
}

/// Reads an item with nothing of ours, and says what a reading would be.
fn read(from: &mut Decoder<'_>) -> Value {
    match from.datatype().unwrap() {
        Type::Null => {
            from.null().unwrap();
            Value::None
        }
        Type::Bool => from.bool().unwrap().into(),
        Type::F64 => from.f64().unwrap().into(),
        Type::String => from.str().unwrap().into(),
        Type::Bytes => Value::Bytes(from.bytes().unwrap().to_vec()),
        Type::Array => {
            let count = from.array().unwrap().expect("a definite length");
            Value::List((0..count).map(|_| read(from)).collect())
        }
        Type::Map => {
            let count = from.map().unwrap().expect("a definite length");
            Value::Map((0..count).map(|_| (from.str().unwrap().to_owned(), read(from))).collect())
        }
        _ => {
            let number = i128::from(from.int().unwrap());
            i64::try_from(number).map_or_else(|_| u64::try_from(number).unwrap().into(), Value::from)
        }
    }
}

proptest! {
    #[test]
    fn any_sample_is_read_back_from_json(sample in any_sample(), field in any::<bool>(), iso in any::<bool>()) {
        let quality = if field { QualityMode::Field } else { QualityMode::Off };
        let format = if iso { TimestampFormat::Iso8601 } else { TimestampFormat::EpochUs };
        let (endpoint, layout) = (endpoint(&[]), layout(Format::Json, format, quality));
        let members = layout.members(&endpoint, &sample);
        let mut out = Vec::new();
        layout.object(&endpoint, &sample, &mut out);
        let Json::Object(seen) = serde_json::from_slice(&out).unwrap() else { panic!("no object") };
        prop_assert_eq!(seen.len(), members.len(), "names are unique");
        let values = members.iter().filter_map(|(name, member)| match member {
            Member::Value(value) => Some((name, *value)),
            _ => None,
        });
        let values: Vec<_> = values.collect();
        prop_assert_eq!(values.len(), sample.readings.len(), "nothing is lost");
        for ((name, value), reading) in values.into_iter().zip(&sample.readings) {
            prop_assert!(name.starts_with(reading.resource.as_str()));
            prop_assert_eq!(value, shown(reading));
            prop_assert!(same(value, &seen[name.as_ref()]), "{:?} {:?}", value, seen);
        }
    }

    #[test]
    fn any_sample_is_read_back_from_cbor(sample in any_sample()) {
        let (endpoint, layout) = (endpoint(&[]), layout(Format::Cbor, TimestampFormat::EpochUs, QualityMode::Field));
        let (body, taken) = layout.array(&endpoint, &[&sample, &sample], 2, usize::MAX).unwrap();
        prop_assert_eq!(taken, 2);
        let mut from = Decoder::new(&body);
        let Value::List(objects) = read(&mut from) else { panic!("no array") };
        prop_assert_eq!(from.position(), body.len());
        prop_assert_eq!(&objects[0], &objects[1]);
        let Value::Map(seen) = &objects[0] else { panic!("no map") };
        let members = layout.members(&endpoint, &sample);
        prop_assert_eq!(seen.len(), members.len());
        for (name, member) in &members {
            match member {
                Member::Value(value) => prop_assert_eq!(&seen[name.as_ref()], *value),
                Member::Quality(text) => prop_assert_eq!(&seen[name.as_ref()], &Value::Text(text.clone())),
                Member::Stamp(Written::Number(us)) => prop_assert_eq!(&seen[name.as_ref()], &Value::Int(*us)),
                Member::Stamp(Written::Text(text)) => prop_assert_eq!(&seen[name.as_ref()], &Value::Text(text.clone())),
            }
        }
    }

    #[test]
    fn a_float_is_written_to_the_last_bit(value in any::<f64>()) {
        let mut out = Vec::new();
        json::value(&value.into(), &mut out);
        if value.is_finite() {
            let seen: f64 = String::from_utf8(out).unwrap().parse().unwrap();
            prop_assert_eq!(seen.to_bits(), value.to_bits());
        } else {
            prop_assert_eq!(out, b"null");
        }
    }
}
