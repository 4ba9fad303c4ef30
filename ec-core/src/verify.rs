//! A second path to the truth of parity: random linear checks (Freivalds 1977), computed by another kernel than encoded it.

use crate::code::{Code, splitmix};
use crate::error::DecodeError;
use crate::kernel::Transform;
use crate::matrix::Matrix;

/// Checks per stripe. One random check misses a byte column in which two or more parities are wrong once in 255, two once in
/// 65,025; a column with one wrong parity is never missed.
pub const CHECKS: usize = 2;

/// Bytes checked at a time: the two scratch rows stay in the first-level cache.
const STRIP_BYTES: usize = 4096;

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

/// Two random combinations of the parity equations of a code.
#[derive(Clone, Debug)]
pub struct StripeCheck {
    checks: Transform,
    data_shards: usize,
}

impl StripeCheck {
    /// Draws the combinations from `seed`. A caller takes a fresh one for each extent, so that an error that cancels in one
    /// does not cancel in all.
    pub fn new(code: &Code, seed: u64) -> Self {
        let mut state = seed;
        let (n, k) = (code.n(), code.k());
        let weights = Matrix::from_fn(CHECKS, code.m(), |_, _| {
            // Nonzero, so that no parity is left out.
            (splitmix(&mut state) % 255) as u8 + 1
        });
        let parity_rows = code.generator().select_rows(&(k..n).collect::<Vec<_>>());
        let from_data = weights.product(&parity_rows);
        let rows = Matrix::from_fn(CHECKS, n, |row, column| {
            if column < k { from_data.get(row, column) } else { weights.get(row, column - k) }
        });
        Self { checks: Transform::new(code.kernel().another(), &rows), data_shards: k }
    }

    /// Checks one stripe: `k` data shards, then the parities, all equally long.
    ///
    /// # Errors
    /// [`VerifyError::Mismatch`] where a check does not come out as zero, [`VerifyError::Buffers`].
    pub fn run(&self, data: &[&[u8]], parity: &[&[u8]]) -> Result<(), VerifyError> {
        if data.len() != self.data_shards {
            return Err(DecodeError::WrongCount { expected: self.data_shards, found: data.len() }.into());
        }
        let length = data.first().map_or(0, |shard| shard.len());
        for (at, shard) in data.iter().chain(parity).enumerate() {
            if shard.len() != length {
                let index = crate::code::shard(at);
                return Err(DecodeError::LengthMismatch { index, expected: length, found: shard.len() }.into());
            }
        }
        let mut scratch = [[0u8; STRIP_BYTES]; CHECKS];
        let mut strips: Vec<&[u8]> = Vec::with_capacity(data.len() + parity.len());
        for offset in (0..length).step_by(STRIP_BYTES) {
            let bytes = STRIP_BYTES.min(length - offset);
            strips.clear();
            strips.extend(data.iter().chain(parity).map(|shard| &shard[offset..offset + bytes]));
            let [first, second] = &mut scratch;
            self.checks.apply(&strips, &mut [&mut first[..bytes], &mut second[..bytes]])?;
            if first[..bytes].iter().chain(&second[..bytes]).fold(0, |any, &byte| any | byte) != 0 {
                return Err(VerifyError::Mismatch { offset });
            }
        }
        Ok(())
    }
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

    fn run(code: &Code, seed: u64, shards: &[Vec<u8>]) -> Result<(), VerifyError> {
        let refs: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
        StripeCheck::new(code, seed).run(&refs[..code.k()], &refs[code.k()..])
    }

    #[test]
    fn every_single_wrong_byte_is_found() {
        for spec in ["rs:10+4", "rs:3+1", "lrc:12,2,2", "replicate:3"] {
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
