//! Codes: their specification, their matrix, what can be decoded from what.
//!
//! A code is a systematic linear code over GF(2^8): `n` rows of `k` coefficients, the first `k` of them the identity.
//! Replication, Reed-Solomon and LRC differ in their rows and in nothing else; encode, decode, plans and checks work on rows.

mod cauchy;
mod counts;
mod custom;
mod decodable;
mod equations;
mod judge;
mod lrc;
mod rs;
mod spec;

pub use counts::{PatternCount, SAMPLES};
pub(crate) use counts::{counted, maximally_recoverable_counts, mds_counts, splitmix};
pub use custom::parse_parity_rows;
pub use judge::{MAXIMAL_PATTERNS_MAX, Recoverability};
pub use lrc::LocalGroup;
pub(crate) use rs::lch as native_parity_rows;
pub use spec::{CodeSpec, DESCRIPTOR_BYTES, RsMatrix, Shape};

use crate::error::{CodeError, DecodeError};
use crate::kernel::{Kernel, Locality, Transform};
use crate::matrix::Matrix;
use crate::plan::RepairPlan;
use crate::shard::{SHARDS_MAX, ShardIndex, ShardSet};

/// A code ready to encode and to plan. Cheap to share between threads; nothing in it changes.
///
/// ```
/// use ec_core::{Code, ShardIndex};
///
/// let code = Code::new(&"rs:4+2".parse()?)?;
/// let data = [[1u8; 10], [2; 10], [3; 10], [4; 10]];
/// let (mut p, mut q) = ([0u8; 10], [0u8; 10]);
/// code.encode(&data.each_ref().map(|shard| &shard[..]), &mut [&mut p, &mut q])?;
///
/// // Shards 0 and 3 are lost; 1, 2 and the parities 4, 5 are at hand.
/// let present = [(1, &data[1]), (2, &data[2]), (4, &p), (5, &q)].map(|(i, shard)| (ShardIndex::new(i), &shard[..]));
/// let (mut first, mut last) = ([0u8; 10], [0u8; 10]);
/// code.decode(&present, &mut [(ShardIndex::new(0), &mut first), (ShardIndex::new(3), &mut last)])?;
/// assert_eq!((first, last), (data[0], data[3]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Code {
    spec: CodeSpec,
    generator: Matrix,
    groups: Vec<LocalGroup>,
    encoder: Transform,
    guarantee: Guarantee,
    evidence: Evidence,
    tolerance: usize,
    slot: u16,
}

/// Which losses a code survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Any `m` losses.
    Mds,
    /// Every loss any code of these local groups could survive: those where the losses beyond one a group, and the losses
    /// outside of groups, are at most as many as the parities beyond one a group (Gopalan et al. 2014). The groups are disjoint.
    MaximallyRecoverable,
    /// What the rank of the rows at hand says, pattern by pattern. Groups may overlap.
    Ranked,
}

/// How a [`Guarantee`] is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// By theorem, or by checking every square submatrix that the theorem leaves open.
    Theorem,
    /// Coefficients from a table, of which this crate's tests check every maximal pattern by rank.
    Table,
    /// By the rank of the patterns themselves, when the code was made.
    Tested,
}

impl Code {
    /// Builds the code with the kernel chosen for this machine.
    ///
    /// # Errors
    /// [`CodeError::NotMds`] with the singular submatrix where the matrix is not MDS, [`CodeError::Kernel`] where the kernel
    /// forced by `NINEFOLD_KERNEL` cannot run.
    pub fn new(spec: &CodeSpec) -> Result<Self, CodeError> {
        Self::with_kernel(spec, Kernel::selected()?)
    }

