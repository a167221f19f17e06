//! Which requests read a set of values: direct neighbours together, never over the limits. Sans-IO.
//!
//! A value is never spread over two requests: its halves could be of two instants. Registers nobody
//! asked for are never read, since some devices refuse a whole block for one of them.

use crate::{pdu::Request, point::Table};

/// The entries of one value. `start + length` is at most 65536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Want {
    /// Which table.
    pub table: Table,
    /// Its first entry.
    pub start: u16,
    /// How many.
    pub length: u16,
}

/// One request and the values it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Which table.
    pub table: Table,
    /// Its first entry.
    pub start: u16,
    /// How many.
    pub length: u16,
    /// Positions of its values in the wants of the plan.
    pub wants: Vec<usize>,
}

/// The requests for a set of wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    wants: Vec<Want>,
    blocks: Vec<Block>,
}

impl Block {
    /// What to ask for.
    pub(crate) fn request(&self) -> Request {
        Request { table: self.table, start: self.start, count: self.length }
    }
}

impl Want {
    /// The entry behind its last one.
    fn end(self) -> u32 {
        u32::from(self.start) + u32::from(self.length)
    }
}

impl Plan {
    /// As few requests as neighbours allow.
    pub(crate) fn new(wants: Vec<Want>) -> Self {
        let blocks = coalesce(&wants, (0..wants.len()).collect());
        Self { wants, blocks }
    }

    /// The request at a position.
    pub(crate) fn block(&self, at: usize) -> Option<&Block> {
        self.blocks.get(at)
    }

    /// A value's entries.
    pub(crate) fn want(&self, at: usize) -> Option<Want> {
        self.wants.get(at).copied()
    }

    /// Forgets all splits.
    pub(crate) fn join(&mut self) {
        self.blocks = coalesce(&self.wants, (0..self.wants.len()).collect());
    }

    /// Halves a request the device refused and remembers it; the first half takes its position.
    /// False if all its values lie on the same entries, so that there is nothing to find out.
    pub(crate) fn split(&mut self, at: usize) -> bool {
        let Some(block) = self.blocks.get(at) else { return false };
        // Values on the same entries (bits of a status word) stay together: they are missing together.
        let mut distinct: Vec<Want> = block.wants.iter().filter_map(|i| self.want(*i)).collect();
        distinct.dedup();
        let Some(middle) = distinct.get(distinct.len() / 2).copied().filter(|_| distinct.len() > 1) else {
            return false;
        };
        let (left, right) = block.wants.iter().partition(|i| self.want(**i).is_some_and(|w| w < middle));
        let halves = coalesce(&self.wants, left).into_iter().chain(coalesce(&self.wants, right));
        let halves: Vec<Block> = halves.collect();
        self.blocks.splice(at..=at, halves);
        true
    }
}

/// Greedy over the wants in order of their addresses.
fn coalesce(wants: &[Want], mut chosen: Vec<usize>) -> Vec<Block> {
    chosen.sort_by_key(|i| wants.get(*i));
    let mut blocks: Vec<Block> = Vec::new();
    for index in chosen {
        let Some(want) = wants.get(index) else { continue };
        match blocks.last_mut().and_then(|block| Some((joined(block, *want)?, block))) {
            Some((length, block)) => {
                block.length = length;
                block.wants.push(index);
            }
            None => blocks.push(Block {
                table: want.table,
                start: want.start,
                length: want.length,
                wants: vec![index],
            }),
        }
    }
    blocks
}

