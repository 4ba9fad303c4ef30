//! Which fragments of a stripe are wrong, from what they say of each other.
//!
//! The equations of a code over all its shards, `parity - P * data = 0`, give zeros for a sound stripe. What they give instead, the
//! syndromes, is a sum over the wrong shards of their columns in the equations times what is wrong with their bytes. Over many
//! byte columns the syndromes span, for corruption that has no pattern, exactly the space of the columns of the wrong shards; and
//! any `d - 1` columns of a code of distance `d` are independent, so up to `d - 2` wrong shards are told for certain: a shard
//! whose column lies in that space is one of them. Where errors follow a pattern (one byte, or the same error in two shards) the space
//! is smaller than the set; then the smallest set that explains it is looked for, and named, as likely, where it is the only one of
//! its size.

use crate::code::{Code, shard};
use crate::error::DecodeError;
use crate::gf;
use crate::kernel::Transform;
use crate::matrix::Matrix;
use crate::shard::ShardSet;
use std::ops::Range;

/// Sets of shards of one size that are tried for one block, at most.
pub const SETS_MAX: usize = 200_000;

/// The same in one call, however many blocks are bad.
pub const SETS_OF_A_CALL_MAX: usize = 5_000_000;

/// Why nothing could be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The code has too few parities: one wrong shard looks like any other.
    #[error("{spec} cannot tell which fragment is wrong: that needs a distance of 3, and its is {distance}")]
    Distance {
        /// The code.
        spec: String,
        /// The least number of shards in which two stripes differ.
        distance: usize,
    },
    /// Blocks of no bytes.
    #[error("blocks of 0 bytes")]
    EmptyBlocks,
    /// The shards are not one stripe of the code.
    #[error(transparent)]
    Buffers(#[from] DecodeError),
}

/// What was found of a block that is not sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These are wrong and no others, unless more are wrong than the code can tell apart.
    Wrong(ShardSet),
    /// The errors follow a pattern; of all sets of shards that explain them this is the only one of so few.
    Likely(ShardSet),
    /// No set of so few explains it alone: at least this many are wrong, and which cannot be told.
    Ambiguous {
        /// Shards that are wrong at least.
        at_least: usize,
    },
    /// More are wrong than the code can tell apart.
    TooMany {
        /// Shards that are wrong at least.
        at_least: usize,
        /// Those it could tell.
        limit: usize,
    },
    /// The errors follow a pattern, and there are more sets to try than [`SETS_MAX`], or [`SETS_OF_A_CALL_MAX`] were tried before.
    NotSearched {
        /// Shards that are wrong at least.
        at_least: usize,
    },
}

/// A block of all shards that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The bytes of every shard.
    pub range: Range<usize>,
    /// What was found.
    pub verdict: Verdict,
}

/// The equations of one code, prepared.
///
/// ```
/// use ec_core::{Code, ShardIndex, locate::{Locator, Verdict}};
///
/// let code = Code::new(&"rs:4+3".parse()?)?;
/// let mut shards = [[0u8; 4096]; 7];
/// for (at, byte) in shards[..4].iter_mut().flatten().enumerate() {
///     *byte = (at % 251) as u8;
/// }
/// let (data, parity) = shards.split_at_mut(4);
/// code.encode(&data.iter().map(|it| &it[..]).collect::<Vec<_>>(), &mut parity.iter_mut().map(|it| &mut it[..]).collect::<Vec<_>>())?;
///
/// let locator = Locator::new(&code)?;
/// assert_eq!(locator.limit(), 2);
/// assert!(locator.locate(&shards.each_ref().map(|it| &it[..]), 4096)?.is_empty());
///
/// // Two fragments rot, each in its own way.
/// for at in 0..64 {
///     shards[1][at] ^= at as u8 + 1;
///     shards[5][at] ^= (at * at) as u8 ^ 0x5a;
/// }
/// let found = locator.locate(&shards.each_ref().map(|it| &it[..]), 4096)?;
/// let Verdict::Wrong(wrong) = &found[0].verdict else { panic!() };
/// assert_eq!(wrong.iter().map(ShardIndex::get).collect::<Vec<_>>(), [1, 5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Locator {
    /// Shard by shard its column in the equations, as a row.
    columns: Matrix,
    syndromes: Transform,
    limit: usize,
}

