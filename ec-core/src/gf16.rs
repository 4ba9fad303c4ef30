//! GF(2^16) with polynomial x^16+x^5+x^3+x^2+1 (0x1002D), elements written in a Cantor basis: the field of the wide codes.
//!
//! An element `a` stands for the sum of [`CANTOR_BASIS`]`[i]` over the bits `i` of `a`. Each basis element `b` satisfies
//! `b^2 + b =` the one before it, so the polynomial that vanishes on `0..2^i` takes `a` to `a >> i`: the additive FFT needs no
//! table of its constants. Addition is XOR in every basis. [`mul_by_definition`] is the definition; tables and kernels answer to
//! it.

use std::sync::LazyLock;

/// The field's polynomial without its top term.
pub const POLYNOMIAL_LOW: u16 = 0x002D;

/// Elements of the field.
pub const FIELD_ORDER: usize = 1 << 16;

/// The basis as polynomials: the one of Leopard-RS (Taylor), which the codes of other implementations are written in.
pub const CANTOR_BASIS: [u16; 16] = [
    0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012, 0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34,
    0xFF38, 0x991E,
];

// What the shift above rests on.
const _: () = {
    let mut at = 1;
    while at < 16 {
        let b = CANTOR_BASIS[at];
        assert!(mul_polynomials(b, b) ^ b == CANTOR_BASIS[at - 1]);
        at += 1;
    }
};

/// Schoolbook product of two polynomials.
const fn mul_polynomials(mut a: u16, mut b: u16) -> u16 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        // Multiply by x and reduce when the top bit falls out.
        a = (a << 1) ^ (if a & 0x8000 != 0 { POLYNOMIAL_LOW } else { 0 });
        b >>= 1;
    }
    product
}

/// The sum of the images of the bits of `value`.
const fn combine(images: &[u16; 16], value: u16) -> u16 {
    let mut sum = 0;
    let mut bit = 0;
    while bit < 16 {
        if value >> bit & 1 == 1 {
            sum ^= images[bit];
        }
        bit += 1;
    }
    sum
}

/// What each power of x is in the Cantor basis: the inverse of the basis as a matrix of bits.
const FROM_POLYNOMIAL: [u16; 16] = {
    let mut polynomials = CANTOR_BASIS;
    let mut elements = [0u16; 16];
    let mut bit = 0;
    while bit < 16 {
        elements[bit] = 1 << bit;
        bit += 1;
    }
    // Gauss-Jordan: after step `bit`, row `bit` is the only one with that bit.
    bit = 0;
    while bit < 16 {
        let mut pivot = bit;
        while polynomials[pivot] >> bit & 1 == 0 {
            pivot += 1;
        }
        polynomials.swap(bit, pivot);
        elements.swap(bit, pivot);
        let mut row = 0;
        while row < 16 {
            if row != bit && polynomials[row] >> bit & 1 == 1 {
                polynomials[row] ^= polynomials[bit];
                elements[row] ^= elements[bit];
            }
            row += 1;
        }
        bit += 1;
    }
    elements
};

/// Product of two elements, by way of their polynomials: no tables. Every faster path answers to this one.
pub const fn mul_by_definition(a: u16, b: u16) -> u16 {
    let (a, b) = (combine(&CANTOR_BASIS, a), combine(&CANTOR_BASIS, b));
    combine(&FROM_POLYNOMIAL, mul_polynomials(a, b))
}

/// The order of the multiplicative group.
const GROUP_ORDER: u32 = 65_535;

struct LogTables {
    /// Powers of x, `0..GROUP_ORDER`.
    exp: Vec<u16>,
    log: Vec<u16>,
}

static TABLES: LazyLock<LogTables> = LazyLock::new(|| {
    let mut tables = LogTables { exp: Vec::with_capacity(GROUP_ORDER as usize), log: vec![0; FIELD_ORDER] };
    let mut polynomial = 1;
    for power in 0..u16::MAX {
        let element = combine(&FROM_POLYNOMIAL, polynomial);
        tables.exp.push(element);
        tables.log[usize::from(element)] = power;
        polynomial = mul_polynomials(polynomial, 2);
    }
    tables
});

/// The exponent of `a` as a power of x, below 65,535; 0 for 0, which is no power.
pub fn log(a: u16) -> u16 {
    TABLES.log[usize::from(a)]
}

/// `x^exponent`, the exponent taken modulo 65,535.
pub fn exp(exponent: u32) -> u16 {
    TABLES.exp[(exponent % GROUP_ORDER) as usize]
}

/// Product of two elements.
pub fn mul(a: u16, b: u16) -> u16 {
    if a == 0 || b == 0 { 0 } else { exp(u32::from(log(a)) + u32::from(log(b))) }
}

/// `1 / a`; `None` for 0, which has no inverse.
pub fn inverse(a: u16) -> Option<u16> {
    (a != 0).then(|| exp(GROUP_ORDER - u32::from(log(a))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_0x1002d_with_generator_x() {
        assert_eq!(mul_polynomials(0x8000, 2), 0x002D);
        let mut seen = vec![false; FIELD_ORDER];
        for power in 0..GROUP_ORDER {
            assert!(!std::mem::replace(&mut seen[usize::from(exp(power))], true), "x^{power} repeats");
        }
        assert!(!seen[0]);
        assert_eq!(exp(GROUP_ORDER), 1);
    }

    #[test]
    fn the_basis_and_its_inverse_undo_each_other() {
        for element in 0..=u16::MAX {
            assert_eq!(combine(&FROM_POLYNOMIAL, combine(&CANTOR_BASIS, element)), element);
        }
    }

    #[test]
    fn tables_agree_with_the_definition() {
        for a in (0..=u16::MAX).step_by(251).chain([1, 2, 0x8000, u16::MAX]) {
            for b in (0..=u16::MAX).step_by(97).chain([1, 2, 0x8000, u16::MAX]) {
                assert_eq!(mul(a, b), mul_by_definition(a, b), "{a:#06x} * {b:#06x}");
            }
        }
        for a in 1..=u16::MAX {
            assert_eq!(mul_by_definition(a, inverse(a).unwrap()), 1, "{a:#06x}");
        }
        assert_eq!(inverse(0), None);
    }

    /// `W(v) = product over u < 2^i of (v + u)` is `v >> i`.
    #[test]
    fn the_polynomial_that_vanishes_on_a_power_of_two_is_a_shift() {
        for bits in 0..8 {
            for v in (0..=u16::MAX).step_by(509) {
                let product = (0..1 << bits).fold(1, |product, u| mul(product, v ^ u));
                assert_eq!(product, v >> bits, "{v:#06x}, {bits} bits");
            }
        }
    }
}
