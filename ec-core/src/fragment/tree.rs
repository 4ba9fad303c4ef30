//! The plain BLAKE3 hash of bytes that arrive in any order.
//!
//! A payload is read and rebuilt in large aligned pieces, by several threads and not in order, and should be touched once.
//! BLAKE3 is a tree over chunks of 1024 bytes, so each piece is hashed into the subtrees it covers, and the subtrees are put
//! together later. What is kept is one chaining value per subtree, 40 bytes each. Neighbours are joined at once when they
//! arrive one after the other; all others whenever there are twice as many subtrees as could not be joined the last time. So
//! bytes that arrive roughly in order, from either end, need about a hundred values, however small the pieces are.

use super::identity::Hash;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Bytes of a leaf of the tree.
const CHUNK_BYTES: u64 = blake3::CHUNK_LEN as u64;

/// Below this many subtrees more (2.5 KiB), sorting them costs more than they take.
const SUBTREES_UNJOINED: usize = 64;

/// Why a piece cannot be a part of the tree. The hasher is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The piece does not begin at a multiple of 1024, or neither ends at one nor at the end of all bytes.
    #[error("piece of {bytes} bytes at {offset} does not begin and end on 1024-byte chunks")]
    Unaligned {
        /// Where the piece begins.
        offset: u64,
        /// Its length.
        bytes: u64,
    },
    /// The piece reaches past the end.
    #[error("piece of {bytes} bytes at {offset} reaches past the end at {total_bytes}")]
    OutOfRange {
        /// Where the piece begins.
        offset: u64,
        /// Its length.
        bytes: u64,
        /// Length of all bytes.
        total_bytes: u64,
    },
}

/// Why there is no hash: the pieces are not each byte once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incomplete {
    /// Bytes that no piece brought.
    #[error("no bytes from {from} to {to}")]
    Gap {
        /// First byte missing.
        from: u64,
        /// First byte after the gap.
        to: u64,
    },
    /// A byte that two pieces brought.
    #[error("byte {at} was given twice")]
    Overlap {
        /// The first such byte.
        at: u64,
    },
    /// Hashers for different lengths were merged.
    #[error("a hasher of {found} bytes was merged into one of {expected}")]
    OtherTotal {
        /// Length this hasher was made for.
        expected: u64,
        /// Length the other was made for.
        found: u64,
    },
}

/// A complete subtree: `2^level` chunks from chunk `start`, a multiple of their number. The last chunk of all may be short.
#[derive(Clone, Copy, Debug)]
struct Subtree {
    /// `start << 6 | level`: sorts by start, and keeps an entry at 40 bytes. Chunk numbers are below 2^54.
    key: u64,
    value: ChainingValue,
}

impl Subtree {
    fn new(start: u64, level: u32, value: ChainingValue) -> Self {
        Self { key: start << 6 | u64::from(level), value }
    }

    fn start(&self) -> u64 {
        self.key >> 6
    }

    fn level(&self) -> u32 {
        (self.key & 63) as u32
    }

    fn end(&self) -> u64 {
        self.start() + (1 << self.level())
    }
}

/// Computes the BLAKE3 hash of `total_bytes` bytes from pieces in any order.
///
/// ```
/// let bytes = [7; 5000];
/// let mut hasher = ec_core::fragment::TreeHasher::new(5000);
/// hasher.add(4096, &bytes[4096..]).unwrap();
/// hasher.add(0, &bytes[..4096]).unwrap();
/// assert_eq!(hasher.finish().unwrap(), ec_core::fragment::Hash::of(&bytes));
/// ```
#[derive(Clone, Debug)]
pub struct TreeHasher {
    total_bytes: u64,
    subtrees: Vec<Subtree>,
    /// With more subtrees than this, siblings are looked for. At least twice what was left the last time: in whatever order
    /// pieces come, each is sorted about as often as their number doubles.
    subtrees_max: usize,
    other_total: Option<u64>,
}

impl TreeHasher {
    /// A hasher for `total_bytes` bytes, none of which have come yet. Any number will do: memory is taken for pieces that have come.
    pub fn new(total_bytes: u64) -> Self {
        Self { total_bytes, subtrees: Vec::new(), subtrees_max: SUBTREES_UNJOINED, other_total: None }
    }

