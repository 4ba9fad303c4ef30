//! A second path to the truth of parity: random linear checks (Freivalds 1977).
//!
//! A sum of all parities, each times a random weight, has to equal the same sum computed from the data. The weights and the
//! coefficients of that sum come from the tables of `gf`, never from a kernel. Who multiplies the bytes is a choice:
//!
//! - [`StripeCheck::new`]: another kernel than encoded them, one that multiplies by other means. For where disks or networks
//!   set the pace.
//! - [`StripeCheck::at_speed`]: the kernel that encoded them, with coefficients it did not encode with; and a piece of every
//!   stripe by the other kernel. For where memory sets the pace.
//!
//! What a faulty multiplier would have to do to pass either is in `docs/design/0006-checks.md`.

use crate::code::{Code, shard, splitmix};
use crate::error::DecodeError;
use crate::kernel::{Locality, Transform};
use crate::matrix::Matrix;
use crate::shard::SHARDS_MAX;
use std::ops::Range;

/// Checks per stripe. One random check misses a byte column in which two or more parities are wrong once in 255, two once in
/// 65,025; a column with one wrong parity is never missed.
pub const CHECKS: usize = 2;

/// Bytes of each shard checked at a time: the two scratch rows stay in the first-level cache.
pub(crate) const STRIP_BYTES: usize = 4096;

/// One byte in so many is also checked by another kernel, where the rest is not, up to a strip: of shards beyond 256 KiB it is
/// always [`STRIP_BYTES`], since it lies within one strip. That kernel takes three to four times as long (`fused_speed`), so a
/// sample costs at most about a twentieth of the check.
const SAMPLE_ONE_IN: usize = 64;

/// Shortest sample: below, a call costs more than its bytes.
const SAMPLE_BYTES_MIN: usize = 64;

/// Why a stripe was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Parity and data contradict each other. Encode again, on another core if it happens again.
    #[error("parity does not fit the data near byte {offset} of the fragments: the encoding is wrong")]
    Mismatch {
        /// First byte of the strip in which a check failed.
        offset: usize,
    },
    /// The buffers are not one stripe of this code.
    #[error(transparent)]
    Buffers(#[from] DecodeError),
}

impl VerifyError {
    /// The same of shards of which `first` bytes lie before those that were checked.
    pub(crate) fn after(self, first: usize) -> Self {
        match self {
            Self::Mismatch { offset } => Self::Mismatch { offset: first + offset },
            Self::Buffers(_) => self,
        }
    }
}

/// Two random combinations of the parity equations of a code.
#[derive(Clone, Debug)]
pub struct StripeCheck {
    checks: Transform,
    /// The same by another kernel, for a piece of every stripe, where `checks` is by the kernel that encodes.
    sample: Option<Transform>,
    data_shards: usize,
    parity_shards: usize,
    seed: u64,
}

/// Room for the sums of one strip.
pub(crate) struct CheckRows([[u8; STRIP_BYTES]; CHECKS]);

impl CheckRows {
    pub(crate) fn new() -> Self {
        Self([[0; STRIP_BYTES]; CHECKS])
    }
}

impl StripeCheck {
    /// Checks by another kernel than encodes. Draws the combinations from `seed`. A caller takes a fresh one for each extent,
    /// so that an error that cancels in one does not cancel in all.
    pub fn new(code: &Code, seed: u64) -> Self {
        let checks = Transform::of_shards(code.kernel().another(), &combinations(code, seed));
        Self { checks, sample: None, data_shards: code.k(), parity_shards: code.m(), seed }
    }

    /// Checks by the kernel that encodes, with other coefficients, and a piece of every stripe as [`StripeCheck::new`] does.
    /// Which piece depends on `seed` and the length of the stripe.
    pub fn at_speed(code: &Code, seed: u64) -> Self {
        let rows = combinations(code, seed);
        let sample = Some(Transform::of_shards(code.kernel().another(), &rows));
        Self {
            checks: Transform::of_shards(code.kernel(), &rows),
            sample,
            data_shards: code.k(),
            parity_shards: code.m(),
            seed,
        }
    }

