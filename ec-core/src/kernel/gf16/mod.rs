//! Sums of products over GF(2^16), for the wide codes: additive FFTs and dense matrices.
//!
//! The layout of a buffer is that of Leopard-RS: blocks of 64 bytes, each 32 elements with their low bytes first and their high
//! bytes after them. Buffers here are whole blocks; `wide` stages what is left over.
//!
//! `block` has the loops, once for all backends; `x86` and `portable` the instructions; `additive` and `dense` cut buffers into
//! tiles. Buffers are checked here, in [`Gf16Kernel::run_pass`] and [`Gf16Kernel::run_dense`]; only after that does a backend see
//! a pointer.

mod additive;
mod block;
mod dense;
mod matrices;
mod portable;
mod self_test;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use additive::Additive;
pub(crate) use dense::Dense;

use super::Kernel;
use crate::error::KernelError;
use block::{BLOCK_BYTES, DENSE_COLUMNS_MAX, Direction, PASS_ROWS_MAX, Rows, Sums};
use matrices::Matrices;
use std::sync::OnceLock;

/// Bytes of a buffer that are worked on at once, at most.
pub(crate) const TILE_BYTES_MAX: usize = 4096;

/// Read in place of a buffer that is all zeros.
static ZEROS: [u8; TILE_BYTES_MAX] = [0; TILE_BYTES_MAX];

/// A way to compute over GF(2^16). Made only by detection, so whoever holds one may run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gf16Kernel(Backend);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    #[cfg(target_arch = "x86_64")]
    Avx512Gfni(x86::Avx512Gfni),
    #[cfg(target_arch = "x86_64")]
    Avx2Gfni(x86::Avx2Gfni),
    Portable(portable::Portable),
}

/// One call to the backend's function for that many rows.
macro_rules! for_rows {
    ($proof:expr, $function:ident, $argument:expr) => {
        // SAFETY: the argument's makers check every pointer in it, and the proof says that the CPU can.
        unsafe { $proof.$function(&$argument) }
    };
}

impl Gf16Kernel {
    /// Every one this CPU can run, fastest first, the portable one last.
    pub(crate) fn available() -> Vec<Self> {
        let detected = [
            #[cfg(target_arch = "x86_64")]
            x86::Avx512Gfni::detect().map(Backend::Avx512Gfni),
            #[cfg(target_arch = "x86_64")]
            x86::Avx2Gfni::detect().map(Backend::Avx2Gfni),
            Some(Self::PORTABLE.0),
        ];
        detected.into_iter().flatten().map(Self).collect()
    }

    const PORTABLE: Self = Self(Backend::Portable(portable::Portable));

    /// The one that goes with the kernel chosen for GF(2^8), tested at its first use.
    ///
    /// # Errors
    /// [`KernelError::SelfTest`]
    pub(crate) fn of(kernel: Kernel) -> Result<Self, KernelError> {
        type Answer = OnceLock<Result<(), KernelError>>;
        static TESTED: OnceLock<Vec<(Gf16Kernel, Answer)>> = OnceLock::new();
        let tested = TESTED.get_or_init(|| Self::available().into_iter().map(|it| (it, Answer::new())).collect());
        let own = Self::beside(kernel);
        match tested.iter().find(|(it, _)| *it == own) {
            Some((_, result)) => result.get_or_init(|| own.self_test()).clone().map(|()| own),
            None => own.self_test().map(|()| own),
        }
    }