impl Locator {
    /// For stripes of a code.
    ///
    /// # Errors
    /// [`LocateError::Distance`].
    pub fn new(code: &Code) -> Result<Self, LocateError> {
        let (k, n, m) = (code.k(), code.n(), code.m());
        let distance = code.guaranteed_tolerance() + 1;
        if distance < 3 {
            return Err(LocateError::Distance { spec: code.spec().to_string(), distance });
        }
        let coefficient = |row: usize, at: usize| {
            if at < k { code.generator().get(k + row, at) } else { u8::from(at - k == row) }
        };
        let equations = Matrix::from_fn(m, n, coefficient);
        let columns = Matrix::from_fn(n, m, |at, row| coefficient(row, at));
        Ok(Self { columns, syndromes: Transform::of_shards(code.kernel(), &equations), limit: distance - 2 })
    }

    /// Wrong shards that are told for certain, where their errors have no pattern: the distance less 2.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Looks at all shards of a stripe, data first, block by block: different shards may be wrong in different blocks. Gives the
    /// blocks that are not sound, in order. The last block may be short. Blocks of 64 bytes and more tell best; works in memory of one
    /// block for each parity.
    ///
    /// # Errors
    /// A [`LocateError`].
    pub fn locate(&self, shards: &[&[u8]], block_bytes: usize) -> Result<Vec<Damage>, LocateError> {
        if block_bytes == 0 {
            return Err(LocateError::EmptyBlocks);
        }
        self.one_stripe(shards)?;
        let length = shards.first().map_or(0, |shard| shard.len());
        let mut rows = vec![vec![0; block_bytes.min(length)]; self.columns.columns()];
        let (mut found, mut sets_left) = (Vec::new(), SETS_OF_A_CALL_MAX);
        for start in (0..length).step_by(block_bytes) {
            let range = start..length.min(start.saturating_add(block_bytes));
            let blocks: Vec<&[u8]> = shards.iter().map(|shard| &shard[range.clone()]).collect();
            let mut outputs: Vec<&mut [u8]> = rows.iter_mut().map(|row| &mut row[..range.len()]).collect();
            self.syndromes.apply(&blocks, &mut outputs)?;
            let space = Space::of_columns(&outputs, self.limit + 1);
            if !space.basis.is_empty() {
                found.push(Damage { range, verdict: self.explain(&space, &mut sets_left) });
            }
        }
        Ok(found)
    }

    fn one_stripe(&self, shards: &[&[u8]]) -> Result<(), DecodeError> {
        let n = self.columns.rows();
        if shards.len() != n {
            return Err(DecodeError::WrongCount { expected: n, found: shards.len() });
        }
        let expected = shards.first().map_or(0, |shard| shard.len());
        match shards.iter().position(|shard| shard.len() != expected) {
            None => Ok(()),
            Some(at) => Err(DecodeError::LengthMismatch { index: shard(at), expected, found: shards[at].len() }),
        }
    }

    /// The smallest set of shards whose columns span the syndromes.
    fn explain(&self, space: &Space, sets_left: &mut usize) -> Verdict {
        let rank = space.basis.len();
        if rank > self.limit {
            return Verdict::TooMany { at_least: rank, limit: self.limit };
        }
        let inside: Vec<usize> = (0..self.columns.rows()).filter(|&at| space.holds(self.columns.row(at))).collect();
        // No more than `rank` columns, since `rank + 1` of any are independent; as many span the space. Each is in every set that
        // explains it, or that set and it were dependent; and the rest of such a set, independent of these, adds nothing.
        if inside.len() == rank {
            return Verdict::Wrong(inside.into_iter().map(shard).collect());
        }
        for size in rank + 1..=self.limit {
            match self.only_set(space, size, sets_left) {
                Found::None => {}
                Found::One(set) => return Verdict::Likely(set),
                Found::Several => return Verdict::Ambiguous { at_least: size },
                Found::NotSearched => return Verdict::NotSearched { at_least: size },
            }
        }
        Verdict::TooMany { at_least: self.limit + 1, limit: self.limit }
    }

