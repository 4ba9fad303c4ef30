//! Encoding by additive FFTs (Lin, Chung, Han 2014), tile by tile.
//!
//! Values at the points of cosets of `0..size` are taken to coefficients, coset by coset, and summed: that sum is the polynomial
//! of degree below `size` through all of them, seen from the cosets of the outputs, where it is evaluated. The constant of a
//! butterfly of distance `2^l` at point `x` is `x >> l`, thanks to the Cantor basis; it is always even.
//!
//! Layers are gone through several at a time, the rows in registers: each such pass reads and writes a tile once. The first reads
//! the inputs where they lie, the last before the sum adds to it, and the last of all writes the outputs.

use super::block::{BLOCK_BYTES, Direction, PASS_ROWS_MAX};
use super::matrices::Matrices;
use super::{Gf16Kernel, Pass, Sources, TILE_BYTES_MAX, Targets};
use std::ops::Range;

/// Bytes of the two tiles together: about half of a second-level cache of 1 to 2 MiB.
const SCRATCH_BYTES: usize = 512 << 10;

/// A transform from `inputs` rows to `outputs` rows, prepared for one kernel.
#[derive(Clone)]
pub(crate) struct Additive {
    kernel: Gf16Kernel,
    /// Points of a coset, a power of two.
    size: usize,
    inputs: usize,
    input_base: usize,
    outputs: usize,
    output_base: usize,
    /// Layers of each pass, the smallest distances first.
    passes: Vec<Range<usize>>,
    /// The matrices of 0, 2, 4 and so on.
    constants: Vec<Matrices>,
}

impl Additive {
    /// Inputs stand at points `input_base..`, outputs at `output_base..`; both bases are multiples of `size`, a power of two.
    pub(crate) fn new(
        kernel: Gf16Kernel,
        size: usize,
        (inputs, input_base): (usize, usize),
        (outputs, output_base): (usize, usize),
    ) -> Self {
        let end = (input_base + inputs).max(output_base + outputs).next_multiple_of(size);
        let constants = (0..end.div_ceil(2)).map(|half| Matrices::from(u16::try_from(2 * half).unwrap_or(0))).collect();
        Self {
            kernel,
            size,
            inputs,
            input_base,
            outputs,
            output_base,
            passes: divide(size.trailing_zeros() as usize, kernel.pass_layers_max()),
            constants,
        }
    }

    /// Bytes of every buffer to work on at once.
    pub(crate) fn tile_bytes(&self) -> usize {
        let fits = SCRATCH_BYTES / 2 / self.size;
        (fits - fits % BLOCK_BYTES).clamp(BLOCK_BYTES, TILE_BYTES_MAX)
    }

    /// Bytes of scratch that [`Additive::run`] needs.
    pub(crate) fn scratch_bytes(&self) -> usize {
        2 * self.size * pitch(self.tile_bytes())
    }

    /// Operations on a block, in rounds of one input block through one layer.
    pub(crate) fn butterflies(&self) -> usize {
        let cosets = self.inputs.div_ceil(self.size) + self.outputs.div_ceil(self.size);
        cosets * self.size * (self.size.trailing_zeros() as usize) / 2
    }

    /// Transforms the bytes `range` of the inputs, at most [`Additive::tile_bytes`] in whole blocks, and writes the outputs from
    /// `output_at` on. Inputs that are `None` are zeros.
    pub(crate) fn run(
        &self,
        inputs: &[Option<&[u8]>],
        range: Range<usize>,
        outputs: &mut [&mut [u8]],
        output_at: usize,
        scratch: &mut [u8],
    ) {
        let len = range.len();
        assert!(inputs.len() == self.inputs && outputs.len() == self.outputs && len <= self.tile_bytes());
        let (sum, rest) = scratch.split_at_mut(self.size * pitch(len));
        let work = &mut rest[..self.size * pitch(len)];
        for coset in 0..self.inputs.div_ceil(self.size) {
            self.up(coset, inputs, range.clone(), sum, work);
        }
        for (coset, outputs) in outputs.chunks_mut(self.size).enumerate() {
            self.down(self.output_base + coset * self.size, sum, work, outputs, output_at, len);
        }
        #[cfg(test)]
        crate::kernel::tests::planted::spoil("gf16-passes", outputs);
    }

