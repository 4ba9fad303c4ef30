//! The loops of all GF(2^16) kernels, over a block of 64 bytes that a backend holds in its registers.
//!
//! A block is 32 elements: the 32 low bytes, then the 32 high bytes. Every loop here is inlined into a function that enables the
//! backend's instructions, so that a block stays in registers from load to store.

#![expect(
    clippy::needless_range_loop,
    reason = "loops of constant length over several arrays, to be unrolled into registers"
)]

use super::matrices::Matrices;

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 64;

/// Rows a pass takes through its layers at once.
pub(super) const PASS_ROWS_MAX: usize = 16;

/// 32 elements in registers.
///
/// # Safety
/// Every function needs the instructions of the backend; pointers need to be good for 64 bytes.
pub(super) trait Block: Copy {
    /// A constant as this backend multiplies by it.
    type Factor: Copy;

    unsafe fn factor(matrices: &Matrices) -> Self::Factor;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut u8);
    unsafe fn add(self, other: Self) -> Self;
    /// `self + other * by`.
    unsafe fn add_product(self, other: Self, by: &Self::Factor) -> Self;
    /// Asks for the cache line there, which need not exist.
    unsafe fn prefetch(from: *const u8);
}

/// The body for each number below the limit, at most 16, written out: where the compiler leaves a loop over registers a loop,
/// they go through memory (seen in the machine code).
macro_rules! unrolled {
    ($limit:expr, |$index:ident| $body:block) => {
        unrolled!(@ $limit, $index, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $limit:expr, $index:ident, $body:block, $($value:literal)*) => {
        $(if $value < $limit {
            let $index = $value;
            $body
        })*
    };
}

/// Which way an additive FFT goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From values to coefficients, small distances first.
    Up,
    /// From coefficients to values, large distances first.
    Down,
}

/// `R` rows through `log2 R` layers, over `len` bytes. Made only by `run_pass`, which checks what it points to.
pub(super) struct Rows<'a, const R: usize> {
    pub(super) direction: Direction,
    /// Constants of the layers: `R / 2` of the smallest distance, then `R / 4` of the next, and so on.
    pub(super) factors: &'a [Matrices],
    pub(super) sources: [*const u8; R],
    /// What will be read next, to be prefetched; null where that is not known or not worth it.
    pub(super) next: [*const u8; R],
    pub(super) targets: [*mut u8; R],
    /// How many of the targets are written.
    pub(super) written: usize,
    /// Whether results are added to what the targets hold.
    pub(super) adds: bool,
    pub(super) len: usize,
    /// The same again for `repeats` further sets of rows, each this many bytes after the one before.
    pub(super) repeats: usize,
    pub(super) stride: usize,
}

/// # Safety
/// The backend's instructions; sources and targets good for `len` bytes, a multiple of 64, in every repetition; targets may be
/// sources of the same row.
#[inline(always)]
pub(super) unsafe fn run_rows<B: Block, const R: usize>(rows: &Rows<'_, R>) {
    // SAFETY: the caller's promise covers every pointer below: `at` stays below `len`, a multiple of the block, and
    // `repeat` within the repetitions.
    unsafe {
        let mut factors = [B::factor(&Matrices::from(0)); PASS_ROWS_MAX];
        for (factor, matrices) in factors.iter_mut().zip(rows.factors) {
            *factor = B::factor(matrices);
        }
        match rows.direction {
            Direction::Up => run_columns::<B, R, true>(rows, &factors),
            Direction::Down => run_columns::<B, R, false>(rows, &factors),
        }
    }
}

#[inline(always)]
unsafe fn run_columns<B: Block, const R: usize, const UP: bool>(
    rows: &Rows<'_, R>,
    factors: &[B::Factor; PASS_ROWS_MAX],
) {
    for repeat in 0..=rows.repeats {
        let mut at = repeat * rows.stride;
        let end = at + rows.len;
        while at < end {
            // SAFETY: the caller's promise covers every pointer: `at` stays below `len`, a multiple of the block, within the
            // repetition.
            unsafe {
                let mut blocks = [B::zero(); R];
                unrolled!(R, |row| { blocks[row] = B::load(rows.sources[row].wrapping_add(at)) });
                if !rows.next[0].is_null() {
                    for next in rows.next {
                        B::prefetch(next.wrapping_add(at));
                    }
                }
                if UP {
                    up(&mut blocks, factors);
                } else {
                    down(&mut blocks, factors);
                }
                unrolled!(R, |row| {
                    if row < rows.written {
                        let target = rows.targets[row].wrapping_add(at);
                        let block = if rows.adds { B::load(target).add(blocks[row]) } else { blocks[row] };
                        block.store(target);
                    }
                });
            }
            at += BLOCK_BYTES;
        }
    }
}

#[inline(always)]
unsafe fn up<B: Block, const R: usize>(blocks: &mut [B; R], factors: &[B::Factor; PASS_ROWS_MAX]) {
    // SAFETY: as for `run_rows`.
    unsafe {
        if R > 1 {
            layer_up::<B, R, 1>(blocks, factors);
        }
        if R > 2 {
            layer_up::<B, R, 2>(blocks, factors);
        }
        if R > 4 {
            layer_up::<B, R, 4>(blocks, factors);
        }
        if R > 8 {
            layer_up::<B, R, 8>(blocks, factors);
        }
    }
}