    fn only_set(&self, space: &Space, size: usize, sets_left: &mut usize) -> Found {
        let n = self.columns.rows();
        let sets = (0..size).try_fold(1usize, |sets, at| Some(sets.checked_mul(n - at)? / (at + 1)));
        let Some(left) = sets.filter(|&sets| sets <= SETS_MAX).and_then(|sets| sets_left.checked_sub(sets)) else {
            return Found::NotSearched;
        };
        *sets_left = left;
        let mut found = Found::None;
        each_set(n, size, 0, &mut Vec::with_capacity(size), &mut |set| {
            let mut spanned = Space::default();
            set.iter().for_each(|&at| spanned.add(self.columns.row(at).to_vec()));
            if space.basis.iter().all(|(_, vector)| spanned.holds(vector)) {
                found = match found {
                    Found::None => Found::One(set.iter().copied().map(shard).collect()),
                    _ => Found::Several,
                };
            }
            found != Found::Several
        });
        found
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    None,
    One(ShardSet),
    Several,
    NotSearched,
}

/// Rising selections, until `visit` says `false`.
fn each_set(
    n: usize,
    left: usize,
    from: usize,
    set: &mut Vec<usize>,
    visit: &mut impl FnMut(&[usize]) -> bool,
) -> bool {
    if left == 0 {
        return visit(set);
    }
    for at in from..=n - left {
        set.push(at);
        let go_on = each_set(n, left - 1, at + 1, set, visit);
        set.pop();
        if !go_on {
            return false;
        }
    }
    true
}

/// Vectors in echelon form.
#[derive(Default)]
struct Space {
    /// Where a vector has its first element, which is 1 and 0 in all later ones; and the vector.
    basis: Vec<(usize, Vec<u8>)>,
}

impl Space {
    /// That of the byte columns of some rows, or of so many of them that it has `rank_max` dimensions.
    fn of_columns(rows: &[&mut [u8]], rank_max: usize) -> Self {
        let mut space = Self::default();
        let length = rows.first().map_or(0, |row| row.len());
        for at in 0..length {
            if rows.iter().any(|row| row[at] != 0) {
                space.add(rows.iter().map(|row| row[at]).collect());
                if space.basis.len() == rank_max {
                    break;
                }
            }
        }
        space
    }

    fn reduced(&self, mut vector: Vec<u8>) -> Vec<u8> {
        for (pivot, own) in &self.basis {
            let factor = vector[*pivot];
            gf::add_scaled(&mut vector, own, factor);
        }
        vector
    }

    fn holds(&self, vector: &[u8]) -> bool {
        self.reduced(vector.to_vec()).iter().all(|&value| value == 0)
    }

    fn add(&mut self, vector: Vec<u8>) {
        let mut vector = self.reduced(vector);
        let Some(pivot) = vector.iter().position(|&value| value != 0) else { return };
        let scale = gf::inverse(vector[pivot]).unwrap_or(1);
        vector.iter_mut().for_each(|value| *value = gf::mul(*value, scale));
        self.basis.push((pivot, vector));
    }
}

/// Shards whose bytes sum to zero, and whether their checksums say so, too.
#[cfg(feature = "hash")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumCheck {
    /// The shards.
    pub members: ShardSet,
    /// Whether the checksums fit. Where they do not, one of the members is not what its checksum was taken of, or a checksum
    /// is wrong.
    pub agrees: bool,
}

