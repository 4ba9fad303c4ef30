//! [ISA-L](https://github.com/intel/isa-l) as the system has it. Debian 12 ships 2.30: AVX-512 with nibble tables, no GFNI.

#![allow(unsafe_code)]

use super::{Coder, Shape, Work};
use std::ffi::c_int;

// The declarations of erasure_code.h. Everything a pointer leads to is as long as written there.
#[link(name = "isal")]
unsafe extern "C" {
    /// `a`: `m * k` bytes, written.
    fn gf_gen_cauchy1_matrix(a: *mut u8, m: c_int, k: c_int);
    /// The same.
    fn gf_gen_rs_matrix(a: *mut u8, m: c_int, k: c_int);
    /// `input`, `output`: `n * n` bytes, both written. 0 unless the matrix is singular.
    fn gf_invert_matrix(input: *mut u8, output: *mut u8, n: c_int) -> c_int;
    /// `a`: `rows * k` bytes, read; `tables`: `32 * k * rows` bytes, written.
    fn ec_init_tables(k: c_int, rows: c_int, a: *mut u8, tables: *mut u8);
    /// `tables` as above, read; `data`: `k` pointers to `len` bytes, read; `coding`: `rows` pointers to `len` bytes, written.
    fn ec_encode_data(
        len: c_int,
        k: c_int,
        rows: c_int,
        tables: *mut u8,
        data: *const *const u8,
        coding: *const *mut u8,
    );
}

/// The tables of `rows` sums over `k` inputs.
struct Tables {
    k: usize,
    rows: usize,
    bytes: Vec<u8>,
}

impl Tables {
    fn new(k: usize, mut coefficients: Vec<u8>) -> Self {
        let rows = coefficients.len() / k;
        let mut bytes = vec![0; 32 * k * rows];
        // SAFETY: `coefficients` has `k * rows` bytes and `bytes` has `32 * k * rows`.
        unsafe { ec_init_tables(int(k), int(rows), coefficients.as_mut_ptr(), bytes.as_mut_ptr()) };
        Self { k, rows, bytes }
    }

    fn run<'a>(&self, inputs: impl Iterator<Item = &'a [u8]>, outputs: &mut [&mut [u8]]) {
        let length = outputs.first().map_or(0, |output| output.len());
        let inputs: Vec<*const u8> = inputs
            .map(|input| {
                assert_eq!(input.len(), length);
                input.as_ptr()
            })
            .collect();
        let outputs: Vec<*mut u8> = outputs
            .iter_mut()
            .map(|output| {
                assert_eq!(output.len(), length);
                output.as_mut_ptr()
            })
            .collect();
        assert_eq!((inputs.len(), outputs.len()), (self.k, self.rows));
        // SAFETY: there are `k` inputs and `rows` outputs, each of `length` bytes, and the tables were made for as many, all
        // checked above. It only reads the tables, though it takes them as mutable.
        unsafe {
            ec_encode_data(
                int(length),
                int(self.k),
                int(self.rows),
                self.bytes.as_ptr().cast_mut(),
                inputs.as_ptr(),
                outputs.as_ptr(),
            );
        }
    }
}

struct IsaL {
    lost: usize,
    encode: Tables,
    rebuild: Option<Tables>,
}

pub(super) fn open(shape: Shape, lost: usize) -> Option<Box<dyn Coder>> {
    open_with(generator, shape, lost)
}

/// With its other generator, where the first `lost` data shards can be rebuilt with that.
pub(super) fn open_vandermonde(shape: Shape, lost: usize) -> Option<Box<dyn Coder>> {
    open_with(vandermonde, shape, lost)
}

fn open_with(make: fn(usize, usize) -> Vec<u8>, shape: Shape, lost: usize) -> Option<Box<dyn Coder>> {
    let (k, n) = (shape.k, shape.n());
    if n > 255 {
        return None;
    }
    let generator = make(k, n);
    let encode = Tables::new(k, generator[k * k..].to_vec());
    let rebuild = (lost > 0).then(|| plan_first(&generator, k, lost));
    Some(Box::new(IsaL { lost, encode, rebuild }))
}

/// `n` rows of `k` coefficients.
fn generator(k: usize, n: usize) -> Vec<u8> {
    let mut generator = vec![0; n * k];
    // SAFETY: `generator` has `n * k` bytes.
    unsafe { gf_gen_cauchy1_matrix(generator.as_mut_ptr(), int(n), int(k)) };
    generator
}

/// `n` rows of `k` coefficients, not always MDS.
fn vandermonde(k: usize, n: usize) -> Vec<u8> {
    let mut generator = vec![0; n * k];
    // SAFETY: `generator` has `n * k` bytes.
    unsafe { gf_gen_rs_matrix(generator.as_mut_ptr(), int(n), int(k)) };
    generator
}

/// Its decode plan for the loss of data shards `0..lost`: a matrix inverted and the tables of its first rows.
fn plan_first(generator: &[u8], k: usize, lost: usize) -> Tables {
    let mut survivors = generator[lost * k..(lost + k) * k].to_vec();
    let mut inverse = vec![0; k * k];
    // SAFETY: both matrices have `k * k` bytes.
    let singular = unsafe { gf_invert_matrix(survivors.as_mut_ptr(), inverse.as_mut_ptr(), int(k)) };
    assert_eq!(singular, 0, "a matrix that is MDS has no singular square submatrix");
    inverse.truncate(lost * k);
    Tables::new(k, inverse)
}

/// The work of a decode plan, again and again.
pub(super) fn planner(shape: Shape, lost: usize) -> Work {
    let generator = generator(shape.k, shape.n());
    Box::new(move || {
        std::hint::black_box(plan_first(&generator, shape.k, lost).bytes.len());
    })
}

fn int(value: usize) -> c_int {
    c_int::try_from(value).expect("lengths and counts of a benchmark are below 2^31")
}

impl Coder for IsaL {
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        self.encode.run(data.iter().copied(), parity);
    }

    fn rebuild(&mut self, shards: &mut [&mut [u8]]) {
        let Some(tables) = &self.rebuild else { return };
        let (missing, present) = shards.split_at_mut(self.lost);
        tables.run(present.iter().take(tables.k).map(|shard| &**shard), missing);
    }
}
