//! A matrix prepared for one kernel, and the checks at its door.

use super::dense::Group;
use super::divide::{divide, divide_adding};
use super::family::Family;
use super::lanes::{LaneStorage, Lanes, Traffic};
use super::lch::Lch;
use super::memory::second_level_bytes;
use super::portable::Portable;
use super::syndrome::{SyndromeProgram, Syndromes};
use super::{Backend, Kernel};
use crate::error::{DecodeError, TransformError};
use crate::matrix::Matrix;
use crate::shard::ShardIndex;
use std::fmt;
use std::ops::Range;

/// Bytes of all inputs that several groups go through before the next ones: they stay in a second-level cache of 1 MiB
/// while the later groups read them again.
const BLOCK_OF_INPUTS_BYTES: usize = 384 << 10;

/// What a block of one buffer is a multiple of: steps are of 1 to 4 vectors of up to 64 bytes, and a block that ended
/// inside one would leave each block a slow remainder.
const BLOCK_UNIT_BYTES: usize = 4 * 3 * 64;

/// Quarters of the second-level cache from which on inputs are asked for ahead, by the loops over a matrix and by the
/// transform. Both measured on Zen 5 with 1 MiB of cache, by `compare --only '64 KiB hot'` with these numbers changed: at
/// 14 shards, 7/8 of the cache, the matrix gains a fifth (rebuild of 4 of 10+4: 64, 78 GB/s) and the transform loses one
/// (encode of 10+4: 131, 106); at 16 shards it gains a seventh (12+4: 72, 83).
const PREFETCH_FROM_QUARTERS: [usize; 2] = [3, 4];

/// From this many bytes of all buffers on, [`Locality::Auto`] takes them for a stripe that is used once: four second-level
/// caches of 2 MiB.
const STREAMING_FROM_BYTES: usize = 8 << 20;

/// The most rows, and the most columns, that a [`Transform`] has: they are numbered in 16 bits.
pub const SIDE_MAX: usize = u16::MAX as usize;

/// Where the buffers of a call are and should be, as far as the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Locality {
    /// Unknown: [`Locality::Streaming`] for stripes of several MiB, else [`Locality::Cached`].
    #[default]
    Auto,
    /// The inputs are in cache, or the outputs are used at once: outputs are written through the caches.
    Cached,
    /// The inputs come from memory and the outputs go there: inputs are prefetched, and outputs that are aligned alike (to
    /// a multiple of 64 bytes, or all off by the same number) are written past the caches.
    Streaming,
}

impl Locality {
    /// The hint for a part of a stripe of `bytes` in all: what [`Locality::Auto`] says of the whole holds for its parts.
    pub(crate) fn of_whole(self, bytes: usize) -> Self {
        match self {
            Self::Auto if bytes >= STREAMING_FROM_BYTES => Self::Streaming,
            Self::Auto | Self::Cached => Self::Cached,
            Self::Streaming => Self::Streaming,
        }
    }

    fn traffic(self, bytes: usize, by_transform: bool) -> Traffic {
        match self {
            Self::Auto if bytes >= STREAMING_FROM_BYTES => Traffic { prefetches: true, streams: true, fences: true },
            Self::Auto | Self::Cached => {
                let from = second_level_bytes() / 4 * PREFETCH_FROM_QUARTERS[usize::from(by_transform)];
                Traffic { prefetches: bytes >= from, streams: false, fences: true }
            }
            Self::Streaming => Traffic { prefetches: true, streams: true, fences: true },
        }
    }
}

/// Prepared coefficients: `outputs[r] = sum over c of coefficients[r][c] * inputs[c]`, byte by byte over GF(2^8).
#[derive(Clone)]
pub struct Transform {
    kernel: Kernel,
    rows: usize,
    columns: usize,
    program: Program,
}

/// A family and the tables it wants, made together so that they cannot be mixed up.
#[derive(Clone)]
enum Program {
    #[cfg(target_arch = "x86_64")]
    Avx512Gfni(super::x86::Avx512Gfni, Prepared<u64>),
    #[cfg(target_arch = "x86_64")]
    Avx2Gfni(super::x86::Avx2Gfni, Prepared<u64>),
    #[cfg(target_arch = "x86_64")]
    Avx2(super::x86::Avx2, Prepared<super::nibble::NibbleProducts>),
    #[cfg(target_arch = "x86_64")]
    Ssse3(super::x86::Ssse3, Prepared<super::nibble::NibbleProducts>),
    #[cfg(target_arch = "aarch64")]
    Neon(super::aarch64::Neon, Prepared<super::nibble::NibbleProducts>),
    Portable(Portable, Prepared<u8>),
}