    /// Adds the coefficients of one coset of inputs to the sum; the first one begins it.
    fn up(&self, coset: usize, inputs: &[Option<&[u8]>], range: Range<usize>, sum: &mut [u8], work: &mut [u8]) {
        let (point, len, adds) = (self.input_base + coset * self.size, range.len(), coset > 0);
        let given = (inputs.len() - coset * self.size).min(self.size);
        for (at, layers) in self.passes.iter().enumerate() {
            let (is_first, is_last) = (at == 0, at + 1 == self.passes.len());
            let rows = 1 << layers.end;
            for first in (0..self.size).step_by(rows) {
                let block = first * pitch(len)..(first + rows) * pitch(len);
                if first >= given {
                    // Zeros stay zeros.
                    match (is_last, adds) {
                        (true, true) => {}
                        (true, false) => sum[block].fill(0),
                        (false, _) => work[block].fill(0),
                    }
                    continue;
                }
                let pass = Step { direction: Direction::Up, layers: layers.clone(), point: point + first, len };
                let shards = Sources::Shards { rows: inputs, first: coset * self.size + first, at: range.start };
                match (is_first, is_last) {
                    (true, true) => self.pass(&pass, &shards, Targets::Tile { tile: &mut sum[block], adds }),
                    (true, false) => self.pass(&pass, &shards, Targets::Tile { tile: &mut work[block], adds: false }),
                    (false, false) => {
                        self.pass(&pass, &Sources::InPlace, Targets::Tile { tile: &mut work[block], adds: false });
                    }
                    (false, true) => {
                        let target = Targets::Tile { tile: &mut sum[block.clone()], adds };
                        self.pass(&pass, &Sources::Tile(&work[block]), target);
                    }
                }
            }
        }
    }

    /// Evaluates the sum at one coset of outputs.
    fn down(&self, point: usize, sum: &[u8], work: &mut [u8], outputs: &mut [&mut [u8]], output_at: usize, len: usize) {
        for (at, layers) in self.passes.iter().rev().enumerate() {
            let (is_first, is_last) = (at == 0, at + 1 == self.passes.len());
            let rows = 1 << layers.end;
            // What no output needs is not computed.
            for first in (0..outputs.len()).step_by(rows) {
                let block = first * pitch(len)..(first + rows) * pitch(len);
                let pass = Step { direction: Direction::Down, layers: layers.clone(), point: point + first, len };
                if is_last {
                    let end = outputs.len().min(first + rows);
                    let source = Sources::Tile(if is_first { &sum[block] } else { &work[block] });
                    self.pass(&pass, &source, Targets::Shards { rows: &mut outputs[first..end], at: output_at });
                } else {
                    let source = if is_first { Sources::Tile(&sum[block.clone()]) } else { Sources::InPlace };
                    self.pass(&pass, &source, Targets::Tile { tile: &mut work[block], adds: false });
                }
            }
        }
    }

    fn pass(&self, step: &Step, sources: &Sources<'_>, targets: Targets<'_, '_>) {
        let Step { direction, ref layers, point, len } = *step;
        let mut factors = [Matrices::from(0); PASS_ROWS_MAX];
        let mut count = 0;
        for layer in layers.clone() {
            // Half of `point >> layer`: the constants are even, and the list has every second one.
            let first = point >> (layer + 1);
            let of_layer = &self.constants[first..first + (1 << (layers.end - 1 - layer))];
            factors[count..count + of_layer.len()].copy_from_slice(of_layer);
            count += of_layer.len();
        }
        let pass = Pass { direction, factors: &factors[..count], low_bits: layers.start, len, pitch: pitch(len) };
        match layers.len() {
            0 => self.kernel.run_pass::<1>(&pass, sources, targets),
            1 => self.kernel.run_pass::<2>(&pass, sources, targets),
            2 => self.kernel.run_pass::<4>(&pass, sources, targets),
            3 => self.kernel.run_pass::<8>(&pass, sources, targets),
            4 => self.kernel.run_pass::<16>(&pass, sources, targets),
            layers => unreachable!("a pass of {layers} layers"),
        }
    }
}

/// One pass over one block of rows.
struct Step {
    direction: Direction,
    layers: Range<usize>,
    /// Of the first row.
    point: usize,
    len: usize,
}

/// Bytes from a row of a tile to the next. A line more than the row: rows a power of two apart would share the sets of a cache.
fn pitch(len: usize) -> usize {
    len + BLOCK_BYTES
}

/// Even shares of the layers, as few passes as `limit` allows.
fn divide(layers: usize, limit: usize) -> Vec<Range<usize>> {
    let count = layers.div_ceil(limit).max(1);
    (0..count).map(|at| at * layers / count..(at + 1) * layers / count).collect()
}
