//! Values of every type, order and part, by example and by property.

use super::*;
use proptest::prelude::*;

impl Form {
    /// A value of this type that is as the standard has it.
    fn plain(kind: Kind) -> Self {
        Self {
            kind,
            order: Order::default(),
            length: kind.length().unwrap_or(1),
            half: None,
            part: None,
            sentinels: Vec::new(),
            names: BTreeMap::new(),
            scale: Scale::default(),
        }
    }
}

const U16: Kind = whole(16, false);
const I16: Kind = whole(16, true);
const U32: Kind = whole(32, false);
const I32: Kind = whole(32, true);

fn form(kind: Kind, order: Order) -> Form {
    Form { order, ..Form::plain(kind) }
}

fn named(name: &str) -> Kind {
    Kind::NAMES.iter().find(|(known, _)| *known == name).unwrap().1
}

fn read(form: &Form, words: &[u16]) -> Reading {
    form.decode(Resource::new("r").unwrap(), words).unwrap()
}

/// The value of a reading that is good.
fn value(form: &Form, words: &[u16]) -> Value {
    let reading = read(form, words);
    assert_eq!(reading.quality, Quality::Good, "{form:?} {words:x?}");
    reading.value
}

/// The registers a device with this order sends for bytes, the most significant first.
fn sent(order: Order, bytes: &[u8]) -> Vec<u16> {
    let mut words: Vec<u16> = bytes.chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
    if matches!(order, Order::Cdab | Order::Dcba) {
        words.reverse();
    }
    if matches!(order, Order::Badc | Order::Dcba) {
        words.iter_mut().for_each(|word| *word = word.swap_bytes());
    }
    words
}

#[test]
fn the_four_orders_are_those_of_the_reference() {
    for (order, words) in [
        ("ABCD", [0x42F6, 0xE979]),
        ("CDAB", [0xE979, 0x42F6]),
        ("BADC", [0xF642, 0x79E9]),
        ("DCBA", [0x79E9, 0xF642]),
    ] {
        let order = Order::named(order).unwrap();
        assert_eq!(value(&form(Kind::Single, order), &words), Value::from(123.456), "{order:?}");
    }
    for (order, words) in [
        ("ABCD", [0x4996, 0x02D2]),
        ("CDAB", [0x02D2, 0x4996]),
        ("BADC", [0x9649, 0xD202]),
        ("DCBA", [0xD202, 0x9649]),
    ] {
        let order = Order::named(order).unwrap();
        for kind in [U32, I32] {
            assert_eq!(value(&form(kind, order), &words), Value::Int(1_234_567_890), "{order:?}");
        }
    }
    // -1.5 as a double, ABCDEFGH = BF F8 00 00 00 00 00 00.
    for (order, words) in [
        ("ABCDEFGH", [0xBFF8, 0, 0, 0]),
        ("GHEFCDAB", [0, 0, 0, 0xBFF8]),
        ("BADCFEHG", [0xF8BF, 0, 0, 0]),
        ("HGFEDCBA", [0, 0, 0, 0xF8BF]),
    ] {
        let order = Order::named(order).unwrap();
        assert_eq!(value(&form(Kind::Double, order), &words), Value::from(-1.5), "{order:?}");
    }
    assert_eq!(value(&form(U16, Order::named("AB").unwrap()), &[0x1234]), Value::Int(0x1234));
    assert_eq!(value(&form(U16, Order::named("BA").unwrap()), &[0x1234]), Value::Int(0x3412));
    assert_eq!(Order::named("ACBD"), None);
}

