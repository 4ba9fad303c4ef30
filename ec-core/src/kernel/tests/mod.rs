//! One suite for every kernel: all answer to [`gf::mul_by_definition`], over the whole range. One subject a file.

mod choice;
mod door;
#[cfg(target_os = "linux")]
pub(crate) mod guarded;
mod places;
pub(crate) mod planted;
mod self_test;
mod streaming;
mod sums;

use super::*;
use crate::error::DecodeError;
use crate::gf::{self, mul_by_definition};
use crate::{AlignedBuffer, Matrix};
use std::cell::Cell;
use std::sync::LazyLock;

thread_local! {
    /// How often a loop of this thread has written past the caches.
    pub(crate) static STREAMED: Cell<usize> = const { Cell::new(0) };
}

/// How often `job` does.
pub(crate) fn streamed(job: impl FnOnce()) -> usize {
    let before = STREAMED.get();
    job();
    STREAMED.get() - before
}

/// Makes the tests that cannot try everything in a minute try everything.
const LONG_VARIABLE: &str = "NINEFOLD_LONG_TESTS";

const LOCALITIES: [Locality; 2] = [Locality::Cached, Locality::Streaming];

fn is_long() -> bool {
    std::env::var_os(LONG_VARIABLE).is_some_and(|value| !value.is_empty())
}

fn kernels() -> Vec<Kernel> {
    let mut kernels = Kernel::available();
    kernels.push(Kernel::PORTABLE_LOG);
    kernels
}

/// 251 is prime and below 256: shifted or exchanged buffers do not look alike.
fn painted(buffer: usize, len: usize) -> Vec<u8> {
    (0..251).cycle().skip(7 * buffer % 251).take(len).collect()
}

/// A plain generator with the constants of Knuth's MMIX, whose high bits are good enough for coefficients.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn matrix(&mut self, rows: usize, columns: usize, zeros_percent: usize) -> Matrix {
        Matrix::from_fn(rows, columns, |_, _| if self.below(100) < zeros_percent { 0 } else { self.byte() })
    }
}

/// Every product, by the definition.
static DEFINITION: LazyLock<Vec<[u8; 256]>> = LazyLock::new(|| {
    let row = |a| std::array::from_fn(|b: usize| mul_by_definition(a, u8::try_from(b).unwrap()));
    (0..=u8::MAX).map(row).collect()
});

fn by_definition(coefficients: &Matrix, inputs: &[Vec<u8>], len: usize) -> Vec<Vec<u8>> {
    let sum = |row| {
        let mut sum = vec![0; len];
        for (input, &coefficient) in inputs.iter().zip(coefficients.row(row)) {
            let products = &DEFINITION[usize::from(coefficient)];
            sum.iter_mut().zip(input).for_each(|(sum, &byte): (&mut u8, _)| *sum ^= products[usize::from(byte)]);
        }
        sum
    };
    (0..coefficients.rows()).map(sum).collect()
}

/// Coefficients with painted inputs and the sums by the definition, for all lengths up to one.
struct Task {
    coefficients: Matrix,
    /// The matrix is the native one of its shape.
    is_native: bool,
    inputs: Vec<Vec<u8>>,
    expected: Vec<Vec<u8>>,
}

impl Task {
    fn of(coefficients: Matrix, longest: usize) -> Self {
        let inputs = (0..coefficients.columns()).map(|column| painted(column, longest)).collect::<Vec<_>>();
        let expected = by_definition(&coefficients, &inputs, longest);
        Self { coefficients, is_native: false, inputs, expected }
    }

    fn native(k: usize, m: usize, longest: usize) -> Self {
        Self { is_native: true, ..Self::of(crate::code::native_parity_rows(k, m), longest) }
    }

    fn columns(&self) -> usize {
        self.coefficients.columns()
    }

    fn rows(&self) -> usize {
        self.coefficients.rows()
    }

    fn transform(&self, kernel: Kernel) -> Transform {
        if self.is_native {
            Transform::native(kernel, &self.coefficients)
        } else {
            Transform::of_shards(kernel, &self.coefficients)
        }
    }

    /// Kernels to try. Without a transform the native matrix is one like any other.
    fn kernels(&self) -> Vec<Kernel> {
        let all = kernels();
        let is_portable = |kernel: &Kernel| matches!(kernel.0, Backend::Portable(_));
        if self.is_native { all.into_iter().filter(|kernel| !is_portable(kernel)).collect() } else { all }
    }

    fn source_slices(&self, len: usize) -> Vec<&[u8]> {
        self.inputs.iter().map(|input| &input[..len]).collect()
    }
}

/// Outputs on one page-aligned buffer, with room around each.
struct Targets {
    buffer: AlignedBuffer,
    stride: usize,
}

/// What is in the outputs before, and around them after.
const BEFORE: u8 = 0xEE;

const LINE: usize = 64;

impl Targets {
    fn new(rows: usize, longest: usize) -> Self {
        let stride = (longest + 3 * LINE).next_multiple_of(LINE);
        let mut buffer = AlignedBuffer::zeroed(stride * rows).unwrap();
        buffer.fill(BEFORE);
        Self { buffer, stride }
    }

    /// Applies to outputs of `len` bytes, each as far after the start of a cache line as `shift` says of its row; then
    /// compares them and looks at the bytes around. The outputs held other bytes before, as they would where buffers are used again.
    fn check(
        &mut self,
        transform: &Transform,
        inputs: &[&[u8]],
        expected: &[Vec<u8>],
        shift: impl Fn(usize) -> usize,
        locality: Locality,
    ) {
        let len = inputs.first().map_or(0, |input| input.len());
        let (stride, rows) = (self.stride, expected.len());
        let start = |row: usize| LINE + shift(row) % LINE;
        let chunks = self.buffer.chunks_exact_mut(stride).take(rows).enumerate();
        let mut outputs = chunks.map(|(row, chunk)| &mut chunk[start(row)..][..len]).collect::<Vec<_>>();
        transform.apply_with(inputs, &mut outputs, locality).unwrap();
        for (row, chunk) in self.buffer.chunks_exact_mut(stride).take(rows).enumerate() {
            let (before, found) = chunk.split_at_mut(start(row));
            let (found, after) = found.split_at_mut(len);
            let which = || format!("{transform:?}, {len} bytes, row {row} at {}, {locality:?}", start(row));
            assert!(*found == expected[row][..len], "{}", which());
            assert!(before.iter().all(|&byte| byte == BEFORE), "{}: wrote before it", which());
            assert!(after.iter().take(4 * LINE).all(|&byte| byte == BEFORE), "{}: wrote after it", which());
            found.fill(BEFORE);
        }
    }
}

/// The outputs held other bytes before, as they would where buffers are used again.
fn applied(transform: &Transform, inputs: &[Vec<u8>], len: usize) -> Vec<Vec<u8>> {
    let mut outputs = vec![vec![BEFORE; len]; transform.rows()];
    let inputs = inputs.iter().map(|input| &input[..len]).collect::<Vec<_>>();
    transform.apply(&inputs, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    outputs
}
