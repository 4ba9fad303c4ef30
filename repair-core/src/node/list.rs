//! The list of a placement group: which extents are on file, by which records, and what those sum to.
//!
//! A disk has some million lines. They come by rising numbers, and a B-tree that grows at its end is left with nodes little more
//! than half full: twice the 48 bytes of a line. So it is packed anew now and then.

use crate::id::{ExtentKey, RecordHash, Sum};
use std::collections::BTreeMap;

/// Fewer changes than this are not worth packing for.
const LOOSE_MIN: usize = 64;

/// A list and its sum.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    lines: BTreeMap<ExtentKey, RecordHash>,
    sum: Sum,
    /// Changes since it was packed.
    loose: usize,
}

/// How it lies in memory does not matter.
impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        self.lines == other.lines
    }
}

impl Eq for List {}

impl List {
    pub(super) fn of(lines: BTreeMap<ExtentKey, RecordHash>) -> Self {
        let mut list = Self { sum: Sum::of(lines.values()), lines, loose: 0 };
        list.pack();
        list
    }

    pub(super) fn lines(&self) -> &BTreeMap<ExtentKey, RecordHash> {
        &self.lines
    }

    pub(super) fn sum(&self) -> Sum {
        self.sum
    }

    pub(super) fn insert(&mut self, extent: ExtentKey, hash: RecordHash) {
        if let Some(old) = self.lines.insert(extent, hash) {
            self.sum = self.sum.minus(&old);
        }
        self.sum = self.sum.plus(&hash);
        self.loosened();
    }

    pub(super) fn remove(&mut self, extent: &ExtentKey) {
        if let Some(old) = self.lines.remove(extent) {
            self.sum = self.sum.minus(&old);
        }
        self.loosened();
    }

    /// Half as many changes as lines pay for moving them all.
    fn loosened(&mut self) {
        self.loose += 1;
        if self.loose >= LOOSE_MIN.max(self.lines.len() / 2) {
            self.pack();
        }
    }

    /// A B-tree that is made of an ordered sequence has full nodes.
    fn pack(&mut self) {
        self.lines = std::mem::take(&mut self.lines).into_iter().collect();
        self.loose = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_that_of_its_changes_and_its_sum_follows() {
        let (mut list, mut model) = (List::default(), BTreeMap::new());
        let hash = |number: u32| RecordHash::of(&number.to_le_bytes());
        for number in 0..5_000_u32 {
            let extent = ExtentKey(u128::from(number.wrapping_mul(2_654_435_761) % 700));
            if number % 3 == 0 {
                list.remove(&extent);
                model.remove(&extent);
            } else {
                list.insert(extent, hash(number));
                model.insert(extent, hash(number));
            }
            assert_eq!(list.lines(), &model);
        }
        assert_eq!(list.sum(), Sum::of(model.values()));
        assert_eq!(list, List::of(model));
    }
}
