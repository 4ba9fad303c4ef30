//! When outputs are written past the caches: no byte shows it, so the loops are asked.

use super::*;
use crate::StripeBuffers;

/// Bytes of the buffers of 14 shards that are taken for a stripe that comes from memory, and of those that are not.
const LONG: usize = (8 << 20) / 14 + 64;
const SHORT: usize = 64 << 10;

/// How often outputs of 10+4 are, each one so many bytes further off a cache line than the one before.
fn times(transform: &Transform, len: usize, shift: usize, locality: Locality) -> usize {
    let mut buffers = StripeBuffers::zeroed(transform.rows() + transform.columns(), len + 64).unwrap();
    let mut buffers = buffers.iter_mut();
    let inputs = buffers.by_ref().take(transform.columns()).map(|input| &input[..len]).collect::<Vec<_>>();
    let outputs = buffers.enumerate().map(|(row, output)| &mut output[row * shift % 64..][..len]);
    let mut outputs = outputs.collect::<Vec<_>>();
    streamed(|| transform.apply_with(&inputs, &mut outputs, locality).unwrap())
}

#[test]
fn outputs_are_streamed_if_asked_for_or_long_and_if_they_are_aligned_alike() {
    for kernel in Kernel::available().into_iter().filter(|kernel| *kernel != Kernel::portable()) {
        let native = |k, m| Transform::native(kernel, &crate::code::native_parity_rows(k, m));
        let matrix = Transform::of_shards(kernel, &Dice(1).matrix(4, 10, 0));
        for transform in [matrix, native(10, 4), native(40, 20)] {
            let times = |len, shift, locality| times(&transform, len, shift, locality);
            for (len, locality, streams) in [
                (SHORT, Locality::Streaming, true),
                (SHORT, Locality::Cached, false),
                (LONG, Locality::Cached, false),
                (SHORT, Locality::Auto, false),
                (LONG, Locality::Auto, true),
            ] {
                let which = || format!("{transform:?}, {len} bytes, {locality:?}");
                assert_eq!(times(len, 0, locality) > 0, streams, "{}", which());
                assert_eq!(times(len, 1, locality), 0, "{}, each aligned differently", which());
            }
        }
    }
}
