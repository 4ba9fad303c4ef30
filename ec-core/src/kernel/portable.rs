//! Kernels in plain Rust: they run everywhere, and the others fall back to and are compared with them.
//!
//! Two of them, since a comparison is worth something only between different tables: a row of 256 products per
//! coefficient, and logarithms.

use super::transform::Shape;
use crate::gf;
use std::ops::Range;
use std::sync::LazyLock;

/// All products; row `c` is what a byte becomes when multiplied by `c`.
static PRODUCTS: LazyLock<Box<[[u8; 256]]>> = LazyLock::new(|| {
    let row = |coefficient| std::array::from_fn(|value| gf::mul_by_definition(coefficient, value.to_le_bytes()[0]));
    (0..=u8::MAX).map(row).collect()
});

/// How a portable kernel multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Products,
    Logarithms,
}

/// `outputs[row][range] = (or +=) sum of coefficient * inputs[column][range]`; the coefficients lie column by column.
pub(super) fn run(
    method: Method,
    coefficients: &[u8],
    shape: &Shape,
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
    range: Range<usize>,
) {
    for (at, &row) in shape.rows.iter().enumerate() {
        let output = &mut outputs[row][range.clone()];
        if !shape.adds {
            output.fill(0);
        }
        for (&column, coefficients) in shape.columns.iter().zip(coefficients.chunks_exact(shape.rows.len())) {
            add_scaled(method, coefficients[at], &inputs[column][range.clone()], output);
        }
    }
}

fn add_scaled(method: Method, coefficient: u8, input: &[u8], output: &mut [u8]) {
    let pairs = output.iter_mut().zip(input);
    match (coefficient, method) {
        (0, _) => {}
        // The compiler makes wide loads of this one; local parities are sums of this kind.
        (1, _) => pairs.for_each(|(output, input)| *output ^= input),
        (_, Method::Products) => {
            let row = &PRODUCTS[usize::from(coefficient)];
            pairs.for_each(|(output, &input)| *output ^= row[usize::from(input)]);
        }
        (_, Method::Logarithms) => pairs.for_each(|(output, &input)| *output ^= gf::mul(coefficient, input)),
    }
}
