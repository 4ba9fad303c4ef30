//! Positions of shards and sets of them.

use std::fmt;

/// Most shards a code over GF(2^8) can have.
pub const SHARDS_MAX: usize = 256;

/// Position of a shard in its stripe: data first, then local parities, then global parities. Not a count, not an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(u16);

impl ShardIndex {
    /// The shard at position `index`.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The position.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The position as an array index.
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of shard positions below [`SHARDS_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShardSet([u64; SHARDS_MAX / 64]);

impl ShardSet {
    /// The empty set.
    pub const EMPTY: Self = Self([0; SHARDS_MAX / 64]);

    /// The positions `0..count`; at most [`SHARDS_MAX`] of them.
    pub fn first(count: usize) -> Self {
        Self(std::array::from_fn(|word| match count.saturating_sub(64 * word) {
            0 => 0,
            below @ 1..64 => u64::MAX >> (64 - below),
            _ => u64::MAX,
        }))
    }

    /// Adds a shard. Positions from [`SHARDS_MAX`] on do not exist and are ignored.
    pub fn insert(&mut self, index: ShardIndex) {
        self.insert_at(index.at());
    }

    fn insert_at(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Takes a shard out.
    pub fn remove(&mut self, index: ShardIndex) {
        if let Some(word) = self.0.get_mut(index.at() / 64) {
            *word &= !(1 << (index.at() % 64));
        }
    }

    /// Whether the shard is in the set.
    pub fn contains(&self, index: ShardIndex) -> bool {
        self.0.get(index.at() / 64).is_some_and(|word| word >> (index.at() % 64) & 1 == 1)
    }

    /// How many shards are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; SHARDS_MAX / 64]
    }

    /// The positions in rising order.
    pub fn iter(&self) -> impl Iterator<Item = ShardIndex> + '_ {
        Members { words: self.0, word: 0 }
    }

    /// The members that are also in `other`.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// The members of both sets.
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// The members that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// Those of `0..count` that are not in the set.
    pub fn complement(&self, count: usize) -> Self {
        let mut rest = Self::first(count);
        for (word, own) in rest.0.iter_mut().zip(self.0) {
            *word &= !own;
        }
        rest
    }

    /// Whether every member is also in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(a, b)| a & !b == 0)
    }
}

struct Members {
    words: [u64; SHARDS_MAX / 64],
    word: usize,
}

impl Iterator for Members {
    type Item = ShardIndex;

    fn next(&mut self) -> Option<ShardIndex> {
        while let Some(bits) = self.words.get_mut(self.word) {
            if *bits != 0 {
                let bit = bits.trailing_zeros();
                *bits &= *bits - 1;
                return Some(ShardIndex((64 * self.word) as u16 + bit as u16));
            }
            self.word += 1;
        }
        None
    }
}

impl FromIterator<ShardIndex> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardIndex>>(indices: I) -> Self {
        let mut set = Self::EMPTY;
        for index in indices {
            set.insert(index);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_every_position_and_no_other() {
        let mut set = ShardSet::EMPTY;
        for index in [0, 63, 64, 255] {
            set.insert(ShardIndex(index));
        }
        set.insert(ShardIndex(256));
        assert_eq!(set.iter().map(ShardIndex::get).collect::<Vec<_>>(), [0, 63, 64, 255]);
        assert_eq!(set.len(), 4);
        set.remove(ShardIndex(63));
        assert!(!set.contains(ShardIndex(63)) && set.contains(ShardIndex(64)));
        assert_eq!(ShardSet::first(4).complement(6).iter().map(ShardIndex::get).collect::<Vec<_>>(), [4, 5]);
        for count in [0, 1, 63, 64, 65, 128, 255, 256, 1000] {
            let expected: Vec<u16> = (0..count.min(SHARDS_MAX) as u16).collect();
            assert_eq!(ShardSet::first(count).iter().map(ShardIndex::get).collect::<Vec<_>>(), expected, "{count}");
        }
        let (low, high) = (ShardSet::first(70), ShardSet::first(66).complement(200));
        assert_eq!(low.intersection(&high).iter().map(ShardIndex::get).collect::<Vec<_>>(), [66, 67, 68, 69]);
        assert_eq!(low.difference(&high), ShardSet::first(66));
        assert_eq!(low.union(&high), ShardSet::first(200));
        assert!(
            ShardSet::first(3).is_subset(&ShardSet::first(4)) && !ShardSet::first(4).is_subset(&ShardSet::first(3))
        );
    }
}