    /// Bytes of the whole.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Chunks of the tree; no bytes are still one chunk.
    fn chunks(&self) -> u64 {
        self.total_bytes.div_ceil(CHUNK_BYTES).max(1)
    }

    /// Takes the bytes at `offset`. Both ends are multiples of 1024, or the end of all bytes. Fastest when a piece is a large
    /// power of two at a multiple of its length: then it is a single BLAKE3 call.
    ///
    /// # Errors
    /// [`TreeError`] for a piece that does not lie on chunks or reaches past the end.
    pub fn add(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TreeError> {
        let (length, total_bytes) = (bytes.len() as u64, self.total_bytes);
        let Some(end) = offset.checked_add(length).filter(|&end| end <= total_bytes) else {
            return Err(TreeError::OutOfRange { offset, bytes: length, total_bytes });
        };
        let on_chunks = offset.is_multiple_of(CHUNK_BYTES) && (end.is_multiple_of(CHUNK_BYTES) || end == total_bytes);
        if !on_chunks {
            return Err(TreeError::Unaligned { offset, bytes: length });
        }
        let mut start = offset / CHUNK_BYTES;
        let mut rest = bytes;
        while !rest.is_empty() {
            let level = self.level_of_next(start, (rest.len() as u64).div_ceil(CHUNK_BYTES));
            let subtree_bytes = usize::try_from(CHUNK_BYTES << level).unwrap_or(usize::MAX).min(rest.len());
            let (piece, after) = rest.split_at(subtree_bytes);
            self.push(Subtree::new(start, level, self.chaining_value(start, piece)));
            (start, rest) = (start + (1 << level), after);
        }
        self.join_when_many();
        Ok(())
    }

    /// The highest complete subtree that begins at `start` and lies within `chunks`. Never the whole tree, unless that is one
    /// chunk: the root is not a subtree but is finalised differently.
    fn level_of_next(&self, start: u64, chunks: u64) -> u32 {
        let level = chunks.ilog2().min(start.trailing_zeros());
        if level > 0 && 1 << level == self.chunks() { level - 1 } else { level }
    }

    /// The chaining value of a subtree; of a tree of one chunk, the hash itself.
    fn chaining_value(&self, start: u64, piece: &[u8]) -> ChainingValue {
        if self.chunks() == 1 {
            return *blake3::hash(piece).as_bytes();
        }
        blake3::Hasher::new().set_input_offset(start * CHUNK_BYTES).update(piece).finalize_non_root()
    }

    fn push(&mut self, subtree: Subtree) {
        self.subtrees.push(subtree);
        let chunks = self.chunks();
        join_siblings(&mut self.subtrees, chunks);
    }

    /// Takes what another hasher of the same bytes was given.
    pub fn merge(&mut self, other: Self) {
        if other.total_bytes != self.total_bytes {
            // Kept for `finish`, so that threads can merge without a result nobody expects to need.
            self.other_total = Some(other.total_bytes);
        }
        self.other_total = self.other_total.or(other.other_total);
        self.subtrees.extend(other.subtrees);
        self.join_when_many();
    }

    /// Keeps what is held in proportion to the gaps between the pieces, not to their number.
    fn join_when_many(&mut self) {
        if self.subtrees.len() > self.subtrees_max {
            self.join_all();
            self.subtrees_max = 2 * self.subtrees.len() + SUBTREES_UNJOINED;
        }
    }

    /// Sorts the subtrees and joins siblings. A parent covers what its two children did: how often each byte was given stays
    /// the same, and that alone decides what [`TreeHasher::finish`] says, so joining hides no gap and no overlap.
    fn join_all(&mut self) {
        let chunks = self.chunks();
        let mut subtrees = std::mem::take(&mut self.subtrees);
        subtrees.sort_unstable_by_key(|subtree| subtree.key);
        for subtree in subtrees {
            self.subtrees.push(subtree);
            join_siblings(&mut self.subtrees, chunks);
        }
    }

    /// The hash of all bytes.
    ///
    /// # Errors
    /// [`Incomplete`] unless every byte was given exactly once.
    pub fn finish(mut self) -> Result<Hash, Incomplete> {
        if let Some(found) = self.other_total {
            return Err(Incomplete::OtherTotal { expected: self.total_bytes, found });
        }
        if self.total_bytes == 0 {
            return Ok(Hash::of(&[]));
        }
        self.join_all();
        let chunks = self.chunks();
        let mut next = 0;
        // Still in order of their starts: a parent begins where its left child did.
        for subtree in &self.subtrees {
            let start = subtree.start();
            if start < next {
                return Err(Incomplete::Overlap { at: start * CHUNK_BYTES });
            }
            if start > next {
                return Err(Incomplete::Gap { from: next * CHUNK_BYTES, to: start * CHUNK_BYTES });
            }
            next = subtree.end();
        }
        if next < chunks {
            return Err(Incomplete::Gap { from: next * CHUNK_BYTES, to: self.total_bytes });
        }
        Ok(root_of(&self.subtrees))
    }
}

/// Joins the last two subtrees while they are the halves of one, but never into the root.
fn join_siblings(subtrees: &mut Vec<Subtree>, chunks: u64) {
    while let [.., left, right] = subtrees[..] {
        let level = left.level() + 1;
        let siblings = left.level() == right.level() && left.end() == right.start();
        if !siblings || left.start().trailing_zeros() < level || 1 << level >= chunks {
            return;
        }
        let value = merge_subtrees_non_root(&left.value, &right.value, Mode::Hash);
        subtrees.truncate(subtrees.len() - 2);
        subtrees.push(Subtree::new(left.start(), level, value));
    }
}

/// The root above subtrees of falling height that cover everything: they hang on the right edge of the tree.
fn root_of(subtrees: &[Subtree]) -> Hash {
    let Some((first, others)) = subtrees.split_first() else { return Hash::of(&[]) };
    let right = others
        .iter()
        .rev()
        .map(|subtree| subtree.value)
        .reduce(|right, left| merge_subtrees_non_root(&left, &right, Mode::Hash));
    match right {
        Some(right) => merge_subtrees_root(&first.value, &right, Mode::Hash).into(),
        None => Hash::new(first.value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation)]

    use super::*;

    fn painted(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    /// Steps of a small generator: the same pieces in the same order on every run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % bound.max(1)
        }
    }

