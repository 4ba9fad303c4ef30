//! Small writes: parities brought up to date without encoding the stripe anew.
//!
//! A parity is a sum over the data, so a change of data changes it by the same sum over the change: `P += c * (new - old)`, and
//! addition is XOR. Parities whose coefficient is zero, those of other local groups, do not change. An append to what was zeros
//! has no old bytes, so it reads no data.
//!
//! A delta reads the old data and the parities, encoding anew the rest of the data; [`Code::plan_update`] takes the cheaper. Either
//! way data and parity change at different moments: whoever stores them keeps intents, so that a crash between is undone or finished.

use crate::code::{Code, shard};
use crate::encode::empty;
use crate::error::DecodeError;
use crate::kernel::{Kernel, Locality, Transform};
use crate::matrix::Matrix;
use crate::plan::{Costs, check_indices, independent, without_unused};
use crate::shard::{SHARDS_MAX, ShardIndex, ShardSet};
use std::fmt;

/// Why an update is refused. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// No shard is changed.
    #[error("no data fragment is changed")]
    Nothing,
    /// A parity or a shard that does not exist cannot be changed by itself.
    #[error("fragment {index} is no data fragment of a code with {data}")]
    NotData {
        /// The position that was given.
        index: ShardIndex,
        /// Data shards of the code.
        data: usize,
    },
    /// No way can be gone.
    #[error(
        "the update needs old data and parities, or what determines the other data, and has neither: {missing:?} cannot be read"
    )]
    Unavailable {
        /// What the way by deltas misses.
        missing: Vec<u16>,
    },
    /// A shard was given twice.
    #[error("fragment {index} was given twice")]
    Duplicate {
        /// The position.
        index: ShardIndex,
    },
    /// A shard that is needed was not given.
    #[error("the update needs fragment {index}, which was not given")]
    Missing {
        /// The position.
        index: ShardIndex,
    },
    /// A change was given of a shard that the update was not made for: left out, its parities would be stale.
    #[error("the update is not of fragment {index}, of which a change was given")]
    NotModified {
        /// The position.
        index: ShardIndex,
    },
    /// A shard that is not part of the update was given to be written.
    #[error("the update does not write fragment {index}")]
    NotWritten {
        /// The position.
        index: ShardIndex,
    },
    /// A buffer is not as long as the first.
    #[error("the buffer of fragment {index} has {found} bytes where the first has {expected}")]
    LengthMismatch {
        /// The position.
        index: ShardIndex,
        /// Bytes of the first buffer.
        expected: usize,
        /// Bytes of this one.
        found: usize,
    },
    /// As for every plan: positions that the code does not have, buffers that are empty.
    #[error(transparent)]
    Shards(#[from] DecodeError),
}

/// How parities follow a change of some data shards. Good for any byte range.
///
/// ```
/// use ec_core::{Code, ShardIndex, ShardSet, update::ParityDelta};
///
/// let code = Code::new(&"lrc:12,2,2".parse()?)?;
/// let mut data = [[7u8; 100]; 12];
/// let mut parity = [[0u8; 100]; 4];
/// code.encode(&data.each_ref().map(|shard| &shard[..]), &mut parity.each_mut().map(|shard| &mut shard[..]))?;
///
/// // Four fragments are touched: shard 3, the parity of its group, and the two global ones.
/// let third = ShardIndex::new(3);
/// let delta = ParityDelta::new(&code, &ShardSet::from_iter([third]))?;
/// assert_eq!(delta.parities().iter().map(|index| index.get()).collect::<Vec<_>>(), [12, 14, 15]);
///
/// let (old, new) = (data[3], [8u8; 100]);
/// let [first, _, c0, c1] = &mut parity;
/// let at = ShardIndex::new;
/// delta.update(&[(third, &old, &new)], &mut [(at(12), first), (at(14), c0), (at(15), c1)])?;
///
/// data[3] = new;
/// let mut fresh = [[0u8; 100]; 4];
/// code.encode(&data.each_ref().map(|shard| &shard[..]), &mut fresh.each_mut().map(|shard| &mut shard[..]))?;
/// assert_eq!(parity, fresh);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ParityDelta {
    modified: Vec<ShardIndex>,
    parities: Vec<ShardIndex>,
    /// From new bytes, and then old ones, to changes.
    deltas: Transform,
    /// The same, added.
    updates: Transform,
    /// From new bytes where the old ones are zeros, added.
    appends: Transform,
}