    /// Checks one stripe: `k` data shards, then the parities, all equally long.
    ///
    /// # Errors
    /// [`VerifyError::Mismatch`] where a check does not come out as zero, [`VerifyError::Buffers`].
    pub fn run(&self, data: &[&[u8]], parity: &[&[u8]]) -> Result<(), VerifyError> {
        let length = self.stripe_bytes(data, parity)?;
        // Most codes have few shards, and a table for the most there can be is not filled at no cost.
        if data.len() + parity.len() <= 32 {
            self.run_in::<32>(data, parity, length)
        } else {
            self.run_in::<SHARDS_MAX>(data, parity, length)
        }
    }

    /// Whether the stripe has as many shards as the code of this check.
    pub(crate) fn counts(&self, data: usize, parity: usize) -> Result<(), DecodeError> {
        match [(self.data_shards, data), (self.parity_shards, parity)].iter().find(|(own, found)| own != found) {
            Some(&(expected, found)) => Err(DecodeError::WrongCount { expected, found }),
            None => Ok(()),
        }
    }

    /// The length of the shards, if they are one stripe.
    fn stripe_bytes(&self, data: &[&[u8]], parity: &[&[u8]]) -> Result<usize, DecodeError> {
        self.counts(data.len(), parity.len())?;
        let expected = data.first().map_or(0, |bytes| bytes.len());
        match data.iter().chain(parity).position(|bytes| bytes.len() != expected) {
            None => Ok(expected),
            Some(at) => {
                let found = data.iter().chain(parity).nth(at).map_or(0, |bytes| bytes.len());
                Err(DecodeError::LengthMismatch { index: shard(at), expected, found })
            }
        }
    }

    fn run_in<const N: usize>(&self, data: &[&[u8]], parity: &[&[u8]], length: usize) -> Result<(), VerifyError> {
        let mut shards: [&[u8]; N] = [&[]; N];
        for (slot, bytes) in shards.iter_mut().zip(data.iter().chain(parity)) {
            *slot = bytes;
        }
        let (sample, mut rows) = (self.sample(length), CheckRows::new());
        self.piece::<N>(&shards[..data.len() + parity.len()], 0, &sample, &mut rows)
    }

    /// What of a stripe is checked by another kernel where the rest is not: it lies within one strip.
    pub(crate) fn sample(&self, length: usize) -> Range<usize> {
        if self.sample.is_none() || length == 0 {
            return 0..0;
        }
        let mut state = self.seed ^ length as u64;
        let mut draw = |choices: usize| usize::try_from(splitmix(&mut state) % choices as u64).unwrap_or(0);
        let start = draw(length.div_ceil(STRIP_BYTES)) * STRIP_BYTES;
        let strip = STRIP_BYTES.min(length - start);
        let bytes = (length / SAMPLE_ONE_IN).max(SAMPLE_BYTES_MIN).min(strip);
        let first = start + draw(strip - bytes + 1);
        first..first + bytes
    }

    /// Checks a piece of all shards, strip by strip; as [`StripeCheck::strip`].
    pub(crate) fn piece<const N: usize>(
        &self,
        shards: &[&[u8]],
        start: usize,
        sample: &Range<usize>,
        rows: &mut CheckRows,
    ) -> Result<(), VerifyError> {
        let length = shards.first().map_or(0, |piece| piece.len());
        if length <= STRIP_BYTES {
            return self.strip(shards, start, sample, rows);
        }
        let mut strips: [&[u8]; N] = [&[]; N];
        for at in (0..length).step_by(STRIP_BYTES) {
            let range = at..length.min(at + STRIP_BYTES);
            for (strip, piece) in strips.iter_mut().zip(shards) {
                *strip = &piece[range.clone()];
            }
            self.strip(&strips[..shards.len()], start + at, sample, rows)?;
        }
        Ok(())
    }

