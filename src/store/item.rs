//! The row format: `item = [format:u8][CBOR map with integer keys]`. Sans-IO.
//!
//! Format 1: key 0 is the source of the stamp (0 gateway, 1 device), key 1 an array of readings
//! `[resource, value, quality 0|1|2, why?]`. The stamp itself is in the row's columns only. Frozen by
//! golden vectors: what a binary wrote once, every later one reads. Unknown keys are skipped here and
//! kept on disk, since rows are never rewritten.

use adapter_api::{Finite, Quality, Reading, Resource, Sample, Source, Stamp, Value};
use minicbor::{Decoder, Encoder, data::Type};
use std::collections::BTreeMap;

/// The newest format this binary writes and reads.
pub const FORMAT: u8 = 1;

/// Readings a row has room for before they are read.
const USUAL: usize = 8;

/// Why a row could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Written by a newer version: left alone, never buried.
    #[error("row of format {0}, this version reads up to {FORMAT}")]
    Newer(u8),
    /// Not what any version wrote.
    #[error("unreadable row: {0}")]
    Damaged(&'static str),
}

/// The bytes of a sample's row, without its stamp.
pub fn encode(sample: &Sample) -> Vec<u8> {
    let mut out = Vec::with_capacity(sample.weight());
    out.push(FORMAT);
    let mut cbor = Encoder::new(&mut out);
    // Writing to a `Vec` cannot fail: the error type is `Infallible`.
    match write_item(&mut cbor, sample) {
        Ok(()) => out,
        Err(never) => match never.into_write() {
            Some(never) => match never {},
            None => out,
        },
    }
}

/// The sample of a row.
pub fn decode(stamp: i64, boot: Option<i64>, item: &[u8]) -> Result<Sample, ItemError> {
    let (format, body) = item.split_first().ok_or(ItemError::Damaged("empty"))?;
    match *format {
        FORMAT => read_item(stamp, boot, body),
        0 => Err(ItemError::Damaged("format 0")),
        newer => Err(ItemError::Newer(newer)),
    }
}

/// Whether this binary may hand a row out at all.
pub fn is_readable(item: &[u8]) -> bool {
    item.first().is_none_or(|format| *format <= FORMAT)
}

type Wrote = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn write_item(cbor: &mut Encoder<&mut Vec<u8>>, sample: &Sample) -> Wrote {
    let source = match sample.at {
        Stamp::Wall { source: Source::Device, .. } => 1,
        Stamp::Wall { source: Source::Gateway, .. } | Stamp::Mono { .. } => 0,
    };
    cbor.map(2)?.u8(0)?.u8(source)?.u8(1)?.array(len(sample.readings.len()))?;
    for reading in &sample.readings {
        let (quality, why) = match &reading.quality {
            Quality::Good => (0, None),
            Quality::Uncertain(why) => (1, Some(why)),
            Quality::Bad(why) => (2, Some(why)),
        };
        cbor.array(if why.is_some() { 4 } else { 3 })?.str(reading.resource.as_str())?;
        write_value(cbor, &reading.value)?;
        cbor.u8(quality)?;
        if let Some(why) = why {
            cbor.str(why)?;
        }
    }
    Ok(())
}

fn write_value(cbor: &mut Encoder<&mut Vec<u8>>, value: &Value) -> Wrote {
    match value {
        Value::None => cbor.null()?,
        Value::Bool(v) => cbor.bool(*v)?,
        Value::Int(v) => cbor.i64(*v)?,
        Value::Uint(v) => cbor.u64(v.value())?,
        Value::Float(v) => cbor.f64(v.value())?,
        Value::Text(v) => cbor.str(v)?,
        Value::Bytes(v) => cbor.bytes(v)?,
        Value::List(items) => {
            cbor.array(len(items.len()))?;
            return items.iter().try_for_each(|item| write_value(cbor, item));
        }
        Value::Map(members) => {
            cbor.map(len(members.len()))?;
            return members.iter().try_for_each(|(key, value)| {
                cbor.str(key)?;
                write_value(cbor, value)
            });
        }
    };
    Ok(())
}