/// A data shard, its old bytes and its new bytes.
pub type Change<'a> = (ShardIndex, &'a [u8], &'a [u8]);

impl ParityDelta {
    /// For a change of these data shards.
    ///
    /// # Errors
    /// [`UpdateError::Nothing`], [`UpdateError::NotData`].
    pub fn new(code: &Code, modified: &ShardSet) -> Result<Self, UpdateError> {
        let (modified, parities) = touched(code, modified)?;
        let row = |row: usize, column: usize| code.generator().get(parities[row].at(), modified[column].at());
        let count = modified.len();
        let both = Matrix::from_fn(parities.len(), 2 * count, |at, column| row(at, column % count));
        let new = Matrix::from_fn(parities.len(), count, row);
        let kernel: Kernel = code.kernel();
        Ok(Self {
            deltas: Transform::of_shards(kernel, &both),
            updates: Transform::adding_of_shards(kernel, &both),
            appends: Transform::adding_of_shards(kernel, &new),
            modified,
            parities,
        })
    }

    /// The data shards that change, in rising order.
    pub fn modified(&self) -> &[ShardIndex] {
        &self.modified
    }

    /// The parities that change, in rising order.
    pub fn parities(&self) -> &[ShardIndex] {
        &self.parities
    }

    /// What has to be added (XOR) to each parity, written over the outputs. Deltas of one parity can be added in any order, so a
    /// log of them needs none.
    ///
    /// # Errors
    /// An [`UpdateError`], with every output untouched.
    pub fn deltas(&self, changes: &[Change<'_>], deltas: &mut [(ShardIndex, &mut [u8])]) -> Result<(), UpdateError> {
        self.apply(&self.deltas, changes, deltas)
    }

    /// Brings the parities up to date, in place.
    ///
    /// # Errors
    /// An [`UpdateError`], with every parity untouched.
    pub fn update(&self, changes: &[Change<'_>], parity: &mut [(ShardIndex, &mut [u8])]) -> Result<(), UpdateError> {
        self.apply(&self.updates, changes, parity)
    }

    /// As [`ParityDelta::update`] where the stripe had zeros: no old bytes are read.
    ///
    /// # Errors
    /// As [`ParityDelta::update`].
    pub fn append(
        &self,
        new: &[(ShardIndex, &[u8])],
        parity: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), UpdateError> {
        let mut inputs = empty_inputs();
        exactly(&self.modified, new.iter().copied(), &mut inputs)?;
        self.run(&self.appends, &inputs[..self.modified.len()], parity)
    }

    /// From new bytes of all, then old ones.
    fn apply(
        &self,
        transform: &Transform,
        changes: &[Change<'_>],
        outputs: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), UpdateError> {
        let (mut inputs, count) = (empty_inputs(), self.modified.len());
        let (new, old) = inputs[..2 * count].split_at_mut(count);
        exactly(&self.modified, changes.iter().map(|&(index, _, new)| (index, new)), new)?;
        given(&self.modified, changes.iter().map(|&(index, old, _)| (index, old)), old)?;
        self.run(transform, &inputs[..2 * count], outputs)
    }

    fn run(
        &self,
        transform: &Transform,
        inputs: &[&[u8]],
        outputs: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), UpdateError> {
        let mut targets = empty::<SHARDS_MAX>();
        let targets = in_order(&self.parities, outputs, &mut targets)?;
        equal_lengths(self.modified.iter().chain(&self.modified), inputs, &self.parities, targets)?;
        Ok(transform.apply_to_shards(inputs, targets, Locality::Auto)?)
    }
}

/// How parities are brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateWay {
    /// From the old data and the old parities.
    Delta,
    /// From the data that does not change.
    Reencode,
    /// From whatever determines the share of the data that does not change, where fragments that both other ways read are lost.
    Degraded,
}

/// The cheaper way to bring parities up to date after a change of some data shards: what is read and what is written.
#[derive(Clone, Debug)]
pub struct UpdatePlan {
    way: UpdateWay,
    modified: Vec<ShardIndex>,
    parities: Vec<ShardIndex>,
    reads: Vec<ShardIndex>,
    cost: u128,
    /// One row per parity over the new data and then what is read.
    coefficients: Matrix,
    transform: Transform,
}

impl Code {
    /// How to bring parities up to date when the data shards `modified` are written, at the least cost of what is read from among
    /// `available`: by delta or by encoding anew, and where neither can be gone from what there is, without a search for the
    /// cheapest. Of equal costs encoding anew is taken: what it writes does not depend on what was there. Every parity that
    /// changes is written, also one that is not available: it would be stale if it came back.
    ///
    /// ```
    /// use ec_core::{Code, Costs, ShardIndex, ShardSet, update::UpdateWay};
    ///
    /// let code = Code::new(&"lrc:12,2,2".parse()?)?;
    /// let all = ShardSet::first(16);
    /// let one = code.plan_update(&ShardSet::from_iter([ShardIndex::new(0)]), &all, &Costs::uniform())?;
    /// assert_eq!((one.way(), one.reads().len(), one.writes().count()), (UpdateWay::Delta, 4, 4));
    /// let most = code.plan_update(&ShardSet::first(10), &all, &Costs::uniform())?;
    /// assert_eq!((most.way(), most.reads().len()), (UpdateWay::Reencode, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`UpdateError::Nothing`], [`UpdateError::NotData`], [`UpdateError::Unavailable`], or [`DecodeError::IndexOutOfRange`].
    pub fn plan_update(
        &self,
        modified: &ShardSet,
        available: &ShardSet,
        costs: &Costs,
    ) -> Result<UpdatePlan, UpdateError> {
        check_indices(self.n(), &[modified, available])?;
        let (changed, parities) = touched(self, modified)?;
        let parity_set: ShardSet = parities.iter().copied().collect();
        let by_delta = modified.union(&parity_set);
        let needed = |at: &usize| parities.iter().any(|parity| self.generator().get(parity.at(), *at) != 0);
        let others: ShardSet = (0..self.k()).filter(needed).map(shard).collect();
        let by_encoding = others.difference(modified);
        let options = [(UpdateWay::Reencode, by_encoding), (UpdateWay::Delta, by_delta)];
        let best = options
            .iter()
            .filter(|(_, reads)| reads.is_subset(available))
            .map(|(way, reads)| (costs.total(reads), *way, *reads))
            .min_by_key(|(cost, ..)| *cost);
        let (way, reads, shares) = match best {
            Some((_, way, reads)) => {
                let reads: Vec<ShardIndex> = reads.iter().collect();
                let shares = Matrix::from_fn(parities.len(), reads.len(), |row, at| match reads[at] {
                    read if read.at() >= self.k() => u8::from(read == parities[row]),
                    read => self.generator().get(parities[row].at(), read.at()),
                });
                (way, reads, shares)
            }
            None => {
                let found = unchanged_shares(self, modified, &parities, available);
                let (reads, shares) = found.ok_or_else(|| UpdateError::Unavailable {
                    missing: by_delta.difference(available).iter().map(ShardIndex::get).collect(),
                })?;
                (UpdateWay::Degraded, reads, shares)
            }
        };
        let cost = costs.total(&reads.iter().copied().collect());
        let coefficients = Matrix::from_fn(parities.len(), changed.len() + reads.len(), |row, column| {
            match column.checked_sub(changed.len()) {
                None => self.generator().get(parities[row].at(), changed[column].at()),
                Some(at) => shares.get(row, at),
            }
        });
        let transform = Transform::of_shards(self.kernel(), &coefficients);
        Ok(UpdatePlan { way, modified: changed, parities, reads, cost, coefficients, transform })
    }
}

/// What to read of `available`, and by which coefficients it adds up to the share in each parity of the data that is not modified.
/// `None` where it does not determine that.
fn unchanged_shares(
    code: &Code,
    modified: &ShardSet,
    parities: &[ShardIndex],
    available: &ShardSet,
) -> Option<(Vec<ShardIndex>, Matrix)> {
    let generator = code.generator();
    let candidates = independent(code, available);
    let rows: Vec<usize> = candidates.iter().map(|index| index.at()).collect();
    let shares = Matrix::from_fn(parities.len(), code.k(), |row, column| match modified.contains(shard(column)) {
        true => 0,
        false => generator.get(parities[row].at(), column),
    });
    Some(without_unused(candidates, generator.select_rows(&rows).express(&shares)?))
}

impl UpdatePlan {
    /// Which way.
    pub fn way(&self) -> UpdateWay {
        self.way
    }

    /// What is read, in rising order: by delta the old bytes of what is written, too.
    pub fn reads(&self) -> &[ShardIndex] {
        &self.reads
    }

    /// What is written: the data shards that change, then the parities.
    pub fn writes(&self) -> impl Iterator<Item = ShardIndex> + '_ {
        self.modified.iter().chain(&self.parities).copied()
    }

    /// The parities that are written, in rising order.
    pub fn parities(&self) -> &[ShardIndex] {
        &self.parities
    }

    /// The costs of what is read.
    pub fn cost(&self) -> u128 {
        self.cost
    }

    /// One row per parity, over the new bytes of the changed data and then what is read.
    pub fn coefficients(&self) -> &Matrix {
        &self.coefficients
    }

    /// Computes the new parities from the new data and what was read, over any byte range. What was read and is not
    /// needed is ignored.
    ///
    /// # Errors
    /// An [`UpdateError`], with every output untouched.
    pub fn run(
        &self,
        new: &[(ShardIndex, &[u8])],
        read: &[(ShardIndex, &[u8])],
        parity: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), UpdateError> {
        let (mut inputs, count) = (empty_inputs(), self.modified.len());
        let inputs = &mut inputs[..count + self.reads.len()];
        let (changed, others) = inputs.split_at_mut(count);
        exactly(&self.modified, new.iter().copied(), changed)?;
        given(&self.reads, read.iter().copied(), others)?;
        let mut targets = empty::<SHARDS_MAX>();
        let targets = in_order(&self.parities, parity, &mut targets)?;
        equal_lengths(self.modified.iter().chain(&self.reads), inputs, &self.parities, targets)?;
        Ok(self.transform.apply_to_shards(inputs, targets, Locality::Auto)?)
    }
}

impl fmt::Display for UpdatePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            UpdateWay::Delta => "delta",
            UpdateWay::Reencode => "encode anew",
            UpdateWay::Degraded => "from what there is",
        };
        write!(f, "{way}: read")?;
        self.reads.iter().try_for_each(|index| write!(f, " {index}"))?;
        write!(f, ", write")?;
        self.writes().try_for_each(|index| write!(f, " {index}"))?;
        for (row, parity) in self.parities.iter().enumerate() {
            write!(f, "; {parity} =")?;
            for (column, index) in self.modified.iter().chain(&self.reads).enumerate() {
                let new = if column < self.modified.len() { "new " } else { "" };
                match self.coefficients.get(row, column) {
                    0 => {}
                    coefficient => write!(f, " + {coefficient:02x}*{new}{index}")?,
                }
            }
        }
        Ok(())
    }
}