    /// Checks one strip of all shards, data first, which begins at `start` of the stripe and has at most [`STRIP_BYTES`];
    /// `sample` is what [`StripeCheck::sample`] gave for the stripe.
    pub(crate) fn strip(
        &self,
        strips: &[&[u8]],
        start: usize,
        sample: &Range<usize>,
        rows: &mut CheckRows,
    ) -> Result<(), VerifyError> {
        let bytes = strips.first().map_or(0, |strip| strip.len());
        let mut fits = holds(&self.checks, strips, bytes, rows)?;
        let overlap = sample.start.max(start)..sample.end.min(start + bytes);
        if let Some(other) = &self.sample
            && !overlap.is_empty()
        {
            let range = overlap.start - start..overlap.end - start;
            fits &= sample_holds(other, strips, range, rows)?;
        }
        if fits { Ok(()) } else { Err(VerifyError::Mismatch { offset: start }) }
    }
}

/// The checks as rows over all shards, data first.
fn combinations(code: &Code, seed: u64) -> Matrix {
    let mut state = seed;
    let (n, k) = (code.n(), code.k());
    let weights = Matrix::from_fn(CHECKS, code.m(), |_, _| {
        // Nonzero, so that no parity is left out.
        (splitmix(&mut state) % 255) as u8 + 1
    });
    let parity_rows = code.generator().select_rows(&(k..n).collect::<Vec<_>>());
    let from_data = weights.product(&parity_rows);
    Matrix::from_fn(
        CHECKS,
        n,
        |row, column| {
            if column < k { from_data.get(row, column) } else { weights.get(row, column - k) }
        },
    )
}

fn holds(
    checks: &Transform,
    strips: &[&[u8]],
    bytes: usize,
    CheckRows(rows): &mut CheckRows,
) -> Result<bool, DecodeError> {
    let [first, second] = rows;
    let (first, second) = (&mut first[..bytes], &mut second[..bytes]);
    checks.apply_with(strips, &mut [&mut *first, &mut *second], Locality::Cached)?;
    // Beside a row of zeros: the system's comparison of memory uses wider registers than this crate is compiled for.
    static ZEROS: [u8; STRIP_BYTES] = [0; STRIP_BYTES];
    Ok(*first == ZEROS[..bytes] && *second == ZEROS[..bytes])
}