    /// Builds the code with a given kernel.
    ///
    /// # Errors
    /// As [`Code::new`], but for the kernel.
    pub fn with_kernel(spec: &CodeSpec, kernel: Kernel) -> Result<Self, CodeError> {
        let (parity, groups) = match spec.shape() {
            Shape::Replicate { n } => (Matrix::from_fn(usize::from(n) - 1, 1, |_, _| 1), Vec::new()),
            Shape::Rs { k, m, matrix } => (rs::parity_rows(spec, k.into(), m.into(), matrix)?, Vec::new()),
            Shape::Lrc { k, groups, globals } => lrc::parity_rows(k, groups, globals),
            Shape::LrcUniform { k, groups, globals } => equations::uniform_rows(k, groups, globals),
            Shape::Xorbas => equations::xorbas_rows(),
            Shape::Matrix { .. } => return Err(CodeError::MatrixByName { text: spec.to_string() }),
        };
        let (guarantee, evidence, tolerance) = match spec.shape() {
            Shape::Xorbas => (Guarantee::Ranked, Evidence::Table, XORBAS_TOLERANCE),
            _ if groups.is_empty() => (Guarantee::Mds, Evidence::Theorem, parity.rows()),
            // The worst pattern takes as many more of one group as there are parities beyond one a group, and one.
            _ => {
                let evidence = if spec.has_table() { Evidence::Table } else { Evidence::Theorem };
                let tolerance = match spec.shape() {
                    // With the globals in small groups no pattern may be as bad as that: counted.
                    Shape::LrcUniform { .. } => counts::grouped_tolerance(spec.n(), parity.rows(), &groups),
                    _ => parity.rows() - groups.len() + 1,
                };
                (Guarantee::MaximallyRecoverable, evidence, tolerance)
            }
        };
        let encoder = match spec.shape() {
            Shape::Rs { matrix: RsMatrix::Lch, .. } => Transform::native(kernel, &parity),
            _ => Transform::of_shards(kernel, &parity),
        };
        let generator = custom::systematic(&parity);
        Ok(Self { spec: *spec, generator, groups, encoder, guarantee, evidence, tolerance, slot: 0 })
    }

    /// The code of one of several stripes whose parities add up to those of one long stripe ([`Conversion`](crate::Conversion)):
    /// the native matrix with its data at the points from `M + slot * k` on, `M` the power of two from `m` on. Slot 0 is
    /// [`Code::new`]. As good a code as that, with other parities; nothing in a descriptor says which slot it was, so the caller
    /// keeps that with the stripe.
    ///
    /// # Errors
    /// [`CodeError::Slot`] for another matrix than `lch`, or where the points do not fit; else as [`Code::new`].
    pub fn at_slot(spec: &CodeSpec, slot: u16) -> Result<Self, CodeError> {
        let refused = |reason: String| CodeError::Slot { spec: spec.to_string(), slot, reason };
        let Shape::Rs { k, m, matrix: RsMatrix::Lch } = spec.shape() else {
            return Err(refused("only the lch matrix has slots".into()));
        };
        let (k, m, order) = (usize::from(k), usize::from(m), usize::from(m).next_power_of_two());
        let points = order + k * (usize::from(slot) + 1);
        if points > SHARDS_MAX {
            return Err(refused(format!("it ends at point {points} of at most {SHARDS_MAX}")));
        }
        let mut code = Self::new(spec)?;
        if slot > 0 {
            let first = k * usize::from(slot);
            let whole = rs::lch(first + k, m);
            let parity = Matrix::from_fn(m, k, |row, column| whole.get(row, first + column));
            code.encoder = Transform::of_shards(code.kernel(), &parity);
            code.generator = custom::systematic(&parity);
            code.slot = slot;
        }
        Ok(code)
    }

    /// The specification it was built from.
    pub fn spec(&self) -> &CodeSpec {
        &self.spec
    }

    /// Its slot; 0 but for [`Code::at_slot`].
    pub fn slot(&self) -> u16 {
        self.slot
    }

    /// Data shards.
    pub fn k(&self) -> usize {
        self.generator.columns()
    }

    /// Shards in all.
    pub fn n(&self) -> usize {
        self.generator.rows()
    }

    /// Parity shards.
    pub fn m(&self) -> usize {
        self.n() - self.k()
    }

    /// Shard lengths must be a multiple of this. 1 for every scalar code over GF(2^8).
    pub fn granularity(&self) -> usize {
        1
    }

    /// The kernel that encodes.
    pub fn kernel(&self) -> Kernel {
        self.encoder.kernel()
    }

    /// What turns data into parity.
    pub(crate) fn encoder(&self) -> &Transform {
        &self.encoder
    }

    /// `n` rows of `k` coefficients; row `i` gives shard `i` from the data.
    pub fn generator(&self) -> &Matrix {
        &self.generator
    }

    /// Local groups; empty for codes without them. Disjoint but for [`Shape::Xorbas`].
    pub fn groups(&self) -> &[LocalGroup] {
        &self.groups
    }

    /// Which losses the code survives.
    pub fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    /// How that is known.
    pub fn evidence(&self) -> Evidence {
        self.evidence
    }

