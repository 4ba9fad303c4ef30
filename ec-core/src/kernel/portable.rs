//! Kernels in plain Rust: they run everywhere, and the others are compared with them.
//!
//! Two of them, since a comparison is worth something only between different tables: a row of 256 products per
//! coefficient, and logarithms.

use super::dense::{Group, Section};
use super::family::Family;
use super::lanes::Lanes;
use super::lch::Lch;
use crate::gf;
use std::sync::LazyLock;

/// All products; row `c` is what a byte becomes when multiplied by `c`.
static PRODUCTS: LazyLock<Box<[[u8; 256]]>> = LazyLock::new(|| {
    let row = |coefficient| std::array::from_fn(|value| gf::mul_by_definition(coefficient, value.to_le_bytes()[0]));
    (0..=u8::MAX).map(row).collect()
});

/// How a portable kernel multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Portable {
    Products,
    Logarithms,
}

impl Family for Portable {
    const LCH_ORDER_MAX: usize = 1;

    type Factor = u8;

    fn factor(self, coefficient: u8) -> u8 {
        coefficient
    }

    fn dense(self, group: &Group<u8>, lanes: &mut Lanes<'_>) {
        let rows = group.rows.len();
        if !group.adds {
            (0..group.targets().count()).for_each(|target| lanes.target(target).fill(0));
        }
        let (mut column, mut sum) = (0, rows);
        let whole = [Section { columns: lanes.sources().len(), sum: None }];
        for section in if group.sections.is_empty() { &whole[..] } else { &group.sections[..] } {
            for _ in 0..section.columns {
                if section.sum.is_some() {
                    self.add_scaled(1, column, sum, lanes);
                }
                for row in 0..rows {
                    self.add_scaled(group.factors[column * rows + row], column, row, lanes);
                }
                column += 1;
            }
            sum += usize::from(section.sum.is_some());
        }
    }

    fn lch(self, _: &Lch<u8>, _: &mut Lanes<'_>) {
        unreachable!("LCH_ORDER_MAX is 1: no transform is made for this kernel")
    }
}

impl Portable {
    fn add_scaled(self, coefficient: u8, source: usize, target: usize, lanes: &mut Lanes<'_>) {
        let Some((input, output)) = lanes.pair(source, target) else { return };
        let pairs = output.iter_mut().zip(input);
        match (coefficient, self) {
            (0, _) => {}
            // The compiler makes wide loads of this one; local parities are sums of this kind.
            (1, _) => pairs.for_each(|(output, input)| *output ^= input),
            (_, Self::Products) => {
                let row = &PRODUCTS[usize::from(coefficient)];
                pairs.for_each(|(output, &input)| *output ^= row[usize::from(input)]);
            }
            (_, Self::Logarithms) => pairs.for_each(|(output, &input)| *output ^= gf::mul(coefficient, input)),
        }
    }
}