#[test]
fn whole_numbers_of_every_width_keep_their_sign() {
    for (kind, words, number) in [
        ("u8", &[0xAB80][..], 0x80),
        ("i8", &[0xAB80], -128),
        ("u16", &[0xFFFF], 65_535),
        ("i16", &[0xFFFF], -1),
        ("i16", &[0x8000], -32_768),
        ("u24", &[0xAAFF, 0xFFFF], 0xFF_FFFF),
        ("i24", &[0xAAFF, 0xFFFE], -2),
        ("i24", &[0xAA7F, 0xFFFF], 0x7F_FFFF),
        ("u32", &[0xFFFF, 0xFFFF], 4_294_967_295),
        ("i32", &[0xFFFF, 0xFFFF], -1),
        ("u48", &[0xFFFF, 0xFFFF, 0xFFFF], 0xFFFF_FFFF_FFFF),
        ("i48", &[0x8000, 0, 0], -0x8000_0000_0000),
        ("i64", &[0x8000, 0, 0, 0], i64::MIN),
        ("u64", &[0x7FFF, 0xFFFF, 0xFFFF, 0xFFFF], i64::MAX),
    ] {
        assert_eq!(value(&Form::plain(named(kind)), words), Value::Int(number), "{kind} {words:x?}");
    }
    assert_eq!(value(&Form::plain(named("u64")), &[0xFFFF; 4]), Value::from(u64::MAX));
    let high = Form { half: Some(Half::High), ..Form::plain(named("i8")) };
    assert_eq!(value(&high, &[0xFE01]), Value::Int(-2));
}

#[test]
fn too_few_registers_are_no_value() {
    for (name, kind) in Kind::NAMES {
        let form = Form { length: kind.length().unwrap_or(3), ..Form::plain(kind) };
        let words = vec![0; usize::from(form.length) - 1];
        assert_eq!(form.decode(Resource::new("r").unwrap(), &words), None, "{name}");
    }
}

#[test]
fn what_is_no_number_is_bad() {
    for (kind, words) in [
        (Kind::Single, &[0x7FC0, 0][..]),
        (Kind::Single, &[0x7F80, 0]),
        (Kind::Double, &[0x7FF0, 0, 0, 0]),
        (named("bcd16"), &[0x12A4]),
    ] {
        let reading = read(&Form::plain(kind), words);
        assert_eq!(reading.value, Value::None);
        assert!(matches!(reading.quality, Quality::Bad(_)), "{kind:?}");
    }
}

#[test]
fn decimal_digits_are_read() {
    assert_eq!(value(&Form::plain(named("bcd16")), &[0x1234]), Value::Int(1_234));
    assert_eq!(value(&Form::plain(named("bcd32")), &[0x0012, 0x3456]), Value::Int(123_456));
    let all = [0x9999, 0x9999, 0x9999, 0x9999];
    assert_eq!(value(&Form::plain(named("bcd64")), &all), Value::Int(9_999_999_999_999_999));
}

#[test]
fn bits_and_parts_of_registers_are_cut_out() {
    for bit in 0..16 {
        let form = Form { part: Some(Part { low: bit, width: 1 }), ..Form::plain(Kind::Bool) };
        assert_eq!(value(&form, &[1 << bit]), Value::Bool(true));
        assert_eq!(value(&form, &[!(1 << bit)]), Value::Bool(false));
    }
    let part = |kind, low, width| Form { part: Some(Part { low, width }), ..Form::plain(kind) };
    assert_eq!(value(&part(U16, 4, 8), &[0xABCD]), Value::Int(0xBC));
    assert_eq!(value(&part(I16, 12, 4), &[0xF000]), Value::Int(-1), "a part has its own sign");
    assert_eq!(value(&part(U32, 12, 8), &[0x000A, 0xB000]), Value::Int(0xAB), "over two registers");
    let scaled = Form { scale: Scale { scale: 0.5, ..Scale::default() }, ..part(U16, 0, 4) };
    assert_eq!(value(&scaled, &[0xFFF7]), Value::from(3.5));
}

#[test]
fn a_sentinel_is_bad_and_nothing_else_is() {
    for (kind, none, words) in [
        (U16, Sentinel::Whole(0xFFFF), &[0xFFFF][..]),
        (I16, Sentinel::Whole(0x8000), &[0x8000]),
        (I16, Sentinel::Whole(-32_768), &[0x8000]),
        (named("u64"), Sentinel::Whole(-1), &[0xFFFF; 4]),
        (Kind::Single, Sentinel::Float(-999.9), &[0xC479, 0xF99A]),
        (Kind::Single, Sentinel::Whole(9_999), &[0x461C, 0x3C00]),
        (named("bcd16"), Sentinel::Whole(9_999), &[0x9999]),
    ] {
        let form = Form { sentinels: vec![none], ..Form::plain(kind) };
        let reading = read(&form, words);
        assert_eq!(reading.value, Value::None, "{form:?}");
        assert!(matches!(&reading.quality, Quality::Bad(why) if why.contains("no value")), "{form:?}");
        let other = vec![0x0001; words.len()];
        assert_eq!(read(&form, &other).quality, Quality::Good, "{form:?}");
    }
}

