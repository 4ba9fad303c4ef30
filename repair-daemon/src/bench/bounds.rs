//! What no code can pass: the memory's rates, and the rate of products; beside them the checksums.

use super::timing::Effort;
use ec_core::{Kernel, Matrix, Transform};
use serde::Serialize;
use std::hint::black_box;

/// Measured limits, in 10^9 bytes per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bounds {
    /// Bytes read from memory that no cache holds.
    pub read: f64,
    /// Bytes written to it.
    pub write: f64,
    /// Bytes copied within it: each is read and written.
    pub copy: f64,
    /// Products over GF(2^8) of the chosen kernel, from a first-level cache.
    pub products: f64,
}

/// Checksums of fragments and of blocks, in 10^9 bytes per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Checksums {
    /// CRC-32 of blocks of 4 KiB in cache.
    pub crc32_hot: f64,
    /// The same from memory.
    pub crc32_cold: f64,
    /// BLAKE3 of 64 KiB in cache.
    pub blake3_hot: f64,
    /// The same from memory.
    pub blake3_cold: f64,
}

/// Pieces in which cold memory is visited: long enough for the processor to see where it leads.
const PIECE_BYTES: usize = 1 << 20;

impl Bounds {
    /// Measures them. What `memory` held is overwritten in part.
    pub fn measure(effort: Effort, kernel: Kernel, memory: &mut [u8]) -> Self {
        let read = read_rate(effort, memory);
        let pieces = memory.len() / PIECE_BYTES;
        let mut at = 0;
        let write = effort.rate(PIECE_BYTES, || {
            at = (at + 1) % pieces;
            memory[at * PIECE_BYTES..][..PIECE_BYTES].fill(black_box(0x5A));
        });
        let copy = effort.rate(PIECE_BYTES, || {
            at = (at + 1) % (pieces / 2);
            let (sources, targets) = memory.split_at_mut(memory.len() / 2);
            targets[at * PIECE_BYTES..][..PIECE_BYTES].copy_from_slice(&sources[at * PIECE_BYTES..][..PIECE_BYTES]);
        });
        Self { read, write, copy, products: products(effort, kernel) }
    }

    /// The most data a second, if `read` bytes are read for each byte of it and multiplied once for each of `outputs`.
    pub fn dense(&self, read: f64, outputs: usize) -> f64 {
        self.products / (read * outputs as f64)
    }

    /// The most data a second, if `read` bytes are read from memory for each byte of it and `written` are written: reading and
    /// writing at once, each at its own limit.
    pub fn memory(&self, read: f64, written: f64) -> f64 {
        f64::min(self.read / read, self.write / written)
    }
}

/// Read from several places in turn, as codes do: one stream alone does not keep the memory busy.
fn read_rate(effort: Effort, memory: &[u8]) -> f64 {
    const STREAMS: usize = 8;
    const STEP_BYTES: usize = 256;
    let stream_bytes = memory.len() / STREAMS;
    let streams: [&[u8]; STREAMS] = std::array::from_fn(|at| &memory[at * stream_bytes..][..stream_bytes]);
    let steps = PIECE_BYTES / STREAMS / STEP_BYTES;
    let mut step = 0;
    effort.rate(PIECE_BYTES, || {
        let mut sums = [0; 8];
        for _ in 0..steps {
            step = (step + 1) % (stream_bytes / STEP_BYTES);
            for stream in streams {
                xor_words(&stream[step * STEP_BYTES..][..STEP_BYTES], &mut sums);
            }
        }
        sums
    })
}

/// The best of some dense shapes. Few inputs are bound by the stores of their outputs, many by the loads of theirs.
fn products(effort: Effort, kernel: Kernel) -> f64 {
    const SHARD_BYTES: usize = 1024;
    let rates = [(1, 1), (1, 4), (8, 4), (16, 4), (16, 6)].map(|(k, m)| {
        // Neither 0 nor 1: those are no products to a kernel that knows them.
        let dense = Matrix::from_fn(m, k, |row, column| 2 + (row * k + column) as u8);
        // 6 rows and 16 columns at most.
        let Ok(transform) = Transform::new(kernel, &dense) else { return 0.0 };
        let inputs = vec![[0xA5; SHARD_BYTES]; k];
        let mut outputs = vec![[0; SHARD_BYTES]; m];
        let inputs: Vec<&[u8]> = inputs.iter().map(|input| &input[..]).collect();
        let mut outputs: Vec<&mut [u8]> = outputs.iter_mut().map(|output| &mut output[..]).collect();
        effort.rate(k * m * SHARD_BYTES, || {
            // Cannot fail: the buffers are as many and as long as the transform wants.
            let _ = transform.apply(black_box(&inputs), black_box(&mut outputs));
        })
    });
    rates.into_iter().fold(0.0, f64::max)
}

/// Measures the checksums.
pub fn checksums(effort: Effort, memory: &[u8]) -> Checksums {
    const HOT_BYTES: usize = 64 << 10;
    let hot = &memory[..HOT_BYTES];
    let mut pieces = memory.chunks_exact(PIECE_BYTES).cycle();
    let mut next = || pieces.next().unwrap_or(hot);
    let crc32 =
        |bytes: &[u8]| bytes.chunks(ec_core::geometry::BLOCK_BYTES).fold(0, |sum, block| sum ^ crc32fast::hash(block));
    Checksums {
        crc32_hot: effort.rate(HOT_BYTES, || crc32(black_box(hot))),
        crc32_cold: effort.rate(PIECE_BYTES, || crc32(next())),
        blake3_hot: effort.rate(HOT_BYTES, || blake3::hash(black_box(hot))),
        blake3_cold: effort.rate(PIECE_BYTES, || blake3::hash(next())),
    }
}

/// Adds all 64-byte lines: hardly more than reading them.
fn xor_words(bytes: &[u8], sums: &mut [u64; 8]) {
    for line in bytes.as_chunks::<64>().0 {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum ^= u64::from_le_bytes(*word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_from_the_measured_rates() {
        let bounds = Bounds { read: 20.0, write: 10.0, copy: 5.0, products: 200.0 };
        assert_eq!(bounds.dense(1.0, 4), 50.0);
        assert_eq!(bounds.dense(0.5, 1), 400.0);
        assert_eq!(bounds.memory(1.0, 0.4), 20.0, "reading takes longer");
        assert_eq!(bounds.memory(1.0, 2.0), 5.0, "writing takes longer");
    }

    #[test]
    fn every_byte_is_read() {
        let mut bytes = vec![0; 4096];
        for at in 0..4096 {
            bytes[at] = 1;
            let mut sums = [0; 8];
            xor_words(&bytes, &mut sums);
            assert_ne!(sums, [0; 8], "byte {at}");
            bytes[at] = 0;
        }
    }
}