    /// The one that goes with a kernel for GF(2^8): those without GFNI have the portable one.
    pub(crate) fn beside(kernel: Kernel) -> Self {
        Self::available().into_iter().find(|it| it.name() == kernel.name()).unwrap_or(Self::PORTABLE)
    }

    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Gfni(_) => "avx512-gfni",
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2Gfni(_) => "avx2-gfni",
            Backend::Portable(_) => "portable",
        }
    }

    /// Whether this is the slow one in plain Rust.
    pub(crate) fn is_portable(self) -> bool {
        matches!(self.0, Backend::Portable(_))
    }

    /// Layers of a pass: as many as the registers can hold the rows of.
    fn pass_layers_max(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Gfni(_) => 4,
            _ => 2,
        }
    }

    /// Rows of a dense step.
    fn dense_rows_max(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Gfni(_) => block::DENSE_ROWS_MAX,
            _ => 3,
        }
    }

    /// Takes `R` rows through the layers of a pass. The rows are `2^low_bits` sets in each of source and target.
    ///
    /// # Panics
    /// If a buffer is shorter than what the pass needs; the callers in this module cut them right.
    fn run_pass<const R: usize>(self, pass: &Pass<'_>, sources: &Sources<'_>, targets: Targets<'_, '_>) {
        let Pass { direction, factors, low_bits, len, pitch } = *pass;
        assert!(R <= PASS_ROWS_MAX && factors.len() == R - 1 && len.is_multiple_of(BLOCK_BYTES) && len <= pitch);
        let stride = pitch << low_bits;
        let (written, adds) = (targets.rows(R), targets.adds());
        let repeats = (1 << low_bits) - 1;
        let from_tile = |tile: &[u8]| {
            assert!(tile.len() == R * stride, "a tile of {} bytes for {R} rows of {stride}", tile.len());
        };
        let target_pointers: [*mut u8; R] = match targets {
            Targets::Tile { tile, .. } => {
                from_tile(tile);
                let start = tile.as_mut_ptr();
                std::array::from_fn(|row| start.wrapping_add(row * stride))
            }
            Targets::Shards { rows, at } => {
                assert!(repeats == 0 && rows.len() <= R);
                let mut pointers = [std::ptr::null_mut(); R];
                for (pointer, row) in pointers.iter_mut().zip(rows) {
                    *pointer = row[at..at + len].as_mut_ptr();
                }
                pointers
            }
        };
        let mut next = [std::ptr::null(); R];
        let source_pointers: [*const u8; R] = match *sources {
            Sources::InPlace => {
                assert!(written == R);
                target_pointers.map(<*mut u8>::cast_const)
            }
            Sources::Tile(tile) => {
                from_tile(tile);
                let start = tile.as_ptr();
                std::array::from_fn(|row| start.wrapping_add(row * stride))
            }
            Sources::Shards { rows, first, at } => {
                assert!(repeats == 0 && len <= TILE_BYTES_MAX);
                let pointer = |row: usize| match rows.get(row) {
                    Some(Some(shard)) => shard[at..at + len].as_ptr(),
                    Some(None) | None => ZEROS.as_ptr(),
                };
                if first + R < rows.len() {
                    next = std::array::from_fn(|row| pointer(first + R + row));
                }
                std::array::from_fn(|row| pointer(first + row))
            }
        };
        let rows = Rows {
            direction,
            factors,
            sources: source_pointers,
            next,
            targets: target_pointers,
            written,
            adds,
            len,
            repeats,
            stride: pitch,
        };
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Gfni(proof) => for_rows!(proof, rows, rows),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2Gfni(proof) => for_rows!(proof, rows, rows),
            Backend::Portable(proof) => for_rows!(proof, rows, rows),
        }
    }

    /// `targets[row] (+)= sum of matrices[column][row] * sources[column]`, for `M` rows and a few columns.
    ///
    /// # Panics
    /// If the buffers are not of one length in whole blocks.
    fn run_dense<const M: usize>(
        self,
        matrices: &[[Matrices; M]],
        sources: &[&[u8]],
        targets: &mut [&mut [u8]],
        adds: bool,
    ) {
        let len = targets.first().map_or(0, |target| target.len());
        assert!(targets.len() == M && sources.len() == matrices.len() && sources.len() <= DENSE_COLUMNS_MAX);
        assert!(len.is_multiple_of(BLOCK_BYTES) && sources.iter().all(|source| source.len() == len));
        let mut pointers = [std::ptr::null(); DENSE_COLUMNS_MAX];
        for (pointer, source) in pointers.iter_mut().zip(sources) {
            *pointer = source.as_ptr();
        }
        let mut target_pointers = [std::ptr::null_mut(); M];
        for (pointer, target) in target_pointers.iter_mut().zip(targets) {
            assert!(target.len() == len);
            *pointer = target.as_mut_ptr();
        }
        let sums = Sums { matrices, sources: &pointers[..sources.len()], targets: target_pointers, adds, len };
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Gfni(proof) => for_rows!(proof, sums, sums),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2Gfni(proof) => for_rows!(proof, sums, sums),
            Backend::Portable(proof) => for_rows!(proof, sums, sums),
        }
    }
}

/// Some layers of an additive FFT over some rows.
#[derive(Clone, Copy)]
struct Pass<'a> {
    direction: Direction,
    /// One less than there are rows; see [`Rows`].
    factors: &'a [Matrices],
    /// Layers below this pass: its rows are `2^low_bits` apart.
    low_bits: usize,
    /// Bytes of each row.
    len: usize,
    /// Bytes from a row of a tile to the next.
    pitch: usize,
}

/// Where a pass reads.
enum Sources<'a> {
    /// Buffers from `first` on, over `len` bytes from `at`; those that are not there are zeros.
    Shards { rows: &'a [Option<&'a [u8]>], first: usize, at: usize },
    /// All rows one after the other.
    Tile(&'a [u8]),
    /// Where it writes.
    InPlace,
}

/// Where a pass writes.
enum Targets<'a, 'b> {
    /// Buffers, over `len` bytes from `at`; rows without one are dropped.
    Shards { rows: &'a mut [&'b mut [u8]], at: usize },
    /// All rows one after the other.
    Tile { tile: &'a mut [u8], adds: bool },
}

impl Targets<'_, '_> {
    fn rows(&self, all: usize) -> usize {
        match self {
            Self::Shards { rows, .. } => rows.len(),
            Self::Tile { .. } => all,
        }
    }

    fn adds(&self) -> bool {
        matches!(self, Self::Tile { adds: true, .. })
    }
}