    /// The largest number of losses of which every pattern can be decoded; for a matrix from elsewhere, as far as 2,000,000
    /// patterns tell.
    pub fn guaranteed_tolerance(&self) -> usize {
        self.tolerance
    }

    /// Computes the parity shards from the data shards, in order. All buffers are equally long; parity is overwritten.
    ///
    /// # Errors
    /// [`DecodeError::WrongCount`], [`DecodeError::LengthMismatch`] or [`DecodeError::Empty`], with parity untouched.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), DecodeError> {
        self.encode_with(data, parity, Locality::Auto)
    }

    /// As [`Code::encode`], with a hint on where the buffers are. The bytes are the same with every hint.
    ///
    /// # Errors
    /// As [`Code::encode`].
    pub fn encode_with(&self, data: &[&[u8]], parity: &mut [&mut [u8]], locality: Locality) -> Result<(), DecodeError> {
        self.encoder.apply_to_shards(data, parity, locality)
    }

    /// Whether everything can be decoded when the shards in `lost` are gone.
    pub fn decodable(&self, lost: &ShardSet) -> bool {
        if self.guarantee() == Guarantee::Mds {
            return lost.iter().filter(|index| index.at() < self.n()).count() <= self.m();
        }
        decodable::by_rank(&self.generator, lost)
    }

    /// How to rebuild `lost` from shards among `available`, with the fewest reads: surely so where the code is MDS or maximally
    /// recoverable, else the fewest that a bounded search finds. Shards in neither set are neither read nor rebuilt.
    ///
    /// # Errors
    /// [`DecodeError::NotDecodable`], [`DecodeError::IndexOutOfRange`].
    pub fn plan(&self, lost: &ShardSet, available: &ShardSet) -> Result<RepairPlan, DecodeError> {
        RepairPlan::new(self, lost, available)
    }

    /// Rebuilds the wanted shards from those present, jointly: whatever the rank of the rows at hand allows. Pairs of position
    /// and buffer; all buffers equally long.
    ///
    /// # Errors
    /// A [`DecodeError`], with every wanted buffer untouched.
    pub fn decode(
        &self,
        present: &[(ShardIndex, &[u8])],
        wanted: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), DecodeError> {
        let available = distinct(present.iter().map(|(index, _)| *index), self.n())?;
        let lost = distinct(wanted.iter().map(|(index, _)| *index), self.n())?;
        let present_lengths = present.iter().map(|(index, bytes)| (*index, bytes.len()));
        let mut lengths = present_lengths.chain(wanted.iter().map(|(index, bytes)| (*index, bytes.len())));
        let expected = lengths.next().map_or(0, |(_, bytes)| bytes);
        if let Some((index, found)) = lengths.find(|&(_, found)| found != expected) {
            return Err(DecodeError::LengthMismatch { index, expected, found });
        }
        if let Some(index) = lost.iter().find(|index| available.contains(*index)) {
            return Err(DecodeError::Duplicate { index });
        }
        self.plan(&lost, &available)?.run(present, wanted)
    }

    /// Fragments read to rebuild one lost fragment, averaged over all `n`; `None` where a lone loss cannot be rebuilt.
    pub fn mean_repair_reads(&self) -> Option<f64> {
        let mut reads = 0;
        for index in ShardSet::first(self.n()).iter() {
            let lost = ShardSet::from_iter([index]);
            reads += self.plan(&lost, &lost.complement(self.n())).ok()?.reads().len();
        }
        Some(reads as f64 / self.n() as f64)
    }

    /// How many of the patterns of `1..=n-k` erasures can be decoded.
    pub fn pattern_counts(&self) -> Vec<PatternCount> {
        counts::pattern_counts(self)
    }
}

/// Its distance is 5 (Sathiamoorthy et al. 2013, theorem 5); every pattern of 4 losses is tested by this crate's tests.
const XORBAS_TOLERANCE: usize = 4;

fn distinct(indices: impl Iterator<Item = ShardIndex>, shards: usize) -> Result<ShardSet, DecodeError> {
    let mut set = ShardSet::EMPTY;
    for index in indices {
        if index.at() >= shards {
            return Err(DecodeError::IndexOutOfRange { index, shards });
        }
        if set.contains(index) {
            return Err(DecodeError::Duplicate { index });
        }
        set.insert(index);
    }
    Ok(set)
}

/// Positions come from a code of at most 256 shards.
pub(crate) fn shard(at: usize) -> ShardIndex {
    ShardIndex::new(u16::try_from(at).unwrap_or(u16::MAX))
}