fn len(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn damaged(_: minicbor::decode::Error) -> ItemError {
    ItemError::Damaged("not CBOR of format 1")
}

fn read_item(stamp: i64, boot: Option<i64>, body: &[u8]) -> Result<Sample, ItemError> {
    let mut cbor = Decoder::new(body);
    let (mut source, mut readings) = (Source::Gateway, None);
    let members = cbor.map().map_err(damaged)?.ok_or(ItemError::Damaged("map of unknown length"))?;
    for _ in 0..members {
        match cbor.u64().map_err(damaged)? {
            0 => source = if cbor.u8().map_err(damaged)? == 1 { Source::Device } else { Source::Gateway },
            1 => readings = Some(read_readings(&mut cbor)?),
            _ => cbor.skip().map_err(damaged)?,
        }
    }
    let at = match boot {
        Some(boot) => Stamp::Mono { boot, us: stamp },
        None => Stamp::Wall { us: stamp, source },
    };
    Ok(Sample { at, readings: readings.ok_or(ItemError::Damaged("no readings"))? })
}

fn read_readings(cbor: &mut Decoder<'_>) -> Result<Vec<Reading>, ItemError> {
    let count = cbor.array().map_err(damaged)?.ok_or(ItemError::Damaged("list of unknown length"))?;
    // Not more than are usual: a damaged count must not reserve memory. With none, two readings take the room of
    // four, in each of thousands of rows in the air.
    let mut readings = Vec::with_capacity(usize::try_from(count).unwrap_or(usize::MAX).min(USUAL));
    for _ in 0..count {
        let fields = cbor.array().map_err(damaged)?.ok_or(ItemError::Damaged("reading of unknown length"))?;
        if fields < 3 {
            return Err(ItemError::Damaged("short reading"));
        }
        let resource =
            Resource::new(cbor.str().map_err(damaged)?).map_err(|_| ItemError::Damaged("resource name"))?;
        let value = read_value(cbor, Value::MAX_DEPTH)?;
        let quality = cbor.u8().map_err(damaged)?;
        let why = if fields > 3 { cbor.str().map_err(damaged)?.to_owned() } else { String::new() };
        for _ in 4..fields {
            cbor.skip().map_err(damaged)?;
        }
        let quality = match quality {
            0 => Quality::Good,
            1 => Quality::Uncertain(why),
            2 => Quality::Bad(why),
            _ => return Err(ItemError::Damaged("quality")),
        };
        readings.push(Reading { resource, value, quality });
    }
    Ok(readings)
}

fn read_value(cbor: &mut Decoder<'_>, depth: usize) -> Result<Value, ItemError> {
    let depth = depth.checked_sub(1).ok_or(ItemError::Damaged("nested too deeply"))?;
    Ok(match cbor.datatype().map_err(damaged)? {
        Type::Null => {
            cbor.null().map_err(damaged)?;
            Value::None
        }
        Type::Bool => Value::Bool(cbor.bool().map_err(damaged)?),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => Value::from(cbor.u64().map_err(damaged)?),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => Value::Int(cbor.i64().map_err(damaged)?),
        Type::F64 => Value::Float(
            Finite::new(cbor.f64().map_err(damaged)?).ok_or(ItemError::Damaged("a number that is none"))?,
        ),
        Type::String => Value::Text(cbor.str().map_err(damaged)?.to_owned()),
        Type::Bytes => Value::Bytes(cbor.bytes().map_err(damaged)?.to_vec()),
        Type::Array => {
            let count = cbor.array().map_err(damaged)?.ok_or(ItemError::Damaged("list of unknown length"))?;
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(read_value(cbor, depth)?);
            }
            Value::List(items)
        }
        Type::Map => {
            let count = cbor.map().map_err(damaged)?.ok_or(ItemError::Damaged("map of unknown length"))?;
            let mut members = BTreeMap::new();
            for _ in 0..count {
                let key = cbor.str().map_err(damaged)?.to_owned();
                members.insert(key, read_value(cbor, depth)?);
            }
            Value::Map(members)
        }
        _ => return Err(ItemError::Damaged("a type format 1 does not have")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading(resource: &str, value: impl Into<Value>) -> Reading {
        Reading::measured(Resource::new(resource).unwrap(), value)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Rows of the past: `tests/data/rows/*.txt` holds the bytes, written once and never changed.
    #[test]
    fn golden_rows_of_every_format_are_read_and_written_as_they_were() {
        let wall = |source| Stamp::Wall { us: 1_566_987_697_005_000, source };
        let list = Value::List(vec![Value::Int(1), Value::from("a"), Value::None]);
        let map =
            Value::Map(BTreeMap::from([("k".to_owned(), Value::Bool(true)), ("l".to_owned(), list.clone())]));
        let all = vec![
            reading("bool", true),
            reading("int", -42_i64),
            reading("big", i64::MIN),
            reading("uint", u64::MAX),
            reading("float", 230.1),
            reading("text", "Spannung L1 °"),
            Reading {
                resource: Resource::new("bytes").unwrap(),
                value: Value::Bytes(vec![0, 255]),
                quality: Quality::Good,
            },
            Reading {
                resource: Resource::new("list").unwrap(),
                value: list,
                quality: Quality::Uncertain("clock".into()),
            },
            Reading { resource: Resource::new("map").unwrap(), value: map, quality: Quality::Good },
            Reading::bad(Resource::new("gone").unwrap(), "illegal data address"),
        ];
        let samples = [
            Sample { at: wall(Source::Gateway), readings: vec![reading("temperature", 23_i64)] },
            Sample { at: wall(Source::Device), readings: all },
            Sample { at: Stamp::Mono { boot: 7, us: 12_000_000 }, readings: vec![reading("n", 1_i64)] },
        ];
        let golden = include_str!("../../tests/data/rows/format1.txt");
        let rows: Vec<(i64, Option<i64>, &str)> = golden
            .lines()
            .filter(|l| !l.starts_with('#'))
            .map(|l| {
                let mut words = l.split(' ');
                let stamp = words.next().unwrap().parse().unwrap();
                (stamp, words.next().unwrap().parse().ok(), words.next().unwrap())
            })
            .collect();
        assert_eq!(rows.len(), samples.len());
        for (sample, (stamp, boot, bytes)) in samples.iter().zip(rows) {
            assert_eq!(hex(&encode(sample)), bytes);
            let raw: Vec<u8> = (0..bytes.len() / 2)
                .map(|i| u8::from_str_radix(bytes.get(2 * i..2 * i + 2).unwrap(), 16).unwrap())
                .collect();
            assert_eq!(decode(stamp, boot, &raw).as_ref(), Ok(sample));
        }
    }

    #[test]
    fn a_newer_row_is_told_from_a_damaged_one() {
        assert_eq!(decode(0, None, &[2, 0xa0]), Err(ItemError::Newer(2)));
        assert!(!is_readable(&[2]) && is_readable(&[1]) && is_readable(&[]));
        for damaged in [
            &[][..],
            &[0],
            &[1],
            &[1, 0xa0],
            &[1, 0xff],
            &[1, 0xa1, 0x01, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(matches!(decode(0, None, damaged), Err(ItemError::Damaged(_))), "{damaged:?}");
        }
    }

    #[test]
    fn unknown_keys_are_passed_over() {
        // {0: 1, 9: [1, "x"], 1: [["n", 5, 0, "", 77]], 10: null}
        let row = [
            1, 0xa4, 0, 1, 9, 0x82, 1, 0x61, b'x', 1, 0x81, 0x85, 0x61, b'n', 5, 0, 0x60, 0x18, 77, 10, 0xf6,
        ];
        let sample = decode(3, None, &row).unwrap();
        assert_eq!(sample.at, Stamp::Wall { us: 3, source: Source::Device });
        assert_eq!(sample.readings, vec![reading("n", 5_i64)]);
    }

    #[test]
    fn a_row_takes_no_more_memory_than_its_readings_and_a_damaged_count_none() {
        let two = Sample {
            at: Stamp::Wall { us: 3, source: Source::Gateway },
            readings: vec![reading("n", 1_i64), reading("pad", "x")],
        };
        assert_eq!(decode(3, None, &encode(&two)).unwrap().readings.capacity(), 2);
        // {1: [2^40 readings, of which none is there]}
        let row = [1, 0xa1, 1, 0x9b, 0, 0, 1, 0, 0, 0, 0, 0];
        assert!(matches!(decode(3, None, &row), Err(ItemError::Damaged(_))));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                proptest::collection::btree_map(".{0,6}", inner, 0..5).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in proptest::collection::vec(value(), 1..8), us: i64, boot: Option<i64>, device: bool, why in ".*") {
            let source = if device && boot.is_none() { Source::Device } else { Source::Gateway };
            let at = boot.map_or(Stamp::Wall { us, source }, |boot| Stamp::Mono { boot, us });
            let readings = values.into_iter().enumerate().map(|(i, value)| Reading {
                resource: Resource::new(&format!("r{i}")).unwrap(),
                value,
                quality: [Quality::Good, Quality::Uncertain(why.clone()), Quality::Bad(why.clone())][i % 3].clone(),
            }).collect();
            let sample = Sample { at, readings };
            prop_assert_eq!(decode(us, boot, &encode(&sample)), Ok(sample));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut row = vec![1];
            row.extend(bytes);
            if let Ok(sample) = decode(0, None, &row) {
                prop_assert_eq!(decode(0, None, &encode(&sample)), Ok(sample));
            }
        }
    }
}
