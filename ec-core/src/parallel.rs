//! The same work by the threads of a rayon pool: the caller's where the call is made inside `pool.install`, else rayon's own.
//!
//! A stripe is cut into chunks of its shards, and idle threads take chunks from busy ones: a core that is slower, or busy with
//! something else, holds nobody up. Bytes and errors are those of one thread.

use crate::code::Code;
use crate::encode::{SHARDS_USUAL, StripeEncoder, cut, empty};
use crate::error::DecodeError;
use crate::geometry::BLOCK_BYTES;
use crate::kernel::{Locality, Transform};
use crate::plan::RepairPlan;
use crate::shard::{SHARDS_MAX, ShardIndex};
use crate::verify::VerifyError;

/// Least bytes of all shards in a chunk: some ten microseconds of work, against one or less to hand it over.
const CHUNK_OF_ALL_SHARDS_BYTES: usize = 512 << 10;

/// Bytes of each shard in a chunk, whole blocks.
fn chunk_bytes(shards: usize) -> usize {
    (CHUNK_OF_ALL_SHARDS_BYTES / shards.max(1)).next_multiple_of(BLOCK_BYTES)
}

/// Shards of which each is a range at a time, on the stack: at most `N` outputs, and any inputs.
struct Chunk<'a, const N: usize> {
    outputs: [&'a mut [u8]; N],
    start: usize,
    length: usize,
}

impl<'a, const N: usize> Chunk<'a, N> {
    fn whole(outputs: &'a mut [&mut [u8]], length: usize) -> Self {
        let mut own = empty::<N>();
        own.iter_mut().zip(outputs).for_each(|(own, output)| *own = output);
        Self { outputs: own, start: 0, length }
    }

    /// The first `left` bytes, and the others. Places without an output stay empty.
    fn split(self, left: usize) -> (Self, Self) {
        let (mut heads, mut tails) = (empty::<N>(), empty::<N>());
        for (output, (head, tail)) in self.outputs.into_iter().zip(heads.iter_mut().zip(&mut tails)) {
            (*head, *tail) = output.split_at_mut(left.min(output.len()));
        }
        let tail = Self { outputs: tails, start: self.start + left, length: self.length - left };
        (Self { outputs: heads, start: self.start, length: left }, tail)
    }

    /// Halves itself until each part is at most `chunk` bytes, and has `job` do those.
    fn over<E: Send>(mut self, chunk: usize, job: &(impl Fn(&mut Self) -> Result<(), E> + Sync)) -> Result<(), E> {
        if self.length <= chunk {
            return job(&mut self);
        }
        // Whole chunks to the left, so that every chunk but the last is whole.
        let left = self.length.div_ceil(chunk).div_ceil(2) * chunk;
        let (head, tail) = self.split(left);
        let (first, second) = rayon::join(|| head.over(chunk, job), || tail.over(chunk, job));
        first.and(second)
    }

    /// The same range of other shards.
    fn cut<'b>(&self, shards: &[&'b [u8]]) -> [&'b [u8]; N] {
        let mut parts: [&[u8]; N] = [&[]; N];
        cut(&mut parts, shards.iter().copied(), self.start..self.start + self.length);
        parts
    }
}

impl Transform {
    /// As [`Transform::apply_to_shards`], by several threads. For the shards of a code: at most [`SHARDS_MAX`] of either.
    fn apply_parallel(
        &self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        locality: Locality,
    ) -> Result<(), DecodeError> {
        let length = self.check(inputs, outputs)?;
        if inputs.len().max(outputs.len()) <= SHARDS_USUAL {
            self.apply_chunks::<SHARDS_USUAL>(inputs, outputs, length, locality)
        } else {
            self.apply_chunks::<SHARDS_MAX>(inputs, outputs, length, locality)
        }
    }

    fn apply_chunks<const N: usize>(
        &self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        length: usize,
        locality: Locality,
    ) -> Result<(), DecodeError> {
        let (k, m) = (inputs.len(), outputs.len());
        // Of the whole: a chunk alone is never so long that it would be taken for a stripe that comes from memory.
        let locality = locality.of_whole(length.saturating_mul(k + m));
        Chunk::<N>::whole(outputs, length).over(chunk_bytes(k + m), &|chunk| {
            let inputs = chunk.cut(inputs);
            self.apply_to_shards(&inputs[..k], &mut chunk.outputs[..m], locality)
        })
    }
}

