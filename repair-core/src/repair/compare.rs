//! The fragments of an extent held against each other: roots, the extent's own hash, and parity encoded anew from the data.

use super::Finding;
use crate::client::{StripeHasher, strips};
use crate::node::Body;
use ec_core::fragment::{ExtentRecord, FragmentEntry, Hash};
use ec_core::geometry::Geometry;
use ec_core::{Code, ShardIndex};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::Range;

/// One reading of all fragments, slice by slice in any order. Holds one strip of parity, not slices.
pub(super) struct Comparison {
    code: Code,
    geometry: Geometry,
    hasher: StripeHasher,
    /// Parity encoded anew, one strip of each.
    encoded: Vec<Vec<u8>>,
    /// Parities of which some byte is not what the code makes of the data.
    differing: BTreeSet<u16>,
}

impl Comparison {
    /// For an extent of so many bytes.
    pub(super) fn new(code: Code, extent_bytes: u64) -> Self {
        let geometry = Geometry::new(extent_bytes, code.k());
        Self {
            hasher: StripeHasher::of_each(&geometry, code.n()),
            encoded: vec![Vec::new(); code.m()],
            differing: BTreeSet::new(),
            geometry,
            code,
        }
    }

    /// Takes `range` of every fragment's payload, in the order of their indexes, each range once.
    ///
    /// # Errors
    /// What cannot happen with ranges of this extent, in words.
    pub(super) fn add(&mut self, range: &Range<u64>, fragments: &[Body]) -> Result<(), String> {
        let bytes = usize::try_from(range.end - range.start).map_err(in_words)?;
        if fragments.len() != self.code.n() || fragments.iter().any(|fragment| fragment.len() != bytes) {
            return Err("a slice that is not of all fragments".into());
        }
        for (shard, fragment) in fragments.iter().enumerate() {
            self.hasher.add_shard(shard, range.start, fragment).map_err(in_words)?;
        }
        let (data, parity) = fragments.split_at(self.code.k());
        for (shard, fragment) in data.iter().enumerate() {
            // Behind the extent's last byte shards are padded; that is no part of its hash.
            let own = self.geometry.extent_range(shard, range.clone());
            let own_bytes = usize::try_from(own.end - own.start).map_err(in_words)?;
            self.hasher.add_extent(own.start, fragment.get(..own_bytes).unwrap_or(fragment)).map_err(in_words)?;
        }
        strips(self.code.n(), bytes).try_for_each(|strip| self.compare_strip(strip, data, parity))
    }

    fn compare_strip(&mut self, strip: Range<usize>, data: &[Body], parity: &[Body]) -> Result<(), String> {
        let data: Vec<&[u8]> = data.iter().map(|fragment| &fragment[strip.clone()]).collect();
        self.encoded.iter_mut().for_each(|buffer| buffer.resize(strip.len(), 0));
        let mut targets: Vec<&mut [u8]> = self.encoded.iter_mut().map(|buffer| &mut buffer[..]).collect();
        self.code.encode(&data, &mut targets).map_err(in_words)?;
        let first = u16::try_from(self.code.k()).map_err(in_words)?;
        for (index, (encoded, read)) in (first..).zip(self.encoded.iter().zip(parity)) {
            if encoded[..] != read[strip.clone()] {
                self.differing.insert(index);
            }
        }
        Ok(())
    }

    /// What is wrong, once all of every fragment was taken; none where nothing is.
    ///
    /// # Errors
    /// Not all of it was taken, or the record is of another shape.
    pub(super) fn finish(self, record: &ExtentRecord) -> Result<Option<Finding>, String> {
        let (extent_hash, payload_hashes) = self.hasher.finish().map_err(in_words)?;
        let has_its_root = |(entry, hash): &(&FragmentEntry, &Hash)| entry.identity.root(hash) == entry.root;
        let pairs = record.fragments.iter().zip(&payload_hashes);
        let other_roots: Vec<ShardIndex> =
            pairs.filter(|pair| !has_its_root(pair)).map(|(entry, _)| entry.identity.index).collect();
        // Held against fragments that are not what they were, parity and extent's hash would accuse the wrong ones.
        if !other_roots.is_empty() {
            return Ok(Some(Finding::Roots { fragments: other_roots.iter().map(|index| index.get()).collect() }));
        }
        let parity: Vec<u16> = self.differing.into_iter().collect();
        Ok(match (extent_hash == record.extent_hash, parity.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Finding::Parity { fragments: parity }),
            (false, _) => Some(Finding::ExtentHash { parity }),
        })
    }
}

fn in_words(error: impl Display) -> String {
    error.to_string()
}