/// Once a stripe: kept out of the loop over strips.
#[cold]
#[inline(never)]
fn sample_holds(
    checks: &Transform,
    strips: &[&[u8]],
    range: Range<usize>,
    rows: &mut CheckRows,
) -> Result<bool, DecodeError> {
    let mut pieces: [&[u8]; SHARDS_MAX] = [&[]; SHARDS_MAX];
    for (piece, strip) in pieces.iter_mut().zip(strips) {
        *piece = &strip[range.clone()];
    }
    holds(checks, &pieces[..strips.len()], range.len(), rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripe(code: &Code, bytes: usize) -> Vec<Vec<u8>> {
        let mut shards: Vec<Vec<u8>> =
            (0..code.n()).map(|shard| (0..bytes).map(|at| ((at + 7 * shard) % 251) as u8).collect()).collect();
        let (data, parity) = shards.split_at_mut(code.k());
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        code.encode(&data, &mut parity).unwrap();
        shards
    }

    /// What both ways say, which is the same.
    fn run(code: &Code, seed: u64, shards: &[Vec<u8>]) -> Result<(), VerifyError> {
        let refs: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
        let found = StripeCheck::new(code, seed).run(&refs[..code.k()], &refs[code.k()..]);
        assert_eq!(found, StripeCheck::at_speed(code, seed).run(&refs[..code.k()], &refs[code.k()..]));
        found
    }

    #[test]
    fn the_sample_lies_within_one_strip_of_the_stripe_and_not_always_in_the_same() {
        let code = Code::new(&"rs:4+2".parse().unwrap()).unwrap();
        assert_eq!(StripeCheck::new(&code, 1).sample(5_000), 0..0);
        for length in [0, 1, 63, 64, 65, 4_095, 4_096, 4_097, 10_000, 65_536, 1 << 20, (1 << 20) + 1] {
            let mut starts = std::collections::BTreeSet::new();
            for seed in 0..200 {
                let sample = StripeCheck::at_speed(&code, seed).sample(length);
                assert!(sample.end <= length && sample.is_empty() == (length == 0), "{sample:?} of {length}");
                assert!(sample.is_empty() || sample.start / STRIP_BYTES == (sample.end - 1) / STRIP_BYTES);
                starts.insert(sample.start);
            }
            assert!(length < 4_096 || starts.len() > 50, "{} places in {length}", starts.len());
        }
    }

    #[test]
    fn no_parity_is_left_out_of_a_check() {
        let code = Code::new(&"rs:10+4".parse().unwrap()).unwrap();
        // 8,000 weights: one that were zero once in 256 would be met.
        for seed in 0..1_000 {
            let rows = combinations(&code, seed);
            assert!((0..CHECKS).all(|row| !rows.row(row)[code.k()..].contains(&0)), "seed {seed}");
        }
    }

    #[test]
    fn the_sample_is_checked_by_another_kernel() {
        let code = Code::new(&"rs:6+3".parse().unwrap()).unwrap();
        let mut check = StripeCheck::at_speed(&code, 5);
        let sample = check.sample.take().unwrap();
        assert_eq!((sample.kernel(), check.checks.kernel()), (code.kernel().another(), code.kernel()));
        // With equations that are wrong for the other kernel alone, the strip of the sample is refused and no other.
        check.sample = Some(Transform::of_shards(sample.kernel(), &Matrix::from_fn(CHECKS, code.n(), |_, _| 1)));
        let shards = stripe(&code, 20_000);
        let refs: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
        let offset = check.sample(20_000).start / STRIP_BYTES * STRIP_BYTES;
        assert_eq!(check.run(&refs[..6], &refs[6..]), Err(VerifyError::Mismatch { offset }));
    }

    #[test]
    fn every_single_wrong_byte_is_found() {
        for spec in ["rs:10+4", "rs:3+1", "rs:5+2", "rs:6+3", "lrc:12,2,2", "replicate:3", "rs:40+9"] {
            let code = Code::new(&spec.parse().unwrap()).unwrap();
            let mut shards = stripe(&code, 5_000);
            assert_eq!(run(&code, 7, &shards), Ok(()), "{spec}");
            for shard in 0..code.n() {
                for at in [0, 4_095, 4_096, 4_999] {
                    shards[shard][at] ^= 1 << (at % 8);
                    let offset = at / STRIP_BYTES * STRIP_BYTES;
                    assert_eq!(
                        run(&code, at as u64, &shards),
                        Err(VerifyError::Mismatch { offset }),
                        "{spec} {shard} {at}"
                    );
                    shards[shard][at] ^= 1 << (at % 8);
                }
            }
        }
    }

    #[test]
    fn several_wrong_parities_in_one_column_are_missed_at_most_as_often_as_said() {
        let code = Code::new(&"rs:10+4".parse().unwrap()).unwrap();
        let mut shards = stripe(&code, 64);
        for (at, parity) in shards[10..].iter_mut().enumerate() {
            parity[5] ^= at as u8 + 1;
        }
        // 65,025 to 1 against each; two misses in 2,000 would be a one-in-a-thousand event.
        let missed = (0..2_000).filter(|&seed| run(&code, seed, &shards).is_ok()).count();
        assert!(missed <= 1, "{missed} of 2000 missed");
    }

    #[test]
    fn buffers_that_are_no_stripe_are_refused() {
        let code = Code::new(&"rs:3+2".parse().unwrap()).unwrap();
        let mut shards = stripe(&code, 100);
        shards[4].pop();
        assert!(matches!(run(&code, 1, &shards), Err(VerifyError::Buffers(DecodeError::LengthMismatch { .. }))));
        let refs: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
        let check = StripeCheck::new(&code, 1);
        assert!(matches!(
            check.run(&refs[..2], &refs[2..4]),
            Err(VerifyError::Buffers(DecodeError::WrongCount { .. }))
        ));
    }
}