/// The block's length with this want in it, if it touches the block and the limit allows it.
fn joined(block: &Block, want: Want) -> Option<u16> {
    let end = u32::from(block.start) + u32::from(block.length);
    if want.table != block.table || u32::from(want.start) > end {
        return None;
    }
    let length = u16::try_from(end.max(want.end()) - u32::from(block.start)).ok()?;
    (length <= block.table.limit()).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn check(wants: &[(Table, u16, u16)], blocks: &[(Table, u16, u16)]) {
        let wants = wants.iter().map(|&(table, start, length)| Want { table, start, length }).collect();
        let plan = Plan::new(wants);
        let planned: Vec<_> = plan.blocks.iter().map(|b| (b.table, b.start, b.length)).collect();
        assert_eq!(planned, blocks);
    }

    #[test]
    fn direct_neighbours_are_read_together() {
        use Table::{Coil, Discrete, Holding, Input};
        check(&[], &[]);
        check(&[(Holding, 2, 2), (Holding, 0, 2)], &[(Holding, 0, 4)]);
        check(&[(Holding, 0, 2), (Holding, 3, 1)], &[(Holding, 0, 2), (Holding, 3, 1)]);
        check(&[(Holding, 0, 1), (Input, 1, 1)], &[(Holding, 0, 1), (Input, 1, 1)]);
        check(&[(Coil, 0, 1), (Discrete, 1, 1)], &[(Coil, 0, 1), (Discrete, 1, 1)]);
        check(&[(Holding, 5, 1), (Holding, 5, 1), (Holding, 4, 2)], &[(Holding, 4, 2)]);
        check(&[(Holding, 65_534, 2), (Holding, 65_533, 1)], &[(Holding, 65_533, 3)]);
    }

    #[test]
    fn no_request_is_over_its_limit() {
        let registers: Vec<_> = (0..300).map(|n| (Table::Holding, n, 1)).collect();
        check(&registers, &[(Table::Holding, 0, 125), (Table::Holding, 125, 125), (Table::Holding, 250, 50)]);
        // 125 is odd: the 63rd pair does not fit and is not torn.
        let pairs: Vec<_> = (0..63).map(|n| (Table::Input, 2 * n, 2)).collect();
        check(&pairs, &[(Table::Input, 0, 124), (Table::Input, 124, 2)]);
        let bits: Vec<_> = (0..2_001).map(|n| (Table::Coil, n, 1)).collect();
        check(&bits, &[(Table::Coil, 0, 2_000), (Table::Coil, 2_000, 1)]);
    }

    #[test]
    fn a_refused_request_is_halved_until_the_missing_entry_is_alone() {
        let missing = 37;
        let wants: Vec<_> = (0..125).map(|n| Want { table: Table::Holding, start: n, length: 1 }).collect();
        let mut plan = Plan::new(wants);
        let (mut at, mut splits, mut alone) = (0, 0, Vec::new());
        while let Some(block) = plan.block(at).cloned() {
            if (block.start..block.start + block.length).contains(&missing) {
                if plan.split(at) {
                    splits += 1;
                    continue;
                }
                alone.push(block);
            }
            at += 1;
        }
        assert_eq!(alone.iter().map(|b| (b.start, b.length)).collect::<Vec<_>>(), [(37, 1)]);
        assert!(splits <= 7, "{splits} splits");
        assert!(plan.blocks.len() <= 8, "the split is remembered");
        plan.join();
        assert_eq!(plan.blocks.len(), 1);
    }

    #[test]
    fn bits_of_one_register_are_not_split() {
        let word = Want { table: Table::Holding, start: 9, length: 1 };
        let mut plan = Plan::new(vec![word; 16]);
        assert_eq!(plan.blocks.len(), 1);
        assert!(!plan.split(0));
    }

    /// Wants that overlap freely, many of them close together.
    fn wants() -> impl Strategy<Value = Vec<Want>> {
        let want = (crate::point::tables(), 0_u16..600, prop_oneof![19 => 1_u16..=4, 1 => 1_u16..=125]);
        let want = want.prop_map(|(table, start, length)| Want { table, start, length });
        proptest::collection::vec(want, 0..200)
    }

    fn holds(plan: &Plan, disjoint: bool) -> Result<(), TestCaseError> {
        let mut brought: Vec<usize> = plan.blocks.iter().flat_map(|b| b.wants.clone()).collect();
        brought.sort_unstable();
        prop_assert_eq!(brought, (0..plan.wants.len()).collect::<Vec<_>>(), "each value by one request");
        let mut read = BTreeSet::new();
        for block in &plan.blocks {
            prop_assert!(block.length <= block.table.limit());
            let mut wanted = BTreeSet::new();
            for want in block.wants.iter().map(|i| plan.wants[*i]) {
                prop_assert_eq!(want.table, block.table);
                prop_assert!(
                    want.start >= block.start && want.end() <= u32::from(block.start + block.length)
                );
                wanted.extend(want.start..want.start + want.length);
            }
            for entry in block.start..block.start + block.length {
                prop_assert!(wanted.contains(&entry), "a hole at {}", entry);
                prop_assert!(read.insert((block.table, entry)) || !disjoint, "{} read twice", entry);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn each_wanted_entry_is_read_once_and_no_other(wants in wants()) {
            // Without overlaps, an entry is read exactly once.
            let mut taken = BTreeSet::new();
            let disjoint = wants.iter().filter(|w| {
                let mut entries = (w.start..w.start + w.length).map(|entry| (w.table, entry));
                entries.clone().all(|e| !taken.contains(&e)) && entries.all(|e| taken.insert(e))
            });
            holds(&Plan::new(disjoint.copied().collect()), true)?;
            holds(&Plan::new(wants), false)?;
        }

        #[test]
        fn splitting_loses_nothing(wants in wants(), at in proptest::collection::vec(0_usize..50, 0..50)) {
            let mut plan = Plan::new(wants);
            for at in at {
                plan.split(at);
                holds(&plan, false)?;
            }
        }
    }
}