#[test]
fn names_take_the_place_of_numbers() {
    let names = [(0, "off"), (1, "on"), (-1, "fault")].map(|(n, name)| (n, name.to_owned())).into();
    let form = Form { names, ..Form::plain(I16) };
    assert_eq!(value(&form, &[1]), Value::from("on"));
    assert_eq!(value(&form, &[0xFFFF]), Value::from("fault"));
    let unknown = read(&form, &[7]);
    assert_eq!(unknown.value, Value::from("7"));
    assert!(matches!(unknown.quality, Quality::Uncertain(_)));
}

#[test]
fn texts_are_read_without_their_padding() {
    let text = |half, order, words: &[u16]| {
        let length = u16::try_from(words.len()).unwrap();
        read(&Form { half, order, length, ..Form::plain(Kind::Text) }, words)
    };
    let good = |half, order, words: &[u16]| match text(half, order, words) {
        Reading { value: Value::Text(text), quality: Quality::Good, .. } => text,
        other => panic!("{other:?}"),
    };
    // "SDM120" in the four forms that devices have, padded with NUL and with blanks.
    assert_eq!(good(None, Order::Abcd, &[0x5344, 0x4D31, 0x3230, 0x0000, 0x4142]), "SDM120");
    assert_eq!(good(None, Order::Badc, &[0x4453, 0x314D, 0x3032, 0x2020]), "SDM120");
    assert_eq!(good(Some(Half::Low), Order::Abcd, &[0x0053, 0x0044, 0x004D, 0x0031]), "SDM1");
    assert_eq!(good(Some(Half::High), Order::Abcd, &[0x5300, 0x4400, 0x4D00]), "SDM");
    assert_eq!(good(None, Order::Abcd, &[0]), "");
    assert_eq!(good(None, Order::Abcd, &[0xC3BC, 0x4142]), "üAB");
    let latin = text(None, Order::Abcd, &[0xFC41]);
    assert_eq!(latin.value, Value::from("üA"));
    assert!(matches!(latin.quality, Quality::Uncertain(_)));
    let raw = Form { length: 2, order: Order::Badc, ..Form::plain(Kind::Raw) };
    assert_eq!(value(&raw, &[0x0102, 0x0304]), Value::Bytes(vec![2, 1, 4, 3]));
}

#[test]
fn a_scaled_value_is_the_decimal_one_expects() {
    for (raw, scale, offset, decimals, wanted) in [
        (2_301, 0.1, 0.0, None, 230.1),
        (3, 0.1, 0.0, None, 0.3),
        (3, 0.1, -0.3, None, 0.0),
        (1_999, 0.01, -20.0, None, -0.01),
        (7, 1.0, 0.5, None, 7.5),
        (7, 2.0, 0.0, None, 14.0),
        (0, -1.0, 0.0, None, 0.0),
        (65_535, 1e-7, 0.0, None, 0.006_553_5),
        (9, 1.0 / 3.0, 0.0, None, 3.0),
        (1, 1.0 / 3.0, 0.0, Some(3), 0.333),
        (2_675, 0.001, 0.0, Some(2), 2.68),
        (2_685, -0.001, 0.0, Some(2), -2.69),
        (95, 0.1, 0.0, Some(0), 10.0),
        (95, -0.1, 0.0, Some(0), -10.0),
        (994, 0.01, 0.0, Some(1), 9.9),
        (5, 0.01, 0.0, Some(1), 0.1),
    ] {
        let form = Form { scale: Scale { scale, offset, decimals }, ..Form::plain(U16) };
        let decoded = value(&form, &[raw]);
        assert_eq!(decoded, Value::from(wanted), "{raw} * {scale} + {offset} to {decimals:?}");
        let Value::Float(float) = decoded else { panic!("a scaled value is a float") };
        assert!(float.value() != 0.0 || float.value().is_sign_positive(), "no negative zero");
    }
    let bits = 230.16_f32.to_bits();
    let words = [(bits >> 16) as u16, (bits & 0xFFFF) as u16];
    let with = |scale| value(&Form { scale, ..Form::plain(Kind::Single) }, &words);
    assert_eq!(with(Scale { scale: 0.1, ..Scale::default() }), Value::from(23.016));
    assert_eq!(with(Scale { decimals: Some(1), ..Scale::default() }), Value::from(230.2));
    assert_eq!(with(Scale { decimals: Some(9), ..Scale::default() }), Value::from(230.16));
}

