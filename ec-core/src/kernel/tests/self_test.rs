//! The test at start-up passes every kernel and refuses one that is wrong anywhere.

use super::*;
use crate::kernel::self_test::{
    By, GOLDEN, GOLDEN_REPAIR, Golden, Known, REPAIRED, checksum, inputs, repair, self_test_with,
};
use crate::kernel::transform::Way;

#[test]
fn golden_parities_are_those_of_the_definition() {
    let found = |rows: &Matrix, len: usize| {
        let inputs = inputs(rows.columns(), len).into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        checksum(by_definition(rows, &inputs, len).iter().map(Vec::as_slice))
    };
    let wrong = |golden: &Golden| {
        let found = found(&crate::code::native_parity_rows(golden.k, golden.m), golden.len());
        (found != golden.checksum).then(|| format!("golden({}, {}, {found:#018x}),", golden.k, golden.m))
    };
    assert_eq!(GOLDEN.iter().filter_map(wrong).collect::<Vec<_>>(), Vec::<String>::new());
    let repaired = found(repair(Kernel::portable()).unwrap().coefficients(), REPAIRED);
    assert_eq!(GOLDEN_REPAIR, repaired, "{repaired:#018x}");
}

#[test]
fn every_golden_code_has_a_transform() {
    for kernel in Kernel::available().into_iter().filter(|kernel| *kernel != Kernel::portable()) {
        for golden in &GOLDEN {
            let rows = crate::code::native_parity_rows(golden.k, golden.m);
            let way = Transform::native(kernel, &rows).way();
            assert_eq!(way, Way::Transform, "{} {}+{}", kernel.name(), golden.k, golden.m);
        }
        assert_eq!(repair(kernel).unwrap().transform().way(), Way::Syndromes, "{}", kernel.name());
    }
}

/// How long it takes is held to its limit by `compare` of the benches, which is built as users build it.
#[test]
fn every_kernel_passes() {
    for kernel in kernels() {
        assert_eq!(kernel.self_test(), Ok(()), "{}", kernel.name());
    }
}

/// Has the fastest kernel compute, then spoils what came out; returns whether that was noticed.
fn is_noticed(spoil: impl Fn(By, &Matrix, &mut [&mut [u8]], Locality)) -> bool {
    let (kernel, known) = (Kernel::available()[0], Known::new());
    let result = self_test_with("spoilt", true, &known, |by, matrix, inputs, outputs, locality| {
        let transform = match by {
            By::Adding => Transform::adding_of_shards(kernel, matrix),
            By::Matrix | By::Transform | By::Syndromes => Transform::of_shards(kernel, matrix),
        };
        transform.apply(inputs, outputs)?;
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
    // Only where it is added; only beside plain sums; only in the last of several groups; only with columns of a second piece.
    let is_noticed_only = |shape: (By, usize, usize), last: bool| {
        assert!(is_noticed(|by, matrix, outputs, locality| {
            if (by, matrix.rows(), matrix.columns()) == shape && locality == Locality::Cached {
                let output = if last { outputs.last_mut() } else { outputs.first_mut() };
                output.into_iter().for_each(|output| output[0] ^= 1);
            }
        }));
    };
    for rows in 1..=dense::ROWS_MAX {
        is_noticed_only((By::Adding, rows, 4), true);
        is_noticed_only((By::Matrix, 2 + rows, 9), true);
    }
    is_noticed_only((By::Matrix, 2, 9), false);
    is_noticed_only((By::Matrix, 13, 3), true);
    is_noticed_only((By::Matrix, 2, 259), true);
    is_noticed_only((By::Syndromes, 13, 40), true);
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
    let known = Known::new();
    assert_eq!(self_test_with("tested", false, &known, |_, _, _, _, _| Ok(())), refused);
    let error = DecodeError::WrongCount { expected: 1, found: 0 };
    assert_eq!(self_test_with("tested", false, &known, |_, _, _, _, _| Err(error.clone())), refused);
}