    /// Cuts `0..total` on chunks at random and shuffles the pieces.
    fn pieces(dice: &mut Dice, total: usize, chunks_max: usize) -> Vec<std::ops::Range<usize>> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < total {
            let end = (at + 1024 * (1 + dice.below(chunks_max))).min(total);
            pieces.push(at..end);
            at = end;
        }
        for last in (1..pieces.len()).rev() {
            pieces.swap(last, dice.below(last + 1));
        }
        pieces
    }

    fn check(bytes: &[u8], pieces: &[std::ops::Range<usize>], threads: usize) {
        let total = bytes.len() as u64;
        let mut hashers = vec![TreeHasher::new(total); threads];
        for (turn, piece) in pieces.iter().enumerate() {
            hashers[turn % threads].add(piece.start as u64, &bytes[piece.clone()]).unwrap();
        }
        let mut whole = hashers.pop().unwrap();
        hashers.into_iter().for_each(|other| whole.merge(other));
        assert_eq!(whole.finish(), Ok(Hash::of(bytes)), "{total} bytes in {pieces:?} by {threads}");
    }

    #[test]
    fn the_hash_is_that_of_the_bytes_in_order() {
        let bytes = painted(20_480);
        let mut dice = Dice(1);
        for total in
            (0..=20_000).step_by(7).chain((0..20).flat_map(|chunk| [0, 1, 1023].map(|more| 1024 * chunk + more)))
        {
            let bytes = &bytes[..total];
            check(bytes, std::slice::from_ref(&(0..total)), 1);
            for (chunks_max, threads) in [(1, 1), (3, 2), (9, 3)] {
                let pieces = pieces(&mut dice, total, chunks_max);
                check(bytes, &pieces, threads);
            }
        }
    }

    #[test]
    fn large_inputs_in_large_pieces() {
        let bytes = painted((4 << 20) + 1);
        let mut dice = Dice(2);
        for total in [1 << 20, (1 << 20) + 1, (3 << 20) - 1, 3_333_333, 4 << 20, (4 << 20) + 1] {
            for chunks_max in [1, 64, 1000] {
                let pieces = pieces(&mut dice, total, chunks_max);
                check(&bytes[..total], &pieces, 2);
            }
        }
    }

    #[test]
    fn an_aligned_piece_is_one_value_and_bytes_in_order_are_few() {
        let bytes = painted(256 << 10);
        let mut hasher = TreeHasher::new(16 << 20);
        hasher.add(768 << 10, &bytes).unwrap();
        assert_eq!(hasher.subtrees.len(), 1);
        let mut hasher = TreeHasher::new(16 << 20);
        for offset in (0..16u64 << 20).step_by(256 << 10) {
            hasher.add(offset, &bytes).unwrap();
            assert!(hasher.subtrees.len() <= 7, "{} values", hasher.subtrees.len());
        }
        assert_eq!(size_of::<Subtree>(), 40);
    }

    /// Chunk-sized pieces in each order, merged one by one: name, pieces, and the most subtrees that may be held meanwhile.
    fn orders(pieces: usize) -> Vec<(&'static str, Vec<usize>, usize)> {
        let in_order: Vec<usize> = (0..pieces).collect();
        let reversed = in_order.iter().rev().copied().collect();
        let blocks_reversed = in_order.chunks(64).rev().flatten().copied().collect();
        let mut dice = Dice(3);
        let mut shuffled = in_order.clone();
        for last in (1..pieces).rev() {
            shuffled.swap(last, dice.below(last + 1));
        }
        // Sixteen runs, a piece of each in turn: as threads bring them that share one hasher.
        let runs = (0..pieces).map(|turn| turn % 16 * (pieces / 16) + turn / 16).collect();
        // In order, one subtree of each level is left; twice that, and those not yet looked at.
        let few = 2 * pieces.ilog2() as usize + SUBTREES_UNJOINED + 1;
        vec![
            ("in order", in_order, few),
            ("reversed", reversed, few),
            ("blocks reversed", blocks_reversed, few),
            ("sixteen runs", runs, 16 * few),
            ("shuffled", shuffled, pieces),
        ]
    }

    fn merged(total: u64, pieces: &[TreeHasher], order: impl Iterator<Item = usize>) -> (TreeHasher, usize) {
        let mut whole = TreeHasher::new(total);
        let mut subtrees = 0;
        for piece in order {
            whole.merge(pieces[piece].clone());
            subtrees = subtrees.max(whole.subtrees.len());
        }
        (whole, subtrees)
    }

    #[test]
    fn many_small_pieces_are_joined_as_they_are_merged() {
        const PIECES: usize = 65_536;
        let bytes = painted(1024 * PIECES);
        let (total, hash) = (bytes.len() as u64, Hash::of(&bytes));
        let piece = |at: usize, chunks: usize| {
            let mut piece = TreeHasher::new(total);
            piece.add(1024 * at as u64, &bytes[1024 * at..1024 * (at + chunks)]).unwrap();
            piece
        };
        let pieces: Vec<TreeHasher> = (0..PIECES).map(|at| piece(at, 1)).collect();
        for (name, order, subtrees_max) in orders(PIECES) {
            let (whole, subtrees) = merged(total, &pieces, order.iter().copied());
            assert!(subtrees <= subtrees_max, "{name}: {subtrees} subtrees, at most {subtrees_max} expected");
            assert_eq!(whole.clone().finish(), Ok(hash), "{name}");

            for again in [0, 1, 4_095, 40_000, PIECES - 1] {
                let overlap = Err(Incomplete::Overlap { at: 1024 * again as u64 });
                for before in [0, PIECES / 3, PIECES] {
                    let (first, rest) = order.split_at(before);
                    let order = first.iter().chain([&again]).chain(rest).copied();
                    assert_eq!(
                        merged(total, &pieces, order).0.finish(),
                        overlap,
                        "{name}: {again} also after {before}"
                    );
                }
                // Long since part of something larger, and given again: alone, and with its neighbours.
                for chunks in [1, 2, 4].into_iter().filter(|chunks| again + chunks <= PIECES) {
                    let mut twice = whole.clone();
                    twice.merge(piece(again, chunks));
                    assert_eq!(twice.finish(), overlap, "{name}: {chunks} chunks from {again}");
                }
            }
        }
    }

    /// What `finish` may say, from how often each chunk was given.
    fn verdict(given: &[usize], bytes: &[u8]) -> Result<Hash, Incomplete> {
        let total_bytes = bytes.len() as u64;
        let Some(at) = given.iter().position(|&times| times != 1) else { return Ok(Hash::of(bytes)) };
        let from = CHUNK_BYTES * at as u64;
        if given[at] > 1 {
            return Err(Incomplete::Overlap { at: from });
        }
        let gap = given[at..].iter().take_while(|&&times| times == 0).count();
        Err(Incomplete::Gap { from, to: total_bytes.min(from + CHUNK_BYTES * gap as u64) })
    }

    #[test]
    fn joining_at_any_time_hides_no_gap_and_no_overlap() {
        let bytes = painted(20_480);
        let mut dice = Dice(4);
        let mut overlaps = 0;
        for _ in 0..20_000 {
            let total = 1 + dice.below(bytes.len());
            let bytes = &bytes[..total];
            let mut pieces = pieces(&mut dice, total, 3);
            match dice.below(3) {
                0 => {}
                1 => drop(pieces.pop()),
                _ => pieces.extend_from_within(..dice.below(pieces.len())),
            }
            let mut given = vec![0; total.div_ceil(1024)];
            let mut whole = TreeHasher::new(total as u64);
            for range in pieces {
                given[range.start / 1024..range.end.div_ceil(1024)].iter_mut().for_each(|times| *times += 1);
                let mut piece = TreeHasher::new(total as u64);
                piece.add(range.start as u64, &bytes[range]).unwrap();
                whole.subtrees_max = dice.below(8);
                whole.merge(piece);
            }
            let verdict = verdict(&given, bytes);
            overlaps += usize::from(matches!(verdict, Err(Incomplete::Overlap { .. })));
            assert_eq!(whole.finish(), verdict, "{total} bytes, each chunk given {given:?}");
        }
        assert!(overlaps > 2_000, "{overlaps} overlaps");
    }

    #[test]
    fn bytes_given_twice_or_not_at_all_are_no_hash() {
        let bytes = painted(9000);
        let added = |pieces: &[(usize, usize)]| {
            let mut hasher = TreeHasher::new(9000);
            pieces.iter().for_each(|&(from, to)| hasher.add(from as u64, &bytes[from..to]).unwrap());
            hasher.finish()
        };
        assert_eq!(added(&[]), Err(Incomplete::Gap { from: 0, to: 9000 }));
        assert_eq!(added(&[(0, 8192)]), Err(Incomplete::Gap { from: 8192, to: 9000 }));
        assert_eq!(added(&[(0, 1024), (2048, 9000)]), Err(Incomplete::Gap { from: 1024, to: 2048 }));
        assert_eq!(added(&[(0, 9000), (8192, 9000)]), Err(Incomplete::Overlap { at: 8192 }));
        assert_eq!(added(&[(0, 2048), (1024, 9000)]), Err(Incomplete::Overlap { at: 1024 }));
        assert_eq!(added(&[(0, 1024), (0, 1024), (1024, 9000)]), Err(Incomplete::Overlap { at: 0 }));
        let one = TreeHasher::new(1);
        assert_eq!(one.finish(), Err(Incomplete::Gap { from: 0, to: 1 }));
        let mut twice = TreeHasher::new(1);
        twice.add(0, &[7]).unwrap();
        twice.add(0, &[7]).unwrap();
        assert_eq!(twice.finish(), Err(Incomplete::Overlap { at: 0 }));
        let mut other = TreeHasher::new(0);
        other.merge(TreeHasher::new(1));
        assert_eq!(other.finish(), Err(Incomplete::OtherTotal { expected: 0, found: 1 }));
    }

    #[test]
    fn pieces_off_the_chunks_or_past_the_end_are_refused() {
        let mut hasher = TreeHasher::new(9000);
        for (offset, bytes) in [(1, 1024), (512, 512), (0, 1000), (8192, 807)] {
            assert!(
                matches!(hasher.add(offset, &vec![0; bytes]), Err(TreeError::Unaligned { .. })),
                "{bytes} at {offset}"
            );
        }
        for (offset, bytes) in [(8192, 809), (9216, 0), (u64::MAX, 1), (u64::MAX - 1023, 1024)] {
            assert!(
                matches!(hasher.add(offset, &vec![0; bytes]), Err(TreeError::OutOfRange { .. })),
                "{bytes} at {offset}"
            );
        }
        assert!(hasher.add(9000, &[]).is_err() && hasher.add(1024, &[]).is_ok());
        let mut largest = TreeHasher::new(u64::MAX);
        largest.add(u64::MAX - 1023, &[0; 1023]).unwrap();
        assert!(matches!(largest.finish(), Err(Incomplete::Gap { from: 0, .. })));
    }
}
