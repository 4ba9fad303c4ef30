//! Encoding in one walk over memory: every byte is looked at while it is in cache.
//!
//! Encode, check, checksum, one after the other, read a stripe from memory three times. Here the stripe is gone through in
//! pieces that fit into a core's cache, and each piece is encoded, checked and handed to the caller before the next. Where a
//! stripe comes from memory, memory works while the caller does: between the shards of a piece the next piece is asked
//! for, and the parity of this one goes out.

use crate::buffer::StripeBuffers;
use crate::code::Code;
use crate::error::DecodeError;
use crate::kernel::{LINE_BYTES, Locality, Transform, fence, prefetch};
use crate::matrix::Matrix;
use crate::shard::SHARDS_MAX;
use crate::verify::{CheckRows, STRIP_BYTES, StripeCheck, VerifyError};
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Pieces for checksums of blocks: all shards' pieces stay in the second-level cache.
pub const BLOCK_PIECE_BYTES: usize = crate::geometry::BLOCK_BYTES;

/// Pieces for BLAKE3, which is at its full speed from 16 KiB on.
pub const HASH_PIECE_BYTES: usize = 16 << 10;

/// Parities up to which the parity of a piece waits in scratch rows until it is written past the caches: beyond, the rows
/// would push the piece out of the cache.
const SCRATCH_PARITIES_MAX: usize = 32;

/// Shorter steps than this cost more in calls than they save.
const CHECKED_BYTES_MIN: usize = 1024;

/// Codes of at most so many shards have tables of so many on the stack: one for all there can be is not filled at no cost.
pub(crate) const SHARDS_USUAL: usize = 32;

/// Encodes stripes of one code piece by piece, for callers that need every byte again at once. Can be shared by threads.
///
/// ```
/// use ec_core::{Code, Locality, StripeCheck, StripeEncoder, VerifyError, encode::BLOCK_PIECE_BYTES};
///
/// let code = Code::new(&"rs:2+1".parse()?)?;
/// let encoder = StripeEncoder::new(&code, BLOCK_PIECE_BYTES).checked(StripeCheck::at_speed(&code, 7));
/// let (data, mut parity) = ([[1u8; 10_000], [2; 10_000]], [0u8; 10_000]);
/// let mut sums = [0u64; 3];
/// encoder.encode(&data.each_ref().map(|shard| &shard[..]), &mut [&mut parity], Locality::Auto, |shard, _, piece| {
///     sums[shard] += piece.iter().map(|&byte| u64::from(byte)).sum::<u64>();
///     Ok::<(), VerifyError>(())
/// })?;
/// assert_eq!(sums[..2], [10_000, 20_000]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StripeEncoder {
    encoder: Transform,
    /// Copies one row of parity past the caches.
    copy: Transform,
    check: Option<StripeCheck>,
    piece_bytes: usize,
    /// Parity rows of a piece, one set for each thread that encodes.
    spare: Mutex<Vec<StripeBuffers>>,
}

impl StripeEncoder {
    /// Hands out pieces of `piece_bytes`, rounded up to whole blocks of 4 KiB: [`BLOCK_PIECE_BYTES`], [`HASH_PIECE_BYTES`].
    pub fn new(code: &Code, piece_bytes: usize) -> Self {
        Self {
            encoder: code.encoder().clone(),
            copy: Transform::of_shards(code.kernel(), &Matrix::identity(1)),
            check: None,
            piece_bytes: piece_bytes.div_ceil(BLOCK_PIECE_BYTES).max(1).saturating_mul(BLOCK_PIECE_BYTES),
            spare: Mutex::new(Vec::new()),
        }
    }

    /// Checks every byte before it is handed out. The check was made for the same code: one of another code refuses every
    /// stripe.
    #[must_use]
    pub fn checked(self, check: StripeCheck) -> Self {
        Self { check: Some(check), ..self }
    }

