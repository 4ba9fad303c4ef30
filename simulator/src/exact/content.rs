//! Bytes of a stream as a function of its id: what was put need not be kept to be compared.

use repair_core::id::StreamKey;
use repair_core::rng::Dice;

/// Bytes `offset..offset + bytes` of a stream.
pub fn content(stream: StreamKey, offset: u64, bytes: usize) -> Vec<u8> {
    let dice = Dice::new(stream.0 as u64 ^ (stream.0 >> 64) as u64);
    let mut out = Vec::with_capacity(bytes + 16);
    let mut word = offset / 8;
    while out.len() < bytes + 8 {
        let mut mixed = dice.clone();
        // One draw behind a multiplied counter is splitmix64 again, seekable.
        mixed = Dice::new(mixed.bits() ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        out.extend_from_slice(&mixed.bits().to_le_bytes());
        word += 1;
    }
    let skip = (offset % 8) as usize;
    out[skip..skip + bytes].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_a_part_of_the_whole_and_streams_differ() {
        let whole = content(StreamKey(7), 0, 100);
        for (offset, bytes) in [(0, 1), (3, 20), (8, 8), (13, 87), (99, 1), (100, 0)] {
            assert_eq!(content(StreamKey(7), offset as u64, bytes), whole[offset..offset + bytes]);
        }
        assert_ne!(content(StreamKey(8), 0, 100), whole);
    }
}