fn orders() -> impl Strategy<Value = Order> {
    proptest::sample::select(Order::NAMES.map(|(_, order)| order).to_vec())
}

proptest! {
    #[test]
    fn whatever_a_device_sends_arrives(raw: u64, order in orders()) {
        for (name, kind) in Kind::NAMES {
            let Kind::Whole { bits, signed } = kind else { continue };
            let form = form(kind, order);
            let bytes = raw.to_be_bytes();
            let words = sent(order, &bytes[8 - 2 * usize::from(form.length)..]);
            let wanted = if signed {
                Value::Int((raw << (64 - bits)).cast_signed() >> (64 - bits))
            } else {
                Value::from(raw << (64 - bits) >> (64 - bits))
            };
            prop_assert_eq!(read(&form, &words).value, wanted, "{}", name);
        }
        let single = f32::from_bits(raw as u32);
        let words = sent(order, &single.to_be_bytes());
        prop_assert_eq!(read(&form(Kind::Single, order), &words).value, Value::from_f32(single));
        let double = f64::from_bits(raw);
        let words = sent(order, &double.to_be_bytes());
        prop_assert_eq!(read(&form(Kind::Double, order), &words).value, Value::from(double));
    }

    #[test]
    fn decimal_digits_arrive(number in 0_u64..100_000_000, order in orders()) {
        let digits = u32::from_str_radix(&number.to_string(), 16).unwrap();
        let words = sent(order, &digits.to_be_bytes());
        let wanted = Value::Int(number.cast_signed());
        prop_assert_eq!(read(&form(named("bcd32"), order), &words).value, wanted);
    }

    #[test]
    fn texts_arrive(text in "[ -~]{0,20}", order in orders()) {
        let mut bytes = text.clone().into_bytes();
        bytes.resize(20, 0);
        let form = Form { length: 10, ..form(Kind::Text, order) };
        let read = read(&form, &sent(order, &bytes));
        prop_assert_eq!(read.value, Value::from(text.trim_end_matches(' ')));
    }

    #[test]
    fn a_part_is_what_shifting_gives(raw: u32, low in 0_u8..32, width in 1_u8..=32) {
        prop_assume!(low + width <= 32);
        let form = Form { part: Some(Part { low, width }), ..Form::plain(U32) };
        let wanted = i64::from(raw >> low) & ((1_i64 << width) - 1);
        prop_assert_eq!(read(&form, &sent(Order::Abcd, &raw.to_be_bytes())).value, Value::Int(wanted));
    }

    #[test]
    fn a_decimal_scale_gives_the_nearest_decimal(raw: i16, digits in 0_usize..7) {
        let scale: f64 = format!("1e-{digits}").parse().unwrap();
        let exact: f64 = format!("{raw}e-{digits}").parse().unwrap();
        let form = Form { scale: Scale { scale, ..Scale::default() }, ..Form::plain(I16) };
        let expected = if digits == 0 { Value::Int(i64::from(raw)) } else { Value::from(exact) };
        prop_assert_eq!(read(&form, &[raw.cast_unsigned()]).value, expected);
    }

    #[test]
    fn decimals_round_as_people_do(raw: i32, digits in 0_u8..9, decimals in 0_u8..9) {
        let scale = Scale { scale: format!("1e-{digits}").parse().unwrap(), offset: 0.0, decimals: Some(decimals) };
        prop_assume!(digits > 0);
        // The same with whole numbers.
        let cut = 10_i64.pow(u32::from(digits.saturating_sub(decimals)));
        let (raw, kept) = (i64::from(raw), u32::from(digits.min(decimals)));
        let wanted = (raw.abs() + cut / 2) / cut * raw.signum();
        let exact: f64 = format!("{wanted}e-{kept}").parse().unwrap();
        prop_assert_eq!(scale.signed(raw), Value::from(exact + 0.0));
    }
}
