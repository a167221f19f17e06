//! What is in a register image is found there.

use super::*;
use proptest::prelude::*;

fn image(table: Table, start: u16, words: &[u16]) -> Image {
    Image((start..=u16::MAX).zip(words).map(|(address, word)| ((table, address), *word)).collect())
}

fn best(words: &[u16], shown: &str) -> String {
    let found = candidates(&image(Table::Input, 0, words), shown.parse().unwrap());
    found.first().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn the_usual_ways_come_first() {
    assert_eq!(best(&[0x4367, 0x6666], "231.4"), r#"{ register = "input:0", type = "f32" }"#);
    assert_eq!(best(&[0x6666, 0x4367], "231.4"), r#"{ register = "input:0", type = "f32", order = "CDAB" }"#);
    assert_eq!(best(&[7, 2_314, 9], "231.4"), r#"{ register = "input:1", type = "u16", scale = 0.1 }"#);
    assert_eq!(best(&[0xFFFB], "-5"), r#"{ register = "input:0", type = "i16" }"#);
    assert_eq!(best(&[1, 0x86A0], "100"), r#"{ register = "input:0", type = "u32", scale = 0.001 }"#);
    assert_eq!(best(&[0x0102, 3], "500"), "");
}

#[test]
fn a_display_rounds_or_cuts_digits_off() {
    let shown: Shown = "231.4".parse().unwrap();
    for (value, fits) in [
        (231.4, Some(true)),
        (231.35, Some(true)),
        (231.449, Some(true)),
        (231.49, Some(false)),
        (231.5, None),
        (231.34, None),
    ] {
        assert_eq!(shown.fits(value, Kind::Double), fits, "{value}");
    }
    assert_eq!("231,4".parse(), Ok(shown));
    for none in ["", "-", ".5", "1e3", "12 V", "1.2.3", "inf", "1234567890123456789012345"] {
        assert_eq!(none.parse::<Shown>(), Err(NotShown), "{none}");
    }
}

#[test]
fn a_second_value_narrows_down() {
    let found = candidates(&image(Table::Holding, 0, &[2_314, 2_314]), "231.4".parse().unwrap());
    let later = image(Table::Holding, 0, &[2_319, 2_314]);
    let still: Vec<_> = found.iter().filter_map(|c| c.still(&later, "231.9".parse().unwrap())).collect();
    assert!(found.iter().any(|c| c.want.start == 1) && !still.is_empty());
    assert!(still.iter().all(|c| c.want.start == 0), "{still:?}");
}

#[test]
fn rows_make_an_image_and_nothing_else_does() {
    let mut image = Image::default();
    assert!(image.take(&serde_json::json!({"table": "holding", "start": 65_534, "values": [1, 2, 3]})));
    assert_eq!(image.len(), 2, "registers end at 65535");
    for no in [
        "1",
        "{}",
        r#"{"table":"x","start":0,"values":[]}"#,
        r#"{"table":"input","start":0,"values":[70000]}"#,
    ] {
        assert!(!image.take(&serde_json::from_str(no).unwrap()), "{no}");
    }
}

/// A type, an order and a half that go together, by their position among all of them.
fn any_form() -> impl Strategy<Value = usize> {
    0..forms().len()
}

/// The registers of a raw number, made without the code that reads them.
fn encoded(kind: Kind, order: Order, half: Option<Half>, bits: u64) -> (Vec<u16>, f64) {
    let (big, value) = match kind {
        Kind::Whole { bits: width, signed } => {
            let unused = 64 - u32::from(width);
            let raw = bits << unused >> unused;
            let value = if signed { ((bits << unused) as i64 >> unused) as f64 } else { raw as f64 };
            let raw = if half == Some(Half::High) { raw << 8 } else { raw };
            (raw, value)
        }
        Kind::Bcd { digits } => {
            let number = bits % 10_u64.pow(u32::from(digits));
            let raw = format!("{number}").bytes().fold(0, |raw, digit| raw << 4 | u64::from(digit - b'0'));
            (raw, number as f64)
        }
        Kind::Single => {
            // Of a size that a display can show.
            let value = ((bits % 2_000_000) as f32 - 1_000_000.0) / 64.0;
            (u64::from(value.to_bits()), f64::from(value))
        }
        Kind::Double => {
            let value = ((bits % 2_000_000_000) as f64 - 1e9) / 64.0;
            (value.to_bits(), value)
        }
        Kind::Bool | Kind::Text | Kind::Raw => unreachable!("not a number"),
    };
    let length = usize::from(kind.length().unwrap());
    let mut words: Vec<u16> = big.to_be_bytes().chunks(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
    words.drain(..4 - length);
    if matches!(order, Order::Cdab | Order::Dcba) {
        words.reverse();
    }
    if matches!(order, Order::Badc | Order::Dcba) {
        words.iter_mut().for_each(|word| *word = word.swap_bytes());
    }
    (words, value)
}

proptest! {
    #[test]
    fn whatever_is_in_a_random_image_is_found(
        at in any_form(),
        bits: u64,
        tens in TENS,
        mut words in proptest::collection::vec(any::<u16>(), 8..40),
        place in 0_usize..36,
        first in 0_u16..=65_000,
        input: bool,
    ) {
        let (kind, order, half, _) = forms().swap_remove(at);
        let (value_words, raw) = encoded(kind.1, order.1, half, bits);
        let place = place.min(words.len() - value_words.len());
        words[place..place + value_words.len()].copy_from_slice(&value_words);
        let table = if input { Table::Input } else { Table::Holding };
        // As a display shows it: with all the digits there are.
        let decimals = usize::try_from((-tens).max(0)).unwrap() + if raw.fract() == 0.0 { 0 } else { 6 };
        let shown = format!("{:.decimals$}", scaled(raw, tens));
        prop_assume!(shown.len() <= 20);
        let found = candidates(&image(table, first, &words), shown.parse().unwrap());
        let start = first + u16::try_from(place).unwrap();
        let hit = found.iter().any(|c| {
            (c.want.table, c.want.start, c.kind.1, c.order.1, c.half) == (table, start, kind.1, order.1, half)
                && (c.tens == tens || raw == 0.0)
                && c.exact
        });
        prop_assert!(hit, "{} {:?} {:?} of {shown} at {start}: {words:x?}", kind.0, order, half);
        // Everything that is offered fits, and the ranking is one.
        prop_assert!(found.windows(2).all(|pair| pair[0].oddity <= pair[1].oddity));
    }
}