    /// Computes the parity shards from the data shards, as [`Code::encode_with`] does, and hands `visit` every piece of every
    /// shard, parity too, while it is in cache: position of the shard, offset of the piece in the shard, bytes. Pieces come in
    /// rising order of their offsets, and of the shards for one offset; the last may be short.
    ///
    /// # Errors
    /// [`VerifyError::Buffers`] with parity untouched and nothing visited; [`VerifyError::Mismatch`] and what `visit` returns
    /// end the walk, with parity written in part.
    pub fn encode<E: From<VerifyError>>(
        &self,
        data: &[&[u8]],
        parity: &mut [&mut [u8]],
        locality: Locality,
        visit: impl FnMut(usize, usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.encode_at(0, data, parity, locality, visit)
    }

    /// As [`StripeEncoder::encode`], for shards of which `first` bytes lie before these.
    pub(crate) fn encode_at<E: From<VerifyError>>(
        &self,
        first: usize,
        data: &[&[u8]],
        parity: &mut [&mut [u8]],
        locality: Locality,
        visit: impl FnMut(usize, usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let length = self.stripe_bytes(data, parity)?;
        let locality = locality.of_whole(length.saturating_mul(data.len() + parity.len()));
        if data.len() + parity.len() <= SHARDS_USUAL {
            self.walk::<SHARDS_USUAL, E>(first, data, parity, length, locality, visit)
        } else {
            self.walk::<SHARDS_MAX, E>(first, data, parity, length, locality, visit)
        }
    }

    /// The length of the shards, if they are one stripe of the code and of the check.
    pub(crate) fn stripe_bytes(&self, data: &[&[u8]], parity: &[&mut [u8]]) -> Result<usize, VerifyError> {
        let length = self.encoder.check(data, parity)?;
        if length == 0 {
            return Err(DecodeError::Empty { granularity: 1 }.into());
        }
        if let Some(check) = &self.check {
            check.counts(data.len(), parity.len())?;
        }
        Ok(length)
    }

    #[cfg(feature = "parallel")]
    pub(crate) fn piece_bytes(&self) -> usize {
        self.piece_bytes
    }

    fn walk<const N: usize, E: From<VerifyError>>(
        &self,
        first: usize,
        data: &[&[u8]],
        parity: &mut [&mut [u8]],
        length: usize,
        locality: Locality,
        mut visit: impl FnMut(usize, usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let streams = locality == Locality::Streaming;
        let mut scratch = if streams { self.scratch(length) } else { None };
        let _fence = scratch.is_some().then_some(FenceAtEnd);
        let mut checking = self.check.as_ref().map(|check| Checking::new(check, first, length));
        let (k, shards) = (data.len(), data.len() + parity.len());
        for start in (0..length).step_by(self.piece_bytes) {
            let range = start..length.min(start.saturating_add(self.piece_bytes));
            let ahead = range.end..length.min(range.end.saturating_add(self.piece_bytes));
            let mut pieces: [&[u8]; N] = [&[]; N];
            cut(&mut pieces, data.iter().copied(), range.clone());
            let Some(rows) = &mut scratch else {
                let own = parity.iter_mut().map(|bytes| &mut bytes[range.clone()]);
                self.piece::<N>(&mut pieces, own, start, locality, &mut checking)?;
                for (shard, piece) in pieces[..shards].iter().enumerate() {
                    if streams {
                        ask_for_share(data, &ahead, shard, shards);
                    }
                    visit(shard, start, piece)?;
                }
                continue;
            };
            let own = rows.iter_mut().map(|row| &mut row[..range.len()]);
            self.piece::<N>(&mut pieces, own, start, locality, &mut checking)?;
            let mut out = parity.iter_mut().map(|bytes| &mut bytes[range.clone()]).zip(&pieces[k..shards]);
            for (shard, piece) in pieces[..shards].iter().enumerate() {
                ask_for_share(data, &ahead, shard, shards);
                // A row now and then, so that all are spread over the shards.
                if shard * (shards - k) % shards < shards - k
                    && let Some((target, row)) = out.next()
                {
                    self.copy.apply_unfenced(&[row], &mut [target]).map_err(VerifyError::from)?;
                }
                visit(shard, start, piece)?;
            }
        }
        if let Some(rows) = scratch {
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(rows);
        }
        Ok(())
    }

    /// Encodes one piece, and checks it step by step. `pieces` are its data, and then its parity too.
    fn piece<'a, const N: usize>(
        &self,
        pieces: &mut [&'a [u8]; N],
        parity: impl Iterator<Item = &'a mut [u8]>,
        start: usize,
        locality: Locality,
        checking: &mut Option<Checking<'_>>,
    ) -> Result<(), VerifyError> {
        let (k, m) = (self.encoder.columns(), self.encoder.rows());
        let mut rows: [&mut [u8]; N] = empty();
        rows.iter_mut().zip(parity).for_each(|(row, bytes)| *row = bytes);
        if let Some(Checking { check, first, sample, rows: sums }) = checking {
            let length = rows.first().map_or(0, |row| row.len());
            for at in (0..length).step_by(checked_bytes(k + m)) {
                let range = at..length.min(at + checked_bytes(k + m));
                let (mut strips, mut targets): ([&[u8]; N], [&mut [u8]; N]) = ([&[]; N], empty());
                cut(&mut strips, pieces[..k].iter().copied(), range.clone());
                cut_mut(&mut targets, rows[..m].iter_mut().map(|row| &mut **row), range);
                self.encode_part(&strips[..k], &mut targets[..m], locality)?;
                strips[k..].iter_mut().zip(targets).for_each(|(strip, target)| *strip = target);
                check.strip(&strips[..k + m], start + at, sample, sums).map_err(|error| error.after(*first))?;
            }
        } else {
            self.encode_part(&pieces[..k], &mut rows[..m], locality)?;
        }
        pieces[k..].iter_mut().zip(rows).for_each(|(piece, row)| *piece = row);
        Ok(())
    }

    fn encode_part(&self, data: &[&[u8]], parity: &mut [&mut [u8]], locality: Locality) -> Result<(), DecodeError> {
        match locality {
            Locality::Streaming => self.encoder.apply_prefetching(data, parity),
            _ => self.encoder.apply_with(data, parity, Locality::Cached),
        }
    }

    /// Scratch rows for a piece of shards of `length` bytes, of an earlier stripe if there are any as long. None where parity is
    /// better written as it comes, or where there is no memory for them.
    fn scratch(&self, length: usize) -> Option<StripeBuffers> {
        let parities = self.encoder.rows();
        if parities > SCRATCH_PARITIES_MAX {
            return None;
        }
        let row_bytes = self.piece_bytes.min(length);
        let kept = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.filter(|rows| rows.shard_bytes() >= row_bytes).or_else(|| StripeBuffers::zeroed(parities, row_bytes).ok())
    }
}

/// Bytes of each of so many shards that are encoded and then checked: all of them stay in the first-level cache of 32 KiB, if
/// they are few enough.
fn checked_bytes(shards: usize) -> usize {
    const FIRST_LEVEL_BYTES: usize = 32 << 10;
    match FIRST_LEVEL_BYTES / shards.max(1) / CHECKED_BYTES_MIN * CHECKED_BYTES_MIN {
        0 => STRIP_BYTES,
        bytes => bytes.min(STRIP_BYTES),
    }
}

/// Orders what went past the caches, also where a walk ends with an error: what another thread then writes there must come after.
struct FenceAtEnd;

impl Drop for FenceAtEnd {
    fn drop(&mut self) {
        fence();
    }
}

/// Asks for one of `shares` equal shares of a range of all rows: as many lines at a time as can be under way.
fn ask_for_share(rows: &[&[u8]], range: &Range<usize>, share: usize, shares: usize) {
    let per_row = range.len().div_ceil(LINE_BYTES);
    let lines = rows.len() * per_row;
    let end = (share + 1) * lines / shares;
    let mut line = share * lines / shares;
    while line < end {
        let (row, at) = (line / per_row, line % per_row);
        let count = (end - line).min(per_row - at);
        let first = range.start + at * LINE_BYTES;
        prefetch(&rows[row][first..range.end.min(first + count * LINE_BYTES)]);
        line += count;
    }
}

/// A check and what it needs for one stripe.
struct Checking<'a> {
    check: &'a StripeCheck,
    first: usize,
    sample: Range<usize>,
    rows: CheckRows,
}

impl<'a> Checking<'a> {
    fn new(check: &'a StripeCheck, first: usize, length: usize) -> Self {
        Self { check, first, sample: check.sample(length), rows: CheckRows::new() }
    }
}

pub(crate) fn empty<'a, const N: usize>() -> [&'a mut [u8]; N] {
    std::array::from_fn(|_| <&mut [u8]>::default())
}

/// The same range of each row.
pub(crate) fn cut<'a>(parts: &mut [&'a [u8]], rows: impl Iterator<Item = &'a [u8]>, range: Range<usize>) {
    for (part, row) in parts.iter_mut().zip(rows) {
        *part = &row[range.clone()];
    }
}

