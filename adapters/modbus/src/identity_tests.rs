//! The example of the standard, devices that end badly, and round trips.

use super::*;
use proptest::prelude::*;

/// An answer as a device makes it.
pub(crate) fn answer(
    asked: Identify,
    conformity: u8,
    next: Option<u8>,
    objects: &[(u8, Vec<u8>)],
) -> Vec<u8> {
    let more = if next.is_some() { 0xFF } else { 0 };
    let count = u8::try_from(objects.len()).unwrap();
    let mut pdu = vec![0x2B, 0x0E, asked.access as u8, conformity, more, next.unwrap_or(0), count];
    for (number, value) in objects {
        pdu.extend([*number, u8::try_from(value.len()).unwrap()]);
        pdu.extend(value);
    }
    pdu
}

/// A request, and an answer that fits it and a frame.
pub(crate) fn answered() -> impl Strategy<Value = (Identify, Vec<u8>)> {
    let object = || (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40));
    let objects = proptest::collection::vec(object(), 0..5);
    (any::<u8>(), proptest::option::of(any::<u8>()), objects, 0..4).prop_map(
        |(number, next, mut objects, access)| {
            let access = [Access::Basic, Access::Regular, Access::Extended, Access::Single]
                [usize::try_from(access).unwrap()];
            if access == Access::Single {
                objects = vec![(number, objects.pop().map_or_else(Vec::new, |(_, value)| value))];
            }
            let asked = Identify { access, object: number };
            (asked, answer(asked, 0x83, next, &objects))
        },
    )
}

fn text(value: &str) -> Vec<u8> {
    value.as_bytes().to_vec()
}

#[test]
fn the_example_of_the_standard() {
    let asked = Identity::new(Access::Basic).begin();
    let mut pdu = Vec::new();
    asked.encode(&mut pdu);
    assert_eq!(pdu, [0x2B, 0x0E, 1, 0]);
    let objects = [(0, text("Company identification")), (1, text("Product code XX")), (2, text("V2.11"))];
    let page = asked.decode(&answer(asked, 1, None, &objects)).unwrap();
    assert_eq!(page, Page { conformity: 1, next: None, objects: objects.to_vec() });
    assert_eq!((0..=7).filter_map(name).count(), 7);
}

#[test]
fn pages_are_asked_for_until_the_end() {
    let mut identity = Identity::new(Access::Regular);
    let first = identity.begin();
    let page = first.decode(&answer(first, 2, Some(2), &[(0, text("ACME")), (1, text("X"))])).unwrap();
    let second = identity.handle_page(page).unwrap();
    assert_eq!(second, Identify { access: Access::Regular, object: 2 });
    let page = second.decode(&answer(second, 2, None, &[(2, text("1.0"))])).unwrap();
    assert_eq!(identity.handle_page(page), None);
    assert_eq!(identity.objects.into_values().collect::<Vec<_>>(), [text("ACME"), text("X"), text("1.0")]);
}

#[test]
fn a_device_that_goes_round_in_circles_is_at_its_end() {
    let mut identity = Identity::new(Access::Regular);
    let asked = identity.begin();
    for next in [0, 1] {
        let page = asked.decode(&answer(asked, 2, Some(next), &[(0, text("A")), (1, text("B"))])).unwrap();
        assert_eq!(identity.handle_page(page), None, "next {next}");
    }
    let empty = asked.decode(&answer(asked, 2, Some(7), &[])).unwrap();
    assert_eq!(identity.handle_page(empty), None, "nothing new");
}

#[test]
fn what_does_not_fit_is_no_answer() {
    let asked = Identify { access: Access::Single, object: 4 };
    let good = answer(asked, 0x83, None, &[(4, text("meter"))]);
    assert!(asked.decode(&good).is_some());
    let other = answer(asked, 0x83, None, &[(5, text("meter"))]);
    let two = answer(asked, 0x83, None, &[(4, text("meter")), (4, text("meter"))]);
    let none = answer(asked, 0x83, None, &[]);
    let basic = answer(Identify { access: Access::Basic, object: 4 }, 0x83, None, &[(4, text("meter"))]);
    let longer = [good.as_slice(), &[0]].concat();
    for pdu in [&other, &two, &none, &basic, &longer, &good[..good.len() - 1].to_vec()] {
        assert_eq!(asked.decode(pdu), None, "{pdu:x?}");
    }
    // Two objects of 200 bytes do not fit a PDU of 253.
    let head = answer(asked, 3, None, &[(4, vec![0; 200]), (5, vec![0; 200])]);
    assert_eq!(asked.answer_length(&head), None);
}

proptest! {
    /// From any beginning the length is at least what is to come, and never more than that.
    #[test]
    fn the_length_is_known_when_it_is_there((asked, pdu) in answered()) {
        for end in 0..=pdu.len() {
            let length = asked.answer_length(&pdu[..end]);
            let so_far = length.expect("it is one");
            prop_assert!(so_far <= pdu.len());
            prop_assert!(so_far > end || end == pdu.len(), "{} of {}", end, pdu.len());
        }
        prop_assert!(asked.decode(&pdu).is_some());
    }

    #[test]
    fn noise_is_no_panic_and_collecting_ends(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let asked = Identify { access: Access::Extended, object: 0 };
        let head = [&[0x2B, 0x0E, 3][..], &noise].concat();
        if let Some(page) = asked.decode(&head) {
            let mut identity = Identity::new(Access::Extended);
            let next = identity.handle_page(page.clone());
            prop_assert!(next.is_none_or(|next| !identity.objects.contains_key(&next.object)));
            prop_assert_eq!(identity.handle_page(page), None, "nothing new");
        }
    }
}
