//! The same work by the threads of a rayon pool: the caller's where the call is made inside `pool.install`, else rayon's own.
//!
//! A stripe is cut into chunks of its shards, and idle threads take chunks from busy ones: a core that is slower, or busy with
//! something else, holds nobody up. Bytes and errors are those of one thread.

use crate::code::Code;
use crate::encode::StripeEncoder;
use crate::error::DecodeError;
use crate::geometry::BLOCK_BYTES;
use crate::kernel::Locality;
use crate::plan::RepairPlan;
use crate::shard::ShardIndex;
use crate::verify::VerifyError;

/// Least bytes of all shards in a chunk: some ten microseconds of work, against one or less to hand it over.
const CHUNK_OF_ALL_SHARDS_BYTES: usize = 512 << 10;

/// Bytes of each shard in a chunk, whole blocks.
fn chunk_bytes(shards: usize) -> usize {
    (CHUNK_OF_ALL_SHARDS_BYTES / shards.max(1)).next_multiple_of(BLOCK_BYTES)
}

/// Halves the outputs, which are `outputs[i]` from `start` on of `length` bytes in all, until they are chunks.
fn over_chunks<E: Send>(
    outputs: Vec<&mut [u8]>,
    start: usize,
    length: usize,
    chunk: usize,
    job: &(impl Fn(usize, usize, Vec<&mut [u8]>) -> Result<(), E> + Sync),
) -> Result<(), E> {
    if length <= chunk {
        return job(start, length, outputs);
    }
    // Whole chunks to the left, so that every chunk but the last is whole.
    let left = length.div_ceil(chunk).div_ceil(2) * chunk;
    let (head, tail): (Vec<_>, Vec<_>) = outputs.into_iter().map(|bytes| bytes.split_at_mut(left)).unzip();
    let (first, second) = rayon::join(
        || over_chunks(head, start, left, chunk, job),
        || over_chunks(tail, start + left, length - left, chunk, job),
    );
    first.and(second)
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
        let length = self.encoder().check(data, parity)?;
        let n = data.len() + parity.len();
        let locality = locality.of_whole(length * n);
        let outputs = parity.iter_mut().map(|bytes| &mut **bytes).collect();
        over_chunks(outputs, 0, length, chunk_bytes(n), &|start, bytes, mut outputs| {
            let inputs: Vec<&[u8]> = data.iter().map(|shard| &shard[start..start + bytes]).collect();
            self.encode_with(&inputs, &mut outputs, locality)
        })
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
        let n = data.len() + parity.len();
        let locality = locality.of_whole(length * n);
        let chunk = chunk_bytes(n).next_multiple_of(self.piece_bytes());
        let outputs = parity.iter_mut().map(|bytes| &mut **bytes).collect();
        over_chunks(outputs, 0, length, chunk, &|start, bytes, mut outputs| {
            let inputs: Vec<&[u8]> = data.iter().map(|shard| &shard[start..start + bytes]).collect();
            self.encode_at(start, &inputs, &mut outputs, locality, |shard, offset, piece| {
                visit(shard, start + offset, piece)
            })
        })
    }
}

impl RepairPlan {
    /// As [`RepairPlan::run`], by several threads.
    ///
    /// # Errors
    /// As [`RepairPlan::run`].
    pub fn run_parallel(
        &self,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), DecodeError> {
        let n = inputs.len() + outputs.len();
        let length = outputs.first().map_or(0, |(_, bytes)| bytes.len());
        let equal = inputs.iter().all(|(_, bytes)| bytes.len() == length)
            && outputs.iter().all(|(_, bytes)| bytes.len() == length);
        if !equal {
            // An error, or an input that is not read: either is for one thread to tell.
            return self.run(inputs, outputs);
        }
        // A plan that refuses these buffers refuses them empty, too, before any thread writes.
        let none: Vec<(ShardIndex, &[u8])> = inputs.iter().map(|(index, _)| (*index, &[][..])).collect();
        let mut nothing: Vec<(ShardIndex, &mut [u8])> =
            outputs.iter().map(|(index, _)| (*index, Default::default())).collect();
        match self.run(&none, &mut nothing) {
            Ok(()) | Err(DecodeError::Empty { .. }) if length > 0 => {}
            refused => return refused,
        }
        let (rebuilt, outputs): (Vec<ShardIndex>, Vec<&mut [u8]>) =
            outputs.iter_mut().map(|(index, bytes)| (*index, &mut **bytes)).unzip();
        over_chunks(outputs, 0, length, chunk_bytes(n), &|start, bytes, outputs| {
            let inputs: Vec<(ShardIndex, &[u8])> =
                inputs.iter().map(|(index, shard)| (*index, &shard[start..start + bytes])).collect();
            let mut outputs: Vec<(ShardIndex, &mut [u8])> = rebuilt.iter().copied().zip(outputs).collect();
            self.run(&inputs, &mut outputs)
        })
    }
}