/// Checks XOR parities by the CRC-32 of one block of each shard, with no byte of data read. CRC-32 (`crc32fast`, without a seed) is affine: of
/// blocks of one length whose XOR is zero the CRCs XOR to zero too if they are even in number, and else to the CRC of as many
/// zeros. Not so for parities with other coefficients than one: those are left out, as are sets of which a CRC is not given.
///
/// `crcs` has one for each shard, `None` where it is not known.
///
/// # Errors
/// [`DecodeError::WrongCount`].
#[cfg(feature = "hash")]
pub fn check_sums(code: &Code, block_bytes: usize, crcs: &[Option<u32>]) -> Result<Vec<SumCheck>, DecodeError> {
    if crcs.len() != code.n() {
        return Err(DecodeError::WrongCount { expected: code.n(), found: crcs.len() });
    }
    let check = |members: ShardSet| {
        let sum = members.iter().try_fold(0, |sum, at| Some(sum ^ crcs[at.at()]?))?;
        let expected = if members.len().is_multiple_of(2) { 0 } else { crc_of_zeros(block_bytes) };
        Some(SumCheck { members, agrees: sum == expected })
    };
    Ok(zero_sums(code).into_iter().filter_map(check).collect())
}

/// The local groups, and every parity of ones and zeros with its data.
#[cfg(feature = "hash")]
fn zero_sums(code: &Code) -> Vec<ShardSet> {
    let mut sums: Vec<ShardSet> = code.groups().iter().map(|group| group.members()).collect();
    for at in code.k()..code.n() {
        let row = code.generator().row(at);
        if row.iter().all(|&value| value <= 1) {
            let mut members: ShardSet = (0..code.k()).filter(|&column| row[column] == 1).map(shard).collect();
            members.insert(shard(at));
            if !sums.contains(&members) {
                sums.push(members);
            }
        }
    }
    sums
}