/// The data shards that change, and the parities that do with them.
fn touched(code: &Code, modified: &ShardSet) -> Result<(Vec<ShardIndex>, Vec<ShardIndex>), UpdateError> {
    let changed: Vec<ShardIndex> = modified.iter().collect();
    let last = *changed.last().ok_or(UpdateError::Nothing)?;
    if last.at() >= code.k() {
        return Err(UpdateError::NotData { index: last, data: code.k() });
    }
    let changes = |row: &usize| changed.iter().any(|data| code.generator().get(*row, data.at()) != 0);
    let parities = (code.k()..code.n()).filter(changes).map(shard).collect();
    Ok((changed, parities))
}

/// Room on the stack for new and for old bytes of every shard: a call allocates nothing.
fn empty_inputs<'a>() -> [&'a [u8]; 2 * SHARDS_MAX] {
    [&[]; 2 * SHARDS_MAX]
}

/// The changes of these shards, in their order: all of them and no others.
fn exactly<'a>(
    wanted: &[ShardIndex],
    changes: impl Iterator<Item = (ShardIndex, &'a [u8])> + Clone,
    places: &mut [&'a [u8]],
) -> Result<(), UpdateError> {
    match changes.clone().find(|(index, _)| wanted.binary_search(index).is_err()) {
        None => given(wanted, changes, places),
        Some((index, _)) => Err(UpdateError::NotModified { index }),
    }
}

/// The buffers of these shards, in their order. Others are ignored.
fn given<'a>(
    wanted: &[ShardIndex],
    buffers: impl Iterator<Item = (ShardIndex, &'a [u8])>,
    places: &mut [&'a [u8]],
) -> Result<(), UpdateError> {
    let mut filled = ShardSet::EMPTY;
    for (index, bytes) in buffers {
        if let Ok(at) = wanted.binary_search(&index) {
            if filled.contains(index) {
                return Err(UpdateError::Duplicate { index });
            }
            filled.insert(index);
            places[at] = bytes;
        }
    }
    match wanted.iter().find(|index| !filled.contains(**index)) {
        None => Ok(()),
        Some(&index) => Err(UpdateError::Missing { index }),
    }
}

/// The outputs in the order of the shards they are of: all of them and no others.
fn in_order<'a, 'b>(
    wanted: &[ShardIndex],
    outputs: &'a mut [(ShardIndex, &mut [u8])],
    places: &'b mut [&'a mut [u8]],
) -> Result<&'b mut [&'a mut [u8]], UpdateError> {
    let mut filled = ShardSet::EMPTY;
    for (index, bytes) in outputs {
        let at = wanted.binary_search(index).map_err(|_| UpdateError::NotWritten { index: *index })?;
        if filled.contains(*index) {
            return Err(UpdateError::Duplicate { index: *index });
        }
        filled.insert(*index);
        places[at] = bytes;
    }
    match wanted.iter().find(|index| !filled.contains(**index)) {
        None => Ok(&mut places[..wanted.len()]),
        Some(&index) => Err(UpdateError::Missing { index }),
    }
}

