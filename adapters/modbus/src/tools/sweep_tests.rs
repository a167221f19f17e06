//! A device that lacks registers, asked for all of them.

use super::*;
use crate::point::tables;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Of a device that takes what the standard allows.
const ANY: Limits = Limits { registers: 125, bits: 2_000, hole: 0 };

/// Answers like a device that has these registers of one table, and no other table.
fn served(has: &BTreeSet<u16>, table: Table, request: Request) -> Answer {
    let mut addresses = request.start..=request.start + (request.count - 1);
    if request.table != table {
        return Answer::Refused(Exception(1));
    }
    if !addresses.clone().all(|address| has.contains(&address)) {
        return Answer::Refused(Exception(2));
    }
    if table.is_bits() {
        Answer::Bits(addresses.map(|address| address % 2 == 1).collect())
    } else {
        Answer::Words(addresses.by_ref().collect())
    }
}

proptest! {
    #[test]
    fn all_that_is_there_is_read_and_nothing_twice(
        has in proptest::collection::btree_set(0_u16..400, 0..300),
        table in tables(),
        wanted in proptest::collection::btree_set(0_u16..400, 1..300),
    ) {
        let single = |start: &u16| Want { table, start: *start, length: 1 };
        let mut walk = Walk::new(wanted.iter().map(single).collect(), ANY);
        let mut answered = BTreeSet::new();
        while let Some(request) = walk.poll_request() {
            prop_assert!(request.count <= table.limit());
            let answer = served(&has, table, request);
            if !matches!(answer, Answer::Refused(_)) {
                for address in request.start..=request.start + (request.count - 1) {
                    prop_assert!(answered.insert(address), "{address} twice");
                }
            }
            walk.handle_answer(request, &answer);
        }
        let read: BTreeSet<u16> = walk.entries.keys().map(|(_, address)| *address).collect();
        prop_assert_eq!(&read, &wanted.intersection(&has).copied().collect());
        let refused: BTreeSet<u16> = walk.refused.iter().map(|(want, _)| want.start).collect();
        prop_assert_eq!(&refused, &wanted.difference(&has).copied().collect());
    }

    #[test]
    fn a_value_is_never_torn(starts in proptest::collection::btree_set(0_u16..200, 1..60), missing in 0_u16..400) {
        let wants: Vec<Want> =
            starts.iter().map(|n| Want { table: Table::Input, start: 2 * n, length: 2 }).collect();
        let mut walk = Walk::new(wants.clone(), ANY);
        while let Some(request) = walk.poll_request() {
            prop_assert!(request.start % 2 == 0 && request.count % 2 == 0);
            let has = (0..400).filter(|address| *address != missing).collect();
            let answer = served(&has, Table::Input, request);
            walk.handle_answer(request, &answer);
        }
        prop_assert_eq!(walk.entries.len() + 2 * walk.refused.len(), 2 * wants.len());
        prop_assert!(walk.refused.len() <= 1);
    }
}

#[test]
fn a_table_that_is_not_served_is_left_at_the_first_word() {
    let of = |table| (0..250).map(move |start| Want { table, start, length: 1 });
    let mut walk = Walk::new(of(Table::Input).chain(of(Table::Holding)).collect(), ANY);
    let (mut asked, has) = (0, (0..250).collect());
    while let Some(request) = walk.poll_request() {
        asked += 1;
        walk.handle_answer(request, &served(&has, Table::Input, request));
    }
    assert_eq!((asked, walk.entries.len(), walk.refused.len()), (3, 250, 250));
}

#[test]
fn ranges_have_both_ends_and_stay_in_one_table() {
    for (text, base, table, first, last) in [
        ("holding:0", None, Table::Holding, 0, 0),
        ("input:10..20", None, Table::Input, 10, 20),
        ("input:10..input:20", None, Table::Input, 10, 20),
        ("input:1..10", Some(1), Table::Input, 0, 9),
        ("40001..40010", Some(1), Table::Holding, 0, 9),
        ("coil:0x10..0x1f", None, Table::Coil, 16, 31),
    ] {
        let Ok(read) = range(text, base) else { panic!("{text}") };
        assert_eq!(read, (table, first..=last), "{text}");
    }
    for (text, base) in [
        ("holding:20..10", None),
        ("holding:1..", None),
        ("holding:..1", None),
        ("holding:1..input:2", None),
        ("40001", None),
        ("holding:0", Some(1)),
        ("holding:0", Some(2)),
        ("..", None),
    ] {
        assert!(matches!(range(text, base), Err(End::Wrong(..))), "{text}");
    }
}