/// By doubling: as many steps as the number has bits.
#[cfg(feature = "hash")]
fn crc_of_zeros(bytes: usize) -> u32 {
    let (mut all, mut power) = (crc32fast::Hasher::new(), crc32fast::Hasher::new());
    power.update(&[0]);
    let mut left = bytes;
    while left > 0 {
        if left & 1 == 1 {
            all.combine(&power);
        }
        left >>= 1;
        if left > 0 {
            let half = power.clone();
            power.combine(&half);
        }
    }
    all.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::splitmix;

    const BYTES: usize = 600;

    fn code(spec: &str) -> Code {
        Code::new(&spec.parse().unwrap()).unwrap()
    }

    fn stripe(code: &Code) -> Vec<Vec<u8>> {
        let mut shards: Vec<Vec<u8>> =
            (0..code.n()).map(|at| (0..BYTES).map(|byte| ((byte + 7 * at) % 251) as u8).collect()).collect();
        let (data, parity) = shards.split_at_mut(code.k());
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        shards
    }

    fn locate(code: &Code, shards: &[Vec<u8>], block: usize) -> Vec<Damage> {
        let shards: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
        Locator::new(code).unwrap().locate(&shards, block).unwrap()
    }

    fn set(members: &[usize]) -> ShardSet {
        members.iter().copied().map(shard).collect()
    }

    /// Every set up to the limit, of codes that differ in kind.
    #[test]
    fn wrong_fragments_are_named_up_to_the_distance_less_two() {
        for spec in [
            "rs:4+2",
            "rs:6+3",
            "rs:10+4",
            "rs:3+6@cauchy",
            "lrc:6,2,2",
            "lrc:12,2,3",
            "lrc-uniform:6,2,2",
            "xorbas",
            "replicate:5",
        ] {
            let code = code(spec);
            let (sound, limit) = (stripe(&code), Locator::new(&code).unwrap().limit());
            assert_eq!(limit, code.guaranteed_tolerance() - 1, "{spec}");
            assert_eq!(locate(&code, &sound, 100), []);
            let mut dice = 5;
            for size in 1..=limit {
                each_set(code.n(), size, 0, &mut Vec::new(), &mut |wrong| {
                    let mut shards = sound.clone();
                    for &at in wrong {
                        shards[at][200..300].iter_mut().for_each(|byte| *byte ^= splitmix(&mut dice) as u8);
                    }
                    let found = locate(&code, &shards, 100);
                    assert_eq!(
                        found,
                        [Damage { range: 200..300, verdict: Verdict::Wrong(set(wrong)) }],
                        "{spec} {wrong:?}"
                    );
                    true
                });
            }
        }
    }

    #[test]
    fn blocks_are_looked_at_one_by_one() {
        let code = code("rs:6+3");
        let mut shards = stripe(&code);
        shards[0][3] ^= 9;
        shards[8][599] ^= 1;
        (0..128).for_each(|at| shards[4][128 + at] ^= at as u8 ^ 0x77);
        let wrong = |range: Range<usize>, at: usize| Damage { range, verdict: Verdict::Wrong(set(&[at])) };
        assert_eq!(locate(&code, &shards, 128), [wrong(0..128, 0), wrong(128..256, 4), wrong(512..600, 8)]);
        // As one block it is too much.
        let found = locate(&code, &shards, usize::MAX);
        assert_eq!(found, [Damage { range: 0..600, verdict: Verdict::TooMany { at_least: 3, limit: 2 } }]);
    }

    #[test]
    fn what_cannot_be_told_is_not_told() {
        // One byte of two shards: one syndrome, and perhaps more pairs than one that give it.
        for (spec, likely) in [("rs:6+3", 20), ("rs:6+4", 40), ("lrc:6,2,2", 1)] {
            let (code, mut named) = (code(spec), 0);
            let sound = stripe(&code);
            for error in 1..=40u8 {
                let mut shards = sound.clone();
                shards[1][5] ^= 7;
                shards[2][5] ^= error;
                match &locate(&code, &shards, 100)[0].verdict {
                    Verdict::Likely(pair) => {
                        assert_eq!(*pair, set(&[1, 2]), "{spec} {error}");
                        named += 1;
                    }
                    verdict => assert!(
                        matches!(verdict, Verdict::Ambiguous { at_least: 2 }) || spec.starts_with("lrc"),
                        "{verdict:?}"
                    ),
                }
            }
            assert!(named >= likely, "{spec}: {named}");
        }
        // More than can be told, in a column or in many.
        let code = code("rs:6+3");
        let mut shards = stripe(&code);
        (0..3).for_each(|at| shards[at].iter_mut().enumerate().for_each(|(byte, it)| *it ^= (byte * (at + 3)) as u8));
        assert_eq!(locate(&code, &shards, 600)[0].verdict, Verdict::TooMany { at_least: 3, limit: 2 });
        // A locally repairable code has more equations than its distance needs: three shards leave columns outside their space, and
        // still cannot be told from others for certain.
        let code = self::code("lrc:12,2,2");
        let mut dice = 9;
        for wrong in [[0, 1, 2], [0, 6, 14], [3, 12, 15]] {
            let mut shards = stripe(&code);
            for at in wrong {
                shards[at].iter_mut().for_each(|byte| *byte ^= splitmix(&mut dice) as u8);
            }
            let verdict = Verdict::TooMany { at_least: 3, limit: 2 };
            assert_eq!(locate(&code, &shards, 600)[0].verdict, verdict, "{wrong:?}");
        }
    }

    #[test]
    fn wide_codes_are_told_by_their_space_and_searched_no_longer_than_said() {
        let code = code("rs:200+50@cauchy");
        let mut shards = stripe(&code);
        let wrong: Vec<usize> = (0..48).map(|at| at * 5).collect();
        let mut dice = 1;
        for &at in &wrong {
            shards[at].iter_mut().for_each(|byte| *byte ^= splitmix(&mut dice) as u8);
        }
        assert_eq!(locate(&code, &shards, 600)[0].verdict, Verdict::Wrong(set(&wrong)));
        let mut shards = stripe(&code);
        [0, 1, 2, 3].iter().for_each(|&at| shards[at][0] ^= 1 + at as u8);
        assert_eq!(locate(&code, &shards, 600)[0].verdict, Verdict::NotSearched { at_least: 3 });
    }

    #[test]
    fn a_call_tries_no_more_sets_than_said_however_many_blocks_are_bad() {
        let code = code("rs:20+6");
        let sound = stripe(&code);
        let mut shards: Vec<Vec<u8>> = sound.iter().map(|shard| shard.repeat(2)).collect();
        // One byte of five shards in each block: mostly told by trying all 83,655 sets of two to five.
        for at in (0..1200).step_by(2) {
            (0..5).for_each(|shard| shards[shard][at] ^= (at / 2 + 50 * shard) as u8 | 1);
        }
        let found = locate(&code, &shards, 2);
        let searched = found.iter().take_while(|it| !matches!(it.verdict, Verdict::NotSearched { .. })).count();
        let whole = SETS_OF_A_CALL_MAX / 83_655;
        assert!((whole..2 * whole).contains(&searched), "{searched}");
        assert!(found[searched..].iter().all(|it| matches!(it.verdict, Verdict::NotSearched { .. })));
    }

    #[test]
    fn what_is_no_stripe_is_refused() {
        let refused = |spec: &str| Locator::new(&code(spec)).unwrap_err();
        assert_eq!(refused("rs:4+1"), LocateError::Distance { spec: "rs:4+1".into(), distance: 2 });
        assert!(matches!(refused("replicate:1"), LocateError::Distance { distance: 1, .. }));
        let code = code("rs:4+2");
        let (locator, shards) = (Locator::new(&code).unwrap(), stripe(&code));
        let mut refs: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
        assert_eq!(locator.locate(&refs, 0), Err(LocateError::EmptyBlocks));
        assert!(matches!(locator.locate(&refs[..5], 64), Err(LocateError::Buffers(DecodeError::WrongCount { .. }))));
        refs[3] = &refs[3][1..];
        let unequal = DecodeError::LengthMismatch { index: shard(3), expected: BYTES, found: BYTES - 1 };
        assert_eq!(locator.locate(&refs, 64), Err(LocateError::Buffers(unequal)));
        assert_eq!(locator.locate(&[&[][..]; 6], 64), Ok(vec![]));
    }

    #[cfg(feature = "hash")]
    #[test]
    fn sums_of_checksums_agree_exactly_where_no_member_is_wrong() {
        // Sets of shards whose sum is zero: local groups, and rows of ones.
        for (spec, sums) in [
            ("lrc:12,2,2", 2),
            ("lrc:11,2,2", 2),
            ("xorbas", 3),
            ("rs:4+2@power", 1),
            ("rs:5+2@jerasure", 1),
            ("replicate:3", 2),
            ("rs:4+2", 0),
            ("lrc-uniform:12,2,2", 2),
        ] {
            let code = code(spec);
            for bytes in [1, 100, 600] {
                let shards = stripe(&code);
                let crcs: Vec<_> = shards.iter().map(|shard| Some(crc32fast::hash(&shard[..bytes]))).collect();
                let found = check_sums(&code, bytes, &crcs).unwrap();
                assert!(found.len() == sums && found.iter().all(|it| it.agrees), "{spec} {bytes}: {found:?}");
                for at in 0..code.n() {
                    let mut other = crcs.clone();
                    other[at] = Some(crcs[at].unwrap() ^ 1 << (at % 32));
                    for sum in check_sums(&code, bytes, &other).unwrap() {
                        assert_eq!(sum.agrees, !sum.members.contains(shard(at)), "{spec} {at}");
                    }
                    other[at] = None;
                    let left = check_sums(&code, bytes, &other).unwrap();
                    assert!(left.iter().all(|it| it.agrees && !it.members.contains(shard(at))), "{spec} {at}");
                }
            }
        }
        for bytes in [0, 1, 2, 3, 100, 4096, 70_001] {
            assert_eq!(crc_of_zeros(bytes), crc32fast::hash(&vec![0; bytes]), "{bytes}");
        }
        assert!(check_sums(&code("rs:4+2@power"), usize::MAX, &[Some(1); 6]).is_ok());
        assert_eq!(check_sums(&code("rs:4+2"), 1, &[None]), Err(DecodeError::WrongCount { expected: 6, found: 1 }));
    }
}