/// Whether all buffers are equally long. Inputs are those of `names`, as many as there are.
fn equal_lengths<'a>(
    names: impl Iterator<Item = &'a ShardIndex>,
    inputs: &[&[u8]],
    targets: &[ShardIndex],
    outputs: &[&mut [u8]],
) -> Result<(), UpdateError> {
    let expected = inputs.first().map_or(0, |input| input.len());
    let read = names.copied().zip(inputs.iter().map(|input| input.len()));
    let written = targets.iter().copied().zip(outputs.iter().map(|output| output.len()));
    match read.chain(written).find(|(_, found)| *found != expected) {
        None => Ok(()),
        Some((index, found)) => Err(UpdateError::LengthMismatch { index, expected, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [&str; 8] = [
        "rs:4+2",
        "rs:10+4",
        "rs:40+20",
        "lrc:12,2,2",
        "lrc-uniform:12,2,2",
        "xorbas",
        "replicate:3",
        "rs:200+50@cauchy",
    ];

    fn code(spec: &str) -> Code {
        Code::new(&spec.parse().unwrap()).unwrap()
    }

    fn at(index: usize) -> ShardIndex {
        shard(index)
    }

    fn stripe(code: &Code, bytes: usize, revision: usize, changed: &ShardSet) -> Vec<Vec<u8>> {
        let byte = |index: usize, byte: usize| {
            let revision = if changed.contains(at(index)) { revision } else { 0 };
            ((byte + 7 * index + 91 * revision) % 251) as u8
        };
        let mut shards: Vec<Vec<u8>> =
            (0..code.n()).map(|index| (0..bytes).map(|it| byte(index, it)).collect()).collect();
        let (data, parity) = shards.split_at_mut(code.k());
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        shards
    }

    fn sets(code: &Code) -> Vec<ShardSet> {
        let last = code.k() - 1;
        let every_other = (0..code.k()).step_by(2).map(at).collect();
        vec![
            ShardSet::from_iter([at(0)]),
            ShardSet::from_iter([at(0), at(last)]),
            every_other,
            ShardSet::first(code.k()),
        ]
    }

    #[test]
    fn deltas_make_the_parities_of_the_new_data() {
        let with = |spec: &str, kernel| Code::with_kernel(&spec.parse().unwrap(), kernel).unwrap();
        for (spec, kernel) in SPECS.iter().flat_map(|spec| Kernel::available().into_iter().map(move |it| (*spec, it))) {
            let code = with(spec, kernel);
            for modified in sets(&code) {
                for bytes in [1, 4096, 9_001] {
                    let (old, new) = (stripe(&code, bytes, 0, &modified), stripe(&code, bytes, 1, &modified));
                    let delta = ParityDelta::new(&code, &modified).unwrap();
                    let changes: Vec<Change<'_>> =
                        delta.modified().iter().map(|&it| (it, &old[it.at()][..], &new[it.at()][..])).collect();
                    let mut updated = old.clone();
                    let mut parity: Vec<_> = (0..).map(at).zip(updated.iter_mut().map(|it| &mut it[..])).collect();
                    parity.retain(|(it, _)| delta.parities().contains(it));
                    parity.reverse();
                    delta.update(&changes, &mut parity).unwrap();
                    assert!(updated[code.k()..] == new[code.k()..], "{spec} {modified:?}");
                    // The same by deltas that are added later, and from nothing.
                    let mut deltas: Vec<_> = delta.parities().iter().map(|&it| (it, vec![0xEE; bytes])).collect();
                    let mut outputs: Vec<_> = deltas.iter_mut().map(|(it, bytes)| (*it, &mut bytes[..])).collect();
                    delta.deltas(&changes, &mut outputs).unwrap();
                    for (it, delta) in deltas {
                        assert!(
                            (0..bytes).all(|byte| old[it.at()][byte] ^ delta[byte] == new[it.at()][byte]),
                            "{spec}"
                        );
                    }
                }
            }
        }
    }

    /// Parities of this size are written past the caches, and read for it.
    #[test]
    fn large_deltas_are_added_to_what_is_in_memory() {
        let (code, modified) = (code("rs:3+4"), ShardSet::from_iter([at(1), at(2)]));
        let bytes = (2 << 20) + 5;
        let (mut old, new) = (stripe(&code, bytes, 0, &modified), stripe(&code, bytes, 1, &modified));
        let delta = ParityDelta::new(&code, &modified).unwrap();
        let (data, parity) = old.split_at_mut(3);
        let changes = [1, 2].map(|it| (at(it), &data[it][..], &new[it][..]));
        let mut parity: Vec<_> = (3..).map(at).zip(parity.iter_mut().map(|it| &mut it[..])).collect();
        delta.update(&changes, &mut parity).unwrap();
        assert!(old[3..] == new[3..]);
    }

    #[test]
    fn appends_to_zeros_make_the_stripe_piece_by_piece() {
        for spec in SPECS {
            let code = code(spec);
            let whole = stripe(&code, 5_000, 0, &ShardSet::EMPTY);
            let mut parity = vec![vec![0u8; 5_000]; code.m()];
            for (data, shard) in whole.iter().enumerate().take(code.k()) {
                let delta = ParityDelta::new(&code, &ShardSet::from_iter([at(data)])).unwrap();
                for range in [0..1_234, 1_234..5_000] {
                    let mut targets: Vec<_> =
                        (code.k()..).map(at).zip(parity.iter_mut().map(|it| &mut it[range.clone()])).collect();
                    targets.retain(|(it, _)| delta.parities().contains(it));
                    delta.append(&[(at(data), &shard[range.clone()])], &mut targets).unwrap();
                }
            }
            assert!(parity[..] == whole[code.k()..], "{spec}");
        }
    }

    #[test]
    fn plans_read_the_least_and_give_the_parities_of_the_new_data() {
        for spec in SPECS {
            let code = code(spec);
            for modified in sets(&code) {
                let plan = code.plan_update(&modified, &ShardSet::first(code.n()), &Costs::uniform()).unwrap();
                let delta = modified.len() + plan.parities().len();
                let rest = (0..code.k())
                    .filter(|&it| !modified.contains(at(it)))
                    .filter(|&it| plan.parities().iter().any(|row| code.generator().get(row.at(), it) != 0))
                    .count();
                assert_eq!(plan.cost(), delta.min(rest) as u128, "{spec}");
                assert_eq!(plan.way() == UpdateWay::Delta, delta < rest, "{spec}");
                assert_new_parities(&code, &plan, &modified);
            }
        }
    }

    /// Where the old data or a parity is lost, and so is some other data.
    #[test]
    fn a_degraded_stripe_is_updated_from_what_determines_the_rest() {
        for (spec, modified, lost) in [
            ("rs:10+4", &[0][..], &[0, 3][..]),
            ("rs:10+4", &[2, 5], &[1, 2, 10, 13]),
            ("lrc:12,2,2", &[3], &[4, 12]),
            ("lrc:12,2,2", &[3, 9], &[0, 6, 14, 15]),
            ("lrc-uniform:12,2,2", &[1], &[1, 2]),
            ("xorbas", &[1, 2], &[0, 2, 11]),
        ] {
            let code = code(spec);
            let set = |indices: &[usize]| indices.iter().map(|&it| at(it)).collect::<ShardSet>();
            let (modified, available) = (set(modified), set(lost).complement(code.n()));
            let plan = code.plan_update(&modified, &available, &Costs::uniform()).unwrap();
            assert_eq!(plan.way(), UpdateWay::Degraded, "{spec}");
            assert!(plan.reads().iter().all(|read| available.contains(*read)), "{plan}");
            assert_eq!(plan.cost(), plan.reads().len() as u128);
            assert_new_parities(&code, &plan, &modified);
        }
    }

    fn assert_new_parities(code: &Code, plan: &UpdatePlan, modified: &ShardSet) {
        let (old, new) = (stripe(code, 100, 0, modified), stripe(code, 100, 1, modified));
        let news: Vec<_> = modified.iter().map(|it| (it, &new[it.at()][..])).collect();
        let read: Vec<_> = plan.reads().iter().map(|&it| (it, &old[it.at()][..])).collect();
        let mut out: Vec<_> = plan.parities().iter().map(|&it| (it, vec![0; 100])).collect();
        let mut outputs: Vec<_> = out.iter_mut().map(|(it, bytes)| (*it, &mut bytes[..])).collect();
        plan.run(&news, &read, &mut outputs).unwrap();
        assert!(out.iter().all(|(it, bytes)| *bytes == new[it.at()]), "{} {plan}", code.spec());
    }

    #[test]
    fn a_small_write_touches_as_few_fragments_as_the_code_allows() {
        for (spec, touched) in [("lrc:12,2,2", 4), ("rs:12+4", 5), ("replicate:3", 3), ("xorbas", 6)] {
            let delta = ParityDelta::new(&code(spec), &ShardSet::from_iter([at(0)])).unwrap();
            assert_eq!(1 + delta.parities().len(), touched, "{spec}");
        }
    }

    /// Data that no changed parity is a sum of is not read.
    #[test]
    fn encoding_anew_reads_what_the_changed_parities_are_sums_of_and_no_more() {
        let rows = crate::code::parse_parity_rows("01010000\n00000101").unwrap();
        let code = Code::from_parity_rows(&rows).unwrap();
        let plan = code.plan_update(&ShardSet::first(1), &ShardSet::first(6), &Costs::uniform()).unwrap();
        assert_eq!((plan.way(), plan.reads(), plan.parities()), (UpdateWay::Reencode, &[at(1)][..], &[at(4)][..]));
    }

    #[test]
    fn costs_and_what_cannot_be_read_choose_the_way() {
        let code = code("rs:4+2");
        let (all, one) = (ShardSet::first(6), ShardSet::from_iter([at(1)]));
        let way = |available: &ShardSet, costs: &Costs| code.plan_update(&one, available, costs).map(|plan| plan.way());
        // Three reads either way.
        assert_eq!(way(&all, &Costs::uniform()), Ok(UpdateWay::Reencode));
        assert_eq!(way(&all, &Costs::new([1, 1, 1, 2])), Ok(UpdateWay::Delta));
        assert_eq!(way(&all, &Costs::new([1, 1, 1, u64::MAX, u64::MAX, u64::MAX])), Ok(UpdateWay::Reencode));
        assert_eq!(way(&one.complement(6), &Costs::new([9; 6])), Ok(UpdateWay::Reencode));
        assert_eq!(way(&ShardSet::from_iter([at(1), at(4), at(5)]), &Costs::uniform()), Ok(UpdateWay::Delta));
        assert_eq!(
            way(&ShardSet::from_iter([at(0), at(5)]), &Costs::uniform()),
            Err(UpdateError::Unavailable { missing: vec![1, 4] })
        );
        let plan = code.plan_update(&one, &all, &Costs::new([1, 1, 1, 2])).unwrap();
        assert_eq!(
            plan.to_string(),
            "delta: read 1 4 5, write 1 4 5; 4 = + 02*new 1 + 02*1 + 01*4; 5 = + 03*new 1 + 03*1 + 01*5"
                .replace("02*new 1 + 02*1", &format!("{0:02x}*new 1 + {0:02x}*1", code.generator().get(4, 1)))
                .replace("03*new 1 + 03*1", &format!("{0:02x}*new 1 + {0:02x}*1", code.generator().get(5, 1)))
        );
    }

    #[test]
    fn an_update_checks_its_guests_at_the_door() {
        let code = code("rs:4+2");
        assert_eq!(ParityDelta::new(&code, &ShardSet::EMPTY).unwrap_err(), UpdateError::Nothing);
        let outside = DecodeError::IndexOutOfRange { index: at(6), shards: 6 };
        let refused = code.plan_update(&ShardSet::first(1), &ShardSet::first(7), &Costs::uniform()).unwrap_err();
        assert_eq!(refused, outside.into());
        let parity = ShardSet::from_iter([at(0), at(5)]);
        assert_eq!(ParityDelta::new(&code, &parity).unwrap_err(), UpdateError::NotData { index: at(5), data: 4 });
        assert_eq!(
            code.plan_update(&ShardSet::from_iter([at(4)]), &ShardSet::first(6), &Costs::uniform()).unwrap_err(),
            UpdateError::NotData { index: at(4), data: 4 }
        );
        let delta = ParityDelta::new(&code, &ShardSet::from_iter([at(1)])).unwrap();
        let (old, new, short) = ([1u8; 8], [2u8; 8], [3u8; 7]);
        let (mut p, mut q) = ([9u8; 8], [9u8; 8]);
        let change = (at(1), &old[..], &new[..]);
        let mut tried = |changes: &[Change<'_>], which: [usize; 2]| {
            delta.update(changes, &mut [(at(which[0]), &mut p), (at(which[1]), &mut q)]).unwrap_err()
        };
        assert_eq!(tried(&[], [4, 5]), UpdateError::Missing { index: at(1) });
        assert_eq!(tried(&[change, change], [4, 5]), UpdateError::Duplicate { index: at(1) });
        // Were it left out, the parities would be stale and nobody told.
        assert_eq!(tried(&[change, (at(2), &old, &new)], [4, 5]), UpdateError::NotModified { index: at(2) });
        assert_eq!(tried(&[change], [4, 4]), UpdateError::Duplicate { index: at(4) });
        assert_eq!(tried(&[change], [4, 1]), UpdateError::NotWritten { index: at(1) });
        let unequal = UpdateError::LengthMismatch { index: at(1), expected: 8, found: 7 };
        assert_eq!(tried(&[(at(1), &short, &new)], [4, 5]), unequal);
        let unequal = UpdateError::LengthMismatch { index: at(4), expected: 7, found: 8 };
        assert_eq!(tried(&[(at(1), &short, &short)], [4, 5]), unequal);
        let empty = delta.update(&[(at(1), &[], &[])], &mut [(at(4), &mut []), (at(5), &mut [])]);
        assert_eq!(empty, Err(DecodeError::Empty { granularity: 1 }.into()));
        assert_eq!(delta.update(&[change], &mut [(at(4), &mut p)]), Err(UpdateError::Missing { index: at(5) }));
        let stray = [(at(1), &new[..]), (at(3), &new[..])];
        let mut both = [(at(4), &mut p[..]), (at(5), &mut q[..])];
        assert_eq!(delta.append(&stray, &mut both), Err(UpdateError::NotModified { index: at(3) }));
        let plan = code.plan_update(&ShardSet::from_iter([at(1)]), &ShardSet::first(6), &Costs::uniform()).unwrap();
        let read: Vec<_> = plan.reads().iter().map(|&it| (it, &old[..])).collect();
        assert_eq!(plan.run(&stray, &read, &mut both), Err(UpdateError::NotModified { index: at(3) }));
        assert_eq!((p, q), ([9; 8], [9; 8]));
    }
}
