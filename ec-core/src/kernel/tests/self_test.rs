//! The test at start-up passes every kernel and refuses one that is wrong anywhere.

use super::*;
use crate::kernel::self_test::{By, GOLDEN, checksum, inputs, self_test, self_test_with};
use std::time::{Duration, Instant};

#[test]
fn golden_parities_are_those_of_the_definition() {
    for golden in &GOLDEN {
        let rows = crate::code::native_parity_rows(golden.k, golden.m);
        let inputs = inputs(golden.k, golden.len()).into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let parities = by_definition(&rows, &inputs, golden.len());
        let found = checksum(parities.iter().map(Vec::as_slice));
        assert_eq!(found, golden.checksum, "golden({}, {}, {found:#018x}),", golden.k, golden.m);
    }
}

#[test]
fn every_golden_code_has_a_transform() {
    for kernel in Kernel::available().into_iter().filter(|kernel| *kernel != Kernel::portable()) {
        for golden in &GOLDEN {
            let rows = crate::code::native_parity_rows(golden.k, golden.m);
            assert!(Transform::native(kernel, &rows).is_lch(), "{} {}+{}", kernel.name(), golden.k, golden.m);
        }
    }
}

#[test]
fn every_kernel_passes_and_in_time() {
    for kernel in kernels() {
        // The first call makes tables that others share; the best of some is the one that was disturbed least.
        let time = || {
            let begin = Instant::now();
            assert_eq!(self_test(kernel), Ok(()), "{}", kernel.name());
            begin.elapsed()
        };
        let best = (0..20).map(|_| time()).min().unwrap();
        assert!(cfg!(debug_assertions) || best < Duration::from_millis(5), "{} took {best:?}", kernel.name());
    }
}

/// Has the fastest kernel compute, then spoils what came out; returns whether that was noticed.
fn is_noticed(spoil: impl Fn(By, &Matrix, &mut [&mut [u8]], Locality)) -> bool {
    let kernel = Kernel::available()[0];
    let result = self_test_with("spoilt", true, |by, matrix, inputs, outputs, locality| {
        Transform::of_shards(kernel, matrix).apply(inputs, outputs)?;
        spoil(by, matrix, outputs, locality);
        Ok(())
    });
    assert!(result.is_ok() || result == Err(KernelError::SelfTest { name: "spoilt" }));
    result.is_err()
}

#[test]
fn one_wrong_bit_is_noticed() {
    assert!(!is_noticed(|_, _, _, _| ()));
    assert!(is_noticed(|_, matrix, outputs, _| {
        if matrix.rows() == 256 {
            outputs[0x53][0xCA] ^= 1;
        }
    }));
    // Only in the last, short piece; only with so many rows; only with an odd number of columns; only past the caches.
    for rows in 1..=dense::ROWS_MAX {
        assert!(is_noticed(|by, matrix, outputs, locality| {
            let is_short = !outputs[0].len().is_multiple_of(32);
            let shape = (by, matrix.rows(), matrix.columns(), locality);
            if is_short && shape == (By::Matrix, rows, 5, Locality::Streaming) {
                outputs[rows - 1].last_mut().into_iter().for_each(|byte| *byte ^= 0x80);
            }
        }));
    }
    for len in 1..=64 {
        assert!(is_noticed(|_, _, outputs, _| {
            if outputs[0].len() == len {
                outputs[0][len - 1] ^= 1;
            }
        }));
    }
    for golden in &GOLDEN {
        assert!(is_noticed(|by, matrix, outputs, locality| {
            let is_it = (matrix.rows(), matrix.columns()) == (golden.m, golden.k);
            if is_it && by == By::Transform && locality == Locality::Cached {
                outputs[golden.m - 1][golden.len() - 1] ^= 1;
            }
        }));
    }
}

#[test]
fn a_kernel_that_does_nothing_or_refuses_is_refused() {
    let refused = Err(KernelError::SelfTest { name: "tested" });
    assert_eq!(self_test_with("tested", false, |_, _, _, _, _| Ok(())), refused);
    let error = DecodeError::WrongCount { expected: 1, found: 0 };
    assert_eq!(self_test_with("tested", false, |_, _, _, _, _| Err(error.clone())), refused);
}
