//! What memory alone allows: a stripe is read once and its parity written once, with nothing but XOR between.
//!
//! No encoder of `k` inputs and `m` outputs can be faster than this from memory that no cache holds, so an encoder's share of it
//! says how much of the machine it uses.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512i, _mm_sfence, _mm512_loadu_si512, _mm512_setzero_si512, _mm512_stream_si512, _mm512_xor_si512,
};

/// Bytes of each buffer that are handled at a time: four vectors, as the kernels do.
const STEP_BYTES: usize = 256;

/// Leave to use 512-bit vectors, given by detection alone.
#[derive(Clone, Copy, Debug)]
pub struct XorStream(());

impl XorStream {
    /// What the report calls it.
    pub const NAME: &'static str = "XOR stream";

    /// `None` on a processor without AVX-512.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            return Some(Self(()));
        }
        None
    }

    /// Writes the XOR of all inputs to every output, past the caches.
    ///
    /// # Panics
    /// Where lengths differ or are no multiple of 256, or an output does not begin at a multiple of 64.
    pub fn run(self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        let length = inputs.first().map_or(0, |input| input.len());
        assert!(length.is_multiple_of(STEP_BYTES) && inputs.iter().all(|input| input.len() == length));
        assert!(outputs.iter().all(|output| output.len() == length && (output.as_ptr() as usize).is_multiple_of(64)));
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        // SAFETY: `detect` saw AVX-512F; all buffers have `length` bytes, whole steps, and outputs are aligned, checked above.
        unsafe {
            xor_all(inputs, outputs, length);
        }
    }
}

/// # Safety
/// AVX-512F is there. Every buffer has `length` bytes, a multiple of [`STEP_BYTES`]; outputs begin at multiples of 64.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
unsafe fn xor_all(inputs: &[&[u8]], outputs: &mut [&mut [u8]], length: usize) {
    const VECTORS: usize = STEP_BYTES / size_of::<__m512i>();
    for offset in (0..length).step_by(STEP_BYTES) {
        let mut sums = [_mm512_setzero_si512(); VECTORS];
        for input in inputs {
            for (at, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `offset + STEP_BYTES <= length`, the length of the input.
                let vector = unsafe { _mm512_loadu_si512(input.as_ptr().add(offset).cast::<__m512i>().add(at)) };
                *sum = _mm512_xor_si512(*sum, vector);
            }
        }
        for output in outputs.iter_mut() {
            for (at, sum) in sums.iter().enumerate() {
                // SAFETY: as above, and the place is a multiple of 64 as the output's beginning and `offset` are.
                unsafe { _mm512_stream_si512(output.as_mut_ptr().add(offset).cast::<__m512i>().add(at), *sum) };
            }
        }
    }
    // Streaming stores are not ordered with others until this.
    _mm_sfence();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{EncodeStripe, Pool, Stride};

    #[test]
    fn every_output_is_the_sum_of_all_inputs() {
        let Some(stream) = XorStream::detect() else { return };
        let mut pool = Pool::new(1 << 20);
        let mut stripe = EncodeStripe::new(pool.stripes(5, 1024, Stride::Staggered, 1).remove(0), 3);
        stream.run(&stripe.data, &mut stripe.parity);
        for at in 0..1024 {
            let sum = stripe.data.iter().fold(0, |sum, input| sum ^ input[at]);
            assert!(stripe.parity.iter().all(|output| output[at] == sum), "byte {at}");
        }
    }
}