/// The same range of each row, to write to.
fn cut_mut<'a>(parts: &mut [&'a mut [u8]], rows: impl Iterator<Item = &'a mut [u8]>, range: Range<usize>) {
    for (part, row) in parts.iter_mut().zip(rows) {
        *part = &mut row[range.clone()];
    }
}

impl fmt::Debug for StripeEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeEncoder")
            .field("encoder", &self.encoder)
            .field("check", &self.check)
            .field("piece_bytes", &self.piece_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_checked_at_a_time_fits_into_the_first_level_cache_or_is_a_strip() {
        for (shards, bytes) in
            [(2, 4096), (8, 4096), (9, 3072), (14, 2048), (16, 2048), (32, 1024), (33, 4096), (256, 4096)]
        {
            assert_eq!(checked_bytes(shards), bytes, "{shards} shards");
        }
    }

    #[test]
    fn scratch_rows_are_no_longer_than_the_shards_or_a_piece_and_serve_again() {
        let code = Code::new(&"rs:3+2".parse().unwrap()).unwrap();
        let encoder = StripeEncoder::new(&code, 1 << 30);
        let encode = |length: usize| {
            let (data, mut parity) = (vec![vec![7; length]; 3], vec![vec![0; length]; 2]);
            let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
            let shown = |_: usize, _: usize, _: &[u8]| Ok::<(), VerifyError>(());
            encoder.encode(&data, &mut parity, Locality::Streaming, shown).unwrap();
            let rows = encoder.spare.lock().unwrap();
            rows.iter().map(|rows| (rows.shards(), rows.shard_bytes())).collect::<Vec<_>>()
        };
        assert_eq!(encode(5_000), [(2, 5_000)]);
        assert_eq!(encode(20_000), [(2, 20_000)]);
        assert_eq!(encode(5_000), [(2, 20_000)]);
        let small = StripeEncoder::new(&code, BLOCK_PIECE_BYTES);
        assert_eq!(small.scratch(1 << 20).map(|rows| rows.shard_bytes()), Some(BLOCK_PIECE_BYTES));
    }
}