#[inline(always)]
unsafe fn down<B: Block, const R: usize>(blocks: &mut [B; R], factors: &[B::Factor; PASS_ROWS_MAX]) {
    // SAFETY: as for `run_rows`.
    unsafe {
        if R > 8 {
            layer_down::<B, R, 8>(blocks, factors);
        }
        if R > 4 {
            layer_down::<B, R, 4>(blocks, factors);
        }
        if R > 2 {
            layer_down::<B, R, 2>(blocks, factors);
        }
        if R > 1 {
            layer_down::<B, R, 1>(blocks, factors);
        }
    }
}

/// Where the factors of the layer with this distance begin.
const fn first_factor(rows: usize, distance: usize) -> usize {
    rows - rows / distance
}

#[inline(always)]
unsafe fn layer_up<B: Block, const R: usize, const DISTANCE: usize>(blocks: &mut [B; R], factors: &[B::Factor; 16]) {
    unrolled!(R / 2, |pair| {
        let (low, high) = (pair + pair / DISTANCE * DISTANCE, pair + pair / DISTANCE * DISTANCE + DISTANCE);
        let factor = &factors[first_factor(R, DISTANCE) + pair / DISTANCE];
        // SAFETY: as for `run_rows`.
        unsafe {
            blocks[high] = blocks[high].add(blocks[low]);
            blocks[low] = blocks[low].add_product(blocks[high], factor);
        }
    });
}

#[inline(always)]
unsafe fn layer_down<B: Block, const R: usize, const DISTANCE: usize>(blocks: &mut [B; R], factors: &[B::Factor; 16]) {
    unrolled!(R / 2, |pair| {
        let (low, high) = (pair + pair / DISTANCE * DISTANCE, pair + pair / DISTANCE * DISTANCE + DISTANCE);
        let factor = &factors[first_factor(R, DISTANCE) + pair / DISTANCE];
        // SAFETY: as for `run_rows`.
        unsafe {
            blocks[low] = blocks[low].add_product(blocks[high], factor);
            blocks[high] = blocks[high].add(blocks[low]);
        }
    });
}

/// Columns of one dense step. Bounds its prepared constants to 12 KiB of stack.
pub(super) const DENSE_COLUMNS_MAX: usize = 16;

/// Rows of one dense step: what the sums of two blocks a row and their operands leave of 32 registers.
pub(super) const DENSE_ROWS_MAX: usize = 6;

/// `targets[row] (+)= sum of matrices[column][row] * sources[column]`, `M` rows. Made only by `run_dense`.
pub(super) struct Sums<'a, const M: usize> {
    pub(super) matrices: &'a [[Matrices; M]],
    pub(super) sources: &'a [*const u8],
    pub(super) targets: [*mut u8; M],
    pub(super) adds: bool,
    pub(super) len: usize,
}

/// # Safety
/// The backend's instructions; sources and targets good for `len` bytes, a multiple of 64; no target is a source.
#[inline(always)]
pub(super) unsafe fn run_sums<B: Block, const M: usize, const U: usize>(sums: &Sums<'_, M>) {
    // SAFETY: the caller's promise covers every pointer below: `at + U` blocks stay within `len`.
    unsafe {
        let mut factors = [[B::factor(&Matrices::from(0)); M]; DENSE_COLUMNS_MAX];
        for (factors, matrices) in factors.iter_mut().zip(sums.matrices) {
            for (factor, matrices) in factors.iter_mut().zip(matrices) {
                *factor = B::factor(matrices);
            }
        }
        let mut at = 0;
        while at + U * BLOCK_BYTES <= sums.len {
            step::<B, M, U>(sums, &factors, at);
            at += U * BLOCK_BYTES;
        }
        while at < sums.len {
            step::<B, M, 1>(sums, &factors, at);
            at += BLOCK_BYTES;
        }
    }
}

#[inline(always)]
unsafe fn step<B: Block, const M: usize, const U: usize>(
    sums: &Sums<'_, M>,
    factors: &[[B::Factor; M]; DENSE_COLUMNS_MAX],
    at: usize,
) {
    // SAFETY: as for `run_sums`.
    unsafe {
        let mut totals = [[B::zero(); U]; M];
        if sums.adds {
            for row in 0..M {
                for u in 0..U {
                    totals[row][u] = B::load(sums.targets[row].wrapping_add(at + u * BLOCK_BYTES));
                }
            }
        }
        for (source, factors) in sums.sources.iter().zip(factors) {
            for u in 0..U {
                let block = B::load(source.wrapping_add(at + u * BLOCK_BYTES));
                for row in 0..M {
                    totals[row][u] = totals[row][u].add_product(block, &factors[row]);
                }
            }
        }
        for row in 0..M {
            for u in 0..U {
                totals[row][u].store(sums.targets[row].wrapping_add(at + u * BLOCK_BYTES));
            }
        }
    }
}