/// The ways to compute a matrix.
#[derive(Clone)]
enum Prepared<F> {
    Groups(Vec<Group<F>>),
    Lch(Lch<F>),
    Syndromes(SyndromeProgram<F>),
}

/// The same by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Matrix,
    /// The transform of the native matrix.
    Transform,
    Syndromes,
}

/// What to prepare.
enum Recipe<'a> {
    Matrix(&'a Matrix),
    /// Added to what the outputs hold.
    Adding(&'a Matrix),
    /// The native matrix, which is also given as such for families and shapes that do better without a transform.
    Native(&'a Matrix),
    /// A decoding of a native code, which is also given as a matrix for families without a transform.
    Syndromes(&'a Matrix, &'a Syndromes),
}

impl Transform {
    /// Prepares the coefficients for a kernel. The tables have up to 32 bytes per coefficient.
    ///
    /// # Errors
    /// [`TransformError`] for more than [`SIDE_MAX`] rows or columns.
    pub fn new(kernel: Kernel, coefficients: &Matrix) -> Result<Self, TransformError> {
        check_sides(coefficients)?;
        Ok(Self::of_shards(kernel, coefficients))
    }

    /// As [`Transform::new`], but outputs are added to (XOR), not overwritten.
    ///
    /// # Errors
    /// As [`Transform::new`].
    pub fn adding(kernel: Kernel, coefficients: &Matrix) -> Result<Self, TransformError> {
        check_sides(coefficients)?;
        Ok(Self::adding_of_shards(kernel, coefficients))
    }

    /// As [`Transform::new`], for matrices over the shards or sub-chunks of codes, which are never too large.
    pub(crate) fn of_shards(kernel: Kernel, coefficients: &Matrix) -> Self {
        Self::prepare(kernel, coefficients, &Recipe::Matrix(coefficients))
    }

    /// As [`Transform::of_shards`], added to what the outputs hold.
    pub(crate) fn adding_of_shards(kernel: Kernel, coefficients: &Matrix) -> Self {
        Self::prepare(kernel, coefficients, &Recipe::Adding(coefficients))
    }

    /// For the parity rows of the native matrix and no others: the transform that gives the same bytes faster, where
    /// there is one.
    pub(crate) fn native(kernel: Kernel, parity_rows: &Matrix) -> Self {
        Self::prepare(kernel, parity_rows, &Recipe::Native(parity_rows))
    }

    /// For a decoding of a native code, given also as the matrix over its inputs.
    pub(crate) fn by_syndromes(kernel: Kernel, coefficients: &Matrix, syndromes: &Syndromes) -> Self {
        Self::prepare(kernel, coefficients, &Recipe::Syndromes(coefficients, syndromes))
    }

    fn prepare(kernel: Kernel, coefficients: &Matrix, recipe: &Recipe<'_>) -> Self {
        debug_assert_eq!(check_sides(coefficients), Ok(()), "no code is that large");
        let program = match kernel.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Gfni(family) => Program::Avx512Gfni(family, Prepared::new(family, recipe)),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2Gfni(family) => Program::Avx2Gfni(family, Prepared::new(family, recipe)),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(family) => Program::Avx2(family, Prepared::new(family, recipe)),
            #[cfg(target_arch = "x86_64")]
            Backend::Ssse3(family) => Program::Ssse3(family, Prepared::new(family, recipe)),
            #[cfg(target_arch = "aarch64")]
            Backend::Neon(family) => Program::Neon(family, Prepared::new(family, recipe)),
            Backend::Portable(family) => Program::Portable(family, Prepared::new(family, recipe)),
        };
        Self { kernel, rows: coefficients.rows(), columns: coefficients.columns(), program }
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The kernel this was prepared for.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// By which way it computes.
    pub(super) fn way(&self) -> Way {
        match &self.program {
            #[cfg(target_arch = "x86_64")]
            Program::Avx512Gfni(_, prepared) => prepared.way(),
            #[cfg(target_arch = "x86_64")]
            Program::Avx2Gfni(_, prepared) => prepared.way(),
            #[cfg(target_arch = "x86_64")]
            Program::Avx2(_, prepared) => prepared.way(),
            #[cfg(target_arch = "x86_64")]
            Program::Ssse3(_, prepared) => prepared.way(),
            #[cfg(target_arch = "aarch64")]
            Program::Neon(_, prepared) => prepared.way(),
            Program::Portable(_, prepared) => prepared.way(),
        }
    }

    /// Overwrites the outputs with the sums. All buffers are equally long; any length and any alignment will do.
    ///
    /// # Errors
    /// [`DecodeError::WrongCount`] or [`DecodeError::LengthMismatch`], with the outputs untouched. The index in the latter
    /// counts the inputs first and the outputs after them.
    pub fn apply(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DecodeError> {
        self.apply_with(inputs, outputs, Locality::Auto)
    }

    /// As [`Transform::apply`], with a hint on where the buffers are. The bytes are the same with every hint.
    ///
    /// # Errors
    /// As [`Transform::apply`].
    pub fn apply_with(
        &self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        locality: Locality,
    ) -> Result<(), DecodeError> {
        let len = self.check(inputs, outputs)?;
        let traffic = locality.traffic(len.saturating_mul(inputs.len() + outputs.len()), self.way() == Way::Transform);
        self.run(inputs, outputs, len, traffic);
        Ok(())
    }

    /// As [`Transform::apply_with`], for inputs that come from memory and outputs that are read again at once.
    ///
    /// # Errors
    /// As [`Transform::apply`].
    pub(crate) fn apply_prefetching(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DecodeError> {
        let len = self.check(inputs, outputs)?;
        self.run(inputs, outputs, len, Traffic { prefetches: true, streams: false, fences: true });
        Ok(())
    }

    /// As [`Transform::apply_with`], for inputs in cache and outputs that go to memory. Other threads may be told of the
    /// outputs only after a [`fence`](super::fence), which is not worth its time for every few KiB.
    ///
    /// # Errors
    /// As [`Transform::apply`].
    pub(crate) fn apply_unfenced(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DecodeError> {
        let len = self.check(inputs, outputs)?;
        self.run(inputs, outputs, len, Traffic { prefetches: false, streams: true, fences: false });
        Ok(())
    }

    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], len: usize, traffic: Traffic) {
        self.compute(inputs, outputs, len, traffic);
        #[cfg(test)]
        super::tests::planted::spoil(self.kernel.name(), outputs);
    }

    fn compute(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], len: usize, traffic: Traffic) {
        match &self.program {
            #[cfg(target_arch = "x86_64")]
            Program::Avx512Gfni(family, prepared) => prepared.run(*family, inputs, outputs, len, traffic),
            #[cfg(target_arch = "x86_64")]
            Program::Avx2Gfni(family, prepared) => prepared.run(*family, inputs, outputs, len, traffic),
            #[cfg(target_arch = "x86_64")]
            Program::Avx2(family, prepared) => prepared.run(*family, inputs, outputs, len, traffic),
            #[cfg(target_arch = "x86_64")]
            Program::Ssse3(family, prepared) => prepared.run(*family, inputs, outputs, len, traffic),
            #[cfg(target_arch = "aarch64")]
            Program::Neon(family, prepared) => prepared.run(*family, inputs, outputs, len, traffic),
            Program::Portable(family, prepared) => prepared.run(*family, inputs, outputs, len, traffic),
        }
    }

    /// As [`Transform::apply_with`] for whole shards or ranges of them, which are never empty: no bytes are a mistake.
    ///
    /// # Errors
    /// As [`Transform::apply`], and [`DecodeError::Empty`].
    pub(crate) fn apply_to_shards(
        &self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        locality: Locality,
    ) -> Result<(), DecodeError> {
        let has_bytes = inputs.iter().any(|input| !input.is_empty()) || outputs.iter().any(|output| !output.is_empty());
        self.apply_with(inputs, outputs, locality)?;
        if has_bytes || self.rows == 0 { Ok(()) } else { Err(DecodeError::Empty { granularity: 1 }) }
    }

    /// The common length of the buffers.
    pub(crate) fn check(&self, inputs: &[&[u8]], outputs: &[&mut [u8]]) -> Result<usize, DecodeError> {
        for (expected, found) in [(self.columns, inputs.len()), (self.rows, outputs.len())] {
            if expected != found {
                return Err(DecodeError::WrongCount { expected, found });
            }
        }
        let expected = inputs.first().map_or_else(|| outputs.first().map_or(0, |output| output.len()), |it| it.len());
        let equal =
            inputs.iter().all(|input| input.len() == expected) && outputs.iter().all(|output| output.len() == expected);
        if equal {
            return Ok(expected);
        }
        let lengths = inputs.iter().map(|input| input.len()).chain(outputs.iter().map(|output| output.len()));
        match lengths.enumerate().find(|&(_, found)| found != expected) {
            None => Ok(expected),
            Some((at, found)) => {
                let index = ShardIndex::new(u16::try_from(at).unwrap_or(u16::MAX));
                Err(DecodeError::LengthMismatch { index, expected, found })
            }
        }
    }
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transform({}, {} x {})", self.kernel.name(), self.rows, self.columns)
    }
}

impl<F: Clone> Prepared<F> {
    fn new<Y: Family<Factor = F>>(family: Y, recipe: &Recipe<'_>) -> Self {
        let factor = |coefficient| family.factor(coefficient);
        match recipe {
            Recipe::Native(matrix) if transform_pays::<Y>(matrix) => {
                Self::Lch(Lch::new(matrix.rows().next_power_of_two(), matrix.columns(), factor))
            }
            Recipe::Syndromes(_, syndromes) if syndromes.order() <= Y::LCH_ORDER_MAX => {
                Self::Syndromes(SyndromeProgram::new(syndromes, factor))
            }
            Recipe::Adding(matrix) => Self::Groups(divide_adding(matrix, factor)),
            Recipe::Native(matrix) | Recipe::Syndromes(matrix, _) | Recipe::Matrix(matrix) => {
                Self::Groups(divide(matrix, factor))
            }
        }
    }

    fn way(&self) -> Way {
        match self {
            Self::Groups(_) => Way::Matrix,
            Self::Lch(_) => Way::Transform,
            Self::Syndromes(_) => Way::Syndromes,
        }
    }

    fn run<Y: Family<Factor = F>>(
        &self,
        family: Y,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        len: usize,
        traffic: Traffic,
    ) {
        let mut storage = LaneStorage::new();
        match self {
            Self::Groups(groups) => {
                let block = if groups.len() > 1 { block_bytes(BLOCK_OF_INPUTS_BYTES, inputs.len()) } else { len };
                let mut start = 0;
                while start < len {
                    let end = len.min(start + block);
                    for group in groups {
                        let mut lanes = group.lanes(&mut storage, inputs, start..end, outputs, start..end, traffic);
                        family.dense(group, &mut lanes);
                    }
                    start = end;
                }
            }
            Self::Lch(lch) => {
                let (columns, rows) = ((0..inputs.len()).map(Some), 0..outputs.len());
                let mut lanes = Lanes::gather(&mut storage, columns, rows, inputs, 0..len, outputs, 0..len, traffic);
                family.lch(lch, &mut lanes);
            }
            Self::Syndromes(program) => program.run(family, inputs, outputs, len, traffic),
        }
    }
}

impl<F> Group<F> {
    #[inline]
    pub(super) fn lanes<'a>(
        &self,
        storage: &'a mut LaneStorage,
        inputs: &'a [&[u8]],
        input_range: Range<usize>,
        outputs: &'a mut [&mut [u8]],
        output_range: Range<usize>,
        traffic: Traffic,
    ) -> Lanes<'a> {
        if self.columns.is_empty() && self.sections.is_empty() {
            let all = (0..inputs.len()).map(Some);
            return Lanes::gather(storage, all, self.targets(), inputs, input_range, outputs, output_range, traffic);
        }
        let columns = self.columns.iter().map(|&column| Some(usize::from(column)));
        Lanes::gather(storage, columns, self.targets(), inputs, input_range, outputs, output_range, traffic)
    }
}

/// Bytes of each of so many buffers, whole steps of every loop, that fit together into `bytes`; at least one unit.
pub(super) fn block_bytes(bytes: usize, buffers: usize) -> usize {
    (bytes / buffers.max(1) / BLOCK_UNIT_BYTES).max(1) * BLOCK_UNIT_BYTES
}

/// Refuses a matrix whose rows or columns could not be numbered.
fn check_sides(coefficients: &Matrix) -> Result<(), TransformError> {
    let (rows, columns) = (coefficients.rows(), coefficients.columns());
    if rows.max(columns) <= SIDE_MAX { Ok(()) } else { Err(TransformError { rows, columns, limit: SIDE_MAX }) }
}

/// Whether the transform takes fewer instructions than the matrix: a butterfly is a product and two sums, an element of the
/// matrix a product and half a sum.
fn transform_pays<Y: Family>(matrix: &Matrix) -> bool {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let order = rows.next_power_of_two();
    if rows < 2 || order > Y::LCH_ORDER_MAX {
        return false;
    }
    let butterflies = (columns.div_ceil(order) + 1) * (order / 2) * order.ilog2() as usize;
    2 * 3 * butterflies <= 3 * rows * columns
}