impl Code {
    /// As [`Code::encode_with`], by several threads.
    ///
    /// # Errors
    /// As [`Code::encode`].
    pub fn encode_parallel(
        &self,
        data: &[&[u8]],
        parity: &mut [&mut [u8]],
        locality: Locality,
    ) -> Result<(), DecodeError> {
        self.encoder().apply_parallel(data, parity, locality)
    }
}

impl StripeEncoder {
    /// As [`StripeEncoder::encode`], by several threads: pieces are shown by any of them and in any order.
    ///
    /// # Errors
    /// As [`StripeEncoder::encode`]; of several the one nearest to the beginning of those that were met.
    pub fn encode_parallel<E: From<VerifyError> + Send>(
        &self,
        data: &[&[u8]],
        parity: &mut [&mut [u8]],
        locality: Locality,
        visit: impl Fn(usize, usize, &[u8]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let length = self.stripe_bytes(data, parity)?;
        if data.len().max(parity.len()) <= SHARDS_USUAL {
            self.encode_chunks::<SHARDS_USUAL, E>(data, parity, length, locality, visit)
        } else {
            self.encode_chunks::<SHARDS_MAX, E>(data, parity, length, locality, visit)
        }
    }

    fn encode_chunks<const N: usize, E: From<VerifyError> + Send>(
        &self,
        data: &[&[u8]],
        parity: &mut [&mut [u8]],
        length: usize,
        locality: Locality,
        visit: impl Fn(usize, usize, &[u8]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let (k, m) = (data.len(), parity.len());
        let locality = locality.of_whole(length.saturating_mul(k + m));
        let chunk_bytes = chunk_bytes(k + m).next_multiple_of(self.piece_bytes());
        Chunk::<N>::whole(parity, length).over(chunk_bytes, &|chunk| {
            let (start, data) = (chunk.start, chunk.cut(data));
            self.encode_at(start, &data[..k], &mut chunk.outputs[..m], locality, |shard, offset, piece| {
                visit(shard, start + offset, piece)
            })
        })
    }
}

impl RepairPlan {
    /// As [`RepairPlan::run_with`], by several threads.
    ///
    /// # Errors
    /// As [`RepairPlan::run`].
    pub fn run_parallel(
        &self,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
        locality: Locality,
    ) -> Result<(), DecodeError> {
        self.run_by(inputs, outputs, |transform, sources, targets| transform.apply_parallel(sources, targets, locality))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::StripeBuffers;
    use crate::kernel::{Kernel, tests::streamed};
    use crate::shard::ShardSet;

    /// A chunk is never so long that it would be streamed for itself.
    #[test]
    fn the_whole_decides_whether_chunks_are_written_past_the_caches() {
        let kernel = Kernel::available()[0];
        if kernel == Kernel::portable() {
            return;
        }
        let code = Code::with_kernel(&"rs:4+2".parse().unwrap(), kernel).unwrap();
        let lost: ShardSet = [0, 4].map(ShardIndex::new).into_iter().collect();
        let plan = code.plan(&lost, &lost.complement(6)).unwrap();
        // One thread, so that all that is counted is counted in one place.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        for (length, locality, streams) in [
            (2 << 20, Locality::Auto, true),
            (1 << 20, Locality::Auto, false),
            (2 << 20, Locality::Cached, false),
            (1 << 20, Locality::Streaming, true),
        ] {
            let mut shards = StripeBuffers::zeroed(6, length).unwrap();
            let mut shards: Vec<&mut [u8]> = shards.iter_mut().collect();
            let (data, parity) = shards.split_at_mut(4);
            let data: Vec<&[u8]> = data.iter().map(|shard| &**shard).collect();
            let encoded = pool.install(|| streamed(|| code.encode_parallel(&data, parity, locality).unwrap()));
            assert_eq!(encoded > 1, streams, "encode, {length} bytes, {locality:?}");

            let (reads, writes): (Vec<_>, Vec<_>) =
                (0..).map(ShardIndex::new).zip(&mut shards).partition(|(index, _)| plan.reads().contains(index));
            let inputs: Vec<(ShardIndex, &[u8])> = reads.into_iter().map(|(index, bytes)| (index, &**bytes)).collect();
            let mut outputs: Vec<(ShardIndex, &mut [u8])> =
                writes.into_iter().map(|(index, bytes)| (index, &mut **bytes)).collect();
            outputs.retain(|(index, _)| lost.contains(*index));
            let run = || streamed(|| plan.run_parallel(&inputs, &mut outputs, locality).unwrap());
            assert_eq!(pool.install(run) > 1, streams, "repair, {length} bytes, {locality:?}");
        }
    }
}
